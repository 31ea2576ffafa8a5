"""Risk settings as JSON: what is wrong is refused by name, what is right comes back as it went in."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.api.problems import CODES
from chalicelib.domain.errors import InvalidRequest
from chalicelib.domain.risk import LIMITS, RiskRules, Signals, judge
from chalicelib.domain.risk_lists import Lists
from chalicelib.domain.risk_settings import (
    MAX_BIN_COUNTRIES,
    MAX_BYTES,
    MAX_COUNTED,
    MAX_ENTRIES,
    MAX_LIMITS,
    from_stored,
    parse,
    to_dict,
    to_stored,
)
from chalicelib.domain.velocity import Limit

FULL: dict[str, Any] = {
    "max_amount": {"INR": 5_000_00, "JPY": 10_000},
    "allowed_countries": ["IN", "NP"],
    "blocked_countries": ["KP"],
    "review_countries": ["NP"],
    "review_score": 40,
    "block_score": 80,
    "block": {
        "bins": ["411111", "41111122"],
        "fingerprints": ["fp_" + "0a" * 16],
        "email_domains": ["mail.example.com", "xn--mnchen-3ya.example"],
        "networks": ["10.0.0.0/8", "192.0.2.1/32", "2001:db8::/32"],
        "vpas": ["a.b-c_d@okbank"],
    },
    "allow": {"bins": ["555555"], "fingerprints": [], "email_domains": [], "networks": [], "vpas": []},
    "limits": [
        {"dimension": "card", "seconds": 60, "measure": "count", "value": 3, "score": 100, "kind": "payment"},
        {"dimension": "ip", "seconds": 90, "measure": "count", "value": 9, "score": 5, "kind": "decline"},
        {"dimension": "device", "seconds": 3600, "measure": "count", "value": 9, "score": 5, "kind": "payment",
         "currency": "INR", "up_to": 100},
        {"dimension": "customer", "seconds": 86400, "measure": "sum", "value": 10**9, "score": 1, "kind": "payment",
         "currency": "USD"},
    ],
    "first_seen_amount": {"USD": 500_00},
    "time_zone": "Europe/Berlin",
    "night_from": 23,
    "night_to": 6,
    "night_percent": 200,
    "bin_countries": {"411111": "IN", "40000076": "BR"},
    "scores": {"first_seen": 0, "amount_limit": 60},
}  # fmt: skip
LIMIT = FULL["limits"][0]
CARD = "4242424242424242"


def refusal(data: object) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        parse(data)
    assert caught.value.code in CODES
    return caught.value


def test_nothing_said_is_the_defaults_and_those_are_valid() -> None:
    assert parse({}) == RiskRules()
    assert parse(to_dict(RiskRules())) == RiskRules()
    assert to_stored(RiskRules()) == {}


def test_everything_said_comes_back() -> None:
    rules = parse(FULL)
    assert to_dict(rules) == FULL
    assert parse(json.loads(json.dumps(to_dict(rules)))) == rules
    assert from_stored(json.loads(json.dumps(to_stored(rules)))) == rules
    assert rules.block.networks == ("10.0.0.0/8", "192.0.2.1/32", "2001:db8::/32")
    assert rules.limits[1] == Limit("ip", 90, "count", 9, 5, kind="decline")


def test_only_what_differs_from_the_defaults_is_stored() -> None:
    assert to_stored(parse({"review_score": 40, "block_score": 100, "limits": to_dict(RiskRules())["limits"]})) == {
        "review_score": 40
    }
    assert parse({"limits": []}).limits == ()
    assert to_stored(parse({"limits": [], "blocked_countries": []})) == {"limits": [], "blocked_countries": []}


def test_entries_are_kept_in_one_form_and_order() -> None:
    rules = parse(
        {
            "block": {
                "networks": ["192.0.2.7", "2001:DB8::/32"],
                "vpas": ["Zoe@YBL", "ann@ybl"],
                "email_domains": ["EXAMPLE.com"],
            }
        }
    )
    assert rules.block == Lists(
        networks=("192.0.2.7/32", "2001:db8::/32"), vpas=("ann@ybl", "zoe@ybl"), email_domains=("example.com",)
    )


WRONG: list[tuple[Any, str | None, str]] = [
    ([], None, "invalid_field"),
    (None, None, "invalid_field"),
    ({"max_amuont": {}}, "max_amuont", "unknown_field"),
    ({CARD: 1}, None, "unknown_field"),
    ({"max_amount": []}, "max_amount", "invalid_field"),
    ({"max_amount": {"XAU": 5}}, "max_amount", "unknown_currency"),
    ({"max_amount": {"INR": 0}}, "max_amount.INR", "invalid_field"),
    ({"max_amount": {"INR": True}}, "max_amount.INR", "invalid_field"),
    ({"max_amount": {"INR": 5.0}}, "max_amount.INR", "invalid_field"),
    ({"max_amount": {"INR": 10**11}}, "max_amount.INR", "invalid_field"),
    ({"first_seen_amount": {"INR": "5"}}, "first_seen_amount.INR", "invalid_field"),
    ({"blocked_countries": "KP"}, "blocked_countries", "invalid_field"),
    ({"blocked_countries": ["KP", "XX"]}, "blocked_countries.1", "invalid_field"),
    ({"review_countries": ["IN", "NP", "IN"]}, "review_countries.2", "invalid_field"),
    ({"blocked_countries": ["KP"], "review_countries": ["KP"]}, "review_countries", "invalid_field"),
    ({"allowed_countries": ["KP"]}, "allowed_countries", "invalid_field"),  # blocked by default
    ({"review_score": 0}, "review_score", "invalid_field"),
    ({"block_score": 101}, "block_score", "invalid_field"),
    ({"block_score": None}, "block_score", "invalid_field"),
    ({"review_score": True}, "review_score", "invalid_field"),
    ({"review_score": 81, "block_score": 80}, "review_score", "invalid_field"),
    ({"block_score": 49}, "review_score", "invalid_field"),  # below the default of the other
    ({"block": []}, "block", "invalid_field"),
    ({"block": {"ips": []}}, "block.ips", "unknown_field"),
    ({"allow": {"bins": ["555555", "5555"]}}, "allow.bins.1", "invalid_field"),
    ({"block": {"bins": ["4111111"]}}, "block.bins.0", "invalid_field"),
    ({"block": {"bins": ["41111a"]}}, "block.bins.0", "invalid_field"),
    ({"block": {"bins": ["٤١١١١١"]}}, "block.bins.0", "invalid_field"),
    ({"block": {"bins": ["011111"]}}, "block.bins.0", "invalid_field"),
    ({"block": {"bins": [411111]}}, "block.bins.0", "invalid_field"),
    ({"block": {"bins": ["411111", "411111"]}}, "block.bins.1", "invalid_field"),
    ({"block": {"bins": ["411111"]}, "allow": {"bins": ["411111"]}}, "allow.bins", "invalid_field"),
    ({"block": {"fingerprints": ["fp_12"]}}, "block.fingerprints.0", "invalid_field"),
    ({"block": {"fingerprints": [CARD]}}, "block.fingerprints.0", "invalid_field"),
    *(({"block": {"email_domains": [domain]}}, "block.email_domains.0", "invalid_field") for domain in (
        "com", "@example.com", "exa mple.com", "example..com", "-a.com", "münchen.example", "", 5, ".".join(["a" * 60] * 5),
        "a" * 64 + ".com", "example.com.")),
    ({"block": {"email_domains": ["Example.com", "example.COM"]}}, "block.email_domains.1", "invalid_field"),
    ({"block": {"email_domains": [f"{CARD}.example"]}}, "block.email_domains.0", "card_number_not_allowed"),
    *(({"block": {"networks": [network]}}, "block.networks.0", "invalid_field") for network in (
        "1.2.3.4/33", "1.2.3.4/24", "1.2.3", "x", "", 16909060, None, "0.0.0.0/0", "2000::/3", "16.0.0.0/7",
        "::ffff:1.2.3.0/120", "fe80::1%eth0")),
    ({"block": {"networks": ["1.2.3.4", "1.2.3.4/32"]}}, "block.networks.1", "invalid_field"),
    ({"allow": {"vpas": ["nobody"]}}, "allow.vpas.0", "invalid_field"),
    ({"allow": {"vpas": ["a@b", "K\u212a@ybl"]}}, "allow.vpas.0", "invalid_field"),
    ({"allow": {"vpas": ["\u212aate@ybl"]}}, "allow.vpas.0", "invalid_field"),  # lower() makes a k of it
    ({"allow": {"vpas": ["asha@ybl", "ASHA@ybl"]}}, "allow.vpas.1", "invalid_field"),
    ({"allow": {"vpas": ["4242.4242-4242_4242@ybl"]}}, "allow.vpas.0", "card_number_not_allowed"),
    ({"limits": {}}, "limits", "invalid_field"),
    ({"limits": [5]}, "limits.0", "invalid_field"),
    ({"limits": [{**LIMIT, "reason": "x"}]}, "limits.0.reason", "unknown_field"),
    *(({"limits": [LIMIT, {name: value for name, value in FULL["limits"][3].items() if name != missing}]},
       f"limits.1.{missing}", "missing_field") for missing in
      ("dimension", "seconds", "measure", "value", "score", "currency")),
    ({"limits": [{**LIMIT, "dimension": "vpa"}]}, "limits.0.dimension", "invalid_field"),
    ({"limits": [{**LIMIT, "measure": "average"}]}, "limits.0.measure", "invalid_field"),
    ({"limits": [{**LIMIT, "kind": []}]}, "limits.0.kind", "invalid_field"),
    ({"limits": [{**LIMIT, "seconds": 86_401}]}, "limits.0.seconds", "invalid_field"),
    ({"limits": [{**LIMIT, "seconds": 0}]}, "limits.0.seconds", "invalid_field"),
    ({"limits": [{**LIMIT, "value": 0}]}, "limits.0.value", "invalid_field"),
    ({"limits": [{**LIMIT, "value": MAX_COUNTED}]}, "limits.0.value", "invalid_field"),
    ({"limits": [{**LIMIT, "score": 0}]}, "limits.0.score", "invalid_field"),
    ({"limits": [{**LIMIT, "up_to": 100}]}, "limits.0.currency", "missing_field"),
    ({"limits": [{**LIMIT, "currency": "XXX"}]}, "limits.0.currency", "unknown_currency"),
    ({"limits": [{**LIMIT, "measure": "sum", "currency": "INR", "kind": "decline"}]}, "limits.0.measure", "invalid_field"),
    ({"limits": [{**LIMIT, "measure": "sum", "currency": "INR", "up_to": 5}]}, "limits.0.measure", "invalid_field"),
    ({"limits": [LIMIT, {**LIMIT, "value": 4, "score": 1}]}, "limits.1", "invalid_field"),
    ({"limits": [{**LIMIT, "seconds": seconds, "value": 100} for seconds in range(1, 6)]}, "limits", "invalid_field"),
    ({"limits": [{**LIMIT, "seconds": seconds, "value": 1} for seconds in range(1, MAX_LIMITS + 2)]}, "limits.40", "invalid_field"),
    *(({"time_zone": zone}, "time_zone", "invalid_field") for zone in
      ("Mars/Olympus", "", "Asia", "../../etc/passwd", "/etc/localtime", "asia/kolkata", "Asia/Kolkata\0", 5, None)),
    ({"night_from": 24}, "night_from", "invalid_field"),
    ({"night_to": -1}, "night_to", "invalid_field"),
    ({"night_percent": 99}, "night_percent", "invalid_field"),
    ({"bin_countries": {"4": "IN"}}, "bin_countries", "invalid_field"),
    ({"bin_countries": {"411111": "India"}}, "bin_countries.411111", "invalid_field"),
    ({"scores": {"velocity": 5}}, "scores", "invalid_field"),
    ({"scores": {"block_list": 0}}, "scores", "invalid_field"),
    ({"scores": {"first_seen": 101}}, "scores.first_seen", "invalid_field"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "param", "code"), WRONG, ids=[f"{place}-{row[1]}" for place, row in enumerate(WRONG)])
def test_what_is_wrong_is_refused_by_name_and_not_repeated(data: object, param: str | None, code: str) -> None:
    error = refusal(data)
    assert (error.param, error.code) == (param, code)
    assert CARD not in f"{error.detail}{error.param}"
    assert str(error.detail).isprintable()


def bins(first: int, many: int) -> list[str]:
    return [str(number) for number in range(first, first + many)]


def test_the_lists_are_bounded_one_by_one_and_together() -> None:
    assert len(parse({"block": {"bins": bins(400_000, MAX_ENTRIES)}}).block.bins) == MAX_ENTRIES
    assert refusal({"block": {"bins": bins(400_000, MAX_ENTRIES + 1)}}).param == "block.bins"
    together = {"block": {"bins": bins(400_000, 3_000)}, "allow": {"bins": bins(500_000, 2_001)}}
    assert (refusal(together).param, refusal(together).code) == ("block", "invalid_field")
    table = dict.fromkeys(bins(400_000, MAX_BIN_COUNTRIES + 1), "IN")
    assert refusal({"bin_countries": table}).param == "bin_countries"


def test_what_is_stored_is_bounded_in_bytes() -> None:
    long = [f"{number:06d}{'a' * 200}@ybl" for number in range(MAX_BYTES // 200)]
    assert refusal({"block": {"vpas": long}}).param is None
    rules = parse({"block": {"vpas": long[: len(long) - 50]}})
    assert len(json.dumps(to_stored(rules), separators=(",", ":"))) <= MAX_BYTES


_LONGEST = ".".join(["a" * 61] * 4) + ".abcde"  # 253 letters


@pytest.mark.parametrize(
    ("inside", "outside"),
    [
        ({"night_from": 0}, {"night_from": -1}),
        ({"night_to": 0}, {"night_to": -1}),
        ({"night_to": 23}, {"night_to": 24}),
        ({"night_percent": 100}, {"night_percent": 99}),
        ({"night_percent": 500}, {"night_percent": 501}),
        ({"review_score": 1}, {"review_score": 0}),
        ({"review_score": 100}, {"review_score": 101}),
        ({"block": {"email_domains": [_LONGEST]}}, {"block": {"email_domains": [_LONGEST + "f"]}}),
        ({"block": {"networks": ["9.0.0.0/8"]}}, {"block": {"networks": ["8.0.0.0/7"]}}),
        ({"block": {"networks": ["2001::/16"]}}, {"block": {"networks": ["2000::/15"]}}),
        ({"bin_countries": dict.fromkeys(bins(400_000, 1_000), "IN")},
         {"bin_countries": dict.fromkeys(bins(400_000, 1_001), "IN")}),
        ({"limits": [{**LIMIT, "seconds": seconds, "value": 1} for seconds in range(1, 41)]},
         {"limits": [{**LIMIT, "seconds": seconds, "value": 1} for seconds in range(1, 42)]}),
        ({"limits": [{**LIMIT, "value": 499}]}, {"limits": [{**LIMIT, "value": 498}, {**LIMIT, "seconds": 61, "value": 1}]}),
        ({"limits": [{**LIMIT, "value": 497}, {**LIMIT, "seconds": 61, "value": 1}]},
         {"limits": [{**LIMIT, "seconds": seconds, "value": 249} for seconds in (1, 2, 3)]}),
    ],
)  # fmt: skip
def test_bounds_are_where_they_are_said_to_be(inside: Any, outside: Any) -> None:
    assert parse(inside) != RiskRules() or inside == {"night_from": 0}
    assert refusal(outside).code == "invalid_field"


def test_the_last_byte_counts() -> None:
    def stored(letters: int) -> dict[str, Any]:
        """Three hundred bytes an entry, and one that is as long as it takes."""
        many = [f"{number:04d}{'a' * 246}@{'b' * 46}" for number in range(436)]
        return {"block": {"vpas": [*many, "z" * letters + "@bb"]}}

    assert MAX_BYTES == 131_072
    spare = MAX_BYTES - len(json.dumps(to_stored(parse(stored(2))), separators=(",", ":"))) + 2
    assert len(json.dumps(to_stored(parse(stored(spare))), separators=(",", ":"))) == MAX_BYTES
    assert refusal(stored(spare + 1)).detail == "The settings are larger than 131072 bytes."


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=300)
@given(st.data())
def test_no_json_gets_past_as_anything_but_rules_or_a_refusal(data: st.DataObject) -> None:
    """One field of a good document is replaced by any JSON, at any depth."""
    document = json.loads(json.dumps(FULL))
    at: Any = document
    while True:
        key = data.draw(st.sampled_from(sorted(at) if isinstance(at, dict) else range(len(at))))
        if not isinstance(at[key], dict | list) or not at[key] or data.draw(st.booleans()):
            at[key] = data.draw(_JSON)
            break
        at = at[key]
    try:
        rules = parse(document)
    except InvalidRequest as error:
        assert error.code in CODES  # noqa: PT017 - either is fine
    else:
        assert parse(json.loads(json.dumps(to_dict(rules)))) == rules
        assert from_stored(json.loads(json.dumps(to_stored(rules)))) == rules
        judge(rules, Signals(1, "INR", bin="41111122", ip="10.1.1.1", email="a@mail.example.com", vpa="a@b"))


@given(st.lists(st.sampled_from(LIMITS), unique=True), st.integers(1, 100), st.integers(1, 100))
def test_any_valid_rules_come_back(limits: list[Limit], one: int, other: int) -> None:
    low, high = sorted((one, other))
    rules = RiskRules(limits=tuple(limits), review_score=low, block_score=high)
    assert parse(to_dict(rules)) == rules


def test_what_a_newer_release_stored_is_left_out_and_told_and_takes_nothing_else_with_it() -> None:
    rules, told = parse(FULL), list[str]()
    stored: Any = json.loads(json.dumps(to_stored(rules)))
    newer = {
        "later": 5,
        "block": stored["block"] | {"iban": ["x"]},
        "limits": [LIMIT | {"weekday": 1}, *stored["limits"], LIMIT | {"dimension": "wallet"}, {"dimension": "ip"}],
    }
    assert from_stored(stored | newer, told.append) == rules
    assert sorted(told) == ["block.iban", "later", "limits.0", "limits.5", "limits.6"]
