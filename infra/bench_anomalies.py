"""How often the watch of providers cries wolf, and how soon it notices.

    python -m infra.bench_anomalies [--hours 1000] [--runs 40]

A provider and method is simulated minute by minute: calls by Poisson, also over a day that goes up and down,
successes by chance, latencies log-normal. Per thousand hours of which nothing is wrong, the false alerts of each
kind; and the minutes until a change is raised, in the median and the 90th percentile, and how many were missed
within two hours. Three days come before each change. The same seeds give the same numbers everywhere.
"""

from __future__ import annotations

import argparse
import random
from collections import Counter
from math import exp, pi, sin, sqrt
from typing import TYPE_CHECKING

from chalicelib.domain import latency
from chalicelib.domain.anomaly import Detector, Minute, step

if TYPE_CHECKING:
    from collections.abc import Sequence

_DAY = 1_440
_BEFORE = 3 * _DAY  # minutes before a change
_AFTER = 120  # minutes to notice it in
_MEDIAN_MS, _SPREAD = 300.0, 0.5
_NORMAL_FROM = 30.0  # calls: from here on Poisson is drawn as a rounded normal


def minute(
    chance: random.Random, number: int, calls: float, rate: float, slower: float = 1.0, swing: float = 0.0
) -> Minute:
    """One minute of ``calls`` on average, of which ``rate`` succeed; ``swing`` is the share that a day takes off."""
    expected = calls * (1 - swing * (1 + sin(2 * pi * number / _DAY)) / 2)
    count = _poisson(chance, expected)
    successes = sum(chance.random() < rate for _ in range(count))
    took = [chance.lognormvariate(0, _SPREAD) * _MEDIAN_MS * slower for _ in range(count)]
    histogram = Counter(latency.bucket(one) for one in took)
    return Minute(number, count, successes, latency.percentile(histogram, 0.95), count)


def _poisson(chance: random.Random, expected: float) -> int:
    if expected > _NORMAL_FROM:
        return max(0, round(chance.gauss(expected, sqrt(expected))))
    limit, product, count = exp(-expected), chance.random(), 0
    while product > limit:
        product *= chance.random()
        count += 1
    return count


def false_alerts(calls: float, rate: float, swing: float, hours: int) -> Counter[str]:
    """Alerts of each kind that were raised while nothing was wrong."""
    chance = random.Random(f"steady {calls} {rate} {swing}")  # noqa: S311
    detector, raised = Detector(last=0), Counter[str]()
    for number in range(1, hours * 60 + 1):
        detector, alerts = step(detector, minute(chance, number, calls, rate, swing=swing))
        raised.update(alert.kind for alert in alerts if alert.state == "raised")
    return raised


def noticed(kind: str, runs: int, *, calls: float, rate: float = 0.85, to: float = 0.85, slower: float = 1.0,
            volume: float = 1.0) -> list[int | None]:  # fmt: skip
    """Minutes from a change to its alert, of each run; None if it was missed."""
    found: list[int | None] = []
    for run in range(runs):
        chance = random.Random(f"{kind} {calls} {rate} {to} {slower} {volume} {run}")  # noqa: S311
        detector, at = Detector(last=0), None
        for number in range(1, _BEFORE + _AFTER + 1):
            is_changed = number > _BEFORE
            detector, alerts = step(
                detector,
                minute(chance, number, calls * (volume if is_changed else 1.0), to if is_changed else rate,
                       slower if is_changed else 1.0),
            )  # fmt: skip
            if is_changed and any(alert.kind == kind and alert.state == "raised" for alert in alerts):
                at = number - _BEFORE
                break
        found.append(at)
    return found


def _line(label: str, delays: Sequence[int | None]) -> str:
    seen = sorted(delay for delay in delays if delay is not None)
    missed = len(delays) - len(seen)
    if not seen:
        return f"{label:44} {'-':>7} {'-':>7} {missed:>7}"
    return f"{label:44} {seen[len(seen) // 2]:>7} {seen[min(int(len(seen) * 0.9), len(seen) - 1)]:>7} {missed:>7}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="False alerts and delays of the watch of providers.")
    parser.add_argument("--hours", type=int, default=1_000, help="of each steady simulation")
    parser.add_argument("--runs", type=int, default=40, help="of each change")
    given = parser.parse_args()
    print(f"False alerts in {given.hours} hours without a change")
    print(f"{'calls a minute, success rate, a day takes off':48} {'success':>8} {'latency':>8} {'volume':>8}")
    for calls in (1, 5, 60):
        for rate in (0.6, 0.8, 0.95, 0.99):
            for swing in (0.0, 0.9):
                raised = false_alerts(calls, rate, swing, given.hours)
                told = " ".join(f"{raised[kind]:>8}" for kind in ("success_rate", "latency", "volume"))
                print(f"{f'{calls}, {rate:.0%}, {swing:.0%}':48} {told}", flush=True)
    print(f"\nMinutes until a change is raised, {given.runs} runs; missed within {_AFTER} minutes")
    print(f"{'':44} {'median':>7} {'90 %':>7} {'missed':>7}")
    for calls in (5, 60):
        for to in (0.80, 0.70, 0.55, 0.35):
            label = f"{calls} a minute, success rate 85 % to {to:.0%}"
            print(_line(label, noticed("success_rate", given.runs, calls=calls, to=to)), flush=True)
    for slower in (1.5, 2.0, 4.0):
        print(
            _line(f"60 a minute, latency x {slower}", noticed("latency", given.runs, calls=60, slower=slower)),
            flush=True,
        )
    for calls in (10, 60):
        for volume in (0.5, 0.2, 0.0):
            label = f"{calls} a minute, volume x {volume}"
            print(_line(label, noticed("volume", given.runs, calls=calls, volume=volume)), flush=True)


if __name__ == "__main__":
    main()
