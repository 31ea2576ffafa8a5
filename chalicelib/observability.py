"""Logs, metrics and the wrapper around every function that is not an HTTP route.

Log lines are JSON and carry ids, never personal details or secrets. Metrics are EMF lines in the
same log, which CloudWatch turns into metrics.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, TypeVar

from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.metrics.provider.cloudwatch_emf.cloudwatch import AmazonCloudWatchEMFProvider

if TYPE_CHECKING:
    from collections.abc import Callable

R = TypeVar("R")

logger = Logger(service="railyard", utc=True)
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
