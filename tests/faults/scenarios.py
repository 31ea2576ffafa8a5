"""What is done to Railyard in the fault suite: one function per scenario, with how it ends.

``play.arm()`` says from where on every call is a point at which something may go wrong; what comes
before is the stage. ``*`` marks a scenario that runs at the simulator and at Razorpay.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from chalicelib.domain.risk import RiskRules
from chalicelib.domain.routing_rules import RoutingSettings, Rule
from chalicelib.providers.simulator import SimulatorProvider
from tests.faults.evidence import Expected
from tests.faults.play import AMOUNT, PREMIUM, Play

if TYPE_CHECKING:
    from collections.abc import Callable

_DAY = 86_400.0
_MANUAL: Literal["manual"] = "manual"
# Where the same payment goes: the amount picks the rule, and the rule the provider.
_PROVIDERS = {"simulator": AMOUNT, "razorpay": PREMIUM}


@dataclass(frozen=True, slots=True)
class Scenario:
    """One scenario; ``horizon`` is how many virtual seconds it may take to come to rest.

    In a ``whole`` one the functions behind the outbox may fail as well; they are the same for every event.
    A ``plain`` one goes a way that others go as well, with another answer: it is only crashed, unless all
    faults are asked for.
    """

    name: str
    run: Callable[[Play], None]
    expected: Expected
    horizon: float = 3600.0
    whole: bool = False
    plain: bool = False


SCENARIOS: dict[str, Scenario] = {}


def scenario(
    *statuses: str | frozenset[str], horizon: float = 3600.0, whole: bool = False, plain: bool = False, **expected: Any
) -> Callable[[Any], Any]:
    """A scenario that ends in these payment statuses."""

    def add(run: Callable[[Play], None]) -> Callable[[Play], None]:
        name = run.__name__
        SCENARIOS[name] = Scenario(name, run, Expected(statuses, **expected), horizon, whole, plain)
        return run

    return add


def at_each_provider(
    *statuses: str | frozenset[str], horizon: float = 3600.0, whole: bool = False, plain: bool = False, **expected: Any
) -> Callable[[Callable[[Play, str, int], None]], None]:
    """The same at the simulator and at Razorpay; amounts in ``expected`` are functions of the payment's."""

    def add(run: Callable[[Play, str, int], None]) -> None:
        for provider, amount in _PROVIDERS.items():
            name = f"{run.__name__}_{provider}"
            given = {key: value(amount) if callable(value) else value for key, value in expected.items()}

            def play_it(play: Play, provider: str = provider, amount: int = amount) -> None:
                run(play, provider, amount)

            SCENARIOS[name] = Scenario(name, play_it, Expected(statuses, **given), horizon, whole, plain)

    return add


def _paid(play: Play, amount: int = AMOUNT, **kwargs: Any) -> str:
    payment_id = play.create(amount=amount, **kwargs)
    play.settle()
    return payment_id


def _authorized(play: Play, amount: int, **kwargs: Any) -> str:
    return _paid(play, amount, capture="manual", **kwargs)


# -- create, attempt, relay, notify, deliver, project ------------------------------------------------


@at_each_provider("succeeded", whole=True)
def create(play: Play, _: str, amount: int) -> None:
    play.arm()
    play.create(amount=amount)
    play.settle()


@scenario("succeeded", order="paid", whole=True)
def create_for_order(play: Play) -> None:
    play.arm()
    play.create(order_id=play.order())
    play.settle()


@scenario("succeeded")
def create_and_wait(play: Play) -> None:
    """``Prefer: wait``: the key is held by a lease, the answer stored later."""
    play.arm()
    play.create(wait=10)
    play.settle()


@scenario("succeeded", plain=True)
def create_and_wait_for_slow_charge(play: Play) -> None:
    """The wait is over before the payment is."""
    play.arm()
    play.create("slow_charge", wait=5)
    play.settle()


@scenario("canceled", "succeeded", order="paid")
def create_replaces_waiting_payment(play: Play) -> None:
    """The customer changes the method; the first charge is never completed."""
    order_id = play.order()
    play.chaos(action_expires=100)
    play.create("action", order_id=order_id)
    play.settle(10)
    play.arm()
    play.create(order_id=order_id)
    play.settle_armed(40)


@scenario("canceled", "succeeded", order="paid")
def create_replaces_and_the_first_succeeds_late(play: Play) -> None:
    play.keep_open()
    order_id = play.order()
    first = play.create("action", order_id=order_id)
    play.settle(10)
    play.arm()
    play.create(order_id=order_id)
    play.customer(first)
    play.settle()


@scenario("failed", plain=True)
def create_blocked_by_risk(play: Play) -> None:
    play.arm()
    play.create(country="KP")
    play.settle()


@scenario("failed", plain=True)
def decline(play: Play) -> None:
    play.arm()
    play.create("decline")
    play.settle_armed(60)


@scenario("succeeded")
def the_only_provider_is_busy_and_waited_for(play: Play) -> None:
    """It says when it can be called again, and the workflow waits."""
    play.world.bring_merchant(
        replace(play.world.merchant(), routing=RoutingSettings((Rule("only", ("acct_simulator",)),)))
    )
    play.chaos(provider="simulator", retry_after=30, operation="create", fault="rate_limited")
    play.arm()
    play.create()
    play.settle()


@scenario("failed", plain=True)
def technical_declines_everywhere(play: Play) -> None:
    play.arm()
    play.create("technical")
    play.settle_armed(5)


@scenario("succeeded")
def fail_over_after_refused_connection(play: Play) -> None:
    play.chaos(provider="simulator", refuse_connections=1)
    play.arm()
    play.create()
    play.settle()


@scenario(frozenset({"succeeded", "failed"}), plain=True)  # failed: the fault took the only good provider's attempt
def fail_over_after_technical_decline(play: Play) -> None:
    play.chaos(provider="simulator", failure_rate=1.0)
    play.arm()
    play.create("plain")
    play.settle_armed(8)


# -- resolve -----------------------------------------------------------------------------------------


@at_each_provider("succeeded")
def timeout_after(play: Play, _: str, amount: int) -> None:
    play.arm()
    play.create("timeout_after", amount)
    play.settle()


@at_each_provider("succeeded")
def timeout_before(play: Play, provider: str, amount: int) -> None:
    play.chaos(provider=provider, operation="create", fault="timeout_before")
    play.arm()
    play.create(amount=amount)
    play.settle_armed(120)


@at_each_provider("succeeded")
def slow_charge(play: Play, _: str, amount: int) -> None:
    play.arm()
    play.create("slow_charge", amount)
    play.settle()


@at_each_provider("succeeded", plain=True)
def slow_charge_unseen(play: Play, _: str, amount: int) -> None:
    """No webhook tells of it either."""
    play.silence_webhooks()
    play.arm()
    play.create("slow_charge", amount)
    play.settle()


@scenario(frozenset({"succeeded", "failed"}), plain=True)
def manual_review_closed(play: Play) -> None:
    """The provider cannot say for so long that a person closes it, wrongly. The provider is asked first
    and knows better; if just then it cannot be asked, the charge is found later and reversed."""
    play.silence_webhooks()
    play.chaos(provider="simulator", operation="create", fault="timeout_after", times=100)
    play.chaos(provider="simulator", operation="fetch", fault="timeout_before", times=100)
    payment_id = play.create()
    play.settle(2 * 3600)
    play.world.bank.chaos["simulator"].plans.clear()
    play.arm()
    play.close(payment_id, "failed")
    play.settle()


# -- verify and provider events ----------------------------------------------------------------------


@at_each_provider("succeeded")
def verify(play: Play, _: str, amount: int) -> None:
    """The browser's return is all that tells: every webhook is lost."""
    play.silence_webhooks()
    payment_id = play.create("action", amount)
    play.settle(10)
    play.customer(payment_id)
    play.arm()
    play.verify(payment_id, play.proof(payment_id))
    play.settle()


@at_each_provider("succeeded")
def verify_together_with_webhook(play: Play, _: str, amount: int) -> None:
    payment_id = play.create("action", amount)
    play.settle(10)
    play.customer(payment_id)
    play.arm()
    play.verify(payment_id, play.proof(payment_id))
    play.settle()


@at_each_provider("succeeded")
def pending_success(play: Play, _: str, amount: int) -> None:
    play.create("pending_success", amount)
    play.settle(1)
    play.arm()
    play.settle()


@at_each_provider("failed")
def pending_failure(play: Play, _: str, amount: int) -> None:
    play.create("pending_failure", amount)
    play.settle(1)
    play.arm()
    play.settle_armed(15)


@scenario("succeeded", plain=True)
def pending_success_without_webhook(play: Play) -> None:
    play.silence_webhooks()
    play.create("pending_success")
    play.settle(1)
    play.arm()
    play.settle()


@scenario("succeeded")
def provider_events_doubled_and_reordered(play: Play) -> None:
    play.chaos(webhooks={"duplicate_rate": 1.0, "reorder": 0.5})
    payment_id = play.create(capture="manual")
    play.settle()
    play.capture(payment_id)
    play.arm()
    play.settle()


@scenario("succeeded", orphans=1)
def orphan(play: Play) -> None:
    """An event of a charge that is not ours is kept for people."""
    from infra.sandbox.records import ChargeSpec  # noqa: PLC0415

    _paid(play)
    spec = ChargeSpec(
        "pay_01ZZZZZZZZZZZZZZZZZZZZZZZZ-01",
        AMOUNT,
        "INR",
        automatic=False,
        method={"type": "upi", "vpa": "decline@sim"},
    )
    play.world.bank.create_charge("simulator", spec, "foreign")
    play.arm()
    play.settle()
    play.world.bank.book.charges.popitem()


# -- capture -----------------------------------------------------------------------------------------


@at_each_provider("succeeded")
def capture(play: Play, _: str, amount: int) -> None:
    payment_id = _authorized(play, amount)
    play.arm()
    play.capture(payment_id)
    play.settle()


@scenario("succeeded", captured=(50_000,), order="paid")
def capture_partial(play: Play) -> None:
    payment_id = _authorized(play, AMOUNT, order_id=play.order())
    play.arm()
    play.capture(payment_id, 50_000)
    play.settle()


@at_each_provider("succeeded", plain=True)
def capture_timeout_after(play: Play, provider: str, amount: int) -> None:
    payment_id = _authorized(play, amount)
    play.silence_webhooks()
    play.chaos(provider=provider, operation="capture", fault="timeout_after")
    play.arm()
    play.capture(payment_id)
    play.settle()


@at_each_provider("succeeded", plain=True)
def capture_slow(play: Play, provider: str, amount: int) -> None:
    payment_id = _authorized(play, amount)
    play.chaos(provider=provider, operation="capture", fault="slow")
    play.arm()
    play.capture(payment_id)
    play.settle()


@scenario("canceled", plain=True)
def void_slow(play: Play) -> None:
    payment_id = _authorized(play, AMOUNT)
    play.chaos(provider="simulator", operation="void", fault="slow")
    play.arm()
    play.cancel(payment_id)
    play.settle()


@scenario("authorized", plain=True)
def capture_declined(play: Play) -> None:
    payment_id = _authorized(play, AMOUNT)
    play.chaos(provider="simulator", operation="capture", fault="decline", times=50)
    play.arm()
    play.capture(payment_id)
    play.settle()


class _Authorizing(SimulatorProvider):
    """A provider that holds the money first, whatever it is asked for."""

    def create(self, account: Any, intent: Any) -> Any:
        """As for manual capture."""
        return super().create(account, replace(intent, capture="manual"))


@scenario("succeeded")
def capture_automatic(play: Play) -> None:
    """``capture: automatic`` at a provider that answers ``authorized``: the workflow creates the capture."""
    world = play.world
    adapter = _Authorizing(world.kit.http)
    real = world.kit.provider
    world.bring(replace(world.kit, provider=lambda name: adapter if name == "simulator" else real(name)))
    play.arm()
    play.create()
    play.settle()


# -- void, cancel and expiry -------------------------------------------------------------------------


@at_each_provider("canceled", horizon=6 * _DAY)
def void(play: Play, _: str, amount: int) -> None:
    """By call at the simulator; at Razorpay the authorization lapses after days, and that is checked."""
    payment_id = _authorized(play, amount)
    play.arm()
    play.cancel(payment_id)
    play.settle(6 * _DAY)


@scenario("canceled", order="attempted", plain=True)
def void_timeout_after(play: Play) -> None:
    payment_id = _authorized(play, AMOUNT, order_id=play.order())
    play.silence_webhooks()
    play.chaos(provider="simulator", operation="void", fault="timeout_after")
    play.arm()
    play.cancel(payment_id)
    play.settle()


@scenario("canceled")
def cancel_waiting_payment(play: Play) -> None:
    play.chaos(action_expires=100)
    payment_id = play.create("action")
    play.settle(10)
    play.arm()
    play.cancel(payment_id)
    play.settle_armed(45)


@scenario("canceled")
def cancel_then_the_customer_pays(play: Play) -> None:
    """Late success of an attempt that was let go, heard of by webhook."""
    play.keep_open()
    payment_id = play.create("action")
    play.settle(10)
    play.cancel(payment_id)
    play.arm()
    play.customer(payment_id)
    play.settle()


@scenario("canceled", plain=True)
def cancel_then_the_customer_pays_unseen(play: Play) -> None:
    """The same with every webhook lost: the watch on the attempt finds it."""
    play.keep_open()
    play.silence_webhooks()
    payment_id = play.create("action")
    play.settle(10)
    play.cancel(payment_id)
    play.arm()
    play.customer(payment_id)
    play.settle()


@scenario("expired", order="attempted")
def expiry_of_requires_action(play: Play) -> None:
    order_id = play.order()
    play.short_lived()
    play.create("action", order_id=order_id)
    play.settle(56)
    play.arm()
    play.settle_armed(45)


@scenario("expired")
def expiry_of_review(play: Play) -> None:
    _reviewing(play)
    play.short_lived()
    play.create(country="NP")
    play.settle(50)
    play.arm()
    play.settle()


@at_each_provider("expired", horizon=6 * _DAY)
def expiry_of_authorized(play: Play, _: str, amount: int) -> None:
    """At the simulator by a void of ours just in time; Razorpay releases by itself."""
    play.chaos(release_after=10 * _DAY)
    _authorized(play, amount)
    play.arm()
    play.settle(12 * _DAY)


@scenario(order="expired", horizon=2 * _DAY, whole=True)
def expiry_of_order(play: Play) -> None:
    play.arm()
    play.order(ttl=600)
    play.settle()


@scenario("succeeded", order="paid", horizon=2 * _DAY, plain=True)
def order_with_live_payment_does_not_expire(play: Play) -> None:
    order_id = play.order(ttl=100)
    payment_id = play.create("action", order_id=order_id)
    play.settle(90)
    play.arm()
    play.settle(25)
    play.disarm()
    play.settle(60)
    play.customer(payment_id)
    play.settle()


@scenario(order="canceled")
def cancel_order(play: Play) -> None:
    play.arm()
    play.cancel_order(play.order())
    play.settle()


# -- review ------------------------------------------------------------------------------------------


def _reviewing(play: Play) -> None:
    """The merchant wants to see payments from Nepal."""
    world = play.world
    merchant = replace(world.merchant(), risk=RiskRules(review_countries=frozenset({"NP"})))
    world.bring_merchant(merchant)


@scenario("succeeded")
def review_approved(play: Play) -> None:
    _reviewing(play)
    payment_id = play.create(country="NP")
    play.settle(10)
    play.arm()
    play.review(payment_id, approve=True)
    play.settle()


@scenario("failed", plain=True)
def review_rejected(play: Play) -> None:
    _reviewing(play)
    payment_id = play.create(country="NP")
    play.settle(10)
    play.arm()
    play.review(payment_id, approve=False)
    play.settle()


# -- refunds -----------------------------------------------------------------------------------------


@at_each_provider("succeeded", refunded=lambda amount: (amount,), whole=True)
def refund(play: Play, _: str, amount: int) -> None:
    payment_id = _paid(play, amount)
    play.arm()
    play.refund(payment_id)
    play.settle()


@scenario("succeeded", refunded=(AMOUNT,), order="paid", plain=True)
def refund_for_order(play: Play) -> None:
    payment_id = _paid(play, order_id=play.order())
    play.arm()
    play.refund(payment_id)
    play.settle()


@scenario("succeeded", refunded=(80_000,), plain=True)
def refund_partial_twice(play: Play) -> None:
    payment_id = _paid(play)
    play.arm()
    play.refund(payment_id, 50_000)
    play.refund(payment_id, 30_000)
    play.settle()


@at_each_provider("succeeded", refunded=lambda amount: (amount,), plain=True)
def refund_timeout_after(play: Play, provider: str, amount: int) -> None:
    payment_id = _paid(play, amount)
    play.silence_webhooks()
    play.chaos(provider=provider, operation="refund", fault="timeout_after")
    play.arm()
    play.refund(payment_id)
    play.settle()


@at_each_provider("succeeded", refunded=lambda amount: (amount,), plain=True)
def refund_slow(play: Play, provider: str, amount: int) -> None:
    payment_id = _paid(play, amount)
    play.chaos(provider=provider, operation="refund", fault="slow")
    play.arm()
    play.refund(payment_id)
    play.settle()


@at_each_provider("succeeded", refunded=lambda amount: (amount,), plain=True)
def refund_pending(play: Play, provider: str, amount: int) -> None:
    payment_id = _paid(play, amount)
    play.chaos(provider=provider, operation="refund", fault="pending")
    play.arm()
    play.refund(payment_id)
    play.settle()


@at_each_provider("succeeded", plain=True)
def refund_fails_later(play: Play, provider: str, amount: int) -> None:
    payment_id = _paid(play, amount)
    play.chaos(provider=provider, operation="refund", fault="pending_failure")
    play.arm()
    play.refund(payment_id)
    play.settle()


@scenario("succeeded", plain=True)
def refund_declined(play: Play) -> None:
    payment_id = _paid(play)
    play.chaos(provider="simulator", operation="refund", fault="decline", times=50)
    play.arm()
    play.refund(payment_id)
    play.settle()


@scenario("succeeded", whole=True)
def refund_returned(play: Play) -> None:
    """The customer's bank sends it back."""
    payment_id = _paid(play)
    play.refund(payment_id)
    play.settle()
    play.arm()
    play.dashboard("return_refund", "simulator", payment_id)
    play.settle()


@at_each_provider("succeeded", refunded=(40_000,))
def refund_in_the_providers_dashboard(play: Play, provider: str, amount: int) -> None:
    payment_id = _paid(play, amount)
    play.arm()
    play.dashboard("refund", provider, payment_id, amount=40_000)
    play.settle()


@scenario("succeeded", plain=True)
def refund_in_the_providers_dashboard_returned(play: Play) -> None:
    payment_id = _paid(play)
    play.dashboard("refund", "simulator", payment_id, amount=40_000)
    play.settle()
    play.arm()
    play.dashboard("return_refund", "simulator", payment_id)
    play.settle()


@at_each_provider("succeeded", plain=True)
def capture_in_the_providers_dashboard(play: Play, provider: str, amount: int) -> None:
    payment_id = _authorized(play, amount)
    play.arm()
    play.dashboard("capture", provider, payment_id)
    play.settle()


@at_each_provider("canceled", plain=True)
def release_in_the_providers_dashboard(play: Play, provider: str, amount: int) -> None:
    payment_id = _authorized(play, amount)
    play.arm()
    play.dashboard("release", provider, payment_id)
    play.settle()


# -- reversal ----------------------------------------------------------------------------------------


@at_each_provider("failed", whole=True)
def late_success(play: Play, _: str, amount: int) -> None:
    play.create("late_success", amount)
    play.settle(1)
    play.arm()
    play.settle()


@at_each_provider("failed")
def late_success_held(play: Play, _: str, amount: int) -> None:
    """The late money is only held: it is released, not refunded."""
    play.chaos(release_after=120)
    play.create("late_success", amount, capture="manual")
    play.settle(1)
    play.arm()
    play.settle(20)
    play.disarm()
    play.settle(90)
    play.arm()
    play.settle()


@scenario("failed", plain=True)
def late_success_reversal_timeout_after(play: Play) -> None:
    play.create("late_success")
    play.settle(1)
    play.chaos(provider="simulator", operation="refund", fault="timeout_after")
    play.silence_webhooks()
    play.chaos(webhooks={"drop_rate": 0.0})
    play.arm()
    play.settle()


# -- park --------------------------------------------------------------------------------------------


class _Defective(SimulatorProvider):
    """An adapter with a defect, until somebody repairs it: the one thing adapters must never do."""

    broken = True

    def create(self, account: Any, intent: Any) -> Any:
        """Raises."""
        return super().create(account, intent) if not self.broken else self._fail()

    def fetch(self, account: Any, charge: Any) -> Any:
        """Raises."""
        return super().fetch(account, charge) if not self.broken else self._fail()

    def _fail(self) -> Any:
        raise RuntimeError("a defect")


@scenario("succeeded", defects=True, plain=True)
def park(play: Play) -> None:
    """A task keeps crashing: a person is told; once the defect is gone the sweeper brings it home."""
    world = play.world
    adapter = _Defective(world.kit.http)
    real = world.kit.provider
    world.bring(replace(world.kit, provider=lambda name: adapter if name == "simulator" else real(name)))
    payment_id = play.create()
    play.arm()
    play.settle(120)
    assert play.needs_attention(payment_id)
    adapter.broken = False
    play.disarm()
    play.settle()


# -- deliver and sweep -------------------------------------------------------------------------------


@scenario("succeeded", whole=True)
def deliver_after_failures(play: Play) -> None:
    play.world.inbox_statuses[:] = [500, 503, 301, 200, 410, 429]
    play.arm()
    play.create()
    play.settle()


@scenario("succeeded", whole=True)
def delivery_message_lost(play: Play) -> None:
    """A delivery whose message is gone is brought back by the sweeper."""
    world = play.world
    world.inbox_statuses[:] = [500, 500]
    play.create()
    play.settle(0.5)
    world.queues["deliveries"].clear()
    play.arm()
    play.settle()


@scenario("succeeded", undelivered=9, dead=2, plain=True)
def delivery_given_up(play: Play) -> None:
    """An endpoint that never answers costs dead letters and nothing else."""
    play.world.inbox_statuses[:] = [500] * 60
    play.create()
    play.settle(1)
    play.settle()


@scenario("succeeded")
def workflow_start_lost(play: Play) -> None:
    play.world.lose_starts = 2
    play.arm()
    play.create()
    play.settle()


@scenario("succeeded")
def execution_dies(play: Play) -> None:
    """An execution that ends in the middle (an Express time-out, a restart) is replaced by the sweeper."""
    play.create("timeout_after")
    world = play.world
    for execution in world.executions.values():
        execution.step(world.clock.time)
        execution.status = "ABORTED"
    play.arm()
    play.settle()


@scenario("succeeded", refunded=(AMOUNT,))
def operation_message_lost(play: Play) -> None:
    payment_id = _paid(play)
    play.refund(payment_id)
    play.world._relay()
    play.world.queues["operations"].clear()
    play.arm()
    play.settle()
