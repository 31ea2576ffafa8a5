"""The local API: an HTTP/1.1 front to the API Gateway stage that is deployed on the emulator.

Why a front and not ``chalice local``: requests go through the deployed API Gateway and a real Lambda process, as on
AWS, so that routes, 404s, base64, GatewayResponses and event shapes are the deployed ones. The front adds what a
client would otherwise miss:

* the address (``/v1/…`` instead of ``/restapis/{id}/{stage}/_user_request_/v1/…``), which changes with each
  deployment that touches a route;
* a queue: AWS would start another environment for each concurrent request, the emulator answers 504 beyond the
  function's concurrency. Here the rest waits its turn, and webhooks have slots of their own, so that requests
  waiting for a payment cannot starve the webhook that would finish it;
* two answers of API Gateway that the emulator does not give: 413 above 10 MB, and the GatewayResponse of a
  failed integration.

Everything else passes through byte for byte.
"""

from __future__ import annotations

import http.client
import json
import queue
import threading
import time
import uuid
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

from infra.settings import HOST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Below the api function's reserved concurrency in .chalice/config.json (24), webhooks included.
GENERAL_SLOTS = 16
WEBHOOK_SLOTS = 4
_QUEUE_SECONDS = 120.0
_MAX_BODY = 10 * 1024 * 1024  # API Gateway's own limit
_MAX_DRAINED = 8 * _MAX_BODY
_UPSTREAM_SECONDS = 40.0  # API Gateway gives up after 29
_REUSE_SECONDS = 30.0  # well under the emulator's keep-alive, so that a reused connection is never just closing
_ERRORS = "https://railyard.dev/errors#"
_HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "content-length",
        "host",
        "expect",
    }
)


class Slots:
    """Admits a bounded number of requests at a time; webhooks may also use a few reserved places."""

    def __init__(self, general: int, webhooks: int) -> None:
        """``general`` places for everybody, ``webhooks`` more for webhooks alone."""
        self._general = threading.Semaphore(general)
        self._reserved = threading.Semaphore(webhooks)

    @contextmanager
    def place(self, *, webhook: bool) -> Iterator[bool]:
        """Wait for a place and hold it; yields False when none came free in two minutes."""
        place = self._general
        taken = place.acquire(blocking=False) if webhook else False
        if not taken:
            place = self._reserved if webhook else self._general
            taken = place.acquire(timeout=_QUEUE_SECONDS)
        try:
            yield taken
        finally:
            if taken:
                place.release()


class Upstream:
    """Keep-alive connections to the emulator; ``base`` gives the deployed stage's address at any moment."""

    def __init__(self, base: Callable[[], str]) -> None:
        """Connections are made as they are needed."""
        self._base = base
        self._idle: queue.LifoQueue[tuple[float, str, http.client.HTTPConnection]] = queue.LifoQueue()

    def send(
        self, method: str, target: str, headers: list[tuple[str, str]], body: bytes
    ) -> tuple[int, str, list[tuple[str, str]], bytes]:
        """Pass one request on; returns status, reason, headers, body. Raises OSError or HTTPException."""
        base = urlsplit(self._base())
        connection = self._connection(base.netloc)
        try:
            connection.putrequest(method, base.path + target, skip_host=True, skip_accept_encoding=True)
            connection.putheader("Host", base.netloc)
            for name, value in headers:
                connection.putheader(name, value)
            if body or method in {"POST", "PUT", "PATCH"}:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body or None)
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException):
            connection.close()
            raise
        if answer.will_close:
            connection.close()
        else:
            self._idle.put((time.monotonic(), base.netloc, connection))
        return answer.status, answer.reason, answer.getheaders(), content

    def close(self) -> None:
        """Close the connections that nobody is using."""
        while not self._idle.empty():
            self._idle.get_nowait()[2].close()

    def _connection(self, netloc: str) -> http.client.HTTPConnection:
        while True:
            try:
                since, where, connection = self._idle.get_nowait()
            except queue.Empty:
                return http.client.HTTPConnection(netloc, timeout=_UPSTREAM_SECONDS)
            if where == netloc and time.monotonic() - since < _REUSE_SECONDS:
                return connection
            connection.close()


class _Handler(BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"
    timeout = 75  # an idle connection
    wbufsize = -1  # headers and body leave in one packet
    disable_nagle_algorithm = True
    slots: Slots
    upstream: Upstream

    def _serve(self) -> None:
        body = self._body()
        if body is None:
            return
        # http.server reads the request line as Latin-1; what is not ASCII goes on percent-encoded.
        target = quote(self.path.encode("latin-1"), safe=bytes(range(0x21, 0x7F)))
        path = unquote(urlsplit(target).path)
        if not target.startswith("/") or {".", ".."} & set(path.split("/")):
            # The stage's address is a prefix of the path: dot segments must not climb out of it.
            self._problem(404, "not_found", "Not found", "There is nothing at this path.")
            return
        headers = [(name, value) for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP]
        headers.append(("X-Forwarded-For", self.client_address[0]))
        with self.slots.place(webhook=path.startswith("/webhooks/")) as admitted:
            if not admitted:
                self._problem(504, "gateway_timeout", "Gateway time-out", "No capacity came free in time. Try again.")
                return
            try:
                status, reason, answer_headers, content = self.upstream.send(self.command, target, headers, body)
            except (OSError, http.client.HTTPException):
                self._problem(
                    502,
                    "bad_gateway",
                    "Bad gateway",
                    "The request may or may not have taken effect. Try again with the same Idempotency-Key.",
                )
                return
        names = {name.lower(): value for name, value in answer_headers}
        if (
            status in {502, 504}
            and "railyard-request-id" not in names
            and not names.get("content-type", "").startswith("application/problem+json")
        ):
            title = "Bad gateway" if status == HTTPStatus.BAD_GATEWAY else "Gateway time-out"
            self._problem(
                status,
                title.lower().replace(" ", "_").replace("-", ""),
                title,
                "The request may or may not have taken effect. Try again with the same Idempotency-Key.",
                request_id=names.get("x-amzn-requestid"),
            )
            return
        self._answer(status, reason, answer_headers, content)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _serve  # noqa: N815 - http.server's names

    def _body(self) -> bytes | None:
        """Read the request's body; None when it was refused."""
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            return self._chunks()
        text = self.headers.get("Content-Length", "0")
        if not (text.isascii() and text.isdigit()):
            self._refuse(400, "invalid_request", "Invalid request", "Content-Length is not a number.")
            return None
        if int(text) > _MAX_BODY:
            # A client that is still sending would see a broken pipe instead of the answer.
            left = min(int(text), _MAX_DRAINED)
            while left > 0 and (piece := self.rfile.read(min(left, 1 << 16))):
                left -= len(piece)
            self._refuse(413, "payload_too_large", "Payload too large", "The request body is larger than is accepted.")
            return None
        return self.rfile.read(int(text))

    def _chunks(self) -> bytes | None:
        body = b""
        while True:
            line = self.rfile.readline(1024).split(b";")[0].strip()
            try:
                size = int(line, 16)
            except ValueError:
                self._refuse(400, "invalid_request", "Invalid request", "The chunked body is malformed.")
                return None
            if size < 0 or len(body) + size > _MAX_BODY:
                self._refuse(
                    413, "payload_too_large", "Payload too large", "The request body is larger than is accepted."
                )
                return None
            if size == 0:
                while self.rfile.readline(1024).strip():
                    pass  # trailers
                return body
            body += self.rfile.read(size)
            self.rfile.readline(1024)

    def _refuse(self, status: int, code: str, title: str, detail: str) -> None:
        self.close_connection = True  # the body is still on its way
        self._problem(status, code, title, detail)

    def _answer(self, status: int, reason: str, headers: list[tuple[str, str]], content: bytes) -> None:
        self.log_request(status)
        self.send_response_only(status, reason)
        for name, value in headers:
            if name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
        self.wfile.flush()

    def _problem(self, status: int, code: str, title: str, detail: str, *, request_id: str | None = None) -> None:
        request_id = request_id or str(uuid.uuid4())
        document = {
            "type": _ERRORS + code,
            "title": title,
            "status": status,
            "detail": detail,
            "code": code,
            "param": None,
            "request_id": request_id,
        }
        headers = [
            ("Content-Type", "application/problem+json"),
            ("Cache-Control", "no-store"),
            ("Railyard-Request-Id", request_id),
        ]
        self._answer(status, title, headers, json.dumps(document).encode())

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer what http.server itself refuses (a broken request line, an unknown method) as we answer the rest."""
        del explain
        self.close_connection = True
        if not hasattr(self, "command") or self.command is None:
            self.command = "GET"
        self.request_version = "HTTP/1.1"  # a line without a version would get an answer without headers
        if code == HTTPStatus.NOT_IMPLEMENTED:
            self._problem(405, "method_not_allowed", "Method not allowed", "This method is not served here.")
        else:
            self._problem(int(code), "invalid_request", "Invalid request", message or "The request cannot be read.")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class calls it so
        """Say nothing: the API logs each request itself."""


class Front:
    """The front as a thread of this process."""

    def __init__(
        self, port: int, base: Callable[[], str], *, general: int = GENERAL_SLOTS, webhooks: int = WEBHOOK_SLOTS
    ) -> None:
        """Listen on ``port``; ``base`` gives the stage's address, asked at each request."""
        self._upstream = Upstream(base)
        handler = type("Handler", (_Handler,), {"slots": Slots(general, webhooks), "upstream": self._upstream})

        class Server(ThreadingHTTPServer):
            request_queue_size = 512  # a burst of clients waits here rather than being refused
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                """A client that went away is not our error."""

        self._server = Server((HOST, port), handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, name="front", daemon=True
        )

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def stop(self) -> None:
        """Take no more connections."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._upstream.close()
