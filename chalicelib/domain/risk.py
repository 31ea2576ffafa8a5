"""Risk rules: each adds a score and a reason; the total allows, reviews or blocks a payment."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ALLOW, REVIEW, BLOCK = "allow", "review", "block"


@dataclass(frozen=True, slots=True)
class RiskRules:
    """A merchant's risk settings. ``max_amount`` is in minor units, per currency."""

    # ₹1,00,000: from the documents the product descends from.
    max_amount: Mapping[str, int] = field(default_factory=lambda: {"INR": 100_000_00})
    blocked_countries: frozenset[str] = frozenset({"KP", "IR", "SY", "CU"})
    review_countries: frozenset[str] = frozenset()
    review_score: int = 50
    block_score: int = 100


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision and why; ``reasons`` are for people."""

    decision: str
    score: int
    reasons: Sequence[str]

    def as_dict(self) -> Mapping[str, object]:
        """As stored on the payment and shown by the API."""
        return {"decision": self.decision, "score": self.score, "reasons": list(self.reasons)}


def assess(rules: RiskRules, *, amount: int, currency: str, country: str | None) -> Verdict:
    """Judge a payment of ``amount`` minor units by a customer from ``country`` (ISO 3166-1 alpha-2)."""
    hits: list[tuple[int, str]] = []
    limit = rules.max_amount.get(currency)
    if limit is not None and amount > limit:
        hits.append((rules.block_score, "Fraud detected: High amount"))
    if country in rules.blocked_countries:
        hits.append((rules.block_score, f"Country {country} is blocked"))
    elif country in rules.review_countries:
        hits.append((rules.review_score, f"Country {country} needs a review"))
    score = min(sum(points for points, _ in hits), 100)
    decision = BLOCK if score >= rules.block_score else REVIEW if score >= rules.review_score else ALLOW
    return Verdict(decision, score, [reason for _, reason in hits])
