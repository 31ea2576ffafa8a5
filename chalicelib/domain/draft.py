"""``Draft``: builds one state change step by step and checks every step against the tables."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from chalicelib.domain import ledger
from chalicelib.domain.ids import derived_id, new_id
from chalicelib.domain.model import Attempt, Change, Event, Journal, Operation, Order, Payment, Reference
from chalicelib.domain.retrying import DEFAULTS
from chalicelib.domain.states import (
    ATTEMPT_MOVES,
    OPERATION_MOVES,
    ORDER_MOVES,
    PAYMENT_FINAL,
    PAYMENT_MOVES,
    OperationStatus,
    OperationType,
    OrderStatus,
    PaymentStatus,
    check_move,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from chalicelib.domain.errors import PaymentError
    from chalicelib.domain.model import PaymentState

PUBLIC_EVENTS = frozenset(
    {
        "order.paid",
        "order.expired",
        "order.canceled",
        "payment.created",
        "payment.requires_action",
        "payment.requires_review",
        "payment.authorized",
        "payment.succeeded",
        "payment.failed",
        "payment.canceled",
        "payment.expired",
        "payment.reversal_started",
        "payment.reversal_succeeded",
        "refund.created",
        "refund.succeeded",
        "refund.failed",
        "refund.returned",
        "dispute.opened",
        "dispute.closed",
    }
)


def error_dict(error: PaymentError | None) -> dict[str, object] | None:
    """An error as the API shows it."""
    if error is None:
        return None
    return {
        "code": str(error.code),
        "message": error.message,
        "provider_code": error.provider_code,
        "retryable": error.error_class in DEFAULTS,
    }


def payment_snapshot(payment: Payment) -> dict[str, object]:
    """The payment as its events carry it: small, and without personal details."""
    snapshot: dict[str, object] = {
        "id": payment.id,
        "object": "payment",
        "mode": payment.tenant.mode,
        "status": str(payment.status),
        "amount": payment.amount,
        "currency": payment.currency,
        "amount_captured": payment.amount_captured,
        "amount_refunded": payment.amount_refunded,
    }
    optional = {
        "amount_authorized": payment.amount_authorized,
        "amount_refunding": payment.amount_refunding,
        "order_id": payment.order_id,
        "experiment": payment.experiment,
        "capture": "manual" if payment.experiment and payment.capture == "manual" else None,
        "provider": payment.provider,
        "provider_reference": payment.provider_reference,
        "error": error_dict(payment.error),
    }
    return snapshot | {key: value for key, value in optional.items() if value}


def order_snapshot(order: Order) -> dict[str, object]:
    """The order as its events carry it."""
    return {
        "id": order.id,
        "object": "order",
        "status": str(order.status),
        "amount": order.amount,
        "currency": order.currency,
        "receipt": order.receipt,
        "payment_id": order.live_payment_id,
    }


def operation_snapshot(operation: Operation) -> dict[str, object]:
    """The refund or other operation as its events carry it."""
    is_refund = operation.type is OperationType.REFUND
    return {
        "id": operation.id,
        "object": "refund" if is_refund else "operation",
        "type": str(operation.type),
        "payment_id": operation.payment_id,
        "status": str(operation.status),
        "amount": operation.amount,
        "currency": operation.currency,
        "source": operation.source,
        "provider_reference": operation.provider_reference,
        "error": error_dict(operation.error),
    }


class Draft:
    """A state change in the making. Nothing is written until the store commits ``change()``."""

    def __init__(self, state: PaymentState, now: datetime) -> None:
        """Start from ``state`` as it was read; ``now`` stamps everything the change writes."""
        self.before = state
        self.now = now
        self.payment = state.payment
        self.order = state.order
        self._attempts: dict[str, Attempt] = {}
        self._new_attempts: dict[str, Attempt] = {}
        self._operations: dict[str, Operation] = {}
        self._new_operations: dict[str, Operation] = {}
        self._events: list[Event] = []
        self._journals: list[Journal] = []
        self._told = 0  # how many journals events carry already
        self._references: list[Reference] = []
        self.refund_guard = 0
        self.also: Change | None = None

    # -- things that change -------------------------------------------------------------------

    def set_payment(self, **fields: Any) -> Payment:  # noqa: ANN401 - the dataclass's own fields
        """Change fields of the payment; a status must be a legal move."""
        if "status" in fields:
            check_move(PAYMENT_MOVES, self.payment.status, fields["status"], self.payment.id)
            if fields["status"] is not PaymentStatus.REQUIRES_ACTION:
                fields.setdefault("next_action", None)
            if fields["status"] in PAYMENT_FINAL:
                fields.setdefault("due_at", None)
        payment = replace(self.payment, updated_at=self.now, **fields)
        # Derived in one place, so that facts come to the same in whatever order they arrive: a refund made
        # at the provider before its capture is heard of, or beyond what was refundable.
        gone = payment.amount_refunding + payment.amount_refunded + payment.amount_disputed
        self.payment = replace(payment, amount_refundable=max(0, payment.amount_captured - gone))
        return self.payment

    def set_attempt(self, attempt: Attempt, **fields: Any) -> Attempt:  # noqa: ANN401
        """Change fields of an attempt; a status must be a legal move."""
        attempt = self._new_attempts.get(attempt.id) or self._attempts.get(attempt.id) or attempt
        if "status" in fields:
            check_move(ATTEMPT_MOVES, attempt.status, fields["status"], attempt.id)
        changed = replace(attempt, updated_at=self.now, **fields)
        (self._new_attempts if attempt.id in self._new_attempts else self._attempts)[attempt.id] = changed
        return changed

    def add_attempt(self, attempt: Attempt) -> Attempt:
        """Add a new attempt."""
        self._new_attempts[attempt.id] = attempt
        return attempt

    def set_operation(self, operation: Operation, **fields: Any) -> Operation:  # noqa: ANN401
        """Change fields of an operation; a status must be a legal move."""
        operation = self._new_operations.get(operation.id) or self._operations.get(operation.id) or operation
        if "status" in fields:
            check_move(OPERATION_MOVES, operation.status, fields["status"], operation.id)
            if fields["status"] not in (OperationStatus.SENT, OperationStatus.UNKNOWN):
                fields.setdefault("due_at", None)
        changed = replace(operation, updated_at=self.now, **fields)
        (self._new_operations if operation.id in self._new_operations else self._operations)[operation.id] = changed
        return changed

    def add_operation(self, operation: Operation) -> Operation:
        """Add a new operation, and for a refund the reference that finds its payment."""
        self._new_operations[operation.id] = operation
        if operation.type is OperationType.REFUND:
            self._references.append(Reference(operation.id, operation.tenant, operation.payment_id))
        return operation

    def set_order(self, event: str, **fields: Any) -> None:  # noqa: ANN401
        """Change fields of the order with its own event; a status must be a legal move."""
        if self.order is None:
            msg = f"{self.payment.id}: its order {self.payment.order_id} was not loaded"
            raise ValueError(msg)
        order = self.order
        if "status" in fields:
            check_move(ORDER_MOVES, order.status, fields["status"], order.id)
        self.order = replace(order, updated_at=self.now, version=order.version + 1, **fields)
        self._events.append(
            Event(
                tenant=order.tenant,
                id=new_id("evt", self.now),
                subject_id=order.id,
                sequence=self.order.version,
                type=event,
                created_at=self.now,
                data={"order": order_snapshot(self.order)},
            )
        )

    # -- things that are added ----------------------------------------------------------------

    def emit(
        self,
        event_type: str,
        *,
        facts: Mapping[str, object] | None = None,
        operation: Operation | None = None,
        work: bool = False,
        **data: object,
    ) -> None:
        """Record an event. ``work`` asks the operations queue to take up ``operation``.

        Public events carry the payment as it is now, so emit after changing it.
        """
        payload: dict[str, object] = {**(facts or {}), **data}
        if event_type in PUBLIC_EVENTS:
            payload["payment"] = payment_snapshot(self.payment)
        if self._journals[self._told :]:
            # The books can be rebuilt from events alone: project reads no journals.
            payload["journals"] = [
                {"type": j.type, "currency": j.currency, "legs": [[leg.account, leg.amount] for leg in j.legs]}
                for j in self._journals[self._told :]
            ]
            self._told = len(self._journals)
        if operation is not None:
            is_refund = operation.type is OperationType.REFUND
            payload["refund" if is_refund else "operation"] = operation_snapshot(operation)
        self.payment = replace(self.payment, version=self.payment.version + 1, updated_at=self.now)
        self._events.append(
            Event(
                tenant=self.payment.tenant,
                id=new_id("evt", self.now),
                subject_id=self.payment.id,
                sequence=self.payment.version,
                type=event_type,
                created_at=self.now,
                data=payload,
                operation_id=operation.id if operation is not None and work else None,
            )
        )

    def post(self, journal_type: str, attempt: Attempt, amount: int, operation: Operation | None = None) -> None:
        """Post a journal of ``amount`` minor units."""
        self._journals.append(
            Journal(
                tenant=attempt.tenant,
                # Derived, so that a fact posted twice would collide with itself instead of doubling the books.
                id=derived_id("jnl", attempt.created_at, attempt.id, operation.id if operation else "", journal_type),
                payment_id=attempt.payment_id,
                type=journal_type,
                currency=attempt.currency,
                legs=ledger.legs(journal_type, attempt.provider, amount),
                created_at=self.now,
                attempt_id=attempt.id,
                operation_id=operation.id if operation else None,
            )
        )

    def refer(self, attempt: Attempt, provider_reference: str) -> None:
        """Let the provider's id of a charge lead to the payment."""
        key = f"{attempt.account}/{provider_reference}"
        self._references.append(Reference(key, attempt.tenant, attempt.payment_id))

    # -- the order follows its payment --------------------------------------------------------

    def settle_order(self) -> None:
        """Move the order along with the payment's new final status, if it has one."""
        if self.payment.order_id is None:
            return
        if self.payment.status is PaymentStatus.SUCCEEDED:
            self.set_order("order.paid", status=OrderStatus.PAID, due_at=None)
        elif self.payment.status in PAYMENT_FINAL and self.order and self.order.live_payment_id == self.payment.id:
            self.set_order("order.released", live_payment_id=None, due_at=self.order.expires_at)

    def _waits_for_a_person(self) -> bool:
        """Whether nobody but a person will take this further, whatever else has just been settled."""
        operations = {o.id: o for o in self.before.operations} | self._operations | self._new_operations
        if any(operation.status is OperationStatus.MANUAL_REVIEW for operation in operations.values()):
            return True
        payment = self.payment
        return payment.status not in PAYMENT_FINAL and payment.due_at is None and payment.open_operation is None

    def change(self) -> Change:
        """Everything to write; raises ValueError for a change without an event."""
        if not self._events:
            msg = f"{self.payment.id}: a change without an event"
            raise ValueError(msg)
        if self._waits_for_a_person():
            self.payment = replace(self.payment, needs_attention=True)
        changed_order = self.order is not self.before.order
        return Change(
            payment=self.payment,
            old_payment=self.before.payment,
            order=self.order if changed_order else None,
            old_order=self.before.order if changed_order else None,
            new_attempts=tuple(self._new_attempts.values()),
            attempts=tuple(self._attempts.values()),
            new_operations=tuple(self._new_operations.values()),
            operations=tuple(self._operations.values()),
            events=tuple(self._events),
            journals=tuple(self._journals),
            references=tuple(self._references),
            refund_guard=self.refund_guard,
            also=self.also,
        )


def exchange_dict(exchange: object | None) -> Mapping[str, object] | None:
    """A provider call as the events show it."""
    if exchange is None:
        return None
    return {
        name: value
        for name in ("method", "path", "http_status", "latency_ms", "request_id")
        if (value := getattr(exchange, name)) is not None
    }
