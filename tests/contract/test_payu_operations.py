"""What only PayU's format can get wrong: captures, cancelations and refunds, our tokens, settlement."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from chalicelib.domain.outcome import (
    Effect,
    EffectStatus,
    NotFound,
    Unknown,
)
from chalicelib.providers import payu_codes, payu_wire
from chalicelib.providers.http import UnknownError
from chalicelib.providers.payu import PayuProvider
from infra.sandbox import payu_entities
from tests.contract.payu_script import (
    ACCOUNT,
    CAPTURE,
    ENTITY,
    HELD,
    KNOWN,
    OPERATIONS,
    PAYUID,
    QUEUED,
    REFUND,
    SALT,
    VOID,
    Script,
    act,
    listed,
    row,
    verified,
)
from tests.contract.sandbox_world import AMOUNT

if TYPE_CHECKING:
    from chalicelib.providers.base import ChargeRef


# capture, void, refund


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_command_carries_our_token_and_the_list_tells_its_end(operation: str) -> None:
    command, entity, action, key = OPERATIONS[operation]
    outcome, script = act(operation, entity, QUEUED, listed(row(action, key, request_id=9)))
    assert isinstance(outcome, Effect)
    # A cancelation has no id of its own: how the charge stands tells what became of it.
    theirs = None if operation == "void" else "9"
    assert (outcome.status, outcome.provider_reference, outcome.amount) == (EffectStatus.SUCCEEDED, theirs, AMOUNT)
    assert outcome.key == (REFUND if operation == "refund" else None)
    assert script.commands == ["verify_payment", command, "check_action_status"]
    sent = script.sent[1]
    assert (sent["var1"], sent["var2"], sent["var3"]) == (PAYUID, payu_wire.token(key, action), "1499.00")
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
    theirs = None if operation == "void" else "125199106"
    for name in ("request_id", "txn_update_id"):
        said = {"status": 1, "msg": "…", name: "125199106", "error_code": int(code)}
        for shown in (listed(), {}, UnknownError("read_timeout")):
            outcome, _ = act(operation, entity, said, shown)
            assert isinstance(outcome, Effect)
            assert (outcome.status, outcome.provider_reference) == (EffectStatus.PENDING, theirs)


def test_a_capture_that_the_list_does_not_show_shows_on_the_transaction() -> None:
    script = Script(
        verify_payment=[verified(HELD), verified(ENTITY)], capture_transaction=QUEUED, check_action_status=listed()
    )
    outcome = PayuProvider(script).capture(ACCOUNT, KNOWN, AMOUNT, CAPTURE)
    assert isinstance(outcome, Effect)
    assert (outcome.status, outcome.amount, outcome.currency) == (EffectStatus.SUCCEEDED, AMOUNT, "INR")
    refused = Script(
        verify_payment=[verified(HELD), UnknownError("read_timeout")],
        capture_transaction={"status": 0, "error_code": 305},
        check_action_status=listed(),
    )
    assert isinstance(PayuProvider(refused).capture(ACCOUNT, KNOWN, AMOUNT, CAPTURE), Unknown)


@pytest.mark.parametrize(
    ("operation", "entity", "expected"),
    [
        ("capture", ENTITY, EffectStatus.SUCCEEDED),
        ("capture", {**HELD, "unmappedstatus": "cancelled"}, EffectStatus.FAILED),
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


@pytest.mark.parametrize("operation", OPERATIONS)
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
    late = row("refund", VOID, token=payu_wire.token(VOID, "cancel"))
    outcome, _ = act("void", HELD, QUEUED, listed(late))
    assert isinstance(outcome, Effect)
    assert outcome.status is EffectStatus.PENDING  # the charge itself tells: it has been captured
    unsure, _ = act("void", HELD, {"status": 0, "error_code": 119}, listed(late))
    assert isinstance(unsure, Unknown)


def test_a_charge_that_payu_does_not_know_is_not_acted_on() -> None:
    for operation in OPERATIONS:
        outcome, script = act(operation, {"mihpayid": "Not Found", "status": "Not Found"}, UnknownError("sent"))
        assert isinstance(outcome, Unknown)  # there was one when it was made
        assert script.commands == ["verify_payment"]


def test_a_reversal_that_canceled_too_late_has_given_the_money_back_already() -> None:
    """One operation voids first and refunds afterwards: two tokens, and still only one of them gives back."""
    late = row("refund", VOID, token=payu_wire.token(VOID, "cancel"))
    held = row("cancel", VOID, status="FAILURE")
    for shown, sent in (([late], False), ([{**late, "status": "FAILURE"}], True), ([held], True), ([], True)):
        script = Script(
            verify_payment=verified(ENTITY), cancel_refund_transaction=QUEUED, check_action_status=listed(*shown)
        )
        effect = PayuProvider(script).refund(ACCOUNT, KNOWN, AMOUNT, VOID)
        assert isinstance(effect, Effect)
        assert effect.status is (EffectStatus.PENDING if sent else EffectStatus.SUCCEEDED)
        assert ("cancel_refund_transaction" in script.commands) is sent
        if sent:
            form = next(form for form in script.sent if form["command"] == "cancel_refund_transaction")
            assert form["var2"] == payu_wire.token(VOID, "refund") != payu_wire.token(VOID, "cancel")
    assert isinstance(find(KNOWN, VOID, None, listed(late)), Effect)
    assert isinstance(find(KNOWN, VOID, "9", listed(late, under="9")), Effect)
    assert isinstance(find(KNOWN, VOID, None, listed(held)), NotFound)
    losses: tuple[object, ...] = (UnknownError("read_timeout"), {})
    for lost in losses:
        script = Script(verify_payment=verified(ENTITY), check_action_status=lost)
        assert isinstance(PayuProvider(script).refund(ACCOUNT, KNOWN, AMOUNT, VOID), Unknown)


# tokens


@pytest.mark.parametrize("key", [VOID, REFUND, "rf_7ZZZZZZZZZZZZZZZZZZZZZZZZZ", "op_00000000000000000000000000"])
def test_a_token_is_short_and_leads_back(key: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9]{23}", payu_wire.token(key, "refund"))
    assert payu_wire.key_of(payu_wire.token(key, "refund")) == key
    for action in ("capture", "cancel"):
        assert re.fullmatch(r"[A-Za-z0-9]{23}", payu_wire.token(key, action))
        assert payu_wire.key_of(payu_wire.token(key, action)) is None


def test_tokens_of_different_keys_and_actions_differ() -> None:
    keys = [REFUND, REFUND.replace("rf_", "op_"), CAPTURE, "op_capture_0001", "op_capture_0002", "x", "", f"{REFUND}0"]
    asked = [(key, action) for key in keys for action in ("capture", "cancel", "refund")]
    tokens = [payu_wire.token(key, action) for key, action in asked]
    assert len(set(tokens)) == len(asked)
    assert tokens == [payu_wire.token(key, action) for key, action in asked]
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
    assert (found.status, found.key) == (EffectStatus.SUCCEEDED, None)


@pytest.mark.parametrize("key", [REFUND, VOID])
def test_whose_refund_it_is_payu_says_whatever_a_callback_left_out(key: str) -> None:
    for asked in ("", key):
        found = find(KNOWN, asked, "9", listed(row("refund", key), under="9"))
        assert isinstance(found, Effect)
        assert found.key == key
    late = row("refund", VOID, token=payu_wire.token(VOID, "cancel"))
    found = find(KNOWN, "", "9", listed(late, under="9"))
    assert isinstance(found, Effect)
    assert found.key is None  # the void of a payment that was captured meanwhile is not that payment's refund


def test_nothing_is_found_of_a_charge_that_never_was() -> None:
    missing = {"mihpayid": "Not Found", "status": "Not Found"}
    assert isinstance(find(KNOWN, REFUND, None, listed(), missing), NotFound)
    assert isinstance(find(KNOWN, REFUND, None, listed()), NotFound)
