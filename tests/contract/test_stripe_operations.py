"""What only Stripe's format can get wrong after a payment: captures, voids, refunds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chalicelib.domain.errors import ErrorClass
from chalicelib.domain.outcome import (
    ChargeStatus,
    Effect,
    EffectStatus,
    NotFound,
    NotSent,
    Unknown,
)
from chalicelib.providers.http import UnknownError
from chalicelib.providers.reasons import TECHNICAL
from chalicelib.providers.stripe_errors import ERRORS, REFUND_FAILURES
from chalicelib.providers.stripe_wire import REFUND_STATUSES
from tests.contract.sandbox_world import AMOUNT, World
from tests.contract.stripe_script import (
    ACCOUNT,
    GET_INTENT,
    INTENT,
    KEY,
    KNOWN,
    LIST,
    MADE,
    PAID,
    REPLAYED,
    SEARCH,
    Said,
    Script,
    error,
    intent_of,
    provider,
    refund_of,
    rows,
)

CAPTURE = f"POST /payment_intents/{INTENT}/capture"
CANCEL = f"POST /payment_intents/{INTENT}/cancel"
REFUND = "POST /refunds"
REFUNDS = "GET /refunds"
GET_REFUND = "GET /refunds/re_1"
STORED = (500, error(type="api_error"), REPLAYED)


# capture and void


def test_a_capture_names_its_amount_and_its_key() -> None:
    script = Script({CAPTURE: [(200, intent_of("succeeded", amount_received=500))]})
    effect = provider(script).capture(ACCOUNT, KNOWN, 500, KEY)
    assert isinstance(effect, Effect)
    assert (effect.status, effect.amount, effect.currency) == (EffectStatus.SUCCEEDED, 500, "INR")
    assert script.requests[0].form == {"amount_to_capture": "500"}
    assert script.requests[0].headers["idempotency-key"] == f"{KEY}:capture"


@pytest.mark.parametrize("what", [CAPTURE, CANCEL])
def test_a_stored_failure_is_tried_past_without_a_key(what: str) -> None:
    done = PAID if what == CAPTURE else intent_of("canceled")
    script = Script({what: [STORED, (200, done)]})
    adapter = provider(script)
    effect = adapter.capture(ACCOUNT, KNOWN, AMOUNT, KEY) if what == CAPTURE else adapter.void(ACCOUNT, KNOWN, KEY)
    assert isinstance(effect, Effect)
    assert effect.status is EffectStatus.SUCCEEDED
    assert ["idempotency-key" in request.headers for request in script.requests] == [True, False]


def test_a_first_failure_is_unknown_and_not_tried_again() -> None:
    for said in ((500, error()), (409, error()), UnknownError("read_timeout"), (200, intent_of("requires_capture"))):
        script = Script({CAPTURE: [said]})
        assert isinstance(provider(script).capture(ACCOUNT, KNOWN, AMOUNT, KEY), Unknown)
        assert len(script.requests) == 1


@pytest.mark.parametrize(
    ("status", "captured", "voided"),
    [
        ("succeeded", EffectStatus.SUCCEEDED, EffectStatus.FAILED),
        ("canceled", EffectStatus.FAILED, EffectStatus.SUCCEEDED),
        ("requires_capture", None, None),  # not the state of which the refusal speaks
        ("processing", None, None),
    ],
)
def test_a_refusal_is_judged_by_the_intent_itself(
    status: str, captured: EffectStatus | None, voided: EffectStatus | None
) -> None:
    refused = (400, error(code="payment_intent_unexpected_state"))
    now = (200, intent_of(status, amount_received=AMOUNT))
    adapter = provider(Script({CAPTURE: [refused], CANCEL: [refused], GET_INTENT: [now, now]}))
    for effect, expected in (
        (adapter.capture(ACCOUNT, KNOWN, AMOUNT, KEY), captured),
        (adapter.void(ACCOUNT, KNOWN, KEY), voided),
    ):
        if expected is None:
            assert isinstance(effect, Unknown)
            continue
        assert isinstance(effect, Effect)
        assert effect.status is expected
        assert (effect.error is not None) == (expected is EffectStatus.FAILED)


@pytest.mark.parametrize("code", ["processing_error", "payment_method_not_available", "try_again_later"])
@pytest.mark.parametrize("http", [400, 402])
def test_a_technical_refusal_is_never_a_failure(code: str, http: int) -> None:
    refused = (http, error(code=code, type="card_error"))
    for now in ((200, intent_of("requires_capture")), (404, error())):
        adapter = provider(Script({CAPTURE: [refused], CANCEL: [refused], GET_INTENT: [now, now]}))
        assert isinstance(adapter.capture(ACCOUNT, KNOWN, AMOUNT, KEY), Unknown)
        assert isinstance(adapter.void(ACCOUNT, KNOWN, KEY), Unknown)
    assert isinstance(
        provider(Script({REFUND: [refused], REFUNDS: [rows()]})).refund(ACCOUNT, KNOWN, 500, KEY), Unknown
    )


@pytest.mark.parametrize(
    ("said", "failed"),
    [
        (error(param="amount"), True),
        (error(code="amount_too_large"), True),
        (error(code="brand_new"), True),  # an invalid request, whatever is invalid
        (error(code="card_declined", type="card_error"), True),
        (error(type="brand_new_error"), False),
        ({}, False),
        ({"error": "no"}, False),
        (error(type="idempotency_error"), False),  # an earlier try of ours
        (error(code="resource_already_exists"), False),
    ],
)
def test_only_what_was_asked_wrongly_has_failed(said: object, failed: bool) -> None:  # noqa: FBT001
    held = (200, intent_of("requires_capture"))
    script = Script({REFUND: [(400, said)], REFUNDS: [rows()], CAPTURE: [(400, said)], GET_INTENT: [held]})
    adapter = provider(script)
    for effect in (adapter.refund(ACCOUNT, KNOWN, 500, KEY), adapter.capture(ACCOUNT, KNOWN, AMOUNT, KEY)):
        assert isinstance(effect, Effect if failed else Unknown)
        if isinstance(effect, Effect):
            assert effect.status is EffectStatus.FAILED


@pytest.mark.parametrize("received", ["149900", 1499.0, True, None, 0])
def test_a_capture_that_names_no_amount_confirms_nothing(received: object) -> None:
    taken = (200, intent_of("succeeded", amount_received=received))
    for said in ((200, taken[1]), (400, error())):
        script = Script({CAPTURE: [said], GET_INTENT: [taken]})
        assert isinstance(provider(script).capture(ACCOUNT, KNOWN, AMOUNT, KEY), Unknown)


def test_one_key_serves_each_action_once() -> None:
    """A reversal: released while it was held, captured by somebody in between, and given back."""
    world = World("stripe")
    paid = world.authorize()
    world.chaos(operation="void", fault="decline")
    released = world.provider.void(world.account, paid.known, KEY)
    assert isinstance(released, Effect)
    assert released.status is EffectStatus.FAILED
    for _ in range(2):
        assert world.take(paid.known, AMOUNT, KEY).status is EffectStatus.SUCCEEDED
        given = world.give_back(paid.known, AMOUNT, KEY)
        assert (given.status, given.key) == (EffectStatus.SUCCEEDED, KEY)
    assert [(row["key"], row["amount"]) for row in world.refunds()] == [(KEY, AMOUNT)]


def test_the_sandbox_refuses_a_key_at_another_endpoint_as_stripe_does() -> None:
    world = World("stripe")
    paid = world.authorize()
    form = f"payment_intent={paid.known.provider_reference}".encode()
    headers = {"authorization": f"Bearer {world.account.credentials['secret_key']}", "idempotency-key": "one"}
    base = world.account.base_url
    path = f"{base}/payment_intents/{paid.known.provider_reference}/capture"
    assert world.http.request("POST", path, headers=headers).status == 200
    refused = world.http.request("POST", f"{base}/refunds", headers=headers, body=form)
    assert (refused.status, b"idempotency_error" in refused.body) == (400, True)


def test_a_refusal_without_a_look_at_the_intent_is_unknown() -> None:
    nobody: list[Said] = [(500, {}), UnknownError("read_timeout"), (429, {})]
    for look_up in nobody:
        script = Script({CAPTURE: [(400, error())], GET_INTENT: [look_up]})
        assert isinstance(provider(script).capture(ACCOUNT, KNOWN, AMOUNT, KEY), Unknown)
    script = Script({CAPTURE: [(404, error(code="resource_missing"))], GET_INTENT: [(404, error())]})
    effect = provider(script).capture(ACCOUNT, KNOWN, AMOUNT, KEY)
    assert isinstance(effect, Effect)
    assert effect.status is EffectStatus.FAILED


def test_an_account_that_may_not_is_not_sent() -> None:
    for said in ((401, error()), (403, error()), (400, error(code="capability_not_active"))):
        assert isinstance(provider(Script({CAPTURE: [said]})).capture(ACCOUNT, KNOWN, AMOUNT, KEY), NotSent)


def test_nothing_is_sent_about_an_intent_that_could_not_be_looked_up() -> None:
    lost = replace(KNOWN, provider_reference=None)
    silent = provider(Script({SEARCH: [(500, {})] * 3}))
    empty = provider(Script({SEARCH: [rows()] * 3, LIST: [rows()] * 3}))
    for effect in (
        silent.capture(ACCOUNT, lost, AMOUNT, KEY),
        silent.void(ACCOUNT, lost, KEY),
        silent.refund(ACCOUNT, lost, AMOUNT, KEY),
    ):
        assert isinstance(effect, NotSent)
    for effect in (
        empty.capture(ACCOUNT, lost, AMOUNT, KEY),
        empty.void(ACCOUNT, lost, KEY),
        empty.refund(ACCOUNT, lost, AMOUNT, KEY),
    ):
        assert isinstance(effect, Effect)
        assert effect.status is EffectStatus.FAILED


def test_an_unpaid_and_a_declined_intent_can_be_closed() -> None:
    world = World("stripe")
    for number, outcome in enumerate(("action", "decline"), 1):
        paid = world.charge(world.intent("card", outcome, number=number))
        known = replace(KNOWN, provider_reference=paid.provider_reference)
        effect = world.provider.void(world.account, known, f"att_{number}")
        assert isinstance(effect, Effect)
        assert effect.status is EffectStatus.SUCCEEDED
        assert world.look(known).status is ChargeStatus.CANCELED


# refunds


def test_a_refund_carries_our_ids() -> None:
    script = Script({REFUND: [(200, refund_of("succeeded"))]})
    effect = provider(script).refund(ACCOUNT, KNOWN, 500, KEY)
    assert isinstance(effect, Effect)
    assert (effect.status, effect.provider_reference, effect.amount, effect.currency) == (
        EffectStatus.SUCCEEDED, "re_1", 500, "INR",
    )  # fmt: skip
    assert script.requests[0].form == {
        "payment_intent": INTENT,
        "amount": "500",
        "metadata[refund_id]": KEY,
        "metadata[reference]": MADE.reference,
    }
    assert script.requests[0].headers["idempotency-key"] == f"{KEY}:refund"
    assert effect.key == KEY


@pytest.mark.parametrize("status", [*REFUND_STATUSES, "something_new", ""])
def test_every_refund_status_and_one_that_nobody_knows(status: str) -> None:
    found = provider(Script({GET_REFUND: [(200, refund_of(status))]})).fetch_refund(ACCOUNT, KNOWN, KEY, "re_1")
    assert isinstance(found, Effect)
    assert found.status is REFUND_STATUSES.get(status, EffectStatus.PENDING)
    assert (found.error is not None) == (found.status is EffectStatus.FAILED)


@pytest.mark.parametrize("reason", [*REFUND_FAILURES, "unknown", "brand_new", None])
def test_every_reason_for_a_failed_refund(reason: str | None) -> None:
    said = (200, refund_of("failed", failure_reason=reason))
    found = provider(Script({GET_REFUND: [said]})).fetch_refund(ACCOUNT, KNOWN, KEY, "re_1")
    assert isinstance(found, Effect)
    assert found.error is not None
    assert (found.error.error_class, found.error.code) == REFUND_FAILURES.get(reason or "", TECHNICAL)
    assert found.error.provider_code == (reason or "failed")


def test_a_replayed_refund_is_asked_how_it_stands() -> None:
    stale = (200, refund_of("pending"), REPLAYED)
    script = Script({REFUND: [stale], GET_REFUND: [(200, refund_of("failed"))]})
    effect = provider(script).refund(ACCOUNT, KNOWN, 500, KEY)
    assert isinstance(effect, Effect)
    assert effect.status is EffectStatus.FAILED
    for nobody in (UnknownError("read_timeout"), (500, {}), (404, error())):
        script = Script({REFUND: [(200, refund_of("succeeded"), REPLAYED)], GET_REFUND: [nobody]})
        effect = provider(script).refund(ACCOUNT, KNOWN, 500, KEY)
        assert isinstance(effect, Effect)
        assert (effect.status, effect.provider_reference) == (EffectStatus.PENDING, "re_1")


@pytest.mark.parametrize(
    "said", [STORED, (400, error(type="idempotency_error")), (400, error(code="charge_already_refunded"))]
)
def test_what_stands_in_the_way_may_be_our_own_refund(said: Said) -> None:
    mine = refund_of("succeeded")
    others = refund_of("failed", id="re_2", metadata={}), refund_of("failed", id="re_3", metadata={"refund_id": "rf_x"})
    script = Script({REFUND: [said], REFUNDS: [rows(*others, more=True), rows(mine)]})
    effect = provider(script).refund(ACCOUNT, KNOWN, 500, KEY)
    assert isinstance(effect, Effect)
    assert (effect.status, effect.provider_reference) == (EffectStatus.SUCCEEDED, "re_1")
    assert [request.query.get("starting_after") for request in script.requests[1:]] == [None, "re_3"]
    assert {request.query["payment_intent"] for request in script.requests[1:]} == {INTENT}


@pytest.mark.parametrize("code", ERRORS)
def test_every_code_of_a_refused_refund(code: str) -> None:
    effect = provider(Script({REFUND: [(400, error(code=code))], REFUNDS: [rows()]})).refund(ACCOUNT, KNOWN, 500, KEY)
    error_class, error_code = ERRORS[code]
    is_open = error_class in (ErrorClass.TECHNICAL_DECLINE, ErrorClass.PROVIDER_UNAVAILABLE)
    if is_open or code == "resource_already_exists":
        assert isinstance(effect, Unknown)
        return
    assert isinstance(effect, NotSent if error_class is ErrorClass.CONFIG else Effect)
    assert effect.error is not None
    assert (effect.error.error_class, effect.error.code) == (error_class, error_code)
    if isinstance(effect, Effect):
        assert effect.status is EffectStatus.FAILED


def test_what_leaves_a_refund_open_is_unknown() -> None:
    for said in ((500, {}), (409, error()), (200, {}), (200, b"<html>"), UnknownError("read_timeout")):
        script = Script({REFUND: [said]})
        assert isinstance(provider(script).refund(ACCOUNT, KNOWN, 500, KEY), Unknown)
        assert len(script.requests) == 1
    for listed in (rows(), (500, {}), (400, error())):
        script = Script({REFUND: [STORED], REFUNDS: [listed]})
        assert isinstance(provider(script).refund(ACCOUNT, KNOWN, 500, KEY), Unknown)
    script = Script({REFUND: [(400, error())], REFUNDS: [(500, {})]})
    assert isinstance(provider(script).refund(ACCOUNT, KNOWN, 500, KEY), Unknown)


def test_refunds_are_looked_up_by_id_and_by_key() -> None:
    assert isinstance(
        provider(Script({GET_REFUND: [(404, error())]})).fetch_refund(ACCOUNT, KNOWN, KEY, "re_1"), NotFound
    )
    for said in ((400, error()), (500, {})):
        script = Script({GET_REFUND: [said]})
        assert isinstance(provider(script).fetch_refund(ACCOUNT, KNOWN, KEY, "re_1"), Unknown)
    for listed in (rows(), rows(refund_of("succeeded", metadata={"refund_id": "rf_other"})), (404, error())):
        assert isinstance(provider(Script({REFUNDS: [listed]})).fetch_refund(ACCOUNT, KNOWN, KEY, None), NotFound)
