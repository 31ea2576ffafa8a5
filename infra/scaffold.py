"""Begin a new provider: ``make provider NAME=acme``.

Writes an adapter, its sandbox personality and its contract test, and registers them. The template is the
simulator, the smallest complete adapter we have, so that the template is itself under test, and so that the new
provider passes the whole contract suite before its first line is changed. From there on each change moves it
toward the real provider's wire format, with the suite beside it: docs/adding-a-provider.md.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING

from infra.settings import ROOT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_MODEL = "simulator"
_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_MAX_NAME = 32  # what a webhook's path takes
# What is written: the model's file, the new one, and what its first line says.
_FILES = (
    ("chalicelib/providers/{}.py", "{title}: the adapter, begun as a copy of the simulator's."),
    ("infra/sandbox/{}.py", "{title}'s wire format over the sandbox bank, begun as a copy of the simulator's."),
    (
        "tests/contract/test_{}.py",
        "What only {title}'s format can get wrong, begun as a copy of the simulator's tests.",
    ),
)


class ScaffoldError(Exception):
    """The provider cannot be begun; the message says why, and nothing was written."""


def title_of(name: str) -> str:
    """``acme_pay`` is AcmePay."""
    return "".join(part.capitalize() for part in name.split("_"))


def scaffold(name: str, root: Path = ROOT) -> list[str]:
    """Begin provider ``name``; returns the paths written or changed. Raises ScaffoldError."""
    if not _NAME.fullmatch(name) or len(name) > _MAX_NAME:
        message = f"{name!r} is no name: at most {_MAX_NAME} of a-z, 0-9 and single _, beginning with a letter"
        raise ScaffoldError(message)
    made = {path.format(name): _renamed(root / path.format(_MODEL), name, first) for path, first in _FILES}
    taken = [path for path in made if (root / path).exists()]
    if taken:
        message = f"{taken[0]} exists"
        raise ScaffoldError(message)
    made |= {
        "chalicelib/providers/registry.py": _registry(root, name),
        "pyproject.toml": _independence(root, name),
        "infra/sandbox/providers.json": _sandbox(root, name),
    }
    for path, text in made.items():
        (root / path).write_text(text, encoding="utf-8")
    return list(made)


def _renamed(model: Path, name: str, first: str) -> str:
    """The model's text under the new name, with another first line."""
    text = model.read_text(encoding="utf-8")
    end = text.index("\n", text.index('"""'))
    closing = '"""' if text[:end].count('"""') > 1 else ""
    header = name.replace("_", "-")
    rest = text[end:].replace(f"x-{_MODEL}", f"x-{header}").replace(f"X-{_MODEL.capitalize()}", f"X-{header.title()}")
    rest = rest.replace(_MODEL, name).replace(_MODEL.capitalize(), title_of(name))
    return f'"""{first.format(title=title_of(name))}{closing}{rest}'


def _registry(root: Path, name: str) -> str:
    text = (root / "chalicelib/providers/registry.py").read_text(encoding="utf-8")
    line = f'    "{name}": ("chalicelib.providers.{name}", "{title_of(name)}Provider"),\n'
    return _sorted_in(text, "_ADAPTERS", line)


def _independence(root: Path, name: str) -> str:
    text = (root / "pyproject.toml").read_text(encoding="utf-8")
    return _sorted_in(
        text, 'name = "Provider adapters are independent of each other"', f'    "chalicelib.providers.{name}",\n'
    )


def _sorted_in(text: str, after: str, line: str) -> str:
    """``text`` with ``line`` at its place in the block of indented lines that follows ``after``."""
    lines = text.splitlines(keepends=True)
    start = next(number for number, old in enumerate(lines) if after in old)
    start = next(number for number in range(start, len(lines)) if lines[number].startswith('    "'))
    end = next(number for number in range(start, len(lines)) if not lines[number].startswith('    "'))
    return "".join([*lines[:start], *sorted([*lines[start:end], line]), *lines[end:]])


def _sandbox(root: Path, name: str) -> str:
    path = root / "infra/sandbox/providers.json"
    rows = json.loads(path.read_text(encoding="utf-8"))
    model = next(row for row in rows if row["id"] == _MODEL)
    credentials = {key: f"{name}_test_{key}" for key in model["credentials"]}
    row = model | {
        "id": name,
        "personality": name,
        "port": max(row["port"] for row in rows) + 1,
        "credentials": credentials,
        "webhookSecret": f"{name}_webhook_secret",
    }
    return json.dumps([*rows, row], indent=2) + "\n"


def _tidy(paths: Sequence[str], root: Path = ROOT) -> None:
    """Another name changes the order of imports and the length of lines."""
    for command in (["check", "--quiet", "--fix", "--select", "I"], ["format", "--quiet"]):
        subprocess.run([sys.executable, "-m", "ruff", *command, *paths], cwd=root, check=True)  # noqa: S603 - our own words


def main(arguments: Sequence[str] | None = None) -> int:
    """Begin the provider named on the command line; the exit code is 2 if that is not possible."""
    parser = argparse.ArgumentParser(prog="make provider NAME=…", description="Begin a new provider.")
    parser.add_argument("name")
    options = parser.parse_args(arguments)
    try:
        paths = scaffold(options.name)
    except ScaffoldError as error:
        sys.stderr.write(f"make provider: {error}\n")
        return 2
    _tidy([path for path in paths if path.endswith(".py")])
    sys.stdout.write(
        "Written and changed:\n"
        + "".join(f"  {path}\n" for path in paths)
        + "It passes the contract suite as it is:\n"
        + f"  .venv/bin/python -m pytest tests/contract -k {options.name}\n"
        + "Now make it the provider's own, step by step: docs/adding-a-provider.md\n"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
