"""Time for the bank: a clock that somebody else owns, and effects that are due by it."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Timer:
    """Effects in the order they are due. Times are epoch seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """``clock`` gives epoch seconds; it may jump."""
        self._clock = clock
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._at: float | None = None

    @property
    def now(self) -> float:
        """The clock; while a due effect happens, the time it was due."""
        return self._clock() if self._at is None else self._at

    @property
    def next_due(self) -> float | None:
        """When the next effect is due."""
        return self._queue[0][0] if self._queue else None

    def later(self, seconds: float, effect: Callable[[], None]) -> None:
        """Let something happen in the future."""
        self._count += 1
        heapq.heappush(self._queue, (self.now + seconds, self._count, effect))

    def run_due(self, now: float) -> None:
        """Let every effect happen that is due at ``now``, in order, those they cause included."""
        while self._queue and self._queue[0][0] <= now:
            self._at, _, effect = heapq.heappop(self._queue)
            try:
                effect()
            finally:
                self._at = None

    def clear(self) -> None:
        """Forget every effect."""
        self._queue.clear()
