"""What only Cashfree's format can get wrong of an order and a payment, against answers made by hand."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from chalicelib.domain.errors import ErrorClass, ErrorCode
from chalicelib.domain.outcome import (
    Charge,
    ChargeStatus,
    NotFound,
    NotSent,
    Unknown,
)
from chalicelib.providers.cashfree import CashfreeProvider
from chalicelib.providers.cashfree_errors import ERRORS, UNDECIDED
from chalicelib.providers.cashfree_wire import LIVE, STATUSES, TEST
from chalicelib.providers.http import UnknownError
from tests.contract.cashfree_script import (
    ACCOUNT,
    MADE,
    ORDER,
    PATH,
    PAYMENT,
    SECRET,
    Script,
    Told,
    charge,
    error,
    known,
    some,
)
from tests.contract.sandbox_world import AMOUNT

if TYPE_CHECKING:
    from chalicelib.providers.base import ChargeIntent

MADE_PAYMENT: dict[str, object] = {"cf_payment_id": "1453002795", "action": "custom", "data": None}
BY = "2027-01-15T14:00:00+05:30"  # when the payments made here end


def create(script: Script, made: ChargeIntent = MADE, base_url: str = TEST) -> object:
    return CashfreeProvider(script).create(replace(ACCOUNT, base_url=base_url), made)


def pay(answer: Told, payments: Told = (200, [PAYMENT]), made: ChargeIntent = MADE) -> tuple[object, Script]:
    script = Script(
        {"POST /orders": (200, ORDER), "POST /orders/sessions": answer, f"GET {PATH}/payments": payments,
         f"GET {PATH}": (200, ORDER)}
    )  # fmt: skip
    return create(script, made), script


# the order


def test_the_order_says_what_cashfree_asks_for() -> None:
    _, script = pay((200, MADE_PAYMENT))
    assert script.bodies["POST /orders"] == {
        "order_id": MADE.reference,
        "order_amount": 1499.0,
        "order_currency": "INR",
        "customer_details": {
            "customer_id": "ea4e36a829983d27e865b649cd10fcb6",
            "customer_phone": "9800000000",
            "customer_email": "asha@example.com",
            "customer_name": "Asha Rao",
        },
        "order_meta": {
            "notify_url": "http://railyard.test/webhooks",
            "return_url": "https://shop.example/back?order=7&order_id={order_id}#done",
        },
        "order_expiry_time": "2027-01-15T14:16:00+05:30",
        "order_tags": {"payment_id": MADE.payment_id, "reference": MADE.reference, "capture": "automatic"},
        "order_note": "Two books",
    }
    headers = script.headers["POST /orders"]
    assert (headers["x-client-id"], headers["x-client-secret"], headers["x-api-version"]) == (
        "id",
        SECRET,
        "2025-01-01",
    )
    assert "x-idempotency-key" not in headers
    key = UUID(script.headers["POST /orders/sessions"]["x-idempotency-key"])
    _, again = pay((200, MADE_PAYMENT))
    assert UUID(again.headers["POST /orders/sessions"]["x-idempotency-key"]) == key


@pytest.mark.parametrize(
    ("contact", "phone"),
    [
        ("+919800000000", "9800000000"),
        ("+91 98000-00000", "9800000000"),
        ("09800000000", "9800000000"),
        ("9800000000", "9800000000"),
        ("+1 (415) 555-0100", "+14155550100"),
        ("12345", "12345"),
    ],
)
def test_a_phone_number_is_ten_digits_or_foreign(contact: str, phone: str) -> None:
    made = replace(MADE, customer={"contact": contact, "name": "Jo"}, description="x", return_url=None)
    _, script = pay((200, MADE_PAYMENT), made=made)
    order = script.bodies["POST /orders"]
    assert isinstance(details := order["customer_details"], dict)
    assert details["customer_phone"] == phone
    assert re.fullmatch(r"[0-9a-f]{32}", str(details["customer_id"]))
    assert set(details) == {"customer_id", "customer_phone"}  # "Jo" is shorter than a name may be
    assert "order_note" not in order
    assert order["order_meta"] == {"notify_url": MADE.notify_url}


@pytest.mark.parametrize(
    "lost",
    [(500, {}), (502, b"<html>"), (200, b"<html>"), (200, b'{"order'), UnknownError("read_timeout")],
    ids=["500", "502", "html", "truncated", "timeout"],
)
def test_a_lost_order_is_looked_up_once(lost: Told) -> None:
    there = {"POST /orders/sessions": (200, MADE_PAYMENT), f"GET {PATH}/payments": (200, [PAYMENT])}
    script = Script({"POST /orders": lost, f"GET {PATH}": (200, ORDER), **there})
    assert charge(create(script)).status is ChargeStatus.SUCCEEDED
    assert script.sent[:3] == ["POST /orders", f"GET {PATH}", "POST /orders/sessions"]
    for answer in (error("order_not_found", 404), (500, {}), (429, {}), UnknownError("read_timeout")):
        script = Script({"POST /orders": lost, f"GET {PATH}": answer})
        assert isinstance(create(script), NotSent)
        assert len(script.sent) == 2


def test_an_order_without_a_session_was_not_paid() -> None:
    script = Script({"POST /orders": (200, {**ORDER, "payment_session_id": None})})
    assert isinstance(create(script), NotSent)


@pytest.mark.parametrize("wrong", [{"order_amount": 1499.01}, {"order_currency": "USD"}, {"order_amount": None}])
@pytest.mark.parametrize("used", [False, True])
def test_an_order_for_another_amount_is_never_paid(wrong: dict[str, object], used: bool) -> None:  # noqa: FBT001
    other = (200, {**ORDER, **wrong})
    made = error("order_already_exists", 409) if used else other
    script = Script({"POST /orders": made, f"GET {PATH}": other})
    declined = charge(create(script))
    assert (declined.status, declined.error and declined.error.code) == (ChargeStatus.DECLINED, ErrorCode.MISMATCH)
    assert "POST /orders/sessions" not in script.sent


@pytest.mark.parametrize("code", ["order_already_exists", "order_id_already_exists"])
def test_a_used_id_leads_to_the_payment_that_exists_and_never_to_another(code: str) -> None:
    script = Script(
        {"POST /orders": error(code, 409), f"GET {PATH}": (200, ORDER), f"GET {PATH}/payments": [(200, [PAYMENT])]}
    )
    assert charge(create(script)).status is ChargeStatus.SUCCEEDED
    lost: tuple[Told, ...] = ((200, []), (500, {}), (429, {}))
    for payments in lost:  # the first one may still be on its way
        script.answers[f"GET {PATH}/payments"] = [payments]
        assert isinstance(create(script), Unknown)
    assert "POST /orders/sessions" not in script.sent


@pytest.mark.parametrize(
    ("status", "expected"),
    [("EXPIRED", ChargeStatus.CANCELED), ("TERMINATED", ChargeStatus.CANCELED), ("PAID", ChargeStatus.PENDING)],
)
def test_an_order_that_is_over_is_not_paid_again(status: str, expected: ChargeStatus) -> None:
    over = (200, {**ORDER, "order_status": status})
    script = Script({"POST /orders": over, f"GET {PATH}": over, f"GET {PATH}/payments": (200, [])})
    assert charge(create(script)).status is expected
    assert "POST /orders/sessions" not in script.sent


@pytest.mark.parametrize(
    ("base_url", "mode"), [(LIVE, "production"), (TEST, "sandbox"), ("http://127.0.0.1:8105/pg", "sandbox")]
)
def test_a_card_is_paid_on_cashfrees_page(base_url: str, mode: str) -> None:
    script = Script({"POST /orders": (200, ORDER), f"GET {PATH}/payments": (200, []), f"GET {PATH}": (200, ORDER)})
    script.base_url = base_url
    made = charge(create(script, replace(MADE, method={"type": "card"}), base_url))
    action = {"type": "provider_checkout", "provider": "cashfree",
              "params": {"payment_session_id": "session_1", "mode": mode}}  # fmt: skip
    assert (made.status, made.next_action, made.data) == (
        ChargeStatus.ACTION_REQUIRED, action, {"waits": "checkout"},
    )  # fmt: skip
    found = charge(CashfreeProvider(script).fetch(replace(ACCOUNT, base_url=base_url), known(made.data)))
    assert (found.status, found.next_action) == (ChargeStatus.ACTION_REQUIRED, action)
    script.answers["POST /orders"] = [error("order_already_exists", 409)]
    again = charge(create(script, replace(MADE, method={"type": "card"}), base_url))
    assert again.next_action == action  # no payment of ours can be on its way


# the payment


@pytest.mark.parametrize(
    ("method", "capture", "sent"),
    [
        ({"type": "upi", "flow": "collect", "vpa": "a@b"}, "automatic",
         {"upi": {"channel": "collect", "upi_id": "a@b"}}),
        ({"type": "upi", "flow": "intent", "vpa": "a@b"}, "automatic", {"upi": {"channel": "link"}}),
        ({"type": "upi", "flow": "collect", "vpa": "a@b"}, "manual",
         {"upi": {"channel": "collect", "upi_id": "a@b", "authorize_only": True, "authorization": {
             "approve_by": BY, "start_time": BY, "end_time": "2027-01-22T14:00:00+05:30"}}}),
        ({"type": "netbanking", "bank": "HDFC"}, "automatic",
         {"netbanking": {"channel": "link", "netbanking_bank_name": "HDFCR"}}),
        ({"type": "netbanking", "bank": "3021"}, "automatic",
         {"netbanking": {"channel": "link", "netbanking_bank_code": 3021}}),
        ({"type": "wallet", "wallet": "amazonpay"}, "automatic",
         {"app": {"channel": "link", "provider": "amazon", "phone": "9800000000"}}),
        ({"type": "wallet", "wallet": "PAYTM"}, "automatic",
         {"app": {"channel": "link", "provider": "paytm", "phone": "9800000000"}}),
    ],
)  # fmt: skip
def test_a_method_in_cashfrees_words(method: dict[str, str], capture: str, sent: dict[str, object]) -> None:
    made = replace(MADE, method=method, capture="manual" if capture == "manual" else "automatic")
    _, script = pay((200, MADE_PAYMENT), made=made)
    expected = {"payment_session_id": "session_1", "payment_method": sent}
    assert script.bodies["POST /orders/sessions"] == expected


@pytest.mark.parametrize(
    ("more", "action"),
    [
        ({"action": "link", "data": {"url": "https://x/pay", "payload": None, "method": None}},
         {"type": "redirect", "url": "https://x/pay"}),
        ({"action": "link", "data": {"url": "https://x/pay", "payload": {"name": "card", "n": 7}, "method": "post"}},
         {"type": "form_post", "url": "https://x/pay", "fields": {"name": "card", "n": "7"}}),
        ({"action": "form", "data": {"url": "https://x/pay", "payload": {"a": "b"}}},
         {"type": "form_post", "url": "https://x/pay", "fields": {"a": "b"}}),
        ({"action": "post", "data": {"url": None, "redirect_to_bank": "https://x/bank"}},
         {"type": "redirect", "url": "https://x/bank"}),
        ({"action": "custom", "data": {"url": None, "payload": {"default": "upi://pay?pa=a", "gpay": "tez://x"}}},
         {"type": "upi_intent", "uri": "upi://pay?pa=a"}),
        ({"action": "link", "data": {"url": "javascript:1", "payload": {"default": "file:///x"}}}, None),
        ({"action": "custom", "data": {"payload": {"qrcode": "data:image/png;base64,…"}}}, None),
        ({"action": "custom", "data": None}, None),
    ],
)  # fmt: skip
def test_what_the_customer_has_to_do(more: dict[str, object], action: dict[str, object] | None) -> None:
    pending = {**PAYMENT, "payment_status": "PENDING"}
    outcome, script = pay((200, {**MADE_PAYMENT, **more}), (200, [pending]))
    made = charge(outcome)
    assert (made.next_action, made.provider_reference) == (action, "1453002795")
    assert made.status is (ChargeStatus.ACTION_REQUIRED if action else ChargeStatus.PENDING)
    assert made.data == ({"waits": "customer"} if action else {})
    assert len(script.sent) == (2 if action else 3)
    found = charge(CashfreeProvider(script).fetch(ACCOUNT, known(made.data)))
    assert found.status is made.status


def test_a_payment_without_a_reachable_look_up_is_pending_and_not_unknown() -> None:
    for look_up in (UnknownError("read_timeout"), (500, {}), error("x"), (429, {}), (404, {}), (200, {})):
        outcome, _ = pay((200, MADE_PAYMENT), look_up)
        assert (charge(outcome).status, charge(outcome).provider_reference) == (ChargeStatus.PENDING, "1453002795")


@pytest.mark.parametrize(
    "answer",
    [(200, {}), (200, b"<html>"), (200, b'{"cf_pay'), (409, {}), (422, {}), error("bank_processing_failure", 502),
     (503, {}), *(error(code) for code in sorted(UNDECIDED))],
)  # fmt: skip
def test_a_payment_without_a_proper_answer_is_unknown(answer: Told) -> None:
    outcome, script = pay(answer)
    assert isinstance(outcome, Unknown)
    assert script.sent.count("POST /orders/sessions") == 1


@pytest.mark.parametrize("code", sorted(ERRORS))
def test_every_code_of_the_table_ends_as_its_class_says(code: str) -> None:
    error_class, ours = ERRORS[code]
    outcome, script = pay(error(code), (200, []))
    if error_class is ErrorClass.CONFLICT:
        assert isinstance(outcome, Unknown)  # the order was looked at, and shows no payment yet
        return
    assert isinstance(outcome, NotSent if error_class is ErrorClass.CONFIG else Charge)
    assert outcome.error is not None
    assert (outcome.error.error_class, outcome.error.code, outcome.error.provider_code) == (error_class, ours, code)
    assert len(script.sent) == 2


def test_a_code_nobody_knows_is_our_request() -> None:
    outcome, _ = pay(error("new_code"))
    refused = charge(outcome).error
    assert refused is not None
    assert (refused.error_class, refused.provider_code) == (ErrorClass.INVALID_REQUEST, "new_code")
    outcome, _ = pay((400, {}))
    assert charge(outcome).error is not None


# how a payment stands


def look(*payments: dict[str, object], order: dict[str, object] | None = None, waits: str = "") -> object:
    """What a look-up says of an order with these payments."""
    script = Script({f"GET {PATH}/payments": (200, list(payments)), f"GET {PATH}": (200, {**ORDER, **(order or {})})})
    return CashfreeProvider(script).fetch(ACCOUNT, known({"waits": waits} if waits else {}))


@pytest.mark.parametrize("status", [*STATUSES, "ON_THE_MOON", 7, None])
def test_every_status_is_in_the_table_and_others_are_pending(status: str | int | None) -> None:
    found = charge(look({**PAYMENT, "payment_status": status}))
    expected = STATUSES.get(str(status), ChargeStatus.PENDING)
    assert (found.status, found.amount, found.currency) == (expected, AMOUNT, "INR")
    assert found.captured == (AMOUNT if status == "SUCCESS" else 0)
    assert (found.error is not None) is (expected is ChargeStatus.DECLINED)


@pytest.mark.parametrize(
    ("more", "status", "captured"),
    [
        ({"is_captured": False}, ChargeStatus.AUTHORIZED, 0),
        ({"is_captured": None}, ChargeStatus.AUTHORIZED, 0),
        ({"is_captured": 1}, ChargeStatus.AUTHORIZED, 0),
        ({"is_captured": False, "authorization": {"action": "VOID", "status": "SUCCESS"}}, ChargeStatus.CANCELED, 0),
        ({"is_captured": False, "authorization": {"action": "VOID", "status": "PENDING"}}, ChargeStatus.AUTHORIZED, 0),
        ({"authorization": {"action": "CAPTURE", "status": "SUCCESS", "captured_amount": 1000.5}},
         ChargeStatus.SUCCEEDED, 100_050),
        ({"authorization": {"action": "CAPTURE", "status": "SUCCESS", "captured_amount": None}},
         ChargeStatus.SUCCEEDED, AMOUNT),
    ],
)  # fmt: skip
def test_a_success_may_be_held_or_taken_in_part(more: dict[str, object], status: ChargeStatus, captured: int) -> None:
    found = charge(look({**PAYMENT, **more}))
    assert (found.status, found.captured, found.amount) == (status, captured, AMOUNT)


@pytest.mark.parametrize(
    ("more", "amount"),
    [
        ({"payment_amount": 1510.0}, AMOUNT),  # a fee that the customer bears
        ({"payment_amount": 1400.0}, 140_000),  # an offer: less than was asked for
        ({"order_amount": 1500.0}, AMOUNT),
        ({"order_amount": 1499, "payment_amount": 1499}, AMOUNT),
        ({"order_amount": None}, AMOUNT),
        ({"order_amount": "1499.00"}, AMOUNT),
    ],
)
def test_the_amount_is_what_was_paid_for_the_order(more: dict[str, object], amount: int) -> None:
    found = charge(look({**PAYMENT, **more}))
    assert (found.status, found.amount, found.captured) == (ChargeStatus.SUCCEEDED, amount, amount)


@pytest.mark.parametrize(
    "more",
    [
        {"order_amount": 1499.005}, {"payment_amount": -1499.0}, {"order_amount": True}, {"order_amount": "1499,00"},
        {"order_amount": None, "payment_amount": None}, {"order_currency": None, "payment_currency": None},
        {"order_currency": "XXX"}, {"is_captured": False, "order_amount": []},
        *({"authorization": {"action": "CAPTURE", "status": "SUCCESS", "captured_amount": taken}}
          for taken in ("all", 10.005, True)),
    ],
)  # fmt: skip
def test_a_success_without_a_readable_amount_has_none_that_the_services_could_believe(more: dict[str, object]) -> None:
    found = charge(look({**PAYMENT, **more}))
    status = ChargeStatus.AUTHORIZED if more.get("is_captured") is False else ChargeStatus.SUCCEEDED
    assert (found.status, found.amount, found.captured) == (status, None, 0)


@pytest.mark.parametrize(
    ("details", "expected"),
    [
        ({"error_reason": "auth_declined", "error_source": "customer"},
         (ErrorClass.DECLINED_CUSTOMER, ErrorCode.AUTHENTICATION_FAILED)),
        ({"error_reason": "insufficient_funds"}, (ErrorClass.DECLINED_ISSUER, ErrorCode.INSUFFICIENT_FUNDS)),
        ({"error_reason": "bank_rejected"}, (ErrorClass.DECLINED_ISSUER, ErrorCode.PAYMENT_DECLINED)),
        ({"error_code": "ISSUER_NOT_AVAILABLE"}, (ErrorClass.TECHNICAL_DECLINE, ErrorCode.TECHNICAL_FAILURE)),
        ({"error_code": "TRANSACTION_DECLINED", "error_reason": "card_expired"},
         (ErrorClass.DECLINED_ISSUER, ErrorCode.INSTRUMENT_EXPIRED)),
        ({"error_reason": "new", "error_source": "customer"},
         (ErrorClass.DECLINED_CUSTOMER, ErrorCode.PAYMENT_DECLINED)),
        ({"error_reason": None, "error_code": None}, (ErrorClass.DECLINED_ISSUER, ErrorCode.PAYMENT_DECLINED)),
        (None, (ErrorClass.DECLINED_ISSUER, ErrorCode.PAYMENT_DECLINED)),
    ],
)  # fmt: skip
def test_why_a_payment_failed(details: object, expected: tuple[ErrorClass, ErrorCode]) -> None:
    found = charge(look({**PAYMENT, "payment_status": "FAILED", "error_details": details}))
    assert found.error is not None
    assert (found.error.error_class, found.error.code) == expected


@pytest.mark.parametrize(
    ("payments", "best"),
    [
        ([some("FAILED", 3), some("SUCCESS", 1), some("SUCCESS", 2, is_captured=False)], "SUCCESS1"),
        ([some("FAILED", 3), some("SUCCESS", 2, is_captured=False), some("PENDING", 4)], "SUCCESS2"),
        ([some("FAILED", 3), some("PENDING", 1)], "PENDING1"),  # it may still take money
        ([some("FAILED", 3), some("USER_DROPPED", 4), some("CANCELLED", 2)], "USER_DROPPED4"),
        ([some("FAILED", 3), some("NOT_ATTEMPTED", 1)], "FAILED3"),
        ([some("FAILED", 1), some("NOT_ATTEMPTED", 2)], "NOT_ATTEMPTED2"),
    ],
)
def test_an_order_is_decided_by_its_best_payment(payments: list[dict[str, object]], best: str) -> None:
    for given in (payments, payments[::-1]):
        assert charge(look(*given)).provider_reference == best


@pytest.mark.parametrize("tried", [False, True])
@pytest.mark.parametrize(
    ("order", "waits", "expected"),
    [
        ("ACTIVE", "", None),
        ("ACTIVE", "checkout", ChargeStatus.ACTION_REQUIRED),
        ("ACTIVE", "customer", ChargeStatus.ACTION_REQUIRED),
        ("TERMINATED", "checkout", ChargeStatus.CANCELED),
        ("EXPIRED", "", ChargeStatus.CANCELED),
        ("TERMINATION_REQUESTED", "checkout", ChargeStatus.PENDING),
        ("PAID", "", ChargeStatus.PENDING),
        ("ON_THE_MOON", "", ChargeStatus.PENDING),
    ],
)
def test_an_order_that_nobody_has_paid(order: str, waits: str, expected: ChargeStatus | None, tried: bool) -> None:  # noqa: FBT001
    payments = [some("NOT_ATTEMPTED", 1)] if tried else []
    found = look(*payments, order={"order_status": order}, waits=waits)
    if expected is None and not tried:
        assert isinstance(found, NotFound)
        return
    assert charge(found).status is (expected or ChargeStatus.PENDING)
    assert charge(found).provider_reference == ("NOT_ATTEMPTED1" if tried else None)


def test_an_order_that_does_not_exist_is_not_found_and_ids_are_quoted() -> None:
    odd = replace(known(), reference="../x?y")
    missing = error("order_not_found", 404)
    script = Script({"GET /orders/..%2Fx%3Fy/payments": [missing, (200, [])], "GET /orders/..%2Fx%3Fy": missing})
    for _ in range(2):
        assert isinstance(CashfreeProvider(script).fetch(ACCOUNT, odd), NotFound)
