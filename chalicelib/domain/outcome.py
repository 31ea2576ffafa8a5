"""What a provider told us, or failed to tell us.

A provider call ends in exactly one of four ways, and money depends on never mixing them up:

* it answered: a ``Charge`` or an ``Effect``, both statements of fact;
* ``NotSent``: the request certainly never reached the provider, so nothing happened there;
* ``NotFound``: a look-up by our own reference found nothing *at this moment*;
* ``Unknown``: anything else. A time-out is Unknown, never a failure.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from chalicelib.domain.errors import PaymentError


class ChargeStatus(StrEnum):
    """The states a provider may report for a charge; an unmapped status is ``pending``."""

    SUCCEEDED = "succeeded"  # captured: the customer's money has moved
    AUTHORIZED = "authorized"  # held, not captured
    DECLINED = "declined"  # definite: no money moved and this charge can no longer succeed
    PENDING = "pending"  # the provider will decide later
    ACTION_REQUIRED = "action_required"  # the customer has to do something; see next_action
    CANCELED = "canceled"  # voided, released, or given up by the customer


class EffectStatus(StrEnum):
    """The states a provider may report for a capture, void or refund."""

    SUCCEEDED = "succeeded"
    PENDING = "pending"  # accepted, decided later
    FAILED = "failed"  # definite: it had no effect and will have none
    RETURNED = "returned"  # a refund that succeeded and was sent back by the customer's bank


@dataclass(frozen=True, slots=True)
class Exchange:
    """One HTTP exchange with a provider, safe to store and show: no bodies, no secrets."""

    method: str
    path: str
    http_status: int | None
    latency_ms: int
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class Charge:
    """A provider's statement about one charge; amounts in minor units.

    ``amount`` and ``currency`` are what the provider says it charged; they are compared with
    ours and never trusted over them. ``data`` holds the adapter's own look-up keys (for
    example the provider's order id) and is handed back on every later call.
    """

    status: ChargeStatus
    provider_reference: str | None = None
    amount: int | None = None
    currency: str | None = None
    captured: int = 0
    refunded: int = 0
    error: PaymentError | None = None
    next_action: Mapping[str, object] | None = None
    data: Mapping[str, str] = field(default_factory=dict)
    exchange: Exchange | None = None
    retry_after: float | None = None  # seconds, when the provider asked for it


@dataclass(frozen=True, slots=True)
class Effect:
    """A provider's statement about one capture, void or refund; amount in minor units."""

    status: EffectStatus
    provider_reference: str | None = None
    amount: int | None = None
    currency: str | None = None
    error: PaymentError | None = None
    exchange: Exchange | None = None
    key: str | None = None  # our operation id, when the provider's own answer carries it


@dataclass(frozen=True, slots=True)
class NotSent:
    """The request never reached the provider: refused connection, DNS, TLS, or an answer such
    as 429 or 503 that the provider documents as refusing the request before any effect."""

    error: PaymentError
    exchange: Exchange | None = None
    retry_after: float | None = None  # seconds, when the provider asked for it


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nobody can say yet whether the provider acted: time-out, broken answer, 5xx."""

    error: PaymentError
    exchange: Exchange | None = None
    retry_after: float | None = None  # seconds, when the provider asked for it


@dataclass(frozen=True, slots=True)
class NotFound:
    """The provider knows nothing under our reference at this moment."""

    exchange: Exchange | None = None


ChargeOutcome = Charge | NotSent | Unknown
ChargeLookup = Charge | NotFound | NotSent | Unknown
EffectOutcome = Effect | NotSent | Unknown
EffectLookup = Effect | NotFound | NotSent | Unknown


class EventKind(StrEnum):
    """What a provider's event is about."""

    CHARGE = "charge"
    REFUND = "refund"
    DISPUTE = "dispute"
    HINT = "hint"  # says where to look, proves nothing
    IGNORED = "ignored"


@dataclass(frozen=True, slots=True)
class ProviderEvent:
    """An event from a provider in our terms. ``verified`` is False for what nobody has signed: always a HINT.

    ``reference`` is our own attempt reference when the payload carries it (it begins with the
    payment id); ``provider_reference`` is the provider's charge id; ``refund_key`` is our
    operation id when the payload carries it. Of a HINT only the ids are looked at: a refund's is in
    ``effect``, whose status says nothing.
    """

    dedupe_key: str
    type: str  # the provider's own name for the event
    kind: EventKind
    reference: str | None = None
    provider_reference: str | None = None
    charge: Charge | None = None
    effect: Effect | None = None
    refund_key: str | None = None
    verified: bool = True


@dataclass(frozen=True, slots=True)
class SettlementLine:
    """One line of a provider's settlement report; amounts in minor units.

    ``amount`` is gross: positive for what the provider owes us, negative for what it takes back.
    ``fee`` and ``tax`` (tax on the fee) are what it keeps of it, never negative. ``settlement_id``,
    ``utr`` and ``settled_at`` are None until the money is on its way to the bank.
    """

    kind: Literal["payment", "refund", "adjustment"]
    entity_id: str  # the provider's id of the payment, refund or adjustment
    amount: int
    currency: str
    fee: int = 0
    tax: int = 0
    reference: str | None = None  # our attempt reference, when the line carries it
    refund_key: str | None = None  # our operation id, when the line carries it
    provider_reference: str | None = None  # the provider's charge id
    settlement_id: str | None = None
    utr: str | None = None
    settled_at: datetime | None = None
