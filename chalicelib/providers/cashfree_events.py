"""What Cashfree tells by itself: its webhooks, and the lines of its settlement report.

Source of every fact: Cashfree's reference for webhooks and settlement reconciliation, version 2025-01-01.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64encode
from decimal import Decimal
from typing import TYPE_CHECKING, Literal

from chalicelib.domain.money import from_decimal
from chalicelib.domain.outcome import (
    Charge,
    ChargeStatus,
    EffectStatus,
    EventKind,
    ProviderEvent,
    SettlementLine,
)
from chalicelib.providers.calls import section, text
from chalicelib.providers.cashfree_wire import IST, REFUND_STATUSES, charge, ident, our_key, refund_effect
from chalicelib.providers.moments import from_iso
from chalicelib.providers.signatures import digest

if TYPE_CHECKING:
    from collections.abc import Mapping

_CHARGE_EVENTS = frozenset({"PAYMENT_SUCCESS_WEBHOOK", "PAYMENT_FAILED_WEBHOOK", "PAYMENT_USER_DROPPED_WEBHOOK"})
_REFUND, _AUTO_REFUND, _DISPUTE = "REFUND_STATUS_WEBHOOK", "AUTO_REFUND_STATUS_WEBHOOK", "DISPUTE_"
_AUTOMATIC = frozenset({"PAYMENT_AUTO_REFUND", "UNRECONCILED_AUTO_REFUND"})
_VOID_STATUSES = frozenset({"FAILED", "CANCELLED"})  # of a line that moved no money
_KINDS: dict[str, Literal["payment", "refund"]] = {"PAYMENT": "payment", "REFUND": "refund"}


def sign(secret: str, message: bytes) -> str:
    """base64(HMAC_SHA256(secret, message)); the message is the timestamp and the raw body."""
    return b64encode(hmac.new(secret.encode(), message, hashlib.sha256).digest()).decode()


def dedupe_key(body: Mapping[str, object], raw: bytes) -> str:
    """What makes two webhooks without a key of their own the same: type, object and its status."""
    data = section(body, "data")
    payment, refund = section(data, "payment"), _refund_of(data)
    parts = (
        text(body, "type"),
        ident(payment, "cf_payment_id") or ident(refund, "cf_refund_id"),
        text(payment, "payment_status") or text(refund, "refund_status"),
    )
    return digest("|".join(part or "" for part in parts).encode()) if all(parts) else digest(raw)


def event(body: Mapping[str, object], key: str) -> ProviderEvent:
    """A verified webhook in our terms; what we have no use for is ignored."""
    kind = text(body, "type") or "unreadable"
    data = section(body, "data")
    order, payment, refund = section(data, "order"), section(data, "payment"), _refund_of(data)
    if kind in _CHARGE_EVENTS and payment:
        # The order's amounts and the reasons of a failure stand beside the payment here, not in it.
        told = {**order, "error_details": data.get("error_details"), **payment}
        reference, payment_id = text(order, "order_id"), ident(payment, "cf_payment_id")
        said = _says_captured(order, payment)
        if said is None:
            # Believed too early, held money would never be captured: only the payment itself knows.
            return ProviderEvent(key, kind, EventKind.HINT, reference, payment_id)
        statement = charge({**told, "is_captured": said})
        return ProviderEvent(key, kind, EventKind.CHARGE, reference, payment_id, statement)
    reference, payment_id = text(refund, "order_id"), ident(refund, "cf_payment_id")
    if refund and (kind == _AUTO_REFUND or (kind == _REFUND and text(refund, "refund_type") in _AUTOMATIC)):
        # Cashfree gives back by itself only what it never captured for us: a release, not a refund.
        if REFUND_STATUSES.get(text(refund, "refund_status") or "") is not EffectStatus.SUCCEEDED:
            return ProviderEvent(key, kind, EventKind.HINT, reference, payment_id)
        released = Charge(ChargeStatus.CANCELED, payment_id)
        return ProviderEvent(key, kind, EventKind.CHARGE, reference, payment_id, released)
    if refund and kind == _REFUND:
        effect = refund_effect(refund)
        return ProviderEvent(key, kind, EventKind.REFUND, reference, payment_id, None, effect, effect.key)
    if kind.startswith(_DISPUTE):
        about = section(data, "order_details")
        return ProviderEvent(key, kind, EventKind.DISPUTE, text(about, "order_id"), ident(about, "cf_payment_id"))
    return ProviderEvent(key, kind, EventKind.IGNORED, text(order, "order_id"), ident(payment, "cf_payment_id"))


def _refund_of(data: Mapping[str, object]) -> Mapping[str, object]:
    return section(data, "refund") or section(data, "auto_refund")


def _says_captured(order: Mapping[str, object], payment: Mapping[str, object]) -> bool | None:
    """Whether the payment has been captured, as far as a webhook tells; None if it does not.

    The documented samples leave ``is_captured`` out. Held can be what we asked to hold, and any card
    of an account with pre-authorization.
    """
    said = payment.get("is_captured")
    if isinstance(said, bool):
        return said
    if text(payment, "payment_status") != "SUCCESS":
        return False
    at_once = text(section(order, "order_tags"), "capture") == "automatic"
    return True if at_once and "card" not in (text(payment, "payment_group") or "card") else None


def settlement_line(row: Mapping[str, object]) -> SettlementLine | Literal["skip"] | None:
    """A line of the report; "skip" for one that moved no money, None for one that cannot be read."""
    if text(row, "event_status") in _VOID_STATUSES:
        return "skip"
    currency = text(row, "event_currency")
    amount = _signed(row.get("event_amount"), currency)
    fee, tax = (_fee(row.get(name), currency) for name in ("payment_service_charge", "payment_service_tax"))
    kind = _KINDS.get(text(row, "event_type") or "")
    payment_id, event_id = ident(row, "cf_payment_id"), ident(row, "event_id")
    entity_id = (payment_id or event_id) if kind == "payment" else event_id
    sale = text(row, "sale_type")
    if amount is None or fee is None or tax is None or currency is None or entity_id is None or sale is None:
        return None
    return SettlementLine(
        kind=kind or "adjustment",
        entity_id=entity_id,
        amount=-abs(amount) if sale == "DEBIT" else amount,
        currency=currency,
        fee=fee if kind == "payment" else 0,  # the report has no columns for any other line's
        tax=tax if kind == "payment" else 0,
        reference=text(row, "order_id"),
        refund_key=our_key(row) if kind == "refund" else None,
        provider_reference=payment_id,
        settlement_id=ident(row, "cf_settlement_id"),
        utr=ident(row, "settlement_utr"),
        settled_at=from_iso(text(row, "settlement_date"), IST),
    )


def _signed(value: object, currency: str | None) -> int | None:
    """Minor units of a decimal that may be negative, as an adjustment's is."""
    if isinstance(value, int | Decimal) and not isinstance(value, bool) and value < 0:
        taken = from_decimal(-value, currency or "")
        return None if taken is None else -taken
    return from_decimal(value, currency or "")


def _fee(value: object, currency: str | None) -> int | None:
    return 0 if value is None else from_decimal(value, currency or "")
