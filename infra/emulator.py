"""The embedded AWS emulator (ministack): start, stop, and keep what it holds over a restart.

Stock behaviour only; three of its gaps are closed from outside, all about a restart (measured on 1.5.33):

* It persists how far each mapping has read a table's stream, but not the stream. After a restart the relay would
  sleep through as many events as were read before, and the records that nobody had read yet would be gone. On
  AWS a stream keeps 24 hours. So before a stop everything is frozen (reserved concurrency 0, workers ended), the
  records that the relay has not read are set aside, and after the start they are given to the relay.
* State is written at a graceful stop only. After anything else what lies on disk is older than what the sandbox
  bank remembers, so it is thrown away.
* Queues are kept by URLs with the port of the run that made them. On another port messages would be sent there
  and read nowhere, so the URLs are moved along.
"""

from __future__ import annotations

import base64
import json
import re
import shutil
import signal
import sys
import time
from contextlib import suppress
from os import kill
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from infra.processes import Child, LocalStackError, descendants
from infra.settings import HOST, REGION, child_environment

if TYPE_CHECKING:
    from pathlib import Path

    from infra.settings import LocalSettings

# Of a queue's URL what comes before the account.
_QUEUE_EDGE = re.compile(rf"http://{re.escape(HOST)}:\d+/(?=\d{{12}}/)")
_STREAM_KEPT_SECONDS = 23 * 3600
_REPLAY_SECONDS = 600
_RELAY_BATCH = 100
# Every worker is a process of 50-60 MB. The sum of the bounds in .chalice/config.json and infra/resources.yaml
# is 58; this is the net under it.
_ACCOUNT_CONCURRENCY = "64"


class Emulator:
    """One emulator process on 127.0.0.1 with its state under the home directory."""

    def __init__(self, settings: LocalSettings) -> None:
        """Nothing starts yet."""
        self._settings = settings
        self.state = settings.home / "state"
        self._running = settings.home / "state.running"  # there from start to graceful stop
        self._unrelayed = self.state / "unrelayed.json"
        self._child: Child | None = None
        self._started = 0.0

    @property
    def pid(self) -> int | None:
        """The emulator's process id while it runs; its Lambda workers are its descendants."""
        return self._child.pid if self._child else None

    def start(self) -> bool:
        """Start it and wait until it answers. Says whether it came back with the state of an earlier run."""
        home = self._settings.home
        home.mkdir(parents=True, exist_ok=True)
        if self._running.exists():
            shutil.rmtree(self.state, ignore_errors=True)
        scratch = home / "tmp"
        shutil.rmtree(scratch, ignore_errors=True)
        for directory in (self.state, scratch):
            directory.mkdir(parents=True, exist_ok=True)
        tables = self.state / "dynamodb.json"
        kept = tables.exists() and b"railyard" in tables.read_bytes()
        self._forget_stream_positions()
        self._move_queues()
        self._running.touch()
        env = child_environment(
            BIND_HOST=HOST,
            GATEWAY_PORT=str(self._settings.emulator_port),
            MINISTACK_HOST=HOST,
            MINISTACK_REGION=REGION,
            PERSIST_STATE="1",
            STATE_DIR=str(self.state),
            S3_PERSIST="1",
            S3_DATA_DIR=str(self.state / "s3"),
            TMPDIR=str(scratch),  # Lambda workers unpack themselves here
            LAMBDA_ACCOUNT_CONCURRENCY=_ACCOUNT_CONCURRENCY,
            LOG_LEVEL="INFO",
            PYTHONUNBUFFERED="1",
        )
        log = self._settings.logs / "emulator.log"
        log.unlink(missing_ok=True)
        self._child = Child("the AWS emulator", [sys.executable, "-m", "ministack"], env=env, cwd=home, log=log)
        self._started = time.monotonic()
        self._child.wait_healthy(f"{self._settings.endpoint}/_ministack/health")
        return kept

    def relay_leftovers(self, relay_function: str) -> int:
        """Give the relay what it had not read when the emulator stopped; returns the number of records."""
        if not self._unrelayed.exists():
            return 0
        records = json.loads(self._unrelayed.read_text())
        client = self._client("lambda")
        for first in range(0, len(records), _RELAY_BATCH):
            answer = client.invoke(
                FunctionName=relay_function,
                Payload=json.dumps({"Records": records[first : first + _RELAY_BATCH]}).encode(),
            )
            if "FunctionError" in answer:
                message = f"the relay refused the events left over from the last run: {answer['Payload'].read()!r}"
                raise LocalStackError(message)
        self._unrelayed.unlink()
        return len(records)

    def stop(self, *, stream_table: str | None = None) -> None:
        """Stop it gracefully, so that it keeps its state; ``stream_table`` names the table behind the relay."""
        if self._child is None:
            return
        records: list[dict[str, Any]] | None = None
        if stream_table is not None and self._child.process.poll() is None:
            with suppress(BotoCoreError, ClientError):  # a stop during a failed start has nothing to keep
                self._freeze()
                records = self._stream_records(stream_table)
        uptime = time.monotonic() - self._started
        graceful = self._child.stop(seconds=60) and self._child.process.returncode == 0
        self._child = None
        if graceful:
            if records is not None:
                self._set_aside(records, uptime)
            self._running.unlink(missing_ok=True)

    def _client(self, service: str) -> Any:
        return boto3.session.Session("test", "test", region_name=REGION).client(
            service,  # type: ignore[call-overload]
            endpoint_url=self._settings.endpoint,
            config=Config(connect_timeout=2, read_timeout=30, retries={"max_attempts": 1}),
        )

    def _freeze(self) -> None:
        """Let no function start, give the running ones a moment, and end their workers."""
        client = self._client("lambda")
        for page in client.get_paginator("list_functions").paginate():
            for function in page["Functions"]:
                client.put_function_concurrency(FunctionName=function["FunctionName"], ReservedConcurrentExecutions=0)
        time.sleep(1.0)
        workers = descendants(self._child.pid) if self._child else []
        for name in (signal.SIGTERM, signal.SIGKILL):
            for worker in workers:
                with suppress(ProcessLookupError):
                    kill(worker, name)
            time.sleep(0.2)

    def _stream_records(self, table: str) -> list[dict[str, Any]]:
        """Read the whole stream of ``table``, in the form in which Lambda gets it."""
        arn = self._client("dynamodb").describe_table(TableName=table)["Table"]["LatestStreamArn"]
        streams = self._client("dynamodbstreams")
        found: list[dict[str, Any]] = []
        for shard in streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]:
            iterator = streams.get_shard_iterator(
                StreamArn=arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
            )["ShardIterator"]
            while iterator:
                page = streams.get_records(ShardIterator=iterator, Limit=1000)
                for record in page["Records"]:
                    created = record["dynamodb"]["ApproximateCreationDateTime"].timestamp()
                    found.append(
                        {
                            **record,
                            "eventSourceARN": arn,
                            "dynamodb": {**record["dynamodb"], "ApproximateCreationDateTime": created},
                        }
                    )
                iterator = page.get("NextShardIterator") if page["Records"] else None
        return found

    def _set_aside(self, records: list[dict[str, Any]], uptime: float) -> None:
        """Keep the records behind the relay's position, which the emulator has just written."""
        positions = self._positions()
        if uptime < _STREAM_KEPT_SECONDS and len(positions) == 1:
            left = records[next(iter(positions.values())) :]
        else:  # positions count records that are no longer there
            since = time.time() - _REPLAY_SECONDS
            left = [record for record in records if record["dynamodb"]["ApproximateCreationDateTime"] >= since]
        if self._unrelayed.exists():  # this run ended before it could pass on the last run's
            left = json.loads(self._unrelayed.read_text()) + left
        if left:
            self._unrelayed.write_text(json.dumps(left, default=lambda value: base64.b64encode(value).decode()))

    def _lambda_state(self) -> Path:
        return self.state / "lambda.json"

    def _positions(self) -> dict[str, int]:
        if not self._lambda_state().exists():
            return {}
        state = json.loads(self._lambda_state().read_text())
        positions: dict[str, int] = state["payload"]["dynamodb_stream_positions"]["data"]
        return positions

    def _move_queues(self) -> None:
        """Let the queues' URLs, which name the port, name the one of this run wherever they were noted."""
        for file in self.state.glob("*.json"):
            before = file.read_text()
            after = _QUEUE_EDGE.sub(f"{self._settings.endpoint}/", before)
            if after != before:
                file.write_text(after)

    def _forget_stream_positions(self) -> None:
        if self._positions():
            state = json.loads(self._lambda_state().read_text())
            state["payload"]["dynamodb_stream_positions"]["data"] = {}
            self._lambda_state().write_text(json.dumps(state))
