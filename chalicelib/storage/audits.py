"""The audit log's rows: written with what they tell of, in one transaction, and never again."""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING, Any

from chalicelib.domain.audit import Actor, Entry
from chalicelib.storage.items import AuditItem
from chalicelib.storage.page import Page

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_MAX_READ = 300  # rows that one page may read; a short page carries a cursor


def write(entry: Entry) -> tuple[AuditItem, Any]:
    """A line as stored, and the condition that it is new."""
    changes = {"before": entry.before, "after": entry.after}
    text = json.dumps(changes, separators=(",", ":"), ensure_ascii=False)
    item = AuditItem(
        f"audit/{entry.merchant_id}",
        entry.id,
        id=entry.id,
        action=entry.action,
        object_id=entry.object_id,
        mode=entry.mode,
        actor_id=entry.actor.id,
        actor_kind=entry.actor.kind,
        request_id=entry.actor.request_id,
        ip=entry.actor.ip,
        created_at=entry.created_at,
        changes=zlib.compress(text.encode("utf-8", "surrogatepass")),
    )
    return item, AuditItem.pk.does_not_exist()


def page(merchant_id: str, *, limit: int, cursor: str | None, keep: Callable[[Entry], bool]) -> Page:
    """A page of a merchant's lines, newest first; ``keep`` filters within it."""
    condition = None if cursor is None else AuditItem.sk < cursor
    rows = AuditItem.query(f"audit/{merchant_id}", condition, scan_index_forward=False, page_size=limit)
    found: list[Entry] = []
    last = None
    for number, row in enumerate(rows):
        if len(found) == limit or number == _MAX_READ:
            return Page(found, last)
        last = row.id
        if keep(_entry_of(merchant_id, row, {})):  # what it says is opened only where it is shown
            found.append(_entry_of(merchant_id, row, json.loads(zlib.decompress(row.changes))))
    return Page(found, None)


def _entry_of(merchant_id: str, item: AuditItem, changes: Mapping[str, Any]) -> Entry:
    return Entry(
        merchant_id=merchant_id,
        id=item.id,
        action=item.action,
        object_id=item.object_id,
        actor=Actor(item.actor_id, item.actor_kind, item.request_id, item.ip),
        created_at=item.created_at,
        mode=item.mode,  # type: ignore[arg-type]  # one of the two, or none
        before=changes.get("before", {}),
        after=changes.get("after", {}),
    )
