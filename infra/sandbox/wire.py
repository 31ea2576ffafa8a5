"""Requests and answers as the personalities see them: no sockets, no clock."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode, urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Request:
    """One request; header names are lower-case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def path(self) -> str:
        """The path without the query."""
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        """The query, the last value of each name."""
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))

    @property
    def form(self) -> dict[str, str]:
        """A form body, the last value of each name."""
        return dict(parse_qsl(self.body.decode("utf-8", "replace"), keep_blank_values=True))

    @property
    def origin(self) -> str:
        """Where the client reached this server."""
        return f"http://{self.headers.get('host', '127.0.0.1')}"

    def json(self) -> dict[str, object]:
        """The body as a JSON object; raises ValueError."""
        value = json.loads(self.body or b"{}")
        if not isinstance(value, dict):
            message = "the body is not an object"
            raise ValueError(message)  # noqa: TRY004 - one exception for whatever is wrong with a body
        return value


@dataclass(frozen=True, slots=True)
class Response:
    """An answer, and how it travels: after ``delay`` seconds, or never but with ``hang`` seconds of silence."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    hang: float | None = None


def compact(value: object) -> bytes:
    """JSON without spaces."""
    return json.dumps(value, separators=(",", ":")).encode()


def answer(status: int, value: object, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer."""
    return Response(status, compact(value), {"content-type": "application/json", **(headers or {})})


def page(status: int, html: str) -> Response:
    """An HTML answer."""
    return Response(status, html.encode(), {"content-type": "text/html; charset=utf-8", "cache-control": "no-store"})


def redirect(url: str) -> Response:
    """Send the browser on, with GET."""
    return Response(303, b"", {"location": url})


def with_query(url: str, parameters: Mapping[str, str]) -> str:
    """``url`` with parameters added to its query."""
    return f"{url}{'&' if '?' in url else '?'}{urlencode(parameters)}"


def integer(value: object) -> int | None:
    """A positive whole number, or None."""
    return value if type(value) is int and value > 0 else None


def strings(value: object) -> dict[str, str]:
    """The string members of an object."""
    if not isinstance(value, dict):
        return {}
    return {name: member for name, member in value.items() if isinstance(name, str) and isinstance(member, str)}
