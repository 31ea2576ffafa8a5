"""What Stripe tells when it is asked: one object, lists, search, the balance."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from infra.sandbox.records import RefusedError
from infra.sandbox.stripe_answers import page, reply, shown
from infra.sandbox.stripe_entities import balance_transaction, charge_object, intent_object, refund_object
from infra.sandbox.stripe_forms import BadRequestError, Form, form_of

if TYPE_CHECKING:
    from infra.sandbox.bank import Bank
    from infra.sandbox.config import ProviderSettings
    from infra.sandbox.records import Charge
    from infra.sandbox.wire import Request, Response

_MAX_FOUND = 100
_SEARCH = re.compile(r"""metadata\[(['"])reference\1\]\s*:\s*(['"])((?:[^'"\\]|\\.)*)\2""")


def charge_id(name: str) -> str:
    """The bank's id of what an intent or its charge is called by."""
    return f"ch_{name.removeprefix('pi_').removeprefix('ch_')}"


def look_up(bank: Bank, settings: ProviderSettings, request: Request, what: list[str]) -> Response:
    """Answer a GET; raises RefusedError and BadRequestError."""
    match what:
        case ["payment_intents"]:
            return _intents(bank, settings, request)
        case ["payment_intents", "search"]:
            return _search(bank, settings, request)
        case ["payment_intents" | "charges" as kind, name]:
            return _one(bank, settings, request, bank.book.charge(settings.id, charge_id(name)), kind)
        case ["refunds"]:
            return _refunds(bank, settings, request)
        case ["refunds", name]:
            refund = bank.book.refund_by_id(settings.id, f"rfnd_{name.removeprefix('re_')}")
            reference = bank.book.charges[refund.charge_id].reference
            verdict = bank.perform(settings.id, "fetch_refund", name, lambda _fault: refund, reference=reference)
            return reply(settings, verdict, lambda record: shown(bank, request, refund_object(record)))
        case ["balance_transactions"]:
            return _balance(bank, settings, request)
    raise RefusedError("not_found", f"Unrecognized request URL (GET: {request.path}).")


def _one(bank: Bank, settings: ProviderSettings, request: Request, charge: Charge, kind: str) -> Response:
    verdict = bank.perform(settings.id, "fetch", charge.id, lambda _fault: charge, reference=charge.reference)

    def render(record: Charge) -> Response:
        is_charge = kind == "charges"
        entity = charge_object(bank, record) if is_charge else intent_object(bank, record, request.origin)
        return shown(bank, request, entity)

    return reply(settings, verdict, render)


def _intents(bank: Bank, settings: ProviderSettings, request: Request) -> Response:
    since, until = _bounds(form_of(request))
    mine = [charge for charge in reversed(bank.book.charges.values()) if charge.provider == settings.id]
    charges = [charge for charge in mine if since <= int(charge.created_at) < until]
    verdict = bank.perform(settings.id, "fetch", request.target, lambda _fault: charges)
    return reply(
        settings,
        verdict,
        lambda found: page(bank, request, [intent_object(bank, charge, request.origin) for charge in found]),
    )


def _search(bank: Bank, settings: ProviderSettings, request: Request) -> Response:
    """Search, which at Stripe itself is a minute late: there nothing may rest on what it does not show."""
    asked = _SEARCH.fullmatch((form_of(request).text("query") or "").strip())
    if asked is None:
        raise BadRequestError("parameter_invalid_string", "The sandbox searches metadata['reference'] only.", "query")
    reference = re.sub(r"\\(.)", r"\1", asked[3])
    charges = list(reversed(bank.book.charges_of(settings.id, reference)))
    verdict = bank.perform(settings.id, "fetch", request.target, lambda _fault: charges, reference=reference)

    def render(found: list[Charge]) -> Response:
        data = [intent_object(bank, charge, request.origin) for charge in found[:_MAX_FOUND]]
        result = {"object": "search_result", "url": request.path, "has_more": False, "next_page": None, "data": data}
        return shown(bank, request, result)

    return reply(settings, verdict, render)


def _refunds(bank: Bank, settings: ProviderSettings, request: Request) -> Response:
    form = form_of(request)
    name, reference = form.text("payment_intent") or form.text("charge"), ""
    if name is None:
        refunds = [refund for refund in reversed(bank.book.refunds.values()) if refund.provider == settings.id]
    else:
        charge = bank.book.charge(settings.id, charge_id(name))
        refunds, reference = bank.book.refunds_of(charge), charge.reference
    verdict = bank.perform(settings.id, "fetch_refund", request.target, lambda _fault: refunds, reference=reference)
    return reply(settings, verdict, lambda found: page(bank, request, [refund_object(refund) for refund in found]))


def _balance(bank: Bank, settings: ProviderSettings, request: Request) -> Response:
    since, until = _bounds(form_of(request))
    earliest = min((charge.created_at for charge in bank.book.charges.values()), default=bank.timer.now)
    first = datetime.fromtimestamp(min(max(since, earliest), bank.timer.now), UTC).date()
    last = datetime.fromtimestamp(min(until, bank.timer.now), UTC).date()
    days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    lines = [line for day in days for line in bank.book.settlements(settings.id, day, 0.0)]
    found = [balance_transaction(line) for line in reversed(lines) if since <= int(line.at) < until]
    return page(bank, request, found)


def _bounds(form: Form) -> tuple[float, float]:
    """From when to before when, in epoch seconds, by ``created``."""
    gte, gt = form.number("created", "gte"), form.number("created", "gt")
    lt, lte = form.number("created", "lt"), form.number("created", "lte")
    since = max(gte or 0, 0 if gt is None else gt + 1)
    return since, min(math.inf if lt is None else lt, math.inf if lte is None else lte + 1)
