"""Every adapter against the bank, captures and voids: what is held is taken once, or let go."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from chalicelib.domain.outcome import Charge, ChargeStatus, Effect, EffectStatus, EventKind, NotSent, Unknown
from tests.contract.sandbox_world import AMOUNT, World, leads_to, ref
from tests.contract.test_adapters import LOST, WITH_EFFECT

if TYPE_CHECKING:
    from chalicelib.domain.outcome import EffectOutcome
    from chalicelib.providers.base import ChargeRef

CAPTURE = "op_01K0000000000000000000CAP1"
VOID = "op_01K0000000000000000000V0D1"


def _told(world: World, known: ChargeRef) -> list[ChargeStatus]:
    return [event.charge.status for event in world.heard(known) if event.charge]


def _succeeded(said: EffectOutcome) -> bool:
    """Whether an adapter has looked itself what became of a call whose answer got lost."""
    return isinstance(said, Effect) and said.status is EffectStatus.SUCCEEDED


def test_a_manual_payment_is_captured_later(world: World) -> None:
    paid = world.authorize()
    assert [row["status"] for row in world.truth()] == ["authorized"]
    assert world.look(ref(paid.made)).status is ChargeStatus.AUTHORIZED
    for _ in range(2):
        effect = world.take(paid.known, AMOUNT, CAPTURE)
        assert effect.status is EffectStatus.SUCCEEDED
        assert effect.amount in (AMOUNT, None)
        assert effect.currency in ("INR", None)
    assert [(row["status"], row["captured"]) for row in world.truth()] == [("captured", AMOUNT)]
    found = world.look(paid.known)
    assert (found.status, found.captured) == (ChargeStatus.SUCCEEDED, AMOUNT)


def test_an_authorization_and_its_capture_are_told_apart(world: World) -> None:
    paid = world.authorize()
    if "authorized" not in world.habits.silent:
        assert _told(world, paid.known) == [ChargeStatus.AUTHORIZED]
    world.take(paid.known, AMOUNT, CAPTURE)
    if "captured" not in world.habits.silent:
        assert _told(world, paid.known)[-1] is ChargeStatus.SUCCEEDED


def test_every_method_that_says_so_can_be_captured_later(world: World, kind: str) -> None:
    if kind not in world.can.manual_capture:
        pytest.skip(f"capabilities.manual_capture of {world.name} lacks {kind}")
    paid = world.pay(kind, capture="manual")
    assert (paid.charge.status, paid.charge.captured) == (ChargeStatus.AUTHORIZED, 0)
    assert world.take(paid.known, AMOUNT, CAPTURE).status is EffectStatus.SUCCEEDED


def test_a_capture_knows_the_charge_by_our_reference_alone(world: World) -> None:
    paid = world.authorize()
    assert world.take(ref(paid.made), AMOUNT, CAPTURE).status is EffectStatus.SUCCEEDED
    assert [(row["status"], row["captured"]) for row in world.truth()] == [("captured", AMOUNT)]


def test_a_partial_capture_releases_the_rest_or_is_refused(world: World) -> None:
    paid = world.authorize()
    if not world.can.partial_capture:
        effect = world.provider.capture(world.account, paid.known, AMOUNT - 100, CAPTURE)
        assert isinstance(effect, Effect)
        assert effect.status is EffectStatus.FAILED
        assert [row["status"] for row in world.truth()] == ["authorized"]
        return
    effect = world.take(paid.known, AMOUNT - 100, CAPTURE)
    assert effect.status is EffectStatus.SUCCEEDED
    assert effect.amount in (AMOUNT - 100, None)
    assert [(row["status"], row["captured"]) for row in world.truth()] == [("captured", AMOUNT - 100)]
    found = world.look(paid.known)
    assert (found.status, found.amount, found.captured) == (ChargeStatus.SUCCEEDED, AMOUNT, AMOUNT - 100)


@pytest.mark.parametrize("amount", [AMOUNT + 1, AMOUNT * 10])
def test_an_over_capture_fails(world: World, amount: int) -> None:
    paid = world.authorize()
    effect = world.provider.capture(world.account, paid.known, amount, CAPTURE)
    assert isinstance(effect, Effect)
    assert effect.status is EffectStatus.FAILED
    assert effect.error is not None
    assert [row["status"] for row in world.truth()] == ["authorized"]


@pytest.mark.parametrize("outcome", ["decline", "insufficient_funds"])
def test_a_charge_that_is_not_authorized_cannot_be_captured(world: World, outcome: str) -> None:
    paid = world.pay(world.manual_kind, outcome, capture="manual")
    effect = world.provider.capture(world.account, paid.known, AMOUNT, CAPTURE)
    assert isinstance(effect, Effect)
    assert effect.status is EffectStatus.FAILED
    assert effect.error is not None


@pytest.mark.parametrize("fault", LOST)
def test_a_lost_capture_is_unknown_and_a_repeat_captures_once(world: World, fault: str) -> None:
    paid = world.authorize()
    world.chaos(operation="capture", fault=fault)
    said = world.provider.capture(world.account, paid.known, AMOUNT, CAPTURE)
    happened = fault in WITH_EFFECT
    assert isinstance(said, Unknown) or (happened and _succeeded(said)), said
    assert world.look(paid.known).status is (ChargeStatus.SUCCEEDED if happened else ChargeStatus.AUTHORIZED)
    world.pass_time(21)
    assert world.take(paid.known, AMOUNT, CAPTURE).status is EffectStatus.SUCCEEDED
    assert [(row["status"], row["captured"]) for row in world.truth()] == [("captured", AMOUNT)]


def test_a_refused_capture_is_definite(world: World) -> None:
    paid = world.authorize()
    world.chaos(operation="capture", fault="decline")
    effect = world.provider.capture(world.account, paid.known, AMOUNT, CAPTURE)
    assert isinstance(effect, Effect)
    assert effect.status is EffectStatus.FAILED
    assert effect.error is not None
    assert [row["status"] for row in world.truth()] == ["authorized"]


def test_a_void_releases_the_authorization(world: World) -> None:
    paid = world.authorize()
    world.heard(paid.known)
    before = len(world.http.calls)
    effect = world.provider.void(world.account, paid.known, VOID)
    assert isinstance(effect, Effect)
    if world.can.void == "lapse":
        assert effect.status is EffectStatus.PENDING
        assert len(world.http.calls) == before
        world.pass_time(world.can.authorization_window + 1)
    else:
        assert effect.status in (EffectStatus.SUCCEEDED, EffectStatus.PENDING)
        again = world.provider.void(world.account, paid.known, VOID)
        assert isinstance(again, Effect)
        assert again.status in (EffectStatus.SUCCEEDED, EffectStatus.PENDING)
    found = world.look(paid.known)
    assert (found.status, found.captured, found.refunded) == (ChargeStatus.CANCELED, 0, 0)
    assert [row["status"] for row in world.truth()] == ["voided"]
    told = world.heard(paid.known)
    if world.can.void == "lapse" or "voided" not in world.habits.silent:
        assert leads_to(told[-1], paid.known)
        assert told[-1].kind is EventKind.CHARGE
        assert told[-1].charge is not None
        assert told[-1].charge.status is ChargeStatus.CANCELED
    late = world.provider.capture(world.account, paid.known, AMOUNT, CAPTURE)
    assert isinstance(late, Effect)
    assert late.status is EffectStatus.FAILED


@pytest.mark.parametrize("fault", LOST)
def test_a_lost_void_is_unknown_and_a_repeat_releases(world: World, fault: str) -> None:
    if world.can.void != "api":
        pytest.skip(f"capabilities.void of {world.name} is {world.can.void}")
    paid = world.authorize()
    world.chaos(operation="void", fault=fault)
    said = world.provider.void(world.account, paid.known, VOID)
    happened = fault in WITH_EFFECT
    assert isinstance(said, Unknown) or (happened and _succeeded(said)), said
    assert world.look(paid.known).status is (ChargeStatus.CANCELED if happened else ChargeStatus.AUTHORIZED)
    world.pass_time(21)
    effect = world.provider.void(world.account, paid.known, VOID)
    assert isinstance(effect, Effect)
    assert effect.status in (EffectStatus.SUCCEEDED, EffectStatus.PENDING)
    assert world.look(paid.known).status is ChargeStatus.CANCELED
    assert [row["status"] for row in world.truth()] == ["voided"]


def test_a_captured_charge_cannot_be_voided(world: World) -> None:
    paid = world.authorize()
    world.take(paid.known, AMOUNT, CAPTURE)
    effect = world.provider.void(world.account, paid.known, VOID)
    assert isinstance(effect, Effect)
    assert effect.status is (EffectStatus.PENDING if world.can.void == "lapse" else EffectStatus.FAILED)
    assert [(row["status"], row["captured"], row["refunded"]) for row in world.truth()] == [("captured", AMOUNT, 0)]


def test_an_authorization_that_nobody_captures_is_released(world: World) -> None:
    paid = world.authorize()
    assert world.root("POST", "/_dashboard/release", provider=world.name, reference=paid.made.reference).status == 200
    found = world.look(paid.known)
    assert (found.status, found.captured) == (ChargeStatus.CANCELED, 0)
    late = world.provider.capture(world.account, paid.known, AMOUNT, CAPTURE)
    assert isinstance(late, Effect)
    assert late.status is EffectStatus.FAILED


def test_a_capture_in_the_providers_dashboard_is_told(world: World) -> None:
    paid = world.authorize()
    world.heard(paid.known)
    assert world.root("POST", "/_dashboard/capture", provider=world.name, reference=paid.made.reference).status == 200
    if "captured" not in world.habits.silent:
        told = world.heard(paid.known)[-1]
        assert leads_to(told, paid.known)
        assert told.charge is not None
        assert (told.charge.status, told.charge.captured) == (ChargeStatus.SUCCEEDED, AMOUNT)
    assert world.take(paid.known, AMOUNT, CAPTURE).status is EffectStatus.SUCCEEDED
    assert [(row["status"], row["captured"]) for row in world.truth()] == [("captured", AMOUNT)]


def test_a_capture_of_what_cannot_be_looked_up_is_not_sent(world: World) -> None:
    """Without the provider's own id the charge has to be found first, and then nothing has been sent yet."""
    paid = world.authorize()
    world.chaos(maintenance=True)
    outcome = world.provider.capture(world.account, ref(paid.made), AMOUNT, CAPTURE)
    assert isinstance(outcome, NotSent | Unknown)
    world.chaos(maintenance=False)
    assert world.look(paid.known).status is ChargeStatus.AUTHORIZED


def test_every_authorization_says_so_on_the_look_up(world: World) -> None:
    paid = world.authorize()
    found = world.provider.fetch(world.account, paid.known)
    assert isinstance(found, Charge)
    world.agrees(paid.made, found)
    assert found.amount == AMOUNT
