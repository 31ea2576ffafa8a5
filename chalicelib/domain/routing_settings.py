"""A merchant's routing settings as JSON: what ``PUT /v1/routing`` takes and ``GET`` shows.

A field that is left out has its default. Values are never repeated in errors; ``param`` says where they are, by
the number of the rule, counted from 0.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import combinations
from typing import TYPE_CHECKING, Any, get_args

from chalicelib.domain import cards, readers, retrying
from chalicelib.domain.errors import InvalidRequest
from chalicelib.domain.experiments import MAX_SHARE, MIN_SHARE, Experiment, Guardrail
from chalicelib.domain.money import EXPONENTS
from chalicelib.domain.routing_rules import (
    DAYS,
    DEFAULT_RULES,
    By,
    Hours,
    Maintenance,
    Price,
    RoutingSettings,
    Rule,
    When,
    clash,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from chalicelib.domain.readers import Reader

MAX_RULES = 100
MAX_BINS = 500  # ranges of one rule
MAX_LISTED = 100  # accounts, networks and the like of one rule
MAX_MAINTENANCE = 50
MAX_COSTS = 100
MAX_BYTES = 128 * 1024  # as stored; a DynamoDB row holds 400 KB, and reading one costs by its size

MAX_EXPERIMENTS = 10

_MAX_EXPERIMENT = timedelta(days=90)
_MAX_SETTLE = 86_400  # seconds
_MAX_MARGIN = 50  # points
_MIN_PAYMENTS, _MAX_PAYMENTS = 50, 100_000
_FIRST_YEAR, _LAST_YEAR = 2000, 2100
_MAX_MAINTENANCE = timedelta(days=30)
_MAX_BASIS_POINTS = 5_000  # half of the amount: more is a slip
_METHODS = ("upi", "card", "netbanking", "wallet")
_WHOLE = 100  # percent
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _.,&+/-]{0,59}")
_OURS = frozenset(rule.name for rule in DEFAULT_RULES)
_CODE = re.compile(r"[A-Za-z0-9_]{1,32}")
_EXPERIMENT_NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")
_LABEL = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_TARGET = re.compile(r"[A-Za-z0-9_]{1,64}")
_BIN = re.compile(r"([1-9][0-9]{5})(?:-([1-9][0-9]{5}))?", re.ASCII)
_CLOCK = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])", re.ASCII)
_MAX_TEXT = 200


def parse(data: object, accounts: Mapping[str, str]) -> RoutingSettings:
    """A merchant's settings from JSON; ``accounts`` are the merchant's, the provider by account id.

    Raises InvalidRequest whose ``param`` names the first wrong field.
    """
    given = readers.fields(data, "", _FIELDS)
    settings = RoutingSettings(**given)
    if len(json.dumps(to_stored(settings), separators=(",", ":"))) > MAX_BYTES:
        readers.refuse(None, f"The settings are larger than {MAX_BYTES} bytes.")
    known = frozenset(accounts) | frozenset(accounts.values())
    for place, rule in enumerate(settings.rules):
        if rule.name in _OURS:
            readers.refuse(f"rules.{place}.name", "A rule of ours behind yours is called that.")
        field = "weights" if rule.by == "split" else "accounts"
        places = [f"rules.{place}.{field}.{_place(rule, n)}" for n in range(len(rule.accounts))]
        _check_known(rule.accounts, known, places)
        _check_once(rule, accounts, places)
        _check_costs(settings, rule, accounts, f"rules.{place}.by")
    for number, window in enumerate(settings.maintenance):
        _check_known([window.account], known, [f"maintenance.{number}.account"])
    for number, experiment in enumerate(settings.experiments):
        places = [f"experiments.{number}.accounts.{place}" for place in range(len(experiment.accounts))]
        _check_known(experiment.accounts, known, places)
        _check_once(experiment.rule(), accounts, places)
        _check_costs(settings, replace(experiment.rule(), when=experiment.when), accounts, f"experiments.{number}.by")
    _check_names("experiments", [experiment.name for experiment in settings.experiments])
    retrying.check(settings.retry)
    # As they were sent: an entry that changes nothing is not kept, and its name may be wrong all the same.
    for provider in readers.object_of(data, "").get("retry", {}).get("providers", {}):
        _check_known([provider], frozenset(accounts.values()), [f"retry.providers.{provider}"])
    _check_known(list(settings.costs), known, [f"costs.{name}" for name in settings.costs])
    _check_names("rules", [rule.name for rule in settings.rules])
    for (_, earlier), (number, later) in combinations(enumerate(settings.rules), 2):
        reason = clash(earlier, later)
        if reason is not None:
            readers.refuse(f"rules.{number}.when", reason, "overlapping_rules")
    return settings


def to_dict(settings: RoutingSettings) -> dict[str, Any]:
    """All settings as JSON; ``parse`` makes the same of it."""
    return {
        "rules": [_rule_dict(rule) for rule in settings.rules],
        "maintenance": [
            _without_empty({
                "account": window.account, "from": _moment_text(window.begin), "until": _moment_text(window.end),
                "methods": sorted(window.methods), "reason": window.reason,
            })
            for window in settings.maintenance
        ],
        "costs": {
            account: {"basis_points": price.basis_points, "fixed": dict(price.fixed)}
            for account, price in settings.costs.items()
        },
        "experiments": [_experiment_dict(experiment) for experiment in settings.experiments],
        "retry": retrying.to_dict(settings.retry),
    }  # fmt: skip


def to_stored(settings: RoutingSettings) -> dict[str, Any]:
    """What has been said: who never chose gets better defaults when they come. ``from_stored`` takes it back."""
    said = to_dict(settings) | {"retry": retrying.to_stored(settings.retry)}
    return {name: value for name, value in said.items() if value}


def from_stored(stored: Mapping[str, Any], unread: Callable[[str], object] = lambda _: None) -> RoutingSettings:
    """The settings that are stored, each entry by itself.

    What this release cannot read, because a newer one has stored it, is left out, and ``unread`` is told where it
    is: payments go by the other rules, which is better than not at all. It is never a reason to fail.
    """
    found: dict[str, Any] = {}
    for name, value in stored.items():
        if name not in _FIELDS:
            unread(name)
            continue
        # Entries of a list are read one at a time, so that one that cannot be read takes no other with it.
        parts = [[entry] for entry in value] if isinstance(value, list) else [value]
        read: list[Any] = []
        for place, part in enumerate(parts):
            try:
                read.append(_FIELDS[name](part, name))
            except InvalidRequest:
                unread(f"{name}.{place}")
        if isinstance(value, list):
            found[name] = tuple(entry for part in read for entry in part)
        elif read:
            found[name] = read[0]
    return RoutingSettings(**found)


# -- across fields ---------------------------------------------------------------------------------


def _place(rule: Rule, number: int) -> str:
    return str(rule.accounts[number]) if rule.by == "split" else str(number)


def _check_known(entries: Sequence[str], known: frozenset[str], paths: Sequence[str]) -> None:
    for entry, path in zip(entries, paths, strict=True):
        if entry in known:
            continue
        if entry.startswith("acc"):
            readers.refuse(path, "You have no such account.", "unknown_account")
        readers.refuse(path, "You have no account at such a provider.", "unknown_provider")


def _check_once(rule: Rule, accounts: Mapping[str, str], paths: Sequence[str]) -> None:
    """Every entry adds an account. In a split it adds no other ones: who has two weights has nobody knows which."""
    named: set[str] = set()
    for entry, path in zip(rule.accounts, paths, strict=True):
        meant = {account for account, provider in accounts.items() if entry in (account, provider)}
        if meant <= named or (rule.by == "split" and meant & named):
            readers.refuse(path, "Entries before it name the same account.")
        named |= meant


def _check_costs(settings: RoutingSettings, rule: Rule, accounts: Mapping[str, str], path: str) -> None:
    """By value needs to know what every account costs, in every currency that the rule names."""
    if rule.by != "value":
        return
    meant = {a: at for a, at in accounts.items() if not rule.accounts or {a, at} & set(rule.accounts)}
    for account, provider in meant.items():
        for currency in rule.when.currencies or {""}:
            price = settings.costs.get(account) or settings.costs.get(provider)
            if price is None or (currency and price.cost(currency) is None):
                detail = "By value needs the costs of all its accounts in its currencies; see costs."
                readers.refuse(path, detail, "missing_costs")


def _check_names(field: str, names: Sequence[str]) -> None:
    first: dict[str, int] = {}
    for place, name in enumerate(names):
        if first.setdefault(name, place) != place:
            readers.refuse(f"{field}.{place}.name", f"Entry {first[name]} has this name.")


# -- one value: each reader takes it and its path --------------------------------------------------


def _text(pattern: re.Pattern[str], what: str) -> Reader:
    def read(value: object, path: str) -> str:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            readers.refuse(path, what)
        return readers.without_card(value, path)

    return read


def _free(value: object, path: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_TEXT or not value.isprintable():
        readers.refuse(path, f"A text of 1 to {_MAX_TEXT} characters is expected.")
    return readers.without_card(value, path)


def _set(read: Reader) -> Reader:
    entries = readers.entries(read, MAX_LISTED)
    return lambda value, path: frozenset(entries(value, path))


def _some(read: Reader) -> Reader:
    """A condition's list: of nothing it would leave every payment through, or none; nobody means to say that."""

    def entries(value: object, path: str) -> Any:  # noqa: ANN401 - what ``read`` gives
        if value == []:
            readers.refuse(path, "An empty list says nothing: leave it out, and every payment is meant.")
        return read(value, path)

    return entries


def _bin(value: object, path: str) -> tuple[int, int]:
    found = _BIN.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        readers.refuse(path, "A BIN has six digits, not beginning with 0; a range is written 450000-459999.", "bad_bin")
    first, last = int(found[1]), int(found[2] or found[1])
    if last < first:
        readers.refuse(path, "The range ends before it begins.", "bad_bin")
    return first, last


def _bins(value: object, path: str) -> tuple[tuple[int, int], ...]:
    ranges = readers.array(_bin, MAX_BINS)(value, path)
    places = {found: place for place, found in enumerate(ranges)}
    for before, after in zip(sorted(ranges), sorted(ranges)[1:], strict=False):
        if after[0] <= before[1]:
            readers.refuse(
                f"{path}.{places[after]}", f"It overlaps with range {places[before]} of the rule.", "bad_bin"
            )
    merged: list[tuple[int, int]] = []
    for first, last in sorted(ranges):  # neighbours are one range: what lies within both together lies within it
        if merged and merged[-1][1] == first - 1:
            merged[-1] = (merged[-1][0], last)
        else:
            merged.append((first, last))
    return tuple(merged)


def _clock(value: object, path: str) -> int:
    found = _CLOCK.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        readers.refuse(path, "A time of day such as 09:30 is expected.", "bad_time")
    return int(found[1]) * 60 + int(found[2])


def _moment(value: object, path: str) -> datetime:
    try:
        moment = datetime.fromisoformat(value if isinstance(value, str) else "")
    except ValueError:
        readers.refuse(path, "A time such as 2026-12-24T18:00:00Z is expected.", "bad_time")
    if moment.tzinfo is None:
        readers.refuse(path, "The time needs its zone: Z, or +05:30.", "bad_time")
    if not _FIRST_YEAR <= moment.year < _LAST_YEAR:
        readers.refuse(path, f"Not a time between the years {_FIRST_YEAR} and {_LAST_YEAR}.", "bad_time")
    moment = moment.astimezone(UTC)
    # As it is kept and shown: what is compared must be what will be read again.
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def _hours(value: object, path: str) -> Hours:
    given = readers.fields(value, path, _HOURS, ("from", "until", "time_zone"))
    days = frozenset(DAYS.index(day) for day in given.get("days", ()))
    return Hours(given["from"], given["until"], given["time_zone"], days)


def _when(value: object, path: str) -> When:
    when = When(**readers.fields(value, path, _WHEN))
    for name in ("above", "up_to"):
        if getattr(when, name) is not None and not when.currencies:
            readers.refuse(f"{path}.currencies", "An amount needs its currency.", "missing_field")
    if when.above is not None and when.up_to is not None and when.above >= when.up_to:
        readers.refuse(f"{path}.up_to", "No amount is above the one and up to the other.")
    if when.networks and len(when.methods) != 1:
        readers.refuse(f"{path}.methods", "Networks are of one method: say which.", "missing_field")
    if when.methods == {"card"}:
        for place, name in enumerate(readers.object_of(value, path).get("networks", ())):
            readers.one_of(get_args(cards.Network))(name, f"{path}.networks.{place}")
    if when.bins and when.methods != {"card"}:
        readers.refuse(f"{path}.methods", 'BINs are of cards: the methods must be ["card"].', "bad_bin")
    for first, last in when.bins if when.networks else ():
        if not cards.networks_within(first, last) & when.networks:
            readers.refuse(f"{path}.bins", "One of its ranges has no cards of the rule's networks.", "bad_bin")
    return when


def _rule(value: object, path: str) -> Rule:
    given = readers.fields(value, path, _RULE, ("name",))
    by = given.get("by", "split" if "weights" in given else "priority")
    weights: Mapping[str, int] = given.pop("weights", {})
    if (by == "split") != bool(weights):
        readers.refuse(f"{path}.weights", "A split needs weights, and nothing else has them.", "bad_weights")
    if weights and given.get("accounts"):
        readers.refuse(f"{path}.accounts", "The accounts of a split are those with a weight.", "bad_weights")
    if weights and sum(weights.values()) != _WHOLE:
        detail = f"The weights add up to {sum(weights.values())}, not to {_WHOLE}."
        readers.refuse(f"{path}.weights", detail, "bad_weights")
    if weights:
        given |= {"accounts": tuple(weights), "weights": tuple(weights.values())}
    accounts = given.get("accounts", ())
    for place, entry in enumerate(accounts):
        if accounts.index(entry) != place:
            readers.refuse(f"{path}.accounts.{place}", f"The same as entry {accounts.index(entry)}.")
    return Rule(**(given | {"by": by}))


def _maintenance(value: object, path: str) -> Maintenance:
    given = readers.fields(value, path, _MAINTENANCE, ("account", "from", "until"))
    begin, end = given.pop("from"), given.pop("until")
    if not begin < end <= begin + _MAX_MAINTENANCE:
        detail = f"A maintenance ends after it begins, and within {_MAX_MAINTENANCE.days} days."
        readers.refuse(f"{path}.until", detail, "bad_time")
    return Maintenance(begin=begin, end=end, **given)


def _experiment(value: object, path: str) -> Experiment:
    given = readers.fields(value, path, _EXPERIMENT, ("name", "share", "start", "stop"))
    start, stop = given["start"], given["stop"]
    if not start < stop <= start + _MAX_EXPERIMENT:
        detail = f"An experiment stops after it starts, and within {_MAX_EXPERIMENT.days} days."
        readers.refuse(f"{path}.stop", detail, "bad_time")
    return Experiment(**given)


def _guardrail(value: object, path: str) -> Guardrail:
    return Guardrail(**readers.fields(value, path, _GUARDRAIL))


def _experiment_dict(experiment: Experiment) -> dict[str, Any]:
    ended = {
        "ended_at": experiment.ended_at and _moment_text(experiment.ended_at),
        "ended_because": experiment.ended_because,
    }
    return {
        "name": experiment.name, "share": experiment.share, "start": _moment_text(experiment.start),
        "stop": _moment_text(experiment.stop), "when": _when_dict(experiment.when), "by": experiment.by,
        "accounts": list(experiment.accounts), "settle": experiment.settle,
        "guardrail": {"margin": experiment.guardrail.margin, "payments": experiment.guardrail.payments},
    } | _without_empty(ended)  # fmt: skip


def _price(value: object, path: str) -> Price:
    return Price(**readers.fields(value, path, _PRICE, ("basis_points",)))


def _fixed(value: object, path: str) -> int:
    return 0 if value == 0 and type(value) is int else readers.amount(value, path)


def _rule_dict(rule: Rule) -> dict[str, Any]:
    shown: dict[str, Any] = {"name": rule.name, "when": _when_dict(rule.when), "by": rule.by}
    if rule.by == "split":
        return shown | {"weights": dict(zip(rule.accounts, rule.weights, strict=True))}
    return shown | {"accounts": list(rule.accounts)}


def _when_dict(when: When) -> dict[str, Any]:
    hours = when.hours and _without_empty({
        "from": _clock_text(when.hours.start), "until": _clock_text(when.hours.end),
        "time_zone": when.hours.time_zone, "days": [DAYS[day] for day in sorted(when.hours.days)],
    })  # fmt: skip
    return _without_empty({
        "methods": sorted(when.methods), "networks": sorted(when.networks), "currencies": sorted(when.currencies),
        "above": when.above, "up_to": when.up_to,
        "bins": [f"{first}" if first == last else f"{first}-{last}" for first, last in when.bins],
        "countries": sorted(when.countries), "segments": sorted(when.segments), "metadata": dict(when.metadata),
        "hours": hours,
    })  # fmt: skip


def _moment_text(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _clock_text(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"


def _without_empty(shown: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in shown.items() if value not in (None, [], {})}


_target = _text(_TARGET, "An account's id or a provider's name is expected.")
_methods = _set(readers.one_of(_METHODS))
_HOURS: Mapping[str, Reader] = {
    "from": _clock, "until": _clock, "time_zone": readers.time_zone,
    "days": _some(readers.entries(readers.one_of(DAYS), len(DAYS))),
}  # fmt: skip
_WHEN: Mapping[str, Reader] = {
    "methods": _some(_methods),
    "networks": _some(_set(_text(_CODE, "A card's network, or the code of a bank or wallet, is expected."))),
    "currencies": _some(_set(readers.currency)),
    "above": readers.amount,
    "up_to": readers.amount,
    "bins": _some(_bins),
    "countries": _some(_set(readers.country)),
    "segments": _some(_set(_text(_LABEL, "A segment is 1 to 32 of a-z, 0-9, _ and -."))),
    "metadata": readers.table(_free, _free, MAX_LISTED),
    "hours": _hours,
}
_RULE: Mapping[str, Reader] = {
    "name": _text(_NAME, "A name is 1 to 60 letters, digits, spaces and some of _.,&+/-."),
    "when": _when,
    "by": readers.one_of(get_args(By)),
    "accounts": readers.array(_target, MAX_LISTED),
    "weights": readers.table(_target, readers.whole(0, _WHOLE), MAX_LISTED),
}
_MAINTENANCE: Mapping[str, Reader] = {
    "account": _target, "from": _moment, "until": _moment, "methods": _methods, "reason": _free,
}  # fmt: skip
_GUARDRAIL: Mapping[str, Reader] = {
    "margin": readers.whole(1, _MAX_MARGIN), "payments": readers.whole(_MIN_PAYMENTS, _MAX_PAYMENTS),
}  # fmt: skip
_EXPERIMENT: Mapping[str, Reader] = {
    "name": _text(_EXPERIMENT_NAME, "A name is 1 to 40 of a-z, 0-9, _ and -, beginning with a letter."),
    "share": readers.whole(MIN_SHARE, MAX_SHARE),
    "start": _moment,
    "stop": _moment,
    "when": _when,
    "by": readers.one_of(("priority", "score", "value")),
    "accounts": readers.array(_target, MAX_LISTED),
    "settle": readers.whole(0, _MAX_SETTLE),
    "guardrail": _guardrail,
    "ended_at": _moment,
    "ended_because": _free,
}
_PRICE: Mapping[str, Reader] = {
    "basis_points": readers.whole(0, _MAX_BASIS_POINTS),
    "fixed": readers.table(readers.currency, _fixed, len(EXPONENTS)),
}
_FIELDS: Mapping[str, Reader] = {
    "rules": readers.array(_rule, MAX_RULES),
    "maintenance": readers.array(_maintenance, MAX_MAINTENANCE),
    "costs": readers.table(_target, _price, MAX_COSTS),
    "experiments": readers.array(_experiment, MAX_EXPERIMENTS),
    "retry": retrying.parse,
}
