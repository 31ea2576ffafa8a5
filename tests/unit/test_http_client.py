"""The HTTP client against real sockets: which failures certainly sent nothing, and which may have."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from chalicelib.providers.http import MAX_ANSWER, NotSentError, UnknownError, UrllibHttpClient, parse_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nX-Thing: Seven\r\n\r\n{}"
FAST = 0.3  # seconds: the read time-out of these tests


class Peer:
    """A listener whose behaviour is a function of each connection, in order."""

    def __init__(self, *behaviours: Callable[[socket.socket], None]) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.seen: list[bytes] = []
        self.connections = 0
        self.closed = threading.Semaphore(0)  # released once for every connection that has been closed
        self._behaviours = behaviours
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        for behaviour in self._behaviours:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            with connection:
                connection.settimeout(5)
                behaviour(connection)
            self.closed.release()

    def read(self, connection: socket.socket) -> bytes:
        data = b""
        while b"\r\n\r\n" not in data:
            part = connection.recv(65536)
            if not part:
                return b""
            data += part
        head, _, body = data.partition(b"\r\n\r\n")
        length = next((int(row[15:]) for row in head.lower().split(b"\r\n") if row.startswith(b"content-length:")), 0)
        while len(body) < length:
            body += connection.recv(65536)
        self.seen.append(head + b"\r\n\r\n" + body)
        return data

    def close(self) -> None:
        self.listener.close()
        self._thread.join(5)


@contextmanager
def peer(*behaviours: Callable[[Peer, socket.socket], None]) -> Iterator[Peer]:
    made: Peer
    made = Peer(*[lambda connection, b=behaviour: b(made, connection) for behaviour in behaviours])
    try:
        yield made
    finally:
        # Wake an accept that waits for a connection that never came.
        with socket.socket() as last:
            last.settimeout(1)
            last.connect_ex(("127.0.0.1", made.port))
        made.close()


def answering(data: bytes) -> Callable[[Peer, socket.socket], None]:
    def behave(made: Peer, connection: socket.socket) -> None:
        if made.read(connection):
            connection.sendall(data)

    return behave


def silent(made: Peer, connection: socket.socket) -> None:
    made.read(connection)
    connection.recv(1)  # until the client gives up


def resetting(made: Peer, connection: socket.socket) -> None:
    made.read(connection)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")


def test_an_answer_arrives_with_lower_case_headers() -> None:
    with peer(answering(OK)) as made:
        answer = UrllibHttpClient().request("POST", made.url + "/x?y=1", headers={"X-Key": "k"}, body=b'{"a":1}')
        assert (answer.status, answer.headers["x-thing"], answer.body) == (200, "Seven", b"{}")
        assert answer.latency_ms >= 0
        assert made.seen[0].startswith(b"POST /x?y=1 HTTP/1.1\r\n")
        assert made.seen[0].endswith(b'\r\n\r\n{"a":1}')
        assert b"X-Key: k" in made.seen[0]


def test_connections_are_kept() -> None:
    def twice(made: Peer, connection: socket.socket) -> None:
        answering(OK)(made, connection)
        answering(OK)(made, connection)

    client = UrllibHttpClient()
    with peer(twice) as made:
        for _ in range(2):
            assert client.request("GET", made.url, headers={}).status == 200
        assert (made.connections, len(made.seen)) == (1, 2)


def test_a_connection_that_was_closed_while_idle_is_replaced() -> None:
    client = UrllibHttpClient()
    with peer(answering(OK), answering(OK)) as made:
        assert client.request("GET", made.url, headers={}).status == 200
        assert made.closed.acquire(timeout=5)
        assert client.request("GET", made.url, headers={}).status == 200
        assert made.connections == 2


def test_a_kept_connection_that_dies_under_a_request_is_unknown() -> None:
    def once_then_reset(made: Peer, connection: socket.socket) -> None:
        answering(OK)(made, connection)
        resetting(made, connection)

    client = UrllibHttpClient()
    with peer(once_then_reset) as made:
        client.request("GET", made.url, headers={})
        with pytest.raises(UnknownError):
            client.request("POST", made.url, headers={}, body=b"{}")
        assert len(made.seen) == 2


@pytest.mark.parametrize("status", [301, 302, 307, 308, 500, 503])
def test_nothing_is_repeated_and_no_redirect_is_followed(status: int) -> None:
    data = f"HTTP/1.1 {status} X\r\nlocation: /elsewhere\r\nretry-after: 0\r\ncontent-length: 0\r\n\r\n".encode()
    with peer(answering(data)) as made:
        assert UrllibHttpClient().request("POST", made.url, headers={}, body=b"{}").status == status
        assert len(made.seen) == 1


def test_a_refused_connection_is_not_sent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(NotSentError, match="connection_refused"):
        UrllibHttpClient().request("GET", f"http://127.0.0.1:{port}", headers={})


def test_an_unknown_host_is_not_sent() -> None:
    with pytest.raises(NotSentError, match="dns"):
        UrllibHttpClient().request("GET", "http://no-such-host.invalid/", headers={})


def test_a_failed_handshake_is_not_sent() -> None:
    def plain(_made: Peer, connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with peer(plain) as made, pytest.raises(NotSentError, match="tls"):
        UrllibHttpClient().request("POST", f"https://127.0.0.1:{made.port}", headers={}, body=b"{}")


def test_a_handshake_that_hangs_is_not_sent() -> None:
    def hang(_made: Peer, connection: socket.socket) -> None:
        while connection.recv(4096):
            pass

    with peer(hang) as made, pytest.raises(NotSentError):
        UrllibHttpClient(FAST, FAST).request("POST", f"https://127.0.0.1:{made.port}", headers={}, body=b"{}")


def test_a_connect_time_out_is_not_sent() -> None:
    # A backlog that is full makes the kernel drop further connection attempts.
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        try:
            with pytest.raises(NotSentError, match="connect_timeout"):
                UrllibHttpClient(FAST, FAST).request("GET", f"http://127.0.0.1:{listener.getsockname()[1]}", headers={})
        finally:
            for filler in fillers:
                filler.close()


def test_no_free_connection_in_time_is_not_sent() -> None:
    client = UrllibHttpClient(FAST, 5)
    client._pools.connection_pool_kw["maxsize"] = 1
    released = threading.Event()
    arrived = threading.Event()

    def hold(made: Peer, connection: socket.socket) -> None:
        made.read(connection)
        arrived.set()
        released.wait(5)
        connection.sendall(OK)

    with peer(hold) as made:
        first = threading.Thread(target=client.request, args=("GET", made.url), kwargs={"headers": {}})
        first.start()
        assert arrived.wait(5)
        with pytest.raises(NotSentError, match="pool_timeout"):
            client.request("GET", made.url, headers={})
        released.set()
        first.join(5)


@pytest.mark.parametrize("url", ["", "ftp://127.0.0.1/", "http://[::1", "nonsense"])
def test_a_url_that_is_none_is_not_sent(url: str) -> None:
    with pytest.raises(NotSentError):
        UrllibHttpClient().request("GET", url, headers={})


@pytest.mark.parametrize("secret", ["top\nsecret", "top\r\nsecret: 1", "top\u20acsecret"])
def test_a_header_that_cannot_be_sent_does_not_leak(secret: str) -> None:
    with peer(answering(OK)) as made:
        with pytest.raises(NotSentError) as caught:
            UrllibHttpClient().request("GET", made.url, headers={"authorization": secret})
        assert "secret" not in repr(caught.value)
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__
        assert made.seen == []


def test_a_read_time_out_is_unknown() -> None:
    with peer(silent) as made:
        with pytest.raises(UnknownError, match="read_timeout") as caught:
            UrllibHttpClient(2, 5).request("POST", made.url, headers={}, body=b"{}", read_timeout=FAST)
        assert caught.value.latency_ms >= FAST * 900
        assert len(made.seen) == 1


def test_an_answer_that_drips_ends_at_the_time_out() -> None:
    def drip(made: Peer, connection: socket.socket) -> None:
        made.read(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
        connection.settimeout(0.05)
        for _ in range(100):
            try:
                connection.sendall(b"x")
                if not connection.recv(1):
                    return
            except TimeoutError:
                continue
            except OSError:
                return

    with peer(drip) as made, pytest.raises(UnknownError, match="read_timeout"):
        UrllibHttpClient(FAST, FAST).request("GET", made.url, headers={})


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"NOT HTTP AT ALL\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
    ],
    ids=["nothing", "half-head", "half-body", "half-chunk", "bad-chunk", "no-http", "bad-status"],
)
def test_a_broken_answer_is_unknown(data: bytes) -> None:
    with peer(answering(data)) as made:
        with pytest.raises(UnknownError):
            UrllibHttpClient().request("POST", made.url, headers={}, body=b"{}")
        assert len(made.seen) == 1


def test_a_reset_after_sending_is_unknown() -> None:
    with peer(resetting) as made, pytest.raises(UnknownError):
        UrllibHttpClient().request("POST", made.url, headers={}, body=b"{}")


@pytest.mark.parametrize("size", [MAX_ANSWER, MAX_ANSWER + 1])
def test_an_answer_that_is_too_large_is_unknown(size: int) -> None:
    data = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size + b"x" * size
    with peer(answering(data)) as made:
        if size <= MAX_ANSWER:
            assert len(UrllibHttpClient().request("GET", made.url, headers={}).body) == size
        else:
            with pytest.raises(UnknownError, match="answer_too_large"):
                UrllibHttpClient().request("GET", made.url, headers={})


def test_chunked_answers_are_whole() -> None:
    data = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n"
    with peer(answering(data)) as made:
        assert UrllibHttpClient().request("GET", made.url, headers={}).body == b"{}"


def test_json_numbers_are_exact() -> None:
    assert str(parse_json(b'{"a": 0.10, "b": 100}')) == "{'a': Decimal('0.10'), 'b': 100}"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"{",
        b"NaN",
        b'{"a": Infinity}',
        b"[" * 200_000,
        b"1" * 10_000,
        b"<html>",
        b"1e99999999999999999999",
        b"1." + b"1" * 400,
    ],
)
def test_what_is_not_json_is_a_value_error(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_json(body)
