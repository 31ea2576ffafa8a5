"""Every adapter against forgers: a webhook is believed as it was signed, or not at all."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.domain.outcome import EventKind
from chalicelib.providers.base import BadSignature

if TYPE_CHECKING:
    from chalicelib.domain.outcome import ProviderEvent
    from infra.sandbox.outbox import Webhook
    from tests.contract.sandbox_world import World

OTHER_SECRET = "another secret"


@dataclass(frozen=True)
class Signed:
    """A real webhook and what it says."""

    world: World
    webhook: Webhook
    event: ProviderEvent

    def parse(self, webhook: Webhook, secrets: list[str] | None = None) -> ProviderEvent:
        account = self.world.account if secrets is None else replace(self.world.account, webhook_secrets=secrets)
        return self.world.provider.parse_webhook(account, webhook.headers, webhook.body, self.world.now)

    def refused(self, webhook: Webhook, secrets: list[str] | None = None) -> None:
        with pytest.raises(BadSignature):
            self.parse(webhook, secrets)

    def harmless(self, webhook: Webhook, *, key_is_signed: bool = True) -> None:
        """An altered webhook is refused, or says the same as before, or nothing of it is believed."""
        try:
            event = self.parse(webhook)
        except BadSignature:
            return
        if event.kind in (EventKind.HINT, EventKind.IGNORED):
            assert event.charge is None
            return
        if not key_is_signed:
            event = replace(event, dedupe_key=self.event.dedupe_key)
        assert event == self.event


@pytest.fixture(params=["success", "decline"])
def signed(request: pytest.FixtureRequest, world: World) -> Signed:
    if request.param == "decline" and "failed" in world.habits.silent:
        pytest.skip(f"habits.silent of {world.name} names failures: no webhook tells of them")
    webhook = world.signed(request.param)
    return Signed(world, webhook, world.parse(webhook))


def test_it_is_accepted_under_every_active_secret(signed: Signed) -> None:
    """After a rotation both secrets count for a while, whichever signed."""
    world = signed.world
    secret = world.account.webhook_secrets[0]
    older = world.sign("the older one", signed.webhook)
    for secrets in ([secret], ["the older one", secret], [secret, "the older one"], ["", secret]):
        assert signed.parse(signed.webhook, secrets) == signed.event
        if "the older one" in secrets:
            assert signed.parse(older, secrets) == signed.event
        else:
            signed.refused(older, secrets)


@pytest.mark.parametrize("secrets", [[], [""], ["", ""], ["wrong"], ["é"]])
def test_it_is_refused_without_the_right_secret(signed: Signed, secrets: list[str]) -> None:
    signed.refused(signed.webhook, secrets)


def test_an_empty_secret_never_matches_its_own_signature(signed: Signed) -> None:
    forged = signed.world.sign("", signed.webhook)
    for secrets in ([], [""]):
        signed.refused(forged, secrets)
    signed.refused(forged)


def test_another_secret_does_not_sign(signed: Signed) -> None:
    signed.refused(signed.world.sign(OTHER_SECRET, signed.webhook))


@pytest.mark.parametrize(
    "signature",
    [
        None,
        "",
        "0",
        "0" * 40,
        "0" * 64,
        "0" * 128,
        "é" * 64,
        "\udcff" * 64,
        "A" * 10_000,
        "\x00",
        "t=0,v1=",
        ",",
        "=,=",
    ],
    ids=range(13),
)
def test_a_wrong_signature_is_refused(signed: Signed, signature: str | None) -> None:
    signed.refused(signed.world.with_signature(signed.webhook, signature))


def test_an_altered_signature_is_refused(signed: Signed) -> None:
    good = signed.world.signature_of(signed.webhook)
    for wrong in (good[:-1], good + "0", f"x{good}", "".join(reversed(good)), good.swapcase()):
        signed.refused(signed.world.with_signature(signed.webhook, wrong))


def test_no_header_is_taken_for_another(signed: Signed) -> None:
    if ":" in signed.world.signature_header:
        pytest.skip(f"habits.signature of {signed.world.name} is a field of the body")
    for name in signed.webhook.headers:
        headers = {key: value for key, value in signed.webhook.headers.items() if key != name}
        signed.harmless(replace(signed.webhook, headers=headers), key_is_signed=False)
        for value in ("", "é", "\udcff", "\x00", "9" * 400, "-1", "nan"):
            signed.harmless(replace(signed.webhook, headers={**headers, name: value}), key_is_signed=False)
    signed.refused(replace(signed.webhook, headers={}))


def test_an_altered_body_is_refused(signed: Signed) -> None:
    body = signed.webhook.body
    reference = (signed.event.reference or signed.event.provider_reference or "").encode()
    for altered in (
        b"",
        b"\xff\xfe",
        body[1:],
        body[: len(body) // 2],
        body + body,
        b"{}",
        body.replace(b"INR", b"USD"),
    ):
        if altered != body:
            signed.harmless(replace(signed.webhook, body=altered))
    if reference in body:
        signed.refused(replace(signed.webhook, body=body.replace(reference, reference[:-1] + b"Z")))
    for old, new in ((b"1499", b"0499"), (b"149900", b"049900")):
        if old in body:
            signed.refused(replace(signed.webhook, body=body.replace(old, new)))


def test_an_old_signature_is_refused(signed: Signed) -> None:
    world = signed.world
    if world.habits.tolerance is None:
        pytest.skip(f"habits.tolerance of {world.name} is None: it signs no time, or names no age that is too old")
    secret = world.account.webhook_secrets[0]
    for seconds in (-world.habits.tolerance - 1, world.habits.tolerance + 1, -86_400.0):
        signed.refused(world.sign(secret, signed.webhook, world.clock.now + seconds))
    for seconds in (-world.habits.tolerance + 1, 0.0):
        assert signed.parse(world.sign(secret, signed.webhook, world.clock.now + seconds)) == signed.event


# every byte


def test_no_flipped_bit_of_the_body_changes_what_is_believed(signed: Signed) -> None:
    body = signed.webhook.body
    for place in range(len(body)):
        for bit in (place % 8, (place + 5) % 8):
            flipped = body[:place] + bytes([body[place] ^ 1 << bit]) + body[place + 1 :]
            signed.harmless(replace(signed.webhook, body=flipped))


def test_no_flipped_bit_of_a_header_changes_what_is_believed(signed: Signed) -> None:
    for name, value in signed.webhook.headers.items():
        for place in range(len(value)):
            for bit in range(7):
                flipped = value[:place] + chr(ord(value[place]) ^ 1 << bit) + value[place + 1 :]
                headers = {**signed.webhook.headers, name: flipped}
                signed.harmless(replace(signed.webhook, headers=headers), key_is_signed=False)


_EDITS = st.lists(
    st.tuples(
        st.floats(0, 1),
        st.integers(0, 12),
        st.one_of(st.binary(max_size=12), st.sampled_from([b"&", b"=", b'"', b"%00"])),
    ),
    min_size=1,
    max_size=4,
)


@given(edits=_EDITS)
def test_no_edit_of_the_body_changes_what_is_believed(signed: Signed, edits: list[tuple[float, int, bytes]]) -> None:
    body = signed.webhook.body
    for where, taken, put in edits:
        place = round(where * len(body))
        body = body[:place] + put + body[place + taken :]
    signed.harmless(replace(signed.webhook, body=body))


@given(body=st.binary(max_size=300), signature=st.text(max_size=80))
def test_no_bytes_from_anywhere_are_believed(signed: Signed, body: bytes, signature: str) -> None:
    place, _, field_name = signed.world.signature_header.partition(":")
    headers = signed.webhook.headers if field_name else {**signed.webhook.headers, place: signature}
    signed.harmless(replace(signed.webhook, body=body, headers=headers), key_is_signed=False)
