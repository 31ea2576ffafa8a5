"""Risk as it happens: what is known of a payment, read in one go, and what the merchant's rules make of it.

Velocity windows are read, judged by, and written in the payment's own transaction, each on condition of
the version that was read: of a hundred payments of one card at once each is judged knowing all that were
let through before it. What a crash does:

* ``judge`` writes nothing. Before the payment's transaction nothing has been counted, after it everything;
* ``note_decline`` writes before the decline is recorded, and knows an attempt that it has counted. A crash
  in between brings the answer again, and with it a second call that changes nothing.

A payment that is blocked is counted nowhere: whoever is turned away cannot lengthen somebody's queue.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chalicelib.domain import origin, risk, velocity
from chalicelib.domain.errors import ErrorClass, ErrorCode
from chalicelib.domain.outcome import Charge, ChargeStatus
from chalicelib.domain.risk import Signals
from chalicelib.observability import logger
from chalicelib.services.kit import pause

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from chalicelib.domain.merchant import Merchant
    from chalicelib.domain.model import Attempt, Payment
    from chalicelib.domain.outcome import ChargeLookup
    from chalicelib.domain.risk import RiskRules, Verdict
    from chalicelib.domain.velocity import Breach, Dimension, Window
    from chalicelib.services.kit import Kit

_RACES = 25
_DECLINED = frozenset({ErrorClass.DECLINED_ISSUER, ErrorClass.DECLINED_RISK})
# Besides those: what somebody meets who guesses.
_GUESSED = frozenset({ErrorCode.AUTHENTICATION_FAILED, ErrorCode.INVALID_INSTRUMENT})


@dataclass(frozen=True, slots=True)
class Judged:
    """The verdict, and the windows to be written with the payment, by key; none for one that is blocked."""

    verdict: Verdict
    windows: Mapping[str, Window]


def judge(kit: Kit, merchant: Merchant, payment: Payment, now: datetime) -> Judged:
    """Judge a payment that is about to be created; one read, or none if there is nobody to count by."""
    rules = merchant.risk
    windows = kit.queries.windows(keys(merchant, payment, _counted_by(rules)), now)
    new = velocity.entry(now, payment.amount, payment.currency, payment.id)
    breaches: list[Breach] = []
    after: dict[str, Window] = {}
    for key, window in windows.items():
        after[key], broken = velocity.admit(window, rules.limits, new, now)
        breaches += broken
    verdict = risk.judge(rules, _signals(kit, merchant, payment, windows, breaches, now))
    if verdict.decision == risk.BLOCK:
        return Judged(verdict, {})
    # An empty one says nothing, but of a customer: that there has been a payment.
    return Judged(verdict, {key: w for key, w in after.items() if w.entries or w.dimension == "customer"})


def counts(answer: ChargeLookup) -> bool:
    """Whether it is a decline that says something about the card or who uses it: not about a provider or a mood."""
    if not isinstance(answer, Charge) or answer.status is not ChargeStatus.DECLINED or answer.error is None:
        return False
    return answer.error.error_class in _DECLINED or answer.error.code in _GUESSED


def note_decline(kit: Kit, payment: Payment, about: Attempt) -> None:
    """Count an attempt's decline for the limits that are about declines; once per attempt.

    Under more contention than that it is left uncounted, and logged: the decline itself is not held up.
    """
    merchant = kit.merchants.get(payment.tenant)
    limits = merchant.risk.limits
    left = keys(merchant, payment, {limit.dimension for limit in limits if limit.kind == "decline"})
    for number in range(_RACES):
        if not left:
            return
        now = kit.now()
        new = velocity.entry(now, about.amount, about.currency, about.id, "decline")
        for key, window in kit.queries.windows(left, now).items():
            after, _ = velocity.admit(window, limits, new, now)
            if after is window or kit.store.count(key, after, now):
                left.pop(key)
        if left:
            pause(kit, number)
    logger.warning("a decline was not counted for %d velocity windows", len(left), payment_id=payment.id)


def _signals(
    kit: Kit,
    merchant: Merchant,
    payment: Payment,
    windows: Mapping[str, Window],
    breaches: Sequence[Breach],
    now: datetime,
) -> Signals:
    method, customer = payment.method, payment.customer
    bin_ = method.get("bin")
    known = [window.version > 0 for window in windows.values() if window.dimension == "customer"]
    return Signals(
        amount=payment.amount,
        currency=payment.currency,
        method=method["type"],
        bin=bin_,
        fingerprint=method.get("fingerprint"),
        network=method.get("network"),
        email=customer.get("email"),
        vpa=method.get("vpa"),
        ip=customer.get("ip"),
        ip_country=origin.country_of(customer.get("ip"), kit.country_of),
        bin_country=origin.bin_country(bin_, merchant.risk.bin_countries, payment.tenant.mode),
        customer_country=customer.get("country"),
        first_seen=not known[0] if known else None,
        breaches=breaches,
        now=now,
    )


def _counted_by(rules: RiskRules) -> set[Dimension]:
    dimensions = {limit.dimension for limit in rules.limits}
    if rules.first_seen_amount and rules.score_of("first_seen"):
        dimensions.add("customer")
    return dimensions


def keys(merchant: Merchant, payment: Payment, dimensions: set[Dimension]) -> dict[str, Dimension]:
    """Where a payment is counted: keyed hashes, so that a table of them tells nobody who has paid."""
    customer = payment.customer
    subjects: Mapping[Dimension, str | None] = {
        "card": payment.method.get("fingerprint"),
        "customer": payment.customer_key if customer.get("email") else customer.get("contact"),
        "ip": origin.subscriber_of(customer.get("ip")),
        "device": customer.get("device"),
    }
    found: dict[str, Dimension] = {}
    for dimension, subject in subjects.items():
        if subject and dimension in dimensions:
            digest = hmac.new(merchant.lookup_key, f"{dimension}|{subject}".encode(), hashlib.sha256).hexdigest()[:32]
            found[f"{payment.tenant.merchant_id}/{payment.tenant.mode}/{dimension}/{digest}"] = dimension
    return found
