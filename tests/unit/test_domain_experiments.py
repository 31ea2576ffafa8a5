"""Experiments of routing: arms, intervals, and a guardrail that may be looked at all the time."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.domain.experiments import Counts, Experiment, Guardrail, arm, assigned, is_losing, result, total
from chalicelib.domain.routing import Known, decide
from chalicelib.domain.routing_rules import Asked, Hours, Maintenance, RoutingSettings, Rule, When
from tests.support.factories import NOW, candidate, later

DAY = 86_400
TRY = Experiment("try-b", 20, NOW, later(7 * DAY), ("acct_b",))
VARIANT, CONTROL = f"{TRY.key}/variant", f"{TRY.key}/control"
A, B = candidate("a"), candidate("b")
UPI = Asked("upi", "INR", 5000, at=NOW, id="pay_1")
SETTINGS = RoutingSettings((Rule("standard", ("acct_a", "acct_b")),), experiments=(TRY,))


# -- arms --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [5, 20, 30])
def test_a_share_of_payments_gets_the_variant_and_each_always_the_same(share: int) -> None:
    experiment = replace(TRY, share=share)
    arms = [arm(experiment, f"pay_{number}") for number in range(20_000)]
    expected = share / 100
    assert abs(arms.count("variant") / 20_000 - expected) < 5 * (expected * (1 - expected) / 20_000) ** 0.5
    assert arm(experiment, "pay_77") == arms[77]


def test_arms_of_two_experiments_have_nothing_to_do_with_each_other() -> None:
    other = replace(TRY, name="another")
    both = Counter((arm(TRY, f"pay_{n}"), arm(other, f"pay_{n}")) for n in range(20_000))
    assert abs(both["variant", "variant"] / 20_000 - 0.04) < 0.007


def test_whoever_gets_the_variant_of_a_smaller_share_gets_it_of_a_larger_one() -> None:
    payments = [f"pay_{number}" for number in range(2_000)]
    small, large = ({p for p in payments if arm(replace(TRY, share=share), p) == "variant"} for share in (5, 30))
    assert small < large


def test_payments_take_part_from_start_to_stop_if_they_fit() -> None:
    for at, takes in (
        (NOW - timedelta(seconds=1), False),
        (NOW, True),
        (later(7 * DAY - 1), True),
        (later(7 * DAY), False),
    ):
        assert (assigned((TRY,), UPI, at) is not None) == takes, at
    second = replace(TRY, name="second")
    cards = replace(TRY, when=When(methods=frozenset({"card"})))
    assert assigned((cards,), UPI, NOW) is None
    assert (
        assigned((replace(TRY, ended_at=NOW), cards), replace(UPI, method="card"), NOW)
        == f"{cards.key}/{arm(TRY, 'pay_1')}"
    )
    assert assigned((cards, second), UPI, NOW) == f"{second.key}/{arm(second, 'pay_1')}"


def test_what_is_tried_and_on_whom_is_counted_apart() -> None:
    changes: list[dict[str, Any]] = [
        {"share": 25}, {"start": later(1)}, {"accounts": ("acct_a",)}, {"by": "score"}, {"when": When(countries=frozenset({"IN"}))},
        {"when": When(metadata={"a": "1"})}, {"when": When(hours=Hours(0, 60, "UTC", frozenset({3, 1})))}, {"name": "try-c"},
    ]  # fmt: skip
    keys = {replace(TRY, **change).key for change in changes} | {TRY.key}
    assert len(keys) == len(changes) + 1
    for change in ({"stop": later(9 * DAY)}, {"settle": 0}, {"guardrail": Guardrail(5, 50)}, {"ended_at": NOW}):
        assert replace(TRY, **change).key == TRY.key
    one, other = When(metadata={"a": "1", "b": "2"}), When(metadata={"b": "2", "a": "1"})
    assert replace(TRY, when=one).key == replace(TRY, when=other).key


def test_a_share_that_is_changed_on_a_bad_day_ends_nobody() -> None:
    # 5 % take part on good days and 30 % on bad ones: together the variant, which is no worse, would look worse.
    good, bad = (Counts(19_000, 17_100), Counts(1_000, 900)), (Counts(14_000, 10_500), Counts(6_000, 4_500))
    pooled = [Counts(a.payments + b.payments, a.successes + b.successes) for a, b in zip(good, bad, strict=True)]
    assert is_losing(Guardrail(), *pooled)
    assert not is_losing(Guardrail(), *good)
    assert not is_losing(Guardrail(), *bad)
    assert replace(TRY, share=5).key != replace(TRY, share=30).key


# -- decisions ---------------------------------------------------------------------------------------


def test_the_variant_goes_its_way_and_the_control_by_the_rules() -> None:
    for experiment, account, rule in (
        (VARIANT, B, "experiment try-b"),
        (CONTROL, A, "standard"),
        (None, A, "standard"),
    ):
        decision = decide(SETTINGS, [A, B], (), replace(UPI, experiment=experiment))
        assert (decision.chosen, decision.rule, decision.experiment) == (account, rule, experiment)
        assert decision.as_dict().get("experiment") == experiment


@pytest.mark.parametrize(
    "experiments",
    [(), (replace(TRY, ended_at=NOW),), (replace(TRY, name="other"),), (replace(TRY, accounts=("acct_c", "acct_b")),)],
)
def test_a_variant_that_is_over_is_not_followed_any_more(experiments: tuple[Experiment, ...]) -> None:
    settings = replace(SETTINGS, experiments=experiments)
    assert decide(settings, [A, B], (), replace(UPI, experiment=VARIANT)).chosen is A


def test_one_that_has_stopped_keeps_the_payments_it_was_given() -> None:
    settings = replace(SETTINGS, experiments=(replace(TRY, stop=later(1)),))
    assert decide(settings, [A, B], (), replace(UPI, experiment=VARIANT), Known(later(DAY))).chosen is B


def test_a_variant_that_leaves_nobody_does_not_fail_the_payment() -> None:
    settings = replace(SETTINGS, maintenance=(Maintenance("acct_b", NOW, later(60)),))
    decision = decide(settings, [A, B], (), replace(UPI, experiment=VARIANT), Known(NOW))
    assert (decision.chosen, decision.rule, decision.experiment) == (A, "standard", VARIANT)


# -- results -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "low", "high"),
    # The examples (a) to (d) of the paper's table II, method 10.
    [((56, 70), (48, 80), 0.0524, 0.3339), ((9, 10), (3, 10), 0.1705, 0.8090), ((6, 7), (2, 7), 0.0582, 0.8062), ((5, 56), (0, 29), -0.0381, 0.1926)],
)  # fmt: skip
def test_the_interval_is_newcombes(first: tuple[int, int], second: tuple[int, int], low: float, high: float) -> None:
    found = result(Counts(second[1], second[0]), Counts(first[1], first[0]))
    assert [found.low, found.high] == pytest.approx([low, high], abs=1e-4)


@given(st.integers(1, 500), st.integers(1, 500), st.data())
def test_the_interval_holds_the_difference_and_turns_round_with_the_arms(n: int, m: int, data: st.DataObject) -> None:
    one, other = Counts(n, data.draw(st.integers(0, n))), Counts(m, data.draw(st.integers(0, m)))
    there, back = result(one, other), result(other, one)
    assert -1 <= there.low <= there.difference <= there.high <= 1
    assert [back.low, back.high] == pytest.approx([-there.high, -there.low])


def test_the_sentence_says_what_is_certain() -> None:
    assert result(Counts(), Counts(5, 5)).sentence.startswith("Nothing is known yet")
    assert result(Counts(1_000, 800), Counts(1_000, 805)).sentence.startswith(
        "No difference is certain: 80.5% of 1000 payments"
    )
    assert result(Counts(1_000, 800), Counts(1_000, 900)).sentence.startswith("The variant does better: 90.0%")
    assert result(Counts(1_000, 900), Counts(1_000, 800)).sentence.endswith(
        "80.0% of 1000 payments succeeded in the variant, 90.0% of 1000 otherwise (-13.1 to -6.9 points)."
    )


def test_only_payments_that_are_old_enough_count() -> None:
    counted = {
        f"{name}/{hour}/{what}": value
        for hour, value in (("2026-11-20T23", 100), ("2026-11-21T02", 10), ("2026-11-21T03", 1))
        for name in ("control", "variant")
        for what in ("payments", "successes")
    }
    assert NOW.isoformat()[:13] == "2026-11-21T04"
    for settle, count in ((0, 111), (3_600, 110), (2 * 3_600, 100), (20 * 3_600, 0)):
        found = total(counted, replace(TRY, settle=settle), NOW)
        assert found == {"control": Counts(count, count), "variant": Counts(count, count)}, settle


def test_what_is_counted_until_is_a_whole_hour_as_the_counts_are() -> None:
    until = replace(TRY, settle=3_600).counted_until(NOW.replace(minute=59, second=1, microsecond=5))
    assert until.isoformat() == "2026-11-21T03:00:00+00:00"


# -- guardrail ---------------------------------------------------------------------------------------


def ends_at(chance: random.Random, control: float, variant: float, payments: int, guardrail: Guardrail) -> int | None:
    """The payment after which the guardrail ends it, looked at after every single one; None if it never does."""
    share, counts = 0.3, {"control": [0, 0], "variant": [0, 0]}
    for number in range(payments):
        name, rate = ("variant", variant) if chance.random() < share else ("control", control)
        counts[name][0] += 1
        counts[name][1] += chance.random() < rate
        if name == "variant" and is_losing(guardrail, Counts(*counts["control"]), Counts(*counts["variant"])):
            return number
    return None


def test_a_variant_within_its_margin_is_hardly_ever_ended_however_often_it_is_looked_at() -> None:
    margin = Guardrail(margin=3, payments=50)
    runs = [ends_at(random.Random(seed), 0.85, 0.82, 5_000, margin) for seed in range(200)]
    assert sum(end is not None for end in runs) <= 10  # 5 %
    equal = [ends_at(random.Random(seed), 0.85, 0.85, 5_000, Guardrail(margin=1, payments=50)) for seed in range(100)]
    assert sum(end is not None for end in equal) <= 5


def test_a_variant_that_is_much_worse_is_ended_soon() -> None:
    runs = [ends_at(random.Random(seed), 0.85, 0.70, 5_000, Guardrail()) for seed in range(100)]
    ended = sorted(end for end in runs if end is not None)
    assert len(ended) >= 95
    assert ended[len(ended) // 2] < 2_000


def test_the_guardrail_says_nothing_before_it_has_seen_enough() -> None:
    assert is_losing(Guardrail(payments=100), Counts(1_000, 900), Counts(99, 0)) is None
    reason = is_losing(Guardrail(payments=100), Counts(1_000, 900), Counts(100, 0))
    assert (
        reason
        == "0.0% of 100 payments succeeded in the variant and 90.0% of 1000 otherwise: worse by more than 3 points."
    )
    assert is_losing(Guardrail(), Counts(100_000, 0), Counts(100_000, 100_000)) is None
