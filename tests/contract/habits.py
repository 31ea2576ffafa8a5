"""How a payment comes about at each provider, as data: everything else in the contract is the same for all.

A provider that is not in the table has the simulator's habits, as a copy of the simulator does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from chalicelib.domain.errors import ErrorClass, ErrorCode
from chalicelib.domain.outcome import EffectStatus
from infra.sandbox.records import CARDS

if TYPE_CHECKING:
    from collections.abc import Mapping

KINDS = ("upi", "netbanking", "wallet", "card")
NUMBERS = {outcome.value: number for number, outcome in reversed(CARDS.items())} | {"success": "4242424242424242"}
Verdict = tuple[ErrorClass, ErrorCode]

DECLINES: Mapping[str, Verdict] = {
    "decline": (ErrorClass.DECLINED_ISSUER, ErrorCode.PAYMENT_DECLINED),
    "insufficient_funds": (ErrorClass.DECLINED_ISSUER, ErrorCode.INSUFFICIENT_FUNDS),
    "expired": (ErrorClass.DECLINED_ISSUER, ErrorCode.INSTRUMENT_EXPIRED),
    "authentication": (ErrorClass.DECLINED_CUSTOMER, ErrorCode.AUTHENTICATION_FAILED),
    "risk": (ErrorClass.DECLINED_RISK, ErrorCode.RISK_DECLINED),
    "technical": (ErrorClass.TECHNICAL_DECLINE, ErrorCode.TECHNICAL_FAILURE),
}


@dataclass(frozen=True)
class Habits:
    """What the contract must know about one provider beyond its declared capabilities."""

    page: frozenset[str] = frozenset()  # methods that the customer pays on a page; the others go server to server
    # What create asks of the provider, in order, for a method of either sort; only the last one of ``server`` charges.
    server: tuple[str, ...] = ("create",)
    opens: tuple[str, ...] = ("order",)
    checkout: str = ""  # the path to which the browser posts what a provider_checkout needs
    signature: str = ""  # the webhook's header or, after "form:", field; x-{name}-signature unless given
    tolerance: float | None = None  # how old a webhook's signed time may be, in seconds; None where none is signed
    proof: tuple[str, ...] = ("charge", "status", "signature")  # what of a browser's return must hold
    signs_returns: bool = True
    # What a refund looks like that the customer's bank sent back: most have no word for it but that it failed.
    returned: EffectStatus = EffectStatus.RETURNED
    silent: frozenset[str] = frozenset()  # records.Fact of which this provider sends no webhook
    hints: bool = False  # its webhooks only say where to look: what signs them leaves out what matters, or nothing does
    tells_tax: bool = True  # whether a settlement line tells the tax on the fee apart from the fee
    paid: str = '"succeeded"'  # how an answer says that a charge is paid


_HABITS: Mapping[str, Habits] = {
    "cashfree": Habits(
        page=frozenset({"card"}),
        server=("order", "create"),
        checkout="/pg/view/sessions/checkout",
        signature="x-webhook-signature",
        proof=("order_id",),
        signs_returns=False,
        returned=EffectStatus.FAILED,
        paid='"SUCCESS"',
    ),
    "instamojo": Habits(
        page=frozenset(KINDS),
        opens=("create",),  # nothing but the payment request is made from server to server
        signature="form:mac",
        hints=True,
        proof=("payment_request_id",),
        signs_returns=False,
        returned=EffectStatus.FAILED,
        silent=frozenset({"failed", "refund_created", "refunded", "refund_failed", "refund_returned"}),
        tells_tax=False,
        paid='"Credit"',
    ),
    "payu": Habits(
        page=frozenset(KINDS),
        opens=(),
        signature="form:hash",
        hints=True,
        proof=("txnid", "amount", "status", "key", "hash"),
        returned=EffectStatus.FAILED,
        paid='"captured"',
    ),
    "razorpay": Habits(
        page=frozenset({"card"}),
        server=("order", "create"),
        checkout="/v1/checkout/embedded",
        proof=("razorpay_payment_id", "razorpay_signature"),
        returned=EffectStatus.FAILED,
        paid='"captured"',
    ),
    "stripe": Habits(
        signature="stripe-signature",
        tolerance=300.0,
        proof=("payment_intent",),
        signs_returns=False,
        returned=EffectStatus.FAILED,
    ),
}


def habits_of(name: str) -> Habits:
    """The habits of that provider."""
    return _HABITS.get(name, Habits())


def instrument(kind: str, outcome: str) -> str:
    """What a customer types on a page to get that outcome."""
    if kind == "card":
        return NUMBERS[outcome]
    return f"{outcome}@sim" if kind == "upi" else f"SIM_{outcome.upper()}"


def method_of(kind: str, outcome: str | None) -> dict[str, str]:
    """A payment's method with an instrument that asks for that outcome, or with a plain one."""
    if kind == "upi":
        return {"type": "upi", "flow": "collect", "vpa": f"{outcome}@sim" if outcome else "asha@okbank"}
    if kind == "card":
        number = NUMBERS[outcome or "success"]
        return {
            "type": "card", "token": "tok_01K0000000000000000000CARD", "network": "visa", "bin": number[:6],
            "last4": number[-4:],
        }  # fmt: skip
    field_name = "bank" if kind == "netbanking" else "wallet"
    return {"type": kind, field_name: f"SIM_{outcome.upper()}" if outcome else "HDFC"}
