"""Instamojo's wire format, translated both ways by pure functions; what is called when is in instamojo.py.

Source of every fact: Instamojo's API v1.1 reference for payment requests, payments, refunds and webhooks.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from chalicelib.domain import ids
from chalicelib.domain.errors import ErrorClass, ErrorCode
from chalicelib.domain.money import from_decimal, to_decimal_string
from chalicelib.domain.outcome import (
    Charge,
    ChargeStatus,
    Effect,
    EffectStatus,
    EventKind,
    NotSent,
    ProviderEvent,
    SettlementLine,
    Unknown,
)
from chalicelib.providers.base import BadSignature
from chalicelib.providers.calls import section, text
from chalicelib.providers.reasons import (
    ACCOUNT,
    AUTHENTICATION,
    BLOCKED,
    CONFLICT,
    GAVE_UP,
    INVALID,
    ISSUER,
    LATE,
    NO_FUNDS,
    OUTDATED,
    OVER_LIMIT,
    RISK,
    TECHNICAL,
    WRONG_INSTRUMENT,
    Verdict,
    error_of,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date

    from chalicelib.domain.errors import PaymentError
    from chalicelib.providers.base import ChargeIntent
    from chalicelib.providers.calls import Answer

CURRENCY = "INR"  # the only one: requests and refunds do not even name it
MAX_NAME, MAX_EMAIL = 100, 75
REFUND_TYPE = "PTH"  # "problem not described above": the other six would claim something we do not know
INDIA = timezone(timedelta(hours=5, minutes=30))

STATUSES: dict[str, ChargeStatus] = {"Credit": ChargeStatus.SUCCEEDED, "Failed": ChargeStatus.DECLINED}
# Of a request. Pending, Sent and Failed tell what became of the mail about it, not of the payment. The reference
# has no word for one that is closed, which may go on saying Pending; nothing rests on seeing these.
PAID = "Completed"
CLOSED = frozenset({"Disabled", "Expired"})
REFUND_STATUSES: dict[str, EffectStatus] = {
    "Refunded": EffectStatus.SUCCEEDED,
    "Failed": EffectStatus.FAILED,
    "Rejected": EffectStatus.FAILED,
}
# What a payment's failure.reason means. The reference names the field and lists no values, so these
# are the usual names; any other is the issuer's no, which tries nothing again.
ERRORS: dict[str, Verdict] = {
    "AUTHENTICATION_FAILED": AUTHENTICATION,
    "AUTHORIZATION_FAILED": ISSUER,
    "BANK_DECLINED": ISSUER,
    "INSUFFICIENT_FUNDS": NO_FUNDS,
    "CARD_EXPIRED": OUTDATED,
    "CARD_BLOCKED": BLOCKED,
    "LIMIT_EXCEEDED": OVER_LIMIT,
    "INVALID_CARD": WRONG_INSTRUMENT,
    "INVALID_VPA": WRONG_INSTRUMENT,
    "USER_CANCELLED": GAVE_UP,
    "USER_DROPPED": GAVE_UP,
    "TIMED_OUT": LATE,
    "RISK_DENIED": RISK,
    "BANK_UNAVAILABLE": TECHNICAL,
    "GATEWAY_ERROR": TECHNICAL,
}
# A refused request names its fields …
FIELDS: dict[str, Verdict] = {
    "amount": (ErrorClass.INVALID_REQUEST, ErrorCode.LIMIT_EXCEEDED),  # 9 to 200,000 rupees
    "purpose": INVALID,
    "buyer_name": INVALID,
    "email": INVALID,
    "phone": INVALID,
    "redirect_url": INVALID,
    "webhook": ACCOUNT,  # our own address, the same for every payment of the account
    "payment_id": CONFLICT,  # not paid, or refunded already
    "refund_amount": CONFLICT,  # more than is left
    "type": INVALID,
    "body": INVALID,
}
# … or says it in a sentence, of which these parts are looked for.
SENTENCES: dict[str, Verdict] = {
    "token": ACCOUNT,
    "api key": ACCOUNT,
    "unauthorized": ACCOUNT,
    "permission": ACCOUNT,
    "already": CONFLICT,
    "try again": TECHNICAL,
}

_NOT_FOUND, _CONFLICT = 404, 409
_REFUND_ONLY = frozenset({"type", "body"})  # fields of a refund that no earlier one can have made wrong
_PAYMENT_ID = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_KEY = re.compile(r"\(([a-z]{2,4}_[0-9A-Za-z_]+)\)\s*$", re.ASCII)
_WRITTEN = re.compile(r"[ ().-]")  # how people space a phone number
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


# what we send


def request_form(intent: ChargeIntent) -> dict[str, str]:
    """A payment request; its purpose (30 characters at most) is our reference made short."""
    form = {
        "purpose": ids.short_reference(intent.reference),
        "amount": to_decimal_string(intent.amount, intent.currency),
        "webhook": intent.notify_url,
        "send_email": "false",
        "send_sms": "false",
        "allow_repeated_payments": "false",
    }
    name, email, phone = (intent.customer.get(field, "") for field in ("name", "email", "contact"))
    optional = {
        "buyer_name": name[:MAX_NAME],
        "email": email if len(email) <= MAX_EMAIL else "",
        "phone": _WRITTEN.sub("", phone),
        "redirect_url": intent.return_url or "",
    }
    # No expires_at: Instamojo takes at most ten minutes from now, and void closes what nobody paid.
    return form | {field: value for field, value in optional.items() if value}


def refund_form(payment_id: str, amount: int, currency: str, key: str) -> dict[str, str]:
    """A refund whose text ends in our key, the only mark of ours that it can carry."""
    return {
        "payment_id": payment_id,
        "type": REFUND_TYPE,
        "body": f"Refund by the merchant ({key})",
        "refund_amount": to_decimal_string(amount, currency),
    }


def instant(at: datetime) -> str:
    """A time as the filters of lists take it."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


# what we are told


def accepted(answer: Answer) -> bool:
    """Whether the request was taken: a refusal may come with any status."""
    return answer.ok and answer.body.get("success") is not False


def is_missing(answer: Answer) -> bool:
    """Whether the answer says that there is no such object."""
    return answer.status == _NOT_FOUND


def is_conflict(answer: Answer) -> bool:
    """Whether something is still under way: no answer of this provider's reference, so it says nothing."""
    return answer.status == _CONFLICT


def charge(request: Mapping[str, object], payments: Sequence[Mapping[str, object]]) -> Charge:
    """A payment request and the payments tried on it as a statement."""
    link = text(request, "longurl") or ""
    link = link if link.startswith(("https://", "http://")) else ""
    named = {"request_id": text(request, "id"), "longurl": link}
    data = {name: value for name, value in named.items() if value}
    deciding = max(payments, key=_weight, default=None)
    if deciding is not None:
        return payment(deciding, data)
    status, amount = text(request, "status"), from_decimal(request.get("amount"), CURRENCY)
    if status in CLOSED:
        return Charge(ChargeStatus.CANCELED, amount=amount, currency=CURRENCY, data=data)
    if status == PAID or not link:
        return Charge(ChargeStatus.PENDING, amount=amount, currency=CURRENCY, data=data)
    action = {"type": "redirect", "url": link}
    return Charge(ChargeStatus.ACTION_REQUIRED, amount=amount, currency=CURRENCY, next_action=action, data=data)


def _weight(entity: Mapping[str, object]) -> tuple[bool, datetime]:
    """The payment that decides a request: the one that was paid, else the newest."""
    return is_paid(entity), moment(entity.get("created_at")) or _LONG_AGO


def payment(entity: Mapping[str, object], data: Mapping[str, str]) -> Charge:
    """A payment as a statement; a status we do not know is pending."""
    status = STATUSES.get(text(entity, "status") or "", ChargeStatus.PENDING)
    currency = text(entity, "currency")
    amount = from_decimal(entity.get("amount"), currency or "")
    if status is ChargeStatus.SUCCEEDED and amount is None:
        status = ChargeStatus.PENDING  # paid, but nobody can tell how much: not to be believed
    return Charge(
        status=status,
        provider_reference=text(entity, "payment_id"),
        amount=amount,
        currency=currency,
        captured=(amount or 0) if status is ChargeStatus.SUCCEEDED else 0,
        error=_failure(entity) if status is ChargeStatus.DECLINED else None,
        data=data,
    )


def _failure(entity: Mapping[str, object]) -> PaymentError:
    reason = text(section(entity, "failure"), "reason")
    return error_of(ERRORS.get((reason or "").upper(), ISSUER), reason)


def refund(entity: Mapping[str, object]) -> Effect:
    """A refund as a statement; a status we do not know is pending."""
    raw = text(entity, "status")
    status = REFUND_STATUSES.get(raw or "", EffectStatus.PENDING)
    return Effect(
        status=status,
        provider_reference=text(entity, "id"),
        amount=from_decimal(entity.get("refund_amount"), CURRENCY),
        currency=CURRENCY,
        error=error_of(TECHNICAL, raw) if status is EffectStatus.FAILED else None,
        key=refund_key(entity),
    )


def refund_key(entity: Mapping[str, object]) -> str | None:
    """Our key in a refund's text; None for a refund that is not ours."""
    found = _KEY.search(text(entity, "body") or "")
    return found[1] if found else None


def refused_charge(answer: Answer) -> Charge | NotSent:
    """What a refused payment request means: nobody tried to pay, and nobody can."""
    error = _refusal(answer)
    if error.error_class is ErrorClass.CONFIG:
        return NotSent(error, answer.exchange, answer.retry_after)
    return Charge(ChargeStatus.DECLINED, error=error, exchange=answer.exchange, retry_after=answer.retry_after)


def refused_effect(answer: Answer) -> Effect | NotSent | Unknown:
    """What a refusal means once the facts show that it had no effect: "try again" says nothing for good."""
    error = _refusal(answer)
    if error.error_class is ErrorClass.CONFIG:
        return NotSent(error, answer.exchange, answer.retry_after)
    if error.error_class is ErrorClass.TECHNICAL_DECLINE:
        return Unknown(error, answer.exchange, answer.retry_after)
    return Effect(EffectStatus.FAILED, error=error, exchange=answer.exchange)


def is_definite(answer: Answer) -> bool:
    """Whether no earlier try of ours can be why a refund was refused."""
    message = answer.body.get("message")
    return isinstance(message, dict) and bool(message) and message.keys() <= _REFUND_ONLY


def leaves_less(refunds: Sequence[Mapping[str, object]], payment_id: str, paid: int, amount: int) -> bool:
    """Whether the listed refunds of a payment leave less than ``amount`` of what was paid."""
    given = [refund(row) for row in refunds if text(row, "payment_id") == payment_id]
    return paid - sum(effect.amount or 0 for effect in given if effect.status is not EffectStatus.FAILED) < amount


def _refusal(answer: Answer) -> PaymentError:
    message = answer.body.get("message")
    if isinstance(message, dict):
        for field, verdict in FIELDS.items():
            if field in message:
                return error_of(verdict, f"invalid_{field}")
    elif isinstance(message, str):
        for part, verdict in SENTENCES.items():
            if part in message.lower():
                return error_of(verdict, part.replace(" ", "_"))
    return error_of(INVALID, f"http_{answer.status}")


def moment(value: object) -> datetime | None:
    """A time of Instamojo's, or None."""
    try:
        at = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return at.replace(tzinfo=UTC) if at is not None and at.tzinfo is None else at


# webhooks


def webhook_fields(body: bytes) -> dict[str, str]:
    """The decoded form, blank fields kept; raises BadSignature where two readers could read two things."""
    pairs = parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True)
    if len({name.lower() for name, _ in pairs}) != len(pairs):
        reason = "a field is there twice"
        raise BadSignature(reason)
    return dict(pairs)


def signed_message(fields: Mapping[str, str]) -> bytes:
    """What the mac is made of: the values of all fields but itself, by name in lower case, joined by "|"."""
    return "|".join(fields[name] for name in sorted(fields, key=str.lower) if name != "mac").encode()


def mac(secret: str, message: bytes) -> str:
    """hex(HMAC_SHA1(private salt, message)), per Instamojo's webhook documentation."""
    return hmac.new(secret.encode("utf-8", "surrogatepass"), message, hashlib.sha1).hexdigest()


def event(fields: Mapping[str, str], otherwise: str) -> ProviderEvent:
    """A signed webhook: where to look; ``otherwise`` is the dedupe key of one that is about no payment.

    The mac covers the values, one after the other, and neither their names nor where one ends: a buyer's name
    with "|" in it can be cut anew into a status and an amount. So nothing is believed, and Instamojo is asked.
    """
    payment_id, status, purpose = (fields.get(name, "") for name in ("payment_id", "status", "purpose"))
    if not status or not _PAYMENT_ID.fullmatch(payment_id):
        return ProviderEvent(otherwise, "unreadable", EventKind.IGNORED)
    reference = ids.long_reference(purpose)
    return ProviderEvent(f"{payment_id}:{status}", status, EventKind.HINT, reference, payment_id)


# settlements


def is_paid(entity: Mapping[str, object]) -> bool:
    """Whether a payment was paid."""
    return STATUSES.get(text(entity, "status") or "") is ChargeStatus.SUCCEEDED


def is_refunded(entity: Mapping[str, object]) -> bool:
    """Whether a refund was made."""
    return REFUND_STATUSES.get(text(entity, "status") or "") is EffectStatus.SUCCEEDED


def is_of(entity: Mapping[str, object], day: date) -> bool:
    """Whether it was made on that day in India, or does not say when."""
    at = moment(entity.get("created_at"))
    return at is None or at.astimezone(INDIA).date() == day


def payment_line(entity: Mapping[str, object]) -> SettlementLine | None:
    """A paid payment as a settlement line; None where what it must tell is missing. The fee includes its tax."""
    payment_id, currency = text(entity, "payment_id"), text(entity, "currency")
    amount, fee = (from_decimal(entity.get(field), currency or "") for field in ("amount", "fees"))
    if payment_id is None or currency is None or amount is None or moment(entity.get("created_at")) is None:
        return None
    payout = section(entity, "payout")
    return SettlementLine(
        kind="payment",
        entity_id=payment_id,
        amount=amount,
        currency=currency,
        fee=fee or 0,
        provider_reference=payment_id,
        settlement_id=text(payout, "id"),
        settled_at=moment(payout.get("paid_out_at")),
    )


def refund_line(entity: Mapping[str, object]) -> SettlementLine | None:
    """A refund as a settlement line; None where what it must tell is missing."""
    refund_id, amount = text(entity, "id"), from_decimal(entity.get("refund_amount"), CURRENCY)
    if refund_id is None or amount is None or moment(entity.get("created_at")) is None:
        return None
    return SettlementLine(
        kind="refund",
        entity_id=refund_id,
        amount=-amount,
        currency=CURRENCY,
        refund_key=refund_key(entity),
        provider_reference=text(entity, "payment_id"),
    )
