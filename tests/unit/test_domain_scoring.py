"""What is known of an account wears off, backs off and is drawn from, always the same for the same seed."""

from __future__ import annotations

import json
from datetime import timedelta
from fractions import Fraction
from statistics import mean
from typing import TYPE_CHECKING

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from chalicelib.domain import scoring
from chalicelib.domain.errors import ErrorClass
from chalicelib.domain.money import EXPONENTS, MAX_AMOUNT
from chalicelib.domain.scoring import CAP, STRENGTH, Belief, Cost, Tally
from tests.support.factories import NOW, later

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

HOUR, DAY = 3_600.0, 86_400.0
ROUNDING = 1e-12
PINNED = 0.9098318090676863  # what Python 3.11 to 3.13 draw
PATH = ("", "card", "card/2", "card/2/visa")

weights = st.floats(0, CAP / 2)
paces = st.none() | st.floats(0, DAY)
tallies = st.builds(Tally, weights, weights, st.just(NOW), paces)
outcomes = st.lists(st.tuples(st.floats(-HOUR, DAY), st.booleans()), max_size=400)
several = st.dictionaries(st.sampled_from([*PATH, "upi"]), tallies)


def tally(successes: float, failures: float, pace: float | None = 1.0) -> Tally:
    return Tally(successes, failures, NOW, pace)


def fed(stream: Iterable[tuple[float, bool]]) -> Tally:
    known: Tally | None = None
    for seconds, success in stream:
        known = scoring.observe(known, success=success, at=later(seconds))
    assert known is not None
    return known


# -- tallies -----------------------------------------------------------------------------------------


@given(tallies, st.floats(-DAY, 90 * DAY))
def test_time_never_adds_to_what_is_known_and_never_changes_the_rate(known: Tally, seconds: float) -> None:
    old = scoring.aged(known, later(seconds))
    assert 0 <= old.successes <= known.successes
    assert 0 <= old.failures <= known.failures
    assert old.successes * known.failures == pytest.approx(old.failures * known.successes)


@given(tallies, st.floats(1, DAY), st.floats(1, DAY))
def test_the_longer_the_less_is_left(known: Tally, first: float, more: float) -> None:
    assume(known.samples > 1)
    early, late = (scoring.aged(known, later(seconds)).samples for seconds in (first, first + more))
    assert late < early < known.samples


def test_half_is_left_after_a_half_life_and_all_of_it_before_the_newest_outcome() -> None:
    known = tally(90, 10, pace=60)
    assert known.half_life == 60 * scoring.PATIENCE
    assert scoring.aged(known, later(known.half_life)).samples == pytest.approx(50)
    assert scoring.aged(known, later(-1)) is known


def test_a_busy_account_forgets_in_hours_and_a_quiet_one_not_over_night() -> None:
    busy = fed((i / 10, True) for i in range(1_000))
    quiet = fed((i * 900.0, True) for i in range(300))
    assert busy.half_life == scoring.MIN_HALF_LIFE
    assert scoring.aged(busy, busy.at + timedelta(hours=3)).samples < 0.03 * busy.samples
    assert scoring.aged(quiet, quiet.at + timedelta(hours=12)).samples > 0.9 * quiet.samples
    assert scoring.aged(quiet, quiet.at + timedelta(days=30)).samples < 0.1 * quiet.samples


@pytest.mark.parametrize(
    ("pace", "half_life"), [(None, 30 * DAY), (0, 1_800), (1, 1_800), (60, 30_000), (DAY, 30 * DAY)]
)
def test_a_half_life_follows_the_pace_within_bounds(pace: float | None, half_life: float) -> None:
    assert tally(1, 1, pace).half_life == half_life


@given(outcomes.filter(bool))
def test_no_stream_of_outcomes_makes_a_tally_heavier_than_its_cap_or_turns_its_time_back(
    stream: list[tuple[float, bool]],
) -> None:
    known: Tally | None = None
    for seconds, success in stream:
        before, known = known, scoring.observe(known, success=success, at=later(seconds))
        assert known.samples <= min(CAP * 1.000001, (before.samples if before else 0) + 1.000001)
        assert before is None or known.at >= before.at
        assert min(known.successes, known.failures) >= 0
    assert known is not None
    assert known.at == later(max(seconds for seconds, _ in stream))


@given(st.lists(st.tuples(st.floats(0, 60), st.booleans()), min_size=2, max_size=100), st.randoms())
def test_outcomes_of_a_minute_come_to_the_same_in_any_order(stream: list[tuple[float, bool]], luck: object) -> None:
    mixed = list(stream)
    luck.shuffle(mixed)  # type: ignore[attr-defined]
    one, other = fed(sorted(stream)), fed(mixed)
    assert one.at == other.at
    assert one.successes == pytest.approx(other.successes, rel=0.03, abs=0.03)
    assert one.failures == pytest.approx(other.failures, rel=0.03, abs=0.03)


def test_a_late_outcome_weighs_what_it_would_by_now() -> None:
    known = tally(10, 0)
    late = scoring.observe(known, success=False, at=later(-known.half_life))
    assert (late.successes, late.failures, late.at) == (10, 0.5, NOW)


def test_an_outcome_after_a_long_wait_meets_what_time_has_left() -> None:
    known = tally(80, 20)
    after = scoring.observe(known, success=True, at=later(known.half_life))
    assert (after.successes, after.failures) == pytest.approx((41, 10))


def test_a_full_tally_still_learns_from_each_outcome() -> None:
    full = fed((i, True) for i in range(1_000))
    assert full.samples == pytest.approx(CAP)
    worse = scoring.observe(full, success=False, at=full.at)
    assert worse.failures == pytest.approx(CAP / (CAP + 1))
    assert worse.samples == pytest.approx(CAP)


def test_the_pace_is_the_usual_wait_between_outcomes() -> None:
    assert fed([(0, True)]).pace is None
    assert fed([(0, True), (7, True)]).pace == 7
    assert fed((i * 5.0, True) for i in range(200)).pace == pytest.approx(5)
    # Those that come in pairs, the second one late, come twice as often as the times tell.
    pairs = [(i * 5.0 - late, True) for i in range(1, 200) for late in (0, 1)]
    assert fed(pairs).pace == pytest.approx(2.5, rel=0.1)


@given(tallies)
def test_a_row_is_small_json_that_comes_back(known: Tally) -> None:
    row = json.loads(json.dumps(known.as_row(), allow_nan=False))
    back = Tally.from_row(row)
    assert back.as_row() == row
    assert back.at == known.at.replace(microsecond=known.at.microsecond // 1000 * 1000)
    assert (back.successes, back.failures) == pytest.approx((known.successes, known.failures), abs=0.001)
    assert len(json.dumps(row)) < 60


# -- segments ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("amount", "currency", "band"),
    [(500_00, "INR", 0), (500_01, "INR", 1), (2_000_00, "INR", 1), (10_000_00, "INR", 2), (10_000_01, "INR", 3),
     (1_000, "JPY", 0), (1_001, "JPY", 1), (40_001, "KWD", 3)],
)  # fmt: skip
def test_bands_end_where_they_say(amount: int, currency: str, band: int) -> None:
    assert scoring.segments("card", amount, currency) == ("", "card", f"card/{band}")
    assert scoring.segments("card", amount, currency, "visa")[-1] == f"card/{band}/visa"


@given(st.sampled_from(sorted(EXPONENTS)), st.integers(1, MAX_AMOUNT), st.integers(1, MAX_AMOUNT))
def test_every_amount_of_every_currency_has_a_band_and_more_is_never_lower(currency: str, one: int, other: int) -> None:
    low, high = (int(scoring.segments("upi", amount, currency)[-1].split("/")[1]) for amount in sorted((one, other)))
    assert 0 <= low <= high <= len(scoring.BANDS[EXPONENTS[currency]])


def test_bands_can_be_others() -> None:
    assert scoring.segments("upi", 11, "INR", bands={2: (10,)})[-1] == "upi/1"


def test_an_outcome_is_learned_in_all_its_segments_and_in_no_other() -> None:
    before = {"card": tally(3, 1), "upi": tally(5, 5)}
    after = scoring.learn(before, PATH, success=True, at=NOW)
    assert {name: known.samples for name, known in after.items()} == {
        "": 1, "card": 5, "card/2": 1, "card/2/visa": 1, "upi": 10,
    }  # fmt: skip
    assert before["card"].samples == 4


def test_an_accounts_segments_are_bounded_and_the_longest_unused_go() -> None:
    known: dict[str, Tally] = {}
    for i in range(3 * scoring.MAX_SEGMENTS):
        known = scoring.learn(known, ("", "netbanking", f"netbanking/0/bank{i}"), success=True, at=later(i))
        assert len(known) <= scoring.MAX_SEGMENTS
        assert {"", "netbanking", f"netbanking/0/bank{i}"} <= known.keys()
    assert "netbanking/0/bank0" not in known
    assert f"netbanking/0/bank{3 * scoring.MAX_SEGMENTS - 10}" in known


def test_a_late_outcome_in_a_full_house_still_finds_its_place() -> None:
    full = {f"s{i}": tally(1, 1) for i in range(scoring.MAX_SEGMENTS)}
    after = scoring.learn(full, ("", "upi"), success=True, at=later(-HOUR))
    assert {"", "upi"} <= after.keys()
    assert len(after) == scoring.MAX_SEGMENTS


@given(several)
def test_after_a_breakdown_the_rates_are_remembered_and_little_else(known: dict[str, Tally]) -> None:
    after = scoring.renew(known, PATH, later(1))
    assert after.keys() == known.keys()
    for name, old in known.items():
        assert after[name].samples <= (min(scoring.RENEWED * 1.000001, old.samples) if name in PATH else old.samples)
        assert after[name].successes * old.failures == pytest.approx(after[name].failures * old.successes)
        assert name in PATH or after[name] is old
    again = scoring.renew(after, PATH, later(1))
    assert {name: there.samples for name, there in again.items()} == pytest.approx(
        {name: there.samples for name, there in after.items()}
    )


@given(several)
def test_what_is_newer_than_a_breakdown_stays(known: dict[str, Tally]) -> None:
    assert scoring.renew(known, PATH, NOW) is known


def test_after_a_breakdown_an_account_is_soon_back() -> None:
    known = {"a": {"": tally(127, 23)}, "b": {"": tally(135, 15)}}
    assert first(known)["a"] < 0.01
    known["a"] = dict(scoring.renew(known["a"], ("",), later(1)))
    assert first(known)["a"] > 0.05
    for _ in range(30):
        known["a"] = scoring.learn(known["a"], ("",), success=True, at=later(1))
    assert first(known)["a"] > 0.5


@pytest.mark.parametrize("error_class", [None, *ErrorClass])
def test_what_counts_as_an_outcome(error_class: ErrorClass | None) -> None:
    ours = {ErrorClass.CONFIG, ErrorClass.INVALID_REQUEST, ErrorClass.CONFLICT}
    expected = None if error_class in ours else error_class is None
    assert scoring.outcome_of(error_class) is expected


# -- beliefs -----------------------------------------------------------------------------------------


@given(several, st.floats(-DAY, 90 * DAY), st.integers(1, len(PATH)))
def test_a_belief_is_a_chance(known: dict[str, Tally], seconds: float, depth: int) -> None:
    held = scoring.belief(known, PATH[:depth], later(seconds))
    assert 0 < held.mean < 1
    assert min(held.alpha, held.beta) > 0


thin = st.builds(Tally, st.floats(0, CAP / 3), st.floats(0, CAP / 3), st.just(NOW), paces)


@given(st.dictionaries(st.sampled_from(PATH), thin))
def test_one_more_success_never_makes_a_belief_worse_nor_a_failure_better(known: dict[str, Tally]) -> None:
    now = scoring.belief(known, PATH, NOW).mean
    for success in (True, False):
        after = scoring.belief(scoring.learn(known, PATH, success=success, at=NOW), PATH, NOW).mean
        assert after >= now - ROUNDING if success else after <= now + ROUNDING


@given(thin)
def test_an_outcome_counts_once_however_many_segments_it_is_in(own: Tally) -> None:
    held = scoring.belief(dict.fromkeys(PATH, own), PATH, NOW)
    assert (held.alpha, held.beta) == pytest.approx((9 + own.successes, 1 + own.failures))


def test_nothing_known_is_the_prior() -> None:
    held = scoring.belief({}, PATH, NOW)
    assert held.mean == pytest.approx(0.9)
    assert (held.segment, held.samples) == ("", 0)
    assert scoring.belief({}, ("",), NOW) == Belief(9, 1)


@given(several)
def test_a_segment_nobody_has_seen_is_believed_to_be_like_its_parent(known: dict[str, Tally]) -> None:
    known = {name: there for name, there in known.items() if name != PATH[-1]}
    parent, child = (scoring.belief(known, path, NOW) for path in (PATH[:-1], PATH))
    assert child.mean == pytest.approx(parent.mean)
    assert child.alpha + child.beta == pytest.approx(min(parent.alpha + parent.beta, STRENGTH))


def test_a_thin_segment_listens_to_its_parent_and_a_rich_one_to_itself() -> None:
    general: Mapping[str, Tally] = {"": tally(135, 15), "card": tally(135, 15)}
    thin, rich = (
        scoring.belief({**general, "card/2": own}, PATH[:3], NOW) for own in (tally(1, 4), tally(CAP / 5, CAP * 4 / 5))
    )
    assert 0.75 < thin.mean < 0.9
    assert rich.mean < 0.35
    assert (thin.segment, thin.samples) == ("card", CAP)
    assert (rich.segment, rich.samples) == ("card/2", CAP)


def test_what_is_long_ago_is_hardly_believed() -> None:
    known = {"": tally(0, 100)}
    assert scoring.belief(known, ("",), NOW).mean < 0.1
    assert scoring.belief(known, ("",), later(DAY)).mean == pytest.approx(0.9)


# -- draws and ranks ---------------------------------------------------------------------------------


def accounts(**rates: float) -> dict[str, dict[str, Tally]]:
    return {name: {"": tally(100 * rate, 100 * (1 - rate))} for name, rate in rates.items()}


def test_a_draw_is_its_seeds_for_ever() -> None:
    """These are stored with decisions: another Python or another formula must not draw others."""
    held = Belief(90, 10)
    assert scoring.draw(held, "pay_1/acct_a") == pytest.approx(PINNED, abs=1e-9)
    assert scoring.draw(held, "pay_2/acct_a") != pytest.approx(PINNED, abs=1e-9)


def test_draws_gather_around_the_mean_as_if_the_evidence_were_sharper() -> None:
    held = Belief(80, 20)
    draws = [scoring.draw(held, str(seed)) for seed in range(3_000)]
    variance = held.mean * (1 - held.mean) / (100 * scoring.SHARPNESS + 1)
    assert mean(draws) == pytest.approx(held.mean, abs=4 * (variance / 3_000) ** 0.5)
    assert mean((drawn - held.mean) ** 2 for drawn in draws) == pytest.approx(variance, rel=0.15)


names = st.lists(st.sampled_from("abcdef"), min_size=1, unique=True)


@given(names, st.data(), st.text(max_size=20))
def test_a_rank_is_repeated_by_its_seed_whoever_else_takes_part(
    order: list[str], data: st.DataObject, seed: str
) -> None:
    known = {name: data.draw(several, name) for name in order}
    scores = scoring.rank(known, PATH, NOW, seed)
    assert [score.value for score in scores] == sorted((score.value for score in scores), reverse=True)
    assert scores == scoring.rank(known, PATH, NOW, seed)
    backwards = scoring.rank(dict(reversed(known.items())), PATH, NOW, seed)
    assert {score.account: score for score in backwards} == {score.account: score for score in scores}
    fewer = scoring.rank({name: known[name] for name in order[1:]}, PATH, NOW, seed)
    assert fewer == tuple(score for score in scores if score.account != order[0])


def first(known: Mapping[str, Mapping[str, Tally]], path: Sequence[str] = ("",), rounds: int = 400) -> dict[str, float]:
    tops = [scoring.rank(known, path, NOW, str(seed))[0].account for seed in range(rounds)]
    return {name: tops.count(name) / rounds for name in known}


def test_the_better_account_is_nearly_always_first_and_an_unknown_one_gets_its_turn() -> None:
    shares = first(accounts(good=0.95, bad=0.7))
    assert shares["good"] > 0.99
    shares = first({**accounts(good=0.9, bad=0.7), "new": {}})
    assert 0.2 < shares["new"] < 0.8
    assert shares["bad"] < 0.01


def test_an_account_that_begins_to_fail_loses_its_place_within_a_few_dozen_payments() -> None:
    known: dict[str, dict[str, Tally]] = {"a": {}, "b": {}}
    for i in range(1_000):
        for name, every in (("a", 20), ("b", 10)):
            known[name] = scoring.learn(known[name], PATH[:3], success=i % every > 0, at=later(i - 1_000))
    assert first(known, PATH[:3])["a"] > 0.9
    for _ in range(30):
        known["a"] = scoring.learn(known["a"], PATH[:3], success=False, at=NOW)
    assert first(known, PATH[:3])["a"] < 0.05


@given(st.integers(0, 10_000), st.integers(0, 10**6), st.integers(1, MAX_AMOUNT))
def test_a_cost_is_exact_to_the_minor_unit(basis_points: int, fixed: int, amount: int) -> None:
    exact = fixed + Fraction(amount * basis_points, 10_000)
    cost = Cost(basis_points, fixed).of(amount)
    assert type(cost) is int
    assert -Fraction(1, 2) < cost - exact <= Fraction(1, 2)


def test_with_costs_the_expected_value_decides() -> None:
    known = accounts(dear=0.93, cheap=0.91)
    costs = {"dear": Cost(400, 0), "cheap": Cost(50, 300)}
    plain = [scoring.rank(known, ("",), NOW, str(seed))[0].account for seed in range(50)]
    aware = [scoring.rank(known, ("",), NOW, str(seed), amount=100_000, costs=costs)[0] for seed in range(50)]
    assert plain.count("dear") > 30
    assert [score.account for score in aware].count("cheap") > 30
    assert all(score.value == score.draw * (100_000 - (4_000 if score.account == "dear" else 800)) for score in aware)
    assert {score.cost for score in aware} <= {4_000, 800}


def test_an_account_without_a_cost_does_not_win_for_being_free() -> None:
    known = accounts(priced=0.95, unknown=0.9)
    scores = scoring.rank(known, ("",), NOW, "s", amount=1_000, costs={"priced": Cost(1_000)})
    assert scores == scoring.rank(known, ("",), NOW, "s")
    assert {score.cost for score in scores} == {None}


def test_equal_accounts_stay_in_the_order_given() -> None:
    whole = Cost(10_000)  # leaves nothing, whatever is drawn
    for order in ("abc", "cab"):
        known = accounts(**dict.fromkeys(order, 0.9))
        scores = scoring.rank(known, ("",), NOW, "s", amount=500, costs=dict.fromkeys(order, whole))
        assert "".join(score.account for score in scores) == order


def test_a_score_says_why() -> None:
    (score,) = scoring.rank({"a": {"": tally(90, 10), "card": tally(45, 5)}}, PATH[:3], NOW, "s")
    shown = json.loads(json.dumps(score.as_dict()))
    assert shown == {"account": "a", "mean": 0.9, "segment": "card", "samples": 50.0,
                     "draw": round(score.draw, 4), "value": round(score.draw, 4)}  # fmt: skip
    (priced,) = scoring.rank({"a": {}}, ("",), NOW, "s", amount=100, costs={"a": Cost(0, 7)})
    assert priced.as_dict()["cost"] == 7


# -- Wilson ------------------------------------------------------------------------------------------


def test_wilsons_interval_is_the_published_one() -> None:
    """81 of 263, 15 of 148, 0 of 20, 1 of 29: R. G. Newcombe, Statistics in Medicine 17 (1998) 857, table I."""
    published = {
        (81, 263): (0.2553, 0.3662),
        (15, 148): (0.0624, 0.1605),
        (0, 20): (0, 0.1611),
        (1, 29): (0.0061, 0.1718),
    }
    for (hits, trials), expected in published.items():
        assert scoring.wilson(hits, trials) == pytest.approx(expected, abs=0.0001)
    assert scoring.wilson(0, 0) == (0, 1)


@given(st.integers(1, 2_000), st.data())
def test_wilsons_interval_holds_the_rate_and_moves_with_it(trials: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, trials - 1))
    low, high = scoring.wilson(hits, trials)
    assert 0 <= low < high <= 1
    assert low - ROUNDING <= hits / trials <= high + ROUNDING
    more_low, more_high = scoring.wilson(hits + 1, trials)
    assert low < more_low
    assert high < more_high
    wide_low, wide_high = scoring.wilson(hits, trials, 3.0)
    assert wide_low <= low + ROUNDING
    assert high <= wide_high + ROUNDING
    twice_low, twice_high = scoring.wilson(2 * hits, 2 * trials)
    assert twice_high - twice_low < high - low
