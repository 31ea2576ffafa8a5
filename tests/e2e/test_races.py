"""Many requests at once, through the deployed API Gateway and real Lambda processes."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

if TYPE_CHECKING:
    from tests.support.stack import Client

pytestmark = pytest.mark.xdist_group("stack")


def test_200_creates_with_one_key_make_one_payment_and_one_charge(stack: Client) -> None:
    key = uuid4().hex
    answers = stack.at_once([lambda: stack.pay(key=key)] * 200)
    statuses = Counter(answer.status for answer in answers)
    assert set(statuses) <= {201, 409}, statuses
    assert statuses[201] >= 1
    bodies = {answer.body for answer in answers if answer.status == 201}
    assert len(bodies) == 1, "replays differ"
    assert all(a.json["code"] == "request_in_progress" for a in answers if a.status == 409)
    payment = stack.settled(next(a for a in answers if a.status == 201).json["id"])
    assert payment["status"] == "succeeded"
    assert [c["captured"] for c in stack.truth(payment["id"])] == [149900]
    stack.check_story(payment)


def test_20_full_refunds_at_once_refund_once(stack: Client) -> None:
    payment = stack.settled(stack.pay().json["id"])
    path = f"/v1/payments/{payment['id']}/refunds"
    answers = stack.at_once([lambda: stack.request("POST", path, {}, key=uuid4().hex)] * 20)
    statuses = Counter(answer.status for answer in answers)
    assert statuses[201] == 1, statuses
    assert set(statuses) <= {201, 409, 422, 429}, statuses
    after = stack.quiet(payment["id"])
    assert (after["amount_refunded"], after["refund_status"]) == (149900, "full")
    assert [c["refunded"] for c in stack.truth(payment["id"])] == [149900]
    stack.check_story(after)


def test_10_captures_and_cancels_at_once_come_to_one_end(stack: Client) -> None:
    payment = stack.settled(stack.pay(capture="manual").json["id"], until=("authorized",))
    calls: list[Any] = []
    for number in range(10):
        verb = "capture" if number % 2 else "cancel"
        path = f"/v1/payments/{payment['id']}/{verb}"
        calls.append(lambda path=path: stack.request("POST", path, {}, key=uuid4().hex))
    answers = stack.at_once(calls)
    statuses = Counter(answer.status for answer in answers)
    assert set(statuses) <= {200, 201, 202, 409, 429}, statuses
    assert sum(statuses[s] for s in (200, 201, 202)) == 1, statuses
    after = stack.quiet(payment["id"])
    (charge,) = stack.truth(payment["id"])
    if after["status"] == "succeeded":
        assert (charge["status"], charge["captured"]) == ("captured", 149900)
    else:
        assert (after["status"], charge["captured"]) == ("canceled", 0)
    stack.check_story(after)


def test_10_payments_at_once_for_one_order_keep_one(stack: Client) -> None:
    order = stack.request("POST", "/v1/orders", {"amount": 50000, "currency": "INR"}, key=uuid4().hex).json
    answers = stack.at_once([lambda: stack.pay(amount=50000, order_id=order["id"])] * 10)
    statuses = Counter(answer.status for answer in answers)
    assert statuses[201] == 1, statuses
    assert set(statuses) <= {201, 409, 429}, statuses
    payment = stack.settled(next(a for a in answers if a.status == 201).json["id"])
    assert payment["status"] == "succeeded"
    assert stack.get(f"/v1/orders/{order['id']}")["status"] == "paid"
    listed = stack.get(f"/v1/payments?order_id={order['id']}")["data"]
    assert [p["id"] for p in listed] == [payment["id"]]
    stack.check_story(payment)


def test_webhooks_are_acknowledged_within_a_second_while_others_wait(stack: Client) -> None:
    import time  # noqa: PLC0415
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

    with ThreadPoolExecutor(40) as pool:
        waiting = [pool.submit(stack.pay, "pending_success@sim", wait=3) for _ in range(40)]
        time.sleep(0.5)
        started = time.monotonic()
        answer = stack.request("POST", "/webhooks/simulator/acc_simulator", b"{}", headers={"X-Signature": "bad"})
        took = time.monotonic() - started
        assert answer.status == 401
        assert took < 1.0, f"{took:.2f} s"
        answers = [future.result() for future in waiting]
    assert {a.status for a in answers} == {201}
    assert any("preference-applied" not in a.headers for a in answers), "nobody was over the cap"
