"""The contract's fixtures: every adapter, and every method that it takes."""

from __future__ import annotations

import pytest

from chalicelib.providers.registry import NAMES
from tests.contract.habits import KINDS
from tests.contract.sandbox_world import World


@pytest.fixture(params=NAMES)
def world(request: pytest.FixtureRequest) -> World:
    """One adapter, the bank it talks to, and a clock."""
    return World(request.param)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, world: World) -> str:
    """A method that the adapter takes."""
    return _taken(request.param, world)


@pytest.fixture(params=[kind for kind in KINDS if kind != "card"])
def coded_kind(request: pytest.FixtureRequest, world: World) -> str:
    """The same without cards: no number asks for some outcomes, which any code and UPI id can ask for."""
    return _taken(request.param, world)


def _taken(kind: str, world: World) -> str:
    if kind not in world.can.methods:
        pytest.skip(f"capabilities.methods of {world.name} lacks {kind}")
    return kind
