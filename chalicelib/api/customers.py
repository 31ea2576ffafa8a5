"""Routes: customers, as far as payments know them."""

from __future__ import annotations

from chalicelib.api import lists, schemas, views
from chalicelib.api.http import Api, Call, Reply
from chalicelib.services import customers

api = Api(__name__)


@api.route(
    "/v1/customers/{customer_id}/erase", methods=["POST"], scope="customers:write", query=schemas.ErasureQuery,
    response="Erasure", errors=[404, 429],
)  # fmt: skip
def erase_customer(call: Call, customer_id: str, query: schemas.ErasureQuery) -> Reply:
    """Erase a customer's contact details from every payment that is over; ask again until it is complete."""
    cursor = lists.after_id(query.cursor, "pay")
    erased = customers.erase(call.kit, call.tenant, customer_id, cursor=cursor, by=call.by)
    return Reply(views.erasure(customer_id, erased))
