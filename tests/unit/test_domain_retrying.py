"""Retry policies: as strict as they are, as far as they may be loosened, and in and out as JSON."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.domain import retrying
from chalicelib.domain.errors import ErrorClass, ErrorCode, InvalidRequest, PaymentError
from chalicelib.domain.model import PaymentState
from chalicelib.domain.payments import next_step
from chalicelib.domain.retrying import DEFAULTS, FORBIDDEN, NOT_SENT, Again, RetryPolicy, parse, to_dict, to_stored
from chalicelib.domain.routing import Known, decide, may_try_again
from chalicelib.domain.routing_rules import Asked, RoutingSettings
from chalicelib.domain.states import AttemptStatus, PaymentStatus
from tests.support import factories
from tests.support.factories import NOW, TIMING, candidate, later

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from chalicelib.domain.model import Attempt
    from chalicelib.domain.routing import Decision

PAYMENT = factories.make_payment()
ACCOUNTS = [candidate(name) for name in "abcde"]

SECONDS = st.none() | st.integers(0, 300)
AGAIN = st.builds(Again, st.booleans(), st.booleans(), SECONDS, SECONDS)
KINDS = st.dictionaries(st.sampled_from(sorted(DEFAULTS)), AGAIN)
# By hand, so also with what parse refuses: classes that can never be retried.
ANY_KINDS = st.dictionaries(st.sampled_from([NOT_SENT, *ErrorClass]), AGAIN)
POLICIES = st.builds(
    RetryPolicy, st.integers(1, 5), st.integers(1, 4), st.integers(1, 3600), ANY_KINDS,
    st.dictionaries(st.sampled_from(["sim_a", "sim_b"]), ANY_KINDS),
)  # fmt: skip
ENDS = st.tuples(
    st.sampled_from([AttemptStatus.DECLINED, AttemptStatus.NOT_SENT, *AttemptStatus]),
    st.none() | st.sampled_from(ErrorClass),
    st.none() | st.integers(0, 900),  # Retry-After
    st.integers(0, 900),  # until the next decision
)


def ended(
    name: str, number: int, status: AttemptStatus, error_class: ErrorClass | None = None, **fields: Any
) -> Attempt:
    error = PaymentError(error_class, ErrorCode.PAYMENT_DECLINED, "no") if error_class else None
    return factories.make_attempt(
        PAYMENT, number, provider=f"sim_{name}", account=f"acct_{name}", status=status, error=error, **fields
    )


def route(
    attempts: Sequence[Attempt], policy: RetryPolicy, at: datetime = NOW, *, accounts: int = 5, **wish: Any
) -> Decision:
    return decide(
        RoutingSettings(retry=policy), ACCOUNTS[:accounts], attempts, Asked("upi", "INR", 5000), Known(at), **wish
    )


def busy(name: str = "a", number: int = 1, **fields: Any) -> Attempt:
    return ended(name, number, AttemptStatus.NOT_SENT, ErrorClass.RATE_LIMITED, **fields)


def chosen(decision: Decision) -> str | None:
    return decision.chosen.account if decision.chosen else None


# -- whatever the policy -----------------------------------------------------------------------------


@given(POLICIES, st.lists(ENDS, max_size=8), st.integers(1, 5))
def test_no_policy_leads_to_more_than_its_limits_or_to_a_second_charge(
    policy: RetryPolicy, ends: list[tuple[AttemptStatus, ErrorClass | None, int | None, int]], accounts: int
) -> None:
    attempts: list[Attempt] = []
    at = NOW
    for number, (status, error_class, asked, pause) in enumerate(ends, 1):
        decision = route(attempts, policy, at, accounts=accounts)
        if decision.chosen is None:
            if decision.wait_until is None:
                break
            assert attempts
            assert at < decision.wait_until < later(policy.max_seconds)
            assert (decision.wait_until - at).total_seconds() <= retrying.LONGEST_WAIT
            at = decision.wait_until
            decision = route(attempts, policy, at, accounts=accounts)
            assert decision.chosen is not None
        assert not attempts or at < later(policy.max_seconds)
        until = None if asked is None else later((at - NOW).total_seconds() + asked)
        attempts.append(ended(decision.chosen.account[-1], number, status, error_class, created_at=at, retry_at=until))
        for earlier in attempts[:-1]:
            assert earlier.account != decision.chosen.account or earlier.retry_at is None or earlier.retry_at <= at
        at = later((at - NOW).total_seconds() + pause)
    assert len(attempts) <= max(policy.max_attempts, 1)
    assert len({attempt.account for attempt in attempts}) <= max(policy.max_providers, 1)
    for earlier in attempts[:-1]:
        assert earlier.status in (AttemptStatus.DECLINED, AttemptStatus.NOT_SENT)
        if earlier.status is AttemptStatus.DECLINED:
            assert earlier.error is not None
            assert earlier.error.error_class not in FORBIDDEN


@given(POLICIES, st.sampled_from(AttemptStatus), st.none() | st.sampled_from(ErrorClass))
def test_after_what_may_be_a_charge_nothing_follows_by_any_policy(
    policy: RetryPolicy, status: AttemptStatus, error_class: ErrorClass | None
) -> None:
    last = ended("a", 1, status, error_class)
    definite = status is AttemptStatus.NOT_SENT or (
        status is AttemptStatus.DECLINED and error_class is not None and error_class not in FORBIDDEN
    )
    if not definite:
        assert not may_try_again(last, policy)
        assert route([last], policy).chosen is None
        assert route([last], policy).wait_until is None


@given(KINDS, st.sampled_from(sorted(DEFAULTS)), st.integers(1, 20), st.floats(0, 1))
def test_the_wait_is_within_the_cap_of_its_class(
    kinds: Mapping[str, Again], kind: str, number: int, jitter: float
) -> None:
    status = AttemptStatus.NOT_SENT if kind == NOT_SENT else AttemptStatus.DECLINED
    last = ended("a", 1, status, None if kind == NOT_SENT else ErrorClass(kind))
    payment = replace(PAYMENT, status=PaymentStatus.PROCESSING, attempts=number)
    policy = RetryPolicy(classes=kinds)
    state = PaymentState(payment, (last,))
    step = next_step(state, TIMING, NOW, lambda: jitter, policy)
    base, cap = policy.backoff(last, TIMING)
    assert step.outcome == "retry"
    assert 0 <= step.wait <= cap
    own = kinds.get(kind)
    if own is not None and own.backoff_cap is not None:
        assert cap == own.backoff_cap
    assert step.wait == min(cap, base * 2.0 ** (number - 1)) * jitter


# -- the defaults ------------------------------------------------------------------------------------


def test_every_class_can_be_retried_or_is_forbidden_and_none_both() -> None:
    assert set(DEFAULTS) ^ set(FORBIDDEN) == {NOT_SENT, *ErrorClass}


@pytest.mark.parametrize(
    ("kind", "same", "other"),
    [
        ("config", False, True), ("rate_limited", True, True), ("provider_unavailable", False, True),
        ("technical_decline", True, True), ("not_sent", True, True),
    ],
)  # fmt: skip
def test_the_defaults_say_who_is_tried_again(kind: str, *, same: bool, other: bool) -> None:
    assert DEFAULTS[kind] == Again(same, other, None, None)


# -- what a policy changes ---------------------------------------------------------------------------


def test_a_class_may_be_kept_from_another_provider_or_from_the_same_one() -> None:
    last = ended("a", 1, AttemptStatus.DECLINED, ErrorClass.TECHNICAL_DECLINE)
    stay = parse({"errors": {"technical_decline": {"other_provider": False}}})
    assert chosen(route([last], stay)) == "acct_a"
    assert "may not be followed" in route([last], stay).skipped["acct_b"]
    leave = parse({"errors": {"technical_decline": {"same_provider": False}}})
    assert chosen(route([last], leave, accounts=1)) is None
    neither = parse({"errors": {"technical_decline": {"same_provider": False, "other_provider": False}}})
    assert not may_try_again(last, neither)


def test_a_provider_of_its_own_overrides_the_class_for_itself_alone() -> None:
    policy = parse({"providers": {"sim_a": {"technical_decline": {"same_provider": False, "backoff": 7}}}})
    for name, again, base in (("a", None, 7.0), ("b", "acct_b", TIMING.backoff)):
        last = ended(name, 1, AttemptStatus.DECLINED, ErrorClass.TECHNICAL_DECLINE)
        only = [a for a in ACCOUNTS if a.account == last.account]
        assert chosen(decide(RoutingSettings(retry=policy), only, [last], Asked("upi", "INR", 5000))) == again
        assert policy.backoff(last, TIMING)[0] == base


def test_a_base_above_the_stages_cap_is_a_cap_of_its_own() -> None:
    policy = parse({"errors": {"not_sent": {"backoff": 60}}})
    assert policy.backoff(ended("a", 1, AttemptStatus.NOT_SENT), TIMING) == (60.0, 60.0)


def test_no_attempt_begins_once_the_time_since_the_first_one_is_over() -> None:
    tried = [busy()]
    policy = RetryPolicy(max_seconds=100)
    assert route(tried, policy, later(99.9)).chosen is not None
    over = route(tried, policy, later(100))
    assert over.chosen is None
    assert "100 seconds after the first one" in over.reason


# -- Retry-After -------------------------------------------------------------------------------------


def test_an_account_that_asked_us_to_wait_is_passed_over_until_then() -> None:
    tried = [busy("a", 1, retry_at=later(60)), busy("b", 2)]
    early, then = route(tried, RetryPolicy(), later(59)), route(tried, RetryPolicy(), later(60))
    assert chosen(early) == "acct_b"
    assert early.skipped["acct_a"] == "asked us to wait until 04:31:00 UTC"
    assert chosen(then) == "acct_a"


def test_when_nobody_else_is_left_the_first_one_to_be_ready_is_waited_for() -> None:
    tried = [busy("a", 1, retry_at=later(90)), busy("b", 2, retry_at=later(60))]
    decision = route(tried, RetryPolicy(), later(1))
    assert (decision.chosen, decision.wait_until) == (None, later(60))
    assert decision.reason == "Whoever can take this payment asked us to wait until 04:31:00 UTC."


def test_who_asked_us_to_wait_is_left_alone_also_when_scores_and_breakers_cannot_be_read() -> None:
    blind = Known(later(1), is_missing=True)
    tried = [busy("a", 1, retry_at=later(60))]
    decision = decide(RoutingSettings(), ACCOUNTS[:1], tried, Asked("upi", "INR", 5000), blind)
    assert (decision.chosen, decision.wait_until) == (None, later(60))


@pytest.mark.parametrize(
    ("asked", "limits", "expires_in"),
    [(301, {}, 1800), (100, {"max_seconds": 100}, 1800), (100, {}, 100), (86_400, {"max_seconds": 3600}, 86_401)],
)
def test_nobody_is_waited_for_past_what_the_payment_may_take(asked: int, limits: Any, expires_in: int) -> None:
    tried = [busy(retry_at=later(asked))]
    decision = route(tried, RetryPolicy(**limits), accounts=1, expires_at=later(expires_in))
    assert (decision.chosen, decision.wait_until) == (None, None)
    assert "longer than it may" in decision.reason


@pytest.mark.parametrize(("asked", "wait"), [(None, 15.0), (40, 40.0), (86_400, 300.0)])
def test_an_unknown_charge_is_asked_about_when_its_provider_said_but_no_later_than_planned_at_most(
    asked: int | None, wait: float
) -> None:
    until = None if asked is None else later(asked)
    assert TIMING.unhurried(TIMING.resolve[0], until, NOW) == wait


# -- as JSON -----------------------------------------------------------------------------------------

JSON_AGAIN = st.fixed_dictionaries(
    {}, optional={"same_provider": st.booleans(), "other_provider": st.booleans(), "backoff": st.none() | st.integers(0, 9),
                  "backoff_cap": st.none() | st.integers(9, 300)},
)  # fmt: skip
JSON_KINDS = st.dictionaries(st.sampled_from(sorted(map(str, DEFAULTS))), JSON_AGAIN)
JSON = st.fixed_dictionaries(
    {}, optional={"max_attempts": st.integers(1, 5), "max_providers": st.integers(1, 4), "max_seconds": st.integers(1, 3600),
                  "errors": JSON_KINDS, "providers": st.dictionaries(st.sampled_from(["razorpay", "stripe"]), JSON_KINDS)},
)  # fmt: skip


@given(JSON)
def test_a_policy_survives_being_shown_and_being_stored(value: dict[str, Any]) -> None:
    policy = parse(value)
    assert parse(to_dict(policy)) == policy
    assert parse(to_stored(policy)) == policy


def test_nothing_chosen_is_stored_as_nothing_and_shown_in_full() -> None:
    assert parse({}) == RetryPolicy()
    assert to_stored(RetryPolicy()) == {}
    shown: Any = to_dict(RetryPolicy())
    assert (shown["max_attempts"], shown["max_providers"], shown["max_seconds"]) == (3, 2, 600)
    assert set(shown["errors"]) == set(DEFAULTS)


def test_what_is_chosen_back_to_the_default_is_not_stored() -> None:
    same = {"errors": {"config": {"same_provider": False}}, "providers": {"stripe": {"config": {"backoff": None}}}}
    assert to_stored(parse({"max_attempts": 3} | same)) == {}


@pytest.mark.parametrize("name", sorted(FORBIDDEN))
@pytest.mark.parametrize("where", ["errors", "providers.stripe"])
def test_a_class_after_which_nothing_may_follow_is_refused_by_name(name: str, where: str) -> None:
    kinds = {name: {"same_provider": True}}
    value = {"errors": kinds} if where == "errors" else {"providers": {"stripe": kinds}}
    with pytest.raises(InvalidRequest) as refused:
        parse(value, "retry")
    assert (refused.value.param, refused.value.code) == (f"retry.{where}.{name}", "invalid_field")
    assert refused.value.detail == FORBIDDEN[ErrorClass(name)]


@pytest.mark.parametrize(
    ("value", "param"),
    [
        ([], "retry"),
        ({"max_attempts": 0}, "retry.max_attempts"),
        ({"max_attempts": 6}, "retry.max_attempts"),
        ({"max_attempts": True}, "retry.max_attempts"),
        ({"max_providers": 5}, "retry.max_providers"),
        ({"max_seconds": 3601}, "retry.max_seconds"),
        ({"speed": 1}, "retry.speed"),
        ({"errors": []}, "retry.errors"),
        ({"errors": {"technical_decline": True}}, "retry.errors.technical_decline"),
        ({"errors": {"technical_decline": {"backoff": -1}}}, "retry.errors.technical_decline.backoff"),
        ({"errors": {"technical_decline": {"backoff": 0.5}}}, "retry.errors.technical_decline.backoff"),
        ({"errors": {"technical_decline": {"backoff": 9, "backoff_cap": 8}}}, "retry.errors.technical_decline.backoff"),
        ({"errors": {"technical_decline": {"backoff_cap": 301}}}, "retry.errors.technical_decline.backoff_cap"),
        ({"errors": {"technical_decline": {"same_provider": 1}}}, "retry.errors.technical_decline.same_provider"),
        ({"errors": {"sunspots": {}}}, "retry.errors.sunspots"),
        ({"providers": {"Not one": {}}}, "retry.providers"),
        ({"providers": {"stripe": {"not_sent": {"backoff": "1"}}}}, "retry.providers.stripe.not_sent.backoff"),
    ],
)
def test_a_wrong_field_is_named(value: object, param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse(value, "retry")
    assert refused.value.param == param
