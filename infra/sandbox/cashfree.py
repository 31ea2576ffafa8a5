"""Cashfree's wire format over the bank, in the shapes of Cashfree's payment gateway reference, 2025-01-01.

Entities are in cashfree_entities.py, what a request must hold in cashfree_requests.py; here are the
routes, what they do and their errors.
"""

from __future__ import annotations

import hmac
import json
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from infra.sandbox import hosted, pages
from infra.sandbox.cashfree_entities import (
    events,
    order_entity,
    order_status,
    payment_entity,
    recon_row,
    refund_entity,
    session_of,
    sign,
    upi_links,
)
from infra.sandbox.cashfree_requests import (
    InvalidError,
    body_of,
    cursor_at,
    paise,
    read_instrument,
    read_order,
    read_recon,
    read_refund,
)
from infra.sandbox.records import ChargeSpec, Fault, RefusedError, State
from infra.sandbox.replies import OWN_HEADER, reply
from infra.sandbox.wire import Response, answer, page, redirect

if TYPE_CHECKING:
    from collections.abc import Callable

    from infra.sandbox.bank import Bank, Verdict
    from infra.sandbox.config import ProviderSettings
    from infra.sandbox.records import Charge, Order, Refund, Settled
    from infra.sandbox.wire import Request

__all__ = ["BASE_PATH", "events", "fail", "handle", "sign"]

BASE_PATH = "/pg"
T = TypeVar("T")
_HUNDRED = 100
# The bank's reasons as Cashfree's status and code.
_REFUSALS: dict[str, tuple[int, str]] = {
    "amount_exceeds_maximum": (400, "order_amount_invalid"),
    "duplicate_request": (422, "request_invalid"),
    "gateway_technical_error": (400, "order_pay_failed"),
    "in_progress": (409, "request_in_progress"),
    "input_validation_failed": (400, "payment_amount_invalid"),
    "invalid_state": (400, "order_id_not_paid"),
    "not_accepted": (400, "payment_method_unsupported"),
    "not_found": (404, "order_not_found"),
    "payment_declined": (400, "payment_gateway_unsupported"),
    "order_already_paid": (400, "order_already_paid"),
    "order_closed": (400, "order_inactive"),
    "order_exists": (409, "order_already_exists"),
    "refund_exists": (409, "refund_id_already_exists"),
    "refund_declined": (400, "refund_unsupported"),
    "refund_limit_crossed": (400, "refund_amount_invalid"),
    "refund_not_allowed": (409, "refund_not_allowed"),
    "refund_not_found": (404, "refund_not_found"),
}
_SERVER_ERROR, _TOO_MANY = 500, 429
_TYPES = {401: "authentication_error", 422: "idempotency_error", 429: "rate_limit_error", 500: "api_error"}


def handle(bank: Bank, settings: ProviderSettings, request: Request) -> Response:
    """Answer one request."""
    parts = request.path.strip("/").split("/")
    match parts[1:]:
        case ["view", "gateway", charge_id]:
            return hosted.serve(bank, settings, request, charge_id, _back)
        case ["view", "sessions", "checkout"]:
            return _checkout(bank, settings, request)
        case ["orders", "sessions"]:
            pass  # the session is the key
        case _:
            if not _is_known(settings, request):
                return _error(401, "request_failed", "authentication Failed")
    if not request.headers.get("x-api-version"):
        return _error(400, "version_missing", "version is missing")
    try:
        return _api(bank, settings, request, parts[1:])
    except InvalidError as error:
        return _error(400, error.code, str(error))
    except ValueError:
        return _error(400, "request_failed", "bad request, please check API documentation")
    except RefusedError as refusal:
        return _refuse(refusal)


def _is_known(settings: ProviderSettings, request: Request) -> bool:
    pairs = (("x-client-id", "client_id"), ("x-client-secret", "client_secret"))
    return all(
        hmac.compare_digest(request.headers.get(header, "").encode(), settings.credentials[name].encode())
        for header, name in pairs
    )


def _api(bank: Bank, settings: ProviderSettings, request: Request, parts: list[str]) -> Response:
    match request.method, parts:
        case "POST", ["orders"]:
            return _create_order(bank, settings, request)
        case "POST", ["orders", "sessions"]:
            return _pay(bank, settings, request)
        case "POST", ["settlement", "recon"]:
            return _recon(bank, settings, request)
        case method, ["orders", order_id, *rest]:
            return _of_order(bank, settings, request, _order(bank, settings, order_id), [method, *rest])
    return _error(404, "request_failed", "bad URL, please check API documentation")


def _of_order(bank: Bank, settings: ProviderSettings, request: Request, order: Order, what: list[str]) -> Response:
    charges = [bank.book.charges[charge_id] for charge_id in reversed(order.charges)]
    match what:
        case ["GET"]:
            found = bank.perform(settings.id, "fetch", order.id, lambda _fault: order, reference=order.receipt)
            return _reply(settings, found, lambda record: answer(200, order_entity(bank, record)))
        case ["PATCH"]:
            return _terminate(bank, settings, request, order)
        case ["GET", "payments"]:
            listed = bank.perform(settings.id, "fetch", order.id, lambda _fault: charges, reference=order.receipt)
            return _reply(settings, listed, lambda rows: answer(200, [payment_entity(row) for row in rows]))
        case ["GET", "payments", payment_id]:
            charge = bank.book.charge(settings.id, payment_id)
            shown = bank.perform(settings.id, "fetch", payment_id, lambda _fault: charge, reference=order.receipt)
            return _reply(settings, shown, lambda record: answer(200, payment_entity(record)))
        case ["POST", "authorization"]:
            return _authorize(bank, settings, request, order, charges)
        case ["POST", "refunds"]:
            return _create_refund(bank, settings, request, order, charges)
        case ["GET", "refunds", *which]:
            return _fetch_refunds(bank, settings, order, charges, which)
    return _error(404, "request_failed", "bad URL, please check API documentation")


def _create_order(bank: Bank, settings: ProviderSettings, request: Request) -> Response:
    order = read_order(bank, settings, body_of(request))

    def effect(_fault: object) -> Order:
        if (settings.id, order.receipt) in bank.book.receipts:
            raise RefusedError("order_exists", "order with same id is already present")
        return bank.book.create_order(settings.id, order)

    return _once(
        bank, settings, request, "order", order.receipt, order.receipt, effect,
        lambda record: answer(200, order_entity(bank, record)),
    )  # fmt: skip


def _terminate(bank: Bank, settings: ProviderSettings, request: Request, order: Order) -> Response:
    if body_of(request).get("order_status") != "TERMINATED":
        raise InvalidError("order_status_invalid", "order_status : should be TERMINATED")

    def effect(fault: Fault | None) -> Order:
        if fault is Fault.DECLINE:
            raise RefusedError("payment_declined", "The order cannot be terminated.")
        if order_status(bank, order) == "ACTIVE":
            order.closed = True
            for charge_id in order.charges:
                if bank.book.charges[charge_id].state is State.ACTION:
                    bank.book.void(bank.book.charges[charge_id])
        return order

    verdict = bank.perform(settings.id, "void", order.id, effect, reference=order.receipt)
    return _reply(settings, verdict, lambda record: answer(200, order_entity(bank, record)))


def _pay(bank: Bank, settings: ProviderSettings, request: Request) -> Response:
    body = body_of(request)
    order = _by_session(bank, settings, body.get("payment_session_id"))
    if order is None:
        raise InvalidError("payment_session_id_invalid", "payment_session_id is not present or is invalid")
    method, automatic = read_instrument(body.get("payment_method"))
    if order_status(bank, order) not in ("ACTIVE", "PAID"):
        raise RefusedError("order_closed", "order is no longer active")
    spec = ChargeSpec(
        reference=order.receipt,
        amount=order.amount,
        currency=order.currency,
        automatic=automatic,
        method=method,
        return_url=order.return_url,
        order=order,
        details=order.details,
    )
    key = request.headers.get("x-idempotency-key")
    scope, fingerprint = key or f"{order.id}/{len(order.charges)}", _fingerprint(request) if key else None
    replayed = bank.remembers(settings.id, "create", scope)
    verdict = bank.create_charge(settings.id, spec, scope, fingerprint)

    def render(charge: Charge) -> Response:
        data: dict[str, object] = {"url": None, "payload": None, "content_type": None, "method": None}
        if charge.state is State.ACTION:
            data["url"] = f"{request.origin}{BASE_PATH}/view/gateway/{charge.id}"
        elif charge.state is State.PENDING and charge.is_intent:
            data["payload"] = upi_links(charge)
        kind = {"wallet": "app"}.get(charge.method["type"], charge.method["type"])
        made = {
            "payment_amount": charge.amount / _HUNDRED,
            "cf_payment_id": charge.id,
            "payment_method": kind,
            "channel": "collect" if charge.method.get("vpa") else "link",
            "action": "link" if charge.state is State.ACTION else "custom",
            "data": data,
        }
        return answer(200, made)

    return _replayed(_reply(settings, verdict, render), replayed=replayed)


def _authorize(
    bank: Bank, settings: ProviderSettings, request: Request, order: Order, charges: list[Charge]
) -> Response:
    body = body_of(request)
    action, amount = body.get("action"), paise(body.get("amount"))
    if action not in ("CAPTURE", "VOID") or (action == "CAPTURE" and amount is None):
        raise InvalidError("payment_amount_invalid", "action : should be CAPTURE with an amount, or VOID")

    def effect(fault: Fault | None) -> Charge:
        held = [charge for charge in charges if not charge.automatic]
        if not held:
            raise RefusedError("invalid_state", "order is not authorized")
        charge = next((charge for charge in held if charge.state is State.AUTHORIZED), held[0])
        return bank.book.capture(charge, amount, fault) if action == "CAPTURE" else _void(bank, charge, fault)

    operation = "capture" if action == "CAPTURE" else "void"
    return _once(
        bank, settings, request, operation, order.id, order.receipt, effect,
        lambda charge: answer(200, payment_entity(charge)),
    )  # fmt: skip


def _void(bank: Bank, charge: Charge, fault: Fault | None) -> Charge:
    if charge.state is State.ACTION:
        raise RefusedError("invalid_state", "order is not authorized")
    return bank.book.void(charge, fault)


def _create_refund(
    bank: Bank, settings: ProviderSettings, request: Request, order: Order, charges: list[Charge]
) -> Response:
    body = body_of(request)
    refund_id, amount = read_refund(body)

    def effect(fault: Fault | None) -> Refund:
        charge = next((charge for charge in charges if charge.state is State.CAPTURED), None)
        if charge is None:
            raise RefusedError("refund_not_allowed", "order is not paid")
        if any(refund.key == refund_id for refund in bank.book.refunds_of(charge)):
            raise RefusedError("refund_exists", "refund with same id is already present")
        if fault is Fault.DECLINE:
            raise RefusedError("refund_declined", "Refunds are not supported for this payment.")
        return bank.book.refund(charge, amount, refund_id, fault, {"note": body.get("refund_note")})

    return _once(
        bank, settings, request, "refund", refund_id, order.receipt, effect,
        lambda refund: answer(200, refund_entity(bank, refund)),
    )  # fmt: skip


def _fetch_refunds(
    bank: Bank, settings: ProviderSettings, order: Order, charges: list[Charge], which: list[str]
) -> Response:
    def find(_fault: object) -> list[Refund]:
        refunds = [refund for charge in charges for refund in bank.book.refunds_of(charge)]
        found = [refund for refund in refunds if not which or which == [refund.key]]
        if which and not found:
            raise RefusedError("refund_not_found", "Refund does not exist")
        return found

    verdict = bank.perform(settings.id, "fetch_refund", "/".join([order.id, *which]), find, reference=order.receipt)

    def render(refunds: list[Refund]) -> Response:
        shown = [refund_entity(bank, refund) for refund in refunds]
        return answer(200, shown[0] if which else shown)

    return _reply(settings, verdict, render)


def _recon(bank: Bank, settings: ProviderSettings, request: Request) -> Response:
    days, limit, begin = read_recon(body_of(request))

    def find(_fault: object) -> list[Settled]:
        return [line for day in days for line in bank.book.settlements(settings.id, day)]

    verdict = bank.perform(settings.id, "fetch", f"recon/{days}/{begin}", find)

    def render(lines: list[Settled]) -> Response:
        following = cursor_at(begin + limit) if begin + limit < len(lines) else None
        shown = [recon_row(line) for line in lines[begin : begin + limit]]
        return answer(200, {"cursor": following, "limit": limit, "data": shown})

    return _reply(settings, verdict, render)


def _checkout(bank: Bank, settings: ProviderSettings, request: Request) -> Response:
    """The page that the browser SDK opens, by posting the session to it."""
    session = request.form.get("payment_session_id") or request.query.get("payment_session_id")
    order = _by_session(bank, settings, session)
    if order is None:
        return page(404, pages.message("Sandbox bank", "There is no such session."))
    if order_status(bank, order) != "ACTIVE":
        return page(409, pages.message("Sandbox bank", "This order can no longer be paid."))
    hidden = {"payment_session_id": session_of(order)}
    return hosted.serve_order(bank, settings, request, order, _back, method={"type": "card"}, hidden=hidden)


def _back(charge: Charge) -> Response:
    """The browser goes back to the shop with nothing but the order's id."""
    if charge.return_url is None:
        return hosted.farewell(charge)
    return redirect(charge.return_url.replace("{order_id}", charge.reference))


def _order(bank: Bank, settings: ProviderSettings, order_id: str) -> Order:
    found = bank.book.receipts.get((settings.id, order_id))
    if not found:
        raise RefusedError("not_found", "Order Reference Id does not exist")
    return found[0]


def _by_session(bank: Bank, settings: ProviderSettings, session: object) -> Order | None:
    order = bank.book.orders.get(f"order_{str(session).removeprefix('session_')}")
    return order if order is not None and order.provider == settings.id else None


def _fingerprint(request: Request) -> str:
    return f"{request.path}\n{json.dumps(json.loads(request.body or b'{}'), sort_keys=True)}"


def _once(
    bank: Bank, settings: ProviderSettings, request: Request, operation: str, name: str, reference: str,
    effect: Callable[[Fault | None], T], render: Callable[[T], Response],
) -> Response:  # fmt: skip
    """Perform an effect: with an idempotency key once, and the first answer's object for every repeat."""
    key = request.headers.get("x-idempotency-key")
    scope = key or name
    replayed = key is not None and bank.remembers(settings.id, operation, scope)
    verdict = bank.perform(
        settings.id, operation, scope, effect, reference=reference,
        fingerprint=_fingerprint(request) if key else None,
        chance=bank.rated(settings.id, operation, scope) if operation != "order" else None,
    )  # fmt: skip
    return _replayed(_reply(settings, verdict, render), replayed=replayed)


def _replayed(response: Response, *, replayed: bool) -> Response:
    return replace(response, headers={**response.headers, "x-idempotency-replayed": str(replayed).lower()})


def _reply(settings: ProviderSettings, verdict: Verdict[T], render: Callable[[T], Response]) -> Response:
    return reply(settings, verdict, render, _refuse, fail)


def _refuse(refusal: RefusedError) -> Response:
    status, code = _REFUSALS.get(refusal.reason, (400, "request_failed"))
    return _error(status, code, refusal.description)


def fail(status: int) -> Response:
    """A 429 or 5xx."""
    if status == _TOO_MANY:
        limited = _error(status, "request_failed", "Too many requests from IP. Check headers")
        return replace(limited, headers={**limited.headers, OWN_HEADER: "1"})
    return _error(status, "internal_error", "internal Server Error")


def _error(status: int, code: str, message: str) -> Response:
    kind = _TYPES.get(min(status, _SERVER_ERROR), "invalid_request_error")
    return answer(status, {"message": message, "code": code, "type": kind})
