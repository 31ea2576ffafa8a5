"""Answers of the simulator that its bank never gives: statuses and errors nobody knows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from chalicelib.domain.errors import ErrorClass
from chalicelib.domain.outcome import Charge, ChargeStatus, Effect, EffectStatus, NotSent, Unknown
from chalicelib.providers.base import Account
from chalicelib.providers.http import HttpAnswer
from chalicelib.providers.signatures import digest, sign
from chalicelib.providers.simulator import SimulatorProvider
from tests.contract.sandbox_world import AMOUNT, NOW, intent, ref

if TYPE_CHECKING:
    from collections.abc import Mapping

ACCOUNT = Account("acct", "simulator", "http://sim.test", {"api_key": "k", "api_secret": "s"}, ["w"])
CHARGE = {"id": "ch_1", "object": "charge", "amount": AMOUNT, "currency": "INR", "status": "succeeded"}
KNOWN = ref(intent(), Charge(ChargeStatus.SUCCEEDED, "ch_1"))


class Says:
    """Gives the same answer to everything."""

    def __init__(self, status: int, value: object, headers: Mapping[str, str] | None = None) -> None:
        self.answer = HttpAnswer(status, headers or {}, json.dumps(value).encode())

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None = None,
        read_timeout: float | None = None,
    ) -> HttpAnswer:
        return self.answer


@pytest.mark.parametrize("status", ["frozen", "", None, 7, "SUCCEEDED"])
def test_a_status_nobody_knows_is_pending(status: object) -> None:
    provider = SimulatorProvider(Says(200, {**CHARGE, "status": status}))
    for outcome in (provider.create(ACCOUNT, intent()), provider.fetch(ACCOUNT, KNOWN)):
        assert isinstance(outcome, Charge)
        assert outcome.status is ChargeStatus.PENDING
    effect = provider.refund(ACCOUNT, KNOWN, 100, "rf_0000000001")
    assert isinstance(effect, Effect)
    assert effect.status is EffectStatus.PENDING
    # Neither says that the money was taken or released.
    assert isinstance(provider.capture(ACCOUNT, KNOWN, AMOUNT, "op_0000000001"), Unknown)
    assert isinstance(provider.void(ACCOUNT, KNOWN, "op_0000000001"), Unknown)


def test_an_amount_that_is_not_a_whole_number_is_no_amount() -> None:
    for amount in (1.5, "149900", True, None):
        outcome = SimulatorProvider(Says(200, {**CHARGE, "amount": amount})).fetch(ACCOUNT, KNOWN)
        assert isinstance(outcome, Charge)
        assert outcome.amount is None


@pytest.mark.parametrize("value", [[], None, "text", {}, {"object": "charge"}, {"id": "x", "object": "refund"}])
def test_an_answer_without_a_charge_is_unknown(value: object) -> None:
    provider = SimulatorProvider(Says(200, value))
    assert isinstance(provider.create(ACCOUNT, intent()), Unknown)
    assert isinstance(provider.fetch(ACCOUNT, KNOWN), Unknown)


def test_without_an_event_id_the_same_body_is_the_same_event() -> None:
    body = json.dumps({"type": "charge.succeeded", "data": {"charge": CHARGE}}).encode()
    headers = {"x-simulator-signature": sign("w", body)}
    provider = SimulatorProvider(Says(200, {}))
    keys = {provider.parse_webhook(ACCOUNT, headers, body, NOW).dedupe_key for _ in range(2)}
    assert keys == {digest(body)}


@pytest.mark.parametrize("answer", [{}, {"lines": 7}, {"lines": None, "more": True}, []])
def test_a_report_that_is_not_one_says_nothing(answer: object) -> None:
    assert isinstance(SimulatorProvider(Says(200, answer)).settlement_lines(ACCOUNT, NOW.date()), Unknown)
    assert isinstance(SimulatorProvider(Says(404, answer)).settlement_lines(ACCOUNT, NOW.date()), Unknown)


def test_a_report_without_an_end_is_given_up() -> None:
    endless = SimulatorProvider(Says(200, {"lines": [], "more": True}))
    assert isinstance(endless.settlement_lines(ACCOUNT, NOW.date()), Unknown)


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [(503, "NOT_ACCEPTED", NotSent), (503, "OTHER", Unknown), (500, "NOT_ACCEPTED", Unknown), (408, "X", Unknown)],
)
def test_only_the_documented_503_had_no_effect(status: int, code: str, expected: type) -> None:
    provider = SimulatorProvider(Says(status, {"error": {"code": code}}, {"retry-after": "7"}))
    outcome = provider.create(ACCOUNT, intent())
    assert isinstance(outcome, expected)
    assert isinstance(outcome, NotSent | Unknown)
    assert outcome.retry_after == 7


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("3", 3.0), (" 2.5 ", 2.5), ("999999", 3600.0), ("-1", None), ("nan", None), ("inf", None), ("٣", None),
     ("Wed, 21 Oct 2026 07:28:00 GMT", None), ("", None)],
)  # fmt: skip
def test_retry_after_is_seconds_within_reason(header: str, seconds: float | None) -> None:
    outcome = SimulatorProvider(Says(429, {}, {"retry-after": header})).create(ACCOUNT, intent())
    assert isinstance(outcome, NotSent)
    assert (outcome.error.error_class, outcome.retry_after) == (ErrorClass.RATE_LIMITED, seconds)
