"""Makes the demo merchant: settings, an account at each of the sandbox's providers, an API key.

Run as a process of its own, because the storage layer reads AWS's address from the environment:
JSON on stdin (see ``Wish``), JSON on stdout (see ``Seeded``). Running it again keeps ids and secrets.
"""

from __future__ import annotations

import base64
import json
import secrets
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, TypedDict

import boto3

from chalicelib.domain import passwords
from chalicelib.domain.audit import SYSTEM, entry
from chalicelib.domain.ids import new_id
from chalicelib.domain.merchant import Account, Merchant
from chalicelib.domain.model import Tenant
from chalicelib.domain.people import User
from chalicelib.domain.risk import RiskRules
from chalicelib.domain.routing_rules import RoutingSettings, Rule, When
from chalicelib.domain.velocity import Limit
from chalicelib.providers import registry
from chalicelib.providers.http import UrllibHttpClient
from chalicelib.storage.cache import Cache
from chalicelib.storage.keys import Keys, new_key
from chalicelib.storage.merchants import Merchants
from chalicelib.storage.people import People, next_version
from chalicelib.storage.rule_books import RISK, ROUTING
from chalicelib.storage.vault import Vault
from chalicelib.wiring import now
from infra.sandbox import places
from infra.sandbox.config import load
from infra.settings import HOST

if TYPE_CHECKING:
    from collections.abc import Sequence

    from infra.sandbox.config import ProviderSettings

# Here everybody pays with the same few test cards, and most as Asha: limits for a person would stop the show.
_LIMITS = tuple(
    Limit(dimension, 60, "count", 200, 50, kind=kind)
    for dimension in ("card", "customer", "ip", "device")
    for kind in ("payment", "decline")
)
OWNER = "owner@demo.example"
_PASSWORD_COST = 14  # as config's local profile
_PREMIUM_WHEN = When(currencies=frozenset({"INR"}), above=10_000_00)
# By the bank's names of providers. The others take what names them: metadata {"provider": "stripe"}.
_PREMIUM = ("razorpay", "simulator", "simulator_b")
_STANDARD = ("simulator", "razorpay", "simulator_b")


class SeededAccount(TypedDict):
    """A provider account; ``sandbox_id`` is the provider's id in the sandbox bank."""

    sandbox_id: str
    provider: str
    account: str
    webhook_secret: str


class Seeded(TypedDict):
    """The demo merchant, with the secrets a person needs to play it."""

    merchant_id: str
    secret_key: str
    webhook_secret: str
    owner_email: str
    owner_password: str
    accounts: list[SeededAccount]


class Wish(TypedDict):
    """What to make; ``before`` is what an earlier run made."""

    prefix: str
    credentials_key_id: str
    webhook_url: str
    sandbox_port: int
    before: Seeded | None


def _new_webhook_secret() -> str:
    """Standard Webhooks 1.0.0: ``whsec_`` and 24 to 64 bytes in base64."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def _account(settings: ProviderSettings, base_url: str) -> Account:
    adapter = registry.build(settings.personality, UrllibHttpClient(1, 1))
    made = now()
    return Account(
        id=f"acc_{settings.id}",
        provider=settings.personality,
        base_url=base_url,
        credentials={**settings.credentials, adapter.connection.webhook_secret: settings.webhook_secret},
        webhook_secrets=(settings.webhook_secret,),
        name=f"Sandbox {settings.id}",
        created_at=made,
        updated_at=made,
    )


def _rules(names: Sequence[str]) -> tuple[Rule, ...]:
    """A payment goes to the provider that it names, by its size otherwise."""
    return (
        *(Rule(f"asked for {name}", (f"acc_{name}",), When(metadata={"provider": name})) for name in names),
        Rule("premium", tuple(f"acc_{name}" for name in _PREMIUM), _PREMIUM_WHEN),
        Rule("standard", tuple(f"acc_{name}" for name in _STANDARD)),
    )


def seed(wish: Wish) -> Seeded:
    """Write the merchant and return it."""
    vault = Vault(boto3.client("kms"), wish["credentials_key_id"])
    merchants = Merchants(wish["prefix"], vault, now, ttl=0)
    keys = Keys(wish["prefix"], Cache(now, 0))
    before = wish["before"]
    if before is not None and keys.authenticate(before["secret_key"], now()) is None:
        before = None  # of a stack that is no more
    providers = load()
    # Whose the accounts are already: of a run that was interrupted before it could tell.
    owner = merchants.owner_of_account(f"acc_{providers[0].id}")
    tenant = owner or Tenant(new_id("mer", now()), "test")
    webhook_secret = before["webhook_secret"] if before else _new_webhook_secret()
    urls = places.base_urls(HOST, wish["sandbox_port"])
    accounts = [_account(settings, urls[settings.id]) for settings in providers]
    merchant = Merchant(
        tenant=tenant,
        name="Demo merchant",
        accounts=accounts,
        routing=RoutingSettings(_rules([settings.id for settings in providers])),
        webhook_url=wish["webhook_url"],
        webhook_secret=webhook_secret,
        risk=RiskRules(limits=_LIMITS),
    )
    if owner:  # the key that finds payments by customer must stay, and rules that somebody is trying out
        merchant = replace(merchant, lookup_key=merchants.get(tenant).lookup_key)
        risk, routing = merchants.rules(RISK, tenant), merchants.rules(ROUTING, tenant)
        merchant = replace(merchant, risk=risk.rules) if risk.updated_at else merchant
        merchant = replace(merchant, routing=routing.rules) if routing.updated_at else merchant
    merchants.save(merchant)
    secret_key = before["secret_key"] if before else _new_secret_key(keys, tenant)
    return {
        "merchant_id": tenant.merchant_id,
        "secret_key": secret_key,
        "webhook_secret": webhook_secret,
        "owner_email": OWNER,
        "owner_password": _owner_password(wish, vault, tenant, before),
        "accounts": [
            {
                "sandbox_id": settings.id,
                "provider": settings.personality,
                "account": f"acc_{settings.id}",
                "webhook_secret": settings.webhook_secret,
            }
            for settings in providers
        ],
    }


def _owner_password(wish: Wish, vault: Vault, tenant: Tenant, before: Seeded | None) -> str:
    """The password of the merchant's owner: what it was, or a new one."""
    if before is not None and before.get("owner_password"):
        return before["owner_password"]
    people, made = People(wish["prefix"], vault, Cache(now, 0)), now()
    password = secrets.token_urlsafe(18)
    hashed = passwords.hashed(password, _PASSWORD_COST)
    line = entry(tenant.merchant_id, "user.invited", tenant.merchant_id, SYSTEM, made, after={"role": "owner"})
    known = people.user_of_email(OWNER)
    if known is not None and known.merchant_id == tenant.merchant_id:  # of a run that was interrupted
        people.change(next_version(known, made, password=hashed), line)
    else:
        owner = User(
            tenant.merchant_id, new_id("usr", made), OWNER, "owner", "active", made, made, "Demo owner", hashed
        )
        people.add(owner, line)
    return password


def _new_secret_key(keys: Keys, tenant: Tenant) -> str:
    key, secret = new_key(tenant, "demo", "secret", None, now())
    keys.add([key], audit=[entry(tenant.merchant_id, "api_key.created", key.id, SYSTEM, now(), mode=tenant.mode)])
    return secret


if __name__ == "__main__":
    json.dump(seed(json.load(sys.stdin)), sys.stdout)
