"""A merchant's rules, of risk and of routing: look at them, put others in their place.

A crash before the write has changed nothing, after it everything. A repeat finds the rules that it brings in
force. Of two writers who looked at the same version one wins and the other is told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from chalicelib.domain import risk_settings, routing_settings
from chalicelib.domain.audit import entry
from chalicelib.domain.errors import InvalidRequest, StateConflict
from chalicelib.observability import logger
from chalicelib.storage.rule_books import RISK, ROUTING
from chalicelib.storage.store import Stale

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from chalicelib.domain.audit import Actor
    from chalicelib.domain.model import Tenant
    from chalicelib.domain.risk import RiskRules
    from chalicelib.domain.routing_rules import RoutingSettings
    from chalicelib.services.kit import Kit
    from chalicelib.storage.rule_books import Book, Stored

T = TypeVar("T")
_PAGE = 100


def risk(kit: Kit, tenant: Tenant) -> Stored[RiskRules]:
    """The rules as they are now, which other environments may not know for a minute."""
    return kit.merchants.rules(RISK, tenant)


def put_risk(kit: Kit, tenant: Tenant, given: object, version: int, *, by: Actor) -> Stored[RiskRules]:
    """Replace the rules that have that version by ``given`` (JSON); what it leaves out has its default.

    Raises InvalidRequest naming the first wrong field, or StateConflict if the rules are of another
    version by now; then those in force stay. ``by`` goes into the audit log, with both.
    """
    rules = under("rules", lambda: risk_settings.parse(given))
    return _put(kit, RISK, tenant, rules, version, risk_settings.to_dict, by)


def routing(kit: Kit, tenant: Tenant) -> Stored[RoutingSettings]:
    """The rules as they are now, which other environments may not know for a minute."""
    return kit.merchants.rules(ROUTING, tenant)


def put_routing(kit: Kit, tenant: Tenant, given: object, version: int, *, by: Actor) -> Stored[RoutingSettings]:
    """As ``put_risk``, of the routing rules; they may only name accounts and providers that the merchant has."""
    return _put(kit, ROUTING, tenant, read_routing(kit, tenant, given), version, routing_settings.to_dict, by)


def read_routing(kit: Kit, tenant: Tenant, given: object) -> RoutingSettings:
    """Routing rules from JSON, checked against the merchant's accounts; raises InvalidRequest."""
    accounts: dict[str, str] = {}
    cursor = None
    while True:  # past the cache: an account that was connected a moment ago can be named
        page = kit.merchants.list_accounts(tenant, limit=_PAGE, cursor=cursor)
        accounts |= {account.id: account.provider for account in page.data}
        cursor = page.cursor
        if cursor is None:
            return routing_settings.parse(given, accounts)


def under(field: str, read: Callable[[], T]) -> T:
    """What ``read`` reads from a field of the request: an error names the place as the request has it."""
    try:
        return read()
    except InvalidRequest as wrong:
        path = f"{field}.{wrong.param}" if wrong.param else field
        raise InvalidRequest(wrong.code, wrong.detail, param=path) from wrong


def _put(
    kit: Kit, book: Book[T], tenant: Tenant, rules: T, version: int, shown: Callable[[T], Mapping[str, Any]], by: Actor
) -> Stored[T]:
    before = kit.merchants.rules(book, tenant)
    if rules == before.rules:
        return before
    if version != before.version:
        raise _changed(book)
    old, new, now = shown(before.rules), shown(rules), kit.now()
    line = entry(
        tenant.merchant_id, f"{book.name}.changed", tenant.merchant_id, by, now, mode=tenant.mode,
        before={**old, "version": before.version}, after={**new, "version": before.version + 1},
    )  # fmt: skip
    try:
        after = kit.merchants.change_rules(book, tenant, rules, before.version, now, line)
    except Stale as stale:
        raise _changed(book) from stale
    fields = [name for name, value in new.items() if value != old[name]]
    logger.info("%s rules changed", book.name, version=after.version, fields=fields, by=by.id)
    return after


def _changed(book: Book[T]) -> StateConflict:
    detail = f"Somebody else has changed the {book.name} rules. Look at them and try again."
    return StateConflict(f"{book.name}_changed", detail)
