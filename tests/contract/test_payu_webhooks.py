"""What only PayU's format can get wrong: returns, notices and callbacks, and what nobody signed of them."""

from __future__ import annotations

import json
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest

from chalicelib.domain.ids import short_reference
from chalicelib.domain.outcome import (
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
from tests.contract.sandbox_world import NOW

if TYPE_CHECKING:
    from collections.abc import Mapping


# what a browser and PayU itself bring


def notice(salt: str = SALT, **fields: str) -> dict[str, str]:
    """What PayU posts, signed; ``hash`` is over the fields as given."""
    known = {
        "mihpayid": PAYUID, "mode": "UPI", "status": "success", "unmappedstatus": "captured", "key": KEY,
        "txnid": TXNID, "amount": "1499.00", "productinfo": "Two books", "firstname": "Asha",
        "email": "asha@example.com", "phone": "9800000000", "udf1": MADE.reference, "udf2": "", "udf3": "",
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
    assert parse(good).kind is EventKind.HINT
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
        assert parse(notice(salt), account).kind is EventKind.HINT


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
    assert parse(good).kind is EventKind.HINT
    for forged in ({**good, "additionalCharges": "0.00"}, {**notice(), "additionalCharges": "12.00"}):
        with pytest.raises(BadSignature):
            verify(forged)
    with pytest.raises(BadSignature):
        verify({name: value for name, value in good.items() if name != "additionalCharges"})


def test_a_failed_return_is_verified_like_any_other() -> None:
    verify(notice(status="failure", unmappedstatus="userCancelled"))


# events


@pytest.mark.parametrize("kind", ["form", "json"])
@pytest.mark.parametrize(
    ("status", "unmapped"),
    [
        ("success", "captured"), ("success", "auth"), ("success", "new"), ("success", ""), ("failure", "failed"),
        ("failure", "userCancelled"), ("failure", "cancelled"), ("failure", "captured"), ("pending", "in progress"),
        ("new", "new"),
    ],
)  # fmt: skip
def test_every_notice_says_where_to_look_and_no_more(kind: str, status: str, unmapped: str) -> None:
    fields = notice(status=status, unmappedstatus=unmapped)
    body = urlencode(fields).encode() if kind == "form" else json.dumps(fields).encode()
    assert parse(body) == ProviderEvent(f"{TXNID}/{status}", status, EventKind.HINT, MADE.reference, verified=True)


def test_numbers_in_json_are_as_they_were_signed() -> None:
    fields = notice()
    body = json.dumps({**fields, "mihpayid": int(PAYUID), "udf3": None}).replace('"1499.00"', "1499.00").encode()
    assert parse(body) == parse(fields)


@pytest.mark.parametrize("udf2", ["automatic", "manual", ""])
def test_captured_is_not_believed_whatever_the_form_said(udf2: str) -> None:
    """PayU signs "success" but not "captured", a customer sees all of it, and may add pre_authorize to the form."""
    held = notice(unmappedstatus="auth", udf2=udf2)
    for fields in (
        held,
        {**held, "unmappedstatus": "captured"},
        {**held, "unmappedstatus": "captured", "amount_": "1"},
    ):
        event = parse(fields)
        assert (event.kind, event.charge, event.reference) == (EventKind.HINT, None, MADE.reference)


@pytest.mark.parametrize(
    "altered",
    [
        {"mihpayid": "999"}, {"mihpayid": ""}, {"error": "E208"}, {"mode": "CC"}, {"phone": "1"}, {"amt": "1.00"},
        {"unmappedstatus": "auth"}, {"net_amount_debit": "1.00"}, {"discount": "1498.00"},
    ],
)  # fmt: skip
def test_what_nobody_signed_changes_nothing(altered: dict[str, str]) -> None:
    assert parse({**notice(), **altered}) == parse(notice())


@pytest.mark.parametrize("fields", [{"status": ""}, {"txnid": ""}, {"txnid": "fd3e847h2"}])
def test_a_notice_that_makes_no_sense_or_is_somebody_elses_is_ignored(fields: dict[str, str]) -> None:
    event = parse(notice(**fields))
    assert (event.kind, event.charge) == (EventKind.IGNORED, None)
    assert event.dedupe_key.startswith("sha256:")


CALLBACK = {
    "additionalValue1": None, "bank_arn": 308239782136, "refund_mode": "Back to Source", "bank_ref_num": "1",
    "key": KEY, "amt": "500.00", "remark": None, "status": "success", "token": payu_wire.token(REFUND, "refund"),
    "mihpayid": f" {PAYUID} ", "request_id": "11865427756", "merchantTxnId": TXNID, "action": "refund",
}  # fmt: skip


def test_a_refunds_callback_is_a_hint_that_nobody_signed() -> None:
    event = parse(json.dumps(CALLBACK).encode())
    assert (event.kind, event.reference, event.provider_reference, event.refund_key, event.verified) == (
        EventKind.HINT, MADE.reference, PAYUID, REFUND, False,
    )  # fmt: skip
    assert event.effect == Effect(EffectStatus.PENDING, "11865427756")
    assert event.charge is None
    failed = parse(json.dumps({**CALLBACK, "status": "failure", "token": "by hand"}).encode())
    assert (failed.refund_key, failed.effect) == (None, event.effect)
    reversal = parse(json.dumps({**CALLBACK, "token": payu_wire.token(VOID, "refund")}).encode())
    assert reversal.refund_key == VOID
    for action in ("cancel", "capture"):
        other = parse(json.dumps({**CALLBACK, "token": payu_wire.token(VOID, action)}).encode())
        assert other.refund_key is None


def test_what_nobody_signed_goes_nowhere_as_it_is() -> None:
    """A stranger's text is neither stored nor shown: only ids of the right form are."""
    odd = json.dumps({**CALLBACK, "status": "\ud800" * 300, "token": "\ud800" * 300, "remark": "x" * 9999})
    event = parse(odd.encode())
    assert (event.kind, event.refund_key) == (EventKind.HINT, None)
    repr(event).encode()
    assert event.dedupe_key.startswith("sha256:")


@pytest.mark.parametrize(
    "fields",
    [
        {"merchantTxnId": "somebody else's"}, {"merchantTxnId": None}, {"request_id": None}, {"request_id": "x" * 999},
        {"mihpayid": {"id": 1}}, {"mihpayid": ""}, {"request_id": "a/../b"},
    ],
)  # fmt: skip
def test_a_callback_that_points_nowhere_is_ignored(fields: dict[str, object]) -> None:
    event = parse(json.dumps({**CALLBACK, **fields}).encode())
    assert (event.kind, event.effect, event.verified) == (EventKind.IGNORED, None, False)


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
        f'{{"key": "{KEY}", "amount": {"9" * 5000}}}'.encode(), b"1e99999999999999999999", b'{"a":1e99999999999999999999}',
        b"[1e999999999999999999999]", b'{"a":-1e-99999999999999999999}', b'{"a":1e999999}', b"9" * 5000, b"-0", b"1e400",
        b'{"action":"refund","key":"gtKFFx","amt":1e99999999999999999999}', b'"\\ud800"', b'{"hash":"\\ud800","key":"gtKFFx"}',
    ],
    ids=range(28),
)  # fmt: skip
def test_whatever_bytes_come_they_are_refused(body: bytes) -> None:
    for account in (ACCOUNT, replace(ACCOUNT, credentials={}), replace(ACCOUNT, webhook_secrets=[])):
        with pytest.raises(BadSignature):
            parse(body, account)


NUMBERS = [
    "1e999999", "1e1000000", "1e999999999", "1e-999999999", "1e99999999999999999999", "-1", "0.001", "1E+2", "NaN",
    "Infinity", "1_499.00", "\uff11", "9" * 400, "9" * 5000, "-0.0", "1e-30", "",
]  # fmt: skip


@pytest.mark.parametrize("number", NUMBERS, ids=range(len(NUMBERS)))
def test_an_absurd_number_is_refused_or_says_nothing(number: str) -> None:
    """Signed or not, as text or as JSON's: only BadSignature may leave, and nothing takes long."""
    started = perf_counter()
    signed = notice(amount=number)
    bodies = [urlencode(signed), json.dumps(signed), json.dumps(signed).replace(json.dumps(number), number or "0")]
    bodies += [json.dumps({**CALLBACK, "amt": number}), json.dumps(CALLBACK).replace('"500.00"', number or "0")]
    for body in bodies:
        try:
            event = parse(body.encode())
        except BadSignature:
            continue
        assert (event.kind, event.charge) == (EventKind.HINT, None)
    with pytest.raises(BadSignature):
        verify(signed)
    assert perf_counter() - started < 1
