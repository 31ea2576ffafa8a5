"""PayU's hashes, transactions, actions and callbacks as the bank's records show them."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode

from chalicelib.domain.ids import long_reference
from infra.sandbox.book import IST
from infra.sandbox.records import Fact, Notice, State, token
from infra.sandbox.wire import compact, strings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infra.sandbox.bank import Bank
    from infra.sandbox.records import Charge, Refund, Settled

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_NAME = 14  # digits of a record's name in the book
_FORM = "application/x-www-form-urlencoded"
_CALLBACK = b'{"action":"refund",'  # how a refund's callback begins
_MODES = {"upi": "UPI", "netbanking": "NB", "wallet": "CASH", "card": "CC"}
_STATES = {
    State.ACTION: ("pending", "initiated"),
    State.PENDING: ("pending", "in progress"),
    State.AUTHORIZED: ("success", "auth"),
    State.CAPTURED: ("success", "captured"),
    State.VOIDED: ("failure", "cancelled"),
}
_NO_ERROR = ("E000", "No Error")
# Why a transaction failed: unmappedstatus, error, error_Message.
_FAILURES: dict[str, tuple[str, str, str]] = {
    "payment_declined": ("failed", "E312", "Bank denied transaction on the card."),
    "payment_failed": ("failed", "E308", "Transaction Failed at bank end."),
    "insufficient_funds": ("failed", "E706", "The account against which the payment was made has insufficient funds"),
    "gateway_technical_error": ("failed", "E208", "Error at the Bank Server end"),
    "payment_risk_check_failed": ("failed", "E338", "Transaction denied because one or more risk rules failed"),
    "authentication_failed": ("failed", "E303", "Card authentication failure"),
    "card_expired": ("failed", "E311", "The Card has been expired"),
    "payment_cancelled": ("userCancelled", "E502", "Transaction cancelled by customer"),
    "payment_timed_out": ("bounced", *_NO_ERROR),
}
_REFUND_STATUS = {"pending": "queued", "succeeded": "success", "failed": "failure", "returned": "failure"}
_REFUND_FACTS = frozenset({Fact.REFUNDED, Fact.REFUND_FAILED, Fact.REFUND_RETURNED})


# -- names and amounts -----------------------------------------------------------------------------


def number_of(name: str) -> str:
    """The number that PayU would give to what the book calls ``ch_…`` or ``rfnd_…``."""
    number = 0
    for letter in name.rpartition("_")[2]:
        number = number * len(_DIGITS) + _DIGITS.index(letter)
    return str(number)


def name_of(prefix: str, number: str) -> str:
    """The book's name for that number."""
    rest, letters = int(number) if number.isascii() and number.isdigit() else 0, []
    for _ in range(_NAME):
        rest, digit = divmod(rest, len(_DIGITS))
        letters.append(_DIGITS[digit])
    return prefix + "".join(reversed(letters))


def reference_of(txnid: str) -> str:
    """What the book files a txnid under: our reference, where it is one of ours."""
    return long_reference(txnid) or txnid


def rupees(amount: int) -> str:
    """Paise as PayU writes them."""
    return f"{amount // 100}.{amount % 100:02d}"


def paise(text: str) -> int | None:
    """A positive amount in whole paise, or None."""
    try:
        amount = Decimal(text) * 100
    except InvalidOperation:
        return None
    return int(amount) if amount.is_finite() and amount > 0 and amount == int(amount) else None


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at + IST, UTC).strftime("%Y-%m-%d %H:%M:%S")


# -- hashes ----------------------------------------------------------------------------------------


def request_hash(salt: str, form: Mapping[str, str]) -> str:
    """The hash of a payment request."""
    names = "key txnid amount productinfo firstname email udf1 udf2 udf3 udf4 udf5".split()
    return _sha512("|".join(form.get(name, "") for name in names) + "||||||" + salt)


def command_hash(salt: str, form: Mapping[str, str]) -> str:
    """The hash of a postservice command."""
    return _sha512("|".join([form.get("key", ""), form.get("command", ""), form.get("var1", ""), salt]))


def response_hash(salt: str, fields: Mapping[str, str]) -> str:
    """The hash of what PayU sends."""
    names = "udf5 udf4 udf3 udf2 udf1 email firstname productinfo amount txnid key".split()
    text = f"{salt}|{fields.get('status', '')}||||||" + "|".join(fields.get(name, "") for name in names)
    if "additionalCharges" in fields:
        text = f"{fields['additionalCharges']}|{text}"
    return _sha512(text)


def _sha512(text: str) -> str:
    return hashlib.sha512(text.encode("utf-8", "surrogatepass")).hexdigest()


# -- transactions ----------------------------------------------------------------------------------


def _outcome(charge: Charge) -> tuple[str, str, str, str]:
    """status, unmappedstatus, error and error_Message."""
    if charge.state is State.FAILED:
        return ("failure", *_FAILURES.get(charge.reason or "", _FAILURES["payment_failed"]))
    return (*_STATES[charge.state], *_NO_ERROR)


def notice_fields(charge: Charge) -> dict[str, str]:
    """What surl, furl and webhook get of a transaction, but for the hash."""
    form = strings(charge.details.get("form"))
    status, unmapped, error, words = _outcome(charge)
    amount = rupees(charge.amount + charge.misreport) if charge.misreport else form.get("amount", "")
    mode = _MODES.get(charge.method.get("type", ""), "UPI")
    bank_reference = f"{int(charge.created_at):012d}" if status == "success" else ""
    return {
        "mihpayid": number_of(charge.id),
        "mode": mode,
        "status": status,
        "unmappedstatus": unmapped,
        "key": form.get("key", ""),
        "txnid": form.get("txnid", ""),
        "amount": amount,
        "discount": "0.00",
        "net_amount_debit": amount.removesuffix(".00") if status == "success" else "0.00",
        "addedon": _clock(charge.created_at),
        **{name: form.get(name, "") for name in ("productinfo", "firstname", "email", "phone")},
        **{f"udf{number}": form.get(f"udf{number}", "") for number in range(1, 6)},
        "field1": bank_reference,
        "field9": words,
        "PG_TYPE": f"{mode}-PG",
        "bank_ref_num": bank_reference,
        "bankcode": form.get("bankcode", mode),
        "error": error,
        "error_Message": words,
    }


def transaction(charge: Charge) -> dict[str, object]:
    """What verify_payment shows of a transaction."""
    fields = notice_fields(charge)
    amount = rupees(charge.amount + charge.misreport)
    shown = ("mihpayid", "txnid", "productinfo", "firstname", "bankcode", "mode", "status", "unmappedstatus")
    return {
        **{name: fields[name] for name in shown},
        "request_id": "",
        "bank_ref_num": fields["bank_ref_num"] or None,
        "amt": amount,
        "transaction_amount": amount,
        "additional_charges": "0.00",
        **{f"udf{number}": fields[f"udf{number}"] for number in range(1, 6)},
        "field9": fields["field9"],
        "error_code": fields["error"],
        "error_Message": fields["error_Message"],
        "net_amount_debit": fields["net_amount_debit"],
        "disc": "0.00",
        "PG_TYPE": fields["PG_TYPE"],
        "addedon": fields["addedon"],
        "payment_source": "payu",
        "Merchant_UTR": None,
        "Settled_At": "0000-00-00 00:00:00",
    }


MISSING = {"mihpayid": "Not Found", "status": "Not Found"}


# -- actions ---------------------------------------------------------------------------------------


def actions(bank: Bank, charge: Charge) -> list[dict[str, object]]:
    """What has been done to a transaction, oldest first: its capture, cancelation and refunds."""
    done = charge.details.get("actions")
    rows = [_row(charge, **row) for row in done] if isinstance(done, list) else []
    if charge.state is State.CAPTURED and not any(row["action"] == "capture" for row in rows):
        number = number_of(token(_NAME, "capture", charge.id))  # by PayU itself, or in its dashboard
        rows.insert(0, _row(charge, number, "capture", "", charge.captured, "SUCCESS"))
    return rows + [refund_row(charge, refund) for refund in reversed(bank.book.refunds_of(charge))]


def refund_row(charge: Charge, refund: Refund) -> dict[str, object]:
    """A refund among the actions."""
    used = refund.details.get("token", "")
    status = _REFUND_STATUS[refund.status]
    return _row(charge, number_of(refund.id), "refund", str(used), refund.amount + refund.misreport, status)


def _row(charge: Charge, request_id: str, action: str, used: str, amount: int, status: str) -> dict[str, object]:
    return {
        "mihpayid": number_of(charge.id),
        "bank_ref_num": None,
        "request_id": request_id,
        "amt": rupees(amount),
        "mode": _MODES.get(charge.method.get("type", ""), "UPI"),
        "action": action,
        "token": used,
        "status": status,
        "bank_arn": None,
        "settlement_id": None,
        "amount_settled": None,
        "UTR_no": None,
        "value_date": None,
        "refund_mode": "Back to Source" if action == "refund" else "-",
    }


def settlement_row(line: Settled) -> dict[str, object]:
    """A row of the settlement report."""
    charge, refund = line.charge, line.refund
    net = -line.amount if refund else line.amount - line.fee - line.tax
    return {
        "payuid": number_of(charge.id),
        "txnid": strings(charge.details.get("form")).get("txnid", charge.reference),
        "txndate": _clock(charge.created_at),
        "mode": _MODES.get(charge.method.get("type", ""), "UPI"),
        "amount": rupees(charge.amount),
        "requestid": number_of(refund.id if refund else token(_NAME, "capture", charge.id)),
        "requestdate": _clock(line.at),
        "requestaction": "refund" if refund else "capture",
        "requestamount": rupees(line.amount),
        "mer_utr": line.utr,
        "mer_service_fee": f"{rupees(line.fee)}00",
        "mer_service_tax": f"{rupees(line.tax)}00",
        "mer_net_amount": f"{'-' if net < 0 else ''}{rupees(abs(net))}00",
        "bank_name": "SANDBOX",
        "issuing_bank": "SANDBOX",
        "merchant_subvention_amount": "0.00",
        "cgst": "0.00000",
        "igst": f"{rupees(line.tax)}000",
        "sgst": "0.00000",
        "PG_TYPE": "SANDBOX",
        "Card Type": "",
        "token": str(refund.details.get("token", "")) if refund else "",
    }


# -- callbacks -------------------------------------------------------------------------------------


def events(bank: Bank, fact: Fact, charge: Charge, refund: Refund | None) -> list[Notice]:
    """The callbacks that tell of a fact: of a payment's end, and of a refund's."""
    if refund is not None:
        if fact not in _REFUND_FACTS:
            return []
        row = refund_row(charge, refund)
        kept = ("refund_mode", "bank_ref_num", "amt", "status", "token", "mihpayid", "request_id", "bank_arn")
        form = strings(charge.details.get("form"))
        callback = {
            "action": "refund",
            **{name: row[name] for name in kept},
            "key": form.get("key"),
            "merchantTxnId": form.get("txnid"),
            "remark": None,
            "additionalValue1": None,
            "additionalValue2": None,
        }
        return [Notice("Refund", compact(callback), bank.event_id("Refund", charge, refund))]
    if fact is Fact.AUTHORIZED and charge.automatic:
        return []
    fields = notice_fields(charge)
    kind = "Successful" if fields["status"] == "success" else "Failed"
    return [Notice(kind, urlencode(fields).encode(), bank.event_id(kind, charge))]


def sign(secret: str, body: bytes, event_id: str, now: float) -> tuple[bytes, dict[str, str]]:  # noqa: ARG001 - neither is signed
    """A callback as it is sent: a payment's form carries its hash, a refund's JSON nothing."""
    if body.startswith(_CALLBACK):
        return body, {"content-type": "application/json"}
    fields = dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))
    return body + f"&hash={response_hash(secret, fields)}".encode(), {"content-type": _FORM}
