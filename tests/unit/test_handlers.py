"""The functions that are no routes: batches, retries, dead letters, logs; all in the world of tests/support/world.py."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
import zlib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from chalicelib import workers, workflow
from chalicelib.observability import entrypoint
from chalicelib.services import operations, payments
from chalicelib.services.idempotency import Idem
from chalicelib.services.payments import NewPayment
from chalicelib.storage.queues import Queues, SendFailed
from chalicelib.storage.store import Stale
from chalicelib.workers import Later, consume
from infra.settings import child_environment
from tests.support import aws
from tests.support.access import ACTOR
from tests.support.world import TENANT, World

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from chalicelib.domain.model import PaymentState

ROOT = Path(__file__).parents[2]
CONTEXT = SimpleNamespace(aws_request_id="req_1", function_name="f")
CONSUMERS = {
    "operations": "operate", "provider-events": "ingest", "notifications": "notify", "deliveries": "deliver",
    "projections": "project",
}  # fmt: skip


@pytest.fixture
def world() -> Iterator[World]:
    with World() as made:
        yield made


def record(number: int, body: Any, receives: int = 1) -> dict[str, Any]:
    text = body if isinstance(body, str) else json.dumps(body)
    return {
        "messageId": f"m{number}", "receiptHandle": f"r{number}", "body": text,
        "attributes": {"ApproximateReceiveCount": str(receives)},
    }  # fmt: skip


def failures(result: dict[str, Any]) -> list[str]:
    return [failure["itemIdentifier"] for failure in result["batchItemFailures"]]


def pay(world: World, vpa: str = "success@sim", **fields: Any) -> PaymentState:
    idem = Idem(f"mer_01TEST/test/key-{zlib.crc32(vpa.encode())}", "f", 201, lambda _: {"id": "x"}, 1000)
    values: dict[str, Any] = {"amount": 149_900, "currency": "INR", "method": {"type": "upi", "vpa": vpa}}
    wish = NewPayment(**(values | fields))
    return payments.create(world.kit, TENANT, wish, idem)


# -- consume -----------------------------------------------------------------------------------------


def test_one_bad_message_holds_up_no_other_one(world: World) -> None:
    seen: list[int] = []

    def handle(message: dict[str, Any], _: int) -> None:
        if message["n"] == 2:
            raise Stale("met another one")
        seen.append(message["n"])

    batch = {"Records": [record(n, {"n": n}) for n in (1, 2, 3)]}
    assert failures(consume(batch, "operations", handle)) == ["m2"]
    assert seen == [1, 3]


@pytest.mark.parametrize("body", ["", "{", "[]", "null", '"text"', "{}", '{"merchant_id": "m"}'])
@pytest.mark.parametrize("queue", sorted(CONSUMERS))
def test_a_message_that_cannot_be_read_fails_alone_and_goes_to_the_dead_letters(
    world: World, queue: str, body: str
) -> None:
    result = getattr(workers, CONSUMERS[queue])({"Records": [record(1, body)]}, CONTEXT)
    assert failures(result) == ["m1"]


def test_a_message_for_later_comes_back_when_it_asked_to(world: World) -> None:
    world.kit.queues.send("operations", [{"n": 1}])
    (message,) = world.queues["operations"]

    def later(_: dict[str, Any], __: int) -> None:
        raise Later(7.4)

    result = consume({"Records": [record(1, {"n": 1}) | {"receiptHandle": message.id}]}, "operations", later)
    assert failures(result) == ["m1"]
    assert message.visible_at == world.clock.time + 7


def test_a_message_that_cannot_be_put_off_fails_alone(world: World) -> None:
    class Unreachable:
        def retry_in(self, *_: Any) -> None:
            raise SendFailed("SQS is down")

    world.bring(SimpleNamespace(queues=Unreachable()))  # type: ignore[arg-type]
    seen: list[int] = []

    def handle(message: dict[str, Any], _: int) -> None:
        if message["n"] == 1:
            raise Later(5)
        seen.append(message["n"])

    result = consume({"Records": [record(n, {"n": n}) for n in (1, 2)]}, "operations", handle)
    assert failures(result) == ["m1"]  # it comes again after the queue's own visibility time-out
    assert seen == [2]


def test_the_handler_learns_how_often_a_message_came(world: World) -> None:
    counts: list[int] = []
    consume({"Records": [record(1, {}, receives=7)]}, "operations", lambda _, count: counts.append(count))
    assert counts == [7]


def test_an_empty_batch_is_fine(world: World) -> None:
    assert consume({"Records": []}, "operations", lambda *_: None) == {"batchItemFailures": []}


def test_what_is_no_exception_still_ends_the_process(world: World) -> None:
    def dies(*_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        consume({"Records": [record(1, {})]}, "operations", dies)


# -- each consumer -----------------------------------------------------------------------------------


def test_an_event_without_a_payment_is_tried_again_on_schedule_and_then_kept_as_an_orphan(world: World) -> None:
    event = {"dedupe_key": "e1", "type": "charge.succeeded", "kind": "charge", "reference": "pay_00000000000000000000000000-01",
             "provider_reference": "ch_1", "charge": None, "effect": None}  # fmt: skip
    body = {"merchant_id": TENANT.merchant_id, "mode": TENANT.mode, "account": "acct_simulator", "event": event}
    waits = world.kit.settings.orphan_waits
    world.kit.queues.send("provider-events", [body])
    (message,) = world.queues["provider-events"]
    for receives, wait in enumerate(waits, 1):
        put_off = record(1, body, receives) | {"receiptHandle": message.id}
        assert failures(workers.ingest({"Records": [put_off]}, CONTEXT)) == ["m1"]
        assert message.visible_at == world.clock.time + round(wait)
    last = record(1, body, len(waits) + 1)
    assert failures(workers.ingest({"Records": [last]}, CONTEXT)) == []
    assert failures(workers.ingest({"Records": [last]}, CONTEXT)) == []
    orphans = [item for item in world.dynamo.tables[f"{aws.PREFIX}-payments"].items() if item["sk"]["S"] == "orphan"]
    assert len(orphans) == 1


def test_a_delivery_that_was_given_up_ends_in_the_dead_letters(world: World) -> None:
    world.inbox_statuses = [500] * 1000
    pay(world)
    world.run(horizon=86_400)
    assert {queue for queue, _ in world.dead} == {"deliveries"}
    assert len(world.dead) == 2  # payment.created and payment.succeeded
    for _, message in world.dead:
        assert set(json.loads(message.body)) == {"merchant_id", "mode", "event_id", "endpoint"}


def test_a_delivery_that_was_made_is_not_made_again(world: World) -> None:
    pay(world)
    world.run()
    before = len(world.inbox)
    delivered = _deliveries(world)
    assert failures(workers.deliver({"Records": [record(n, body) for n, body in enumerate(delivered)]}, CONTEXT)) == []
    assert len(world.inbox) == before == len(delivered)


def _deliveries(world: World) -> list[dict[str, Any]]:
    """The messages that would be sent again."""
    rows = world.dynamo.tables[f"{aws.PREFIX}-deliveries"].items()
    return [
        {
            "merchant_id": TENANT.merchant_id,
            "mode": TENANT.mode,
            "event_id": row["event_id"]["S"],
            "endpoint": "default",
        }
        for row in rows
    ]


def test_an_event_older_than_its_mark_is_refused_and_goes_to_the_dead_letters(world: World) -> None:
    event = {"merchant_id": TENANT.merchant_id, "mode": TENANT.mode, "subject_id": "pay_1", "sequence": 1, "id": "evt_1",
             "type": "payment.created", "created_at": "2020-01-01T00:00:00.000000+0000", "data": {"payment": {}}}  # fmt: skip
    assert failures(workers.project({"Records": [record(1, event)]}, CONTEXT)) == ["m1"]


# -- the relay ---------------------------------------------------------------------------------------


def test_the_relay_raises_when_a_send_failed_so_that_the_whole_batch_comes_again(world: World) -> None:
    pay(world)
    assert world.stream

    class Refusing:
        """Takes the request and refuses one message in it, with status 200, as SQS does."""

        def send_message_batch(self, **_: Any) -> dict[str, Any]:
            return {"Failed": [{"Id": "0", "Code": "InternalError", "SenderFault": False}], "Successful": [{"Id": "1"}]}

    good = world.kit
    world.bring(replace(good, queues=Queues(Refusing(), {name: name for name in CONSUMERS})))  # type: ignore[misc]
    with pytest.raises(SendFailed, match="InternalError"):
        workers.relay({"Records": world.stream}, CONTEXT)
    world.bring(good)
    assert workers.relay({"Records": world.stream}, CONTEXT)["sent"] > 0


def test_the_relay_sends_only_new_events(world: World) -> None:
    pay(world)
    (created,) = [dict(entry) for entry in world.stream]
    image = created["dynamodb"]["NewImage"]
    others = [
        created | {"eventName": "MODIFY"},
        created | {"eventName": "REMOVE", "dynamodb": {}},
        {"eventName": "INSERT", "dynamodb": {"NewImage": image | {"sk": {"S": "a#payment"}}}},
        {"eventName": "INSERT", "dynamodb": {"NewImage": {"pk": image["pk"], "sk": {"S": "jnl#1"}}}},
        {},
    ]
    assert workers.relay({"Records": others}, CONTEXT) == {"sent": 0}
    assert workers.relay({"Records": [created]}, CONTEXT) == {"sent": 2}
    assert (len(world.queues["notifications"]), len(world.queues["projections"])) == (1, 1)


def test_an_event_that_asks_for_work_reaches_the_operations_queue_with_ids_only(world: World) -> None:
    made = pay(world)
    world.run(horizon=60)
    _, refund = operations.refund(
        world.kit,
        TENANT,
        made.payment.id,
        100,
        "wrong size",
        Idem("mer_01TEST/test/refund", "f", 201, lambda _: {}, 1000),
        by=ACTOR,
    )
    assert workers.relay({"Records": world.stream}, CONTEXT)["sent"] == 3
    (message,) = world.queues["operations"]
    assert json.loads(message.body) == {
        "merchant_id": TENANT.merchant_id,
        "mode": TENANT.mode,
        "subject_id": made.payment.id,
        "operation_id": refund.id,
    }


def test_a_batch_of_any_size_is_sent_ten_by_ten(world: World) -> None:
    pay(world)
    created = world.stream[0]
    assert workers.relay({"Records": [created] * 25}, CONTEXT) == {"sent": 50}
    assert len(world.queues["notifications"]) == 25


# -- the workflow's tasks ----------------------------------------------------------------------------


def test_a_task_answers_with_data_and_whole_seconds(world: World) -> None:
    made = pay(world)
    event = {"merchant_id": TENANT.merchant_id, "mode": TENANT.mode, "payment_id": made.payment.id, "run": 1}
    assert workflow.attempt(event, CONTEXT) == {"outcome": "done", "wait_seconds": 0}
    assert workflow.resolve(event, CONTEXT) == {"outcome": "done", "wait_seconds": 0}


def test_a_wait_is_rounded_up_because_the_workflow_waits_whole_seconds(world: World) -> None:
    made = pay(world, "timeout_before@sim")
    event = {"merchant_id": TENANT.merchant_id, "mode": TENANT.mode, "payment_id": made.payment.id, "run": 1}
    answer = workflow.attempt(event, CONTEXT)
    assert answer["outcome"] == "resolve"
    assert type(answer["wait_seconds"]) is int
    assert answer["wait_seconds"] >= world.kit.timing.resolve[0]


@pytest.mark.parametrize("error", [None, {}, {"Error": "States.Timeout"}, {"Error": "E", "Cause": "c" * 5000}])
def test_park_takes_any_error_that_the_workflow_gives_it(world: World, error: Any) -> None:
    made = pay(world)
    event = {
        "merchant_id": TENANT.merchant_id,
        "mode": TENANT.mode,
        "payment_id": made.payment.id,
        "run": 1,
        "error": error,
    }
    assert workflow.park(event, CONTEXT) == {"outcome": "done", "wait_seconds": 0}
    assert payments.get(world.kit, TENANT, made.payment.id).needs_attention


# -- entrypoint --------------------------------------------------------------------------------------


def test_an_error_is_logged_and_rises() -> None:
    @entrypoint
    def breaks(_: Any, __: Any) -> None:
        raise LookupError("missing")

    with pytest.raises(LookupError):
        breaks({}, None)


def test_a_wrapped_handler_keeps_its_name_and_its_answer() -> None:
    @entrypoint
    def adds(event: int, _: Any) -> int:
        return event + 1

    assert (adds.__name__, adds(1, None)) == ("adds", 2)


def source_of(module: ModuleType) -> str:
    assert module.__file__ is not None
    return Path(module.__file__).read_text(encoding="utf-8")


def _handlers(module: ModuleType) -> list[str]:
    """The functions a module registers with Chalice."""
    return re.findall(r'\.lambda_function\(name="(\w+)"\)\n@entrypoint\ndef \1\(', source_of(module))


def test_every_function_is_wrapped_by_entrypoint() -> None:
    for module in (workers, workflow):
        registered = re.findall(r'lambda_function\(name="(\w+)"\)', source_of(module))
        assert _handlers(module) == registered
    assert len(_handlers(workers)) + len(_handlers(workflow)) == 11


# -- in a process of its own -------------------------------------------------------------------------


def run(code: str, **environment: str) -> list[str]:
    """The lines that a fresh process prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60,
        env=child_environment(**(aws.ENVIRONMENT | {"POWERTOOLS_LOG_LEVEL": "INFO"} | environment)),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.mark.parametrize("module", ["chalicelib.workers", "chalicelib.workflow"])
def test_a_module_imports_alone_without_an_environment_and_without_a_line(module: str) -> None:
    names = _handlers(importlib.import_module(module))
    code = f"import {module} as m; assert all(callable(getattr(m, n)) for n in {names})"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60,
        env={name: value for name, value in child_environment().items() if not name.startswith("AWS_")},
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


INVOKE = """
from types import SimpleNamespace
from chalicelib import wiring, workers
wiring.install(SimpleNamespace())
workers.relay({"Records": []}, SimpleNamespace(aws_request_id="req_77"))
"""


def test_an_invocation_leaves_one_line_of_json_with_its_function_and_request() -> None:
    (line,) = run(INVOKE, POWERTOOLS_SERVICE_NAME="railyard-dev")
    logged = json.loads(line)
    assert (logged["level"], logged["message"]) == ("INFO", "relay done")
    assert (logged["function"], logged["request_id"]) == ("relay", "req_77")
    assert logged["timestamp"].endswith(("Z", "+0000"))


def test_keys_of_one_invocation_do_not_leak_into_the_next() -> None:
    lines = run(INVOKE + INVOKE.replace("req_77", "req_78"))
    assert [json.loads(line)["request_id"] for line in lines] == ["req_77", "req_78"]


LIFE = """
import os
from chalicelib.services import operations, payments
from chalicelib.services.idempotency import Idem
from chalicelib.services.payments import NewPayment
from tests.support.access import ACTOR
from tests.support.world import TENANT, World
with World() as world:
    os.environ["POWERTOOLS_METRICS_DISABLED"] = "false"
    for n, vpa in enumerate(["asha.success@sim", "success@sim", "decline@sim", "timeout_after@sim", "action@sim", "technical@sim"]):
        wish = NewPayment(149_900, "INR", {"type": "upi", "vpa": vpa}, customer={"email": "asha@canary.example",
                          "contact": "+919876543210", "country": "IN", "ip": "203.0.113.77"}, description="Blue sari",
                          metadata={"note": "for Priya"})
        made = payments.create(world.kit, TENANT, wish, Idem(f"mer_01TEST/test/idem-key-{n}", "f", 201, lambda _: {"id": "x"}, 1000))
        world.run()
        if n == 1:
            operations.refund(world.kit, TENANT, made.payment.id, 100, "wrong size", Idem("mer_01TEST/test/r", "f", 201, lambda _: {}, 1000), by=ACTOR)
            world.run()
"""
PERSONAL = ["asha", "9876543210", "203.0.113.77", "Blue sari", "Priya", "@sim", "wrong size"]
SECRET = ["whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "secret_simulator", "Authorization", "Bearer"]


@pytest.fixture(scope="module")
def life() -> list[str]:
    """All that a few payments leave in the log, at the most talkative level."""
    return run(LIFE, POWERTOOLS_LOG_LEVEL="DEBUG", POWERTOOLS_SERVICE_NAME="railyard-dev")


def test_logs_hold_no_personal_details_and_no_secrets(life: list[str]) -> None:
    text = "\n".join(life)
    assert "payment.succeeded" in text  # we looked in the right place
    for word in (*PERSONAL, *SECRET):
        assert word not in text, word


def test_every_line_of_the_log_is_json(life: list[str]) -> None:
    lines = [json.loads(line) for line in life]
    assert all("_aws" in line or {"level", "message", "timestamp"} <= set(line) for line in lines)


def test_metrics_are_emf_with_units_and_only_low_cardinality_dimensions(life: list[str]) -> None:
    emitted = [line for line in map(json.loads, life) if "_aws" in line]
    names = set()
    for line in emitted:
        for directive in line["_aws"]["CloudWatchMetrics"]:
            assert directive["Namespace"] == "Railyard"
            for definition in directive["Metrics"]:
                names.add(definition["Name"])
                assert definition["Unit"] in ("Count", "Milliseconds", "Seconds")
                assert definition["Name"] in line
            for dimensions in directive["Dimensions"]:
                assert "service" in dimensions
                for dimension in dimensions:
                    assert not re.search(r"pay_|mer_|att_|evt_|@", line[dimension]), line
    assert {"PaymentTransition", "ProviderCall", "ProviderLatency", "WebhookDelivery"} <= names
