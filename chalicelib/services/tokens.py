"""Card tokens: a simulated vault, which keeps of a card what can be shown and drops the rest at once."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from chalicelib.domain import cards, ids
from chalicelib.domain.cards import CardToken
from chalicelib.domain.errors import InvalidRequest, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chalicelib.domain.model import Tenant
    from chalicelib.services.kit import Kit


def create(kit: Kit, tenant: Tenant, number: str, expiry_month: int, expiry_year: int) -> CardToken:
    """Make a token of a card; ``number`` is a valid one, of digits only, and goes no further than here."""
    now = kit.now()
    token = CardToken(
        tenant=tenant,
        id=ids.new_id("tok", now),
        network=cards.network_of(number),
        last4=cards.last4_of(number),
        bin=cards.bin_of(number),
        expiry_month=expiry_month,
        expiry_year=expiry_year,
        fingerprint=cards.fingerprint(kit.merchants.get(tenant).lookup_key, number),
        created_at=now,
        expires_at=now + timedelta(seconds=kit.settings.token_ttl),
    )
    kit.store.add_token(token)
    return token


def get(kit: Kit, tenant: Tenant, token_id: str) -> CardToken:
    """The token; raises NotFoundError if there is none or it has expired."""
    token = kit.queries.token(tenant, token_id, kit.now())
    if token is None:
        raise NotFoundError("token_not_found", f"There is no token {token_id}, or it has expired.", param="id")
    return token


def resolved(kit: Kit, tenant: Tenant, method: Mapping[str, str]) -> Mapping[str, str]:
    """A payment's method with what its token stands for; any other method as it is.

    Raises InvalidRequest if the token is not there, is another merchant's or has expired.
    """
    if "token" not in method:
        return method
    token = kit.queries.token(tenant, method["token"], kit.now())
    if token is None:
        raise InvalidRequest("token_not_found", "There is no such token, or it has expired.", param="method.token")
    return token.method()
