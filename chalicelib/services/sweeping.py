"""The sweeper: takes up whatever should have moved on by now, by moving its lease, and calls the same
services as everybody else. No correctness depends on a workflow execution or a message being alive."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from chalicelib.domain import charges
from chalicelib.domain import payments as lifecycle
from chalicelib.domain.outcome import Charge
from chalicelib.domain.states import ATTEMPT_LATE, AttemptStatus, PaymentStatus
from chalicelib.observability import logger, metric
from chalicelib.services import attempts, notifications, operations, orders, payments
from chalicelib.services.kit import load_state, settle
from chalicelib.storage.mapping import DUE_SHARDS, tenant_of

if TYPE_CHECKING:
    from chalicelib.domain.model import Attempt, Change, PaymentState, Tenant
    from chalicelib.services.kit import Kit
    from chalicelib.storage.queries import DueRow

_BATCH = 25  # rows per shard and pass; the rest stays overdue for the next pass
_P = PaymentStatus


def sweep(kit: Kit) -> int:
    """One pass over all overdue work; returns how many rows were taken. One bad row stops no other."""
    taken = 0
    for shard in range(DUE_SHARDS):
        for row in kit.queries.due(shard, kit.now(), _BATCH):
            until = kit.now() + timedelta(seconds=kit.timing.call + kit.timing.lease)
            try:
                if not kit.store.claim_due(row.pk, row.sk, row.due_at, until):
                    continue
                taken += 1
                _take_up(kit, row, until.timestamp())
            except Exception:  # noqa: BLE001 - one bad row must not stop the others
                # Its lease brings it back; a row that fails forever shows in this metric's alarm.
                logger.exception("sweep of %s %s failed; its lease brings it back", row.pk, row.sk)
                metric("SweepFailed")
        for row in kit.queries.due_deliveries(shard, kit.now(), _BATCH):
            until = kit.now() + timedelta(seconds=kit.timing.lease)
            if kit.store.claim_delivery(row.pk, row.sk, row.due_at, until):
                event_id, endpoint = row.pk.rsplit("/", 1)[1], row.sk.removeprefix("dlv#")
                notifications.send(kit, tenant_of(row.pk), event_id, endpoint)
                taken += 1
    return taken


def _take_up(kit: Kit, row: DueRow, lease: float) -> None:
    tenant, identifier = tenant_of(row.pk), row.pk.rsplit("/", 1)[1]
    _, kind, *rest = row.sk.split("#")
    if kind == "payment":
        if not wake(kit, tenant, identifier):
            kit.store.drop_due(row.pk, row.sk, round(lease, 3))
    elif kind == "op":
        operations.work(kit, tenant, identifier, rest[0])
    elif kind == "att":
        _watch(kit, tenant, identifier, int(rest[0]))
    elif kind == "order":
        orders.expire(kit, tenant, identifier)


def wake(kit: Kit, tenant: Tenant, payment_id: str) -> bool:
    """Take an overdue payment one step on; False if it needs no more looking after."""
    state = load_state(kit, tenant, payment_id)
    payment, opened = state.payment, state.open_attempt
    if payment.status in (_P.CREATED, _P.PROCESSING):
        _push(kit, state, opened)
        return True
    if payment.status is _P.REQUIRES_ACTION:
        state = payments.ask_provider(kit, state, "sweep")
        return _expire_if_over(kit, state) if state.payment.status is _P.REQUIRES_ACTION else True
    if payment.status is _P.REQUIRES_REVIEW:
        return _expire_if_over(kit, state)
    if payment.status is _P.AUTHORIZED:
        _release_if_over(kit, state)
        return True
    return False


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


def _expire_if_over(kit: Kit, state: PaymentState) -> bool:
    """Expire the payment if its time is over and nothing of it may still be a charge; True: look again."""

    def decide(current: PaymentState) -> Change | None:
        payment, opened = current.payment, current.open_attempt
        waits = opened is None or opened.status is AttemptStatus.ACTION_REQUIRED
        is_unfinished = payment.status in (_P.CREATED, _P.PROCESSING, _P.REQUIRES_ACTION, _P.REQUIRES_REVIEW)
        if not (waits and is_unfinished) or kit.now() < payment.expires_at:
            return None
        return lifecycle.give_up(current, _P.EXPIRED, kit.timing, kit.now())

    settle(kit, state.payment.tenant, state.payment.id, decide, state=state)
    return True


def _release_if_over(kit: Kit, state: PaymentState) -> None:
    if kit.now() < state.payment.expires_at or state.payment.open_operation is not None:
        return
    state = payments.ask_provider(kit, state, "expiry")

    def decide(current: PaymentState) -> Change | None:
        won = current.attempt(current.payment.winning_attempt)
        if current.payment.status is not _P.AUTHORIZED or current.payment.open_operation or won is None:
            return None
        lapse = kit.provider(won.provider).capabilities.void == "lapse"
        return lifecycle.expire_authorized(current, won, lapse=lapse, timing=kit.timing, now=kit.now())

    settle(kit, state.payment.tenant, state.payment.id, decide, state=state)


def _watch(kit: Kit, tenant: Tenant, payment_id: str, number: int) -> None:
    """Look again at an attempt that its payment has let go of: what it brought meanwhile is reversed."""
    state = load_state(kit, tenant, payment_id)
    about = next((a for a in state.attempts if a.number == number), None)
    if about is None or about.status not in ATTEMPT_LATE or about.due_at is None:
        return
    answer = attempts.look_up(kit, state, about)
    if isinstance(answer, Charge):
        state = attempts.record(kit, state, about, answer, resolved=False, source="watch")
    now_is = state.attempt(about.id) or about
    if now_is.status is about.status:
        kit.store.watch(lifecycle.watched(now_is, kit.timing, kit.now()))
