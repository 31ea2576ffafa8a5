"""The sweeper: finds whatever should have moved on by now, takes it by moving its lease, and hands it to
the operations queue, whose workers go on with it side by side (``overdue.take_up``).

It calls no provider itself, so that one slow provider cannot hold up the recovery of everything
else. A crash after the claim costs one lease; two sweepers at once share the rows between them.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from chalicelib.observability import logger, metric
from chalicelib.services import notifications
from chalicelib.storage.mapping import DUE_SHARDS, tenant_of

if TYPE_CHECKING:
    from chalicelib.services.kit import Kit
    from chalicelib.storage.queries import DueRow

_BATCH = 50  # rows read at a time


def sweep(kit: Kit, seconds: float = 30.0) -> int:
    """Hand over what is overdue, for at most ``seconds``; returns how many rows. One bad shard stops no other."""
    end = kit.now() + timedelta(seconds=seconds)
    first = int(kit.jitter() * DUE_SHARDS)  # no shard is always the last one
    taken = 0
    for number in range(DUE_SHARDS):
        shard = (first + number) % DUE_SHARDS
        for hand_over in (_deliveries, _rows):
            try:
                while kit.now() < end and (count := hand_over(kit, shard)):
                    taken += count
            except Exception:  # noqa: BLE001 - one bad shard must not stop the others
                logger.exception("sweep of shard %d failed; its leases bring it back", shard)
                metric("SweepFailed")
    return taken


def _rows(kit: Kit, shard: int) -> int:
    """Hand over payments, attempts, operations and orders."""
    until = kit.now() + timedelta(seconds=kit.timing.call + kit.timing.lease)
    claimed = [
        row
        for row in kit.queries.due(shard, kit.now(), _BATCH)
        if kit.store.claim_due(row.pk, row.sk, row.due_at, until)
    ]
    kit.queues.send("operations", [_message(row, round(until.timestamp(), 3)) for row in claimed])
    return len(claimed)


def _message(row: DueRow, lease: float) -> dict[str, object]:
    tenant = tenant_of(row.pk)
    subject_id = row.pk.rsplit("/", 1)[1]
    whose = {"merchant_id": tenant.merchant_id, "mode": tenant.mode, "subject_id": subject_id}
    return whose | {"overdue": row.sk, "lease": lease}


def _deliveries(kit: Kit, shard: int) -> int:
    """Deliveries whose next try has not come by itself."""
    count = 0
    for row in kit.queries.due_deliveries(shard, kit.now(), _BATCH):
        until = kit.now() + timedelta(seconds=kit.settings.delivery_timeout + kit.timing.lease)
        if kit.store.claim_delivery(row.pk, row.sk, row.due_at, until):
            event_id, endpoint = row.pk.rsplit("/", 1)[1], row.sk.removeprefix("dlv#")
            notifications.send(kit, tenant_of(row.pk), event_id, endpoint)
            count += 1
    return count
