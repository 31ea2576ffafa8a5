"""What customers entrust to a merchant, sealed before it is stored or queued: AES-256-GCM.

The merchant's look-up key, which KMS has opened with the settings, is the root; see docs/decisions/0022. Each
object has a key of its own, so that no key meets as many random nonces as make two of them alike (2 to the 32nd
power, NIST SP 800-38D). What was sealed opens only for the same tenant, purpose and object.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from chalicelib.domain.model import Tenant

    Ciphers = Callable[[Tenant], "Cipher"]  # each merchant's, in each mode

_LABEL = b"railyard/sealed/1"
_VERSION = b"\x01"  # neither JSON nor zlib begins with it: rows of the releases before it are told by that
_NONCE = 12  # bytes
_SHORTEST_KEY = 16


class NotOpened(Exception):
    """Sealed for somebody or something else, with another key, or damaged. Says no more than that."""


class Cipher:
    """Seals and opens one merchant's bytes in one mode; costs no call."""

    def __init__(self, tenant: Tenant, root: bytes, *, random: Callable[[int], bytes] = os.urandom) -> None:
        """``root`` is the merchant's look-up key; raises ValueError for one that is too short to keep a secret.

        ``random`` gives so many bytes that nobody has had before.
        """
        if len(root) < _SHORTEST_KEY:
            msg = f"merchant {tenant.merchant_id} has no {tenant.mode} key to seal with"
            raise ValueError(msg)
        self._tenant = tenant
        self._root = root
        self._random = random

    def seal(self, purpose: str, about: str, plain: bytes) -> bytes:
        """Encrypt ``plain``, which is of the object ``about``: 29 bytes longer."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - cold starts without it

        bound = self._bound(purpose, about)
        nonce = self._random(_NONCE)
        return _VERSION + nonce + AESGCM(self._key(bound)).encrypt(nonce, plain, bound)

    def open(self, purpose: str, about: str, sealed: bytes) -> bytes:
        """Decrypt what ``seal`` made; raises NotOpened."""
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415

        bound = self._bound(purpose, about)
        nonce, text = sealed[1 : 1 + _NONCE], sealed[1 + _NONCE :]
        if is_sealed(sealed):
            with suppress(InvalidTag, ValueError):  # ValueError: cut off within the nonce
                return AESGCM(self._key(bound)).decrypt(nonce, text, bound)
        msg = f"{purpose} {about}"
        raise NotOpened(msg)

    def _bound(self, purpose: str, about: str) -> bytes:
        """What the bytes belong to. No part but the last can hold the separator."""
        return "\0".join((*self._tenant, purpose, about)).encode()

    def _key(self, bound: bytes) -> bytes:
        """HKDF-Expand (RFC 5869) of one block; the root is random already, so there is nothing to extract."""
        return hmac.new(self._root, _LABEL + b"\0" + bound + b"\x01", hashlib.sha256).digest()


def is_sealed(stored: bytes) -> bool:
    """Whether these are bytes that ``seal`` made."""
    return stored[:1] == _VERSION
