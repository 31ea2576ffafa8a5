"""The tables of legal moves are complete, and nothing else moves anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.domain import states
from chalicelib.domain.draft import Draft
from chalicelib.domain.states import (
    ATTEMPT_LATE,
    ATTEMPT_MOVES,
    ATTEMPT_OPEN,
    OPERATION_MOVES,
    OPERATION_OPEN,
    ORDER_FINAL,
    ORDER_MOVES,
    PAYMENT_FINAL,
    PAYMENT_MOVES,
    AttemptStatus,
    IllegalMove,
    OperationStatus,
    OrderStatus,
    PaymentStatus,
)
from tests.support import factories
from tests.support.factories import NOW

if TYPE_CHECKING:
    from collections.abc import Mapping
    from enum import StrEnum

TABLES: list[tuple[type[StrEnum], Mapping[Any, frozenset[Any]]]] = [
    (OrderStatus, ORDER_MOVES),
    (PaymentStatus, PAYMENT_MOVES),
    (AttemptStatus, ATTEMPT_MOVES),
    (OperationStatus, OPERATION_MOVES),
]
FIRST: dict[type[StrEnum], Any] = {
    OrderStatus: OrderStatus.CREATED,
    PaymentStatus: PaymentStatus.CREATED,
    AttemptStatus: AttemptStatus.CREATED,
    OperationStatus: OperationStatus.PENDING,
}
# DESIGN §3, word for word; what the tables allow beyond it has a comment there.
DESIGNED = {
    PaymentStatus: """
        created → processing failed requires_review canceled expired
        processing → requires_action authorized succeeded failed canceled expired
        requires_action → processing authorized succeeded failed canceled expired
        requires_review → processing failed canceled expired
        authorized → succeeded canceled expired""",
    OrderStatus: """
        created → attempted expired canceled
        attempted → paid expired canceled""",
}


def _reachable(moves: Mapping[Any, frozenset[Any]], start: Any) -> set[Any]:
    seen, queue = {start}, [start]
    while queue:
        for target in moves[queue.pop()] - seen:
            seen.add(target)
            queue.append(target)
    return seen


@pytest.mark.parametrize(("statuses", "moves"), TABLES)
def test_every_status_has_its_row_and_is_reachable(
    statuses: type[StrEnum], moves: Mapping[Any, frozenset[Any]]
) -> None:
    assert set(moves) == set(statuses)
    assert _reachable(moves, FIRST[statuses]) == set(statuses)


@pytest.mark.parametrize(("statuses", "moves"), TABLES)
def test_no_status_moves_to_itself_and_none_is_a_dead_end_loop(
    statuses: type[StrEnum], moves: Mapping[Any, frozenset[Any]]
) -> None:
    # A late charge that was given back rests, unless the bank sends the money back again.
    final = {status for status in statuses if not moves[status]} | {AttemptStatus.REVERSED}
    for status in statuses:
        assert status not in moves[status]
        assert _reachable(moves, status) & final, f"nothing ends from {status}"


@pytest.mark.parametrize(("statuses", "text"), DESIGNED.items())
def test_the_merchants_view_is_the_design(statuses: type[StrEnum], text: str) -> None:
    moves = dict(TABLES)[statuses]
    designed = {
        statuses(old.strip()): frozenset(statuses(new) for new in targets.split())
        for old, _, targets in (line.partition("→") for line in text.strip().splitlines())
    }
    assert {status: targets for status, targets in moves.items() if targets} == designed


def test_what_is_final_is_final() -> None:
    assert set(PAYMENT_FINAL) == {"succeeded", "failed", "canceled", "expired"}
    assert set(ORDER_FINAL) == {"paid", "expired", "canceled"}


def test_open_and_late_attempts_do_not_overlap_and_late_ones_can_only_be_reversed() -> None:
    assert not ATTEMPT_OPEN & ATTEMPT_LATE
    for status in ATTEMPT_LATE:
        assert ATTEMPT_MOVES[status] == {AttemptStatus.LATE_SUCCEEDED}
    assert ATTEMPT_MOVES[AttemptStatus.LATE_SUCCEEDED] == {AttemptStatus.REVERSED}
    kept = {AttemptStatus.SUCCEEDED, AttemptStatus.AUTHORIZED, AttemptStatus.CAPTURED, AttemptStatus.REVERSED}
    born = {AttemptStatus.CREATED}
    assert set(AttemptStatus) == ATTEMPT_OPEN | ATTEMPT_LATE | kept | born | {AttemptStatus.LATE_SUCCEEDED}


def test_an_open_operation_can_always_still_end() -> None:
    for status in OPERATION_OPEN:
        assert {OperationStatus.SUCCEEDED, OperationStatus.FAILED} <= OPERATION_MOVES[status]
    for status in set(OperationStatus) - OPERATION_OPEN:
        assert not OPERATION_MOVES[status] & OPERATION_OPEN


@given(st.sampled_from(TABLES), st.data())
def test_a_move_outside_the_table_raises_and_says_which(table: Any, data: st.DataObject) -> None:
    statuses, moves = table
    old, new = data.draw(st.sampled_from(statuses)), data.draw(st.sampled_from(statuses))
    if old == new or new in moves[old]:
        states.check_move(moves, old, new, "x_1")
    else:
        with pytest.raises(IllegalMove, match=f"x_1: {old} → {new}"):
            states.check_move(moves, old, new, "x_1")


@given(st.sampled_from(sorted(PAYMENT_FINAL)), st.sampled_from(PaymentStatus))
def test_no_draft_moves_a_final_payment(final: PaymentStatus, to: PaymentStatus) -> None:
    draft = Draft(factories.state_of(factories.make_payment(status=final)), NOW)
    if to is final:
        draft.set_payment(status=to)
    else:
        with pytest.raises(IllegalMove):
            draft.set_payment(status=to)


def test_a_draft_checks_attempts_operations_and_orders_too() -> None:
    payment = factories.make_payment(order_id="order_1")
    order = factories.make_order(id="order_1", status=OrderStatus.PAID)
    attempt = factories.make_attempt(payment, status=AttemptStatus.SUCCEEDED)
    operation = factories.make_operation(attempt, status=OperationStatus.RETURNED)
    draft = Draft(factories.state_of(payment, [attempt], [operation], order), NOW)
    with pytest.raises(IllegalMove):
        draft.set_attempt(attempt, status=AttemptStatus.DECLINED)
    with pytest.raises(IllegalMove):
        draft.set_operation(operation, status=OperationStatus.SUCCEEDED)
    with pytest.raises(IllegalMove):
        draft.set_order("order.released", status=OrderStatus.CANCELED)


def test_a_change_without_an_event_is_refused() -> None:
    draft = Draft(factories.state_of(factories.make_payment()), NOW)
    draft.set_payment(needs_attention=True)
    with pytest.raises(ValueError, match="without an event"):
        draft.change()
