"""Razorpay's checkout, where cards are paid, and its settlement report."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from urllib.parse import urlencode

import pytest

from chalicelib.domain.errors import ErrorClass
from chalicelib.domain.outcome import Charge, ChargeStatus, NotFound, NotSent, SettlementLine, Unknown
from chalicelib.providers import razorpay_wire as wire
from chalicelib.providers.http import UnknownError
from chalicelib.providers.razorpay import RazorpayProvider
from infra.sandbox.wire import Request
from tests.contract.sandbox_world import AMOUNT, NOW, RETURN_URL, World, ref
from tests.contract.test_razorpay import ACCOUNT, Script, error

DAY = NOW.date()
REPORT = f"GET /settlements/recon/combined?year={DAY.year}&month={DAY.month:02d}&day={DAY.day:02d}&count=100&skip="


@pytest.fixture
def world() -> World:
    return World("razorpay")


def test_a_card_waits_for_its_customer_in_checkout(world: World) -> None:
    made = world.intent("card")
    assert made.method == {"type": "card"}  # nothing of a token is needed, and nothing is given
    said = world.charge(made)
    order = next(iter(world.bank.book.orders.values()))
    assert (said.status, said.provider_reference) == (ChargeStatus.ACTION_REQUIRED, None)
    assert said.data == {"order_id": order.id, "callback_url": RETURN_URL}
    assert said.next_action == {
        "type": "provider_checkout",
        "provider": "razorpay",
        "params": {
            "key_id": world.account.credentials["key_id"],
            "order_id": order.id,
            "callback_url": RETURN_URL,
            "amount": AMOUNT,
            "currency": "INR",
            "prefill[method]": "card",
            "notes[payment_id]": made.payment_id,
            "notes[reference]": made.reference,
        },
    }
    assert [url.rpartition("/")[2] for _, url in world.http.calls] == ["orders"]
    assert world.truth() == []


def test_a_payments_notes_are_whatever_the_browser_says(world: World) -> None:
    for number, (notes, kept) in enumerate(
        (
            ({}, {}),
            ({"notes[reference]": "pay_other-01", "notes[gift]": "yes"}, {"reference": "pay_other-01", "gift": "yes"}),
        ),
        1,
    ):
        made = world.intent("card", number=number)
        said = world.charge(made)
        assert said.next_action is not None
        params = said.next_action["params"]
        assert isinstance(params, dict)
        rest = {name: value for name, value in params.items() if not name.startswith("notes[")}
        action = {**said.next_action, "params": {**rest, **notes}}
        world.choose(replace(said, next_action=action), "approve", "4242424242424242")
        payment = world.bank.book.charges[str(world.truth()[-1]["id"])]
        assert (payment.details["notes"], payment.reference) == (kept, made.reference)
        order = world.bank.book.orders[said.data["order_id"]]
        assert order.notes == {"payment_id": made.payment_id, "reference": made.reference}
        found = world.look(ref(made))  # whatever it says, it is found by its order
        assert (found.status, found.provider_reference) == (ChargeStatus.SUCCEEDED, payment.id)


def test_an_order_nobody_has_paid_waits_as_long_as_it_exists(world: World) -> None:
    made = world.intent("card")
    said = world.charge(made)
    found = world.look(ref(made, said))
    assert (found.status, found.next_action, found.data) == (ChargeStatus.ACTION_REQUIRED, said.next_action, said.data)
    found = world.look(ref(made))  # all that is known after a crash
    assert (found.status, found.data) == (ChargeStatus.ACTION_REQUIRED, {"order_id": said.data["order_id"]})
    gone = ref(made, said, {})
    world.bank.book.orders.clear()
    assert isinstance(world.provider.fetch(world.account, gone), NotFound)


def test_an_order_for_a_server_to_server_payment_waits_for_nobody(world: World) -> None:
    made = world.intent("upi", "timeout_before")
    assert isinstance(world.provider.create(world.account, made), Unknown)
    assert isinstance(world.provider.fetch(world.account, ref(made)), NotFound)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_used_receipt_leads_back_to_the_checkout(world: World, legacy: bool) -> None:  # noqa: FBT001
    world.chaos(legacy_receipts=legacy)
    made = world.intent("card")
    first, again = world.charge(made), world.charge(made)
    assert again.next_action == first.next_action
    world.choose(first, "approve", "4242424242424242")
    assert world.charge(made).status is ChargeStatus.SUCCEEDED
    assert len(world.truth()) == 1


def test_the_order_decides_when_its_customer_tries_again(world: World) -> None:
    made = world.intent("card")
    said = world.charge(made)
    world.choose(said, "decline")
    failed = world.look(ref(made, said))
    assert (failed.status, failed.provider_reference is not None) == (ChargeStatus.DECLINED, True)
    world.choose(said, "approve", "4242424242424242")
    # The failed payment's id is all we know, and fetching only that would hide the money.
    found = world.look(ref(made, failed, said.data))
    assert (found.status, found.captured) == (ChargeStatus.SUCCEEDED, AMOUNT)
    assert found.provider_reference != failed.provider_reference
    for event in world.events():
        assert event.reference == made.reference


@pytest.mark.parametrize("change", [{"key_id": "rzp_test_other"}, {"order_id": "order_none"}, {"order_id": ""}])
def test_the_checkout_opens_for_its_own_orders_only(world: World, change: dict[str, str]) -> None:
    said = world.charge(world.intent("card"))
    fields = {"key_id": world.account.credentials["key_id"], "order_id": said.data["order_id"], **change}
    body = urlencode({**fields, "choice": "approve"}).encode()
    answer = world.bank.handle("razorpay", Request("POST", "/v1/checkout/embedded", {"host": "razorpay.sandbox"}, body))
    assert answer.status == 400
    assert world.truth() == []


@pytest.mark.parametrize("fault", ["timeout_before", "timeout_after", "technical_after", "html", "slow"])
def test_a_lost_order_was_not_sent_and_nobody_can_pay_it(world: World, fault: str) -> None:
    world.chaos(operation="order", fault=fault)
    outcome = world.provider.create(world.account, world.intent("card"))
    assert isinstance(outcome, NotSent)
    assert outcome.error.error_class is ErrorClass.PROVIDER_UNAVAILABLE


# the settlement report, as in Razorpay's documents


def _item(kind: str, **fields: object) -> dict[str, object]:
    settled = {"settled": True, "settled_at": 1_568_176_960, "settlement_id": "setl_1", "settlement_utr": "utr1"}
    return {"type": kind, "entity_id": f"{kind[:4]}_1", "currency": "INR", "debit": 0, "credit": 0, **settled, **fields}


SETTLED = {"settlement_id": "setl_1", "utr": "utr1", "settled_at": datetime.fromtimestamp(1_568_176_960, UTC)}


@pytest.mark.parametrize(
    ("item", "line"),
    [
        (
            _item("payment", amount=100_000, credit=97_100, fee=2_900, tax=442, order_receipt="pay_x-01"),
            SettlementLine(
                "payment",
                "paym_1",
                100_000,
                "INR",
                2_458,
                442,
                "pay_x-01",
                None,
                "paym_1",
                **SETTLED,  # type: ignore[arg-type]
            ),
        ),
        (
            _item("refund", amount=242_500, debit=242_500, fee=0, tax=0, payment_id="pay_1"),
            SettlementLine("refund", "refu_1", -242_500, "INR", 0, 0, None, None, "pay_1", **SETTLED),  # type: ignore[arg-type]
        ),
        (
            _item("transfer", amount=100_000, debit=100_296, fee=296, tax=46, payment_id="pay_1"),
            SettlementLine("adjustment", "tran_1", -100_000, "INR", 250, 46, None, None, "pay_1", **SETTLED),  # type: ignore[arg-type]
        ),
        (
            _item("adjustment", amount=1_012, credit=1_012, fee=0, tax=0, settlement_utr=None),
            SettlementLine("adjustment", "adju_1", 1_012, "INR", **{**SETTLED, "utr": None}),  # type: ignore[arg-type]
        ),
        (
            _item("payment", amount=100, fee=2, tax=0, settled=False, settled_at=None, settlement_id=None),
            SettlementLine("payment", "paym_1", 100, "INR", 2, 0, provider_reference="paym_1", utr="utr1"),
        ),
        (
            _item("payment", amount=100, settled_at=10**30),
            SettlementLine(
                "payment", "paym_1", 100, "INR", provider_reference="paym_1", settlement_id="setl_1", utr="utr1"
            ),
        ),
        (_item("payment", amount="100"), None),
        (_item("payment", amount=100, entity_id=None), None),
        ({}, None),
    ],
    ids=["payment", "refund", "transfer", "adjustment", "unsettled", "never", "text", "nameless", "empty"],
)
def test_an_item_of_the_report_is_a_line(item: dict[str, object], line: SettlementLine | None) -> None:
    assert wire.settlement_line(item) == line


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ((200, {"items": "none"}), Unknown), ((200, {}), Unknown), ((200, b"<html>"), Unknown), ((500, {}), Unknown),
        ((400, error("input_validation_failed")), Unknown), ((401, {}), NotSent), ((429, {}), NotSent),
        (UnknownError("read_timeout"), Unknown),
    ],
)  # fmt: skip
def test_a_report_that_is_not_one_says_nothing(answer: tuple[int, object] | Exception, expected: type) -> None:
    outcome = RazorpayProvider(Script({REPORT + "0": answer})).settlement_lines(ACCOUNT, DAY)
    assert isinstance(outcome, expected)


def test_a_report_with_a_lost_page_is_none_at_all() -> None:
    full = [_item("payment", amount=100, entity_id=f"pay_{n}") for n in range(100)]
    script = Script({REPORT + "0": (200, {"items": full}), REPORT + "100": (503, {})})
    assert isinstance(RazorpayProvider(script).settlement_lines(ACCOUNT, DAY), Unknown)
    script = Script({REPORT + "0": (200, {"items": full}), REPORT + "100": (200, {"items": full[:1]})})
    lines = RazorpayProvider(script).settlement_lines(ACCOUNT, DAY)
    assert not isinstance(lines, NotSent | Unknown)
    assert len(lines) == 101


def test_a_charge_on_a_checkout_knows_its_order(world: World) -> None:
    paid = world.pay("card")
    assert isinstance(paid.charge, Charge)
    assert paid.known.data == {"order_id": paid.said.data["order_id"], "callback_url": RETURN_URL}
