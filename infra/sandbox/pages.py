"""The page on which a customer approves or declines, plain HTML that works without scripts."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING
from urllib.parse import urlencode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infra.sandbox.records import Charge

GO = ' class="go"'
SECURED = "3ds"
_STYLE = """
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 28rem; margin: 3rem auto; padding: 0 1rem; color: #1b1b1f }
dl { display: grid; grid-template-columns: auto 1fr; gap: .25rem 1rem }
dd { margin: 0 }
button { font: inherit; padding: .6rem 1.2rem; margin: .25rem .5rem .25rem 0; border: 2px solid; border-radius: .4rem;
  background: #fff; color: #1b1b1f; cursor: pointer }
button.go { background: #14532d; border-color: #14532d; color: #fff }
button:focus-visible { outline: 3px solid #1d4ed8; outline-offset: 2px }
"""


def _document(title: str, main: str) -> str:
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><style>{_STYLE}</style></head>'
        f"<body><main><h1>{escape(title)}</h1>{main}</main></body></html>"
    )


def _facts(amount: int, currency: str, reference: str) -> str:
    facts = (("Amount", f"{amount} {currency} (minor units)"), ("Reference", reference))
    return "<dl>" + "".join(f"<dt>{name}</dt><dd>{escape(value)}</dd>" for name, value in facts) + "</dl>"


def _buttons(*buttons: tuple[str, str]) -> str:
    """Buttons that post ``choice``; the first one is the one to go on with."""
    return "".join(
        f'<button name="choice" value="{value}"{"" if number else GO}>{label}</button>'
        for number, (value, label) in enumerate(buttons)
    )


def choose(amount: int, currency: str, reference: str, action: str, hidden: Mapping[str, str] | None = None) -> str:
    """The question, posted to ``action`` as ``choice`` (approve, decline, cancel or wait) and ``instrument``."""
    buttons = _buttons(
        ("approve", "Approve"), ("decline", "Decline"), ("cancel", "Cancel"), ("wait", "Let it time out")
    )
    return _document(
        "Sandbox bank: approve the payment?",
        f"<p>No real money moves here.</p>{_facts(amount, currency, reference)}"
        f'<form method="post" action="{escape(action)}">{_hidden(hidden or {})}'
        "<p><label>Pay with another card number, UPI id or bank code than was chosen in the shop, if you like:<br>"
        '<input name="instrument" autocomplete="off"></label></p>'
        f"{buttons}</form>",
    )


def secure(amount: int, currency: str, reference: str, action: str, hidden: Mapping[str, str]) -> str:
    """The card issuer's own question: 3-D Secure."""
    return _document(
        "Sandbox bank: 3-D Secure",
        f"<p>Your card's issuer asks whether it is you.</p>{_facts(amount, currency, reference)}"
        f'<form method="post" action="{escape(action)}">{_hidden({**hidden, "step": SECURED})}'
        f"{_buttons(('approve', 'It is me'), ('decline', 'It is not me'))}</form>",
    )


def _hidden(fields: Mapping[str, str]) -> str:
    return "".join(
        f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">' for name, value in fields.items()
    )


def message(title: str, words: str) -> str:
    """A page that only says something."""
    return _document(title, f"<p>{escape(words)}</p>")


def send_on(url: str, fields: Mapping[str, str]) -> str:
    """A form that takes the browser back to the shop, by itself or with a button."""
    return _document(
        "Back to the shop",
        f'<form id="back" method="post" action="{escape(url)}">{_hidden(fields)}'
        '<button class="go">Continue</button></form>'
        '<script>document.getElementById("back").submit()</script>',
    )


def upi_link(charge: Charge) -> str:
    """A UPI link for that charge, as a phone would open it."""
    amount = f"{charge.amount // 100}.{charge.amount % 100:02d}"
    return "upi://pay?" + urlencode(
        {"pa": "shop@sim", "pn": "Sandbox shop", "tr": charge.id, "am": amount, "cu": charge.currency}
    )
