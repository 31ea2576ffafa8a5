"""Our adapter against localstripe 1.15.10, a stateful Stripe server that nobody here wrote.

It is GPL-3 and runs as a process of its own, for these tests only. What it does not do like Stripe is
expected below and not worked around in the adapter:

* it refuses parameters that it does not know, ``return_url`` and ``description`` among them;
* intents have no ``amount_received``: a paid one shows nothing captured (the services then take the
  amount that was asked for);
* no search, and lists by time are refused: by our reference alone nothing can be found, which is Unknown;
* idempotency keys are ignored: a repeat makes a second intent;
* a decline is an HTTP 402 without the intent in it and of type invalid_request_error, and of Stripe's
  declining test methods only pm_card_chargeCustomerFail declines a charge;
* refunds beyond what is left are made, balance transactions cannot be listed by time, no UPI;
* error codes are mostly missing: "Bad request" is all that a wrong state is told by;
* it takes a capture of a canceled intent, and answers 200 with an intent that is canceled.

It listens on every address of this machine while the tests run, takes any key that begins with sk_, and
keeps a copy of its data in the system's temporary folder.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from chalicelib.domain.errors import ErrorCode
from chalicelib.domain.outcome import Charge, ChargeStatus, Effect, EffectStatus, NotFound, NotSent, Unknown
from chalicelib.providers.base import Account
from chalicelib.providers.http import UrllibHttpClient
from chalicelib.providers.stripe import StripeProvider
from tests.contract.sandbox_world import AMOUNT, NOW, ref
from tests.contract.stripe_script import KEY, card

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chalicelib.providers.base import ChargeIntent, ChargeRef

COPY = Path(tempfile.gettempdir()) / "localstripe.pickle"  # where it puts it, whatever it is told
VISA = replace(card(), description=None)


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    was_there = COPY.exists()
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "localstripe", "--from-scratch", "--port", "0"],
        cwd=tmp_path_factory.mktemp("localstripe"),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        said = process.stdout.readline()
        port = re.search(r"Running on http://.*:(\d+)", said)
        if port is None:
            pytest.skip(f"localstripe did not start, it needs IPv6: {said!r}")
        yield Account("acct", "stripe", f"http://127.0.0.1:{port[1]}/v1", {"secret_key": "sk_test_local"}, ["whsec_w"])
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=10)
        if not was_there:
            COPY.unlink(missing_ok=True)


@pytest.fixture
def provider() -> StripeProvider:
    return StripeProvider(UrllibHttpClient())


def pay(provider: StripeProvider, account: Account, made: ChargeIntent = VISA) -> tuple[Charge, ChargeRef]:
    said = provider.create(account, made)
    assert isinstance(said, Charge), said
    return said, ref(made, said)


def test_a_payment_its_look_up_and_its_refund(provider: StripeProvider, account: Account) -> None:
    said, known = pay(provider, account)
    assert (said.status, said.amount, said.currency) == (ChargeStatus.SUCCEEDED, AMOUNT, "INR")
    assert str(said.provider_reference).startswith("pi_")
    assert isinstance(provider.fetch_refund(account, known, KEY, None), NotFound)
    effect = provider.refund(account, known, 500, KEY)
    assert isinstance(effect, Effect)
    assert (effect.status, effect.amount, effect.currency) == (EffectStatus.SUCCEEDED, 500, "INR")
    for reference in (effect.provider_reference, None):
        found = provider.fetch_refund(account, known, KEY, reference)
        assert isinstance(found, Effect)
        assert (found.provider_reference, found.amount) == (effect.provider_reference, 500)
    now = provider.fetch(account, known)
    assert isinstance(now, Charge)
    assert (now.status, now.provider_reference, now.refunded) == (ChargeStatus.SUCCEEDED, said.provider_reference, 500)


def test_a_decline(provider: StripeProvider, account: Account) -> None:
    said, _ = pay(provider, account, replace(card("400000", "0341"), description=None))
    assert said.status is ChargeStatus.DECLINED
    assert said.error is not None
    assert (said.error.code, said.error.provider_code) == (ErrorCode.PAYMENT_DECLINED, "card_declined")


def test_an_authorization_is_captured_or_released(provider: StripeProvider, account: Account) -> None:
    held = replace(VISA, capture="manual")
    for amount in (AMOUNT, AMOUNT - 100):
        said, known = pay(provider, account, held)
        assert said.status is ChargeStatus.AUTHORIZED
        effect = provider.capture(account, known, amount, "op_1")
        assert isinstance(effect, Effect)
        assert effect.status is EffectStatus.SUCCEEDED
        again = provider.capture(account, known, amount, "op_1")  # refused, and the intent says why
        assert isinstance(again, Effect)
        assert again.status is EffectStatus.SUCCEEDED
    said, known = pay(provider, account, held)
    for _ in range(2):
        effect = provider.void(account, known, "op_2")
        assert isinstance(effect, Effect)
        assert effect.status is EffectStatus.SUCCEEDED
    assert isinstance(provider.capture(account, known, AMOUNT, "op_1"), Unknown)


def test_a_live_card_waits_for_the_browser(provider: StripeProvider, account: Account) -> None:
    keys = {"secret_key": "sk_live_local", "publishable_key": "pk_live_local"}
    live = replace(account, credentials=keys)
    said, known = pay(provider, live)
    assert said.status is ChargeStatus.ACTION_REQUIRED
    assert said.next_action is not None
    assert said.next_action["type"] == "provider_checkout"
    now = provider.fetch(live, known)
    assert isinstance(now, Charge)
    assert now.next_action == said.next_action


def test_what_it_cannot_do_is_unknown_and_never_a_failure(provider: StripeProvider, account: Account) -> None:
    said, known = pay(provider, account)
    assert isinstance(provider.fetch(account, replace(known, provider_reference=None)), Unknown)
    assert isinstance(provider.fetch(account, replace(known, provider_reference="pi_none")), NotFound)
    assert isinstance(provider.settlement_lines(account, NOW.date()), Unknown)
    assert isinstance(provider.create(replace(account, credentials={}), VISA), NotSent)
    assert said.captured == 0
