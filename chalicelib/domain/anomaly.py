"""Whether a provider does as it usually does, for one merchant and method: looked at minute by minute.

Three questions, each a cumulative sum of log-likelihood ratios (E. S. Page, "Continuous inspection schemes",
Biometrika 41, 1954): how much likelier is what was seen if things are as bad as we care about than if they are as
usual? It grows with evidence, starts again at zero, and raises an alert at ``LIMIT``; the same sum turned round
clears it. Such a sum passes a limit h by chance at most once in e^h observations (G. Lorden, 1971).

* success rate: Bernoulli, the odds of a failure doubled (S. H. Steiner et al., Biostatistics 1, 2000);
* latency: the logarithm of a minute's 95th percentile, half as slow again;
* volume: Poisson, a fifth of the usual. The usual is the lesser of the last hour's and that hour's of other days, so
  that neither an evening nor a weekend is an alert; a merchant needs some days before anything is said.

What is usual is learned slowly, and not at all while something seems to be wrong. No minute alone raises or clears.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from math import exp, log, sqrt
from typing import TYPE_CHECKING, Any, Literal, cast

from chalicelib.domain.scoring import wilson

if TYPE_CHECKING:
    from collections.abc import Mapping

Kind = Literal["success_rate", "latency", "volume"]
State = Literal["raised", "updated", "cleared"]

LIMIT = 16.0  # e^16 is 9 million: less than one false alert in 1,000 hours of 60 payments a minute
CLEARED = 8.0  # to be wrong about an end costs less
_STEPS = 3  # a minute's evidence counts for a third of a limit at most
_SUSPECT = LIMIT / 2  # from here on nothing is learned
_REPEAT = 60  # minutes after which a standing alert is told again ...
_WORSE = 15  # ... or after these, if it is worse by _MUCH
_MUCH = 0.1  # of the usual
_ACCEPTED = 24 * 60  # minutes after which what is seen counts as usual
_FADING = 0.95  # per minute: what a standing alert shows is about the last 20

_ODDS = 2.0  # of a failure
_HISTORY = 500.0  # calls before a success rate is known well enough
_MEMORY = 3_000.0  # calls that the usual rate rests on at most
_EXCURSION = 20.0  # calls that an alert needs

_SLOWER = log(1.5)
_SAMPLES = 20  # of a minute: a 95th percentile of fewer is its slowest answer
_MINUTES = 60.0  # with enough samples, before a latency is known
_MINUTES_KEPT = 1_440.0
_LEAST_SPREAD = 0.15  # of the logarithm: buckets are 25 % wide

_FEWER = 0.2
_LEAST_VOLUME = 5.0  # usual calls a minute below which a drop says nothing
_HALVED = 60.0  # minutes in which half of the recent volume is forgotten
_DAYS = 2  # on which an hour of the day was seen before it counts
_DAY_SHARE = 0.3  # of the newest day in an hour's usual
_GAP = 60  # minutes without a call that are looked at together at most


@dataclass(frozen=True, slots=True)
class Minute:
    """What happened in one minute."""

    number: int  # epoch minute
    calls: int  # attempts that ended
    successes: int
    latency_p95: float | None  # ms; None without samples
    latency_samples: int


@dataclass(frozen=True, slots=True)
class Alert:
    """A change of what stands."""

    kind: Kind
    state: State
    since: int  # epoch minute in which it was raised
    at: int  # epoch minute of this change
    usual: float  # a rate, ms, or calls a minute
    seen: float  # the same, lately
    sentence: str


@dataclass(frozen=True, slots=True)
class Track:
    """The evidence for one kind of alert, and the alert if it stands."""

    score: float = 0.0
    total: float = 0.0  # of what was seen since the score left zero, by weight; fading once it stands
    weight: float = 0.0
    raised: int | None = None
    usual: float = 0.0  # when it was raised
    told: int = 0  # minute of the newest word about it
    told_seen: float = 0.0

    @property
    def seen(self) -> float:
        """What was seen lately."""
        return self.total / self.weight if self.weight else 0.0


@dataclass(frozen=True, slots=True)
class Detector:
    """Everything that is remembered of one provider and method; ``last`` is the newest minute that was taken in."""

    last: int
    last_call: int = 0  # the newest minute with calls
    calls: float = 0.0  # behind the usual rate
    successes: float = 0.0
    minutes: float = 0.0  # behind the usual latency
    mean: float = 0.0  # of the logarithm of ms
    variance: float = 0.0
    recent: float = 0.0  # calls a minute
    hour: tuple[int, float, int] = (0, 0.0, 0)  # the one under way, its calls and minutes so far
    hours: Mapping[str, tuple[float, int]] = field(default_factory=dict)  # by hour of the day: calls a minute, days
    success_rate: Track = Track()
    latency: Track = Track()
    volume: Track = Track()

    @property
    def open(self) -> tuple[Kind, ...]:
        """The alerts that stand."""
        kinds: tuple[Kind, ...] = ("success_rate", "latency", "volume")
        return tuple(kind for kind in kinds if self.track(kind).raised is not None)

    def track(self, kind: Kind) -> Track:
        """The evidence for that kind."""
        return cast("Track", getattr(self, kind))

    def as_dict(self) -> dict[str, Any]:
        """As stored."""
        shown: dict[str, Any] = {"last": self.last, "last_call": self.last_call, "hour": list(self.hour)}
        for name in ("calls", "successes", "minutes", "mean", "variance", "recent"):
            shown[name] = round(getattr(self, name), 4)
        shown["hours"] = {name: [round(rate, 3), days] for name, (rate, days) in self.hours.items()}
        for kind in ("success_rate", "latency", "volume"):
            track: Track = getattr(self, kind)
            shown[kind] = [_rounded(getattr(track, entry.name)) for entry in fields(Track)]
        return shown

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Detector:
        """From what is stored."""
        given = dict(stored)
        for kind in ("success_rate", "latency", "volume"):
            given[kind] = Track(*given.get(kind, ()))
        given["hour"] = tuple(given.get("hour", (0, 0.0, 0)))
        given["hours"] = {name: (rate, days) for name, (rate, days) in given.get("hours", {}).items()}
        known = {entry.name for entry in fields(cls)}
        return cls(**{name: value for name, value in given.items() if name in known})


def step(detector: Detector, minute: Minute) -> tuple[Detector, list[Alert]]:
    """Take a complete minute in; one that is not newer than the newest changes nothing.

    Minutes that are left out in between had no calls.
    """
    gap = minute.number - detector.last
    if gap <= 0:
        return detector, []
    alerts: list[Alert] = []
    detector, alert = _volume(detector, minute, gap)
    alerts += [alert] if alert else []
    if minute.calls:
        detector, alert = _success(detector, minute)
        alerts += [alert] if alert else []
    if minute.latency_p95 and minute.latency_samples >= _SAMPLES:
        detector, alert = _latency(detector, minute)
        alerts += [alert] if alert else []
    last_call = minute.number if minute.calls else detector.last_call
    return replace(detector, last=minute.number, last_call=last_call), alerts


# -- the three questions ---------------------------------------------------------------------------


def _success(detector: Detector, minute: Minute) -> tuple[Detector, Alert | None]:
    track, failures = detector.success_rate, minute.calls - minute.successes
    usual = track.usual if track.raised is not None else _usual_rate(detector)
    bad = 1 - usual
    worse = _ODDS * bad / (1 + (_ODDS - 1) * bad)
    evidence = failures * log(worse / bad) + minute.successes * log((1 - worse) / (1 - bad))
    known = detector.calls >= _HISTORY
    rate = minute.successes / minute.calls
    after, alert = _moved(track, "success_rate", minute.number, evidence if known else 0.0, usual, rate, minute.calls)
    if alert is not None and alert.state == "cleared" and minute.number - alert.since >= _ACCEPTED:
        detector = replace(detector, calls=_HISTORY, successes=alert.seen * _HISTORY)
    if after.raised is None and after.score < _SUSPECT:
        calls, successes = detector.calls + minute.calls, detector.successes + minute.successes
        factor = min(1.0, _MEMORY / calls)
        detector = replace(detector, calls=calls * factor, successes=successes * factor)
    return replace(detector, success_rate=after), alert


def _usual_rate(detector: Detector) -> float:
    """The lower end of what the usual success rate may be, kept away from certainties."""
    low, _ = wilson(detector.successes, detector.calls, z=2.0)
    return min(max(low, 0.02), 0.995)


def _latency(detector: Detector, minute: Minute) -> tuple[Detector, Alert | None]:
    track, value = detector.latency, log(max(minute.latency_p95 or 1.0, 1.0))
    usual = log(track.usual) if track.raised is not None else detector.mean
    spread = max(sqrt(detector.variance), _LEAST_SPREAD)
    evidence = _SLOWER / spread**2 * (value - usual - _SLOWER / 2)
    known = detector.minutes >= _MINUTES
    seen = minute.latency_p95 or 0.0
    after, alert = _moved(track, "latency", minute.number, evidence if known else 0.0, exp(usual), seen, 1.0)
    if alert is not None and alert.state == "cleared" and minute.number - alert.since >= _ACCEPTED:
        detector = replace(detector, mean=log(max(alert.seen, 1.0)))
    if after.raised is None and after.score < _SUSPECT:
        minutes = min(detector.minutes + 1, _MINUTES_KEPT)
        off = value - detector.mean
        mean = detector.mean + off / minutes
        variance = detector.variance + (off * (value - mean) - detector.variance) / minutes
        detector = replace(detector, minutes=minutes, mean=mean, variance=max(variance, 0.0))
    return replace(detector, latency=after), alert


def _volume(detector: Detector, minute: Minute, gap: int) -> tuple[Detector, Alert | None]:
    track = detector.volume
    usual = track.usual if track.raised is not None else _usual_volume(detector, minute.number)
    known = usual >= _LEAST_VOLUME
    alert = None
    for calls, count in ((0, min(gap - 1, _GAP)), (minute.calls, 1)):
        if not count or alert is not None:
            continue
        evidence = count * (calls * log(_FEWER) + (1 - _FEWER) * usual)
        track, alert = _moved(track, "volume", minute.number, evidence if known else 0.0, usual, calls, count, count)
    if alert is not None and alert.state == "cleared" and minute.number - alert.since >= _ACCEPTED:
        detector = replace(detector, recent=alert.seen, hours={})
    detector = replace(detector, volume=track)
    return (detector if track.raised is not None or track.score >= _SUSPECT else _learned(detector, minute, gap)), alert


def _usual_volume(detector: Detector, number: int) -> float:
    """Calls a minute: the lesser of the recent ones' and this hour's of other days; 0 if too little is known."""
    rate, days = detector.hours.get(str(number // 60 % 24), (0.0, 0))
    return min(detector.recent, rate) if days >= _DAYS else 0.0


def _learned(detector: Detector, minute: Minute, gap: int) -> Detector:
    keep = 0.5 ** (1 / _HALVED)
    recent = detector.recent * keep**gap + minute.calls * (1 - keep)
    current, calls, minutes = detector.hour
    if minute.number // 60 == current:
        return replace(detector, recent=recent, hour=(current, calls + minute.calls, minutes + gap))
    hours = dict(detector.hours)
    if minutes:  # the hour is over: minutes without a call at its end are in the gap
        name = str(current % 24)
        rate, days = hours.get(name, (0.0, 0))
        seen = calls / 60
        hours[name] = (seen if not days else rate + (seen - rate) * _DAY_SHARE, min(days + 1, 99))
    return replace(detector, recent=recent, hour=(minute.number // 60, float(minute.calls), 1), hours=hours)


# -- from evidence to alerts -----------------------------------------------------------------------


def _moved(
    track: Track, kind: Kind, at: int, evidence: float, usual: float, value: float, weight: float, minutes: int = 1
) -> tuple[Track, Alert | None]:
    """The track with ``minutes`` more of evidence, and the alert that this changes."""
    if track.raised is None:
        score = max(0.0, track.score + min(evidence, minutes * LIMIT / _STEPS))
        if not score:
            return Track(), None
        after = replace(track, score=score, total=track.total + value * weight, weight=track.weight + weight)
        if score < LIMIT or (kind == "success_rate" and after.weight < _EXCURSION):
            return after, None
        after = replace(after, score=0.0, raised=at, usual=usual, told=at, told_seen=after.seen)
        return after, _alert(kind, "raised", after, at)
    fading = _FADING**minutes
    after = replace(
        track,
        score=max(0.0, track.score + min(-evidence, minutes * CLEARED / _STEPS)),
        total=track.total * fading + value * weight,
        weight=track.weight * fading + weight,
    )
    if after.score >= CLEARED or at - track.raised >= _ACCEPTED:
        return Track(), _alert(kind, "cleared", after, at)
    worse = (after.seen - after.told_seen) * (1 if kind == "latency" else -1) > _MUCH * after.usual
    if at - track.told >= _REPEAT or (worse and at - track.told >= _WORSE):
        after = replace(after, told=at, told_seen=after.seen)
        return after, _alert(kind, "updated", after, at)
    return after, None


def _alert(kind: Kind, state: State, track: Track, at: int) -> Alert:
    since = at if track.raised is None else track.raised
    seen, usual = (f"{value:{_FORMAT[kind]}}{_UNIT[kind]}" for value in (track.seen, track.usual))
    if state != "cleared":
        sentence = f"{_SAYS[kind]} {seen}, usually {usual}."
    elif at - since >= _ACCEPTED:
        sentence = f"After a day this counts as usual: {_SAYS[kind]} {seen}, before {usual}."
    else:
        sentence = f"As usual again: {_SAYS[kind]} {seen}, usually {usual}."
    return Alert(kind, state, since, at, round(track.usual, 4), round(track.seen, 4), sentence)


_SAYS: Mapping[Kind, str] = {
    "success_rate": "the share of attempts that succeed is",
    "latency": "of a hundred answers 95 take up to",
    "volume": "attempts that end are",
}
_FORMAT: Mapping[Kind, str] = {"success_rate": ".1%", "latency": ".0f", "volume": ".1f"}
_UNIT: Mapping[Kind, str] = {"success_rate": "", "latency": " ms", "volume": " a minute"}


def _rounded(value: float | None) -> float | None:
    return value if value is None or isinstance(value, int) else round(value, 4)
