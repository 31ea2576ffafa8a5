"""How captures, voids, refunds and reversals move: pure functions that return the Change to commit."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from chalicelib.domain import ids
from chalicelib.domain.charges import (
    NOT_FOUND_READS,
    authorization_ended,
    capture_succeeded,
    new_operation,
    void_confirmed,
)
from chalicelib.domain.draft import Draft, exchange_dict
from chalicelib.domain.errors import InvalidRequest, PaymentError, StateConflict
from chalicelib.domain.model import Attempt, Operation, PaymentState
from chalicelib.domain.outcome import Effect, EffectStatus
from chalicelib.domain.states import (
    OPERATION_OPEN,
    AttemptStatus,
    OperationStatus,
    OperationType,
    PaymentStatus,
)

if TYPE_CHECKING:
    from datetime import datetime

    from chalicelib.domain.model import Change
    from chalicelib.domain.outcome import Exchange
    from chalicelib.domain.timing import Timing

_T, _X, _E = OperationType, OperationStatus, EffectStatus

MAX_OPERATIONS = 100  # per payment: every decision reads them all


# -- requests --------------------------------------------------------------------------------------


def _authorized_attempt(state: PaymentState, what: str) -> Attempt:
    payment = state.payment
    if payment.open_operation is not None:
        raise StateConflict("operation_in_progress", f"Operation {payment.open_operation} is under way.")
    attempt = state.attempt(payment.winning_attempt)
    if payment.status is not PaymentStatus.AUTHORIZED or attempt is None:
        raise StateConflict(f"payment_not_{what}", f"The payment is {payment.status}, not authorized.")
    return attempt


def request_capture(
    state: PaymentState, amount: int | None, *, partial: bool, timing: Timing, now: datetime
) -> tuple[Change, Operation]:
    """Accept a capture of ``amount`` minor units (None: all); ``partial`` tells if the provider can take less.

    Raises StateConflict or InvalidRequest.
    """
    attempt = _authorized_attempt(state, "capturable")
    amount = attempt.amount if amount is None else amount
    if amount > attempt.amount:
        raise InvalidRequest("amount_too_large", f"Only {attempt.amount} is authorized.", param="amount")
    if amount < attempt.amount and not partial:
        raise InvalidRequest(
            "partial_capture_unsupported", f"{attempt.provider} captures the whole amount or nothing.", param="amount"
        )
    draft = Draft(state, now)
    operation = new_operation(draft, attempt, _T.CAPTURE, amount, source="merchant", reason=None, timing=timing)
    draft.set_payment(open_operation=operation.id)
    draft.emit("capture.created", operation=operation, work=True)
    return draft.change(), operation


def request_void(
    state: PaymentState, *, lapse: bool, lapse_window: float, timing: Timing, now: datetime
) -> tuple[Change, Operation]:
    """Accept the cancelation of an authorized payment; raises StateConflict.

    With ``lapse`` the provider has no void: the payment is canceled at once and the provider's
    release, expected within ``lapse_window`` seconds, is awaited and checked by the operation.
    """
    attempt = _authorized_attempt(state, "cancelable")
    draft = Draft(state, now)
    operation = new_operation(draft, attempt, _T.VOID, attempt.amount, source="merchant", reason=None, timing=timing)
    if lapse:
        due = now + timedelta(seconds=lapse_window)
        operation = draft.set_operation(operation, status=_X.SENT, deadline_at=now, due_at=due)
        draft.set_attempt(attempt, status=AttemptStatus.VOIDED)
        draft.set_payment(status=PaymentStatus.CANCELED)
        draft.settle_order()
        draft.emit("payment.canceled", operation=operation)
    else:
        draft.set_payment(open_operation=operation.id)
        draft.emit("void.created", operation=operation, work=True)
    return draft.change(), operation


def request_refund(
    state: PaymentState, amount: int | None, reason: str | None, *, partial: bool, timing: Timing, now: datetime
) -> tuple[Change, Operation]:
    """Accept a refund of ``amount`` minor units (None: all that is refundable) and reserve it.

    Raises StateConflict or InvalidRequest. The reservation is part of the write, and the write is
    conditioned on the money still being there.
    """
    payment = state.payment
    attempt = state.attempt(payment.winning_attempt)
    if payment.status is not PaymentStatus.SUCCEEDED or attempt is None:
        raise StateConflict("payment_not_refundable", f"The payment is {payment.status}, not succeeded.")
    if len(state.operations) >= MAX_OPERATIONS:
        raise StateConflict("too_many_refunds", f"A payment takes at most {MAX_OPERATIONS} operations.")
    left = payment.amount_refundable
    if left == 0:
        raise StateConflict("nothing_to_refund", "All that was captured is refunded, being refunded or in dispute.")
    amount = left if amount is None else amount
    if amount > left:
        raise InvalidRequest("amount_exceeds_refundable", f"Only {left} can be refunded.", param="amount")
    if amount < payment.amount_captured and not partial:
        raise InvalidRequest(
            "partial_refund_unsupported", f"{attempt.provider} refunds all or nothing.", param="amount"
        )
    draft = Draft(state, now)
    draft.refund_guard = amount
    operation = new_operation(draft, attempt, _T.REFUND, amount, source="merchant", reason=reason, timing=timing)
    draft.set_payment(amount_refunding=payment.amount_refunding + amount)
    draft.post("refund_reserved", attempt, amount, operation)
    draft.emit("refund.created", operation=operation, work=True)
    return draft.change(), operation


# -- working on them -------------------------------------------------------------------------------


def begin(state: PaymentState, operation: Operation, timing: Timing, now: datetime) -> Change:
    """Pending to sent: winning this write is the permit to call the provider, and the only one."""
    draft = Draft(state, now)
    sent = draft.set_operation(
        operation,
        status=_X.SENT,
        tries=operation.tries + 1,
        called_at=now,
        calls=operation.calls + 1,
        deadline_at=now + timedelta(seconds=timing.call),
        due_at=now + timedelta(seconds=timing.call + timing.lease),
    )
    draft.emit(f"{operation.type}.sent", operation_id=sent.id)
    return draft.change()


def record_effect(
    state: PaymentState, operation: Operation, effect: Effect, *, timing: Timing, now: datetime, source: str
) -> Change | None:
    """Take in what a provider says about an operation; None if it is nothing new."""
    draft = Draft(state, now)
    facts: dict[str, object] = {"source": source}
    call = exchange_dict(effect.exchange)
    if call:
        facts["call"] = call
    # Some providers have no word for a return: their refund fails after it had succeeded.
    failed_after_all = operation.status is _X.SUCCEEDED and effect.status is _E.FAILED
    is_return = effect.status is _E.RETURNED or failed_after_all
    if operation.status is _X.SUCCEEDED and is_return:
        return _returned(draft, operation, timing, facts)
    if operation.status is _X.FAILED and effect.status is _E.SUCCEEDED:
        return _made_after_all(draft, operation, effect, facts)
    if operation.status not in OPERATION_OPEN:
        return None
    reference = effect.provider_reference or operation.provider_reference
    if effect.status is _E.PENDING:
        if operation.status is not _X.PENDING and reference == operation.provider_reference:
            return None
        fields = {"status": _X.SENT} if operation.status is _X.PENDING else {}
        noted = draft.set_operation(
            operation, provider_reference=reference, error=None, **fields, due_at=now + timedelta(seconds=timing.poll)
        )
        draft.emit(f"{operation.type}.accepted", operation_id=noted.id, provider_reference=reference, facts=facts)
        return draft.change()
    if is_return:  # succeeded and returned before we heard of either
        settled = _settle(draft, operation, effect, facts)
        return _returned(draft, operation, timing, facts) or settled
    return _settle(draft, operation, effect, facts)


def _made_after_all(draft: Draft, operation: Operation, effect: Effect, facts: dict[str, object]) -> Change | None:
    """A refund or reversal that was given up as failed has gone out all the same: facts are never refused."""
    attempt = _attempt_of(draft, operation)
    if operation.type is _T.REVERSAL:
        can = attempt.status is AttemptStatus.LATE_SUCCEEDED and attempt.captured
        return _settle_reversal(draft, operation, attempt, effect, facts) if can else None
    if operation.type is not _T.REFUND:
        return None
    payment = draft.payment
    excess = operation.amount > payment.amount_refundable
    reference = effect.provider_reference or operation.provider_reference
    done = draft.set_operation(operation, status=_X.SUCCEEDED, provider_reference=reference, error=None)
    draft.set_payment(
        amount_refunded=payment.amount_refunded + operation.amount,
        needs_attention=payment.needs_attention or excess,
    )
    draft.post("refund_by_provider", attempt, operation.amount, operation)
    draft.emit("refund.succeeded", operation=done, excess=excess, facts=facts)
    return draft.change()


def _attempt_of(draft: Draft, operation: Operation) -> Attempt:
    attempt = draft.before.attempt(operation.attempt_id)
    if attempt is None:
        msg = f"{operation.id}: attempt {operation.attempt_id} is missing"
        raise LookupError(msg)
    return attempt


def _settle(draft: Draft, operation: Operation, effect: Effect, facts: dict[str, object]) -> Change | None:
    """The operation succeeded or failed: move it and the money. None if it is nothing new after all."""
    attempt = _attempt_of(draft, operation)
    if operation.type is _T.REVERSAL:
        return _settle_reversal(draft, operation, attempt, effect, facts)
    if operation.status is _X.MANUAL_REVIEW:
        draft.set_payment(needs_attention=False)  # set again by whatever else waits for a person
    reference = effect.provider_reference or operation.provider_reference
    failed = effect.status is _E.FAILED
    if operation.type is not _T.REFUND and not failed:
        draft.set_operation(operation, provider_reference=reference)
        if operation.type is _T.CAPTURE:
            return capture_succeeded(draft, attempt, effect.amount or operation.amount, facts)
        if draft.payment.open_operation != operation.id:  # it was canceled at once, and this is the lapse
            return void_confirmed(draft, attempt, facts)
        return authorization_ended(draft, attempt, facts)
    done = draft.set_operation(
        operation, status=_X.FAILED if failed else _X.SUCCEEDED, provider_reference=reference, error=effect.error
    )
    if operation.type is _T.REFUND:
        payment = draft.payment
        draft.set_payment(
            amount_refunding=payment.amount_refunding - operation.amount,
            amount_refunded=payment.amount_refunded + (0 if failed else operation.amount),
        )
        draft.post("refund_released" if failed else "refund_settled", attempt, operation.amount, operation)
        draft.emit("refund.failed" if failed else "refund.succeeded", operation=done, facts=facts)
        return draft.change()
    if draft.payment.open_operation == operation.id:
        # Nobody else will capture what was to be captured automatically.
        draft.set_payment(open_operation=None, needs_attention=operation.source == "system")
    draft.emit(f"{operation.type}.failed", operation=done, facts=facts)
    return draft.change()


def _settle_reversal(
    draft: Draft, operation: Operation, attempt: Attempt, effect: Effect, facts: dict[str, object]
) -> Change | None:
    """A reversal that fails stays with a person, and only a person may end it."""
    failed = effect.status is _E.FAILED
    if failed and not str(facts["source"]).startswith("operator"):
        is_waiting = operation.status is _X.MANUAL_REVIEW
        return None if is_waiting else to_manual_review(draft, operation, effect.error, facts)
    if operation.status is _X.MANUAL_REVIEW:
        draft.set_payment(needs_attention=False)
    reference = effect.provider_reference or operation.provider_reference
    done = draft.set_operation(
        operation, status=_X.FAILED if failed else _X.SUCCEEDED, provider_reference=reference, error=effect.error
    )
    if failed:
        draft.emit("reversal.failed", operation=done, facts=facts)
        return draft.change()
    draft.set_attempt(attempt, status=AttemptStatus.REVERSED, reversed=attempt.captured or operation.amount)
    if attempt.captured:
        draft.post("reversal", attempt, attempt.captured, operation)
    draft.emit("payment.reversal_succeeded", operation=done, facts=facts)
    return draft.change()


def _returned(draft: Draft, operation: Operation, timing: Timing, facts: dict[str, object]) -> Change | None:
    """The customer's bank sent money back that we had given back."""
    if operation.type is _T.REFUND:
        return _refund_returned(draft, operation, facts)
    if operation.type is _T.REVERSAL:
        return _reversal_returned(draft, operation, timing, facts)
    return None


def _reversal_returned(draft: Draft, operation: Operation, timing: Timing, facts: dict[str, object]) -> Change | None:
    """A late charge is ours again, and still not ours to keep: give it back once more, and tell a person."""
    attempt = draft.before.attempt(operation.attempt_id)
    if attempt is None or not attempt.captured:
        return None
    draft.set_operation(operation, status=_X.RETURNED)
    attempt = draft.set_attempt(attempt, status=AttemptStatus.LATE_SUCCEEDED, reversed=0)
    draft.set_payment(needs_attention=True)
    draft.post("reversal_returned", attempt, attempt.captured, operation)
    again = new_operation(
        draft, attempt, _T.REVERSAL, attempt.captured, source="system", reason="the bank sent it back", timing=timing
    )
    draft.emit("reversal.returned", operation=again, work=True, facts=facts)
    return draft.change()


def _refund_returned(draft: Draft, operation: Operation, facts: dict[str, object]) -> Change:
    """The customer's bank sent a refund back: the money is the merchant's again."""
    attempt = _attempt_of(draft, operation)
    done = draft.set_operation(operation, status=_X.RETURNED)
    payment = draft.payment
    draft.set_payment(amount_refunded=payment.amount_refunded - operation.amount)
    draft.post("refund_returned", attempt, operation.amount, operation)
    draft.emit("refund.returned", operation=done, facts=facts)
    return draft.change()


def record_unknown(
    state: PaymentState,
    operation: Operation,
    error: PaymentError,
    exchange: Exchange | None,
    *,
    timing: Timing,
    now: datetime,
    is_over: bool = False,
    not_found: bool = False,
) -> Change | None:
    """The provider's answer to an operation is lost or was never reached: try again later, by the same key.

    ``is_over`` says that nobody's call is under way any more, so that the next one need not wait for its deadline;
    ``not_found`` that the provider knew nothing of it when it had to.
    """
    if operation.status not in (_X.SENT, _X.UNKNOWN):
        return None
    draft = Draft(state, now)
    call = exchange_dict(exchange)
    facts: dict[str, object] = {"call": call} if call else {}
    wait = timing.operation_wait(operation.tries)
    if wait is None:
        return to_manual_review(draft, operation, error, facts)
    unknown = draft.set_operation(
        operation,
        status=_X.UNKNOWN,
        error=error,
        due_at=now + timedelta(seconds=wait + timing.lease),
        deadline_at=now if is_over else operation.deadline_at,
        not_found=operation.not_found + (1 if not_found else 0),
    )
    draft.emit(f"{operation.type}.unknown", operation=unknown, facts=facts)
    return draft.change()


def try_again(state: PaymentState, operation: Operation, timing: Timing, now: datetime) -> Change:
    """Claim the next try of a sent or unknown operation: winning this write is the permit to call again."""
    draft = Draft(state, now)
    draft.set_operation(
        operation,
        tries=operation.tries + 1,
        deadline_at=now + timedelta(seconds=timing.call),
        due_at=now + timedelta(seconds=timing.call + timing.lease),
    )
    draft.emit(f"{operation.type}.retried", operation_id=operation.id, tries=operation.tries + 1)
    return draft.change()


def send_again(state: PaymentState, operation: Operation, now: datetime) -> Change:
    """Note that a provider without keys is asked once more, before it is: see ``may_send_again``."""
    draft = Draft(state, now)
    draft.set_operation(operation, called_at=now, calls=operation.calls + 1, not_found=0)
    draft.emit(f"{operation.type}.sent_again", operation_id=operation.id)
    return draft.change()


def is_settled(operation: Operation, *, settle_window: float, timing: Timing, now: datetime) -> bool:
    """Whether a provider that still knows nothing of an operation must have known: past the last call's
    deadline and the settle window (seconds)."""
    called_at = operation.called_at or operation.created_at
    return now > called_at + timedelta(seconds=timing.call + settle_window)


def may_send_again(operation: Operation) -> bool:
    """Whether an operation whose provider has no key to know it by never arrived, as two reads say. Once only:
    who loses two of them is left to a person."""
    return operation.not_found >= NOT_FOUND_READS and operation.calls <= 1


def to_manual_review(
    draft: Draft, operation: Operation, error: PaymentError | None, facts: dict[str, object]
) -> Change:
    """Nobody but a person can say what became of this operation, or what to do next."""
    review = draft.set_operation(operation, status=_X.MANUAL_REVIEW, error=error)
    draft.set_payment(needs_attention=True)
    draft.emit(f"{operation.type}.manual_review", operation=review, facts=facts)
    return draft.change()


def provider_refund(
    state: PaymentState, attempt: Attempt, effect: Effect, *, excess: bool, now: datetime
) -> Change | None:
    """Record a refund made in the provider's own dashboard. Facts are never refused: an ``excess``
    beyond what is refundable is recorded and flagged for a person. None for another charge than the
    one that is kept: it is no part of the payment's amounts."""
    if effect.status not in (_E.SUCCEEDED, _E.RETURNED) or not effect.amount or effect.provider_reference is None:
        return None
    is_kept = attempt.status in (AttemptStatus.AUTHORIZED, AttemptStatus.SUCCEEDED, AttemptStatus.CAPTURED)
    if attempt.id != state.payment.winning_attempt or not is_kept:
        return None
    draft = Draft(state, now)
    operation = Operation(
        tenant=attempt.tenant,
        # Derived from the provider's refund id: told twice, recorded once.
        id=ids.derived_id("rf", attempt.created_at, attempt.account, effect.provider_reference),
        payment_id=attempt.payment_id,
        attempt_id=attempt.id,
        type=_T.REFUND,
        status=_X.SUCCEEDED,
        amount=effect.amount,
        currency=attempt.currency,
        source="provider",
        reason="made at the provider",
        created_at=now,
        updated_at=now,
        due_at=None,
        provider_reference=effect.provider_reference,
    )
    if state.operation(operation.id) is not None:
        return None
    draft.add_operation(operation)
    payment = draft.payment
    draft.set_payment(
        amount_refunded=payment.amount_refunded + effect.amount, needs_attention=payment.needs_attention or excess
    )
    draft.post("refund_by_provider", attempt, effect.amount, operation)
    draft.emit("refund.succeeded", operation=operation, source="provider", excess=excess)
    if effect.status is _E.RETURNED:
        return _refund_returned(draft, operation, {"source": "provider"})
    return draft.change()
