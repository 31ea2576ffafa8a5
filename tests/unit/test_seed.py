"""The demo merchant: an account at every provider of the bank, and rules that lead to each of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from chalicelib import config
from chalicelib.domain.model import Tenant
from chalicelib.domain.routing_rules import Asked
from chalicelib.providers import registry
from chalicelib.storage.merchants import Merchants
from chalicelib.storage.vault import Vault
from chalicelib.wiring import now
from infra import deploy
from infra.sandbox import places
from infra.sandbox.config import DEFAULT_ROOT_PORT, load
from infra.seed import Seeded, Wish, seed
from tests.support import aws
from tests.support.storage import Tables, moto_tables

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chalicelib.domain.merchant import Merchant


@pytest.fixture(scope="module")
def tables() -> Iterator[Tables]:
    with moto_tables() as made:
        aws.create_key()
        yield made


def seeded(before: Seeded | None = None) -> tuple[Seeded, Merchant]:
    wish: Wish = {
        "prefix": aws.PREFIX, "credentials_key_id": aws.KEY_ALIAS, "webhook_url": "http://127.0.0.1:8090/webhooks",
        "sandbox_port": 9100, "before": before,
    }  # fmt: skip
    made = seed(wish)
    merchants = Merchants(aws.PREFIX, Vault(boto3.client("kms"), aws.KEY_ALIAS), now, 0)
    return made, merchants.get(Tenant(made["merchant_id"], "test"))


@pytest.mark.usefixtures("tables")
def test_every_provider_of_the_bank_has_an_account_that_is_complete() -> None:
    made, merchant = seeded()
    bank = {settings.id: settings for settings in load()}
    assert {account.id for account in merchant.accounts} == {f"acc_{name}" for name in bank}
    assert {row["account"] for row in made["accounts"]} == {f"acc_{name}" for name in bank}
    for account in merchant.accounts:
        settings = bank[account.id.removeprefix("acc_")]
        connection = registry.build(account.provider, http=None).connection  # type: ignore[arg-type]
        assert {one.name for one in connection.credentials if one.required} <= set(account.credentials), account.id
        assert account.webhook_secrets == (account.credentials[connection.webhook_secret],)
        assert account.base_url.startswith(f"http://127.0.0.1:{settings.port - DEFAULT_ROOT_PORT + 9100}")


@pytest.mark.usefixtures("tables")
def test_a_payment_goes_where_it_asks_to_and_by_its_size_otherwise() -> None:
    _, merchant = seeded()

    def order(amount: int, **metadata: str) -> Any:
        asked = Asked(method="upi", currency="INR", amount=amount, metadata=metadata)
        rule = merchant.routing.rule_for(asked)
        return [account.removeprefix("acc_") for account in rule.accounts]

    for settings in load():
        assert order(10_000_01, provider=settings.id) == [settings.id]
    assert order(10_000_01) == ["razorpay", "simulator", "simulator_b"]
    assert order(10_000_00, provider="paypal") == ["simulator", "razorpay", "simulator_b"]


@pytest.mark.usefixtures("tables")
def test_a_second_run_keeps_ids_and_secrets() -> None:
    made, merchant = seeded()
    again, same = seeded(made)
    assert again == made
    assert same.lookup_key == merchant.lookup_key


@pytest.mark.usefixtures("tables")
def test_a_run_that_was_interrupted_before_it_could_tell_is_taken_up() -> None:
    lost, before = seeded()
    made, merchant = seeded()
    assert made["merchant_id"] == lost["merchant_id"]
    assert merchant.lookup_key == before.lookup_key
    assert made["secret_key"] != lost["secret_key"]  # nobody can read the old one any more


def test_new_accounts_of_a_local_stage_lead_to_its_bank() -> None:
    parameters = deploy._parameters(deploy.target_for("local", "http://127.0.0.1:1"), None, None)
    text = parameters["ProviderBaseUrls"]
    urls = json.loads(text)
    assert set(urls) == set(registry.NAMES)
    assert urls == places.base_urls_by_adapter("127.0.0.1", DEFAULT_ROOT_PORT)
    assert config.load(aws.ENVIRONMENT | {"PROVIDER_BASE_URLS": text}).provider_base_urls == urls
    assert "ProviderBaseUrls" not in deploy._parameters(deploy.target_for("dev", "http://127.0.0.1:1"), None, "x")
