"""Makes the demo merchant: settings, an account at each of the sandbox's providers, an API key.

Run as a process of its own, because the storage layer reads AWS's address from the environment:
JSON on stdin (see ``Wish``), JSON on stdout (see ``Seeded``). Running it again keeps ids and secrets.
"""

from __future__ import annotations

import base64
import json
import secrets
import sys
import time
from dataclasses import replace
from typing import TypedDict

import boto3

from chalicelib.domain.ids import new_id
from chalicelib.domain.merchant import Account, Merchant
from chalicelib.domain.model import Tenant
from chalicelib.domain.routing import Rule
from chalicelib.storage.merchants import Merchants
from chalicelib.storage.vault import Vault
from chalicelib.wiring import now
from infra.sandbox.bank import Bank
from infra.sandbox.config import load
from infra.sandbox.personalities import personality
from infra.sandbox.server import SandboxServer
from infra.settings import HOST

_PREMIUM_ABOVE = 10_000_00  # paise


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


def seed(wish: Wish) -> Seeded:
    """Write the merchant and return it."""
    merchants = Merchants(wish["prefix"], Vault(boto3.client("kms"), wish["credentials_key_id"]), now, ttl=0)
    before = wish["before"]
    if before is not None and merchants.authenticate(before["secret_key"]) is None:
        before = None  # of a stack that is no more
    tenant = Tenant(before["merchant_id"] if before else new_id("mer", now()), "test")
    webhook_secret = before["webhook_secret"] if before else _new_webhook_secret()
    bank = Bank(load(), time.time, personality, "seed")
    places = SandboxServer(bank, HOST, wish["sandbox_port"])
    accounts = [
        Account(
            id=f"acc_{name}",
            provider=settings.personality,
            base_url=places.url(name),
            credentials=dict(settings.credentials),
            webhook_secrets=(settings.webhook_secret,),
        )
        for name, settings in bank.settings.items()
    ]
    simulators = [account.id for account in accounts if account.provider == "simulator"]
    others = [account.id for account in accounts if account.provider != "simulator"]
    merchant = Merchant(
        tenant=tenant,
        name="Demo merchant",
        accounts=accounts,
        rules=(
            Rule("premium", (*others, *simulators), min_amount=_PREMIUM_ABOVE),
            Rule("standard", (*simulators[:1], *others, *simulators[1:])),
        ),
        webhook_url=wish["webhook_url"],
        webhook_secret=webhook_secret,
    )
    if before:  # the key that finds payments by customer must stay
        merchant = replace(merchant, lookup_key=merchants.get(tenant).lookup_key)
    merchants.save(merchant)
    secret_key = before["secret_key"] if before else merchants.create_key(tenant, "demo")
    return {
        "merchant_id": tenant.merchant_id,
        "secret_key": secret_key,
        "webhook_secret": webhook_secret,
        "accounts": [
            {
                "sandbox_id": name,
                "provider": settings.personality,
                "account": f"acc_{name}",
                "webhook_secret": settings.webhook_secret,
            }
            for name, settings in bank.settings.items()
        ],
    }


if __name__ == "__main__":
    json.dump(seed(json.load(sys.stdin)), sys.stdout)
