"""What a decision about a payment costs: CPU and reads, with warm caches.

    python -m infra.loadtest.decisions [rounds]

The services decide through the real PynamoDB and boto3 clients on the world of ``per_payment``; what plays DynamoDB
is taken off. The budget is 5 ms at the 95th percentile, and 2 reads.
"""

from __future__ import annotations

import contextlib
import gc
import statistics
import sys
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from chalicelib.domain import velocity
from chalicelib.domain.risk import RiskRules
from chalicelib.domain.risk_lists import Lists
from chalicelib.domain.velocity import Window
from chalicelib.services import screening
from infra.loadtest.per_payment import Bench
from tests.support import factories
from tests.support.world import TENANT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from chalicelib.domain.merchant import Merchant
    from chalicelib.domain.model import Payment
    from chalicelib.domain.velocity import Dimension
    from chalicelib.services.kit import Kit

    Decide = Callable[[int], object]

BUDGET_MS, BUDGET_READS = 5.0, 2.0
_P95 = 94  # of statistics.quantiles' 99 cuts
_WARM_UP = 20
_HERE = "decision"
_LISTED = 2_500  # entries of each of two lists: as many as there may be
# As large as the default rules keep a window, and larger ones by far.
_EARLIER = 400


def _payment(number: int) -> Payment:
    return factories.make_payment(
        tenant=TENANT,
        method={"type": "card", "bin": "411111", "network": "visa", "fingerprint": f"fp_{number:032x}"},
        customer={
            "email": f"asha{number}@example.com", "country": "IN", "ip": f"49.205.{number // 250 % 250}.{number % 250}",
            "device": f"d-{number}",
        },
        customer_key=f"cus_{number:032x}",
    )  # fmt: skip


def _risk(bench: Bench, rules: RiskRules, *, filled: bool) -> Decide:
    """Risk, of payments with a card, a customer, an IP address and a device."""
    kit = bench.kit
    merchant = replace(kit.merchants.get(TENANT), risk=rules)

    def decide(number: int) -> object:
        return screening.judge(kit, merchant, _payment(1 if filled else number), kit.now())

    if filled:
        _fill(kit, merchant)
    return decide


def _fill(kit: Kit, merchant: Merchant) -> None:
    """Let one card, customer, address and device have paid every three minutes for most of a day."""
    now = kit.now()
    keys: Mapping[str, Dimension] = screening.keys(merchant, _payment(1), set(velocity.DIMENSIONS))
    for key, dimension in keys.items():
        window = Window(dimension)
        for number in range(_EARLIER):
            at = now - timedelta(minutes=3 * (_EARLIER - number))
            new = velocity.entry(at, 149_900, "INR", f"pay_{number:026d}")
            window, _ = velocity.admit(window, merchant.risk.limits, new, at)
        kit.store.count(key, replace(window, version=1), now)


def _full_lists() -> RiskRules:
    return RiskRules(
        block=Lists(networks=tuple(f"10.{number >> 8}.{number & 255}.0/24" for number in range(_LISTED))),
        allow=Lists(email_domains=tuple(f"shop{number}.example" for number in range(_LISTED))),
        bin_countries={str(400_000 + number): "IN" for number in range(1_000)},
    )


CASES: Mapping[str, Callable[[Bench], Decide]] = {
    "risk, a new customer": lambda bench: _risk(bench, RiskRules(), filled=False),
    "risk, full windows": lambda bench: _risk(bench, RiskRules(), filled=True),
    "risk, full windows and full lists": lambda bench: _risk(bench, _full_lists(), filled=True),
}


def measure(bench: Bench, decide: Decide, rounds: int) -> tuple[list[float], float]:
    """Milliseconds of CPU of each decision, and reads of one."""
    each: list[float] = []
    for number in range(-_WARM_UP, rounds):
        if number == 0:
            bench.tally.calls.clear()
            gc.freeze()
        before = bench.tally.cpu[_HERE]
        with bench.at(_HERE):
            decide(number + _WARM_UP)
        each.append((bench.tally.cpu[_HERE] - before) * 1000)
    reads = sum(times for (who, _), times in bench.tally.calls.items() if who == _HERE)
    return each[_WARM_UP:], reads / rounds


def main() -> int:
    """Print the table; the exit code is 1 if anything is over its budget."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000
    over = []
    print(f"{'ms of CPU a decision, ' + str(rounds) + ' rounds':<40}{'median':>8}{'p95':>8}{'max':>8}{'reads':>8}")
    for name, case in CASES.items():
        with Bench() as bench, contextlib.redirect_stdout(bench.sink):
            each, reads = measure(bench, case(bench), rounds)
        p95 = statistics.quantiles(each, n=100)[_P95]
        print(f"{name:<40}{statistics.median(each):8.3f}{p95:8.3f}{max(each):8.3f}{reads:8g}")
        over += [name] if p95 > BUDGET_MS or reads > BUDGET_READS else []
    print(f"over {BUDGET_MS} ms or {BUDGET_READS:g} reads: {', '.join(over) or 'none'}")
    return 1 if over else 0


if __name__ == "__main__":
    raise SystemExit(main())
