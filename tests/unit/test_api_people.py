"""People, keys, the merchant's profile, the platform, and the log of who did what."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError
from pydantic import TypeAdapter
from pynamodb.exceptions import UpdateError

from chalicelib.api import people_outputs
from chalicelib.domain.access import KEY_SCOPES, may_give
from chalicelib.domain.people import PLATFORM
from chalicelib.services import people
from chalicelib.storage import keys as keys_module
from chalicelib.storage.cache import Cache
from chalicelib.storage.keys import Keys, digest_of, new_key
from tests.support.access import make_key, make_user
from tests.support.api import CARD, MANUAL, OTHER, PAYMENT, Answer, Api, api_fixture
from tests.support.aws import PREFIX
from tests.support.marks import PASSWORD
from tests.support.world import TENANT

api = api_fixture("function")


@pytest.fixture
def owner(api: Api) -> str:
    return api.token("owner")


def made(answer: Answer, model: str, status: int = 201) -> dict[str, Any]:
    """What was answered, held to its schema."""
    assert answer.status == status, answer
    getattr(people_outputs, model).model_validate_json(answer.body)
    shown: dict[str, Any] = answer.json
    return shown


def audit(api: Api, owner: str, query: str = "") -> list[dict[str, Any]]:
    answer = api.get(f"/v1/audit?limit=100{query}", key=owner)
    return made(answer, "AuditEntryList", 200)["data"]  # type: ignore[no-any-return]  # lines


# -- keys ------------------------------------------------------------------------------------------


def new(api: Api, owner: str, **body: Any) -> dict[str, Any]:
    return made(api.request("POST", "/v1/api-keys", {"name": "backend", **body}, key=owner), "NewApiKey")


def test_a_secret_is_shown_once_and_stored_as_a_hash(api: Api, owner: str) -> None:
    key = new(api, owner)
    secret = key.pop("secret")
    assert made(api.get(f"/v1/api-keys/{key['id']}", key=owner), "ApiKey", 200) == key
    stored = "".join(str(table.partitions) for table in api.world.dynamo.tables.values())
    assert secret not in stored
    assert secret[8:40] not in stored
    assert digest_of(secret) in stored
    assert secret not in str(audit(api, owner))
    assert api.get("/v1/payments", key=secret).status == 200


def test_a_typing_error_costs_no_read(api: Api) -> None:
    assert api.get("/v1/payments", key="sk_test_wrong").status == 401  # what hashes addresses is known now
    for position in range(8, 80, 7):
        typed = "0" if api.key[position] != "0" else "1"
        api.watch()
        assert api.get("/v1/payments", key=api.key[:position] + typed + api.key[position + 1 :]).status == 401
        assert [call for call in api.calls if call != "UpdateItem"] == []  # but for the limit on wrong ones


def test_a_key_has_the_scopes_it_was_made_with(api: Api, owner: str) -> None:
    key = new(api, owner, scopes=["payments:read"])
    assert key["scopes"] == ["payments:read"]
    assert api.get("/v1/payments", key=key["secret"]).status == 200
    assert api.post("/v1/payments", PAYMENT, key=key["secret"]).code == "forbidden"
    assert set(new(api, owner)["scopes"]) == KEY_SCOPES


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({"scopes": ["payments:read", "keys:write"]}, "scopes.1", "unknown_scope"),
        ({"scopes": ["payments:everything"]}, "scopes.0", "unknown_scope"),
        ({"type": "publishable", "scopes": ["payments:read"]}, "scopes.0", "unknown_scope"),
        ({"scopes": []}, "scopes", "invalid_field"), ({"scopes": ["*"]}, "scopes.0", "invalid_field"),
        ({"type": "root"}, "type", "invalid_field"), ({"name": ""}, "name", "invalid_field"),
        ({"mode": "both"}, "mode", "invalid_field"),
    ],
)  # fmt: skip
def test_a_wrong_key_is_refused_by_field(api: Api, owner: str, body: dict[str, Any], param: str, code: str) -> None:
    before = api.snapshot()
    answer = api.request("POST", "/v1/api-keys", {"name": "k", **body}, key=owner)
    assert (answer.status, answer.json["param"], answer.code) == (422, param, code)
    assert api.snapshot() == before


def test_a_publishable_key_makes_tokens_and_brings_proofs_and_sees_nothing_of_the_customer(
    api: Api, owner: str
) -> None:
    key = new(api, owner, type="publishable")["secret"]
    assert key.startswith("pk_test_")
    assert api.made("/v1/tokens", CARD, key=key)["object"] == "token"
    payment = api.paid(
        customer={"email": "asha@canary.example", "contact": "+919876543210"}, metadata={"cart": "secret"}
    )
    shown = api.post(f"/v1/payments/{payment['id']}/verify", {"proof": "x"}, key=key, idem=None)
    for hidden in ("asha", "9876543210", "cart", "secret"):
        assert hidden not in shown.body.decode()
    full = api.post(f"/v1/payments/{payment['id']}/verify", {"proof": "x"}, idem=None)
    assert full.status == shown.status
    if shown.status == 200:
        assert shown.json["status"] == full.json["status"]
        assert set(shown.json) == set(full.json)


def test_two_keys_are_active_while_one_takes_the_others_place(api: Api, owner: str) -> None:
    old = new(api, owner, scopes=["payments:read"])
    url = f"/v1/api-keys/{old['id']}"
    fresh = made(api.request("POST", f"{url}/rotate", {"overlap": 300}, key=owner), "NewApiKey")
    assert (fresh["replaces"], fresh["scopes"], fresh["name"]) == (old["id"], old["scopes"], old["name"])
    for key in (old, fresh):
        assert api.get("/v1/payments", key=key["secret"]).status == 200
    for third in (url, f"/v1/api-keys/{fresh['id']}"):
        assert api.request("POST", f"{third}/rotate", {}, key=owner).code == "key_rotating"
    api.world.clock.time += 301
    assert api.get("/v1/payments", key=old["secret"]).status == 401
    assert api.get("/v1/payments", key=fresh["secret"]).status == 200
    assert api.request("POST", f"{url}/rotate", {}, key=owner).code == "key_inactive"
    assert api.request("POST", f"/v1/api-keys/{fresh['id']}/rotate", {}, key=owner).status == 201


def test_a_revoked_key_opens_nothing_within_a_minute_anywhere(api: Api, owner: str) -> None:
    key = new(api, owner)
    elsewhere = Keys(PREFIX, Cache(api.world.clock, 60.0))
    assert elsewhere.authenticate(key["secret"], api.world.clock()) is not None
    assert api.get("/v1/payments", key=key["secret"]).status == 200
    for _ in range(2):  # twice is once
        shown = made(api.request("DELETE", f"/v1/api-keys/{key['id']}", key=owner), "ApiKey", 200)
        assert shown["active"] is False
    assert api.get("/v1/payments", key=key["secret"]).status == 401
    api.world.clock.time += 59.9
    assert elsewhere.authenticate(key["secret"], api.world.clock()) is not None
    api.world.clock.time += 0.1
    assert elsewhere.authenticate(key["secret"], api.world.clock()) is None
    assert [line["action"] for line in audit(api, owner, f"&object_id={key['id']}")] == [
        "api_key.revoked", "api_key.created",
    ]  # fmt: skip


def test_when_a_key_was_last_used_is_known_to_the_hour(api: Api, owner: str) -> None:
    key = new(api, owner)
    url = f"/v1/api-keys/{key['id']}"
    assert key["last_used_at"] is None
    api.watch()
    for _ in range(3):
        api.get("/v1/payments", key=key["secret"])
    used = api.get(url, key=owner).json["last_used_at"]
    assert used is not None
    api.world.clock.time += 3599
    api.get("/v1/payments", key=key["secret"])
    assert api.get(url, key=api.token()).json["last_used_at"] == used
    api.world.clock.time += 2
    api.get("/v1/payments", key=key["secret"])
    assert api.get(url, key=api.token()).json["last_used_at"] > used


def test_a_key_opens_though_nobody_can_write_down_that_it_is_used(
    api: Api, owner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = new(api, owner)["secret"]

    def unreachable(*_: object) -> bool:
        raise UpdateError("throttled", cause=ClientError({"Error": {"Code": "InternalServerError"}}, "UpdateItem"))

    monkeypatch.setattr(keys_module, "change_if", unreachable)
    assert api.get("/v1/payments", key=key).status == 200


def test_keys_are_listed_by_mode_page_by_page(api: Api, owner: str) -> None:
    ids = []
    for number in range(5):
        api.world.clock.time += 1
        ids.append(new(api, owner, name=f"key {number}")["id"])
    new(api, owner, mode="live", name="live one")
    found: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = made(api.get(f"/v1/api-keys?limit=2{cursor and '&cursor=' + cursor}", key=owner), "ApiKeyList", 200)
        found += [key["id"] for key in page["data"] if key["name"].startswith("key ")]
        assert all("secret" not in key for key in page["data"])
        cursor = page["next_cursor"]
    assert found == ids[::-1]
    live = api.get("/v1/api-keys", key=owner, headers={"Railyard-Mode": "live"}).json["data"]
    assert [key["name"] for key in live if key["name"] == "live one"] == ["live one"]


def test_a_key_gets_another_name(api: Api, owner: str) -> None:
    key = new(api, owner)
    url = f"/v1/api-keys/{key['id']}"
    for _ in range(2):
        assert made(api.request("PATCH", url, {"name": "frontend"}, key=owner), "ApiKey", 200)["name"] == "frontend"
    (line,) = audit(api, owner, "&action=api_key.renamed")
    assert (line["before"], line["after"]) == ({"name": "backend"}, {"name": "frontend"})


def test_a_key_of_before_there_were_lists_opens_as_ever(api: Api) -> None:
    key, secret = new_key(TENANT, "old", "secret", None, api.world.clock())
    from chalicelib.storage.items import ApiKeyItem  # noqa: PLC0415 - as an earlier release wrote it

    ApiKeyItem(
        f"key/{key.digest}", "key", id=key.id, merchant_id=TENANT.merchant_id, mode="test", name="old", hint=key.hint,
        created_at=key.created_at,
    ).save()  # fmt: skip
    assert api.get("/v1/payments", key=secret).status == 200


# -- people ----------------------------------------------------------------------------------------


def invite(api: Api, by: str, email: str = "new@canary.example", role: str = "viewer") -> dict[str, Any]:
    answer = api.request("POST", "/v1/users", {"email": email, "role": role, "name": "New One"}, key=by)
    return made(answer, "Invitation")


def set_password(api: Api, token: str, password: str = PASSWORD) -> Answer:
    return api.request("POST", "/v1/auth/password", {"token": token, "password": password}, key=None)


def test_who_is_invited_gets_in_with_the_token_once(api: Api, owner: str) -> None:
    invited = invite(api, owner)
    assert invited["user"]["status"] == "invited"
    login = {"email": "new@canary.example", "password": PASSWORD}
    assert api.request("POST", "/v1/auth/login", login, key=None).status == 401
    assert set_password(api, invited["token"], "short").code == "weak_password"
    assert made(set_password(api, invited["token"]), "User", 200)["status"] == "active"
    assert set_password(api, invited["token"], "another fine one").code == "token_used"
    api.world.clock.time += 5
    answer = api.request("POST", "/v1/auth/login", login, key=None)
    assert answer.json["user"]["role"] == "viewer"


@pytest.mark.parametrize("wrong", ["x", "a/b/c", "bWVyXzE", "bWVyXzEvdXNyXzEveA", "===", "%"])
def test_what_is_no_token_sets_no_password(api: Api, wrong: str) -> None:
    assert set_password(api, wrong).code in ("token_used", "invalid_field")


def test_an_invitation_and_a_reset_end(api: Api, owner: str) -> None:
    invited = invite(api, owner)
    api.world.clock.time += 7 * 86_400 + 1
    assert set_password(api, invited["token"]).code == "token_used"
    owner = api.token()
    url = f"/v1/users/{invited['user']['id']}/reset-password"
    again = made(api.request("POST", url, {}, key=owner), "Invitation", 200)
    assert set_password(api, invited["token"]).code == "token_used"
    assert set_password(api, again["token"]).status == 200
    reset = made(api.request("POST", url, {}, key=owner), "Invitation", 200)
    api.world.clock.time += 3601
    assert set_password(api, reset["token"]).code == "token_used"


def test_a_new_password_ends_every_session(api: Api, owner: str) -> None:
    user = make_user(api.world.kit, TENANT.merchant_id)
    login = {"email": user.email, "password": PASSWORD}
    old = api.request("POST", "/v1/auth/login", login, key=None).json
    api.world.clock.time += 1
    body = {"current_password": PASSWORD, "password": "another fine one"}
    wrong = api.request("PATCH", "/v1/users/me", body | {"current_password": "x" * 12}, key=old["access_token"])
    assert wrong.code == "wrong_credentials"
    api.world.clock.time += 1
    assert api.request("PATCH", "/v1/users/me", {"password": "y" * 12}, key=old["access_token"]).status == 422
    assert api.request("PATCH", "/v1/users/me", body, key=old["access_token"]).status == 200
    assert api.get("/v1/users/me", key=old["access_token"]).code == "session_over"
    refreshed = api.request("POST", "/v1/auth/refresh", {"refresh_token": old["refresh_token"]}, key=None)
    assert refreshed.code == "session_over"
    api.world.clock.time += 1
    assert api.request("POST", "/v1/auth/login", login, key=None).status == 401
    assert api.request("POST", "/v1/auth/login", login | {"password": "another fine one"}, key=None).status == 200


@pytest.mark.parametrize(
    ("giver", "role", "may"),
    [
        ("owner", "owner", True), ("owner", "viewer", True), ("admin", "owner", False), ("admin", "admin", True),
        ("operator", "viewer", False), ("viewer", "viewer", False), ("owner", "platform", False),
        ("platform", "owner", False),
    ],
)  # fmt: skip
def test_who_may_give_which_role(giver: Any, role: Any, may: object) -> None:
    assert may_give(giver, role) is may


def test_an_admin_cannot_make_take_or_reset_an_owner(api: Api, owner: str) -> None:
    admin, other = api.token("admin"), make_user(api.world.kit, TENANT.merchant_id, "owner")
    url = f"/v1/users/{other.id}"
    body = {"email": "o@canary.example", "role": "owner"}
    assert api.request("POST", "/v1/users", body, key=admin).code == "forbidden"
    for change in ({"role": "viewer"}, {"status": "disabled"}):
        assert api.request("PATCH", url, change, key=admin).code == "forbidden"
    assert api.request("POST", f"{url}/reset-password", {}, key=admin).code == "forbidden"
    viewer = make_user(api.world.kit, TENANT.merchant_id, "viewer")
    assert api.request("PATCH", f"/v1/users/{viewer.id}", {"role": "owner"}, key=admin).code == "forbidden"
    assert api.request("PATCH", f"/v1/users/{viewer.id}", {"role": "operator"}, key=admin).status == 200
    assert api.request("PATCH", url, {"role": "viewer"}, key=owner).status == 200


def test_nobody_changes_their_own_role(api: Api) -> None:
    user = make_user(api.world.kit, TENANT.merchant_id, "owner")
    token = api.request("POST", "/v1/auth/login", {"email": user.email, "password": PASSWORD}, key=None).json
    for change in ({"role": "viewer"}, {"status": "disabled"}):
        answer = api.request("PATCH", f"/v1/users/{user.id}", change, key=token["access_token"])
        assert answer.code == "forbidden"


def test_people_of_another_merchant_do_not_exist(api: Api, owner: str) -> None:
    stranger = make_user(api.world.kit, OTHER.merchant_id)
    assert api.get(f"/v1/users/{stranger.id}", key=owner).code == "user_not_found"
    assert stranger.id not in api.get("/v1/users?limit=100", key=owner).body.decode()
    answer = api.request("POST", "/v1/users", {"email": stranger.email, "role": "viewer"}, key=owner)
    assert answer.code == "email_taken"  # an email signs in one person


def test_what_tells_who_somebody_is_lies_sealed(api: Api) -> None:
    """The vault of these tests seals nothing: what is not in it must not be there in clear."""
    user = make_user(api.world.kit, TENANT.merchant_id, email="sealed@canary.example")
    rows = [row for row in api.world.dynamo.tables["railyard-local-merchants"].items() if user.id in str(row)]
    for row in rows:
        clear = {name: value for name, value in row.items() if name != "sealed"}
        assert "sealed@canary" not in str(clear)
        assert "Asha" not in str(clear)


def test_people_are_listed_page_by_page(api: Api, owner: str) -> None:
    ids = {invite(api, owner, f"n{n}@canary.example")["user"]["id"] for n in range(5)}
    found: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = made(api.get(f"/v1/users?limit=2{cursor and '&cursor=' + cursor}", key=owner), "UserList", 200)
        found += [user["id"] for user in page["data"]]
        cursor = page["next_cursor"]
    assert len(found) == len(set(found))
    assert ids < set(found)


# -- the merchant and the platform -----------------------------------------------------------------


def test_a_profile_is_changed_by_its_people_and_its_plan_by_the_platform(api: Api, owner: str) -> None:
    changed = made(
        api.request("PATCH", "/v1/merchant", {"name": "Asha's", "origins": ["https://shop.example"]}, key=owner),
        "Merchant", 200,
    )  # fmt: skip
    assert (changed["name"], changed["origins"]) == ("Asha's", ["https://shop.example"])
    platform = api.token("platform", PLATFORM)
    url = f"/v1/merchants/{TENANT.merchant_id}"
    assert made(api.request("PATCH", url, {"plan": "starter"}, key=platform), "Merchant", 200)["plan"] == "starter"
    listed = made(api.get("/v1/merchants?limit=100", key=platform), "MerchantList", 200)["data"]
    assert {one["id"] for one in listed} == {TENANT.merchant_id, OTHER.merchant_id}
    assert api.get("/v1/merchants/mer_nobody", key=platform).code == "merchant_not_found"
    assert api.get("/v1/payments", key=platform).code == "forbidden"
    (line,) = audit(api, owner, "&action=merchant.changed")[:1]
    assert (line["before"], line["after"]) == ({"plan": "scale"}, {"plan": "starter"})
    assert line["actor_type"] == "user"


@pytest.mark.parametrize(
    "origin",
    [
        "http://shop.example", "https://shop.example/", "https://shop.example/path", "shop.example", "*", "null",
        "https://Shop.example", "https://shop.example\r\nX: y", "https://*.example", "javascript:alert(1)",
    ],
)  # fmt: skip
def test_a_wrong_origin_is_refused_by_place(api: Api, owner: str, origin: str) -> None:
    answer = api.request("PATCH", "/v1/merchant", {"origins": ["https://a.example", origin]}, key=owner)
    assert (answer.status, answer.json["param"]) == (422, "origins.1")


def test_a_platforms_person_is_made_where_the_table_can_be_written(api: Api) -> None:
    kit = api.world.kit
    user, token = people.appoint(kit.people, PLATFORM, "Op@platform.example", kit.now(), 60)
    assert set_password(api, token).status == 200
    assert user.role == "platform"
    login = {"email": "op@platform.example", "password": PASSWORD}
    answer = api.request("POST", "/v1/auth/login", login, key=None)
    assert api.get("/v1/merchants", key=answer.json["access_token"]).status == 200
    assert api.get("/v1/api-keys", key=answer.json["access_token"]).code == "forbidden"


# -- pages of others -------------------------------------------------------------------------------


@pytest.fixture
def browser(api: Api, owner: str) -> str:
    """A publishable key of a merchant that has registered https://shop.example."""
    assert api.request("PATCH", "/v1/merchant", {"origins": ["https://shop.example"]}, key=owner).status == 200
    return make_key(TENANT, kind="publishable")


def test_a_registered_page_may_make_tokens(api: Api, browser: str) -> None:
    origin = {"Origin": "https://shop.example"}
    asked = api.request("OPTIONS", "/v1/tokens", key=None, headers=origin | {"Access-Control-Request-Method": "POST"})
    assert asked.status == 204
    assert asked.headers["access-control-allow-origin"] == "https://shop.example"
    assert "POST" in asked.headers["access-control-allow-methods"]
    assert "Authorization" in asked.headers["access-control-allow-headers"]
    assert asked.headers["vary"] == "Origin"
    answer = api.post("/v1/tokens", CARD, key=browser, headers=origin)
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (201, "https://shop.example")
    wrong = api.post("/v1/tokens", {}, key=browser, headers=origin)
    assert (wrong.status, wrong.headers["access-control-allow-origin"]) == (422, "https://shop.example")
    assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "https://shop.example.evil.example", "null", "http://shop.example"]
)
def test_another_page_may_not(api: Api, browser: str, origin: str) -> None:
    asked = api.request("OPTIONS", "/v1/tokens", key=None, headers={"Origin": origin})
    assert not [name for name in asked.headers if name.startswith("access-control")]
    answer = api.post("/v1/tokens", CARD, key=browser, headers={"Origin": origin})
    assert (answer.status, answer.code) == (403, "origin_not_allowed")
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_only_what_a_publishable_key_can_do_is_shared(api: Api, browser: str) -> None:
    for path in ("/v1/payments", "/v1/api-keys", "/v1/auth/login", "/v1/refunds"):
        for answer in (
            api.request("OPTIONS", path, key=None, headers={"Origin": "https://shop.example"}),
            api.get(path, headers={"Origin": "https://shop.example"}),
        ):
            assert not [name for name in answer.headers if name.startswith("access-control")], path


def test_one_merchants_origin_is_not_anothers(api: Api, browser: str) -> None:
    theirs = make_key(OTHER, kind="publishable")
    answer = api.post("/v1/tokens", CARD, key=theirs, headers={"Origin": "https://shop.example"})
    assert answer.code == "origin_not_allowed"


def test_an_origin_that_was_taken_away_is_not_shared_any_more(api: Api, browser: str, owner: str) -> None:
    assert api.request("PATCH", "/v1/merchant", {"origins": []}, key=owner).status == 200
    api.world.clock.time += 61
    asked = api.request("OPTIONS", "/v1/tokens", key=None, headers={"Origin": "https://shop.example"})
    assert "access-control-allow-origin" not in asked.headers


# -- limits and reading again ----------------------------------------------------------------------


def test_a_plans_limit_is_told_and_held(api: Api) -> None:
    api.request(
        "PATCH", f"/v1/merchants/{TENANT.merchant_id}", {"plan": "starter"}, key=api.token("platform", PLATFORM)
    )
    answers = [api.get("/v1/orders") for _ in range(60)]
    first, last = answers[0], answers[-1]
    assert first.headers["ratelimit-policy"] == '"default";q=50;w=5'
    assert first.headers["ratelimit"] == '"default";r=49;t=1'
    assert [answer.status for answer in answers].count(200) == 50
    assert (last.status, last.code) == (429, "rate_limited")
    assert last.headers["retry-after"] == "1"
    assert last.headers["ratelimit"].startswith('"default";r=0')
    assert api.get("/v1/orders", key=make_key(TENANT)).status == 200  # each key has its own
    api.world.clock.time += 1
    assert api.get("/v1/orders").status == 200


def test_wrong_credentials_from_one_address_wait(api: Api) -> None:
    statuses = [api.get("/v1/orders", key="sk_test_" + "0" * 72).status for _ in range(70)]
    assert statuses == [401] * 60 + [429] * 10
    assert api.get("/v1/orders").status == 200  # who has the right ones does not


def test_what_has_not_changed_is_not_sent_again(api: Api) -> None:
    payment = api.paid()
    url = f"/v1/payments/{payment['id']}"
    first = api.get(url)
    tag = first.headers["etag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = api.get(url, headers={"If-None-Match": known})
        assert (again.status, again.body, again.headers["etag"]) == (304, b"", tag)
    assert api.request("HEAD", url).headers["etag"] == tag
    api.made(f"{url}/refunds", {"amount": 1})
    changed = api.get(url, headers={"If-None-Match": tag})
    assert changed.status == 200
    assert changed.headers["etag"] != tag
    assert "etag" not in api.get(f"{url}x").headers
    assert "etag" not in api.post("/v1/orders", {"amount": 1, "currency": "INR"}).headers


# -- the audit log ---------------------------------------------------------------------------------


def test_who_did_what_when_from_where_before_and_after(api: Api, owner: str) -> None:
    payment = api.paid()
    refund = api.made(f"/v1/payments/{payment['id']}/refunds", {"amount": 700, "reason": "wrong size"})
    (line,) = audit(api, owner, f"&object_id={refund['id']}")
    assert (line["action"], line["actor_type"], line["mode"]) == ("refund.created", "secret_key", "test")
    assert line["actor_id"].startswith("key_")
    assert line["request_id"].startswith("req_")
    assert line["ip"] == "127.0.0.1"
    assert (line["before"]["amount_refundable"], line["after"]["amount_refundable"]) == (149_900, 149_200)
    assert (line["after"]["amount"], line["after"]["reason"]) == (700, "wrong size")


def test_everything_that_is_set_or_decided_has_its_line(api: Api, owner: str) -> None:
    wanted = {
        "api_key.created", "user.invited", "merchant.changed", "provider_account.connected", "provider_account.rotated",
        "provider_account.disabled", "provider_account.enabled", "risk.changed", "routing.changed", "breaker.held",
        "breaker.released", "capture.created", "payment.canceled", "refund.created", "payment.approved",
        "payment.rejected",
    }  # fmt: skip
    api.made(f"/v1/payments/{api.paid()['id']}/refunds", {"amount": 1})
    manual = api.made("/v1/payments", MANUAL)
    waiting = api.made("/v1/payments", MANUAL)
    api.world.run()
    owner = api.token()
    new(api, owner)
    invite(api, owner)
    api.request("PATCH", "/v1/merchant", {"name": "Other"}, key=owner)
    account = {
        "provider": "simulator",
        "credentials": {"api_key": "k-secret-1", "api_secret": "s-secret-1", "webhook_secret": "w-secret-1"},
    }
    url = f"/v1/provider-accounts/{api.made('/v1/provider-accounts', account)['id']}"
    api.made(f"{url}/rotate-secret", {"credentials": {"api_key": "k-secret-2"}})
    api.made(f"{url}/disable", {}, idem=None)
    api.made(f"{url}/enable", {}, idem=None)
    for book, rules in (("risk", {"rules": {"review_score": 33}}), ("routing", {"rules": []})):
        version = api.get(f"/v1/{book}").json["version"]
        assert api.request("PUT", f"/v1/{book}", {**rules, "version": version}).status == 200
    for state in ("open", "auto"):
        body = {"method": "upi", "state": state, "reason": "drill"}
        assert api.post("/v1/providers/simulator/breaker", body, idem=None).status == 200
    api.made(f"/v1/payments/{manual['id']}/capture", {})
    api.made(f"/v1/payments/{waiting['id']}/cancel", {})
    doubtful = PAYMENT | {"customer": {"country": "NP"}}
    risk = api.get("/v1/risk").json
    back = {"rules": {"review_countries": ["NP"]}, "version": risk["version"]}
    assert api.request("PUT", "/v1/risk", back).status == 200
    for decision in ("approve", "reject"):
        made_ = api.made("/v1/payments", doubtful)
        assert made_["status"] == "requires_review", made_
        api.made(f"/v1/payments/{made_['id']}/review", {"decision": decision})
    lines = audit(api, api.token())
    assert wanted <= {line["action"] for line in lines}
    for secret in ("k-secret", "s-secret", "w-secret"):
        assert secret not in str(lines)
    assert lines == sorted(lines, key=lambda line: line["id"], reverse=True)


def test_what_changes_nothing_or_fails_leaves_no_line(api: Api, owner: str) -> None:
    before = audit(api, owner)
    api.post("/v1/payments/pay_" + "0" * 26 + "/refunds", {"amount": 1})
    api.request("PATCH", "/v1/merchant", {}, key=owner)
    api.request("POST", "/v1/api-keys", {"name": "k", "scopes": ["x:y"]}, key=owner)
    assert audit(api, owner) == before


def test_a_line_and_what_it_tells_of_are_there_together_or_not_at_all(api: Api, owner: str) -> None:
    """Each change is one transaction, the line among its items."""
    api.watch()
    key = new(api, owner)
    traffic = api.world.traffic or []
    (written,) = [body for operation, body, _ in traffic if operation == "TransactWriteItems"]
    kinds = {put["Put"]["Item"]["kind"]["S"] for put in written["TransactItems"]}
    assert kinds == {"api_key", "api_key_entry", "audit"}
    audits = [put["Put"] for put in written["TransactItems"] if put["Put"]["Item"]["kind"]["S"] == "audit"]
    assert all("attribute_not_exists" in put["ConditionExpression"] for put in audits)  # never written over
    assert key["id"] in str(written)


def test_the_log_is_the_merchants_and_the_modes(api: Api, owner: str) -> None:
    new(api, owner, mode="live", name="live one")
    assert "live" not in {line["mode"] for line in audit(api, owner)}
    live = api.get("/v1/audit", key=owner, headers={"Railyard-Mode": "live"}).json["data"]
    assert "api_key.created" in {line["action"] for line in live if line["mode"] == "live"}
    theirs = api.get("/v1/audit?limit=100", key=api.token("owner", OTHER.merchant_id)).json["data"]
    assert not {line["id"] for line in theirs} & {line["id"] for line in audit(api, owner)}


def test_the_log_is_read_page_by_page(api: Api, owner: str) -> None:
    for number in range(5):
        new(api, owner, name=f"n{number}")
    found: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        answer = api.get(f"/v1/audit?limit=2&action=api_key.created{cursor and '&cursor=' + cursor}", key=owner)
        page = made(answer, "AuditEntryList", 200)
        found += [line["id"] for line in page["data"]]
        cursor = page["next_cursor"]
    assert len(found) == len(set(found)) == len(audit(api, owner, "&action=api_key.created"))


def test_outputs_are_what_they_are_described_as() -> None:
    """A schema that took anything would prove nothing above."""
    with pytest.raises(ValueError, match="secret"):
        TypeAdapter(people_outputs.ApiKey).validate_python({"id": "x", "secret": "y"})
