"""The contract: the OpenAPI document, the error codes, docs/api.md and the source agree."""

from __future__ import annotations

import ast
import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from chalicelib.api import outputs, schemas
from chalicelib.api.problems import CODES, TYPE_BASE, title_of
from chalicelib.domain.errors import ErrorCode
from chalicelib.domain.states import OrderStatus
from tests.support.api import ORDER, PAYMENT, ROOT, Api, api_fixture
from tests.support.aws import template

if TYPE_CHECKING:
    from collections.abc import Iterator

api = api_fixture("module")


@pytest.fixture(scope="module")
def document(api: Api) -> dict[str, Any]:
    answer = api.request("GET", "/openapi.json", key=None)
    assert answer.status == 200
    assert api.request("GET", "/openapi.json", key=None).body == answer.body
    shown: dict[str, Any] = answer.json
    return shown


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref":
                yield value
            else:
                yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def resolve(document: dict[str, Any], reference: str) -> Any:
    node: Any = document
    for part in reference.removeprefix("#/").split("/"):
        node = node[part]
    return node


def test_every_route_is_in_the_document_and_nothing_else(api: Api, document: dict[str, Any]) -> None:
    served = {
        (path, method.lower())
        for path, methods in api.app.routes.items()
        for method, entry in methods.items()
        if not path.startswith(("/sign-in", "/static/"))  # pages are no API
        and method not in ("HEAD", "OPTIONS")
        and not entry.view_function.__name__.startswith("refuse")
    }
    assert {(path, method) for path, item in document["paths"].items() for method in item} == served
    assert len(served) == 67


def test_every_reference_resolves(document: dict[str, Any]) -> None:
    found = set(references(document))
    assert len(found) > 40
    for reference in found:
        assert resolve(document, reference)


def test_operations_are_named_once_and_complete(document: dict[str, Any]) -> None:
    operations = [operation for item in document["paths"].values() for operation in item.values()]
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names)
    for path, item in document["paths"].items():
        for operation in item.values():
            assert operation["summary"].endswith(".")
            declared = {p["name"] for p in operation["parameters"] if p["in"] == "path"}
            assert declared == set(re.findall(r"{(\w+)}", path))
            assert "500" in operation["responses"]
            assert ("401" in operation["responses"]) or operation["security"] == []
            assert operation.get("x-required-scope") or operation["security"] == []


def test_idempotency_and_waiting_are_declared(document: dict[str, Any]) -> None:
    keyed = {
        path
        for path, item in document["paths"].items()
        for operation in item.values()
        if any(p["name"] == "Idempotency-Key" and p["required"] for p in operation["parameters"])
    }
    one = "/v1/payments/{payment_id}"
    assert keyed == {
        "/v1/orders", "/v1/payments", f"{one}/capture", f"{one}/cancel", f"{one}/review", f"{one}/refunds",
        "/v1/provider-accounts", "/v1/provider-accounts/{account_id}/rotate-secret",
    }  # fmt: skip
    create = document["paths"]["/v1/payments"]["post"]
    assert "Prefer" in {p["name"] for p in create["parameters"]}
    assert set(create["responses"]["201"]["headers"]) == {
        "Railyard-Request-Id",
        "Idempotency-Replayed",
        "Preference-Applied",
    }


def test_schemas_are_json_schema(document: dict[str, Any]) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    for item in document["paths"].values():
        for operation in item.values():
            for parameter in operation["parameters"]:
                jsonschema.Draft202012Validator.check_schema(parameter["schema"])
                assert not {"ge", "le", "anyOf", "$ref"} & set(parameter["schema"])
    whole = {**document, "$ref": "#/components/schemas/PaymentIn"}
    jsonschema.Draft202012Validator(whole).validate(PAYMENT)
    assert list(jsonschema.Draft202012Validator(whole).iter_errors(PAYMENT | {"amount": 0}))
    whole["$ref"] = "#/components/schemas/OrderIn"
    jsonschema.Draft202012Validator(whole).validate(ORDER)


def test_nothing_secret_is_in_the_document(api: Api, document: dict[str, Any]) -> None:
    text = json.dumps(document)
    assert api.key not in text
    assert "acct_simulator" not in text


def test_inputs_refuse_what_they_do_not_know() -> None:
    for name in (
        "Empty",
        "OrderIn",
        "OrderLine",
        "PaymentIn",
        "Customer",
        "Upi",
        "Netbanking",
        "Wallet",
        "Card",
        "CardIn",
        "TokenIn",
        "AccountIn",
        "RotateIn",
        "CaptureIn",
        "RefundIn",
        "ReviewIn",
        "RiskIn",
        "RoutingIn",
        "SimulationIn",
        "ResolveIn",
        "NoQuery",
        "PageQuery",
        "PaymentQuery",
        "OrderQuery",
        "RefundQuery",
    ):
        assert getattr(schemas, name).model_config["extra"] == "forbid"
        assert getattr(schemas, name).model_config["strict"] is True


# -- codes -----------------------------------------------------------------------------------------


def raised_codes() -> set[str]:
    """Every problem code that is written in the source."""
    found: set[str] = set()
    places = {
        "InvalidRequest": 0,
        "NotFoundError": 0,
        "StateConflict": 0,
        "PydanticCustomError": 0,
        "RailyardError": 0,
        "Refused": 1,
        "_refuse": None,
        "refuse": 2,
    }
    for file in (ROOT / "chalicelib").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            place = places.get(name)
            if place is None or len(node.args) <= place:
                continue
            code = node.args[place]
            if isinstance(code, ast.Constant):
                found.add(str(code.value))
            elif isinstance(code, ast.JoinedStr):
                found.add("".join(str(part.value) if isinstance(part, ast.Constant) else "*" for part in code.values))
    return found


def test_every_code_that_is_raised_is_in_the_table() -> None:
    filled = {
        "order_*": {f"order_{status}" for status in (OrderStatus.PAID, OrderStatus.EXPIRED, OrderStatus.CANCELED)},
        "*_changed": {"risk_changed", "routing_changed"},
        "payment_not_*": {"payment_not_capturable", "payment_not_cancelable"},
    }
    codes: set[str] = set()
    for code in raised_codes():
        codes |= filled.get(code, {code})
    assert codes <= set(CODES), codes - set(CODES)


def test_gateways_own_answers_use_the_same_codes_and_titles() -> None:
    assert template()["Parameters"]["ErrorTypeBase"]["Default"] == TYPE_BASE
    for resource in template()["Resources"].values():
        if resource.get("Type") != "AWS::ApiGateway::GatewayResponse":
            continue
        text = resource["Properties"]["ResponseTemplates"]["application/json"]
        problem = json.loads(text.replace("${ErrorTypeBase}", TYPE_BASE))
        assert problem["code"] in CODES
        assert problem["title"] == title_of(problem["code"])
        assert set(problem) == {"type", "title", "status", "detail", "code", "param", "request_id"}


# -- docs/api.md -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def manual() -> str:
    return (ROOT / "docs" / "api.md").read_text(encoding="utf-8")


def test_the_manual_has_every_route(document: dict[str, Any], manual: str) -> None:
    for path, item in document["paths"].items():
        for method in item:
            shown = re.sub(r"{(\w+_)?id}", "{id}", path)
            assert re.search(rf"{method.upper()} {re.escape(shown)}(?![\w/{{])", manual), (method, path)


def test_the_manual_has_every_code_and_no_other(manual: str) -> None:
    listed = dict(re.findall(r"^\| `(\w+)` \| (?:[\d, ]+) \| (.+?) \|$", manual, re.MULTILINE))
    assert set(listed) == set(CODES)
    assert listed == dict(CODES)
    failures = set(re.findall(r"^\| `(\w+)` \| (?:yes|no|depends) \|", manual, re.MULTILINE))
    assert failures == {str(code) for code in ErrorCode}


def test_the_manual_names_every_field_of_every_object(manual: str) -> None:
    for name in ("Order", "Payment", "Refund", "Attempt", "Operation", "Event", "Journal", "Token", "CardShown",
                 "ProviderAccount", "ConnectionTest", "Risk", "RiskHit", "RiskSettings", "RiskRules", "RiskLists",
                 "RiskLimit", "RoutingSettings", "RoutingRule", "RoutingWhen", "Maintenance", "Price", "RoutingSimulation", "Experiment", "Guardrail", "ExperimentResult", "Difference", "RetryPolicy", "Again"):  # fmt: skip
        for field in (info.alias or field for field, info in getattr(outputs, name).model_fields.items()):
            assert f"`{field}`" in manual or f'"{field}"' in manual, (name, field)
    for name in (
        "OrderIn",
        "PaymentIn",
        "Customer",
        "CaptureIn",
        "RefundIn",
        "ReviewIn",
        "RiskIn",
        "RoutingIn",
        "SimulationIn",
        "ResolveIn",
        "PaymentQuery",
        "OrderQuery",
        "RefundQuery",
        "Upi",
        "Netbanking",
        "Wallet",
        "Card",
        "CardIn",
        "TokenIn",
        "AccountIn",
        "RotateIn",
        "OrderLine",
    ):
        for field, info in getattr(schemas, name).model_fields.items():
            assert f"`{info.alias or field}`" in manual or f'"{field}"' in manual, (name, field)
