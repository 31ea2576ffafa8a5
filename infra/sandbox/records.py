"""What the bank writes down. Amounts are in minor units, times in epoch seconds."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


class Outcome(StrEnum):
    """What can be asked for by instrument."""

    SUCCESS = "success"
    DECLINE = "decline"
    INSUFFICIENT_FUNDS = "insufficient_funds"
    TECHNICAL = "technical"
    NOT_ACCEPTED = "not_accepted"
    TIMEOUT_BEFORE = "timeout_before"
    TIMEOUT_AFTER = "timeout_after"
    SLOW_CHARGE = "slow_charge"
    PENDING_SUCCESS = "pending_success"
    PENDING_FAILURE = "pending_failure"
    ACTION = "action"
    LATE_SUCCESS = "late_success"
    RISK = "risk"
    AUTHENTICATION = "authentication"
    EXPIRED = "expired"


class Fault(StrEnum):
    """What can go wrong with one request, asked for with POST /_chaos."""

    TIMEOUT_BEFORE = "timeout_before"  # no effect, no answer
    TIMEOUT_AFTER = "timeout_after"  # effect, no answer
    SLOW = "slow"  # no answer, and the effect long after the client has gone
    TECHNICAL = "technical"  # HTTP 500, no effect
    TECHNICAL_AFTER = "technical_after"  # HTTP 500 after the effect
    RATE_LIMITED = "rate_limited"  # HTTP 429, no effect
    MAINTENANCE = "maintenance"  # HTTP 503 with a page, no effect
    HTML = "html"  # effect, and a page instead of an answer
    TRUNCATED = "truncated"  # effect, and half an answer
    WRONG_AMOUNT = "wrong_amount"  # effect, and an answer that names another amount
    DECLINE = "decline"  # a definite refusal, no effect
    PENDING = "pending"  # accepted, and succeeds later
    PENDING_FAILURE = "pending_failure"  # accepted, and fails later


WITHOUT_EFFECT = frozenset({Fault.TIMEOUT_BEFORE, Fault.TECHNICAL, Fault.RATE_LIMITED, Fault.MAINTENANCE})
WITHOUT_ANSWER = frozenset({Fault.TIMEOUT_BEFORE, Fault.TIMEOUT_AFTER, Fault.SLOW})
INSTRUMENT_FAULTS: dict[Outcome, Fault] = {
    Outcome.TIMEOUT_BEFORE: Fault.TIMEOUT_BEFORE,
    Outcome.TIMEOUT_AFTER: Fault.TIMEOUT_AFTER,
    Outcome.SLOW_CHARGE: Fault.SLOW,
}
MISREPORT = 100  # minor units by which a wrong amount is wrong
OPERATIONS = frozenset({"order", "create", "fetch", "capture", "void", "refund", "fetch_refund"})
_DELAYED = frozenset({Fault.PENDING, Fault.PENDING_FAILURE})


def possible(operation: str, fault: Fault) -> bool:
    """Whether that fault means anything for that operation."""
    if fault in _DELAYED:
        return operation in {"create", "refund"}
    if fault is Fault.DECLINE:
        return operation in {"create", "capture", "void", "refund"}
    return operation in OPERATIONS


class State(StrEnum):
    """The life of a charge."""

    PENDING = "pending"
    ACTION = "requires_action"
    AUTHORIZED = "authorized"
    CAPTURED = "captured"
    FAILED = "failed"
    VOIDED = "voided"


class Fact(StrEnum):
    """What a webhook can be about."""

    AUTHORIZED = "authorized"
    CAPTURED = "captured"
    FAILED = "failed"
    VOIDED = "voided"
    RELEASED = "released"  # an authorization nobody captured
    REFUND_CREATED = "refund_created"
    REFUNDED = "refunded"
    REFUND_FAILED = "refund_failed"
    REFUND_RETURNED = "refund_returned"


class RefusedError(Exception):
    """The bank refuses; ``reason`` is from the vocabulary of Razorpay's error reasons where one fits."""

    def __init__(self, reason: str, description: str, charge: Charge | None = None) -> None:
        """``charge`` is the failed charge, when there is one."""
        super().__init__(description)
        self.reason = reason
        self.description = description
        self.charge = charge


@dataclass(slots=True)
class Order:
    """A provider's order: an amount that charges are made on."""

    id: str
    provider: str
    receipt: str
    amount: int
    currency: str
    automatic: bool
    notes: Mapping[str, str]
    release_after: float
    created_at: float
    charges: list[str] = field(default_factory=list)
    details: Mapping[str, object] = field(default_factory=dict)  # what the wire format echoes
    return_url: str | None = None
    notify_url: str | None = None  # told with the order; else the provider's webhook_url
    closed: bool = False  # nobody can pay it any more


@dataclass(slots=True)
class Charge:
    """What became of one charge."""

    id: str
    provider: str
    reference: str
    amount: int
    currency: str
    automatic: bool
    method: Mapping[str, str]
    created_at: float
    release_after: float
    details: Mapping[str, object] = field(default_factory=dict)  # what the wire format echoes: notes, contact, …
    order_id: str | None = None
    return_url: str | None = None
    state: State = State.PENDING
    captured: int = 0
    refunded: int = 0
    refunding: int = 0
    released: bool = False
    reason: str | None = None
    misreport: int = 0
    refunds: list[str] = field(default_factory=list)
    notify_url: str | None = None
    captured_at: float | None = None

    @property
    def is_intent(self) -> bool:
        """Whether the customer pays by a UPI link of ours instead of a request to their UPI id."""
        return self.method.get("type") == "upi" and not self.method.get("vpa")

    @property
    def truth(self) -> str:
        """The status shown by GET /_truth."""
        if self.state is State.ACTION:
            return "pending"
        if self.state is State.CAPTURED and self.refunded >= self.captured:
            return "refunded"
        return self.state.value


@dataclass(slots=True)
class Refund:
    """What became of one refund."""

    id: str
    provider: str
    charge_id: str
    key: str | None
    amount: int
    currency: str
    created_at: float
    status: str = "pending"  # pending, succeeded, failed, returned
    details: Mapping[str, object] = field(default_factory=dict)
    misreport: int = 0
    closed_at: float | None = None


@dataclass(frozen=True, slots=True)
class Settled:
    """A line of a settlement report: a captured charge, or a refund of one."""

    charge: Charge
    refund: Refund | None
    amount: int
    fee: int  # the tax on it not included
    tax: int
    settlement_id: str
    utr: str
    at: float


@dataclass(frozen=True, slots=True)
class Notice:
    """One webhook before it is signed."""

    kind: str
    body: bytes
    event_id: str


@dataclass(frozen=True, slots=True)
class ChargeSpec:
    """A charge as asked for."""

    reference: str
    amount: int
    currency: str
    automatic: bool
    method: Mapping[str, str]
    return_url: str | None = None
    order: Order | None = None
    details: Mapping[str, object] = field(default_factory=dict)
    notify_url: str | None = None


def token(length: int, *parts: str) -> str:
    """An id's random-looking part, the same for the same parts."""
    number = int.from_bytes(hashlib.sha256("\x1f".join(parts).encode()).digest(), "big")
    digits = []
    for _ in range(length):
        number, rest = divmod(number, len(_BASE62))
        digits.append(_BASE62[rest])
    return "".join(digits)


def roll(*parts: str) -> float:
    """A number from 0 up to 1, the same for the same parts; every decision of the bank is one."""
    return int.from_bytes(hashlib.sha256("\x1f".join(parts).encode()).digest()[:7], "big") / 2**56


_ALIASES = {"failure": Outcome.DECLINE, "pending": Outcome.PENDING_SUCCESS}
_VPA_HOSTS = frozenset({"sim", "razorpay"})
_CODE_PREFIX = "SIM_"
# Test cards: Stripe's, Razorpay's, and what both call alike.
CARDS: dict[str, Outcome] = {
    "4000000000000002": Outcome.DECLINE,
    "4000000000009995": Outcome.INSUFFICIENT_FUNDS,
    "4000000000000069": Outcome.EXPIRED,
    "4000000000000127": Outcome.AUTHENTICATION,
    "4000000000000119": Outcome.TECHNICAL,
    "4000000000000341": Outcome.DECLINE,
    "4100000000000019": Outcome.RISK,
    "4000002500003155": Outcome.ACTION,
    "4000002760003184": Outcome.ACTION,
    "4100280000080001": Outcome.INSUFFICIENT_FUNDS,
    "4100280000060003": Outcome.DECLINE,
    "4100280000020007": Outcome.TECHNICAL,
    "4100280000000009": Outcome.AUTHENTICATION,
}
_BY_ENDS = {(number[:6], number[-4:]): outcome for number, outcome in CARDS.items()}
_FEE, _TAX, _WHOLE = 200, 18, 10_000  # 2 % of the amount, and 18 % tax on that


def fee_and_tax(amount: int) -> tuple[int, int]:
    """What the bank keeps of an amount, and the tax on that, in minor units."""
    fee = amount * _FEE // _WHOLE
    return fee, fee * _TAX // 100


def asked_outcome(method: Mapping[str, str]) -> Outcome | None:
    """The outcome that the instrument asks for, or None for a plain one."""
    if method.get("type") == "card":
        number = method.get("number", "")
        ends = (number[:6], number[-4:]) if number else (method.get("bin", ""), method.get("last4", ""))
        return _BY_ENDS.get(ends)
    name, separator, host = method.get("vpa", "").partition("@")
    code = method.get("bank") or method.get("wallet") or ""
    if separator and host in _VPA_HOSTS:
        asked = name
    elif code.upper().startswith(_CODE_PREFIX):
        asked = code[len(_CODE_PREFIX) :].lower()
    else:
        return None
    if asked in _ALIASES:
        return _ALIASES[asked]
    return Outcome(asked) if asked in Outcome._value2member_map_ else None
