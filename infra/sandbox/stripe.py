"""Stripe's wire format over the bank, in the shapes of Stripe's API reference.

Here is what changes something, and Stripe's idempotency: the first answer to a key is kept, whatever
it was, and given again. Forms, answers, lists and objects are in the modules beside this one.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64encode
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from infra.sandbox import hosted
from infra.sandbox.records import (
    INSTRUMENT_FAULTS,
    MISREPORT,
    OPERATIONS,
    Fault,
    Outcome,
    RefusedError,
    State,
    asked_outcome,
    token,
)
from infra.sandbox.replies import SERVER_ERROR
from infra.sandbox.stripe_answers import error, fail, refuse, reply, shown, tried
from infra.sandbox.stripe_entities import (
    client_secret,
    events,
    intent_id,
    intent_object,
    is_confirmed,
    refund_object,
    sign,
)
from infra.sandbox.stripe_forms import (
    BadRequestError,
    Instrument,
    form_of,
    instrument_of,
    missing_method,
    new_intent,
)
from infra.sandbox.stripe_lists import charge_id, look_up
from infra.sandbox.wire import redirect, with_query

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from infra.sandbox.bank import Bank
    from infra.sandbox.config import ProviderSettings
    from infra.sandbox.records import Charge
    from infra.sandbox.wire import Request, Response

__all__ = ["BASE_PATH", "events", "fail", "handle", "sign"]

BASE_PATH = "/v1"
_MAX_KEY = 255
_UNAUTHORIZED, _BAD_REQUEST = 401, 400
# Refused before anything runs, so that no answer is kept under the key.
_UNSEEN = frozenset({"amount_exceeds_maximum", "not_accepted"})


def handle(bank: Bank, settings: ProviderSettings, request: Request) -> Response:
    """Answer one request."""
    match request.path.strip("/").split("/"):
        case ["redirect", "authenticate", name] | ["upi", "instructions", name]:
            return hosted.serve(bank, settings, request, charge_id(name), lambda charge: _back(bank, charge))
        case ["v1", *what]:
            response = _answer(bank, settings, request, what)
        case _:
            response = refuse(RefusedError("not_found", "Unrecognized request URL."))
    number = token(14, bank.seed, "request", request.target, str(bank.timer.now))
    return replace(response, headers={**response.headers, "request-id": f"req_{number}"})


def _answer(bank: Bank, settings: ProviderSettings, request: Request, what: list[str]) -> Response:
    key = settings.credentials["secret_key"]
    wanted = (f"Bearer {key}".encode(), b"Basic " + b64encode(f"{key}:".encode()))
    given = request.headers.get("authorization", "").encode()
    if not any(hmac.compare_digest(given, pair) for pair in wanted):
        return error(_UNAUTHORIZED, "invalid_request_error", None, "Invalid API Key provided.")
    try:
        return look_up(bank, settings, request, what) if request.method == "GET" else _do(bank, settings, request, what)
    except BadRequestError as wrong:
        return error(_BAD_REQUEST, "invalid_request_error", wrong.code, str(wrong), wrong.param)
    except RefusedError as refusal:
        return refuse(refusal)


def _do(bank: Bank, settings: ProviderSettings, request: Request, what: list[str]) -> Response:
    match request.method, what:
        case "POST", ["payment_intents"]:
            return _create(bank, settings, request)
        case "POST", ["payment_intents", name, "confirm"]:
            return _confirm(bank, settings, request, bank.book.charge(settings.id, charge_id(name)))
        case "POST", ["payment_intents", name, "capture"]:
            return _capture(bank, settings, request, bank.book.charge(settings.id, charge_id(name)))
        case "POST", ["payment_intents", name, "cancel"]:
            return _cancel(bank, settings, request, bank.book.charge(settings.id, charge_id(name)))
        case "POST", ["refunds"]:
            return _refund(bank, settings, request)
    raise RefusedError("not_found", f"Unrecognized request URL ({request.method}: {request.path}).")


def _once(
    bank: Bank,
    settings: ProviderSettings,
    request: Request,
    operation: str,
    reference: str,
    effect: Callable[[Fault | None], Response],
    method: Mapping[str, str] | None = None,
) -> Response:
    """Run ``effect`` unless its key has an answer already; that one is given again, be it a 500.

    ``method`` is the instrument, which may ask for a fault.
    """
    given = request.headers.get("idempotency-key")
    if given is not None and len(given) > _MAX_KEY:
        raise BadRequestError(None, f"Idempotency keys may have up to {_MAX_KEY} characters.")
    if given is not None and any(bank.remembers(settings.id, other, given) for other in OPERATIONS - {operation}):
        message = "Keys for idempotent requests can only be used for the same endpoint they were first used for."
        raise RefusedError("duplicate_request", message)
    canonical = f"{request.path}\n{sorted(parse_qsl(request.body.decode('utf-8', 'replace')))}"
    fingerprint = hashlib.sha256(canonical.encode()).hexdigest()
    key = given or fingerprint
    ran = False

    def first(fault: Fault | None) -> Response:
        nonlocal ran
        ran = True
        try:
            response = effect(fault)
        except RefusedError as refusal:
            if refusal.reason in _UNSEEN:
                raise
            response = refuse(refusal)
        return fail(SERVER_ERROR) if fault is Fault.TECHNICAL_AFTER else response

    asked = asked_outcome(method or {})
    verdict = bank.perform(
        settings.id,
        operation,
        key,
        first,
        reference=reference,
        fingerprint=fingerprint if given else None,
        chance=bank.rated(settings.id, operation, key) if asked is None else INSTRUMENT_FAULTS.get(asked),
    )
    response = reply(settings, verdict, lambda kept: kept)
    if ran or verdict.record is None or verdict.fault is not None:
        return response
    return replace(response, headers={**response.headers, "idempotent-replayed": "true"})


def _create(bank: Bank, settings: ProviderSettings, request: Request) -> Response:
    spec = new_intent(form_of(request))
    confirmed = spec.details["confirmed"] is True

    def effect(fault: Fault | None) -> Response:
        key = request.headers.get("idempotency-key", spec.reference)
        charge = bank.book.create_charge(settings, spec, key, fault, page=not confirmed)
        if not confirmed:
            charge.state = State.PENDING  # nobody has been asked for anything, and nothing runs out
        return tried(bank, request, charge)

    return _once(bank, settings, request, "create", spec.reference, effect, spec.method if confirmed else None)


def _confirm(bank: Bank, settings: ProviderSettings, request: Request, charge: Charge) -> Response:
    """Try to pay an intent that nobody has tried to pay, or that failed."""
    form = form_of(request)
    form.known("payment_method", "payment_method_data", "return_url", "expand")
    types, kept = charge.details.get("types"), charge.details.get("payment_method")
    instrument = instrument_of(form, types if isinstance(types, list) else [])
    if instrument is None and isinstance(kept, str):
        instrument = Instrument(kept, dict(charge.method))
    if instrument is None:
        raise missing_method()

    def effect(_fault: Fault | None) -> Response:
        fresh = charge.state is State.PENDING and not is_confirmed(charge)
        if not fresh and charge.state is not State.FAILED:
            raise RefusedError("invalid_state", f"You cannot confirm this PaymentIntent: it is {charge.state.value}.")
        charge.method, charge.return_url = instrument.method, form.text("return_url") or charge.return_url
        charge.details = {**charge.details, "payment_method": instrument.id, "confirmed": True}
        charge.state = State.ACTION
        if asked_outcome(charge.method) is not Outcome.ACTION:
            bank.book.decide(settings.id, charge.id, "approve", charge.method)
        return tried(bank, request, charge)

    return _once(bank, settings, request, "create", charge.reference, effect, instrument.method)


def _capture(bank: Bank, settings: ProviderSettings, request: Request, charge: Charge) -> Response:
    form = form_of(request)
    form.known("amount_to_capture", "expand")
    amount = form.amount("amount_to_capture")
    return _once(
        bank,
        settings,
        request,
        "capture",
        charge.reference,
        lambda fault: _changed(bank, request, bank.book.capture(charge, amount, fault), fault),
    )


def _cancel(bank: Bank, settings: ProviderSettings, request: Request, charge: Charge) -> Response:
    """Cancel what is not paid, whether or not somebody has tried to."""
    form_of(request).known("cancellation_reason", "expand")

    def effect(fault: Fault | None) -> Response:
        before = charge.state
        if before is State.FAILED or (before is State.PENDING and not is_confirmed(charge)):
            charge.state = State.ACTION  # the book's word for what still can be paid
        try:
            bank.book.void(charge, fault)
        except RefusedError:
            charge.state = before
            raise
        held = before is State.AUTHORIZED
        charge.details = {**charge.details, "canceled_at": int(bank.timer.now), "released": held}
        return _changed(bank, request, charge, fault)

    return _once(bank, settings, request, "void", charge.reference, effect)


def _changed(bank: Bank, request: Request, charge: Charge, fault: Fault | None) -> Response:
    told = replace(charge, misreport=MISREPORT) if fault is Fault.WRONG_AMOUNT else charge
    return shown(bank, request, intent_object(bank, told, request.origin))


def _refund(bank: Bank, settings: ProviderSettings, request: Request) -> Response:
    form = form_of(request)
    form.known("payment_intent", "charge", "amount", "reason", "metadata", "expand")
    name = form.text("payment_intent") or form.text("charge")
    if name is None:
        raise BadRequestError("parameter_missing", "One of charge and payment_intent is required.", "charge")
    charge, amount, metadata = bank.book.charge(settings.id, charge_id(name)), form.amount("amount"), form.metadata()
    details = {"metadata": metadata, "reason": form.text("reason")}

    def effect(fault: Fault | None) -> Response:
        if charge.state is State.CAPTURED and charge.refunded >= charge.captured:
            raise RefusedError("already_refunded", f"Charge {charge.id} has already been refunded.")
        made = bank.book.refund(charge, amount, metadata.get("refund_id"), fault, details)
        return shown(bank, request, refund_object(made))

    return _once(bank, settings, request, "refund", charge.reference, effect)


def _back(bank: Bank, charge: Charge) -> Response:
    """The browser goes back to the shop; nothing that it carries is signed."""
    if charge.return_url is None:
        return hosted.farewell(charge)
    status = {State.CAPTURED: "succeeded", State.AUTHORIZED: "succeeded", State.PENDING: "pending"}
    parameters = {
        "payment_intent": intent_id(charge),
        "payment_intent_client_secret": client_secret(bank, charge),
        "redirect_status": status.get(charge.state, "failed"),
    }
    return redirect(with_query(charge.return_url, parameters))
