"""The demo merchant: receives webhooks, verifies each with the standardwebhooks package, and keeps them.

``GET /received`` lists what came, oldest first; ``POST /_fail {"times": n, "status": 503}`` makes it refuse the next n.
"""

from __future__ import annotations

import json
import threading
from collections import deque
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TypedDict

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from infra.settings import HOST

_KEPT = 10_000
_MAX_BODY = 1024 * 1024


class Received(TypedDict):
    """One webhook as it came in."""

    id: str
    received_at: str
    verified: bool
    status: int  # what we answered
    body: object


class Merchant:
    """A webhook receiver as a thread of this process."""

    def __init__(self, port: int) -> None:
        """Listen on ``port``; until ``secret`` is set nothing verifies."""
        self.secret: str | None = None
        self._received: deque[Received] = deque(maxlen=_KEPT)
        self._lock = threading.Lock()
        self._fail_times = 0
        self._fail_status = 503
        merchant = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                if self.path.split("?")[0] == "/received":
                    self._json(200, {"data": merchant.received()})
                else:
                    self._json(404, {"error": "try GET /received"})

            def do_POST(self) -> None:
                size = min(int(self.headers.get("Content-Length", "0")), _MAX_BODY)
                body = self.rfile.read(size)
                if self.path == "/_fail":
                    merchant.fail(**json.loads(body))
                    self._json(200, {})
                else:
                    self._json(merchant.take(body, {name.lower(): value for name, value in self.headers.items()}), {})

            def _json(self, status: int, document: object) -> None:
                content = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class calls it so
                """GET /received is the log."""

        self._server = ThreadingHTTPServer((HOST, port), Handler)
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
