"""Providers' health minute by minute, and who watches it: counted by ``project``, looked at by the scheduled ``watch``.

``watch`` takes each complete minute in once, in order, on condition of the detector's version: a crash before the
write has changed nothing and the next run takes the minute; after it, all is done but telling operators, which the
number of open alerts (``AnomaliesOpen``, sent by every run) makes up for. Of two runs at once one wins. Nothing
of this is in the way of a payment.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from chalicelib.domain import anomaly, latency
from chalicelib.domain import breaker as breakers
from chalicelib.domain.anomaly import Detector, Minute
from chalicelib.domain.charges import SUCCEEDED, WAITING
from chalicelib.domain.errors import ErrorClass
from chalicelib.domain.model import Tenant
from chalicelib.observability import logger, metric
from chalicelib.storage import minutes
from chalicelib.storage.health import Unavailable
from chalicelib.storage.minutes import Alert, Subject, Tally

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from chalicelib.services.kit import Kit
    from chalicelib.storage.minutes import Watched

# A minute is complete when it has been over for so long: events are counted within seconds, unless queues stand.
_COMPLETE_AFTER = 120
_FORGOTTEN_AFTER = 7 * 24 * 60  # minutes without a call, and nobody watches any more
_ASK_AGAIN = 600.0  # seconds for which an environment knows that somebody is watched
_MOST_MINUTES = 24 * 60  # taken in by one run: after a stop of days it catches up run by run


# -- counting --------------------------------------------------------------------------------------


def counted(kit: Kit, event: Mapping[str, Any]) -> Sequence[tuple[Any, Any]]:
    """What an event's outcome adds to its minute, to be written with the event's mark; nothing for other events."""
    told = event["data"].get("outcome")
    if told is None:
        return ()
    subject = Subject(Tenant(event["merchant_id"], event["mode"]), told["provider"], told["method"])
    at = datetime.fromisoformat(event["created_at"])
    _watch_from(kit, subject, at)
    return [minutes.counted(subject, at, _tally(event["data"], told["end"]), event["id"])]


def _tally(data: Mapping[str, Any], end: str) -> Tally:
    """An attempt that waits for somebody has not ended, but its provider has answered."""
    took = data.get("call", {}).get("latency_ms")
    # Only the answer to the call that made the charge says how long customers wait; webhooks and look-ups do not.
    histogram = {latency.bucket(took): 1} if took is not None and data.get("source", "response") == "response" else {}
    if end == WAITING:
        return Tally(latency=histogram)
    if end == SUCCEEDED:
        return Tally(1, 1, 0, histogram)
    return Tally(1, 0, int(breakers.verdict(ErrorClass(end)) is False), histogram)


def _watch_from(kit: Kit, subject: Subject, at: datetime) -> None:
    """Have the subject watched; after a failure this environment tries again when it next asks."""
    if not kit.health.once_in(_ASK_AGAIN, f"watched/{subject}"):
        return
    try:
        minutes.begin(subject, Detector(last=minutes.minute_of(at) - 1).as_dict())
    except Unavailable:
        logger.exception("%s at %s is not watched yet", subject.method, subject.provider)
        metric("WatchFailed")


# -- watching --------------------------------------------------------------------------------------


def watch(kit: Kit, seconds: float) -> int:
    """Take complete minutes in, for at most ``seconds``; returns how many alerts have changed.

    One bad row stops no other: it is logged, counted, and comes again with the next run.
    """
    end = kit.now() + timedelta(seconds=seconds)
    until = minutes.minute_of(kit.now() - timedelta(seconds=_COMPLETE_AFTER)) - 1
    changed = standing = late = 0
    rows = list(minutes.watched())
    first = minutes.minute_of(kit.now()) % max(len(rows), 1)  # nobody is always the last one
    for place, row in enumerate(rows[first:] + rows[:first]):
        if kit.now() >= end:
            late = len(rows) - place
            break
        try:
            after, alerts = _taken_in(row, until)
        except Exception:  # noqa: BLE001 - one bad row must not stop the others
            logger.exception("%s at %s was not looked at; the next run does", row.subject.method, row.subject.provider)
            metric("WatchFailed")
            continue
        changed += len(alerts)
        standing += len(after.open)
    metric("AnomaliesOpen", standing)
    if late:
        logger.warning("%d providers and methods were not looked at for want of time; the next run does", late)
        metric("WatchFailed", late)
    return changed


def _taken_in(row: Watched, until: int) -> tuple[Detector, Sequence[anomaly.Alert]]:
    """The detector after the complete minutes that it has not seen, once that is written."""
    before = Detector.from_dict(row.body)
    last = min(until, before.last + _MOST_MINUTES)
    if last <= before.last:
        return before, ()
    seen = minutes.read(row.subject, before.last + 1, last)
    detector, alerts = before, list[anomaly.Alert]()
    for number in sorted(seen.keys() | {last}):
        detector, told = anomaly.step(detector, _minute(number, seen.get(number, Tally())))
        alerts += told
    is_over = not detector.open and detector.last - detector.last_call > _FORGOTTEN_AFTER
    newest = {(alert.kind, alert.since): alert for alert in alerts}
    rows = [Alert(row.subject, alert.since, alert.kind, asdict(alert)) for alert in newest.values()]
    if not minutes.step(row, None if is_over else detector.as_dict(), rows):
        return detector, ()  # another run has taken them in, and tells
    for alert in alerts:
        _tell(row.subject, alert)
    return detector, alerts


def _minute(number: int, tally: Tally) -> Minute:
    return Minute(
        number, tally.calls, tally.successes, latency.percentile(tally.latency, 0.95), sum(tally.latency.values())
    )  # fmt: skip


def _tell(subject: Subject, alert: anomaly.Alert) -> None:
    log = logger.error if alert.state == "raised" else logger.warning
    log(
        "%s: %s by %s at %s: %s", subject.tenant.merchant_id, alert.state, subject.method, subject.provider,
        alert.sentence, provider=subject.provider, method=subject.method, kind=alert.kind, state=alert.state,
        since=datetime.fromtimestamp(alert.since * 60, UTC).isoformat(),
    )  # fmt: skip
    metric("Anomaly", kind=alert.kind, state=alert.state, provider=subject.provider, method=subject.method)
