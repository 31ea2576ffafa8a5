"""Every adapter against the bank, refunds: given back once, found again, and never more than was taken."""

from __future__ import annotations

import pytest

from chalicelib.domain.errors import ErrorClass
from chalicelib.domain.outcome import ChargeStatus, Effect, EffectStatus, EventKind, NotFound, Unknown
from tests.contract.sandbox_world import AMOUNT, World, leads_to, ref
from tests.contract.test_adapters import LOST, WITH_EFFECT

KEY = "rf_01K0000000000000000000KEY1"
OTHER_KEY = "rf_01K0000000000000000000KEY2"
THIRD_KEY = "rf_01K0000000000000000000KEY3"
PART = 50_000


def _partly(world: World) -> int:
    """An amount to give back."""
    return PART if world.can.partial_refund else AMOUNT


def test_a_whole_refund_leaves_nothing(world: World, kind: str) -> None:
    paid = world.pay(kind)
    effect = world.give_back(paid.known, AMOUNT, KEY)
    assert (effect.status, effect.amount) == (EffectStatus.SUCCEEDED, AMOUNT)
    assert effect.currency in ("INR", None)
    assert effect.provider_reference
    assert [(row["status"], row["refunded"]) for row in world.truth()] == [("refunded", AMOUNT)]
    assert [(row["key"], row["amount"], row["status"]) for row in world.refunds()] == [(KEY, AMOUNT, "succeeded")]
    assert world.look(paid.known).status is ChargeStatus.SUCCEEDED  # given back or not, it was paid


def test_partial_refunds_add_up_and_stop_at_what_was_captured(world: World) -> None:
    if not world.can.partial_refund:
        pytest.skip(f"capabilities.partial_refund of {world.name} is false")
    paid = world.pay()
    for key, amount in ((KEY, PART), (OTHER_KEY, AMOUNT - PART)):
        effect = world.give_back(paid.known, amount, key)
        assert (effect.status, effect.amount) == (EffectStatus.SUCCEEDED, amount)
        world.clock.now += 600
    third = world.provider.refund(world.account, paid.known, 100, THIRD_KEY)
    assert isinstance(third, Effect)
    assert third.status is EffectStatus.FAILED
    assert third.error is not None
    assert third.error.error_class is ErrorClass.CONFLICT
    assert [(row["status"], row["refunded"]) for row in world.truth()] == [("refunded", AMOUNT)]
    assert [row["key"] for row in world.refunds()] == [KEY, OTHER_KEY]


def test_refunds_are_told_with_our_key(world: World) -> None:
    if "refunded" in world.habits.silent:
        pytest.skip(f"habits.silent of {world.name} names refunds: no webhook tells of them")
    paid = world.pay()
    world.heard(paid.known)
    world.give_back(paid.known, _partly(world), KEY)
    told = [event for event in world.heard(paid.known) if event.kind is EventKind.REFUND and event.effect]
    assert told
    assert all(leads_to(event, paid.known) for event in told)
    assert {event.refund_key for event in told} == {KEY}
    last = told[-1].effect
    assert last is not None
    assert (last.status, last.amount) == (EffectStatus.SUCCEEDED, _partly(world))
    assert last.provider_reference


def test_a_repeated_refund_is_the_first_one(world: World) -> None:
    paid = world.pay()
    amount = _partly(world)
    first = world.give_back(paid.known, amount, KEY)
    again = world.give_back(paid.known, amount, KEY)
    assert (again.provider_reference, again.amount) == (first.provider_reference, amount)
    assert [row["amount"] for row in world.refunds()] == [amount]


def test_a_key_is_never_used_for_another_amount(world: World) -> None:
    if not world.can.partial_refund:
        pytest.skip(f"capabilities.partial_refund of {world.name} is false")
    paid = world.pay()
    first = world.give_back(paid.known, PART, KEY)
    other = world.provider.refund(world.account, paid.known, PART + 10_000, KEY)
    if isinstance(other, Effect) and other.status is not EffectStatus.FAILED:
        assert (other.provider_reference, other.amount) == (first.provider_reference, PART)
    assert [row["refunded"] for row in world.truth()] == [PART]


def test_a_refund_is_found_by_key_and_by_reference(world: World) -> None:
    paid = world.pay()
    assert isinstance(world.provider.fetch_refund(world.account, paid.known, KEY, None), NotFound)
    effect = world.give_back(paid.known, _partly(world), KEY)
    theirs = effect.provider_reference
    assert theirs
    for known in (paid.known, ref(paid.made)):
        for reference in (None, theirs):
            found = world.provider.fetch_refund(world.account, known, KEY, reference)
            assert isinstance(found, Effect)
            assert (found.status, found.provider_reference, found.amount) == (
                EffectStatus.SUCCEEDED, theirs, _partly(world),
            )  # fmt: skip
    assert isinstance(world.provider.fetch_refund(world.account, paid.known, OTHER_KEY, None), NotFound)
    nobody = ref(world.intent(number=9))
    assert isinstance(world.provider.fetch_refund(world.account, nobody, OTHER_KEY, None), NotFound)


def test_a_refund_id_that_nobody_gave_is_not_found(world: World) -> None:
    paid = world.pay()
    theirs = world.give_back(paid.known, _partly(world), KEY).provider_reference or ""
    other = theirs[:-1] + ("1" if theirs[-1] != "1" else "2")
    assert isinstance(world.provider.fetch_refund(world.account, paid.known, OTHER_KEY, other), NotFound)


@pytest.mark.parametrize("fault", LOST)
def test_a_lost_refund_is_unknown_and_a_repeat_refunds_once(world: World, fault: str) -> None:
    paid = world.pay()
    amount = _partly(world)
    world.chaos(operation="refund", fault=fault)
    said = world.provider.refund(world.account, paid.known, amount, KEY)
    looked = isinstance(said, Effect) and said.status is not EffectStatus.FAILED
    assert isinstance(said, Unknown) or (fault in WITH_EFFECT and looked), said
    found = world.provider.fetch_refund(world.account, paid.known, KEY, None)
    assert isinstance(found, Effect if fault in WITH_EFFECT else NotFound)
    world.pass_time(21)
    if world.can.operation_idempotency_window:
        effect = world.give_back(paid.known, amount, KEY)
        assert (effect.status, effect.amount) == (EffectStatus.SUCCEEDED, amount)
    elif fault in WITH_EFFECT | {"slow"}:
        late = world.provider.fetch_refund(world.account, paid.known, KEY, None)
        assert isinstance(late, Effect)
        assert late.amount == amount
    else:
        assert isinstance(world.provider.fetch_refund(world.account, paid.known, KEY, None), NotFound)
        assert world.give_back(paid.known, amount, KEY).status is EffectStatus.SUCCEEDED
    assert [row["refunded"] for row in world.truth()] == [amount]
    assert len(world.refunds()) == 1


def test_a_repeat_of_a_refund_that_still_runs_says_nothing(world: World) -> None:
    if not world.can.operation_idempotency_window:
        pytest.skip(f"capabilities.operation_idempotency_window of {world.name} is 0: it is never sent twice")
    paid = world.pay()
    world.chaos(operation="refund", fault="slow")
    for _ in range(2):
        said = world.provider.refund(world.account, paid.known, _partly(world), KEY)
        assert isinstance(said, Unknown) or (isinstance(said, Effect) and said.status is EffectStatus.PENDING)
    world.pass_time(21)
    assert [row["refunded"] for row in world.truth()] == [_partly(world)]


@pytest.mark.parametrize(
    ("fault", "status"), [("pending", EffectStatus.SUCCEEDED), ("pending_failure", EffectStatus.FAILED)]
)
def test_a_pending_refund_is_decided_later_and_told(world: World, fault: str, status: EffectStatus) -> None:
    paid = world.pay()
    amount = _partly(world)
    world.heard(paid.known)
    world.chaos(operation="refund", fault=fault)
    effect = world.provider.refund(world.account, paid.known, amount, KEY)
    assert isinstance(effect, Effect)
    assert effect.status is EffectStatus.PENDING
    if world.can.partial_refund:
        over = world.provider.refund(world.account, paid.known, AMOUNT - amount + 1_000, OTHER_KEY)
        assert isinstance(over, Effect)
        assert over.status is EffectStatus.FAILED  # a refund on its way counts
    told = [event for event in world.heard(paid.known, 3) if event.kind is EventKind.REFUND]
    if "refunded" not in world.habits.silent:
        assert (told[-1].refund_key, told[-1].effect and told[-1].effect.status) == (KEY, status)
    found = world.provider.fetch_refund(world.account, paid.known, KEY, effect.provider_reference)
    assert isinstance(found, Effect)
    assert found.status is status
    assert (found.error is not None) is (status is EffectStatus.FAILED)
    assert [row["refunded"] for row in world.truth()] == [amount if status is EffectStatus.SUCCEEDED else 0]


def test_a_refused_refund_is_definite(world: World) -> None:
    paid = world.pay()
    world.chaos(operation="refund", fault="decline")
    effect = world.provider.refund(world.account, paid.known, _partly(world), KEY)
    assert isinstance(effect, Effect)
    assert effect.status is EffectStatus.FAILED
    assert effect.error is not None
    assert effect.error.error_class is not ErrorClass.TECHNICAL_DECLINE  # which would not be definite
    assert world.refunds() == []


def test_a_failed_charge_cannot_be_refunded(world: World) -> None:
    paid = world.pay(outcome="decline")
    effect = world.provider.refund(world.account, paid.known, 10_000, KEY)
    assert isinstance(effect, Effect)
    assert effect.status is EffectStatus.FAILED
    assert world.refunds() == []


def test_what_is_only_held_cannot_be_refunded(world: World) -> None:
    paid = world.authorize()
    effect = world.provider.refund(world.account, paid.known, 10_000, KEY)
    assert isinstance(effect, Effect)
    assert effect.status is EffectStatus.FAILED
    assert world.refunds() == []
    assert world.look(paid.known).status is ChargeStatus.AUTHORIZED


def test_a_refund_in_the_providers_dashboard_is_told_without_a_key(world: World) -> None:
    paid = world.pay()
    amount = _partly(world)
    world.heard(paid.known)
    body = {"provider": world.name, "reference": paid.made.payment_id, "amount": amount}
    assert world.root("POST", "/_dashboard/refund", **body).status == 200
    assert world.look(paid.known).refunded in (amount, 0)  # not every provider's charge shows what was given back
    if "refunded" in world.habits.silent:
        pytest.skip(f"habits.silent of {world.name} names refunds: no webhook tells of them")
    told = [event for event in world.heard(paid.known) if event.kind is EventKind.REFUND]
    assert all(leads_to(event, paid.known) for event in told)
    assert {event.refund_key for event in told} == {None}
    last = told[-1].effect
    assert last is not None
    assert (last.status, last.amount) == (EffectStatus.SUCCEEDED, amount)
    assert last.provider_reference


def test_a_refund_may_come_back(world: World) -> None:
    paid = world.pay()
    amount = _partly(world)
    world.give_back(paid.known, amount, KEY)
    world.heard(paid.known)
    body = {"provider": world.name, "reference": paid.made.reference}
    assert world.root("POST", "/_dashboard/return_refund", **body).status == 200
    told = [event for event in world.heard(paid.known) if event.kind is EventKind.REFUND]
    expected = world.habits.returned
    if "refund_returned" not in world.habits.silent:
        assert (told[-1].refund_key, told[-1].effect and told[-1].effect.status) == (KEY, expected)
    found = world.provider.fetch_refund(world.account, paid.known, KEY, None)
    assert isinstance(found, Effect)
    assert found.status is expected
    assert [(row["status"], row["refunded"]) for row in world.truth()] == [("captured", 0)]


def test_a_refund_knows_the_charge_by_our_reference_alone(world: World) -> None:
    paid = world.pay()
    effect = world.give_back(ref(paid.made), _partly(world), KEY)
    assert effect.status is EffectStatus.SUCCEEDED
    assert [row["key"] for row in world.refunds()] == [KEY]
