"""Every adapter against the bank, losses: each single request of each call is lost in each way, and the truth comes out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest

from chalicelib.domain.outcome import Charge, ChargeStatus, Effect, EffectStatus, NotFound, NotSent, Unknown
from chalicelib.providers.http import HttpAnswer, UnknownError
from tests.contract.sandbox_world import AMOUNT, World, ref
from tests.contract.test_adapters_captures import CAPTURE, VOID
from tests.contract.test_adapters_refunds import KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from chalicelib.domain.outcome import EffectOutcome
    from chalicelib.providers.http import HttpClient

MOST = 8  # requests of one call
WAYS = ("before", "after", "error", "html", "cut", "busy")


@dataclass
class Losing:
    """Loses the n-th request: on its way there, or its answer on the way back."""

    inner: HttpClient
    number: int
    way: str
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
        if self.seen == self.number and self.way == "before":
            raise UnknownError("read_timeout")
        if self.seen == self.number and self.way == "busy":
            return HttpAnswer(429, {"retry-after": "1"}, b"")
        answer = self.inner.request(method, url, headers=headers, body=body, read_timeout=read_timeout)
        if self.seen != self.number:
            return answer
        match self.way:
            case "error":
                return HttpAnswer(502, {}, b"<html>Bad Gateway</html>")
            case "html":
                return replace(answer, body=b"<html>Please wait</html>")
            case "cut":
                return replace(answer, body=answer.body[: len(answer.body) // 2])
        raise UnknownError("connection_broken")


def _each_loss(
    world: World, way: str, arrange: Callable[[World], None], call: Callable[[World], object]
) -> Iterator[tuple[World, object]]:
    """A world for each request that the call makes, with that one lost, and what the call said."""
    for number in range(1, MOST):
        now = World(world.name)
        arrange(now)
        inner = now.http.inner
        client = Losing(inner, number, way)
        now.http.inner = client
        outcome = call(now)
        now.http.inner = inner
        if client.seen < number:
            return
        yield now, outcome
    message = f"the call makes more than {MOST} requests"
    raise AssertionError(message)


@pytest.mark.parametrize("way", WAYS)
def test_a_create_that_loses_a_request(world: World, kind: str, way: str) -> None:
    made = world.intent(kind)
    for now, said in _each_loss(world, way, lambda _: None, lambda now: now.provider.create(now.account, made)):
        assert isinstance(said, Charge | NotSent | Unknown)
        if not (isinstance(said, Charge) and said.status is ChargeStatus.PENDING):  # made, and how it stands was lost
            now.agrees(made, said)
        found = now.provider.fetch(now.account, ref(made, said))
        now.agrees(made, found)
        if isinstance(said, Unknown):
            assert isinstance(found, Charge | NotFound)
        if now.can.idempotency_window:
            again = now.provider.create(now.account, made)
            assert isinstance(again, Charge), again
            now.agrees(made, again)


@pytest.mark.parametrize("way", WAYS)
def test_a_capture_that_loses_a_request(world: World, way: str) -> None:
    assert world.manual_kind
    known = ref(world.intent(world.manual_kind, capture="manual"))

    def call(now: World) -> EffectOutcome:
        return now.provider.capture(now.account, known, AMOUNT, CAPTURE)

    for now, said in _each_loss(world, way, _hold, call):
        taken = [row["captured"] for row in now.truth()] == [AMOUNT]
        assert _holds(said, happened=taken), (said, taken)
        assert now.take(known, AMOUNT, CAPTURE).status is EffectStatus.SUCCEEDED
        assert [(row["status"], row["captured"]) for row in now.truth()] == [("captured", AMOUNT)]


@pytest.mark.parametrize("way", WAYS)
def test_a_void_that_loses_a_request(world: World, way: str) -> None:
    if world.can.void != "api":
        pytest.skip(f"capabilities.void of {world.name} is {world.can.void}")
    known = ref(world.intent(world.manual_kind, capture="manual"))

    def call(now: World) -> EffectOutcome:
        return now.provider.void(now.account, known, VOID)

    for now, said in _each_loss(world, way, _hold, call):
        gone = [row["status"] for row in now.truth()] == ["voided"]
        assert _holds(said, happened=gone), (said, gone)
        call(now)
        assert now.look(known).status is ChargeStatus.CANCELED
        assert [(row["status"], row["captured"], row["refunded"]) for row in now.truth()] == [("voided", 0, 0)]


@pytest.mark.parametrize("way", WAYS)
def test_a_refund_that_loses_a_request(world: World, way: str) -> None:
    known = ref(world.intent())

    def call(now: World) -> EffectOutcome:
        return now.provider.refund(now.account, known, AMOUNT, KEY)

    def pay(now: World) -> None:
        now.pay()

    for now, said in _each_loss(world, way, pay, call):
        made = len(now.refunds()) == 1
        assert _holds(said, happened=made), (said, made)
        found = now.provider.fetch_refund(now.account, known, KEY, None)
        assert isinstance(found, Effect if made else NotFound)
        if not made or now.can.operation_idempotency_window:
            assert now.give_back(known, AMOUNT, KEY).status is EffectStatus.SUCCEEDED
        assert [(row["key"], row["amount"]) for row in now.refunds()] == [(KEY, AMOUNT)]


def _hold(now: World) -> None:
    now.pay(now.manual_kind, capture="manual")


def _holds(said: object, *, happened: bool) -> bool:
    """Whether that may be said of a call that had an effect, or none."""
    if isinstance(said, Unknown):
        return True
    if isinstance(said, NotSent):
        return not happened
    assert isinstance(said, Effect), said
    return happened is (said.status is not EffectStatus.FAILED)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("what", ["capture", "void", "refund"])
def test_a_repeat_that_loses_a_request_never_denies_the_first(world: World, what: str, way: str) -> None:
    if what == "void" and world.can.void != "api":
        pytest.skip(f"capabilities.void of {world.name} is {world.can.void}")
    kind = world.kind if what == "refund" else world.manual_kind
    known = ref(world.intent(kind))

    def call(now: World) -> EffectOutcome:
        match what:
            case "capture":
                return now.provider.capture(now.account, known, AMOUNT, CAPTURE)
            case "void":
                return now.provider.void(now.account, known, VOID)
        return now.provider.refund(now.account, known, AMOUNT, KEY)

    def arrange(now: World) -> None:
        now.pay(kind, capture="automatic" if what == "refund" else "manual")
        call(now)

    for now, said in _each_loss(world, way, arrange, call):
        assert not (isinstance(said, Effect) and said.status is EffectStatus.FAILED), said
        (row,) = now.truth()
        assert (row["captured"], row["refunded"]) == (
            0 if what == "void" else AMOUNT, AMOUNT if what == "refund" else 0,
        )  # fmt: skip
        assert len(now.refunds()) == (1 if what == "refund" else 0)
