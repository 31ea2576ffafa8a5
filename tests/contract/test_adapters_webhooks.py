"""Every adapter against the bank, events: the same in every order, recognised when doubled, ignored when odd."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from typing import TYPE_CHECKING

import pytest

from chalicelib.domain.outcome import EventKind
from chalicelib.providers.base import BadSignature
from tests.contract.sandbox_world import AMOUNT, World, leads_to, ref
from tests.contract.test_adapters_captures import CAPTURE
from tests.contract.test_adapters_refunds import KEY

if TYPE_CHECKING:
    from chalicelib.domain.outcome import ProviderEvent
    from infra.sandbox.outbox import Webhook

MOST = 5
ODD = [
    b"", b"null", b"[]", b"\xff\xfe", b"{", b'"text"', b'{"event": 7, "type": 7, "data": 7}', b"[" * 100_000,
    b'{"a": NaN}', b"=", b"&&&", b"a=%ff", b"{}", b'{"type": "x", "event": "x"}',
]  # fmt: skip


def _life(world: World) -> list[Webhook]:
    """The webhooks of a payment that is taken and partly given back, the first five."""
    paid = world.authorize() if world.can.manual_capture else world.pay()
    if world.can.manual_capture:
        world.take(paid.known, AMOUNT, CAPTURE)
    world.give_back(paid.known, 50_000 if world.can.partial_refund else AMOUNT, KEY)
    webhooks = world.webhooks()
    assert webhooks
    return webhooks[:MOST]


def _meaning(event: ProviderEvent) -> object:
    return event.kind, event.type, event.charge, event.effect, event.refund_key


def test_events_mean_the_same_in_every_order(world: World) -> None:
    webhooks = _life(world)
    alone = {webhook.event_id: world.parse(webhook) for webhook in webhooks}
    for order in permutations(webhooks):
        assert [world.parse(webhook) for webhook in order] == [alone[webhook.event_id] for webhook in order]


def test_different_facts_have_different_keys(world: World) -> None:
    events = [world.parse(webhook) for webhook in _life(world)]
    meanings: dict[str, object] = {}
    for event in events:
        if event.kind not in (EventKind.IGNORED, EventKind.HINT):
            assert meanings.setdefault(event.dedupe_key, _meaning(event)) == _meaning(event)
    second = world.pay(number=2)
    told = [event for event in world.events() if event.kind is not EventKind.IGNORED]
    assert told
    assert all(leads_to(event, second.known) for event in told)
    assert not {event.dedupe_key for event in told} & {event.dedupe_key for event in events}


def test_a_doubled_webhook_has_the_same_key(world: World) -> None:
    world.chaos(webhooks={"duplicate_rate": 1.0})
    world.pay()
    keys: dict[str, set[str]] = {}
    webhooks = world.webhooks(3)
    for webhook in webhooks:
        keys.setdefault(webhook.event_id, set()).add(world.parse(webhook).dedupe_key)
    assert len(webhooks) == 2 * len(keys)
    assert all(len(same) == 1 for same in keys.values())


def test_a_webhook_that_is_sent_again_is_the_same_event(world: World) -> None:
    first = world.signed()
    world.bank.webhook_failed(first, world.clock.now)
    again = next(webhook for webhook in world.webhooks(10) if webhook.event_id == first.event_id)
    assert again.attempt == first.attempt + 1
    assert world.parse(again) == world.parse(first)


def test_webhooks_can_be_dropped_reordered_and_badly_signed(world: World) -> None:
    world.chaos(webhooks={"drop_rate": 1.0})
    world.pay(number=2)
    assert world.webhooks(60) == []
    world.chaos(webhooks={"drop_rate": 0, "reorder": 1.0})
    late = world.pay(number=3)
    world.chaos(webhooks={"reorder": 0})
    soon = world.pay(number=4)
    events = [event for event in world.events(5) if event.kind is not EventKind.IGNORED]
    order = [leads_to(event, soon.known) for event in events]
    assert order.index(True) < order.index(False)
    assert leads_to(events[-1], late.known)
    world.chaos(webhooks={"bad_signature_rate": 1.0})
    paid = world.pay(number=5)
    forged = world.webhooks()
    assert forged
    for webhook in forged:
        with pytest.raises(BadSignature):
            world.parse(webhook)
        world.bank.webhook_failed(webhook, world.clock.now)
    world.chaos(webhooks={"bad_signature_rate": 0})
    told = [event for event in world.events(2) if event.kind is not EventKind.IGNORED]
    assert told
    assert all(leads_to(event, paid.known) for event in told)


def test_what_the_last_webhook_says_is_what_the_look_up_says(world: World) -> None:
    paid = world.pay()
    events = world.events()
    if world.habits.hints:
        assert [(event.kind, event.charge) for event in events] == [(EventKind.HINT, None)] * len(events)
        return
    told = [event.charge for event in events if event.kind is EventKind.CHARGE and event.charge][-1]
    found = world.look(ref(paid.made))
    assert (told.status, told.amount, told.captured) == (found.status, found.amount, found.captured)
    assert told.currency in (found.currency, None)


@pytest.mark.parametrize("body", ODD, ids=range(len(ODD)))
def test_a_signed_body_that_makes_no_sense_is_ignored(world: World, body: bytes) -> None:
    odd = replace(world.signed(), event_id="evt_odd", unsigned=body)
    try:
        event = world.parse(world.sign(world.account.webhook_secrets[0], odd))
    except BadSignature:
        assert ":" in world.signature_header  # a body that makes no sense has no place for a signature
        return
    assert (event.kind, event.charge, event.effect) == (EventKind.IGNORED, None, None)
    assert event.dedupe_key


def test_an_event_of_another_account_is_refused(world: World) -> None:
    if "account_id" not in {credential.name for credential in world.provider.connection.credentials}:
        pytest.skip(f"connection.credentials of {world.name} names no account_id")
    webhook = world.signed()
    theirs = replace(world.account, credentials={**world.account.credentials, "account_id": "acc_other"})
    with pytest.raises(BadSignature):
        world.provider.parse_webhook(theirs, webhook.headers, webhook.body, world.now)
