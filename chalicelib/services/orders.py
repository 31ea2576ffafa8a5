"""Orders: what a customer owes."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from chalicelib.domain import ids, orders
from chalicelib.domain.errors import Contended, NotFoundError
from chalicelib.domain.model import Order
from chalicelib.domain.states import OrderStatus
from chalicelib.observability import logger
from chalicelib.services.kit import pause
from chalicelib.storage.store import Stale

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from chalicelib.domain.model import Tenant
    from chalicelib.services.idempotency import Idem
    from chalicelib.services.kit import Kit

_RACES = 25


@dataclass(frozen=True, slots=True)
class NewOrder:
    """A merchant's validated wish; ``amount`` in minor units."""

    amount: int
    currency: str
    receipt: str | None = None
    lines: Sequence[Mapping[str, object]] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    expires_at: datetime | None = None


def create(kit: Kit, tenant: Tenant, wish: NewOrder, idem: Idem) -> Order:
    """Write a new order; raises KeyTaken. A repeat meets the key; a crash leaves all or nothing."""
    for number in range(_RACES):
        now = kit.now()
        expires_at = wish.expires_at or now + timedelta(seconds=kit.timing.order_ttl)
        order = Order(
            tenant=tenant,
            id=ids.new_id("order", now),
            status=OrderStatus.CREATED,
            amount=wish.amount,
            currency=wish.currency,
            receipt=wish.receipt,
            lines=list(wish.lines),
            metadata=wish.metadata,
            live_payment_id=None,
            created_at=now,
            updated_at=now,
            expires_at=expires_at,
            due_at=expires_at,
            version=1,
        )
        try:
            kit.store.commit(orders.create(order), now=now, claim=idem.claim(order, order.id, now))
        except Stale:  # another request under the same key is being written
            pause(kit, number)
            continue
        logger.info("order.created", order_id=order.id)
        return order
    raise Contended("This idempotency key")


def get(kit: Kit, tenant: Tenant, order_id: str) -> Order:
    """The order; raises NotFoundError."""
    order = kit.queries.order(tenant, order_id)
    if order is None:
        raise NotFoundError("order_not_found", f"There is no order {order_id}.", param="id")
    return order


def cancel(kit: Kit, tenant: Tenant, order_id: str) -> Order:
    """Cancel an order; raises NotFoundError, or StateConflict while a payment is live. Canceling twice is canceling."""
    for number in range(_RACES):
        order = get(kit, tenant, order_id)
        if order.status is OrderStatus.CANCELED:
            return order
        change = orders.end(order, OrderStatus.CANCELED, kit.now())
        try:
            kit.store.commit(change, now=kit.now())
        except Stale:
            pause(kit, number)
            continue
        logger.info("order.canceled", order_id=order_id)
        return change.order or order
    raise Contended(f"Order {order_id}")


def expire(kit: Kit, tenant: Tenant, order_id: str) -> float | None:
    """Expire an overdue order; seconds until the next look, or None if it needs none.

    An order with a live payment needs none: the payment's end brings the order back.
    """
    order = kit.queries.order(tenant, order_id)
    if order is None or order.due_at is None or order.live_payment_id is not None:
        return None
    left = (order.expires_at - kit.now()).total_seconds()
    if left > 0:
        return left
    try:
        kit.store.commit(orders.end(order, OrderStatus.EXPIRED, kit.now()), now=kit.now())
    except Stale:
        logger.info("the order changed meanwhile; it is looked at again", order_id=order_id)
        return kit.timing.poll
    return None
