"""What comes of routing experiments, and the guardrail that ends a losing variant.

Arms are counted by ``project`` from events, once each. The end of a variant is a change of the routing rules on
condition of their version: of two that end it one wins, a merchant who changes the rules at the same time wins
too, and the next payment that is counted brings the guardrail back. A crash before that write has changed
nothing. Payments that were given the variant and have an attempt at it keep that attempt.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from chalicelib.domain import experiments
from chalicelib.domain.audit import SYSTEM, entry
from chalicelib.domain.model import Tenant
from chalicelib.observability import logger, metric
from chalicelib.storage.rule_books import ROUTING
from chalicelib.storage.store import Stale

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from chalicelib.domain.experiments import Counts, Experiment, Result
    from chalicelib.services.kit import Kit

_LOOK_AGAIN = 300.0  # seconds: looking reads all that was counted


@dataclass(frozen=True, slots=True)
class Standing:
    """An experiment and what has come of it."""

    experiment: Experiment
    control: Counts
    variant: Counts
    result: Result


def standings(kit: Kit, tenant: Tenant) -> list[Standing]:
    """Every experiment of the merchant's rules, with its result so far."""
    return [_standing(kit, tenant, one) for one in kit.merchants.rules(ROUTING, tenant).rules.experiments]


def guard(kit: Kit, event: Mapping[str, Any]) -> None:
    """End the experiment whose payment was just counted, if its variant is losing; looks now and then only."""
    key = event["data"].get("payment", {}).get("experiment", "").rpartition("/")[0]
    tenant = Tenant(event["merchant_id"], event["mode"])
    if not key or not kit.health.once_in(_LOOK_AGAIN, f"experiment/{tenant}/{key}"):
        return
    stored = ROUTING.read(tenant)
    found = next((one for one in stored.rules.experiments if one.key == key), None) if stored else None
    if stored is None or found is None or found.ended_at is not None:
        return
    seen = _standing(kit, tenant, found)
    reason = experiments.is_losing(found.guardrail, seen.control, seen.variant)
    if reason is None:
        return
    ended = replace(found, ended_at=kit.now(), ended_because=reason)
    rules = replace(stored.rules, experiments=[ended if one is found else one for one in stored.rules.experiments])
    line = entry(
        tenant.merchant_id, "experiment.ended", key, SYSTEM, kit.now(), mode=tenant.mode, after={"reason": reason}
    )
    try:
        kit.merchants.change_rules(ROUTING, tenant, rules, stored.version, kit.now(), line)
    except Stale:
        return  # somebody else has just changed the rules: the next look decides on what they are now
    logger.error("experiment %s of %s was ended by its guardrail: %s", key, tenant.merchant_id, reason)
    metric("ExperimentEnded")


def _standing(kit: Kit, tenant: Tenant, one: Experiment) -> Standing:
    counted = experiments.total(kit.queries.totals(tenant, f"experiment/{one.key}"), one, kit.now())
    return Standing(
        one, counted["control"], counted["variant"], experiments.result(counted["control"], counted["variant"])
    )
