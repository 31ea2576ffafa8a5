"""All of Railyard in one process under a virtual clock: DynamoDB in moto, the real workflow in a small
interpreter, queues and stream in memory, the sandbox bank, a merchant's inbox, and a fault to inject.

Everything goes through the real handlers (``workers``, ``workflow``) and the real botocore clients,
whose hooks are where faults strike and where SQS, Step Functions and the stream are played.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import boto3

from chalicelib import config, wiring, workers, workflow
from chalicelib.domain.merchant import Account, Merchant
from chalicelib.domain.model import Tenant
from chalicelib.domain.routing import Rule
from chalicelib.providers.base import BadSignature
from chalicelib.providers.http import HttpAnswer
from chalicelib.services import provider_events
from chalicelib.services.kit import Kit
from chalicelib.storage import items
from chalicelib.storage.mapping import DUE_SHARDS
from chalicelib.storage.merchants import Merchants
from chalicelib.storage.queries import Queries
from chalicelib.storage.queues import Queues, Workflows
from chalicelib.storage.store import Store
from infra.sandbox.inprocess import InProcessHttpClient, base_url, make_bank
from tests.support.asl import Execution, TaskFailed, payment_definition
from tests.support.aws import ENVIRONMENT, PREFIX

if TYPE_CHECKING:
    from collections.abc import Mapping

START = 1_795_235_000.0  # 2026-11-21
TENANT = Tenant("mer_01TEST", "test")
WEBHOOK_SECRET = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ENDPOINT = "http://merchant.example/hooks"
_QUEUES = ("operations", "provider-events", "notifications", "deliveries", "projections")
_MAX_RECEIVES = 8
_VISIBILITY = 60.0


class Crash(BaseException):
    """The process dies here. Not an Exception, so that no handler can survive it."""


@dataclass(slots=True)
class Clock:
    """Virtual time in epoch seconds."""

    time: float = START

    def __call__(self) -> datetime:
        return datetime.fromtimestamp(round(self.time, 3), UTC)

    def epoch(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds


@dataclass(slots=True)
class Fault:
    """One thing that goes wrong: at call number ``at`` (counted while armed), before or after its effect."""

    at: int
    kind: str  # crash_before | crash_after | conflict


@dataclass(slots=True)
class Message:
    """A message in a queue."""

    id: str
    body: str
    visible_at: float
    receives: int = 0


@dataclass(slots=True)
class World:
    """See the module's docstring. Make it inside ``mock_aws`` with tables and key created."""

    fault: Fault | None = None
    armed: bool = False
    seed: int = 1
    clock: Clock = field(default_factory=Clock)
    calls: list[str] = field(default_factory=list)  # every AWS and provider call while armed
    crashes: int = 0
    stream: list[dict[str, Any]] = field(default_factory=list)
    queues: dict[str, list[Message]] = field(default_factory=lambda: {name: [] for name in _QUEUES})
    dead: list[tuple[str, Message]] = field(default_factory=list)
    executions: dict[str, Execution] = field(default_factory=dict)
    inbox: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    inbox_status: int = 200
    lost_webhooks: int = 0
    kit: Kit = field(init=False)
    bank: Any = field(init=False)
    _numbers: Counter[str] = field(default_factory=Counter)
    _puts: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        settings = config.load(ENVIRONMENT)
        self.bank = make_bank(self.clock.epoch, seed=str(self.seed))
        http = _Network(self)
        sqs, stepfunctions = boto3.client("sqs"), boto3.client("stepfunctions")
        items.bind(PREFIX)
        for client in (sqs, stepfunctions):
            client.meta.events.register_last("before-call.*.*", self._play)
        store = Store(PREFIX)
        self._share_dynamodb_client()
        dynamodb = items.PaymentsItem._get_connection().connection.client
        for client in (sqs, stepfunctions, dynamodb):
            client.meta.events.register_first("before-call.*.*", self._before)
            client.meta.events.register_last("after-call.*.*", self._after)
        dynamodb.meta.events.register("after-call.dynamodb.TransactWriteItems", self._record_stream)
        dynamodb.meta.events.register("before-parameter-build.dynamodb.TransactWriteItems", self._remember_puts)
        randomness = random.Random(self.seed)  # noqa: S311 - seeded on purpose
        self.kit = Kit(
            settings=settings,
            timing=wiring.timing(settings),
            store=store,
            queries=Queries(PREFIX),
            merchants=_FixedMerchants(self.merchant()),
            queues=Queues(sqs, {name: f"https://queue.test/{name}" for name in _QUEUES}),  # type: ignore[misc]
            workflows=Workflows(stepfunctions, settings.state_machine_arn),
            http=http,
            provider=wiring.providers(http),
            now=self.clock,
            sleep=self.clock.sleep,
            jitter=randomness.random,
        )
        wiring.install(self.kit)

    @staticmethod
    def _share_dynamodb_client() -> None:
        """One client for all tables, so that hooks see every call."""
        client = items.PaymentsItem._get_connection().connection.client
        for model in (items.GuardsItem, items.MerchantsItem, items.DeliveryItem, items.DeliveriesRow, items.StatsItem,
                      items.PaymentsRow):
            model._get_connection().connection._client = client

    def merchant(self) -> Merchant:
        """A merchant with an account at every provider of the bank."""
        accounts = []
        for name, settings in self.bank.settings.items():
            settings.webhook_secret = settings.webhook_secret or f"secret_{name}"
            accounts.append(
                Account(
                    f"acct_{name}", "simulator" if name.startswith("simulator") else name, base_url(self.bank, name),
                    dict(settings.credentials), (settings.webhook_secret,),
                )
            )
        rules = [
            Rule("premium above 10,000", ("acct_razorpay", "acct_simulator"), currency="INR", min_amount=10_000_00),
            Rule("standard", ("acct_simulator", "acct_razorpay", "acct_simulator_b")),
        ]
        return Merchant(TENANT, "Test merchant", tuple(accounts), tuple(rules), webhook_url=ENDPOINT,
                        webhook_secret=WEBHOOK_SECRET, lookup_key=b"k" * 32)

    # -- faults and played services --------------------------------------------------------------

    def _strike(self, call: str, moment: str) -> None:
        """Count a call, and crash if it is the one."""
        if not self.armed:
            return
        if moment == "before":
            self.calls.append(call)
        if self.fault and len(self.calls) - 1 == self.fault.at and self.fault.kind == f"crash_{moment}":
            self.armed = False  # one fault per run
            raise Crash(f"{moment} {call}")

    def _before(self, model: Any, **_: Any) -> Any:
        name = f"{model.service_model.service_name}.{model.name}"
        self._strike(name, "before")
        if (
            self.armed and self.fault and self.fault.kind == "conflict" and name == "dynamodb.TransactWriteItems"
            and len(self.calls) - 1 == self.fault.at
        ):
            self.armed = False
            reasons = [{"Code": "TransactionConflict"}] * 10
            error = {"Code": "TransactionCanceledException", "Message": "conflict"}
            return SimpleNamespace(status_code=400), {"Error": error, "CancellationReasons": reasons, "ResponseMetadata": {}}
        return None

    def _after(self, model: Any, **_: Any) -> None:
        self._strike(f"{model.service_model.service_name}.{model.name}", "after")

    def _play(self, model: Any, params: Mapping[str, Any], **_: Any) -> Any:
        """Play SQS and Step Functions."""
        body = json.loads(params["body"]) if isinstance(params["body"], str | bytes) else params["body"]
        answer = getattr(self, f"_play_{model.name}")(body)
        if "Error" in answer:
            return SimpleNamespace(status_code=400), answer
        return SimpleNamespace(status_code=200), {"ResponseMetadata": {}} | answer

    def _play_SendMessageBatch(self, body: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        queue = body["QueueUrl"].rsplit("/", 1)[1]
        for entry in body["Entries"]:
            visible_at = self.clock.time + entry.get("DelaySeconds", 0)
            self.queues[queue].append(Message(self._id("msg"), entry["MessageBody"], visible_at))
        return {"Successful": [{"Id": entry["Id"], "MessageId": "m", "MD5OfMessageBody": ""} for entry in body["Entries"]]}

    def _play_ChangeMessageVisibility(self, body: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        queue = body["QueueUrl"].rsplit("/", 1)[1]
        for message in self.queues[queue]:
            if message.id == body["ReceiptHandle"]:
                message.visible_at = self.clock.time + body["VisibilityTimeout"]
        return {}

    def _play_StartExecution(self, body: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        name = body["name"]
        if name in self.executions:
            return {"Error": {"Code": "ExecutionAlreadyExists", "Message": name}, "ResponseMetadata": {}}
        self.executions[name] = Execution(
            payment_definition(), json.loads(body["input"]), self._task, name, wake_at=self.clock.time
        )
        return {"executionArn": name, "startDate": self.clock()}

    def _id(self, prefix: str) -> str:
        self._numbers[prefix] += 1
        return f"{prefix}-{self._numbers[prefix]}"

    def _remember_puts(self, params: Mapping[str, Any], **_: Any) -> None:
        self._puts = [put["Put"] for put in params["TransactItems"] if "Put" in put]

    def _record_stream(self, http_response: Any, **_: Any) -> None:
        if http_response.status_code != 200:
            return
        for put in self._puts:
            item = put["Item"]
            if put["TableName"].endswith("-payments") and item["sk"]["S"].startswith("evt#"):
                self.stream.append({"eventName": "INSERT", "dynamodb": {"NewImage": item}})

    # -- running ---------------------------------------------------------------------------------

    def invoke(self, handler: Any, event: dict[str, Any]) -> Any:
        """Call a Lambda handler as the platform does; None if its process died."""
        try:
            return handler(event, SimpleNamespace(aws_request_id="test", function_name="test"))
        except Crash:
            self.crashes += 1
            return None

    def _task(self, resource: str, event: dict[str, Any]) -> dict[str, Any]:
        try:
            result: dict[str, Any] = getattr(workflow, resource)(event, SimpleNamespace(aws_request_id="test"))
        except Crash as crash:
            self.crashes += 1
            raise TaskFailed("Runtime.ExitError", str(crash)) from crash
        except Exception as error:
            raise TaskFailed(type(error).__name__, str(error)) from error
        return result

    def turn(self) -> bool:
        """Do everything that is due now; False if nothing was."""
        busy = False
        if self.stream:
            batch = list(self.stream[:10])
            try:
                if self.invoke(workers.relay, {"Records": batch}) is not None:
                    del self.stream[: len(batch)]
            except Exception as error:  # noqa: BLE001 - the platform brings the batch again
                assert batch, error
            busy = True
        for name in _QUEUES:
            busy |= self._consume(name)
        for execution in list(self.executions.values()):
            busy |= execution.step(self.clock.time)
        self.bank.run_due(self.clock.time)
        for webhook in self.bank.take_webhooks(self.clock.time):
            busy = True
            self._post_webhook(webhook)
        return busy

    def _consume(self, name: str) -> bool:
        handlers = {
            "operations": workers.operate, "provider-events": workers.ingest, "notifications": workers.notify,
            "deliveries": workers.deliver, "projections": workers.project,
        }  # fmt: skip
        queue = self.queues[name]
        due = [message for message in queue if message.visible_at <= self.clock.time][:1]
        for message in due:
            message.receives += 1
            if message.receives > _MAX_RECEIVES:
                queue.remove(message)
                self.dead.append((name, message))
                continue
            message.visible_at = self.clock.time + _VISIBILITY
            record = {
                "messageId": message.id, "receiptHandle": message.id, "body": message.body,
                "attributes": {"ApproximateReceiveCount": str(message.receives)},
            }  # fmt: skip
            result = self.invoke(handlers[name], {"Records": [record]})
            if result is not None and not result["batchItemFailures"]:
                queue.remove(message)
        return bool(due)

    def _post_webhook(self, webhook: Any) -> None:
        """A provider posts; like a real one it tries again when it gets no 2xx."""
        provider = webhook.provider
        name = "simulator" if provider.startswith("simulator") else provider
        try:
            headers = {key.lower(): value for key, value in webhook.headers.items()}
            provider_events.receive(self.kit, name, f"acct_{provider}", headers, webhook.body)
        except Crash:
            self.crashes += 1
            self.bank.webhook_failed(webhook, self.clock.time)
        except BadSignature:
            self.lost_webhooks += 1

    def next_time(self) -> float | None:
        """When something is next due, sweeper included; None if nothing ever is."""
        times = [m.visible_at for queue in self.queues.values() for m in queue]
        times += [e.wake_at for e in self.executions.values() if e.status == "RUNNING"]
        bank_due = self.bank.next_due
        times += [bank_due] if bank_due is not None else []
        far = datetime.fromtimestamp(self.clock.time + 10**8, UTC)
        for shard in range(DUE_SHARDS):
            rows = [*self.kit.queries.due(shard, far, 1), *self.kit.queries.due_deliveries(shard, far, 1)]
            times += [row.due_at for row in rows]
        return min(times) if times else None

    def run(self, *, horizon: float = 3600.0) -> None:
        """Run until nothing is due within ``horizon`` virtual seconds from now."""
        end = self.clock.time + horizon
        for _ in range(20_000):
            if self.turn():
                continue
            armed, self.armed = self.armed, False  # looking around is not a call of Railyard's
            upcoming = self.next_time()
            self.armed = armed
            if upcoming is None or upcoming > end:
                return
            if upcoming > self.clock.time:
                self.clock.time = upcoming
                continue
            if self.invoke_sweep() == 0:
                self.clock.time += 1.0
        raise AssertionError("the world does not come to rest")

    def invoke_sweep(self) -> int:
        """One pass of the sweeper; 0 if it took nothing or died."""
        from chalicelib.services import sweeping  # noqa: PLC0415 - the handler itself sleeps between passes

        try:
            return sweeping.sweep(self.kit)
        except Crash:
            self.crashes += 1
            return 0


class _FixedMerchants(Merchants):
    """The merchants cache, warm: what a request costs is not what a cold start costs."""

    def __init__(self, merchant: Merchant) -> None:
        self._merchant = merchant

    def get(self, tenant: Tenant) -> Merchant:
        if tenant != self._merchant.tenant:
            raise LookupError(str(tenant))
        return self._merchant

    def owner_of_account(self, account_id: str) -> Tenant | None:
        return self._merchant.tenant if self._merchant.account(account_id) else None


class _Network:
    """HttpClient to the bank and to the merchant, with faults."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._bank = InProcessHttpClient(world.bank, world.clock.epoch)

    def request(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes | None = None,
        read_timeout: float | None = None,
    ) -> HttpAnswer:
        world = self._world
        to_merchant = url.startswith("http://merchant.example")
        name = "merchant.POST" if to_merchant else f"provider.{method}"
        world._strike(name, "before")
        if to_merchant:
            world.inbox.append((dict(headers), body or b""))
            answer = HttpAnswer(world.inbox_status, {}, b"")
        else:
            answer = self._bank.request(method, url, headers=headers, body=body, read_timeout=read_timeout)
        world._strike(name, "after")
        return answer
