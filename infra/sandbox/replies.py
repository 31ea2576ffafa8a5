"""Turns the bank's verdict into what the client gets to see, or not."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from infra.sandbox.records import WITHOUT_ANSWER, Fault
from infra.sandbox.wire import Response, page

if TYPE_CHECKING:
    from collections.abc import Callable

    from infra.sandbox.bank import Verdict
    from infra.sandbox.config import ProviderSettings
    from infra.sandbox.records import RefusedError

T = TypeVar("T")
_PAST_TIMEOUT = 1.0  # seconds of silence after the client has given up
OWN_HEADER = "x-ratelimit-retry"  # Cashfree's, instead of Retry-After
SERVER_ERROR, TOO_MANY, UNAVAILABLE = 500, 429, 503


def limited(settings: ProviderSettings, response: Response) -> Response:
    """The same answer, with when to come back if it is a 429."""
    if response.status != TOO_MANY:
        return response
    name = OWN_HEADER if OWN_HEADER in response.headers else "retry-after"
    return Response(response.status, response.body, {**response.headers, name: f"{settings.retry_after:.0f}"})


def reply(
    settings: ProviderSettings,
    verdict: Verdict[T],
    render: Callable[[T], Response],
    refuse: Callable[[RefusedError], Response],
    fail: Callable[[int], Response],
) -> Response:
    """The answer in one provider's format: ``fail`` renders a 500 or 429, ``refuse`` a refusal."""
    fault = verdict.fault
    if fault in WITHOUT_ANSWER:
        late = settings.slow_seconds if fault is Fault.SLOW else _PAST_TIMEOUT
        return Response(0, hang=settings.client_timeout + late)
    if fault in (Fault.TECHNICAL, Fault.TECHNICAL_AFTER):
        return fail(SERVER_ERROR)
    if fault is Fault.RATE_LIMITED:
        return limited(settings, fail(TOO_MANY))
    if fault is Fault.MAINTENANCE:
        return page(UNAVAILABLE, "<!doctype html><title>Maintenance</title><p>We will be right back.</p>")
    if fault is Fault.HTML:
        return page(200, "<!doctype html><title>Please wait</title><p>We will be right back.</p>")
    if verdict.refusal is not None:
        response = refuse(verdict.refusal)
    elif verdict.record is not None:
        response = render(verdict.record)
    else:
        message = "a verdict holds a record, a refusal or a fault without either"
        raise TypeError(message)
    if fault is Fault.TRUNCATED:
        return Response(response.status, response.body[: len(response.body) // 2], response.headers)
    return response
