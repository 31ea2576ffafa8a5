"""What is left of a run: the rows as they are stored, and what the bank knows."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from tests.support.aws import PREFIX
from tests.support.world import TENANT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.faults.play import Play
    from tests.support.dynamo import Item

Row = dict[str, Any]

_TENANT_KEY = f"{TENANT.merchant_id}/{TENANT.mode}/"
_PARTS = {"a#att#": "attempts", "a#op#": "operations", "evt#": "events", "jnl#": "journals"}


@dataclass(frozen=True, slots=True)
class Expected:
    """How a scenario ends, with or without a fault. One entry per payment, in the order of creation."""

    statuses: tuple[str | frozenset[str], ...] | None  # None: any final ones
    captured: tuple[int, ...] | None = None  # per payment; None: all or nothing, by the status
    refunded: tuple[int, ...] | None = None  # per payment; None: nothing
    order: str | None = None  # the status of the (last) order
    attention: bool = False  # a person may have been asked
    orphans: int = 0
    dead: int = 0  # dead letters
    undelivered: int = 0  # webhooks the merchant never took
    charges: int = 1  # how many charges at the bank a payment may ever have had, reversed ones included
    defects: bool = False  # errors that handlers let out belong to the scenario


@dataclass(slots=True)
class Payment:
    """Everything stored under one payment."""

    row: Row
    attempts: list[Row] = field(default_factory=list)
    operations: list[Row] = field(default_factory=list)
    events: list[Row] = field(default_factory=list)
    journals: list[Row] = field(default_factory=list)


def plain(item: Item) -> Row:
    """A stored item with Python values; JSON texts stay texts."""
    return {name: _plain(value) for name, value in item.items()}


def _plain(value: dict[str, Any]) -> Any:
    ((kind, content),) = value.items()
    if kind == "N":
        number = Decimal(content)
        return int(number) if number == number.to_integral_value() else float(number)
    return content


class Evidence:
    """What is in the tables and what the bank knows."""

    def __init__(self, play: Play, expected: Expected) -> None:
        self.play, self.world, self.expected = play, play.world, expected
        rows = self.rows("payments")
        self.payments = {row["id"]: Payment(row) for row in rows if row["sk"] == "a#payment"}
        self.orders = {row["id"]: row for row in rows if row["sk"] == "a#order"}
        self.orphans = [row for row in rows if row["sk"] == "orphan"]
        self.order_events: dict[str, list[Row]] = defaultdict(list)
        self.lost: list[Row] = []  # rows that belong to no payment or order
        for row in rows:
            self._file(row)
        truth = self.world.bank.truth()
        self.charges: list[Row] = truth["charges"]
        self.refunds: list[Row] = truth["refunds"]

    def _file(self, row: Row) -> None:
        """Put a row under the payment or order it belongs to."""
        subject = row["pk"].rsplit("/", 1)[1]
        part = next((name for prefix, name in _PARTS.items() if row["sk"].startswith(prefix)), None)
        if part is None:
            return
        if subject in self.payments:
            getattr(self.payments[subject], part).append(row)
        elif part == "events" and subject in self.orders:
            self.order_events[subject].append(row)
        else:
            self.lost.append(row)

    def rows(self, table: str) -> list[Row]:
        """Everything in a table."""
        return [plain(item) for item in self.world.dynamo.tables[f"{PREFIX}-{table}"].items()]

    def events(self) -> Iterator[Row]:
        """Every event there is."""
        for payment in self.payments.values():
            yield from payment.events
        for events in self.order_events.values():
            yield from events

    def charges_of(self, payment_id: str) -> list[Row]:
        """The bank's charges whose reference begins with the payment's id."""
        return [charge for charge in self.charges if charge["reference"].startswith(payment_id)]

    def totals(self, kind: str) -> Counter[tuple[str, str]]:
        """The projected counters of one kind by (currency or day, name), their shards summed up."""
        totals: Counter[tuple[str, str]] = Counter()
        for row in self.rows("stats"):
            if row["pk"].startswith(f"{_TENANT_KEY}{kind}/"):
                totals[row["pk"].rsplit("/", 1)[1], row["sk"].rpartition("#")[0]] += row["total"]
        return totals
