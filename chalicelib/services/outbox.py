"""From committed events to queues: the only sender to ``operations``, ``notifications`` and ``projections``.

The table's stream delivers every event at least once and in order per payment. A failed send
raises, so that the whole batch comes again: the outbox never skips.
"""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from chalicelib.domain.draft import PUBLIC_EVENTS
from chalicelib.domain.ids import made_at

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from chalicelib.services.kit import Kit
    from chalicelib.storage.queues import QueueName


def relay(kit: Kit, records: Iterable[Mapping[str, Any]]) -> int:
    """Send what DynamoDB stream records of new events ask for; returns how many messages went out."""
    outgoing: defaultdict[QueueName, list[Mapping[str, object]]] = defaultdict(list)
    for record in records:
        image = record.get("dynamodb", {}).get("NewImage", {})
        if record.get("eventName") != "INSERT" or not image.get("sk", {}).get("S", "").startswith("evt#"):
            continue
        event = _message(image)
        if "operation_id" in image:
            outgoing["operations"].append(
                _only(event, "merchant_id", "mode", "subject_id") | {"operation_id": image["operation_id"]["S"]}
            )
        if event["type"] in PUBLIC_EVENTS:
            outgoing["notifications"].append(event)
        if is_projected(event):
            outgoing["projections"].append(event)
    for queue, messages in outgoing.items():
        kit.queues.send(queue, messages)
    return sum(len(messages) for messages in outgoing.values())


def is_projected(event: Mapping[str, Any]) -> bool:
    """Whether the statistics take this event in: it moved money or a public status, or an attempt has ended."""
    return is_counted(event) or "outcome" in event["data"]


def is_counted(event: Mapping[str, Any]) -> bool:
    """Whether the event is in the day's numbers."""
    return "journals" in event["data"] or event["type"] in PUBLIC_EVENTS


def _message(image: Mapping[str, Any]) -> dict[str, Any]:
    """The event in a stream record, small enough to travel whole: readers need no read."""
    merchant_id, mode, _ = image["pk"]["S"].split("/", 2)
    return {
        "merchant_id": merchant_id,
        "mode": mode,
        "subject_id": image["subject_id"]["S"],
        "sequence": int(image["sequence"]["N"]),
        "id": image["id"]["S"],
        "type": image["type"]["S"],
        "created_at": image["created_at"]["S"],
        "data": json.loads(image["data"]["S"]) if "data" in image else {},
    }


def _only(event: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: event[name] for name in names}


def public_body(event: Mapping[str, Any], created_at: str) -> dict[str, Any]:
    """What a merchant receives of an event: ``{id, type, sequence, created_at, payment_id, data}``."""
    data = {name: value for name, value in event["data"].items() if name in ("payment", "order", "refund", "operation")}
    payment_id = event["subject_id"]
    if "order" in data:
        payment_id = data["order"].get("payment_id")
    return {
        "id": event["id"],
        "type": event["type"],
        "sequence": event["sequence"],
        "created_at": created_at,
        "payment_id": payment_id,
        "data": data,
    }


def counted(event: Mapping[str, Any]) -> dict[tuple[str, str], int]:
    """What an event adds to the statistics: (partition, sort key) → amount."""
    totals: defaultdict[tuple[str, str], int] = defaultdict(int)
    data = event["data"]
    if not is_counted(event):
        return {}
    for journal in data.get("journals", ()):
        for account, amount in _legs(journal):
            totals[f"balance/{journal['currency']}", account] += amount
    day = event["created_at"][:10]
    totals[f"day/{day}", event["type"]] += 1
    payment = data.get("payment", {})
    if event["type"] == "payment.succeeded":
        totals[f"day/{day}", f"captured/{payment['currency']}"] += payment["amount_captured"]
    if event["type"] in ("payment.succeeded", "payment.failed") and payment.get("provider"):
        totals[f"day/{day}", f"provider/{payment['provider']}/{event['type']}"] += 1
    if payment.get("experiment"):
        key, _, arm = payment["experiment"].rpartition("/")
        # By the hour in which it was created, so that hours of which little is over can be left out.
        hour = made_at(payment["id"]).isoformat()[:13]
        what = "successes" if _has_succeeded(event, payment) else "payments"
        if what == "successes" or event["type"] == "payment.created":
            totals[f"experiment/{key}", f"{arm}/{hour}/{what}"] += 1
    return dict(totals)


def _has_succeeded(event: Mapping[str, Any], payment: Mapping[str, Any]) -> bool:
    """Whether this is the event by which a payment of an experiment counts as a success; there is one at most.

    To be captured later it has succeeded with its charge, authorized or, where the provider captures at once or we
    hear of it late, captured already: the event that tells the attempt's outcome. That it is captured is no second one.
    """
    if payment.get("capture") == "manual":
        return event["type"] in ("payment.authorized", "payment.succeeded") and "outcome" in event["data"]
    return bool(event["type"] == "payment.succeeded")


def _legs(journal: Mapping[str, Any]) -> Sequence[tuple[str, int]]:
    return [(account, amount) for account, amount in journal["legs"]]
