"""``make provider NAME=…``: what it begins is complete, and passes the contract suite before its first line is changed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from infra.scaffold import ScaffoldError, scaffold, title_of
from infra.settings import ROOT, child_environment

if TYPE_CHECKING:
    from pathlib import Path

_NAME = "acme_pay"
_NEEDED = ("app.py", "pyproject.toml", "chalicelib", "infra", "tests", ".chalice")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what the command reads and the suite runs on."""
    for name in _NEEDED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, tmp_path / name)
    return tmp_path


def run(checkout: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = child_environment(PYTHONDONTWRITEBYTECODE="1")
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=checkout, env=environment, capture_output=True, text=True, check=False
    )


def test_a_new_provider_passes_the_contract_suite(checkout: Path) -> None:
    done = run(checkout, "infra.scaffold", _NAME)
    assert done.returncode == 0, done.stderr
    suite = run(checkout, "pytest", "-q", "-p", "no:cacheprovider", "tests/contract", "-k", _NAME)
    assert suite.returncode == 0, suite.stdout[-3000:]
    passed = int(suite.stdout.rsplit(" passed", 1)[0].rsplit(maxsplit=1)[-1].removeprefix("="))
    assert passed > 100, suite.stdout[-300:]
    for command in (["ruff", "check", "chalicelib", "infra", "tests/contract"], ["ruff", "format", "--check", "."]):
        checked = run(checkout, *command)
        assert checked.returncode == 0, checked.stdout
    rows = json.loads((checkout / "infra/sandbox/providers.json").read_text())
    assert len({row["port"] for row in rows}) == len(rows)
    assert rows[-1]["id"] == _NAME


@pytest.mark.parametrize(
    "name", ["", "Acme", "2pay", "acme-pay", "acme__pay", "acme_", "../acme", "a" * 33, "simulator"]
)
def test_a_name_that_cannot_be_taken_leaves_everything_as_it_was(checkout: Path, name: str) -> None:
    before = sorted((str(path), path.read_bytes()) for path in checkout.rglob("*") if path.is_file())
    with pytest.raises(ScaffoldError):
        scaffold(name, checkout)
    assert sorted((str(path), path.read_bytes()) for path in checkout.rglob("*") if path.is_file()) == before


def test_a_title_is_a_class_name() -> None:
    assert title_of("acme_pay_2") == "AcmePay2"
