"""Outputs of the routes about merchants, people and keys; as outputs.py, nothing imports it to serve."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from chalicelib.api.outputs import Listed, Mode, Output, Time

Shown = Annotated[str, Field(description="Shown this once and kept nowhere.")]


class User(Output):
    """Somebody who can sign in."""

    id: str
    object: Literal["user"]
    merchant_id: str
    email: str
    name: str | None
    role: Literal["owner", "admin", "operator", "viewer", "platform"]
    scopes: list[str]
    status: Literal["invited", "active", "disabled"]
    created_at: Time
    updated_at: Time


class UserList(Listed[User]):
    """One page of a merchant's people."""


class Invitation(Output):
    """Somebody, and the token by which they set their password: POST /v1/auth/password."""

    user: User
    token: Shown
    expires_at: Time


class SignedIn(Output):
    """Tokens of somebody who has signed in."""

    object: Literal["session"]
    token_type: Literal["Bearer"]
    access_token: str
    refresh_token: Annotated[str, Field(description="Used up by POST /v1/auth/refresh, which gives the next one.")]
    expires_in: Annotated[int, Field(description="Seconds until the access token has to be refreshed.")]
    user: User


class PageSession(Output):
    """A session for pages; its secret is in the cookie that comes with this."""

    object: Literal["session"]
    csrf_token: Annotated[str, Field(description="Send it as X-CSRF-Token with everything but GET and HEAD.")]
    expires_at: Time
    user: User


class SignedOut(Output):
    """A session is over."""

    object: Literal["session"]
    ended: Literal[True]


class Merchant(Output):
    """A merchant's profile."""

    id: str
    object: Literal["merchant"]
    name: str
    plan: Literal["starter", "standard", "scale"]
    origins: list[str]
    suspended: bool
    created_at: Time | None
    updated_at: Time | None


class MerchantList(Listed[Merchant]):
    """One page of merchants."""


class ApiKey(Output):
    """An API key, without its secret."""

    id: str
    object: Literal["api_key"]
    mode: Mode
    type: Literal["secret", "publishable"]
    name: str
    hint: Annotated[str, Field(description="Its beginning and end.")]
    scopes: list[str]
    active: bool
    created_at: Time
    last_used_at: Annotated[Time | None, Field(description="To the hour.")]
    expires_at: Annotated[Time | None, Field(description="Where it has been rotated out.")]
    revoked_at: Time | None
    replaces: str | None


class ApiKeyList(Listed[ApiKey]):
    """One page of API keys."""


class NewApiKey(ApiKey):
    """An API key with its secret."""

    secret: Shown


class AuditEntry(Output):
    """One line of the audit log."""

    id: str
    object: Literal["audit_entry"]
    action: str
    object_id: str
    mode: Mode | None
    actor_id: str
    actor_type: str
    ip: str | None
    request_id: str | None
    before: dict[str, Any]
    after: dict[str, Any]
    created_at: Time


class AuditEntryList(Listed[AuditEntry]):
    """One page of the audit log."""
