"""The sandbox bank's side of Cashfree's wire: what it checks, replays and ends."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from chalicelib.domain.outcome import (
    ChargeStatus,
    EffectStatus,
)
from infra.sandbox.cashfree import fail
from infra.sandbox.wire import Request
from tests.contract.cashfree_script import (
    effect,
)
from tests.contract.sandbox_world import NOW, World, intent, ref

MANUAL = intent(capture="manual")
BUSY = fail(429)


def ask(world: World, method: str, path: str, body: object = None, **headers: str) -> tuple[int, dict[str, object]]:
    """A request in Cashfree's format; its status and object."""
    credentials = world.account.credentials
    sent = {"x-client-id": credentials["client_id"], "x-client-secret": credentials["client_secret"],
            "x-api-version": "2025-01-01", **{name.replace("_", "-"): value for name, value in headers.items()}}  # fmt: skip
    response = world.bank.handle("cashfree", Request(method, f"/pg{path}", sent, json.dumps(body or {}).encode()))
    value = json.loads(response.body)
    replayed = response.headers.get("x-idempotency-replayed")
    return response.status, {**(value if isinstance(value, dict) else {"items": value}), "replayed": replayed}


def good_order(**more: object) -> dict[str, object]:
    return {
        "order_id": "order_1", "order_amount": 1499.00, "order_currency": "INR",
        "customer_details": {"customer_id": "cust_1", "customer_phone": "9800000000"}, **more,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"order_id": "a b"}, "order_id_invalid"),
        ({"order_id": "x" * 46}, "order_id_invalid"),
        ({"order_amount": 0.99}, "order_amount_invalid"),
        ({"order_amount": 10.001}, "order_amount_invalid"),
        ({"order_amount": "1499"}, "order_amount_invalid"),
        ({"order_currency": "USD"}, "order_amount_invalid"),
        ({"customer_details": {"customer_phone": "9800000000"}}, "customer_id_invalid"),
        ({"customer_details": {"customer_id": "cust_1", "customer_phone": "+91"}}, "customer_phone_invalid"),
        ({"order_note": "ab"}, "order_note_invalid"),
        ({"order_tags": {"a": "x" * 256}}, "order_tags_invalid"),
        ({"order_meta": {"return_url": "https://x/" + "y" * 250}}, "order_meta_invalid"),
        ({"order_expiry_time": (NOW + timedelta(minutes=15)).isoformat()}, "order_expiry_time_invalid"),
        ({"order_expiry_time": "tomorrow"}, "order_expiry_time_invalid"),
    ],
)
def test_the_sandbox_checks_an_order_as_cashfree_does(more: dict[str, object], code: str) -> None:
    world = World("cashfree")
    status, told = ask(world, "POST", "/orders", good_order(**more))
    assert (status, told["code"], told["type"]) == (400, code, "invalid_request_error")
    assert set(told) == {"message", "code", "type", "replayed"}
    assert ask(world, "GET", "/orders/order_1")[0] == 404


def test_the_sandbox_knows_its_merchant_and_its_version() -> None:
    world = World("cashfree")
    for wrong in ({"x_client_id": "x"}, {"x_client_secret": "x"}):
        status, told = ask(world, "GET", "/orders/order_1", **wrong)
        assert (status, told["type"]) == (401, "authentication_error")
    status, told = ask(world, "GET", "/orders/order_1", x_api_version="")
    assert (status, told["code"]) == (400, "version_missing")
    assert (BUSY.status, BUSY.headers["x-ratelimit-retry"]) == (429, "1")


def test_the_sandbox_replays_what_bears_the_same_key() -> None:
    world = World("cashfree")
    first = ask(world, "POST", "/orders", good_order(), x_idempotency_key="k")
    again = ask(world, "POST", "/orders", good_order(), x_idempotency_key="k")
    assert first == (200, {**again[1], "replayed": "false"})
    assert again[1]["replayed"] == "true"
    status, told = ask(world, "POST", "/orders", good_order(order_amount=1), x_idempotency_key="k")
    assert (status, told["type"]) == (422, "idempotency_error")
    status, told = ask(world, "POST", "/orders", good_order())
    assert (status, told["code"]) == (409, "order_already_exists")


def test_an_order_that_has_ended_cannot_be_paid() -> None:
    world = World("cashfree")
    made = intent("action")
    said = world.charge(made)
    assert effect(world.provider.void(world.account, ref(made, said), "att_1")).status is EffectStatus.SUCCEEDED
    assert world.look_up(ref(made, said)) is ChargeStatus.CANCELED
    assert world.events() == []
    assert said.next_action is not None
    shown = world.browser.get(str(said.next_action["url"]))
    assert getattr(shown, "choices", None) == frozenset()
    card = replace(intent(number=2), method={"type": "card"})
    waiting = world.charge(card)
    assert effect(world.provider.void(world.account, ref(card, waiting), "att_2")).status is EffectStatus.SUCCEEDED
    params = (waiting.next_action or {})["params"]
    assert isinstance(params, dict)
    page = f"/pg/view/sessions/checkout?payment_session_id={params['payment_session_id']}"
    assert world.bank.handle("cashfree", Request("GET", page, {})).status == 409


def test_an_order_that_is_being_paid_ends_when_that_is_over() -> None:
    world = World("cashfree")
    made = intent("pending_success")
    said = world.charge(made)
    assert effect(world.provider.void(world.account, ref(made, said), "op_1")).status is EffectStatus.PENDING
    world.pass_time(3)
    late = effect(world.provider.void(world.account, ref(made, said), "op_1"))
    assert late.status is EffectStatus.FAILED  # the customer was faster
    assert [row["status"] for row in world.truth()] == ["captured"]


def test_the_hold_of_a_manual_payment_can_be_released_and_is_told() -> None:
    world = World("cashfree")
    said = world.charge(MANUAL)
    world.events()
    assert effect(world.provider.void(world.account, ref(MANUAL, said), "op_1")).status is EffectStatus.SUCCEEDED
    (told,) = world.events()
    assert (told.type, told.charge and told.charge.status) == ("AUTO_REFUND_STATUS_WEBHOOK", ChargeStatus.CANCELED)
