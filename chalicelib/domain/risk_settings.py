"""A merchant's risk settings as JSON: what ``PUT /v1/risk`` takes and ``GET`` shows.

A field that is left out has its default. Values are never repeated in errors; ``param`` says where they are.
"""

from __future__ import annotations

import ipaddress
import json
import re
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from chalicelib.domain import readers
from chalicelib.domain.money import EXPONENTS
from chalicelib.domain.origin import BIN_LENGTHS
from chalicelib.domain.risk import MAX_SCORE, SCORES, RiskRules
from chalicelib.domain.risk_lists import Lists
from chalicelib.domain.velocity import DIMENSIONS, MAX_SECONDS, Limit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from chalicelib.domain.readers import Reader

MAX_ENTRIES = 5_000  # in all block and allow lists together
MAX_BIN_COUNTRIES = 1_000
MAX_LIMITS = 40
MAX_COUNTED = 500  # what the count limits of one dimension may add up to: a window keeps that many rows
MAX_BYTES = 128 * 1024  # as stored; a DynamoDB row holds 400 KB, and reading one costs by its size

_LIMIT_REQUIRED = ("dimension", "seconds", "measure", "value", "score")
_MEASURES = ("count", "sum")
_KINDS = ("payment", "decline")
_MAX_NIGHT = 500  # percent
# The other rules' scores are the thresholds that give them their name, or stand in the limits.
_SCORED = frozenset(SCORES) | {"amount_limit", "country_blocked", "country_not_allowed", "country_review"}
_LARGEST = {4: 8, 6: 16}  # bits of prefix: a shorter one would be a good part of the internet
_LABEL = re.compile(r"[a-z0-9]|[a-z0-9][a-z0-9-]{0,61}[a-z0-9]")
_VPA = re.compile(r"[a-z0-9._-]{2,256}@[a-z][a-z0-9]{1,63}")
_FINGERPRINT = re.compile(r"fp_[0-9a-f]{32}")
_MAX_DOMAIN = 253


def parse(data: object) -> RiskRules:
    """A merchant's settings from JSON; raises InvalidRequest whose ``param`` names the first wrong field."""
    rules = RiskRules(**readers.fields(data, "", _FIELDS))
    if rules.review_score > rules.block_score:
        readers.refuse("review_score", "The review threshold is above the block threshold.")
    for name in ("allowed_countries", "review_countries"):
        if rules.blocked_countries & getattr(rules, name):
            readers.refuse(name, "A country in it is blocked as well.")
    _check_lists(rules)
    for dimension in DIMENSIONS:
        counts = (limit for limit in rules.limits if (limit.dimension, limit.measure) == (dimension, "count"))
        if sum(limit.value + 1 for limit in counts) > MAX_COUNTED:
            readers.refuse("limits", f"The count limits of {dimension} add up to more than {MAX_COUNTED}.")
    if len(json.dumps(to_stored(rules), separators=(",", ":"))) > MAX_BYTES:
        readers.refuse(None, f"The settings are larger than {MAX_BYTES} bytes.")
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

    ``from_stored`` takes them back.
    """
    defaults = to_dict(RiskRules())
    return {name: value for name, value in to_dict(rules).items() if value != defaults[name]}


def from_stored(stored: Mapping[str, Any], unread: Callable[[str], object] = lambda _: None) -> RiskRules:
    """The settings that are stored. What was valid then is not checked again.

    A field, list or limit that this release does not know, because a newer one has stored it, is left out, and
    ``unread`` is told where it is: payments are judged by the others. It is never a reason to fail.
    """
    found: dict[str, Any] = {}
    for name, value in stored.items():
        if name not in _FIELDS:
            unread(name)
        elif name in ("block", "allow"):
            found[name] = {kind: entries for kind, entries in value.items() if kind in _LISTS}
            for kind in value.keys() - found[name].keys():
                unread(f"{name}.{kind}")
        elif name == "limits":
            found[name] = tuple(limit for limit in value if _is_known(limit))
            for place in (place for place, limit in enumerate(value) if not _is_known(limit)):
                unread(f"{name}.{place}")
        else:
            found[name] = value
    return RiskRules(**found)


def _is_known(limit: Mapping[str, Any]) -> bool:
    """Whether this release knows all that a stored limit says: without a part of it it would be another limit."""
    return (
        limit.keys() <= _LIMIT.keys()
        and limit.keys() >= set(_LIMIT_REQUIRED)
        and limit["dimension"] in DIMENSIONS
        and limit["measure"] in _MEASURES
        and limit.get("kind", "payment") in _KINDS
    )


# -- across fields ---------------------------------------------------------------------------------


def _check_lists(rules: RiskRules) -> None:
    entries = 0
    for field in fields(Lists):
        blocked, allowed = getattr(rules.block, field.name), getattr(rules.allow, field.name)
        entries += len(blocked) + len(allowed)
        twice = frozenset(blocked) & frozenset(allowed)
        if twice:
            readers.refuse(f"allow.{field.name}", "An entry of it is on the block list as well, which would win.")
    if entries > MAX_ENTRIES:
        readers.refuse("block", f"The block and allow lists have more than {MAX_ENTRIES} entries together.")


# -- one value: each reader takes it and its path, and gives it back in the one form it is kept in ---


def _bin(value: object, path: str) -> str:
    is_bin = isinstance(value, str) and value.isascii() and value.isdigit() and len(value) in BIN_LENGTHS
    if not is_bin or value[0] == "0":  # type: ignore[index]  # a string, by then
        readers.refuse(path, "A BIN has six or eight digits, and the first is not 0.")
    return value  # type: ignore[return-value]


def _fingerprint(value: object, path: str) -> str:
    if not isinstance(value, str) or not _FINGERPRINT.fullmatch(value):
        readers.refuse(path, "Not a card's fingerprint, as a token shows it.")
    return value


def _domain(value: object, path: str) -> str:
    domain = value.lower() if isinstance(value, str) else ""
    labels = domain.split(".")
    if len(domain) > _MAX_DOMAIN or len(labels) == 1 or not all(_LABEL.fullmatch(label) for label in labels):
        readers.refuse(path, "Not the domain of an email address. Letters beyond ASCII are written as in DNS: xn--….")
    return readers.without_card(domain, path)


def _vpa(value: object, path: str) -> str:
    vpa = value.lower() if isinstance(value, str) and value.isascii() else ""
    if not _VPA.fullmatch(vpa):
        readers.refuse(path, "Not a VPA.")
    return readers.without_card(vpa, path)


def _network(value: object, path: str) -> str:
    try:
        # Behind "%" an address may name a network card of its machine: any text at all.
        network = ipaddress.ip_network(value if isinstance(value, str) and "%" not in value else "")
    except ValueError:
        readers.refuse(path, "Not an IP address or CIDR network; the bits behind the prefix must be zero.")
    if isinstance(network, ipaddress.IPv6Network) and network.network_address.ipv4_mapped is not None:
        readers.refuse(path, "Write an IPv4 network as such.")
    if network.prefixlen < _LARGEST[network.version]:
        readers.refuse(path, f"The prefix must have at least {_LARGEST[network.version]} bits.")
    return str(network)


def _lists(value: object, path: str) -> Lists:
    return Lists(**readers.fields(value, path, _LISTS))


def _limit(value: object, path: str) -> Limit:
    limit = Limit(**readers.fields(value, path, _LIMIT, _LIMIT_REQUIRED))
    if limit.measure == "count" and limit.value >= MAX_COUNTED:
        readers.refuse(f"{path}.value", f"A count must be below {MAX_COUNTED}.")
    if limit.currency is None and (limit.measure == "sum" or limit.up_to is not None):
        readers.refuse(f"{path}.currency", "An amount needs its currency.", "missing_field")
    if limit.measure == "sum" and (limit.kind != "payment" or limit.up_to is not None):
        readers.refuse(f"{path}.measure", "Small payments and declines are counted, not added up.")
    return limit


def _limits(value: object, path: str) -> tuple[Limit, ...]:
    limits: tuple[Limit, ...] = readers.array(_limit, MAX_LIMITS)(value, path)
    about: dict[tuple[object, ...], int] = {}
    for place, limit in enumerate(limits):
        subject = (limit.dimension, limit.seconds, limit.measure, limit.kind, limit.currency, limit.up_to)
        if about.setdefault(subject, place) != place:
            readers.refuse(f"{path}.{place}", f"About the same as limit {about[subject]}.")
    return limits


_LIMIT: Mapping[str, Reader] = {
    "dimension": readers.one_of(tuple(DIMENSIONS)),
    "seconds": readers.whole(1, MAX_SECONDS),
    "measure": readers.one_of(_MEASURES),
    "value": readers.amount,
    "score": readers.whole(1, MAX_SCORE),
    "kind": readers.one_of(_KINDS),
    "currency": readers.currency,
    "up_to": readers.amount,
}
_LISTS: Mapping[str, Reader] = {
    "bins": readers.entries(_bin, MAX_ENTRIES),
    "fingerprints": readers.entries(_fingerprint, MAX_ENTRIES),
    "email_domains": readers.entries(_domain, MAX_ENTRIES),
    "networks": readers.entries(_network, MAX_ENTRIES),
    "vpas": readers.entries(_vpa, MAX_ENTRIES),
}
_FIELDS: Mapping[str, Reader] = {
    "max_amount": readers.table(readers.currency, readers.amount, len(EXPONENTS)),
    "allowed_countries": readers.entries(readers.country, MAX_ENTRIES),
    "blocked_countries": readers.entries(readers.country, MAX_ENTRIES),
    "review_countries": readers.entries(readers.country, MAX_ENTRIES),
    "review_score": readers.whole(1, MAX_SCORE),
    "block_score": readers.whole(1, MAX_SCORE),
    "block": _lists,
    "allow": _lists,
    "limits": _limits,
    "first_seen_amount": readers.table(readers.currency, readers.amount, len(EXPONENTS)),
    "time_zone": readers.time_zone,
    "night_from": readers.whole(0, 23),
    "night_to": readers.whole(0, 23),
    "night_percent": readers.whole(100, _MAX_NIGHT),
    "bin_countries": readers.table(_bin, readers.country, MAX_BIN_COUNTRIES),
    "scores": readers.table(readers.one_of(sorted(_SCORED)), readers.whole(0, MAX_SCORE), len(_SCORED)),
}
