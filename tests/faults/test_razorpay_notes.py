"""Razorpay's checkout is opened by a customer's browser, and a payment's notes are whatever that browser says.

Events find their payment by those notes, so a customer may name somebody else's: it must not mark anything there.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from chalicelib.domain.routing_rules import RoutingSettings, Rule
from chalicelib.domain.states import PaymentStatus
from chalicelib.services import payments
from tests.contract.habits import instrument
from tests.faults.checker import violations
from tests.faults.evidence import Expected
from tests.faults.play import AMOUNT, Play
from tests.faults.test_every_provider import Shop
from tests.support.world import TENANT, World, unarmed

if TYPE_CHECKING:
    from collections.abc import Iterator

CARD = instrument("card", "success")


@pytest.fixture
def shop() -> Iterator[Shop]:
    with World() as world:
        merchant = world.merchant()
        world.bring_merchant(replace(merchant, routing=RoutingSettings((Rule("only", ("acct_razorpay",)),))))
        yield Shop("razorpay", Play(world))


def _pay_as(shop: Shop, payer: str, named: str) -> None:
    """The customer of ``payer`` pays, and the browser writes the ids of ``named`` into the payment's notes."""
    action, other = shop.action(payer), shop.action(named)
    notes = {name: value for name, value in other["params"].items() if name.startswith("notes[")}
    assert set(notes) == {"notes[payment_id]", "notes[reference]"}
    shop.on_page({**action, "params": {**action["params"], **notes}}, "approve", CARD)
    charge = shop.world.bank.book.charges[shop.play.charge(payer)["id"]]
    assert charge.details["notes"] == {"payment_id": named, "reference": notes["notes[reference]"]}


def _known_of(shop: Shop, payment_id: str) -> tuple[str, str | None]:
    with unarmed(shop.world):
        (attempt,) = payments.state(shop.world.kit, TENANT, payment_id).attempts
    return str(attempt.status), attempt.provider_reference


def test_what_one_customer_pays_marks_nothing_on_anothers_payment(shop: Shop) -> None:
    paid, other = shop.sent_to_page(), shop.sent_to_page()
    _pay_as(shop, paid, other)
    shop.play.settle(horizon=120.0)
    assert shop.amounts(paid) == ("succeeded", AMOUNT, 0)
    assert shop.amounts(other) == ("requires_action", 0, 0)
    assert _known_of(shop, other) == ("action_required", None)
    shop.on_page(shop.action(other), "approve", CARD)
    shop.play.settle(horizon=14 * 86400.0)
    problems = violations(shop.play, Expected(("succeeded", "succeeded")))
    assert not problems, "\n".join(problems)
    assert (shop.kept(paid), shop.kept(other)) == (AMOUNT, AMOUNT)


def test_a_refund_of_one_customers_payment_gives_nothing_back_of_anothers(shop: Shop) -> None:
    paid, other = shop.sent_to_page(), shop.sent_to_page()
    _pay_as(shop, paid, other)
    shop.on_page(shop.action(other), "approve", CARD)
    shop.play.settle(horizon=120.0)
    shop.play.dashboard("refund", "razorpay", paid, amount=AMOUNT)
    shop.play.settle(horizon=120.0)
    assert shop.amounts(other) == ("succeeded", AMOUNT, 0)
    assert PaymentStatus(shop.amounts(paid)[0]) is PaymentStatus.SUCCEEDED
    shop.play.refund(other, 50_000)
    shop.play.settle(horizon=3600.0)
    assert shop.amounts(other) == ("succeeded", AMOUNT, 50_000)
    assert (shop.kept(paid), shop.kept(other)) == (0, AMOUNT - 50_000)
