"""Card numbers: check digit, network, expiry, fingerprint."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.domain import cards
from tests.support.factories import NOW, TENANT, later

# Test numbers of the networks and providers.
KNOWN = {
    "5555555555554444": "mastercard", "5105105105105100": "mastercard", "2223003122003222": "mastercard",
    "2720990000000007": "mastercard", "5500670000001002": "mastercard",
    "378282246310005": "amex", "371449635398431": "amex",
    "6527658900001005": "rupay", "6074825972083818": "rupay",
    "30569309025904": "diners", "36227206271667": "diners", "38520000023237": "diners",
    "6011111111111117": "discover", "6011000990139424": "discover", "6445644564456445": "discover",
    "3566002020360505": "jcb", "3530111333300000": "jcb",
}  # fmt: skip
digits = st.text("0123456789", min_size=cards.MIN_LENGTH - 1, max_size=cards.MAX_LENGTH - 1)


def checked(number: str) -> str:
    """``number`` with its check digit, by the definition in words: double every other digit from the right."""
    total = 0
    for place, digit in enumerate(number[::-1]):
        doubled = int(digit) * 2 if place % 2 == 0 else int(digit)
        total += sum(map(int, str(doubled)))
    return f"{number}{(10 - total) % 10}"


@pytest.mark.parametrize(("number", "network"), KNOWN.items())
def test_the_network_of_every_known_test_card(number: str, network: str) -> None:
    assert cards.is_number(number)
    assert cards.network_of(number) == network


@given(digits)
def test_exactly_one_check_digit_holds(number: str) -> None:
    holding = [last for last in "0123456789" if cards.luhn_holds(number + last)]
    assert holding == [checked(number)[-1]]
    assert cards.is_number(checked(number))


@given(digits, st.data())
def test_one_wrong_digit_is_always_noticed(number: str, data: st.DataObject) -> None:
    whole = checked(number)
    place = data.draw(st.integers(0, len(whole) - 1))
    other = data.draw(st.sampled_from([digit for digit in "0123456789" if digit != whole[place]]))
    assert not cards.is_number(whole[:place] + other + whole[place + 1 :])


@given(digits, st.data())
def test_two_neighbours_in_the_wrong_order_are_noticed_but_for_0_and_9(number: str, data: st.DataObject) -> None:
    whole = checked(number)
    swaps = [p for p, (a, b) in enumerate(pairwise(whole)) if a != b and {a, b} != {"0", "9"}]
    if swaps:
        place = data.draw(st.sampled_from(swaps))
        assert not cards.is_number(whole[:place] + whole[place + 1] + whole[place] + whole[place + 2 :])


@given(digits)
def test_every_number_has_a_network_of_the_list(number: str) -> None:
    assert cards.network_of(checked(number)) in get_args(cards.Network)


def test_every_network_is_met_and_every_range_is_one() -> None:
    assert {network for _, _, network in cards._NETWORKS} | {"unknown"} == set(get_args(cards.Network))
    for first, last, network in cards._NETWORKS:
        assert 100_000 <= first <= last <= 999_999
        for edge in (first, last):
            assert cards.network_of(checked(f"{edge}000000000")) == network


@pytest.mark.parametrize(
    "text", ["", "4", "42424242424", "42424242424242424242", "4242 4242 4242 4242", "424242424242424a",
             "\uff14" + "2" * 15, "\u0664" + "\u0661" * 15, "4242424242424241", "-4242424242424242"]
)  # fmt: skip
def test_what_is_no_number(text: str) -> None:
    assert not cards.is_number(text)


@pytest.mark.parametrize(
    ("month", "year", "over"),
    [(10, 2026, True), (11, 2026, False), (12, 2026, False), (1, 2027, False), (12, 2025, True), (1, 2000, True)],
)
def test_a_card_is_valid_through_its_last_month(month: int, year: int, *, over: bool) -> None:
    assert cards.is_expired(month, year, NOW) is over
    last_moment = datetime(2026, 11, 30, 23, 59, 59, 999999, tzinfo=UTC)
    assert not cards.is_expired(11, 2026, last_moment)
    assert cards.is_expired(11, 2026, datetime(2026, 12, 1, tzinfo=UTC))


def test_a_fingerprint_is_the_cards_and_the_merchants() -> None:
    one = cards.fingerprint(b"k" * 32, "4242424242424242")
    assert one == cards.fingerprint(b"k" * 32, "4242424242424242")
    assert one.startswith("fp_")
    assert len(one) == len("fp_") + 32
    assert (
        len({one, cards.fingerprint(b"l" * 32, "4242424242424242"), cards.fingerprint(b"k" * 32, "4111111111111111")})
        == 3
    )


def test_a_security_code_has_three_digits_but_for_american_express() -> None:
    assert {network: cards.cvv_length(network) for network in get_args(cards.Network)} == {
        network: 4 if network == "amex" else 3 for network in get_args(cards.Network)
    }


def test_a_tokens_method_is_all_text() -> None:
    token = cards.CardToken(TENANT, "tok_1", "visa", "4242", "424242", 3, 2030, "fp_1", NOW, later(60))
    assert token.method() == {
        "type": "card", "token": "tok_1", "network": "visa", "last4": "4242", "bin": "424242", "fingerprint": "fp_1",
        "expiry_month": "03", "expiry_year": "2030",
    }  # fmt: skip
