"""Going on with what the sweeper found overdue: the same services as everybody else calls.

No correctness depends on a workflow execution or a message being alive; this is where that is kept.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from chalicelib.domain import charges
from chalicelib.domain import payments as lifecycle
from chalicelib.domain.outcome import Charge, ChargeStatus, NotFound
from chalicelib.domain.states import ATTEMPT_LATE, AttemptStatus, OperationStatus, PaymentStatus
from chalicelib.observability import logger, metric
from chalicelib.services import attempts, operations, orders, payments
from chalicelib.services.kit import load_state, settle
from chalicelib.storage.mapping import tenant_key

if TYPE_CHECKING:
    from chalicelib.domain.model import Attempt, Change, Payment, PaymentState, Tenant
    from chalicelib.services.kit import Kit

_P = PaymentStatus
_DAY = 86400.0


def take_up(kit: Kit, tenant: Tenant, subject_id: str, sk: str, lease: float) -> None:
    """Take one overdue row a step further. ``lease`` (epoch seconds) is what the sweeper moved it to.

    Whatever goes wrong, the lease brings the row back; the metric's alarm brings a person.
    """
    _, kind, *rest = sk.split("#")
    try:
        if kind == "payment":
            _reschedule(kit, tenant, subject_id, sk, lease, wake(kit, tenant, subject_id))
        elif kind == "op":
            operations.work(kit, tenant, subject_id, rest[0])
        elif kind == "att":
            _watch(kit, tenant, subject_id, int(rest[0]), lease)
        elif kind == "order":
            _reschedule(kit, tenant, subject_id, sk, lease, orders.expire(kit, tenant, subject_id))
    except Exception:  # noqa: BLE001 - a retry by the queue would only race with the lease
        logger.exception("overdue %s of %s failed; its lease brings it back", sk, subject_id, payment_id=subject_id)
        metric("SweepFailed")


def _reschedule(kit: Kit, tenant: Tenant, subject_id: str, sk: str, lease: float, wait: float | None) -> None:
    """Look again after ``wait`` seconds, or never; has no effect if the row has been moved on meanwhile."""
    pk = tenant_key(tenant, subject_id)
    if wait is None:
        kit.store.drop_due(pk, sk, lease)
    else:
        kit.store.claim_due(pk, sk, lease, kit.now() + timedelta(seconds=wait))


def wake(kit: Kit, tenant: Tenant, payment_id: str) -> float | None:
    """Take an overdue payment one step on; seconds until the next look, or None if it needs none."""
    state = load_state(kit, tenant, payment_id)
    status = state.payment.status
    if status in (_P.CREATED, _P.PROCESSING):
        _push(kit, state, state.open_attempt)
    elif status is _P.REQUIRES_ACTION:
        state = payments.ask_provider(kit, state, "sweep")
        _expire_if_over(kit, state)
    elif status is _P.REQUIRES_REVIEW:
        _expire_if_over(kit, state)
    elif status is _P.AUTHORIZED:
        _release_if_over(kit, state)
    else:
        return None
    return _next_look(kit, state.payment)


def _next_look(kit: Kit, payment: Payment) -> float:
    """Ever less often as a payment grows old, but not past the moment it expires."""
    age = (kit.now() - payment.created_at).total_seconds()
    wait = min(max(kit.timing.poll, age / 4), _DAY)
    left = (payment.expires_at - kit.now()).total_seconds()
    return min(wait, left + 1) if left > 0 else wait


def _push(kit: Kit, state: PaymentState, opened: Attempt | None) -> None:
    tenant, payment_id = state.payment.tenant, state.payment.id
    if opened is None:
        if kit.now() >= state.payment.expires_at:
            _expire_if_over(kit, state)
        else:
            payments.resume(kit, state, "overdue")
        return
    if opened.status in (AttemptStatus.SENT, AttemptStatus.UNKNOWN):
        attempts.resolve(kit, tenant, payment_id)
        state = load_state(kit, tenant, payment_id)
        if state.open_attempt is None and state.payment.status is _P.PROCESSING:
            payments.resume(kit, state, f"attempt {opened.number} resolved")
    elif opened.status is AttemptStatus.PENDING:
        state = payments.ask_provider(kit, state, "sweep")
        settle(kit, tenant, payment_id, lambda current: _overdue(kit, current, opened.id), state=state)


def _overdue(kit: Kit, current: PaymentState, attempt_id: str) -> Change | None:
    found = current.attempt(attempt_id)
    return charges.record_overdue(current, found, kit.timing, kit.now()) if found else None


def _expire_if_over(kit: Kit, state: PaymentState) -> None:
    """Expire the payment if its time is over and nothing of it may still be a charge."""
    before = state

    def decide(current: PaymentState) -> Change | None:
        nonlocal before
        before = current
        payment, opened = current.payment, current.open_attempt
        waits = opened is None or opened.status is AttemptStatus.ACTION_REQUIRED
        is_unfinished = payment.status in (_P.CREATED, _P.PROCESSING, _P.REQUIRES_ACTION, _P.REQUIRES_REVIEW)
        if not (waits and is_unfinished) or kit.now() < payment.expires_at:
            return None
        return lifecycle.give_up(current, _P.EXPIRED, kit.timing, kit.now())

    _, change = settle(kit, state.payment.tenant, state.payment.id, decide, state=state)
    if change is not None and before.open_attempt is not None:
        attempts.close_unpaid(kit, before.payment, before.open_attempt)


def _release_if_over(kit: Kit, state: PaymentState) -> None:
    """The time to capture is over: release what is held, once the provider has said that it still is."""
    payment, won = state.payment, state.attempt(state.payment.winning_attempt)
    if kit.now() < payment.expires_at or won is None:
        return
    operation = state.operation(payment.open_operation)
    if operation is not None and operation.status is not OperationStatus.MANUAL_REVIEW:
        return  # the operation's own lease goes on with it
    answer = attempts.look_up(kit, state, won)
    if not isinstance(answer, Charge):
        return
    state = attempts.record(kit, state, won, answer, resolved=False, source="expiry")
    if answer.status is not ChargeStatus.AUTHORIZED:
        return
    can = kit.provider(won.provider).capabilities

    def decide(current: PaymentState) -> Change | None:
        found = current.attempt(won.id)
        if current.payment.status is not _P.AUTHORIZED or current.payment.open_operation or found is None:
            return None
        return lifecycle.expire_authorized(
            current, found, lapse=can.void == "lapse", lapse_window=kit.timing.poll, timing=kit.timing, now=kit.now()
        )

    settle(kit, payment.tenant, payment.id, decide, state=state)


def _watch(kit: Kit, tenant: Tenant, payment_id: str, number: int, lease: float) -> None:
    """Look again at an attempt that its payment has let go of: what it brought meanwhile is reversed."""
    state = load_state(kit, tenant, payment_id)
    about = next((a for a in state.attempts if a.number == number), None)
    if about is None or about.status not in ATTEMPT_LATE or about.due_at is None:
        return
    answer = attempts.look_up(kit, state, about)
    if not isinstance(answer, Charge | NotFound):  # only an answer counts as a look
        wait = _next_look(kit, state.payment)
        _reschedule(kit, tenant, payment_id, f"a#att#{number:02d}", lease, wait)
        return
    if isinstance(answer, Charge):
        state = attempts.record(kit, state, about, answer, resolved=False, source="watch")
    now_is = state.attempt(about.id) or about
    if now_is.status is about.status:
        kit.store.watch(lifecycle.watched(now_is, kit.timing, kit.now()))
