"""Latencies in a histogram: small enough to add up in a row, good enough to read percentiles from.

Buckets grow by a quarter each, so a percentile that is read as its bucket's geometric middle is wrong by at most
12 % (the square root of 1.25), whatever the latencies are like. HdrHistogram does the same with finer buckets.
"""

from __future__ import annotations

from math import ceil, exp, log
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_GROWTH = 1.25
_FIRST = 5.0  # milliseconds, the end of bucket 0
BUCKETS = 44  # the last one begins at 59 s: longer than any call may take
ERROR = _GROWTH**0.5 - 1  # relative, of a percentile between the first and the last bucket


def bucket(milliseconds: float) -> int:
    """The bucket of a latency."""
    if milliseconds <= _FIRST:
        return 0
    return min(ceil(log(milliseconds / _FIRST) / log(_GROWTH) - 1e-9), BUCKETS - 1)


def percentile(histogram: Mapping[int, int], share: float) -> float | None:
    """The latency in milliseconds that ``share`` (0 to 1) of the samples do not exceed; None without samples.

    By nearest rank: the smallest sample that is not exceeded by more than the rest.
    """
    rank = ceil(share * sum(histogram.values()))
    for number in sorted(histogram):
        rank -= histogram[number]
        if rank <= 0 and histogram[number]:
            return round(_FIRST * exp(log(_GROWTH) * (number - 0.5)), 1)
    return None


def merged(*histograms: Mapping[int, int]) -> dict[int, int]:
    """All samples together."""
    found: dict[int, int] = {}
    for histogram in histograms:
        for number, count in histogram.items():
            found[number] = found.get(number, 0) + count
    return found
