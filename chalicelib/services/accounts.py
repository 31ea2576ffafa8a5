"""Provider accounts: connect one, test it, rotate its secrets, take it out of routing and back in.

What a crash does: before a write nothing has happened, after it everything has. A repeat of
``connect`` or ``rotate`` meets its idempotency key; ``set_enabled`` repeated changes nothing. Of two
rotations at once one wins and the other is told. Accounts are never deleted: what they have charged
must stay within reach.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from chalicelib.domain import ids
from chalicelib.domain.audit import entry
from chalicelib.domain.errors import Contended, InvalidRequest, NotFoundError, StateConflict
from chalicelib.domain.merchant import Account, rotated
from chalicelib.domain.outcome import NotSent, Unknown
from chalicelib.observability import logger
from chalicelib.providers.base import ChargeRef
from chalicelib.services.kit import pause
from chalicelib.storage.store import Stale
from chalicelib.storage.vault import TooLong

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from typing import NoReturn

    from chalicelib.domain.audit import Actor, Entry
    from chalicelib.domain.errors import PaymentError
    from chalicelib.domain.model import Mode, Tenant
    from chalicelib.providers.base import Connection, Credential
    from chalicelib.services.idempotency import Idem
    from chalicelib.services.kit import Kit
    from chalicelib.storage.page import Page

_RACES = 25
MAX_PREVIOUS = 3  # webhook secrets that were rotated out and are still accepted; KMS seals 4 KB


@dataclass(frozen=True, slots=True)
class NewAccount:
    """A merchant's wish; ``credentials`` by name, not yet checked against what the provider needs."""

    provider: str
    credentials: Mapping[str, str] = field(repr=False)
    name: str | None = None


@dataclass(frozen=True, slots=True)
class ConnectionTest:
    """What came of asking the provider for something that cannot exist; no error means that it let us in."""

    error: PaymentError | None
    latency_ms: int


def connect(kit: Kit, tenant: Tenant, wish: NewAccount, idem: Idem, *, by: Actor) -> Account:
    """Write a new account, with its line in the audit log; raises KeyTaken or InvalidRequest."""
    connection = _connection(kit, wish.provider)
    base_url = _base_url(kit, tenant.mode, wish.provider, connection)
    _check(connection, tenant.mode, wish.credentials)
    for required in connection.credentials:
        if required.required and required.name not in wish.credentials:
            param = f"credentials.{required.name}"
            raise InvalidRequest("missing_field", f"A {wish.provider} account needs this.", param=param)
    for number in range(_RACES):
        now = kit.now()
        account = Account(
            id=ids.new_id("acc", now),
            provider=wish.provider,
            base_url=base_url,
            credentials=wish.credentials,
            webhook_secrets=tuple(v for name, v in wish.credentials.items() if name == connection.webhook_secret),
            name=wish.name,
            created_at=now,
            updated_at=now,
            version=1,
        )
        try:
            kit.merchants.add_account(
                tenant,
                account,
                now=now,
                claim=idem.claim(account, account.id, now),
                audit=_line(tenant, "connected", None, account, by, now),
            )
        except TooLong:
            _refuse_length()
        except Stale:  # another request under the same key is being written
            pause(kit, number)
            continue
        _log("created", account, by)
        return account
    raise Contended("This idempotency key")


def get(kit: Kit, tenant: Tenant, account_id: str) -> Account:
    """The account as it is now; raises NotFoundError."""
    account = kit.merchants.account(tenant, account_id)
    if account is None:
        raise NotFoundError("account_not_found", f"There is no provider account {account_id}.", param="id")
    return account


def listed(kit: Kit, tenant: Tenant, *, limit: int, cursor: str | None) -> Page:
    """A page of accounts, newest first."""
    return kit.merchants.list_accounts(tenant, limit=limit, cursor=cursor)


def connection_of(kit: Kit, account: Account) -> Connection:
    """What an account of that provider consists of."""
    return kit.provider(account.provider).connection


def rotate(
    kit: Kit, tenant: Tenant, account_id: str, given: Mapping[str, str], idem: Idem, *, keep_previous: bool, by: Actor
) -> Account:
    """Put new credentials in place of those of the same names; the others stay.

    The webhook secret that is replaced is accepted for a while longer, unless ``keep_previous`` is
    False. The request's key keeps one that comes late from undoing a later rotation. Raises KeyTaken,
    NotFoundError, InvalidRequest, or StateConflict if somebody else changed the account.
    """
    account = get(kit, tenant, account_id)
    connection = connection_of(kit, account)
    _check(connection, tenant.mode, given)
    for declared in connection.credentials:
        name = declared.name
        if declared.identity and given.get(name) not in (None, account.credentials.get(name)):
            detail = "This names another account at the provider. Connect it as one of its own."
            raise InvalidRequest("invalid_field", detail, param=f"credentials.{name}")
    now = kit.now()
    keep_until = now + timedelta(seconds=kit.settings.rotation_overlap) if keep_previous else None
    after = rotated(account, given, connection.webhook_secret, keep_until=keep_until, now=now)
    if after is account:
        return account
    if len(after.previous) > MAX_PREVIOUS:
        raise StateConflict(
            "too_many_rotations",
            f"{MAX_PREVIOUS} earlier webhook secrets are still accepted. Wait, or drop them: keep_previous false.",
        )
    try:
        line = _line(tenant, "rotated", account, after, by, now)
        kit.merchants.change_account(tenant, after, now=now, claim=idem.claim(after, account_id, now), audit=line)
    except TooLong:
        _refuse_length()
    except Stale as stale:
        raise StateConflict(
            "account_changed", "Somebody else is changing this account. Look at it and try again."
        ) from stale
    _log("secrets rotated", after, by)
    return after


def set_enabled(kit: Kit, tenant: Tenant, account_id: str, *, enabled: bool, by: Actor) -> Account:
    """Let an account take new charges, or not; raises NotFoundError. Twice is once.

    What a disabled account has charged goes on: webhooks, captures, refunds and look-ups.
    """
    for number in range(_RACES):
        account = get(kit, tenant, account_id)
        if account.enabled is enabled:
            return account
        after = replace(account, enabled=enabled, updated_at=kit.now(), version=account.version + 1)
        try:
            line = _line(tenant, "enabled" if enabled else "disabled", account, after, by, kit.now())
            kit.merchants.change_account(tenant, after, audit=line)
        except Stale:
            pause(kit, number)
            continue
        _log("enabled" if enabled else "disabled", after, by)
        return after
    raise Contended(f"Provider account {account_id}")


def probe(kit: Kit, tenant: Tenant, account_id: str) -> ConnectionTest:
    """Ask the provider for a charge that cannot exist: it has to know us to say so. Raises NotFoundError.

    Bounded by the HTTP client's time-outs.
    """
    account = get(kit, tenant, account_id)
    provider = kit.provider(account.provider)
    now, can = kit.now(), provider.capabilities
    nothing = ChargeRef(
        reference=ids.attempt_reference(ids.new_id("pay", now), 0),  # attempts count from 1
        provider_reference=None,
        amount=can.min_amount,
        currency=min(can.currencies),
        method={"type": min(can.methods)},
        data={},
        created_at=now,
    )
    began = time.perf_counter()
    answer = provider.fetch(account, nothing)
    error = answer.error if isinstance(answer, NotSent | Unknown) else None
    return ConnectionTest(error, round((time.perf_counter() - began) * 1000))


# -- what is accepted --------------------------------------------------------------------------------


def _connection(kit: Kit, provider: str) -> Connection:
    try:
        return kit.provider(provider).connection
    except KeyError:
        raise InvalidRequest("unknown_provider", "There is no such provider.", param="provider") from None


def _base_url(kit: Kit, mode: Mode, provider: str, connection: Connection) -> str:
    """Never the caller's: whoever names the address decides where our requests and secrets go."""
    base_url = kit.settings.provider_base_urls.get(provider) or connection.base_urls.get(mode)
    if base_url is None:
        raise InvalidRequest("unknown_provider", f"This provider has no {mode} mode here.", param="provider")
    return base_url


def _check(connection: Connection, mode: Mode, given: Mapping[str, str]) -> None:
    """Raise InvalidRequest for a credential that the provider does not know, or of another mode."""
    declared = {credential.name: credential for credential in connection.credentials}
    for name, value in given.items():
        param = f"credentials.{name}"
        if name not in declared:
            known = ", ".join(declared)
            raise InvalidRequest("unknown_field", f"This provider's credentials are {known}.", param=param)
        wrong = _wrong_prefix(declared[name], mode, value)
        if wrong is not None:
            raise InvalidRequest("invalid_field", wrong, param=param)


def _wrong_prefix(credential: Credential, mode: Mode, value: str) -> str | None:
    """Why a value cannot be this mode's credential; never repeats it."""
    own = credential.prefixes.get(mode, "")
    if not value.startswith(own):
        return f"In {mode} mode this begins with {own}."
    for other, prefix in credential.prefixes.items():
        if len(prefix) > len(own) and value.startswith(prefix):
            return f"This is one of {other} mode; the API key is one of {mode} mode."
    return None


def _refuse_length() -> NoReturn:
    raise InvalidRequest("invalid_field", "The credentials are too long together.", param="credentials") from None


def _log(what: str, account: Account, by: Actor) -> None:
    """One line for each change; nothing of it is secret."""
    logger.info("provider account %s", what, account=account.id, provider=account.provider, by=by.id)


def _line(tenant: Tenant, what: str, before: Account | None, after: Account, by: Actor, now: datetime) -> Entry:
    return entry(
        tenant.merchant_id, f"provider_account.{what}", after.id, by, now, mode=tenant.mode,
        before=None if before is None else _noted(before), after=_noted(after),
    )  # fmt: skip


def _noted(account: Account) -> dict[str, object]:
    """An account as the audit log has it: of its credentials when they changed, never what they are."""
    return {
        "provider": account.provider,
        "name": account.name,
        "enabled": account.enabled,
        "rotated_at": None if account.rotated_at is None else account.rotated_at.isoformat(),
        "version": account.version,
    }
