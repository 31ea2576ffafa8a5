"""All of Railyard in one process under a virtual clock: DynamoDB in memory, the real workflow in a small
interpreter, queues and stream in memory, the sandbox bank, a merchant's inbox, and one fault to inject.

Everything goes through the real handlers (``workers``, ``workflow``) and real botocore clients, whose
hooks are where faults strike and where DynamoDB, SQS, Step Functions and the stream are played.

    with World() as world:
        state = payments.create(world.kit, TENANT, NewPayment(...), idem)
        world.run()                       # until nothing is due within the hour
"""

from __future__ import annotations

import json
import logging
import random
import secrets
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

import boto3
from botocore.exceptions import ReadTimeoutError

from chalicelib import config, wiring, workers, workflow
from chalicelib.domain import ids
from chalicelib.domain.errors import RateLimited
from chalicelib.domain.merchant import Account, Merchant
from chalicelib.domain.model import Tenant
from chalicelib.domain.routing_rules import RoutingSettings, Rule, When
from chalicelib.observability import logger
from chalicelib.providers.base import BadSignature
from chalicelib.providers.http import HttpAnswer, NotSentError, UnknownError
from chalicelib.services import provider_events
from chalicelib.services.kit import Kit
from chalicelib.storage import items
from chalicelib.storage.cache import Cache
from chalicelib.storage.health import Health
from chalicelib.storage.keys import Keys
from chalicelib.storage.limits import Limits
from chalicelib.storage.merchants import Merchants
from chalicelib.storage.people import People
from chalicelib.storage.queries import Queries
from chalicelib.storage.queues import Queues, Workflows
from chalicelib.storage.store import Store
from infra.sandbox.inprocess import InProcessHttpClient, base_url, make_bank
from tests.support import aws, dynamo, search
from tests.support.asl import Execution, TaskFailed, payment_definition
from tests.support.aws import ENVIRONMENT, PREFIX
from tests.support.marks import LOOKUP_KEY, WEBHOOK_SECRET
from tests.support.storage import OpenVault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pynamodb.models import Model

    from chalicelib.config import Settings
    from chalicelib.storage.sealing import Cipher
    from infra.sandbox.outbox import Webhook

START = 1_795_235_000.0  # 2026-11-21
TENANT = Tenant("mer_01TEST", "test")
ENDPOINT = "http://merchant.example/hooks"
_QUEUES = ("operations", "provider-events", "notifications", "deliveries", "projections")
_CONSUMERS = {
    "operations": "operate", "provider-events": "ingest", "notifications": "notify", "deliveries": "deliver",
    "projections": "project",
}  # fmt: skip
_RELAY_BATCH = 10
_PREMIUM = When(currencies=frozenset({"INR"}), above=10_000_00)
_STEPS = 3_000  # far more than any story takes
_STALL = 40.0  # seconds a frozen process may still wake up after: the functions' own time-out is 45
_READS = frozenset({"dynamodb.GetItem", "dynamodb.Query", "dynamodb.BatchGetItem"})

Kind = Literal["crash_before", "crash_after", "conflict", "refused", "lost", "twin", "stall", "rival"]


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


class Point(NamedTuple):
    """A call that may go wrong: which function made it, and to whom."""

    where: str  # request, webhook, or a handler's name
    call: str  # dynamodb.PutItem, provider.POST, merchant.POST, …
    invocation: int = 0  # which run of it

    @property
    def is_read(self) -> bool:
        """Whether the call changes nothing at AWS. Providers are never thought harmless."""
        return self.call in _READS

    def kinds(self) -> tuple[Kind, ...]:
        """What can go wrong here. A read that is refused, doubled or lost differs from none of its neighbours."""
        kinds: tuple[Kind, ...] = ("crash_before", "crash_after")
        if self.call == "dynamodb.TransactWriteItems":
            kinds += ("conflict",)
        return kinds if self.is_read else (*kinds, "refused", "lost", "twin", "stall")


@dataclass(slots=True)
class Fault:
    """One thing that goes wrong at call number ``at`` (counted while armed).

    crash_before, crash_after   the process dies before or after the call has its effect
    conflict                    the transaction meets another one
    refused                     the call fails and has no effect (throttled, connection refused)
    lost                        the call has its effect and the answer is lost
    twin                        the same event or request comes a second time and overtakes this one
    stall                       the process freezes for 40 s while the rest of the world goes on
    rival                       somebody else does something of their own (``World.rival``) just before

    With ``patient`` a client whose request broke asks again only when everything is quiet.
    """

    at: int
    kind: Kind
    patient: bool = False
    struck: Point | None = None


@dataclass(slots=True, eq=False)
class Message:
    """A message in a queue."""

    id: str
    body: str
    visible_at: float
    receives: int = 0


class Activity(NamedTuple):
    """A function that is running, and how to run it once more."""

    where: str
    again: Callable[[], object]
    number: int


@dataclass(slots=True)
class World:
    """See the module's docstring. One at a time: entering it makes it the one that all handlers use."""

    fault: Fault | None = None
    seed: int = 1
    armed: bool = False
    clock: Clock = field(default_factory=Clock)
    points: list[Point] = field(default_factory=list)  # every AWS and provider call while armed
    spared: frozenset[str] = frozenset()  # functions whose calls are not counted
    discarded: frozenset[str] = frozenset()  # queues that nobody reads in this run
    crashes: int = 0
    errors: list[tuple[str, Exception]] = field(
        default_factory=list
    )  # that handlers let out; their platforms try again
    dynamo: dynamo.Dynamo = field(default_factory=lambda: dynamo.Dynamo(aws.table_definitions()))
    traffic: list[tuple[str, dict[str, Any], dict[str, Any]]] | None = None  # DynamoDB's, if it is to be kept
    stream: list[dict[str, Any]] = field(default_factory=list)
    queues: dict[str, list[Message]] = field(default_factory=lambda: {name: [] for name in _QUEUES})
    sent: list[tuple[str, str]] = field(default_factory=list)  # every message that ever lay in a queue
    dead: list[tuple[str, Message]] = field(default_factory=list)
    executions: dict[str, Execution] = field(default_factory=dict)
    rival: Callable[[], None] | None = None
    lose_starts: int = 0  # so many workflow starts are refused
    inbox: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    inbox_statuses: list[int] = field(default_factory=list)  # the merchant's next answers; then 200
    hooks: list[Webhook] = field(default_factory=list)  # on the wire from a provider
    acknowledged: list[Webhook] = field(default_factory=list)  # those we answered with a 2xx
    refused_webhooks: int = 0
    kit: Kit = field(init=False)
    bank: Any = field(init=False)
    _numbers: Counter[str] = field(default_factory=Counter)
    _running: list[Activity] = field(default_factory=list)
    _after_fault: Kind | None = None
    _relaying: bool = False

    def __post_init__(self) -> None:
        self.bank = make_bank(self.clock.epoch, seed=str(self.seed))
        http = _Network(self)
        wires = _wires()
        settings = replace(_settings(), sweep_passes=1, password_cost=4)
        randomness = random.Random(self.seed)
        self.kit = Kit(
            settings=settings,
            # As in settings, but with fewer repetitions of the same.
            timing=replace(wiring.timing(settings), poll=15.0, watch=settings.watch_waits[:2]),
            store=Store(PREFIX, self.cipher),
            queries=Queries(PREFIX, self.cipher),
            merchants=FixedMerchants(self.merchant()),
            keys=Keys(PREFIX, Cache(self.clock, 60.0)),
            people=People(PREFIX, OpenVault(), Cache(self.clock, 60.0)),
            limits=Limits(PREFIX, self.clock),
            health=Health(PREFIX, self.clock, 2.0),
            queues=Queues(wires.sqs, {name: f"https://queue.test/{name}" for name in _QUEUES}),  # type: ignore[misc]
            workflows=Workflows(wires.stepfunctions, settings.state_machine_arn),
            http=http,
            provider=wiring.providers(http),
            now=self.clock,
            sleep=self.sleep,
            jitter=randomness.random,
        )
        self.enter()

    def enter(self) -> World:
        """Become the world that clients and handlers see; ids are the same in every run."""
        wires = _wires()
        for model, connection in wires.tables.items():
            if not _current:
                _found[model] = model._connection
            model._connection = connection
        _current[:] = [self]
        wiring.install(self.kit)
        ids.randbits = random.Random(self.seed).getrandbits
        return self

    def bring(self, kit: Kit) -> None:
        """Go on with other parts."""
        self.kit = kit
        wiring.install(kit)

    def bring_merchant(self, merchant: Merchant) -> None:
        """Go on with other merchant settings."""
        self.bring(replace(self.kit, merchants=FixedMerchants(merchant)))

    def cipher(self, tenant: Tenant) -> Cipher:
        """That of the merchants of the moment."""
        return self.kit.merchants.cipher(tenant)

    def close(self) -> None:
        """Leave the clients to whoever comes next."""
        if _current:
            for model, connection in _found.items():
                model._connection = connection
        _current.clear()
        ids.randbits = secrets.randbits

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: object, *_: object) -> None:
        self.close()
        if error is None and search.is_sampled(self):
            self.search()

    def search(self) -> None:
        """Raise Leak if a marked value lies in clear in what is stored, queued, given up or executed."""
        finds = search.in_world(self)
        if finds:
            raise search.Leak(finds)

    def merchant(self) -> Merchant:
        """A merchant with an account at every provider of the bank."""
        accounts = []
        for name, settings in self.bank.settings.items():
            settings.webhook_secret = settings.webhook_secret or f"secret_{name}"
            accounts.append(
                Account(
                    f"acct_{name}", adapter_of(name), base_url(self.bank, name),
                    dict(settings.credentials), (settings.webhook_secret,),
                )
            )  # fmt: skip
        rules = [
            Rule("premium above 10,000", ("acct_razorpay", "acct_simulator"), _PREMIUM),
            Rule("standard", ("acct_simulator", "acct_razorpay", "acct_simulator_b")),
        ]
        return Merchant(
            TENANT, "Test merchant", tuple(accounts), RoutingSettings(tuple(rules)), webhook_url=ENDPOINT,
            webhook_secret=WEBHOOK_SECRET, lookup_key=LOOKUP_KEY,
        )  # fmt: skip

    # -- faults ----------------------------------------------------------------------------------

    def _before(self, call: str) -> Kind | None:
        """Count a call. Says how it has to fail, if it is the one to fail by its answer."""
        if not self.armed:
            return None
        running = self._running[-1]
        if running.where in self.spared:
            return None
        point = Point(running.where, call, running.number)
        self.points.append(point)
        fault = self.fault
        if fault is None or len(self.points) - 1 != fault.at:
            return None
        self.armed, fault.struck = False, point  # one fault per run
        if fault.kind == "crash_before":
            raise Crash(call)
        if fault.kind == "twin":
            self._twin()
        elif fault.kind == "rival":
            assert self.rival is not None
            self.rival()
        elif fault.kind == "stall":
            self._advance(self.clock.time + _STALL)
        elif fault.kind in ("crash_after", "lost"):
            self._after_fault = fault.kind
        else:
            return fault.kind
        return None

    def _after(self, call: str) -> Kind | None:
        """The call has had its effect. Says if its answer is to be lost."""
        kind, self._after_fault = self._after_fault, None
        if kind == "crash_after":
            raise Crash(call)
        return kind

    def _twin(self) -> None:
        """What is running now runs a second time, from the start, and is faster."""
        activity = self._running[-1]
        try:
            self._perform(activity)
        except Exception as error:  # noqa: BLE001 - to the twin's platform a failure like any other: it comes again
            self.errors.append((activity.where, error))

    def aws_call(self, service: str, operation: str, body: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Answer one call of a botocore client: the HTTP response and the parsed answer."""
        failure = self._before(f"{service}.{operation}")
        if failure == "conflict" and "TransactItems" in body:
            reasons = ["TransactionConflict"] * len(body["TransactItems"])
            return _error("TransactionCanceledException", "conflict", reasons)
        if failure == "refused":
            return _error("ThrottlingException", "Rate exceeded")
        if service == "dynamodb":
            return self._dynamodb(operation, body)
        answer: dict[str, Any] = getattr(self, f"_play_{operation}")(body)
        if "Error" in answer:
            return _error(answer["Error"], "")
        return SimpleNamespace(status_code=200), {"ResponseMetadata": {}} | answer

    def aws_answered(self, service: str, operation: str) -> None:
        """A call has had its effect, and the answer is on its way."""
        if self._after(f"{service}.{operation}") == "lost":
            raise ReadTimeoutError(endpoint_url=service)

    # -- the services that are played ------------------------------------------------------------

    def _dynamodb(self, operation: str, body: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        known = len(self.dynamo.log)
        try:
            answer = self.dynamo.call(operation, body)
        except dynamo.Refused as refused:
            http, answer = _error(refused.code, refused.message, refused.reasons)
        else:
            http, answer = SimpleNamespace(status_code=200), {"ResponseMetadata": {}} | answer
        if self.traffic is not None:
            self.traffic.append((operation, body, answer))
        for write in self.dynamo.log[known:]:
            if write.old is None and write.new is not None and write.new["sk"]["S"].startswith("evt#"):
                self.stream.append({"eventName": "INSERT", "dynamodb": {"NewImage": write.new}})
        return http, answer

    def _play_SendMessageBatch(self, body: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        queue = body["QueueUrl"].rsplit("/", 1)[1]
        for entry in body["Entries"] if queue not in self.discarded else ():
            self.sent.append((queue, entry["MessageBody"]))
            visible_at = self.clock.time + entry.get("DelaySeconds", 0)
            self.queues[queue].append(Message(self._id("msg"), entry["MessageBody"], visible_at))
        return {
            "Successful": [{"Id": entry["Id"], "MessageId": "m", "MD5OfMessageBody": ""} for entry in body["Entries"]]
        }

    def _play_ChangeMessageVisibility(self, body: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        queue = body["QueueUrl"].rsplit("/", 1)[1]
        for message in self.queues[queue]:
            if message.id == body["ReceiptHandle"]:
                message.visible_at = self.clock.time + body["VisibilityTimeout"]
        return {}

    def _play_StartExecution(self, body: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        name = body["name"]
        if self.lose_starts > 0:
            self.lose_starts -= 1
            return {"Error": "ServiceUnavailable"}
        if name in self.executions:
            return {"Error": "ExecutionAlreadyExists"}
        self.executions[name] = Execution(
            payment_definition(), json.loads(body["input"]), self._task, name, wake_at=self.clock.time
        )
        return {"executionArn": name, "startDate": self.clock()}

    def new_message(self, body: str) -> Message:
        """A message that can be received now."""
        return Message(self._id("msg"), body, self.clock.time)

    def _id(self, prefix: str) -> str:
        self._numbers[prefix] += 1
        return f"{prefix}-{self._numbers[prefix]}"

    # -- running ---------------------------------------------------------------------------------

    def _perform(self, activity: Activity) -> Any:
        self._running.append(activity)
        try:
            return activity.again()
        finally:
            self._running.pop()

    def perform(self, where: str, again: Callable[[], Any]) -> Any:
        """Run something as ``where``; raises Crash if its process dies."""
        self._numbers["invocation"] += 1
        return self._perform(Activity(where, again, self._numbers["invocation"]))

    def _invoke(self, name: str, event: dict[str, Any]) -> Any:
        """Call a handler of workers.py as the platform does; None if its process died."""
        context = SimpleNamespace(aws_request_id="test", function_name=name)
        try:
            return self.perform(name, lambda: getattr(workers, name)(event, context))
        except Crash:
            self.crashes += 1
            return None

    def _task(self, resource: str, event: dict[str, Any]) -> dict[str, Any]:
        context = SimpleNamespace(aws_request_id="test")
        try:
            result: dict[str, Any] = self.perform(resource, lambda: getattr(workflow, resource)(event, context))
        except Crash as crash:
            self.crashes += 1
            raise TaskFailed("Runtime.ExitError", str(crash)) from crash
        except Exception as error:
            self.errors.append((resource, error))
            raise TaskFailed(type(error).__name__, str(error)) from error
        return result

    def due(self) -> list[Callable[[], None]]:
        """Everything that could happen now; each may be done once, in any order."""
        now = self.clock.time
        self.hooks += self.bank.take_webhooks(now)
        found: list[Callable[[], None]] = []
        if self.stream and not self._relaying:
            found.append(self._relay)
        for name in _QUEUES:
            visible = [message for message in self.queues[name] if message.visible_at <= now][:1]
            found += [lambda name=name, message=message: self._consume(name, message) for message in visible]  # type: ignore[misc]
        for execution in list(self.executions.values()):
            if execution.is_due(now):
                found.append(lambda execution=execution: self._step(execution))  # type: ignore[misc]
        found += [lambda hook=hook: self._post(hook) for hook in list(self.hooks)]  # type: ignore[misc]
        return found

    def turn(self) -> bool:
        """Do everything that is due now, once; False if nothing was."""
        happened = self.due()
        for happen in happened:
            happen()
        return bool(happened)

    def _step(self, execution: Execution) -> None:
        execution.step(self.clock.time)

    def _relay(self) -> None:
        if self._relaying or not self.stream:
            return  # a shard is read by one invocation at a time
        batch = list(self.stream[:_RELAY_BATCH])
        self._relaying = True
        try:
            if self._invoke("relay", {"Records": batch}) is not None:
                del self.stream[: len(batch)]
        except Exception as error:  # noqa: BLE001 - the platform brings the batch again
            self.errors.append(("relay", error))
        finally:
            self._relaying = False

    def _consume(self, name: str, message: Message) -> None:
        queue = self.queues[name]
        if message not in queue or message.visible_at > self.clock.time:
            return
        message.receives += 1
        if message.receives > _queue_settings(name)["maxReceiveCount"]:
            queue.remove(message)
            self.dead.append((name, message))
            return
        message.visible_at = self.clock.time + _queue_settings(name)["VisibilityTimeout"]
        record = {
            "messageId": message.id, "receiptHandle": message.id, "body": message.body,
            "attributes": {"ApproximateReceiveCount": str(message.receives)},
        }  # fmt: skip
        try:
            result = self._invoke(_CONSUMERS[name], {"Records": [record]})
        except Exception as error:  # noqa: BLE001 - the platform brings the message again
            self.errors.append((name, error))
            return
        if result is not None and not result["batchItemFailures"] and message in queue:
            queue.remove(message)

    def _post(self, webhook: Webhook) -> None:
        """A provider posts; like a real one it tries again when it gets no 2xx."""
        if webhook not in self.hooks:
            return
        self.hooks.remove(webhook)
        headers = {key.lower(): value for key, value in webhook.headers.items()}

        def receive() -> None:
            provider = webhook.provider
            provider_events.receive(self.kit, adapter_of(provider), f"acct_{provider}", headers, webhook.body)

        try:
            self.perform("webhook", receive)
        except BadSignature:
            self.refused_webhooks += 1
        except RateLimited:  # a 429: it comes again
            self.bank.webhook_failed(webhook, self.clock.time)
        except Crash:
            self.crashes += 1
            self.bank.webhook_failed(webhook, self.clock.time)
        except Exception as error:  # noqa: BLE001 - a 500
            self.errors.append(("webhook", error))
            self.bank.webhook_failed(webhook, self.clock.time)
        else:
            self.acknowledged.append(webhook)

    def sweep(self) -> int:
        """One run of the sweeper; 0 if it took nothing or died."""
        try:
            result = self._invoke("sweep", {})
        except Exception as error:  # noqa: BLE001 - the schedule fires again
            self.errors.append(("sweep", error))
            return 0
        return 0 if result is None else int(result["taken"])

    def sleep(self, seconds: float) -> None:
        """How the code under test sleeps: while it does, everybody else goes on."""
        self._advance(self.clock.time + seconds)

    def next_time(self) -> float | None:
        """When something is next due, sweeper included; None if nothing ever is."""
        times = [message.visible_at for queue in self.queues.values() for message in queue]
        times += [e.wake_at for e in self.executions.values() if e.status == "RUNNING" and not e.busy]
        bank_due = self.bank.next_due
        times += [bank_due] if bank_due is not None else []
        for table in ("payments", "deliveries"):
            rows = self.dynamo.tables[f"{PREFIX}-{table}"].items()
            times += [float(row["due_at"]["N"]) for row in rows if "due_pk" in row and "due_at" in row]
        return min(times, default=None)

    def run(self, *, horizon: float = 3600.0) -> None:
        """Run until nothing is due within ``horizon`` virtual seconds from now."""
        self._advance(self.clock.time + horizon, rest=True)

    def _advance(self, end: float, *, rest: bool = False) -> None:
        """Let everything happen that is due until ``end``; with ``rest`` stop at the last thing that is."""
        for _ in range(_STEPS):
            if self.turn():
                continue
            upcoming = self.next_time()
            if upcoming is None or upcoming > end:
                self.clock.time = self.clock.time if rest else max(end, self.clock.time)
                return
            if upcoming > self.clock.time:
                self.clock.time = upcoming
            elif self.sweep() == 0:
                self.clock.time += 1.0
        raise AssertionError("the world does not come to rest")


def adapter_of(provider: str) -> str:
    """The adapter that speaks with a provider of the bank."""
    return "simulator" if provider.startswith("simulator") else provider


class FixedMerchants(Merchants):
    """The merchants cache, warm: what a request costs is not what a cold start costs."""

    def __init__(self, merchant: Merchant) -> None:
        self._merchant = merchant

    def get(self, tenant: Tenant) -> Merchant:
        if tenant != self._merchant.tenant:
            raise LookupError(str(tenant))
        return self._merchant

    def account(self, tenant: Tenant, account_id: str) -> Account | None:
        return self.get(tenant).account(account_id)

    reread = account

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
    ) -> HttpAnswer:  # fmt: skip
        world = self._world
        to_merchant = url.startswith(ENDPOINT)
        name = "merchant.POST" if to_merchant else f"provider.{method}"
        if world._before(name) == "refused":
            raise NotSentError("connection_refused")
        if to_merchant:
            world.inbox.append((dict(headers), body or b""))
            answer = HttpAnswer(world.inbox_statuses.pop(0) if world.inbox_statuses else 200, {}, b"")
        else:
            try:
                answer = self._bank.request(method, url, headers=headers, body=body, read_timeout=read_timeout)
            finally:
                kind = world._after(name)
            if kind == "lost":
                raise UnknownError("read_timeout")
            return answer
        if world._after(name) == "lost":
            raise UnknownError("read_timeout")
        return answer


# -- clients ---------------------------------------------------------------------------------------

_current: list[World] = []


class _Witness(logging.Handler):
    """Notes exceptions that a handler caught and logged."""

    def emit(self, record: logging.LogRecord) -> None:
        if _current and record.exc_info and isinstance(record.exc_info[1], Exception):
            _current[0].errors.append((record.funcName, record.exc_info[1]))


def _error(code: str, message: str, reasons: Sequence[str] = ()) -> tuple[Any, dict[str, Any]]:
    answer = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {}}
    return SimpleNamespace(status_code=400), answer | (
        {"CancellationReasons": [{"Code": reason} for reason in reasons]} if reasons else {}
    )


def _before_call(model: Any, params: Mapping[str, Any], **_: Any) -> Any:
    if not _current:
        return None  # no world: somebody else's business
    body = json.loads(params["body"])
    return _current[0].aws_call(model.service_model.service_name, model.name, body)


def _after_call(model: Any, **_: Any) -> None:
    if _current:
        _current[0].aws_answered(model.service_model.service_name, model.name)


class _Wires(NamedTuple):
    """The clients of this process: made once, hooked up to the world of the moment."""

    sqs: Any
    stepfunctions: Any
    tables: Mapping[type[Model], Any]  # PynamoDB's connections, all with one client


@lru_cache(maxsize=1)
def _wires() -> _Wires:
    items.bind(PREFIX)
    tables: dict[type[Model], Any] = {}
    dynamodb = None
    for model in [model for models in items._TABLES.values() for model in models]:
        before, model._connection = model._connection, None
        tables[model] = model._get_connection()
        dynamodb = dynamodb or tables[model].connection.client
        tables[model].connection._client = dynamodb
        model._connection = before
    sqs, stepfunctions = boto3.client("sqs"), boto3.client("stepfunctions")
    logger.addHandler(_Witness())
    for client in (sqs, stepfunctions, dynamodb):
        # A third of botocore's time goes into where and as whom it would send; nothing here is sent.
        client._resolve_endpoint_ruleset = lambda *_, **__: ("https://aws.test", {}, {})  # type: ignore[union-attr]
        client._user_agent_creator = SimpleNamespace(to_string=lambda: "test")  # type: ignore[union-attr]
        client.meta.events.register_first("before-call.*.*", _before_call)  # type: ignore[union-attr]
        client.meta.events.register_last("after-call.*.*", _after_call)  # type: ignore[union-attr]
    return _Wires(sqs, stepfunctions, tables)


_found: dict[type[Model], Any] = {}  # the connections of before the first world


@lru_cache(maxsize=1)
def _settings() -> Settings:
    return config.load(ENVIRONMENT)


@lru_cache(maxsize=8)
def _queue_settings(name: str) -> Mapping[str, int]:
    """Visibility time-out and maxReceiveCount of a queue, from the template."""
    stage = aws.template()["Mappings"]["Queues"]["local"]
    for resource in aws.template()["Resources"].values():
        properties = resource.get("Properties", {})
        if properties.get("QueueName") == f"{PREFIX}-{name}":
            visibility = stage[properties["VisibilityTimeout"][2]]
            return {
                "VisibilityTimeout": visibility,
                "maxReceiveCount": stage[properties["RedrivePolicy"]["maxReceiveCount"][2]],
            }
    raise LookupError(name)


@contextmanager
def unarmed(world: World) -> Iterator[None]:
    """Within it, calls are not Railyard's: a test looks around."""
    armed, world.armed = world.armed, False
    try:
        yield
    finally:
        world.armed = armed
