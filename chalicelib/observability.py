"""Logs, metrics and the wrapper around every function that is not an HTTP route.

Log lines are JSON and carry ids, never personal details or secrets. Metrics are EMF lines in the
same log, which CloudWatch turns into metrics.
"""

from __future__ import annotations

import functools
import json
import re
from typing import TYPE_CHECKING, Any, TypeVar

from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.metrics.provider.cloudwatch_emf.cloudwatch import AmazonCloudWatchEMFProvider

if TYPE_CHECKING:
    from collections.abc import Callable

R = TypeVar("R")

# All that a line may say, besides its message: what is not here is left out, and a test names who tried.
LOGGED = frozenset(
    {
        "level", "location", "message", "timestamp", "service", "exception", "exception_name", "xray_trace_id",
        "function", "request_id", "merchant_id", "mode", "payment_id", "order_id", "event_id", "user_id", "account",
        "delivery", "provider", "method", "route", "status", "ms", "by", "sequence", "version", "fields", "dedupe_key",
        "type", "state", "was", "refund_id", "account_id", "token_id", "customer_id", "key_id", "file",
    }
)  # fmt: skip
_AN_ID = re.compile(r"[\w ./:#{}|,-]{0,200}", re.ASCII)
# Of what people write or a library says: an address, and a number that could be a card's or a telephone's.
_PRIVATE = re.compile(r"[^\s@\"'<>]{1,64}@[^\s@\"'<>]{1,255}|(?<![\w.-])\+?\d(?:[ -]?\d){9,18}(?![\w.-])")
_HIDDEN = "(hidden)"


def serialized(line: dict[str, Any]) -> str:
    """A line of the log as JSON: the fields that are allowed, ids as they are, texts without addresses and numbers."""
    return json.dumps({name: _shown(name, value) for name, value in line.items() if name in LOGGED}, default=str)


def _shown(name: str, value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, list | tuple):
        return [_shown(name, part) for part in value]
    if not isinstance(value, str) or name in ("timestamp", "location"):
        return value
    if name in ("message", "exception"):
        return _PRIVATE.sub(_HIDDEN, value)
    return value if _AN_ID.fullmatch(value) else _HIDDEN


logger = Logger(service="railyard", utc=True, json_serializer=serialized)
NAMESPACE = "Railyard"
_UNITS = {"Count": MetricUnit.Count, "Milliseconds": MetricUnit.Milliseconds, "Seconds": MetricUnit.Seconds}


def metric(name: str, value: float = 1, unit: str = "Count", **dimensions: str) -> None:
    """Emit one metric; ``unit`` is Count, Milliseconds or Seconds.

    It counts twice: for the service as a whole, which alarms watch, and by ``dimensions``.
    """
    emf = AmazonCloudWatchEMFProvider(namespace=NAMESPACE)  # adds the dimension `service`
    emf.add_metric(name=name, unit=_UNITS[unit], value=value)
    if dimensions:
        emf.add_dimensions(service=emf.service, **dimensions)
    emf.flush_metrics()


def entrypoint(function: Callable[[Any, Any], R]) -> Callable[[Any, Any], R]:
    """Wrap a Lambda handler: correlation, one log line per invocation, and errors logged before they rise.

    It sits under the Chalice decorator, because middleware registered in app.py does not run for
    functions declared in a Blueprint.
    """

    @functools.wraps(function)
    def wrapped(event: Any, context: Any) -> R:  # noqa: ANN401
        logger.thread_safe_clear_keys()
        logger.thread_safe_append_keys(function=function.__name__, request_id=getattr(context, "aws_request_id", None))
        try:
            result = function(event, context)
        except Exception:
            logger.exception("%s failed; it will be tried again", function.__name__)
            raise
        logger.info("%s done", function.__name__)
        return result

    return wrapped
