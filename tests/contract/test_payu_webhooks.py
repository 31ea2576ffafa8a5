"""What only PayU's format can get wrong: returns, notices and callbacks, and what nobody signed of them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest

from chalicelib.domain.ids import short_reference
from chalicelib.domain.outcome import (
    Charge,
    ChargeStatus,
    Effect,
    EffectStatus,
    EventKind,
    ProviderEvent,
)
from chalicelib.providers import payu_wire
from chalicelib.providers.base import Account, BadSignature
from chalicelib.providers.payu import PayuProvider
from infra.sandbox import payu_entities
from tests.contract.payu_script import (
    ACCOUNT,
    KEY,
    KNOWN,
    MADE,
    PAYUID,
    REFUND,
    SALT,
    TXNID,
    VOID,
    Script,
)
from tests.contract.sandbox_world import AMOUNT, NOW

if TYPE_CHECKING:
    from collections.abc import Mapping


# what a browser and PayU itself bring


def notice(salt: str = SALT, **fields: str) -> dict[str, str]:
    """What PayU posts, signed; ``hash`` is over the fields as given."""
    known = {
        "mihpayid": PAYUID, "mode": "UPI", "status": "success", "unmappedstatus": "captured", "key": KEY,
        "txnid": TXNID, "amount": "1499.00", "productinfo": "Two books", "firstname": "Asha",
        "email": "asha@example.com", "phone": "9800000000", "udf1": MADE.reference, "udf2": "automatic", "udf3": "",
        "udf4": "", "udf5": "", "error": "E000", "error_Message": "No Error",
    } | fields  # fmt: skip
    return {**known, "hash": payu_entities.response_hash(salt, known)}


def parse(fields: Mapping[str, str] | bytes, account: Account = ACCOUNT) -> ProviderEvent:
    body = fields if isinstance(fields, bytes) else urlencode(fields).encode()
    return PayuProvider(Script()).parse_webhook(account, {}, body, NOW)


def verify(fields: Mapping[str, str], account: Account = ACCOUNT) -> None:
    PayuProvider(Script()).verify_return(account, KNOWN, fields)


SIGNED = ["status", "txnid", "amount", "productinfo", "firstname", "email", "udf1", "udf2", "udf3", "udf5"]


@pytest.mark.parametrize("name", SIGNED)
def test_every_signed_field_is_covered(name: str) -> None:
    good = notice()
    verify(good)
    assert parse(good).kind is EventKind.CHARGE
    for value in (f"{good[name]}x", f"{good[name]} ", f"{good[name]}|"):
        for check in (verify, parse):
            with pytest.raises(BadSignature):
                check({**good, name: value})
    if good[name]:
        with pytest.raises(BadSignature):
            parse({field: value for field, value in good.items() if field != name})


@pytest.mark.parametrize("value", ["", "0" * 128, "é" * 128, "\udcff" * 128, "x" * 10_000, "\x00"])
def test_a_wrong_hash_is_refused(value: str) -> None:
    good = notice()
    for forged in ({**good, "hash": value}, {field: text for field, text in good.items() if field != "hash"}):
        with pytest.raises(BadSignature):
            verify(forged)
    if "\udcff" not in value:
        with pytest.raises(BadSignature):
            parse({**good, "hash": value})
    for other in (good["hash"].upper(), good["hash"][:-1], f" {good['hash']}", f"{good['hash']}0"):
        with pytest.raises(BadSignature):
            parse({**good, "hash": other})


@pytest.mark.parametrize("secrets", [[], [""], ["", ""], ["wrong"]])
def test_without_the_right_salt_everything_is_refused(secrets: list[str]) -> None:
    account = replace(ACCOUNT, webhook_secrets=secrets)
    for salt in (SALT, ""):
        for check in (verify, parse):
            with pytest.raises(BadSignature):
                check(notice(salt), account)


def test_every_active_salt_is_good_so_that_rotation_drops_nothing() -> None:
    account = replace(ACCOUNT, credentials={"key": KEY, "salt": "newer"}, webhook_secrets=["newer", SALT])
    for salt in ("newer", SALT):
        verify(notice(salt), account)
        assert parse(notice(salt), account).kind is EventKind.CHARGE


def test_what_is_about_another_account_is_refused() -> None:
    for check in (verify, parse):
        with pytest.raises(BadSignature):
            check(notice(key="another"), ACCOUNT)
        with pytest.raises(BadSignature):
            check(notice(), replace(ACCOUNT, credentials={"salt": SALT}))
    for account in (ACCOUNT, replace(ACCOUNT, credentials={"salt": SALT})):
        with pytest.raises(BadSignature):
            verify(notice(key=""), account)
        assert parse(notice(key=""), account).kind is EventKind.IGNORED


@pytest.mark.parametrize(
    "fields",
    [{"txnid": short_reference(f"{MADE.payment_id}-02")}, {"amount": "1499.01"}, {"amount": "x"}, {"txnid": ""}],
)
def test_a_return_is_about_our_charge_and_our_amount(fields: dict[str, str]) -> None:
    with pytest.raises(BadSignature):
        verify(notice(**fields))
    verify(notice(amount="1499.0"))  # PayU may leave out a zero


def test_additional_charges_come_before_the_salt() -> None:
    good = notice(additionalCharges="12.00")
    verify(good)
    assert parse(good).kind is EventKind.CHARGE
    for forged in ({**good, "additionalCharges": "0.00"}, {**notice(), "additionalCharges": "12.00"}):
        with pytest.raises(BadSignature):
            verify(forged)
    with pytest.raises(BadSignature):
        verify({name: value for name, value in good.items() if name != "additionalCharges"})


def test_a_failed_return_is_verified_like_any_other() -> None:
    verify(notice(status="failure", unmappedstatus="userCancelled"))


# events


@pytest.mark.parametrize("kind", ["form", "json"])
def test_a_success_is_told_with_our_reference_and_what_was_signed(kind: str) -> None:
    fields = notice()
    body = urlencode(fields).encode() if kind == "form" else json.dumps(fields).encode()
    assert parse(body) == ProviderEvent(
        f"{TXNID}/success",
        "success",
        EventKind.CHARGE,
        MADE.reference,
        charge=Charge(ChargeStatus.SUCCEEDED, amount=AMOUNT, currency="INR", captured=AMOUNT),
    )


@pytest.mark.parametrize(
    ("status", "unmapped"),
    [
        ("success", "auth"), ("success", "new"), ("success", ""), ("failure", "failed"), ("failure", "userCancelled"),
        ("failure", "cancelled"), ("failure", "captured"), ("pending", "in progress"), ("new", "new"),
    ],
)  # fmt: skip
def test_every_other_notice_says_where_to_look(status: str, unmapped: str) -> None:
    event = parse(notice(status=status, unmappedstatus=unmapped))
    assert event == ProviderEvent(f"{TXNID}/{status}", status, EventKind.HINT, MADE.reference)


def test_amounts_in_json_are_as_they_were_signed() -> None:
    fields = notice()
    body = json.dumps({**fields, "mihpayid": int(PAYUID), "udf3": None}).replace('"1499.00"', "1499.00").encode()
    event = parse(body)
    assert event.charge is not None
    assert event.charge.amount == AMOUNT


def test_only_the_signed_amount_counts() -> None:
    event = parse({**notice(), "amt": "1.00", "transaction_amount": "1.00", "net_amount_debit": "1.00"})
    assert event.charge is not None
    assert event.charge.amount == AMOUNT


@pytest.mark.parametrize("udf2", ["manual", ""])
def test_captured_is_not_believed_of_what_was_only_to_be_held(udf2: str) -> None:
    """PayU signs "success" but not "captured", and a customer sees all of it."""
    held = notice(unmappedstatus="auth", udf2=udf2)
    for fields in (held, {**held, "unmappedstatus": "captured"}):
        event = parse(fields)
        assert (event.kind, event.charge, event.reference) == (EventKind.HINT, None, MADE.reference)


@pytest.mark.parametrize(
    "altered", [{"mihpayid": "999"}, {"mihpayid": ""}, {"error": "E208"}, {"mode": "CC"}, {"phone": "1"}]
)
def test_what_nobody_signed_changes_nothing(altered: dict[str, str]) -> None:
    assert parse({**notice(), **altered}) == parse(notice())


@pytest.mark.parametrize(
    "fields", [{"amount": "x"}, {"amount": ""}, {"status": ""}, {"txnid": ""}, {"txnid": "fd3e847h2"}]
)
def test_a_notice_that_makes_no_sense_or_is_somebody_elses_is_ignored(fields: dict[str, str]) -> None:
    event = parse(notice(**fields))
    assert (event.kind, event.charge) == (EventKind.IGNORED, None)
    assert event.dedupe_key.startswith("sha256:")


CALLBACK = {
    "additionalValue1": None, "bank_arn": 308239782136, "refund_mode": "Back to Source", "bank_ref_num": "1",
    "key": KEY, "amt": "500.00", "remark": None, "status": "success", "token": payu_wire.token(REFUND),
    "mihpayid": f" {PAYUID} ", "request_id": "11865427756", "merchantTxnId": TXNID, "action": "refund",
}  # fmt: skip


def test_a_refunds_callback_is_a_hint() -> None:
    event = parse(json.dumps(CALLBACK).encode())
    assert (event.kind, event.reference, event.provider_reference, event.refund_key) == (
        EventKind.HINT, MADE.reference, PAYUID, REFUND,
    )  # fmt: skip
    assert event.effect == Effect(EffectStatus.PENDING, "11865427756")
    assert event.charge is None
    assert event.dedupe_key == "11865427756/success"
    failed = parse(json.dumps({**CALLBACK, "status": "failure", "token": "by hand"}).encode())
    assert (failed.refund_key, failed.dedupe_key) == (None, "11865427756/failure")
    void = parse(json.dumps({**CALLBACK, "token": payu_wire.token(VOID)}).encode())
    assert void.refund_key is None


@pytest.mark.parametrize(
    "fields",
    [
        {"merchantTxnId": "somebody else's"}, {"merchantTxnId": None}, {"request_id": None}, {"request_id": "x" * 999},
        {"mihpayid": {"id": 1}}, {"mihpayid": ""}, {"request_id": "a/../b"},
    ],
)  # fmt: skip
def test_a_callback_that_points_nowhere_is_ignored(fields: dict[str, object]) -> None:
    event = parse(json.dumps({**CALLBACK, **fields}).encode())
    assert (event.kind, event.effect) == (EventKind.IGNORED, None)


@pytest.mark.parametrize(
    "fields",
    [{"key": "another"}, {"key": None}, {"action": "capture"}, {"action": None}, {"hash": ""}, {"hash": "0" * 128}],
)
def test_nothing_else_comes_in_without_a_hash(fields: dict[str, object]) -> None:
    with pytest.raises(BadSignature):
        parse(json.dumps({**CALLBACK, **fields}).encode())


@pytest.mark.parametrize(
    "body",
    [
        b"", b"null", b"[]", b"\xff\xfe", b"{", b'"text"', b'{"key": 7}', b"{" * 100_000, b'{"a":' * 100_000,
        b'{"key": NaN}', b"key=%ff%fe", b"key=gtKFFx", b"hash=&key=gtKFFx", b"&&&==&", b"\x00" * 10, b"key=gtKFFx&a=%",
        f'{{"key": "{KEY}", "amount": {"9" * 5000}}}'.encode(),
    ],
    ids=range(17),
)  # fmt: skip
def test_whatever_bytes_come_they_are_refused(body: bytes) -> None:
    for account in (ACCOUNT, replace(ACCOUNT, credentials={}), replace(ACCOUNT, webhook_secrets=[])):
        with pytest.raises(BadSignature):
            parse(body, account)
