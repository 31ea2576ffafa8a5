"""Ids sort by time, are never made twice, and derived ones are the same every time."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.domain import ids
from tests.support.factories import NOW

TIMES = st.integers(0, 15 * 365 * 86_400_000).map(
    lambda ms: datetime(2024, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
)
PREFIXES = st.sampled_from(["order", "pay", "rf", "op", "evt", "dlv"])
ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")


@given(PREFIXES, TIMES)
def test_an_id_is_its_prefix_and_a_ulid(prefix: str, moment: datetime) -> None:
    head, _, tail = ids.new_id(prefix, moment).partition("_")
    assert head == prefix
    assert ULID.fullmatch(tail)


@given(PREFIXES, TIMES)
def test_an_id_tells_when_it_was_made(prefix: str, moment: datetime) -> None:
    assert ids.made_at(ids.new_id(prefix, moment)) == moment.replace(microsecond=moment.microsecond // 1000 * 1000)


@pytest.mark.parametrize("other", ["pay_u", "pay_!", "att-01"])
def test_what_is_no_id_tells_no_time(other: str) -> None:
    with pytest.raises(ValueError, match="substring"):
        ids.made_at(other)


@given(TIMES, st.integers(1, 10**9))
def test_a_later_millisecond_sorts_later(moment: datetime, milliseconds: int) -> None:
    assert ids.new_id("pay", moment) < ids.new_id("pay", moment + timedelta(milliseconds=milliseconds))


def test_ids_of_one_millisecond_differ() -> None:
    assert len({ids.new_id("pay", NOW) for _ in range(10_000)}) == 10_000


@given(TIMES, st.lists(st.text(max_size=10), max_size=4))
def test_a_derived_id_is_the_same_every_time_and_sorts_like_any_other(moment: datetime, parts: list[str]) -> None:
    derived = ids.derived_id("jnl", moment, *parts)
    assert derived == ids.derived_id("jnl", moment, *parts)
    assert ULID.fullmatch(derived.removeprefix("jnl_"))
    assert ids.new_id("jnl", moment - timedelta(milliseconds=1)) < derived
    assert derived < ids.new_id("jnl", moment + timedelta(milliseconds=1))


@given(st.lists(st.text("ab", max_size=3), max_size=3), st.lists(st.text("ab", max_size=3), max_size=3))
def test_derived_ids_of_different_parts_differ(one: list[str], other: list[str]) -> None:
    # ("a", "b") and ("ab",) are different things.
    if one and other:
        assert (ids.derived_id("jnl", NOW, *one) == ids.derived_id("jnl", NOW, *other)) == (one == other)


@given(TIMES, st.integers(1, ids.MAX_ATTEMPTS))
def test_an_attempts_reference_leads_back_to_its_payment(moment: datetime, number: int) -> None:
    payment_id = ids.new_id("pay", moment)
    reference = ids.attempt_reference(payment_id, number)
    assert ids.parse_attempt_reference(reference) == (payment_id, number)
    # the contract with providers: it begins with the payment id and fits the narrowest of them
    assert reference.startswith(payment_id)
    assert len(reference) == 33
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,40}", reference)


@given(TIMES, st.integers(1, 99), st.integers(1, 99))
def test_two_attempts_of_a_payment_have_different_ids(moment: datetime, one: int, other: int) -> None:
    payment_id = ids.new_id("pay", moment)
    assert (ids.attempt_id(payment_id, one) == ids.attempt_id(payment_id, other)) == (one == other)
    assert ids.attempt_id(payment_id, one).startswith("att_")


@pytest.mark.parametrize(
    "foreign",
    [
        "",
        "-",
        "-01",
        "pay_1",
        "pay_1-",
        "pay_1-1",
        "pay_1-001",
        "pay_1-0x",
        "order_1-01",
        "01",
        "pay_1-\u0660\u0661",
        "pay_1-²²",
    ],
)
def test_a_foreign_reference_is_not_ours(foreign: str) -> None:
    assert ids.parse_attempt_reference(foreign) is None


@given(st.text(max_size=50))
def test_no_reference_makes_the_parser_fail(text: str) -> None:
    parsed = ids.parse_attempt_reference(text)
    assert parsed is None or ids.attempt_reference(*parsed) == text
