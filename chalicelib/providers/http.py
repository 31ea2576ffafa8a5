"""The one HTTP client for providers, and the only place that tells "never sent" from "nobody knows".

    TransportError
    ├── NotSentError   refused, DNS, TLS, connect or pool time-out: not one byte of the request left
    └── UnknownError   anything after that: read time-out, reset, broken or oversized answer

No retries and no redirects: both would repeat a request that may already have moved money.
Bodies and headers are never logged and never part of an exception.
"""

from __future__ import annotations

import json
import ssl
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from time import perf_counter
from typing import TYPE_CHECKING, NoReturn, Protocol

from urllib3 import PoolManager, Timeout
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import (
    ConnectTimeoutError,
    EmptyPoolError,
    HTTPError,
    LocationValueError,
    NameResolutionError,
    NewConnectionError,
    ReadTimeoutError,
    SSLError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from urllib3 import BaseHTTPResponse

MAX_ANSWER = 1024 * 1024  # bytes
_CHUNK = 64 * 1024
_NO_BODY = (204, 304)
_LONGEST_NUMBER = 40  # characters
_POOLS = 8
_CONNECTIONS = 32  # per provider host; more callers wait at most the connect time-out


class TransportError(Exception):
    """A request without an answer; ``reason`` is one short word, safe to store and show."""

    def __init__(self, reason: str, latency_ms: int = 0) -> None:
        """``latency_ms`` is how long the caller waited."""
        super().__init__(reason)
        self.reason = reason
        self.latency_ms = latency_ms


class NotSentError(TransportError):
    """The request certainly never reached the provider."""


class UnknownError(TransportError):
    """The request may have reached the provider."""


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """An answer that arrived whole. Header names are lower-case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    latency_ms: int = 0


class HttpClient(Protocol):
    """What adapters call. Tests and the fault suite pass their own."""

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None = None,
        read_timeout: float | None = None,
    ) -> HttpAnswer:
        """Send one request; raises NotSentError or UnknownError. ``read_timeout`` is in seconds."""


class _NotConnectedError(Exception):
    """Raised inside urllib3 when the connection could not be made, so that it cannot be mistaken later."""


def _why_not_connected(error: Exception) -> str:
    """One word for a failure before the connection stood."""
    if isinstance(error, NameResolutionError):
        return "dns"
    if isinstance(error, ssl.SSLError | SSLError):
        return "tls"
    if isinstance(error, NewConnectionError):  # also a ConnectTimeoutError, for old callers' sake
        return "connection_refused"
    if isinstance(error, ConnectTimeoutError | TimeoutError):
        return "connect_timeout"
    return "connection_refused"


class _Connection(HTTPConnection):
    """Marks every failure to connect."""

    def connect(self) -> None:
        try:
            super().connect()
        except (HTTPError, OSError) as error:
            raise _NotConnectedError(_why_not_connected(error)) from None


class _TlsConnection(HTTPSConnection):
    """Marks every failure to connect, handshake included."""

    def connect(self) -> None:
        try:
            super().connect()
        except (HTTPError, OSError) as error:
            raise _NotConnectedError(_why_not_connected(error)) from None


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class UrllibHttpClient:
    """HttpClient over urllib3; time-outs in seconds, connections kept and shared between threads."""

    def __init__(self, connect_timeout: float = 2.0, read_timeout: float = 10.0) -> None:
        """``read_timeout`` bounds the whole answer, not only each read."""
        self._connect_timeout = connect_timeout
        self._read_timeout = read_timeout
        self._pools = PoolManager(num_pools=_POOLS, maxsize=_CONNECTIONS, block=True, retries=False)
        self._pools.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None = None,
        read_timeout: float | None = None,
    ) -> HttpAnswer:
        """Send one request; raises NotSentError or UnknownError. ``read_timeout`` is in seconds."""
        read = read_timeout or self._read_timeout
        started = perf_counter()
        if not url.startswith(("https://", "http://")):
            raise NotSentError("invalid_url")
        try:
            response = self._pools.request(
                method,
                url,
                body=body,
                headers={"accept-encoding": "identity", **headers},
                timeout=Timeout(connect=self._connect_timeout, read=read),
                pool_timeout=self._connect_timeout,
                retries=False,
                redirect=False,
                preload_content=False,
                decode_content=False,
            )
        except _NotConnectedError as error:
            raise NotSentError(str(error), _since(started)) from None
        except EmptyPoolError:
            raise NotSentError("pool_timeout", _since(started)) from None
        except LocationValueError:
            raise NotSentError("invalid_url", _since(started)) from None
        except (HTTPError, OSError) as error:
            _unknown(error, started)
        except ValueError:
            # http.client refuses a malformed header or URL before it writes anything, and quotes it
            # in the message: a secret must not travel on in the exception.
            raise NotSentError("invalid_request", _since(started)) from None
        answer = self._read(response, started, started + self._connect_timeout + read)
        if not answer and not _says_its_length(response):
            raise UnknownError("connection_broken", _since(started))  # cut off within the headers, perhaps
        return HttpAnswer(
            status=response.status,
            headers={name.lower(): value for name, value in response.headers.items()},
            body=answer,
            latency_ms=_since(started),
        )

    @staticmethod
    def _read(response: BaseHTTPResponse, started: float, deadline: float) -> bytes:
        """The whole body, or UnknownError: an answer that breaks off says nothing."""
        parts: list[bytes] = []
        size = 0
        whole = False
        try:
            while part := response.read1(_CHUNK):
                size += len(part)
                if size > MAX_ANSWER:
                    raise UnknownError("answer_too_large", _since(started))
                if perf_counter() > deadline:
                    raise UnknownError("read_timeout", _since(started))
                parts.append(part)
            whole = True
        except (HTTPError, OSError) as error:
            _unknown(error, started)
        finally:
            if whole:
                response.release_conn()
            else:
                response.close()
        return b"".join(parts)


def _says_its_length(response: BaseHTTPResponse) -> bool:
    return (
        response.status in _NO_BODY or "content-length" in response.headers or "transfer-encoding" in response.headers
    )


def _since(started: float) -> int:
    return round((perf_counter() - started) * 1000)


def _unknown(error: Exception, started: float) -> NoReturn:
    """After the connection stood, every failure is Unknown: also a reset of a kept-alive connection."""
    reason = "read_timeout" if isinstance(error, ReadTimeoutError | TimeoutError) else "connection_broken"
    raise UnknownError(reason, _since(started)) from None


def _no_constant(name: str) -> NoReturn:
    message = f"{name} is not JSON"
    raise ValueError(message)


def _exact(text: str) -> Decimal:
    """A number with a fraction or exponent, to the digit; nobody means one of this size."""
    if len(text) > _LONGEST_NUMBER:
        message = "a number is too long"
        raise ValueError(message)
    try:
        return Decimal(text)
    except InvalidOperation:
        message = "a number is out of range"
        raise ValueError(message) from None


def parse_json(body: bytes) -> object:
    """Strict JSON with exact numbers; raises ValueError for anything else, whatever is wrong with it."""
    try:
        value: object = json.loads(body.decode("utf-8"), parse_float=_exact, parse_constant=_no_constant)
    except RecursionError:
        message = "nested too deeply"
        raise ValueError(message) from None
    return value
