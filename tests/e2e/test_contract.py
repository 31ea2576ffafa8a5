"""The OpenAPI document that the deployed API serves, played against it: API Gateway, Lambda and all."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
import urllib3

from tests.support import contract
from tests.support.marks import EMAIL_DOMAIN, PASSWORD, VPA

if TYPE_CHECKING:
    from collections.abc import Callable

    import requests

    from tests.support.stack import Client

pytestmark = pytest.mark.xdist_group("stack")
EXAMPLES = 2  # of each kind, for each of some seventy operations
_TRIES = 30  # of a request that comes too fast: a new merchant may ask ten times a second


class Merchant:
    """A merchant of its own, so that what is tried out here changes nothing for the other stories."""

    def __init__(self, stack: Client) -> None:
        self._http = urllib3.PoolManager(retries=False, timeout=60)
        self._url = str(stack.local["api_url"])
        body = {"email": f"contract-{uuid4().hex}@{EMAIL_DOMAIN}", "password": PASSWORD, "merchant_name": "Contract"}
        self.person = str(self.made("/v1/auth/signup", body, None)["access_token"])
        self.email = body["email"]

    def made(self, path: str, body: Any, credentials: str | None) -> dict[str, Any]:
        """POST that must work."""
        headers = {"Idempotency-Key": uuid4().hex} | ({"Authorization": f"Bearer {credentials}"} if credentials else {})
        answer = self._patiently(lambda: self._http.request("POST", self._url + path, json=body, headers=headers))
        assert answer.status in (200, 201), (path, answer.status, answer.data)
        shown: dict[str, Any] = answer.json()
        return shown

    @staticmethod
    def _patiently(ask: Callable[[], urllib3.BaseHTTPResponse]) -> urllib3.BaseHTTPResponse:
        """The answer, and where that is 429 the next one, as long as it is worth waiting for."""
        answer = ask()
        for _ in range(_TRIES):
            if answer.status != 429 or float(answer.headers["Retry-After"]) > 1:
                break
            time.sleep(0.2)
            answer = ask()
        return answer

    def key(self) -> str:
        """A new secret key, with a bucket of its own."""
        return str(self.made("/v1/api-keys", {"name": "contract"}, self.person)["secret"])

    def log_in(self) -> str:
        """A new session's access token."""
        return str(self.made("/v1/auth/login", {"email": self.email, "password": PASSWORD}, None)["access_token"])

    def send(self, prepared: requests.PreparedRequest, credentials: str) -> tuple[int, dict[str, str], bytes]:
        """Ask, and again where it comes too fast; what was made up for the path is sent as it is."""
        headers = contract.headers_of(prepared, credentials)
        headers.pop("Content-Length", None)
        answer = self._patiently(lambda: self._http.request(
            str(prepared.method), self._url + prepared.path_url, body=contract.body_of(prepared) or None,
            headers=headers, redirect=False,
        ))  # fmt: skip
        return answer.status, dict(answer.headers), answer.data


def test_the_deployed_api_keeps_what_its_document_promises(stack: Client) -> None:
    document = urllib3.request("GET", f"{stack.local['api_url']}/openapi.json").json()
    merchant = Merchant(stack)
    key = merchant.key()
    order = merchant.made("/v1/orders", {"amount": 100, "currency": "INR"}, key)
    payment = merchant.made(
        "/v1/payments", {"amount": 100, "currency": "INR", "method": {"type": "upi", "vpa": VPA}}, key
    )
    ids = {"order_id": order["id"], "payment_id": payment["id"]}
    asked = 0
    for name, operation in contract.operations(document):
        scope = operation.definition.raw.get("x-required-scope")
        if name in ("log_out", "close_page_session", "change_me"):  # end the session that asks
            credentials = merchant.log_in()
        else:
            credentials = merchant.person if scope is None or not _is_for_keys(scope) else merchant.key()
        asked += contract.play(operation, lambda prepared, _, c=credentials: merchant.send(prepared, c), ids, EXAMPLES)
    assert asked > 200


def _is_for_keys(scope: str) -> bool:
    return not scope.startswith(("keys:", "users:", "profile:", "platform:", "audit:")) and scope != "merchant:write"
