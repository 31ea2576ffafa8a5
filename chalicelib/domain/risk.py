"""Risk rules: each adds a score and a reason; the total allows, reviews or blocks a payment.

===================== ============================================================ ===============
rule                  hits when                                                    score
===================== ============================================================ ===============
amount_limit          the amount is above the currency's limit                     ``block_score``
block_list            BIN, card, email domain, IP network or VPA is listed         ``block_score``
country_blocked       a known country (customer's, card's, IP's) is blocked        ``block_score``
country_not_allowed   there is a list of allowed ones, and a known one is not in   ``block_score``
country_review        a known country is to be reviewed                            ``review_score``
card_country_mismatch the card's country is known and not the customer's           30
ip_country_mismatch   the IP's country is known, and neither of the others         20
velocity              too many payments, or too much money, in a window            the limit's
card_testing          too many declines or tiny payments in a window               the limit's
first_seen            the customer's first payment is a high one                   20
night                 other doubts arise at night in the merchant's time zone      half of theirs
allow_list            BIN, card, … is listed, and there would be a review          0
===================== ============================================================ ===============

The total, at most 100, blocks from ``block_score`` on and reviews from ``review_score`` on. ``scores``
changes a rule's score; 0 turns it off. The night multiplies: it adds ``night_percent - 100`` percent of
the doubts so far, so that an ordinary payment is ordinary at any hour, and adds nothing to what is
blocked anyway. The allow list beats a review, whatever asks for it, and never a block: least of all a
block list.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple
from zoneinfo import ZoneInfo

from chalicelib.domain.risk_lists import Lists
from chalicelib.domain.velocity import Limit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from chalicelib.domain.velocity import Breach

    Found = Iterator[tuple[str, int | None, str]]

ALLOW, REVIEW, BLOCK = "allow", "review", "block"
MAX_SCORE = 100

# Of the rules whose score is not one of the thresholds.
SCORES: Mapping[str, int] = {"card_country_mismatch": 30, "ip_country_mismatch": 20, "first_seen": 20}

# One card is one person; an address may be an office, or a telephone company's half a town. Amounts in paise.
LIMITS: tuple[Limit, ...] = (
    Limit("card", 60, "count", 3, 50),
    Limit("card", 3_600, "count", 10, 50),
    Limit("card", 86_400, "count", 20, 50),
    Limit("card", 86_400, "sum", 300_000_00, 30, currency="INR"),
    Limit("card", 3_600, "count", 3, 40, currency="INR", up_to=50_00),
    Limit("card", 3_600, "count", 4, 60, kind="decline"),
    Limit("card", 86_400, "count", 10, 100, kind="decline"),
    Limit("customer", 60, "count", 5, 30),
    Limit("customer", 3_600, "count", 15, 30),
    Limit("customer", 86_400, "count", 40, 50),
    Limit("customer", 86_400, "sum", 500_000_00, 30, currency="INR"),
    Limit("customer", 3_600, "count", 6, 50, kind="decline"),
    Limit("ip", 60, "count", 20, 30),
    Limit("ip", 3_600, "count", 60, 30),
    Limit("ip", 3_600, "count", 10, 50, currency="INR", up_to=50_00),
    Limit("ip", 3_600, "count", 10, 60, kind="decline"),
    Limit("device", 60, "count", 5, 30),
    Limit("device", 3_600, "count", 15, 30),
    Limit("device", 3_600, "count", 6, 50, kind="decline"),
)

_SETS = ("allowed_countries", "blocked_countries", "review_countries")


@dataclass(frozen=True, slots=True)
class RiskRules:
    """A merchant's risk settings; amounts are in minor units, per currency. ``risk_settings`` checks them."""

    # ₹1,00,000: from the documents the product descends from.
    max_amount: Mapping[str, int] = field(default_factory=lambda: {"INR": 100_000_00})
    blocked_countries: frozenset[str] = frozenset({"KP", "IR", "SY", "CU"})
    review_countries: frozenset[str] = frozenset()
    review_score: int = 50
    block_score: int = MAX_SCORE
    allowed_countries: frozenset[str] = frozenset()  # none: all
    block: Lists = field(default_factory=Lists)
    allow: Lists = field(default_factory=Lists)
    limits: tuple[Limit, ...] = LIMITS
    first_seen_amount: Mapping[str, int] = field(default_factory=lambda: {"INR": 25_000_00})
    time_zone: str = "Asia/Kolkata"
    night_from: int = 0  # o'clock; no night if it ends when it begins
    night_to: int = 5
    night_percent: int = 150
    bin_countries: Mapping[str, str] = field(default_factory=dict)  # what the merchant knows of cards' origins
    scores: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Take the plain values of a stored row too: what was valid when it was stored is not checked again."""
        as_stored: Any = self
        for name in _SETS:
            object.__setattr__(self, name, frozenset(getattr(self, name)))
        for name in ("block", "allow"):
            value = getattr(as_stored, name)
            if isinstance(value, dict):
                lists = Lists(**{kind: tuple(entries) for kind, entries in value.items()})
                object.__setattr__(self, name, lists)
        limits = tuple(Limit(**limit) if isinstance(limit, dict) else limit for limit in as_stored.limits)
        object.__setattr__(self, "limits", limits)

    def score_of(self, rule: str) -> int:
        """What a hit of ``rule`` counts; 0 if the rule is off."""
        default = self.review_score if rule == "country_review" else self.block_score
        return self.scores.get(rule, SCORES.get(rule, default))


@dataclass(frozen=True, slots=True)
class Signals:
    """What is known of a payment when it is judged; None is not known, and no rule holds it against anybody."""

    amount: int  # minor units
    currency: str
    method: str | None = None  # its type
    bin: str | None = None  # the card's first digits, six or more
    fingerprint: str | None = None
    network: str | None = None
    email: str | None = None
    vpa: str | None = None
    ip: str | None = None
    ip_country: str | None = None  # ISO 3166-1 alpha-2, as all countries
    bin_country: str | None = None
    customer_country: str | None = None  # the customer's own word
    first_seen: bool | None = None  # whether the customer has never paid this merchant
    breaches: Sequence[Breach] = ()  # of the rules' limits, as velocity.admit found them in all windows
    now: datetime | None = None

    @property
    def countries(self) -> Mapping[str, str]:
        """Each known country and who says so, in the words a reason begins with."""
        found: dict[str, str] = {}
        for country, what in (
            (self.customer_country, "Country"), (self.bin_country, "Card country"), (self.ip_country, "IP country"),
        ):  # fmt: skip
            if country is not None:
                found.setdefault(country, what)
        return found


class Hit(NamedTuple):
    """A rule that has something to say; ``reason`` is for people."""

    rule: str
    score: int
    reason: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision and what led to it, in the order of the table above."""

    decision: str
    score: int
    hits: Sequence[Hit] = ()

    @property
    def reasons(self) -> list[str]:
        """Why, for people."""
        return [hit.reason for hit in self.hits]

    def as_dict(self) -> Mapping[str, object]:
        """As stored on the payment and shown by the API."""
        return {"decision": self.decision, "score": self.score, "reasons": self.reasons}

    def record(self) -> Mapping[str, object]:
        """The same with each rule and its score, for the decision's record."""
        return {**self.as_dict(), "hits": [hit._asdict() for hit in self.hits]}


def judge(rules: RiskRules, signals: Signals) -> Verdict:
    """Judge a payment by all that is known of it; the same signals always give the same verdict."""
    hits = [
        Hit(rule, score, reason)
        for check in _CHECKS
        for rule, own_score, reason in check(rules, signals)
        if (score := rules.score_of(rule) if own_score is None else own_score) > 0
    ]
    total = sum(hit.score for hit in hits)
    if total < rules.block_score:
        hits.extend(_night(rules, signals, total))
    score = min(sum(hit.score for hit in hits), MAX_SCORE)
    decision = BLOCK if score >= rules.block_score else REVIEW if score >= rules.review_score else ALLOW
    listed = list(_matches(rules.allow, signals))
    if listed and decision == REVIEW:
        decision = ALLOW
        hits.extend(Hit("allow_list", 0, f"{what} is on the allow list: no review") for what in listed)
    return Verdict(decision, score, tuple(hits))


# -- the rules: each yields its name, a score of its own or None, and the reason --------------------


def _amount(rules: RiskRules, signals: Signals) -> Found:
    limit = rules.max_amount.get(signals.currency)
    if limit is not None and signals.amount > limit:
        yield "amount_limit", None, "Fraud detected: High amount"


def _block_list(rules: RiskRules, signals: Signals) -> Found:
    for what in _matches(rules.block, signals):
        yield "block_list", None, f"{what} is on the block list"


def _countries(rules: RiskRules, signals: Signals) -> Found:
    for country, what in signals.countries.items():
        if country in rules.blocked_countries:
            yield "country_blocked", None, f"{what} {country} is blocked"
        elif rules.allowed_countries and country not in rules.allowed_countries:
            yield "country_not_allowed", None, f"{what} {country} is not one of those allowed"
        elif country in rules.review_countries:
            yield "country_review", None, f"{what} {country} needs a review"


def _mismatch(_rules: RiskRules, signals: Signals) -> Found:
    customer, card, ip = signals.customer_country, signals.bin_country, signals.ip_country
    if customer is not None and card is not None and customer != card:
        yield "card_country_mismatch", None, f"The card is from {card}, the customer from {customer}"
    others = [country for country in (customer, card) if country is not None]
    if ip is not None and others and ip not in others:
        whose = "the customer" if customer is not None else "the card"
        yield "ip_country_mismatch", None, f"The IP address is from {ip}, {whose} from {others[0]}"


def _velocity(rules: RiskRules, signals: Signals) -> Found:
    if not signals.breaches:
        return
    place = {limit: number for number, limit in enumerate(rules.limits)}
    broken = {breach.limit for breach in signals.breaches} & place.keys()
    for limit in sorted(broken, key=lambda limit: (limit.rule != "velocity", place[limit])):
        yield limit.rule, limit.score, limit.reason


def _first_seen(rules: RiskRules, signals: Signals) -> Found:
    high = rules.first_seen_amount.get(signals.currency)
    if signals.first_seen and high is not None and signals.amount > high:
        yield "first_seen", None, "The customer's first payment, and a high amount"


_CHECKS = (_amount, _block_list, _countries, _mismatch, _velocity, _first_seen)


def _night(rules: RiskRules, signals: Signals, total: int) -> Iterator[Hit]:
    """The clock on the merchant's wall decides: an hour that is skipped or runs twice does so here too."""
    if signals.now is None or rules.night_from == rules.night_to:
        return
    local = signals.now.astimezone(ZoneInfo(rules.time_zone))
    hours = (local.hour - rules.night_from) % 24
    extra = total * (rules.night_percent - 100) // 100
    if hours < (rules.night_to - rules.night_from) % 24 and extra > 0:
        why = f"At night ({local:%H:%M} in {rules.time_zone}) doubts weigh {rules.night_percent - 100} % more"
        yield Hit("night", extra, why)


def _matches(lists: Lists, signals: Signals) -> Iterator[str]:
    return lists.matches(
        bin_=signals.bin, fingerprint=signals.fingerprint, email=signals.email, ip=signals.ip, vpa=signals.vpa
    )
