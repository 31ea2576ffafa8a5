"""The adapters by name; a provider's module is imported when it is first built."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chalicelib.providers.base import Provider
    from chalicelib.providers.http import HttpClient

_ADAPTERS: dict[str, tuple[str, str]] = {
    "cashfree": ("chalicelib.providers.cashfree", "CashfreeProvider"),
    "instamojo": ("chalicelib.providers.instamojo", "InstamojoProvider"),
    "payu": ("chalicelib.providers.payu", "PayuProvider"),
    "razorpay": ("chalicelib.providers.razorpay", "RazorpayProvider"),
    "simulator": ("chalicelib.providers.simulator", "SimulatorProvider"),
    "stripe": ("chalicelib.providers.stripe", "StripeProvider"),
}
NAMES = tuple(_ADAPTERS)


def build(name: str, http: HttpClient) -> Provider:
    """The adapter of that name; raises KeyError for one that is not in ``NAMES``."""
    module, factory = _ADAPTERS[name]
    adapter: Provider = getattr(import_module(module), factory)(http)
    return adapter
