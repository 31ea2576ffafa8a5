"""What only PayU's format can get wrong: which refusal of a capture, cancelation or refund is final, and which is not."""

from __future__ import annotations

import pytest

from chalicelib.domain.errors import ErrorClass, ErrorCode
from chalicelib.domain.outcome import Effect, EffectStatus, Unknown
from chalicelib.providers import payu_codes
from chalicelib.providers.http import UnknownError
from tests.contract.payu_script import (
    ENTITY,
    OPERATIONS,
    OTHER_REFUND,
    REFUND,
    act,
    listed,
    row,
)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("code", sorted(payu_codes.REFUSED))
def test_a_refusal_is_definite_once_the_list_does_not_show_our_token(operation: str, code: str) -> None:
    _, entity, action, key = OPERATIONS[operation]
    said = {"status": 0, "msg": "…", "error_code": int(code)}
    theirs = None if operation == "void" else "8"
    other = row(action, OTHER_REFUND)
    outcome, _ = act(operation, entity, said, listed(other))
    assert isinstance(outcome, Effect)
    assert outcome.status is EffectStatus.FAILED
    assert outcome.error is not None
    assert (outcome.error.error_class, outcome.error.code) == payu_codes.REFUSED[code]
    assert outcome.error.provider_code == code
    unsure, _ = act(operation, entity, said, UnknownError("read_timeout"))
    assert isinstance(unsure, Unknown)
    earlier, _ = act(operation, entity, said, listed(other, row(action, key, request_id="8")))
    assert isinstance(earlier, Effect)
    assert (earlier.status, earlier.provider_reference) == (EffectStatus.SUCCEEDED, theirs)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("code", sorted(payu_codes.REPEATED))
def test_what_an_earlier_try_may_have_caused_is_never_a_failure(operation: str, code: str) -> None:
    _, entity, action, key = OPERATIONS[operation]
    said = {"status": 0, "msg": "Token already exists.", "error_code": code}
    outcome, _ = act(operation, entity, said)
    assert isinstance(outcome, Unknown)
    found, _ = act(operation, entity, said, listed(row(action, key)))
    assert isinstance(found, Effect)
    assert found.status is EffectStatus.SUCCEEDED


def test_a_second_refund_of_one_amount_is_welcome_later() -> None:
    said = {"status": 0, "msg": "Same amount same transaction within 5 minutes", "error_code": 214}
    outcome, _ = act("refund", ENTITY, said)
    assert isinstance(outcome, Unknown)  # the first of the two may be an earlier try of ours
    assert (outcome.error.error_class, outcome.retry_after) == (ErrorClass.RATE_LIMITED, 300.0)
    found, _ = act("refund", ENTITY, said, listed(row("refund", REFUND)))
    assert isinstance(found, Effect)
    assert found.status is EffectStatus.SUCCEEDED


@pytest.mark.parametrize(("words", "verdict"), payu_codes.SAYINGS)
def test_a_refusal_without_a_code_is_told_by_its_words(words: str, verdict: tuple[ErrorClass, ErrorCode]) -> None:
    outcome, _ = act("refund", ENTITY, {"status": 0, "msg": f"{words.upper()}!"})
    assert isinstance(outcome, Effect)
    assert outcome.error is not None
    assert (outcome.status, (outcome.error.error_class, outcome.error.code)) == (EffectStatus.FAILED, verdict)


@pytest.mark.parametrize(
    "said",
    [
        {"status": 0, "msg": "token already used or request pending"},
        {"status": 0, "msg": "Some problem occurred", "error_code": 500},
        {"status": 0, "error_code": 999},
        {"status": 2},
        {},
        b"<html>",
        (502, b"<html>"),
        UnknownError("read_timeout"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_any_other_answer_to_a_command_is_unknown(operation: str, said: object) -> None:
    outcome, script = act(operation, OPERATIONS[operation][1], said)
    assert isinstance(outcome, Unknown)
    assert script.commands.count(OPERATIONS[operation][0]) == 1


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(
    "said",
    [
        {"status": 0, "msg": "Refund request failed"},
        {"status": 0, "msg": "Capture failed"},
        {"status": 0, "msg": "Cancelled failed."},
        {"status": 0, "msg": "", "error_code": 108},
        {"status": 0, "msg": "Transaction not found", "error_code": 500},
        {"status": 1, "msg": "Invalid Amount", "error_code": 105},  # yes and no
        {"status": 1, "msg": "…", "error_code": 233},
    ],
    ids=repr,
)
def test_that_a_request_failed_says_nothing_until_our_row_says_so(operation: str, said: object) -> None:
    _, entity, action, key = OPERATIONS[operation]
    outcome, _ = act(operation, entity, said)
    assert isinstance(outcome, Unknown)
    for state, status in (("FAILURE", EffectStatus.FAILED), ("SUCCESS", EffectStatus.SUCCEEDED)):
        known, _ = act(operation, entity, said, listed(row(action, key, status=state)))
        assert isinstance(known, Effect)
        assert known.status is status


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("code", sorted(payu_codes.DOUBTFUL))
def test_what_an_earlier_try_may_have_brought_about_is_open(operation: str, code: str) -> None:
    """Our first refund is not listed yet, and what it took is why the second is too much."""
    _, entity, action, key = OPERATIONS[operation]
    said = {"status": 0, "msg": "…", "error_code": int(code)}
    for shown in (listed(), listed(row("refund", OTHER_REFUND, status="FAILURE")), UnknownError("read_timeout"), {}):
        outcome, _ = act(operation, entity, said, shown)
        assert isinstance(outcome, Unknown)
    earlier, _ = act(operation, entity, said, listed(row(action, key)))
    assert isinstance(earlier, Effect)
    assert earlier.status is EffectStatus.SUCCEEDED


@pytest.mark.parametrize("code", sorted(payu_codes.DOUBTFUL))
@pytest.mark.parametrize("amounts", [["0.01"], ["1499.00"], ["749.50", "749.49"]])
def test_a_refund_is_refused_for_good_where_others_have_taken_what_it_needs(code: str, amounts: list[str]) -> None:
    said = {"status": 0, "error_code": int(code)}
    rows = [row("refund", f"{OTHER_REFUND}{n}", amt=amount, request_id=n) for n, amount in enumerate(amounts)]
    outcome, _ = act("refund", ENTITY, said, listed(*rows))
    assert isinstance(outcome, Effect)
    assert outcome.error is not None
    assert (outcome.status, outcome.error.error_class) == (EffectStatus.FAILED, payu_codes.DOUBTFUL[code][0])
    for amount in ("x", None, "0.00"):
        unclear, _ = act("refund", ENTITY, said, listed(*({**shown, "amt": amount} for shown in rows)))
        assert isinstance(unclear, Unknown)


def test_no_code_has_two_meanings() -> None:
    tables = (payu_codes.ACCEPTED, payu_codes.REPEATED, payu_codes.REFUSED, payu_codes.DOUBTFUL)
    codes = [code for table in tables for code in table] + [payu_codes.SAME_AMOUNT]
    assert len(set(codes)) == len(codes)
