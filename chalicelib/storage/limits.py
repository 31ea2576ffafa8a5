"""Rate limits over all execution environments: token buckets in DynamoDB, each taken by one conditional write.

An environment asks for a few tokens at once and spends them within a second, so that a busy key does not cost a write
for each of its requests; what it does not spend in time is lost, so there are never more than the bucket gave out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pynamodb.exceptions import PynamoDBException

from chalicelib.domain import buckets
from chalicelib.observability import logger, metric
from chalicelib.storage.items import BucketItem, GuardsItem, bind
from chalicelib.storage.store import changed

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from chalicelib.domain.access import Limit

_SHARE = 20  # of the bucket, that an environment asks for at once: one 20th
_HOLD = 1.0  # seconds in which it must have spent them
_MAX_KNOWN = 10_000
_SLACK = 60  # seconds a full bucket's row stays: what is full and what is absent is the same


@dataclass(slots=True)
class _Known:
    full_at: float = 0.0  # of the shared bucket, when it was last written or read here
    held: int = 0
    held_until: float = 0.0


@dataclass(frozen=True, slots=True)
class Taken:
    """What came of asking for a token; ``wait`` in seconds, 0 if it was given."""

    limit: Limit
    left: int
    wait: float

    @property
    def is_given(self) -> bool:
        """Whether the request may go on."""
        return self.wait == 0


class Limits:
    """Token buckets by name."""

    def __init__(self, prefix: str, clock: Callable[[], datetime]) -> None:
        """``clock`` gives the current time."""
        bind(prefix)
        self._clock = clock
        self._known: dict[str, _Known] = {}

    def take(self, name: str, limit: Limit) -> Taken:
        """Take a token of a bucket.

        Two requests at once each move the bucket on by a condition on how it was: neither gets the other's token.
        A crash after the write has spent what nobody used. Without its table the bucket lets everything through:
        API Gateway's throttle still stands before it.
        """
        now = self._clock().timestamp()
        if len(self._known) >= _MAX_KNOWN:
            self._known.clear()
        known = self._known.setdefault(name, _Known())
        if known.held > 0 and now < known.held_until:
            known.held -= 1
            return Taken(limit, buckets.left(known.full_at, now, limit) + known.held, 0)
        try:
            return self._draw(name, limit, known, now)
        except PynamoDBException as error:
            logger.warning(
                "rate limit %s is not held: its row cannot be written (%s)", name.split("/", maxsplit=1)[0], error.cause
            )
            metric("RateLimitBlind")
            return Taken(limit, limit.burst, 0)

    def _draw(self, name: str, limit: Limit, known: _Known, now: float) -> Taken:
        # What is known here is the least that can be true: the shared bucket only ever moves on.
        if buckets.full_at(known.full_at, now, limit) is None:
            return Taken(limit, 0, buckets.wait(known.full_at, now, limit))
        share = max(1, limit.burst // _SHARE)
        wanted = share if buckets.left(known.full_at, now, limit) > limit.burst // 2 else 1
        for tokens in (wanted, 1):
            ways = (_from_full, _further) if known.full_at <= now else (_further, _from_full)
            for way in ways:
                full_at = way(name, limit, tokens, now)
                if full_at is not None:
                    known.full_at, known.held, known.held_until = full_at, tokens - 1, now + _HOLD
                    return Taken(limit, buckets.left(full_at, now, limit) + known.held, 0)
        known.full_at = max(known.full_at, _read(name))
        return Taken(limit, 0, max(1 / limit.rate, buckets.wait(known.full_at, now, limit)))


def _from_full(name: str, limit: Limit, tokens: int, now: float) -> float | None:
    """Take tokens of a bucket that is full, or new; None if it is neither."""
    full_at = now + tokens / limit.rate
    condition = GuardsItem.pk.does_not_exist() | (BucketItem.full_at <= _stored(now))
    return _write(name, [BucketItem.full_at.set(_stored(full_at))], condition, full_at)


def _further(name: str, limit: Limit, tokens: int, now: float) -> float | None:
    """Take tokens of a bucket that is not full; None if it is, or does not have them."""
    step = tokens / limit.rate
    last = now + limit.burst / limit.rate - step
    condition = (BucketItem.full_at > _stored(now)) & (BucketItem.full_at <= _stored(last))
    return _write(name, [BucketItem.full_at.add(_stored(step))], condition, last + step)


def _write(name: str, actions: list[Any], condition: Any, latest: float) -> float | None:  # noqa: ANN401
    """Change the bucket's row by one conditional write; when the bucket is full again, or None if it did not hold."""
    also = [BucketItem.expires_at.set(round(latest) + _SLACK), GuardsItem.kind.set(BucketItem)]
    written = changed(BucketItem(f"bucket/{name}", "bucket"), [*actions, *also], condition)
    return None if written is None else float(written["full_at"]["N"])


def _read(name: str) -> float:
    try:
        item = BucketItem.get(f"bucket/{name}", "bucket", consistent_read=True)
    except BucketItem.DoesNotExist:
        return 0.0
    return float(item.full_at)


def _stored(seconds: float) -> float:
    return round(seconds, 6)
