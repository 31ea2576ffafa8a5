"""What only Cashfree's format can get wrong of captures, voids and refunds, against answers made by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from chalicelib.domain.outcome import (
    EffectStatus,
    NotFound,
    NotSent,
    Unknown,
)
from chalicelib.providers.cashfree import CashfreeProvider
from chalicelib.providers.cashfree_wire import REFUND_STATUSES, TERMINATIONS
from chalicelib.providers.http import UnknownError
from tests.contract.cashfree_script import (
    ACCOUNT,
    KEY,
    ORDER,
    PATH,
    PAYMENT,
    REFUND,
    Script,
    Told,
    effect,
    error,
    known,
    some,
)
from tests.contract.sandbox_world import AMOUNT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from chalicelib.domain.outcome import EffectOutcome

LOST: tuple[Told, ...] = (UnknownError("read_timeout"), (500, {}), (429, {}))


def act(operation: str, answers: Mapping[str, Told | Sequence[Told]]) -> tuple[object, Script]:
    script = Script(answers)
    provider = CashfreeProvider(script)
    if operation == "capture":
        return provider.capture(ACCOUNT, known(), AMOUNT, "op_1"), script
    if operation == "void":
        return provider.void(ACCOUNT, known(), "op_1"), script
    return provider.refund(ACCOUNT, known(), 50_000, KEY), script


HELD = {**PAYMENT, "is_captured": False}
VOIDED = {**PAYMENT, "payment_status": "VOID", "is_captured": False}


@pytest.mark.parametrize(
    ("answer", "payments", "expected"),
    [
        ((200, PAYMENT), [], EffectStatus.SUCCEEDED),
        ((200, HELD), [HELD], EffectStatus.PENDING),
        ((200, HELD), [PAYMENT], EffectStatus.SUCCEEDED),
        (error("order_already_paid"), [PAYMENT], EffectStatus.SUCCEEDED),  # by an earlier try
        (error("order_already_paid"), [HELD], None),  # which an earlier try may be about to show
        (error("payment_amount_invalid"), [HELD], EffectStatus.FAILED),
        (error("payment_gateway_unsupported"), [HELD], EffectStatus.FAILED),
        (error("order_id_voided"), [VOIDED], EffectStatus.FAILED),
        (error("order_not_found", 404), [], EffectStatus.FAILED),
        (error("order_pay_failed"), [PAYMENT], EffectStatus.SUCCEEDED),
        (error("order_pay_failed"), [HELD], None),
        (error("order_pay_failed"), [VOIDED], EffectStatus.FAILED),
        (error("bank_processing_failure"), [HELD], None),
        (error("request_failed"), [HELD], None),
        (error("payment_gateway_inactive"), [HELD], None),
        (error("new_code"), [HELD], None),
        ((400, {}), [HELD], None),
        ((200, {**PAYMENT, "order_amount": "all"}), [{**PAYMENT, "order_amount": "all"}], None),
        ((409, {}), [HELD], None),
        ((422, {}), [HELD], None),
        (error("api_request_timeout"), [HELD], None),
    ],
)
def test_a_capture_is_what_the_payment_shows(
    answer: Told, payments: list[object], expected: EffectStatus | None
) -> None:
    told = {f"POST {PATH}/authorization": answer, f"GET {PATH}/payments": (200, payments), f"GET {PATH}": (404, {})}
    outcome, script = act("capture", told)
    assert script.bodies[f"POST {PATH}/authorization"] == {"action": "CAPTURE", "amount": 1499.0}
    if expected is None:
        assert isinstance(outcome, Unknown)
        return
    assert effect(outcome).status is expected
    if expected is EffectStatus.SUCCEEDED:
        assert (effect(outcome).amount, effect(outcome).currency) == (AMOUNT, "INR")


@pytest.mark.parametrize(
    ("answer", "failed"),
    [
        (error("payment_amount_invalid"), True),
        (error("payment_gateway_unsupported"), True),
        (error("order_pay_failed"), False),
        (error("new_code"), False),
        (error("order_id_not_paid"), False),  # of one that is held
    ],
)
def test_a_refused_release_has_failed_if_it_says_so(answer: Told, failed: bool) -> None:  # noqa: FBT001
    outcome, _ = act("void", {f"GET {PATH}/payments": (200, [HELD]), f"POST {PATH}/authorization": answer})
    assert effect(outcome).status is EffectStatus.FAILED if failed else isinstance(outcome, Unknown)


@pytest.mark.parametrize(
    ("answer", "failed"),
    [
        (error("order_id_invalid"), True),
        (error("order_inactive"), False),  # an earlier try may have ended it
        (error("order_already_paid"), False),
        (error("order_create_failed"), False),
        (error("new_code"), False),
        (error("new_code", 409), False),
    ],
)
def test_a_refused_end_of_an_order_has_failed_if_it_says_so(answer: Told, failed: bool) -> None:  # noqa: FBT001
    told = {f"GET {PATH}/payments": (200, []), f"GET {PATH}": (200, ORDER), f"PATCH {PATH}": answer}
    outcome, _ = act("void", told)
    assert effect(outcome).status is EffectStatus.FAILED if failed else isinstance(outcome, Unknown)


@pytest.mark.parametrize("operation", ["capture", "refund"])
def test_a_refusal_that_cannot_be_checked_is_unknown(operation: str) -> None:
    for lost in LOST:
        told = {
            f"POST {PATH}/authorization": error("order_already_paid"), f"GET {PATH}/payments": lost,
            f"POST {PATH}/refunds": error("refund_amount_invalid"), f"GET {PATH}/refunds/{KEY}": lost,
        }  # fmt: skip
        outcome, _ = act(operation, told)
        assert isinstance(outcome, Unknown)


@pytest.mark.parametrize(
    ("payments", "calls"),
    [
        ([HELD], [f"POST {PATH}/authorization"]),
        ([VOIDED], []),
        ([PAYMENT], []),
        ([some("FAILED", 1)], [f"PATCH {PATH}"]),
        ([some("PENDING", 1)], [f"PATCH {PATH}"]),
        ([], [f"GET {PATH}", f"PATCH {PATH}"]),
    ],
)
def test_a_void_releases_what_is_held_and_ends_what_is_unpaid(payments: list[object], calls: list[str]) -> None:
    told = {
        f"GET {PATH}/payments": (200, payments), f"POST {PATH}/authorization": (200, VOIDED), f"GET {PATH}": (200, ORDER),
        f"PATCH {PATH}": (200, {**ORDER, "order_status": "TERMINATED"}),
    }  # fmt: skip
    outcome, script = act("void", told)
    assert script.sent[1:] == calls
    assert effect(outcome).status is (EffectStatus.FAILED if payments == [PAYMENT] else EffectStatus.SUCCEEDED)


def test_a_void_that_cannot_look_first_was_not_sent() -> None:
    for lost in (*LOST, (401, {})):
        outcome, script = act("void", {f"GET {PATH}/payments": lost})
        assert isinstance(outcome, NotSent)
        assert len(script.sent) == 1


@pytest.mark.parametrize("status", [*TERMINATIONS, "ACTIVE", "ON_THE_MOON"])
def test_what_became_of_an_order_that_was_to_end(status: str) -> None:
    ended = (200, {**ORDER, "order_status": status})
    told = {f"GET {PATH}/payments": (200, []), f"GET {PATH}": (200, ORDER), f"PATCH {PATH}": ended}
    outcome, script = act("void", told)
    assert effect(outcome).status is TERMINATIONS.get(status, EffectStatus.PENDING)
    assert script.bodies[f"PATCH {PATH}"] == {"order_status": "TERMINATED"}


@pytest.mark.parametrize("status", [*REFUND_STATUSES, "ON_THE_MOON", None])
@pytest.mark.parametrize("number", [False, True])
def test_every_status_of_a_refund_is_in_the_table(status: str | None, number: bool) -> None:  # noqa: FBT001
    body = {**REFUND, "refund_status": status, "cf_refund_id": 1553338 if number else "1553338"}
    outcome, script = act("refund", {f"POST {PATH}/refunds": (200, body)})
    made = effect(outcome)
    assert made.status is REFUND_STATUSES.get(str(status), EffectStatus.PENDING)
    assert (made.provider_reference, made.amount, made.currency) == ("1553338", 50_000, "INR")
    sent = {"refund_amount": 500.0, "refund_id": KEY, "refund_speed": "STANDARD"}
    assert script.bodies[f"POST {PATH}/refunds"] == sent


@pytest.mark.parametrize(
    ("answer", "there", "missing"),
    [
        (error("refund_id_already_exists", 409), EffectStatus.SUCCEEDED, None),  # it is, and does not show yet
        (error("refund_id_already_exists"), EffectStatus.SUCCEEDED, None),
        (error("refund_already_exists", 409), EffectStatus.SUCCEEDED, None),
        (error("refund_id_invalid"), EffectStatus.SUCCEEDED, None),  # also said of an id that was used before
        (error("refund_post_failed"), EffectStatus.SUCCEEDED, None),
        (error("bank_processing_failure"), EffectStatus.SUCCEEDED, None),
        (error("request_failed"), EffectStatus.SUCCEEDED, None),
        (error("payment_gateway_inactive"), EffectStatus.SUCCEEDED, None),
        (error("refund_amount_invalid"), EffectStatus.SUCCEEDED, EffectStatus.FAILED),
        (error("refund_unsupported"), EffectStatus.SUCCEEDED, EffectStatus.FAILED),
        (error("refund_not_allowed", 409), EffectStatus.SUCCEEDED, EffectStatus.FAILED),
        (error("new_code"), EffectStatus.SUCCEEDED, None),
        ((400, {}), EffectStatus.SUCCEEDED, None),
        (error("request_invalid", 422), EffectStatus.SUCCEEDED, None),
        (error("new_code", 409), EffectStatus.SUCCEEDED, None),
        (error("api_request_failed"), EffectStatus.SUCCEEDED, None),
    ],
)
def test_a_refused_refund_may_have_been_made_before(
    answer: Told, there: EffectStatus, missing: EffectStatus | None
) -> None:
    told: dict[str, Told] = {f"POST {PATH}/refunds": answer, f"GET {PATH}/refunds/{KEY}": (200, REFUND)}
    outcome, _ = act("refund", told)
    assert (effect(outcome).status, effect(outcome).amount, effect(outcome).key) == (there, 50_000, KEY)
    outcome, _ = act("refund", told | {f"GET {PATH}/refunds/{KEY}": error("refund_not_found", 404)})
    assert isinstance(outcome, Unknown) if missing is None else effect(outcome).status is missing


def test_each_action_has_a_key_of_its_own() -> None:
    """A reversal: released while it was held, captured by somebody in between, and given back."""
    script = Script(
        {
            f"GET {PATH}/payments": (200, [HELD]), f"POST {PATH}/authorization": (200, VOIDED),
            f"POST {PATH}/refunds": (200, REFUND),
        }
    )  # fmt: skip
    provider = CashfreeProvider(script)
    keys: list[str] = []

    def note(_done: EffectOutcome) -> None:
        last = next(what for what in reversed(script.sent) if what.startswith("POST"))
        keys.append(script.headers[last]["x-idempotency-key"])

    note(provider.void(ACCOUNT, known(), KEY))
    note(provider.capture(ACCOUNT, known(), AMOUNT, KEY))
    note(provider.refund(ACCOUNT, known(), AMOUNT, KEY))
    assert len(set(keys)) == 3


def test_a_refund_is_found_by_cashfrees_own_id() -> None:
    script = Script({f"GET {PATH}/refunds": (200, [{**REFUND, "cf_refund_id": 7}, REFUND])})
    provider = CashfreeProvider(script)
    for theirs in ("7", "1553338"):
        assert effect(provider.fetch_refund(ACCOUNT, known(), "op_x", theirs)).provider_reference == theirs
    assert isinstance(provider.fetch_refund(ACCOUNT, known(), "op_x", "8"), NotFound)
