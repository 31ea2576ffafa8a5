"""The protocol every provider adapter speaks, and what an adapter declares about itself.

An adapter is stateless: it turns our intent into the provider's wire format and the provider's
answer into an outcome (see ``domain/outcome.py``). It never retries, routes, stores or sleeps.
It never raises for anything the network or the provider does; it returns NotSent or Unknown.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from chalicelib.domain.merchant import Account

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date, datetime

    from chalicelib.domain.model import Mode
    from chalicelib.domain.outcome import (
        ChargeLookup,
        ChargeOutcome,
        EffectLookup,
        EffectOutcome,
        NotSent,
        ProviderEvent,
        SettlementLine,
        Unknown,
    )

__all__ = [
    "Account",
    "BadSignature",
    "Capabilities",
    "ChargeIntent",
    "ChargeRef",
    "Connection",
    "Credential",
    "Provider",
]


class BadSignature(Exception):
    """A webhook or browser return whose signature does not hold; nothing in it may be believed."""


@dataclass(frozen=True, slots=True)
class ChargeIntent:
    """One charge to make; amounts in minor units.

    ``reference`` is our attempt reference: it begins with the payment id, is unique per attempt,
    at most 40 characters of ``[A-Za-z0-9_-]``, and is the provider's idempotency key.
    """

    reference: str
    payment_id: str
    amount: int
    currency: str
    capture: Literal["automatic", "manual"]
    method: Mapping[str, str]  # {"type": "upi", "flow": "collect", "vpa": …} and so on, see docs/api.md
    customer: Mapping[str, str]
    description: str | None
    return_url: str | None  # where the customer's browser goes afterwards
    notify_url: str  # where this account's webhooks go, for providers that are told with each charge
    expires_at: datetime  # after this the payment is given up


@dataclass(frozen=True, slots=True)
class ChargeRef:
    """A charge made earlier. ``provider_reference`` may be unknown: then look up by ``reference``."""

    reference: str
    provider_reference: str | None
    amount: int
    currency: str
    method: Mapping[str, str]
    data: Mapping[str, str]  # what the adapter put into Charge.data
    created_at: datetime  # when we opened the attempt, for providers that list by time


@dataclass(frozen=True, slots=True)
class Credential:
    """One thing a merchant enters to connect an account."""

    name: str
    secret: bool = True  # never shown again
    required: bool = True
    identity: bool = False  # names the account at the provider: another one is another account, and connected as one
    # How it begins in each mode, so that a test key can never become part of a live account.
    prefixes: Mapping[Mode, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Connection:
    """What an account at this provider consists of.

    ``webhook_secret`` names the credential that signs webhooks: every active value of it is in
    ``Account.webhook_secrets``, and the current one in ``Account.credentials`` like all others.
    """

    credentials: Sequence[Credential]
    webhook_secret: str
    base_urls: Mapping[Mode, str]  # a mode that is missing cannot be connected


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an adapter can do. Amounts in minor units, windows in seconds."""

    methods: frozenset[str]
    currencies: frozenset[str]
    min_amount: int
    max_amount: int
    manual_capture: frozenset[str]  # the methods that can be authorized and captured later
    partial_capture: bool
    partial_refund: bool
    void: Literal["api", "lapse"]  # lapse: the provider releases an uncaptured charge by itself
    idempotency_window: int  # how long a repeated create with one reference returns the first charge; 0 = never
    operation_idempotency_window: int  # the same for capture, void and refund by their key; 0 = never
    settle_window: int  # after a request's deadline, how long it may still take effect
    authorization_window: int  # how long an authorization can be captured
    closes_unpaid: bool = False  # whether void also closes what a customer has been sent to pay and has not
    # Fields of a payment that this provider cannot do without: "return_url", "customer.email", …
    required: frozenset[str] = frozenset()
    # What of a card's token create is given beside its type; nothing where the provider's own page asks for it.
    card_data: frozenset[str] = frozenset()


class Provider(Protocol):
    """One payment provider. ``key`` is our operation id, the provider's idempotency key."""

    name: str
    capabilities: Capabilities
    connection: Connection

    def create(self, account: Account, intent: ChargeIntent) -> ChargeOutcome:
        """Make the charge."""

    def fetch(self, account: Account, charge: ChargeRef) -> ChargeLookup:
        """Ask for the charge, by the provider's reference if known, else by ours."""

    def capture(self, account: Account, charge: ChargeRef, amount: int, key: str) -> EffectOutcome:
        """Take ``amount`` of an authorized charge and release the rest."""

    def void(self, account: Account, charge: ChargeRef, key: str) -> EffectOutcome:
        """Release an authorized charge, or close one that nobody has paid yet where the provider can."""

    def refund(self, account: Account, charge: ChargeRef, amount: int, key: str) -> EffectOutcome:
        """Give ``amount`` back to the customer."""

    def fetch_refund(
        self, account: Account, charge: ChargeRef, key: str, provider_reference: str | None
    ) -> EffectLookup:
        """Ask for a refund, by the provider's reference if known, else by our key."""

    def verify_return(self, account: Account, charge: ChargeRef, params: Mapping[str, str]) -> None:
        """Check the proof a browser brought back; raises BadSignature. Never proof of payment by itself."""

    def parse_webhook(self, account: Account, headers: Mapping[str, str], body: bytes, now: datetime) -> ProviderEvent:
        """Verify and translate a webhook; header names are lower-case. Raises BadSignature.

        What a provider does not sign comes back as a HINT: nothing in it is believed.
        """

    def settlement_lines(self, account: Account, day: date) -> Sequence[SettlementLine] | NotSent | Unknown:
        """What the provider settled, or will settle, of one day (in the provider's own time zone)."""
