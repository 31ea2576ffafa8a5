"""A/B experiments of routing: a share of payments goes another way for a while, and the difference is counted.

Which arm a payment falls into is a hash of its id, decided as it is created and kept with it. What comes of an
experiment is the difference of success rates with its interval, over payments that are old enough to have ended.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields, is_dataclass
from datetime import timedelta
from math import exp, sqrt
from typing import TYPE_CHECKING, Literal

from chalicelib.domain.routing_rules import Rule, When
from chalicelib.domain.scoring import wilson

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from chalicelib.domain.routing_rules import Asked, By

Arm = Literal["control", "variant"]
MIN_SHARE, MAX_SHARE = 5, 30  # percent
# How sure the guardrail must be: it ends at most so many of a hundred variants that are within their margin.
_ALPHA = 0.05
# The spread of differences that the test is most sensitive to: ten points. Another one is found too, a little later.
_SPREAD = 0.1

_ALL = When()


@dataclass(frozen=True, slots=True)
class Guardrail:
    """When a variant is given up: once it is worse by more than ``margin`` points of success rate."""

    margin: int = 3  # points
    payments: int = 100  # of each arm, before anything is said


@dataclass(frozen=True, slots=True)
class Experiment:
    """From ``start`` to ``stop`` a ``share`` (percent) of payments goes by ``variant`` and not by the rules."""

    name: str
    share: int
    start: datetime
    stop: datetime
    accounts: Sequence[str] = ()  # of the variant, as of a rule
    by: By = "priority"
    when: When = _ALL
    guardrail: Guardrail = Guardrail()
    settle: int = 3_600  # seconds after which a payment counts: by then nearly all have ended
    ended_at: datetime | None = None  # by the guardrail
    ended_because: str | None = None

    @property
    def key(self) -> str:
        """The name, and a mark of all that decides who takes part and what is tried.

        Counts go by it: what was counted while a tenth took part must not be added to what is counted while a third
        does, or a bad day in between makes two equal arms look different (E. H. Simpson, 1951).
        """
        tried = [self.share, self.start.isoformat(), list(self.accounts), self.by, _canonical(self.when)]
        return f"{self.name}-{hashlib.sha256(json.dumps(tried).encode()).hexdigest()[:8]}"

    def is_running(self, at: datetime) -> bool:
        """Whether payments that are created at ``at`` take part."""
        return self.ended_at is None and self.start <= at < self.stop

    def rule(self) -> Rule:
        """What the variant goes by."""
        return Rule(f"experiment {self.name}", self.accounts, by=self.by)

    def counted_until(self, at: datetime) -> datetime:
        """Payments created before this, a whole hour, count at ``at``: counts are kept by the hour."""
        return (at - timedelta(seconds=self.settle)).replace(minute=0, second=0, microsecond=0)


@dataclass(frozen=True, slots=True)
class Counts:
    """What came of the payments of one arm."""

    payments: int = 0
    successes: int = 0

    @property
    def rate(self) -> float:
        """The success rate; 0 without payments."""
        return self.successes / self.payments if self.payments else 0.0


@dataclass(frozen=True, slots=True)
class Result:
    """The variant's success rate minus the control's, with its 95 % interval; in points of 1."""

    difference: float
    low: float
    high: float
    sentence: str


def arm(experiment: Experiment, payment_id: str) -> Arm:
    """The arm that a payment falls into: the same each time, and independent between experiments."""
    digest = hashlib.sha256(f"experiment|{experiment.name}|{payment_id}".encode()).digest()
    return "variant" if int.from_bytes(digest[:8], "big") * 100 < experiment.share * 2**64 else "control"


def assigned(experiments: Sequence[Experiment], asked: Asked, at: datetime) -> str | None:
    """The experiment that a payment takes part in, and its arm, as kept with it: "key/arm"; the first that fits."""
    for experiment in experiments:
        if experiment.is_running(at) and experiment.when.misses(asked) is None:
            return f"{experiment.key}/{arm(experiment, asked.id)}"
    return None


def result(control: Counts, variant: Counts) -> Result:
    """What is known so far.

    The interval is Newcombe's hybrid score interval, method 10 of R. G. Newcombe, "Interval estimation for the
    difference between independent proportions", Statistics in Medicine 17 (1998). It is meant for one look at the
    end; who looks all the time and stops at the first good one fools himself, which the guardrail does not.
    """
    (low_v, high_v), (low_c, high_c) = (wilson(arm.successes, arm.payments) for arm in (variant, control))
    difference = variant.rate - control.rate
    if not control.payments or not variant.payments:
        return Result(0.0, -1.0, 1.0, "Nothing is known yet: an arm has no payments that are old enough.")
    low = max(-1.0, difference - sqrt((variant.rate - low_v) ** 2 + (high_c - control.rate) ** 2))
    high = min(1.0, difference + sqrt((high_v - variant.rate) ** 2 + (control.rate - low_c) ** 2))
    says = (
        f"{variant.rate:.1%} of {variant.payments} payments succeeded in the variant, "
        f"{control.rate:.1%} of {control.payments} otherwise"
    )
    interval = f"{100 * low:+.1f} to {100 * high:+.1f} points"
    if low > 0:
        return Result(difference, low, high, f"The variant does better: {says} ({interval}).")
    if high < 0:
        return Result(difference, low, high, f"The variant does worse: {says} ({interval}).")
    return Result(difference, low, high, f"No difference is certain: {says} ({interval}).")


def is_losing(guardrail: Guardrail, control: Counts, variant: Counts) -> str | None:
    """Why the variant has to end, for people; None if it may go on.

    A mixture sequential probability ratio test of "worse by no more than the margin", which holds its error however
    often it is looked at: R. Johari, P. Koomen, L. Pekelis, D. Walsh, "Peeking at A/B tests", KDD 2017. Variances
    are of rates moved a little to one half, so that 0 of 100 does not seem to be certain.
    """
    if min(control.payments, variant.payments) < guardrail.payments:
        return None
    spread = sum(_variance(counts) for counts in (control, variant))
    excess = variant.rate - control.rate + guardrail.margin / 100
    if excess >= 0:
        return None
    mixed = spread + _SPREAD**2
    ratio = sqrt(spread / mixed) * exp(min(_SPREAD**2 * excess**2 / (2 * spread * mixed), 700.0))
    if ratio < 1 / _ALPHA:
        return None
    return (
        f"{variant.rate:.1%} of {variant.payments} payments succeeded in the variant and {control.rate:.1%} of "
        f"{control.payments} otherwise: worse by more than {guardrail.margin} points."
    )


def total(counted: Mapping[str, int], experiment: Experiment, at: datetime) -> dict[Arm, Counts]:
    """Counts by arm, from rows "arm/hour/what" of the statistics, of hours that are over and settled at ``at``."""
    until = experiment.counted_until(at).strftime("%Y-%m-%dT%H")
    found: dict[str, int] = {}
    for key, value in counted.items():
        name, hour, what = key.split("/")
        if hour < until:
            found[f"{name}/{what}"] = found.get(f"{name}/{what}", 0) + value
    return {
        name: Counts(found.get(f"{name}/payments", 0), found.get(f"{name}/successes", 0))
        for name in ("control", "variant")
    }


def _canonical(value: object) -> object:
    """The same JSON for the same conditions, whatever order they were written in."""
    if is_dataclass(value):
        return [_canonical(getattr(value, entry.name)) for entry in fields(value)]
    if isinstance(value, frozenset | dict):
        return sorted(value.items() if isinstance(value, dict) else value)
    return list(value) if isinstance(value, tuple) else value


def _variance(counts: Counts) -> float:
    """Of the success rate."""
    rate = (counts.successes + 1) / (counts.payments + 2)
    return rate * (1 - rate) / counts.payments
