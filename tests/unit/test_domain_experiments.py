"""Sides are the payments' own, shares are kept, and nobody is told more than the numbers show."""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import replace
from math import sqrt
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.domain import experiments
from chalicelib.domain.errors import InvalidRequest
from chalicelib.domain.experiments import MIN_PAYMENTS, Count, Experiment, Side, Verdict
from tests.support.factories import NOW, later

if TYPE_CHECKING:
    from datetime import datetime

DAY = 86_400.0
PINNED = [14, 16, 19, 27, 29, 56, 57]
EXPERIMENT = Experiment("exp_1", "priority", "score", 10, starts_at=NOW, ends_at=later(30 * DAY))
DURING, AFTER = later(DAY), later(30 * DAY)


def sides(experiment: Experiment, payments: int = 5_000) -> list[Side | None]:
    return [experiments.side_of(experiment, f"pay_{i}", DURING) for i in range(payments)]


def count(payments: int, rate: float) -> Count:
    return Count(round(payments * rate), payments)


counts = st.integers(1, 20_000).flatmap(lambda n: st.builds(Count, st.integers(0, n), st.just(n)))
large = st.integers(MIN_PAYMENTS, 20_000).flatmap(lambda n: st.builds(Count, st.integers(0, n), st.just(n)))

# -- sides -------------------------------------------------------------------------------------------


def test_a_payments_side_never_changes() -> None:
    """These are counted on by experiments under way: another hash must not decide otherwise."""
    variants = [i for i in range(60) if experiments.side_of(EXPERIMENT, f"pay_{i}", DURING) is Side.VARIANT]
    assert variants == PINNED


def test_a_side_is_the_hash_the_documents_name() -> None:
    for i in range(20_000):
        number = int(hashlib.sha256(f"exp_1/pay_{i}".encode()).hexdigest()[:16], 16) % 10_000
        expected = Side.VARIANT if number < 1_000 else Side.CONTROL
        assert experiments.side_of(EXPERIMENT, f"pay_{i}", DURING) is expected


@given(st.integers(5, 30), st.text(min_size=1, max_size=20))
def test_the_variant_gets_its_share(share: int, name: str) -> None:
    got = sides(replace(EXPERIMENT, id=name, share=share), 1_000).count(Side.VARIANT)
    expected = 1_000 * share / 100
    assert abs(got - expected) < 5 * sqrt(expected * (1 - share / 100))


@given(st.integers(5, 29), st.text(max_size=30))
def test_a_larger_share_keeps_those_that_have_been_in_it(share: int, payment_id: str) -> None:
    small, large_ = (replace(EXPERIMENT, share=size) for size in (share, share + 1))
    if experiments.side_of(small, payment_id, DURING) is Side.VARIANT:
        assert experiments.side_of(large_, payment_id, DURING) is Side.VARIANT


def test_one_experiment_says_nothing_about_another() -> None:
    one, other = sides(replace(EXPERIMENT, share=30)), sides(replace(EXPERIMENT, id="exp_2", share=30))
    both = sum(a is b is Side.VARIANT for a, b in zip(one, other, strict=True))
    assert both / one.count(Side.VARIANT) == pytest.approx(0.3, abs=0.06)


@pytest.mark.parametrize(
    ("at", "running"),
    [(later(-1), False), (NOW, True), (later(30 * DAY - 1), True), (AFTER, False)],
)
def test_it_runs_from_its_start_to_its_end(at: datetime, *, running: bool) -> None:
    assert experiments.is_running(EXPERIMENT, at) is running
    assert (experiments.side_of(EXPERIMENT, "pay_1", at) is not None) is running
    assert experiments.is_running(replace(EXPERIMENT, ends_at=None), AFTER)


def test_a_stopped_one_splits_no_more_and_is_stopped_once() -> None:
    stopped = experiments.stop(EXPERIMENT, "enough", DURING)
    assert (stopped.stopped_at, stopped.stopped_why) == (DURING, "enough")
    assert experiments.is_running(stopped, later(DAY - 1))
    assert not experiments.is_running(stopped, DURING)
    assert experiments.stop(stopped, "again", later(2 * DAY)) is stopped
    assert experiments.stop(EXPERIMENT, "too late", AFTER) is EXPERIMENT


@pytest.mark.parametrize(
    ("changes", "code", "param"),
    [
        ({"share": 4}, "bad_share", "share"),
        ({"share": 31}, "bad_share", "share"),
        ({"variant": "priority"}, "same_sides", "variant"),
        ({"ends_at": NOW}, "bad_time", "ends_at"),
        ({"margin": 0.0}, "bad_margin", "margin"),
        ({"margin": 0.21}, "bad_margin", "margin"),
    ],
)
def test_what_must_not_start(changes: dict[str, Any], code: str, param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        experiments.check(replace(EXPERIMENT, **changes))
    assert (refused.value.code, refused.value.param) == (code, param)


@pytest.mark.parametrize("share", [5, 30])
def test_what_may_start(share: int) -> None:
    experiments.check(replace(EXPERIMENT, share=share, ends_at=None, margin=0.2))


# -- intervals ---------------------------------------------------------------------------------------


def test_newcombes_interval_is_the_published_one() -> None:
    """56 of 70 less 48 of 80, 9 of 10 less 3 of 10 and 10 of 10 less 0 of 10: his table II, method 10."""
    for (a, n), (b, m), expected in (
        ((56, 70), (48, 80), (0.0524, 0.3339)),
        ((9, 10), (3, 10), (0.1705, 0.8090)),
        ((10, 10), (0, 10), (0.6075, 1.0)),
    ):
        assert experiments.newcombe(Count(b, m), Count(a, n)) == pytest.approx(expected, abs=0.0001)
    assert experiments.newcombe(Count(), Count(5, 10)) == (-1, 1)


@given(counts, counts)
def test_intervals_hold_the_difference_and_turn_with_the_sides(one: Count, other: Count) -> None:
    for interval in (experiments.newcombe, experiments.always_valid):
        low, high = interval(one, other)
        assert -1 <= low <= other.rate - one.rate <= high <= 1
        assert interval(other, one) == pytest.approx((-high, -low))


@given(large, large)
def test_looking_always_costs_width_but_not_too_much(one: Count, other: Count) -> None:
    """Within a factor of ten of where 3 points are decided, which is at 1 / variance = (2.8 / 0.03)², about 8,700."""
    low, high = experiments.always_valid(one, other)
    single = 2 * 1.96 * sqrt(one.variance + other.variance)
    if -1 < low < high < 1 and 1_000 < 1 / (one.variance + other.variance) < 100_000:
        assert 1.3 < (high - low) / single < 2.1


def looks(seed: int, rates: tuple[float, float], payments: int = 6_000, every: int = 40) -> list[tuple[Count, Count]]:
    """What a person who looks after every 40 payments sees: control and variant."""
    luck = random.Random(f"looks/{seed}")
    sums = [[0, 0], [0, 0]]
    seen = []
    for i in range(1, payments + 1):
        side = luck.random() < 0.3
        sums[side][0] += luck.random() < rates[side]
        sums[side][1] += 1
        if i % every == 0 and min(sums[0][1], sums[1][1]) >= MIN_PAYMENTS:
            seen.append((Count(*sums[0]), Count(*sums[1])))
    return seen


def test_whoever_looks_all_the_time_is_misled_by_one_interval_and_not_by_the_other() -> None:
    misled = {experiments.newcombe: 0, experiments.always_valid: 0}
    runs = 150
    for seed in range(runs):
        seen = looks(seed, (0.9, 0.9))
        for interval in misled:
            misled[interval] += any(not low <= 0 <= high for low, high in (interval(*look) for look in seen))
    assert misled[experiments.newcombe] / runs > 0.15
    assert misled[experiments.always_valid] / runs <= 0.05


# -- guardrail ---------------------------------------------------------------------------------------


def ended(control: Count, variant: Count, experiment: Experiment = EXPERIMENT) -> bool:
    return experiments.guard(experiment, control, variant, DURING) is not experiment


def test_a_variant_that_loses_is_ended_with_the_reason() -> None:
    after = experiments.guard(EXPERIMENT, count(20_000, 0.9), count(2_000, 0.85), DURING)
    assert after.stopped_at == DURING
    assert after.stopped_why == (
        "score succeeded 5.0 percentage points less often than priority over 2000 payments; the guardrail is 3.0."
    )
    assert experiments.guard(after, count(20_000, 0.9), count(2_000, 0.8), AFTER) is after


@pytest.mark.parametrize(
    ("control", "variant", "over"),
    [
        (count(20_000, 0.9), count(2_000, 0.88), False),  # certainly worse, but not by the margin
        (count(20_000, 0.9), count(200, 0.85), False),  # worse by more, but that may be chance
        (count(20_000, 0.9), count(MIN_PAYMENTS - 1, 0.1), False),  # too few to say anything
        (count(20_000, 0.9), count(MIN_PAYMENTS, 0.1), True),
        (count(MIN_PAYMENTS - 1, 0.9), count(20_000, 0.1), False),
        (count(20_000, 0.85), count(2_000, 0.9), False),  # better
        (Count(), Count(), False),
    ],
)
def test_nothing_else_ends_it(control: Count, variant: Count, *, over: bool) -> None:
    assert ended(control, variant) is over


def test_the_margin_is_the_merchants() -> None:
    control, variant = count(20_000, 0.9), count(4_000, 0.88)
    assert not ended(control, variant)
    assert ended(control, variant, replace(EXPERIMENT, margin=0.01))


def test_equal_variants_live_and_losing_ones_die() -> None:
    def share_ended(rates: tuple[float, float]) -> float:
        return sum(any(ended(*look) for look in looks(seed, rates)) for seed in range(100)) / 100

    assert share_ended((0.9, 0.9)) <= 0.025
    assert share_ended((0.9, 0.8)) >= 0.95


# -- results -----------------------------------------------------------------------------------------


def judged(control: Count, variant: Count, at: datetime = DURING, experiment: Experiment = EXPERIMENT) -> Verdict:
    return experiments.result(experiment, control, variant, at).verdict


@pytest.mark.parametrize(
    ("control", "variant", "verdict"),
    [
        (Count(), Count(), Verdict.TOO_FEW),
        (count(9_000, 0.9), count(99, 0.1), Verdict.TOO_FEW),
        (count(3_000, 0.9), count(300, 0.9), Verdict.TOO_FEW),
        (count(30_000, 0.9), count(3_000, 0.9), Verdict.SAME),
        (count(30_000, 0.9), count(3_000, 0.95), Verdict.BETTER),
        (count(30_000, 0.9), count(3_000, 0.85), Verdict.WORSE),
        (count(3_000, 0.9), count(300, 0.5), Verdict.WORSE),  # few suffice for a large difference
    ],
)
def test_a_result_says_no_more_than_it_knows(control: Count, variant: Count, verdict: Verdict) -> None:
    assert judged(control, variant) is verdict


def test_only_one_that_ran_as_planned_gets_the_narrow_interval() -> None:
    control, variant = count(9_000, 0.9), count(1_000, 0.923)
    stopped = experiments.stop(EXPERIMENT, "curious", DURING)
    endless = replace(EXPERIMENT, ends_at=None)
    assert judged(control, variant) is Verdict.SAME
    assert judged(control, variant, AFTER) is Verdict.BETTER
    assert judged(control, variant, AFTER, stopped) is judged(control, variant, AFTER, endless) is Verdict.SAME
    result = experiments.result(EXPERIMENT, control, variant, AFTER)
    assert (result.interval, (result.low, result.high)) == ("newcombe", experiments.newcombe(control, variant))


def test_what_is_missing_is_what_it_takes() -> None:
    """For 90 % and 3 points, 9 times as many in the control: 7.85 x 0.09 x (1 + 1/9) / 0.03² = 872."""
    result = experiments.result(EXPERIMENT, count(900, 0.9), count(100, 0.9), DURING)
    assert result.verdict is Verdict.TOO_FEW
    assert 100 + result.missing == pytest.approx(872, rel=0.1)
    enough = experiments.result(EXPERIMENT, count(9_000, 0.9), count(1_000, 0.9), DURING)
    assert (enough.verdict, enough.missing) == (Verdict.SAME, 0)
    assert experiments.result(EXPERIMENT, Count(), Count(), DURING).missing >= MIN_PAYMENTS


@given(counts, counts)
def test_a_verdict_agrees_with_its_interval(control: Count, variant: Count) -> None:
    for at in (DURING, AFTER):
        result = experiments.result(EXPERIMENT, control, variant, at)
        assert result.difference == variant.rate - control.rate
        assert result.verdict is not Verdict.BETTER or result.low > 0
        assert result.verdict is not Verdict.WORSE or result.high < 0
        assert (result.missing > 0) is (result.verdict is Verdict.TOO_FEW)


def test_a_result_is_shown_as_json() -> None:
    result = experiments.result(EXPERIMENT, count(9_000, 0.9), count(1_000, 0.8), DURING)
    shown = json.loads(json.dumps(result.as_dict()))
    assert shown == {
        "verdict": "worse",
        "control": {"payments": 9_000, "success_rate": 0.9},
        "variant": {"payments": 1_000, "success_rate": 0.8},
        "difference": -0.1,
        "low": round(result.low, 4),
        "high": round(result.high, 4),
        "confidence": 0.95,
        "interval": "always valid",
        "payments_missing": 0,
    }


@pytest.mark.parametrize(
    "experiment",
    [EXPERIMENT, replace(EXPERIMENT, ends_at=None, margin=0.05), experiments.stop(EXPERIMENT, "enough", DURING)],
)
def test_an_experiment_comes_back_from_json(experiment: Experiment) -> None:
    stored = json.loads(json.dumps(experiment.as_dict()))
    assert Experiment.from_dict(stored) == experiment
    assert Experiment.from_dict({**stored, "added_later": 1}) == experiment
