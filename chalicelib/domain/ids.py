"""Prefixed, time-ordered identifiers (ULID: 48 bits of milliseconds, 80 random bits, Crockford base 32)."""

from __future__ import annotations

import hashlib
import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

randbits: Callable[[int], int] = secrets.randbits  # a seam: a test that must repeat itself brings a seeded one

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SHORT_LENGTH = 22  # of base 62, for a ULID's 128 bits
_RANDOM_BITS = 80
_LENGTH = 26
MAX_ATTEMPTS = 99


def _encode(number: int) -> str:
    digits = []
    for _ in range(_LENGTH):
        number, rest = divmod(number, 32)
        digits.append(_ALPHABET[rest])
    return "".join(reversed(digits))


def new_id(prefix: str, now: datetime) -> str:
    """A new ``{prefix}_{ULID}``; ids of one prefix sort by creation time to the millisecond."""
    milliseconds = int(now.timestamp() * 1000)
    return f"{prefix}_{_encode(milliseconds << _RANDOM_BITS | randbits(_RANDOM_BITS))}"


def made_at(identifier: str) -> datetime:
    """When an id that ends in a ULID was made, to the millisecond; raises ValueError for another."""
    number = 0
    for letter in identifier[-_LENGTH:]:
        number = number * 32 + _ALPHABET.index(letter)
    return datetime.fromtimestamp((number >> _RANDOM_BITS) / 1000, UTC)


def derived_id(prefix: str, now: datetime, *parts: str) -> str:
    """An id that is the same whenever the same side effect is decided again at the same time.

    Deterministic ids make a repeated decision collide with itself instead of doubling an effect.
    """
    milliseconds = int(now.timestamp() * 1000)
    digest = hashlib.sha256("\x1f".join(parts).encode()).digest()
    return f"{prefix}_{_encode(milliseconds << _RANDOM_BITS | int.from_bytes(digest[:10], 'big'))}"


def attempt_id(payment_id: str, number: int) -> str:
    """The id of a payment's n-th attempt, derived so that it can never be made twice."""
    return f"att_{payment_id.removeprefix('pay_')}{number:02d}"


def attempt_reference(payment_id: str, number: int) -> str:
    """What providers know an attempt by: the payment id and the attempt's number, 33 characters."""
    return f"{payment_id}-{number:02d}"


def short_reference(reference: str) -> str:
    """An attempt reference in 24 letters and digits, for providers that take no more: see ``long_reference``."""
    payment_id, _, number = reference.rpartition("-")
    rest = 0
    for letter in payment_id.removeprefix("pay_"):
        rest = rest * 32 + _ALPHABET.index(letter)
    digits = []
    for _ in range(_SHORT_LENGTH):
        rest, digit = divmod(rest, 62)
        digits.append(_BASE62[digit])
    return "".join(reversed(digits)) + number


def long_reference(short: str) -> str | None:
    """The attempt reference that ``short_reference`` made short, or None if it is not one of ours."""
    if len(short) != _SHORT_LENGTH + len("00") or not (short.isascii() and short.isalnum()):
        return None
    number = 0
    for letter in short[:_SHORT_LENGTH]:
        number = number * 62 + _BASE62.index(letter)
    reference = f"pay_{_encode(number)}-{short[_SHORT_LENGTH:]}"
    return reference if parse_attempt_reference(reference) and short_reference(reference) == short else None


def parse_attempt_reference(reference: str) -> tuple[str, int] | None:
    """The payment id and attempt number in a reference of ours, or None if it is not one."""
    payment_id, separator, number = reference.rpartition("-")
    is_number = number.isascii() and number.isdigit() and len(number) == len("00")
    if not separator or not payment_id.startswith("pay_") or not is_number:
        return None
    return payment_id, int(number)
