"""Razorpay's wire format, translated both ways by pure functions; what is called when is in razorpay.py.

Source of every fact: Razorpay's API reference for orders, payments, refunds and webhooks.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

from chalicelib.domain.errors import ErrorClass, ErrorCode
from chalicelib.domain.outcome import (
    Charge,
    ChargeStatus,
    Effect,
    EffectStatus,
    EventKind,
    NotSent,
    ProviderEvent,
    SettlementLine,
    Unknown,
)
from chalicelib.providers.calls import integer, misconfigured, section, text, unknown
from chalicelib.providers.moments import from_epoch
from chalicelib.providers.reasons import CONFLICT, INVALID, TECHNICAL, UNDECIDED, classify, classify_request, error_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from chalicelib.domain.errors import PaymentError
    from chalicelib.providers.base import ChargeIntent, ChargeRef
    from chalicelib.providers.calls import Answer

AUTHORIZATION_MINUTES = 3 * 24 * 60  # the pages disagree between three and five days: ask for three
AUTOMATIC_MINUTES = 12  # the least that Razorpay allows; in practice the capture is immediate
COLLECT_MINUTES = 5
MAX_NOTE = 256
MAX_DESCRIPTION = 255

STATUSES: dict[str, ChargeStatus] = {
    "created": ChargeStatus.PENDING,
    "authorized": ChargeStatus.AUTHORIZED,
    "captured": ChargeStatus.SUCCEEDED,
    "refunded": ChargeStatus.SUCCEEDED,
    "failed": ChargeStatus.DECLINED,
}
REFUND_STATUSES: dict[str, EffectStatus] = {
    "created": EffectStatus.PENDING,
    "pending": EffectStatus.PENDING,
    "processed": EffectStatus.SUCCEEDED,
    "failed": EffectStatus.FAILED,
}
_CHARGE_EVENTS = frozenset({"payment.authorized", "payment.captured", "payment.failed", "order.paid"})
_REFUND_EVENTS = frozenset({"refund.created", "refund.processed", "refund.failed"})
_DISPUTE = "payment.dispute."
_WRITTEN = re.compile(r"[ ().-]")  # how people space a phone number
_SETTLED: dict[str, Literal["payment", "refund"]] = {"payment": "payment", "refund": "refund"}
_CONFLICT_STATUS = 409

RECEIPT_TAKEN = "order receipt should be unique"
KEY_USED = "duplicate_request"  # by an earlier try of ours
_CAPTURED = "already been captured"
_OUR_REQUEST = "BAD_REQUEST_ERROR"  # the code of what Razorpay refused for what it asks; the others are machines'
_MACHINES = frozenset({"gateway", "internal"})  # the source of what went wrong behind Razorpay, or in it
_NO_SUCH_ID = "the id provided does not exist"
_NOT_FOUND_STATUS = 404


def order_payload(intent: ChargeIntent) -> dict[str, object]:
    """The order that will carry the payment; its receipt is our reference."""
    options: dict[str, object] = {"manual_expiry_period": AUTHORIZATION_MINUTES, "refund_speed": "normal"}
    if intent.capture == "automatic":
        options["automatic_expiry_period"] = AUTOMATIC_MINUTES
    return {
        "amount": intent.amount,
        "currency": intent.currency,
        "receipt": intent.reference,
        "unique_receipt": True,
        "notes": _notes(intent),
        "payment": {"capture": intent.capture, "capture_options": options},
    }


def payment_payload(intent: ChargeIntent, order_id: str) -> tuple[str, dict[str, object]]:
    """The path and body of the server-to-server payment on that order."""
    method = intent.method["type"]
    payload: dict[str, object] = {
        "amount": intent.amount,
        "currency": intent.currency,
        "order_id": order_id,
        "method": method,
        "notes": _notes(intent),
    }
    given = {name: intent.customer.get(name, "") for name in ("email", "contact", "ip")}
    given["contact"] = _WRITTEN.sub("", given["contact"])
    payload |= {name: value for name, value in given.items() if value}
    if intent.description:
        payload["description"] = intent.description[:MAX_DESCRIPTION]
    if intent.return_url:
        payload["callback_url"] = intent.return_url
    if method == "upi":
        vpa = intent.method.get("vpa")
        collect = vpa is not None and intent.method.get("flow") != "intent"
        payload["upi"] = (
            {"flow": "collect", "vpa": vpa, "expiry_time": COLLECT_MINUTES} if collect else {"flow": "intent"}
        )
        return "/payments/create/upi", payload
    field = "bank" if method == "netbanking" else "wallet"
    payload[field] = intent.method[field]
    return "/payments/create/json", payload


def _notes(intent: ChargeIntent) -> dict[str, str]:
    """Our ids, on the order and on the payment: a webhook carries only the payment's."""
    return {"payment_id": intent.payment_id[:MAX_NOTE], "reference": intent.reference[:MAX_NOTE]}


def is_checkout(method: Mapping[str, str]) -> bool:
    """Whether the customer makes the payment, in Razorpay's checkout."""
    return method.get("type") == "card"


def checkout_fields(about: ChargeIntent | ChargeRef) -> dict[str, object]:
    """What checkout shows, and our ids for the payment, named as in hosted checkout's form."""
    return {
        "amount": about.amount,
        "currency": about.currency,
        "prefill[method]": about.method.get("type"),
        "notes[payment_id]": about.reference.rpartition("-")[0],
        "notes[reference]": about.reference,
    }


def next_action(body: Mapping[str, object]) -> dict[str, object] | None:
    """What the customer has to do, from the answer to a server-to-server payment."""
    link = text(body, "link")
    if link is not None and link.startswith("upi:"):
        return {"type": "upi_intent", "uri": link}
    steps = body.get("next")
    for step in steps if isinstance(steps, list) else []:
        if isinstance(step, dict) and step.get("action") == "redirect":
            url = text(step, "url")
            if url is not None and url.startswith(("https://", "http://")):
                return {"type": "redirect", "url": url}
    return None


def charge(entity: Mapping[str, object], order_id: str | None = None) -> Charge:
    """A payment entity as a statement; a status we do not know is pending."""
    raw = text(entity, "status") or ""
    status = STATUSES.get(raw, ChargeStatus.PENDING)
    amount = integer(entity, "amount")
    captured = 0
    error = None
    reason = text(entity, "error_reason")
    if raw == "refunded" and entity.get("captured") is False:
        status = ChargeStatus.CANCELED  # an authorization that nobody captured, released by Razorpay
    elif status is ChargeStatus.SUCCEEDED:
        captured = amount or 0
    elif status is ChargeStatus.DECLINED:
        if reason in UNDECIDED:
            status = ChargeStatus.PENDING
        else:
            error = classify(reason, text(entity, "error_source"), text(entity, "error_code"))
    order = text(entity, "order_id") or order_id
    return Charge(
        status=status,
        provider_reference=text(entity, "id"),
        amount=amount,
        currency=text(entity, "currency"),
        captured=captured,
        refunded=(integer(entity, "amount_refunded") or 0) if captured else 0,
        error=error,
        data={"order_id": order} if order else {},
    )


def capture_effect(now: Charge, answer: Answer) -> Effect | None:
    """The capture's effect when the payment has been captured and says how much, else None."""
    if now.status is not ChargeStatus.SUCCEEDED or not now.captured:
        return None
    return Effect(EffectStatus.SUCCEEDED, now.provider_reference, now.captured, now.currency, exchange=answer.exchange)


def best(entities: Sequence[Mapping[str, object]]) -> Mapping[str, object] | None:
    """The payment that decides an order: captured, else authorized, else the newest."""
    rank = {"captured": 2, "refunded": 2, "authorized": 1}

    def order(entity: Mapping[str, object]) -> tuple[int, int]:
        return rank.get(text(entity, "status") or "", 0), integer(entity, "created_at") or 0

    return max(entities, key=order, default=None)


def refund_effect(entity: Mapping[str, object]) -> Effect:
    """A refund entity as a statement; a status we do not know is pending."""
    status = REFUND_STATUSES.get(text(entity, "status") or "", EffectStatus.PENDING)
    failed = status is EffectStatus.FAILED
    return Effect(
        status=status,
        provider_reference=text(entity, "id"),
        amount=integer(entity, "amount"),
        currency=text(entity, "currency"),
        error=error_of(TECHNICAL, "failed") if failed else None,
        key=text(entity, "receipt"),
    )


def settlement_line(row: Mapping[str, object]) -> SettlementLine | None:
    """One item of the combined settlement report; None for one that does not say what it is.

    Razorpay's ``fee`` includes the tax on it, and a payment's ``credit`` is its amount less the fee.
    """
    kind, entity_id, currency = text(row, "type"), text(row, "entity_id"), text(row, "currency")
    amount, fee, tax = integer(row, "amount"), integer(row, "fee") or 0, integer(row, "tax") or 0
    if entity_id is None or currency is None or amount is None:
        return None
    taken = kind == "refund" or bool(integer(row, "debit"))
    return SettlementLine(
        kind=_SETTLED.get(kind or "", "adjustment"),
        entity_id=entity_id,
        amount=-amount if taken else amount,
        currency=currency,
        fee=fee - tax,
        tax=tax,
        reference=text(row, "order_receipt"),
        provider_reference=entity_id if kind == "payment" else text(row, "payment_id"),
        settlement_id=text(row, "settlement_id"),
        utr=text(row, "settlement_utr"),
        settled_at=from_epoch(integer(row, "settled_at")) if row.get("settled") is True else None,
    )


def description(answer: Answer) -> str:
    """The error's text in lower case, only ever compared, never shown."""
    return (text(section(answer.body, "error"), "description") or "").lower()


def is_missing(answer: Answer) -> bool:
    """Whether the answer says that there is no such object; Razorpay says so with 400 as well."""
    return answer.status == _NOT_FOUND_STATUS or _NO_SUCH_ID in description(answer)


def refused_charge(answer: Answer, order_id: str | None) -> Charge | NotSent | Unknown | None:
    """What a refused order or payment means; None asks the caller to look at the order."""
    error = section(answer.body, "error")
    reason, source, code = text(error, "reason"), text(error, "source"), text(error, "code")
    payment_id = text(section(error, "metadata"), "payment_id")
    data = {"order_id": order_id} if order_id else {}
    if answer.status == _CONFLICT_STATUS:
        return Unknown(unknown("http_409"), answer.exchange, answer.retry_after)
    if payment_id is None and _is_authentication(answer):
        return NotSent(misconfigured(reason or f"http_{answer.status}"), answer.exchange, answer.retry_after)
    if reason in UNDECIDED:
        if payment_id is None:
            return Unknown(unknown(reason or "undecided"), answer.exchange, answer.retry_after)
        return Charge(ChargeStatus.PENDING, payment_id, data=data, exchange=answer.exchange)
    tried = payment_id is not None
    verdict = classify(reason, source, code) if tried else classify_request(reason, code)
    if verdict.error_class is ErrorClass.CONFLICT or "already paid" in description(answer):
        return None
    if verdict.error_class is ErrorClass.CONFIG and not tried:
        return NotSent(verdict, answer.exchange, answer.retry_after)
    return Charge(
        ChargeStatus.DECLINED,
        payment_id,
        error=verdict,
        data=data,
        exchange=answer.exchange,
        retry_after=answer.retry_after,
    )


def refusal(answer: Answer) -> PaymentError:
    """Why a capture or refund was refused; technical where neither reason nor code says that it had no effect."""
    error = section(answer.body, "error")
    reason, code = text(error, "reason"), text(error, "code")
    if _CAPTURED in description(answer):
        return error_of(CONFLICT, reason or code)
    is_ours = code == _OUR_REQUEST and text(error, "source") not in _MACHINES
    return classify(reason, None, code, default=INVALID if is_ours else TECHNICAL)


def undecided(answer: Answer) -> NotSent | Unknown | None:
    """A refused capture or refund that may yet have an effect, or that the account stands in the way of.

    None asks the caller to look at the facts: "already captured", "fully refunded" or "same key, other body"
    may be the doing of an earlier try of ours, and a gateway's time-out says nothing of what it did.
    """
    error = section(answer.body, "error")
    reason = text(error, "reason")
    if answer.status == _CONFLICT_STATUS:
        return Unknown(unknown("http_409"), answer.exchange, answer.retry_after)
    if _is_authentication(answer):
        return NotSent(misconfigured(reason or f"http_{answer.status}"), answer.exchange, answer.retry_after)
    if reason in UNDECIDED:
        return Unknown(unknown(reason or "undecided"), answer.exchange, answer.retry_after)
    verdict = refusal(answer)
    return (
        NotSent(verdict, answer.exchange, answer.retry_after)
        if verdict.code is ErrorCode.PROVIDER_MISCONFIGURED
        else None
    )


def _is_authentication(answer: Answer) -> bool:
    """Razorpay reports a bad key as 401, or as 400 with nothing but a sentence."""
    said = description(answer)
    return said.startswith("authentication failed") or "api key" in said


def event(body: Mapping[str, object], dedupe_key: str) -> ProviderEvent:
    """A verified webhook in our terms; what we have no use for is ignored."""
    kind = text(body, "event") or "unreadable"
    payload = section(body, "payload")
    payment = section(section(payload, "payment"), "entity")
    order = section(section(payload, "order"), "entity")
    refund = section(section(payload, "refund"), "entity")
    # What we ourselves gave to the order or the refund. A payment's notes come from the browser that opened the
    # checkout: with the order's id beside them the services can tell, and a payment without an order is none of ours.
    given = text(order, "receipt") or _reference(order) or _reference(refund)
    reference = given or (_reference(payment) if text(payment, "order_id") else None)
    provider_reference = text(payment, "id") or text(refund, "payment_id")
    if kind in _CHARGE_EVENTS and payment:
        return ProviderEvent(
            dedupe_key, kind, EventKind.CHARGE, reference, provider_reference, charge(payment, text(order, "id"))
        )
    if kind in _REFUND_EVENTS and refund:
        if payment.get("captured") is False:
            # An automatic refund of an authorization that was never captured: a release, not a refund.
            if REFUND_STATUSES.get(text(refund, "status") or "") is not EffectStatus.SUCCEEDED:
                return ProviderEvent(dedupe_key, kind, EventKind.HINT, reference, provider_reference)
            released = charge({**payment, "status": "refunded"})
            return ProviderEvent(dedupe_key, kind, EventKind.CHARGE, reference, provider_reference, released)
        return ProviderEvent(
            dedupe_key,
            kind,
            EventKind.REFUND,
            reference,
            provider_reference,
            charge(payment) if payment else None,
            refund_effect(refund),
            text(refund, "receipt"),
        )
    if kind.startswith(_DISPUTE):
        return ProviderEvent(dedupe_key, kind, EventKind.DISPUTE, reference, provider_reference)
    return ProviderEvent(dedupe_key, kind, EventKind.IGNORED, reference, provider_reference)


def _reference(entity: Mapping[str, object]) -> str | None:
    """Our attempt reference, as the notes say."""
    return text(section(entity, "notes"), "reference")
