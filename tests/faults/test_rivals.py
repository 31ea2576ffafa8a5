"""Two that want different things at the same time: at every call of one, the other one goes first.

Together with redelivery, twins and stalls of the single-fault suite this is every way in which two
of them can cross: one writer always wins, the other decides again on what the winner left.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from chalicelib.domain.errors import InvalidRequest, NotFoundError, StateConflict
from tests.faults.checker import violations
from tests.faults.evidence import Expected
from tests.faults.play import AMOUNT, Play
from tests.support.world import Fault, World

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.world import Point

_OPEN = Expected(None)  # who wins is open; that the bank agrees is not


@dataclass(frozen=True, slots=True)
class Rivals:
    """``stage`` prepares and returns what both are about; ``one`` is struck, ``other`` overtakes it."""

    stage: Callable[[Play], str]
    one: Callable[[Play, str], object]
    other: Callable[[Play, str], object]
    expected: Expected
    accepted: int | None = None  # how many of the two requests are accepted


def _paid(play: Play) -> str:
    payment_id = play.create()
    play.settle()
    return payment_id


def _authorized(play: Play) -> str:
    payment_id = play.create(capture="manual")
    play.settle()
    return payment_id


def _waiting(play: Play) -> str:
    play.chaos(action_expires=100)
    payment_id = play.create("action")
    play.settle(10)
    return payment_id


def _waiting_for_order(play: Play) -> str:
    play.chaos(action_expires=100)
    order_id = play.order()
    play.create("action", order_id=order_id)
    play.settle(10)
    return order_id


def _pay_order(play: Play, order_id: str) -> object:
    return play.create(order_id=order_id)


def _customer_pays(play: Play, _: str) -> None:
    """The customer approves, and the provider's event is taken in at once."""
    charge = play.charge(play.payment_ids[0])
    if charge["status"] == "pending":
        play.customer(play.payment_ids[0])
        play.world.run(horizon=1)


def _dashboard_refund(play: Play, payment_id: str) -> None:
    """Somebody refunds in the provider's dashboard, and the event is taken in at once."""
    play.dashboard("refund", "simulator", payment_id, amount=70_000)
    play.world.run(horizon=1)


def _comes_back(play: Play, payment_id: str) -> None:
    """The customer approves, and the browser brings the proof."""
    play.customer(payment_id)
    play.verify(payment_id, play.proof(payment_id))


RIVALS = {
    "capture and cancel": Rivals(
        _authorized, lambda p, i: p.capture(i), lambda p, i: p.cancel(i), _OPEN, accepted=1
    ),
    "cancel and capture": Rivals(
        _authorized, lambda p, i: p.cancel(i), lambda p, i: p.capture(i), _OPEN, accepted=1
    ),
    "two captures": Rivals(
        _authorized, lambda p, i: p.capture(i, 50_000), lambda p, i: p.capture(i, 70_000), _OPEN, accepted=1
    ),
    "two full refunds": Rivals(
        _paid, lambda p, i: p.refund(i), lambda p, i: p.refund(i), Expected(("succeeded",), refunded=(AMOUNT,)), accepted=1
    ),
    "two partial refunds": Rivals(
        _paid, lambda p, i: p.refund(i, 60_000), lambda p, i: p.refund(i, 70_000),
        Expected(("succeeded",), refunded=(130_000,)), accepted=2,
    ),
    "two refunds over the half": Rivals(
        _paid, lambda p, i: p.refund(i, 100_000), lambda p, i: p.refund(i, 100_000),
        Expected(("succeeded",), refunded=(100_000,)), accepted=1,
    ),
    "refund and a refund in the provider's dashboard": Rivals(
        _paid, lambda p, i: p.refund(i, 60_000),
        _dashboard_refund,
        Expected(("succeeded",), refunded=(130_000,)),
    ),
    "two payments of one order": Rivals(
        lambda p: p.order(), _pay_order, _pay_order, Expected(("succeeded",), order="paid"), accepted=1
    ),
    "payment and cancelation of an order": Rivals(
        lambda p: p.order(), _pay_order, lambda p, i: p.cancel_order(i), _OPEN
    ),
    "cancelation and payment of an order": Rivals(
        lambda p: p.order(), lambda p, i: p.cancel_order(i), _pay_order, _OPEN
    ),
    "cancel and the customer pays": Rivals(
        _waiting, lambda p, i: p.cancel(i), _customer_pays, _OPEN
    ),
    "replace and the customer pays": Rivals(
        _waiting_for_order, _pay_order, _customer_pays, _OPEN
    ),
    "verify and the provider's event": Rivals(
        _waiting, _comes_back, lambda p, _: p.world.run(horizon=1),
        Expected(("succeeded",)),
    ),
}  # fmt: skip


def play_rivals(
    rivals: Rivals, fault: Fault | None, prepare: Callable[[World], None] = lambda _: None
) -> tuple[list[Point], list[str]]:
    """The calls that ``one`` makes, and which promises are broken when ``other`` overtakes it at one of them."""
    with World(fault=fault) as world:
        prepare(world)
        play = Play(world)
        subject = rivals.stage(play)
        before = len(play.answers)

        def attempt(what: Callable[[Play, str], object]) -> None:
            with suppress(StateConflict, InvalidRequest, NotFoundError):  # a definite no is an answer
                what(play, subject)

        world.rival = lambda: attempt(rivals.other)
        play.arm()
        attempt(rivals.one)
        play.disarm()
        accepted = len(play.answers) - before
        if fault is None:
            attempt(rivals.other)
        world.run()
        problems = violations(play, rivals.expected)
        if fault is not None and rivals.accepted not in (None, accepted):
            problems.append(f"{accepted} requests were accepted, not {rivals.accepted}")
        return world.points, problems


@pytest.mark.parametrize("name", RIVALS)
def test_one_wins(name: str) -> None:
    rivals = RIVALS[name]
    points, problems = play_rivals(rivals, None)
    assert not problems, problems
    found = []
    for at, point in enumerate(points):
        _, problems = play_rivals(rivals, Fault(at, "rival"))
        if problems:
            found.append(f"{name}: overtaken before {point.call} ({at})\n    " + "\n    ".join(problems))
    assert not found, "\n".join(found)
