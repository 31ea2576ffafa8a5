"""Which account takes the next attempt: rules, filters, and never a second charge by retrying."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.domain.errors import ErrorClass, ErrorCode, PaymentError
from chalicelib.domain.retrying import FORBIDDEN, RetryPolicy
from chalicelib.domain.routing import (
    decide,
    may_try_again,
)
from chalicelib.domain.routing_rules import Asked, RoutingSettings, Rule, When
from chalicelib.domain.states import ATTEMPT_OPEN, AttemptStatus
from tests.support import factories
from tests.support.factories import candidate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chalicelib.domain.model import Attempt
    from chalicelib.domain.routing import Candidate, Decision

A, B, C = candidate("a"), candidate("b"), candidate("c")
RULES = [
    Rule("premium", ("acct_b",), When(currencies=frozenset({"INR"}), above=10_000_00)),
    Rule("cards", ("acct_c", "acct_a"), When(methods=frozenset({"card"}))),
    Rule("standard", ("acct_a", "acct_b", "acct_c")),
]
PAYMENT = factories.make_payment()
# The definite answers after which money can be tried elsewhere, and all others.
NO_FURTHER = {ErrorClass(name) for name in FORBIDDEN}
FAIL_OVER = set(ErrorClass) - NO_FURTHER
RETRY_SAME = {ErrorClass.RATE_LIMITED, ErrorClass.TECHNICAL_DECLINE}
MAX_ATTEMPTS, MAX_PROVIDERS = RetryPolicy().max_attempts, RetryPolicy().max_providers


def route(
    attempts: Sequence[Attempt] = (), *, rules: Sequence[Rule] = RULES, candidates: Sequence[Candidate] = (A, B, C),
    **fields: Any,
) -> Decision:  # fmt: skip
    values: dict[str, Any] = {"method": "upi", "currency": "INR", "amount": 5000}
    return decide(RoutingSettings(tuple(rules)), candidates, attempts, Asked(**(values | fields)))


def ended(name: str, number: int, status: AttemptStatus, error_class: ErrorClass | None = None) -> Attempt:
    error = PaymentError(error_class, ErrorCode.PAYMENT_DECLINED, "no") if error_class else None
    return factories.make_attempt(
        PAYMENT, number, provider=f"sim_{name}", account=f"acct_{name}", status=status, error=error
    )


def chosen(decision: Decision) -> str | None:
    return decision.chosen.account if decision.chosen else None


# -- rules -------------------------------------------------------------------------------------------


def test_the_first_rule_that_matches_decides_the_order() -> None:
    assert (chosen(route()), route().rule) == ("acct_a", "standard")
    assert (chosen(route(method="card")), route(method="card").rule) == ("acct_c", "cards")


@pytest.mark.parametrize(("amount", "rule"), [(10_000_00, "standard"), (10_000_01, "premium")])
def test_a_rule_for_amounts_above_begins_one_above(amount: int, rule: str) -> None:
    assert route(amount=amount).rule == rule


def test_an_upper_bound_is_inclusive() -> None:
    rules = [Rule("small", ("acct_b",), When(up_to=5000))]
    assert [route(rules=rules, amount=amount).rule for amount in (5000, 5001)] == ["small", "default"]


def test_without_a_matching_rule_all_accounts_are_offered_in_their_order() -> None:
    decision = route(rules=[], candidates=[C, A])
    assert (decision.rule, list(decision.order), chosen(decision)) == ("default", ["acct_c", "acct_a"], "acct_c")


def test_an_account_that_a_rule_names_but_the_merchant_lost_is_left_out() -> None:
    assert list(route(candidates=[B]).order) == ["acct_b"]


def test_what_a_provider_needs_and_the_payment_has_keeps_nobody_away() -> None:
    needy = candidate("a", required=frozenset({"return_url"}))
    assert chosen(route(candidates=[needy], given=frozenset({"return_url", "customer.email"}))) == "acct_a"


# -- filters -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "wish", "why"),
    [
        ({"methods": frozenset({"card"})}, {}, "does not take upi"),
        ({"currencies": frozenset({"USD"})}, {}, "does not take INR"),
        ({"min_amount": 5001}, {}, "takes 5001 to"),
        ({"max_amount": 4999}, {}, "to 4999"),
        ({"manual_capture": frozenset({"card"})}, {"capture": "manual"}, "cannot capture upi later"),
        ({"enabled": False}, {}, "is disabled"),
        (
            {"required": frozenset({"return_url", "customer.email", "customer.contact"})},
            {"given": frozenset({"return_url"})},
            "needs customer.contact, customer.email",
        ),
    ],
)
def test_an_account_that_cannot_take_the_payment_is_skipped_with_a_reason(
    fields: dict[str, Any], wish: dict[str, Any], why: str
) -> None:
    decision = route(candidates=[candidate("a", **fields), B], **wish)
    assert chosen(decision) == "acct_b"
    assert why in decision.skipped["acct_a"]


@pytest.mark.parametrize("amount", [100, 10_000_000_00])
def test_the_limits_of_an_account_are_inclusive(amount: int) -> None:
    assert chosen(route(rules=[], candidates=[A], amount=amount)) == "acct_a"


def test_manual_capture_does_not_matter_to_an_automatic_one() -> None:
    assert chosen(route(candidates=[candidate("a", manual_capture=frozenset())])) == "acct_a"


def test_when_nobody_can_the_decision_says_so_for_each() -> None:
    decision = route(currency="USD")
    assert decision.chosen is None
    assert set(decision.skipped) == {"acct_a", "acct_b", "acct_c"}
    assert decision.as_dict()["chosen"] is None


# -- another attempt ---------------------------------------------------------------------------------


@pytest.mark.parametrize("error_class", sorted(FAIL_OVER))
def test_after_a_decline_that_is_not_the_customers_a_fresh_provider_comes_first(error_class: ErrorClass) -> None:
    decision = route([ended("a", 1, AttemptStatus.DECLINED, error_class)])
    assert chosen(decision) == "acct_b"
    assert "attempt 1 at acct_a ended declined" in decision.reason


@pytest.mark.parametrize("error_class", sorted(NO_FURTHER))
def test_after_any_other_decline_nobody_is_asked_again(error_class: ErrorClass) -> None:
    assert chosen(route([ended("a", 1, AttemptStatus.DECLINED, error_class)])) is None


def test_a_decline_without_a_reason_is_not_tried_again() -> None:
    assert chosen(route([ended("a", 1, AttemptStatus.DECLINED)])) is None


@pytest.mark.parametrize("error_class", sorted(ErrorClass))
def test_what_was_never_sent_may_go_elsewhere(error_class: ErrorClass) -> None:
    assert chosen(route([ended("a", 1, AttemptStatus.NOT_SENT, error_class)])) == "acct_b"


@pytest.mark.parametrize("status", sorted(set(AttemptStatus) - {AttemptStatus.DECLINED, AttemptStatus.NOT_SENT}))
@pytest.mark.parametrize("error_class", [None, *sorted(ErrorClass)])
def test_nothing_but_a_definite_no_leads_to_another_attempt(
    status: AttemptStatus, error_class: ErrorClass | None
) -> None:
    last = ended("a", 1, status, error_class)
    assert not may_try_again(last)
    assert chosen(route([last])) is None


@pytest.mark.parametrize("error_class", sorted(FAIL_OVER))
def test_the_same_provider_is_tried_twice_only_where_a_second_try_may_do_better(error_class: ErrorClass) -> None:
    again = chosen(route([ended("a", 1, AttemptStatus.DECLINED, error_class)], candidates=[A]))
    assert again == ("acct_a" if error_class in RETRY_SAME else None)


def test_a_request_that_was_never_sent_may_go_to_the_same_provider_unless_our_settings_are_wrong() -> None:
    for error_class in ErrorClass:
        again = chosen(route([ended("a", 1, AttemptStatus.NOT_SENT, error_class)], candidates=[A]))
        assert again == (None if error_class is ErrorClass.CONFIG else "acct_a")


def test_a_third_provider_is_never_asked() -> None:
    tried = [
        ended("a", 1, AttemptStatus.DECLINED, ErrorClass.CONFIG),
        ended("b", 2, AttemptStatus.DECLINED, ErrorClass.CONFIG),
    ]
    decision = route(tried)
    assert decision.chosen is None
    assert "provider 3 of at most 2" in decision.skipped["acct_c"]


def test_a_fourth_attempt_is_never_made() -> None:
    tried = [
        ended("a", number, AttemptStatus.NOT_SENT, ErrorClass.RATE_LIMITED) for number in range(1, MAX_ATTEMPTS + 1)
    ]
    assert chosen(route(tried[:-1])) is not None
    assert chosen(route(tried)) is None


ENDS = st.tuples(st.sampled_from(AttemptStatus), st.one_of(st.none(), st.sampled_from(ErrorClass)))


@given(st.lists(ENDS, max_size=6))
def test_however_attempts_end_routing_keeps_its_promises(ends: list[tuple[AttemptStatus, ErrorClass | None]]) -> None:
    attempts: list[Attempt] = []
    for number, (status, error_class) in enumerate(ends, 1):
        decision = route(attempts)
        if decision.chosen is None:
            break
        assert not attempts or attempts[-1].status not in ATTEMPT_OPEN
        attempts.append(ended(decision.chosen.account[-1], number, status, error_class))
        assert {account for account, _ in _pairs(decision)} <= set(decision.order)
    assert len(attempts) <= MAX_ATTEMPTS
    assert len({attempt.account for attempt in attempts}) <= MAX_PROVIDERS
    for earlier in attempts[:-1]:
        assert may_try_again(earlier)


def _pairs(decision: Decision) -> list[tuple[str, str]]:
    return [*decision.skipped.items(), *([(decision.chosen.account, "")] if decision.chosen else [])]
