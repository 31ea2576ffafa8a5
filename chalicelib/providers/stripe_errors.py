"""Stripe's error and decline codes in our closed lists (docs.stripe.com/error-codes and /declines/codes)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chalicelib.domain.errors import ErrorClass, ErrorCode
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
    NOT_TAKEN,
    OUTDATED,
    OVER_LIMIT,
    RISK,
    TECHNICAL,
    UNAVAILABLE,
    WRONG_INSTRUMENT,
    error_of,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chalicelib.domain.errors import PaymentError
    from chalicelib.providers.calls import Answer
    from chalicelib.providers.reasons import Verdict

# Decline codes and error codes in one table; where an error has both, the decline code says more.
ERRORS: dict[str, Verdict] = {
    # the card's issuer, or the customer's bank
    **dict.fromkeys(
        "call_issuer card_declined card_not_supported currency_not_supported do_not_honor do_not_try_again"
        " duplicate_transaction generic_decline new_account_information_available no_action_taken not_permitted"
        " payment_method_provider_decline payment_intent_payment_attempt_failed refer_to_customer"
        " revocation_of_all_authorizations revocation_of_authorization service_not_allowed stop_payment_order"
        " transaction_not_allowed".split(),
        ISSUER,
    ),
    "insufficient_funds": NO_FUNDS,
    "expired_card": OUTDATED,
    "expired_payment_method": OUTDATED,
    "restricted_card": BLOCKED,
    "pin_try_exceeded": BLOCKED,
    "card_decline_rate_limit_exceeded": BLOCKED,
    "card_velocity_exceeded": OVER_LIMIT,
    "withdrawal_count_limit_exceeded": OVER_LIMIT,
    "invalid_amount": OVER_LIMIT,
    "charge_exceeds_source_limit": OVER_LIMIT,
    "charge_exceeds_transaction_limit": OVER_LIMIT,
    # said to the customer in general words only, which is what Stripe asks for
    **dict.fromkeys(
        "fraudulent lost_card stolen_card pickup_card merchant_blacklist security_violation highest_risk_level".split(),
        RISK,
    ),
    # nobody's fault: another try or another provider may do better
    **dict.fromkeys(
        "approve_with_id issuer_not_available processing_error reenter_transaction try_again_later"
        " payment_method_provider_timeout three_d_secure_authentication_upstream_error".split(),
        TECHNICAL,
    ),
    "payment_method_not_available": UNAVAILABLE,
    # the customer
    **dict.fromkeys(
        "authentication_required authentication_not_handled mobile_device_authentication_required incorrect_cvc"
        " invalid_cvc incorrect_pin invalid_pin offline_pin_required online_or_offline_pin_required incorrect_zip"
        " incorrect_address payment_intent_authentication_failure authentication_failure".split(),
        AUTHENTICATION,
    ),
    **dict.fromkeys(
        "incorrect_number invalid_number invalid_account invalid_expiry_month invalid_expiry_year invalid_card_type"
        ""
        " account_closed no_account live_mode_test_card testmode_decline".split(),
        WRONG_INSTRUMENT,
    ),
    "payment_method_customer_decline": GAVE_UP,
    "payment_intent_payment_attempt_expired": LATE,
    # the account, or what is enabled on it
    **dict.fromkeys(
        "account_invalid api_key_expired platform_api_key_expired secret_key_required testmode_charges_only"
        " livemode_mismatch balance_insufficient tls_version_unsupported".split(),
        ACCOUNT,
    ),
    **dict.fromkeys(
        "capability_not_active country_unsupported parameter_unknown payment_method_currency_mismatch"
        " payment_method_unactivated payment_method_unsupported_type".split(),
        NOT_TAKEN,
    ),
    # the request
    "amount_too_small": INVALID,
    "amount_too_large": (ErrorClass.INVALID_REQUEST, ErrorCode.LIMIT_EXCEEDED),
    # another state than we thought
    **dict.fromkeys(
        "payment_intent_unexpected_state intent_invalid_state status_transition_invalid charge_already_captured"
        " charge_already_refunded charge_disputed charge_expired_for_capture charge_not_refundable"
        " capture_charge_authorization_expired capture_unauthorized_payment refund_disputed_payment"
        " resource_already_exists".split(),
        CONFLICT,
    ),
}
# Refund.failure_reason. "insufficient_funds" is the merchant's balance at Stripe and not the customer's account.
REFUND_FAILURES: dict[str, Verdict] = {
    "lost_or_stolen_card": BLOCKED,
    "expired_or_canceled_card": OUTDATED,
    "insufficient_funds": ACCOUNT,
    "charge_for_pending_refund_disputed": CONFLICT,
    "merchant_request": CONFLICT,
    "declined": ISSUER,
}
_NEVER_AGAIN = "do_not_try_again"
_MAY_BE_RETRIED = frozenset({ErrorClass.TECHNICAL_DECLINE, ErrorClass.PROVIDER_UNAVAILABLE})
_DECLINED_STATUS = 402


def decline(error: Mapping[str, object], default: Verdict = ISSUER) -> PaymentError:
    """Why a payment failed or a request was refused; ``advice_code`` do_not_try_again wins over a code to retry."""
    code, decline_code = text(error, "code"), text(error, "decline_code")
    if text(error, "type") == "api_error":
        default = TECHNICAL
    verdict = ERRORS.get(decline_code or "") or ERRORS.get(code or "") or default
    if text(error, "advice_code") == _NEVER_AGAIN and verdict[0] in _MAY_BE_RETRIED:
        verdict = ISSUER
    return error_of(verdict, decline_code or code or text(error, "type"))


def refusal(answer: Answer, otherwise: Verdict = INVALID) -> PaymentError:
    """Why a request was refused: by a bank if it got that far, else for what it asked.

    ``otherwise`` is for an error that is neither, and that nobody knows.
    """
    error = section(answer.body, "error")
    asked = INVALID if text(error, "type") == "invalid_request_error" else otherwise
    return decline(error, ISSUER if answer.status == _DECLINED_STATUS else asked)


def refund_failure(reason: str | None, status: str | None) -> PaymentError:
    """Why a refund failed; without a reason it was somebody's machine."""
    return error_of(REFUND_FAILURES.get(reason or "", TECHNICAL), reason or status)
