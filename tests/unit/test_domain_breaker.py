"""A breaker opens on what is no chance, tries again with few calls, and is never fooled by old news."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from chalicelib.domain import breaker as breakers
from chalicelib.domain.breaker import COOLS, LEASE, MIN_CALLS, PERMITS, SUCCESSES, VERDICTS, Breaker, Bucket, Status
from chalicelib.domain.errors import ErrorClass
from tests.support.factories import later

# Ten seconds begin at START, so that a test knows its buckets.
START = datetime.fromisoformat("2026-11-21T04:30:00+00:00")
SECOND = timedelta(seconds=1)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def call(breaker: Breaker, *, ok: bool | None, seconds: float) -> Breaker:
    """A call that was decided on and ended at the same time."""
    return breakers.record(breaker, ok=ok, at=at(seconds), sent_at=at(seconds))


def fed(breaker: Breaker, *runs: tuple[int, bool, float]) -> Breaker:
    """After ``count`` calls that ended like that at that second, for each run."""
    for count, ok, seconds in runs:
        for _ in range(count):
            breaker = call(breaker, ok=ok, seconds=seconds)
    return breaker


def opened(seconds: float = 0.0) -> Breaker:
    breaker = fed(Breaker(), (MIN_CALLS, False, seconds))
    assert breaker.status is Status.OPEN
    return breaker


def half_opened() -> tuple[Breaker, datetime]:
    """With one permit out, and when that was taken."""
    taken = at(0) + COOLS
    breaker, admitted = breakers.admit(opened(), taken)
    assert admitted
    return breaker, taken


def permitted(breaker: Breaker, when: datetime) -> Breaker:
    breaker, admitted = breakers.admit(breaker, when)
    assert admitted
    return breaker


# -- opening -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failed", "ok", "opens"),
    [(20, 0, True), (19, 0, False), (15, 5, True), (14, 6, False), (50, 50, False), (59, 41, False), (60, 40, True)],
)
def test_it_opens_when_at_least_half_fails_beyond_doubt(failed: int, ok: int, *, opens: bool) -> None:
    breaker = fed(Breaker(), (ok, True, 1), (failed - 1, False, 1))
    assert breaker.status is Status.CLOSED
    breaker = call(breaker, ok=False, seconds=1)
    assert (breaker.status is Status.OPEN) is opens
    if opens:
        assert breaker.reason == f"{failed} of {failed + ok} calls failed in the last 10 s."
        assert (breaker.since, breaker.cools_until) == (at(1), at(1) + COOLS)


def test_an_outage_at_high_volume_opens_it_within_the_ten_seconds() -> None:
    breaker = fed(Breaker(), *((100, True, second) for second in range(50)))
    breaker = fed(breaker, (MIN_CALLS - 1, False, 50))
    assert breaker.status is Status.CLOSED
    assert call(breaker, ok=False, seconds=50.1).status is Status.OPEN


def test_few_calls_a_second_are_judged_over_the_whole_minute() -> None:
    breaker = fed(Breaker(), *((1, False, 3.0 * i) for i in range(MIN_CALLS - 1)))
    assert breaker.status is Status.CLOSED
    breaker = call(breaker, ok=False, seconds=58)
    assert breaker.status is Status.OPEN
    assert breaker.reason.endswith("in the last 60 s.")


def test_what_is_over_a_minute_old_is_forgotten() -> None:
    breaker = fed(Breaker(), (MIN_CALLS - 1, False, 0))
    breaker = call(breaker, ok=False, seconds=60)
    assert breaker.status is Status.CLOSED
    assert breaker.buckets == (Bucket(int(START.timestamp()) // 10 + 6, 0, 1),)


def test_late_news_counts_where_it_belongs_or_not_at_all() -> None:
    breaker = fed(Breaker(), (1, True, 65), (1, False, 31), (1, False, 5))
    first = int(START.timestamp()) // 10
    assert breaker.buckets == (Bucket(first + 3, 0, 1), Bucket(first + 6, 1, 0))


def test_counts_added_up_elsewhere_are_judged_alike() -> None:
    number = int(START.timestamp()) // 10
    counted = Breaker(buckets=(Bucket(number - 1, 500, 3), Bucket(number, 0, MIN_CALLS)))
    assert breakers.judge(counted, at(9)).status is Status.OPEN
    assert breakers.judge(counted, at(9 + 60)) is counted


@given(st.lists(st.tuples(st.floats(0, 300), st.booleans()), max_size=300))
def test_the_buckets_are_the_calls_of_the_last_minute(calls: list[tuple[float, bool]]) -> None:
    held = Breaker(forced="closed")  # counts on and never opens
    for seconds, ok in calls:
        held = call(held, ok=ok, seconds=seconds)
    numbers = [int(at(seconds).timestamp()) // 10 for seconds, _ in calls]
    kept: dict[int, list[bool]] = {}
    newest = 0
    for number, (_, ok) in zip(numbers, calls, strict=True):
        newest = max(newest, number)
        kept = {n: oks for n, oks in kept.items() if n > newest - 6}
        if number > newest - 6:
            kept.setdefault(number, []).append(ok)
    assert held.buckets == tuple(Bucket(n, sum(oks), len(oks) - sum(oks)) for n, oks in sorted(kept.items()))
    assert held.version == len(calls)


def test_a_steady_fifth_of_failures_does_not_open_it() -> None:
    """One seed of what infra/bench_routing.py does with millions of calls."""
    luck = random.Random("steady")
    breaker = Breaker()
    for i in range(20_000):
        breaker = call(breaker, ok=luck.random() < 0.8, seconds=i * 0.7)
        assert breaker.status is Status.CLOSED


# -- verdicts ----------------------------------------------------------------------------------------


def test_every_error_class_has_its_verdict() -> None:
    assert VERDICTS.keys() == set(ErrorClass)
    failures = {error_class for error_class in ErrorClass if breakers.verdict(error_class) is False}
    assert failures == {ErrorClass.TECHNICAL_DECLINE, ErrorClass.PROVIDER_UNAVAILABLE, ErrorClass.TIMEOUT_UNKNOWN}
    assert breakers.verdict(None) is True


@pytest.mark.parametrize("error_class", sorted(ErrorClass))
def test_only_the_providers_own_failures_open_it(error_class: ErrorClass) -> None:
    breaker = Breaker()
    for _ in range(100):
        breaker = call(breaker, ok=breakers.verdict(error_class), seconds=1)
    verdict = VERDICTS[error_class]
    assert (breaker.status is Status.OPEN) is (verdict is False)
    if verdict is None:
        assert breaker == Breaker()


# -- half open ---------------------------------------------------------------------------------------


def test_nobody_is_let_through_until_it_has_cooled() -> None:
    breaker = opened()
    assert breakers.admit(breaker, at(0) + COOLS - SECOND) == (breaker, False)
    half, admitted = breakers.admit(breaker, at(0) + COOLS)
    assert admitted
    assert (half.status, half.permits, half.since) == (Status.HALF_OPEN, (at(0) + COOLS,), at(0) + COOLS)
    assert half.version > breaker.version


def test_closed_costs_no_write() -> None:
    breaker = Breaker()
    after, admitted = breakers.admit(breaker, at(0))
    assert admitted
    assert after is breaker


def test_as_many_calls_as_there_are_permits_go_out() -> None:
    breaker, taken = half_opened()
    for _ in range(PERMITS - 1):
        breaker = permitted(breaker, taken)
    assert breakers.admit(breaker, taken) == (breaker, False)
    breaker = breakers.record(breaker, ok=True, at=taken + SECOND, sent_at=taken)
    assert breaker.successes == 1
    breaker = permitted(breaker, taken + SECOND)
    assert not breakers.admit(breaker, taken + SECOND)[1]


def test_sixteen_workers_that_race_get_the_permits_between_them() -> None:
    """Each decides on what it has read and stores on condition of that version; who loses reads again."""
    stored = opened()
    when = at(0) + COOLS
    admitted, waiting = [], [(worker, stored) for worker in range(16)]
    while waiting:
        worker, read = waiting.pop(0)
        after, yes = breakers.admit(read, when)
        if after is not read:
            if read.version != stored.version:
                waiting.append((worker, stored))
                continue
            stored = after
        if yes:
            admitted.append(worker)
    assert len(admitted) == len(stored.permits) == PERMITS


def test_a_permit_that_never_reports_is_given_again_after_a_while() -> None:
    breaker, taken = half_opened()
    for _ in range(PERMITS - 1):
        breaker = permitted(breaker, taken)
    assert not breakers.admit(breaker, taken + LEASE - SECOND)[1]
    breaker = permitted(breaker, taken + LEASE)
    assert breaker.permits == (taken + LEASE,)
    # The lost call comes back after all: it no longer has a permit, and none is freed by it.
    assert breakers.record(breaker, ok=True, at=taken + LEASE + SECOND, sent_at=taken) is breaker


def test_a_call_that_says_nothing_gives_its_permit_back() -> None:
    breaker, taken = half_opened()
    breaker = breakers.record(breaker, ok=None, at=taken + SECOND, sent_at=taken)
    assert (breaker.status, breaker.permits, breaker.successes) == (Status.HALF_OPEN, (), 0)


def test_it_closes_after_enough_successes_and_begins_to_count_afresh() -> None:
    breaker, taken = half_opened()
    for i in range(SUCCESSES):
        assert breaker.status is Status.HALF_OPEN
        breaker = breakers.record(breaker, ok=True, at=taken + SECOND, sent_at=taken)
        if i < SUCCESSES - 1:
            taken += SECOND
            breaker = permitted(breaker, taken)
    assert breaker.status is Status.CLOSED
    assert (breaker.buckets, breaker.permits, breaker.cools_until) == ((), (), None)
    assert breaker.reason == "5 calls succeeded."


def test_one_success_reported_twice_counts_once() -> None:
    breaker, taken = half_opened()
    for _ in range(SUCCESSES + 1):
        breaker = breakers.record(breaker, ok=True, at=taken + SECOND, sent_at=taken)
    assert (breaker.status, breaker.successes) == (Status.HALF_OPEN, 1)


def test_one_failure_opens_it_again() -> None:
    breaker, taken = half_opened()
    breaker = breakers.record(permitted(breaker, taken), ok=True, at=taken, sent_at=taken)
    breaker = breakers.record(breaker, ok=False, at=taken + SECOND, sent_at=taken)
    assert (breaker.status, breaker.cools_until) == (Status.OPEN, taken + SECOND + COOLS)
    assert (breaker.permits, breaker.successes) == ((), 0)


def test_calls_from_before_do_not_count() -> None:
    breaker, taken = half_opened()
    for ok in (True, False, None):
        assert breakers.record(breaker, ok=ok, at=taken + SECOND, sent_at=at(0)) is breaker
    assert breakers.record(opened(), ok=False, at=at(5), sent_at=at(5)) == opened()
    closed = breaker
    for _ in range(SUCCESSES):
        closed = breakers.record(closed, ok=True, at=taken + SECOND, sent_at=taken)
        taken += SECOND
        closed = permitted(closed, taken)
    assert closed.status is Status.CLOSED
    for _ in range(2 * MIN_CALLS):
        assert breakers.record(closed, ok=False, at=taken + SECOND, sent_at=at(0)) is closed


def test_a_worker_whose_clock_lags_keeps_its_permit() -> None:
    breaker, taken = half_opened()
    breaker = permitted(breaker, taken - SECOND)
    assert breakers.record(breaker, ok=True, at=taken, sent_at=taken - SECOND).successes == 1
    assert breakers.record(breaker, ok=False, at=taken, sent_at=taken - SECOND).status is Status.OPEN


def test_scores_hear_of_nothing_but_ordinary_days() -> None:
    breaker, taken = half_opened()
    assert breakers.tells(Breaker(), at(0))
    assert not breakers.tells(opened(), at(1))
    assert not breakers.tells(breaker, taken + SECOND)
    closed = replace(breaker, status=Status.CLOSED, since=taken + SECOND)
    assert not breakers.tells(closed, taken)
    assert breakers.tells(closed, taken + SECOND)


class Life(RuleBasedStateMachine):
    """Anything, in any order, at times that run on."""

    def __init__(self) -> None:
        super().__init__()
        self.now = START
        self.breaker = Breaker()
        self.out: list[datetime] = []  # calls under way, by when they were decided on
        self.held: list[datetime] = []  # those of them that hold a permit

    def move(self, after: Breaker) -> None:
        assert after is self.breaker or after.version > self.breaker.version
        if after.status is not self.breaker.status or after.since != self.breaker.since:
            self.held = []
        self.breaker = after

    @rule(seconds=st.floats(0.1, 20))
    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    @rule()
    def ask(self) -> None:
        after, admitted = breakers.admit(self.breaker, self.now)
        self.move(after)
        self.held = [taken for taken in self.held if self.now < taken + LEASE]
        free = after.status is Status.HALF_OPEN and len(self.held) < PERMITS
        assert admitted == (after.status is Status.CLOSED or free)
        if admitted:
            self.out.append(self.now)
            self.held += [self.now] if free else []

    @precondition(lambda self: self.out)
    @rule(data=st.data(), ok=st.sampled_from([True, True, True, False, None]))
    def report(self, *, data: st.DataObject, ok: bool | None) -> None:
        taken = data.draw(st.sampled_from(self.out))
        self.out.remove(taken)
        if taken in self.held:
            self.held.remove(taken)
        self.move(breakers.record(self.breaker, ok=ok, at=self.now, sent_at=taken))

    @rule()
    def collapse(self) -> None:
        for _ in range(MIN_CALLS):
            self.move(breakers.record(self.breaker, ok=False, at=self.now, sent_at=self.now))

    @rule(to=st.sampled_from(["open", "closed"]), seconds=st.none() | st.floats(1, 60))
    def force(self, to: Literal["open", "closed"], seconds: float | None) -> None:
        until = None if seconds is None else self.now + timedelta(seconds=seconds)
        self.move(breakers.force(self.breaker, to, "asked to", self.now, until))

    @rule()
    def release(self) -> None:
        self.move(breakers.release(self.breaker, "asked to", self.now))

    @invariant()
    def permits_never_exceed(self) -> None:
        assert len(self.held) <= PERMITS
        assert len(self.breaker.permits) <= PERMITS

    @invariant()
    def each_status_has_its_own_facts(self) -> None:
        breaker = self.breaker
        assert not breaker.permits or breaker.status is Status.HALF_OPEN
        assert breaker.successes < SUCCESSES
        assert not breaker.successes or breaker.status is Status.HALF_OPEN
        assert not breaker.buckets or breaker.status is Status.CLOSED
        assert breaker.forced is None or breaker.status == breaker.forced
        assert (breaker.cools_until is not None) == (breaker.status is Status.OPEN and breaker.forced is None)

    @invariant()
    def it_comes_back_from_json(self) -> None:
        assert Breaker.from_dict(json.loads(json.dumps(self.breaker.as_dict()))) == self.breaker


TestLife = Life.TestCase


# -- by hand -----------------------------------------------------------------------------------------


def test_held_open_it_lets_nobody_through_until_released_and_then_a_few() -> None:
    held = breakers.force(Breaker(), "open", "maintenance", at(0))
    assert (held.status, held.reason, held.forced) == (Status.OPEN, "maintenance", "open")
    assert not breakers.admit(held, later(10**9))[1]
    free = breakers.release(held, "done", at(100))
    assert (free.status, free.forced, free.reason) == (Status.HALF_OPEN, None, "done")
    for _ in range(PERMITS):
        free = permitted(free, at(100))
    assert not breakers.admit(free, at(100))[1]


def test_held_closed_it_never_opens_but_counts_on() -> None:
    held = breakers.force(opened(), "closed", "false alarm", at(1))
    held = fed(held, (100, False, 2))
    assert (held.status, held.forced) == (Status.CLOSED, "closed")
    assert breakers.admit(held, at(2)) == (held, True)
    free = breakers.release(held, "watched long enough", at(3))
    assert (free.status, free.forced) == (Status.CLOSED, None)
    assert call(free, ok=False, seconds=3).status is Status.OPEN


@pytest.mark.parametrize(("to", "after"), [("open", Status.HALF_OPEN), ("closed", Status.CLOSED)])
def test_it_is_held_no_longer_than_asked(to: Literal["open", "closed"], after: Status) -> None:
    held = breakers.force(Breaker(), to, "for a minute", at(0), at(60))
    assert breakers.admit(held, at(59)) == (held, to == "closed")
    later_on, admitted = breakers.admit(held, at(60))
    assert admitted
    assert (later_on.status, later_on.forced, later_on.forced_until) == (after, None, None)
    assert later_on.reason == f"No longer held {to}."
    assert call(held, ok=True, seconds=61).forced is None


def test_what_nobody_holds_is_not_released() -> None:
    breaker = opened()
    assert breakers.release(breaker, "by mistake", at(1)) is breaker


# -- as stored ---------------------------------------------------------------------------------------


def test_nothing_stored_is_a_closed_breaker() -> None:
    assert Breaker.from_dict({}) == Breaker()
    assert breakers.admit(Breaker.from_dict({}), at(0))[1]


def test_what_a_later_release_adds_does_not_hurt() -> None:
    stored: dict[str, Any] = {**opened().as_dict(), "weather": "fine"}
    assert Breaker.from_dict(stored) == opened()


def test_a_full_breaker_is_a_small_row() -> None:
    buckets = tuple(Bucket(176_000_000 + i, 10_000, 10_000) for i in range(6))
    half, _ = half_opened()
    for breaker in (Breaker(buckets=buckets, version=10**6), replace(half, permits=(at(0.123456),) * PERMITS)):
        assert len(json.dumps(breaker.as_dict())) < 500
