"""Stripe's answers made by hand, for tests of what the adapter makes of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

from chalicelib.providers.base import Account, ChargeRef
from chalicelib.providers.http import HttpAnswer
from chalicelib.providers.stripe import StripeProvider
from tests.contract.sandbox_world import AMOUNT, NOW, intent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chalicelib.domain.outcome import ChargeOutcome
    from chalicelib.providers.base import ChargeIntent

Said = tuple[int, object] | tuple[int, object, Mapping[str, str]] | Exception

BASE = "https://api.stripe.com/v1"
ACCOUNT = Account("acct", "stripe", BASE, {"secret_key": "sk_test_k", "publishable_key": "pk_test_k"}, ["whsec_w"])
LIVE = Account("acct", "stripe", BASE, {"secret_key": "sk_live_k", "publishable_key": "pk_live_k"}, ["whsec_w"])
MADE = intent()
INTENT = "pi_1"
GET_INTENT = f"GET /payment_intents/{INTENT}"
REPLAYED = {"idempotent-replayed": "true"}
CREATE = "POST /payment_intents"
SEARCH = "GET /payment_intents/search"
LIST = "GET /payment_intents"
KEY = "rf_01K0000000000000000000KEY1"
KNOWN = ChargeRef(MADE.reference, INTENT, AMOUNT, "INR", MADE.method, {}, NOW)


@dataclass(frozen=True)
class Asked:
    """One request, taken apart."""

    what: str  # method and path, without the query
    query: Mapping[str, str]
    headers: Mapping[str, str]
    form: Mapping[str, str]


class Script:
    """Answers by method and path, one after the other; a missing one fails the test."""

    def __init__(self, answers: Mapping[str, Sequence[Said]]) -> None:
        self._answers = {what: list(said) for what, said in answers.items()}
        self.requests: list[Asked] = []

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None = None,
        read_timeout: float | None = None,
    ) -> HttpAnswer:
        parts = urlsplit(url.removeprefix(BASE))
        what = f"{method} {parts.path}"
        query, form = (dict(parse_qsl(text, keep_blank_values=True)) for text in (parts.query, (body or b"").decode()))
        self.requests.append(Asked(what, query, headers, form))
        answer = self._answers[what].pop(0)
        if isinstance(answer, Exception):
            raise answer
        status, value, *more = answer
        raw = value if isinstance(value, bytes) else json.dumps(value).encode()
        sent: Mapping[str, str] = more[0] if more else {}
        return HttpAnswer(status, sent, raw)


def provider(script: Script) -> StripeProvider:
    """The adapter in front of a script."""
    return StripeProvider(script)


def card(bin_: str = "424242", last4: str = "4242", network: str = "visa") -> ChargeIntent:
    """A payment with that card's token."""
    return intent(method={"type": "card", "bin": bin_, "last4": last4, "network": network})


def intent_of(status: str, **more: object) -> dict[str, object]:
    """A PaymentIntent of ours."""
    return {
        "id": INTENT,
        "object": "payment_intent",
        "amount": AMOUNT,
        "amount_received": 0,
        "currency": "inr",
        "client_secret": f"{INTENT}_secret_1",
        "last_payment_error": None,
        "latest_charge": None,
        "metadata": {"reference": MADE.reference, "payment_id": MADE.payment_id},
        "next_action": None,
        "status": status,
        **more,
    }


def refund_of(status: str, **more: object) -> dict[str, object]:
    """A refund of ours."""
    return {
        "id": "re_1",
        "object": "refund",
        "amount": 500,
        "currency": "inr",
        "payment_intent": INTENT,
        "metadata": {"refund_id": KEY, "reference": MADE.reference},
        "status": status,
        **more,
    }


def error(**more: object) -> dict[str, dict[str, object]]:
    """An error in Stripe's envelope."""
    return {"error": {"type": "invalid_request_error", "message": "…", **more}}


def rows(*entities: Mapping[str, object], more: bool = False) -> tuple[int, object]:
    """A page of a list."""
    return 200, {"object": "list", "data": list(entities), "has_more": more, "url": "/v1/…"}


def declined(**more: object) -> tuple[int, object]:
    """A declined confirmation, with the intent that it left."""
    body = error(type="card_error", **more)
    left = intent_of("requires_payment_method", last_payment_error=dict(body["error"]))
    return 402, {"error": {**body["error"], "payment_intent": left}}


def create(
    *said: Said, made: ChargeIntent = MADE, account: Account = ACCOUNT, then: Mapping[str, Said] | None = None
) -> tuple[ChargeOutcome, Script]:
    """What becomes of a create that is answered so, and of the look-ups that follow."""
    script = Script({CREATE: said, **{what: [answer] for what, answer in (then or {}).items()}})
    return provider(script).create(account, made), script


PAID = intent_of("succeeded", amount_received=AMOUNT)
