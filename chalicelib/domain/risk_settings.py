"""A merchant's risk settings as JSON: what ``PUT /v1/risk`` takes and ``GET`` shows.

A field that is left out has its default. Values are never repeated in errors; ``param`` says where they are.
"""

from __future__ import annotations

import ipaddress
import json
import re
from dataclasses import asdict, fields
from functools import cache
from typing import TYPE_CHECKING, Any, NoReturn
from zoneinfo import available_timezones

from chalicelib.domain import cards
from chalicelib.domain.errors import InvalidRequest
from chalicelib.domain.money import EXPONENTS, is_amount
from chalicelib.domain.origin import BIN_LENGTHS, COUNTRIES
from chalicelib.domain.risk import MAX_SCORE, SCORES, RiskRules
from chalicelib.domain.risk_lists import Lists
from chalicelib.domain.velocity import DIMENSIONS, MAX_SECONDS, Limit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Reader = Callable[[object, str], Any]

MAX_ENTRIES = 5_000  # in all block and allow lists together
MAX_BIN_COUNTRIES = 1_000
MAX_LIMITS = 40
MAX_COUNTED = 500  # what the count limits of one dimension may add up to: a window keeps that many rows
MAX_BYTES = 128 * 1024  # as stored; a DynamoDB row holds 400 KB, and reading one costs by its size

_MAX_NIGHT = 500  # percent
# The other rules' scores are the thresholds that give them their name, or stand in the limits.
_SCORED = frozenset(SCORES) | {"amount_limit", "country_blocked", "country_not_allowed", "country_review"}
_LARGEST = {4: 8, 6: 16}  # bits of prefix: a shorter one would be a good part of the internet
_NAME = re.compile(r"[a-z][a-z_]{0,31}")
_LABEL = re.compile(r"[a-z0-9]|[a-z0-9][a-z0-9-]{0,61}[a-z0-9]")
_VPA = re.compile(r"[a-z0-9._-]{2,256}@[a-z][a-z0-9]{1,63}")
_FINGERPRINT = re.compile(r"fp_[0-9a-f]{32}")
_MAX_DOMAIN = 253
_time_zones = cache(available_timezones)  # looks at some six hundred files


def parse(data: object) -> RiskRules:
    """A merchant's settings from JSON; raises InvalidRequest whose ``param`` names the first wrong field."""
    given = _object(data, "", _FIELDS)
    rules = RiskRules(**{name: _FIELDS[name](value, name) for name, value in given.items()})
    if rules.review_score > rules.block_score:
        _refuse("review_score", "The review threshold is above the block threshold.")
    for name in ("allowed_countries", "review_countries"):
        if rules.blocked_countries & getattr(rules, name):
            _refuse(name, "A country in it is blocked as well.")
    _check_lists(rules)
    for dimension in DIMENSIONS:
        counts = (limit for limit in rules.limits if (limit.dimension, limit.measure) == (dimension, "count"))
        if sum(limit.value + 1 for limit in counts) > MAX_COUNTED:
            _refuse("limits", f"The count limits of {dimension} add up to more than {MAX_COUNTED}.")
    if len(json.dumps(to_stored(rules), separators=(",", ":"))) > MAX_BYTES:
        _refuse(None, f"The settings are larger than {MAX_BYTES} bytes.")
    return rules


def to_dict(rules: RiskRules) -> dict[str, Any]:
    """All settings as JSON, with the defaults; ``parse`` makes the same rules of it."""
    shown = asdict(rules)
    return {name: sorted(value) if isinstance(value, frozenset) else value for name, value in shown.items()} | {
        "block": {kind: list(entries) for kind, entries in shown["block"].items()},
        "allow": {kind: list(entries) for kind, entries in shown["allow"].items()},
        "limits": [
            {name: value for name, value in asdict(limit).items() if value is not None} for limit in rules.limits
        ],
    }


def to_stored(rules: RiskRules) -> dict[str, Any]:
    """The settings that are not the defaults: who never chose gets better defaults when they come.

    ``RiskRules(**stored)`` takes them back.
    """
    defaults = to_dict(RiskRules())
    return {name: value for name, value in to_dict(rules).items() if value != defaults[name]}


# -- across fields ---------------------------------------------------------------------------------


def _check_lists(rules: RiskRules) -> None:
    entries = 0
    for field in fields(Lists):
        blocked, allowed = getattr(rules.block, field.name), getattr(rules.allow, field.name)
        entries += len(blocked) + len(allowed)
        twice = frozenset(blocked) & frozenset(allowed)
        if twice:
            _refuse(f"allow.{field.name}", "An entry of it is on the block list as well, which would win.")
    if entries > MAX_ENTRIES:
        _refuse("block", f"The block and allow lists have more than {MAX_ENTRIES} entries together.")


# -- one value: each reader takes it and its path, and gives it back in the one form it is kept in ---


def _refuse(path: str | None, detail: str, code: str = "invalid_field") -> NoReturn:
    raise InvalidRequest(code, detail, param=path or None)


def _object(value: object, path: str, names: Mapping[str, Reader] | frozenset[str] | None = None) -> dict[str, Any]:
    if not isinstance(value, dict):
        _refuse(path, "A JSON object is expected.")
    for name in value:
        if names is not None and name not in names:
            _refuse(_join(path, name), "This field is not known here.", "unknown_field")
    return value


def _join(path: str, name: object) -> str:
    """The path of a field by a caller's own name for it, if that can be repeated."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        return path
    return f"{path}.{name}" if path else name


def _whole(first: int, last: int) -> Reader:
    def read(value: object, path: str) -> int:
        if type(value) is not int or not first <= value <= last:
            _refuse(path, f"A whole number from {first} to {last} is expected.")
        return value

    return read


def _one_of(names: Sequence[str]) -> Reader:
    def read(value: object, path: str) -> str:
        if not isinstance(value, str) or value not in names:
            _refuse(path, f"One of {', '.join(names)} is expected.")
        return value

    return read


def _amount(value: object, path: str) -> int:
    if not is_amount(value):
        _refuse(path, "A positive amount in minor units is expected.")
    return value  # type: ignore[return-value]  # is_amount says so


def _currency(value: object, path: str) -> str:
    if not isinstance(value, str) or value not in EXPONENTS:
        _refuse(path, "Not an ISO 4217 currency with a minor unit.", "unknown_currency")
    return value


def _country(value: object, path: str) -> str:
    if not isinstance(value, str) or value not in COUNTRIES:
        _refuse(path, "Not an ISO 3166-1 alpha-2 country code.")
    return value


def _bin(value: object, path: str) -> str:
    is_bin = isinstance(value, str) and value.isascii() and value.isdigit() and len(value) in BIN_LENGTHS
    if not is_bin or value[0] == "0":  # type: ignore[index]  # a string, by then
        _refuse(path, "A BIN has six or eight digits, and the first is not 0.")
    return value  # type: ignore[return-value]


def _fingerprint(value: object, path: str) -> str:
    if not isinstance(value, str) or not _FINGERPRINT.fullmatch(value):
        _refuse(path, "Not a card's fingerprint, as a token shows it.")
    return value


def _domain(value: object, path: str) -> str:
    domain = value.lower() if isinstance(value, str) else ""
    labels = domain.split(".")
    if len(domain) > _MAX_DOMAIN or len(labels) == 1 or not all(_LABEL.fullmatch(label) for label in labels):
        _refuse(path, "Not the domain of an email address. Letters beyond ASCII are written as in DNS: xn--….")
    return _without_card(domain, path)


def _vpa(value: object, path: str) -> str:
    vpa = value.lower() if isinstance(value, str) and value.isascii() else ""
    if not _VPA.fullmatch(vpa):
        _refuse(path, "Not a VPA.")
    return _without_card(vpa, path)


def _without_card(text: str, path: str) -> str:
    """The one free text in here is checked as every other (api.fields): no card number gets in by it."""
    if any(cards.is_number(digits) for digits in re.findall(r"\d+", re.sub(r"[._-]", "", text))):
        _refuse(path, "This looks like a card number; it must not be sent here.", "card_number_not_allowed")
    return text


def _network(value: object, path: str) -> str:
    try:
        # Behind "%" an address may name a network card of its machine: any text at all.
        network = ipaddress.ip_network(value if isinstance(value, str) and "%" not in value else "")
    except ValueError:
        _refuse(path, "Not an IP address or CIDR network; the bits behind the prefix must be zero.")
    if isinstance(network, ipaddress.IPv6Network) and network.network_address.ipv4_mapped is not None:
        _refuse(path, "Write an IPv4 network as such.")
    if network.prefixlen < _LARGEST[network.version]:
        _refuse(path, f"The prefix must have at least {_LARGEST[network.version]} bits.")
    return str(network)


def _zone(value: object, path: str) -> str:
    if not isinstance(value, str) or value not in _time_zones():
        _refuse(path, "Not a time zone of the IANA database, such as Asia/Kolkata.")
    return value


def _entries(read: Reader, most: int = MAX_ENTRIES) -> Reader:
    def entries(value: object, path: str) -> tuple[Any, ...]:
        if not isinstance(value, list):
            _refuse(path, "A JSON array is expected.")
        if len(value) > most:
            _refuse(path, f"More than {most} entries.")
        found: dict[Any, int] = {}
        for place, entry in enumerate(value):
            first = found.setdefault(read(entry, f"{path}.{place}"), place)
            if first != place:
                _refuse(f"{path}.{place}", f"The same as entry {first}.")
        return tuple(sorted(found))

    return entries


def _by(key: Reader, read: Reader, most: int) -> Reader:
    def table(value: object, path: str) -> dict[str, Any]:
        given = _object(value, path)
        if len(given) > most:
            _refuse(path, f"More than {most} entries.")
        # A key that is none names the table; a value that is wrong names its key.
        return {key(name, path): read(entry, f"{path}.{name}") for name, entry in given.items()}

    return table


def _lists(value: object, path: str) -> Lists:
    given = _object(value, path, _LISTS)
    return Lists(**{kind: _LISTS[kind](entries, f"{path}.{kind}") for kind, entries in given.items()})


def _limit(value: object, path: str) -> Limit:
    given = _object(value, path, _LIMIT)
    for name in ("dimension", "seconds", "measure", "value", "score"):
        if name not in given:
            _refuse(f"{path}.{name}", "This field is required.", "missing_field")
    limit = Limit(**{name: _LIMIT[name](entry, f"{path}.{name}") for name, entry in given.items()})
    if limit.measure == "count" and limit.value >= MAX_COUNTED:
        _refuse(f"{path}.value", f"A count must be below {MAX_COUNTED}.")
    if limit.currency is None and (limit.measure == "sum" or limit.up_to is not None):
        _refuse(f"{path}.currency", "An amount needs its currency.", "missing_field")
    if limit.measure == "sum" and (limit.kind != "payment" or limit.up_to is not None):
        _refuse(f"{path}.measure", "Small payments and declines are counted, not added up.")
    return limit


def _limits(value: object, path: str) -> tuple[Limit, ...]:
    if not isinstance(value, list):
        _refuse(path, "A JSON array is expected.")
    if len(value) > MAX_LIMITS:
        _refuse(path, f"More than {MAX_LIMITS} limits.")
    limits: list[Limit] = []
    about: dict[tuple[object, ...], int] = {}
    for place, entry in enumerate(value):
        limit = _limit(entry, f"{path}.{place}")
        subject = (limit.dimension, limit.seconds, limit.measure, limit.kind, limit.currency, limit.up_to)
        if about.setdefault(subject, place) != place:
            _refuse(f"{path}.{place}", f"About the same as limit {about[subject]}.")
        limits.append(limit)
    return tuple(limits)


_LIMIT: Mapping[str, Reader] = {
    "dimension": _one_of(tuple(DIMENSIONS)),
    "seconds": _whole(1, MAX_SECONDS),
    "measure": _one_of(("count", "sum")),
    "value": _amount,
    "score": _whole(1, MAX_SCORE),
    "kind": _one_of(("payment", "decline")),
    "currency": _currency,
    "up_to": _amount,
}
_LISTS: Mapping[str, Reader] = {
    "bins": _entries(_bin),
    "fingerprints": _entries(_fingerprint),
    "email_domains": _entries(_domain),
    "networks": _entries(_network),
    "vpas": _entries(_vpa),
}
_FIELDS: Mapping[str, Reader] = {
    "max_amount": _by(_currency, _amount, len(EXPONENTS)),
    "allowed_countries": _entries(_country),
    "blocked_countries": _entries(_country),
    "review_countries": _entries(_country),
    "review_score": _whole(1, MAX_SCORE),
    "block_score": _whole(1, MAX_SCORE),
    "block": _lists,
    "allow": _lists,
    "limits": _limits,
    "first_seen_amount": _by(_currency, _amount, len(EXPONENTS)),
    "time_zone": _zone,
    "night_from": _whole(0, 23),
    "night_to": _whole(0, 23),
    "night_percent": _whole(100, _MAX_NIGHT),
    "bin_countries": _by(_bin, _country, MAX_BIN_COUNTRIES),
    "scores": _by(_one_of(sorted(_SCORED)), _whole(0, MAX_SCORE), len(_SCORED)),
}
