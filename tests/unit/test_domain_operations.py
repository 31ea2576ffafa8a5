"""Captures, voids, refunds and reversals: what is accepted, and what becomes of it and of the money."""

from __future__ import annotations

from itertools import permutations
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.domain import operations, payments
from chalicelib.domain.errors import InvalidRequest, StateConflict
from chalicelib.domain.outcome import ChargeStatus, EffectStatus
from chalicelib.domain.states import AttemptStatus, OperationStatus, OperationType, OrderStatus, PaymentStatus
from tests.support import factories
from tests.support.factories import AMOUNT, ISSUER, LOST, NOW, TIMING, later
from tests.support.story import AUTHORIZATION_WINDOW, Story, authorized, expired, succeeded

if TYPE_CHECKING:
    from chalicelib.domain.model import Change, Operation

_A, _P, _C, _T, _X, _E = AttemptStatus, PaymentStatus, ChargeStatus, OperationType, OperationStatus, EffectStatus


def capture(story: Story, amount: int | None = None, *, partial: bool = True) -> Operation:
    change, operation = operations.request_capture(story.state, amount, partial=partial, timing=TIMING, now=story.now)
    story.apply(change)
    return operation


def void(story: Story, *, lapse: bool = False) -> Operation:
    change, operation = operations.request_void(
        story.state, lapse=lapse, lapse_window=AUTHORIZATION_WINDOW, timing=TIMING, now=story.now
    )
    story.apply(change)
    return operation


def run_out(story: Story, *, lapse: bool = False) -> None:
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


def refund(story: Story, amount: int | None = None, *, partial: bool = True) -> Operation:
    change, operation = operations.request_refund(
        story.state, amount, "changed my mind", partial=partial, timing=TIMING, now=story.now
    )
    story.apply(change)
    return operation


def call(story: Story, number: int = -1) -> None:
    story.apply(operations.begin(story.state, story.operation(number), TIMING, story.now))


def tell(story: Story, status: EffectStatus, number: int = -1, **fields: Any) -> Change | None:
    told = factories.effect(status, **fields)
    return story.apply(
        operations.record_effect(
            story.state, story.operation(number), told, timing=TIMING, now=story.now, source="webhook"
        )
    )


def lose(story: Story, number: int = -1) -> Change | None:
    change = operations.record_unknown(story.state, story.operation(number), LOST, None, timing=TIMING, now=story.now)
    return story.apply(change)


def refund_at_provider(story: Story, amount: int, reference: str = "dash_1", status: EffectStatus = _E.SUCCEEDED,
                       number: int = -1) -> Change | None:  # fmt: skip
    told = factories.effect(status, amount=amount, provider_reference=reference)
    excess = amount > story.payment.amount_refundable
    return story.apply(
        operations.provider_refund(story.state, story.attempt(number), told, excess=excess, now=story.now)
    )


def money(story: Story) -> tuple[int, int, int]:
    payment = story.payment
    return payment.amount_refundable, payment.amount_refunding, payment.amount_refunded


def types_booked(story: Story) -> list[str]:
    return [journal.type for journal in story.journals]


# -- capture and void --------------------------------------------------------------------------------


def test_a_capture_is_accepted_once_and_handed_to_the_queue() -> None:
    story = authorized()
    made = capture(story)
    assert (made.type, made.amount, made.status) == (_T.CAPTURE, AMOUNT, _X.PENDING)
    assert story.events[-1].operation_id == made.id
    for again in (capture, void):
        with pytest.raises(StateConflict) as refused:
            again(story)
        assert (refused.value.code, refused.value.status) == ("operation_in_progress", 409)


def test_a_partial_capture_pays_the_order_and_gives_up_the_rest() -> None:
    story = authorized(order=factories.make_order())
    capture(story, 1000)
    call(story)
    tell(story, _E.SUCCEEDED)
    assert (story.payment.status, story.payment.amount_captured, story.payment.amount_authorized) == (
        _P.SUCCEEDED,
        1000,
        AMOUNT,
    )
    assert money(story) == (1000, 0, 0)
    assert story.attempt().status is _A.CAPTURED
    assert story.state.order is not None
    assert story.state.order.status is OrderStatus.PAID


@pytest.mark.parametrize(
    ("amount", "partial", "code"),
    [(AMOUNT + 1, True, "amount_too_large"), (1, False, "partial_capture_unsupported")],
)
def test_a_capture_that_cannot_be_is_refused_naming_the_amount(amount: int, partial: bool, code: str) -> None:  # noqa: FBT001
    with pytest.raises(InvalidRequest) as refused:
        capture(authorized(), amount, partial=partial)
    assert (refused.value.code, refused.value.param) == (code, "amount")


def test_the_full_amount_needs_no_partial_captures() -> None:
    assert capture(authorized(), AMOUNT, partial=False).amount == AMOUNT


@pytest.mark.parametrize("ask", [capture, void])
def test_only_an_authorized_payment_can_be_captured_or_voided(ask: Any) -> None:
    for story in (Story.begin(), succeeded()):
        with pytest.raises(StateConflict):
            ask(story)


def test_a_failed_capture_leaves_the_authorization_for_another_try() -> None:
    story = authorized()
    capture(story)
    call(story)
    tell(story, _E.FAILED)
    assert (story.payment.status, story.payment.open_operation) == (_P.AUTHORIZED, None)
    assert not story.payment.needs_attention  # the merchant asked and the merchant sees it
    assert capture(story).status is _X.PENDING


def test_an_automatic_capture_that_failed_is_for_a_person() -> None:
    story = authorized("automatic")
    call(story)
    tell(story, _E.FAILED)
    assert (story.payment.status, story.payment.needs_attention) == (_P.AUTHORIZED, True)


def test_a_void_cancels_with_the_providers_answer() -> None:
    story = authorized(order=factories.make_order())
    void(story)
    assert story.payment.status is _P.AUTHORIZED
    call(story)
    tell(story, _E.SUCCEEDED)
    assert (story.payment.status, story.attempt().status, story.operation().status) == (
        _P.CANCELED,
        _A.VOIDED,
        _X.SUCCEEDED,
    )
    assert story.state.order is not None
    assert story.state.order.live_payment_id is None


def test_a_merchants_void_cancels_even_after_the_limit() -> None:
    story = authorized()
    void(story)
    call(story)
    expired(story)
    tell(story, _E.SUCCEEDED)
    assert story.payment.status is _P.CANCELED


def test_the_void_of_an_authorization_that_ran_out_expires_the_payment() -> None:
    story = expired(authorized())
    run_out(story)
    call(story)
    tell(story, _E.SUCCEEDED)
    assert (story.payment.status, story.attempt().status) == (_P.EXPIRED, _A.EXPIRED)


def test_a_failed_void_of_a_lapsed_authorization_stays_with_a_person_until_it_is_settled() -> None:
    story = expired(authorized())
    run_out(story)
    call(story)
    tell(story, _E.FAILED)
    assert story.payment.needs_attention
    capture(story)  # the merchant tries what is left
    call(story)
    tell(story, _E.FAILED)
    # no lease brings this payment back: only the flag keeps it from being forgotten
    assert (story.payment.status, story.payment.due_at, story.payment.needs_attention) == (_P.AUTHORIZED, None, True)


@pytest.mark.parametrize("past", [0.0, AUTHORIZATION_WINDOW])
@pytest.mark.parametrize("told_by", ["charge", "effect"])
def test_without_a_void_the_payment_is_canceled_at_once_and_the_release_confirmed_later(
    past: float, told_by: str
) -> None:
    story = authorized(order=factories.make_order())
    made = void(story, lapse=True)
    assert (story.payment.status, story.attempt().status, story.payment.open_operation) == (
        _P.CANCELED,
        _A.VOIDED,
        None,
    )
    assert story.operation().due_at == later(AUTHORIZATION_WINDOW)
    story.wait(past)
    if told_by == "charge":
        story.hear(_C.CANCELED)
    else:
        tell(story, _E.SUCCEEDED)
    assert story.operation().status is _X.SUCCEEDED
    assert story.types.count("payment.canceled") == 1
    assert made.id == story.operation().id
    assert story.hear(_C.CANCELED) is None


def test_money_taken_instead_of_lapsing_is_given_back() -> None:
    story = authorized()
    void(story, lapse=True)
    story.hear(_C.SUCCEEDED)
    assert (story.payment.status, story.attempt().status) == (_P.CANCELED, _A.LATE_SUCCEEDED)
    lapsed, reversal = story.state.operations
    assert (lapsed.status, reversal.type) == (_X.FAILED, _T.REVERSAL)  # there is nothing left to wait for


# -- refunds -----------------------------------------------------------------------------------------


def test_a_refund_is_reserved_in_the_write_that_accepts_it() -> None:
    story = succeeded()
    change, made = operations.request_refund(story.state, 1000, "changed my mind", partial=True, timing=TIMING, now=NOW)
    story.apply(change)
    assert (change.refund_guard, made.id[:3]) == (1000, "rf_")
    assert money(story) == (AMOUNT - 1000, 1000, 0)
    assert [(r.key, r.payment_id) for r in change.references] == [(made.id, story.payment.id)]
    assert types_booked(story) == ["capture", "refund_reserved"]


def test_no_amount_means_all_that_is_left() -> None:
    story = succeeded()
    refund(story, 1000)
    assert refund(story).amount == AMOUNT - 1000
    assert money(story) == (0, AMOUNT, 0)
    with pytest.raises(StateConflict) as refused:
        refund(story)
    assert refused.value.code == "nothing_to_refund"


@pytest.mark.parametrize(
    ("amount", "partial", "code"),
    [(AMOUNT + 1, True, "amount_exceeds_refundable"), (1, False, "partial_refund_unsupported")],
)
def test_a_refund_that_cannot_be_is_refused_naming_the_amount(amount: int, partial: bool, code: str) -> None:  # noqa: FBT001
    with pytest.raises(InvalidRequest) as refused:
        refund(succeeded(), amount, partial=partial)
    assert (refused.value.code, refused.value.param) == (code, "amount")


def test_only_a_succeeded_payment_can_be_refunded() -> None:
    for story in (Story.begin(), authorized()):
        with pytest.raises(StateConflict) as refused:
            refund(story)
        assert refused.value.code == "payment_not_refundable"


def test_a_payment_takes_no_more_operations_than_a_decision_can_read() -> None:
    story = succeeded()
    for _ in range(operations.MAX_OPERATIONS):
        refund(story, 1)
    with pytest.raises(StateConflict) as refused:
        refund(story, 1)
    assert refused.value.code == "too_many_refunds"
    refund_at_provider(story, 1)  # a fact is never refused


def test_a_refund_that_fails_after_it_had_succeeded_has_come_back() -> None:
    story = succeeded()
    refund(story, 1000)
    call(story)
    tell(story, _E.SUCCEEDED)
    tell(story, _E.FAILED)
    assert (story.operation().status, money(story)) == (_X.RETURNED, (AMOUNT, 0, 0))
    assert tell(story, _E.FAILED) is None


@pytest.mark.parametrize(
    ("status", "left", "booked", "refund_status"),
    [
        (_E.SUCCEEDED, (AMOUNT - 1000, 0, 1000), "refund_settled", "partial"),
        (_E.FAILED, (AMOUNT, 0, 0), "refund_released", "none"),
    ],
)
def test_a_refund_settles_or_comes_free_again(
    status: EffectStatus, left: tuple[int, int, int], booked: str, refund_status: str
) -> None:
    story = succeeded()
    refund(story, 1000)
    call(story)
    tell(story, status)
    assert (money(story), types_booked(story)[-1], story.payment.refund_status) == (left, booked, refund_status)
    assert tell(story, status) is None


def test_a_refund_that_is_all_of_it_is_full() -> None:
    story = succeeded()
    refund(story)
    call(story)
    tell(story, _E.SUCCEEDED)
    assert story.payment.refund_status == "full"


@pytest.mark.parametrize("told_before", [True, False])
def test_a_refund_the_bank_sent_back_is_the_merchants_again(told_before: bool) -> None:  # noqa: FBT001
    story = succeeded()
    refund(story, 1000)
    call(story)
    if told_before:
        tell(story, _E.SUCCEEDED)
    tell(story, _E.RETURNED)
    assert (story.operation().status, money(story)) == (_X.RETURNED, (AMOUNT, 0, 0))
    assert types_booked(story) == ["capture", "refund_reserved", "refund_settled", "refund_returned"]
    assert story.types[-2:] == ["refund.succeeded", "refund.returned"]
    assert tell(story, _E.RETURNED) is None
    assert refund(story).amount == AMOUNT


def test_an_accepted_refund_is_asked_about_again_and_told_once() -> None:
    story = succeeded()
    refund(story, 1000)
    call(story)
    tell(story, _E.PENDING)
    assert (story.operation().provider_reference, story.operation().due_at) == ("rfnd_1", later(TIMING.poll))
    assert tell(story, _E.PENDING) is None


def test_a_webhook_before_our_own_call_settles_a_pending_refund() -> None:
    story = succeeded()
    refund(story, 1000)
    tell(story, _E.SUCCEEDED)
    assert (story.operation().status, money(story)) == (_X.SUCCEEDED, (AMOUNT - 1000, 0, 1000))


def test_a_lost_answer_is_tried_again_and_ends_with_a_person() -> None:
    story = succeeded()
    refund(story, 1000)
    call(story)
    for wait in (*TIMING.operation, *TIMING.sweep):
        lose(story)
        assert (story.operation().status, story.operation().due_at) == (_X.UNKNOWN, later(wait + TIMING.lease))
        story.apply(operations.try_again(story.state, story.operation(), TIMING, story.now))
        assert story.operation().deadline_at == later(TIMING.call)
    lose(story)
    assert (story.operation().status, story.payment.needs_attention) == (_X.MANUAL_REVIEW, True)
    assert money(story) == (AMOUNT - 1000, 1000, 0)  # still reserved: it may have happened
    tell(story, _E.SUCCEEDED)
    assert money(story) == (AMOUNT - 1000, 0, 1000)


@pytest.mark.parametrize("status", sorted(set(_X) - {_X.SENT, _X.UNKNOWN}))
def test_only_an_operation_under_way_can_become_unknown(status: OperationStatus) -> None:
    payment = factories.make_payment(status=_P.SUCCEEDED)
    attempt = factories.make_attempt(payment, status=_A.SUCCEEDED)
    operation = factories.make_operation(attempt, status=status)
    state = factories.state_of(payment, [attempt], [operation])
    assert operations.record_unknown(state, operation, LOST, None, timing=TIMING, now=NOW) is None


def test_one_open_review_keeps_the_flag_whatever_else_is_settled() -> None:
    story = Story.begin()
    story.send()
    story.hear(_C.DECLINED, next_within=lambda _: 20.0)
    story.hear(_C.SUCCEEDED)  # late
    call(story)
    tell(story, _E.FAILED)
    assert story.operation().status is _X.MANUAL_REVIEW
    story.send("b")
    story.hear(_C.SUCCEEDED, provider_reference="ch_2")
    assert (story.payment.status, story.payment.needs_attention) == (_P.SUCCEEDED, True)


# -- reversals ---------------------------------------------------------------------------------------


def late() -> Story:
    story = Story.begin()
    story.send()
    story.hear(_C.DECLINED, error=ISSUER)
    story.hear(_C.SUCCEEDED)
    return story


def test_a_reversal_gives_the_late_charge_back_and_balances_the_books() -> None:
    story = late()
    call(story)
    tell(story, _E.SUCCEEDED)
    assert (story.attempt().status, story.attempt().reversed) == (_A.REVERSED, AMOUNT)
    assert types_booked(story) == ["late_charge", "reversal"]
    assert story.types[-1] == "payment.reversal_succeeded"
    assert money(story) == (0, 0, 0)


@pytest.mark.parametrize("is_called", [True, False])
def test_a_reversal_that_failed_is_for_a_person_because_we_still_hold_the_money(is_called: bool) -> None:  # noqa: FBT001
    story = late()
    if is_called:
        call(story)
    tell(story, _E.FAILED)
    assert (story.operation().status, story.payment.needs_attention) == (_X.MANUAL_REVIEW, True)
    assert story.attempt().status is _A.LATE_SUCCEEDED
    tell(story, _E.SUCCEEDED)
    assert story.attempt().status is _A.REVERSED


@pytest.mark.parametrize("told_before", [True, False])
@pytest.mark.parametrize("told", [_E.RETURNED, _E.FAILED])
def test_a_reversal_that_the_bank_sent_back_is_made_again(told: EffectStatus, told_before: bool) -> None:  # noqa: FBT001
    if told is _E.FAILED and not told_before:
        return  # that is a reversal that failed
    story = late()
    call(story)
    if told_before:
        tell(story, _E.SUCCEEDED)
    tell(story, told)
    first, again = story.state.operations
    assert (first.status, again.type, again.status, again.amount) == (_X.RETURNED, _T.REVERSAL, _X.PENDING, AMOUNT)
    assert (story.attempt().status, story.payment.needs_attention) == (_A.LATE_SUCCEEDED, True)
    assert types_booked(story) == ["late_charge", "reversal", "reversal_returned"]
    assert story.events[-1].operation_id == again.id
    call(story)
    tell(story, _E.SUCCEEDED)
    assert story.attempt().status is _A.REVERSED


def test_a_release_of_money_that_was_only_held_cannot_come_back() -> None:
    story = Story.begin()
    story.send()
    story.hear(_C.DECLINED, error=ISSUER)
    story.hear(_C.AUTHORIZED)
    call(story)
    tell(story, _E.SUCCEEDED)
    assert tell(story, _E.RETURNED) is None


def test_a_failed_reversal_ends_only_by_a_persons_word_and_stays_in_the_books() -> None:
    story = late()
    call(story)
    tell(story, _E.FAILED)
    assert tell(story, _E.FAILED) is None  # the provider says so again
    story.apply(
        operations.record_effect(
            story.state,
            story.operation(),
            factories.effect(_E.FAILED),
            timing=TIMING,
            now=NOW,
            source="operator: given back in cash",
        )
    )
    assert (story.operation().status, story.types[-1]) == (_X.FAILED, "reversal.failed")
    assert not story.payment.needs_attention
    assert types_booked(story) == ["late_charge"]


# -- refunds in the provider's dashboard -------------------------------------------------------------


def test_a_refund_at_the_provider_is_recorded_once_with_its_source() -> None:
    story = succeeded()
    refund_at_provider(story, 1000)
    made = story.operation()
    assert (made.type, made.source, made.status, made.due_at) == (_T.REFUND, "provider", _X.SUCCEEDED, None)
    assert (money(story), story.payment.needs_attention) == ((AMOUNT - 1000, 0, 1000), False)
    assert types_booked(story)[-1] == "refund_by_provider"
    assert refund_at_provider(story, 1000) is None
    refund_at_provider(story, 1000, "dash_2")
    assert money(story) == (AMOUNT - 2000, 0, 2000)


@pytest.mark.parametrize(
    ("status", "fields"), [(_E.PENDING, {}), (_E.FAILED, {}), (_E.SUCCEEDED, {"amount": None}), (_E.SUCCEEDED, {"amount": 0}),
                           (_E.SUCCEEDED, {"provider_reference": None})]
)  # fmt: skip
def test_a_statement_without_money_or_name_is_not_a_refund(status: EffectStatus, fields: dict[str, Any]) -> None:
    story = succeeded()
    told = factories.effect(status, **({"amount": 1000} | fields))
    assert operations.provider_refund(story.state, story.attempt(), told, excess=False, now=NOW) is None


def test_an_excess_is_recorded_and_flagged_never_refused() -> None:
    story = succeeded()
    refund(story, AMOUNT - 500)
    refund_at_provider(story, 1000)
    assert (money(story), story.payment.needs_attention) == ((0, AMOUNT - 500, 1000), True)


def test_after_an_excess_a_failed_refund_frees_only_what_is_really_left() -> None:
    story = succeeded()
    refund(story, AMOUNT - 500)
    refund_at_provider(story, 1000)
    tell(story, _E.FAILED, 1)
    assert money(story) == (AMOUNT - 1000, 0, 1000)  # not AMOUNT - 500: that would refund 500 twice


def test_a_refund_heard_of_before_its_capture_comes_to_the_same() -> None:
    ends = set()
    for refund_first in (True, False):
        story = authorized()
        if refund_first:
            refund_at_provider(story, 1000)
        story.hear(_C.SUCCEEDED)
        if not refund_first:
            refund_at_provider(story, 1000)
        ends.add((story.payment.status, money(story), story.payment.needs_attention))
    assert ends == {(_P.SUCCEEDED, (AMOUNT - 1000, 0, 1000), False)}


def test_a_refund_at_the_provider_that_came_back_before_we_heard_of_it_changes_nothing_in_sum() -> None:
    story = succeeded()
    refund_at_provider(story, 1000, status=_E.RETURNED)
    assert (story.operation().status, money(story)) == (_X.RETURNED, (AMOUNT, 0, 0))


def test_what_went_back_from_another_charge_never_touches_the_payments_money() -> None:
    story = Story.begin()
    story.send()
    story.hear(_C.DECLINED, next_within=lambda _: 20.0)
    story.send("b")
    story.hear(_C.SUCCEEDED, provider_reference="ch_2")
    story.hear(_C.SUCCEEDED, 1)  # late
    assert refund_at_provider(story, 1000, number=1) is None
    assert money(story) == (AMOUNT, 0, 0)


def test_what_went_back_from_a_charge_taken_after_its_release_is_the_reversals() -> None:
    story = authorized()
    void(story, lapse=True)
    story.hear(_C.SUCCEEDED)  # it had won, but the payment has let go of it
    assert refund_at_provider(story, 1000) is None
    assert money(story) == (0, 0, 0)


@given(st.permutations(["capture", "dash_1", "dash_2", "capture", "dash_1"]))
def test_capture_and_refunds_converge_in_any_order_and_repetition(facts: list[str]) -> None:
    story = authorized()
    for fact in facts:
        if fact == "capture":
            story.hear(_C.SUCCEEDED)
        else:
            refund_at_provider(story, 1000 if fact == "dash_1" else 300, fact)
    assert (story.payment.status, money(story)) == (_P.SUCCEEDED, (AMOUNT - 1300, 0, 1300))


REFUND_FACTS = [_E.PENDING, _E.SUCCEEDED, _E.RETURNED]


@pytest.mark.parametrize("facts", list(permutations(REFUND_FACTS)))
def test_a_refunds_facts_in_any_order_come_to_the_same_end(facts: tuple[EffectStatus, ...]) -> None:
    story = succeeded()
    refund(story, 1000)
    call(story)
    for fact in (*facts, *facts):
        tell(story, fact)
    assert (story.operation().status, money(story)) == (_X.RETURNED, (AMOUNT, 0, 0))


@given(st.lists(st.tuples(st.integers(1, AMOUNT), st.booleans()), max_size=12))
def test_refunds_never_add_up_to_more_than_was_captured(wishes: list[tuple[int, bool]]) -> None:
    story = succeeded()
    for amount, is_made in wishes:
        try:
            refund(story, amount)
        except (InvalidRequest, StateConflict):
            assert amount > story.payment.amount_refundable
            continue
        tell(story, _E.SUCCEEDED if is_made else _E.FAILED)
    assert story.payment.amount_refunded + story.payment.amount_refundable == AMOUNT
