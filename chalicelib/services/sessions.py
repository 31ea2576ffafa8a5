"""Signing in and staying in: passwords, access and refresh tokens for the API, cookies for pages.

An access token is a JWT of a quarter of an hour that names its session; the session's row and the person's are looked
at with each request, at most a minute old, so that signing out, sending somebody away and a new role take effect
within that minute. A refresh token is used once: the second use of one ends its session, because one of the two who
have it has stolen it. Of every secret only the hash is stored.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from chalicelib.domain import audit, ids, passwords
from chalicelib.domain.access import ROLE_SCOPES, Caller
from chalicelib.domain.errors import Contended, RateLimited, Unauthenticated
from chalicelib.domain.model import Tenant
from chalicelib.domain.people import Session, Tries, User, backoff
from chalicelib.observability import logger, metric
from chalicelib.storage.people import next_version
from chalicelib.storage.store import Stale

if TYPE_CHECKING:
    from datetime import datetime

    from chalicelib.domain.audit import Actor
    from chalicelib.domain.model import Mode
    from chalicelib.services.kit import Kit

AUDIENCE = "railyard-api"
_ALGORITHM = "HS256"
_FREE_TRIES = 5  # wrong passwords for an email from one address, before anybody has to wait
_FREE_FOR_ALL = 200  # and from all addresses together
_KEEP_TRIES = 86_400.0  # seconds after which wrong passwords are forgotten
_CLAIMS = ("iss", "aud", "sub", "mer", "sid", "iat", "exp")


@dataclass(frozen=True, slots=True)
class Tokens:
    """What somebody who signed in is given; ``expires_in`` seconds for the access token."""

    user: User
    access: str = field(repr=False)
    refresh: str = field(repr=False)
    expires_in: int


@dataclass(frozen=True, slots=True)
class Cookie:
    """A session for pages: the cookie's value, and the token that a page sends along to show that it is ours."""

    user: User
    value: str = field(repr=False)
    csrf: str = field(repr=False)
    expires_at: datetime
    session_id: str


# -- signing in ------------------------------------------------------------------------------------


def log_in(kit: Kit, email: str, password: str, *, by: Actor) -> Tokens:
    """Tokens for somebody who knows their password; raises Unauthenticated, RateLimited or Contended."""
    user = _verified(kit, email, password, by.ip or "", by)
    return begin(kit, user)


def begin(kit: Kit, user: User) -> Tokens:
    """A new session, for the API."""
    session, secret = _new_session(kit, user, "token", kit.settings.session_ttl)
    kit.people.add_session(session)
    return _tokens(kit, user, session, secret)


def open_page(kit: Kit, email: str, password: str, *, by: Actor, presented: str | None) -> Cookie:
    """A new session, for pages; whatever session the browser ``presented`` before is ended, never taken over."""
    user = _verified(kit, email, password, by.ip or "", by)
    if presented is not None:
        close_page(kit, presented, by=by)
    session, secret = _new_session(kit, user, "cookie", kit.settings.cookie_ttl)
    kit.people.add_session(session)
    return Cookie(user, f"{session.id}.{secret}", csrf_of(kit, session.id), session.expires_at, session.id)


def check_password(kit: Kit, email: str, password: str, address: str) -> User:
    """Whoever has that email and password; raises Unauthenticated, RateLimited or Contended.

    The try is counted before the password is looked at, by a condition on the tries before: however many ask at once,
    one is let through at a time. It is counted for the address it comes from, so that nobody locks out somebody else,
    and for the email as a whole, with a lot more patience. The answers and the work are the same whether anybody has
    the email.
    """
    now = kit.now()
    counters = ((f"{email} from {address}", _FREE_TRIES), (email, _FREE_FOR_ALL))
    before = [kit.people.tries(about, now) for about, _ in counters]
    wait = max(tries.next_at for tries in before) - now.timestamp()
    if wait > 0:
        raise RateLimited("wrong passwords for this email", wait)
    for (about, free), tries in zip(counters, before, strict=True):
        counted = Tries(tries.count + 1, now.timestamp() + backoff(tries.count + 1, free), tries.version + 1)
        if not kit.people.note_try(about, counted, now, _KEEP_TRIES):
            raise Contended("Signing in with this email")
    user = kit.people.user_of_email(email)
    cost = kit.settings.password_cost
    known = user.password if user is not None and user.status == "active" else None
    if not passwords.matches(known, password, cost) or user is None or known is None:
        metric("SignInRefused")
        raise Unauthenticated("wrong_credentials", "The email or the password is wrong.")
    for (about, _), tries in zip(counters, before, strict=True):
        kit.people.note_try(about, Tries(version=tries.version + 2), now, _KEEP_TRIES)
    return user


def forgive(kit: Kit, email: str) -> None:
    """Forget the wrong passwords for an email: it has a new one. Those from one address are forgotten in a day."""
    tries = kit.people.tries(email, kit.now())
    if tries.count:
        kit.people.note_try(email, Tries(version=tries.version + 1), kit.now(), _KEEP_TRIES)


def _verified(kit: Kit, email: str, password: str, address: str, by: Actor) -> User:
    """As ``check_password``, and somebody comes in: it is written down, and a weak hash is made stronger."""
    user, now, cost = check_password(kit, email, password, address), kit.now(), kit.settings.password_cost
    known = user.password or ""
    changes = {"password": passwords.hashed(password, cost)} if passwords.is_weaker(known, cost) else {}
    after = next_version(user, now, **changes)
    line = audit.entry(user.merchant_id, "user.signed_in", user.id, audit.acting(user.id, by), now)
    try:
        kit.people.change(after, line)
    except Stale as stale:
        raise Contended("Signing in with this email") from stale
    return after


def _new_session(kit: Kit, user: User, kind: Literal["token", "cookie"], seconds: float) -> tuple[Session, str]:
    now = kit.now()
    session_id = ids.new_id("ses", now)
    secret = _new_secret(kit, session_id)
    session = Session(
        id=session_id,
        kind=kind,
        merchant_id=user.merchant_id,
        user_id=user.id,
        created_at=user.updated_at,  # of what was signed in with: a password that was set since ends it
        expires_at=now + timedelta(seconds=seconds),
        secret=hash_of(secret),
    )
    return session, secret


def _new_secret(kit: Kit, session_id: str) -> str:
    """Random, and signed, so that one that was in force before can be told from one that never was."""
    nonce = secrets.token_urlsafe(32)
    return f"{nonce}.{_signature(kit, session_id, nonce)}"


def _signature(kit: Kit, session_id: str, nonce: str) -> str:
    key = kit.people.secret("session secrets")
    return hmac.new(key, f"{session_id}.{nonce}".encode(), hashlib.sha256).hexdigest()


def _was_ours(kit: Kit, session_id: str, secret: str) -> bool:
    nonce, _, signature = secret.partition(".")
    return signature.isascii() and hmac.compare_digest(signature, _signature(kit, session_id, nonce))


def hash_of(secret: str) -> str:
    """What is stored of a random secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


# -- tokens ----------------------------------------------------------------------------------------


def _issuer(kit: Kit) -> str:
    return kit.settings.prefix  # two stages never take each other's tokens, even if they shared a key


def _tokens(kit: Kit, user: User, session: Session, secret: str) -> Tokens:
    import jwt  # noqa: PLC0415 - few requests need it

    now = int(kit.now().timestamp())
    seconds = int(kit.settings.access_ttl)
    claims = {
        "iss": _issuer(kit),
        "aud": AUDIENCE,
        "sub": user.id,
        "mer": user.merchant_id,
        "sid": session.id,
        "iat": now,
        "exp": min(now + seconds, int(session.expires_at.timestamp())),
    }
    access = jwt.encode(claims, kit.people.secret("access tokens"), algorithm=_ALGORITHM)
    return Tokens(user, access, f"{session.id}.{secret}", claims["exp"] - now)  # type: ignore[operator]  # both numbers


def caller_of_token(kit: Kit, token: str, mode: Mode) -> Caller:
    """Who asks with an access token; raises Unauthenticated.

    The one algorithm is ours and not the token's to choose; issuer, audience and every claim must be there. Times are
    compared with our clock.
    """
    import jwt  # noqa: PLC0415 - few requests need it

    try:
        claims: dict[str, Any] = jwt.decode(
            token,
            kit.people.secret("access tokens"),
            algorithms=[_ALGORITHM],
            audience=AUDIENCE,
            issuer=_issuer(kit),
            options={"require": list(_CLAIMS), "verify_exp": False, "verify_iat": False, "verify_nbf": False},
        )
    except (jwt.InvalidTokenError, ValueError) as wrong:
        raise Unauthenticated("unauthorized", "The access token is not one of ours.") from wrong
    expires = claims["exp"]
    if not isinstance(expires, int) or expires <= kit.now().timestamp():
        raise Unauthenticated("token_expired", "The access token has expired. Refresh it.")
    session = kit.people.session(str(claims["sid"]), kit.now())
    if session is None or session.kind != "token" or session.user_id != claims["sub"]:
        raise _over()
    return _caller(kit, session, mode)


def as_now(kit: Kit, caller: Caller) -> Caller:
    """The caller as they are now, past what is remembered: whoever changes something must still be who they were.

    Raises Unauthenticated.
    """
    session = kit.people.session_now(caller.session_id or "")
    user = kit.people.user_now(caller.tenant.merchant_id, caller.id)
    if session is None or session.expires_at <= kit.now() or not _holds(session, user) or user is None:
        raise _over()
    return replace(caller, role=user.role, scopes=ROLE_SCOPES[user.role])


def _caller(kit: Kit, session: Session, mode: Mode) -> Caller:
    user = kit.people.user(session.merchant_id, session.user_id)
    if user is None or not _holds(session, user):
        raise _over()
    return Caller(
        user.id, "user", Tenant(user.merchant_id, mode), ROLE_SCOPES[user.role], role=user.role, session_id=session.id
    )


def _holds(session: Session, user: User | None) -> bool:
    if user is None or user.status != "active":
        return False
    return user.signed_out_at is None or session.created_at >= user.signed_out_at


def _over() -> Unauthenticated:
    return Unauthenticated("session_over", "The session is over. Sign in again.")


def refresh(kit: Kit, token: str, *, by: Actor) -> Tokens:
    """New tokens for a refresh token, which is used up by that; raises Unauthenticated or Contended."""
    session_id, _, secret = token.partition(".")
    now = kit.now()
    session = kit.people.session_now(session_id)
    if session is None or session.kind != "token" or session.expires_at <= now:
        raise _over()
    if not hmac.compare_digest(hash_of(secret), session.secret):
        if _was_ours(kit, session.id, secret):  # used before: one of the two who have it has stolen it
            _end(kit, session, "user.refresh_token_reused", by)
            logger.warning(
                "%s: a refresh token was used twice; its session is ended", session.user_id, user_id=session.user_id
            )
            metric("RefreshTokenReused")
        raise _over()
    user = kit.people.user_now(session.merchant_id, session.user_id)
    if not _holds(session, user) or user is None:
        raise _over()
    fresh = _new_secret(kit, session.id)
    if not kit.people.rotate(session, hash_of(fresh), now):
        raise Contended("This session")
    return _tokens(kit, user, session, fresh)


def log_out(kit: Kit, session_id: str, *, by: Actor) -> None:
    """End a session: at once here, within a minute elsewhere."""
    session = kit.people.session_now(session_id)
    if session is not None:
        _end(kit, session, "user.signed_out", by)


def _end(kit: Kit, session: Session, action: str, by: Actor) -> None:
    kit.people.end(session, audit.entry(session.merchant_id, action, session.user_id, by, kit.now()))


# -- cookies ---------------------------------------------------------------------------------------


def caller_of_cookie(kit: Kit, value: str, mode: Mode) -> Caller:
    """Who asks with a page's cookie; raises Unauthenticated."""
    session_id, _, secret = value.partition(".")
    session = kit.people.session(session_id, kit.now())
    if session is None or session.kind != "cookie" or not hmac.compare_digest(hash_of(secret), session.secret):
        raise _over()
    return _caller(kit, session, mode)


def opened(kit: Kit, caller: Caller) -> Cookie:
    """The session that a page's caller has, without its secret; raises Unauthenticated for a caller without a page."""
    session = kit.people.session_now(caller.session_id or "")
    user = kit.people.user_now(caller.tenant.merchant_id, caller.id)
    if session is None or session.kind != "cookie" or user is None:
        raise Unauthenticated("unauthorized", "This is for pages: there is no session's cookie.")
    return Cookie(user, "", csrf_of(kit, session.id), session.expires_at, session.id)


def close_page(kit: Kit, value: str, *, by: Actor) -> None:
    """End the session of a cookie, if it is one."""
    session_id, _, secret = value.partition(".")
    session = kit.people.session_now(session_id)
    if session is not None and hmac.compare_digest(hash_of(secret), session.secret):
        _end(kit, session, "user.signed_out", by)


def csrf_of(kit: Kit, session_id: str) -> str:
    """The token that a page of that session sends along: a keyed hash of the session, so that nothing is stored."""
    digest = hmac.new(kit.people.secret("csrf"), session_id.encode(), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")
