"""Who is calling: ``Authorization: Bearer sk_…``, or HTTP Basic with the key as user name."""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING

from chalicelib.api.problems import Refused

if TYPE_CHECKING:
    from chalicelib.domain.merchant import ApiKey
    from chalicelib.storage.merchants import Merchants

_KEY = re.compile(r"sk_(?:test|live)_[!-~]{1,200}")
_HEADERS = {"WWW-Authenticate": 'Bearer realm="railyard"'}


def authenticate(merchants: Merchants, header: str | None) -> ApiKey:
    """The API key in an Authorization header; raises Refused (401)."""
    if not header:
        raise Refused(401, "unauthorized", "Send your secret key: Authorization: Bearer sk_…", headers=_HEADERS)
    secret = secret_in(header)
    key = merchants.authenticate(secret) if secret else None
    if key is None:
        raise Refused(401, "unauthorized", "The API key is wrong or revoked.", headers=_HEADERS)
    return key


def secret_in(header: str) -> str | None:
    """The secret key in an Authorization header, or None if there is nothing of that form."""
    scheme, _, credentials = header.strip().partition(" ")
    secret = credentials.strip()
    if scheme.lower() == "basic":
        try:
            secret = base64.b64decode(secret, validate=True).decode("ascii").partition(":")[0]
        except (binascii.Error, ValueError):
            return None
    elif scheme.lower() != "bearer":
        return None
    return secret if _KEY.fullmatch(secret) else None
