"""HMAC-SHA256 in hex, as Razorpay and the simulator sign. There is no default that passes."""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING

from chalicelib.providers.base import BadSignature

if TYPE_CHECKING:
    from collections.abc import Iterable


def sign(secret: str, message: bytes) -> str:
    """The lower-case hex HMAC-SHA256 of ``message``."""
    return hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()


def require(secrets: Iterable[str], message: bytes, signature: str | None) -> None:
    """Raise BadSignature unless ``signature`` is that of one of the secrets; an empty secret never is."""
    # Compared as bytes: compare_digest refuses non-ASCII text, and a header may hold anything.
    given = (signature or "").encode("utf-8", "surrogatepass")
    good = False
    for secret in secrets:
        if secret:
            good |= hmac.compare_digest(sign(secret, message).encode(), given)
    if not good:
        reason = "the signature does not match" if signature else "there is no signature"
        raise BadSignature(reason)


def digest(body: bytes) -> str:
    """A stand-in for an event id that is missing: the same body is the same event."""
    return f"sha256:{hashlib.sha256(body).hexdigest()}"
