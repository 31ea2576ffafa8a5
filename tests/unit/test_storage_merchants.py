"""Merchants' settings and keys: sealed at rest, bound to whom they belong to, cached for a bounded time."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import boto3
import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.domain.merchant import Account, Merchant, OldSecret
from chalicelib.domain.model import Tenant
from chalicelib.domain.risk import LIMITS, RiskRules
from chalicelib.domain.risk_lists import Lists
from chalicelib.domain.routing_rules import RoutingSettings, Rule, When
from chalicelib.storage.items import RiskItem, SettingsItem
from chalicelib.storage.merchants import Merchants
from chalicelib.storage.rule_books import RISK, ROUTING, Stored
from chalicelib.storage.sealing import NotOpened
from chalicelib.storage.store import Claim, Stale
from chalicelib.storage.vault import MAX_SEALED, TooLong, Vault
from tests.support import aws
from tests.support.access import make_entry, make_key
from tests.support.factories import NOW, OTHER, TENANT, later
from tests.support.storage import Tables, moto_tables

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

TTL = 60.0
SECRETS = ["rzp_secret_9f", "whsec_provider_old", "whsec_provider_new", "whsec_MfKQ9r8GKYqrTwjUPD8I", "k" * 32]
MERCHANT = Merchant(
    TENANT,
    "Asha's shop",
    (
        Account("acct_a", "razorpay", "https://api.example", {"key_id": "rzp_test_1", "key_secret": SECRETS[0]}, tuple(SECRETS[1:3])),
        Account("acct_b", "simulator", "https://sim.example", {"secret": SECRETS[0]}, ()),
    ),
    RoutingSettings((
        Rule("above", ("acct_a",), When(currencies=frozenset({"INR"}), above=10)),
        Rule("rest", ("acct_b", "acct_a"), When(methods=frozenset({"upi"}), currencies=frozenset({"INR"}), up_to=9)),
    )),
    RiskRules(max_amount={"INR": 5}, blocked_countries=frozenset({"KP", "IR"}), review_countries=frozenset({"NG"}), review_score=40),
    "https://merchant.example/hooks",
    SECRETS[3],
    SECRETS[4].encode(),
)  # fmt: skip


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture(scope="module")
def tables() -> Iterator[Tables]:
    with moto_tables() as made:
        aws.create_key()
        yield made


@pytest.fixture
def vault(tables: Tables) -> Vault:
    return Vault(boto3.client("kms"), aws.KEY_ALIAS)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def merchants(vault: Vault, clock: Clock) -> Merchants:
    return Merchants(aws.PREFIX, vault, clock, TTL)


def another(merchants: Merchants, vault: Vault, clock: Clock) -> Merchants:
    """Another execution environment."""
    return Merchants(aws.PREFIX, vault, clock, TTL)


# -- settings ----------------------------------------------------------------------------------------


def test_settings_come_back_as_they_were_saved(merchants: Merchants, vault: Vault, clock: Clock) -> None:
    merchants.save(MERCHANT)
    assert _comparable(another(merchants, vault, clock).get(TENANT)) == _comparable(MERCHANT)


def test_what_was_sealed_for_a_merchant_opens_after_the_settings_are_saved_anew(
    merchants: Merchants, vault: Vault, clock: Clock
) -> None:
    tenant = Tenant("mer_anew", "test")
    merchants.save(Merchant(tenant, "Shop", ()))
    sealed = merchants.cipher(tenant).seal("payment", "pay_1", b"a@example.com")
    clock.now += timedelta(seconds=1)
    merchants.save(Merchant(tenant, "Shop with another name", ()))  # a new key would be made, were there none
    merchants.save(replace(merchants.get(tenant), webhook_url="https://shop.example/hooks"))
    for environment in (merchants, another(merchants, vault, clock)):
        assert environment.cipher(tenant).open("payment", "pay_1", sealed) == b"a@example.com"
    with pytest.raises(ValueError, match="another test look-up key"):
        merchants.save(Merchant(tenant, "Shop", (), lookup_key=b"n" * 32))
    assert merchants.get(tenant).webhook_url == "https://shop.example/hooks"
    merchants.save(Merchant(Tenant("mer_anew", "live"), "Shop", ()))
    with pytest.raises(NotOpened):
        merchants.cipher(Tenant("mer_anew", "live")).open("payment", "pay_1", sealed)
    with pytest.raises(LookupError):
        merchants.cipher(Tenant("mer_nobody", "test"))


def _comparable(merchant: Merchant) -> Merchant:
    return merchant


@pytest.mark.parametrize(
    "rules",
    [RiskRules(), MERCHANT.risk, RiskRules(limits=(), block=Lists(bins=("411111",), networks=("10.0.0.0/8",))),
     RiskRules(limits=LIMITS[:2], time_zone="Europe/Berlin", max_amount={}, blocked_countries=frozenset())],
)  # fmt: skip
def test_risk_rules_come_back_whatever_they_replace(
    merchants: Merchants, vault: Vault, clock: Clock, rules: RiskRules
) -> None:
    tenant = Tenant("mer_rules", "test")
    merchants.save(replace(MERCHANT, tenant=tenant, accounts=(), risk=rules))
    assert another(merchants, vault, clock).get(tenant).risk == rules
    assert merchants.rules(RISK, tenant).rules == rules


def test_a_release_that_knows_five_fields_reads_what_it_knows(merchants: Merchants) -> None:
    tenant = Tenant("mer_older", "test")
    rules = replace(MERCHANT.risk, limits=(), scores={"first_seen": 5})
    merchants.save(replace(MERCHANT, tenant=tenant, accounts=(), risk=rules))
    (settings,) = SettingsItem.query(tenant.merchant_id)  # and it finds nothing beside it that it cannot read
    assert settings.risk == {
        "max_amount": {"INR": 5}, "blocked_countries": ["IR", "KP"], "review_countries": ["NG"], "review_score": 40,
    }  # fmt: skip


def test_rules_that_an_earlier_release_stored_count_until_there_are_newer_ones(
    merchants: Merchants, vault: Vault, clock: Clock
) -> None:
    tenant = Tenant("mer_earlier", "test")
    merchants.save(replace(MERCHANT, tenant=tenant, accounts=(), risk=RiskRules()))
    item = SettingsItem.get(tenant.merchant_id, "settings#test")
    item.risk = {
        "max_amount": {"INR": 7}, "blocked_countries": ["KP"], "review_countries": [], "review_score": 50,
        "block_score": 100,
    }  # fmt: skip
    item.save()
    earlier = RiskRules(max_amount={"INR": 7}, blocked_countries=frozenset({"KP"}))
    assert another(merchants, vault, clock).get(tenant).risk == earlier
    assert merchants.rules(RISK, tenant) == Stored(earlier)
    newer = merchants.change_rules(RISK, tenant, replace(earlier, review_score=9), 0, NOW, make_entry(tenant))
    assert (newer.version, merchants.rules(RISK, tenant)) == (1, newer)
    assert another(merchants, vault, clock).get(tenant).risk == newer.rules
    for before in (0, 2):
        with pytest.raises(Stale):
            merchants.change_rules(RISK, tenant, earlier, before, NOW, make_entry(tenant))
    merchants.save(replace(MERCHANT, tenant=tenant, accounts=(), risk=earlier))  # by nobody who called the API
    assert merchants.rules(RISK, tenant) == Stored(earlier, 2)


def test_risk_rules_of_a_newer_release_stop_no_payment_and_are_told(
    merchants: Merchants, vault: Vault, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    tenant = Tenant("mer_rolled_back", "test")
    merchants.save(replace(MERCHANT, tenant=tenant, accounts=()))
    merchants.change_rules(RISK, tenant, replace(MERCHANT.risk, review_score=9), 0, NOW, make_entry(tenant))
    item = RiskItem.get(f"risk/{tenant.merchant_id}", "risk#test")
    item.rules = dict(item.rules or {}) | {"later": {"x": 1}}
    item.save()
    assert another(merchants, vault, clock).get(tenant).risk == replace(MERCHANT.risk, review_score=9)
    assert "stored risk rules: later cannot be read by this release and is left out" in caplog.text


def test_who_has_no_settings_has_no_rules_either(merchants: Merchants) -> None:
    with pytest.raises(LookupError):
        merchants.rules(RISK, Tenant("mer_nobody", "test"))


def test_routing_rules_that_an_earlier_release_stored_mean_what_they_meant(
    merchants: Merchants, vault: Vault, clock: Clock
) -> None:
    tenant = Tenant("mer_earlier_routes", "test")
    merchants.save(replace(MERCHANT, tenant=tenant, accounts=(), routing=RoutingSettings()))
    item = SettingsItem.get(tenant.merchant_id, "settings#test")
    item.rules = [
        {
            "name": "premium",
            "accounts": ["acct_a"],
            "currency": "INR",
            "min_amount": 10,
            "method": "card",
            "by": "score",
        },
        {"name": "named", "accounts": ["acct_b"], "metadata": {"provider": "b"}, "max_amount": 99},
        {"name": "rest", "accounts": ["acct_b", "acct_a"]},
    ]
    item.save()
    premium = When(methods=frozenset({"card"}), currencies=frozenset({"INR"}), above=10)
    earlier = RoutingSettings((
        Rule("premium", ("acct_a",), premium, "score"),
        Rule("named", ("acct_b",), When(up_to=99, metadata={"provider": "b"})),
        Rule("rest", ("acct_b", "acct_a")),
    ))  # fmt: skip
    assert another(merchants, vault, clock).get(tenant).routing == earlier
    newer = merchants.change_rules(ROUTING, tenant, RoutingSettings(earlier.rules[:1]), 0, NOW, make_entry(tenant))
    assert another(merchants, vault, clock).get(tenant).routing == newer.rules


def test_a_merchant_without_an_endpoint_has_no_secret(merchants: Merchants, vault: Vault, clock: Clock) -> None:
    tenant = Tenant("mer_bare", "test")
    merchants.save(Merchant(tenant, "Bare", ()))
    read = another(merchants, vault, clock).get(tenant)
    assert (read.webhook_url, read.webhook_secret, read.accounts, read.routing) == (None, None, (), RoutingSettings())
    assert len(read.lookup_key) == 32  # made for it, because customers are found by it


def test_test_and_live_settings_are_two_worlds(merchants: Merchants, vault: Vault, clock: Clock) -> None:
    live = TENANT._replace(mode="live")
    merchants.save(MERCHANT)
    merchants.save(
        replace(MERCHANT, tenant=live, name="Live", accounts=(replace(MERCHANT.accounts[0], id="acct_live"),))
    )
    fresh = another(merchants, vault, clock)
    assert [account.id for account in fresh.get(TENANT).accounts] == ["acct_a", "acct_b"]
    assert [account.id for account in fresh.get(live).accounts] == ["acct_live"]
    assert (fresh.owner_of_account("acct_a"), fresh.owner_of_account("acct_live")) == (TENANT, live)


def test_a_merchant_without_settings_is_an_error_and_an_account_of_nobody_is_nobodys(merchants: Merchants) -> None:
    with pytest.raises(LookupError, match="mer_02OTHER"):
        merchants.get(OTHER)
    assert merchants.owner_of_account("acct_none") is None
    assert MERCHANT.account("acct_none") is None


# -- secrets -----------------------------------------------------------------------------------------


def test_no_secret_is_in_clear_in_any_item(merchants: Merchants, tables: Tables) -> None:
    merchants.save(MERCHANT)
    key = make_key(TENANT)
    stored = "".join(str(item) for table in ("merchants", "payments", "guards") for item in tables.all_items(table))
    for secret in (*SECRETS, key, key[8:40], SECRETS[4].encode().hex()):
        assert secret not in stored
    assert "acct_a" in stored  # we looked in the right place


def test_secrets_do_not_show_when_settings_are_printed(merchants: Merchants) -> None:
    merchants.save(MERCHANT)
    for shown in (repr(MERCHANT), str(merchants.get(TENANT)), repr(MERCHANT.accounts)):
        for secret in SECRETS:
            assert secret not in shown


OBJECTS = st.dictionaries(st.text(max_size=10), st.text(max_size=20), max_size=4)


@given(OBJECTS)
def test_what_is_sealed_opens_for_the_same_tenant_and_purpose(vault: Vault, value: dict[str, str]) -> None:
    assert vault.open(TENANT, "account/acct_a", vault.seal(TENANT, "account/acct_a", value)) == value


@pytest.mark.parametrize(
    ("tenant", "purpose"),
    [
        (OTHER, "account/acct_a"),
        (TENANT._replace(mode="live"), "account/acct_a"),
        (TENANT, "account/acct_b"),
        (TENANT, "webhook_secret"),
    ],
)
def test_what_is_sealed_opens_for_nobody_else_and_nothing_else(vault: Vault, tenant: Tenant, purpose: str) -> None:
    sealed = vault.seal(TENANT, "account/acct_a", {"secret": "x"})
    with pytest.raises(ClientError):
        vault.open(tenant, purpose, sealed)


def test_sealing_twice_gives_different_bytes(vault: Vault) -> None:
    assert vault.seal(TENANT, "x", {"a": "b"}) != vault.seal(TENANT, "x", {"a": "b"})


def test_an_item_copied_to_another_merchant_opens_nothing(
    merchants: Merchants, tables: Tables, vault: Vault, clock: Clock
) -> None:
    merchants.save(MERCHANT)
    for item in tables.all_items("merchants"):
        if item["pk"]["S"] == TENANT.merchant_id:
            tables.client.put_item(TableName=f"{aws.PREFIX}-merchants", Item=item | {"pk": {"S": "mer_thief"}})
    with pytest.raises(ClientError):
        another(merchants, vault, clock).get(Tenant("mer_thief", "test"))


# -- the cache ---------------------------------------------------------------------------------------


def test_settings_are_read_once_per_ttl_and_then_again(merchants: Merchants, vault: Vault, clock: Clock) -> None:
    merchants.save(MERCHANT)
    first = merchants.get(TENANT)
    another(merchants, vault, clock).save(replace(MERCHANT, name="Renamed"))
    clock.now += timedelta(seconds=TTL - 1)
    assert merchants.get(TENANT) is first
    clock.now += timedelta(seconds=1)
    assert merchants.get(TENANT).name == "Renamed"


def test_ones_own_save_shows_at_once(merchants: Merchants) -> None:
    merchants.save(MERCHANT)
    merchants.get(TENANT)
    merchants.save(replace(MERCHANT, name="Renamed"))
    assert merchants.get(TENANT).name == "Renamed"


def test_what_does_not_exist_is_not_remembered(merchants: Merchants, vault: Vault, clock: Clock) -> None:
    tenant = Tenant("mer_new", "test")
    with pytest.raises(LookupError):
        merchants.get(tenant)
    assert merchants.owner_of_account("acct_new") is None
    account = replace(MERCHANT.accounts[1], id="acct_new")
    another(merchants, vault, clock).save(replace(MERCHANT, tenant=tenant, accounts=(account,)))
    assert merchants.get(tenant).name == MERCHANT.name
    assert merchants.owner_of_account("acct_new") == tenant


# -- provider accounts -------------------------------------------------------------------------------


ROTATED = replace(
    MERCHANT.accounts[0],
    id="acct_rotated",
    webhook_secrets=("hook_new", "hook_old", "hook_older"),
    previous=(OldSecret("hook_old", later(100)), OldSecret("hook_older", later(50))),
    name="Main",
    enabled=False,
    created_at=NOW,
    updated_at=later(1),
    version=3,
)


def test_an_account_comes_back_as_it_was_with_what_is_still_accepted(
    merchants: Merchants, vault: Vault, clock: Clock
) -> None:
    merchants.save(replace(MERCHANT, accounts=(ROTATED,)))
    fresh = another(merchants, vault, clock)
    for seconds, accepted in ((0, 3), (49.999, 3), (50, 2), (99.999, 2), (100, 1), (1_000_000, 1)):
        clock.now = later(seconds)
        read = fresh.account(TENANT, ROTATED.id)
        assert read is not None
        assert read.webhook_secrets == ROTATED.webhook_secrets[:accepted]
        assert read.previous == ROTATED.previous[: accepted - 1]
        assert read.previous_accepted_until == (later(100) if accepted > 1 else None)
        assert replace(read, webhook_secrets=(), previous=()) == replace(ROTATED, webhook_secrets=(), previous=())
        assert another(merchants, vault, clock).get(TENANT).account(ROTATED.id) == read


def test_rotated_out_secrets_are_sealed_for_the_same_account_alone(
    merchants: Merchants, vault: Vault, tables: Tables
) -> None:
    merchants.save(replace(MERCHANT, accounts=(ROTATED,)))
    stored = "".join(str(item) for item in tables.all_items("merchants"))
    for secret in ("hook_new", "hook_old", "hook_older", SECRETS[0]):
        assert secret not in stored
        assert secret not in repr(ROTATED)
    (row,) = (row for row in tables.all_items("merchants") if row["sk"]["S"].endswith("#acct_rotated"))
    for sealed in (row["sealed"]["B"], row["sealed_previous"]["B"]):
        for purpose in ("account/acct_a", "account/acct_a/previous", "lookup_key"):
            with pytest.raises(ClientError):
                vault.open(TENANT, purpose, sealed)
    with pytest.raises(ClientError):
        vault.open(TENANT, "account/acct_rotated", row["sealed_previous"]["B"])


def test_what_kms_would_refuse_is_refused_before_anything_is_written(merchants: Merchants, tables: Tables) -> None:
    before = tables.all_items("merchants")
    longest = {"secret": "x" * (MAX_SEALED - len('{"a": ""}') - len('{"credentials": {"secret": ""}}'))}
    account = replace(ROTATED, id="acct_long", credentials=longest, version=1)
    claim = Claim("mer_01TEST/test/k", "f", "acct_long", NOW.timestamp() + 9)
    with pytest.raises(TooLong):
        merchants.add_account(TENANT, account, now=NOW, claim=claim, audit=make_entry(TENANT))
    assert tables.all_items("merchants") == before


def test_as_much_as_fits_is_sealed(vault: Vault) -> None:
    value = {"a": "x" * (MAX_SEALED - len('{"a": ""}'))}
    assert vault.open(TENANT, "p", vault.seal(TENANT, "p", value)) == value
    with pytest.raises(TooLong):
        vault.seal(TENANT, "p", {"a": value["a"] + "x"})


def test_accounts_are_listed_from_the_last_id_down(merchants: Merchants) -> None:
    tenant = Tenant("mer_lists", "test")
    ids = [f"acc_list_{n}" for n in range(5)]
    merchants.save(replace(MERCHANT, tenant=tenant, accounts=[replace(ROTATED, id=one) for one in ids]))
    live = replace(ROTATED, id="acc_list_live")
    merchants.save(replace(MERCHANT, tenant=tenant._replace(mode="live"), accounts=(live,)))
    pages, cursor = [], None
    while True:
        page = merchants.list_accounts(tenant, limit=2, cursor=cursor)
        pages.append([account.id for account in page.data])
        cursor = page.cursor
        if cursor is None:
            break
    assert pages == [[ids[4], ids[3]], [ids[2], ids[1]], [ids[0]]]
    whole = merchants.list_accounts(tenant, limit=5, cursor=None)
    assert (len(whole.data), whole.cursor) == (5, None)
    assert merchants.list_accounts(Tenant("mer_none", "test"), limit=5, cursor=None).data == []
