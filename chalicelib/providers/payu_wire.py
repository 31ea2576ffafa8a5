"""PayU India's wire format, translated both ways by pure functions; what is called when is in payu.py.

Source of every fact: docs.payu.in (hosted checkout, hashing, general APIs, error codes, webhooks).
"""

from __future__ import annotations

import hashlib
from datetime import datetime, time, timedelta, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from chalicelib.domain.errors import ErrorClass, ErrorCode
from chalicelib.domain.ids import long_reference, short_reference
from chalicelib.domain.money import from_decimal, to_decimal_string
from chalicelib.domain.outcome import (
    Charge,
    ChargeStatus,
    Effect,
    EffectStatus,
    NotFound,
    SettlementLine,
    Unknown,
)
from chalicelib.providers.calls import section, unknown, unreadable
from chalicelib.providers.payu_codes import (
    ACCEPTED,
    ACTIONS,
    DOUBTFUL,
    ERRORS,
    NO_ERROR,
    OTHERWISE,
    REFUSED,
    REPEATED,
    SAME_AMOUNT,
    SAYINGS,
    STATUSES,
    TEXTS,
    UNMAPPED,
)
from chalicelib.providers.reasons import ISSUER, TECHNICAL, Verdict, error_of
from chalicelib.providers.signatures import require

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import date

    from chalicelib.domain.errors import PaymentError
    from chalicelib.domain.outcome import ChargeLookup, EffectOutcome
    from chalicelib.providers.base import ChargeIntent
    from chalicelib.providers.calls import Answer

CURRENCY = "INR"  # every amount of PayU India is in rupees, and no answer says so
MAX_TOKEN = 23
SAME_AMOUNT_SECONDS = 300.0
BUSY: Verdict = (ErrorClass.RATE_LIMITED, ErrorCode.RATE_LIMITED)

_INFO_HOSTS = {"secure.payu.in": "info.payu.in"}  # any other host serves both the page and the postservice
_MAX_PRODUCT, _MAX_NAME, _MAX_EMAIL, _PHONE = 100, 60, 50, 10
_MANDATORY = ("productinfo", "firstname", "email", "phone", "surl", "furl")
_CHANNELS = {"upi": "UPI", "netbanking": "NB", "wallet": "CASH", "card": "CC"}
_SIGNED = ("productinfo", "firstname", "email", *(f"udf{number}" for number in range(1, 6)))
# What our tokens end in, by the prefix of the operation's id and what PayU is asked to do: a reversal may
# cancel first and refund afterwards, under one id.
_KINDS = {("rf", "refund"): "r", ("op", "refund"): "o", ("op", "capture"): "c", ("op", "cancel"): "v"}
_IST = timezone(timedelta(hours=5, minutes=30))
_ADJUSTMENT: Literal["adjustment"] = "adjustment"
_SETTLED: dict[str, Literal["payment", "refund"]] = {"capture": "payment", "refund": "refund"}


def info_url(base_url: str) -> str:
    """Where the postservice of a payment host lives."""
    parts = urlsplit(base_url)
    return f"{parts.scheme}://{_INFO_HOSTS.get(parts.netloc, parts.netloc)}{parts.path}"


# -- hashes ----------------------------------------------------------------------------------------


def request_hash(salt: str, fields: Mapping[str, str]) -> str:
    """sha512(key|txnid|amount|productinfo|firstname|email|udf1|…|udf5||||||SALT), per PayU's hashing docs."""
    parts = [fields.get(name, "") for name in ("key", "txnid", "amount", *_SIGNED)]
    return _sha512("|".join([*parts, "", "", "", "", "", salt]).encode())


def command_hash(salt: str, key: str, command: str, var1: str) -> str:
    """sha512(key|command|var1|SALT), per PayU's general APIs; var2 and the rest are not signed."""
    return _sha512(f"{key}|{command}|{var1}|{salt}".encode())


def response_hash(salt: str, fields: Mapping[str, str]) -> str:
    """sha512([additionalCharges|]SALT|status||||||udf5|…|udf1|email|firstname|productinfo|amount|txnid|key).

    Per PayU's docs on responses. The ``validate_hash`` of its SDKs leaves the status out: with that
    formula the hash of a failure would prove a success.
    """
    charges = fields.get("additionalCharges")
    names = ("key", "txnid", "amount", *_SIGNED)
    parts = ["", "", "", "", "", *(fields.get(name, "") for name in reversed(names))]
    text = "|".join([*([charges] if charges else []), salt, fields.get("status", ""), *parts])
    return _sha512(text.encode("utf-8", "surrogatepass"))


def check(salts: Iterable[str], fields: Mapping[str, str]) -> None:
    """Raise BadSignature unless ``hash`` is the response hash of these fields under one of the salts."""
    require(salts, b"", fields.get("hash"), make=lambda salt, _message: response_hash(salt, fields))


def _sha512(text: bytes) -> str:
    return hashlib.sha512(text).hexdigest()


# -- what we send ----------------------------------------------------------------------------------


def payment_form(intent: ChargeIntent, key: str, salt: str) -> dict[str, str] | str:
    """The fields that the browser posts to ``/_payment``, or the name of one that PayU cannot do without."""
    email = intent.customer.get("email", "")
    return_url = intent.return_url or ""
    fields = {
        "key": key,
        "txnid": short_reference(intent.reference),
        "amount": to_decimal_string(intent.amount, intent.currency),
        "productinfo": _plain(intent.description or "")[:_MAX_PRODUCT].strip() or "Payment",
        "firstname": _plain(intent.customer.get("name", ""))[:_MAX_NAME].strip(),
        "email": "" if len(email) > _MAX_EMAIL or "|" in email else email,
        "phone": _digits(intent.customer.get("contact", "")),
        "surl": return_url,
        "furl": return_url,
        "udf1": intent.reference,
    }
    missing = next((name for name in _MANDATORY if not fields[name]), None)
    if missing:
        return missing
    method = intent.method["type"]
    fields["pg"] = _CHANNELS[method]
    fields["bankcode"] = intent.method.get("bank") or intent.method.get("wallet") or fields["pg"]
    if intent.method.get("vpa"):
        fields["vpa"] = intent.method["vpa"]
    if intent.capture == "manual":
        fields["pre_authorize"] = "1"
    return {**fields, "hash": request_hash(salt, fields)}


def _plain(text: str) -> str:
    """Without what PayU refuses or what would shift the fields of a hash: the ASCII specials, "|" above all."""
    return "".join(letter for letter in text if letter.isalnum() or letter in " .-_" or not letter.isascii())


def _digits(contact: str) -> str:
    """A phone number in digits; an Indian one in the ten that PayU asks for."""
    digits = "".join(letter for letter in contact if letter.isascii() and letter.isdigit())
    return digits[-_PHONE:] if contact.startswith("+91") else digits


def token(key: str, action: str) -> str:
    """The PayU token of one of our operation ids for an action (capture, cancel, refund): 23 letters and digits.

    An id is a prefix and a ULID; 22 digits of base 62 hold the ULID, and a letter prefix and action. Anything
    else is hashed, and ``key_of`` does not know it again.
    """
    prefix, _, ulid = key.partition("_")
    try:
        short = short_reference(f"pay_{ulid}-") + _KINDS[prefix, action]
    except (KeyError, ValueError):
        short = ""
    return short if _id_in(short, action) == key else hashlib.sha256(f"{action}/{key}".encode()).hexdigest()[:MAX_TOKEN]


def key_of(short: str) -> str | None:
    """The refund or reversal that ``token`` made short, or None if it is not one of ours.

    No cancelation is named: one that came too late is a refund at PayU, and that is PayU's doing.
    """
    return _id_in(short, "refund")


def _id_in(short: str, action: str) -> str | None:
    """The operation id in a token for that action."""
    reference = long_reference(f"{short[:-1]}00")
    prefix = next((prefix for (prefix, what), kind in _KINDS.items() if kind == short[-1:] and what == action), None)
    return f"{prefix}_{reference[len('pay_') : -len('-00')]}" if reference and prefix else None


# -- what PayU says of a transaction ---------------------------------------------------------------


def word(body: Mapping[str, object], name: str) -> str | None:
    """A non-empty text or whole number as text, or None: PayU sends ids and codes as either."""
    value = body.get(name)
    if type(value) is int:
        return str(value)
    return value.strip() or None if isinstance(value, str) else None


def transaction(answer: Answer, txnid: str) -> ChargeLookup:
    """What verify_payment says of one transaction. "Not Found": the customer never reached PayU."""
    entity = section(section(answer.body, "transaction_details"), txnid)
    if (word(entity, "status") or "").lower() == "not found":
        return NotFound(answer.exchange)
    if word(entity, "txnid") != txnid:
        return unreadable(answer)
    return _charge(entity, answer) or unreadable(answer)


def _charge(entity: Mapping[str, object], answer: Answer) -> Charge | None:
    """A transaction as a statement; a status we do not know is pending. None if it lacks what it must have."""
    raw, unmapped = (word(entity, "status") or "").lower(), (word(entity, "unmappedstatus") or "").lower()
    payuid = word(entity, "mihpayid")
    amount = from_decimal(entity.get("transaction_amount") or entity.get("amt"), CURRENCY)
    if not raw or payuid is None or amount is None:
        return None
    status = STATUSES.get((raw, unmapped), ChargeStatus.PENDING)
    if status in (ChargeStatus.SUCCEEDED, ChargeStatus.AUTHORIZED):
        amount = _paid(entity, amount)
        if amount is None:
            return None
    return Charge(
        status=status,
        provider_reference=payuid,
        amount=amount,
        currency=CURRENCY,
        captured=amount if status is ChargeStatus.SUCCEEDED else 0,
        error=_decline(entity, unmapped) if status is ChargeStatus.DECLINED else None,
        exchange=answer.exchange,
    )


def _paid(entity: Mapping[str, object], amount: int) -> int | None:
    """What the customer paid of ``amount``: an offer takes some off, a surcharge comes on top. None if unreadable.

    ``net_amount_debit`` is all that was debited, so that a surcharge in it may hide an offer.
    """
    off = from_decimal(entity.get("disc") or entity.get("discount") or "0", CURRENCY)
    extra = from_decimal(entity.get("additional_charges") or entity.get("additionalCharges") or "0", CURRENCY)
    net = entity.get("net_amount_debit")
    if off is None or extra is None:
        return None
    if net is None or net == "":
        return max(amount - off, 0)
    debit = from_decimal(net, CURRENCY)
    return None if debit is None else max(min(amount, debit - (extra if off else 0)), 0)


def _decline(entity: Mapping[str, object], unmapped: str) -> PaymentError:
    """Why a transaction failed. PayU's codes differ from bank to bank: by code, else by text, else by state."""
    code = word(entity, "error_code") or word(entity, "error") or NO_ERROR
    if unmapped in UNMAPPED:
        return error_of(UNMAPPED[unmapped], code if code != NO_ERROR else unmapped)
    said = f"{word(entity, 'error_Message') or ''} {word(entity, 'field9') or ''}".lower()
    found = ERRORS.get(code) or next((verdict for text, verdict in TEXTS if text in said), None)
    return error_of(found or OTHERWISE.get(unmapped, ISSUER), code if code != NO_ERROR else unmapped)


# -- what PayU says of a capture, cancelation or refund --------------------------------------------


def message(answer: Answer) -> str:
    """PayU's own words in lower case, only ever compared, never shown."""
    return (word(answer.body, "msg") or "").lower()


def said(answer: Answer) -> EffectOutcome:
    """What the answer to a command means by itself, before PayU's list of actions is looked at."""
    code = word(answer.body, "error_code") or ""
    accepted = word(answer.body, "status") == "1"
    if code == SAME_AMOUNT:
        # Only for now: under the same token it is welcome a little later.
        return Unknown(error_of(BUSY, code), answer.exchange, SAME_AMOUNT_SECONDS)
    if code in REPEATED:
        return Unknown(unknown(code), answer.exchange, answer.retry_after)
    verdict = REFUSED.get(code) or DOUBTFUL.get(code)
    if verdict is None and (code in ACCEPTED or accepted):
        request_id = word(answer.body, "request_id") or word(answer.body, "txn_update_id")
        return Effect(EffectStatus.PENDING, request_id, exchange=answer.exchange)
    if not code:
        verdict = next((found for text, found in SAYINGS if text in message(answer)), None)
    if verdict is None or accepted:  # nobody knows what it means, or it says yes and no
        return Unknown(unknown(code or "refused"), answer.exchange, answer.retry_after)
    return Effect(EffectStatus.FAILED, error=error_of(verdict, code or "refused"), exchange=answer.exchange)


def is_doubtful(answer: Answer) -> bool:
    """Whether an earlier try of ours may be why a command was refused."""
    return word(answer.body, "error_code") in DOUBTFUL


def actions(answer: Answer, name: str) -> list[Mapping[str, object]] | None:
    """The rows that check_action_status shows under ``name``; None if it does not say."""
    shown = section(answer.body, "transaction_details").get(name)
    if isinstance(shown, str) and shown.lower().startswith("no action status"):
        return []
    if not isinstance(shown, dict):
        return None
    found = [shown] if "request_id" in shown else list(shown.values())
    return found if all(isinstance(row, dict) for row in found) else None


def row_of(rows: Iterable[Mapping[str, object]], key: str, action: str) -> Mapping[str, object] | None:
    """What was done under our token, whatever PayU made of it, or None.

    A refund has a second token: that of a cancelation under the same key which came too late, and gave back
    what had been taken meanwhile.
    """
    used, canceled = token(key, action), token(key, "cancel")
    for row in rows:
        shown = word(row, "token")
        is_late = shown == canceled and word(row, "action") == "refund" and not _has_failed(row)
        if shown == used or (action == "refund" and is_late):
            return row
    return None


def leaves_less(rows: Iterable[Mapping[str, object]], captured: int, amount: int) -> bool:
    """Whether the refunds that PayU lists leave less than ``amount`` of what was captured."""
    given = [row for row in rows if word(row, "action") == "refund" and not _has_failed(row)]
    return captured - sum(from_decimal(row.get("amt"), CURRENCY) or 0 for row in given) < amount


def _has_failed(row: Mapping[str, object]) -> bool:
    return ACTIONS.get((word(row, "status") or "").lower()) is EffectStatus.FAILED


def action_effect(row: Mapping[str, object], answer: Answer) -> Effect:
    """One action as a statement; a state we do not know is pending."""
    state = (word(row, "status") or "").lower()
    status = ACTIONS.get(state, EffectStatus.PENDING)
    return Effect(
        status=status,
        provider_reference=word(row, "request_id"),
        amount=from_decimal(row.get("amt"), CURRENCY),
        currency=CURRENCY,
        error=error_of(TECHNICAL, state) if status is EffectStatus.FAILED else None,
        exchange=answer.exchange,
        key=key_of(word(row, "token") or ""),
    )


# -- settlement ------------------------------------------------------------------------------------


def settlement_rows(answer: Answer) -> list[Mapping[str, object]] | None:
    """The rows of a settlement report, an object by number or a list; None if it is not a report."""
    shown = answer.body.get("Txn_details")
    found = list(shown.values()) if isinstance(shown, dict) else shown
    if word(answer.body, "status") != "1" or not isinstance(found, list):
        return None
    return found if all(isinstance(row, dict) for row in found) else None


def settlement_line(row: Mapping[str, object], day: date) -> SettlementLine | None:
    """One row of the report of ``day``; None for one that does not say what it is or in whole paise."""
    action, payuid, request_id = word(row, "requestaction"), word(row, "payuid"), word(row, "requestid")
    kind = _SETTLED.get((action or "").lower(), _ADJUSTMENT)
    entity_id = payuid if kind == "payment" else request_id
    amount, _ = _signed(row, "requestamount")
    net, owes = _signed(row, "mer_net_amount")
    fee = from_decimal(row.get("mer_service_fee") or "0", CURRENCY)
    tax = from_decimal(row.get("mer_service_tax") or "0", CURRENCY)
    if action is None or entity_id is None or amount is None or net is None or fee is None or tax is None:
        return None
    taken = kind == "refund" or (kind == "adjustment" and owes)
    utr = word(row, "mer_utr")
    return SettlementLine(
        kind=kind,
        entity_id=entity_id,
        amount=-amount if taken else amount,
        currency=CURRENCY,
        fee=fee,
        tax=tax,
        reference=long_reference(word(row, "txnid") or ""),
        refund_key=key_of(word(row, "token") or "") if kind == "refund" else None,
        provider_reference=payuid,
        settlement_id=word(row, "settlement_id") or utr,
        utr=utr,
        settled_at=datetime.combine(day, time(), _IST) if utr else None,
    )


def _signed(row: Mapping[str, object], name: str) -> tuple[int | None, bool]:
    """An amount without its sign, and whether it was negative."""
    raw = row.get(name)
    text = str(raw).strip() if isinstance(raw, str | int | Decimal) and not isinstance(raw, bool) else ""
    return from_decimal(text.removeprefix("-"), CURRENCY), text.startswith("-")
