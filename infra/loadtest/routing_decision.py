"""What a routing decision costs: CPU and reads.

    python -m infra.loadtest.routing_decision [decisions]

A merchant with an account at each of the sandbox's providers and a rule that orders by score; every account has
tallies in as many segments as are kept. Decisions are those of ``services/attempts.route``, in the world of the
fault suite with DynamoDB in memory. CPU is thread time; with warm caches nothing is read, and with cold ones the
time includes building, signing and parsing the read, and what plays DynamoDB.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from chalicelib.domain import scoring
from chalicelib.domain.breaker import Breaker, record
from chalicelib.domain.routing_rules import RoutingSettings, Rule
from chalicelib.services import attempts
from chalicelib.storage.health import breaker_row, tallies_row
from tests.support import factories
from tests.support.world import TENANT, World

if TYPE_CHECKING:
    from chalicelib.domain.scoring import Tally

_METHOD = {"type": "card", "token": "tok_1", "network": "visa", "last4": "4242", "bin": "424242"}
_NETWORKS = [f"bank{number}" for number in range(60)]
_BUDGET = 5.0  # milliseconds, p95
_MAX_READS = 2


def prepare(world: World) -> int:
    """Let the merchant order by score, and give all accounts a past; returns how many there are."""
    merchant = world.merchant()
    best = Rule("best", tuple(account.id for account in merchant.accounts), by="score")
    world.bring_merchant(replace(merchant, routing=RoutingSettings((best,))))
    now = world.clock()
    for account in merchant.accounts:
        tallies: dict[str, Tally] = {}
        for network in [*_NETWORKS, "visa"]:
            tallies = scoring.learn(
                tallies, scoring.segments("card", factories.AMOUNT, "INR", network), success=True, at=now
            )
        world.kit.health.put(tallies_row(TENANT, account.id, tallies, 0))
    for provider in {account.provider for account in merchant.accounts}:
        seen = record(Breaker(), ok=True, at=now, sent_at=now)
        world.kit.health.put(breaker_row(TENANT.mode, provider, "card", seen, Breaker()))
    return len(merchant.accounts)


def measure(world: World, count: int, *, warm: bool) -> tuple[list[float], int]:
    """CPU milliseconds of each of ``count`` decisions, and the most reads that one made."""
    kit = world.kit
    merchant = kit.merchants.get(TENANT)
    each, most = [], 0
    world.traffic = []
    for number in range(-5, count):
        payment = factories.make_payment(id=f"pay_{number:026d}", method=_METHOD)
        if not warm:
            kit.health.forget()
        world.traffic.clear()
        began = time.thread_time()
        decision = attempts.route(kit, merchant, payment, (), world.clock())
        used = (time.thread_time() - began) * 1000
        if decision.chosen is None or not decision.scores:
            raise AssertionError(decision)
        if number >= 0:
            each.append(used)
            most = max(most, len(world.traffic))
    return each, most


def main() -> None:
    """Measure and print; exits with 1 over budget."""
    parser = argparse.ArgumentParser(description="What a routing decision costs.")
    parser.add_argument("count", nargs="?", type=int, default=2000)
    options = parser.parse_args()
    late = False
    with World() as world:
        print(f"{prepare(world)} accounts, {scoring.MAX_SEGMENTS} segments each, ordered by score")
        for warm in (True, False):
            each, reads = measure(world, options.count, warm=warm)
            p95 = statistics.quantiles(each, n=20)[-1]
            print(
                f"{'warm' if warm else 'cold'} caches: CPU ms median {statistics.median(each):.2f}, p95 {p95:.2f}, "
                f"max {max(each):.2f}; {reads} reads"
            )
            late = late or reads > _MAX_READS or (warm and p95 > _BUDGET)
    raise SystemExit(late)


if __name__ == "__main__":
    main()
