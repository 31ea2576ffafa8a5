"""How a payment moves when a merchant, a person or the clock wants it to: pure, returns the Change to commit.

What providers say about its charges is in ``charges.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

from chalicelib.domain import contacts, ids
from chalicelib.domain.charges import new_operation
from chalicelib.domain.draft import Draft
from chalicelib.domain.errors import ErrorClass, ErrorCode, PaymentError
from chalicelib.domain.model import Attempt, PaymentState
from chalicelib.domain.retrying import RetryPolicy
from chalicelib.domain.states import (
    PAYMENT_FINAL,
    AttemptStatus,
    IllegalMove,
    OperationStatus,
    OperationType,
    OrderStatus,
    PaymentStatus,
)
from chalicelib.domain.timing import backoff_wait

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from chalicelib.domain.model import Change, Order, Payment
    from chalicelib.domain.routing import Candidate, Decision
    from chalicelib.domain.timing import Timing

_A, _P = AttemptStatus, PaymentStatus
_POLICY = RetryPolicy()


@dataclass(frozen=True, slots=True)
class Step:
    """What the workflow does next with a payment; ``wait`` in seconds."""

    outcome: Literal["done", "retry", "resolve"]
    wait: float = 0.0


def next_step(
    state: PaymentState, timing: Timing, now: datetime, jitter: Callable[[], float], policy: RetryPolicy = _POLICY
) -> Step:
    """What is to be done next with a payment, read off its state alone."""
    payment = state.payment
    if payment.status not in (_P.CREATED, _P.PROCESSING):
        return Step("done")
    attempt = state.open_attempt
    if attempt is None:
        base, cap = policy.backoff(state.attempts[-1] if state.attempts else None, timing)
        return Step("retry", backoff_wait(base, cap, payment.attempts, jitter))
    if attempt.status is _A.SENT:  # its call may still be under way somewhere
        return Step("resolve", max(0.0, (attempt.deadline_at - now).total_seconds()))
    if attempt.status is _A.UNKNOWN and attempt.resolves < len(timing.resolve):
        return Step("resolve", timing.unhurried(timing.resolve[attempt.resolves], attempt.retry_at, now))
    return Step("done")


def create(
    payment: Payment, order: Order | None, replaced: PaymentState | None, timing: Timing, now: datetime
) -> Change:
    """Write a new payment, judged by risk already; with ``replaced``, cancel in the same transaction
    the payment whose customer changed their mind (it waits in requires_action)."""
    draft = Draft(PaymentState(payment, order=order), now)
    hits = payment.risk.get("hits")
    draft.emit("payment.created", facts={"risk": payment.risk} if hits else None)
    blocked = payment.risk.get("decision") == "block"
    if blocked:
        reasons = "; ".join(str(reason) for reason in payment.risk.get("reasons", ()))  # type: ignore[attr-defined]
        draft.set_payment(
            status=_P.FAILED, error=PaymentError(ErrorClass.DECLINED_RISK, ErrorCode.RISK_BLOCKED, reasons)
        )
        draft.emit("payment.failed")
    elif payment.risk.get("decision") == "review":
        draft.set_payment(status=_P.REQUIRES_REVIEW, due_at=payment.expires_at)
        draft.emit("payment.requires_review")
    if order is not None and not blocked:
        draft.set_order("order.attempted", status=OrderStatus.ATTEMPTED, live_payment_id=payment.id)
    if replaced is not None and not blocked:
        draft.also = give_up(replaced, _P.CANCELED, timing, now, keep_order=True, replaced_by=payment.id)
    return replace(draft.change(), old_payment=None)


def begin_attempt(
    state: PaymentState, candidate: Candidate, decision: Decision, timing: Timing, now: datetime
) -> Change:
    """Open the next attempt. Winning this write is the permit to call the provider, and the only one."""
    draft = Draft(state, now)
    payment = state.payment
    number = payment.attempts + 1
    attempt = draft.add_attempt(
        Attempt(
            tenant=payment.tenant,
            id=ids.attempt_id(payment.id, number),
            payment_id=payment.id,
            number=number,
            reference=ids.attempt_reference(payment.id, number),
            provider=candidate.provider,
            account=candidate.account,
            status=_A.SENT,
            amount=payment.amount,
            currency=payment.currency,
            route=decision.as_dict(),
            created_at=now,
            updated_at=now,
            deadline_at=now + timedelta(seconds=timing.call),
        )
    )
    draft.set_payment(
        status=_P.PROCESSING,
        attempts=number,
        open_attempt=attempt.id,
        provider=candidate.provider,
        provider_reference=None,
        due_at=now + timedelta(seconds=timing.call + timing.lease),
    )
    draft.emit(
        "attempt.sent",
        attempt=attempt.id,
        provider=candidate.provider,
        account=candidate.account,
        reason=decision.reason,
    )
    return draft.change()


def fail_without_route(state: PaymentState, decision: Decision, now: datetime) -> Change:
    """No provider may or can take (another) attempt: the payment has failed."""
    draft = Draft(state, now)
    last = state.attempts[-1].error if state.attempts else None
    nobody = PaymentError(ErrorClass.INVALID_REQUEST, ErrorCode.NO_ROUTE, decision.reason)
    if decision.held:
        nobody = PaymentError(ErrorClass.PROVIDER_UNAVAILABLE, ErrorCode.PROVIDER_UNAVAILABLE, decision.reason)
    error = last or nobody
    draft.set_payment(status=_P.FAILED, error=error)
    draft.settle_order()
    draft.emit("payment.failed", route=decision.as_dict())
    return draft.change()


def give_up(
    state: PaymentState, to: PaymentStatus, timing: Timing, now: datetime, *, keep_order: bool = False, **facts: object
) -> Change:
    """Cancel or expire a payment that has no charge that may still succeed unseen.

    An attempt that still waits for the customer or the provider is let go and watched: what it
    brings later is reversed. Callers ask the provider first.
    """
    draft = Draft(state, now)
    attempt = state.open_attempt
    if attempt is not None:
        if attempt.status is not _A.ACTION_REQUIRED:
            msg = f"{attempt.id} is {attempt.status}: it may be a charge already"
            raise IllegalMove(msg)
        draft.set_attempt(attempt, status=_A.CANCELED, due_at=now + timedelta(seconds=timing.watch[0]), resolves=0)
    error = None
    if to is _P.EXPIRED:
        error = PaymentError(ErrorClass.DECLINED_CUSTOMER, ErrorCode.EXPIRED, "The payment was not completed in time.")
    draft.set_payment(status=to, error=error, open_attempt=None, needs_attention=False)
    if not keep_order:  # the payment that replaces this one moves the order
        draft.settle_order()
    draft.emit(f"payment.{to}", facts=facts)
    return draft.change()


def resume(state: PaymentState, timing: Timing, now: datetime, reason: str) -> Change:
    """Claim the right to start the payment's next workflow run; the write's winner starts it."""
    draft = Draft(state, now)
    draft.set_payment(run=state.payment.run + 1, due_at=now + timedelta(seconds=timing.lease))
    draft.emit("payment.resumed", run=draft.payment.run, reason=reason)
    return draft.change()


def park(state: PaymentState, now: datetime, reason: str) -> Change | None:
    """A person should look: the workflow kept crashing. The sweeper keeps trying all the same."""
    if state.payment.status in PAYMENT_FINAL or state.payment.needs_attention:
        return None
    draft = Draft(state, now)
    draft.set_payment(needs_attention=True)
    draft.emit("payment.parked", reason=reason[:300])
    return draft.change()


def approve(state: PaymentState, timing: Timing, now: datetime, note: str | None, *, by: str) -> Change:
    """A person lets a doubtful payment go on; the winner of this write starts its run. ``by`` is for the event."""
    draft = Draft(state, now)
    draft.set_payment(status=_P.PROCESSING, run=state.payment.run + 1, due_at=now + timedelta(seconds=timing.lease))
    draft.emit("payment.review_approved", note=note, by=by)
    return draft.change()


def reject(state: PaymentState, now: datetime, note: str | None, *, by: str) -> Change:
    """A person refuses a doubtful payment; ``by`` is for the event."""
    draft = Draft(state, now)
    error = PaymentError(ErrorClass.DECLINED_RISK, ErrorCode.REVIEW_REJECTED, "The payment was rejected in review.")
    draft.set_payment(status=_P.FAILED, error=error)
    draft.settle_order()
    draft.emit("payment.failed", note=note, by=by)
    return draft.change()


def erase_customer(state: PaymentState, now: datetime, *, by: str) -> Change | None:
    """Forget who paid; None while the payment is under way, for its provider still asks, or if nothing is known.

    What the merchant's books are made of stays: amounts, journals, events, and the customer's key, without which
    limits would forget a fraud. Attempts hold none of it, only providers' own ids. ``by`` is for the event.
    """
    private = contacts.private_of(state.payment)
    if not private or state.payment.status not in PAYMENT_FINAL:
        return None
    draft = Draft(state, now)
    draft.set_payment(
        customer=contacts.open_customer(state.payment.customer),
        method=contacts.open_method(state.payment.method),
        next_action=None,
    )
    draft.emit("payment.customer_erased", by=by)
    return draft.change()


def watched(attempt: Attempt, timing: Timing, now: datetime) -> Attempt:
    """The attempt after one more look at it that found nothing: next look, or none."""
    looks = attempt.resolves + 1
    due = now + timedelta(seconds=timing.watch[looks]) if looks < len(timing.watch) else None
    return replace(attempt, resolves=looks, due_at=due)


def expire_authorized(
    state: PaymentState, attempt: Attempt, *, lapse: bool, lapse_window: float, timing: Timing, now: datetime
) -> Change:
    """The time to capture is over. Where the provider has a void it is asked for, and the payment
    expires with its answer; with ``lapse`` it expires now and the provider's release, expected
    within ``lapse_window`` seconds, is awaited and checked."""
    draft = Draft(state, now)
    void = new_operation(
        draft, attempt, OperationType.VOID, attempt.amount, source="system", reason="expired", timing=timing
    )
    if lapse:
        due = now + timedelta(seconds=lapse_window)
        void = draft.set_operation(void, status=OperationStatus.SENT, deadline_at=now, due_at=due)
        draft.set_attempt(attempt, status=_A.EXPIRED)
        draft.set_payment(status=_P.EXPIRED)
        draft.settle_order()
        draft.emit("payment.expired", operation=void, attempt=attempt.id)
    else:
        draft.set_payment(open_operation=void.id, due_at=None)
        draft.emit("void.created", operation=void, work=True)
    return draft.change()
