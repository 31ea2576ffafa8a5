"""What would have come of payments elsewhere: the estimate, and how sure it is.

A payment that goes where it went keeps its real outcome. One that goes elsewhere has none there, so its chance is
estimated from what the account did with payments of the same segments (the direct method of M. Dudík, J. Langford and
L. Li, "Doubly robust policy evaluation and learning", ICML 2011). It holds if, within a segment, the payments that
an account got were no better or worse than those it did not get. A doubly robust estimate would need the chance with
which each account was chosen, which a history does not have; and both rule sets draw by the payment's id, so that
given the new choice the old one's chance is not that of its weights.

Intervals are percentile intervals of the bootstrap (B. Efron, "Bootstrap methods: another look at the jackknife",
Annals of Statistics 7, 1979). Payments are drawn again with what became of them, and each time every chance is
estimated anew: the estimates' own doubt is most of it where few payments tell of many. What is not drawn again is
where the payments go: the figures are about these decisions.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from dataclasses import dataclass
from math import ceil, floor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

T = TypeVar("T")

LEAST = 30  # outcomes of an account with a method, below which nothing is said about others there
PARENT = 10.0  # outcomes that the segment above weighs: what is thin leans on it, what is not hardly
TAIL = 0.025  # on each side of an interval

NOBODY = "nobody"
_FAILURE, _SUCCESS = 0, 1  # places of the chances that are known


@dataclass(frozen=True, slots=True)
class Case:
    """A payment under two rule sets; amounts and costs in minor units, an account that is None means nobody took it."""

    path: Sequence[str]  # its segments from the method on
    account: str  # where it really went
    succeeded: bool
    old: str | None
    new: str | None
    currency: str
    amount: int
    old_cost: int | None = None  # of a success; None where it is not known
    new_cost: int | None = None

    @property
    def method(self) -> str:
        """Upi, card, netbanking or wallet."""
        return self.path[0]


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Row:
    """A figure under the old rules, under the new ones, and the difference, paired by payment."""

    kind: str  # success | cost | basis_points | share
    of: str  # a method, a currency, or a method and an account; "" is everything
    old: Interval
    new: Interval
    shift: Interval


@dataclass(frozen=True, slots=True)
class Known:
    """How much is known of where payments go under one rule set; in payments."""

    factual: int  # they go where they went: what came of them is known
    nobody: int  # nobody can take them: they fail
    estimated: int
    leaning: int  # of the estimated, those whose own segment has too few outcomes there: the one above speaks
    refused: Mapping[tuple[str, str], int]  # by method and account, with too few outcomes to say anything


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two rule sets compared; payments that nothing can be said about are in the shares only."""

    payments: int
    compared: int
    rows: Sequence[Row]
    old: Known
    new: Known
    outcomes: Mapping[tuple[str, str], int]  # observed, by method and account
    flattery: float = 0.0  # of the success rate's difference in all; 0 where no rule learns

    @property
    def honest(self) -> Interval:
        """The difference of the success rate in all, without what is flattery."""
        shift = self.row("success").shift
        return Interval(*(end - self.flattery for end in (shift.value, shift.low, shift.high)))

    def row(self, kind: str, of: str = "") -> Row:
        """One figure; raises KeyError where there is none."""
        for row in self.rows:
            if (row.kind, row.of) == (kind, of):
                return row
        raise KeyError(kind, of)

    @property
    def refused(self) -> float:
        """The share of the payments that nothing can be said about."""
        return 1 - self.compared / self.payments if self.payments else 0.0


Leaf = tuple[str, tuple[str, ...]]  # an account and a payment's segments there
Figures = dict[tuple[str, str], tuple[float, float]]  # by kind and of what: old and new


def chances(observed: Mapping[tuple[Leaf, bool], int], wanted: Iterable[Leaf]) -> list[float]:
    """The chance of a payment at an account, for each one ``wanted``, from how often which outcome was ``observed``.

    From the method's own rate, each finer segment weighs its outcomes against ``PARENT`` of what is above it.
    """
    totals: defaultdict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    for ((account, path), success), count in observed.items():
        for segment in path:
            total = totals[account, segment]
            total[0] += count
            total[1] += count * success
    found = []
    for account, path in wanted:
        count, successes = totals[account, path[0]]
        rate = successes / count if count else 0.5  # so unlucky a draw is one in billions, given LEAST
        for segment in path[1:]:
            count, successes = totals[account, segment]
            rate = (successes + PARENT * rate) / (count + PARENT)
        found.append(rate)
    return found


def _numbered(values: Iterable[T]) -> tuple[list[int], list[T]]:
    """Each value's number, and the values by number: numbers are counted faster than what they stand for."""
    numbers: dict[T, int] = {}
    return [numbers.setdefault(value, len(numbers)) for value in values], list(numbers)


class Comparing:
    """Cases laid out so that a draw of them costs little."""

    def __init__(self, cases: Sequence[Case], least: int = LEAST) -> None:
        """``least`` outcomes of an account with a method allow to speak of others there."""
        self.cases, self._least = cases, least
        self.outcomes = Counter((case.method, case.account) for case in cases)
        self._at_leaf = Counter((case.account, tuple(case.path)) for case in cases)
        self._places: dict[Leaf, int] = {}
        self._keys = [(self._key(case, case.old), self._key(case, case.new)) for case in cases]
        self._observed, self._observations = _numbered(
            ((case.account, tuple(case.path)), case.succeeded) for case in cases
        )
        self._class_of, self._classes = _numbered(
            (case.method, case.old or NOBODY, case.new or NOBODY, *keys)
            for case, keys in zip(cases, self._keys, strict=True)
        )
        compared = [case for case, is_in in zip(cases, self.is_compared, strict=True) if is_in]
        unknown = {case.currency for case in compared if case.old_cost is None or case.new_cost is None}
        self._currencies = {case.currency for case in compared} - unknown
        self._priced = [
            (place, old, new, case.old_cost, case.new_cost, case.amount, case.currency)
            for place, (case, (old, new)) in enumerate(zip(cases, self._keys, strict=True))
            if not (old is None or new is None or case.old_cost is None or case.new_cost is None)
            and case.currency in self._currencies
        ]

    @property
    def is_compared(self) -> Sequence[bool]:
        """Of each case, whether it has an outcome or an estimate on both sides."""
        return [None not in keys for keys in self._keys]

    def known(self, accounts: Sequence[str | None]) -> Known:
        """How much is known where each case goes to one of ``accounts``."""
        moved = [(case, to) for case, to in zip(self.cases, accounts, strict=True) if to not in (None, case.account)]
        refused = Counter((c.method, str(to)) for c, to in moved if self.outcomes[c.method, str(to)] < self._least)
        told = [(c, str(to)) for c, to in moved if (c.method, str(to)) not in refused]
        thin = sum(self._at_leaf[to, tuple(case.path)] < self._least for case, to in told)
        nobody = sum(to is None for to in accounts)
        return Known(len(accounts) - len(moved) - nobody, nobody, len(told), thin, dict(refused))

    def figures(self, drawn: Sequence[int] | None = None) -> Figures:
        """Every figure over all cases, or over those ``drawn`` by number, with repeats."""
        observed = Counter(self._observed if drawn is None else map(self._observed.__getitem__, drawn))
        classes = Counter(self._class_of if drawn is None else map(self._class_of.__getitem__, drawn))
        seen = {self._observations[number]: count for number, count in observed.items()}
        values = [0.0, 1.0, *chances(seen, self._places)]
        sums: defaultdict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0, 0.0])
        counted: Counter[str] = Counter()
        volume: Counter[str] = Counter()
        for number, count in classes.items():
            method, old, new, old_key, new_key = self._classes[number]
            for name in ("", method):
                volume[name] += count
                sums["share", f"{name} {old}".lstrip()][0] += count
                sums["share", f"{name} {new}".lstrip()][1] += count
                if old_key is not None and new_key is not None:
                    counted[name] += count
                    sums["success", name][0] += count * values[old_key]
                    sums["success", name][1] += count * values[new_key]
        found: Figures = {}
        for (kind, of), (old_sum, new_sum) in sums.items():
            whole = counted[of] if kind == "success" else volume[of.rpartition(" ")[0]]
            found[kind, of] = old_sum / whole, new_sum / whole
        return found | self._costs(values, drawn)

    def _costs(self, values: Sequence[float], drawn: Sequence[int] | None) -> Figures:
        """By currency: minor units in all, and basis points of what is taken."""
        weights: Sequence[int] = [1] * len(self.cases)
        if drawn is not None:
            weights = [0] * len(self.cases)
            for place in drawn:
                weights[place] += 1
        sums = {currency: [0.0] * 4 for currency in self._currencies}
        for place, old_key, new_key, old_cost, new_cost, amount, currency in self._priced:
            weight = weights[place]
            if weight:
                total = sums[currency]
                old, new = weight * values[old_key], weight * values[new_key]
                total[0] += old * old_cost
                total[1] += new * new_cost
                total[2] += old * amount
                total[3] += new * amount
        found: Figures = {}
        for currency, (old_sum, new_sum, old_taken, new_taken) in sums.items():
            found["cost", currency] = old_sum, new_sum
            if old_taken and new_taken:
                found["basis_points", currency] = 1e4 * old_sum / old_taken, 1e4 * new_sum / new_taken
        return found

    def _key(self, case: Case, account: str | None) -> int | None:
        """Where the chance of a case at an account stands among the values; None if nothing can be said."""
        if account is None:
            return _FAILURE
        if account == case.account:
            return _SUCCESS if case.succeeded else _FAILURE
        if self.outcomes[case.method, account] < self._least:
            return None
        return self._places.setdefault((account, tuple(case.path)), len(self._places) + 2)


def compare(cases: Sequence[Case], resamples: int, seed: str, least: int = LEAST) -> Comparison:
    """Both rule sets' figures with intervals from so many ``resamples``; the same for the same seed."""
    laid = Comparing(cases, least)
    point = laid.figures() if cases else {}
    chance = random.Random(seed)  # noqa: S311 - repeatable by design
    numbers = range(len(cases))
    drawn = [laid.figures(chance.choices(numbers, k=len(cases))) for _ in range(resamples if cases else 0)]
    rows = []
    for (kind, of), (old, new) in sorted(point.items()):
        # What a draw does not have in it is a share of nothing; a rate or cost of nothing is none.
        pairs = [draw.get((kind, of), (0.0, 0.0)) for draw in drawn if kind == "share" or (kind, of) in draw]
        rows.append(
            Row(
                kind, of,
                percentiles(old, [pair[0] for pair in pairs]),
                percentiles(new, [pair[1] for pair in pairs]),
                percentiles(new - old, [pair[1] - pair[0] for pair in pairs]),
            )
        )  # fmt: skip
    old_way, new_way = laid.known([case.old for case in cases]), laid.known([case.new for case in cases])
    return Comparison(len(cases), sum(laid.is_compared), rows, old_way, new_way, laid.outcomes)


def flattery(cases: Sequence[Case], remade: Sequence[Case], least: int = LEAST) -> float:
    """By how much a success rate's difference is too good where rules chose by the outcomes that judge them.

    ``remade`` are the same payments with outcomes made up from the chances that ``cases`` give, and with what the rules
    decided on these: there the truth is known, and so is how far the estimate misses it (the optimism of B. Efron,
    "Estimating the error rate of a prediction rule", JASA 78, 1983). Taken off is how far it misses it with the
    decisions of ``cases``, which is 0 on average. In points of 1.
    """
    moved = {(to, tuple(c.path)) for c in (*cases, *remade) for to in (c.old, c.new) if to is not None}
    observed = (
        Counter(((case.account, tuple(case.path)), case.succeeded) for case in some) for some in (cases, remade)
    )
    known, seen = (dict(zip(moved, chances(counts, moved), strict=True)) for counts in observed)

    def miss(of: Sequence[Case]) -> float:
        compared = [case for case, is_in in zip(of, Comparing(of, least).is_compared, strict=True) if is_in]
        total = 0.0
        for case in compared:
            for to, sign in ((case.new, 1), (case.old, -1)):
                if to is not None and to != case.account:
                    leaf = to, tuple(case.path)
                    total += sign * (seen[leaf] - known[leaf])
        return total / len(compared) if compared else 0.0

    return miss(remade) - miss(cases)


def percentiles(value: float, draws: Sequence[float]) -> Interval:
    """An estimate with the percentile interval of its resamples; without any, no width is claimed but all there is."""
    if not draws:
        return Interval(value, float("-inf"), float("inf"))
    ordered, last = sorted(draws), len(draws) - 1
    return Interval(value, ordered[floor(TAIL * last)], ordered[ceil((1 - TAIL) * last)])
