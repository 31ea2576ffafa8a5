"""Every adapter against the bank, charges: what it says must be what the bank's own record shows.

The other parts of the same contract are in test_adapters_*.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from chalicelib.domain.errors import ErrorClass, ErrorCode
from chalicelib.domain.outcome import Charge, ChargeStatus, EventKind, NotFound, NotSent, Unknown
from tests.contract.browser import Page
from tests.contract.habits import DECLINES, instrument, method_of
from tests.contract.sandbox_world import AMOUNT, World, intent, leads_to, ref

if TYPE_CHECKING:
    from chalicelib.providers.base import ChargeIntent

LOST = ("timeout_before", "timeout_after", "slow", "technical", "technical_after", "maintenance", "html", "truncated")
WITH_EFFECT = {"timeout_after", "technical_after", "html", "truncated"}


def test_a_payment_is_taken(world: World, kind: str) -> None:
    paid = world.pay(kind)
    charge = paid.charge
    assert (charge.status, charge.amount, charge.currency, charge.captured) == ("succeeded", AMOUNT, "INR", AMOUNT)
    assert charge.exchange is not None
    assert charge.exchange.http_status in (200, 201)
    assert [(row["reference"], row["status"], row["captured"]) for row in world.truth()] == [
        (paid.made.reference, "captured", AMOUNT)
    ]
    for known in (ref(paid.made), ref(paid.made, paid.said), paid.known):
        found = world.look(known)
        assert (found.status, found.provider_reference) == (ChargeStatus.SUCCEEDED, charge.provider_reference)
    told = world.heard(paid.known)[-1]
    assert told.kind is EventKind.CHARGE
    assert leads_to(told, ref(paid.made, paid.said))
    assert told.charge is not None
    assert (told.charge.status, told.charge.amount) == (ChargeStatus.SUCCEEDED, AMOUNT)
    assert told.charge.currency in ("INR", None)


def test_a_plain_instrument_is_charged_like_one_that_asks_for_it(world: World, kind: str) -> None:
    for number, outcome in enumerate((None, "success")):
        charge = world.pay(kind, outcome, number=number).charge
        assert (charge.status, charge.captured) == (ChargeStatus.SUCCEEDED, AMOUNT)


@pytest.mark.parametrize("amount", [10_000, 100_001, 99_999_999])
def test_amounts_are_exact_both_ways(world: World, amount: int) -> None:
    amount = min(amount, world.can.max_amount)
    paid = world.pay(amount=amount)
    assert (paid.charge.amount, paid.charge.captured) == (amount, amount)
    assert [(row["amount"], row["captured"]) for row in world.truth()] == [(amount, amount)]


def test_every_currency_is_exact(world: World) -> None:
    kind = "card" if "card" in world.can.methods else world.kind
    for number, currency in enumerate(sorted(world.can.currencies)):
        made = world.intent(kind, number=number, amount=123_450, currency=currency)
        charge = world.charge(made)
        if kind in world.habits.page:
            world.choose(charge, "approve", instrument(kind, "success"))
            charge = world.look(ref(made, charge))
        assert (charge.amount, charge.currency, charge.captured) == (123_450, currency, 123_450)
        effect = world.give_back(ref(made, charge), 123_450, f"rf_01K000000000000000000CUR{number:02d}")
        assert (effect.amount, effect.currency) == (123_450, currency)


@pytest.mark.parametrize("outcome", DECLINES)
def test_a_decline_is_definite_and_classified(world: World, kind: str, outcome: str) -> None:
    paid = world.pay(kind, outcome)
    for said in (paid.charge, world.look(ref(paid.made))):
        assert said.status is ChargeStatus.DECLINED
        assert said.error is not None
        assert (said.error.error_class, said.error.code) == DECLINES[outcome]
        assert said.error.provider_code
    assert [row["status"] for row in world.truth()] == ["failed"]
    told = [event.charge.status for event in world.heard(paid.known) if event.charge]
    assert told == ([] if "failed" in world.habits.silent else [ChargeStatus.DECLINED])


def test_a_payment_that_the_provider_does_not_take_was_not_sent(world: World) -> None:
    outcome = world.provider.create(world.account, world.intent(world.server_kind, "not_accepted"))
    assert isinstance(outcome, NotSent)
    assert outcome.error.code is ErrorCode.NOT_ACCEPTED
    assert outcome.error.error_class in (ErrorClass.CONFIG, ErrorClass.PROVIDER_UNAVAILABLE)  # another one may take it
    assert world.truth() == []


def test_a_refused_connection_was_not_sent(world: World, kind: str) -> None:
    if not world.asks(kind):
        pytest.skip(f"habits.opens of {world.name} is empty: create asks no server")
    world.chaos(refuse_connections=1)
    outcome = world.provider.create(world.account, world.intent(kind))
    assert isinstance(outcome, NotSent)
    assert outcome.error.error_class is ErrorClass.PROVIDER_UNAVAILABLE
    world.pass_time(60)
    assert world.truth() == []
    assert world.pay(kind).charge.status is ChargeStatus.SUCCEEDED


def test_an_amount_above_the_limit_is_refused_for_good(world: World) -> None:
    kind = world.server_kind
    world.bank.settings[world.name].max_amount = AMOUNT - 1
    charge = world.charge(world.intent(kind))
    assert charge.status is ChargeStatus.DECLINED
    assert charge.error is not None
    assert charge.error.error_class is ErrorClass.INVALID_REQUEST
    assert world.truth() == []


@pytest.mark.parametrize("fault", LOST)
def test_whatever_a_lost_create_did_is_found_and_never_doubled(world: World, kind: str, fault: str) -> None:
    if not world.asks(kind):
        pytest.skip(f"habits.opens of {world.name} is empty: create asks no server")
    for number, operation in enumerate(world.asks(kind)):
        _lose(world, world.intent(kind, number=number), operation, fault)


def _lose(world: World, made: ChargeIntent, operation: str, fault: str) -> None:
    """Lose one of the requests that create makes, and see that the truth comes out."""
    kind = made.method["type"]
    charges = kind not in world.habits.page and operation == world.asks(kind)[-1]
    world.chaos(operation=operation, fault=fault)
    said = world.provider.create(world.account, made)
    world.agrees(made, said)
    if charges:
        assert isinstance(said, Unknown) or (fault in WITH_EFFECT and isinstance(said, Charge)), said
    world.pass_time(world.can.settle_window)
    found = world.provider.fetch(world.account, ref(made, said))
    world.agrees(made, found)
    happened = fault in WITH_EFFECT | {"slow"}
    if charges:
        assert isinstance(found, Charge if happened else NotFound)
        assert bool(world.truth(made.reference)) is happened
    elif isinstance(said, NotSent):
        assert not world.truth(made.reference)
    if world.can.idempotency_window:
        again = world.provider.create(world.account, made)
        world.agrees(made, again)
        assert isinstance(again, Charge), again


def test_a_slow_charge_appears_within_the_settle_window_and_once(world: World) -> None:
    kind = world.server_kind
    world.chaos(operation="create", fault="slow")
    made = world.intent(kind)
    assert isinstance(world.provider.create(world.account, made), Unknown)
    if world.can.idempotency_window:
        assert isinstance(world.provider.create(world.account, made), Unknown)  # still running
    world.pass_time(19)
    assert isinstance(world.provider.fetch(world.account, ref(made)), NotFound | Unknown)
    world.pass_time(2)
    assert world.can.settle_window > 21
    found = world.look(ref(made))
    assert found.status is ChargeStatus.SUCCEEDED
    if world.can.idempotency_window:
        assert world.charge(made).provider_reference == found.provider_reference
    assert len(world.truth()) == 1


def test_one_reference_is_charged_once(world: World) -> None:
    if not world.can.idempotency_window:
        pytest.skip(f"capabilities.idempotency_window of {world.name} is 0: it is never sent twice")
    for number, outcome in enumerate(("success", "decline", "pending_success")):
        made = world.intent(world.server_kind, outcome, number=number)
        first, again = world.charge(made), world.charge(made)
        assert (again.status, again.provider_reference) == (first.status, first.provider_reference)
        assert len(world.truth(made.reference)) == 1
    assert len({world.charge(world.intent(number=n)).provider_reference for n in range(10, 13)}) == 3


@pytest.mark.parametrize(
    ("outcome", "status"),
    [("pending_success", ChargeStatus.SUCCEEDED), ("pending_failure", ChargeStatus.DECLINED)],
)
def test_a_pending_charge_is_decided_later_and_told(
    world: World, coded_kind: str, outcome: str, status: ChargeStatus
) -> None:
    paid = world.pay(coded_kind, outcome)
    assert paid.charge.status is ChargeStatus.PENDING
    assert world.heard(paid.known, 1.9) == []
    told = world.heard(paid.known)
    if status is ChargeStatus.SUCCEEDED or "failed" not in world.habits.silent:
        assert leads_to(told[-1], ref(paid.made, paid.said))
        assert told[-1].charge is not None
        assert told[-1].charge.status is status
    assert world.look(paid.known).status is status


def test_a_late_success_is_first_reported_failed(world: World, coded_kind: str) -> None:
    paid = world.pay(coded_kind, "late_success")
    assert paid.charge.status is ChargeStatus.DECLINED
    assert [row["status"] for row in world.truth()] == ["failed"]
    world.heard(paid.known)
    told = world.heard(paid.known, 5)[-1]
    assert leads_to(told, ref(paid.made, paid.said))
    assert told.charge is not None
    assert (told.charge.status, told.charge.captured) == (ChargeStatus.SUCCEEDED, AMOUNT)
    assert world.look(paid.known).status is ChargeStatus.SUCCEEDED
    assert [row["status"] for row in world.truth()] == ["captured"]


def test_a_upi_link_is_an_action_that_the_imagined_customer_takes(world: World) -> None:
    if "upi" not in world.can.methods - world.habits.page:
        pytest.skip(f"capabilities.methods of {world.name} lacks upi, or habits.page takes it")
    made = intent(method={"type": "upi", "flow": "intent"})
    said = world.charge(made)
    assert said.status is ChargeStatus.ACTION_REQUIRED
    assert said.next_action is not None
    if said.next_action["type"] == "redirect":
        assert isinstance(world.browser.get(str(said.next_action["url"])), Page)  # it shows the link as a code
    else:
        assert str(said.next_action["uri"]).startswith("upi://pay?")
    told = world.heard(ref(made, said), 3)[-1]
    assert told.charge is not None
    assert told.charge.status is ChargeStatus.SUCCEEDED


def test_nothing_is_known_of_what_was_never_made(world: World) -> None:
    assert isinstance(world.provider.fetch(world.account, ref(world.intent(number=9))), NotFound)
    world.pay(number=8)
    assert isinstance(world.provider.fetch(world.account, ref(world.intent(number=9))), NotFound)


def test_every_method_of_the_api_can_be_asked_for(world: World) -> None:
    assert world.can.methods <= {method_of(kind, None)["type"] for kind in ("upi", "netbanking", "wallet", "card")}
    assert world.can.manual_capture <= world.can.methods
    assert world.can.min_amount <= AMOUNT <= world.can.max_amount
    assert "INR" in world.can.currencies
