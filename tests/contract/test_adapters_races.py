"""Every adapter against the bank, races: something else happens before each single request of a call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from chalicelib.domain.outcome import Charge, ChargeStatus, Effect, EffectStatus
from tests.contract.browser import Page
from tests.contract.habits import instrument
from tests.contract.sandbox_world import AMOUNT, Paid, World, ref
from tests.contract.test_adapters_captures import CAPTURE, VOID
from tests.contract.test_adapters_refunds import KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from chalicelib.domain.outcome import EffectOutcome
    from chalicelib.providers.base import ChargeIntent
    from chalicelib.providers.http import HttpAnswer, HttpClient

CLOSE = "att_01K0000000000000000000TEST01"
MOST = 8  # requests of one call


@dataclass
class Before:
    """Lets something happen once, right before the n-th request."""

    inner: HttpClient
    number: int
    happen: Callable[[], object]
    seen: int = 0

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None = None,
        read_timeout: float | None = None,
    ) -> HttpAnswer:
        self.seen += 1
        if self.seen == self.number:
            self.happen()
        return self.inner.request(method, url, headers=headers, body=body, read_timeout=read_timeout)


def _each_moment(
    name: str, arrange: Callable[[World], Callable[[], object]], call: Callable[[World], object]
) -> Iterator[tuple[World, object]]:
    """A world for each request that the call makes, with what was arranged happening right before it."""
    for number in range(1, MOST):
        world = World(name)
        happen = arrange(world)
        inner = world.http.inner
        client = Before(inner, number, happen)
        world.http.inner = client
        outcome = call(world)
        world.http.inner = inner
        if client.seen < number:
            assert number > 1, "the call makes no request"
            return
        yield world, outcome
    message = f"the call makes more than {MOST} requests"
    raise AssertionError(message)


def _dashboard(world: World, action: str, **body: object) -> None:
    world.root("POST", f"/_dashboard/{action}", provider=world.name, **body)


class Held:
    """A held payment, and calls about it."""

    def __init__(self, happen: str, **body: object) -> None:
        self.happen, self.body = happen, body
        self.paid: Paid | None = None

    def arrange(self, world: World) -> Callable[[], object]:
        self.paid = world.authorize()
        return lambda: _dashboard(world, self.happen, **self.body)

    def known(self) -> Paid:
        assert self.paid is not None
        return self.paid

    def capture(self, world: World) -> EffectOutcome:
        return world.provider.capture(world.account, self.known().known, AMOUNT, CAPTURE)

    def void(self, world: World) -> EffectOutcome:
        return world.provider.void(world.account, self.known().known, VOID)


def test_a_void_that_comes_after_a_capture_says_nothing_of_a_release(world: World) -> None:
    if world.can.void != "api":
        pytest.skip(f"capabilities.void of {world.name} is {world.can.void}")
    assert world.manual_kind
    held = Held("capture")
    for now, effect in _each_moment(world.name, held.arrange, held.void):
        found = now.look(held.known().known)
        now.agrees(held.known().made, found)
        if found.status is not ChargeStatus.CANCELED:
            assert not (isinstance(effect, Effect) and effect.status is EffectStatus.SUCCEEDED), effect


def test_a_capture_that_comes_after_another_is_the_other(world: World) -> None:
    assert world.manual_kind
    part = AMOUNT - 5_000 if world.can.partial_capture else AMOUNT
    held = Held("capture", amount=part)
    for now, effect in _each_moment(world.name, held.arrange, held.capture):
        found = now.look(held.known().known)
        assert (found.status, found.captured) == (ChargeStatus.SUCCEEDED, part)
        if isinstance(effect, Effect) and effect.status is EffectStatus.SUCCEEDED:
            assert effect.amount in (part, None)


def test_a_capture_that_comes_after_the_release_takes_nothing(world: World) -> None:
    assert world.manual_kind
    held = Held("release")
    for now, effect in _each_moment(world.name, held.arrange, held.capture):
        found = now.look(held.known().known)
        now.agrees(held.known().made, found)
        if found.status is ChargeStatus.CANCELED:
            assert not (isinstance(effect, Effect) and effect.status is EffectStatus.SUCCEEDED), effect
        else:  # the capture was faster
            assert not (isinstance(effect, Effect) and effect.status is EffectStatus.FAILED), effect


def test_a_refund_that_comes_after_another_gives_back_no_more_than_was_taken(world: World) -> None:
    paid: list[Paid] = []

    def arrange(now: World) -> Callable[[], object]:
        paid.append(now.pay())
        return lambda: _dashboard(now, "refund", reference=paid[-1].made.reference)

    def call(now: World) -> EffectOutcome:
        return now.provider.refund(now.account, paid[-1].known, AMOUNT, KEY)

    for now, effect in _each_moment(world.name, arrange, call):
        assert [row["refunded"] for row in now.truth()] == [AMOUNT]
        ours = [row for row in now.refunds() if row["key"] == KEY]
        if not ours:
            assert not (isinstance(effect, Effect) and effect.status is EffectStatus.SUCCEEDED), effect
        else:
            assert not (isinstance(effect, Effect) and effect.status is EffectStatus.FAILED), effect


def test_a_customer_who_pays_before_the_page_is_closed_has_paid(world: World) -> None:
    if not world.can.closes_unpaid:
        pytest.skip(f"capabilities.closes_unpaid of {world.name} is false")
    for kind in sorted(world.can.methods):
        sent: list[tuple[ChargeIntent, Charge]] = []

        def arrange(
            now: World, kind: str = kind, sent: list[tuple[ChargeIntent, Charge]] = sent
        ) -> Callable[[], object]:
            made, said = now.sent_to_page(kind)
            sent.append((made, said))
            page = now.open(said)

            def pay() -> None:
                typed = instrument(kind, "success") if kind == "card" else ""
                after = now.browser.choose(page, "approve", typed)
                if isinstance(after, Page) and "3-D Secure" in after.text:
                    now.browser.choose(after, "approve")

            return pay

        def call(now: World, sent: list[tuple[ChargeIntent, Charge]] = sent) -> EffectOutcome:
            return now.provider.void(now.account, ref(*sent[-1]), CLOSE)

        for now, effect in _each_moment(world.name, arrange, call):
            status = now.look_up(ref(*sent[-1]))
            captured = [row for row in now.truth() if row["captured"]]
            assert (status is ChargeStatus.SUCCEEDED) is bool(captured)
            if captured:
                assert not (isinstance(effect, Effect) and effect.status is EffectStatus.SUCCEEDED), effect


def test_the_same_charge_asked_for_twice_at_once_is_made_once(world: World) -> None:
    if not world.can.idempotency_window:
        pytest.skip(f"capabilities.idempotency_window of {world.name} is 0: it is never sent twice")
    made = world.intent(world.server_kind)

    def arrange(now: World) -> Callable[[], object]:
        return lambda: now.provider.create(now.account, made)

    for now, said in _each_moment(world.name, arrange, lambda now: now.provider.create(now.account, made)):
        now.agrees(made, now.look(ref(made)))
        assert len(now.truth()) == 1
        if isinstance(said, Charge):
            now.agrees(made, said)
