"""Provider accounts to items and back: what is secret is sealed, and opened only in memory. Private to storage."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from chalicelib.domain.merchant import Account, OldSecret
from chalicelib.storage.items import AccountItem, AccountOwnerItem

if TYPE_CHECKING:
    from chalicelib.domain.model import Tenant
    from chalicelib.storage.vault import Vault


def sort_key(tenant: Tenant, account_id: str = "") -> str:
    """Sort key of an account; without an id what all of one mode begin with."""
    return f"account#{tenant.mode}#{account_id}"


def to_item(vault: Vault, tenant: Tenant, account: Account) -> AccountItem:
    """An account as stored; raises TooLong."""
    purpose = _purpose(account.id)
    previous = [[old.value, round(old.accepted_until.timestamp(), 3)] for old in account.previous]
    rotated_out = {old.value for old in account.previous}
    secret = {
        "credentials": dict(account.credentials),
        "webhook_secrets": [value for value in account.webhook_secrets if value not in rotated_out],
    }
    return AccountItem(
        tenant.merchant_id,
        sort_key(tenant, account.id),
        id=account.id,
        mode=tenant.mode,
        provider=account.provider,
        base_url=account.base_url,
        sealed=vault.seal(tenant, purpose, secret),
        sealed_previous=vault.seal(tenant, f"{purpose}/previous", {"webhook_secrets": previous}) if previous else None,
        name=account.name,
        disabled=None if account.enabled else True,
        created_at=account.created_at,
        updated_at=account.updated_at,
        rotated_at=account.rotated_at,
        version=account.version or None,
    )


def to_owner_item(tenant: Tenant, account_id: str) -> AccountOwnerItem:
    """Whose account an id is, as stored."""
    return AccountOwnerItem(f"account/{account_id}", "owner", merchant_id=tenant.merchant_id, mode=tenant.mode)


def from_item(vault: Vault, tenant: Tenant, item: AccountItem, now: datetime) -> Account:
    """The account in an item, with the webhook secrets that are accepted at ``now``."""
    opened = vault.open(tenant, _purpose(item.id), item.sealed)
    previous: list[OldSecret] = []
    if item.sealed_previous is not None:
        stored = vault.open(tenant, f"{_purpose(item.id)}/previous", item.sealed_previous)["webhook_secrets"]
        previous = [OldSecret(value, datetime.fromtimestamp(until, UTC)) for value, until in stored]
        previous = [old for old in previous if old.accepted_until > now]
    return Account(
        id=item.id,
        provider=item.provider,
        base_url=item.base_url,
        credentials=opened["credentials"],
        webhook_secrets=(*opened["webhook_secrets"], *(old.value for old in previous)),
        enabled=not item.disabled,
        name=item.name,
        created_at=item.created_at,
        updated_at=item.updated_at,
        rotated_at=item.rotated_at,
        previous=tuple(previous),
        version=int(item.version or 0),
    )


def _purpose(account_id: str) -> str:
    return f"account/{account_id}"
