"""A merchant's history of payments: made up by a seed, or fetched from a running stack.

    python -m infra.history --api URL --key KEY > history.jsonl     # from a stack, by its public API
    python -m infra.history --seed 0 > history.jsonl                # made up

The lines are those of infra/past.py. What is made up is a shop in India with four accounts whose payments were routed
by ``RULES`` through the real domain code: splits by chance where most of the traffic is, one rule by priority that
leaves the other accounts without outcomes (netbanking), and one by value that learns as it goes (wallets).
"""

from __future__ import annotations

import argparse
import random
import sys
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import urllib3

from chalicelib.domain import routing_settings
from chalicelib.domain.errors import ErrorClass, ErrorCode
from chalicelib.domain.scoring import segments
from chalicelib.domain.states import AttemptStatus
from infra.past import HistoryError, Past, moment, write
from infra.replay import Replay, candidates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from chalicelib.domain.routing_rules import RoutingSettings

    Get = Callable[[str], tuple[int, Any]]  # a path's status, and its body where that is 200

ACCOUNTS: Mapping[str, str] = {f"acc_{name}": name for name in ("cashfree", "payu", "razorpay", "stripe")}
COSTS: Mapping[str, Any] = {
    "cashfree": {"basis_points": 175}, "payu": {"basis_points": 190}, "razorpay": {"basis_points": 200},
    "stripe": {"basis_points": 230, "fixed": {"INR": 2_00, "USD": 30}},
}  # fmt: skip
RULES: Mapping[str, Any] = {
    "rules": [
        {"name": "upi", "when": {"methods": ["upi"]}, "weights": {"razorpay": 60, "cashfree": 30, "payu": 10}},
        {"name": "cards", "when": {"methods": ["card"]}, "weights": {"razorpay": 45, "stripe": 35, "cashfree": 20}},
        {"name": "banks", "when": {"methods": ["netbanking"]}, "accounts": ["razorpay", "payu"]},
        {"name": "wallets", "by": "value", "accounts": ["razorpay", "cashfree", "payu"]},
    ],
    "costs": COSTS,
}

_TIMEOUT = 30.0  # seconds
_OK = 200
_A = AttemptStatus
_SUCCEEDED = frozenset({_A.SUCCEEDED, _A.AUTHORIZED, _A.CAPTURED, _A.VOIDED})
_FAILED = frozenset({_A.DECLINED, _A.NOT_SENT, _A.EXPIRED})
# What came when the payment was over already, or may still come: to the customer it was a failure.
_TOO_LATE = frozenset({_A.UNKNOWN, _A.MANUAL_REVIEW, _A.LATE_SUCCEEDED, _A.REVERSED})
_C, _E = ErrorCode, ErrorClass
# The API shows codes only. What is not here is a decline by the issuer.
_CLASSES: Mapping[str, ErrorClass] = {
    _C.PROVIDER_MISCONFIGURED: _E.CONFIG, _C.NOT_ACCEPTED: _E.INVALID_REQUEST, _C.CONFLICT: _E.CONFLICT,
    _C.RATE_LIMITED: _E.RATE_LIMITED, _C.PROVIDER_UNAVAILABLE: _E.PROVIDER_UNAVAILABLE,
    _C.OUTCOME_UNKNOWN: _E.TIMEOUT_UNKNOWN, _C.MISMATCH: _E.TIMEOUT_UNKNOWN, _C.TECHNICAL_FAILURE: _E.TECHNICAL_DECLINE,
    _C.RISK_DECLINED: _E.DECLINED_RISK, _C.AUTHENTICATION_FAILED: _E.DECLINED_CUSTOMER,
    _C.CUSTOMER_CANCELED: _E.DECLINED_CUSTOMER, _C.CUSTOMER_TIMED_OUT: _E.DECLINED_CUSTOMER,
    _C.INVALID_INSTRUMENT: _E.DECLINED_CUSTOMER, _C.EXPIRED: _E.DECLINED_CUSTOMER,
}  # fmt: skip

# -- made up -----------------------------------------------------------------------------------------

_START = datetime(2026, 10, 1, tzinfo=UTC)
_GAP = 260.0  # seconds from one payment to the next, on average: ten thousand in a month
_RATES = {"upi": 0.9, "card": 0.82, "netbanking": 0.78, "wallet": 0.88}
_SHARES = (52, 30, 10, 8)  # percent of the payments, in the order of the rates
_NETWORKS = {
    "card": ("visa", "mastercard", "rupay"), "netbanking": ("HDFC", "ICIC", "SBIN"), "wallet": ("PAYTM", "MOBIKWIK"),
}  # fmt: skip
_BINS = {"visa": "411111", "mastercard": "512345", "rupay": "608001"}
_AMOUNTS = (199_00, 349_00, 899_00, 1_499_00, 4_999_00, 14_999_00)  # paise
_CENTS = 100  # a dollar is worth about as many rupees: prices abroad are a hundredth
_SPREADS = (0.07, 0.03)  # of an account's chance at a method, and there at an amount band or network
_NEW = 0.04  # by so much a new customer's chance is lower, everywhere
_LOWEST, _HIGHEST = 0.02, 0.99
_FAILURES = (ErrorClass.DECLINED_ISSUER, ErrorClass.DECLINED_CUSTOMER, ErrorClass.TECHNICAL_DECLINE)


@dataclass(frozen=True, slots=True)
class World:
    """A history that was made up, and what nobody can see of a real one."""

    payments: Sequence[Past]
    chances: Sequence[Mapping[str, float]]  # of each payment to succeed, by account


def payments(seed: int, count: int = 10_000) -> Sequence[Past]:
    """The history of a merchant who never was, the same for the same seed; oldest first."""
    return world(seed, count).payments


def world(seed: int, count: int = 10_000, settings: RoutingSettings | None = None) -> World:
    """The history with the true chances, routed by ``settings``: those of ``RULES``, unless given."""
    chance = random.Random(f"history/{seed}")  # noqa: S311 - repeatable by design
    replay = Replay(settings or routing_settings.parse(RULES, ACCOUNTS), candidates((), ACCOUNTS))
    offsets: dict[tuple[str, str], float] = {}
    found, chances, at = [], [], _START
    for number in range(count):
        at += timedelta(seconds=round(chance.expovariate(1 / _GAP), 3))
        asked = _asked(chance, f"pay_{seed}_{number}", at)
        rates = {account: _rate(chance, offsets, asked, account) for account in ACCOUNTS}
        luck, failure = chance.random(), chance.choices(_FAILURES, (6, 3, 1))[0]
        decision = replay.choose(asked)
        chosen = decision.chosen
        if chosen is None:
            message = "rules that leave a payment to nobody make no history"
            raise ValueError(message)
        error = None if luck < rates[chosen.account] else failure
        past = replace(
            asked,
            account=chosen.account,
            provider=chosen.provider,
            succeeded=error is None,
            error=error,
            rule=decision.rule,
        )
        replay.see(past)
        found.append(past)
        chances.append(rates)
    return World(found, chances)


def _asked(chance: random.Random, payment_id: str, at: datetime) -> Past:
    """A payment that has gone nowhere yet."""
    method = chance.choices(list(_RATES), _SHARES)[0]
    network = chance.choices(_NETWORKS[method], (5, 3, 2)[: len(_NETWORKS[method])])[0] if method in _NETWORKS else None
    amount = chance.choices(_AMOUNTS, (5, 6, 5, 4, 3, 1))[0] + chance.randrange(100) * 100
    is_abroad = method == "card" and network != "rupay" and chance.random() < 0.06  # noqa: PLR2004
    return Past(
        id=payment_id, created_at=at, method=method, network=network, bin=_BINS.get(network or ""),
        currency="USD" if is_abroad else "INR", amount=amount // _CENTS if is_abroad else amount,
        country="US" if is_abroad else "IN", segment=chance.choices(("new", "returning"), (4, 6))[0],
        metadata={"shop": chance.choice(("web", "app"))}, account="", provider="", succeeded=False,
    )  # fmt: skip


def _rate(chance: random.Random, offsets: dict[tuple[str, str], float], asked: Past, account: str) -> float:
    """A payment's true chance at an account: what is made up of the account is drawn when it is first met."""
    rate = _RATES[asked.method] - _NEW * (asked.segment == "new")
    _, method, *finer = segments(asked.method, asked.amount, asked.currency, asked.network)
    for segment, spread in ((method, _SPREADS[0]), *((one, _SPREADS[1]) for one in finer)):
        if (account, segment) not in offsets:
            offsets[account, segment] = chance.uniform(-spread, spread)
        rate += offsets[account, segment]
    return min(max(rate, _LOWEST), _HIGHEST)


# -- from a running stack ----------------------------------------------------------------------------


class Export:
    """A merchant's payments by the public API, and how many of them say nothing of an account."""

    def __init__(self, get: Get, page: int = 100) -> None:
        """``get`` asks the API, for ``page`` payments at a time."""
        self._get, self._page = get, page
        self.left_out = 0  # blocked by risk, without a route, still under way, or canceled

    def payments(self) -> Iterator[Past]:
        """Page by page, newest first; one more request for each payment's attempts."""
        path: str | None = f"/v1/payments?limit={self._page}"
        while path:
            listed = self._asked(path)
            for payment in listed["data"]:
                past = self._first(payment) if payment["attempts"] else None
                if past is None:
                    self.left_out += 1
                else:
                    yield past
            cursor = listed["next_cursor"]
            path = f"/v1/payments?limit={self._page}&cursor={quote(cursor, safe='')}" if cursor else None

    def _first(self, payment: Mapping[str, Any]) -> Past | None:
        attempts = self._asked(f"/v1/payments/{payment['id']}/attempts")["data"]
        return of_api(payment, attempts[0]) if attempts else None

    def _asked(self, path: str) -> Any:
        status, body = self._get(path)
        if status != _OK:
            message = f"GET {path}: {status}"
            raise HistoryError(message)
        return body


def by_http(api: str, key: str) -> Get:
    """Asks a running stack at the base URL ``api`` with a secret ``key``; waits where it is told to (429)."""
    pool = urllib3.PoolManager(headers={"Authorization": f"Bearer {key}"}, timeout=_TIMEOUT)

    def get(path: str) -> tuple[int, Any]:
        try:
            answer = pool.request("GET", api.rstrip("/") + path, redirect=False)
            return answer.status, answer.json() if answer.status == _OK else None
        except (urllib3.exceptions.HTTPError, ValueError) as error:
            message = f"GET {path}: no answer that can be read"
            raise HistoryError(message) from error

    return get


def of_api(payment: Mapping[str, Any], attempt: Mapping[str, Any]) -> Past | None:
    """A payment and its first attempt as the API shows them; None where the attempt has not ended by itself."""
    status, error = AttemptStatus(attempt["status"]), attempt["error"]
    if status not in _SUCCEEDED | _FAILED | _TOO_LATE:
        return None
    code = error["code"] if error else None
    told = None
    if status in _TOO_LATE:
        told = ErrorClass.TIMEOUT_UNKNOWN
    elif status in _FAILED:
        told = _CLASSES.get(code or ErrorCode.EXPIRED, ErrorClass.DECLINED_ISSUER)
    method, customer = payment["method"], payment["customer"]
    return Past(
        id=payment["id"], created_at=moment(payment["created_at"], "created_at"), method=method["type"],
        network=method.get("network") or method.get("bank") or method.get("wallet"), bin=method.get("bin"),
        currency=payment["currency"], amount=payment["amount"], country=customer.get("country"),
        segment=customer.get("segment"), metadata=payment["metadata"], account=attempt["account"],
        provider=attempt["provider"], succeeded=told is None, error=told, rule=attempt["route"].get("rule"),
    )  # fmt: skip


def main() -> int:
    """Writes a history to standard output; 1 if the API does not give it."""
    parser = argparse.ArgumentParser(description="Write a merchant's payments as lines of JSON.")
    parser.add_argument("--api", help="base URL of a running stack")
    parser.add_argument("--key", help="a secret key of the merchant's")
    parser.add_argument("--seed", type=int, default=0, help="of a history that is made up, where no API is given")
    parser.add_argument("--count", type=int, default=10_000)
    given = parser.parse_args()
    if bool(given.api) != bool(given.key):
        parser.error("--api and --key belong together")
    export = Export(by_http(given.api, given.key)) if given.api else None
    try:
        for line in write(export.payments() if export else payments(given.seed, given.count)):
            print(line)
    except HistoryError as error:
        print(error, file=sys.stderr)
        return 1
    if export and export.left_out:
        print(f"{export.left_out} payments left out: without an attempt that has ended", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
