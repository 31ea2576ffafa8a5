"""Lists: pages, filters, cursors."""

from __future__ import annotations

import base64
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.api import lists
from chalicelib.api.problems import Refused
from chalicelib.storage.page import Page
from tests.support.api import MANUAL, ORDER, PAYMENT, Api, api_fixture

api = api_fixture("module")


def walk(api: Api, path: str, limit: int) -> list[dict[str, Any]]:
    """Every object of a list, page by page."""
    found: list[dict[str, Any]] = []
    cursor = None
    for _ in range(100):
        joint = "&" if "?" in path else "?"
        page = api.get(f"{path}{joint}limit={limit}" + (f"&cursor={cursor}" if cursor else "")).json
        assert set(page) == {"data", "next_cursor"}
        assert len(page["data"]) <= limit
        found += page["data"]
        cursor = page["next_cursor"]
        if cursor is None:
            return found
        assert cursor == base64.urlsafe_b64encode(base64.urlsafe_b64decode(cursor + "==")).decode().rstrip("=")
    raise AssertionError("the list does not end")


@dataclass
class Shop:
    orders: list[dict[str, Any]]
    payments: list[dict[str, Any]]
    refunds: list[dict[str, Any]]


@pytest.fixture(scope="module")
def shop(api: Api) -> Shop:
    orders = [api.made("/v1/orders", {**ORDER, "receipt": f"r{n % 3}"}) for n in range(7)]
    api.made(f"/v1/orders/{orders[0]['id']}/cancel", {})
    payments = []
    for n in range(25):
        api.world.clock.time += 1
        body = [
            {**PAYMENT, "customer": {"email": "Asha@Canary.example"}},
            {**PAYMENT, "amount": 5_000},
            {**PAYMENT, "method": {"type": "netbanking", "bank": "SIM_SUCCESS"}},
            MANUAL,
            {**PAYMENT, "method": {"type": "upi", "vpa": "decline@sim"}},
        ][n % 5]
        if n == 0:
            body = {**body, "order_id": orders[1]["id"]}
        payments.append(api.made("/v1/payments", body))
    api.world.run(horizon=60)
    paid = [p for p in payments if api.get(f"/v1/payments/{p['id']}").json["status"] == "succeeded"]
    refunds = [api.made(f"/v1/payments/{paid[0]['id']}/refunds", {"amount": n + 1}) for n in range(6)]
    api.world.run(horizon=60)
    refunds += [api.made(f"/v1/payments/{paid[1]['id']}/refunds", {"amount": n + 1}) for n in range(5)]
    return Shop(orders, payments, refunds)


@pytest.mark.parametrize("limit", [1, 3, 7, 100])
def test_pages_hold_everything_once_newest_first(api: Api, shop: Shop, limit: int) -> None:
    for path, made in (("/v1/orders", shop.orders), ("/v1/payments", shop.payments), ("/v1/refunds", shop.refunds)):
        ids = [shown["id"] for shown in walk(api, path, limit)]
        assert ids == sorted((shown["id"] for shown in made), reverse=True)


def test_a_page_has_20_unless_asked(api: Api, shop: Shop) -> None:
    page = api.get("/v1/payments").json
    assert len(page["data"]) == 20 < len(shop.payments)
    assert page["next_cursor"] is not None


@pytest.mark.parametrize(
    ("query", "check"),
    [
        ("status=succeeded", lambda p: p["status"] == "succeeded"),
        ("status=failed", lambda p: p["status"] == "failed"),
        ("status=authorized", lambda p: p["status"] == "authorized"),
        ("status=created", lambda p: p["status"] == "created"),
        ("currency=INR", lambda p: p["currency"] == "INR"),
        ("currency=USD", lambda p: p["currency"] == "USD"),
        ("method=netbanking", lambda p: p["method"]["type"] == "netbanking"),
        ("method.type=netbanking", lambda p: p["method"]["type"] == "netbanking"),
        ("method=upi&method.type=netbanking", lambda _: False),
        ("provider=simulator", lambda p: p["provider"] == "simulator"),
        ("provider=nobody", lambda p: p["provider"] == "nobody"),
        ("amount=5000", lambda p: p["amount"] == 5000),
        ("customer.email=asha%40canary.example", lambda p: p["customer"].get("email") == "A•••@Canary.example"),
        ("customer.email=nobody%40canary.example", lambda _: False),
        ("customer.email=asha%40canary.example&status=failed", lambda _: False),
        ("status=succeeded&amount=5000&method=upi", lambda p: p["status"] == "succeeded" and p["amount"] == 5000),
    ],
)  # fmt: skip
def test_payments_are_filtered(api: Api, shop: Shop, query: str, check: Any) -> None:
    everything = walk(api, "/v1/payments", 100)
    assert len(everything) == len(shop.payments)
    for limit in (2, 100):
        assert walk(api, f"/v1/payments?{query}", limit) == [shown for shown in everything if check(shown)]


def test_payments_of_an_order(api: Api, shop: Shop) -> None:
    first, second = shop.orders[1]["id"], shop.orders[2]["id"]
    assert [p["id"] for p in walk(api, f"/v1/payments?order_id={first}", 5)] == [shop.payments[0]["id"]]
    assert walk(api, f"/v1/payments?order_id={second}", 5) == []
    assert walk(api, f"/v1/payments?order_id={first}&status=failed", 5) == []
    assert walk(api, f"/v1/payments?order_id={first}&customer.email=x%40canary.example", 5) == []


def test_orders_are_filtered(api: Api, shop: Shop) -> None:
    assert [o["id"] for o in walk(api, "/v1/orders?status=canceled", 2)] == [shop.orders[0]["id"]]
    assert len(walk(api, "/v1/orders?receipt=r0", 1)) == 3
    assert len(walk(api, "/v1/orders?receipt=r0&status=created", 1)) == 2
    assert walk(api, "/v1/orders?receipt=none", 2) == []


@pytest.mark.parametrize("limit", [1, 2, 4, 100])
def test_refunds_are_filtered_by_the_status_that_is_shown(api: Api, shop: Shop, limit: int) -> None:
    everything = walk(api, "/v1/refunds", 100)
    for status in ("pending", "succeeded", "failed", "returned"):
        assert walk(api, f"/v1/refunds?status={status}", limit) == [r for r in everything if r["status"] == status]
    assert {r["status"] for r in everything} == {"pending", "succeeded"}
    for payment_id in {refund["payment_id"] for refund in shop.refunds}:
        for query in (f"payment_id={payment_id}", f"payment_id={payment_id}&status=pending"):
            wanted = [
                r
                for r in everything
                if r["payment_id"] == payment_id and ("status" not in query or r["status"] == "pending")
            ]
            assert walk(api, f"/v1/refunds?{query}", limit) == wanted


@pytest.mark.parametrize("part", ["events", "attempts", "operations", "ledger"])
def test_a_payments_story_comes_in_pages_too(api: Api, shop: Shop, part: str) -> None:
    url = f"/v1/payments/{shop.refunds[0]['payment_id']}/{part}"
    whole = api.get(url).json
    assert whole["next_cursor"] is None
    for limit in (1, 2, 5):
        assert walk(api, url, limit) == whole["data"]
    assert [item["created_at"] for item in whole["data"]] == sorted(item["created_at"] for item in whole["data"])


# -- cursors ---------------------------------------------------------------------------------------

ID = "0" * 26


@pytest.mark.parametrize(
    "cursor", [lists.encode(f"order_{ID}"), lists.encode("after:5"), lists.encode("pay_x"), lists.encode(f"pay_{ID}x"),
               lists.encode(f"pay_{ID}") + "=", lists.encode(f"pay_{ID}")[:-1], "!!!", "A", "%C3%A9",
               "a b", lists.encode("")]
)  # fmt: skip
def test_a_cursor_of_somewhere_else_is_422(api: Api, cursor: str) -> None:
    answer = api.get(f"/v1/payments?cursor={cursor}")
    assert (answer.status, answer.json["param"]) == (422, "cursor")


@pytest.mark.parametrize(
    "cursor", [lists.encode(f"pay_{ID}"), lists.encode("after:-1"), lists.encode("after:999999999"), "x"]
)
def test_a_storys_cursor_is_its_own(api: Api, shop: Shop, cursor: str) -> None:
    for part in ("events", "attempts", "operations", "ledger"):
        answer = api.get(f"/v1/payments/{shop.payments[0]['id']}/{part}?cursor={cursor}")
        assert (answer.status, answer.code, answer.json["param"]) == (422, "invalid_cursor", "cursor")


def test_a_cursor_past_the_end_is_an_empty_page(api: Api, shop: Shop) -> None:
    assert api.get(f"/v1/payments?cursor={lists.encode(f'pay_{ID}')}").json == {"data": [], "next_cursor": None}
    for part in ("events", "attempts"):
        url = f"/v1/payments/{shop.payments[0]['id']}/{part}?cursor={lists.encode('after:5000')}"
        assert api.get(url).json == {"data": [], "next_cursor": None}


@given(st.text(max_size=60))
def test_no_cursor_is_anything_but_good_or_refused(text: str) -> None:
    for read in (lambda: lists.after_id(text, "pay"), lambda: lists.after_position(text)):
        with suppress(Refused):
            assert read() is not None


@dataclass(frozen=True)
class Thing:
    id: str


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 999)), max_size=60, unique_by=lambda pair: pair[1]),
    st.integers(1, 7), st.integers(0, 3),
)  # fmt: skip
def test_merged_pages_skip_and_repeat_nothing(things: list[tuple[int, int]], limit: int, short: int) -> None:
    sources = [sorted((f"{n:03}" for s, n in things if s == source), reverse=True) for source in range(4)]

    def page(source: list[str], cursor: str | None) -> Page:
        left = [name for name in source if cursor is None or name < cursor]
        # A page may be short, because a page reads a bounded number of rows.
        taken = left[: max(1, limit - short)]
        return Page([Thing(name) for name in taken], taken[-1] if len(taken) < len(left) else None)

    found: list[str] = []
    cursor = None
    for _ in range(200):
        merged = lists.merged([page(source, cursor) for source in sources], limit)
        assert len(merged.data) <= limit
        found += [thing.id for thing in merged.data]
        cursor = merged.cursor
        if cursor is None:
            break
    assert found == sorted((f"{n:03}" for _, n in things), reverse=True)
