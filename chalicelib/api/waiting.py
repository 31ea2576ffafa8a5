"""``Prefer: wait=N``: hold a create until the payment is somewhere, without crowding out everybody else.

Waiters hold numbered slots with leases, so that their number is bounded over the whole stage and a
crashed one gives its place back by itself. Who finds no slot is answered at once.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

from chalicelib.domain.states import PaymentStatus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chalicelib.domain.model import Payment, Tenant
    from chalicelib.services.kit import Kit

_WAIT = re.compile(r"wait\s*=\s*\"?([0-9]{1,9})\"?", re.IGNORECASE)
_MOVING = frozenset({PaymentStatus.CREATED, PaymentStatus.PROCESSING})
_SLOT = "waiters"
_SLOT_MARGIN = 5.0  # seconds a waiter may be late
_TRIES = 2  # random places looked at: at most two writes for a request that then waits seconds
_FIRST_PAUSE, _LONGEST_PAUSE, _GROWTH = 0.15, 0.5, 1.5


def preferred(header: str | None, most: int) -> int:
    """The seconds asked for in a Prefer header (RFC 7240), at most ``most``; 0 if none are."""
    for preference in (header or "").split(","):
        found = _WAIT.fullmatch(preference.partition(";")[0].strip())
        if found:
            return min(int(found[1]), most)
    return 0


@contextmanager
def slot(kit: Kit, owner: str, seconds: int) -> Iterator[bool]:
    """A place among the waiters, or False if none was free."""
    number = _take(kit, owner, seconds) if seconds else None
    try:
        yield number is not None
    finally:
        if number is not None:
            kit.store.free_slot(_SLOT, number, owner)


def _take(kit: Kit, owner: str, seconds: int) -> int | None:
    places = kit.settings.max_waiters
    for _ in range(_TRIES if places else 0):
        number = min(int(kit.jitter() * places), places - 1)
        if kit.store.take_slot(_SLOT, number, owner, kit.now(), seconds + _SLOT_MARGIN):
            return number
    return None


def until_settled(kit: Kit, tenant: Tenant, payment: Payment, seconds: float) -> Payment:
    """The payment once it has left created and processing, or as it is after ``seconds``."""
    started, pause = kit.now(), _FIRST_PAUSE
    while payment.status in _MOVING:
        left = seconds - (kit.now() - started).total_seconds()
        if left <= 0:
            break
        kit.sleep(min(pause, left))
        pause = min(pause * _GROWTH, _LONGEST_PAUSE)
        payment = kit.queries.payment(tenant, payment.id) or payment
    return payment
