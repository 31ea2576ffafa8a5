"""A merchant's past payments as lines of JSON: the shape that a history has, read and written.

A line is a payment's first attempt: what routing was asked, where the payment went, and what came of it.

    {"id": "pay_1", "created_at": "2026-11-01T09:30:00Z", "method": "card", "network": "visa", "bin": "411111",
     "currency": "INR", "amount": 149900, "country": "IN", "segment": "new", "metadata": {},
     "account": "acc_razorpay", "provider": "razorpay", "succeeded": false, "error": "declined_issuer", "rule": "cards"}

``amount`` is in minor units. ``network`` is the card's, or the bank or wallet. ``error`` is one of the ten classes of
domain/errors.py and null of a payment that succeeded. ``network``, ``bin``, ``country``, ``segment``, ``metadata``,
``error`` and ``rule`` may be left out; of a failure without ``error`` it is taken that it says something about the
account. The order of the lines does not matter.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from chalicelib.domain import readers
from chalicelib.domain.errors import ErrorClass, InvalidRequest
from chalicelib.domain.scoring import outcome_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from chalicelib.domain.readers import Reader

METHODS = ("upi", "card", "netbanking", "wallet")
_MAX_METADATA = 100


class HistoryError(Exception):
    """A history that cannot be used; says which line and field, or what the API answered."""


@dataclass(frozen=True, slots=True)
class Past:
    """A payment's first attempt; ``amount`` in minor units."""

    id: str
    created_at: datetime
    method: str
    currency: str
    amount: int
    account: str
    provider: str
    succeeded: bool
    network: str | None = None
    bin: str | None = None
    country: str | None = None
    segment: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    error: ErrorClass | None = None
    rule: str | None = None

    @property
    def outcome(self) -> bool | None:
        """Whether the account succeeded; None where the end says nothing about it."""
        return True if self.succeeded else outcome_of(self.error or ErrorClass.DECLINED_ISSUER)


# -- lines -------------------------------------------------------------------------------------------


def write(history: Iterable[Past]) -> Iterator[str]:
    """A line of JSON for each payment, without its end."""
    for past in history:
        shown = {name: getattr(past, name) for name in _NAMES} | {"created_at": past.created_at.isoformat()}
        yield json.dumps(shown, separators=(",", ":"))


def read(lines: Iterable[str]) -> list[Past]:
    """The payments of a history, oldest first; empty lines are passed over.

    Raises HistoryError that names the line, counted from 1, and the field.
    """
    found: list[Past] = []
    seen: dict[str, int] = {}
    providers: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            past = _past(json.loads(line))
            if seen.setdefault(past.id, number) != number:
                readers.refuse("id", f"The same as on line {seen[past.id]}.")
            if providers.setdefault(past.account, past.provider) != past.provider:
                readers.refuse("provider", "The account has another one on a line before.")
        except (json.JSONDecodeError, RecursionError) as error:
            message = f"line {number}: not JSON"
            raise HistoryError(message) from error
        except InvalidRequest as error:
            message = f"line {number}: {error.param or 'the line'}: {error.detail}"
            raise HistoryError(message) from error
        found.append(past)
    return sorted(found, key=lambda past: (past.created_at, past.id))


def _past(value: object) -> Past:
    given = {name: told for name, told in readers.fields(value, "", _FIELDS, _REQUIRED).items() if told is not None}
    past = Past(**given)
    if past.succeeded and past.error is not None:
        readers.refuse("error", "A payment that succeeded has none.")
    return past


def _text(value: object, path: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= 200 or not value.isprintable():  # noqa: PLR2004
        readers.refuse(path, "A text of 1 to 200 characters is expected.")
    return value


def _id(value: object, path: str) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9_]{1,64}", value):
        readers.refuse(path, "An id or name of 1 to 64 letters, digits and _ is expected.")
    return value


def _bin(value: object, path: str) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[1-9][0-9]{5}", value, re.ASCII):
        readers.refuse(path, "Six digits are expected, not beginning with 0.")
    return value


def moment(value: object, path: str) -> datetime:
    """A time with its zone by ISO 8601, in UTC."""
    try:
        moment = datetime.fromisoformat(value if isinstance(value, str) else "")
    except ValueError:
        readers.refuse(path, "A time such as 2026-12-24T18:00:00Z is expected.")
    if moment.tzinfo is None:
        readers.refuse(path, "The time needs its zone: Z, or +05:30.")
    return moment.astimezone(UTC)


def _flag(value: object, path: str) -> bool:
    if not isinstance(value, bool):
        readers.refuse(path, "true or false is expected.")
    return value


def _class(value: object, path: str) -> ErrorClass:
    return ErrorClass(readers.one_of([str(name) for name in ErrorClass])(value, path))


def _or_null(read_one: Reader) -> Reader:
    return lambda value, path: None if value is None else read_one(value, path)


_REQUIRED = ("id", "created_at", "method", "currency", "amount", "account", "provider", "succeeded")
_FIELDS: Final[Mapping[str, Reader]] = {
    "id": _text, "created_at": moment, "method": readers.one_of(METHODS), "network": _or_null(_text),
    "bin": _or_null(_bin), "currency": readers.currency, "amount": readers.amount,
    "country": _or_null(readers.country), "segment": _or_null(_text),
    "metadata": _or_null(readers.table(_text, _text, _MAX_METADATA)), "account": _id, "provider": _id,
    "succeeded": _flag, "error": _or_null(_class), "rule": _or_null(_text),
}  # fmt: skip
_NAMES = tuple(_FIELDS)
