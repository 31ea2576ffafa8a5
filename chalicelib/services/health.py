"""How providers do: learned from the ends of attempts, looked at before the next one.

Everything here may be lost, late or incomplete without a payment being wrong: a decision that cannot read it is
taken without and says so, and an outcome that finds its rows contended for too long is counted, but not learned.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from chalicelib.domain import breaker as breakers
from chalicelib.domain import scoring
from chalicelib.domain.audit import entry
from chalicelib.domain.breaker import Breaker, Status
from chalicelib.domain.charges import SUCCEEDED, WAITING
from chalicelib.domain.errors import Contended, ErrorClass, InvalidRequest, NotFoundError
from chalicelib.domain.model import Tenant
from chalicelib.domain.routing import Known
from chalicelib.observability import logger, metric
from chalicelib.services.kit import pause
from chalicelib.storage import minutes
from chalicelib.storage.health import (
    Change,
    Row,
    Unavailable,
    breaker_row,
    change_item,
    forced_row,
    tallies_row,
    to_item,
)
from chalicelib.storage.minutes import Alert, Subject, Tally

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from chalicelib.domain.audit import Actor
    from chalicelib.domain.merchant import Merchant
    from chalicelib.domain.model import Mode, Payment
    from chalicelib.services.kit import Kit

_HOUR = 60  # minutes
_RACES = 10  # for a permit or an operator's word, before others have it their way


# -- for a decision --------------------------------------------------------------------------------


def known(kit: Kit, merchant: Merchant, payment: Payment, at: datetime, *, with_tallies: bool) -> Known:
    """What a decision about a payment's next attempt may look at; never fails. Without tallies nothing is scored."""
    method = payment.method["type"]
    accounts = [account.id for account in merchant.accounts] if with_tallies else []
    providers = dict.fromkeys(account.provider for account in merchant.accounts)
    reading = kit.health.cached(merchant.tenant, accounts, [(provider, method) for provider in providers])
    if reading.is_missing:
        _blind(payment.id)
    return Known(
        at=at,
        seed=f"{payment.id}-{payment.attempts + 1}",
        breakers={provider: breaker for (provider, _), breaker in reading.breakers.items()},
        forced={provider: breaker for (provider, of), breaker in reading.forced.items() if of == method},
        tallies=reading.tallies,
        is_missing=reading.is_missing,
    )


def admit(kit: Kit, mode: Mode, provider: str, method: str, at: datetime) -> bool:
    """Whether a call that is decided on at ``at`` may go out; takes a permit where one is needed.

    Fails open: if the breaker cannot be read or written now, the call goes out and the log says so.
    """
    for number in range(_RACES):
        try:
            before = kit.health.breaker(mode, provider, method)
            after, admitted = breakers.admit(before, at)
            if not admitted or after is before:
                return admitted
            row = breaker_row(mode, provider, method, after, before)
            if kit.health.put(row, _change(mode, provider, method, before, after, at)):
                kit.health.forget()
                _announce(provider, method, before, after)
                return True
        except Unavailable:
            _blind(provider)
            return True
        pause(kit, number)
    return False


def _change(mode: Mode, provider: str, method: str, before: Breaker, after: Breaker, at: datetime) -> Change | None:
    """What everybody's breaker has become, if that is news."""
    if after.status is before.status:
        return None
    return Change(provider, method, at, str(after.status), str(before.status), after.reason, after.version, mode)


def _blind(about: str) -> None:
    logger.error("%s: scores and breakers cannot be read, so it goes on without", about)
    metric("RoutingBlind")


def _announce(provider: str, method: str, before: Breaker, after: Breaker) -> None:
    if after.status is before.status and after.forced == before.forced:
        return
    logger.warning(
        "the breaker of %s for %s is %s: %s", provider, method, after.status, after.reason or "no reason given",
        provider=provider, method=method, state=str(after.status), was=str(before.status),
    )  # fmt: skip
    metric("BreakerStateChange", provider=provider, method=method, state=str(after.status))
    if after.status is Status.OPEN:
        metric("BreakerOpened", provider=provider, method=method)


# -- from outcomes ---------------------------------------------------------------------------------


class Lesson(NamedTuple):
    """What an outcome changes: rows to write together with the event's mark."""

    rows: Sequence[Row]
    provider: str
    method: str
    before: Breaker
    after: Breaker
    change: Change | None

    def items(self) -> list[tuple[Any, Any]]:
        """What to write, with the condition of each."""
        items: list[tuple[Any, Any]] = [to_item(row) for row in self.rows]
        return items if self.change is None else [*items, change_item(self.change)]

    def announce(self) -> None:
        """Tell operators, once it is written."""
        _announce(self.provider, self.method, self.before, self.after)


def learn(kit: Kit, event: Mapping[str, Any]) -> Lesson | None:
    """What an event's outcome teaches, from the rows as they are now; None for an event without one."""
    told = event["data"].get("outcome")
    if told is None:
        return None
    tenant = Tenant(event["merchant_id"], event["mode"])
    provider, method, account, end = told["provider"], told["method"], told["account"], told["end"]
    at, sent_at = datetime.fromisoformat(event["created_at"]), datetime.fromisoformat(told["sent_at"])
    reading = kit.health.read(tenant, [account], [(provider, method)], consistent=True)
    before = reading.breakers.get((provider, method), Breaker())
    error = None if end in (SUCCEEDED, WAITING) else ErrorClass(end)
    after = before
    # That somebody is waited for shows that the provider works, and no more than that: not counted while all is well.
    if end != WAITING or before.status is Status.HALF_OPEN:
        after = breakers.record(before, ok=breakers.verdict(error), at=at, sent_at=sent_at)
    rows = [] if after is before else [breaker_row(tenant.mode, provider, method, after, before)]
    success = scoring.outcome_of(error)
    if end != WAITING and success is not None and breakers.tells(after, sent_at):
        path = scoring.segments(method, told["amount"], told["currency"], told.get("network"))
        tallies = scoring.renew(reading.tallies.get(account, {}), path, after.since)
        tallies = scoring.learn(tallies, path, success=success, at=at)
        rows.append(tallies_row(tenant, account, tallies, reading.versions.get(account, 0)))
    change = _change(tenant.mode, provider, method, before, after, at)
    return Lesson(rows, provider, method, before, after, change)


# -- for people ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MethodHealth:
    """How a provider does with one method; counts are of the last minute."""

    method: str
    breaker: Breaker
    calls: int
    failures: int  # technical ones
    hour: Tally  # the merchant's own payments of the last hour
    alerts: Sequence[Alert]  # newest first
    changes: Sequence[Change]  # of the breaker, newest first


@dataclass(frozen=True, slots=True)
class ProviderHealth:
    """How a provider does with each method it takes, for a merchant."""

    provider: str
    accounts: Sequence[str]
    methods: Sequence[MethodHealth]


def overview(kit: Kit, tenant: Tenant) -> list[ProviderHealth]:
    """The health of every provider that the merchant has an account at; raises Unavailable."""
    return _shown(kit, tenant, _providers(kit, tenant))


def force(
    kit: Kit,
    tenant: Tenant,
    provider: str,
    method: str,
    *,
    to: Literal["open", "closed", "auto"],
    reason: str,
    seconds: int | None,
    by: Actor,
) -> ProviderHealth:
    """Hold a breaker open or closed for the merchant's own payments, or leave it to itself (auto).

    Everybody's breaker stays as it is: one merchant's word does not stop another one's payments. Raises
    NotFoundError, InvalidRequest, Contended and Unavailable.
    """
    if provider not in _providers(kit, tenant):
        raise NotFoundError("account_not_found", f"You have no account at {provider}.", param="provider")
    if method not in kit.provider(provider).capabilities.methods:
        raise InvalidRequest("unknown_method", f"{provider} does not take {method}.", param="method")
    now = kit.now()
    until = None if seconds is None else now + timedelta(seconds=seconds)
    for number in range(_RACES):
        reading = kit.health.read(tenant, (), [(provider, method)], consistent=True)
        shared = reading.breakers.get((provider, method), Breaker())
        before = _effective(reading.forced.get((provider, method)), shared, now)
        held = {key: b for key, b in reading.forced.items() if b.forced_until is None or now < b.forced_until}
        held.pop((provider, method), None)
        after = shared
        if to != "auto":
            after = held[provider, method] = breakers.force(Breaker(), to, reason, now, until)
        said = "held " + to if to != "auto" else "left to itself"
        version = reading.forced_version + 1
        was = f"held {before.forced}" if before.forced else str(before.status)
        change = Change(provider, method, now, said, was, reason, version, tenant.mode, tenant, by.id)
        line = entry(
            tenant.merchant_id, f"breaker.{'released' if to == 'auto' else 'held'}", f"{provider}/{method}", by, now,
            mode=tenant.mode, before={"state": str(before.status)},
            after={"state": str(after.status), "reason": reason, "seconds": seconds},
        )  # fmt: skip
        if kit.health.put(forced_row(tenant, held, reading.forced_version), change, line):
            break
        pause(kit, number)
    else:
        raise Contended(f"The breaker of {provider}")
    kit.health.forget()
    logger.warning(
        "%s: the breaker of %s for %s is %s by %s: %s", tenant.merchant_id, provider, method, to, by.id, reason,
        provider=provider, method=method, state=to, by=by.id,
    )  # fmt: skip
    if before.status is not after.status:
        metric("BreakerStateChange", provider=provider, method=method, state=str(after.status))
    (shown,) = _shown(kit, tenant, [provider])
    return shown


def _providers(kit: Kit, tenant: Tenant) -> list[str]:
    return sorted({account.provider for account in kit.merchants.get(tenant).accounts})


def _effective(forced: Breaker | None, shared: Breaker, now: datetime) -> Breaker:
    return Known(now, breakers={"": shared}, forced={"": forced} if forced else {}).breaker("")


def _lately(
    tenant: Tenant, pairs: Sequence[tuple[str, str]], now: datetime
) -> tuple[dict[tuple[str, str], Tally], dict[tuple[str, str], list[Alert]]]:
    """The last hour of those pairs of provider and method that have had payments, and the newest alerts."""
    last = minutes.minute_of(now)
    hours = {
        pair: sum(minutes.read(Subject(tenant, *pair), last - _HOUR, last).values(), Tally())
        for pair in sorted(minutes.watched_of(tenant, pairs))
    }
    alerts: dict[tuple[str, str], list[Alert]] = {}
    for alert in minutes.alerts(tenant):
        alerts.setdefault((alert.subject.provider, alert.subject.method), []).append(alert)
    return hours, alerts


def _shown(kit: Kit, tenant: Tenant, providers: Sequence[str]) -> list[ProviderHealth]:
    methods = {provider: sorted(kit.provider(provider).capabilities.methods) for provider in providers}
    pairs = [(provider, method) for provider in providers for method in methods[provider]]
    reading = kit.health.read(tenant, (), pairs, consistent=True)
    now = kit.now()
    hours, alerts = _lately(tenant, pairs, now)
    changes = {provider: kit.health.changes(tenant, provider) for provider in providers}
    oldest = int(now.timestamp()) // breakers.BUCKET - breakers.BUCKETS

    def one(provider: str, method: str) -> MethodHealth:
        shared = reading.breakers.get((provider, method), Breaker())
        recent = [bucket for bucket in shared.buckets if bucket.number > oldest]
        failures = sum(bucket.failed for bucket in recent)
        calls = failures + sum(bucket.ok for bucket in recent)
        return MethodHealth(
            method, _effective(reading.forced.get((provider, method)), shared, now), calls, failures,
            hours.get((provider, method), Tally()), alerts.get((provider, method), ()),
            [change for change in changes[provider] if change.method == method],
        )  # fmt: skip

    accounts = kit.merchants.get(tenant).accounts
    return [
        ProviderHealth(
            provider,
            [account.id for account in accounts if account.provider == provider],
            [one(provider, method) for method in methods[provider]],
        )
        for provider in providers
    ]
