"""How often each provider account has succeeded lately, and which one to try first.

What is known of an account is a tally per segment, from general to specific: "" (everything), "card", "card/2"
(amounts of band 2), "card/2/visa". Old outcomes count for less and less. A belief about one payment's chance
begins with a prior and takes in one tally after the other; where a segment is thin its parent speaks. Accounts
are tried in the order of chances drawn from the beliefs (Thompson sampling), so that one of which little is
known gets its turn now and then. A draw depends on nothing but the belief and a seed, so that a decision can be
repeated and explained years later.

The numbers were chosen on seeds 1000 and up of infra/bench_routing.py, which reports on seeds 0 and up.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from dataclasses import dataclass
from datetime import UTC, datetime
from math import sqrt
from typing import TYPE_CHECKING

from chalicelib.domain.errors import ErrorClass
from chalicelib.domain.money import EXPONENTS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Outcomes that a tally weighs at most. An account in steady use forgets by this alone: each outcome makes those
# before it 1/150 lighter. With 100 noise moves the traffic, with 300 a change is noticed too late.
CAP = 150.0
# Time wears evidence down at the pace at which it came in: half is gone when this many outcomes should have come
# but did not. A half-life in hours cannot suit everybody: 30 minutes make a merchant with 4 payments an hour
# choose blindly, a week keeps one with 10 a second from ever coming back to an account that had a bad hour.
PATIENCE = 500.0
MIN_HALF_LIFE, MAX_HALF_LIFE = 1_800.0, 30 * 86_400.0  # seconds
_PACE_SHARE = 0.05  # of the newest interval in the usual one

PRIOR = (9.0, 1.0)  # successes and failures of an account nobody knows: most payments succeed
STRENGTH = 30.0  # outcomes that what the parent segment knows is worth
# Draws are made as if there were this many times the evidence. Exploring as much as one draw per belief would
# cost more than it finds where four accounts differ by a few points and all change slowly.
SHARPNESS = 3.0
RENEWED = 20.0  # outcomes that what was known before a breakdown weighs at most
MAX_SEGMENTS = 64  # of one account; the ones longest without an outcome go

# Upper ends of the amount bands (inclusive, minor units) by the currency's exponent: 500, 2,000 and 10,000 rupees
# (above them the premium route is the default), and about as much in yen and dinars.
BANDS: Mapping[int, Sequence[int]] = {
    0: (1_000, 4_000, 20_000),
    2: (500_00, 2_000_00, 10_000_00),
    3: (2_000, 8_000, 40_000),
}

# These say nothing about an account's chances: the request or our settings were wrong.
_NO_OUTCOME = frozenset({ErrorClass.CONFIG, ErrorClass.INVALID_REQUEST, ErrorClass.CONFLICT})


@dataclass(frozen=True, slots=True)
class Tally:
    """Outcomes of one account in one segment, as they weigh at the time of the newest."""

    successes: float
    failures: float
    at: datetime
    pace: float | None = None  # usual seconds from one outcome to the next; None before the second

    @property
    def samples(self) -> float:
        """Outcomes, by their weight."""
        return self.successes + self.failures

    @property
    def half_life(self) -> float:
        """Seconds without an outcome in which what is known loses half its weight."""
        if self.pace is None:
            return MAX_HALF_LIFE
        return min(max(self.pace * PATIENCE, MIN_HALF_LIFE), MAX_HALF_LIFE)

    def as_row(self) -> list[float | None]:
        """As stored: weights, epoch seconds, pace."""
        pace = None if self.pace is None else round(self.pace, 3)
        return [round(self.successes, 3), round(self.failures, 3), round(self.at.timestamp(), 3), pace]

    @classmethod
    def from_row(cls, row: Sequence[float | None]) -> Tally:
        """From what is stored."""
        successes, failures, at, pace = row
        return cls(successes or 0.0, failures or 0.0, datetime.fromtimestamp(at or 0.0, UTC), pace)


@dataclass(frozen=True, slots=True)
class Belief:
    """A Beta distribution over an account's chance, and the tally that says most about it."""

    alpha: float
    beta: float
    segment: str = ""  # the most specific one with enough outcomes of its own
    samples: float = 0.0  # outcomes there, by their weight

    @property
    def mean(self) -> float:
        """The expected success rate."""
        return self.alpha / (self.alpha + self.beta)


@dataclass(frozen=True, slots=True)
class Cost:
    """What a provider takes for a successful payment."""

    basis_points: int = 0  # hundredths of a percent of the amount
    fixed: int = 0  # minor units

    def of(self, amount: int) -> int:
        """Minor units for a payment of ``amount`` minor units, half a unit rounded up."""
        return self.fixed + (amount * self.basis_points + 5_000) // 10_000


@dataclass(frozen=True, slots=True)
class Score:
    """Why an account stands where it does; ``cost`` in minor units, None where cost plays no part."""

    account: str
    mean: float  # expected success rate
    segment: str
    samples: float
    draw: float  # the rate drawn for this decision
    cost: int | None
    value: float  # what accounts are ordered by: the draw, or draw x (amount - cost) in minor units

    def as_dict(self) -> dict[str, object]:
        """As stored with the decision."""
        shown: dict[str, object] = {
            "account": self.account,
            "mean": round(self.mean, 4),
            "segment": self.segment,
            "samples": round(self.samples, 1),
            "draw": round(self.draw, 4),
            "value": round(self.value, 4),
        }
        return shown if self.cost is None else shown | {"cost": self.cost}


def outcome_of(error_class: ErrorClass | None) -> bool | None:
    """Whether an attempt that ended like this (None: succeeded) counts as a success; None: not at all.

    Declines of issuer, customer and risk count: how many there are depends on the provider's bank, its payment
    page and its rules. A time-out is a failure now and, should it turn out charged, a success then: half of each.
    """
    return None if error_class in _NO_OUTCOME else error_class is None


def segments(
    method: str,
    amount: int,
    currency: str,
    network: str | None = None,
    bands: Mapping[int, Sequence[int]] = BANDS,
) -> tuple[str, ...]:
    """The segments of a payment of ``amount`` minor units, from general to specific.

    ``network`` is whatever else decides about success: the card's network, the bank, the wallet.
    """
    band = bisect_left(bands[EXPONENTS[currency]], amount)
    path = ("", method, f"{method}/{band}")
    return (*path, f"{method}/{band}/{network}") if network else path


def aged(tally: Tally, at: datetime) -> Tally:
    """The tally as it weighs at ``at``; unchanged at a time before its newest outcome."""
    elapsed = (at - tally.at).total_seconds()
    return tally if elapsed <= 0 else _scaled(tally, 0.5 ** (elapsed / tally.half_life))


def observe(tally: Tally | None, *, success: bool, at: datetime) -> Tally:
    """The tally with one more outcome; one that comes late weighs what it would by now, had it come in time."""
    if tally is None:
        return Tally(float(success), float(not success), at)
    elapsed = (at - tally.at).total_seconds()
    weight = 1.0 if elapsed >= 0 else 0.5 ** (-elapsed / tally.half_life)
    gap = max(elapsed, 0.0)  # a late one came after no wait at all, else the pace would lag
    old = aged(tally, at)
    successes, failures = old.successes + weight * success, old.failures + weight * (not success)
    pace = gap if tally.pace is None else tally.pace + (gap - tally.pace) * _PACE_SHARE
    return _lightened(Tally(successes, failures, max(at, tally.at), pace), CAP)


def learn(tallies: Mapping[str, Tally], path: Sequence[str], *, success: bool, at: datetime) -> dict[str, Tally]:
    """An account's tallies with one more outcome in every segment of ``path``."""
    after = {**tallies, **{segment: observe(tallies.get(segment), success=success, at=at) for segment in path}}
    if len(after) > MAX_SEGMENTS:
        oldest = sorted(after, key=lambda segment: (segment in path, after[segment].at))
        for segment in oldest[: len(after) - MAX_SEGMENTS]:
            del after[segment]
    return after


def renew(tallies: Mapping[str, Tally], path: Sequence[str], since: datetime) -> Mapping[str, Tally]:
    """An account's tallies after a breakdown that ended at ``since`` (its breaker's): before a rank, and to learn.

    What is older keeps its rate but soon gives way to new outcomes. Without this an account that failed a
    hundred payments in ten seconds would not get one again for hours. Segments off the ``path`` had no part in it.
    """
    old = {segment for segment in path if segment in tallies and tallies[segment].at < since}
    return {**tallies, **{segment: _lightened(tallies[segment], RENEWED) for segment in old}} if old else tallies


def belief(tallies: Mapping[str, Tally], path: Sequence[str], at: datetime) -> Belief:
    """What is believed of the chance of a payment with these segments; the prior if nothing is known.

    A segment's prior is what its parent knows from elsewhere, as if from ``STRENGTH`` outcomes at most: an
    outcome counts once, where it is most specific.
    """
    known = [aged(tallies[segment], at) if segment in tallies else None for segment in path]
    alpha, beta = PRIOR
    told, samples = "", 0.0
    for segment, own, child in zip(path, known, [*known[1:], None], strict=True):
        excess = max(1.0, (alpha + beta) / STRENGTH)
        alpha, beta = alpha / excess, beta / excess
        if own is None:
            continue
        alpha += max(0.0, own.successes - (child.successes if child else 0.0))
        beta += max(0.0, own.failures - (child.failures if child else 0.0))
        if segment == path[0] or own.samples >= STRENGTH:
            told, samples = segment, own.samples
    return Belief(alpha, beta, told, samples)


def draw(held: Belief, seed: str) -> float:
    """A success rate drawn from the sharpened belief, the same for the same seed."""
    chance = random.Random(seed)  # noqa: S311 - repeatable by design, no secret depends on it
    return chance.betavariate(held.alpha * SHARPNESS, held.beta * SHARPNESS)


def rank(
    accounts: Mapping[str, Mapping[str, Tally]],
    path: Sequence[str],
    at: datetime,
    seed: str,
    *,
    amount: int = 0,
    costs: Mapping[str, Cost] | None = None,
) -> tuple[Score, ...]:
    """The accounts with their scores, best first; equal ones stay in the order given.

    With ``costs``, by expected value for a payment of ``amount`` minor units: success x (amount - cost). Only
    if every account has a cost: one of unknown cost must not win for seeming to be free. Each account draws
    for itself, so that leaving one out changes nothing for the others.
    """
    priced = costs if costs is not None and costs.keys() >= accounts.keys() else None
    scores = []
    for account, tallies in accounts.items():
        held = belief(tallies, path, at)
        drawn = draw(held, f"{seed}/{account}")
        cost = None if priced is None else priced[account].of(amount)
        value = drawn if cost is None else drawn * (amount - cost)
        scores.append(Score(account, held.mean, held.segment, held.samples, drawn, cost, value))
    return tuple(sorted(scores, key=lambda score: -score.value))


def wilson(hits: float, trials: float, z: float = 1.96) -> tuple[float, float]:
    """Wilson's score interval for a rate, ``z`` standard errors wide each way; (0, 1) without trials.

    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927).
    """
    if trials <= 0:
        return 0.0, 1.0
    rate, z2 = hits / trials, z * z
    centre = rate + z2 / (2 * trials)
    spread = z * sqrt(rate * (1 - rate) / trials + z2 / (4 * trials * trials))
    scale = 1 + z2 / trials
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def _lightened(tally: Tally, most: float) -> Tally:
    return tally if tally.samples <= most else _scaled(tally, most / tally.samples)


def _scaled(tally: Tally, factor: float) -> Tally:
    return Tally(tally.successes * factor, tally.failures * factor, tally.at, tally.pace)
