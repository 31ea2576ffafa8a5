"""The emulator of `make run` as a fixture, on a port of its own."""

from __future__ import annotations

import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

from infra.emulator import Emulator
from infra.settings import HOST, LocalSettings
from tests.support import marks, search

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def running_emulator(home: Path) -> Iterator[str]:
    """Its endpoint, while it runs; what it has kept is then searched for marked values."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    settings = LocalSettings(port, 0, 0, 0, home)
    emulator = Emulator(settings)
    emulator.start()
    try:
        yield settings.endpoint
    finally:
        emulator.stop()
    finds = search.in_files(home, marks.SEARCHED)
    if finds:
        raise search.Leak(finds)
