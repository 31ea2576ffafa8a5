"""The page a provider hosts for the customer, the same behind every wire format but for the way back.

    GET            the question: approve, decline, cancel, or let it time out
    POST choice    what the customer chose; a card is asked for 3-D Secure first
                   ``instrument`` may name another card, UPI id or bank code, with the outcome it asks for

``serve`` is for a charge that exists and waits; ``serve_order`` for an order whose charge is made by
what the customer does on the page. ``back`` takes the browser to the shop when the charge has an end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from infra.sandbox import pages
from infra.sandbox.records import ChargeSpec, RefusedError, State
from infra.sandbox.wire import page

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from infra.sandbox.bank import Bank
    from infra.sandbox.config import ProviderSettings
    from infra.sandbox.records import Charge, Order
    from infra.sandbox.wire import Request, Response

_NOT_FOUND, _CONFLICT = 404, 409
_CARD_DIGITS = range(12, 20)


class _Asked(NamedTuple):
    """What the question is about."""

    amount: int
    currency: str
    reference: str
    action: str
    method: str | None  # the kind of instrument chosen in the shop, if one was


def instrument_of(text: str) -> dict[str, str]:
    """A card number, UPI id or bank code as a method; empty for nothing typed in."""
    typed = text.strip().replace(" ", "")
    if not typed:
        return {}
    if "@" in typed:
        return {"type": "upi", "vpa": typed}
    if typed.isdigit() and len(typed) in _CARD_DIGITS:
        return {"type": "card", "number": typed}
    return {"type": "netbanking", "bank": typed.upper()}


def serve(
    bank: Bank, settings: ProviderSettings, request: Request, charge_id: str, back: Callable[[Charge], Response],
    action: str | None = None,
) -> Response:  # fmt: skip
    """The page of a charge; ``action`` is where its form goes, this path unless given."""
    try:
        charge = bank.book.charge(settings.id, charge_id)
        if request.method != "POST" and charge.state is not State.ACTION:
            return page(200, pages.message("Sandbox bank", f"This payment is {charge.truth}."))
        method = charge.method.get("type")
        asked = _Asked(charge.amount, charge.currency, charge.reference, action or request.path, method)
        shown = _ask(asked, request)
        if shown is not None:
            return shown
        instrument = instrument_of(request.form.get("instrument", "")) or charge.method
        return back(bank.book.decide(settings.id, charge_id, request.form.get("choice", "decline"), instrument))
    except RefusedError as refusal:
        return _refused(refusal)


def serve_order(
    bank: Bank, settings: ProviderSettings, request: Request, order: Order, back: Callable[[Charge], Response],
    *, method: Mapping[str, str] | None = None, hidden: Mapping[str, str] | None = None,
) -> Response:  # fmt: skip
    """The page of an order; ``hidden`` comes back with the form, for pages that were opened by one."""
    try:
        if order.closed:
            return page(_CONFLICT, pages.message("Sandbox bank", "This order has been closed."))
        kind = (method or {}).get("type")
        asked = _Asked(order.amount, order.currency, order.receipt, request.path, kind)
        shown = _ask(asked, request, hidden)
        if shown is not None:
            return shown
        instrument = instrument_of(request.form.get("instrument", "")) or dict(method or {"type": "upi"})
        public = {name: value for name, value in instrument.items() if name != "number"}
        spec = ChargeSpec(
            reference=order.receipt,
            amount=order.amount,
            currency=order.currency,
            automatic=order.automatic,
            method=public,
            return_url=order.return_url,
            order=order,
            details=order.details,
        )
        charge = bank.book.create_charge(settings, spec, f"{order.id}/{len(order.charges)}", page=True)
        return back(bank.book.decide(settings.id, charge.id, request.form.get("choice", "decline"), instrument))
    except RefusedError as refusal:
        return _refused(refusal)


def _ask(asked: _Asked, request: Request, hidden: Mapping[str, str] | None = None) -> Response | None:
    """The next question, or None once everything has been answered."""
    facts = (asked.amount, asked.currency, asked.reference, asked.action)
    form = request.form if request.method == "POST" else {}
    choice = form.get("choice")
    if choice is None:
        return page(200, pages.choose(*facts, hidden))
    if choice == "wait":
        return page(200, pages.message("Sandbox bank", "Nothing happens. In a while the payment times out."))
    typed = form.get("instrument", "")
    kind = instrument_of(typed).get("type", asked.method)
    if kind == "card" and choice == "approve" and form.get("step") != pages.SECURED:
        return page(200, pages.secure(*facts, {**(hidden or {}), "instrument": typed}))
    return None


def _refused(refusal: RefusedError) -> Response:
    status = _NOT_FOUND if refusal.reason == "not_found" else _CONFLICT
    return page(status, pages.message("Sandbox bank", refusal.description))


def farewell(charge: Charge) -> Response:
    """What the customer sees when the shop gave no address to return to."""
    return page(200, pages.message("Sandbox bank", f"The payment is {charge.truth}. You may close this page."))
