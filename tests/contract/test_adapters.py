"""Every adapter against the bank: what it says must be what the bank's own record shows."""

from __future__ import annotations

import re
from dataclasses import replace
from urllib.parse import parse_qsl, urlsplit

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
from chalicelib.providers.base import BadSignature
from chalicelib.providers.registry import NAMES
from infra.sandbox.wire import Request
from tests.contract.sandbox_world import AMOUNT, NOW, START, World, intent, ref

KEY = "rf_01K0000000000000000000KEY1"
OTHER_KEY = "rf_01K0000000000000000000KEY2"
LOST = ["timeout_before", "timeout_after", "slow", "technical", "technical_after", "html", "truncated"]
WITH_EFFECT = {"timeout_after", "technical_after", "html", "truncated"}
DECLINES = {
    "decline": (ErrorClass.DECLINED_ISSUER, ErrorCode.PAYMENT_DECLINED),
    "insufficient_funds": (ErrorClass.DECLINED_ISSUER, ErrorCode.INSUFFICIENT_FUNDS),
    "technical": (ErrorClass.TECHNICAL_DECLINE, ErrorCode.TECHNICAL_FAILURE),
}


@pytest.fixture(params=NAMES)
def world(request: pytest.FixtureRequest) -> World:
    return World(request.param)


# creating


@pytest.mark.parametrize(
    "method",
    [
        {"type": "upi", "flow": "collect", "vpa": "asha@okbank"},
        {"type": "upi", "flow": "collect", "vpa": "success@razorpay"},
        {"type": "netbanking", "bank": "HDFC"},
        {"type": "netbanking", "bank": "SIM_SUCCESS"},
        {"type": "wallet", "wallet": "SIM_SUCCESS"},
    ],
)
def test_a_plain_payment_is_captured_at_once(world: World, method: dict[str, str]) -> None:
    made = intent(method=method)
    charge = world.charge(made)
    assert (charge.status, charge.amount, charge.currency, charge.captured) == ("succeeded", AMOUNT, "INR", AMOUNT)
    assert charge.exchange is not None
    assert charge.exchange.http_status in (200, 201)
    assert [(row["reference"], row["status"], row["captured"]) for row in world.truth()] == [
        (made.reference, "captured", AMOUNT)
    ]
    for known in (ref(made), ref(made, charge)):
        found = world.provider.fetch(world.account, known)
        assert isinstance(found, Charge)
        assert (found.status, found.provider_reference) == (ChargeStatus.SUCCEEDED, charge.provider_reference)
    told = world.events()[-1]
    assert (told.kind, told.reference, told.provider_reference) == (
        EventKind.CHARGE, made.reference, charge.provider_reference,
    )  # fmt: skip
    assert told.charge is not None
    assert (told.charge.status, told.charge.amount, told.charge.currency) == (ChargeStatus.SUCCEEDED, AMOUNT, "INR")


@pytest.mark.parametrize("outcome", DECLINES)
@pytest.mark.parametrize("kind", ["upi", "netbanking", "wallet"])
def test_a_decline_is_definite_and_classified(world: World, outcome: str, kind: str) -> None:
    code = f"SIM_{outcome.upper()}"
    method = {
        "upi": {"type": "upi", "flow": "collect", "vpa": f"{outcome}@sim"},
        "netbanking": {"type": "netbanking", "bank": code},
        "wallet": {"type": "wallet", "wallet": code},
    }[kind]
    made = intent(method=method)
    charge = world.charge(made)
    found = world.provider.fetch(world.account, ref(made))
    assert isinstance(found, Charge)
    for said in (charge, found):
        assert said.status is ChargeStatus.DECLINED
        assert said.error is not None
        assert (said.error.error_class, said.error.code) == DECLINES[outcome]
    assert [row["status"] for row in world.truth()] == ["failed"]
    assert [event.charge.status for event in world.events() if event.charge] == [ChargeStatus.DECLINED]


def test_a_payment_that_the_provider_does_not_take_was_not_sent(world: World) -> None:
    outcome = world.provider.create(world.account, intent("not_accepted"))
    assert isinstance(outcome, NotSent)
    assert outcome.error.code is ErrorCode.NOT_ACCEPTED
    assert world.truth() == []


def test_a_refused_connection_was_not_sent(world: World) -> None:
    world.chaos(refuse_connections=1)
    outcome = world.provider.create(world.account, intent())
    assert isinstance(outcome, NotSent)
    assert outcome.error.error_class is ErrorClass.PROVIDER_UNAVAILABLE
    assert world.truth() == []
    assert world.charge(intent()).status is ChargeStatus.SUCCEEDED


def test_an_amount_above_the_limit_is_refused_for_good(world: World) -> None:
    world.bank.settings[world.name].max_amount = AMOUNT - 1
    charge = world.charge(intent())
    assert charge.status is ChargeStatus.DECLINED
    assert charge.error is not None
    assert charge.error.error_class is ErrorClass.INVALID_REQUEST
    assert world.truth() == []


def test_without_an_effect_a_time_out_is_unknown_and_the_look_up_finds_nothing(world: World) -> None:
    made = intent("timeout_before")
    assert isinstance(world.provider.create(world.account, made), Unknown)
    assert isinstance(world.provider.fetch(world.account, ref(made)), NotFound)
    world.pass_time(world.provider.capabilities.settle_window)
    assert world.truth() == []
    if world.provider.capabilities.idempotency_window:
        assert world.charge(made).status is ChargeStatus.SUCCEEDED
        assert len(world.truth()) == 1


def test_with_an_effect_a_time_out_is_unknown_and_nothing_charges_twice(world: World) -> None:
    made = intent("timeout_after")
    assert isinstance(world.provider.create(world.account, made), Unknown)
    found = world.provider.fetch(world.account, ref(made))
    assert isinstance(found, Charge)
    assert (found.status, found.captured) == (ChargeStatus.SUCCEEDED, AMOUNT)
    again = world.charge(made)
    assert (again.status, again.provider_reference) == (ChargeStatus.SUCCEEDED, found.provider_reference)
    assert len(world.truth()) == 1


def test_a_slow_charge_appears_within_the_settle_window_and_once(world: World) -> None:
    made = intent("slow_charge")
    assert isinstance(world.provider.create(world.account, made), Unknown)
    if world.provider.capabilities.idempotency_window:
        assert isinstance(world.provider.create(world.account, made), Unknown)  # still running: 409
    world.pass_time(19)
    assert isinstance(world.provider.fetch(world.account, ref(made)), NotFound)
    world.pass_time(2)
    assert world.provider.capabilities.settle_window > 21
    found = world.provider.fetch(world.account, ref(made))
    assert isinstance(found, Charge)
    assert found.status is ChargeStatus.SUCCEEDED
    assert world.charge(made).provider_reference == found.provider_reference
    assert len(world.truth()) == 1


@pytest.mark.parametrize(
    ("outcome", "status"),
    [("pending_success", ChargeStatus.SUCCEEDED), ("pending_failure", ChargeStatus.DECLINED)],
)
def test_a_pending_charge_is_decided_by_webhook(world: World, outcome: str, status: ChargeStatus) -> None:
    made = intent(outcome)
    charge = world.charge(made)
    assert charge.status is ChargeStatus.PENDING
    assert world.events(1.9) == []
    event = world.events()[-1]
    assert (event.reference, event.charge and event.charge.status) == (made.reference, status)
    found = world.provider.fetch(world.account, ref(made, charge))
    assert isinstance(found, Charge)
    assert found.status is status


def test_a_late_success_is_first_reported_failed(world: World) -> None:
    made = intent("late_success")
    charge = world.charge(made)
    assert charge.status is ChargeStatus.DECLINED
    assert [row["status"] for row in world.truth()] == ["failed"]
    world.events()
    event = world.events(5)[-1]
    assert (event.reference, event.provider_reference) == (made.reference, charge.provider_reference)
    assert event.charge is not None
    assert event.charge.status is ChargeStatus.SUCCEEDED
    assert [row["status"] for row in world.truth()] == ["captured"]


def test_a_upi_link_is_an_action_that_the_imagined_customer_takes(world: World) -> None:
    charge = world.charge(intent(method={"type": "upi", "flow": "intent"}))
    assert charge.status is ChargeStatus.ACTION_REQUIRED
    assert charge.next_action is not None
    assert charge.next_action["type"] == "upi_intent"
    assert str(charge.next_action["uri"]).startswith("upi://pay?")
    event = world.events(3)[-1]
    assert event.charge is not None
    assert event.charge.status is ChargeStatus.SUCCEEDED


# the hosted page


def _choose(world: World, url: object, choice: str) -> dict[str, str]:
    """Open the page, press a button, and return what the browser would carry back to us."""
    parts = urlsplit(str(url))
    shown = world.bank.handle(world.name, Request("GET", parts.path, {"host": parts.netloc}))
    assert shown.status == 200
    for label in (b"Approve", b"Decline", b"Cancel", b'lang="en"'):
        assert label in shown.body
    answer = world.bank.handle(
        world.name, Request("POST", parts.path, {"host": parts.netloc}, f"choice={choice}".encode())
    )
    if answer.status == 303:
        return dict(parse_qsl(urlsplit(answer.headers["location"]).query))
    fields = re.findall(r'name="([^"]+)" value="([^"]*)"', answer.body.decode())
    return dict(fields)


@pytest.mark.parametrize(
    ("choice", "status", "code"),
    [
        ("approve", ChargeStatus.SUCCEEDED, None),
        ("decline", ChargeStatus.DECLINED, ErrorCode.AUTHENTICATION_FAILED),
        ("cancel", ChargeStatus.DECLINED, ErrorCode.CUSTOMER_CANCELED),
    ],
)
def test_the_customer_decides_on_the_hosted_page(
    world: World, choice: str, status: ChargeStatus, code: ErrorCode | None
) -> None:
    made = intent("action", return_url="https://shop.example/back?order=7")
    charge = world.charge(made)
    assert charge.status is ChargeStatus.ACTION_REQUIRED
    assert charge.next_action is not None
    assert charge.next_action["type"] == "redirect"
    returned = _choose(world, charge.next_action["url"], choice)
    known = ref(made, charge)
    found = world.provider.fetch(world.account, known)
    assert isinstance(found, Charge)
    assert (found.status, found.error and found.error.code) == (status, code)
    if choice == "approve":
        world.provider.verify_return(world.account, known, returned)


def test_a_tampered_return_is_refused(world: World) -> None:
    made = intent("action", return_url="https://shop.example/back")
    charge = world.charge(made)
    assert charge.next_action is not None
    returned = _choose(world, charge.next_action["url"], "approve")
    known = ref(made, charge)
    world.provider.verify_return(world.account, known, returned)
    signature = "razorpay_signature" if "razorpay_signature" in returned else "signature"
    for name in {"razorpay_payment_id", "charge", "status", signature} & set(returned):
        with pytest.raises(BadSignature):
            world.provider.verify_return(world.account, known, {**returned, name: returned[name] + "x"})
        with pytest.raises(BadSignature):
            world.provider.verify_return(world.account, known, {k: v for k, v in returned.items() if k != name})
    for secretless in ({}, dict.fromkeys(world.account.credentials, "")):
        with pytest.raises(BadSignature):
            world.provider.verify_return(replace(world.account, credentials=secretless), known, returned)
    other = world.charge(intent("action", number=2, return_url="https://shop.example/back"))
    with pytest.raises(BadSignature):
        world.provider.verify_return(world.account, ref(intent("action", number=2), other), returned)
    with pytest.raises(BadSignature):
        world.provider.verify_return(world.account, known, {**returned, signature: "é" * 64})


# capture and void


def test_a_manual_payment_is_captured_later(world: World) -> None:
    made = intent(capture="manual")
    charge = world.charge(made)
    assert (charge.status, charge.captured) == (ChargeStatus.AUTHORIZED, 0)
    assert [row["status"] for row in world.truth()] == ["authorized"]
    effect = world.provider.capture(world.account, ref(made, charge), AMOUNT, "op_capture_0001")
    assert isinstance(effect, Effect)
    assert (effect.status, effect.amount, effect.currency) == (EffectStatus.SUCCEEDED, AMOUNT, "INR")
    again = world.provider.capture(world.account, ref(made, charge), AMOUNT, "op_capture_0001")
    assert isinstance(again, Effect)
    assert again.status is EffectStatus.SUCCEEDED
    assert [(row["status"], row["captured"]) for row in world.truth()] == [("captured", AMOUNT)]
    told = [event.charge.status for event in world.events() if event.charge]
    assert told == [ChargeStatus.AUTHORIZED, ChargeStatus.SUCCEEDED]


def test_a_capture_knows_the_charge_by_our_reference_alone(world: World) -> None:
    made = intent(capture="manual")
    world.charge(made)
    effect = world.provider.capture(world.account, ref(made), AMOUNT, "op_capture_0001")
    assert isinstance(effect, Effect)
    assert effect.status is EffectStatus.SUCCEEDED


def test_a_partial_capture_releases_the_rest_or_is_refused(world: World) -> None:
    made = intent(capture="manual")
    known = ref(made, world.charge(made))
    effect = world.provider.capture(world.account, known, AMOUNT - 100, "op_capture_0001")
    assert isinstance(effect, Effect)
    if world.provider.capabilities.partial_capture:
        assert (effect.status, effect.amount) == (EffectStatus.SUCCEEDED, AMOUNT - 100)
        assert [(row["status"], row["captured"]) for row in world.truth()] == [("captured", AMOUNT - 100)]
    else:
        assert effect.status is EffectStatus.FAILED
        assert [row["status"] for row in world.truth()] == ["authorized"]


@pytest.mark.parametrize("amount", [AMOUNT + 1, AMOUNT * 10])
def test_an_over_capture_fails(world: World, amount: int) -> None:
    made = intent(capture="manual")
    effect = world.provider.capture(world.account, ref(made, world.charge(made)), amount, "op_capture_0001")
    assert isinstance(effect, Effect)
    assert effect.status is EffectStatus.FAILED
    assert [row["status"] for row in world.truth()] == ["authorized"]


@pytest.mark.parametrize("outcome", ["decline", "pending_success"])
def test_a_charge_that_is_not_authorized_cannot_be_captured(world: World, outcome: str) -> None:
    made = intent(outcome, capture="manual")
    effect = world.provider.capture(world.account, ref(made, world.charge(made)), AMOUNT, "op_capture_0001")
    assert isinstance(effect, Effect)
    assert effect.status is EffectStatus.FAILED
    assert effect.error is not None


@pytest.mark.parametrize("fault", LOST)
def test_a_lost_capture_is_unknown_and_a_repeat_captures_once(world: World, fault: str) -> None:
    made = intent(capture="manual")
    known = ref(made, world.charge(made))
    world.chaos(operation="capture", fault=fault)
    assert isinstance(world.provider.capture(world.account, known, AMOUNT, "op_capture_0001"), Unknown)
    found = world.provider.fetch(world.account, known)
    assert isinstance(found, Charge)
    assert found.status is (ChargeStatus.SUCCEEDED if fault in WITH_EFFECT else ChargeStatus.AUTHORIZED)
    world.pass_time(21)
    effect = world.provider.capture(world.account, known, AMOUNT, "op_capture_0001")
    assert isinstance(effect, Effect)
    assert effect.status is EffectStatus.SUCCEEDED
    assert [(row["status"], row["captured"]) for row in world.truth()] == [("captured", AMOUNT)]


def test_a_void_releases_the_authorization(world: World) -> None:
    made = intent(capture="manual")
    known = ref(made, world.charge(made))
    world.events()
    before = len(world.http.calls)
    effect = world.provider.void(world.account, known, "op_void_00000001")
    assert isinstance(effect, Effect)
    if world.provider.capabilities.void == "lapse":
        assert effect.status is EffectStatus.PENDING
        assert len(world.http.calls) == before
        world.pass_time(world.provider.capabilities.authorization_window + 1)
    else:
        assert effect.status is EffectStatus.SUCCEEDED
        again = world.provider.void(world.account, known, "op_void_00000001")
        assert isinstance(again, Effect)
        assert again.status is EffectStatus.SUCCEEDED
    found = world.provider.fetch(world.account, known)
    assert isinstance(found, Charge)
    assert (found.status, found.captured, found.refunded) == (ChargeStatus.CANCELED, 0, 0)
    assert [row["status"] for row in world.truth()] == ["voided"]
    event = world.events()[-1]
    assert (event.kind, event.reference, event.charge and event.charge.status) == (
        EventKind.CHARGE, made.reference, ChargeStatus.CANCELED,
    )  # fmt: skip
    late = world.provider.capture(world.account, known, AMOUNT, "op_capture_0001")
    assert isinstance(late, Effect)
    assert late.status is EffectStatus.FAILED


def test_a_captured_charge_cannot_be_voided(world: World) -> None:
    made = intent()
    effect = world.provider.void(world.account, ref(made, world.charge(made)), "op_void_00000001")
    assert isinstance(effect, Effect)
    assert effect.status is (
        EffectStatus.PENDING if world.provider.capabilities.void == "lapse" else EffectStatus.FAILED
    )
    assert [row["status"] for row in world.truth()] == ["captured"]


def test_a_capture_in_the_providers_dashboard_is_told(world: World) -> None:
    made = intent(capture="manual")
    known = ref(made, world.charge(made))
    world.events()
    assert world.root("POST", "/_dashboard/capture", provider=world.name, reference=made.reference).status == 200
    event = world.events()[-1]
    assert event.charge is not None
    assert (event.charge.status, event.charge.captured) == (ChargeStatus.SUCCEEDED, AMOUNT)
    effect = world.provider.capture(world.account, known, AMOUNT, "op_capture_0001")
    assert isinstance(effect, Effect)
    assert effect.status is EffectStatus.SUCCEEDED


# refunds


def test_partial_refunds_add_up_and_stop_at_what_was_captured(world: World) -> None:
    made = intent()
    known = ref(made, world.charge(made))
    first = world.provider.refund(world.account, known, 50_000, KEY)
    second = world.provider.refund(world.account, known, AMOUNT - 50_000, OTHER_KEY)
    for effect, amount in ((first, 50_000), (second, AMOUNT - 50_000)):
        assert isinstance(effect, Effect)
        assert (effect.status, effect.amount, effect.currency) == (EffectStatus.SUCCEEDED, amount, "INR")
    third = world.provider.refund(world.account, known, 100, "rf_01K0000000000000000000KEY3")
    assert isinstance(third, Effect)
    assert third.status is EffectStatus.FAILED
    assert third.error is not None
    assert third.error.error_class is ErrorClass.CONFLICT
    assert [(row["status"], row["refunded"]) for row in world.truth()] == [("refunded", AMOUNT)]
    found = world.provider.fetch(world.account, known)
    assert isinstance(found, Charge)
    assert (found.status, found.captured, found.refunded) == (ChargeStatus.SUCCEEDED, AMOUNT, AMOUNT)
    told = [event for event in world.events() if event.kind is EventKind.REFUND and event.effect]
    assert [(e.refund_key, e.effect.amount) for e in told if e.effect and e.effect.status == "succeeded"] == [
        (KEY, 50_000),
        (OTHER_KEY, AMOUNT - 50_000),
    ]
    assert {event.reference for event in told} == {made.reference}


def test_a_repeated_refund_is_the_first_one_even_with_another_amount(world: World) -> None:
    made = intent()
    known = ref(made, world.charge(made))
    first = world.provider.refund(world.account, known, 50_000, KEY)
    assert isinstance(first, Effect)
    for amount in (50_000, 60_000):
        again = world.provider.refund(world.account, known, amount, KEY)
        assert isinstance(again, Effect)
        assert (again.provider_reference, again.amount) == (first.provider_reference, 50_000)
    assert [row["refunded"] for row in world.truth()] == [50_000]


def test_a_refund_is_found_by_key_and_by_reference(world: World) -> None:
    made = intent()
    charge = world.charge(made)
    assert isinstance(world.provider.fetch_refund(world.account, ref(made, charge), KEY, None), NotFound)
    effect = world.provider.refund(world.account, ref(made, charge), 50_000, KEY)
    assert isinstance(effect, Effect)
    for known in (ref(made, charge), ref(made)):
        for reference in (None, effect.provider_reference):
            found = world.provider.fetch_refund(world.account, known, KEY, reference)
            assert isinstance(found, Effect)
            assert (found.provider_reference, found.amount) == (effect.provider_reference, 50_000)
    assert isinstance(world.provider.fetch_refund(world.account, ref(made, charge), KEY, "rfnd_none"), NotFound)
    assert isinstance(world.provider.fetch_refund(world.account, ref(intent(number=9)), OTHER_KEY, None), NotFound)


@pytest.mark.parametrize("fault", LOST)
def test_a_lost_refund_is_unknown_and_a_repeat_refunds_once(world: World, fault: str) -> None:
    made = intent()
    known = ref(made, world.charge(made))
    world.chaos(operation="refund", fault=fault)
    assert isinstance(world.provider.refund(world.account, known, 50_000, KEY), Unknown)
    found = world.provider.fetch_refund(world.account, known, KEY, None)
    assert isinstance(found, Effect if fault in WITH_EFFECT else NotFound)
    if fault == "slow":
        assert isinstance(world.provider.refund(world.account, known, 50_000, KEY), Unknown)
    world.pass_time(21)
    effect = world.provider.refund(world.account, known, 50_000, KEY)
    assert isinstance(effect, Effect)
    assert (effect.status, effect.amount) == (EffectStatus.SUCCEEDED, 50_000)
    assert [row["refunded"] for row in world.truth()] == [50_000]
    assert len(world.refunds()) == 1


@pytest.mark.parametrize(
    ("fault", "status"), [("pending", EffectStatus.SUCCEEDED), ("pending_failure", EffectStatus.FAILED)]
)
def test_a_pending_refund_is_decided_by_webhook(world: World, fault: str, status: EffectStatus) -> None:
    made = intent()
    known = ref(made, world.charge(made))
    world.chaos(operation="refund", fault=fault)
    effect = world.provider.refund(world.account, known, 50_000, KEY)
    assert isinstance(effect, Effect)
    assert effect.status is EffectStatus.PENDING
    over = world.provider.refund(world.account, known, AMOUNT - 49_999, OTHER_KEY)
    assert isinstance(over, Effect)
    assert over.status is EffectStatus.FAILED  # a refund on its way counts
    event = world.events(3)[-1]
    assert (event.kind, event.refund_key, event.effect and event.effect.status) == (EventKind.REFUND, KEY, status)
    assert [row["refunded"] for row in world.truth()] == [50_000 if status is EffectStatus.SUCCEEDED else 0]


def test_a_refused_refund_is_definite(world: World) -> None:
    made = intent()
    known = ref(made, world.charge(made))
    world.chaos(operation="refund", fault="decline")
    effect = world.provider.refund(world.account, known, 50_000, KEY)
    assert isinstance(effect, Effect)
    assert effect.status is EffectStatus.FAILED
    assert effect.error is not None
    assert effect.error.error_class is ErrorClass.TECHNICAL_DECLINE
    assert world.refunds() == []


@pytest.mark.parametrize("outcome", ["decline", "success"])
def test_what_was_not_captured_cannot_be_refunded(world: World, outcome: str) -> None:
    made = intent(outcome, capture="manual")
    effect = world.provider.refund(world.account, ref(made, world.charge(made)), 100, KEY)
    assert isinstance(effect, Effect)
    assert effect.status is EffectStatus.FAILED


def test_a_refund_in_the_providers_dashboard_is_told_without_a_key(world: World) -> None:
    made = intent()
    charge = world.charge(made)
    world.events()
    body = {"provider": world.name, "reference": made.payment_id, "amount": 2_000}
    assert world.root("POST", "/_dashboard/refund", **body).status == 200
    event = world.events()[-1]
    assert event.kind is EventKind.REFUND
    assert (event.reference, event.provider_reference) == (made.reference, charge.provider_reference)
    assert event.refund_key is None
    assert event.effect is not None
    assert (event.effect.status, event.effect.amount) == (EffectStatus.SUCCEEDED, 2_000)


def test_a_refund_may_come_back(world: World) -> None:
    made = intent()
    known = ref(made, world.charge(made))
    world.provider.refund(world.account, known, 2_000, KEY)
    world.events()
    body = {"provider": world.name, "reference": made.reference}
    assert world.root("POST", "/_dashboard/return_refund", **body).status == 200
    event = world.events()[-1]
    # Razorpay has no word for it: a processed refund becomes a failed one.
    expected = EffectStatus.RETURNED if world.name == "simulator" else EffectStatus.FAILED
    assert (event.refund_key, event.effect and event.effect.status) == (KEY, expected)
    found = world.provider.fetch_refund(world.account, known, KEY, None)
    assert isinstance(found, Effect)
    assert found.status is expected
    assert [(row["status"], row["refunded"]) for row in world.truth()] == [("captured", 0)]


# faults on the wire


@pytest.mark.parametrize("fault", LOST)
def test_a_lost_create_is_unknown_and_never_charged_twice(world: World, fault: str) -> None:
    world.chaos(operation="create", fault=fault)
    made = intent()
    assert isinstance(world.provider.create(world.account, made), Unknown)
    world.pass_time(21)
    found = world.provider.fetch(world.account, ref(made))
    assert isinstance(found, Charge if fault in WITH_EFFECT | {"slow"} else NotFound)
    assert len(world.truth()) == (1 if isinstance(found, Charge) else 0)


@pytest.mark.parametrize("fault", [*LOST, "rate_limited"])
def test_a_failed_look_up_says_nothing(world: World, fault: str) -> None:
    made = intent()
    charge = world.charge(made)
    for known in (ref(made), ref(made, charge)):
        world.chaos(operation="fetch", fault=fault)
        found = world.provider.fetch(world.account, known)
        assert isinstance(found, NotSent if fault == "rate_limited" else Unknown)
    world.chaos(operation="fetch_refund", fault=fault)
    found_refund = world.provider.fetch_refund(world.account, ref(made, charge), KEY, None)
    assert isinstance(found_refund, NotSent if fault == "rate_limited" else Unknown)


def test_too_many_requests_were_not_sent_and_say_when_to_come_back(world: World) -> None:
    manual = intent(capture="manual", number=2)
    authorized = ref(manual, world.charge(manual))
    captured = intent(number=3)
    paid = ref(captured, world.charge(captured))
    for operation in ("create", "capture", "refund"):
        world.chaos(operation=operation, fault="rate_limited")
    for outcome in (
        world.provider.create(world.account, intent()),
        world.provider.capture(world.account, authorized, AMOUNT, "op_capture_0001"),
        world.provider.refund(world.account, paid, 100, KEY),
    ):
        assert isinstance(outcome, NotSent)
        assert (outcome.error.error_class, outcome.retry_after) == (ErrorClass.RATE_LIMITED, 1.0)
    assert [row["status"] for row in world.truth()] == ["authorized", "captured"]


def test_an_amount_that_is_not_ours_is_passed_on(world: World) -> None:
    world.chaos(operation="create", fault="wrong_amount")
    made = intent()
    charge = world.charge(made)
    assert charge.amount == AMOUNT + 100
    event = world.events()[-1]
    assert event.charge is not None
    assert event.charge.amount == AMOUNT + 100
    fine = intent(number=2)
    paid = world.charge(fine)
    world.chaos(operation="fetch", fault="wrong_amount")
    found = world.provider.fetch(world.account, ref(fine, paid))
    assert isinstance(found, Charge)
    assert found.amount == AMOUNT + 100
    world.chaos(operation="refund", fault="wrong_amount")
    effect = world.provider.refund(world.account, ref(fine, paid), 1_000, KEY)
    assert isinstance(effect, Effect)
    assert effect.amount == 1_100


def test_wrong_credentials_are_a_setting_and_nothing_was_sent(world: World) -> None:
    made = intent(capture="manual")
    known = ref(made, world.charge(made))
    wrong = replace(world.account, credentials=dict.fromkeys(world.account.credentials, "wrong"))
    for outcome in (
        world.provider.create(wrong, intent(number=2)),
        world.provider.fetch(wrong, known),
        world.provider.capture(wrong, known, AMOUNT, "op_capture_0001"),
        world.provider.refund(wrong, known, 100, KEY),
        world.provider.fetch_refund(wrong, known, KEY, None),
    ):
        assert isinstance(outcome, NotSent)
        assert outcome.error.error_class is ErrorClass.CONFIG
    assert [row["status"] for row in world.truth()] == ["authorized"]


def test_a_shut_door_leaves_every_call_not_sent(world: World) -> None:
    made = intent(capture="manual")
    known = ref(made, world.charge(made))
    world.chaos(refuse_connections=100)
    for outcome in (
        world.provider.create(world.account, intent(number=2)),
        world.provider.fetch(world.account, known),
        world.provider.capture(world.account, known, AMOUNT, "op_capture_0001"),
        world.provider.capture(world.account, ref(made), AMOUNT, "op_capture_0001"),
        world.provider.refund(world.account, known, 100, KEY),
        world.provider.fetch_refund(world.account, known, KEY, None),
        world.provider.fetch_refund(world.account, ref(made), KEY, None),
    ):
        assert isinstance(outcome, NotSent)


def test_secrets_stay_out_of_everything_that_can_be_printed(world: World) -> None:
    made = intent()
    world.chaos(operation="create", fault="truncated")
    said = [
        world.provider.create(world.account, made),
        world.provider.fetch(world.account, ref(made)),
        world.account,
        world.provider,
    ]
    for secret in (*world.account.credentials.values(), *world.account.webhook_secrets):
        if not secret.startswith("acc_"):
            assert secret not in repr(said)


# webhooks


def _webhook(world: World) -> tuple[dict[str, str], bytes]:
    world.charge(intent())
    world.clock.now += 1
    webhook = world.bank.take_webhooks(world.clock.now)[-1]
    return dict(webhook.headers), webhook.body


def _signature(world: World) -> str:
    return f"x-{world.name}-signature"


def test_a_webhook_is_accepted_under_every_active_secret(world: World) -> None:
    headers, body = _webhook(world)
    secret = world.account.webhook_secrets[0]
    for secrets in ([secret], ["older", secret], [secret, "newer"], ["", secret]):
        account = replace(world.account, webhook_secrets=secrets)
        event = world.provider.parse_webhook(account, headers, body, NOW)
        assert event.dedupe_key == headers[f"x-{world.name}-event-id"]


@pytest.mark.parametrize("secrets", [[], [""], ["", ""], ["wrong"]])
def test_a_webhook_is_refused_without_the_right_secret(world: World, secrets: list[str]) -> None:
    headers, body = _webhook(world)
    account = replace(world.account, webhook_secrets=secrets)
    with pytest.raises(BadSignature):
        world.provider.parse_webhook(account, headers, body, NOW)


def test_an_empty_secret_never_matches_its_own_signature(world: World) -> None:
    headers, body = _webhook(world)
    signer = world.bank.personality(world.name)
    _, forged = signer.sign("", body, "evt_forged", START)
    for secrets in ([], [""]):
        with pytest.raises(BadSignature):
            world.provider.parse_webhook(
                replace(world.account, webhook_secrets=secrets), {**headers, **forged}, body, NOW
            )


@pytest.mark.parametrize(
    "signature",
    [None, "", "0" * 64, "é" * 64, "\udcff" * 64, "A" * 10_000, "\x00"],
    ids=["missing", "empty", "wrong", "non-ascii", "surrogate", "long", "nul"],
)
def test_a_wrong_signature_is_refused(world: World, signature: str | None) -> None:
    headers, body = _webhook(world)
    headers.pop(_signature(world))
    if signature is not None:
        headers[_signature(world)] = signature
    with pytest.raises(BadSignature):
        world.provider.parse_webhook(world.account, headers, body, NOW)


def test_an_altered_signature_or_body_is_refused(world: World) -> None:
    headers, body = _webhook(world)
    good = headers[_signature(world)]
    for signature in (good.upper(), good[:-1], good + "0", f" {good}", "".join(reversed(good))):
        with pytest.raises(BadSignature):
            world.provider.parse_webhook(world.account, {**headers, _signature(world): signature}, body, NOW)
    for altered in (body + b" ", body.replace(b"INR", b"USD"), b"", b"\xff\xfe", body[:-1]):
        with pytest.raises(BadSignature):
            world.provider.parse_webhook(world.account, headers, altered, NOW)


@pytest.mark.parametrize(
    "body",
    [b"", b"null", b"[]", b"\xff\xfe", b"{", b'"text"', b'{"event": 7, "type": 7}', b"[" * 100_000, b'{"a": NaN}'],
    ids=["empty", "null", "list", "not-utf-8", "broken", "text", "odd", "deep", "nan"],
)
def test_a_signed_body_that_makes_no_sense_is_ignored(world: World, body: bytes) -> None:
    signer = world.bank.personality(world.name)
    body, headers = signer.sign(world.account.webhook_secrets[0], body, "evt_odd", START)
    event = world.provider.parse_webhook(world.account, headers, body, NOW)
    assert (event.kind, event.dedupe_key, event.charge, event.effect) == (EventKind.IGNORED, "evt_odd", None, None)


def test_without_an_event_id_the_same_body_is_the_same_event(world: World) -> None:
    headers, body = _webhook(world)
    headers.pop(f"x-{world.name}-event-id")
    keys = {world.provider.parse_webhook(world.account, headers, body, NOW).dedupe_key for _ in range(2)}
    assert len(keys) == 1
    assert keys.pop().startswith("sha256:")


def test_an_event_of_another_account_is_refused(world: World) -> None:
    headers, body = _webhook(world)
    theirs = replace(world.account, credentials={**world.account.credentials, "account_id": "acc_other"})
    with pytest.raises(BadSignature):
        world.provider.parse_webhook(theirs, headers, body, NOW)


def test_webhooks_can_be_doubled_dropped_reordered_and_badly_signed(world: World) -> None:
    world.chaos(webhooks={"duplicate_rate": 1.0})
    world.charge(intent())
    doubled = [event.dedupe_key for event in world.events()]
    assert len(doubled) == 2 * len(set(doubled))
    world.chaos(webhooks={"duplicate_rate": 0, "drop_rate": 1.0})
    world.charge(intent(number=2))
    assert world.events(60) == []
    world.chaos(webhooks={"drop_rate": 0, "reorder": 1.0})
    world.charge(intent(number=3))
    world.chaos(webhooks={"reorder": 0})
    world.charge(intent(number=4))
    order = [event.reference for event in world.events(5)]
    assert order.index(intent(number=4).reference) < order.index(intent(number=3).reference)
    world.chaos(webhooks={"bad_signature_rate": 1.0})
    world.charge(intent(number=5))
    world.clock.now += 1
    forged = world.bank.take_webhooks(world.clock.now)
    assert forged
    for webhook in forged:
        with pytest.raises(BadSignature):
            world.provider.parse_webhook(world.account, webhook.headers, webhook.body, NOW)
        world.bank.webhook_failed(webhook, world.clock.now)
    world.chaos(webhooks={"bad_signature_rate": 0})
    assert {event.reference for event in world.events(2)} == {intent(number=5).reference}
