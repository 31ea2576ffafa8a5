"""``make test-dynamodb-local``: the storage contract on Amazon's own DynamoDB Local.

Fetches it with Maven (needs Java 17 and mvn; infra/dynamodb-local/pom.xml pins the version) into
.railyard/dynamodb-local, starts it in memory on a free port of 127.0.0.1, runs the contract against
it and stops it. Optional: `make test` holds the same contract on the embedded emulator.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from infra.processes import Child, LocalStackError
from infra.settings import HOST, REGION, ROOT, child_environment, local_settings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_PROJECT = ROOT / "infra" / "dynamodb-local"
_CONTRACT = "tests/contract/test_storage_contract.py"
_START_SECONDS = 60.0


def _tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        message = f"{name} is not installed. DynamoDB Local needs Java 17 or newer, and Maven to fetch it"
        raise LocalStackError(message)
    return found


def fetch(home: Path) -> Path:
    """Have Maven copy DynamoDB Local and what it needs into ``home``; returns the directory of jars."""
    pom, jars = _PROJECT / "pom.xml", home / "lib"
    fetched = home / "fetched.xml"  # the pom that the jars are of
    if fetched.exists() and fetched.read_text() == pom.read_text():
        return jars
    shutil.rmtree(jars, ignore_errors=True)
    subprocess.run(  # noqa: S603 - our own argv
        [_tool("mvn"), "-q", "-B", "-f", str(pom), "dependency:copy-dependencies", f"-DoutputDirectory={jars}"],
        check=True,
    )
    fetched.write_text(pom.read_text())
    return jars


def start(jars: Path, port: int, home: Path) -> Child:
    """Start it in memory on 127.0.0.1 and wait until it answers."""
    command = [
        _tool("java"), f"-Djava.library.path={jars}", f"-Dsqlite4java.library.path={jars}", "-cp", f"{jars}/*",
        str(_PROJECT / "Loopback.java"), "-inMemory", "-port", str(port), "-disableTelemetry",
    ]  # fmt: skip
    log = home / "dynamodb-local.log"
    log.unlink(missing_ok=True)
    child = Child("DynamoDB Local", command, env=child_environment(), cwd=home, log=log)
    client = boto3.session.Session("test", "test", region_name=REGION).client(
        "dynamodb",
        endpoint_url=f"http://{HOST}:{port}",
        config=Config(connect_timeout=1, read_timeout=5, retries={"max_attempts": 0}),
    )
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and child.process.poll() is None:
        try:
            client.list_tables()
        except (BotoCoreError, ClientError):
            time.sleep(0.2)
        else:
            return child
    child.stop()
    message = f"DynamoDB Local did not start; see {log}"
    raise LocalStackError(message)


def main(arguments: Sequence[str]) -> int:
    """Fetch, start, run the contract with ``arguments`` for pytest, stop; returns pytest's exit code."""
    home = local_settings().home / "dynamodb-local"
    home.mkdir(parents=True, exist_ok=True)
    try:
        jars = fetch(home)
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            port: int = probe.getsockname()[1]
        child = start(jars, port, home)
    except LocalStackError as error:
        print(error, file=sys.stderr)
        return 1
    try:
        return subprocess.run(  # noqa: S603 - our own argv
            [sys.executable, "-m", "pytest", _CONTRACT, "-k", "dynamodb-local", *arguments],
            cwd=ROOT,
            env=child_environment(RAILYARD_DYNAMODB_LOCAL_URL=f"http://{HOST}:{port}"),
            check=False,
        ).returncode
    finally:
        child.stop()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
