"""The bank's memory over a restart of the sandbox, in one file: a real bank goes on while we are stopped.

What is due within a minute of the stop (slow charges, late successes, pending decisions) happens
before it is written, and what comes of it is told by webhook after the restart. Effects farther
away (an authorization's release, an action's expiry) are forgotten.
"""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from infra.sandbox.bank import Bank

_GOES_ON = 60.0  # seconds


def keep(bank: Bank, file: Path, now: float) -> None:
    """Write what the bank knows; webhooks that were taken and not answered are still in its outbox."""
    with bank.lock:
        bank.run_due(now + _GOES_ON)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(pickle.dumps(bank.memory()))


def remember(bank: Bank, file: Path) -> bool:
    """Read what an earlier run wrote, if it did; says whether."""
    if not file.exists():
        return False
    with bank.lock:
        bank.recall(pickle.loads(file.read_bytes()))  # noqa: S301 - our own file, in our own directory
    return True
