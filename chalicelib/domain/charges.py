"""What providers say about charges, and what that does to the payment: pure, returns the Change to commit.

Whatever tells us about a charge (the provider's answer, a look-up, a webhook, a browser's return,
a person) goes through ``record_charge``, so that all orders of arrival converge. ``None`` means
that nothing new was learned.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

from chalicelib.domain import ids
from chalicelib.domain.draft import Draft, error_dict, exchange_dict
from chalicelib.domain.errors import ErrorClass, ErrorCode, PaymentError
from chalicelib.domain.model import Attempt, Operation, PaymentState
from chalicelib.domain.outcome import Charge, ChargeStatus, Exchange
from chalicelib.domain.states import (
    ATTEMPT_LATE,
    OPERATION_OPEN,
    AttemptStatus,
    OperationStatus,
    OperationType,
    PaymentStatus,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from chalicelib.domain.model import Change, Payment
    from chalicelib.domain.timing import Timing

_A, _P, _C = AttemptStatus, PaymentStatus, ChargeStatus

# Of a next action the payment keeps all, and its event only what is small and nobody's name or address.
_LARGE_OR_PERSONAL = frozenset({"fields", "params"})
_ANOTHER = "another_charge"  # where an attempt notes a second charge that it was told of
NOT_FOUND_READS = 2  # a look-up that finds nothing is definite only the second time


# How an attempt that is an event's outcome ended, beside the error classes.
SUCCEEDED, WAITING = "succeeded", "waiting"


class Mismatch(Exception):
    """The provider's amount or currency is not ours: refused and alarmed, never trusted."""


def check_charge(attempt: Attempt, charge: Charge) -> None:
    """Raise Mismatch unless the provider talks about our charge, our amount and our currency."""
    for name, ours in attempt.data.items():
        theirs = charge.data.get(name, ours)
        if name.endswith("_id") and theirs != ours:
            msg = f"{attempt.id}: the provider says {name} {theirs}, ours is {ours}"
            raise Mismatch(msg)
    if charge.status in (_C.SUCCEEDED, _C.AUTHORIZED) and (charge.amount is None or charge.currency is None):
        msg = f"{attempt.id}: the provider says {charge.status} and not of what amount"
        raise Mismatch(msg)
    if charge.amount is not None and charge.amount != attempt.amount:
        msg = f"{attempt.id}: the provider says amount {charge.amount}, we asked for {attempt.amount}"
        raise Mismatch(msg)
    if charge.currency is not None and charge.currency.upper() != attempt.currency:
        msg = f"{attempt.id}: the provider says currency {charge.currency}, we asked for {attempt.currency}"
        raise Mismatch(msg)
    if not 0 <= charge.captured <= attempt.amount:
        msg = f"{attempt.id}: the provider says {charge.captured} captured of {attempt.amount}"
        raise Mismatch(msg)


def record_charge(
    state: PaymentState,
    attempt: Attempt,
    charge: Charge,
    *,
    next_within: Callable[[Sequence[Attempt]], float | None],
    timing: Timing,
    authorization_window: float,
    now: datetime,
    source: str,
) -> Change | None:
    """Take in what a provider says about a charge; raises Mismatch if it is not about our money.

    ``authorization_window`` (seconds) is how long this provider lets an authorization be captured;
    ``next_within`` says within how many seconds another attempt would begin, or None if there may be none.
    """
    check_charge(attempt, charge)
    recorder = _Recorder(Draft(state, now), attempt, charge, next_within, timing, authorization_window, source)
    if recorder.is_another():
        return recorder.another()
    if attempt.is_open:
        return recorder.open_attempt()
    if attempt.status is _A.AUTHORIZED:
        return recorder.authorized_attempt()
    if attempt.status in ATTEMPT_LATE or attempt.status is _A.LATE_SUCCEEDED:
        return recorder.late()
    return recorder.another()


def retry_at(attempt: Attempt, retry_after: float | None, now: datetime) -> datetime | None:
    """Until when the attempt's account asks not to be called, after an answer that asks for so many seconds more."""
    return attempt.retry_at if retry_after is None else now + timedelta(seconds=retry_after)


def network_of(method: Mapping[str, str]) -> str | None:
    """What beside its type decides about a method's success: the card's network, the bank or the wallet."""
    return method.get("network") or method.get("bank") or method.get("wallet")


def outcome(payment: Payment, attempt: Attempt, end: str) -> dict[str, object]:
    """What an event tells the statistics about its attempt as it was before: each attempt's outcome once.

    ``end`` is SUCCEEDED, WAITING or an ErrorClass. After a time-out, which was told, only a success is news; that
    the customer or the bank is waited for is news only as the first answer. Nothing told is an empty dictionary.
    """
    known = attempt.status in (_A.UNKNOWN, _A.MANUAL_REVIEW)
    if (known and end != SUCCEEDED) or (end == WAITING and attempt.status is not _A.SENT):
        return {}
    network = network_of(payment.method)
    told = {
        "end": str(end),
        "provider": attempt.provider,
        "account": attempt.account,
        "method": payment.method["type"],
        "amount": attempt.amount,
        "currency": attempt.currency,
        "sent_at": attempt.created_at.isoformat(),
    }
    return {"outcome": told | ({"network": network} if network else {})}


@dataclass(slots=True)
class _Recorder:
    """One call of ``record_charge``, by the attempt's state."""

    draft: Draft
    attempt: Attempt
    charge: Charge
    next_within: Callable[[Sequence[Attempt]], float | None]
    timing: Timing
    authorization_window: float
    source: str

    def _facts(self) -> dict[str, object]:
        """What every event of this charge shows."""
        facts: dict[str, object] = {"attempt": self.attempt.id, "source": self.source}
        call = exchange_dict(self.charge.exchange)
        return facts | ({"call": call} if call else {})

    def _set_attempt(self, status: AttemptStatus, **fields: object) -> None:
        charge = self.charge
        reference = charge.provider_reference or self.attempt.provider_reference
        if reference and reference != self.attempt.provider_reference:
            self.draft.refer(self.attempt, reference)
        self.attempt = self.draft.set_attempt(
            self.attempt,
            status=status,
            provider_reference=reference,
            data={**self.attempt.data, **charge.data},
            error=charge.error,
            retry_at=retry_at(self.attempt, charge.retry_after, self.draft.now),
            **fields,
        )

    def _due(self, seconds: float) -> datetime:
        return self.draft.now + timedelta(seconds=seconds)

    # -- the provider's page took money twice --------------------------------------------------

    def is_another(self) -> bool:
        """Whether this is a second charge under one reference: another id than that of the one that took money."""
        ours, theirs = self.attempt.provider_reference, self.charge.provider_reference
        took = self.attempt.status in (_A.AUTHORIZED, _A.SUCCEEDED, _A.CAPTURED, _A.LATE_SUCCEEDED, _A.REVERSED)
        takes = self.charge.status in (_C.SUCCEEDED, _C.AUTHORIZED)
        return took and takes and ours is not None and theirs is not None and ours != theirs

    def another(self) -> Change | None:
        """One charge is kept, and it is not this one. No attempt of ours made it, so a person gives it back."""
        theirs = self.charge.provider_reference or ""
        if not self.is_another() or self.attempt.data.get(_ANOTHER) == theirs:
            return None
        self.draft.set_attempt(self.attempt, data={**self.attempt.data, _ANOTHER: theirs})
        self.draft.set_payment(needs_attention=True)
        self.draft.emit("attempt.charged_twice", provider_reference=theirs, facts=self._facts())
        return self.draft.change()

    # -- the payment still waits for this attempt ----------------------------------------------

    def open_attempt(self) -> Change | None:
        status = self.charge.status
        if status is _C.SUCCEEDED:
            return self._succeeded(self.charge.captured or self.attempt.amount)
        if status is _C.AUTHORIZED:
            return self._authorized()
        if status in (_C.DECLINED, _C.CANCELED):
            return self._ended(status)
        return self._waiting(status)

    def _succeeded(self, captured: int) -> Change:
        draft = self.draft
        told = outcome(draft.payment, self.attempt, SUCCEEDED)
        self._set_attempt(_A.SUCCEEDED, captured=captured)
        draft.set_payment(
            status=_P.SUCCEEDED,
            amount_authorized=self.attempt.amount,
            amount_captured=captured,
            provider_reference=self.attempt.provider_reference,
            winning_attempt=self.attempt.id,
            open_attempt=None,
            needs_attention=False,
        )
        draft.post("capture", self.attempt, captured)
        draft.settle_order()
        draft.emit("payment.succeeded", facts=self._facts() | told)
        return draft.change()

    def _authorized(self) -> Change:
        draft = self.draft
        told = outcome(draft.payment, self.attempt, SUCCEEDED)
        self._set_attempt(_A.AUTHORIZED)
        draft.set_payment(
            status=_P.AUTHORIZED,
            amount_authorized=self.attempt.amount,
            provider_reference=self.attempt.provider_reference,
            winning_attempt=self.attempt.id,
            open_attempt=None,
            needs_attention=False,
            expires_at=self._due(self.authorization_window),
            due_at=self._due(self.authorization_window),
        )
        draft.emit("payment.authorized", facts=self._facts() | told)
        if draft.payment.capture == "automatic":
            capture = new_operation(
                draft,
                self.attempt,
                OperationType.CAPTURE,
                self.attempt.amount,
                source="system",
                reason=None,
                timing=self.timing,
            )
            draft.set_payment(open_operation=capture.id)
            draft.emit("capture.created", operation=capture, work=True)
        return draft.change()

    def _ended(self, status: ChargeStatus) -> Change:
        # Every provider knows late successes, and a webhook may be lost: keep an eye on it.
        watch = self._due(self.timing.watch[0])
        # Without a reason it was the customer who gave up.
        ended = self.charge.error.error_class if self.charge.error else ErrorClass.DECLINED_CUSTOMER
        told = outcome(self.draft.payment, self.attempt, ended)
        self._set_attempt(_A.DECLINED if status is _C.DECLINED else _A.CANCELED, due_at=watch, resolves=0)
        return end_attempt(self.draft, self.attempt, self.next_within, self.timing, self._facts() | told)

    def _waiting(self, status: ChargeStatus) -> Change | None:
        draft, attempt = self.draft, self.attempt
        new = _A.ACTION_REQUIRED if status is _C.ACTION_REQUIRED else _A.PENDING
        if attempt.status is new or attempt.status is _A.MANUAL_REVIEW:
            return None
        if attempt.status is _A.ACTION_REQUIRED and self.charge.next_action is None:
            return None  # "pending" while we wait for the customer tells nothing new
        told = outcome(draft.payment, attempt, WAITING)
        self._set_attempt(new)
        due = (
            min(self._due(self.timing.poll), draft.payment.expires_at)
            if new is _A.ACTION_REQUIRED
            else self._due(self.timing.poll)
        )
        fields: dict[str, object] = {"provider_reference": self.attempt.provider_reference, "due_at": due}
        if new is _A.ACTION_REQUIRED:
            draft.set_payment(status=_P.REQUIRES_ACTION, next_action=self.charge.next_action, **fields)
            shown = {k: v for k, v in (self.charge.next_action or {}).items() if k not in _LARGE_OR_PERSONAL}
            draft.emit("payment.requires_action", next_action=shown, facts=self._facts() | told)
        else:
            draft.set_payment(status=_P.PROCESSING, **fields)
            draft.emit("attempt.pending", facts=self._facts() | told)
        return draft.change()

    # -- the money is held ---------------------------------------------------------------------

    def authorized_attempt(self) -> Change | None:
        if self.charge.status is _C.SUCCEEDED:
            return capture_succeeded(
                self.draft, self.attempt, self.charge.captured or self.attempt.amount, self._facts()
            )
        if self.charge.status is _C.CANCELED:
            return authorization_ended(self.draft, self.attempt, self._facts())
        return None  # also a decline: it is older than the authorization, whatever order they came in

    # -- the payment has let go of this attempt ------------------------------------------------

    def late(self) -> Change | None:
        draft, attempt, status = self.draft, self.attempt, self.charge.status
        released = attempt.status in (_A.VOIDED, _A.EXPIRED)
        if released and status is _C.CANCELED:
            return void_confirmed(draft, attempt, self._facts())
        captured = (self.charge.captured or attempt.amount) if status is _C.SUCCEEDED else 0
        if attempt.status is _A.LATE_SUCCEEDED:
            if status is _C.CANCELED and not attempt.captured:
                return reversal_confirmed(draft, attempt, self._facts())
            if not captured or attempt.captured:
                return None
            # Held when we heard of it, taken since: now there is money in the books to give back.
            self._set_attempt(_A.LATE_SUCCEEDED, captured=captured)
            draft.post("late_charge", self.attempt, captured)
            draft.emit("attempt.captured_late", facts=self._facts())
            return draft.change()
        held = status is _C.AUTHORIZED and not released
        if not captured and not held:
            return None
        self._set_attempt(_A.LATE_SUCCEEDED, captured=captured, due_at=None)
        if captured:
            draft.post("late_charge", self.attempt, captured)
        for operation in draft.before.operations:
            if operation.attempt_id == attempt.id and operation.status in OPERATION_OPEN:
                # A void that was left to the provider: nobody need wait for that release any more.
                taken = PaymentError(ErrorClass.CONFLICT, ErrorCode.CONFLICT, "The charge was captured meanwhile.")
                draft.set_operation(operation, status=OperationStatus.FAILED, error=taken)
        reversal = new_operation(
            draft,
            self.attempt,
            OperationType.REVERSAL,
            captured or attempt.amount,
            source="system",
            reason=f"late success of attempt {attempt.number}",
            timing=self.timing,
        )
        draft.emit("payment.reversal_started", operation=reversal, work=True, facts=self._facts())
        return draft.change()


def new_operation(
    draft: Draft,
    attempt: Attempt,
    operation_type: OperationType,
    amount: int,
    *,
    source: Literal["merchant", "provider", "system"],
    reason: str | None,
    timing: Timing,
) -> Operation:
    """Add a pending operation of ``amount`` minor units on an attempt's charge."""
    prefix = "rf" if operation_type is OperationType.REFUND else "op"
    return draft.add_operation(
        Operation(
            tenant=attempt.tenant,
            id=ids.new_id(prefix, draft.now),
            payment_id=attempt.payment_id,
            attempt_id=attempt.id,
            type=operation_type,
            status=OperationStatus.PENDING,
            amount=amount,
            currency=attempt.currency,
            source=source,
            reason=reason,
            created_at=draft.now,
            updated_at=draft.now,
            due_at=draft.now + timedelta(seconds=timing.lease),
        )
    )


def end_attempt(
    draft: Draft,
    attempt: Attempt,
    next_within: Callable[[Sequence[Attempt]], float | None],
    timing: Timing,
    facts: dict[str, object],
) -> Change:
    """The attempt is definitely over without a charge: go on with another one, or fail the payment."""
    attempts = [attempt if a.id == attempt.id else a for a in draft.before.attempts]
    shown = facts | {"error": error_dict(attempt.error)}
    wait = next_within(attempts)
    if wait is not None:
        draft.set_payment(
            status=_P.PROCESSING,
            open_attempt=None,
            provider_reference=None,
            due_at=draft.now + timedelta(seconds=wait + timing.lease),
            needs_attention=False,
        )
        draft.emit(f"attempt.{attempt.status}", facts=shown)
    else:
        canceled = PaymentError(ErrorClass.DECLINED_CUSTOMER, ErrorCode.CUSTOMER_CANCELED, "The customer gave up.")
        draft.set_payment(
            status=_P.FAILED,
            error=attempt.error or canceled,
            open_attempt=None,
            provider_reference=attempt.provider_reference,
            needs_attention=False,
        )
        draft.settle_order()
        draft.emit("payment.failed", facts=shown)
    return draft.change()


def capture_succeeded(draft: Draft, attempt: Attempt, captured: int, facts: dict[str, object]) -> Change:
    """Held money was taken, by our capture or in the provider's dashboard. The rest is released."""
    attempt = draft.set_attempt(attempt, status=_A.CAPTURED, captured=captured)
    operation = draft.before.operation(draft.payment.open_operation)
    if operation is not None:
        is_capture = operation.type is OperationType.CAPTURE
        conflict = PaymentError(ErrorClass.CONFLICT, ErrorCode.CONFLICT, "The charge was captured meanwhile.")
        operation = draft.set_operation(
            operation,
            status=OperationStatus.SUCCEEDED if is_capture else OperationStatus.FAILED,
            error=None if is_capture else conflict,
            amount=captured if is_capture else operation.amount,
        )
    draft.set_payment(
        status=_P.SUCCEEDED,
        amount_captured=captured,
        open_operation=None,
        needs_attention=False,
    )
    draft.post("capture", attempt, captured)
    draft.settle_order()
    draft.emit("payment.succeeded", operation=operation, facts=facts)
    return draft.change()


def authorization_ended(draft: Draft, attempt: Attempt, facts: dict[str, object]) -> Change:
    """Held money was released, by our void, by the provider's dashboard or because its time was up."""
    operation = draft.before.operation(draft.payment.open_operation)
    if operation is not None:
        is_void = operation.type is OperationType.VOID
        released = PaymentError(ErrorClass.CONFLICT, ErrorCode.CONFLICT, "The authorization was released.")
        operation = draft.set_operation(
            operation,
            status=OperationStatus.SUCCEEDED if is_void else OperationStatus.FAILED,
            error=None if is_void else released,
        )
    by_merchant = operation is not None and operation.type is OperationType.VOID and operation.source == "merchant"
    ran_out = not by_merchant and draft.now >= draft.payment.expires_at
    draft.set_attempt(attempt, status=_A.EXPIRED if ran_out else _A.VOIDED)
    draft.set_payment(status=_P.EXPIRED if ran_out else _P.CANCELED, open_operation=None, needs_attention=False)
    draft.settle_order()
    draft.emit("payment.expired" if ran_out else "payment.canceled", operation=operation, facts=facts)
    return draft.change()


def _awaited(draft: Draft, attempt: Attempt, operation_type: OperationType) -> Operation | None:
    """The attempt's operation of that type that is not over yet."""
    return next(
        (
            operation
            for operation in draft.before.operations
            if operation.attempt_id == attempt.id
            and operation.type is operation_type
            and operation.status in OPERATION_OPEN
        ),
        None,
    )


def void_confirmed(draft: Draft, attempt: Attempt, facts: dict[str, object]) -> Change | None:
    """The provider has released what we voided by letting it lapse."""
    operation = _awaited(draft, attempt, OperationType.VOID)
    if operation is None:
        return None
    done = draft.set_operation(operation, status=OperationStatus.SUCCEEDED)
    draft.set_payment(needs_attention=False)
    draft.emit("void.succeeded", operation=done, facts=facts)
    return draft.change()


def reversal_confirmed(draft: Draft, attempt: Attempt, facts: dict[str, object]) -> Change | None:
    """The provider has released money that was only held when we heard of its late success."""
    operation = _awaited(draft, attempt, OperationType.REVERSAL)
    if operation is None:
        return None
    done = draft.set_operation(operation, status=OperationStatus.SUCCEEDED, error=None)
    draft.set_attempt(attempt, status=_A.REVERSED, reversed=operation.amount)
    draft.emit("payment.reversal_succeeded", operation=done, facts=facts)
    return draft.change()


# -- when nobody could say -------------------------------------------------------------------------


def record_not_sent(
    state: PaymentState,
    attempt: Attempt,
    error: PaymentError,
    exchange: Exchange | None,
    *,
    next_within: Callable[[Sequence[Attempt]], float | None],
    timing: Timing,
    now: datetime,
    looked_up: bool = False,
    retry_after: float | None = None,
) -> Change | None:
    """The charge was certainly never made. Only the call itself, or two look-ups, may say so.

    What look-ups say (``looked_up``) is watched for a while, like any charge that was let go.
    """
    if attempt.status not in (_A.SENT, _A.UNKNOWN):
        return None
    draft = Draft(state, now)
    watch = now + timedelta(seconds=timing.watch[0]) if looked_up else None
    until = retry_at(attempt, retry_after, now)
    ended = draft.set_attempt(attempt, status=_A.NOT_SENT, error=error, due_at=watch, resolves=0, retry_at=until)
    facts: dict[str, object] = {"attempt": attempt.id} | outcome(state.payment, attempt, error.error_class)
    call = exchange_dict(exchange)
    return end_attempt(draft, ended, next_within, timing, facts | ({"call": call} if call else {}))


def record_unknown(
    state: PaymentState,
    attempt: Attempt,
    error: PaymentError,
    exchange: Exchange | None,
    *,
    resolved: bool,
    timing: Timing,
    now: datetime,
    retry_after: float | None = None,
) -> Change | None:
    """Still nobody can say. ``resolved`` tells an answerless resolve from the first call."""
    if attempt.status not in (_A.SENT, _A.UNKNOWN):
        return None
    draft = Draft(state, now)
    attempt = replace(attempt, retry_at=retry_at(attempt, retry_after, now))
    resolves = attempt.resolves + (1 if resolved else 0)
    told = outcome(state.payment, attempt, error.error_class)
    return _wait_or_review(draft, attempt, error, exchange, resolves, attempt.not_found, timing, told)


def record_overdue(state: PaymentState, attempt: Attempt, timing: Timing, now: datetime) -> Change | None:
    """A charge the provider has called pending for longer than we ask: a person should."""
    age = (now - attempt.created_at).total_seconds()
    if attempt.status is not _A.PENDING or age < sum(timing.resolve) + sum(timing.sweep):
        return None
    draft = Draft(state, now)
    draft.set_attempt(attempt, status=_A.MANUAL_REVIEW)
    draft.set_payment(needs_attention=True, due_at=None)
    draft.emit("attempt.manual_review", attempt=attempt.id, reason="pending for too long")
    return draft.change()


def record_not_found(
    state: PaymentState,
    attempt: Attempt,
    exchange: Exchange | None,
    *,
    settle_window: float,
    next_within: Callable[[Sequence[Attempt]], float | None],
    timing: Timing,
    now: datetime,
) -> Change | None:
    """The provider has nothing under our reference. Definite only past the request's deadline plus
    the settle window (seconds), on two reads; until then it may still be on its way."""
    if attempt.status not in (_A.SENT, _A.UNKNOWN):
        return None
    settled = now >= attempt.deadline_at + timedelta(seconds=settle_window)
    reads = attempt.not_found + (1 if settled else 0)
    if reads >= NOT_FOUND_READS:
        error = PaymentError(
            ErrorClass.PROVIDER_UNAVAILABLE, ErrorCode.PROVIDER_UNAVAILABLE, "The provider never received the charge."
        )
        return record_not_sent(
            state, attempt, error, exchange, next_within=next_within, timing=timing, now=now, looked_up=True
        )
    error = PaymentError(ErrorClass.TIMEOUT_UNKNOWN, ErrorCode.OUTCOME_UNKNOWN, "The provider does not know it (yet).")
    return _wait_or_review(Draft(state, now), attempt, error, exchange, attempt.resolves + 1, reads, timing)


def _wait_or_review(
    draft: Draft,
    attempt: Attempt,
    error: PaymentError,
    exchange: Exchange | None,
    resolves: int,
    not_found: int,
    timing: Timing,
    told: dict[str, object] | None = None,
) -> Change:
    wait = timing.resolve_wait(resolves)
    call = exchange_dict(exchange)
    facts: dict[str, object] = {"attempt": attempt.id, "error": error_dict(error)} | ({"call": call} if call else {})
    facts |= told or {}
    if wait is None:
        draft.set_attempt(attempt, status=_A.MANUAL_REVIEW, error=error, resolves=resolves, not_found=not_found)
        draft.set_payment(status=_P.PROCESSING, needs_attention=True, due_at=None)
        draft.emit("attempt.manual_review", facts=facts)
        return draft.change()
    draft.set_attempt(attempt, status=_A.UNKNOWN, error=error, resolves=resolves, not_found=not_found)
    unhurried = timing.unhurried(wait, attempt.retry_at, draft.now)
    draft.set_payment(due_at=draft.now + timedelta(seconds=unhurried + timing.lease))
    draft.emit("attempt.unknown", resolves=resolves, facts=facts)
    return draft.change()
