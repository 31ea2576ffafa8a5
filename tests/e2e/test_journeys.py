"""A payment through each provider's whole journey, in a real browser: pay, fail, abandon.

The shop is the demo merchant, the pages are the sandbox bank's. A customer is sent away by the
payment's ``next_action``, does something there, and comes back with what the provider gives along.
"""

from __future__ import annotations

import json
import shutil
from html import escape
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from infra.sandbox.config import DEFAULT_FILE, DEFAULT_ROOT_PORT
from tests.support import marks
from tests.support.stack import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

    from tests.support.stack import Client

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.xdist_group("stack"),
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium, for example Debian's package `chromium`"),
]

ACTION = {"type": "upi", "flow": "collect", "vpa": "action@sim"}
CARD_3DS = "4000002500003155"
# How a customer of each provider is sent to its page. A card there is asked for 3-D Secure as well.
JOURNEYS: dict[str, dict[str, Any]] = {
    "simulator": ACTION,
    "razorpay": ACTION,
    "razorpay-card": {"type": "card"},
    "stripe": {"type": "card", "number": CARD_3DS},
    "stripe-upi": ACTION,
    "cashfree": {"type": "netbanking", "bank": "SIM_ACTION"},
    "cashfree-card": {"type": "card"},
    "payu": {"type": "upi", "flow": "collect", "vpa": marks.VPA},
    "payu-card": {"type": "card"},
    "instamojo": {"type": "wallet", "wallet": "PAYTM"},
    "instamojo-card": {"type": "card"},
}
PROVIDERS = [name for name in JOURNEYS if "-" not in name]
CUSTOMER = {"name": "Asha", "email": marks.EMAIL, "contact": marks.CONTACT, "country": "IN"}
# Where the provider's own script would open its checkout: the sandbox's page for it.
CHECKOUT_PAGES = {"razorpay": "/v1/checkout/embedded", "cashfree": "/pg/view/sessions/checkout"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - only where there is a browser

    with sync_playwright() as playwright:
        made = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--disable-background-networking"],
        )
        yield made
        made.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context()
    yield context.new_page()
    context.close()


class Journey:
    """One customer's way through a payment at one provider."""

    def __init__(self, stack: Client, page: Page, name: str) -> None:
        self.stack = stack
        self.page = page
        self.provider = name.partition("-")[0]
        self.name = f"{name}-{uuid4().hex[:8]}"
        answer = stack.request("POST", "/v1/payments", self._wish(JOURNEYS[name]), key=uuid4().hex)
        assert answer.status == 201, answer.body
        self.payment = stack.settled(answer.json["id"], until=("requires_action", "failed"))
        assert self.payment["status"] == "requires_action", self.payment["error"]
        assert self.payment["provider"] == self.provider

    def _wish(self, method: dict[str, Any]) -> dict[str, Any]:
        if method["type"] == "card":
            card = {
                "number": method.get("number", "4111111111111111"),
                "expiry_month": 12,
                "expiry_year": 2035,
                "cvv": marks.CVV,
            }
            token = self.stack.request("POST", "/v1/tokens", {"card": card})
            assert token.status == 201, token.body
            method = {"type": "card", "token": token.json["id"]}
        return {
            "amount": 149900,
            "currency": "INR",
            "method": method,
            "customer": CUSTOMER,
            "metadata": {"provider": self.provider},
            "return_url": f"{self.stack.local['merchant_url']}/return/{self.name}",
        }

    def leave_the_shop(self) -> None:
        """Go where ``next_action`` sends the customer."""
        action = self.payment["next_action"]
        if action["type"] == "redirect":
            self.page.goto(action["url"])
        elif action["type"] == "form_post":
            self._post(action["url"], action["fields"])
        else:
            assert action["type"] == "provider_checkout", action
            self._post(self._bank_url(CHECKOUT_PAGES[action["provider"]]), action["params"])
        self.page.get_by_role("heading", name="approve the payment").wait_for()

    def _bank_url(self, path: str) -> str:
        base, _, port = self.stack.local["sandbox_url"].rpartition(":")
        ports = {row["id"]: row["port"] for row in json.loads(DEFAULT_FILE.read_text())}
        return f"{base}:{int(port) + ports[self.provider] - DEFAULT_ROOT_PORT}{path}"

    def _post(self, url: str, fields: dict[str, Any]) -> None:
        """The shop's own page posts the form, as the API tells it to."""
        inputs = "".join(
            f'<input type="hidden" name="{escape(name)}" value="{escape(str(value))}">'
            for name, value in fields.items()
        )
        self.page.set_content(f'<form method="post" action="{escape(url)}">{inputs}<button>Pay</button></form>')
        self.page.get_by_role("button", name="Pay").click()

    def press(self, button: str) -> None:
        self.page.get_by_role("button", name=button, exact=True).click()

    def approve(self) -> None:
        self.press("Approve")
        self.page.wait_for_load_state()
        if self.page.get_by_role("heading", name="3-D Secure").is_visible():
            self.press("It is me")

    def come_back(self) -> dict[str, str]:
        """What the browser brought to the shop, which the shop's server hands on to be verified."""
        self.page.get_by_role("heading", name="Welcome back").wait_for()
        shop = self.stack.local["merchant_url"]
        answer = json.loads(self.stack.http.request("GET", f"{shop}/returned/{self.name}").data)
        brought: dict[str, str] = answer["data"][0]
        return brought

    def verify(self, proof: dict[str, str]) -> Any:
        return self.stack.request("POST", f"/v1/payments/{self.payment['id']}/verify", proof)

    def end(self) -> Any:
        """The payment once it is quiet, compared with the bank's record."""
        after = self.stack.quiet(self.payment["id"])
        self.stack.check_story(after)
        return after


@pytest.mark.parametrize("name", JOURNEYS)
def test_a_customer_pays_on_the_providers_page(stack: Client, page: Page, name: str) -> None:
    journey = Journey(stack, page, name)
    journey.leave_the_shop()
    journey.approve()
    proof = journey.come_back()
    answer = journey.verify(proof)
    assert answer.status == 200, answer.body
    after = journey.end()
    assert (after["status"], after["amount_captured"]) == ("succeeded", 149900)
    assert [c["captured"] for c in stack.truth(after["id"])] == [149900]


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_customer_declines_on_the_providers_page(stack: Client, page: Page, name: str) -> None:
    journey = Journey(stack, page, name)
    journey.leave_the_shop()
    journey.press("Decline")
    answer = journey.verify(journey.come_back())
    # Some providers sign no failure, so there is no proof of one: the shop learns of it all the same.
    assert answer.status == 200 or answer.json["code"] == "signature_invalid", answer.body
    after = journey.end()
    assert after["status"] == "failed"
    assert after["error"]["code"] in ("authentication_failed", "payment_declined", "customer_canceled"), after["error"]


# At Instamojo there is no payment before the customer pays, so nothing that could time out but ours.
@pytest.mark.parametrize("name", [name for name in PROVIDERS if name != "instamojo"])
def test_a_customer_who_walks_away_times_out(stack: Client, page: Page, name: str) -> None:
    stack.bank("/_chaos", {"provider": name, "action_expires": 2})
    try:
        journey = Journey(stack, page, name)
        journey.leave_the_shop()
    finally:
        stack.bank("/_chaos", {"provider": name, "action_expires": 900})
    page.goto("about:blank")
    after = journey.end()
    assert after["status"] == "failed", after
    assert stack.truth(after["id"])[0]["captured"] == 0


@pytest.mark.parametrize("name", PROVIDERS)
def test_what_is_paid_after_the_shop_canceled_is_refused_or_given_back(stack: Client, page: Page, name: str) -> None:
    journey = Journey(stack, page, name)
    journey.leave_the_shop()
    answer = stack.request("POST", f"/v1/payments/{journey.payment['id']}/cancel", {}, key=uuid4().hex)
    assert (answer.status, answer.json["status"]) == (200, "canceled"), answer.body
    journey.approve()
    identifier = journey.payment["id"]

    def nothing_kept() -> bool:
        charges = stack.truth(identifier)
        return all(c["captured"] == c["refunded"] for c in charges) and all(
            c["status"] != "authorized" for c in charges
        )

    eventually(nothing_kept, 90, "the late charge was kept")
    after = journey.end()
    assert (after["status"], after["amount_captured"]) == ("canceled", 0)
