"""Every adapter against the bank, edges: many payments, old ones, sparse ones, and whatever people write."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from chalicelib.domain.errors import ErrorClass
from chalicelib.domain.outcome import Charge, ChargeStatus, Effect, EffectStatus, NotSent
from tests.contract.habits import instrument
from tests.contract.sandbox_world import AMOUNT, World, ref

if TYPE_CHECKING:
    from chalicelib.providers.base import ChargeIntent

MANY = 120  # more than a page of anything
WORDS = [
    "Zwei Bücher & ein Heft",
    'a|b||c "50 %" <b>₹</b> \\ / ; -- \' = + ~',
    "line\nbreak\ttab\r\x7f",
    "本 📚",
    "x" * 2_000,
    "",
    "   ",
    "%00%0a&amount=1&udf1=x",
]


def _customer(fields: frozenset[str]) -> dict[str, str]:
    """Only what a provider cannot do without."""
    known = {"name": "Asha Rao", "email": "asha@example.com", "contact": "+919800000000"}
    return {name: value for name, value in known.items() if f"customer.{name}" in fields}


def _finish(world: World, made: ChargeIntent) -> Charge:
    """Make the payment and do what its customer does."""
    said = world.charge(made)
    kind = made.method["type"]
    if kind in world.habits.page:
        world.choose(said, "approve", instrument(kind, "success"))
        return world.look(ref(made, said))
    return said


def test_a_charge_is_found_among_many_and_long_after(world: World) -> None:
    paid = [world.pay(number=number) for number in range(MANY // 2)]
    world.pass_time(600)
    paid += [world.pay(number=number) for number in range(MANY // 2, 99)]
    for days in (0, 1, 30):
        world.pass_time(days * 86_400)
        for one in (paid[0], paid[45], paid[-1]):
            found = world.look(ref(one.made))
            assert (found.status, found.provider_reference) == (ChargeStatus.SUCCEEDED, one.charge.provider_reference)


def test_a_refund_is_found_among_many(world: World) -> None:
    if not world.can.partial_refund:
        pytest.skip(f"capabilities.partial_refund of {world.name} is false")
    paid = world.pay(amount=AMOUNT * 10)
    keys = [f"rf_01K00000000000000000000{number:03d}" for number in range(MANY)]
    for number, key in enumerate(keys):
        assert world.give_back(paid.known, 1_000 + number, key).status is EffectStatus.SUCCEEDED
    for number in (0, 60, MANY - 1):
        found = world.provider.fetch_refund(world.account, paid.known, keys[number], None)
        assert isinstance(found, Effect)
        assert found.amount == 1_000 + number
    assert len(world.refunds()) == MANY


def test_nothing_but_what_is_required_is_needed(world: World, kind: str) -> None:
    needed = world.can.required
    made = world.intent(kind, return_url="https://shop.example/back" if "return_url" in needed else None)
    made = replace(made, customer=_customer(needed), description=None)
    assert _finish(world, made).status is ChargeStatus.SUCCEEDED


def test_what_is_required_and_missing_is_said_before_anything_is_sent(world: World) -> None:
    if not world.can.required:
        pytest.skip(f"capabilities.required of {world.name} is empty")
    for name in world.can.required:
        made = world.intent()
        customer = {key: value for key, value in made.customer.items() if f"customer.{key}" != name}
        made = replace(made, customer=customer, return_url=None if name == "return_url" else made.return_url)
        before = len(world.http.calls)
        outcome = world.provider.create(world.account, made)
        assert isinstance(outcome, NotSent | Charge), name
        assert outcome.error is not None
        assert outcome.error.error_class in (ErrorClass.CONFIG, ErrorClass.INVALID_REQUEST)
        assert not isinstance(outcome, Charge) or outcome.status is ChargeStatus.DECLINED
        assert len(world.http.calls) - before <= 1
    assert world.truth() == []


@pytest.mark.parametrize("words", WORDS, ids=range(len(WORDS)))
def test_whatever_the_shop_writes_the_payment_goes_through(world: World, words: str) -> None:
    for number, kind in enumerate(sorted(world.can.methods)):
        made = replace(world.intent(kind, number=number), description=words)
        charge = _finish(world, made)
        assert (charge.status, charge.captured) == (ChargeStatus.SUCCEEDED, AMOUNT)
    for event in world.events():
        assert event.dedupe_key


@pytest.mark.parametrize("name", ["Åsa O'Brien-Ñandú", "अशा राव", "a|b|c", "x" * 300, "<script>"])
def test_whatever_the_customer_is_called_the_payment_goes_through(world: World, name: str) -> None:
    made = world.intent()
    made = replace(made, customer={**made.customer, "name": name})
    assert _finish(world, made).status is ChargeStatus.SUCCEEDED


@pytest.mark.parametrize("contact", ["+919800000000", "9800000000", "+91 98000 00000", "09800000000"])
def test_however_a_phone_number_is_written_the_payment_goes_through(world: World, contact: str) -> None:
    made = world.intent()
    made = replace(made, customer={**made.customer, "contact": contact})
    assert _finish(world, made).status is ChargeStatus.SUCCEEDED


@pytest.mark.parametrize(
    "url", ["https://shop.example/back", "https://shop.example/b?a=1&b=%C3%BC#end", "http://localhost:3000/"]
)
def test_the_browser_comes_back_to_the_address_that_was_given(world: World, url: str) -> None:
    made, said = world.sent_to_page(return_url=url)
    world.choose(said, "cancel")
    assert made.return_url == url
    assert world.look_up(ref(made, said)) in (ChargeStatus.DECLINED, ChargeStatus.CANCELED)
