"""Routes: refunds across payments; they are made at ``/v1/payments/{id}/refunds``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chalicelib.api import lists, schemas, views
from chalicelib.api.http import Api, Call, Reply
from chalicelib.services import operations

if TYPE_CHECKING:
    from chalicelib.domain.model import Operation

api = Api(__name__)


@api.route("/v1/refunds", scope="refunds:read", query=schemas.RefundQuery, response="RefundList")
def list_refunds(call: Call, query: schemas.RefundQuery) -> Reply:
    """List refunds, newest first."""
    cursor = lists.after_id(query.cursor, "rf")
    # One status of the API may be several of the domain's, each with an index key of its own.
    statuses: list[str | None] = [None]
    if query.status is not None:
        statuses = [stored for stored, name in views.REFUND_STATUSES.items() if name == query.status]

    def keep(refund: Operation) -> bool:
        return query.payment_id in (None, refund.payment_id)

    pages = [
        call.kit.queries.refunds(call.tenant, limit=query.limit, cursor=cursor, status=status, keep=keep)
        for status in statuses
    ]
    return Reply(lists.shown(lists.merged(pages, query.limit), views.refund))


@api.route("/v1/refunds/{refund_id}", scope="refunds:read", response="Refund", errors=[404])
def get_refund(call: Call, refund_id: str) -> Reply:
    """Get a refund."""
    return Reply(views.refund(operations.get_refund(call.kit, call.tenant, refund_id)))
