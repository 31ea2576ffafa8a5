"""What breakers and scores change about a routing decision, and what the decision says of it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from chalicelib.domain import breaker, payments
from chalicelib.domain.breaker import Breaker, Status
from chalicelib.domain.errors import ErrorClass, ErrorCode
from chalicelib.domain.routing import Known, decide
from chalicelib.domain.routing_rules import Asked, RoutingSettings, Rule
from chalicelib.domain.scoring import learn, segments
from chalicelib.domain.states import AttemptStatus, PaymentStatus
from tests.support import factories
from tests.support.factories import NOW, candidate, later

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chalicelib.domain.routing import Decision
    from chalicelib.domain.scoring import Tally

A, B, C = candidate("a"), candidate("b"), candidate("c")
ORDER = ("acct_a", "acct_b", "acct_c")
PRIORITY, SCORE = Rule("standard", ORDER), Rule("best", ORDER, by="score")
OPEN = Breaker(Status.OPEN, NOW, "30 of 40 calls failed in the last 20 s.", cools_until=later(30), version=1)
HALF_OPEN = Breaker(Status.HALF_OPEN, NOW, "Tried again after 30 s.", version=2)
BUSY = replace(HALF_OPEN, permits=(NOW,) * breaker.PERMITS)


def route(known: Known | None, rule: Rule = PRIORITY, refused: frozenset[str] = frozenset(), **fields: Any) -> Decision:
    values: dict[str, Any] = {"method": "upi", "currency": "INR", "amount": 5000}
    return decide(RoutingSettings((rule,)), [A, B, C], (), Asked(**(values | fields)), known, refused)


def chosen(decision: Decision) -> str | None:
    return decision.chosen.account if decision.chosen else None


def tallies(**rates: int) -> Mapping[str, Mapping[str, Tally]]:
    """By account: so many of 100 payments succeeded."""
    path, found = segments("upi", 5000, "INR"), {}
    for name, rate in rates.items():
        known: Mapping[str, Tally] = {}
        for number in range(100):
            known = learn(known, path, success=number < rate, at=NOW)
        found[f"acct_{name}"] = known
    return found


# -- breakers ----------------------------------------------------------------------------------------


def test_a_closed_breaker_changes_nothing_and_is_not_mentioned() -> None:
    with_it, without = route(Known(NOW, breakers={"sim_a": Breaker(version=9)})), route(None)
    assert with_it == without
    assert set(without.as_dict()) == {"rule", "order", "skipped", "chosen", "reason"}


def test_an_open_breaker_sends_payments_to_the_next_account_and_says_why() -> None:
    decision = route(Known(later(5), breakers={"sim_a": OPEN}))
    assert (chosen(decision), decision.needs_permit) == ("acct_b", False)
    assert decision.skipped == {"acct_a": "its breaker is open: 30 of 40 calls failed in the last 20 s."}
    assert decision.as_dict()["breakers"] == {"sim_a": "open"}
    assert decision.reason == (
        "acct_b is first in rule 'standard' that can take this payment; acct_a had to wait, because most calls there fail."
    )


@pytest.mark.parametrize(("known", "needs"), [(OPEN, True), (HALF_OPEN, True), (Breaker(version=1), False)])
def test_only_a_breaker_that_is_not_closed_asks_for_a_permit(known: Breaker, *, needs: bool) -> None:
    decision = route(Known(later(30), breakers={"sim_a": known}))
    assert (chosen(decision), decision.needs_permit) == ("acct_a", needs)


def test_without_a_permit_the_next_account_is_taken() -> None:
    at = later(30)
    assert chosen(route(Known(at, breakers={"sim_a": BUSY}))) == "acct_b"
    decision = route(Known(at, breakers={"sim_a": HALF_OPEN}), refused=frozenset({"sim_a"}))
    assert chosen(decision) == "acct_b"
    assert "a few calls" in decision.skipped["acct_a"]


def test_when_all_are_held_back_the_payment_fails_as_retryable() -> None:
    decision = route(Known(later(5), breakers={f"sim_{name}": OPEN for name in "abc"}))
    assert (chosen(decision), decision.held) == (None, True)
    state = factories.state_of(factories.make_payment())
    after = payments.fail_without_route(state, decision, NOW).payment
    assert after is not None
    assert after.error is not None
    assert after.status is PaymentStatus.FAILED
    assert (after.error.error_class, after.error.code) == (
        ErrorClass.PROVIDER_UNAVAILABLE, ErrorCode.PROVIDER_UNAVAILABLE,
    )  # fmt: skip


def test_what_the_merchant_holds_open_is_not_said_to_be_failing() -> None:
    mine = {name: breaker.force(Breaker(), "open", "ticket 7", NOW) for name in ("sim_a", "sim_b", "sim_c")}
    every = "Every provider that could take this payment is"
    decision = route(Known(later(5), forced=mine))
    assert (chosen(decision), decision.held) == (None, True)
    assert decision.reason == f"{every} held open by you."
    some = {"sim_a": mine["sim_a"]}
    both = route(Known(later(5), forced=some, breakers={"sim_b": OPEN, "sim_c": OPEN}))
    assert both.reason == f"{every} failing right now or held open by you; try again in a minute."
    assert route(Known(later(5), forced=some)).reason == (
        "acct_b is first in rule 'standard' that can take this payment; acct_a had to wait, because you hold it open."
    )
    assert route(Known(later(5), forced=some, breakers={"sim_b": OPEN})).reason == (
        "acct_c is first in rule 'standard' that can take this payment; acct_b had to wait, because most calls there fail; "
        "acct_a had to wait, because you hold it open."
    )


def test_what_cannot_take_the_payment_anyway_is_not_called_held_back() -> None:
    decision = route(Known(later(5), breakers={"sim_a": OPEN}), currency="USD")
    assert (chosen(decision), decision.held) == (None, False)
    assert decision.skipped["acct_a"] == "does not take USD"


@pytest.mark.parametrize(("to", "first"), [("open", "acct_b"), ("closed", "acct_a")])
def test_what_the_merchant_says_comes_before_what_everybody_sees(to: Any, first: str) -> None:
    forced = breaker.force(Breaker(), to, "ticket 4711", NOW, later(60))
    shared = Breaker() if to == "open" else OPEN
    during = Known(later(5), breakers={"sim_a": shared}, forced={"sim_a": forced})
    assert (chosen(route(during)), route(during).needs_permit) == (first, False)
    assert route(during).breakers == {"sim_a": to}
    after = Known(later(61), breakers={"sim_a": Breaker()}, forced={"sim_a": forced})
    assert chosen(route(after)) == "acct_a"


# -- scores ------------------------------------------------------------------------------------------


def test_by_score_the_likeliest_comes_first_and_the_draws_can_be_repeated() -> None:
    known = Known(NOW, seed="pay_1-1", tallies=tallies(a=60, b=70, c=97))
    decision = route(known, SCORE)
    told = decision.as_dict()
    assert (chosen(decision), told["seed"], told["rule"]) == ("acct_c", "pay_1-1", "best")
    assert [score.account for score in decision.scores] == ["acct_c", "acct_b", "acct_a"]
    assert route(known, SCORE) == decision
    assert decision.reason.startswith("acct_c came first of 3 by score in rule 'best': 9")
    json.dumps(told)


def test_by_priority_nothing_is_drawn() -> None:
    decision = route(Known(NOW, seed="pay_1-1", tallies=tallies(c=97)))
    assert (chosen(decision), decision.scores, decision.seed) == ("acct_a", (), None)


def test_a_breaker_comes_before_the_score() -> None:
    known = Known(later(5), seed="s", tallies=tallies(a=60, b=70, c=97), breakers={"sim_c": OPEN})
    decision = route(known, SCORE)
    assert chosen(decision) == "acct_b"
    assert [score.account for score in decision.scores] == ["acct_b", "acct_a"]


def test_what_is_older_than_a_breakdown_gives_way() -> None:
    known = Known(later(120), seed="s", tallies=tallies(a=90, b=5))
    back = replace(known, breakers={"sim_b": Breaker(since=later(60), version=3)})
    samples = [{s.account: s.samples for s in route(k, SCORE).scores}["acct_b"] for k in (known, back)]
    assert samples[1] < samples[0]


def test_a_fresh_account_comes_before_one_that_has_just_failed_whatever_the_scores_say() -> None:
    error = factories.TECHNICAL
    tried = factories.make_attempt(
        factories.make_payment(), 1, provider="sim_a", account="acct_a", status=AttemptStatus.DECLINED, error=error
    )
    known = Known(NOW, seed="s", tallies=tallies(a=99, b=30, c=20))
    decision = decide(RoutingSettings((SCORE,)), [A, B, C], [tried], Asked("upi", "INR", 5000), known)
    assert chosen(decision) != "acct_a"
    assert decision.reason.endswith("after attempt 1 at acct_a ended declined.")


def test_without_what_is_known_the_rules_order_decides_and_the_decision_says_so() -> None:
    decision = route(Known(NOW, seed="s", is_missing=True), SCORE)
    assert (chosen(decision), decision.seed) == ("acct_a", None)
    assert decision.as_dict()["without"] == "scores and breakers: they could not be read"


def test_a_known_breaker_is_everybodys_unless_it_is_held() -> None:
    shared, held = OPEN, breaker.force(Breaker(), "closed", "r", NOW)
    assert Known(NOW, breakers={"p": shared}).breaker("p") is shared
    assert Known(NOW, breakers={"p": shared}, forced={"p": held}).breaker("p") is held
    assert Known(NOW).breaker("p") == Breaker()
    assert Known(NOW + timedelta(days=9), breakers={"p": shared}, forced={"p": held}).breaker("p") is held
