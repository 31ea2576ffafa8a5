"""What the sandbox bank can do to a payment, and what a merchant sees of it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from tests.support import marks
from tests.support.stack import basic, eventually

if TYPE_CHECKING:
    from tests.support.stack import Client

pytestmark = pytest.mark.xdist_group("stack")


def test_a_plain_payment_succeeds_and_the_merchant_is_told(stack: Client) -> None:
    answer = stack.pay(wait=15, customer={"email": marks.EMAIL, "country": "IN"}, metadata={"cart": "42"})
    payment = answer.json
    assert (answer.status, payment["status"], payment["attempts"]) == (201, "succeeded", 1)
    stack.check_story(payment)
    told = eventually(
        lambda: next(
            (w for w in stack.received() if w["type"] == "payment.succeeded" and w["payment_id"] == payment["id"]), None
        ),
        20,
        "no webhook",
    )
    assert told["sequence"] == 3


def test_a_lost_answer_is_one_charge_and_one_attempt(stack: Client) -> None:
    payment = stack.settled(stack.pay("timeout_after@sim").json["id"])
    assert (payment["status"], payment["attempts"]) == ("succeeded", 1)
    assert [c["captured"] for c in stack.truth(payment["id"])] == [149900]
    stack.check_story(payment)


def test_a_slow_charge_keeps_every_other_provider_away(stack: Client) -> None:
    payment = stack.settled(stack.pay("slow_charge@sim").json["id"], seconds=90)
    assert (payment["status"], payment["attempts"]) == ("succeeded", 1)
    assert len(stack.truth(payment["id"])) == 1
    stack.check_story(payment)


def test_a_late_success_is_reversed_and_the_payment_stays_failed(stack: Client) -> None:
    payment = stack.settled(stack.pay("late_success@sim").json["id"])
    assert payment["status"] == "failed"

    def reversed_at_the_bank() -> bool:
        charges = stack.truth(payment["id"])
        return [(c["captured"], c["refunded"]) for c in charges] == [(149900, 149900)]

    eventually(reversed_at_the_bank, 30, "the late charge is not refunded")
    after = stack.quiet(payment["id"])
    assert (after["status"], after["amount_captured"]) == ("failed", 0)
    stack.check_story(after)


def test_a_technical_decline_fails_over_within_the_limits(stack: Client) -> None:
    payment = stack.settled(stack.pay("technical@sim").json["id"])
    attempts = stack.get(f"/v1/payments/{payment['id']}/attempts")["data"]
    assert payment["status"] == "failed"
    assert len({a["provider"] for a in attempts}) == 2
    assert len(attempts) == 3
    stack.check_story(payment)


def test_a_refused_connection_goes_to_another_provider(stack: Client) -> None:
    stack.bank("/_chaos", {"provider": "simulator", "refuse_connections": 1})
    payment = stack.settled(stack.pay(marks.VPA).json["id"])
    assert payment["status"] == "succeeded"
    stack.check_story(payment)


def test_a_premium_payment_takes_the_premium_route_and_refunds_in_parts(stack: Client) -> None:
    payment = stack.settled(stack.pay(amount=1_500_000).json["id"])
    assert (payment["status"], payment["provider"]) == ("succeeded", "razorpay")
    path = f"/v1/payments/{payment['id']}/refunds"
    first = stack.request("POST", path, {"amount": 500_000, "reason": "one of three"}, key=uuid4().hex)
    assert first.status == 201
    eventually(lambda: stack.get(f"/v1/refunds/{first.json['id']}")["status"] == "succeeded", 30, "not refunded")
    after = stack.quiet(payment["id"])
    assert (after["amount_refunded"], after["refund_status"]) == (500_000, "partial")
    stack.check_story(after)


def test_a_simulation_says_where_a_payment_will_go_and_rules_put_again_change_nothing(stack: Client) -> None:
    wish = {"amount": 1_500_001, "currency": "INR", "method": {"type": "upi", "flow": "collect", "vpa": "success@sim"}}
    simulated = stack.request("POST", "/v1/routing/simulate", wish)
    assert (simulated.status, simulated.json["decision"]["rule"], simulated.json["provider"]) == (
        200,
        "premium",
        "razorpay",
    )
    payment = stack.settled(stack.pay(amount=1_500_001).json["id"])
    assert (payment["provider"], payment["route"]) == ("razorpay", simulated.json["decision"]["reason"])
    rules = stack.get("/v1/routing")
    kept = {name: rules[name] for name in ("version", "rules", "maintenance", "costs")}
    assert stack.request("PUT", "/v1/routing", kept).json == rules
    wrong = stack.request("PUT", "/v1/routing", kept | {"rules": [{"name": f"r{n}"} for n in range(10_000)]})
    assert (wrong.status, wrong.json["param"]) == (422, "rules.100")
    assert stack.get("/v1/routing") == rules


def test_an_authorized_payment_is_captured_in_part_and_the_rest_released(stack: Client) -> None:
    payment = stack.settled(stack.pay(capture="manual").json["id"], until=("authorized",))
    answer = stack.request("POST", f"/v1/payments/{payment['id']}/capture", {"amount": 100_000}, key=uuid4().hex)
    assert answer.status in (200, 201, 202), answer.body
    after = stack.quiet(payment["id"])
    assert (after["status"], after["amount_captured"]) == ("succeeded", 100_000)
    stack.check_story(after)


def test_a_blocked_payment_is_born_failed(stack: Client) -> None:
    answer = stack.pay(amount=15_000_000)
    payment = answer.json
    assert (answer.status, payment["status"], payment["error"]["code"]) == (201, "failed", "risk_blocked")
    assert "High amount" in payment["risk"]["reasons"][0]
    assert stack.truth(payment["id"]) == []


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status", "code"),
    [
        ("GET", "/nowhere", None, {}, 404, "not_found"),
        ("DELETE", "/v1/payments", None, {}, 405, "method_not_allowed"),
        ("POST", "/v1/payments", b'{"description": "' + b"x" * 70_000 + b'"}', {}, 413, None),
        ("POST", "/v1/payments", b"amount=1", {"Content-Type": "text/plain"}, 415, None),
        ("GET", "/v1/payments/pay_01ARZ3NDEKTSV4RRFFQ69G5FAV", None, {}, 404, None),
        ("GET", "/v1/payments", None, {"Authorization": "Bearer sk_test_nobody"}, 401, None),
    ],
)
def test_errors_through_the_gateway_are_problem_documents(
    stack: Client, method: str, path: str, body: bytes | None, headers: dict[str, str], status: int, code: str | None
) -> None:
    for base in (stack.local["api_url"], stack.local["gateway_url"]):
        answer = stack.request(method, path, body, key=uuid4().hex, headers=headers, base=base)
        assert answer.status == status, answer.body
        assert answer.headers["content-type"].startswith("application/problem+json")
        assert {"type", "title", "status", "detail", "code", "request_id"} <= set(answer.json)
        assert answer.json["status"] == status
        assert code is None or answer.json["code"] == code
        assert "railyard-request-id" in answer.headers


def test_the_key_may_come_as_basic_authentication(stack: Client) -> None:
    answer = stack.request("GET", "/v1/payments?limit=1", headers={"Authorization": basic(stack.local["secret_key"])})
    assert answer.status == 200
