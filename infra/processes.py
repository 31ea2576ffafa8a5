"""Child processes and ports of the local stack."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_HTTP_OK = 200


class LocalStackError(Exception):
    """The local stack cannot start or go on; the message says what to do."""


def port_is_free(host: str, port: int) -> bool:
    """Say whether we could listen on ``host:port`` now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


class Taken(LocalStackError):
    """A port that the stack needs is somebody else's."""

    def __init__(self, port: int, what: str, variable: str) -> None:
        """``what`` needs the port, and ``variable`` would give it another one."""
        super().__init__(
            f"Port {port}, which {what} needs, is taken. Stop what listens there (perhaps another `make run`), "
            f"or choose another port with {variable}, or move all of them with RAILYARD_PORT_BASE=20000."
        )


class HomeLock:
    """Keeps a directory to one stack. The kernel lets go of it when its holder ends, however it ends."""

    def __init__(self, home: Path) -> None:
        """Not held yet."""
        self._path = home / "lock"
        self._file: IO[str] | None = None

    @property
    def is_held(self) -> bool:
        """Whether it is ours."""
        return self._file is not None

    def take(self) -> None:
        """Hold it, or raise LocalStackError that names who does."""
        file = self._path.open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            file.close()
            message = (
                f"{self._path.parent} belongs to a stack that is running (pid {holder}). Stop that one, or give this "
                f"one a directory of its own with RAILYARD_HOME and ports of its own with RAILYARD_PORT_BASE=20000."
            )
            raise LocalStackError(message) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        self._file = file

    def release(self) -> None:
        """Let go of it. The file stays: removing it would let two hold two files of one name."""
        if self._file is not None:
            self._file.close()
            self._file = None


def descendants(pid: int) -> list[int]:
    """Return the living child processes of ``pid``, theirs included."""
    parents: dict[int, list[int]] = {}
    if Path("/proc/self/stat").exists():
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with suppress(OSError):  # it may end while we look
                    fields = (entry / "stat").read_text().rpartition(")")[2].split()
                    if fields[0] != "Z":
                        parents.setdefault(int(fields[1]), []).append(int(entry.name))
    else:
        rows = subprocess.run(["/bin/ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True)
        for row in rows.stdout.splitlines():
            child, parent = row.split()
            parents.setdefault(int(parent), []).append(int(child))
    found: list[int] = []
    queue = [pid]
    while queue:
        children = parents.get(queue.pop(), [])
        found += children
        queue += children
    return found


class Child:
    """A process that we started, in a session of its own, with its output in one log file."""

    def __init__(self, name: str, command: Sequence[str], *, env: dict[str, str], cwd: Path, log: Path) -> None:
        """Start it."""
        self.name = name
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            # A session of its own: a Ctrl-C in the terminal reaches only the driver, which stops things in order.
            self.process = subprocess.Popen(  # noqa: S603 - our own argv
                command,
                env=env,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def wait_healthy(self, url: str, *, seconds: float = 30) -> None:
        """Wait until ``url`` answers 200; raise LocalStackError when the process ends or does not get there."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            with suppress(urllib.error.URLError, OSError), urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 - http on loopback
                if answer.status == _HTTP_OK:
                    return
            time.sleep(0.05)
        tail = self.log.read_text(errors="replace").splitlines()[-15:]
        message = f"{self.name} did not start. The end of {self.log}:\n" + "\n".join(f"  {line}" for line in tail)
        raise LocalStackError(message)

    def stop(self, *, seconds: float = 20) -> bool:
        """Ask it to end and wait; kill what is left of its process group. Says whether it ended by itself."""
        graceful = True
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                graceful = False
        # What it started shares its process group; after a crash the children may outlive it.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        return graceful
