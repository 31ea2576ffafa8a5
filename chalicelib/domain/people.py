"""People who sign in, their sessions, and how long somebody who guesses passwords has to wait."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from datetime import datetime

    from chalicelib.domain.access import Plan, Role

UserStatus = Literal["invited", "active", "disabled"]
PLATFORM = "platform"  # the merchant id of the platform's own people

_LONGEST = 900.0  # seconds: a lock-out, which ends by itself


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who can sign in. ``email`` and ``name`` are sealed where they are stored."""

    merchant_id: str
    id: str
    email: str = field(repr=False)
    role: Role
    status: UserStatus
    created_at: datetime
    updated_at: datetime
    name: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)  # its hash
    invite: str | None = field(default=None, repr=False)  # the hash of the token that sets a password, used once
    invite_until: datetime | None = None
    invite_by: str | None = None  # who gave it; None: whoever may write the table
    signed_out_at: datetime | None = None  # sessions from before that are void
    version: int = 1


@dataclass(frozen=True, slots=True)
class Session:
    """Somebody signed in: by token for the API, or by cookie for pages."""

    id: str
    kind: Literal["token", "cookie"]
    merchant_id: str
    user_id: str
    created_at: datetime
    expires_at: datetime
    secret: str = field(repr=False)  # the hash of the refresh token in force, or of the cookie
    previous: str | None = field(default=None, repr=False)  # of the refresh token before


@dataclass(frozen=True, slots=True)
class Profile:
    """A merchant as its own people and the platform see it."""

    merchant_id: str
    name: str
    plan: Plan = "standard"
    origins: tuple[str, ...] = ()  # of web pages that may use its publishable keys
    suspended: bool = False
    created_at: datetime | None = None
    updated_at: datetime | None = None
    version: int = 0


@dataclass(frozen=True, slots=True)
class Tries:
    """Passwords that were tried for one email and were wrong, or are being tried."""

    count: int = 0
    next_at: float = 0.0  # epoch seconds
    version: int = 0


def backoff(count: int, free: int) -> float:
    """Seconds to wait after that many failures: none for those that are ``free``, then 1, 2, 4, … up to 15 minutes."""
    return 0.0 if count < free else min(_LONGEST, 2.0 ** min(count - free, 10))


def canonical_email(email: str) -> str:
    """The same for every way of writing an address in capitals."""
    return unicodedata.normalize("NFKC", email).strip().lower()
