"""Bodies and queries from bytes to validated models; everything a stranger may send ends in a 4xx here."""

from __future__ import annotations

import binascii
import json
from collections import Counter
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from pydantic import BaseModel, ValidationError

from chalicelib.api.problems import Refused, dotted, from_validation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from chalice.app import Request

M = TypeVar("M", bound=BaseModel)

MAX_BODY = 64 * 1024  # bytes
_MAX_DEPTH = 16  # of arrays and objects; ours need 3
_REPLACEMENT = "�".encode()  # what API Gateway makes of bytes that are not UTF-8


def raw_body(request: Request, limit: int) -> bytes:
    """The exact bytes of a body; raises Refused (413, or 400 for broken base64)."""
    try:
        raw = request.raw_body
    except (binascii.Error, ValueError) as error:
        raise Refused(400, "invalid_request", "The body cannot be decoded.") from error
    body = raw.encode() if isinstance(raw, str) else raw
    if len(body) > limit:
        raise Refused(413, "payload_too_large", f"The body may have at most {limit} bytes.")
    return body


def check_json_type(header: str | None) -> None:
    """Raise Refused (415) unless a Content-Type header says JSON in UTF-8."""
    media_type, *parameters = (part.strip().lower() for part in (header or "application/json").split(";"))
    charsets = [parameter[8:].strip('"') for parameter in parameters if parameter.startswith("charset=")]
    if media_type != "application/json" or not set(charsets) <= {"utf-8", "utf8"}:
        raise Refused(415, "unsupported_media_type", "Send application/json.")


def parse_json(body: bytes) -> Any:  # noqa: ANN401 - any JSON value
    """Strict JSON; raises Refused (400) for what two parsers might read differently, or choke on.

    That is: other encodings, NaN and Infinity, repeated names, more than 16 levels, numbers beyond
    Python's digit limit. An empty body is an empty object.
    """
    if not body.strip():
        return {}
    if _REPLACEMENT in body:
        _refuse("The body is not UTF-8.")
    try:
        value = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant, object_pairs_hook=_object)
    except UnicodeDecodeError:
        _refuse("The body is not UTF-8.")
    except RecursionError:
        _refuse(f"The JSON is nested more than {_MAX_DEPTH} deep.")
    except ValueError:
        _refuse("The body is not JSON.")
    _check_depth(value)
    return value


def _refuse(detail: str) -> NoReturn:
    raise Refused(400, "invalid_json", detail)


def _refuse_constant(name: str) -> NoReturn:
    _refuse(f"{name} is not JSON.")


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        repeated = next(name for name, times in Counter(name for name, _ in pairs).items() if times > 1)
        raise Refused(400, "invalid_json", "A name appears twice in one object.", param=dotted([repeated]))
    return made


def _check_depth(value: Any) -> None:  # noqa: ANN401
    level = [value]
    for _ in range(_MAX_DEPTH + 1):
        level = [
            child
            for item in level
            if isinstance(item, dict | list)
            for child in (item.values() if isinstance(item, dict) else item)
        ]
        if not level:
            return
    _refuse(f"The JSON is nested more than {_MAX_DEPTH} deep.")


def validated(model: type[M], value: Any, now: datetime) -> M:  # noqa: ANN401
    """``value`` as a ``model``; raises Refused (422) naming the field. ``now`` is for checks against the clock."""
    try:
        return model.model_validate(value, context={"now": now})
    except ValidationError as error:
        raise from_validation(error) from None  # the chain would carry the input into logs


def query_values(parameters: Mapping[str, str] | None) -> dict[str, str]:
    """Query parameters by name; raises Refused (422) for one that is given twice."""
    if parameters is None:
        return {}
    lists: Any = parameters  # chalice's MultiDict
    for name in parameters:
        if len(lists.getlist(name)) != 1:
            raise Refused(422, "invalid_field", "Give each query parameter once.", param=dotted([name]))
    return dict(parameters)
