"""What a refused capture, void or refund comes to: a failure, or a question that stays open.

It has failed only if the refusal says that it had no effect and never will, and the facts do not speak
against that. The services repeat what is Unknown under its key; what was called a failure they never do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chalicelib.domain.errors import ErrorClass, ErrorCode
from chalicelib.domain.outcome import ChargeStatus, Effect, EffectStatus, Unknown
from chalicelib.providers.calls import unknown

if TYPE_CHECKING:
    from chalicelib.domain.errors import PaymentError
    from chalicelib.providers.calls import Answer

_DEFINITE = frozenset(
    {
        ErrorClass.INVALID_REQUEST,
        ErrorClass.CONFLICT,
        ErrorClass.DECLINED_ISSUER,
        ErrorClass.DECLINED_CUSTOMER,
        ErrorClass.DECLINED_RISK,
    }
)
_ENDED = frozenset({ChargeStatus.SUCCEEDED, ChargeStatus.DECLINED, ChargeStatus.CANCELED})


def is_definite(error: PaymentError) -> bool:
    """Whether a refusal says that it had no effect; a technical one may hide one."""
    return error.error_class in _DEFINITE or error.code is ErrorCode.NOT_ACCEPTED


def has_failed(error: PaymentError, now: ChargeStatus | None) -> bool:
    """Whether a refused capture or void has failed, by how its charge was seen to stand afterwards.

    ``now`` is None if the provider knows no such charge, and never the status that was asked for.
    """
    if now in _ENDED:
        return True  # in another way, and no earlier try of ours can change that any more
    # "It is in another state" of one that is not: an earlier try of ours may be about to show.
    is_contradicted = now is not None and error.error_class is ErrorClass.CONFLICT
    return is_definite(error) and not is_contradicted


def refused(error: PaymentError, answer: Answer, *, failed: bool) -> Effect | Unknown:
    """The refusal as an outcome."""
    if failed:
        return Effect(EffectStatus.FAILED, error=error, exchange=answer.exchange)
    return Unknown(unknown(error.provider_code or f"http_{answer.status}"), answer.exchange, answer.retry_after)
