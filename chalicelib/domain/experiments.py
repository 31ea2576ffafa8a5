"""A/B experiments on routing: a share of the payments is routed another way, and the success rates are compared.

A payment's side is a hash of its id: the same on every attempt, wherever it is asked. Somebody looks at a running
experiment all the time (the guardrail after every payment, people when they are curious), and a 95 % interval that
is looked at often enough leaves out the truth sooner or later. While it runs, and when it was ended early, the
interval is therefore one that holds at all looks at once, a confidence sequence; only an experiment that ran as long
as planned gets the narrower one for a single look. The price is about half again the width.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from math import log, sqrt
from typing import TYPE_CHECKING, Any, Literal

from chalicelib.domain.errors import InvalidRequest
from chalicelib.domain.scoring import wilson

if TYPE_CHECKING:
    from collections.abc import Mapping

MIN_SHARE, MAX_SHARE = 5, 30  # percent
MARGIN = 0.03  # success rate: three percentage points
MAX_MARGIN = 0.2
MIN_PAYMENTS = 100  # on each side; with fewer the intervals are not what they claim to be
ALPHA = 0.05
_DETECTS = 1.960 + 0.842  # standard errors: 5 % two-sided, found with a probability of 80 %
_BUCKETS = 10_000


class Side(StrEnum):
    """Which way a payment goes."""

    CONTROL = "control"
    VARIANT = "variant"


class Verdict(StrEnum):
    """What an experiment has shown so far."""

    TOO_FEW = "not_enough_data"
    BETTER = "better"
    WORSE = "worse"
    SAME = "no_difference"  # a difference as large as the margin would probably have been seen


@dataclass(frozen=True, slots=True)
class Experiment:
    """``share`` percent of the payments go by ``variant`` instead of ``control``, both names of ways to route."""

    id: str
    control: str
    variant: str
    share: int
    starts_at: datetime
    ends_at: datetime | None = None  # as planned; None: when somebody stops it
    margin: float = MARGIN  # the guardrail: this much worse ends it
    stopped_at: datetime | None = None
    stopped_why: str = ""

    def as_dict(self) -> dict[str, Any]:
        """As stored: JSON."""
        return {
            "id": self.id,
            "control": self.control,
            "variant": self.variant,
            "share": self.share,
            "starts_at": self.starts_at.isoformat(),
            "ends_at": self.ends_at and self.ends_at.isoformat(),
            "margin": self.margin,
            "stopped_at": self.stopped_at and self.stopped_at.isoformat(),
            "stopped_why": self.stopped_why,
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Experiment:
        """From what is stored."""
        return cls(
            id=stored["id"],
            control=stored["control"],
            variant=stored["variant"],
            share=stored["share"],
            starts_at=datetime.fromisoformat(stored["starts_at"]),
            ends_at=_time(stored.get("ends_at")),
            margin=stored.get("margin", MARGIN),
            stopped_at=_time(stored.get("stopped_at")),
            stopped_why=stored.get("stopped_why", ""),
        )


@dataclass(frozen=True, slots=True)
class Count:
    """Payments of one side that are decided; the undecided ones are in neither number."""

    successes: int = 0
    payments: int = 0

    @property
    def rate(self) -> float:
        """Successes per payment; 0 without payments."""
        return self.successes / self.payments if self.payments else 0.0

    @property
    def variance(self) -> float:
        """Of the rate, with one success and one failure added (Agresti and Caffo, 2000): never 0."""
        rate = (self.successes + 1) / (self.payments + 2)
        return rate * (1 - rate) / (self.payments + 2)


@dataclass(frozen=True, slots=True)
class Result:
    """What an experiment shows; rates and differences from 0 to 1, variant less control."""

    verdict: Verdict
    control: Count
    variant: Count
    difference: float
    low: float
    high: float
    interval: Literal["always valid", "newcombe"]
    missing: int  # payments of the variant still needed to see a difference of the margin; 0 once there is a verdict

    def as_dict(self) -> dict[str, Any]:
        """As shown by the API."""
        return {
            "verdict": str(self.verdict),
            "control": {"payments": self.control.payments, "success_rate": round(self.control.rate, 4)},
            "variant": {"payments": self.variant.payments, "success_rate": round(self.variant.rate, 4)},
            "difference": round(self.difference, 4),
            "low": round(self.low, 4),
            "high": round(self.high, 4),
            "confidence": 1 - ALPHA,
            "interval": self.interval,
            "payments_missing": self.missing,
        }


def check(experiment: Experiment) -> None:
    """Raise InvalidRequest (422) for an experiment that must not start."""
    if not MIN_SHARE <= experiment.share <= MAX_SHARE:
        raise InvalidRequest("bad_share", f"The share is {MIN_SHARE} to {MAX_SHARE} percent.", param="share")
    if experiment.control == experiment.variant:
        raise InvalidRequest("same_sides", "Control and variant are the same.", param="variant")
    if experiment.ends_at is not None and experiment.ends_at <= experiment.starts_at:
        raise InvalidRequest("bad_time", "It ends before it starts.", param="ends_at")
    if not 0 < experiment.margin <= MAX_MARGIN:
        raise InvalidRequest("bad_margin", f"The margin is above 0 and at most {MAX_MARGIN}.", param="margin")


def is_running(experiment: Experiment, at: datetime) -> bool:
    """Whether payments are split at that time."""
    ends = [end for end in (experiment.ends_at, experiment.stopped_at) if end is not None]
    return experiment.starts_at <= at and all(at < end for end in ends)


def side_of(experiment: Experiment, payment_id: str, at: datetime) -> Side | None:
    """The payment's side; None while the experiment does not run.

    The experiment's id is hashed too: a payment's side in one says nothing of its side in another.
    """
    if not is_running(experiment, at):
        return None
    digest = hashlib.sha256(f"{experiment.id}/{payment_id}".encode()).digest()
    bucket = int.from_bytes(digest[:8], "big") % _BUCKETS
    return Side.VARIANT if bucket < experiment.share * _BUCKETS // 100 else Side.CONTROL


def stop(experiment: Experiment, why: str, at: datetime) -> Experiment:
    """The experiment ended now; one that is over stays as it is."""
    over = experiment.stopped_at is not None or (experiment.ends_at is not None and experiment.ends_at <= at)
    return experiment if over else replace(experiment, stopped_at=at, stopped_why=why)


def guard(experiment: Experiment, control: Count, variant: Count, at: datetime) -> Experiment:
    """The experiment, ended if its variant loses: worse by the margin, and certainly worse at all.

    May be asked after every payment: the certainty is the interval's that holds at all looks, so a variant
    that is as good as the control is ended with a probability below 2.5 %, however long it runs.
    """
    worse = variant.rate - control.rate
    enough = min(control.payments, variant.payments) >= MIN_PAYMENTS
    if not enough or worse > -experiment.margin or always_valid(control, variant, experiment.margin)[1] >= 0:
        return experiment
    why = (
        f"{experiment.variant} succeeded {-worse * 100:.1f} percentage points less often than {experiment.control} "
        f"over {variant.payments} payments; the guardrail is {experiment.margin * 100:.1f}."
    )
    return stop(experiment, why, at)


def result(experiment: Experiment, control: Count, variant: Count, at: datetime) -> Result:
    """What is known now, and how much is missing."""
    as_planned = experiment.stopped_at is None and experiment.ends_at is not None and experiment.ends_at <= at
    low, high = newcombe(control, variant) if as_planned else always_valid(control, variant, experiment.margin)
    missing = _missing(control, variant, experiment.margin)
    if min(control.payments, variant.payments) < MIN_PAYMENTS:
        verdict, missing = Verdict.TOO_FEW, max(missing, MIN_PAYMENTS - variant.payments, 1)
    elif low > 0 or high < 0:
        verdict, missing = Verdict.BETTER if low > 0 else Verdict.WORSE, 0
    else:
        verdict = Verdict.TOO_FEW if missing else Verdict.SAME
    return Result(
        verdict=verdict,
        control=control,
        variant=variant,
        difference=variant.rate - control.rate,
        low=low,
        high=high,
        interval="newcombe" if as_planned else "always valid",
        missing=missing,
    )


def newcombe(control: Count, variant: Count) -> tuple[float, float]:
    """The 95 % interval of the difference, for a single look; (-1, 1) while a side is empty.

    Method 10 of R. G. Newcombe, "Interval estimation for the difference between independent proportions",
    Statistics in Medicine 17 (1998): the score intervals of both rates, put together.
    """
    difference = variant.rate - control.rate
    if not control.payments or not variant.payments:
        return -1.0, 1.0
    (c_low, c_high), (v_low, v_high) = (wilson(side.successes, side.payments) for side in (control, variant))
    below = sqrt((variant.rate - v_low) ** 2 + (c_high - control.rate) ** 2)
    above = sqrt((v_high - variant.rate) ** 2 + (control.rate - c_low) ** 2)
    return max(-1.0, difference - below), min(1.0, difference + above)


def always_valid(control: Count, variant: Count, margin: float = MARGIN) -> tuple[float, float]:
    """An interval of the difference that holds at all looks with 95 %; narrowest where the margin is decided.

    Robbins' normal mixture as in Waudby-Smith et al., "Time-uniform central limit theory and asymptotic
    confidence sequences", Annals of Statistics 52 (2024), with information (1 / variance) for time.
    """
    difference = variant.rate - control.rate
    information = 1 / (control.variance + variant.variance)
    spread = (_DETECTS / margin) ** 2 / (-2 * log(ALPHA) + log(1 - 2 * log(ALPHA)))
    ahead = information + spread
    half = sqrt(ahead * log(ahead / (spread * ALPHA**2))) / information
    return max(-1.0, difference - half), min(1.0, difference + half)


def _missing(control: Count, variant: Count, margin: float) -> int:
    """Payments of the variant until a difference of the margin would be found in 4 of 5 experiments.

    The control grows along: both sides' variances fall in the same proportion.
    """
    ratio = (control.variance + variant.variance) * (_DETECTS / margin) ** 2
    return max(0, round((variant.payments + 2) * (ratio - 1)))


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
