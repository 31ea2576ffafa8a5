"""The bank over HTTP on loopback: one port for the root and one for each provider.

One event loop serves everything, so that a request held for half a minute costs a timer and not
a thread. ``refuse_connections`` is a true refusal: the provider's listener is closed, its idle
connections too, so that the kernel answers every new connection with ECONNREFUSED. Where
refusals.py can count those, the listener is opened again after n of them and at the latest after
a minute; elsewhere after ``REFUSE_SECONDS`` for each, however many come.
"""

from __future__ import annotations

import asyncio
import signal
import time
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from infra.sandbox import control
from infra.sandbox.config import DEFAULT_ROOT_PORT
from infra.sandbox.delivery import post
from infra.sandbox.refusals import watch
from infra.sandbox.wire import Request, Response, answer

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from infra.sandbox.bank import Bank
    from infra.sandbox.outbox import Webhook
    from infra.sandbox.refusals import Refusals

MAX_HEAD, MAX_BODY = 64 * 1024, 1024 * 1024
REFUSE_SECONDS = 3.0
MAX_REFUSE_SECONDS = 60.0
_POLL = 0.005  # how often the refused connections are counted
_SENDERS = 8  # webhooks in flight at once
_IDLE_WAIT = 60.0


@dataclass(slots=True)
class Door:
    """One listening port and the connections behind it."""

    name: str
    port: int
    handle: Callable[[Request], Response]
    server: asyncio.Server | None = None
    idle: set[asyncio.StreamWriter] = field(default_factory=set)
    open: set[asyncio.StreamWriter] = field(default_factory=set)


class SandboxServer:
    """The root at ``port`` and the providers beside it; port 0 takes any free ports."""

    def __init__(self, bank: Bank, host: str = "127.0.0.1", port: int = DEFAULT_ROOT_PORT) -> None:
        """Provider ports move along with the root's port."""
        self._bank = bank
        self._host = host
        shift = port - DEFAULT_ROOT_PORT
        self.root = Door("root", port, lambda request: control.handle(bank, request))
        self.doors = {
            name: Door(name, settings.port + shift if port else 0, self._provider(name))
            for name, settings in bank.settings.items()
        }
        self._wake = asyncio.Event()
        self._senders = asyncio.Semaphore(_SENDERS)
        self._tasks: set[asyncio.Task[None]] = set()

    def _provider(self, name: str) -> Callable[[Request], Response]:
        return lambda request: self._bank.handle(name, request)

    def url(self, name: str) -> str:
        """The root's URL, or a provider's base URL."""
        door = self.root if name == "root" else self.doors[name]
        path = "" if name == "root" else self._bank.base_path(name)
        return f"http://{self._host}:{door.port}{path}"

    async def start(self) -> None:
        """Open every port; raises OSError when one is taken."""
        for door in (self.root, *self.doors.values()):
            await self._open(door)
        self._spawn(self._run())

    async def stop(self) -> None:
        """Close every port, connection and task."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for door in (self.root, *self.doors.values()):
            if door.server is not None:
                door.server.close()
            for writer in list(door.open):
                writer.transport.abort()

    async def _open(self, door: Door) -> None:
        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._spawn(self._serve(door, reader, writer))

        door.server = await asyncio.start_server(connected, self._host, door.port, limit=MAX_HEAD, backlog=512)
        door.port = door.server.sockets[0].getsockname()[1]

    def _spawn(self, work: Coroutine[object, None, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # requests

    async def _serve(self, door: Door, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until either side has had enough."""
        door.open.add(writer)
        try:
            while door.server is not None:
                door.idle.add(writer)
                request = await _read(reader)
                door.idle.discard(writer)
                if request is None:
                    break
                response = request if isinstance(request, Response) else door.handle(request)
                self._wake.set()
                if response.delay:
                    await asyncio.sleep(response.delay)
                if response.hang is not None:
                    await asyncio.sleep(response.hang)
                    break
                if door is self.root:
                    await self._refuse()
                close = isinstance(request, Response) or request.headers.get("connection", "").lower() == "close"
                writer.write(_render(response, close=close))
                await writer.drain()
                if close:
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client went away, which is its right
        finally:
            door.idle.discard(writer)
            door.open.discard(writer)
            # Aborted and not closed: a held request must end without anything that looks like an answer.
            if writer.transport.get_write_buffer_size():
                writer.close()
            else:
                writer.transport.abort()

    # time

    async def _run(self) -> None:
        """Let due effects happen and webhooks go, and otherwise sleep."""
        while True:
            self._wake.clear()
            now = time.time()
            for webhook in self._bank.take_webhooks(now):
                self._bank.delivering += 1
                self._spawn(self._deliver(webhook))
            due = self._bank.next_due
            wait = _IDLE_WAIT if due is None else min(max(due - time.time(), 0.001), _IDLE_WAIT)
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):  # wait_for may lose a cancellation before Python 3.12
                    await self._wake.wait()

    async def _deliver(self, webhook: Webhook) -> None:
        async with self._senders:
            delivered = await post(webhook.url, webhook.headers, webhook.body)
        if not delivered:
            self._bank.webhook_failed(webhook, time.time())
            self._wake.set()
        self._bank.delivering = max(self._bank.delivering - 1, 0)  # a reset in between starts from none

    # refusing connections

    async def _refuse(self) -> None:
        """Close the listeners of the providers that shall refuse connections, and wait until they are."""
        for name, door in self.doors.items():
            wanted = self._bank.chaos[name].refuse_connections
            if wanted and door.server is not None:
                door.server.close()
                door.server = None
                idle = list(door.idle)
                for writer in idle:
                    writer.transport.abort()
                # Whoever asked may connect as soon as they are answered: by then the sockets must be closed.
                await asyncio.gather(*(writer.wait_closed() for writer in idle), return_exceptions=True)
                self._spawn(self._reopen(door, wanted, watch(door.port)))

    async def _reopen(self, door: Door, wanted: int, refusals: Refusals | None) -> None:
        """Open the listener once enough connections have been refused, or it has been long enough."""
        until = time.monotonic() + (REFUSE_SECONDS * wanted if refusals is None else MAX_REFUSE_SECONDS)
        try:
            while time.monotonic() < until and self._bank.chaos[door.name].refuse_connections:
                await asyncio.sleep(_POLL)
                if refusals is not None and refusals.count() >= wanted:
                    break
        finally:
            if refusals is not None:
                refusals.close()
        self._bank.chaos[door.name].refuse_connections = 0
        await self._open(door)


async def _read(reader: asyncio.StreamReader) -> Request | Response | None:
    """The next request; None when the client is done; a Response when it made no sense."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    except asyncio.LimitOverrunError:
        return answer(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, {"error": "The headers are too large."})
    lines = head.decode("latin-1").split("\r\n")
    words = lines[0].split(" ")
    if len(words) != len(("method", "target", "version")) or not words[1].startswith("/"):
        return answer(HTTPStatus.BAD_REQUEST, {"error": "This is not HTTP/1.1."})
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:-2])}
    length = headers.get("content-length", "0")
    if "transfer-encoding" in headers or not length.isdigit():
        return answer(HTTPStatus.LENGTH_REQUIRED, {"error": "Content-Length is required."})
    if int(length) > MAX_BODY:
        return answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, {"error": "The body is too large."})
    body = await reader.readexactly(int(length)) if int(length) else b""
    return Request(words[0], words[1] if urlsplit(words[1]).path else "/", headers, body)


def _render(response: Response, *, close: bool) -> bytes:
    reason = HTTPStatus(response.status).phrase
    headers = {
        **response.headers,
        "content-length": str(len(response.body)),
        "connection": "close" if close else "keep-alive",
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {response.status} {reason}\r\n{head}\r\n".encode("latin-1") + response.body


async def serve(bank: Bank, host: str, port: int, ready: Callable[[SandboxServer], None]) -> None:
    """Serve until SIGTERM or SIGINT; ``ready`` is called once every port is open."""
    server = SandboxServer(bank, host, port)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await server.start()
    ready(server)
    await stop.wait()
    await server.stop()
