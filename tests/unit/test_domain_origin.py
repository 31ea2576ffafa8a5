"""Where a payment comes from: known, or None; never guessed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.api import fields
from chalicelib.domain.origin import COUNTRIES, address_of, bin_country, country_of, subscriber_of
from chalicelib.services import origin


class Table:
    """Another source of countries: it knows one for whatever it is asked, and remembers what that was."""

    def __init__(self, answer: str | None = "IN") -> None:
        self.answer = answer
        self.asked: list[str] = []

    def __call__(self, ip: str, /) -> str | None:
        self.asked.append(ip)
        return self.answer


@pytest.mark.parametrize(
    ("ip", "asked"),
    [
        ("49.205.1.7", "49.205.1.7"),
        ("::ffff:49.205.1.7", "49.205.1.7"),
        ("2405:0201::0001", "2405:201::1"),
    ],
)
def test_a_public_address_is_looked_up_in_its_usual_form(ip: str, asked: str) -> None:
    table = Table()
    assert (country_of(ip, table), table.asked) == ("IN", [asked])


@pytest.mark.parametrize(
    "ip",
    [
        "10.1.2.3", "172.16.0.1", "192.168.1.1", "127.0.0.1", "169.254.1.1", "100.64.0.1", "0.0.0.0", "255.255.255.255",  # noqa: S104
        "192.0.2.1", "198.51.100.1", "203.0.113.1", "198.18.0.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "192.88.99.1",
        "192.0.0.9", "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fec0::1", "ff0e::1", "2001:db8::1", "2002:808:808::1",
        "2001::1", "64:ff9b::808:808", "64:ff9b:1::1", "3fff::1", "5f00::1", "::ffff:10.0.0.1", "::ffff:127.0.0.1",
        "", "nonsense", "1.2.3", "1.2.3.4.5", "01.2.3.4", "49.205.1.7/32", " 49.205.1.7", None,
    ],
)  # fmt: skip
def test_what_is_nobodys_public_address_is_not_even_looked_up(ip: str | None) -> None:
    table = Table()
    assert (country_of(ip, table), table.asked) == (None, [])


@pytest.mark.parametrize("answer", [None, "EU", "AP", "ZZ", "in", "", "IND"])
def test_an_answer_that_is_no_country_is_none(answer: str | None) -> None:
    assert country_of("8.8.8.8", Table(answer)) is None


def test_the_countries_are_those_that_the_api_knows() -> None:
    assert COUNTRIES == fields.COUNTRIES


@pytest.mark.parametrize(
    ("ip", "subscriber"),
    [
        ("49.205.1.7", "49.205.1.7"),
        ("::ffff:49.205.1.7", "49.205.1.7"),
        ("2405:201:1:2:3:4:5:6", "2405:201:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("nonsense", None),
        (None, None),
    ],
)
def test_one_customer_is_one_subscriber(ip: str | None, subscriber: str | None) -> None:
    assert subscriber_of(ip) == subscriber


@given(st.integers(0, 2**128 - 1), st.integers(0, 2**64 - 1))
def test_no_ipv6_customer_gets_a_second_count_by_changing_the_lower_half(address: int, lower: int) -> None:
    from ipaddress import IPv6Address  # noqa: PLC0415 - shadows nothing above

    other = address >> 64 << 64 | lower
    one, two = str(IPv6Address(address)), str(IPv6Address(other))
    if address_of(one).version == address_of(two).version == 6:  # type: ignore[union-attr]
        assert subscriber_of(one) == subscriber_of(two)


@pytest.mark.parametrize(
    ("number", "country"),
    [
        ("424242", "US"), ("42424242", "US"), ("411111", "IN"), ("40000356", "IN"), ("40000076", "BR"),
        ("400000", None), ("4242", None), ("510510", None), ("", None), (None, None),
    ],
)  # fmt: skip
def test_a_test_cards_country_is_what_its_provider_documents(number: str | None, country: str | None) -> None:
    assert bin_country(number, {}, "test") == country
    assert bin_country(number, {}, "live") is None


def test_the_merchants_own_entries_count_first_and_the_longer_one_most() -> None:
    own = {"424242": "FR", "42424299": "DE"}
    assert [bin_country(number, own, "test") for number in ("424242", "42424200", "42424299", "411111")] == [
        "FR", "FR", "DE", "IN",
    ]  # fmt: skip
    assert [bin_country(number, own, "live") for number in ("42424299", "411111")] == ["DE", None]


# -- the registries' records --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ip", "country"),
    [
        ("49.205.1.7", "IN"), ("2405:201::1", "IN"), ("8.8.8.8", "US"), ("2001:4860:4860::8888", "US"),
        ("::ffff:8.8.8.8", "US"), ("193.0.0.1", "NL"), ("10.0.0.1", None), ("2001:db8::1", None), (None, None),
    ],
)  # fmt: skip
def test_the_registries_know_to_whom_an_address_was_assigned(ip: str | None, country: str | None) -> None:
    assert country_of(ip, origin.registered) == country
