"""What Cashfree tells by itself: returns, webhooks and the settlement report, made by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from chalicelib.domain.outcome import (
    Charge,
    ChargeStatus,
    EffectStatus,
    EventKind,
    ProviderEvent,
    SettlementLine,
    Unknown,
)
from chalicelib.providers.base import BadSignature
from chalicelib.providers.cashfree import CashfreeProvider
from chalicelib.providers.cashfree_events import sign
from chalicelib.providers.cashfree_wire import REFUND_STATUSES
from tests.contract.cashfree_script import (
    ACCOUNT,
    KEY,
    MADE,
    PAYMENT,
    REFUND,
    SECRET,
    Script,
    Told,
    error,
    known,
)
from tests.contract.sandbox_world import AMOUNT, NOW

# what the browser and the webhooks bring


def test_a_return_must_name_the_order() -> None:
    provider = CashfreeProvider(Script({}))
    provider.verify_return(ACCOUNT, known(), {"order_id": MADE.reference, "order": "7"})
    for wrong in ({}, {"order_id": ""}, {"order_id": "{order_id}"}, {"order_id": MADE.reference + "x"}):
        with pytest.raises(BadSignature):
            provider.verify_return(ACCOUNT, known(), wrong)


def test_the_published_vector_holds() -> None:
    vectors = json.loads((Path(__file__).parents[1] / "data" / "provider-vectors.json").read_text(encoding="utf-8"))[
        "vectors"
    ]
    (vector,) = [v for v in vectors if v["provider"] == "cashfree"]
    given = vector["inputs"]
    headers = {"x-webhook-signature": vector["expected"], "x-webhook-timestamp": given["timestamp_header"]}
    account = replace(ACCOUNT, webhook_secrets=["older", given["secret"]])
    event = CashfreeProvider(Script({})).parse_webhook(account, headers, given["body"].encode(), NOW)
    assert (event.type, event.reference, event.provider_reference) == (
        "PAYMENT_SUCCESS_WEBHOOK", "order_OFR_2", "1453002795",
    )  # fmt: skip
    stamp = given["timestamp_header"]
    for altered in (stamp[:-1], stamp + "0", "", stamp + "x", f" {stamp}", "1७46427759733", "-" + stamp):
        with pytest.raises(BadSignature):
            CashfreeProvider(Script({})).parse_webhook(
                account, {**headers, "x-webhook-timestamp": altered}, given["body"].encode(), NOW
            )


def parse(body: object, key: str | None = "key_1") -> ProviderEvent:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"x-webhook-timestamp": "1", "x-webhook-signature": sign(SECRET, b"1" + raw)}
    if key is not None:
        headers["x-idempotency-key"] = key
    return CashfreeProvider(Script({})).parse_webhook(ACCOUNT, headers, raw, datetime(2036, 1, 1, tzinfo=UTC))


def paid(kind: str = "PAYMENT_SUCCESS_WEBHOOK", tags: object = None, **payment: object) -> dict[str, object]:
    """A webhook in the shape of the documented sample, which does not say whether a payment is captured."""
    told = {name: value for name, value in PAYMENT.items() if name.startswith(("cf_", "payment_"))}
    order = {"order_id": MADE.reference, "order_amount": 1499.0, "order_currency": "INR",
             "order_tags": {"capture": "automatic"} if tags is None else tags}  # fmt: skip
    return {"data": {"order": order, "payment": {**told, "payment_group": "upi", **payment}}, "type": kind}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (paid(), ChargeStatus.SUCCEEDED),
        (paid(payment_group="net_banking", cf_payment_id=1453002795), ChargeStatus.SUCCEEDED),
        (paid(payment_group="credit_card", is_captured=True, tags={}), ChargeStatus.SUCCEEDED),
        (paid(is_captured=False), ChargeStatus.AUTHORIZED),
        (paid("PAYMENT_FAILED_WEBHOOK", payment_status="FAILED"), ChargeStatus.DECLINED),
        (paid("PAYMENT_USER_DROPPED_WEBHOOK", payment_status="USER_DROPPED"), ChargeStatus.DECLINED),
        (paid("PAYMENT_SUCCESS_WEBHOOK", payment_status="PENDING"), ChargeStatus.PENDING),
    ],
)
def test_what_a_webhook_says_of_a_charge(body: object, status: ChargeStatus) -> None:
    event = parse(body)
    assert (event.kind, event.reference, event.provider_reference) == (EventKind.CHARGE, MADE.reference, "1453002795")
    assert event.charge is not None
    assert (event.charge.status, event.charge.amount, event.charge.currency) == (status, AMOUNT, "INR")
    assert event.charge.captured == (AMOUNT if status is ChargeStatus.SUCCEEDED else 0)


@pytest.mark.parametrize(
    "body",
    [paid(tags={"capture": "manual"}), paid(tags={}), paid(tags="x"), paid(payment_group="debit_card_emi"),
     paid(payment_group=None)],
)  # fmt: skip
def test_a_success_that_may_only_be_held_has_to_be_asked_about(body: object) -> None:
    event = parse(body)
    assert (event.kind, event.reference, event.charge) == (EventKind.HINT, MADE.reference, None)


def refunded(kind: str = "REFUND_STATUS_WEBHOOK", name: str = "refund", **more: object) -> dict[str, object]:
    """A refund's webhook; the documented samples write the ids as numbers."""
    refund = {**REFUND, "order_id": MADE.reference, "cf_refund_id": 11325632, "cf_payment_id": 789727431, **more}
    return {"data": {name: refund}, "type": kind}


@pytest.mark.parametrize(("refund_id", "key"), [(KEY, KEY), ("op_01K", "op_01K"), ("refund_7", None), (7, None)])
def test_a_refund_is_told_with_our_key_if_it_is_ours(refund_id: object, key: str | None) -> None:
    event = parse(refunded(refund_id=refund_id))
    assert (event.kind, event.reference, event.provider_reference) == (EventKind.REFUND, MADE.reference, "789727431")
    assert event.refund_key == key
    assert event.effect is not None
    assert event.effect.key == key
    assert (event.effect.status, event.effect.provider_reference, event.effect.amount) == (
        EffectStatus.SUCCEEDED, "11325632", 50_000,
    )  # fmt: skip


@pytest.mark.parametrize("status", [*REFUND_STATUSES, "ON_THE_MOON", None])
@pytest.mark.parametrize(
    ("kind", "name", "more"),
    [("AUTO_REFUND_STATUS_WEBHOOK", "auto_refund", {}),
     ("REFUND_STATUS_WEBHOOK", "refund", {"refund_type": "PAYMENT_AUTO_REFUND"}),
     ("REFUND_STATUS_WEBHOOK", "refund", {"refund_type": "UNRECONCILED_AUTO_REFUND"})],
)  # fmt: skip
def test_an_automatic_refund_is_a_release_once_it_is_through(
    kind: str, name: str, more: dict[str, object], status: str | None
) -> None:
    event = parse(refunded(kind, name, **more, refund_status=status))
    assert (event.reference, event.provider_reference, event.effect) == (MADE.reference, "789727431", None)
    if status == "SUCCESS":
        assert (event.kind, event.charge) == (EventKind.CHARGE, Charge(ChargeStatus.CANCELED, "789727431"))
    else:
        assert (event.kind, event.charge, event.verified) == (EventKind.HINT, None, True)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"type": "DISPUTE_CREATED", "data": {"order_details": {"order_id": MADE.reference}}}, EventKind.DISPUTE),
        ({"type": "DISPUTE_CLOSED", "data": {}}, EventKind.DISPUTE),
        (paid("PAYMENT_CHARGES_WEBHOOK"), EventKind.IGNORED),
        ({"type": "WEBHOOK", "data": {"test_object": {"test_key": "x"}}}, EventKind.IGNORED),
        ({"type": "SETTLEMENT_SUCCESS", "data": {"settlement": {"utr": 7}}}, EventKind.IGNORED),
        ({"type": "PAYMENT_SUCCESS_WEBHOOK", "data": {"order": 7, "payment": []}}, EventKind.IGNORED),
        ({"type": "REFUND_STATUS_WEBHOOK", "data": None}, EventKind.IGNORED),
        ({"type": 7, "data": 7}, EventKind.IGNORED),
        (b"\xff", EventKind.IGNORED),
        (b"[]", EventKind.IGNORED),
        (b"", EventKind.IGNORED),
    ],
)
def test_events_are_sorted_by_their_type(body: object, kind: EventKind) -> None:
    event = parse(body)
    assert (event.kind, event.dedupe_key, event.charge, event.effect) == (kind, "key_1", None, None)
    if kind is EventKind.DISPUTE and "order_details" in str(body):
        assert event.reference == MADE.reference


def test_without_a_key_type_object_and_status_make_two_webhooks_the_same() -> None:
    bodies = [
        paid(), paid("PAYMENT_FAILED_WEBHOOK"), paid(payment_status="FAILED"), paid(cf_payment_id="2"), refunded(),
        refunded(refund_status="PENDING"), refunded(cf_refund_id=2), {"type": "WEBHOOK"}, b"{", b"",
    ]  # fmt: skip
    keys = [parse(body, None).dedupe_key for body in bodies]
    assert len(set(keys)) == len(bodies)
    assert all(key.startswith("sha256:") for key in keys)
    later = [{**body, "event_time": "later"} for body in bodies if isinstance(body, dict) and "data" in body]
    assert {parse(body, None).dedupe_key for body in later} <= set(keys)


# the settlement report


ROW: dict[str, object] = {
    "event_id": "e1", "event_type": "PAYMENT", "event_amount": 1499.0, "event_settlement_amount": 1463.62,
    "sale_type": "CREDIT", "event_status": "SUCCESS", "event_currency": "INR", "order_id": MADE.reference,
    "cf_payment_id": 14, "payment_service_charge": 29.98, "payment_service_tax": 5.4, "cf_settlement_id": 45345,
    "settlement_utr": "PGI1", "settlement_date": "2022-08-16T14:45:24+05:30", "refund_id": None,
}  # fmt: skip
DAY = date(2022, 8, 16)


def settle(*answers: Told) -> tuple[object, Script]:
    script = Script({"POST /settlement/recon": list(answers)})
    return CashfreeProvider(script).settlement_lines(ACCOUNT, DAY), script


def one(**more: object) -> SettlementLine:
    lines, _ = settle((200, {"cursor": None, "data": [{**ROW, **more}]}))
    assert isinstance(lines, list), lines
    (line,) = lines
    assert isinstance(line, SettlementLine)
    return line


def test_a_line_of_a_payment() -> None:
    line = one()
    assert (line.kind, line.entity_id, line.amount, line.fee, line.tax) == ("payment", "14", AMOUNT, 2998, 540)
    assert (line.reference, line.provider_reference, line.refund_key) == (MADE.reference, "14", None)
    assert (line.settlement_id, line.utr) == ("45345", "PGI1")
    assert line.settled_at == datetime(2022, 8, 16, 9, 15, 24, tzinfo=UTC)
    assert one(settlement_date="2022-08-16T14:45:24").settled_at == line.settled_at
    for never in ("soon", "9999-12-31T23:59:59-10:00", "0001-01-01T00:00:00+10:00", "0001-01-01T00:00:00"):
        assert one(settlement_date=never).settled_at is None


@pytest.mark.parametrize(
    ("more", "kind", "amount"),
    [
        ({"event_type": "REFUND", "sale_type": "DEBIT", "refund_id": KEY}, "refund", -AMOUNT),
        ({"event_type": "REFUND_REVERSAL"}, "adjustment", AMOUNT),
        ({"event_type": "CHARGEBACK", "sale_type": "DEBIT"}, "adjustment", -AMOUNT),
        ({"event_type": "OTHER_ADJUSTMENT", "event_amount": -10.5}, "adjustment", -1050),
        ({"event_type": "OTHER_ADJUSTMENT", "event_amount": -10.5, "sale_type": "DEBIT"}, "adjustment", -1050),
    ],
)
def test_what_cashfree_takes_back_is_negative(more: dict[str, object], kind: str, amount: int) -> None:
    line = one(**more)
    assert (line.kind, line.entity_id, line.amount, line.fee, line.tax) == (kind, "e1", amount, 0, 0)
    assert line.refund_key == (KEY if kind == "refund" else None)


def test_a_report_has_all_its_pages_and_the_days_of_india() -> None:
    pages = [(200, {"cursor": str(n) if n < 3 else None, "data": [{**ROW, "event_id": f"e{n}"}]}) for n in range(1, 4)]
    lines, script = settle(*pages)
    assert isinstance(lines, list)
    assert len(lines) == 3
    assert script.bodies["POST /settlement/recon"] == {
        "pagination": {"limit": 250, "cursor": "2"},
        "filters": {"start_date": "2022-08-16T00:00:00+05:30", "end_date": "2022-08-16T23:59:59+05:30"},
    }
    lines, _ = settle((200, {"data": []}))
    assert lines == []
    skipped, _ = settle((200, {"data": [{**ROW, "event_status": "FAILED"}, {**ROW, "event_status": "CANCELLED"}]}))
    assert skipped == []


@pytest.mark.parametrize(
    "answer",
    [
        (200, {}), (200, {"data": None}), (200, {"data": [{}]}), error("x"), (500, {}), (200, b"<html>"),
        (200, {"data": [{**ROW, "event_amount": 1.005}]}), (200, {"data": [{**ROW, "event_currency": None}]}),
        (200, {"data": [{**ROW, "payment_service_tax": -1}]}), (200, {"data": [{**ROW, "sale_type": None}]}),
        (200, {"data": [ROW], "cursor": "same"}),
    ],
)  # fmt: skip
def test_a_report_with_a_hole_in_it_is_none(answer: Told) -> None:
    lines, _ = settle(answer)
    assert isinstance(lines, Unknown)
