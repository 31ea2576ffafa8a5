"""A merchant's rules, of risk and of routing: a row each, replaced as a whole on condition of its version."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pynamodb.exceptions import DoesNotExist

from chalicelib.domain import risk_settings, routing_settings
from chalicelib.domain.routing_rules import RoutingSettings, Rule, When
from chalicelib.observability import logger, metric
from chalicelib.storage.items import RiskItem, RoutingItem

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from chalicelib.domain.model import Tenant
    from chalicelib.domain.risk import RiskRules
    from chalicelib.storage.items import SettingsItem

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Stored(Generic[T]):
    """A merchant's rules; version 0 has never been written, and without ``updated_at`` never changed by the API."""

    rules: T
    version: int = 0
    updated_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Book(Generic[T]):
    """One kind of rules, and how they are kept."""

    name: str  # of its rows
    item: type[RiskItem | RoutingItem]
    to_stored: Callable[[T], Mapping[str, Any]]
    from_stored: Callable[[Mapping[str, Any]], T]
    earlier: Callable[[SettingsItem], T]  # where an earlier release kept them

    def read(self, tenant: Tenant) -> Stored[T] | None:
        """The rules as they are now; None if there is no row of them."""
        try:
            item = self.item.get(*self._key(tenant), consistent_read=True)
        except DoesNotExist:
            return None
        return Stored(self.from_stored(item.rules or {}), int(item.version), item.updated_at)

    def to_write(self, tenant: Tenant, stored: Stored[T]) -> tuple[RiskItem | RoutingItem, Any]:
        """Rules as stored, on condition that those before them are in force."""
        before = stored.version - 1
        known = self.item.version == before if before else self.item.pk.does_not_exist()
        rules = self.to_stored(stored.rules) or None
        row = self.item(*self._key(tenant), rules=rules, version=stored.version, updated_at=stored.updated_at)
        return row, known

    def _key(self, tenant: Tenant) -> tuple[str, str]:
        return f"{self.name}/{tenant.merchant_id}", f"{self.name}#{tenant.mode}"


def _earlier_risk(settings: SettingsItem) -> RiskRules:
    return _readable_risk(settings.risk or {})


def _earlier_routing(settings: SettingsItem) -> RoutingSettings:
    return RoutingSettings(tuple(_earlier_rule(rule) for rule in settings.rules or ()))


def _earlier_rule(stored: Mapping[str, Any]) -> Rule:
    method, currency = stored.get("method"), stored.get("currency")
    when = When(
        methods=frozenset({method} if method else ()),
        currencies=frozenset({currency} if currency else ()),
        above=stored.get("min_amount"),
        up_to=stored.get("max_amount"),
        metadata=stored.get("metadata") or {},
    )
    return Rule(stored["name"], tuple(stored["accounts"]), when, stored.get("by", "priority"))


def _unread(book: str) -> Callable[[str], None]:
    """What is done about each place in stored rules that a newer release has written and this one cannot read."""

    def tell(place: str) -> None:
        logger.error(
            "stored %s rules: %s cannot be read by this release and is left out; deploy the newer", book, place
        )
        metric("RulesUnreadable")

    return tell


def _readable_risk(stored: Mapping[str, Any]) -> RiskRules:
    return risk_settings.from_stored(stored, _unread("risk"))


def _readable_routing(stored: Mapping[str, Any]) -> RoutingSettings:
    return routing_settings.from_stored(stored, _unread("routing"))


RISK: Book[RiskRules] = Book("risk", RiskItem, risk_settings.to_stored, _readable_risk, _earlier_risk)
ROUTING: Book[RoutingSettings] = Book(
    "routing", RoutingItem, routing_settings.to_stored, _readable_routing, _earlier_routing
)
