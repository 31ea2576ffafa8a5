"""What Stripe is asked: nested forms, their checks, and the payment methods that they name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

from infra.sandbox.records import ChargeSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from infra.sandbox.wire import Request

_MIN_AMOUNT, _MAX_AMOUNT, _MAX_METADATA = 50, 99_999_999, 500
_NUMBER = re.compile(r"\d{1,12}", re.ASCII)
_CURRENCIES = frozenset({"inr", "usd", "eur", "gbp", "jpy", "sgd", "aed"})
_CREATE = frozenset(
    {
        "amount", "currency", "capture_method", "confirm", "description", "expand", "metadata", "payment_method",
        "payment_method_data", "payment_method_types", "return_url",
    }
)  # fmt: skip
# docs.stripe.com/testing: the payment methods for code and the numbers that they stand for.
_PAYMENT_METHODS = {
    "pm_card_visa": "4242424242424242",
    "pm_card_mastercard": "5555555555554444",
    "pm_card_amex": "378282246310005",
    "pm_card_discover": "6011111111111117",
    "pm_card_diners": "3056930009020004",
    "pm_card_jcb": "3566002020360505",
    "pm_card_unionpay": "6200000000000005",
    "pm_card_visa_chargeDeclined": "4000000000000002",
    "pm_card_visa_chargeDeclinedInsufficientFunds": "4000000000009995",
    "pm_card_chargeDeclinedExpiredCard": "4000000000000069",
    "pm_card_chargeDeclinedIncorrectCvc": "4000000000000127",
    "pm_card_chargeDeclinedProcessingError": "4000000000000119",
    "pm_card_chargeCustomerFail": "4000000000000341",
    "pm_card_radarBlock": "4100000000000019",
    "pm_card_authenticationRequired": "4000002760003184",
    "pm_card_authenticationRequiredOnSetup": "4000002500003155",
}


class BadRequestError(Exception):
    """A parameter is wrong."""

    def __init__(self, code: str | None, message: str, param: str | None = None) -> None:
        """``code`` is Stripe's, where it has one."""
        super().__init__(message)
        self.code = code
        self.param = param


class Form:
    """A form or query with names like ``metadata[reference]`` and ``expand[]``, as a tree of texts."""

    def __init__(self, text: str) -> None:
        """Raises BadRequestError for a name that is a text and a section at once."""
        self._tree: dict[str, object] = {}
        for name, value in parse_qsl(text, keep_blank_values=True):
            *path, last = name.replace("]", "").split("[")
            node = self._tree
            for part in path:
                child = node.setdefault(part, {})
                if not isinstance(child, dict):
                    raise BadRequestError("parameter_invalid_string", f"Invalid {name}.", name)
                node = child
            node[last or str(len(node))] = value

    def known(self, *names: str) -> None:
        """Stripe takes nothing that it does not know."""
        for name in self._tree.keys() - {*names}:
            raise BadRequestError("parameter_unknown", f"Received unknown parameter: {name}", name)

    def text(self, *names: str) -> str | None:
        """A text that is not empty, however deep."""
        node: object = self._tree
        for name in names:
            node = node.get(name) if isinstance(node, dict) else None
        return node if isinstance(node, str) and node else None

    def section(self, name: str) -> dict[str, str]:
        """The texts in a section."""
        value = self._tree.get(name)
        return {k: v for k, v in value.items() if isinstance(v, str)} if isinstance(value, dict) else {}

    def number(self, *names: str) -> int | None:
        """A whole number, not negative, if it is given."""
        value = self.text(*names)
        if value is not None and not _NUMBER.fullmatch(value):
            raise BadRequestError("parameter_invalid_integer", f"Invalid integer: {names[-1]}", names[-1])
        return None if value is None else int(value)

    def amount(self, name: str) -> int | None:
        """A positive whole number, if it is given."""
        value = self.number(name)
        if value == 0:
            raise BadRequestError("parameter_invalid_integer", f"Invalid positive integer: {name}", name)
        return value

    def metadata(self) -> dict[str, str]:
        """The caller's own data."""
        metadata = self.section("metadata")
        if any(len(value) > _MAX_METADATA for value in metadata.values()):
            message = f"Metadata values can have up to {_MAX_METADATA} characters."
            raise BadRequestError("parameter_invalid_string", message, "metadata")
        return metadata


def form_of(request: Request) -> Form:
    """The parameters: a POST's body, a GET's query."""
    text = request.body.decode("utf-8", "replace") if request.method == "POST" else urlsplit(request.target).query
    return Form(text)


@dataclass(frozen=True, slots=True)
class Instrument:
    """What an intent is paid with: the PaymentMethod's id, made up for one that came as data, and the bank's method."""

    id: str
    method: dict[str, str]


def instrument_of(form: Form, types: Sequence[str]) -> Instrument | None:
    """One of Stripe's test cards, or UPI with the customer's id or without; raises BadRequestError."""
    name = form.text("payment_method")
    if name is not None:
        if name not in _PAYMENT_METHODS:
            raise BadRequestError("resource_missing", f"No such PaymentMethod: '{name}'", "payment_method")
        number = _PAYMENT_METHODS[name]
        found = Instrument(name, {"type": "card", "bin": number[:6], "last4": number[-4:]})
    elif form.text("payment_method_data", "type") == "upi":
        vpa = form.text("payment_method_data", "upi", "vpa")
        found = Instrument("pm_upi", {"type": "upi", "vpa": vpa} if vpa else {"type": "upi"})
    else:
        return None
    if found.method["type"] not in types:
        message = "The payment method is not among payment_method_types."
        raise BadRequestError("payment_intent_invalid_parameter", message, "payment_method_types")
    return found


def missing_method() -> BadRequestError:
    """Nothing can be confirmed without something to pay with."""
    message = "You cannot confirm this PaymentIntent because it's missing a payment method."
    return BadRequestError("payment_intent_unexpected_state", message)


def new_intent(form: Form) -> ChargeSpec:
    """The intent as asked for; ``details`` say whether it is confirmed. Raises BadRequestError."""
    form.known(*_CREATE)
    amount, currency = _money(form)
    capture = form.text("capture_method") or "automatic_async"
    types = list(form.section("payment_method_types").values()) or ["card"]
    if capture not in ("automatic", "automatic_async", "manual"):
        raise BadRequestError("parameter_invalid_string", "Invalid capture_method.", "capture_method")
    if "upi" in types and (currency != "inr" or capture == "manual"):
        message = "UPI takes INR, and is captured at once."
        raise BadRequestError("payment_intent_invalid_parameter", message, "payment_method_types")
    confirm, instrument = form.text("confirm") == "true", instrument_of(form, types)
    if confirm and instrument is None:
        raise missing_method()
    if form.text("return_url") and not confirm:
        raise BadRequestError(None, "return_url can only be used with confirm=true.", "return_url")
    metadata = form.metadata()
    return ChargeSpec(
        reference=metadata.get("reference", ""),
        amount=amount,
        currency=currency.upper(),
        automatic=capture != "manual",
        method=instrument.method if instrument else {"type": types[0]},
        return_url=form.text("return_url"),
        details={
            "metadata": metadata,
            "description": form.text("description"),
            "capture_method": capture,
            "types": types,
            "payment_method": instrument.id if instrument else None,
            "confirmed": confirm,
        },
    )


def _money(form: Form) -> tuple[int, str]:
    amount, currency = form.amount("amount"), (form.text("currency") or "").lower()
    if amount is None or not currency:
        name = "currency" if amount else "amount"
        raise BadRequestError("parameter_missing", f"Missing required param: {name}.", name)
    if currency not in _CURRENCIES:
        raise BadRequestError(None, f"Invalid currency: {currency}.", "currency")
    if amount < _MIN_AMOUNT:
        raise BadRequestError("amount_too_small", f"The amount must be at least {_MIN_AMOUNT}.", "amount")
    if amount > _MAX_AMOUNT:
        raise BadRequestError("amount_too_large", f"The amount must be no more than {_MAX_AMOUNT}.", "amount")
    return amount, currency
