"""What all tests share: bounded, repeatable chance; an ear for marked values in the log; a line about the fault suite."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

from tests.support.search import Ear, Leak, Overheard

if TYPE_CHECKING:
    from collections.abc import Generator

# The same examples on every machine and every run: a failure is a defect, never luck. `soak` looks for new ones.
settings.register_profile(
    "default", derandomize=True, database=None, deadline=None, max_examples=100,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)  # fmt: skip
settings.register_profile("soak", settings.get_profile("default"), derandomize=False, max_examples=5000)
settings.load_profile("default")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of single suites."""
    parser.addoption(
        "--all-faults", action="store_true", help="strike the plain scenarios of the fault suite in every way"
    )


OVERHEARD = pytest.StashKey[Overheard]()


def pytest_configure(config: pytest.Config) -> None:
    """Listen to all that is logged from here on: in every worker, also while modules are imported."""
    config.stash[OVERHEARD] = Overheard()
    logging.getLogger().addHandler(Ear(config.stash[OVERHEARD]))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    """A test during which a marked value was logged has failed, whatever else it says; its setting up is part of it."""
    result = yield
    check_log(item.config)
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None]:
    """The same of what is logged after it."""
    result = yield
    check_log(item.config)
    return result


def check_log(config: pytest.Config) -> None:
    """Raise Leak if a marked value was logged since the last time."""
    finds = config.stash[OVERHEARD].take()
    if finds:
        raise Leak(finds)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how much the fault suite has tried: tests note it as properties, which workers pass on."""
    totals = {"fault_points": 0, "fault_violations": 0}
    reports: list[Any] = [r for outcome in ("passed", "failed") for r in terminalreporter.stats.get(outcome, [])]
    for report in reports:
        for name, value in getattr(report, "user_properties", ()):
            if name in totals:
                totals[name] += value
    if totals["fault_points"]:
        line = f"fault suite: {totals['fault_points']} fault points, {totals['fault_violations']} violations"
        terminalreporter.write_sep("=", line)
