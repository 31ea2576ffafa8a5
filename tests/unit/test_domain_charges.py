"""What providers say about charges, in every order: one charge is kept, the others are given back."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest

from chalicelib.domain import charges, operations, payments
from chalicelib.domain.charges import NOT_FOUND_READS, Mismatch
from chalicelib.domain.errors import ErrorClass, ErrorCode
from chalicelib.domain.outcome import Charge, ChargeStatus, EffectStatus, Exchange
from chalicelib.domain.states import AttemptStatus, OperationStatus, OperationType, OrderStatus, PaymentStatus
from tests.support import factories
from tests.support.factories import AMOUNT, ISSUER, LOST, NOW, REFUSED, TIMING, later
from tests.support.story import AUTHORIZATION_WINDOW, Story, always, authorized, never, succeeded

_A, _P, _C, _T, _X = AttemptStatus, PaymentStatus, ChargeStatus, OperationType, OperationStatus
SETTLE = 30.0


def sent(**fields: Any) -> Story:
    story = Story.begin(**fields)
    story.send()
    return story


def not_found(story: Story, *, next_within: Any = never) -> None:
    story.apply(
        charges.record_not_found(
            story.state,
            story.attempt(),
            None,
            settle_window=SETTLE,
            next_within=next_within,
            timing=TIMING,
            now=story.now,
        )
    )


def unknown(story: Story, *, resolved: bool) -> None:
    story.apply(
        charges.record_unknown(
            story.state, story.attempt(), LOST, None, resolved=resolved, timing=TIMING, now=story.now
        )
    )


def not_sent(story: Story, *, next_within: Any = never) -> None:
    story.apply(
        charges.record_not_sent(
            story.state, story.attempt(), REFUSED, None, next_within=next_within, timing=TIMING, now=story.now
        )
    )


# -- when to come back -------------------------------------------------------------------------------


def test_when_a_refusal_says_when_to_come_back_its_attempt_keeps_it() -> None:
    story = sent()
    story.apply(
        charges.record_not_sent(
            story.state, story.attempt(), REFUSED, None, next_within=lambda _: 40.0, timing=TIMING, now=story.now,
            retry_after=40.0,
        )
    )  # fmt: skip
    assert story.attempt().retry_at == later(40)
    assert story.payment.due_at == later(40 + TIMING.lease)  # nobody looks sooner


def test_when_a_decline_says_when_to_come_back_its_attempt_keeps_it() -> None:
    story = sent()
    story.hear(_C.DECLINED, error=factories.TECHNICAL, retry_after=7.0, next_within=always)
    assert story.attempt().retry_at == later(7)


@pytest.mark.parametrize(("asked", "wait"), [(None, 15.0), (40.0, 40.0), (3600.0, 300.0)])
def test_an_unknown_charge_stays_unknown_and_is_looked_at_when_its_provider_said(
    asked: float | None, wait: float
) -> None:
    story = sent()
    story.apply(
        charges.record_unknown(
            story.state, story.attempt(), LOST, None, resolved=False, timing=TIMING, now=story.now, retry_after=asked
        )
    )
    assert (story.attempt().status, story.payment.open_attempt) == (_A.UNKNOWN, story.attempt().id)
    assert story.payment.due_at == later(wait + TIMING.lease)
    step = payments.next_step(story.state, TIMING, story.now, lambda: 1.0)
    assert (step.outcome, step.wait) == ("resolve", wait)


def test_an_answer_that_asks_for_nothing_does_not_take_back_what_an_earlier_one_asked_for() -> None:
    story = sent()
    story.apply(
        charges.record_unknown(
            story.state, story.attempt(), LOST, None, resolved=False, timing=TIMING, now=story.now, retry_after=60.0
        )
    )
    story.hear(_C.DECLINED, error=factories.TECHNICAL, next_within=always)
    assert story.attempt().retry_at == later(60)


# -- while the payment waits -------------------------------------------------------------------------


def test_a_success_pays_the_payment_and_its_order_in_one_change() -> None:
    story = sent(order=factories.make_order())
    change = story.hear(_C.SUCCEEDED)
    assert change is not None
    assert change.payment is not None
    assert change.order is not None
    payment = story.payment
    assert (payment.status, payment.amount_captured, payment.amount_refundable) == (_P.SUCCEEDED, AMOUNT, AMOUNT)
    assert (payment.winning_attempt, payment.open_attempt, payment.due_at) == (story.attempt().id, None, None)
    assert change.order.status is OrderStatus.PAID
    assert [journal.type for journal in change.journals] == ["capture"]
    assert [event.type for event in change.events] == ["order.paid", "payment.succeeded"]


def test_a_partial_capture_by_the_provider_pays_the_order_too() -> None:
    story = succeeded(factories.make_order(), captured=AMOUNT - 1)
    assert story.payment.amount_captured == story.payment.amount_refundable == AMOUNT - 1
    assert story.state.order is not None
    assert story.state.order.status is OrderStatus.PAID


def test_an_automatic_authorization_creates_the_capture_for_the_operations_queue() -> None:
    story = authorized("automatic")
    capture = story.operation()
    assert (capture.type, capture.status, capture.amount, capture.source) == (_T.CAPTURE, _X.PENDING, AMOUNT, "system")
    assert story.payment.open_operation == capture.id
    assert story.events[-1].operation_id == capture.id


def test_a_manual_authorization_waits_until_the_providers_limit() -> None:
    story = authorized()
    assert not story.state.operations
    assert story.payment.expires_at == story.payment.due_at == later(AUTHORIZATION_WINDOW)


def test_a_decline_without_a_way_on_fails_the_payment_with_the_providers_reason() -> None:
    story = sent(order=factories.make_order())
    story.hear(_C.DECLINED, error=ISSUER)
    assert (story.payment.status, story.payment.error) == (_P.FAILED, ISSUER)
    assert story.state.order is not None
    assert story.state.order.live_payment_id is None
    assert story.state.order.due_at == story.state.order.expires_at


def test_a_decline_with_a_way_on_waits_for_the_next_attempt_under_a_lease() -> None:
    story = sent()
    story.hear(_C.DECLINED, next_within=always)
    assert (story.payment.status, story.payment.open_attempt) == (_P.PROCESSING, None)
    assert story.payment.due_at == later(TIMING.backoff_cap + TIMING.lease)
    assert story.send("b").number == 2


def test_a_charge_the_customer_gave_up_fails_with_that_reason() -> None:
    story = sent()
    story.hear(_C.CANCELED)
    assert story.payment.error is not None
    assert (story.attempt().status, story.payment.error.code) == (_A.CANCELED, ErrorCode.CUSTOMER_CANCELED)


def test_an_action_is_shown_until_it_is_done() -> None:
    story = sent()
    story.hear(_C.ACTION_REQUIRED)
    assert story.payment.status is _P.REQUIRES_ACTION
    assert story.payment.next_action == {"type": "redirect", "url": "https://bank.example/3ds"}
    assert story.hear(_C.PENDING) is None  # tells nothing new while we wait for the customer
    story.hear(_C.SUCCEEDED)
    assert story.payment.next_action is None


def test_a_pending_charge_is_polled_and_told_once() -> None:
    story = sent()
    story.hear(_C.PENDING)
    assert story.payment.due_at == later(TIMING.poll)
    assert story.hear(_C.PENDING) is None


def test_an_action_is_never_polled_past_the_payments_time() -> None:
    story = sent()
    story.now = story.payment.expires_at
    story.hear(_C.ACTION_REQUIRED)
    assert story.payment.due_at == story.payment.expires_at


@pytest.mark.parametrize(
    "fields", [{"amount": AMOUNT + 1}, {"amount": 0}, {"currency": "USD"}, {"captured": AMOUNT + 1}, {"captured": -1}]
)
@pytest.mark.parametrize("status", sorted(_C))
def test_a_statement_about_other_money_is_never_believed(status: ChargeStatus, fields: dict[str, Any]) -> None:
    story = sent()
    with pytest.raises(Mismatch, match=story.attempt().id):
        story.hear(factories.charge(status, **fields))


def test_a_currency_is_compared_without_regard_to_case() -> None:
    story = sent()
    story.hear(_C.SUCCEEDED, amount=AMOUNT, currency="inr")
    assert story.payment.status is _P.SUCCEEDED


def test_the_call_is_shown_in_the_event_without_bodies() -> None:
    story = sent()
    story.hear(_C.SUCCEEDED, exchange=Exchange("POST", "/v1/charges", 201, 87, "req_1"))
    assert story.events[-1].data["call"] == {
        "method": "POST", "path": "/v1/charges", "http_status": 201, "latency_ms": 87, "request_id": "req_1",
    }  # fmt: skip


@pytest.mark.parametrize("said", [_C.DECLINED, _C.CANCELED])
def test_an_attempt_that_ended_is_watched_for_a_late_success(said: ChargeStatus) -> None:
    story = sent()
    story.hear(said)
    assert (story.attempt().due_at, story.attempt().resolves) == (later(TIMING.watch[0]), 0)
    story.hear(_C.SUCCEEDED)
    assert story.attempt().due_at is None  # the reversal looks after it now


def test_what_two_look_ups_did_not_find_is_watched_and_what_was_refused_is_not() -> None:
    story = sent()
    not_sent(story)
    assert story.attempt().due_at is None
    story = sent()
    story.wait(TIMING.call + SETTLE)
    not_found(story)
    not_found(story)
    assert story.attempt().due_at == later(TIMING.call + SETTLE + TIMING.watch[0])


def test_a_new_provider_reference_becomes_a_way_to_the_payment() -> None:
    story = sent()
    change = story.hear(_C.PENDING, provider_reference="ch_7")
    assert change is not None
    assert [(r.key, r.payment_id) for r in change.references] == [("acct_a/ch_7", story.payment.id)]
    change = story.hear(_C.SUCCEEDED, provider_reference="ch_7")
    assert change is not None
    assert not change.references


def test_what_the_adapter_needs_for_later_calls_is_kept_and_added_to() -> None:
    story = sent()
    story.hear(_C.PENDING, data={"order": "o_1"})
    story.hear(_C.SUCCEEDED, data={"token": "t_1"})
    assert story.attempt().data == {"order": "o_1", "token": "t_1"}


def test_told_twice_changes_nothing() -> None:
    for status in (_C.SUCCEEDED, _C.AUTHORIZED, _C.DECLINED, _C.ACTION_REQUIRED, _C.PENDING, _C.CANCELED):
        story = sent()
        story.hear(status)
        assert story.hear(status) is None, status


# -- nobody could say --------------------------------------------------------------------------------


def test_a_time_out_is_unknown_and_never_failed() -> None:
    story = sent()
    unknown(story, resolved=False)
    assert (story.attempt().status, story.payment.status) == (_A.UNKNOWN, _P.PROCESSING)
    assert story.payment.open_attempt == story.attempt().id
    assert story.payment.due_at == later(TIMING.resolve[0] + TIMING.lease)


def test_a_request_that_never_left_may_go_elsewhere_at_once() -> None:
    story = sent()
    not_sent(story, next_within=always)
    assert (story.attempt().status, story.payment.open_attempt) == (_A.NOT_SENT, None)
    assert story.attempt().error == REFUSED


@pytest.mark.parametrize("said", [_C.PENDING, _C.ACTION_REQUIRED, _C.SUCCEEDED, _C.AUTHORIZED, _C.DECLINED])
def test_once_the_provider_has_spoken_neither_lost_nor_missing_nor_unsent_counts(said: ChargeStatus) -> None:
    story = sent()
    story.hear(said)
    before = story.state
    story.wait(10_000)
    unknown(story, resolved=True)
    not_sent(story)
    not_found(story)
    not_found(story)
    assert story.state is before


@pytest.mark.parametrize("early", [0.0, TIMING.call - 1, TIMING.call, TIMING.call + SETTLE - 1])
def test_not_found_is_not_definite_before_deadline_and_settle_window(early: float) -> None:
    story = sent()
    story.wait(early)
    not_found(story)
    not_found(story)
    assert (story.attempt().status, story.attempt().not_found) == (_A.UNKNOWN, 0)


def test_not_found_is_definite_on_the_second_read_after_the_settle_window() -> None:
    story = sent()
    not_found(story)  # too early to count
    story.wait(TIMING.call + SETTLE)
    not_found(story, next_within=always)
    assert (story.attempt().status, story.attempt().not_found) == (_A.UNKNOWN, NOT_FOUND_READS - 1)
    not_found(story, next_within=always)
    assert (story.attempt().status, story.payment.status) == (_A.NOT_SENT, _P.PROCESSING)
    error = story.attempt().error
    assert error is not None
    assert error.error_class is ErrorClass.PROVIDER_UNAVAILABLE


def test_an_answerless_resolve_between_two_reads_does_not_forget_the_first() -> None:
    story = sent()
    story.wait(TIMING.call + SETTLE)
    not_found(story)
    unknown(story, resolved=True)
    assert story.attempt().not_found == 1
    not_found(story)
    assert story.attempt().status is _A.NOT_SENT


def test_when_the_schedule_is_over_a_person_must_look() -> None:
    story = sent()
    waits = len(TIMING.resolve) + len(TIMING.sweep)
    for _ in range(waits):
        unknown(story, resolved=True)
    assert story.attempt().status is _A.MANUAL_REVIEW
    assert (story.payment.status, story.payment.needs_attention, story.payment.due_at) == (_P.PROCESSING, True, None)
    assert story.payment.open_attempt == story.attempt().id  # still the only charge there may be


def test_a_charge_that_is_pending_for_too_long_is_for_a_person() -> None:
    story = sent()
    story.hear(_C.PENDING)
    schedule = sum(TIMING.resolve) + sum(TIMING.sweep)
    story.wait(schedule - 1)
    assert charges.record_overdue(story.state, story.attempt(), TIMING, story.now) is None
    story.wait(1)
    story.apply(charges.record_overdue(story.state, story.attempt(), TIMING, story.now))
    assert (story.attempt().status, story.payment.needs_attention) == (_A.MANUAL_REVIEW, True)
    assert charges.record_overdue(story.state, story.attempt(), TIMING, story.now) is None


@pytest.mark.parametrize("said", [_C.SUCCEEDED, _C.AUTHORIZED, _C.DECLINED, _C.CANCELED])
def test_a_manual_review_ends_with_the_providers_word(said: ChargeStatus) -> None:
    story = sent()
    for _ in range(len(TIMING.resolve) + len(TIMING.sweep)):
        unknown(story, resolved=True)
    assert story.hear(_C.PENDING) is None
    story.hear(said)
    assert story.payment.open_attempt is None
    assert not story.payment.needs_attention


# -- late -------------------------------------------------------------------------------------------


def let_go(how: str) -> Story:
    """A payment that is over, and an attempt that is not the reason for it."""
    story = sent(order=factories.make_order())
    if how == "declined":
        story.hear(_C.DECLINED, error=ISSUER)
    elif how == "not_sent":
        not_sent(story)
    elif how == "canceled":
        story.hear(_C.CANCELED)
    return story


@pytest.mark.parametrize("how", ["declined", "not_sent", "canceled"])
def test_a_late_success_is_given_back_and_the_payment_does_not_move(how: str) -> None:
    story = let_go(how)
    before = story.payment
    change = story.hear(_C.SUCCEEDED, captured=700)
    assert change is not None
    assert (story.attempt().status, story.attempt().captured) == (_A.LATE_SUCCEEDED, 700)
    reversal = story.operation()
    assert (reversal.type, reversal.amount, reversal.status) == (_T.REVERSAL, 700, _X.PENDING)
    assert change.events[-1].operation_id == reversal.id
    assert [journal.type for journal in change.journals] == ["late_charge"]
    assert replace(story.payment, version=0, updated_at=NOW) == replace(before, version=0, updated_at=NOW)
    assert change.order is None
    assert story.hear(_C.SUCCEEDED, captured=700) is None


def test_a_late_success_of_an_earlier_attempt_leaves_the_later_one_alone() -> None:
    story = sent()
    story.hear(_C.DECLINED, next_within=always)
    story.send("b")
    story.hear(_C.SUCCEEDED, 1)
    assert (story.payment.status, story.payment.open_attempt) == (_P.PROCESSING, story.attempt(2).id)
    story.hear(_C.SUCCEEDED, 2, provider_reference="ch_2")
    assert story.payment.winning_attempt == story.attempt(2).id
    assert story.attempt(1).status is _A.LATE_SUCCEEDED
    assert story.payment.amount_captured == AMOUNT


def test_money_held_late_is_released_without_a_journal() -> None:
    story = let_go("declined")
    change = story.hear(_C.AUTHORIZED)
    assert change is not None
    assert (story.attempt().status, story.attempt().captured) == (_A.LATE_SUCCEEDED, 0)
    assert not change.journals
    assert story.operation().amount == AMOUNT


def test_money_held_late_and_taken_since_is_booked_and_given_back_once() -> None:
    story = let_go("declined")
    story.hear(_C.AUTHORIZED)
    change = story.hear(_C.SUCCEEDED)
    assert change is not None
    assert [journal.type for journal in change.journals] == ["late_charge"]
    assert len(story.state.operations) == 1
    done = operations.record_effect(
        story.state,
        story.operation(),
        factories.effect(EffectStatus.SUCCEEDED),
        timing=TIMING,
        now=NOW,
        source="webhook",
    )
    story.apply(done)
    assert story.attempt().status is _A.REVERSED


def test_money_held_late_and_released_by_the_provider_ends_the_reversal() -> None:
    story = let_go("declined")
    story.hear(_C.AUTHORIZED)
    story.hear(_C.CANCELED)
    assert (story.attempt().status, story.operation().status) == (_A.REVERSED, _X.SUCCEEDED)
    assert story.types[-1] == "payment.reversal_succeeded"
    assert not story.journals


@pytest.mark.parametrize("how", ["declined", "not_sent", "canceled"])
@pytest.mark.parametrize("said", [_C.PENDING, _C.ACTION_REQUIRED, _C.DECLINED, _C.CANCELED])
def test_anything_but_money_is_no_news_of_an_attempt_let_go(how: str, said: ChargeStatus) -> None:
    assert let_go(how).hear(said) is None


@pytest.mark.parametrize("reversal_is", ["declined", "authorized", "captured"])
def test_nothing_is_heard_of_a_charge_that_has_been_given_back(reversal_is: str) -> None:
    story = let_go("declined")
    story.hear(_C.SUCCEEDED)
    told = factories.effect(EffectStatus.SUCCEEDED)
    story.apply(
        operations.record_effect(story.state, story.operation(), told, timing=TIMING, now=NOW, source="webhook")
    )
    said = {"declined": _C.DECLINED, "authorized": _C.AUTHORIZED, "captured": _C.SUCCEEDED}[reversal_is]
    assert story.hear(said) is None


# -- the money is held -------------------------------------------------------------------------------


def test_a_capture_in_the_providers_dashboard_succeeds_the_payment() -> None:
    story = authorized(order=factories.make_order())
    story.hear(_C.SUCCEEDED, captured=1000)
    assert (story.payment.status, story.payment.amount_captured, story.attempt().status) == (
        _P.SUCCEEDED,
        1000,
        _A.CAPTURED,
    )


def test_a_capture_heard_by_webhook_ends_our_own_capture_with_the_amount_taken() -> None:
    story = authorized("automatic")
    story.hear(_C.SUCCEEDED, captured=1000)
    assert (story.operation().status, story.operation().amount) == (_X.SUCCEEDED, 1000)
    assert story.payment.open_operation is None


def test_a_void_that_met_a_capture_has_failed() -> None:
    story = authorized()
    change, _ = operations.request_void(story.state, lapse=False, lapse_window=0, timing=TIMING, now=NOW)
    story.apply(change)
    story.hear(_C.SUCCEEDED)
    assert (story.payment.status, story.operation().status) == (_P.SUCCEEDED, _X.FAILED)


def test_a_release_in_the_providers_dashboard_cancels_the_payment() -> None:
    story = authorized("automatic", order=factories.make_order())
    story.hear(_C.CANCELED)
    assert (story.payment.status, story.attempt().status) == (_P.CANCELED, _A.VOIDED)
    assert story.operation().status is _X.FAILED  # the capture will never be
    assert story.state.order is not None
    assert story.state.order.live_payment_id is None


def test_a_release_after_the_limit_expires_the_payment() -> None:
    story = authorized()
    story.wait(AUTHORIZATION_WINDOW)
    story.hear(_C.CANCELED)
    assert (story.payment.status, story.attempt().status) == (_P.EXPIRED, _A.EXPIRED)


@pytest.mark.parametrize("past", [0.0, AUTHORIZATION_WINDOW])
def test_money_taken_after_we_let_go_of_an_authorization_is_given_back(past: float) -> None:
    story = authorized()
    story.wait(past)
    story.hear(_C.CANCELED)
    story.hear(_C.SUCCEEDED)
    assert story.attempt().status is _A.LATE_SUCCEEDED
    assert story.operation().type is _T.REVERSAL


@pytest.mark.parametrize("said", [_C.AUTHORIZED, _C.PENDING, _C.ACTION_REQUIRED, _C.DECLINED])
def test_an_older_answer_does_not_undo_an_authorization(said: ChargeStatus) -> None:
    assert authorized().hear(said) is None


# -- all orders of arrival ---------------------------------------------------------------------------

FACTS: list[Charge] = [
    factories.charge(_C.ACTION_REQUIRED),
    factories.charge(_C.PENDING),
    factories.charge(_C.AUTHORIZED),
    factories.charge(_C.SUCCEEDED),
]


@pytest.mark.parametrize("facts", list(permutations(FACTS)))
def test_the_same_facts_in_any_order_come_to_the_same_end(facts: tuple[Charge, ...]) -> None:
    story = sent(capture="manual")
    for fact in (*facts, *facts):
        story.hear(fact)
    assert (story.payment.status, story.payment.amount_captured) == (_P.SUCCEEDED, AMOUNT)
    assert ledger_of(story) == {"provider:sim_a:receivable": AMOUNT, "merchant:payable": -AMOUNT}


def ledger_of(story: Story) -> dict[str, int]:
    balances: dict[str, int] = {}
    for journal in story.journals:
        for leg in journal.legs:
            balances[leg.account] = balances.get(leg.account, 0) + leg.amount
    return balances
