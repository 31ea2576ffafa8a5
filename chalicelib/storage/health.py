"""What is learned of accounts and providers: tallies of each account, a breaker of each provider and method.

A decision needs everything at once: one batch read, eventually consistent, kept for a moment. Changes are
written on condition of the version they were made from.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from pynamodb.exceptions import PynamoDBException

from chalicelib.domain.breaker import Breaker
from chalicelib.domain.scoring import Tally
from chalicelib.storage import audits, items, mapping
from chalicelib.storage.items import ChangeItem, HealthItem
from chalicelib.storage.store import put_if, together

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from pynamodb.transactions import TransactWrite

    from chalicelib.domain.audit import Entry
    from chalicelib.domain.model import Mode, Tenant

_BATCH = 100  # BatchGetItem's limit
_KEPT_DAYS = 30
_MOST = 5_000  # decisions' readings kept


class Unavailable(Exception):
    """The rows cannot be read or written now."""


@contextmanager
def reached() -> Iterator[None]:
    """Raises Unavailable for whatever keeps the rows from being read or written."""
    try:
        yield
    except PynamoDBException as error:
        raise Unavailable(str(error)) from error


class Row(NamedTuple):
    """A row to be written; ``before`` is the version it was made from, 0 if there was none."""

    pk: str
    sk: str
    body: Mapping[str, Any]
    version: int
    before: int


class Change(NamedTuple):
    """A breaker's change of state, or a merchant's word on it; ``version`` is that of the row that changed."""

    provider: str
    method: str
    at: datetime
    state: str
    was: str
    reason: str
    version: int
    mode: Mode
    tenant: Tenant | None = None  # who holds it; None where it is everybody's
    by: str | None = None  # the key or person that said so


@dataclass(frozen=True, slots=True)
class Reading:
    """What was found: tallies by account, breakers by (provider, method), and those that the merchant holds."""

    tallies: Mapping[str, Mapping[str, Tally]] = field(default_factory=dict)
    versions: Mapping[str, int] = field(default_factory=dict)  # of the tallies, by account
    breakers: Mapping[tuple[str, str], Breaker] = field(default_factory=dict)
    forced: Mapping[tuple[str, str], Breaker] = field(default_factory=dict)
    forced_version: int = 0
    is_missing: bool = False


class Health:
    """Reads and writes of one stage."""

    def __init__(self, prefix: str, clock: Callable[[], datetime], ttl: float) -> None:
        """``ttl`` in seconds: how long a decision may look at what an earlier one has read."""
        items.bind(prefix)
        self._clock, self._ttl = clock, ttl
        self._cache: dict[tuple[Any, ...], tuple[float, Reading]] = {}
        self._asked: dict[str, float] = {}  # about what exists, so it stays small

    def cached(self, tenant: Tenant, accounts: Sequence[str], breakers: Sequence[tuple[str, str]]) -> Reading:
        """For a decision; with ``is_missing`` if the rows cannot be read, which is remembered for as long."""
        now = self._clock().timestamp()
        key = (tenant, *accounts, None, *breakers)
        hit = self._cache.get(key)
        if hit is not None and 0 <= now - hit[0] < self._ttl:
            return hit[1]
        try:
            reading = self.read(tenant, accounts, breakers)
        except Unavailable:
            reading = Reading(is_missing=True)
        if len(self._cache) >= _MOST:
            self._cache.clear()
        self._cache[key] = (now, reading)
        return reading

    def forget(self) -> None:
        """Read again next time: this environment knows that something has changed."""
        self._cache.clear()

    def once_in(self, seconds: float, what: str) -> bool:
        """Whether this environment has not been asked so for ``seconds``: for what need not be done all the time."""
        now = self._clock().timestamp()
        if now - self._asked.get(what, 0.0) < seconds:
            return False
        self._asked[what] = now
        return True

    def read(
        self,
        tenant: Tenant,
        accounts: Iterable[str],
        breakers: Iterable[tuple[str, str]],
        *,
        consistent: bool = False,
    ) -> Reading:
        """The tallies of accounts, breakers by (provider, method), and what the merchant holds; raises Unavailable."""
        mine = mapping.tenant_key(tenant, "health")
        keys = [(mine, "forced")]
        keys += [(mine, _account(account)) for account in dict.fromkeys(accounts)]
        keys += [(_breakers(tenant.mode, provider), method) for provider, method in dict.fromkeys(breakers)]
        found: list[HealthItem] = []
        with reached():
            for start in range(0, len(keys), _BATCH):
                found += HealthItem.batch_get(keys[start : start + _BATCH], consistent_read=consistent)
        return _reading(mine, found)

    def breaker(self, mode: Mode, provider: str, method: str) -> Breaker:
        """A breaker as it is now; raises Unavailable."""
        try:
            item = HealthItem.get(_breakers(mode, provider), method, consistent_read=True)
        except HealthItem.DoesNotExist:
            return Breaker()
        except PynamoDBException as error:
            raise Unavailable(str(error)) from error
        return Breaker.from_dict(item.body or {})

    def put(self, row: Row, change: Change | None = None, audit: Entry | None = None) -> bool:
        """Write a row, and with it the change that it makes and who wanted it; False if it has changed since it was
        read.

        Raises Unavailable.
        """
        with reached():
            if change is None:
                return put_if(*to_item(row))

            def write(transaction: TransactWrite) -> None:
                transaction.save(*to_item(row))
                transaction.save(*change_item(change))
                if audit is not None:
                    transaction.save(*audits.write(audit))

            return together(write)

    def changes(self, tenant: Tenant, provider: str, limit: int = 50) -> list[Change]:
        """The newest changes of a provider's breakers, everybody's and the merchant's, newest first.

        Raises Unavailable.
        """
        found = []
        with reached():
            for whose in (None, tenant):
                pk = _changes(tenant.mode, provider, whose)
                for item in ChangeItem.query(pk, scan_index_forward=False, limit=limit):
                    epoch, method, version = item.sk.split("#")
                    at = datetime.fromtimestamp(int(epoch) / 1000, UTC)
                    told = (item.body["state"], item.body["was"], item.body["reason"], int(version))
                    found.append(Change(provider, method, at, *told, tenant.mode, whose, item.body.get("by")))
        return sorted(found, key=lambda change: change.at, reverse=True)[:limit]


def breaker_row(mode: Mode, provider: str, method: str, after: Breaker, before: Breaker) -> Row:
    """A breaker's next version."""
    return Row(_breakers(mode, provider), method, after.as_dict(), after.version, before.version)


def tallies_row(tenant: Tenant, account: str, tallies: Mapping[str, Tally], before: int) -> Row:
    """An account's tallies after version ``before``."""
    body = {segment: tally.as_row() for segment, tally in tallies.items()}
    return Row(mapping.tenant_key(tenant, "health"), _account(account), body, before + 1, before)


def forced_row(tenant: Tenant, forced: Mapping[tuple[str, str], Breaker], before: int) -> Row:
    """The breakers that a merchant holds, after version ``before``."""
    body = {f"{provider}/{method}": breaker.as_dict() for (provider, method), breaker in forced.items()}
    return Row(mapping.tenant_key(tenant, "health"), "forced", body, before + 1, before)


def to_item(row: Row) -> tuple[HealthItem, Any]:
    """A row as stored, and the condition of its write."""
    condition = HealthItem.version == row.before if row.before else HealthItem.pk.does_not_exist()
    return HealthItem(row.pk, row.sk, body=row.body, version=row.version), condition


def change_item(change: Change) -> tuple[ChangeItem, Any]:
    """A change as stored, and the condition of its write: none, for it goes with the row that changes."""
    body = {"state": change.state, "was": change.was, "reason": change.reason, "by": change.by}
    epoch = round(change.at.timestamp() * 1000)
    item = ChangeItem(
        _changes(change.mode, change.provider, change.tenant),
        f"{epoch:013d}#{change.method}#{change.version}",
        body={name: value for name, value in body.items() if value is not None},
        expires_at=epoch // 1000 + _KEPT_DAYS * 86_400,
    )
    return item, None


def _changes(mode: Mode, provider: str, tenant: Tenant | None) -> str:
    if tenant is None:
        return f"{_breakers(mode, provider)}/changes"
    return mapping.tenant_key(tenant, f"changes/{provider}")


def _account(account: str) -> str:
    return f"account#{account}"


def _breakers(mode: Mode, provider: str) -> str:
    return f"breaker/{mode}/{provider}"


def _reading(mine: str, found: Iterable[HealthItem]) -> Reading:
    tallies: dict[str, Mapping[str, Tally]] = {}
    versions: dict[str, int] = {}
    breakers: dict[tuple[str, str], Breaker] = {}
    forced: dict[tuple[str, str], Breaker] = {}
    forced_version = 0
    for item in found:
        body = item.body or {}
        if item.pk != mine:
            breakers[item.pk.rpartition("/")[2], item.sk] = Breaker.from_dict(body)
        elif item.sk == "forced":
            forced_version = int(item.version)
            for name, stored in body.items():
                provider, _, method = name.partition("/")
                forced[provider, method] = Breaker.from_dict(stored)
        else:
            account = item.sk.partition("#")[2]
            tallies[account] = {segment: Tally.from_row(row) for segment, row in body.items()}
            versions[account] = int(item.version)
    return Reading(tallies, versions, breakers, forced, forced_version)
