"""Rotating a provider account's secrets, as a pure decision."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from chalicelib.domain.merchant import Account, OldSecret, rotated
from tests.support.factories import NOW, later

ACCOUNT = Account(
    "acc_1", "simulator", "https://sim.example", {"api_key": "k", "hook": "a"}, ("a",), created_at=NOW, updated_at=NOW,
    version=4,
)  # fmt: skip


def rotate(account: Account, seconds: float = 0, keep: float | None = 100, **given_: str) -> Account:
    until = None if keep is None else later(seconds + keep)
    return rotated(account, given_, "hook", keep_until=until, now=later(seconds))


def test_a_new_secret_comes_first_and_the_old_one_stays_for_a_while() -> None:
    after = rotate(ACCOUNT, 5, hook="b")
    assert (after.credentials, after.webhook_secrets) == ({"api_key": "k", "hook": "b"}, ("b", "a"))
    assert after.previous == (OldSecret("a", later(105)),)
    assert (after.version, after.updated_at, after.created_at) == (5, later(5), NOW)


def test_each_old_secret_has_its_own_time() -> None:
    after = rotate(rotate(ACCOUNT, hook="b"), 50, hook="c")
    assert after.webhook_secrets == ("c", "a", "b")
    assert after.previous == (OldSecret("a", later(100)), OldSecret("b", later(150)))
    assert after.previous_accepted_until == later(150)


def test_other_credentials_leave_webhook_secrets_alone() -> None:
    before = rotate(ACCOUNT, hook="b")
    after = rotate(before, 50, api_key="new", extra="x")
    assert after.credentials == {"api_key": "new", "hook": "b", "extra": "x"}
    assert (after.webhook_secrets, after.previous) == (before.webhook_secrets, before.previous)


def test_going_back_to_an_old_secret_makes_it_the_current_one() -> None:
    after = rotate(rotate(ACCOUNT, hook="b"), 50, hook="a")
    assert after.webhook_secrets == ("a", "b")
    assert after.previous == (OldSecret("b", later(150)),)


def test_nothing_new_is_the_same_account() -> None:
    before = rotate(ACCOUNT, hook="b")
    assert rotate(before, 50, hook="b") is before
    assert rotate(before, 50, api_key="k") is before


def test_dropping_what_is_old_needs_no_new_secret() -> None:
    before = rotate(ACCOUNT, hook="b")
    after = rotate(before, 50, keep=None, hook="b")
    assert (after.webhook_secrets, after.previous, after.version) == (("b",), (), 6)
    assert rotate(after, 60, keep=None, hook="b") is after


def test_secrets_of_before_they_were_credentials_are_old_ones_too() -> None:
    legacy = Account("acc_1", "simulator", "https://sim.example", {"api_key": "k"}, ("a", "b"))
    assert rotate(legacy, api_key="x").webhook_secrets == ("a", "b")
    assert rotate(legacy, hook="b").webhook_secrets == ("b", "a")
    assert rotate(legacy, hook="c").webhook_secrets == ("c", "a", "b")


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.booleans()), max_size=8))
def test_the_current_secret_is_always_the_first_and_each_is_there_once(steps: list[tuple[str, Any]]) -> None:
    account = ACCOUNT
    for seconds, (secret, keep) in enumerate(steps):
        before = account
        account = rotate(before, seconds, 100 if keep else None, hook=secret)
        assert account.webhook_secrets[0] == account.credentials["hook"] == secret
        assert len(set(account.webhook_secrets)) == len(account.webhook_secrets)
        assert account.webhook_secrets[1:] == tuple(old.value for old in account.previous)
        if keep:
            assert set(account.webhook_secrets) == {*before.webhook_secrets, secret}
        else:
            assert account.previous == ()
