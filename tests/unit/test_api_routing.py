"""Routing rules through the door: set, kept when others are wrong, in force for the payments that follow, tried out."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chalicelib.api import outputs
from chalicelib.storage.rule_books import ROUTING
from tests.support.api import CARD, PAYMENT, Answer, Api, api_fixture

api = api_fixture("function")
URL, SIMULATE = "/v1/routing", "/v1/routing/simulate"
OWN = ("object", "mode", "updated_at")


def put(api: Api, version: int | None = None, **settings: Any) -> Answer:
    if version is None:
        version = api.get(URL).json["version"]
    return api.request("PUT", URL, {"version": version} | settings)


def fits(answer: Answer, model: Any = outputs.RoutingSettings) -> Any:
    assert answer.status == 200, answer
    parsed = model.model_validate_json(answer.body)
    assert json.loads(parsed.model_dump_json(exclude_unset=True, by_alias=True)) == answer.json
    return answer.json


def one(*accounts: str, **fields: Any) -> dict[str, Any]:
    return {"name": "one", "accounts": list(accounts)} | fields


def paid(api: Api, **changes: Any) -> tuple[str, str]:
    """The account that a new payment went to, and the sentence that says why."""
    payment = api.made("/v1/payments", PAYMENT | changes)
    api.world.run()
    (attempt,) = api.get(f"/v1/payments/{payment['id']}/attempts").json["data"]
    return attempt["account"], api.get(f"/v1/payments/{payment['id']}").json["route"]


# -- GET and PUT -------------------------------------------------------------------------------------


def test_rules_are_put_in_place_of_those_of_a_version(api: Api) -> None:
    before = fits(api.get(URL))
    assert [rule["name"] for rule in before["rules"]] == ["premium above 10,000", "standard"]
    after = fits(put(api, before["version"], rules=[one("razorpay", when={"methods": ["upi"]})]))
    assert after["version"] == before["version"] + 1
    assert after["rules"] == [{"name": "one", "when": {"methods": ["upi"]}, "by": "priority", "accounts": ["razorpay"]}]
    assert fits(api.get(URL)) == after
    again = fits(
        put(api, before["version"], **{name: value for name, value in after.items() if name not in (*OWN, "version")})
    )
    assert again == after


def test_who_looked_at_another_version_is_told(api: Api) -> None:
    version = api.get(URL).json["version"]
    first = fits(put(api, version, rules=[one("simulator")]))
    answer = put(api, version, rules=[one("razorpay")])
    assert (answer.status, answer.code) == (409, "routing_changed")
    assert fits(api.get(URL)) == first


def test_of_two_writers_at_the_same_moment_one_wins(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    merchants = api.world.kit.merchants
    seen = merchants.rules(ROUTING, api.world.merchant().tenant)
    first = fits(put(api, seen.version, rules=[one("simulator")]))
    with monkeypatch.context() as before_the_write:
        before_the_write.setattr(merchants, "rules", lambda book, tenant: seen)
        answer = api.request("PUT", URL, {"version": seen.version, "rules": [one("razorpay")]})
    assert (answer.status, answer.code) == (409, "routing_changed")
    assert fits(api.get(URL)) == first


@pytest.mark.parametrize(
    ("settings", "param", "code"),
    [
        ({"rules": [{"name": "all"}, one("razorpay")]}, "rules.1.when", "overlapping_rules"),
        ({"rules": [one("paypal")]}, "rules.0.accounts.0", "unknown_provider"),
        ({"rules": [{"name": "a", "weights": {"razorpay": 50, "simulator": 40}}]}, "rules.0.weights", "bad_weights"),
        ({"rules": [{"name": "a", "when": {"methods": ["card"], "bins": ["999"]}}]}, "rules.0.when.bins.0", "bad_bin"),
        ({"rules": [{"name": f"r{n}", "when": {"metadata": {"n": str(n)}}} for n in range(10_000)]}, "rules.100", "invalid_field"),
        ({"rules": None}, "rules", "invalid_field"),
        ({"rules": [], "experiment": 1}, "experiment", "unknown_field"),
    ],
)  # fmt: skip
def test_a_wrong_rule_is_named_and_the_old_ones_stay(api: Api, settings: Any, param: str, code: str) -> None:
    before, went = fits(api.get(URL)), paid(api)
    answer = put(api, **settings)
    assert (answer.status, answer.code, answer.json["param"]) == (422, code, param)
    assert fits(api.get(URL)) == before
    assert paid(api) == went


def test_one_merchants_rules_are_not_anothers(api: Api) -> None:
    fits(put(api, rules=[one("simulator")]))
    theirs = fits(api.get(URL, key=api.other_key))
    assert (theirs["version"], theirs["rules"]) == (0, [])
    answer = api.request("PUT", URL, {"version": 0, "rules": [one("acct_simulator")]}, key=api.other_key)
    assert (answer.status, answer.code) == (422, "unknown_account")


# -- in force ----------------------------------------------------------------------------------------


def test_rules_are_in_force_for_the_payments_that_follow(api: Api) -> None:
    fits(put(api, rules=[
        {"name": "gold", "when": {"segments": ["gold"], "countries": ["IN"]}, "accounts": ["acct_simulator_b"]}, one("razorpay"),
    ]))  # fmt: skip
    assert paid(api) == ("acct_razorpay", "acct_razorpay is first in rule 'one' that can take this payment.")
    assert paid(api, customer={"segment": "gold", "country": "IN"})[0] == "acct_simulator_b"
    assert paid(api, customer={"segment": "gold", "country": "US"})[0] == "acct_razorpay"


def test_cards_are_routed_by_their_bin(api: Api) -> None:
    token = api.made("/v1/tokens", CARD)
    card = {"method": {"type": "card", "token": token["id"]}}
    fits(put(api, rules=[
        {"name": "bins", "when": {"methods": ["card"], "bins": [token["card"]["bin"]]}, "accounts": ["acct_simulator_b"]},
        one("simulator"),
    ]))  # fmt: skip
    assert paid(api, **card)[0] == "acct_simulator_b"
    assert paid(api)[0] == "acct_simulator"


def test_an_account_in_maintenance_gets_no_new_payments(api: Api) -> None:
    now = api.world.clock()
    window = {
        "account": "razorpay",
        "from": now.isoformat(),
        "until": now.replace(year=now.year, hour=23, minute=59).isoformat(),
    }
    fits(put(api, rules=[one("razorpay", "simulator")], maintenance=[window]))
    payment = api.made("/v1/payments", PAYMENT)
    api.world.run()
    (attempt,) = api.get(f"/v1/payments/{payment['id']}/attempts").json["data"]
    assert attempt["account"] == "acct_simulator"
    assert attempt["route"]["skipped"]["acct_razorpay"].startswith("is in maintenance until ")


def test_a_payment_that_went_nowhere_says_why_and_its_event_whom_there_was(api: Api) -> None:
    day = {"from": "2026-11-21T00:00:00Z", "until": "2026-11-22T00:00:00Z"}
    fits(put(api, rules=[one("acct_razorpay")], maintenance=[{"account": "razorpay", **day}]))
    payment = api.made("/v1/payments", PAYMENT)
    api.world.run()
    shown = api.get(f"/v1/payments/{payment['id']}").json
    assert (shown["status"], shown["error"]["code"], shown["attempts"]) == ("failed", "no_route", 0)
    assert shown["route"] == "No provider can take this payment."
    failed = api.get(f"/v1/payments/{payment['id']}/events").json["data"][-1]
    assert failed["data"]["route"]["skipped"] == {"acct_razorpay": "is in maintenance until 2026-11-22T00:00:00+00:00"}


# -- trying out --------------------------------------------------------------------------------------


def written(api: Api) -> Any:
    return {name: list(rows.items()) for name, rows in api.world.dynamo.tables.items()}


def test_a_simulation_says_what_a_payment_would_meet_and_writes_nothing(api: Api) -> None:
    fits(api.get(URL))
    before = written(api)
    shown = fits(api.request("POST", SIMULATE, PAYMENT), outputs.RoutingSimulation)
    assert written(api) == before
    assert (shown["decision"]["chosen"], shown["provider"], shown["shares"]) == (
        "acct_simulator",
        "simulator",
        {"acct_simulator": 1.0},
    )
    assert shown["passed_over"] == [{"rule": "premium above 10,000", "condition": "above"}]
    assert shown["risk"]["decision"] == "allow"
    assert paid(api) == ("acct_simulator", shown["decision"]["reason"])


def test_other_rules_can_be_tried_before_they_are_put(api: Api) -> None:
    split = {"name": "split", "weights": {"razorpay": 75, "simulator": 25}}
    shown = fits(api.request("POST", SIMULATE, PAYMENT | {"routing": {"rules": [split]}}), outputs.RoutingSimulation)
    assert shown["decision"]["rule"] == "split"
    assert set(shown["shares"]) == {"acct_razorpay", "acct_simulator"}
    assert sum(shown["shares"].values()) == pytest.approx(1)
    assert abs(shown["shares"]["acct_razorpay"] - 0.75) < 0.2  # 200 draws: six standard deviations
    assert [rule["name"] for rule in fits(api.get(URL))["rules"]] == ["premium above 10,000", "standard"]
    scored = {"name": "best", "by": "score"}
    shown = fits(api.request("POST", SIMULATE, PAYMENT | {"routing": {"rules": [scored]}}), outputs.RoutingSimulation)
    assert {score["account"] for score in shown["decision"]["scores"]} >= {"acct_razorpay", "acct_simulator"}
    assert shown["decision"]["seed"]


def test_a_simulation_names_what_is_wrong_with_rules_and_payments(api: Api) -> None:
    answer = api.request("POST", SIMULATE, PAYMENT | {"routing": {"rules": [{"name": "a", "by": "magic"}]}})
    assert (answer.status, answer.json["param"]) == (422, "routing.rules.0.by")
    answer = api.request("POST", SIMULATE, PAYMENT | {"amount": 0})
    assert (answer.status, answer.json["param"]) == (422, "amount")


def test_a_simulation_says_what_risk_rules_would_do_and_whether_nobody_can_take_it(api: Api) -> None:
    shown = fits(api.request("POST", SIMULATE, PAYMENT | {"amount": 1_00_000_01}), outputs.RoutingSimulation)
    assert (shown["risk"]["decision"], shown["risk"]["hits"][0]["rule"]) == ("block", "amount_limit")
    assert (shown["decision"]["chosen"], shown["provider"], shown["shares"]) == (None, None, {})
    assert shown["decision"]["reason"] == "Risk rules block this payment, so no provider is asked."
    assert (shown["decision"]["order"], shown["passed_over"]) == ([], [])
    day = {"from": "2026-11-21T00:00:00Z", "until": "2026-11-22T00:00:00Z"}
    tried = {"rules": [one("acct_razorpay")], "maintenance": [{"account": "razorpay", **day}]}
    shown = fits(api.request("POST", SIMULATE, PAYMENT | {"routing": tried}), outputs.RoutingSimulation)
    assert shown["risk"]["decision"] == "allow"
    assert (shown["decision"]["chosen"], shown["provider"], shown["shares"]) == (None, None, {})
    assert shown["decision"]["skipped"] == {"acct_razorpay": "is in maintenance until 2026-11-22T00:00:00+00:00"}
