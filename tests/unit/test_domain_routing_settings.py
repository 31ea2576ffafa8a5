"""Routing settings as JSON: what is taken, how it is kept, and who is told what is wrong."""

from __future__ import annotations

import contextlib
import json
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.domain import retrying
from chalicelib.domain.errors import InvalidRequest
from chalicelib.domain.retrying import RetryPolicy
from chalicelib.domain.routing_rules import Hours, RoutingSettings, Rule, When
from chalicelib.domain.routing_settings import (
    MAX_BINS,
    MAX_BYTES,
    MAX_MAINTENANCE,
    MAX_RULES,
    from_stored,
    parse,
    to_dict,
    to_stored,
)

ACCOUNTS = {"acc_a": "razorpay", "acc_b": "stripe", "acc_c": "razorpay"}
WHEN = {
    "methods": ["card"], "networks": ["rupay", "visa"], "currencies": ["INR"], "above": 100, "up_to": 5_000,
    "bins": ["411111", "450000-459999"], "countries": ["IN"], "segments": ["gold"], "metadata": {"plan": "pro"},
    "hours": {"from": "22:00", "until": "06:00", "time_zone": "Asia/Kolkata", "days": ["friday", "saturday"]},
}  # fmt: skip
FULL: dict[str, Any] = {
    "rules": [
        {"name": "premium cards", "when": WHEN, "by": "priority", "accounts": ["acc_b", "razorpay"]},
        {"name": "upi", "when": {"methods": ["upi"]}, "by": "split", "weights": {"acc_a": 70, "stripe": 30}},
        {"name": "best", "when": {"currencies": ["INR"], "above": 5_000}, "by": "score", "accounts": []},
        {"name": "rest", "when": {"currencies": ["INR"]}, "by": "value", "accounts": []},
    ],
    "maintenance": [{"account": "stripe", "from": "2026-12-24T18:00:00.000Z", "until": "2026-12-25T06:00:00.000Z", "methods": ["card"], "reason": "announced"}],
    "costs": {"razorpay": {"basis_points": 200, "fixed": {}}, "acc_b": {"basis_points": 290, "fixed": {"INR": 300, "JPY": 0}}},
    "retry": {"max_attempts": 2},
    "experiments": [{
        "name": "try-b", "share": 10, "start": "2026-12-01T00:00:00.000Z", "stop": "2026-12-31T00:00:00.000Z", "when": {"methods": ["upi"]}, "by": "score",
        "accounts": ["acc_b"], "settle": 600, "guardrail": {"margin": 5, "payments": 200}, "ended_at": "2026-12-05T00:00:00.000Z", "ended_because": "worse",
    }],
}  # fmt: skip


def rule(**fields: Any) -> dict[str, Any]:
    return {"rules": [{"name": "one"} | fields]}


def of(**when: Any) -> dict[str, Any]:
    return rule(when=when)


def upkeep(**changes: Any) -> dict[str, Any]:
    return {"maintenance": [FULL["maintenance"][0] | changes]}


def test_all_that_can_be_said_is_understood_and_comes_back_as_it_was_said() -> None:
    settings = parse(FULL, ACCOUNTS)
    assert to_dict(settings) == FULL | {"retry": retrying.to_dict(settings.retry)}
    assert settings.retry == RetryPolicy(max_attempts=2)
    premium, upi, best, _ = settings.rules
    assert premium.when.hours == Hours(22 * 60, 6 * 60, "Asia/Kolkata", frozenset({4, 5}))
    assert premium.when.bins == ((411111, 411111), (450000, 459999))
    assert (upi.accounts, upi.weights) == (("acc_a", "stripe"), (70, 30))
    assert best == Rule("best", (), When(currencies=frozenset({"INR"}), above=5_000), "score")
    stored = json.loads(json.dumps(to_stored(settings)))
    assert from_stored(stored) == settings
    assert parse(stored, ACCOUNTS) == settings


def test_what_is_left_out_has_its_default_and_is_not_stored() -> None:
    assert parse({}, ACCOUNTS) == RoutingSettings() == from_stored({})
    assert (
        to_stored(parse({"rules": [], "costs": {}, "maintenance": [], "experiments": [], "retry": {}}, ACCOUNTS)) == {}
    )
    (only,) = parse(rule(), ACCOUNTS).rules
    assert (only.by, only.accounts, only.when) == ("priority", (), When())
    assert parse(rule(weights={"acc_a": 100}), ACCOUNTS).rules[0].by == "split"


def test_what_a_newer_release_stored_is_left_out_and_told_and_takes_nothing_else_with_it() -> None:
    stored, told = to_stored(parse(FULL, ACCOUNTS)), list[str]()
    newer = stored["rules"][1] | {"when": {"device": ["d-1"]}}
    rules = [stored["rules"][0], newer, *stored["rules"][2:]]
    read = from_stored(stored | {"later": {"x": 1}, "rules": rules, "retry": {"max_attempts": 99}}, told.append)
    whole = parse(FULL, ACCOUNTS)
    assert sorted(told) == ["later", "retry.0", "rules.1"]
    assert list(read.rules) == [one for one in whole.rules if one.name != "upi"]
    assert (read.maintenance, read.costs, read.retry) == (whole.maintenance, whole.costs, RetryPolicy())


def test_who_was_down_may_be_tried_again_and_who_is_set_up_wrongly_may_not_unless_that_is_stored() -> None:
    down = {"retry": {"errors": {"provider_unavailable": {"same_provider": True}}}}
    assert parse(down, ACCOUNTS).retry.classes["provider_unavailable"].same_provider
    told = list[str]()
    assert from_stored({"retry": {"errors": {"config": {"same_provider": True}}}}, told.append).retry.classes
    assert told == []


@given(st.datetimes(datetime(2000, 1, 2), datetime(2099, 1, 1)), st.integers(1, 30 * 86_400 * 1_000_000))  # noqa: DTZ001
def test_whatever_is_taken_can_be_read_again(begin: datetime, microseconds: int) -> None:
    end = begin + timedelta(microseconds=microseconds)
    data = upkeep(**{"from": f"{begin.isoformat()}Z", "until": f"{end.isoformat()}Z"})
    with contextlib.suppress(InvalidRequest):
        settings, told = parse(data, ACCOUNTS), list[str]()
        assert from_stored(json.loads(json.dumps(to_stored(settings))), told.append) == settings
        assert told == []
        assert parse(to_dict(settings), ACCOUNTS) == settings


def test_an_account_may_stand_before_the_others_of_its_provider() -> None:
    assert parse(rule(accounts=["acc_c", "razorpay"]), ACCOUNTS).rules[0].accounts == ("acc_c", "razorpay")


def test_what_is_stored_under_a_name_of_ours_is_read() -> None:
    told = list[str]()
    assert from_stored(rule(name="default"), told.append).rules[0].name == "default"
    assert told == []


def test_neighbouring_ranges_of_bins_are_one() -> None:
    (only,) = parse(of(methods=["card"], bins=["450000-459999", "440000-449999", "470000"]), ACCOUNTS).rules
    assert only.when.bins == ((440000, 459999), (470000, 470000))


def test_times_are_kept_in_utc() -> None:
    (window,) = parse(upkeep(**{"from": "2026-12-24T23:30:00+05:30"}), ACCOUNTS).maintenance
    assert window.begin.isoformat() == "2026-12-24T18:00:00+00:00"


WRONG: list[tuple[Any, str | None, str]] = [
    ([], None, "invalid_field"),
    ({"rule": []}, "rule", "unknown_field"),
    ({"rules": {}}, "rules", "invalid_field"),
    ({"rules": [5]}, "rules.0", "invalid_field"),
    ({"rules": [{"name": "a"}, {"accounts": []}]}, "rules.1.name", "missing_field"),
    ({"rules": [{"name": f"r{n}", "when": {"segments": [f"s{n}"]}} for n in range(10_000)]}, f"rules.{MAX_RULES}", "invalid_field"),
    ({"rules": [{"name": "a", "when": {"methods": ["upi"]}}, {"name": "a"}]}, "rules.1.name", "invalid_field"),
    (rule(name=""), "rules.0.name", "invalid_field"),
    (rule(name="a\nb"), "rules.0.name", "invalid_field"),
    (rule(name="x 4111 1111 1111 1111"), "rules.0.name", "card_number_not_allowed"),
    (rule(then=1), "rules.0.then", "unknown_field"),
    (rule(by="cheapest"), "rules.0.by", "invalid_field"),
    # accounts
    (rule(accounts=["acc_x"]), "rules.0.accounts.0", "unknown_account"),
    (rule(accounts=["acc_a", "payu"]), "rules.0.accounts.1", "unknown_provider"),
    (rule(accounts=["acc_a", "acc_a"]), "rules.0.accounts.1", "invalid_field"),
    (rule(accounts=[7]), "rules.0.accounts.0", "invalid_field"),
    (rule(accounts="acc_a"), "rules.0.accounts", "invalid_field"),
    (rule(weights={"acc_x": 100}), "rules.0.weights.acc_x", "unknown_account"),
    (rule(accounts=["acc_b", "stripe"]), "rules.0.accounts.1", "invalid_field"),
    (rule(accounts=["razorpay", "acc_b", "acc_c"]), "rules.0.accounts.2", "invalid_field"),
    (rule(weights={"razorpay": 60, "acc_b": 20, "acc_c": 20}), "rules.0.weights.acc_c", "invalid_field"),
    (rule(weights={"acc_a": 60, "acc_b": 20, "razorpay": 20}), "rules.0.weights.razorpay", "invalid_field"),
    ({"experiments": [FULL["experiments"][0] | {"accounts": ["acc_b", "stripe"]}]}, "experiments.0.accounts.1", "invalid_field"),
    # names that are ours
    ({"rules": [{"name": "upi", "when": {"methods": ["upi"]}}, {"name": "default"}]}, "rules.1.name", "invalid_field"),
    (rule(name="default premium"), "rules.0.name", "invalid_field"),
    # weights
    (rule(weights={"acc_a": 70, "acc_b": 20}), "rules.0.weights", "bad_weights"),
    (rule(weights={"acc_a": 70, "acc_b": 40}), "rules.0.weights", "bad_weights"),
    (rule(weights={"acc_a": 101}), "rules.0.weights.acc_a", "invalid_field"),
    (rule(weights={"acc_a": 99.5, "acc_b": 0.5}), "rules.0.weights.acc_a", "invalid_field"),
    (rule(weights={"acc_a": 100}, by="score"), "rules.0.weights", "bad_weights"),
    (rule(by="split"), "rules.0.weights", "bad_weights"),
    (rule(weights={"acc_a": 100}, accounts=["acc_b"]), "rules.0.accounts", "bad_weights"),
    # conditions
    (of(methods=["cash"]), "rules.0.when.methods.0", "invalid_field"),
    (of(currencies=["XXX"]), "rules.0.when.currencies.0", "unknown_currency"),
    (of(countries=["XX"]), "rules.0.when.countries.0", "invalid_field"),
    (of(segments=["Gold!"]), "rules.0.when.segments.0", "invalid_field"),
    (of(above=5), "rules.0.when.currencies", "missing_field"),
    (of(currencies=["INR"], above=-1), "rules.0.when.above", "invalid_field"),
    (of(currencies=["INR"], above=9, up_to=9), "rules.0.when.up_to", "invalid_field"),
    (of(currencies=["INR"], up_to=True), "rules.0.when.up_to", "invalid_field"),
    (of(networks=["visa"]), "rules.0.when.methods", "missing_field"),
    (of(methods=["card"], networks=["vista"]), "rules.0.when.networks.0", "invalid_field"),
    (of(methods=["card"], networks=["visa", "vista", "apex"]), "rules.0.when.networks.1", "invalid_field"),
    *((of(**{name: []}), f"rules.0.when.{name}", "invalid_field") for name in ("methods", "networks", "currencies", "bins", "countries", "segments")),
    (of(hours={"from": "22:00", "until": "06:00", "time_zone": "UTC", "days": []}), "rules.0.when.hours.days", "invalid_field"),
    ({"experiments": [FULL["experiments"][0] | {"when": {"methods": []}}]}, "experiments.0.when.methods", "invalid_field"),
    (of(metadata={"a": 5}), "rules.0.when.metadata.a", "invalid_field"),
    (of(metadata={"a": "4111111111111111"}), "rules.0.when.metadata.a", "card_number_not_allowed"),
    (rule(name="4111 1111 1111 1111 12"), "rules.0.name", "card_number_not_allowed"),
    (rule(name="4111_1111_1111_1111"), "rules.0.name", "card_number_not_allowed"),
    (rule(name="4111/1111,1111+1111"), "rules.0.name", "card_number_not_allowed"),
    # BINs
    (of(methods=["card"], bins=["41111"]), "rules.0.when.bins.0", "bad_bin"),
    (of(methods=["card"], bins=["41111111"]), "rules.0.when.bins.0", "bad_bin"),
    (of(methods=["card"], bins=["012345"]), "rules.0.when.bins.0", "bad_bin"),
    (of(methods=["card"], bins=[411111]), "rules.0.when.bins.0", "bad_bin"),
    (of(methods=["card"], bins=["\uff14\uff11\uff11\uff11\uff11\uff11"]), "rules.0.when.bins.0", "bad_bin"),
    (of(methods=["card"], bins=["411111", "459999-450000"]), "rules.0.when.bins.1", "bad_bin"),
    (of(methods=["card"], bins=["450000-459999", "455555"]), "rules.0.when.bins.1", "bad_bin"),
    (of(bins=["411111"]), "rules.0.when.methods", "bad_bin"),
    (of(methods=["upi"], bins=["411111"]), "rules.0.when.methods", "bad_bin"),
    (of(methods=["card"], networks=["rupay"], bins=["411111"]), "rules.0.when.bins", "bad_bin"),
    (of(methods=["card"], bins=[f"{400000 + 2 * n}" for n in range(MAX_BINS + 1)]), f"rules.0.when.bins.{MAX_BINS}", "invalid_field"),
    # hours
    (of(hours={"from": "25:00", "until": "06:00", "time_zone": "UTC"}), "rules.0.when.hours.from", "bad_time"),
    (of(hours={"from": "22:00", "until": "6", "time_zone": "UTC"}), "rules.0.when.hours.until", "bad_time"),
    (of(hours={"from": "22:00", "until": "06:00"}), "rules.0.when.hours.time_zone", "missing_field"),
    (of(hours={"from": "22:00", "until": "06:00", "time_zone": "India"}), "rules.0.when.hours.time_zone", "invalid_field"),
    (of(hours={"from": "22:00", "until": "06:00", "time_zone": "UTC", "days": ["freitag"]}), "rules.0.when.hours.days.0", "invalid_field"),
    # overlaps
    ({"rules": [{"name": "all"}, {"name": "upi", "when": {"methods": ["upi"]}}]}, "rules.1.when", "overlapping_rules"),
    ({"rules": [{"name": "a", "when": {"currencies": ["INR"], "up_to": 10}}, {"name": "b", "when": {"methods": ["upi"]}},
                {"name": "c", "when": {"currencies": ["INR"], "above": 5, "up_to": 20}}]}, "rules.2.when", "overlapping_rules"),
    # costs
    (rule(by="value"), "rules.0.by", "missing_costs"),
    (rule(by="value", accounts=["acc_a"]) | {"costs": {"stripe": {"basis_points": 1}}}, "rules.0.by", "missing_costs"),
    (rule(by="value", when={"currencies": ["USD"]}, accounts=["stripe"]) | {"costs": {"stripe": {"basis_points": 1, "fixed": {"INR": 3}}}}, "rules.0.by", "missing_costs"),
    ({"costs": {"payu": {"basis_points": 1}}}, "costs.payu", "unknown_provider"),
    ({"costs": {"stripe": {"basis_points": 1}, "acc_x": {"basis_points": 1}}}, "costs.acc_x", "unknown_account"),
    ({"costs": {"stripe": {}}}, "costs.stripe.basis_points", "missing_field"),
    ({"costs": {"stripe": {"basis_points": 5_001}}}, "costs.stripe.basis_points", "invalid_field"),
    ({"costs": {"stripe": {"basis_points": 1, "fixed": {"INR": -1}}}}, "costs.stripe.fixed.INR", "invalid_field"),
    # retries
    ({"retry": {"max_attempts": 9}}, "retry.max_attempts", "invalid_field"),
    ({"retry": {"errors": {"timeout_unknown": {"same_provider": True}}}}, "retry.errors.timeout_unknown", "invalid_field"),
    ({"retry": {"providers": {"payu": {"rate_limited": {"backoff": 1}}}}}, "retry.providers.payu", "unknown_provider"),
    ({"retry": {"errors": {"config": {"same_provider": True}}}}, "retry.errors.config.same_provider", "invalid_field"),
    ({"retry": {"providers": {"stripe": {"config": {"same_provider": True}}}}}, "retry.providers.stripe.config.same_provider", "invalid_field"),
    ({"retry": {"providers": {"stripe": {}, "payu": {}}}}, "retry.providers.payu", "unknown_provider"),
    ({"retry": {"providers": {"acc_a": {}}}}, "retry.providers.acc_a", "unknown_account"),
    # maintenance
    (upkeep(account="acc_x"), "maintenance.0.account", "unknown_account"),
    (upkeep(until="2026-12-24T18:00:00Z"), "maintenance.0.until", "bad_time"),
    (upkeep(until="2027-02-24T18:00:00Z"), "maintenance.0.until", "bad_time"),
    (upkeep(until="2026-12-25T18:00:00"), "maintenance.0.until", "bad_time"),
    (upkeep(**{"from": "2026-12-24T18:00:00.000100Z"}, until="2026-12-24T18:00:00.000900Z"), "maintenance.0.until", "bad_time"),
    (upkeep(**{"from": "0001-01-01T00:00:00+05:30"}), "maintenance.0.from", "bad_time"),
    (upkeep(until="9999-12-31T23:00:00-05:00"), "maintenance.0.until", "bad_time"),
    (upkeep(until="tomorrow"), "maintenance.0.until", "bad_time"),
    (upkeep(methods=["cash"]), "maintenance.0.methods.0", "invalid_field"),
    (upkeep(reason="x" * 201), "maintenance.0.reason", "invalid_field"),
    ({"maintenance": FULL["maintenance"] * (MAX_MAINTENANCE + 1)}, f"maintenance.{MAX_MAINTENANCE}", "invalid_field"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "param", "code"), WRONG)
def test_what_is_wrong_is_refused_by_name_and_not_repeated(data: Any, param: str | None, code: str) -> None:
    with pytest.raises(InvalidRequest) as wrong:
        parse(data, ACCOUNTS)
    assert (wrong.value.param, wrong.value.code) == (param, code)
    assert "4111" not in wrong.value.detail


def test_many_rules_that_are_each_allowed_can_be_too_much_together() -> None:
    bins = [f"{400000 + 2 * n}" for n in range(MAX_BINS)]
    rules = [
        {"name": f"r{n}", "when": {"methods": ["card"], "bins": bins, "segments": [f"s{n}"]}} for n in range(MAX_RULES)
    ]
    with pytest.raises(InvalidRequest, match=str(MAX_BYTES)):
        parse({"rules": rules}, ACCOUNTS)


def test_as_much_as_may_be_said_is_checked_in_little_work() -> None:
    """Each rule is compared with each other one; ranges in a time that grows with their number, not its square."""
    compared = 0

    class Counted(int):
        def __lt__(self, other: object) -> bool:
            nonlocal compared
            compared += 1
            return int.__lt__(self, int(other))  # type: ignore[call-overload]

    many = tuple((Counted(400_000 + 4 * n), Counted(400_001 + 4 * n)) for n in range(MAX_BINS))
    others = tuple((Counted(400_002 + 4 * n), Counted(400_003 + 4 * n)) for n in range(MAX_BINS))
    assert not When(bins=many).meets(When(bins=others))
    assert not When(bins=many).covers(When(bins=others))
    assert compared < 10 * MAX_BINS


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8) | st.sampled_from(["upi", "INR", "acc_a"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["rules", "name", "when", "by", "accounts", "weights", "bins", "hours", "costs", "maintenance", "x"]), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(
    anything
    | st.fixed_dictionaries(
        {"rules": st.lists(st.fixed_dictionaries({"name": st.just("r"), "when": anything}), max_size=2)}
    )
)
def test_whatever_is_sent_is_either_understood_or_refused(data: Any) -> None:
    with contextlib.suppress(InvalidRequest):
        settings = parse(data, ACCOUNTS)
        assert (
            parse(to_dict(settings), ACCOUNTS) == settings == from_stored(json.loads(json.dumps(to_stored(settings))))
        )
