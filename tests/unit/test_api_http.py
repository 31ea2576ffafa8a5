"""The door: who may enter, what is turned away, and in which words."""

from __future__ import annotations

import base64
import gzip
import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from chalice.app import Response

from chalicelib import wiring
from chalicelib.api.http import METHODS, reshape
from chalicelib.api.openapi import routes
from chalicelib.domain.access import KEY_SCOPES
from tests.support.api import CARD, ORDER, PAYMENT, Api, api_fixture

api = api_fixture("module")

PAYMENT_ID = "pay_" + "0" * 26
ORDER_ID = "order_" + "0" * 26
REFUND_ID = "rf_" + "0" * 26
TOKEN_ID = "tok_" + "0" * 26
CUSTOMER_ID = "cus_" + "0" * 32


def concrete(path: str) -> str:
    ids = {
        "payment_id": PAYMENT_ID,
        "order_id": ORDER_ID,
        "refund_id": REFUND_ID,
        "provider": "razorpay",
        "account": "x",
        "account_id": "acc_x",
        "token_id": TOKEN_ID,
        "key_id": "key_" + "0" * 26,
        "user_id": "usr_" + "0" * 26,
        "merchant_id": "mer_nobody",
        "customer_id": CUSTOMER_ID,
        "version": "0" * 16,
        "file": "style.css",
    }
    return path.format(**ids)


def scope_of(path: str, method: str) -> str | None:
    """The scope that a route declares; for a method that it does not take, any other one's."""
    found = [route for route in routes() if route.path == path]
    same = [route for route in found if route.method == method.replace("HEAD", "GET")]
    return (same or found)[0].scope if found else None  # pages are in no document


# -- authentication --------------------------------------------------------------------------------


def basic(user: str, password: str = "") -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def test_a_secret_key_is_taken_as_bearer_and_as_basic_user_name(api: Api) -> None:
    for header in (f"Bearer {api.key}", f"bearer  {api.key} ", basic(api.key), basic(api.key, "ignored")):
        assert api.get("/v1/payments", headers={"Authorization": header}).status == 200


@pytest.mark.parametrize(
    "header",
    [
        None, "", "Bearer", "Bearer ", "Bearer sk_test_wrong", "Bearer pk_test_" + "a" * 64, "Basic", "Basic !!!",
        "Basic c2tfdGVzdF8=", "Basic /////w==", "Token abc", "sk_test_x", "Bearer sk_test_" + "a" * 5000,
        "Bearer sk_test_\x00",
        "Bearer sk_test_é", "Digest username=x",
    ],
)  # fmt: skip
def test_without_a_good_key_nothing_is_read(api: Api, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header}
    answer = api.request("GET", "/v1/payments", key=None, headers=headers)
    assert (answer.status, answer.code) == (401, "unauthorized")
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_a_key_with_one_letter_changed_is_refused(api: Api) -> None:
    wrong = api.key[:-20] + ("a" if api.key[-20] != "a" else "b") + api.key[-19:]
    assert api.get("/v1/payments", key=wrong).status == 401


def test_every_v1_route_but_those_of_signing_in_needs_credentials(api: Api) -> None:
    for path, methods in api.app.routes.items():
        for method in methods:
            if path.startswith("/v1/") and method != "OPTIONS" and scope_of(path, method) is not None:
                answer = api.request(method, concrete(path), key=None)
                assert answer.status in (401, 405), (method, path, answer.status)


def test_test_and_live_keys_see_separate_worlds(api: Api) -> None:
    made = api.made("/v1/orders", ORDER)
    assert made["mode"] == "test"
    assert api.get(f"/v1/orders/{made['id']}", key=api.live_key).code == "order_not_found"
    assert api.get("/v1/orders", key=api.live_key).json["data"] == []


# -- 404 and 405 -----------------------------------------------------------------------------------


def test_every_path_answers_every_method(api: Api) -> None:
    for path, methods in api.app.routes.items():
        assert set(methods) == set(METHODS), path


def test_what_is_not_declared_is_405_with_allow(api: Api) -> None:
    answer = api.request("DELETE", "/v1/payments")
    assert (answer.status, answer.code) == (405, "method_not_allowed")
    assert {m.strip() for m in answer.headers["allow"].split(",")} == {"GET", "HEAD", "POST", "OPTIONS"}
    for path, methods in api.app.routes.items():
        for method in methods:
            answer = api.request(method, concrete(path), b"{}", key=api.credentials(scope_of(path, method)))
            assert answer.status != 500, (method, path)
            assert (answer.status == 405) == (method not in answer.headers.get("allow", method)), (method, path)


def test_options_tells_what_is_allowed(api: Api) -> None:
    answer = api.request("OPTIONS", "/v1/payments", key=None)
    assert (answer.status, answer.body) == (204, b"")
    assert "POST" in answer.headers["allow"]


def test_head_is_get_without_a_body(api: Api) -> None:
    answer = api.request("HEAD", "/v1/payments")
    assert (answer.status, answer.body) == (200, b"")
    assert api.request("HEAD", f"/v1/payments/{PAYMENT_ID}").status == 404


WEIRD_IDS = [
    "x", "pay_", "pay_1", PAYMENT_ID.upper(), PAYMENT_ID + "0", PAYMENT_ID[:-1] + "I", "order_" + "0" * 26, "%00",
    "pay_%2F..%2F", "..", "%2e%2e", "'%20OR%201=1--", "%F0%9F%92%A9", "pay_" + "9" * 5000, "a%23payment",
    "{payment_id}",
]  # fmt: skip


@pytest.mark.parametrize("weird", WEIRD_IDS)
def test_a_weird_id_is_404_on_every_route_without_a_read(api: Api, weird: str) -> None:
    for scope in ("orders:read", "keys:read", "platform:read"):  # who they are is cached now
        api.get("/v1/orders", key=api.credentials(scope))
    api.watch()
    for path in api.app.routes:
        if path.startswith("/v1/") and "{" in path:
            url = path.replace("{payment_id}", weird).replace("{order_id}", f"x{weird}").replace("{refund_id}", weird)
            url = (
                url.replace("{token_id}", weird).replace("{customer_id}", weird).replace("{account_id}", f"%20{weird}")
            )
            url = url.replace("{key_id}", weird).replace("{user_id}", weird).replace("{merchant_id}", f"%20{weird}")
            for method in ("GET", "POST", "PATCH", "DELETE"):
                key = api.credentials(scope_of(path, method))
                answer = api.request(method, url, headers={"Idempotency-Key": "k"}, key=key)
                assert answer.status in (404, 405), (method, url, answer)
    assert set(api.calls) <= {"UpdateItem"}  # of the rate limit


def test_another_tenants_ids_are_404_on_every_route(api: Api) -> None:
    payment = api.paid(customer={"email": "asha@example.com"})
    order = api.made("/v1/orders", ORDER)
    refund = api.made(f"/v1/payments/{payment['id']}/refunds", {"amount": 1})
    token = api.made("/v1/tokens", CARD)
    ids = {"payment_id": payment["id"], "order_id": order["id"], "refund_id": refund["id"]}
    ids |= {
        "token_id": token["id"],
        "customer_id": payment["customer"]["id"],
        "account_id": "acct_simulator",
        "provider": "simulator",
    }
    bodies: dict[str, Any] = {"review": {"decision": "approve"}, "resolve": {"outcome": "failed", "note": "n"}}
    bodies["breaker"] = {"method": "upi", "state": "open", "reason": "r"}
    bodies["rotate-secret"] = {"credentials": {"api_key": "x"}}
    before = api.snapshot()
    checked = 0
    for path in api.app.routes:
        if not path.startswith("/v1/") or "{" not in path or scope_of(path, "GET") not in KEY_SCOPES:
            continue  # what keys cannot do is in test_api_matrix.py
        url = path.format(**ids)
        assert api.get(url).status in (200, 405), url
        for key in (api.other_key, api.live_key):
            body = bodies.get(path.rsplit("/", 1)[1], {})
            for answer in (api.get(url, key=key), api.post(url, body, key=key)):
                assert answer.status in (404, 405), (path, answer)
                checked += answer.status == 404
    assert checked == 2 * 22
    assert api.snapshot() == before
    # An order of another merchant cannot be paid, and its existence does not show in lists.
    assert api.post("/v1/payments", {**PAYMENT, "order_id": order["id"]}, key=api.other_key).code == "order_not_found"
    assert api.get(f"/v1/payments?order_id={order['id']}", key=api.other_key).json["data"] == []
    assert api.get(f"/v1/refunds?payment_id={payment['id']}", key=api.other_key).json["data"] == []


# -- bodies ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/xml",
        "*/*",
        "application/json; charset=utf-16",
        "multipart/form-data",
        "json",
        ";",
    ],
)
def test_a_body_that_is_not_json_is_415(api: Api, content_type: str) -> None:
    answer = api.post("/v1/orders", ORDER, headers={"Content-Type": content_type})
    assert (answer.status, answer.code) == (415, "unsupported_media_type")


@pytest.mark.parametrize(
    "content_type", ["application/json", "Application/JSON; charset=UTF-8", 'application/json;charset="utf-8"']
)
def test_json_by_any_spelling_is_taken(api: Api, content_type: str) -> None:
    assert api.post("/v1/orders", ORDER, headers={"content-type": content_type}).status == 201


def test_a_body_above_64_kb_is_413_whatever_else_is_wrong(api: Api) -> None:
    big = json.dumps({**ORDER, "receipt": "x" * 70_000}).encode()
    others: list[dict[str, Any]] = [{}, {"key": None}, {"idem": None}, {"headers": {"Content-Type": "text/plain"}}]
    for other in others:
        answer = api.post("/v1/orders", big, **other)
        assert (answer.status, answer.code) == (413, "payload_too_large")
    exactly = json.dumps(ORDER).encode().ljust(64 * 1024)
    assert api.post("/v1/orders", exactly).status == 201


@pytest.mark.parametrize(
    "raw",
    [
        b"{", b"nope", b'{"amount":}', b'{"amount":1,}', b"{'amount':1}", b'{"amount":NaN}', b'{"amount":Infinity}',
        b'{"amount":-Infinity}', b'{"amount":1,"amount":2}', b'{"metadata":{"a":"1","a":"2"}}', b"\xff\xfe{}",
        b'{"receipt":"\xc3\x28"}', b'{"receipt":"\xef\xbf\xbd"}', b'{"receipt":"a\x00b"}', b'{"receipt":"a\nb"}',
        b"\x00",
        b'{"amount":' + b"9" * 5000 + b"}", b"[" * 30_000, b'{"a":' * 10_000, b"[" * 20 + b"]" * 20,
        b'{"a":' * 20 + b"1" + b"}" * 20, b"\xef\xbb\xbf{}", gzip.compress(b"{}", mtime=0), '{"amount":1}'.encode("utf-16"),
    ],
)  # fmt: skip
def test_what_is_not_plain_json_is_400(api: Api, raw: bytes) -> None:
    before = api.snapshot()
    for path in ("/v1/orders", "/v1/payments"):
        answer = api.post(path, raw)
        assert (answer.status, answer.code) == (400, "invalid_json"), answer
    assert api.snapshot() == before


@pytest.mark.parametrize("raw", [b"[]", b"null", b"true", b"1", b'"x"', b"[" * 16 + b"]" * 16, b"1e999", b"-0.0"])
def test_json_that_is_no_object_is_422(api: Api, raw: bytes) -> None:
    assert api.post("/v1/orders", raw).status == 422


def test_an_empty_body_is_an_empty_object(api: Api) -> None:
    order = api.made("/v1/orders", ORDER)
    assert api.post(f"/v1/orders/{order['id']}/cancel").status == 200
    assert api.post("/v1/orders").json["param"] == "amount"
    assert (
        api.post(f"/v1/orders/{order['id']}/cancel", b" ", headers={"Content-Type": "application/json"}).status == 200
    )


def test_a_body_that_gateway_marked_as_base64_but_is_not_is_400(api: Api) -> None:
    event = {
        "requestContext": {"httpMethod": "POST", "resourcePath": "/v1/orders", "requestId": "r1"},
        "headers": {"Authorization": f"Bearer {api.key}", "Idempotency-Key": "k"}, "pathParameters": {},
        "stageVariables": None, "multiValueQueryStringParameters": None, "isBase64Encoded": True, "body": "a",
    }  # fmt: skip
    answer = api.app(event, SimpleNamespace(aws_request_id="lambda"))
    assert answer["statusCode"] == 400
    assert answer["headers"]["Railyard-Request-Id"] == "req_r1"
    surrogate = api.app({**event, "isBase64Encoded": False, "body": "\ud800"}, SimpleNamespace(aws_request_id="lambda"))
    assert surrogate["statusCode"] == 400


# -- query parameters ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("foo=1", "foo"), ("limit=0", "limit"), ("limit=101", "limit"), ("limit=-1", "limit"), ("limit=1.0", "limit"),
        ("limit=1e1", "limit"), ("limit=%201", "limit"), ("limit=1_0", "limit"), ("limit=%D9%A1", "limit"), ("limit=",
        "limit"),
        ("limit=1&limit=2", "limit"), ("cursor=", "cursor"), ("cursor=x", "cursor"), ("cursor=%00", "cursor"),
        ("cursor=" + "A" * 200, "cursor"), ("status=done", "status"), ("status=", "status"), ("Status=created",
        "Status"),
        ("order_id=x", "order_id"), ("currency=usd", "currency"), ("currency=XXX", "currency"), ("amount=x", "amount"),
        ("amount=0", "amount"), ("amount=100000000000", "amount"), ("method=cash", "method"), ("provider=Razor%20pay",
        "provider"),
        ("customer.email=nobody", "customer.email"), ("customer_email=a@b.co", "customer_email"),
        ("created_at=2020-01-01", "created_at"), ("%00=1", None), ("4111111111111111=1", None), ("'%20OR%201=1", None),
    ],
)  # fmt: skip
def test_a_query_parameter_that_is_wrong_is_422_and_named(api: Api, query: str, param: str | None) -> None:
    answer = api.get(f"/v1/payments?{query}")
    assert answer.status == 422, answer
    assert answer.json["param"] == param
    assert "4111111111111111" not in answer.body.decode()


def test_queries_are_checked_on_every_v1_route(api: Api) -> None:
    for path, methods in api.app.routes.items():
        if path.startswith("/v1/"):
            for method in set(methods) & {"GET", "POST"}:
                key = api.credentials(scope_of(path, method))
                answer = api.request(method, concrete(path) + "?nothing=1", key=key)
                assert answer.status in (422, 405), (method, path, answer)


# -- outside of views ------------------------------------------------------------------------------


def test_health_is_open_and_reads_nothing(api: Api) -> None:
    api.watch()
    answer = api.request("GET", "/health?probe=1", key=None)
    assert answer.json == {
        "status": "ok",
        "version": answer.json["version"],
        "stage": "local",
        "time": answer.json["time"],
    }
    assert answer.json["time"].endswith("Z")
    assert api.calls == []


@pytest.mark.parametrize(
    ("given", "status", "code"),
    [
        (Response({"Code": "UnsupportedMediaType", "Message": "m"}, status_code=415), 415, "unsupported_media_type"),
        (Response({"Code": "BadRequest", "Message": "m"}, status_code=400), 400, "invalid_request"),
        (Response({"Code": "MethodNotAllowedError", "Message": "m"}, {"Allow": "GET"}, 405), 405, "method_not_allowed"),
        (Response("Traceback …", {"Content-Type": "text/plain"}, 500), 500, "internal_error"),
        (Response("<html>", {"content-type": "text/html"}, 418), 418, "invalid_request"),
    ],
)
def test_chalices_own_errors_get_our_shape(given: Response, status: int, code: str) -> None:
    request: Any = SimpleNamespace(context={"requestId": "abc"}, lambda_context=None)
    shaped = reshape(request, lambda _: given)
    problem = json.loads(shaped.body)
    assert (shaped.status_code, problem["status"], problem["code"]) == (status, status, code)
    assert [name for name in shaped.headers if name.lower() == "content-type"] == ["Content-Type"]
    assert shaped.headers["Content-Type"] == "application/problem+json"
    assert shaped.headers["Railyard-Request-Id"] == problem["request_id"] == "req_abc"
    assert shaped.headers.get("Allow") == given.headers.get("Allow")


def test_an_exception_outside_of_a_view_is_still_a_problem(api: Api) -> None:
    def explode(_: Any) -> Response:
        raise RuntimeError("boom")

    shaped = reshape(None, explode)
    assert json.loads(shaped.body)["code"] == "internal_error"
    unknown = api.app({"requestContext": {}}, SimpleNamespace(aws_request_id="x"))
    assert (unknown["statusCode"], json.loads(unknown["body"])["code"]) == (500, "internal_error")


def test_a_bug_is_a_500_that_tells_nothing(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> Any:
        raise ZeroDivisionError("secret detail")

    wiring.install(replace(api.world.kit, now=broken))
    try:
        answer = api.get("/v1/payments")
    finally:
        wiring.install(api.world.kit)
    assert (answer.status, answer.code) == (500, "internal_error")
    assert b"secret" not in answer.body
    assert any(record.exc_info and record.exc_info[0] is ZeroDivisionError for record in caplog.records)
