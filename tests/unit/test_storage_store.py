"""The store's conditional writes in moto, and what DynamoDB's refusals mean."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ConnectTimeoutError, EndpointConnectionError, ReadTimeoutError
from pynamodb.exceptions import PutError, TransactWriteError, UpdateError

from chalicelib.domain import orders, payments
from chalicelib.domain.breaker import Breaker
from chalicelib.domain.model import Reference
from chalicelib.storage import items
from chalicelib.storage.health import Health, breaker_row
from chalicelib.storage.store import AlreadyApplied, KeyTaken, ReferenceTaken, Stale
from tests.support import factories
from tests.support.aws import PREFIX
from tests.support.conditional_writes import ConditionalWrites, claim, mark
from tests.support.factories import NOW, TENANT, TIMING
from tests.support.storage import Tables, moto_tables, stored

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def tables() -> Iterator[Tables]:
    with moto_tables() as made:
        yield made


class TestConditionalWrites(ConditionalWrites):
    """In moto, in this process."""


@pytest.fixture
def refusal() -> Iterator[list[Any]]:
    """What DynamoDB answers next: error code and reasons, or an exception to raise."""
    answers: list[Any] = []
    client = items.PaymentsItem._get_connection().connection.client

    def answer(**_: Any) -> Any:
        if not answers:
            return None
        code, reasons = answers.pop()
        if isinstance(code, Exception):
            raise code
        body = {"Error": {"Code": code, "Message": code}, "CancellationReasons": [{"Code": r} for r in reasons]}
        return SimpleNamespace(status_code=400), body | {"ResponseMetadata": {}}

    for operation in ("TransactWriteItems", "UpdateItem", "PutItem"):
        client.meta.events.register_first(f"before-call.dynamodb.{operation}", answer)
    yield answers
    for operation in ("TransactWriteItems", "UpdateItem", "PutItem"):
        client.meta.events.unregister(f"before-call.dynamodb.{operation}", answer)


CANCELED = "TransactionCanceledException"
NONE = "None"


@pytest.mark.parametrize(
    ("code", "reasons", "meaning"),
    [
        (CANCELED, [NONE, NONE, NONE, NONE, "ConditionalCheckFailed"], ReferenceTaken),
        (CANCELED, [NONE, NONE, "ConditionalCheckFailed", NONE, "ConditionalCheckFailed"], Stale),
        (CANCELED, [NONE, NONE, NONE, NONE, "TransactionConflict"], Stale),
        # order of the puts: claim, mark, order, event, reference
        (CANCELED, [NONE, NONE, "TransactionConflict", NONE], Stale),
        (CANCELED, ["TransactionConflict", NONE, NONE, NONE], Stale),
        (CANCELED, [NONE, "TransactionConflict", NONE, NONE], Stale),
        (CANCELED, [NONE, NONE, "ConditionalCheckFailed", "ConditionalCheckFailed"], Stale),
        (CANCELED, [NONE, NONE, "ThrottlingError", NONE], Stale),
        (CANCELED, [NONE, NONE, NONE, "ProvisionedThroughputExceeded"], Stale),
        (CANCELED, ["ConditionalCheckFailed", NONE, NONE, NONE], KeyTaken),
        (CANCELED, ["ConditionalCheckFailed", "ConditionalCheckFailed", "ConditionalCheckFailed", NONE], KeyTaken),
        (CANCELED, [NONE, "ConditionalCheckFailed", "ConditionalCheckFailed", NONE], AlreadyApplied),
        (CANCELED, ["TransactionConflict", "ConditionalCheckFailed", NONE, NONE], AlreadyApplied),
        ("TransactionConflictException", [], Stale),
        ("TransactionInProgressException", [], Stale),
        # a defect or an outage is neither
        (CANCELED, [NONE, NONE, "ValidationError", NONE], TransactWriteError),
        (CANCELED, [NONE, NONE, "ConditionalCheckFailed", "ValidationError"], TransactWriteError),
        (CANCELED, [NONE, NONE, NONE, "ItemCollectionSizeLimitExceeded"], TransactWriteError),
        (CANCELED, [], TransactWriteError),
        ("ValidationException", [], TransactWriteError),
        ("AccessDeniedException", [], TransactWriteError),
        ("ResourceNotFoundException", [], TransactWriteError),
    ],
)
def test_a_refused_transaction_means_what_its_reasons_say(
    tables: Tables, refusal: list[Any], code: str, reasons: list[str], meaning: type[Exception]
) -> None:
    refusal.append((code, reasons))
    change = replace(orders.create(factories.make_order()), references=[Reference("ch_1", TENANT, "pay_1")])
    with pytest.raises(meaning) as caught:
        tables.store.commit(change, now=NOW, claim=claim(), mark=mark())
    assert type(caught.value) is meaning


LOST_ANSWERS = [
    ReadTimeoutError(endpoint_url="https://dynamodb.example"),
    ConnectTimeoutError(endpoint_url="https://dynamodb.example"),
    EndpointConnectionError(endpoint_url="https://dynamodb.example"),
]


@pytest.mark.parametrize("lost", LOST_ANSWERS, ids=lambda lost: type(lost).__name__)
def test_a_lost_answer_is_an_error_that_says_so_and_never_taken_for_a_refusal(
    tables: Tables, refusal: list[Any], lost: Exception
) -> None:
    # It may have been written: whoever asked comes again, and meets the key, the mark or the new version.
    refusal.append((lost, []))
    with pytest.raises(TransactWriteError) as caught:
        tables.store.commit(orders.create(factories.make_order()), now=NOW, claim=claim(), mark=mark())
    assert caught.value.cause is lost
    story = stored(tables)
    refusal.append((lost, []))
    with pytest.raises(UpdateError):
        tables.store.claim_due(f"mer_01TEST/test/{story.payment.id}", "a#payment", 1.0, NOW)
    refusal.append((lost, []))
    with pytest.raises(UpdateError):
        tables.store.answer("mer_01TEST/test/key", 200, b"")
    refusal.append((lost, []))
    with pytest.raises(PutError):
        tables.store.take_slot("waiters", 7, "me", NOW, 1)


def test_one_bad_item_among_failed_conditions_of_its_kind_is_not_taken_for_contention(
    tables: Tables, refusal: list[Any]
) -> None:
    # Two items have the same label: the first one's reason must not hide behind the second's.
    change = payments.create(factories.make_payment(risk={"decision": "block", "score": 100, "reasons": ["x"]}),
                             None, None, TIMING, NOW)  # fmt: skip
    assert len(change.events) == 2
    refusal.append((CANCELED, [NONE, "ValidationError", "ConditionalCheckFailed"]))
    with pytest.raises(TransactWriteError):
        tables.store.commit(change, now=NOW)


def test_a_projection_that_met_another_one_comes_again(tables: Tables, refusal: list[Any]) -> None:
    totals = {("balance/INR", "x"): 1}
    refusal.append((CANCELED, [NONE, "TransactionConflict"]))
    with pytest.raises(Stale):
        tables.store.project(TENANT, totals, mark(), NOW)
    refusal.append((CANCELED, [NONE, "ValidationError"]))
    with pytest.raises(TransactWriteError):
        tables.store.project(TENANT, totals, mark(), NOW)


@pytest.mark.parametrize("code", ["ConditionalCheckFailedException", "TransactionConflictException"])
def test_a_lease_that_meets_a_transaction_is_somebody_elses(tables: Tables, refusal: list[Any], code: str) -> None:
    story = stored(tables)
    due = story.payment.due_at
    assert due is not None
    refusal.append((code, []))
    assert not tables.store.claim_due(f"mer_01TEST/test/{story.payment.id}", "a#payment", due.timestamp(), NOW)


def test_a_lease_that_fails_for_another_reason_is_an_error(tables: Tables, refusal: list[Any]) -> None:
    refusal.append(("AccessDeniedException", []))
    with pytest.raises(Exception, match="AccessDenied"):
        tables.store.claim_due("mer_01TEST/test/pay_1", "a#payment", 1.0, NOW)


@pytest.mark.parametrize("code", ["ConditionalCheckFailedException", "TransactionConflictException"])
def test_a_put_that_meets_a_transaction_has_lost_to_it(tables: Tables, refusal: list[Any], code: str) -> None:
    # A permit of a breaker meets the outcomes that teach it: "cannot be written" would let the call out unasked.
    refusal.append((code, []))
    row = breaker_row("test", "simulator", "upi", Breaker(version=1), Breaker())
    assert not Health(PREFIX, lambda: NOW, 2.0).put(row)


def test_a_put_that_fails_for_another_reason_is_an_error(tables: Tables, refusal: list[Any]) -> None:
    refusal.append(("AccessDeniedException", []))
    with pytest.raises(Exception, match="AccessDenied"):
        tables.store.take_slot("waiters", 1, "me", NOW, 1)
