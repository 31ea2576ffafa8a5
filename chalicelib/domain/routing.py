"""Which provider account takes the next attempt, and why each other one does not.

Rules give an order of accounts; filters drop the ones that cannot take the payment; the attempts
made so far decide whether there may be another one at all (promise 1: only after a definite
decline that another provider might not repeat, or a request that was never sent). Then breakers
drop the ones whose provider is down, and where the rule says so scores order the rest.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from chalicelib.domain import routing_rules, scoring
from chalicelib.domain.breaker import Breaker, Status, admit
from chalicelib.domain.retrying import LONGEST_WAIT, RetryPolicy, asked_to_wait

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime

    from chalicelib.domain.model import Attempt
    from chalicelib.domain.routing_rules import Asked, RoutingSettings, Rule
    from chalicelib.domain.scoring import Score, Tally

_POLICY = RetryPolicy()


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
class Known:
    """What is known of providers as a decision is taken at ``at``, for the method of its payment."""

    at: datetime
    seed: str = ""  # of the scores' draws
    breakers: Mapping[str, Breaker] = field(default_factory=dict)  # by provider, everybody's
    forced: Mapping[str, Breaker] = field(default_factory=dict)  # by provider, where the merchant holds it
    tallies: Mapping[str, Mapping[str, Tally]] = field(default_factory=dict)  # by account
    is_missing: bool = False  # it could not be read: decide without

    def breaker(self, provider: str) -> Breaker:
        """The breaker that counts for this merchant: its own as long as it is held, else everybody's."""
        held = self.forced.get(provider)
        if held is not None and (held.forced_until is None or self.at < held.forced_until):
            return held
        return self.breakers.get(provider, Breaker())


@dataclass(frozen=True, slots=True)
class Decision:
    """The chosen account, or None, with everything that led there."""

    chosen: Candidate | None
    rule: str
    order: Sequence[str]
    skipped: Mapping[str, str]  # account → reason
    reason: str  # one sentence for people
    draws: Mapping[str, float | None] | None = None  # of a weighted split, by entry of the rule: the least comes first
    experiment: str | None = None  # by its key, and the arm: "name-1a2b3c4d/control"
    seed: str | None = None  # of the draws, where scores decided
    scores: Sequence[Score] = ()  # best first
    breakers: Mapping[str, str] = field(default_factory=dict)  # provider → status, unless all may pass
    held: bool = False  # nobody is left, and breakers are the cause
    needs_permit: bool = False  # the chosen provider's breaker has to admit the call
    is_blind: bool = False  # without scores and breakers: they could not be read
    wait_until: datetime | None = None  # nobody is left now, but then somebody is who asked us to wait

    def as_dict(self) -> Mapping[str, object]:
        """As stored with the attempt and shown by the API; what played no part is left out."""
        told: dict[str, object] = {
            "rule": self.rule,
            "order": list(self.order),
            "skipped": dict(self.skipped),
            "chosen": self.chosen.account if self.chosen else None,
            "reason": self.reason,
        }
        if self.experiment is not None:
            told["experiment"] = self.experiment
        if self.draws is not None:
            told["split"] = {entry: None if draw is None else round(draw, 6) for entry, draw in self.draws.items()}
        if self.seed is not None:
            told |= {"seed": self.seed, "scores": [score.as_dict() for score in self.scores]}
        if self.breakers:
            told["breakers"] = dict(self.breakers)
        if self.is_blind:
            told["without"] = "scores and breakers: they could not be read"
        return told


def may_try_again(attempt: Attempt, policy: RetryPolicy = _POLICY) -> bool:
    """Whether the end of ``attempt`` leaves room for another one, before limits are counted."""
    after = policy.after(attempt)
    return after is not None and (after.same_provider or after.other_provider)


def decide(
    settings: RoutingSettings,
    candidates: Sequence[Candidate],
    attempts: Sequence[Attempt],
    asked: Asked,
    known: Known | None = None,
    refused: frozenset[str] = frozenset(),
    *,
    expires_at: datetime | None = None,
) -> Decision:
    """Choose the account for a payment's next attempt; ``refused`` are providers that had no permit left.

    Time counts only where it is ``known``: nobody is waited for past ``expires_at``, the payment's end. An
    experiment's variant that leaves nobody does not fail the payment: it goes by the rules then, and counts as the
    variant all the same.
    """
    rule = settings.rule_for(asked)
    decision = _decide(settings, rule, candidates, attempts, asked, known, refused, expires_at)
    if decision.chosen is None and asked.experiment is not None:
        ordinary = settings.rule_for(replace(asked, experiment=None))
        instead = _decide(settings, ordinary, candidates, attempts, asked, known, refused, expires_at)
        return decision if instead.chosen is None and decision.wait_until else instead
    return decision


def _decide(
    settings: RoutingSettings,
    rule: Rule,
    candidates: Sequence[Candidate],
    attempts: Sequence[Attempt],
    asked: Asked,
    known: Known | None,
    refused: frozenset[str],
    expires_at: datetime | None,
) -> Decision:
    """A decision by one rule."""
    policy = settings.retry
    accounts = {candidate.account: candidate for candidate in candidates}
    draws = routing_rules.split(rule, asked.id) if rule.by == "split" else None
    order = routing_rules.named(list(draws or rule.accounts), {c.account: c.provider for c in candidates})
    order = [account for account in order if account in accounts]
    blind = known is not None and known.is_missing
    decision = Decision(None, rule.name, order, {}, "", draws=draws, experiment=asked.experiment, is_blind=blind)

    stop = _why_no_further(attempts, policy, known.at if known else None)
    if stop:
        return replace(decision, reason=stop)

    skipped: dict[str, str] = {}
    for account in order:
        candidate = accounts[account]
        why = _why_not(candidate, asked) or (known and _why_not_now(candidate, asked, settings, known.at))
        why = why or _why_not_again(candidate, attempts, policy)
        if why:
            skipped[account] = why
    able = [account for account in order if account not in skipped]
    waits = {a: until for a in able if known and (until := asked_to_wait(attempts, a, known.at))}
    skipped |= {account: f"asked us to wait until {until:%H:%M:%S} UTC" for account, until in waits.items()}
    left = [accounts[account] for account in order if account not in skipped]
    seen = {} if known is None else {c.provider: known.breaker(c.provider) for c in left}
    held = {c.account: why for c in left if known and (why := _why_held(c, seen[c.provider], known.at, refused))}
    mine = {account for account in held if seen[accounts[account].provider].forced == "open"}
    breakers = {provider: str(b.status) for provider, b in seen.items() if b.forced or b.status is not Status.CLOSED}
    decision = replace(decision, skipped=skipped | held, breakers=breakers)
    left = [candidate for candidate in left if candidate.account not in held]
    if not left:
        reason = "No provider can take this payment."
        wait_until = _worth_waiting(waits.values(), known, policy.ends_at(attempts), expires_at)
        if wait_until:
            reason = f"Whoever can take this payment {skipped[min(waits, key=waits.__getitem__)]}."
        elif waits:
            reason = "Whoever could take this payment asked us to wait for longer than it may."
        if held and not wait_until:
            reason = _all_held(len(mine), len(held))
        return replace(decision, reason=reason, held=bool(held), wait_until=wait_until)

    scores: Sequence[Score] = ()
    if rule.is_scored and known is not None and not blind:
        scores = _scores(settings, rule, left, asked, known)
        left = [accounts[score.account] for score in scores]
    # A fresh provider before one that has just failed; min takes the first, so the order stays.
    used = {attempt.account for attempt in attempts}
    chosen = min(left, key=lambda candidate: candidate.account in used)
    breaker = seen.get(chosen.provider)
    return replace(
        decision, chosen=chosen, scores=scores, seed=known.seed if scores and known is not None else None,
        reason=_sentence(
            chosen, rule, scores, [a for a in order if a in held and a not in mine], [a for a in order if a in mine],
            attempts,
        ),
        needs_permit=breaker is not None and not breaker.forced and breaker.status is not Status.CLOSED,
    )  # fmt: skip


def _scores(
    settings: RoutingSettings, rule: Rule, left: Sequence[Candidate], asked: Asked, known: Known
) -> Sequence[Score]:
    """The accounts that are left, best first; by value only if it is known what each of them costs."""
    path = scoring.segments(asked.method, asked.amount, asked.currency, asked.network)
    tallies = {
        c.account: scoring.renew(known.tallies.get(c.account, {}), path, known.breakers[c.provider].since)
        if c.provider in known.breakers
        else known.tallies.get(c.account, {})
        for c in left
    }
    costs = None
    if rule.by == "value":
        found = {c.account: settings.cost_of(c.account, c.provider, asked.currency) for c in left}
        costs = {account: cost for account, cost in found.items() if cost is not None}
    return scoring.rank(tallies, path, known.at, known.seed, amount=asked.amount, costs=costs)


def _sentence(
    chosen: Candidate, rule: Rule, scores: Sequence[Score], failing: Sequence[str], own: Sequence[str],
    attempts: Sequence[Attempt],
) -> str:  # fmt: skip
    """Why this account, for people; ``failing`` and ``own``, which the merchant holds, would have come before it."""
    reason = f"{chosen.account} is first in rule '{rule.name}' that can take this payment"
    mine = next((score for score in scores if score.account == chosen.account), None)
    if rule.by == "split":
        reason = f"{chosen.account} was drawn by its weight in rule '{rule.name}'"
    elif mine is not None:
        by = "score" if mine.cost is None else "expected value"
        reason = (
            f"{chosen.account} came first of {len(scores)} by {by} in rule '{rule.name}': {mine.mean:.0%} of payments "
            f"like this one are expected to succeed there"
        )
    for held, because in ((failing, "most calls there fail"), (own, "you hold it open")):
        if held:
            reason += f"; {' and '.join(held)} had to wait, because {because}"
    if attempts:
        reason += f", after attempt {attempts[-1].number} at {attempts[-1].account} ended {attempts[-1].status}"
    return f"{reason}."


def _all_held(mine: int, held: int) -> str:
    """Why nobody is left where breakers hold so many back, and so many of these for the merchant."""
    every = "Every provider that could take this payment is"
    if mine == held:
        return f"{every} held open by you."
    return f"{every} failing right now{' or held open by you' if mine else ''}; try again in a minute."


def _why_held(candidate: Candidate, breaker: Breaker, at: datetime, refused: frozenset[str]) -> str | None:
    if breaker.forced == "open":
        return f"is held back: {breaker.reason}"
    if candidate.provider in refused:
        return "is being tried again with a few calls, and this was not one of them"
    if breaker.forced or admit(breaker, at)[1]:
        return None
    if breaker.status is Status.HALF_OPEN:
        return "is being tried again with a few calls, and all of those are out"
    return f"its breaker is open: {breaker.reason}"


def _why_no_further(attempts: Sequence[Attempt], policy: RetryPolicy, at: datetime | None) -> str | None:
    if not attempts:
        return None
    last = attempts[-1]
    if not may_try_again(last, policy):
        return f"Attempt {last.number} ended {last.status}; another provider could not change that."
    if len(attempts) >= policy.max_attempts:
        return f"All {policy.max_attempts} attempts are used."
    end = policy.ends_at(attempts)
    if at is not None and end is not None and at >= end:
        return f"No attempt begins more than {policy.max_seconds} seconds after the first one."
    return None


def _worth_waiting(
    waits: Collection[datetime], known: Known | None, end: datetime | None, expires_at: datetime | None
) -> datetime | None:
    """When the first of those who asked us to wait can be tried, unless that is too far off for this payment."""
    if not waits or known is None:
        return None
    until = min(waits)
    limits = [limit for limit in (end, expires_at) if limit is not None]
    is_worth = until <= known.at + timedelta(seconds=LONGEST_WAIT) and all(until < limit for limit in limits)
    return until if is_worth else None


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


def _why_not_now(candidate: Candidate, asked: Asked, settings: RoutingSettings, at: datetime) -> str | None:
    """Whether the merchant wants the account left alone for a while."""
    for window in settings.maintenance:
        is_meant = window.account in (candidate.account, candidate.provider)
        if is_meant and window.begin <= at < window.end and (not window.methods or asked.method in window.methods):
            because = f": {window.reason}" if window.reason else ""
            return f"is in maintenance until {window.end.isoformat()}{because}"
    return None


def _why_not_again(candidate: Candidate, attempts: Sequence[Attempt], policy: RetryPolicy) -> str | None:
    if not attempts:
        return None
    used = {attempt.account for attempt in attempts}
    after = policy.after(attempts[-1])
    if candidate.account != attempts[-1].account and (after is None or not after.other_provider):
        return f"attempt {attempts[-1].number} may not be followed by one at another provider"
    if candidate.account not in used:
        if len(used) >= policy.max_providers:
            return f"would be provider {len(used) + 1} of at most {policy.max_providers}"
        return None
    last = [attempt for attempt in attempts if attempt.account == candidate.account][-1]
    there = policy.after(last)
    return None if there is not None and there.same_provider else f"attempt {last.number} there ended {last.status}"
