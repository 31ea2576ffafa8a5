"""The OpenAPI document played against a server: requests that it allows and that it does not, and what it promises.

Schemathesis makes the requests and judges the answers; where ids of real objects are known, most paths lead to them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.transport import Response
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

CHECKS = [
    not_a_server_error, status_code_conformance, content_type_conformance, response_headers_conformance,
    response_schema_conformance, negative_data_rejection,
]  # fmt: skip
BASE = "http://railyard.test"


def operations(document: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Every operation of the document, by its name."""
    for result in schemathesis.openapi.from_dict(document).get_all_operations():
        operation: Any = result.ok()  # type: ignore[union-attr]  # raises for what is no operation
        yield operation.definition.raw["operationId"], operation


def body_of(prepared: requests.PreparedRequest) -> bytes:
    """The bytes of a prepared request's body."""
    body = prepared.body or b""
    return body.encode() if isinstance(body, str) else bytes(body)  # type: ignore[arg-type]  # no streams here


def headers_of(prepared: requests.PreparedRequest, credentials: str) -> dict[str, str]:
    """Its headers, with credentials in place of any that were made up."""
    return {**{name: str(value) for name, value in prepared.headers.items()}, "Authorization": f"Bearer {credentials}"}


def play(operation: Any, send: Any, ids: Mapping[str, str], examples: int, good: Any = None) -> int:
    """Ask as the operation's schema says, and against it, so many times each; raises what a check finds wrong.

    ``send`` takes a prepared request and the scope that it needs; ``ids`` are of objects that are there, ``good`` is a
    body that chance would not find. Returns how many requests there were.
    """
    return sum(
        _play(operation, mode, send, ids, examples, good if mode is GenerationMode.POSITIVE else None)
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
    )


def _play(operation: Any, mode: GenerationMode, send: Any, ids: Mapping[str, str], examples: int, good: Any) -> int:
    asked = 0
    scope = operation.definition.raw.get("x-required-scope")

    @settings(
        max_examples=examples, derandomize=True, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=operation.as_strategy(generation_mode=mode), chance=st.integers(0, 3))
    def ask(case: Any, chance: int) -> None:
        nonlocal asked
        if chance and case.path_parameters:
            known = {name: ids[name] for name in case.path_parameters if name in ids}
            case.path_parameters = {**case.path_parameters, **known}
        if mode is GenerationMode.POSITIVE and case.headers and "Idempotency-Key" in case.headers:
            case.headers["Idempotency-Key"] = f"contract-{asked}"
        if good is not None and chance % 2:
            case.body = good
        prepared = requests.Request(**case.as_transport_kwargs(base_url=BASE)).prepare()
        status, headers, answered = send(prepared, scope)
        asked += 1
        # Schemathesis does not count 413 among refusals.
        checks = [check for check in CHECKS if status != 413 or check is not negative_data_rejection]
        case.validate_response(_response(prepared, status, headers, answered), checks=checks)

    try:
        ask()
    except Exception as error:
        if type(error).__name__ != "Unsatisfiable":  # there is nothing wrong to be asked of it
            raise
    return asked


def _response(prepared: requests.PreparedRequest, status: int, headers: Mapping[str, str], body: bytes) -> Response:
    lists = {name.lower(): [value] for name, value in headers.items()}
    return Response(status, lists, body, prepared, elapsed=0.0, verify=False, encoding="utf-8")
