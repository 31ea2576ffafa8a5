"""How big the Lambda package is, and how long each handler takes to import in a fresh process.

    python -m infra.loadtest.footprint [runs]

The package is that of prod, built into a temporary directory. Its binary wheels are for Lambda's processor, so
imports are timed from the checkout, with the same pinned versions and compiled modules. The interpreter's own
start is not counted. "built" adds what the first request of an environment does next: settings and clients.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import zipfile
from collections import defaultdict
from pathlib import Path

from infra.deploy import package
from infra.settings import ROOT, child_environment
from tests.support.aws import ENVIRONMENT

_BOTO = ("boto3", "botocore", "s3transfer", "jmespath", "dateutil", "python_dateutil", "six")
_MB = 1_000_000
_SOURCE = """
import time
began = time.perf_counter()
import {module}
imported = time.perf_counter()
from chalicelib.wiring import kit
kit()
print(imported - began, time.perf_counter() - began)
"""


def sizes(zip_path: Path) -> dict[str, int]:
    """Bytes within the zip by what they belong to; ``.pyc`` apart by the second name."""
    found: defaultdict[str, int] = defaultdict(int)
    with zipfile.ZipFile(zip_path) as archive:
        for entry in archive.infolist():
            top = entry.filename.split("/")[0].split("-")[0].removesuffix(".py")
            found["boto" if top in _BOTO else top] += entry.compress_size
    return dict(found)


def imports(module: str, runs: int) -> tuple[list[float], list[float]]:
    """Milliseconds to import a handler's module, and to be built, of each run; the first is not counted."""
    command = [sys.executable, "-c", _SOURCE.format(module=module)]
    taken = []
    for _ in range(runs + 1):
        done = subprocess.run(  # noqa: S603 - our own argv
            command, cwd=ROOT, env=child_environment(**ENVIRONMENT), capture_output=True, text=True, check=True
        )
        taken.append([float(number) * 1000 for number in done.stdout.split()])
    return [one for one, _ in taken[1:]], [two for _, two in taken[1:]]


def main() -> None:
    """Print both."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    with tempfile.TemporaryDirectory() as folder:
        built = package("prod", Path(folder))
        whole, parts = built.zip_path.stat().st_size, sizes(built.zip_path)
    handlers: defaultdict[str, list[str]] = defaultdict(list)
    for name, resource in built.template["Resources"].items():
        if resource["Type"] == "AWS::Serverless::Function":
            handlers[resource["Properties"]["Handler"].rpartition(".")[0]].append(name)
    boto = parts.pop("boto", 0)
    print(f"zip {whole / _MB:.1f} MB, of which boto {boto / _MB:.1f} MB; without it {(whole - boto) / _MB:.1f} MB")
    for name, size in sorted(parts.items(), key=lambda part: -part[1])[:6]:
        print(f"  {name:24} {size / _MB:5.2f} MB")
    print(f"\nmilliseconds, {runs} fresh processes: min, median, max")
    for module, functions in handlers.items():
        for what, values in zip(("imported", "built"), imports(module, runs), strict=True):
            spread = f"{min(values):5.0f} {statistics.median(values):5.0f} {max(values):5.0f}"
            print(f"  {module:22} {what:8} {spread}   {', '.join(functions) if what == 'imported' else ''}")


if __name__ == "__main__":
    main()
