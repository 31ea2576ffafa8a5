"""Keys, people and audit lines for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chalicelib.domain import audit, passwords
from chalicelib.domain.ids import new_id
from chalicelib.domain.model import Tenant
from chalicelib.domain.people import User
from chalicelib.storage.cache import Cache
from chalicelib.storage.keys import Keys, new_key
from tests.support.aws import PREFIX
from tests.support.factories import NOW
from tests.support.marks import EMAIL_DOMAIN, PASSWORD

if TYPE_CHECKING:
    from datetime import datetime

    from chalicelib.domain.access import KeyKind, Role
    from chalicelib.domain.audit import Entry
    from chalicelib.services.kit import Kit

ACTOR = audit.Actor("key_1", "secret_key", "req_1", "203.0.113.7")


def make_key(
    tenant: Tenant, name: str = "test", kind: KeyKind = "secret", scopes: frozenset[str] | None = None,
    now: datetime = NOW,
) -> str:  # fmt: skip
    """Write an API key and return its secret."""
    key, secret = new_key(tenant, name, kind, scopes, now)
    Keys(PREFIX, Cache(lambda: now, 0.0)).add([key], audit=[make_entry(tenant)])
    return secret


def make_user(
    kit: Kit, merchant_id: str, role: Role = "owner", email: str | None = None, password: str = PASSWORD
) -> User:
    """Write somebody who can sign in."""
    now = kit.now()
    user_id = new_id("usr", now)
    user = User(
        merchant_id, user_id, email or f"{user_id.lower()}@{EMAIL_DOMAIN}", role, "active", now, now, "Asha Rao",
        password=passwords.hashed(password, kit.settings.password_cost),
    )  # fmt: skip
    kit.people.add(user, make_entry(Tenant(merchant_id, "test"), "user.invited"))
    return user


def make_entry(tenant: Tenant, action: str = "thing.done") -> Entry:
    """A line of the audit log."""
    return audit.entry(tenant.merchant_id, action, "thing_1", ACTOR, NOW, mode=tenant.mode)
