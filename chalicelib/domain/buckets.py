"""Token buckets as one number: the time at which the bucket will be full again.

This is the generic cell rate algorithm (ITU-T I.371, annex A): taking a token moves that time on by 1 / rate, and a
token is there as long as it lies no further ahead than the whole bucket is worth. One number can be compared and set
by a conditional write, which a count of tokens that fills with time cannot.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chalicelib.domain.access import Limit


def full_at(known: float, now: float, limit: Limit, tokens: int = 1) -> float | None:
    """When the bucket is full again after taking ``tokens``; None if they are not there.

    ``known`` is when it was to be full before (epoch seconds; 0 of a new one).
    """
    after = max(known, now) + tokens / limit.rate
    return after if after - now <= limit.burst / limit.rate + 1e-9 else None


def left(full: float, now: float, limit: Limit) -> int:
    """How many tokens there are."""
    return max(0, int(limit.burst - max(0.0, full - now) * limit.rate + 1e-6))


def wait(full: float, now: float, limit: Limit, tokens: int = 1) -> float:
    """Seconds until ``tokens`` are there."""
    return max(0.0, full + tokens / limit.rate - limit.burst / limit.rate - now)
