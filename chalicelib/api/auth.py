"""Who is calling, and may they.

``Authorization: Bearer`` takes a secret key, a publishable key or an access token; HTTP Basic takes a key as user
name; a page brings its session's cookie, and with everything but a read the token that only our own pages know.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from chalicelib.api.problems import Refused
from chalicelib.domain.access import Rate
from chalicelib.domain.errors import Forbidden, RateLimited, Unauthenticated
from chalicelib.domain.origin import subscriber_of
from chalicelib.services import sessions
from chalicelib.storage.keys import FORM

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chalicelib.domain.access import Caller
    from chalicelib.domain.model import Mode
    from chalicelib.services.kit import Kit

COOKIE = "__Host-railyard"
CSRF = "X-CSRF-Token"
MODE = "Railyard-Mode"
SAFE_METHODS = frozenset({"GET", "HEAD"})
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="railyard"'}
_WRONG = Rate(0.5, 60)  # wrong credentials from one address, however they differ
_MAX_TOKEN = 2048  # characters; ours have some 400


def caller_of(kit: Kit, headers: Mapping[str, str], method: str, ip: str) -> Caller:
    """Who asks; raises Refused (401), Forbidden for a page's request that may not be one, and RateLimited.

    ``headers`` by lower-case names. Whoever keeps sending wrong credentials from one address waits.
    """
    try:
        return _caller(kit, headers, method)
    except Unauthenticated as wrong:
        if headers.get("authorization") or headers.get("cookie"):
            taken = kit.limits.take(f"wrong/{address_of(kit, ip)}", _WRONG)
            if not taken.is_given:
                raise RateLimited("wrong credentials from your address", taken.wait) from wrong
        raise Refused(401, wrong.code, wrong.detail, headers=_CHALLENGE) from wrong


def address_of(kit: Kit, ip: str) -> str:
    """What a caller's address is counted by: a keyed hash, of the /64 where it is an IPv6 one."""
    text = subscriber_of(ip) or "unknown"
    return hmac.new(kit.people.secret("addresses"), text.encode(), "sha256").hexdigest()[:32]


def _caller(kit: Kit, headers: Mapping[str, str], method: str) -> Caller:
    header = headers.get("authorization")
    if header:
        return _of_header(kit, header, headers)
    value = cookie_in(headers.get("cookie"))
    if value is None:
        raise Unauthenticated("unauthorized", "Send your secret key: Authorization: Bearer sk_…")
    caller = sessions.caller_of_cookie(kit, value, _mode(headers))
    if method not in SAFE_METHODS:
        check_page(kit, headers, caller)
    return caller


def _of_header(kit: Kit, header: str, headers: Mapping[str, str]) -> Caller:
    secret = secret_in(header)
    caller = None
    if secret is not None and FORM.fullmatch(secret):
        caller = kit.keys.authenticate(secret, kit.now())
    elif secret is not None and secret.count(".") == 2 and len(secret) <= _MAX_TOKEN:  # noqa: PLR2004 - a JWT's parts
        return sessions.caller_of_token(kit, secret, _mode(headers))
    if caller is None:
        raise Unauthenticated("unauthorized", "The API key is wrong or revoked.")
    return caller


def _mode(headers: Mapping[str, str]) -> Mode:
    """The world that a person looks at; a key has its own."""
    given = headers.get(MODE.lower(), "test")
    if given not in ("test", "live"):
        raise Refused(400, "invalid_request", f"{MODE} is test or live.")
    return given  # type: ignore[return-value]  # one of the two


def secret_in(header: str) -> str | None:
    """The credentials in an Authorization header, or None if it has none of a form that is taken."""
    scheme, _, credentials = header.strip().partition(" ")
    secret = credentials.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(secret, validate=True).decode("ascii").partition(":")[0]
        except (binascii.Error, ValueError):
            return None
    return secret if scheme.lower() == "bearer" and secret.isascii() else None


def cookie_in(header: str | None) -> str | None:
    """Our session's cookie in a Cookie header; None if there is none."""
    try:
        found = SimpleCookie(header or "").get(COOKIE)
    except CookieError:
        return None
    return None if found is None else found.value


# -- pages -----------------------------------------------------------------------------------------


def check_page(kit: Kit, headers: Mapping[str, str], caller: Caller) -> None:
    """Raise Forbidden unless a request with a cookie comes from a page of ours: a browser adds cookies by itself."""
    check_same_site(kit, headers)
    expected = sessions.csrf_of(kit, caller.session_id or "")
    given = headers.get(CSRF.lower(), "")
    if not hmac.compare_digest(expected.encode(), given.encode("utf-8", "surrogatepass")):
        raise Forbidden("csrf_token_wrong", f"Send the session's {CSRF} along.")


def check_same_site(kit: Kit, headers: Mapping[str, str]) -> None:
    """Raise Forbidden for a request that a browser says comes from another site."""
    origin = headers.get("origin")
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise Forbidden("cross_site_request", "This is for pages of this site.")
    if origin is not None and origin != origin_of(kit.settings.public_base_url):
        raise Forbidden("cross_site_request", "This is for pages of this site.")


def origin_of(url: str) -> str:
    """The origin of a URL, as browsers write it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


# -- what they may ---------------------------------------------------------------------------------


def as_now(kit: Kit, caller: Caller, scope: str) -> Caller:
    """A person who changes something, as they are now; raises Refused (401) or Forbidden if they may not any more."""
    try:
        current = sessions.as_now(kit, caller)
    except Unauthenticated as wrong:
        raise Refused(401, wrong.code, wrong.detail, headers=_CHALLENGE) from wrong
    check_scope(kit, current, scope)
    return current


def check_scope(kit: Kit, caller: Caller, scope: str) -> None:
    """Raise Forbidden if the caller does not have a scope, or its merchant is suspended."""
    if not caller.may(scope):
        raise Forbidden("forbidden", f"This needs the scope {scope}.")
    if not scope.startswith(("platform:", "profile:")) and kit.people.profile(caller.tenant.merchant_id).suspended:
        raise Forbidden("merchant_suspended", "This merchant is suspended. Talk to us.")
