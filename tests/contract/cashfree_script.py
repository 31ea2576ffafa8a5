"""Answers that Cashfree might give, made by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from chalicelib.domain.outcome import Charge, Effect
from chalicelib.providers.base import Account, ChargeRef
from chalicelib.providers.cashfree_wire import TEST
from chalicelib.providers.http import HttpAnswer
from tests.contract.sandbox_world import intent, ref

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SECRET = "cfsk_secret"
ACCOUNT = Account("acct", "cashfree", TEST, {"client_id": "id", "client_secret": SECRET}, [SECRET])
MADE = intent(return_url="https://shop.example/back?order=7#done")
PATH = f"/orders/{MADE.reference}"
KEY = "rf_01K0000000000000000000KEY1"
ORDER: dict[str, object] = {
    "order_id": MADE.reference, "order_amount": 1499.00, "order_currency": "INR", "order_status": "ACTIVE",
    "payment_session_id": "session_1",
}  # fmt: skip
PAYMENT: dict[str, object] = {
    "cf_payment_id": "1453002795", "order_id": MADE.reference, "is_captured": True, "order_amount": 1499.00,
    "order_currency": "INR", "payment_amount": 1499.00, "payment_currency": "INR", "payment_status": "SUCCESS",
    "payment_time": "2026-11-21T10:01:00+05:30",
}  # fmt: skip
REFUND: dict[str, object] = {
    "cf_refund_id": "1553338", "refund_id": KEY, "refund_amount": 500.00, "refund_currency": "INR",
    "refund_status": "SUCCESS",
}  # fmt: skip
Told = tuple[int, object] | Exception


class Script:
    """Answers by method and path, of several the next; an exception is raised, a missing one fails the test."""

    def __init__(self, answers: Mapping[str, Told | Sequence[Told]], base_url: str = TEST) -> None:
        self.answers = {what: list(told) if isinstance(told, list) else [told] for what, told in answers.items()}
        self.base_url = base_url
        self.sent: list[str] = []
        self.bodies: dict[str, dict[str, object]] = {}
        self.headers: dict[str, Mapping[str, str]] = {}

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None = None,
        read_timeout: float | None = None,
    ) -> HttpAnswer:
        what = f"{method} {url.removeprefix(self.base_url)}"
        self.sent.append(what)
        self.bodies[what], self.headers[what] = json.loads(body or b"{}"), headers
        told = self.answers[what]
        answer = told.pop(0) if len(told) > 1 else told[0]
        if isinstance(answer, Exception):
            raise answer
        status, value = answer
        raw = value if isinstance(value, bytes) else json.dumps(value).encode()
        return HttpAnswer(int(str(status)), {}, raw)


def error(code: str, status: int = 400) -> tuple[int, object]:
    return status, {"message": "…", "code": code, "type": "invalid_request_error"}


def known(data: Mapping[str, str] | None = None) -> ChargeRef:
    return replace(ref(MADE), data=data or {})


def charge(outcome: object) -> Charge:
    assert isinstance(outcome, Charge), outcome
    return outcome


def effect(outcome: object) -> Effect:
    assert isinstance(outcome, Effect), outcome
    return outcome


def some(status: str, minute: int, **more: object) -> dict[str, object]:
    name = {"cf_payment_id": f"{status}{minute}", "payment_time": f"2026-11-21T10:{minute:02d}:00+05:30"}
    return {**PAYMENT, "payment_status": status, **name, **more}
