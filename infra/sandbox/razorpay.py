"""Razorpay's wire format over the bank, in the shapes of Razorpay's API reference.

Entities are in razorpay_entities.py; here are the routes, their checks and their errors.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from base64 import b64encode
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING, TypeVar

from infra.sandbox import hosted, pages
from infra.sandbox.razorpay_entities import (
    collection,
    events,
    failure,
    order_entity,
    payment_entity,
    refund_entity,
    settlement_item,
    sign,
)
from infra.sandbox.records import ChargeSpec, Order, RefusedError, State
from infra.sandbox.replies import reply
from infra.sandbox.wire import Response, answer, integer, page, strings

if TYPE_CHECKING:
    from collections.abc import Callable

    from infra.sandbox.bank import Bank, Verdict
    from infra.sandbox.config import ProviderSettings
    from infra.sandbox.records import Charge
    from infra.sandbox.wire import Request

__all__ = ["BASE_PATH", "events", "fail", "handle", "sign"]

BASE_PATH = "/v1"
T = TypeVar("T")
_ORDER_FIELDS = frozenset(
    {"amount", "currency", "receipt", "unique_receipt", "notes", "payment", "payment_capture", "partial_payment"}
)
_MIN_AMOUNT, _MAX_RECEIPT, _MAX_NOTES, _MAX_NOTE, _DEFAULT_COUNT, _MAX_COUNT = 100, 40, 15, 256, 10, 100
_MAX_DESCRIPTION = 255
_CONTACT = re.compile(r"\+?\d{8,15}", re.ASCII)
_REFUND_KEY = re.compile(r"[A-Za-z0-9_-]{10,}")
_MISSING = "The id provided does not exist"
_NOTE = re.compile(r"notes\[\w+\]", re.ASCII)
_CHECKOUT_FIELDS = frozenset({"key_id", "order_id", "callback_url", "prefill[method]"})


def handle(bank: Bank, settings: ProviderSettings, request: Request) -> Response:
    """Answer one request."""
    parts = request.path.strip("/").split("/")
    match parts:
        case ["pay", charge_id] | ["v1", "payments", charge_id, "authorize"]:
            return hosted.serve(
                bank, settings, request, charge_id, lambda charge: _back(settings, charge, charge.return_url)
            )
        case ["v1", "checkout", "embedded"]:
            return _checkout(bank, settings, request)
        case _:
            pass
    pair = f"{settings.credentials['key_id']}:{settings.credentials['key_secret']}"
    wanted = b"Basic " + b64encode(pair.encode())
    if not hmac.compare_digest(request.headers.get("authorization", "").encode(), wanted):
        return _error(401, "Authentication failed")
    try:
        return _api(bank, settings, request, parts)
    except ValueError as error:
        return _error(400, str(error), "input_validation_failed")
    except RefusedError as refusal:
        return _refuse(refusal)


def _api(bank: Bank, settings: ProviderSettings, request: Request, parts: list[str]) -> Response:
    match request.method, parts:
        case "POST", ["v1", "orders"]:
            return _create_order(bank, settings, request)
        case "GET", ["v1", "orders"]:
            receipt = request.query.get("receipt", "")
            found = bank.book.receipts.get((settings.id, receipt), [])
            return _list(bank, settings, request, found, receipt, lambda order: order_entity(bank, order))
        case "GET", ["v1", "orders", order_id]:
            order = _order(bank, settings, order_id)
            verdict = bank.perform(settings.id, "fetch", order_id, lambda _fault: order, reference=order.receipt)
            return _reply(settings, verdict, lambda record: answer(200, order_entity(bank, record)))
        case "GET", ["v1", "orders", order_id, "payments"]:
            order = _order(bank, settings, order_id)
            charges = [bank.book.charges[charge_id] for charge_id in reversed(order.charges)]
            return _list(bank, settings, request, charges, order.receipt, payment_entity)
        case "POST", ["v1", "payments", "create", "upi" | "json"]:
            return _create_payment(bank, settings, request)
        case method, ["v1", "payments", charge_id, *rest]:
            return _payment(bank, settings, request, bank.book.charge(settings.id, charge_id), [method, *rest])
        case "GET", ["v1", "refunds", refund_id]:
            refund = bank.book.refund_by_id(settings.id, refund_id)
            reference = bank.book.charges[refund.charge_id].reference
            found_refund = bank.perform(
                settings.id, "fetch_refund", refund_id, lambda _fault: refund, reference=reference
            )
            return _reply(settings, found_refund, lambda record: answer(200, refund_entity(record)))
        case "GET", ["v1", "settlements", "recon", "combined"]:
            numbers = [request.query.get(name, "") for name in ("year", "month", "day")]
            settled = bank.book.settlements(settings.id, date(*map(int, numbers)))
            return _list(bank, settings, request, settled, "", lambda line: settlement_item(bank, line))
    return _error(404, "The requested URL was not found on the server.")


def _payment(bank: Bank, settings: ProviderSettings, request: Request, charge: Charge, what: list[str]) -> Response:
    match what:
        case ["GET"]:
            verdict = bank.perform(settings.id, "fetch", charge.id, lambda _fault: charge, reference=charge.reference)
        case ["POST", "capture"]:
            body = request.json()
            amount = integer(body.get("amount"))
            if amount is None or body.get("currency") != charge.currency:
                message = "The amount and currency are required."
                raise ValueError(message)
            verdict = bank.perform(
                settings.id,
                "capture",
                charge.id,
                lambda fault: bank.book.capture(charge, amount, fault, whole=True),
                reference=charge.reference,
                chance=bank.rated(settings.id, "capture", charge.id),
            )
        case ["POST", "refund"]:
            return _create_refund(bank, settings, request, charge)
        case ["GET", "refunds"]:
            refunds = bank.book.refunds_of(charge)
            return _list(bank, settings, request, refunds, charge.reference, refund_entity, "fetch_refund")
        case _:
            return _error(404, "The requested URL was not found on the server.")
    return _reply(settings, verdict, lambda record: answer(200, payment_entity(record)))


def _checkout(bank: Bank, settings: ProviderSettings, request: Request) -> Response:
    """Hosted checkout: the shop's form opens the page for an order, and the customer pays on it."""
    form = request.form
    order = bank.book.orders.get(form.get("order_id", ""))
    if order is None or order.provider != settings.id or form.get("key_id") != settings.credentials["key_id"]:
        return page(400, pages.message("Sandbox bank", "There is no such order at this account."))
    # The payment's notes are the form's, and so whatever the browser says; the order keeps its own.
    notes = {name[len("notes[") : -1]: value for name, value in form.items() if _NOTE.fullmatch(name)}
    return hosted.serve_order(
        bank,
        settings,
        request,
        replace(order, details={"notes": notes}),
        lambda charge: _back(settings, charge, form.get("callback_url")),
        method={"type": form.get("prefill[method]", "card")},
        hidden={name: form[name] for name in form if name in _CHECKOUT_FIELDS or _NOTE.fullmatch(name)},
    )


def _create_order(bank: Bank, settings: ProviderSettings, request: Request) -> Response:
    body = request.json()
    extra = sorted(set(body) - _ORDER_FIELDS)
    if extra:
        return _error(400, f"{extra[0]} is/are not required and should not be sent", "extra_field_sent")
    amount, currency, receipt = integer(body.get("amount")), body.get("currency"), body.get("receipt", "")
    if amount is None or amount < _MIN_AMOUNT or not isinstance(currency, str):
        message = "Order amount less than minimum amount allowed"
        raise ValueError(message)
    if not isinstance(receipt, str) or len(receipt) > _MAX_RECEIPT:
        message = f"The receipt may not be greater than {_MAX_RECEIPT} characters."
        raise ValueError(message)
    notes = strings(body.get("notes"))
    if len(notes) > _MAX_NOTES or any(len(value) > _MAX_NOTE for value in notes.values()):
        message = "Too many or too long notes."
        raise ValueError(message)
    automatic, release_after = _capture_settings(body, settings)

    def effect(_fault: object) -> Order:
        earlier = bank.book.receipts.get((settings.id, receipt), [])
        if earlier and settings.legacy_receipts:
            raise RefusedError("receipt_taken", "Order receipt should be unique.")
        if earlier and receipt and body.get("unique_receipt") is True:
            return earlier[0]
        order = Order(
            "", settings.id, receipt, amount, currency, automatic, notes, release_after, bank.timer.now,
            details={"notes": notes},
        )  # fmt: skip
        return bank.book.create_order(settings.id, order)

    verdict = bank.perform(settings.id, "order", receipt, effect, reference=receipt)
    return _reply(settings, verdict, lambda order: answer(200, order_entity(bank, order)))


def _capture_settings(body: dict[str, object], settings: ProviderSettings) -> tuple[bool, float]:
    """Whether to capture at once, and after how many seconds to release what nobody captures."""
    payment = body.get("payment")
    if payment is None:
        return body.get("payment_capture") in (None, True, 1), settings.release_after
    if not isinstance(payment, dict) or payment.get("capture") not in ("automatic", "manual"):
        message = "The selected payment.capture is invalid."
        raise ValueError(message)
    options = payment.get("capture_options")
    options = options if isinstance(options, dict) else {}
    if payment["capture"] == "automatic" and integer(options.get("automatic_expiry_period")) is None:
        message = "The automatic_expiry_period field is required."
        raise ValueError(message)
    minutes = integer(options.get("manual_expiry_period"))
    return payment["capture"] == "automatic", minutes * 60.0 if minutes else settings.release_after


def _create_payment(bank: Bank, settings: ProviderSettings, request: Request) -> Response:
    body = request.json()
    order_id = body.get("order_id")
    order = _order(bank, settings, order_id if isinstance(order_id, str) else "")
    if (body.get("amount"), body.get("currency")) != (order.amount, order.currency):
        raise RefusedError("payment_amount_tampered", "The amount is different from your order amount.")
    method = body.get("method")
    if method not in ("upi", "netbanking", "wallet"):
        message = "The selected method is invalid."
        raise ValueError(message)
    contact, description = body.get("contact"), body.get("description")
    if contact is not None and not (isinstance(contact, str) and _CONTACT.fullmatch(contact)):
        message = "Contact number contains invalid country code or characters."
        raise ValueError(message)
    if description is not None and not (isinstance(description, str) and len(description) <= _MAX_DESCRIPTION):
        message = f"The description may not be greater than {_MAX_DESCRIPTION} characters."
        raise ValueError(message)
    instrument = strings(body.get("upi")) if method == "upi" else strings({m: body.get(m) for m in ("bank", "wallet")})
    callback_url = body.get("callback_url")
    spec = ChargeSpec(
        reference=order.receipt,
        amount=order.amount,
        currency=order.currency,
        automatic=order.automatic,
        method={"type": method, **instrument},
        return_url=callback_url if isinstance(callback_url, str) else None,
        order=order,
        details={"notes": strings(body.get("notes")), "email": body.get("email"), "contact": body.get("contact")},
    )
    verdict = bank.create_charge(settings.id, spec, order.id)

    def render(charge: Charge) -> Response:
        if charge.state is State.FAILED:
            return answer(400, {"error": failure(charge)})
        made: dict[str, object] = {"razorpay_payment_id": charge.id}
        if charge.state is State.ACTION:
            url = f"{request.origin}{BASE_PATH}/payments/{charge.id}/authorize"
            made["next"] = [{"action": "redirect", "url": url}]
        elif charge.state is State.PENDING and charge.is_intent:
            made["link"] = pages.upi_link(charge)
        return answer(200, made)

    return _reply(settings, verdict, render, lambda refusal: _refuse(refusal, method))


def _create_refund(bank: Bank, settings: ProviderSettings, request: Request, charge: Charge) -> Response:
    body = request.json()
    amount = integer(body.get("amount"))
    if body.get("amount") is not None and amount is None:
        message = "The amount must be an integer."
        raise ValueError(message)
    key = request.headers.get("x-refund-idempotency")
    if key is not None and not _REFUND_KEY.fullmatch(key):
        message = "The idempotency key must be at least 10 characters of letters, numbers, - and _."
        raise ValueError(message)
    receipt = body.get("receipt")
    details = {"receipt": receipt if isinstance(receipt, str) else None, "notes": strings(body.get("notes"))}
    canonical = json.dumps(body, sort_keys=True)
    scope = key or f"{charge.id}/{canonical}"
    verdict = bank.perform(
        settings.id,
        "refund",
        scope,
        lambda fault: bank.book.refund(charge, amount, key, fault, details),
        reference=charge.reference,
        fingerprint=f"{charge.id}/{canonical}" if key else None,
        chance=bank.rated(settings.id, "refund", scope),
    )
    return _reply(settings, verdict, lambda refund: answer(200, refund_entity(refund)))


def _list(
    bank: Bank,
    settings: ProviderSettings,
    request: Request,
    records: list[T],
    reference: str,
    render: Callable[[T], dict[str, object]],
    operation: str = "fetch",
) -> Response:
    """A page of a list; ``count`` is 10 unless asked for."""
    count, skip = request.query.get("count", str(_DEFAULT_COUNT)), request.query.get("skip", "0")
    if not count.isdigit() or not skip.isdigit() or not 0 < int(count) <= _MAX_COUNT:
        message = f"The count must be between 1 and {_MAX_COUNT}."
        raise ValueError(message)
    part = records[int(skip) : int(skip) + int(count)]
    verdict = bank.perform(settings.id, operation, request.target, lambda _fault: part, reference=reference)
    return _reply(settings, verdict, lambda rows: answer(200, collection([render(row) for row in rows])))


def _order(bank: Bank, settings: ProviderSettings, order_id: str) -> Order:
    order = bank.book.orders.get(order_id)
    if order is None or order.provider != settings.id:
        raise RefusedError("not_found", _MISSING)
    return order


def _reply(
    settings: ProviderSettings,
    verdict: Verdict[T],
    render: Callable[[T], Response],
    refuse: Callable[[RefusedError], Response] | None = None,
) -> Response:
    return reply(settings, verdict, render, refuse or _refuse, fail)


def fail(status: int) -> Response:
    """A 429 or 5xx."""
    return answer(status, {"error": {"code": "SERVER_ERROR", "description": "Please try again later."}})


def _refuse(refusal: RefusedError, method: str = "payment") -> Response:
    if refusal.reason == "in_progress":
        return _error(409, "The same request is still being processed.")
    if refusal.reason == "not_found":
        return _error(400, _MISSING)
    if refusal.reason == "not_accepted":
        return _error(400, refusal.description, f"{method}_not_enabled")
    if refusal.reason == "gateway_technical_error":
        return _error(400, refusal.description, refusal.reason, "GATEWAY_ERROR")
    ours = refusal.reason in ("invalid_state", "receipt_taken", "duplicate_request")
    return _error(400, refusal.description, "input_validation_failed" if ours else refusal.reason)


def _error(status: int, description: str, reason: str | None = None, code: str = "BAD_REQUEST_ERROR") -> Response:
    error: dict[str, object] = {"code": code, "description": description}
    if reason is not None:
        error |= {"source": "business", "step": "payment_initiation", "reason": reason, "metadata": {}}
    return answer(status, {"error": error})


def _back(settings: ProviderSettings, charge: Charge, callback_url: str | None) -> Response:
    """The browser carries the outcome back to the shop."""
    if not callback_url:
        return hosted.farewell(charge)
    return page(200, pages.send_on(callback_url, return_fields(settings.credentials["key_secret"], charge)))


def return_fields(secret: str, charge: Charge) -> dict[str, str]:
    """What checkout posts to the callback URL: proof of the payment, or why it failed."""
    if charge.state is State.FAILED:
        fields = {f"error[{name}]": str(value) for name, value in failure(charge).items() if name != "metadata"}
        metadata = {"payment_id": charge.id, "order_id": charge.order_id}
        return {**fields, "error[metadata]": json.dumps(metadata)}
    message = f"{charge.order_id}|{charge.id}".encode()
    return {
        "razorpay_payment_id": charge.id,
        "razorpay_order_id": charge.order_id or "",
        "razorpay_signature": hmac.new(secret.encode(), message, hashlib.sha256).hexdigest(),
    }
