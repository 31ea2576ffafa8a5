"""Routes: how providers do, and an operator's word on their breakers."""

from __future__ import annotations

from chalicelib.api import schemas, views
from chalicelib.api.http import Api, Call, Reply
from chalicelib.services import health

api = Api(__name__)


@api.route("/v1/providers", scope="providers:read", response="ProviderList")
def list_providers(call: Call) -> Reply:
    """List the providers you have an account at, with their health by method."""
    found = health.overview(call.kit, call.tenant)
    return Reply({"data": [views.provider(shown, call.tenant) for shown in found], "next_cursor": None})


@api.route(
    "/v1/providers/{provider}/breaker", methods=["POST"], scope="providers:write", body=schemas.BreakerIn,
    response="Provider", errors=[404, 429],
)  # fmt: skip
def set_provider_breaker(call: Call, provider: str, body: schemas.BreakerIn) -> Reply:
    """Hold a provider's breaker open or closed for your payments, or leave it to itself."""
    shown = health.force(
        call.kit,
        call.tenant,
        provider,
        body.method,
        to=body.state,
        reason=body.reason,
        seconds=body.seconds,
        by=call.by,
    )
    return Reply(views.provider(shown, call.tenant))
