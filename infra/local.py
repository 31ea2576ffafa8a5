"""``make run`` and ``make demo``: everything on one machine, from an empty directory to a paid payment.

Starts the AWS emulator, the sandbox bank, a demo merchant's webhook receiver and the front of the API; deploys;
makes a merchant; plays the demo story; and stops all of it again, whatever happens. Ports and directories:
infra/settings.py.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NoReturn

from botocore.exceptions import BotoCoreError, ClientError

from infra import deploy
from infra.emulator import Emulator
from infra.front import Front
from infra.merchant import Merchant
from infra.processes import Child, HomeLock, LocalStackError, Taken, port_is_free
from infra.sandbox.config import DEFAULT_ROOT_PORT
from infra.sandbox.config import load as load_sandbox
from infra.settings import HOST, ROOT, child_environment, local_settings
from infra.story import Story, StoryError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from infra.seed import Seeded
    from infra.settings import LocalSettings


def say(text: str) -> None:
    """Print a line at once, also into a pipe. That nobody reads it any more is a Ctrl-C; the rest goes nowhere."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
        _interrupted(signal.SIGPIPE, None)


class Stack:
    """The local stack: start it, use it, stop it."""

    def __init__(self, settings: LocalSettings) -> None:
        """Nothing starts yet."""
        self.settings = settings
        self.target = deploy.target_for("local", settings.endpoint)
        self.emulator = Emulator(settings)
        self.outputs: dict[str, str] = {}
        self.merchant: Merchant | None = None
        self._lock = HomeLock(settings.home)
        self._stops: list[tuple[str, Callable[[], object]]] = []
        self._outputs_read = (0.0, 0)

    @property
    def is_ours(self) -> bool:
        """Whether this stack, and no other, lives in its home."""
        return self._lock.is_held

    def start(self) -> Seeded:
        """Start everything in order and return the demo merchant."""
        settings = self.settings
        settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock.take()  # before anything in there is touched
        self._check_ports()
        self._local_json.unlink(missing_ok=True)

        self._stops.append(
            ("the AWS emulator", lambda: self.emulator.stop(stream_table=f"{self.target.stack}-payments"))
        )
        kept = self.emulator.start()
        say(f"AWS emulator   {settings.endpoint}  {'with the data of the last run' if kept else 'empty'}")
        self._start_sandbox()
        say(f"sandbox bank   {settings.sandbox_url}")
        with self._listening(settings.merchant_port):
            self.merchant = Merchant(settings.merchant_port)
        self.merchant.start()
        self._stops.append(("the demo merchant", self.merchant.stop))
        say(f"demo merchant  {settings.merchant_url}/received")

        began = time.monotonic()
        self.outputs = deploy.deploy(self.target, home=settings.home)
        say(f"deployed       in {time.monotonic() - began:.1f} s")
        seeded = self._seed()
        self.merchant.secret = seeded["webhook_secret"]
        self._tell_sandbox(seeded)

        # The emulator was frozen when it stopped: what waits in its queues moves from here on.
        deploy.reserve_concurrency(self.target)
        left = self.emulator.relay_leftovers(deploy.function_name(self.target, "relay"))
        if left:
            say(f"passed on      {left} events left over from the last run")
        with self._listening(settings.api_port):
            front = Front(settings.api_port, self._api_base)
        front.start()
        self._stops.append(("the API's front", front.stop))
        say(f"API            {settings.api_url}")
        return seeded

    def stop(self) -> None:
        """Stop what was started, the last first; each part is stopped even if another fails to."""
        if self.is_ours:  # else everything here is another stack's
            self._local_json.unlink(missing_ok=True)
        errors: list[str] = []
        while self._stops:
            name, stop = self._stops.pop()
            try:
                stop()
            except Exception as error:  # noqa: BLE001 - the others must stop too; raised below
                errors.append(f"{name}: {error!r}")
        self._lock.release()
        if errors:
            message = "could not stop " + "; ".join(errors)
            raise LocalStackError(message)

    def write_local_json(self, seeded: Seeded, payment_id: str) -> None:
        """Write where everything is, for people and tests; only the owner may read it."""
        document = {
            "api_url": self.settings.api_url,
            "dashboard_url": f"{self.settings.api_url}/dashboard",
            "gateway_url": self.outputs["ApiBase"],
            "sandbox_url": self.settings.sandbox_url,
            "merchant_url": self.settings.merchant_url,
            "aws_endpoint_url": self.settings.endpoint,
            "emulator_pid": self.emulator.pid,
            "merchant_id": seeded["merchant_id"],
            "secret_key": seeded["secret_key"],
            "webhook_secret": seeded["webhook_secret"],
            "owner_email": seeded["owner_email"],
            "owner_password": seeded["owner_password"],
            "payment_id": payment_id,
        }
        _write_private(self._local_json, json.dumps(document, indent=2) + "\n")

    @property
    def _local_json(self) -> Path:
        return self.settings.home / "local.json"

    def _ports(self) -> dict[int, tuple[str, str]]:
        """What needs each port, and the variable that moves it."""
        settings = self.settings
        wanted = {
            settings.emulator_port: ("the AWS emulator", "RAILYARD_EMULATOR_PORT"),
            settings.api_port: ("the API", "RAILYARD_API_PORT"),
            settings.merchant_port: ("the demo merchant", "RAILYARD_MERCHANT_PORT"),
            settings.sandbox_port: ("the sandbox bank", "RAILYARD_SANDBOX_PORT"),
        }
        for provider in load_sandbox():
            port = provider.port - DEFAULT_ROOT_PORT + settings.sandbox_port
            wanted[port] = (f"the sandbox's {provider.id}", "RAILYARD_SANDBOX_PORT")
        return wanted

    def _check_ports(self) -> None:
        for port, (what, variable) in self._ports().items():
            if not port_is_free(HOST, port):
                raise Taken(port, what, variable)

    @contextmanager
    def _listening(self, port: int) -> Iterator[None]:
        """Say it as the check of all ports does, if somebody took the port since."""
        try:
            yield
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            raise Taken(port, *self._ports()[port]) from error

    def _start_sandbox(self) -> None:
        log = self.settings.logs / "sandbox.log"
        log.unlink(missing_ok=True)
        command = [sys.executable, "-m", "infra.sandbox", "--host", HOST, "--port", str(self.settings.sandbox_port)]
        # Beside the emulator's state, which goes when the emulator did not stop gracefully: one without the
        # other would be a bank that knows nothing of our payments.
        command += ["--state", str(self.emulator.state / "bank.pickle")]
        child = Child("the sandbox bank", command, env=child_environment(PYTHONUNBUFFERED="1"), cwd=ROOT, log=log)
        self._stops.append(("the sandbox bank", child.stop))
        child.wait_healthy(f"{self.settings.sandbox_url}/_health")

    def _seed(self) -> Seeded:
        kept = self.settings.home / "seed.json"
        wish = {
            "prefix": self.target.stack,
            "credentials_key_id": self.outputs["CredentialsKeyAliasName"],
            "webhook_url": f"{self.settings.merchant_url}/webhooks",
            "sandbox_port": self.settings.sandbox_port,
            "before": json.loads(kept.read_text()) if kept.exists() else None,
        }
        done = subprocess.run(
            [sys.executable, "-m", "infra.seed"],
            input=json.dumps(wish),
            env=child_environment(AWS_ENDPOINT_URL=self.settings.endpoint),
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            message = f"the demo merchant could not be made:\n{done.stderr}"
            raise LocalStackError(message)
        _write_private(kept, done.stdout)
        seeded: Seeded = json.loads(done.stdout)
        return seeded

    def _tell_sandbox(self, seeded: Seeded) -> None:
        for account in seeded["accounts"]:
            body = {
                "provider": account["sandbox_id"],
                "webhook_url": f"{self.settings.api_url}/webhooks/{account['provider']}/{account['account']}",
                "webhook_secret": account["webhook_secret"],
            }
            request = urllib.request.Request(  # noqa: S310 - http on loopback
                f"{self.settings.sandbox_url}/_config",
                data=json.dumps(body).encode(),
                headers={"Content-Type": "application/json"},
            )
            with urllib.request.urlopen(request, timeout=5):  # noqa: S310 - http on loopback
                pass

    def _api_base(self) -> str:
        """Where the API is now: `make deploy STAGE=local` beside a running stack may have moved it."""
        looked, changed = self._outputs_read
        if time.monotonic() - looked > 1:
            file = self.settings.home / "local.outputs.json"
            now = file.stat().st_mtime_ns
            if now != changed:
                self.outputs = json.loads(file.read_text())
            self._outputs_read = (time.monotonic(), now)
        return self.outputs["ApiBase"]


def _write_private(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_text(text)


def play(stack: Stack, seeded: Seeded) -> str:
    """Tell the demo story on a running stack; returns the payment's id."""
    if stack.merchant is None:
        message = "the stack is not running"
        raise LocalStackError(message)
    story = Story(
        api_url=stack.settings.api_url,
        gateway_url=stack.outputs["ApiBase"],
        sandbox_url=stack.settings.sandbox_url,
        secret_key=seeded["secret_key"],
        merchant=stack.merchant,
        say=say,
    )
    return story.tell()


def _show(stack: Stack, seeded: Seeded, payment_id: str) -> None:
    url = stack.settings.api_url
    say(
        f"""
Railyard is up.

  API            {url}           key {seeded["secret_key"]}
  contract       {url}/openapi.json
  the owner      {seeded["owner_email"]}     password {seeded["owner_password"]}
  the payment    curl -s {url}/v1/payments/{payment_id}/events -u {seeded["secret_key"]}:
  webhooks       {stack.settings.merchant_url}/received     secret {seeded["webhook_secret"]}
  bank's record  {stack.settings.sandbox_url}/_truth
  logs           {stack.settings.logs}

All of this is also in {stack.settings.home / "local.json"}. Ctrl-C stops everything."""
    )


class Interrupted(BaseException):
    """Ctrl-C, SIGTERM, or that nobody reads our output; no ``except Exception`` on the way swallows it."""

    def __init__(self, number: int) -> None:
        """``number`` of the signal."""
        super().__init__(signal.Signals(number).name)
        self.number = number


def _interrupted(number: int, _: object) -> NoReturn:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # once is enough: what follows is the orderly stop
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Interrupted(number)


def main(arguments: Sequence[str] | None = None, make: Callable[[LocalSettings], Stack] = Stack) -> int:
    """Run the stack: ``run`` stays up, ``demo`` ends after the story."""
    parser = argparse.ArgumentParser(prog="make run", description="Railyard on this machine.")
    parser.add_argument("what", choices=("run", "demo"))
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGINT, _interrupted)
    signal.signal(signal.SIGTERM, _interrupted)
    stack = make(local_settings())
    began = time.monotonic()
    code, up = 0, False
    try:
        seeded = stack.start()
        say("")
        payment_id = play(stack, seeded)
        stack.write_local_json(seeded, payment_id)
        say(f"\nAll of it held, {time.monotonic() - began:.0f} s after the start.")
        if options.what == "run":
            _show(stack, seeded, payment_id)
            up = True
            threading.Event().wait()
    except (LocalStackError, StoryError, deploy.DeployError, ClientError, BotoCoreError) as error:
        code = 1
        with suppress(Interrupted):
            say(f"\nFAILED: {error}")
            # Nobody shall clean away what another stack may be running on.
            if stack.is_ours and not isinstance(error, Taken):
                say(f"Logs are in {stack.settings.logs}. To start from nothing: make clean")
    except Interrupted as interrupted:
        code = 0 if up else 128 + interrupted.number
    finally:
        with suppress(Interrupted):
            say("\nStopping ...")
        try:
            stack.stop()
        except LocalStackError as error:
            with suppress(Interrupted):
                say(f"FAILED: {error}")
            code = code or 1
    return code


if __name__ == "__main__":
    raise SystemExit(main())
