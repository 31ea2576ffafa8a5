"""The OpenAPI document in the repository, for whoever reads it without a server: ``python -m infra.openapi``.

With ``--check`` nothing is written: it fails if the code serves another contract than docs/openapi.json says.
"""

from __future__ import annotations

import difflib
import json
import sys
from typing import TYPE_CHECKING

from chalicelib.api.openapi import build
from infra.settings import ROOT

if TYPE_CHECKING:
    from pathlib import Path

FILE = ROOT / "docs" / "openapi.json"
_ANYWHERE = "https://api.example.com"
_SHOWN = 40  # lines of a difference


def text() -> str:
    """The document as it is kept: names in order, so that a difference is one of the contract."""
    return json.dumps(build(_ANYWHERE), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def drift(file: Path) -> list[str]:
    """What the code says otherwise than the file, line by line; nothing if they agree."""
    kept = file.read_text(encoding="utf-8") if file.exists() else ""
    return list(
        difflib.unified_diff(kept.splitlines(), text().splitlines(), str(file.name), "the code", lineterm="", n=1)
    )


def main(arguments: list[str]) -> int:
    """Write the document, or check it."""
    if arguments != ["--check"]:
        FILE.write_text(text(), encoding="utf-8")
        return 0
    different = drift(FILE)
    if different:
        print(*different[:_SHOWN], sep="\n", file=sys.stderr)
        print("\nThe contract has changed. If it is meant to: python -m infra.openapi, and commit it.", file=sys.stderr)
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
