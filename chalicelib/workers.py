"""Handlers of the stream, the queues and the schedule; infra/resources.yaml wires their triggers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from chalice.app import Blueprint

from chalicelib.domain.model import Tenant
from chalicelib.observability import entrypoint, logger
from chalicelib.services import (
    notifications,
    operations,
    outbox,
    overdue,
    projections,
    provider_events,
    sweeping,
    watching,
)
from chalicelib.wiring import kit

if TYPE_CHECKING:
    from collections.abc import Callable

    from chalicelib.storage.queues import QueueName

workers = Blueprint(__name__)

_HINT_TRIES = 3  # how often an unsigned callback may make us ask in vain
_WATCH_SECONDS = 40.0
_SWEEP_SECONDS = 40.0  # of handing over per invocation, below the function's time-out


class Later(Exception):
    """Not a failure: the message is to come again after ``seconds``."""

    def __init__(self, seconds: float) -> None:
        """``seconds`` until it comes again, at most 12 hours."""
        super().__init__(f"again in {seconds:.1f} s")
        self.seconds = seconds


def consume(event: dict[str, Any], queue: QueueName, handle: Callable[[dict[str, Any], int], None]) -> dict[str, Any]:
    """Give each message of a batch to ``handle(body, receive_count)``; those that failed come again.

    One bad message holds up no other one. Later comes back when it asked to; anything else after
    the queue's visibility time-out, and after maxReceiveCount receives goes to the dead-letter queue.
    """
    failed = []
    for record in event["Records"]:
        try:
            is_done = _take(record, queue, handle)
        except Exception:  # noqa: BLE001 - one bad message must not hold up the batch
            logger.exception("message %s of %s failed; it will come again", record["messageId"], queue)
            is_done = False
        if not is_done:
            failed.append({"itemIdentifier": record["messageId"]})
    return {"batchItemFailures": failed}


def _take(record: dict[str, Any], queue: QueueName, handle: Callable[[dict[str, Any], int], None]) -> bool:
    try:
        handle(json.loads(record["body"]), int(record["attributes"]["ApproximateReceiveCount"]))
    except Later as later:
        kit().queues.retry_in(queue, record["receiptHandle"], later.seconds)
        return False
    return True


def _tenant(message: dict[str, Any]) -> Tenant:
    return Tenant(message["merchant_id"], message["mode"])


@workers.lambda_function(name="relay")
@entrypoint
def relay(event: dict[str, Any], _: object) -> dict[str, Any]:
    """Payments table stream → queues. An exception brings the whole batch again."""
    return {"sent": outbox.relay(kit(), event["Records"])}


@workers.lambda_function(name="operate")
@entrypoint
def operate(event: dict[str, Any], _: object) -> dict[str, Any]:
    """Queue ``operations``: captures, voids, refunds and reversals, and whatever the sweeper found overdue."""

    def handle(message: dict[str, Any], _: int) -> None:
        if "overdue" in message:
            overdue.take_up(kit(), _tenant(message), message["subject_id"], message["overdue"], message["lease"])
            return
        wait = operations.work(kit(), _tenant(message), message["subject_id"], message["operation_id"])
        if wait is not None:
            raise Later(wait)

    return consume(event, "operations", handle)


@workers.lambda_function(name="ingest")
@entrypoint
def ingest(event: dict[str, Any], _: object) -> dict[str, Any]:
    """Queue ``provider-events``: verified events of providers."""

    def handle(message: dict[str, Any], received: int) -> None:
        tenant, account = _tenant(message), message["account"]
        provider_event = provider_events.event_in(kit(), tenant, message)
        try:
            provider_events.ingest(kit(), tenant, account, provider_event)
        except provider_events.Unconfirmed:
            if provider_event.verified or received <= _HINT_TRIES:
                raise
            logger.warning("gave up asking about an unsigned callback", account=account)
        except provider_events.NoPayment as none:
            waits = kit().settings.orphan_waits
            if received <= len(waits):
                raise Later(waits[received - 1]) from none
            provider_events.keep_orphan(kit(), tenant, account, provider_event)

    return consume(event, "provider-events", handle)


@workers.lambda_function(name="notify")
@entrypoint
def notify(event: dict[str, Any], _: object) -> dict[str, Any]:
    """Queue ``notifications``: an event becomes a delivery."""
    return consume(event, "notifications", lambda message, _: notifications.notify(kit(), message))


@workers.lambda_function(name="deliver")
@entrypoint
def deliver(event: dict[str, Any], _: object) -> dict[str, Any]:
    """Queue ``deliveries``: one signed post to a merchant."""

    def handle(message: dict[str, Any], _: int) -> None:
        try:
            wait = notifications.deliver(kit(), _tenant(message), message["event_id"], message["endpoint"])
        except notifications.DeliveryDead as dead:
            raise Later(0) from dead  # on its way to the dead-letter queue, by maxReceiveCount
        if wait is not None:
            raise Later(wait)

    return consume(event, "deliveries", handle)


@workers.lambda_function(name="project")
@entrypoint
def project(event: dict[str, Any], _: object) -> dict[str, Any]:
    """Queue ``projections``: balances and statistics."""
    return consume(event, "projections", lambda message, _: projections.project(kit(), message))


@workers.lambda_function(name="sweep")
@entrypoint
def sweep(_: dict[str, Any], __: object) -> dict[str, Any]:
    """Schedule: take up overdue work, in as many passes as the stage's settings say."""
    settings = kit().settings
    taken = 0
    for number in range(settings.sweep_passes):
        if number:
            kit().sleep(settings.sweep_pause)
        taken += sweeping.sweep(kit(), _SWEEP_SECONDS / settings.sweep_passes)
    return {"taken": taken}


@workers.lambda_function(name="watch")
@entrypoint
def watch(_: dict[str, Any], __: object) -> dict[str, Any]:
    """Schedule: look at what providers did in the minutes that are over."""
    return {"changed": watching.watch(kit(), _WATCH_SECONDS)}
