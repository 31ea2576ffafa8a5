"""Merchants, their API keys, provider accounts and settings, cached per execution environment."""

from __future__ import annotations

import hashlib
import secrets
import zlib
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar

from pynamodb.exceptions import DoesNotExist

from chalicelib.domain.ids import new_id
from chalicelib.domain.merchant import Account, ApiKey, Merchant
from chalicelib.domain.model import Mode, Tenant
from chalicelib.domain.risk import RiskRules
from chalicelib.domain.routing import Rule
from chalicelib.storage import items
from chalicelib.storage.items import AccountItem, AccountOwnerItem, ApiKeyItem, MerchantsItem, SettingsItem

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from chalicelib.storage.vault import Vault

T = TypeVar("T")
_CHECKSUM_LENGTH = 8
_SECRET_BYTES = 32  # 256 bits


def _checksum(text: str) -> str:
    return f"{zlib.crc32(text.encode()):0{_CHECKSUM_LENGTH}x}"


def _looks_like_key(secret: str) -> bool:
    """Whether a key's checksum holds: typing errors and guesses cost no read."""
    return secret.startswith(("sk_test_", "sk_live_")) and secret[-_CHECKSUM_LENGTH:] == _checksum(
        secret[:-_CHECKSUM_LENGTH]
    )


class Merchants:
    """Reads merchants through a cache of ``ttl`` seconds, so that a revoked key dies within that time."""

    def __init__(self, prefix: str, vault: Vault, clock: Callable[[], datetime], ttl: float) -> None:
        """``clock`` gives the current time."""
        items.bind(prefix)
        self._vault = vault
        self._clock = clock
        self._ttl = ttl
        self._cache: dict[tuple[str, ...], tuple[float, Any]] = {}

    def authenticate(self, secret: str) -> ApiKey | None:
        """The API key whose secret this is; None if there is none or it is revoked."""
        if not _looks_like_key(secret):
            return None
        digest = hashlib.sha256(secret.encode()).hexdigest()
        return self._cached(("key", digest), lambda: self._read_key(digest))

    def get(self, tenant: Tenant) -> Merchant:
        """A merchant's settings in one mode; raises LookupError if there are none."""
        merchant = self._cached(("merchant", *tenant), lambda: self._read_merchant(tenant))
        if merchant is None:
            msg = f"merchant {tenant.merchant_id} has no {tenant.mode} settings"
            raise LookupError(msg)
        return merchant

    def owner_of_account(self, account_id: str) -> Tenant | None:
        """Whose provider account this is; None if nobody's."""
        return self._cached(("account", account_id), lambda: self._read_owner(account_id))

    def _cached(self, key: tuple[str, ...], read: Callable[[], T | None]) -> T | None:
        now = self._clock().timestamp()
        hit = self._cache.get(key)
        if hit is not None and now - hit[0] < self._ttl:
            value: T | None = hit[1]
            return value
        value = read()
        if value is not None:  # what does not exist is not cached: floods of wrong keys would fill the memory
            self._cache[key] = (now, value)
        return value

    def _read_key(self, digest: str) -> ApiKey | None:
        try:
            item = ApiKeyItem.get(f"key/{digest}", "key")
        except DoesNotExist:
            return None
        is_revoked = item.attribute_values.get("revoked_at") is not None
        return None if is_revoked else ApiKey(item.id, Tenant(item.merchant_id, _mode(item.mode)), item.name)

    def _read_owner(self, account_id: str) -> Tenant | None:
        try:
            item = AccountOwnerItem.get(f"account/{account_id}", "owner")
        except DoesNotExist:
            return None
        return Tenant(item.merchant_id, _mode(item.mode))

    def _read_merchant(self, tenant: Tenant) -> Merchant | None:
        settings: SettingsItem | None = None
        accounts: list[Account] = []
        for item in MerchantsItem.query(tenant.merchant_id):
            if isinstance(item, SettingsItem) and item.sk == f"settings#{tenant.mode}":
                settings = item
            elif isinstance(item, AccountItem) and item.mode == tenant.mode:
                opened = self._vault.open(tenant, f"account/{item.id}", item.sealed)
                accounts.append(
                    Account(
                        item.id, item.provider, item.base_url, opened["credentials"], tuple(opened["webhook_secrets"])
                    )
                )
        if settings is None:
            return None
        lookup = self._vault.open(tenant, "lookup_key", settings.sealed_lookup_key)
        secret = None
        if settings.sealed_webhook_secret is not None:
            secret = self._vault.open(tenant, "webhook_secret", settings.sealed_webhook_secret)["secret"]
        risk = dict(settings.risk or {})
        for name in ("blocked_countries", "review_countries"):
            if name in risk:
                risk[name] = frozenset(risk[name])
        return Merchant(
            tenant=tenant,
            name=settings.name,
            accounts=tuple(accounts),
            rules=tuple(Rule(**rule) for rule in settings.rules or ()),
            risk=RiskRules(**risk),
            webhook_url=settings.webhook_url,
            webhook_secret=secret,
            lookup_key=bytes.fromhex(lookup["key"]),
        )

    # -- set-up --------------------------------------------------------------------------------

    def save(self, merchant: Merchant) -> None:
        """Write a merchant's settings and accounts, sealed; replaces what was there."""
        tenant = merchant.tenant
        seal = self._vault.seal
        risk = {
            name: sorted(value) if isinstance(value, frozenset) else value
            for name, value in asdict(merchant.risk).items()
        }
        SettingsItem(
            tenant.merchant_id,
            f"settings#{tenant.mode}",
            name=merchant.name,
            webhook_url=merchant.webhook_url,
            sealed_webhook_secret=seal(tenant, "webhook_secret", {"secret": merchant.webhook_secret})
            if merchant.webhook_secret
            else None,
            sealed_lookup_key=seal(
                tenant, "lookup_key", {"key": (merchant.lookup_key or secrets.token_bytes(32)).hex()}
            ),
            rules=[asdict(rule) | {"accounts": list(rule.accounts)} for rule in merchant.rules],
            risk=risk,
        ).save()
        for account in merchant.accounts:
            secret = {"credentials": dict(account.credentials), "webhook_secrets": list(account.webhook_secrets)}
            AccountItem(
                tenant.merchant_id,
                f"account#{tenant.mode}#{account.id}",
                id=account.id,
                mode=tenant.mode,
                provider=account.provider,
                base_url=account.base_url,
                sealed=seal(tenant, f"account/{account.id}", secret),
            ).save()
            AccountOwnerItem(f"account/{account.id}", "owner", merchant_id=tenant.merchant_id, mode=tenant.mode).save()
        self._cache.clear()

    def create_key(self, tenant: Tenant, name: str) -> str:
        """Make an API key and return its secret: the only time it can be seen."""
        now = self._clock()
        body = f"sk_{tenant.mode}_{secrets.token_hex(_SECRET_BYTES)}"
        secret = body + _checksum(body)
        self.save_key(tenant, name, secret, now)
        return secret

    def save_key(self, tenant: Tenant, name: str, secret: str, now: datetime) -> None:
        """Store a key's hash."""
        ApiKeyItem(
            f"key/{hashlib.sha256(secret.encode()).hexdigest()}",
            "key",
            id=new_id("key", now),
            merchant_id=tenant.merchant_id,
            mode=tenant.mode,
            name=name,
            hint=f"{secret[:12]}…{secret[-4:]}",
            created_at=now,
        ).save()


def _mode(text: str) -> Mode:
    return "live" if text == "live" else "test"
