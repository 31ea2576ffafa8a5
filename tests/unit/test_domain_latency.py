"""Latencies in a histogram: percentiles are near the truth, and histograms add up."""

from __future__ import annotations

from collections import Counter
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.domain.latency import BUCKETS, ERROR, bucket, merged, percentile

# What is within the first and the last bucket's ends; beyond them a percentile is their middle.
latencies = st.lists(st.integers(6, 55_000), min_size=1, max_size=200)


@given(latencies, st.sampled_from([0.5, 0.95, 0.99, 1.0]))
def test_a_percentile_is_the_samples_within_the_stated_error(samples: list[int], share: float) -> None:
    true = sorted(samples)[ceil(share * len(samples)) - 1]
    read = percentile(Counter(map(bucket, samples)), share)
    assert read is not None
    assert abs(read / true - 1) <= ERROR + 0.01  # shown with one decimal


@given(latencies, latencies)
def test_two_histograms_together_are_that_of_all_samples(one: list[int], other: list[int]) -> None:
    both = merged(Counter(map(bucket, one)), Counter(map(bucket, other)))
    assert both == dict(Counter(map(bucket, one + other)))


@given(st.floats(0, 10**9), st.floats(0, 10**9))
def test_a_longer_one_is_in_no_earlier_bucket(one: float, other: float) -> None:
    assert (bucket(one) <= bucket(other)) or one > other
    assert 0 <= bucket(one) < BUCKETS


def test_no_samples_have_no_percentile() -> None:
    assert percentile({}, 0.5) is None
    assert percentile({3: 0}, 0.5) is None
    assert percentile({0: 1, 3: 0}, 0.99) == pytest.approx(4.5)
