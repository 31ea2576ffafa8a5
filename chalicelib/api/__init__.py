"""The HTTP API: routes, schemas and everything a request passes on its way to a use case."""

VERSION = "0.1.0"
