"""The demo story: one payment from create to captured, refunded and notified, checked at every step.

It uses nothing but the API, the merchant's webhook receiver and the bank's own record, so that it proves what a
merchant would see. Any check that does not hold raises StoryError.
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
import uuid
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from infra.merchant import Merchant

AMOUNT = 149_900  # paise: ₹1,499
REFUND = 50_000
_PATIENCE = 60.0
_TOO_LARGE = 70 * 1024  # the API takes 64 KB


class StoryError(Exception):
    """Something in the story is not as it must be."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: Any


@dataclass(frozen=True, slots=True)
class Story:
    """What the story plays on."""

    api_url: str
    gateway_url: str  # API Gateway itself, without the front
    sandbox_url: str
    secret_key: str
    merchant: Merchant
    say: Callable[[str], None]

    def tell(self) -> str:
        """Play it all and return the payment's id."""
        payment_id = self._pay()
        self._events(payment_id)
        self._webhook("payment.succeeded", payment_id)
        self._refund(payment_id)
        self._webhook("refund.succeeded", payment_id)
        self._ledger(payment_id)
        self._truth(payment_id)
        self._refusals()
        return payment_id

    def _pay(self) -> str:
        order = self._call("POST", "/v1/orders", {"amount": AMOUNT, "currency": "INR", "receipt": "demo_1"}, want=201)
        self.say(f"order {order['id']}: ₹{AMOUNT / 100:,.2f}")
        wish = {
            "amount": AMOUNT,
            "currency": "INR",
            "order_id": order["id"],
            "method": {"type": "upi", "flow": "collect", "vpa": "success@sim"},
            "customer": {"email": "asha@example.com", "contact": "+919800000000", "country": "IN"},
            "description": "Demo",
        }
        payment = self._call("POST", "/v1/payments", wish, want=201, prefer="wait=10")
        self.say(f"payment {payment['id']}: {payment['status']}")
        payment = self._until(f"/v1/payments/{payment['id']}", {"succeeded"}, {"failed", "canceled", "expired"})
        self._check(payment["amount_captured"] == AMOUNT, f"captured in full by {payment['provider']}")
        order = self._call("GET", f"/v1/orders/{order['id']}")
        self._check(order["status"] == "paid", "the order is paid")
        return str(payment["id"])

    def _events(self, payment_id: str) -> None:
        events = self._call("GET", f"/v1/payments/{payment_id}/events?limit=100")["data"]
        numbers = sorted(event["sequence"] for event in events)
        self._check(bool(numbers) and numbers == list(range(1, len(numbers) + 1)), f"{len(numbers)} events, no gap")
        self.say("      " + " → ".join(event["type"] for event in sorted(events, key=lambda event: event["sequence"])))

    def _ledger(self, payment_id: str) -> None:
        journals = self._call("GET", f"/v1/payments/{payment_id}/ledger?limit=100")["data"]
        sums = [sum(leg["amount"] for leg in journal["legs"]) for journal in journals]
        self._check(bool(sums) and not any(sums), f"{len(sums)} journals, each sums to zero")
        balances: defaultdict[str, int] = defaultdict(int)
        for journal in journals:
            for leg in journal["legs"]:
                balances[leg["account"]] += leg["amount"]
        self._check(
            balances["merchant:payable"] == REFUND - AMOUNT and balances["refunds:in_flight"] == 0,
            f"the merchant is owed ₹{(AMOUNT - REFUND) / 100:,.2f}, and nothing is in flight",
        )

    def _webhook(self, kind: str, payment_id: str) -> None:
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            for received in self.merchant.received():
                body = received["body"]
                if isinstance(body, dict) and body.get("type") == kind and body.get("payment_id") == payment_id:
                    self._check(received["verified"], f"webhook {kind} came, and its signature holds")
                    return
            time.sleep(0.05)
        message = f"no webhook {kind} for {payment_id} in {_PATIENCE:.0f} s"
        raise StoryError(message)

    def _refund(self, payment_id: str) -> None:
        wish = {"amount": REFUND, "reason": "Demo"}
        refund = self._call("POST", f"/v1/payments/{payment_id}/refunds", wish, want=201)
        self.say(f"refund {refund['id']}: ₹{REFUND / 100:,.2f}, {refund['status']}")
        self._until(f"/v1/refunds/{refund['id']}", {"succeeded"}, {"failed", "returned"})
        payment = self._call("GET", f"/v1/payments/{payment_id}")
        self._check(payment["refund_status"] == "partial" and payment["amount_refunded"] == REFUND, "refunded in part")

    def _truth(self, payment_id: str) -> None:
        charges = self._send("GET", f"{self.sandbox_url}/_truth?reference={payment_id}").body["charges"]
        self._check(
            len(charges) == 1 and charges[0]["captured"] == AMOUNT and charges[0]["refunded"] == REFUND,
            "the bank's own record says the same: one charge, one refund",
        )

    def _refusals(self) -> None:
        key = {"Authorization": f"Bearer {self.secret_key}", "Idempotency-Key": str(uuid.uuid4())}
        json_type = {"Content-Type": "application/json"}
        large = json.dumps({"description": "x" * _TOO_LARGE}).encode()
        for status, method, path, headers, body in (
            (404, "GET", "/v1/nothing-here", key, None),
            (405, "DELETE", "/v1/payments", key, None),
            (413, "POST", "/v1/payments", key | json_type, large),
            (415, "POST", "/v1/payments", key | {"Content-Type": "text/plain"}, b"{}"),
        ):
            answer = self._send(method, self.gateway_url + path, headers, body)
            self._check(
                answer.status == status
                and answer.headers.get("content-type", "").startswith("application/problem+json")
                and answer.body["status"] == status,
                f"{method} {path}: {status} {answer.body.get('code')}, as problem+json from API Gateway",
            )

    # ---------------------------------------------------------------- tools

    def _check(self, holds: bool, what: str) -> None:  # noqa: FBT001 - it reads as a sentence
        if not holds:
            raise StoryError(what)
        self.say(f"  ok  {what}")

    def _until(self, path: str, good: set[str], bad: set[str]) -> Any:
        deadline = time.monotonic() + _PATIENCE
        status = None
        while time.monotonic() < deadline:
            found = self._call("GET", path)
            if found["status"] != status:
                status = found["status"]
                self.say(f"      {path.rsplit('/', 1)[1]} is {status}")
            if status in good:
                return found
            if status in bad:
                message = f"{path} is {status}: {found.get('error')}"
                raise StoryError(message)
            time.sleep(0.1)
        message = f"{path} is still {status} after {_PATIENCE:.0f} s"
        raise StoryError(message)

    def _call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, want: int = 200, prefer: str = ""
    ) -> Any:
        headers = {"Authorization": f"Bearer {self.secret_key}"}
        if body is not None:
            headers |= {"Content-Type": "application/json", "Idempotency-Key": str(uuid.uuid4())}
        if prefer:
            headers["Prefer"] = prefer
        data = None if body is None else json.dumps(body).encode()
        answer = self._send(method, self.api_url + path, headers, data)
        if answer.status != want:
            message = f"{method} {path} answered {answer.status}: {answer.body}"
            raise StoryError(message)
        return answer.body

    @staticmethod
    def _send(method: str, url: str, headers: Mapping[str, str] | None = None, body: bytes | None = None) -> Answer:
        request = urllib.request.Request(url, data=body, headers=dict(headers or {}), method=method)  # noqa: S310 - http on loopback
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - http on loopback
                status, fields, content = answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            status, fields, content = error.code, error.headers, error.read()
        try:
            document = json.loads(content) if content else None
        except ValueError:
            document = {"not JSON": content[:200].decode(errors="replace")}
        return Answer(status, {name.lower(): value for name, value in fields.items()}, document)
