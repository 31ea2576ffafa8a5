"""Every adapter against the bank, the wire: what arrives broken, late, wrong or not at all is never taken for a fact."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest

from chalicelib.domain.charges import Mismatch, check_charge
from chalicelib.domain.errors import ErrorClass
from chalicelib.domain.outcome import Charge, ChargeStatus, Effect, NotSent, Unknown
from tests.contract.sandbox_world import AMOUNT, NOW, Paid, World, ref
from tests.contract.test_adapters import LOST
from tests.contract.test_adapters_captures import CAPTURE, VOID
from tests.contract.test_adapters_refunds import KEY
from tests.support.factories import make_attempt, make_payment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from chalicelib.providers.base import Account
    from chalicelib.providers.http import HttpAnswer, HttpClient


@dataclass
class Tampering:
    """Replaces words in the answers on their way to us."""

    inner: HttpClient
    words: Mapping[bytes, bytes]
    changed: int = 0

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None = None,
        read_timeout: float | None = None,
    ) -> HttpAnswer:
        answer = self.inner.request(method, url, headers=headers, body=body, read_timeout=read_timeout)
        said = answer.body
        for old, new in self.words.items():
            self.changed += said.count(old)
            said = said.replace(old, new)
        return replace(answer, body=said)


def _tamper(world: World, **words: str) -> Tampering:
    client = Tampering(world.http.inner, {old.encode(): new.encode() for old, new in words.items()})
    world.http.inner = client
    return client


def _refuses(charge: Charge) -> bool:
    """Whether the services would refuse to believe it."""
    attempt = make_attempt(make_payment(amount=AMOUNT, currency="INR"))
    try:
        check_charge(attempt, charge)
    except Mismatch:
        return True
    return False


def _calls(world: World, paid: Paid, held: Paid | None) -> Iterator[tuple[str, Callable[[Account], object]]]:
    """Every call that reaches the provider's server, with what it is."""
    provider = world.provider
    kind = paid.made.method["type"]
    if world.asks(kind):
        yield "create", lambda account: provider.create(account, world.intent(kind, number=50))
    for known in (paid.known, ref(paid.made)):
        yield "fetch", lambda account, known=known: provider.fetch(account, known)  # type: ignore[misc]  # bound now
        yield "fetch_refund", lambda account, known=known: provider.fetch_refund(account, known, KEY, None)  # type: ignore[misc]  # likewise
        yield "refund", lambda account, known=known: provider.refund(account, known, AMOUNT, KEY)  # type: ignore[misc]  # likewise
    yield "settlement_lines", lambda account: provider.settlement_lines(account, NOW.date())
    if held is not None:
        for known in (held.known, ref(held.made)):
            yield "capture", lambda account, known=known: provider.capture(account, known, AMOUNT, CAPTURE)  # type: ignore[misc]  # likewise
            if world.can.void == "api":
                yield "void", lambda account, known=known: provider.void(account, known, VOID)  # type: ignore[misc]  # likewise


def _everything(world: World) -> list[tuple[str, Callable[[Account], object]]]:
    """All calls, about a paid payment and, where there is such a thing, one that is only held."""
    held = world.authorize(number=40) if world.can.manual_capture else None
    return list(_calls(world, world.pay(number=41), held))


def _record(world: World) -> object:
    return [(row["reference"], row["status"], row["captured"]) for row in world.truth()], world.refunds()


def test_a_shut_door_leaves_every_call_not_sent(world: World) -> None:
    calls = _everything(world)
    before = _record(world)
    for name, call in calls:
        world.chaos(refuse_connections=100)
        outcome = call(world.account)
        assert isinstance(outcome, NotSent), (name, outcome)
        assert outcome.error.error_class is ErrorClass.PROVIDER_UNAVAILABLE
    world.chaos(refuse_connections=0)
    assert _record(world) == before


def test_wrong_credentials_are_a_setting_and_nothing_was_sent(world: World) -> None:
    calls = _everything(world)
    before = _record(world)
    wrong = replace(world.account, credentials=dict.fromkeys(world.account.credentials, "wrong"))
    empty = replace(world.account, credentials={})
    for name, call in calls:
        for account in (wrong, empty):
            outcome = call(account)
            assert isinstance(outcome, NotSent), (name, outcome)
            assert outcome.error.error_class is ErrorClass.CONFIG, (name, outcome)
    assert _record(world) == before


def test_too_many_requests_were_not_sent_and_say_when_to_come_back(world: World) -> None:
    calls = _everything(world)
    before = _record(world)
    world.chaos(per_second=0, retry_after=42)
    for name, call in calls:
        outcome = call(world.account)
        assert isinstance(outcome, NotSent), (name, outcome)
        assert (outcome.error.error_class, outcome.retry_after) == (ErrorClass.RATE_LIMITED, 42.0), name
    world.chaos(per_second=None)
    assert _record(world) == before


def test_maintenance_says_nothing_of_what_became_of_a_call(world: World) -> None:
    calls = _everything(world)
    before = _record(world)
    world.chaos(maintenance=True)
    for name, call in calls:
        outcome = call(world.account)
        assert isinstance(outcome, Unknown | NotSent), (name, outcome)
        if name in ("fetch", "fetch_refund", "settlement_lines"):
            assert isinstance(outcome, Unknown), (name, outcome)
    world.chaos(maintenance=False)
    assert _record(world) == before


def test_a_busy_provider_is_asked_again_a_second_later(world: World) -> None:
    paid = world.pay()
    world.chaos(per_second=1)
    said = [type(world.provider.fetch(world.account, paid.known)) for _ in range(5)]
    assert NotSent in said
    world.clock.now += 1
    world.chaos(per_second=100)
    assert world.look(paid.known).status is ChargeStatus.SUCCEEDED


@pytest.mark.parametrize("fault", [*LOST, "rate_limited"])
def test_a_failed_look_up_says_nothing(world: World, fault: str) -> None:
    paid = world.pay()
    for known in (ref(paid.made), paid.known):
        world.chaos(operation="fetch", fault=fault)
        found = world.provider.fetch(world.account, known)
        assert isinstance(found, NotSent if fault == "rate_limited" else Unknown)
    world.chaos(operation="fetch_refund", fault=fault)
    found_refund = world.provider.fetch_refund(world.account, paid.known, KEY, None)
    assert isinstance(found_refund, NotSent if fault == "rate_limited" else Unknown)


@pytest.mark.parametrize("operation", ["capture", "refund"])
def test_a_busy_moment_in_an_effect_was_not_sent(world: World, operation: str) -> None:
    paid = world.authorize() if operation == "capture" else world.pay()
    world.chaos(operation=operation, fault="rate_limited")
    act = world.provider.capture if operation == "capture" else world.provider.refund
    outcome = act(world.account, paid.known, AMOUNT, KEY)
    assert isinstance(outcome, NotSent)
    assert (outcome.error.error_class, outcome.retry_after) == (ErrorClass.RATE_LIMITED, 1.0)
    again = world.take if operation == "capture" else world.give_back
    assert again(paid.known, AMOUNT, KEY).status == "succeeded"


# what the provider says is passed on as it is


def test_an_amount_that_is_not_ours_is_passed_on_and_refused(world: World) -> None:
    paid = world.pay()
    assert not _refuses(paid.charge)
    world.chaos(operation="fetch", fault="wrong_amount", times=5)
    found = world.look(paid.known)
    assert found.amount == AMOUNT + 100
    assert _refuses(found)


def test_a_charge_of_another_amount_is_passed_on_and_refused(world: World) -> None:
    made = world.intent(world.server_kind)
    world.chaos(operation="create", fault="wrong_amount")
    charge = world.charge(made)
    assert charge.amount == AMOUNT + 100
    assert _refuses(charge)
    told = world.events()[-1].charge
    assert told is not None
    assert told.amount == AMOUNT + 100


def test_a_refund_of_another_amount_is_passed_on(world: World) -> None:
    paid = world.pay()
    world.chaos(operation="refund", fault="wrong_amount")
    effect = world.give_back(paid.known, 10_000 if world.can.partial_refund else AMOUNT, KEY)
    assert effect.amount != (10_000 if world.can.partial_refund else AMOUNT)


def test_a_currency_that_is_not_ours_is_passed_on_and_refused(world: World) -> None:
    paid = world.pay()
    client = _tamper(world, **{'"INR"': '"USD"', '"inr"': '"usd"'})
    found = world.look(paid.known)
    if not client.changed:
        assert world.can.currencies == {"INR"}
        pytest.skip(f"capabilities.currencies of {world.name} has one, which its answers do not name")
    assert (found.currency or "").upper() == "USD"
    assert _refuses(found)


def test_a_status_nobody_knows_is_pending(world: World) -> None:
    paid = world.pay()
    client = _tamper(world, **{world.habits.paid: '"on_the_moon"'})
    found = world.look(paid.known)
    assert client.changed
    assert (found.status, found.error) == (ChargeStatus.PENDING, None)


@pytest.mark.parametrize("answer", ["{}", "[]", "null", "1", '""', "\x00", '{"a":' * 500, '{"a": NaN}'])
def test_an_answer_without_a_charge_in_it_says_nothing(world: World, answer: str) -> None:
    paid = world.pay()
    inner = world.http.inner

    class Replaces:
        def request(
            self, method: str, url: str, *, headers: Mapping[str, str], body: bytes | None = None,
            read_timeout: float | None = None,
        ) -> HttpAnswer:  # fmt: skip
            said = inner.request(method, url, headers=headers, body=body, read_timeout=read_timeout)
            return replace(said, body=answer.encode())

    world.http.inner = Replaces()
    found = world.provider.fetch(world.account, paid.known)
    assert isinstance(found, Unknown) or (isinstance(found, Charge) and found.status is ChargeStatus.PENDING), found
    found_refund = world.provider.fetch_refund(world.account, paid.known, KEY, "12345")
    assert not (isinstance(found_refund, Effect) and found_refund.status in ("succeeded", "failed")), found_refund
    effect = world.provider.refund(world.account, paid.known, AMOUNT, KEY)
    if isinstance(effect, NotSent):
        assert world.refunds() == []  # a look before it already made no sense
    else:
        assert isinstance(effect, Unknown) or effect.status == "pending", effect


# nothing that can be printed holds a secret


def test_secrets_stay_out_of_everything_that_can_be_printed(world: World) -> None:
    said: list[object] = [world.account, world.provider]
    said += [call(world.account) for _, call in _everything(world)]
    secrets = {name: world.account.credentials[name] for name in _secret(world)}
    for secret in (*secrets.values(), *world.account.webhook_secrets):
        assert secret not in repr(said)


def _secret(world: World) -> list[str]:
    declared = {credential.name for credential in world.provider.connection.credentials if credential.secret}
    return [name for name in world.account.credentials if name in declared]


def test_paths_hold_ids_and_no_personal_data(world: World) -> None:
    _everything(world)
    for _, url in world.http.calls:
        for private in ("asha", "9800000000", *world.account.webhook_secrets):
            assert private not in url
