"""Forgetting a customer: contact details out of every payment that is over.

Each payment is a conditional write of its own, with its own event. A crash in between leaves some payments
erased and the others as they were; whoever asks again finishes. Of two at once, or one and a refund, one wins
the write and the other one reads again and decides again. A payment that is erased already is passed over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from chalicelib.domain import contacts
from chalicelib.domain import payments as lifecycle
from chalicelib.domain.errors import NotFoundError
from chalicelib.domain.states import PAYMENT_FINAL
from chalicelib.services.kit import line, settle

if TYPE_CHECKING:
    from collections.abc import Callable

    from chalicelib.domain.audit import Actor
    from chalicelib.domain.model import Change, Payment, PaymentState, Tenant
    from chalicelib.services.kit import Kit

_AT_ONCE = 100  # payments per request: each is a read and a transaction, well within API Gateway's 29 seconds


@dataclass(frozen=True, slots=True)
class Erased:
    """What one request did; ``cursor`` is the id of the payment after which there are more, or None."""

    payments: int
    pending: int
    cursor: str | None
    is_all: bool  # whether it has looked at every payment: a request that goes on from another one has not


def erase(kit: Kit, tenant: Tenant, customer_id: str, *, cursor: str | None, by: Actor) -> Erased:
    """Erase a customer from up to 100 payments, newest first, each with its line in the audit log.

    Raises NotFoundError if the merchant has no payment of the customer, and Contended.
    """
    known = False

    def holds_something(payment: Payment) -> bool:
        nonlocal known
        known = known or payment.customer_key == customer_id
        return payment.customer_key == customer_id and bool(contacts.private_of(payment))

    page = kit.queries.payments(tenant, limit=_AT_ONCE, cursor=cursor, customer_key=customer_id, keep=holds_something)
    if not known and cursor is None:
        raise NotFoundError(
            "customer_not_found", f"There is no payment of customer {customer_id}.", param="customer_id"
        )
    erased = pending = 0
    for payment in page.data:
        told = line(kit, tenant, "customer.erased", by, customer_id=customer_id)
        after, change = settle(kit, tenant, payment.id, _decide(kit, by.id), audit=told)
        erased += change is not None
        pending += after.payment.status not in PAYMENT_FINAL
    return Erased(erased, pending, page.cursor, is_all=cursor is None and page.cursor is None)


def _decide(kit: Kit, by: str) -> Callable[[PaymentState], Change | None]:
    return lambda state: lifecycle.erase_customer(state, kit.now(), by=by)
