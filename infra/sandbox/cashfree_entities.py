"""Cashfree's entities and webhooks as the bank's records show them."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64encode
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from infra.sandbox import pages
from infra.sandbox.records import Fact, Notice, State
from infra.sandbox.wire import compact

if TYPE_CHECKING:
    from infra.sandbox.bank import Bank
    from infra.sandbox.records import Charge, Order, Refund, Settled

VERSION = "2025-01-01"
IST = timezone(timedelta(hours=5, minutes=30))
_STATUS = {
    State.PENDING: "PENDING",
    State.ACTION: "NOT_ATTEMPTED",
    State.AUTHORIZED: "SUCCESS",
    State.CAPTURED: "SUCCESS",
    State.FAILED: "FAILED",
    State.VOIDED: "VOID",
}
_DROPPED = "payment_cancelled"
# error_code, error_reason and error_source of a failed payment
_ERRORS: dict[str, tuple[str, str | None, str | None]] = {
    "payment_declined": ("TRANSACTION_DECLINED", "bank_rejected", "bank"),
    "payment_failed": ("TRANSACTION_DECLINED", "bank_rejected", "bank"),
    "insufficient_funds": ("TRANSACTION_DECLINED", "insufficient_funds", "bank"),
    "authentication_failed": ("TRANSACTION_DECLINED", "auth_declined", "customer"),
    "gateway_technical_error": ("ISSUER_NOT_AVAILABLE", None, None),
}
_REFUND_STATUS = {"pending": "PENDING", "succeeded": "SUCCESS", "failed": "CANCELLED", "returned": "FAILED"}
_GROUPS = {"upi": "upi", "netbanking": "net_banking", "wallet": "wallet", "card": "credit_card"}


def moment(at: float) -> str:
    """Epoch seconds in India's time."""
    return datetime.fromtimestamp(at, IST).isoformat(timespec="seconds")


def rupees(amount: int) -> float:
    """Paise as the number that stands in JSON."""
    return amount / 100


def session_of(order: Order) -> str:
    """The id by which a browser pays the order."""
    return f"session_{order.id.removeprefix('order_')}"


def order_status(bank: Bank, order: Order) -> str:
    """Whether the order can still be paid."""
    states = {bank.book.charges[charge_id].state for charge_id in order.charges}
    if states & {State.CAPTURED, State.AUTHORIZED}:
        return "PAID"
    if order.closed:
        return "TERMINATION_REQUESTED" if State.PENDING in states else "TERMINATED"
    expires = order.details["expires"]
    return "EXPIRED" if isinstance(expires, float) and expires <= bank.timer.now else "ACTIVE"


def order_entity(bank: Bank, order: Order) -> dict[str, object]:
    """An order."""
    return {
        "cf_order_id": order.id.removeprefix("order_"),
        "order_id": order.receipt,
        "entity": "order",
        "order_amount": rupees(order.amount),
        "order_currency": order.currency,
        "order_status": order_status(bank, order),
        "payment_session_id": session_of(order),
        "order_expiry_time": moment(float(str(order.details["expires"]))),
        "order_note": order.details["note"],
        "customer_details": order.details["customer"],
        "order_meta": order.details["meta"],
        "order_tags": dict(order.notes) or None,
        "order_splits": [],
        "created_at": moment(order.created_at),
    }


def payment_entity(charge: Charge) -> dict[str, object]:
    """A payment on an order."""
    amount = rupees(charge.amount + charge.misreport)
    ended = charge.state not in (State.PENDING, State.ACTION)
    dropped = charge.state is State.FAILED and charge.reason == _DROPPED
    held = not charge.automatic and charge.state in (State.AUTHORIZED, State.CAPTURED, State.VOIDED)
    return {
        "cf_payment_id": charge.id,
        "order_id": charge.details["order_id"],
        "entity": "payment",
        "is_captured": charge.state is State.CAPTURED,
        "order_amount": amount,
        "order_currency": charge.currency,
        "payment_amount": amount,
        "payment_currency": charge.currency,
        "payment_status": "USER_DROPPED" if dropped else _STATUS[charge.state],
        "payment_group": _GROUPS.get(charge.method.get("type", "")),
        "payment_message": "00::Transaction success" if charge.captured else None,
        "payment_time": moment(charge.created_at),
        "payment_completion_time": moment(charge.created_at) if ended else None,
        "bank_reference": f"{int(charge.created_at):012d}" if charge.captured else None,
        "auth_id": None,
        "authorization": _authorization(charge) if held else None,
        "error_details": _error(charge),
        "payment_method": _method(charge),
    }


def _authorization(charge: Charge) -> dict[str, object]:
    action = {State.CAPTURED: "CAPTURE", State.VOIDED: "VOID"}.get(charge.state)
    return {
        "action": action,
        "status": "SUCCESS" if action else None,
        "captured_amount": rupees(charge.captured + charge.misreport) if charge.captured else None,
        "start_time": moment(charge.created_at),
        "end_time": moment(charge.created_at + charge.release_after),
        "approve_by": None,
        "action_reference": f"auth_{charge.id}" if action else None,
        "action_time": moment(charge.captured_at) if charge.captured_at else None,
    }


def _method(charge: Charge) -> dict[str, object]:
    method = charge.method
    match method.get("type"):
        case "netbanking":
            return {"netbanking": {"channel": "link", "netbanking_bank_name": method.get("bank")}}
        case "wallet":
            return {"app": {"channel": "link", "provider": method.get("wallet"), "phone": None}}
        case "card":
            return {"card": {"channel": "link", "card_number": f"XXXXXXXXXXXX{method.get('last4', '1111')}"}}
        case _:
            channel = "collect" if method.get("vpa") else "link"
            return {"upi": {"channel": channel, "upi_id": method.get("vpa")}}


def _error(charge: Charge) -> dict[str, object] | None:
    if charge.state is not State.FAILED or charge.reason == _DROPPED:
        return None
    reason = charge.reason or "payment_failed"
    code, why, source = _ERRORS.get(reason, ("TRANSACTION_DECLINED", reason, None))
    return {
        "error_code": code,
        "error_description": f"The transaction did not go through ({reason}).",
        "error_reason": why,
        "error_source": source,
        "error_code_raw": None,
        "error_description_raw": None,
        "error_subcode_raw": None,
    }


def refund_entity(bank: Bank, refund: Refund) -> dict[str, object]:
    """A refund; one made in the dashboard has an id that Cashfree made up."""
    return {
        "cf_payment_id": refund.charge_id,
        "cf_refund_id": refund.id,
        "refund_id": refund.key or f"refund_{refund.id.removeprefix('rfnd_')}",
        "order_id": bank.book.charges[refund.charge_id].reference,
        "entity": "refund",
        "refund_amount": rupees(refund.amount + refund.misreport),
        "refund_currency": refund.currency,
        "refund_note": refund.details.get("note"),
        "refund_status": _REFUND_STATUS[refund.status],
        "refund_type": "MERCHANT_INITIATED",
        "refund_arn": f"{int(refund.created_at):012d}" if refund.status == "succeeded" else None,
        "refund_charge": 0,
        "status_description": "In Progress" if refund.status == "pending" else refund.status,
        "refund_splits": [],
        "metadata": None,
        "requested_speed": "STANDARD",
        "processed_speed": "STANDARD" if refund.closed_at else None,
        "created_at": moment(refund.created_at),
        "processed_at": moment(refund.closed_at) if refund.closed_at else None,
    }


def recon_row(line: Settled) -> dict[str, object]:
    """A line of the settlement report."""
    charge, refund = line.charge, line.refund
    return {
        "event_id": refund.id if refund else charge.id,
        "event_type": "REFUND" if refund else "PAYMENT",
        "event_settlement_amount": rupees(line.amount - line.fee - line.tax),
        "event_amount": rupees(line.amount),
        "sale_type": "DEBIT" if refund else "CREDIT",
        "event_status": "SUCCESS",
        "entity": "recon",
        "event_time": moment(line.at),
        "event_currency": charge.currency,
        "order_id": charge.reference,
        "order_amount": rupees(charge.amount),
        "payment_amount": rupees(charge.amount),
        "payment_utr": f"{int(charge.created_at):012d}",
        "payment_time": moment(charge.created_at),
        "payment_service_charge": None if refund else rupees(line.fee),
        "payment_service_tax": None if refund else rupees(line.tax),
        "cf_payment_id": charge.id,
        "cf_settlement_id": line.settlement_id,
        "settlement_date": moment(line.at),
        "settlement_utr": line.utr,
        "refund_id": (refund.key or refund.id) if refund else None,
        "refund_arn": None,
        "refund_note": None,
        "refund_processed_at": moment(line.at) if refund else None,
        "adjustment_remarks": None,
    }


def upi_links(charge: Charge) -> dict[str, str]:
    """The links of the apps that Cashfree offers, and the one for whatever app the phone has."""
    link = pages.upi_link(charge)
    rest = link.removeprefix("upi://")
    return {"default": link, "gpay": f"tez://upi/{rest}", "paytm": f"paytmmp://{rest}", "phonepe": f"phonepe://{rest}"}


def events(bank: Bank, fact: Fact, charge: Charge, refund: Refund | None) -> list[Notice]:
    """The webhook that tells of a fact, if there is one."""
    order = bank.book.orders[charge.order_id or ""]
    if refund is not None:
        if fact is Fact.REFUND_CREATED:
            return []  # Cashfree tells only how a refund ends
        return [_notice(bank, charge, "REFUND_STATUS_WEBHOOK", {"refund": refund_entity(bank, refund)}, refund)]
    if fact in (Fact.RELEASED, Fact.VOIDED):
        if order.closed:
            return []  # nobody had paid
        return [_notice(bank, charge, "AUTO_REFUND_STATUS_WEBHOOK", {"auto_refund": _auto_refund(bank, charge)})]
    if fact is Fact.AUTHORIZED and charge.automatic:
        return []
    dropped = fact is Fact.FAILED and charge.reason == _DROPPED
    kind = "PAYMENT_USER_DROPPED" if dropped else "PAYMENT_FAILED" if fact is Fact.FAILED else "PAYMENT_SUCCESS"
    payment = payment_entity(charge)
    error = payment.pop("error_details")
    data = {
        "order": {name: payment.pop(name) for name in ("order_id", "order_amount", "order_currency")}
        | {"order_tags": dict(order.notes) or None},
        "payment": payment,
        "customer_details": order.details["customer"],
        "error_details": error,
        "payment_gateway_details": {"gateway_name": "CASHFREE", "gateway_payment_id": charge.id},
        "payment_offers": None,
    }
    return [_notice(bank, charge, f"{kind}_WEBHOOK", data)]


def _auto_refund(bank: Bank, charge: Charge) -> dict[str, object]:
    now = moment(bank.timer.now)
    return {
        "order_id": charge.reference,
        "cf_payment_id": charge.id,
        "cf_refund_id": f"rfnd_{charge.id.removeprefix('pay_')}",
        "refund_type": "PAYMENT_AUTO_REFUND",
        "refund_status": "SUCCESS",
        "refund_amount": rupees(charge.amount),
        "refund_currency": charge.currency,
        "refund_reason": "NOT_CAPTURED",
        "created_at": now,
        "processed_at": now,
    }


def _notice(bank: Bank, charge: Charge, kind: str, data: dict[str, object], refund: Refund | None = None) -> Notice:
    body = {"data": data, "event_time": moment(bank.timer.now), "type": kind}
    return Notice(kind, compact(body), bank.event_id(kind, charge, refund))


def sign(secret: str, body: bytes, event_id: str, now: float) -> tuple[bytes, dict[str, str]]:
    """A webhook as it is sent, stamped in milliseconds."""
    stamp = str(round(now * 1000))
    digest = hmac.new(secret.encode(), stamp.encode() + body, hashlib.sha256).digest()
    return body, {
        "x-webhook-signature": b64encode(digest).decode(),
        "x-webhook-timestamp": stamp,
        "x-webhook-version": VERSION,
        "x-webhook-attempt": "1",
        "x-idempotency-key": event_id,
    }
