"""The audit log: who did what, to what, when, from where, and how it was before and after."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from chalicelib.domain.ids import new_id

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from chalicelib.domain.model import Mode


_LONG = 1000  # characters of a value that is kept as it is
_MANY = 50  # entries of a long object


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts, and from where; ``ip`` is the address API Gateway saw."""

    id: str  # key_…, usr_…, or "system"
    kind: str
    request_id: str | None = None
    ip: str | None = None


SYSTEM = Actor("system", "system")


def acting(user_id: str, by: Actor) -> Actor:
    """Whoever asked without credentials, once it is known who that was."""
    return Actor(user_id, "user", by.request_id, by.ip)


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the audit log; never changed once written. ``before`` and ``after`` hold no secret."""

    merchant_id: str
    id: str
    action: str  # what was done, as "api_key.revoked"
    object_id: str
    actor: Actor
    created_at: datetime
    mode: Mode | None = None  # None: of both
    before: Mapping[str, Any] = field(default_factory=dict)
    after: Mapping[str, Any] = field(default_factory=dict)


def _short(value: Any) -> Any:  # noqa: ANN401 - any JSON
    """A value as it is, or what tells it from another one if it is long: a line is read with a hundred others."""
    text = json.dumps(value, sort_keys=True, default=str)
    if len(text) <= _LONG:
        return value
    if isinstance(value, dict):
        return {name: _short(part) for name, part in list(value.items())[:_MANY]}
    size = {"entries": len(value)} if isinstance(value, list | tuple) else {"characters": len(text)}
    return {**size, "sha256": hashlib.sha256(text.encode()).hexdigest()}


def entry(
    merchant_id: str,
    action: str,
    object_id: str,
    actor: Actor,
    now: datetime,
    *,
    mode: Mode | None = None,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> Entry:
    """A new line; of ``before`` and ``after`` only what differs is kept."""
    old, new = dict(before or {}), dict(after or {})
    same = [name for name in old if name in new and old[name] == new[name]]
    for name in same:
        del old[name], new[name]
    old, new = ({name: _short(value) for name, value in side.items()} for side in (old, new))
    return Entry(merchant_id, new_id("aud", now), action, object_id, actor, now, mode, old, new)
