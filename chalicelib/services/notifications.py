"""Telling merchants: one delivery row per event and endpoint, signed posts with backoff, then dead.

Signatures follow Standard Webhooks 1.0.0: the id stays the same over tries, the timestamp does not.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from chalicelib.domain.ids import new_id
from chalicelib.domain.model import Delivery, Tenant
from chalicelib.observability import logger, metric
from chalicelib.providers.http import TransportError
from chalicelib.services.outbox import public_body

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chalicelib.services.kit import Kit

_ENDPOINT = "default"  # the one in the merchant's settings
_LOG_LENGTH = 10  # the newest tries kept on the row
_VISIBILITY_LIMIT = 900.0  # seconds; longer waits are due rows for the sweeper
_SECRET_PREFIX = "whsec_"  # noqa: S105 - the prefix only
_OK = range(200, 300)
_JITTER = 0.2


def sign(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """``v1,<base64>`` of HMAC-SHA256 over ``{id}.{timestamp}.{body}`` (Standard Webhooks 1.0.0)."""
    key = base64.b64decode(secret.removeprefix(_SECRET_PREFIX))
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def notify(kit: Kit, event: Mapping[str, Any]) -> None:
    """Turn an event into a delivery to the merchant's endpoint, if it has one.

    A crash between the row and the message repeats both; the row exists then, the message goes again.
    """
    tenant = Tenant(event["merchant_id"], event["mode"])
    merchant = kit.merchants.get(tenant)
    if merchant.webhook_url is None:
        return
    now = kit.now()
    created_at = datetime.fromisoformat(event["created_at"]).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
    body = public_body(event, created_at)
    kit.store.add_delivery(
        Delivery(
            tenant=tenant,
            id=new_id("dlv", now),
            event_id=event["id"],
            endpoint=_ENDPOINT,
            event_type=event["type"],
            payment_id=body["payment_id"],
            url=merchant.webhook_url,
            body=json.dumps(body, separators=(",", ":"), ensure_ascii=False),
            status="pending",
            created_at=now,
            due_at=now + timedelta(seconds=kit.timing.lease),
        )
    )
    send(kit, tenant, event["id"], _ENDPOINT)


def send(kit: Kit, tenant: Tenant, event_id: str, endpoint: str) -> None:
    """Queue a delivery's next try."""
    message = {"merchant_id": tenant.merchant_id, "mode": tenant.mode, "event_id": event_id, "endpoint": endpoint}
    kit.queues.send("deliveries", [message])


def deliver(kit: Kit, tenant: Tenant, event_id: str, endpoint: str) -> float | None:
    """Post a delivery once; returns the seconds until the next try, or None if it is over or parked.

    At least once: a crash after the post and before its record posts again, under the same id.
    Raises DeliveryDead when every try has failed.
    """
    delivery = kit.queries.delivery(tenant, event_id, endpoint)
    if delivery is None or delivery.status == "delivered":
        return None
    if delivery.status == "dead":
        raise DeliveryDead(delivery.id)
    waits = kit.settings.delivery_waits
    if delivery.tries >= len(waits):  # the last try's worker died with it
        _give_up(kit, delivery)
    tried = _claim_try(kit, delivery)
    if tried is None:
        return None  # another worker is at it, and goes on with it
    secret = kit.merchants.get(tenant).webhook_secret
    if secret is None:
        msg = f"{delivery.id}: merchant {tenant.merchant_id} has no webhook secret; set one and redrive"
        raise LookupError(msg)
    outcome = _post(kit, delivery, secret)
    tried = replace(tried, log=[*delivery.log, outcome][-_LOG_LENGTH:])
    if outcome.get("status") in _OK:
        kit.store.record_outcome(replace(tried, status="delivered", due_at=None))
        metric("WebhookDelivery", outcome="delivered")
        return None
    if tried.tries >= len(waits):
        _give_up(kit, tried)
    kit.store.record_outcome(tried)
    metric("WebhookDelivery", outcome="failed")
    wait = _wait(kit, tried.tries)
    return wait if wait <= _VISIBILITY_LIMIT else None


def _wait(kit: Kit, tries: int) -> float:
    return kit.settings.delivery_waits[tries] * (1 + _JITTER * (2 * kit.jitter() - 1))


def _claim_try(kit: Kit, delivery: Delivery) -> Delivery | None:
    """Count the try before it is made: a worker that dies in the post, each time, must not post for ever."""
    tries, waits = delivery.tries + 1, kit.settings.delivery_waits
    ahead = waits[tries] * (1 + _JITTER) if tries < len(waits) else 0.0
    due = kit.now() + timedelta(seconds=ahead + kit.settings.delivery_timeout + kit.timing.lease)
    tried = replace(delivery, tries=tries, due_at=due)
    return tried if kit.store.claim_try(tried) else None


def _give_up(kit: Kit, delivery: Delivery) -> NoReturn:
    kit.store.record_outcome(replace(delivery, status="dead", due_at=None))
    metric("WebhookDelivery", outcome="dead")
    logger.error(
        "webhook given up after %d tries: %s", delivery.tries, delivery.log[-1:], delivery=delivery.id,
        payment_id=delivery.payment_id,
    )  # fmt: skip
    raise DeliveryDead(delivery.id)


class DeliveryDead(Exception):
    """Every try of a delivery failed: its message belongs into the dead-letter queue."""


def _post(kit: Kit, delivery: Delivery, secret: str) -> dict[str, Any]:
    now = kit.now()
    body = delivery.body.encode()
    timestamp = int(now.timestamp())
    headers = {
        "content-type": "application/json",
        "user-agent": "Railyard-Webhooks/1",
        "webhook-id": delivery.event_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign(secret, delivery.event_id, timestamp, body),
    }
    outcome: dict[str, Any] = {"at": now.isoformat(timespec="milliseconds")}
    try:
        answer = kit.http.request(
            "POST", delivery.url, headers=headers, body=body, read_timeout=kit.settings.delivery_timeout
        )
    except TransportError as error:
        return outcome | {"error": error.reason, "latency_ms": error.latency_ms}
    return outcome | {"status": answer.status, "latency_ms": answer.latency_ms}
