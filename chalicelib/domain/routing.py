"""Which provider account takes the next attempt, and why each other one does not.

Rules give an order of accounts; filters drop the ones that cannot take the payment; the attempts
made so far decide whether there may be another one at all (promise 1: only after a definite
decline that another provider might not repeat, or a request that was never sent).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from chalicelib.domain.errors import ErrorClass
from chalicelib.domain.states import AttemptStatus

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from chalicelib.domain.model import Attempt

MAX_ATTEMPTS = 3
MAX_PROVIDERS = 2

# After these another provider may do better; after the issuer, the customer or risk said no, nobody will.
FAIL_OVER = frozenset(
    {
        ErrorClass.RATE_LIMITED,
        ErrorClass.PROVIDER_UNAVAILABLE,
        ErrorClass.TECHNICAL_DECLINE,
        ErrorClass.CONFIG,
    }
)
# After these the same provider may do better on a second try.
RETRY_SAME = frozenset({ErrorClass.RATE_LIMITED, ErrorClass.TECHNICAL_DECLINE})


@dataclass(frozen=True, slots=True)
class Candidate:
    """A provider account as routing sees it; amounts in minor units."""

    account: str
    provider: str
    methods: frozenset[str]
    currencies: frozenset[str]
    min_amount: int
    max_amount: int
    manual_capture: frozenset[str]
    required: frozenset[str] = frozenset()  # fields of the payment that it cannot do without
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class Asked:
    """What a payment asks of routing; ``amount`` in minor units."""

    method: str
    currency: str
    amount: int
    capture: str = "automatic"
    metadata: Mapping[str, str] = field(default_factory=dict)
    given: frozenset[str] = frozenset()  # "return_url", "customer.email", …: the optional fields it has


@dataclass(frozen=True, slots=True)
class Rule:
    """Payments that match are offered to ``accounts`` in this order; None matches anything.

    Amounts are in minor units: ``min_amount`` is exclusive ("above"), ``max_amount`` inclusive.
    """

    name: str
    accounts: Sequence[str]
    method: str | None = None
    currency: str | None = None
    min_amount: int | None = None
    max_amount: int | None = None
    metadata: Mapping[str, str] | None = None  # the payment's must have all of these

    def matches(self, asked: Asked) -> bool:
        """Whether the rule applies to such a payment."""
        return (
            self.method in (None, asked.method)
            and self.currency in (None, asked.currency)
            and (self.min_amount is None or asked.amount > self.min_amount)
            and (self.max_amount is None or asked.amount <= self.max_amount)
            and (self.metadata or {}).items() <= asked.metadata.items()
        )


@dataclass(frozen=True, slots=True)
class Decision:
    """The chosen account, or None, with everything that led there."""

    chosen: Candidate | None
    rule: str
    order: Sequence[str]
    skipped: Mapping[str, str]  # account → reason
    reason: str  # one sentence for people

    def as_dict(self) -> Mapping[str, object]:
        """As stored with the attempt and shown by the API."""
        return {
            "rule": self.rule,
            "order": list(self.order),
            "skipped": dict(self.skipped),
            "chosen": self.chosen.account if self.chosen else None,
            "reason": self.reason,
        }


def may_try_again(attempt: Attempt) -> bool:
    """Whether the end of ``attempt`` leaves room for another one, before limits are counted."""
    if attempt.status is AttemptStatus.NOT_SENT:
        return True
    if attempt.status is not AttemptStatus.DECLINED or attempt.error is None:
        return False
    return attempt.error.error_class in FAIL_OVER


def decide(
    rules: Sequence[Rule], candidates: Sequence[Candidate], attempts: Sequence[Attempt], asked: Asked
) -> Decision:
    """Choose the account for a payment's next attempt."""
    rule = next((r for r in rules if r.matches(asked)), None)
    known = {candidate.account: candidate for candidate in candidates}
    order = [a for a in (rule.accounts if rule else known) if a in known]
    name = rule.name if rule else "default"

    stop = _why_no_further(attempts)
    if stop:
        return Decision(None, name, order, {}, stop)

    skipped: dict[str, str] = {}
    for account in order:
        why = _why_not(known[account], asked) or _why_not_again(known[account], attempts)
        if why:
            skipped[account] = why
    left = [account for account in order if account not in skipped]
    if not left:
        return Decision(None, name, order, skipped, "No provider can take this payment.")
    # A fresh provider before one that has just failed; min takes the first, so the rule's order stays.
    used = {attempt.account for attempt in attempts}
    chosen = known[min(left, key=lambda account: account in used)]
    reason = f"{chosen.account} is first in rule '{name}' that can take this payment"
    if attempts:
        reason += f", after attempt {attempts[-1].number} at {attempts[-1].account} ended {attempts[-1].status}"
    return Decision(chosen, name, order, skipped, f"{reason}.")


def _why_no_further(attempts: Sequence[Attempt]) -> str | None:
    if not attempts:
        return None
    last = attempts[-1]
    if not may_try_again(last):
        return f"Attempt {last.number} ended {last.status}; another provider could not change that."
    if len(attempts) >= MAX_ATTEMPTS:
        return f"All {MAX_ATTEMPTS} attempts are used."
    return None


def _why_not(candidate: Candidate, asked: Asked) -> str | None:
    if not candidate.enabled:
        return "is disabled"
    if asked.method not in candidate.methods:
        return f"does not take {asked.method}"
    if asked.currency not in candidate.currencies:
        return f"does not take {asked.currency}"
    if not candidate.min_amount <= asked.amount <= candidate.max_amount:
        return f"takes {candidate.min_amount} to {candidate.max_amount}"
    if asked.capture == "manual" and asked.method not in candidate.manual_capture:
        return f"cannot capture {asked.method} later"
    missing = sorted(candidate.required - asked.given)
    return f"needs {', '.join(missing)}" if missing else None


def _why_not_again(candidate: Candidate, attempts: Sequence[Attempt]) -> str | None:
    used = {attempt.account for attempt in attempts}
    if candidate.account not in used:
        return f"would be provider {len(used) + 1} of at most {MAX_PROVIDERS}" if len(used) >= MAX_PROVIDERS else None
    last = [attempt for attempt in attempts if attempt.account == candidate.account][-1]
    if last.status is AttemptStatus.NOT_SENT and (
        last.error is None or last.error.error_class is not ErrorClass.CONFIG
    ):
        return None
    if last.error is not None and last.error.error_class in RETRY_SAME:
        return None
    return f"attempt {last.number} there ended {last.status}"
