"""Double-entry books: every journal's legs sum to zero, debits positive and credits negative.

    what happened              debit                      credit
    capture                    provider:<id>:receivable   merchant:payable
    refund_reserved            merchant:payable           refunds:in_flight
    refund_settled             refunds:in_flight          provider:<id>:receivable
    refund_released            refunds:in_flight          merchant:payable
    refund_returned            provider:<id>:receivable   merchant:payable
    refund_by_provider         merchant:payable           provider:<id>:receivable
    late_charge                provider:<id>:receivable   refunds:in_flight
    reversal                   refunds:in_flight          provider:<id>:receivable
    reversal_returned          provider:<id>:receivable   refunds:in_flight

A late charge is owed to the customer, never to the merchant, so it goes straight to
``refunds:in_flight``. Corrections are new journals; nothing is ever edited.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from chalicelib.domain.model import Leg

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from chalicelib.domain.model import Journal

PAYABLE = "merchant:payable"
IN_FLIGHT = "refunds:in_flight"


def receivable(provider: str) -> str:
    """The account of what a provider owes us."""
    return f"provider:{provider}:receivable"


class Unbalanced(Exception):
    """A bug: a journal whose legs do not sum to zero."""


def legs(journal_type: str, provider: str, amount: int) -> Sequence[Leg]:
    """The two legs of a journal of ``amount`` minor units; raises KeyError for an unknown type."""
    debit, credit = {
        "capture": (receivable(provider), PAYABLE),
        "refund_reserved": (PAYABLE, IN_FLIGHT),
        "refund_settled": (IN_FLIGHT, receivable(provider)),
        "refund_released": (IN_FLIGHT, PAYABLE),
        "refund_returned": (receivable(provider), PAYABLE),
        "refund_by_provider": (PAYABLE, receivable(provider)),
        "late_charge": (receivable(provider), IN_FLIGHT),
        "reversal": (IN_FLIGHT, receivable(provider)),
        "reversal_returned": (receivable(provider), IN_FLIGHT),
    }[journal_type]
    return balanced((Leg(debit, amount), Leg(credit, -amount)))


def balanced(entries: Sequence[Leg]) -> Sequence[Leg]:
    """The same legs, or Unbalanced if they do not sum to zero."""
    if sum(leg.amount for leg in entries):
        msg = f"legs sum to {sum(leg.amount for leg in entries)}: {entries}"
        raise Unbalanced(msg)
    return entries


def balances(journals: Iterable[Journal]) -> Mapping[tuple[str, str], int]:
    """The balance of each (account, currency) after replaying ``journals``, in minor units."""
    totals: defaultdict[tuple[str, str], int] = defaultdict(int)
    for journal in journals:
        for leg in journal.legs:
            totals[leg.account, journal.currency] += leg.amount
    return dict(totals)
