"""Published signature vectors; tests/data/provider-vectors.json names the source of each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chalicelib.domain.outcome import EventKind
from chalicelib.providers.base import Account, BadSignature, ChargeRef
from chalicelib.providers.http import HttpAnswer, NotSentError
from chalicelib.providers.razorpay import RazorpayProvider
from chalicelib.providers.signatures import digest, require, sign
from tests.contract.sandbox_world import NOW

VECTORS = json.loads((Path(__file__).parents[1] / "data" / "provider-vectors.json").read_text(encoding="utf-8"))
RAZORPAY = {row["id"]: row for row in VECTORS["vectors"] if row["provider"] == "razorpay"}


class NoNetwork:
    def request(self, *_: object, **__: object) -> HttpAnswer:
        raise NotSentError("no network in this test")


def _account(**secrets: str) -> Account:
    webhook = [secrets.pop("webhook")] if "webhook" in secrets else []
    return Account("acct", "razorpay", "https://api.razorpay.com/v1", secrets, webhook)


def _message(inputs: dict[str, str]) -> str:
    if "body" in inputs:
        return inputs["body"]
    names = ["order_id", "payment_link_id", "payment_link_reference_id", "payment_link_status", "payment_id"]
    return "|".join(inputs[name] for name in names if name in inputs)


@pytest.mark.parametrize("vector", RAZORPAY.values(), ids=RAZORPAY)
def test_our_hmac_gives_the_published_value(vector: dict[str, object]) -> None:
    inputs = vector["inputs"]
    assert isinstance(inputs, dict)
    message = _message(inputs).encode()
    assert sign(inputs["secret"], message) == vector["expected"]
    require([inputs["secret"]], message, str(vector["expected"]))
    with pytest.raises(BadSignature):
        require([inputs["secret"]], message + b"x", str(vector["expected"]))


def test_the_published_checkout_signature_passes_verify_return() -> None:
    vector = RAZORPAY["rzp-payment-1"]
    inputs = vector["inputs"]
    provider = RazorpayProvider(NoNetwork())
    account = _account(key_id="rzp_test", key_secret=inputs["secret"])
    charge = ChargeRef("pay_x-01", None, 100, "INR", {}, {"order_id": inputs["order_id"]}, NOW)
    params = {"razorpay_payment_id": inputs["payment_id"], "razorpay_signature": vector["expected"]}
    provider.verify_return(account, charge, params)
    # The posted order id is never used: an attacker may post the order that a signature belongs to.
    provider.verify_return(account, charge, {**params, "razorpay_order_id": "order_other"})
    other = ChargeRef("pay_x-01", None, 100, "INR", {}, {"order_id": "order_other"}, NOW)
    unknown = ChargeRef("pay_x-01", None, 100, "INR", {}, {}, NOW)
    for known in (other, unknown):
        with pytest.raises(BadSignature):
            provider.verify_return(account, known, {**params, "razorpay_order_id": inputs["order_id"]})


def test_the_published_webhook_signature_passes_parse_webhook() -> None:
    vector = RAZORPAY["rzp-webhook-2"]
    inputs = vector["inputs"]
    body = inputs["body"].encode()
    headers = {"x-razorpay-signature": vector["expected"]}
    event = RazorpayProvider(NoNetwork()).parse_webhook(_account(webhook=inputs["secret"]), headers, body, NOW)
    assert (event.kind, event.dedupe_key) == (EventKind.IGNORED, digest(body))


@pytest.mark.parametrize("secrets", [[], [""]])
def test_nothing_passes_without_a_secret(secrets: list[str]) -> None:
    for signature in (sign("", b"body"), "", None):
        with pytest.raises(BadSignature):
            require(secrets, b"body", signature)
