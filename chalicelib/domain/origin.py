"""Where a payment comes from, as far as that can be known: the country of an IP address and of a card.

Nothing is guessed. What is not known is None, and no rule judges it.
"""

from __future__ import annotations

import ipaddress
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chalicelib.domain.model import Mode

# ISO 3166-1 alpha-2.
COUNTRIES = frozenset(
    "AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ CA"
    " CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR GA"
    " GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP"
    " KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS"
    " MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS"
    " RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW"
    " TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW".split()
)

# Where providers' documents say that their test cards come from. Sources: docs.stripe.com/testing ("Each basic
# test card's billing country is set to U.S.", and the cards by country), razorpay.com/docs/payments/payments/
# test-card-details (Indian cards). In live mode these numbers are somebody's, and this table is not asked.
_TEST_BINS: Mapping[str, str] = {
    "424242": "US",
    "555555": "US",
    "378282": "US",
    "40000076": "BR",
    "40000124": "CA",
    "40000484": "MX",
    "40000356": "IN",
    "40000826": "GB",
    "40000036": "AU",
    "40000702": "SG",
    "40000392": "JP",
    "411111": "IN",
    "526731": "IN",
}
BIN_LENGTHS = (8, 6)  # ISO/IEC 7812-1:2017 has eight digits, before it were six; the longer says more

_SITE = 64  # bits of an IPv6 address that one customer is given at least, RFC 6177
# Nobody's own address, though some Python's ``is_global`` lets them pass: translated, relayed, tunnelled, local
# to a site, or reserved since.
_BORROWED = tuple(
    ipaddress.ip_network(text)
    for text in ("192.88.99.0/24", "192.0.0.0/24", "64:ff9b::/96", "64:ff9b:1::/48", "2001::/23", "2002::/16",
                 "3fff::/20", "5f00::/16", "fec0::/10")
)  # fmt: skip


class CountryOf(Protocol):
    """Tells the country of a public IP address in its usual text form, or None. Anything that can may stand here."""

    def __call__(self, ip: str, /) -> str | None:
        """An ISO 3166-1 alpha-2 code, or None."""


def address_of(ip: str | None) -> IPv4Address | IPv6Address | None:
    """The address that the text is, an IPv4 one also if it is dressed up as IPv6; None if it is none."""
    try:
        address = ipaddress.ip_address(ip or "")
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        return address.ipv4_mapped or address
    return address


def country_of(ip: str | None, look_up: CountryOf) -> str | None:
    """The country of an IP address by ``look_up``, which only ever sees public ones.

    None for a private, loopback, reserved, relayed or unknown address, and for an answer that is no
    country (registries also know "EU" and "AP").
    """
    address = address_of(ip)
    if address is None or not address.is_global or address.is_multicast:
        return None
    if any(address in network for network in _BORROWED):
        return None
    country = look_up(str(address))
    return country if country in COUNTRIES else None


def subscriber_of(ip: str | None) -> str | None:
    """What to count payments by: an IPv4 address, or the /64 in which one IPv6 customer has 2⁶⁴ of them."""
    address = address_of(ip)
    if isinstance(address, IPv6Address):
        return str(IPv6Network((int(address), _SITE), strict=False))
    return None if address is None else str(address)


def bin_country(number: str | None, own: Mapping[str, str], mode: Mode) -> str | None:
    """The country of a card whose first six digits or more are ``number``, or None.

    There is no honest table of BINs that may be shipped: the merchant's ``own`` entries count, those of
    eight digits first, and in test mode what providers document about their test cards.
    """
    for table in (own, _TEST_BINS if mode == "test" else {}):
        for length in BIN_LENGTHS:
            if number is not None and len(number) >= length and number[:length] in table:
                return table[number[:length]]
    return None
