"""The bank over real sockets, for tests that need an HTTP client of somebody's."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from typing import TYPE_CHECKING

from chalicelib.providers.http import UrllibHttpClient
from chalicelib.providers.registry import build
from infra.sandbox.bank import Bank
from infra.sandbox.config import load
from infra.sandbox.personalities import personality
from infra.sandbox.server import SandboxServer
from tests.contract.sandbox_world import account_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from chalicelib.providers.base import Account, Provider

CLIENT_TIMEOUT = 0.4  # seconds


class Running:
    """A server on an event loop of its own, on ports that were free."""

    def __init__(self) -> None:
        self.bank = Bank(load(), time.time, personality)
        for settings in self.bank.settings.values():
            settings.client_timeout = CLIENT_TIMEOUT
        self.server = SandboxServer(self.bank, port=0)
        self.http = UrllibHttpClient(2.0, CLIENT_TIMEOUT)
        self._started = threading.Event()
        self._stop = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._run(),))
        self._thread.start()
        assert self._started.wait(10)

    async def _run(self) -> None:
        await self.server.start()
        self._started.set()
        await self._stop.wait()
        await self.server.stop()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        self._loop.close()

    def adapter(self, name: str) -> tuple[Provider, Account]:
        return build(name, self.http), account_of(self.bank, name, self.server.url(name))

    def root(self, method: str, path: str, **body: object) -> tuple[int, dict[str, object]]:
        sent = json.dumps(body).encode() if method == "POST" else None
        answer = self.http.request(method, self.server.url("root") + path, headers={}, body=sent, read_timeout=5)
        return answer.status, json.loads(answer.body)

    def truth(self) -> list[dict[str, object]]:
        rows = self.root("GET", "/_truth")[1]["charges"]
        assert isinstance(rows, list)
        return rows


def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Wait for something that another thread does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)
