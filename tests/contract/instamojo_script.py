"""Instamojo's answers made by hand, and a customer at the bank's Instamojo."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode, urlsplit

from chalicelib.domain.ids import short_reference
from chalicelib.domain.outcome import Charge
from chalicelib.providers.base import Account, ChargeRef
from chalicelib.providers.http import HttpAnswer
from chalicelib.providers.instamojo import InstamojoProvider
from infra.sandbox.wire import Request
from tests.contract.sandbox_world import AMOUNT, NOW, World, intent, ref

if TYPE_CHECKING:
    from chalicelib.domain.outcome import ChargeLookup, ChargeOutcome, Effect, NotSent, Unknown
    from chalicelib.providers.base import ChargeIntent
    from infra.sandbox.wire import Response

SALT = "im_private_salt"
ACCOUNT = Account(
    "acct",
    "instamojo",
    "https://test.instamojo.com/api/1.1",
    {"api_key": "test_k", "auth_token": "test_t", "salt": SALT},
    [SALT],
)
MADE = intent()
PURPOSE = short_reference(MADE.reference)
ID = "d66cb29dd059482e8072999f995c4eef"
REQUEST = {
    "id": ID,
    "phone": "+919800000000",
    "email": "asha@example.com",
    "buyer_name": "Asha",
    "amount": "1499.00",
    "purpose": PURPOSE,
    "expires_at": None,
    "status": "Pending",
    "shorturl": None,
    "longurl": f"https://test.instamojo.com/@demo/{ID}",
    "created_at": "2026-11-21T04:30:00.123Z",
}
PAYMENT = {
    "payment_id": "MOJO6b21005A99887766",
    "status": "Credit",
    "currency": "INR",
    "amount": "1499.00",
    "fees": "44.22",
    "failure": None,
    "payout": None,
    "created_at": "2026-11-21T04:31:00.000Z",
}
REFUND = {
    "id": "C5c0751269",
    "payment_id": PAYMENT["payment_id"],
    "status": "Refunded",
    "type": "PTH",
    "body": "Refund by the merchant (rf_01K0000000000000000000KEY1)",
    "refund_amount": "500.00",
    "total_amount": "1499.00",
    "created_at": "2026-11-21T05:00:00.000Z",
}
KEY, OTHER_KEY = "rf_01K0000000000000000000KEY1", "op_01K0000000000000000000KEY2"
KNOWN = ChargeRef(MADE.reference, None, AMOUNT, "INR", MADE.method, {"request_id": ID}, NOW)
PAID = replace(KNOWN, provider_reference=PAYMENT["payment_id"])
POST = "POST /payment-requests/"
GET = f"GET /payment-requests/{ID}/"
LISTED = "GET /payment-requests/"
DISABLE = f"POST /payment-requests/{ID}/disable/"
REFUNDS, REFUND_POST = "GET /refunds/", "POST /refunds/"
NONE = (404, {"success": False, "message": "Not found."})

Said = tuple[int, object] | Exception
Answers = Mapping[str, Said | list[Said]]


class Script:
    """Answers by method and path, a list of them one page or call after another; a missing one fails the test."""

    def __init__(self, answers: Answers) -> None:
        self.answers = answers
        self.sent: list[str] = []
        self.forms: list[dict[str, str]] = []
        self.headers: Mapping[str, str] = {}
        self.queries: list[dict[str, str]] = []

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None = None,
        read_timeout: float | None = None,
    ) -> HttpAnswer:
        parts = urlsplit(url.removeprefix(ACCOUNT.base_url))
        what = f"{method} {parts.path}"
        known = self.answers[what]
        answer = known[min(self.sent.count(what), len(known) - 1)] if isinstance(known, list) else known
        self.sent.append(what)
        self.queries.append(dict(parse_qsl(parts.query)))
        self.headers = headers
        if body is not None:
            self.forms.append(dict(parse_qsl(body.decode(), keep_blank_values=True)))
        if isinstance(answer, Exception):
            raise answer
        status, value = answer
        return HttpAnswer(status, {}, value if isinstance(value, bytes) else json.dumps(value).encode())


def good(**entities: object) -> tuple[int, object]:
    return 200, {"success": True, **entities}


def bad(message: object, status: int = 400) -> tuple[int, object]:
    return status, {"success": False, "message": message}


def pages(name: str, *rows: object) -> list[Said]:
    return [good(**{name: list(rows)}), good(**{name: []})]


def request(*payments: object, **changed: object) -> tuple[int, object]:
    return good(payment_request={**REQUEST, "payments": list(payments), **changed})


def create(answer: Said, more: Answers | None = None) -> tuple[ChargeOutcome, Script]:
    listed = pages("payment_requests")
    script = Script({POST: answer, LISTED: listed, **(more or {})})
    return InstamojoProvider(script).create(ACCOUNT, MADE), script


def fetch(answers: Answers, known: ChargeRef = KNOWN) -> tuple[ChargeLookup, Script]:
    script = Script(answers)
    return InstamojoProvider(script).fetch(ACCOUNT, known), script


def refund(
    answers: Mapping[str, Said | list[Said]], known: ChargeRef = PAID, key: str = KEY
) -> tuple[Effect | NotSent | Unknown, Script]:
    script = Script(answers)
    return InstamojoProvider(script).refund(ACCOUNT, known, 50_000, key), script


def charge(said: object) -> Charge:
    assert isinstance(said, Charge), said
    return said


# the bank


def refund_text(key: str) -> dict[str, object]:
    return {"type": "PTH", "body": f"Refund by the merchant ({key})"}


def charge_id(paid: Charge) -> str:
    return f"pay_{str(paid.provider_reference).removeprefix('MOJO')}"


def visit(world: World, said: Charge, **form: str) -> Response:
    """What the customer's browser does at the request's address."""
    parts = urlsplit(str((said.next_action or {})["url"]))
    method = "POST" if form else "GET"
    return world.bank.handle(world.name, Request(method, parts.path, {"host": parts.netloc}, urlencode(form).encode()))


def pay(world: World, made: ChargeIntent = MADE, instrument: str = "") -> Charge:
    said = world.charge(made)
    visit(world, said, choice="approve", instrument=instrument)
    return charge(world.provider.fetch(world.account, ref(made, said)))
