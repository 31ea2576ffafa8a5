"""What an adapter's own work costs: building and signing a request, parsing and checking an answer.

    python -m infra.loadtest.adapters [rounds]

Each round takes a payment through every adapter against the in-process bank. CPU is this thread's, and the time that
the bank takes to answer, which stands in for the network, is taken off. A call of an adapter may make several
requests; the figures are per call. The budget is 1 ms.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from chalicelib.providers.registry import NAMES, build
from tests.contract.sandbox_world import AMOUNT, World, ref

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from chalicelib.providers.http import HttpAnswer, HttpClient

T = TypeVar("T")
BUDGET = 1.0  # ms
_P95 = 94  # of statistics.quantiles' 99 cuts
_WARM_UP = 5  # rounds that are not counted: imports, compiled expressions


@dataclass
class _Elsewhere:
    """Keeps count of the time that the other side takes."""

    inner: HttpClient
    spent: float = 0.0

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None = None,
        read_timeout: float | None = None,
    ) -> HttpAnswer:
        began = time.thread_time()
        try:
            return self.inner.request(method, url, headers=headers, body=body, read_timeout=read_timeout)
        finally:
            self.spent += time.thread_time() - began


class _Meter:
    """Milliseconds of CPU by operation."""

    def __init__(self, name: str) -> None:
        self.world = World(name)
        self.elsewhere = _Elsewhere(self.world.http)
        self.world.provider = build(name, self.elsewhere)
        self.taken: defaultdict[str, list[float]] = defaultdict(list)

    def time(self, operation: str, call: Callable[[], T]) -> T:
        """Make a call and write down what of it was the adapter's."""
        self.elsewhere.spent = 0.0
        began = time.thread_time()
        result = call()
        self.taken[operation].append((time.thread_time() - began - self.elsewhere.spent) * 1000)
        return result

    def round(self, number: int) -> None:
        """One payment, a refund of it, what is told of both, and a capture where there can be one."""
        world, provider, account = self.world, self.world.provider, self.world.account
        made = world.intent(number=number % 99 + 1)
        self.time("create", lambda: provider.create(account, made))
        world.bank.reset()
        paid = world.pay(number=number % 99 + 1)
        self.time("fetch", lambda: provider.fetch(account, paid.known))
        self.time("fetch by our reference", lambda: provider.fetch(account, ref(paid.made, data=paid.said.data)))
        self.time("refund", lambda: provider.refund(account, paid.known, AMOUNT // 3, "rf_01K0000000000000000000KEY1"))
        self.time(
            "fetch_refund", lambda: provider.fetch_refund(account, paid.known, "rf_01K0000000000000000000KEY1", None)
        )
        for webhook in world.webhooks():
            self.time("webhook", lambda: world.parse(webhook))  # noqa: B023 - called at once
        if world.can.manual_capture:
            held = world.authorize(number=number % 98 + 2)
            self.time("capture", lambda: provider.capture(account, held.known, AMOUNT, "op_01K0000000000000000000KEY1"))


def main() -> int:
    """Print the table; the exit code is 1 if any median is over the budget."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    over = []
    print(f"{'ms of CPU a call, ' + str(rounds) + ' rounds':<36}{'min':>8}{'median':>8}{'p95':>8}{'max':>8}")
    for name in NAMES:
        meter = _Meter(name)
        for number in range(_WARM_UP):
            meter.round(number)
        meter.taken.clear()
        for number in range(rounds):
            meter.round(number)
        for operation, taken in meter.taken.items():
            median, p95 = statistics.median(taken), statistics.quantiles(taken, n=100)[_P95]
            print(f"{name + ' ' + operation:<36}{min(taken):8.3f}{median:8.3f}{p95:8.3f}{max(taken):8.3f}")
            over += [f"{name} {operation}"] if median > BUDGET else []
    print(f"over {BUDGET} ms: {', '.join(over) or 'none'}")
    return 1 if over else 0


if __name__ == "__main__":
    raise SystemExit(main())
