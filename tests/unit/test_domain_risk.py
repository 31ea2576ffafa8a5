"""Each risk rule scores and says why; the total allows, reviews or blocks."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.domain.risk import LIMITS, Hit, RiskRules, Signals, Verdict, judge
from chalicelib.domain.risk_lists import Lists, domain_of
from chalicelib.domain.velocity import Breach, Limit

RULES = RiskRules(review_countries=frozenset({"NG"}))
LIMIT = 100_000_00
NOON = datetime(2026, 11, 21, 6, 30, tzinfo=UTC)  # in Kolkata
NIGHT = datetime(2026, 11, 21, 20, 45, tzinfo=UTC)  # 02:15 there
ORDINARY = Signals(
    1_499_00, "INR", method="card", bin="41111122", fingerprint="fp_1", network="visa", email="asha@shop.example.com",
    vpa="asha@okbank", ip="49.205.1.7", ip_country="IN", bin_country="IN", customer_country="IN", first_seen=False,
    now=NOON,
)  # fmt: skip
JUDGE = {"allow": 0, "review": 1, "block": 2}


def assess(rules: RiskRules, *, amount: int, currency: str, country: str | None) -> Verdict:
    """Judge a payment of which nothing else is known."""
    return judge(rules, Signals(amount, currency, customer_country=country))


def found(rules: RiskRules = RULES, **signals: Any) -> list[Hit]:
    return list(judge(rules, replace(ORDINARY, **signals)).hits)


# -- what there was first: an amount, a currency and a country -----------------------------------------


def test_an_ordinary_payment_is_allowed_without_reasons() -> None:
    verdict = assess(RULES, amount=LIMIT, currency="INR", country="IN")
    assert (verdict.decision, verdict.score, verdict.reasons) == ("allow", 0, [])
    assert judge(RULES, ORDINARY).hits == ()
    assert judge(RULES, replace(ORDINARY, now=NIGHT)).hits == ()
    assert judge(RULES, Signals(1, "INR")).hits == ()


def test_more_than_one_lakh_rupees_is_blocked_with_the_known_words() -> None:
    verdict = assess(RULES, amount=LIMIT + 1, currency="INR", country="IN")
    assert (verdict.decision, verdict.score) == ("block", 100)
    assert verdict.reasons == ["Fraud detected: High amount"]
    assert judge(RULES, replace(ORDINARY, amount=LIMIT + 1, now=NIGHT)).reasons == ["Fraud detected: High amount"]


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
    verdicts = [assess(RULES, amount=amount, currency="INR", country=country) for amount in (small, large)]
    assert JUDGE[verdicts[0].decision] <= JUDGE[verdicts[1].decision]
    assert all(0 <= verdict.score <= 100 for verdict in verdicts)
    assert all((verdict.decision == "allow") == (not verdict.reasons) for verdict in verdicts)


def test_a_verdict_is_plain_data_for_the_payment() -> None:
    verdict = assess(RULES, amount=1, currency="INR", country="NG")
    shown = {"decision": "review", "score": 50, "reasons": ["Country NG needs a review"]}
    assert verdict.as_dict() == shown
    hit = {"rule": "country_review", "score": 50, "reason": "Country NG needs a review"}
    assert verdict.record() == {**shown, "hits": [hit]}


# -- countries -----------------------------------------------------------------------------------------


def test_every_known_country_is_looked_at_once() -> None:
    rules = RiskRules(blocked_countries=frozenset({"KP"}), review_countries=frozenset({"NG"}))
    assert found(rules, customer_country="KP", bin_country="KP", ip_country="KP") == [
        Hit("country_blocked", 100, "Country KP is blocked")
    ]
    assert found(rules, customer_country=None, bin_country="NG", ip_country="KP")[:2] == [
        Hit("country_review", 50, "Card country NG needs a review"), Hit("country_blocked", 100, "IP country KP is blocked"),
    ]  # fmt: skip


def test_a_list_of_allowed_countries_lets_no_other_known_one_in() -> None:
    rules = RiskRules(allowed_countries=frozenset({"IN", "NP"}), review_countries=frozenset({"NP"}))
    assert found(rules) == []
    assert found(rules, customer_country=None, bin_country=None, ip_country=None) == []
    assert found(rules, customer_country="US", bin_country=None, ip_country=None) == [
        Hit("country_not_allowed", 100, "Country US is not one of those allowed")
    ]
    assert [hit.rule for hit in found(rules, customer_country="NP", bin_country="NP", ip_country="NP")] == [
        "country_review"
    ]


@pytest.mark.parametrize(
    ("customer", "card", "ip", "rules"),
    [
        ("IN", "IN", "IN", []),
        ("IN", None, None, []),
        (None, "IN", None, []),
        (None, None, "IN", []),
        (None, None, None, []),
        ("IN", "US", None, ["card_country_mismatch"]),
        ("IN", "US", "IN", ["card_country_mismatch"]),
        ("IN", "US", "US", ["card_country_mismatch"]),
        ("IN", "IN", "US", ["ip_country_mismatch"]),
        ("IN", None, "US", ["ip_country_mismatch"]),
        (None, "IN", "US", ["ip_country_mismatch"]),
        ("IN", "US", "FR", ["card_country_mismatch", "ip_country_mismatch"]),
    ],
)
def test_countries_that_do_not_fit_are_a_doubt_if_both_are_known(
    customer: str | None, card: str | None, ip: str | None, rules: list[str]
) -> None:
    hits = found(customer_country=customer, bin_country=card, ip_country=ip)
    assert [hit.rule for hit in hits] == rules
    assert sum(hit.score for hit in hits) == sum({"c": 30, "i": 20}[rule[0]] for rule in rules)


def test_a_mismatch_names_both() -> None:
    assert [hit.reason for hit in found(customer_country="IN", bin_country="US", ip_country="FR")] == [
        "The card is from US, the customer from IN", "The IP address is from FR, the customer from IN",
    ]  # fmt: skip
    assert found(customer_country=None, ip_country="FR")[0].reason == "The IP address is from FR, the card from IN"


# -- lists ---------------------------------------------------------------------------------------------

LISTED = [
    ({"bins": ("411111",)}, "BIN 411111"),
    ({"bins": ("41111122", "411111")}, "BIN 41111122"),
    ({"fingerprints": ("fp_1",)}, "The card"),
    ({"email_domains": ("shop.example.com",)}, "Email domain shop.example.com"),
    ({"email_domains": ("example.com",)}, "Email domain example.com"),
    ({"networks": ("49.205.1.7/32",)}, "IP network 49.205.1.7/32"),
    ({"networks": ("49.0.0.0/8", "49.205.0.0/16")}, "IP network 49.205.0.0/16"),
    ({"vpas": ("asha@okbank",)}, "The VPA"),
]
NOT_LISTED = [
    {"bins": ("411112", "41111123", "41111")}, {"fingerprints": ("fp_11",)}, {"email_domains": ("ample.com", "ma.shop.example.com")},
    {"networks": ("49.205.1.6/32", "49.204.0.0/16", "::/16")}, {"vpas": ("asha@okban", "sha@okbank")},
]  # fmt: skip


@pytest.mark.parametrize(("lists", "what"), LISTED)
def test_what_is_on_the_block_list_is_blocked(lists: dict[str, tuple[str, ...]], what: str) -> None:
    verdict = judge(RiskRules(block=Lists(**lists)), ORDINARY)
    assert (verdict.decision, verdict.hits) == ("block", (Hit("block_list", 100, f"{what} is on the block list"),))


@pytest.mark.parametrize("lists", NOT_LISTED)
def test_what_only_looks_like_it_is_not(lists: dict[str, tuple[str, ...]]) -> None:
    assert judge(RiskRules(block=Lists(**lists)), ORDINARY).hits == ()


@pytest.mark.parametrize(("lists", "what"), LISTED)
def test_the_allow_list_beats_a_review(lists: dict[str, tuple[str, ...]], what: str) -> None:
    rules = RiskRules(allow=Lists(**lists), review_countries=frozenset({"IN"}))
    verdict = judge(rules, ORDINARY)
    assert (verdict.decision, verdict.score) == ("allow", 50)
    assert verdict.hits[-1] == Hit("allow_list", 0, f"{what} is on the allow list: no review")
    assert judge(replace(rules, review_countries=frozenset()), ORDINARY).hits == ()


@pytest.mark.parametrize(("lists", "what"), LISTED)
def test_the_allow_list_never_beats_a_block(lists: dict[str, tuple[str, ...]], what: str) -> None:
    rules = RiskRules(allow=Lists(**lists))
    for blocks in (
        replace(rules, block=Lists(fingerprints=("fp_1",))),
        replace(rules, blocked_countries=frozenset({"IN"})),
        replace(rules, max_amount={"INR": 1}),
    ):
        verdict = judge(blocks, ORDINARY)
        assert verdict.decision == "block"
        assert what not in " ".join(verdict.reasons) or what == "The card"


@pytest.mark.parametrize(
    ("signals", "listed"),
    [
        ({"ip": "::ffff:49.205.1.7"}, ["IP network 49.205.0.0/16"]),
        ({"ip": "2001:db8:5::1"}, ["IP network 2001:db8::/32"]),
        ({"ip": "2001:db9::1"}, []),
        ({"ip": "nonsense"}, []),
        ({"ip": None}, []),
        ({"email": "x@EXAMPLE.com."}, ["Email domain example.com"]),
        ({"email": "x@münchen.example"}, ["Email domain xn--mnchen-3ya.example"]),
        ({"email": "x@\ud800.example"}, []),
        ({"email": "example.com@other.org"}, []),
        ({"email": ""}, []),
        ({"vpa": "RAVI@ybl"}, ["The VPA"]),
        ({"bin": "400000"}, []),  # six digits cannot say whether they are 40000076
        ({"bin": "40000076"}, ["BIN 40000076"]),
        ({"bin": "4"}, []),
    ],
)
def test_lists_know_a_thing_however_it_is_written(signals: dict[str, str | None], listed: list[str]) -> None:
    block = Lists(
        bins=("40000076",), email_domains=("example.com", "xn--mnchen-3ya.example"), vpas=("ravi@ybl",),
        networks=("2001:db8::/32", "49.205.0.0/16"),
    )  # fmt: skip
    bare = {"bin": None, "email": None, "ip": None, "vpa": None}
    assert [
        hit.reason.removesuffix(" is on the block list") for hit in found(RiskRules(block=block), **bare | signals)
    ] == listed


def test_a_domain_is_what_follows_the_last_at() -> None:
    assert [domain_of(email) for email in ("a@b@C.d", "none", "", "a@")] == ["c.d", "none", "", ""]


def test_thousands_of_entries_are_found_among_as_fast() -> None:
    """No time is measured: the entries are compared with nothing, only looked up by what a payment has."""
    networks = tuple(f"10.{number >> 8}.{number & 255}.0/24" for number in range(5_000))
    lists = Lists(bins=tuple(str(number) for number in range(400_000, 405_000)), networks=networks)
    assert len(lists._networks[4]) == 1
    assert (list(lists.matches(bin_="404999", ip="10.19.135.9")), list(lists.matches(bin_="405000", ip="10.19.136.9"))) == (
        ["BIN 404999", "IP network 10.19.135.0/24"], [],
    )  # fmt: skip
    assert replace(lists)._networks is lists._networks  # read again with the settings, but not made again


# -- velocity, first payments, the night -----------------------------------------------------------------


def test_broken_limits_score_as_they_say_and_in_the_rules_order() -> None:
    minute, hour = LIMITS[0], LIMITS[1]
    declines = next(limit for limit in LIMITS if limit.kind == "decline")
    breaches = [Breach(declines, 5), Breach(hour, 11), Breach(minute, 4), Breach(hour, 12)]
    expected = [("velocity", 50, minute.reason), ("velocity", 50, hour.reason), ("card_testing", 60, declines.reason)]
    assert found(RULES, breaches=breaches) == expected
    assert found(RULES, breaches=breaches[::-1]) == expected


def test_a_broken_limit_that_is_no_longer_a_rule_counts_nothing() -> None:
    assert found(RiskRules(limits=()), breaches=[Breach(LIMITS[0], 4)]) == []


def test_a_limit_of_a_hundred_blocks_and_a_limit_of_fifty_asks() -> None:
    for score, decision in ((100, "block"), (50, "review"), (49, "allow")):
        limit = Limit("card", 60, "count", 3, score)
        rules = RiskRules(limits=(limit,))
        assert judge(rules, replace(ORDINARY, breaches=[Breach(limit, 4)])).decision == decision


@pytest.mark.parametrize(
    ("first_seen", "amount", "currency", "score"),
    [(True, 25_000_01, "INR", 20), (True, 25_000_00, "INR", 0), (True, 25_000_01, "JPY", 0),
     (False, 25_000_01, "INR", 0), (None, 25_000_01, "INR", 0)],
)  # fmt: skip
def test_a_first_payment_that_is_high_is_a_doubt(
    *, first_seen: bool | None, amount: int, currency: str, score: int
) -> None:
    hits = found(first_seen=first_seen, amount=amount, currency=currency)
    assert hits == ([Hit("first_seen", 20, "The customer's first payment, and a high amount")] if score else [])


def test_at_night_doubts_weigh_half_as_much_again() -> None:
    doubt = {"customer_country": "IN", "bin_country": "US", "ip_country": "FR"}
    by_day, by_night = judge(RULES, replace(ORDINARY, **doubt)), judge(RULES, replace(ORDINARY, now=NIGHT, **doubt))  # type: ignore[arg-type]
    assert (by_day.score, by_night.score) == (50, 75)
    assert by_night.hits == (*by_day.hits, Hit("night", 25, "At night (02:15 in Asia/Kolkata) doubts weigh 50 % more"))
    assert judge(replace(RULES, night_percent=200), replace(ORDINARY, now=NIGHT, **doubt)).decision == "block"  # type: ignore[arg-type]
    assert judge(RULES, replace(ORDINARY, now=None, **doubt)) == by_day  # type: ignore[arg-type]


@pytest.mark.parametrize(("score", "at_night"), [(1, [1]), (2, [2, 1]), (3, [3, 1])])
def test_half_of_a_doubt_is_rounded_down(score: int, at_night: list[int]) -> None:
    rules = replace(RULES, scores={"first_seen": score})
    assert [hit.score for hit in found(rules, first_seen=True, amount=30_000_00, now=NIGHT)] == at_night


def is_night(rules: RiskRules, moment: str) -> bool:
    now = datetime.fromisoformat(moment).astimezone(UTC)
    return judge(rules, replace(ORDINARY, first_seen=True, amount=30_000_00, now=now)).hits[-1].rule == "night"


@pytest.mark.parametrize(
    ("first", "last", "moments"),
    [
        (0, 5, {"T23:59:59": False, "T00:00:00": True, "T04:59:59": True, "T05:00:00": False, "T12:00:00": False}),
        (22, 6, {"T21:59:59": False, "T22:00:00": True, "T02:00:00": True, "T05:59:59": True, "T06:00:00": False}),
        (3, 3, {"T02:59:59": False, "T03:00:00": False, "T15:00:00": False}),
    ],
)
@pytest.mark.parametrize(("zone", "offset"), [("Asia/Kolkata", "+05:30"), ("America/New_York", "-05:00")])
def test_a_night_begins_and_ends_by_the_merchants_clock(
    first: int, last: int, moments: dict[str, bool], zone: str, offset: str
) -> None:
    rules = RiskRules(night_from=first, night_to=last, time_zone=zone)
    assert {time: is_night(rules, f"2026-11-21{time}{offset}") for time in moments} == moments


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        # Spring: 02:00 is 03:00. The night from 1 to 3 has one hour.
        ("2026-03-29T00:59:59+01:00", False), ("2026-03-29T01:00:00+01:00", True), ("2026-03-29T01:59:59+01:00", True),
        ("2026-03-29T03:00:00+02:00", False),
        # Autumn: 03:00 is 02:00 again. It has three.
        ("2026-10-25T00:59:59+02:00", False), ("2026-10-25T01:00:00+02:00", True), ("2026-10-25T02:59:59+02:00", True),
        ("2026-10-25T02:00:00+01:00", True), ("2026-10-25T02:59:59+01:00", True), ("2026-10-25T03:00:00+01:00", False),
    ],
)  # fmt: skip
def test_a_night_in_which_the_clocks_change(moment: str, *, expected: bool) -> None:
    assert is_night(RiskRules(night_from=1, night_to=3, time_zone="Europe/Berlin"), moment) is expected


# -- scores, and all rules together ----------------------------------------------------------------------


def test_a_rule_scores_what_the_merchant_says_and_zero_turns_it_off() -> None:
    high = {"first_seen": True, "amount": LIMIT + 1}
    assert [hit.score for hit in found(RULES, **high)] == [100, 20]
    assert [hit.score for hit in found(replace(RULES, scores={"amount_limit": 40, "first_seen": 70}), **high)] == [
        40,
        70,
    ]
    assert [hit.rule for hit in found(replace(RULES, scores={"amount_limit": 0}), **high)] == ["first_seen"]
    assert found(replace(RULES, scores={"country_review": 7}), customer_country="NG")[0].score == 7


def test_reasons_come_in_the_order_of_the_table() -> None:
    rules = RiskRules(
        max_amount={"INR": 1}, block=Lists(fingerprints=("fp_1",)), review_countries=frozenset({"IN"}), block_score=100,
        scores={"amount_limit": 1, "country_review": 1, "card_country_mismatch": 1, "ip_country_mismatch": 1, "first_seen": 1},
    )  # fmt: skip
    signals = replace(
        ORDINARY, amount=30_000_00, bin_country="US", ip_country="FR", first_seen=True,
        breaches=[Breach(LIMITS[5], 9), Breach(LIMITS[0], 9)],
    )  # fmt: skip
    expected = [
        "amount_limit", "block_list", "country_review", "card_country_mismatch", "ip_country_mismatch", "velocity",
        "card_testing", "first_seen",
    ]  # fmt: skip
    assert [hit.rule for hit in judge(rules, signals).hits] == expected


_COUNTRY = st.sampled_from([None, "IN", "NG", "KP", "US"])


@given(
    st.builds(
        Signals, st.integers(1, 2 * LIMIT), st.sampled_from(["INR", "USD"]), bin=st.sampled_from([None, "411111"]),
        fingerprint=st.sampled_from([None, "fp_1", "fp_2"]), ip_country=_COUNTRY, bin_country=_COUNTRY,
        customer_country=_COUNTRY, first_seen=st.sampled_from([None, True, False]), now=st.sampled_from([None, NOON, NIGHT]),
        breaches=st.lists(st.sampled_from([Breach(limit, 9) for limit in LIMITS]), max_size=3),
    ),
    st.sampled_from([Lists(), Lists(bins=("411111",))]),
    st.sampled_from([Lists(), Lists(fingerprints=("fp_1",))]),
)  # fmt: skip
def test_a_verdict_adds_up_whatever_is_known(signals: Signals, allow: Lists, block: Lists) -> None:
    rules = replace(RULES, allow=allow, block=block)
    verdict = judge(rules, signals)
    assert verdict == judge(rules, replace(signals, breaches=signals.breaches[::-1]))
    assert verdict.score == min(100, sum(hit.score for hit in verdict.hits))
    unlisted = judge(replace(rules, allow=Lists()), signals)
    assert unlisted.decision == ("block" if verdict.score >= 100 else "review" if verdict.score >= 50 else "allow")
    assert JUDGE[verdict.decision] <= JUDGE[unlisted.decision]
    assert (verdict.decision == unlisted.decision) or (unlisted.decision == "review" and allow.bins)
    if signals.fingerprint in block.fingerprints and signals.fingerprint:
        assert verdict.decision == "block"


def test_rules_read_from_a_row_are_the_same_rules() -> None:
    """As storage does it today: frozen sets as lists, everything else by ``asdict``."""
    rules = replace(RULES, block=Lists(bins=("411111",)), limits=(LIMITS[0],), time_zone="Europe/Berlin")
    row: dict[str, Any] = {
        name: sorted(value) if isinstance(value, frozenset) else value for name, value in asdict(rules).items()
    }
    assert RiskRules(**row) == rules
    assert RiskRules(max_amount={"INR": 5}, blocked_countries=["KP"]).blocked_countries == {"KP"}  # type: ignore[arg-type]
