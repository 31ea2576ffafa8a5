"""Razorpay's entities and events as the bank's records show them."""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING

from infra.sandbox.records import Fact, Notice, State, fee_and_tax
from infra.sandbox.wire import compact

if TYPE_CHECKING:
    from infra.sandbox.bank import Bank
    from infra.sandbox.records import Charge, Order, Refund, Settled

_STATUS = {
    State.PENDING: "created",
    State.ACTION: "created",
    State.AUTHORIZED: "authorized",
    State.CAPTURED: "captured",
    State.FAILED: "failed",
    State.VOIDED: "refunded",
}
_REFUND_STATUS = {"pending": "pending", "succeeded": "processed", "failed": "failed", "returned": "failed"}
_SOURCES = {"gateway_technical_error": "gateway", "payment_cancelled": "customer", "authentication_failed": "customer"}
_REFUND_EVENTS = {
    Fact.REFUND_CREATED: "refund.created",
    Fact.REFUNDED: "refund.processed",
    Fact.REFUND_FAILED: "refund.failed",
    Fact.REFUND_RETURNED: "refund.failed",
}


def order_entity(bank: Bank, order: Order) -> dict[str, object]:
    """An order."""
    paid = any(bank.book.charges[charge_id].state is State.CAPTURED for charge_id in order.charges)
    return {
        "id": order.id,
        "entity": "order",
        "amount": order.amount,
        "amount_paid": order.amount if paid else 0,
        "amount_due": 0 if paid else order.amount,
        "currency": order.currency,
        "receipt": order.receipt or None,
        "offer_id": None,
        "status": "paid" if paid else "attempted" if order.charges else "created",
        "attempts": len(order.charges),
        "notes": dict(order.notes) or [],
        "created_at": int(order.created_at),
    }


def payment_entity(charge: Charge) -> dict[str, object]:
    """A payment; a refunded one that was never captured is an authorization that lapsed."""
    amount = charge.amount + charge.misreport
    captured = charge.state is State.CAPTURED
    refunded = charge.amount if charge.state is State.VOIDED else charge.refunded
    whole = charge.state is State.VOIDED or (captured and charge.refunded >= charge.captured)
    error = failure(charge) if charge.state is State.FAILED else {}
    fee, tax = fee_and_tax(amount)
    return {
        "id": charge.id,
        "entity": "payment",
        "amount": amount,
        "currency": charge.currency,
        "status": "refunded" if whole else _STATUS[charge.state],
        "order_id": charge.order_id,
        "international": False,
        "method": charge.method.get("type"),
        "amount_refunded": refunded,
        "refund_status": "full" if whole else "partial" if refunded else None,
        "captured": captured,
        "card_id": None,
        "bank": charge.method.get("bank"),
        "wallet": charge.method.get("wallet"),
        "vpa": charge.method.get("vpa"),
        "email": charge.details.get("email"),
        "contact": charge.details.get("contact"),
        "notes": charge.details.get("notes") or [],
        "fee": fee + tax if captured else None,  # Razorpay's fee includes the tax
        "tax": tax if captured else None,
        "error_code": error.get("code"),
        "error_description": error.get("description"),
        "error_source": error.get("source"),
        "error_step": error.get("step"),
        "error_reason": error.get("reason"),
        "acquirer_data": {"rrn": f"{int(charge.created_at):012d}" if captured else None},
        "created_at": int(charge.created_at),
    }


def refund_entity(refund: Refund) -> dict[str, object]:
    """A refund."""
    return {
        "id": refund.id,
        "entity": "refund",
        "amount": refund.amount + refund.misreport,
        "currency": refund.currency,
        "payment_id": refund.charge_id,
        "receipt": refund.details.get("receipt"),
        "notes": refund.details.get("notes") or [],
        "acquirer_data": {"arn": None},
        "batch_id": None,
        "status": _REFUND_STATUS[refund.status],
        "speed_requested": "normal",
        "speed_processed": "normal",
        "created_at": int(refund.created_at),
    }


def settlement_item(bank: Bank, line: Settled) -> dict[str, object]:
    """One item of the combined settlement report; the fee includes the tax."""
    charge, refund = line.charge, line.refund
    order = bank.book.orders[charge.order_id] if charge.order_id else None
    fee = line.fee + line.tax
    return {
        "entity_id": refund.id if refund else charge.id,
        "type": "refund" if refund else "payment",
        "debit": line.amount if refund else 0,
        "credit": 0 if refund else line.amount - fee,
        "amount": line.amount,
        "currency": charge.currency,
        "fee": fee,
        "tax": line.tax,
        "on_hold": False,
        "settled": True,
        "created_at": int(refund.created_at if refund else charge.created_at),
        "settled_at": int(line.at),
        "settlement_id": line.settlement_id,
        "posted_at": None,
        "credit_type": "default",
        "description": None,
        "notes": "{}",
        "payment_id": charge.id if refund else None,
        "settlement_utr": line.utr,
        "order_id": charge.order_id,
        "order_receipt": order.receipt or None if order else None,
        "method": charge.method.get("type"),
        "card_network": None,
        "card_issuer": None,
        "card_type": None,
        "dispute_id": None,
    }


def failure(charge: Charge) -> dict[str, object]:
    """Why a payment failed, as an error object."""
    reason = charge.reason or "payment_failed"
    source = _SOURCES.get(reason, "issuer_bank")
    return {
        "code": "GATEWAY_ERROR" if source == "gateway" else "BAD_REQUEST_ERROR",
        "description": f"Your payment did not go through ({reason}).",
        "source": source,
        "step": "payment_authorization",
        "reason": reason,
        "metadata": {"payment_id": charge.id, "order_id": charge.order_id},
    }


def collection(items: list[dict[str, object]]) -> dict[str, object]:
    """A list."""
    return {"entity": "collection", "count": len(items), "items": items}


def events(bank: Bank, fact: Fact, charge: Charge, refund: Refund | None) -> list[Notice]:
    """The webhooks that tell of a fact."""
    payment = payment_entity(charge)
    if refund is not None and fact in _REFUND_EVENTS:
        return [_event(bank, charge, _REFUND_EVENTS[fact], {"refund": refund_entity(refund), "payment": payment})]
    if fact in (Fact.RELEASED, Fact.VOIDED):
        automatic = {
            "id": f"rfnd_{charge.id.removeprefix('pay_')}",
            "entity": "refund",
            "amount": charge.amount,
            "currency": charge.currency,
            "payment_id": charge.id,
            "receipt": None,
            "notes": [],
            "status": "processed",
            "created_at": int(bank.timer.now),
        }
        return [_event(bank, charge, "refund.processed", {"refund": automatic, "payment": payment})]
    told = [_event(bank, charge, f"payment.{fact.value}", {"payment": payment})]
    if fact is Fact.CAPTURED and charge.order_id is not None:
        order = order_entity(bank, bank.book.orders[charge.order_id])
        told.append(_event(bank, charge, "order.paid", {"payment": payment, "order": order}))
    return told


def _event(bank: Bank, charge: Charge, kind: str, entities: dict[str, dict[str, object]]) -> Notice:
    body: dict[str, object] = {
        "entity": "event",
        "account_id": bank.settings[charge.provider].credentials.get("account_id"),
        "event": kind,
        "contains": list(entities),
        "payload": {name: {"entity": entity} for name, entity in entities.items()},
        "created_at": int(bank.timer.now),
    }
    return Notice(kind, compact(body), bank.event_id(kind, charge))


def sign(secret: str, body: bytes, event_id: str, now: float) -> tuple[bytes, dict[str, str]]:  # noqa: ARG001 - no time is signed
    """A webhook as it is sent."""
    signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return body, {"x-razorpay-signature": signature, "x-razorpay-event-id": event_id}
