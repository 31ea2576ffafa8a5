"""What merchants ask for: create, get, verify, cancel, review and close payments."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

from chalicelib.domain import ids, operations, orders
from chalicelib.domain import payments as lifecycle
from chalicelib.domain.charges import Mismatch, check_charge
from chalicelib.domain.errors import (
    Contended,
    ErrorClass,
    ErrorCode,
    InvalidRequest,
    NotFoundError,
    PaymentError,
    StateConflict,
)
from chalicelib.domain.experiments import assigned
from chalicelib.domain.model import Payment, PaymentState
from chalicelib.domain.outcome import Charge, ChargeStatus
from chalicelib.domain.risk import BLOCK
from chalicelib.domain.states import ATTEMPT_OPEN, PAYMENT_FINAL, AttemptStatus, OperationStatus, PaymentStatus
from chalicelib.observability import logger, metric
from chalicelib.providers.base import BadSignature
from chalicelib.services import screening
from chalicelib.services.attempts import account_of, alarm_mismatch, asked_by, charge_ref, close_unpaid, look_up, record
from chalicelib.services.kit import committed, line, load_state, pause, settle
from chalicelib.services.operations import close_operation
from chalicelib.services.tokens import resolved
from chalicelib.storage.queues import StartFailed
from chalicelib.storage.store import ReferenceTaken, Stale

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from chalicelib.domain.audit import Actor
    from chalicelib.domain.merchant import Merchant
    from chalicelib.domain.model import Attempt, Change, Order, Tenant
    from chalicelib.services.idempotency import Idem
    from chalicelib.services.kit import Kit, Line

_RACES = 60  # a hundred payments of one card at once must all get through, see docs/decisions/0016
_P = PaymentStatus


@dataclass(frozen=True, slots=True)
class NewPayment:
    """A merchant's validated wish; ``amount`` in minor units."""

    amount: int
    currency: str
    method: Mapping[str, str]
    capture: Literal["automatic", "manual"] = "automatic"
    customer: Mapping[str, str] = field(default_factory=dict)
    order_id: str | None = None
    return_url: str | None = None
    description: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


def create(kit: Kit, tenant: Tenant, wish: NewPayment, idem: Idem) -> PaymentState:
    """Create a payment and set it going; raises KeyTaken, NotFoundError, StateConflict, InvalidRequest.

    A crash before the write leaves nothing. After it, before the workflow starts, the sweeper finds
    the payment by its lease. A repeat meets the idempotency key; of two at once one gets KeyTaken.
    """
    merchant = kit.merchants.get(tenant)
    method = resolved(kit, tenant, wish.method)
    for number in range(_RACES):
        now = kit.now()
        order = _payable_order(kit, tenant, wish)
        replaced = _replaceable(kit, tenant, order)
        payment = drafted(kit, merchant, wish, method, now)
        judged = screening.judge(kit, merchant, payment, now)
        payment = replace(payment, risk=judged.verdict.record())
        if judged.verdict.decision != BLOCK:
            taken = assigned(merchant.routing.experiments, asked_by(payment), now)
            payment = replace(payment, experiment=taken)
        before = PaymentState(payment, order=order)
        change = lifecycle.create(payment, order, replaced, kit.timing, now)
        state = change.state(before)
        try:
            kit.store.commit(change, now=now, claim=idem.claim(state, payment.id, now), windows=judged.windows)
        except Stale:
            pause(kit, number)
            continue
        committed(None, state, change)
        if state.payment.status is _P.CREATED:
            start(kit, state.payment)
        if change.also is not None and replaced is not None:
            _close_unpaid(kit, replaced)
        return state
    raise Contended(f"Order {wish.order_id}" if wish.order_id else "What this customer has paid")


def drafted(kit: Kit, merchant: Merchant, wish: NewPayment, method: Mapping[str, str], now: datetime) -> Payment:
    """The payment that a wish would become now, before anybody has judged it; writes nothing."""
    return Payment(
        tenant=merchant.tenant,
        id=ids.new_id("pay", now),
        status=_P.CREATED,
        amount=wish.amount,
        currency=wish.currency,
        capture=wish.capture,
        method=method,
        customer=wish.customer,
        order_id=wish.order_id,
        return_url=wish.return_url,
        description=wish.description,
        metadata=wish.metadata,
        risk={},
        created_at=now,
        updated_at=now,
        expires_at=now + timedelta(seconds=kit.timing.payment_ttl),
        due_at=now + timedelta(seconds=kit.timing.lease),
        version=0,
        customer_key=customer_key(merchant.lookup_key, wish.customer.get("email"), wish.customer.get("contact")),
    )


def _payable_order(kit: Kit, tenant: Tenant, wish: NewPayment) -> Order | None:
    if wish.order_id is None:
        return None
    order = kit.queries.order(tenant, wish.order_id)
    if order is None:
        raise NotFoundError("order_not_found", f"There is no order {wish.order_id}.", param="order_id")
    orders.check_payable(order, amount=wish.amount, currency=wish.currency, now=kit.now())
    return order


def _replaceable(kit: Kit, tenant: Tenant, order: Order | None) -> PaymentState | None:
    """The live payment of the order if a new one may replace it; raises StateConflict if it may not."""
    if order is None or order.live_payment_id is None:
        return None
    live = load_state(kit, tenant, order.live_payment_id)
    if live.payment.status is not _P.REQUIRES_ACTION:
        raise StateConflict("order_has_live_payment", f"Payment {live.payment.id} is {live.payment.status}.")
    return live


def customer_key(lookup_key: bytes, email: str | None, contact: str | None = None) -> str | None:
    """A customer's id: finds their payments without storing the email in an index, keyed hash, lower case.

    Of whom only a phone number is known, it is the number's. Nobody without the key finds out whose it is.
    """
    if email:
        known = email.strip().lower()
    elif contact:
        known = "contact|" + "".join(digit for digit in contact if digit.isdigit())
    else:
        return None
    return "cus_" + hmac.new(lookup_key, known.encode(), hashlib.sha256).hexdigest()[:32]


def start(kit: Kit, payment: Payment) -> None:
    """Start the payment's current run. A failure is left to the sweeper, which owns the lease."""
    try:
        kit.workflows.start(payment.tenant, payment.id, payment.run)
    except StartFailed as error:
        logger.warning("%s; the sweeper will take it up", error, payment_id=payment.id)
        metric("WorkflowStartFailed")


def get(kit: Kit, tenant: Tenant, payment_id: str) -> Payment:
    """The payment; raises NotFoundError."""
    payment = kit.queries.payment(tenant, payment_id)
    if payment is None:
        raise NotFoundError("payment_not_found", f"There is no payment {payment_id}.", param="id")
    return payment


def state(kit: Kit, tenant: Tenant, payment_id: str) -> PaymentState:
    """The payment with attempts and operations; raises NotFoundError."""
    return load_state(kit, tenant, payment_id)


def resume(kit: Kit, current: PaymentState, reason: str) -> None:
    """Start the payment's next run, if it needs one and nobody else does; a lost race is somebody's win."""

    def decide(now_state: PaymentState) -> Change | None:
        payment = now_state.payment
        if (
            payment.status not in (_P.CREATED, _P.PROCESSING)
            or payment.open_attempt
            or payment.run != current.payment.run
        ):
            return None
        return lifecycle.resume(now_state, kit.timing, kit.now(), reason)

    after, change = settle(kit, current.payment.tenant, current.payment.id, decide, state=current)
    if change is not None:
        start(kit, after.payment)


def ask_provider(kit: Kit, current: PaymentState, source: str) -> PaymentState:
    """Take in what the provider says now of the attempt the payment waits for, or was won by."""
    payment = current.payment
    about = current.open_attempt or current.attempt(payment.winning_attempt)
    if about is None or about.status is AttemptStatus.SENT:
        return current
    answer = look_up(kit, current, about)
    if not isinstance(answer, Charge):
        return current  # it could not say; whoever waits goes on waiting
    after = record(kit, current, about, answer, resolved=False, source=source)
    if after.payment.status is _P.PROCESSING and after.open_attempt is None:
        resume(kit, after, f"{source}: attempt {about.number} ended")
    return after


def verify(kit: Kit, tenant: Tenant, payment_id: str, proof: Mapping[str, str]) -> PaymentState:
    """Check the proof a browser brought back, then ask the provider; idempotent by nature.

    Raises NotFoundError, StateConflict (nothing was sent to a provider yet) or InvalidRequest
    (the proof's signature does not hold: nothing in it is believed).
    """
    current = load_state(kit, tenant, payment_id)
    about = (
        current.open_attempt
        or current.attempt(current.payment.winning_attempt)
        or (current.attempts[-1] if current.attempts else None)
    )
    if about is None:
        raise StateConflict("payment_not_attempted", "No provider has been asked to charge this payment yet.")
    provider = kit.provider(about.provider)
    try:
        provider.verify_return(account_of(kit, about), charge_ref(kit, current.payment, about), proof)
    except BadSignature as bad:
        metric("ReturnSignatureRefused", provider=about.provider)
        raise InvalidRequest("signature_invalid", "The proof's signature does not hold.", param="signature") from bad
    if about.status in ATTEMPT_OPEN:
        return ask_provider(kit, current, "verify")
    return current


def cancel(kit: Kit, tenant: Tenant, payment_id: str, idem: Idem, *, by: Actor) -> PaymentState:
    """Cancel a payment: at once where nothing is held, by a void where money is held.

    Raises NotFoundError, StateConflict, KeyTaken. A payment that waits for its customer is asked
    about at the provider first: it may just have succeeded.
    """
    current = load_state(kit, tenant, payment_id)
    if current.payment.status is _P.REQUIRES_ACTION:
        current = ask_provider(kit, current, "cancel")
    before = current

    def decide(now_state: PaymentState) -> Change | None:
        nonlocal before
        before = now_state
        payment = now_state.payment
        if payment.status is _P.AUTHORIZED:
            can = kit.provider(payment.provider or "").capabilities
            change, _ = operations.request_void(
                now_state, lapse=can.void == "lapse", lapse_window=can.authorization_window, timing=kit.timing,
                now=kit.now(),
            )  # fmt: skip
            return change
        if payment.status in PAYMENT_FINAL:
            raise StateConflict("payment_not_cancelable", f"The payment is {payment.status}.")
        attempt = now_state.open_attempt
        if attempt is not None and attempt.status is not AttemptStatus.ACTION_REQUIRED:
            raise StateConflict(
                "payment_in_flight", f"Attempt {attempt.number} is {attempt.status} at {attempt.provider}."
            )
        return lifecycle.give_up(now_state, _P.CANCELED, kit.timing, kit.now(), by="merchant")

    after, _ = settle(
        kit, tenant, payment_id, decide, state=current, claim=lambda made: idem.claim(made, payment_id, kit.now()),
        audit=line(kit, tenant, "payment.canceled", by),
    )  # fmt: skip
    if after.payment.status is _P.CANCELED:
        _close_unpaid(kit, before)
    return after


def _close_unpaid(kit: Kit, before: PaymentState) -> None:
    """The customer of a payment that is over need not be able to pay it."""
    if before.open_attempt is not None:
        close_unpaid(kit, before.payment, before.open_attempt)


def review(
    kit: Kit, tenant: Tenant, payment_id: str, *, approve: bool, note: str | None, by: Actor, idem: Idem
) -> PaymentState:
    """Approve or reject a doubtful payment; raises NotFoundError, StateConflict, KeyTaken.

    The event and the audit log say who decided.
    """

    def decide(now_state: PaymentState) -> Change:
        if now_state.payment.status is not _P.REQUIRES_REVIEW:
            raise StateConflict("payment_not_in_review", f"The payment is {now_state.payment.status}.")
        if approve:
            return lifecycle.approve(now_state, kit.timing, kit.now(), note, by=by.id)
        return lifecycle.reject(now_state, kit.now(), note, by=by.id)

    action = "payment.approved" if approve else "payment.rejected"
    after, _ = settle(
        kit, tenant, payment_id, decide, claim=lambda made: idem.claim(made, payment_id, kit.now()),
        audit=line(kit, tenant, action, by, note=note),
    )  # fmt: skip
    if approve:
        start(kit, after.payment)
    return after


def close(
    kit: Kit,
    tenant: Tenant,
    payment_id: str,
    *,
    outcome: Literal["succeeded", "failed"],
    provider_reference: str | None,
    note: str,
    by: Actor,
) -> PaymentState:
    """Close a manual review, of an attempt or an operation, by hand. The provider is asked first, and
    if it can say, its word counts.

    Raises NotFoundError, StateConflict (no review is open, or nothing could be closed) and
    InvalidRequest (a success needs the provider's reference, and not another payment's).
    """
    current = load_state(kit, tenant, payment_id)
    said = {"outcome": outcome, "provider_reference": provider_reference, "note": note}
    audit = line(kit, tenant, "payment.resolved", by, None, **said)
    about = current.open_attempt
    reviewed = next((o for o in current.operations if o.status is OperationStatus.MANUAL_REVIEW), None)
    if about is not None and about.status is AttemptStatus.MANUAL_REVIEW:
        after = _close_attempt(kit, current, about, outcome, provider_reference, note, audit)
        is_closed = after.open_attempt is None or after.open_attempt.status is not AttemptStatus.MANUAL_REVIEW
    elif reviewed is not None:
        after = close_operation(kit, current, reviewed, outcome, provider_reference, note, audit)
        now_is = after.operation(reviewed.id)
        is_closed = now_is is None or now_is.status is not OperationStatus.MANUAL_REVIEW
    else:
        raise StateConflict("payment_not_in_manual_review", "Nothing of this payment waits for a person.")
    if not is_closed:
        raise StateConflict("review_not_closed", "The provider is still deciding. Try again later.")
    logger.info("manual review closed as %s", outcome, payment_id=payment_id)
    if after.payment.status is _P.PROCESSING and after.open_attempt is None:
        resume(kit, after, "closed by hand")
    return after


def _close_attempt(
    kit: Kit,
    current: PaymentState,
    about: Attempt,
    outcome: str,
    provider_reference: str | None,
    note: str,
    audit: Line,
) -> PaymentState:
    answer = look_up(kit, current, about)
    if isinstance(answer, Charge) and answer.status not in (ChargeStatus.PENDING, ChargeStatus.ACTION_REQUIRED):
        try:
            check_charge(about, answer)
        except Mismatch as mismatch:  # it talks about other money: it cannot say, and a person must
            alarm_mismatch(current.payment.id, about, mismatch)
        else:
            return record(kit, current, about, answer, resolved=False, source="resolve", audit=audit)
    by_hand = _by_hand(about, outcome, provider_reference, note)
    try:
        return record(kit, current, about, by_hand, resolved=False, source=f"operator: {note[:200]}", audit=audit)
    except ReferenceTaken as taken:
        raise InvalidRequest(
            "provider_reference_taken", "Another payment has this provider reference.", param="provider_reference"
        ) from taken


def _by_hand(about: Attempt, outcome: str, provider_reference: str | None, note: str) -> Charge:
    if outcome == "succeeded":
        if not provider_reference:
            raise InvalidRequest(
                "provider_reference_missing", "A success needs the provider's reference.", param="provider_reference"
            )
        return Charge(ChargeStatus.SUCCEEDED, provider_reference, about.amount, about.currency, captured=about.amount)
    error = PaymentError(ErrorClass.DECLINED_ISSUER, ErrorCode.PAYMENT_DECLINED, f"Closed by hand: {note}"[:200])
    return Charge(ChargeStatus.DECLINED, provider_reference, error=error)


def park(kit: Kit, tenant: Tenant, payment_id: str, reason: str) -> None:
    """The workflow gave up on the payment: flag it. The sweeper keeps trying."""
    _, change = settle(kit, tenant, payment_id, lambda current: lifecycle.park(current, kit.now(), reason))
    if change is not None:
        metric("PaymentsParked")
