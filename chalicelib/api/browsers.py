"""What browsers need of answers: security headers, which pages may ask (CORS), and not to be told the same twice."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from chalice.app import Response

from chalicelib.api.auth import origin_of
from chalicelib.domain.access import PUBLISHABLE_SCOPES
from chalicelib.domain.errors import Forbidden

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from chalicelib.domain.access import Caller
    from chalicelib.services.kit import Kit

# On every answer; API Gateway's own have them from infra/resources.yaml, and a test compares the two.
SECURITY: Mapping[str, str] = {
    "Strict-Transport-Security": "max-age=63072000; includeSubDomains",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=()",
}

_EXPOSED = "Railyard-Request-Id, Retry-After, RateLimit, RateLimit-Policy"
_UNKEPT = ("/v1/auth/", "/v1/users")
_MAX_ORIGIN = 300


def _origin(headers: Mapping[str, str]) -> str | None:
    origin = headers.get("origin")
    return origin if origin and len(origin) <= _MAX_ORIGIN and origin.isascii() else None


def _is_open(scope: str | None) -> bool:
    """Whether web pages of others may ask for this: what a publishable key can do, and nothing else."""
    return scope in PUBLISHABLE_SCOPES


def shared(kit: Kit, headers: Mapping[str, str], scope: str | None) -> dict[str, str]:
    """The headers that let a merchant's page read an answer, if some merchant has registered its origin.

    Which merchant's key it may use is ``check_origin``'s business; a page must be able to read that it may not.
    """
    if not _is_open(scope):
        return {}
    origin = _origin(headers)
    if origin is None or not kit.people.knows_origin(origin):
        return {"Vary": "Origin"}
    return {"Access-Control-Allow-Origin": origin, "Access-Control-Expose-Headers": _EXPOSED, "Vary": "Origin"}


def preflight(
    kit: Kit, headers: Mapping[str, str], methods: Sequence[str], scopes: Sequence[str | None]
) -> dict[str, str]:
    """What a browser asks before it lets a page of another origin ask."""
    allowed = shared(kit, headers, next((scope for scope in scopes if _is_open(scope)), None))
    if "Access-Control-Allow-Origin" not in allowed:
        return allowed
    del allowed["Access-Control-Expose-Headers"]
    return allowed | {
        "Access-Control-Allow-Methods": ", ".join(methods),
        "Access-Control-Allow-Headers": "Authorization, Content-Type, Idempotency-Key",
        "Access-Control-Max-Age": "600",
    }


def check_origin(kit: Kit, headers: Mapping[str, str], caller: Caller) -> None:
    """Raise Forbidden for a publishable key on a page whose origin its merchant has not registered."""
    origin = _origin(headers)
    if caller.kind != "publishable_key" or origin is None or origin == origin_of(kit.settings.public_base_url):
        return
    if origin not in kit.people.profile(caller.tenant.merchant_id).origins:
        raise Forbidden("origin_not_allowed", "This merchant's keys may not be used from pages of this origin.")


def conditional(response: Response, method: str, path: str, headers: Mapping[str, str]) -> Response:
    """An answer to a read with its entity tag (RFC 9110, 8.8.3), or 304 if whoever asks has it already.

    What tells who somebody is, or lets a page change something, stays in no cache at all.
    """
    if method not in ("GET", "HEAD") or response.status_code != 200 or path.startswith(_UNKEPT):  # noqa: PLR2004
        return response
    body = response.body if isinstance(response.body, bytes) else str(response.body).encode()
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    fields = dict(response.headers) | {"ETag": tag}
    if fields.get("Cache-Control") == "no-store":
        fields["Cache-Control"] = "private, no-cache"  # kept by the one who asked, and never used without asking again
    known = [given.strip().removeprefix("W/") for given in headers.get("if-none-match", "").split(",")]
    if tag in known or "*" in known:
        kept = {name: value for name, value in fields.items() if name != "Content-Type"}
        return Response("", kept, 304)
    return Response(response.body, fields, response.status_code)
