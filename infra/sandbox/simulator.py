"""The simulator's wire format; the adapter's side of it is described in chalicelib/providers/simulator.py."""

from __future__ import annotations

import hashlib
import hmac
import json
from datetime import date
from typing import TYPE_CHECKING, TypeVar

from infra.sandbox import hosted, pages
from infra.sandbox.records import ChargeSpec, Fact, Notice, RefusedError, State
from infra.sandbox.replies import reply
from infra.sandbox.wire import answer, compact, integer, redirect, strings, with_query

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from infra.sandbox.bank import Bank, Verdict
    from infra.sandbox.config import ProviderSettings
    from infra.sandbox.records import Charge, Fault, Refund, Settled
    from infra.sandbox.wire import Request, Response

BASE_PATH = ""
_PAGE = 500  # lines of a settlement report
_METHODS = ("upi", "netbanking", "wallet", "card")
T = TypeVar("T")
_STATUS = {
    State.PENDING: "pending",
    State.ACTION: "requires_action",
    State.AUTHORIZED: "authorized",
    State.CAPTURED: "succeeded",
    State.FAILED: "failed",
    State.VOIDED: "canceled",
}
_EVENTS = {
    Fact.AUTHORIZED: "charge.authorized",
    Fact.CAPTURED: "charge.succeeded",
    Fact.FAILED: "charge.failed",
    Fact.VOIDED: "charge.canceled",
    Fact.RELEASED: "charge.canceled",
    Fact.REFUND_CREATED: "refund.created",
    Fact.REFUNDED: "refund.succeeded",
    Fact.REFUND_FAILED: "refund.failed",
    Fact.REFUND_RETURNED: "refund.returned",
}
_HTTP = {"not_found": 404, "in_progress": 409, "not_accepted": 503}
_SOURCES = {"gateway_technical_error": "gateway", "payment_cancelled": "customer", "authentication_failed": "customer"}


def handle(bank: Bank, settings: ProviderSettings, request: Request) -> Response:
    """Answer one request."""
    parts = request.path.strip("/").split("/")
    if parts[0] == "pay" and len(parts) == len(("pay", "charge")):
        return hosted.serve(bank, settings, request, parts[1], lambda charge: _back(settings, charge))
    wanted = f"Bearer {settings.credentials['api_key']}"
    if not hmac.compare_digest(request.headers.get("authorization", "").encode(), wanted.encode()):
        return _error(401, "UNAUTHORIZED", "unauthorized", "The API key is not known.")
    try:
        return _api(bank, settings, request, parts)
    except ValueError as error:
        return _error(400, "BAD_REQUEST_ERROR", "input_validation_failed", str(error))
    except RefusedError as refusal:
        return _refuse(refusal)


def _api(bank: Bank, settings: ProviderSettings, request: Request, parts: list[str]) -> Response:
    match request.method, parts:
        case "POST", ["v1", "charges"]:
            return _create(bank, settings, request)
        case "GET", ["v1", "charges"]:
            reference = request.query.get("reference", "")
            return _fetch(
                bank, settings, request, lambda: _last(bank.book.charges_of(settings.id, reference)), reference
            )
        case "GET", ["v1", "charges", charge_id]:
            return _fetch(bank, settings, request, lambda: bank.book.charge(settings.id, charge_id), charge_id)
        case "POST", ["v1", "charges", charge_id, "capture" | "void" | "refunds" as action]:
            return _act(bank, settings, request, bank.book.charge(settings.id, charge_id), action)
        case "GET", ["v1", "refunds"]:
            key = request.query.get("key", "")
            return _fetch_refund(bank, settings, lambda: bank.book.refund_by_key(settings.id, key), key)
        case "GET", ["v1", "refunds", refund_id]:
            return _fetch_refund(bank, settings, lambda: bank.book.refund_by_id(settings.id, refund_id), refund_id)
        case "GET", ["v1", "settlements"]:
            return _settlements(bank, settings, request)
    return _error(404, "NOT_FOUND", "not_found", "There is no such resource.")


def _create(bank: Bank, settings: ProviderSettings, request: Request) -> Response:
    body = request.json()
    key = _key(request)
    amount, currency, reference = integer(body.get("amount")), body.get("currency"), body.get("reference")
    method = strings(body.get("method"))
    capture = body.get("capture")
    return_url = body.get("return_url")
    if amount is None or not isinstance(currency, str) or not isinstance(reference, str) or not reference:
        message = "reference, amount and currency are required"
        raise ValueError(message)
    if capture not in ("automatic", "manual") or method.get("type") not in _METHODS:
        message = f"capture is automatic or manual; method.type is one of {', '.join(_METHODS)}"
        raise ValueError(message)
    spec = ChargeSpec(
        reference=reference,
        amount=amount,
        currency=currency,
        automatic=capture == "automatic",
        method=method,
        return_url=return_url if isinstance(return_url, str) else None,
    )
    verdict = bank.create_charge(settings.id, spec, key, _fingerprint(request))
    return _reply(settings, verdict, lambda charge: answer(201, charge_object(bank, charge, request.origin)))


def _act(bank: Bank, settings: ProviderSettings, request: Request, charge: Charge, action: str) -> Response:
    body = request.json()
    key = _key(request)
    amount = integer(body.get("amount"))
    if action != "void" and amount is None:
        message = "amount is required"
        raise ValueError(message)
    operation = "refund" if action == "refunds" else action
    chance = bank.rated(settings.id, operation, key)
    fingerprint = _fingerprint(request)
    if operation == "refund":
        refunded = bank.perform(
            settings.id,
            operation,
            key,
            lambda fault: bank.book.refund(charge, amount, key, fault),
            reference=charge.reference,
            fingerprint=fingerprint,
            chance=chance,
        )
        return _reply(settings, refunded, lambda refund: answer(201, refund_object(refund)))

    def effect(fault: Fault | None) -> Charge:
        return bank.book.void(charge, fault) if action == "void" else bank.book.capture(charge, amount, fault)

    changed = bank.perform(
        settings.id, operation, key, effect, reference=charge.reference, fingerprint=fingerprint, chance=chance
    )
    return _reply(settings, changed, lambda record: answer(200, charge_object(bank, record, request.origin)))


def _fetch(bank: Bank, settings: ProviderSettings, request: Request, find: Callable[[], Charge], key: str) -> Response:
    reference = bank.book.charges[key].reference if key in bank.book.charges else key
    verdict = bank.perform(settings.id, "fetch", key, lambda _fault: find(), reference=reference)
    return _reply(settings, verdict, lambda charge: answer(200, charge_object(bank, charge, request.origin)))


def _fetch_refund(bank: Bank, settings: ProviderSettings, find: Callable[[], Refund], key: str) -> Response:
    verdict = bank.perform(settings.id, "fetch_refund", key, lambda _fault: find(), reference=key)
    return _reply(settings, verdict, lambda refund: answer(200, refund_object(refund)))


def _settlements(bank: Bank, settings: ProviderSettings, request: Request) -> Response:
    day = date.fromisoformat(request.query.get("day", ""))
    first = (int(request.query.get("page", "1")) - 1) * _PAGE
    settled = bank.book.settlements(settings.id, day)

    def render(lines: list[Settled]) -> Response:
        part = [settlement_line(line) for line in lines[first : first + _PAGE]]
        return answer(200, {"lines": part, "more": len(lines) > first + _PAGE})

    verdict = bank.perform(settings.id, "fetch", request.target, lambda _fault: settled)
    return _reply(settings, verdict, render)


def _reply(settings: ProviderSettings, verdict: Verdict[T], render: Callable[[T], Response]) -> Response:
    return reply(settings, verdict, render, _refuse, fail)


def _last(charges: list[Charge]) -> Charge:
    if not charges:
        raise RefusedError("not_found", "There is no such charge.")
    return charges[-1]


def _key(request: Request) -> str:
    key = request.headers.get("idempotency-key", "")
    if not key:
        message = "Idempotency-Key is required"
        raise ValueError(message)
    return key


def _fingerprint(request: Request) -> str:
    canonical = json.dumps(request.json(), sort_keys=True)
    return hashlib.sha256(f"{request.path}\n{canonical}".encode()).hexdigest()


def _error(status: int, code: str, reason: str, description: str) -> Response:
    return answer(status, {"error": {"code": code, "reason": reason, "description": description}})


def _refuse(refusal: RefusedError) -> Response:
    code = "NOT_ACCEPTED" if refusal.reason == "not_accepted" else "BAD_REQUEST_ERROR"
    return _error(_HTTP.get(refusal.reason, 422), code, refusal.reason, refusal.description)


def _failure(reason: str | None) -> dict[str, str] | None:
    if reason is None:
        return None
    source = _SOURCES.get(reason, "issuer_bank")
    code = "GATEWAY_ERROR" if source == "gateway" else "BAD_REQUEST_ERROR"
    return {"code": code, "reason": reason, "source": source}


def charge_object(bank: Bank, charge: Charge, origin: str | None) -> dict[str, object]:
    """A charge as the API and the webhooks show it."""
    action = _next_action(bank, charge, origin)
    return {
        "id": charge.id,
        "object": "charge",
        "reference": charge.reference,
        "amount": charge.amount + charge.misreport,
        "currency": charge.currency,
        "status": "requires_action" if action else _STATUS[charge.state],
        "captured": charge.captured,
        "refunded": charge.refunded,
        "error": _failure(charge.reason) if charge.state is State.FAILED else None,
        "next_action": action,
        "created_at": int(charge.created_at),
    }


def _next_action(bank: Bank, charge: Charge, origin: str | None) -> dict[str, str] | None:
    """What the customer still has to do; a webhook has no address to send them to."""
    if charge.state is State.PENDING and charge.is_intent:
        return {"type": "upi_intent", "uri": pages.upi_link(charge)}
    if charge.state is State.ACTION and origin is not None:
        return {"type": "redirect", "url": f"{origin}{bank.base_path(charge.provider)}/pay/{charge.id}"}
    return None


def refund_object(refund: Refund) -> dict[str, object]:
    """A refund as the API and the webhooks show it."""
    return {
        "id": refund.id,
        "object": "refund",
        "charge": refund.charge_id,
        "key": refund.key,
        "amount": refund.amount + refund.misreport,
        "currency": refund.currency,
        "status": refund.status,
        "error": _failure("bank_technical_error") if refund.status == "failed" else None,
        "created_at": int(refund.created_at),
    }


def settlement_line(line: Settled) -> dict[str, object]:
    """A line of a settlement report."""
    return {
        "charge": line.charge.id,
        "reference": line.charge.reference,
        "refund": line.refund.id if line.refund else None,
        "key": line.refund.key if line.refund else None,
        "amount": line.amount,
        "currency": line.charge.currency,
        "fee": line.fee,
        "tax": line.tax,
        "settlement": line.settlement_id,
        "utr": line.utr,
        "settled_at": int(line.at),
    }


def fail(status: int) -> Response:
    """A 429 or 5xx."""
    return _error(status, "SERVER_ERROR", "server_error", "Try again.")


def events(bank: Bank, fact: Fact, charge: Charge, refund: Refund | None) -> list[Notice]:
    """The webhook that tells of a fact; one for a charge that is captured at once."""
    if fact is Fact.AUTHORIZED and charge.automatic:
        return []
    data: dict[str, object] = {"charge": charge_object(bank, charge, None)}
    if refund is not None:
        data["refund"] = refund_object(refund)
    account = bank.settings[charge.provider].credentials.get("account_id")
    kind = _EVENTS[fact]
    body = {"type": kind, "account_id": account, "created_at": int(bank.timer.now), "data": data}
    return [Notice(kind, compact(body), bank.event_id(kind, charge, refund))]


def sign(secret: str, body: bytes, event_id: str, now: float) -> tuple[bytes, dict[str, str]]:  # noqa: ARG001 - no time is signed
    """A webhook as it is sent."""
    signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return body, {"x-simulator-signature": signature, "x-simulator-event-id": event_id}


def _back(settings: ProviderSettings, charge: Charge) -> Response:
    """The browser carries the signed outcome back to the shop."""
    if charge.return_url is None:
        return hosted.farewell(charge)
    return redirect(with_query(charge.return_url, return_parameters(settings.credentials["api_secret"], charge)))


def return_parameters(secret: str, charge: Charge) -> Mapping[str, str]:
    """What the browser brings back, signed."""
    status = _STATUS[charge.state]
    message = f"{charge.id}|{charge.reference}|{status}".encode()
    signature = hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()
    return {"charge": charge.id, "reference": charge.reference, "status": status, "signature": signature}
