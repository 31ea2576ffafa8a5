"""A small interpreter of the Amazon States Language: the state types that infra/payment.asl.json uses.

It runs under a virtual clock, one step at a time. That it agrees with a real service is held by
tests/contract/test_asl_interpreter.py, which runs the same definitions on the emulator.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

DEFINITION = Path(__file__).parents[2] / "infra" / "payment.asl.json"


class TaskFailed(Exception):
    """A task did not answer; ``error`` is the name that Retry and Catch match."""

    def __init__(self, error: str, cause: str) -> None:
        super().__init__(f"{error}: {cause}")
        self.error = error
        self.cause = cause


class UnsupportedState(Exception):
    """The definition uses something this interpreter does not know."""


def payment_definition() -> dict[str, Any]:
    """The real workflow, with each ``${AttemptArn}`` reduced to ``attempt``."""
    text = DEFINITION.read_text(encoding="utf-8")
    for name in ("Attempt", "Resolve", "Park"):
        text = text.replace(f"${{{name}Arn}}", name.lower())
    definition: dict[str, Any] = json.loads(text)
    return definition


@dataclass(slots=True)
class Execution:
    """One run of a definition. ``step`` does what is due; ``wake_at`` says when there is more to do."""

    definition: Mapping[str, Any]
    data: dict[str, Any]
    task: Callable[[str, dict[str, Any]], dict[str, Any]]  # raises TaskFailed
    name: str = ""
    wake_at: float = 0.0  # epoch seconds
    status: str = "RUNNING"
    history: list[str] = field(default_factory=list)
    _state: str = ""
    _retries: dict[int, int] = field(default_factory=dict)
    _waited: bool = False
    busy: bool = False  # a task of it is running

    def is_due(self, now: float) -> bool:
        """Whether ``step`` would do something."""
        return self.status == "RUNNING" and now >= self.wake_at and not self.busy

    def step(self, now: float) -> bool:
        """Do one state if it is due; False if the execution waits or is over."""
        if not self.is_due(now):
            return False
        self._state = self._state or self.definition["StartAt"]
        state = self.definition["States"][self._state]
        if not self.history or self.history[-1] != self._state:
            self.history.append(self._state)
        handler = getattr(self, f"_{state['Type'].lower()}", None)
        if handler is None:
            raise UnsupportedState(state["Type"])
        handler(state, now)
        return True

    def _go(self, target: str) -> None:
        self._state, self._retries, self._waited = target, {}, False

    def _task(self, state: Mapping[str, Any], now: float) -> None:
        self.busy = True
        try:
            result = self.task(state["Resource"], self._parameters(state))
        except TaskFailed as failure:
            self._failed(state, failure, now)
            return
        finally:
            self.busy = False
        self._put(state.get("ResultPath", "$"), result)
        self._go(state["Next"])

    def _failed(self, state: Mapping[str, Any], failure: TaskFailed, now: float) -> None:
        for index, retry in enumerate(state.get("Retry", ())):
            if _matches(retry["ErrorEquals"], failure.error):
                used = self._retries.get(index, 0)
                if used < retry.get("MaxAttempts", 3):
                    self._retries[index] = used + 1
                    wait = retry.get("IntervalSeconds", 1) * retry.get("BackoffRate", 2.0) ** used
                    self.wake_at = now + min(wait, retry.get("MaxDelaySeconds", wait))
                    return
                break
        for catch in state.get("Catch", ()):
            if _matches(catch["ErrorEquals"], failure.error):
                self._put(catch.get("ResultPath", "$"), {"Error": failure.error, "Cause": failure.cause})
                self._go(catch["Next"])
                return
        self.status = "FAILED"

    def _choice(self, state: Mapping[str, Any], _: float) -> None:
        for choice in state["Choices"]:
            if self._at(choice["Variable"]) == choice["StringEquals"]:
                self._go(choice["Next"])
                return
        self._go(state["Default"])

    def _wait(self, state: Mapping[str, Any], now: float) -> None:
        if self._waited:
            self._go(state["Next"])
            return
        seconds = self._at(state["SecondsPath"]) if "SecondsPath" in state else state["Seconds"]
        self.wake_at, self._waited = now + float(seconds), True

    def _pass(self, state: Mapping[str, Any], _: float) -> None:
        if "Result" in state:
            self._put(state.get("ResultPath", "$"), copy.deepcopy(state["Result"]))
        self._go(state["Next"])

    def _succeed(self, _: Mapping[str, Any], __: float) -> None:
        self.status = "SUCCEEDED"

    def _fail(self, _: Mapping[str, Any], __: float) -> None:
        self.status = "FAILED"

    def _parameters(self, state: Mapping[str, Any]) -> dict[str, Any]:
        template = state.get("Parameters")
        if template is None:
            return copy.deepcopy(self.data)
        return {
            name.removesuffix(".$"): self._at(value) if name.endswith(".$") else value
            for name, value in template.items()
        }

    def _at(self, path: str) -> Any:
        value: Any = self.data
        for part in path.removeprefix("$").strip(".").split("."):
            value = value[part] if part else value
        return copy.deepcopy(value)

    def _put(self, path: str, value: Any) -> None:
        parts = path.removeprefix("$").strip(".").split(".")
        if parts == [""]:
            self.data = value
            return
        target = self.data
        for part in parts[:-1]:
            target = target.setdefault(part, {})
        target[parts[-1]] = value


def _matches(names: list[str], error: str) -> bool:
    return error in names or "States.ALL" in names
