"""Failure reasons as Razorpay names them, mapped into our closed lists.

The simulator names its reasons alike, so one table serves both. Anything not listed falls back
on who caused it (``source``) and on the error's general ``code``.
"""

from __future__ import annotations

from chalicelib.domain.errors import ErrorClass, ErrorCode, PaymentError

_TECHNICAL = (ErrorClass.TECHNICAL_DECLINE, ErrorCode.TECHNICAL_FAILURE)
_ISSUER = (ErrorClass.DECLINED_ISSUER, ErrorCode.PAYMENT_DECLINED)
_AUTHENTICATION = (ErrorClass.DECLINED_CUSTOMER, ErrorCode.AUTHENTICATION_FAILED)
_LATE = (ErrorClass.DECLINED_CUSTOMER, ErrorCode.CUSTOMER_TIMED_OUT)
_RISK = (ErrorClass.DECLINED_RISK, ErrorCode.RISK_DECLINED)
_INVALID = (ErrorClass.INVALID_REQUEST, ErrorCode.NOT_ACCEPTED)
_CONFLICT = (ErrorClass.CONFLICT, ErrorCode.CONFLICT)
_ACCOUNT = (ErrorClass.CONFIG, ErrorCode.PROVIDER_MISCONFIGURED)
_NOT_TAKEN = (ErrorClass.CONFIG, ErrorCode.NOT_ACCEPTED)

REASONS: dict[str, tuple[ErrorClass, ErrorCode]] = {
    # the account or the request
    "merchant_not_activated": _ACCOUNT,
    "live_mode_not_enabled": _ACCOUNT,
    "input_validation_failed": _INVALID,
    "invalid_order_id": _INVALID,
    "invalid_currency": _INVALID,
    "amount_exceeds_maximum": (ErrorClass.INVALID_REQUEST, ErrorCode.LIMIT_EXCEEDED),
    "amount_less_than_minimum": _INVALID,
    # another state than we thought
    "order_already_paid": _CONFLICT,
    "duplicate_request": _CONFLICT,
    "refund_limit_crossed": _CONFLICT,
    "invalid_state": _CONFLICT,  # the simulator's
    # nobody's fault: another try or another provider may do better
    "gateway_technical_error": _TECHNICAL,
    "bank_technical_error": _TECHNICAL,
    "issuer_technical_error": _TECHNICAL,
    "request_timed_out": _TECHNICAL,
    "invalid_response_from_gateway": _TECHNICAL,
    "payment_declined_due_to_high_traffic": _TECHNICAL,
    "bank_not_available": _TECHNICAL,
    "psp_not_available": _TECHNICAL,
    # the customer's bank
    "insufficient_funds": (ErrorClass.DECLINED_ISSUER, ErrorCode.INSUFFICIENT_FUNDS),
    "insufficient_fund": (ErrorClass.DECLINED_ISSUER, ErrorCode.INSUFFICIENT_FUNDS),
    "card_declined": _ISSUER,
    "payment_declined": _ISSUER,
    "payment_failed": _ISSUER,
    "debit_instrument_blocked": (ErrorClass.DECLINED_ISSUER, ErrorCode.INSTRUMENT_BLOCKED),
    "transaction_daily_limit_exceeded": (ErrorClass.DECLINED_ISSUER, ErrorCode.LIMIT_EXCEEDED),
    "card_expired": (ErrorClass.DECLINED_ISSUER, ErrorCode.INSTRUMENT_EXPIRED),
    # the customer
    "incorrect_otp": _AUTHENTICATION,
    "incorrect_pin": _AUTHENTICATION,
    "incorrect_cvv": _AUTHENTICATION,
    "authentication_failed": _AUTHENTICATION,
    "payment_cancelled": (ErrorClass.DECLINED_CUSTOMER, ErrorCode.CUSTOMER_CANCELED),
    "payment_timed_out": _LATE,
    "payment_collect_request_expired": _LATE,
    "invalid_vpa": (ErrorClass.DECLINED_CUSTOMER, ErrorCode.INVALID_INSTRUMENT),
    # the provider's own risk rules
    "payment_risk_check_failed": _RISK,
    "compliance_violation": _RISK,
    "payment_amount_tampered": _RISK,
}

# The provider itself does not know yet: ask again, never charge again.
UNDECIDED = frozenset({"payment_pending", "collect_request_pending", "deemed_transaction"})

_NOT_ENABLED = "_not_enabled"
_BY_SOURCE: dict[str, tuple[ErrorClass, ErrorCode]] = {
    "customer": (ErrorClass.DECLINED_CUSTOMER, ErrorCode.PAYMENT_DECLINED),
    "issuer": _ISSUER,
    "issuer_bank": _ISSUER,
    "bank": _ISSUER,
    "gateway": _TECHNICAL,
    "internal": _TECHNICAL,
}
_BY_CODE: dict[str, tuple[ErrorClass, ErrorCode]] = {"GATEWAY_ERROR": _TECHNICAL, "SERVER_ERROR": _TECHNICAL}

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
}


def classify(
    reason: str | None, source: str | None, code: str | None, default: tuple[ErrorClass, ErrorCode] = _ISSUER
) -> PaymentError:
    """What a failure means to us; ``default`` is for a reason, source and code that nobody knows.

    Our own message is used, not the provider's: theirs may quote what the customer typed.
    """
    found = REASONS.get(reason or "")
    if found is None and (reason or "").endswith(_NOT_ENABLED):
        found = _NOT_TAKEN
    found = found or _BY_SOURCE.get(source or "") or _BY_CODE.get(code or "") or default
    error_class, error_code = found
    raw = reason or code
    return PaymentError(error_class, error_code, _MESSAGES[error_code], raw[:100] if raw else None)


def classify_request(reason: str | None, code: str | None) -> PaymentError:
    """What a refused request means to us: not a decline, because nobody tried to pay."""
    return classify(reason, None, code, default=_INVALID)
