"""The wire formats by name: one module each in this folder, imported when its provider is first asked for."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from infra.sandbox.bank import Personality


@cache
def personality(name: str) -> Personality:
    """The wire format of that name; raises ModuleNotFoundError for one that nobody wrote."""
    return cast("Personality", import_module(f"infra.sandbox.{name}"))
