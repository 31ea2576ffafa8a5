"""Balances, statistics and providers' health, built from events outside the payments' own transactions.

The mark of an event and what it counts are one transaction, so repeats count once. An event older
than the marks is refused: its day is rebuilt from the events instead. Many workers share a provider's
breaker; whoever finds its rows contended all the time counts without it, because books come first.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from chalicelib.domain.model import Tenant
from chalicelib.observability import logger, metric
from chalicelib.services import experiments, health, watching
from chalicelib.services.kit import pause
from chalicelib.services.outbox import counted
from chalicelib.storage.health import Unavailable
from chalicelib.storage.store import Mark, Stale

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chalicelib.services.kit import Kit

_RACES = 10
_LESSONS = 7  # so many of them with what the outcome teaches
_MARK_DAYS = 30  # longer than any message lives: dead-letter queues keep 14 days


class TooOld(Exception):
    """The event's mark may be gone: counting it could count it twice."""


def project(kit: Kit, event: Mapping[str, Any]) -> None:
    """Count an event once; raises TooOld, or Stale under contention (the message comes again)."""
    now = kit.now()
    created_at = datetime.fromisoformat(event["created_at"])
    if now - created_at > timedelta(days=_MARK_DAYS):
        msg = f"{event['id']} is older than {_MARK_DAYS} days: rebuild {event['created_at'][:10]} from events"
        raise TooOld(msg)
    mark = Mark(f"projected/{event['id']}", round((created_at + timedelta(days=_MARK_DAYS + 1)).timestamp()))
    tenant = Tenant(event["merchant_id"], event["mode"])
    minute = watching.counted(kit, event)
    for number in range(_RACES):
        lesson = _lesson(kit, event) if number < _LESSONS else None
        if number == _LESSONS and "outcome" in event["data"]:
            logger.warning("event counted, but not learned from: its rows are contended", event_id=event["id"])
            metric("OutcomeNotLearned")
        also = lesson.items() if lesson else []
        try:
            if not kit.store.project(tenant, counted(event), mark, now, also, minute):
                logger.info("event counted before", event_id=event["id"])
                return
        except Stale:
            pause(kit, number)
        else:
            if lesson is not None:
                lesson.announce()
            _guard(kit, event)
            return
    msg = f"{event['id']}: its counters are contended; it comes again"
    raise Stale(msg)


def _guard(kit: Kit, event: Mapping[str, Any]) -> None:
    """Look at the event's experiment; the event is counted by now, so its message could not do this again."""
    try:
        experiments.guard(kit, event)
    except Exception:  # noqa: BLE001 - a message that fails now comes again for nothing
        logger.exception(
            "%s: the guardrail of an experiment could not look at it. A payment that is counted five minutes later or "
            "more looks again; if this goes on, look at GET /v1/routing/experiments and have a losing one taken out",
            event["merchant_id"], event_id=event["id"], merchant_id=event["merchant_id"], mode=event["mode"],
        )  # fmt: skip


def _lesson(kit: Kit, event: Mapping[str, Any]) -> health.Lesson | None:
    try:
        return health.learn(kit, event)
    except Unavailable:  # then the books can hardly be written either; if they can, they are
        logger.exception("event not learned from", event_id=event["id"])
        metric("OutcomeNotLearned")
        return None
