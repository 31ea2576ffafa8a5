"""Stripe's objects and events as the bank's records show them, in the shapes of API version 2026-10-28.endive.

One charge of the bank is a PaymentIntent and, once it has been tried, the Charge in it: pi_X and ch_X.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING

from infra.sandbox.records import Fact, Notice, State, token
from infra.sandbox.wire import compact

if TYPE_CHECKING:
    from infra.sandbox.bank import Bank
    from infra.sandbox.records import Charge, Refund, Settled

VERSION = "2026-10-28.endive"
_LIVE = "sk_live_"
_AVAILABLE_AFTER = 2 * 24 * 3600  # seconds until a balance transaction can be paid out
# The bank's reasons as Stripe's code and decline code.
_FAILURES: dict[str, tuple[str, str | None]] = {
    "payment_declined": ("card_declined", "generic_decline"),
    "insufficient_funds": ("card_declined", "insufficient_funds"),
    "payment_failed": ("card_declined", "do_not_honor"),
    "payment_risk_check_failed": ("card_declined", "fraudulent"),
    "gateway_technical_error": ("processing_error", "processing_error"),
    "card_expired": ("expired_card", "expired_card"),
    "authentication_failed": ("payment_intent_authentication_failure", None),
    "payment_cancelled": ("payment_method_customer_decline", None),
    "payment_timed_out": ("payment_intent_payment_attempt_expired", None),
}
_WRONG_CVC = "pm_card_chargeDeclinedIncorrectCvc"
_STATUS = {
    State.PENDING: "processing",
    State.ACTION: "requires_action",
    State.AUTHORIZED: "requires_capture",
    State.CAPTURED: "succeeded",
    State.FAILED: "requires_payment_method",
    State.VOIDED: "canceled",
}
_CHARGE_STATUS = {State.PENDING: "pending", State.FAILED: "failed"}
_REFUND_STATUS = {"pending": "pending", "succeeded": "succeeded", "failed": "failed", "returned": "failed"}
_REFUND_EVENTS = {
    Fact.REFUND_CREATED: "refund.created",
    Fact.REFUNDED: "refund.updated",
    Fact.REFUND_FAILED: "refund.failed",
    Fact.REFUND_RETURNED: "refund.failed",
}


def intent_id(charge: Charge) -> str:
    """The PaymentIntent's id."""
    return f"pi_{charge.id.removeprefix('ch_')}"


def refund_id(refund: Refund) -> str:
    """The Refund's id."""
    return f"re_{refund.id.removeprefix('rfnd_')}"


def client_secret(bank: Bank, charge: Charge) -> str:
    """What lets a browser see and confirm this intent."""
    return f"{intent_id(charge)}_secret_{token(25, bank.seed, 'client_secret', charge.id)}"


def is_live(bank: Bank, provider: str) -> bool:
    """The mode that the account's key tells."""
    return bank.settings[provider].credentials["secret_key"].startswith(_LIVE)


def is_confirmed(charge: Charge) -> bool:
    """Whether somebody has tried to pay it."""
    return charge.details.get("confirmed") is True


def intent_object(bank: Bank, charge: Charge, origin: str | None) -> dict[str, object]:
    """A PaymentIntent; a webhook has no ``origin`` to send a customer to."""
    confirmed, details = is_confirmed(charge), charge.details
    action = _next_action(charge, origin) if confirmed else None
    status = "requires_action" if action else _STATUS[charge.state]
    if not confirmed and charge.state is State.PENDING:
        status = "requires_confirmation" if details.get("payment_method") else "requires_payment_method"
    amount, held = charge.amount + charge.misreport, charge.state is State.AUTHORIZED
    tried = confirmed and charge.state is not State.ACTION and not (charge.state is State.PENDING and charge.is_intent)
    return {
        "id": intent_id(charge),
        "object": "payment_intent",
        "amount": amount,
        "amount_capturable": charge.amount if held else 0,
        "amount_details": {"tip": {}},
        "amount_received": charge.captured,
        "application": None,
        "application_fee_amount": None,
        "automatic_payment_methods": None,
        "canceled_at": details.get("canceled_at"),
        "cancellation_reason": "automatic" if charge.released else None,
        "capture_method": details.get("capture_method"),
        "client_secret": client_secret(bank, charge),
        "confirmation_method": "automatic",
        "created": int(charge.created_at),
        "currency": charge.currency.lower(),
        "customer": None,
        "description": details.get("description"),
        "last_payment_error": failure(charge) if charge.state is State.FAILED else None,
        "latest_charge": charge.id if tried else None,
        "livemode": is_live(bank, charge.provider),
        "metadata": details.get("metadata") or {},
        "next_action": action,
        "on_behalf_of": None,
        "payment_method": None if charge.state is State.FAILED else details.get("payment_method"),
        "payment_method_options": {},
        "payment_method_types": details.get("types") or ["card"],
        "payment_record": None,
        "processing": None,
        "receipt_email": None,
        "review": None,
        "setup_future_usage": None,
        "shipping": None,
        "source": None,
        "statement_descriptor": None,
        "statement_descriptor_suffix": None,
        "status": status,
        "transfer_data": None,
        "transfer_group": None,
    }


def _next_action(charge: Charge, origin: str | None) -> dict[str, object] | None:
    """What the customer has to do: 3-D Secure on a page, in Stripe.js without a page to return to, or UPI's page."""
    scanned = charge.state is State.PENDING and charge.is_intent
    if origin is None or not (scanned or charge.state is State.ACTION):
        return None
    if charge.method.get("type") == "upi":
        url = f"{origin}/upi/instructions/{intent_id(charge)}"
        code = {
            "expires_at": int(charge.created_at) + 300,
            "image_url_png": f"{url}.png",
            "image_url_svg": f"{url}.svg",
        }
        kind = "upi_handle_redirect_or_display_qr_code"
        return {"type": kind, kind: {"hosted_instructions_url": url, "qr_code": code}}
    if charge.return_url is None:
        return {"type": "use_stripe_sdk", "use_stripe_sdk": {"type": "three_d_secure_redirect"}}
    url = f"{origin}/redirect/authenticate/{intent_id(charge)}"
    return {"type": "redirect_to_url", "redirect_to_url": {"return_url": charge.return_url, "url": url}}


def failure(charge: Charge) -> dict[str, object]:
    """Why a payment failed, as an error object."""
    code, decline_code = _FAILURES.get(charge.reason or "", ("card_declined", "generic_decline"))
    if charge.method.get("type") == "upi" and code == "card_declined":
        code = "payment_method_provider_decline"
    elif charge.details.get("payment_method") == _WRONG_CVC and charge.reason == "authentication_failed":
        code, decline_code = "incorrect_cvc", "incorrect_cvc"
    error: dict[str, object] = {
        "type": "card_error",
        "code": code,
        "doc_url": f"https://stripe.com/docs/error-codes/{code.replace('_', '-')}",
        "message": "Your payment was declined.",
        "charge": charge.id,
    }
    return error | ({"decline_code": decline_code} if decline_code else {})


def charge_object(bank: Bank, charge: Charge) -> dict[str, object]:
    """The Charge of an intent."""
    failed, kind = charge.state is State.FAILED, charge.method.get("type", "card")
    error = failure(charge) if failed else {}
    captured = charge.state is State.CAPTURED
    released = charge.released or charge.details.get("released") is True
    return {
        "id": charge.id,
        "object": "charge",
        "amount": charge.amount + charge.misreport,
        "amount_captured": charge.captured,
        "amount_refunded": charge.amount if released else charge.refunded,
        "application": None,
        "application_fee": None,
        "application_fee_amount": None,
        "balance_transaction": f"txn_{charge.id.removeprefix('ch_')}" if captured else None,
        "billing_details": {"address": None, "email": None, "name": None, "phone": None},
        "calculated_statement_descriptor": "RAILYARD",
        "captured": captured,
        "created": int(charge.created_at),
        "currency": charge.currency.lower(),
        "customer": None,
        "description": charge.details.get("description"),
        "disputed": False,
        "failure_balance_transaction": None,
        "failure_code": error.get("code"),
        "failure_message": error.get("message"),
        "fraud_details": {},
        "livemode": is_live(bank, charge.provider),
        "metadata": charge.details.get("metadata") or {},
        "on_behalf_of": None,
        "outcome": _outcome(charge),
        "paid": charge.state in (State.CAPTURED, State.AUTHORIZED),
        "payment_intent": intent_id(charge),
        "payment_method": charge.details.get("payment_method"),
        "payment_method_details": {kind: _instrument(charge), "type": kind},
        "receipt_email": None,
        "receipt_number": None,
        "receipt_url": None,
        "refunded": released or (captured and charge.refunded >= charge.captured),
        "review": None,
        "shipping": None,
        "source": None,
        "source_transfer": None,
        "statement_descriptor": None,
        "statement_descriptor_suffix": None,
        "status": _CHARGE_STATUS.get(charge.state, "succeeded"),
        "transfer_data": None,
        "transfer_group": None,
    }


def _outcome(charge: Charge) -> dict[str, object]:
    blocked, failed = charge.reason == "payment_risk_check_failed", charge.state is State.FAILED
    kind = "blocked" if blocked and failed else "issuer_declined" if failed else "authorized"
    return {
        "network_status": {"blocked": "not_sent_to_network", "issuer_declined": "declined_by_network"}.get(
            kind, "approved_by_network"
        ),
        "reason": "highest_risk_level" if blocked else None,
        "risk_level": "highest" if blocked else "normal",
        "seller_message": "Payment complete." if kind == "authorized" else "The payment was declined.",
        "type": kind,
    }


def _instrument(charge: Charge) -> dict[str, object]:
    last4 = charge.method.get("last4")
    return {"last4": last4, "exp_month": 12, "exp_year": 2034} if last4 else {"vpa": charge.method.get("vpa")}


def refund_object(refund: Refund) -> dict[str, object]:
    """A Refund."""
    failed = refund.status in ("failed", "returned")
    suffix = refund.id.removeprefix("rfnd_")
    found: dict[str, object] = {
        "id": refund_id(refund),
        "object": "refund",
        "amount": refund.amount + refund.misreport,
        "balance_transaction": f"txn_{suffix}" if refund.closed_at else None,
        "charge": refund.charge_id,
        "created": int(refund.created_at),
        "currency": refund.currency.lower(),
        "destination_details": {"type": "card", "card": {"type": "refund", "reference_status": "pending"}},
        "metadata": refund.details.get("metadata") or {},
        "payment_intent": f"pi_{refund.charge_id.removeprefix('ch_')}",
        "reason": refund.details.get("reason"),
        "receipt_number": None,
        "source_transfer_reversal": None,
        "status": _REFUND_STATUS[refund.status],
        "transfer_reversal": None,
    }
    if failed:
        found["failure_reason"] = "expired_or_canceled_card" if refund.status == "returned" else "unknown"
    return found


def balance_transaction(line: Settled) -> dict[str, object]:
    """A line of a settlement report: UPI's are called payment, a card's are called charge."""
    is_upi, taken = line.charge.method.get("type") == "upi", line.refund is not None
    currency = line.charge.currency.lower()
    kind = ("payment_refund" if taken else "payment") if is_upi else ("refund" if taken else "charge")
    amount = -line.amount if taken else line.amount
    suffix = line.refund.id.removeprefix("rfnd_") if line.refund else line.charge.id.removeprefix("ch_")
    fees = [
        {"amount": part, "application": None, "currency": currency, "description": words, "type": name}
        for name, words, part in (("stripe_fee", "Stripe processing fees", line.fee), ("tax", "GST", line.tax))
        if part
    ]
    return {
        "id": f"txn_{suffix}",
        "object": "balance_transaction",
        "amount": amount,
        "available_on": int(line.at) + _AVAILABLE_AFTER,
        "balance_type": "payments",
        "created": int(line.at),
        "currency": currency,
        "description": line.charge.details.get("description"),
        "exchange_rate": None,
        "fee": line.fee + line.tax,
        "fee_details": fees,
        "net": amount - line.fee - line.tax,
        "reporting_category": "refund" if taken else "charge",
        "source": refund_id(line.refund) if line.refund else line.charge.id,
        "status": "pending",
        "type": kind,
    }


def events(bank: Bank, fact: Fact, charge: Charge, refund: Refund | None) -> list[Notice]:
    """The webhooks that tell of a fact; a charge's own come before its intent's, as at Stripe."""
    if refund is not None and fact in _REFUND_EVENTS:
        told = [("charge.refunded", charge_object(bank, charge))] if fact is Fact.REFUNDED else []
        told.append((_REFUND_EVENTS[fact], refund_object(refund)))
        return [_event(bank, charge, refund, kind, entity) for kind, entity in told]
    if fact is Fact.AUTHORIZED and charge.automatic:
        return []
    paid, held = "payment_intent.succeeded", "payment_intent.amount_capturable_updated"
    kinds = {
        Fact.AUTHORIZED: ("charge.succeeded", held),
        Fact.CAPTURED: ("charge.succeeded" if charge.automatic else "charge.captured", paid),
        Fact.FAILED: ("charge.failed", "payment_intent.payment_failed"),
    }.get(fact, ("payment_intent.canceled",))
    return [
        _event(
            bank,
            charge,
            None,
            kind,
            intent_object(bank, charge, None) if kind.startswith("payment_intent.") else charge_object(bank, charge),
        )
        for kind in kinds
    ]


def _event(bank: Bank, charge: Charge, refund: Refund | None, kind: str, entity: dict[str, object]) -> Notice:
    event_id = bank.event_id(kind, charge, refund)
    body: dict[str, object] = {
        "id": event_id,
        "object": "event",
        "api_version": VERSION,
        "created": int(bank.timer.now),
        "data": {"object": entity},
        "livemode": is_live(bank, charge.provider),
        "pending_webhooks": 1,
        "request": {"id": None, "idempotency_key": None},
        "type": kind,
    }
    return Notice(kind, compact(body), event_id)


def sign(secret: str, body: bytes, event_id: str, now: float) -> tuple[bytes, dict[str, str]]:  # noqa: ARG001 - the body carries it
    """A webhook as it is sent."""
    at = str(int(now))
    signature = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return body, {"stripe-signature": f"t={at},v1={signature}"}
