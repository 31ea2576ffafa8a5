"""Stripe's own Python package as a judge that nobody here wrote: it talks to our sandbox and checks our signatures.

It is a development requirement only; nothing of it ships.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import requests
import stripe
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.domain.outcome import Charge, ChargeStatus, Effect, EffectStatus, EventKind
from chalicelib.providers.base import Account, BadSignature
from chalicelib.providers.http import UrllibHttpClient
from chalicelib.providers.stripe import StripeProvider
from chalicelib.providers.stripe_wire import VERSION
from infra.sandbox import stripe_entities
from tests.contract.running import Running
from tests.contract.sandbox_world import AMOUNT, NOW, World, ref
from tests.contract.stripe_script import KEY, MADE, card

if TYPE_CHECKING:
    from collections.abc import Iterator

METADATA = {"reference": MADE.reference, "payment_id": MADE.payment_id}
PAY = {"amount": AMOUNT, "currency": "inr", "payment_method": "pm_card_visa", "confirm": True, "metadata": METADATA}
SECRET = "whsec_sandbox"


class Judge:
    """The package's client, beside our adapter, before one running sandbox."""

    def __init__(self, running: Running, session: requests.Session) -> None:
        self.running = running
        self._session = session
        provider, self.account = running.adapter("stripe")
        assert isinstance(provider, StripeProvider)
        self.provider = provider
        self.v1: Any = self.as_(self.account.credentials["secret_key"]).v1

    def as_(self, key: str) -> stripe.StripeClient:
        return stripe.StripeClient(
            key,
            base_addresses={"api": self.account.base_url.removesuffix("/v1")},
            http_client=stripe.RequestsClient(session=self._session),
            max_network_retries=0,
        )


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    server = Running()
    with requests.Session() as session:
        yield Judge(server, session)
    server.close()


@pytest.fixture(autouse=True)
def _afresh(judge: Judge) -> None:
    judge.running.root("POST", "/_reset")


def test_the_pinned_version_is_the_packages() -> None:
    assert stripe.api_version == VERSION == stripe_entities.VERSION


# its client and our sandbox


def test_it_takes_a_payment_in_one_call_and_refunds_it(judge: Judge) -> None:
    paid = judge.v1.payment_intents.create(PAY, {"idempotency_key": MADE.reference})
    assert isinstance(paid, stripe.PaymentIntent)
    assert (paid.status, paid.amount_received, paid.currency, paid.livemode) == ("succeeded", AMOUNT, "inr", False)
    assert dict(paid.metadata.to_dict()) == METADATA
    refund = judge.v1.refunds.create(
        {"payment_intent": paid.id, "amount": 500, "metadata": {"refund_id": KEY}}, {"idempotency_key": KEY}
    )
    assert isinstance(refund, stripe.Refund)
    assert (refund.status, refund.amount, refund.payment_intent) == ("succeeded", 500, paid.id)
    assert judge.v1.refunds.retrieve(refund.id).to_dict() == refund.to_dict()
    assert [row.id for row in judge.v1.refunds.list({"payment_intent": paid.id}).auto_paging_iter()] == [refund.id]
    shown = judge.v1.payment_intents.retrieve(paid.id, {"expand": ["latest_charge.payment_intent"]})
    charge: Any = shown.latest_charge
    assert isinstance(charge, stripe.Charge)
    assert (charge.amount_refunded, getattr(charge.payment_intent, "id", None)) == (500, paid.id)
    assert judge.running.truth()[0]["refunded"] == 500


def test_it_confirms_what_was_only_made_and_captures_less_than_was_held(judge: Judge) -> None:
    made = judge.v1.payment_intents.create({"amount": AMOUNT, "currency": "inr", "capture_method": "manual"})
    assert (made.status, made.latest_charge, made.last_payment_error) == ("requires_payment_method", None, None)
    with pytest.raises(stripe.InvalidRequestError) as missing:
        judge.v1.payment_intents.confirm(made.id)
    assert missing.value.code == "payment_intent_unexpected_state"
    held = judge.v1.payment_intents.confirm(made.id, {"payment_method": "pm_card_mastercard"})
    assert (held.status, held.amount_capturable) == ("requires_capture", AMOUNT)
    with pytest.raises(stripe.InvalidRequestError) as much:
        judge.v1.payment_intents.capture(made.id, {"amount_to_capture": AMOUNT + 1})
    assert much.value.http_status == 400
    taken = judge.v1.payment_intents.capture(made.id, {"amount_to_capture": 700})
    assert (taken.status, taken.amount, taken.amount_received) == ("succeeded", AMOUNT, 700)
    with pytest.raises(stripe.InvalidRequestError) as late:
        judge.v1.payment_intents.cancel(made.id)
    assert late.value.code == "payment_intent_unexpected_state"


def test_it_cancels_what_nobody_has_paid(judge: Judge) -> None:
    made = judge.v1.payment_intents.create({"amount": AMOUNT, "currency": "inr"})
    held = judge.v1.payment_intents.create({**PAY, "capture_method": "manual"})
    for intent in (made, held):
        canceled = judge.v1.payment_intents.cancel(intent.id)
        assert (canceled.status, canceled.amount_received) == ("canceled", 0)
        assert isinstance(canceled.canceled_at, int)
    assert {row["captured"] for row in judge.running.truth()} == {0}


@pytest.mark.parametrize(
    ("payment_method", "code", "decline_code"),
    [
        ("pm_card_visa_chargeDeclined", "card_declined", "generic_decline"),
        ("pm_card_visa_chargeDeclinedInsufficientFunds", "card_declined", "insufficient_funds"),
        ("pm_card_chargeDeclinedExpiredCard", "expired_card", "expired_card"),
        ("pm_card_chargeDeclinedIncorrectCvc", "incorrect_cvc", "incorrect_cvc"),
        ("pm_card_chargeDeclinedProcessingError", "processing_error", "processing_error"),
        ("pm_card_chargeCustomerFail", "card_declined", "generic_decline"),
        ("pm_card_radarBlock", "card_declined", "fraudulent"),
    ],
)
def test_it_raises_a_card_error_with_the_intent_in_it(
    judge: Judge, payment_method: str, code: str, decline_code: str
) -> None:
    with pytest.raises(stripe.CardError) as declined:
        judge.v1.payment_intents.create({**PAY, "payment_method": payment_method})
    error = declined.value.error
    assert error is not None
    assert (declined.value.http_status, error.code, error.decline_code) == (402, code, decline_code)
    assert isinstance(error.payment_intent, stripe.PaymentIntent)
    assert error.payment_intent.status == "requires_payment_method"
    paid = judge.v1.payment_intents.confirm(error.payment_intent.id, {"payment_method": "pm_card_visa"})
    assert (paid.status, paid.last_payment_error) == ("succeeded", None)
    assert len(judge.running.truth()) == 1


def test_it_is_sent_to_3d_secure_and_comes_back_with_the_intent(judge: Judge) -> None:
    asked = {**PAY, "payment_method": "pm_card_authenticationRequired", "return_url": "https://shop.example/back"}
    made = judge.v1.payment_intents.create(asked)
    assert (made.status, made.next_action.type) == ("requires_action", "redirect_to_url")
    page = UrllibHttpClient().request(
        "POST", made.next_action.redirect_to_url.url, headers={}, body=b"choice=approve&step=3ds"
    )
    assert page.status == 303
    assert f"payment_intent={made.id}" in page.headers["location"]
    assert judge.v1.payment_intents.retrieve(made.id).status == "succeeded"


def test_upi_is_scanned_or_approved(judge: Judge) -> None:
    upi = {"amount": AMOUNT, "currency": "inr", "confirm": True, "payment_method_types": ["upi"]}
    scanned = judge.v1.payment_intents.create({**upi, "payment_method_data": {"type": "upi"}})
    assert scanned.status == "requires_action"
    code = scanned.next_action.upi_handle_redirect_or_display_qr_code
    assert code.hosted_instructions_url.startswith("http://127.0.0.1:")
    assert code.qr_code.image_url_svg.endswith(".svg")
    with pytest.raises(stripe.InvalidRequestError):
        judge.v1.payment_intents.create({**upi, "currency": "usd", "payment_method_data": {"type": "upi"}})


def test_its_errors_are_its_own(judge: Judge) -> None:
    client = judge.v1
    with pytest.raises(stripe.AuthenticationError):
        judge.as_("sk_test_other").v1.payment_intents.create(PAY)  # type: ignore[arg-type]  # a plain dict
    for wrong, code in (
        ({**PAY, "amount": 49}, "amount_too_small"),
        ({**PAY, "amount": 100_000_000}, "amount_too_large"),
        ({**PAY, "amount": "1.5"}, "parameter_invalid_integer"),
        ({"amount": AMOUNT}, "parameter_missing"),
        ({**PAY, "payment_method": "pm_none"}, "resource_missing"),
        ({**PAY, "payment_method_types": ["upi"]}, "payment_intent_invalid_parameter"),
        ({**PAY, "nonsense": 1}, "parameter_unknown"),
    ):
        with pytest.raises(stripe.InvalidRequestError) as refused:
            client.payment_intents.create(wrong)
        assert (refused.value.http_status, refused.value.code) == (400, code)
    for missing in (client.payment_intents.retrieve, client.refunds.retrieve, client.charges.retrieve):
        with pytest.raises(stripe.InvalidRequestError) as none:
            missing("pi_none")
        assert (none.value.http_status, none.value.code) == (404, "resource_missing")
    judge.running.root("POST", "/_chaos", provider="stripe", operation="create", fault="rate_limited")
    with pytest.raises(stripe.RateLimitError):
        client.payment_intents.create(PAY)
    judge.running.root("POST", "/_chaos", provider="stripe", operation="create", fault="technical")
    with pytest.raises(stripe.APIError) as broken:
        client.payment_intents.create(PAY)
    assert broken.value.http_status == 500
    assert judge.running.truth() == []


def test_a_key_gives_its_first_answer_again(judge: Judge) -> None:
    key = {"idempotency_key": MADE.reference}
    first = judge.v1.payment_intents.create(PAY, key)
    again = judge.v1.payment_intents.create(PAY, key)
    assert (again.id, again.last_response.headers["Idempotent-Replayed"]) == (first.id, "true")
    with pytest.raises(stripe.IdempotencyError):
        judge.v1.payment_intents.create({**PAY, "amount": AMOUNT + 1}, key)
    assert len(judge.running.truth()) == 1


def test_search_lists_and_the_balance(judge: Judge) -> None:
    paid = [judge.v1.payment_intents.create(PAY) for _ in range(5)]
    names = [intent.id for intent in reversed(paid)]
    found = judge.v1.payment_intents.search({"query": f"metadata['reference']:'{MADE.reference}'"})
    assert [row.id for row in found.auto_paging_iter()] == names
    assert [row.id for row in judge.v1.payment_intents.list({"limit": 2}).auto_paging_iter()] == names
    since = {"created": {"gte": int(time.time()) - 60, "lt": int(time.time()) + 60}}
    assert len(judge.v1.payment_intents.list(since).data) == 5
    refund = judge.v1.refunds.create({"payment_intent": names[0], "amount": 500})
    lines = list(judge.v1.balance_transactions.list({"limit": 2, "expand": ["data.source"]}).auto_paging_iter())
    assert len(lines) == 6
    assert isinstance(lines[0].source, stripe.Refund)
    assert (lines[0].source.id, lines[0].net, lines[0].type) == (refund.id, -500, "refund")
    assert {type(line.source) for line in lines[1:]} == {stripe.Charge}
    assert all(line.net == line.amount - sum(fee.amount for fee in line.fee_details) for line in lines)


# what our adapter made


def test_what_our_adapter_made_is_what_the_package_sees(judge: Judge) -> None:
    made = replace(card(), capture="manual")
    said = judge.provider.create(judge.account, made)
    assert isinstance(said, Charge)
    assert said.status is ChargeStatus.AUTHORIZED
    held = judge.v1.payment_intents.retrieve(said.provider_reference)
    assert (held.status, held.amount, dict(held.metadata.to_dict())) == ("requires_capture", AMOUNT, METADATA)
    judge.v1.payment_intents.capture(held.id, {"amount_to_capture": 900})
    known = ref(made, said)
    found = judge.provider.fetch(judge.account, replace(known, provider_reference=None))
    assert isinstance(found, Charge)
    assert (found.status, found.captured, found.provider_reference) == (ChargeStatus.SUCCEEDED, 900, held.id)
    effect = judge.provider.refund(judge.account, known, 400, KEY)
    assert isinstance(effect, Effect)
    assert effect.status is EffectStatus.SUCCEEDED
    assert judge.v1.refunds.retrieve(effect.provider_reference).metadata["refund_id"] == KEY


# what the objects consist of


_CONSTANT, _OPTIONAL = "typing.ClassVar", ("typing.Optional", "NoneType")
_SOMETIMES = {"deleted", "transfer"}  # of what was deleted, and of what was passed on to another account


def _check(shown: Any) -> None:
    """Every field is one that the package knows, and what it says is always there is there."""
    known = {name: str(kind) for name, kind in type(shown).__annotations__.items()}
    fields = set(shown.to_dict())
    assert fields <= known.keys(), fields - known.keys()
    needed = {name for name, kind in known.items() if not any(word in kind for word in (_CONSTANT, *_OPTIONAL))}
    assert needed - _SOMETIMES <= fields, needed - fields
    for value in (getattr(shown, name) for name in fields - {"metadata"}):
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, stripe.StripeObject) and "__annotations__" in vars(type(part)):
                _check(part)


@pytest.mark.parametrize("payment_method", ["pm_card_visa", "pm_card_authenticationRequired"])
def test_every_field_is_stripes(judge: Judge, payment_method: str) -> None:
    asked = {**PAY, "payment_method": payment_method, "return_url": "https://shop.example/back"}
    shown = judge.v1.payment_intents.create(asked)
    _check(judge.v1.payment_intents.retrieve(shown.id, {"expand": ["latest_charge"]}))
    if payment_method == "pm_card_visa":
        _check(judge.v1.refunds.create({"payment_intent": shown.id, "amount": 500}))
        for line in judge.v1.balance_transactions.list().data:
            _check(line)


# webhooks


def _webhooks() -> list[Any]:
    world = World("stripe")
    paid = world.pay()
    world.give_back(paid.known, 500, KEY)
    world.pay(outcome="decline", number=2)
    world.authorize(3)
    now = time.time()
    return [world.sign(SECRET, webhook, now) for webhook in world.webhooks()]


def test_it_verifies_what_the_sandbox_signs_and_sees_the_same_in_it() -> None:
    world, seen = World("stripe"), set()
    for webhook in _webhooks():
        signature = webhook.headers["stripe-signature"]
        event: Any = stripe.Webhook.construct_event(webhook.body, signature, SECRET)
        _check(event)
        ours = world.provider.parse_webhook(
            world.account, webhook.headers, webhook.body, NOW.fromtimestamp(time.time(), NOW.tzinfo)
        )
        assert (ours.dedupe_key, ours.type) == (event.id, event.type)
        if ours.kind is EventKind.CHARGE:
            assert ours.charge is not None
            assert isinstance(event.data.object, stripe.PaymentIntent)
            assert (ours.provider_reference, ours.charge.amount) == (event.data.object.id, event.data.object.amount)
        elif ours.kind is EventKind.REFUND:
            assert ours.effect is not None
            assert isinstance(event.data.object, stripe.Refund)
            assert (ours.effect.provider_reference, ours.refund_key) == (event.data.object.id, KEY)
        seen.add(event.type)
    assert seen >= {
        "payment_intent.succeeded", "payment_intent.payment_failed", "payment_intent.amount_capturable_updated",
        "charge.succeeded", "refund.created", "refund.updated",
    }  # fmt: skip


def test_it_refuses_what_was_tampered_with() -> None:
    webhook = _webhooks()[0]
    signature = webhook.headers["stripe-signature"]
    for body, header, secret in (
        (webhook.body.replace(b"149900", b"149901"), signature, SECRET),
        (webhook.body, signature, "whsec_other"),
        (webhook.body, signature.replace("v1=", "v1=0"), SECRET),
        (webhook.body, signature.replace("t=1", "t=2"), SECRET),
        (webhook.body, "", SECRET),
    ):
        with pytest.raises(stripe.SignatureVerificationError):
            stripe.Webhook.construct_event(body, header, secret)


@given(
    body=st.text(max_size=40),
    secret=st.text("abcXYZ_0é", min_size=1, max_size=12),
    spoil=st.sampled_from(["", "secret", "body", "time", "scheme", "digit"]),
)
def test_it_and_our_adapter_agree_on_every_signature(body: str, secret: str, spoil: str) -> None:
    now, raw = int(time.time()), body.encode()
    _, headers = stripe_entities.sign(secret, raw, "evt_1", now)
    header = headers["stripe-signature"]
    match spoil:
        case "secret":
            secret += "x"
        case "body":
            raw += b"x"
        case "time":
            header = header.replace(f"t={now}", f"t={now - 1}")
        case "scheme":
            header = header.replace("v1=", "v0=")
        case "digit":
            header = header[:-1] + ("0" if header[-1] != "0" else "1")
    account = Account("acct", "stripe", "", {"secret_key": "sk_test_k"}, [secret])
    try:
        stripe.WebhookSignature.verify_header(raw, header, secret, 300)
        theirs = True
    except stripe.SignatureVerificationError:
        theirs = False
    try:
        StripeProvider(UrllibHttpClient()).parse_webhook(
            account, {"stripe-signature": header}, raw, NOW.fromtimestamp(now, NOW.tzinfo)
        )
        ours = True
    except BadSignature:
        ours = False
    assert ours is theirs is (spoil == "")
