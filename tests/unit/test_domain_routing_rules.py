"""Routing rules: what they fit, what clashes, how a split draws, and what the clock on a wall shows."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.domain.routing import Known, decide
from chalicelib.domain.routing_rules import (
    DEFAULT_RULES,
    Asked,
    Hours,
    Maintenance,
    Price,
    RoutingSettings,
    Rule,
    When,
    clash,
    named,
    split,
)
from chalicelib.domain.scoring import learn, segments
from tests.support.factories import NOW, candidate, later

UPI = Asked("upi", "INR", 5000, at=NOW, id="pay_1")
A, B, C = candidate("a"), candidate("b"), candidate("c")
ORDER = ("acct_a", "acct_b", "acct_c")


# -- what a rule is about ----------------------------------------------------------------------------

times = st.integers(0, 365 * 1440).map(lambda minute: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=minute))
kinds = st.sampled_from(["upi", "card"])
words = st.frozensets(st.sampled_from("xyz"), max_size=2)
hours = st.builds(
    Hours, st.sampled_from([0, 60, 600, 1439]), st.sampled_from([0, 60, 600, 1439]), st.sampled_from(["Asia/Kolkata", "Europe/Berlin"]),
    st.frozensets(st.integers(0, 6), max_size=3),
)  # fmt: skip
ends = st.sets(st.integers(411110, 411125), max_size=8).map(sorted)
ranges = ends.map(lambda of: tuple(zip(of[::2], of[1::2], strict=False)))  # in order, and apart
whens = st.builds(
    When, methods=st.frozensets(kinds, max_size=2), networks=words, currencies=st.frozensets(st.sampled_from(["INR", "USD"]), max_size=1),
    above=st.none() | st.integers(0, 6), up_to=st.none() | st.integers(1, 8), bins=ranges, countries=words, segments=words,
    metadata=st.dictionaries(st.sampled_from("ab"), st.sampled_from("12")), hours=st.none() | hours,
)  # fmt: skip
payments = st.builds(
    Asked, kinds, st.sampled_from(["INR", "USD"]), st.integers(1, 9), metadata=st.dictionaries(st.sampled_from("ab"), st.sampled_from("12")),
    network=st.sampled_from([None, "x", "y"]), bin=st.none() | st.integers(411108, 411127).map(str),
    country=st.sampled_from([None, "x", "z"]), segment=st.sampled_from([None, "y"]), at=times,
)  # fmt: skip


@given(whens, payments)
def test_a_rule_is_about_the_payments_that_meet_every_condition(when: When, asked: Asked) -> None:
    says = (
        (not when.methods or asked.method in when.methods)
        and (not when.networks or asked.network in when.networks)
        and (not when.currencies or asked.currency in when.currencies)
        and (when.above is None or when.above < asked.amount)
        and (when.up_to is None or asked.amount <= when.up_to)
        and (
            not when.bins
            or (asked.bin is not None and any(first <= int(asked.bin) <= last for first, last in when.bins))
        )
        and (not when.countries or asked.country in when.countries)
        and (not when.segments or asked.segment in when.segments)
        and all(asked.metadata.get(name) == value for name, value in when.metadata.items())
        and (when.hours is None or (asked.at is not None and when.hours.include(asked.at)))
    )
    assert (when.misses(asked) is None) == says


@given(whens, whens, payments)
def test_whoever_covers_takes_everything_and_whoever_meets_nothing_shares_nothing(
    one: When, other: When, asked: Asked
) -> None:
    fits_one, fits_other = one.misses(asked) is None, other.misses(asked) is None
    if one.covers(other):
        assert fits_one or not fits_other
    if not one.meets(other):
        assert not (fits_one and fits_other)
    assert one.meets(other) == other.meets(one)
    assert one.covers(one)


@pytest.mark.parametrize(
    ("condition", "changes"),
    [
        ("methods", {"method": "card"}), ("networks", {"network": "okaxis"}), ("currencies", {"currency": "USD"}), ("above", {"amount": 5}),
        ("up_to", {"amount": 100_000}), ("bins", {"bin": "411112"}), ("countries", {"country": None}), ("segments", {"segment": "new"}),
        ("metadata", {"metadata": {"plan": "basic"}}), ("hours", {"at": NOW + timedelta(hours=12)}),
    ],
)  # fmt: skip
def test_the_first_condition_that_is_not_met_is_named(condition: str, changes: dict[str, Any]) -> None:
    when = When(
        frozenset({"upi"}), frozenset({"ybl"}), frozenset({"INR"}), 5, 99_999, ((411111, 411111),), frozenset({"IN"}),
        frozenset({"gold"}), {"plan": "pro"}, Hours(NOW.hour * 60, NOW.hour * 60 + 60, "UTC"),
    )  # fmt: skip
    asked = Asked(
        "upi",
        "INR",
        6,
        network="ybl",
        bin="411111",
        country="IN",
        segment="gold",
        metadata={"plan": "pro", "x": "y"},
        at=NOW,
    )
    assert when.misses(asked) is None
    assert when.misses(replace(asked, **changes)) == condition


# -- hours -------------------------------------------------------------------------------------------


@given(hours, times)
def test_hours_are_what_the_clock_on_that_zones_wall_shows(span: Hours, at: datetime) -> None:
    local = at.astimezone(ZoneInfo(span.time_zone))
    minute_of_week = local.weekday() * 1440 + local.hour * 60 + local.minute
    assert span.include(at) == bool(span.week() >> minute_of_week & 1)


def test_a_night_belongs_to_the_day_it_begins_on() -> None:
    friday_night = Hours(22 * 60, 6 * 60, "Asia/Kolkata", frozenset({4}))
    begins = datetime(2026, 11, 27, 22, tzinfo=ZoneInfo("Asia/Kolkata"))  # a Friday
    inside = [begins, begins + timedelta(hours=7, minutes=59)]
    outside = [
        begins - timedelta(minutes=1),
        begins + timedelta(hours=8),
        begins + timedelta(days=1),
        begins - timedelta(hours=20),
    ]
    assert all(friday_night.include(at) for at in inside)
    assert not any(friday_night.include(at) for at in outside)


def test_summer_time_moves_with_the_wall_clock() -> None:
    morning = Hours(9 * 60, 10 * 60, "Europe/Berlin")
    assert morning.include(datetime(2026, 7, 1, 7, 30, tzinfo=UTC))
    assert not morning.include(datetime(2026, 12, 1, 7, 30, tzinfo=UTC))
    assert morning.include(datetime(2026, 12, 1, 8, 30, tzinfo=UTC))


def test_the_same_time_twice_is_the_whole_day() -> None:
    assert Hours(600, 600, "UTC").week() == (1 << 7 * 1440) - 1


# -- clashes -----------------------------------------------------------------------------------------


def when(**fields: Any) -> When:
    sets = {name: frozenset(value) for name, value in fields.items() if isinstance(value, (set, list))}
    return When(**(fields | sets))


NEVER, CROSSES = "It would never get a payment: rule 'one' before it takes them all.", "It overlaps with rule 'one' before it, and neither lies within the other."  # fmt: skip


@pytest.mark.parametrize(
    ("one", "other", "says"),
    [
        (When(), when(methods={"upi"}), NEVER),
        (when(methods={"upi"}), when(methods={"upi"}), NEVER),
        (when(methods={"upi", "card"}), when(methods={"card"}, currencies={"INR"}), NEVER),
        (when(currencies={"INR"}, above=5), when(currencies={"INR"}, above=9, up_to=20), NEVER),
        (when(bins=((400000, 499999),)), when(bins=((411111, 411111), (450000, 459999))), NEVER),
        (when(hours=Hours(0, 720, "UTC")), when(hours=Hours(60, 120, "UTC", frozenset({3}))), NEVER),
        (when(currencies={"INR"}, up_to=10), when(currencies={"INR"}, above=5, up_to=20), CROSSES),
        (when(bins=((400000, 450000),)), when(bins=((450000, 459999),)), CROSSES),
        (when(hours=Hours(0, 720, "UTC")), when(hours=Hours(600, 900, "UTC")), CROSSES),
        (when(hours=Hours(0, 0, "UTC")), When(), NEVER),
        # More specific first, neighbours, and rules about different things.
        (when(methods={"card"}), When(), None),
        (when(currencies={"INR"}, above=5, up_to=9), when(currencies={"INR"}, above=2), None),
        (when(currencies={"INR"}, up_to=10), when(currencies={"INR"}, above=10), None),
        (when(currencies={"INR"}, above=10), when(methods={"card"}), None),
        (when(metadata={"a": "1"}), when(metadata={"a": "2"}), None),
        (when(hours=Hours(0, 720, "UTC")), when(hours=Hours(0, 720, "Asia/Kolkata")), None),
        (when(methods={"card"}, currencies={"INR"}, above=10), when(methods={"card"}, currencies={"INR"}, bins=((450000, 459999),)), None),
        (when(currencies={"INR"}, above=10), when(currencies={"INR"}, hours=Hours(1320, 360, "UTC")), None),
        (when(bins=((400000, 449999),)), when(bins=((450000, 459999),)), None),
    ],
)  # fmt: skip
def test_rules_of_which_nobody_could_say_which_is_meant_clash(one: When, other: When, says: str | None) -> None:
    assert clash(Rule("one", when=one), Rule("other", when=other)) == says


# -- order -------------------------------------------------------------------------------------------


def test_a_providers_name_stands_for_all_accounts_there_and_nothing_for_all() -> None:
    accounts = {"acc_1": "razorpay", "acc_2": "stripe", "acc_3": "razorpay"}
    assert named(("stripe", "razorpay", "acc_1"), accounts) == ["acc_2", "acc_1", "acc_3"]
    assert named(("acc_3", "razorpay", "payu"), accounts) == ["acc_3", "acc_1"]
    assert named((), accounts) == list(accounts)
    assert named(("payu",), accounts) == []


SPLIT = Rule("split", ("acct_a", "acct_b", "acct_c", "acct_d"), by="split", weights=(60, 30, 10, 0))


def test_a_split_draws_in_proportion_to_its_weights_and_the_same_for_the_same_payment() -> None:
    drawn = [list(split(SPLIT, f"pay_{number}")) for number in range(20_000)]
    firsts = Counter(order[0] for order in drawn)
    # Five standard deviations of 20,000 draws at most.
    for account, weight in zip(SPLIT.accounts, SPLIT.weights, strict=True):
        share = weight / 100
        assert abs(firsts[account] / 20_000 - share) <= 5 * (share * (1 - share) / 20_000) ** 0.5, account
    seconds = Counter(order[1] for order in drawn if order[0] == "acct_a")
    assert abs(seconds["acct_b"] / seconds.total() - 0.75) < 0.02  # 30 to 10
    assert all(order[-1] == "acct_d" for order in drawn)
    assert list(split(SPLIT, "pay_7")) == drawn[7]


def test_who_is_left_out_of_a_split_changes_nothing_among_the_others() -> None:
    settings = RoutingSettings((SPLIT,))
    for number in range(200):
        asked = replace(UPI, id=f"pay_{number}")
        whole = decide(settings, [A, B, C], (), asked)
        fewer = decide(settings, [replace(A, enabled=False), B, C], (), asked)
        assert whole.chosen is not None
        assert fewer.chosen is not None
        assert [a for a in fewer.order if a != "acct_a"] == [a for a in whole.order if a != "acct_a"]
        assert fewer.chosen == (
            whole.chosen
            if whole.chosen is not A
            else {"acct_b": B, "acct_c": C}[next(a for a in whole.order if a != "acct_a")]
        )


def test_a_split_shows_what_was_drawn() -> None:
    shown = decide(RoutingSettings((SPLIT,)), [A, B, C, candidate("d")], (), UPI).as_dict()
    draws = shown["split"]
    assert isinstance(draws, dict)
    assert list(draws) == shown["order"]
    assert draws["acct_d"] is None
    assert list(draws.values())[:3] == sorted(value for value in draws.values() if value is not None)
    assert shown["reason"] == f"{shown['chosen']} was drawn by its weight in rule 'split'."


# -- value -------------------------------------------------------------------------------------------

PATH = segments("upi", 5000, "INR")


def known(**rates: int) -> Known:
    found: dict[str, Any] = {}
    for name, rate in rates.items():
        tallies: Any = {}
        for number in range(150):
            tallies = learn(tallies, PATH, success=number % 100 < rate, at=NOW)
        found[f"acct_{name}"] = tallies
    return Known(NOW, "s", tallies=found)


def test_by_value_a_cheaper_account_wins_over_one_that_is_little_better() -> None:
    costs = {"acct_a": Price(300), "acct_b": Price(1500, {"INR": 500})}  # 1.50 and 12.50 of 50 rupees
    rule = Rule("rest", ("acct_b", "acct_a"), by="value")
    decision = decide(RoutingSettings((rule,), costs=costs), [A, B], (), UPI, known(a=90, b=93))
    assert decision.chosen is A
    assert [(score.account, score.cost) for score in decision.scores] == [("acct_a", 150), ("acct_b", 1250)]
    assert "by expected value in rule 'rest'" in decision.reason
    by_score = decide(RoutingSettings((replace(rule, by="score"),), costs=costs), [A, B], (), UPI, known(a=70, b=95))
    assert (by_score.chosen, by_score.scores[0].cost) == (B, None)


@pytest.mark.parametrize("costs", [{"acct_a": Price(1)}, {"acct_a": Price(1), "acct_b": Price(1, {"USD": 3})}])
def test_by_value_an_account_of_unknown_cost_does_not_seem_free(costs: dict[str, Price]) -> None:
    settings = RoutingSettings((Rule("rest", by="value"),), costs=costs)
    decision = decide(settings, [A, B], (), UPI, known(a=60, b=95))
    assert decision.chosen is B
    assert {score.cost for score in decision.scores} == {None}


def test_a_price_is_a_share_and_a_fixed_part_in_the_currencies_that_have_one() -> None:
    both, share = Price(200, {"INR": 300}), Price(200)
    inr, usd = both.cost("INR"), share.cost("USD")
    assert inr is not None
    assert usd is not None
    assert (inr.of(10_000), usd.of(10_000), both.cost("USD")) == (500, 200, None)
    settings = RoutingSettings(costs={"razorpay": share, "acct_a": both})
    assert settings.cost_of("acct_b", "razorpay", "INR") == share.cost("INR")
    assert settings.cost_of("acct_a", "razorpay", "INR") == inr
    assert settings.cost_of("acct_a", "payu", "USD") is None


# -- defaults and maintenance ------------------------------------------------------------------------


def test_behind_a_merchants_rules_stand_the_premium_route_and_the_rest() -> None:
    own = RoutingSettings((Rule("cards", when=when(methods={"card"})),))
    rules = [own.rule_for(replace(UPI, **fields)).name for fields in (
        {}, {"amount": 10_000_00}, {"amount": 10_000_01}, {"amount": 10_000_01, "currency": "USD"}, {"method": "card", "amount": 10_000_01},
    )]  # fmt: skip
    assert rules == ["default", "default", "default premium", "default", "cards"]
    assert [rule.by for rule in DEFAULT_RULES] == ["score", "value"]


@pytest.mark.parametrize(
    ("target", "methods", "at", "left_alone"),
    [
        ("acct_a", set(), 0, True), ("sim_a", set(), 0, True), ("acct_b", set(), 0, False), ("acct_a", {"card"}, 0, False),
        ("acct_a", {"card", "upi"}, 59, True), ("acct_a", set(), 60, False), ("acct_a", set(), -1, False),
    ],
)  # fmt: skip
def test_an_account_in_maintenance_is_left_alone(target: str, methods: set[str], at: int, left_alone: object) -> None:
    window = Maintenance(target, NOW, later(60), frozenset(methods), "announced")
    settings = RoutingSettings((Rule("standard", ORDER),), (window,))
    decision = decide(settings, [A, B, C], (), UPI, Known(later(at)))
    assert (decision.chosen is not A) is left_alone
    if left_alone:
        assert decision.skipped == {"acct_a": f"is in maintenance until {later(60).isoformat()}: announced"}
