"""What only Instamojo's format can get wrong, payment requests: made, lost, found and decided."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from chalicelib.domain.errors import ErrorClass, ErrorCode
from chalicelib.domain.ids import made_at
from chalicelib.domain.outcome import (
    Charge,
    ChargeStatus,
    Effect,
    EffectStatus,
    NotFound,
    NotSent,
    Unknown,
)
from chalicelib.providers import instamojo_wire as wire
from chalicelib.providers.http import UnknownError
from chalicelib.providers.instamojo import InstamojoProvider
from tests.contract.instamojo_script import (
    ACCOUNT,
    GET,
    ID,
    KNOWN,
    LISTED,
    MADE,
    NONE,
    PAYMENT,
    POST,
    PURPOSE,
    REQUEST,
    Answers,
    Said,
    Script,
    bad,
    charge,
    charge_id,
    create,
    fetch,
    good,
    pages,
    pay,
    refund_text,
    request,
)
from tests.contract.sandbox_world import AMOUNT, NOTIFY_URL, NOW, World, intent, ref

# making the request


def test_a_request_carries_our_reference_and_exact_rupees() -> None:
    made = replace(MADE, amount=149_905, return_url="https://shop.example/back?order=7")
    script = Script({POST: (201, {"success": True, "payment_request": {**REQUEST, "amount": "1499.05"}})})
    said = charge(InstamojoProvider(script).create(ACCOUNT, made))
    assert said.status is ChargeStatus.ACTION_REQUIRED
    assert said.next_action == {"type": "redirect", "url": REQUEST["longurl"]}
    assert said.data == {"request_id": ID, "longurl": REQUEST["longurl"]}
    assert (said.amount, said.captured, said.provider_reference) == (149_905, 0, None)
    assert script.sent == [POST]
    assert {**script.forms[0], "buyer_name": ""} == {
        "purpose": PURPOSE,
        "amount": "1499.05",
        "buyer_name": "",
        "email": "asha@example.com",
        "phone": "+919800000000",
        "redirect_url": "https://shop.example/back?order=7",
        "webhook": NOTIFY_URL,
        "send_email": "false",
        "send_sms": "false",
        "allow_repeated_payments": "false",
    }
    assert len(PURPOSE) <= 30
    assert (script.headers["x-api-key"], script.headers["x-auth-token"]) == ("test_k", "test_t")


def test_nothing_of_a_customer_is_invented_and_nothing_of_an_instrument_sent() -> None:
    long = {"name": "A" * 101, "email": f"{'a' * 70}@example.com"}
    for customer, expected in (({}, {}), (long, {"buyer_name": "A" * 100})):
        script = Script({POST: good(payment_request=REQUEST)})
        InstamojoProvider(script).create(ACCOUNT, replace(MADE, customer=customer))
        optional = {"buyer_name", "email", "phone", "redirect_url"}
        assert {name: value for name, value in script.forms[0].items() if name in optional} == expected
        assert "sim" not in json.dumps(script.forms)


@pytest.mark.parametrize(
    "lost",
    [
        UnknownError("read_timeout"),
        (500, b"<html>"),
        (502, {}),
        (200, b"<html>"),
        (201, b'{"success": true, "payment_req'),
        (200, {"success": True}),
        good(payment_request={**REQUEST, "id": None}),
        good(payment_request={**REQUEST, "longurl": "javascript:alert(1)"}),
        good(payment_request={**REQUEST, "longurl": None}),
    ],
)
def test_a_lost_request_is_looked_up_at_once(lost: Said) -> None:
    other = {**REQUEST, "id": "other", "purpose": f"{PURPOSE}x"}
    said, script = create(lost, {LISTED: pages("payment_requests", other, REQUEST), GET: request()})
    found = charge(said)
    assert (found.status, found.data["request_id"]) == (ChargeStatus.ACTION_REQUIRED, ID)
    assert found.next_action == {"type": "redirect", "url": REQUEST["longurl"]}
    assert script.sent == [POST, LISTED, LISTED, GET]
    hour_before = made_at(MADE.payment_id) - timedelta(hours=1)
    assert script.queries[1]["min_created_at"] == hour_before.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert "max_created_at" not in script.queries[1]


@pytest.mark.parametrize(
    "listing", [[good(payment_requests=[])], [(500, {})], [UnknownError("read_timeout")], [(429, {})], [NONE]]
)
def test_a_lost_request_that_is_not_found_yet_is_unknown(listing: list[Said]) -> None:
    said, script = create(UnknownError("read_timeout"), {LISTED: listing})
    assert isinstance(said, Unknown)
    assert said.exchange is not None
    assert said.exchange.method == "POST"
    assert script.sent.count(POST) == 1


@pytest.mark.parametrize(
    ("answer", "error_class"),
    [
        ((401, {"success": False, "message": "Invalid Auth Token"}), ErrorClass.CONFIG),
        ((403, {"error": "Invalid scopes"}), ErrorClass.CONFIG),
        ((429, b"slow down"), ErrorClass.RATE_LIMITED),
    ],
)
def test_a_request_that_was_turned_away_was_not_sent(answer: Said, error_class: ErrorClass) -> None:
    said, script = create(answer)
    assert isinstance(said, NotSent)
    assert said.error.error_class is error_class
    assert script.sent == [POST]


@pytest.mark.parametrize("status", [200, 400, 404, 422])
@pytest.mark.parametrize("field", [*wire.FIELDS, "something_new"])
def test_a_refused_field_ends_as_its_table_says(field: str, status: int) -> None:
    said, script = create(bad({field: ["Quotes what was typed: asha@example.com"]}, status))
    error_class, code = wire.FIELDS.get(field, (ErrorClass.INVALID_REQUEST, ErrorCode.NOT_ACCEPTED))
    assert isinstance(said, NotSent if error_class is ErrorClass.CONFIG else Charge)
    assert said.error is not None
    assert (said.error.error_class, said.error.code) == (error_class, code)
    assert said.error.provider_code == (f"invalid_{field}" if field in wire.FIELDS else f"http_{status}")
    assert "asha" not in repr(said)
    assert script.sent == [POST]


@pytest.mark.parametrize("part", [*wire.SENTENCES, "no such words"])
def test_a_refusing_sentence_ends_as_its_table_says(part: str) -> None:
    said, _ = create(bad(f"Sorry, {part.title()}, asha@example.com."))
    error_class, code = wire.SENTENCES.get(part, (ErrorClass.INVALID_REQUEST, ErrorCode.NOT_ACCEPTED))
    assert isinstance(said, NotSent if error_class is ErrorClass.CONFIG else Charge)
    assert said.error is not None
    assert (said.error.error_class, said.error.code) == (error_class, code)
    assert "asha" not in repr(said)


@pytest.mark.parametrize("message", [None, 7, [], {}, ""])
def test_a_refusal_without_a_reason_is_still_one(message: object) -> None:
    said = charge(create(bad(message))[0])
    assert said.status is ChargeStatus.DECLINED
    assert said.error is not None
    assert said.error.error_class is ErrorClass.INVALID_REQUEST


def test_another_amount_is_passed_on_as_it_is() -> None:
    for shown, amount in (
        ("1500.00", 150_000),
        (1499.5, 149_950),
        ("1,499.00", None),
        ("1499.001", None),
        (True, None),
    ):
        assert charge(create(good(payment_request={**REQUEST, "amount": shown}))[0]).amount == amount


def test_a_request_made_by_the_bank_is_found_after_every_kind_of_loss() -> None:
    for fault in ("timeout_after", "technical_after", "html", "truncated"):
        world = World("instamojo")
        world.chaos(operation="create", fault=fault)
        said = world.charge(MADE)
        assert said.status is ChargeStatus.ACTION_REQUIRED
        assert len(world.bank.book.orders) == 1
    world = World("instamojo")
    world.chaos(operation="create", fault="slow")
    assert isinstance(world.provider.create(world.account, MADE), Unknown)
    assert isinstance(world.provider.fetch(world.account, ref(MADE)), NotFound)
    world.pass_time(21)
    assert charge(world.provider.fetch(world.account, ref(MADE))).status is ChargeStatus.ACTION_REQUIRED


# looking


@pytest.mark.parametrize(
    ("shown", "status"),
    [
        ({"status": "Credit"}, ChargeStatus.SUCCEEDED),
        ({"status": "Failed"}, ChargeStatus.DECLINED),
        ({"status": None}, ChargeStatus.PENDING),
        ({"status": "Initiated"}, ChargeStatus.PENDING),
        ({"status": "credit"}, ChargeStatus.PENDING),
        ({"status": True}, ChargeStatus.PENDING),
        ({"status": "Credit", "amount": "1,499.00"}, ChargeStatus.PENDING),
        ({"status": "Credit", "amount": None}, ChargeStatus.PENDING),
        ({"status": "Credit", "currency": None}, ChargeStatus.PENDING),
        ({"status": "Credit", "currency": "XXX"}, ChargeStatus.PENDING),
    ],
)
def test_a_status_or_amount_nobody_can_read_is_pending(shown: dict[str, object], status: ChargeStatus) -> None:
    found = charge(fetch({GET: request({**PAYMENT, **shown})})[0])
    assert (found.status, found.provider_reference) == (status, PAYMENT["payment_id"])
    assert found.captured == (AMOUNT if status is ChargeStatus.SUCCEEDED else 0)
    assert (found.error is not None) is (status is ChargeStatus.DECLINED)


def test_amount_and_currency_of_a_payment_are_passed_on() -> None:
    for shown, expected in (
        ({"amount": "1500.10"}, (150_010, "INR")),
        ({"amount": "1499"}, (AMOUNT, "INR")),
        ({"amount": "1499.00", "currency": "USD"}, (AMOUNT, "USD")),
        ({"amount": "1499", "currency": "JPY"}, (1499, "JPY")),
    ):
        found = charge(fetch({GET: request({**PAYMENT, **shown})})[0])
        assert (found.amount, found.currency, found.captured) == (*expected, expected[0])


@pytest.mark.parametrize("reason", [*wire.ERRORS, "SOMETHING_NEW", None])
def test_every_reason_of_the_table_is_classified(reason: str | None) -> None:
    failure = {"reason": reason, "message": "asha@okbank has no money"} if reason else None
    for spelling in (reason, reason.lower()) if reason else (None,):
        shown = {**PAYMENT, "status": "Failed", "failure": {**failure, "reason": spelling} if failure else None}
        found = charge(fetch({GET: request(shown)})[0])
        expected = wire.ERRORS.get(reason or "", (ErrorClass.DECLINED_ISSUER, ErrorCode.PAYMENT_DECLINED))
        assert found.status is ChargeStatus.DECLINED
        assert found.error is not None
        assert (found.error.error_class, found.error.code) == expected
        assert found.error.provider_code == spelling
        assert "asha" not in repr(found)


def _tried(name: str, status: str | None, at: str) -> dict[str, object]:
    return {**PAYMENT, "payment_id": name, "status": status, "created_at": at}


@pytest.mark.parametrize(
    ("payments", "expected"),
    [
        ([_tried("a", "Credit", "2026-11-21T04:31:00Z"), _tried("b", "Failed", "2026-11-21T04:32:00Z")], "a"),
        ([_tried("a", "Failed", "2026-11-21T04:31:00Z"), _tried("b", None, "2026-11-21T04:32:00Z")], "b"),
        ([_tried("a", None, "2026-11-21T04:33:00Z"), _tried("b", "Failed", "2026-11-21T04:32:00Z")], "a"),
        ([_tried("a", "Failed", "2026-11-21T04:31:00.4Z"), _tried("b", "Failed", "2026-11-21T04:31:00Z")], "a"),
        ([_tried("a", "Failed", "2026-11-21T10:01:30+05:30"), _tried("b", "Failed", "2026-11-21T04:32:00")], "b"),
        ([_tried("a", "Failed", "yesterday"), _tried("b", "Failed", "2026-11-21T04:32:00Z")], "b"),
    ],
)
def test_a_request_is_decided_by_its_best_payment(payments: list[dict[str, object]], expected: str) -> None:
    for order in (payments, payments[::-1]):
        assert charge(fetch({GET: request(*order)})[0]).provider_reference == expected


def test_payments_may_be_named_by_id_or_address() -> None:
    one, two = "GET /payments/MOJO1/", "GET /payments/MOJO2/"
    listed = ("MOJO1", "https://test.instamojo.com/api/1.1/payments/MOJO2/", 7)
    answers: Answers = {
        GET: request(*listed),
        one: good(payment=_tried("MOJO1", "Failed", "2026-11-21T04:31:00Z")),
        two: good(payment=_tried("MOJO2", "Credit", "2026-11-21T04:30:00Z")),
    }
    found, script = fetch(answers)
    assert (charge(found).status, charge(found).provider_reference) == (ChargeStatus.SUCCEEDED, "MOJO2")
    assert script.sent == [GET, one, two]
    assert charge(fetch({**answers, two: NONE})[0]).provider_reference == "MOJO1"
    losses: tuple[Said, ...] = ((500, {}), UnknownError("read_timeout"), (200, b"{"))
    for lost in losses:
        assert isinstance(fetch({**answers, one: lost})[0], Unknown)
    assert isinstance(fetch({**answers, one: (429, {})})[0], NotSent)


@pytest.mark.parametrize(
    ("shown", "status"),
    [
        ({"status": "Pending"}, ChargeStatus.ACTION_REQUIRED),
        ({"status": "Sent"}, ChargeStatus.ACTION_REQUIRED),
        ({"status": "Failed"}, ChargeStatus.ACTION_REQUIRED),  # the mail failed, nobody was asked to pay by it
        ({"status": "Completed"}, ChargeStatus.PENDING),
        ({"status": "Disabled"}, ChargeStatus.CANCELED),
        ({"status": "Expired"}, ChargeStatus.CANCELED),
        ({"payments": None}, ChargeStatus.ACTION_REQUIRED),
        ({"longurl": None}, ChargeStatus.PENDING),
    ],
)
def test_a_request_that_nobody_has_paid(shown: dict[str, object], status: ChargeStatus) -> None:
    found = charge(fetch({GET: request(**shown)})[0])
    assert (found.status, found.amount, found.captured, found.provider_reference) == (status, AMOUNT, 0, None)
    assert (found.next_action is not None) is (status is ChargeStatus.ACTION_REQUIRED)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (NONE, NotFound),
        (bad("Something else.", 200), Unknown),
        (bad("Something else.", 400), Unknown),
        ((200, {}), Unknown),
        (good(payment_request={**REQUEST, "id": "another"}), Unknown),
        ((500, {}), Unknown),
        ((301, b""), Unknown),
        ((429, {}), NotSent),
        ((401, {}), NotSent),
    ],
)
def test_a_look_that_shows_no_request(answer: Said, kind: type) -> None:
    assert isinstance(fetch({GET: answer})[0], kind)


def test_without_an_id_the_hour_is_searched_for_our_purpose() -> None:
    known = replace(KNOWN, data={}, provider_reference="MOJO1")
    listing = pages("payment_requests", {**REQUEST, "id": "x", "purpose": PURPOSE.swapcase()}, REQUEST)
    found, script = fetch({LISTED: listing, GET: request(PAYMENT)}, known)
    assert charge(found).status is ChargeStatus.SUCCEEDED
    window = NOW - timedelta(hours=1), NOW + timedelta(hours=1)
    assert script.queries[0] == {
        "min_created_at": window[0].strftime("%Y-%m-%dT%H:%M:%SZ"),
        "max_created_at": window[1].strftime("%Y-%m-%dT%H:%M:%SZ"),
        "page": "1",
        "limit": "200",
    }
    assert isinstance(fetch({LISTED: pages("payment_requests", {**REQUEST, "purpose": "FIFA 16"})}, known)[0], NotFound)


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        ([("two", [PAYMENT])], ChargeStatus.SUCCEEDED),
        ([("two", [{**PAYMENT, "status": None}])], ChargeStatus.PENDING),
        ([("two", [{**PAYMENT, "status": "Failed"}])], ChargeStatus.ACTION_REQUIRED),
        ([("two", [{**PAYMENT, "status": None}]), ("three", [PAYMENT])], ChargeStatus.SUCCEEDED),
    ],
)
def test_of_two_requests_for_one_reference_the_paid_one_counts(
    others: list[tuple[str, list[object]]], expected: ChargeStatus
) -> None:
    listed = [REQUEST, *({**REQUEST, "id": name} for name, _ in others)]
    more: Answers = {f"GET /payment-requests/{name}/": request(*paid, id=name) for name, paid in others}
    answers: Answers = {LISTED: pages("payment_requests", *listed), GET: request(), **more}
    assert charge(fetch(answers, replace(KNOWN, data={}))[0]).status is expected


# lists


def _rows(first: int, last: int) -> list[dict[str, object]]:
    return [{**REQUEST, "id": f"id{number}", "purpose": "other"} for number in range(first, last)]


def test_a_list_is_read_until_a_page_brings_nothing_new() -> None:
    known = replace(KNOWN, data={})
    first, second = good(payment_requests=_rows(0, 3)), good(payment_requests=[*_rows(2, 4), REQUEST])
    for end in (good(payment_requests=[]), second, NONE):
        found, script = fetch({LISTED: [first, second, end], GET: request()}, known)
        assert charge(found).data["request_id"] == ID
        assert [query["page"] for query in script.queries[:-1]] == ["1", "2", "3"]


@pytest.mark.parametrize(
    "broken",
    [
        good(),
        good(payment_requests=None),
        good(payment_requests={}),
        good(payment_requests=[7]),
        good(payment_requests=[{"purpose": PURPOSE}]),
        NONE,
        bad("Something else."),
        (500, {}),
    ],
)
def test_a_broken_list_never_says_not_found(broken: Said) -> None:
    known = replace(KNOWN, data={})
    assert isinstance(fetch({LISTED: broken}, known)[0], Unknown)
    if broken is not NONE:
        assert isinstance(fetch({LISTED: [good(payment_requests=_rows(0, 2)), broken]}, known)[0], Unknown)


def test_a_list_without_end_is_given_up() -> None:
    endless: list[Said] = [good(payment_requests=_rows(number, number + 1)) for number in range(100)]
    found, script = fetch({LISTED: endless}, replace(KNOWN, data={}))
    assert isinstance(found, Unknown)
    assert len(script.sent) == 50


def test_a_request_and_a_refund_are_found_on_a_later_page() -> None:
    world = World("instamojo")
    made = intent()
    paid = pay(world, made)
    for number in range(2, 99):
        world.charge(intent(number=number))
    for number in range(250):
        key = f"rf_01K00000000000000000{number:06d}"
        world.bank.book.refund(world.bank.book.charges[charge_id(paid)], 100, key, details=refund_text(key))
    assert charge(world.provider.fetch(world.account, ref(made))).provider_reference == paid.provider_reference
    found = world.provider.fetch_refund(world.account, ref(made, paid), "rf_01K00000000000000000000001", None)
    assert isinstance(found, Effect)
    assert (found.status, found.amount) == (EffectStatus.SUCCEEDED, 100)
    assert isinstance(world.provider.fetch_refund(world.account, ref(made, paid), "rf_none", None), NotFound)
