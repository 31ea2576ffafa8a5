"""Bad input, field by field: 4xx problem+json that names the field, and nothing written."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from chalicelib.api.fields import COUNTRIES
from chalicelib.domain.cards import has_number
from tests.support.api import ORDER, PAYMENT, Api, api_fixture

api = api_fixture("module")

CARD = "4111 1111 1111 1111"
ID = "0" * 26
LINE = {"name": "Shoe", "quantity": 1, "amount": 100}
NOT_A_CURRENCY: list[Any] = ["inr", "IN", "INRR", "INR\n", "", " INR", None, 5, []]
NOT_A_NUMBER: list[Any] = ["100", 1.0, 1.5, True, None, [], {}, "", "1e3"]

# (field changes, param, code)
COMMON: list[tuple[dict[str, Any], str | None, str]] = [
    *(({"amount": wrong}, "amount", "invalid_field") for wrong in NOT_A_NUMBER),
    ({"amount": 0}, "amount", "amount_too_small"),
    ({"amount": -1}, "amount", "amount_too_small"),
    ({"amount": -(10**400)}, "amount", "amount_too_small"),
    ({"amount": 100_000_000_000}, "amount", "amount_too_large"),
    ({"amount": 10**18}, "amount", "amount_too_large"),
    ({"amount": 10**4000}, "amount", "amount_too_large"),
    ({"currency": "XAU"}, "currency", "unknown_currency"),
    ({"currency": "ABC"}, "currency", "unknown_currency"),
    *(({"currency": wrong}, "currency", "invalid_field") for wrong in NOT_A_CURRENCY),
    ({"nothing": 1}, "nothing", "unknown_field"),
    ({"id": "pay_1"}, "id", "unknown_field"),
    ({"status": "succeeded"}, "status", "unknown_field"),
    ({"amount_captured": 5}, "amount_captured", "unknown_field"),
    ({"__proto__": {}}, "__proto__", "unknown_field"),
    ({"a\u0000b": 1}, None, "unknown_field"),
    ({"\ud800": 1}, None, "invalid_field"),
    ({"4111111111111111": 1}, None, "unknown_field"),
    ({"metadata": {str(n): "v" for n in range(51)}}, "metadata", "invalid_field"),
    ({"metadata": {"k": "v" * 501}}, "metadata.k", "invalid_field"),
    ({"metadata": {"k" * 41: "v"}}, "metadata." + "k" * 41, "invalid_field"),
    ({"metadata": {"": "v"}}, "metadata", "invalid_field"),
    ({"metadata": {"k": {"nested": "v"}}}, "metadata.k", "invalid_field"),
    ({"metadata": {"k": ["v"]}}, "metadata.k", "invalid_field"),
    ({"metadata": {"k": 1}}, "metadata.k", "invalid_field"),
    ({"metadata": {"k": None}}, "metadata.k", "invalid_field"),
    ({"metadata": {"k": "a\u0000b"}}, "metadata.k", "invalid_field"),
    ({"metadata": {"k\u0000": "v"}}, "metadata", "invalid_field"),
    ({"metadata": {"k": "\ud83d"}}, "metadata.k", "invalid_field"),
    ({"metadata": {"k": CARD}}, "metadata.k", "card_number_not_allowed"),
    ({"metadata": {"4111111111111111": "v"}}, "metadata", "card_number_not_allowed"),
    ({"metadata": []}, "metadata", "invalid_field"),
    ({"metadata": "a=b"}, "metadata", "invalid_field"),
]

ORDERS: list[tuple[dict[str, Any], str | None, str]] = [
    ({"receipt": ""}, "receipt", "invalid_field"),
    ({"receipt": "r" * 101}, "receipt", "invalid_field"),
    ({"receipt": 1}, "receipt", "invalid_field"),
    ({"receipt": CARD}, "receipt", "card_number_not_allowed"),
    ({"lines": {}}, "lines", "invalid_field"),
    ({"lines": [LINE] * 101}, "lines", "invalid_field"),
    ({"lines": [None]}, "lines.0", "invalid_field"),
    ({"lines": [LINE, {**LINE, "name": CARD}]}, "lines.1.name", "card_number_not_allowed"),
    ({"lines": [{**LINE, "name": ""}]}, "lines.0.name", "invalid_field"),
    ({"lines": [{**LINE, "quantity": 0}]}, "lines.0.quantity", "invalid_field"),
    ({"lines": [{**LINE, "quantity": 1.5}]}, "lines.0.quantity", "invalid_field"),
    ({"lines": [{**LINE, "quantity": True}]}, "lines.0.quantity", "invalid_field"),
    ({"lines": [{**LINE, "amount": -1}]}, "lines.0.amount", "amount_too_small"),
    ({"lines": [{**LINE, "amount": "1"}]}, "lines.0.amount", "invalid_field"),
    ({"lines": [{**LINE, "sku": "x"}]}, "lines.0.sku", "unknown_field"),
    ({"lines": [{"name": "Shoe"}]}, "lines.0.amount", "missing_field"),
    *(
        ({"expires_at": wrong}, "expires_at", "invalid_field")
        for wrong in [
            1_900_000_000, "1900000000", "2026-12-01", "2026-12-01T00:00:00", "tomorrow", "", "2020-01-01T00:00:00Z",
            "2126-12-01T00:00:00Z", "2026-13-01T00:00:00Z", "2026-12-01T25:00:00Z", [], {}, True,
        ]
    ),
]  # fmt: skip

PAYMENTS: list[tuple[dict[str, Any], str | None, str]] = [
    ({"method": None}, "method", "invalid_field"),
    ({"method": "upi"}, "method", "invalid_field"),
    ({"method": []}, "method", "invalid_field"),
    ({"method": {}}, "method.type", "missing_field"),
    ({"method": {"type": "cash"}}, "method.type", "unknown_method"),
    ({"method": {"type": 5}}, "method.type", "unknown_method"),
    ({"method": {"type": "UPI", "vpa": "a@sim"}}, "method.type", "unknown_method"),
    ({"method": {"type": "card", "number": "4111111111111111", "cvv": "123"}}, "method.token", "missing_field"),
    ({"method": {"type": "card", "token": "4111111111111111"}}, "method.token", "invalid_field"),
    ({"method": {"type": "card", "token": f"tok_{ID}", "number": "4111111111111111"}}, "method.number", "unknown_field"),
    ({"method": {"type": "card", "token": f"tok_{ID}"}}, "method.token", "token_not_found"),
    ({"method": {"type": "4111111111111111"}}, "method.type", "unknown_method"),
    ({"method": {"type": "netbanking", "bank": "4111111111111111"}}, "method.bank", "card_number_not_allowed"),
    ({"method": {"type": "wallet", "wallet": "4111111111111111"}}, "method.wallet", "card_number_not_allowed"),
    ({"method": {"type": "upi"}}, "method.vpa", "missing_field"),
    ({"method": {"type": "upi", "flow": "collect", "vpa": None}}, "method.vpa", "missing_field"),
    ({"method": {"type": "upi", "flow": "push", "vpa": "ab@sim"}}, "method.flow", "invalid_field"),
    *(
        ({"method": {"type": "upi", "vpa": wrong}}, "method.vpa", "invalid_field")
        for wrong in ["success", "@sim", "a@sim", "ab@", "a b@sim", "ab@si m", "ab@1sim", "ab@@sim", "ab@sim\n",
        "ab@sim.com",
                      "ab@s", "", 5, "é" * 3 + "@sim", "x" * 300 + "@sim", "';DROP--@sim", "ab\u0000@sim"]
    ),
    ({"method": {"type": "upi", "vpa": "4111111111111111@sim"}}, "method.vpa", "card_number_not_allowed"),
    ({"method": {"type": "upi", "vpa": "ab@sim", "number": "1"}}, "method.number", "unknown_field"),
    ({"method": {"type": "upi", "vpa": "ab@sim", "bank": "X"}}, "method.bank", "unknown_field"),
    ({"method": {"type": "netbanking"}}, "method.bank", "missing_field"),
    ({"method": {"type": "netbanking", "bank": "hdfc"}}, "method.bank", "invalid_field"),
    ({"method": {"type": "netbanking", "bank": "H"}}, "method.bank", "invalid_field"),
    ({"method": {"type": "wallet", "wallet": "PAY TM"}}, "method.wallet", "invalid_field"),
    ({"method": {"type": "wallet", "wallet": "X" * 33}}, "method.wallet", "invalid_field"),
    ({"method": {"type": "wallet", "bank": "XX"}}, "method.wallet", "missing_field"),
    ({"capture": "later"}, "capture", "invalid_field"),
    ({"capture": True}, "capture", "invalid_field"),
    ({"capture": None}, "capture", "invalid_field"),
    ({"customer": []}, "customer", "invalid_field"),
    ({"customer": "a@b.co"}, "customer", "invalid_field"),
    ({"customer": {"phone": "1"}}, "customer.phone", "unknown_field"),
    *(
        ({"customer": {"email": wrong}}, "customer.email", "invalid_field")
        for wrong in ["a", "@b.co", "a@b", "a@@b.co", "a b@c.de", "a@b.co\r\nBcc: x@y.zz", "<a@b.co>", "a@b.c", "", 5,
                      "x" * 65 + "@b.co", "a@" + "b" * 260 + ".co"]
    ),
    *(
        ({"customer": {"contact": wrong}}, "customer.contact", "invalid_field")
        for wrong in ["abc", "12", "+", "", 9_800_000_000, "+91 98000 00000 x1", "+1234567890123456",
        "98\u00a000000000"]
    ),
    ({"customer": {"contact": "4111111111111111"}}, "customer.contact", "card_number_not_allowed"),
    *(({"customer": {"country": wrong}}, "customer.country", "invalid_field") for wrong in ["IND", "in", "XX", "ZZ",
    "", 1]),
    *(
        ({"customer": {"ip": wrong}}, "customer.ip", "invalid_field")
        for wrong in ["1.2.3", "999.1.1.1", "::g", "", "localhost", "1.2.3.4, 5.6.7.8", 16_909_060]
    ),
    ({"customer": {"name": CARD}}, "customer.name", "card_number_not_allowed"),
    ({"customer": {"name": "n" * 101}}, "customer.name", "invalid_field"),
    ({"customer": {"name": "a\u001bb"}}, "customer.name", "invalid_field"),
    *(({"order_id": wrong}, "order_id", "invalid_field") for wrong in ["x", "order_1", f"pay_{ID}", 5,
    "", f"order_{ID}\n"]),
    *(
        ({"return_url": wrong}, "return_url", "invalid_field")
        for wrong in ["javascript:alert(1)", "ftp://x.y", "//x.y", "x.y", "https://", "https:///p", "https://u:p@x.y/",
                      "http://x.y:99999/", "https://x.y/ z", "https://x.y/\n", "data:text/html,x", "", 5,
                      "https://x.y/" + "a" * 2048, "https://[::1", "HTTPS://x.y\u0000"]
    ),
    ({"description": "d" * 501}, "description", "invalid_field"),
    ({"description": ""}, "description", "invalid_field"),
    ({"description": {}}, "description", "invalid_field"),
    ({"description": "a\u0000b"}, "description", "invalid_field"),
    ({"description": "\ud800"}, "description", "invalid_field"),
    ({"description": f"card {CARD} cvv 123"}, "description", "card_number_not_allowed"),
]  # fmt: skip


def refused(api: Api, path: str, body: dict[str, Any], param: str | None, code: str) -> None:
    before = api.snapshot()
    answer = api.post(path, body)
    assert (answer.status, answer.code, answer.json["param"]) == (422, code, param), answer
    assert CARD not in answer.body.decode()
    assert api.snapshot() == before


@pytest.mark.parametrize(("changes", "param", "code"), COMMON + ORDERS)
def test_a_wrong_order_is_refused_by_field(api: Api, changes: dict[str, Any], param: str | None, code: str) -> None:
    refused(api, "/v1/orders", ORDER | changes, param, code)


@pytest.mark.parametrize(("changes", "param", "code"), COMMON + PAYMENTS)
def test_a_wrong_payment_is_refused_by_field(api: Api, changes: dict[str, Any], param: str | None, code: str) -> None:
    refused(api, "/v1/payments", PAYMENT | changes, param, code)


@pytest.mark.parametrize("name", ["amount", "currency", "method"])
def test_what_is_required_is_named(api: Api, name: str) -> None:
    body = {key: value for key, value in PAYMENT.items() if key != name}
    refused(api, "/v1/payments", body, name, "missing_field")


@pytest.mark.parametrize(
    ("path", "body", "param", "code"),
    [
        ("capture", {"amount": 0}, "amount", "amount_too_small"),
        ("capture", {"amount": "5"}, "amount", "invalid_field"),
        ("capture", {"all": True}, "all", "unknown_field"),
        ("cancel", {"reason": "x"}, "reason", "unknown_field"),
        ("refunds", {"amount": 1.5}, "amount", "invalid_field"),
        ("refunds", {"reason": CARD}, "reason", "card_number_not_allowed"),
        ("refunds", {"reason": "r" * 201}, "reason", "invalid_field"),
        ("review", {}, "decision", "missing_field"),
        ("review", {"decision": "maybe"}, "decision", "invalid_field"),
        ("review", {"decision": "approve", "note": CARD}, "note", "card_number_not_allowed"),
        ("resolve", {"outcome": "succeeded"}, "note", "missing_field"),
        ("resolve", {"outcome": "unknown", "note": "n"}, "outcome", "invalid_field"),
        (
            "resolve",
            {"outcome": "failed", "note": "n", "provider_reference": "a b"},
            "provider_reference",
            "invalid_field",
        ),
        ("verify", {"a": 1}, "a", "invalid_field"),
        ("verify", {"a": {"b": "c"}}, "a", "invalid_field"),
        ("verify", {"a\u0000": "b"}, None, "invalid_field"),
        ("verify", {"a": "b\u0000"}, "a", "invalid_field"),
        ("verify", {str(n): "v" for n in range(101)}, None, "invalid_field"),
    ],
)
def test_a_wrong_request_about_a_payment_is_refused(
    api: Api, path: str, body: dict[str, Any], param: str | None, code: str
) -> None:
    refused(api, f"/v1/payments/pay_{ID}/{path}", body, param, code)


HARMLESS = [
    "'; DROP TABLE payments; --", "<script>alert(1)</script>", "{{7*7}} ${7*7} %s %n", "नमस्ते 👋 \u202ertl",
    "../../etc/passwd",
    "\\u0000", "null", "SELECT * FROM users WHERE 1=1", "order 12345678901234567890123", "1795235000123", "a\\nb",
]  # fmt: skip


@pytest.mark.parametrize("text", HARMLESS)
def test_odd_looking_text_is_only_text(api: Api, text: str) -> None:
    made = api.made(
        "/v1/orders", {**ORDER, "receipt": text, "metadata": {text[:40]: text}, "lines": [{**LINE, "name": text}]}
    )
    shown = api.get(f"/v1/orders/{made['id']}").json
    assert shown == made
    assert (shown["receipt"], shown["metadata"], shown["lines"][0]["name"]) == (text, {text[:40]: text}, text)


def test_everything_that_is_right_is_kept_as_it_was_sent(api: Api) -> None:
    expires_at = (api.world.clock() + timedelta(days=29)).isoformat()
    order = api.made("/v1/orders", {
        "amount": 99_999_999_999, "currency": "KWD", "receipt": "r-1", "lines": [LINE] * 100,
        "metadata": {f"key {n}": "v" * 500 for n in range(50)}, "expires_at": expires_at,
    })  # fmt: skip
    assert (order["amount"], order["currency"], len(order["lines"]), len(order["metadata"])) == (
        99_999_999_999,
        "KWD",
        100,
        50,
    )
    assert order["expires_at"] == "2026-12-20T04:23:20.000Z"
    body = {
        "amount": 1, "currency": "INR", "method": {"type": "netbanking", "bank": "HDFC"}, "capture": "automatic",
        "customer": {"name": "Asha Ünal", "email": "asha+x@example.co.in", "contact": "+91 98000 00000",
        "country": "IN",
                     "ip": "2001:DB8::1"},
        "return_url": "http://localhost:3000/r?x=4539578763621486", "description": "Two shoes", "metadata": {"a": ""},
    }  # fmt: skip
    payment = api.made("/v1/payments", body)
    for name in ("amount", "currency", "method", "capture", "return_url", "description", "metadata"):
        assert payment[name] == body[name]
    assert payment["customer"]["ip"] == "2001:db8::1"
    nothing = {"customer": None, "order_id": None, "return_url": None, "description": None, "metadata": None}
    assert api.post("/v1/payments", PAYMENT | nothing).status == 201


# -- card numbers ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "4111111111111111", "4111 1111 1111 1111", "4111-1111-1111-1111", "4111.1111.1111.1111",
        "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1",
        "x4111111111111111y", "2 4111111111111111", "4111111111111111 12 30", "4111 - 1111 - 1111 - 1111",
        "378282246310005",
        "3782 822463 10005", "5555555555554444", "6011000990139424", "4222222222222", "6304000000000000000",
        "4111\u00a01111\u00a01111\u00a01111", "4111\u20131111\u20131111\u20131111", "\uff14" + "\uff11" * 15,
        "1234567812345670",
        "\u0664" + "\u0661" * 15,
    ],
)  # fmt: skip
def test_card_numbers_are_seen_however_they_are_written(text: str) -> None:
    assert has_number(text)


@pytest.mark.parametrize(
    "text",
    [
        "", "4111111111111112", "411111111111", "41111111111111111111111111", "+91 98000 00000", "2026-11-21 04:30",
        "1795235000123", "r-1795235000000001", "1795235000000000007", "pay_01K41111111111111", "a1b2c3d4",
        "order 10000000000000000000000",
    ],
)  # fmt: skip
def test_other_digits_are_left_alone(text: str) -> None:
    assert not has_number(text)


def test_the_list_of_countries_is_whole() -> None:
    assert len(COUNTRIES) == 249
