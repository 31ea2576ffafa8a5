"""``Idempotency-Key``: one effect per key, and the same bytes for whoever asks again.

The key's row is written in the transaction of the effect, so there is no moment at which one exists
without the other. What that leaves to do here:

* nobody reads the row first. A repeat meets ``KeyTaken``, or the error that its own first effect
  causes (a second full refund finds nothing to refund); both look the row up and replay it;
* with a wait the row is committed under a lease and without an answer. The answer is stored by a
  conditional write before it is sent, and whoever loses that write sends the winner's bytes;
* errors are never stored: after a 4xx the key is as good as new.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from chalicelib.api.problems import Refused
from chalicelib.domain.errors import Contended, RailyardError
from chalicelib.services.idempotency import Idem, answer_bytes
from chalicelib.storage.store import KeyTaken

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from chalicelib.domain.model import Tenant
    from chalicelib.services.kit import Kit
    from chalicelib.storage.store import Claim

T = TypeVar("T")

HEADER = "Idempotency-Key"
MAX_LENGTH = 255
_RETRY_AFTER = 2  # seconds, at most: the first answer usually comes long before its lease ends


@dataclass(frozen=True, slots=True)
class Answer:
    """What to send: the stored bytes, and whether they were stored before this request."""

    status: int
    body: bytes
    replayed: bool


def key_in(header: str | None) -> str:
    """The caller's key; raises Refused (400) if it is missing or no key."""
    key = (header or "").strip()
    if not key:
        raise Refused(400, "idempotency_key_missing", f"Send an {HEADER} header: a new one for each request.")
    if len(key) > MAX_LENGTH or not key.isprintable():
        raise Refused(400, "idempotency_key_invalid", f"An {HEADER} has at most {MAX_LENGTH} printable characters.")
    return key


def scoped(tenant: Tenant, method: str, path: str, key: str) -> str:
    """What the key is stored under: the same key on another path, by another merchant, is another key."""
    parts = "\x1f".join((*tenant, method, path, key))
    return f"{tenant.merchant_id}/{tenant.mode}/{hashlib.sha256(parts.encode('utf-8', 'surrogatepass')).hexdigest()}"


def fingerprint(body: Any, key: bytes | None = None) -> str:  # noqa: ANN401 - parsed JSON
    """Of a body, whatever its spacing and order of names; without a key as an earlier release made it."""
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
    if key is None:
        return hashlib.sha256(canonical).hexdigest()
    return hmac.new(key, b"fingerprint|" + canonical, hashlib.sha256).hexdigest()


def once(
    kit: Kit,
    idem: Idem,
    effect: Callable[[Idem], T],
    *,
    settled: Callable[[T], T] = lambda made: made,
    current: Callable[[str], Mapping[str, object]] | None = None,
) -> Answer:
    """Have ``effect`` once per key and answer with the bytes that belong to it.

    ``settled`` waits for what was made (with ``idem.wait``); ``current`` renders the object of a
    waiting request that never stored its answer, by its id. Raises what the effect raises if it has
    not happened before, and Refused for a key that is in use (409) or was used otherwise (422).
    """
    try:
        made = effect(idem)
    except (KeyTaken, RailyardError) as error:
        again = replay(kit, idem, current)
        if again is not None:
            return again
        if isinstance(error, KeyTaken):  # the row ended its life between the write and the read
            raise Contended("This idempotency key") from error
        raise
    if idem.body is not None:
        return Answer(idem.status, idem.body, replayed=False)
    return _store(kit, idem, answer_bytes(idem.render(settled(made))), replayed=False)


def replay(kit: Kit, idem: Idem, current: Callable[[str], Mapping[str, object]] | None) -> Answer | None:
    """The answer stored under a key, or None if the key is free; raises Refused."""
    now = kit.now()
    row = kit.queries.idempotency(idem.key, now)
    if row is None:
        return None
    if row.fingerprint not in (idem.fingerprint, idem.earlier):
        raise Refused(422, "idempotency_key_reused", f"This {HEADER} was used before with another body.")
    stored = _stored(row)
    if stored is not None:
        return stored
    left = (row.lease_until or 0) - now.timestamp()
    if left > 0 or current is None:
        wait = max(1, min(_RETRY_AFTER, math.ceil(left)))
        raise Refused(
            409, "request_in_progress", "The first request with this key is still being answered.", retry_after=wait
        )
    # The first request died while it waited. Its effect stands; tell how it stands now.
    return _store(kit, idem, answer_bytes(current(row.object_id)), replayed=True)


def _store(kit: Kit, idem: Idem, body: bytes, *, replayed: bool) -> Answer:
    """Make ``body`` the answer of this key, unless another request has given one: then that is it."""
    if not kit.store.answer(idem.key, idem.status, body):
        row = kit.queries.idempotency(idem.key, kit.now())
        stored = _stored(row) if row is not None else None
        if stored is not None:
            return stored
    return Answer(idem.status, body, replayed=replayed)


def _stored(row: Claim) -> Answer | None:
    return None if row.body is None or row.status is None else Answer(row.status, row.body, replayed=True)
