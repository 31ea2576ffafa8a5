"""One payment's life in the pure domain: applies changes and holds every promise about each of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from chalicelib.domain import charges, ledger, payments
from chalicelib.domain.outcome import Charge, ChargeStatus
from chalicelib.domain.states import (
    ATTEMPT_MOVES,
    ATTEMPT_OPEN,
    OPERATION_MOVES,
    OPERATION_OPEN,
    ORDER_MOVES,
    PAYMENT_FINAL,
    PAYMENT_MOVES,
    AttemptStatus,
    OperationStatus,
    OperationType,
    OrderStatus,
    PaymentStatus,
)
from tests.support import factories
from tests.support.factories import NOW, TIMING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from chalicelib.domain.model import Attempt, Change, Event, Journal, Operation, Order, Payment, PaymentState

_A, _P, _X, _T = AttemptStatus, PaymentStatus, OperationStatus, OperationType
AUTHORIZATION_WINDOW = 5 * 86_400.0


def never(_: Sequence[Attempt]) -> float | None:
    """Nothing more may be tried."""
    return None


def always(_: Sequence[Attempt]) -> float | None:
    """Another attempt may be made."""
    return TIMING.backoff_cap


@dataclass(slots=True)
class Story:
    """A payment, its books and its events so far; ``apply`` is the commit."""

    state: PaymentState
    now: datetime = NOW
    events: list[Event] = field(default_factory=list)
    journals: list[Journal] = field(default_factory=list)
    winner: str | None = None

    @classmethod
    def begin(cls, order: Order | None = None, **fields: Any) -> Story:
        """Create a payment, for ``order`` if there is one."""
        if order is not None:
            fields["order_id"] = order.id
        payment = factories.make_payment(**fields)
        story = cls(factories.state_of(payment, order=order))
        story.apply(payments.create(payment, order, None, TIMING, NOW), is_new=True)
        return story

    @property
    def payment(self) -> Payment:
        """As it is now."""
        return self.state.payment

    @property
    def types(self) -> list[str]:
        """The payment's events so far, by type."""
        return [event.type for event in self.events if event.subject_id == self.payment.id]

    def attempt(self, number: int = -1) -> Attempt:
        """The attempt of that number, or the newest."""
        return self.state.attempts[number if number < 0 else number - 1]

    def operation(self, number: int = -1) -> Operation:
        """The operation of that number, or the newest."""
        return self.state.operations[number if number < 0 else number - 1]

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.now += timedelta(seconds=seconds)

    def send(self, name: str = "a") -> Attempt:
        """Open the next attempt at account acct_{name}."""
        chosen = factories.candidate(name)
        self.apply(payments.begin_attempt(self.state, chosen, factories.decision(chosen), TIMING, self.now))
        return self.attempt()

    def hear(
        self,
        said: Charge | ChargeStatus,
        number: int = -1,
        *,
        next_within: Callable[[Sequence[Attempt]], float | None] = never,
        **fields: Any,
    ) -> Change | None:
        """Take in what a provider says about an attempt's charge."""
        ours = {"amount": self.attempt(number).amount, "currency": self.attempt(number).currency}
        charge = said if isinstance(said, Charge) else factories.charge(said, **(ours | fields))
        change = charges.record_charge(
            self.state, self.attempt(number), charge, next_within=next_within, timing=TIMING,
            authorization_window=AUTHORIZATION_WINDOW, now=self.now, source="webhook",
        )  # fmt: skip
        return self.apply(change)

    def apply(self, change: Change | None, *, is_new: bool = False) -> Change | None:
        """Commit a change, after checking everything that must hold of any change."""
        if change is None:
            return None
        before = self.state
        after = change.state(before)
        self._check_events(change, before)
        self._check_moves(before, after, is_new=is_new)
        self.state = after
        self.events += change.events
        self.journals += change.journals
        if after.payment.winning_attempt is not None:
            assert self.winner in (None, after.payment.winning_attempt), "winning_attempt was changed"
        assert self.winner is None or after.payment.winning_attempt == self.winner, "winning_attempt was lost"
        self.winner = after.payment.winning_attempt
        self.check()
        return change

    def _check_events(self, change: Change, before: PaymentState) -> None:
        """No change without its event; numbers without gaps, ending at the version."""
        assert change.payment is not None
        subjects: list[tuple[Order | Payment, Order | Payment | None]] = [(before.payment, change.payment)]
        if before.order is not None:
            subjects.append((before.order, change.order))
        for old, new in subjects:
            numbers = [event.sequence for event in change.events if event.subject_id == old.id]
            if new is None:
                assert not numbers
                continue
            assert numbers == list(range(old.version + 1, new.version + 1))
            assert numbers, f"{old.id} changed without an event"

    @staticmethod
    def _check_moves(before: PaymentState, after: PaymentState, *, is_new: bool) -> None:
        """Only legal moves; what is final stays."""
        tables: list[tuple[Mapping[Any, frozenset[Any]], dict[str, Any], dict[str, Any]]] = [
            (ATTEMPT_MOVES, _statuses(before.attempts), _statuses(after.attempts)),
            (OPERATION_MOVES, _statuses(before.operations), _statuses(after.operations)),
        ]
        if not is_new:
            tables.append((PAYMENT_MOVES, _statuses([before.payment]), _statuses([after.payment])))
        if before.order is not None and after.order is not None:
            tables.append((ORDER_MOVES, _statuses([before.order]), _statuses([after.order])))
        for moves, old, new in tables:
            for identifier, status in old.items():
                if status != new[identifier]:
                    # pending → sent → settled may be one change
                    reachable = moves[status] | {s for step in moves[status] for s in moves[step]}
                    assert new[identifier] in reachable, f"{identifier}: {status} → {new[identifier]}"

    # -- what must hold at any moment ------------------------------------------------------------

    def check(self) -> None:
        """Every promise that can be read off a payment's state, books and events."""
        self._check_amounts()
        self._check_charges()
        self._check_books()
        self._check_order()
        self._check_somebody_will_look()
        counts = Counter(self.types)
        for final in ("payment.succeeded", "payment.canceled", "payment.expired", "payment.failed"):
            assert counts[final] <= 1, f"{final} was told {counts[final]} times"
        assert sum(counts[f"payment.{status}"] for status in PAYMENT_FINAL) == (self.payment.status in PAYMENT_FINAL)

    def _check_amounts(self) -> None:
        p = self.payment
        amounts = (p.amount_captured, p.amount_refundable, p.amount_refunding, p.amount_refunded, p.amount_disputed)
        assert min(amounts) >= 0, p
        assert p.amount_captured <= p.amount_authorized <= p.amount
        gone = p.amount_refunded + p.amount_refunding + p.amount_disputed
        assert p.amount_refundable == max(0, p.amount_captured - gone), p
        refunds = [o for o in self.state.operations if o.type is _T.REFUND]
        if not any(o.source == "provider" for o in refunds):
            assert gone <= p.amount_captured, p
        reserved = sum(o.amount for o in refunds if o.source == "merchant" and o.status in OPERATION_OPEN)
        assert reserved == p.amount_refunding

    def _check_charges(self) -> None:
        """At most one charge is kept; all others are being given back."""
        p, attempts = self.payment, self.state.attempts
        kept = [a.id for a in attempts if a.status in (_A.SUCCEEDED, _A.AUTHORIZED, _A.CAPTURED)]
        assert kept in ([], [p.winning_attempt])
        open_ones = [a.id for a in attempts if a.status in ATTEMPT_OPEN]
        assert open_ones == ([p.open_attempt] if p.open_attempt else [])
        assert not (p.open_attempt and p.winning_attempt), "an attempt is open though another one has won"
        if p.status is _P.SUCCEEDED:
            assert kept
            assert p.amount_captured > 0
        if p.status in PAYMENT_FINAL:
            assert p.open_attempt is None
        for attempt in attempts:
            reversals = [
                o
                for o in self.state.operations
                if o.attempt_id == attempt.id and o.type is _T.REVERSAL and o.status is not _X.RETURNED
            ]
            assert len(reversals) == (attempt.status in (_A.LATE_SUCCEEDED, _A.REVERSED))
        still_open = [
            o.id for o in self.state.operations if o.type in (_T.CAPTURE, _T.VOID) and o.status in OPERATION_OPEN
        ]
        if p.open_operation:
            assert p.open_operation in still_open
        assert len(still_open) <= 1

    def _check_books(self) -> None:
        for journal in self.journals:
            assert sum(leg.amount for leg in journal.legs) == 0
            assert all(leg.amount for leg in journal.legs)
        assert len({journal.id for journal in self.journals}) == len(self.journals)
        p = self.payment
        balance = ledger.balances(self.journals)
        owed = p.amount_captured - p.amount_refunded - p.amount_refunding
        assert balance.get((ledger.PAYABLE, p.currency), 0) == -owed, "the books do not show what the merchant is owed"
        late = sum(a.captured for a in self.state.attempts if a.status is _A.LATE_SUCCEEDED)
        on_the_way = -p.amount_refunding - late
        assert balance.get((ledger.IN_FLIGHT, p.currency), 0) == on_the_way
        told = [leg for e in self.events for j in e.data.get("journals", ()) for leg in j["legs"]]  # type: ignore[attr-defined]
        booked = [[leg.account, leg.amount] for journal in self.journals for leg in journal.legs]
        assert told == booked, "the events do not carry every journal once"

    def _check_order(self) -> None:
        order, p = self.state.order, self.payment
        if order is None:
            return
        if p.status is _P.SUCCEEDED:
            assert (order.status, order.live_payment_id) == (OrderStatus.PAID, p.id)
        elif p.status in PAYMENT_FINAL:
            assert order.live_payment_id != p.id
            assert order.status is not OrderStatus.PAID
        else:
            assert (order.status, order.live_payment_id) == (OrderStatus.ATTEMPTED, p.id)

    def _check_somebody_will_look(self) -> None:
        """Nothing unfinished is forgotten: a lease brings it back, or a person has been told."""
        p = self.payment
        for operation in self.state.operations:
            if operation.status is _X.MANUAL_REVIEW:
                assert p.needs_attention, f"{operation.type} waits for a person who was not told"
            elif operation.status in OPERATION_OPEN:
                assert operation.due_at is not None, f"{operation.type} is {operation.status} and has no lease"
        waiting = self.state.operation(p.open_operation)
        if p.status not in PAYMENT_FINAL:
            assert p.due_at or p.needs_attention or (waiting and waiting.due_at), f"{p.status} and nobody will look"


def _statuses(things: Sequence[Any]) -> dict[str, Any]:
    return {thing.id: thing.status for thing in things}


def authorized(capture: str = "manual", order: Order | None = None) -> Story:
    """A payment whose money is held."""
    story = Story.begin(order, capture=capture)
    story.send()
    story.hear(ChargeStatus.AUTHORIZED)
    return story


def succeeded(order: Order | None = None, captured: int = 0) -> Story:
    """A captured payment."""
    story = Story.begin(order)
    story.send()
    story.hear(ChargeStatus.SUCCEEDED, captured=captured)
    return story


def expired(story: Story) -> Story:
    """The same, past its time."""
    story.now = max(story.now, story.payment.expires_at)
    return story


__all__ = ["AUTHORIZATION_WINDOW", "Story", "always", "authorized", "expired", "never", "replace", "succeeded"]
