"""Captures, voids, refunds and reversals: accepted in one transaction, worked on from one queue.

What a crash does in ``work``: before ``begin`` commits, the message comes again; after it, the
operation is ``sent`` and its deadline keeps everybody from calling until the first call must be
over; then one worker wins ``try_again`` and calls under the same key, or asks the provider first
where a repeat would not be safe. Two workers at once: one wins each of these writes.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from chalicelib.domain import operations
from chalicelib.domain.errors import ErrorClass, ErrorCode, NotFoundError, PaymentError
from chalicelib.domain.outcome import Charge, ChargeStatus, Effect, EffectStatus, NotFound, Unknown
from chalicelib.domain.states import OPERATION_OPEN, OperationStatus, OperationType
from chalicelib.observability import logger, metric
from chalicelib.services.attempts import (
    account_of,
    call,
    charge_ref,
    has_moved,
    look_up,
    record,
    unknown_elsewhere,
)
from chalicelib.services.kit import committed, line, load_state, settle
from chalicelib.storage.store import Stale

if TYPE_CHECKING:
    from collections.abc import Callable

    from chalicelib.domain.audit import Actor, Entry
    from chalicelib.domain.model import Attempt, Change, Operation, PaymentState, Tenant
    from chalicelib.domain.outcome import ChargeLookup, EffectLookup
    from chalicelib.services.idempotency import Idem
    from chalicelib.services.kit import Kit, Line
    from chalicelib.storage.store import Mark

_T, _X = OperationType, OperationStatus

_SOON = 1.0  # seconds until a worker that lost a race looks again


def capture(
    kit: Kit, tenant: Tenant, payment_id: str, amount: int | None, idem: Idem, *, by: Actor
) -> tuple[PaymentState, Operation]:
    """Accept a capture of ``amount`` minor units (None: all); raises as ``request_capture``, and KeyTaken."""

    def decide(state: PaymentState) -> tuple[Change, Operation]:
        partial = kit.provider(state.payment.provider).capabilities.partial_capture if state.payment.provider else False
        return operations.request_capture(state, amount, partial=partial, timing=kit.timing, now=kit.now())

    return _accept(kit, tenant, payment_id, decide, idem, "capture.created", by)


def refund(
    kit: Kit, tenant: Tenant, payment_id: str, amount: int | None, reason: str | None, idem: Idem, *, by: Actor
) -> tuple[PaymentState, Operation]:
    """Accept a refund of ``amount`` minor units (None: the rest); raises as ``request_refund``, and KeyTaken."""

    def decide(state: PaymentState) -> tuple[Change, Operation]:
        partial = kit.provider(state.payment.provider).capabilities.partial_refund if state.payment.provider else False
        return operations.request_refund(state, amount, reason, partial=partial, timing=kit.timing, now=kit.now())

    return _accept(kit, tenant, payment_id, decide, idem, "refund.created", by, reason=reason)


def get_refund(kit: Kit, tenant: Tenant, refund_id: str) -> Operation:
    """The refund; raises NotFoundError."""
    payment_id = kit.queries.payment_of_reference(tenant, refund_id)
    operation = kit.queries.operation(tenant, payment_id, refund_id) if payment_id else None
    if operation is None:
        raise NotFoundError("refund_not_found", f"There is no refund {refund_id}.", param="id")
    return operation


def _accept(
    kit: Kit,
    tenant: Tenant,
    payment_id: str,
    decide: Callable[[PaymentState], tuple[Change, Operation]],
    idem: Idem,
    action: str,
    by: Actor,
    **said: object,
) -> tuple[PaymentState, Operation]:
    accepted: list[Operation] = []

    def change_of(state: PaymentState) -> Change:
        change, operation = decide(state)
        accepted[:] = [operation]
        return change

    def audit(before: PaymentState, after: PaymentState) -> Entry:
        (operation,) = accepted
        return line(kit, tenant, action, by, lambda _: operation.id, amount=operation.amount, **said)(before, after)

    after, _ = settle(
        kit,
        tenant,
        payment_id,
        change_of,
        claim=lambda made: idem.claim((made, accepted[0]), accepted[0].id, kit.now()),
        audit=audit,
    )
    return after, accepted[0]


def work(kit: Kit, tenant: Tenant, payment_id: str, operation_id: str) -> float | None:
    """Do the next thing about an operation; returns the seconds after which to call again, or None
    when it is over or somebody else (a webhook, the sweeper) carries it on."""
    state = load_state(kit, tenant, payment_id)
    operation = state.operation(operation_id)
    if operation is None:
        msg = f"{payment_id} has no operation {operation_id}"
        raise LookupError(msg)
    if operation.status not in OPERATION_OPEN or operation.status is _X.MANUAL_REVIEW:
        return None
    now = kit.now()
    if operation.status is not _X.PENDING and operation.deadline_at and now < operation.deadline_at:
        return (operation.deadline_at - now).total_seconds()  # a call may still be under way
    about = _attempt(state, operation)
    if _is_awaited(state, operation):
        _await(kit, state, operation, about)
        return None
    is_new = operation.status is _X.PENDING
    change = (operations.begin if is_new else operations.try_again)(state, operation, kit.timing, now)
    try:
        kit.store.commit(change, now=now)
    except Stale:
        return _SOON
    committed(state, change.state(state), change)
    state = change.state(state)
    claimed = state.operation(operation_id) or operation
    after = _call_and_record(kit, state, claimed, about, again=not is_new)
    done = after.operation(operation_id) or claimed
    if done.status is not _X.UNKNOWN or done.tries > len(kit.timing.operation):
        return None
    return kit.timing.operation_wait(done.tries)


def _call_and_record(
    kit: Kit, state: PaymentState, operation: Operation, about: Attempt, *, again: bool
) -> PaymentState:
    releases = operation.type is _T.REVERSAL and not about.captured
    if again and (operation.type in (_T.CAPTURE, _T.VOID) or releases):
        # Providers promise less for these: what the first call did shows on the charge.
        charge = look_up(kit, state, about)
        if isinstance(charge, Charge) and charge.status is ChargeStatus.CANCELED and releases:
            return record_answer(kit, state, operation, Effect(EffectStatus.SUCCEEDED), source="resolve")
        if isinstance(charge, Charge) and charge.status in (ChargeStatus.SUCCEEDED, ChargeStatus.CANCELED):
            state = record(kit, state, about, charge, resolved=False, source="resolve")
            about = _attempt(state, operation)
            if not releases:
                return state
            # Held when we heard of it, taken since: now it has to be given back.
    answer = _call(kit, state, operation, about, again=again)
    return record_answer(kit, state, operation, answer, source="response")


def _call(kit: Kit, state: PaymentState, operation: Operation, about: Attempt, *, again: bool) -> EffectLookup:
    provider = kit.provider(about.provider)
    account, ref, key = account_of(kit, about), charge_ref(kit, state.payment, about), operation.id
    if operation.type is _T.CAPTURE:
        return call(about.provider, "capture", lambda: provider.capture(account, ref, operation.amount, key))
    if operation.type is _T.VOID or (operation.type is _T.REVERSAL and not about.captured):
        return call(about.provider, "void", lambda: provider.void(account, ref, key))
    age = (kit.now() - operation.created_at).total_seconds()
    window = provider.capabilities.operation_idempotency_window
    if again and age >= window:
        found = _fetch_refund(kit, state, operation, about)
        if window or not isinstance(found, NotFound) or not operations.may_send_again(operation):
            return found
        try:
            kit.store.commit(operations.send_again(state, operation, kit.now()), now=kit.now())
        except Stale:
            return found  # somebody else has moved it on
    return call(about.provider, "refund", lambda: provider.refund(account, ref, _refund_amount(operation, about), key))


def _refund_amount(operation: Operation, about: Attempt) -> int:
    return about.captured if operation.type is _T.REVERSAL else operation.amount


def record_answer(
    kit: Kit,
    state: PaymentState,
    operation: Operation,
    answer: EffectLookup,
    *,
    source: str,
    mark: Mark | None = None,
    audit: Line | None = None,
) -> PaymentState:
    """Commit what a provider said, or failed to say, about an operation; raises AlreadyApplied with a mark."""
    if isinstance(answer, Effect) and _is_other_money(operation, _attempt(state, operation), answer):
        logger.error(
            "%s: the provider says amount %s, we asked for %s. Compare it in the provider's dashboard",
            operation.id,
            answer.amount,
            operation.amount,
            payment_id=state.payment.id,
        )
        metric("ProviderMismatch", provider=state.payment.provider or "")
        error = PaymentError(ErrorClass.CONFLICT, ErrorCode.MISMATCH, f"The provider says {answer.amount}.")
        answer = Unknown(error, answer.exchange)

    def is_over(found: Operation) -> bool:
        # Whoever brings the answer to the newest try made its call; an older one may come late.
        return source == "response" and found.tries == operation.tries

    def decide(current: PaymentState) -> Change | None:
        found = current.operation(operation.id)
        if found is None:
            msg = f"{current.payment.id} has no operation {operation.id}"
            raise LookupError(msg)
        now = kit.now()
        if isinstance(answer, Effect):
            return operations.record_effect(current, found, answer, timing=kit.timing, now=now, source=source)
        if isinstance(answer, NotFound):
            error = PaymentError(
                ErrorClass.TIMEOUT_UNKNOWN, ErrorCode.OUTCOME_UNKNOWN, "The provider does not know it (yet)."
            )
            settled = operations.is_settled(
                found,
                settle_window=kit.provider(_attempt(current, found).provider).capabilities.settle_window,
                timing=kit.timing,
                now=now,
            )
            return operations.record_unknown(
                current, found, error, answer.exchange, timing=kit.timing, now=now, is_over=is_over(found),
                not_found=settled,
            )  # fmt: skip
        return operations.record_unknown(
            current, found, answer.error, answer.exchange, timing=kit.timing, now=now, is_over=is_over(found)
        )

    after, change = settle(kit, state.payment.tenant, state.payment.id, decide, state=state, mark=mark, audit=audit)
    if change is None and isinstance(answer, Effect) and answer.status is EffectStatus.PENDING:
        still = after.operation(operation.id)
        if still is not None and still.status in OPERATION_OPEN:
            _hold(kit, still)
    return after


def _is_other_money(operation: Operation, about: Attempt, effect: Effect) -> bool:
    """Whether the provider talks about another amount than we do. A capture may take less than was held."""
    if effect.currency is not None and effect.currency.upper() != operation.currency:
        return True
    if effect.amount is None or operation.type is _T.VOID:
        return False
    if operation.type is _T.CAPTURE:
        return effect.amount > about.amount
    return effect.amount != (_refund_amount(operation, about) or operation.amount)


def _hold(kit: Kit, operation: Operation) -> None:
    """Ask again later, and ever less often: a refund may take a bank a week."""
    age = (kit.now() - operation.created_at).total_seconds()
    kit.store.hold(operation, kit.now() + timedelta(seconds=max(kit.timing.poll, age / 4)))


def _is_awaited(state: PaymentState, operation: Operation) -> bool:
    """The provider has accepted the operation, or releases a voided charge by itself: nothing is left
    to call, only to ask. Asking changes nothing, so it needs no permit."""
    if operation.status is _X.PENDING:
        return False
    if operation.type is _T.VOID:
        return state.payment.open_operation != operation.id
    return operation.provider_reference is not None and operation.type in (_T.REFUND, _T.REVERSAL)


def _await(kit: Kit, state: PaymentState, operation: Operation, about: Attempt) -> None:
    if operation.type is _T.VOID:
        charge = look_up(kit, state, about)
        if isinstance(charge, Charge):
            record(kit, state, about, charge, resolved=False, source="resolve")
    else:
        answer = _fetch_refund(kit, state, operation, about)
        if isinstance(answer, Effect) and answer.status is not EffectStatus.PENDING:
            record_answer(kit, state, operation, answer, source="resolve")
    _hold(kit, operation)  # has no effect once the operation has moved on


def _attempt(state: PaymentState, operation: Operation) -> Attempt:
    about = state.attempt(operation.attempt_id)
    if about is None:
        msg = f"{operation.id}: attempt {operation.attempt_id} is missing"
        raise LookupError(msg)
    return about


def close_operation(
    kit: Kit,
    state: PaymentState,
    operation: Operation,
    outcome: str,
    provider_reference: str | None,
    note: str,
    audit: Line,
) -> PaymentState:
    """Close an operation that waits for a person: by the provider's word if it has one, else by theirs."""
    about = _attempt(state, operation)
    said = _ask(kit, state, operation, about)
    if isinstance(said, Charge) and said.status in (ChargeStatus.SUCCEEDED, ChargeStatus.CANCELED):
        after = record(kit, state, about, said, resolved=False, source="resolve", audit=audit)
        now_is = after.operation(operation.id)
        if now_is is None or now_is.status is not _X.MANUAL_REVIEW:
            return after
        state = after
    failed_reversal = operation.type is _T.REVERSAL and isinstance(said, Effect) and said.status is EffectStatus.FAILED
    if isinstance(said, Effect) and said.status is not EffectStatus.PENDING and not failed_reversal:
        return record_answer(kit, state, operation, said, source="resolve", audit=audit)
    if isinstance(said, Effect) and not failed_reversal:  # the provider is still deciding, and nobody can for it
        return state
    error = PaymentError(ErrorClass.CONFLICT, ErrorCode.CONFLICT, f"Closed by hand: {note}"[:200])
    by_hand = Effect(
        EffectStatus.SUCCEEDED if outcome == "succeeded" else EffectStatus.FAILED,
        provider_reference,
        error=None if outcome == "succeeded" else error,
    )
    return record_answer(kit, state, operation, by_hand, source=f"operator: {note[:200]}", audit=audit)


def _ask(kit: Kit, state: PaymentState, operation: Operation, about: Attempt) -> EffectLookup | ChargeLookup:
    """What the provider says now: of a refund by its id or key, of anything else by its charge."""
    if operation.type is _T.REFUND or (operation.type is _T.REVERSAL and about.captured):
        return _fetch_refund(kit, state, operation, about)
    return look_up(kit, state, about)


def _fetch_refund(kit: Kit, state: PaymentState, operation: Operation, about: Attempt) -> EffectLookup:
    return look_up_refund(kit, state, about, operation.id, operation.provider_reference)


def look_up_refund(
    kit: Kit, state: PaymentState, about: Attempt, key: str, provider_reference: str | None
) -> EffectLookup:
    """Ask the provider for a refund of an attempt's charge, by its own id for it or by our key."""
    provider = kit.provider(about.provider)
    account, ref = account_of(kit, about), charge_ref(kit, state.payment, about)
    found = call(about.provider, "fetch_refund", lambda: provider.fetch_refund(account, ref, key, provider_reference))
    return unknown_elsewhere(found) if isinstance(found, NotFound) and has_moved(account, about) else found
