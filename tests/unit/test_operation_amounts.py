"""What a provider says of an operation is compared with what was asked, and other money is never believed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from chalicelib.domain.outcome import Charge, ChargeStatus, Effect, EffectStatus
from chalicelib.domain.states import AttemptStatus, OperationStatus, PaymentStatus
from chalicelib.services import attempts, operations, payments
from chalicelib.services.idempotency import Idem
from chalicelib.services.payments import NewPayment
from tests.support.access import ACTOR
from tests.support.world import TENANT, World

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chalicelib.domain.model import Operation, PaymentState

AMOUNT = 149_900


@pytest.fixture
def world() -> Iterator[World]:
    with World() as made:
        yield made


def idem(key: str) -> Idem:
    return Idem(f"mer_01TEST/test/{key}", "f", 201, lambda _: {"id": "x"}, 1000)


def paid(world: World, vpa: str = "success@sim", capture: str = "automatic") -> PaymentState:
    wish = NewPayment(AMOUNT, "INR", {"type": "upi", "vpa": vpa}, capture=capture)  # type: ignore[arg-type]
    made = payments.create(world.kit, TENANT, wish, idem("create"))
    world.run(horizon=60)
    return payments.state(world.kit, TENANT, made.payment.id)


def told(world: World, state: PaymentState, operation: Operation, amount: int | None) -> PaymentState:
    answer = Effect(EffectStatus.SUCCEEDED, "x_1", amount=amount)
    return operations.record_answer(world.kit, state, operation, answer, source="webhook")


def being_captured(world: World) -> tuple[PaymentState, Operation]:
    state = paid(world, capture="manual")
    assert state.payment.status is PaymentStatus.AUTHORIZED
    return operations.capture(world.kit, TENANT, state.payment.id, AMOUNT, idem("capture"), by=ACTOR)


@pytest.mark.parametrize("amount", [AMOUNT, AMOUNT - 1, None])
def test_a_provider_may_have_captured_less_than_was_asked(world: World, amount: int | None) -> None:
    state, operation = being_captured(world)
    after = told(world, state, operation, amount)
    assert (after.payment.status, after.payment.amount_captured) == (PaymentStatus.SUCCEEDED, amount or AMOUNT)


def test_a_capture_of_more_than_is_held_is_not_believed(world: World) -> None:
    state, operation = being_captured(world)
    after = told(world, state, operation, AMOUNT + 1)
    assert (after.payment.status, after.payment.amount_captured) == (PaymentStatus.AUTHORIZED, 0)


@pytest.mark.parametrize(("amount", "is_believed"), [(1000, True), (None, True), (999, False), (1001, False)])
def test_a_refund_of_another_amount_is_not_believed(world: World, amount: int | None, is_believed: bool) -> None:  # noqa: FBT001
    state = paid(world)
    state, operation = operations.refund(world.kit, TENANT, state.payment.id, 1000, None, idem("refund"), by=ACTOR)
    after = told(world, state, operation, amount)
    assert after.payment.amount_refunded == (1000 if is_believed else 0)


def test_a_late_charge_held_first_and_taken_in_part_is_given_back_by_what_was_taken(world: World) -> None:
    state = paid(world, "decline@sim")
    about = state.attempts[0]
    held = Charge(ChargeStatus.AUTHORIZED, "late_1", AMOUNT, "INR")
    for charge in (held, Charge(ChargeStatus.SUCCEEDED, "late_1", AMOUNT, "INR", captured=400)):
        state = attempts.record(world.kit, state, about, charge, resolved=False, source="webhook")
    (reversal,) = state.operations
    assert (state.attempts[0].status, state.attempts[0].captured) == (AttemptStatus.LATE_SUCCEEDED, 400)
    assert told(world, state, reversal, AMOUNT).attempts[0].status is AttemptStatus.LATE_SUCCEEDED
    after = told(world, state, reversal, 400)
    assert (after.attempts[0].status, after.attempts[0].reversed) == (AttemptStatus.REVERSED, 400)
    assert after.operations[0].status is OperationStatus.SUCCEEDED


def test_a_late_charge_that_was_only_held_is_released_whole(world: World) -> None:
    state = paid(world, "decline@sim")
    held = Charge(ChargeStatus.AUTHORIZED, "late_1", AMOUNT, "INR")
    state = attempts.record(world.kit, state, state.attempts[0], held, resolved=False, source="webhook")
    assert told(world, state, state.operations[0], AMOUNT).attempts[0].status is AttemptStatus.REVERSED


def test_a_charge_that_is_another_payments_is_not_believed_and_stays_unknown(world: World) -> None:
    first = paid(world)
    wish = NewPayment(AMOUNT, "INR", {"type": "upi", "vpa": "timeout_before@sim"})
    made = payments.create(world.kit, TENANT, wish, idem("second"))
    world.run(horizon=1)
    second = payments.state(world.kit, TENANT, made.payment.id)
    assert first.attempts[0].account == second.attempts[0].account
    theirs = Charge(ChargeStatus.SUCCEEDED, first.payment.provider_reference, AMOUNT, "INR", captured=AMOUNT)
    after = attempts.record(world.kit, second, second.attempts[0], theirs, resolved=False, source="webhook")
    assert (after.payment.status, after.payment.amount_captured) == (PaymentStatus.PROCESSING, 0)
    assert after.attempts[0].status is AttemptStatus.UNKNOWN
    assert after.attempts[0].error is not None
    assert after.attempts[0].error.code == "mismatch"
    assert payments.state(world.kit, TENANT, first.payment.id) == first
