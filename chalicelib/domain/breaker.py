"""A circuit breaker per (provider, method): stops sending where nearly everything fails for technical reasons.

    closed ──▶ open        at least half of the calls of the last 10, 20 … 60 seconds failed, and that was no chance
    open ──▶ half_open     30 seconds later, with the first call that asks
    half_open ──▶ closed   after 5 successes
    half_open ──▶ open     after one technical failure

In half_open a call needs one of a few permits. A permit is known by the time it was taken, which is when its
call was decided on; whoever takes one stores the breaker on condition of its version, so that it is taken once.
A permit whose call never reports is given again after a while. An operator can force a breaker open or closed.

Everything here is a pure step from one breaker to the next: compare ``status`` to see whether it changed. The
same object comes back where there is nothing to store.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from chalicelib.domain.errors import ErrorClass
from chalicelib.domain.scoring import wilson

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

BUCKET = 10  # seconds
BUCKETS = 6  # a window of one minute
MIN_CALLS = 20
OPENS_AT = 0.5  # technical failures per call, by the lower end of Wilson's 95 % interval
COOLS = timedelta(seconds=30)
PERMITS = 3
# Longer than the longest call (Timing.call): whoever has not reported by then has crashed.
LEASE = timedelta(seconds=60)
SUCCESSES = 5

# What the end of a call says about the provider: False a technical failure, True that it works, None nothing.
VERDICTS: Mapping[ErrorClass, bool | None] = {
    ErrorClass.TECHNICAL_DECLINE: False,
    ErrorClass.PROVIDER_UNAVAILABLE: False,
    ErrorClass.TIMEOUT_UNKNOWN: False,
    # It took the call and somebody else said no.
    ErrorClass.DECLINED_ISSUER: True,
    ErrorClass.DECLINED_CUSTOMER: True,
    ErrorClass.DECLINED_RISK: True,
    # One merchant's own: the breaker is everybody's. A provider that turns one account's calls away for being
    # too many is not down; backing off and that account's score answer it.
    ErrorClass.RATE_LIMITED: None,
    ErrorClass.CONFIG: None,
    ErrorClass.INVALID_REQUEST: None,
    ErrorClass.CONFLICT: None,
}

_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


class Status(StrEnum):
    """Whether calls go through."""

    CLOSED = "closed"  # they do
    OPEN = "open"  # none does
    HALF_OPEN = "half_open"  # those with a permit do


class Bucket(NamedTuple):
    """Calls that ended within ten seconds; ``number`` is the epoch time divided by 10 s."""

    number: int
    ok: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class Breaker:
    """What is stored of one (provider, method)."""

    status: Status = Status.CLOSED
    since: datetime = _LONG_AGO  # when it got there; calls decided on before that no longer count
    reason: str = ""  # why, for people
    buckets: Sequence[Bucket] = ()  # oldest first
    cools_until: datetime | None = None  # open only: None while forced without an end
    permits: Sequence[datetime] = ()  # half_open only: when each one out was taken
    successes: int = 0  # half_open only
    forced: Literal["open", "closed"] | None = None
    forced_until: datetime | None = None  # None: until it is released
    version: int = 0  # raised by every change

    @property
    def moved_at(self) -> datetime | None:
        """When it got into its status; None if it has never been in another one."""
        return None if self.since == _LONG_AGO else self.since

    def as_dict(self) -> dict[str, Any]:
        """As stored: JSON, without what is empty."""
        stored: dict[str, Any] = {
            "status": str(self.status),
            "since": self.since.isoformat(),
            "reason": self.reason,
            "buckets": [list(bucket) for bucket in self.buckets],
            "cools_until": _text(self.cools_until),
            "permits": [taken.isoformat() for taken in self.permits],
            "successes": self.successes,
            "forced": self.forced,
            "forced_until": _text(self.forced_until),
            "version": self.version,
        }
        return {name: value for name, value in stored.items() if value not in (None, "", [], 0)}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Breaker:
        """From what is stored; {} is a breaker of which nothing is known."""
        return cls(
            status=Status(stored.get("status", Status.CLOSED)),
            since=_time(stored.get("since")) or _LONG_AGO,
            reason=stored.get("reason", ""),
            buckets=tuple(Bucket(*bucket) for bucket in stored.get("buckets", ())),
            cools_until=_time(stored.get("cools_until")),
            permits=tuple(datetime.fromisoformat(taken) for taken in stored.get("permits", ())),
            successes=stored.get("successes", 0),
            forced=stored.get("forced"),
            forced_until=_time(stored.get("forced_until")),
            version=stored.get("version", 0),
        )


def admit(breaker: Breaker, at: datetime) -> tuple[Breaker, bool]:
    """Whether a call may go out now, and the breaker after that.

    If the breaker is another one than before, the yes holds only once it is stored on condition of the old
    version: it took a permit.
    """
    breaker = _lapsed(breaker, at)
    if breaker.status is Status.CLOSED:
        return breaker, True
    if breaker.status is Status.OPEN:
        if breaker.forced or (breaker.cools_until and at < breaker.cools_until):
            return breaker, False
        breaker = _half_open(breaker, at, f"Tried again after {COOLS.seconds} s.")
    out = tuple(taken for taken in breaker.permits if at < taken + LEASE)
    if len(out) >= PERMITS:
        return breaker, False
    return _next(breaker, permits=(*out, at)), True


def record(breaker: Breaker, *, ok: bool | None, at: datetime, sent_at: datetime) -> Breaker:
    """The breaker after a call that ended at ``at``, by its verdict; once per call.

    ``sent_at`` is what ``admit`` was asked with. A call decided on before the breaker got into its status tells of
    another time, and in open nobody should call: neither counts.
    """
    breaker = _lapsed(breaker, at)
    permits = _without(breaker.permits, sent_at)
    permitted = permits != breaker.permits
    if breaker.status is Status.OPEN or (sent_at < breaker.since and not permitted):
        return breaker
    if breaker.status is Status.CLOSED:
        return breaker if ok is None else judge(_next(breaker, buckets=_counted(breaker.buckets, at, ok=ok)), at)
    if ok is False:
        return _open(breaker, at, "A call failed while it was tried again.")
    if not permitted:
        return breaker
    successes = breaker.successes + (ok is True)
    if successes >= SUCCESSES:
        return _closed(breaker, at, f"{SUCCESSES} calls succeeded.")
    return _next(breaker, permits=permits, successes=successes)


def judge(breaker: Breaker, at: datetime) -> Breaker:
    """A closed breaker, opened if the counts of its last 10, 20 … 60 seconds call for it.

    Each of these spans is looked at, newest first: what came before an outage must not hide it for half a
    minute. ``record`` does this; it is apart for a store that adds up the buckets itself.
    """
    if breaker.status is not Status.CLOSED or breaker.forced:
        return breaker
    ok = failed = 0
    current = int(at.timestamp()) // BUCKET
    for bucket in reversed(breaker.buckets):
        if bucket.number <= current - BUCKETS:
            break
        ok, failed = ok + bucket.ok, failed + bucket.failed
        if ok + failed >= MIN_CALLS and wilson(failed, ok + failed)[0] >= OPENS_AT:
            seconds = (max(current - bucket.number, 0) + 1) * BUCKET
            return _open(breaker, at, f"{failed} of {ok + failed} calls failed in the last {seconds} s.")
    return breaker


def force(
    breaker: Breaker, to: Literal["open", "closed"], reason: str, at: datetime, until: datetime | None = None
) -> Breaker:
    """The breaker held open or closed by an operator, until then or until released."""
    held = _closed(breaker, at, reason) if to == "closed" else _open(breaker, at, reason)
    return replace(held, cools_until=None, forced=to, forced_until=until)


def release(breaker: Breaker, reason: str, at: datetime) -> Breaker:
    """The breaker left to itself again: one held open lets a few calls try first, one held closed stays closed."""
    if breaker.forced is None:
        return breaker
    free = replace(breaker, forced=None, forced_until=None)
    return _half_open(free, at, reason) if breaker.forced == "open" else _next(free, reason=reason)


def tells(breaker: Breaker, sent_at: datetime) -> bool:
    """Whether the outcome of a payment sent then says how the provider normally does.

    What fails, or is tried, while calls are held back is the breaker's business: scores leave it out.
    """
    return breaker.status is Status.CLOSED and sent_at >= breaker.since


def verdict(error_class: ErrorClass | None) -> bool | None:
    """What the end of a call says about the provider; None for an error class means it gave a good answer."""
    return True if error_class is None else VERDICTS[error_class]


def _lapsed(breaker: Breaker, at: datetime) -> Breaker:
    if breaker.forced_until is not None and at >= breaker.forced_until:
        return release(breaker, f"No longer held {breaker.forced}.", at)
    return breaker


def _counted(buckets: Sequence[Bucket], at: datetime, *, ok: bool) -> tuple[Bucket, ...]:
    """The buckets of the last minute with one more call in the one of ``at``."""
    number = int(at.timestamp()) // BUCKET
    if buckets and buckets[-1].number == number:  # nearly always
        last = buckets[-1]
        return (*buckets[:-1], Bucket(number, last.ok + ok, last.failed + (not ok)))
    counts = {bucket.number: bucket for bucket in buckets}
    old = counts.get(number, Bucket(number))
    counts[number] = Bucket(number, old.ok + ok, old.failed + (not ok))
    newest = max(counts)
    return tuple(counts[n] for n in sorted(counts) if n > newest - BUCKETS)


def _without(permits: Sequence[datetime], taken: datetime) -> tuple[datetime, ...]:
    """The permits without one that was taken then."""
    left = list(permits)
    if taken in left:
        left.remove(taken)
    return tuple(left)


def _next(breaker: Breaker, **changes: Any) -> Breaker:  # noqa: ANN401
    return replace(breaker, version=breaker.version + 1, **changes)


def _moved(breaker: Breaker, status: Status, at: datetime, reason: str, **changes: Any) -> Breaker:  # noqa: ANN401
    """In another status with nothing left of the last one."""
    return Breaker(status, at, reason, forced=None, version=breaker.version + 1, **changes)


def _open(breaker: Breaker, at: datetime, reason: str) -> Breaker:
    return _moved(breaker, Status.OPEN, at, reason, cools_until=at + COOLS)


def _half_open(breaker: Breaker, at: datetime, reason: str) -> Breaker:
    return _moved(breaker, Status.HALF_OPEN, at, reason)


def _closed(breaker: Breaker, at: datetime, reason: str) -> Breaker:
    return _moved(breaker, Status.CLOSED, at, reason)


def _text(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat()


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
