"""The fault suite can fail: every check reports what it is for, and every guard that is taken away is missed.

First single rows are falsified after a good run. Then Railyard itself is broken on purpose, one guard
at a time, and the suite has to notice. Guards that another one stands behind are taken away together.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from chalicelib.domain.errors import ErrorClass, ErrorCode, PaymentError
from chalicelib.domain.model import Change
from chalicelib.domain.outcome import Charge, ChargeStatus, NotSent, Unknown
from chalicelib.providers.razorpay import RazorpayProvider
from chalicelib.providers.simulator import SimulatorProvider
from chalicelib.storage.queues import Queues, SendFailed
from chalicelib.storage.store import KeyTaken, Store
from tests.faults import runner
from tests.faults.checker import CHECKS, violations
from tests.faults.play import AMOUNT, Play
from tests.faults.scenarios import SCENARIOS
from tests.faults.test_rivals import RIVALS, play_rivals
from tests.support.aws import PREFIX
from tests.support.world import Fault, World

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.support.dynamo import Item
    from tests.support.world import Kind


# -- every check reports -----------------------------------------------------------------------------


def _row(play: Play, table: str, sk: str) -> Item:
    """A stored row whose sort key begins so."""
    return next(i for i in play.world.dynamo.tables[f"{PREFIX}-{table}"].items() if i["sk"]["S"].startswith(sk))


def _set(play: Play, table: str, sk: str, **fields: object) -> None:
    row = _row(play, table, sk)
    for name, value in fields.items():
        row[name] = {"N": str(value)} if isinstance(value, int) else {"S": str(value)}


def _charge(play: Play) -> Any:
    return next(iter(play.world.bank.book.charges.values()))


def _drop(play: Play, table: str, sk: str) -> None:
    row, rows = _row(play, table, sk), play.world.dynamo.tables[f"{PREFIX}-{table}"]
    del rows.partitions[row["pk"]["S"]][row["sk"]["S"]]


def _second_charge(play: Play) -> None:
    charge = _charge(play)
    play.world.bank.book.charges["again"] = replace(charge, id="again")


def _move_back(play: Play) -> None:
    row = _row(play, "payments", "a#payment")
    play.world.dynamo._write(
        [play.world.dynamo._put({"TableName": f"{PREFIX}-payments", "Item": row | {"status": {"S": "processing"}}})]
    )


def _unsigned(play: Play) -> None:
    headers, body = play.world.inbox[0]
    play.world.inbox[0] = (headers, body.replace(b"payment.created", b"payment.failed"))


def _route(play: Play, **changes: object) -> str:
    return json.dumps(json.loads(_row(play, "payments", "a#att#")["route"]["S"]) | changes)


def _appear(play: Play, table: str, pk: str, sk: str) -> None:
    key = {"pk": {"S": f"mer_01TEST/test/{pk}"}, "sk": {"S": sk}}
    play.world.dynamo.tables[f"{PREFIX}-{table}"].put(key)


FALSIFIED: dict[str, tuple[Callable[[Play], object], ...]] = {
    "one_charge_kept": (_second_charge, lambda p: setattr(_charge(p), "refunded", 1)),
    "every_charge_is_known": (
        lambda p: setattr(_charge(p), "reference", "pay_x-01"),
        lambda p: _set(p, "payments", "a#payment", winning_attempt="att_x"),
    ),
    "conservation": (lambda p: _set(p, "payments", "a#payment", amount_refundable=AMOUNT),),
    "refunds_match": (
        lambda p: _set(p, "payments", "a#op#", amount=1),
        lambda p: _drop(p, "payments", "a#op#"),
    ),
    "journals_balance": (
        lambda p: _drop(p, "payments", "jnl#"),
        lambda p: _set(p, "payments", "jnl#", legs='[["merchant:payable",1],["refunds:in_flight",1]]'),
    ),
    "books_agree_with_the_bank": (lambda p: _drop(p, "payments", "jnl#"),),
    "projection_is_the_replay": (lambda p: _set(p, "stats", "merchant:payable", total=1),),
    "statistics_match": (lambda p: _set(p, "stats", "payment.succeeded", total=2),),
    "events_gapless": (lambda p: _drop(p, "payments", "evt#00000002"),),
    "history_is_legal": (_move_back,),
    "ids_unique": (
        lambda p: _set(p, "payments", "a#op#", id=_row(p, "payments", "a#payment")["id"]["S"]),
        lambda p: _appear(p, "payments", "pay_x", "evt#00000001"),
    ),
    "webhooks_are_signed": (_unsigned,),
    "every_event_delivered": (lambda p: p.world.inbox.clear(), lambda p: p.world.inbox.pop()),
    "deliveries_are_done": (lambda p: _set(p, "deliveries", "dlv#", status="pending"),),
    "answers_stand": (lambda p: _drop(p, "guards", "idem"), lambda p: p.bodies["mer_01TEST/test/key-1"].append(b"{}")),
    "every_effect_was_asked_for": (lambda p: p.answers.pop(), lambda p: p.answers.append(p.answers[0])),
    "queues_are_empty": (
        lambda p: p.world.dead.append(("deliveries", p.world.new_message("{}"))),
        lambda p: p.world.queues["deliveries"].append(p.world.new_message("{}")),
        lambda p: _appear(p, "payments", "orphan/x", "orphan"),
    ),
    "nothing_is_left_open": (lambda p: _set(p, "payments", "a#op#", status="sent"),),
    "orders_paid_once": (lambda p: _set(p, "payments", "a#order", status="attempted"),),
    "ends_as_expected": (lambda p: _set(p, "payments", "a#payment", status="failed"),),
    "counted_once": (lambda p: _drop(p, "guards", "window"), lambda p: _set(p, "guards", "window", rows="[]")),
    "decisions_are_explained": (
        lambda p: _set(p, "payments", "a#att#", route="{}"),
        lambda p: _set(p, "payments", "a#att#", route=_route(p, chosen="acct_razorpay")),
        lambda p: _set(p, "payments", "a#att#", route=_route(p, order=["acct_payu", "acct_simulator"], skipped={})),
    ),
    "no_secret_is_stored": (
        lambda p: _set(p, "payments", "evt#", data='{"key": "rzp_test_secret"}'),
        lambda p: _set(p, "payments", "a#payment", customer='{"email": "a@example.com"}'),
        lambda p: p.world.sent.append(("provider-events", '{"vpa": "success@sim"}')),
    ),
    "nothing_unforeseen": (lambda p: p.world.errors.append(("relay", KeyError("x"))),),
}


def test_every_check_is_tried() -> None:
    assert {check.__name__ for check in CHECKS} == set(FALSIFIED)


@pytest.mark.parametrize(("name", "number"), [(n, i) for n, ways in FALSIFIED.items() for i in range(len(ways))])
def test_a_falsified_row_is_found(name: str, number: int) -> None:
    scenario = SCENARIOS["refund_for_order"]
    with World() as world:
        play = Play(world)
        scenario.run(play)
        assert not violations(play, scenario.expected)
        FALSIFIED[name][number](play)
        assert any(problem.startswith(f"{name}: ") for problem in violations(play, scenario.expected))
        world.dynamo.tables.clear()  # some ways plant a secret, which the world would find when it ends
        world.sent.clear()


# -- every guard is missed ---------------------------------------------------------------------------


def _overlooking(*sort_keys: str, table: str = "payments") -> Callable[[World], None]:
    """Conditions on rows of these kinds are dropped."""

    def overlook(action: Mapping[str, Any]) -> bool:
        key = action.get("Item") or action["Key"]
        return bool(action["TableName"].endswith(table) and key["sk"]["S"].startswith(sort_keys))

    def prepare(world: World) -> None:
        world.dynamo.overlook = overlook

    return prepare


def _with_store(store: type[Store]) -> Callable[[World], None]:
    return lambda world: world.bring(replace(world.kit, store=store(PREFIX, world.cipher)))


def _with_provider(adapter: type[SimulatorProvider | RazorpayProvider], name: str) -> Callable[[World], None]:
    def prepare(world: World) -> None:
        broken, real = adapter(world.kit.http), world.kit.provider
        world.bring(replace(world.kit, provider=lambda wanted: broken if wanted == name else real(wanted)))

    return prepare


class _KeyApart(Store):
    """The idempotency key is written before its effect."""

    def commit(self, change: Change, **kwargs: Any) -> None:
        """In two transactions."""
        claim = kwargs.pop("claim", None)
        if claim is not None:
            super().commit(Change(), now=kwargs["now"], claim=claim)
        super().commit(change, **kwargs)


class _MarkApart(Store):
    """The mark of a provider's event is written before its effect."""

    def commit(self, change: Change, **kwargs: Any) -> None:
        """In two transactions."""
        mark = kwargs.pop("mark", None)
        if mark is not None:
            super().commit(Change(), now=kwargs["now"], mark=mark)
        super().commit(change, **kwargs)


class _WindowsApart(Store):
    """A payment is counted before it is written."""

    def commit(self, change: Change, **kwargs: Any) -> None:
        """In two transactions."""
        windows = kwargs.pop("windows", {})
        if windows:
            super().commit(Change(), now=kwargs["now"], windows=windows)
        super().commit(change, **kwargs)


class _NoKeys(Store):
    """A used idempotency key is no reason to stop."""

    def commit(self, change: Change, **kwargs: Any) -> None:
        """Without looking."""
        try:
            super().commit(change, **kwargs)
        except KeyTaken:
            super().commit(change, **(kwargs | {"claim": None}))


class _NoMarks(Store):
    """What has been counted is counted again."""

    def project(self, *args: Any) -> bool:
        """Under ever new marks."""
        tenant, totals, mark, now = args
        self.number = getattr(self, "number", 0) + 1
        return super().project(tenant, totals, replace(mark, key=f"{mark.key}/{self.number}"), now)


class _ForgetfulStore(Store):
    """Changes lose their journals."""

    def commit(self, change: Change, **kwargs: Any) -> None:
        """All but the journals."""
        super().commit(replace(change, journals=()), **kwargs)


class _SilentStore(Store):
    """Changes lose their newest event."""

    def commit(self, change: Change, **kwargs: Any) -> None:
        """All but the last event."""
        super().commit(replace(change, events=change.events[:-1]), **kwargs)


class _NoLeases(Store):
    """Nothing is ever overdue."""

    def claim_due(self, *_: Any) -> bool:
        """Somebody else will."""
        return False

    def claim_delivery(self, *_: Any) -> bool:
        """Somebody else will."""
        return False


class _CarelessQueues(Queues):
    """A failed send is no reason to stop."""

    def send(self, *args: Any, **kwargs: Any) -> None:
        """Or not."""
        try:
            super().send(*args, **kwargs)
        except Exception as error:
            if isinstance(error, SendFailed):
                raise


def _careless(world: World) -> None:
    queues = world.kit.queues
    world.bring(replace(world.kit, queues=_CarelessQueues(queues._sqs, queues._urls)))


_DECLINED = PaymentError(ErrorClass.TECHNICAL_DECLINE, ErrorCode.TECHNICAL_FAILURE, "It took too long.")


class _TimeoutIsDecline(SimulatorProvider):
    """A time-out is taken for a failure."""

    def create(self, account: Any, intent: Any) -> Any:
        """Decline what is unknown."""
        answer = super().create(account, intent)
        return Charge(ChargeStatus.DECLINED, error=_DECLINED) if isinstance(answer, Unknown) else answer


class _TimeoutIsNotSent(RazorpayProvider):
    """A time-out is taken for a request that never left."""

    def create(self, account: Any, intent: Any) -> Any:
        """Not sent, it seems."""
        answer = super().create(account, intent)
        return NotSent(answer.error) if isinstance(answer, Unknown) else answer


class _Impatient(RazorpayProvider):
    """What is not found at once is taken for never made."""

    capabilities = replace(RazorpayProvider.capabilities, settle_window=-60)


class _KeyOfTheMoment(SimulatorProvider):
    """Every refund call has a key of its own."""

    def refund(self, account: Any, charge: Any, amount: int, key: str) -> Any:
        """Ever again."""
        self.number = getattr(self, "number", 0) + 1
        return super().refund(account, charge, amount, f"{key}-{self.number}")


@dataclass(frozen=True, slots=True)
class Mutant:
    """A broken Railyard, and where the suite has to notice."""

    break_it: Callable[[World], None]
    scenario: str
    kinds: tuple[Kind, ...] = ()  # none: it shows without a fault


MUTANTS = {
    "the conditions of a payment's rows": Mutant(
        _overlooking("a#", "evt#", "jnl#"), "refund_simulator", ("twin", "stall")
    ),
    "the permit to send a charge": Mutant(_overlooking("a#", "evt#"), "create_razorpay", ("twin", "stall")),
    "the key's condition": Mutant(_overlooking("idem", table="guards"), "create_simulator", ("twin",)),
    "a used key stops nobody": Mutant(_with_store(_NoKeys), "refund_partial_twice", ("twin", "crash_after")),
    "key and effect in one transaction": Mutant(_with_store(_KeyApart), "create_simulator", ("crash_after",)),
    "mark and effect in one transaction": Mutant(
        _with_store(_MarkApart), "refund_in_the_providers_dashboard_simulator", ("crash_after",)
    ),
    "payment and velocity in one transaction": Mutant(
        _with_store(_WindowsApart), "create_simulator", ("twin", "crash_after")
    ),
    "the projection's mark": Mutant(_with_store(_NoMarks), "create_simulator", ("twin", "crash_after")),
    "journals belong to the change": Mutant(_with_store(_ForgetfulStore), "create_simulator"),
    "no change without its event": Mutant(_with_store(_SilentStore), "create_simulator"),
    "the sweeper": Mutant(_with_store(_NoLeases), "workflow_start_lost"),
    "the outbox never skips": Mutant(_careless, "create_simulator", ("refused",)),
    "a time-out is not a decline": Mutant(_with_provider(_TimeoutIsDecline, "simulator"), "timeout_after_simulator"),
    "a time-out is not 'not sent'": Mutant(_with_provider(_TimeoutIsNotSent, "razorpay"), "timeout_after_razorpay"),
    "not found is definite only later": Mutant(_with_provider(_Impatient, "razorpay"), "slow_charge_unseen_razorpay"),
    "one key per operation": Mutant(_with_provider(_KeyOfTheMoment, "simulator"), "refund_timeout_after_simulator"),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_missing_guard_is_missed(name: str) -> None:
    mutant = MUTANTS[name]
    scenario = SCENARIOS[mutant.scenario]
    if not mutant.kinds:
        assert runner.run(scenario, None, mutant.break_it).problems
        return
    assert any(runner.check(scenario, kind, mutant.break_it, enough=1)[1] for kind in mutant.kinds)


RIVAL_MUTANTS = {
    "the versions": (_overlooking("a#", "evt#"), "two full refunds"),
    "the versions of captures": (_overlooking("a#", "evt#"), "capture and cancel"),
    "the order's version": (_overlooking("a#", "evt#"), "two payments of one order"),
}


@pytest.mark.parametrize("name", RIVAL_MUTANTS)
def test_a_missing_guard_is_missed_between_rivals(name: str) -> None:
    break_it, rivals = RIVAL_MUTANTS[name]
    points, _ = play_rivals(RIVALS[rivals], None, break_it)
    assert any(play_rivals(RIVALS[rivals], Fault(at, "rival"), break_it)[1] for at in range(len(points)))
