"""Merchants, their provider accounts and settings, cached per execution environment."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, TypeVar

from pynamodb.exceptions import DoesNotExist

from chalicelib.domain import risk_settings
from chalicelib.domain.errors import NotSetUp
from chalicelib.domain.merchant import Merchant
from chalicelib.domain.model import Mode, Tenant
from chalicelib.storage import accounts, audits, items
from chalicelib.storage.cache import Cache
from chalicelib.storage.items import AccountItem, AccountOwnerItem, MerchantsItem, SettingsItem
from chalicelib.storage.page import Page
from chalicelib.storage.rule_books import RISK, ROUTING, Stored
from chalicelib.storage.sealing import Cipher
from chalicelib.storage.store import Stale, put_if, write_all

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from chalicelib.domain.audit import Entry
    from chalicelib.domain.merchant import Account
    from chalicelib.storage.rule_books import Book
    from chalicelib.storage.store import Claim
    from chalicelib.storage.vault import Vault

T = TypeVar("T")
_LOOKUP_KEY_BYTES = 32
_FIRST_RISK_FIELDS = ("max_amount", "blocked_countries", "review_countries", "review_score", "block_score")


class AccountTaken(Exception):
    """The account's id belongs to another merchant or mode. Nothing of the account was written."""


class Merchants:
    """Reads merchants through a cache of ``ttl`` seconds."""

    def __init__(self, prefix: str, vault: Vault, clock: Callable[[], datetime], ttl: float) -> None:
        """``clock`` gives the current time."""
        items.bind(prefix)
        self._vault = vault
        self._clock = clock
        self._cache = Cache(clock, ttl)
        self._reread: dict[str, float] = {}  # of accounts that exist, so it stays small

    def get(self, tenant: Tenant) -> Merchant:
        """A merchant's settings in one mode; raises NotSetUp, which is a LookupError, if there are none."""
        merchant = self._cache.get(("merchant", *tenant), lambda: self._read_merchant(tenant))
        if merchant is None:
            raise NotSetUp("mode_not_set_up", f"merchant {tenant.merchant_id} has no {tenant.mode} settings")
        return merchant

    def cipher(self, tenant: Tenant) -> Cipher:
        """Seals and opens what is private of a merchant's customers; raises LookupError for no merchant."""
        return Cipher(tenant, self.get(tenant).lookup_key)

    def owner_of_account(self, account_id: str) -> Tenant | None:
        """Whose provider account this is; None if nobody's."""
        return self._cache.get(("account", account_id), lambda: self._read_owner(account_id))

    def _read_owner(self, account_id: str) -> Tenant | None:
        try:
            item = AccountOwnerItem.get(f"account/{account_id}", "owner")
        except DoesNotExist:
            return None
        return Tenant(item.merchant_id, _mode(item.mode))

    def _read_merchant(self, tenant: Tenant) -> Merchant | None:
        settings: SettingsItem | None = None
        found: list[Account] = []
        # Consistent: after a change of its own, an environment must not remember how things were before.
        for item in MerchantsItem.query(tenant.merchant_id, consistent_read=True):
            if isinstance(item, SettingsItem) and item.sk == f"settings#{tenant.mode}":
                settings = item
            elif isinstance(item, AccountItem) and item.mode == tenant.mode:
                found.append(accounts.from_item(self._vault, tenant, item, self._clock()))
        if settings is None:
            return None
        lookup = self._vault.open(tenant, "lookup_key", settings.sealed_lookup_key)
        secret = None
        if settings.sealed_webhook_secret is not None:
            secret = self._vault.open(tenant, "webhook_secret", settings.sealed_webhook_secret)["secret"]
        return Merchant(
            tenant=tenant,
            name=settings.name,
            accounts=tuple(found),
            routing=(ROUTING.read(tenant) or Stored(ROUTING.earlier(settings))).rules,
            risk=(RISK.read(tenant) or Stored(RISK.earlier(settings))).rules,
            webhook_url=settings.webhook_url,
            webhook_secret=secret,
            lookup_key=bytes.fromhex(lookup["key"]),
        )

    # -- provider accounts ---------------------------------------------------------------------

    def account(self, tenant: Tenant, account_id: str) -> Account | None:
        """A provider account as it is now, past the cache; None if the tenant has none of that id."""
        try:
            item = AccountItem.get(tenant.merchant_id, accounts.sort_key(tenant, account_id), consistent_read=True)
        except DoesNotExist:
            return None
        return accounts.from_item(self._vault, tenant, item, self._clock())

    def reread(self, tenant: Tenant, account_id: str) -> Account | None:
        """As ``account``, but once a second at most, else None: for whoever anybody can make ask."""
        now = self._clock().timestamp()
        if now - self._reread.get(account_id, 0.0) < 1:
            return None
        self._reread[account_id] = now
        return self.account(tenant, account_id)

    def list_accounts(self, tenant: Tenant, *, limit: int, cursor: str | None) -> Page:
        """A tenant's provider accounts as they are now, by id from the last one down."""
        first = accounts.sort_key(tenant)
        condition: Any = AccountItem.sk.startswith(first)
        if cursor is not None:
            condition = AccountItem.sk.between(first, accounts.sort_key(tenant, cursor))
        rows = AccountItem.query(
            tenant.merchant_id, condition, consistent_read=True, scan_index_forward=False, limit=limit + 2
        )
        found = [row for row in rows if row.id != cursor]
        page = [accounts.from_item(self._vault, tenant, row, self._clock()) for row in found[:limit]]
        return Page(page, page[-1].id if len(found) > limit else None)

    def add_account(self, tenant: Tenant, account: Account, *, now: datetime, claim: Claim, audit: Entry) -> None:
        """Write a new account and the key of the request that made it, or nothing.

        Raises KeyTaken, Stale or TooLong.
        """
        new = [accounts.to_item(self._vault, tenant, account), accounts.to_owner_item(tenant, account.id)]
        writes = [(item, MerchantsItem.pk.does_not_exist()) for item in new]
        write_all([*writes, audits.write(audit)], now=now, claim=claim, ciphers=self.cipher)
        self._cache.forget()

    def change_account(
        self, tenant: Tenant, account: Account, *, audit: Entry, now: datetime | None = None, claim: Claim | None = None
    ) -> None:
        """Write an account's next version, and with it the key of the request that asked for it, if it has one.

        Raises Stale if the account has had that version since it was read, KeyTaken and TooLong.
        """
        before = account.version - 1
        known = AccountItem.version == before if before else AccountItem.version.does_not_exist()
        item, condition = accounts.to_item(self._vault, tenant, account), AccountItem.pk.exists() & known
        write_all([(item, condition), audits.write(audit)], now=now, claim=claim, ciphers=self.cipher)
        self._cache.forget()

    # -- rules ---------------------------------------------------------------------------------

    def rules(self, book: Book[T], tenant: Tenant) -> Stored[T]:
        """A merchant's rules as they are now, past the cache; raises LookupError if there is no such merchant."""
        stored = book.read(tenant)
        if stored is not None:
            return stored
        try:
            settings = SettingsItem.get(tenant.merchant_id, f"settings#{tenant.mode}", consistent_read=True)
        except DoesNotExist:
            msg = f"merchant {tenant.merchant_id} has no {tenant.mode} settings"
            raise LookupError(msg) from None
        return Stored(book.earlier(settings))

    def change_rules(
        self, book: Book[T], tenant: Tenant, rules: T, before: int, now: datetime, audit: Entry
    ) -> Stored[T]:
        """Write the version after ``before``; raises Stale if the rules have another version by now."""
        after = Stored(rules, before + 1, now)
        write_all([book.to_write(tenant, after), audits.write(audit)])
        self._cache.forget()
        return after

    # -- set-up --------------------------------------------------------------------------------

    def save(self, merchant: Merchant) -> None:
        """Write a merchant's settings and accounts, sealed; replaces what was there, but for the look-up key.

        Raises AccountTaken if an account's id is another merchant's or mode's, and ValueError for another look-up key.
        """
        tenant = merchant.tenant
        seal = self._vault.seal
        chosen = risk_settings.to_stored(merchant.risk)
        SettingsItem(
            tenant.merchant_id,
            f"settings#{tenant.mode}",
            name=merchant.name,
            webhook_url=merchant.webhook_url,
            sealed_webhook_secret=seal(tenant, "webhook_secret", {"secret": merchant.webhook_secret})
            if merchant.webhook_secret
            else None,
            sealed_lookup_key=self._lookup_key(merchant),
            # For the release before: it reads no other rules, and none but these.
            risk={name: chosen[name] for name in _FIRST_RISK_FIELDS if name in chosen},
        ).save()
        self._save_rules(RISK, tenant, merchant.risk)
        self._save_rules(ROUTING, tenant, merchant.routing)
        for account in merchant.accounts:
            ours = (AccountOwnerItem.merchant_id == tenant.merchant_id) & (AccountOwnerItem.mode == tenant.mode)
            if not put_if(accounts.to_owner_item(tenant, account.id), AccountOwnerItem.pk.does_not_exist() | ours):
                raise AccountTaken(account.id)
            accounts.to_item(self._vault, tenant, account).save()
        self._cache.forget()

    def _lookup_key(self, merchant: Merchant) -> bytes:
        """The merchant's look-up key, sealed. Once there is one it stays: what it has sealed opens with no other."""
        tenant, purpose = merchant.tenant, "lookup_key"
        try:
            stored = SettingsItem.get(tenant.merchant_id, f"settings#{tenant.mode}", consistent_read=True)
        except DoesNotExist:
            key = merchant.lookup_key or secrets.token_bytes(_LOOKUP_KEY_BYTES)
            return self._vault.seal(tenant, purpose, {"key": key.hex()})
        known = self._vault.open(tenant, purpose, stored.sealed_lookup_key)["key"]
        if merchant.lookup_key not in (b"", bytes.fromhex(known)):
            msg = f"merchant {tenant.merchant_id} has another {tenant.mode} look-up key, and what it seals"
            raise ValueError(msg)
        return bytes(stored.sealed_lookup_key)

    def _save_rules(self, book: Book[T], tenant: Tenant, rules: T) -> None:
        stored = self.rules(book, tenant)
        if stored.rules != rules:
            row, known = book.to_write(tenant, Stored(rules, stored.version + 1))
            if not put_if(row, known):
                raise Stale(f"the {book.name} rules of {tenant.merchant_id}")

    def new_settings(self, tenant: Tenant, name: str) -> SettingsItem:
        """The row of a merchant that has nothing set yet, with a key of its own for what is looked up by hash."""
        key = self._vault.seal(tenant, "lookup_key", {"key": secrets.token_bytes(_LOOKUP_KEY_BYTES).hex()})
        return SettingsItem(tenant.merchant_id, f"settings#{tenant.mode}", name=name, sealed_lookup_key=key)


def _mode(text: str) -> Mode:
    return "live" if text == "live" else "test"
