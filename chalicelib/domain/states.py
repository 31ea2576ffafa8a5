"""The legal moves of everything that has a status, as data. Whoever wants a new move adds it here."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping


class OrderStatus(StrEnum):
    """What became of something that is owed."""

    CREATED = "created"
    ATTEMPTED = "attempted"
    PAID = "paid"
    EXPIRED = "expired"
    CANCELED = "canceled"


class PaymentStatus(StrEnum):
    """What the merchant sees."""

    CREATED = "created"
    PROCESSING = "processing"
    REQUIRES_ACTION = "requires_action"
    REQUIRES_REVIEW = "requires_review"
    AUTHORIZED = "authorized"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    EXPIRED = "expired"


class AttemptStatus(StrEnum):
    """One charge at one provider."""

    CREATED = "created"
    SENT = "sent"
    NOT_SENT = "not_sent"
    SUCCEEDED = "succeeded"
    AUTHORIZED = "authorized"
    DECLINED = "declined"
    PENDING = "pending"
    ACTION_REQUIRED = "action_required"
    UNKNOWN = "unknown"
    CANCELED = "canceled"
    MANUAL_REVIEW = "manual_review"
    CAPTURED = "captured"
    VOIDED = "voided"
    EXPIRED = "expired"
    LATE_SUCCEEDED = "late_succeeded"
    REVERSED = "reversed"


class OperationStatus(StrEnum):
    """A capture, void, refund or reversal."""

    PENDING = "pending"
    SENT = "sent"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    UNKNOWN = "unknown"
    MANUAL_REVIEW = "manual_review"
    RETURNED = "returned"


class OperationType(StrEnum):
    """Everything that is done to a charge after it was made."""

    CAPTURE = "capture"
    VOID = "void"
    REFUND = "refund"
    REVERSAL = "reversal"


_O, _P, _A, _X = OrderStatus, PaymentStatus, AttemptStatus, OperationStatus

ORDER_MOVES: Mapping[OrderStatus, frozenset[OrderStatus]] = {
    _O.CREATED: frozenset({_O.ATTEMPTED, _O.EXPIRED, _O.CANCELED}),
    _O.ATTEMPTED: frozenset({_O.PAID, _O.EXPIRED, _O.CANCELED}),
    _O.PAID: frozenset(),
    _O.EXPIRED: frozenset(),
    _O.CANCELED: frozenset(),
}

PAYMENT_MOVES: Mapping[PaymentStatus, frozenset[PaymentStatus]] = {
    _P.CREATED: frozenset({_P.PROCESSING, _P.FAILED, _P.REQUIRES_REVIEW, _P.CANCELED, _P.EXPIRED}),
    _P.PROCESSING: frozenset({_P.REQUIRES_ACTION, _P.AUTHORIZED, _P.SUCCEEDED, _P.FAILED, _P.CANCELED, _P.EXPIRED}),
    _P.REQUIRES_ACTION: frozenset({_P.PROCESSING, _P.AUTHORIZED, _P.SUCCEEDED, _P.FAILED, _P.CANCELED, _P.EXPIRED}),
    _P.REQUIRES_REVIEW: frozenset({_P.PROCESSING, _P.FAILED, _P.CANCELED, _P.EXPIRED}),
    _P.AUTHORIZED: frozenset({_P.SUCCEEDED, _P.CANCELED, _P.EXPIRED}),
    _P.SUCCEEDED: frozenset(),
    _P.FAILED: frozenset(),
    _P.CANCELED: frozenset(),
    _P.EXPIRED: frozenset(),
}

_DECIDED = frozenset({_A.SUCCEEDED, _A.AUTHORIZED, _A.DECLINED})
_WAITING = frozenset({_A.PENDING, _A.ACTION_REQUIRED, _A.UNKNOWN})
# A provider's later answer may also move one kind of waiting into another.
_LIVE_MOVES = _DECIDED | _WAITING | {_A.CANCELED, _A.MANUAL_REVIEW, _A.NOT_SENT}

ATTEMPT_MOVES: Mapping[AttemptStatus, frozenset[AttemptStatus]] = {
    # An attempt is born in the transaction that also sends it: see docs/decisions/0004.
    _A.CREATED: frozenset({_A.SENT, _A.NOT_SENT}),
    _A.SENT: _LIVE_MOVES,
    _A.PENDING: _LIVE_MOVES - {_A.PENDING, _A.NOT_SENT},
    _A.ACTION_REQUIRED: _LIVE_MOVES - {_A.ACTION_REQUIRED, _A.NOT_SENT},
    _A.UNKNOWN: _LIVE_MOVES - {_A.UNKNOWN},
    _A.AUTHORIZED: frozenset({_A.CAPTURED, _A.VOIDED, _A.EXPIRED}),
    _A.DECLINED: frozenset({_A.LATE_SUCCEEDED}),
    _A.NOT_SENT: frozenset({_A.LATE_SUCCEEDED}),
    _A.CANCELED: frozenset({_A.LATE_SUCCEEDED}),
    # Money taken after we let go of an authorization is a late success like any other.
    _A.VOIDED: frozenset({_A.LATE_SUCCEEDED}),
    _A.EXPIRED: frozenset({_A.LATE_SUCCEEDED}),
    # A person, or the provider at last, closes a manual review of the attempt the payment still waits for.
    _A.MANUAL_REVIEW: _DECIDED | {_A.CANCELED, _A.LATE_SUCCEEDED},
    _A.SUCCEEDED: frozenset(),
    _A.CAPTURED: frozenset(),
    _A.LATE_SUCCEEDED: frozenset({_A.REVERSED}),
    _A.REVERSED: frozenset({_A.LATE_SUCCEEDED}),  # the bank sent the money back: it must be returned again
}

OPERATION_MOVES: Mapping[OperationStatus, frozenset[OperationStatus]] = {
    # pending → succeeded | failed: the provider said so, by webhook, before our own call went out.
    # A reversal that failed that way waits for a person, as it does after the call.
    _X.PENDING: frozenset({_X.SENT, _X.SUCCEEDED, _X.FAILED, _X.MANUAL_REVIEW}),
    _X.SENT: frozenset({_X.SUCCEEDED, _X.FAILED, _X.UNKNOWN, _X.MANUAL_REVIEW}),
    _X.UNKNOWN: frozenset({_X.SUCCEEDED, _X.FAILED, _X.MANUAL_REVIEW}),
    _X.MANUAL_REVIEW: frozenset({_X.SUCCEEDED, _X.FAILED}),
    _X.SUCCEEDED: frozenset({_X.RETURNED}),  # refunds and reversals only
    _X.FAILED: frozenset({_X.SUCCEEDED}),  # refunds and reversals only: it went out after all
    _X.RETURNED: frozenset(),
}

PAYMENT_FINAL = frozenset(status for status, moves in PAYMENT_MOVES.items() if not moves)
ORDER_FINAL = frozenset(status for status, moves in ORDER_MOVES.items() if not moves)
# The charge may still come into being, or is waiting for somebody: no second attempt while one of these is open.
ATTEMPT_OPEN = frozenset({_A.SENT, _A.PENDING, _A.ACTION_REQUIRED, _A.UNKNOWN, _A.MANUAL_REVIEW})
# The attempt is over for its payment; a success from here is late.
ATTEMPT_LATE = frozenset({_A.DECLINED, _A.NOT_SENT, _A.CANCELED, _A.VOIDED, _A.EXPIRED})
OPERATION_OPEN = frozenset({_X.PENDING, _X.SENT, _X.UNKNOWN, _X.MANUAL_REVIEW})


S = TypeVar("S", bound=StrEnum)


class IllegalMove(Exception):
    """A bug: code asked for a status change that the tables do not know."""


def check_move(moves: Mapping[S, frozenset[S]], old: S, new: S, what: str) -> None:
    """Raise IllegalMove unless ``old → new`` is in the table or no move at all."""
    if old != new and new not in moves[old]:
        msg = f"{what}: {old} → {new} is not a legal move"
        raise IllegalMove(msg)
