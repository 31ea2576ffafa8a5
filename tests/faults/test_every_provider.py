"""The same stories at every provider, through the services: each ends as it must, and every promise holds.

Server to server where the provider has that, else with a customer on its page; by webhook, callback, return or
asking, whichever the provider has. The clock is virtual, the bank is the judge.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from chalicelib.domain.routing_rules import RoutingSettings, Rule
from chalicelib.domain.states import PaymentStatus
from chalicelib.providers.registry import NAMES
from chalicelib.services import payments, tokens
from tests.contract.browser import Browser, Page, Return
from tests.contract.habits import habits_of, instrument, method_of
from tests.faults.checker import violations
from tests.faults.evidence import Expected
from tests.faults.play import AMOUNT, Play
from tests.support import marks
from tests.support.canary import found_in, written
from tests.support.world import TENANT, World, unarmed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

CUSTOMER = {"name": "Asha", "email": marks.EMAIL, "contact": marks.CONTACT, "country": "IN"}
RETURN_URL = "https://shop.example/back"
KINDS = ("upi", "netbanking", "wallet", "card")


@dataclass
class Shop:
    """A merchant with one account, at that provider, and its customer."""

    name: str
    play: Play

    @property
    def world(self) -> World:
        return self.play.world

    @property
    def can(self) -> Any:
        return self.world.kit.provider(self.name).capabilities

    def pay(self, outcome: str = "success", *, capture: str = "automatic", choice: str = "approve") -> str:
        """A payment that asks for ``outcome``, by its instrument or by what its customer types into the page."""
        kinds = self.can.manual_capture if capture == "manual" else self.can.methods
        kind = next(kind for kind in KINDS if kind in kinds)
        on_page = kind in habits_of(self.name).page
        method = self._method(kind, None if on_page else outcome)
        payment_id = self.play.create_wish(
            payments.NewPayment(
                AMOUNT, "INR", method, capture="manual" if capture == "manual" else "automatic", customer=CUSTOMER,
                return_url=RETURN_URL,
            )
        )  # fmt: skip
        if on_page:
            self._until(payment_id, PaymentStatus.REQUIRES_ACTION)
            self.on_page(self.action(payment_id), choice, instrument(kind, outcome))
        return payment_id

    def _method(self, kind: str, outcome: str | None) -> Mapping[str, str]:
        """A method that asks for that outcome; a card is tokenized first."""
        if kind != "card":
            return method_of(kind, outcome)
        with unarmed(self.world):
            token = tokens.create(self.world.kit, TENANT, instrument(kind, outcome or "success"), 12, 2040)
        return {"type": "card", "token": token.id}

    def sent_to_page(self) -> str:
        """A payment whose customer is on the provider's page and has not pressed anything."""
        on_page = [kind for kind in KINDS if kind in habits_of(self.name).page]
        kind = next(iter(on_page), None) or next(kind for kind in KINDS if kind in self.can.methods)
        method = self._method(kind, None if on_page else "action")
        payment_id = self.play.create_wish(
            payments.NewPayment(AMOUNT, "INR", method, customer=CUSTOMER, return_url=RETURN_URL)
        )
        self._until(payment_id, PaymentStatus.REQUIRES_ACTION)
        return payment_id

    def _until(self, payment_id: str, status: PaymentStatus) -> None:
        for _ in range(100):
            if self.play.status(payment_id) == status:
                return
            self.world.turn()
        raise AssertionError(self.play.status(payment_id))

    def action(self, payment_id: str) -> Any:
        """Where the customer is sent."""
        with unarmed(self.world):
            return payments.get(self.world.kit, TENANT, payment_id).next_action

    def on_page(self, action: Any, choice: str, typed: str = "") -> Page | Return:
        """The customer goes where next_action leads, presses a button, and says yes to 3-D Secure."""
        browser = Browser(self.world.bank)
        if action["type"] == "redirect":
            page = browser.get(action["url"])
        elif action["type"] == "form_post":
            page = browser.post(action["url"], action["fields"])
        else:
            path = habits_of(self.name).checkout
            fields = {name: str(value) for name, value in action["params"].items() if value is not None}
            page = browser.post(f"http://{self.name}.sandbox{path}", fields)
        assert isinstance(page, Page)
        if choice not in page.choices:
            return page  # it has been closed
        after = browser.choose(page, choice, typed)
        if isinstance(after, Page) and "3-D Secure" in after.text:
            after = browser.choose(after, "approve")
        return after

    def amounts(self, payment_id: str) -> tuple[str, int, int]:
        with unarmed(self.world):
            payment = payments.get(self.world.kit, TENANT, payment_id)
        return str(payment.status), payment.amount_captured, payment.amount_refunded

    def kept(self, payment_id: str) -> int:
        """What the bank has of the customer's money, minor units."""
        return sum(c["captured"] - c["refunded"] for c in self.world.bank.truth(payment_id)["charges"])


@pytest.fixture(params=NAMES)
def shop(request: pytest.FixtureRequest) -> Iterator[Shop]:
    with World() as world:
        merchant = world.merchant()
        world.bring_merchant(replace(merchant, routing=RoutingSettings((Rule("only", (f"acct_{request.param}",)),))))
        yield Shop(request.param, Play(world))


def ends(shop: Shop, expected: Expected) -> None:
    shop.play.settle(horizon=14 * 86400.0)
    problems = violations(shop.play, expected)
    assert not problems, "\n".join(problems)


def test_a_payment_succeeds_and_is_given_back_in_parts(shop: Shop) -> None:
    payment_id = shop.pay()
    shop.play.settle()
    assert shop.amounts(payment_id) == ("succeeded", AMOUNT, 0)
    shop.play.refund(payment_id, 50_000)
    shop.play.settle()
    shop.play.refund(payment_id)
    ends(shop, Expected(("succeeded",), captured=(AMOUNT,), refunded=(AMOUNT,)))
    assert shop.kept(payment_id) == 0


@pytest.mark.parametrize("outcome", ["decline", "risk", "authentication"])
def test_a_decline_fails_the_payment(shop: Shop, outcome: str) -> None:
    shop.pay(outcome)
    ends(shop, Expected(("failed",)))


def test_nothing_of_a_customer_lies_anywhere_in_clear(shop: Shop) -> None:
    shop.world.traffic = []
    payment_id = shop.pay()
    shop.play.settle()
    shop.play.refund(payment_id, 50_000)
    shop.sent_to_page()
    shop.pay("decline")
    shop.play.settle(horizon=14 * 86400.0)
    assert found_in(written(shop.world), RETURN_URL)  # we look in the right places
    for name in ("email", "contact"):
        assert found_in(written(shop.world), CUSTOMER[name]) == []
    for number in (CUSTOMER["contact"].removeprefix("+"), CUSTOMER["contact"].removeprefix("+91")):
        assert found_in(written(shop.world), number) == []
    for outcome in ("success", "decline", "action"):
        vpa = method_of("upi", outcome)["vpa"]
        assert found_in(written(shop.world), vpa) == []


def test_a_late_success_is_given_back(shop: Shop) -> None:
    payment_id = shop.pay("late_success")
    if "failed" in habits_of(shop.name).silent:  # nobody told of the failure, so it was no late success
        shop.play.settle()
        assert shop.amounts(payment_id) == ("succeeded", AMOUNT, 0)
        return
    ends(shop, Expected(("failed",), charges=1))
    assert shop.kept(payment_id) == 0


def test_a_charge_that_nobody_heard_of_is_found_by_asking(shop: Shop) -> None:
    shop.play.silence_webhooks()
    payment_id = shop.pay()
    shop.play.settle()
    assert shop.amounts(payment_id) == ("succeeded", AMOUNT, 0)
    ends(shop, Expected(("succeeded",)))


@pytest.mark.parametrize("fault", ["timeout_after", "timeout_before", "slow", "technical_after", "html", "truncated"])
def test_a_lost_answer_never_charges_twice(shop: Shop, fault: str) -> None:
    shop.play.chaos(provider=shop.name, operation="create", fault=fault)
    if habits_of(shop.name).page:
        pytest.skip("the customer of a page starts anew by himself: see the contract suite")
    shop.pay()
    ends(shop, Expected((frozenset({"succeeded", "failed"}),)))


@pytest.mark.parametrize("fault", ["timeout_after", "timeout_before", "technical_after", "rate_limited", "html"])
def test_a_lost_refund_is_made_once(shop: Shop, fault: str) -> None:
    payment_id = shop.pay()
    shop.play.settle()
    shop.play.chaos(provider=shop.name, operation="refund", fault=fault)
    shop.play.refund(payment_id, 50_000)
    ends(shop, Expected(("succeeded",), captured=(AMOUNT,), refunded=(50_000,)))
    assert shop.kept(payment_id) == AMOUNT - 50_000


def test_a_refund_made_at_the_provider_is_recorded_as_its_own(shop: Shop) -> None:
    payment_id = shop.pay()
    shop.play.settle()
    shop.play.dashboard("refund", shop.name, payment_id, amount=20_000)
    tells = "refunded" not in habits_of(shop.name).silent
    told = 20_000 if tells else 0
    shop.play.settle()
    assert shop.amounts(payment_id) == ("succeeded", AMOUNT, told)
    if tells:
        ends(shop, Expected(("succeeded",), captured=(AMOUNT,), refunded=(told,)))


def test_a_refund_that_the_bank_sent_back_is_the_merchants_again(shop: Shop) -> None:
    payment_id = shop.pay()
    shop.play.settle()
    shop.play.refund(payment_id, 20_000)
    shop.play.settle()
    shop.play.dashboard("return_refund", shop.name, payment_id)
    shop.play.settle()
    if "refund_returned" in habits_of(shop.name).silent:
        return  # nobody tells, and nobody asks about a refund that has succeeded: reconciliation finds it
    ends(shop, Expected(("succeeded",), captured=(AMOUNT,)))
    assert shop.kept(payment_id) == AMOUNT


def test_held_money_is_captured_later_or_released(shop: Shop) -> None:
    if not shop.can.manual_capture:
        pytest.skip("capabilities.manual_capture is empty")
    taken, released = shop.pay(capture="manual"), shop.pay(capture="manual")
    shop.play.settle()
    assert [shop.amounts(p)[0] for p in (taken, released)] == ["authorized"] * 2
    shop.play.capture(taken)
    shop.play.cancel(released)
    ends(shop, Expected(("succeeded", "canceled")))
    assert (shop.kept(taken), shop.kept(released)) == (AMOUNT, 0)


@pytest.mark.parametrize("choice", ["decline", "cancel"])
def test_a_customer_who_says_no_on_the_page_fails_the_payment(shop: Shop, choice: str) -> None:
    payment_id = shop.sent_to_page()
    shop.on_page(shop.action(payment_id), choice)
    ends(shop, Expected(("failed",)))


def test_a_customer_who_walks_away_ends_the_payment(shop: Shop) -> None:
    shop.sent_to_page()
    ends(shop, Expected((frozenset({"failed", "expired"}),), charges=1))


def test_what_is_paid_after_the_cancelation_is_refused_or_given_back(shop: Shop) -> None:
    payment_id = shop.sent_to_page()
    action = shop.action(payment_id)
    shop.play.cancel(payment_id)
    after = shop.on_page(action, "approve")
    ends(shop, Expected(("canceled",)))
    assert shop.kept(payment_id) == 0
    if shop.can.closes_unpaid:
        assert isinstance(after, Page), "the page was closed"
