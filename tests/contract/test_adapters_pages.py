"""Every adapter against the bank, pages: what a customer does there, and what their browser brings back."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import parse_qsl, urlsplit

import pytest

from chalicelib.domain.errors import ErrorCode
from chalicelib.domain.outcome import Charge, ChargeStatus, Effect, EffectStatus, NotFound
from chalicelib.providers.base import BadSignature
from tests.contract.browser import Page, Return
from tests.contract.habits import NUMBERS
from tests.contract.sandbox_world import AMOUNT, RETURN_URL, World, leads_to, ref

ACTIONS = {"redirect", "form_post", "provider_checkout"}
# Not every provider tells a customer who has not decided from a bank that has not.
WAITING = (ChargeStatus.ACTION_REQUIRED, ChargeStatus.PENDING, None)


@pytest.mark.parametrize(
    ("choice", "status", "code"),
    [
        ("approve", ChargeStatus.SUCCEEDED, None),
        ("decline", ChargeStatus.DECLINED, ErrorCode.AUTHENTICATION_FAILED),
        ("cancel", ChargeStatus.DECLINED, ErrorCode.CUSTOMER_CANCELED),
    ],
)
def test_the_customer_decides_on_the_page(
    world: World, kind: str, choice: str, status: ChargeStatus, code: ErrorCode | None
) -> None:
    made, said = world.sent_to_page(kind)
    assert said.next_action is not None
    assert said.next_action["type"] in ACTIONS
    page = world.open(said)
    assert page.choices == {"approve", "decline", "cancel", "wait"}
    assert world.look_up(ref(made, said)) in WAITING
    back = world.choose(said, choice)
    assert isinstance(back, Return)
    assert back.url.startswith("https://shop.example/back?")
    assert dict(parse_qsl(urlsplit(back.url).query))["order"] == "7"
    found = world.look(ref(made, said))
    assert (found.status, found.error and found.error.code) == (status, code)
    assert (found.amount, found.captured) == (AMOUNT, AMOUNT if choice == "approve" else 0)
    world.agrees(made, found)
    if choice == "approve":
        world.provider.verify_return(world.account, ref(made, found, said.data), back.params)
    told = world.heard(ref(made, found, said.data))
    if choice == "approve" or "failed" not in world.habits.silent:
        assert told[-1].charge is not None
        assert told[-1].charge.status is status


def test_three_d_secure_is_asked_of_a_card_and_can_be_refused(world: World) -> None:
    if "card" not in world.can.methods:
        pytest.skip(f"capabilities.methods of {world.name} lacks card")
    for number, (secure, status) in enumerate(
        (("decline", ChargeStatus.DECLINED), ("approve", ChargeStatus.SUCCEEDED))
    ):
        made, said = world.sent_to_page("card", number=number)
        asked = world.browser.choose(world.open(said), "approve", NUMBERS["success"])
        assert isinstance(asked, Page)
        assert asked.choices == {"approve", "decline"}
        assert isinstance(world.choose(said, "approve", NUMBERS["success"], secure=secure), Return)
        found = world.look(ref(made, said))
        assert found.status is status
        if status is ChargeStatus.DECLINED:
            assert found.error is not None
            assert found.error.code is ErrorCode.AUTHENTICATION_FAILED


def test_a_customer_who_never_decides_brings_no_money(world: World, kind: str) -> None:
    made, said = world.sent_to_page(kind)
    shown = world.browser.choose(world.open(said), "wait")
    assert isinstance(shown, Page)
    assert not shown.choices
    world.pass_time(24 * 3600)
    found = world.provider.fetch(world.account, ref(made, said))
    world.agrees(made, found)
    if isinstance(found, Charge):
        assert found.status in (ChargeStatus.DECLINED, ChargeStatus.CANCELED, ChargeStatus.ACTION_REQUIRED)
        if found.status is ChargeStatus.DECLINED:
            assert found.error is not None
            assert found.error.code is ErrorCode.CUSTOMER_TIMED_OUT
    else:
        assert isinstance(found, NotFound)


def test_a_customer_may_come_back_to_a_shop_that_gave_no_address(world: World) -> None:
    if "return_url" in world.can.required:
        pytest.skip(f"capabilities.required of {world.name} names return_url")
    made, said = world.sent_to_page(return_url=None)
    assert isinstance(world.choose(said, "approve", _typed(world)), Page)
    assert world.look(ref(made, said)).status is ChargeStatus.SUCCEEDED


def test_what_nobody_has_paid_is_closed(world: World) -> None:
    if not world.can.closes_unpaid:
        pytest.skip(f"capabilities.closes_unpaid of {world.name} is false")
    made, said = world.sent_to_page()
    known = ref(made, said)
    page = world.open(said)
    for _ in range(2):
        effect = world.provider.void(world.account, known, "att_01K0000000000000000000TEST01")
        assert isinstance(effect, Effect)
        assert effect.status is EffectStatus.SUCCEEDED
    assert world.look_up(known) in (ChargeStatus.CANCELED, ChargeStatus.DECLINED, None)
    late = world.browser.choose(page, "approve", _typed(world))
    if isinstance(late, Page) and "3-D Secure" in late.text:
        world.browser.choose(late, "approve")
    assert world.look_up(known) in (ChargeStatus.CANCELED, ChargeStatus.DECLINED, None)
    assert not [row for row in world.truth() if row["captured"]]


def test_a_second_try_on_the_page_is_a_late_success(world: World) -> None:
    """Only where one order takes several charges; elsewhere the page is over after the first one."""
    if world.kind not in world.habits.page and "card" not in world.habits.page:
        pytest.skip(f"habits.page of {world.name} is empty: what waits for its customer takes one try")
    kind = world.kind if world.kind in world.habits.page else "card"
    made, said = world.sent_to_page(kind)
    page = world.open(said)
    world.browser.choose(page, "decline")
    failed = world.look(ref(made, said))
    assert failed.status is ChargeStatus.DECLINED
    after = world.browser.choose(page, "approve", _typed(world, kind))
    if isinstance(after, Page) and "3-D Secure" in after.text:
        after = world.browser.choose(after, "approve")
    if not [row for row in world.truth() if row["captured"]]:
        return  # the provider closed the order after the failure
    known = ref(made, failed, said.data)
    found = world.look(known)
    assert (found.status, found.captured) == (ChargeStatus.SUCCEEDED, AMOUNT)
    told = [event for event in world.heard(known) if event.charge and event.charge.status is ChargeStatus.SUCCEEDED]
    assert told
    assert all(leads_to(event, known) for event in told)


def test_a_return_is_checked(world: World) -> None:
    made, said = world.sent_to_page()
    back = world.choose(said, "approve", _typed(world))
    assert isinstance(back, Return)
    params = back.params
    known = ref(made, world.look(ref(made, said)), said.data)
    world.provider.verify_return(world.account, known, params)
    for name in world.habits.proof:
        assert name in params, f"{world.name} brings back {sorted(params)}"
        for wrong in (params[name] + "x", "x" + params[name], params[name][:-1], "", "é" * 64, "\udcff", "\x00"):
            with pytest.raises(BadSignature):
                world.provider.verify_return(world.account, known, {**params, name: wrong})
        with pytest.raises(BadSignature):
            world.provider.verify_return(world.account, known, {k: v for k, v in params.items() if k != name})
        for place, letter in enumerate(params[name]):
            flipped = params[name][:place] + chr(ord(letter) ^ 1 << place % 7) + params[name][place + 1 :]
            with pytest.raises(BadSignature):
                world.provider.verify_return(world.account, known, {**params, name: flipped})
    for nothing in ({}, {"order": "7"}):
        with pytest.raises(BadSignature):
            world.provider.verify_return(world.account, known, nothing)


def test_a_return_proves_nothing_of_another_payment(world: World) -> None:
    _, said = world.sent_to_page()
    back = world.choose(said, "approve", _typed(world))
    assert isinstance(back, Return)
    other_made, other_said = world.sent_to_page(number=2)
    with pytest.raises(BadSignature):
        world.provider.verify_return(world.account, ref(other_made, other_said), back.params)
    assert world.look_up(ref(other_made, other_said)) in WAITING


def test_a_signed_return_needs_the_right_secret(world: World) -> None:
    if not world.habits.signs_returns:
        pytest.skip(f"habits.signs_returns of {world.name} is false: they only name the charge")
    made, said = world.sent_to_page()
    back = world.choose(said, "approve", _typed(world))
    assert isinstance(back, Return)
    known = ref(made, world.look(ref(made, said)), said.data)
    for credentials in (
        {},
        dict.fromkeys(world.account.credentials, ""),
        dict.fromkeys(world.account.credentials, "x"),
    ):
        account = replace(world.account, credentials=credentials, webhook_secrets=list(credentials.values())[:1])
        with pytest.raises(BadSignature):
            world.provider.verify_return(account, known, back.params)


def test_what_the_page_was_paid_with_is_told_with_our_reference(world: World, kind: str) -> None:
    made, said = world.sent_to_page(kind)
    world.choose(said, "approve", _typed(world, kind))
    known = ref(made, said)
    told = world.heard(known)
    assert told
    paid = world.look(known)
    for event in told:
        # What create told us must be enough to find the payment.
        assert leads_to(event, known)
        assert event.provider_reference in (paid.provider_reference, None)


def test_the_address_to_return_to_is_the_shops(world: World) -> None:
    made, said = world.sent_to_page()
    assert made.return_url == RETURN_URL
    back = world.choose(said, "cancel")
    assert isinstance(back, Return)
    assert urlsplit(back.url).netloc == "shop.example"


def _typed(world: World, kind: str | None = None) -> str:
    """A plain instrument for the page, where it is not clear what will be paid with."""
    return NUMBERS["success"] if (kind or world.kind) == "card" else ""
