"""Cashfree: an order whose id is our reference, then a server-to-server payment on it.

Only the payment moves money, so whatever goes wrong with the order is NotSent, and whatever goes
wrong with the payment afterwards is looked up through the order, never sent again. A card is paid
on Cashfree's own page, which its browser SDK opens with the order's session.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import quote
from uuid import NAMESPACE_OID, uuid5

from chalicelib.domain.errors import ErrorClass, ErrorCode, PaymentError
from chalicelib.domain.money import from_decimal
from chalicelib.domain.outcome import (
    Charge,
    ChargeStatus,
    Effect,
    EffectStatus,
    EventKind,
    NotFound,
    NotSent,
    ProviderEvent,
    SettlementLine,
    Unknown,
)
from chalicelib.providers import cashfree_errors as errors
from chalicelib.providers import cashfree_events as told
from chalicelib.providers import cashfree_wire as wire
from chalicelib.providers.base import (
    Account,
    BadSignature,
    Capabilities,
    ChargeIntent,
    ChargeRef,
    Connection,
    Credential,
)
from chalicelib.providers.calls import Answer, call, conflict, rows, text, unknown, unreadable
from chalicelib.providers.http import parse_json
from chalicelib.providers.refusals import has_failed, is_definite, refused
from chalicelib.providers.signatures import digest, require

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date, datetime

    from chalicelib.domain.outcome import ChargeLookup, ChargeOutcome, EffectLookup, EffectOutcome
    from chalicelib.providers.http import HttpClient

_DAY = 24 * 3600
_PAGE = 250  # lines of a settlement report; a thousand, which it allows, may be more than a client takes
_PAGES = 400  # the bound only ends a broken report
_METHODS = frozenset({"upi", "netbanking", "wallet", "card"})
_UNSEEN = "The charge could not be looked up; nothing was sent."


class CashfreeProvider:
    """The Cashfree adapter. ``credentials``: client_id, and client_secret, which signs webhooks as well."""

    name = "cashfree"
    capabilities = Capabilities(
        methods=_METHODS,
        currencies=frozenset({"INR"}),
        min_amount=100,
        max_amount=99_999_999_999,
        manual_capture=frozenset({"upi"}),
        partial_capture=True,
        partial_refund=True,
        void="api",
        idempotency_window=0,
        operation_idempotency_window=_DAY,
        settle_window=45,
        authorization_window=int(wire.HOLD.total_seconds()),
        closes_unpaid=True,
        required=frozenset({"customer.contact"}),
    )
    connection = Connection(
        credentials=(Credential("client_id", secret=False), Credential("client_secret")),
        webhook_secret="client_secret",  # noqa: S106 - the name of it
        base_urls={"live": wire.LIVE, "test": wire.TEST},
    )

    def __init__(self, http: HttpClient) -> None:
        """``http`` is shared by every adapter."""
        self._http = http

    def create(self, account: Account, intent: ChargeIntent) -> ChargeOutcome:
        """Make the order and the payment, and ask once how the payment stands."""
        order = self._order(account, intent)
        if not isinstance(order, Answer):
            return order
        if _waits(intent):
            waiting = wire.unpaid(order.body, None, wire.CHECKOUT, account.base_url)
            return replace(waiting, exchange=order.exchange) if waiting else unreadable(order)
        payload = wire.pay_payload(intent, text(order.body, "payment_session_id") or "")
        answer = self._call(account, "POST", "/orders/sessions", payload, f"pay/{intent.reference}")
        if isinstance(answer, NotSent | Unknown):
            return answer
        if not answer.ok:
            charge = errors.refused_charge(answer)
            return charge if charge is not None else self._standing(account, intent, answer)
        payment_id = wire.ident(answer.body, "cf_payment_id")
        if payment_id is None:
            return unreadable(answer)
        action = wire.next_action(answer.body)
        if action is not None:
            return Charge(
                ChargeStatus.ACTION_REQUIRED,
                payment_id,
                next_action=action,
                data={"waits": wire.CUSTOMER},
                exchange=answer.exchange,
            )
        # The answer names the payment but not how it stands. If this look-up fails the payment is
        # still known to exist, so it is pending and not unknown.
        found = self._look(account, intent.reference, None)
        if isinstance(found, Charge):
            return replace(found, exchange=answer.exchange)
        return Charge(ChargeStatus.PENDING, payment_id, exchange=answer.exchange)

    def fetch(self, account: Account, charge: ChargeRef) -> ChargeLookup:
        """By our reference, which is the order's id: the best of its payments is the charge."""
        return self._look(account, charge.reference, charge.data.get("waits"))

    def capture(self, account: Account, charge: ChargeRef, amount: int, key: str) -> EffectOutcome:
        """Take ``amount`` of the authorization, which may be a part of it."""
        payload = {"action": "CAPTURE", "amount": wire.rupees(amount, charge.currency)}
        return self._authorization(account, charge, payload, key, ChargeStatus.SUCCEEDED)

    def void(self, account: Account, charge: ChargeRef, key: str) -> EffectOutcome:
        """Release what is held, or end an order that nobody has paid yet."""
        now = self._look(account, charge.reference, charge.data.get("waits"))
        if isinstance(now, NotSent):
            return now
        if isinstance(now, Unknown):
            return NotSent(_unavailable(_UNSEEN, now), now.exchange, now.retry_after)
        if isinstance(now, Charge):
            if now.status is ChargeStatus.AUTHORIZED:
                return self._authorization(account, charge, {"action": "VOID"}, key, ChargeStatus.CANCELED)
            if now.status is ChargeStatus.CANCELED:
                return _done(now, ChargeStatus.CANCELED)
            if now.status is ChargeStatus.SUCCEEDED:
                error = conflict("The charge has been captured.", None)
                return Effect(EffectStatus.FAILED, now.provider_reference, error=error, exchange=now.exchange)
        return self._terminate(account, charge)

    def refund(self, account: Account, charge: ChargeRef, amount: int, key: str) -> EffectOutcome:
        """Refund ``amount``; the refund's id is our key, so that a repeat finds the first one."""
        payload = {
            "refund_amount": wire.rupees(amount, charge.currency),
            "refund_id": key,
            "refund_speed": "STANDARD",
        }
        answer = self._call(account, "POST", f"{_order_path(charge.reference)}/refunds", payload, f"refund/{key}")
        if isinstance(answer, NotSent | Unknown):
            return answer
        if answer.ok:
            return _refund(answer)
        undecided = errors.undecided(answer)
        if isinstance(undecided, NotSent):
            return undecided
        # What stands in the way may be an earlier try with this key; then that is the truth.
        found = self.fetch_refund(account, charge, key, None)
        if isinstance(found, Effect):
            return found
        if isinstance(found, NotSent | Unknown):
            return Unknown(found.error, answer.exchange, answer.retry_after)
        error = errors.effect_refusal(answer)
        return undecided or refused(error, answer, failed=is_definite(error) and not errors.is_repeat(answer))

    def fetch_refund(
        self, account: Account, charge: ChargeRef, key: str, provider_reference: str | None
    ) -> EffectLookup:
        """By our key, or among the order's refunds by Cashfree's own id."""
        path = f"{_order_path(charge.reference)}/refunds"
        if provider_reference is None:
            path = f"{path}/{quote(key, safe='')}"
        answer = self._call(account, "GET", path)
        if isinstance(answer, NotSent | Unknown):
            return answer
        if errors.is_missing(answer):
            return NotFound(answer.exchange)
        if not answer.ok:
            return Unknown(unknown(f"http_{answer.status}"), answer.exchange, answer.retry_after)
        if provider_reference is None:
            return _refund(answer)
        for entity in rows(answer.body, "items"):
            if wire.ident(entity, "cf_refund_id") == provider_reference:
                return replace(wire.refund_effect(entity), exchange=answer.exchange)
        return NotFound(answer.exchange)

    def verify_return(self, account: Account, charge: ChargeRef, params: Mapping[str, str]) -> None:  # noqa: ARG002 - Cashfree signs no return
        """The browser brings nothing but the order's id, which has to be this charge's."""
        if params.get("order_id") != charge.reference:
            reason = "the return is of another order"
            raise BadSignature(reason)

    def parse_webhook(self, account: Account, headers: Mapping[str, str], body: bytes, now: datetime) -> ProviderEvent:  # noqa: ARG002 - see below
        """Check base64(HMAC_SHA256(client_secret, timestamp + body)) against every active secret, then translate.

        The age is not looked at: Cashfree does not document whether a retry is stamped anew.
        """
        stamp = headers.get("x-webhook-timestamp", "")
        if not (stamp.isascii() and stamp.isdigit()):
            reason = "there is no timestamp"
            raise BadSignature(reason)
        require(account.webhook_secrets, stamp.encode() + body, headers.get("x-webhook-signature"), make=told.sign)
        try:
            parsed = parse_json(body)
        except ValueError:
            parsed = None
        key = headers.get("x-idempotency-key")
        if not isinstance(parsed, dict):
            return ProviderEvent(key or digest(body), "unreadable", EventKind.IGNORED)
        return told.event(parsed, key or told.dedupe_key(parsed, body))

    def settlement_lines(self, account: Account, day: date) -> Sequence[SettlementLine] | NotSent | Unknown:
        """What Cashfree settled of one day in India, all pages of it."""
        filters = {"start_date": f"{day.isoformat()}T00:00:00+05:30", "end_date": f"{day.isoformat()}T23:59:59+05:30"}
        lines: list[SettlementLine] = []
        cursor: str | None = None
        for _ in range(_PAGES):
            payload = {"pagination": {"limit": _PAGE, "cursor": cursor}, "filters": filters}
            answer = self._call(account, "POST", "/settlement/recon", payload)
            if isinstance(answer, NotSent | Unknown):
                return answer
            if not answer.ok:
                return Unknown(errors.refusal(answer), answer.exchange, answer.retry_after)
            read = [told.settlement_line(row) for row in rows(answer.body, "data")]
            if None in read or not isinstance(answer.body.get("data"), list):
                return unreadable(answer)  # a report with a hole in it is none
            lines += [line for line in read if isinstance(line, SettlementLine)]
            last, cursor = cursor, text(answer.body, "cursor")
            if cursor is None or not read:
                return lines
            if cursor == last:
                break
        return Unknown(unknown("endless_report"))

    def _order(self, account: Account, intent: ChargeIntent) -> Answer | ChargeOutcome:
        """A fresh order, or how the charge already stands if its id was used before."""
        # No idempotency key: with one a used id would look like a fresh order, and be paid twice.
        answer = self._call(account, "POST", "/orders", wire.order_payload(intent))
        if isinstance(answer, Unknown):
            # An order charges nobody, and if it is there it bears our reference.
            lost, answer = answer, self._call(account, "GET", _order_path(intent.reference))
            if not isinstance(answer, Answer) or not answer.ok:
                error = _unavailable("The provider did not take the order; no charge was sent.", lost)
                return NotSent(error, lost.exchange, lost.retry_after)
        if isinstance(answer, NotSent):
            return answer
        if not answer.ok:
            charge = errors.refused_charge(answer)
            return charge if charge is not None else self._standing(account, intent, answer)
        other = _other_order(intent, answer)
        if other is not None:
            return other
        if text(answer.body, "order_status") != wire.ACTIVE:
            return self._standing(account, intent, answer)
        if text(answer.body, "payment_session_id") is None:
            return NotSent(unreadable(answer).error, answer.exchange, answer.retry_after)
        return answer

    def _standing(self, account: Account, intent: ChargeIntent, answer: Answer) -> ChargeOutcome:
        """How a charge stands that was begun before; with no payment to see yet it is unknown."""
        order = self._call(account, "GET", _order_path(intent.reference))
        if isinstance(order, Answer) and order.ok:
            other = _other_order(intent, order)
            if other is not None:
                return other
        found = self._look(account, intent.reference, _waits(intent))
        if isinstance(found, Charge):
            return found
        error = unknown("order_already_exists") if isinstance(found, NotFound) else found.error
        return Unknown(error, answer.exchange, answer.retry_after)

    def _look(self, account: Account, reference: str, waits: str | None) -> ChargeLookup:
        """The payment that decides the order, or the order itself while nobody has tried to pay it."""
        path = _order_path(reference)
        answer = self._call(account, "GET", f"{path}/payments")
        if isinstance(answer, NotSent | Unknown):
            return answer
        if errors.is_missing(answer):
            return NotFound(answer.exchange)
        if not answer.ok or not isinstance(answer.body.get("items"), list):
            return Unknown(unknown(f"http_{answer.status}"), answer.exchange, answer.retry_after)
        entity = wire.best(rows(answer.body, "items"))
        if entity is not None and text(entity, "payment_status") != wire.NOT_ATTEMPTED:
            return replace(wire.charge(entity, waits=waits), exchange=answer.exchange)
        order = self._call(account, "GET", path)
        if isinstance(order, NotSent | Unknown):
            return order
        if errors.is_missing(order):
            return NotFound(order.exchange)
        if not order.ok:
            return Unknown(unknown(f"http_{order.status}"), order.exchange, order.retry_after)
        found = wire.unpaid(order.body, entity, waits, account.base_url)
        return NotFound(order.exchange) if found is None else replace(found, exchange=order.exchange)

    def _authorization(
        self, account: Account, charge: ChargeRef, payload: Mapping[str, object], key: str, wanted: ChargeStatus
    ) -> EffectOutcome:
        """Capture or void; anything but a plain yes is checked against the payment's real state."""
        path, operation = f"{_order_path(charge.reference)}/authorization", f"{payload['action']}/{key}"
        answer = self._call(account, "POST", path, payload, operation)
        if isinstance(answer, NotSent | Unknown):
            return answer
        if answer.ok:
            said = wire.charge(answer.body)
            if said.status is wanted and said.amount is not None:
                return replace(_done(said, wanted), exchange=answer.exchange)
        else:
            undecided = errors.undecided(answer)
            if undecided is not None:
                return undecided
        now = self._look(account, charge.reference, None)
        if isinstance(now, NotSent | Unknown):
            return Unknown(now.error, answer.exchange, answer.retry_after)
        if isinstance(now, Charge) and now.status is wanted:
            return unreadable(answer) if now.amount is None else replace(_done(now, wanted), exchange=answer.exchange)
        if answer.ok:
            return Effect(EffectStatus.PENDING, currency=charge.currency, exchange=answer.exchange)
        error = errors.effect_refusal(answer)
        return refused(error, answer, failed=has_failed(error, now.status if isinstance(now, Charge) else None))

    def _terminate(self, account: Account, charge: ChargeRef) -> EffectOutcome:
        """End the order, so that nobody can pay it any more."""
        answer = self._call(account, "PATCH", _order_path(charge.reference), {"order_status": "TERMINATED"})
        if isinstance(answer, NotSent | Unknown):
            return answer
        if not answer.ok:
            error = errors.effect_refusal(answer)
            # "It is not active any more" may be the doing of an earlier try of ours.
            failed = has_failed(error, ChargeStatus.ACTION_REQUIRED)
            return errors.undecided(answer) or refused(error, answer, failed=failed)
        raw, currency = text(answer.body, "order_status"), text(answer.body, "order_currency")
        status = wire.TERMINATIONS.get(raw or "", EffectStatus.PENDING)
        paid = conflict("The order has been paid.", raw) if status is EffectStatus.FAILED else None
        amount = from_decimal(answer.body.get("order_amount"), currency or "")
        return Effect(status, None, amount, currency, paid, answer.exchange)

    def _call(
        self,
        account: Account,
        method: str,
        path: str,
        payload: Mapping[str, object] | None = None,
        operation: str | None = None,
    ) -> Answer | NotSent | Unknown:
        """One call; ``operation`` names the effect, and makes the idempotency key, which has to be a UUID."""
        headers = {
            "x-client-id": account.credentials.get("client_id", ""),
            "x-client-secret": account.credentials.get("client_secret", ""),
            "x-api-version": wire.VERSION,
        }
        if operation is not None:
            headers["x-idempotency-key"] = str(uuid5(NAMESPACE_OID, f"railyard/{operation}"))
        return call(self._http, method, account.base_url, path, headers=headers, payload=payload)


def _waits(intent: ChargeIntent) -> str | None:
    """A card's number is typed in on Cashfree's own page; everything else is paid from here."""
    return wire.CHECKOUT if intent.method["type"] == "card" else None


def _order_path(reference: str) -> str:
    return f"/orders/{quote(reference, safe='')}"


def _unavailable(message: str, lost: Unknown) -> PaymentError:
    return PaymentError(
        ErrorClass.PROVIDER_UNAVAILABLE, ErrorCode.PROVIDER_UNAVAILABLE, message, lost.error.provider_code
    )


def _other_order(intent: ChargeIntent, answer: Answer) -> Charge | None:
    """An order under our reference that is for something else; nothing was charged on it by us."""
    currency = text(answer.body, "order_currency")
    amount = from_decimal(answer.body.get("order_amount"), currency or "")
    if (amount, currency) == (intent.amount, intent.currency):
        return None
    error = PaymentError(ErrorClass.CONFLICT, ErrorCode.MISMATCH, "The provider's order is for another amount.")
    return Charge(
        ChargeStatus.DECLINED,
        amount=amount,
        currency=currency,
        error=error,
        exchange=answer.exchange,
        retry_after=answer.retry_after,
    )


def _done(now: Charge, wanted: ChargeStatus) -> Effect:
    """The capture or void that the charge's state confirms."""
    amount = now.captured if wanted is ChargeStatus.SUCCEEDED else now.amount
    return Effect(EffectStatus.SUCCEEDED, now.provider_reference, amount, now.currency, exchange=now.exchange)


def _refund(answer: Answer) -> Effect | Unknown:
    """The refund that an answer shows."""
    if wire.ident(answer.body, "cf_refund_id") is None:
        return unreadable(answer)
    return replace(wire.refund_effect(answer.body), exchange=answer.exchange)
