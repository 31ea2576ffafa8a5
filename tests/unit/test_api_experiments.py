"""Experiments through the door: payments fall into arms, each is counted once, and a losing variant is ended."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chalicelib.api import outputs
from chalicelib.services import experiments, outbox
from chalicelib.storage.rule_books import ROUTING
from chalicelib.storage.store import Mark
from tests.support.api import PAYMENT, Api, api_fixture

api = api_fixture("function")
URL, RESULTS = "/v1/routing", "/v1/routing/experiments"
START, STOP = "2026-11-21T00:00:00.000Z", "2026-12-21T00:00:00.000Z"
TRY: dict[str, Any] = {
    "name": "try-b",
    "share": 30,
    "start": START,
    "stop": STOP,
    "accounts": ["acct_simulator_b"],
    "settle": 0,
}
RULES = [{"name": "standard", "accounts": ["acct_simulator"]}]


def put(api: Api, *experiments: Any) -> Any:
    answer = api.request(
        "PUT", URL, {"version": api.get(URL).json["version"], "rules": RULES, "experiments": experiments}
    )
    assert answer.status == 200, answer
    outputs.RoutingSettings.model_validate_json(answer.body)
    return answer.json


def results(api: Api) -> Any:
    answer = api.get(RESULTS)
    outputs.ExperimentList.model_validate_json(answer.body)
    return answer.json["data"]


def pay(api: Api, number: int, **changes: Any) -> tuple[str, Any]:
    """The account a payment went to, and the arm that its decision names."""
    customer = {"email": f"customer{number}@canary.example"}  # nobody pays so often that risk has a say
    payment = api.made("/v1/payments", PAYMENT | {"customer": customer} | changes)
    api.world.run()
    (attempt,) = api.get(f"/v1/payments/{payment['id']}/attempts").json["data"]
    return attempt["account"], attempt["route"].get("experiment")


def test_experiments_are_shown_as_they_were_put(api: Api) -> None:
    (shown,) = put(api, TRY)["experiments"]
    assert shown == TRY | {"when": {}, "by": "priority", "guardrail": {"margin": 3, "payments": 100}}
    kept = {name: value for name, value in api.get(URL).json.items() if name not in ("object", "mode", "updated_at")}
    assert api.request("PUT", URL, kept).json["version"] == kept["version"]


def test_payments_fall_into_arms_and_are_counted_once_when_they_are_old_enough(api: Api) -> None:
    put(api, TRY)
    went = [pay(api, number) for number in range(20)]
    key = results(api)[0]["key"]
    assert key.startswith("try-b-")
    assert set(went) == {("acct_simulator", f"{key}/control"), ("acct_simulator_b", f"{key}/variant")}
    variant = [account for account, arm in went if arm == f"{key}/variant"]
    failed = pay(api, 20, method={"type": "upi", "flow": "collect", "vpa": "decline@sim"})[1]
    assert [(one["status"], one["control"]["payments"], one["variant"]["payments"]) for one in results(api)] == [
        ("running", 0, 0)
    ]
    api.world.clock.time += 3_600  # the hour is over
    (shown,) = results(api)
    payments = {"control": 20 - len(variant), "variant": len(variant)}
    successes = dict(payments)
    payments[failed.partition("/")[2]] += 1
    for arm in ("control", "variant"):
        assert shown[arm] == {"payments": payments[arm], "successes": successes[arm]}
    assert shown["counted_until"] > START
    assert shown["difference"]["low"] <= shown["difference"]["estimate"] <= shown["difference"]["high"]


def test_a_capture_that_comes_later_does_not_count_twice_and_a_blocked_payment_not_at_all(api: Api) -> None:
    put(api, TRY)
    payment = api.made("/v1/payments", PAYMENT | {"capture": "manual"})
    api.world.run()
    api.made(f"/v1/payments/{payment['id']}/capture", {})
    api.world.run()
    blocked = api.made("/v1/payments", PAYMENT | {"amount": 1_00_000_01})
    assert blocked["status"] == "failed"
    api.world.run()
    api.world.clock.time += 3_600
    (shown,) = results(api)
    together = {what: shown["control"][what] + shown["variant"][what] for what in ("payments", "successes")}
    assert together == {"payments": 1, "successes": 1}


def test_a_charge_that_is_captured_before_we_hear_of_it_is_a_success_once() -> None:
    payment = {
        "id": "pay_01M7Y5GBP0F3JQ64ERMF1CWVT4",
        "experiment": "try-b-1/variant",
        "currency": "INR",
        "amount_captured": 5,
    }
    event = {"type": "payment.succeeded", "created_at": "2026-11-21T04:30:00+00:00"}
    first = outbox.counted(
        event | {"data": {"payment": payment | {"capture": "manual"}, "outcome": {"end": "succeeded"}}}
    )
    later = outbox.counted(event | {"data": {"payment": payment | {"capture": "manual"}}})
    automatic = outbox.counted(event | {"data": {"payment": payment}})
    successes = [
        sum(n for (where, _), n in found.items() if where.startswith("experiment/"))
        for found in (first, later, automatic)
    ]
    assert successes == [1, 0, 1]


def losing(api: Api) -> None:
    """Statistics by which the variant is far behind, of an hour that is over."""
    tenant, stored = api.world.merchant().tenant, api.world.kit.store
    key = results(api)[0]["key"]
    for arm, payments, successes in (("control", 1_000, 900), ("variant", 300, 150)):
        totals = {
            (f"experiment/{key}", f"{arm}/2026-11-21T01/{what}"): count
            for what, count in (("payments", payments), ("successes", successes))
        }
        assert stored.project(tenant, totals, Mark(f"seeded/{arm}", 4_000_000_000), api.world.clock())


def test_a_guardrail_that_fails_fails_no_message_and_says_whose_and_what_to_do(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    put(api, TRY)
    losing(api)
    with monkeypatch.context() as broken:
        broken.setattr(api.world.kit.queries, "totals", lambda *_: 1 // 0)
        pay(api, 1)
    assert api.get(URL).json["experiments"][0].get("ended_at") is None
    (told,) = {record.getMessage() for record in caplog.records if "guardrail" in record.getMessage()}
    assert api.world.merchant().tenant.merchant_id in told
    assert "GET /v1/routing/experiments" in told
    api.world.clock.time += 300
    pay(api, 1)
    assert api.get(URL).json["experiments"][0]["ended_at"]


def test_the_guardrail_ends_a_losing_variant_and_says_so(api: Api) -> None:
    version = put(api, TRY)["version"]
    losing(api)
    pay(api, 1)
    after = api.get(URL).json
    (ended,) = after["experiments"]
    assert (after["version"], ended["ended_because"]) == (
        version + 1, "50.0% of 300 payments succeeded in the variant and 90.0% of 1000 otherwise: worse by more than 3 points.",
    )  # fmt: skip
    (shown,) = results(api)
    assert (shown["status"], shown["reason"]) == ("ended", ended["ended_because"])
    api.world.clock.time += 600
    assert {pay(api, number) for number in range(2, 8)} == {("acct_simulator", None)}
    assert api.get(URL).json == after  # it ends once


def test_one_that_has_ended_begins_afresh_with_another_start(api: Api) -> None:
    put(api, TRY)
    losing(api)
    pay(api, 1)
    assert results(api)[0]["status"] == "ended"
    put(api, TRY | {"start": "2026-11-21T04:00:00.000Z"})
    (shown,) = results(api)
    assert (shown["status"], shown["control"]["payments"]) == ("running", 0)
    api.world.clock.time += 600
    assert pay(api, 2)[1].startswith(shown["key"])
    assert results(api)[0]["status"] == "running"


def test_a_merchant_who_changes_the_rules_meanwhile_wins_over_the_guardrail(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(api, TRY)
    losing(api)
    standing = experiments._standing

    def meanwhile(*args: Any) -> Any:
        put(api, TRY | {"stop": "2026-12-20T00:00:00.000Z"})
        return standing(*args)

    with monkeypatch.context() as racing:
        racing.setattr(experiments, "_standing", meanwhile)
        pay(api, 1)
    (kept,) = api.get(URL).json["experiments"]
    assert (kept["stop"], kept.get("ended_at")) == ("2026-12-20T00:00:00.000Z", None)
    api.world.clock.time += 600
    pay(api, 2)  # and the next look ends what is in force now
    assert api.get(URL).json["experiments"][0]["ended_at"]


def test_the_guardrail_does_not_look_all_the_time(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    put(api, TRY)
    looks: list[str] = []
    read = type(ROUTING).read

    def counting(book: Any, tenant: Any) -> Any:
        looks.append(book.name)
        return read(book, tenant)

    monkeypatch.setattr(type(ROUTING), "read", counting)
    api.world.kit.merchants.get(api.world.merchant().tenant)  # what payments need is in the cache
    before = len(looks)
    for number in range(5):
        pay(api, number)
    assert len(looks) - before <= 3  # some minutes pass in the world while five payments run


@pytest.mark.parametrize(
    ("changes", "param", "code"),
    [
        ({"share": 4}, "share", "invalid_field"), ({"share": 31}, "share", "invalid_field"), ({"stop": START}, "stop", "bad_time"),
        ({"stop": "2027-11-21T00:00:00Z"}, "stop", "bad_time"), ({"start": "now"}, "start", "bad_time"),
        ({"accounts": ["acct_x"]}, "accounts.0", "unknown_account"), ({"by": "split"}, "by", "invalid_field"),
        ({"by": "value"}, "by", "missing_costs"), ({"guardrail": {"margin": 0}}, "guardrail.margin", "invalid_field"),
        ({"guardrail": {"payments": 5}}, "guardrail.payments", "invalid_field"), ({"name": "Try B"}, "name", "invalid_field"),
        ({"when": {"bins": ["1"]}}, "when.bins.0", "bad_bin"), ({"settle": -1}, "settle", "invalid_field"),
    ],
)  # fmt: skip
def test_a_wrong_experiment_is_named(api: Api, changes: dict[str, Any], param: str, code: str) -> None:
    before = api.get(URL).json
    answer = api.request("PUT", URL, {"version": before["version"], "rules": RULES, "experiments": [TRY | changes]})
    assert (answer.status, answer.code, answer.json["param"]) == (422, code, f"experiments.0.{param}")
    assert api.get(URL).json == before


def test_two_experiments_need_two_names(api: Api) -> None:
    answer = api.request(
        "PUT", URL, {"version": api.get(URL).json["version"], "rules": RULES, "experiments": [TRY, TRY]}
    )
    assert (answer.status, answer.json["param"]) == (422, "experiments.1.name")


def test_a_simulation_spreads_payments_over_both_arms(api: Api) -> None:
    put(api, TRY)
    shown = api.request("POST", "/v1/routing/simulate", PAYMENT).json
    assert shown["decision"]["experiment"].startswith("try-b-")
    assert set(shown["shares"]) == {"acct_simulator", "acct_simulator_b"}
    assert json.dumps(shown).count("try-b") >= 1
