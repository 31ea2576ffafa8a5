"""Looks for marked values on a running stack, through AWS's own interfaces, and in what it leaves on the disk."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import boto3

from infra.settings import REGION
from tests.support import search
from tests.support.marks import SEARCHED, SECRETS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.marks import Marks
    from tests.support.search import Find

_MANY = 10
# What the stack shows to the person whose machine it is, and to nobody else: the keys to play with.
_GIVEN = ("API key", "webhook secret")
# Of the bank's memory only what no bank may keep: its keys and its customers are its own.
_FORBIDDEN_TO_BANKS = ("card number", "CVV")
_KEYS = ("seed.json", "local.json")  # 0600
_CODE = ("build/", "tmp/")  # what was deployed, once more: it is searched as an object in S3
_BANK = "state/bank.pickle"
_TERMINAL = "run.log"  # what `make run` prints
_LOGS = ("logs/", "state/cloudwatch_logs.json")


class StackSearch:
    """Searches a stack, and counts what it has looked at by service, so that an empty search can be told."""

    def __init__(self, endpoint: str | None) -> None:
        """``endpoint`` of the emulator, or None for moto in this process."""
        self._session = boto3.session.Session("test", "test", region_name=REGION)
        self._endpoint = endpoint
        self.looked_at: Counter[str] = Counter()

    def finds(self) -> list[Find]:
        """Every marked value in tables, queues, objects, executions and CloudWatch's log groups."""
        services: dict[str, tuple[Callable[[], Iterator[tuple[str, bytes]]], Marks]] = {
            "rows": (self._rows, SEARCHED),
            "messages": (self._messages, SEARCHED),
            "objects": (self._objects, SEARCHED),
            "executions": (self._executions, SEARCHED),
            "log events": (self._log_events, SEARCHED),
        }
        found: list[Find] = []
        for service, (texts, wanted) in services.items():
            for where, raw in texts():
                self.looked_at[service] += 1
                found += search.in_bytes(where, raw, wanted)
        return found

    def _client(self, service: str) -> Any:
        return self._session.client(service, endpoint_url=self._endpoint)  # type: ignore[call-overload]

    def _pages(self, client: Any, operation: str, **wish: Any) -> Iterator[Any]:
        yield from client.get_paginator(operation).paginate(**wish)

    def _rows(self) -> Iterator[tuple[str, bytes]]:
        client = self._client("dynamodb")
        for name in client.list_tables()["TableNames"]:
            for page in self._pages(client, "scan", TableName=name):
                for item in page["Items"]:
                    yield from ((name, text.encode()) for text in search.row_texts(item))

    def _messages(self) -> Iterator[tuple[str, bytes]]:
        """What can be received now; what is held back or in somebody's hands is in the emulator's state."""
        client = self._client("sqs")
        for page in self._pages(client, "list_queues"):
            for url in page.get("QueueUrls", ()):
                wish = {
                    "MessageSystemAttributeNames": ["All"],
                    "MessageAttributeNames": ["All"],
                    "VisibilityTimeout": 60,  # seen once is enough
                    "WaitTimeSeconds": 0,  # and not as long as our queues let one wait
                }
                while batch := client.receive_message(QueueUrl=url, MaxNumberOfMessages=_MANY, **wish).get("Messages"):
                    yield from ((url.rpartition("/")[2], json.dumps(message).encode()) for message in batch)

    def _objects(self) -> Iterator[tuple[str, bytes]]:
        client = self._client("s3")
        for bucket in client.list_buckets()["Buckets"]:
            for page in self._pages(client, "list_objects_v2", Bucket=bucket["Name"]):
                for each in page.get("Contents", ()):
                    body = client.get_object(Bucket=bucket["Name"], Key=each["Key"])["Body"].read()
                    yield f"s3/{each['Key']}", body

    def _executions(self) -> Iterator[tuple[str, bytes]]:
        client = self._client("stepfunctions")
        for machine in client.list_state_machines()["stateMachines"]:
            for page in self._pages(client, "list_executions", stateMachineArn=machine["stateMachineArn"]):
                for each in page["executions"]:
                    arn = each["executionArn"]
                    yield each["name"], str(client.describe_execution(executionArn=arn)).encode()
                    for history in self._pages(client, "get_execution_history", executionArn=arn):
                        yield each["name"], str(history["events"]).encode()

    def _log_events(self) -> Iterator[tuple[str, bytes]]:
        client = self._client("logs")
        for groups in self._pages(client, "describe_log_groups"):
            for group in groups["logGroups"]:
                name = group["logGroupName"]
                for page in self._pages(client, "filter_log_events", logGroupName=name):
                    yield name, "\n".join(event["message"] for event in page["events"]).encode()


def in_home(home: Path) -> list[Find]:
    """The marked values in what a stopped stack has left: the emulator's state and everybody's logs."""
    found = search.in_files(home, SEARCHED, spared=(*_KEYS, *_CODE, *_LOGS, _BANK, _TERMINAL))
    found += search.in_files(home, SEARCHED, only=_LOGS)
    found += search.in_files(home, SECRETS - _of(*_GIVEN), only=(_TERMINAL,))
    return found + search.in_files(home, _of(*_FORBIDDEN_TO_BANKS), only=(_BANK,))


def _of(*kinds: str) -> Marks:
    return frozenset(mark for mark in SECRETS if mark.kind in kinds)
