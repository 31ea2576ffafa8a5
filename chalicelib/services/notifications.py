"""Telling merchants: one delivery row per event and endpoint, signed posts with backoff, then dead.

Signatures follow Standard Webhooks 1.0.0: the id stays the same over tries, the timestamp does not.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from chalicelib.domain.ids import new_id
from chalicelib.domain.model import Tenant
from chalicelib.observability import logger, metric
from chalicelib.providers.http import TransportError
from chalicelib.services.outbox import public_body
from chalicelib.storage.items import DeliveryItem
from chalicelib.storage.mapping import tenant_key, tenant_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chalicelib.services.kit import Kit

_KEEP_SECONDS = 30 * 86400
_LOG_LENGTH = 10  # the newest tries kept on the row
_VISIBILITY_LIMIT = 900.0  # seconds; longer waits are due rows for the sweeper
_SECRET_PREFIX = "whsec_"
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
    pk, sk = tenant_key(tenant, event["id"]), "dlv#default"
    kit.store.add_delivery(
        DeliveryItem(
            pk,
            sk,
            id=new_id("dlv", now),
            event_id=event["id"],
            event_type=event["type"],
            payment_id=body["payment_id"],
            url=merchant.webhook_url,
            body=json.dumps(body, separators=(",", ":"), ensure_ascii=False),
            status="pending",
            tries=0,
            created_at=now,
            expires_at=round(now.timestamp()) + _KEEP_SECONDS,
            **_due(kit, event["id"], kit.timing.lease),
        )
    )
    kit.queues.send("deliveries", [{"pk": pk, "sk": sk}])


def _due(kit: Kit, identifier: str, seconds: float) -> dict[str, Any]:
    return kit.store.delivery_due(identifier, kit.now() + timedelta(seconds=seconds))


def deliver(kit: Kit, pk: str, sk: str) -> float | None:
    """Post a delivery once; returns the seconds until the next try, or None if it is over or parked.

    At least once: a crash after the post and before its record posts again, under the same id.
    """
    item = kit.queries.delivery(pk, sk)
    if item is None or item.status == "delivered":
        return None
    if item.status == "dead":
        raise DeliveryDead(item.id)
    secret = kit.merchants.get(tenant_of(pk)).webhook_secret
    if secret is None:
        logger.error("delivery without a signing secret; set the merchant's webhook secret", delivery=item.id)
        return None
    outcome = _post(kit, item, secret)
    before = int(item.tries)
    item.tries = before + 1
    item.log = [*(item.log or []), outcome][-_LOG_LENGTH:]
    wait = None
    if outcome.get("status") in _OK:
        item.status = "delivered"
    elif item.tries >= len(kit.settings.delivery_waits):
        item.status = "dead"
    else:
        wait = kit.settings.delivery_waits[before + 1] * (1 + _JITTER * (2 * kit.jitter() - 1))
    lease = None if wait is None else round(kit.now().timestamp() + wait + kit.timing.lease, 3)
    if not kit.store.record_try(item, before, lease_until=lease):
        return None  # another worker has posted it too, and goes on with it
    metric("WebhookDelivery", outcome=item.status if wait is None else "failed")
    if item.status == "dead":
        logger.error(
            "webhook given up after %d tries: %s", item.tries, outcome, delivery=item.id, payment_id=item.payment_id
        )
        raise DeliveryDead(item.id)
    return wait if wait is not None and wait <= _VISIBILITY_LIMIT else None


class DeliveryDead(Exception):
    """Every try of a delivery failed: its message belongs into the dead-letter queue."""


def _post(kit: Kit, item: DeliveryItem, secret: str) -> dict[str, Any]:
    now = kit.now()
    body = item.body.encode()
    timestamp = int(now.timestamp())
    headers = {
        "content-type": "application/json",
        "user-agent": "Railyard-Webhooks/1",
        "webhook-id": item.event_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign(secret, item.event_id, timestamp, body),
    }
    outcome: dict[str, Any] = {"at": now.isoformat(timespec="milliseconds")}
    try:
        answer = kit.http.request(
            "POST", item.url, headers=headers, body=body, read_timeout=kit.settings.delivery_timeout
        )
    except TransportError as error:
        return outcome | {"error": error.reason, "latency_ms": error.latency_ms}
    return outcome | {"status": answer.status, "latency_ms": answer.latency_ms}
