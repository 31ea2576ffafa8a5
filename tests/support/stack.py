"""A running local stack for end-to-end tests, and a merchant's client to it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import urllib3

from infra.settings import ROOT, child_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

FINAL = ("succeeded", "failed", "canceled", "expired")
START_SECONDS = 180.0


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body."""
        return json.loads(self.body)


@dataclass(slots=True)
class Client:
    """The demo merchant's client."""

    local: dict[str, Any]
    http: urllib3.PoolManager = field(
        default_factory=lambda: urllib3.PoolManager(maxsize=256, retries=False, timeout=urllib3.Timeout(total=60))
    )

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        key: str | None = None,
        headers: dict[str, str] | None = None,
        base: str | None = None,
    ) -> Answer:
        """Call the API; ``body`` is JSON or bytes."""
        sent = {"Authorization": f"Bearer {self.local['secret_key']}"} | (headers or {})
        if key is not None:
            sent["Idempotency-Key"] = key
        if body is not None:
            sent.setdefault("Content-Type", "application/json")
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        answer = self.http.request(method, (base or self.local["api_url"]) + path, body=data, headers=sent)
        return Answer(answer.status, {k.lower(): v for k, v in answer.headers.items()}, answer.data)

    def get(self, path: str) -> Any:
        """GET that must work."""
        answer = self.request("GET", path)
        assert answer.status == 200, (path, answer.status, answer.body)
        return answer.json

    def pay(
        self,
        vpa: str = "success@sim",
        *,
        amount: int = 149900,
        wait: int | None = None,
        key: str | None = None,
        **fields: Any,
    ) -> Answer:
        """Create a UPI payment."""
        body = {"amount": amount, "currency": "INR", "method": {"type": "upi", "flow": "collect", "vpa": vpa}} | fields
        headers = {"Prefer": f"wait={wait}"} if wait else None
        return self.request("POST", "/v1/payments", body, key=key or uuid4().hex, headers=headers)

    def settled(self, payment_id: str, seconds: float = 60, until: tuple[str, ...] = FINAL) -> Any:
        """The payment once it is final; fails after ``seconds``."""
        return eventually(
            lambda: next((p for p in [self.get(f"/v1/payments/{payment_id}")] if p["status"] in until), None),
            seconds,
            f"{payment_id} is not final",
        )

    def quiet(self, payment_id: str, seconds: float = 60) -> Any:
        """The payment once it is final and nothing of it is open any more."""

        def look() -> Any:
            # Operations first: once they are over, the payment read after them shows what they did.
            operations = self.get(f"/v1/payments/{payment_id}/operations")["data"]
            payment = self.get(f"/v1/payments/{payment_id}")
            is_open = any(o["status"] in ("pending", "sent", "unknown") for o in operations)
            return payment if payment["status"] in FINAL and not is_open else None

        return eventually(look, seconds, f"{payment_id} is not quiet")

    def truth(self, payment_id: str = "pay_") -> list[dict[str, Any]]:
        """The bank's own record of a payment's charges."""
        answer = self.http.request("GET", f"{self.local['sandbox_url']}/_truth")
        return [c for c in json.loads(answer.data)["charges"] if c["reference"].startswith(payment_id)]

    def bank(self, path: str, body: dict[str, Any]) -> None:
        """Tell the sandbox bank something."""
        answer = self.http.request("POST", self.local["sandbox_url"] + path, body=json.dumps(body).encode())
        assert answer.status < 300, answer.data

    def received(self) -> list[dict[str, Any]]:
        """What the demo merchant's endpoint has received and verified."""
        answer = self.http.request("GET", f"{self.local['merchant_url']}/received")
        return [row["body"] for row in json.loads(answer.data)["data"] if row["verified"]]

    def at_once(self, calls: list[Callable[[], Answer]]) -> list[Answer]:
        """Make all calls at the same time."""
        with ThreadPoolExecutor(len(calls)) as pool:
            return list(pool.map(lambda call: call(), calls))

    def check_story(self, payment: dict[str, Any]) -> None:
        """Events gapless, books balanced, one charge kept, amounts as in the bank's record."""
        identifier = payment["id"]
        events = self.get(f"/v1/payments/{identifier}/events?limit=100")["data"]
        assert [e["sequence"] for e in events] == list(range(1, len(events) + 1)), identifier
        journals = self.get(f"/v1/payments/{identifier}/ledger")["data"]
        assert all(sum(leg["amount"] for leg in j["legs"]) == 0 for j in journals), identifier
        charges = self.truth(identifier)
        kept = [c for c in charges if c["captured"] > c["refunded"] or c["status"] == "authorized"]
        assert len(kept) <= 1, (identifier, charges)
        net = sum(c["captured"] - c["refunded"] for c in charges)
        assert net == payment["amount_captured"] - payment["amount_refunded"], (identifier, payment, charges)


def eventually(look: Callable[[], Any], seconds: float, what: str) -> Any:
    """Poll until ``look`` returns something true; its bound is a failure's, not a success's, length."""
    end = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < end, f"{what} after {seconds} s"
        time.sleep(0.1)


def webhook_signature(secret: str, body: bytes) -> str:
    """HMAC-SHA256 in hex, as the sandbox's providers sign."""
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def basic(secret_key: str) -> str:
    """HTTP Basic with the key as user name."""
    return "Basic " + base64.b64encode(f"{secret_key}:".encode()).decode()


class LocalStack:
    """``python -m infra.local run`` on ports and in a directory of its own."""

    def __init__(self, home: Path, port_base: int) -> None:
        """Nothing starts yet."""
        self.home = home
        self._environment = child_environment(RAILYARD_HOME=str(home), RAILYARD_PORT_BASE=str(port_base))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Client:
        """Start it and wait until it serves."""
        with (self.home / "run.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "infra.local", "run"], cwd=ROOT, env=self._environment, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        local = self.home / "local.json"
        eventually(lambda: local.exists() or self._died(), START_SECONDS, "the stack is not up")
        assert not self._died(), (self.home / "run.log").read_text()[-4000:]
        return Client(json.loads(local.read_text()))

    def _died(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    def stop(self) -> None:
        """Stop it as Ctrl-C does, and wait."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(60)


@contextmanager
def running_stack(home: Path, port_base: int) -> Iterator[Client]:
    """A stack for the duration of the block."""
    stack = LocalStack(home, port_base)
    try:
        yield stack.start()
    finally:
        stack.stop()
