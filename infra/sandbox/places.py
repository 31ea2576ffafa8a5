"""Where the sandbox bank's providers are reached, without starting it."""

from __future__ import annotations

import time

from infra.sandbox.bank import Bank
from infra.sandbox.config import load
from infra.sandbox.personalities import personality
from infra.sandbox.server import SandboxServer


def base_urls(host: str, root_port: int) -> dict[str, str]:
    """Base URL by the bank's own name of the provider."""
    bank = Bank(load(), time.time, personality, "places")
    server = SandboxServer(bank, host, root_port)
    return {name: server.url(name) for name in bank.settings}


def base_urls_by_adapter(host: str, root_port: int) -> dict[str, str]:
    """Base URL by the name of the adapter that speaks with it; of two that speak alike the first."""
    found: dict[str, str] = {}
    urls = base_urls(host, root_port)
    for settings in load():
        found.setdefault(settings.personality, urls[settings.id])
    return found
