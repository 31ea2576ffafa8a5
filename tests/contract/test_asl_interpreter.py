"""The interpreter of tests/support/asl.py runs a state machine as the emulator's Step Functions does.

The same definitions, infra/payment.asl.json among them, with tasks that answer by the same script:
status, states visited and output must be equal. All executions run at once, so this takes seconds.
"""

from __future__ import annotations

import io
import json
import time
import zipfile
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from tests.support.asl import DEFINITION, Execution, TaskFailed
from tests.support.emulator import running_emulator

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

pytestmark = pytest.mark.xdist_group("stand-ins")

ROLE = "arn:aws:iam::000000000000:role/any"
_TASKS = ("attempt", "resolve", "park")
_PATIENCE = 60.0  # real seconds for all executions together

# The event's ``payment_id`` names the script: what each task answers, call by call; "crash" raises.
CODE = """
import json, os
def handler(event, context):
    task = os.environ["TASK"]
    script = json.loads(event["payment_id"])
    path = os.path.join(os.environ["FOLDER"], script["name"] + "." + task)
    with open(path, "a+") as calls:
        calls.write(".")
        calls.flush()
        number = calls.tell() - 1
    answer = script[task][min(number, len(script[task]) - 1)]
    if answer == "crash":
        raise RuntimeError("crash")
    return answer
"""


def _answer(outcome: str, wait: int = 0) -> dict[str, Any]:
    return {"outcome": outcome, "wait_seconds": wait}


@dataclass(frozen=True, slots=True)
class Case:
    """A definition and what its tasks answer."""

    name: str
    definition: Mapping[str, Any]
    script: Mapping[str, Sequence[Any]]

    @property
    def input(self) -> dict[str, Any]:
        script = json.dumps({"name": self.name} | dict(self.script))
        return {"merchant_id": "mer_1", "mode": "test", "payment_id": script, "run": 1}


PAYMENT: dict[str, Any] = json.loads(DEFINITION.read_text(encoding="utf-8"))


def _task(**fields: Any) -> dict[str, Any]:
    return {"Type": "Task", "Resource": "${AttemptArn}", "ResultPath": "$.result", "Next": "End"} | fields


def _small(**states: Mapping[str, Any]) -> dict[str, Any]:
    return {"StartAt": next(iter(states)), "States": states | {"End": {"Type": "Succeed"}}}


CASES = [
    Case("done", PAYMENT, {"attempt": [_answer("done")]}),
    Case("retry", PAYMENT, {"attempt": [_answer("retry", 1), _answer("done")]}),
    Case("no wait", PAYMENT, {"attempt": [_answer("retry", 0), _answer("done")]}),
    Case("resolve", PAYMENT, {"attempt": [_answer("resolve", 1)], "resolve": [_answer("resolve", 0), _answer("done")]}),
    Case("resolved to another attempt", PAYMENT, {
        "attempt": [_answer("resolve"), _answer("done")], "resolve": [_answer("retry")],
    }),
    Case("crashes once", PAYMENT, {"attempt": ["crash", _answer("done")]}),
    Case("unexpected", PAYMENT, {"attempt": [_answer("nonsense")], "park": [_answer("done")]}),
    Case(
        "caught",
        _small(
            Work=_task(
                Retry=[
                    {"ErrorEquals": ["Lambda.TooManyRequestsException"], "MaxAttempts": 9},
                    {"ErrorEquals": ["States.ALL"], "IntervalSeconds": 1, "MaxAttempts": 1, "BackoffRate": 1},
                ],
                Catch=[{"ErrorEquals": ["States.ALL"], "ResultPath": "$.error", "Next": "Failed"}],
            ),
            Failed={"Type": "Fail", "Error": "Parked", "Cause": "It kept crashing."},
        ),
        {"attempt": ["crash"]},
    ),
    Case(
        "caught and gone on",
        _small(
            Work=_task(Catch=[{"ErrorEquals": ["States.ALL"], "ResultPath": "$.error", "Next": "Note"}]),
            Note={"Type": "Pass", "Result": {"noted": [1, 2]}, "ResultPath": "$.error", "Next": "End"},
        ),
        {"attempt": ["crash"]},
    ),
    Case("not caught", _small(Work=_task()), {"attempt": ["crash"]}),
    Case(
        "parameters",
        _small(
            Work=_task(
                Parameters={"payment_id.$": "$.payment_id", "constant": {"deep": [1]}, "all.$": "$"},
                ResultPath="$.deep.result",
            )
        ),
        {"attempt": [{"some": "thing"}]},
    ),
    Case("whole result", _small(Work=_task(ResultPath="$")), {"attempt": [{"some": "thing"}]}),
    Case(
        "choice",
        _small(
            Work=_task(),
            Which={
                "Type": "Choice",
                "Choices": [
                    {"Variable": "$.result.outcome", "StringEquals": "other", "Next": "End"},
                    {"Variable": "$.result.outcome", "StringEquals": "this", "Next": "Rest"},
                ],
                "Default": "End",
            },
            Rest={"Type": "Wait", "Seconds": 1, "Next": "Mark"},
            Mark={"Type": "Pass", "Next": "End"},
        )
        | {},
        {"attempt": [{"outcome": "this"}]},
    ),
]  # fmt: skip
CASES[-1].definition["States"]["Work"]["Next"] = "Which"


# -- the emulator --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, dict[str, Any]]]:
    """What the emulator made of every case: status, states, output."""
    with running_emulator(tmp_path_factory.mktemp("emulator")) as endpoint:
        session = boto3.session.Session("test", "test", region_name="us-east-1")
        functions = _functions(session.client("lambda", endpoint_url=endpoint), str(tmp_path_factory.mktemp("calls")))
        states = session.client("stepfunctions", endpoint_url=endpoint)
        started = {}
        for number, case in enumerate(CASES):
            definition = json.dumps(case.definition)
            for task, arn in functions.items():
                definition = definition.replace(f"${{{task.capitalize()}Arn}}", arn)
            machine = states.create_state_machine(name=f"case-{number}", definition=definition, roleArn=ROLE)
            execution = states.start_execution(
                stateMachineArn=machine["stateMachineArn"], name=f"run-{number}", input=json.dumps(case.input)
            )
            started[case.name] = execution["executionArn"]
        yield {name: _outcome(states, arn) for name, arn in started.items()}


def _functions(client: Any, folder: str) -> dict[str, str]:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as code:
        code.writestr("task.py", CODE)
    arns = {}
    for task in _TASKS:
        made = client.create_function(
            FunctionName=f"contract-{task}", Runtime="python3.11", Role=ROLE, Handler="task.handler",
            Code={"ZipFile": archive.getvalue()}, Environment={"Variables": {"TASK": task, "FOLDER": folder}}, Timeout=20,
        )  # fmt: skip
        arns[task] = made["FunctionArn"]
    return arns


def _outcome(client: Any, arn: str) -> dict[str, Any]:
    deadline = time.monotonic() + _PATIENCE
    while (found := client.describe_execution(executionArn=arn))["status"] == "RUNNING":
        assert time.monotonic() < deadline, f"{arn} does not end"
        time.sleep(0.1)
    history = client.get_execution_history(executionArn=arn, maxResults=1000)["events"]
    visited = [event["stateEnteredEventDetails"]["name"] for event in history if "stateEnteredEventDetails" in event]
    return {
        "status": found["status"], "states": visited,
        "output": json.loads(found["output"]) if found["status"] == "SUCCEEDED" else None,
    }  # fmt: skip


# -- the interpreter -----------------------------------------------------------------------------------


def interpret(case: Case) -> dict[str, Any]:
    """What the interpreter makes of a case."""
    calls: Counter[str] = Counter()

    def task(resource: str, event: dict[str, Any]) -> dict[str, Any]:
        name = resource.removeprefix("${").removesuffix("Arn}").lower()
        answers = json.loads(event["payment_id"])[name]
        answer = answers[min(calls[name], len(answers) - 1)]
        calls[name] += 1
        if answer == "crash":
            raise TaskFailed("Runtime.ExitError", "crash")
        return dict(answer)

    execution = Execution(case.definition, case.input, task)
    while execution.status == "RUNNING":
        execution.step(execution.wake_at)
    return {
        "status": execution.status,
        "states": execution.history,
        "output": execution.data if execution.status == "SUCCEEDED" else None,
    }


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_as_on_the_emulator(case: Case, served: dict[str, dict[str, Any]]) -> None:
    assert interpret(case) == served[case.name]


def test_the_payment_workflow_uses_what_is_tested() -> None:
    """Every state type and field of the real definition occurs in a case that ran."""
    visited = {state for case in CASES if case.definition is PAYMENT for state in interpret(case)["states"]}
    assert visited == set(PAYMENT["States"])
