"""A merchant's risk rules: look at them, put others in their place.

A crash before the write has changed nothing, after it everything. A repeat finds the rules that it brings in
force. Of two writers who looked at the same version one wins and the other is told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chalicelib.domain import risk_settings
from chalicelib.domain.errors import InvalidRequest, StateConflict
from chalicelib.observability import logger
from chalicelib.storage.store import Stale

if TYPE_CHECKING:
    from chalicelib.domain.model import Tenant
    from chalicelib.services.kit import Kit
    from chalicelib.storage.merchants import StoredRisk


def get(kit: Kit, tenant: Tenant) -> StoredRisk:
    """The rules as they are now, which other environments may not know for a minute."""
    return kit.merchants.risk(tenant)


def put(kit: Kit, tenant: Tenant, given: object, version: int, *, by: str) -> StoredRisk:
    """Replace the rules that have that version by ``given`` (JSON); what it leaves out has its default.

    Raises InvalidRequest naming the first wrong field, or StateConflict if the rules are of another
    version by now; then those in force stay. ``by`` names the API key, for the log.
    """
    try:
        rules = risk_settings.parse(given)
    except InvalidRequest as wrong:
        path = f"rules.{wrong.param}" if wrong.param else "rules"
        raise InvalidRequest(wrong.code, wrong.detail, param=path) from wrong
    before = kit.merchants.risk(tenant)
    if rules == before.rules:
        return before
    if version != before.version:
        raise _changed()
    try:
        after = kit.merchants.change_risk(tenant, rules, before.version, kit.now())
    except Stale as stale:
        raise _changed() from stale
    old, new = risk_settings.to_dict(before.rules), risk_settings.to_dict(rules)
    fields = [name for name, value in new.items() if value != old[name]]
    logger.info("risk rules changed", version=after.version, fields=fields, key_id=by)
    return after


def _changed() -> StateConflict:
    return StateConflict("risk_changed", "Somebody else has changed the risk rules. Look at them and try again.")
