"""Stripe's webhooks and balance transactions: what they must be signed with, and what they say."""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from chalicelib.domain.outcome import (
    Charge,
    ChargeStatus,
    Effect,
    EffectStatus,
    EventKind,
    ProviderEvent,
    SettlementLine,
    Unknown,
)
from chalicelib.providers.base import Account, BadSignature
from chalicelib.providers.http import UnknownError
from tests.contract.sandbox_world import AMOUNT, NOW
from tests.contract.stripe_script import (
    ACCOUNT,
    INTENT,
    KEY,
    LIVE,
    MADE,
    PAID,
    Said,
    Script,
    error,
    provider,
    refund_of,
    rows,
)

VECTORS = json.loads((Path(__file__).parents[1] / "data" / "provider-vectors.json").read_text(encoding="utf-8"))


# webhooks


def _event(kind: str, entity: object, **more: object) -> bytes:
    event = {"id": "evt_1", "object": "event", "type": kind, "livemode": False, "data": {"object": entity}, **more}
    return json.dumps(event).encode()


def _signed(
    body: bytes, *, at: float | None = None, secret: str = "whsec_w", header: str = "t={t},v1={v1}"
) -> dict[str, str]:
    moment = str(int(NOW.timestamp() if at is None else at))
    v1 = hmac.new(secret.encode(), moment.encode() + b"." + body, hashlib.sha256).hexdigest()
    return {"stripe-signature": header.format(t=moment, v1=v1)}


def _parse(body: bytes, headers: dict[str, str] | None = None, account: Account = ACCOUNT) -> ProviderEvent:
    adapter = provider(Script({}))
    return adapter.parse_webhook(account, _signed(body) if headers is None else headers, body, NOW)


@pytest.mark.parametrize(
    "row", [row for row in VECTORS["vectors"] if row["provider"] == "stripe"], ids=lambda row: row["id"]
)
def test_the_published_vectors(row: dict[str, object]) -> None:
    inputs = row["inputs"]
    assert isinstance(inputs, dict)
    account = replace(ACCOUNT, webhook_secrets=[str(inputs["secret"])])
    then = datetime.fromtimestamp(int(inputs["timestamp"]), UTC)
    headers = {"stripe-signature": f"t={inputs['timestamp']},v1={row['expected']}"}
    body = str(inputs["body"]).encode()
    event = provider(Script({})).parse_webhook(account, headers, body, then)
    assert (event.kind, event.dedupe_key) == (EventKind.IGNORED, "evt_test_webhook")
    with pytest.raises(BadSignature):
        provider(Script({})).parse_webhook(account, headers, body + b" ", then)


@pytest.mark.parametrize(
    "header",
    ["t={t},v1={v1}", "v1={v1},t={t}", " t={t} , v1={v1} ", "t={t},v1=00,v1={v1},v0=11", "t={t},v1={v1},v2=x,y"],
)
def test_any_of_several_signatures_will_do(header: str) -> None:
    body = _event("payment_intent.succeeded", PAID)
    assert _parse(body, _signed(body, header=header)).kind is EventKind.CHARGE


@pytest.mark.parametrize(
    "header",
    [
        "", "t={t}", "v1={v1}", "t={t},v0={v1}", "t={t},v1=", "t={t},v1={v1}0", "{v1}", "t=,v1={v1}", "t=x,v1={v1}",
        "t=-{t},v1={v1}", "t={t}.0,v1={v1}", "t={t},t={t},v1={v1}", "t=1{t},v1={v1}", "t=٣,v1={v1}",
        "t=99999999999999999999999,v1={v1}",
    ],
)  # fmt: skip
def test_any_other_header_is_refused(header: str) -> None:
    body = _event("payment_intent.succeeded", PAID)
    with pytest.raises(BadSignature):
        _parse(body, _signed(body, header=header))


@pytest.mark.parametrize(("seconds", "good"), [(0, True), (300, True), (-300, True), (301, False), (-301, False)])
def test_the_signed_time_may_be_five_minutes_off(seconds: int, *, good: bool) -> None:
    body = _event("payment_intent.succeeded", PAID)
    headers = _signed(body, at=NOW.timestamp() + seconds)
    if good:
        assert _parse(body, headers).kind is EventKind.CHARGE
    else:
        with pytest.raises(BadSignature):
            _parse(body, headers)


@pytest.mark.parametrize("account", [ACCOUNT, LIVE])
def test_an_event_of_the_other_mode_is_refused(account: Account) -> None:
    live = account is LIVE
    assert _parse(_event("payment_intent.succeeded", PAID, livemode=live), account=account).kind is EventKind.CHARGE
    with pytest.raises(BadSignature):
        _parse(_event("payment_intent.succeeded", PAID, livemode=not live), account=account)


NO_INTENTS: list[object] = [[], None, 7, {}, {"id": INTENT}, {"object": "payment_intent"}]
NO_REFUNDS: list[object] = [[], None, {}, {"id": 7}]
NO_DATA: list[object] = [[], None, {"object": None}]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"null",
        b"{",
        b"1",
        b'{"object": "event"}',
        b'{"object": "list", "id": "evt_1"}',
        b"[" * 100_000,
    ]
    + [_event("payment_intent.succeeded", entity) for entity in NO_INTENTS]
    + [_event("refund.updated", entity) for entity in NO_REFUNDS]
    + [_event("payment_intent.succeeded", PAID, data=data) for data in NO_DATA],
)
def test_a_signed_body_that_makes_no_sense_is_ignored(body: bytes) -> None:
    assert _parse(body).kind is EventKind.IGNORED


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        *((f"payment_intent.{what}", EventKind.CHARGE) for what in (
            "succeeded", "amount_capturable_updated", "payment_failed", "canceled", "processing", "requires_action",
        )),
        *((kind, EventKind.IGNORED) for kind in (
            "payment_intent.created", "charge.succeeded", "charge.refunded", "charge.refund.updated", "payout.paid", "",
        )),
        *((f"charge.dispute.{what}", EventKind.DISPUTE) for what in ("created", "updated", "closed", "funds_withdrawn")),
    ],
)  # fmt: skip
def test_events_are_sorted_by_their_type(kind: str, expected: EventKind) -> None:
    event = _parse(_event(kind, PAID))
    assert (event.kind, event.type, event.dedupe_key) == (expected, kind or "unreadable", "evt_1")
    assert event.reference == MADE.reference
    if expected is EventKind.CHARGE:
        assert isinstance(event.charge, Charge)
        assert (event.charge.status, event.charge.amount) == (ChargeStatus.SUCCEEDED, AMOUNT)
        assert event.provider_reference == INTENT


def test_a_dispute_leads_to_its_intent() -> None:
    for named in (INTENT, {"id": INTENT, "object": "payment_intent"}):
        event = _parse(_event("charge.dispute.created", {"id": "dp_1", "object": "dispute", "payment_intent": named}))
        assert (event.kind, event.reference, event.provider_reference) == (EventKind.DISPUTE, None, INTENT)


@pytest.mark.parametrize("kind", ["refund.created", "refund.updated", "refund.failed"])
def test_a_refund_event_carries_our_ids_or_is_from_the_dashboard(kind: str) -> None:
    event = _parse(_event(kind, refund_of("failed")))
    assert (event.kind, event.refund_key, event.reference) == (EventKind.REFUND, KEY, MADE.reference)
    assert event.effect is not None
    assert event.effect.key == KEY
    assert isinstance(event.effect, Effect)
    assert (event.effect.status, event.effect.provider_reference, event.charge) == (EffectStatus.FAILED, "re_1", None)
    event = _parse(_event(kind, refund_of("succeeded", metadata={})))
    assert (event.kind, event.refund_key, event.reference) == (EventKind.REFUND, None, None)
    assert event.provider_reference == INTENT


def test_without_an_id_the_body_is_the_event() -> None:
    body = _event("payment_intent.succeeded", PAID, id=None)
    assert _parse(body).dedupe_key == f"sha256:{hashlib.sha256(body).hexdigest()}"


# settlements


def _settle(*entries: dict[str, object]) -> object:
    said = (
        200,
        {
            "object": "list",
            "data": [{"object": "balance_transaction", **entry} for entry in entries],
            "has_more": False,
        },
    )
    script = Script({"GET /balance_transactions": [said]})
    return provider(script).settlement_lines(ACCOUNT, date(2027, 1, 15))


def test_a_day_is_utcs_and_its_pages_are_followed() -> None:
    first = {"id": "txn_1", "type": "charge", "amount": 100, "currency": "inr", "fee": 0, "source": "ch_1"}
    script = Script({"GET /balance_transactions": [rows(first, more=True), rows({**first, "id": "txn_2"})]})
    lines = provider(script).settlement_lines(ACCOUNT, date(2027, 1, 15))
    assert isinstance(lines, list)
    assert len(lines) == 2
    begin = int(datetime(2027, 1, 15, tzinfo=UTC).timestamp())
    expected = {
        "created[gte]": str(begin),
        "created[lt]": str(begin + int(timedelta(days=1).total_seconds())),
        "expand[]": "data.source",
        "limit": "100",
    }
    assert [dict(request.query) for request in script.requests] == [expected, {**expected, "starting_after": "txn_1"}]


def test_lines_by_type_with_our_ids_and_the_tax_apart() -> None:
    charged = {"id": "ch_1", "payment_intent": INTENT, "metadata": {"reference": MADE.reference}}
    given_back = {"id": "re_1", "payment_intent": INTENT, "metadata": {"reference": MADE.reference, "refund_id": KEY}}
    fees = [{"type": "stripe_fee", "amount": 2998}, {"type": "tax", "amount": 540}]
    lines = _settle(
        {
            "id": "t1",
            "type": "charge",
            "amount": AMOUNT,
            "currency": "inr",
            "fee": 3538,
            "fee_details": fees,
            "source": charged,
        },
        {"id": "t2", "type": "payment", "amount": 100, "currency": "inr", "fee": 0, "source": charged},
        {"id": "t3", "type": "refund", "amount": -500, "currency": "inr", "fee": 0, "source": given_back},
        {"id": "t4", "type": "payment_refund", "amount": -1, "currency": "inr", "fee": -7, "source": given_back},
        {
            "id": "t5",
            "type": "adjustment",
            "amount": -9,
            "currency": "usd",
            "fee": 2,
            "source": {"id": "dp_1", "payment_intent": INTENT},
        },
        {"id": "t6", "type": "brand_new", "amount": 9, "currency": "usd", "fee": 0, "source": None},
        {"id": "t7", "type": "payout", "amount": -AMOUNT, "currency": "inr", "fee": 0, "source": "po_1"},
        {"id": "t8", "type": "charge", "amount": 3, "currency": "inr", "fee": 0, "source": "ch_9"},
        {"id": "t9", "type": "charge", "amount": "3", "currency": "inr"},
        {"type": "charge", "amount": 3, "currency": "inr"},
    )
    ours, intent_id = MADE.reference, INTENT
    assert lines == [
        SettlementLine("payment", INTENT, AMOUNT, "INR", 2998, 540, ours, None, intent_id),
        SettlementLine("payment", INTENT, 100, "INR", 0, 0, ours, None, intent_id),
        SettlementLine("refund", "re_1", -500, "INR", 0, 0, ours, KEY, intent_id),
        SettlementLine("refund", "re_1", -1, "INR", 0, 0, ours, KEY, intent_id),
        SettlementLine("adjustment", "t4", 7, "INR", provider_reference=intent_id),
        SettlementLine("adjustment", "t5", -9, "USD", 2, provider_reference=intent_id),
        SettlementLine("adjustment", "t6", 9, "USD"),
        SettlementLine("payment", "ch_9", 3, "INR"),
    ]


@pytest.mark.parametrize("said", [(400, error()), (404, error()), (500, {}), (200, {}), UnknownError("read_timeout")])
def test_half_a_day_is_no_day(said: Said) -> None:
    first = rows({"id": "txn_1", "type": "charge", "amount": 1, "currency": "inr"}, more=True)
    script = Script({"GET /balance_transactions": [first, said]})
    assert isinstance(provider(script).settlement_lines(ACCOUNT, date(2027, 1, 15)), Unknown)
