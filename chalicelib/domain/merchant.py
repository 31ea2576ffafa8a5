"""A merchant's settings in one mode, as every decision sees them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from chalicelib.domain.risk import RiskRules
from chalicelib.domain.routing_rules import RoutingSettings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from chalicelib.domain.model import Tenant


@dataclass(frozen=True, slots=True)
class OldSecret:
    """A webhook secret that was rotated out: what the provider signed with it may still be on its way."""

    value: str = field(repr=False)
    accepted_until: datetime


@dataclass(frozen=True, slots=True)
class Account:
    """A merchant's account at a provider. ``credentials`` and ``webhook_secrets`` are secret."""

    id: str
    provider: str
    base_url: str
    credentials: Mapping[str, str] = field(repr=False)
    webhook_secrets: Sequence[str] = field(repr=False)  # every accepted one, those of ``previous`` last
    enabled: bool = True  # a disabled one takes no new charges; what it has charged goes on
    name: str | None = None
    created_at: datetime | None = None  # None: made before this was kept
    updated_at: datetime | None = None
    previous: Sequence[OldSecret] = ()
    rotated_at: datetime | None = None  # when its credentials were last changed
    version: int = 0  # raised by every change

    @property
    def previous_accepted_until(self) -> datetime | None:
        """When the last webhook secret that was rotated out stops being accepted; None if there is none."""
        return max((old.accepted_until for old in self.previous), default=None)


def rotated(
    account: Account, given: Mapping[str, str], webhook_secret: str, *, keep_until: datetime | None, now: datetime
) -> Account:
    """The account with ``given`` credentials in place of those of the same names.

    If the one called ``webhook_secret`` changes, the old value is accepted until ``keep_until``. None
    drops it at once, and with it all that were rotated out before. The same account if nothing changes.
    """
    old = {secret.value for secret in account.previous}
    in_use = tuple(value for value in account.webhook_secrets if value not in old)
    current = (given[webhook_secret],) if webhook_secret in given else in_use
    previous: tuple[OldSecret, ...] = ()
    if keep_until is not None:
        retired = [OldSecret(value, keep_until) for value in in_use if value not in current]
        previous = (*(secret for secret in account.previous if secret.value not in current), *retired)
    after = replace(
        account,
        credentials={**account.credentials, **given},
        webhook_secrets=(*current, *(secret.value for secret in previous)),
        previous=previous,
    )
    return account if after == account else replace(after, updated_at=now, rotated_at=now, version=account.version + 1)


@dataclass(frozen=True, slots=True)
class Merchant:
    """Who we act for. ``webhook_secret`` and ``lookup_key`` are secret."""

    tenant: Tenant
    name: str
    accounts: Sequence[Account]
    routing: RoutingSettings = field(default_factory=RoutingSettings)
    risk: RiskRules = field(default_factory=RiskRules)
    webhook_url: str | None = None
    webhook_secret: str | None = field(default=None, repr=False)
    lookup_key: bytes = field(default=b"", repr=False)  # keys the hashes of customers, cards and secrets

    def account(self, account_id: str) -> Account | None:
        """The account of that id, if the merchant has it."""
        return next((account for account in self.accounts if account.id == account_id), None)
