"""What only Instamojo's format can get wrong, what is told: returns, webhooks, and the sandbox's own manners."""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest

from chalicelib.domain.ids import long_reference, short_reference
from chalicelib.domain.outcome import (
    EventKind,
    ProviderEvent,
)
from chalicelib.providers import instamojo_wire as wire
from chalicelib.providers.base import Account, BadSignature
from chalicelib.providers.instamojo import InstamojoProvider
from infra.sandbox.wire import Request
from tests.contract.instamojo_script import (
    ACCOUNT,
    ID,
    KNOWN,
    MADE,
    PAYMENT,
    PURPOSE,
    REQUEST,
    SALT,
    Script,
    charge,
    pay,
    visit,
)
from tests.contract.sandbox_world import NOTIFY_URL, NOW, World, intent, ref

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


# the way back


def test_a_return_only_has_to_name_our_request() -> None:
    provider = InstamojoProvider(Script({}))
    told = {"payment_id": "MOJO1", "payment_status": "Credit", "payment_request_id": ID}
    provider.verify_return(ACCOUNT, KNOWN, told)
    for params in (
        {},
        {**told, "payment_request_id": "x"},
        {**told, "payment_request_id": ""},
        {"payment_id": "MOJO1"},
    ):
        with pytest.raises(BadSignature):
            provider.verify_return(ACCOUNT, KNOWN, params)
        with pytest.raises(BadSignature):
            provider.verify_return(ACCOUNT, replace(KNOWN, data={}), params)
    with pytest.raises(BadSignature):
        provider.verify_return(ACCOUNT, replace(KNOWN, data={"request_id": ""}), {**told, "payment_request_id": ""})


@pytest.mark.parametrize(("choice", "status"), [("approve", "Credit"), ("decline", "Failed"), ("cancel", "Failed")])
def test_the_browser_brings_back_what_instamojo_documents(choice: str, status: str) -> None:
    world = World("instamojo")
    made = intent(return_url="https://shop.example/back?order=7")
    said = world.charge(made)
    answer = visit(world, said, choice=choice)
    assert answer.status == 303
    told = dict(parse_qsl(urlsplit(answer.headers["location"]).query))
    found = charge(world.provider.fetch(world.account, ref(made, said)))
    assert told == {
        "order": "7",
        "payment_id": found.provider_reference,
        "payment_status": status,
        "payment_request_id": said.data["request_id"],
    }
    world.provider.verify_return(world.account, ref(made, said), told)


# webhooks


def _vector() -> dict[str, object]:
    file = Path(__file__).parents[1] / "data" / "provider-vectors.json"
    (vector,) = (v for v in json.loads(file.read_text(encoding="utf-8"))["vectors"] if v["provider"] == "instamojo")
    return dict(vector)


def _parse(body: bytes, account: Account = ACCOUNT) -> ProviderEvent:
    return InstamojoProvider(Script({})).parse_webhook(account, {}, body, NOW)


def _signed(fields: Mapping[str, str], salt: str = SALT) -> bytes:
    """A webhook body; the mac is made here as the documents say, not as the adapter does."""
    message = "|".join(value for _, value in sorted(fields.items(), key=lambda pair: pair[0].lower()))
    mac = hmac.new(salt.encode(), message.encode(), hashlib.sha1).hexdigest()
    return urlencode({**fields, "mac": mac}).encode()


HOOK = {
    "payment_id": str(PAYMENT["payment_id"]),
    "status": "Credit",
    "shorturl": "",
    "longurl": str(REQUEST["longurl"]),
    "purpose": PURPOSE,
    "amount": "1499.00",
    "fees": "44.22",
    "currency": "INR",
    "buyer": "asha@example.com",
    "buyer_name": "Ásha & Söns",
    "buyer_phone": "+919800000000",
    "payment_request_id": ID,
}


def test_the_published_rule_for_the_mac_holds() -> None:
    vector = _vector()
    inputs = vector["inputs"]
    assert isinstance(inputs, dict)
    message = wire.signed_message(inputs["fields"])
    assert message.decode() == inputs["message"]
    assert wire.mac(inputs["salt"], message) == vector["expected"]
    body = urlencode({**inputs["fields"], "mac": vector["expected"]}).encode()
    event = _parse(body, replace(ACCOUNT, webhook_secrets=[inputs["salt"]]))
    assert (event.kind, event.provider_reference, event.reference) == (EventKind.HINT, "MOJO5a06005J21512197", None)
    assert (event.charge, event.verified) == (None, True)


@pytest.mark.parametrize("status", ["Credit", "Failed", "Held"])
def test_a_webhook_says_where_to_look_and_no_more(status: str) -> None:
    assert _parse(_signed({**HOOK, "status": status})) == ProviderEvent(
        f"MOJO6b21005A99887766:{status}", status, EventKind.HINT, MADE.reference, "MOJO6b21005A99887766", verified=True
    )


def test_a_signed_body_can_be_cut_anew_and_proves_nothing() -> None:
    """The mac joins values without their names: a buyer's name becomes another payment's amount and status."""
    theirs = short_reference(f"{MADE.payment_id}-02")
    name = f"x|1499.00|INR|MOJOfake|reqB|{theirs}|Credit"
    honest = _signed({**HOOK, "amount": "9.00", "buyer_name": name})
    fields = dict(parse_qsl(honest.decode(), keep_blank_values=True))
    values = wire.signed_message(fields).decode()
    before, _, after = values.partition("|1499.00|INR|MOJOfake|reqB|")
    cut = {
        "aaa": before, "amount": "1499.00", "currency": "INR", "payment_id": "MOJOfake", "payment_request_id": "reqB",
        "purpose": theirs, "status": "Credit", "zzz": after.partition("|Credit|")[2], "mac": fields["mac"],
    }  # fmt: skip
    event = _parse(urlencode(cut).encode())
    assert (event.kind, event.charge, event.effect) == (EventKind.HINT, None, None)
    assert event.reference == f"{MADE.payment_id}-02"
    assert _parse(honest).kind is EventKind.HINT


@pytest.mark.parametrize("payment_id", ["a|b", "x" * 65, "../x", "MOJO 1", "é", "\n"])
def test_what_is_no_payments_id_is_ignored(payment_id: str) -> None:
    assert _parse(_signed({**HOOK, "payment_id": payment_id})).kind is EventKind.IGNORED


@pytest.mark.parametrize("amount", ["1e999999", "1e99999999999999999999", "9" * 5000, "NaN", "-1", "1e-999999999", ""])
def test_no_amount_of_a_webhook_is_read(amount: str) -> None:
    started = perf_counter()
    assert _parse(_signed({**HOOK, "amount": amount, "fees": amount})).kind is EventKind.HINT
    assert perf_counter() - started < 1


def test_new_fields_any_case_and_any_order_belong_to_the_message() -> None:
    fields = {**HOOK, "Zeta": "z", "custom_fields": "{}", "BUYER_Note": "n", "empty": ""}
    for order in (list(fields), list(reversed(fields)), sorted(fields)):
        assert _parse(_signed({name: fields[name] for name in order})).kind is EventKind.HINT


@pytest.mark.parametrize("secrets", [[], [""], ["wrong"], ["", "wrong"]])
def test_a_webhook_needs_the_right_salt(secrets: list[str]) -> None:
    with pytest.raises(BadSignature):
        _parse(_signed(HOOK), replace(ACCOUNT, webhook_secrets=secrets))
    with pytest.raises(BadSignature):
        _parse(_signed(HOOK, ""), replace(ACCOUNT, webhook_secrets=secrets))
    assert _parse(_signed(HOOK), replace(ACCOUNT, webhook_secrets=[*secrets, SALT])).kind is EventKind.HINT


@pytest.mark.parametrize(
    "altered",
    [
        lambda body: body.replace(b"1499.00", b"1.00"),
        lambda body: body.replace(b"Credit", b"Failed"),
        lambda body: body.replace(PURPOSE.encode(), PURPOSE.swapcase().encode()),
        lambda body: body + b"&extra=1",
        lambda body: body + b"&status=Failed",
        lambda body: body + b"&Status=Failed",
        lambda body: body + b"&mac=" + b"0" * 40,
        lambda body: body.replace(b"mac=", b"Mac="),
        lambda body: body.replace(b"mac=", b"mac=0"),
        lambda body: body[:-1],
        lambda body: body.rpartition(b"mac=")[0] + b"mac=",
        lambda body: body.rpartition(b"&mac=")[0],
        lambda body: body.rpartition(b"mac=")[0] + b"mac=%C3%A9" + b"0" * 38,
        lambda body: body.rpartition(b"=")[0] + b"=" + body.rpartition(b"=")[2].upper(),
        lambda body: body.replace(b"shorturl=&", b""),
        lambda body: body + b"&x=%ff",
        lambda body: body.replace(b"%C3%81", b"\xff"),
        lambda body: body + b"&\xff\xfe=1",
        lambda body: b"{}",
        lambda body: b"",
        lambda body: b"\xff\xfe",
        lambda body: b"&&&===",
        lambda body: b"%",
        lambda body: body.decode().encode("utf-16"),
    ],
)
def test_an_altered_webhook_is_refused(altered: Callable[[bytes], bytes]) -> None:
    with pytest.raises(BadSignature):
        _parse(altered(_signed(HOOK)))


@pytest.mark.parametrize(
    "fields",
    [{}, {"a": "1"}, {"null": ""}, {"mac_of": "x"}, {**HOOK, "payment_id": ""}, {**HOOK, "status": ""}],
)
def test_a_signed_webhook_about_no_payment_is_ignored(fields: dict[str, str]) -> None:
    body = _signed(fields)
    event = _parse(body)
    assert (event.kind, event.charge, event.effect) == (EventKind.IGNORED, None, None)
    assert event.dedupe_key.startswith("sha256:")
    assert event.dedupe_key == _parse(body).dedupe_key


def test_a_name_that_is_there_in_two_cases_may_be_read_either_way() -> None:
    for name in ("Status", "PAYMENT_ID", "New"):
        with pytest.raises(BadSignature):
            _parse(_signed({"new": "", **HOOK, name: "Failed"}))


@pytest.mark.parametrize("name", sorted(HOOK))
def test_the_mac_covers_no_names_so_a_changed_one_is_believed_no_more(name: str) -> None:
    fields = dict(HOOK)
    fields[f"{name}0"] = fields.pop(name)
    if wire.signed_message(fields) == wire.signed_message(HOOK):
        event = _parse(_signed(fields))
        assert (event.kind, event.charge) == (
            EventKind.IGNORED if name in ("payment_id", "status") else EventKind.HINT, None,
        )  # fmt: skip
        assert event.reference in (None, MADE.reference)


def test_bytes_that_are_no_text_are_signed_as_what_they_are_read_as() -> None:
    odd = {**HOOK, "buyer_name": "\ufffd"}
    body = _signed(odd)
    assert _parse(body.replace(b"%EF%BF%BD", b"%ff")) == _parse(body) == _parse(body.replace(b"%EF%BF%BD", b"\xff"))


@pytest.mark.parametrize("purpose", ["FIFA 16", "", PURPOSE[:-1], f"{PURPOSE[:-1]}x", "é" * 24, "z" * 24])
def test_a_purpose_that_is_not_ours_gives_no_reference(purpose: str) -> None:
    assert long_reference(purpose) is None
    event = _parse(_signed({**HOOK, "purpose": purpose}))
    assert (event.reference, event.provider_reference) == (None, "MOJO6b21005A99887766")


def test_failures_are_told_only_where_support_switched_them_on() -> None:
    world = World("instamojo")
    pay(world, MADE, "decline@sim")
    assert world.events() == []
    assert world.root("POST", "/_config", provider="instamojo", events=["credit", "failed"]).status == 200
    pay(world, intent(number=2), "late_success@sim")
    told = world.events(6)
    assert [(event.kind, event.type) for event in told] == [(EventKind.HINT, "Failed"), (EventKind.HINT, "Credit")]
    assert len({event.dedupe_key for event in told}) == 2
    assert len({event.provider_reference for event in told}) == 1


def test_a_webhook_goes_where_the_request_said() -> None:
    world = World("instamojo")
    pay(world)
    world.clock.now += 1
    (webhook,) = world.bank.take_webhooks(world.clock.now)
    assert webhook.url == NOTIFY_URL
    assert webhook.headers["content-type"] == "application/x-www-form-urlencoded"
    assert set(dict(parse_qsl(webhook.body.decode(), keep_blank_values=True))) == {*HOOK, "mac"}


# the sandbox's own manners


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"purpose": ""}, "purpose"),
        ({"purpose": "x" * 31}, "purpose"),
        ({"amount": ""}, "amount"),
        ({"amount": "x"}, "amount"),
        ({"amount": "8.99"}, "amount"),
        ({"amount": "200000.01"}, "amount"),
        ({"amount": "10.001"}, "amount"),
        ({"email": "asha"}, "email"),
        ({"phone": "call me"}, "phone"),
        ({"redirect_url": "shop.example"}, "redirect_url"),
        ({"webhook": "javascript:1"}, "webhook"),
        ({"buyer_name": "A" * 101}, "buyer_name"),
    ],
)
def test_the_sandbox_refuses_what_instamojo_does(wrong: dict[str, str], field: str) -> None:
    world = World("instamojo")
    form = urlencode({"purpose": "FIFA 16", "amount": "2500", **wrong}).encode()
    answer = world.bank.handle("instamojo", Request("POST", "/api/1.1/payment-requests/", _keys(world), form))
    body = json.loads(answer.body)
    assert (answer.status, body["success"], list(body["message"])) == (400, False, [field])
    assert not world.bank.book.orders


def _keys(world: World) -> dict[str, str]:
    return {"x-api-key": world.account.credentials["api_key"], "x-auth-token": world.account.credentials["auth_token"]}


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/api/1.1/payments", 301),
        ("/api/1.1/payments/", 200),
        ("/api/1.1/payments/MOJOnone/", 404),
        ("/api/1.1/payment-requests/none/", 404),
        ("/api/1.1/payment-requests/?limit=501", 400),
        ("/api/1.1/payment-requests/?page=0", 400),
        ("/api/1.1/payment-requests/?min_created_at=yesterday", 400),
        ("/api/1.1/refunds/Cnone/", 404),
        ("/api/1.1/links/", 404),
        ("/elsewhere/", 404),
        ("/@sandbox/none", 404),
        ("/@sandbox/zz", 404),
    ],
)
def test_the_sandbox_answers_every_address(target: str, status: int) -> None:
    world = World("instamojo")
    assert world.bank.handle("instamojo", Request("GET", target, _keys(world))).status == status
    if target.startswith("/api") and status != 301:
        assert world.bank.handle("instamojo", Request("GET", target, {})).status == 401


def test_one_payment_of_a_request_can_be_asked_for_alone() -> None:
    world = World("instamojo")
    paid = pay(world)
    for path in (
        f"payments/{paid.provider_reference}",
        f"payment-requests/{paid.data['request_id']}/{paid.provider_reference}",
    ):
        answer = world.bank.handle("instamojo", Request("GET", f"/api/1.1/{path}/", _keys(world)))
        body = json.loads(answer.body)
        entity = body.get("payment") or body["payment_request"]["payment"]
        assert (entity["payment_id"], entity["amount"], entity["status"]) == (
            paid.provider_reference,
            "1499.00",
            "Credit",
        )
