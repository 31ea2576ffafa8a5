"""Failure reasons as Razorpay names them, mapped into our closed lists.

The simulator names its reasons alike, so one table serves both. Anything not listed falls back
on who caused it (``source``) and on the error's general ``code``.
"""

from __future__ import annotations

import re

from chalicelib.domain.errors import ErrorClass, ErrorCode, PaymentError

Verdict = tuple[ErrorClass, ErrorCode]

# What most refusals come to, for every adapter's own table.
TECHNICAL: Verdict = (ErrorClass.TECHNICAL_DECLINE, ErrorCode.TECHNICAL_FAILURE)
ISSUER = (ErrorClass.DECLINED_ISSUER, ErrorCode.PAYMENT_DECLINED)
AUTHENTICATION = (ErrorClass.DECLINED_CUSTOMER, ErrorCode.AUTHENTICATION_FAILED)
LATE = (ErrorClass.DECLINED_CUSTOMER, ErrorCode.CUSTOMER_TIMED_OUT)
RISK = (ErrorClass.DECLINED_RISK, ErrorCode.RISK_DECLINED)
INVALID = (ErrorClass.INVALID_REQUEST, ErrorCode.NOT_ACCEPTED)
CONFLICT = (ErrorClass.CONFLICT, ErrorCode.CONFLICT)
ACCOUNT = (ErrorClass.CONFIG, ErrorCode.PROVIDER_MISCONFIGURED)
NOT_TAKEN = (ErrorClass.CONFIG, ErrorCode.NOT_ACCEPTED)
UNAVAILABLE = (ErrorClass.PROVIDER_UNAVAILABLE, ErrorCode.PROVIDER_UNAVAILABLE)
NO_FUNDS = (ErrorClass.DECLINED_ISSUER, ErrorCode.INSUFFICIENT_FUNDS)
OUTDATED = (ErrorClass.DECLINED_ISSUER, ErrorCode.INSTRUMENT_EXPIRED)
BLOCKED = (ErrorClass.DECLINED_ISSUER, ErrorCode.INSTRUMENT_BLOCKED)
OVER_LIMIT = (ErrorClass.DECLINED_ISSUER, ErrorCode.LIMIT_EXCEEDED)
WRONG_INSTRUMENT = (ErrorClass.DECLINED_CUSTOMER, ErrorCode.INVALID_INSTRUMENT)
GAVE_UP = (ErrorClass.DECLINED_CUSTOMER, ErrorCode.CUSTOMER_CANCELED)

REASONS: dict[str, Verdict] = {
    # the account or the request
    "merchant_not_activated": ACCOUNT,
    "live_mode_not_enabled": ACCOUNT,
    "input_validation_failed": INVALID,
    "invalid_order_id": INVALID,
    "invalid_currency": INVALID,
    "amount_exceeds_maximum": (ErrorClass.INVALID_REQUEST, ErrorCode.LIMIT_EXCEEDED),
    "amount_less_than_minimum": INVALID,
    # another state than we thought
    "order_already_paid": CONFLICT,
    "duplicate_request": CONFLICT,
    "refund_limit_crossed": CONFLICT,
    "invalid_state": CONFLICT,  # this and the next are the simulator's
    "not_found": INVALID,
    # nobody's fault: another try or another provider may do better
    "gateway_technical_error": TECHNICAL,
    "bank_technical_error": TECHNICAL,
    "issuer_technical_error": TECHNICAL,
    "request_timed_out": TECHNICAL,
    "invalid_response_from_gateway": TECHNICAL,
    "payment_declined_due_to_high_traffic": TECHNICAL,
    "bank_not_available": TECHNICAL,
    "psp_not_available": TECHNICAL,
    # the customer's bank
    "insufficient_funds": NO_FUNDS,
    "insufficient_fund": NO_FUNDS,
    "card_declined": ISSUER,
    "payment_declined": ISSUER,
    "payment_failed": ISSUER,
    "debit_instrument_blocked": BLOCKED,
    "transaction_daily_limit_exceeded": OVER_LIMIT,
    "card_expired": OUTDATED,
    # the customer
    "incorrect_otp": AUTHENTICATION,
    "incorrect_pin": AUTHENTICATION,
    "incorrect_cvv": AUTHENTICATION,
    "authentication_failed": AUTHENTICATION,
    "payment_cancelled": GAVE_UP,
    "payment_timed_out": LATE,
    "payment_collect_request_expired": LATE,
    "invalid_vpa": WRONG_INSTRUMENT,
    # the provider's own risk rules
    "payment_risk_check_failed": RISK,
    "compliance_violation": RISK,
    "payment_amount_tampered": RISK,
}

# The provider itself does not know yet: ask again, never charge again.
UNDECIDED = frozenset({"payment_pending", "collect_request_pending", "deemed_transaction"})

_NOT_ENABLED = "_not_enabled"
_BY_SOURCE: dict[str, Verdict] = {
    "customer": (ErrorClass.DECLINED_CUSTOMER, ErrorCode.PAYMENT_DECLINED),
    "issuer": ISSUER,
    "issuer_bank": ISSUER,
    "bank": ISSUER,
    "gateway": TECHNICAL,
    "internal": TECHNICAL,
}
_BY_CODE: dict[str, Verdict] = {"GATEWAY_ERROR": TECHNICAL, "SERVER_ERROR": TECHNICAL}

_MESSAGES: dict[ErrorCode, str] = {
    ErrorCode.INSUFFICIENT_FUNDS: "There is not enough money in the customer's account.",
    ErrorCode.PAYMENT_DECLINED: "The payment was declined.",
    ErrorCode.INSTRUMENT_EXPIRED: "The card or account has expired.",
    ErrorCode.INSTRUMENT_BLOCKED: "The card or account is blocked.",
    ErrorCode.INVALID_INSTRUMENT: "The card, account or UPI id is not valid.",
    ErrorCode.LIMIT_EXCEEDED: "The amount is above a limit.",
    ErrorCode.AUTHENTICATION_FAILED: "The customer could not be authenticated.",
    ErrorCode.CUSTOMER_CANCELED: "The customer canceled the payment.",
    ErrorCode.CUSTOMER_TIMED_OUT: "The customer did not finish in time.",
    ErrorCode.RISK_DECLINED: "The provider's risk check refused the payment.",
    ErrorCode.TECHNICAL_FAILURE: "The payment failed for a technical reason.",
    ErrorCode.NOT_ACCEPTED: "The provider does not take this request.",
    ErrorCode.PROVIDER_MISCONFIGURED: "The provider does not accept this account.",
    ErrorCode.CONFLICT: "The provider has this in another state.",
    ErrorCode.PROVIDER_UNAVAILABLE: "The provider could not be reached.",
    ErrorCode.RATE_LIMITED: "The provider is busy.",
    ErrorCode.MISMATCH: "The provider names another amount or currency.",
}

# What of a provider's code is looked at: whoever wrote it may have written a megabyte.
_LONGEST = 400
# Emails and VPAs; phone numbers, of seven digits and more with or without marks between them.
_REACHES_SOMEBODY = re.compile(r"[^\s@]{1,64}@[^\s@]{1,255}|\+?[0-9](?:[ ().-]?[0-9]){6,}")


def error_of(verdict: Verdict, raw: str | None) -> PaymentError:
    """The error of that class and code, in our own words: the provider's may quote what the customer typed.

    ``raw`` is the provider's code, kept for support desks. Where it is a sentence, addresses and long numbers go.
    """
    error_class, code = verdict
    return PaymentError(
        error_class, code, _MESSAGES[code], _REACHES_SOMEBODY.sub("•••", raw[:_LONGEST])[:100] if raw else None
    )


def classify(reason: str | None, source: str | None, code: str | None, default: Verdict = ISSUER) -> PaymentError:
    """What a failure means to us; ``default`` is for a reason, source and code that nobody knows."""
    found = REASONS.get(reason or "")
    if found is None and (reason or "").endswith(_NOT_ENABLED):
        found = NOT_TAKEN
    found = found or _BY_SOURCE.get(source or "") or _BY_CODE.get(code or "") or default
    return error_of(found, reason or code)


def classify_request(reason: str | None, code: str | None) -> PaymentError:
    """What a refused request means to us: not a decline, because nobody tried to pay."""
    return classify(reason, None, code, default=INVALID)
