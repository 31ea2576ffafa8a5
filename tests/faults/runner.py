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

# The way behind the outbox is the same for every event. Faults strike there in the scenarios marked `whole`;
# in the others its calls are not counted, and against a FURTHER fault it is not walked at all.
DOWNSTREAM = frozenset({"relay", "notify", "deliver", "project"})
_TOLD = frozenset({"notifications", "projections"})
DYING: tuple[Kind, ...] = ("crash_before", "crash_after", "conflict")
FURTHER: tuple[Kind, ...] = ("refused", "lost", "twin", "stall")
KINDS = DYING + FURTHER


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one run."""

    points: list[Point]
    struck: Point | None
    problems: list[str]


def run(
    scenario: Scenario,
    fault: Fault | None = None,
    prepare: Callable[[World], None] | None = None,
    *,
    kind: Kind = "crash_before",
) -> Outcome:
    """Play a scenario to the end and check it; ``prepare`` may change the world first.

    ``kind`` is that of the fault, or the one that the run's calls are recorded for.
    """
    spared = frozenset() if scenario.whole else DOWNSTREAM
    discarded = _TOLD if kind in FURTHER and not scenario.whole else frozenset()
    with World(fault=fault, spared=spared, discarded=discarded) as world:
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
    """Every fault of one kind that differs from all others, of those that the recorded calls offer.

    To die after a call is to die before the next one, and a read changes nothing: so a process dies
    before its first call and after each call with an effect, and that is all it can do. A client whose
    request died may ask again at once, or after everything else has settled.
    """
    for at, point in enumerate(points):
        before = points[at - 1] if at else None
        after = points[at + 1] if at + 1 < len(points) else None
        is_first = before is None or before.invocation != point.invocation
        is_last = after is None or after.invocation != point.invocation
        if kind == "crash_before" and not is_first:
            continue
        if kind == "crash_after" and point.is_read and not is_last:
            continue
        if kind in point.kinds():
            yield Fault(at, kind)
            if point.where == "request" and kind in ("crash_before", "crash_after", "lost"):
                yield Fault(at, kind, patient=True)


def moments(points: list[Point], kind: Kind) -> int:
    """How many faults of one kind the recorded calls offer, those among them that cannot be told apart."""
    return sum(kind in point.kinds() for point in points)


def check(
    scenario: Scenario, kind: Kind, prepare: Callable[[World], None] | None = None, *, enough: int | None = None
) -> tuple[int, list[str]]:
    """Strike at every point of a scenario, or until ``enough`` is found; the number of points and what they broke."""
    recorded = run(scenario, None, prepare, kind=kind).points
    found: list[str] = []
    for fault in faults(recorded, kind):
        if len(found) == enough:
            break
        outcome = run(scenario, fault, prepare, kind=kind)
        problems = outcome.problems
        if outcome.struck != recorded[fault.at]:
            problems = [f"recorded {recorded[fault.at]}, struck {outcome.struck}: runs differ", *problems]
        if problems:
            where = f"{scenario.name}, point {fault.at}: {kind}{' (patient client)' * fault.patient}"
            point = recorded[fault.at]
            found.append(f"{where} at {point.call} in {point.where}\n" + "\n".join(f"    {p}" for p in problems))
    return moments(recorded, kind), found
