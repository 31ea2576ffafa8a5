"""The OpenAPI 3.1 document, made from the routes as declared and the schemas that check and show."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pydantic.json_schema import models_json_schema

from chalicelib.api import (
    VERSION,
    accounts,
    audit,
    customers,
    keys,
    meta,
    orders,
    outputs,
    payments,
    people,
    people_outputs,
    platform,
    providers,
    refunds,
    risk,
    routing,
    sessions,
    tokens,
    webhooks,
)
from chalicelib.api.auth import COOKIE
from chalicelib.api.http import REQUEST_ID
from chalicelib.api.idempotency import HEADER, MAX_LENGTH
from chalicelib.api.problems import CODES, CONTENT_TYPE
from chalicelib.services.idempotency import answer_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic import BaseModel

    from chalicelib.api.http import Route

_BLUEPRINTS = (
    orders.api, payments.api, refunds.api, tokens.api, accounts.api, providers.api, risk.api, routing.api,
    customers.api, sessions.api, people.api, keys.api, audit.api, platform.api, webhooks.api, meta.api,
)  # fmt: skip
_REF = "#/components/schemas/{model}"
_PARAMETERS: Mapping[str, str] = {
    "payment_id": "pay_…", "order_id": "order_…", "refund_id": "rf_…", "provider": "razorpay", "account": "acc_…",
    "account_id": "acc_…", "token_id": "tok_…", "customer_id": "cus_…", "key_id": "key_…", "user_id": "usr_…",
    "merchant_id": "mer_…",
}  # fmt: skip
_STATUSES: Mapping[int, str] = {
    400: "The request cannot be read, or needs an Idempotency-Key",
    401: "No credentials that are known, or not any more, or a signature that does not hold",
    403: "Known, and not allowed to do this: its role or key lacks the scope, or the merchant is suspended",
    404: "Not there for this merchant and mode",
    409: "Not possible in the present state, or the first request with this key is still being answered",
    413: "Body too large",
    415: "Body is not JSON",
    422: "A field is wrong, or the key was used with another body",
    429: "Too many requests; nothing was done",
    500: "Our failure; try again with the same key",
}


def routes() -> list[Route]:
    """Every declared route."""
    return [route for blueprint in _BLUEPRINTS for route in blueprint.declared]


@lru_cache(maxsize=1)
def document(base_url: str) -> bytes:
    """The document's bytes, made once per process."""
    return answer_bytes(build(base_url))


def build(base_url: str) -> dict[str, Any]:
    """The document."""
    declared = routes()
    components = _schemas(declared)
    paths: dict[str, dict[str, Any]] = {}
    for route in declared:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Railyard",
            "version": VERSION,
            "summary": "One payments API over many providers.",
            "description": "Amounts are integers in the currency's minor unit. Times are RFC 3339 in UTC.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": base_url}],
        "security": [{"bearer": []}, {"basic": []}, {"cookie": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A key, sk_… or pk_…, or an access token.",
                },
                "basic": {"type": "http", "scheme": "basic", "description": "The key as user name."},
                "cookie": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": COOKIE,
                    "description": "A page's session; with X-CSRF-Token for everything but GET and HEAD.",
                },
            },
            "schemas": components,
            "headers": {
                "RequestId": {"description": "Names this request in our logs.", "schema": {"type": "string"}},
                "Replayed": {
                    "description": "The answer was given before, to the first request with this key.",
                    "schema": {"const": "true"},
                },
                "PreferenceApplied": {"description": "Present if Prefer was honoured.", "schema": {"type": "string"}},
                "RetryAfter": {"description": "Seconds.", "schema": {"type": "integer"}},
            },
            "responses": {
                f"Problem{status}": {
                    "description": text,
                    "headers": _headers() | ({"Retry-After": _header("RetryAfter")} if status in (409, 429) else {}),
                    "content": {CONTENT_TYPE: {"schema": {"$ref": _REF.format(model="Problem")}}},
                }
                for status, text in _STATUSES.items()
            },
        },
    }


def _schemas(declared: Sequence[Route]) -> dict[str, Any]:
    taken: list[tuple[type[BaseModel], Any]] = [
        (model, "validation") for route in declared if (model := route.body) is not None
    ]
    names = dict.fromkeys(["Problem", *(route.response for route in declared if route.response)])
    shown: list[tuple[type[BaseModel], Any]] = [(_output(name), "serialization") for name in names]
    _, schema = models_json_schema(list(dict.fromkeys(taken + shown)), ref_template=_REF)
    made: dict[str, Any] = schema["$defs"]
    made["Problem"]["properties"]["code"]["examples"] = sorted(CODES)
    return made


def _output(name: str) -> type[BaseModel]:
    found: type[BaseModel] = getattr(outputs, name, None) or getattr(people_outputs, name)
    return found


def _operation(route: Route) -> dict[str, Any]:
    parameters = [_path_parameter(name) for name in re.findall(r"{(\w+)}", route.path)]
    parameters += _query_parameters(route.query)
    if route.idempotent:
        parameters.append({
            "name": HEADER, "in": "header", "required": True, "schema": {"type": "string", "maxLength": MAX_LENGTH},
            "description": "A new one for each thing you want done; the same one to ask again.",
        })  # fmt: skip
    if route.waits:
        parameters.append({
            "name": "Prefer", "in": "header", "schema": {"type": "string", "examples": ["wait=10"]},
            "description": "wait=N holds the answer for up to N seconds (at most 20) while the payment is under way.",
        })  # fmt: skip
    made: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.summary,
        "tags": [route.path.split("/")[2] if route.path.startswith("/v1/") else "other"],
        "parameters": parameters,
        "responses": _responses(route),
    }
    if route.scope is None:
        made["security"] = []
    else:
        made["x-required-scope"] = route.scope
    body = _body(route)
    if body is not None:
        made["requestBody"] = body
    return made


def _body(route: Route) -> dict[str, Any] | None:
    if route.raw:
        return {"required": True, "content": {"*/*": {}}}
    if route.body is None:
        return None
    return {
        "required": any(field.is_required() for field in route.body.model_fields.values()),
        "content": {"application/json": {"schema": {"$ref": _REF.format(model=route.body.__name__)}}},
    }


def _responses(route: Route) -> dict[str, Any]:
    headers = _headers()
    if route.idempotent:
        headers["Idempotency-Replayed"] = _header("Replayed")
    if route.waits:
        headers["Preference-Applied"] = _header("PreferenceApplied")
    content = {"schema": {"$ref": _REF.format(model=route.response)}} if route.response else {}
    made: dict[str, Any] = {
        str(route.status): {
            "description": "Created" if route.status == 201 else "Done",  # noqa: PLR2004
            "headers": headers,
            "content": {"application/json": content},
        }
    }
    for status in sorted(_problems(route)):
        made[str(status)] = {"$ref": f"#/components/responses/Problem{status}"}
    return made


def _problems(route: Route) -> set[int]:
    """The errors a route may answer: by what it takes, and what it declares."""
    found = {500, *route.errors}
    if route.scope is not None:
        found |= {401, 403, 409, 429}  # 409: of a mode that was never set up
    if route.limit is not None:
        found.add(429)
    if route.query is not None or route.body is not None:
        found.add(422)
    if route.body is not None or route.raw:
        found |= {400, 413} | (set() if route.raw else {415})
    if route.idempotent:
        found |= {409, 429}
    return found


def _headers() -> dict[str, Any]:
    return {REQUEST_ID: _header("RequestId")}


def _header(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/headers/{name}"}


def _path_parameter(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", "examples": [_PARAMETERS[name]]}}


def _query_parameters(query: type[BaseModel] | None) -> list[dict[str, Any]]:
    if query is None:
        return []
    schema = query.model_json_schema(ref_template=_REF)
    inlined = schema.get("$defs", {})
    found = []
    for name, given in schema.get("properties", {}).items():
        # A parameter that is not sent is not null; what is left is its one type.
        kinds = [kind for kind in given.get("anyOf", [given]) if kind.get("type") != "null"]
        kind = {**kinds[0], **{key: given[key] for key in ("description", "default") if given.get(key) is not None}}
        reference = kind.pop("$ref", None)
        if reference:
            kind = {**inlined[reference.rsplit("/", 1)[1]], **kind}
        for key in ("title", "description"):
            kind.pop(key, None)
        found.append({"name": name, "in": "query", "schema": kind})
    return found
