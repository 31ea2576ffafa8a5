"""Risk rules through the door: set, kept when others are wrong, and in force for the payments that follow."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chalicelib.api import outputs
from chalicelib.domain.risk import RiskRules
from chalicelib.domain.risk_settings import MAX_BYTES, to_dict
from chalicelib.storage.rule_books import RISK
from tests.support.api import CARD, PAYMENT, Answer, Api, api_fixture

api = api_fixture("function")
URL = "/v1/risk"
CUSTOMER = {"email": "Asha@Canary.example", "country": "IN", "ip": "49.205.1.7", "device": "d-1"}


def put(api: Api, rules: Any, version: int | None = None, **kwargs: Any) -> Answer:
    """PUT in place of the rules as they are now, or of those of a version."""
    if version is None:
        version = api.get(URL, **kwargs).json["version"]
    return api.request("PUT", URL, {"version": version, "rules": rules}, **kwargs)


def fits(answer: Answer) -> Any:
    assert answer.status == 200, answer
    parsed = outputs.RiskSettings.model_validate_json(answer.body)
    assert json.loads(parsed.model_dump_json(exclude_unset=True)) == answer.json
    return answer.json


def limit(**changes: Any) -> dict[str, Any]:
    return {"dimension": "customer", "seconds": 60, "measure": "count", "value": 2, "score": 100} | changes


def pay(api: Api, **changes: Any) -> Any:
    return api.made("/v1/payments", PAYMENT | {"customer": CUSTOMER} | changes)


def rows(api: Api, kind: str) -> list[dict[str, Any]]:
    items = list(api.world.dynamo.tables["railyard-local-guards"].items())
    return [item for item in items if item["kind"] == {"S": kind}]


# -- GET and PUT -------------------------------------------------------------------------------------


def test_who_never_chose_gets_the_defaults(api: Api) -> None:
    shown = fits(api.get(URL, key=api.other_key))
    assert shown == {
        "object": "risk_settings", "mode": "test", "version": 0, "updated_at": None, "rules": to_dict(RiskRules()),
    }  # fmt: skip


def test_rules_are_put_in_place_of_those_of_a_version(api: Api) -> None:
    before = fits(api.get(URL))
    changed = before["rules"] | {"max_amount": {"INR": 5_000}, "limits": [limit()]}
    after = fits(put(api, changed, before["version"]))
    assert (after["version"], after["rules"]["max_amount"]) == (before["version"] + 1, {"INR": 5_000})
    assert after["rules"]["limits"] == [limit() | {"kind": "payment"}]
    assert after["updated_at"] == "2026-11-21T04:23:20.000Z"
    assert fits(api.get(URL)) == after
    assert pay(api, amount=5_001)["error"]["code"] == "risk_blocked"  # in force here at once
    assert fits(put(api, {}, after["version"]))["rules"] == to_dict(RiskRules())  # what is left out has its default


def test_the_second_of_two_writers_is_told_and_a_repeat_is_harmless(api: Api) -> None:
    first, second = {"max_amount": {"INR": 1}}, {"max_amount": {"INR": 2}}
    after = fits(put(api, first, 0))
    lost = put(api, second, 0)
    assert (lost.status, lost.code) == (409, "risk_changed")
    assert fits(put(api, first, 0)) == after  # the answer to the first was lost
    assert fits(api.get(URL)) == after
    assert put(api, second, 99).code == "risk_changed"
    assert fits(put(api, second, after["version"]))["version"] == after["version"] + 1


def test_of_two_writers_at_the_same_moment_one_wins(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    merchants = api.world.kit.merchants
    seen = merchants.rules(RISK, api.world.merchant().tenant)
    fits(put(api, {"review_score": 40}, seen.version))
    monkeypatch.setattr(merchants, "rules", lambda book, tenant: seen)  # it has read before the other wrote
    answer = put(api, {"review_score": 41}, seen.version)
    assert (answer.status, answer.code) == (409, "risk_changed")


@pytest.mark.parametrize(
    ("rules", "param", "code"),
    [
        ({"max_amonut": {"INR": 1}}, "rules.max_amonut", "unknown_field"),
        ({"max_amount": {"INR": 0}}, "rules.max_amount.INR", "invalid_field"),
        ({"limits": [limit(), limit(value=0)]}, "rules.limits.1.value", "invalid_field"),
        ({"limits": [limit(), limit(value=3)]}, "rules.limits.1", "invalid_field"),
        ({"limits": [limit(seconds=n + 1) for n in range(10_000)]}, "rules.limits.40", "invalid_field"),
        ({"block": {"bins": ["4111"]}}, "rules.block.bins.0", "invalid_field"),
        ({"block": {"bins": ["411111"]}, "allow": {"bins": ["411111"]}}, "rules.allow.bins", "invalid_field"),
        ({"time_zone": "Asia/Atlantis"}, "rules.time_zone", "invalid_field"),
        ({"review_score": 60, "block_score": 50}, "rules.review_score", "invalid_field"),
        ({"block": {"vpas": ["4111111111111111@sim"]}}, "rules.block.vpas.0", "card_number_not_allowed"),
        ([], "rules", "invalid_field"),
    ],
)  # fmt: skip
def test_a_wrong_rule_is_named_and_the_old_ones_stay(api: Api, rules: Any, param: str, code: str) -> None:
    before = fits(api.get(URL))
    answer = put(api, rules)
    assert (answer.status, answer.code, answer.json["param"]) == (422, code, param)
    assert fits(api.get(URL)) == before


def test_a_body_needs_its_version_and_has_an_end(api: Api) -> None:
    for body, param in (
        ({"rules": {}}, "version"),
        ({"version": 1}, "rules"),
        ({"version": -1, "rules": {}}, "version"),
    ):
        answer = api.request("PUT", URL, body)
        assert (answer.status, answer.json["param"]) == (422, param)
    domains = [f"{'x' * 50}{n}.example" for n in range(2_500)]
    assert len(json.dumps(domains)) > MAX_BYTES
    assert put(api, {"block": {"email_domains": domains}}).json["param"] == "rules"
    assert put(api, {"block": {"email_domains": ["x" * 1024 * 1024]}}).status == 413


def test_another_merchant_and_the_other_mode_have_rules_of_their_own(api: Api) -> None:
    fits(put(api, {"max_amount": {"INR": 1}}))
    for key in (api.other_key, api.live_key):
        assert fits(api.get(URL, key=key))["rules"]["max_amount"] == {"INR": 100_000_00}
    assert api.get(URL, key=None).status == 401


# -- payments ----------------------------------------------------------------------------------------


def test_each_decision_shows_its_rules_scores_and_reasons(api: Api) -> None:
    fits(
        put(
            api,
            {"limits": [limit(value=1, score=60)], "first_seen_amount": {"INR": 1}, "night_from": 9, "night_to": 11},
        )
    )
    first = pay(api)
    assert first["risk"]["decision"] == "allow"
    assert [hit["rule"] for hit in first["risk"]["hits"]] == ["first_seen", "night"]
    second = pay(api)
    assert second["status"] == "requires_review"
    assert second["risk"] == {
        "decision": "review", "score": 90,
        "reasons": [
            "More than 1 payments by one customer in 1 minute",
            "At night (09:53 in Asia/Kolkata) doubts weigh 50 % more",
        ],
        "hits": [
            {"rule": "velocity", "score": 60, "reason": "More than 1 payments by one customer in 1 minute"},
            {"rule": "night", "score": 30, "reason": "At night (09:53 in Asia/Kolkata) doubts weigh 50 % more"},
        ],
    }  # fmt: skip
    assert api.get(f"/v1/payments/{second['id']}").json["risk"] == second["risk"]
    created = api.get(f"/v1/payments/{second['id']}/events").json["data"][0]
    assert created["data"]["risk"] == second["risk"]


def test_a_card_is_known_by_its_fingerprint_whatever_its_token(api: Api) -> None:
    fits(put(api, {"limits": [limit(dimension="card")]}))

    def by_card(number: str = "4242424242424242") -> str:
        token = api.made("/v1/tokens", {"card": CARD["card"] | {"number": number}})
        return str(pay(api, method={"type": "card", "token": token["id"]})["status"])

    assert [by_card() for _ in range(3)] == ["created", "created", "failed"]
    assert by_card("5555555555554444") == "created"
    api.world.clock.time += 60
    assert by_card() == "created"  # what was blocked was not counted


@pytest.mark.parametrize(
    ("dimension", "same", "other"),
    [
        ("customer", {"email": "asha@canary.EXAMPLE"}, {"email": "ravi@canary.example"}),
        ("customer", {"contact": "+919800000000"}, {"contact": "+919800000001"}),
        ("ip", {"ip": "49.205.1.7"}, {"ip": "49.205.1.8"}),
        ("ip", {"ip": "2405:201:1:2::1"}, {"ip": "2405:201:1:3::1"}),
        ("device", {"device": "d-1"}, {"device": "d-2"}),
    ],
)
def test_what_payments_are_counted_by(api: Api, dimension: str, same: dict[str, str], other: dict[str, str]) -> None:
    fits(put(api, {"limits": [limit(dimension=dimension)]}))
    statuses = [pay(api, customer=customer)["status"] for customer in (same, same, same, other, {})]
    assert statuses == ["created", "created", "failed", "created", "created"]


def test_one_person_is_not_another_merchants(api: Api) -> None:
    for key in (api.key, api.other_key):
        fits(put(api, {"limits": [limit(value=1)]}, key=key))
    pay(api, customer={"email": "a@canary.example"})
    answer = api.post("/v1/payments", PAYMENT | {"customer": {"email": "a@canary.example"}}, key=api.other_key)
    assert answer.json["risk"]["decision"] == "allow"


def test_nothing_of_a_person_is_in_what_counts_them(api: Api) -> None:
    token = api.made("/v1/tokens", CARD)
    pay(api, method={"type": "card", "token": token["id"]})
    windows = rows(api, "window")
    assert sorted(row["pk"]["S"].split("/")[3] for row in windows) == ["card", "customer", "device", "ip"]
    text = json.dumps(windows, default=str).lower()
    for personal in ("asha", "49.205", "d-1", token["card"]["fingerprint"], "4242424242"):
        assert personal not in text
    now = api.world.clock.time
    for row in windows:
        days = 400 if "/customer/" in row["pk"]["S"] else 1
        assert int(row["expires_at"]["N"]) == pytest.approx(now + days * 86_400 + 60, abs=1)


def test_who_names_nobody_costs_nothing(api: Api) -> None:
    api.made("/v1/payments", PAYMENT)  # warm
    api.watch()
    made = api.made("/v1/payments", PAYMENT)
    assert api.calls == ["TransactWriteItems"]
    assert rows(api, "window") == []
    assert made["risk"] == {"decision": "allow", "score": 0, "reasons": [], "hits": []}
    api.watch()
    pay(api)
    assert api.calls == ["BatchGetItem", "TransactWriteItems"]


def test_a_repeated_request_counts_once(api: Api) -> None:
    fits(put(api, {"limits": [limit()]}))
    first = api.post("/v1/payments", PAYMENT | {"customer": CUSTOMER}, idem="once")
    again = [api.post("/v1/payments", PAYMENT | {"customer": CUSTOMER}, idem="once") for _ in range(3)]
    assert {answer.body for answer in again} == {first.body}
    (window,) = rows(api, "window")
    assert window["version"] == {"N": "1"}


def test_a_customer_is_new_until_a_payment_was_let_through(api: Api) -> None:
    fits(put(api, {"limits": [], "first_seen_amount": {"INR": 1_000}, "scores": {"first_seen": 100}}))
    assert pay(api)["status"] == "failed"
    assert pay(api)["status"] == "failed"  # who is turned away stays unknown
    assert pay(api, amount=1_000)["status"] == "created"
    api.world.clock.time += 399 * 86_400
    assert pay(api)["status"] == "created"
    api.world.clock.time += 401 * 86_400  # its row may still be there: TTL deletes late
    assert pay(api)["status"] == "failed"


@pytest.mark.parametrize(
    ("outcome", "after"), [("decline", "failed"), ("insufficient_funds", "failed"), ("technical", "created")]
)
def test_declines_count_and_failures_of_others_do_not(api: Api, outcome: str, after: str) -> None:
    fits(put(api, {"limits": [limit(kind="decline", seconds=3_600)]}))
    method = {"type": "upi", "flow": "collect", "vpa": f"{outcome}@sim"}
    for _ in range(3):
        assert pay(api, method=method)["risk"]["decision"] == "allow"
        api.world.run(horizon=60)
    last = pay(api)
    assert last["status"] == after
    if after == "failed":
        assert last["risk"]["hits"][0]["rule"] == "card_testing"


def test_countries_of_the_card_and_the_address_are_compared_with_the_customers(api: Api) -> None:
    token = api.made("/v1/tokens", CARD)  # 424242: from the US, as Stripe says of its test cards
    made = pay(api, method={"type": "card", "token": token["id"]}, customer={"country": "IN", "ip": "193.0.0.1"})
    assert [(hit["rule"], hit["score"]) for hit in made["risk"]["hits"]] == [
        ("card_country_mismatch", 30), ("ip_country_mismatch", 20),
    ]  # fmt: skip
    assert made["risk"]["reasons"][1] == "The IP address is from NL, the customer from IN"
    assert made["status"] == "requires_review"


@pytest.mark.parametrize(("decision", "event"), [("approve", "payment.review_approved"), ("reject", "payment.failed")])
def test_the_event_says_who_decided_a_review_and_why(api: Api, decision: str, event: str) -> None:
    made = pay(api, customer={"country": "NP"})
    assert [shown["id"] for shown in api.get("/v1/payments?status=requires_review").json["data"]] == [made["id"]]
    body = {"decision": decision, "note": "called them"}
    first = api.post(f"/v1/payments/{made['id']}/review", body, idem="r")
    assert api.post(f"/v1/payments/{made['id']}/review", body, idem="r").body == first.body
    told = [e for e in api.get(f"/v1/payments/{made['id']}/events").json["data"] if e["type"] == event]
    assert [(e["data"]["note"], e["data"]["by"][:4]) for e in told] == [("called them", "key_")]


def test_a_payment_judged_by_an_earlier_release_still_shows(api: Api) -> None:
    made = api.made("/v1/payments", PAYMENT)
    (row,) = [i for i in api.world.dynamo.tables["railyard-local-payments"].items() if i["kind"] == {"S": "payment"}]
    row["risk"] = {"S": '{"decision":"allow","score":0,"reasons":[]}'}
    assert api.get(f"/v1/payments/{made['id']}").json["risk"]["hits"] == []
