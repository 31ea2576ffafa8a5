"""Cashfree's wire format, translated both ways by pure functions; what is called when is in cashfree.py.

Source of every fact: Cashfree's payment gateway reference, API version 2025-01-01.
"""

from __future__ import annotations

import hashlib
import re
from datetime import timedelta, timezone
from decimal import Decimal
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from chalicelib.domain.money import from_decimal, to_decimal_string
from chalicelib.domain.outcome import Charge, ChargeStatus, Effect, EffectStatus
from chalicelib.providers.calls import section, text
from chalicelib.providers.cashfree_errors import ERRORS
from chalicelib.providers.reasons import GAVE_UP, TECHNICAL, classify, error_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from chalicelib.domain.errors import PaymentError
    from chalicelib.providers.base import ChargeIntent

VERSION = "2025-01-01"
LIVE, TEST = "https://api.cashfree.com/pg", "https://sandbox.cashfree.com/pg"
IST = timezone(timedelta(hours=5, minutes=30))
HOLD = timedelta(days=7)  # then Cashfree releases what nobody has captured
# Cashfree refuses an order that expires within 15 minutes. A payment that is still tried has not
# expired, so this much after its end is always far enough; we terminate the order ourselves at its end.
_EXPIRES_LATER = timedelta(minutes=16)
_SHORTEST, _LONGEST_NOTE, _LONGEST_NAME = 3, 200, 100
_IFSC_PREFIX = re.compile(r"[A-Z]{4}")
_DIGITS = re.compile(r"\D")

STATUSES: dict[str, ChargeStatus] = {
    "SUCCESS": ChargeStatus.SUCCEEDED,  # of a payment that has been captured
    "NOT_ATTEMPTED": ChargeStatus.PENDING,
    "PENDING": ChargeStatus.PENDING,
    "FAILED": ChargeStatus.DECLINED,
    "USER_DROPPED": ChargeStatus.DECLINED,
    "CANCELLED": ChargeStatus.DECLINED,
    "VOID": ChargeStatus.CANCELED,
}
NOT_ATTEMPTED = "NOT_ATTEMPTED"
_OURS = ("rf_", "op_")  # how our operations' ids begin; a refund made in the dashboard has another
_GIVEN_UP = frozenset({"USER_DROPPED", "CANCELLED"})
REFUND_STATUSES: dict[str, EffectStatus] = {
    "SUCCESS": EffectStatus.SUCCEEDED,
    "PENDING": EffectStatus.PENDING,
    "ONHOLD": EffectStatus.PENDING,
    "CANCELLED": EffectStatus.FAILED,
    "FAILED": EffectStatus.FAILED,
}
# What an order says after it was asked to end.
TERMINATIONS: dict[str, EffectStatus] = {
    "TERMINATED": EffectStatus.SUCCEEDED,
    "EXPIRED": EffectStatus.SUCCEEDED,
    "TERMINATION_REQUESTED": EffectStatus.PENDING,
    "PAID": EffectStatus.FAILED,
}
ACTIVE = "ACTIVE"
CHECKOUT, CUSTOMER = "checkout", "customer"  # who an attempt waits for, kept in Charge.data["waits"]
_CLOSED = frozenset({"TERMINATED", "EXPIRED"})


# requests


def order_payload(intent: ChargeIntent) -> dict[str, object]:
    """The order that will carry the payment; its id is our reference."""
    meta = {"notify_url": intent.notify_url}
    if intent.return_url:
        meta["return_url"] = _return_url(intent.return_url)
    payload: dict[str, object] = {
        "order_id": intent.reference,
        "order_amount": rupees(intent.amount, intent.currency),
        "order_currency": intent.currency,
        "customer_details": _customer(intent.customer),
        "order_meta": meta,
        "order_expiry_time": moment(intent.expires_at + _EXPIRES_LATER),
        # Webhooks show them again, also to whoever looks at the order in Cashfree's dashboard.
        "order_tags": {"payment_id": intent.payment_id, "reference": intent.reference, "capture": intent.capture},
    }
    if intent.description and len(intent.description) >= _SHORTEST:
        payload["order_note"] = intent.description[:_LONGEST_NOTE]
    return payload


def pay_payload(intent: ChargeIntent, session: str) -> dict[str, object]:
    """The server-to-server payment on the order of that session."""
    return {"payment_session_id": session, "payment_method": _method(intent)}


def _method(intent: ChargeIntent) -> dict[str, object]:
    kind = intent.method["type"]
    if kind == "netbanking":
        bank = intent.method["bank"]
        if bank.isascii() and bank.isdigit():
            return {"netbanking": {"channel": "link", "netbanking_bank_code": int(bank)}}
        # Cashfree's names are the first letters of the IFSC and R for retail: HDFC is HDFCR.
        name = f"{bank}R" if _IFSC_PREFIX.fullmatch(bank) else bank
        return {"netbanking": {"channel": "link", "netbanking_bank_name": name}}
    if kind == "wallet":
        wallet = intent.method["wallet"]
        provider = _WALLETS.get(wallet.lower(), wallet)
        return {"app": {"channel": "link", "provider": provider, "phone": _phone(intent.customer.get("contact", ""))}}
    vpa = intent.method.get("vpa")
    collect = vpa is not None and intent.method.get("flow") != "intent"
    upi: dict[str, object] = {"channel": "collect", "upi_id": vpa} if collect else {"channel": "link"}
    if intent.capture == "manual":
        # As in Cashfree's own sample, the hold begins when it has to be approved: UPI counts it in days.
        by = moment(intent.expires_at)
        until = moment(intent.expires_at + HOLD)
        upi |= {"authorize_only": True, "authorization": {"approve_by": by, "start_time": by, "end_time": until}}
    return {"upi": upi}


_WALLETS = {
    **{name: name for name in ("airtel", "amazon", "freecharge", "gpay", "jio", "mobikwik", "ola", "paytm", "phonepe")},
    "airtelmoney": "airtel",
    "amazonpay": "amazon",
    "jiomoney": "jio",
    "olamoney": "ola",
}


def _customer(customer: Mapping[str, str]) -> dict[str, str]:
    """Cashfree wants a phone number and an id of ours: a hash, the same for the same customer."""
    phone = _phone(customer.get("contact", ""))
    known = (customer.get("email") or phone).encode()
    details = {"customer_id": hashlib.sha256(known).hexdigest()[:32], "customer_phone": phone}
    for ours, theirs in (("email", "customer_email"), ("name", "customer_name")):
        if _SHORTEST <= len(customer.get(ours, "")) <= _LONGEST_NAME:
            details[theirs] = customer[ours]
    return details


def _phone(contact: str) -> str:
    """Ten digits of an Indian number; a foreign one as it is, which Cashfree tells by its plus."""
    digits = _DIGITS.sub("", contact)
    foreign = contact.startswith("+") and not digits.startswith("91")
    return f"+{digits}" if foreign else digits[-10:]


def _return_url(url: str) -> str:
    """The merchant's address; Cashfree puts our order id in the place of the braces."""
    parts = urlsplit(url)
    query = f"{parts.query}&order_id={{order_id}}" if parts.query else "order_id={order_id}"
    return urlunsplit(parts._replace(query=query))


def rupees(amount: int, currency: str) -> Decimal:
    """Minor units as the number Cashfree counts in."""
    return Decimal(to_decimal_string(amount, currency))


def moment(at: datetime) -> str:
    """A time as Cashfree writes it, in India's zone."""
    return at.astimezone(IST).isoformat(timespec="seconds")


# what the customer has to do


def _checkout(order: Mapping[str, object], base_url: str) -> dict[str, object]:
    """Cashfree's own page, opened by its browser SDK with the order's session."""
    mode = "production" if base_url.rstrip("/") == LIVE else "sandbox"
    params = {"payment_session_id": text(order, "payment_session_id"), "mode": mode}
    return {"type": "provider_checkout", "provider": "cashfree", "params": params}


def next_action(body: Mapping[str, object]) -> dict[str, object] | None:
    """What the customer has to do, from the answer to a payment; None for nothing but to wait."""
    data = section(body, "data")
    payload = section(data, "payload")
    link = text(payload, "default") or ""
    if link.startswith("upi:"):
        return {"type": "upi_intent", "uri": link}
    url = text(data, "url") or text(data, "redirect_to_bank") or ""
    if not url.startswith(("https://", "http://")):
        return None
    if text(body, "action") == "form" or (payload and (text(data, "method") or "").lower() == "post"):
        fields = {name: str(value) for name, value in payload.items() if isinstance(value, str | int)}
        return {"type": "form_post", "url": url, "fields": fields}
    return {"type": "redirect", "url": url}


# statements


def ident(body: Mapping[str, object], name: str) -> str | None:
    """An id, which some of Cashfree's versions and webhooks write as a number."""
    value = body.get(name)
    return str(value) if type(value) is int else text(body, name)


def charge(entity: Mapping[str, object], *, waits: str | None = None) -> Charge:
    """A payment entity as a statement; ``waits`` says that the customer has been given something to do."""
    raw = text(entity, "payment_status") or ""
    status = STATUSES.get(raw, ChargeStatus.PENDING)
    currency = text(entity, "order_currency") or text(entity, "payment_currency")
    amount = _charged(entity, currency)
    authorization = section(entity, "authorization")
    done = text(authorization, "status") == "SUCCESS"
    captured = 0
    error = None
    if status is ChargeStatus.SUCCEEDED and entity.get("is_captured") is not True:
        released = done and text(authorization, "action") == "VOID"
        status = ChargeStatus.CANCELED if released else ChargeStatus.AUTHORIZED
    elif status is ChargeStatus.SUCCEEDED:
        said = authorization.get("captured_amount") if done else None
        taken = amount if said is None else from_decimal(said, currency or "")
        amount, captured = (None, 0) if taken is None else (amount, taken)
    elif status is ChargeStatus.DECLINED:
        error = error_of(GAVE_UP, raw) if raw in _GIVEN_UP else _failure(section(entity, "error_details"))
    if status is ChargeStatus.PENDING and waits:
        status = ChargeStatus.ACTION_REQUIRED
    return Charge(
        status=status,
        provider_reference=ident(entity, "cf_payment_id"),
        amount=amount,
        currency=currency,
        captured=captured,
        error=error,
        data={"waits": waits} if waits else {},
    )


def _charged(entity: Mapping[str, object], currency: str | None) -> int | None:
    """What was paid for the order: a fee that the customer bears comes on top, an offer lessens it."""
    said = [entity[name] for name in ("order_amount", "payment_amount") if entity.get(name) is not None]
    amounts = [from_decimal(value, currency or "") for value in said]
    readable = [amount for amount in amounts if amount is not None]
    return min(readable, default=None) if len(readable) == len(said) else None


def _failure(details: Mapping[str, object]) -> PaymentError:
    reason, code = text(details, "error_reason"), text(details, "error_code")
    verdict = ERRORS.get(reason or "") or ERRORS.get(code or "")
    return error_of(verdict, reason or code) if verdict else classify(reason, text(details, "error_source"), code)


def unpaid(
    order: Mapping[str, object], payment: Mapping[str, object] | None, waits: str | None, base_url: str
) -> Charge | None:
    """An order that nobody has paid, with the payment that was begun; None if there is nothing to pay."""
    raw, currency = text(order, "order_status"), text(order, "order_currency")
    action = None
    if raw in _CLOSED:
        status = ChargeStatus.CANCELED
    elif raw != ACTIVE:
        status = ChargeStatus.PENDING  # paid, though the payment does not show yet, or about to end
    elif waits:
        status = ChargeStatus.ACTION_REQUIRED
        action = _checkout(order, base_url) if waits == CHECKOUT else None
    elif payment:
        status = ChargeStatus.PENDING
    else:
        return None
    return Charge(
        status=status,
        provider_reference=ident(payment or {}, "cf_payment_id"),
        amount=from_decimal(order.get("order_amount"), currency or ""),
        currency=currency,
        next_action=action,
        data={"waits": waits} if waits else {},
    )


_RANK = {ChargeStatus.SUCCEEDED: 3, ChargeStatus.AUTHORIZED: 2, ChargeStatus.PENDING: 1}


def best(entities: Sequence[Mapping[str, object]]) -> Mapping[str, object] | None:
    """The payment that decides an order: successful, else authorized, else undecided, else the newest."""

    def order(entity: Mapping[str, object]) -> tuple[int, str]:
        tried = text(entity, "payment_status") != NOT_ATTEMPTED
        return _RANK.get(charge(entity).status, 0) if tried else 0, text(entity, "payment_time") or ""

    return max(entities, key=order, default=None)


def refund_effect(entity: Mapping[str, object]) -> Effect:
    """A refund entity as a statement; a status we do not know is pending."""
    raw, currency = text(entity, "refund_status") or "", text(entity, "refund_currency")
    status = REFUND_STATUSES.get(raw, EffectStatus.PENDING)
    return Effect(
        status=status,
        provider_reference=ident(entity, "cf_refund_id"),
        amount=from_decimal(entity.get("refund_amount"), currency or ""),
        currency=currency,
        error=error_of(TECHNICAL, raw) if status is EffectStatus.FAILED else None,
        key=our_key(entity),
    )


def our_key(refund: Mapping[str, object]) -> str | None:
    """Our operation id; None for a refund made in Cashfree's dashboard."""
    key = text(refund, "refund_id")
    return key if key and key.startswith(_OURS) else None
