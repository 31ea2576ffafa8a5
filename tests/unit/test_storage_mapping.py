"""Every value comes back from its item as it went in, through DynamoDB's own wire format."""

from __future__ import annotations

import base64
import json
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.domain.model import Attempt, Delivery, Event, Journal, Operation, Order, Payment, Tenant
from chalicelib.domain.states import OperationType, PaymentStatus
from chalicelib.storage import items, mapping
from tests.support import factories, strategies
from tests.support.factories import cipher

if TYPE_CHECKING:
    from collections.abc import Callable

    from pynamodb.models import Model


def _item(payment: Payment, shards: int = 1) -> items.PaymentItem:
    return mapping.to_payment_item(payment, shards, cipher)


ENTITIES: list[Any] = [
    (strategies.payments, lambda value: _item(value, 3), lambda item: mapping.payment_of(item, cipher)),
    (strategies.orders, lambda value: mapping.to_order_item(value, 3), mapping.order_of),
    (strategies.attempts, mapping.to_attempt_item, mapping.attempt_of),
    (strategies.operations, lambda value: mapping.to_operation_item(value, 3), mapping.operation_of),
    (strategies.events, mapping.to_event_item, mapping.event_of),
    (strategies.journals, mapping.to_journal_item, mapping.journal_of),
    (strategies.deliveries, mapping.to_delivery_item, mapping.delivery_of),
]
NAMES = ["payment", "order", "attempt", "operation", "event", "journal", "delivery"]


def over_the_wire(item: Model) -> Model:
    """The item as another process reads it: numbers as DynamoDB normalises them, nothing shared."""
    wire = json.loads(json.dumps(item.serialize(), default=lambda raw: base64.b64encode(raw).decode()))
    for value in wire.values():
        if "N" in value:
            value["N"] = _normal(value["N"])
        if "B" in value:
            value["B"] = base64.b64decode(value["B"])
    return type(item).from_raw_data(wire)


def _normal(number: str) -> str:
    return number.removesuffix(".0")


@pytest.mark.parametrize(("values", "to_item", "of_item"), ENTITIES, ids=NAMES)
@settings(max_examples=30)
@given(data=st.data())
def test_an_entity_comes_back_as_it_went_in(
    values: Any, to_item: Callable[[Any], Model], of_item: Callable[[Any], Any], data: st.DataObject
) -> None:
    value = data.draw(values)
    assert of_item(over_the_wire(to_item(value))) == value


@pytest.mark.parametrize(
    ("entity", "item"),
    [
        (Payment, items.PaymentItem), (Order, items.OrderItem), (Attempt, items.AttemptItem), (Event, items.EventItem),
        (Operation, items.OperationItem), (Journal, items.JournalItem), (Delivery, items.DeliveryItem),
    ],
)  # fmt: skip
def test_every_field_of_an_entity_is_an_attribute_of_its_item(entity: type[Any], item: type[Model]) -> None:
    in_the_key = {"tenant", "endpoint"}
    assert {field.name for field in fields(entity)} - in_the_key <= set(item.get_attributes())


@given(strategies.TENANTS, strategies.WORDS)
def test_a_key_begins_with_its_tenant_and_leads_back_to_it(tenant: Tenant, name: str) -> None:
    key = mapping.tenant_key(tenant, name)
    assert key == f"{tenant.merchant_id}/{tenant.mode}/{name}"
    assert mapping.tenant_of(key) == tenant


@given(strategies.payments, strategies.TENANTS)
def test_no_key_of_an_item_is_shared_between_tenants(payment: Payment, other: Tenant) -> None:
    if payment.tenant == other:
        return
    theirs = _item(replace(payment, tenant=other), 1)
    ours = _item(payment, 1)
    for name in ("pk", "list_pk", "status_pk", "order_pk", "customer_pk"):
        one, two = getattr(ours, name), getattr(theirs, name)
        assert one is None or one != two


def test_only_items_with_a_lease_are_in_the_due_index() -> None:
    payment = factories.make_payment()
    with_lease, without = (_item(replace(payment, due_at=due), 1) for due in (factories.NOW, None))
    assert (with_lease.due_pk, with_lease.due_at) == (mapping.due_key(payment.id), factories.NOW.timestamp())
    assert {"due_pk", "due_at"}.isdisjoint(without.serialize())


def test_only_refunds_are_listed_among_operations() -> None:
    attempt = factories.make_attempt(factories.make_payment())
    for kind in OperationType:
        item = mapping.to_operation_item(factories.make_operation(attempt, kind), 1).serialize()
        assert ("list_pk" in item) == ("status_pk" in item) == (kind is OperationType.REFUND)


def test_sparse_indexes_hold_only_payments_that_have_an_order_or_a_customer() -> None:
    plain = _item(factories.make_payment(), 1).serialize()
    assert {"order_pk", "customer_pk"}.isdisjoint(plain)
    full = _item(factories.make_payment(order_id="order_1", customer_key="cus_1"), 1).serialize()
    assert (full["order_pk"]["S"], full["customer_pk"]["S"]) == ("mer_01TEST/test/order_1", "mer_01TEST/test/cus_1")


def test_a_payment_in_flight_does_not_move_in_the_status_index() -> None:
    created, processing, done = (
        _item(factories.make_payment(id="pay_1", status=status), 1).status_pk
        for status in (PaymentStatus.CREATED, PaymentStatus.PROCESSING, PaymentStatus.SUCCEEDED)
    )
    assert created == processing != done


@given(st.text(max_size=30), st.integers(1, 16))
def test_a_shard_is_one_of_the_shards(identifier: str, shards: int) -> None:
    assert 0 <= mapping.shard_of(identifier, shards) < shards


def test_ids_spread_over_all_shards() -> None:
    used = {mapping.shard_of(factories.make_payment().id, 4) for _ in range(200)}
    assert used == {0, 1, 2, 3}


@pytest.mark.parametrize("value", [None, {}, [], ()])
def test_nothing_is_stored_as_nothing(value: object) -> None:
    assert items.JSON(null=True).serialize(value) is None


@pytest.mark.parametrize("value", [0, False, "", 0.0, [0], {"": None}])
def test_what_is_merely_false_is_stored(value: object) -> None:
    stored = items.JSON(null=True).serialize(value)
    assert stored is not None
    assert items.JSON(null=True).deserialize(stored) == value
