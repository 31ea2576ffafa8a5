"""How Stripe answers: objects with what was to be expanded, pages of lists, errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from infra.sandbox.records import State
from infra.sandbox.replies import TOO_MANY
from infra.sandbox.replies import reply as reply_with
from infra.sandbox.stripe_entities import charge_object, failure, intent_object, refund_object
from infra.sandbox.stripe_forms import BadRequestError, form_of
from infra.sandbox.wire import answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from infra.sandbox.bank import Bank, Verdict
    from infra.sandbox.config import ProviderSettings
    from infra.sandbox.records import Charge, RefusedError
    from infra.sandbox.wire import Request, Response

T = TypeVar("T")
_DEFAULT_LIMIT, _MAX_LIMIT = 10, 100
# The bank's reasons as HTTP status, type and code.
_REFUSALS: dict[str, tuple[int, str, str | None]] = {
    "amount_exceeds_maximum": (400, "invalid_request_error", "amount_too_large"),
    "input_validation_failed": (400, "invalid_request_error", "amount_too_large"),
    "not_accepted": (400, "invalid_request_error", "payment_method_unactivated"),
    "gateway_technical_error": (402, "card_error", "processing_error"),
    "payment_declined": (402, "card_error", "card_declined"),
    "in_progress": (409, "idempotency_error", "idempotency_key_in_use"),
    "duplicate_request": (400, "idempotency_error", None),
    "already_refunded": (400, "invalid_request_error", "charge_already_refunded"),
    "invalid_state": (400, "invalid_request_error", "payment_intent_unexpected_state"),
    "not_found": (404, "invalid_request_error", "resource_missing"),
}


def reply(settings: ProviderSettings, verdict: Verdict[T], render: Callable[[T], Response]) -> Response:
    """The answer to a request that the bank has judged."""
    return reply_with(settings, verdict, render, refuse, fail)


def tried(bank: Bank, request: Request, charge: Charge) -> Response:
    """The answer to a confirmation: a decline is an error that carries the intent."""
    intent = intent_object(bank, charge, request.origin)
    if charge.state is State.FAILED:
        return answer(402, {"error": {**failure(charge), "payment_intent": intent}})
    return shown(bank, request, intent)


def shown(bank: Bank, request: Request, entity: dict[str, object]) -> Response:
    """The entity, with what ``expand`` asks for in place of ids."""
    for path in form_of(request).section("expand").values():
        _expand(bank, request, entity, path.split("."))
    return answer(200, entity)


def page(bank: Bank, request: Request, rows: list[dict[str, object]]) -> Response:
    """A page of a list; ``limit`` is 10 unless asked for."""
    form = form_of(request)
    limit, after = form.amount("limit") or _DEFAULT_LIMIT, form.text("starting_after")
    if limit > _MAX_LIMIT:
        raise BadRequestError("parameter_invalid_integer", f"The limit is at most {_MAX_LIMIT}.", "limit")
    if after is not None:
        names = [row["id"] for row in rows]
        if after not in names:
            raise BadRequestError("resource_missing", f"No such object: '{after}'", "starting_after")
        rows = rows[names.index(after) + 1 :]
    return shown(
        bank,
        request,
        {"object": "list", "url": request.path, "has_more": len(rows) > limit, "data": rows[:limit]},
    )


def _expand(bank: Bank, request: Request, entity: object, path: list[str]) -> None:
    if isinstance(entity, list):
        for row in entity:
            _expand(bank, request, row, path)
    elif isinstance(entity, dict) and path:
        value = entity.get(path[0])
        if isinstance(value, str):
            entity[path[0]] = value = _object(bank, request, value) or value
        _expand(bank, request, value, path[1:])


def _object(bank: Bank, request: Request, name: str) -> dict[str, object] | None:
    """The object of that id, if it is of a kind that can be expanded."""
    kind, _, suffix = name.partition("_")
    refund, charge = bank.book.refunds.get(f"rfnd_{suffix}"), bank.book.charges.get(f"ch_{suffix}")
    if kind == "re" and refund is not None:
        return refund_object(refund)
    if kind == "ch" and charge is not None:
        return charge_object(bank, charge)
    return intent_object(bank, charge, request.origin) if kind == "pi" and charge is not None else None


def fail(status: int) -> Response:
    """A 429 or 5xx."""
    if status == TOO_MANY:
        return error(status, "invalid_request_error", "rate_limit", "Too many requests hit the API too quickly.")
    return error(status, "api_error", None, "An unknown error occurred.")


def refuse(refusal: RefusedError) -> Response:
    """The bank's refusal."""
    status, kind, code = _REFUSALS.get(refusal.reason, (400, "invalid_request_error", None))
    return error(status, kind, code, refusal.description)


def error(status: int, kind: str, code: str | None, message: str, param: str | None = None) -> Response:
    """An error in Stripe's envelope."""
    body: dict[str, object] = {"type": kind, "message": message}
    if code is not None:
        body |= {"code": code, "doc_url": f"https://stripe.com/docs/error-codes/{code.replace('_', '-')}"}
    if param is not None:
        body["param"] = param
    return answer(status, {"error": body})
