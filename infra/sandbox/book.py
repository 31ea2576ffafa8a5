"""The book: what really happened to every charge and refund, and the only code that changes it."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

from infra.sandbox.records import (
    MISREPORT,
    Charge,
    ChargeSpec,
    Fact,
    Fault,
    Order,
    Outcome,
    Refund,
    RefusedError,
    Settled,
    State,
    asked_outcome,
    fee_and_tax,
    roll,
    token,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from infra.sandbox.config import ProviderSettings
    from infra.sandbox.timer import Timer

PENDING_SECONDS = 2.0
LATE_SECONDS = 5.0
IST = 5.5 * 3600  # India's time, seconds east of UTC
_DAY = 24 * 3600
_DECLINES: dict[Outcome, str] = {
    Outcome.DECLINE: "payment_declined",
    Outcome.INSUFFICIENT_FUNDS: "insufficient_funds",
    Outcome.TECHNICAL: "gateway_technical_error",
    Outcome.LATE_SUCCESS: "payment_failed",
    Outcome.RISK: "payment_risk_check_failed",
    Outcome.AUTHENTICATION: "authentication_failed",
    Outcome.EXPIRED: "card_expired",
}


class Book:
    """Charges, refunds and orders of every provider of one bank."""

    def __init__(self, seed: str, timer: Timer, emit: Callable[[Fact, Charge, Refund | None], None]) -> None:
        """``emit`` is told of every fact when it becomes one."""
        self.seed = seed
        self.charges: dict[str, Charge] = {}
        self.refunds: dict[str, Refund] = {}
        self.orders: dict[str, Order] = {}
        self.receipts: dict[tuple[str, str], list[Order]] = {}
        self._references: dict[tuple[str, str], list[Charge]] = {}
        self._refund_keys: dict[tuple[str, str], Refund] = {}
        self._named: dict[tuple[str, ...], int] = {}
        self._timer = timer
        self._tell = emit

    def memory(self) -> dict[str, object]:
        """The records, as plain values."""
        return {name: value for name, value in vars(self).items() if name not in ("seed", "_timer", "_tell")}

    def recall(self, memory: dict[str, object]) -> None:
        """Replace the records with those of an earlier run."""
        vars(self).update(memory)

    # charges

    def create_order(self, provider: str, order: Order) -> Order:
        """File an order under an id of its own."""
        order.id = f"order_{self.name(provider, 'order', order.receipt)}"
        self.orders[order.id] = order
        self.receipts.setdefault((provider, order.receipt), []).append(order)
        return order

    def create_charge(
        self, settings: ProviderSettings, spec: ChargeSpec, key: str, fault: Fault | None = None, *, page: bool = False
    ) -> Charge:
        """Make a charge; the instrument, the limits and the rates decide how it ends. Raises RefusedError.

        With ``page`` it waits for what the customer does on the provider's page, whatever the instrument.
        """
        provider = settings.id
        asked = asked_outcome(spec.method)
        method = spec.method.get("type", "")
        if asked is Outcome.NOT_ACCEPTED or settings.type not in ("ANY", method.upper()):
            raise RefusedError("not_accepted", "This provider does not take this payment.")
        if spec.amount > settings.max_amount:
            raise RefusedError("amount_exceeds_maximum", "The amount is above the maximum.")
        if spec.order is not None and any(self.charges[c].state is State.CAPTURED for c in spec.order.charges):
            raise RefusedError("order_already_paid", "The order has been paid.")
        if spec.order is not None and spec.order.closed:
            raise RefusedError("order_closed", "The order has been closed.")
        outcome = Outcome.ACTION if page else asked
        if fault is Fault.DECLINE:
            outcome = Outcome.DECLINE
        elif fault is Fault.PENDING:
            outcome = Outcome.PENDING_SUCCESS
        elif fault is Fault.PENDING_FAILURE:
            outcome = Outcome.PENDING_FAILURE
        elif outcome is None and roll(self.seed, "create", provider, key) < settings.failure_rate:
            outcome = Outcome.TECHNICAL
        prefix = "pay_" if spec.order is not None else "ch_"
        charge = Charge(
            id=prefix + self.name(provider, "charge", spec.order.id if spec.order else spec.reference),
            provider=provider,
            reference=spec.reference,
            amount=spec.amount,
            currency=spec.currency,
            automatic=spec.automatic,
            method=spec.method,
            created_at=self._timer.now,
            release_after=min(
                settings.release_after, spec.order.release_after if spec.order else settings.release_after
            ),
            details=spec.details,
            order_id=spec.order.id if spec.order else None,
            return_url=spec.return_url,
            notify_url=spec.notify_url or (spec.order.notify_url if spec.order else None),
            misreport=MISREPORT if fault is Fault.WRONG_AMOUNT else 0,
        )
        self.charges[charge.id] = charge
        self._references.setdefault((provider, charge.reference), []).append(charge)
        if spec.order is not None:
            spec.order.charges.append(charge.id)
        # A UPI link that nobody scans here: the imagined customer pays it a little later.
        plain = Outcome.PENDING_SUCCESS if charge.is_intent else Outcome.SUCCESS
        self._begin(charge, outcome or plain, settings.action_expires)
        return charge

    def _begin(self, charge: Charge, outcome: Outcome, action_expires: float) -> None:
        """Set the charge on the way to its outcome."""
        if outcome is Outcome.ACTION:
            charge.state = State.ACTION
            self._timer.later(action_expires, lambda: self._give_up(charge))
        elif outcome is Outcome.PENDING_SUCCESS:
            self._timer.later(PENDING_SECONDS, lambda: self._succeed(charge))
        elif outcome is Outcome.PENDING_FAILURE:
            self._timer.later(PENDING_SECONDS, lambda: self._fail(charge, "payment_declined"))
        elif outcome in _DECLINES:
            self._fail(charge, _DECLINES[outcome])
            if outcome is Outcome.LATE_SUCCESS:
                self._timer.later(LATE_SECONDS, lambda: self._succeed(charge))
        else:
            self._succeed(charge)

    def decide(self, provider: str, charge_id: str, choice: str, instrument: Mapping[str, str] | None = None) -> Charge:
        """What the customer chose on the hosted page: approve, decline or cancel; raises RefusedError.

        An approved ``instrument`` may still ask for another end, as it does where it comes with the charge.
        """
        charge = self.charge(provider, charge_id)
        if charge.state is not State.ACTION:
            raise RefusedError("invalid_state", "This payment does not wait for the customer.")
        if choice == "approve":
            asked = asked_outcome(instrument or {})
            charge.state = State.PENDING
            self._begin(charge, Outcome.SUCCESS if asked in (None, Outcome.ACTION) else asked, 0.0)
        else:
            self._fail(charge, "payment_cancelled" if choice == "cancel" else "authentication_failed")
        return charge

    def charge(self, provider: str, charge_id: str) -> Charge:
        """The charge of that id; raises RefusedError."""
        charge = self.charges.get(charge_id)
        if charge is None or charge.provider != provider:
            raise RefusedError("not_found", "There is no such charge.")
        return charge

    def charges_of(self, provider: str, reference: str) -> list[Charge]:
        """The charges made under our reference, oldest first."""
        return self._references.get((provider, reference), [])

    def _succeed(self, charge: Charge) -> None:
        charge.state = State.AUTHORIZED
        charge.reason = None
        self._emit(Fact.AUTHORIZED, charge)
        if charge.automatic:
            self._take(charge, charge.amount)
        else:
            self._timer.later(charge.release_after, lambda: self._release(charge))

    def _take(self, charge: Charge, amount: int) -> None:
        charge.state = State.CAPTURED
        charge.captured = amount
        charge.captured_at = self._timer.now
        self._emit(Fact.CAPTURED, charge)

    def _fail(self, charge: Charge, reason: str) -> None:
        charge.state = State.FAILED
        charge.reason = reason
        self._emit(Fact.FAILED, charge)

    def _give_up(self, charge: Charge) -> None:
        if charge.state is State.ACTION:
            self._fail(charge, "payment_timed_out")

    def _release(self, charge: Charge) -> None:
        if charge.state is State.AUTHORIZED:
            charge.state = State.VOIDED
            charge.released = True
            self._emit(Fact.RELEASED, charge)

    def release(self, charge: Charge) -> None:
        """Let an authorization lapse now; raises RefusedError."""
        if charge.state is not State.AUTHORIZED:
            raise RefusedError("invalid_state", "The charge is not authorized.")
        self._release(charge)

    def capture(self, charge: Charge, amount: int | None, fault: Fault | None = None, *, whole: bool = False) -> Charge:
        """Take ``amount`` of an authorization, or all of it; raises RefusedError."""
        if fault is Fault.DECLINE:
            raise RefusedError("payment_declined", "The bank declined the capture.")
        if charge.state is State.CAPTURED:
            raise RefusedError("invalid_state", "This payment has already been captured.")
        if charge.state is not State.AUTHORIZED:
            raise RefusedError("invalid_state", "Only payments which have been authorized can be captured.")
        wanted = charge.amount if amount is None else amount
        if wanted > charge.amount or (whole and wanted != charge.amount):
            raise RefusedError("input_validation_failed", "Capture amount must be equal to the amount authorized.")
        self._take(charge, wanted)
        return charge

    def void(self, charge: Charge, fault: Fault | None = None) -> Charge:
        """Release an authorization, or give up a charge that waits for the customer; raises RefusedError."""
        if fault is Fault.DECLINE:
            raise RefusedError("payment_declined", "The bank declined the release.")
        if charge.state not in (State.AUTHORIZED, State.ACTION):
            raise RefusedError("invalid_state", f"The charge is {charge.state.value}.")
        charge.state = State.VOIDED
        self._emit(Fact.VOIDED, charge)
        return charge

    # refunds

    def refund(
        self,
        charge: Charge,
        amount: int | None,
        key: str | None,
        fault: Fault | None = None,
        details: Mapping[str, object] | None = None,
    ) -> Refund:
        """Give ``amount`` back, or all that is left; raises RefusedError."""
        if fault is Fault.DECLINE:
            raise RefusedError("payment_declined", "The bank declined the refund.")
        if charge.state is not State.CAPTURED:
            raise RefusedError("invalid_state", "Only captured payments can be refunded.")
        left = charge.captured - charge.refunded - charge.refunding
        wanted = left if amount is None else amount
        if wanted > left or wanted <= 0:
            raise RefusedError("refund_limit_crossed", "The refund is more than what is left of the payment.")
        refund = Refund(
            id=f"rfnd_{self.name(charge.provider, 'refund', charge.id)}",
            provider=charge.provider,
            charge_id=charge.id,
            key=key,
            amount=wanted,
            currency=charge.currency,
            created_at=self._timer.now,
            details=details or {},
            misreport=MISREPORT if fault is Fault.WRONG_AMOUNT else 0,
        )
        self.refunds[refund.id] = refund
        charge.refunds.append(refund.id)
        if key is not None:
            self._refund_keys[charge.provider, key] = refund
        charge.refunding += wanted
        self._emit(Fact.REFUND_CREATED, charge, refund)
        if fault in (Fault.PENDING, Fault.PENDING_FAILURE):
            self._timer.later(PENDING_SECONDS, lambda: self._close(charge, refund, good=fault is Fault.PENDING))
        else:
            self._close(charge, refund, good=True)
        return refund

    def _close(self, charge: Charge, refund: Refund, *, good: bool) -> None:
        charge.refunding -= refund.amount
        refund.closed_at = self._timer.now
        refund.status = "succeeded" if good else "failed"
        if good:
            charge.refunded += refund.amount
        self._emit(Fact.REFUNDED if good else Fact.REFUND_FAILED, charge, refund)

    def return_refund(self, refund: Refund) -> None:
        """The customer's bank sends a refund back; raises RefusedError."""
        if refund.status != "succeeded":
            raise RefusedError("invalid_state", f"The refund is {refund.status}.")
        refund.status = "returned"
        charge = self.charges[refund.charge_id]
        charge.refunded -= refund.amount
        self._emit(Fact.REFUND_RETURNED, charge, refund)

    def refunds_of(self, charge: Charge) -> list[Refund]:
        """The refunds of a charge, newest first."""
        return [self.refunds[refund_id] for refund_id in reversed(charge.refunds)]

    def refund_by_key(self, provider: str, key: str) -> Refund:
        """The refund made under that key; raises RefusedError."""
        if (provider, key) not in self._refund_keys:
            raise RefusedError("not_found", "There is no such refund.")
        return self._refund_keys[provider, key]

    def refund_by_id(self, provider: str, refund_id: str) -> Refund:
        """The refund of that id; raises RefusedError."""
        refund = self.refunds.get(refund_id)
        if refund is None or refund.provider != provider:
            raise RefusedError("not_found", "There is no such refund.")
        return refund

    def settlements(self, provider: str, day: date, offset: float = IST) -> list[Settled]:
        """What was captured and given back on one day of a time zone ``offset`` seconds east of UTC."""
        lines = []
        for charge in self.charges.values():
            if charge.provider != provider:
                continue
            if charge.captured_at is not None and _day(charge.captured_at, offset) == day:
                fee, tax = fee_and_tax(charge.captured)
                lines.append(self._settled(charge, None, charge.captured, fee, tax, charge.captured_at))
            lines += [
                self._settled(charge, refund, refund.amount, 0, 0, refund.closed_at)
                for refund in self.refunds_of(charge)
                if refund.closed_at and refund.status == "succeeded" and _day(refund.closed_at, offset) == day
            ]
        return sorted(lines, key=lambda line: line.at)

    def _settled(self, charge: Charge, refund: Refund | None, amount: int, fee: int, tax: int, at: float) -> Settled:
        parts = (self.seed, charge.provider, str(int(at // _DAY)))
        return Settled(charge, refund, amount, fee, tax, f"setl_{token(14, *parts)}", token(12, "utr", *parts), at)

    # telling

    def truth(self, reference: str = "") -> dict[str, list[dict[str, object]]]:
        """What really happened, for references that begin with ``reference``."""
        charges = [c for c in self.charges.values() if c.reference.startswith(reference)]
        return {
            "charges": [
                {
                    "reference": charge.reference,
                    "provider": charge.provider,
                    "amount": charge.amount,
                    "currency": charge.currency,
                    "status": charge.truth,
                    "captured": charge.captured,
                    "refunded": charge.refunded,
                    "id": charge.id,
                }
                for charge in charges
            ],
            "refunds": [
                {
                    "reference": charge.reference,
                    "provider": refund.provider,
                    "key": refund.key,
                    "amount": refund.amount,
                    "status": refund.status,
                    "id": refund.id,
                }
                for charge in charges
                for refund in reversed(self.refunds_of(charge))
            ],
        }

    def name(self, *parts: str) -> str:
        """An id's random-looking part: equal in every run, different for every repeat within one."""
        nth = self._named[parts] = self._named.get(parts, 0) + 1
        return token(14, self.seed, *parts, str(nth))

    def _emit(self, fact: Fact, charge: Charge, refund: Refund | None = None) -> None:
        self._tell(fact, charge, refund)


def _day(at: float, offset: float) -> date:
    return datetime.fromtimestamp(at + offset, UTC).date()


def newest(refunds: list[Refund], status: str) -> Refund:
    """The newest refund in that status; raises RefusedError."""
    for refund in refunds:
        if refund.status == status:
            return refund
    raise RefusedError("not_found", f"There is no {status} refund.")
