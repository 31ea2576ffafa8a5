"""What would happen to a payment now: judged and routed as a real one, and nothing written.

A breaker's permits are looked at, not taken. A crash, a repeat or a race changes nothing, because nothing changes.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from chalicelib.domain import ids, routing
from chalicelib.domain.experiments import assigned
from chalicelib.domain.risk import BLOCK
from chalicelib.domain.routing_rules import DEFAULT_RULES
from chalicelib.services import health, screening
from chalicelib.services.attempts import asked_by, candidates
from chalicelib.services.payments import drafted
from chalicelib.services.rule_books import read_routing, under
from chalicelib.services.tokens import resolved

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from chalicelib.domain.model import Tenant
    from chalicelib.domain.risk import Verdict
    from chalicelib.domain.routing import Decision
    from chalicelib.services.kit import Kit
    from chalicelib.services.payments import NewPayment

_BLOCKED = "Risk rules block this payment, so no provider is asked."
_TIMES = 200  # decisions about payments like it, where chance has a say


@dataclass(frozen=True, slots=True)
class Simulation:
    """What would happen to a payment."""

    verdict: Verdict  # of the risk rules
    decision: Decision
    passed_over: Sequence[tuple[str, str]]  # rules that did not fit, and the first condition that was not met
    shares: Mapping[str, float]  # of such payments by account; 1.0 for one where chance plays no part


def simulate(kit: Kit, tenant: Tenant, wish: NewPayment, given: Mapping[str, object] | None) -> Simulation:
    """Judge and route a payment that is not made, by ``given`` routing rules (JSON) or those in force.

    Raises InvalidRequest and NotFoundError as creating it would.
    """
    merchant = kit.merchants.get(tenant)
    if given is not None:
        merchant = replace(merchant, routing=under("routing", lambda: read_routing(kit, tenant, given)))
    now = kit.now()
    payment = drafted(kit, merchant, wish, resolved(kit, tenant, wish.method), now)
    judged = screening.judge(kit, merchant, payment, now)
    if judged.verdict.decision == BLOCK:  # as a real one, which is never routed and takes part in no experiment
        return Simulation(judged.verdict, routing.Decision(None, "", (), {}, _BLOCKED), (), {})
    payment = replace(payment, experiment=assigned(merchant.routing.experiments, asked_by(payment), now))
    asked, settings, accounts = asked_by(payment), merchant.routing, candidates(kit, merchant)
    rule = settings.rule_for(asked)
    known = health.known(kit, merchant, payment, now, with_tallies=True)  # of either arm
    decision = routing.decide(settings, accounts, (), asked, known, expires_at=payment.expires_at)
    counted: Counter[str] = Counter()
    by_chance = rule.by == "split" or bool(decision.scores) or asked.experiment is not None
    for _ in range(_TIMES if by_chance else 1):
        another = replace(asked, id=ids.new_id("pay", now))
        another = replace(another, experiment=assigned(settings.experiments, another, now))
        like = routing.decide(settings, accounts, (), another, replace(known, seed=f"{another.id}-1"))
        if like.chosen is not None:
            counted[like.chosen.account] += 1
    times = max(counted.total(), 1)
    passed = []
    for one in (*settings.rules, *DEFAULT_RULES):
        missed = one.when.misses(asked)
        if missed is None:
            break
        passed.append((one.name, missed))
    return Simulation(
        judged.verdict, decision, passed, {account: count / times for account, count in counted.most_common()}
    )  # fmt: skip
