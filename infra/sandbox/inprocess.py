"""The same bank without sockets and under a clock of the caller's: for tests and the fault suite.

    bank = make_bank(clock)                                   # clock() gives epoch seconds
    provider = build("razorpay", InProcessHttpClient(bank))
    account = base_url(bank, "razorpay") …                    # "http://razorpay.sandbox/v1"
    bank.run_due(clock()); for webhook in bank.take_webhooks(clock()): post(webhook)

A request that would hang is an UnknownError at once; a slow effect happens ``slow_seconds`` (20)
after it by that clock. ``control.handle(bank, Request(…))`` does what the root's routes do.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from chalicelib.providers.http import HttpAnswer, NotSentError, UnknownError
from infra.sandbox.bank import Bank
from infra.sandbox.config import load
from infra.sandbox.personalities import personality
from infra.sandbox.wire import Request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from infra.sandbox.config import ProviderSettings

_DOMAIN = ".sandbox"


def make_bank(
    clock: Callable[[], float] = time.time, providers: Iterable[ProviderSettings] | None = None, seed: str = "railyard"
) -> Bank:
    """A bank whose providers all tell of everything by webhook, to be taken with ``take_webhooks``."""
    chosen = [
        replace(
            settings,
            client_timeout=0.0,
            latency=(0.0, 0.0),
            webhook_url=settings.webhook_url or f"http://receiver{_DOMAIN}/{settings.id}",
        )
        for settings in (load() if providers is None else providers)
    ]
    return Bank(chosen, clock, personality, seed)


def base_url(bank: Bank, provider: str) -> str:
    """The base URL that leads to that provider of an in-process bank."""
    return f"http://{provider}{_DOMAIN}{bank.base_path(provider)}"


class InProcessHttpClient:
    """HttpClient that calls the bank directly; hosts are ``{provider}.sandbox`` or the provider's port."""

    def __init__(self, bank: Bank, clock: Callable[[], float] | None = None) -> None:
        """``clock`` is the bank's own unless given."""
        self._bank = bank
        self._clock = clock

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None = None,
        read_timeout: float | None = None,  # noqa: ARG002 - time-outs are decided by the bank here
    ) -> HttpAnswer:
        """Send one request; raises NotSentError or UnknownError."""
        parts = urlsplit(url)
        provider = self._provider(parts.hostname or "", parts.port)
        chaos = self._bank.chaos[provider]
        with self._bank.lock:
            if chaos.refuse_connections > 0:
                chaos.refuse_connections -= 1
                raise NotSentError("connection_refused")
        if self._clock is not None:
            self._bank.run_due(self._clock())
        target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
        sent = {"host": parts.netloc, **{name.lower(): value for name, value in headers.items()}}
        response = self._bank.handle(provider, Request(method, target, sent, body or b""))
        if response.hang is not None:
            raise UnknownError("read_timeout")
        return HttpAnswer(response.status, {k.lower(): v for k, v in response.headers.items()}, response.body)

    def _provider(self, host: str, port: int | None) -> str:
        name = host.removesuffix(_DOMAIN)
        if name in self._bank.settings:
            return name
        for settings in self._bank.settings.values():
            if settings.port == port:
                return settings.id
        raise NotSentError("dns")
