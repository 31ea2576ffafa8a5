"""Every way Railyard says no.

RailyardError                     what the API shows: code, HTTP status, detail, param
├── InvalidRequest       422      a field is wrong; ``param`` names it
├── Unauthenticated      401      credentials that are missing, wrong or over
├── Forbidden            403      known, and not allowed to do this
├── NotFoundError        404      no such object for this merchant and mode
├── StateConflict        409      the object is not in a state that allows this
├── NotSetUp             409      the merchant has never set this mode up; also a LookupError
├── Contended            429      too many writers on one object; nothing was written
└── RateLimited          429      too many requests of one kind

PaymentError                      data, not an exception: why a payment or operation failed
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum


class ErrorClass(StrEnum):
    """The ten classes that every provider error is mapped into; retry and routing read these."""

    CONFIG = "config"
    INVALID_REQUEST = "invalid_request"
    CONFLICT = "conflict"
    RATE_LIMITED = "rate_limited"
    PROVIDER_UNAVAILABLE = "provider_unavailable"
    TIMEOUT_UNKNOWN = "timeout_unknown"
    DECLINED_ISSUER = "declined_issuer"
    DECLINED_CUSTOMER = "declined_customer"
    DECLINED_RISK = "declined_risk"
    TECHNICAL_DECLINE = "technical_decline"


class ErrorCode(StrEnum):
    """The closed list of ``error.code`` on payments, attempts and operations."""

    INSUFFICIENT_FUNDS = "insufficient_funds"
    PAYMENT_DECLINED = "payment_declined"
    INSTRUMENT_EXPIRED = "instrument_expired"
    INSTRUMENT_BLOCKED = "instrument_blocked"
    INVALID_INSTRUMENT = "invalid_instrument"
    LIMIT_EXCEEDED = "limit_exceeded"
    AUTHENTICATION_FAILED = "authentication_failed"
    CUSTOMER_CANCELED = "customer_canceled"
    CUSTOMER_TIMED_OUT = "customer_timed_out"
    RISK_BLOCKED = "risk_blocked"  # by our own rules
    RISK_DECLINED = "risk_declined"  # by the provider's
    REVIEW_REJECTED = "review_rejected"
    TECHNICAL_FAILURE = "technical_failure"
    PROVIDER_UNAVAILABLE = "provider_unavailable"
    RATE_LIMITED = "rate_limited"
    NOT_ACCEPTED = "not_accepted"  # the provider does not take this request at all
    PROVIDER_MISCONFIGURED = "provider_misconfigured"
    OUTCOME_UNKNOWN = "outcome_unknown"
    MISMATCH = "mismatch"  # the provider's amount or currency is not ours
    NO_ROUTE = "no_route"  # no provider can take this payment
    EXPIRED = "expired"
    CONFLICT = "conflict"  # the provider says the object is in another state


@dataclass(frozen=True, slots=True)
class PaymentError:
    """Why a charge or operation did not succeed. ``provider_code`` is the provider's raw code."""

    error_class: ErrorClass
    code: ErrorCode
    message: str
    provider_code: str | None = None


class RailyardError(Exception):
    """A refusal that the API shows to the merchant as problem+json."""

    status = 400

    def __init__(self, code: str, detail: str, *, param: str | None = None, retry_after: int | None = None) -> None:
        """``code`` is stable and machine-readable; ``detail`` is for people."""
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.param = param
        self.retry_after = retry_after  # seconds


class InvalidRequest(RailyardError):
    """422: a field is wrong."""

    status = 422


class Unauthenticated(RailyardError):
    """401: credentials that are missing, wrong or over."""

    status = 401


class Forbidden(RailyardError):
    """403: whoever it is may not do this."""

    status = 403


class NotFoundError(RailyardError):
    """404: the object does not exist for this merchant and mode."""

    status = 404


class StateConflict(RailyardError):
    """409: the object's state does not allow this."""

    status = 409


class NotSetUp(RailyardError, LookupError):
    """409: the merchant has never set this mode up."""

    status = 409


class Contended(RailyardError):
    """429: the object is being changed by too many requests at once; nothing was written."""

    status = 429

    def __init__(self, what: str) -> None:
        """``what`` names the object."""
        super().__init__(
            "too_many_concurrent_changes",
            f"{what} is being changed by many requests at once. Try again.",
            retry_after=1,
        )


class RateLimited(RailyardError):
    """429: too many of these; nothing was taken in."""

    status = 429

    def __init__(self, what: str, retry_after: float = 1) -> None:
        """``what`` there is too much of; ``retry_after`` in seconds."""
        super().__init__("rate_limited", f"Too many {what}. Slow down.", retry_after=max(1, math.ceil(retry_after)))
