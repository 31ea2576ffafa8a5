"""What one payment costs: AWS calls, DynamoDB units, messages, log bytes and handler CPU, by function.

    python -m infra.loadtest.per_payment [payments]

A simple payment has no order, one endpoint, automatic capture and a provider that answers at once. The
variants with an order, with ``Prefer: wait`` and with a partial refund after it are measured beside it.

Everything runs in one process in the world of the fault suite (tests/support/world.py): the real handlers,
real boto3 and PynamoDB clients, and behind their last hook, where a request would go on the wire, DynamoDB,
SQS and Step Functions in memory. CPU is thread time inside the handlers less what those, the sandbox bank and
the merchant use; serializing, signing and parsing AWS calls, and logs and metrics, are included. The caches of
merchants' settings are warm. What urllib3 needs for a provider's or merchant's request is measured apart.

Read and write units are counted by DynamoDB's published rules (capacity.py). ``--check`` also sends the writes to
the DynamoDB Local at RAILYARD_DYNAMODB_LOCAL_URL and shows the capacity it says they have consumed.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import json
import random
import statistics
import threading
import time
from base64 import b64encode
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import boto3
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from chalice.local import LambdaEventConverter, RouteMatcher

from chalicelib import config, wiring
from chalicelib.domain import cards
from chalicelib.domain.model import Tenant
from chalicelib.observability import logger
from chalicelib.providers.http import UrllibHttpClient
from chalicelib.storage import items
from chalicelib.storage.merchants import Merchants
from chalicelib.storage.queries import Queries
from chalicelib.storage.store import Store
from infra.loadtest.capacity import consumed, index_units, item_size, read_units, table_of, write_units
from infra.settings import HOST, dynamodb_local_url
from tests.support import aws
from tests.support.access import make_key
from tests.support.storage import OpenVault
from tests.support.world import TENANT, Activity, World, adapter_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from chalicelib.providers.http import HttpAnswer, HttpClient
    from infra.sandbox.outbox import Webhook

_OUTSIDE = "outside"  # whoever is not Railyard
_CREATED, _OK = 201, 300
_UPI = {"type": "upi", "flow": "collect", "vpa": "success@sim"}
_BODY = {
    "amount": 149_900,
    "currency": "INR",
    "method": _UPI,
    "customer": {"email": "asha@example.com", "contact": "+919800000000", "country": "IN"},
    "metadata": {"cart": "42"},
}
_NOBODY: dict[str, str] = {}  # a customer of whom nothing is known
VARIANTS = (
    "simple", "without a customer", "by card, with an IP address", "with an order", "with Prefer: wait",
    "with a partial refund",
)  # fmt: skip


@dataclass(slots=True)
class Tally:
    """What was used, by function and thing."""

    calls: Counter[tuple[str, str]] = field(default_factory=Counter)
    writes: Counter[tuple[str, str]] = field(default_factory=Counter)  # (table, "items" or "indexes") → units
    reads: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    invocations: Counter[str] = field(default_factory=Counter)
    cpu: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    logged: Counter[str] = field(default_factory=Counter)
    messages: Counter[str] = field(default_factory=Counter)
    transitions: int = 0
    largest: Counter[str] = field(default_factory=Counter)

    def write_units(self, *tables: str) -> int:
        """The units of some tables, indexes included."""
        return sum(units for (table, _), units in self.writes.items() if table in tables)


class _Sink(io.TextIOBase):
    """Where logs and metrics go: counted, not kept."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    def write(self, text: str) -> int:
        self._bench.tally.logged[self._bench.running] += len(text.encode())
        if text.startswith('{"_aws"'):
            self._bench.emitted.append(text)
        return len(text)


class _Wire:
    """An HttpClient whose other side is not counted."""

    def __init__(self, bench: Bench, inner: HttpClient) -> None:
        self._bench, self._inner = bench, inner

    def request(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes | None = None,
        read_timeout: float | None = None,
    ) -> HttpAnswer:  # fmt: skip
        to = "merchant" if "merchant" in url else "provider"
        self._bench.tally.calls[self._bench.running, f"{to} {method}"] += 1
        with self._bench.at(_OUTSIDE):
            return self._inner.request(method, url, headers=headers, body=body, read_timeout=read_timeout)


class _Raw:
    """A response's body, as botocore reads it."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def stream(self, **_: Any) -> Iterator[bytes]:
        yield self._content


class Bench(World):
    """A world with meters."""

    def __init__(self, *, keep_traffic: bool = False) -> None:
        """Becomes the world that all handlers use."""
        self.running, self._since = _OUTSIDE, time.thread_time()
        self.tally, self._keys = Tally(), 0
        self.written: Counter[tuple[str, str]] = Counter()  # over all tallies
        self.emitted: list[str] = []  # metrics, as CloudWatch reads them from the log
        aws.ENVIRONMENT.update(POWERTOOLS_LOG_LEVEL="INFO", POWERTOOLS_METRICS_DISABLED="false")
        aws.set_environment()
        super().__init__(traffic=[] if keep_traffic else None)
        self._bring_real_clients()
        from app import app  # noqa: PLC0415 - needs the environment first

        self.app, self.sink = app, _Sink(self)
        logger.setLevel("INFO")
        logger.registered_handler.setStream(self.sink)  # type: ignore[attr-defined]  # a StreamHandler
        self._events = LambdaEventConverter(RouteMatcher(list(app.routes)))
        self._key = make_key(Tenant(TENANT.merchant_id, "test"))

    def _bring_real_clients(self) -> None:
        """Clients as wiring.py makes them, answered where they would send."""
        boto3.setup_default_session()
        if boto3.DEFAULT_SESSION is None:
            raise LookupError("boto3 has no session")
        boto3.DEFAULT_SESSION.events.register_first("before-send.*.*", self._serve)
        settings = config.load(aws.ENVIRONMENT | {"RAILYARD_STAGE": "prod"})
        kit = wiring.build(
            settings, http=_Wire(self, self.kit.http), clock=self.clock, sleep=self.sleep,
            jitter=random.Random(1).random,  # noqa: S311 - not cryptography
        )  # fmt: skip
        connection = items.PaymentsItem._get_connection().connection  # noqa: SLF001 - as tests/support/world.py
        connection._client = None  # noqa: SLF001
        connection.client.meta.events.register_first("before-send.*.*", self._serve)
        for models in items._TABLES.values():  # noqa: SLF001
            for model in models:
                model._get_connection().connection._client = connection.client  # noqa: SLF001
        merchants = Merchants(settings.prefix, OpenVault(), self.clock, 86_400)  # warm for the whole run
        prefix, cipher = settings.prefix, merchants.cipher
        self.bring(replace(kit, merchants=merchants, store=Store(prefix, cipher), queries=Queries(prefix, cipher)))
        merchants.save(self.merchant())

    # -- meters ----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def at(self, name: str) -> Iterator[None]:
        """Charge CPU to ``name``; whoever ran before goes on afterwards."""
        before = self._switch(name)
        try:
            yield
        finally:
            self._switch(before)

    def _switch(self, name: str) -> str:
        now, before = time.thread_time(), self.running
        self.tally.cpu[before] += now - self._since
        self.running, self._since = name, now
        return before

    def sleep(self, seconds: float) -> None:
        """Who sleeps uses no CPU; what the others do meanwhile is charged to them."""
        with self.at(_OUTSIDE):
            super().sleep(seconds)

    def _perform(self, activity: Activity) -> Any:
        self.tally.invocations[activity.where] += 1
        with self.at(activity.where):
            return super()._perform(activity)

    def _serve(self, request: Any, event_name: str, **_: Any) -> Any:
        """Answer a request that is about to be sent."""
        service, operation = event_name.split(".")[1:]
        who = self.running
        with self.at(_OUTSIDE):
            body = json.loads(request.body)
            self.tally.calls[who, f"{service} {operation}"] += 1
            if operation == "SendMessageBatch":
                self.tally.messages[body["QueueUrl"].rsplit("/", 1)[1]] += len(body["Entries"])
            _, answer = self.aws_call(service, operation, body)
            if "Error" in answer:
                raise AssertionError(answer)  # what is measured here goes well
            del answer["ResponseMetadata"]
            raw = json.dumps(answer, default=_wire_value).encode()
        return AWSResponse(request.url, 200, HTTPHeaders(), _Raw(raw))

    def _dynamodb(self, operation: str, body: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        known = len(self.dynamo.log)
        http, answer = super()._dynamodb(operation, body)
        tables = [body["TableName"]] if "TableName" in body else [*body.get("RequestItems", ("",))]
        self.tally.reads[table_of(tables[0])] += read_units(operation, body, answer)
        for write in self.dynamo.log[known:]:
            table = table_of(write.table)
            for index in self.dynamo.tables[write.table].indexes.values():
                units = index_units(write.old, write.new, (index.hash_key, index.range_key))
                self._count_write(table, "indexes", units)
            units = write_units(write.old, write.new, transactional=operation == "TransactWriteItems")
            self._count_write(table, "items", units)
            kind = (write.new or {}).get("kind", {"S": table})["S"]
            self.tally.largest[kind] = max(self.tally.largest[kind], item_size(write.new))
        return http, answer

    def _count_write(self, table: str, part: str, units: int) -> None:
        self.tally.writes[table, part] += units
        self.written[table, part] += units

    # -- the way of a payment --------------------------------------------------------------------

    def request(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Any:
        """One HTTP request through the deployed application; returns its JSON."""
        event = self._events.create_lambda_event(method, path, dict(headers), body)
        event["requestContext"]["requestId"] = "bench"
        event["body"] = body.decode()
        context = SimpleNamespace(aws_request_id="bench")
        answer = self.perform("api", lambda: self.app(event, context))
        if answer["statusCode"] >= _OK:
            raise AssertionError(answer)
        return json.loads(answer["body"] or "null")

    def _post(self, webhook: Webhook) -> None:
        self.hooks.remove(webhook)
        path = f"/webhooks/{adapter_of(webhook.provider)}/acct_{webhook.provider}"
        self.request("POST", path, webhook.headers, webhook.body)

    def _send(self, path: str, body: Mapping[str, Any], **more: str) -> Any:
        self._keys += 1
        headers = {
            "Authorization": f"Bearer {self._key}", "Content-Type": "application/json",
            "Idempotency-Key": f"bench-{self._keys}",
        } | more  # fmt: skip
        return self.request("POST", path, headers, json.dumps(body).encode())

    def _card(self, number: int) -> str:
        """A token of a card of its own."""
        digits = f"42424200{number:07d}"
        valid = next(digits + str(last) for last in range(10) if cards.luhn_holds(digits + str(last)))
        return str(self._send("/v1/tokens", {"card": {"number": valid, "expiry_month": 12, "expiry_year": 2030}})["id"])

    def pay(self, variant: str) -> None:
        """One payment of that variant, until everything about it is quiet."""
        # Each by somebody else: one who pays a hundred times a minute would have to be reviewed.
        number = self._keys
        body: dict[str, Any] = {**_BODY, "customer": _BODY["customer"] | {"email": f"asha{number}@example.com"}}  # type: ignore[operator]
        if variant == "without a customer":
            body["customer"] = _NOBODY
        if variant == "by card, with an IP address":
            body["customer"]["ip"] = f"49.205.{number // 250}.{number % 250}"
            body["method"] = {"type": "card", "token": self._card(number)}
        more: dict[str, str] = {}
        if variant == "with an order":
            wish = {"amount": _BODY["amount"], "currency": "INR", "receipt": "1001"}
            body["order_id"] = self._send("/v1/orders", wish)["id"]
        if variant == "with Prefer: wait":
            more["Prefer"] = "wait=10"
        payment = self._send("/v1/payments", body, **more)
        self.run(horizon=5)
        if variant == "with a partial refund":
            self._send(f"/v1/payments/{payment['id']}/refunds", {"amount": 50_000, "reason": "Sole came off"})
            self.run(horizon=5)
        execution = self.executions.pop(f"{payment['id']}-1")
        self.tally.transitions += len(execution.history)
        row = self.dynamo.tables[f"{aws.PREFIX}-payments"].get(
            {"pk": {"S": f"{TENANT.merchant_id}/{TENANT.mode}/{payment['id']}"}, "sk": {"S": "a#payment"}}
        )
        if row is None or row["status"]["S"] != "succeeded" or any(self.queues.values()):
            raise AssertionError(row)

    def idle_minute(self) -> Tally:
        """What a run of the sweeper costs that finds nothing."""
        with contextlib.redirect_stdout(self.sink):
            self.sweep()  # warm
            self.tally = minute = Tally()
            self.sweep()
        self.tally = Tally()
        return minute

    def measure(self, variant: str, count: int) -> tuple[Tally, list[float]]:
        """The tally of ``count`` payments, and the CPU of each in milliseconds."""
        with contextlib.redirect_stdout(self.sink):
            self.pay(variant)  # warm
            self.tally, total, each = Tally(), 0.0, []
            for _ in range(count):
                self.pay(variant)
                used = sum(seconds for name, seconds in self.tally.cpu.items() if name != _OUTSIDE)
                each.append((used - total) * 1000)
                total = used
                gc.freeze()  # or a collection in a handler would look through all that this world has piled up
        return self.tally, each


def _wire_value(value: object) -> Any:
    if isinstance(value, bytes):
        return b64encode(value).decode()
    if isinstance(value, datetime):
        return value.timestamp()
    raise TypeError(type(value))


# -- beside it -------------------------------------------------------------------------------------


def client_cpu(count: int = 200) -> list[float]:
    """CPU milliseconds of each of ``count`` requests of the provider client, to a server on loopback."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(201)
            self.send_header("Content-Length", "600")
            self.end_headers()
            self.wfile.write(b" " * 600)

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    server = ThreadingHTTPServer((HOST, 0), Handler)
    server.daemon_threads = True  # they end with the process, whatever the client keeps open
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    client, each = UrllibHttpClient(1.0, 3.0), []
    headers = {"authorization": "Bearer key", "content-type": "application/json", "idempotency-key": "key"}
    for _ in range(count):
        began = time.thread_time()
        client.request("POST", f"http://{HOST}:{server.server_port}/v1/charges", headers=headers, body=b"{}" * 200)
        each.append((time.thread_time() - began) * 1000)
    server.shutdown()
    server.server_close()
    return each


# -- the report ------------------------------------------------------------------------------------


def _spread(values: list[float]) -> str:
    return f"min {min(values):.2f}, median {statistics.median(values):.2f}, max {max(values):.2f}"


def report(variant: str, tally: Tally, each: list[float]) -> None:
    """Print what a variant costs."""
    count = len(each)
    print(f"\n{variant}")
    for table in sorted({table for table, _ in tally.writes}):
        items_, indexes = (tally.writes[table, part] / count for part in ("items", "indexes"))
        print(f"  write units {table:11} {items_ + indexes:5g}  = {items_:g} items + {indexes:g} index entries")
    print(f"  write units payments + guards: {tally.write_units('payments', 'guards') / count:g}")
    print("  read units:", {table: units / count for table, units in sorted(tally.reads.items()) if units})
    functions = [name for name in tally.invocations if name != _OUTSIDE]
    for name in functions:
        calls = {call: number / count for (who, call), number in sorted(tally.calls.items()) if who == name}
        runs, milliseconds = tally.invocations[name] / count, tally.cpu[name] / count * 1000
        print(
            f"  {name:8} {runs:g} invocations, {milliseconds:5.2f} ms CPU, {tally.logged[name] / count:5.0f} B logged; "
            + ", ".join(f"{number:g} {call}" for call, number in calls.items())
        )
    print(f"  handler CPU, ms: {_spread(each)}")
    print(f"  messages: { {queue: number / count for queue, number in sorted(tally.messages.items())} }")
    print(f"  state transitions: {tally.transitions / count:g}; largest items, bytes: {dict(tally.largest)}")


def main() -> None:
    """Measure all variants and print them."""
    parser = argparse.ArgumentParser(description="What one payment costs.")
    parser.add_argument("count", nargs="?", type=int, default=100, help="payments of each variant")
    parser.add_argument("--check", action="store_true", help="compare with the capacity DynamoDB Local reports")
    options = parser.parse_args()
    bench = Bench(keep_traffic=options.check)
    with bench:
        for variant in VARIANTS:
            report(variant, *bench.measure(variant, options.count))
    print(f"\na provider's or merchant's request by urllib3, CPU ms: {_spread(client_cpu())}")
    endpoint = dynamodb_local_url()
    if options.check and endpoint is not None:
        said = consumed(endpoint, bench.traffic or [])
        print("\nwrite units of everything above, warming up included: counted here, reported by DynamoDB Local")
        for (table, part), units in sorted(bench.written.items()):
            print(f"  {table:11} {part:8} {units:7} {said[table, part]:7g}")


if __name__ == "__main__":
    main()
