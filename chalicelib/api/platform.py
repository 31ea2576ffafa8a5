"""Routes: what the platform's own people see and change of merchants. No merchant's role has these scopes."""

from __future__ import annotations

from chalicelib.api import lists, people_views, schemas
from chalicelib.api import people_schemas as inputs
from chalicelib.api.http import Api, Call, Reply
from chalicelib.services import people

api = Api(__name__)

_ONE = "/v1/merchants/{merchant_id}"


@api.route("/v1/merchants", scope="platform:read", query=schemas.PageQuery, response="MerchantList")
def list_merchants(call: Call, query: schemas.PageQuery) -> Reply:
    """List every merchant that has a profile, newest first."""
    page = call.kit.people.merchants(limit=query.limit, cursor=lists.after_merchant(query.cursor))
    return Reply(lists.shown(page, people_views.merchant))


@api.route(_ONE, scope="platform:read", response="Merchant", errors=[404])
def get_one_merchant(call: Call, merchant_id: str) -> Reply:
    """Get a merchant."""
    return Reply(people_views.merchant(people.profile(call.kit, merchant_id)))


@api.route(
    _ONE, methods=["PATCH"], scope="platform:write", body=inputs.PlatformMerchantIn, response="Merchant",
    errors=[404, 429],
)  # fmt: skip
def change_one_merchant(call: Call, merchant_id: str, body: inputs.PlatformMerchantIn) -> Reply:
    """Put a merchant on another plan, suspend it, or let it go on; takes effect within a minute."""
    changed = people.change_profile(call.kit, merchant_id, plan=body.plan, suspended=body.suspended, by=call.by)
    return Reply(people_views.merchant(changed))
