"""Sliding windows are exact: against a list that forgets nothing, at their edges, reordered, repeated, raced for."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.domain import velocity
from chalicelib.domain.risk import LIMITS
from chalicelib.domain.velocity import SLACK, Breach, Entry, Limit, Window, admit

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from random import Random

START = datetime(2026, 11, 21, 4, 30, tzinfo=UTC)
MINUTE, HOUR, DAY = 60, 3_600, 86_400
THREE_A_MINUTE = Limit("card", MINUTE, "count", 3, 50)


def after(milliseconds: int) -> datetime:
    """Our virtual clock."""
    return START + timedelta(milliseconds=milliseconds)


def paid(milliseconds: int, number: int, amount: int = 100, currency: str = "INR") -> Entry:
    return velocity.entry(after(milliseconds), amount, currency, f"pay_{number}")


def admit_all(limits: Sequence[Limit], entries: Iterable[Entry]) -> tuple[Window, list[list[Breach]]]:
    window, found = Window("card"), []
    for entry in entries:
        window, breaches = admit(window, limits, entry, START + timedelta(milliseconds=entry.at - at(0)))
        found.append(breaches)
    return window, found


def at(milliseconds: int) -> int:
    return velocity.milliseconds(after(milliseconds))


def counts(limit: Limit, entry: Entry) -> bool:
    """What a limit says it is about, in the oracle's own words."""
    if limit.kind != entry.kind or (limit.currency is not None and limit.currency != entry.currency):
        return False
    return limit.up_to is None or entry.amount <= limit.up_to


def measure(limit: Limit, everything: Iterable[Entry], since: int) -> int:
    """The oracle: of all entries there ever were, those after ``since``."""
    young = [entry for entry in everything if entry.at > since and counts(limit, entry)]
    return sum(entry.amount for entry in young) if limit.measure == "sum" else len(young)


# -- the edges -------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [MINUTE, HOUR, DAY])
@pytest.mark.parametrize(("early", "broken"), [(1, True), (0, False), (-1, False)])
def test_an_entry_leaves_the_window_when_it_is_exactly_that_old(seconds: int, early: int, *, broken: bool) -> None:
    limit = Limit("card", seconds, "count", 3, 50)
    entries = [paid(0, 1), paid(1, 2), paid(2, 3), paid(seconds * 1000 - early, 4)]
    _, found = admit_all([limit], entries)
    assert found == [[], [], [], [Breach(limit, 4)] if broken else []]


def test_as_many_as_the_limit_pass_and_not_one_more() -> None:
    _, found = admit_all([THREE_A_MINUTE], [paid(0, number) for number in range(5)])
    assert [len(breaches) for breaches in found] == [0, 0, 0, 1, 1]


@pytest.mark.parametrize(("last", "broken"), [(400, False), (401, True)])
def test_a_sum_may_reach_its_limit_and_not_pass_it(last: int, *, broken: bool) -> None:
    limit = Limit("card", HOUR, "sum", 1000, 30, currency="INR")
    _, found = admit_all([limit], [paid(0, 1, 600), paid(1, 2, 9_999, "USD"), paid(2, 3, last)])
    assert found[-1] == ([Breach(limit, 600 + last)] if broken else [])


def test_minutes_hours_and_days_are_counted_apart() -> None:
    limits = [Limit("card", seconds, "count", value, 1) for seconds, value in ((MINUTE, 1), (HOUR, 2), (DAY, 3))]
    times = [0, 30_000, 120_000, 7_200_000, 7_200_001]
    _, found = admit_all(limits, [paid(time, number) for number, time in enumerate(times)])
    assert [[breach.limit.seconds for breach in breaches] for breaches in found] == [
        [], [MINUTE], [HOUR], [DAY], [MINUTE, DAY],
    ]  # fmt: skip


def test_other_dimensions_limits_do_not_matter() -> None:
    window, breaches = admit(Window("ip"), [Limit("card", DAY, "count", 1, 1)] * 2, paid(0, 1), after(0))
    assert (breaches, window.entries, window.version) == ([], (), 1)


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"])
@pytest.mark.parametrize("day", [(2026, 3, 29), (2026, 10, 25), (2026, 3, 8), (2026, 11, 1), (2026, 4, 5)])
def test_a_day_has_24_hours_also_when_the_clocks_change(zone: str, day: tuple[int, int, int]) -> None:
    limit = Limit("card", DAY, "count", 1, 1)
    noon = datetime(*day, 12, tzinfo=ZoneInfo(zone)) - timedelta(days=1)  # by the clock on the wall
    first = velocity.entry(noon, 1, "INR", "pay_1")
    window, _ = admit(Window("card"), [limit], first, noon)
    for elapsed, broken in ((timedelta(hours=24, milliseconds=-1), True), (timedelta(hours=24), False)):
        then = (noon.astimezone(UTC) + elapsed).astimezone(ZoneInfo(zone))
        _, breaches = admit(window, [limit], velocity.entry(then, 1, "INR", "pay_2"), then)
        assert bool(breaches) is broken


# -- what counts -----------------------------------------------------------------------------------


def test_many_declines_count_against_the_next_payment() -> None:
    limit = Limit("card", HOUR, "count", 2, 60, kind="decline")
    window = Window("card")
    for number in range(3):
        decline = velocity.entry(after(number), 100, "INR", f"att_{number}", "decline")
        window, _ = admit(window, [limit], decline, after(number))
    _, breaches = admit(window, [limit], paid(10, 9), after(10))
    assert breaches == [Breach(limit, 3)]
    two = replace(window, entries=window.entries[:2])
    assert admit(two, [limit], paid(10, 9), after(10))[1] == []


def test_after_tiny_payments_a_large_one_is_no_better() -> None:
    limit = Limit("card", HOUR, "count", 2, 40, currency="INR", up_to=100)
    _, found = admit_all(
        [limit], [paid(0, 1, 100), paid(1, 2, 101), paid(2, 3, 1, "USD"), paid(3, 4, 1), paid(4, 5, 1)]
    )
    assert [len(breaches) for breaches in found] == [0, 0, 0, 0, 1]
    window, _ = admit_all([limit], [paid(0, 1, 1), paid(1, 2, 1), paid(2, 3, 1)])
    assert admit(window, [limit], paid(3, 4, 90_000), after(3))[1] == [Breach(limit, 3)]


def test_a_repeat_changes_nothing_and_is_judged_again() -> None:
    window, _ = admit_all([THREE_A_MINUTE], [paid(number, number) for number in range(3)])
    for _ in range(3):
        again, breaches = admit(window, [THREE_A_MINUTE], paid(30_000, 1), after(30_000))
        assert (again, breaches) == (window, [])
    decline = replace(paid(40, 1), kind="decline")  # of the same payment: another thing
    assert len(admit(window, [replace(THREE_A_MINUTE, kind="decline")], decline, after(40))[0].entries) == 1


def test_long_ids_are_known_again_by_their_end() -> None:
    ids = ["pay_01KAJ5Q0X0AAAAAAAAAAAAAAAA", "pay_01KAJ5Q0X0AAAAAAAAAAAAAAAB"]
    window = Window("card")
    for id_ in [*ids, *ids]:
        window, _ = admit(window, [THREE_A_MINUTE], velocity.entry(after(0), 1, "INR", id_), after(0))
    assert (len(window.entries), window.version) == (2, 2)


# -- against the oracle ------------------------------------------------------------------------------

_STEPS = st.sampled_from([0, 1, 999, 1_000, 29_999, 30_000, 59_999, 60_000, 60_001, 3_599_999, 3_600_000, 43_200_000])
_AMOUNTS = st.sampled_from([1, 50, 51, 400, 1_000])
_COUNTS = st.builds(
    Limit, st.just("card"), st.sampled_from([MINUTE, HOUR, DAY]), st.just("count"), st.integers(1, 4), st.just(1),
    kind=st.sampled_from(["payment", "decline"]), currency=st.sampled_from([None, "INR"]),
)  # fmt: skip
_SMALL = st.builds(replace, _COUNTS, currency=st.just("INR"), up_to=st.just(50))
_SUMS = st.builds(
    Limit, st.just("card"), st.sampled_from([MINUTE, HOUR, DAY]), st.just("sum"), st.integers(1, 2_000), st.just(1),
    currency=st.sampled_from(["INR", "USD"]),
)  # fmt: skip
_ARRIVALS = st.tuples(
    _STEPS, st.integers(-SLACK, SLACK), _AMOUNTS, st.sampled_from(["INR", "INR", "USD"]),
    st.integers(0, 12), st.sampled_from(["payment", "payment", "decline"]),
)  # fmt: skip


@settings(max_examples=300)
@given(st.lists(st.one_of(_COUNTS, _SMALL, _SUMS), min_size=1, max_size=5), st.lists(_ARRIVALS, max_size=40))
def test_every_answer_is_that_of_a_list_that_forgets_nothing(
    limits: list[Limit], arrivals: list[tuple[int, int, int, str, int, str]]
) -> None:
    window, everything, clock = Window("card"), dict[tuple[str, int], Entry](), 0
    for step, skew, amount, currency, number, kind in arrivals:
        clock += step
        new = replace(paid(clock + skew, number, amount, currency), kind=kind)  # type: ignore[arg-type]
        first = everything.setdefault((kind, number), new)
        was_there = (kind, str(number)) in {(row.kind, row.id.removeprefix("pay_")) for row in window.entries}
        if first is not new and not was_there:
            continue  # a repeat of what no limit needs any more: not a repeat by anybody's memory
        stored = velocity.from_rows("card", json.loads(json.dumps(velocity.to_rows(window))), window.version)
        window, breaches = admit(stored, limits, new, after(clock))
        expected = [
            limit for limit in limits
            if measure(limit, everything.values(), new.at - limit.seconds * 1000) > limit.value
        ]  # fmt: skip
        assert [breach.limit for breach in breaches] == expected
        assert all(earlier.at <= later.at for earlier, later in pairwise(window.entries))


@given(
    st.integers(1, 5),
    st.sampled_from([MINUTE, HOUR]),
    st.lists(st.tuples(st.integers(0, 40_000), st.integers(-SLACK, SLACK)), max_size=60),
)
def test_no_stretch_of_time_holds_more_than_the_limit(
    value: int, seconds: int, arrivals: list[tuple[int, int]]
) -> None:
    """However late, early or reordered: of the entries that broke nothing, any window has at most ``value``."""
    limit, window, clock, passed = Limit("card", seconds, "count", value, 100), Window("card"), 0, list[int]()
    for number, (step, skew) in enumerate(arrivals):
        clock += step
        new = paid(clock + skew, number)
        after_it, breaches = admit(window, [limit], new, after(clock))
        if not breaches:  # who is refused is not written
            window = after_it
            passed.append(new.at)
    for end in passed:
        assert sum(end - seconds * 1000 < time <= end for time in passed) <= value


@settings(max_examples=40)
@given(
    st.randoms(use_true_random=False),
    st.integers(100, 400),
    st.lists(st.tuples(st.sampled_from([MINUTE, HOUR, DAY]), st.integers(500, 30_000)), min_size=1, max_size=3),
    st.sampled_from([100, 2_000, 30_000, 400_000]),
)
def test_a_sum_of_very_many_is_never_too_low_and_soon_right_again(
    random: Random, size: int, given_limits: list[tuple[int, int]], gap: int
) -> None:
    limits = [Limit("card", seconds, "sum", value, 1, currency="INR") for seconds, value in given_limits]
    window, everything, clock = Window("card"), list[Entry](), 0
    for number in range(size):
        clock += random.randrange(2 * gap)
        new = paid(clock, number, random.choice([1, 1, 1, 90]))
        everything.append(new)
        window, breaches = admit(window, limits, new, after(clock))
        broken = {breach.limit for breach in breaches}
        for limit in limits:
            if measure(limit, everything, new.at - limit.seconds * 1000) > limit.value:
                assert limit in broken
            elif limit in broken:
                assert measure(limit, everything, new.at - limit.seconds * 1000 * 33 // 32 - 1) > limit.value
    assert len(window.entries) <= 50 + 33 * len(limits)


def test_the_fifty_newest_stay_exact_in_a_sum() -> None:
    limit = Limit("card", HOUR, "sum", 49, 30, currency="INR")
    window, found = admit_all([limit], [paid(number * 1_000, number, 1) for number in range(49)])
    assert not any(found)
    for time, broken in ((3_599_999, True), (3_600_000, False)):
        assert bool(admit(window, [limit], paid(time, 100, 1), after(time))[1]) is broken


# -- the item ----------------------------------------------------------------------------------------


def test_a_flood_leaves_a_small_item() -> None:
    """The default limits, a thousand payments and as many declines of one paisa, one after the other."""
    for dimension, most in (("card", 4_000), ("customer", 5_000), ("ip", 4_500), ("device", 1_500)):
        window = Window(dimension)  # type: ignore[arg-type]
        for number in range(1_000):
            for kind in ("payment", "decline"):
                new = Entry(at(number * 500), 1, "INR", f"pay_01KAJ5Q0X0AAAAAAAAAAAA{number:04d}", kind)
                window, _ = admit(window, LIMITS, new, after(number * 500))
        assert len(json.dumps(velocity.to_rows(window), separators=(",", ":"))) < most


def test_what_no_limit_needs_is_not_kept() -> None:
    window, _ = admit_all([THREE_A_MINUTE], [paid(number, number) for number in range(10)])
    assert [row.id for row in window.entries] == ["pay_6", "pay_7", "pay_8", "pay_9"]
    window, _ = admit(window, [THREE_A_MINUTE], paid(MINUTE * 1000 + SLACK + 8, 10), after(MINUTE * 1000 + SLACK + 8))
    assert [row.id for row in window.entries] == ["pay_9", "pay_10"]


def test_an_item_expires_when_nothing_in_it_can_count() -> None:
    window, _ = admit_all([Limit("card", DAY, "count", 5, 1)], [paid(1, 1), paid(2_500, 2)])
    expires = velocity.expires_at(window, after(2_500))
    assert (expires - 1) * 1000 < at(2_500) + DAY * 1000 + SLACK <= expires * 1000
    assert isinstance(expires, int)


def test_a_customer_is_remembered_for_more_than_a_year_also_if_no_limit_is_about_the_payment() -> None:
    window, _ = admit(Window("customer"), [], paid(0, 1), after(0))
    assert (window.entries, window.version) == ((), 1)
    assert velocity.expires_at(window, after(0)) * 1000 == at(0) + velocity.SEEN_SECONDS * 1000 + SLACK


@settings(max_examples=60)
@given(st.integers(1, 6), st.integers(1, 12), st.lists(st.integers(0, 11), max_size=120))
def test_of_many_at_once_exactly_the_limit_gets_through(value: int, workers: int, schedule: list[int]) -> None:
    """Each worker reads, and in another step writes if the version is still the one it read, else reads again."""
    limit = Limit("card", MINUTE, "count", value, 100)
    stored, read, done = Window("card"), dict[int, Window](), dict[int, bool]()
    turns = [worker % workers for worker in schedule] + [*range(workers)] * (2 * workers)
    for worker in turns:
        if worker in done:
            continue
        if worker not in read:
            read[worker] = stored
            continue
        after_it, breaches = admit(read.pop(worker), [limit], paid(worker, worker), after(20))
        if breaches:
            done[worker] = False
        elif after_it.version == stored.version + 1:  # the condition of the write
            stored, done[worker] = after_it, True
    assert len(done) == workers
    assert sum(done.values()) == min(value, workers) == len(stored.entries)


# -- for people --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "rule", "reason"),
    [
        (THREE_A_MINUTE, "velocity", "More than 3 payments with one card in 1 minute"),
        (Limit("ip", 900, "count", 9, 1, currency="USD"), "velocity",
         "More than 9 payments in USD from one IP address in 900 seconds"),
        (Limit("customer", DAY, "sum", 500_000_00, 1, currency="INR"), "velocity",
         "More than 500000.00 INR by one customer in 24 hours"),
        (Limit("device", HOUR, "count", 6, 1, kind="decline"), "card_testing",
         "More than 6 declines from one device in 1 hour"),
        (Limit("card", HOUR, "count", 3, 1, currency="JPY", up_to=50), "card_testing",
         "More than 3 payments of at most 50 JPY with one card in 1 hour"),
    ],
)  # fmt: skip
def test_a_limit_says_what_it_is_about(limit: Limit, rule: str, reason: str) -> None:
    assert (limit.rule, limit.reason) == (rule, reason)
