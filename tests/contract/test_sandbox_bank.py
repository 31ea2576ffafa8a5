"""The bank itself: chance that repeats, settings that are checked, and a record that adds up."""

from __future__ import annotations

import json
from base64 import b64encode
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from chalicelib.domain.outcome import Charge, ChargeStatus, Effect, EffectStatus, NotFound, Unknown
from infra.sandbox import hosted, pages
from infra.sandbox.bank import Bank
from infra.sandbox.config import DEFAULT_FILE, ConfigError, load
from infra.sandbox.inprocess import InProcessHttpClient, base_url, make_bank
from infra.sandbox.records import Fault, Outcome, asked_outcome
from infra.sandbox.wire import Request
from tests.contract.sandbox_world import AMOUNT, NOW, Clock, World, account_of, intent, ref
from tests.support import marks

if TYPE_CHECKING:
    from pathlib import Path


def _statuses(seed: str) -> list[str]:
    world = World("simulator")
    world.bank = make_bank(world.clock, seed=seed)
    world.http.inner = InProcessHttpClient(world.bank)
    world.chaos(failure_rate=0.5)
    plain = {"type": "upi", "flow": "collect", "vpa": "asha@okbank"}
    return [world.charge(intent(number=n, method=plain)).status for n in range(40)]


def test_the_seed_decides_everything() -> None:
    first = _statuses("one")
    assert first == _statuses("one")
    assert first != _statuses("two")
    assert {ChargeStatus.SUCCEEDED, ChargeStatus.DECLINED} == set(first)


@pytest.mark.parametrize(("mode", "found"), [("before_effect", NotFound), ("after_effect", Charge)])
def test_time_outs_come_at_the_configured_rate(mode: str, found: type) -> None:
    world = World("simulator")
    world.chaos(timeout_rate=1.0, timeout_mode=mode)
    made = intent(method={"type": "netbanking", "bank": "HDFC"})
    assert isinstance(world.provider.create(world.account, made), Unknown)
    assert isinstance(world.provider.fetch(world.account, ref(made)), found)
    assert world.charge(made).status is ChargeStatus.SUCCEEDED  # once per key
    assert world.charge(intent(number=2)).status is ChargeStatus.SUCCEEDED  # an explicit outcome goes before rates


def test_rates_spare_who_asks_for_an_outcome() -> None:
    world = World("razorpay")
    world.chaos(failure_rate=1.0)
    assert world.charge(intent("success")).status is ChargeStatus.SUCCEEDED
    assert world.charge(intent(number=2, method={"type": "wallet", "wallet": "x"})).status is ChargeStatus.DECLINED


def test_every_outcome_can_be_asked_for_by_every_instrument() -> None:
    for outcome in Outcome:
        assert asked_outcome({"type": "upi", "vpa": f"{outcome}@sim"}) is outcome
        assert asked_outcome({"type": "netbanking", "bank": f"SIM_{outcome.upper()}"}) is outcome
        assert asked_outcome({"type": "wallet", "wallet": f"sim_{outcome}"}) is outcome
    for plain in ({"vpa": "asha@okbank"}, {"vpa": "nobody@sim"}, {"bank": "HDFC"}, {"bank": "SIM_"}, {}):
        assert asked_outcome({"type": "upi", **plain}) is None


def test_a_fault_can_be_kept_for_one_reference() -> None:
    world = World("razorpay")
    mine, other = intent(number=7), intent(number=8)
    world.chaos(operation="create", fault="technical", times=2, reference=mine.reference)
    assert world.charge(other).status is ChargeStatus.SUCCEEDED
    assert isinstance(world.provider.create(world.account, mine), Unknown)
    assert isinstance(world.provider.create(world.account, mine), Unknown)
    assert world.charge(mine).status is ChargeStatus.SUCCEEDED


@pytest.mark.parametrize(
    "body",
    [
        {"provider": "nobody"},
        {"provider": 7},
        {"unknown": 1},
        {"failure_rate": 1.1},
        {"failure_rate": "high"},
        {"timeout_mode": "sometimes"},
        {"fault": "meteor"},
        {"fault": "pending", "operation": "capture"},
        {"fault": "decline", "operation": "fetch"},
        {"fault": "slow", "operation": "dance"},
        {"operation": "create"},
        {"webhooks": {"speed": 1}},
        {"webhooks": {"drop_rate": 2}},
        {"latency_ms": {"max": -1}},
        {"refuse_connections": -1},
        {"per_second": -1},
        {"per_second": "many"},
    ],
)
def test_trouble_that_makes_no_sense_is_refused(body: dict[str, object]) -> None:
    world = World("simulator")
    assert world.root("POST", "/_chaos", **body).status == 400


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/_config", {"provider": "simulator", "webhook_url": "ftp://x"}, 400),
        ("/_config", {"provider": "simulator", "webhook_secret": 7}, 400),
        ("/_config", {"provider": "nobody"}, 400),
        ("/_dashboard/refund", {"provider": "simulator", "reference": "pay_nobody"}, 409),
        ("/_dashboard/refund", {"provider": "nobody", "reference": "pay_nobody"}, 400),
        ("/_dashboard/release", {"provider": "simulator", "reference": "pay_nobody"}, 409),
        ("/_nowhere", {}, 404),
    ],
)
def test_requests_to_the_root_are_checked(path: str, body: dict[str, object], status: int) -> None:
    assert World("simulator").root("POST", path, **body).status == status


def test_a_release_can_be_asked_for() -> None:
    world = World("razorpay")
    made = intent(capture="manual")
    world.charge(made)
    assert world.root("POST", "/_dashboard/release", provider="razorpay", reference=made.reference).status == 200
    assert [row["status"] for row in world.truth()] == ["voided"]


def test_a_customer_who_never_decides_is_given_up() -> None:
    world = World("simulator")
    made = intent("action")
    world.charge(made)
    world.pass_time(901)
    found = world.provider.fetch(world.account, ref(made))
    assert isinstance(found, Charge)
    assert found.status is ChargeStatus.DECLINED


def test_reset_forgets_everything_but_where_webhooks_go() -> None:
    world = World("simulator")
    world.root("POST", "/_config", provider="simulator", webhook_url="http://x.test/h", webhook_secret="s2")
    world.chaos(failure_rate=1.0, operation="create", fault="technical")
    assert world.root("POST", "/_reset").status == 200
    assert world.charge(intent(method={"type": "wallet", "wallet": "plain"})).status is ChargeStatus.SUCCEEDED
    settings = world.bank.settings["simulator"]
    assert (settings.webhook_url, settings.webhook_secret, settings.failure_rate) == ("http://x.test/h", "s2", 0.0)
    assert len(world.truth()) == 1


def test_two_providers_of_one_personality_are_two_worlds() -> None:
    world = World("simulator")
    made = intent()
    world.charge(made)
    other = account_of(world.bank, "simulator_b", base_url(world.bank, "simulator_b"))
    assert isinstance(world.provider.fetch(other, ref(made)), NotFound)
    assert isinstance(world.provider.create(other, made), Charge)
    assert [row["provider"] for row in world.truth()] == ["simulator", "simulator_b"]


def test_a_jumping_clock_lets_effects_happen_at_their_own_time() -> None:
    world = World("simulator")
    world.charge(intent("late_success"))
    world.charge(intent("pending_success", number=2))
    assert world.bank.next_due is not None
    world.clock.now += 3600
    found = world.provider.fetch(world.account, ref(intent("pending_success", number=2)))
    assert isinstance(found, Charge)
    assert found.status is ChargeStatus.SUCCEEDED
    told = [json.loads(webhook.body) for webhook in world.bank.take_webhooks(world.clock.now)]
    assert [row["created_at"] for row in told] == sorted(row["created_at"] for row in told)
    assert told[-1]["created_at"] == int(world.clock.now) - 3600 + 5


def test_what_is_given_back_twice_or_never_is_not_settled() -> None:
    world = World("simulator")
    paid = world.pay()
    world.give_back(paid.known, 1_000, "rf_01K0000000000000000000KEY1")
    assert [line.amount for line in world.bank.book.settlements("simulator", NOW.date())] == [AMOUNT, 1_000]
    body = {"provider": "simulator", "reference": paid.made.reference}
    assert world.root("POST", "/_dashboard/return_refund", **body).status == 200
    assert [line.amount for line in world.bank.book.settlements("simulator", NOW.date())] == [AMOUNT]


@pytest.mark.parametrize(
    ("typed", "method"),
    [
        ("", {}),
        (" asha@okbank ", {"type": "upi", "vpa": "asha@okbank"}),
        ("4242 4242 4242 4242", {"type": "card", "number": "4242424242424242"}),
        ("sim_decline", {"type": "netbanking", "bank": "SIM_DECLINE"}),
        ("123", {"type": "netbanking", "bank": "123"}),
    ],
)
def test_a_customer_may_type_any_instrument(typed: str, method: dict[str, str]) -> None:
    assert hosted.instrument_of(typed) == method


def test_a_page_shows_what_it_was_sent_and_runs_none_of_it() -> None:
    world = World("razorpay")
    evil = '"><script>alert(1)</script>'
    said = world.charge(world.intent("card", return_url=f"https://shop.example/{evil}"))
    page = world.open(said)
    assert "<script>" not in page.text
    assert page.fields["callback_url"] == f"https://shop.example/{evil}"
    assert "<script>alert" not in pages.message(evil, evil) + pages.choose(1, "INR", evil, evil, {evil: evil})


@pytest.mark.parametrize("outcome", ["action", "success", "insufficient_funds"])
def test_no_card_number_is_kept_of_a_test_card_that_was_named(outcome: str) -> None:
    world = World("stripe")
    world.charge(world.intent("card", outcome))
    assert "card" in repr(world.bank.memory())
    assert not [number for number in marks.CARD_NUMBERS if number in repr(world.bank.memory())]


def test_no_card_number_is_kept_of_what_was_typed_on_a_page() -> None:
    world = World("razorpay")
    said = world.charge(world.intent("card"))
    world.choose(said, "approve", "4100280000080001")
    assert "4100280000080001" not in repr(world.bank.memory())
    assert world.look(ref(world.intent("card"), said)).status is ChargeStatus.DECLINED


def test_truth_is_kept_by_reference() -> None:
    world = World("razorpay")
    for number in range(3):
        world.charge(intent(number=number))
    assert len(world.bank.truth(intent().payment_id)["charges"]) == 3
    assert [row["amount"] for row in world.bank.truth(intent(number=1).reference)["charges"]] == [AMOUNT]


def test_every_fault_is_documented_by_name() -> None:
    assert {fault.value for fault in Fault} >= {
        "timeout_before", "timeout_after", "slow", "technical", "rate_limited", "html", "truncated", "wrong_amount",
    }  # fmt: skip


# providers.json


def test_the_file_has_the_declared_shape() -> None:
    rows = json.loads(DEFAULT_FILE.read_text(encoding="utf-8"))
    for row in rows:
        assert {"id", "type", "timeoutMs", "failureRate", "latencyMs", "routingRules"} <= set(row)
        assert set(row["routingRules"]) == {"bins", "maxAmount"}
        assert set(row["latencyMs"]) == {"min", "max"}
    assert [settings.id for settings in load()] == [row["id"] for row in rows]


@pytest.mark.parametrize(
    "change",
    [
        {"port": "8101"},
        {"failureRate": 2},
        {"latencyMs": 5},
        {"routingRules": {}},
        {"credentials": None},
        {"events": 1},
    ],
)
def test_a_wrong_file_says_so(tmp_path: Path, change: dict[str, object]) -> None:
    rows = json.loads(DEFAULT_FILE.read_text(encoding="utf-8"))
    file = tmp_path / "providers.json"
    file.write_text(json.dumps([{**rows[0], **change}]), encoding="utf-8")
    with pytest.raises(ConfigError):
        load(file)
    file.write_text("{", encoding="utf-8")
    with pytest.raises(ConfigError):
        load(file)


def test_a_provider_takes_only_its_own_kind_of_instrument() -> None:
    world = World("simulator")
    upi_only = [replace(settings, type="UPI") for settings in load()]
    world.bank = make_bank(Clock(), upi_only)
    assert isinstance(world.bank, Bank)
    world.http.inner = InProcessHttpClient(world.bank)
    assert world.charge(intent()).status is ChargeStatus.SUCCEEDED
    refused = world.provider.create(world.account, intent(number=2, method={"type": "wallet", "wallet": "x"}))
    assert not isinstance(refused, Charge)


# the strictness of Razorpay's format, which our adapter never runs into


def _post(world: World, path: str, **body: object) -> tuple[int, dict[str, object]]:
    pair = f"{world.account.credentials['key_id']}:{world.account.credentials['key_secret']}"
    headers = {"authorization": "Basic " + b64encode(pair.encode()).decode(), "host": "x"}
    answer = world.bank.handle("razorpay", Request("POST", path, headers, json.dumps(body).encode()))
    return answer.status, json.loads(answer.body)


def test_a_paid_order_takes_no_further_payment() -> None:
    world = World("razorpay")
    order_id = world.charge(intent()).data["order_id"]
    sent = {"amount": AMOUNT, "currency": "INR", "order_id": order_id, "method": "upi", "upi": {"vpa": "success@sim"}}
    status, body = _post(world, "/v1/payments/create/upi", **sent)
    assert (status, body["error"]["reason"]) == (400, "order_already_paid")  # type: ignore[index]  # an error object
    status, body = _post(world, "/v1/payments/create/upi", **{**sent, "amount": 100})
    assert (status, body["error"]["reason"]) == (400, "payment_amount_tampered")  # type: ignore[index]  # likewise
    assert len(world.truth()) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"surprise": 1},
        {"amount": 99},
        {"amount": 1.5},
        {"amount": True},
        {"receipt": "r" * 41},
        {"notes": {"n": "x" * 257}},
        {"notes": {str(n): "x" for n in range(16)}},
        {"payment": {"capture": "maybe"}},
        {"payment": {"capture": "automatic"}},
    ],
)
def test_an_order_that_razorpay_would_refuse_is_refused(change: dict[str, object]) -> None:
    world = World("razorpay")
    fine: dict[str, object] = {"amount": 100, "currency": "INR", "receipt": "r"}
    assert _post(world, "/v1/orders", **fine)[0] == 200
    assert _post(world, "/v1/orders", **{**fine, **change})[0] == 400


@pytest.mark.parametrize("key", ["short", "with space in it", "ünïcode_key_1"])
def test_a_refund_key_has_at_least_ten_plain_characters(key: str) -> None:
    world = World("razorpay")
    made = intent()
    effect = world.provider.refund(world.account, ref(made, world.charge(made)), 100, key)
    assert not isinstance(effect, Effect) or effect.status is EffectStatus.FAILED
    assert world.refunds() == []
