"""API keys: make, rotate, revoke. What a key opens is decided where it is read, see storage/keys.py.

A crash before a write has changed nothing, after it everything, and the audit log says so in the same write. A repeat
of ``create`` makes a second key, which can be revoked: an answer that holds a secret is kept nowhere. A repeat of
``revoke`` changes nothing. Of two rotations at once one wins and the other is told.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from chalicelib.domain import audit
from chalicelib.domain.access import KEY_SCOPES, PUBLISHABLE_SCOPES
from chalicelib.domain.errors import Contended, InvalidRequest, NotFoundError, StateConflict
from chalicelib.services.kit import pause
from chalicelib.storage.keys import new_key, next_version
from chalicelib.storage.store import Stale

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from chalicelib.domain.access import KeyKind
    from chalicelib.domain.audit import Actor
    from chalicelib.domain.model import Tenant
    from chalicelib.services.kit import Kit
    from chalicelib.storage.keys import Key

_RACES = 10


def create(
    kit: Kit, tenant: Tenant, name: str, kind: KeyKind, scopes: Sequence[str] | None, *, by: Actor
) -> tuple[Key, str]:
    """Make a key; returns it with its secret, which nobody can see again. Raises InvalidRequest for a wrong scope."""
    allowed = PUBLISHABLE_SCOPES if kind == "publishable" else KEY_SCOPES
    for place, scope in enumerate(scopes or ()):
        if scope not in allowed:
            detail = f"A {kind} key can have {', '.join(sorted(allowed))}."
            raise InvalidRequest("unknown_scope", detail, param=f"scopes.{place}")
    key, secret = new_key(tenant, name, kind, None if scopes is None else frozenset(scopes), kit.now())
    made = audit.entry(
        tenant.merchant_id, "api_key.created", key.id, by, kit.now(), mode=tenant.mode, after=_noted(key)
    )
    kit.keys.add([key], audit=[made])
    return key, secret


def get(kit: Kit, tenant: Tenant, key_id: str) -> Key:
    """The key as it is now; raises NotFoundError."""
    key = kit.keys.get(tenant, key_id)
    if key is None:
        raise NotFoundError("key_not_found", f"There is no API key {key_id}.", param="id")
    return key


def rotate(kit: Kit, tenant: Tenant, key_id: str, overlap: float | None, *, by: Actor) -> tuple[Key, str]:
    """Make a key that stands in for another one, which goes on for ``overlap`` seconds: two are active until then.

    Raises NotFoundError, or StateConflict if the key is over or being rotated already.
    """
    old, now = get(kit, tenant, key_id), kit.now()
    if not old.is_active(now):
        raise StateConflict("key_inactive", "The key is revoked or has expired.")
    if old.expires_at is not None:
        raise StateConflict("key_rotating", "The key has been rotated already, and goes on for a while.")
    if old.replaces is not None:
        before = kit.keys.get(tenant, old.replaces)
        if before is not None and before.is_active(now):
            raise StateConflict("key_rotating", "The key that this one stands in for is still active. Revoke it first.")
    overlap = kit.settings.key_overlap if overlap is None else overlap
    retired = next_version(old, expires_at=round(now.timestamp() + overlap, 3))
    key, secret = new_key(tenant, old.name, old.kind, old.scopes, now, replaces=old.id)
    line = audit.entry(
        tenant.merchant_id, "api_key.rotated", old.id, by, now, mode=tenant.mode,
        before=_noted(old), after={**_noted(retired), "replaced_by": key.id},
    )  # fmt: skip
    try:
        kit.keys.add([key], retired=retired, audit=[line])
    except Stale as stale:
        raise StateConflict("key_rotating", "Somebody else is changing this key. Look at it and try again.") from stale
    return key, secret


def revoke(kit: Kit, tenant: Tenant, key_id: str, *, by: Actor) -> Key:
    """End a key: everywhere within the minute that environments remember it. Twice is once. Raises NotFoundError."""
    return _change(
        kit, tenant, key_id, "api_key.revoked", by, lambda key: {} if key.revoked_at else {"revoked_at": kit.now()}
    )


def rename(kit: Kit, tenant: Tenant, key_id: str, name: str, *, by: Actor) -> Key:
    """Give a key another name; raises NotFoundError."""
    return _change(kit, tenant, key_id, "api_key.renamed", by, lambda key: {} if key.name == name else {"name": name})


def _change(
    kit: Kit, tenant: Tenant, key_id: str, action: str, by: Actor, decide: Callable[[Key], dict[str, Any]]
) -> Key:
    """Write a key's next version with what ``decide`` changes of it, if that is anything; raises Contended."""
    for number in range(_RACES):
        key = get(kit, tenant, key_id)
        changes = decide(key)
        if not changes:
            return key
        after = next_version(key, **changes)
        line = audit.entry(
            tenant.merchant_id, action, key.id, by, kit.now(), mode=tenant.mode, before=_noted(key), after=_noted(after)
        )
        try:
            kit.keys.change(after, line)
        except Stale:
            pause(kit, number)
            continue
        return after
    raise Contended(f"API key {key_id}")


def _noted(key: Key) -> dict[str, Any]:
    """A key as the audit log has it."""
    return {
        "name": key.name,
        "type": key.kind,
        "scopes": sorted(key.granted()),
        "revoked": key.revoked_at is not None,
        "expires_at": None if key.expires_at is None else datetime.fromtimestamp(key.expires_at, UTC).isoformat(),
    }
