"""Instamojo's entities and webhooks as the bank's records show them."""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode

from infra.sandbox.book import IST
from infra.sandbox.records import Fact, Notice, State, fee_and_tax

if TYPE_CHECKING:
    from collections.abc import Iterable

    from infra.sandbox.bank import Bank
    from infra.sandbox.records import Charge, Order, Refund, Settled

HOME = "@sandbox"  # the merchant's own page at Instamojo, below which its payment requests are
_STATUS = {State.CAPTURED: "Credit", State.FAILED: "Failed"}  # any other has none yet
_REFUND_STATUS = {"pending": "Pending", "succeeded": "Refunded", "failed": "Failed", "returned": "Failed"}
_REASONS = {
    "payment_declined": "BANK_DECLINED",
    "insufficient_funds": "INSUFFICIENT_FUNDS",
    "gateway_technical_error": "GATEWAY_ERROR",
    "payment_failed": "AUTHORIZATION_FAILED",
    "payment_risk_check_failed": "RISK_DENIED",
    "authentication_failed": "AUTHENTICATION_FAILED",
    "card_expired": "CARD_EXPIRED",
    "payment_cancelled": "USER_CANCELLED",
    "payment_timed_out": "TIMED_OUT",
}
_INSTRUMENTS = {"card": "CARD", "netbanking": "NETBANKING", "wallet": "WALLET", "upi": "UPI"}
_EVENTS = {Fact.CAPTURED: "credit", Fact.FAILED: "failed"}
_ORDER, _CHARGE, _REFUND = "order_", "pay_", "rfnd_"
_REQUEST_MARK = "im"  # makes sixteen bytes of an order's fourteen, for an id of 32 hex digits


def request_id_of(order_id: str) -> str:
    """A payment request's id."""
    return (_REQUEST_MARK + order_id.removeprefix(_ORDER)).encode().hex()


def order_id_of(request_id: str) -> str:
    """The book's id of a payment request; of nothing if it is no such id."""
    try:
        return _ORDER + bytes.fromhex(request_id).decode("ascii").removeprefix(_REQUEST_MARK)
    except ValueError:
        return ""


def payment_id_of(charge_id: str) -> str:
    """A payment's id."""
    return f"MOJO{charge_id.removeprefix(_CHARGE)}"


def charge_id_of(payment_id: str) -> str:
    """The book's id of a payment."""
    return _CHARGE + payment_id.removeprefix("MOJO")


def case_id_of(refund_id: str) -> str:
    """A refund's id."""
    return f"C{refund_id.removeprefix(_REFUND)}"


def refund_id_of(case_id: str) -> str:
    """The book's id of a refund."""
    return _REFUND + case_id.removeprefix("C")


def rupees(amount: int) -> str:
    """Paise as a decimal string."""
    return f"{amount // 100}.{amount % 100:02d}"


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def request_entity(bank: Bank, order: Order) -> dict[str, object]:
    """A payment request, without its payments."""
    paid = any(bank.book.charges[charge_id].state is State.CAPTURED for charge_id in order.charges)
    return {
        "id": request_id_of(order.id),
        "phone": order.details.get("phone"),
        "email": order.details.get("email"),
        "buyer_name": order.details.get("buyer_name"),
        "amount": rupees(order.amount),
        "purpose": order.details["purpose"],
        "expires_at": None,
        "status": "Completed" if paid else "Disabled" if order.closed else "Pending",
        "send_sms": False,
        "send_email": False,
        "sms_status": None,
        "email_status": None,
        "shorturl": None,
        "longurl": order.details["longurl"],
        "redirect_url": order.return_url,
        "webhook": order.notify_url,
        "allow_repeated_payments": False,
        "customer_id": None,
        "created_at": _time(order.created_at),
        "modified_at": _time(order.created_at),
    }


def payment_entity(charge: Charge, payout: Settled | None = None) -> dict[str, object]:
    """A payment made on a request; ``payout`` is what took it to the merchant's bank."""
    amount = rupees(charge.amount + charge.misreport)
    failure = None
    if charge.state is State.FAILED:
        reason = _REASONS.get(charge.reason or "", "AUTHORIZATION_FAILED")
        failure = {"reason": reason, "message": "The payment did not go through."}
    instrument = _INSTRUMENTS[charge.method.get("type", "upi")]
    return {
        "payment_id": payment_id_of(charge.id),
        "status": _STATUS.get(charge.state),
        "currency": charge.currency,
        "amount": amount,
        "buyer_name": charge.details.get("buyer_name"),
        "buyer_phone": charge.details.get("phone"),
        "buyer_email": charge.details.get("email"),
        "quantity": 1,
        "unit_price": amount,
        "fees": rupees(sum(fee_and_tax(charge.captured))),
        "payment_request": f"{charge.details['api']}/payment-requests/{request_id_of(charge.order_id or '')}/",
        "instrument_type": instrument,
        "billing_instrument": instrument,
        "failure": failure,
        "payout": None if payout is None else {"id": payout.settlement_id, "paid_out_at": _time(payout.at)},
        "created_at": _time(charge.created_at),
    }


def refund_entity(bank: Bank, refund: Refund) -> dict[str, object]:
    """A refund."""
    return {
        "id": case_id_of(refund.id),
        "payment_id": payment_id_of(refund.charge_id),
        "status": _REFUND_STATUS[refund.status],
        "type": refund.details.get("type", "PTH"),
        "body": refund.details.get("body", "Refunded in the dashboard"),
        "refund_amount": rupees(refund.amount + refund.misreport),
        "total_amount": rupees(bank.book.charges[refund.charge_id].amount),
        "created_at": _time(refund.created_at),
    }


def payouts(bank: Bank, charges: Iterable[Charge]) -> dict[str, Settled]:
    """What took each captured charge to the merchant's bank, by charge id."""
    taken = {charge.id: charge for charge in charges if charge.captured_at is not None}
    found: dict[str, Settled] = {}
    providers = {charge.provider for charge in taken.values()}
    zone = timedelta(seconds=IST)
    days = {(datetime.fromtimestamp(charge.captured_at or 0, UTC) + zone).date() for charge in taken.values()}
    for provider in providers:
        for day in days:
            lines = bank.book.settlements(provider, day)
            found |= {line.charge.id: line for line in lines if line.refund is None and line.charge.id in taken}
    return found


def payment_status(charge: Charge) -> str:
    """A payment's status as the browser carries it."""
    return _STATUS.get(charge.state, "Pending")


def events(bank: Bank, fact: Fact, charge: Charge, refund: Refund | None) -> list[Notice]:  # noqa: ARG001 - refunds are told by nobody
    """The webhook about a payment that was made or failed; Instamojo sends no other."""
    kind = _EVENTS.get(fact)
    if kind is None:
        return []
    amount = charge.amount + charge.misreport
    fields = {
        "payment_id": payment_id_of(charge.id),
        "status": payment_status(charge),
        "shorturl": "",
        "longurl": charge.details["longurl"],
        "purpose": charge.details["purpose"],
        "amount": rupees(amount),
        "fees": rupees(sum(fee_and_tax(charge.captured))),
        "currency": charge.currency,
        "buyer": charge.details.get("email") or "",
        "buyer_name": charge.details.get("buyer_name") or "",
        "buyer_phone": charge.details.get("phone") or "",
        "payment_request_id": request_id_of(charge.order_id or ""),
    }
    return [Notice(kind, urlencode(fields).encode(), bank.event_id(kind, charge))]


def sign(secret: str, body: bytes, event_id: str, now: float) -> tuple[bytes, dict[str, str]]:  # noqa: ARG001 - neither is signed
    """A webhook as it is sent: its mac is one more field."""
    fields = sorted(
        parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True), key=lambda pair: pair[0].lower()
    )
    message = "|".join(value for _, value in fields)
    mac = hmac.new(secret.encode(), message.encode(), hashlib.sha1).hexdigest()
    signed = body + (b"&" if body else b"") + urlencode({"mac": mac}).encode()
    return signed, {"content-type": "application/x-www-form-urlencoded"}
