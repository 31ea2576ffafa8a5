"""Provider accounts through the door: connect, test, rotate, disable; and that no secret comes out again."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from chalicelib import wiring
from chalicelib.api import outputs, schemas
from chalicelib.api.idempotency import fingerprint
from chalicelib.domain.merchant import Merchant
from chalicelib.domain.model import Tenant
from chalicelib.domain.routing_rules import RoutingSettings, Rule, When
from chalicelib.providers import registry
from chalicelib.services import accounts as service
from infra.sandbox import control
from infra.sandbox.wire import Request
from tests.support.access import make_key
from tests.support.api import MANUAL, PAYMENT, Api, api_fixture
from tests.support.canary import watching
from tests.support.world import TENANT, Crash, Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

api = api_fixture("function")

ALL = "/v1/provider-accounts"
ID = "acc_" + "0" * 26
SIMULATOR = {
    "provider": "simulator",
    "name": "Main account",
    "credentials": {
        "api_key": "sim_test_key", "api_secret": "sim_test_secret", "webhook_secret": "sim_webhook_secret",
        "account_id": "acc_simulator",
    },
}  # fmt: skip
RAZORPAY = {
    "provider": "razorpay",
    "credentials": {
        "key_id": "rzp_test_sandbox", "key_secret": "rzp_test_secret", "webhook_secret": "rzp_webhook_secret",
    },
}  # fmt: skip


def with_credentials(body: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """``body`` with other credentials; None leaves one out."""
    credentials = body["credentials"] | changes
    return body | {"credentials": {name: value for name, value in credentials.items() if value is not None}}


def row_of(api: Api, account_id: str) -> dict[str, Any]:
    (row,) = (row for row in api.snapshot()["railyard-local-merchants"] if row["sk"]["S"].endswith(f"#{account_id}"))
    found: dict[str, Any] = row
    return found


def hook(api: Api, account_id: str, secret: str) -> int:
    """The status that a webhook signed with ``secret`` gets."""
    body = b'{"event":"something.new"}'
    headers = {"X-Simulator-Signature": hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}
    return api.request("POST", f"/webhooks/simulator/{account_id}", body, key=None, headers=headers).status


def only(api: Api, *account_ids: str) -> None:
    """Route every payment to these accounts."""
    kit = api.world.kit
    kit.merchants.save(
        replace(kit.merchants.get(TENANT), accounts=(), routing=RoutingSettings((Rule("only", account_ids),)))
    )


# -- connecting ------------------------------------------------------------------------------------


def test_an_account_is_connected_and_shown_without_its_secrets(api: Api) -> None:
    answer = api.post(ALL, SIMULATOR)
    assert answer.status == 201
    shown = outputs.ProviderAccount.model_validate_json(answer.body)
    assert json.loads(shown.model_dump_json()) == answer.json
    assert answer.json == {
        "id": shown.id, "object": "provider_account", "mode": "test", "provider": "simulator", "name": "Main account",
        "enabled": True, "credentials": {"account_id": "acc_simulator"},
        "secrets": ["api_key", "api_secret", "webhook_secret"],
        "webhook_url": f"http://127.0.0.1:8000/webhooks/simulator/{shown.id}",
        "previous_secret_accepted_until": None,
        "created_at": "2026-11-21T04:23:20.000Z", "updated_at": "2026-11-21T04:23:20.000Z",
    }  # fmt: skip
    assert shown.id.startswith("acc_")
    assert api.get(f"{ALL}/{shown.id}").json == answer.json
    kept = api.world.kit.merchants.account(TENANT, shown.id)
    assert kept is not None
    assert (kept.credentials, kept.base_url) == (SIMULATOR["credentials"], "http://simulator.sandbox")


def test_payments_go_through_it_at_once_and_its_webhooks_are_taken(api: Api) -> None:
    account = api.made(ALL, SIMULATOR)
    only(api, account["id"])
    paid = api.paid()
    assert paid["status"] == "succeeded"
    (attempt,) = api.get(f"/v1/payments/{paid['id']}/attempts").json["data"]
    assert attempt["account"] == account["id"]
    assert hook(api, account["id"], "sim_webhook_secret") == 200
    assert hook(api, account["id"], "another") == 401


def test_there_may_be_several_accounts_of_one_provider(api: Api) -> None:
    api.made(ALL, RAZORPAY)
    made = api.made(ALL, RAZORPAY | {"name": "Second"})
    found = api.get(ALL).json["data"]
    assert [one["provider"] for one in found].count("razorpay") == 3  # one was there
    assert made in found


def test_accounts_are_listed_newest_first_page_by_page(api: Api) -> None:
    other = Tenant("mer_01LISTS", "test")
    api.world.kit.merchants.save(Merchant(other, "Lists", (), lookup_key=b"l" * 32))
    key = make_key(other)
    assert api.get(ALL, key=key).json == {"data": [], "next_cursor": None}
    ids = []
    for _ in range(5):
        api.world.clock.time += 1
        ids.append(api.made(ALL, SIMULATOR, key=key)["id"])
    pages: list[list[str]] = []
    cursor: str | None = ""
    while cursor is not None:
        page = api.get(f"{ALL}?limit=2" + (f"&cursor={cursor}" if cursor else ""), key=key)
        outputs.ProviderAccountList.model_validate_json(page.body)
        pages.append([one["id"] for one in page.json["data"]])
        cursor = page.json["next_cursor"]
    assert pages == [[ids[4], ids[3]], [ids[2], ids[1]], [ids[0]]]
    assert api.get(f"{ALL}?cursor=nonsense", key=key).code == "invalid_cursor"


WRONG: list[tuple[Any, str | None, str]] = [
    ({}, "provider", "missing_field"),
    (SIMULATOR | {"provider": "paypal"}, "provider", "unknown_provider"),
    (SIMULATOR | {"provider": "../simulator"}, "provider", "invalid_field"),
    (SIMULATOR | {"provider": None}, "provider", "invalid_field"),
    (SIMULATOR | {"base_url": "http://169.254.169.254/"}, "base_url", "unknown_field"),
    (SIMULATOR | {"name": ""}, "name", "invalid_field"),
    (SIMULATOR | {"name": "4242424242424242"}, "name", "card_number_not_allowed"),
    ({"provider": "simulator"}, "credentials", "missing_field"),
    (SIMULATOR | {"credentials": {}}, "credentials.api_key", "missing_field"),
    (SIMULATOR | {"credentials": ["x"]}, "credentials", "invalid_field"),
    (SIMULATOR | {"credentials": {f"k{'a' * n}": "x" for n in range(11)}}, "credentials", "invalid_field"),
    (with_credentials(SIMULATOR, webhook_secret=None), "credentials.webhook_secret", "missing_field"),
    (with_credentials(SIMULATOR, base_url="http://evil.example"), "credentials.base_url", "unknown_field"),
    (with_credentials(SIMULATOR, sk_live_Secret7="x"), "credentials", "unknown_field"),
    *(
        (SIMULATOR | {"credentials": SIMULATOR["credentials"] | {"api_key": wrong}}, "credentials.api_key",  # type: ignore[operator]
         "invalid_field")
        for wrong in ["", "x" * 501, "sécret", "a\n", "a\u0000", 5, None, {"a": "b"}]
    ),
    (with_credentials(RAZORPAY, key_id="rzp_live_abc"), "credentials.key_id", "invalid_field"),
    (with_credentials(RAZORPAY, key_id="abc"), "credentials.key_id", "invalid_field"),
    (with_credentials(RAZORPAY, account_id="mer_1"), "credentials.account_id", "invalid_field"),
    (SIMULATOR | {"credentials": dict.fromkeys(SIMULATOR["credentials"], '"' * 500)}, "credentials", "invalid_field"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "param", "code"), WRONG)
def test_a_wrong_account_is_refused_by_field(api: Api, body: Any, param: str | None, code: str) -> None:
    before = api.snapshot()
    answer = api.post(ALL, body)
    assert (answer.status, answer.code, answer.json["param"]) == (422, code, param), answer
    for secret in ("rzp_live_abc", "evil.example", "sécret", "Secret7", "sim_test_secret", '""'):
        assert secret not in answer.json["detail"]
    assert api.snapshot() == before


def test_a_live_account_takes_live_credentials_and_a_provider_that_has_a_live_mode(api: Api) -> None:
    live = with_credentials(RAZORPAY, key_id="rzp_live_abc")
    answer = api.post(ALL, RAZORPAY, key=api.live_key)
    assert (answer.code, answer.json["param"]) == ("invalid_field", "credentials.key_id")
    assert answer.json["detail"] == "In live mode this begins with rzp_live_."
    assert api.made(ALL, live, key=api.live_key)["mode"] == "live"
    api.world.bring(replace(api.world.kit, settings=replace(api.world.kit.settings, provider_base_urls={})))
    made = api.made(ALL, live, key=api.live_key)  # as on AWS: the real address, or none
    kept = api.world.kit.merchants.account(Tenant(TENANT.merchant_id, "live"), made["id"])
    assert kept is not None
    assert kept.base_url == "https://api.razorpay.com/v1"
    answer = api.post(ALL, SIMULATOR, key=api.live_key)
    assert (answer.status, answer.code, answer.json["param"]) == (422, "unknown_provider", "provider")


# -- idempotency -----------------------------------------------------------------------------------


def test_a_repeat_is_the_same_account_and_other_secrets_are_another_body(api: Api) -> None:
    first = api.post(ALL, SIMULATOR, idem="k")
    before = api.snapshot()
    again = api.post(ALL, SIMULATOR, idem="k")
    assert (again.status, again.body, again.headers["idempotency-replayed"]) == (201, first.body, "true")
    other = api.post(ALL, with_credentials(SIMULATOR, api_secret="other"), idem="k")
    assert (other.status, other.code) == (422, "idempotency_key_reused")
    assert api.post(ALL, SIMULATOR, idem=None).code == "idempotency_key_missing"
    assert api.snapshot() == before


def test_what_is_remembered_of_a_body_with_secrets_is_keyed(api: Api) -> None:
    api.made(ALL, SIMULATOR, idem="k")
    (row,) = (row for row in api.snapshot()["railyard-local-guards"] if row["kind"]["S"] == "idempotency")
    stored = row["fingerprint"]["S"]
    assert stored == fingerprint(SIMULATOR, b"k" * 32)
    assert stored not in (fingerprint(SIMULATOR), fingerprint(SIMULATOR, b"l" * 32))
    # Spacing and order make no difference to it either.
    spaced = json.dumps(dict(reversed(SIMULATOR.items())), indent=2).encode()
    assert api.post(ALL, spaced, idem="k").headers["idempotency-replayed"] == "true"


def under_fault(api: Api, kind: Any, call: str, do: Callable[[], Any], rival: Callable[[], Any] | None = None) -> Any:
    """Do something while its first ``call`` goes wrong."""
    world = api.world
    api.get(ALL)  # what a first request alone does is done: it is written down that the key is used
    world.rival = None if rival is None else lambda: _ignored(rival())

    def armed() -> Any:
        world.armed = True
        try:
            return do()
        finally:
            world.armed = False

    world.points, world.fault = [], Fault(10_000, kind)
    world.perform("request", armed)  # once to count; it must be harmless to repeat
    at = next(number for number, point in enumerate(world.points) if point.call == call)
    world.points, world.fault = [], Fault(at, kind)
    try:
        return world.perform("request", armed)
    finally:
        world.fault = None


def _ignored(_: Any) -> None:
    return None


@pytest.mark.parametrize("kind", ["crash_before", "crash_after", "lost", "conflict", "twin"])
def test_whatever_befalls_a_create_its_key_stands_for_one_account(api: Api, kind: Any) -> None:
    keys = iter(["counted", "struck"])
    try:
        under_fault(
            api, kind, "dynamodb.TransactWriteItems", lambda: api.post(ALL, SIMULATOR, idem=next(keys, "struck"))
        )
    except Crash:
        assert kind.startswith("crash")
    # The counted one, and of the one that was struck all or nothing.
    assert len(made_here(api)) == (1 if kind == "crash_before" else 2)
    again = api.made(ALL, SIMULATOR, idem="struck")
    assert len(made_here(api)) == 2
    assert again["id"] in made_here(api)
    assert api.made(ALL, SIMULATOR, idem="struck") == again
    assert len(made_here(api)) == 2


def made_here(api: Api) -> set[str]:
    """The accounts that came through the API; each must have its owner row."""
    rows = api.snapshot()["railyard-local-merchants"]
    accounts = {row["id"]["S"] for row in rows if row["kind"]["S"] == "account"}
    assert {f"account/{one}" for one in accounts} == {
        row["pk"]["S"] for row in rows if row["kind"]["S"] == "account_owner"
    }
    return {one for one in accounts if one.startswith("acc_")}


# -- testing the connection ------------------------------------------------------------------------


def chaos(api: Api, **wanted: Any) -> None:
    body = json.dumps({"provider": "simulator", **wanted}).encode()
    assert control.handle(api.world.bank, Request("POST", "/_chaos", {}, body)).status == 200


def probed(api: Api, account_id: str) -> dict[str, Any]:
    answer = api.post(f"{ALL}/{account_id}/test", {}, idem=None)
    assert answer.status == 200
    outputs.ConnectionTest.model_validate_json(answer.body)
    shown: dict[str, Any] = answer.json
    assert set(shown) == {"object", "ok", "error", "latency_ms"}
    return shown


def wish(api: Api, provider: str) -> dict[str, Any]:
    """An account at a provider of the bank, with the credentials that the bank takes."""
    settings = next(one for one in api.world.bank.settings.values() if one.personality == provider)
    webhook_secret = api.world.kit.provider(provider).connection.webhook_secret
    return {"provider": provider, "credentials": {webhook_secret: settings.webhook_secret, **settings.credentials}}


@pytest.mark.parametrize("provider", registry.NAMES)
def test_a_connection_that_works(api: Api, provider: str) -> None:
    account = api.made(ALL, wish(api, provider))
    charges = list(api.world.bank.book.charges)
    before = api.snapshot()
    shown = probed(api, account["id"])
    assert (shown["object"], shown["ok"], shown["error"]) == ("connection_test", True, None)
    assert shown["latency_ms"] >= 0
    assert list(api.world.bank.book.charges) == charges
    assert api.snapshot() == before


@pytest.mark.parametrize(
    ("provider", "credential"),
    [
        ("simulator", "api_key"), ("razorpay", "key_id"), ("razorpay", "key_secret"), ("stripe", "secret_key"),
        ("cashfree", "client_id"), ("cashfree", "client_secret"), ("payu", "key"), ("payu", "salt"),
        ("instamojo", "api_key"), ("instamojo", "auth_token"),
    ],
)  # fmt: skip
def test_a_connection_with_wrong_credentials(api: Api, provider: str, credential: str) -> None:
    body = wish(api, provider)
    shown = probed(
        api, api.made(ALL, with_credentials(body, **{credential: body["credentials"][credential] + "x"}))["id"]
    )
    assert not shown["ok"]
    assert shown["error"]["code"] == "provider_misconfigured"


def test_a_connection_that_cannot_be_made_or_does_not_answer(api: Api) -> None:
    account = api.made(ALL, SIMULATOR)
    chaos(api, refuse_connections=1)
    assert probed(api, account["id"])["error"]["code"] == "provider_unavailable"
    for refused in ("refused", "lost"):
        under = under_fault(api, refused, "provider.GET", lambda: probed(api, account["id"]))
        code = {"refused": "provider_unavailable", "lost": "outcome_unknown"}[refused]
        assert (under["ok"], under["error"]["code"]) == (False, code)
    assert probed(api, account["id"])["ok"]


# -- rotating --------------------------------------------------------------------------------------


def rotated(api: Api, account_id: str, *, status: int = 200, **body: Any) -> dict[str, Any]:
    answer = api.post(f"{ALL}/{account_id}/rotate-secret", body)
    assert answer.status == status, answer
    if status == 200:
        outputs.ProviderAccount.model_validate_json(answer.body)
    shown: dict[str, Any] = answer.json
    return shown


def test_after_a_rotation_both_webhook_secrets_hold_until_the_old_ones_time_is_over(api: Api) -> None:
    account = api.made(ALL, SIMULATOR)
    api.world.clock.time += 60
    shown = rotated(api, account["id"], credentials={"webhook_secret": "new", "api_key": "sim_test_key"})
    assert shown == account | {
        "updated_at": "2026-11-21T04:24:20.000Z", "previous_secret_accepted_until": "2026-11-21T04:34:20.000Z",
    }  # fmt: skip
    overlap = api.world.kit.settings.rotation_overlap
    assert (hook(api, account["id"], "new"), hook(api, account["id"], "sim_webhook_secret")) == (200, 200)
    api.world.clock.time += overlap - 0.001
    assert hook(api, account["id"], "sim_webhook_secret") == 200
    api.world.clock.time += 60  # what is cached goes within this time
    assert (hook(api, account["id"], "new"), hook(api, account["id"], "sim_webhook_secret")) == (200, 401)
    assert api.get(f"{ALL}/{account['id']}").json["previous_secret_accepted_until"] is None


def test_a_rotation_of_some_leaves_the_others_and_calls_use_the_new_ones(api: Api) -> None:
    account = api.made(ALL, with_credentials(SIMULATOR, api_key="old"))
    assert not probed(api, account["id"])["ok"]
    shown = rotated(api, account["id"], credentials={"api_key": "sim_test_key"})
    assert shown["previous_secret_accepted_until"] is None
    assert probed(api, account["id"])["ok"]
    kept = api.world.kit.merchants.account(TENANT, account["id"])
    assert kept is not None
    assert kept.credentials == SIMULATOR["credentials"]
    assert kept.webhook_secrets == ("sim_webhook_secret",)


def test_a_repeated_rotation_changes_nothing(api: Api) -> None:
    account = api.made(ALL, SIMULATOR)
    first = rotated(api, account["id"], credentials={"webhook_secret": "new"})
    api.world.clock.time += 5
    before = api.snapshot()
    assert rotated(api, account["id"], credentials={"webhook_secret": "new"}) == first
    assert api.snapshot() == before


def test_a_leaked_secret_is_dropped_at_once_with_all_before_it(api: Api) -> None:
    account = api.made(ALL, SIMULATOR)
    rotated(api, account["id"], credentials={"webhook_secret": "second"})
    shown = rotated(api, account["id"], credentials={"webhook_secret": "third"}, keep_previous=False)
    assert shown["previous_secret_accepted_until"] is None
    statuses = [hook(api, account["id"], secret) for secret in ("third", "second", "sim_webhook_secret")]
    assert statuses == [200, 401, 401]


def test_three_earlier_secrets_are_kept_and_a_fourth_must_wait(api: Api) -> None:
    account = api.made(ALL, SIMULATOR)
    for number in range(service.MAX_PREVIOUS):
        api.world.clock.time += 1
        rotated(api, account["id"], credentials={"webhook_secret": f"secret {number}"})
    assert hook(api, account["id"], "sim_webhook_secret") == 200
    before = api.snapshot()
    problem = rotated(api, account["id"], credentials={"webhook_secret": "one more"}, status=409)
    assert problem["code"] == "too_many_rotations"
    assert api.snapshot() == before
    api.world.clock.time += api.world.kit.settings.rotation_overlap - 2  # the first one's time is over
    rotated(api, account["id"], credentials={"webhook_secret": "one more"})


def test_of_two_rotations_at_once_one_wins_and_the_other_is_told(api: Api) -> None:
    account = api.made(ALL, SIMULATOR)
    url = f"{ALL}/{account['id']}/rotate-secret"
    mine: dict[str, Any] = {"credentials": {"webhook_secret": "mine", "api_key": "my key"}}
    theirs = {"credentials": {"webhook_secret": "theirs"}}
    numbers = iter(range(10))

    def ask() -> Any:  # the first time it is only counted
        body = {"credentials": {"api_secret": "counted"}} if next(numbers) == 0 else mine
        return api.post(url, body)

    answer = under_fault(api, "rival", "dynamodb.TransactWriteItems", ask, lambda: api.made(url, theirs))
    assert (answer.status, answer.code) == (409, "account_changed")
    kept = api.world.kit.merchants.account(TENANT, account["id"])
    assert kept is not None
    assert (kept.credentials["webhook_secret"], kept.credentials["api_key"]) == ("theirs", "sim_test_key")
    assert kept.webhook_secrets == ("theirs", "sim_webhook_secret")
    rotated(api, account["id"], **mine)  # looked at it and tried again
    assert [hook(api, account["id"], one) for one in ("mine", "theirs", "sim_webhook_secret")] == [200] * 3


def test_a_rotation_whose_answer_is_lost_can_be_repeated(api: Api) -> None:
    account = api.made(ALL, SIMULATOR)
    numbers = iter(range(10))

    def ask() -> Any:
        secret = "counted" if next(numbers) == 0 else "new"
        return api.post(f"{ALL}/{account['id']}/rotate-secret", {"credentials": {"webhook_secret": secret}})

    with pytest.raises(Crash):
        under_fault(api, "crash_after", "dynamodb.TransactWriteItems", ask)
    before = row_of(api, account["id"])
    assert rotated(api, account["id"], credentials={"webhook_secret": "new"})["id"] == account["id"]
    assert row_of(api, account["id"]) == before
    assert [hook(api, account["id"], one) for one in ("new", "counted", "sim_webhook_secret")] == [200] * 3


def test_a_rotation_that_comes_late_undoes_no_later_one(api: Api) -> None:
    account = api.made(ALL, SIMULATOR)
    url = f"{ALL}/{account['id']}/rotate-secret"
    first = api.post(url, {"credentials": {"api_key": "one"}}, idem="first")
    rotated(api, account["id"], credentials={"api_key": "two"})
    late = api.post(url, {"credentials": {"api_key": "one"}}, idem="first")
    assert (late.status, late.body, late.headers["Idempotency-Replayed".lower()]) == (200, first.body, "true")
    assert api.world.kit.merchants.account(TENANT, account["id"]).credentials["api_key"] == "two"  # type: ignore[union-attr]


def test_what_names_the_account_at_the_provider_is_not_rotated(api: Api) -> None:
    account = api.made(ALL, with_credentials(SIMULATOR, account_id="acc_ours"))
    rotated(api, account["id"], credentials={"account_id": "acc_ours"})
    answer = rotated(api, account["id"], credentials={"account_id": "acc_somebody_else"}, status=422)
    assert (answer["code"], answer["param"]) == ("invalid_field", "credentials.account_id")


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({}, "credentials", "missing_field"),
        ({"credentials": {"key_id": "x"}}, "credentials.key_id", "unknown_field"),
        ({"credentials": {"api_key": ""}}, "credentials.api_key", "invalid_field"),
        ({"credentials": {}, "keep_previous": "no"}, "keep_previous", "invalid_field"),
        ({"credentials": {}, "provider": "razorpay"}, "provider", "unknown_field"),
        ({"credentials": {"account_id": "x"}}, "credentials.account_id", "invalid_field"),
    ],
)  # fmt: skip
def test_a_wrong_rotation_is_refused(api: Api, body: dict[str, Any], param: str, code: str) -> None:
    account = api.made(ALL, SIMULATOR)
    before = api.snapshot()
    answer = api.post(f"{ALL}/{account['id']}/rotate-secret", body)
    assert (answer.status, answer.code, answer.json["param"]) == (422, code, param)
    assert api.snapshot() == before


# -- disabling -------------------------------------------------------------------------------------


def test_a_disabled_account_takes_no_new_charges_and_finishes_what_it_has(api: Api) -> None:
    account = api.made(ALL, SIMULATOR)
    only(api, account["id"])
    held = api.made("/v1/payments", MANUAL)
    api.world.run(horizon=60)
    url = f"{ALL}/{account['id']}"
    shown = api.made(f"{url}/disable", {}, idem=None)
    assert shown == account | {"enabled": False, "updated_at": shown["updated_at"]}
    assert api.paid()["error"]["code"] == "no_route"
    api.made(f"/v1/payments/{held['id']}/capture", {})
    api.world.run(horizon=60)
    api.made(f"/v1/payments/{held['id']}/refunds", {})
    api.world.run(horizon=60)
    done = api.get(f"/v1/payments/{held['id']}").json
    assert (done["status"], done["refund_status"]) == ("succeeded", "full")
    assert hook(api, account["id"], "sim_webhook_secret") == 200
    assert probed(api, account["id"])["ok"]
    assert rotated(api, account["id"], credentials={"api_secret": "x"})["enabled"] is False
    assert api.made(f"{url}/enable", {}, idem=None)["enabled"] is True
    assert api.paid()["status"] == "succeeded"


def test_twice_is_once(api: Api) -> None:
    account = api.made(ALL, SIMULATOR)
    url = f"{ALL}/{account['id']}"
    assert api.made(f"{url}/enable", {}, idem=None) == account
    first = api.made(f"{url}/disable", {}, idem=None)
    before = api.snapshot()
    assert api.made(f"{url}/disable", {}, idem=None) == first
    assert api.snapshot() == before


def test_disabling_and_rotating_at_once_both_count(api: Api) -> None:
    account = api.made(ALL, SIMULATOR)
    url = f"{ALL}/{account['id']}"
    turns = iter(["enable", "disable", "disable"])
    api.made(f"{url}/disable", {}, idem=None)
    answer = under_fault(
        api, "rival", "dynamodb.TransactWriteItems", lambda: api.post(f"{url}/{next(turns)}", {}, idem=None),
        lambda: rotated(api, account["id"], credentials={"webhook_secret": "new"}),
    )  # fmt: skip
    assert (answer.status, answer.json["enabled"]) == (200, False)
    assert hook(api, account["id"], "new") == 200


# -- whose -----------------------------------------------------------------------------------------

ROUTES = [("GET", ""), ("POST", "/test"), ("POST", "/rotate-secret"), ("POST", "/disable"), ("POST", "/enable")]


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_an_account_is_another_merchants_or_modes_or_nobodys(api: Api, method: str, path: str) -> None:
    account = api.made(ALL, SIMULATOR)
    body = None if method == "GET" else {"credentials": {"api_key": "x"}} if path == "/rotate-secret" else {}
    before = api.snapshot()
    for key, account_id in ((api.other_key, account["id"]), (api.live_key, account["id"]), (api.key, ID)):
        headers = {"Idempotency-Key": f"{key}{account_id}"}
        answer = api.request(method, f"{ALL}/{account_id}{path}", body, key=key, headers=headers)
        assert (answer.status, answer.code) == (404, "account_not_found")
    for key in (api.other_key, api.live_key):
        assert account["id"] not in api.get(ALL, key=key).body.decode()
    assert api.snapshot() == before


# -- the canary ------------------------------------------------------------------------------------

MARKED = {
    "api_key": "canary-key-5f1c", "api_secret": "canary-secret-91ab", "webhook_secret": "canary-hook-77de",
}  # fmt: skip
NEW = {"api_secret": "canary-secret-new-03", "webhook_secret": "canary-hook-new-04"}


def _play(api: Api) -> Iterator[str]:
    """A life of an account, with every answer."""
    created = api.post(ALL, {"provider": "simulator", "name": "Canary", "credentials": MARKED}, idem="canary")
    yield created.body.decode()
    url = f"{ALL}/{created.json['id']}"
    for verb, body in (("test", {}), ("rotate-secret", {"credentials": NEW}), ("disable", {}), ("enable", {})):
        yield api.post(f"{url}/{verb}", body).body.decode()
    for path in (url, ALL):
        yield api.get(path).body.decode()
    for wrong in ({"api_key": MARKED["api_key"], "other": NEW["api_secret"]}, {"api_key": "é" + MARKED["api_key"]}):
        yield api.post(ALL, {"provider": "simulator", "credentials": wrong}).body.decode()
    yield api.post(ALL, with_credentials(RAZORPAY, key_id=MARKED["api_key"])).body.decode()
    yield api.post(ALL, json.dumps({"credentials": MARKED}).encode()[:-1]).body.decode()
    with pytest.raises(LookupError):  # what a traceback shows of the account
        raise LookupError(repr(api.world.kit.merchants.account(TENANT, created.json["id"])))
    yield repr(api.world.kit.merchants.get(TENANT))
    yield repr(schemas.AccountIn(provider="simulator", credentials=MARKED))
    yield repr(service.NewAccount("simulator", MARKED))


def test_a_secret_is_seen_only_by_its_provider_and_in_the_sealed_row(api: Api) -> None:
    with watching(api, logging.INFO) as watch:  # boto's debug log shows what it sends, sealed or, here, not
        answers = list(_play(api))
        for secret in (*MARKED.values(), *NEW.values()):
            assert not any(secret in answer for answer in answers)
            where = {place.partition(":")[0] for place in watch.found(secret)}
            # The vault of these tests seals nothing; what KMS does is held by test_storage_merchants.py.
            assert where <= {"railyard-local-merchants", "provider"}, where
        assert watch.found(MARKED["api_key"])  # we look in the right places


def test_every_change_is_logged_in_one_line_with_who_made_it(api: Api) -> None:
    with watching(api) as watch:
        account = api.made(ALL, SIMULATOR, idem="k")
        url = f"{ALL}/{account['id']}"
        for verb, body in (("rotate-secret", {"credentials": {"api_key": "x"}}), ("disable", {}), ("enable", {})):
            for _ in range(2):  # the second time nothing changes
                api.made(f"{url}/{verb}", body)
        api.made(ALL, SIMULATOR, idem="k")
        lines = [line for line in watch.log.heard if line.startswith("provider account ")]
    assert [line.split(" {")[0] for line in lines] == [
        "provider account created", "provider account secrets rotated", "provider account disabled",
        "provider account enabled",
    ]  # fmt: skip
    assert all(account["id"] in line and "'by': 'key_" in line for line in lines)


def test_rotated_credentials_too_long_for_one_seal_are_refused(api: Api) -> None:
    account = api.made(ALL, with_credentials(SIMULATOR, account_id="x" * 500))
    before = api.snapshot()
    long = dict.fromkeys(("api_key", "api_secret", "webhook_secret"), '"' * 500)
    answer = rotated(api, account["id"], credentials=long, status=422)
    assert (answer["code"], answer["param"]) == ("invalid_field", "credentials")
    assert api.snapshot() == before


def test_another_environment_follows_within_the_caches_time(api: Api) -> None:
    kit = api.world.kit
    elsewhere = replace(
        kit, merchants=type(kit.merchants)("railyard-local", kit.merchants._vault, api.world.clock, 60.0)
    )
    account = api.made(ALL, SIMULATOR)
    wiring.install(elsewhere)
    assert hook(api, account["id"], "sim_webhook_secret") == 200
    wiring.install(kit)
    rotated(api, account["id"], credentials={"webhook_secret": "new"}, keep_previous=False)
    assert hook(api, account["id"], "new") == 200
    wiring.install(elsewhere)
    assert hook(api, account["id"], "sim_webhook_secret") == 200  # as it is remembered here
    assert hook(api, account["id"], "new") == 200  # a signature that does not hold makes it look again
    assert hook(api, account["id"], "wrong") == 401
    api.world.clock.time += 60
    assert hook(api, account["id"], "sim_webhook_secret") == 401
    wiring.install(kit)


def test_a_payment_asked_of_an_account_says_which(api: Api) -> None:
    account = api.made(ALL, SIMULATOR)
    merchant = api.world.kit.merchants.get(TENANT)
    mine = Rule("asked for it", (account["id"],), When(metadata={"provider": "mine"}))
    api.world.kit.merchants.save(
        replace(merchant, accounts=(), routing=RoutingSettings((mine, *merchant.routing.rules)))
    )
    for metadata, expected in (({"provider": "mine"}, account["id"]), ({}, "acct_simulator")):
        paid = api.paid(**PAYMENT | {"metadata": metadata})
        (attempt,) = api.get(f"/v1/payments/{paid['id']}/attempts").json["data"]
        assert attempt["account"] == expected
