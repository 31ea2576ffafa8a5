"""Webhooks on their way out: late, doubled, out of order, lost or badly signed, as the settings say."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from infra.sandbox.records import roll

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from infra.sandbox.config import ProviderSettings
    from infra.sandbox.records import Notice

MAX_TRIES = 12
_HELD_BACK = 1.0  # seconds by which a reordered webhook is late
_DUPLICATE_AFTER = 0.2
_BACKOFF_CAP = 60.0
_WRONG_SECRET = "not the secret"  # noqa: S105 - that is the point


@dataclass(frozen=True, slots=True)
class Webhook:
    """One delivery; ``headers`` are signed with the secret of the moment it is taken."""

    provider: str
    url: str
    event_id: str
    type: str
    body: bytes
    headers: Mapping[str, str]
    attempt: int = 1
    unsigned: bytes = b""  # the body before it was signed: some signatures are part of it


class Outbox:
    """Webhooks by the time they are due."""

    def __init__(
        self,
        seed: str,
        settings: Mapping[str, ProviderSettings],
        sign: Callable[[str, str, bytes, str, float], tuple[bytes, dict[str, str]]],
    ) -> None:
        """``sign(provider, secret, body, event_id, now)`` gives body and headers in that provider's format."""
        self.seed = seed
        self._settings = settings
        self._sign = sign
        self._queue: list[tuple[float, int, Webhook]] = []
        self._count = 0

    def __len__(self) -> int:
        """How many are waiting, retries included."""
        return len(self._queue)

    @property
    def next_due(self) -> float | None:
        """When the next one is due, in epoch seconds."""
        return self._queue[0][0] if self._queue else None

    def memory(self) -> tuple[int, list[tuple[float, int, Webhook]]]:
        """What is on its way, as plain values."""
        return self._count, list(self._queue)

    def recall(self, memory: tuple[int, list[tuple[float, int, Webhook]]]) -> None:
        """Replace what is on its way with what an earlier run left."""
        self._count, self._queue = memory

    def add(self, provider: str, notice: Notice, now: float, url: str | None = None) -> None:
        """Queue one event for ``url`` or the provider's own, unless nobody listens or it gets lost."""
        settings = self._settings[provider]
        event_id, kind = notice.event_id, notice.kind
        if not (url or settings.webhook_url) or (settings.events is not None and kind not in settings.events):
            return
        rules = settings.webhooks
        if roll(self.seed, "drop", event_id) < rules.drop_rate:
            return
        due = now + rules.delay
        if roll(self.seed, "reorder", event_id) < rules.reorder:
            due += _HELD_BACK
        webhook = Webhook(provider, url or "", event_id, kind, notice.body, {})
        self._push(due, webhook)
        if roll(self.seed, "duplicate", event_id) < rules.duplicate_rate:
            self._push(due + _DUPLICATE_AFTER, webhook)

    def take(self, now: float) -> list[Webhook]:
        """Remove and return what is due, ready to post."""
        taken = []
        while self._queue and self._queue[0][0] <= now:
            _, _, webhook = heapq.heappop(self._queue)
            settings = self._settings[webhook.provider]
            url = webhook.url or settings.webhook_url
            if url is None:
                continue
            bad = roll(self.seed, "signature", webhook.event_id, str(webhook.attempt))
            secret = _WRONG_SECRET if bad < settings.webhooks.bad_signature_rate else settings.webhook_secret
            body, headers = self._sign(webhook.provider, secret, webhook.body, webhook.event_id, now)
            sent = {"content-type": "application/json", **headers}
            taken.append(replace(webhook, url=url, headers=sent, body=body, unsigned=webhook.body))
        return taken

    def failed(self, webhook: Webhook, now: float) -> None:
        """The receiver did not answer 2xx: try again later, a limited number of times."""
        if webhook.attempt < MAX_TRIES:
            wait = min(2.0 ** (webhook.attempt - 1), _BACKOFF_CAP)
            again = replace(webhook, attempt=webhook.attempt + 1, headers={}, body=webhook.unsigned)
            self._push(now + wait, again)

    def _push(self, due: float, webhook: Webhook) -> None:
        self._count += 1
        heapq.heappush(self._queue, (due, self._count, webhook))
