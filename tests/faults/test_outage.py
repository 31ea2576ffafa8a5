"""Providers' health through the real handlers: an outage is left and forgiven, and nothing depends on knowing of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from pynamodb.exceptions import GetError

from chalicelib.domain.breaker import PERMITS, Breaker, Status
from chalicelib.domain.risk import RiskRules
from chalicelib.services import health, payments
from chalicelib.storage.health import Health, Reading, Unavailable, breaker_row
from tests.faults.play import Play
from tests.support import aws
from tests.support.world import TENANT, World

if TYPE_CHECKING:
    from collections.abc import Iterator

UPI = ("simulator", "upi")


@pytest.fixture
def world() -> Iterator[World]:
    with World() as world:
        # One customer pays all the time here: limits for a person would send them to review.
        world.bring_merchant(replace(world.merchant(), risk=RiskRules(limits=())))
        yield world


def pay(play: Play, outcome: str = "success") -> str:
    """One payment, until it is quiet; returns where it ended: the account or why nowhere."""
    payment_id = play.create(outcome)
    play.settle(3)
    state = payments.state(play.world.kit, TENANT, payment_id)
    won = state.attempt(state.payment.winning_attempt)
    return won.account if won else str(state.payment.error.code if state.payment.error else state.payment.status)


def reading(world: World) -> Reading:
    return world.kit.health.read(TENANT, ["acct_simulator", "acct_razorpay"], [UPI], consistent=True)


def status(world: World) -> Status:
    return reading(world).breakers[UPI].status


def test_an_outage_opens_the_breaker_payments_go_elsewhere_and_recovery_closes_it(world: World) -> None:
    play = Play(world)
    assert pay(play) == "acct_simulator"
    play.chaos(provider="simulator", refuse_connections=10_000)
    began, tried = world.clock.time, 0
    while status(world) is Status.CLOSED:
        assert pay(play) == "acct_razorpay"  # by failing over
        tried += 1
        assert tried < 60
        world.clock.time += 0.1
    assert world.clock.time - began < 60
    world.clock.time += 2  # what this environment remembers is over
    payment_id = play.create()
    play.settle(3)
    (only,) = payments.state(world.kit, TENANT, payment_id).attempts
    route: Any = only.route
    assert (only.account, route["breakers"]) == ("acct_razorpay", {"simulator": "open"})
    assert route["skipped"]["acct_simulator"].startswith("its breaker is open: ")
    assert "acct_simulator and acct_simulator_b had to wait" in route["reason"]

    world.clock.time += 30  # still down: one payment finds out, and goes elsewhere
    assert pay(play) == "acct_razorpay"
    assert status(world) is Status.OPEN

    play.chaos(provider="simulator", refuse_connections=0)
    world.clock.time += 32
    assert pay(play) == "acct_simulator"
    assert status(world) is Status.HALF_OPEN
    for _ in range(4):
        world.clock.time += 2
        assert pay(play) == "acct_simulator"
    assert status(world) is Status.CLOSED
    world.clock.time += 2
    assert pay(play) == "acct_simulator"


def test_each_outcome_is_learned_once_however_often_its_event_comes(world: World) -> None:
    play = Play(world)
    for outcome, successes, failures in (("success", 1, 0), ("decline", 1, 1)):
        pay(play, outcome)
        tally = reading(world).tallies["acct_simulator"][""]
        assert (round(tally.successes), round(tally.failures)) == (successes, failures)
    before = reading(world)
    for row in world.dynamo.tables[f"{aws.PREFIX}-payments"].items():
        if row["sk"]["S"].startswith("evt#"):
            world.stream.append({"eventName": "INSERT", "dynamodb": {"NewImage": row}})
    play.settle(3)
    assert reading(world) == before
    bucket = before.breakers[UPI].buckets[-1]
    assert (bucket.ok, bucket.failed) == (2, 0)  # the bank said no: the provider works


@pytest.mark.parametrize("outcome", ["timeout_after", "timeout_before"])
def test_a_time_out_is_one_failure_of_the_provider(world: World, outcome: str) -> None:
    play = Play(world)
    play.create(outcome)
    play.settle()
    found = reading(world)
    buckets = found.breakers[UPI].buckets
    assert sum(bucket.failed for bucket in buckets) == 1
    tally = found.tallies["acct_simulator"][""]
    assert round(tally.failures, 1) == 1
    assert round(tally.successes) == 1  # as was found out, or done, by the repeat under the same key


def hold(world: World, breaker: Breaker) -> None:
    """Let the simulator's breaker be that one."""
    before = world.kit.health.breaker("test", *UPI)
    assert world.kit.health.put(breaker_row("test", *UPI, replace(breaker, version=before.version + 1), before))


def test_that_a_customer_is_waited_for_tells_a_half_open_breaker_and_no_other(world: World) -> None:
    play = Play(world)
    assert pay(play, "action") == "requires_action"
    assert UPI not in reading(world).breakers
    hold(world, Breaker(Status.HALF_OPEN, world.clock()))
    world.clock.time += 2
    assert pay(play, "action") == "requires_action"
    breaker = reading(world).breakers[UPI]
    assert (breaker.status, breaker.successes, breaker.permits) == (Status.HALF_OPEN, 1, ())
    assert not reading(world).tallies  # nobody has paid or not paid yet


def test_who_gets_no_permit_goes_to_the_next_account(world: World) -> None:
    now = world.clock()
    hold(world, Breaker(Status.HALF_OPEN, now))
    world.kit.health.cached(TENANT, [], [(name, "upi") for name in _providers(world)])  # remembered for two seconds
    hold(world, Breaker(Status.HALF_OPEN, now, permits=(now,) * PERMITS))
    play = Play(world)
    assert pay(play) == "acct_razorpay"
    (attempt,) = payments.state(world.kit, TENANT, play.payment_ids[-1]).attempts
    skipped: Any = attempt.route["skipped"]
    assert skipped["acct_simulator"] == "is being tried again with a few calls, and this was not one of them"
    assert len(reading(world).breakers[UPI].permits) == PERMITS


def _providers(world: World) -> list[str]:
    return list(dict.fromkeys(account.provider for account in world.merchant().accounts))


def test_when_all_breakers_are_open_a_payment_fails_at_once_and_may_be_tried_again(world: World) -> None:
    for provider in _providers(world):
        opened = Breaker(Status.OPEN, world.clock(), "down", cools_until=world.clock() + timedelta(days=1), version=1)
        assert world.kit.health.put(breaker_row("test", provider, "upi", opened, Breaker()))
    play = Play(world)
    assert pay(play) == "provider_unavailable"
    assert not payments.state(world.kit, TENANT, play.payment_ids[-1]).attempts


class _Failing(Health):
    """Its table answers nothing but errors."""

    def read(self, *_: Any, **__: Any) -> Reading:
        raise Unavailable from GetError("down")

    def breaker(self, *_: Any) -> Any:
        raise Unavailable

    def put(self, *_: Any) -> bool:
        raise Unavailable


def test_with_its_store_failing_payments_go_on_and_their_decisions_say_so(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.bring(replace(world.kit, health=_Failing(aws.PREFIX, world.clock, 2.0)))
    play = Play(world)
    payment_id = play.create()
    play.settle(3)
    state = payments.state(world.kit, TENANT, payment_id)
    assert (state.payment.status, state.attempts[0].account) == ("succeeded", "acct_simulator")
    assert state.attempts[0].route["without"] == "scores and breakers: they could not be read"
    assert "scores and breakers cannot be read" in caplog.text
    day = state.payment.created_at.date()
    counted = world.kit.queries.totals(TENANT, f"day/{day}")
    assert counted["payment.succeeded"] == 1  # the books do not wait for the scores


def test_with_its_store_failing_a_permit_is_not_needed(world: World, caplog: pytest.LogCaptureFixture) -> None:
    kit = replace(world.kit, health=_Failing(aws.PREFIX, world.clock, 2.0))
    assert health.admit(kit, "test", "simulator", "upi", kit.now())
    assert "cannot be read" in caplog.text


class _Contended(Health):
    """Somebody else always writes first."""

    def read(self, *args: Any, **kwargs: Any) -> Reading:
        found = super().read(*args, **kwargs)
        return replace(found, versions=dict.fromkeys(found.versions, 99) or {"acct_simulator": 99})


def test_an_outcome_whose_rows_are_contended_is_counted_all_the_same(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("WARNING", logger="railyard")
    world.bring(replace(world.kit, health=_Contended(aws.PREFIX, world.clock, 2.0)))
    play = Play(world)
    assert pay(play) == "acct_simulator"
    day = world.clock().date()
    assert world.kit.queries.totals(TENANT, f"day/{day}")["payment.succeeded"] == 1
    assert "counted, but not learned from" in caplog.text
    assert not reading(world).tallies
