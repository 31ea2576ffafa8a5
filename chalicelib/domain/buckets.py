"""Token buckets as one number: the time at which the bucket will be full again.

This is the generic cell rate algorithm (ITU-T I.371, annex A): taking a token moves that time on by 1 / rate, and a
token is there as long as it lies no further ahead than the whole bucket is worth. One number can be compared and set
by a conditional write, which a count of tokens that fills with time cannot. Times are whole microseconds, so that no
rounding ever gives a token away or keeps one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chalicelib.domain.access import Rate

SECOND = 1_000_000  # microseconds


def worth(limit: Rate, tokens: int = 1) -> int:
    """How long it takes for ``tokens`` to flow in."""
    return tokens * round(SECOND / limit.per_second)


def full_at(known: int, now: int, limit: Rate, tokens: int = 1) -> int | None:
    """When the bucket is full again after taking ``tokens``; None if they are not there.

    ``known`` is when it was to be full before; 0 of a new one.
    """
    after = max(known, now) + worth(limit, tokens)
    return after if after - now <= worth(limit, limit.burst) else None


def left(full: int, now: int, limit: Rate) -> int:
    """How many tokens there are."""
    missing = -(-max(0, full - now) // worth(limit))  # a part of one is none
    return max(0, limit.burst - missing)


def wait(full: int, now: int, limit: Rate) -> int:
    """How long until a token is there."""
    return max(0, full + worth(limit) - worth(limit, limit.burst) - now)
