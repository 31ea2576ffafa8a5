"""The things Railyard keeps, as frozen values, and ``Change``: everything one state change writes.

Amounts are integers in the currency's minor unit; times are aware UTC datetimes.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, NamedTuple

from chalicelib.domain.states import (
    ATTEMPT_OPEN,
    AttemptStatus,
    OperationStatus,
    OperationType,
    OrderStatus,
    PaymentStatus,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from chalicelib.domain.errors import PaymentError

Mode = Literal["test", "live"]


class Tenant(NamedTuple):
    """Whose world: every read and write names one. Test and live never see each other."""

    merchant_id: str
    mode: Mode


@dataclass(frozen=True, slots=True)
class Order:
    """What a customer owes; paid at most once."""

    tenant: Tenant
    id: str
    status: OrderStatus
    amount: int
    currency: str
    receipt: str | None
    lines: Sequence[Mapping[str, object]]
    metadata: Mapping[str, str]
    live_payment_id: str | None  # the payment that is under way for it, or has paid it
    created_at: datetime
    updated_at: datetime
    expires_at: datetime
    due_at: datetime | None
    version: int  # also the sequence of its newest event


@dataclass(frozen=True, slots=True)
class Payment:
    """What the merchant asked for and what became of it."""

    tenant: Tenant
    id: str
    status: PaymentStatus
    amount: int
    currency: str
    capture: Literal["automatic", "manual"]
    method: Mapping[str, str]
    customer: Mapping[str, str]
    order_id: str | None
    return_url: str | None
    description: str | None
    metadata: Mapping[str, str]
    risk: Mapping[str, object]
    created_at: datetime
    updated_at: datetime
    expires_at: datetime
    due_at: datetime | None  # a lease: the sweeper takes the payment once this has passed
    version: int  # also the sequence of its newest event
    run: int = 1  # which workflow execution drives it
    amount_authorized: int = 0
    amount_captured: int = 0
    amount_refundable: int = 0
    amount_refunding: int = 0
    amount_refunded: int = 0
    amount_disputed: int = 0
    provider: str | None = None
    provider_reference: str | None = None
    next_action: Mapping[str, object] | None = None
    error: PaymentError | None = None
    attempts: int = 0
    open_attempt: str | None = None  # the one attempt that may still become a charge
    winning_attempt: str | None = None  # set once, never changed
    open_operation: str | None = None  # the one capture or void under way
    needs_attention: bool = False
    customer_key: str | None = None  # keyed hash of the customer's email, for lists
    experiment: str | None = None  # of routing, by its key, and the arm it fell into: "name-1a2b3c4d/variant"

    @property
    def refund_status(self) -> Literal["none", "partial", "full"]:
        """How much of the captured money has gone back."""
        if self.amount_refunded == 0:
            return "none"
        return "full" if self.amount_refunded >= self.amount_captured else "partial"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One charge at one provider account."""

    tenant: Tenant
    id: str
    payment_id: str
    number: int
    reference: str  # what the provider knows it by
    provider: str
    account: str
    status: AttemptStatus
    amount: int
    currency: str
    route: Mapping[str, object]  # why this provider: the routing decision with its reasons
    created_at: datetime
    updated_at: datetime
    deadline_at: datetime  # until then the call itself may still be under way
    captured: int = 0
    reversed: int = 0
    provider_reference: str | None = None
    data: Mapping[str, str] = field(default_factory=dict)  # the adapter's own look-up keys
    error: PaymentError | None = None
    resolves: int = 0  # how often we asked what became of it
    not_found: int = 0  # how many of those, past the settle window, found nothing
    due_at: datetime | None = None  # set when it is watched after its payment let go of it
    retry_at: datetime | None = None  # until then its account asked not to be called (Retry-After)

    @property
    def is_open(self) -> bool:
        """Whether it may still become the payment's charge."""
        return self.status in ATTEMPT_OPEN


@dataclass(frozen=True, slots=True)
class Operation:
    """A capture, void, refund or reversal of one attempt's charge."""

    tenant: Tenant
    id: str
    payment_id: str
    attempt_id: str
    type: OperationType
    status: OperationStatus
    amount: int
    currency: str
    source: Literal["merchant", "provider", "system"]
    reason: str | None
    created_at: datetime
    updated_at: datetime
    due_at: datetime | None
    deadline_at: datetime | None = None  # until then the provider call may still be under way
    called_at: datetime | None = None  # when the provider was last asked to act, and not only asked
    calls: int = 0  # how often it was
    not_found: int = 0  # how often since then, past the settle window, it knew nothing of it
    provider_reference: str | None = None
    error: PaymentError | None = None
    tries: int = 0  # provider calls so far, resolves included


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to a payment or an order; immutable, numbered without gaps."""

    tenant: Tenant
    id: str
    subject_id: str  # the payment or order
    sequence: int
    type: str
    created_at: datetime
    data: Mapping[str, object]
    operation_id: str | None = None  # the operation that this event asks the operations queue to work on


@dataclass(frozen=True, slots=True)
class Leg:
    """One account's side of a journal: debit positive, credit negative, minor units."""

    account: str
    amount: int


@dataclass(frozen=True, slots=True)
class Journal:
    """One immutable entry in the books: legs of one currency that sum to zero."""

    tenant: Tenant
    id: str
    payment_id: str
    type: str
    currency: str
    legs: Sequence[Leg]
    created_at: datetime
    attempt_id: str
    operation_id: str | None = None


@dataclass(frozen=True, slots=True)
class Delivery:
    """One public event on its way to one of the merchant's endpoints."""

    tenant: Tenant
    id: str
    event_id: str
    endpoint: str
    event_type: str
    payment_id: str | None
    url: str
    body: str  # what is posted, to the byte, on every try
    status: Literal["pending", "delivered", "dead"]
    created_at: datetime
    due_at: datetime | None
    tries: int = 0
    log: Sequence[Mapping[str, object]] = ()  # the newest tries


@dataclass(frozen=True, slots=True)
class Reference:
    """Leads from an id of somebody else's, or of a sub-object, to the payment it belongs to."""

    key: str
    tenant: Tenant
    payment_id: str


@dataclass(frozen=True, slots=True)
class PaymentState:
    """Everything a decision about one payment may look at."""

    payment: Payment
    attempts: Sequence[Attempt] = ()
    operations: Sequence[Operation] = ()
    order: Order | None = None

    def attempt(self, attempt_id: str | None) -> Attempt | None:
        """The attempt of that id, if the payment has it."""
        return next((a for a in self.attempts if a.id == attempt_id), None)

    def operation(self, operation_id: str | None) -> Operation | None:
        """The operation of that id, if the payment has it."""
        return next((o for o in self.operations if o.id == operation_id), None)

    @property
    def open_attempt(self) -> Attempt | None:
        """The attempt that may still become the payment's charge."""
        return self.attempt(self.payment.open_attempt)


@dataclass(frozen=True, slots=True)
class Change:
    """All that one state change writes, in one transaction or not at all.

    ``old_payment``/``old_order`` are what the decision was based on: their versions are the
    write's conditions. ``refund_guard`` repeats conservation in the write itself: the stored
    ``amount_refundable`` must be at least this much.
    """

    payment: Payment | None = None
    old_payment: Payment | None = None
    order: Order | None = None
    old_order: Order | None = None
    new_attempts: Sequence[Attempt] = ()
    attempts: Sequence[Attempt] = ()
    new_operations: Sequence[Operation] = ()
    operations: Sequence[Operation] = ()
    events: Sequence[Event] = ()
    journals: Sequence[Journal] = ()
    references: Sequence[Reference] = ()
    refund_guard: int = 0
    also: Change | None = None  # a change of another payment in the same transaction

    def state(self, before: PaymentState) -> PaymentState:
        """What ``before`` looks like after this change."""
        attempts = {a.id: a for a in before.attempts} | {a.id: a for a in (*self.new_attempts, *self.attempts)}
        operations = {o.id: o for o in before.operations} | {o.id: o for o in (*self.new_operations, *self.operations)}
        return replace(
            before,
            payment=self.payment or before.payment,
            attempts=tuple(attempts.values()),
            operations=tuple(operations.values()),
            order=self.order or before.order,
        )
