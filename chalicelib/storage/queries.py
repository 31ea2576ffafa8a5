"""Reads: what a decision needs in one query, and lists without scans."""

from __future__ import annotations

import heapq
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from pynamodb.exceptions import DoesNotExist

from chalicelib.domain.model import PaymentState
from chalicelib.domain.velocity import Window
from chalicelib.storage import items, mapping
from chalicelib.storage.items import (
    AttemptItem,
    DeliveriesRow,
    DeliveryItem,
    EventItem,
    GuardsItem,
    IdempotencyItem,
    JournalItem,
    OperationItem,
    OrderItem,
    PaymentItem,
    PaymentsItem,
    PaymentsRow,
    ReferenceItem,
    StatsItem,
    TokenItem,
)
from chalicelib.storage.page import Page
from chalicelib.storage.store import Claim

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime

    from chalicelib.domain.cards import CardToken
    from chalicelib.domain.model import Delivery, Event, Journal, Operation, Order, Payment, Tenant
    from chalicelib.domain.velocity import Dimension
    from chalicelib.storage.sealing import Ciphers

MAX_ROWS = 1000  # index rows one page may read; a short page carries a cursor
_BATCH = 100  # BatchGetItem's limit


class DueRow(NamedTuple):
    """Overdue work: where it is and its lease in epoch seconds."""

    pk: str
    sk: str
    due_at: float


class Queries:
    """Reads from one stage's tables."""

    def __init__(self, prefix: str, ciphers: Ciphers, *, list_shards: int = 1) -> None:
        """As for Store."""
        items.bind(prefix)
        self._ciphers = ciphers
        self._shards = list_shards

    # -- one thing -----------------------------------------------------------------------------

    def payment_state(self, tenant: Tenant, payment_id: str) -> PaymentState | None:
        """A payment with its attempts, operations and order, strongly consistent; None if absent."""
        payment: Payment | None = None
        attempts, operations = [], []
        rows = PaymentsItem.query(
            mapping.payment_key(tenant, payment_id), PaymentsItem.sk.startswith("a#"), consistent_read=True
        )
        for row in rows:
            if isinstance(row, PaymentItem):
                payment = mapping.payment_of(row, self._ciphers)
            elif isinstance(row, AttemptItem):
                attempts.append(mapping.attempt_of(row))
            elif isinstance(row, OperationItem):
                operations.append(mapping.operation_of(row))
        if payment is None:
            return None
        order = self.order(tenant, payment.order_id) if payment.order_id else None
        return PaymentState(payment, tuple(attempts), tuple(operations), order)

    def payment(self, tenant: Tenant, payment_id: str) -> Payment | None:
        """A payment alone, strongly consistent; None if absent."""
        item = _get(PaymentItem, mapping.payment_key(tenant, payment_id), "a#payment")
        return None if item is None else mapping.payment_of(item, self._ciphers)

    def order(self, tenant: Tenant, order_id: str) -> Order | None:
        """An order, strongly consistent; None if absent."""
        item = _get(OrderItem, mapping.tenant_key(tenant, order_id), "a#order")
        return None if item is None else mapping.order_of(item)

    def operation(self, tenant: Tenant, payment_id: str, operation_id: str) -> Operation | None:
        """An operation, strongly consistent; None if absent."""
        item = _get(OperationItem, mapping.payment_key(tenant, payment_id), f"a#op#{operation_id}")
        return None if item is None else mapping.operation_of(item)

    def payment_of_reference(self, tenant: Tenant, key: str) -> str | None:
        """The payment id that a provider's or a refund's id leads to; None if none does."""
        item = _get(ReferenceItem, mapping.tenant_key(tenant, f"ref/{key}"), "ref")
        return None if item is None else item.payment_id

    def idempotency(self, key: str, now: datetime) -> Claim | None:
        """What is stored under an idempotency key; None if absent or past its time."""
        item = _get(IdempotencyItem, f"idem/{key}", "idem")
        if item is None or item.expires_at < now.timestamp():
            return None
        body = None if item.body is None else mapping.answer_of(self._ciphers, key, item.body)
        status = None if item.status is None else int(item.status)
        return Claim(
            key,
            item.fingerprint,
            item.object_id,
            item.expires_at,
            status=status,
            body=body,
            lease_until=item.lease_until,
        )

    def token(self, tenant: Tenant, token_id: str, now: datetime) -> CardToken | None:
        """A card's token; None if absent or past its time."""
        item = _get(TokenItem, mapping.token_key(tenant, token_id), "token")
        return None if item is None or item.expires_at <= now.timestamp() else mapping.token_of(item)

    def windows(self, keys: Mapping[str, Dimension], now: datetime) -> dict[str, Window]:
        """Velocity windows by their keys, strongly consistent, in one read; new ones for those that are absent."""
        found = {key: Window(dimension) for key, dimension in keys.items()}
        if found:
            wanted = {mapping.window_key(key): key for key in keys}
            for item in GuardsItem.batch_get([(pk, "window") for pk in wanted], consistent_read=True):
                key = wanted[item.pk]
                if item.expires_at >= now.timestamp():
                    found[key] = mapping.window_of(item, keys[key])  # type: ignore[arg-type]  # of that kind by its key
        return found

    # -- a payment's story ---------------------------------------------------------------------

    def events(self, tenant: Tenant, subject_id: str, *, after: int = 0, limit: int = MAX_ROWS) -> list[Event]:
        """Events of a payment or order in sequence, those numbered above ``after``."""
        condition = EventItem.sk.between(f"evt#{after + 1:08d}", "evt#~")
        rows = EventItem.query(mapping.tenant_key(tenant, subject_id), condition, consistent_read=True, limit=limit)
        return [mapping.event_of(row) for row in rows]

    def event(self, tenant: Tenant, subject_id: str, sequence: int) -> Event | None:
        """One event by its number."""
        item = _get(EventItem, mapping.tenant_key(tenant, subject_id), f"evt#{sequence:08d}")
        return None if item is None else mapping.event_of(item)

    def journals(self, tenant: Tenant, payment_id: str) -> list[Journal]:
        """A payment's journals, oldest first."""
        rows = JournalItem.query(
            mapping.payment_key(tenant, payment_id), JournalItem.sk.startswith("jnl#"), consistent_read=True
        )
        return sorted((mapping.journal_of(row) for row in rows), key=lambda journal: (journal.created_at, journal.id))

    # -- lists ---------------------------------------------------------------------------------

    def payments(
        self,
        tenant: Tenant,
        *,
        limit: int,
        cursor: str | None,
        status: str | None = None,
        order_id: str | None = None,
        customer_key: str | None = None,
        keep: Callable[[Payment], bool] = lambda _: True,
    ) -> Page:
        """Payments, newest first; one of the filters picks the index, ``keep`` checks the rest."""
        sources: list[tuple[Any, str]]
        if order_id is not None:
            sources = [(PaymentsRow.by_order, mapping.tenant_key(tenant, order_id))]
        elif customer_key is not None:
            sources = [(PaymentsRow.by_customer, mapping.tenant_key(tenant, customer_key))]
        else:
            sources = self._sources(tenant, "payment", status)
        return self._page(
            sources,
            limit,
            cursor,
            lambda item: mapping.payment_of(item, self._ciphers),
            lambda p: (status is None or p.status == status) and keep(p),
        )

    def orders(
        self,
        tenant: Tenant,
        *,
        limit: int,
        cursor: str | None,
        status: str | None = None,
        keep: Callable[[Order], bool] = lambda _: True,
    ) -> Page:
        """Orders, newest first."""
        sources = self._sources(tenant, "order", status)
        return self._page(
            sources, limit, cursor, mapping.order_of, lambda o: (status is None or o.status == status) and keep(o)
        )

    def refunds(
        self,
        tenant: Tenant,
        *,
        limit: int,
        cursor: str | None,
        status: str | None = None,
        keep: Callable[[Operation], bool] = lambda _: True,
    ) -> Page:
        """Refund operations, newest first; ``status`` is one a refund is stored with."""
        sources = self._sources(tenant, "refund", status)
        return self._page(
            sources, limit, cursor, mapping.operation_of, lambda r: (status is None or r.status == status) and keep(r)
        )

    def _sources(self, tenant: Tenant, kind: str, status: str | None) -> list[tuple[Any, str]]:
        if status is None:
            return [(PaymentsRow.by_created, mapping.list_key(tenant, kind, n)) for n in range(self._shards)]
        return [(PaymentsRow.by_status, mapping.status_key(tenant, kind, status, n)) for n in range(self._shards)]

    def _page(
        self,
        sources: Sequence[tuple[Any, str]],
        limit: int,
        cursor: str | None,
        build: Callable[[Any], Any],
        keep: Callable[[Any], bool],
    ) -> Page:
        rows = heapq.merge(
            *(_index_rows(index, key, cursor) for index, key in sources), key=lambda row: row.list_sk, reverse=True
        )
        found: list[Any] = []
        read, last = 0, None
        while read < MAX_ROWS:
            batch = list(islice(rows, min(_BATCH, max(limit - len(found), 1))))
            if not batch:
                return Page(found, None)
            read += len(batch)
            loaded = _batch_get(batch)
            for row in batch:
                last = row.list_sk
                item = loaded.get((row.pk, row.sk))  # absent: the index is ahead of or behind the table
                entity = None if item is None else build(item)
                if entity is not None and keep(entity):
                    found.append(entity)
            if len(found) >= limit:
                break
        return Page(found, last)

    # -- overdue work --------------------------------------------------------------------------

    def due(self, shard: int, now: datetime, limit: int) -> list[DueRow]:
        """Overdue payments, attempts, operations and orders of one shard, longest overdue first."""
        rows = PaymentsRow.due.query(f"due/{shard}", PaymentsRow.due_at <= round(now.timestamp(), 3), limit=limit)
        return [DueRow(row.pk, row.sk, row.due_at) for row in rows]

    def due_deliveries(self, shard: int, now: datetime, limit: int) -> list[DueRow]:
        """Overdue deliveries of one shard, longest overdue first."""
        rows = DeliveriesRow.due.query(f"due/{shard}", DeliveriesRow.due_at <= round(now.timestamp(), 3), limit=limit)
        return [DueRow(row.pk, row.sk, row.due_at) for row in rows]

    # -- deliveries and stats ------------------------------------------------------------------

    def delivery(self, tenant: Tenant, event_id: str, endpoint: str) -> Delivery | None:
        """An event's delivery to an endpoint, strongly consistent; None if absent."""
        item = _get(DeliveryItem, mapping.tenant_key(tenant, event_id), f"dlv#{endpoint}")
        return None if item is None else mapping.delivery_of(item)

    def totals(self, tenant: Tenant, partition: str) -> dict[str, int]:
        """Everything counted under one partition of the stats."""
        totals: Counter[str] = Counter()
        for row in StatsItem.query(mapping.tenant_key(tenant, partition)):
            totals[row.sk.rpartition("#")[0]] += int(row.total)  # the rest of the key is the counter's shard
        return dict(totals)


def _get(item_class: Any, pk: str, sk: str) -> Any | None:  # noqa: ANN401
    try:
        return item_class.get(pk, sk, consistent_read=True)
    except DoesNotExist:
        return None


def _index_rows(index: Any, key: str, cursor: str | None) -> Iterator[Any]:  # noqa: ANN401
    condition = None if cursor is None else PaymentsRow.list_sk < cursor
    rows = index.query(key, condition, scan_index_forward=False, page_size=_BATCH)
    yield from rows


def _batch_get(rows: Sequence[Any]) -> dict[tuple[str, str], Any]:
    keys = [(row.pk, row.sk) for row in rows]
    return {(item.pk, item.sk): item for item in PaymentsItem.batch_get(keys)}
