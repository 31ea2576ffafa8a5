"""PayU's page and postservice as the sandbox bank speaks them, with the adapter at the other end."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import timedelta
from html import unescape
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

import pytest

from chalicelib.domain.errors import ErrorClass, ErrorCode
from chalicelib.domain.outcome import (
    Charge,
    ChargeStatus,
    Effect,
    EffectStatus,
    EventKind,
    NotFound,
    NotSent,
    Unknown,
)
from chalicelib.providers import payu_wire
from infra.sandbox.wire import Request
from tests.contract.payu_script import (
    DAY,
    KEY,
    KNOWN,
    MADE,
    REFUND,
    RETURN_URL,
    SALT,
    TXNID,
    made,
)
from tests.contract.sandbox_world import AMOUNT, World

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chalicelib.providers.base import ChargeIntent
    from infra.sandbox.wire import Response


# the bank's side


def post(world: World, url: object, fields: Mapping[str, str]) -> Response:
    """What a browser gets for posting a form."""
    parts = urlsplit(str(url))
    target = f"{parts.path}?{parts.query}" if parts.query else parts.path
    return world.bank.handle("payu", Request("POST", target, {"host": "payu.sandbox"}, urlencode(fields).encode()))


def fields_in(response: Response) -> tuple[str, dict[str, str]]:
    """Where a page's form goes, and what is hidden in it."""
    html = response.body.decode()
    action = re.search(r'action="([^"]+)"', html)
    assert action is not None, html
    hidden = re.findall(r'type="hidden" name="([^"]+)" value="([^"]*)"', html)
    return unescape(action.group(1)), {unescape(name): unescape(value) for name, value in hidden}


def open_page(world: World, intended: ChargeIntent) -> tuple[str, dict[str, str]]:
    charge = world.charge(intended)
    assert charge.next_action is not None
    fields = charge.next_action["fields"]
    assert isinstance(fields, dict)
    return str(charge.next_action["url"]), fields


def pay(world: World, intended: ChargeIntent, choice: str = "approve", **typed: str) -> dict[str, str]:
    """Go to the page, choose, and return what comes back to the shop."""
    url, fields = open_page(world, intended)
    shown = post(world, url, fields)
    assert shown.status == 200, shown.body
    if b"Back to the shop" in shown.body:
        return fields_in(shown)[1]
    action, _ = fields_in(shown)
    answer = post(world, action, {"choice": choice, "step": "3ds", **typed})
    back, brought = fields_in(answer)
    assert back == RETURN_URL
    return brought


def test_a_charge_begins_when_the_browser_posts_the_form() -> None:
    world = World("payu")
    url, fields = open_page(world, MADE)
    assert world.truth() == []
    assert isinstance(world.provider.fetch(world.account, KNOWN), NotFound)
    post(world, url, fields)
    waiting = world.provider.fetch(world.account, KNOWN)
    assert isinstance(waiting, Charge)
    assert waiting.status is ChargeStatus.PENDING
    post(world, url, fields)  # the customer reloads the page
    assert [row["reference"] for row in world.truth()] == [MADE.reference]
    world.pass_time(901)
    gone = world.provider.fetch(world.account, KNOWN)
    assert isinstance(gone, Charge)
    assert (gone.status, gone.error and gone.error.code) == (ChargeStatus.DECLINED, ErrorCode.CUSTOMER_TIMED_OUT)


@pytest.mark.parametrize("choice", ["approve", "decline", "cancel"])
def test_what_comes_back_is_signed_and_so_is_the_notice(choice: str) -> None:
    world = World("payu")
    brought = pay(world, MADE, choice)
    world.provider.verify_return(world.account, KNOWN, brought)
    (event,) = world.events()
    found = world.provider.fetch(world.account, KNOWN)
    assert isinstance(found, Charge)
    assert (event.kind, event.reference, event.charge, event.verified) == (EventKind.HINT, MADE.reference, None, True)
    assert found.provider_reference == brought["mihpayid"]
    assert {"mode", "discount", "net_amount_debit", "addedon", "field1", "field9", "PG_TYPE", "bank_ref_num",
            "bankcode", "error", "error_Message", "udf5", "phone"} <= set(brought)  # fmt: skip


@pytest.mark.parametrize("name", ["hash", "amount", "firstname", "udf1", "key"])
def test_the_page_refuses_a_form_that_was_altered(name: str) -> None:
    world = World("payu")
    url, fields = open_page(world, MADE)
    for altered in ({**fields, name: f"{fields[name]}1"}, {**fields, name: ""}):
        shown = post(world, url, altered)
        assert b"unable to process your payment" in shown.body
    assert world.truth() == []


def test_a_txnid_is_paid_once() -> None:
    world = World("payu")
    pay(world, MADE, "decline")
    assert pay(world, MADE)["status"] == "success"
    url, fields = open_page(world, MADE)
    assert b"Duplicate Order ID" in post(world, url, fields).body
    assert [row["status"] for row in world.truth()] == ["failed", "captured"]
    found = world.provider.fetch(world.account, KNOWN)
    assert isinstance(found, Charge)
    assert found.status is ChargeStatus.SUCCEEDED


def test_wrong_credentials_are_a_setting_at_the_postservice() -> None:
    world = World("payu")
    for credentials in ({"key": KEY, "salt": "wrong"}, {"key": "wrong", "salt": SALT}):
        outcome = world.provider.fetch(replace(world.account, credentials=credentials), KNOWN)
        assert isinstance(outcome, NotSent)
        assert outcome.error.error_class is ErrorClass.CONFIG


def test_the_postservice_speaks_every_command() -> None:
    world = World("payu")
    brought = pay(world, made(capture="manual", method={"type": "card"}))

    def ask(command: str, *variables: str) -> dict[str, object]:
        form = {"key": KEY, "command": command, **{f"var{n}": value for n, value in enumerate(variables, 1)}}
        signed = {**form, "hash": payu_wire.command_hash(SALT, KEY, command, variables[0])}
        answer = post(world, "/merchant/postservice.php?form=2", signed)
        assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=UTF-8")
        said: dict[str, object] = json.loads(answer.body)
        return said

    payuid = brought["mihpayid"]
    both = ask("verify_payment", f"{TXNID}|unknown")
    assert both["msg"] == "1 out of 2 Transactions Fetched Successfully"
    assert ask("check_payment", payuid)["status"] == 1
    assert ask("check_payment", "1")["status"] == 0
    assert ask("check_action_status", payuid, "payuid")["status"] == 0
    assert ask("capture_transaction", payuid, "t1", "1498.00")["error_code"] == 305
    assert ask("capture_transaction", payuid, "", "1499.00")["msg"] == "token is empty"
    assert ask("capture_transaction", payuid, "t1", "")["msg"] == "amount is empty"
    assert ask("capture_transaction", payuid, "t" * 24, "1499.00")["status"] == 0
    assert ask("capture_transaction", payuid, "t1", "1499.00")["msg"] == "Capture Request Queued"
    assert ask("capture_transaction", payuid, "t1", "1499.00")["error_code"] == 106
    assert ask("capture_transaction", payuid, "t2", "1499.00")["error_code"] == 111
    refunded = ask("cancel_refund_transaction", payuid, "r1", "500.00")
    assert (refunded["status"], refunded["error_code"], refunded["mihpayid"]) == (1, 102, int(payuid))
    assert ask("cancel_refund_transaction", payuid, "r1", "600.00")["error_code"] == 106
    assert ask("cancel_refund_transaction", payuid, "r2", "999.01")["error_code"] == 105
    assert ask("cancel_refund_transaction", payuid, "r2", "1.001")["error_code"] == 105
    assert ask("cancel_refund_transaction", "1", "r2", "1.00")["msg"] == "Invalid payuid"
    by_id = ask("check_action_status", str(refunded["request_id"]))["transaction_details"]
    assert isinstance(by_id, dict)
    assert by_id[refunded["request_id"]][refunded["request_id"]]["token"] == "r1"
    assert ask("get_settlement_details", "15-01-2027")["status"] == 0
    assert ask("nonsense", "1")["status"] == 0


def test_two_refunds_of_one_amount_within_five_minutes_can_be_refused() -> None:
    world = World("payu")
    world.chaos(same_amount_seconds=300)
    pay(world, MADE)
    first = world.provider.refund(world.account, KNOWN, 50_000, REFUND)
    again = world.provider.refund(world.account, KNOWN, 50_000, REFUND)
    second = world.provider.refund(world.account, KNOWN, 50_000, "rf_01K00000000000000000000901")
    assert isinstance(first, Effect)
    assert isinstance(again, Effect)
    assert again.provider_reference == first.provider_reference
    assert isinstance(second, Unknown)
    world.pass_time(301)
    later = world.provider.refund(world.account, KNOWN, 50_000, "rf_01K00000000000000000000901")
    assert isinstance(later, Effect)
    assert [row["refunded"] for row in world.truth()] == [100_000]


def test_refunds_are_told_with_our_key_and_found_by_what_is_told() -> None:
    world = World("payu")
    pay(world, MADE)
    world.events()
    world.provider.refund(world.account, KNOWN, 50_000, REFUND)
    world.root("POST", "/_dashboard/refund", provider="payu", reference=MADE.payment_id, amount=2_000)
    ours, theirs = world.events()
    assert [row["key"] for row in world.refunds()] == [REFUND, None]
    assert (ours.refund_key, theirs.refund_key) == (REFUND, None)
    for event, amount in ((ours, 50_000), (theirs, 2_000)):
        assert event.effect is not None
        found = world.provider.fetch_refund(
            world.account, KNOWN, event.refund_key or "", event.effect.provider_reference
        )
        assert isinstance(found, Effect)
        assert (found.status, found.amount, found.key) == (EffectStatus.SUCCEEDED, amount, event.refund_key)
        blind = world.provider.fetch_refund(world.account, KNOWN, "", event.effect.provider_reference)
        assert isinstance(blind, Effect)
        assert blind.key == event.refund_key  # PayU itself says whose it is, whatever the callback left out


def test_settlement_adds_up_to_what_the_book_says() -> None:
    world = World("payu")
    pay(world, MADE)
    world.provider.refund(world.account, KNOWN, 50_000, REFUND)
    lines = world.provider.settlement_lines(world.account, DAY)
    assert isinstance(lines, list)
    assert [(line.kind, line.amount, line.reference, line.refund_key) for line in lines] == [
        ("payment", AMOUNT, MADE.reference, None),
        ("refund", -50_000, MADE.reference, REFUND),
    ]
    assert (lines[0].fee, lines[0].tax) == (AMOUNT * 2 // 100, AMOUNT * 2 // 100 * 18 // 100)
    assert world.provider.settlement_lines(world.account, DAY + timedelta(days=1)) == []
