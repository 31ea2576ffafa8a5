"""Route: what providers tell us. Verified, queued and acknowledged; nothing in it is done here."""

from __future__ import annotations

from chalicelib.api.http import Api, Call, Reply
from chalicelib.api.problems import Refused
from chalicelib.observability import metric
from chalicelib.providers.base import BadSignature
from chalicelib.services import provider_events

api = Api(__name__)

MAX_BODY = 256 * 1024  # bytes


@api.route(
    "/webhooks/{provider}/{account}", methods=["POST"], scope=None, query=None, raw=True, max_body=MAX_BODY,
    response="Received", errors=[401, 404],
)  # fmt: skip
def receive_provider_event(call: Call, provider: str, account: str, body: bytes) -> Reply:
    """Take a provider's event; the exact bytes of the body are what is signed."""
    headers = {name.lower(): str(value) for name, value in call.request.headers.items()}
    try:
        provider_events.receive(call.kit, provider, account, headers, body)
    except BadSignature as bad:
        metric("WebhookSignatureRefused", provider=provider)
        raise Refused(401, "signature_invalid", "The signature does not hold.") from bad
    return Reply({"received": True})
