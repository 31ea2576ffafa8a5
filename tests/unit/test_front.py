"""The local API's front: passes bytes through, queues instead of refusing, never lets a path climb out."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from infra.front import Front

if TYPE_CHECKING:
    from collections.abc import Iterator


class Gateway:
    """Stands for the emulator's API Gateway: echoes requests, holds those for /hold until released."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.changed = threading.Condition()
        self.held = 0
        self.most = 0
        gateway = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                path = self.path.removeprefix("/stage")
                if path.startswith("/hold"):
                    with gateway.changed:
                        gateway.held += 1
                        gateway.most = max(gateway.most, gateway.held)
                        gateway.changed.notify_all()
                    gateway.release.wait(20)
                    with gateway.changed:
                        gateway.held -= 1
                if path.startswith("/crash"):
                    self.reply(502, "application/json", b'{"message": "{errorType}"}')
                elif path.startswith("/stored"):
                    self.reply(502, "application/problem+json", b"ours")
                else:
                    document = {"method": self.command, "path": path, "headers": self.headers.items()}
                    self.reply(201, "application/json", json.dumps(document).encode() + body)

            do_GET = do_POST = do_DELETE = answer  # noqa: N815 - http.server's names

            def reply(self, status: int, kind: str, content: bytes) -> None:
                self.send_response_only(status)
                self.send_header("Content-Type", kind)
                self.send_header("X-Twice", "1")
                self.send_header("X-Twice", "2")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class calls it so
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()
        self.base = f"http://127.0.0.1:{self.server.server_address[1]}/stage"

    def until_held(self, count: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: self.held >= count, timeout=20)

    def close(self) -> None:
        self.release.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    made = Gateway()
    yield made
    made.close()


@pytest.fixture
def front(gateway: Gateway) -> Iterator[Front]:
    made = Front(0, lambda: gateway.base, general=2, webhooks=1)
    made.start()
    yield made
    made.stop()


def send(front: Front, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", front.port, timeout=30)
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, {name.lower(): value for name, value in answer.getheaders()}, content


def test_bytes_headers_and_status_pass_through(front: Front) -> None:
    body = bytes(range(256))
    status, headers, content = send(
        front, "POST", "/v1/x%20y?a=%2F&a=2", body, Prefer="wait=5", Authorization="Bearer k"
    )
    echoed: dict[str, Any] = json.loads(content[: -len(body)])
    assert status == 201
    assert content.endswith(body)
    assert headers["x-twice"] in {"1", "2"}
    assert echoed["path"] == "/v1/x%20y?a=%2F&a=2"
    sent = {name.lower(): value for name, value in echoed["headers"]}
    assert sent["prefer"] == "wait=5"
    assert sent["authorization"] == "Bearer k"
    assert sent["x-forwarded-for"] == "127.0.0.1"


@pytest.mark.parametrize(
    "path", ["/../admin", "/v1/../../admin", "/%2e%2e/admin", "/v1/%2E%2E/%2e%2e/admin", "/v1/./x"]
)
def test_a_path_cannot_climb_out_of_the_stage(front: Front, path: str) -> None:
    status, headers, content = send(front, "GET", path)
    assert status == 404
    assert headers["content-type"] == "application/problem+json"
    assert json.loads(content)["code"] == "not_found"


def test_a_failed_integration_is_a_problem_document_and_our_own_502_is_left_alone(front: Front) -> None:
    status, headers, content = send(front, "GET", "/crash")
    assert (status, headers["content-type"]) == (502, "application/problem+json")
    assert json.loads(content)["code"] == "bad_gateway"
    assert headers["railyard-request-id"]
    assert send(front, "GET", "/stored")[2] == b"ours"


def test_what_http_itself_refuses_is_a_problem_document(front: Front) -> None:
    for raw, status in ((b"garbage\r\n\r\n", b"400"), (b"BREW / HTTP/1.1\r\nHost: x\r\n\r\n", b"405")):
        with socket.create_connection(("127.0.0.1", front.port), timeout=10) as connection:
            connection.sendall(raw)
            answer = connection.makefile("rb").read()
        assert answer.startswith(b"HTTP/1.1 " + status)
        assert b"application/problem+json" in answer


def test_a_body_above_ten_megabytes_is_413(front: Front) -> None:
    status, headers, _ = send(front, "POST", "/v1/payments", b"x" * (10 * 1024 * 1024 + 1))
    assert (status, headers["content-type"]) == (413, "application/problem+json")


def test_requests_beyond_the_slots_wait_and_webhooks_do_not(front: Front, gateway: Gateway) -> None:
    answers: Counter[int] = Counter()
    lock = threading.Lock()

    def client() -> None:
        status = send(front, "POST", "/hold")[0]
        with lock:
            answers[status] += 1

    clients = [threading.Thread(target=client) for _ in range(64)]
    for one in clients:
        one.start()
    gateway.until_held(2)
    assert send(front, "POST", "/webhooks/simulator/acc_1")[0] == 201  # both general slots are taken
    assert not answers
    gateway.release.set()
    for one in clients:
        one.join(30)
    assert answers == {201: 64}
    assert gateway.most == 2


def test_a_gateway_that_is_gone_is_502() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    made = Front(0, lambda: f"http://127.0.0.1:{port}/stage")
    made.start()
    status, headers, _ = send(made, "GET", "/v1/payments")
    made.stop()
    assert (status, headers["content-type"]) == (502, "application/problem+json")
