"""The wire formats by name; one file each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infra.sandbox import razorpay, simulator

if TYPE_CHECKING:
    from infra.sandbox.bank import Personality

PERSONALITIES: dict[str, Personality] = {"razorpay": razorpay, "simulator": simulator}
