"""One call to a provider that answers JSON, sorted by the rules that hold at every provider.

Connection never made, 401, 403 and 429      NotSent: refused before any effect
time-out, reset, 3xx, 408, 5xx, not JSON     Unknown: it may have taken effect
any other answer with JSON in it             Answer: the adapter knows what it means
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from chalicelib.domain.errors import ErrorClass, ErrorCode, PaymentError
from chalicelib.domain.outcome import Exchange, NotSent, Unknown
from chalicelib.providers.http import NotSentError, UnknownError, parse_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chalicelib.providers.http import HttpAnswer, HttpClient

MAX_RETRY_AFTER = 3600.0  # seconds; a provider that asks for more is asked again anyway
_SECONDS = re.compile(r"\d{1,6}(\.\d{1,3})?", re.ASCII)
_UNAUTHORIZED, _FORBIDDEN, _TIMED_OUT, _TOO_EARLY, _TOO_MANY = 401, 403, 408, 425, 429
_SERVER, _UNAVAILABLE = 500, 503
_SUCCESS = range(200, 300)
_REDIRECTS = range(300, 400)


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer; a JSON list at its top is the object's ``items``."""

    status: int
    body: Mapping[str, object] = field(repr=False)
    exchange: Exchange
    retry_after: float | None = None

    @property
    def ok(self) -> bool:
        """Whether the provider accepted the request."""
        return self.status in _SUCCESS


def call(
    http: HttpClient,
    method: str,
    base_url: str,
    path: str,
    *,
    headers: Mapping[str, str],
    payload: Mapping[str, object] | None = None,
    form: Mapping[str, str] | None = None,
    refusal: str | None = None,
) -> Answer | NotSent | Unknown:
    """Make one call; ``path`` may carry ids but no personal data, because it is stored.

    ``payload`` travels as JSON, ``form`` as a web form.
    ``refusal`` is the error code with which this provider documents that a 503 had no effect.
    """
    body: bytes | None = None
    sent = {"accept": "application/json", **headers}
    if payload is not None:
        body, sent["content-type"] = to_json(payload), "application/json"
    elif form is not None:
        body, sent["content-type"] = urlencode(form).encode(), "application/x-www-form-urlencoded"
    exchange = Exchange(method=method, path=path, http_status=None, latency_ms=0)
    try:
        answer = http.request(method, base_url.rstrip("/") + path, headers=sent, body=body)
    except NotSentError as error:
        return NotSent(
            PaymentError(
                ErrorClass.PROVIDER_UNAVAILABLE,
                ErrorCode.PROVIDER_UNAVAILABLE,
                "The provider could not be reached.",
                error.reason,
            ),
            replace(exchange, latency_ms=error.latency_ms),
        )
    except UnknownError as error:
        return Unknown(unknown(error.reason), replace(exchange, latency_ms=error.latency_ms))
    return _sort(answer, exchange, refusal)


def _sort(answer: HttpAnswer, exchange: Exchange, refusal: str | None) -> Answer | NotSent | Unknown:
    """Tell a refusal before any effect, a broken answer and a proper answer apart."""
    exchange = replace(
        exchange,
        http_status=answer.status,
        latency_ms=answer.latency_ms,
        request_id=(answer.headers.get("x-request-id") or answer.headers.get("request-id") or "")[:100] or None,
    )
    retry_after = seconds(answer.headers.get("retry-after") or answer.headers.get("x-ratelimit-retry"))
    code = f"http_{answer.status}"
    if answer.status == _TOO_MANY:
        error = PaymentError(ErrorClass.RATE_LIMITED, ErrorCode.RATE_LIMITED, "The provider is busy.", code)
        return NotSent(error, exchange, retry_after)
    if answer.status == _UNAUTHORIZED:
        return NotSent(misconfigured(code), exchange, retry_after)
    try:
        body = parse_json(answer.body)
    except ValueError:
        body = None
    if refusal and answer.status == _UNAVAILABLE and isinstance(body, dict):
        said = text(section(body, "error"), "code")
        if said == refusal:
            error = PaymentError(
                ErrorClass.PROVIDER_UNAVAILABLE, ErrorCode.NOT_ACCEPTED, "The provider does not take this now.", said
            )
            return NotSent(error, exchange, retry_after)
    if answer.status >= _SERVER or answer.status in (_TIMED_OUT, _TOO_EARLY) or answer.status in _REDIRECTS:
        return Unknown(unknown(code), exchange, retry_after)
    if isinstance(body, list):
        body = {"items": body}
    if not isinstance(body, dict):
        # Something between us and the provider answered, or the provider's answer broke off.
        return Unknown(unknown(f"{code}_unreadable"), exchange, retry_after)
    if answer.status == _FORBIDDEN:
        return NotSent(misconfigured(code), exchange, retry_after)
    return Answer(answer.status, body, exchange, retry_after)


def misconfigured(code: str) -> PaymentError:
    """The provider refuses our credentials or account."""
    return PaymentError(
        ErrorClass.CONFIG, ErrorCode.PROVIDER_MISCONFIGURED, "The provider does not accept this account.", code
    )


def unknown(code: str) -> PaymentError:
    """Nobody knows whether the provider acted."""
    return PaymentError(
        ErrorClass.TIMEOUT_UNKNOWN, ErrorCode.OUTCOME_UNKNOWN, "The provider's answer did not arrive.", code
    )


def unreadable(answer: Answer) -> Unknown:
    """An accepted request whose answer lacks what it must have."""
    return Unknown(unknown("unexpected_answer"), answer.exchange, answer.retry_after)


def conflict(message: str, code: str | None) -> PaymentError:
    """The provider says the object is in another state."""
    return PaymentError(ErrorClass.CONFLICT, ErrorCode.CONFLICT, message, code)


def to_json(payload: Mapping[str, object]) -> bytes:
    """Compact JSON; raises ValueError for a Decimal that would not arrive as it is."""
    return json.dumps(payload, separators=(",", ":"), allow_nan=False, default=_number).encode()


def _number(value: object) -> float:
    """JSON knows one kind of number, which Python prints from a float: exact to 15 digits, and checked."""
    if not isinstance(value, Decimal):
        msg = f"{type(value).__name__} is not JSON"
        raise TypeError(msg)
    printed = float(value)
    if Decimal(repr(printed)) != value:
        msg = f"{value} has too many digits"
        raise ValueError(msg)
    return printed


def seconds(value: str | None) -> float | None:
    """A Retry-After in seconds; the date form is ignored, we have backoff of our own."""
    if value is None or not _SECONDS.fullmatch(value.strip()):
        return None
    return min(float(value), MAX_RETRY_AFTER)


def text(body: Mapping[str, object], name: str) -> str | None:
    """A non-empty string field, or None."""
    value = body.get(name)
    return value if isinstance(value, str) and value else None


def integer(body: Mapping[str, object], name: str) -> int | None:
    """An integer field, or None; a bool or a fraction is not one."""
    value = body.get(name)
    return value if type(value) is int else None


def section(body: Mapping[str, object], name: str) -> Mapping[str, object]:
    """A nested object, or an empty one."""
    value = body.get(name)
    return value if isinstance(value, dict) else {}


def rows(body: Mapping[str, object], name: str) -> list[Mapping[str, object]]:
    """A list of objects, or an empty one."""
    value = body.get(name)
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []
