"""A merchant's settings in one mode, as every decision sees them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from chalicelib.domain.risk import RiskRules

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from chalicelib.domain.model import Tenant
    from chalicelib.domain.routing import Rule


@dataclass(frozen=True, slots=True)
class Account:
    """A merchant's account at a provider. ``credentials`` and ``webhook_secrets`` are secret."""

    id: str
    provider: str
    base_url: str
    credentials: Mapping[str, str] = field(repr=False)
    webhook_secrets: Sequence[str] = field(repr=False)  # every active one: rotation drops nothing


@dataclass(frozen=True, slots=True)
class Merchant:
    """Who we act for. ``webhook_secret`` and ``lookup_key`` are secret."""

    tenant: Tenant
    name: str
    accounts: Sequence[Account]
    rules: Sequence[Rule] = ()
    risk: RiskRules = field(default_factory=RiskRules)
    webhook_url: str | None = None
    webhook_secret: str | None = field(default=None, repr=False)
    lookup_key: bytes = field(default=b"", repr=False)  # keys the hash that finds payments by customer

    def account(self, account_id: str) -> Account | None:
        """The account of that id, if the merchant has it."""
        return next((account for account in self.accounts if account.id == account_id), None)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API key without its secret."""

    id: str
    tenant: Tenant
    name: str
