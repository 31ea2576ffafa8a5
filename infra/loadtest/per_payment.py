"""What one simple payment costs: AWS calls, DynamoDB write units and handler CPU, by function.

    python -m infra.loadtest.per_payment [payments]

A simple payment has no order, one endpoint, automatic capture and a synchronous answer. Everything
runs in one process against moto; write units are counted from the bytes of each write by DynamoDB's
published rules (a transactional write costs 2 units per started KB, an index entry 1 per started KB,
a changed index key 2), because moto reports none. CPU is process time inside the handlers less what
moto and the sandbox bank use: serializing, signing and parsing of AWS calls are included.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections import Counter, defaultdict
from contextlib import contextmanager
from math import ceil
from typing import TYPE_CHECKING, Any

from moto import mock_aws
from moto.core.models import botocore_stubber

from tests.support import aws
from tests.support.world import TENANT, World

if TYPE_CHECKING:
    from collections.abc import Iterator

_INDEXES = {
    "by_created": ("list_pk", "list_sk"),
    "by_status": ("status_pk", "list_sk"),
    "by_order": ("order_pk", "list_sk"),
    "by_customer": ("customer_pk", "list_sk"),
    "due": ("due_pk", "due_at"),
}
_KB = 1024


def _size(value: dict[str, Any]) -> int:
    """Bytes of one attribute value, by DynamoDB's item size rules."""
    ((kind, content),) = value.items()
    if kind == "S":
        return len(content.encode())
    if kind == "N":
        return ceil(len(content.strip("-0.").replace(".", "")) / 2) + 1
    if kind == "B":
        return len(content)
    return 1


def item_size(item: dict[str, Any]) -> int:
    """Bytes of an item: names and values."""
    return sum(len(name) + _size(value) for name, value in item.items())


class Meter:
    """Counts write units from the requests, remembering items to know which index keys change."""

    def __init__(self) -> None:
        """Start from empty tables."""
        self.items: dict[tuple[str, str, str], dict[str, Any]] = {}
        self.units: Counter[str] = Counter()
        self.sizes: defaultdict[str, list[int]] = defaultdict(list)

    def put(self, table: str, item: dict[str, Any], *, transactional: bool) -> None:
        """Count one put."""
        key = (table, item["pk"]["S"], item["sk"]["S"])
        old = self.items.get(key, {})
        bigger = max(item_size(item), item_size(old))
        self.units[table] += ceil(bigger / _KB) * (2 if transactional else 1)
        self.units[table] += self._index_units(old, item)
        self.items[key] = item
        self.sizes[item.get("kind", {"S": "delivery"})["S"]].append(item_size(item))

    @staticmethod
    def _index_units(old: dict[str, Any], new: dict[str, Any]) -> int:
        units = 0
        for names in _INDEXES.values():
            before = tuple(old.get(name, {}).get("S", old.get(name, {}).get("N")) for name in names)
            after = tuple(new.get(name, {}).get("S", new.get(name, {}).get("N")) for name in names)
            was, is_in = None not in before, None not in after
            if was and is_in and before != after:
                units += 2
            elif was != is_in:
                units += 1
        return units


class Bench:
    """A world with meters in its hooks."""

    def __init__(self) -> None:
        """Make it inside mock_aws with tables."""
        self.world = World()
        self.meter = Meter()
        self.calls: Counter[str] = Counter()
        self.cpu: defaultdict[str, float] = defaultdict(float)
        self._outside = 0.0
        self._function = "api"
        from chalicelib.storage import items  # noqa: PLC0415 - after bind()

        dynamodb = items.PaymentsItem._get_connection().connection.client  # noqa: SLF001
        dynamodb.meta.events.register_first("before-send.*.*", self._serve)
        dynamodb.meta.events.register("before-parameter-build.dynamodb.*", self._count)

    def _serve(self, request: Any, **kwargs: Any) -> Any:
        started = time.process_time()
        response = botocore_stubber(request=request, **kwargs)
        self._outside += time.process_time() - started
        return response

    def _count(self, params: dict[str, Any], model: Any, **_: Any) -> None:
        self.calls[f"{self._function}: {model.name}"] += 1
        if model.name == "TransactWriteItems":
            for write in params["TransactItems"]:
                if "Put" in write:
                    self.meter.put(_table(write["Put"]["TableName"]), write["Put"]["Item"], transactional=True)
                else:
                    self.meter.units[_table(write["Update"]["TableName"])] += 2
        elif model.name == "PutItem":
            self.meter.put(_table(params["TableName"]), params["Item"], transactional=False)
        elif model.name == "UpdateItem":
            self.meter.units[_table(params["TableName"])] += 1

    @contextmanager
    def timed(self, function: str) -> Iterator[None]:
        """Charge the CPU of the block to a function."""
        self._function, outside = function, self._outside
        started = time.process_time()
        yield
        self.cpu[function] += time.process_time() - started - (self._outside - outside)

    def run_one(self, number: int) -> None:
        """Take one simple payment to its end."""
        from chalice.test import Client  # noqa: PLC0415 - imports the app, which reads the environment

        from app import app  # noqa: PLC0415

        headers = {
            "Authorization": f"Bearer {self.world.secret_key}",
            "Idempotency-Key": f"bench-{number}",
            "Content-Type": "application/json",
        }
        body = (
            b'{"amount":149900,"currency":"INR","method":{"type":"upi","flow":"collect","vpa":"success@sim"},'
            b'"customer":{"email":"asha@example.com","contact":"+919800000000","country":"IN"},"metadata":{"cart":"42"}}'
        )
        with Client(app) as client, self.timed("api"):
            response = client.http.post("/v1/payments", headers=headers, body=body)
        if response.status_code != 201:  # noqa: PLR2004
            raise SystemExit(response.body)
        self.world.run(horizon=1)


def _table(name: str) -> str:
    return name.rsplit("-", 1)[1]


def main() -> None:
    """Print the table."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    aws.set_environment()
    with mock_aws():
        aws.create_tables()
        bench = Bench()
        bench.world.meter = bench.timed
        bench.run_one(0)  # warm
        bench.meter, bench.calls = Meter(), Counter()
        totals: list[float] = []
        for number in range(1, count + 1):
            bench.cpu = defaultdict(float)
            bench.run_one(number)
            totals.append(sum(bench.cpu.values()) * 1000)
    print(f"{count} simple payments of {TENANT.merchant_id}")
    print("write units per payment:", {table: units / count for table, units in sorted(bench.meter.units.items())})
    print("  payments + guards:", (bench.meter.units["payments"] + bench.meter.units["guards"]) / count)
    print("item bytes, largest:", {kind: max(sizes) for kind, sizes in bench.meter.sizes.items()})
    print("AWS calls per payment:", {call: round(number / count, 2) for call, number in sorted(bench.calls.items())})
    quantiles = statistics.quantiles(totals, n=20)
    print(
        f"handler CPU per payment, ms: median {statistics.median(totals):.1f}, min {min(totals):.1f}, p95 {quantiles[-1]:.1f}"
    )
    print("  last one by function, ms:", {name: round(used * 1000, 2) for name, used in bench.cpu.items()})


if __name__ == "__main__":
    main()
