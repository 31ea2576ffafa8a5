"""Rate limits over all execution environments: token buckets in DynamoDB, each taken by one conditional write.

An environment asks for a few tokens at once and spends them within a second, so that a busy key does not cost a write
for each of its requests; what it does not spend in time is lost, so there are never more than the bucket gave out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pynamodb.exceptions import PynamoDBException

from chalicelib.domain import buckets
from chalicelib.domain.buckets import SECOND
from chalicelib.observability import logger, metric
from chalicelib.storage.items import BucketItem, GuardsItem, bind
from chalicelib.storage.store import changed

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from chalicelib.domain.access import Rate

_SHARE = 50  # of the bucket, that an environment asks for at once: one 50th
_HOLD = SECOND  # in which it must have spent them
_MAX_KNOWN = 10_000
_SLACK = 60  # seconds a full bucket's row stays: what is full and what is absent is the same


@dataclass(slots=True)
class _Known:
    full_at: int = 0  # of the shared bucket, when it was last written or read here, in microseconds
    held: int = 0
    held_until: int = 0


@dataclass(frozen=True, slots=True)
class Taken:
    """What came of asking for a token; ``wait`` in seconds until there is one."""

    limit: Rate
    is_given: bool
    left: int
    wait: float = 0


class Limits:
    """Token buckets by name."""

    def __init__(self, prefix: str, clock: Callable[[], datetime]) -> None:
        """``clock`` gives the current time."""
        bind(prefix)
        self._clock = clock
        self._known: dict[str, _Known] = {}

    def take(self, name: str, limit: Rate) -> Taken:
        """Take a token of a bucket.

        Two requests at once each move the bucket on by a condition on how it was: neither gets the other's token.
        A crash after the write has spent what nobody used. Without its table the bucket lets everything through:
        API Gateway's throttle still stands before it.
        """
        now = round(self._clock().timestamp() * SECOND)
        if len(self._known) >= _MAX_KNOWN:
            self._known.clear()
        known = self._known.setdefault(name, _Known())
        if known.held > 0 and now < known.held_until:
            known.held -= 1
            return Taken(limit, is_given=True, left=buckets.left(known.full_at, now, limit) + known.held)
        try:
            return self._draw(name, limit, known, now)
        except PynamoDBException as error:
            what = name.partition("/")[0]
            logger.warning("rate limit %s is not held: its row cannot be written (%s)", what, error.cause)
            metric("RateLimitBlind")
            return Taken(limit, is_given=True, left=limit.burst)

    def _draw(self, name: str, limit: Rate, known: _Known, now: int) -> Taken:
        # What is known here is the least that can be true: the shared bucket only ever moves on.
        if buckets.full_at(known.full_at, now, limit) is None:
            return _refused(limit, known.full_at, now)
        share = max(1, limit.burst // _SHARE)
        wanted = share if buckets.left(known.full_at, now, limit) > limit.burst // 2 else 1
        # A share is taken from the upper half only, by the write's own condition: however many environments begin at
        # once, and whatever they think is there, what they hold leaves the lower half to be taken one by one.
        ways = (_from_full, _further) if known.full_at <= now else (_further, _from_full)
        for way, tokens in ((ways[0], wanted), (ways[1], 1), (ways[0], 1)):
            full_at = way(name, limit, tokens, now)
            if full_at is not None:
                known.full_at, known.held, known.held_until = full_at, tokens - 1, now + _HOLD
                return Taken(limit, is_given=True, left=buckets.left(full_at, now, limit) + known.held)
        known.full_at = max(known.full_at, _read(name))
        return _refused(limit, known.full_at, now)


def _refused(limit: Rate, full_at: int, now: int) -> Taken:
    # At least one: of two who ask for the last one at once, the one who loses may find it half full again.
    return Taken(limit, is_given=False, left=0, wait=max(buckets.wait(full_at, now, limit), 1) / SECOND)


def _from_full(name: str, limit: Rate, tokens: int, now: int) -> int | None:
    """Take tokens of a bucket that is full, or new; None if it is neither."""
    full_at = now + buckets.worth(limit, tokens)
    condition = GuardsItem.pk.does_not_exist() | (BucketItem.full_at <= now)
    return _write(name, [BucketItem.full_at.set(full_at)], condition, full_at)


def _further(name: str, limit: Rate, tokens: int, now: int) -> int | None:
    """Take tokens of a bucket that is not full; None if it is, or does not have them."""
    step = buckets.worth(limit, tokens)
    whole = buckets.worth(limit, limit.burst)
    last = now + (whole if tokens == 1 else whole // 2) - step
    condition = (BucketItem.full_at > now) & (BucketItem.full_at <= last)
    return _write(name, [BucketItem.full_at.add(step)], condition, last + step)


def _write(name: str, actions: list[Any], condition: Any, latest: int) -> int | None:  # noqa: ANN401
    """Change the bucket's row by one conditional write; when the bucket is full again, or None if it did not hold."""
    also = [BucketItem.expires_at.set(latest // SECOND + _SLACK), GuardsItem.kind.set(BucketItem)]
    written = changed(BucketItem(f"bucket/{name}", "bucket"), [*actions, *also], condition)
    return None if written is None else int(written["full_at"]["N"])


def _read(name: str) -> int:
    try:
        item = BucketItem.get(f"bucket/{name}", "bucket", consistent_read=True)
    except BucketItem.DoesNotExist:
        return 0
    return int(item.full_at)
