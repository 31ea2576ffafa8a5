"""Secrets at rest: sealed by KMS, bound to whom they belong to, opened only in memory."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chalicelib.domain.model import Tenant


MAX_SEALED = 4096  # bytes; KMS's limit for direct encryption


class TooLong(Exception):
    """More than KMS encrypts at once."""


class Vault:
    """Seals and opens small JSON values (at most 4 KB)."""

    def __init__(self, kms: Any, key_id: str) -> None:  # noqa: ANN401 - a boto3 KMS client
        """``key_id`` names the KMS key, by id, ARN or alias."""
        self._kms = kms
        self._key_id = key_id

    def seal(self, tenant: Tenant, purpose: str, value: Mapping[str, object]) -> bytes:
        """Encrypt ``value``; it opens only for the same tenant and purpose. Raises TooLong."""
        plain = json.dumps(value).encode()
        if len(plain) > MAX_SEALED:
            raise TooLong(f"{len(plain)} bytes")
        sealed = self._kms.encrypt(KeyId=self._key_id, Plaintext=plain, EncryptionContext=_context(tenant, purpose))
        return bytes(sealed["CiphertextBlob"])

    def open(self, tenant: Tenant, purpose: str, sealed: bytes) -> dict[str, Any]:
        """Decrypt what ``seal`` made."""
        opened = self._kms.decrypt(
            KeyId=self._key_id, CiphertextBlob=sealed, EncryptionContext=_context(tenant, purpose)
        )
        value: dict[str, Any] = json.loads(opened["Plaintext"])
        return value


def _context(tenant: Tenant, purpose: str) -> dict[str, str]:
    return {"merchant": tenant.merchant_id, "mode": tenant.mode, "purpose": purpose}
