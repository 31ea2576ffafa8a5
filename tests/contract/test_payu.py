"""What only PayU's format can get wrong: hashes, the form, the postservice, how a transaction stands."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest

from chalicelib.domain.errors import ErrorClass, ErrorCode
from chalicelib.domain.outcome import (
    Charge,
    ChargeStatus,
    NotSent,
    Unknown,
)
from chalicelib.providers import payu_wire
from chalicelib.providers.base import Account, BadSignature
from chalicelib.providers.http import NotSentError, UnknownError
from chalicelib.providers.payu import PayuProvider
from infra.sandbox import payu_entities
from tests.contract.payu_script import (
    ACCOUNT,
    CAPTURE,
    ENTITY,
    KEY,
    KNOWN,
    MADE,
    PAYUID,
    REFUND,
    RETURN_URL,
    SALT,
    TXNID,
    VOID,
    Script,
    made,
    verified,
)
from tests.contract.sandbox_world import AMOUNT, NOW

if TYPE_CHECKING:
    from chalicelib.providers.base import ChargeIntent


VECTORS = {
    vector["id"]: vector
    for vector in json.loads(
        (Path(__file__).parent.parent / "data" / "provider-vectors.json").read_text(encoding="utf-8")
    )["vectors"]
    if vector["provider"] == "payu"
}


# hashes


def test_the_published_request_hashes_are_ours() -> None:
    for name in ("payu-request-1", "payu-request-2"):
        inputs = VECTORS[name]["inputs"]
        for request_hash in (payu_wire.request_hash, payu_entities.request_hash):
            assert request_hash(inputs["salt"], inputs) == VECTORS[name]["expected"]


def test_the_published_command_hash_is_ours() -> None:
    inputs = VECTORS["payu-command-1"]["inputs"]
    expected = VECTORS["payu-command-1"]["expected"]
    assert payu_wire.command_hash(inputs["salt"], inputs["key"], inputs["command"], inputs["var1"]) == expected
    assert payu_entities.command_hash(inputs["salt"], inputs) == expected


def test_the_response_hash_is_ours() -> None:
    inputs = VECTORS["payu-response-1"]["inputs"]
    for response_hash in (payu_wire.response_hash, payu_entities.response_hash):
        assert response_hash(inputs["salt"], inputs) == VECTORS["payu-response-1"]["expected"]
    payu_wire.check([inputs["salt"]], {**inputs, "hash": VECTORS["payu-response-1"]["expected"]})


def test_the_sdks_formula_without_the_status_proves_nothing() -> None:
    """payu-reverse-1 comes from the SDK's own test: with it, the hash of a failure would prove a success."""
    sdk = {**VECTORS["payu-request-1"]["inputs"], "hash": VECTORS["payu-reverse-1"]["expected"]}
    fields = [sdk[name] for name in ("email", "firstname", "productinfo", "amount", "txnid", "key")]
    assert hashlib.sha512("|".join([SALT, *[""] * 10, *fields]).encode()).hexdigest() == sdk["hash"]
    for status in ({}, {"status": ""}, {"status": "success"}, {"status": "failure"}):
        with pytest.raises(BadSignature):
            payu_wire.check([SALT], {**sdk, **status})
        body = urlencode({**sdk, **status, "mihpayid": PAYUID, "unmappedstatus": "captured"}).encode()
        with pytest.raises(BadSignature):
            PayuProvider(Script()).parse_webhook(ACCOUNT, {}, body, NOW)


# the form


def form_of(made: ChargeIntent, account: Account = ACCOUNT) -> dict[str, str]:
    script = Script()
    charge = PayuProvider(script).create(account, made)
    assert isinstance(charge, Charge), charge
    assert (charge.status, charge.provider_reference, script.sent) == (ChargeStatus.ACTION_REQUIRED, None, [])
    assert charge.next_action is not None
    assert (charge.next_action["type"], charge.next_action["url"]) == ("form_post", "https://secure.payu.in/_payment")
    fields = charge.next_action["fields"]
    assert isinstance(fields, dict)
    return fields


def test_the_form_is_signed_and_the_same_each_time() -> None:
    fields = form_of(MADE)
    assert fields == form_of(MADE)
    assert fields["hash"] == payu_entities.request_hash(SALT, fields)
    assert {name: fields[name] for name in fields if name != "hash"} == {
        "key": KEY, "txnid": TXNID, "amount": "1499.00", "productinfo": "Two books", "firstname": "Asha Rao",
        "email": "asha@example.com", "phone": "9800000000", "surl": RETURN_URL, "furl": RETURN_URL,
        "udf1": MADE.reference, "pg": "UPI", "bankcode": "UPI", "vpa": "success@sim",
    }  # fmt: skip
    assert re.fullmatch(r"[A-Za-z0-9]{24}", TXNID)


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ({"type": "upi", "flow": "intent"}, {"pg": "UPI", "bankcode": "UPI"}),
        ({"type": "netbanking", "bank": "HDFC"}, {"pg": "NB", "bankcode": "HDFC"}),
        ({"type": "wallet", "wallet": "PAYTM"}, {"pg": "CASH", "bankcode": "PAYTM"}),
        ({"type": "card"}, {"pg": "CC", "bankcode": "CC"}),
    ],
)
def test_the_method_chooses_the_channel(method: dict[str, str], expected: dict[str, str]) -> None:
    fields = form_of(made(method=method))
    assert {name: fields[name] for name in expected} == expected
    assert not {"vpa", "pre_authorize", "ccnum"} & set(fields)
    assert form_of(made(method=method, capture="manual"))["pre_authorize"] == "1"


@pytest.mark.parametrize(
    ("amount", "text"), [(100, "1.00"), (101, "1.01"), (149_900, "1499.00"), (99_999_999_999, "999999999.99")]
)
def test_amounts_are_exact_to_the_byte(amount: int, text: str) -> None:
    fields = form_of(made(amount=amount))
    assert fields["amount"] == text
    assert fields["hash"] == payu_entities.request_hash(SALT, {**fields, "amount": text})


@pytest.mark.parametrize(
    ("description", "productinfo"),
    [
        ("Book|7|x", "Book7x"),
        ("100% \"cotton\" <b> & 'more'", "100 cotton b  more"),
        ("पुस्तक 7", "पुस्तक 7"),
        ("|&%", "Payment"),
        (None, "Payment"),
        ("x" * 200, "x" * 100),
    ],
)
def test_nothing_in_the_form_shifts_the_fields_of_its_hash(description: str | None, productinfo: str) -> None:
    fields = form_of(replace(made(name="Asha|Rao"), description=description))
    assert (fields["productinfo"], fields["firstname"]) == (productinfo, "AshaRao")
    assert not any("|" in value for value in fields.values())


@pytest.mark.parametrize(("contact", "phone"), [("+919800000000", "9800000000"), ("+14155550100", "14155550100")])
def test_a_phone_number_is_digits(contact: str, phone: str) -> None:
    assert form_of(replace(MADE, customer={**MADE.customer, "contact": contact}))["phone"] == phone


@pytest.mark.parametrize("name", ["name", "email", "contact", "return_url"])
def test_what_is_mandatory_is_declared_and_never_invented(name: str) -> None:
    required = PayuProvider.capabilities.required
    assert (name if name == "return_url" else f"customer.{name}") in required
    customer = {field: value for field, value in MADE.customer.items() if field != name}
    lacking = replace(MADE, customer=customer, return_url=None if name == "return_url" else RETURN_URL)
    outcome = PayuProvider(Script()).create(ACCOUNT, lacking)
    assert isinstance(outcome, NotSent)
    assert outcome.error.code is ErrorCode.NOT_ACCEPTED


@pytest.mark.parametrize("email", [f"{'x' * 50}@example.com", "a|b@example.com"])
def test_an_email_that_payu_cannot_take_is_not_cut(email: str) -> None:
    outcome = PayuProvider(Script()).create(ACCOUNT, replace(MADE, customer={**MADE.customer, "email": email}))
    assert isinstance(outcome, NotSent)


@pytest.mark.parametrize("credentials", [{}, {"key": KEY}, {"key": KEY, "salt": ""}, {"key": "", "salt": SALT}])
def test_without_a_salt_nothing_is_signed_or_sent(credentials: dict[str, str]) -> None:
    account = replace(ACCOUNT, credentials=credentials)
    script = Script()
    provider = PayuProvider(script)
    for outcome in (provider.create(account, MADE), provider.fetch(account, KNOWN)):
        assert isinstance(outcome, NotSent)
        assert outcome.error.error_class is ErrorClass.CONFIG
    assert script.sent == []


# the postservice


@pytest.mark.parametrize(
    ("base_url", "expected"),
    [
        ("https://secure.payu.in", "https://info.payu.in/merchant/postservice.php?form=2"),
        ("https://test.payu.in", "https://test.payu.in/merchant/postservice.php?form=2"),
        ("http://127.0.0.1:8106", "http://127.0.0.1:8106/merchant/postservice.php?form=2"),
    ],
)
def test_commands_go_to_the_host_for_them_and_are_signed(base_url: str, expected: str) -> None:
    script = Script(verify_payment=verified(ENTITY))
    PayuProvider(script).fetch(replace(ACCOUNT, base_url=base_url), KNOWN)
    assert script.urls == [expected]
    form = script.sent[0]
    assert form == {"key": KEY, "command": "verify_payment", "var1": TXNID, "hash": form["hash"]}
    assert form["hash"] == payu_entities.command_hash(SALT, form)


@pytest.mark.parametrize(
    ("said", "error_class"),
    [
        ({"status": 0, "msg": "Requests limit reached"}, ErrorClass.RATE_LIMITED),
        ((429, {"status": 0, "msg": "…"}), ErrorClass.RATE_LIMITED),
        ({"status": 0, "msg": "Invalid Hash."}, ErrorClass.CONFIG),
        ({"status": "0", "msg": "Invalid Hash used"}, ErrorClass.CONFIG),
        ({"status": 0, "msg": "Invalid key"}, ErrorClass.CONFIG),
        (NotSentError("connection_refused"), ErrorClass.PROVIDER_UNAVAILABLE),
    ],
)
def test_a_command_that_was_not_taken_was_not_sent(said: object, error_class: ErrorClass) -> None:
    names = ("verify_payment", "capture_transaction", "cancel_refund_transaction", "check_action_status")
    provider = PayuProvider(Script(**dict.fromkeys([*names, "get_settlement_details"], said)))
    for outcome in (
        provider.fetch(ACCOUNT, KNOWN),
        provider.capture(ACCOUNT, KNOWN, AMOUNT, CAPTURE),
        provider.void(ACCOUNT, KNOWN, VOID),
        provider.refund(ACCOUNT, KNOWN, AMOUNT, REFUND),
        provider.fetch_refund(ACCOUNT, KNOWN, REFUND, None),
        provider.fetch_refund(ACCOUNT, KNOWN, REFUND, "9"),
        provider.settlement_lines(ACCOUNT, NOW.date()),
    ):
        assert isinstance(outcome, NotSent)
        assert outcome.error.error_class is error_class


BROKEN = [
    (500, {"status": 0, "msg": "Some problem occurred"}), (400, {"status": 0, "msg": "Bad request"}), b"<html>",
    b'{"status": 1, "msg"', b"", {}, {"status": 0, "msg": "Parameter missing"}, UnknownError("read_timeout"),
]  # fmt: skip


@pytest.mark.parametrize("said", BROKEN, ids=repr)
def test_a_look_up_without_a_proper_answer_says_nothing(said: object) -> None:
    names = ("verify_payment", "check_action_status", "get_settlement_details")
    script = Script(**dict.fromkeys(names, said))
    provider = PayuProvider(script)
    for outcome in (
        provider.fetch(ACCOUNT, KNOWN),
        provider.fetch_refund(ACCOUNT, KNOWN, REFUND, "9"),
        provider.fetch_refund(ACCOUNT, replace(KNOWN, provider_reference=PAYUID), REFUND, None),
        provider.settlement_lines(ACCOUNT, NOW.date()),
    ):
        assert isinstance(outcome, Unknown)
    for effect in (
        provider.capture(ACCOUNT, KNOWN, AMOUNT, CAPTURE),
        provider.void(ACCOUNT, KNOWN, VOID),
        provider.refund(ACCOUNT, KNOWN, AMOUNT, REFUND),
    ):
        assert isinstance(effect, Unknown)
    moving = {"capture_transaction", "cancel_refund_transaction"}
    assert not moving & set(script.commands)  # nothing moves before PayU has named the transaction
