"""Lambda workers killed while 100 payments are in flight, and a stop and start with 50: all must end, and
the bank must agree charge by charge. Run by `make test-crash` (about four minutes)."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import boto3

from infra.processes import descendants
from infra.settings import REGION
from tests.e2e.conftest import free_port_base
from tests.support.stack import FINAL, Client, LocalStack, eventually, running_stack

if TYPE_CHECKING:
    import pytest

_KILL_SECONDS = 30.0
_KILL_EVERY = 0.5
_COLD_START = 3.0  # seconds, generously
_PAYMENTS = 100
_AT_THE_STOP = 80  # payments created right before it: at least 50 of them must still be open
_VPAS = ("success@sim",) * 6 + ("timeout_after@sim", "late_success@sim", "pending_success@sim", "technical@sim")


def _function_of(pid: int) -> str | None:
    """The Lambda function a process runs, by its environment."""
    with suppress(OSError):
        for entry in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            name, _, value = entry.partition(b"=")
            if name == b"AWS_LAMBDA_FUNCTION_NAME":
                return value.decode().rsplit("-", 1)[1]
    return None


def _age(pid: int) -> float:
    """Seconds since a process began."""
    with suppress(OSError):
        began = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
        return float(Path("/proc/uptime").read_text().split()[0]) - began
    return 0.0


def _workers(client: Client) -> dict[str, list[int]]:
    """Living Lambda workers by function; the emulator itself is not among them.

    Only those that have finished their cold start: when one dies before that, the emulator kills all
    workers of its function, those still starting included, and so on for ever.
    """
    found: dict[str, list[int]] = {}
    for pid in descendants(client.local["emulator_pid"]):
        name = _function_of(pid)
        if name is not None and _age(pid) > _COLD_START:
            found.setdefault(name, []).append(pid)
    return found


def _kill_for(client: Client, seconds: float, chance: random.Random) -> Counter[str]:
    """Kill a random worker every half second; those that talk to providers come up more often."""
    killed: Counter[str] = Counter()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        workers = _workers(client)
        if workers:
            names = [
                n for n in workers for _ in range(6 if n in ("attempt", "resolve") else 2 if n == "operate" else 1)
            ]
            name = chance.choice(names)
            with suppress(ProcessLookupError):
                os.kill(chance.choice(workers[name]), signal.SIGKILL)
                killed[name] += 1
        time.sleep(_KILL_EVERY)
    return killed


def _stubborn(client: Client, vpa: str, **fields: Any) -> str:
    """Create a payment as a careful merchant does: the same key until there is an answer."""
    key = uuid4().hex

    def create() -> Any:
        answer = client.pay(vpa, key=key, **fields)
        if answer.status == 201:
            return answer.json["id"]
        assert answer.status in (409, 429, 500, 502, 503, 504), (answer.status, answer.body)
        time.sleep(1.0)
        return None

    identifier: str = eventually(create, 60, "the payment could not be created")
    return identifier


def _look(client: Client, path: str) -> Any:
    """GET, as often as killed workers make it necessary."""
    return eventually(
        lambda: next((a.json for a in [client.request("GET", path)] if a.status == 200), None),
        60,
        f"{path} not readable",
    )


def _open(client: Client, identifiers: list[str]) -> list[str]:
    """The payments that are not over yet, their operations included."""
    left = []
    for identifier in identifiers:
        payment = _look(client, f"/v1/payments/{identifier}")
        operations = _look(client, f"/v1/payments/{identifier}/operations")["data"]
        if payment["status"] not in FINAL or any(o["status"] in ("pending", "sent", "unknown") for o in operations):
            left.append(identifier)
    return left


def _failed_tasks(client: Client) -> Counter[str]:
    """How often a task of each payment's workflow died, by the executions' own histories."""
    stepfunctions = boto3.client(
        "stepfunctions", endpoint_url=client.local["aws_endpoint_url"], region_name=REGION,
        aws_access_key_id="test", aws_secret_access_key="test",
    )  # fmt: skip
    (machine,) = stepfunctions.list_state_machines()["stateMachines"]
    deaths: Counter[str] = Counter()
    for page in stepfunctions.get_paginator("list_executions").paginate(stateMachineArn=machine["stateMachineArn"]):
        for execution in page["executions"]:
            history = stepfunctions.get_execution_history(executionArn=execution["executionArn"], maxResults=1000)
            causes = [event.get("taskFailedEventDetails", {}).get("cause", "") for event in history["events"]]
            deaths[execution["name"].rsplit("-", 1)[0]] += sum("orker" in cause for cause in causes)
    return deaths


def _check_all(client: Client, identifiers: list[str]) -> Counter[str]:
    statuses: Counter[str] = Counter()
    for identifier in identifiers:
        payment = client.get(f"/v1/payments/{identifier}")
        client.check_story(payment)
        statuses[payment["status"]] += 1
    return statuses


def test_100_payments_survive_killed_workers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chance = random.Random(20261121)
    with running_stack(tmp_path, free_port_base()) as client:
        # Slow enough that a worker is nearly always in the middle of a call.
        for provider in ("simulator", "razorpay", "simulator_b"):
            client.bank("/_chaos", {"provider": provider, "latency_ms": {"min": 500, "max": 1500}})
        with ThreadPoolExecutor(20) as pool:
            creating = [pool.submit(_stubborn, client, chance.choice(_VPAS)) for _ in range(_PAYMENTS)]
            killed = _kill_for(client, _KILL_SECONDS, chance)
            last_kill = time.monotonic()
            identifiers = [future.result() for future in creating]
        left = list(identifiers)

        def none_left() -> bool:
            left[:] = _open(client, left)
            return not left

        eventually(none_left, 120 - (time.monotonic() - last_kill), "payments are still open")
        took = time.monotonic() - last_kill
        deaths = _failed_tasks(client)
        statuses = _check_all(client, identifiers)
        twice = [identifier for identifier in identifiers if deaths[identifier] >= 2]
        with capsys.disabled():
            print(
                f"\n{sum(killed.values())} workers killed ({dict(killed)}); {sum(deaths.values())} workflow tasks died, "
                f"{len(twice)} payments were hit at least twice; all final {took:.0f} s after the last kill: {dict(statuses)}"
            )
        assert twice, "no payment was hit twice"
        assert sum(statuses.values()) == _PAYMENTS


def test_50_payments_in_flight_survive_a_stop_and_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chance = random.Random(20261121)
    stack = LocalStack(tmp_path, free_port_base())
    try:
        client = stack.start()
        for provider in ("simulator", "razorpay", "simulator_b"):
            client.bank("/_chaos", {"provider": provider, "latency_ms": {"min": 2000, "max": 2800}})
        with ThreadPoolExecutor(40) as pool:
            identifiers = list(
                pool.map(lambda vpa: _stubborn(client, vpa), [chance.choice(_VPAS) for _ in range(_AT_THE_STOP)])
            )
        in_flight = len(_open(client, identifiers))
        stack.stop()
        client = stack.start()
        started = time.monotonic()
        left = list(identifiers)

        def none_left() -> bool:
            left[:] = _open(client, left)
            return not left

        eventually(none_left, 180, "payments are still open")
        took = time.monotonic() - started
        statuses = _check_all(client, identifiers)
        with capsys.disabled():
            print(f"\n{in_flight} in flight at the stop; all final {took:.0f} s after the start: {dict(statuses)}")
        assert in_flight >= 50
        assert sum(statuses.values()) == len(identifiers)
    finally:
        stack.stop()
