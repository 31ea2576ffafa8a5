"""Domain values for tests: valid by default, any field can be set; times are virtual."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from chalicelib.domain import ids
from chalicelib.domain.errors import ErrorClass, ErrorCode, PaymentError
from chalicelib.domain.model import Attempt, Delivery, Operation, Order, Payment, PaymentState, Tenant
from chalicelib.domain.outcome import Charge, ChargeStatus, Effect, EffectStatus
from chalicelib.domain.routing import Candidate, Decision
from chalicelib.domain.states import AttemptStatus, OperationStatus, OperationType, OrderStatus, PaymentStatus
from chalicelib.domain.timing import Timing
from chalicelib.storage.sealing import Cipher
from tests.support import marks

if TYPE_CHECKING:
    from collections.abc import Sequence

NOW = datetime(2026, 11, 21, 4, 30, 0, 123000, tzinfo=UTC)
TENANT = Tenant("mer_01TEST", "test")
OTHER = Tenant("mer_02OTHER", "test")
AMOUNT = 149_900
KEYS = "mer_01TEST/test/"  # how the idempotency keys of TENANT begin
TIMING = Timing(
    lease=90.0,
    call=45.0,
    resolve=(15.0, 60.0, 300.0),
    sweep=(1800.0, 7200.0),
    poll=300.0,
    watch=(300.0, 1800.0),
    backoff=2.0,
    backoff_cap=20.0,
    payment_ttl=1800.0,
    order_ttl=86_400.0,
    operation=(5.0, 30.0),
)


def cipher(tenant: Tenant) -> Cipher:
    """What seals for a tenant, with the key that merchants of tests have."""
    return Cipher(tenant, b"k" * 32)


TECHNICAL = PaymentError(ErrorClass.TECHNICAL_DECLINE, ErrorCode.TECHNICAL_FAILURE, "The bank is down.", "BANK_DOWN")
ISSUER = PaymentError(ErrorClass.DECLINED_ISSUER, ErrorCode.INSUFFICIENT_FUNDS, "Insufficient funds.", "51")
REFUSED = PaymentError(ErrorClass.PROVIDER_UNAVAILABLE, ErrorCode.PROVIDER_UNAVAILABLE, "Connection refused.")
LOST = PaymentError(ErrorClass.TIMEOUT_UNKNOWN, ErrorCode.OUTCOME_UNKNOWN, "Time-out.")


def later(seconds: float) -> datetime:
    """``seconds`` after NOW."""
    return NOW + timedelta(seconds=seconds)


def make_payment(**fields: Any) -> Payment:
    """A created payment of ₹1,499 as services/payments.py makes it."""
    now = fields.pop("now", NOW)
    values: dict[str, Any] = {
        "tenant": TENANT,
        "id": ids.new_id("pay", now),
        "status": PaymentStatus.CREATED,
        "amount": AMOUNT,
        "currency": "INR",
        "capture": "automatic",
        "method": {"type": "upi", "flow": "collect", "vpa": "success@sim"},
        "customer": {"email": marks.EMAIL, "contact": marks.CONTACT, "country": "IN", "ip": marks.IPS[0]},
        "order_id": None,
        "return_url": None,
        "description": None,
        "metadata": {},
        "risk": {"decision": "allow", "score": 0, "reasons": []},
        "created_at": now,
        "updated_at": now,
        "expires_at": now + timedelta(seconds=TIMING.payment_ttl),
        "due_at": now + timedelta(seconds=TIMING.lease),
        "version": 0,
    }
    return Payment(**(values | fields))


def make_order(**fields: Any) -> Order:
    """A fresh order of the same amount."""
    now = fields.pop("now", NOW)
    expires_at = now + timedelta(seconds=TIMING.order_ttl)
    values: dict[str, Any] = {
        "tenant": TENANT,
        "id": ids.new_id("order", now),
        "status": OrderStatus.CREATED,
        "amount": AMOUNT,
        "currency": "INR",
        "receipt": "receipt-1",
        "lines": [],
        "metadata": {},
        "live_payment_id": None,
        "created_at": now,
        "updated_at": now,
        "expires_at": expires_at,
        "due_at": expires_at,
        "version": 1,
    }
    return Order(**(values | fields))


def make_attempt(payment: Payment, number: int = 1, **fields: Any) -> Attempt:
    """The payment's n-th attempt, just sent to account acct_a of provider sim_a."""
    values: dict[str, Any] = {
        "tenant": payment.tenant,
        "id": ids.attempt_id(payment.id, number),
        "payment_id": payment.id,
        "number": number,
        "reference": ids.attempt_reference(payment.id, number),
        "provider": "sim_a",
        "account": "acct_a",
        "status": AttemptStatus.SENT,
        "amount": payment.amount,
        "currency": payment.currency,
        "route": {},
        "created_at": payment.created_at,
        "updated_at": payment.created_at,
        "deadline_at": payment.created_at + timedelta(seconds=TIMING.call),
    }
    return Attempt(**(values | fields))


def make_operation(attempt: Attempt, kind: OperationType = OperationType.REFUND, **fields: Any) -> Operation:
    """A pending operation on the attempt's charge."""
    now = fields.pop("now", NOW)
    prefix = "rf" if kind is OperationType.REFUND else "op"
    values: dict[str, Any] = {
        "tenant": attempt.tenant,
        "id": ids.new_id(prefix, now),
        "payment_id": attempt.payment_id,
        "attempt_id": attempt.id,
        "type": kind,
        "status": OperationStatus.PENDING,
        "amount": attempt.amount,
        "currency": attempt.currency,
        "source": "merchant",
        "reason": None,
        "created_at": now,
        "updated_at": now,
        "due_at": now + timedelta(seconds=TIMING.lease),
    }
    return Operation(**(values | fields))


def make_delivery(**fields: Any) -> Delivery:
    """A delivery that waits for its first try."""
    now = fields.pop("now", NOW)
    values: dict[str, Any] = {
        "tenant": TENANT,
        "id": ids.new_id("dlv", now),
        "event_id": ids.new_id("evt", now),
        "endpoint": "default",
        "event_type": "payment.succeeded",
        "payment_id": None,
        "url": "https://merchant.example/hooks",
        "body": '{"id":"evt_1"}',
        "status": "pending",
        "created_at": now,
        "due_at": now + timedelta(seconds=TIMING.lease),
    }
    return Delivery(**(values | fields))


def candidate(name: str = "a", **fields: Any) -> Candidate:
    """Account acct_{name} of provider sim_{name}, which takes UPI and cards in rupees."""
    values: dict[str, Any] = {
        "account": f"acct_{name}",
        "provider": f"sim_{name}",
        "methods": frozenset({"upi", "card"}),
        "currencies": frozenset({"INR"}),
        "min_amount": 100,
        "max_amount": 10_000_000_00,
        "manual_capture": frozenset({"upi", "card"}),
    }
    return Candidate(**(values | fields))


def decision(chosen: Candidate | None = None) -> Decision:
    """A routing decision for ``chosen``."""
    return Decision(chosen, "default", ["acct_a"], {}, "It is first.")


def charge(status: ChargeStatus, **fields: Any) -> Charge:
    """What a provider says about a charge; a success is captured in full unless told otherwise."""
    values: dict[str, Any] = {"provider_reference": "ch_1"}
    if status in (ChargeStatus.SUCCEEDED, ChargeStatus.AUTHORIZED):
        values |= {"amount": AMOUNT, "currency": "INR"}
    if status is ChargeStatus.DECLINED:
        values["error"] = TECHNICAL
    if status is ChargeStatus.ACTION_REQUIRED:
        values["next_action"] = {"type": "redirect", "url": "https://bank.example/3ds"}
    return Charge(status, **(values | fields))


def effect(status: EffectStatus, **fields: Any) -> Effect:
    """What a provider says about an operation."""
    values: dict[str, Any] = {"provider_reference": "rfnd_1"}
    if status is EffectStatus.FAILED:
        values["error"] = TECHNICAL
    return Effect(status, **(values | fields))


def state_of(
    payment: Payment, attempts: Sequence[Attempt] = (), operations: Sequence[Operation] = (), order: Order | None = None
) -> PaymentState:
    """A payment with what belongs to it."""
    return PaymentState(payment, tuple(attempts), tuple(operations), order)


def with_version(payment: Payment, version: int) -> Payment:
    """The payment as if it had been written ``version`` times."""
    return replace(payment, version=version)
