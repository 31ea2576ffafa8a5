"""Rate limits: however many environments ask however they like, a bucket never gives out more than it has."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st
from pynamodb.exceptions import UpdateError

from chalicelib.domain import buckets
from chalicelib.domain.access import PLAN_LIMITS, Rate
from chalicelib.storage import limits as module
from chalicelib.storage.limits import Limits
from tests.support.aws import PREFIX
from tests.support.world import World

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_LIMIT = st.builds(Rate, st.sampled_from([0.1, 1.0, 7.0, 100.0]), st.sampled_from([1, 3, 40, 200]))
# Which environment asks, how often in a row, and how much later than the one before.
_STEPS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(1, 60), st.sampled_from([0.0, 0.001, 0.3, 1.0, 4.0, 60.0])), max_size=40
)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with World() as made:
        yield made


def played(world: World, limit: Rate, steps: Sequence[tuple[int, int, float]], name: str) -> list[float]:
    """When tokens were given, of environments that know nothing of each other."""
    world.clock.time = round(world.clock.time, 3)  # as the clock tells it
    environments = [Limits(PREFIX, world.clock) for _ in range(4)]
    given_at: list[float] = []
    for number, times, later in steps:
        world.clock.time = round(world.clock.time + later, 3)
        for _ in range(times):
            given_at += [world.clock.time] * environments[number].take(name, limit).is_given
    return given_at


_names = iter(range(10**9))


@given(limit=_LIMIT, steps=_STEPS)
def test_never_more_than_the_limit_and_the_burst(
    world: World, limit: Rate, steps: list[tuple[int, int, float]]
) -> None:
    start = round(world.clock.time, 3)
    given_at = played(world, limit, steps, f"property/{next(_names)}")
    for number, moment in enumerate(given_at):  # from the beginning
        assert number + 1 <= limit.burst + limit.per_second * (moment - start) + 1e-6
    held = 1.0 if limit.burst >= 100 else 0.0  # what an environment took and spends within a second
    for first, begin in enumerate(given_at):  # and in every window
        for last in range(first, len(given_at)):
            assert last - first + 1 <= limit.burst + limit.per_second * (given_at[last] - begin + held) + 1e-6


@given(limit=_LIMIT, steps=_STEPS)
def test_one_alone_gets_all_that_the_bucket_has(world: World, limit: Rate, steps: list[tuple[int, int, float]]) -> None:
    """A limit that gave out nothing would pass the test above."""
    name, total = f"alone/{next(_names)}", 0
    world.clock.time += 10_000
    asks = Limits(PREFIX, world.clock)
    for _ in range(limit.burst):
        total += asks.take(name, limit).is_given
    assert total == limit.burst
    assert not asks.take(name, limit).is_given
    world.clock.time += 1 / limit.per_second + 0.001
    assert asks.take(name, limit).is_given


def test_what_is_not_spent_in_a_second_is_lost(world: World) -> None:
    limit, asks = Rate(1, 100), Limits(PREFIX, world.clock)
    assert asks.take("lost", limit).left == 99  # two were taken, one of them is held
    world.clock.time += 1.0
    world.traffic = []
    assert asks.take("lost", limit).is_given
    assert [operation for operation, _, _ in world.traffic] == ["UpdateItem"]  # it has asked again


def test_a_busy_key_costs_a_write_for_many_requests(world: World) -> None:
    limit, asks = PLAN_LIMITS["standard"], Limits(PREFIX, world.clock)
    world.traffic = []
    for _ in range(100):
        assert asks.take("busy", limit).is_given
    assert len(world.traffic) == 10  # a 50th of 500 each


def test_many_environments_that_begin_at_once_do_not_empty_a_bucket_by_holding(world: World) -> None:
    """Found by 200 creates at once over 24 environments: each had taken a share of what it thought was full."""
    limit = PLAN_LIMITS["standard"]
    environments = [Limits(PREFIX, world.clock) for _ in range(100)]
    given = sum(environment.take("many", limit).is_given for _ in range(2) for environment in environments)
    assert given == 200


def test_an_empty_bucket_costs_no_write_at_all(world: World) -> None:
    limit, asks = Rate(1, 2), Limits(PREFIX, world.clock)
    for _ in range(3):
        taken = asks.take("empty", limit)
    world.traffic = []
    for _ in range(50):
        taken = asks.take("empty", limit)
        assert (taken.is_given, taken.left) == (False, 0)
        assert 0 < taken.wait <= 1
    assert world.traffic == []


def test_another_environment_knows_that_it_is_empty(world: World) -> None:
    limit = Rate(1, 3)
    one, other = Limits(PREFIX, world.clock), Limits(PREFIX, world.clock)
    assert [one.take("shared", limit).is_given for _ in range(3)] == [True] * 3
    assert not other.take("shared", limit).is_given
    world.clock.time += 1
    assert other.take("shared", limit).is_given
    assert not one.take("shared", limit).is_given


def test_without_its_table_everything_goes_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object) -> None:
        raise UpdateError("throttled", cause=ClientError({"Error": {"Code": "InternalServerError"}}, "UpdateItem"))

    told: list[str] = []
    monkeypatch.setattr(module, "changed", unreachable)
    monkeypatch.setattr(module, "metric", told.append)
    assert Limits(PREFIX, world.clock).take("blind", Rate(1, 1)).is_given
    assert told == ["RateLimitBlind"]


@given(limit=_LIMIT, known=st.integers(0, 10**9), now=st.integers(0, 10**9))
def test_the_arithmetic_agrees_with_itself(limit: Rate, known: int, now: int) -> None:
    after, missing = buckets.full_at(known, now, limit), buckets.wait(known, now, limit)
    assert (after is None) == (buckets.left(known, now, limit) == 0) == (missing > 0)
    assert buckets.full_at(known, now + missing, limit) is not None
    if missing:
        assert buckets.full_at(known, now + missing - 1, limit) is None
    if after is not None:
        assert buckets.left(after, now, limit) == buckets.left(known, now, limit) - 1


def test_bigger_plans_have_more() -> None:
    limits = list(PLAN_LIMITS.values())
    assert limits == sorted(limits, key=lambda limit: (limit.per_second, limit.burst))
    assert replace(limits[0], burst=1).burst == 1
