"""The bank: the record of what really happened, and everything that can go wrong on the way to it.

It knows no sockets and no wire format. Time comes from ``clock``, chance from the seed: the
outcome of a request depends on the seed, the operation and its key, so that a repeat is equal
and a run can be repeated. Effects that take time are queued and happen in ``run_due``.
"""

from __future__ import annotations

import copy
from contextlib import suppress
from dataclasses import dataclass, replace
from threading import RLock
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from infra.sandbox.book import Book
from infra.sandbox.chaos import Chaos
from infra.sandbox.outbox import Outbox
from infra.sandbox.records import (
    INSTRUMENT_FAULTS,
    MISREPORT,
    WITHOUT_EFFECT,
    Charge,
    ChargeSpec,
    Fact,
    Fault,
    Order,
    Refund,
    RefusedError,
    asked_outcome,
    roll,
)
from infra.sandbox.replies import limited
from infra.sandbox.timer import Timer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from infra.sandbox.config import ProviderSettings
    from infra.sandbox.outbox import Webhook
    from infra.sandbox.records import Notice
    from infra.sandbox.wire import Request, Response

T = TypeVar("T")


class Personality(Protocol):
    """A wire format: a module with these functions."""

    BASE_PATH: str

    def handle(self, bank: Bank, settings: ProviderSettings, request: Request) -> Response:
        """Answer one request."""

    def fail(self, status: int) -> Response:
        """A 429 or 5xx as the provider words it."""

    def events(self, bank: Bank, fact: Fact, charge: Charge, refund: Refund | None) -> list[Notice]:
        """The webhooks that tell of a fact."""

    def sign(self, secret: str, body: bytes, event_id: str, now: float) -> tuple[bytes, dict[str, str]]:
        """A webhook's body and headers, signed at ``now`` (epoch seconds)."""


@dataclass(frozen=True, slots=True)
class Verdict(Generic[T]):
    """How one request ends: a record or a refusal, and a fault that decides what the client sees of it."""

    record: T | None = None
    refusal: RefusedError | None = None
    fault: Fault | None = None


class Bank:
    """Every provider of one sandbox. Safe to call from several threads."""

    def __init__(
        self,
        providers: Iterable[ProviderSettings],
        clock: Callable[[], float],
        personality: Callable[[str], Personality],
        seed: str = "railyard",
    ) -> None:
        """``clock`` gives epoch seconds; ``personality`` a wire format by its name."""
        self.seed = seed
        self.settings = {settings.id: settings for settings in providers}
        self.lock = RLock()
        self._first_settings = copy.deepcopy(self.settings)
        self.timer = Timer(clock)
        self._named = personality
        self._clear()

    def _clear(self) -> None:
        self.timer.clear()
        self.book = Book(self.seed, self.timer, self._emit)
        self.chaos = {name: Chaos() for name in self.settings}
        self.outbox = Outbox(self.seed, self.settings, self._sign)
        self._keys: dict[tuple[str, str, str], tuple[str, object]] = {}
        self._in_flight: set[tuple[str, str, str]] = set()
        self._faulted: set[tuple[str, str, str]] = set()
        self._requests = 0
        self.delivering = 0  # webhooks taken and not yet answered, kept by whoever posts them

    def reset(self) -> None:
        """Forget everything that happened and every setting but where webhooks go."""
        with self.lock:
            for name, first in self._first_settings.items():
                now = self.settings[name]
                self.settings[name] = replace(
                    copy.deepcopy(first),
                    webhook_url=now.webhook_url,
                    webhook_secret=now.webhook_secret,
                    events=now.events,
                )
            self._clear()

    # memory

    def memory(self) -> dict[str, object]:
        """Everything that has happened, as plain values: records, used keys, webhooks on their way."""
        return {
            "book": self.book.memory(),
            "outbox": self.outbox.memory(),
            "keys": self._keys,
            "faulted": self._faulted,
            "requests": self._requests,
        }

    def recall(self, memory: dict[str, Any]) -> None:
        """Take up where ``memory`` left off; identities between records are kept by whoever stored it."""
        self.book.recall(memory["book"])
        self.outbox.recall(memory["outbox"])
        self._keys = memory["keys"]
        self._faulted = memory["faulted"]
        self._requests = memory["requests"]

    # time

    @property
    def next_due(self) -> float | None:
        """When the next effect or webhook is due, in epoch seconds."""
        with self.lock:
            due = [at for at in (self.timer.next_due, self.outbox.next_due) if at is not None]
            return min(due, default=None)

    def run_due(self, now: float) -> None:
        """Let every effect happen that is due at ``now``, in order."""
        with self.lock:
            self.timer.run_due(now)

    def take_webhooks(self, now: float) -> list[Webhook]:
        """Webhooks due at ``now``; report those that fail to ``webhook_failed``."""
        with self.lock:
            self.timer.run_due(now)
            return self.outbox.take(now)

    def webhook_failed(self, webhook: Webhook, now: float) -> None:
        """The receiver did not answer 2xx; it is sent again later."""
        with self.lock:
            self.outbox.failed(webhook, now)

    # requests

    def handle(self, provider: str, request: Request) -> Response:
        """Answer one request to a provider, in its own wire format."""
        with self.lock:
            self.timer.run_due(self.timer.now)
            settings = self.settings[provider]
            self._requests += 1
            shortest, longest = settings.latency
            share = roll(self.seed, "latency", provider, request.target, str(self._requests))
            personality = self.personality(provider)
            blocked = self.chaos[provider].blocked(self.timer.now)
            if blocked is None:
                response = personality.handle(self, settings, request)
            else:
                response = limited(settings, personality.fail(blocked))
            return replace(response, delay=shortest + (longest - shortest) * share)

    def personality(self, provider: str) -> Personality:
        """The wire format of a provider."""
        return self._named(self.settings[provider].personality)

    def base_path(self, provider: str) -> str:
        """What follows the host in that provider's base URL."""
        return self.personality(provider).BASE_PATH

    def perform(
        self,
        provider: str,
        operation: str,
        key: str,
        effect: Callable[[Fault | None], T],
        *,
        reference: str = "",
        fingerprint: str | None = None,
        chance: Fault | None = None,
    ) -> Verdict[T]:
        """Run one request, with at most one fault.

        With a ``fingerprint`` the key is an idempotency key. ``chance`` is the fault that this
        request draws by its instrument or by rate; it happens once per key.
        """
        scope = (provider, operation, key)
        if fingerprint is not None and scope in self._in_flight:
            return Verdict(refusal=RefusedError("in_progress", "The first request with this key is still running."))
        fault = self.chaos[provider].take(operation, reference)
        if fault is None and chance is not None and scope not in self._faulted:
            self._faulted.add(scope)
            fault = chance
        if fault in WITHOUT_EFFECT:
            return Verdict(fault=fault)
        if fault is Fault.SLOW:
            self._hold(scope, effect, fingerprint)
            return Verdict(fault=fault)
        try:
            record = self._remembered(scope, effect, fingerprint, fault)
        except RefusedError as refusal:
            return Verdict(refusal=refusal, fault=fault)
        if fault is Fault.WRONG_AMOUNT:
            record = _misreported(record)
        return Verdict(record, fault=fault)

    def _hold(self, scope: tuple[str, str, str], effect: Callable[[Fault | None], T], fingerprint: str | None) -> None:
        settings = self.settings[scope[0]]
        if fingerprint is not None:
            self._in_flight.add(scope)

        def happen() -> None:
            self._in_flight.discard(scope)
            with suppress(RefusedError):  # nobody waits for the answer, and a refusal changes nothing
                self._remembered(scope, effect, fingerprint, None)

        self.timer.later(settings.client_timeout + settings.slow_seconds, happen)

    def _remembered(
        self,
        scope: tuple[str, str, str],
        effect: Callable[[Fault | None], T],
        fingerprint: str | None,
        fault: Fault | None,
    ) -> T:
        if fingerprint is None:
            return effect(fault)
        if scope in self._keys:
            first, record = self._keys[scope]
            if first != fingerprint:
                raise RefusedError("duplicate_request", "This key was used with another body.")
            return record  # type: ignore[return-value]  # what this scope's effect returned the first time
        result = effect(fault)
        self._keys[scope] = (fingerprint, result)
        return result

    def remembers(self, provider: str, operation: str, key: str) -> bool:
        """Whether a request with that idempotency key has had its effect already."""
        return (provider, operation, key) in self._keys

    def rated(self, provider: str, operation: str, key: str) -> Fault | None:
        """The time-out that a plain request draws by the configured rate."""
        settings = self.settings[provider]
        if roll(self.seed, "timeout", provider, operation, key) >= settings.timeout_rate:
            return None
        return Fault.TIMEOUT_BEFORE if settings.timeout_mode == "before_effect" else Fault.TIMEOUT_AFTER

    def create_charge(
        self, provider: str, spec: ChargeSpec, key: str, fingerprint: str | None = None
    ) -> Verdict[Charge]:
        """Make a charge, with the fault that its instrument asks for or the rates draw."""
        asked = asked_outcome(spec.method)
        return self.perform(
            provider,
            "create",
            key,
            lambda fault: self.book.create_charge(self.settings[provider], spec, key, fault),
            reference=spec.reference,
            fingerprint=fingerprint,
            chance=self.rated(provider, "create", key) if asked is None else INSTRUMENT_FAULTS.get(asked),
        )

    def truth(self, reference: str = "") -> dict[str, list[dict[str, object]]]:
        """What really happened, for references that begin with ``reference``."""
        with self.lock:
            return self.book.truth(reference)

    def _emit(self, fact: Fact, charge: Charge, refund: Refund | None) -> None:
        """Queue the webhooks that tell of a fact, as things are at this moment."""
        for notice in self.personality(charge.provider).events(self, fact, charge, refund):
            self.outbox.add(charge.provider, notice, self.timer.now, charge.notify_url)

    def event_id(self, kind: str, charge: Charge, refund: Refund | None = None) -> str:
        """A new id for an event about these."""
        return f"evt_{self.book.name(charge.provider, kind, charge.id, refund.id if refund else '')}"

    def _sign(self, provider: str, secret: str, body: bytes, event_id: str, now: float) -> tuple[bytes, dict[str, str]]:
        return self.personality(provider).sign(secret, body, event_id, now)


def _misreported(record: T) -> T:
    """The same record, lying about its amount."""
    if isinstance(record, Charge | Refund):
        return replace(record, misreport=MISREPORT)
    if isinstance(record, Order):
        return replace(record, amount=record.amount + MISREPORT)
    if isinstance(record, list):
        return [_misreported(row) for row in record]  # type: ignore[return-value]  # a list stays a list
    return record
