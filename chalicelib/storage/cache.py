"""What an execution environment remembers of rows that every request needs, for a bounded time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

T = TypeVar("T")
_LIMIT = 10_000  # entries; a flood of different keys must not fill the memory


class Cache:
    """Remembers what was read for ``ttl`` seconds: a revocation takes effect everywhere within that time."""

    def __init__(self, clock: Callable[[], datetime], ttl: float) -> None:
        """``clock`` gives the current time."""
        self._clock = clock
        self._ttl = ttl
        self._known: dict[tuple[str, ...], tuple[float, Any]] = {}

    def get(self, key: tuple[str, ...], read: Callable[[], T | None]) -> T | None:
        """What ``read`` found, at most ``ttl`` seconds ago; what does not exist is not remembered."""
        now = self._clock().timestamp()
        hit = self._known.get(key)
        if hit is not None and now - hit[0] < self._ttl:
            value: T | None = hit[1]
            return value
        value = read()
        if value is None:
            self._known.pop(key, None)
            return None
        if len(self._known) >= _LIMIT:
            self._known.clear()
        self._known[key] = (now, value)
        return value

    def forget(self, *keys: tuple[str, ...]) -> None:
        """Read those again when they are next needed; without any, all."""
        if not keys:
            self._known.clear()
        for key in keys:
            self._known.pop(key, None)
