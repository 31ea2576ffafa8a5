"""Instamojo through the services: what its webhooks and lists leave open, to the end of the payment."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode

import pytest

from chalicelib import wiring
from chalicelib.domain.ids import attempt_reference, short_reference
from chalicelib.domain.routing_rules import RoutingSettings, Rule
from chalicelib.providers import instamojo_wire as wire
from chalicelib.services import provider_events
from tests.faults.checker import violations
from tests.faults.evidence import Expected
from tests.faults.play import AMOUNT, Play
from tests.faults.test_every_provider import Shop
from tests.support.world import World, unarmed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from chalicelib.providers.http import HttpAnswer, HttpClient


@dataclass
class Lagging:
    """Shows a refund in the list only some seconds after it was made."""

    inner: HttpClient
    world: World
    seconds: float
    hidden: list[float] = field(default_factory=list)

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
        if method == "GET" and "/refunds/?" in url:
            made = [refund.created_at for refund in self.world.bank.book.refunds.values()]
            if any(at + self.seconds > self.world.clock.time for at in made):
                self.hidden.append(self.world.clock.time)
                return replace(answer, body=json.dumps({"success": True, "refunds": []}).encode())
        return answer


@pytest.fixture
def shop() -> Iterator[Shop]:
    with World() as world:
        world.bring_merchant(replace(world.merchant(), routing=RoutingSettings((Rule("only", ("acct_instamojo",)),))))
        yield Shop("instamojo", Play(world))


def ends(shop: Shop, expected: Expected) -> None:
    shop.play.settle(horizon=14 * 86_400.0)
    problems = violations(shop.play, expected)
    assert not problems, "\n".join(problems)


def test_a_webhook_that_was_cut_anew_pays_nobodys_payment(shop: Shop) -> None:
    """A pays little and is called what B's webhook would say: the mac of A's is that of B's."""
    mine, theirs = shop.sent_to_page(), shop.sent_to_page()
    purpose = short_reference(attempt_reference(theirs, 1))
    name = f"x|{AMOUNT // 100}.00|INR|MOJOfake|reqB|{purpose}|Credit"
    shop.on_page(shop.action(mine), "approve")
    (genuine,) = shop.world.bank.take_webhooks(shop.world.clock.time + 60)
    fields = {**dict(parse_qsl(genuine.unsigned.decode(), keep_blank_values=True)), "buyer_name": name}
    salt = shop.world.bank.settings["instamojo"].webhook_secret
    values = wire.signed_message(fields)
    before, _, after = values.decode().partition(f"|{AMOUNT // 100}.00|INR|MOJOfake|reqB|")
    cut = {
        "aaa": before, "amount": f"{AMOUNT // 100}.00", "currency": "INR", "payment_id": "MOJOfake",
        "payment_request_id": "reqB", "purpose": purpose, "status": "Credit", "zzz": after.partition("|Credit|")[2],
        "mac": wire.mac(salt, values),
    }  # fmt: skip
    with unarmed(shop.world):
        provider_events.receive(shop.world.kit, "instamojo", "acct_instamojo", {}, urlencode(cut).encode())
    ends(shop, Expected(("succeeded", frozenset({"failed", "expired"}))))
    assert (shop.amounts(mine)[1], shop.amounts(theirs)[1]) == (AMOUNT, 0)


@pytest.mark.parametrize("seconds", [0.0, 100.0, 250.0, 500.0])
def test_a_refund_that_the_list_shows_late_is_made_once(shop: Shop, seconds: float) -> None:
    payment_id = shop.pay()
    shop.play.settle()
    kit = shop.world.kit
    lagging = Lagging(kit.http, shop.world, seconds)
    shop.world.bring(replace(kit, provider=wiring.providers(lagging)))
    shop.play.chaos(provider="instamojo", operation="refund", fault="timeout_after")
    shop.play.refund(payment_id, 50_000)
    ends(shop, Expected(("succeeded",), captured=(AMOUNT,), refunded=(50_000,)))
    assert shop.kept(payment_id) == AMOUNT - 50_000
    assert bool(lagging.hidden) is bool(seconds)
