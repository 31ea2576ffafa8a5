"""Routes: the merchant and its people."""

from __future__ import annotations

from chalicelib.api import lists, people_views, schemas
from chalicelib.api import people_schemas as inputs
from chalicelib.api.http import Api, Call, Reply
from chalicelib.services import people

api = Api(__name__)

_ONE = "/v1/users/{user_id}"


@api.route("/v1/users/me", scope="profile:read", response="User")
def get_me(call: Call) -> Reply:
    """Get oneself."""
    return Reply(people_views.user(people.get(call.kit, call.tenant.merchant_id, call.who.id)))


@api.route("/v1/users/me", methods=["PATCH"], scope="profile:write", body=inputs.MeIn, response="User", errors=[429])
def change_me(call: Call, body: inputs.MeIn) -> Reply:
    """Change one's name or password; another password ends every session."""
    user = people.get(call.kit, call.tenant.merchant_id, call.who.id)
    if "name" in body.model_fields_set:
        user = people.rename(call.kit, call.who, body.name, by=call.by)
    if body.password is not None and body.current_password is not None:
        user = people.change_password(call.kit, call.who, body.current_password, body.password, by=call.by)
    return Reply(people_views.user(user))


@api.route(
    "/v1/users", methods=["POST"], scope="users:write", body=inputs.InviteIn, response="Invitation", status=201,
    errors=[409],
)  # fmt: skip
def invite_user(call: Call, body: inputs.InviteIn) -> Reply:
    """Add somebody; the token that this answers, and nothing else, lets them set their password."""
    user, token = people.invite(call.kit, call.who, body.email, body.role, body.name, by=call.by)
    return Reply(people_views.invitation(user, token))


@api.route("/v1/users", scope="users:read", query=schemas.PageQuery, response="UserList")
def list_users(call: Call, query: schemas.PageQuery) -> Reply:
    """List the merchant's people, newest first."""
    cursor = lists.after_id(query.cursor, "usr")
    page = call.kit.people.users(call.tenant.merchant_id, limit=query.limit, cursor=cursor)
    return Reply(lists.shown(page, people_views.user))


@api.route(_ONE, scope="users:read", response="User", errors=[404])
def get_user(call: Call, user_id: str) -> Reply:
    """Get somebody."""
    return Reply(people_views.user(people.get(call.kit, call.tenant.merchant_id, user_id)))


@api.route(_ONE, methods=["PATCH"], scope="users:write", body=inputs.UserIn, response="User", errors=[404, 429])
def change_user(call: Call, user_id: str, body: inputs.UserIn) -> Reply:
    """Give somebody another role, send them away or let them back in."""
    disabled = None if body.status is None else body.status == "disabled"
    user = people.change_role(call.kit, call.who, user_id, role=body.role, disabled=disabled, by=call.by)
    return Reply(people_views.user(user))


@api.route(
    f"{_ONE}/reset-password", methods=["POST"], scope="users:write", body=schemas.Empty, response="Invitation",
    errors=[404, 409, 429],
)  # fmt: skip
def reset_user_password(call: Call, user_id: str, body: schemas.Empty) -> Reply:  # noqa: ARG001 - checked to be empty
    """Make a token by which somebody sets a new password; the one before, if unused, is void."""
    user, token = people.reset(call.kit, call.who, user_id, by=call.by)
    return Reply(people_views.invitation(user, token))


@api.route("/v1/merchant", scope="merchant:read", response="Merchant")
def get_merchant(call: Call) -> Reply:
    """Get the merchant's profile."""
    return Reply(people_views.merchant(people.profile(call.kit, call.tenant.merchant_id)))


@api.route(
    "/v1/merchant", methods=["PATCH"], scope="merchant:write", body=inputs.MerchantIn, response="Merchant",
    errors=[429],
)  # fmt: skip
def change_merchant(call: Call, body: inputs.MerchantIn) -> Reply:
    """Change the merchant's name, or the origins of the pages that may use its publishable keys."""
    changed = people.change_profile(call.kit, call.tenant.merchant_id, name=body.name, origins=body.origins, by=call.by)
    return Reply(people_views.merchant(changed))
