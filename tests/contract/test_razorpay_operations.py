"""What a refused capture or refund comes to at Razorpay, against answers made by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from chalicelib.domain.errors import ErrorClass
from chalicelib.domain.outcome import Effect, EffectStatus, NotSent, Unknown
from chalicelib.providers.base import ChargeRef
from chalicelib.providers.http import UnknownError
from chalicelib.providers.razorpay import RazorpayProvider
from chalicelib.providers.reasons import ACCOUNT, CONFLICT, REASONS, TECHNICAL, UNDECIDED
from tests.contract.sandbox_world import AMOUNT, NOW
from tests.contract.test_razorpay import ACCOUNT as KEYS
from tests.contract.test_razorpay import MADE, Script, error

if TYPE_CHECKING:
    from chalicelib.domain.outcome import EffectOutcome

KEY = "rf_01K0000000000000000000KEY1"
KNOWN = ChargeRef(MADE.reference, "pay_1", AMOUNT, "INR", MADE.method, {"order_id": "order_1"}, NOW)
CAPTURE, REFUND, LOOK = "POST /payments/pay_1/capture", "POST /payments/pay_1/refund", "GET /payments/pay_1"
REFUNDS = "GET /payments/pay_1/refunds?count=100&skip=0"
PAYMENT = {"id": "pay_1", "order_id": "order_1", "amount": AMOUNT, "currency": "INR", "status": "authorized"}
MINE = {"id": "rfnd_1", "amount": 50_000, "currency": "INR", "receipt": KEY, "status": "processed"}
Answer = tuple[int, object]
NOBODY: tuple[Answer | Exception, ...] = (UnknownError("read_timeout"), (500, {}), (429, {}), (400, error(None)))


def capture(answer: Answer, now: Answer | Exception) -> tuple[EffectOutcome, Script]:
    script = Script({CAPTURE: answer, LOOK: now})
    return RazorpayProvider(script).capture(KEYS, KNOWN, AMOUNT, "op_1"), script


def refund(answer: Answer, *listed: dict[str, object], lost: Answer | Exception | None = None) -> EffectOutcome:
    script = Script({REFUND: answer, REFUNDS: lost or (200, {"items": list(listed)})})
    return RazorpayProvider(script).refund(KEYS, KNOWN, 50_000, KEY)


# What says nothing of what it did: a gateway's or Razorpay's own failure, and whatever nobody knows.
OPEN: list[Answer] = [
    *((400, error(reason, code="GATEWAY_ERROR")) for reason, verdict in REASONS.items() if verdict == TECHNICAL),
    *((400, error(reason)) for reason, verdict in REASONS.items() if verdict == TECHNICAL),
    *((400, error(reason)) for reason in sorted(UNDECIDED)),
    (400, error(None, code="GATEWAY_ERROR")),
    (400, error("new_reason", code="GATEWAY_ERROR")),
    (400, error(None, code="SERVER_ERROR")),
    (400, error("new_reason", source="gateway")),
    (400, error("new_reason", source="internal")),
    (400, error(None, code="NEW_ERROR")),
    (400, {"message": "no Route matched with those values"}),
    (400, {}),
    (409, error(None)),
]
# What Razorpay refuses for what is asked.
DEFINITE: list[Answer] = [
    *((400, error(reason)) for reason, verdict in REASONS.items() if verdict not in (TECHNICAL, ACCOUNT, CONFLICT)),
    (400, error(None)),
    (400, error("NA", source="NA")),
    (400, error("new_reason", source="business")),
    (400, error("refund_not_enabled")),
]


@pytest.mark.parametrize("answer", OPEN)
def test_a_technical_refusal_is_never_a_failure(answer: Answer) -> None:
    assert isinstance(refund(answer), Unknown)
    assert isinstance(capture(answer, (200, PAYMENT))[0], Unknown)


@pytest.mark.parametrize("answer", OPEN[:-1])
def test_a_technical_refusal_may_hide_that_it_was_done(answer: Answer) -> None:
    reason = answer[1].get("error", {}).get("reason") if isinstance(answer[1], dict) else None
    if reason in UNDECIDED:
        return  # it has been said that nobody knows yet
    made = refund(answer, MINE)
    assert isinstance(made, Effect)
    assert (made.status, made.provider_reference, made.key) == (EffectStatus.SUCCEEDED, "rfnd_1", KEY)
    taken, _ = capture(answer, (200, {**PAYMENT, "status": "captured"}))
    assert isinstance(taken, Effect)
    assert (taken.status, taken.amount) == (EffectStatus.SUCCEEDED, AMOUNT)


@pytest.mark.parametrize("answer", DEFINITE)
def test_a_refusal_of_what_was_asked_has_failed_once_nothing_is_there(answer: Answer) -> None:
    for said in (refund(answer), capture(answer, (200, PAYMENT))[0], capture(answer, (404, error(None)))[0]):
        assert isinstance(said, Effect)
        assert said.status is EffectStatus.FAILED
        assert said.error is not None
        assert said.error.error_class not in (ErrorClass.TECHNICAL_DECLINE, ErrorClass.PROVIDER_UNAVAILABLE)
    made = refund(answer, {**MINE, "receipt": "rf_other"}, MINE)
    assert isinstance(made, Effect)
    assert made.status is EffectStatus.SUCCEEDED


@pytest.mark.parametrize("answer", [*DEFINITE, OPEN[0], (400, error("refund_limit_crossed"))])
def test_nothing_has_failed_that_cannot_be_looked_up(answer: Answer) -> None:
    for lost in NOBODY:
        assert isinstance(refund(answer, lost=lost), Unknown)
        assert isinstance(capture(answer, lost)[0], Unknown)


def test_a_limit_that_others_refunds_have_reached_is_a_failure_and_a_used_key_is_not() -> None:
    said = refund((400, error("refund_limit_crossed")), {**MINE, "receipt": None})
    assert isinstance(said, Effect)
    assert (said.status, said.error and said.error.error_class) == (EffectStatus.FAILED, ErrorClass.CONFLICT)
    assert isinstance(refund((400, error("duplicate_request"))), Unknown)


@pytest.mark.parametrize("status", ["failed", "refunded"])
def test_what_has_ended_in_another_way_cannot_be_captured(status: str) -> None:
    for answer in (OPEN[0], DEFINITE[0], (400, error(None, description="This payment has already been captured"))):
        said, _ = capture(answer, (200, {**PAYMENT, "status": status, "captured": False}))
        assert isinstance(said, Effect)
        assert said.status is EffectStatus.FAILED


def test_captured_it_says_and_does_not_show_it_yet() -> None:
    answer = (400, error("input_validation_failed", description="This payment has already been captured"))
    assert isinstance(capture(answer, (200, PAYMENT))[0], Unknown)


@pytest.mark.parametrize("amount", [None, "149900", 149_900.5, True])
def test_a_capture_that_names_no_amount_confirms_nothing(amount: object) -> None:
    taken = {**PAYMENT, "status": "captured", "amount": amount}
    assert isinstance(capture((200, taken), (200, taken))[0], Unknown)
    assert isinstance(capture((400, error(None)), (200, taken))[0], Unknown)


def test_an_account_that_may_not_is_not_sent() -> None:
    for answer in ((401, {}), (403, {}), (400, error("merchant_not_activated")),
                   (400, error(None, description="Authentication failed"))):  # fmt: skip
        assert isinstance(refund(answer), NotSent)
        assert isinstance(capture(answer, (200, PAYMENT))[0], NotSent)
