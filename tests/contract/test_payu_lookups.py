"""What only PayU's format can get wrong: how a transaction stands, what was paid of it, and why one failed."""

from __future__ import annotations

import pytest

from chalicelib.domain.errors import ErrorClass, ErrorCode
from chalicelib.domain.outcome import Charge, ChargeStatus, NotFound, Unknown
from chalicelib.providers import payu_codes
from chalicelib.providers.payu import PayuProvider
from chalicelib.providers.reasons import ISSUER
from tests.contract.payu_script import ACCOUNT, ENTITY, KNOWN, PAYUID, Script, verified
from tests.contract.sandbox_world import AMOUNT


def look_up(entity: object, status: int = 1) -> object:
    return PayuProvider(Script(verify_payment=verified(entity, status))).fetch(ACCOUNT, KNOWN)


@pytest.mark.parametrize(
    ("status", "unmapped", "expected"),
    [
        *((status, unmapped, expected) for (status, unmapped), expected in payu_codes.STATUSES.items()),
        ("failure", "userCancelled", ChargeStatus.DECLINED),
        ("SUCCESS", "Captured", ChargeStatus.SUCCEEDED),
        ("success", "", ChargeStatus.PENDING),
        ("success", "pending", ChargeStatus.PENDING),
        ("failure", "captured", ChargeStatus.PENDING),
        ("failure", "", ChargeStatus.PENDING),
        ("pending", "captured", ChargeStatus.PENDING),
        ("on hold", "new", ChargeStatus.PENDING),
    ],
)
def test_only_a_success_that_was_captured_is_paid(status: str, unmapped: str, expected: ChargeStatus) -> None:
    found = look_up({**ENTITY, "status": status, "unmappedstatus": unmapped})
    assert isinstance(found, Charge)
    assert (found.status, found.provider_reference, found.amount, found.currency) == (expected, PAYUID, AMOUNT, "INR")
    assert found.captured == (AMOUNT if expected is ChargeStatus.SUCCEEDED else 0)
    assert (found.error is not None) == (expected is ChargeStatus.DECLINED)


def test_a_transaction_that_never_reached_payu_is_not_found() -> None:
    assert isinstance(look_up({"mihpayid": "Not Found", "status": "Not Found"}, 0), NotFound)


@pytest.mark.parametrize(
    "entity",
    [
        {**ENTITY, "txnid": "another"},
        {name: value for name, value in ENTITY.items() if name != "txnid"},
        {**ENTITY, "mihpayid": None},
        {**ENTITY, "status": 7, "txnid": None},
        {**ENTITY, "transaction_amount": "1499.005"},
        {**ENTITY, "transaction_amount": None, "amt": None},
        "Not Found",
        None,
    ],
)
def test_a_transaction_that_is_not_ours_or_lacks_something_is_unknown(entity: object) -> None:
    assert isinstance(look_up(entity), Unknown)


@pytest.mark.parametrize(
    ("amounts", "expected"),
    [
        ({"transaction_amount": "1499.00", "amt": "1500.00"}, AMOUNT),
        ({"transaction_amount": None, "amt": "1499"}, AMOUNT),
        ({"transaction_amount": "1500.00"}, AMOUNT + 100),
        ({"transaction_amount": "0.29"}, 29),
    ],
)
def test_the_amount_is_passed_on_as_it_is(amounts: dict[str, object], expected: int) -> None:
    found = look_up({**ENTITY, **amounts})
    assert isinstance(found, Charge)
    assert found.amount == expected


@pytest.mark.parametrize(
    ("debited", "expected"),
    [
        ({"net_amount_debit": 1499, "disc": "0.00", "additional_charges": "0.00"}, AMOUNT),
        ({"net_amount_debit": "1499"}, AMOUNT),
        ({"net_amount_debit": 1, "disc": "1498.00"}, 100),
        ({"net_amount_debit": "1498.99"}, AMOUNT - 1),
        ({"net_amount_debit": 0}, 0),
        ({"disc": "100.00"}, AMOUNT - 10_000),
        ({"discount": "100.00"}, AMOUNT - 10_000),
        ({"disc": "2000.00"}, 0),
        ({"net_amount_debit": None, "disc": "0.01"}, AMOUNT - 1),
        ({"net_amount_debit": "1528.98", "additional_charges": "29.98"}, AMOUNT),  # a surcharge comes on top
        ({"net_amount_debit": "1528.98"}, AMOUNT),
        ({"net_amount_debit": 1499, "additional_charges": "20.00"}, AMOUNT),
        ({"net_amount_debit": 1499, "additional_charges": "20.00", "disc": "20.00"}, AMOUNT - 2_000),  # it hides an offer
        ({"net_amount_debit": 1519, "additional_charges": "20.00", "disc": "20.00"}, AMOUNT),  # given back as cash
        ({"net_amount_debit": 1499, "disc": "100.00"}, AMOUNT),
    ],
)  # fmt: skip
@pytest.mark.parametrize("unmapped", ["captured", "auth"])
def test_an_offer_that_took_something_off_is_never_paid_in_full(
    debited: dict[str, object], expected: int, unmapped: str
) -> None:
    """PayU: "net_amount_debit is the actual amount deducted", less than asked for with an instant discount."""
    found = look_up({**ENTITY, **debited, "unmappedstatus": unmapped})
    assert isinstance(found, Charge)
    assert (found.amount, found.captured) == (expected, expected if unmapped == "captured" else 0)
    failed = look_up({**ENTITY, **debited, "status": "failure", "unmappedstatus": "failed", "net_amount_debit": "0.00"})
    assert isinstance(failed, Charge)
    assert (failed.status, failed.amount) == (ChargeStatus.DECLINED, AMOUNT)


@pytest.mark.parametrize(
    "debited",
    [{"net_amount_debit": "x"}, {"net_amount_debit": -1}, {"disc": "-1.00"}, {"additional_charges": "1,00"},
     {"net_amount_debit": True}, {"net_amount_debit": {}}],
)  # fmt: skip
def test_what_was_debited_and_cannot_be_read_is_unknown(debited: dict[str, object]) -> None:
    assert isinstance(look_up({**ENTITY, **debited}), Unknown)


def test_ids_come_as_numbers_too() -> None:
    found = look_up({**ENTITY, "mihpayid": int(PAYUID)})
    assert isinstance(found, Charge)
    assert found.provider_reference == PAYUID


# why a payment failed


def failure(**entity: object) -> tuple[ErrorClass, ErrorCode, str | None]:
    found = look_up({**ENTITY, "status": "failure", "unmappedstatus": "failed", **entity})
    assert isinstance(found, Charge)
    assert found.error is not None
    return found.error.error_class, found.error.code, found.error.provider_code


@pytest.mark.parametrize("code", sorted(payu_codes.ERRORS))
def test_every_code_of_the_table_ends_as_it_says(code: str) -> None:
    assert failure(error_code=code, error_Message="…") == (*payu_codes.ERRORS[code], code)


@pytest.mark.parametrize(("words", "verdict"), payu_codes.TEXTS)
def test_a_code_nobody_knows_falls_back_on_the_text(words: str, verdict: tuple[ErrorClass, ErrorCode]) -> None:
    assert failure(error_code="E9999", error_Message=f"It was {words.upper()}.") == (*verdict, "E9999")
    assert failure(field9=words) == (*verdict, "failed")  # E000 with a failure says nothing


def test_without_code_and_text_it_is_the_issuer_or_what_the_state_says() -> None:
    for unmapped, verdict in payu_codes.OTHERWISE.items():
        assert failure(unmappedstatus=unmapped) == (*verdict, unmapped)
    assert failure() == (*ISSUER, "failed")
    assert failure(error_code=None, error="E9999") == (*ISSUER, "E9999")


@pytest.mark.parametrize(
    ("unmapped", "code"),
    [
        ("userCancelled", ErrorCode.CUSTOMER_CANCELED),
        ("dropped", ErrorCode.CUSTOMER_TIMED_OUT),
        ("bounced", ErrorCode.TECHNICAL_FAILURE),
    ],
)
def test_some_states_say_why_themselves(unmapped: str, code: ErrorCode) -> None:
    assert failure(unmappedstatus=unmapped, error_code="E208")[1:] == (code, "E208")
