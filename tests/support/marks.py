"""The marked values: every secret and personal detail of the suite that a search would know again in clear.

Card numbers are the providers' published test numbers, which the suite needs; the rest is made up. A value that
is marked is sent wherever the suite sends such a value, and means nothing else.
"""

from __future__ import annotations

import base64
import re
from typing import NamedTuple

from infra.sandbox import config
from infra.sandbox.records import CARDS

CVV = "739"  # of three digits, for every card but American Express
AMEX_CVV = "8391"
EMAIL_DOMAIN = "canary.example"
EMAIL = f"asha@{EMAIL_DOMAIN}"
CONTACT = "+919800000000"
IPS = ("203.0.113.77", "49.205.1.7")
VPA = "asha@okcanary"  # the bank takes it as one of no meaning: it succeeds
PASSWORD = "correct horse battery"
WEBHOOK_SECRET = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
LOOKUP_KEY = b"k" * 32

# Stripe's, Razorpay's and the networks' own, in their tests of integrations; longer than 14 digits, as they are
# looked for among others. All that steer the sandbox bank are in its own list.
CARD_NUMBERS = frozenset(CARDS) | {
    "4242424242424242", "4111111111111111", "4000056655665556", "5555555555554444", "5105105105105100",
    "378282246310005", "371449635398431", "6011111111111117", "6011000990139424", "3566002020360505",
    "5267318187975449", "4386289407660153", "6521525252525252",
}  # fmt: skip

# Credentials of the sandbox's providers that are no secrets: they go through browsers, or name an account.
_PUBLIC = {"account_id", "key_id", "publishable_key", "client_id", "key"}


class Mark(NamedTuple):
    """One value or kind of value: a text that must be there, and what is then looked for."""

    kind: str
    needle: str
    shape: re.Pattern[str]
    squeezed: bool = False  # digits that people write in groups: looked for without what separates groups


Marks = frozenset[Mark]


def text(kind: str, value: str) -> Mark:
    """A value as it is, wherever it stands."""
    return Mark(kind, value, re.compile(re.escape(value)))


def digits(kind: str, value: str) -> Mark:
    """A number, unless it is part of a longer one."""
    return Mark(kind, value, re.compile(rf"(?<!\d){value}(?!\d)"), squeezed=True)


def like(kind: str, needle: str, shape: str) -> Mark:
    """Everything of a shape, in which ``needle`` is constant."""
    return Mark(kind, needle, re.compile(shape))


def sandbox_secrets() -> frozenset[str]:
    """What an account at each of the sandbox's providers is held with, and what signs their webhooks."""
    found = set()
    for provider in config.load():
        found |= {value for name, value in provider.credentials.items() if name not in _PUBLIC}
        found |= {provider.webhook_secret} - {""}
    return frozenset(found)


# Three digits alone are everywhere: a code is looked for beside its field's name, in JSON, forms, or code.
_BETWEEN = r"(?:%[0-9A-Fa-f]{2}|\\u00[0-9a-f]{2}|[^\w\n]){1,10}"
_CODE_NAMES = ("cvv", "CVV", "Cvv", "cvc", "CVC", "security_code", "securityCode", "card_code")

SECRETS: Marks = frozenset(
    [
        *(digits("card number", number) for number in CARD_NUMBERS),
        *(like("CVV", name, rf"{name}2?{_BETWEEN}\d{{3,4}}(?!\d)") for name in _CODE_NAMES),
        *(like("API key", f"sk_{mode}_", rf"sk_{mode}_[0-9a-f]{{72}}") for mode in ("test", "live")),
        text("password", PASSWORD),
        like("access token", "eyJ", r"eyJ[\w-]{10,}\.eyJ[\w-]{20,}\.[\w-]{20,}"),
        like("session secret", "ses_", r"ses_[0-9A-HJKMNP-TV-Z]{26}\.[\w-]{40,}"),
        like("webhook secret", "whsec_", r"whsec_[A-Za-z0-9+/]{32,}"),
        *(text("provider's credential", secret) for secret in sandbox_secrets()),
        text("lookup key", LOOKUP_KEY.decode()),
        text("lookup key", LOOKUP_KEY.hex()),
        text("lookup key", base64.b64encode(LOOKUP_KEY).decode().rstrip("=")),
    ]
)
_EMAIL = rf"[\w.+-]+(?:@|%40|\\u0040)(?i:{re.escape(EMAIL_DOMAIN)})"

PERSONAL: Marks = frozenset(
    [
        like("email", "canary.", _EMAIL),
        like("email", "Canary.", _EMAIL),
        text("email", "asha@example.com"),  # the demo story's
        like("contact", "98000000", r"(?<!\d)(?:91)?98000000\d\d(?!\d)")._replace(squeezed=True),
        *(text("ip", address) for address in IPS),
        text("VPA", VPA),
        # Those that steer the sandbox bank.
        like("VPA", "@sim", r"\w+@sim\b"),
        like("VPA", "%40sim", r"\w+%40sim\b"),
    ]
)

SEARCHED: Marks = SECRETS | PERSONAL
