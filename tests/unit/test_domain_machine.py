"""Whatever is asked for and whatever providers say, in whatever order: the promises of tests/support/story.py hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from chalicelib.domain import charges, operations, payments, routing
from chalicelib.domain.charges import Mismatch
from chalicelib.domain.errors import InvalidRequest, StateConflict
from chalicelib.domain.outcome import ChargeStatus, EffectStatus
from chalicelib.domain.routing_rules import Asked, RoutingSettings
from chalicelib.domain.states import (
    ATTEMPT_OPEN,
    PAYMENT_FINAL,
    AttemptStatus,
    OperationStatus,
    OperationType,
    PaymentStatus,
)
from tests.support import factories
from tests.support.factories import ISSUER, LOST, REFUSED, TECHNICAL, TIMING
from tests.support.story import AUTHORIZATION_WINDOW, Story

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chalicelib.domain.model import Attempt, Operation

_A, _P, _X, _T = AttemptStatus, PaymentStatus, OperationStatus, OperationType
AMOUNT = 1000
CANDIDATES = [factories.candidate(name) for name in "abc"]
WAITS = st.sampled_from([0.0, 1.0, 20.0, 60.0, 400.0, 1900.0, AUTHORIZATION_WINDOW + 1])
PARTS = st.sampled_from([0, 1, 400, AMOUNT])
PICK = st.integers(0, 5)

_EARLY = {
    "declined": factories.charge(ChargeStatus.DECLINED, error=TECHNICAL),
    "action": factories.charge(ChargeStatus.ACTION_REQUIRED),
    "authorized": factories.charge(ChargeStatus.AUTHORIZED, amount=AMOUNT),
    "succeeded": factories.charge(ChargeStatus.SUCCEEDED, amount=AMOUNT),
}


class PaymentLife(RuleBasedStateMachine):
    """What services may do in a state, and what providers may say at any time."""

    story: Story

    @initialize(
        with_order=st.booleans(),
        capture=st.sampled_from(["automatic", "manual"]),
        lapse=st.booleans(),
        start=st.sampled_from(["fresh", "fresh", "review", "block", "sent", *[*_EARLY] * 2]),
    )
    def create(self, with_order: bool, capture: str, lapse: bool, start: str) -> None:  # noqa: FBT001
        verdict = start if start in ("review", "block") else "allow"
        order = factories.make_order(amount=AMOUNT) if with_order and verdict != "block" else None
        risk = {"decision": verdict, "score": 0, "reasons": []}
        self.story = Story.begin(order, amount=AMOUNT, capture=capture, risk=risk)
        self.lapse = lapse
        self.refunds = 0
        if start in ("sent", *_EARLY):
            self.story.send()
        if start in _EARLY:  # most sequences would end before they got here by themselves
            self.story.hear(_EARLY[start], next_within=self._next_within)

    # -- helpers -----------------------------------------------------------------------------------

    def _route(self, attempts: Sequence[Attempt]) -> routing.Decision:
        payment = self.story.payment
        return routing.decide(
            RoutingSettings(), CANDIDATES, attempts, Asked("upi", "INR", payment.amount, payment.capture)
        )

    def _next_within(self, attempts: Sequence[Attempt]) -> float | None:
        may = self.story.now < self.story.payment.expires_at and self._route(attempts).chosen is not None
        return TIMING.backoff_cap if may else None

    def _attempt(self, pick: int) -> Attempt:
        return self.story.state.attempts[pick % len(self.story.state.attempts)]

    def _operation(self, pick: int) -> Operation:
        return self.story.state.operations[pick % len(self.story.state.operations)]

    def _has_attempts(self) -> bool:
        return bool(self.story.state.attempts)

    def _has_operations(self) -> bool:
        return bool(self.story.state.operations)

    # -- time, the workflow and the sweeper --------------------------------------------------------

    @rule(seconds=WAITS)
    def time_passes(self, seconds: float) -> None:
        self.story.wait(seconds)

    @rule()
    def the_workflow_goes_on(self) -> None:
        story = self.story
        step = payments.next_step(story.state, TIMING, story.now, lambda: 0.5)
        if step.outcome != "retry":
            return
        if story.now >= story.payment.expires_at:
            story.apply(payments.give_up(story.state, _P.EXPIRED, TIMING, story.now))
            return
        decision = self._route(story.state.attempts)
        if decision.chosen is None:
            story.apply(payments.fail_without_route(story.state, decision, story.now))
        else:
            story.apply(payments.begin_attempt(story.state, decision.chosen, decision, TIMING, story.now))

    @rule()
    def the_workflow_crashes(self) -> None:
        self.story.apply(payments.park(self.story.state, self.story.now, "it kept crashing"))

    @precondition(lambda self: self.story.payment.status in (_P.CREATED, _P.PROCESSING))
    @rule()
    def the_sweeper_resumes(self) -> None:
        story = self.story
        if story.payment.open_attempt is None:
            story.apply(payments.resume(story.state, TIMING, story.now, "overdue"))

    @rule(to=st.sampled_from([_P.CANCELED, _P.EXPIRED]))
    def the_payment_is_given_up(self, to: PaymentStatus) -> None:
        story, opened = self.story, self.story.state.open_attempt
        waits = opened is None or opened.status is _A.ACTION_REQUIRED
        if not waits or story.payment.status in PAYMENT_FINAL or story.payment.status is _P.AUTHORIZED:
            return
        story.apply(payments.give_up(story.state, to, TIMING, story.now))

    @precondition(lambda self: self.story.payment.status is _P.REQUIRES_REVIEW)
    @rule(approve=st.booleans())
    def a_person_reviews(self, approve: bool) -> None:  # noqa: FBT001
        story = self.story
        story.apply(
            payments.approve(story.state, TIMING, story.now, None, by="key_1")
            if approve
            else payments.reject(story.state, story.now, "no", by="key_1")
        )

    @precondition(lambda self: self.story.payment.status is _P.AUTHORIZED)
    @rule()
    def the_authorization_runs_out(self) -> None:
        story = self.story
        won = story.state.attempt(story.payment.winning_attempt)
        if story.now < story.payment.expires_at or story.payment.open_operation or won is None:
            return
        story.apply(
            payments.expire_authorized(
                story.state, won, lapse=self.lapse, lapse_window=AUTHORIZATION_WINDOW, timing=TIMING, now=story.now
            )
        )

    # -- what providers say of charges -------------------------------------------------------------

    @precondition(_has_attempts)
    @rule(
        pick=PICK,
        status=st.sampled_from(ChargeStatus),
        captured=PARTS,
        reference=st.sampled_from(["ch_1", "ch_2", None]),
        error=st.sampled_from([TECHNICAL, ISSUER, None]),
    )
    def a_charge_is_told(
        self, pick: int, status: ChargeStatus, captured: int, reference: str | None, error: Any
    ) -> None:
        fields: dict[str, Any] = {"provider_reference": reference}
        if status is ChargeStatus.SUCCEEDED:
            fields["captured"] = captured
        if status is ChargeStatus.DECLINED:
            fields["error"] = error
        attempt = self._attempt(pick)
        self.story.hear(
            factories.charge(status, **({"amount": attempt.amount} | fields)),
            attempt.number,
            next_within=self._next_within,
        )

    @precondition(_has_attempts)
    @rule(pick=PICK, fields=st.sampled_from([{"amount": AMOUNT + 1}, {"currency": "USD"}, {"captured": AMOUNT + 1}]))
    def a_charge_of_other_money_is_told(self, pick: int, fields: dict[str, Any]) -> None:
        before = self.story.state
        attempt = self._attempt(pick)
        told = factories.charge(ChargeStatus.SUCCEEDED, **({"amount": attempt.amount} | fields))
        with pytest.raises(Mismatch):
            self.story.hear(told, attempt.number)
        assert self.story.state is before

    @precondition(_has_attempts)
    @rule(pick=PICK)
    def a_charge_was_not_sent(self, pick: int) -> None:
        story = self.story
        story.apply(
            charges.record_not_sent(
                story.state,
                self._attempt(pick),
                REFUSED,
                None,
                next_within=self._next_within,
                timing=TIMING,
                now=story.now,
            )
        )

    @precondition(_has_attempts)
    @rule(pick=PICK, resolved=st.booleans())
    def nobody_can_say(self, pick: int, resolved: bool) -> None:  # noqa: FBT001
        story = self.story
        story.apply(
            charges.record_unknown(
                story.state, self._attempt(pick), LOST, None, resolved=resolved, timing=TIMING, now=story.now
            )
        )

    @precondition(_has_attempts)
    @rule(pick=PICK)
    def a_look_up_finds_nothing(self, pick: int) -> None:
        story, attempt = self.story, self._attempt(pick)
        change = charges.record_not_found(
            story.state,
            attempt,
            None,
            settle_window=30.0,
            next_within=self._next_within,
            timing=TIMING,
            now=story.now,
        )
        early = (story.now - attempt.deadline_at).total_seconds() < 30
        ended = change is not None and change.state(story.state).attempt(attempt.id).status is _A.NOT_SENT  # type: ignore[union-attr]
        assert not (ended and early), "not found was taken for definite before the settle window was over"
        story.apply(change)

    @precondition(_has_attempts)
    @rule(pick=PICK)
    def a_charge_is_pending_for_too_long(self, pick: int) -> None:
        story = self.story
        story.apply(charges.record_overdue(story.state, self._attempt(pick), TIMING, story.now))

    @precondition(_has_attempts)
    @rule(pick=PICK)
    def a_watched_attempt_is_looked_at(self, pick: int) -> None:
        attempt = self._attempt(pick)
        if attempt.due_at is not None:
            looked = payments.watched(attempt, TIMING, self.story.now)
            assert looked.resolves == attempt.resolves + 1
            assert looked.due_at is None or looked.due_at > self.story.now

    # -- what merchants ask for --------------------------------------------------------------------

    @rule(amount=st.sampled_from([None, 1, 400, AMOUNT, AMOUNT + 1]))
    def a_capture_is_asked_for(self, amount: int | None) -> None:
        story = self.story
        try:
            change, _ = operations.request_capture(story.state, amount, partial=True, timing=TIMING, now=story.now)
        except (StateConflict, InvalidRequest):
            return
        story.apply(change)

    @rule()
    def a_cancelation_is_asked_for(self) -> None:
        story = self.story
        try:
            change, _ = operations.request_void(
                story.state, lapse=self.lapse, lapse_window=AUTHORIZATION_WINDOW, timing=TIMING, now=story.now
            )
        except StateConflict:
            return
        story.apply(change)

    @rule(amount=st.sampled_from([None, 1, 400, 600, AMOUNT, AMOUNT + 1]))
    def a_refund_is_asked_for(self, amount: int | None) -> None:
        story = self.story
        refundable = story.payment.amount_refundable
        try:
            change, made = operations.request_refund(
                story.state, amount, None, partial=True, timing=TIMING, now=story.now
            )
        except (StateConflict, InvalidRequest):
            assert story.payment.status is not _P.SUCCEEDED or refundable == 0 or (amount or 0) > refundable
            return
        assert 0 < made.amount <= refundable
        assert change.refund_guard == made.amount
        story.apply(change)

    # -- what becomes of operations ----------------------------------------------------------------

    @precondition(_has_operations)
    @rule(pick=PICK)
    def an_operation_is_worked_on(self, pick: int) -> None:
        story, operation = self.story, self._operation(pick)
        if operation.status is _X.PENDING:
            story.apply(operations.begin(story.state, operation, TIMING, story.now))
        elif operation.status in (_X.SENT, _X.UNKNOWN):
            story.apply(operations.try_again(story.state, operation, TIMING, story.now))

    @precondition(_has_operations)
    @rule(pick=PICK, status=st.sampled_from(EffectStatus), reference=st.sampled_from(["rfnd_1", "rfnd_2", None]))
    def an_effect_is_told(self, pick: int, status: EffectStatus, reference: str | None) -> None:
        story = self.story
        told = factories.effect(status, provider_reference=reference)
        story.apply(
            operations.record_effect(
                story.state, self._operation(pick), told, timing=TIMING, now=story.now, source="webhook"
            )
        )

    @precondition(_has_operations)
    @rule(pick=PICK)
    def nobody_can_say_of_an_operation(self, pick: int) -> None:
        story = self.story
        story.apply(
            operations.record_unknown(story.state, self._operation(pick), LOST, None, timing=TIMING, now=story.now)
        )

    @precondition(_has_attempts)
    @rule(
        pick=PICK,
        amount=st.sampled_from([1, 300, AMOUNT, 2 * AMOUNT]),
        again=st.booleans(),
        status=st.sampled_from(EffectStatus),
    )
    def a_refund_is_made_at_the_provider(self, pick: int, amount: int, again: bool, status: EffectStatus) -> None:  # noqa: FBT001
        story, attempt = self.story, self._attempt(pick)
        self.refunds += 0 if again else 1
        told = factories.effect(status, amount=amount, provider_reference=f"dash_{self.refunds}")
        excess = amount > story.payment.amount_refundable
        change = operations.provider_refund(story.state, attempt, told, excess=excess, now=story.now)
        story.apply(change)
        if change is not None:
            again_told = operations.provider_refund(story.state, attempt, told, excess=excess, now=story.now)
            assert again_told is None, "told twice, recorded twice"

    # -- always ------------------------------------------------------------------------------------

    @invariant()
    def the_promises_hold(self) -> None:
        self.story.check()

    @invariant()
    def no_second_attempt_while_one_is_open(self) -> None:
        attempts = self.story.state.attempts
        if attempts and attempts[-1].status in ATTEMPT_OPEN:
            assert self._route(attempts).chosen is None


def test_no_sequence_of_facts_breaks_a_promise() -> None:
    run_state_machine_as_test(PaymentLife, settings=settings(max_examples=300, stateful_step_count=30))
