"""Instamojo's wire format (API v1.1) over the bank, in the shapes of Instamojo's reference.

A payment request is an order of the book, and its payments are the charges that customers make on the page
at its ``longurl``. Entities are in instamojo_entities.py; here are the routes, their checks and their errors.
"""

from __future__ import annotations

import hmac
import re
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from chalicelib.domain.ids import long_reference
from infra.sandbox import hosted, pages
from infra.sandbox.instamojo_entities import (
    HOME,
    charge_id_of,
    events,
    order_id_of,
    payment_entity,
    payment_id_of,
    payment_status,
    payouts,
    refund_entity,
    refund_id_of,
    request_entity,
    request_id_of,
    sign,
)
from infra.sandbox.records import Charge, Fault, Order, Refund, RefusedError
from infra.sandbox.replies import reply
from infra.sandbox.wire import Response, answer, page, redirect, with_query

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from infra.sandbox.bank import Bank, Verdict
    from infra.sandbox.config import ProviderSettings
    from infra.sandbox.wire import Request

__all__ = ["BASE_PATH", "events", "fail", "handle", "sign"]

BASE_PATH = "/api/1.1"
T = TypeVar("T")
R = TypeVar("R", Order, Charge, Refund)
_MIN_AMOUNT, _MAX_AMOUNT = 900, 20_000_000
_DEFAULT_LIMIT, _MAX_LIMIT = 50, 500
_FOREVER = 1 << 40  # seconds
_AMOUNT = re.compile(r"(\d{1,10})(?:\.(\d{1,2}))?", re.ASCII)
_KEY = re.compile(r"\(((?:rf|op)_\w+)\)$", re.ASCII)
_REFUND_TYPES = ("RFD", "TNR", "QFL", "QNR", "EWN", "TAN", "PTH")
_REQUIRED = "This field is required."
# A field that is given must look like this, or else this is said of it.
_FORMS = {
    "purpose": (re.compile(r".{1,30}"), "Ensure this field has no more than 30 characters."),
    "buyer_name": (re.compile(r".{0,100}"), "Ensure this field has no more than 100 characters."),
    "email": (re.compile(r"(?=.{0,75}$)([^@\s]+@[^@\s]+\.[^@\s]+)?"), "Enter a valid email address."),
    "phone": (re.compile(r"(\+?\d{8,15})?", re.ASCII), "Enter a valid phone number."),
    "redirect_url": (re.compile(r"(https?://\S+)?"), "Enter a valid URL."),
    "webhook": (re.compile(r"(https?://\S+)?"), "Enter a valid URL."),
}


class InvalidError(Exception):
    """A field that is wrong, and what is wrong with it."""

    def __init__(self, field: str, words: str) -> None:
        """``field`` is the form's or the query's name of it."""
        super().__init__(words)
        self.field = field


def handle(bank: Bank, settings: ProviderSettings, request: Request) -> Response:
    """Answer one request."""
    match request.path.strip("/").split("/"):
        case [home, request_id] if home == HOME:
            return _page(bank, settings, request, request_id)
        case ["api", "1.1", *parts]:
            pass
        case _:
            return _error(404, "Not found.")
    if not request.path.endswith("/"):
        return Response(301, b"", {"location": f"{request.path}/"})
    for header, credential in (("x-api-key", "api_key"), ("x-auth-token", "auth_token")):
        given, wanted = request.headers.get(header, ""), settings.credentials[credential]
        if not hmac.compare_digest(given.encode(), wanted.encode()):
            return _error(401, f"Invalid {header}.")
    try:
        return _api(bank, settings, request, parts)
    except InvalidError as invalid:
        return _error(400, {invalid.field: [str(invalid)]})
    except RefusedError as refusal:
        return _refuse(refusal)


def _api(bank: Bank, settings: ProviderSettings, request: Request, parts: list[str]) -> Response:
    book = bank.book
    match request.method, parts:
        case "POST", ["payment-requests"]:
            return _create(bank, settings, request)
        case "GET", ["payment-requests"]:
            return _list(
                bank, settings, request, book.orders.values(), "payment_requests", partial(request_entity, bank)
            )
        case "GET", ["payment-requests", request_id, *rest]:
            return _show(bank, settings, _order(bank, settings, request_id), rest)
        case "POST", ["payment-requests", request_id, "disable"]:
            return _disable(bank, settings, _order(bank, settings, request_id))
        case "GET", ["payments"]:
            taken = payouts(bank, (charge for charge in book.charges.values() if charge.provider == settings.id))
            return _list(
                bank, settings, request, book.charges.values(), "payments",
                lambda charge: payment_entity(charge, taken.get(charge.id)),
            )  # fmt: skip
        case "GET", ["payments", payment_id]:
            charge = book.charge(settings.id, charge_id_of(payment_id))
            payout = payouts(bank, [charge]).get(charge.id)
            verdict = bank.perform(settings.id, "fetch", charge.id, lambda _fault: charge, reference=charge.reference)
            return _reply(settings, verdict, lambda shown: _good({"payment": payment_entity(shown, payout)}))
        case "POST", ["refunds"]:
            return _refund(bank, settings, request)
        case "GET", ["refunds"]:
            return _list(
                bank, settings, request, book.refunds.values(), "refunds", partial(refund_entity, bank), "fetch_refund"
            )
        case "GET", ["refunds", case_id]:
            refund = book.refund_by_id(settings.id, refund_id_of(case_id))
            reference = book.charges[refund.charge_id].reference
            found = bank.perform(settings.id, "fetch_refund", refund.id, lambda _fault: refund, reference=reference)
            return _reply(settings, found, lambda shown: _good({"refund": refund_entity(bank, shown)}))
    return _error(404, "Not found.")


def _create(bank: Bank, settings: ProviderSettings, request: Request) -> Response:
    form = request.form
    for field in ("purpose", "amount"):
        if not form.get(field):
            raise InvalidError(field, _REQUIRED)
    for field, (looks, words) in _FORMS.items():
        if not looks.fullmatch(form.get(field, "")):
            raise InvalidError(field, words)
    amount = _paise(form, "amount")
    if amount < _MIN_AMOUNT:
        raise InvalidError("amount", "Ensure this value is greater than or equal to 9.")
    if amount > min(_MAX_AMOUNT, settings.max_amount):
        raise InvalidError("amount", "Ensure this value is less than or equal to 200000.")
    reference = long_reference(form["purpose"]) or form["purpose"]

    def effect(fault: Fault | None) -> Order:
        if fault is Fault.DECLINE:
            raise RefusedError("gateway_technical_error", "The payment request could not be made.")
        order = Order(
            id="",
            provider=settings.id,
            receipt=reference,
            amount=amount,
            currency="INR",
            automatic=True,
            notes={},
            release_after=settings.release_after,
            created_at=bank.timer.now,
            return_url=form.get("redirect_url") or None,
            notify_url=form.get("webhook") or None,
        )
        bank.book.create_order(settings.id, order)
        order.details = {
            **{field: form.get(field) for field in ("purpose", "buyer_name", "email", "phone")},
            "api": f"{request.origin}{BASE_PATH}",
            "longurl": f"{request.origin}/{HOME}/{request_id_of(order.id)}",
        }
        return order

    chance = bank.rated(settings.id, "create", reference)
    verdict = bank.perform(settings.id, "create", reference, effect, reference=reference, chance=chance)
    return _reply(settings, verdict, lambda order: _good({"payment_request": request_entity(bank, order)}, 201))


def _show(bank: Bank, settings: ProviderSettings, order: Order, rest: list[str]) -> Response:
    """A request with its payments, or with the one that ``rest`` names."""
    charges = [bank.book.charges[charge_id] for charge_id in reversed(order.charges)]
    if rest:
        charges = [charge for charge in charges if [payment_id_of(charge.id)] == rest]
        if not charges:
            raise RefusedError("not_found", "There is no such payment.")
    records: list[Order | Charge] = [order, *charges]

    def render(shown: list[Order | Charge]) -> Response:
        payments = [payment_entity(record) for record in shown if isinstance(record, Charge)]
        entities = [request_entity(bank, record) for record in shown if isinstance(record, Order)]
        shown_with = {"payment": payments[0]} if rest else {"payments": payments}
        return _good({"payment_request": {**entities[0], **shown_with}})

    verdict = bank.perform(settings.id, "fetch", order.id, lambda _fault: records, reference=order.receipt)
    return _reply(settings, verdict, render)


def _disable(bank: Bank, settings: ProviderSettings, order: Order) -> Response:
    def effect(fault: Fault | None) -> Order:
        if fault is Fault.DECLINE:
            raise RefusedError("gateway_technical_error", "The payment request could not be disabled.")
        order.closed = True
        return order

    verdict = bank.perform(settings.id, "void", order.id, effect, reference=order.receipt)
    return _reply(settings, verdict, lambda _order: _good({}))


def _refund(bank: Bank, settings: ProviderSettings, request: Request) -> Response:
    form = request.form
    for field in ("payment_id", "type", "body"):
        if not form.get(field):
            raise InvalidError(field, _REQUIRED)
    if form["type"] not in _REFUND_TYPES:
        raise InvalidError("type", "Select a valid choice.")
    amount = _paise(form, "refund_amount") if form.get("refund_amount") else None
    charge = bank.book.charge(settings.id, charge_id_of(form["payment_id"]))
    ours = _KEY.search(form["body"])
    key = ours[1] if ours else None
    details = {"type": form["type"], "body": form["body"]}
    scope = key or f"{charge.id}/{len(charge.refunds)}"
    verdict = bank.perform(
        settings.id,
        "refund",
        scope,
        lambda fault: bank.book.refund(charge, amount, key, fault, details),
        reference=charge.reference,
        chance=bank.rated(settings.id, "refund", scope),
    )
    return _reply(settings, verdict, lambda refund: _good({"refund": refund_entity(bank, refund)}, 201))


def _list(
    bank: Bank,
    settings: ProviderSettings,
    request: Request,
    records: Iterable[R],
    name: str,
    render: Callable[[R], dict[str, object]],
    operation: str = "fetch",
) -> Response:
    """A page of a list, newest first; ``limit`` is 50 unless asked for, and times bound it on both sides."""
    number, limit = _count(request, "page", 1, _FOREVER), _count(request, "limit", _DEFAULT_LIMIT, _MAX_LIMIT)
    since, until = _instant(request, "min_created_at", 0), _instant(request, "max_created_at", _FOREVER)
    found = [row for row in records if row.provider == settings.id and since <= row.created_at <= until]
    part = found[::-1][(number - 1) * limit : number * limit]
    verdict = bank.perform(settings.id, operation, request.target, lambda _fault: part)
    return _reply(settings, verdict, lambda rows: _good({name: [render(row) for row in rows]}))


def _count(request: Request, field: str, default: int, most: int) -> int:
    given = request.query.get(field, str(default))
    if not (given.isascii() and given.isdigit() and 0 < int(given) <= most):
        raise InvalidError(field, "Enter a whole number.")
    return int(given)


def _instant(request: Request, field: str, default: float) -> float:
    given = request.query.get(field)
    try:
        return default if given is None else datetime.fromisoformat(given).timestamp()
    except ValueError:
        raise InvalidError(field, "Enter a valid date/time.") from None


def _paise(form: dict[str, str], field: str) -> int:
    found = _AMOUNT.fullmatch(form[field])
    if found is None:
        raise InvalidError(field, "A valid number is required.")
    return int(found[1]) * 100 + int((found[2] or "").ljust(2, "0"))


def _order(bank: Bank, settings: ProviderSettings, request_id: str) -> Order:
    order = bank.book.orders.get(order_id_of(request_id))
    if order is None or order.provider != settings.id:
        raise RefusedError("not_found", "There is no such payment request.")
    return order


def _page(bank: Bank, settings: ProviderSettings, request: Request, request_id: str) -> Response:
    """Where the customer pays."""
    try:
        order = _order(bank, settings, request_id)
    except RefusedError as refusal:
        return page(404, pages.message("Sandbox bank", refusal.description))
    return hosted.serve_order(bank, settings, request, order, _back)


def _back(charge: Charge) -> Response:
    """The browser goes back to the shop and says what happened; nothing of it is signed."""
    if charge.return_url is None:
        return hosted.farewell(charge)
    told = {
        "payment_id": payment_id_of(charge.id),
        "payment_status": payment_status(charge),
        "payment_request_id": request_id_of(charge.order_id or ""),
    }
    return redirect(with_query(charge.return_url, told))


def _reply(settings: ProviderSettings, verdict: Verdict[T], render: Callable[[T], Response]) -> Response:
    return reply(settings, verdict, render, _refuse, fail)


def _good(entities: dict[str, object], status: int = 200) -> Response:
    return answer(status, {"success": True, **entities})


def _error(status: int, message: object) -> Response:
    return answer(status, {"success": False, "message": message})


def fail(status: int) -> Response:
    """A 429 or 5xx."""
    return _error(status, "Something went wrong.")


def _refuse(refusal: RefusedError) -> Response:
    match refusal.reason:
        case "not_found":
            return _error(404, "Not found.")
        case "refund_limit_crossed":
            return _error(400, {"refund_amount": [refusal.description]})
        case "invalid_state":
            return _error(400, {"payment_id": [refusal.description]})
        case "payment_declined":
            return _error(400, {"type": [refusal.description]})
    return _error(400, f"{refusal.description} Please try again later.")
