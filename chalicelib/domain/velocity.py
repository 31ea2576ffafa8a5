"""Sliding windows: how often, and for how much, one card, customer, IP address or device has paid of late.

All that is remembered of one of them is one small item, a ``Window``: its newest payments and declines
as rows. ``admit`` is a pure function of it, and who stores the answer does so on condition of the
item's ``version``: of two at once one has to read again and decide again, so a limit is exact.

A row counts from its time on until ``seconds`` later, then no longer. What is judged looks at every
row younger than that, also at rows that a faster clock has written "in the future". So however entries
are reordered, no stretch of ``seconds`` holds more entries that broke no limit than the limit allows.

No more rows are kept than limits can need, and the answers stay the same without the others:

* of a count limit the newest ``value + 1``: if all of them are in the window it is broken, and if one is
  not, neither is any older one;
* of a sum limit, by the same argument, the newest that together exceed it. If those are many, the older
  ones are added together, a few dozen a window: such a sum holds on to a payment for up to a 32nd of the
  window too long, so it may be too high for a while and is never too low.

Time is elapsed time: no time zone and no change to summer time stretches a window.
"""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal, NamedTuple

from chalicelib.domain.money import to_decimal_string

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

Dimension = Literal["card", "customer", "ip", "device"]
Measure = Literal["count", "sum"]
Kind = Literal["payment", "decline"]

DIMENSIONS: Mapping[Dimension, str] = {
    "card": "with one card",
    "customer": "by one customer",
    "ip": "from one IP address",
    "device": "from one device",
}
MAX_SECONDS = 86_400
SEEN_SECONDS = 400 * 86_400  # how long a customer is no new one: whoever buys once a year is not
SLACK = 60_000  # ms by which our own clocks, and the arrival of entries, may be out of step

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
_KEY_LENGTH = 12  # the last letters of an id: 60 random bits
_SINGLE_ROWS = 50  # of those that only sums need, the newest that stay apart
_CELLS = 32  # per window, for the others
_SPANS: Mapping[int, str] = {60: "1 minute", 3_600: "1 hour", 86_400: "24 hours"}


@dataclass(frozen=True, slots=True)
class Limit:
    """More than ``value`` (payments, declines, or minor units of ``currency``) in ``seconds`` breaks it.

    With ``up_to`` (minor units of ``currency``) only small payments count: many of those, like many
    declines, are how stolen card numbers are tried out.
    """

    dimension: Dimension
    seconds: int
    measure: Measure
    value: int
    score: int  # what breaking it adds to a payment's risk
    kind: Kind = "payment"
    currency: str | None = None  # None: any; a sum has one
    up_to: int | None = None  # of counts only

    def counts(self, entry: Entry) -> bool:
        """Whether the limit is about such an entry at all."""
        return (
            entry.kind == self.kind
            and self.currency in (None, entry.currency)
            and (self.up_to is None or entry.amount <= self.up_to)
        )

    @property
    def rule(self) -> Literal["card_testing", "velocity"]:
        """The risk rule it belongs to."""
        return "card_testing" if self.kind == "decline" or self.up_to is not None else "velocity"

    @property
    def reason(self) -> str:
        """What breaking it means, for people."""
        how_much = f"{self.value}"
        if self.measure == "sum":
            how_much = _money(self.value, self.currency)
        elif self.kind == "decline":
            how_much += " declines"
        else:
            how_much += " payments"
        small = f" of at most {_money(self.up_to, self.currency)}" if self.up_to is not None else ""
        only = f" in {self.currency}" if self.measure == "count" and self.currency and not small else ""
        span = _SPANS.get(self.seconds, f"{self.seconds} seconds")
        return f"More than {how_much}{small}{only} {DIMENSIONS[self.dimension]} in {span}"


@dataclass(frozen=True, slots=True)
class Entry:
    """A payment, or the decline of one, as a window remembers it."""

    at: int  # epoch milliseconds
    amount: int  # minor units
    currency: str
    id: str  # of the payment or attempt; a window keeps the end of it
    kind: Kind = "payment"


@dataclass(frozen=True, slots=True)
class Window:
    """What is remembered of one card, customer, address or device; ``version`` 0 is not stored yet."""

    dimension: Dimension
    entries: tuple[Entry, ...] = ()  # the oldest first
    version: int = 0


class Breach(NamedTuple):
    """A limit that is broken, and by how much: the count or sum, this entry included.

    Beyond the limit it is a lower bound, since older rows may have been dropped.
    """

    limit: Limit
    measured: int


def entry(now: datetime, amount: int, currency: str, id_: str, kind: Kind = "payment") -> Entry:
    """An entry of this moment."""
    return Entry(milliseconds(now), amount, currency, id_, kind)


def milliseconds(moment: datetime) -> int:
    """Epoch milliseconds of an aware datetime, exactly."""
    return (moment.astimezone(UTC) - _EPOCH) // _MS


def admit(window: Window, limits: Iterable[Limit], new: Entry, now: datetime) -> tuple[Window, list[Breach]]:
    """The window with the entry in it, and the limits of the window's dimension that are broken now.

    The same window if the entry, by kind and id, is in it already: a repeat counts once. (An id is gone
    with the row that no limit needed any more, or that was added to others; then a repeat counts anew.)
    A limit that is not about the entry is judged too: after ten tiny payments a large one is no better.
    """
    limits = [limit for limit in limits if limit.dimension == window.dimension]
    new = replace(new, id=new.id[-_KEY_LENGTH:])
    known = any((row.kind, row.id) == (new.kind, new.id) for row in window.entries)
    rows = list(window.entries)
    if not known:
        insort(rows, new, key=_order)
    breaches = []
    for limit in limits:
        since = new.at - limit.seconds * 1000
        counted = [row.amount if limit.measure == "sum" else 1 for row in rows if row.at > since and limit.counts(row)]
        if sum(counted) > limit.value:
            breaches.append(Breach(limit, sum(counted)))
    if known:
        return window, breaches
    return Window(window.dimension, _needed(rows, limits, milliseconds(now)), window.version + 1), breaches


def expires_at(window: Window, now: datetime) -> int:
    """When the window says nothing any more, in epoch seconds: for the item's TTL.

    That is when nothing in it can count; a customer's also says that the customer is no new one.
    """
    newest = max((row.at for row in window.entries), default=milliseconds(now))
    seconds = SEEN_SECONDS if window.dimension == "customer" else MAX_SECONDS
    return -(-(newest + seconds * 1000 + SLACK) // 1000)


def to_rows(window: Window) -> list[list[object]]:
    """The entries as plain JSON, about 50 bytes each."""
    return [
        [row.at, row.amount, row.currency, row.id, *([row.kind] if row.kind != "payment" else [])]
        for row in window.entries
    ]


def from_rows(dimension: Dimension, rows: Sequence[Sequence[object]], version: int) -> Window:
    """A window from what ``to_rows`` made of it."""
    return Window(dimension, tuple(Entry(*row) for row in rows), version)  # type: ignore[arg-type]


def _order(row: Entry) -> tuple[int, str, str]:
    return row.at, row.id, row.kind


def _money(amount: int | None, currency: str | None) -> str:
    return f"{to_decimal_string(amount or 0, currency or '')} {currency}"


def _needed(rows: Sequence[Entry], limits: Sequence[Limit], now: int) -> tuple[Entry, ...]:
    """The rows that some limit can still need, the oldest ones of long sums added together."""
    single: set[int] = set()  # places of rows that stay as they are
    summed: dict[int, int] = {}  # places of rows that sums need → seconds of the shortest such limit
    for limit in limits:
        total = 0
        for place in range(len(rows) - 1, -1, -1):
            row = rows[place]
            if total > limit.value or row.at <= now - limit.seconds * 1000 - SLACK:
                break
            if not limit.counts(row):
                continue
            if limit.measure == "count":
                total += 1
                single.add(place)
            else:
                total += row.amount
                summed[place] = min(limit.seconds, summed.get(place, limit.seconds))
    apart = sorted(summed.keys() - single)
    single.update(apart[-_SINGLE_ROWS:])
    cells: dict[tuple[str, str, int, int], Entry] = {}
    for place in apart[:-_SINGLE_ROWS]:
        row = rows[place]
        width = summed[place] * 1000 // _CELLS
        cell = (row.kind, row.currency, width, row.at // width)
        before = cells.get(cell)
        # The newest time and id of the cell: it must not leave a window before its youngest payment does.
        cells[cell] = replace(row, amount=row.amount + before.amount) if before else row
    return tuple(sorted([*(rows[place] for place in single), *cells.values()], key=_order))
