"""Any domain value that storage may be given, for hypothesis."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from chalicelib.domain.errors import ErrorClass, ErrorCode, PaymentError
from chalicelib.domain.ids import new_id
from chalicelib.domain.model import Attempt, Delivery, Event, Journal, Leg, Operation, Order, Payment, Tenant
from chalicelib.domain.money import EXPONENTS, MAX_AMOUNT
from chalicelib.domain.states import AttemptStatus, OperationStatus, OperationType, OrderStatus, PaymentStatus

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

START = datetime(2026, 1, 1, tzinfo=UTC)
MOMENTS = st.integers(0, 10 * 365 * 86_400_000).map(lambda ms: START + timedelta(milliseconds=ms))
TEXT = st.text(max_size=40)
WORDS = st.text("abcdefghijklmnopqrstuvwxyz_0123456789", min_size=1, max_size=12)
AMOUNTS = st.integers(0, MAX_AMOUNT)
COUNTS = st.integers(0, 1000)
TENANTS = st.builds(Tenant, WORDS.map("mer_{}".format), st.sampled_from(["test", "live"]))
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), TEXT,
                    st.floats(allow_nan=False, allow_infinity=False).filter(math.isfinite))  # fmt: skip
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=6
)
OBJECTS = st.dictionaries(TEXT, JSON, max_size=4)
STRINGS = st.dictionaries(TEXT, TEXT, max_size=4)
ERRORS = st.builds(
    PaymentError, st.sampled_from(ErrorClass), st.sampled_from(ErrorCode), TEXT, st.one_of(st.none(), WORDS)
)


def _maybe(strategy: SearchStrategy[Any]) -> SearchStrategy[Any]:
    return st.none() | strategy


def _ids(prefix: str) -> SearchStrategy[str]:
    return MOMENTS.map(lambda moment: new_id(prefix, moment))


def _some(strategy: SearchStrategy[dict[str, Any]]) -> SearchStrategy[dict[str, Any]]:
    return strategy.filter(bool)


payments = st.builds(
    Payment,
    tenant=TENANTS, id=_ids("pay"), status=st.sampled_from(PaymentStatus), amount=AMOUNTS,
    currency=st.sampled_from(sorted(EXPONENTS)), capture=st.sampled_from(["automatic", "manual"]), method=_some(STRINGS),
    customer=STRINGS, order_id=_maybe(_ids("order")), return_url=_maybe(TEXT), description=_maybe(TEXT), metadata=STRINGS,
    risk=_some(OBJECTS), created_at=MOMENTS, updated_at=MOMENTS, expires_at=MOMENTS, due_at=_maybe(MOMENTS), version=COUNTS,
    run=COUNTS, amount_authorized=AMOUNTS, amount_captured=AMOUNTS, amount_refundable=AMOUNTS, amount_refunding=AMOUNTS,
    amount_refunded=AMOUNTS, amount_disputed=AMOUNTS, provider=_maybe(WORDS), provider_reference=_maybe(TEXT),
    next_action=_maybe(_some(OBJECTS)), error=_maybe(ERRORS), attempts=COUNTS, open_attempt=_maybe(_ids("att")),
    winning_attempt=_maybe(_ids("att")), open_operation=_maybe(_ids("op")), needs_attention=st.booleans(),
    customer_key=_maybe(WORDS),
)  # fmt: skip

orders = st.builds(
    Order,
    tenant=TENANTS, id=_ids("order"), status=st.sampled_from(OrderStatus), amount=AMOUNTS,
    currency=st.sampled_from(sorted(EXPONENTS)), receipt=_maybe(TEXT), lines=st.lists(OBJECTS, max_size=3), metadata=STRINGS,
    live_payment_id=_maybe(_ids("pay")), created_at=MOMENTS, updated_at=MOMENTS, expires_at=MOMENTS, due_at=_maybe(MOMENTS),
    version=COUNTS,
)  # fmt: skip

attempts = st.builds(
    Attempt,
    tenant=TENANTS, id=_ids("att"), payment_id=_ids("pay"), number=st.integers(1, 99), reference=TEXT.filter(bool),
    provider=WORDS, account=WORDS, status=st.sampled_from(AttemptStatus), amount=AMOUNTS,
    currency=st.sampled_from(sorted(EXPONENTS)), route=OBJECTS, created_at=MOMENTS, updated_at=MOMENTS, deadline_at=MOMENTS,
    captured=AMOUNTS, reversed=AMOUNTS, provider_reference=_maybe(TEXT), data=STRINGS, error=_maybe(ERRORS), resolves=COUNTS,
    not_found=COUNTS, due_at=_maybe(MOMENTS),
)  # fmt: skip

operations = st.builds(
    Operation,
    tenant=TENANTS, id=_ids("rf"), payment_id=_ids("pay"), attempt_id=_ids("att"), type=st.sampled_from(OperationType),
    status=st.sampled_from(OperationStatus), amount=AMOUNTS, currency=st.sampled_from(sorted(EXPONENTS)),
    source=st.sampled_from(["merchant", "provider", "system"]), reason=_maybe(TEXT), created_at=MOMENTS, updated_at=MOMENTS,
    due_at=_maybe(MOMENTS), deadline_at=_maybe(MOMENTS), provider_reference=_maybe(TEXT), error=_maybe(ERRORS), tries=COUNTS,
)  # fmt: skip

events = st.builds(
    Event,
    tenant=TENANTS, id=_ids("evt"), subject_id=_ids("pay"), sequence=st.integers(1, 99_999_999), type=WORDS,
    created_at=MOMENTS, data=OBJECTS, operation_id=_maybe(_ids("op")),
)  # fmt: skip

journals = st.builds(
    Journal,
    tenant=TENANTS, id=_ids("jnl"), payment_id=_ids("pay"), type=WORDS, currency=st.sampled_from(sorted(EXPONENTS)),
    legs=st.lists(st.builds(Leg, WORDS, st.integers(-MAX_AMOUNT, MAX_AMOUNT)), min_size=1, max_size=4).map(tuple),
    created_at=MOMENTS, attempt_id=_ids("att"), operation_id=_maybe(_ids("op")),
)  # fmt: skip

deliveries = st.builds(
    Delivery,
    tenant=TENANTS, id=_ids("dlv"), event_id=_ids("evt"), endpoint=WORDS, event_type=WORDS, payment_id=_maybe(_ids("pay")),
    url=TEXT.filter(bool), body=TEXT.filter(bool), status=st.sampled_from(["pending", "delivered", "dead"]),
    created_at=MOMENTS, due_at=_maybe(MOMENTS), tries=COUNTS, log=st.just(()) | st.lists(OBJECTS, min_size=1, max_size=3),
)  # fmt: skip
