"""Every journal sums to zero, and replaying the journals gives the balances."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.domain import ledger
from chalicelib.domain.model import Journal, Leg
from chalicelib.domain.money import MAX_AMOUNT
from tests.support.factories import NOW, TENANT

if TYPE_CHECKING:
    from collections.abc import Sequence

DOCUMENTED = re.findall(r"^    (\w+) {2,}(\S+) {2,}(\S+)$", ledger.__doc__ or "", re.MULTILINE)
TYPES = [name for name, _, _ in DOCUMENTED]
PROVIDERS = st.sampled_from(["razorpay", "simulator"])
AMOUNTS = st.integers(1, MAX_AMOUNT)


def _journal(number: int, journal_type: str, provider: str, amount: int, currency: str) -> Journal:
    legs = ledger.legs(journal_type, provider, amount)
    return Journal(TENANT, f"jnl_{number}", "pay_1", journal_type, currency, legs, NOW, "att_1")


JOURNALS = st.lists(
    st.builds(
        _journal, st.integers(0, 10**6), st.sampled_from(TYPES), PROVIDERS, AMOUNTS, st.sampled_from(["INR", "USD"])
    ),
    max_size=20,
)


def test_the_documented_table_is_there() -> None:
    assert {"capture", "refund_reserved", "refund_settled", "refund_released", "refund_returned", "reversal"} <= set(
        TYPES
    )


@pytest.mark.parametrize(("journal_type", "debit", "credit"), DOCUMENTED)
def test_each_journal_books_what_its_documentation_says(journal_type: str, debit: str, credit: str) -> None:
    legs = ledger.legs(journal_type, "razorpay", 700)
    assert legs == (Leg(debit.replace("<id>", "razorpay"), 700), Leg(credit.replace("<id>", "razorpay"), -700))


@given(st.sampled_from(TYPES), PROVIDERS, AMOUNTS)
def test_every_journal_balances(journal_type: str, provider: str, amount: int) -> None:
    legs = ledger.legs(journal_type, provider, amount)
    assert sum(leg.amount for leg in legs) == 0
    assert len({leg.account for leg in legs}) == 2


@given(st.lists(st.builds(Leg, st.sampled_from("abc"), st.integers(-100, 100)), max_size=5))
def test_legs_that_do_not_sum_to_zero_are_refused(legs: Sequence[Leg]) -> None:
    if sum(leg.amount for leg in legs):
        with pytest.raises(ledger.Unbalanced):
            ledger.balanced(legs)
    else:
        assert ledger.balanced(legs) == legs


@given(JOURNALS)
def test_all_balances_of_a_currency_sum_to_zero(journals: list[Journal]) -> None:
    totals = ledger.balances(journals)
    for currency in ("INR", "USD"):
        assert sum(amount for (_, booked_in), amount in totals.items() if booked_in == currency) == 0


@given(JOURNALS, st.randoms(use_true_random=False))
def test_the_order_of_journals_does_not_change_the_balances(journals: list[Journal], random: st.random) -> None:  # type: ignore[name-defined]
    shuffled = random.sample(journals, len(journals))
    assert ledger.balances(shuffled) == ledger.balances(journals)


@given(AMOUNTS, st.data())
def test_a_refund_that_fails_or_comes_back_leaves_the_books_as_before(captured: int, data: st.DataObject) -> None:
    refunded = data.draw(st.integers(1, captured))
    capture = _journal(1, "capture", "razorpay", captured, "INR")
    reserved = _journal(2, "refund_reserved", "razorpay", refunded, "INR")
    released = _journal(3, "refund_released", "razorpay", refunded, "INR")
    settled = _journal(4, "refund_settled", "razorpay", refunded, "INR")
    returned = _journal(5, "refund_returned", "razorpay", refunded, "INR")
    before = ledger.balances([capture])
    for story in ([capture, reserved, released], [capture, reserved, settled, returned]):
        assert {key: amount for key, amount in ledger.balances(story).items() if amount} == before


def test_a_late_charge_given_back_leaves_nothing_and_never_touches_the_merchant() -> None:
    journals = [_journal(n, kind, "razorpay", 700, "INR") for n, kind in enumerate(("late_charge", "reversal"))]
    assert set(ledger.balances(journals).values()) == {0}
    assert (ledger.PAYABLE, "INR") not in ledger.balances(journals)


def test_an_unknown_journal_is_refused() -> None:
    with pytest.raises(KeyError):
        ledger.legs("gift", "razorpay", 1)
