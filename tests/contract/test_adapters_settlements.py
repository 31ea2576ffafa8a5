"""Every adapter against the bank, settlement reports: they add up to what the bank's book says."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from chalicelib.domain.outcome import NotSent, Unknown
from tests.contract.sandbox_world import AMOUNT, NOW, World, ref

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chalicelib.domain.outcome import SettlementLine

TODAY = NOW.date()  # half past one in the afternoon in India, eight in the morning in UTC
KEYS = ("rf_01K0000000000000000000KEY1", "rf_01K0000000000000000000KEY2")


def _lines(world: World, days: int = 0) -> Sequence[SettlementLine]:
    lines = world.provider.settlement_lines(world.account, TODAY + timedelta(days=days))
    assert not isinstance(lines, NotSent | Unknown), lines
    return lines


def test_a_day_without_payments_has_no_lines(world: World) -> None:
    assert list(_lines(world)) == []
    world.pay(outcome="decline")
    assert list(_lines(world)) == []
    if world.can.manual_capture:
        world.authorize(number=2)
        assert list(_lines(world)) == []


def test_every_payment_and_refund_is_there_with_its_fee(world: World) -> None:
    first, second = world.pay(number=1), world.pay(number=2, amount=1_234_567)
    part = 50_000 if world.can.partial_refund else AMOUNT
    refund = world.give_back(first.known, part, KEYS[0])
    lines = _lines(world)
    book = world.bank.book.settlements(world.name, TODAY)
    assert len(lines) == len(book) == 3
    for paid in (first, second):
        charge = world.look(ref(paid.made))
        (line,) = [
            row for row in lines if row.kind == "payment" and charge.provider_reference == row.provider_reference
        ]
        (settled,) = [row for row in book if row.charge.reference == paid.made.reference and row.refund is None]
        assert (line.amount, line.currency) == (paid.made.amount, "INR")
        whole = (settled.fee + settled.tax, 0)  # the fee of a provider that does not tell the tax on it apart
        assert (line.fee, line.tax) == ((settled.fee, settled.tax) if world.habits.tells_tax else whole)
        assert line.fee > 0
        assert line.reference in (paid.made.reference, None)
    (back,) = [row for row in lines if row.kind == "refund"]
    assert (back.amount, back.currency, back.fee, back.tax) == (-part, "INR", 0, 0)
    assert back.entity_id == refund.provider_reference or back.refund_key == KEYS[0]
    assert back.refund_key in (KEYS[0], None)
    assert back.provider_reference in (world.look(first.known).provider_reference, None)
    assert back.reference in (first.made.reference, None)
    total = sum(line.amount - line.fee - line.tax for line in lines)
    assert total == sum((-row.amount if row.refund else row.amount) - row.fee - row.tax for row in book)


def test_lines_say_where_the_money_went(world: World) -> None:
    world.pay()
    world.pass_time(7 * 86_400)
    (line,) = _lines(world)
    (settled,) = world.bank.book.settlements(world.name, TODAY)
    assert line.entity_id
    if line.settlement_id is None:  # some lines never say
        assert (line.utr, line.settled_at) == (None, None)
        return
    assert line.utr in (settled.utr, None)
    assert line.settled_at is not None
    assert abs(line.settled_at - NOW) < timedelta(days=7)


def test_a_day_has_only_its_own_lines(world: World) -> None:
    paid = world.pay()
    world.clock.now += 86_400
    world.give_back(paid.known, AMOUNT, KEYS[0])
    world.pay(number=2)
    assert [line.kind for line in _lines(world)] == ["payment"]
    assert sorted(line.kind for line in _lines(world, 1)) == ["payment", "refund"]
    assert list(_lines(world, 2)) == []
    assert list(_lines(world, -1)) == []


def test_a_report_of_several_pages_is_whole(world: World) -> None:
    for number in range(60):
        world.pay(number=number)
    for paid in range(45):
        known = ref(world.intent(number=paid))
        world.give_back(known, AMOUNT, f"rf_01K000000000000000000{paid:05d}")
    lines = _lines(world)
    assert len(lines) == 105
    assert len({(line.kind, line.entity_id) for line in lines}) == 105
    assert sum(line.amount for line in lines) == 15 * AMOUNT
