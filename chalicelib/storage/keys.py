"""API keys: found by their hash, listed by their merchant, two rows that change together."""

from __future__ import annotations

import hashlib
import re
import secrets
import zlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pynamodb.exceptions import DoesNotExist, PynamoDBException

from chalicelib.domain.access import KEY_SCOPES, PUBLISHABLE_SCOPES, Caller
from chalicelib.domain.ids import new_id
from chalicelib.domain.model import Tenant
from chalicelib.observability import logger
from chalicelib.storage import audits
from chalicelib.storage.items import ApiKeyEntryItem, ApiKeyItem, MerchantsItem, bind
from chalicelib.storage.page import Page
from chalicelib.storage.store import change_if, write_all

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from chalicelib.domain.access import KeyKind
    from chalicelib.domain.audit import Entry
    from chalicelib.storage.cache import Cache

FORM = re.compile(r"(?:sk|pk)_(?:test|live)_[0-9a-f]{72}")
_CHECKSUM_LENGTH = 8
_SECRET_BYTES = 32  # 256 bits
_PREFIX = {"secret": "sk", "publishable": "pk"}
_USE_SECONDS = 3600.0  # how exactly it is known when a key was last used


@dataclass(frozen=True, slots=True)
class Key:
    """An API key without its secret. Times of its end in epoch seconds."""

    tenant: Tenant
    id: str
    name: str
    kind: KeyKind
    scopes: frozenset[str] | None  # None: all that a key of its kind can have
    hint: str
    digest: str
    created_at: datetime
    revoked_at: datetime | None = None
    expires_at: float | None = None
    replaces: str | None = None
    last_used_at: float | None = None
    version: int = 1

    def is_active(self, now: datetime) -> bool:
        """Whether it still opens anything."""
        return self.revoked_at is None and (self.expires_at is None or now.timestamp() < self.expires_at)

    def granted(self) -> frozenset[str]:
        """What it may do: never more than a key of its kind can."""
        most = PUBLISHABLE_SCOPES if self.kind == "publishable" else KEY_SCOPES
        return most if self.scopes is None else self.scopes & most

    def caller(self) -> Caller:
        """Who asks with it."""
        return Caller(self.id, f"{self.kind}_key", self.tenant, self.granted())  # type: ignore[arg-type]  # of two kinds


def new_key(
    tenant: Tenant, name: str, kind: KeyKind, scopes: frozenset[str] | None, now: datetime, replaces: str | None = None
) -> tuple[Key, str]:
    """A key that is not written yet, and its secret.

    The secret ends in a checksum: typing errors and most guesses cost no read.
    """
    body = f"{_PREFIX[kind]}_{tenant.mode}_{secrets.token_hex(_SECRET_BYTES)}"
    secret = body + _checksum(body)
    hint = f"{secret[:12]}…{secret[-4:]}"
    key = Key(tenant, new_id("key", now), name, kind, scopes, hint, digest_of(secret), now, replaces=replaces)
    return key, secret


def _checksum(text: str) -> str:
    return f"{zlib.crc32(text.encode()):0{_CHECKSUM_LENGTH}x}"


def digest_of(secret: str) -> str:
    """What a key is found by. Unsalted: there is nothing to guess in 256 random bits."""
    return hashlib.sha256(secret.encode()).hexdigest()


class Keys:
    """Reads and writes API keys."""

    def __init__(self, prefix: str, cache: Cache) -> None:
        """What ``cache`` remembers bounds how long a revoked key lives on."""
        bind(prefix)
        self._cache = cache
        self._used: dict[str, float] = {}

    def authenticate(self, secret: str, now: datetime) -> Caller | None:
        """Who asks with a key; None if there is no such key, or not any more."""
        if not FORM.fullmatch(secret) or secret[-_CHECKSUM_LENGTH:] != _checksum(secret[:-_CHECKSUM_LENGTH]):
            return None
        digest = digest_of(secret)
        key = self._cache.get(("key", digest), lambda: _read(digest))
        if key is None or not key.is_active(now):
            return None
        self._note_use(key, now)
        return key.caller()

    def _note_use(self, key: Key, now: datetime) -> None:
        """Write down that a key is used, once an hour: by condition, so that environments do not repeat each other."""
        moment = now.timestamp()
        if moment - self._used.get(key.id, 0.0) < _USE_SECONDS:
            return
        if len(self._used) > 10_000:  # noqa: PLR2004 - as the cache
            self._used.clear()
        self._used[key.id] = moment
        last = ApiKeyEntryItem.last_used_at
        condition = ApiKeyEntryItem.pk.exists() & (last.does_not_exist() | (last < moment - _USE_SECONDS))
        try:
            change_if(ApiKeyEntryItem(*_entry_key(key.tenant, key.id)), [last.set(round(moment))], condition)
        except PynamoDBException as error:  # the key opens all the same; in an hour it is tried again
            logger.warning("when %s was used cannot be written down: %s", key.id, error.cause)

    def get(self, tenant: Tenant, key_id: str) -> Key | None:
        """A key as it is now; None if the tenant has none of that id."""
        try:
            return _of(tenant, ApiKeyEntryItem.get(*_entry_key(tenant, key_id), consistent_read=True))
        except DoesNotExist:
            return None

    def page(self, tenant: Tenant, *, limit: int, cursor: str | None) -> Page:
        """A page of a tenant's keys, newest first, those that are over among them."""
        first = f"{tenant.mode}#"
        condition: Any = ApiKeyEntryItem.sk.startswith(first)
        if cursor is not None:
            condition = ApiKeyEntryItem.sk.between(first, first + cursor)
        rows = ApiKeyEntryItem.query(
            f"keys/{tenant.merchant_id}", condition, consistent_read=True, scan_index_forward=False, limit=limit + 2
        )
        found = [_of(tenant, row) for row in rows if row.id != cursor]
        shown = found[:limit]
        return Page(shown, shown[-1].id if len(found) > limit else None)

    def add(self, keys: Sequence[Key], *, retired: Key | None = None, audit: Sequence[Entry] = ()) -> None:
        """Write new keys, with the next version of the one they stand in for, or nothing; raises Stale."""
        writes: list[tuple[Any, Any]] = []
        for key in keys:
            writes += [(item, MerchantsItem.pk.does_not_exist()) for item in _items(key)]
        if retired is not None:
            writes += _changed(retired)
        write_all([*writes, *(audits.write(entry) for entry in audit)])
        self._forget(retired)

    def change(self, key: Key, audit: Entry) -> None:
        """Write a key's next version; raises Stale if it has had that since it was read."""
        write_all([*_changed(key), audits.write(audit)])
        self._forget(key)

    def _forget(self, key: Key | None) -> None:
        if key is not None:
            self._cache.forget(("key", key.digest))


def next_version(key: Key, **changes: Any) -> Key:  # noqa: ANN401
    """The key with changes."""
    return replace(key, version=key.version + 1, **changes)


def _entry_key(tenant: Tenant, key_id: str) -> tuple[str, str]:
    return f"keys/{tenant.merchant_id}", f"{tenant.mode}#{key_id}"


def _read(digest: str) -> Key | None:
    try:
        item = ApiKeyItem.get(f"key/{digest}", "key", consistent_read=True)
    except DoesNotExist:
        return None
    return _of(Tenant(item.merchant_id, "live" if item.mode == "live" else "test"), item)


def _of(tenant: Tenant, item: Any) -> Key:  # noqa: ANN401 - either of the two rows
    return Key(
        tenant=tenant,
        id=item.id,
        name=item.name,
        kind="publishable" if item.key_kind == "publishable" else "secret",
        scopes=None if item.scopes is None else frozenset(item.scopes),
        hint=item.hint,
        digest=getattr(item, "digest", None) or item.pk.removeprefix("key/"),
        created_at=item.created_at,
        revoked_at=item.revoked_at,
        expires_at=None if item.expires_at is None else float(item.expires_at),
        replaces=getattr(item, "replaces", None),
        last_used_at=getattr(item, "last_used_at", None),
        version=int(getattr(item, "version", None) or 1),
    )


def _items(key: Key) -> tuple[ApiKeyItem, ApiKeyEntryItem]:
    common: dict[str, Any] = {
        "id": key.id,
        "mode": key.tenant.mode,
        "name": key.name,
        "hint": key.hint,
        "key_kind": key.kind,
        "scopes": None if key.scopes is None else sorted(key.scopes),
        "created_at": key.created_at,
        "revoked_at": key.revoked_at,
        "expires_at": key.expires_at,
    }
    own = ApiKeyItem(f"key/{key.digest}", "key", merchant_id=key.tenant.merchant_id, **common)
    entry = ApiKeyEntryItem(
        *_entry_key(key.tenant, key.id), digest=key.digest, replaces=key.replaces, last_used_at=key.last_used_at,
        version=key.version, **common,
    )  # fmt: skip
    return own, entry


def _changed(key: Key) -> list[tuple[Any, Any]]:
    own, entry = _items(key)
    return [(own, ApiKeyItem.pk.exists()), (entry, ApiKeyEntryItem.version == key.version - 1)]
