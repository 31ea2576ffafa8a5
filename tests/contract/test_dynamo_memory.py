"""DynamoDB in memory (tests/support/dynamo.py) answers as moto and as the emulator do.

The traffic of whole scenarios, races and refusals among it, is recorded and sent to both; every
answer must be equal, number formats apart.
"""

from __future__ import annotations

from base64 import b64decode
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from tests.faults.play import Play
from tests.faults.runner import run
from tests.faults.scenarios import SCENARIOS
from tests.support import aws
from tests.support.aws import PREFIX
from tests.support.dynamo import Refused, UnknownExpression, condition, update
from tests.support.emulator import running_emulator
from tests.support.world import TENANT, Fault, World

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.xdist_group("stand-ins")

_SCENARIOS = (
    "create_and_wait", "create_replaces_and_the_first_succeeds_late", "refund_for_order", "delivery_message_lost",
    "expiry_of_order",
)  # fmt: skip
_SHOWN = ("Item", "Items", "Attributes", "Responses", "Count", "LastEvaluatedKey")

Traffic = list[tuple[str, dict[str, Any], dict[str, Any]]]


def recorded() -> dict[str, Traffic]:
    """What each scenario sends to DynamoDB, and what it is told."""
    found: dict[str, Traffic] = {}

    def keep(name: str) -> Any:
        def prepare(world: World) -> None:
            world.traffic = found[name] = []

        return prepare

    for name in _SCENARIOS:
        assert not run(SCENARIOS[name], None, keep(name)).problems
    scenario = SCENARIOS["create_for_order"]
    points = run(scenario).points
    for where in ("request", "notify"):  # a twin there meets conditions that fail and transactions that are canceled
        at = next(n for n, point in enumerate(points) if point.where == where and not point.is_read)
        run(scenario, Fault(at + (where == "notify"), "twin"), keep(f"twin of {where}"))
    with World() as world:
        world.traffic = found["lists"] = []
        play = Play(world)
        order_id = play.order()
        payment_id = play.create()
        for _ in range(4):
            play.create()
        play.create(order_id=order_id)
        play.settle()
        play.refund(payment_id)
        play.settle()
        queries = world.kit.queries
        cursor = None
        for _ in range(4):
            _, cursor = queries.payments(TENANT, limit=2, cursor=cursor)
        queries.payments(TENANT, limit=10, cursor=None, status="succeeded")
        queries.payments(TENANT, limit=10, cursor=None, order_id=order_id)
        queries.orders(TENANT, limit=10, cursor=None)
        queries.refunds(TENANT, limit=1, cursor=None)
        queries.events(TENANT, payment_id, after=1, limit=2)
    return found


@pytest.fixture(scope="module")
def traffic() -> dict[str, Traffic]:
    return recorded()


@pytest.fixture(scope="module", params=["moto", "emulator"])
def client(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    aws.set_environment()
    if request.param == "moto":
        with mock_aws():
            aws.create_tables()
            yield boto3.client("dynamodb")
    else:
        with running_emulator(tmp_path_factory.mktemp("emulator")) as endpoint:
            aws.create_tables(endpoint)
            yield boto3.client("dynamodb", endpoint_url=endpoint)


def _sent(value: Any) -> Any:
    """A JSON body as boto3 takes it: binary as bytes."""
    if isinstance(value, dict):
        return {k: b64decode(v) if k == "B" and isinstance(v, str) else _sent(v) for k, v in value.items()}
    return [_sent(v) for v in value] if isinstance(value, list) else value


def _comparable(value: Any) -> Any:
    """An answer with one spelling of each number."""
    if isinstance(value, dict):
        return {k: Decimal(v).normalize() if k == "N" else _comparable(v) for k, v in value.items()}
    return [_comparable(v) for v in value] if isinstance(value, list) else value


def _told(answer: dict[str, Any]) -> dict[str, Any]:
    """What of an answer matters."""
    if "Error" in answer:
        reasons = [reason["Code"] for reason in answer.get("CancellationReasons", ())]
        return {"error": answer["Error"]["Code"], "reasons": reasons}
    told = {name: _comparable(answer[name]) for name in _SHOWN if name in answer}
    for name, rows in told.get("Responses", {}).items():  # in any order
        told["Responses"][name] = sorted(rows, key=str)
    return told


def _play_back(client: Any, operation: str, body: dict[str, Any]) -> dict[str, Any]:
    method = getattr(client, "".join("_" + c.lower() if c.isupper() else c for c in operation).lstrip("_"))
    try:
        answer: dict[str, Any] = method(**_sent(body))
    except ClientError as error:
        return dict(error.response)
    return answer


def _empty(client: Any) -> None:
    for definition in aws.table_definitions():
        table = definition["TableName"]
        for page in client.get_paginator("scan").paginate(TableName=table, ProjectionExpression="pk, sk"):
            for key in page["Items"]:
                client.delete_item(TableName=table, Key=key)


def test_every_answer_is_the_same(client: Any, traffic: dict[str, Traffic]) -> None:
    operations = set()
    for name, calls in traffic.items():
        _empty(client)
        for number, (operation, body, answer) in enumerate(calls):
            operations.add(operation)
            told, theirs = _told(answer), _told(_play_back(client, operation, body))
            if "Limit" in body and len(told["Items"]) == body["Limit"]:
                # Whether an exactly full page is the last one is only known to the next.
                told.pop("LastEvaluatedKey", None)
                theirs.pop("LastEvaluatedKey", None)
            assert told == theirs, f"{name}, call {number}: {operation} {body}"
    assert operations == {"GetItem", "BatchGetItem", "Query", "PutItem", "UpdateItem", "TransactWriteItems"}
    errors = [answer["Error"]["Code"] for calls in traffic.values() for *_, answer in calls if "Error" in answer]
    assert {"ConditionalCheckFailedException", "TransactionCanceledException"} == set(errors)


def test_what_it_does_not_know_it_refuses() -> None:
    for expression in ("attribute_type(#0, :0)", "#0 LIKE :0", "size(#0) > :0"):
        with pytest.raises(UnknownExpression):
            condition(expression)
    with pytest.raises(UnknownExpression):
        update("DELETE #0 :0")


def test_keys_have_their_types() -> None:
    with World() as world:
        table = world.dynamo.tables[f"{PREFIX}-payments"]
        with pytest.raises(Refused):
            table.put({"pk": {"S": "a"}, "sk": {"S": "b"}, "due_pk": {"S": "due/0"}, "due_at": {"S": "1"}})
        with pytest.raises(Refused):
            table.put({"pk": {"S": ""}, "sk": {"S": "b"}})
