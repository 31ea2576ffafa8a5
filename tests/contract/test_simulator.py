"""Answers of the simulator that its bank never gives: statuses and errors nobody knows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from chalicelib.domain.errors import ErrorClass
from chalicelib.domain.outcome import Charge, ChargeStatus, Effect, EffectStatus, NotSent, Unknown
from chalicelib.providers.base import Account
from chalicelib.providers.http import HttpAnswer
from chalicelib.providers.reasons import REASONS, TECHNICAL
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


@pytest.mark.parametrize("amount", [1.5, 149_900.0, "149900", True, None, []])
def test_an_amount_that_is_not_a_whole_number_is_no_amount(amount: object) -> None:
    for name in ("amount", "captured"):  # what was asked for is not what was taken
        provider = SimulatorProvider(Says(200, {**CHARGE, name: amount}))
        outcome = provider.fetch(ACCOUNT, KNOWN)
        assert isinstance(outcome, Charge)
        assert (outcome.status, outcome.amount, outcome.captured) == (ChargeStatus.SUCCEEDED, None, 0)
        assert isinstance(provider.capture(ACCOUNT, KNOWN, AMOUNT, "op_0000000001"), Unknown)


# refusals


class Refuses:
    """Refuses to do anything, and shows what is there."""

    def __init__(self, refusal: tuple[int, object], there: tuple[int, object]) -> None:
        self.refusal, self.there = refusal, there

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None = None,
        read_timeout: float | None = None,
    ) -> HttpAnswer:
        status, value = self.there if method == "GET" else self.refusal
        return HttpAnswer(status, {}, json.dumps(value).encode())


def because(reason: str | None, code: str = "BAD_REQUEST_ERROR") -> tuple[int, object]:
    return 422, {"error": {"code": code, "reason": reason}}


HELD = {**CHARGE, "status": "authorized"}
VOIDED = {**CHARGE, "status": "canceled"}
REFUND = {"id": "rfnd_1", "object": "refund", "amount": 100, "currency": "INR", "key": "rf_1", "status": "succeeded"}
NOT_THERE: tuple[int, object] = (404, {})
OPEN = [
    *(because(reason) for reason, verdict in REASONS.items() if verdict == TECHNICAL),
    because(None, "GATEWAY_ERROR"), because("new_reason"), because(None), (400, {}), (409, {}),
]  # fmt: skip


@pytest.mark.parametrize("refusal", OPEN)
def test_a_technical_refusal_is_never_a_failure(refusal: tuple[int, object]) -> None:
    for there in (NOT_THERE, (200, HELD)):
        provider = SimulatorProvider(Refuses(refusal, there))
        assert isinstance(provider.capture(ACCOUNT, KNOWN, AMOUNT, "op_1"), Unknown)
        assert isinstance(provider.void(ACCOUNT, KNOWN, "op_1"), Unknown)
    assert isinstance(SimulatorProvider(Refuses(refusal, NOT_THERE)).refund(ACCOUNT, KNOWN, 100, "rf_1"), Unknown)


@pytest.mark.parametrize("refusal", OPEN[:-1])
def test_a_technical_refusal_may_hide_that_it_was_done(refusal: tuple[int, object]) -> None:
    for effect in (
        SimulatorProvider(Refuses(refusal, (200, CHARGE))).capture(ACCOUNT, KNOWN, AMOUNT, "op_1"),
        SimulatorProvider(Refuses(refusal, (200, VOIDED))).void(ACCOUNT, KNOWN, "op_1"),
        SimulatorProvider(Refuses(refusal, (200, REFUND))).refund(ACCOUNT, KNOWN, 100, "rf_1"),
    ):
        assert isinstance(effect, Effect)
        assert effect.status is EffectStatus.SUCCEEDED
    assert isinstance(effect, Effect)
    assert effect.key == "rf_1"


@pytest.mark.parametrize("reason", ["payment_declined", "input_validation_failed", "not_found"])
def test_a_refusal_of_what_was_asked_has_failed_once_nothing_is_there(reason: str) -> None:
    provider = SimulatorProvider(Refuses(because(reason), (200, HELD)))
    missing = SimulatorProvider(Refuses(because(reason), NOT_THERE))
    for effect in (
        provider.capture(ACCOUNT, KNOWN, AMOUNT, "op_1"), provider.void(ACCOUNT, KNOWN, "op_1"),
        missing.refund(ACCOUNT, KNOWN, 100, "rf_1"),
    ):  # fmt: skip
        assert isinstance(effect, Effect)
        assert effect.status is EffectStatus.FAILED
    lost = SimulatorProvider(Refuses(because(reason), (500, {})))
    assert isinstance(lost.capture(ACCOUNT, KNOWN, AMOUNT, "op_1"), Unknown)
    assert isinstance(lost.refund(ACCOUNT, KNOWN, 100, "rf_1"), Unknown)


def test_another_state_than_it_shows_may_be_our_own_doing() -> None:
    held = SimulatorProvider(Refuses(because("invalid_state"), (200, HELD)))
    assert isinstance(held.capture(ACCOUNT, KNOWN, AMOUNT, "op_1"), Unknown)
    assert isinstance(held.void(ACCOUNT, KNOWN, "op_1"), Unknown)
    for reason, failed in (("invalid_state", True), ("refund_limit_crossed", True), ("duplicate_request", False)):
        provider = SimulatorProvider(Refuses(because(reason), NOT_THERE))
        effect = provider.refund(ACCOUNT, KNOWN, 100, "rf_1")
        assert isinstance(effect, Effect if failed else Unknown)
    for status, taken in (("canceled", True), ("failed", True), ("succeeded", False)):
        ended = SimulatorProvider(Refuses(because("gateway_technical_error"), (200, {**CHARGE, "status": status})))
        effect = ended.capture(ACCOUNT, KNOWN, AMOUNT, "op_1") if taken else ended.void(ACCOUNT, KNOWN, "op_1")
        assert isinstance(effect, Effect)
        assert effect.status is EffectStatus.FAILED


def test_a_refund_event_carries_our_key() -> None:
    body = json.dumps({"type": "refund.succeeded", "data": {"charge": CHARGE, "refund": REFUND}}).encode()
    event = SimulatorProvider(Says(200, {})).parse_webhook(
        ACCOUNT, {"x-simulator-signature": sign("w", body)}, body, NOW
    )
    assert event.effect is not None
    assert (event.refund_key, event.effect.key) == ("rf_1", "rf_1")


@pytest.mark.parametrize("at", [10**30, -(10**30), 10**12, 0, None, "soon"])
def test_a_line_that_was_settled_at_no_time_of_this_age(at: object) -> None:
    row = {"charge": "ch_1", "amount": 1, "currency": "INR", "settled_at": at}
    lines = SimulatorProvider(Says(200, {"lines": [row]})).settlement_lines(ACCOUNT, NOW.date())
    assert isinstance(lines, list)
    assert [line.settled_at for line in lines] == [None]


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


@pytest.mark.parametrize("status", [400, 401, 402, 403, 409, 422, 500])
def test_whatever_a_refusal_means_it_passes_on_when_to_come_back(status: int) -> None:
    provider = SimulatorProvider(Says(status, {"error": {"code": "OTHER"}}, {"retry-after": "7"}))
    outcome = provider.create(ACCOUNT, intent())
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
