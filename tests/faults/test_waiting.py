"""What waits for days costs next to nothing: it is looked at ever less often, or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults.play import AMOUNT, Play
from tests.support.world import World

if TYPE_CHECKING:
    from collections.abc import Callable

_DAY = 86_400.0


def _authorized_for_an_overdue_order(play: Play) -> None:
    play.create(capture="manual", order_id=play.order(ttl=600))


def _refund_the_bank_sits_on(play: Play) -> None:
    payment_id = play.create()
    play.settle()
    play.chaos(provider="simulator", operation="refund", fault="slow")
    play.chaos(slow_seconds=4 * _DAY)
    play.refund(payment_id, AMOUNT // 2)


def _canceled_where_authorizations_lapse(play: Play) -> None:
    payment_id = play.create(amount=1_500_000, capture="manual")
    play.settle()
    play.cancel(payment_id)


@pytest.mark.parametrize(
    "wait", [_authorized_for_an_overdue_order, _refund_the_bank_sits_on, _canceled_where_authorizations_lapse]
)
def test_three_days_of_waiting(wait: Callable[[Play], None]) -> None:
    with World() as world:
        play = Play(world)
        play.chaos(release_after=10 * _DAY)
        wait(play)
        play.settle(3600)
        play.arm()
        play.settle(3 * _DAY)
        operated = [point for point in world.points if point.where == "operate"]
        assert len({point.invocation for point in operated}) < 25
