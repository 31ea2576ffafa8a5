"""Every route by every kind of wrong caller: refused as declared, and never with data.

The routes come from the declarations themselves. A new one without a scope, or with a body that has no sample here,
fails.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from chalicelib.api.openapi import routes
from chalicelib.domain.access import KEY_SCOPES, PUBLISHABLE_SCOPES, ROLE_SCOPES, ROLES, SCOPES
from chalicelib.domain.merchant import Account
from chalicelib.domain.people import PLATFORM
from chalicelib.domain.routing_rules import RoutingSettings
from chalicelib.services import keys, sessions
from tests.support.access import ACTOR, make_key, make_user
from tests.support.api import CARD, MANUAL, ORDER, OTHER, PAYMENT, ROOT, Answer, Api, api_fixture
from tests.support.marks import PASSWORD
from tests.support.world import TENANT

if TYPE_CHECKING:
    from chalicelib.api.http import Route
    from chalicelib.domain.access import Role
    from chalicelib.domain.model import Tenant

api = api_fixture("module")

LIVE = TENANT._replace(mode="live")
# Who may ask without credentials, each for a reason: the process, the contract, what providers sign, and coming in.
OPEN = {
    "health", "openapi", "receive_provider_event", "sign_up", "log_in", "refresh_session", "set_password",
    "open_page_session",
}  # fmt: skip
BODIES: dict[str, Any] = {
    "create_order": ORDER, "cancel_order": {}, "create_payment": PAYMENT, "verify_payment": {"x": "y"},
    "capture_payment": {}, "cancel_payment": {}, "review_payment": {"decision": "approve"},
    "resolve_payment": {"outcome": "failed", "note": "n"}, "create_refund": {"amount": 1}, "create_token": CARD,
    "create_provider_account": {"provider": "simulator", "credentials": {"api_key": "k", "webhook_secret": "w"}},
    "test_provider_account": {}, "rotate_provider_account": {"credentials": {"api_key": "x"}},
    "disable_provider_account": {}, "enable_provider_account": {},
    "set_provider_breaker": {"method": "upi", "state": "open", "reason": "r"},
    "put_risk": {"rules": {}, "version": 1}, "put_routing": {"rules": [], "version": 1}, "simulate_routing": PAYMENT,
    "log_out": {}, "change_me": {"name": "N"}, "invite_user": {"email": "new@canary.example", "role": "viewer"},
    "change_user": {"role": "viewer"}, "reset_user_password": {}, "change_merchant": {"name": "N"},
    "create_api_key": {"name": "n"}, "rename_api_key": {"name": "n"}, "rotate_api_key": {},
    "change_one_merchant": {"plan": "scale"}, "erase_customer": {}, "reset_owner_password": {},
}  # fmt: skip
SCOPED = [route for route in routes() if route.scope is not None]
IDS = [route.name for route in SCOPED]
every_route = pytest.mark.parametrize("route", SCOPED, ids=IDS)
_OF_BOTH_WORLDS = ("/v1/users", "/v1/merchant", "/v1/auth", "/v1/audit")  # people belong to both


def routes_but(*, platform: bool = True, of_both: bool = True, publishable: bool = True) -> pytest.MarkDecorator:
    """The routes without those of the platform, those that know no mode, or those a publishable key may use."""
    chosen = [
        route
        for route in SCOPED
        if (platform or not str(route.scope).startswith("platform:"))
        and (of_both or not route.path.startswith(_OF_BOTH_WORLDS))
        and (publishable or route.scope not in PUBLISHABLE_SCOPES)
    ]
    return pytest.mark.parametrize("route", chosen, ids=[route.name for route in chosen])


FORBIDDEN = [(route, role) for route in SCOPED for role in ROLES if route.scope not in ROLE_SCOPES[role]]


@pytest.fixture(autouse=True)
def _time_goes_on(api: Api) -> None:
    """Or the limits on wrong credentials would answer for what is asked here."""
    api.world.clock.time += 5


@dataclass(frozen=True, slots=True)
class Things:
    """Objects of one merchant and mode, by the names that paths have for their ids."""

    ids: dict[str, str]

    def own(self) -> set[str]:
        """What no stranger may ever read."""
        return {value for name, value in self.ids.items() if name != "provider"}


def things(api: Api, tenant: Tenant, key: str) -> Things:
    payment = api.made("/v1/payments", PAYMENT, key=key)
    order = api.made("/v1/orders", ORDER, key=key)
    token = api.made("/v1/tokens", CARD, key=key)
    made, _ = keys.create(api.world.kit, tenant, "shown", "secret", None, by=ACTOR)
    user = make_user(api.world.kit, tenant.merchant_id, "viewer")
    ids = {"payment_id": payment["id"], "order_id": order["id"], "token_id": token["id"], "key_id": made.id}
    return Things(ids | {"user_id": user.id, "merchant_id": tenant.merchant_id, "provider": "simulator"})


@pytest.fixture(scope="module")
def ours(api: Api) -> Things:
    """Of the test mode, with a refund and a customer."""
    found = things(api, TENANT, api.key)
    paid = api.paid(customer={"email": "asha@canary.example"})
    refund = api.made(f"/v1/payments/{paid['id']}/refunds", {"amount": 1})
    customer = paid["customer"].get("id", "cus_" + "0" * 64)
    return Things(found.ids | {"refund_id": refund["id"], "account_id": "acct_simulator", "customer_id": customer})


@pytest.fixture(scope="module")
def live(api: Api) -> Things:
    """Of the live mode, where nothing can be paid here, and so nothing refunded."""
    account = Account("acct_live", "simulator", "https://sim.example", {"api_key": "k"}, ("w",), version=1)
    merchants = api.world.kit.merchants
    merchants.save(replace(merchants.get(LIVE), accounts=(account,), routing=RoutingSettings()))
    found = things(api, LIVE, api.live_key)
    return Things(
        found.ids | {"refund_id": "rf_" + "0" * 26, "account_id": "acct_live", "customer_id": "cus_" + "0" * 64}
    )


def ask(api: Api, route: Route, ids: dict[str, str], key: str | None, **headers: str) -> Answer:
    """A request that would be good from the right caller."""
    body = BODIES[route.name] if route.body is not None else None
    url = route.path.format(**{name: ids.get(name, "x") for name in ("payment_id", *ids)})
    return api.request(route.method, url, body, key=key, headers={"Idempotency-Key": f"k{id(body)}", **headers})


def shows_nothing(answer: Answer, things: Things) -> bool:
    """Whether an answer holds nothing of somebody's objects."""
    if answer.status == 404:  # a problem document, see check_shape; it may repeat the id that was asked for
        return bool(answer.json["detail"].count("_") <= 2)
    text = answer.body.decode()
    return not any(value in text for value in things.own())


def kind_of(route: Route) -> Role | None:
    """Whose route it is: None where keys may come, else the role of the people who may."""
    assert route.scope is not None
    if route.scope in KEY_SCOPES:
        return None
    return "platform" if route.scope.startswith("platform:") else "owner"


def credentials_of(api: Api, route: Route, tenant: Tenant) -> tuple[str, dict[str, str]]:
    """Good credentials of a merchant and mode for a route."""
    role = kind_of(route)
    if role is None:
        return {TENANT: api.key, LIVE: api.live_key, OTHER: api.other_key}[tenant], {}
    merchant_id = PLATFORM if role == "platform" else tenant.merchant_id
    return api.token(role, merchant_id), {"Railyard-Mode": tenant.mode}


# -- the declarations ------------------------------------------------------------------------------


def test_every_route_declares_a_known_scope_or_is_open_for_a_reason() -> None:
    assert {route.name for route in routes() if route.scope is None} == OPEN
    assert {route.scope for route in SCOPED} <= set(SCOPES)
    assert len(SCOPED) > 50


def test_every_scope_is_asked_for_by_a_route_and_had_by_somebody() -> None:
    assert {route.scope for route in SCOPED} == set(SCOPES) - _NOT_YET
    assert frozenset().union(*ROLE_SCOPES.values()) == frozenset(SCOPES)
    assert set(ROLE_SCOPES) == set(ROLES)


_NOT_YET = frozenset({"customers:write"}) - {route.scope for route in SCOPED}  # until customers can be erased


def test_the_manual_has_every_scope_with_who_has_it() -> None:
    manual = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    told = dict(re.findall(r"^\| `([a-z]+:[a-z]+)` \| (.+) \|$", manual, re.MULTILINE))
    for scope, what in SCOPES.items():
        if scope.startswith("platform:"):
            assert f"`{scope}`" in manual
            continue
        key = "publishable too" if scope in PUBLISHABLE_SCOPES else "yes" if scope in KEY_SCOPES else ""
        roles = ["yes" if scope in ROLE_SCOPES[role] else "" for role in ("viewer", "operator", "admin")]
        assert [cell.strip() for cell in told.pop(scope).split("|")] == [what, key, *roles], scope
    assert not told
    assert ROLE_SCOPES["admin"] == ROLE_SCOPES["owner"]


def test_every_body_has_a_sample_that_is_taken(api: Api) -> None:
    for route in SCOPED:
        if route.body is not None:
            route.body.model_validate_json(json.dumps(BODIES[route.name]), context={"now": api.world.clock()})


def test_whoever_reads_cannot_write_and_a_publishable_key_is_nearly_nothing() -> None:
    for route in SCOPED:
        if route.method == "GET":
            assert route.scope is not None
            assert route.scope.endswith(":read"), route.name
        elif route.name != "simulate_routing":  # writes nothing
            assert not str(route.scope).endswith(":read"), route.name
    assert {scope for scope in ROLE_SCOPES["viewer"] if not scope.endswith(":read")} == {"profile:write"}
    assert {"tokens:write", "payments:confirm"} == PUBLISHABLE_SCOPES
    assert not any("keys" in scope or "users" in scope or "platform" in scope for scope in KEY_SCOPES)
    for role in ("owner", "admin", "operator", "viewer"):
        assert not any(scope.startswith("platform:") for scope in ROLE_SCOPES[role])


# -- the matrix ------------------------------------------------------------------------------------


@every_route
def test_no_credentials_are_401(api: Api, ours: Things, route: Route) -> None:
    answer = ask(api, route, ours.ids, None)
    assert (answer.status, answer.code) == (401, "unauthorized")
    assert shows_nothing(answer, ours)


@routes_but(platform=False)  # which sees every merchant
def test_another_merchants_objects_are_404(api: Api, ours: Things, route: Route) -> None:
    key, headers = credentials_of(api, route, OTHER)
    before = api.snapshot()["railyard-local-payments"] if "{" in route.path else None
    answer = ask(api, route, ours.ids, key, **headers)
    if "{" in route.path:
        assert answer.status == 404, answer
        assert api.snapshot()["railyard-local-payments"] == before
    assert shows_nothing(answer, ours)


@routes_but(of_both=False)
def test_a_live_object_is_404_for_test_credentials_and_the_other_way_round(
    api: Api, ours: Things, live: Things, route: Route
) -> None:
    for tenant, theirs in ((TENANT, live), (LIVE, ours)):
        key, headers = credentials_of(api, route, tenant)
        answer = ask(api, route, theirs.ids, key, **headers)
        if "{" in route.path and "{provider}" not in route.path:  # both modes have that provider
            assert answer.status == 404, answer
        objects = Things({k: v for k, v in theirs.ids.items() if k not in ("user_id", "merchant_id")})
        assert shows_nothing(answer, objects)


@pytest.mark.parametrize(("route", "role"), FORBIDDEN, ids=[f"{route.name}-{role}" for route, role in FORBIDDEN])
def test_a_role_without_the_scope_is_403(api: Api, ours: Things, route: Route, role: Role) -> None:
    merchant_id = PLATFORM if role == "platform" else TENANT.merchant_id
    answer = ask(api, route, ours.ids, api.token(role, merchant_id))
    assert (answer.status, answer.code) == (403, "forbidden")
    assert shows_nothing(answer, ours)


@routes_but(publishable=False)
def test_a_publishable_key_is_403(api: Api, ours: Things, route: Route) -> None:
    answer = ask(api, route, ours.ids, make_key(TENANT, kind="publishable"))
    assert (answer.status, answer.code) == (403, "forbidden")
    assert shows_nothing(answer, ours)


@every_route
def test_a_secret_key_that_lacks_the_scope_is_403(api: Api, ours: Things, route: Route) -> None:
    most = KEY_SCOPES - {str(route.scope)}
    answer = ask(api, route, ours.ids, make_key(TENANT, scopes=most))
    assert (answer.status, answer.code) == (403, "forbidden")
    # What a row says beyond what a key can have is not believed.
    stored = frozenset(SCOPES) - {str(route.scope)} if route.scope in KEY_SCOPES else frozenset(SCOPES)
    assert ask(api, route, ours.ids, make_key(TENANT, scopes=stored)).status == 403


@every_route
def test_a_revoked_key_is_401(api: Api, ours: Things, route: Route) -> None:
    key, secret = keys.create(api.world.kit, TENANT, "leaked", "secret", None, by=ACTOR)
    keys.revoke(api.world.kit, TENANT, key.id, by=ACTOR)
    answer = ask(api, route, ours.ids, secret)
    assert (answer.status, answer.code) == (401, "unauthorized")
    assert shows_nothing(answer, ours)


@every_route
def test_an_expired_token_is_401(api: Api, ours: Things, route: Route) -> None:
    kit = api.world.kit
    user = make_user(kit, PLATFORM if kind_of(route) == "platform" else TENANT.merchant_id, kind_of(route) or "owner")
    api.world.bring(replace(kit, settings=replace(kit.settings, access_ttl=0)))
    try:
        token = sessions.log_in(api.world.kit, user.email, PASSWORD, by=ACTOR).access
    finally:
        api.world.bring(kit)
    answer = ask(api, route, ours.ids, token)
    assert (answer.status, answer.code) == (401, "token_expired")
    assert shows_nothing(answer, ours)


@pytest.mark.parametrize("route", [route for route in SCOPED if route.name != "get_page_session"])  # see test_web.py
def test_the_right_caller_comes_through(api: Api, ours: Things, route: Route) -> None:
    """The other tests would be as green if nobody came through."""
    key, headers = credentials_of(api, route, TENANT)
    answer = ask(api, route, ours.ids, key, **headers)
    assert answer.status not in (401, 403, 404, 429, 500), answer


def test_a_suspended_merchants_keys_and_people_are_403_within_a_minute(api: Api, ours: Things) -> None:
    platform, owner = api.token("platform", PLATFORM), api.token("owner", OTHER.merchant_id)
    url = f"/v1/merchants/{OTHER.merchant_id}"
    assert api.request("PATCH", url, {"suspended": True}, key=platform).json["suspended"] is True
    try:
        for key, path in ((api.other_key, "/v1/payments"), (owner, "/v1/api-keys")):
            assert api.get(path, key=key).code == "merchant_suspended"
        assert api.get("/v1/users/me", key=owner).status == 200
    finally:
        assert api.request("PATCH", url, {"suspended": False}, key=platform).status == 200
    assert api.get("/v1/payments", key=api.other_key).status == 200


def test_a_manual_payment_can_be_captured_by_an_operator_and_not_by_a_viewer(api: Api) -> None:
    made = api.made("/v1/payments", MANUAL)
    api.world.run()
    url = f"/v1/payments/{made['id']}/capture"
    assert api.post(url, {}, key=api.token("viewer")).status == 403
    assert api.post(url, {}, key=api.token("operator")).status == 200
