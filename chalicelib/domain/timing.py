"""How long to wait for what. All in seconds; one profile per stage, see config.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class Timing:
    """Waits and leases in seconds. A lease is how long the planned next step may be late."""

    lease: float  # margin before the sweeper takes over what should have happened
    call: float  # longest a provider call can take: connect plus read time-out, with slack
    resolve: Sequence[float]  # the workflow's waits before each resolve; at most 10 minutes in all as planned
    sweep: Sequence[float]  # the sweeper's waits after those, then manual review
    poll: float  # how often to ask about something the provider or customer is still deciding
    watch: Sequence[float]  # when to look again at an attempt its payment let go of
    backoff: float  # base of the wait before another attempt
    backoff_cap: float
    payment_ttl: float  # default life of an unfinished payment
    order_ttl: float  # default life of an unpaid order
    operation: Sequence[float]  # waits between tries of an operation, by message visibility

    def resolve_wait(self, resolves: int) -> float | None:
        """The wait before resolve number ``resolves`` (from 0), or None when a person must look."""
        waits = [*self.resolve, *self.sweep]
        return waits[resolves] if resolves < len(waits) else None

    def operation_wait(self, tries: int) -> float | None:
        """The wait after an operation's try number ``tries`` (from 1), or None when a person must look."""
        waits = [*self.operation, *self.sweep]
        return waits[tries - 1] if tries - 1 < len(waits) else None

    def unhurried(self, wait: float, retry_at: datetime | None, now: datetime) -> float:
        """``wait`` before asking again, longer if a provider said so, but never longer than any planned wait."""
        asked = 0.0 if retry_at is None else (retry_at - now).total_seconds()
        return max(wait, min(asked, max(self.resolve, default=0.0)))


def backoff_wait(base: float, cap: float, attempts: int, jitter: Callable[[], float]) -> float:
    """The seconds before another attempt: exponential with full jitter (``jitter`` yields 0 to 1)."""
    return min(cap, base * 2.0 ** max(attempts - 1, 0)) * jitter()
