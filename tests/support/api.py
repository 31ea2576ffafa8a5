"""The API as a caller meets it: Chalice's local gateway over the world of ``world.py``, with two merchants."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from chalice.test import Client

from chalicelib import wiring
from chalicelib.domain.access import KEY_SCOPES
from chalicelib.domain.merchant import Merchant
from chalicelib.domain.model import Tenant
from chalicelib.domain.people import PLATFORM, Profile
from chalicelib.domain.risk import RiskRules
from chalicelib.services import sessions
from chalicelib.storage.merchants import Merchants
from infra.sandbox.inprocess import base_url
from tests.support.access import make_entry, make_key, make_user
from tests.support.aws import PREFIX
from tests.support.marks import CVV
from tests.support.storage import OpenVault
from tests.support.world import TENANT, World

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from chalice.test import HTTPResponse

    from chalicelib.domain.access import Role

_OF_ASKING = ("bucket", "api_key_entry")  # rate limits, and when a key was last used
ROOT = Path(__file__).parents[2]
OTHER = Tenant("mer_01OTHER", "test")

ORDER: dict[str, Any] = {"amount": 149_900, "currency": "INR"}
PAYMENT: dict[str, Any] = {"amount": 149_900, "currency": "INR", "method": {"type": "upi", "vpa": "success@sim"}}
CARD: dict[str, Any] = {"card": {"number": "4242424242424242", "expiry_month": 12, "expiry_year": 2030, "cvv": CVV}}
MANUAL: dict[str, Any] = {**PAYMENT, "capture": "manual"}


@dataclass(slots=True)
class Answer:
    """A response, with its problem checked if it is one."""

    status: int
    headers: dict[str, Any]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str | None:
        code: str | None = self.json.get("code")
        return code


class Api:
    """Speaks HTTP to the application."""

    def __init__(self, world: World) -> None:
        from app import app  # noqa: PLC0415 - needs the environment first

        self.world = world
        self.app = app
        self._client = Client(app, stage_name="local", project_dir=str(ROOT))
        merchants = Merchants(PREFIX, OpenVault(), world.clock, 60.0)
        risk = RiskRules(review_countries=frozenset({"NP"}))
        merchants.save(replace(world.merchant(), risk=risk))
        merchants.save(Merchant(OTHER, "Another merchant", (), lookup_key=b"o" * 32))
        live = Tenant(TENANT.merchant_id, "live")
        merchants.save(replace(world.merchant(), tenant=live, accounts=()))
        for merchant_id in (TENANT.merchant_id, OTHER.merchant_id):  # time stands still, and tests ask a lot
            plain = Profile(merchant_id, "")
            scaled = replace(plain, name="Test merchant", plan="scale", version=1)
            world.kit.people.change_profile(plain, scaled, make_entry(TENANT))
        self.key = make_key(TENANT)
        self.other_key = make_key(OTHER)
        self.live_key = make_key(live)
        places: dict[str, str] = {}
        for name, bank in world.bank.settings.items():
            places.setdefault(bank.personality, base_url(world.bank, name))
        settings = replace(world.kit.settings, provider_base_urls=places)
        world.kit = replace(world.kit, merchants=merchants, settings=settings)
        wiring.install(world.kit)
        self._keys = 0
        self._tokens: dict[Role, tuple[float, str]] = {}

    def token(self, role: Role = "owner", merchant_id: str = TENANT.merchant_id) -> str:
        """The access token of somebody who has just signed in."""
        user = make_user(self.world.kit, merchant_id, role)
        return sessions.begin(self.world.kit, user).access

    def credentials(self, scope: str | None) -> str:
        """What may do that: the secret key where a key can, else an owner or somebody of the platform."""
        if scope is None or scope in KEY_SCOPES:
            return self.key
        if scope == "profile:write":  # may sign out
            return self.token()
        role: Role = "platform" if scope.startswith("platform:") else "owner"
        made_at, token = self._tokens.get(role, (0.0, ""))
        if self.world.clock.time - made_at > self.world.kit.settings.access_ttl / 2:
            token = self.token(role, PLATFORM if role == "platform" else TENANT.merchant_id)
            self._tokens[role] = self.world.clock.time, token
        return token

    @property
    def calls(self) -> list[str]:
        """The DynamoDB operations since ``watch``."""
        return [operation for operation, _, _ in self.world.traffic or ()]

    def watch(self) -> None:
        """Note DynamoDB's traffic from here on."""
        self.world.traffic = []

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        key: str | None = "",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send a request; ``body`` as JSON unless it is bytes; ``key=None`` sends no API key."""
        sent = dict(headers or {})
        names = {name.lower() for name in sent}
        if key is not None and "authorization" not in names:
            sent["Authorization"] = f"Bearer {key or self.key}"
        raw = b""
        if body is not None:
            raw = body if isinstance(body, bytes) else json.dumps(body).encode()
            if "content-type" not in names:
                sent["Content-Type"] = "application/json"
        response = self.raw(method, path, sent, raw)
        answer = Answer(response.status_code, {k.lower(): v for k, v in response.headers.items()}, response.body)
        if method != "HEAD":
            check_shape(answer)
        return answer

    def raw(self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes = b"") -> HTTPResponse:
        """What the gateway answers, unchecked: its own refusals have not our shape here."""
        return self._client.http.request(method, path, headers=dict(headers or {}), body=body)

    def get(self, path: str, **kwargs: Any) -> Answer:
        return self.request("GET", path, **kwargs)

    def post(self, path: str, body: Any = None, *, idem: str | None = "", **kwargs: Any) -> Answer:
        """POST with a fresh Idempotency-Key, or the given one, or none."""
        headers = dict(kwargs.pop("headers", {}))
        if idem is not None:
            self._keys += 1
            headers.setdefault("Idempotency-Key", idem or f"key-{self._keys}")
        return self.request("POST", path, body, headers=headers, **kwargs)

    def made(self, path: str, body: Any, **kwargs: Any) -> dict[str, Any]:
        """POST that must succeed; returns the object."""
        answer = self.post(path, body, **kwargs)
        assert answer.status in (200, 201), answer
        shown: dict[str, Any] = answer.json
        return shown

    def paid(self, **changes: Any) -> dict[str, Any]:
        """A payment that has gone all the way."""
        made = self.made("/v1/payments", PAYMENT | changes)
        self.world.run()
        shown: dict[str, Any] = self.get(f"/v1/payments/{made['id']}").json
        return shown

    def snapshot(self) -> dict[str, list[Any]]:
        """Everything stored or queued but what tells that somebody asked, to prove that nothing was written."""
        stored = {
            name: [deepcopy(item) for item in table.items() if item.get("kind", {}).get("S") not in _OF_ASKING]
            for name, table in self.world.dynamo.tables.items()
        }
        return stored | {name: list(queue) for name, queue in self.world.queues.items()}


def check_shape(answer: Answer) -> None:
    """Every answer names its request; every error is a whole problem document."""
    assert answer.headers["railyard-request-id"].startswith("req_")
    if answer.status < 400:
        return
    assert answer.headers["content-type"] == "application/problem+json", answer
    problem = answer.json
    assert set(problem) == {"type", "title", "status", "detail", "code", "param", "request_id"}
    assert problem["status"] == answer.status
    assert problem["type"] == f"https://railyard.dev/errors#{problem['code']}"
    assert problem["request_id"] == answer.headers["railyard-request-id"]


def api_fixture(scope: Any = "module") -> Any:
    """A fixture named ``api``; assign it to a module's attribute."""

    def make() -> Iterator[Api]:
        with World() as world:
            yield Api(world)

    return pytest.fixture(scope=scope, name="api")(make)
