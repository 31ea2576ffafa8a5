"""The protocol every provider adapter speaks, and what an adapter declares about itself.

An adapter is stateless: it turns our intent into the provider's wire format and the provider's
answer into an outcome (see ``domain/outcome.py``). It never retries, routes, stores or sleeps.
It never raises for anything the network or the provider does; it returns NotSent or Unknown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from chalicelib.domain.merchant import Account

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from chalicelib.domain.outcome import (
        ChargeLookup,
        ChargeOutcome,
        EffectLookup,
        EffectOutcome,
        ProviderEvent,
    )

__all__ = ["Account", "BadSignature", "Capabilities", "ChargeIntent", "ChargeRef", "Provider"]


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
    return_url: str | None


@dataclass(frozen=True, slots=True)
class ChargeRef:
    """A charge made earlier. ``provider_reference`` may be unknown: then look up by ``reference``."""

    reference: str
    provider_reference: str | None
    amount: int
    currency: str
    method: Mapping[str, str]
    data: Mapping[str, str]  # what the adapter put into Charge.data


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


class Provider(Protocol):
    """One payment provider. ``key`` is our operation id, the provider's idempotency key."""

    name: str
    capabilities: Capabilities

    def create(self, account: Account, intent: ChargeIntent) -> ChargeOutcome:
        """Make the charge."""

    def fetch(self, account: Account, charge: ChargeRef) -> ChargeLookup:
        """Ask for the charge, by the provider's reference if known, else by ours."""

    def capture(self, account: Account, charge: ChargeRef, amount: int, key: str) -> EffectOutcome:
        """Take ``amount`` of an authorized charge and release the rest."""

    def void(self, account: Account, charge: ChargeRef, key: str) -> EffectOutcome:
        """Release an authorized charge."""

    def refund(self, account: Account, charge: ChargeRef, amount: int, key: str) -> EffectOutcome:
        """Give ``amount`` back to the customer."""

    def fetch_refund(
        self, account: Account, charge: ChargeRef, key: str, provider_reference: str | None
    ) -> EffectLookup:
        """Ask for a refund, by the provider's reference if known, else by our key."""

    def verify_return(self, account: Account, charge: ChargeRef, params: Mapping[str, str]) -> None:
        """Check the proof a browser brought back; raises BadSignature. Never proof of payment by itself."""

    def parse_webhook(self, account: Account, headers: Mapping[str, str], body: bytes, now: datetime) -> ProviderEvent:
        """Verify and translate a webhook; header names are lower-case. Raises BadSignature."""
