"""A bank, an adapter and a clock, for tests that look at both sides of the wire."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from chalicelib.domain.outcome import Charge
from chalicelib.providers.base import Account, ChargeIntent, ChargeRef
from chalicelib.providers.registry import build
from infra.sandbox import control
from infra.sandbox.inprocess import InProcessHttpClient, base_url, make_bank
from infra.sandbox.wire import Request

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chalicelib.domain.outcome import ChargeOutcome, ProviderEvent
    from chalicelib.providers.base import Provider
    from chalicelib.providers.http import HttpAnswer, HttpClient
    from infra.sandbox.bank import Bank
    from infra.sandbox.wire import Response

START = 1_800_000_000.0
NOW = datetime.fromtimestamp(START, tz=UTC)
AMOUNT = 149_900
NOTIFY_URL = "http://railyard.test/webhooks"


@dataclass
class Clock:
    """Time that passes when it is told to."""

    now: float = START

    def __call__(self) -> float:
        return self.now


@dataclass
class RecordingClient:
    """Counts what goes over the wire."""

    inner: HttpClient
    calls: list[tuple[str, str]] = field(default_factory=list)

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None = None,
        read_timeout: float | None = None,
    ) -> HttpAnswer:
        self.calls.append((method, url))
        return self.inner.request(method, url, headers=headers, body=body, read_timeout=read_timeout)


def account_of(bank: Bank, name: str, url: str) -> Account:
    """The account that the bank's own configuration describes."""
    settings = bank.settings[name]
    return Account(f"acct_{name}", name, url, settings.credentials, [settings.webhook_secret])


def intent(
    outcome: str = "success",
    *,
    number: int = 1,
    amount: int = AMOUNT,
    capture: str = "automatic",
    method: Mapping[str, str] | None = None,
    return_url: str | None = None,
) -> ChargeIntent:
    """A UPI payment that asks for that outcome, unless another method is given."""
    payment_id = "pay_01K0000000000000000000TEST"
    return ChargeIntent(
        reference=f"{payment_id}-{number:02d}",
        payment_id=payment_id,
        amount=amount,
        currency="INR",
        capture="manual" if capture == "manual" else "automatic",
        method=method or {"type": "upi", "flow": "collect", "vpa": f"{outcome}@sim"},
        customer={"email": "asha@example.com", "contact": "+919800000000"},
        description="Two books",
        return_url=return_url,
        notify_url=NOTIFY_URL,
        expires_at=NOW + timedelta(minutes=30),
    )


def ref(made: ChargeIntent, charge: ChargeOutcome | None = None) -> ChargeRef:
    """What is known about a charge: only our reference, unless an outcome told more."""
    known = charge if isinstance(charge, Charge) else None
    return ChargeRef(
        reference=made.reference,
        provider_reference=known.provider_reference if known else None,
        amount=made.amount,
        currency=made.currency,
        method=made.method,
        data=known.data if known else {},
        created_at=NOW,
    )


class World:
    """One adapter talking to an in-process bank."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.clock = Clock()
        self.bank = make_bank(self.clock)
        self.http = RecordingClient(InProcessHttpClient(self.bank))
        self.provider: Provider = build(name, self.http)
        self.account = account_of(self.bank, name, base_url(self.bank, name))

    def root(self, method: str, path: str, **body: object) -> Response:
        """What the bank's root port would answer."""
        return control.handle(self.bank, Request(method, path, {}, json.dumps(body).encode()))

    def chaos(self, **body: object) -> None:
        """Ask for trouble at this provider."""
        answer = self.root("POST", "/_chaos", provider=self.name, **body)
        assert answer.status == 200, answer.body

    def charge(self, made: ChargeIntent) -> Charge:
        """Create a charge that must be answered."""
        outcome = self.provider.create(self.account, made)
        assert isinstance(outcome, Charge), outcome
        return outcome

    def truth(self, reference: str = "") -> list[dict[str, object]]:
        """The bank's own record."""
        return self.bank.truth(reference)["charges"]

    def refunds(self) -> list[dict[str, object]]:
        """The bank's own record of refunds."""
        return self.bank.truth()["refunds"]

    def pass_time(self, seconds: float) -> None:
        """Let time pass and what is due happen."""
        self.clock.now += seconds
        self.bank.run_due(self.clock.now)

    def events(self, seconds: float = 1.0) -> list[ProviderEvent]:
        """The webhooks that have become due, verified and translated."""
        self.clock.now += seconds
        return [
            self.provider.parse_webhook(self.account, webhook.headers, webhook.body, NOW)
            for webhook in self.bank.take_webhooks(self.clock.now)
        ]
