"""What the local stack does when it is not alone, or when nobody listens to it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from infra.local import Stack
from infra.processes import HomeLock, LocalStackError
from infra.settings import HOST, ROOT, LocalSettings, child_environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# A stack whose start says much and never ends; its stop leaves a file.
LOUD = """
import sys
from pathlib import Path
from infra.local import Stack, main, say

class Loud(Stack):
    def start(self):
        self._stops.append(("the file", Path(sys.argv[1]).touch))
        while True:
            say("another line")

raise SystemExit(main(["demo"], Loud))
"""


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        listener.listen()
        yield listener.getsockname()[1]


@pytest.fixture
def settings(tmp_path: Path, taken: int) -> LocalSettings:
    return LocalSettings(taken, taken, taken, taken, tmp_path)


def test_a_second_stack_in_one_directory_is_refused_by_the_firsts_pid_and_touches_nothing(
    settings: LocalSettings,
) -> None:
    first, second = HomeLock(settings.home), Stack(settings)
    first.take()
    kept = [settings.home / name for name in ("local.json", "state.running")]
    for file in kept:
        file.touch()
    with pytest.raises(LocalStackError, match=rf"running \(pid {os.getpid()}\).*RAILYARD_HOME"):
        second.start()
    second.stop()
    first.release()
    assert all(file.exists() for file in kept)
    assert not second.is_ours


def test_a_directory_whose_stack_has_ended_is_free_again(tmp_path: Path) -> None:
    script = "import sys, os; from pathlib import Path; from infra.processes import HomeLock\n"
    script += "lock = HomeLock(Path(sys.argv[1])); lock.take(); os._exit(9)"
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, env=child_environment(), check=False)
    lock = HomeLock(tmp_path)
    lock.take()
    assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"
    lock.release()
    lock.take()
    lock.release()


def test_a_taken_port_is_named_and_what_to_do(settings: LocalSettings, taken: int) -> None:
    stack = Stack(settings)
    with pytest.raises(LocalStackError, match=rf"Port {taken}, which .* needs, is taken.*RAILYARD_PORT_BASE"):
        stack.start()
    stack.stop()


def test_a_port_that_was_taken_after_the_check_is_named_as_well(settings: LocalSettings, taken: int) -> None:
    with (
        pytest.raises(LocalStackError, match=rf"Port {taken}, which .* needs, is taken"),
        Stack(settings)._listening(taken),
        socket.socket() as late,
    ):
        late.bind((HOST, taken))


def test_when_nobody_reads_what_it_says_it_stops_everything(tmp_path: Path) -> None:
    stopped = tmp_path / "stopped"
    command = [sys.executable, "-c", LOUD, str(stopped)]
    env = child_environment(RAILYARD_HOME=str(tmp_path))
    with subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"another line\n"
        process.stdout.close()
        said = process.stderr.read()
        process.wait(30)
    assert stopped.exists()
    assert (process.returncode, said) == (141, b"")
