"""Five events of one payment, in all 120 orders, every one of them doubled: one final state, one set of books.

Everything the events tell of has happened at the provider before the first of them arrives, and nobody
asks the provider by himself: what we know we know from the events, in whatever order they come.
"""

from __future__ import annotations

import json
from itertools import permutations
from typing import TYPE_CHECKING, Any

import pytest

from tests.faults.checker import violations
from tests.faults.evidence import Evidence, Expected
from tests.faults.play import AMOUNT, PREMIUM, Play
from tests.support.world import World

if TYPE_CHECKING:
    from collections.abc import Callable

    from infra.sandbox.outbox import Webhook

_LATER = 30.0  # seconds in which all of it happens at the provider


def _unanswered(play: Play, provider: str, outcome: str, amount: int, capture: Any = "automatic") -> str:
    """A payment whose charge was made and whose answer was lost; then the provider goes on by itself."""
    world = play.world
    play.chaos(provider=provider, operation="create", fault="timeout_after")
    payment_id = play.create(outcome, amount, capture=capture)
    while world.turn():
        pass
    assert play.charge(payment_id)
    world.clock.time += _LATER
    world.bank.run_due(world.clock.time)
    return payment_id


def _captured_and_refunded(play: Play) -> None:
    """authorized, succeeded, refund.created, refund.succeeded, refund.returned."""
    payment_id = _unanswered(play, "simulator", "success", AMOUNT, "manual")
    play.dashboard("capture", "simulator", payment_id)
    play.dashboard("refund", "simulator", payment_id, amount=40_000)
    play.dashboard("return_refund", "simulator", payment_id)


def _failed_and_captured_late(play: Play) -> None:
    """failed, authorized, captured, refund.processed, refund.processed."""
    payment_id = _unanswered(play, "razorpay", "late_success", PREMIUM)
    play.dashboard("refund", "razorpay", payment_id, amount=40_000)
    play.dashboard("refund", "razorpay", payment_id, amount=30_000)


def _failed_and_held_late(play: Play) -> None:
    """failed, authorized, captured, refund.processed, refund.processed; captured by hand."""
    payment_id = _unanswered(play, "razorpay", "late_success", PREMIUM, "manual")
    play.dashboard("capture", "razorpay", payment_id)
    play.dashboard("refund", "razorpay", payment_id, amount=40_000)
    play.dashboard("refund", "razorpay", payment_id, amount=30_000)


STORIES: dict[str, tuple[Callable[[Play], None], Expected]] = {
    "captured and refunded": (_captured_and_refunded, Expected(("succeeded",))),
    "failed, then captured late": (_failed_and_captured_late, Expected(("succeeded",), refunded=(70_000,))),
    "failed, then held late": (_failed_and_held_late, Expected(("succeeded",), refunded=(70_000,))),
}


def _known(play: Play) -> tuple[Any, ...]:
    """The payment as stored, without ids and times."""
    (payment,) = Evidence(play, Expected(None)).payments.values()
    row = payment.row
    amounts = tuple(row[f"amount_{name}"] for name in ("authorized", "captured", "refundable", "refunding", "refunded"))
    attempts = sorted(attempt["status"] for attempt in payment.attempts)
    operations = sorted((o["type"], o["status"], o["amount"]) for o in payment.operations)
    journals = sorted((j["type"], json.loads(j["legs"])) for j in payment.journals)
    return row["status"], amounts, attempts, operations, journals


def _tell(play: Play, webhook: Webhook) -> None:
    """An event arrives and is taken in; nothing else happens."""
    world = play.world
    world.hooks = [webhook]
    world._post(webhook)
    for message in list(world.queues["provider-events"]):
        world._consume("provider-events", message)
    assert not world.queues["provider-events"]


@pytest.mark.parametrize("story", STORIES)
def test_all_orders_converge(story: str) -> None:
    happen, expected = STORIES[story]
    seen: dict[tuple[Any, ...], tuple[int, ...]] = {}
    for order in permutations(range(5)):
        with World(discarded=frozenset({"notifications", "projections"})) as world:
            play = Play(world)
            happen(play)
            webhooks = world.bank.take_webhooks(world.clock.time + 1)
            assert len(webhooks) == len(order), [webhook.type for webhook in webhooks]
            for number in order:
                _tell(play, webhooks[number])
                _tell(play, webhooks[number])
            for number in order:  # and all of them once more
                _tell(play, webhooks[number])
            seen.setdefault(repr(_known(play)), order)  # type: ignore[arg-type]
            play.settle()
            problems = violations(play, expected)
            assert not problems, "\n".join([", ".join(webhooks[n].type for n in order), *problems])
            seen.setdefault(repr(_known(play)), order)  # type: ignore[arg-type]
    assert len(seen) == 1, "\n".join(f"{order}: {state}" for state, order in seen.items())
