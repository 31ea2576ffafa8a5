"""Razorpay's own Python package as a judge that nobody here wrote: it talks to our sandbox and checks our signatures.

It is a development requirement only; nothing of it ships.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import razorpay
import requests
from hypothesis import given
from hypothesis import strategies as st
from razorpay.errors import BadRequestError, GatewayError, ServerError, SignatureVerificationError

from chalicelib.domain.outcome import Charge, ChargeStatus, Effect, EffectStatus
from chalicelib.providers import razorpay_wire as wire
from chalicelib.providers.base import Account, BadSignature
from chalicelib.providers.razorpay import RazorpayProvider
from chalicelib.providers.signatures import sign
from tests.contract.browser import Return
from tests.contract.running import Running
from tests.contract.sandbox_world import AMOUNT, NOW, World, intent, ref

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chalicelib.providers.base import Provider

RECEIPT = "pay_01K0000000000000000000TEST-01"
NOTES = {"payment_id": "pay_01K0000000000000000000TEST", "reference": RECEIPT}


class Judge:
    """The package's client, beside our adapter, before one running sandbox."""

    def __init__(self, running: Running, session: requests.Session) -> None:
        self.running = running
        provider, self.account = running.adapter("razorpay")
        self.provider: Provider = provider
        self.client: Any = self.as_(self.account, session)
        self._session = session

    def as_(self, account: Account, session: requests.Session | None = None) -> Any:
        credentials = account.credentials
        base_url = account.base_url.removesuffix("/v1")
        pair = (credentials["key_id"], credentials["key_secret"])
        return razorpay.Client(session or self._session, auth=pair, base_url=base_url)

    def order(self, **more: object) -> dict[str, Any]:
        asked = {"amount": AMOUNT, "currency": "INR", "receipt": RECEIPT, "notes": NOTES}
        made: dict[str, Any] = self.client.order.create(asked | more)
        return made

    def pay(self, order: dict[str, Any], vpa: str = "success@sim") -> str:
        made = self.client.payment.createUpi(
            {
                "amount": AMOUNT, "currency": "INR", "order_id": order["id"], "email": "asha@example.com",
                "contact": "+919800000000", "method": "upi", "notes": NOTES, "upi": {"flow": "collect", "vpa": vpa},
            }
        )  # fmt: skip
        return str(made["razorpay_payment_id"])

    def known(self, payment_id: str, order_id: str) -> Any:
        made = intent()
        return ref(made, Charge(ChargeStatus.PENDING, payment_id, data={"order_id": order_id}))


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    server = Running()
    with requests.Session() as session:
        yield Judge(server, session)
    server.close()


@pytest.fixture(autouse=True)
def _afresh(judge: Judge) -> None:
    judge.running.root("POST", "/_reset")


# its client and our sandbox


def test_it_takes_a_payment_from_order_to_refund(judge: Judge) -> None:
    client = judge.client
    order = judge.order()
    assert (order["entity"], order["status"], order["receipt"], order["notes"]) == ("order", "created", RECEIPT, NOTES)
    payment_id = judge.pay(order)
    payment = client.payment.fetch(payment_id)
    assert (payment["status"], payment["captured"], payment["order_id"]) == ("captured", True, order["id"])
    assert client.order.fetch(order["id"])["status"] == "paid"
    assert [row["id"] for row in client.order.payments(order["id"])["items"]] == [payment_id]
    assert [row["id"] for row in client.order.all({"receipt": RECEIPT})["items"]] == [order["id"]]
    refund = client.payment.refund(payment_id, {"amount": 50_000, "receipt": "rf_oracle_0001"})
    assert (refund["status"], refund["amount"], refund["payment_id"]) == ("processed", 50_000, payment_id)
    assert client.refund.fetch(refund["id"]) == refund
    assert client.payment.fetch_multiple_refund(payment_id) == {"entity": "collection", "count": 1, "items": [refund]}
    assert client.payment.fetch(payment_id)["refund_status"] == "partial"
    assert judge.running.truth()[0]["refunded"] == 50_000


def test_it_captures_what_was_authorized(judge: Judge) -> None:
    order = judge.order(payment={"capture": "manual"})
    payment_id = judge.pay(order)
    assert judge.client.payment.fetch(payment_id)["status"] == "authorized"
    with pytest.raises(BadRequestError, match="equal to the amount authorized"):
        judge.client.payment.capture(payment_id, AMOUNT - 1, {"currency": "INR"})
    captured = judge.client.payment.capture(payment_id, AMOUNT, {"currency": "INR"})
    assert (captured["status"], captured["captured"]) == ("captured", True)


def test_it_reads_the_settlement_report(judge: Judge) -> None:
    payment_id = judge.pay(judge.order())
    judge.client.payment.refund(payment_id, {"amount": 50_000})
    book = judge.running.bank.book
    at = book.charges[payment_id].captured_at
    assert at is not None
    day = NOW.fromtimestamp(at + 5.5 * 3600, NOW.tzinfo).date()
    report = judge.client.settlement.report({"year": day.year, "month": day.month, "day": day.day})
    paid, back = report["items"]
    assert (paid["type"], paid["entity_id"], paid["credit"]) == ("payment", payment_id, AMOUNT - paid["fee"])
    assert (back["type"], back["payment_id"], back["debit"]) == ("refund", payment_id, 50_000)


@pytest.mark.parametrize(
    ("vpa", "expected"),
    [("decline@sim", BadRequestError), ("technical@sim", GatewayError), ("not_accepted@sim", BadRequestError)],
)
def test_it_understands_our_refusals(judge: Judge, vpa: str, expected: type[Exception]) -> None:
    with pytest.raises(expected):
        judge.pay(judge.order(), vpa)


def test_it_understands_our_errors(judge: Judge) -> None:
    with pytest.raises(BadRequestError, match="does not exist"):
        judge.client.payment.fetch("pay_none")
    with pytest.raises(BadRequestError, match="not required"):
        judge.order(surprise=1)
    wrong = judge.as_(Account("a", "razorpay", judge.account.base_url, {"key_id": "x", "key_secret": "y"}, []))
    with pytest.raises(BadRequestError, match="Authentication failed"):
        wrong.order.all()
    judge.running.root("POST", "/_chaos", provider="razorpay", operation="order", fault="technical")
    with pytest.raises(ServerError):
        judge.order()
    judge.running.root("POST", "/_chaos", provider="razorpay", operation="order", fault="rate_limited")
    with pytest.raises(ServerError):
        judge.order()


# its client beside our adapter


def test_what_it_made_our_adapter_finds(judge: Judge) -> None:
    order = judge.order()
    payment_id = judge.pay(order)
    found = judge.provider.fetch(judge.account, ref(intent()))
    assert isinstance(found, Charge)
    assert (found.status, found.provider_reference, found.captured) == (ChargeStatus.SUCCEEDED, payment_id, AMOUNT)
    refund = judge.client.payment.refund(payment_id, {"amount": 50_000, "receipt": "rf_oracle_0002"})
    known = judge.known(payment_id, order["id"])
    effect = judge.provider.fetch_refund(judge.account, known, "rf_oracle_0002", None)
    assert isinstance(effect, Effect)
    assert (effect.status, effect.provider_reference) == (EffectStatus.SUCCEEDED, refund["id"])


def test_what_our_adapter_made_it_finds(judge: Judge) -> None:
    made = intent(capture="manual")
    said = judge.provider.create(judge.account, made)
    assert isinstance(said, Charge)
    payment = judge.client.payment.fetch(said.provider_reference)
    assert (payment["status"], payment["notes"]["reference"]) == ("authorized", made.reference)
    assert wire.charge(payment).status is said.status is ChargeStatus.AUTHORIZED
    judge.client.payment.capture(said.provider_reference, AMOUNT, {"currency": "INR"})
    effect = judge.provider.capture(judge.account, ref(made, said), AMOUNT, "op_01K0000000000000000000CAP1")
    assert isinstance(effect, Effect)
    assert effect.status is EffectStatus.SUCCEEDED


# its signature checks and ours


def test_it_accepts_the_signatures_of_our_sandbox(judge: Judge) -> None:
    world = World("razorpay")
    webhook = world.signed()
    secret = world.account.webhook_secrets[0]
    utility = judge.client.utility
    body, signature = webhook.body.decode(), webhook.headers["x-razorpay-signature"]
    assert utility.verify_webhook_signature(body, signature, secret)
    for altered, given_signature, with_secret in (
        (body + " ", signature, secret), (body, signature[:-1] + "0", secret), (body, signature, "other"),
    ):  # fmt: skip
        with pytest.raises(SignatureVerificationError):
            utility.verify_webhook_signature(altered, given_signature, with_secret)


def test_it_accepts_what_our_checkout_posts_back(judge: Judge) -> None:
    world = World("razorpay")
    made, said = world.sent_to_page("card")
    back = world.choose(said, "approve", "4242424242424242")
    assert isinstance(back, Return)
    pair = (world.account.credentials["key_id"], world.account.credentials["key_secret"])
    utility = razorpay.Client(auth=pair).utility
    assert utility.verify_payment_signature(back.params)
    world.provider.verify_return(world.account, ref(made, said), back.params)
    tampered = back.params | {"razorpay_payment_id": "pay_another"}
    with pytest.raises(SignatureVerificationError):
        utility.verify_payment_signature(tampered)
    with pytest.raises(BadSignature):
        world.provider.verify_return(world.account, ref(made, said), tampered)


@given(
    order=st.from_regex(r"order_[A-Za-z0-9]{14}", fullmatch=True),
    payment=st.from_regex(r"pay_[A-Za-z0-9]{14}", fullmatch=True),
    secret=st.text(min_size=1, max_size=40).filter(lambda text: text.isprintable()),
)
def test_it_and_we_sign_alike(judge: Judge, order: str, payment: str, secret: str) -> None:
    params = {
        "razorpay_order_id": order,
        "razorpay_payment_id": payment,
        "razorpay_signature": sign(secret, f"{order}|{payment}".encode()),
    }
    assert razorpay.Client(auth=("key", secret)).utility.verify_payment_signature(params)
    account = Account("a", "razorpay", "https://x", {"key_id": "key", "key_secret": secret}, [])
    RazorpayProvider(judge.running.http).verify_return(account, judge.known(payment, order), params)
