"""One thing goes wrong, at every call of every scenario, in every way; then the promises must hold.

The calls are found by recording a run without faults through the hooks of the clients, so that a new
call is struck without anybody having to remember it. See runner.py, and docs in world.py's Fault.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults import runner
from tests.faults.scenarios import SCENARIOS
from tests.support.world import World

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.world import Kind

_GROUPS: dict[str, tuple[Kind, ...]] = {"dying": runner.DYING, "further": runner.FURTHER}
# Every function there is, so that none is ever left out.
_FUNCTIONS = {
    "request", "webhook", "attempt", "resolve", "park", "relay", "operate", "ingest", "notify", "deliver", "project", "sweep",
}  # fmt: skip


@pytest.mark.parametrize("name", SCENARIOS)
def test_nothing_goes_wrong(name: str) -> None:
    outcome = runner.run(SCENARIOS[name])
    assert not outcome.problems, "\n".join([name, *outcome.problems])


@pytest.mark.parametrize("group", _GROUPS)
@pytest.mark.parametrize("name", SCENARIOS)
def test_one_thing_goes_wrong(
    name: str, group: str, record_property: Callable[[str, object], None], pytestconfig: pytest.Config
) -> None:
    if group == "further" and SCENARIOS[name].plain and not pytestconfig.getoption("--all-faults"):
        return  # see Scenario.plain
    found: list[str] = []
    points = 0
    for kind in _GROUPS[group]:
        count, problems = runner.check(SCENARIOS[name], kind)
        points += count
        found += problems
    record_property("fault_points", points)
    record_property("fault_violations", len(found))
    assert not found, f"{len(found)} of {points} points broke a promise:\n" + "\n".join(found[:10])


def test_every_function_is_struck() -> None:
    struck = {point.where for scenario in SCENARIOS.values() for point in runner.run(scenario).points}
    assert struck == _FUNCTIONS


def test_a_run_can_be_repeated() -> None:
    """Ids, chance and time come from the seed: the same fault always meets the same call."""
    scenario = SCENARIOS["create_for_order"]
    first, second = runner.run(scenario), runner.run(scenario)
    assert first.points == second.points


def test_worlds_do_not_leak() -> None:
    with World() as world:
        assert world.kit.queries.payment_state(world.merchant().tenant, "pay_x") is None
    assert not world.points
