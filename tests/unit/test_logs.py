"""The log says ids and our own words: an allow-list of fields, and texts without addresses and numbers."""

from __future__ import annotations

import ast
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from chalicelib.api.http import _IDS
from chalicelib.observability import LOGGED, logger, serialized
from tests.support import marks
from tests.support.api import ORDER, Api, api_fixture

api = api_fixture("module")
SOURCE = Path(__file__).parents[2] / "chalicelib"


def line(**fields: object) -> dict[str, object]:
    shown: dict[str, object] = json.loads(serialized({"level": "INFO", "message": "m", **fields}))
    return shown


def test_a_field_that_is_not_allowed_is_left_out() -> None:
    assert line(payment_id="pay_1", email=marks.EMAIL, body={"a": 1}) == {
        "level": "INFO", "message": "m", "payment_id": "pay_1",
    }  # fmt: skip


@pytest.mark.parametrize("value", [marks.EMAIL, "4111 1111 1111 1111\n", "<script>", "a" * 300, "é", marks.CONTACT])
def test_what_is_no_id_is_hidden_in_the_place_of_one(value: str) -> None:
    assert line(account=value)["account"] == "(hidden)"
    assert line(fields=["a", value])["fields"] == ["a", "(hidden)"]


@pytest.mark.parametrize(
    "private", [marks.EMAIL, "4111111111111111", "4111 1111 1111 1111", "3782-822463-10005", marks.CONTACT, marks.VPA]
)
def test_texts_lose_addresses_and_numbers(private: str) -> None:
    for name in ("message", "exception"):
        said = line(**{name: f"refused: {private}, it said"})[name]
        assert said in ("refused: (hidden), it said", "refused: (hidden) it said")


@pytest.mark.parametrize(
    "text",
    [
        "pay_01M8C019CQKJX4GN16EBFS1SEP-01 waits", "30 of 40 calls failed in the last 20 s.", "149900 INR",
        'Traceback: File "/var/task/x.py", line 1234567', "2026-11-21T04:30:00.123+00:00", "GET /v1/payments/{payment_id}",
    ],
)  # fmt: skip
def test_what_a_reader_needs_stays(text: str) -> None:
    assert line(message=text)["message"] == text


def test_nobody_logs_what_is_not_allowed() -> None:
    """A keyword that the serializer drops would be missed when it is needed."""
    said: set[str] = set(_IDS)
    for file in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                owner = node.func.value
                if isinstance(owner, ast.Name) and owner.id == "logger":
                    said |= {keyword.arg for keyword in node.keywords if keyword.arg is not None}
    assert said <= LOGGED
    assert len(said) > 20


def test_no_id_of_a_path_has_a_name_that_a_log_record_keeps_for_itself() -> None:
    """It raises where it is logged: every file of the pages had been a 500."""
    record = logging.makeLogRecord({})
    assert not set(_IDS) & (set(vars(record)) | {"message", "asctime"})


def test_a_line_that_cannot_be_logged_does_not_undo_an_answer(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    said = logger.info

    def broken(message: str, *args: object, **kwargs: Any) -> None:
        if message == "request":
            raise KeyError("Attempt to overwrite 'name' in LogRecord")
        said(message, *args, **kwargs)

    monkeypatch.setattr(logger, "info", broken)
    assert api.post("/v1/orders", ORDER).status == 201
