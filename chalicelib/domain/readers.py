"""Readers of a merchant's settings in JSON: each takes a value and its path, and gives back the one form it is kept in.

What cannot be read raises InvalidRequest whose ``param`` is the path. Values are never repeated in errors.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any, NoReturn
from zoneinfo import available_timezones

from chalicelib.domain import cards
from chalicelib.domain.errors import InvalidRequest
from chalicelib.domain.money import EXPONENTS, is_amount
from chalicelib.domain.origin import COUNTRIES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Reader = Callable[[object, str], Any]

_NAME = re.compile(r"[a-z][a-z_]{0,31}")
_time_zones = cache(available_timezones)  # looks at some six hundred files


def refuse(path: str | None, detail: str, code: str = "invalid_field") -> NoReturn:
    """Raise InvalidRequest for the value at ``path``; None or "" is the whole of it."""
    raise InvalidRequest(code, detail, param=path or None)


def object_of(value: object, path: str, names: Mapping[str, Reader] | frozenset[str] | None = None) -> dict[str, Any]:
    """A JSON object, with none but fields of these ``names`` where they are given."""
    if not isinstance(value, dict):
        refuse(path, "A JSON object is expected.")
    for name in value:
        if names is not None and name not in names:
            refuse(join(path, name), "This field is not known here.", "unknown_field")
    return value


def join(path: str, name: object) -> str:
    """The path of a field by a caller's own name for it, if that can be repeated."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        return path
    return f"{path}.{name}" if path else name


def whole(first: int, last: int) -> Reader:
    """A whole number from ``first`` to ``last``."""

    def read(value: object, path: str) -> int:
        if type(value) is not int or not first <= value <= last:
            refuse(path, f"A whole number from {first} to {last} is expected.")
        return value

    return read


def one_of(names: Sequence[str]) -> Reader:
    """One of these texts."""

    def read(value: object, path: str) -> str:
        if not isinstance(value, str) or value not in names:
            refuse(path, f"One of {', '.join(names)} is expected.")
        return value

    return read


def amount(value: object, path: str) -> int:
    """A positive amount in minor units."""
    if not is_amount(value):
        refuse(path, "A positive amount in minor units is expected.")
    return value  # type: ignore[return-value]  # is_amount says so


def currency(value: object, path: str) -> str:
    """A currency by ISO 4217."""
    if not isinstance(value, str) or value not in EXPONENTS:
        refuse(path, "Not an ISO 4217 currency with a minor unit.", "unknown_currency")
    return value


def country(value: object, path: str) -> str:
    """A country by ISO 3166-1 alpha-2."""
    if not isinstance(value, str) or value not in COUNTRIES:
        refuse(path, "Not an ISO 3166-1 alpha-2 country code.")
    return value


def time_zone(value: object, path: str) -> str:
    """A time zone of the IANA database."""
    if not isinstance(value, str) or value not in _time_zones():
        refuse(path, "Not a time zone of the IANA database, such as Asia/Kolkata.")
    return value


def without_card(text: str, path: str) -> str:
    """A text that a merchant may choose, unless a card number is in it, whatever stands between its digits."""
    together = re.findall(r"\d+", re.sub(r"[ ._-]", "", text))
    if cards.has_number(re.sub("[_/,+&]", " ", text)) or any(cards.is_number(digits) for digits in together):
        refuse(path, "This looks like a card number; it must not be sent here.", "card_number_not_allowed")
    return text


def table(key: Reader, read: Reader, most: int) -> Reader:
    """An object of at most ``most`` entries whose names ``key`` reads and whose values ``read``."""

    def entries(value: object, path: str) -> dict[str, Any]:
        given = object_of(value, path)
        if len(given) > most:
            refuse(path, f"More than {most} entries.")
        # A key that is none names the table; a value that is wrong names its key.
        return {key(name, path): read(entry, f"{path}.{name}") for name, entry in given.items()}

    return entries


def fields(value: object, path: str, readers: Mapping[str, Reader], required: Sequence[str] = ()) -> dict[str, Any]:
    """An object's fields, each by its own reader."""
    given = object_of(value, path, readers)
    for name in required:
        if name not in given:
            refuse(join(path, name), "This field is required.", "missing_field")
    return {name: readers[name](entry, join(path, name)) for name, entry in given.items()}


def array(read: Reader, most: int) -> Reader:
    """An array of at most ``most`` entries, in order."""

    def items(value: object, path: str) -> tuple[Any, ...]:
        if not isinstance(value, list):
            refuse(path, "A JSON array is expected.")
        if len(value) > most:
            refuse(f"{path}.{most}", f"More than {most} entries.")
        return tuple(read(entry, f"{path}.{place}") for place, entry in enumerate(value))

    return items


def entries(read: Reader, most: int) -> Reader:
    """An array of at most ``most`` different entries, kept sorted."""

    def items(value: object, path: str) -> tuple[Any, ...]:
        if not isinstance(value, list):
            refuse(path, "A JSON array is expected.")
        if len(value) > most:
            refuse(path, f"More than {most} entries.")
        found: dict[Any, int] = {}
        for place, entry in enumerate(value):
            first = found.setdefault(read(entry, f"{path}.{place}"), place)
            if first != place:
                refuse(f"{path}.{place}", f"The same as entry {first}.")
        return tuple(sorted(found))

    return items
