"""What each route does, through the door, against the sandbox bank; everything shown fits its schema."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

import pytest

from chalicelib.api import outputs
from tests.support.api import MANUAL, ORDER, OTHER, PAYMENT, Answer, Api, api_fixture

api = api_fixture("function")


def fits(name: str, answer: Answer) -> Any:
    """The answer's object, which must be exactly what its schema says."""
    model = getattr(outputs, name)
    parsed = model.model_validate_json(answer.body)
    assert json.loads(parsed.model_dump_json()) == answer.json
    return answer.json


def upi(outcome: str, **changes: Any) -> dict[str, Any]:
    return {**PAYMENT, "method": {"type": "upi", "flow": "collect", "vpa": f"{outcome}@sim"}, **changes}


# -- orders ----------------------------------------------------------------------------------------


def test_an_order_from_create_to_paid(api: Api) -> None:
    order = fits("Order", api.post("/v1/orders", {**ORDER, "receipt": "r1", "metadata": {"a": "b"}}))
    assert (order["status"], order["payment_id"]) == ("created", None)
    assert order["checkout_url"] == f"http://127.0.0.1:8000/checkout/{order['id']}"
    assert fits("Order", api.get(f"/v1/orders/{order['id']}")) == order
    payment = api.made("/v1/payments", {**PAYMENT, "order_id": order["id"]})
    assert payment["order_id"] == order["id"]
    under_way = fits("Order", api.get(f"/v1/orders/{order['id']}"))
    assert (under_way["status"], under_way["payment_id"]) == ("attempted", payment["id"])
    assert api.post("/v1/payments", {**PAYMENT, "order_id": order["id"]}).code == "order_has_live_payment"
    assert api.post(f"/v1/orders/{order['id']}/cancel", {}).code == "order_has_live_payment"
    api.world.run()
    assert fits("Order", api.get(f"/v1/orders/{order['id']}"))["status"] == "paid"
    assert api.post("/v1/payments", {**PAYMENT, "order_id": order["id"]}).code == "order_paid"
    assert api.post(f"/v1/orders/{order['id']}/cancel", {}).code == "order_paid"


def test_a_payment_must_be_the_orders(api: Api) -> None:
    order = api.made("/v1/orders", ORDER)
    for changes, code in (({"amount": 1}, "amount_mismatch"), ({"currency": "USD"}, "currency_mismatch")):
        answer = api.post("/v1/payments", {**PAYMENT, **changes, "order_id": order["id"]})
        assert (answer.status, answer.code, answer.json["param"]) == (422, code, next(iter(changes)))


def test_an_order_is_canceled_once_and_for_all(api: Api) -> None:
    order = api.made("/v1/orders", ORDER)
    canceled = fits("Order", api.post(f"/v1/orders/{order['id']}/cancel", {}))
    assert canceled["status"] == "canceled"
    assert api.made(f"/v1/orders/{order['id']}/cancel", {}) == canceled
    assert api.post("/v1/payments", {**PAYMENT, "order_id": order["id"]}).code == "order_canceled"


# -- payments --------------------------------------------------------------------------------------


def test_a_payment_from_create_to_refunded_with_its_whole_story(api: Api) -> None:
    created = fits("Payment", api.post("/v1/payments", {**PAYMENT, "customer": {"email": "a@b.co"}}))
    assert (created["status"], created["version"], created["attempts"]) == ("created", 1, 0)
    url = f"/v1/payments/{created['id']}"
    api.world.run()
    paid = fits("Payment", api.get(url))
    assert (paid["status"], paid["amount_captured"], paid["refund_status"]) == ("succeeded", PAYMENT["amount"], "none")

    refund = fits("Refund", api.post(f"{url}/refunds", {"amount": 50_000, "reason": "too big"}))
    assert (refund["status"], refund["reason"], refund["source"]) == ("pending", "too big", "merchant")
    assert fits("Payment", api.get(url))["amount_refunding"] == 50_000
    api.world.run()
    assert fits("Refund", api.get(f"/v1/refunds/{refund['id']}"))["status"] == "succeeded"
    refunded = fits("Payment", api.get(url))
    assert (refunded["refund_status"], refunded["amount_refunded"], refunded["amount_refunding"]) == (
        "partial",
        50_000,
        0,
    )
    too_much = api.post(f"{url}/refunds", {"amount": PAYMENT["amount"]})
    assert (too_much.status, too_much.code, too_much.json["param"]) == (422, "amount_exceeds_refundable", "amount")

    events = fits("EventList", api.get(f"{url}/events"))["data"]
    assert [event["sequence"] for event in events] == list(range(1, refunded["version"] + 1))
    assert {"payment.created", "attempt.sent", "payment.succeeded", "refund.created", "refund.succeeded"} <= {
        event["type"] for event in events
    }
    attempts = fits("AttemptList", api.get(f"{url}/attempts"))["data"]
    assert [(a["number"], a["status"], a["captured"]) for a in attempts] == [(1, "succeeded", PAYMENT["amount"])]
    assert attempts[0]["route"]["chosen"] == attempts[0]["account"]
    operations = fits("OperationList", api.get(f"{url}/operations"))["data"]
    assert [(o["id"], o["type"], o["status"]) for o in operations] == [(refund["id"], "refund", "succeeded")]
    journals = fits("JournalList", api.get(f"{url}/ledger"))["data"]
    assert sorted(journal["type"] for journal in journals) == ["capture", "refund_reserved", "refund_settled"]
    assert all(sum(leg["amount"] for leg in journal["legs"]) == 0 for journal in journals)


def test_a_declined_payment_says_why(api: Api) -> None:
    payment = api.paid(method={"type": "upi", "vpa": "insufficient_funds@sim"})
    assert payment["status"] == "failed"
    error = fits("Payment", api.get(f"/v1/payments/{payment['id']}"))["error"]
    assert (error["code"], error["retryable"]) == ("insufficient_funds", False)
    assert api.post(f"/v1/payments/{payment['id']}/refunds", {}).code == "payment_not_refundable"
    assert api.post(f"/v1/payments/{payment['id']}/cancel", {}).code == "payment_not_cancelable"


@pytest.mark.parametrize(
    "method", [{"type": "netbanking", "bank": "SIM_SUCCESS"}, {"type": "wallet", "wallet": "SIM_SUCCESS"}]
)
def test_other_methods_work_the_same(api: Api, method: dict[str, str]) -> None:
    payment = api.paid(method=method)
    assert payment["method"] == method
    assert payment["status"] in ("succeeded", "requires_action")


def test_manual_capture_takes_all_or_less(api: Api) -> None:
    payment = api.made("/v1/payments", MANUAL)
    api.world.run(horizon=60)
    url = f"/v1/payments/{payment['id']}"
    assert fits("Payment", api.get(url))["status"] == "authorized"
    answer = api.post(f"{url}/capture", {"amount": PAYMENT["amount"] + 1})
    assert (answer.status, answer.code, answer.json["param"]) == (422, "amount_too_large", "amount")
    accepted = fits("Payment", api.post(f"{url}/capture", {}))
    assert accepted["id"] == payment["id"]
    assert api.post(f"{url}/cancel", {}).code == "operation_in_progress"
    assert api.post(f"{url}/capture", {}).code == "operation_in_progress"
    api.world.run(horizon=60)
    captured = fits("Payment", api.get(url))
    assert (captured["status"], captured["amount_captured"]) == ("succeeded", PAYMENT["amount"])
    operations = fits("OperationList", api.get(f"{url}/operations"))["data"]
    assert [(o["type"], o["status"]) for o in operations] == [("capture", "succeeded")]


def test_an_authorized_payment_is_voided(api: Api) -> None:
    payment = api.made("/v1/payments", MANUAL)
    api.world.run(horizon=60)
    fits("Payment", api.post(f"/v1/payments/{payment['id']}/cancel", {}))
    api.world.run(horizon=60)
    assert fits("Payment", api.get(f"/v1/payments/{payment['id']}"))["status"] == "canceled"


def test_a_payment_that_waits_for_its_customer(api: Api) -> None:
    payment = api.made("/v1/payments", upi("action"), headers={"Prefer": "wait=5"})
    assert payment["status"] == "requires_action"
    assert payment["next_action"]["type"]
    shown = fits("Payment", api.get(f"/v1/payments/{payment['id']}"))
    assert shown["next_action"] == payment["next_action"]
    wrong = api.post(
        f"/v1/payments/{payment['id']}/verify", {"charge": "x", "status": "succeeded", "signature": "0" * 64}
    )
    assert (wrong.status, wrong.code) == (422, "signature_invalid")
    canceled = fits("Payment", api.post(f"/v1/payments/{payment['id']}/cancel", {}))
    assert (canceled["status"], canceled["next_action"]) == ("canceled", None)


def test_verify_asks_the_provider(api: Api) -> None:
    payment = api.made("/v1/payments", upi("pending_success"), headers={"Prefer": "wait=1"})
    url = f"/v1/payments/{payment['id']}"
    (attempt,) = api.get(f"{url}/attempts").json["data"]
    account = next(a for a in api.world.merchant().accounts if a.id == attempt["account"])
    proof = {"charge": attempt["provider_reference"], "status": "succeeded"}
    message = f"{proof['charge']}|{attempt['reference']}|{proof['status']}"
    proof["signature"] = hmac.new(
        account.credentials["api_secret"].encode(), message.encode(), hashlib.sha256
    ).hexdigest()
    assert fits("Payment", api.post(f"{url}/verify", proof))["status"] == "processing"
    api.world.sleep(3)
    assert fits("Payment", api.post(f"{url}/verify", proof))["status"] == "succeeded"
    assert fits("Payment", api.post(f"{url}/verify", proof, idem=None))["status"] == "succeeded"


def test_verify_before_any_attempt_is_409(api: Api) -> None:
    payment = api.made("/v1/payments", PAYMENT)
    assert api.post(f"/v1/payments/{payment['id']}/verify", {}).code == "payment_not_attempted"


@pytest.mark.parametrize(("decision", "after"), [("approve", "succeeded"), ("reject", "failed")])
def test_a_doubtful_payment_is_reviewed(api: Api, decision: str, after: str) -> None:
    payment = api.made("/v1/payments", {**PAYMENT, "customer": {"country": "NP"}})
    assert (payment["status"], payment["risk"]["decision"]) == ("requires_review", "review")
    url = f"/v1/payments/{payment['id']}"
    fits("Payment", api.post(f"{url}/review", {"decision": decision, "note": "looked at it"}))
    api.world.run(horizon=60)
    assert fits("Payment", api.get(url))["status"] == after
    assert api.post(f"{url}/review", {"decision": "approve"}).code == "payment_not_in_review"


def test_a_blocked_payment_is_born_failed(api: Api) -> None:
    payment = fits("Payment", api.post("/v1/payments", {**PAYMENT, "amount": 100_000_01}))
    assert (payment["status"], payment["error"]["code"]) == ("failed", "risk_blocked")
    assert payment["risk"]["reasons"] == ["Fraud detected: High amount"]


def test_only_what_waits_for_a_person_is_resolved_by_one(api: Api) -> None:
    answer = api.post(f"/v1/payments/{api.paid()['id']}/resolve", {"outcome": "succeeded", "note": "bank says so"})
    assert (answer.status, answer.code) == (409, "payment_not_in_manual_review")


# -- provider webhooks -----------------------------------------------------------------------------

HOOK = "/webhooks/simulator/acct_simulator"


def sign(api: Api, body: bytes) -> dict[str, str]:
    account = next(a for a in api.world.merchant().accounts if a.id == "acct_simulator")
    return {"X-Simulator-Signature": hmac.new(account.webhook_secrets[0].encode(), body, hashlib.sha256).hexdigest()}


def test_a_signed_provider_event_is_queued_and_taken_in(api: Api) -> None:
    payment = api.made("/v1/payments", upi("pending_success"), headers={"Prefer": "wait=1"})
    api.world.bank.run_due(api.world.clock.time + 3)
    (webhook, *_) = api.world.bank.take_webhooks(api.world.clock.time + 60)
    answer = api.request("POST", HOOK, webhook.body, key=None, headers=webhook.headers)
    assert (answer.status, answer.json) == (200, {"received": True})
    assert len(api.world.queues["provider-events"]) == 1
    api.world.run(horizon=60)
    assert api.get(f"/v1/payments/{payment['id']}").json["status"] == "succeeded"


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "application/octet-stream", "x", ""])
def test_the_signature_is_over_the_exact_bytes_of_any_type(api: Api, content_type: str) -> None:
    body = b'{ "event":"something.new",  "n": 1.0, "t": "\xc3\xa9" }\n'
    headers = {**sign(api, body), "Content-Type": content_type}
    assert api.request("POST", HOOK, body, key=None, headers=headers).status == 200
    assert api.world.queues["provider-events"] == []  # an unknown type: acknowledged and ignored


@pytest.mark.parametrize("body", [b"", b"\x00\xff", b"[]", b"{", b"nope", b"[" * 50_000])
def test_a_badly_signed_event_is_401_and_nothing_is_kept(api: Api, body: bytes) -> None:
    before = api.snapshot()
    for headers in (
        {},
        {"X-Simulator-Signature": "0" * 64},
        {"X-Simulator-Signature": "é"},
        {"X-Simulator-Signature": ""},
    ):
        answer = api.request("POST", HOOK, body, key=None, headers={**headers, "Content-Type": "application/json"})
        assert (answer.status, answer.code) == (401, "signature_invalid")
    signed = api.request("POST", HOOK, body, key=None, headers={**sign(api, body), "Content-Type": "application/json"})
    assert signed.status == 200
    assert api.snapshot() == before


@pytest.mark.parametrize(
    "path", ["/webhooks/razorpay/acct_simulator", "/webhooks/simulator/acct_nobody", "/webhooks/paypal/acct_simulator",
             "/webhooks/SIMULATOR/acct_simulator", "/webhooks/simulator/%00", "/webhooks/simulator/" + "a" * 65]
)  # fmt: skip
def test_an_event_for_nobody_is_404(api: Api, path: str) -> None:
    answer = api.request("POST", path, b"{}", key=None, headers=sign(api, b"{}"))
    assert (answer.status, answer.code) == (404, "account_not_found")


def test_a_provider_event_may_have_256_kb(api: Api) -> None:
    body = b'{"pad":"' + b"x" * (256 * 1024 - 10) + b'"}'
    assert len(body) == 256 * 1024
    assert api.request("POST", HOOK, body, key=None, headers=sign(api, body)).status == 200
    answer = api.request("POST", HOOK, body + b" ", key=None, headers=sign(api, body + b" "))
    assert (answer.status, answer.code) == (413, "payload_too_large")


def test_other_merchants_are_there(api: Api) -> None:
    order = api.made("/v1/orders", ORDER, key=api.other_key)
    assert [o["id"] for o in api.get("/v1/orders", key=api.other_key).json["data"]] == [order["id"]]
    assert OTHER.merchant_id not in json.dumps(order)
