"""What only Instamojo's format can get wrong, afterwards: closing, refunds and settlements."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

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
from chalicelib.providers.http import NotSentError, UnknownError
from chalicelib.providers.instamojo import InstamojoProvider
from tests.contract.instamojo_script import (
    ACCOUNT,
    DISABLE,
    GET,
    KEY,
    KNOWN,
    LISTED,
    MADE,
    NONE,
    OTHER_KEY,
    PAID,
    PAYMENT,
    REFUND,
    REFUND_POST,
    REFUNDS,
    REQUEST,
    Answers,
    Said,
    Script,
    bad,
    charge,
    good,
    pages,
    pay,
    refund,
    request,
    visit,
)
from tests.contract.sandbox_world import AMOUNT, NOW, World, intent, ref

# closing


@pytest.mark.parametrize(
    ("closed", "shown", "status"),
    [
        (good(), request(status="Disabled"), EffectStatus.SUCCEEDED),
        (good(), request(), EffectStatus.SUCCEEDED),
        (good(), request({**PAYMENT, "status": "Failed"}), EffectStatus.SUCCEEDED),
        (good(), request(PAYMENT), EffectStatus.FAILED),
        (good(), request({**PAYMENT, "status": None}), EffectStatus.PENDING),
        (bad("Already disabled"), request(status="Disabled"), EffectStatus.SUCCEEDED),
        (bad("Not now"), request(), EffectStatus.FAILED),
        (bad("Not now"), request(PAYMENT), EffectStatus.FAILED),
        (bad("Please try again later"), request(status="Disabled"), EffectStatus.SUCCEEDED),
        (NONE, request(), EffectStatus.FAILED),
    ],
)
def test_void_closes_what_nobody_has_paid(closed: Said, shown: Said, status: EffectStatus) -> None:
    script = Script({DISABLE: closed, GET: shown})
    effect = InstamojoProvider(script).void(ACCOUNT, KNOWN, "att_1")
    assert isinstance(effect, Effect)
    assert effect.status is status
    assert (effect.error is not None) is (status is EffectStatus.FAILED)
    assert script.sent == [DISABLE, GET]


def test_a_void_nobody_can_vouch_for_is_unknown() -> None:
    for closed, shown, kind in (
        (UnknownError("read_timeout"), request(), Unknown),
        ((500, {}), request(), Unknown),
        ((429, {}), request(), NotSent),
        ((401, {}), request(), NotSent),
        (bad("Please try again later"), request(), Unknown),
        (good(), (500, {}), Unknown),
        (good(), (429, {}), Unknown),
        (good(), NONE, Unknown),
    ):
        assert isinstance(InstamojoProvider(Script({DISABLE: closed, GET: shown})).void(ACCOUNT, KNOWN, "att_1"), kind)


def test_a_void_looks_for_the_request_first_where_nobody_knows_its_id() -> None:
    known = replace(KNOWN, data={})
    answers: Answers = {LISTED: pages("payment_requests", REQUEST), GET: request(), DISABLE: good()}
    effect = InstamojoProvider(Script(answers)).void(ACCOUNT, known, "att_1")
    assert isinstance(effect, Effect)
    assert effect.status is EffectStatus.SUCCEEDED
    nothing = InstamojoProvider(Script({LISTED: pages("payment_requests")})).void(ACCOUNT, known, "att_1")
    assert isinstance(nothing, Unknown)  # there was one when it was made
    losses: tuple[Said, ...] = ((500, {}), (429, {}), UnknownError("read_timeout"))
    for lost in losses:
        assert isinstance(InstamojoProvider(Script({LISTED: lost})).void(ACCOUNT, known, "att_1"), NotSent)


def test_a_closed_request_cannot_be_paid_and_a_paid_one_not_closed() -> None:
    world = World("instamojo")
    said = world.charge(MADE)
    known = ref(MADE, said)
    effect = world.provider.void(world.account, known, "att_1")
    assert isinstance(effect, Effect)
    assert effect.status is EffectStatus.SUCCEEDED
    assert visit(world, said, choice="approve").status == 409
    assert charge(world.provider.fetch(world.account, known)).status is ChargeStatus.CANCELED
    assert world.truth() == []
    made = intent(number=2)
    paid = pay(world, made)
    refused = world.provider.void(world.account, ref(made, paid), "att_2")
    assert isinstance(refused, Effect)
    assert refused.status is EffectStatus.FAILED
    assert charge(world.provider.fetch(world.account, ref(made))).status is ChargeStatus.SUCCEEDED


def test_nothing_is_ever_captured() -> None:
    effect = InstamojoProvider(Script({})).capture(ACCOUNT, PAID, AMOUNT, "op_1")
    assert isinstance(effect, Effect)
    assert effect.status is EffectStatus.FAILED
    assert effect.error is not None
    assert effect.error.error_class is ErrorClass.CONFLICT


# refunds


def test_a_refund_carries_our_key_and_is_looked_for_first() -> None:
    said, script = refund({REFUNDS: good(refunds=[]), REFUND_POST: (201, {"success": True, "refund": REFUND})})
    assert isinstance(said, Effect)
    assert (said.status, said.provider_reference, said.amount) == (EffectStatus.SUCCEEDED, "C5c0751269", 50_000)
    assert script.sent == [REFUNDS, REFUND_POST]
    assert script.forms == [
        {
            "payment_id": PAYMENT["payment_id"],
            "type": "PTH",
            "body": f"Refund by the merchant ({KEY})",
            "refund_amount": "500.00",
        }
    ]


def test_a_refund_that_is_there_is_not_made_again() -> None:
    others = [
        {**REFUND, "id": "C1", "body": f"({KEY}) and more"},
        {**REFUND, "id": "C2", "body": f"({KEY}x)"},
        {**REFUND, "id": "C3", "body": None},
        {**REFUND, "id": "C4", "body": KEY},
    ]
    said, script = refund({REFUNDS: pages("refunds", *others, REFUND)})
    assert isinstance(said, Effect)
    assert said.provider_reference == "C5c0751269"
    assert REFUND_POST not in script.sent
    made, script = refund({REFUNDS: pages("refunds", *others), REFUND_POST: good(refund=REFUND)}, key=KEY)
    assert isinstance(made, Effect)
    assert script.sent == [REFUNDS, REFUNDS, REFUND_POST]


@pytest.mark.parametrize(
    ("lost", "kind"),
    [
        ((500, {}), Unknown),
        (UnknownError("read_timeout"), Unknown),
        ((200, {}), Unknown),
        (NONE, Unknown),
        ((429, {}), NotSent),
        (NotSentError("dns"), NotSent),
    ],
)
def test_a_refund_is_not_made_while_nobody_can_tell_whether_it_was(lost: Said, kind: type) -> None:
    said, script = refund({REFUNDS: lost})
    assert isinstance(said, kind)
    assert script.sent == [REFUNDS]


@pytest.mark.parametrize(
    "lost",
    [
        (500, {}),
        (503, b""),
        bad("Still working on it.", 409),
        UnknownError("read_timeout"),
        (201, b'{"succ'),
        (200, b"<html>"),
        good(),
        good(refund={}),
    ],
)
def test_a_lost_refund_is_unknown(lost: Said) -> None:
    said, script = refund({REFUNDS: pages("refunds"), REFUND_POST: lost})
    assert isinstance(said, Unknown)
    assert script.sent[-1] == REFUND_POST


def test_whose_refund_it_is_instamojo_says() -> None:
    by_hand = {**REFUND, "body": "By hand"}
    for entity, key in ((REFUND, KEY), ({**REFUND, "body": f"x ({OTHER_KEY})"}, OTHER_KEY), (by_hand, None)):
        found = InstamojoProvider(Script({"GET /refunds/C5c0751269/": good(refund=entity)})).fetch_refund(
            ACCOUNT, PAID, "", "C5c0751269"
        )
        assert isinstance(found, Effect)
        assert found.key == key
    made, _ = refund({REFUNDS: good(refunds=[]), REFUND_POST: (201, {"success": True, "refund": REFUND})})
    assert isinstance(made, Effect)
    assert made.key == KEY


def test_a_refund_asks_which_payment_where_nobody_told_us() -> None:
    more = {REFUNDS: good(refunds=[]), REFUND_POST: good(refund=REFUND)}
    said, script = refund({GET: request(PAYMENT), **more}, KNOWN)
    assert isinstance(said, Effect)
    assert script.forms[0]["payment_id"] == PAYMENT["payment_id"]
    unpaid, script = refund({GET: request(), **more}, KNOWN)
    assert isinstance(unpaid, Effect)
    assert unpaid.status is EffectStatus.FAILED
    assert script.sent == [GET]
    for status in (500, 429):
        assert isinstance(refund({GET: (status, {}), **more}, KNOWN)[0], NotSent)
    unclear: tuple[Said, ...] = (NONE, request(status="Completed"))  # there was one when it was made; paid, not shown
    for shown in unclear:
        said, script = refund({GET: shown, **more}, KNOWN)
        assert isinstance(said, Unknown)
        assert script.sent == [GET]


@pytest.mark.parametrize(
    ("shown", "status"),
    [
        ("Refunded", EffectStatus.SUCCEEDED),
        ("Pending", EffectStatus.PENDING),
        ("Initiated", EffectStatus.PENDING),
        (None, EffectStatus.PENDING),
        ("Failed", EffectStatus.FAILED),
        ("Rejected", EffectStatus.FAILED),
    ],
)
def test_a_refund_status_nobody_knows_is_pending(shown: str | None, status: EffectStatus) -> None:
    entity = {**REFUND, "status": shown, "refund_amount": "500.10"}
    script = Script({"GET /refunds/C5c0751269/": good(refund=entity), REFUNDS: pages("refunds", entity)})
    for reference in ("C5c0751269", None):
        found = InstamojoProvider(script).fetch_refund(ACCOUNT, PAID, KEY, reference)
        assert isinstance(found, Effect)
        assert (found.status, found.amount, found.currency) == (status, 50_010, "INR")
        assert (found.error is not None) is (status is EffectStatus.FAILED)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [(NONE, NotFound), (good(), Unknown), (bad("No."), Unknown), ((500, {}), Unknown), ((429, {}), NotSent)],
)
def test_a_refund_that_cannot_be_shown(answer: Said, kind: type) -> None:
    script = Script({"GET /refunds/..%2Fpayments%3Fx/": answer})
    assert isinstance(InstamojoProvider(script).fetch_refund(ACCOUNT, PAID, KEY, "../payments?x"), kind)


def test_refunds_of_payment_and_reversal_are_told_apart_by_their_keys() -> None:
    world = World("instamojo")
    paid = pay(world)
    known = ref(MADE, paid)
    for key, amount in ((KEY, 50_001), (OTHER_KEY, 99_899)):
        for _ in range(2):
            effect = world.provider.refund(world.account, known, amount, key)
            assert isinstance(effect, Effect)
            assert (effect.status, effect.amount) == (EffectStatus.SUCCEEDED, amount)
    assert [(row["key"], row["amount"]) for row in world.refunds()] == [(KEY, 50_001), (OTHER_KEY, 99_899)]


# settlements


DAY = date(2026, 11, 21)


def _settled(payments: Said | list[Said], refunds: Said | list[Said]) -> tuple[object, Script]:
    script = Script({"GET /payments/": payments, REFUNDS: refunds})
    return InstamojoProvider(script).settlement_lines(ACCOUNT, DAY), script


def test_a_day_is_its_payments_and_refunds() -> None:
    paid_out = {**PAYMENT, "payment_id": "MOJO2", "payout": {"id": "PO1", "paid_out_at": "2026-11-24T06:00:00Z"}}
    payments = [
        PAYMENT,
        paid_out,
        {**PAYMENT, "payment_id": "first", "created_at": "2026-11-20T18:30:00Z"},
        {**PAYMENT, "payment_id": "before", "created_at": "2026-11-20T18:29:59Z"},
        {**PAYMENT, "payment_id": "after", "created_at": "2026-11-21T18:30:00Z"},
        {**PAYMENT, "payment_id": "failed", "status": "Failed"},
    ]
    refunds = [REFUND, {**REFUND, "id": "C2", "body": "By hand"}, {**REFUND, "id": "C3", "status": "Pending"}]
    lines, script = _settled(pages("payments", *payments), pages("refunds", *refunds))
    assert isinstance(lines, list)
    assert [(line.kind, line.entity_id, line.amount, line.fee, line.tax, line.refund_key) for line in lines] == [
        ("payment", "MOJO6b21005A99887766", AMOUNT, 4422, 0, None),
        ("payment", "MOJO2", AMOUNT, 4422, 0, None),
        ("payment", "first", AMOUNT, 4422, 0, None),
        ("refund", "C5c0751269", -50_000, 0, 0, KEY),
        ("refund", "C2", -50_000, 0, 0, None),
    ]
    assert [line.settlement_id for line in lines] == [None, "PO1", None, None, None]
    assert lines[1].settled_at is not None
    assert lines[1].settled_at.isoformat() == "2026-11-24T06:00:00+00:00"
    assert {line.provider_reference for line in lines if line.kind == "refund"} == {PAYMENT["payment_id"]}
    assert script.queries[0]["min_created_at"] == "2026-11-20T18:30:00Z"
    assert script.queries[0]["max_created_at"] == "2026-11-21T18:30:00Z"


@pytest.mark.parametrize("wrong", [{"amount": "x"}, {"currency": None}, {"created_at": None}, {"created_at": "x"}])
def test_a_line_nobody_can_read_is_not_left_out(wrong: dict[str, object]) -> None:
    assert isinstance(_settled(pages("payments", {**PAYMENT, **wrong}), pages("refunds"))[0], Unknown)


@pytest.mark.parametrize("wrong", [{"refund_amount": "x"}, {"created_at": None}])
def test_a_refund_nobody_can_read_is_not_left_out(wrong: dict[str, object]) -> None:
    assert isinstance(_settled(pages("payments"), pages("refunds", {**REFUND, **wrong}))[0], Unknown)


def test_a_report_that_cannot_be_read_is_none() -> None:
    for lost, kind in (((500, {}), Unknown), ((429, {}), NotSent), ((401, {}), NotSent), (good(), Unknown)):
        assert isinstance(_settled(lost, pages("refunds"))[0], kind)
        assert isinstance(_settled(pages("payments"), lost)[0], kind)


def test_the_lines_add_up_to_what_the_bank_settled() -> None:
    world = World("instamojo")
    paid = pay(world)
    world.provider.refund(world.account, ref(MADE, paid), 50_000, KEY)
    pay(world, intent(number=2, amount=99_901))
    pay(world, intent(number=3), "decline@sim")
    lines = world.provider.settlement_lines(world.account, NOW.date())
    settled = world.bank.book.settlements("instamojo", NOW.date())
    assert isinstance(lines, list)
    assert sorted((line.kind, line.amount, line.fee + line.tax) for line in lines) == sorted(
        ("refund" if row.refund else "payment", -row.amount if row.refund else row.amount, row.fee + row.tax)
        for row in settled
    )
    assert {line.settlement_id for line in lines if line.kind == "payment"} == {row.settlement_id for row in settled}
    assert world.provider.settlement_lines(world.account, NOW.date() - timedelta(days=1)) == []
