"""Customers' contact details: nowhere in clear but at the provider, masked in lists, gone when they are erased."""

from __future__ import annotations

import base64
import json
import logging
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.api import outputs
from chalicelib.domain import contacts
from chalicelib.domain import payments as lifecycle
from chalicelib.domain.errors import ErrorClass, ErrorCode, PaymentError
from chalicelib.domain.model import Tenant
from chalicelib.domain.outcome import Charge, ChargeStatus, Effect, EffectStatus, EventKind, ProviderEvent
from chalicelib.domain.states import PaymentStatus
from chalicelib.providers import reasons
from chalicelib.services import customers, operations, payments, provider_events
from chalicelib.services.idempotency import Idem
from chalicelib.storage import mapping
from chalicelib.storage.sealing import Cipher, NotOpened, is_sealed
from tests.support import factories
from tests.support.access import ACTOR
from tests.support.api import ORDER, PAYMENT, Api, api_fixture
from tests.support.canary import watching
from tests.support.factories import KEYS, NOW
from tests.support.world import TENANT, Crash, Fault, World, unarmed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chalicelib.domain.model import Change, PaymentState

api = api_fixture("function")

CUSTOMER = {
    "name": "Zanele Quxley", "email": "zanele.quxley@mail.example", "contact": "+919812345670", "country": "IN",
    "ip": "49.205.77.88", "device": "device-marker-77", "segment": "gold",
}  # fmt: skip
VPA = "zanele.quxley@okbank"
PRIVATE = (*(CUSTOMER[name] for name in ("name", "email", "contact", "ip", "device")), VPA)
WISH: dict[str, Any] = {**PAYMENT, "method": {"type": "upi", "flow": "collect", "vpa": VPA}, "customer": CUSTOMER}
KEY = b"k" * 32


# -- nowhere ---------------------------------------------------------------------------------------


def _all_that_happens(api: Api) -> None:
    """Create, replay, wait, list, fail, refund, and let the provider tell of it."""
    first = api.post("/v1/payments", WISH, idem="first")
    assert api.post("/v1/payments", WISH, idem="first").body == first.body
    order = api.made("/v1/orders", ORDER)
    assert api.post("/v1/payments", {**WISH, "order_id": order["id"]}, headers={"Prefer": "wait=5"}).status == 201
    api.world.run()
    api.made(f"/v1/payments/{first.json['id']}/refunds", {"amount": 100})
    held = api.made("/v1/payments", {**WISH, "capture": "manual"})
    api.world.run()
    api.made(f"/v1/payments/{held['id']}/cancel", {})
    api.get(f"/v1/payments/{first.json['id']}/attempts")
    api.get("/v1/payments?customer.email=zanele.quxley%40mail.example")
    assert api.post("/v1/payments", {**WISH, "amount": "x"}).status == 422
    assert api.post("/v1/payments", {**WISH, "customer": CUSTOMER | {"extra": CUSTOMER["email"]}}).status == 422
    assert api.post("/v1/payments", {**WISH, "amount": 7}, idem="first").code == "idempotency_key_reused"
    whole = api.world.kit
    broken: Any = object()  # whatever is asked of it is an error, with the customer in the request's hands
    api.world.bring(replace(whole, store=broken))
    assert api.post("/v1/payments", WISH).status == 500
    api.world.bring(whole)
    api.world.run()


def test_contact_details_lie_nowhere_in_clear(api: Api) -> None:
    api.world.traffic = []
    with watching(api, logging.DEBUG) as watch:
        _all_that_happens(api)
        for secret in PRIVATE:
            places = {line.partition(":")[0] for line in watch.found(secret)}
            assert places <= {"provider"}, (secret, places)
        assert {"railyard-local-payments", "TransactWriteItems"} <= {
            line.partition(":")[0] for line in watch.found("gold")
        }  # we look in the right places
        # The provider is told all of it, as before.
        assert all("provider" in {line.partition(":")[0] for line in watch.found(secret)} for secret in PRIVATE)


def test_what_the_body_of_a_request_was_cannot_be_guessed_from_its_keys_row(api: Api) -> None:
    api.made("/v1/payments", WISH, idem="k")
    from chalicelib.api.idempotency import fingerprint  # noqa: PLC0415 - only here

    rows = [row for row in api.world.dynamo.tables["railyard-local-guards"].items() if "fingerprint" in row]
    assert fingerprint(WISH) not in {row["fingerprint"]["S"] for row in rows}
    assert fingerprint(WISH, KEY) in {row["fingerprint"]["S"] for row in rows}


def test_a_provider_event_is_sealed_in_the_queue_and_names_nobody_as_an_orphan(api: Api) -> None:
    error = PaymentError(ErrorClass.DECLINED_CUSTOMER, ErrorCode.PAYMENT_DECLINED, f"{VPA} refused", VPA)
    event = ProviderEvent(
        "e1", "payment.failed", EventKind.CHARGE, provider_reference="ch_1",
        charge=Charge(ChargeStatus.DECLINED, "ch_1", 5, "INR", error=error, next_action={"email": CUSTOMER["email"]}),
        effect=Effect(EffectStatus.FAILED, error=error),
    )  # fmt: skip
    kit = api.world.kit
    message = provider_events.message_of(kit, TENANT, "acct_simulator", event)
    text = json.dumps(message)
    assert not any(secret in text for secret in PRIVATE)
    assert message["about"] == {"type": "payment.failed", "reference": "ch_1"}
    assert provider_events.event_in(kit, TENANT, message) == event
    earlier = {name: value for name, value in message.items() if name != "sealed"}
    assert provider_events.event_in(kit, TENANT, earlier | {"event": provider_events.to_dict(event)}) == event
    with pytest.raises(NotOpened):
        provider_events.event_in(kit, TENANT, message | {"account": "acct_razorpay"})

    provider_events.keep_orphan(kit, TENANT, "acct_simulator", event)
    (orphan,) = (row for row in api.snapshot()["railyard-local-payments"] if row["kind"]["S"] == "orphan")
    assert not any(secret in str(orphan) for secret in PRIVATE)
    assert json.loads(orphan["event"]["S"])["charge"]["amount"] == 5


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("invalid_vpa", "invalid_vpa"), ("U30", "U30"), ("E1605", "E1605"), (None, None),
        (f"Invalid VPA {VPA} given", "Invalid VPA ••• given"), ("No such phone: +91 98123-45670.", "No such phone: •••."),
    ],
)  # fmt: skip
def test_a_providers_sentence_keeps_no_address_and_no_number(said: str | None, kept: str | None) -> None:
    assert reasons.error_of(reasons.INVALID, said).provider_code == kept


# -- sealing ---------------------------------------------------------------------------------------


@given(st.binary(max_size=300))
@settings(max_examples=30)
def test_what_is_sealed_opens_for_the_same_only(plain: bytes) -> None:
    cipher = Cipher(TENANT, KEY)
    sealed = cipher.seal("payment", "pay_1", plain)
    assert is_sealed(sealed)
    assert len(sealed) == len(plain) + 29
    assert cipher.open("payment", "pay_1", sealed) == plain
    assert cipher.seal("payment", "pay_1", plain) != sealed
    strangers = [
        (Cipher(TENANT, b"l" * 32), "payment", "pay_1"),
        (Cipher(Tenant("mer_02OTHER", "test"), KEY), "payment", "pay_1"),
        (Cipher(Tenant(TENANT.merchant_id, "live"), KEY), "payment", "pay_1"),
        (cipher, "answer", "pay_1"),
        (cipher, "payment", "pay_2"),
    ]
    for other, purpose, about in strangers:
        with pytest.raises(NotOpened):
            other.open(purpose, about, sealed)


def test_what_is_damaged_does_not_open() -> None:
    cipher = Cipher(TENANT, KEY)
    sealed = cipher.seal("payment", "pay_1", b"a@example.com")
    broken = [b"", sealed[:1], sealed[:5], sealed[:-1], sealed + b"x", b"\x02" + sealed[1:], b"{}"]
    broken += [sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :] for at in range(len(sealed))]
    for one in broken:
        with pytest.raises(NotOpened) as refused:
            cipher.open("payment", "pay_1", one)
        assert "example.com" not in str(refused.value)


def test_a_merchant_without_a_key_seals_nothing() -> None:
    with pytest.raises(ValueError, match="no test key"):
        Cipher(TENANT, b"")


def test_the_key_is_none_that_hashes_are_made_with() -> None:
    """Customers' and cards' hashes come from the same root: none of them may be a key."""
    cipher = Cipher(TENANT, KEY)
    hashed = payments.customer_key(KEY, CUSTOMER["email"]) or ""
    assert hashed.removeprefix("cus_") not in cipher._key(b"").hex()
    assert cipher._key(b"a") != cipher._key(b"b")


def test_a_payment_that_an_earlier_release_wrote_in_clear_is_read_and_sealed_by_its_next_write() -> None:
    payment = factories.make_payment(
        customer=dict(CUSTOMER), method={"type": "upi", "vpa": VPA}, status=PaymentStatus.REQUIRES_ACTION,
        next_action={"type": "form_post", "fields": {"email": CUSTOMER["email"]}},
    )  # fmt: skip
    item = mapping.to_payment_item(payment, 1, factories.cipher)
    assert mapping.payment_of(item, factories.cipher) == payment
    earlier = mapping.to_payment_item(payment, 1, factories.cipher)
    earlier.sealed = None
    earlier.customer, earlier.method = dict(payment.customer), dict(payment.method)
    earlier.next_action = dict(payment.next_action or {})
    assert mapping.payment_of(earlier, factories.cipher) == payment

    def never(_: Tenant) -> Cipher:
        raise AssertionError("nothing to open")

    assert mapping.payment_of(earlier, never) == payment
    bare = factories.make_payment(customer={"country": "IN"}, method={"type": "netbanking", "bank": "HDFC"})
    assert mapping.to_payment_item(bare, 1, never).sealed is None


def test_an_answer_that_an_earlier_release_stored_is_replayed(api: Api) -> None:
    first = api.post("/v1/payments", WISH, idem="k")
    from zlib import compress  # noqa: PLC0415 - as the earlier release did

    from chalicelib.api.idempotency import fingerprint  # noqa: PLC0415

    table = api.world.dynamo.tables["railyard-local-guards"]
    (row,) = (row for row in table.items() if row["kind"]["S"] == "idempotency")
    assert is_sealed(base64.b64decode(row["body"]["B"]))
    row["body"] = {"B": base64.b64encode(compress(first.body)).decode()}
    row["fingerprint"] = {"S": fingerprint(WISH)}
    again = api.post("/v1/payments", WISH, idem="k")
    assert (again.status, again.body, again.headers["idempotency-replayed"]) == (201, first.body, "true")
    assert api.post("/v1/payments", {**WISH, "amount": 1}, idem="k").code == "idempotency_key_reused"


# -- what is shown ---------------------------------------------------------------------------------


def test_one_payment_is_shown_in_full_and_lists_are_masked(api: Api) -> None:
    made = api.made("/v1/payments", WISH)
    shown = api.get(f"/v1/payments/{made['id']}").json
    assert shown["method"]["vpa"] == VPA
    assert re.fullmatch("cus_[0-9a-f]{32}", shown["customer"]["id"])
    assert shown["customer"] == made["customer"] == CUSTOMER | {"id": shown["customer"]["id"]}
    for path in ("/v1/payments", "/v1/payments?customer.email=ZANELE.quxley%40mail.example"):
        answer = api.get(path)
        (listed,) = answer.json["data"]
        assert listed["method"] == {"type": "upi", "flow": "collect", "vpa": "za•••@okbank"}
        assert listed["customer"] == {
            "id": shown["customer"]["id"], "name": "•••", "email": "z•••@mail.example", "contact": "•••5670",
            "country": "IN", "ip": "•••", "device": "•••", "segment": "gold",
        }  # fmt: skip
        assert not any(secret in answer.body.decode() for secret in PRIVATE)


def test_what_is_left_to_do_is_not_shown_in_lists(api: Api) -> None:
    made = api.made("/v1/payments", {**WISH, "method": {"type": "upi", "vpa": "action@sim"}})
    api.world.run(horizon=20)
    shown = api.get(f"/v1/payments/{made['id']}").json
    assert len(shown["next_action"]) > 1
    (listed,) = api.get("/v1/payments").json["data"]
    assert listed["next_action"] == {"type": shown["next_action"]["type"]}


@pytest.mark.parametrize(
    ("customer", "masked"),
    [
        ({"email": "a@example.com"}, {"email": "a•••@example.com"}),
        ({"contact": "+91 98000 00000"}, {"contact": "•••0000"}),
        ({"ip": "2001:db8::1"}, {"ip": "•••"}),
        ({"country": "IN", "segment": "vip"}, {"country": "IN", "segment": "vip"}),
        ({"something new": "x"}, {"something new": "•••"}),
        ({}, {}),
    ],
)
def test_masks(customer: Mapping[str, str], masked: Mapping[str, str]) -> None:
    assert contacts.masked_customer(customer) == masked


@pytest.mark.parametrize(
    ("vpa", "masked"), [("asha@okbank", "as•••@okbank"), ("as@okbank", "•••@okbank"), ("9812345670@ybl", "98•••@ybl")]
)
def test_masked_addresses(vpa: str, masked: str) -> None:
    assert contacts.masked_method({"type": "upi", "vpa": vpa}) == {"type": "upi", "vpa": masked}


def test_a_customer_is_known_by_the_email_or_else_by_the_number(api: Api) -> None:
    def customer_of(**customer: str) -> str | None:
        found: str | None = api.made("/v1/payments", {**PAYMENT, "customer": customer})["customer"].get("id")
        return found

    email, number = "a@example.com", "+91 98123 45670"
    assert customer_of(email=email, contact=number) == customer_of(email="A@Example.com") != customer_of(contact=number)
    assert customer_of(contact=number) == customer_of(contact="+919812345670")
    assert customer_of(country="IN") is None
    assert payments.customer_key(KEY, email) != payments.customer_key(b"l" * 32, email)


# -- erasing ---------------------------------------------------------------------------------------


def _erase(api: Api, customer: str, **kwargs: Any) -> dict[str, Any]:
    answer = api.post(f"/v1/customers/{customer}/erase", idem=None, **kwargs)
    assert answer.status == 200, answer
    shown: dict[str, Any] = answer.json
    assert json.loads(outputs.Erasure.model_validate(shown).model_dump_json()) == shown
    return shown


def _stored(api: Api) -> str:
    return str(api.snapshot()["railyard-local-payments"])


def test_a_customer_is_erased_from_every_payment_and_the_books_stay(api: Api) -> None:
    paid = [api.paid(**{name: WISH[name] for name in ("method", "customer")}) for _ in range(3)]
    other = api.paid(method=WISH["method"], customer=CUSTOMER | {"email": "other@mail.example"})
    customer = paid[0]["customer"]["id"]
    ledger = api.get(f"/v1/payments/{paid[0]['id']}/ledger").json
    assert _erase(api, customer) == {
        "object": "erasure", "id": customer, "payments": 3, "pending": 0, "complete": True, "next_cursor": None,
    }  # fmt: skip
    for before in paid:
        after = api.get(f"/v1/payments/{before['id']}").json
        assert after["customer"] == {"id": customer, "country": "IN", "segment": "gold"}
        assert after["method"] == {"type": "upi", "flow": "collect"}
        same = set(before) - {"customer", "method", "updated_at", "version"}
        assert {name: after[name] for name in same} == {name: before[name] for name in same}
        event = api.get(f"/v1/payments/{before['id']}/events").json["data"][-1]
        assert (event["type"], event["sequence"]) == ("payment.customer_erased", after["version"])
        assert set(event["data"]) == {"by"}
    assert api.get(f"/v1/payments/{paid[0]['id']}/ledger").json == ledger
    assert api.get(f"/v1/payments/{other['id']}").json["customer"]["email"] == "other@mail.example"
    # Who asks again changes nothing; the payments are still the customer's, and can be refunded.
    kept = _stored(api)
    assert _erase(api, customer)["payments"] == 0
    assert _erase(api, customer)["complete"]
    assert _stored(api) == kept
    found = api.get("/v1/payments?customer.email=zanele.quxley%40mail.example").json["data"]
    assert {one["id"] for one in found} == {one["id"] for one in paid}
    api.made(f"/v1/payments/{paid[0]['id']}/refunds", {})
    api.world.run()
    assert api.get(f"/v1/payments/{paid[0]['id']}").json["refund_status"] == "full"


def test_nobody_is_told_of_an_erasure_by_webhook(api: Api) -> None:
    customer = api.paid(customer=CUSTOMER)["customer"]["id"]
    before = len(api.world.inbox)
    _erase(api, customer)
    api.world.run()
    assert len(api.world.inbox) == before


def test_a_payment_that_is_under_way_keeps_its_customer_until_it_is_over(api: Api) -> None:
    done = api.paid(customer=CUSTOMER)
    made = api.made("/v1/payments", WISH)
    erased = _erase(api, done["customer"]["id"])
    assert (erased["payments"], erased["pending"], erased["complete"]) == (1, 1, False)
    assert api.get(f"/v1/payments/{made['id']}").json["customer"]["email"] == CUSTOMER["email"]
    api.world.run()
    erased = _erase(api, done["customer"]["id"])
    assert (erased["payments"], erased["pending"], erased["complete"]) == (1, 0, True)


def test_a_long_history_is_erased_request_by_request(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(customers, "_AT_ONCE", 2)
    paid = []
    for _ in range(5):
        paid.append(api.paid(customer=CUSTOMER))
        api.world.clock.time += 1
    customer, cursor, counts = paid[0]["customer"]["id"], "", []
    for _ in range(10):
        answer = api.post(f"/v1/customers/{customer}/erase{cursor}", idem=None).json
        counts.append(answer["payments"])
        if answer["complete"]:
            break
        # At the end it has looked at the last ones only: one more look at all of them says that it is complete.
        cursor = f"?cursor={answer['next_cursor']}" if answer["next_cursor"] else ""
    assert counts == [2, 2, 1, 0]
    assert all(api.get(f"/v1/payments/{one['id']}").json["customer"].get("email") is None for one in paid)
    # Without a cursor those that are erased are passed over.
    api.paid(customer=CUSTOMER)
    assert api.post(f"/v1/customers/{customer}/erase", idem=None).json["payments"] == 1
    assert api.post(f"/v1/customers/{customer}/erase?cursor=x", idem=None).code == "invalid_cursor"


def test_customers_of_others_and_of_nobody_are_not_there(api: Api) -> None:
    customer = api.paid(customer=CUSTOMER)["customer"]["id"]
    kept = _stored(api)
    for key in (api.other_key, api.live_key):
        answer = api.post(f"/v1/customers/{customer}/erase", idem=None, key=key)
        assert (answer.status, answer.code) == (404, "customer_not_found")
    for unknown in ("cus_" + "0" * 32, "cus_", "x", customer.upper(), CUSTOMER["email"]):
        assert api.post(f"/v1/customers/{unknown}/erase", idem=None).code == "customer_not_found"
    assert api.post(f"/v1/customers/{customer}/erase", idem=None, key=None).status == 401
    assert _stored(api) == kept


# -- crash and race --------------------------------------------------------------------------------


def _idem(key: str) -> Idem:
    return Idem(KEYS + key, "f", 201, lambda _: {"id": "x"}, 1000)


def _paid(world: World, count: int) -> list[PaymentState]:
    wish = payments.NewPayment(5000, "INR", {"type": "upi", "flow": "collect", "vpa": VPA}, customer=dict(CUSTOMER))
    made = [payments.create(world.kit, TENANT, wish, _idem(str(number))) for number in range(count)]
    world.run()
    return [payments.state(world.kit, TENANT, one.payment.id) for one in made]


def _holding(world: World, states: list[PaymentState]) -> int:
    now = [payments.get(world.kit, TENANT, one.payment.id) for one in states]
    return sum(bool(contacts.private_of(payment)) for payment in now)


@pytest.mark.parametrize("kind", ["crash_before", "crash_after", "conflict", "refused", "lost"])
def test_an_erasure_that_dies_anywhere_is_finished_by_asking_again(kind: Any) -> None:
    calls = 0
    for at in range(20):
        with World(fault=Fault(at, kind)) as world:
            states = _paid(world, 3)
            customer = states[0].payment.customer_key or ""

            def ask(world: World = world, customer: str = customer) -> Any:
                return customers.erase(world.kit, TENANT, customer, cursor=None, by=ACTOR)

            world.points.clear()
            world.armed = True
            try:
                world.perform("request", ask)
            except (Crash, Exception):  # noqa: BLE001 - whatever it is, the merchant asks again
                calls += 1
            struck = world.fault is not None and world.fault.struck is not None
            world.armed = False
            assert world.perform("request", ask).pending == 0
            with unarmed(world):
                assert _holding(world, states) == 0
                for one in states:
                    events = world.kit.queries.events(TENANT, one.payment.id)
                    assert [event.type for event in events].count("payment.customer_erased") == 1
                    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
            if not struck:
                return
    raise AssertionError("more calls than are needed")


def test_an_erasure_and_a_refund_at_once_both_happen() -> None:
    with World() as world:
        (state,) = _paid(world, 1)
        about, customer = state.payment.id, state.payment.customer_key or ""
        refunded: list[Change] = []

        class Rival(type(world.kit.store)):  # type: ignore[misc]
            def commit(self, change: Change, **kwargs: Any) -> None:
                if not refunded and change.events[-1].type == "payment.customer_erased":
                    refunded.append(change)
                    operations.refund(world.kit, TENANT, about, 2000, None, _idem("refund"), by=ACTOR)
                super().commit(change, **kwargs)

        world.bring(replace(world.kit, store=Rival("railyard-local", world.cipher)))
        assert customers.erase(world.kit, TENANT, customer, cursor=None, by=ACTOR).payments == 1
        world.run()
        after = payments.get(world.kit, TENANT, about)
        assert (after.amount_refunded, dict(after.method), bool(contacts.private_of(after))) == (
            2000, {"type": "upi", "flow": "collect"}, False,
        )  # fmt: skip


def test_only_a_payment_that_is_over_and_names_somebody_is_changed() -> None:
    over = factories.make_payment(status=PaymentStatus.FAILED, customer=dict(CUSTOMER), customer_key="cus_1")
    change = lifecycle.erase_customer(factories.state_of(over), NOW, by=ACTOR.id)
    assert change is not None
    assert change.payment is not None
    assert (change.payment.customer, change.payment.customer_key) == ({"country": "IN", "segment": "gold"}, "cus_1")
    again = replace(over, customer=change.payment.customer, method={"type": "upi"})
    assert lifecycle.erase_customer(factories.state_of(again), NOW, by=ACTOR.id) is None
    for status in PaymentStatus:
        payment = replace(over, status=status)
        is_over = lifecycle.erase_customer(factories.state_of(payment), NOW, by=ACTOR.id) is not None
        assert is_over == (status in {"succeeded", "failed", "canceled", "expired"})


def test_a_card_number_in_the_place_of_an_id_is_not_logged(api: Api) -> None:
    """Found by the contract's own tests, which make up ids."""
    number = "4000000000000069"
    with watching(api, logging.INFO) as watch:
        for path in (f"/webhooks/razorpay/{number}", f"/v1/provider-accounts/{number}/test"):
            assert api.post(path, {}).status == 404
        assert not watch.found(number)
