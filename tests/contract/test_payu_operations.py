"""What only PayU's format can get wrong: captures, cancelations and refunds, our tokens, settlement."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from chalicelib.domain.errors import ErrorClass, ErrorCode
from chalicelib.domain.outcome import (
    Effect,
    EffectStatus,
    NotFound,
    NotSent,
    SettlementLine,
    Unknown,
)
from chalicelib.providers import payu_codes, payu_wire
from chalicelib.providers.http import UnknownError
from chalicelib.providers.payu import PayuProvider
from infra.sandbox import payu_entities
from tests.contract.payu_script import (
    ACCOUNT,
    CAPTURE,
    DAY,
    ENTITY,
    HELD,
    KNOWN,
    MADE,
    PAYUID,
    REFUND,
    SALT,
    TXNID,
    VOID,
    Script,
    listed,
    row,
    verified,
)
from tests.contract.sandbox_world import AMOUNT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chalicelib.domain.outcome import EffectOutcome
    from chalicelib.providers.base import ChargeRef


# capture, void, refund


def act(operation: str, entity: Mapping[str, object], said: object, *shown: object) -> tuple[EffectOutcome, Script]:
    """One operation: how the transaction stands, what the command is answered, what is listed afterwards."""
    actions = list(shown) or [listed()]
    script = Script(
        verify_payment=verified(entity),
        capture_transaction=said,
        cancel_refund_transaction=said,
        check_action_status=actions,
    )
    provider = PayuProvider(script)
    outcome = {
        "capture": lambda: provider.capture(ACCOUNT, KNOWN, AMOUNT, CAPTURE),
        "void": lambda: provider.void(ACCOUNT, KNOWN, VOID),
        "refund": lambda: provider.refund(ACCOUNT, KNOWN, AMOUNT, REFUND),
    }[operation]()
    return outcome, script


OPERATIONS = {
    "capture": ("capture_transaction", HELD, "capture", CAPTURE),
    "void": ("cancel_refund_transaction", HELD, "cancel", VOID),
    "refund": ("cancel_refund_transaction", ENTITY, "refund", REFUND),
}
QUEUED = {"status": 1, "msg": "Request Queued", "request_id": "9", "mihpayid": int(PAYUID), "error_code": 102}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_command_carries_our_token_and_the_list_tells_its_end(operation: str) -> None:
    command, entity, action, key = OPERATIONS[operation]
    outcome, script = act(operation, entity, QUEUED, listed(row(action, key, request_id=9)))
    assert isinstance(outcome, Effect)
    assert (outcome.status, outcome.provider_reference, outcome.amount) == (EffectStatus.SUCCEEDED, "9", AMOUNT)
    assert script.commands == ["verify_payment", command, "check_action_status"]
    sent = script.sent[1]
    assert (sent["var1"], sent["var2"], sent["var3"]) == (PAYUID, payu_wire.token(key), "1499.00")
    assert sent["hash"] == payu_entities.command_hash(SALT, sent)
    assert (script.sent[2]["var1"], script.sent[2]["var2"]) == (PAYUID, "payuid")


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("state", [*payu_codes.ACTIONS, "SOMETHING NEW"])
def test_every_state_of_an_action(operation: str, state: str) -> None:
    _, entity, action, key = OPERATIONS[operation]
    outcome, _ = act(operation, entity, QUEUED, listed(row(action, key, status=state.upper())))
    assert isinstance(outcome, Effect)
    assert outcome.status is payu_codes.ACTIONS.get(state, EffectStatus.PENDING)
    assert (outcome.error is not None) == (outcome.status is EffectStatus.FAILED)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("code", sorted(payu_codes.ACCEPTED))
def test_what_payu_has_accepted_is_pending(operation: str, code: str) -> None:
    _, entity, _, _ = OPERATIONS[operation]
    for name in ("request_id", "txn_update_id"):
        said = {"status": 1, "msg": "…", name: "125199106", "error_code": int(code)}
        for shown in (listed(), {}, UnknownError("read_timeout")):
            outcome, _ = act(operation, entity, said, shown)
            assert isinstance(outcome, Effect)
            assert (outcome.status, outcome.provider_reference) == (EffectStatus.PENDING, "125199106")


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("code", sorted(payu_codes.REFUSED))
def test_a_refusal_is_definite_once_the_list_does_not_show_our_token(operation: str, code: str) -> None:
    _, entity, action, key = OPERATIONS[operation]
    said = {"status": 0, "msg": "…", "error_code": int(code)}
    other = row(action, "rf_01K00000000000000000000901")
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
    assert (earlier.status, earlier.provider_reference) == (EffectStatus.SUCCEEDED, "8")


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
    assert isinstance(outcome, NotSent)
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


def test_a_capture_that_the_list_does_not_show_shows_on_the_transaction() -> None:
    script = Script(
        verify_payment=[verified(HELD), verified(ENTITY)], capture_transaction=QUEUED, check_action_status=listed()
    )
    outcome = PayuProvider(script).capture(ACCOUNT, KNOWN, AMOUNT, CAPTURE)
    assert isinstance(outcome, Effect)
    assert (outcome.status, outcome.amount, outcome.currency) == (EffectStatus.SUCCEEDED, AMOUNT, "INR")
    refused = Script(
        verify_payment=[verified(HELD), UnknownError("read_timeout")],
        capture_transaction={"status": 0, "error_code": 111},
        check_action_status=listed(),
    )
    assert isinstance(PayuProvider(refused).capture(ACCOUNT, KNOWN, AMOUNT, CAPTURE), Unknown)


@pytest.mark.parametrize(
    ("operation", "entity", "expected"),
    [
        ("capture", ENTITY, EffectStatus.SUCCEEDED),
        ("void", {**HELD, "unmappedstatus": "cancelled"}, EffectStatus.SUCCEEDED),
        ("void", ENTITY, EffectStatus.FAILED),  # one and the same command would give the money back
        ("void", {**ENTITY, "status": "failure", "unmappedstatus": "failed"}, EffectStatus.FAILED),
        ("refund", HELD, EffectStatus.FAILED),  # it would release what is held
        ("refund", {**ENTITY, "status": "failure", "unmappedstatus": "failed"}, EffectStatus.FAILED),
    ],
)
def test_no_command_is_sent_about_a_charge_in_another_state(
    operation: str, entity: dict[str, object], expected: EffectStatus
) -> None:
    outcome, script = act(operation, entity, UnknownError("sent"))
    assert isinstance(outcome, Effect)
    assert outcome.status is expected
    assert not {"capture_transaction", "cancel_refund_transaction"} & set(script.commands)


@pytest.mark.parametrize("operation", ["void", "refund"])
def test_a_state_nobody_knows_is_looked_into_and_nothing_is_sent(operation: str) -> None:
    _, _, action, key = OPERATIONS[operation]
    entity = {**ENTITY, "unmappedstatus": "something new"}
    outcome, script = act(operation, entity, UnknownError("sent"))
    assert isinstance(outcome, Unknown)
    found, _ = act(operation, entity, UnknownError("sent"), listed(row(action, key)))
    assert isinstance(found, Effect)
    assert found.status is EffectStatus.SUCCEEDED
    assert script.commands == ["verify_payment", "check_action_status"]
    unsure, _ = act(operation, entity, UnknownError("sent"), UnknownError("read_timeout"))
    assert isinstance(unsure, Unknown)


def test_a_cancelation_that_came_too_late_and_gave_money_back_is_not_a_void() -> None:
    outcome, _ = act("void", HELD, QUEUED, listed(row("refund", VOID)))
    assert isinstance(outcome, Effect)
    assert outcome.status is EffectStatus.PENDING  # the charge itself tells: it has been captured


def test_a_charge_that_payu_does_not_know_cannot_be_acted_on() -> None:
    for operation in OPERATIONS:
        outcome, _ = act(operation, {"mihpayid": "Not Found", "status": "Not Found"}, UnknownError("sent"))
        assert isinstance(outcome, Effect)
        assert outcome.status is EffectStatus.FAILED


# tokens


@pytest.mark.parametrize("key", [CAPTURE, REFUND, "rf_7ZZZZZZZZZZZZZZZZZZZZZZZZZ", "op_00000000000000000000000000"])
def test_a_token_is_short_and_leads_back(key: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9]{23}", payu_wire.token(key))
    assert payu_wire.key_of(payu_wire.token(key)) == key


def test_tokens_of_different_keys_differ() -> None:
    keys = [REFUND, REFUND.replace("rf_", "op_"), CAPTURE, "op_capture_0001", "op_capture_0002", "x", "", f"{REFUND}0"]
    tokens = [payu_wire.token(key) for key in keys]
    assert len(set(tokens)) == len(keys)
    assert tokens == [payu_wire.token(key) for key in keys]
    assert {len(token) for token in tokens} == {payu_wire.MAX_TOKEN}


@pytest.mark.parametrize("text", ["", "r", "RefundToken1", "20201105secrettokenatuX", "é" * 23, "~" * 23, "0" * 40])
def test_what_is_no_token_of_ours_has_no_key(text: str) -> None:
    assert payu_wire.key_of(text) is None


# finding refunds


def find(charge: ChargeRef, key: str, request_id: str | None, shown: object, entity: object = None) -> object:
    script = Script(verify_payment=verified(entity or ENTITY), check_action_status=shown)
    return PayuProvider(script).fetch_refund(ACCOUNT, charge, key, request_id)


def test_a_refund_is_found_by_request_id_or_token() -> None:
    refund = row("refund", REFUND, amt="500.00", status="queued")
    for charge in (KNOWN, replace(KNOWN, provider_reference=PAYUID)):
        by_id = find(charge, REFUND, "9", listed(refund, under="9"))
        flat = find(charge, REFUND, "9", {"status": 1, "transaction_details": {"9": refund}})
        by_token = find(charge, REFUND, None, listed(row("capture", "x", token=""), refund))
        for found in (by_id, flat, by_token):
            assert isinstance(found, Effect)
            assert (found.status, found.provider_reference, found.amount, found.currency) == (
                EffectStatus.PENDING, "9", 50_000, "INR",
            )  # fmt: skip


def test_a_hint_cannot_bring_in_another_transactions_refund() -> None:
    refund = row("refund", REFUND, mihpayid="999")
    for charge in (KNOWN, replace(KNOWN, provider_reference=PAYUID)):
        assert isinstance(find(charge, REFUND, "9", listed(refund, under="9")), NotFound)
    poisoned = replace(KNOWN, provider_reference="999")  # told by a notice, whose id nobody signed
    assert isinstance(find(poisoned, REFUND, "9", listed(row("refund", REFUND), under="9")), Effect)


@pytest.mark.parametrize(
    "shown",
    [
        listed(under="9"),
        listed(row("capture", REFUND), under="9"),
        listed(row("refund", "rf_01K00000000000000000000901"), under="9"),
        listed(row("refund", REFUND, request_id="8"), under="9"),
    ],
)
def test_what_is_not_that_refund_is_not_found(shown: object) -> None:
    assert isinstance(find(KNOWN, REFUND, "9", shown), NotFound)


def test_a_refund_made_in_the_dashboard_is_found_without_a_key() -> None:
    found = find(KNOWN, "", "9", listed(row("refund", "x", token="by hand"), under="9"))
    assert isinstance(found, Effect)
    assert found.status is EffectStatus.SUCCEEDED


def test_nothing_is_found_of_a_charge_that_never_was() -> None:
    missing = {"mihpayid": "Not Found", "status": "Not Found"}
    assert isinstance(find(KNOWN, REFUND, None, listed(), missing), NotFound)
    assert isinstance(find(KNOWN, REFUND, None, listed()), NotFound)


# settlement

SETTLED = {
    "payuid": PAYUID, "txnid": TXNID, "txndate": "2027-01-15 13:30:00", "mode": "UPI", "amount": "11979.88",
    "requestid": "9586840660", "requestdate": "2027-01-15 13:31:00", "requestaction": "capture",
    "requestamount": "11979.88", "mer_utr": "N223211598444659", "mer_service_fee": "239.6000",
    "mer_service_tax": "43.1300", "mer_net_amount": "11697.1500", "token": "",
}  # fmt: skip


def settlement(*answers: object) -> object:
    return PayuProvider(Script(get_settlement_details=list(answers))).settlement_lines(ACCOUNT, DAY)


def report(*rows: Mapping[str, object]) -> dict[str, object]:
    return {"status": 1, "msg": "…", "Txn_details": {str(number): row for number, row in enumerate(rows, 1)}}


def test_a_settlement_line_is_exact() -> None:
    refunded = {
        **SETTLED, "requestaction": "refund", "requestid": "10241480197", "requestamount": "500.00",
        "mer_service_fee": "0.0000", "mer_service_tax": None, "mer_net_amount": "-500.0000",
        "token": payu_wire.token(REFUND),
    }  # fmt: skip
    chargeback = {**SETTLED, "requestaction": "chargeback", "requestid": "77", "mer_net_amount": "-11979.88"}
    waiting = {**SETTLED, "mer_utr": None, "txnid": "fd3e847h2"}
    lines = settlement(report(SETTLED, refunded, chargeback, waiting))
    assert isinstance(lines, list)
    india = datetime(DAY.year, DAY.month, DAY.day, tzinfo=UTC) - timedelta(hours=5.5)
    paid = SettlementLine(
        "payment", PAYUID, 1_197_988, "INR", 23_960, 4_313, MADE.reference, None, PAYUID, "N223211598444659",
        "N223211598444659", india,
    )  # fmt: skip
    given_back = replace(paid, kind="refund", entity_id="10241480197", amount=-50_000, fee=0, tax=0, refund_key=REFUND)
    assert lines == [
        paid,
        given_back,
        replace(paid, kind="adjustment", entity_id="77", amount=-1_197_988),
        replace(paid, reference=None, settlement_id=None, utr=None, settled_at=None),
    ]


@pytest.mark.parametrize("empty", [{}, []])
def test_a_day_without_settlements_is_empty(empty: object) -> None:
    assert settlement({"status": 1, "msg": f"0 transactions settled on {DAY}", "Txn_details": empty}) == []


@pytest.mark.parametrize(
    "said",
    [
        {"status": 0, "msg": "Please check date format it should be YYYY-MM-DD"},
        {"status": 1},
        report({**SETTLED, "mer_service_fee": "239.6051"}),
        report({**SETTLED, "requestamount": "x"}),
        report({**SETTLED, "payuid": None}),
        report({**SETTLED, "requestaction": None}),
        report({**SETTLED, "mer_service_tax": "-1.00"}),
    ],
)
def test_a_report_that_cannot_be_read_is_unknown_as_a_whole(said: object) -> None:
    assert isinstance(settlement(said), Unknown)


def test_every_page_of_a_report_is_read_once() -> None:
    rows = [{**SETTLED, "payuid": str(number)} for number in range(1, 1201)]
    pages = [report(*rows[:500]), report(*rows[500:1000]), report(*rows[1000:])]
    script = Script(get_settlement_details=list(pages))
    lines = PayuProvider(script).settlement_lines(ACCOUNT, DAY)
    assert isinstance(lines, list)
    assert [line.entity_id for line in lines] == [row["payuid"] for row in rows]
    assert [(form["var1"], form["var2"], form["var3"]) for form in script.sent] == [
        (DAY.isoformat(), str(page), "500") for page in (1, 2, 3)
    ]
    again = settlement(pages[0])  # a server that knows no pages, and exactly one full one
    assert isinstance(again, list)
    assert len(again) == 500
    assert isinstance(settlement(pages[0], UnknownError("read_timeout")), Unknown)
