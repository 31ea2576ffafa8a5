"""What we rely on of the embedded emulator, so that an upgrade that changes it shows here."""

from __future__ import annotations

import io
import json
import socket
import time
import zipfile
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from infra.emulator import Emulator
from infra.processes import descendants, port_is_free
from infra.settings import HOST, LocalSettings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TABLE = "railyard-contract-payments"
RELAY = "railyard-contract-relay"
ROLE = "arn:aws:iam::000000000000:role/any"
# Writes down the sort keys it is given; fails while the file "fail" is there.
CODE = """
import os, sys
def handler(event, context):
    print("relay", len(event["Records"]))
    folder = os.environ["FOLDER"]
    if os.path.exists(folder + "/fail"):
        raise RuntimeError("not now")
    with open(folder + "/seen", "a") as seen:
        for record in event["Records"]:
            seen.write(record["dynamodb"]["NewImage"]["sk"]["S"] + "\\n")
"""

pytestmark = pytest.mark.xdist_group("emulator")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def settings(tmp_path: Path) -> LocalSettings:
    return LocalSettings(_free_port(), 0, 0, 0, tmp_path / "home")


@pytest.fixture
def emulator(settings: LocalSettings) -> Iterator[Emulator]:
    made = Emulator(settings)
    assert made.start() is False
    yield made
    made.stop()


def client(settings: LocalSettings, service: str) -> Any:
    return boto3.session.Session("test", "test", region_name="us-east-1").client(
        service,  # type: ignore[call-overload]
        endpoint_url=settings.endpoint,
    )


def make_outbox(settings: LocalSettings, folder: Path) -> None:
    dynamodb, functions = client(settings, "dynamodb"), client(settings, "lambda")
    table = dynamodb.create_table(
        TableName=TABLE,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")],
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"},
    )["TableDescription"]
    code = io.BytesIO()
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("relay.py", CODE)
    functions.create_function(
        FunctionName=RELAY, Runtime="python3.11", Role=ROLE, Handler="relay.handler",
        Code={"ZipFile": code.getvalue()}, Environment={"Variables": {"FOLDER": str(folder)}},
    )  # fmt: skip
    functions.create_event_source_mapping(
        EventSourceArn=table["LatestStreamArn"], FunctionName=RELAY, StartingPosition="TRIM_HORIZON", BatchSize=100,
        FilterCriteria={"Filters": [{"Pattern": json.dumps(
            {"eventName": ["INSERT"], "dynamodb": {"Keys": {"sk": {"S": [{"prefix": "evt#"}]}}}})}]},
    )  # fmt: skip


def put(settings: LocalSettings, *keys: str) -> None:
    dynamodb = client(settings, "dynamodb")
    for key in keys:
        dynamodb.put_item(TableName=TABLE, Item={"pk": {"S": "p"}, "sk": {"S": key}, "blob": {"B": b"\x00\xff"}})


def until_seen(folder: Path, keys: set[str]) -> None:
    deadline = time.monotonic() + 20
    seen: set[str] = set()
    while time.monotonic() < deadline:
        if (folder / "seen").exists():
            seen = set((folder / "seen").read_text().split())
            if keys <= seen:
                return
        time.sleep(0.05)
    pytest.fail(f"the relay saw {seen}, not {keys - seen}")


def test_the_stream_is_filtered_comes_again_after_a_failure_and_survives_a_restart(
    settings: LocalSettings, emulator: Emulator, tmp_path: Path
) -> None:
    make_outbox(settings, tmp_path)
    put(settings, "payment", "evt#1")
    until_seen(tmp_path, {"evt#1"})
    (tmp_path / "fail").touch()
    put(settings, "evt#2")
    (tmp_path / "fail").unlink()
    until_seen(tmp_path, {"evt#2"})

    (tmp_path / "fail").touch()
    put(settings, "evt#3", "evt#4")
    emulator.stop(stream_table=TABLE)
    (tmp_path / "fail").unlink()
    assert "evt#3" not in (tmp_path / "seen").read_text()

    assert emulator.start() is True
    functions = client(settings, "lambda")
    frozen = functions.get_function_concurrency(FunctionName=RELAY)
    assert frozen["ReservedConcurrentExecutions"] == 0
    functions.delete_function_concurrency(FunctionName=RELAY)
    assert emulator.relay_leftovers(RELAY) >= 2
    assert emulator.relay_leftovers(RELAY) == 0
    put(settings, "evt#5")
    until_seen(tmp_path, {"evt#3", "evt#4", "evt#5"})
    assert "payment" not in (tmp_path / "seen").read_text()


def test_a_stop_leaves_no_process_and_no_port_behind(
    settings: LocalSettings, emulator: Emulator, tmp_path: Path
) -> None:
    make_outbox(settings, tmp_path)
    put(settings, "evt#1")
    until_seen(tmp_path, {"evt#1"})
    assert emulator.pid is not None
    workers = descendants(emulator.pid)
    assert workers
    emulator.stop(stream_table=TABLE)
    assert port_is_free(HOST, settings.emulator_port)
    assert not [worker for worker in workers if _alive(worker)]


def test_state_of_a_run_that_did_not_stop_gracefully_is_thrown_away(settings: LocalSettings, tmp_path: Path) -> None:
    first = Emulator(settings)
    first.start()
    make_outbox(settings, tmp_path)
    first.stop(stream_table=TABLE)
    (settings.home / "state.running").touch()  # what a crash leaves
    second = Emulator(settings)
    assert second.start() is False
    tables = client(settings, "dynamodb").list_tables()["TableNames"]
    second.stop()
    assert tables == []


def test_queues_move_along_when_the_next_run_has_another_port(settings: LocalSettings) -> None:
    first = Emulator(settings)
    first.start()
    client(settings, "sqs").create_queue(QueueName="railyard-contract")
    first.stop()
    moved = replace(settings, emulator_port=_free_port())
    second = Emulator(moved)
    second.start()
    try:
        sqs = client(moved, "sqs")
        url = sqs.get_queue_url(QueueName="railyard-contract")["QueueUrl"]
        assert url.startswith(moved.endpoint)
        sqs.send_message(QueueUrl=url, MessageBody="hello")
        assert [message["Body"] for message in sqs.receive_message(QueueUrl=url)["Messages"]] == ["hello"]
    finally:
        second.stop()


def _alive(pid: int) -> bool:
    return pid in descendants(1) or pid in descendants(0)
