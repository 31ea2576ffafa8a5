"""What every use case is given, and the loop that turns a decision into a committed change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from chalicelib.domain.audit import entry
from chalicelib.domain.errors import Contended, NotFoundError
from chalicelib.observability import logger, metric
from chalicelib.services.origin import registered
from chalicelib.storage.store import Stale

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from chalicelib.config import Settings
    from chalicelib.domain.audit import Actor, Entry
    from chalicelib.domain.model import Change, PaymentState, Tenant
    from chalicelib.domain.origin import CountryOf
    from chalicelib.domain.timing import Timing
    from chalicelib.providers.base import Provider
    from chalicelib.providers.http import HttpClient
    from chalicelib.storage.health import Health
    from chalicelib.storage.keys import Keys
    from chalicelib.storage.limits import Limits
    from chalicelib.storage.merchants import Merchants
    from chalicelib.storage.people import People
    from chalicelib.storage.queries import Queries
    from chalicelib.storage.queues import Queues, Workflows
    from chalicelib.storage.store import Claim, Mark, Store

    Line = Callable[[PaymentState, PaymentState], Entry]

_TRIES = 25  # 20 writers on one payment must all get through
_PAUSE = 0.02  # seconds, doubled per try up to a cap, with full jitter
_PAUSE_CAP = 0.5


@dataclass(frozen=True, slots=True)
class Kit:
    """The concrete parts, assembled in wiring.py; ``jitter`` yields 0 to 1, ``sleep`` takes seconds."""

    settings: Settings
    timing: Timing
    store: Store
    queries: Queries
    merchants: Merchants
    keys: Keys
    people: People
    limits: Limits
    health: Health
    queues: Queues
    workflows: Workflows
    http: HttpClient  # for merchants' endpoints
    provider: Callable[[str], Provider]
    now: Callable[[], datetime]
    sleep: Callable[[float], None]
    jitter: Callable[[], float]
    country_of: CountryOf = registered  # of IP addresses


def load_state(kit: Kit, tenant: Tenant, payment_id: str) -> PaymentState:
    """The payment as it is now; raises NotFoundError."""
    state = kit.queries.payment_state(tenant, payment_id)
    if state is None:
        raise NotFoundError("payment_not_found", f"There is no payment {payment_id}.", param="id")
    return state


def settle(
    kit: Kit,
    tenant: Tenant,
    payment_id: str,
    decide: Callable[[PaymentState], Change | None],
    *,
    state: PaymentState | None = None,
    claim: Callable[[PaymentState], Claim] | None = None,
    mark: Mark | None = None,
    audit: Line | None = None,
) -> tuple[PaymentState, Change | None]:
    """Decide on the payment's state and commit, again on new state until the write holds.

    ``state`` saves the first read. ``claim`` makes the idempotency key row from the state after
    the change, ``audit`` the line that says who wanted it, from those before and after. Returns the
    state after it and the change, or None if there was nothing to do. Raises Contended (429), KeyTaken,
    AlreadyApplied and whatever ``decide`` raises.
    """
    for number in range(_TRIES):
        current = state if number == 0 and state is not None else load_state(kit, tenant, payment_id)
        change = decide(current)
        if change is None:
            return current, None
        after = change.state(current)
        try:
            kit.store.commit(
                change,
                now=kit.now(),
                claim=claim(after) if claim else None,
                mark=mark,
                audit=audit(current, after) if audit else None,
            )
        except Stale:
            pause(kit, number)
            continue
        committed(current, after, change)
        return after, change
    logger.warning("%s: gave up after %d contended writes", payment_id, _TRIES)
    raise Contended(f"Payment {payment_id}")


def line(
    kit: Kit,
    tenant: Tenant,
    action: str,
    by: Actor,
    about: Callable[[PaymentState], str] | None = None,
    /,
    **said: object,
) -> Line:
    """Makes the audit log's line of a change to a payment: its status before and after, and what was ``said``.

    ``about`` gives the id of what it is about, if that is not the payment.
    """

    def made(before: PaymentState, after: PaymentState) -> Entry:
        old, new = before.payment, after.payment
        return entry(
            tenant.merchant_id, action, about(after) if about else new.id, by, kit.now(), mode=tenant.mode,
            before={"status": str(old.status), "amount_refundable": old.amount_refundable},
            after={
                "payment_id": new.id, "status": str(new.status), "amount_refundable": new.amount_refundable,
                **{name: value for name, value in said.items() if value is not None},
            },
        )  # fmt: skip

    return made


def pause(kit: Kit, number: int) -> None:
    """Wait a little before deciding again."""
    kit.sleep(min(_PAUSE_CAP, _PAUSE * 2.0**number) * kit.jitter())


def committed(before: PaymentState | None, after: PaymentState, change: Change) -> None:
    """Tell operators what has just been written."""
    for event in change.events:
        logger.info(event.type, payment_id=after.payment.id, sequence=event.sequence)
    if before is None or before.payment.status != after.payment.status:
        metric("PaymentTransition", status=str(after.payment.status))
    if after.payment.needs_attention and not (before and before.payment.needs_attention):
        logger.error(
            "%s needs a person: see its events, then POST /v1/payments/{id}/resolve",
            after.payment.id,
            payment_id=after.payment.id,
        )
        metric("PaymentsNeedingAttention")
