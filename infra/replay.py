"""Past payments put before routing again, one after the other, as production would decide about them.

Scores learn from what was really observed: what a payment would have done elsewhere nobody knows. An outcome is taken
to be known when the next payment comes. A history has no breakers, no ``Retry-After``, and does not say which optional
fields a payment had or how it was to be captured, so none of these keeps an account from taking one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from chalicelib.domain import experiments, routing, scoring
from chalicelib.domain.routing import Candidate, Known
from chalicelib.domain.routing_rules import Asked
from chalicelib.providers.http import UrllibHttpClient
from chalicelib.providers.registry import NAMES, build
from infra.past import METHODS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from chalicelib.domain.routing import Decision
    from chalicelib.domain.routing_rules import RoutingSettings
    from chalicelib.domain.scoring import Tally
    from infra.past import Past

_MOST = 10**15  # minor units: of a provider that is not ours nobody knows the limits


def path_of(past: Past) -> tuple[str, ...]:
    """The segments of a payment, from general to specific."""
    return scoring.segments(past.method, past.amount, past.currency, past.network)


def candidates(history: Iterable[Past], accounts: Mapping[str, str]) -> list[Candidate]:
    """The accounts (providers by id) as routing sees them: what their provider can do, and what they did.

    An account of a provider that Railyard has no adapter for can take everything that the history has.
    """
    taken: dict[str, tuple[set[str], set[str]]] = {account: (set(), set()) for account in accounts}
    for past in history:
        methods, currencies = taken[past.account]
        methods.add(past.method)
        currencies.add(past.currency)
    everywhere = frozenset[str]().union(*(currencies for _, currencies in taken.values()))
    found = []
    for account, provider in sorted(accounts.items()):
        methods, currencies = taken[account]
        if provider in NAMES:
            can = build(provider, UrllibHttpClient()).capabilities
            methods, currencies = methods | can.methods, currencies | can.currencies
            least, most = can.min_amount, can.max_amount
        else:
            methods, currencies, least, most = set(METHODS), set(everywhere), 1, _MOST
        found.append(
            Candidate(account, provider, frozenset(methods), frozenset(currencies), least, most, frozenset(methods))
        )
    return found


class Replay:
    """One rule set on its way through a history."""

    def __init__(self, settings: RoutingSettings, accounts: Sequence[Candidate]) -> None:
        """Nothing is known of any account at first."""
        self.settings = settings
        self._accounts = accounts
        self._tallies: dict[str, Mapping[str, Tally]] = {}

    def asked(self, past: Past) -> Asked:
        """What the payment asks, with its arm of an experiment that ran when it was created."""
        asked = Asked(
            past.method, past.currency, past.amount, metadata=past.metadata, network=past.network, bin=past.bin,
            country=past.country, segment=past.segment, at=past.created_at, id=past.id,
        )  # fmt: skip
        arm = experiments.assigned(self.settings.experiments, asked, past.created_at)
        return replace(asked, experiment=arm)

    def choose(self, past: Past) -> Decision:
        """Where the payment's first attempt goes."""
        known = Known(past.created_at, f"{past.id}-1", tallies=self._tallies)  # the seed is production's
        return routing.decide(self.settings, self._accounts, (), self.asked(past), known)

    def see(self, past: Past) -> None:
        """What came of a payment where it really went."""
        success = past.outcome
        if success is not None:
            before = self._tallies.get(past.account, {})
            after = scoring.learn(before, path_of(past), success=success, at=past.created_at)
            self._tallies[past.account] = after


def replay(history: Sequence[Past], settings: RoutingSettings, accounts: Sequence[Candidate]) -> list[Decision]:
    """What such rules would have decided about each payment of a history, oldest first."""
    through = Replay(settings, accounts)
    decisions = []
    for past in history:
        decisions.append(through.choose(past))
        through.see(past)
    return decisions
