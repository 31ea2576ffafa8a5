"""The page on which a customer approves or declines, plain HTML that works without scripts."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING
from urllib.parse import urlencode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infra.sandbox.records import Charge

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


def choose(charge: Charge, action: str) -> str:
    """The question, posted to ``action`` as ``choice``: approve, decline or cancel."""
    facts = (("Amount", f"{charge.amount} {charge.currency} (minor units)"), ("Reference", charge.reference))
    rows = "".join(f"<dt>{name}</dt><dd>{escape(value)}</dd>" for name, value in facts)
    buttons = "".join(
        f'<button name="choice" value="{value}"{extra}>{label}</button>'
        for value, label, extra in (
            ("approve", "Approve", ' class="go"'),
            ("decline", "Decline", ""),
            ("cancel", "Cancel", ""),
        )
    )
    return _document(
        "Sandbox bank: approve the payment?",
        f"<p>No real money moves here.</p><dl>{rows}</dl>"
        f'<form method="post" action="{escape(action)}">{buttons}</form>',
    )


def message(title: str, words: str) -> str:
    """A page that only says something."""
    return _document(title, f"<p>{escape(words)}</p>")


def send_on(url: str, fields: Mapping[str, str]) -> str:
    """A form that takes the browser back to the shop, by itself or with a button."""
    inputs = "".join(
        f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">' for name, value in fields.items()
    )
    return _document(
        "Back to the shop",
        f'<form id="back" method="post" action="{escape(url)}">{inputs}<button class="go">Continue</button></form>'
        '<script>document.getElementById("back").submit()</script>',
    )


def upi_link(charge: Charge) -> str:
    """A UPI link for that charge, as a phone would open it."""
    amount = f"{charge.amount // 100}.{charge.amount % 100:02d}"
    return "upi://pay?" + urlencode(
        {"pa": "shop@sim", "pn": "Sandbox shop", "tr": charge.id, "am": amount, "cu": charge.currency}
    )
