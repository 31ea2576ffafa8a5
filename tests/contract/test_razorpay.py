"""What only Razorpay's format can get wrong, against the bank and against answers made by hand."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

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
    ProviderEvent,
    Unknown,
)
from chalicelib.providers.base import Account, ChargeRef
from chalicelib.providers.http import HttpAnswer, UnknownError
from chalicelib.providers.razorpay import RazorpayProvider
from chalicelib.providers.razorpay_wire import REFUND_STATUSES, STATUSES
from chalicelib.providers.reasons import REASONS
from chalicelib.providers.signatures import digest, sign
from tests.contract.sandbox_world import AMOUNT, NOW, START, World, intent, ref

if TYPE_CHECKING:
    from collections.abc import Mapping

ACCOUNT = Account("acct", "razorpay", "https://api.razorpay.com/v1", {"key_id": "k", "key_secret": "s"}, ["w"])
ORDER = {"id": "order_1", "entity": "order", "amount": AMOUNT, "currency": "INR", "status": "created", "attempts": 0}
MADE = intent()


class Script:
    """Answers by method and path; an exception is raised, a missing one fails the test."""

    def __init__(self, answers: Mapping[str, tuple[int, object] | Exception]) -> None:
        self.answers = answers
        self.sent: list[str] = []

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None = None,
        read_timeout: float | None = None,
    ) -> HttpAnswer:
        what = f"{method} {url.removeprefix(ACCOUNT.base_url)}"
        self.sent.append(what)
        answer = self.answers[what]
        if isinstance(answer, Exception):
            raise answer
        status, value = answer
        raw = value if isinstance(value, bytes) else json.dumps(value).encode()
        return HttpAnswer(status, {}, raw)


def error(reason: str | None, *, code: str = "BAD_REQUEST_ERROR", **more: object) -> dict[str, object]:
    return {"error": {"code": code, "description": "…", "reason": reason, **more}}


def create(answer: tuple[int, object] | Exception, **more: tuple[int, object] | Exception) -> tuple[object, Script]:
    script = Script({"POST /orders": (200, ORDER), "POST /payments/create/upi": answer, **more})
    return RazorpayProvider(script).create(ACCOUNT, MADE), script


# the order


@pytest.mark.parametrize(
    "answer",
    [(500, {}), (502, b"<html>"), (200, b"<html>"), (200, b'{"id": "ord'), (200, {}), UnknownError("read_timeout")],
    ids=["500", "502", "html", "truncated", "empty", "timeout"],
)
def test_whatever_happens_to_the_order_no_charge_was_sent(answer: tuple[int, object] | Exception) -> None:
    script = Script({"POST /orders": answer})
    outcome = RazorpayProvider(script).create(ACCOUNT, MADE)
    assert isinstance(outcome, NotSent)
    assert script.sent == ["POST /orders"]


def test_an_order_for_another_amount_is_never_charged() -> None:
    for wrong in ({"amount": AMOUNT + 1}, {"currency": "USD"}):
        script = Script({"POST /orders": (200, {**ORDER, **wrong})})
        outcome = RazorpayProvider(script).create(ACCOUNT, MADE)
        assert isinstance(outcome, Charge)
        assert outcome.status is ChargeStatus.DECLINED
        assert outcome.error is not None
        assert outcome.error.code is ErrorCode.MISMATCH
        assert script.sent == ["POST /orders"]


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("outcome", ["success", "timeout_after", "decline"])
def test_a_used_receipt_leads_to_the_payment_that_exists(legacy: bool, outcome: str) -> None:  # noqa: FBT001
    world = World("razorpay")
    world.chaos(legacy_receipts=legacy)
    made = intent(outcome)
    first = world.provider.create(world.account, made)
    again = world.provider.create(world.account, made)
    assert isinstance(again, Charge)
    if isinstance(first, Charge):
        assert (again.status, again.provider_reference) == (first.status, first.provider_reference)
    assert len(world.truth()) == 1


def test_a_used_receipt_without_a_payment_may_still_become_one() -> None:
    world = World("razorpay")
    world.chaos(legacy_receipts=True)
    made = intent("slow_charge")
    assert isinstance(world.provider.create(world.account, made), Unknown)
    assert isinstance(world.provider.create(world.account, made), Unknown)
    world.pass_time(21)
    assert len(world.truth()) == 1


def test_the_order_carries_our_ids_and_says_when_to_capture() -> None:
    for capture in ("automatic", "manual"):
        world = World("razorpay")
        made = intent(capture=capture)
        world.charge(made)
        order = next(iter(world.bank.book.orders.values()))
        assert (order.receipt, order.automatic) == (made.reference, capture == "automatic")
        assert order.notes == {"payment_id": made.payment_id, "reference": made.reference}
        assert order.release_after == world.provider.capabilities.authorization_window


# the payment


def test_a_payment_without_a_reachable_look_up_is_pending_and_not_unknown() -> None:
    made = (200, {"razorpay_payment_id": "pay_1"})
    for look_up in (UnknownError("read_timeout"), (500, {}), (400, error(None)), (429, {})):
        outcome, _ = create(made, **{"GET /payments/pay_1": look_up})
        assert isinstance(outcome, Charge)
        assert (outcome.status, outcome.provider_reference) == (ChargeStatus.PENDING, "pay_1")
        assert outcome.data == {"order_id": "order_1"}


@pytest.mark.parametrize(
    ("entity", "status"),
    [
        ({"status": "created"}, ChargeStatus.PENDING),
        ({"status": "authorized"}, ChargeStatus.AUTHORIZED),
        ({"status": "captured"}, ChargeStatus.SUCCEEDED),
        ({"status": "refunded", "captured": True}, ChargeStatus.SUCCEEDED),
        ({"status": "refunded", "captured": False}, ChargeStatus.CANCELED),
        ({"status": "failed", "error_reason": "payment_failed"}, ChargeStatus.DECLINED),
        ({"status": "failed", "error_reason": "deemed_transaction"}, ChargeStatus.PENDING),
        ({"status": "on_hold"}, ChargeStatus.PENDING),
        ({"status": 7}, ChargeStatus.PENDING),
        ({}, ChargeStatus.PENDING),
    ],
)
def test_a_status_nobody_knows_is_pending(entity: dict[str, object], status: ChargeStatus) -> None:
    payment = {"id": "pay_1", "amount": AMOUNT, "currency": "INR", **entity}
    outcome, _ = create((200, {"razorpay_payment_id": "pay_1"}), **{"GET /payments/pay_1": (200, payment)})
    assert isinstance(outcome, Charge)
    assert (outcome.status, outcome.amount) == (status, AMOUNT)
    assert outcome.captured == (AMOUNT if status is ChargeStatus.SUCCEEDED else 0)


@pytest.mark.parametrize(
    "answer", [(200, {}), (200, b"<html>"), (200, b'{"razorpay_pay'), (409, error(None)), (503, {})]
)
def test_a_payment_without_a_proper_answer_is_unknown(answer: tuple[int, object]) -> None:
    outcome, script = create(answer)
    assert isinstance(outcome, Unknown)
    assert script.sent.count("POST /payments/create/upi") == 1


@pytest.mark.parametrize("reason", sorted(REASONS))
def test_every_reason_of_the_table_ends_as_its_class_says(reason: str) -> None:
    error_class, code = REASONS[reason]
    receipt = f"GET /orders?receipt={MADE.reference}&count=100"
    body = error(reason, source="issuer_bank", metadata={"payment_id": "pay_1", "order_id": "order_1"})
    outcome, _ = create((400, body), **{receipt: (200, {"items": []})})
    if error_class is ErrorClass.CONFLICT:
        assert isinstance(outcome, Unknown)  # the order was looked at, and shows no payment yet
        return
    # A payment was tried, so it is watched, whatever it was refused for; its class lets the next provider try.
    assert isinstance(outcome, Charge)
    assert (outcome.status, outcome.provider_reference, outcome.data) == (
        ChargeStatus.DECLINED, "pay_1", {"order_id": "order_1"},
    )  # fmt: skip
    assert outcome.error is not None
    assert (outcome.error.error_class, outcome.error.code, outcome.error.provider_code) == (error_class, code, reason)


@pytest.mark.parametrize("reason", [name for name, verdict in REASONS.items() if verdict[0] is ErrorClass.CONFIG])
def test_what_the_account_may_not_do_was_not_sent_where_nothing_was_tried(reason: str) -> None:
    outcome, _ = create((400, error(reason)))
    assert isinstance(outcome, NotSent)
    assert outcome.error.error_class is ErrorClass.CONFIG


def test_an_amount_that_is_not_a_whole_number_is_no_amount() -> None:
    for amount in ("149900", 149_900.0, True, None, [149_900]):
        for status in ("captured", "authorized"):
            payment = {"id": "pay_1", "amount": amount, "currency": "INR", "status": status}
            outcome, _ = create((200, {"razorpay_payment_id": "pay_1"}), **{"GET /payments/pay_1": (200, payment)})
            assert isinstance(outcome, Charge)
            assert (outcome.status, outcome.amount, outcome.captured) == (STATUSES[status], None, 0)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (error("new_reason", source="customer", metadata={"payment_id": "pay_1"}), ErrorClass.DECLINED_CUSTOMER),
        (error("new_reason", source="issuer", metadata={"payment_id": "pay_1"}), ErrorClass.DECLINED_ISSUER),
        (error("new_reason", source="gateway", metadata={"payment_id": "pay_1"}), ErrorClass.TECHNICAL_DECLINE),
        (error(None, code="GATEWAY_ERROR", metadata={"payment_id": "pay_1"}), ErrorClass.TECHNICAL_DECLINE),
        (error("new_reason", metadata={"payment_id": "pay_1"}), ErrorClass.DECLINED_ISSUER),
        (error("new_reason"), ErrorClass.INVALID_REQUEST),
        (error("upi_not_enabled"), ErrorClass.CONFIG),
        ({"message": "no Route matched"}, ErrorClass.INVALID_REQUEST),
        (error(None, description="Authentication failed"), ErrorClass.CONFIG),
    ],
)
def test_reasons_nobody_knows_fall_back_on_their_source(body: dict[str, object], expected: ErrorClass) -> None:
    outcome, _ = create((400, body))
    assert isinstance(outcome, Charge | NotSent)
    assert outcome.error is not None
    assert outcome.error.error_class is expected


@pytest.mark.parametrize("payment_id", ["pay_1", None])
def test_an_undecided_refusal_is_never_a_decline(payment_id: str | None) -> None:
    outcome, _ = create((400, error("payment_pending", metadata={"payment_id": payment_id})))
    if payment_id is None:
        assert isinstance(outcome, Unknown)
    else:
        assert isinstance(outcome, Charge)
        assert outcome.status is ChargeStatus.PENDING


def test_only_web_addresses_and_upi_links_become_actions() -> None:
    bad = {"razorpay_payment_id": "pay_1", "link": "javascript:1", "next": [{"action": "redirect", "url": "file:///x"}]}
    look_up = {"GET /payments/pay_1": (200, {"id": "pay_1", "status": "created"})}
    outcome, _ = create((200, bad), **look_up)
    assert isinstance(outcome, Charge)
    assert (outcome.status, outcome.next_action) == (ChargeStatus.PENDING, None)


# looking up


def _payment(name: str, status: str, created_at: int) -> dict[str, object]:
    return {"id": name, "status": status, "amount": AMOUNT, "currency": "INR", "created_at": created_at}


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ([_payment("a", "failed", 3), _payment("b", "captured", 1), _payment("c", "authorized", 2)], "b"),
        ([_payment("a", "failed", 3), _payment("c", "authorized", 2)], "c"),
        ([_payment("a", "failed", 1), _payment("b", "created", 2)], "b"),
        ([_payment("a", "refunded", 1), _payment("b", "failed", 2)], "a"),
        ([], None),
    ],
)
@pytest.mark.parametrize("by_receipt", [True, False])
def test_an_order_is_decided_by_its_best_payment(
    items: list[dict[str, object]],
    expected: str | None,
    by_receipt: bool,  # noqa: FBT001
) -> None:
    orders = [{"id": "order_other", "receipt": "another"}, {"id": "order_1", "receipt": MADE.reference}]
    script = Script(
        {
            f"GET /orders?receipt={MADE.reference}&count=100": (200, {"items": orders}),
            "GET /orders/order_1/payments": (200, {"items": items}),
        }
    )
    data = {} if by_receipt else {"order_id": "order_1"}
    known = ChargeRef(MADE.reference, None, AMOUNT, "INR", MADE.method, data, NOW)
    found = RazorpayProvider(script).fetch(ACCOUNT, known)
    if expected is None:
        assert isinstance(found, NotFound)
    else:
        assert isinstance(found, Charge)
        assert (found.provider_reference, found.data) == (expected, {"order_id": "order_1"})
    assert len(script.sent) == (2 if by_receipt else 1)


def test_a_refund_is_found_on_a_later_page() -> None:
    world = World("razorpay")
    made = intent()
    known = ref(made, world.charge(made))
    for number in range(105):
        world.provider.refund(world.account, known, 100, f"rf_page_{number:04d}")
    found = world.provider.fetch_refund(world.account, known, "rf_page_0001", None)
    assert isinstance(found, Effect)
    assert (found.status, found.amount) == (EffectStatus.SUCCEEDED, 100)
    assert isinstance(world.provider.fetch_refund(world.account, known, "rf_page_none", None), NotFound)


def test_ids_are_quoted_into_paths() -> None:
    script = Script({"GET /payments/..%2F..%2Forders%3Fx": (404, error(None))})
    known = ChargeRef("r", "../../orders?x", AMOUNT, "INR", {}, {}, NOW)
    assert isinstance(RazorpayProvider(script).fetch(ACCOUNT, known), NotFound)


# events


def _event(kind: str, **entities: dict[str, object]) -> bytes:
    payload = {name: {"entity": entity} for name, entity in entities.items()}
    return json.dumps({"event": kind, "payload": payload}).encode()


def _parse(body: bytes) -> ProviderEvent:
    world = World("razorpay")
    signer = world.bank.personality("razorpay")
    _, headers = signer.sign("w", body, "evt_1", START)
    return RazorpayProvider(Script({})).parse_webhook(ACCOUNT, headers, body, NOW)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (_event("payment.captured", payment=_payment("pay_1", "captured", 1)), EventKind.CHARGE),
        (_event("order.paid", payment=_payment("pay_1", "captured", 1), order={"receipt": "r"}), EventKind.CHARGE),
        (_event("payment.captured"), EventKind.IGNORED),
        (_event("refund.processed", refund={"id": "rfnd_1", "status": "processed"}), EventKind.REFUND),
        (_event("refund.speed_changed", refund={"id": "rfnd_1"}), EventKind.IGNORED),
        (_event("payment.dispute.created", payment=_payment("pay_1", "captured", 1)), EventKind.DISPUTE),
        (_event("payment.downtime.started"), EventKind.IGNORED),
    ],
)
def test_events_are_sorted_by_their_type(body: bytes, kind: EventKind) -> None:
    event = _parse(body)
    assert getattr(event, "kind", None) is kind


def test_what_we_wrote_ourselves_goes_before_what_a_browser_may_have_written() -> None:
    payment = {**_payment("pay_1", "captured", 1), "order_id": "order_1"}
    forged = {**payment, "notes": {"reference": "pay_other-01"}}
    refund = {"id": "rfnd_1", "status": "processed"}
    ours: dict[str, object] = {"notes": {"reference": MADE.reference}}
    for body, reference in (
        (_event("order.paid", payment=payment, order={"receipt": MADE.reference}), MADE.reference),
        (_event("order.paid", payment=forged, order={"receipt": MADE.reference}), MADE.reference),
        (_event("order.paid", payment=forged, order=ours), MADE.reference),
        (_event("refund.processed", payment=forged, refund={**refund, **ours}), MADE.reference),
        (_event("refund.processed", payment=forged, refund={**refund, "notes": []}), "pay_other-01"),
        (_event("payment.captured", payment=forged), "pay_other-01"),
    ):
        event = _parse(body)
        assert event.reference == reference
        assert event.charge is not None
        assert event.charge.data == {"order_id": "order_1"}  # by which the services tell whose it is


def test_a_payment_without_an_order_is_none_of_ours_whoever_it_names() -> None:
    for order_id in ({}, {"order_id": None}, {"order_id": ""}):
        payment = {**_payment("pay_1", "captured", 1), "notes": {"reference": MADE.reference}, **order_id}
        for event in (
            _parse(_event("payment.captured", payment=payment)),
            _parse(_event("refund.processed", payment=payment, refund={"id": "rfnd_1", "status": "processed"})),
        ):
            assert (event.reference, event.provider_reference) == (None, "pay_1")


def test_a_refund_event_carries_our_key() -> None:
    for receipt in ("rf_01K0000000000000000000KEY1", None):
        event = _parse(_event("refund.processed", refund={"id": "rfnd_1", "status": "processed", "receipt": receipt}))
        assert event.effect is not None
        assert (event.refund_key, event.effect.key) == (receipt, receipt)


def test_without_an_event_id_the_same_body_is_the_same_event() -> None:
    body = _event("payment.captured", payment=_payment("pay_1", "captured", 1))
    headers = {"x-razorpay-signature": sign("w", body)}
    keys = {RazorpayProvider(Script({})).parse_webhook(ACCOUNT, headers, body, NOW).dedupe_key for _ in range(2)}
    assert keys == {digest(body)}


def test_an_authorized_event_may_already_say_captured() -> None:
    event = _parse(_event("payment.authorized", payment=_payment("pay_1", "captured", 1)))
    charge = getattr(event, "charge", None)
    assert isinstance(charge, Charge)
    assert charge.status is ChargeStatus.SUCCEEDED


@pytest.mark.parametrize("status", [*REFUND_STATUSES, "new", None])
@pytest.mark.parametrize("kind", ["refund.created", "refund.processed", "refund.failed"])
def test_a_refund_of_what_was_never_captured_is_a_release_once_it_is_through(kind: str, status: str | None) -> None:
    payment = {**_payment("pay_1", "authorized", 1), "captured": False, "order_id": "order_1",
               "notes": {"reference": MADE.reference}}  # fmt: skip
    event = _parse(_event(kind, refund={"id": "rfnd_1", "status": status}, payment=payment))
    assert (event.reference, event.provider_reference, event.effect) == (MADE.reference, "pay_1", None)
    if status != "processed":
        assert (event.kind, event.charge, event.verified) == (EventKind.HINT, None, True)
        return
    assert event.kind is EventKind.CHARGE
    assert event.charge is not None
    assert (event.charge.status, event.charge.data) == (ChargeStatus.CANCELED, {"order_id": "order_1"})
