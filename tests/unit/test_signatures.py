"""Published signature vectors, each through the adapter's own check; tests/data/provider-vectors.json names their sources."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest

from chalicelib.domain.outcome import EventKind
from chalicelib.providers import payu_wire
from chalicelib.providers.base import Account, BadSignature, ChargeRef
from chalicelib.providers.http import HttpAnswer, NotSentError
from chalicelib.providers.registry import build
from chalicelib.providers.signatures import digest, require, sign

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

NOW = datetime(2026, 11, 21, 4, 30, tzinfo=UTC)
ROWS = json.loads((Path(__file__).parents[1] / "data" / "provider-vectors.json").read_text(encoding="utf-8"))["vectors"]
VECTORS: dict[str, dict[str, Any]] = {row["id"]: row for row in ROWS}
Inputs = dict[str, Any]


class NoNetwork:
    def request(self, *_: object, **__: object) -> HttpAnswer:
        raise NotSentError("no network in this test")


def _account(provider: str, webhook_secret: str = "", **credentials: str) -> Account:
    return Account("acct", provider, f"https://{provider}.test", credentials, [webhook_secret])


def _webhook(
    provider: str, secret: str, headers: Mapping[str, str], body: bytes, now: datetime = NOW, **credentials: str
) -> None:
    """The adapter accepts these bytes, and none that differ."""
    adapter = build(provider, NoNetwork())
    account = _account(provider, secret, **credentials)
    event = adapter.parse_webhook(account, headers, body, now)
    assert event.dedupe_key
    for wrong_account, wrong_headers, wrong_body in (
        (_account(provider, "other", **credentials), headers, body),
        (_account(provider, "", **credentials), headers, body),
        (account, {name: value[:-1] for name, value in headers.items()}, body if headers else body[:-1]),
        (account, headers, body.replace(b"1", b"2", 1)),
    ):
        with pytest.raises(BadSignature):
            adapter.parse_webhook(wrong_account, wrong_headers, wrong_body, now)


# one check for each vector


def _razorpay_checkout(inputs: Inputs, expected: str) -> None:
    provider = build("razorpay", NoNetwork())
    account = _account("razorpay", key_id="rzp_test", key_secret=inputs["secret"])
    charge = ChargeRef("pay_x-01", None, 100, "INR", {}, {"order_id": inputs["order_id"]}, NOW)
    params = {"razorpay_payment_id": inputs["payment_id"], "razorpay_signature": expected}
    provider.verify_return(account, charge, params)
    # The posted order id is never used: an attacker may post the order that a signature belongs to.
    provider.verify_return(account, charge, {**params, "razorpay_order_id": "order_other"})
    for data in ({"order_id": "order_other"}, {}):
        known = ChargeRef("pay_x-01", None, 100, "INR", {}, data, NOW)
        with pytest.raises(BadSignature):
            provider.verify_return(account, known, {**params, "razorpay_order_id": inputs["order_id"]})


def _razorpay_link(inputs: Inputs, expected: str) -> None:
    """We make no payment links; their signature is the same function over other words."""
    names = ("payment_link_id", "payment_link_reference_id", "payment_link_status", "payment_id")
    message = "|".join(inputs[name] for name in names).encode()
    require([inputs["secret"]], message, expected)
    with pytest.raises(BadSignature):
        require([inputs["secret"]], message + b"x", expected)


def _razorpay_webhook(inputs: Inputs, expected: str) -> None:
    body = inputs["body"].encode()
    headers = {"x-razorpay-signature": expected}
    _webhook("razorpay", inputs["secret"], headers, body)
    account = _account("razorpay", inputs["secret"])
    event = build("razorpay", NoNetwork()).parse_webhook(account, headers, body, NOW)
    assert (event.kind, event.dedupe_key) == (EventKind.IGNORED, digest(body))


def _stripe_webhook(inputs: Inputs, expected: str) -> None:
    signed_at = datetime.fromtimestamp(inputs["timestamp"], UTC)
    headers = {"stripe-signature": f"t={inputs['timestamp']},v1={expected}"}
    _webhook("stripe", inputs["secret"], headers, inputs["body"].encode(), signed_at)
    account = _account("stripe", inputs["secret"])
    with pytest.raises(BadSignature):  # true, but of 1970
        build("stripe", NoNetwork()).parse_webhook(account, headers, inputs["body"].encode(), NOW)


def _cashfree_webhook(inputs: Inputs, expected: str) -> None:
    headers = {"x-webhook-signature": expected, "x-webhook-timestamp": inputs["timestamp_header"]}
    credentials = {"client_id": "id", "client_secret": inputs["secret"]}
    _webhook("cashfree", inputs["secret"], headers, inputs["body"].encode(), **credentials)


def _instamojo_webhook(inputs: Inputs, expected: str) -> None:
    body = urlencode({**inputs["fields"], "mac": expected}).encode()
    _webhook("instamojo", inputs["salt"], {}, body)


def _payu_request(inputs: Inputs, expected: str) -> None:
    assert payu_wire.request_hash(inputs["salt"], inputs) == expected


def _payu_command(inputs: Inputs, expected: str) -> None:
    assert payu_wire.command_hash(inputs["salt"], inputs["key"], inputs["command"], inputs["var1"]) == expected


def _payu_response(inputs: Inputs, expected: str) -> None:
    fields = {name: value for name, value in inputs.items() if name != "salt"} | {"hash": expected}
    _webhook("payu", inputs["salt"], {}, urlencode(fields).encode(), key=inputs["key"])


def _payu_reverse(inputs: Inputs, expected: str) -> None:
    """What PayU's own package takes for a response hash leaves the status out: with us it proves nothing."""
    fields = VECTORS["payu-request-1"]["inputs"]
    for status in ("", "success", "failure"):
        with pytest.raises(BadSignature):
            payu_wire.check([inputs["salt"]], {**fields, "status": status, "hash": expected})


CHECKS: dict[str, Callable[[Inputs, str], None]] = {
    "rzp-payment-1": _razorpay_checkout,
    "rzp-paymentlink-1": _razorpay_link,
    "rzp-webhook-2": _razorpay_webhook,
    "stripe-webhook-2": _stripe_webhook,
    "payu-request-1": _payu_request,
    "payu-reverse-1": _payu_reverse,
    "payu-request-2": _payu_request,
    "payu-command-1": _payu_command,
    "payu-response-1": _payu_response,
    "cf-webhook-1": _cashfree_webhook,
    "im-mac-1": _instamojo_webhook,
}


@pytest.mark.parametrize("name", VECTORS)
def test_the_published_value_is_ours(name: str) -> None:
    vector = VECTORS[name]
    CHECKS[name](vector["inputs"], vector["expected"])


def test_every_vector_has_a_check_and_a_source() -> None:
    assert set(CHECKS) == set(VECTORS)
    assert all(row["source"] and row["formula"] for row in ROWS)


@pytest.mark.parametrize("secrets", [[], [""]])
def test_nothing_passes_without_a_secret(secrets: list[str]) -> None:
    for signature in (sign("", b"body"), "", None):
        with pytest.raises(BadSignature):
            require(secrets, b"body", signature)
