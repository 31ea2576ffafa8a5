"""The bank over real sockets, with the real HTTP client on the other side."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from chalicelib.domain.outcome import Charge, ChargeStatus, Effect, EffectStatus, NotFound, NotSent, Unknown
from chalicelib.providers.registry import NAMES
from infra.sandbox.refusals import watch
from tests.contract.running import Running, until
from tests.contract.sandbox_world import AMOUNT, NOW, intent, ref

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).parents[2]
CHARGED = (
    "simulator",
    "razorpay",
)  # of the providers that are charged server to server; the sockets are the same for all


@pytest.fixture
def running() -> Iterator[Running]:
    server = Running()
    yield server
    server.close()


def test_every_provider_answers_at_its_own_port(running: Running) -> None:
    for name in NAMES:
        provider, account = running.adapter(name)
        assert isinstance(provider.fetch(account, ref(intent())), NotFound), name


@pytest.mark.parametrize("name", CHARGED)
def test_a_payment_and_its_refund(running: Running, name: str) -> None:
    provider, account = running.adapter(name)
    made = intent()
    charge = provider.create(account, made)
    assert isinstance(charge, Charge)
    assert charge.status is ChargeStatus.SUCCEEDED
    assert charge.exchange is not None
    assert charge.exchange.latency_ms >= 5
    effect = provider.refund(account, ref(made, charge), AMOUNT, "rf_01K0000000000000000000KEY1")
    assert isinstance(effect, Effect)
    assert effect.status is EffectStatus.SUCCEEDED
    assert [(row["reference"], row["status"]) for row in running.truth()] == [(made.reference, "refunded")]


@pytest.mark.parametrize("name", CHARGED)
@pytest.mark.parametrize("outcome", ["timeout_before", "timeout_after"])
def test_a_held_request_is_unknown(running: Running, name: str, outcome: str) -> None:
    provider, account = running.adapter(name)
    made = intent(outcome)
    assert isinstance(provider.create(account, made), Unknown)
    found = provider.fetch(account, ref(made))
    assert isinstance(found, Charge if outcome == "timeout_after" else NotFound)


@pytest.mark.parametrize("name", CHARGED)
def test_a_slow_charge_happens_after_the_client_has_gone(running: Running, name: str) -> None:
    provider, account = running.adapter(name)
    assert running.root("POST", "/_chaos", provider=name, slow_seconds=0.3)[0] == 200
    made = intent("slow_charge")
    assert isinstance(provider.create(account, made), Unknown)
    until(lambda: isinstance(provider.fetch(account, ref(made)), Charge))
    assert len(running.truth()) == 1


@pytest.mark.parametrize("name", CHARGED)
def test_as_many_connections_are_refused_as_asked(running: Running, name: str) -> None:
    provider, account = running.adapter(name)
    wanted = 3
    assert running.root("POST", "/_chaos", provider=name, refuse_connections=wanted)[0] == 200
    outcomes = [provider.create(account, intent()) for _ in range(wanted)]
    assert {type(outcome) for outcome in outcomes} == {NotSent}
    until(lambda: isinstance(provider.create(account, intent()), Charge), 20)
    assert len(running.truth()) == 1


def test_the_filter_sees_connections_to_its_port_and_nothing_else() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        refusals = watch(closed.getsockname()[1])
        if refusals is None:
            pytest.skip("watching packets takes Linux and CAP_NET_RAW")
        for _ in range(3):
            with socket.socket() as probe:
                assert probe.connect_ex(closed.getsockname()) != 0
            with socket.create_connection(other.getsockname()) as fine:
                fine.sendall(b"x")
        until(lambda: refusals.count() >= 3)
        assert refusals.count() == 3
        refusals.close()


@pytest.mark.parametrize("name", CHARGED)
def test_a_refused_create_was_not_sent(running: Running, name: str) -> None:
    provider, account = running.adapter(name)
    assert isinstance(provider.fetch(account, ref(intent())), NotFound)  # leaves an idle connection behind
    running.root("POST", "/_chaos", provider=name, refuse_connections=2)
    outcome = provider.create(account, intent())
    assert isinstance(outcome, NotSent)
    assert outcome.error.provider_code == "connection_refused"
    assert running.truth() == []
    running.root("POST", "/_reset")  # also opens the door again
    until(lambda: isinstance(provider.create(account, intent()), Charge))
    assert len(running.truth()) == 1


class Receiver:
    """Takes webhooks, and refuses the first ``failures`` of them."""

    def __init__(self, failures: int = 0) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                outer.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
                self.send_response(500 if len(outer.got) <= failures else 200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook?x=1"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join(5)
        self.server.server_close()


@pytest.mark.parametrize("name", CHARGED)
def test_webhooks_are_posted_signed_and_tried_again(running: Running, name: str) -> None:
    receiver = Receiver(failures=1)
    try:
        body = {"provider": name, "webhook_url": receiver.url, "webhook_secret": "changed"}
        assert running.root("POST", "/_config", **body)[0] == 200
        assert running.root("POST", "/_config", provider=name, events=None)[0] == 200
        provider, account = running.adapter(name)
        assert list(account.webhook_secrets) == ["changed"]
        provider.create(account, intent())
        until(lambda: len(receiver.got) >= 2 and running.root("GET", "/_health")[1]["webhooks"] == 0)
        events = [provider.parse_webhook(account, headers, sent, NOW) for headers, sent in receiver.got]
        assert events[0].dedupe_key in {event.dedupe_key for event in events[1:]}
        assert all(headers["content-type"] == "application/json" for headers, _ in receiver.got)
    finally:
        receiver.close()


def test_many_at_once_and_each_charged_once(running: Running) -> None:
    provider, account = running.adapter("simulator")
    with ThreadPoolExecutor(64) as pool:
        outcomes = list(pool.map(lambda n: provider.create(account, intent(number=n % 32)), range(256)))
    assert {type(outcome) for outcome in outcomes} == {Charge}
    assert len(running.truth()) == 32


def test_over_refunds_are_refused_whoever_comes_first(running: Running) -> None:
    for name in CHARGED:
        provider, account = running.adapter(name)
        made = intent()
        known = ref(made, provider.create(account, made))
        with ThreadPoolExecutor(20) as pool:
            effects = list(
                pool.map(
                    lambda n, p=provider, a=account, k=known: p.refund(a, k, AMOUNT, f"rf_full_{n:06d}"), range(20)
                )
            )
        assert [effect.status for effect in effects if isinstance(effect, Effect)].count(EffectStatus.SUCCEEDED) == 1
    assert {row["refunded"] for row in running.truth()} == {AMOUNT}


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET nowhere HTTP/1.1\r\n\r\n",
        b"POST /_chaos HTTP/1.1\r\ncontent-length: x\r\n\r\n",
        b"POST /_chaos HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n",
        b"POST /_chaos HTTP/1.1\r\ncontent-length: 99999999\r\n\r\n",
        b"GET / HTTP/1.1\r\nx: " + b"y" * 70_000 + b"\r\n\r\n",
        b"POST /_chaos HTTP/1.1\r\ncontent-length: 2\r\n\r\n[]",
        b"POST /_chaos HTTP/1.1\r\ncontent-length: 1\r\n\r\n\xff",
    ],
)
def test_nonsense_gets_a_4xx_and_the_server_lives(running: Running, data: bytes) -> None:
    with socket.create_connection(("127.0.0.1", running.server.root.port), 5) as connection:
        connection.sendall(data)
        assert connection.recv(4096).startswith(b"HTTP/1.1 4")
    assert running.root("GET", "/_health")[0] == 200


def test_it_starts_says_so_and_ends_on_sigterm(tmp_path: Path) -> None:
    rows = json.loads((REPOSITORY / "infra" / "sandbox" / "providers.json").read_text(encoding="utf-8"))
    file = tmp_path / "providers.json"
    file.write_text(json.dumps(rows[:1]), encoding="utf-8")
    command = [sys.executable, "-m", "infra.sandbox", "--port", "0", "--providers", str(file)]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("sandbox bank ready: http://127.0.0.1:")
        port = int(line.split(" ")[3].rsplit(":", 1)[1])
        taken = subprocess.run(
            [*command[:4], str(port), *command[5:]],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert taken.returncode == 2
        assert "sandbox bank:" in taken.stderr
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(10) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""
    finally:
        process.kill()
        process.communicate()
