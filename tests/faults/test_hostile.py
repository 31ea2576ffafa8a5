"""What an attacker, a careless merchant or an unlucky moment could do, as a review found it; each lost money once."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest

from chalicelib.domain import ids
from chalicelib.domain.errors import RateLimited
from chalicelib.domain.outcome import (
    Charge,
    ChargeStatus,
    Effect,
    EffectStatus,
    EventKind,
    NotFound,
    ProviderEvent,
    Unknown,
)
from chalicelib.domain.routing_rules import RoutingSettings, Rule
from chalicelib.domain.states import PaymentStatus
from chalicelib.providers.calls import unknown
from chalicelib.services import payments, provider_events
from chalicelib.services.attempts import charge_ref
from chalicelib.services.idempotency import Idem
from tests.faults.play import AMOUNT, Play
from tests.faults.test_every_provider import Shop
from tests.support.aws import PREFIX
from tests.support.world import TENANT, World, unarmed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chalicelib.domain.model import PaymentState


def shop_at(world: World, name: str) -> Shop:
    world.bring_merchant(replace(world.merchant(), routing=RoutingSettings((Rule("only", (f"acct_{name}",)),))))
    return Shop(name, Play(world))


@pytest.fixture
def world() -> Iterator[World]:
    with World() as made:
        yield made


def state_of(world: World, payment_id: str) -> PaymentState:
    with unarmed(world):
        return payments.state(world.kit, TENANT, payment_id)


class Played:
    """A provider, some of whose answers are played; the rest are its own."""

    def __init__(self, world: World, name: str, **played: Any) -> None:
        self._real, self._played = world.kit.provider(name), played
        real = world.kit.provider
        fake: Any = self
        world.bring(replace(world.kit, provider=lambda asked: fake if asked == name else real(asked)))

    def __getattr__(self, name: str) -> Any:
        return self._played.get(name) or getattr(self._real, name)


# -- rotating to another account's keys ----------------------------------------------------------------


@pytest.mark.parametrize("name", ["simulator", "razorpay"])
def test_a_charge_whose_answer_is_lost_is_not_made_again_with_other_credentials(world: World, name: str) -> None:
    """The second account is played by one at which the charge is not to be found."""
    shop = shop_at(world, name)
    merchant = world.merchant()
    shop.play.silence_webhooks()
    shop.play.chaos(provider=name, operation="create", fault="timeout_after")
    payment_id = shop.play.create()
    while not world.bank.truth(payment_id)["charges"]:
        world.turn()
    world.clock.time += 1
    account = next(a for a in merchant.accounts if a.id == f"acct_{name}")
    rotated = replace(account, rotated_at=world.clock())
    world.bring_merchant(replace(merchant, accounts=(rotated, *merchant.accounts[2:]), routing=RoutingSettings()))
    created: list[object] = []

    def create(*made: object) -> Unknown:
        created.append(made)
        return Unknown(unknown("read_timeout"))

    Played(world, name, fetch=lambda *_: NotFound(), create=create)
    shop.play.settle(14 * 86400.0)
    after = state_of(world, payment_id)
    assert created == []
    assert (after.payment.status, len(after.attempts), after.payment.needs_attention) == ("processing", 1, True)


# -- callbacks that nobody signed ----------------------------------------------------------------------


def forge(world: World, payment_id: str, request_id: str, **more: str) -> None:
    """A refund callback as PayU sends them, which carries no signature."""
    account = world.merchant().account("acct_payu")
    assert account is not None
    txnid = ids.short_reference(ids.attempt_reference(payment_id, 1))
    body = {"action": "refund", "key": account.credentials["key"], "request_id": request_id, "status": "success",
            "mihpayid": "456", "merchantTxnId": txnid, **more}  # fmt: skip
    provider_events.receive(world.kit, "payu", "acct_payu", {}, urlencode(body).encode())


def test_a_hint_that_leaves_out_our_token_books_a_refund_once(world: World) -> None:
    shop = shop_at(world, "payu")
    payment_id = shop.pay()
    shop.play.settle()
    shop.play.chaos(provider="payu", operation="refund", fault="timeout_after")
    shop.play.refund(payment_id, 50_000)
    while not world.bank.truth(payment_id)["refunds"]:
        world.turn()
    world.hooks.clear()
    account = world.merchant().account("acct_payu")
    assert account is not None
    about = state_of(world, payment_id)
    ref = charge_ref(world.kit, about.payment, about.attempts[0])
    key = about.operations[0].id
    found = world.kit.provider("payu").fetch_refund(account, ref, key, None)
    assert isinstance(found, Effect)
    assert found.provider_reference is not None
    forge(world, payment_id, found.provider_reference)
    shop.play.settle(14 * 86400.0)
    after = state_of(world, payment_id)
    assert [(o.source, o.status, o.amount) for o in after.operations] == [("merchant", "succeeded", 50_000)]
    assert (after.payment.amount_refunded, shop.kept(payment_id)) == (50_000, AMOUNT - 50_000)


def test_hints_that_match_nothing_leave_nothing(world: World) -> None:
    shop = shop_at(world, "payu")
    for number in range(30):
        forge(world, ids.new_id("pay", world.clock()), str(number))
        world.sleep(1.0)
    shop.play.settle()
    rows = world.dynamo.tables[f"{PREFIX}-payments"].items()
    assert [row for row in rows if row["sk"]["S"] == "orphan"] == []
    assert not world.dead


def test_a_flood_of_hints_is_answered_429_and_keeps_no_signed_event_out(world: World) -> None:
    shop_at(world, "payu")
    refused = 0
    for number in range(60):
        try:
            forge(world, ids.new_id("pay", world.clock()), str(number))
        except RateLimited:
            refused += 1
    assert refused >= 40
    signed = ProviderEvent("k", "paid", EventKind.HINT, ids.attempt_reference(ids.new_id("pay", world.clock()), 1))
    Played(world, "payu", parse_webhook=lambda *_: signed)
    for _ in range(30):
        provider_events.receive(world.kit, "payu", "acct_payu", {}, b"")


# -- refunds at a provider that knows no keys ----------------------------------------------------------


def lost_refund(shop: Shop, looks: list[Any]) -> list[str]:
    """A refund whose every call is lost; ``looks`` are the answers of the first look-ups, then NotFound."""
    heard: list[str] = []

    def refund(*_: object) -> Unknown:
        heard.append("refund")
        return Unknown(unknown("read_timeout"))

    def look(*_: object) -> Any:
        answer = looks.pop(0) if looks else NotFound()
        heard.append(type(answer).__name__)
        return answer

    payment_id = shop.pay()
    shop.play.settle()
    Played(shop.world, shop.name, refund=refund, fetch_refund=look)
    shop.play.refund(payment_id, 50_000)
    shop.play.settle(14 * 86400.0)
    operation = state_of(shop.world, payment_id).operations[0]
    assert operation.status == "manual_review"
    return heard


def test_a_refund_without_a_key_is_sent_again_only_after_two_settled_looks(world: World) -> None:
    unclear = Unknown(unknown("read_timeout"))
    heard = lost_refund(shop_at(world, "instamojo"), [unclear] * 6)
    second = heard.index("refund", 1)
    assert heard[:second].count("NotFound") >= 2


def test_a_refund_without_a_key_is_sent_twice_at_most(world: World) -> None:
    heard = lost_refund(shop_at(world, "instamojo"), [])
    assert heard.count("refund") == 2


# -- a page that took money twice ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["razorpay", "instamojo", "cashfree"])
def test_a_second_charge_under_one_reference_goes_to_a_person(world: World, name: str) -> None:
    shop = shop_at(world, name)
    payment_id = shop.sent_to_page()
    shop.on_page(shop.action(payment_id), "approve")
    shop.play.settle()
    assert shop.amounts(payment_id) == ("succeeded", AMOUNT, 0)
    second = Charge(ChargeStatus.SUCCEEDED, "pay_SECOND", AMOUNT, "INR", captured=AMOUNT)
    Played(world, name, fetch=lambda *_: second)
    event = ProviderEvent("k2", "paid", EventKind.CHARGE, f"{payment_id}-01", "pay_SECOND", second)
    for _ in range(2):
        provider_events.ingest(world.kit, TENANT, f"acct_{name}", event)
    after = state_of(world, payment_id)
    assert (after.payment.status, after.payment.amount_captured) == ("succeeded", AMOUNT)
    assert after.payment.needs_attention
    with unarmed(world):
        types = [e.type for e in world.kit.queries.events(TENANT, payment_id)]
    assert types.count("attempt.charged_twice") == 1


# -- an event that names another payment ---------------------------------------------------------------


def test_an_event_of_another_order_is_refused(world: World) -> None:
    """What a customer's browser wrote into the notes of A names B: the order that both events name is A's."""
    shop = shop_at(world, "razorpay")
    waiting = shop.sent_to_page()
    about = state_of(world, waiting).attempts[0]
    assert about.data["order_id"]
    paid = Charge(ChargeStatus.SUCCEEDED, "pay_OF_A", AMOUNT, "INR", captured=AMOUNT, data={"order_id": "order_of_a"})
    event = ProviderEvent("k1", "payment.captured", EventKind.CHARGE, about.reference, "pay_OF_A", paid)
    provider_events.ingest(world.kit, TENANT, "acct_razorpay", event)
    assert state_of(world, waiting).payment.status == "requires_action"


# -- refunds that were given up ------------------------------------------------------------------------


def test_a_refund_that_failed_and_went_out_all_the_same_is_booked(world: World) -> None:
    shop = shop_at(world, "simulator")
    payment_id = shop.pay()
    shop.play.settle()
    shop.play.chaos(provider="simulator", operation="refund", fault="pending_failure")
    refund = shop.play.refund(payment_id, 50_000)
    shop.play.settle()
    assert shop.amounts(payment_id) == ("succeeded", AMOUNT, 0)
    after_all = Effect(EffectStatus.SUCCEEDED, "rfnd_1", 50_000, "INR")
    Played(world, "simulator", fetch_refund=lambda *_: after_all)
    event = ProviderEvent(
        "k3", "refund.succeeded", EventKind.REFUND, f"{payment_id}-01", effect=after_all, refund_key=refund
    )
    for _ in range(2):
        provider_events.ingest(world.kit, TENANT, "acct_simulator", event)
    after = state_of(world, payment_id)
    assert shop.amounts(payment_id) == ("succeeded", AMOUNT, 50_000)
    assert after.payment.amount_refundable == AMOUNT - 50_000


# -- closing what nobody has paid ----------------------------------------------------------------------


def test_the_payment_that_replaces_another_starts_though_closing_that_one_hangs(world: World) -> None:
    shop = shop_at(world, "simulator")
    order = shop.play.order()
    old = shop.play.create("action", order_id=order)
    shop._until(old, PaymentStatus.REQUIRES_ACTION)

    def void(*_: object) -> None:
        raise TimeoutError

    Played(world, "simulator", void=void)
    wish = payments.NewPayment(AMOUNT, "INR", {"type": "upi", "flow": "collect", "vpa": "success@sim"}, order_id=order)
    before = len(world.executions)
    with pytest.raises(TimeoutError):
        payments.create(
            world.kit, TENANT, wish, Idem("mer_01TEST/test/k", "f", 201, lambda made: {"id": made.payment.id}, 100.0)
        )
    assert shop.play.status(old) == "canceled"
    assert len(world.executions) == before + 1
