"""Point the storage layer at a DynamoDB: moto in this process, or a service at an endpoint."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import boto3
from moto import mock_aws

from chalicelib.domain import payments
from chalicelib.domain.outcome import Charge, ChargeStatus
from chalicelib.storage import items
from chalicelib.storage.queries import Queries
from chalicelib.storage.store import Store
from chalicelib.storage.vault import MAX_SEALED, TooLong, Vault
from tests.support import aws, factories, search
from tests.support.factories import NOW, TENANT, TIMING
from tests.support.story import Story

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from chalicelib.domain.model import Change, Order, PaymentState, Tenant


_TURNED = bytes(byte ^ 0x55 for byte in range(256))


@dataclass(frozen=True, slots=True)
class Tables:
    """A stage's tables with what reads and writes them."""

    store: Store
    queries: Queries
    client: Any  # boto3's, for looks behind the store

    def load(self, payment_id: str, tenant: Tenant = TENANT) -> PaymentState:
        """The payment as stored."""
        state = self.queries.payment_state(tenant, payment_id)
        assert state is not None
        return state

    def all_items(self, table: str) -> list[dict[str, Any]]:
        """Every item of a table, as on the wire."""
        found: list[dict[str, Any]] = []
        for page in self.client.get_paginator("scan").paginate(TableName=f"{aws.PREFIX}-{table}"):
            found += page["Items"]
        return found

    def item_count(self) -> int:
        """How many items there are in all tables."""
        return sum(len(self.all_items(table)) for table in ("payments", "guards", "merchants", "deliveries", "stats"))


def open_tables(*, list_shards: int = 1, client: Any = None) -> Tables:
    """Store and queries on the tables that the item classes point at."""
    return Tables(
        Store(aws.PREFIX, factories.cipher, list_shards=list_shards),
        Queries(aws.PREFIX, factories.cipher, list_shards=list_shards),
        client or boto3.client("dynamodb"),
    )


class OpenVault(Vault):
    """Seals with a cipher that any schoolboy opens: what KMS does is tested elsewhere. What it seals is not in clear."""

    def __init__(self) -> None:
        """Needs no KMS."""

    def seal(self, _: Tenant, __: str, value: Mapping[str, object]) -> bytes:
        plain = json.dumps(value).encode()
        if len(plain) > MAX_SEALED:
            raise TooLong(f"{len(plain)} bytes")
        return plain.translate(_TURNED)

    opened = 0  # how often

    def open(self, _: Tenant, __: str, sealed: bytes) -> dict[str, Any]:
        self.opened += 1
        value: dict[str, Any] = json.loads(sealed.translate(_TURNED))
        return value


@contextmanager
def connections(endpoint: str | None = None, pool: int = 10) -> Iterator[None]:
    """Give the item classes connections of their own, at ``endpoint``; the old ones come back afterwards."""
    aws.set_environment()
    models = [model for group in items._TABLES.values() for model in group]
    before = [(model, model._connection, model.Meta.host, model.Meta.max_pool_connections) for model in models]
    try:
        items.bind(aws.PREFIX)
        client: Any = None
        for model in models:
            model._connection, model.Meta.host, model.Meta.max_pool_connections = None, endpoint, pool
            opened = model._get_connection().connection
            client = client or opened.client  # one client for all: it takes a while to make
            opened._client = client
        yield
    finally:
        for model, connection, host, size in before:
            model._connection, model.Meta.host, model.Meta.max_pool_connections = connection, host, size


@contextmanager
def moto_tables() -> Iterator[Tables]:
    """Fresh tables in moto, in this process."""
    aws.set_environment()
    with mock_aws(), connections():
        aws.create_tables()
        tables = open_tables()
        yield tables
        finds = search.in_tables(tables.client)
        if finds:
            raise search.Leak(finds)


# -- stored payments -----------------------------------------------------------------------------------


@dataclass(slots=True)
class StoredStory(Story):
    """A story whose every change is also committed."""

    tables: Tables | None = None

    def hear(self, said: Charge | ChargeStatus, number: int = -1, **fields: Any) -> Change | None:
        """As a story does; the provider's references differ from payment to payment, as they do in life."""
        if not isinstance(said, Charge):
            fields.setdefault("provider_reference", f"ch_{self.payment.id}")
        return Story.hear(self, said, number, **fields)

    def apply(self, change: Change | None, *, is_new: bool = False) -> Change | None:
        """Commit to the tables first: they have the last word."""
        if change is not None and self.tables is not None:
            self.tables.store.commit(change, now=self.now)
        return Story.apply(self, change, is_new=is_new)


def stored(tables: Tables, order: Order | None = None, **fields: Any) -> StoredStory:
    """A created payment in the tables."""
    if order is not None:
        fields["order_id"] = order.id
    payment = factories.make_payment(**fields)
    story = StoredStory(factories.state_of(payment, order=order), tables=tables)
    change = payments.create(payment, order, None, TIMING, NOW)
    if order is not None:  # the order was written before its payment
        tables.client.put_item(**order_put(order))
    story.apply(change, is_new=True)
    return story


def order_put(order: Order) -> dict[str, Any]:
    """A plain put of an order."""
    from chalicelib.storage import mapping  # noqa: PLC0415 - only here

    return {"TableName": f"{aws.PREFIX}-payments", "Item": mapping.to_order_item(order, 1).serialize()}


def succeeded(tables: Tables, order: Order | None = None, **fields: Any) -> StoredStory:
    """A captured payment in the tables."""
    story = stored(tables, order, **fields)
    story.send()
    story.hear(ChargeStatus.SUCCEEDED)
    return story
