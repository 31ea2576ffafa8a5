"""Providers' health and the operator's word on a breaker, through the door."""

from __future__ import annotations

from typing import Any

import pytest

from chalicelib.domain.breaker import Breaker, Bucket, Status, record
from chalicelib.storage.health import Change, Row, breaker_row
from tests.support.api import PAYMENT, Answer, Api, api_fixture
from tests.unit.test_api_routes import fits

api = api_fixture("function")
HOLD = {"method": "upi", "state": "open", "reason": "ticket 4711"}


def method(answer: Any, provider: str = "simulator", name: str = "upi") -> Any:
    listed = answer.get("data", [answer])
    (found,) = [shown for shown in listed if shown["id"] == provider]
    return next(one for one in found["methods"] if one["method"] == name)


def hold(api: Api, **changes: Any) -> Answer:
    return api.post("/v1/providers/simulator/breaker", {**HOLD, **changes})


def went_to(api: Api) -> tuple[str, Any]:
    api.world.clock.time += 2
    payment = api.made("/v1/payments", PAYMENT)
    api.world.run(horizon=3)
    (attempt,) = api.get(f"/v1/payments/{payment['id']}/attempts").json["data"]
    return attempt["account"], attempt["route"]


def test_every_provider_of_the_merchant_is_listed_with_what_it_takes(api: Api) -> None:
    listed = fits("ProviderList", api.get("/v1/providers"))
    assert [shown["id"] for shown in listed["data"]] == sorted({a.provider for a in api.world.merchant().accounts})
    quiet = {"method": "upi", "state": "closed", "forced": False, "reason": None, "since": None, "until": None,
             "calls": 0, "failures": 0, "failure_share": None}  # fmt: skip
    assert {
        name: value for name, value in method(listed).items() if name not in ("last_hour", "alerts", "changes")
    } == quiet
    assert fits("ProviderList", api.get("/v1/providers", key=api.other_key))["data"] == []


def test_what_is_shown_is_the_last_minute(api: Api) -> None:
    now = api.world.clock()
    number = int(now.timestamp()) // 10
    buckets = (Bucket(number - 6, 50, 50), Bucket(number - 5, 2, 1), Bucket(number, 1, 0))
    known = Breaker(Status.CLOSED, now, "5 calls succeeded.", buckets=buckets, version=1)
    assert api.world.kit.health.put(breaker_row("test", "simulator", "upi", known, Breaker()))
    shown = method(fits("ProviderList", api.get("/v1/providers")))
    assert (shown["calls"], shown["failures"], shown["failure_share"]) == (4, 1, 0.25)
    assert method(api.get("/v1/providers").json, name="card")["calls"] == 0


def test_a_breaker_that_has_never_moved_is_in_its_state_since_no_time(api: Api) -> None:
    now = api.world.clock()
    used = record(Breaker(), ok=True, at=now, sent_at=now)
    row = breaker_row("test", "simulator", "upi", used, Breaker())
    assert api.world.kit.health.put(row)
    shown = method(fits("ProviderList", api.get("/v1/providers")))
    assert (shown["calls"], shown["since"]) == (1, None)
    closed = Breaker(Status.CLOSED, now, "5 calls succeeded.", version=2)
    assert api.world.kit.health.put(breaker_row("test", "simulator", "upi", closed, used))
    assert method(api.get("/v1/providers").json)["since"] is not None


def test_a_breaker_that_is_held_open_keeps_the_merchants_payments_away(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("WARNING", logger="railyard")
    assert went_to(api)[0] == "acct_simulator"
    shown = method(fits("Provider", hold(api, seconds=600)))
    assert (shown["state"], shown["forced"], shown["reason"]) == ("open", True, "ticket 4711")
    assert shown["until"] is not None
    assert "ticket 4711" in caplog.text
    account, route = went_to(api)
    assert account == "acct_razorpay"
    assert route["skipped"]["acct_simulator"] == "is held back: ticket 4711"
    assert method(api.get("/v1/providers").json, name="card")["state"] == "closed"
    # Everybody else's payments go on: only this merchant's row has changed.
    assert api.world.kit.health.breaker("test", "simulator", "upi").status is Status.CLOSED
    assert method(fits("Provider", hold(api, state="auto")))["forced"] is False
    assert went_to(api)[0] == "acct_simulator"


def test_every_word_on_a_breaker_is_kept_with_who_said_it(api: Api) -> None:
    hold(api, seconds=60)
    api.world.clock.time += 1
    shown = method(fits("Provider", hold(api, state="auto", reason="it works again")))
    released, held = shown["changes"]
    assert (held["state"], held["was"], held["reason"]) == ("held open", "closed", "ticket 4711")
    assert (released["state"], released["was"], released["reason"]) == ("left to itself", "held open", "it works again")
    assert held["key_id"] == released["key_id"]
    assert held["key_id"].startswith("key_")
    assert method(api.get("/v1/providers").json, name="card")["changes"] == []


def test_what_a_breaker_goes_through_is_kept_with_the_row_that_changes(api: Api) -> None:
    kit, now = api.world.kit, api.world.clock()
    down = Breaker(Status.OPEN, now, "30 of 40 calls failed in the last 20 s.", cools_until=now, version=4)
    assert kit.health.put(breaker_row("test", "simulator", "upi", down, Breaker()))
    assert went_to(api)[0] == "acct_simulator"  # it is tried again
    (change,) = method(api.get("/v1/providers").json)["changes"]
    assert (change["state"], change["was"], change["key_id"]) == ("half_open", "open", None)


def test_a_change_that_loses_its_race_is_not_kept(api: Api) -> None:
    kit, now = api.world.kit, api.world.clock()
    row = breaker_row("test", "simulator", "upi", Breaker(Status.OPEN, now, "down", version=1), Breaker())
    change = Change("simulator", "upi", now, "open", "closed", "down", 1, "test")
    assert kit.health.put(row, change)
    assert not kit.health.put(row, change._replace(reason="another"))
    assert [one.reason for one in kit.health.changes(api.world.merchant().tenant, "simulator")] == ["down"]


def test_what_is_held_is_let_go_when_its_time_is_over(api: Api) -> None:
    hold(api, seconds=60)
    assert went_to(api)[0] == "acct_razorpay"
    api.world.clock.time += 60
    assert went_to(api)[0] == "acct_simulator"
    assert method(api.get("/v1/providers").json)["forced"] is False


def test_a_breaker_that_is_held_closed_lets_everything_through(api: Api) -> None:
    now = api.world.clock()
    down = Breaker(Status.OPEN, now, "down", cools_until=now.replace(year=2030), version=1)
    assert api.world.kit.health.put(breaker_row("test", "simulator", "upi", down, Breaker()))
    assert went_to(api)[0] == "acct_razorpay"
    assert method(hold(api, state="closed").json)["state"] == "closed"
    assert went_to(api)[0] == "acct_simulator"


@pytest.mark.parametrize(
    ("changes", "param"),
    [({"state": "ajar"}, "state"), ({"reason": ""}, "reason"), ({"seconds": 0}, "seconds"), ({"method": "cash"}, "method"),
     ({"seconds": 604_801}, "seconds"), ({"x": 1}, "x")],
)  # fmt: skip
def test_a_bad_word_is_refused(api: Api, changes: dict[str, Any], param: str) -> None:
    answer = hold(api, **changes)
    assert (answer.status, answer.json["param"]) == (422, param)


def test_only_what_there_is_can_be_held(api: Api) -> None:
    for key in (api.other_key, api.live_key):
        assert api.post("/v1/providers/simulator/breaker", HOLD, key=key).code == "account_not_found"
    assert api.post("/v1/providers/nobody/breaker", HOLD).status == 404
    assert api.post("/v1/providers/instamojo/breaker", {**HOLD, "method": "upi"}).status == 200


def test_two_words_at_once_both_count(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    known, before = api.world.kit.health, type(api.world.kit.health).put
    rows: list[Row] = []

    def put(self: Any, row: Row, *rest: Any) -> bool:
        if not rows:
            rows.append(row)
            hold(api, method="card")  # somebody else is faster
        return before(self, row, *rest)

    monkeypatch.setattr(type(known), "put", put)
    assert hold(api).status == 200
    listed = api.get("/v1/providers").json
    assert [method(listed, name=name)["state"] for name in ("upi", "card", "wallet")] == ["open", "open", "closed"]
