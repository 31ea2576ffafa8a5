"""Routes: the rules by which a merchant's payments are judged."""

from __future__ import annotations

from chalicelib.api import schemas, views
from chalicelib.api.http import Api, Call, Reply
from chalicelib.services import rule_books

api = Api(__name__)

# Far more than can be valid (risk_settings.MAX_BYTES): who sends ten thousand rules learns which field is too long.
_MAX_BODY = 1024 * 1024


@api.route("/v1/risk", scope="risk:read", response="RiskSettings")
def get_risk(call: Call) -> Reply:
    """Get the risk rules, with all defaults."""
    return Reply(views.risk_settings(rule_books.risk(call.kit, call.tenant), call.tenant))


@api.route(
    "/v1/risk", methods=["PUT"], scope="risk:write", body=schemas.RiskIn, response="RiskSettings", errors=[409],
    max_body=_MAX_BODY,
)  # fmt: skip
def put_risk(call: Call, body: schemas.RiskIn) -> Reply:
    """Replace the risk rules; what is left out has its default."""
    stored = rule_books.put_risk(call.kit, call.tenant, body.rules, body.version, by=call.by)
    return Reply(views.risk_settings(stored, call.tenant))
