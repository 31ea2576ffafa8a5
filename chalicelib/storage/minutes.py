"""What each provider and method did minute by minute for a merchant, who is watched, and what was raised.

A minute is a row per shard, added to in the transaction that marks its event. Whoever is watched has a row with the
detector's state; a step of it and the alerts that it changes are one transaction, on condition of its version.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from chalicelib.domain import latency
from chalicelib.domain.model import Mode, Tenant
from chalicelib.storage import mapping
from chalicelib.storage.health import reached
from chalicelib.storage.items import AlertItem, MinuteItem, WatchedItem
from chalicelib.storage.store import put_if, together

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from pynamodb.transactions import TransactWrite

KEPT_DAYS = 30
SHARDS = 4  # of a minute: a payment adds to one of them
_SECONDS = 60


class Subject(NamedTuple):
    """Whose payments, where, by which method."""

    tenant: Tenant
    provider: str
    method: str


@dataclass(frozen=True, slots=True)
class Tally:
    """What was counted in a time; ``successes``, ``technical`` failures and other declines add up to ``calls``."""

    calls: int = 0
    successes: int = 0
    technical: int = 0
    latency: Mapping[int, int] = field(default_factory=dict)  # by bucket, of the answers to new charges

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.calls + other.calls,
            self.successes + other.successes,
            self.technical + other.technical,
            latency.merged(self.latency, other.latency),
        )


class Watched(NamedTuple):
    """A subject that is watched, and its detector's state as it was stored."""

    subject: Subject
    body: Mapping[str, Any]
    version: int


class Alert(NamedTuple):
    """An alert as stored: its newest state."""

    subject: Subject
    since: int  # epoch minute
    kind: str
    body: Mapping[str, Any]


def minute_of(at: datetime) -> int:
    """The epoch minute of a moment."""
    return int(at.timestamp()) // _SECONDS


def counted(subject: Subject, at: datetime, what: Tally, key: str) -> tuple[MinuteItem, list[Any]]:
    """The row of a moment's minute, and what to add to it; ``key`` spreads writers over shards."""
    minute = minute_of(at)
    item = MinuteItem(_minutes(subject), f"{minute:010d}#{mapping.shard_of(key, SHARDS)}")
    added = {"calls": what.calls, "successes": what.successes, "technical": what.technical}
    added |= {f"h{number}": count for number, count in what.latency.items()}
    actions = [getattr(MinuteItem, name).add(count) for name, count in added.items() if count]
    return item, [*actions, MinuteItem.expires_at.set((minute * _SECONDS) + KEPT_DAYS * 86_400)]


def read(subject: Subject, first: int, last: int) -> dict[int, Tally]:
    """What was counted in each minute from ``first`` to ``last`` that has anything; raises Unavailable."""
    found: defaultdict[int, Tally] = defaultdict(Tally)
    with reached():
        for item in MinuteItem.query(_minutes(subject), MinuteItem.sk.between(f"{first:010d}", f"{last:010d}$")):
            histogram = {
                number: int(count) for number in range(latency.BUCKETS) if (count := getattr(item, f"h{number}"))
            }
            tally = Tally(int(item.calls or 0), int(item.successes or 0), int(item.technical or 0), histogram)
            found[int(item.sk.partition("#")[0])] += tally
    return dict(found)


# -- who is watched --------------------------------------------------------------------------------


def begin(subject: Subject, body: Mapping[str, Any]) -> None:
    """Watch from now on, unless that is done already; raises Unavailable."""
    with reached():
        put_if(WatchedItem("watched", _name(subject), body=dict(body), version=1), WatchedItem.pk.does_not_exist())


def watched() -> Iterator[Watched]:
    """Everybody who is watched; raises Unavailable."""
    with reached():
        for item in WatchedItem.query("watched"):
            yield Watched(_subject(item.sk), item.body or {}, int(item.version))


def watched_of(tenant: Tenant, pairs: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
    """Which of these pairs of provider and method are watched; raises Unavailable."""
    keys = [("watched", _name(Subject(tenant, *pair))) for pair in pairs]
    with reached():
        return {
            (found.provider, found.method)
            for start in range(0, len(keys), 100)
            for item in WatchedItem.batch_get(keys[start : start + 100])
            for found in (_subject(item.sk),)
        }


def step(before: Watched, body: Mapping[str, Any] | None, alerts: Sequence[Alert]) -> bool:
    """Write a detector's next state (None: it is not watched any more) with the alerts that changed.

    False if somebody else was faster. Raises Unavailable.
    """
    row = WatchedItem("watched", _name(before.subject), body=dict(body or {}), version=before.version + 1)
    known = WatchedItem.version == before.version

    def write(transaction: TransactWrite) -> None:
        if body is None:
            transaction.delete(row, known)
        else:
            transaction.save(row, known)
        for alert in alerts:
            transaction.save(_alert_item(alert))

    with reached():
        return together(write)


def alerts(tenant: Tenant, limit: int = 100) -> list[Alert]:
    """A merchant's newest alerts, newest first; raises Unavailable."""
    with reached():
        rows = list(AlertItem.query(_alerts(tenant), scan_index_forward=False, limit=limit))
    found = []
    for item in rows:
        since, provider, method, kind = item.sk.split("/")
        found.append(Alert(Subject(tenant, provider, method), int(since), kind, item.body or {}))
    return found


def _alert_item(alert: Alert) -> AlertItem:
    subject = alert.subject
    return AlertItem(
        _alerts(subject.tenant),
        f"{alert.since:010d}/{subject.provider}/{subject.method}/{alert.kind}",
        body=dict(alert.body),
        expires_at=alert.since * _SECONDS + KEPT_DAYS * 86_400,
    )


def _minutes(subject: Subject) -> str:
    return mapping.tenant_key(subject.tenant, f"minutes/{subject.provider}/{subject.method}")


def _alerts(tenant: Tenant) -> str:
    return mapping.tenant_key(tenant, "alerts")


def _name(subject: Subject) -> str:
    return f"{subject.tenant.merchant_id}/{subject.tenant.mode}/{subject.provider}/{subject.method}"


def _subject(name: str) -> Subject:
    merchant_id, mode, provider, method = name.split("/")
    tenant_mode: Mode = "live" if mode == "live" else "test"
    return Subject(Tenant(merchant_id, tenant_mode), provider, method)
