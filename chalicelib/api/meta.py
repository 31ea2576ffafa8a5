"""Routes about the API itself: is it up, and what does it take."""

from __future__ import annotations

from chalicelib.api import VERSION, views
from chalicelib.api.http import Api, Call, Reply, reshape

api = Api(__name__)
api.register_middleware(reshape, "http")


@api.route("/health", scope=None, query=None, response="Health")
def health(call: Call) -> Reply:
    """Tell that the process runs; reads nothing."""
    return Reply(
        {
            "status": "ok",
            "version": VERSION,
            "stage": call.kit.settings.stage,
            "time": views.moment(call.kit.now()),
        }
    )


@api.route("/openapi.json", scope=None, query=None, response="")
def openapi(call: Call) -> Reply:
    """Describe the API: OpenAPI 3.1, made from the schemas and routes that serve it."""
    from chalicelib.api.openapi import document  # noqa: PLC0415 - costs a quarter of the budget of a cold start

    return Reply(document(call.kit.settings.public_base_url))
