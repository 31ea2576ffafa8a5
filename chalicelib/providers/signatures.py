"""Checking signatures. There is no default that passes: no secret, no signature, no."""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING

from chalicelib.providers.base import BadSignature

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def sign(secret: str, message: bytes) -> str:
    """The lower-case hex HMAC-SHA256 of ``message``."""
    return hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()


def require(
    secrets: Iterable[str],
    message: bytes,
    *signatures: str | None,
    make: Callable[[str, bytes], str] = sign,
) -> None:
    """Raise BadSignature unless one of ``signatures`` is ``make(secret, message)`` of one of the secrets.

    An empty secret never signs, and an empty signature never matches.
    """
    # Compared as bytes: compare_digest refuses non-ASCII text, and a header may hold anything.
    given = [signature.encode("utf-8", "surrogatepass") for signature in signatures if signature]
    good = False
    for secret in secrets:
        if secret:
            wanted = make(secret, message).encode()
            for candidate in given:
                good |= hmac.compare_digest(wanted, candidate)
    if not good:
        reason = "the signature does not match" if given else "there is no signature"
        raise BadSignature(reason)


def digest(body: bytes) -> str:
    """A stand-in for an event id that is missing: the same body is the same event."""
    return f"sha256:{hashlib.sha256(body).hexdigest()}"
