"""How an order moves by itself; what its payments do to it is in ``draft.settle_order``."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from chalicelib.domain.draft import order_snapshot
from chalicelib.domain.errors import InvalidRequest, StateConflict
from chalicelib.domain.ids import new_id
from chalicelib.domain.model import Change, Event, Order
from chalicelib.domain.states import ORDER_FINAL, ORDER_MOVES, OrderStatus, check_move

if TYPE_CHECKING:
    from datetime import datetime


def _event(order: Order, event_type: str, now: datetime) -> Event:
    return Event(
        tenant=order.tenant,
        id=new_id("evt", now),
        subject_id=order.id,
        sequence=order.version,
        type=event_type,
        created_at=now,
        data={"order": order_snapshot(order)},
    )


def create(order: Order) -> Change:
    """Write a new order."""
    return Change(order=order, events=(_event(order, "order.created", order.created_at),))


def end(order: Order, status: OrderStatus, now: datetime) -> Change:
    """Cancel or expire an order; raises StateConflict while a payment is live or once it is over."""
    if order.status in ORDER_FINAL:
        raise StateConflict(f"order_{order.status}", f"The order is {order.status}.")
    if order.live_payment_id is not None:
        raise StateConflict("order_has_live_payment", f"Payment {order.live_payment_id} is under way for this order.")
    check_move(ORDER_MOVES, order.status, status, order.id)
    ended = replace(order, status=status, updated_at=now, due_at=None, version=order.version + 1)
    return Change(order=ended, old_order=order, events=(_event(ended, f"order.{status}", now),))


def check_payable(order: Order, *, amount: int, currency: str, now: datetime) -> None:
    """Raise StateConflict or InvalidRequest unless a new payment of this size may be made for the order."""
    if order.status in ORDER_FINAL:
        raise StateConflict(f"order_{order.status}", f"The order is {order.status}.")
    if now >= order.expires_at:
        raise StateConflict("order_expired", "The order has expired.")
    if currency != order.currency:
        raise InvalidRequest("currency_mismatch", f"The order is in {order.currency}.", param="currency")
    if amount != order.amount:
        raise InvalidRequest("amount_mismatch", f"The order is over {order.amount}.", param="amount")
