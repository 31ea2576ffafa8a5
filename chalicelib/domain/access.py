"""Who may do what: scopes, the roles of people, what keys can hold, and a caller with all that decides about it.

A route declares one scope; a caller has a set of them. People have a role in their merchant, which is a set of
scopes; a secret key has all that a key can have or fewer; a publishable key, which lies open in a browser, has two.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chalicelib.domain.model import Tenant

KeyKind = Literal["secret", "publishable"]
Role = Literal["owner", "admin", "operator", "viewer", "platform"]
MERCHANT_ROLES: tuple[Role, ...] = ("owner", "admin", "operator", "viewer")
ROLES: tuple[Role, ...] = get_args(Role)
Plan = Literal["starter", "standard", "scale"]
PLANS: tuple[Plan, ...] = get_args(Plan)

# Every scope a route may ask for, with what it lets a caller do. docs/api.md has the same list; a test compares them.
SCOPES: Mapping[str, str] = {
    "orders:read": "See orders.",
    "orders:write": "Make and cancel orders.",
    "payments:read": "See payments, with all that has happened to them.",
    "payments:write": "Make, capture and cancel payments.",
    "payments:confirm": "Bring back the proof that a provider gave the customer's browser.",
    "payments:review": "Approve, reject and close what waits for a person.",
    "refunds:read": "See refunds.",
    "refunds:write": "Give money back.",
    "tokens:read": "See card tokens.",
    "tokens:write": "Turn cards into tokens.",
    "customers:write": "Erase what is known of a customer.",
    "accounts:read": "See provider accounts, never their secrets.",
    "accounts:write": "Connect, rotate, enable and disable provider accounts.",
    "providers:read": "See how providers do.",
    "providers:write": "Hold breakers open or closed.",
    "risk:read": "See the risk rules.",
    "risk:write": "Replace the risk rules.",
    "routing:read": "See and try the routing rules.",
    "routing:write": "Replace the routing rules.",
    "merchant:read": "See the merchant's profile.",
    "merchant:write": "Change the merchant's profile.",
    "keys:read": "See API keys, never their secrets.",
    "keys:write": "Make, rotate and revoke API keys.",
    "users:read": "See the merchant's people.",
    "users:write": "Invite people, change their roles, send them away.",
    "audit:read": "See who has done what.",
    "profile:read": "See oneself.",
    "profile:write": "Change one's name and password, sign out.",
    "platform:read": "See every merchant of the platform.",
    "platform:write": "Change a merchant's plan, suspend it.",
}

_PERSONAL = frozenset({"profile:read", "profile:write"})
_PLATFORM = frozenset({"platform:read", "platform:write"})
# A key makes no keys and no people: whoever steals one loses it with that one.
_PEOPLE_ONLY = frozenset({"keys:read", "keys:write", "users:read", "users:write", "audit:read", "merchant:write"})

KEY_SCOPES = frozenset(SCOPES) - _PERSONAL - _PLATFORM - _PEOPLE_ONLY
PUBLISHABLE_SCOPES = frozenset({"tokens:write", "payments:confirm"})

_VIEWER = frozenset(
    {
        "orders:read", "payments:read", "refunds:read", "tokens:read", "accounts:read", "providers:read", "risk:read",
        "routing:read", "merchant:read",
    }
) | _PERSONAL  # fmt: skip
_OPERATOR = _VIEWER | {
    "orders:write", "payments:write", "payments:confirm", "payments:review", "refunds:write", "customers:write",
    "providers:write", "audit:read",
}  # fmt: skip
_ADMIN = frozenset(SCOPES) - _PLATFORM

ROLE_SCOPES: Mapping[Role, frozenset[str]] = {
    "owner": _ADMIN,
    "admin": _ADMIN,  # but only an owner makes owners, see may_give
    "operator": _OPERATOR,
    "viewer": _VIEWER,
    "platform": _PLATFORM | _PERSONAL,
}


def may_give(giver: Role, role: Role) -> bool:
    """Whether somebody of one role may put others into, or take them out of, another role."""
    if role not in MERCHANT_ROLES:
        return False
    return giver == "owner" or (giver == "admin" and role != "owner")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: a key or a signed-in person, in one merchant and mode."""

    id: str  # key_… or usr_…
    kind: Literal["secret_key", "publishable_key", "user"]
    tenant: Tenant
    scopes: frozenset[str]
    role: Role | None = None  # of a person
    session_id: str | None = None  # of a person

    def may(self, scope: str) -> bool:
        """Whether the caller has a scope."""
        return scope in self.scopes


@dataclass(frozen=True, slots=True)
class Rate:
    """A token bucket: ``per_second`` tokens flow in, ``burst`` is how many it holds."""

    per_second: float
    burst: int


PLAN_LIMITS: Mapping[Plan, Rate] = {
    "starter": Rate(10, 50),
    "standard": Rate(100, 500),
    "scale": Rate(1000, 3000),
}
