"""The contract: whatever is asked, the answer is one that the OpenAPI document promises, and never a 5xx."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from schemathesis.core.failures import Failure, FailureGroup

from chalicelib.api.openapi import build, routes
from infra import openapi
from tests.support import contract
from tests.support.access import make_user
from tests.support.api import CARD, ORDER, PAYMENT, Api, api_fixture
from tests.support.world import TENANT

if TYPE_CHECKING:
    from pathlib import Path

    import requests

# Good requests of the operations whose schema says less than there is to know.
BODIES: dict[str, Any] = {
    "create_order": ORDER, "create_payment": PAYMENT, "create_token": CARD, "simulate_routing": PAYMENT,
    "create_refund": {"amount": 1}, "resolve_payment": {"outcome": "failed", "note": "n"},
    "set_provider_breaker": {"method": "upi", "state": "auto", "reason": "r"},
    "create_api_key": {"name": "k", "type": "publishable"}, "change_merchant": {"origins": ["https://shop.example"]},
}  # fmt: skip
api = api_fixture("module")
DOCUMENT = build(contract.BASE)
OPERATIONS = dict(contract.operations(DOCUMENT))
EXAMPLES = 5  # of each kind; the stack is asked other ones


@pytest.fixture(scope="module")
def ids(api: Api) -> dict[str, str]:
    """Objects that are there, so that not every path ends in a 404."""
    paid = api.paid(customer={"email": "asha@canary.example"})
    refund = api.made(f"/v1/payments/{paid['id']}/refunds", {"amount": 1})
    key = api.request("POST", "/v1/api-keys", {"name": "contract"}, key=api.credentials("keys:write")).json
    return {
        "payment_id": paid["id"], "refund_id": refund["id"], "order_id": api.made("/v1/orders", ORDER)["id"],
        "token_id": api.made("/v1/tokens", CARD)["id"], "account_id": "acct_simulator", "provider": "simulator",
        "account": "acct_simulator", "customer_id": paid["customer"]["id"], "key_id": key["id"],
        "user_id": make_user(api.world.kit, TENANT.merchant_id, "viewer").id, "merchant_id": "mer_01OTHER",
    }  # fmt: skip


def test_every_operation_is_played() -> None:
    assert set(OPERATIONS) == {route.name for route in routes()}


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_answer_is_one_that_the_document_promises(api: Api, ids: dict[str, str], name: str) -> None:
    def send(prepared: requests.PreparedRequest, scope: str | None) -> tuple[int, dict[str, str], bytes]:
        api.world.clock.time += 1  # nobody is asked too fast
        headers = contract.headers_of(prepared, api.credentials(scope))
        said = api.raw(str(prepared.method), prepared.path_url, headers, contract.body_of(prepared))
        return said.status_code, {str(key): str(value) for key, value in said.headers.items()}, said.body

    assert contract.play(OPERATIONS[name], send, ids, EXAMPLES, BODIES.get(name)) >= 1


# -- the document in the repository ----------------------------------------------------------------


def test_the_document_in_the_repository_is_the_one_that_is_served() -> None:
    assert openapi.drift(openapi.FILE) == []


def test_a_drift_is_found_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    changed = tmp_path / "openapi.json"
    changed.write_text(openapi.text().replace('"List orders, newest first."', '"List them."'), encoding="utf-8")
    monkeypatch.setattr(openapi, "FILE", changed)
    assert openapi.main(["--check"]) == 1
    shown = capsys.readouterr().err
    assert "List them." in shown
    assert "python -m infra.openapi" in shown
    assert openapi.main([]) == 0
    assert openapi.main(["--check"]) == 0
    changed.unlink()
    assert openapi.main(["--check"]) == 1


def test_a_promise_that_is_not_kept_is_found(api: Api, ids: dict[str, str]) -> None:
    """A harness that let everything through would be as green."""

    def says(status: int, body: bytes) -> Any:
        headers = {"Content-Type": "application/json", "Railyard-Request-Id": "req_1"}
        return lambda *_: (status, headers, body)

    operation = OPERATIONS["get_merchant"]
    good = api.get("/v1/merchant").body
    for status, body in ((500, b"{}"), (418, b"{}"), (200, b"{}"), (200, good.replace(b'"scale"', b'"free"'))):
        with pytest.raises((Failure, FailureGroup)):
            contract.play(operation, says(status, body), ids, 2)
