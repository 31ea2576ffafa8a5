"""Stripe's wire format, translated both ways by pure functions; what is called when is in stripe.py.

Source of every fact: Stripe's API reference, version 2026-10-28.endive, and its pages on declines,
errors and testing. What Stripe calls a PaymentIntent is a charge to us; amounts are in minor units
on both sides, currencies in small letters on theirs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chalicelib.domain.outcome import (
    Charge,
    ChargeStatus,
    Effect,
    EffectStatus,
    EventKind,
    ProviderEvent,
    SettlementLine,
)
from chalicelib.providers.calls import integer, rows, section, text
from chalicelib.providers.stripe_errors import decline, refund_failure, refusal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from chalicelib.providers.base import ChargeIntent, ChargeRef
    from chalicelib.providers.calls import Answer

VERSION = "2026-10-28.endive"
MAX_DESCRIPTION = 1000

STATUSES: dict[str, ChargeStatus] = {
    "requires_payment_method": ChargeStatus.ACTION_REQUIRED,  # with a last_payment_error: declined
    "requires_confirmation": ChargeStatus.ACTION_REQUIRED,
    "requires_action": ChargeStatus.ACTION_REQUIRED,
    "processing": ChargeStatus.PENDING,
    "requires_capture": ChargeStatus.AUTHORIZED,
    "succeeded": ChargeStatus.SUCCEEDED,
    "canceled": ChargeStatus.CANCELED,
}
REFUND_STATUSES: dict[str, EffectStatus] = {
    "pending": EffectStatus.PENDING,
    "requires_action": EffectStatus.PENDING,
    "succeeded": EffectStatus.SUCCEEDED,
    "failed": EffectStatus.FAILED,
    "canceled": EffectStatus.FAILED,
}

# Stripe's own test payment methods (docs.stripe.com/testing), by the BIN and last digits of the test card
# that each stands for, and for every other test card by its network.
TEST_CARDS: dict[tuple[str, str], str] = {
    ("400000", "0002"): "pm_card_visa_chargeDeclined",
    ("400000", "9995"): "pm_card_visa_chargeDeclinedInsufficientFunds",
    ("400000", "0069"): "pm_card_chargeDeclinedExpiredCard",
    ("400000", "0127"): "pm_card_chargeDeclinedIncorrectCvc",
    ("400000", "0119"): "pm_card_chargeDeclinedProcessingError",
    ("400000", "0341"): "pm_card_chargeCustomerFail",
    ("410000", "0019"): "pm_card_radarBlock",
    ("400000", "3155"): "pm_card_authenticationRequiredOnSetup",
    ("400000", "3184"): "pm_card_authenticationRequired",
}
TEST_NETWORKS: dict[str, str] = {
    network: f"pm_card_{network}" for network in ("visa", "mastercard", "amex", "discover", "diners", "jcb")
}

_CHARGE_EVENTS = frozenset(
    f"payment_intent.{what}"
    for what in (
        "amount_capturable_updated", "canceled", "payment_failed", "processing", "requires_action", "succeeded",
    )
)  # fmt: skip
_REFUND_EVENTS = frozenset({"refund.created", "refund.updated", "refund.failed"})
_DISPUTE = "charge.dispute."
_LATER = frozenset({"idempotency_key_in_use", "lock_timeout", "rate_limit"})  # codes that say to ask once more
_DECLINED_STATUS, _CONFLICT_STATUS, _DEPENDENCY_STATUS = 402, 409, 424
_LINES = {"charge": "payment", "payment": "payment", "refund": "refund", "payment_refund": "refund"}
_PAYOUTS = frozenset({"payout", "payout_cancel", "payout_failure"})
_TAXES = frozenset({"tax", "withheld_tax"})


# what we send


def payment_method_of(method: Mapping[str, str]) -> str | None:
    """Stripe's payment method for a test card, of which only BIN, last digits and network are known."""
    known = TEST_CARDS.get((method.get("bin", ""), method.get("last4", "")))
    return known or TEST_NETWORKS.get(method.get("network", ""))


def create_form(intent: ChargeIntent, payment_method: str | None) -> dict[str, str]:
    """The intent as a form; one that is to be paid in the browser is not confirmed here."""
    kind = intent.method["type"]
    form = {
        "amount": str(intent.amount),
        "currency": intent.currency.lower(),
        "capture_method": intent.capture,
        "payment_method_types[0]": kind,
        "metadata[reference]": intent.reference,
        "metadata[payment_id]": intent.payment_id,
    }
    if intent.description:
        form["description"] = intent.description[:MAX_DESCRIPTION]
    if kind == "upi":
        form |= {"confirm": "true", "payment_method_data[type]": "upi"}
        if intent.method.get("vpa") and intent.method.get("flow") != "intent":
            form["payment_method_data[upi][vpa]"] = intent.method["vpa"]
    elif payment_method is not None:
        form |= {"confirm": "true", "payment_method": payment_method}
    if intent.return_url and "confirm" in form:
        form["return_url"] = intent.return_url
    return form


def refund_form(charge: ChargeRef, intent_id: str, amount: int, key: str) -> dict[str, str]:
    """A refund as a form, with our ids: a webhook of it carries nothing of the intent's."""
    return {
        "payment_intent": intent_id,
        "amount": str(amount),
        "metadata[refund_id]": key,
        "metadata[reference]": charge.reference,
    }


def search_query(reference: str) -> str:
    """A query in Stripe's search language for the intents that carry our reference."""
    quoted = reference.replace("\\", "\\\\").replace("'", "\\'")
    return f"metadata['reference']:'{quoted}'"


# what comes back


def charge(intent: Mapping[str, object], publishable_key: str | None = None) -> Charge | None:
    """An intent as a statement, a status we do not know as pending; None if it is no intent."""
    intent_id = text(intent, "id")
    if intent_id is None or text(intent, "object") != "payment_intent":
        return None
    status = STATUSES.get(text(intent, "status") or "", ChargeStatus.PENDING)
    failure = section(intent, "last_payment_error")
    if failure and text(intent, "status") == "requires_payment_method":
        status = ChargeStatus.DECLINED
    succeeded = status is ChargeStatus.SUCCEEDED
    captured = (integer(intent, "amount_received") or 0) if succeeded else 0
    # Money that has been taken, and nobody can read how much: no amount of it is worth comparing with ours.
    is_garbled = succeeded and not captured and "amount_received" in intent
    return Charge(
        status=status,
        provider_reference=intent_id,
        amount=None if is_garbled else integer(intent, "amount"),
        currency=_currency(intent),
        captured=captured,
        refunded=(integer(section(intent, "latest_charge"), "amount_refunded") or 0) if succeeded else 0,
        error=decline(failure) if status is ChargeStatus.DECLINED else None,
        next_action=next_action(intent, publishable_key) if status is ChargeStatus.ACTION_REQUIRED else None,
    )


def next_action(intent: Mapping[str, object], publishable_key: str | None) -> dict[str, object] | None:
    """What the customer has to do: go to a page, or finish in Stripe.js; None for "look at your phone"."""
    action = section(intent, "next_action")
    url = text(section(action, "redirect_to_url"), "url") or text(
        section(action, "upi_handle_redirect_or_display_qr_code"), "hosted_instructions_url"
    )
    if url is not None:
        return {"type": "redirect", "url": url} if url.startswith(("https://", "http://")) else None
    secret = text(intent, "client_secret")
    if secret is None or not publishable_key or (action and text(action, "type") != "use_stripe_sdk"):
        return None
    params = {"client_secret": secret, "publishable_key": publishable_key}
    return {"type": "provider_checkout", "provider": "stripe", "params": params}


def best(intents: Sequence[Mapping[str, object]]) -> Mapping[str, object] | None:
    """Of several intents with one reference the one that holds money, else the newest."""
    rank = {"succeeded": 2, "requires_capture": 1}

    def order(intent: Mapping[str, object]) -> tuple[int, int]:
        return rank.get(text(intent, "status") or "", 0), integer(intent, "created") or 0

    return max(intents, key=order, default=None)


def reference_of(entity: Mapping[str, object]) -> str | None:
    """Our attempt reference, as we put it into the metadata."""
    return text(section(entity, "metadata"), "reference")


def refund_key_of(refund: Mapping[str, object]) -> str | None:
    """Our operation id; None for a refund made in Stripe's dashboard."""
    return text(section(refund, "metadata"), "refund_id")


def refund_effect(refund: Mapping[str, object]) -> Effect:
    """A refund as a statement; a status we do not know is pending."""
    status = REFUND_STATUSES.get(text(refund, "status") or "", EffectStatus.PENDING)
    failed = status is EffectStatus.FAILED
    return Effect(
        status=status,
        provider_reference=text(refund, "id"),
        amount=integer(refund, "amount"),
        currency=_currency(refund),
        error=refund_failure(text(refund, "failure_reason"), text(refund, "status")) if failed else None,
        key=refund_key_of(refund),
    )


def refused_charge(answer: Answer) -> Charge | None:
    """The charge that a refused create left behind, declined as a rule; None if nobody tried to pay."""
    error = section(answer.body, "error")
    intent = section(error, "payment_intent")
    if intent:
        return charge({**intent, "last_payment_error": intent.get("last_payment_error") or error})
    if answer.status == _DECLINED_STATUS:
        return Charge(ChargeStatus.DECLINED, error=refusal(answer), retry_after=answer.retry_after)
    return None


def is_undecided(answer: Answer, headers: Mapping[str, str]) -> bool:
    """Whether a refusal leaves open what became of the request: the first with its key still runs, or
    something behind Stripe failed, or Stripe itself asks for the same once more."""
    if answer.ok:
        return False
    error = section(answer.body, "error")
    return (
        answer.status in (_CONFLICT_STATUS, _DEPENDENCY_STATUS)
        or text(error, "type") == "api_error"
        or text(error, "code") in _LATER
        or headers.get("stripe-should-retry") == "true"
    )


def is_repeat(answer: Answer) -> bool:
    """Whether an earlier request of ours stands in the way: its key was used before, with other parameters."""
    error = section(answer.body, "error")
    return text(error, "type") == "idempotency_error" or text(error, "code") == "resource_already_exists"


def event(body: Mapping[str, object], dedupe_key: str) -> ProviderEvent:
    """A verified webhook in our terms; what we have no use for is ignored."""
    kind = text(body, "type") or "unreadable"
    entity = section(section(body, "data"), "object")
    reference = reference_of(entity)
    if kind in _CHARGE_EVENTS:
        told = charge(entity)
        if told is not None:
            return ProviderEvent(dedupe_key, kind, EventKind.CHARGE, reference, told.provider_reference, told)
    elif kind in _REFUND_EVENTS and text(entity, "id"):
        # Without our metadata it was made in Stripe's dashboard, and only the intent's id leads to us.
        effect, key = refund_effect(entity), refund_key_of(entity)
        return ProviderEvent(dedupe_key, kind, EventKind.REFUND, reference, _intent_of(entity), None, effect, key)
    elif kind.startswith(_DISPUTE):
        return ProviderEvent(dedupe_key, kind, EventKind.DISPUTE, reference, _intent_of(entity))
    return ProviderEvent(dedupe_key, kind, EventKind.IGNORED, reference)


def settlement_lines(row: Mapping[str, object]) -> list[SettlementLine]:
    """A balance transaction, with its source expanded, as lines; a payout is no line but where the lines go.

    Stripe's ``fee`` includes the tax on it. A fee that is given back is a line of its own.
    """
    kind, line_id, amount = text(row, "type"), text(row, "id"), integer(row, "amount")
    if line_id is None or amount is None or kind in _PAYOUTS:
        return []
    source, fee = section(row, "source"), integer(row, "fee") or 0
    currency, intent = _currency(row) or "", _intent_of(source)
    tax = sum(integer(part, "amount") or 0 for part in rows(row, "fee_details") if text(part, "type") in _TAXES)
    named = _LINES.get(kind or "")
    source_id = text(source, "id") or text(row, "source") or line_id
    lines = [
        SettlementLine(
            kind="payment" if named == "payment" else "refund" if named == "refund" else "adjustment",
            entity_id=(intent or source_id) if named == "payment" else source_id if named else line_id,
            amount=amount,
            currency=currency,
            fee=fee - tax if fee > 0 else 0,
            tax=tax if fee > 0 else 0,
            reference=reference_of(source),
            refund_key=refund_key_of(source),
            provider_reference=intent,
        )
    ]
    if fee < 0:
        lines.append(SettlementLine("adjustment", line_id, -fee, currency, provider_reference=intent))
    return lines


def _currency(entity: Mapping[str, object]) -> str | None:
    currency = text(entity, "currency")
    return currency.upper() if currency else None


def _intent_of(entity: Mapping[str, object]) -> str | None:
    """The intent that a charge, refund or dispute belongs to, by its id or expanded."""
    return text(entity, "payment_intent") or text(section(entity, "payment_intent"), "id")
