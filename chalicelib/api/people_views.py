"""What the API shows of merchants, people, keys and the audit log."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from chalicelib.api.views import moment
from chalicelib.domain.access import ROLE_SCOPES

if TYPE_CHECKING:
    from chalicelib.domain.audit import Entry
    from chalicelib.domain.people import Profile, User
    from chalicelib.services.sessions import Cookie, Tokens
    from chalicelib.storage.keys import Key


def _moment(time: datetime | None) -> str | None:
    return None if time is None else moment(time)


def _epoch(seconds: float | None) -> str | None:
    return None if seconds is None else moment(datetime.fromtimestamp(seconds, UTC))


def user(shown: User) -> dict[str, object]:
    """Somebody who can sign in."""
    return {
        "id": shown.id,
        "object": "user",
        "merchant_id": shown.merchant_id,
        "email": shown.email,
        "name": shown.name,
        "role": shown.role,
        "scopes": sorted(ROLE_SCOPES[shown.role]),
        "status": shown.status,
        "created_at": moment(shown.created_at),
        "updated_at": moment(shown.updated_at),
    }


def invitation(shown: User, token: str) -> dict[str, object]:
    """Somebody with the token that sets their password."""
    return {"user": user(shown), "token": token, "expires_at": _moment(shown.invite_until)}


def signed_in(tokens: Tokens) -> dict[str, object]:
    """Somebody who has signed in."""
    return {
        "object": "session",
        "token_type": "Bearer",
        "access_token": tokens.access,
        "refresh_token": tokens.refresh,
        "expires_in": tokens.expires_in,
        "user": user(tokens.user),
    }


def page_session(cookie: Cookie) -> dict[str, object]:
    """A session for pages, without its secret."""
    return {
        "object": "session",
        "csrf_token": cookie.csrf,
        "expires_at": moment(cookie.expires_at),
        "user": user(cookie.user),
    }


def merchant(shown: Profile) -> dict[str, object]:
    """A merchant's profile."""
    return {
        "id": shown.merchant_id,
        "object": "merchant",
        "name": shown.name,
        "plan": shown.plan,
        "origins": list(shown.origins),
        "suspended": shown.suspended,
        "created_at": _moment(shown.created_at),
        "updated_at": _moment(shown.updated_at),
    }


def api_key(shown: Key, now: datetime, secret: str | None = None) -> dict[str, object]:
    """An API key; with its secret only when it is made."""
    return {
        "id": shown.id,
        "object": "api_key",
        "mode": shown.tenant.mode,
        "type": shown.kind,
        "name": shown.name,
        "hint": shown.hint,
        "scopes": sorted(shown.granted()),
        "active": shown.is_active(now),
        "created_at": moment(shown.created_at),
        "last_used_at": _epoch(shown.last_used_at),
        "expires_at": _epoch(shown.expires_at),
        "revoked_at": _moment(shown.revoked_at),
        "replaces": shown.replaces,
        **({} if secret is None else {"secret": secret}),
    }


def audit_entry(shown: Entry) -> dict[str, object]:
    """One line of the audit log."""
    return {
        "id": shown.id,
        "object": "audit_entry",
        "action": shown.action,
        "object_id": shown.object_id,
        "mode": shown.mode,
        "actor_id": shown.actor.id,
        "actor_type": shown.actor.kind,
        "ip": shown.actor.ip,
        "request_id": shown.actor.request_id,
        "before": dict(shown.before),
        "after": dict(shown.after),
        "created_at": moment(shown.created_at),
    }
