"""The watch of providers: quiet while all is usual, told of what is not, and told when it is over."""

from __future__ import annotations

import itertools
import json
import random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.domain.anomaly import Alert, Detector, Minute, step
from infra.bench_anomalies import minute

if TYPE_CHECKING:
    from collections.abc import Iterable

DAY = 1_440


def run(minutes: Iterable[Minute], detector: Detector | None = None) -> tuple[Detector, list[Alert]]:
    now, told = detector or Detector(last=0), []
    for one in minutes:
        now, alerts = step(now, one)
        told += alerts
    return now, told


def days(seed: int, first: int, count: int, *, calls: float = 60, rate: float = 0.85, **changes: Any) -> list[Minute]:
    """``count`` minutes from number ``first``."""
    chance = random.Random(seed)
    return [minute(chance, number, calls, rate, **changes) for number in range(first, first + count)]


@pytest.fixture(scope="module")
def settled() -> Detector:
    """One that has seen three usual days of 60 calls a minute."""
    detector, told = run(days(1, 1, 3 * DAY))
    assert told == []
    return detector


# -- raised and cleared ------------------------------------------------------------------------------


def test_a_success_rate_that_falls_is_raised_in_minutes_and_cleared_when_it_is_back(settled: Detector) -> None:
    detector, told = run(days(2, 3 * DAY + 1, 40, rate=0.5), settled)
    (raised, *_) = told
    assert (raised.kind, raised.state, detector.open) == ("success_rate", "raised", ("success_rate",))
    assert raised.at - 3 * DAY <= 5
    assert abs(raised.seen - 0.5) < 0.1
    assert abs(raised.usual - 0.85) < 0.03
    assert raised.sentence.startswith("the share of attempts that succeed is ")
    detector, told = run(days(3, 3 * DAY + 41, 60), detector)
    assert [(alert.kind, alert.state, alert.since) for alert in told] == [("success_rate", "cleared", raised.at)]
    assert detector.open == ()
    assert run(days(4, 3 * DAY + 101, DAY), detector)[1] == []


def test_one_bad_minute_is_no_alert_and_one_good_one_no_end(settled: Detector) -> None:
    first = 3 * DAY + 1
    detector, told = run([Minute(first, 80, 0, 300.0, 80), *days(2, first + 1, 30)], settled)
    assert told == []
    detector, told = run(days(3, first + 31, 10, rate=0.4), detector)
    assert [alert.state for alert in told] == ["raised"]
    detector, told = run([Minute(first + 41, 80, 80, 300.0, 80), *days(4, first + 42, 5, rate=0.4)], detector)
    assert told == []
    assert detector.open == ("success_rate",)


def test_slower_answers_are_raised(settled: Detector) -> None:
    _, (raised, *_) = run(days(2, 3 * DAY + 1, 15, slower=2.0), settled)
    assert (raised.kind, raised.at - 3 * DAY <= 6) == ("latency", True)
    assert 1.6 < raised.seen / raised.usual < 2.6


def test_faster_answers_and_more_payments_are_nobodys_trouble(settled: Detector) -> None:
    assert run(days(2, 3 * DAY + 1, 300, calls=200, rate=0.99, slower=0.4), settled)[1] == []


@pytest.mark.parametrize("is_told", [True, False], ids=["minute by minute", "all at once"])
def test_payments_that_stop_coming_are_raised(settled: Detector, is_told: bool) -> None:  # noqa: FBT001
    first = 3 * DAY + 1
    numbers = range(first, first + 10) if is_told else [first + 9]
    detector, (raised, *_) = run([Minute(number, 0, 0, None, 0) for number in numbers], settled)
    assert (raised.kind, raised.seen, detector.open) == ("volume", 0.0, ("volume",))
    assert abs(raised.usual - 60) < 10
    _, told = run(days(2, first + 10, 30), detector)
    assert [alert.state for alert in told] == ["cleared"]


def test_a_standing_alert_is_told_again_each_hour_and_sooner_if_it_gets_much_worse(settled: Detector) -> None:
    first = 3 * DAY + 1
    detector, told = run(days(2, first, 130, rate=0.6), settled)
    assert [alert.state for alert in told] == ["raised", "updated", "updated"]
    assert [later.at - earlier.at for earlier, later in itertools.pairwise(told)] == [60, 60]
    _, told = run(days(3, first + 130, 30, rate=0.2), detector)
    assert [alert.state for alert in told][:1] == ["updated"]
    assert told[0].seen < 0.5


def test_after_a_day_the_new_level_counts_as_usual(settled: Detector) -> None:
    first = 3 * DAY + 1
    detector, told = run(days(2, first, DAY + 60, rate=0.6), settled)
    assert (told[0].state, told[-1].state, told[-1].at - told[0].at) == ("raised", "cleared", DAY)
    assert told[-1].sentence.startswith("After a day this counts as usual: ")
    assert run(days(3, first + DAY + 60, DAY, rate=0.6), detector)[1] == []


# -- floors ------------------------------------------------------------------------------------------


def test_who_is_new_is_not_judged_by_a_few_payments() -> None:
    assert run([Minute(number, 20, 0 if number % 2 else 20, None, 0) for number in range(1, 25)])[1] == []


def test_a_shop_with_a_payment_now_and_then_never_misses_any() -> None:
    quiet = [Minute(number, 1, 1, None, 0) for number in range(1, 7 * DAY, 30)]
    assert run([*quiet, Minute(9 * DAY, 0, 0, None, 0)])[1] == []


def test_a_day_that_goes_up_and_down_is_usual() -> None:
    chance = random.Random(7)
    assert run(minute(chance, number, 30, 0.85, swing=0.9) for number in range(1, 6 * DAY))[1] == []


def test_a_gap_of_months_is_looked_at_in_no_time_and_raises_nothing_new_after_it(settled: Detector) -> None:
    detector, told = run([Minute(200 * DAY, 0, 0, None, 0)], settled)
    assert [alert.state for alert in told] == ["raised"]
    assert detector.last == 200 * DAY


# -- state -------------------------------------------------------------------------------------------

minutes = st.lists(
    st.builds(
        lambda gap, calls, share, ms: (gap, calls, int(calls * share), ms),
        st.integers(1, 200), st.integers(0, 300), st.floats(0, 1), st.none() | st.floats(1, 60_000),
    ),
    max_size=60,
)  # fmt: skip


def numbered(drawn: list[tuple[int, int, int, float | None]], first: int = 0) -> list[Minute]:
    found = []
    for gap, calls, successes, ms in drawn:
        first += gap
        found.append(Minute(first, calls, successes, ms, calls if ms else 0))
    return found


@given(minutes, minutes)
def test_what_is_stored_goes_on_as_if_it_had_never_been_stored(before: Any, after: Any) -> None:
    detector, _ = run(numbered(before))
    stored = Detector.from_dict(json.loads(json.dumps(detector.as_dict())))
    assert stored.as_dict() == detector.as_dict()
    told = [(a.kind, a.state, a.at) for a in run(numbered(after, detector.last), detector)[1]]
    assert [(a.kind, a.state, a.at) for a in run(numbered(after, detector.last), stored)[1]] == told
    assert len(json.dumps(detector.as_dict())) < 2_000


@given(minutes)
def test_a_minute_again_or_an_older_one_changes_nothing(drawn: Any) -> None:
    detector, _ = run(numbered(drawn))
    for one in numbered(drawn):
        assert step(detector, one) == (detector, [])


@given(minutes)
def test_alerts_of_a_kind_are_raised_then_updated_then_cleared(drawn: Any) -> None:
    _, told = run(numbered(drawn), Detector(last=0, calls=2_000, successes=1_900, minutes=200, mean=5.0, recent=50.0,
                                            hours={str(hour): (50.0, 3) for hour in range(24)}))  # fmt: skip
    standing: dict[str, int] = {}
    for alert in told:
        if alert.state == "raised":
            assert alert.kind not in standing
            standing[alert.kind] = alert.at
        assert alert.since == standing[alert.kind] <= alert.at
        if alert.state == "cleared":
            del standing[alert.kind]
        assert alert.sentence.endswith(".")
