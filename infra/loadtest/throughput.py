"""Payments per second from end to end on a running local stack, and how long one takes.

    python -m infra.loadtest.throughput [payments per level]      beside `make run`

At each concurrency so many clients pay one after the other: create with ``Prefer: wait=20``, and if all waiting
places were taken, ask every 0.1 s until the payment has succeeded. Three times are taken of each payment:

    captured   from the payment's created_at to the created_at of its payment.succeeded event (the server's clock)
    client     from sending the request to knowing that it has succeeded
    notified   from created_at to the webhook's arrival at the demo merchant
"""

from __future__ import annotations

import json
import statistics
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import urllib3

from infra.settings import local_settings

_LEVELS = (1, 8, 16)
_PATIENCE = 120.0  # seconds a payment may take
_BODY = {
    "amount": 149_900,
    "currency": "INR",
    "method": {"type": "upi", "flow": "collect", "vpa": "success@sim"},
}


class LoadTestError(Exception):
    """A payment did not succeed."""


@dataclass(frozen=True, slots=True)
class Paid:
    """One payment; seconds."""

    id: str
    client: float
    waited: bool  # its answer was held until it had succeeded


class Api:
    """A merchant with many hands."""

    def __init__(self, local: dict[str, Any]) -> None:
        """``local`` is the content of local.json."""
        self.local = local
        self._http = urllib3.PoolManager(maxsize=max(_LEVELS) + 4, timeout=60.0, retries=False)
        self._headers = {"Authorization": f"Bearer {local['secret_key']}", "Content-Type": "application/json"}

    def send(self, method: str, path: str, body: object = None, **headers: str) -> tuple[dict[str, Any], bool]:
        """One request; returns the object and whether the answer was held."""
        data = None if body is None else json.dumps(body).encode()
        url = path if path.startswith("http") else self.local["api_url"] + path
        answer = self._http.request(method, url, body=data, headers=self._headers | headers)
        if answer.status >= 300:  # noqa: PLR2004 - not a success
            raise LoadTestError(f"{method} {path}: {answer.status} {answer.data[:300]!r}")
        return json.loads(answer.data), "preference-applied" in answer.headers

    def pay(self) -> Paid:
        """One payment from create to known success."""
        began = time.monotonic()
        key = {"Idempotency-Key": uuid.uuid4().hex, "Prefer": "wait=20"}
        # Each by another customer: one who pays that often would have to be reviewed.
        customer = {"email": f"{uuid.uuid4().hex}@example.com", "country": "IN"}
        payment, waited = self.send("POST", "/v1/payments", {**_BODY, "customer": customer}, **key)
        while payment["status"] in ("created", "processing"):
            if time.monotonic() - began > _PATIENCE:
                raise LoadTestError(f"{payment['id']} is still {payment['status']}")
            time.sleep(0.1)
            payment, _ = self.send("GET", f"/v1/payments/{payment['id']}")
        if payment["status"] != "succeeded":
            raise LoadTestError(f"{payment['id']} is {payment['status']}: {payment['error']}")
        return Paid(payment["id"], time.monotonic() - began, waited)

    def captured(self, payment_id: str) -> tuple[datetime, datetime]:
        """When it was created and when it succeeded."""
        payment, _ = self.send("GET", f"/v1/payments/{payment_id}")
        events, _ = self.send("GET", f"/v1/payments/{payment_id}/events?limit=100")
        (succeeded,) = (event for event in events["data"] if event["type"] == "payment.succeeded")
        return datetime.fromisoformat(payment["created_at"]), datetime.fromisoformat(succeeded["created_at"])

    def notified(self, payment_ids: set[str]) -> dict[str, datetime]:
        """When each payment's success reached the merchant, once all have."""
        end = time.monotonic() + _PATIENCE
        while True:
            received, _ = self.send("GET", f"{self.local['merchant_url']}/received")
            found = {
                row["body"]["payment_id"]: datetime.fromisoformat(row["received_at"])
                for row in reversed(received["data"])  # the first of several wins
                if row["verified"] and row["body"]["type"] == "payment.succeeded"
            }
            if payment_ids <= set(found):
                return found
            if time.monotonic() > end:
                raise LoadTestError(f"{len(payment_ids - set(found))} webhooks are missing")
            time.sleep(0.2)


def _quantiles(values: list[float]) -> str:
    parts = statistics.quantiles(values, n=20, method="inclusive")
    return f"{statistics.median(values):6.2f} {parts[-1]:6.2f} {max(values):6.2f}"


def level(api: Api, clients: int, count: int) -> None:
    """Take ``count`` payments with so many clients, and print how it went."""
    left, lock = [count], threading.Lock()

    def client() -> list[Paid]:
        mine: list[Paid] = []
        while True:
            with lock:
                if not left[0]:
                    return mine
                left[0] -= 1
            mine.append(api.pay())

    began = time.monotonic()
    with ThreadPoolExecutor(clients) as pool:
        paid = [one for future in [pool.submit(client) for _ in range(clients)] for one in future.result()]
    took = time.monotonic() - began
    arrived = api.notified({one.id for one in paid})
    times = {one.id: api.captured(one.id) for one in paid}
    held = sum(one.waited for one in paid)
    print(f"\n{clients} at a time: {count} payments in {took:.1f} s = {count / took:.2f} a second; {held} answers held")
    print("  seconds: p50, p95, max")
    print("  captured ", _quantiles([(done - made).total_seconds() for made, done in times.values()]))
    print("  client   ", _quantiles([one.client for one in paid]))
    print("  notified ", _quantiles([(arrived[key] - made).total_seconds() for key, (made, _) in times.items()]))


def main() -> None:
    """Warm the stack up and measure every level."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    file = local_settings().home / "local.json"
    if not file.exists():
        raise SystemExit(f"{file} is missing: start the stack with `make run`")
    api = Api(json.loads(file.read_text()))
    with ThreadPoolExecutor(max(_LEVELS)) as pool:  # start the workers that the highest level needs
        list(pool.map(lambda _: api.pay(), range(max(_LEVELS))))
    for clients in _LEVELS:
        level(api, clients, count)


if __name__ == "__main__":
    main()
