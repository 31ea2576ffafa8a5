"""A provider that says when to come back is called no sooner, and nobody waits for it longer than they may."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from chalicelib.domain.errors import ErrorClass
from chalicelib.domain.retrying import LONGEST_WAIT, NOT_SENT, Again, RetryPolicy
from chalicelib.domain.routing_rules import RoutingSettings, Rule
from chalicelib.domain.states import AttemptStatus, PaymentStatus
from chalicelib.services import payments
from tests.faults import checker
from tests.faults.evidence import Expected
from tests.faults.play import Play
from tests.support.world import TENANT, World

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chalicelib.domain.model import PaymentState


@pytest.fixture
def world() -> Iterator[World]:
    with World() as world:
        yield world


def only(world: World, *accounts: str, **policy: Any) -> Play:
    """Go on with these accounts and this policy."""
    rules = [Rule("only", accounts)]
    world.bring_merchant(replace(world.merchant(), routing=RoutingSettings(rules, retry=RetryPolicy(**policy))))
    return Play(world)


def busy(play: Play, seconds: int, times: int = 1, provider: str = "simulator") -> None:
    """The next charges there are a 429 that asks for so many seconds."""
    play.chaos(provider=provider, retry_after=seconds, operation="create", fault="rate_limited", times=times)


def state(world: World, payment_id: str) -> PaymentState:
    return payments.state(world.kit, TENANT, payment_id)


def gap(found: PaymentState) -> float:
    """Seconds between the first two attempts."""
    first, second, *_ = found.attempts
    return (second.created_at - first.created_at).total_seconds()


def test_the_only_provider_is_called_again_when_it_said_and_the_payment_succeeds(world: World) -> None:
    play = only(world, "acct_simulator")
    busy(play, 30)
    payment_id = play.create()
    world.run(horizon=20)
    waiting = state(world, payment_id)
    assert (waiting.payment.status, len(waiting.attempts)) == (PaymentStatus.PROCESSING, 1)
    assert waiting.payment.due_at is not None
    assert waiting.attempts[0].retry_at is not None
    assert waiting.payment.due_at > waiting.attempts[0].retry_at  # the sweeper does not come sooner
    play.settle(600)
    found = state(world, payment_id)
    assert (found.payment.status, len(found.attempts)) == (PaymentStatus.SUCCEEDED, 2)
    assert 30 <= gap(found) < 32
    assert found.payment.run == 1  # the workflow waited; nobody had to start it again
    assert not checker.violations(play, Expected(("succeeded",)))


def test_another_provider_is_not_made_to_wait(world: World) -> None:
    play = only(world, "acct_simulator", "acct_razorpay")
    busy(play, 30)
    payment_id = play.create()
    play.settle(600)
    found = state(world, payment_id)
    assert [attempt.account for attempt in found.attempts] == ["acct_simulator", "acct_razorpay"]
    assert gap(found) < 5
    skipped: Any = found.attempts[1].route["skipped"]
    assert skipped["acct_simulator"].startswith("asked us to wait until ")
    assert found.payment.status is PaymentStatus.SUCCEEDED


def test_when_both_are_busy_the_one_that_is_ready_first_is_waited_for(world: World) -> None:
    play = only(world, "acct_simulator", "acct_razorpay")
    busy(play, 200)
    busy(play, 40, provider="razorpay")
    play.chaos(provider="razorpay", operation="order", fault="rate_limited")
    payment_id = play.create()
    play.settle(600)
    found = state(world, payment_id)
    assert [attempt.account for attempt in found.attempts] == ["acct_simulator", "acct_razorpay", "acct_razorpay"]
    waited = (found.attempts[2].created_at - found.attempts[1].created_at).total_seconds()
    assert 40 <= waited < 42


@pytest.mark.parametrize("asked", [int(LONGEST_WAIT) + 1, 3600, 86_400])
def test_a_provider_that_asks_for_too_long_does_not_hold_the_payment(world: World, asked: int) -> None:
    play = only(world, "acct_simulator")
    busy(play, asked)
    payment_id = play.create()
    began = world.clock.time
    world.run(horizon=5)
    found = state(world, payment_id)
    assert found.payment.status is PaymentStatus.FAILED
    assert found.payment.error is not None
    assert (found.payment.error.code, len(found.attempts)) == ("rate_limited", 1)
    assert world.clock.time - began < 5


def test_a_provider_that_stays_busy_is_given_up_after_all_attempts(world: World) -> None:
    play = only(world, "acct_simulator")
    busy(play, 10, times=9)
    payment_id = play.create()
    play.settle(600)
    found = state(world, payment_id)
    assert (found.payment.status, len(found.attempts)) == (PaymentStatus.FAILED, 3)


def test_no_attempt_begins_after_the_policys_time(world: World) -> None:
    play = only(world, "acct_simulator", max_seconds=25)
    busy(play, 20, times=9)
    payment_id = play.create()
    play.settle(600)
    found = state(world, payment_id)
    assert (found.payment.status, len(found.attempts)) == (PaymentStatus.FAILED, 2)


def test_when_the_workflow_dies_while_it_waits_the_sweeper_goes_on_after_the_wait(world: World) -> None:
    play = only(world, "acct_simulator")
    busy(play, 60)
    payment_id = play.create()
    world.run(horizon=5)
    for execution in world.executions.values():
        execution.status = "FAILED"
    play.settle(600)
    found = state(world, payment_id)
    assert found.payment.status is PaymentStatus.SUCCEEDED
    assert found.payment.run == 2
    assert gap(found) >= 60
    assert not checker.violations(play, Expected(("succeeded",)))


def test_a_run_that_comes_too_early_waits_too_and_moves_the_lease(world: World) -> None:
    play = only(world, "acct_simulator")
    busy(play, 100)
    payment_id = play.create()
    world.run(horizon=5)
    payments.resume(world.kit, state(world, payment_id), "test")  # its lease is 12 seconds
    play.settle(600)
    found = state(world, payment_id)
    assert (found.payment.status, len(found.attempts), found.payment.run) == (PaymentStatus.SUCCEEDED, 2, 2)
    assert gap(found) >= 100
    assert not checker.violations(play, Expected(("succeeded",)))


def test_a_merchant_may_cancel_while_a_provider_is_waited_for(world: World) -> None:
    play = only(world, "acct_simulator")
    busy(play, 60)
    payment_id = play.create()
    world.run(horizon=5)
    play.cancel(payment_id)
    play.settle(600)
    found = state(world, payment_id)
    assert (found.payment.status, len(found.attempts)) == (PaymentStatus.CANCELED, 1)


def test_the_policy_of_the_merchant_decides_and_not_the_default(world: World) -> None:
    play = only(world, "acct_simulator", max_attempts=1)
    busy(play, 1)
    payment_id = play.create()
    play.settle(600)
    found = state(world, payment_id)
    assert (found.payment.status, len(found.attempts)) == (PaymentStatus.FAILED, 1)


def test_a_lost_charge_stays_unknown_while_its_provider_is_busy_and_is_never_made_again(world: World) -> None:
    play = only(world, "acct_simulator", "acct_razorpay")
    play.chaos(provider="simulator", operation="create", fault="timeout_after", webhooks={"drop_rate": 1.0})
    busy(play, 10)  # the repeat under the same key is a 429, which says nothing about the first
    payment_id = play.create()
    world.run(horizon=18)
    unsure = state(world, payment_id)
    assert [attempt.status for attempt in unsure.attempts] == [AttemptStatus.UNKNOWN]
    assert unsure.attempts[0].retry_at is not None
    play.settle(600)
    found = state(world, payment_id)
    assert (found.payment.status, len(found.attempts)) == (PaymentStatus.SUCCEEDED, 1)
    assert not checker.violations(play, Expected(("succeeded",)))


LOOSEST = RetryPolicy(
    max_attempts=5, max_providers=4, max_seconds=3600,
    classes={kind: Again(same_provider=True, other_provider=True) for kind in [NOT_SENT, *ErrorClass]},
)  # fmt: skip


@pytest.mark.parametrize(
    "outcome",
    ["decline", "insufficient_funds", "technical", "timeout_after", "timeout_before", "slow_charge", "pending_success"],
)
def test_the_loosest_policy_there_could_be_keeps_one_charge(world: World, outcome: str) -> None:
    merchant = world.merchant()
    world.bring_merchant(replace(merchant, routing=replace(merchant.routing, retry=LOOSEST)))
    play = Play(world)
    play.create(outcome)
    play.settle()
    final = frozenset({"succeeded", "failed"})
    problems = checker.violations(play, Expected((final,), charges=5 if outcome == "technical" else 1))
    assert not problems
