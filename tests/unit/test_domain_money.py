"""Amounts are integers of minor units, and every currency has ISO 4217's exponent."""

from __future__ import annotations

from decimal import Decimal

import iso4217
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.domain.money import EXPONENTS, MAX_AMOUNT, from_decimal, is_amount, to_decimal_string

# ISO 4217 lists them, but nobody pays with them: units of account, fund and bond codes.
NOT_MONEY = {"BOV", "CHE", "CHW", "CLF", "COU", "MXV", "USN", "UYI", "UYW", "XAD"}
CURRENCIES = st.sampled_from(sorted(EXPONENTS))
AMOUNTS = st.integers(-MAX_AMOUNT, MAX_AMOUNT)


def test_the_table_is_iso_4217_without_codes_that_nobody_pays_with() -> None:
    published = {c.code: c.exponent for c in iso4217.Currency if c.exponent is not None and c.code not in NOT_MONEY}
    assert published == EXPONENTS


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        (149_900, "INR", "1499.00"),
        (5, "JPY", "5"),
        (5, "INR", "0.05"),
        (-5, "INR", "-0.05"),
        (0, "KWD", "0.000"),
        (1_234_567, "KWD", "1234.567"),
        (-100, "USD", "-1.00"),
    ],
)
def test_an_amount_reads_as_people_write_it(amount: int, currency: str, text: str) -> None:
    assert to_decimal_string(amount, currency) == text


@given(AMOUNTS, CURRENCIES)
def test_the_decimal_string_is_exact(amount: int, currency: str) -> None:
    assert Decimal(to_decimal_string(amount, currency)).scaleb(EXPONENTS[currency]) == amount


@given(AMOUNTS, CURRENCIES)
def test_the_decimal_string_has_exactly_the_currencys_digits(amount: int, currency: str) -> None:
    text = to_decimal_string(amount, currency)
    _, _, part = text.partition(".")
    assert len(part) == EXPONENTS[currency]
    assert ("." in text) == (EXPONENTS[currency] > 0)
    assert text == text.strip()


@given(AMOUNTS, AMOUNTS, CURRENCIES)
def test_two_amounts_never_look_the_same(one: int, other: int, currency: str) -> None:
    assert (to_decimal_string(one, currency) == to_decimal_string(other, currency)) == (one == other)


def test_an_unknown_currency_has_no_decimal_string() -> None:
    with pytest.raises(KeyError):
        to_decimal_string(1, "XXX")


@pytest.mark.parametrize("value", [1, MAX_AMOUNT])
def test_whole_positive_numbers_up_to_the_limit_are_amounts(value: int) -> None:
    assert is_amount(value)


@pytest.mark.parametrize("value", [0, -1, MAX_AMOUNT + 1, True, 1.0, 1.5, "1", None, Decimal(1), float("nan")])
def test_nothing_else_is_an_amount(value: object) -> None:
    assert not is_amount(value)


@given(st.integers(0, MAX_AMOUNT), CURRENCIES, st.integers(0, 3))
def test_a_decimal_comes_back_as_it_went(amount: int, currency: str, zeros: int) -> None:
    text = to_decimal_string(amount, currency)
    longer = text + ("" if "." in text else ".") + "0" * zeros if zeros else text
    assert [from_decimal(written, currency) for written in (text, longer, Decimal(text))] == [amount] * 3


@pytest.mark.parametrize(
    ("value", "currency", "amount"),
    [("10", "INR", 1000), ("10.5", "INR", 1050), ("0.01", "INR", 1), (10, "INR", 1000), ("5", "JPY", 5), ("5.000", "JPY", 5),
     ("1.234", "KWD", 1234), ("0", "INR", 0)],
)  # fmt: skip
def test_a_decimal_is_read_with_the_currencys_digits(value: object, currency: str, amount: int) -> None:
    assert from_decimal(value, currency) == amount


@pytest.mark.parametrize(
    "value",
    ["1.001", "-1", "+1", "", ".5", "5.", "1,000.00", "1_000", "10 ", " 10", "1e3", "NaN", "Infinity", "\u0661", "1.5.0", 1.0, True,
     None, b"1", "1e999999", "1e99999999999999999999", Decimal("1e999990"), Decimal("NaN"), Decimal(-1), "9" * 400,
     "0." + "1" * 400, "1000000000.00"],
)  # fmt: skip
def test_what_is_no_exact_amount_is_none(value: object) -> None:
    assert from_decimal(value, "INR") is None


def test_an_unknown_currency_has_no_amounts() -> None:
    assert from_decimal("1.00", "XXX") is None
