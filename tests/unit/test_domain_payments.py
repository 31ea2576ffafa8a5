"""How a payment moves when a merchant, a person or the clock wants it to, and what the workflow does next."""

from __future__ import annotations

import json
from typing import Any, get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.domain import charges, draft, orders, payments
from chalicelib.domain.errors import ErrorCode, InvalidRequest, StateConflict
from chalicelib.domain.outcome import ChargeStatus
from chalicelib.domain.payments import next_step
from chalicelib.domain.states import (
    AttemptStatus,
    IllegalMove,
    OperationStatus,
    OperationType,
    OrderStatus,
    PaymentStatus,
)
from chalicelib.domain.timing import backoff_wait
from tests.support import factories
from tests.support.asl import payment_definition
from tests.support.factories import AMOUNT, LOST, NOW, TIMING, candidate, later
from tests.support.story import AUTHORIZATION_WINDOW, Story, always, authorized, expired, succeeded

_A, _P, _C, _T, _X = AttemptStatus, PaymentStatus, ChargeStatus, OperationType, OperationStatus
BLOCK = {"decision": "block", "score": 100, "reasons": ["Fraud detected: High amount", "Country KP is blocked"]}
REVIEW = {"decision": "review", "score": 50, "reasons": ["Country NG needs a review"]}


def waiting_for_customer(**fields: Any) -> Story:
    story = Story.begin(**fields)
    story.send()
    story.hear(_C.ACTION_REQUIRED)
    return story


# -- create ------------------------------------------------------------------------------------------


def test_a_payment_is_born_created_with_its_order_attempted() -> None:
    story = Story.begin(factories.make_order())
    assert (story.payment.status, story.payment.version) == (_P.CREATED, 1)
    assert story.state.order is not None
    assert story.state.order.status is OrderStatus.ATTEMPTED
    assert story.state.order.live_payment_id == story.payment.id


def test_a_blocked_payment_is_born_failed_and_leaves_the_order_alone() -> None:
    order = factories.make_order()
    payment = factories.make_payment(order_id=order.id, risk=BLOCK)
    change = payments.create(payment, order, None, TIMING, NOW)
    assert change.payment is not None
    assert change.payment.error is not None
    assert (change.payment.status, change.payment.error.code) == (_P.FAILED, ErrorCode.RISK_BLOCKED)
    assert "High amount" in change.payment.error.message
    assert change.payment.due_at is None
    assert change.order is None
    assert [event.type for event in change.events] == ["payment.created", "payment.failed"]


def test_a_doubtful_payment_waits_for_a_person_until_it_expires() -> None:
    story = Story.begin(factories.make_order(), risk=REVIEW)
    assert (story.payment.status, story.payment.due_at) == (_P.REQUIRES_REVIEW, story.payment.expires_at)
    assert story.state.order is not None
    assert story.state.order.live_payment_id == story.payment.id


def test_a_customer_who_changes_the_method_replaces_the_payment_in_one_change() -> None:
    story = waiting_for_customer(order=factories.make_order())
    payment = factories.make_payment(order_id=story.payment.order_id)
    change = payments.create(payment, story.state.order, story.state, TIMING, NOW)
    assert change.also is not None
    assert change.also.payment is not None
    assert change.order is not None
    assert (change.also.payment.status, change.also.order) == (_P.CANCELED, None)
    assert change.order.live_payment_id == payment.id
    assert change.also.attempts[0].due_at == later(TIMING.watch[0])  # its late success will be found


def test_a_blocked_payment_replaces_nothing() -> None:
    story = waiting_for_customer(order=factories.make_order())
    payment = factories.make_payment(order_id=story.payment.order_id, risk=BLOCK)
    change = payments.create(payment, story.state.order, story.state, TIMING, NOW)
    assert change.also is None  # or the order would stay tied to a canceled payment for ever
    assert change.order is None


@pytest.mark.parametrize("status", sorted({_A.SENT, _A.UNKNOWN, _A.PENDING, _A.MANUAL_REVIEW}))
def test_a_payment_with_a_charge_under_way_is_never_given_up(status: AttemptStatus) -> None:
    payment = factories.make_payment(status=_P.PROCESSING)
    attempt = factories.make_attempt(payment, status=status)
    state = factories.state_of(
        factories.make_payment(id=payment.id, status=_P.PROCESSING, open_attempt=attempt.id), [attempt]
    )
    with pytest.raises(IllegalMove, match="may be a charge already"):
        payments.give_up(state, _P.CANCELED, TIMING, NOW)


@pytest.mark.parametrize("to", [_P.CANCELED, _P.EXPIRED])
def test_giving_up_lets_the_order_go_and_watches_the_attempt(to: PaymentStatus) -> None:
    story = waiting_for_customer(order=factories.make_order())
    story.apply(payments.give_up(story.state, to, TIMING, story.now))
    assert story.payment.status is to
    assert (story.attempt().status, story.attempt().due_at) == (_A.CANCELED, later(TIMING.watch[0]))
    story.hear(_C.SUCCEEDED)
    assert (story.payment.status, story.attempt().status) == (to, _A.LATE_SUCCEEDED)
    assert story.attempt().due_at is None


def test_an_expired_payment_says_why() -> None:
    story = expired(Story.begin())
    story.apply(payments.give_up(story.state, _P.EXPIRED, TIMING, story.now))
    assert story.payment.error is not None
    assert story.payment.error.code is ErrorCode.EXPIRED


def test_without_a_provider_the_payment_fails_with_the_decision_in_its_event() -> None:
    story = Story.begin(factories.make_order())
    nobody = factories.decision()
    story.apply(payments.fail_without_route(story.state, nobody, NOW))
    assert story.payment.error is not None
    assert (story.payment.status, story.payment.error.code) == (_P.FAILED, ErrorCode.NO_ROUTE)
    assert story.events[-1].data["route"] == nobody.as_dict()


def test_without_another_provider_the_last_attempts_reason_stays() -> None:
    story = Story.begin()
    story.send()
    story.hear(_C.DECLINED, next_within=always)
    story.apply(payments.fail_without_route(story.state, factories.decision(), NOW))
    assert story.payment.error == factories.TECHNICAL


# -- attempts ----------------------------------------------------------------------------------------


def test_an_attempt_is_born_sent_with_deadline_lease_and_reason() -> None:
    story = Story.begin()
    attempt = story.send()
    assert (attempt.status, attempt.number, attempt.amount) == (_A.SENT, 1, AMOUNT)
    assert attempt.deadline_at == later(TIMING.call)
    assert story.payment.due_at == later(TIMING.call + TIMING.lease)
    assert attempt.route == factories.decision(candidate()).as_dict()


def test_review_approval_starts_the_next_run_and_rejection_fails() -> None:
    story = Story.begin(risk=REVIEW)
    change = payments.approve(story.state, TIMING, NOW, "known customer", by="key_1")
    assert change.payment is not None
    assert (change.payment.status, change.payment.run) == (_P.PROCESSING, 2)
    story.apply(payments.reject(story.state, NOW, "stolen card", by="key_1"))
    assert story.payment.error is not None
    assert (story.payment.status, story.payment.error.code) == (_P.FAILED, ErrorCode.REVIEW_REJECTED)


def test_resuming_raises_the_run_and_renews_the_lease() -> None:
    story = Story.begin()
    story.wait(500)
    story.apply(payments.resume(story.state, TIMING, story.now, "overdue"))
    assert (story.payment.run, story.payment.due_at) == (2, later(500 + TIMING.lease))


def test_parking_flags_once_and_leaves_the_lease_to_the_sweeper() -> None:
    story = Story.begin()
    due = story.payment.due_at
    story.apply(payments.park(story.state, NOW, "x" * 1000))
    assert (story.payment.needs_attention, story.payment.due_at) == (True, due)
    assert len(str(story.events[-1].data["reason"])) == 300
    assert payments.park(story.state, NOW, "again") is None
    assert payments.park(succeeded().state, NOW, "over") is None


def test_a_watched_attempt_is_looked_at_as_often_as_the_schedule_says() -> None:
    story = waiting_for_customer()
    story.apply(payments.give_up(story.state, _P.CANCELED, TIMING, NOW))
    attempt, looks = story.attempt(), 0
    while attempt.due_at is not None:
        attempt = payments.watched(attempt, TIMING, attempt.due_at)
        looks += 1
    assert looks == len(TIMING.watch)


# -- the end of an authorization ---------------------------------------------------------------------


def run_out(story: Story, *, lapse: bool) -> None:
    story.apply(
        payments.expire_authorized(
            story.state,
            story.attempt(),
            lapse=lapse,
            lapse_window=AUTHORIZATION_WINDOW,
            timing=TIMING,
            now=story.now,
        )
    )


def test_an_authorization_that_runs_out_is_voided_where_there_is_a_void() -> None:
    story = expired(authorized())
    run_out(story, lapse=False)
    void = story.operation()
    assert (void.type, void.source, story.payment.status) == (_T.VOID, "system", _P.AUTHORIZED)
    assert story.events[-1].operation_id == void.id


def test_an_authorization_that_runs_out_lapses_where_there_is_no_void() -> None:
    story = expired(authorized(order=factories.make_order()))
    run_out(story, lapse=True)
    assert (story.payment.status, story.attempt().status) == (_P.EXPIRED, _A.EXPIRED)
    assert (story.operation().status, story.payment.open_operation) == (_X.SENT, None)
    story.hear(_C.CANCELED)
    assert story.operation().status is _X.SUCCEEDED  # the release was awaited and is confirmed
    assert story.types.count("payment.expired") == 1


def test_money_taken_from_an_authorization_that_was_to_lapse_is_given_back() -> None:
    story = expired(authorized())
    run_out(story, lapse=True)
    story.hear(_C.SUCCEEDED)
    lapsed, reversal = story.state.operations
    assert (story.payment.status, story.attempt().status) == (_P.EXPIRED, _A.LATE_SUCCEEDED)
    assert (lapsed.status, reversal.type) == (_X.FAILED, _T.REVERSAL)


# -- orders ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [OrderStatus.CANCELED, OrderStatus.EXPIRED])
def test_an_order_ends_only_while_no_payment_is_live(status: OrderStatus) -> None:
    order = factories.make_order()
    change = orders.end(order, status, NOW)
    assert change.order is not None
    assert (change.order.status, change.order.due_at, change.order.version) == (status, None, 2)
    assert [event.type for event in change.events] == [f"order.{status}"]
    with pytest.raises(StateConflict) as live:
        orders.end(factories.make_order(live_payment_id="pay_1"), status, NOW)
    assert live.value.code == "order_has_live_payment"


@pytest.mark.parametrize("final", [OrderStatus.PAID, OrderStatus.CANCELED, OrderStatus.EXPIRED])
def test_an_order_that_is_over_neither_ends_again_nor_takes_a_payment(final: OrderStatus) -> None:
    order = factories.make_order(status=final)
    with pytest.raises(StateConflict):
        orders.end(order, OrderStatus.CANCELED, NOW)
    with pytest.raises(StateConflict):
        orders.check_payable(order, amount=AMOUNT, currency="INR", now=NOW)


@pytest.mark.parametrize(
    ("wish", "code"), [({"amount": AMOUNT - 1}, "amount_mismatch"), ({"currency": "USD"}, "currency_mismatch")]
)
def test_a_payment_of_another_size_than_its_order_is_refused(wish: dict[str, Any], code: str) -> None:
    fields: dict[str, Any] = {"amount": AMOUNT, "currency": "INR", "now": NOW} | wish
    with pytest.raises(InvalidRequest) as refused:
        orders.check_payable(factories.make_order(), **fields)
    assert (refused.value.code, refused.value.status) == (code, 422)


def test_an_order_past_its_time_takes_no_payment_even_before_the_sweeper_comes() -> None:
    order = factories.make_order()
    with pytest.raises(StateConflict) as refused:
        orders.check_payable(order, amount=AMOUNT, currency="INR", now=order.expires_at)
    assert refused.value.code == "order_expired"


def test_a_failed_payment_gives_its_order_back_its_own_end() -> None:
    order = factories.make_order()
    story = Story.begin(order)
    story.send()
    story.hear(_C.DECLINED)
    assert story.state.order is not None
    assert (story.state.order.status, story.state.order.due_at) == (OrderStatus.ATTEMPTED, order.expires_at)
    orders.check_payable(story.state.order, amount=AMOUNT, currency="INR", now=NOW)


# -- the workflow ------------------------------------------------------------------------------------


def half() -> float:
    return 0.5


def states_of_a_payment() -> dict[str, Story]:
    """A payment in every state that the workflow can meet."""
    unknown = Story.begin()
    unknown.send()
    unknown.apply(
        charges.record_unknown(unknown.state, unknown.attempt(), LOST, None, resolved=False, timing=TIMING, now=NOW)
    )
    exhausted = Story.begin()
    exhausted.send()
    for _ in TIMING.resolve:
        exhausted.apply(
            charges.record_unknown(
                exhausted.state, exhausted.attempt(), LOST, None, resolved=True, timing=TIMING, now=NOW
            )
        )
    declined = Story.begin()
    declined.send()
    declined.hear(_C.DECLINED, next_within=always)
    pending = Story.begin()
    pending.send()
    pending.hear(_C.PENDING)
    sent = Story.begin()
    sent.send()
    failed = Story.begin()
    failed.send()
    failed.hear(_C.DECLINED)
    return {
        "created": Story.begin(), "sent": sent, "unknown": unknown, "exhausted": exhausted, "declined": declined,
        "pending": pending, "action": waiting_for_customer(), "authorized": authorized(), "succeeded": succeeded(),
        "failed": failed, "review": Story.begin(risk=REVIEW),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "outcome", "wait"),
    [
        ("created", "retry", 1.0),
        ("declined", "retry", 1.0),
        ("sent", "resolve", TIMING.call),
        ("unknown", "resolve", TIMING.resolve[0]),
        ("exhausted", "done", 0.0),  # the sweeper owns it now
        ("pending", "done", 0.0),
        ("action", "done", 0.0),
        ("authorized", "done", 0.0),
        ("succeeded", "done", 0.0),
        ("failed", "done", 0.0),
        ("review", "done", 0.0),
    ],
)
def test_the_next_step_is_read_off_the_state(name: str, outcome: str, wait: float) -> None:
    step = next_step(states_of_a_payment()[name].state, TIMING, NOW, half)
    assert (step.outcome, step.wait) == (outcome, wait)


@given(st.integers(0, 50), st.floats(0, 1))
def test_the_backoff_never_exceeds_its_cap(attempts: int, jitter: float) -> None:
    assert 0 <= backoff_wait(TIMING.backoff, TIMING.backoff_cap, attempts, lambda: jitter) <= TIMING.backoff_cap


def outcomes_of_the_domain() -> set[str]:
    """Every outcome that next_step can give, by running it over every state."""
    return {next_step(story.state, TIMING, NOW, half).outcome for story in states_of_a_payment().values()}


def test_the_workflow_routes_every_outcome_of_the_domain_and_no_other() -> None:
    outcome = payment_definition()["States"]["Outcome"]
    routed = [choice["StringEquals"] for choice in outcome["Choices"]]
    assert sorted(routed) == sorted(outcomes_of_the_domain())
    assert sorted(routed) == sorted(get_args(get_type_hints(payments.Step)["outcome"]))


def test_each_outcome_leads_where_the_domain_means_it_to() -> None:
    states = payment_definition()["States"]
    target = {choice["StringEquals"]: choice["Next"] for choice in states["Outcome"]["Choices"]}
    assert states[target["done"]]["Type"] == "Succeed"
    for outcome, task in (("retry", "Attempt"), ("resolve", "Resolve")):
        wait = states[target[outcome]]
        assert (wait["Type"], wait["SecondsPath"]) == ("Wait", "$.result.wait_seconds")
        assert wait["Next"] == task
        assert states[task]["Resource"] == task.lower()
        assert states[task]["Next"] == "Outcome"
    assert states[states["Outcome"]["Default"]]["Next"] == "Park"  # what nobody knows is for a person


def test_every_state_of_the_workflow_can_be_reached_and_ends() -> None:
    definition = payment_definition()
    seen: set[str] = set()
    queue = [definition["StartAt"]]
    while queue:
        name = queue.pop()
        if name in seen:
            continue
        seen.add(name)
        state = definition["States"][name]
        queue += [state[key] for key in ("Next", "Default") if key in state]
        queue += [way["Next"] for key in ("Choices", "Catch") for way in state.get(key, ())]
        assert state["Type"] in ("Succeed", "Fail", "Choice") or "Next" in state
    assert seen == set(definition["States"])


# -- events ------------------------------------------------------------------------------------------


def test_public_events_carry_a_small_payment_without_personal_details() -> None:
    story = Story.begin(
        factories.make_order(),
        customer={"email": "asha@canary.example", "contact": "+919876543210", "country": "IN"},
        description="d" * 255,
        metadata={f"key{n}": "v" * 500 for n in range(10)},
        method={"type": "upi", "flow": "collect", "vpa": "asha@okbank"},
    )
    story.send()
    story.hear(_C.DECLINED)
    for event in story.events:
        text = json.dumps(event.data)
        assert len(text) <= 1024, event.type
        for secret in ("asha", "98765", "vvv"):
            assert secret not in text
        if event.type in draft.PUBLIC_EVENTS:
            assert "payment" in event.data or "order" in event.data
