"""What only Stripe's format can get wrong in a payment: keys and replays, statuses, codes, test cards, look-ups."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from chalicelib.domain.errors import ErrorClass, ErrorCode
from chalicelib.domain.outcome import Charge, ChargeStatus, NotSent, Unknown
from chalicelib.providers.http import UnknownError
from chalicelib.providers.stripe_errors import ERRORS
from chalicelib.providers.stripe_wire import STATUSES, TEST_CARDS, TEST_NETWORKS
from tests.contract.sandbox_world import AMOUNT, World, intent, ref
from tests.contract.stripe_script import (
    ACCOUNT,
    GET_INTENT,
    INTENT,
    KNOWN,
    LIST,
    LIVE,
    MADE,
    SEARCH,
    Said,
    Script,
    card,
    create,
    declined,
    error,
    intent_of,
    provider,
    rows,
)

if TYPE_CHECKING:
    from chalicelib.providers.base import Account, ChargeIntent

# what is sent


def test_one_call_makes_and_confirms_a_test_cards_intent() -> None:
    made = replace(card(), return_url="https://shop.example/back")
    outcome, script = create((200, intent_of("succeeded", amount_received=AMOUNT)), made=made)
    assert isinstance(outcome, Charge)
    assert (outcome.status, outcome.amount, outcome.currency, outcome.captured) == (
        ChargeStatus.SUCCEEDED, AMOUNT, "INR", AMOUNT,
    )  # fmt: skip
    assert (outcome.provider_reference, outcome.data) == (INTENT, {})
    (request,) = script.requests
    assert request.form == {
        "amount": str(AMOUNT),
        "currency": "inr",
        "capture_method": "automatic",
        "payment_method_types[0]": "card",
        "metadata[reference]": MADE.reference,
        "metadata[payment_id]": MADE.payment_id,
        "description": "Two books",
        "confirm": "true",
        "payment_method": "pm_card_visa",
        "return_url": "https://shop.example/back",
    }
    assert request.headers["authorization"] == "Bearer sk_test_k"
    assert request.headers["stripe-version"] == "2026-10-28.endive"
    assert request.headers["idempotency-key"] == MADE.reference


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ({"type": "upi", "flow": "collect", "vpa": "asha@okbank"}, "asha@okbank"),
        ({"type": "upi", "flow": "collect"}, None),
        ({"type": "upi", "flow": "intent"}, None),
        ({"type": "upi", "flow": "intent", "vpa": "asha@okbank"}, None),
    ],
)
def test_upi_goes_as_data_of_the_method(method: dict[str, str], expected: str | None) -> None:
    _, script = create((200, intent_of("processing")), made=intent(method=method))
    form = script.requests[0].form
    assert (form["payment_method_types[0]"], form["payment_method_data[type]"], form["confirm"]) == (
        "upi",
        "upi",
        "true",
    )
    assert form.get("payment_method_data[upi][vpa]") == expected


def test_nothing_of_the_customer_is_sent_that_stripe_does_not_need() -> None:
    _, script = create((200, intent_of("succeeded")))
    assert not {"Asha Rao", "asha@example.com", "+919800000000"} & set(script.requests[0].form.values())


def test_the_capture_method_is_said_and_not_left_to_the_account() -> None:
    for made in (replace(card(), capture="automatic"), replace(card(), capture="manual")):
        _, script = create((200, intent_of("requires_capture")), made=made)
        assert script.requests[0].form["capture_method"] == made.capture


@pytest.mark.parametrize("ends", TEST_CARDS)
def test_a_test_card_is_charged_by_stripes_own_test_method(ends: tuple[str, str]) -> None:
    _, script = create((200, intent_of("succeeded")), made=card(*ends))
    assert script.requests[0].form["payment_method"] == TEST_CARDS[ends]
    world = World("stripe")
    assert isinstance(world.provider.create(world.account, card(*ends)), Charge)  # the sandbox knows it too


@pytest.mark.parametrize("network", TEST_NETWORKS)
def test_any_other_test_card_is_charged_by_its_network(network: str) -> None:
    _, script = create((200, intent_of("succeeded")), made=card("510510", "5100", network))
    assert script.requests[0].form["payment_method"] == f"pm_card_{network}"
    world = World("stripe")
    assert world.charge(card("510510", "5100", network)).status is ChargeStatus.SUCCEEDED


@pytest.mark.parametrize(
    ("made", "account", "code"),
    [
        (card("652150", "0001", "rupay"), ACCOUNT, "no_test_card_rupay"),
        (card("999999", "0001", "unknown"), ACCOUNT, "no_test_card_unknown"),
        (intent(method={"type": "card"}), ACCOUNT, "no_test_card_"),
        (card(), replace(LIVE, credentials={"secret_key": "sk_live_k"}), "no_publishable_key"),
        (card(), replace(LIVE, credentials={"secret_key": "sk_live_k", "publishable_key": ""}), "no_publishable_key"),
        (replace(MADE, currency="USD"), ACCOUNT, "upi_takes_inr"),
    ],
)
def test_what_stripe_could_not_charge_is_not_sent(made: ChargeIntent, account: Account, code: str) -> None:
    outcome, script = create(made=made, account=account)
    assert isinstance(outcome, NotSent)
    assert (outcome.error.error_class, outcome.error.provider_code) == (ErrorClass.CONFIG, code)
    assert script.requests == []


# a live card is confirmed in the browser


def test_a_live_card_is_handed_to_the_browser() -> None:
    said = intent_of("requires_payment_method")
    made = replace(card(), return_url="https://shop.example/back")
    outcome, script = create((200, said), made=made, account=LIVE)
    form = script.requests[0].form
    assert not {"confirm", "payment_method", "return_url"} & set(form)
    assert script.requests[0].headers["authorization"] == "Bearer sk_live_k"
    action = {
        "type": "provider_checkout",
        "provider": "stripe",
        "params": {"client_secret": f"{INTENT}_secret_1", "publishable_key": "pk_live_k"},
    }
    assert isinstance(outcome, Charge)
    assert (outcome.status, outcome.next_action) == (ChargeStatus.ACTION_REQUIRED, action)
    found = provider(Script({GET_INTENT: [(200, said)]})).fetch(LIVE, ref(MADE, outcome))
    assert isinstance(found, Charge)
    assert (found.status, found.next_action) == (ChargeStatus.ACTION_REQUIRED, action)


def test_a_live_card_is_paid_once_the_browser_has_confirmed_it() -> None:
    world = World("stripe")
    keys = {"secret_key": "sk_live_sandbox", "publishable_key": "pk_live_sandbox"}
    world.bank.settings["stripe"].credentials = keys
    world.account = replace(world.account, credentials=keys)
    made = card()
    said = world.charge(made)
    assert said.status is ChargeStatus.ACTION_REQUIRED
    again = world.charge(made)
    assert (again.status, again.provider_reference) == (ChargeStatus.ACTION_REQUIRED, said.provider_reference)
    headers = {"authorization": "Bearer sk_live_sandbox"}
    world.http.request(
        "POST",
        f"{world.account.base_url}/payment_intents/{said.provider_reference}/confirm",
        headers=headers,
        body=b"payment_method=pm_card_visa",
    )
    told = [event for event in world.events() if event.charge]
    assert [event.charge.status for event in told if event.charge] == [ChargeStatus.SUCCEEDED]
    assert world.look(ref(made, said)).captured == AMOUNT
    assert world.charge(made).status is ChargeStatus.SUCCEEDED  # the stored answer still says requires_payment_method


# statuses


@pytest.mark.parametrize("status", [*STATUSES, "requires_something_new", ""])
def test_every_status_and_one_that_nobody_knows(status: str) -> None:
    outcome, _ = create((200, intent_of(status, amount_received=AMOUNT)))
    assert isinstance(outcome, Charge)
    assert outcome.status is STATUSES.get(status, ChargeStatus.PENDING)
    assert outcome.captured == (AMOUNT if status == "succeeded" else 0)


def test_a_failed_try_is_a_decline_and_a_status_that_nobody_knows_stays_pending() -> None:
    failure = {"type": "card_error", "code": "card_declined", "decline_code": "insufficient_funds"}
    for status, expected in (
        ("requires_payment_method", ChargeStatus.DECLINED),
        ("processing", ChargeStatus.PENDING),
        ("succeeded", ChargeStatus.SUCCEEDED),  # a later try on the same intent went through
        ("new", ChargeStatus.PENDING),
    ):
        script = Script({GET_INTENT: [(200, intent_of(status, last_payment_error=failure))]})
        found = provider(script).fetch(ACCOUNT, KNOWN)
        assert isinstance(found, Charge)
        assert found.status is expected
        assert (found.error is not None) == (expected is ChargeStatus.DECLINED)


def test_amounts_are_passed_on_as_they_are_and_nothing_else_is_one() -> None:
    for amount, expected in ((AMOUNT + 1, AMOUNT + 1), ("149900", None), (1499.0, None), (True, None), (None, None)):
        outcome, _ = create((200, intent_of("succeeded", amount=amount, amount_received=AMOUNT, currency="usd")))
        assert isinstance(outcome, Charge)
        assert (outcome.amount, outcome.currency) == (expected, "USD")
    for received in ("149900", 149_900.0, True, None, 0):  # an amount that was asked for is not one that was taken
        outcome, _ = create((200, intent_of("succeeded", amount_received=received)))
        assert isinstance(outcome, Charge)
        assert (outcome.status, outcome.amount, outcome.captured) == (ChargeStatus.SUCCEEDED, None, 0)


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        (
            {"type": "redirect_to_url", "redirect_to_url": {"url": "https://hooks.stripe.com/r"}},
            "https://hooks.stripe.com/r",
        ),
        (
            {
                "type": "upi_handle_redirect_or_display_qr_code",
                "upi_handle_redirect_or_display_qr_code": {"hosted_instructions_url": "https://payments.stripe.com/u"},
            },
            "https://payments.stripe.com/u",
        ),
        ({"type": "redirect_to_url", "redirect_to_url": {"url": "javascript:alert(1)"}}, None),
        ({"type": "upi_await_notification", "upi_await_notification": {}}, None),
        ({"type": "use_stripe_sdk", "use_stripe_sdk": {}}, "sdk"),
        (None, "sdk"),
    ],
)
def test_only_what_a_customer_can_do_is_an_action(action: object, expected: str | None) -> None:
    outcome, _ = create((200, intent_of("requires_action", next_action=action)))
    assert isinstance(outcome, Charge)
    assert outcome.status is ChargeStatus.ACTION_REQUIRED
    if expected == "sdk":
        params = {"client_secret": f"{INTENT}_secret_1", "publishable_key": "pk_test_k"}
        assert outcome.next_action == {"type": "provider_checkout", "provider": "stripe", "params": params}
    else:
        assert outcome.next_action == (expected and {"type": "redirect", "url": expected})


# errors


@pytest.mark.parametrize("code", ERRORS)
def test_every_code_says_the_same_in_an_answer_in_an_intent_and_as_a_decline_code(code: str) -> None:
    failure = {"type": "card_error", "code": "card_declined", "decline_code": code}
    looked_up = Script({GET_INTENT: [(200, intent_of("requires_payment_method", last_payment_error=failure))]})
    for outcome in (
        create(declined(code=code))[0],
        create(declined(code="card_declined", decline_code=code))[0],
        provider(looked_up).fetch(ACCOUNT, KNOWN),
    ):
        assert isinstance(outcome, Charge)
        assert (outcome.status, outcome.provider_reference) == (ChargeStatus.DECLINED, INTENT)
        assert outcome.error is not None
        assert (outcome.error.error_class, outcome.error.code) == ERRORS[code]
        assert outcome.error.provider_code == code


@pytest.mark.parametrize("code", ERRORS)
def test_every_code_of_a_request_that_was_refused(code: str) -> None:
    error_class, error_code = ERRORS[code]
    outcome, script = create((400, error(code=code)), then={SEARCH: rows(), LIST: rows()})
    if error_class is ErrorClass.CONFLICT:
        assert isinstance(outcome, Unknown)  # looked for, and not there (yet)
        assert len(script.requests) == 3
        return
    unseen = error_class in (ErrorClass.CONFIG, ErrorClass.PROVIDER_UNAVAILABLE)
    assert isinstance(outcome, NotSent if unseen else Charge)
    assert outcome.error is not None
    assert (outcome.error.error_class, outcome.error.code, outcome.error.provider_code) == (
        error_class,
        error_code,
        code,
    )
    assert len(script.requests) == 1


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"code": "card_declined", "decline_code": "brand_new"}, (ErrorClass.DECLINED_ISSUER, "brand_new")),
        ({"code": "brand_new"}, (ErrorClass.DECLINED_ISSUER, "brand_new")),
        ({"code": "processing_error", "decline_code": "brand_new"}, (ErrorClass.TECHNICAL_DECLINE, "brand_new")),
        ({}, (ErrorClass.DECLINED_ISSUER, "card_error")),
        ({"code": "card_declined", "decline_code": 7}, (ErrorClass.DECLINED_ISSUER, "card_declined")),
        (
            {"code": "processing_error", "advice_code": "do_not_try_again"},
            (ErrorClass.DECLINED_ISSUER, "processing_error"),
        ),
        (
            {"code": "card_declined", "decline_code": "issuer_not_available", "advice_code": "try_again_later"},
            (ErrorClass.TECHNICAL_DECLINE, "issuer_not_available"),
        ),
        (
            {"code": "card_declined", "decline_code": "fraudulent", "advice_code": "do_not_try_again"},
            (ErrorClass.DECLINED_RISK, "fraudulent"),
        ),
    ],
)
def test_codes_nobody_knows_and_advice(more: dict[str, object], expected: tuple[ErrorClass, str]) -> None:
    outcome, _ = create(declined(**more))
    assert isinstance(outcome, Charge)
    assert outcome.error is not None
    assert (outcome.error.error_class, outcome.error.provider_code) == expected


def test_a_failure_of_stripes_own_is_technical() -> None:
    failure = {"type": "api_error", "message": "…"}
    script = Script({GET_INTENT: [(200, intent_of("requires_payment_method", last_payment_error=failure))]})
    found = provider(script).fetch(ACCOUNT, KNOWN)
    assert isinstance(found, Charge)
    assert found.error is not None
    assert (found.error.error_class, found.error.provider_code) == (ErrorClass.TECHNICAL_DECLINE, "api_error")


def test_a_decline_that_left_no_intent_is_one_all_the_same() -> None:
    outcome, _ = create((402, error(type="card_error", code="expired_card")))
    assert isinstance(outcome, Charge)
    assert (outcome.status, outcome.provider_reference) == (ChargeStatus.DECLINED, None)
    assert outcome.error is not None
    assert outcome.error.code is ErrorCode.INSTRUMENT_EXPIRED


def test_an_error_is_the_reason_where_the_intent_names_none() -> None:
    left = intent_of("requires_payment_method")
    outcome, _ = create((402, error(type="card_error", code="expired_card", payment_intent=left)))
    assert isinstance(outcome, Charge)
    assert (outcome.status, outcome.provider_reference) == (ChargeStatus.DECLINED, INTENT)
    assert outcome.error is not None
    assert outcome.error.code is ErrorCode.INSTRUMENT_EXPIRED


def test_an_error_about_an_intent_that_was_paid_is_no_decline() -> None:
    paid = intent_of("succeeded", amount_received=AMOUNT)
    outcome, _ = create((400, error(code="payment_intent_unexpected_state", payment_intent=paid)))
    assert isinstance(outcome, Charge)
    assert (outcome.status, outcome.captured) == (ChargeStatus.SUCCEEDED, AMOUNT)


def test_what_the_provider_says_is_never_passed_on() -> None:
    outcome, _ = create(declined(code="card_declined", message="Asha's card 4242"))
    assert "Asha" not in repr(outcome)


@pytest.mark.parametrize(
    "said",
    [
        (409, error(type="idempotency_error", code="idempotency_key_in_use")),
        (424, error()),
        (400, error(type="api_error")),
        (402, error(type="api_error")),
        (400, error(type="idempotency_error", code="idempotency_key_in_use")),
        (400, error(code="lock_timeout")),
        (400, error(code="rate_limit")),
        (400, error(), {"stripe-should-retry": "true"}),
        (500, error(type="api_error")),
        (500, error(), {"stripe-should-retry": "false"}),
        (502, b"<html>"),
        (200, b"<html>"),
        (200, b'{"id": "pi_'),
        (200, {}),
        (200, {"id": INTENT, "object": "charge", "status": "succeeded"}),
        (200, {"object": "payment_intent", "status": "succeeded"}),
        UnknownError("read_timeout"),
    ],
)
def test_what_leaves_it_open_is_unknown_and_nothing_more_is_sent(said: Said) -> None:
    outcome, script = create(said)
    assert isinstance(outcome, Unknown)
    assert len(script.requests) == 1


@pytest.mark.parametrize(
    ("said", "error_class"),
    [
        ((401, error()), ErrorClass.CONFIG),
        ((403, error()), ErrorClass.CONFIG),
        ((429, error(code="lock_timeout"), {"retry-after": "2"}), ErrorClass.RATE_LIMITED),
    ],
)
def test_what_was_refused_at_the_door_was_not_sent(said: Said, error_class: ErrorClass) -> None:
    outcome, _ = create(said)
    assert isinstance(outcome, NotSent)
    assert outcome.error.error_class is error_class
