"""Faults that were asked for and have not happened yet."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from infra.sandbox.records import Fault


@dataclass(slots=True)
class Plan:
    """The next ``times`` requests of ``operation`` get ``fault``; ``reference`` narrows it to one charge."""

    operation: str
    fault: Fault
    times: int
    reference: str = ""  # the beginning of our reference; empty matches every charge


@dataclass(slots=True)
class Chaos:
    """What one provider still has to suffer."""

    plans: list[Plan] = field(default_factory=list)
    refuse_connections: int = 0
    maintenance: bool = False  # every request is a 503 until this is switched off
    per_second: float | None = None  # more requests than that in one second are a 429
    _second: tuple[int, int] = (0, 0)  # which one, and how many requests it has seen

    def blocked(self, now: float) -> int | None:
        """The HTTP status that keeps this request from being looked at, or None."""
        if self.maintenance:
            return 503
        if self.per_second is None:
            return None
        second, seen = self._second
        seen = seen + 1 if second == int(now) else 1
        self._second = (int(now), seen)
        return 429 if seen > self.per_second else None

    def take(self, operation: str, reference: str) -> Fault | None:
        """The fault for this request, used up by it."""
        for plan in self.plans:
            if plan.operation == operation and reference.startswith(plan.reference):
                plan.times -= 1
                if plan.times <= 0:
                    self.plans.remove(plan)
                return plan.fault
        return None
