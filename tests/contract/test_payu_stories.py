"""PayU through the services: what its answers and callbacks leave open, to the end of the payment."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode

import pytest

from chalicelib import wiring
from chalicelib.domain.ids import short_reference
from chalicelib.domain.routing_rules import RoutingSettings, Rule
from chalicelib.domain.states import PaymentStatus
from chalicelib.providers.http import HttpAnswer, UnknownError
from chalicelib.services import payments, provider_events
from infra.sandbox.payu_entities import number_of
from tests.contract.browser import Return
from tests.contract.habits import instrument
from tests.faults.checker import violations
from tests.faults.evidence import Expected
from tests.faults.play import AMOUNT, Play
from tests.faults.test_every_provider import CUSTOMER, RETURN_URL, Shop
from tests.support.world import TENANT, World, unarmed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from chalicelib.providers.http import HttpClient

DAYS = 86_400.0
CARD = instrument("card", "success")


@dataclass
class Between:
    """Stands between the adapter and the bank, and changes what PayU says to commands."""

    inner: HttpClient
    change: Callable[[Mapping[str, str], Callable[[], dict[str, object]]], dict[str, object]]

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None = None,
        read_timeout: float | None = None,
    ) -> HttpAnswer:
        def ask() -> dict[str, object]:
            answer = self.inner.request(method, url, headers=headers, body=body, read_timeout=read_timeout)
            said: dict[str, object] = json.loads(answer.body)
            return said

        form = dict(parse_qsl((body or b"").decode(), keep_blank_values=True))
        return HttpAnswer(200, {"content-type": "text/html"}, json.dumps(self.change(form, ask)).encode())


@dataclass
class Queue:
    """PayU takes a cancelation at once and does it later, or does not; the transaction stays held until then."""

    world: World
    waiting: Callable[[], object] | None = None
    row: dict[str, object] = field(default_factory=dict)

    def __call__(self, form: Mapping[str, str], ask: Callable[[], dict[str, object]]) -> dict[str, object]:
        if form["command"] == "cancel_refund_transaction":
            if self.row:
                return {"status": 0, "msg": "Token already exists.", "mihpayid": form["var1"], "error_code": 106}
            self.waiting = ask
            self.row = {
                "request_id": "77", "action": "cancel", "token": form["var2"], "amt": form["var3"], "status": "QUEUED",
                "mihpayid": form["var1"],
            }  # fmt: skip
            return {"status": 1, "msg": "Cancel Request Queued", "txn_update_id": "77", "error_code": 102}
        if form["command"] == "check_action_status" and self.row:
            return {"status": 1, "msg": "…", "transaction_details": {form["var1"]: {"77": self.row}}}
        return ask()

    def end(self, status: str) -> None:
        """Do it, or fail."""
        assert self.waiting is not None
        if status == "SUCCESS":
            self.waiting()
        self.row["status"] = status


@pytest.fixture
def shop() -> Iterator[Shop]:
    with World() as world:
        world.bring_merchant(replace(world.merchant(), routing=RoutingSettings((Rule("only", ("acct_payu",)),))))
        yield Shop("payu", Play(world))


def between(shop: Shop, change: Callable[[Mapping[str, str], Callable[[], dict[str, object]]], object]) -> None:
    """From here on that stands between the adapter and the bank."""
    kit = shop.world.kit
    shop.world.bring(replace(kit, provider=wiring.providers(Between(kit.http, change))))  # type: ignore[arg-type]


def opened(shop: Shop, capture: str = "automatic") -> str:
    """A card payment whose customer is at PayU's page."""
    wish = payments.NewPayment(
        AMOUNT, "INR", shop._method("card", None),
        capture="manual" if capture == "manual" else "automatic", customer=CUSTOMER, return_url=RETURN_URL,
    )  # fmt: skip
    payment_id = shop.play.create_wish(wish)
    shop._until(payment_id, PaymentStatus.REQUIRES_ACTION)
    return payment_id


def held_late(shop: Shop) -> str:
    """A payment that was canceled before its customer agreed to it: the money is held all the same."""
    payment_id = opened(shop, "manual")
    action = shop.action(payment_id)
    shop.play.cancel(payment_id)
    shop.on_page(action, "approve", CARD)
    return payment_id


def ends(shop: Shop, expected: Expected) -> None:
    shop.play.settle(horizon=14 * DAYS)
    problems = violations(shop.play, expected)
    assert not problems, "\n".join(problems)


def reversals(shop: Shop, payment_id: str) -> list[tuple[str, str | None]]:
    with unarmed(shop.world):
        state = payments.state(shop.world.kit, TENANT, payment_id)
    return [(str(op.status), op.provider_reference) for op in state.operations if op.type == "reversal"]


@pytest.mark.parametrize("told", [True, False])
def test_a_late_authorization_is_released_and_its_reversal_closes(shop: Shop, *, told: bool) -> None:
    if not told:
        shop.play.silence_webhooks()
    queue = Queue(shop.world)
    between(shop, queue)
    payment_id = held_late(shop)
    shop.play.settle(horizon=600.0)
    assert [status for status, _ in reversals(shop, payment_id)] == ["sent"]
    assert not shop.play.needs_attention(payment_id)
    queue.end("SUCCESS")
    ends(shop, Expected(("canceled",)))
    assert reversals(shop, payment_id) == [("succeeded", None)]
    assert [row["status"] for row in shop.world.bank.truth(payment_id)["charges"]] == ["voided"]


def test_a_late_authorization_that_payu_does_not_release_waits_for_a_person(shop: Shop) -> None:
    queue = Queue(shop.world)
    between(shop, queue)
    payment_id = held_late(shop)
    shop.play.settle(horizon=600.0)
    queue.end("FAILURE")
    shop.play.settle(horizon=3600.0)
    assert [status for status, _ in reversals(shop, payment_id)] == ["manual_review"]
    assert shop.play.needs_attention(payment_id)


def test_what_a_customer_made_of_a_notice_is_asked_for(shop: Shop) -> None:
    """The form's hash leaves out "pre_authorize", and the answer's hash whether the money was captured."""
    payment_id = opened(shop)
    action = shop.action(payment_id)
    back = shop.on_page({**action, "fields": {**action["fields"], "pre_authorize": "1"}}, "approve", CARD)
    assert isinstance(back, Return)
    shop.world.bank.take_webhooks(shop.world.clock.time + 60)  # the honest notice is late
    forged = {**back.params, "unmappedstatus": "captured"}
    assert back.params["unmappedstatus"] == "auth"
    with unarmed(shop.world):
        provider_events.receive(shop.world.kit, "payu", "acct_payu", {}, urlencode(forged).encode())
    shop.play.settle(horizon=3600.0)
    assert shop.kept(payment_id) == AMOUNT  # held and then captured by us, not said to be
    ends(shop, Expected(("succeeded",), captured=(AMOUNT,)))


def test_a_refunds_callback_without_its_token_is_booked_once(shop: Shop) -> None:
    payment_id = shop.pay()
    shop.play.settle()
    lost = [True]

    def lose(form: Mapping[str, str], ask: Callable[[], dict[str, object]]) -> dict[str, object]:
        said = ask()
        by_transaction = form["command"] == "check_action_status" and form.get("var2") == "payuid"
        if lost and (by_transaction or form["command"] == "cancel_refund_transaction"):
            raise UnknownError("read_timeout")
        return said

    between(shop, lose)
    shop.play.refund(payment_id, 50_000)
    for _ in range(12):
        shop.world.turn()
    bank = shop.world.bank
    bank.take_webhooks(shop.world.clock.time + 1000)
    (refund,), (charge,) = bank.book.refunds.values(), bank.book.charges.values()
    hint = {
        "key": bank.settings["payu"].credentials["key"], "action": "refund", "status": "success",
        "merchantTxnId": short_reference(charge.reference), "request_id": number_of(refund.id),
        "mihpayid": number_of(charge.id),
    }  # fmt: skip
    with unarmed(shop.world):
        provider_events.receive(shop.world.kit, "payu", "acct_payu", {}, json.dumps(hint).encode())
    for _ in range(6):
        shop.world.turn()
    assert shop.amounts(payment_id) == ("succeeded", AMOUNT, 50_000)
    lost.clear()
    ends(shop, Expected(("succeeded",), captured=(AMOUNT,), refunded=(50_000,)))
    assert shop.amounts(payment_id) == ("succeeded", AMOUNT, 50_000)


def test_an_offer_that_took_something_off_does_not_pay_the_payment(shop: Shop) -> None:
    def discount(form: Mapping[str, str], ask: Callable[[], dict[str, object]]) -> dict[str, object]:
        said = ask()
        details = said.get("transaction_details")
        for entity in details.values() if form["command"] == "verify_payment" and isinstance(details, dict) else ():
            if entity.get("status") == "success":
                entity.update(net_amount_debit=1, disc="1498.00")
        return said

    between(shop, discount)
    payment_id = shop.pay()
    shop.play.settle(horizon=14 * DAYS)
    status, captured, _ = shop.amounts(payment_id)
    assert (status, captured) == ("expired", 0)  # alarmed each time, and never believed
