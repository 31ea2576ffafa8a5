"""Each risk rule scores and says why; the total allows, reviews or blocks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.domain.risk import RiskRules, assess

RULES = RiskRules(review_countries=frozenset({"NG"}))
LIMIT = 100_000_00


def test_an_ordinary_payment_is_allowed_without_reasons() -> None:
    verdict = assess(RULES, amount=LIMIT, currency="INR", country="IN")
    assert (verdict.decision, verdict.score, verdict.reasons) == ("allow", 0, [])


def test_more_than_one_lakh_rupees_is_blocked_with_the_known_words() -> None:
    verdict = assess(RULES, amount=LIMIT + 1, currency="INR", country="IN")
    assert (verdict.decision, verdict.score) == ("block", 100)
    assert verdict.reasons == ["Fraud detected: High amount"]


def test_a_limit_is_per_currency() -> None:
    assert assess(RULES, amount=LIMIT + 1, currency="JPY", country=None).decision == "allow"
    assert assess(RiskRules(max_amount={"JPY": 5}), amount=6, currency="JPY", country=None).decision == "block"


@pytest.mark.parametrize(
    ("country", "decision", "score"),
    [("KP", "block", 100), ("NG", "review", 50), ("IN", "allow", 0), (None, "allow", 0)],
)
def test_a_country_is_blocked_reviewed_or_neither(country: str | None, decision: str, score: int) -> None:
    verdict = assess(RULES, amount=1, currency="INR", country=country)
    assert (verdict.decision, verdict.score) == (decision, score)
    assert bool(verdict.reasons) == (decision != "allow")
    assert all(str(country) in reason for reason in verdict.reasons)


def test_reasons_add_up_but_the_score_stays_within_a_hundred() -> None:
    verdict = assess(RULES, amount=LIMIT + 1, currency="INR", country="KP")
    assert (verdict.decision, verdict.score, len(verdict.reasons)) == ("block", 100, 2)


def test_two_doubts_together_block() -> None:
    rules = RiskRules(max_amount={"INR": 10}, review_countries=frozenset({"NG"}), review_score=40, block_score=80)
    assert assess(rules, amount=5, currency="INR", country="NG").decision == "review"
    assert assess(rules, amount=11, currency="INR", country="NG").decision == "block"


@given(st.integers(1, 10**11), st.integers(1, 10**11), st.sampled_from(["IN", "NG", "KP", None]))
def test_a_smaller_payment_is_never_judged_harder(one: int, other: int, country: str | None) -> None:
    small, large = sorted((one, other))
    judge = {"allow": 0, "review": 1, "block": 2}
    verdicts = [assess(RULES, amount=amount, currency="INR", country=country) for amount in (small, large)]
    assert judge[verdicts[0].decision] <= judge[verdicts[1].decision]
    assert all(0 <= verdict.score <= 100 for verdict in verdicts)
    assert all((verdict.decision == "allow") == (not verdict.reasons) for verdict in verdicts)


def test_a_verdict_is_plain_data_for_the_payment() -> None:
    assert assess(RULES, amount=1, currency="INR", country="NG").as_dict() == {
        "decision": "review", "score": 50, "reasons": ["Country NG needs a review"],
    }  # fmt: skip
