"""Razorpay: an order that carries our reference, then a payment on it.

We make the payment server to server; a card's is made by the customer in Razorpay's checkout,
because its number must never come near us. Only the payment moves money, so whatever goes wrong
with the order is NotSent, and whatever goes wrong with the payment afterwards is looked up through
the order, never sent again.
"""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import quote

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
from chalicelib.providers import razorpay_wire as wire
from chalicelib.providers.base import (
    Account,
    BadSignature,
    Capabilities,
    ChargeIntent,
    ChargeRef,
    Connection,
    Credential,
)
from chalicelib.providers.calls import Answer, call, conflict, integer, rows, text, unknown, unreadable
from chalicelib.providers.http import parse_json
from chalicelib.providers.reasons import UNAVAILABLE, error_of
from chalicelib.providers.refusals import has_failed, is_definite, refused
from chalicelib.providers.signatures import digest, require

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date, datetime

    from chalicelib.domain.outcome import (
        ChargeLookup,
        ChargeOutcome,
        EffectLookup,
        EffectOutcome,
        Exchange,
        SettlementLine,
    )
    from chalicelib.providers.http import HttpClient

_DAY = 24 * 3600
_PAGE = 100  # the most that a list returns
_PAGES = 10  # a payment has far fewer refunds than this many pages; the bound only ends a broken list
_SETTLEMENT_PAGES = 1000
_METHODS = frozenset({"upi", "netbanking", "wallet", "card"})


@dataclass(frozen=True, slots=True)
class _Order:
    """An order that is ours and that no payment has been tried on."""

    id: str
    exchange: Exchange


class RazorpayProvider:
    """The Razorpay adapter. ``credentials``: key_id, key_secret and, where known, account_id."""

    name = "razorpay"
    capabilities = Capabilities(
        methods=_METHODS,
        currencies=frozenset({"INR"}),
        min_amount=100,
        max_amount=99_999_999_999,
        manual_capture=_METHODS,
        partial_capture=False,
        partial_refund=True,
        void="lapse",
        idempotency_window=0,
        operation_idempotency_window=_DAY,
        settle_window=45,
        authorization_window=wire.AUTHORIZATION_MINUTES * 60,
    )
    connection = Connection(
        credentials=(
            Credential("key_id", secret=False, prefixes={"test": "rzp_test_", "live": "rzp_live_"}),
            Credential("key_secret"),
            Credential("webhook_secret"),
            Credential(
                "account_id", secret=False, required=False, identity=True, prefixes={"test": "acc_", "live": "acc_"}
            ),
        ),
        webhook_secret="webhook_secret",  # noqa: S106 - the name of it
        base_urls=dict.fromkeys(("test", "live"), "https://api.razorpay.com/v1"),
    )

    def __init__(self, http: HttpClient) -> None:
        """``http`` is shared by every adapter."""
        self._http = http

    def create(self, account: Account, intent: ChargeIntent) -> ChargeOutcome:
        """Make the order and the payment, and ask once how the payment stands; a card waits for its customer."""
        order = self._order(account, intent)
        if not isinstance(order, _Order):
            return order
        if wire.is_checkout(intent.method):
            return self._checkout(account, order, intent, intent.return_url)
        path, payload = wire.payment_payload(intent, order.id)
        answer = self._call(account, "POST", path, payload)
        if isinstance(answer, NotSent | Unknown):
            return answer
        if not answer.ok:
            charge = wire.refused_charge(answer, order.id)
            return charge if charge is not None else self._standing(account, intent, answer)
        payment_id = text(answer.body, "razorpay_payment_id")
        if payment_id is None:
            return unreadable(answer)
        data = {"order_id": order.id}
        action = wire.next_action(answer.body)
        if action is not None:
            return Charge(
                ChargeStatus.ACTION_REQUIRED, payment_id, next_action=action, data=data, exchange=answer.exchange
            )
        # The answer names the payment but says nothing about it. If this look-up fails the payment
        # is still known to exist, so it is pending and not unknown.
        found = self._payment(account, payment_id, order.id)
        if isinstance(found, Charge):
            return replace(found, exchange=answer.exchange)
        return Charge(ChargeStatus.PENDING, payment_id, data=data, exchange=answer.exchange)

    def fetch(self, account: Account, charge: ChargeRef) -> ChargeLookup:
        """By payment id, else by order id, else by receipt.

        In the checkout a customer may try again after a failure, so there the order decides.
        """
        checkout = wire.is_checkout(charge.method)
        order_id = charge.data.get("order_id")
        if charge.provider_reference and not (checkout and order_id):
            return self._payment(account, charge.provider_reference, order_id)
        found = self._order_payments(account, [order_id]) if order_id else self._by_receipt(account, charge.reference)
        if isinstance(found, _Order):
            waits = self._checkout(account, found, charge, charge.data.get("callback_url"))
            return waits if checkout else NotFound(found.exchange)
        return found

    def capture(self, account: Account, charge: ChargeRef, amount: int, key: str) -> EffectOutcome:  # noqa: ARG002 - no key here: one payment can be captured once
        """Capture the whole authorization; Razorpay takes no other amount."""
        payment_id = self._payment_id(account, charge)
        if not isinstance(payment_id, str):
            return payment_id
        path = f"/payments/{quote(payment_id, safe='')}/capture"
        answer = self._call(account, "POST", path, {"amount": amount, "currency": charge.currency})
        if isinstance(answer, NotSent | Unknown):
            return answer
        if answer.ok:
            return wire.capture_effect(wire.charge(answer.body), answer) or unreadable(answer)
        undecided = wire.undecided(answer)
        if undecided is not None:
            return undecided
        now = self._payment(account, payment_id, None)
        if isinstance(now, NotSent | Unknown):
            return Unknown(now.error, answer.exchange, answer.retry_after)
        if isinstance(now, Charge) and now.status is ChargeStatus.SUCCEEDED:
            return wire.capture_effect(now, answer) or unreadable(answer)
        error = wire.refusal(answer)
        return refused(error, answer, failed=has_failed(error, now.status if isinstance(now, Charge) else None))

    def void(self, account: Account, charge: ChargeRef, key: str) -> EffectOutcome:  # noqa: ARG002 - there is nothing to call
        """Razorpay has no void: an authorization lapses by itself, and fetch tells when it has."""
        return Effect(EffectStatus.PENDING, None, charge.amount, charge.currency)

    def refund(self, account: Account, charge: ChargeRef, amount: int, key: str) -> EffectOutcome:
        """Refund ``amount``; a repeat with the same key returns the first refund."""
        payment_id = self._payment_id(account, charge)
        if not isinstance(payment_id, str):
            return payment_id
        payload = {"amount": amount, "speed": "normal", "receipt": key, "notes": {"reference": charge.reference}}
        path = f"/payments/{quote(payment_id, safe='')}/refund"
        answer = self._call(account, "POST", path, payload, {"x-refund-idempotency": key})
        if isinstance(answer, NotSent | Unknown):
            return answer
        if answer.ok:
            return replace(wire.refund_effect(answer.body), exchange=answer.exchange)
        undecided = wire.undecided(answer)
        if undecided is not None:
            return undecided
        found = self._find_refund(account, payment_id, key)
        if isinstance(found, Effect):
            return found
        if isinstance(found, NotSent | Unknown):
            return Unknown(found.error, answer.exchange, answer.retry_after)
        error = wire.refusal(answer)
        return refused(error, answer, failed=is_definite(error) and error.provider_code != wire.KEY_USED)

    def fetch_refund(
        self, account: Account, charge: ChargeRef, key: str, provider_reference: str | None
    ) -> EffectLookup:
        """By refund id, else among the payment's refunds by receipt, which is our key."""
        if provider_reference:
            answer = self._look(account, f"/refunds/{quote(provider_reference, safe='')}")
            if not isinstance(answer, Answer):
                return answer
            return replace(wire.refund_effect(answer.body), exchange=answer.exchange)
        payment_id = charge.provider_reference
        if payment_id is None:
            found = self.fetch(account, charge)
            if not isinstance(found, Charge):
                return found
            payment_id = found.provider_reference
        if payment_id is None:
            return NotFound()
        return self._find_refund(account, payment_id, key)

    def verify_return(self, account: Account, charge: ChargeRef, params: Mapping[str, str]) -> None:
        """Check what checkout posted back, against the order id that we stored and not the posted one.

        hex(HMAC_SHA256(key_secret, order_id + "|" + razorpay_payment_id)), per Razorpay's checkout docs.
        """
        order_id = charge.data.get("order_id")
        payment_id = params.get("razorpay_payment_id")
        if not order_id or not payment_id:
            reason = "the return names no payment of a known order"
            raise BadSignature(reason)
        message = f"{order_id}|{payment_id}".encode("utf-8", "surrogatepass")
        require([account.credentials.get("key_secret", "")], message, params.get("razorpay_signature"))

    def parse_webhook(self, account: Account, headers: Mapping[str, str], body: bytes, now: datetime) -> ProviderEvent:  # noqa: ARG002 - Razorpay signs no time
        """Check hex(HMAC_SHA256(webhook_secret, body)) against every active secret, then translate."""
        require(account.webhook_secrets, body, headers.get("x-razorpay-signature"))
        dedupe_key = headers.get("x-razorpay-event-id") or digest(body)
        try:
            parsed = parse_json(body)
        except ValueError:
            parsed = None
        if not isinstance(parsed, dict):
            return ProviderEvent(dedupe_key, "unreadable", EventKind.IGNORED)
        ours, theirs = account.credentials.get("account_id"), text(parsed, "account_id")
        if ours and theirs and ours != theirs:
            reason = "the event belongs to another account"
            raise BadSignature(reason)
        return wire.event(parsed, dedupe_key)

    def settlement_lines(self, account: Account, day: date) -> Sequence[SettlementLine] | NotSent | Unknown:
        """What was settled on one Indian day: GET /settlements/recon/combined, page by page."""
        lines: list[SettlementLine] = []
        query = f"year={day.year}&month={day.month:02d}&day={day.day:02d}&count={_PAGE}"
        exchange = None
        for page in range(_SETTLEMENT_PAGES):
            answer = self._call(account, "GET", f"/settlements/recon/combined?{query}&skip={page * _PAGE}")
            if isinstance(answer, NotSent | Unknown):
                return answer
            exchange = answer.exchange
            items = answer.body.get("items")
            if not answer.ok or not isinstance(items, list):
                return Unknown(unknown(f"http_{answer.status}"), exchange)
            found = [wire.settlement_line(row) for row in rows(answer.body, "items")]
            lines += [line for line in found if line is not None]
            if len(items) < _PAGE:
                return lines
        return Unknown(unknown("too_many_lines"), exchange)

    def _order(self, account: Account, intent: ChargeIntent) -> _Order | ChargeOutcome:
        """A fresh order for this reference, or how the charge already stands if it was used before."""
        answer = self._call(account, "POST", "/orders", wire.order_payload(intent))
        if isinstance(answer, NotSent):
            return answer
        if isinstance(answer, Unknown):
            # An order charges nobody, and nobody but us could pay this one: the charge was not sent.
            return NotSent(error_of(UNAVAILABLE, answer.error.provider_code), answer.exchange, answer.retry_after)
        if not answer.ok:
            if wire.RECEIPT_TAKEN in wire.description(answer):
                return self._standing(account, intent, answer)
            charge = wire.refused_charge(answer, None)
            return charge if charge is not None else self._standing(account, intent, answer)
        order_id = text(answer.body, "id")
        if order_id is None:
            return NotSent(unreadable(answer).error, answer.exchange, answer.retry_after)
        amount, currency = integer(answer.body, "amount"), text(answer.body, "currency")
        if (amount, currency) != (intent.amount, intent.currency):
            # The receipt belongs to an order for something else. Nothing was charged on it by us.
            error = PaymentError(ErrorClass.CONFLICT, ErrorCode.MISMATCH, "The provider's order is for another amount.")
            return Charge(
                ChargeStatus.DECLINED,
                amount=amount,
                currency=currency,
                error=error,
                data={"order_id": order_id},
                exchange=answer.exchange,
            )
        if text(answer.body, "status") != "created" or integer(answer.body, "attempts"):
            return self._standing(account, intent, answer)
        return _Order(order_id, answer.exchange)

    def _standing(self, account: Account, intent: ChargeIntent, answer: Answer) -> ChargeOutcome:
        """How a charge stands that was begun before; with no payment to see yet it is unknown."""
        found = self._by_receipt(account, intent.reference)
        if isinstance(found, _Order) and wire.is_checkout(intent.method):
            return self._checkout(account, found, intent, intent.return_url)
        if isinstance(found, Charge):
            return found
        error = found.error if isinstance(found, NotSent | Unknown) else unknown("duplicate_request")
        return Unknown(error, answer.exchange, answer.retry_after)

    def _by_receipt(self, account: Account, reference: str) -> ChargeLookup | _Order:
        answer = self._call(account, "GET", f"/orders?receipt={quote(reference, safe='')}&count={_PAGE}")
        if isinstance(answer, NotSent | Unknown):
            return answer
        if not answer.ok:
            return Unknown(unknown(f"http_{answer.status}"), answer.exchange, answer.retry_after)
        # The filter is checked again here: a list of other people's orders must never match.
        orders = [text(row, "id") for row in rows(answer.body, "items") if text(row, "receipt") == reference]
        return self._order_payments(account, [order for order in orders if order])

    def _order_payments(self, account: Account, order_ids: list[str]) -> ChargeLookup | _Order:
        """The payment that decides these orders, or an order that nobody has tried to pay."""
        payments: list[Mapping[str, object]] = []
        nothing: _Order | NotFound = NotFound()
        for order_id in order_ids:
            answer = self._look(account, f"/orders/{quote(order_id, safe='')}/payments")
            if isinstance(answer, NotSent | Unknown):
                return answer
            if isinstance(answer, Answer):
                nothing = _Order(order_id, answer.exchange)
                payments += [{"order_id": order_id, **row} for row in rows(answer.body, "items")]
        entity = wire.best(payments)
        return nothing if entity is None else replace(wire.charge(entity), exchange=nothing.exchange)

    def _payment(self, account: Account, payment_id: str, order_id: str | None) -> ChargeLookup:
        answer = self._look(account, f"/payments/{quote(payment_id, safe='')}")
        if not isinstance(answer, Answer):
            return answer
        return replace(wire.charge(answer.body, order_id), exchange=answer.exchange)

    def _checkout(
        self, account: Account, order: _Order, about: ChargeIntent | ChargeRef, callback_url: str | None
    ) -> Charge:
        """What the customer's browser needs to open Razorpay's checkout for an order."""
        data = {"order_id": order.id} | ({"callback_url": callback_url} if callback_url else {})
        params = {"key_id": account.credentials.get("key_id", ""), **data, **wire.checkout_fields(about)}
        action = {"type": "provider_checkout", "provider": self.name, "params": params}
        return Charge(ChargeStatus.ACTION_REQUIRED, next_action=action, data=data, exchange=order.exchange)

    def _payment_id(self, account: Account, charge: ChargeRef) -> str | EffectOutcome:
        """The payment's id; when we never learned it, asked for before anything is sent."""
        if charge.provider_reference:
            return charge.provider_reference
        found = self.fetch(account, charge)
        if isinstance(found, Charge) and found.provider_reference:
            return found.provider_reference
        if isinstance(found, NotSent):
            return found
        if isinstance(found, Unknown):
            return NotSent(error_of(UNAVAILABLE, found.error.provider_code), found.exchange, found.retry_after)
        error = conflict("The provider has no such charge.", None)
        return Effect(EffectStatus.FAILED, error=error, exchange=found.exchange)

    def _find_refund(self, account: Account, payment_id: str, key: str) -> EffectLookup:
        path = f"/payments/{quote(payment_id, safe='')}/refunds"
        exchange = None
        for page in range(_PAGES):
            answer = self._look(account, f"{path}?count={_PAGE}&skip={page * _PAGE}")
            if not isinstance(answer, Answer):
                return answer
            exchange = answer.exchange
            refunds = rows(answer.body, "items")
            for entity in refunds:
                if text(entity, "receipt") == key:
                    return replace(wire.refund_effect(entity), exchange=exchange)
            if len(refunds) < _PAGE:
                return NotFound(exchange)
        return Unknown(unknown("too_many_refunds"), exchange)

    def _look(self, account: Account, path: str) -> Answer | NotFound | NotSent | Unknown:
        """Ask for what is at ``path``; an Answer shows it."""
        answer = self._call(account, "GET", path)
        if not isinstance(answer, Answer) or answer.ok:
            return answer
        if wire.is_missing(answer):
            return NotFound(answer.exchange)
        return Unknown(unknown(f"http_{answer.status}"), answer.exchange, answer.retry_after)

    def _call(
        self,
        account: Account,
        method: str,
        path: str,
        payload: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer | NotSent | Unknown:
        pair = f"{account.credentials.get('key_id', '')}:{account.credentials.get('key_secret', '')}"
        authorization = "Basic " + b64encode(pair.encode()).decode()
        sent = {"authorization": authorization, **(headers or {})}
        return call(self._http, method, account.base_url, path, headers=sent, payload=payload)
