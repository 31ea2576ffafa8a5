"""Idempotency-Key and Prefer: wait, branch by branch."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from chalicelib import wiring
from chalicelib.api.idempotency import fingerprint, scoped
from chalicelib.api.waiting import preferred
from chalicelib.domain.model import Tenant
from chalicelib.storage.store import Store
from tests.support.api import MANUAL, ORDER, PAYMENT, Answer, Api, api_fixture
from tests.support.aws import PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterator

api = api_fixture("function")

KEYED = ["/v1/orders", "/v1/payments", "{}/capture", "{}/cancel", "{}/refunds", "{}/review"]
BODIES = {"/v1/orders": ORDER, "/v1/payments": PAYMENT, "{}/review": {"decision": "approve"}}


def is_replay(answer: Answer) -> bool:
    return answer.headers.get("idempotency-replayed") == "true"


@pytest.fixture
def kit_of(api: Api) -> Iterator[Any]:
    """Changes parts of the kit for a while."""
    yield lambda **parts: wiring.install(replace(api.world.kit, **parts))
    wiring.install(api.world.kit)


# -- the key ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", KEYED)
@pytest.mark.parametrize(
    ("key", "code"),
    [
        (None, "idempotency_key_missing"), ("", "idempotency_key_missing"), ("   ", "idempotency_key_missing"),
        ("k" * 256, "idempotency_key_invalid"), ("a\tb", "idempotency_key_invalid"), ("a\x00b",
        "idempotency_key_invalid"),
        ("\u200e", "idempotency_key_invalid"), ("\ud800", "idempotency_key_invalid"),
    ],
)  # fmt: skip
def test_a_key_is_required_and_must_be_one(api: Api, path: str, key: str | None, code: str) -> None:
    before = api.snapshot()
    headers = {} if key is None else {"Idempotency-Key": key}
    url = path.format("/v1/payments/pay_" + "0" * 26)
    answer = api.post(url, BODIES.get(path, {}), idem=None, headers=headers)
    assert (answer.status, answer.code) == (400, code)
    assert api.snapshot() == before


@pytest.mark.parametrize("key", ["k", "k" * 255, '"8e03978e-40d5-43dd-bc93-6894a57f9324"', "ключ ✓", "a b", "'; --"])
def test_any_printable_key_will_do(api: Api, key: str) -> None:
    first = api.post("/v1/orders", ORDER, idem=key)
    again = api.post("/v1/orders", ORDER, idem=key)
    assert (first.status, again.status, again.body) == (201, 201, first.body)
    assert not is_replay(first)
    assert is_replay(again)


def test_routes_without_an_effect_of_their_own_need_no_key(api: Api) -> None:
    payment = api.paid()
    order = api.made("/v1/orders", ORDER)
    assert api.post(f"/v1/orders/{order['id']}/cancel", {}, idem=None).json["status"] == "canceled"
    assert api.post(f"/v1/orders/{order['id']}/cancel", {}, idem=None).json["status"] == "canceled"
    assert (
        api.post(f"/v1/payments/{payment['id']}/resolve", {"outcome": "failed", "note": "n"}, idem=None).status == 409
    )


def test_a_key_is_another_one_elsewhere() -> None:
    tenant = Tenant("mer_1", "test")
    base = scoped(tenant, "POST", "/v1/orders", "k")
    others = [
        scoped(Tenant("mer_2", "test"), "POST", "/v1/orders", "k"),
        scoped(Tenant("mer_1", "live"), "POST", "/v1/orders", "k"),
        scoped(tenant, "PUT", "/v1/orders", "k"),
        scoped(tenant, "POST", "/v1/payments", "k"),
        scoped(tenant, "POST", "/v1/orders", "K"),
        scoped(tenant, "POST", "/v1/ordersk", ""),
    ]
    assert len({base, *others}) == len(others) + 1
    assert base == scoped(tenant, "POST", "/v1/orders", "k")


def test_keys_of_merchants_modes_and_paths_do_not_meet(api: Api) -> None:
    answers = [
        api.post("/v1/orders", ORDER, idem="same"),
        api.post("/v1/orders", ORDER, idem="same", key=api.other_key),
        api.post("/v1/orders", ORDER, idem="same", key=api.live_key),
        api.post("/v1/payments", PAYMENT, idem="same"),
    ]
    assert [answer.status for answer in answers] == [201] * 4
    assert len({answer.json["id"] for answer in answers}) == 4
    assert not any(is_replay(answer) for answer in answers)
    # On a path with an id, every payment has keys of its own.
    first, second = api.made("/v1/payments", MANUAL), api.made("/v1/payments", MANUAL)
    api.world.run()
    captured = [api.post(f"/v1/payments/{one['id']}/capture", {}, idem="same") for one in (first, second)]
    assert [answer.status for answer in captured] == [200, 200]
    assert not is_replay(captured[1])


# -- the body --------------------------------------------------------------------------------------


def test_a_body_is_the_same_whatever_its_spacing_and_order(api: Api) -> None:
    first = api.post(
        "/v1/orders", b'{"amount": 5, "currency": "INR", "metadata": {"a": "1", "b": "\\u00e9"}}', idem="k"
    )
    again = api.post("/v1/orders", '{"metadata":{"b":"é","a":"1"},"currency":"INR","amount":5}'.encode(), idem="k")
    assert (again.status, again.body, is_replay(again)) == (201, first.body, True)


@pytest.mark.parametrize("changed", [{"amount": 6}, {"receipt": "r"}, {"metadata": {}}, {"currency": "JPY"}])
def test_another_body_under_a_used_key_is_422(api: Api, changed: dict[str, Any]) -> None:
    api.post("/v1/orders", {"amount": 5, "currency": "INR"}, idem="k")
    before = api.snapshot()
    answer = api.post("/v1/orders", {"amount": 5, "currency": "INR"} | changed, idem="k")
    assert (answer.status, answer.code) == (422, "idempotency_key_reused")
    assert api.snapshot() == before


def test_fingerprints_tell_bodies_apart() -> None:
    bodies: list[Any] = [{}, [], None, 1, "1", {"a": 1}, {"a": "1"}, {"a": None}, {"a": {}}, {"a": "\ud800"}]
    assert len({fingerprint(body) for body in bodies}) == len(bodies)


# -- replays ---------------------------------------------------------------------------------------


def test_a_replay_is_the_first_answer_though_the_payment_went_on(api: Api) -> None:
    first = api.post("/v1/payments", PAYMENT, idem="k")
    api.world.run()
    assert api.get(f"/v1/payments/{first.json['id']}").json["status"] == "succeeded"
    again = api.post("/v1/payments", PAYMENT, idem="k")
    assert (again.status, again.body, is_replay(again)) == (first.status, first.body, True)
    assert len(api.get("/v1/payments").json["data"]) == 1


def test_a_replay_of_a_full_refund_is_a_replay(api: Api) -> None:
    url = f"/v1/payments/{api.paid()['id']}/refunds"
    first = api.post(url, {}, idem="k")
    assert (first.status, first.json["amount"]) == (201, PAYMENT["amount"])
    again = api.post(url, {}, idem="k")
    assert (again.status, again.body, is_replay(again)) == (201, first.body, True)
    assert api.post(url, {}, idem="other").code == "nothing_to_refund"
    assert api.post(url, {"amount": 1}, idem="k").code == "idempotency_key_reused"
    api.world.run()
    assert api.post(url, {}, idem="k").body == first.body


def test_every_keyed_route_replays(api: Api) -> None:
    manual = [api.made("/v1/payments", MANUAL) for _ in range(2)]
    api.world.run()
    reviewed = api.made("/v1/payments", {**PAYMENT, "customer": {"country": "NP"}})
    assert reviewed["status"] == "requires_review"
    for url, body in (
        (f"/v1/payments/{manual[0]['id']}/capture", {"amount": PAYMENT["amount"]}),
        (f"/v1/payments/{manual[1]['id']}/cancel", {}),
        (f"/v1/payments/{reviewed['id']}/review", {"decision": "approve", "note": "known customer"}),
    ):
        first = api.post(url, body, idem="k")
        assert first.status == 200, first
        again = api.post(url, body, idem="k")
        assert (again.status, again.body, is_replay(again)) == (200, first.body, True)
        api.world.run(horizon=60)
        assert api.post(url, body, idem="k").body == first.body
        assert api.post(url, body, idem="new").status == 409


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/orders", {}, 422),
        ("/v1/orders", b"{", 400),
        ("/v1/payments", {**PAYMENT, "order_id": "order_" + "0" * 26}, 404),
    ],
)
def test_errors_do_not_burn_a_key(api: Api, path: str, body: Any, status: int) -> None:
    assert api.post(path, body, idem="k").status == status
    good = api.post(path, BODIES[path], idem="k")
    assert (good.status, is_replay(good)) == (201, False)


def test_a_conflict_does_not_burn_a_key(api: Api) -> None:
    payment = api.made("/v1/payments", MANUAL)
    url = f"/v1/payments/{payment['id']}/capture"
    assert api.post(url, {}, idem="k").code == "payment_not_capturable"
    api.world.run()
    assert api.post(url, {}, idem="k").status == 200


def test_a_key_is_free_again_after_its_time(api: Api) -> None:
    first = api.made("/v1/orders", ORDER, idem="k")
    api.world.clock.time += 86_400
    assert api.made("/v1/orders", ORDER, idem="k") == first
    api.world.clock.time += 86_401
    again = api.post("/v1/orders", ORDER, idem="k")
    assert (again.status, is_replay(again)) == (201, False)
    assert again.json["id"] != first["id"]


def test_a_row_that_ends_its_life_in_between_asks_to_try_again(api: Api, kit_of: Any) -> None:
    api.post("/v1/orders", ORDER, idem="k")

    class Forgetful(type(api.world.kit.queries)):  # type: ignore[misc]
        def idempotency(self, *_: Any) -> None:
            return None

    kit_of(queries=Forgetful(PREFIX, api.world.cipher))
    answer = api.post("/v1/orders", ORDER, idem="k")
    assert (answer.status, answer.code, answer.headers["retry-after"]) == (429, "too_many_concurrent_changes", "1")


# -- waiting ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, 0), ("", 0), ("wait=5", 5), ("WAIT=5", 5), ("wait = 5", 5), ('wait="5"', 5),
        ("respond-async, wait=7", 7),
        ("wait=20", 20), ("wait=21", 20), ("wait=999999999", 20), ("wait=9999999999", 0), ("wait=0", 0), ("wait=-1", 0),
        ("wait=abc", 0), ("wait", 0), ("wait=", 0), ("wait=1.5", 0), ("waiting=5", 0), ("wait=5; x=y", 5), ("\x00", 0),
    ],
)  # fmt: skip
def test_the_prefer_header_is_read_as_rfc_7240_has_it(header: str | None, seconds: int) -> None:
    assert preferred(header, 20) == seconds


def test_a_waiting_create_answers_with_the_outcome(api: Api) -> None:
    answer = api.post("/v1/payments", PAYMENT, idem="k", headers={"Prefer": "wait=10"})
    assert (answer.status, answer.json["status"]) == (201, "succeeded")
    assert answer.headers["preference-applied"] == "wait=10"
    for headers in ({}, {"Prefer": "wait=10"}):
        again = api.post("/v1/payments", PAYMENT, idem="k", headers=headers)
        assert (again.status, again.body, is_replay(again)) == (201, answer.body, True)
        assert "preference-applied" not in again.headers


def test_a_wait_ends_when_its_time_is_over(api: Api) -> None:
    body = {**PAYMENT, "method": {"type": "upi", "vpa": "pending_success@sim"}}
    started = api.world.clock.time
    answer = api.post("/v1/payments", body, idem="k", headers={"Prefer": "wait=1"})
    assert (answer.status, answer.json["status"]) == (201, "processing")
    assert answer.headers["preference-applied"] == "wait=1"
    assert api.world.clock.time - started == pytest.approx(1.0, abs=0.01)
    api.world.run()
    assert api.get(f"/v1/payments/{answer.json['id']}").json["status"] == "succeeded"
    assert api.post("/v1/payments", body, idem="k").body == answer.body


def test_a_blocked_payment_is_not_waited_for(api: Api) -> None:
    started = api.world.clock.time
    answer = api.post("/v1/payments", {**PAYMENT, "customer": {"country": "KP"}}, headers={"Prefer": "wait=20"})
    assert (answer.status, answer.json["status"], answer.json["error"]["code"]) == (201, "failed", "risk_blocked")
    assert api.world.clock.time == started


def test_without_a_free_place_the_answer_is_immediate(api: Api) -> None:
    kit = api.world.kit
    for number in range(kit.settings.max_waiters):
        assert kit.store.take_slot("waiters", number, "somebody", kit.now(), 30)
    answer = api.post("/v1/payments", PAYMENT, idem="k", headers={"Prefer": "wait=10"})
    assert (answer.status, answer.json["status"]) == (201, "created")
    assert "preference-applied" not in answer.headers
    assert api.post("/v1/payments", PAYMENT, idem="k").body == answer.body
    api.world.clock.time += 31  # the places free themselves
    assert "preference-applied" in api.post("/v1/payments", PAYMENT, headers={"Prefer": "wait=10"}).headers


def test_a_place_is_given_back(api: Api, kit_of: Any) -> None:
    kit_of(settings=replace(api.world.kit.settings, max_waiters=1))
    for _ in range(3):
        assert "preference-applied" in api.post("/v1/payments", PAYMENT, headers={"Prefer": "wait=5"}).headers
    assert api.post("/v1/payments", {**PAYMENT, "amount": 0}, headers={"Prefer": "wait=5"}).status == 422
    assert "preference-applied" in api.post("/v1/payments", PAYMENT, headers={"Prefer": "wait=5"}).headers


def test_nobody_waits_where_there_is_no_place(api: Api, kit_of: Any) -> None:
    kit_of(settings=replace(api.world.kit.settings, max_waiters=0))
    answer = api.post("/v1/payments", PAYMENT, headers={"Prefer": "wait=5"})
    assert (answer.status, "preference-applied" in answer.headers) == (201, False)


def die_waiting(api: Api, kit_of: Any) -> None:
    """A create whose process fails while it waits: the effect is there, the answer is not."""

    def fail(_: float) -> None:
        raise MemoryError

    kit_of(sleep=fail)
    assert api.post("/v1/payments", PAYMENT, idem="k", headers={"Prefer": "wait=10"}).status == 500
    kit_of()


def test_a_request_under_way_is_409_until_its_lease_ends(api: Api, kit_of: Any) -> None:
    die_waiting(api, kit_of)
    started = api.world.clock.time
    answer = api.post("/v1/payments", PAYMENT, idem="k")
    assert (answer.status, answer.code) == (409, "request_in_progress")
    assert 1 <= int(answer.headers["retry-after"]) <= 2
    assert api.post("/v1/payments", {**PAYMENT, "amount": 1}, idem="k").code == "idempotency_key_reused"
    api.world.clock.time = started + 14.5  # a lease is the wait and five seconds
    answer = api.post("/v1/payments", PAYMENT, idem="k")
    assert (answer.code, answer.headers["retry-after"]) == ("request_in_progress", "1")
    api.world.clock.time = started + 15.1
    assert api.post("/v1/payments", PAYMENT, idem="k").status == 201


def test_an_abandoned_key_is_answered_with_the_present_state_for_good(api: Api, kit_of: Any) -> None:
    die_waiting(api, kit_of)
    api.world.run()
    api.world.clock.time += 16
    answer = api.post("/v1/payments", PAYMENT, idem="k")
    assert (answer.status, answer.json["status"], is_replay(answer)) == (201, "succeeded", True)
    api.made(f"/v1/payments/{answer.json['id']}/refunds", {})
    api.world.run()
    assert api.post("/v1/payments", PAYMENT, idem="k").body == answer.body
    assert len(api.get("/v1/payments").json["data"]) == 1


class Beaten(Store):
    """Somebody else always stores an answer just before."""

    def answer(self, key: str, status: int, body: bytes) -> bool:
        assert super().answer(key, status, b'{"the":"winner"}')
        return super().answer(key, status, body)


@pytest.mark.parametrize("died", [False, True])
def test_who_stores_second_sends_the_winners_bytes(api: Api, kit_of: Any, died: bool) -> None:  # noqa: FBT001
    if died:
        die_waiting(api, kit_of)
        api.world.clock.time += 16
    kit_of(store=Beaten(PREFIX, api.world.cipher))
    answer = api.post("/v1/payments", PAYMENT, idem="k", headers={} if died else {"Prefer": "wait=10"})
    assert (answer.status, json.loads(answer.body), is_replay(answer)) == (201, {"the": "winner"}, True)


def test_creating_costs_two_round_trips(api: Api) -> None:
    api.made("/v1/payments", PAYMENT)  # warm
    api.watch()
    before = len(api.world.executions)
    api.made("/v1/payments", PAYMENT)
    assert api.calls == ["TransactWriteItems"]
    assert len(api.world.executions) == before + 1
