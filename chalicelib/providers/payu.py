"""PayU India: a signed form that the customer's browser posts to PayU's page, and the postservice for the rest.

We send nothing to make a charge, so none can be lost: it begins when the browser posts the form, and
the same form comes out of every repeat. Every command to the postservice is a form with a hash;
business errors arrive as HTTP 200 and JSON as text/html.

Money moves only on the transaction that PayU itself names under our txnid: the id that a notice brings
is not signed. It is asked for before every command, also because one and the same command cancels what
is held and refunds what was taken. Afterwards PayU's list of actions tells what became of our token.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from chalicelib.domain.ids import short_reference
from chalicelib.domain.money import from_decimal, to_decimal_string
from chalicelib.domain.outcome import Charge, ChargeStatus, Effect, EffectStatus, NotFound, NotSent, Unknown
from chalicelib.providers import payu_events as events
from chalicelib.providers import payu_wire as wire
from chalicelib.providers.base import (
    Account,
    BadSignature,
    Capabilities,
    ChargeIntent,
    ChargeRef,
    Connection,
    Credential,
)
from chalicelib.providers.calls import Answer, call, conflict, misconfigured, unknown, unreadable
from chalicelib.providers.payu_codes import ACCOUNT_SAYINGS, BUSY_SAYING
from chalicelib.providers.reasons import NOT_TAKEN, error_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date, datetime

    from chalicelib.domain.outcome import (
        ChargeLookup,
        ChargeOutcome,
        EffectLookup,
        EffectOutcome,
        ProviderEvent,
        SettlementLine,
    )
    from chalicelib.providers.http import HttpClient

_DAY = 24 * 3600
_POSTSERVICE = "/merchant/postservice.php?form=2"
_PAGE = 500  # rows of a settlement report; PayU's default of 2,000 would be more than an answer may hold
_PAGES = 1000  # only ends a report that never does
_REVERSAL = "op_"  # how the id of an operation begins that refunds and is no refund
_S = ChargeStatus
_Actions = tuple[Answer, "list[Mapping[str, object]]"]


class PayuProvider:
    """The PayU adapter. ``credentials``: key and salt, which signs requests, responses and webhooks alike."""

    name = "payu"
    capabilities = Capabilities(
        methods=frozenset({"upi", "netbanking", "wallet", "card"}),
        currencies=frozenset({wire.CURRENCY}),
        min_amount=100,
        max_amount=99_999_999_999,
        manual_capture=frozenset({"card"}),
        partial_capture=False,
        partial_refund=True,
        void="api",
        idempotency_window=_DAY,
        operation_idempotency_window=_DAY,
        settle_window=45,
        authorization_window=5 * _DAY,  # PayU names no number; card networks let go after about a week
        required=frozenset({"return_url", "customer.name", "customer.email", "customer.contact"}),
    )
    connection = Connection(
        credentials=(Credential("key", secret=False, identity=True), Credential("salt")),
        webhook_secret="salt",  # noqa: S106 - the name of it
        base_urls={"test": "https://test.payu.in", "live": "https://secure.payu.in"},
    )

    def __init__(self, http: HttpClient) -> None:
        """``http`` is shared by every adapter."""
        self._http = http

    def create(self, account: Account, intent: ChargeIntent) -> ChargeOutcome:
        """The form for the customer's browser; nothing is sent."""
        key, salt = account.credentials.get("key"), account.credentials.get("salt")
        if not key or not salt:
            return NotSent(misconfigured("no_credentials"))
        fields = wire.payment_form(intent, key, salt)
        if isinstance(fields, str):
            return NotSent(error_of(NOT_TAKEN, f"no_{fields}"))
        action = {"type": "form_post", "url": f"{account.base_url.rstrip('/')}/_payment", "fields": fields}
        return Charge(_S.ACTION_REQUIRED, next_action=action)

    def fetch(self, account: Account, charge: ChargeRef) -> ChargeLookup:
        """verify_payment by our txnid, whatever id of PayU's is known: it finds the transaction that counts."""
        txnid = short_reference(charge.reference)
        answer = self._command(account, "verify_payment", txnid)
        return wire.transaction(answer, txnid) if isinstance(answer, Answer) else answer

    def capture(self, account: Account, charge: ChargeRef, amount: int, key: str) -> EffectOutcome:
        """Take the whole authorization; PayU takes no other amount."""
        now = self._standing(account, charge)
        if not isinstance(now, Charge):
            return now
        if now.status is _S.SUCCEEDED:
            return _captured(now)
        if now.status is not _S.AUTHORIZED:
            return self._otherwise(account, now, key, "capture")
        outcome = self._act(account, now, "capture_transaction", amount, key, "capture")
        if not isinstance(outcome, Effect) or outcome.status is EffectStatus.SUCCEEDED:
            return outcome
        after = self.fetch(account, charge)
        if isinstance(after, Charge) and after.status is _S.SUCCEEDED:
            return replace(_captured(after), exchange=outcome.exchange)
        unsure = not isinstance(after, Charge) and _has(outcome, EffectStatus.FAILED)
        return Unknown(unknown("unconfirmed"), outcome.exchange) if unsure else outcome

    def void(self, account: Account, charge: ChargeRef, key: str) -> EffectOutcome:
        """Release an authorization; what has been captured is left alone.

        No request id is returned: how the charge stands tells what became of a cancelation.
        """
        now = self._standing(account, charge)
        if not isinstance(now, Charge):
            return now
        if now.status is _S.CANCELED:
            return Effect(EffectStatus.SUCCEEDED, None, now.amount, now.currency, exchange=now.exchange)
        if now.status is _S.AUTHORIZED:
            outcome = self._act(account, now, "cancel_refund_transaction", charge.amount, key, "cancel")
        else:
            outcome = self._otherwise(account, now, key, "cancel")
        return replace(outcome, provider_reference=None) if isinstance(outcome, Effect) else outcome

    def refund(self, account: Account, charge: ChargeRef, amount: int, key: str) -> EffectOutcome:
        """Give ``amount`` back; a repeat with the same key returns the first refund."""
        now = self._standing(account, charge)
        if not isinstance(now, Charge):
            return now
        if now.status is not _S.SUCCEEDED:
            return self._otherwise(account, now, key, "refund")
        if key.startswith(_REVERSAL):
            # It may have canceled before, too late and under another token: that one is a refund already.
            before = self._listed(account, now.provider_reference or "", key, "refund")
            if not isinstance(before, NotFound):
                return before
        return self._act(account, now, "cancel_refund_transaction", amount, key, "refund")

    def fetch_refund(
        self, account: Account, charge: ChargeRef, key: str, provider_reference: str | None
    ) -> EffectLookup:
        """By PayU's request id, else among the transaction's actions by our token."""
        if not provider_reference:
            now: ChargeLookup | None = None if charge.provider_reference else self.fetch(account, charge)
            payuid = now.provider_reference if isinstance(now, Charge) else charge.provider_reference
            if payuid is None:
                return now if isinstance(now, NotSent | Unknown | NotFound) else NotFound()
            return self._listed(account, payuid, key, "refund")
        shown = self._actions(account, provider_reference)
        if not isinstance(shown, tuple):
            return shown
        answer, rows = shown
        row = next((row for row in rows if wire.word(row, "request_id") == provider_reference), None)
        if row is None or wire.word(row, "action") != "refund":
            return NotFound(answer.exchange)
        if key and wire.row_of([row], key, "refund") is None:
            return NotFound(answer.exchange)
        # A hint may name any refund of this account: it counts only for the transaction it belongs to.
        payuid = wire.word(row, "mihpayid")
        if payuid != charge.provider_reference:
            found = self.fetch(account, charge)
            if not isinstance(found, Charge):
                return found
            if payuid != found.provider_reference:
                return NotFound(answer.exchange)
        return wire.action_effect(row, answer)

    def verify_return(self, account: Account, charge: ChargeRef, params: Mapping[str, str]) -> None:
        """Check the response hash over what PayU posted back, and that it is about this charge."""
        self._check_key(account, params)
        wire.check(account.webhook_secrets, params)
        about = params.get("txnid"), from_decimal(params.get("amount"), charge.currency)
        if about != (short_reference(charge.reference), charge.amount):
            reason = "the return is about another charge"
            raise BadSignature(reason)

    def parse_webhook(self, account: Account, headers: Mapping[str, str], body: bytes, now: datetime) -> ProviderEvent:  # noqa: ARG002 - the hash is in the body, and PayU signs no time
        """Check the response hash of a payment's notice under every active salt; a refund's has none."""
        fields = events.fields_of(body)
        if "hash" not in fields and fields.get("action") == "refund":
            self._check_key(account, fields)
            return events.refund_hint(fields, body)
        wire.check(account.webhook_secrets, fields)
        if fields.get("key"):
            self._check_key(account, fields)
        return events.notice(fields, body)

    def settlement_lines(self, account: Account, day: date) -> Sequence[SettlementLine] | NotSent | Unknown:
        """What PayU settled on one Indian day: get_settlement_details, page by page."""
        lines: list[SettlementLine] = []
        exchange = None
        for page in range(1, _PAGES + 1):
            answer = self._command(account, "get_settlement_details", day.isoformat(), str(page), str(_PAGE))
            if not isinstance(answer, Answer):
                return answer
            exchange = answer.exchange
            rows = wire.settlement_rows(answer)
            if rows is None:
                return unreadable(answer)
            found = [line for line in (wire.settlement_line(row, day) for row in rows) if line is not None]
            if len(found) < len(rows):
                return Unknown(unknown("unreadable_line"), exchange)
            if set(found) <= set(lines):  # nothing new: past the last page
                return lines
            lines += found
            if len(rows) < _PAGE:
                return lines
        return Unknown(unknown("too_many_lines"), exchange)

    @staticmethod
    def _check_key(account: Account, fields: Mapping[str, str]) -> None:
        key = account.credentials.get("key")
        if not key or fields.get("key") != key:
            reason = "this is about another account"
            raise BadSignature(reason)

    def _standing(self, account: Account, charge: ChargeRef) -> Charge | EffectOutcome:
        """How the charge stands before anything is sent about it. We know that there is one, so it is not nothing."""
        found = self.fetch(account, charge)
        return Unknown(unknown("not_found"), found.exchange) if isinstance(found, NotFound) else found

    def _otherwise(self, account: Account, now: Charge, key: str, action: str) -> EffectOutcome:
        """A cancelation or refund of a charge that is not in the state for it: an earlier try of ours may be why."""
        found = self._listed(account, now.provider_reference or "", key, action)
        if not isinstance(found, NotFound):
            return found
        code = now.status.value
        if now.status is _S.PENDING:
            return Unknown(unknown(code), now.exchange, now.retry_after)
        error = conflict("The provider has this in another state.", code)
        return Effect(EffectStatus.FAILED, error=error, exchange=now.exchange)

    def _act(self, account: Account, now: Charge, command: str, amount: int, key: str, action: str) -> EffectOutcome:
        """Send a command under our token, then look at what PayU lists under it.

        A refusal is final only if nothing of ours is listed, and no earlier try of ours can be why.
        """
        payuid, used = now.provider_reference or "", wire.token(key, action)
        answer = self._command(account, command, payuid, used, to_decimal_string(amount, wire.CURRENCY))
        if not isinstance(answer, Answer):
            return answer
        outcome = wire.said(answer)
        shown = self._actions(account, payuid, "payuid")
        if not isinstance(shown, tuple):
            return (
                Unknown(shown.error, answer.exchange, answer.retry_after)
                if _has(outcome, EffectStatus.FAILED)
                else outcome
            )
        found = _ours(shown, key, action)
        if isinstance(found, Effect):
            return replace(found, exchange=answer.exchange)
        if not _has(outcome, EffectStatus.FAILED):
            return outcome
        explained = action == "refund" and wire.leaves_less(shown[1], now.captured, amount)
        if isinstance(found, Unknown) or (wire.is_doubtful(answer) and not explained):
            return Unknown(unknown("unexplained"), answer.exchange, answer.retry_after)
        return outcome

    def _listed(self, account: Account, payuid: str, key: str, action: str) -> EffectLookup:
        """What PayU lists under our token among the actions of a transaction."""
        shown = self._actions(account, payuid, "payuid")
        return _ours(shown, key, action) if isinstance(shown, tuple) else shown

    def _actions(self, account: Account, name: str, *by: str) -> _Actions | NotSent | Unknown:
        """What check_action_status shows under a request id or, with "payuid", of a transaction."""
        answer = self._command(account, "check_action_status", name, *by)
        if not isinstance(answer, Answer):
            return answer
        rows = wire.actions(answer, name)
        return unreadable(answer) if rows is None else (answer, rows)

    def _command(self, account: Account, command: str, *variables: str) -> Answer | NotSent | Unknown:
        """One call to the postservice; an Answer is the business of whoever asked."""
        key, salt = account.credentials.get("key"), account.credentials.get("salt")
        if not key or not salt:
            return NotSent(misconfigured("no_credentials"))
        form = {
            "key": key,
            "command": command,
            "hash": wire.command_hash(salt, key, command, variables[0]),
            **{f"var{number}": value for number, value in enumerate(variables, 1)},
        }
        answer = call(self._http, "POST", wire.info_url(account.base_url), _POSTSERVICE, headers={}, form=form)
        if not isinstance(answer, Answer):
            return answer
        said = wire.message(answer)
        if BUSY_SAYING in said:
            return NotSent(error_of(wire.BUSY, "requests_limit_reached"), answer.exchange, answer.retry_after)
        if any(saying in said for saying in ACCOUNT_SAYINGS):
            return NotSent(misconfigured("invalid_hash"), answer.exchange, answer.retry_after)
        return answer if answer.ok else Unknown(unknown(f"http_{answer.status}"), answer.exchange, answer.retry_after)


def _has(outcome: EffectOutcome, status: EffectStatus) -> bool:
    return isinstance(outcome, Effect) and outcome.status is status


def _ours(shown: _Actions, key: str, action: str) -> Effect | NotFound | Unknown:
    """What is listed under our token, as a statement about the action it was meant for."""
    answer, rows = shown
    row = wire.row_of(rows, key, action)
    if row is None:
        return NotFound(answer.exchange)
    if wire.word(row, "action") != action:
        # Captured in the moment before we canceled it, and so refunded: the charge itself tells.
        return Unknown(unknown("another_action"), answer.exchange, answer.retry_after)
    return wire.action_effect(row, answer)


def _captured(now: Charge) -> Effect:
    return Effect(EffectStatus.SUCCEEDED, now.provider_reference, now.captured, now.currency, exchange=now.exchange)
