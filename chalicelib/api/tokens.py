"""Routes: card tokens. The card's number lives in one request and nowhere else.

Without an Idempotency-Key, on purpose: the key's row would keep a hash of the number, and a second
token of the same card harms nobody.
"""

from __future__ import annotations

from chalicelib.api import schemas, views
from chalicelib.api.http import Api, Call, Reply
from chalicelib.services import tokens

api = Api(__name__)


@api.route(
    "/v1/tokens", methods=["POST"], scope="tokens:write", body=schemas.TokenIn, response="Token", status=201
)  # fmt: skip
def create_token(call: Call, body: schemas.TokenIn) -> Reply:
    """Turn a card into a token to pay with."""
    card = body.card
    return Reply(views.token(tokens.create(call.kit, call.tenant, card.number, card.expiry_month, card.expiry_year)))


@api.route("/v1/tokens/{token_id}", scope="tokens:read", response="Token", errors=[404])
def get_token(call: Call, token_id: str) -> Reply:
    """Get a token that has not expired."""
    return Reply(views.token(tokens.get(call.kit, call.tenant, token_id)))
