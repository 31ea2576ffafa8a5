"""Routes: orders, what a customer owes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chalicelib.api import lists, schemas, views
from chalicelib.api.http import Api, Call, Reply
from chalicelib.services import orders

if TYPE_CHECKING:
    from chalicelib.domain.model import Order

api = Api(__name__)


def _render(call: Call, order: Order) -> dict[str, object]:
    return views.order(order, call.kit.settings.public_base_url)


@api.route(
    "/v1/orders", methods=["POST"], scope="orders:write", body=schemas.OrderIn, response="Order", status=201,
    idempotent=True,
)  # fmt: skip
def create_order(call: Call, body: schemas.OrderIn) -> Reply:
    """Create an order."""
    wish = orders.NewOrder(
        amount=body.amount,
        currency=body.currency,
        receipt=body.receipt,
        lines=[line.model_dump() for line in body.lines],
        metadata=body.metadata or {},
        expires_at=body.expires_at,
    )
    return call.once(lambda idem: orders.create(call.kit, call.tenant, wish, idem), lambda order: _render(call, order))


@api.route("/v1/orders", scope="orders:read", query=schemas.OrderQuery, response="OrderList")
def list_orders(call: Call, query: schemas.OrderQuery) -> Reply:
    """List orders, newest first."""
    page = call.kit.queries.orders(
        call.tenant,
        limit=query.limit,
        cursor=lists.after_id(query.cursor, "order"),
        status=query.status,
        keep=lambda order: query.receipt in (None, order.receipt),
    )
    return Reply(lists.shown(page, lambda order: _render(call, order)))


@api.route("/v1/orders/{order_id}", scope="orders:read", response="Order", errors=[404])
def get_order(call: Call, order_id: str) -> Reply:
    """Get an order."""
    return Reply(_render(call, orders.get(call.kit, call.tenant, order_id)))


@api.route(
    "/v1/orders/{order_id}/cancel", methods=["POST"], scope="orders:write", body=schemas.Empty, response="Order",
    errors=[404, 409, 429],
)  # fmt: skip
def cancel_order(call: Call, order_id: str, body: schemas.Empty) -> Reply:  # noqa: ARG001 - checked to be empty
    """Cancel an order that has no live payment. Canceling twice is canceling."""
    return Reply(_render(call, orders.cancel(call.kit, call.tenant, order_id)))
