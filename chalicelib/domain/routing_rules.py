"""A merchant's routing rules: which payments each is about, and in what order accounts are offered to those.

The first rule that fits decides. Rules are checked when they are set, not when a payment waits for one: what
overlaps so that nobody could say which rule was meant is refused then (``clash``).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from math import log
from typing import TYPE_CHECKING, Literal
from zoneinfo import ZoneInfo

from chalicelib.domain.retrying import RetryPolicy
from chalicelib.domain.scoring import Cost

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from chalicelib.domain.experiments import Experiment

By = Literal["priority", "split", "score", "value"]
DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_DAY = 24 * 60  # minutes
_WEEK = 7 * _DAY


@dataclass(frozen=True, slots=True)
class Asked:
    """What a payment asks of routing; ``amount`` in minor units."""

    method: str
    currency: str
    amount: int
    capture: str = "automatic"
    metadata: Mapping[str, str] = field(default_factory=dict)
    given: frozenset[str] = frozenset()  # "return_url", "customer.email", …: the optional fields it has
    network: str | None = None  # of the card; or the bank, or the wallet
    bin: str | None = None  # the card's first six digits
    country: str | None = None  # the customer's, as the merchant gave it
    segment: str | None = None  # the customer's, as the merchant gave it
    at: datetime | None = None  # when the payment was created: its rule stays the same as long as it lives
    experiment: str | None = None  # the one it takes part in, by its key, and its arm: "name-1a2b3c4d/variant"
    id: str = ""  # the payment's: what chance there is in a decision is drawn from it


@dataclass(frozen=True, slots=True)
class Hours:
    """A time of day on some weekdays: minutes since midnight, the end exclusive and, if not later, of the next day."""

    start: int
    end: int
    time_zone: str
    days: frozenset[int] = frozenset()  # 0 is Monday; none means all. Of a span over midnight the day it begins on

    def include(self, at: datetime) -> bool:
        """Whether the clock on that zone's wall shows such a time."""
        local = at.astimezone(ZoneInfo(self.time_zone))
        minute = local.hour * 60 + local.minute
        if self.start < self.end:
            return self.start <= minute < self.end and self._on(local)
        return (minute >= self.start and self._on(local)) or (minute < self.end and self._on(local - timedelta(days=1)))

    def _on(self, local: datetime) -> bool:
        return not self.days or local.weekday() in self.days

    @property
    def is_always(self) -> bool:
        """Whether there is no other time."""
        return self.start == self.end and (not self.days or len(self.days) == len(DAYS))

    def week(self) -> int:
        """The minutes of the week as bits, Monday 00:00 the lowest."""
        length = (self.end - self.start - 1) % _DAY + 1
        bits = 0
        for day in self.days or range(7):
            bits |= ((1 << length) - 1) << (day * _DAY + self.start)
        return (bits | bits >> _WEEK) & ((1 << _WEEK) - 1)  # Sunday night ends on Monday


@dataclass(frozen=True, slots=True)
class When:
    """Which payments: those that meet every condition there is. What is empty or None leaves all through."""

    methods: frozenset[str] = frozenset()
    networks: frozenset[str] = frozenset()
    currencies: frozenset[str] = frozenset()
    above: int | None = None  # minor units, exclusive
    up_to: int | None = None  # minor units, inclusive
    bins: tuple[tuple[int, int], ...] = ()  # first and last six digits, in order, apart from each other
    countries: frozenset[str] = frozenset()
    segments: frozenset[str] = frozenset()
    metadata: Mapping[str, str] = field(default_factory=dict)  # the payment's must have all of these
    hours: Hours | None = None

    def misses(self, asked: Asked) -> str | None:
        """The first condition that such a payment does not meet; None if it meets all."""
        met = {
            "methods": not self.methods or asked.method in self.methods,
            "networks": not self.networks or asked.network in self.networks,
            "currencies": not self.currencies or asked.currency in self.currencies,
            "above": self.above is None or asked.amount > self.above,
            "up_to": self.up_to is None or asked.amount <= self.up_to,
            "bins": not self.bins or _within(asked.bin, self.bins),
            "countries": not self.countries or asked.country in self.countries,
            "segments": not self.segments or asked.segment in self.segments,
            "metadata": self.metadata.items() <= asked.metadata.items(),
            "hours": self.hours is None or (asked.at is not None and self.hours.include(asked.at)),
        }
        return next((name for name, is_met in met.items() if not is_met), None)

    def covers(self, other: When) -> bool:
        """Whether every payment that meets ``other`` meets this."""
        return (
            all(not ours or (theirs and theirs <= ours) for ours, theirs in self._sets(other))
            and (self.above is None or (other.above is not None and other.above >= self.above))
            and (self.up_to is None or (other.up_to is not None and other.up_to <= self.up_to))
            and (not self.bins or (bool(other.bins) and _inside(other.bins, self.bins)))
            and self.metadata.items() <= other.metadata.items()
            and _hours_cover(self.hours, other.hours)
        )

    def meets(self, other: When) -> bool:
        """Whether there can be a payment that fits both."""
        return (
            all(not ours or not theirs or ours & theirs for ours, theirs in self._sets(other))
            and (self.up_to is None or other.above is None or other.above < self.up_to)
            and (other.up_to is None or self.above is None or self.above < other.up_to)
            and (not self.bins or not other.bins or _touch(self.bins, other.bins))
            and all(other.metadata.get(name, value) == value for name, value in self.metadata.items())
            and (self.hours is None or other.hours is None or _hours_meet(self.hours, other.hours))
        )

    def differs_in_one_range(self, other: When) -> bool:
        """Whether all is the same but for amounts, or BINs, or hours of the same time zone."""
        if self.hours and other.hours and self.hours.time_zone != other.hours.time_zone:
            return False
        return other in (
            replace(self, above=other.above, up_to=other.up_to), replace(self, bins=other.bins),
            replace(self, hours=other.hours),
        )  # fmt: skip

    def _sets(self, other: When) -> Sequence[tuple[frozenset[str], frozenset[str]]]:
        return (
            (self.methods, other.methods), (self.networks, other.networks), (self.currencies, other.currencies),
            (self.countries, other.countries), (self.segments, other.segments),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Rule:
    """Payments that fit are offered to ``accounts``: an account's id, or a provider's name for all that are there.

    Without any, all accounts are meant. The order is theirs (priority), by chance in proportion to ``weights``
    (split), the most likely to succeed first (score), or the highest expected value first (value: success x
    (amount - cost), where the cost of every account is known).
    """

    name: str
    accounts: Sequence[str] = ()
    when: When = When()
    by: By = "priority"
    weights: Sequence[int] = ()  # percent, one for each account

    @property
    def is_scored(self) -> bool:
        """Whether statistics decide about its order."""
        return self.by in ("score", "value")


@dataclass(frozen=True, slots=True)
class Maintenance:
    """A time in which an account, or all accounts of a provider, are left alone."""

    account: str
    begin: datetime
    end: datetime  # exclusive
    methods: frozenset[str] = frozenset()  # none means all
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Price:
    """What an account takes for a successful payment."""

    basis_points: int = 0  # hundredths of a percent of the amount
    fixed: Mapping[str, int] = field(default_factory=dict)  # by currency, minor units

    def cost(self, currency: str) -> Cost | None:
        """For payments in a currency; None where the fixed part is not known in it."""
        if self.fixed and currency not in self.fixed:
            return None
        return Cost(self.basis_points, self.fixed.get(currency, 0))


@dataclass(frozen=True, slots=True)
class RoutingSettings:
    """Everything a merchant says about routing."""

    rules: Sequence[Rule] = ()
    maintenance: Sequence[Maintenance] = ()
    costs: Mapping[str, Price] = field(default_factory=dict)  # by account id, or provider
    experiments: Sequence[Experiment] = ()
    retry: RetryPolicy = field(default_factory=RetryPolicy)

    def rule_for(self, asked: Asked) -> Rule:
        """The first rule that fits; the defaults stand behind the merchant's own, and a variant goes before all."""
        variant = self._variant(asked.experiment)
        if variant is not None:
            return variant.rule()
        return next(rule for rule in (*self.rules, *DEFAULT_RULES) if rule.when.misses(asked) is None)

    def is_scored(self, asked: Asked) -> bool:
        """Whether statistics may decide: by its rule, or by the one that it goes by where a variant leaves nobody."""
        ways = (asked,) if asked.experiment is None else (asked, replace(asked, experiment=None))
        return any(self.rule_for(way).is_scored for way in ways)

    def _variant(self, experiment: str | None) -> Experiment | None:
        """The experiment whose variant a payment was given, unless that has been given up or changed since."""
        key, _, arm = (experiment or "").rpartition("/")
        found = next((one for one in self.experiments if one.key == key), None)
        return found if found is not None and arm == "variant" and found.ended_at is None else None

    def cost_of(self, account: str, provider: str, currency: str) -> Cost | None:
        """What a payment costs at an account; None if nobody has said."""
        price = self.costs.get(account) or self.costs.get(provider)
        return None if price is None else price.cost(currency)


# Above 10,000 rupees the premium route: who succeeds most often, whatever it costs. Else what pays most in the end.
DEFAULT_RULES = (
    Rule("default premium", when=When(currencies=frozenset({"INR"}), above=10_000_00), by="score"),
    Rule("default", by="value"),
)


def named(entries: Sequence[str], accounts: Mapping[str, str]) -> list[str]:
    """The account ids that ``entries`` stand for, each once; ``accounts`` are providers by account id."""
    found: dict[str, None] = {}
    for entry in entries:
        found |= dict.fromkeys([entry] if entry in accounts else (a for a, at in accounts.items() if at == entry))
    return list(found) if entries else list(accounts)


def split(rule: Rule, payment_id: str) -> dict[str, float | None]:
    """What each of the rule's entries drew for a payment: the least comes first, the same for the same payment.

    The first one is chosen with a chance in proportion to its weight, the second one among the rest likewise
    (Efraimidis and Spirakis, "Weighted random sampling with a reservoir", 2006), so leaving one out changes
    nothing in the order of the others. An entry of weight 0 draws nothing and comes last.
    """
    drawn: dict[str, float] = {}
    for entry, weight in zip(rule.accounts, rule.weights, strict=True):
        digest = hashlib.sha256(f"split|{rule.name}|{entry}|{payment_id}".encode()).digest()
        chance = (int.from_bytes(digest[:8], "big") + 1) / (2**64 + 1)  # above 0, below 1
        if weight:
            drawn[entry] = -log(chance) / weight
    first_to_last = sorted(drawn, key=drawn.__getitem__)
    return {entry: drawn[entry] for entry in first_to_last} | dict.fromkeys(e for e in rule.accounts if e not in drawn)


def clash(earlier: Rule, later: Rule) -> str | None:
    """Why ``later`` cannot stand behind ``earlier``, for people; None if it can.

    Whoever is more specific may come first, and rules about different things may meet: the order says which one
    wins. Refused are a rule that never gets a payment, and ranges that cross while all else is the same.
    (The anomalies "shadowing" and, of those called "correlation", the ones that can only be slips: Al-Shaer and
    Hamed, "Modeling and management of firewall policies", 2004.)
    """
    if earlier.when.covers(later.when):
        return f"It would never get a payment: rule '{earlier.name}' before it takes them all."
    crosses = earlier.when.meets(later.when) and not later.when.covers(earlier.when)
    if crosses and earlier.when.differs_in_one_range(later.when):
        return f"It overlaps with rule '{earlier.name}' before it, and neither lies within the other."
    return None


def _within(digits: str | None, ranges: Sequence[tuple[int, int]]) -> bool:
    return digits is not None and any(first <= int(digits) <= last for first, last in ranges)


def _inside(inner: Sequence[tuple[int, int]], outer: Sequence[tuple[int, int]]) -> bool:
    """Whether each inner range lies within an outer one; both in order and apart, so one look at each is enough."""
    around = iter(outer)
    first, last = next(around)
    for begin, end in inner:
        while last < begin:
            found = next(around, None)
            if found is None:
                return False
            first, last = found
        if begin < first or last < end:
            return False
    return True


def _touch(ours: Sequence[tuple[int, int]], theirs: Sequence[tuple[int, int]]) -> bool:
    """Whether a range of the one meets one of the other."""
    one, other = 0, 0
    while one < len(ours) and other < len(theirs):
        if ours[one][1] < theirs[other][0]:
            one += 1
        elif theirs[other][1] < ours[one][0]:
            other += 1
        else:
            return True
    return False


def _hours_cover(ours: Hours | None, theirs: Hours | None) -> bool:
    if ours is None or ours.is_always or theirs is None:
        return ours is None or ours.is_always
    return ours == theirs or (ours.time_zone == theirs.time_zone and not theirs.week() & ~ours.week())


def _hours_meet(ours: Hours, theirs: Hours) -> bool:
    """Of two zones nobody can say: summer time moves them against each other."""
    return ours.time_zone != theirs.time_zone or bool(ours.week() & theirs.week())
