"""How often the backtest's 95 % intervals cover the truth, on histories whose true chances are known.

    python -m infra.backtest_coverage [--seeds 100] [--first 0] [--count 3000] [--bootstrap 200]

Each seed is a merchant of its own (infra/history.py) with rules that moved most of its traffic by chance. Tried on it
are other rules; the truth is the mean difference of the true chances where either way sends each payment. ``far off``
is the estimate's mean error with its 95 % interval, in points of success rate: its bias. Where rules learn, the same
is told less the flattery that the backtest measures itself.
"""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

from chalicelib.domain import routing_settings
from chalicelib.domain.scoring import wilson
from infra import backtest, history
from infra.bench_routing import interval
from infra.counterfactual import Comparing, compare

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from chalicelib.domain.routing_rules import RoutingSettings
    from infra.counterfactual import Case, Comparison
    from infra.history import World

WORKERS = 2

_UPI, _CARD, _WALLET = ({"methods": [method]} for method in ("upi", "card", "wallet"))
_BANKS = history.RULES["rules"][2]
_SEEN = ["cashfree", "razorpay", "stripe"]  # who has taken cards
_MOVE: Mapping[str, Any] = {
    "rules": [
        {"name": "upi", "when": _UPI, "accounts": ["cashfree"]},
        {"name": "cards", "when": _CARD, "accounts": ["stripe"]},
        _BANKS,
        {"name": "wallets", "when": _WALLET, "accounts": ["cashfree"]},
    ],
}
_SCORE: Mapping[str, Any] = {
    "rules": [
        {"name": "upi", "when": _UPI, "by": "score", "accounts": ["razorpay", "cashfree", "payu"]},
        {"name": "cards", "when": _CARD, "by": "score", "accounts": _SEEN},
        _BANKS,
        {"name": "wallets", "when": _WALLET, "by": "score", "accounts": ["razorpay", "cashfree", "payu"]},
    ],
}
# The new rules, and those they are compared with.
TRIED: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any] | None]] = {
    "all to one account": (_MOVE, None),
    "by score": (_SCORE, None),
    "by score against all to one": (_SCORE, _MOVE),
}


@dataclass(frozen=True, slots=True)
class Trial:
    """One comparison and what is true of it."""

    found: Comparison
    truth: float


class Result(NamedTuple):
    """One trial in numbers: of success rates, in points of 1."""

    covers: bool
    error: float
    honest_covers: bool  # the same, less flattery
    honest_error: float
    width: float
    refused: float


def trial(world: World, new: RoutingSettings, old: RoutingSettings | None, resamples: int, seed: str) -> Trial:
    """A comparison on a history that was made up, and the true difference over the payments that are compared."""
    cases = backtest.cases(world.payments, new, old, history.ACCOUNTS)
    too_good = backtest.flattery(world.payments, new, old, history.ACCOUNTS, backtest.REPLAYS, seed)
    return Trial(replace(compare(cases, resamples, seed), flattery=too_good), truth(world, cases))


def truth(world: World, cases: Sequence[Case]) -> float:
    """The mean difference of the true chances over the cases that can be compared."""
    differences = [
        (chances[case.new] if case.new else 0.0) - (chances[case.old] if case.old else 0.0)
        for case, chances, is_in in zip(cases, world.chances, Comparing(cases).is_compared, strict=True)
        if is_in
    ]
    return sum(differences) / len(differences) if differences else 0.0


def run(name: str, seed: int, count: int, resamples: int) -> Result:
    """One of ``TRIED`` on one seed's history."""
    rules, against = TRIED[name]
    new = routing_settings.parse(rules, history.ACCOUNTS)
    old = None if against is None else routing_settings.parse(against, history.ACCOUNTS)
    tried = trial(history.world(seed, count), new, old, resamples, f"coverage/{seed}")
    shift, honest = tried.found.row("success").shift, tried.found.honest
    return Result(
        shift.low <= tried.truth <= shift.high,
        shift.value - tried.truth,
        honest.low <= tried.truth <= honest.high,
        honest.value - tried.truth,
        shift.high - shift.low,
        tried.found.refused,
    )


def _shown(results: Sequence[tuple[bool, float]]) -> str:
    hits = sum(covers for covers, _ in results)
    low, high = wilson(hits, len(results))
    off = "{:+.2f} ± {:.2f}".format(*interval([100 * error for _, error in results]))
    return f"{f'{hits} of {len(results)} [{low:.1%}, {high:.1%}]':>26}{off:>20}"


def main() -> int:
    """Prints a line for each of ``TRIED``."""
    parser = argparse.ArgumentParser(description="Measure how often the backtest's intervals cover the truth.")
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=3_000, help="payments of a history")
    parser.add_argument("--bootstrap", type=int, default=200, help="resamples")
    given = parser.parse_args()
    seeds = range(given.first, given.first + given.seeds)
    print(f"{given.count:,} payments, {given.bootstrap} resamples, seeds {seeds.start} to {seeds.stop - 1}")
    print(f"{'':30}{'covered':>26}{'far off, points':>20}{'mean width':>12}{'refused':>10}")
    with ProcessPoolExecutor(WORKERS) as pool:
        tasks = [(name, seed, given.count, given.bootstrap) for name, seed in product(TRIED, seeds)]
        results = list(pool.map(run, *zip(*tasks, strict=True)))
    for number, name in enumerate(TRIED):
        mine = results[number * len(seeds) : (number + 1) * len(seeds)]
        width = 100 * sum(result.width for result in mine) / len(mine)
        refused = sum(result.refused for result in mine) / len(mine)
        raw = [(result.covers, result.error) for result in mine]
        honest = [(result.honest_covers, result.honest_error) for result in mine]
        for label, told in ((name, raw), ("  less flattery", honest)):
            if told is raw or honest != raw:
                print(f"{label:30}{_shown(told)}{width:>12.2f}{refused:>10.1%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
