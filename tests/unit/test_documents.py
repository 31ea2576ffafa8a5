"""What an operator or a newcomer can meet is written down: alarms, functions, queues, metrics, make targets, figures.

Error codes and routes are held by test_api_openapi.py, settings by test_config.py.
"""

from __future__ import annotations

import ast
import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from chalicelib.providers.http import UrllibHttpClient
from chalicelib.providers.registry import NAMES, build
from infra.settings import ROOT
from tests.support.aws import template

if TYPE_CHECKING:
    from pathlib import Path

DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def of_type(kind: str) -> list[dict[str, Any]]:
    rows = template()["Resources"].values()
    return [row["Properties"] for row in rows if row.get("Type") == f"AWS::{kind}"]


def plain(name: str) -> str:
    return name.removeprefix("railyard-local-")


def code_in(document: str) -> set[str]:
    """Every word between backquotes."""
    return {word for code in re.findall(r"`([^`\n]+)`", document) for word in re.split(r"[\s,:]+", code)}


# -- operations.md ---------------------------------------------------------------------------------


def test_every_alarm_has_a_section_and_no_other() -> None:
    sections = text_of("docs/operations.md").partition("## Alarms")[2].partition("\n## ")[0]
    described = re.findall(r"^### `([a-z0-9-]+)`", sections, re.MULTILINE)
    assert sorted(described) == sorted(plain(alarm["AlarmName"]) for alarm in of_type("CloudWatch::Alarm"))


def test_every_function_and_queue_is_explained() -> None:
    code = code_in(text_of("docs/operations.md"))
    functions = json.loads(text_of(".chalice/config.json"))["stages"]["prod"]["lambda_functions"]
    assert {name.removesuffix("_handler") for name in functions} <= code
    assert {plain(queue["QueueName"]) for queue in of_type("SQS::Queue")} <= code


def emitted() -> set[str]:
    """The name of every metric in the source."""
    found = set()
    for file in (ROOT / "chalicelib").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "metric":
                name = node.args[0]
                assert isinstance(name, ast.Constant), f"{file}: a metric's name must be readable here"
                found.add(str(name.value))
    return found


def test_every_metric_is_listed_and_no_other() -> None:
    table = text_of("docs/operations.md").partition("## Metrics")[2].partition("\n## ")[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert {name for cell in cells for name in re.findall(r"`(\w+)`", cell)} == emitted()


def test_every_alarm_on_a_metric_of_ours_stands_beside_it() -> None:
    rows = text_of("docs/operations.md").partition("## Metrics")[2].partition("\n## ")[0].splitlines()
    for alarm in of_type("CloudWatch::Alarm"):
        if alarm.get("Namespace") == "Railyard":
            row = next(row for row in rows if f"`{alarm['MetricName']}`" in row)
            assert f"`{plain(alarm['AlarmName'])}`" in row


# -- README.md and CI ------------------------------------------------------------------------------


def test_the_readme_lists_every_make_target() -> None:
    targets = re.findall(r"^([a-z-]+):.*## ", text_of("Makefile"), re.MULTILINE)
    listed = re.findall(r"^\| `make ([a-z-]+)(?: [A-Z]+=)?` \|", text_of("README.md"), re.MULTILINE)
    assert sorted(listed) == sorted(targets)


def test_ci_runs_what_the_readme_says() -> None:
    runs = [line for line in text_of(".ci/run").splitlines() if line.startswith("make ")]
    told = re.search(r"CI runs `\.ci/run`.*?```sh\n(.*?)```", text_of("README.md"), re.DOTALL)
    assert told is not None
    assert told[1].splitlines() == runs


def test_every_benchmark_is_named_with_its_figures() -> None:
    performance = text_of("docs/performance.md")
    for file in (ROOT / "infra" / "loadtest").glob("*.py"):
        if "__main__" in file.read_text(encoding="utf-8"):
            assert f"python -m infra.loadtest.{file.stem}" in performance, file.stem


# -- all of them -----------------------------------------------------------------------------------


def anchor(heading: str) -> str:
    """A heading's anchor as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        name, _, fragment = target.partition("#")
        file = (document.parent / name).resolve() if name else document
        assert file.exists(), target
        if fragment:
            headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            assert fragment in {anchor(heading) for heading in headings}, target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_nothing_names_a_machine(document: Path) -> None:
    named = re.findall(r"(?<![\w.}])/(?:home|root|Users|work|tmp|opt)/\S*", document.read_text(encoding="utf-8"))
    assert not named


def test_every_decision_is_in_the_list() -> None:
    listed = text_of("docs/decisions/README.md")
    for record in (ROOT / "docs" / "decisions").glob("[0-9]*.md"):
        title = record.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
        number, _, name = title.partition(" ")
        assert f"| [{number}]({record.name}) | {name} |" in listed


# -- providers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_every_provider_is_described_to_merchants(name: str) -> None:
    provider = build(name, UrllibHttpClient())
    (row,) = re.findall(rf"^\| `{name}`.*$", text_of("docs/api.md").partition("## Provider accounts")[2], re.MULTILINE)
    _, _, credentials, methods, later, needs, _ = (cell.strip() for cell in row.split("|"))
    can = provider.capabilities
    assert set(re.findall("`([a-z_]+)`", credentials)) == {c.name for c in provider.connection.credentials}
    optional = {c.name for c in provider.connection.credentials if not c.required}
    assert set(re.findall(r"`([a-z_]+)`", "".join(re.findall(r"\[(.*?)\]", credentials)))) == optional
    assert set(re.findall("`([a-z]+)`", methods)) == can.methods
    told = can.methods if later == "all methods" else set(re.findall("`([a-z]+)`", later))
    assert told == can.manual_capture
    assert set(re.findall(r"`([a-z_.]+)`", needs)) == can.required
