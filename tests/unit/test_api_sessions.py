"""Signing in and staying in, and everything that somebody who should not might try."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime
from http.cookies import SimpleCookie
from typing import TYPE_CHECKING, Any

import jwt
import pytest

from chalicelib.api import auth
from chalicelib.api.openapi import routes
from chalicelib.domain import passwords
from chalicelib.domain.access import KEY_SCOPES
from chalicelib.domain.errors import InvalidRequest
from chalicelib.domain.people import backoff
from chalicelib.storage.people import next_version
from tests.support.access import make_user
from tests.support.api import Answer, Api, api_fixture
from tests.support.marks import PASSWORD
from tests.support.world import TENANT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chalicelib.domain.people import User

api = api_fixture("module")

OURS = "http://127.0.0.1:8000"
JSON = {"Content-Type": "application/json"}


@pytest.fixture(autouse=True)
def _time_goes_on(api: Api) -> None:
    api.world.clock.time += 120  # each test begins with what addresses may ask


@pytest.fixture
def user(api: Api) -> User:
    return make_user(api.world.kit, TENANT.merchant_id)


def log_in(api: Api, user: User, password: str = PASSWORD) -> Answer:
    return api.request("POST", "/v1/auth/login", {"email": user.email, "password": password}, key=None)


def me(api: Api, token: str) -> Answer:
    return api.get("/v1/users/me", key=token)


def signed_in(api: Api, user: User) -> dict[str, Any]:
    answer = log_in(api, user)
    assert answer.status == 200, answer
    shown: dict[str, Any] = answer.json
    return shown


# -- signing up and in -----------------------------------------------------------------------------


def sign_up(api: Api, email: str, **changes: Any) -> Answer:
    body = {"email": email, "password": PASSWORD, "merchant_name": "Asha's shop", "name": "Asha Rao"} | changes
    return api.request("POST", "/v1/auth/signup", body, key=None)


def test_who_signs_up_owns_a_merchant_that_can_work_at_once(api: Api) -> None:
    answer = sign_up(api, "Asha@Shop.Example")
    assert answer.status == 201
    token, owner = answer.json["access_token"], answer.json["user"]
    assert (owner["email"], owner["role"], owner["status"]) == ("asha@shop.example", "owner", "active")
    assert api.get("/v1/merchant", key=token).json["name"] == "Asha's shop"
    made = api.request("POST", "/v1/api-keys", {"name": "backend"}, key=token)
    assert made.status == 201
    assert api.get("/v1/payments", key=made.json["secret"]).json == {"data": [], "next_cursor": None}
    live = api.request("POST", "/v1/api-keys", {"name": "backend", "mode": "live"}, key=token).json["secret"]
    assert api.made("/v1/orders", {"amount": 1, "currency": "INR"}, key=live)["mode"] == "live"


def test_an_email_signs_up_once_whatever_its_capitals(api: Api) -> None:
    assert sign_up(api, "twice@shop.example").status == 201
    before = api.snapshot()
    answer = sign_up(api, "TWICE@shop.example")
    assert (answer.status, answer.code) == (409, "email_taken")
    assert api.snapshot() == before


@pytest.mark.parametrize(
    "password", ["short", "a" * 12, "ababababababab", "x" * 129, "weak@shop.example", "my weak password 1"]
)
def test_a_weak_password_is_refused_and_not_repeated(api: Api, password: str) -> None:
    answer = sign_up(api, "weak@shop.example", password=password)
    assert (answer.status, answer.code, answer.json["param"]) == (422, "weak_password", "password")
    assert password not in answer.body.decode()


def test_signing_up_is_limited_by_address(api: Api) -> None:
    statuses = [sign_up(api, f"many{n}@shop.example", password="short").status for n in range(30)]
    assert statuses[-1] == 429
    assert statuses.count(429) >= 20


def test_wrong_and_unknown_are_told_alike_and_take_the_same_calls(api: Api, user: User) -> None:
    signed_in(api, user)
    told, calls, opened = [], [], []
    vault: Any = api.world.kit.people._vault
    for email in (user.email, "nobody@canary.example"):
        api.world.clock.time += 10
        api.watch()
        vault.opened = 0
        answer = api.request("POST", "/v1/auth/login", {"email": email, "password": "wrong wrong"}, key=None)
        told.append((answer.status, answer.code, answer.json["detail"], set(answer.headers)))
        calls.append(api.calls)
        opened.append(vault.opened)
    assert opened == [0, 0]
    assert told[0] == told[1]
    assert told[0][:2] == (401, "wrong_credentials")
    assert calls[0] == calls[1]


def test_an_unknown_email_costs_the_same_work(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[int] = []
    before = hashlib.scrypt

    def counted(*args: Any, **kwargs: Any) -> bytes:
        hashed.append(kwargs["n"])
        return before(*args, **kwargs)

    stored = passwords.hashed(PASSWORD, 5)
    monkeypatch.setattr(hashlib, "scrypt", counted)
    assert passwords.matches(stored, PASSWORD, 5)
    assert not passwords.matches(stored, PASSWORD + "x", 5)
    assert not passwords.matches(None, PASSWORD, 5)
    assert hashed == [32, 32, 32]


def test_wrong_passwords_make_everybody_wait_longer_and_longer(api: Api, user: User) -> None:
    waits = []
    for _ in range(8):
        answer = log_in(api, user, "wrong wrong wrong")
        if answer.status == 429:
            waits.append(int(answer.headers["retry-after"]))
            assert log_in(api, user).status == 429  # the right one as well: nobody learns that it was
            api.world.clock.time += waits[-1]
            answer = log_in(api, user, "wrong wrong wrong")
        assert (answer.status, answer.code) == (401, "wrong_credentials")
    assert waits == [1, 2, 4]
    api.world.clock.time += 8
    assert log_in(api, user).status == 200
    assert log_in(api, user, "wrong wrong wrong").status == 401  # forgotten: the first of five again
    assert log_in(api, user).status == 200


def test_the_wait_has_an_end() -> None:
    assert [backoff(count, 5) for count in (0, 4, 5, 6, 10, 50)] == [0, 0, 1, 2, 32, 900]


def test_a_weaker_hash_is_made_stronger_by_signing_in(api: Api, user: User) -> None:
    kit = api.world.kit
    people = kit.people
    weak = next_version(user, kit.now(), password=passwords.hashed(PASSWORD, 2))
    people.change(weak)
    signed_in(api, user)
    now_is = people.user_now(user.merchant_id, user.id)
    assert now_is is not None
    assert now_is.password is not None
    assert now_is.password.startswith(f"scrypt${kit.settings.password_cost}$")
    assert passwords.matches(now_is.password, PASSWORD, 1)


def test_a_password_is_long_and_not_ones_name() -> None:
    for weak in ("x", "aaaabbbbcccc", "asha.rao and more"):
        with pytest.raises(InvalidRequest):
            passwords.check(weak, "asha.rao@shop.example")
    passwords.check("a fine long one", "asha.rao@shop.example")


# -- access tokens ---------------------------------------------------------------------------------


def claims_of(token: str) -> dict[str, Any]:
    found: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return found


def forged(claims: Mapping[str, Any], key: bytes, algorithm: str = "HS256", **header: Any) -> str:
    def part(value: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    signed = f"{part({'alg': algorithm, 'typ': 'JWT'} | header)}.{part(claims)}"
    hashes = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}
    signature = b"" if algorithm not in hashes else hmac.new(key, signed.encode(), hashes[algorithm]).digest()
    return f"{signed}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


def test_a_token_of_ours_opens(api: Api, user: User) -> None:
    """The forgeries below are as good as this one but for what each is about."""
    token = signed_in(api, user)["access_token"]
    assert me(api, token).json["id"] == user.id
    key = api.world.kit.people.secret("access tokens")
    assert me(api, forged(claims_of(token), key)).status == 200


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", "HS384", "HS512", "RS256", "ES256", ""])
def test_the_token_does_not_choose_the_algorithm(api: Api, user: User, algorithm: str) -> None:
    token = signed_in(api, user)["access_token"]
    key = api.world.kit.people.secret("access tokens")
    for wrong in (forged(claims_of(token), key, algorithm), forged(claims_of(token), b"", algorithm)):
        assert (me(api, wrong).status, me(api, wrong).code) == (401, "unauthorized")
    assert me(api, token.rpartition(".")[0] + ".").status == 401


@pytest.mark.parametrize(
    ("claim", "value"),
    [
        ("iss", "railyard-prod"), ("iss", None), ("aud", "another-api"), ("aud", None), ("sub", None), ("mer", None),
        ("sid", None), ("sid", "ses_" + "0" * 26), ("exp", None), ("iat", None), ("exp", "never"),
    ],
)  # fmt: skip
def test_claims_that_are_missing_or_wrong_do_not_open(api: Api, user: User, claim: str, value: Any) -> None:
    token = signed_in(api, user)["access_token"]
    claims = {name: old for name, old in claims_of(token).items() if name != claim}
    if value is not None:
        claims[claim] = value
    assert me(api, forged(claims, api.world.kit.people.secret("access tokens"))).status == 401


@pytest.mark.parametrize(("claim", "value"), [("sub", "usr_" + "0" * 26), ("mer", "mer_01OTHER"), ("exp", 10**12)])
def test_a_token_that_was_tampered_with_does_not_open(api: Api, user: User, claim: str, value: Any) -> None:
    header, _, signature = signed_in(api, user)["access_token"].split(".")
    claims = claims_of(signed_in(api, user)["access_token"]) | {claim: value}
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    assert me(api, f"{header}.{body}.{signature}").status == 401
    assert me(api, forged(claims, b"guessed")).status == 401


def test_a_session_is_its_persons_even_in_a_token_that_we_signed(api: Api, user: User) -> None:
    """What the session's row says counts, whatever else is in the token."""
    token, other = signed_in(api, user)["access_token"], make_user(api.world.kit, "mer_01OTHER")
    key = api.world.kit.people.secret("access tokens")
    assert me(api, forged(claims_of(token) | {"sub": other.id}, key)).status == 401
    assert me(api, forged(claims_of(token) | {"mer": "mer_01OTHER"}, key)).json["merchant_id"] == TENANT.merchant_id


def test_other_secrets_of_the_platform_sign_no_token(api: Api, user: User) -> None:
    token = signed_in(api, user)["access_token"]
    for purpose in ("csrf", "emails", "addresses"):
        assert me(api, forged(claims_of(token), api.world.kit.people.secret(purpose))).status == 401


def test_a_token_lives_a_quarter_of_an_hour(api: Api, user: User) -> None:
    given = signed_in(api, user)
    assert given["expires_in"] == 900
    api.world.clock.time += 899
    assert me(api, given["access_token"]).status == 200
    api.world.clock.time += 1.001
    assert (me(api, given["access_token"]).code) == "token_expired"


def test_the_mode_is_the_persons_choice_and_one_of_two(api: Api, user: User) -> None:
    token = signed_in(api, user)["access_token"]
    for mode in ("test", "live"):
        made = api.request("POST", "/v1/orders", {"amount": 1, "currency": "INR"}, key=token,
                           headers={"Railyard-Mode": mode, "Idempotency-Key": mode})  # fmt: skip
        assert made.json["mode"] == mode
    assert api.get("/v1/orders", key=token, headers={"Railyard-Mode": "both"}).status == 400


# -- refresh tokens --------------------------------------------------------------------------------


def refresh(api: Api, token: str) -> Answer:
    return api.request("POST", "/v1/auth/refresh", {"refresh_token": token}, key=None)


def test_a_refresh_token_gives_the_next_pair(api: Api, user: User) -> None:
    given = signed_in(api, user)
    api.world.clock.time += 1000
    again = refresh(api, given["refresh_token"])
    assert again.status == 200
    assert me(api, again.json["access_token"]).status == 200
    assert again.json["refresh_token"] != given["refresh_token"]


def test_a_refresh_token_that_comes_twice_ends_its_session(api: Api, user: User) -> None:
    given = signed_in(api, user)
    stolen = refresh(api, given["refresh_token"]).json
    assert refresh(api, given["refresh_token"]).code == "session_over"
    assert refresh(api, stolen["refresh_token"]).code == "session_over"
    api.world.clock.time += 61
    for token in (given["access_token"], stolen["access_token"]):
        assert me(api, token).code == "session_over"


@pytest.mark.parametrize("wrong", ["x", "ses_" + "0" * 26 + ".abc", ".", "a.b.c", "%00", "\U0001f4a9"])
def test_what_is_no_refresh_token_is_refused(api: Api, user: User, wrong: str) -> None:
    signed_in(api, user)
    assert refresh(api, wrong).status in (401, 422)


def test_a_session_ends_however_often_it_is_refreshed(api: Api, user: User) -> None:
    given = signed_in(api, user)
    for _ in range(3):
        api.world.clock.time += 9 * 86_400
        answer = refresh(api, given["refresh_token"])
        assert answer.status == 200
        given = answer.json
    api.world.clock.time += 3 * 86_400 + 1
    assert refresh(api, given["refresh_token"]).code == "session_over"


def test_signing_out_ends_the_session_everywhere_within_a_minute(api: Api, user: User) -> None:
    given, other = signed_in(api, user), signed_in(api, user)
    assert me(api, given["access_token"]).status == 200
    answer = api.request("POST", "/v1/auth/logout", {}, key=given["access_token"])
    assert answer.json == {"object": "session", "ended": True}
    assert me(api, given["access_token"]).code == "session_over"
    assert refresh(api, given["refresh_token"]).code == "session_over"
    assert me(api, other["access_token"]).status == 200


def test_signing_out_and_a_stolen_refresh_token_have_their_lines(api: Api, user: User) -> None:
    given, stolen = signed_in(api, user), signed_in(api, user)
    api.request("POST", "/v1/auth/logout", {}, key=given["access_token"])
    assert refresh(api, stolen["refresh_token"]).status == 200
    assert refresh(api, stolen["refresh_token"]).status == 401
    lines = api.get(f"/v1/audit?object_id={user.id}", key=api.token()).json["data"]
    assert {"user.signed_out", "user.refresh_token_reused", "user.signed_in"} <= {line["action"] for line in lines}


def test_a_session_that_has_ended_is_deleted_in_time(api: Api, user: User) -> None:
    """DynamoDB deletes nothing that ended more than five years ago, as the year 1970 did."""
    given = signed_in(api, user)
    assert api.request("POST", "/v1/auth/logout", {}, key=given["access_token"]).status == 200
    session_id = given["refresh_token"].partition(".")[0]
    rows = api.world.dynamo.tables["railyard-local-guards"].items()
    (row,) = [row for row in rows if row["pk"]["S"] == f"session/{session_id}"]
    assert api.world.clock.time - 5 < float(row["expires_at"]["N"]) <= api.world.clock.time


def test_a_role_and_being_sent_away_take_effect_within_a_minute(api: Api, user: User) -> None:
    owner = api.token("owner")
    token = signed_in(api, user)["access_token"]
    assert api.get("/v1/users", key=token).status == 200
    url = f"/v1/users/{user.id}"
    assert api.request("PATCH", url, {"role": "viewer"}, key=owner).json["role"] == "viewer"
    api.world.clock.time += 61
    assert api.get("/v1/users", key=token).status == 403
    assert api.request("PATCH", url, {"status": "disabled"}, key=owner).json["status"] == "disabled"
    api.world.clock.time += 61
    assert me(api, token).code == "session_over"
    assert log_in(api, user).code == "wrong_credentials"
    assert api.request("PATCH", url, {"status": "active"}, key=owner).json["status"] == "active"
    assert me(api, token).code == "session_over"  # the old sessions stay over
    assert log_in(api, user).status == 200


# -- pages -----------------------------------------------------------------------------------------


def open_page(api: Api, user: User, **headers: str) -> Answer:
    body = {"email": user.email, "password": PASSWORD}
    return api.request("POST", "/v1/auth/session", body, key=None, headers=headers)


def cookie_of(answer: Answer) -> str:
    cookie = SimpleCookie(answer.headers["set-cookie"])[auth.COOKIE]
    return f"{auth.COOKIE}={cookie.value}"


def test_a_page_gets_a_cookie_that_no_script_and_no_other_site_can_use(api: Api, user: User) -> None:
    answer = open_page(api, user)
    assert answer.status == 201
    cookie = SimpleCookie(answer.headers["set-cookie"])[auth.COOKIE]
    assert cookie.key.startswith("__Host-")
    assert (cookie["path"], cookie["secure"], cookie["httponly"], cookie["samesite"]) == ("/", True, True, "Lax")
    assert cookie["domain"] == ""
    assert cookie.value not in answer.body.decode()
    shown = api.get("/v1/users/me", key=None, headers={"Cookie": f"theme=dark; {cookie_of(answer)}"})
    assert shown.json["id"] == user.id


def test_a_stolen_table_opens_no_session(api: Api, user: User) -> None:
    cookie = cookie_of(open_page(api, user)).partition("=")[2]
    stored = str(api.world.dynamo.tables["railyard-local-guards"].partitions)
    session_id, _, secret = cookie.partition(".")
    assert session_id in stored
    assert secret not in stored


def test_a_session_that_was_planted_is_never_taken_over(api: Api, user: User) -> None:
    """Session fixation: the attacker's cookie is in the victim's browser when the victim signs in."""
    attacker = make_user(api.world.kit, "mer_01OTHER")
    planted = cookie_of(open_page(api, attacker))
    made_up = f"{auth.COOKIE}=ses_{'0' * 26}.planted"
    for cookie in (planted, made_up):
        fresh = cookie_of(open_page(api, user, Cookie=cookie))
        assert fresh.partition(".")[0] != cookie.partition(".")[0]
        shown = api.get("/v1/users/me", key=None, headers={"Cookie": cookie})
        assert shown.status == 401  # ended, not raised to the victim's
        assert api.get("/v1/users/me", key=None, headers={"Cookie": fresh}).json["id"] == user.id


def change(api: Api, cookie: str, **headers: str) -> Answer:
    return api.request("PATCH", "/v1/users/me", {"name": "Mallory"}, key=None, headers={"Cookie": cookie, **headers})


def test_a_page_changes_nothing_without_its_token(api: Api, user: User) -> None:
    opened, other = open_page(api, user), open_page(api, user)
    cookie, token = cookie_of(opened), opened.json["csrf_token"]
    for wrong in ({}, {"X-CSRF-Token": ""}, {"X-CSRF-Token": "x"}, {"X-CSRF-Token": other.json["csrf_token"]},
                  {"X-CSRF-Token": token + "x"}):  # fmt: skip
        assert change(api, cookie, **wrong).code == "csrf_token_wrong"
    assert change(api, cookie, **{"X-CSRF-Token": token}).json["name"] == "Mallory"


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "https://evil.example"},
        {"Origin": "null"}, {"Origin": OURS + ".evil.example"}, {"Origin": OURS.replace("http", "https")},
    ],
)  # fmt: skip
def test_another_sites_page_changes_nothing_even_with_the_token(api: Api, user: User, headers: dict[str, str]) -> None:
    opened = open_page(api, user)
    given = {"X-CSRF-Token": opened.json["csrf_token"], **headers}
    assert change(api, cookie_of(opened), **given).code == "cross_site_request"
    assert open_page(api, user, **headers).code == "cross_site_request"  # nor does it sign anybody in
    ours = {"X-CSRF-Token": opened.json["csrf_token"], "Sec-Fetch-Site": "same-origin", "Origin": OURS}
    assert change(api, cookie_of(opened), **ours).status == 200


def test_a_form_of_another_site_signs_nobody_in(api: Api, user: User) -> None:
    raw = f"email={user.email}&password={PASSWORD}".encode()
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    assert api.request("POST", "/v1/auth/session", raw, key=None, headers=headers).status == 415


def test_a_page_signs_out(api: Api, user: User) -> None:
    opened = open_page(api, user)
    cookie, token = cookie_of(opened), opened.json["csrf_token"]
    assert api.request("DELETE", "/v1/auth/session", key=None, headers={"Cookie": cookie}).code == "csrf_token_wrong"
    answer = api.request("DELETE", "/v1/auth/session", key=None, headers={"Cookie": cookie, "X-CSRF-Token": token})
    assert "Max-Age=0" in answer.headers["set-cookie"]
    assert api.get("/v1/users/me", key=None, headers={"Cookie": cookie}).status == 401


def test_a_page_session_ends_after_half_a_day_and_refreshes_nothing(api: Api, user: User) -> None:
    cookie = cookie_of(open_page(api, user))
    assert refresh(api, cookie.partition("=")[2]).code == "session_over"
    api.world.clock.time += 12 * 3600 - 1
    assert api.get("/v1/users/me", key=None, headers={"Cookie": cookie}).status == 200
    api.world.clock.time += 2
    assert api.get("/v1/users/me", key=None, headers={"Cookie": cookie}).code == "session_over"


@pytest.mark.parametrize(
    "cookie", ["", "=", "a", f"{auth.COOKIE}", f"{auth.COOKIE}=", f"{auth.COOKIE}=x", f"{auth.COOKIE}=é.ü", "\x00=1"]
)
def test_a_broken_cookie_is_nobodys(api: Api, cookie: str) -> None:
    assert api.get("/v1/users/me", key=None, headers={"Cookie": cookie}).status == 401


# -- headers that say more than they should --------------------------------------------------------


@pytest.mark.parametrize("injected", ["\r\nSet-Cookie: a=b", "\nX-Evil: 1", "\r\n\r\n<script>", "%0d%0aX-Evil: 1"])
def test_nothing_a_caller_sends_becomes_a_header(api: Api, user: User, injected: str) -> None:
    preflight = {"Origin": f"https://shop.example{injected}", "Access-Control-Request-Method": f"POST{injected}"}
    answers = [
        api.get("/v1/payments", headers={"Idempotency-Key": injected, "Origin": f"https://shop.example{injected}"}),
        api.get("/v1/payments", headers={"Railyard-Mode": f"test{injected}", "Authorization": f"Bearer {api.token()}"}),
        api.request("OPTIONS", "/v1/tokens", key=None, headers=preflight),
        open_page(api, user, Cookie=f"{auth.COOKIE}=x{injected}"),
        api.request("POST", "/v1/auth/login", {"email": f"a@b.example{injected}", "password": injected}, key=None),
        api.get(f"/v1/payments?cursor={injected}".replace("\r", "%0d").replace("\n", "%0a")),
    ]
    for answer in answers:
        for name, value in answer.headers.items():
            assert not set("\r\n") & set(name + str(value)), (name, value)
            assert "evil" not in name
            assert "evil" not in str(value).lower()
            assert "a=b" not in str(value)


# -- fields that are nobody's to set ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        ("POST", "/v1/auth/signup", {"email": "m@s.example", "password": PASSWORD, "merchant_name": "M"}, field)
        for field in ("role", "merchant_id", "plan", "id", "status", "suspended")
    ]
    + [("PATCH", "/v1/users/me", {}, field) for field in ("role", "status", "merchant_id", "email", "id", "version")]
    + [("PATCH", "/v1/merchant", {}, field) for field in ("plan", "suspended", "id", "version")]
    + [
        ("POST", "/v1/users", {"email": "m@s.example", "role": "viewer"}, field)
        for field in ("merchant_id", "password", "status")
    ]
    + [
        ("POST", "/v1/api-keys", {"name": "k"}, field)
        for field in ("digest", "secret", "merchant_id", "expires_at", "kind")
    ],
)
def test_a_field_that_is_not_the_callers_is_refused(
    api: Api, method: str, path: str, body: dict[str, Any], field: str
) -> None:
    key = None if "auth" in path else api.token()
    before = api.snapshot()
    answer = api.request(method, path, {**body, field: "scale"}, key=key)
    assert (answer.status, answer.code, answer.json["param"]) == (422, "unknown_field", field)
    assert api.snapshot() == before


@pytest.mark.parametrize("role", ["platform", "root", "Owner", ""])
def test_nobody_gives_a_role_that_is_no_merchants(api: Api, role: str) -> None:
    body = {"email": "r@s.example", "role": role}
    assert api.request("POST", "/v1/users", body, key=api.token()).json["param"] == "role"


# -- the whole ---------------------------------------------------------------------------------------


def test_every_answer_has_the_security_headers(api: Api) -> None:
    answers = [
        api.get("/v1/payments"), api.get("/v1/payments", key="sk_test_wrong"), api.get("/v1/payments/x"),
        api.request("GET", "/health", key=None), api.request("DELETE", "/v1/payments"), api.post("/v1/orders", b"{"),
        api.request("OPTIONS", "/v1/payments", key=None), api.post("/webhooks/razorpay/x", b"{}", key=None),
        api.request("POST", "/v1/auth/login", {}, key=None),
    ]  # fmt: skip
    for answer in answers:
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["strict-transport-security"].startswith("max-age=63072000")
        assert answer.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] in ("no-store", "private, no-cache")


def test_a_key_is_no_person(api: Api) -> None:
    people_only = [route for route in routes() if route.scope and route.scope not in KEY_SCOPES]
    assert len(people_only) >= 20
    assert api.get("/v1/users/me").status == 403


def test_time_is_ours_and_not_the_hosts(api: Api, user: User) -> None:
    """The world's clock is years away from the machine's or not: tokens follow ours."""
    token = signed_in(api, user)["access_token"]
    issued = datetime.fromtimestamp(claims_of(token)["iat"], UTC)
    assert abs((issued - api.world.clock()).total_seconds()) < 1
