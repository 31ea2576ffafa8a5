"""Run the sandbox bank: ``python -m infra.sandbox --host 127.0.0.1 --port 8100``."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from infra.sandbox.bank import Bank
from infra.sandbox.config import DEFAULT_FILE, DEFAULT_ROOT_PORT, ConfigError, load
from infra.sandbox.memory import keep, remember
from infra.sandbox.personalities import personality
from infra.sandbox.server import SandboxServer, serve

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM; the exit code is 2 when a port is taken or the file is wrong."""
    parser = argparse.ArgumentParser(prog="python -m infra.sandbox", description="The sandbox bank.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=DEFAULT_ROOT_PORT, help="the root; providers follow; 0 for any")
    parser.add_argument("--providers", type=Path, default=DEFAULT_FILE, help="a file in the shape of providers.json")
    parser.add_argument("--seed", default="railyard", help="all chance comes from it")
    parser.add_argument(
        "--state", type=Path, help="a file that carries the bank's memory from a stop to the next start"
    )
    options = parser.parse_args(arguments)

    def ready(server: SandboxServer) -> None:
        places = " ".join(f"{name}={server.url(name)}" for name in server.doors)
        sys.stdout.write(f"sandbox bank ready: {server.url('root')} {places}\n")
        sys.stdout.flush()

    try:
        bank = Bank(load(options.providers), time.time, personality, options.seed)
        if options.state is not None:
            remember(bank, options.state)
        asyncio.run(serve(bank, options.host, options.port, ready))
        if options.state is not None:
            keep(bank, options.state, time.time())
    except (ConfigError, OSError) as error:
        sys.stderr.write(f"sandbox bank: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
