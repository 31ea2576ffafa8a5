"""A bank, an adapter and a clock, for tests that look at both sides of the wire."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode

import pytest

from chalicelib.domain.outcome import Charge, ChargeStatus, Effect, EffectStatus, EventKind, NotFound, NotSent
from chalicelib.providers.base import Account, ChargeIntent, ChargeRef
from chalicelib.providers.registry import build
from infra.sandbox import control
from infra.sandbox.inprocess import InProcessHttpClient, base_url, make_bank
from infra.sandbox.wire import Request
from tests.contract.browser import Browser, Page, Return
from tests.contract.habits import KINDS, habits_of, instrument, method_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chalicelib.domain.outcome import ChargeLookup, ChargeOutcome, ProviderEvent
    from chalicelib.providers.base import Provider
    from chalicelib.providers.http import HttpAnswer, HttpClient
    from infra.sandbox.bank import Bank
    from infra.sandbox.outbox import Webhook
    from infra.sandbox.wire import Response

START = 1_800_000_000.0
NOW = datetime.fromtimestamp(START, tz=UTC)
AMOUNT = 149_900
NOTIFY_URL = "http://railyard.test/webhooks"
RETURN_URL = "https://shop.example/back?order=7"
LIFETIME = timedelta(minutes=30)
_HELD = ("authorized", "captured", "refunded")


@dataclass
class Clock:
    """Time that passes when it is told to."""

    now: float = START

    def __call__(self) -> float:
        return self.now


@dataclass
class RecordingClient:
    """Counts what goes over the wire."""

    inner: HttpClient
    calls: list[tuple[str, str]] = field(default_factory=list)

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None = None,
        read_timeout: float | None = None,
    ) -> HttpAnswer:
        self.calls.append((method, url))
        return self.inner.request(method, url, headers=headers, body=body, read_timeout=read_timeout)


def account_of(bank: Bank, name: str, url: str) -> Account:
    """The account that the bank's own configuration describes."""
    settings = bank.settings[name]
    return Account(f"acct_{name}", name, url, settings.credentials, [settings.webhook_secret])


def intent(
    outcome: str = "success",
    *,
    number: int = 1,
    amount: int = AMOUNT,
    capture: str = "automatic",
    method: Mapping[str, str] | None = None,
    return_url: str | None = None,
) -> ChargeIntent:
    """A UPI payment that asks for that outcome, unless another method is given."""
    payment_id = "pay_01K0000000000000000000TEST"
    return ChargeIntent(
        reference=f"{payment_id}-{number:02d}",
        payment_id=payment_id,
        amount=amount,
        currency="INR",
        capture="manual" if capture == "manual" else "automatic",
        method=method or {"type": "upi", "flow": "collect", "vpa": f"{outcome}@sim"},
        customer={"name": "Asha Rao", "email": "asha@example.com", "contact": "+919800000000"},
        description="Two books",
        return_url=return_url,
        notify_url=NOTIFY_URL,
        expires_at=NOW + LIFETIME,
    )


def ref(made: ChargeIntent, charge: ChargeOutcome | None = None, data: Mapping[str, str] | None = None) -> ChargeRef:
    """What is known about a charge: only our reference, unless an outcome told more; ``data`` was told before."""
    known = charge if isinstance(charge, Charge) else None
    return ChargeRef(
        reference=made.reference,
        provider_reference=known.provider_reference if known else None,
        amount=made.amount,
        currency=made.currency,
        method=made.method,
        data={**(data or {}), **(known.data if known else {})},
        created_at=made.expires_at - LIFETIME,
    )


@dataclass(frozen=True)
class Paid:
    """A payment whose customer has done their part."""

    made: ChargeIntent
    said: Charge  # what create answered
    charge: Charge  # how it stands now
    known: ChargeRef  # what we know of it by now
    back: Return | Page | None = None  # where the browser ended up, if it was sent to a page


def leads_to(event: ProviderEvent, known: ChargeRef) -> bool:
    """Whether an event leads to a payment of which we know that much: by our reference, else by the provider's."""
    if event.reference is not None:
        return event.reference == known.reference
    return event.provider_reference is not None and event.provider_reference == known.provider_reference


class World:
    """One adapter talking to an in-process bank."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.clock = Clock()
        self.bank = make_bank(self.clock)
        self.http = RecordingClient(InProcessHttpClient(self.bank))
        self.provider: Provider = build(name, self.http)
        self.account = account_of(self.bank, name, base_url(self.bank, name))
        self.can = self.provider.capabilities
        self.habits = habits_of(name)
        self.browser = Browser(self.bank)

    def root(self, method: str, path: str, **body: object) -> Response:
        """What the bank's root port would answer."""
        return control.handle(self.bank, Request(method, path, {}, json.dumps(body).encode()))

    def chaos(self, **body: object) -> None:
        """Ask for trouble at this provider."""
        answer = self.root("POST", "/_chaos", provider=self.name, **body)
        assert answer.status == 200, answer.body

    def charge(self, made: ChargeIntent) -> Charge:
        """Create a charge that must be answered."""
        outcome = self.provider.create(self.account, made)
        assert isinstance(outcome, Charge), outcome
        return outcome

    # payments, however they come about at this provider

    @property
    def kind(self) -> str:
        """The method that a payment is made with where any will do."""
        return next(kind for kind in KINDS if kind in self.can.methods)

    @property
    def manual_kind(self) -> str:
        """A method that can be authorized and captured later."""
        for kind in KINDS:
            if kind in self.can.manual_capture:
                return kind
        pytest.skip(f"capabilities.manual_capture of {self.name} is empty")

    @property
    def server_kind(self) -> str:
        """A method that is paid server to server."""
        for kind in KINDS:
            if kind in self.can.methods - self.habits.page:
                return kind
        pytest.skip(f"habits.page of {self.name} takes every method: no charge is made server to server")

    def intent(
        self,
        kind: str | None = None,
        outcome: str | None = "success",
        *,
        number: int = 1,
        amount: int = AMOUNT,
        currency: str = "INR",
        capture: str = "automatic",
        return_url: str | None = RETURN_URL,
    ) -> ChargeIntent:
        """A payment by that method; it asks for ``outcome`` unless its customer does so on a page."""
        kind = kind or self.kind
        method = method_of(kind, None if kind in self.habits.page else outcome)
        if kind == "card":
            method = {name: method[name] for name in ("type", *self.can.card_data)}
        made = intent(number=number, amount=amount, capture=capture, method=method, return_url=return_url)
        return replace(made, currency=currency, expires_at=self.now + LIFETIME)

    def pay(
        self,
        kind: str | None = None,
        outcome: str | None = "success",
        *,
        number: int = 1,
        amount: int = AMOUNT,
        capture: str = "automatic",
    ) -> Paid:
        """Make a payment and do what its customer does: ask for ``outcome`` by instrument or on the page."""
        kind = kind or self.kind
        made = self.intent(kind, outcome, number=number, amount=amount, capture=capture)
        said = self.charge(made)
        back = None
        if kind in self.habits.page:
            assert said.status is ChargeStatus.ACTION_REQUIRED, said
            back = self.choose(said, "approve", instrument(kind, outcome or "success"))
        charge = self.look(ref(made, said)) if back else said
        return Paid(made, said, charge, ref(made, charge, said.data), back)

    def authorize(self, number: int = 1) -> Paid:
        """A payment that waits for its capture."""
        paid = self.pay(self.manual_kind, capture="manual", number=number)
        assert (paid.charge.status, paid.charge.captured) == (ChargeStatus.AUTHORIZED, 0)
        return paid

    def sent_to_page(
        self, kind: str | None = None, *, number: int = 1, return_url: str | None = RETURN_URL
    ) -> tuple[ChargeIntent, Charge]:
        """A payment whose customer has been sent to a page of the provider's."""
        kind = kind or self.kind
        made = self.intent(kind, "action", number=number, return_url=return_url)
        said = self.charge(made)
        assert said.status is ChargeStatus.ACTION_REQUIRED, said
        return made, said

    def open(self, said: Charge) -> Page:
        """The page that a next_action leads to."""
        action = said.next_action or {}
        match action.get("type"):
            case "redirect":
                shown = self.browser.get(str(action["url"]))
            case "form_post":
                shown = self.browser.post(str(action["url"]), _strings(action["fields"]))
            case "provider_checkout":
                assert action["provider"] == self.name
                host = base_url(self.bank, self.name).removesuffix(self.bank.base_path(self.name))
                shown = self.browser.post(host + self.habits.checkout, _strings(action["params"]))
            case other:
                message = f"{other} leads to no page"
                raise AssertionError(message)
        assert isinstance(shown, Page), shown
        return shown

    def choose(self, said: Charge, choice: str, typed: str = "", *, secure: str = "approve") -> Page | Return:
        """Open the page, press a button, answer 3-D Secure where it is asked, and see where that leads."""
        after = self.browser.choose(self.open(said), choice, typed)
        if isinstance(after, Page) and "3-D Secure" in after.text:
            after = self.browser.choose(after, secure)
        return after

    def asks(self, kind: str) -> tuple[str, ...]:
        """What create asks of the provider for that method, in order."""
        return self.habits.opens if kind in self.habits.page else self.habits.server

    def look_up(self, known: ChargeRef) -> ChargeStatus | None:
        """How a charge stands, or None for one that the provider knows nothing of."""
        found = self.provider.fetch(self.account, known)
        assert isinstance(found, Charge | NotFound), found
        return found.status if isinstance(found, Charge) else None

    def look(self, known: ChargeRef) -> Charge:
        """Ask for a charge that must be there."""
        found = self.provider.fetch(self.account, known)
        assert isinstance(found, Charge), found
        return found

    def take(self, known: ChargeRef, amount: int, key: str) -> Effect:
        """Capture; where the provider only queues it, how it stands afterwards."""
        effect = self.provider.capture(self.account, known, amount, key)
        assert isinstance(effect, Effect), effect
        if effect.status is EffectStatus.PENDING:
            now = self.look(known)
            assert now.status is ChargeStatus.SUCCEEDED
            effect = replace(effect, status=EffectStatus.SUCCEEDED, amount=now.captured, currency=now.currency)
        return effect

    def give_back(self, known: ChargeRef, amount: int, key: str) -> Effect:
        """Refund; where the provider only queues it, how it stands afterwards."""
        effect = self.provider.refund(self.account, known, amount, key)
        assert isinstance(effect, Effect), effect
        if effect.status is EffectStatus.PENDING:
            found = self.provider.fetch_refund(self.account, known, key, effect.provider_reference)
            assert isinstance(found, Effect), found
            return found
        return effect

    def agrees(self, made: ChargeIntent, said: ChargeLookup) -> None:
        """What was said of a charge is what the bank's own record shows; Unknown says nothing."""
        held = [row for row in self.truth(made.reference) if row["status"] in _HELD]
        assert len(held) <= 1, held
        if isinstance(said, NotSent | NotFound):
            assert self.truth(made.reference) == []
        elif isinstance(said, Charge):
            taken = sum(int(str(row["captured"])) for row in held)
            assert said.captured == taken
            assert (said.status in (ChargeStatus.SUCCEEDED, ChargeStatus.AUTHORIZED)) is bool(held), (said, held)
            assert said.status is not ChargeStatus.AUTHORIZED or not taken

    def truth(self, reference: str = "") -> list[dict[str, object]]:
        """The bank's own record."""
        return self.bank.truth(reference)["charges"]

    def refunds(self) -> list[dict[str, object]]:
        """The bank's own record of refunds."""
        return self.bank.truth()["refunds"]

    def pass_time(self, seconds: float) -> None:
        """Let time pass and what is due happen."""
        self.clock.now += seconds
        self.bank.run_due(self.clock.now)

    @property
    def now(self) -> datetime:
        """The clock's time."""
        return datetime.fromtimestamp(self.clock.now, UTC)

    def webhooks(self, seconds: float = 1.0) -> list[Webhook]:
        """The webhooks that have become due, signed."""
        self.clock.now += seconds
        return self.bank.take_webhooks(self.clock.now)

    def parse(self, webhook: Webhook) -> ProviderEvent:
        """A webhook verified and translated."""
        return self.provider.parse_webhook(self.account, webhook.headers, webhook.body, self.now)

    def signed(self, outcome: str = "success") -> Webhook:
        """A real webhook that tells how a payment ended."""
        self.pay(outcome=outcome)
        return next(w for w in self.webhooks() if self.parse(w).kind in (EventKind.CHARGE, EventKind.HINT))

    def sign(self, secret: str, webhook: Webhook, at: float | None = None) -> Webhook:
        """The same webhook signed with another secret, or at another time (epoch seconds)."""
        signer = self.bank.personality(self.name)
        body, headers = signer.sign(secret, webhook.unsigned, webhook.event_id, at or self.clock.now)
        return replace(webhook, body=body, headers={**webhook.headers, **headers})

    @property
    def signature_header(self) -> str:
        """The header that carries a webhook's signature."""
        return self.habits.signature or f"x-{self.name.replace('_', '-')}-signature"

    def signature_of(self, webhook: Webhook) -> str:
        """A webhook's signature, in its header or in its form."""
        place, _, field_name = self.signature_header.partition(":")
        if not field_name:
            return webhook.headers[place]
        return dict(parse_qsl(webhook.body.decode(), keep_blank_values=True))[field_name]

    def with_signature(self, webhook: Webhook, signature: str | None) -> Webhook:
        """The same webhook with another signature in place of its own, or with none."""
        place, _, field_name = self.signature_header.partition(":")
        if not field_name:
            headers = {name: value for name, value in webhook.headers.items() if name != place}
            return replace(webhook, headers=headers if signature is None else {**headers, place: signature})
        fields = dict(parse_qsl(webhook.body.decode(), keep_blank_values=True))
        fields = {name: value for name, value in fields.items() if name != field_name}
        fields = fields if signature is None else {**fields, field_name: signature}
        return replace(webhook, body=urlencode(fields, errors="surrogatepass").encode())

    def events(self, seconds: float = 1.0) -> list[ProviderEvent]:
        """The webhooks that have become due, verified and translated."""
        return [self.parse(webhook) for webhook in self.webhooks(seconds)]

    def heard(self, known: ChargeRef, seconds: float = 1.0) -> list[ProviderEvent]:
        """What the webhooks say that are of interest, hints confirmed by asking as the services do."""
        return [self._confirmed(known, event) for event in self.events(seconds) if event.kind is not EventKind.IGNORED]

    def _confirmed(self, known: ChargeRef, event: ProviderEvent) -> ProviderEvent:
        if event.kind is not EventKind.HINT:
            return event
        if event.effect is None:
            return replace(event, kind=EventKind.CHARGE, charge=self.look(known))
        key, theirs = event.refund_key or "", event.effect.provider_reference
        effect = self.provider.fetch_refund(self.account, known, key, theirs)
        assert isinstance(effect, Effect), effect
        return replace(event, kind=EventKind.REFUND, effect=effect)


def _strings(value: object) -> dict[str, str]:
    """Form fields of what an action carries."""
    assert isinstance(value, dict)
    return {name: str(member) for name, member in value.items()}
