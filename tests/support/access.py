"""Keys, people and audit lines for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chalicelib.domain import audit
from chalicelib.storage.cache import Cache
from chalicelib.storage.keys import Keys, new_key
from tests.support.aws import PREFIX
from tests.support.factories import NOW

if TYPE_CHECKING:
    from datetime import datetime

    from chalicelib.domain.access import KeyKind
    from chalicelib.domain.audit import Entry
    from chalicelib.domain.model import Tenant

ACTOR = audit.Actor("key_1", "secret_key", "req_1", "203.0.113.7")


def make_key(
    tenant: Tenant, name: str = "test", kind: KeyKind = "secret", scopes: frozenset[str] | None = None,
    now: datetime = NOW,
) -> str:  # fmt: skip
    """Write an API key and return its secret."""
    key, secret = new_key(tenant, name, kind, scopes, now)
    Keys(PREFIX, Cache(lambda: now, 0.0)).add([key], audit=[make_entry(tenant)])
    return secret


def make_entry(tenant: Tenant, action: str = "thing.done") -> Entry:
    """A line of the audit log."""
    return audit.entry(tenant.merchant_id, action, "thing_1", ACTOR, NOW, mode=tenant.mode)
