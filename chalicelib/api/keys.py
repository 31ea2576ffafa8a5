"""Routes: API keys. Only people make them; a key cannot make another."""

from __future__ import annotations

from chalicelib.api import lists, people_views, schemas
from chalicelib.api import people_schemas as inputs
from chalicelib.api.http import Api, Call, Reply
from chalicelib.domain.model import Tenant
from chalicelib.services import keys

api = Api(__name__)

_ALL = "/v1/api-keys"
_ONE = f"{_ALL}/{{key_id}}"


@api.route(_ALL, methods=["POST"], scope="keys:write", body=inputs.ApiKeyIn, response="NewApiKey", status=201)
def create_api_key(call: Call, body: inputs.ApiKeyIn) -> Reply:
    """Make an API key; this answer is the only one that ever holds its secret."""
    tenant = Tenant(call.tenant.merchant_id, body.mode or call.tenant.mode)
    key, secret = keys.create(call.kit, tenant, body.name, body.type, body.scopes, by=call.by)
    return Reply(people_views.api_key(key, call.kit.now(), secret))


@api.route(_ALL, scope="keys:read", query=schemas.PageQuery, response="ApiKeyList")
def list_api_keys(call: Call, query: schemas.PageQuery) -> Reply:
    """List the API keys of this mode, newest first, those that are over among them."""
    page = call.kit.keys.page(call.tenant, limit=query.limit, cursor=lists.after_id(query.cursor, "key"))
    return Reply(lists.shown(page, lambda key: people_views.api_key(key, call.kit.now())))


@api.route(_ONE, scope="keys:read", response="ApiKey", errors=[404])
def get_api_key(call: Call, key_id: str) -> Reply:
    """Get an API key."""
    return Reply(people_views.api_key(keys.get(call.kit, call.tenant, key_id), call.kit.now()))


@api.route(_ONE, methods=["PATCH"], scope="keys:write", body=inputs.ApiKeyNameIn, response="ApiKey", errors=[404, 429])
def rename_api_key(call: Call, key_id: str, body: inputs.ApiKeyNameIn) -> Reply:
    """Give an API key another name."""
    key = keys.rename(call.kit, call.tenant, key_id, body.name, by=call.by)
    return Reply(people_views.api_key(key, call.kit.now()))


@api.route(
    f"{_ONE}/rotate", methods=["POST"], scope="keys:write", body=inputs.RotateKeyIn, response="NewApiKey", status=201,
    errors=[404, 409],
)  # fmt: skip
def rotate_api_key(call: Call, key_id: str, body: inputs.RotateKeyIn) -> Reply:
    """Make a key that takes another one's place; both are active for a while."""
    key, secret = keys.rotate(call.kit, call.tenant, key_id, body.overlap, by=call.by)
    return Reply(people_views.api_key(key, call.kit.now(), secret))


@api.route(_ONE, methods=["DELETE"], scope="keys:write", response="ApiKey", errors=[404, 429])
def revoke_api_key(call: Call, key_id: str) -> Reply:
    """Revoke an API key: nothing takes it any more within a minute. Revoking twice is revoking."""
    key = keys.revoke(call.kit, call.tenant, key_id, by=call.by)
    return Reply(people_views.api_key(key, call.kit.now()))
