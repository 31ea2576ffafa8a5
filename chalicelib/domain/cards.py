"""Card numbers, for the one request that turns a card into a token; nothing in here keeps one."""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from chalicelib.domain.model import Tenant

Network = Literal["visa", "mastercard", "amex", "rupay", "diners", "discover", "jcb", "maestro", "unknown"]

# Digits. ISO/IEC 7812-1 allows up to 19. Of the 12 or 13 that some old cards have, the ten that are kept
# would leave too few to guess.
MIN_LENGTH, MAX_LENGTH = 14, 19
_IIN, _LAST = 6, 4  # digits that may be kept and shown, PCI DSS 3.4.1
_DOUBLED_MAX = 9

# Issuer identification numbers, first and last, by the first six digits; the first row that fits wins,
# so RuPay's come before the Discover and Maestro ranges they were cut out of. Sources: Wikipedia,
# "Payment card number", July 2024; for RuPay the ranges that juspay/hyperswitch recognizes it by.
_NETWORKS: tuple[tuple[int, int, Network], ...] = (
    (508500, 508999, "rupay"),
    (606985, 607984, "rupay"),
    (608001, 608500, "rupay"),
    (652150, 653149, "rupay"),
    (817200, 820199, "rupay"),
    (400000, 499999, "visa"),
    (510000, 559999, "mastercard"),
    (222100, 272099, "mastercard"),
    (340000, 349999, "amex"),
    (370000, 379999, "amex"),
    (300000, 305999, "diners"),
    (309500, 309599, "diners"),
    (360000, 369999, "diners"),
    (380000, 399999, "diners"),
    (352800, 358999, "jcb"),
    (601100, 601199, "discover"),
    (622126, 622925, "discover"),
    (644000, 659999, "discover"),
    (501800, 501899, "maestro"),
    (502000, 502099, "maestro"),
    (503800, 503899, "maestro"),
    (589300, 589399, "maestro"),
    (630400, 630499, "maestro"),
    (675900, 675999, "maestro"),
    (676100, 676399, "maestro"),
)
_WRITTEN_LENGTHS = range(13, 20)
_SEPARATORS = r" .\-\u00a0\u2007\u202f\u2010-\u2015\u2212"  # spaces, dots, dashes
# Milli-, micro- and nanoseconds since 1970, for our lifetimes: merchants put them into receipts, one in
# ten has a valid Luhn sum, and no card network issues numbers that begin like this.
_EPOCH_TIME = re.compile(r"1[6-9](?:\d{11}|\d{14}|\d{17})")
_DIGIT_RUN = re.compile(rf"\d(?:[{_SEPARATORS}]{{0,3}}\d){{12,}}")
_DIGIT_GROUP = re.compile(r"\d+")
_CVV_LENGTHS: Mapping[Network, int] = {"amex": 4}  # every other network prints three


@dataclass(frozen=True, slots=True)
class CardToken:
    """What is kept of a card for a while: enough to route, to judge risk and to show, not to charge."""

    tenant: Tenant
    id: str
    network: str
    last4: str
    bin: str  # the first six digits
    expiry_month: int
    expiry_year: int
    fingerprint: str  # the same for the same card of one merchant and mode
    created_at: datetime
    expires_at: datetime  # the token; not the card

    def method(self) -> Mapping[str, str]:
        """The token as a payment's method, all text."""
        return {
            "type": "card",
            "token": self.id,
            "network": self.network,
            "last4": self.last4,
            "bin": self.bin,
            "fingerprint": self.fingerprint,
            "expiry_month": f"{self.expiry_month:02d}",
            "expiry_year": str(self.expiry_year),
        }


def luhn_holds(digits: str) -> bool:
    """Whether the last digit is the check digit of the others, of any script (ISO/IEC 7812-1, annex B)."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - _DOUBLED_MAX if value > _DOUBLED_MAX else value
    return total % 10 == 0


def is_number(digits: str) -> bool:
    """Whether ``digits``, without separators, can be a card number."""
    well_formed = digits.isascii() and digits.isdigit() and MIN_LENGTH <= len(digits) <= MAX_LENGTH
    return well_formed and luhn_holds(digits)


def has_number(text: str) -> bool:
    """Whether ``text`` has 13 to 19 digits with a valid Luhn sum, however they are spaced.

    Digits that stand together stay together: "2 4111…" is looked at as "24111…" and as "4111…".
    """
    for run in _DIGIT_RUN.finditer(text):
        groups = _DIGIT_GROUP.findall(run.group())
        for first in range(len(groups)):
            digits = ""
            for group in groups[first:]:
                digits += group
                if len(digits) > _WRITTEN_LENGTHS[-1]:
                    break
                if len(digits) in _WRITTEN_LENGTHS and luhn_holds(digits) and not _EPOCH_TIME.fullmatch(digits):
                    return True
    return False


def network_of(number: str) -> Network:
    """The network of a card number, by its first six digits."""
    iin = int(number[:_IIN])
    return next((network for first, last, network in _NETWORKS if first <= iin <= last), "unknown")


def networks_within(first: int, last: int) -> frozenset[str]:
    """The networks that cards between two issuer identification numbers of six digits may have; more, if in doubt."""
    found = {network for begin, end, network in _NETWORKS if begin <= last and first <= end}
    return frozenset(found | {"unknown"})


def cvv_length(network: Network) -> int:
    """How many digits the security code of such a card has."""
    return _CVV_LENGTHS.get(network, 3)


def is_expired(month: int, year: int, now: datetime) -> bool:
    """Whether a card's last month, which it is valid through, is over."""
    return (year, month) < (now.year, now.month)


def bin_of(number: str) -> str:
    """The first six digits."""
    return number[:_IIN]


def last4_of(number: str) -> str:
    """The last four digits."""
    return number[-_LAST:]


def fingerprint(lookup_key: bytes, number: str) -> str:
    """Finds a card again without its number: keyed, because all card numbers can be tried in an afternoon."""
    return "fp_" + hmac.new(lookup_key, f"card|{number}".encode(), hashlib.sha256).hexdigest()[:32]
