"""What a hostile review had got through: who was sent away stays out, and who has seen a secret once keeps nothing."""

from __future__ import annotations

import time
from typing import Any

import pytest

from chalicelib.domain.people import PLATFORM
from chalicelib.providers import reasons
from chalicelib.services import people, sessions
from chalicelib.storage import people as people_rows
from chalicelib.storage.cache import Cache
from chalicelib.storage.people import People, next_version
from chalicelib.storage.store import Stale
from tests.support.access import ACTOR, make_user
from tests.support.api import CARD, PAYMENT, Answer, Api, api_fixture
from tests.support.aws import PREFIX
from tests.support.marks import PASSWORD
from tests.support.world import TENANT

api = api_fixture("function")


@pytest.fixture(autouse=True)
def _time_goes_on(api: Api) -> None:
    api.world.clock.time += 120


def member(api: Api, role: Any = "owner") -> tuple[Any, str]:
    """Somebody, and their access token."""
    user = make_user(api.world.kit, TENANT.merchant_id, role)
    return user, sessions.begin(api.world.kit, user).access


def change(api: Api, user: Any, token: str, **body: Any) -> Answer:
    return api.request("PATCH", f"/v1/users/{user.id}", body, key=token)


def set_password(api: Api, token: str) -> Answer:
    body = {"token": token, "password": "another fine one"}
    return api.request("POST", "/v1/auth/password", body, key=None)


def elsewhere(api: Api) -> People:
    """What another execution environment knows of people, which it may remember for a minute."""
    return People(PREFIX, api.world.kit.people._vault, Cache(api.world.clock, 60.0))


# -- who was sent away -----------------------------------------------------------------------------


def test_who_was_sent_away_changes_nothing_any_more_where_they_are_still_remembered(api: Api) -> None:
    (_, first), (gone, token) = member(api), member(api)
    other = make_user(api.world.kit, TENANT.merchant_id, "viewer")
    assert api.get("/v1/users/me", key=token).status == 200  # remembered here
    kit = api.world.kit
    there = elsewhere(api)
    known = there.user_now(TENANT.merchant_id, gone.id)
    assert known is not None
    there.change(next_version(known, kit.now(), status="disabled", signed_out_at=kit.now()))
    for method, path, body in (
        ("POST", "/v1/users", {"email": "x@canary.example", "role": "owner"}),
        ("POST", "/v1/api-keys", {"name": "mine", "mode": "live"}),
        ("PATCH", f"/v1/users/{other.id}", {"role": "owner"}),
        ("PATCH", "/v1/merchant", {"name": "Mine"}),
    ):
        assert api.request(method, path, body, key=token).code == "session_over", path
    assert api.get("/v1/users", key=first).status == 200


def test_of_two_owners_who_send_each_other_away_one_stays(api: Api) -> None:
    (one, first), (two, second) = member(api), member(api)
    kit = api.world.kit
    raced: list[int] = []
    begun: list[bool] = []

    class Raced(People):
        def change(self, user: Any, *args: Any, **kwargs: Any) -> None:
            if not begun:
                begun.append(True)
                raced.append(change(api, one, second, status="disabled").status)
            People.change(self, user, *args, **kwargs)

    store = kit.people
    store.__class__ = Raced
    try:
        status = change(api, two, first, status="disabled").status
    finally:
        store.__class__ = People
    assert raced == [200]
    assert status in (401, 403)
    active = [
        user.id for user in store.users(TENANT.merchant_id, limit=100, cursor=None).data if user.status == "active"
    ]
    assert two.id in active


# -- tokens that set a password --------------------------------------------------------------------


def test_an_invitation_is_void_once_its_role_changes(api: Api) -> None:
    (_, owner), (_, admin) = member(api), member(api, "admin")
    invited = api.request("POST", "/v1/users", {"email": "cfo@canary.example", "role": "viewer"}, key=admin).json
    promoted = api.request("PATCH", f"/v1/users/{invited['user']['id']}", {"role": "owner"}, key=owner)
    assert promoted.status == 200
    assert set_password(api, invited["token"]).code == "token_used"


def test_a_token_of_somebody_who_was_sent_away_sets_no_password(api: Api) -> None:
    (_, owner), (gone, admin), (colleague, _) = member(api), member(api, "admin"), member(api, "admin")
    reset = api.request("POST", f"/v1/users/{colleague.id}/reset-password", {}, key=admin).json
    invited = api.request("POST", "/v1/users", {"email": "late@canary.example", "role": "admin"}, key=admin).json
    assert change(api, gone, owner, status="disabled").status == 200
    for token in (reset["token"], invited["token"]):
        assert set_password(api, token).code == "token_used"


def test_nobody_resets_their_own_password_without_it(api: Api) -> None:
    user, token = member(api)
    assert api.request("POST", f"/v1/users/{user.id}/reset-password", {}, key=token).code == "forbidden"


# -- sessions --------------------------------------------------------------------------------------


def test_any_refresh_token_that_was_used_before_ends_its_session(api: Api) -> None:
    """However often a thief has refreshed since."""
    user = make_user(api.world.kit, TENANT.merchant_id)
    stolen = sessions.begin(api.world.kit, user).refresh
    thief = stolen
    for _ in range(3):
        answer = api.request("POST", "/v1/auth/refresh", {"refresh_token": thief}, key=None)
        assert answer.status == 200
        thief = answer.json["refresh_token"]
    assert api.request("POST", "/v1/auth/refresh", {"refresh_token": stolen}, key=None).code == "session_over"
    assert api.request("POST", "/v1/auth/refresh", {"refresh_token": thief}, key=None).code == "session_over"


def test_a_refresh_token_that_is_none_of_ours_ends_nothing(api: Api) -> None:
    user = make_user(api.world.kit, TENANT.merchant_id)
    good = sessions.begin(api.world.kit, user).refresh
    session_id = good.partition(".")[0]
    for wrong in ("x" * 43 + "." + "y" * 43, "x", good.partition(".")[2][::-1]):
        body = {"refresh_token": f"{session_id}.{wrong}"}
        assert api.request("POST", "/v1/auth/refresh", body, key=None).code == "session_over"
    assert api.request("POST", "/v1/auth/refresh", {"refresh_token": good}, key=None).status == 200


def test_a_log_in_that_began_before_a_new_password_does_not_outlive_it(api: Api) -> None:
    kit = api.world.kit
    user = make_user(kit, TENANT.merchant_id)
    verified = sessions._verified(kit, user.email, PASSWORD, "203.0.113.9", ACTOR)
    api.world.clock.time += 1
    _, token = people._with_token(verified, kit.now(), 60)
    _, reset = people.reset(kit, _caller(api), user.id, by=ACTOR)
    assert set_password(api, reset).status == 200
    assert token
    api.world.clock.time += 1
    late = sessions.begin(kit, verified)
    assert api.get("/v1/users/me", key=late.access).code == "session_over"


def _caller(api: Api) -> Any:
    _, token = member(api)
    return sessions.caller_of_token(api.world.kit, token, "test")


@pytest.mark.parametrize("length", [30, 3000])
def test_a_made_up_session_costs_no_read_and_no_500(api: Api, length: int) -> None:
    api.get("/v1/users/me", key=None, headers={"Cookie": "__Host-railyard=x.y"})  # what hashes addresses is known now
    api.watch()
    answer = api.get("/v1/users/me", key=None, headers={"Cookie": f"__Host-railyard={'x' * length}.y"})
    assert answer.status == 401
    assert "GetItem" not in api.calls


# -- what costs much -------------------------------------------------------------------------------


def test_a_providers_long_reason_costs_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pattern that looks at every start of a long text for an @ takes the square of its length."""
    started = time.process_time()
    error = reasons.error_of(reasons.ISSUER, "x" * 250_000)
    assert len(error.provider_code or "") <= 100
    assert time.process_time() - started < 1  # it had taken minutes


def test_a_page_of_people_asks_kms_for_nothing(api: Api) -> None:
    _, token = member(api)
    for _ in range(5):
        member(api)
    api.get("/v1/users", key=token)
    vault: Any = api.world.kit.people._vault
    vault.opened = 0
    assert len(api.get("/v1/users?limit=100", key=token).json["data"]) >= 6
    assert vault.opened == 0


def test_a_weak_new_password_is_refused_before_anything_is_hashed(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    _, token = member(api)

    def expensive(*_: object) -> bool:
        raise AssertionError("hashed")

    monkeypatch.setattr("chalicelib.domain.passwords.matches", expensive)
    body = {"current_password": PASSWORD, "password": "short"}
    assert api.request("PATCH", "/v1/users/me", body, key=token).code == "weak_password"


def test_large_rules_leave_a_small_line(api: Api) -> None:
    _, token = member(api)
    vpas = [f"somebody{n}@bank" for n in range(1000)]
    for number in range(3):
        version = api.get("/v1/risk").json["version"]
        body = {"rules": {"block": {"vpas": vpas[number:]}}, "version": version}
        assert api.request("PUT", "/v1/risk", body).status == 200
    page = api.get("/v1/audit?limit=100&action=risk.changed", key=token)
    assert len(page.json["data"]) == 3
    assert len(page.body) < 50_000
    newest = page.json["data"][0]
    assert newest["action"] == "risk.changed"
    assert "somebody0@bank" not in page.body.decode()


# -- locking out -----------------------------------------------------------------------------------


def log_in(api: Api, email: str, password: str, ip: str) -> Answer:
    """As the API would answer; its gateway here knows one address only."""
    kit = api.world.kit
    try:
        sessions._verified(kit, email, password, ip, ACTOR)
    except Exception as error:  # noqa: BLE001 - what the API would answer
        return Answer(getattr(error, "status", 500), {}, b"{}")
    return Answer(200, {}, b"{}")


def test_somebody_elses_wrong_passwords_do_not_lock_one_out(api: Api) -> None:
    user = make_user(api.world.kit, TENANT.merchant_id)
    for _ in range(60):
        log_in(api, user.email, "wrong wrong", "203.0.113.66")
        api.world.clock.time += 2
    assert log_in(api, user.email, "wrong wrong", "203.0.113.66").status == 429
    assert log_in(api, user.email, PASSWORD, "198.51.100.7").status == 200


def test_a_new_password_can_be_used_at_once(api: Api) -> None:
    user = make_user(api.world.kit, TENANT.merchant_id)
    for _ in range(7):
        log_in(api, user.email, "wrong wrong", "127.0.0.1")
    _, token = people.reset(api.world.kit, _caller(api), user.id, by=ACTOR)
    assert set_password(api, token).status == 200
    assert log_in(api, user.email, "another fine one", "198.51.100.7").status == 200


def test_guessing_from_everywhere_is_slowed_down_too(api: Api) -> None:
    user = make_user(api.world.kit, TENANT.merchant_id)
    said = [log_in(api, user.email, "wrong wrong", f"203.0.{n // 250}.{n % 250 + 1}").status for n in range(220)]
    assert said[:200] == [401] * 200
    assert 429 in said[200:]


def test_a_publishable_keys_bucket_is_each_shoppers_own(api: Api) -> None:
    from chalicelib.api.http import bucket_of  # noqa: PLC0415 - only here

    kit = api.world.kit
    caller = kit.keys.authenticate(api.key, kit.now())
    assert caller is not None
    assert bucket_of(kit, caller, "203.0.113.1") == bucket_of(kit, caller, "203.0.113.2")
    shopper = type(caller)(caller.id, "publishable_key", caller.tenant, caller.scopes)
    assert bucket_of(kit, shopper, "203.0.113.1") != bucket_of(kit, shopper, "203.0.113.2")
    assert TENANT.merchant_id != PLATFORM


# -- what is answered ------------------------------------------------------------------------------


def test_a_mode_that_was_never_set_up_is_no_failure_of_ours(api: Api) -> None:
    kit = api.world.kit
    user = make_user(kit, "mer_01OTHER")  # which has a test mode only
    token = sessions.begin(kit, user).access
    for path, body in (("/v1/payments", PAYMENT), ("/v1/tokens", CARD)):
        answer = api.post(path, body, key=token, headers={"Railyard-Mode": "live"})
        assert (answer.status, answer.code) == (409, "mode_not_set_up")


def test_a_write_that_was_lost_is_not_called_a_taken_email(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    _, token = member(api)

    def lost(*_: object, **__: object) -> None:
        raise Stale("throttled")

    monkeypatch.setattr(people_rows, "write_all", lost)
    answer = api.request("POST", "/v1/users", {"email": "free@canary.example", "role": "viewer"}, key=token)
    assert (answer.status, answer.code) == (429, "too_many_concurrent_changes")


def test_invitations_are_limited_by_merchant(api: Api) -> None:
    _, token = member(api)
    said = [
        api.request("POST", "/v1/users", {"email": f"n{n}@canary.example", "role": "viewer"}, key=token).status
        for n in range(60)
    ]
    assert said.count(201) == 50
    assert said[-1] == 429


def test_what_tells_who_somebody_is_stays_in_no_cache(api: Api) -> None:
    _, token = member(api)
    for path in ("/v1/users/me", "/v1/users"):
        answer = api.get(path, key=token)
        assert answer.headers["cache-control"] == "no-store"
        assert "etag" not in answer.headers
