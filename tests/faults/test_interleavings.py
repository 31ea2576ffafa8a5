"""Hypothesis decides what happens next: to one payment, whatever merchants, customers, providers, queues and
crashes may do, in any order; then everything comes to rest and every promise must hold."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Literal

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from chalicelib.domain.errors import InvalidRequest, StateConflict
from tests.faults.checker import violations
from tests.faults.evidence import Expected
from tests.faults.play import AMOUNT, PREMIUM, Play
from tests.support.world import Fault, World

_DAY = 86_400.0
_OUTCOMES = ("success", "action", "pending_success", "pending_failure", "late_success", "timeout_after", "slow_charge",
             "decline", "technical", "timeout_before")  # fmt: skip
_AMOUNTS = st.sampled_from([None, 1, 50_000, 100_000, AMOUNT])
_DASHBOARD = ("capture", "release", "refund", "return_refund")


class Payment(RuleBasedStateMachine):
    """One payment and everybody around it."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.play = Play(self.world)
        self.id = ""
        self.may_cancel = False

    @initialize(
        outcome=st.sampled_from(_OUTCOMES),
        amount=st.sampled_from([AMOUNT, PREMIUM]),
        capture=st.sampled_from(["automatic", "manual"]),
        with_order=st.booleans(),
        head_start=st.sampled_from([0.0, 0.5, 3.0, 30.0]),
        may_cancel=st.sampled_from([False, False, True]),  # an early end is the end of the story
    )
    def create(
        self,
        outcome: str,
        amount: int,
        capture: Literal["automatic", "manual"],
        with_order: bool,  # noqa: FBT001
        head_start: float,
        may_cancel: bool,  # noqa: FBT001
    ) -> None:
        order_id = self.play.order(amount) if with_order else None
        self.id = self.play.create(outcome, amount, capture=capture, order_id=order_id)
        self.may_cancel = may_cancel
        self.world.sleep(head_start)

    # -- what the platform does, in any order ----------------------------------------------------

    @rule(number=st.integers(0, 7))
    def something_happens(self, number: int) -> None:
        due = self.world.due()
        if due:
            due[number % len(due)]()

    @rule(seconds=st.sampled_from([0.1, 1.0, 5.0, 25.0, 100.0]))
    def time_passes(self, seconds: float) -> None:
        """And nobody gets round to anything: queues fill up."""
        self.world.clock.time += seconds
        self.world.bank.run_due(self.world.clock.time)

    @rule(seconds=st.sampled_from([0.1, 1.0, 5.0, 25.0, 100.0]))
    def all_goes_well(self, seconds: float) -> None:
        self.world.sleep(seconds)

    @rule()
    def sweep(self) -> None:
        self.world.sweep()

    @precondition(lambda self: self.world.fault is None)
    @rule(
        after=st.integers(0, 12),
        kind=st.sampled_from(["crash_before", "crash_after", "conflict", "refused", "lost", "twin", "stall"]),
    )
    def trouble_ahead(self, after: int, kind: Any) -> None:
        """One of the next calls goes wrong, if it can in this way."""
        self.world.fault = Fault(len(self.world.points) + after, kind)
        self.world.armed = True

    @precondition(lambda self: bool(self.world.acknowledged))
    @rule(number=st.integers(0, 7))
    def a_provider_repeats_itself(self, number: int) -> None:
        self.world.hooks.append(self.world.acknowledged[number % len(self.world.acknowledged)])

    # -- what people do --------------------------------------------------------------------------

    def _may_be_refused(self, what: Any) -> None:
        with suppress(StateConflict, InvalidRequest):  # a definite no changes nothing: the checker sees to that
            what()

    @rule(amount=_AMOUNTS)
    def capture(self, amount: int | None) -> None:
        self._may_be_refused(lambda: self.play.capture(self.id, amount))

    @precondition(lambda self: self.may_cancel)
    @rule()
    def cancel(self) -> None:
        self._may_be_refused(lambda: self.play.cancel(self.id))

    @rule(amount=_AMOUNTS)
    def refund(self, amount: int | None) -> None:
        self._may_be_refused(lambda: self.play.refund(self.id, amount))

    @rule(choice=st.sampled_from(["approve", "decline"]))
    def the_customer_decides(self, choice: str) -> None:
        if any(c["status"] == "pending" and self._waits(c["id"]) for c in self._charges()):
            self.play.customer(self.id, choice)

    @rule(action=st.sampled_from(_DASHBOARD), amount=st.sampled_from([1, 40_000]))
    def somebody_works_in_the_dashboard(self, action: str, amount: int) -> None:
        charges = self._charges()
        if action == "refund" and self.play.status(self.id) != "succeeded":
            return  # a part of a late charge, given back by hand while we reverse it: that ends with a person
        if charges:
            body = {"amount": amount} if action == "refund" else {}
            self.play.dashboard(action, charges[-1]["provider"], self.id, may_fail=True, **body)

    def _charges(self) -> list[dict[str, Any]]:
        charges: list[dict[str, Any]] = self.world.bank.truth(self.id)["charges"]
        return charges

    def _waits(self, charge_id: str) -> bool:
        return bool(self.world.bank.book.charges[charge_id].state.value == "requires_action")

    # -- and then --------------------------------------------------------------------------------

    def teardown(self) -> None:
        try:
            if self.id:
                self.world.run(horizon=8 * _DAY)
                self.world.armed = False
                problems = violations(self.play, Expected(None, attention=True))
                assert not problems, "\n".join(problems)
                self.world.search()
        finally:
            self.world.close()


TestInterleavings = Payment.TestCase
# No shrinking: it would take minutes, and 25 steps can be read.
TestInterleavings.settings = settings(max_examples=100, stateful_step_count=25, phases=(Phase.explicit, Phase.generate))
