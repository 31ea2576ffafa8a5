"""Cashfree's error codes in our closed lists, and what a refused request means.

Source of every fact: the list of error codes in Cashfree's reference, and its answers where the list is silent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chalicelib.domain.errors import ErrorClass, ErrorCode, PaymentError
from chalicelib.domain.outcome import Charge, ChargeStatus, NotSent, Unknown
from chalicelib.providers.calls import text, unknown
from chalicelib.providers.reasons import (
    ACCOUNT,
    AUTHENTICATION,
    CONFLICT,
    INVALID,
    ISSUER,
    NO_FUNDS,
    NOT_TAKEN,
    TECHNICAL,
    error_of,
)

if TYPE_CHECKING:
    from chalicelib.providers.calls import Answer
    from chalicelib.providers.reasons import Verdict

ERRORS: dict[str, Verdict] = {
    # error_reason and error_code of a failed payment; Cashfree publishes no list on its pages
    "auth_declined": AUTHENTICATION,
    "bank_rejected": ISSUER,
    "insufficient_funds": NO_FUNDS,
    "ISSUER_NOT_AVAILABLE": TECHNICAL,
    # code of a refused request: the account
    "authentication_error": ACCOUNT,
    "partner_apikey_invalid": ACCOUNT,
    "version_invalid": ACCOUNT,
    "version_missing": ACCOUNT,
    # what this account does not take, though another provider may
    "authorize_only_invalid": NOT_TAKEN,
    "netbanking_bank_code_invalid": NOT_TAKEN,
    "payment_gateway_inactive": NOT_TAKEN,
    "payment_gateway_unsupported": NOT_TAKEN,
    "payment_method_invalid": NOT_TAKEN,
    "payment_method_unsupported": NOT_TAKEN,
    "request_failed": NOT_TAKEN,
    # the request
    "customer_email_invalid": INVALID,
    "customer_phone_invalid": INVALID,
    "order_amount_invalid": (ErrorClass.INVALID_REQUEST, ErrorCode.LIMIT_EXCEEDED),
    "order_expiry_time_invalid": INVALID,
    "order_id_invalid": INVALID,
    "payment_amount_invalid": INVALID,
    "payment_session_id_invalid": INVALID,
    "refund_id_invalid": INVALID,
    "refund_unsupported": INVALID,
    # another state than we thought
    "order_already_exists": CONFLICT,
    "order_already_paid": CONFLICT,
    "order_id_already_exists": CONFLICT,
    "order_id_not_paid": CONFLICT,
    "order_id_voided": CONFLICT,
    "order_inactive": CONFLICT,
    "order_not_found": CONFLICT,
    "orderpay_already_exists": CONFLICT,
    "orderpay_not_found": CONFLICT,
    "refund_amount_invalid": CONFLICT,
    "refund_id_already_exists": CONFLICT,
    "refund_invalid": CONFLICT,
    "refund_not_allowed": CONFLICT,
    # nobody's fault
    "bank_processing_failure": TECHNICAL,
    "order_create_failed": TECHNICAL,
    "order_pay_failed": TECHNICAL,
    "refund_post_failed": TECHNICAL,
}
# Cashfree itself does not know what became of the request.
UNDECIDED = frozenset({"api_request_failed", "api_request_timeout"})
# An earlier try of ours stands in the way. "Invalid" is said of an id that was used before as well, and
# ours are never malformed.
_REPEATED = frozenset({"refund_id_already_exists", "refund_already_exists", "refund_id_invalid"})
# They say nothing of what became of a capture, void or refund: one is the code of whatever has none of its own.
_UNCLEAR = frozenset({"request_failed", "payment_gateway_inactive"})
_UNSURE = (409, 422)  # the same key in another request, or in one that still runs
_NOT_FOUND = 404


def is_missing(answer: Answer) -> bool:
    """Whether the answer says that there is no such object."""
    return answer.status == _NOT_FOUND


def refusal(answer: Answer) -> PaymentError:
    """What a refused request means to us."""
    code = text(answer.body, "code")
    found = CONFLICT if is_missing(answer) else INVALID
    return error_of(ERRORS.get(code or "", found), code or f"http_{answer.status}")


def effect_refusal(answer: Answer) -> PaymentError:
    """What a refused capture, void or refund means: a code that nobody knows says nothing of its effect.

    Cashfree's ``type`` is no help: it calls a refund that its own system did not post an invalid request.
    """
    code = text(answer.body, "code")
    if code in _UNCLEAR or not (code in ERRORS or is_missing(answer)):
        return error_of(TECHNICAL, code or f"http_{answer.status}")
    return refusal(answer)


def is_repeat(answer: Answer) -> bool:
    """Whether a refused refund may have been made by an earlier try of ours, shown or not."""
    return text(answer.body, "code") in _REPEATED


def undecided(answer: Answer) -> NotSent | Unknown | None:
    """A refusal that decides nothing: of our account, or of a request that may yet have an effect."""
    error = refusal(answer)
    code = text(answer.body, "code") or ""
    if code in UNDECIDED or (answer.status in _UNSURE and code not in ERRORS):
        return Unknown(unknown(code or f"http_{answer.status}"), answer.exchange, answer.retry_after)
    return (
        NotSent(error, answer.exchange, answer.retry_after) if error.code is ErrorCode.PROVIDER_MISCONFIGURED else None
    )


def refused_charge(answer: Answer) -> Charge | NotSent | Unknown | None:
    """What a refused order or payment means; None asks the caller to look at the order."""
    error = refusal(answer)
    if error.error_class is ErrorClass.CONFLICT:
        return None
    if error.error_class is ErrorClass.CONFIG:
        return NotSent(error, answer.exchange, answer.retry_after)
    return undecided(answer) or Charge(
        ChargeStatus.DECLINED, error=error, exchange=answer.exchange, retry_after=answer.retry_after
    )
