"""The simulator: a provider that behaves, in a wire format of our own, served by the sandbox bank.

    POST /v1/charges                    Idempotency-Key: our reference
    GET  /v1/charges/{id}               GET /v1/charges?reference=
    POST /v1/charges/{id}/capture       {"amount"}, any amount up to the authorized one, once
    POST /v1/charges/{id}/void
    POST /v1/charges/{id}/refunds       {"amount"}
    GET  /v1/refunds/{id}               GET /v1/refunds?key=
    GET  /v1/settlements?day=YYYY-MM-DD&page=1      an Indian day; {"lines", "more"}

Effects take an Idempotency-Key, each action its own; a repeat returns the first effect's present
state, 409 while the first still runs, 422 for another body. A 503 with code NOT_ACCEPTED had no
effect. Webhooks carry X-Simulator-Signature, hex(HMAC_SHA256(secret, body)), and X-Simulator-Event-Id.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from chalicelib.domain.errors import ErrorClass
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
from chalicelib.providers.base import (
    Account,
    BadSignature,
    Capabilities,
    ChargeIntent,
    ChargeRef,
    Connection,
    Credential,
)
from chalicelib.providers.calls import Answer, call, conflict, integer, rows, section, text, unknown, unreadable
from chalicelib.providers.http import parse_json
from chalicelib.providers.moments import from_epoch
from chalicelib.providers.reasons import INVALID, TECHNICAL, UNAVAILABLE, classify, error_of
from chalicelib.providers.refusals import has_failed, is_definite, refused
from chalicelib.providers.signatures import digest, require

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date, datetime

    from chalicelib.domain.errors import PaymentError
    from chalicelib.domain.outcome import ChargeLookup, ChargeOutcome, EffectLookup, EffectOutcome
    from chalicelib.providers.http import HttpClient
    from chalicelib.providers.reasons import Verdict

_DAY = 24 * 3600
_PAGES = 1000  # far more than a day has; the bound only ends a broken report
_METHODS = frozenset({"upi", "netbanking", "wallet", "card"})
_NOT_FOUND, _CONFLICT = 404, 409
_NOT_ACCEPTED = "NOT_ACCEPTED"
_KEY_USED = "duplicate_request"  # by an earlier try of ours

STATUSES: dict[str, ChargeStatus] = {
    "succeeded": ChargeStatus.SUCCEEDED,
    "authorized": ChargeStatus.AUTHORIZED,
    "failed": ChargeStatus.DECLINED,
    "pending": ChargeStatus.PENDING,
    "requires_action": ChargeStatus.ACTION_REQUIRED,
    "canceled": ChargeStatus.CANCELED,
}
REFUND_STATUSES: dict[str, EffectStatus] = {
    "succeeded": EffectStatus.SUCCEEDED,
    "pending": EffectStatus.PENDING,
    "failed": EffectStatus.FAILED,
    "returned": EffectStatus.RETURNED,
}


class SimulatorProvider:
    """The simulator adapter. ``credentials``: api_key for calls, api_secret for browser returns."""

    name = "simulator"
    capabilities = Capabilities(
        methods=_METHODS,
        currencies=frozenset({"INR", "USD", "JPY", "KWD"}),
        min_amount=1,
        max_amount=99_999_999_999,
        manual_capture=_METHODS,
        partial_capture=True,
        partial_refund=True,
        void="api",
        idempotency_window=_DAY,
        operation_idempotency_window=_DAY,
        settle_window=30,
        authorization_window=5 * _DAY,
        closes_unpaid=True,
        card_data=frozenset({"token", "network", "bin", "last4"}),
    )
    connection = Connection(
        credentials=(
            Credential("api_key"),
            Credential("api_secret"),
            Credential("webhook_secret"),
            Credential("account_id", secret=False, required=False, identity=True),
        ),
        webhook_secret="webhook_secret",  # noqa: S106 - the name of it
        base_urls={},  # the sandbox bank only, whose address is a setting
    )

    def __init__(self, http: HttpClient) -> None:
        """``http`` is shared by every adapter."""
        self._http = http

    def create(self, account: Account, intent: ChargeIntent) -> ChargeOutcome:
        """Make the charge; a repeat with the same reference returns the first one."""
        payload = {
            "reference": intent.reference,
            "amount": intent.amount,
            "currency": intent.currency,
            "capture": intent.capture,
            "method": dict(intent.method),
            "customer": dict(intent.customer),
            "description": intent.description,
            "return_url": intent.return_url,
        }
        answer = self._call(account, "POST", "/v1/charges", payload, intent.reference)
        if isinstance(answer, NotSent | Unknown):
            return answer
        if answer.ok:
            return _charge(answer.body, answer) or unreadable(answer)
        error = _refusal(answer)
        if answer.status == _CONFLICT or error.error_class is ErrorClass.CONFLICT:
            return Unknown(unknown(error.provider_code or "conflict"), answer.exchange, answer.retry_after)
        if error.error_class is ErrorClass.CONFIG:
            return NotSent(error, answer.exchange, answer.retry_after)
        return Charge(ChargeStatus.DECLINED, error=error, exchange=answer.exchange, retry_after=answer.retry_after)

    def fetch(self, account: Account, charge: ChargeRef) -> ChargeLookup:
        """By charge id, else by our reference."""
        if charge.provider_reference:
            answer = self._call(account, "GET", f"/v1/charges/{quote(charge.provider_reference, safe='')}")
        else:
            answer = self._call(account, "GET", f"/v1/charges?reference={quote(charge.reference, safe='')}")
        if isinstance(answer, NotSent | Unknown):
            return answer
        if answer.status == _NOT_FOUND:
            return NotFound(answer.exchange)
        if not answer.ok:
            return Unknown(unknown(f"http_{answer.status}"), answer.exchange, answer.retry_after)
        return _charge(answer.body, answer) or unreadable(answer)

    def capture(self, account: Account, charge: ChargeRef, amount: int, key: str) -> EffectOutcome:
        """Take ``amount`` and release the rest."""
        return self._change(account, charge, "capture", {"amount": amount}, key, ChargeStatus.SUCCEEDED)

    def void(self, account: Account, charge: ChargeRef, key: str) -> EffectOutcome:
        """Release the authorization, or give up a charge that waits for the customer."""
        return self._change(account, charge, "void", {}, key, ChargeStatus.CANCELED)

    def refund(self, account: Account, charge: ChargeRef, amount: int, key: str) -> EffectOutcome:
        """Refund ``amount``; a repeat with the same key returns the first refund."""
        answer = self._act(account, charge, "refunds", {"amount": amount}, key)
        if not isinstance(answer, Answer):
            return answer
        if answer.ok:
            return _refund(answer.body, answer)
        undecided = _undecided(answer)
        if undecided is not None:
            return undecided
        # What stands in the way may be an earlier try with this key; then that is the truth.
        found = self.fetch_refund(account, charge, key, None)
        if isinstance(found, Effect):
            return found
        if isinstance(found, NotSent | Unknown):
            return Unknown(found.error, answer.exchange, answer.retry_after)
        error = _refusal(answer, TECHNICAL)
        return refused(error, answer, failed=is_definite(error) and error.provider_code != _KEY_USED)

    def fetch_refund(
        self,
        account: Account,
        charge: ChargeRef,  # noqa: ARG002 - keys are unique at the simulator
        key: str,
        provider_reference: str | None,
    ) -> EffectLookup:
        """By refund id, else by our key."""
        if provider_reference:
            answer = self._call(account, "GET", f"/v1/refunds/{quote(provider_reference, safe='')}")
        else:
            answer = self._call(account, "GET", f"/v1/refunds?key={quote(key, safe='')}")
        if isinstance(answer, NotSent | Unknown):
            return answer
        if answer.status == _NOT_FOUND:
            return NotFound(answer.exchange)
        if not answer.ok:
            return Unknown(unknown(f"http_{answer.status}"), answer.exchange, answer.retry_after)
        return _refund(answer.body, answer)

    def verify_return(self, account: Account, charge: ChargeRef, params: Mapping[str, str]) -> None:
        """Check hex(HMAC_SHA256(api_secret, charge id + "|" + our stored reference + "|" + status))."""
        message = f"{params.get('charge', '')}|{charge.reference}|{params.get('status', '')}"
        secret = account.credentials.get("api_secret", "")
        require([secret], message.encode("utf-8", "surrogatepass"), params.get("signature"))

    def parse_webhook(self, account: Account, headers: Mapping[str, str], body: bytes, now: datetime) -> ProviderEvent:  # noqa: ARG002 - the simulator signs no time
        """Check hex(HMAC_SHA256(webhook_secret, body)) against every active secret, then translate."""
        require(account.webhook_secrets, body, headers.get("x-simulator-signature"))
        dedupe_key = headers.get("x-simulator-event-id") or digest(body)
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
        return _event(parsed, dedupe_key)

    def settlement_lines(self, account: Account, day: date) -> Sequence[SettlementLine] | NotSent | Unknown:
        """What was captured and given back on one day, page by page."""
        lines: list[SettlementLine] = []
        exchange = None
        for page in range(1, _PAGES + 1):
            answer = self._call(account, "GET", f"/v1/settlements?day={day.isoformat()}&page={page}")
            if isinstance(answer, NotSent | Unknown):
                return answer
            exchange = answer.exchange
            if not answer.ok or not isinstance(answer.body.get("lines"), list):
                return Unknown(unknown(f"http_{answer.status}"), exchange)
            lines += [_line(row) for row in rows(answer.body, "lines")]
            if answer.body.get("more") is not True:
                return lines
        return Unknown(unknown("too_many_lines"), exchange)

    def _change(
        self,
        account: Account,
        charge: ChargeRef,
        action: str,
        payload: Mapping[str, object],
        key: str,
        wanted: ChargeStatus,
    ) -> EffectOutcome:
        """Capture or void; whatever a refusal says, the charge itself tells whether it has happened."""
        answer = self._act(account, charge, action, payload, key)
        if not isinstance(answer, Answer):
            return answer
        if answer.ok:
            return _effect(_charge(answer.body, answer), wanted, answer) or unreadable(answer)
        undecided = _undecided(answer)
        if undecided is not None:
            return undecided
        now = self.fetch(account, charge)
        if isinstance(now, NotSent | Unknown):
            return Unknown(now.error, answer.exchange, answer.retry_after)
        if isinstance(now, Charge) and now.status is wanted:
            return _effect(now, wanted, answer) or unreadable(answer)
        error = _refusal(answer, TECHNICAL)
        return refused(error, answer, failed=has_failed(error, now.status if isinstance(now, Charge) else None))

    def _act(
        self, account: Account, charge: ChargeRef, action: str, payload: Mapping[str, object], key: str
    ) -> Answer | EffectOutcome:
        """Post to the charge; when we never learned its id, ask for it before anything is sent."""
        charge_id = charge.provider_reference
        if charge_id is None:
            found = self.fetch(account, charge)
            if isinstance(found, NotFound):
                error = conflict("The provider has no such charge.", None)
                return Effect(EffectStatus.FAILED, error=error, exchange=found.exchange)
            if isinstance(found, NotSent):
                return found
            if isinstance(found, Unknown):
                return NotSent(error_of(UNAVAILABLE, found.error.provider_code), found.exchange, found.retry_after)
            charge_id = found.provider_reference or ""
        return self._call(account, "POST", f"/v1/charges/{quote(charge_id, safe='')}/{action}", payload, key)

    def _call(
        self,
        account: Account,
        method: str,
        path: str,
        payload: Mapping[str, object] | None = None,
        key: str | None = None,
    ) -> Answer | NotSent | Unknown:
        headers = {"authorization": f"Bearer {account.credentials.get('api_key', '')}"}
        if key is not None:
            headers["idempotency-key"] = key
        return call(self._http, method, account.base_url, path, headers=headers, payload=payload, refusal=_NOT_ACCEPTED)


def _charge(body: Mapping[str, object], answer: Answer | None = None) -> Charge | None:
    """A charge object as a statement, a status we do not know as pending; None if it is no charge."""
    charge_id = text(body, "id")
    if charge_id is None or text(body, "object") != "charge":
        return None
    status = STATUSES.get(text(body, "status") or "", ChargeStatus.PENDING)
    failure = section(body, "error")
    action = section(body, "next_action")
    captured = integer(body, "captured") or 0
    # Money that has been taken, and nobody can read how much: no amount of it is worth comparing with ours.
    is_garbled = status is ChargeStatus.SUCCEEDED and not captured and "captured" in body
    return Charge(
        status=status,
        provider_reference=charge_id,
        amount=None if is_garbled else integer(body, "amount"),
        currency=text(body, "currency"),
        captured=captured,
        refunded=integer(body, "refunded") or 0,
        error=_decline(failure) if status is ChargeStatus.DECLINED else None,
        next_action=dict(action) if action and status is ChargeStatus.ACTION_REQUIRED else None,
        exchange=answer.exchange if answer else None,
    )


def _decline(failure: Mapping[str, object]) -> PaymentError:
    return classify(text(failure, "reason"), text(failure, "source"), text(failure, "code"))


def _effect(now: Charge | None, wanted: ChargeStatus, answer: Answer) -> Effect | None:
    """A capture or void that the charge's state confirms, else None; a capture has to name an amount."""
    if now is None or now.status is not wanted or (wanted is ChargeStatus.SUCCEEDED and now.amount is None):
        return None
    amount = now.captured if wanted is ChargeStatus.SUCCEEDED else now.amount
    return Effect(EffectStatus.SUCCEEDED, now.provider_reference, amount, now.currency, exchange=answer.exchange)


def _refund(body: Mapping[str, object], answer: Answer | None = None) -> Effect:
    """A refund object as a statement; a status we do not know is pending."""
    status = REFUND_STATUSES.get(text(body, "status") or "", EffectStatus.PENDING)
    return Effect(
        status=status,
        provider_reference=text(body, "id"),
        amount=integer(body, "amount"),
        currency=text(body, "currency"),
        error=_decline(section(body, "error")) if status is EffectStatus.FAILED else None,
        exchange=answer.exchange if answer else None,
        key=text(body, "key"),
    )


def _line(row: Mapping[str, object]) -> SettlementLine:
    """A line of the settlement report; what it keeps (fee and tax) is taken off the amount when it pays out."""
    refund = text(row, "refund")
    amount = integer(row, "amount") or 0
    return SettlementLine(
        kind="refund" if refund else "payment",
        entity_id=refund or text(row, "charge") or "",
        amount=-amount if refund else amount,
        currency=text(row, "currency") or "",
        fee=integer(row, "fee") or 0,
        tax=integer(row, "tax") or 0,
        reference=text(row, "reference"),
        refund_key=text(row, "key"),
        provider_reference=text(row, "charge"),
        settlement_id=text(row, "settlement"),
        utr=text(row, "utr"),
        settled_at=from_epoch(integer(row, "settled_at")),
    )


def _refusal(answer: Answer, otherwise: Verdict = INVALID) -> PaymentError:
    """Why a request was refused; ``otherwise`` is for a reason that nobody knows."""
    error = section(answer.body, "error")
    return classify(text(error, "reason"), None, text(error, "code"), default=otherwise)


def _undecided(answer: Answer) -> NotSent | Unknown | None:
    """A refused capture, void or refund that may yet have an effect, or that the account stands in the way of."""
    error = _refusal(answer, TECHNICAL)
    if answer.status == _CONFLICT:
        return Unknown(unknown(error.provider_code or "conflict"), answer.exchange, answer.retry_after)
    return NotSent(error, answer.exchange, answer.retry_after) if error.error_class is ErrorClass.CONFIG else None


def _event(body: Mapping[str, object], dedupe_key: str) -> ProviderEvent:
    kind = text(body, "type") or "unreadable"
    data = section(body, "data")
    charge, refund = section(data, "charge"), section(data, "refund")
    reference, provider_reference = text(charge, "reference"), text(charge, "id")
    if kind.startswith("charge.") and charge:
        return ProviderEvent(dedupe_key, kind, EventKind.CHARGE, reference, provider_reference, _charge(charge))
    if kind.startswith("refund.") and refund:
        return ProviderEvent(
            dedupe_key,
            kind,
            EventKind.REFUND,
            reference,
            provider_reference,
            _charge(charge),
            _refund(refund),
            text(refund, "key"),
        )
    return ProviderEvent(dedupe_key, kind, EventKind.IGNORED, reference, provider_reference)
