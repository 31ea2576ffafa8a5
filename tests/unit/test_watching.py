"""Providers' minutes: counted once with their event, looked at once each, and shown to the merchant."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pytest

from chalicelib.api import outputs
from chalicelib.domain import anomaly
from chalicelib.services import projections, watching
from chalicelib.storage import minutes
from chalicelib.storage.health import Unavailable
from chalicelib.storage.minutes import Subject
from tests.support.api import PAYMENT, Api, api_fixture
from tests.support.world import TENANT

if TYPE_CHECKING:
    from collections.abc import Sequence

api = api_fixture("function")
UPI = Subject(TENANT, "simulator", "upi")


def pay(api: Api, outcome: str = "success", number: int = 0) -> None:
    method = {"type": "upi", "flow": "collect", "vpa": f"{outcome}@sim"}
    api.made("/v1/payments", PAYMENT | {"method": method, "customer": {"email": f"c{number}@canary.example"}})
    api.world.run(horizon=60)


def seen(api: Api) -> minutes.Tally:
    last = minutes.minute_of(api.world.clock())
    return sum(minutes.read(UPI, last - 60, last).values(), minutes.Tally())


def method(api: Api, provider: str = "simulator") -> Any:
    answer = api.get("/v1/providers")
    outputs.ProviderList.model_validate_json(answer.body)
    shown = next(one for one in answer.json["data"] if one["id"] == provider)
    return next(one for one in shown["methods"] if one["method"] == "upi")


# -- counting ----------------------------------------------------------------------------------------


def test_each_end_of_an_attempt_is_in_its_minute_once(api: Api) -> None:
    for number, outcome in enumerate(("success", "success", "decline")):
        pay(api, outcome, number)
    tally = seen(api)
    assert (tally.calls, tally.successes, tally.technical) == (3, 2, 0)
    assert sum(tally.latency.values()) == 3


def test_an_event_that_comes_twice_counts_once(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[Any] = []
    count = watching.counted

    def remember(kit: Any, event: Any) -> Any:
        events.append(event)
        return count(kit, event)

    with monkeypatch.context() as listening:
        listening.setattr(watching, "counted", remember)
        pay(api)
    once = seen(api)
    for event in events:
        projections.project(api.world.kit, event)
    assert any("outcome" in event["data"] for event in events)
    assert seen(api) == once
    assert once.calls == 1


def test_what_only_waits_has_a_latency_and_no_end(api: Api) -> None:
    method_ = {"type": "upi", "flow": "collect", "vpa": "action@sim"}
    api.made("/v1/payments", PAYMENT | {"method": method_})
    api.world.run(horizon=1)
    tally = seen(api)
    assert (tally.calls, sum(tally.latency.values())) == (0, 1)


def test_a_technical_failure_is_one_and_a_webhook_tells_no_latency(api: Api) -> None:
    pay(api, "technical")
    pay(api, "pending_success", 1)
    tally = seen(api)
    assert (tally.successes, tally.technical >= 1) == (1, True)
    assert sum(tally.latency.values()) == tally.calls  # one each from the answer to the call, none from the webhook


# -- watching ----------------------------------------------------------------------------------------


class Script:
    """A detector that says what it is told to, and remembers the minutes it was given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.minutes: list[anomaly.Minute] = []
        self.says: list[anomaly.Alert] = []
        step = anomaly.step

        def scripted(detector: Any, minute: anomaly.Minute) -> tuple[Any, list[anomaly.Alert]]:
            after, _ = step(detector, minute)
            self.minutes.append(minute)
            said, self.says = self.says, []
            return after, said

        monkeypatch.setattr(anomaly, "step", scripted)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    return Script(monkeypatch)


def alert(api: Api, state: Any = "raised", since: int | None = None) -> anomaly.Alert:
    now = minutes.minute_of(api.world.clock())
    return anomaly.Alert(
        "success_rate", state, now if since is None else since, now, 0.9, 0.5, "Success rate fell to 50 % (usual 90 %)"
    )


def numbers(script: Script) -> Sequence[int]:
    return [minute.number for minute in script.minutes if minute.calls]


def test_a_minute_is_taken_in_once_when_it_is_complete(api: Api, script: Script) -> None:
    pay(api)
    first = minutes.minute_of(api.world.clock())
    watching.watch(api.world.kit, 40)
    assert numbers(script) == []
    api.world.clock.time += 180
    for _ in range(3):
        watching.watch(api.world.kit, 40)
    (taken,) = [minute for minute in script.minutes if minute.calls]
    assert first - 2 <= taken.number <= first
    assert (taken.calls, taken.successes, taken.latency_samples) == (1, 1, 1)
    assert taken.latency_p95 is not None


def test_minutes_without_payments_are_looked_at_too(api: Api, script: Script) -> None:
    pay(api)
    api.world.clock.time += 3_600
    watching.watch(api.world.kit, 40)
    assert script.minutes[-1].number == minutes.minute_of(api.world.clock()) - 3
    assert script.minutes[-1].calls == 0


def test_an_alert_is_logged_counted_stored_and_shown(
    api: Api, script: Script, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    emitted: list[tuple[Any, ...]] = []
    monkeypatch.setattr(watching, "metric", lambda name, value=1, **by: emitted.append((name, value, by.get("state"))))
    pay(api)
    api.world.clock.time += 180
    script.says = [alert(api)]
    assert watching.watch(api.world.kit, 40) == 1
    (shown,) = method(api)["alerts"]
    assert (shown["kind"], shown["state"], shown["usual"], shown["seen"], shown["summary"]) == (
        "success_rate", "raised", 0.9, 0.5, "Success rate fell to 50 % (usual 90 %)",
    )  # fmt: skip
    script.says = [alert(api, "cleared", since=minutes.minute_of(api.world.clock()))]
    api.world.clock.time += 60
    watching.watch(api.world.kit, 40)
    (shown,) = method(api)["alerts"]
    assert shown["state"] == "cleared"
    assert emitted == [
        ("Anomaly", 1, "raised"),
        ("AnomaliesOpen", 0, None),
        ("Anomaly", 1, "cleared"),
        ("AnomaliesOpen", 0, None),
    ]
    assert "mer_01TEST: raised by upi at simulator: Success rate fell to 50 % (usual 90 %)" in caplog.messages


def test_the_number_of_alerts_that_stand_is_told_by_every_run(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    pay(api)
    (row,) = minutes.watched()
    standing = anomaly.Detector.from_dict(dict(row.body) | {"latency": [0.0, 900.0, 1.0, 5, 300.0, 5, 900.0]})
    assert minutes.step(row, standing.as_dict(), [])
    emitted: list[tuple[str, float]] = []
    monkeypatch.setattr(watching, "metric", lambda name, value=1, **_: emitted.append((name, value)))
    for _ in range(2):
        watching.watch(api.world.kit, 40)
    assert emitted == [("AnomaliesOpen", 1)] * 2


def test_of_two_runs_at_once_one_takes_the_minute_in_and_tells(
    api: Api, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    pay(api)
    api.world.clock.time += 180
    script.says = [alert(api)]
    write, others = minutes.step, []

    def second(*args: Any) -> bool:
        monkeypatch.setattr(minutes, "step", write)
        others.append(watching.watch(api.world.kit, 40))
        return write(*args)

    monkeypatch.setattr(minutes, "step", second)
    assert watching.watch(api.world.kit, 40) == 0
    assert len(others) == 1
    watched = list(minutes.watched())
    assert [row.version for row in watched] == [2]


def test_a_crash_before_the_write_loses_nothing(api: Api, script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    pay(api)
    api.world.clock.time += 180
    with monkeypatch.context() as crashing:

        def crash(*_: Any) -> bool:
            raise Unavailable("throttled")

        crashing.setattr(minutes, "step", crash)
        assert watching.watch(api.world.kit, 40) == 0
    script.says = [alert(api)]
    assert watching.watch(api.world.kit, 40) == 1
    assert len(method(api)["alerts"]) == 1


def test_who_has_had_no_payment_for_a_week_is_not_watched_any_more_until_the_next_one(api: Api, script: Script) -> None:
    pay(api)
    assert len(list(minutes.watched())) == 1
    for _ in range(9):
        api.world.clock.time += 86_400
        watching.watch(api.world.kit, 40)
    assert list(minutes.watched()) == []
    pay(api, number=1)
    assert len(list(minutes.watched())) == 1


def test_a_payment_is_counted_even_if_it_cannot_be_watched(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def unavailable(*_: Any) -> None:
        raise Unavailable("throttled")

    monkeypatch.setattr(minutes, "begin", unavailable)
    pay(api)
    assert seen(api).calls == 1


# -- shown -------------------------------------------------------------------------------------------


def test_the_last_hour_is_shown_with_its_interval_and_percentiles(api: Api) -> None:
    for number, outcome in enumerate(("success", "success", "success", "decline")):
        pay(api, outcome, number)
    hour = method(api)["last_hour"]
    assert (hour["calls"], hour["success_rate"], hour["technical_failure_rate"], hour["latency_samples"]) == (
        4,
        0.75,
        0.0,
        4,
    )
    assert hour["success_rate_low"] < 0.75 < hour["success_rate_high"]
    assert hour["latency_ms"]["p50"] <= hour["latency_ms"]["p95"] <= hour["latency_ms"]["p99"]
    api.world.clock.time += 7_200
    assert method(api)["last_hour"]["calls"] == 0


def test_without_payments_there_is_nothing_to_show(api: Api) -> None:
    shown = method(api, "razorpay")
    assert shown["last_hour"] == {
        "calls": 0, "success_rate": None, "success_rate_low": 0.0, "success_rate_high": 1.0, "technical_failure_rate": None,
        "latency_samples": 0, "latency_ms": {"p50": None, "p95": None, "p99": None},
    }  # fmt: skip
    assert shown["alerts"] == []


def test_one_merchants_minutes_and_alerts_are_not_anothers(api: Api, script: Script) -> None:
    pay(api)
    api.world.clock.time += 180
    script.says = [alert(api)]
    watching.watch(api.world.kit, 40)
    assert minutes.alerts(TENANT)
    assert api.get("/v1/providers", key=api.other_key).json["data"] == []
    assert json.dumps(asdict(alert(api)))
