"""Stripe: one PaymentIntent per attempt, made and confirmed by one call under our reference as its key.

Stripe answers a repeated key for a day with the first answer that it gave, be it a 500, and whatever has
happened since (``Idempotent-Replayed: true``). So a replay only tells which intent it was, and the intent
is then asked how it stands; a stored failure says nothing, and only a look-up does.

By our reference an intent is looked up by search, which finds one among millions but shows it a minute
late, later still on bad days, and not at all to merchants in India; what search does not show is looked
for in the list of the time it was made in, which is never late. Only that list proves absence.

Cards: a token's number is gone. A test key confirms with Stripe's own test payment method for that card;
with a live key the customer's browser confirms by Stripe.js, and we learn of it like of any page.
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from chalicelib.domain.errors import ErrorClass, ErrorCode, PaymentError
from chalicelib.domain.outcome import (
    Charge,
    ChargeStatus,
    Effect,
    EffectStatus,
    EventKind,
    NotFound,
    NotSent,
    ProviderEvent,
    Unknown,
)
from chalicelib.providers import stripe_wire as wire
from chalicelib.providers.base import (
    Account,
    BadSignature,
    Capabilities,
    ChargeIntent,
    ChargeRef,
    Connection,
    Credential,
)
from chalicelib.providers.calls import Answer, conflict, misconfigured, rows, text, unknown, unreadable
from chalicelib.providers.http import parse_json
from chalicelib.providers.reasons import NOT_TAKEN, TECHNICAL, error_of
from chalicelib.providers.refusals import has_failed, is_definite, refused
from chalicelib.providers.signatures import digest, require
from chalicelib.providers.stripe_api import LIVE, TEST, Listed, StripeApi, publishable_key, secret_key
from chalicelib.providers.stripe_errors import refusal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date

    from chalicelib.domain.outcome import (
        ChargeLookup,
        ChargeOutcome,
        EffectLookup,
        EffectOutcome,
        Exchange,
        SettlementLine,
    )
    from chalicelib.providers.http import HttpClient

_DAY, _HOUR = 24 * 3600, 3600
_KEYS_LIVE = _DAY - _HOUR  # Stripe forgets a key after a day at the earliest, and a request may be late
_TOLERANCE = 300  # seconds that a webhook's time may be off, as in Stripe's own libraries
_PAGES = 10  # of intents or refunds to look through
_SETTLEMENT_PAGES = 1000  # far more than a day has; the bound only ends a broken list
_SKEW = timedelta(minutes=5)  # between our clock and Stripe's
_LONGEST = timedelta(days=1)  # a repeat of the first call may have made the intent so long after it
_NOT_FOUND = 404
_SIGNED_AT = re.compile(r"\d{1,12}", re.ASCII)
# Refused for what the account is, and not for what was asked: another provider may take it.
_NOT_SENT = frozenset({ErrorClass.CONFIG, ErrorClass.PROVIDER_UNAVAILABLE})


class StripeProvider:
    """The Stripe adapter. ``credentials``: secret_key, whose prefix tells the mode, and publishable_key."""

    name = "stripe"
    capabilities = Capabilities(
        methods=frozenset({"card", "upi"}),
        currencies=frozenset({"INR", "USD", "EUR", "GBP", "JPY", "SGD", "AED"}),
        min_amount=50,  # INR 0.50, USD 0.50, JPY 50; what a currency finds too small all the same is refused
        max_amount=99_999_999,  # eight digits
        manual_capture=frozenset({"card"}),
        partial_capture=True,
        partial_refund=True,
        void="api",
        idempotency_window=_KEYS_LIVE,
        operation_idempotency_window=_KEYS_LIVE,
        settle_window=120,
        authorization_window=7 * _DAY - _HOUR,
        closes_unpaid=True,
        card_data=frozenset({"bin", "last4", "network"}),
    )
    connection = Connection(
        credentials=(
            Credential("secret_key", prefixes={"test": TEST, "live": LIVE}),
            Credential(
                "publishable_key", secret=False, required=False, prefixes={"test": "pk_test_", "live": "pk_live_"}
            ),
            Credential("webhook_secret", prefixes={"test": "whsec_", "live": "whsec_"}),
        ),
        webhook_secret="webhook_secret",  # noqa: S106 - the name of it
        base_urls=dict.fromkeys(("test", "live"), "https://api.stripe.com/v1"),
    )

    def __init__(self, http: HttpClient) -> None:
        """``http`` is shared by every adapter."""
        self._api = StripeApi(http)

    def create(self, account: Account, intent: ChargeIntent) -> ChargeOutcome:
        """Make and confirm the intent; a repeat with the same reference tells how the first one stands."""
        payment_method = _payment_method(account, intent)
        if isinstance(payment_method, NotSent):  # and nothing will be
            return payment_method
        form = wire.create_form(intent, payment_method)
        answer, replayed = self._api.post(account, "/payment_intents", form, intent.reference)
        if isinstance(answer, NotSent):
            return answer
        if isinstance(answer, Unknown):
            return self._standing(account, intent, answer) if replayed else answer
        made = wire.charge(answer.body, publishable_key(account)) if answer.ok else wire.refused_charge(answer)
        if made is not None:
            made = replace(made, exchange=answer.exchange)
            return self._present(account, made) if replayed else made
        return unreadable(answer) if answer.ok else self._refused(account, intent, answer)

    def fetch(self, account: Account, charge: ChargeRef) -> ChargeLookup:
        """By intent id, else by our reference."""
        if charge.provider_reference:
            return self._intent(account, charge.provider_reference)
        return self._by_reference(account, charge.reference, charge.created_at)

    def capture(self, account: Account, charge: ChargeRef, amount: int, key: str) -> EffectOutcome:
        """Take ``amount`` and release the rest."""
        form = {"amount_to_capture": str(amount)}
        return self._change(account, charge, "capture", form, key, ChargeStatus.SUCCEEDED)

    def void(self, account: Account, charge: ChargeRef, key: str) -> EffectOutcome:
        """Cancel the intent, authorized or unpaid."""
        return self._change(account, charge, "cancel", {}, key, ChargeStatus.CANCELED)

    def refund(self, account: Account, charge: ChargeRef, amount: int, key: str) -> EffectOutcome:
        """Refund ``amount``; a repeat with the same key returns the first refund."""
        intent_id = self._intent_id(account, charge)
        if not isinstance(intent_id, str):
            return intent_id
        form = wire.refund_form(charge, intent_id, amount, key)
        answer, replayed = self._api.post(account, "/refunds", form, f"{key}:refund")
        if isinstance(answer, NotSent) or (isinstance(answer, Unknown) and not replayed):
            return answer
        if isinstance(answer, Answer) and answer.ok:
            made = replace(wire.refund_effect(answer.body), exchange=answer.exchange)
            if made.provider_reference is None:
                return unreadable(answer)
            now = self._refund(account, made.provider_reference) if replayed else made
            # One that was told of is known to exist, so it is pending when nobody says how it stands.
            return now if isinstance(now, Effect) else replace(made, status=EffectStatus.PENDING, error=None)
        error = answer.error if isinstance(answer, Unknown) else refusal(answer, TECHNICAL)
        if error.error_class is ErrorClass.CONFIG:
            return NotSent(error, answer.exchange, answer.retry_after)
        # What stands in the way may be an earlier try with this key; then that is the truth.
        found = self._find_refund(account, intent_id, key)
        if isinstance(found, Effect):
            return found
        if isinstance(found, NotFound) and isinstance(answer, Answer):
            return refused(error, answer, failed=is_definite(error) and not wire.is_repeat(answer))
        return Unknown(unknown(error.provider_code or "conflict"), answer.exchange, answer.retry_after)

    def fetch_refund(
        self, account: Account, charge: ChargeRef, key: str, provider_reference: str | None
    ) -> EffectLookup:
        """By refund id, else among the intent's refunds by our key in their metadata."""
        if provider_reference:
            return self._refund(account, provider_reference)
        intent_id = charge.provider_reference
        if intent_id is None:
            found = self.fetch(account, charge)
            if not isinstance(found, Charge):
                return found
            intent_id = found.provider_reference or ""
        return self._find_refund(account, intent_id, key)

    def verify_return(self, account: Account, charge: ChargeRef, params: Mapping[str, str]) -> None:  # noqa: ARG002 - Stripe signs no return
        """Check that the browser comes from our intent; how it stands is asked for afterwards, as always."""
        if not charge.provider_reference or params.get("payment_intent") != charge.provider_reference:
            reason = "the return is not about this intent"
            raise BadSignature(reason)

    def parse_webhook(self, account: Account, headers: Mapping[str, str], body: bytes, now: datetime) -> ProviderEvent:
        """Check hex(HMAC_SHA256(webhook_secret, t + "." + body)) against each v1 of Stripe-Signature, and t."""
        pairs = [part.strip().partition("=") for part in headers.get("stripe-signature", "").split(",")]
        times = [value for name, _, value in pairs if name == "t"]
        if len(times) != 1 or not _SIGNED_AT.fullmatch(times[0]):
            reason = "the signature names no time"
            raise BadSignature(reason)
        signatures = [value for name, _, value in pairs if name == "v1"]
        require(account.webhook_secrets, times[0].encode() + b"." + body, *signatures)
        if abs(now.timestamp() - int(times[0])) > _TOLERANCE:
            reason = "the signature is too old, or from the future"
            raise BadSignature(reason)
        try:
            parsed = parse_json(body)
        except ValueError:
            parsed = None
        if not isinstance(parsed, dict) or text(parsed, "object") != "event":
            return ProviderEvent(digest(body), "unreadable", EventKind.IGNORED)
        is_test = secret_key(account).startswith(TEST)
        if parsed.get("livemode") is is_test:
            reason = "the event belongs to the other mode"
            raise BadSignature(reason)
        return wire.event(parsed, text(parsed, "id") or digest(body))

    def settlement_lines(self, account: Account, day: date) -> Sequence[SettlementLine] | NotSent | Unknown:
        """What moved the balance on one day of UTC, which is Stripe's."""
        since = datetime(day.year, day.month, day.day, tzinfo=UTC)
        until = since + timedelta(days=1)
        query = {**_between(since, until), "expand[]": "data.source"}
        found = self._api.rows(account, "/balance_transactions", query, _SETTLEMENT_PAGES)
        if not isinstance(found, Listed):
            return _nothing(found)
        return [line for row in found.rows for line in wire.settlement_lines(row)]

    def _refused(self, account: Account, intent: ChargeIntent, answer: Answer) -> ChargeOutcome:
        """What a create means that was refused before anybody tried to pay."""
        error = refusal(answer)
        if wire.is_repeat(answer) or error.error_class is ErrorClass.CONFLICT:
            unsure = Unknown(unknown(error.provider_code or "conflict"), answer.exchange, answer.retry_after)
            return self._standing(account, intent, unsure)
        if error.error_class in _NOT_SENT:
            return NotSent(error, answer.exchange, answer.retry_after)
        return Charge(ChargeStatus.DECLINED, error=error, exchange=answer.exchange, retry_after=answer.retry_after)

    def _standing(self, account: Account, intent: ChargeIntent, unsure: Unknown) -> ChargeOutcome:
        """How an intent stands that was begun before; with none to be seen yet it stays unknown."""
        found = self._by_reference(account, intent.reference, None)
        return found if isinstance(found, Charge) else unsure

    def _present(self, account: Account, told: Charge) -> Charge:
        """How an intent stands now of which we heard old news; pending when nobody says."""
        now = self._intent(account, told.provider_reference) if told.provider_reference else told
        if isinstance(now, Charge):
            return replace(now, exchange=told.exchange)
        return replace(told, status=ChargeStatus.PENDING, captured=0, error=None, next_action=None)

    def _intent(self, account: Account, intent_id: str) -> ChargeLookup:
        answer = self._api.get(account, f"/payment_intents/{quote(intent_id, safe='')}?expand%5B%5D=latest_charge")
        if isinstance(answer, NotSent | Unknown):
            return answer
        if answer.status == _NOT_FOUND:
            return NotFound(answer.exchange)
        if not answer.ok:
            return _nothing(answer)
        found = wire.charge(answer.body, publishable_key(account))
        return unreadable(answer) if found is None else replace(found, exchange=answer.exchange)

    def _by_reference(self, account: Account, reference: str, created_at: datetime | None) -> ChargeLookup:
        """By search, else in the list of its time; without a time, among the newest."""
        query = {"query": wire.search_query(reference), "expand[]": "data.latest_charge"}
        answer = self._api.get(account, f"/payment_intents/search?{urlencode(query)}")
        if isinstance(answer, NotSent | Unknown):
            return answer
        exchange: Exchange | None = answer.exchange
        # The filter is checked again here: a list of other people's intents must never match.
        intents = [row for row in rows(answer.body, "data") if wire.reference_of(row) == reference] if answer.ok else []
        if not intents:
            query = _between(created_at - _SKEW, created_at + _LONGEST) if created_at else {}
            found = self._api.rows(
                account,
                "/payment_intents",
                {**query, "expand[]": "data.latest_charge"},
                _PAGES,
                lambda row: wire.reference_of(row) == reference,
            )
            if not isinstance(found, Listed):
                return _nothing(found)
            intents, exchange = found.rows, found.exchange
        intent = wire.best(intents)
        charge = None if intent is None else wire.charge(intent, publishable_key(account))
        return NotFound(exchange) if charge is None else replace(charge, exchange=exchange)

    def _intent_id(self, account: Account, charge: ChargeRef) -> str | EffectOutcome:
        """The intent's id; when we never learned it, asked for before anything is sent."""
        if charge.provider_reference:
            return charge.provider_reference
        found = self.fetch(account, charge)
        if isinstance(found, Charge) and found.provider_reference:
            return found.provider_reference
        if isinstance(found, NotSent):
            return found
        if isinstance(found, Unknown):
            error = PaymentError(
                ErrorClass.PROVIDER_UNAVAILABLE,
                ErrorCode.PROVIDER_UNAVAILABLE,
                "The charge could not be looked up; nothing was sent.",
                found.error.provider_code,
            )
            return NotSent(error, found.exchange, found.retry_after)
        error = conflict("The provider has no such charge.", None)
        return Effect(EffectStatus.FAILED, error=error, exchange=found.exchange)

    def _change(
        self,
        account: Account,
        charge: ChargeRef,
        action: str,
        form: Mapping[str, str],
        key: str,
        wanted: ChargeStatus,
    ) -> EffectOutcome:
        """Capture or cancel; whatever a refusal says, the intent itself tells whether it has happened."""
        intent_id = self._intent_id(account, charge)
        if not isinstance(intent_id, str):
            return intent_id
        path = f"/payment_intents/{quote(intent_id, safe='')}/{action}"
        answer, replayed = self._api.post(account, path, form, f"{key}:{action}")
        if isinstance(answer, Unknown) and replayed:
            # A stored failure would come back all day. Without a key the call is as safe: an intent is
            # captured or canceled once.
            answer, _ = self._api.post(account, path, form, None)
        if isinstance(answer, NotSent | Unknown):
            return answer
        if answer.ok:
            return _effect(wire.charge(answer.body), wanted, answer) or unreadable(answer)
        error = refusal(answer, TECHNICAL)
        if error.error_class is ErrorClass.CONFIG:
            return NotSent(error, answer.exchange, answer.retry_after)
        now = self._intent(account, intent_id)
        if isinstance(now, NotSent | Unknown):
            return Unknown(now.error, answer.exchange, answer.retry_after)
        if isinstance(now, Charge) and now.status is wanted:
            return _effect(now, wanted, answer) or unreadable(answer)
        return refused(error, answer, failed=has_failed(error, now.status if isinstance(now, Charge) else None))

    def _refund(self, account: Account, refund_id: str) -> EffectLookup:
        answer = self._api.get(account, f"/refunds/{quote(refund_id, safe='')}")
        if isinstance(answer, NotSent | Unknown):
            return answer
        if answer.status == _NOT_FOUND:
            return NotFound(answer.exchange)
        return replace(wire.refund_effect(answer.body), exchange=answer.exchange) if answer.ok else _nothing(answer)

    def _find_refund(self, account: Account, intent_id: str, key: str) -> EffectLookup:
        found = self._api.rows(
            account, "/refunds", {"payment_intent": intent_id}, _PAGES, lambda row: wire.refund_key_of(row) == key
        )
        if isinstance(found, Answer) and found.status == _NOT_FOUND:
            return NotFound(found.exchange)
        if not isinstance(found, Listed):
            return _nothing(found)
        return (
            replace(wire.refund_effect(found.rows[0]), exchange=found.exchange)
            if found.rows
            else NotFound(found.exchange)
        )


def _payment_method(account: Account, intent: ChargeIntent) -> str | NotSent | None:
    """What a card is charged by here, None if it is not charged here; NotSent if nobody could charge it."""
    if intent.method["type"] == "upi":
        return None if intent.currency == "INR" else NotSent(error_of(NOT_TAKEN, "upi_takes_inr"))
    if secret_key(account).startswith(TEST):
        network = intent.method.get("network", "")
        return wire.payment_method_of(intent.method) or NotSent(error_of(NOT_TAKEN, f"no_test_card_{network}"))
    return None if publishable_key(account) else NotSent(misconfigured("no_publishable_key"))


def _between(since: datetime, until: datetime) -> dict[str, str]:
    """The part of a list's query that asks for what was created then."""
    return {"created[gte]": str(int(since.timestamp())), "created[lt]": str(int(until.timestamp()))}


def _nothing(found: Answer | NotSent | Unknown) -> NotSent | Unknown:
    """A look-up that was refused says nothing about what it was for."""
    return (
        Unknown(unknown(f"http_{found.status}"), found.exchange, found.retry_after)
        if isinstance(found, Answer)
        else found
    )


def _effect(now: Charge | None, wanted: ChargeStatus, answer: Answer) -> Effect | None:
    """A capture or cancelation that the intent's state confirms, else None; a capture has to name an amount."""
    if now is None or now.status is not wanted or (wanted is ChargeStatus.SUCCEEDED and now.amount is None):
        return None
    amount = now.captured if wanted is ChargeStatus.SUCCEEDED else now.amount
    return Effect(EffectStatus.SUCCEEDED, now.provider_reference, amount, now.currency, exchange=answer.exchange)
