"""Whatever is sent: no 5xx, errors only as problem+json, and nothing written unless something was made."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from chalicelib.domain.cards import has_number
from tests.support.api import ORDER, PAYMENT, Api, api_fixture

api = api_fixture("module")

ID = "0" * 26
PATHS = [
    "/v1/orders", "/v1/payments", f"/v1/orders/order_{ID}/cancel",
    "/v1/tokens", "/v1/provider-accounts", "/v1/provider-accounts/acct_simulator/rotate-secret",
    *(f"/v1/payments/pay_{ID}/{verb}" for verb in ("verify", "capture", "cancel", "review", "resolve", "refunds")),
]  # fmt: skip

text = st.text(st.characters(codec=None), max_size=30)  # surrogates and controls among them
scalars = st.none() | st.booleans() | st.integers() | st.floats() | text
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4), max_leaves=12
)
fields = st.sampled_from([
    "amount", "currency", "method", "capture", "customer", "order_id", "return_url", "description", "metadata",
    "receipt",
    "lines", "card", "provider", "credentials", "name", "expires_at", "reason", "note", "decision", "outcome", "provider_reference",
])  # fmt: skip
nearly = st.dictionaries(fields, anything, min_size=1, max_size=5)


def check(api: Api, path: str, raw: bytes) -> None:
    """Send it; ``Api.request`` itself checks that every error is a whole problem document."""
    before = api.snapshot()
    answer = api.post(path, raw)
    assert answer.status < 500, answer
    if answer.status >= 400:
        assert api.snapshot() == before


@given(path=st.sampled_from(PATHS), value=anything)
def test_any_json_is_answered_properly(api: Api, path: str, value: Any) -> None:
    check(api, path, json.dumps(value).encode())


@given(path=st.sampled_from(PATHS), changes=nearly)
@example(path="/v1/orders", changes={"metadata": {"\ud800": "x"}})
@example(path="/v1/payments", changes={"amount": float("inf")})
def test_nearly_right_json_is_answered_properly(api: Api, path: str, changes: dict[str, Any]) -> None:
    base: dict[str, Any] = {"/v1/orders": ORDER, "/v1/payments": PAYMENT}.get(path, {})
    check(api, path, json.dumps({**base, **changes}).encode())


@given(path=st.sampled_from(PATHS), raw=st.binary(max_size=200))
def test_any_bytes_are_answered_properly(api: Api, path: str, raw: bytes) -> None:
    check(api, path, raw)


@given(
    name=st.sampled_from(["limit", "cursor", "status", "amount", "currency", "customer.email", "x"]),
    value=st.text(
        st.characters(codec="ascii", categories=["L", "N", "P", "S"], exclude_characters="#&+%"), max_size=40
    ),
)
@settings(max_examples=50)
def test_any_query_is_answered_properly(api: Api, name: str, value: str) -> None:
    assert api.get(f"/v1/payments?{name}={value}").status in (200, 422)


@given(header=st.text(st.characters(codec="latin-1"), max_size=60))
@settings(max_examples=50)
def test_any_header_is_answered_properly(api: Api, header: str) -> None:
    for name in ("Authorization", "Idempotency-Key", "Prefer", "Content-Type"):
        headers = {"Idempotency-Key": "k", name: header}
        answer = api.request("POST", "/v1/orders", {"amount": 0}, headers=headers)
        assert 400 <= answer.status < 500


def luhn(digits: str) -> str:
    """``digits`` with their check digit."""
    total = sum(sum(divmod(int(d) * (2 - place % 2), 10)) for place, d in enumerate(reversed(digits)))
    return digits + str(-total % 10)


@given(
    digits=st.text("0123456789", min_size=11, max_size=17), first=st.sampled_from("23456789"),
    separators=st.lists(st.sampled_from(["", " ", "-", " - "]), min_size=19, max_size=19),
    around=st.tuples(st.text("ab ", max_size=5), st.text("ab ", max_size=5)),
)  # fmt: skip
def test_every_card_number_is_seen(digits: str, first: str, separators: list[str], around: tuple[str, str]) -> None:
    number = luhn(first + digits)
    spaced = "".join(digit + separator for digit, separator in zip(number, separators, strict=False))
    assert has_number(f"{around[0]}{spaced}{around[1]}")
