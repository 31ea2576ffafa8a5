"""The people of a scenario: a merchant's program that repeats what broke, a customer, and a provider's dashboard."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from botocore.exceptions import BotoCoreError, ClientError
from pynamodb.exceptions import PynamoDBException

from chalicelib.api import idempotency, waiting
from chalicelib.domain.errors import RailyardError
from chalicelib.services import operations, orders, payments
from chalicelib.services.idempotency import Idem
from infra.sandbox import control
from infra.sandbox.wire import Request
from tests.support import marks
from tests.support.access import ACTOR
from tests.support.world import TENANT, Crash, World, unarmed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from chalicelib.domain.model import Operation, Order, PaymentState

AMOUNT = 149_900
PREMIUM = 1_500_000  # above ₹10,000: routed to Razorpay first
_REQUEST_TRIES = 40
_PATIENCE = 60.0  # seconds after which a patient client asks again: past every lease, before any expiry
_BROKEN = (PynamoDBException, BotoCoreError, ClientError)  # the API answers 500 to these

PaymentEffect = "Callable[[Idem], PaymentState]"


@dataclass(slots=True)
class Answered:
    """A request the merchant has got an answer to."""

    key: str
    kind: Literal["order", "payment", "operation", "change"]
    object_id: str
    body: bytes


@dataclass(slots=True)
class Play:
    """One run of a scenario in one world."""

    world: World
    answers: list[Answered] = field(default_factory=list)
    bodies: dict[str, list[bytes]] = field(default_factory=dict)  # every answer to a key, repeats included
    payment_ids: list[str] = field(default_factory=list)  # in the order of their creation
    _keys: int = 0

    def arm(self) -> None:
        """From here on calls are counted, and one may fail."""
        self.world.armed = True

    def disarm(self) -> None:
        """Nothing goes wrong from here on, until ``arm`` is said again."""
        self.world.armed = False

    def settle(self, horizon: float = 3600.0) -> None:
        """Until everything is quiet: redelivery, retries and the sweeper over ``horizon`` seconds."""
        self.world.run(horizon=horizon)

    def settle_armed(self, seconds: float) -> None:
        """Until everything is quiet, but faults only strike within ``seconds``: then all is repetition."""
        self.settle(seconds)
        self.disarm()
        self.settle()

    # -- the merchant's program ------------------------------------------------------------------

    def create(
        self,
        outcome: str = "success",
        amount: int = AMOUNT,
        *,
        capture: Literal["automatic", "manual"] = "automatic",
        order_id: str | None = None,
        country: str = "IN",
        wait: int = 0,
    ) -> str:
        """POST /v1/payments for a UPI payment that ends as ``outcome``."""
        wish = payments.NewPayment(
            amount, "INR", {"type": "upi", "flow": "collect", "vpa": f"{outcome}@sim"}, capture=capture,
            order_id=order_id, customer={"country": country, "email": marks.EMAIL, "contact": marks.CONTACT},
        )  # fmt: skip
        return self.create_wish(wish, wait)

    def create_wish(self, wish: payments.NewPayment, wait: int = 0) -> str:
        """POST /v1/payments."""
        kit = self.world.kit

        def settled(made: PaymentState) -> PaymentState:
            waiting.until_settled(kit, TENANT, made.payment, wait)
            return payments.state(kit, TENANT, made.payment.id)

        body = self._request(
            "payment", lambda idem: payments.create(kit, TENANT, wish, idem), _show_payment, wait=wait,
            settled=settled if wait else None,
            current=lambda payment_id: _show_payment(payments.state(kit, TENANT, payment_id)),
        )  # fmt: skip
        self.payment_ids.append(body["id"])
        return str(body["id"])

    def order(self, amount: int = AMOUNT, *, ttl: float | None = None) -> str:
        """POST /v1/orders."""
        kit = self.world.kit
        expires_at = (
            None if ttl is None else self.world.clock().fromtimestamp(self.world.clock.time + ttl, tz=kit.now().tzinfo)
        )
        wish = orders.NewOrder(amount, "INR", expires_at=expires_at)
        body = self._request("order", lambda idem: orders.create(kit, TENANT, wish, idem), _show_order)
        return str(body["id"])

    def capture(self, payment_id: str, amount: int | None = None) -> str:
        """POST /v1/payments/{id}/capture."""
        kit = self.world.kit
        body = self._request(
            "operation",
            lambda idem: operations.capture(kit, TENANT, payment_id, amount, idem, by=ACTOR),
            _show_operation,
        )
        return str(body["id"])

    def refund(self, payment_id: str, amount: int | None = None) -> str:
        """POST /v1/payments/{id}/refunds."""
        kit = self.world.kit
        body = self._request(
            "operation",
            lambda idem: operations.refund(kit, TENANT, payment_id, amount, "why", idem, by=ACTOR),
            _show_operation,
        )
        return str(body["id"])

    def cancel(self, payment_id: str) -> None:
        """POST /v1/payments/{id}/cancel."""
        kit = self.world.kit
        self._request("change", lambda idem: payments.cancel(kit, TENANT, payment_id, idem, by=ACTOR), _show_payment)

    def review(self, payment_id: str, *, approve: bool) -> None:
        """POST /v1/payments/{id}/review."""
        kit = self.world.kit
        self._request(
            "change",
            lambda idem: payments.review(kit, TENANT, payment_id, approve=approve, note=None, by=ACTOR, idem=idem),
            _show_payment,
        )

    def verify(self, payment_id: str, proof: Mapping[str, str]) -> None:
        """POST /v1/payments/{id}/verify, which takes no key: it is idempotent by nature."""
        kit = self.world.kit
        self._repeat(lambda: payments.verify(kit, TENANT, payment_id, proof))

    def close(self, payment_id: str, outcome: Literal["succeeded", "failed"], reference: str | None = None) -> None:
        """POST /v1/payments/{id}/resolve; a repeat may find that the first one has closed it."""
        kit = self.world.kit
        self._repeat(
            lambda: payments.close(
                kit, TENANT, payment_id, outcome=outcome, provider_reference=reference, note="looked it up", by=ACTOR
            ),
            done="payment_not_in_manual_review",
        )

    def cancel_order(self, order_id: str) -> None:
        """POST /v1/orders/{id}/cancel; canceling twice is canceling."""
        kit = self.world.kit
        self._repeat(lambda: orders.cancel(kit, TENANT, order_id))

    def _request(
        self,
        kind: Literal["order", "payment", "operation", "change"],
        effect: Callable[[Idem], Any],
        render: Callable[[Any], Mapping[str, object]],
        *,
        wait: int = 0,
        settled: Callable[[Any], Any] | None = None,
        current: Callable[[str], Mapping[str, object]] | None = None,
    ) -> dict[str, Any]:
        self._keys += 1
        kit, key = self.world.kit, f"mer_01TEST/test/key-{self._keys}"

        def once() -> bytes:
            idem = Idem(key, "fingerprint", 201, render, kit.settings.idempotency_ttl, wait)
            answer = idempotency.once(kit, idem, effect, settled=settled or (lambda made: made), current=current)
            self.bodies.setdefault(key, []).append(answer.body)
            return answer.body

        body: bytes = self._repeat(once)
        shown: dict[str, Any] = json.loads(body)
        self.answers.append(Answered(key, kind, shown["id"], body))
        return shown

    def _repeat(self, once: Callable[[], Any], *, done: str | None = None) -> Any:
        """Send a request until it is answered, as a careful program does; a crash or 5xx may have had its effect."""
        world = self.world
        for number in range(_REQUEST_TRIES):
            try:
                return world.perform("request", once)
            except Crash:
                world.crashes += 1
            except _BROKEN:
                pass
            except RailyardError as error:
                if number and error.code == done:
                    return None
                if error.code not in ("request_in_progress", "too_many_concurrent_changes"):
                    raise
                world.sleep(error.retry_after or 1)
                continue
            if world.fault is not None and world.fault.patient:
                self.settle(_PATIENCE)
            else:
                world.sleep(0.5)
        raise AssertionError("a request was never answered")

    # -- the customer, the provider and the operator ---------------------------------------------

    def charge(self, payment_id: str, number: int = -1) -> dict[str, Any]:
        """The bank's record of one of a payment's charges."""
        charges: list[dict[str, Any]] = self.world.bank.truth(payment_id)["charges"]
        return charges[number]

    def customer(self, payment_id: str, choice: str = "approve") -> None:
        """The customer decides on the provider's hosted page."""
        charge = self.charge(payment_id)
        self.world.bank.book.decide(charge["provider"], charge["id"], choice)

    def proof(self, payment_id: str) -> Mapping[str, str]:
        """What the provider's page sends back with the browser."""
        from infra.sandbox import razorpay, simulator  # noqa: PLC0415

        record = self.world.bank.book.charges[self.charge(payment_id)["id"]]
        credentials = self.world.bank.settings[record.provider].credentials
        if record.provider == "razorpay":
            return razorpay.return_fields(credentials["key_secret"], record)
        return simulator.return_parameters(credentials["api_secret"], record)

    def chaos(self, **body: object) -> None:
        """Ask the bank for trouble; see infra/sandbox/control.py."""
        control.chaos(self.world.bank, body)

    def short_lived(self, seconds: float = 60.0) -> None:
        """Payments expire after so many seconds."""
        kit = self.world.kit
        self.world.bring(replace(kit, timing=replace(kit.timing, payment_ttl=seconds)))

    def keep_open(self) -> None:
        """Whatever we want closed at the simulator, its customer can pay all the same."""
        self.chaos(provider="simulator", operation="void", fault="technical", times=100)

    def silence_webhooks(self) -> None:
        """Every webhook gets lost from here on."""
        self.chaos(webhooks={"drop_rate": 1.0})

    def dashboard(self, action: str, provider: str, payment_id: str, *, may_fail: bool = False, **body: object) -> None:
        """Somebody works in the provider's own dashboard."""
        sent = json.dumps({"provider": provider, "reference": payment_id} | body).encode()
        answer = control.handle(self.world.bank, Request("POST", f"/_dashboard/{action}", {}, sent))
        assert may_fail or answer.status == 200, answer

    def status(self, payment_id: str) -> str:
        """The payment's status now; looking does not count as a call."""
        with unarmed(self.world):
            return str(payments.get(self.world.kit, TENANT, payment_id).status)

    def needs_attention(self, payment_id: str) -> bool:
        """Whether a person has been asked."""
        with unarmed(self.world):
            return payments.get(self.world.kit, TENANT, payment_id).needs_attention


def _show_payment(state: PaymentState) -> Mapping[str, object]:
    return {"id": state.payment.id, "status": str(state.payment.status), "version": state.payment.version}


def _show_order(order: Order) -> Mapping[str, object]:
    return {"id": order.id, "status": str(order.status)}


def _show_operation(made: tuple[PaymentState, Operation]) -> Mapping[str, object]:
    state, operation = made
    return {"id": operation.id, "payment_id": state.payment.id, "left": state.payment.amount_refundable}
