"""The demo merchant: receives webhooks, verifies each with the standardwebhooks package, and keeps them.

``GET /received`` lists what came, oldest first; ``POST /_fail {"times": n, "status": 503}`` makes it refuse the next n.
``/return/{name}``, by GET or POST, is where customers come back from a provider; ``GET /returned/{name}`` gives
the parameters that their browser brought, newest first, for a shop's server to send to ``/verify``.
"""

from __future__ import annotations

import json
import threading
from collections import deque
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TypedDict
from urllib.parse import parse_qsl, urlsplit

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from infra.settings import HOST

_KEPT = 10_000
_MAX_BODY = 1024 * 1024
_WELCOME = (
    '<!doctype html><html lang="en"><title>Demo shop</title>'
    "<h1>Welcome back</h1><p>We are asking your bank how it went.</p></html>"
)


class Received(TypedDict):
    """One webhook as it came in."""

    id: str
    received_at: str
    verified: bool
    status: int  # what we answered
    body: object


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    merchant: Merchant
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        if parts.path == "/received":
            self._json(200, {"data": self.merchant.received()})
        elif parts.path.startswith("/return/"):
            self._welcome(parts.path, parts.query)
        elif parts.path.startswith("/returned/"):
            self._json(200, {"data": self.merchant.returned(parts.path.removeprefix("/returned/"))})
        else:
            self._json(404, {"error": "try GET /received"})

    def do_POST(self) -> None:
        size = min(int(self.headers.get("Content-Length", "0")), _MAX_BODY)
        body = self.rfile.read(size)
        if self.path.startswith("/return/"):
            self._welcome(urlsplit(self.path).path, body.decode("utf-8", "replace"))
        elif self.path == "/_fail":
            self.merchant.fail(**json.loads(body))
            self._json(200, {})
        else:
            self._json(self.merchant.take(body, {name.lower(): value for name, value in self.headers.items()}), {})

    def _welcome(self, path: str, encoded: str) -> None:
        self.merchant.take_return(path.removeprefix("/return/"), dict(parse_qsl(encoded, keep_blank_values=True)))
        self._send(200, "text/html; charset=utf-8", _WELCOME.encode())

    def _json(self, status: int, document: object) -> None:
        self._send(status, "application/json", json.dumps(document).encode())

    def _send(self, status: int, content_type: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class calls it so
        """GET /received is the log."""


class Merchant:
    """A webhook receiver as a thread of this process."""

    def __init__(self, port: int) -> None:
        """Listen on ``port``; until ``secret`` is set nothing verifies."""
        self.secret: str | None = None
        self._received: deque[Received] = deque(maxlen=_KEPT)
        self._returned: deque[tuple[str, dict[str, str]]] = deque(maxlen=_KEPT)
        self._lock = threading.Lock()
        self._fail_times = 0
        self._fail_status = 503
        handler = type("Handler", (_Handler,), {"merchant": self})
        self._server = ThreadingHTTPServer((HOST, port), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, name="merchant", daemon=True
        )

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def stop(self) -> None:
        """Take no more connections."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def received(self) -> list[Received]:
        """Return everything received so far, oldest first."""
        with self._lock:
            return list(self._received)

    def take_return(self, name: str, parameters: dict[str, str]) -> None:
        """Keep what a customer's browser brought back from a provider."""
        with self._lock:
            self._returned.appendleft((name, parameters))

    def returned(self, name: str) -> list[dict[str, str]]:
        """What browsers brought back under that name, newest first."""
        with self._lock:
            return [parameters for known, parameters in self._returned if known == name]

    def fail(self, times: int, status: int = 503) -> None:
        """Answer ``status`` to the next ``times`` webhooks."""
        with self._lock:
            self._fail_times, self._fail_status = times, status

    def take(self, body: bytes, headers: dict[str, str]) -> int:
        """Verify and keep one webhook; returns the status to answer: 204, 401, or the failure asked for."""
        document: object = None
        verified = False
        if self.secret is not None:
            try:
                document = Webhook(self.secret).verify(body, headers)
                verified = True
            except WebhookVerificationError:
                document = body.decode(errors="replace")
        with self._lock:
            status = 204 if verified else 401
            if self._fail_times > 0:
                self._fail_times -= 1
                status = self._fail_status
            self._received.append(
                {
                    "id": headers.get("webhook-id", ""),
                    "received_at": datetime.now(UTC).isoformat(),
                    "verified": verified,
                    "status": status,
                    "body": document,
                }
            )
        return status
