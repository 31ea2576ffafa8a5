"""An idempotency key on its way into the transaction of the effect it stands for."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chalicelib.storage.store import Claim

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

_LEASE_MARGIN = 5  # seconds a waiting request may be late


@dataclass(slots=True)
class Idem:
    """One request's idempotency key. ``key`` is the scoped digest; ``wait`` in seconds.

    ``render`` turns what the use case made into what the API shows; ``body`` holds the final bytes
    once the key has been claimed without a wait; ``earlier`` is the fingerprint as an earlier release made it.
    """

    key: str
    fingerprint: str
    status: int
    render: Callable[[Any], Mapping[str, object]]
    ttl: float
    wait: float = 0
    body: bytes | None = None
    earlier: str | None = None

    def claim(self, made: Any, object_id: str, now: datetime) -> Claim:  # noqa: ANN401
        """The key row to commit with the effect: with the answer's final bytes, or under a lease."""
        epoch = now.timestamp()
        if self.wait:
            return Claim(
                self.key, self.fingerprint, object_id, round(epoch + self.ttl),
                lease_until=round(epoch + self.wait + _LEASE_MARGIN, 3),
            )  # fmt: skip
        self.body = answer_bytes(self.render(made))
        return Claim(
            self.key, self.fingerprint, object_id, round(epoch + self.ttl),
            status=self.status, body=self.body,
        )  # fmt: skip


def answer_bytes(shown: Mapping[str, object]) -> bytes:
    """An answer's bytes: the same object always makes the same ones."""
    return json.dumps(shown, separators=(",", ":"), ensure_ascii=False).encode()
