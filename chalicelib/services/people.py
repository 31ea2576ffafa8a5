"""People and merchants: signing up, inviting, roles, passwords that are set by a token, profiles.

A crash before a write has changed nothing, after it everything, with its line in the audit log. Tokens that set a
password are used up by the write that sets it, on condition of the person's version: of two who use one at once, one
gets in. Of two who change the same person or profile one wins, and the other decides again on what is there then.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from chalicelib.domain import audit, ids, passwords
from chalicelib.domain.access import Rate, may_give
from chalicelib.domain.errors import (
    Contended,
    Forbidden,
    NotFoundError,
    RateLimited,
    StateConflict,
    Unauthenticated,
)
from chalicelib.domain.model import Tenant
from chalicelib.domain.people import PLATFORM, Profile, User, canonical_email
from chalicelib.services.kit import pause
from chalicelib.services.sessions import check_password, forgive, hash_of
from chalicelib.storage.people import EmailTaken, next_version
from chalicelib.storage.store import Stale

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from chalicelib.domain.access import Caller, Plan, Role
    from chalicelib.domain.audit import Actor
    from chalicelib.services.kit import Kit
    from chalicelib.storage.people import People

_RACES = 10
_SEPARATOR = "/"
_INVITATIONS = Rate(20 / 3600, 50)  # of one merchant
_NO_TOKEN = {"invite": None, "invite_until": None, "invite_by": None}


# -- signing up ------------------------------------------------------------------------------------


def sign_up(kit: Kit, email: str, password: str, merchant_name: str, name: str | None, *, by: Actor) -> User:
    """Make a merchant with its first owner; raises InvalidRequest, or StateConflict if the email is taken.

    That tells who has an account here. Keeping it to oneself would take a letter to every new merchant before they can
    begin; how many may ask is limited by address instead.
    """
    email = canonical_email(email)
    passwords.check(password, email)
    if kit.people.user_of_email(email) is not None:  # the write has the last word; this saves the hash
        raise StateConflict("email_taken", "Somebody signs in with this email already.")
    now = kit.now()
    merchant_id, user_id = ids.new_id("mer", now), ids.new_id("usr", now)
    profile = Profile(merchant_id, merchant_name, "starter", created_at=now, updated_at=now, version=1)
    owner = User(
        merchant_id, user_id, email, "owner", "active", now, now, name,
        password=passwords.hashed(password, kit.settings.password_cost),
    )  # fmt: skip
    line = audit.entry(
        merchant_id, "merchant.signed_up", merchant_id, audit.acting(user_id, by), now,
        after={"name": merchant_name, "owner": user_id},
    )  # fmt: skip
    settings = [kit.merchants.new_settings(Tenant(merchant_id, mode), merchant_name) for mode in ("test", "live")]
    try:
        kit.people.sign_up(profile, owner, settings, line)
    except EmailTaken as taken:
        raise StateConflict("email_taken", "Somebody signs in with this email already.") from taken
    except Stale as stale:
        raise Contended("This email") from stale
    return owner


# -- people ----------------------------------------------------------------------------------------


def get(kit: Kit, merchant_id: str, user_id: str) -> User:
    """Somebody as they are now; raises NotFoundError."""
    user = kit.people.user_now(merchant_id, user_id)
    if user is None:
        raise NotFoundError("user_not_found", f"There is nobody of the id {user_id}.", param="id")
    return user


def invite(kit: Kit, caller: Caller, email: str, role: Role, name: str | None, *, by: Actor) -> tuple[User, str]:
    """Add somebody, who gets in with the token this returns; raises Forbidden, or StateConflict for a taken email."""
    _check_giving(caller, role)
    taken_in = kit.limits.take(f"invitations/{caller.tenant.merchant_id}", _INVITATIONS)
    if not taken_in.is_given:  # each one takes an email that nobody has shown to be theirs
        raise RateLimited("invitations", taken_in.wait)
    now = kit.now()
    user = User(
        caller.tenant.merchant_id, ids.new_id("usr", now), canonical_email(email), role, "invited", now, now, name
    )
    user, token = _with_token(user, now, kit.settings.invite_ttl, caller.id)
    line = audit.entry(user.merchant_id, "user.invited", user.id, by, now, after={"role": role})
    try:
        kit.people.add(user, line)
    except EmailTaken as taken:
        raise StateConflict("email_taken", "Somebody signs in with this email already.") from taken
    except Stale as stale:
        raise Contended("This email") from stale
    return user, token


def appoint(people: People, merchant_id: str, email: str, now: datetime, seconds: float) -> tuple[User, str]:
    """Add an owner of a merchant, or somebody of the platform itself (``PLATFORM``); raises EmailTaken.

    No route leads here: only whoever may write the table can ask for it. The token works for ``seconds``.
    """
    role: Role = "platform" if merchant_id == PLATFORM else "owner"
    user = User(merchant_id, ids.new_id("usr", now), canonical_email(email), role, "invited", now, now)
    user, token = _with_token(user, now, seconds)
    people.add(user, audit.entry(merchant_id, "user.invited", user.id, audit.SYSTEM, now, after={"role": role}))
    return user, token


def _check_giving(caller: Caller, role: Role) -> None:
    if caller.role is None or not may_give(caller.role, role):
        raise Forbidden("forbidden", f"You may not put anybody into the role {role}, or take them out of it.")


def change_role(kit: Kit, caller: Caller, user_id: str, *, role: Role | None, disabled: bool | None, by: Actor) -> User:
    """Give somebody another role, send them away, or let them back in; raises Forbidden, NotFoundError, StateConflict.

    Nobody changes themselves: the last owner can so never be lost, since only another owner takes one away.
    """
    if user_id == caller.id:
        raise Forbidden("forbidden", "Nobody changes their own role. Ask another owner.")

    def decide(user: User) -> dict[str, Any]:
        _check_giving(caller, user.role)
        changes: dict[str, Any] = {}
        if role is not None and role != user.role:
            _check_giving(caller, role)
            changes |= {"role": role, **_NO_TOKEN}  # it was given for another one
        if disabled is True and user.status != "disabled":
            changes |= {
                "status": "disabled",
                "invite": None,
                "invite_until": None,
                "invite_by": None,
                "signed_out_at": kit.now(),
            }
        if disabled is False and user.status == "disabled":
            changes["status"] = "active" if user.password else "invited"
        return changes

    return _change(kit, caller.tenant.merchant_id, user_id, "user.changed", by, decide, actor=_actor(kit, caller))


def rename(kit: Kit, caller: Caller, name: str | None, *, by: Actor) -> User:
    """Change one's own name."""
    return _change(
        kit, caller.tenant.merchant_id, caller.id, "user.renamed", by,
        lambda user: {} if user.name == name else {"name": name},
    )  # fmt: skip


def _actor(kit: Kit, caller: Caller) -> User:
    """Who acts, as they are: their row is looked at again in the write, so that of two who act on each other one wins.

    Raises Unauthenticated for somebody who was sent away.
    """
    actor = kit.people.user_now(caller.tenant.merchant_id, caller.id)
    if actor is None or actor.status != "active" or actor.role != caller.role:
        raise Unauthenticated("session_over", "You have been sent away, or have another role.")
    return actor


def _change(
    kit: Kit,
    merchant_id: str,
    user_id: str,
    action: str,
    by: Actor,
    decide: Callable[[User], dict[str, Any]],
    *,
    actor: User | None = None,
) -> User:
    for number in range(_RACES):
        user, now = get(kit, merchant_id, user_id), kit.now()
        changes = decide(user)
        if not changes:
            return user
        after = next_version(user, now, **changes)
        line = audit.entry(merchant_id, action, user_id, by, now, before=_noted(user), after=_noted(after))
        try:
            kit.people.change(after, line, actor=actor)
        except Stale:
            if actor is not None:
                now_is = kit.people.user_now(merchant_id, actor.id)
                if now_is is None or (now_is.status, now_is.role) != (actor.status, actor.role):
                    raise Unauthenticated("session_over", "You have been sent away, or have another role.") from None
            pause(kit, number)
            continue
        return after
    raise Contended(f"User {user_id}")


def _noted(user: User) -> dict[str, Any]:
    """Somebody as the audit log has them: no email, no name."""
    return {"role": user.role, "status": user.status}


# -- passwords -------------------------------------------------------------------------------------


def _with_token(user: User, now: datetime, seconds: float, by: str | None = None) -> tuple[User, str]:
    secret = secrets.token_urlsafe(32)
    text = _SEPARATOR.join((user.merchant_id, user.id, secret))
    token = base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
    until = now + timedelta(seconds=seconds)
    return replace(user, invite=hash_of(secret), invite_until=until, invite_by=by), token


def reset(kit: Kit, caller: Caller, user_id: str, *, by: Actor) -> tuple[User, str]:
    """A token by which somebody sets a new password; raises Forbidden, NotFoundError or StateConflict.

    Their password and sessions stay until it is used. One's own is changed by who knows it (``change_password``):
    a session that was stolen must not become a password.
    """
    if user_id == caller.id:
        raise Forbidden("forbidden", "Change your own password by PATCH /v1/users/me, or ask somebody else.")
    token = ""

    def decide(user: User) -> dict[str, Any]:
        nonlocal token
        _check_giving(caller, user.role)
        if user.status == "disabled":
            raise StateConflict("user_disabled", "They have been sent away. Let them back in first.")
        seconds = kit.settings.reset_ttl if user.password else kit.settings.invite_ttl
        made, token = _with_token(user, kit.now(), seconds, caller.id)
        return {"invite": made.invite, "invite_until": made.invite_until, "invite_by": made.invite_by}

    actor = _actor(kit, caller)
    user = _change(kit, caller.tenant.merchant_id, user_id, "user.reset_asked", by, decide, actor=actor)
    return user, token


def set_password(kit: Kit, token: str, password: str, *, by: Actor) -> User:
    """Set the password that a token lets its bearer set, once; ends every session. Raises Unauthenticated."""
    wrong = Unauthenticated("token_used", "The token is wrong, used or over. Ask for a new one.")
    try:
        text = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        raise wrong from None
    merchant_id, _, rest = text.partition(_SEPARATOR)
    user_id, _, secret = rest.partition(_SEPARATOR)
    user, now = kit.people.user_now(merchant_id, user_id) if user_id else None, kit.now()
    if user is None or user.invite is None or user.invite_until is None or user.status == "disabled":
        raise wrong
    if not hmac.compare_digest(user.invite, hash_of(secret)) or user.invite_until <= now:
        raise wrong
    if not _still_may(kit, user):
        raise wrong
    passwords.check(password, user.email)
    after = next_version(
        user, now, password=passwords.hashed(password, kit.settings.password_cost), status="active", invite=None,
        invite_until=None, invite_by=None, signed_out_at=now,
    )  # fmt: skip
    line = audit.entry(
        merchant_id, "user.password_set", user_id, audit.acting(user_id, by), now,
        before=_noted(user), after=_noted(after),
    )  # fmt: skip
    try:
        kit.people.change(after, line)
    except Stale as stale:
        raise wrong from stale
    forgive(kit, user.email)
    return after


def _still_may(kit: Kit, user: User) -> bool:
    """Whether who gave a token could give it now: they may have been sent away since, or have another role."""
    if user.invite_by is None:
        return True
    giver = kit.people.user_now(user.merchant_id, user.invite_by)
    return giver is not None and giver.status == "active" and may_give(giver.role, user.role)


def change_password(kit: Kit, caller: Caller, current: str, password: str, *, by: Actor) -> User:
    """Change one's own password; ends every session. Raises as ``check_password`` if the current one is wrong."""
    email = get(kit, caller.tenant.merchant_id, caller.id).email
    passwords.check(password, email)  # before anything is hashed
    known = check_password(kit, email, current, by.ip or "")
    hashed = passwords.hashed(password, kit.settings.password_cost)

    def decide(user: User) -> dict[str, Any]:
        if user.password != known.password:
            raise Contended("Your password")
        return {"password": hashed, "signed_out_at": kit.now(), **_NO_TOKEN}

    return _change(kit, caller.tenant.merchant_id, caller.id, "user.password_changed", by, decide)


# -- merchants -------------------------------------------------------------------------------------


def profile(kit: Kit, merchant_id: str) -> Profile:
    """A merchant's profile as it is now; raises NotFoundError."""
    found = kit.people.profile_now(merchant_id)
    if found is None:
        raise NotFoundError("merchant_not_found", f"There is no merchant {merchant_id}.", param="id")
    return found


def change_profile(
    kit: Kit,
    merchant_id: str,
    *,
    by: Actor,
    name: str | None = None,
    origins: Sequence[str] | None = None,
    plan: Plan | None = None,
    suspended: bool | None = None,
) -> Profile:
    """Change what is given of a merchant's profile; raises NotFoundError or Contended."""
    for number in range(_RACES):
        before, now = profile(kit, merchant_id), kit.now()
        given = {"name": name, "plan": plan, "suspended": suspended}
        changes: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
        if origins is not None:
            changes["origins"] = tuple(origins)
        wanted = replace(before, **changes)
        if wanted == before:
            return before
        after = replace(wanted, updated_at=now, version=before.version + 1)
        line = audit.entry(
            merchant_id, "merchant.changed", merchant_id, by, now, before=_shown(before), after=_shown(after)
        )
        try:
            kit.people.change_profile(before, after, line)
        except Stale:
            pause(kit, number)
            continue
        return after
    raise Contended(f"Merchant {merchant_id}")


def _shown(profile: Profile) -> dict[str, Any]:
    return {
        "name": profile.name,
        "plan": profile.plan,
        "origins": list(profile.origins),
        "suspended": profile.suspended,
    }
