"""Runs a scenario, with one fault or none, and says which promises it broke."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.faults.checker import violations
from tests.faults.play import Play
from tests.support.world import Fault, World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.faults.scenarios import Scenario
    from tests.support.world import Kind, Point

DOWNSTREAM = frozenset({"relay", "notify", "deliver", "project"})  # the same for every event: struck in whole scenarios
KINDS: tuple[Kind, ...] = ("crash_before", "crash_after", "conflict", "refused", "lost", "twin", "stall")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one run."""

    points: list[Point]
    struck: Point | None
    problems: list[str]


def run(scenario: Scenario, fault: Fault | None = None, prepare: Callable[[World], None] | None = None) -> Outcome:
    """Play a scenario to the end and check it; ``prepare`` may change the world first."""
    with World(fault=fault, spared=frozenset() if scenario.whole else DOWNSTREAM) as world:
        if prepare is not None:
            prepare(world)
        play = Play(world)
        problems: list[str] = []
        try:
            scenario.run(play)
            world.armed = False
            world.run(horizon=scenario.horizon)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding of this run
            problems.append(f"the scenario broke: {type(error).__name__}: {error}")
        world.armed = False
        problems += violations(play, scenario.expected)
        return Outcome(world.points, fault.struck if fault else None, problems)


def faults(points: list[Point], kind: Kind) -> Iterator[Fault]:
    """Every fault of one kind that the recorded calls offer.

    After a call is before the next call of the same invocation, so that moment is struck once. A client
    whose request died may ask again at once, or after everything else has settled.
    """
    for at, point in enumerate(points):
        following = points[at + 1] if at + 1 < len(points) else None
        if kind == "crash_after" and following is not None and following.invocation == point.invocation:
            continue
        if kind in point.kinds():
            yield Fault(at, kind)
            if point.where == "request" and kind in ("crash_before", "crash_after", "lost"):
                yield Fault(at, kind, patient=True)


def check(
    scenario: Scenario, kind: Kind, prepare: Callable[[World], None] | None = None, *, enough: int | None = None
) -> tuple[int, list[str]]:
    """Strike at every point of a scenario, or until ``enough`` is found; the number of runs and what they broke."""
    recorded = run(scenario, None, prepare).points
    count = 0
    found: list[str] = []
    for fault in faults(recorded, kind):
        if len(found) == enough:
            break
        count += 1
        outcome = run(scenario, fault, prepare)
        problems = outcome.problems
        if outcome.struck != recorded[fault.at]:
            problems = [f"recorded {recorded[fault.at]}, struck {outcome.struck}: runs differ", *problems]
        if problems:
            where = f"{scenario.name}, point {fault.at}: {kind}{' (patient client)' * fault.patient}"
            point = recorded[fault.at]
            found.append(f"{where} at {point.call} in {point.where}\n" + "\n".join(f"    {p}" for p in problems))
    return count, found
