"""Card tokens through the door: what goes in, what is shown, what is paid, and that no number stays anywhere."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from chalicelib.api import outputs, schemas
from chalicelib.api.idempotency import fingerprint
from chalicelib.domain.cards import fingerprint as card_fingerprint
from tests.support.api import CARD, ORDER, PAYMENT, Api, api_fixture
from tests.support.canary import watching
from tests.support.marks import AMEX_CVV, CVV
from tests.support.world import TENANT

if TYPE_CHECKING:
    from collections.abc import Callable

api = api_fixture("function")

TOKENS = "/v1/tokens"
NUMBER, AMEX = "4242424242424242", "378282246310005"


def card(**changes: Any) -> dict[str, Any]:
    """A request's body; None leaves a field out."""
    fields = CARD["card"] | changes
    return {"card": {name: value for name, value in fields.items() if value is not None}}


def paying(token: str, **changes: Any) -> dict[str, Any]:
    return {**PAYMENT, "method": {"type": "card", "token": token}, **changes}


# -- making one ------------------------------------------------------------------------------------


def test_a_card_becomes_a_token(api: Api) -> None:
    answer = api.post(TOKENS, card(name="Asha Rao"), idem=None)
    assert answer.status == 201
    shown = outputs.Token.model_validate_json(answer.body)
    assert json.loads(shown.model_dump_json()) == answer.json
    assert answer.json == {
        "id": shown.id, "object": "token", "mode": "test", "type": "card",
        "card": {
            "network": "visa", "last4": "4242", "bin": "424242", "expiry_month": 12, "expiry_year": 2030,
            "fingerprint": card_fingerprint(b"k" * 32, NUMBER),
        },
        "created_at": "2026-11-21T04:23:20.000Z", "expires_at": "2026-11-22T04:23:20.000Z",
    }  # fmt: skip
    assert api.get(f"{TOKENS}/{shown.id}").json == answer.json


@pytest.mark.parametrize(
    "number", ["4242 4242 4242 4242", "4242-4242-4242-4242", "4 242424242424242", "42 42-42 42-42 42 42 42"]
)
def test_spaces_and_dashes_do_not_matter(api: Api, number: str) -> None:
    plain, spaced = api.made(TOKENS, card()), api.made(TOKENS, card(number=number))
    assert plain["card"] == spaced["card"]
    assert plain["id"] != spaced["id"]


def test_a_card_is_known_again_by_the_same_merchant_and_mode_only(api: Api) -> None:
    api.world.clock.time += 1
    made = [api.made(TOKENS, card(), key=key)["card"]["fingerprint"] for key in (api.key, api.key, api.other_key)]
    assert made[0] == made[1] != made[2]
    assert api.made(TOKENS, card(number="4111111111111111"))["card"]["fingerprint"] != made[0]


def test_a_security_code_and_a_name_are_not_needed(api: Api) -> None:
    assert api.post(TOKENS, card(cvv=None)).status == 201
    assert api.post(TOKENS, card(number=AMEX, cvv=AMEX_CVV)).json["card"]["network"] == "amex"


def test_a_repeat_is_another_token_whatever_the_idempotency_key(api: Api) -> None:
    before = api.snapshot()
    first, second = (api.post(TOKENS, card(), idem="same") for _ in range(2))
    assert first.json["id"] != second.json["id"]
    assert "idempotency-replayed" not in second.headers
    rows = [row for row in api.snapshot()["railyard-local-guards"] if row not in before["railyard-local-guards"]]
    assert [row["kind"]["S"] for row in rows] == ["token", "token"]


# -- what is refused -------------------------------------------------------------------------------

FULL = "card.number"
WRONG: list[tuple[Any, str | None, str]] = [
    ({}, "card", "missing_field"),
    ({"card": None}, "card", "invalid_field"),
    ({"card": NUMBER}, "card", "invalid_field"),
    ({"card": []}, "card", "invalid_field"),
    ({"number": NUMBER}, "card", "missing_field"),
    (card() | {"type": "card"}, "type", "unknown_field"),
    (card(pin="1234"), "card.pin", "unknown_field"),
    ({"card": CARD["card"] | {NUMBER: "x"}}, "card", "unknown_field"),
    (card(number=None), FULL, "missing_field"),
    (card(number=int(NUMBER)), FULL, "invalid_field"),
    *(
        (card(number=wrong), FULL, "card_number_invalid")
        for wrong in ["", " ", "4242424242424241", "42424242424", NUMBER + "0000", "x" + NUMBER, NUMBER + "\n",
                      "4242.4242.4242.4242", "\uff14" + "2" * 15, "\u0664" + "\u0661" * 15, "4242\u00a04242 4242 4242",
                      "0" * 11, "4" * 1000]
    ),
    *((card(expiry_month=wrong), "card.expiry_month", "invalid_field") for wrong in [0, 13, -1, "12", 1.5, True]),
    (card(expiry_month=None), "card.expiry_month", "missing_field"),
    *((card(expiry_year=wrong), "card.expiry_year", "invalid_field") for wrong in [30, 1999, 2100, "2030", 20_300]),
    (card(expiry_year=2025), "card.expiry_year", "card_expired"),
    (card(expiry_year=2026, expiry_month=10), "card.expiry_year", "card_expired"),
    *((card(cvv=wrong), "card.cvv", "invalid_field") for wrong in ["", "12", "1234", "12345", "12a", "\u0661\u0661\u0661", 123]),
    (card(number=AMEX, cvv=CVV), "card.cvv", "invalid_field"),
    (card(name=""), "card.name", "invalid_field"),
    (card(name=NUMBER), "card.name", "card_number_not_allowed"),
    (card(name="a\u0000"), "card.name", "invalid_field"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "param", "code"), WRONG)
def test_a_wrong_card_is_refused_by_field_and_never_repeated(api: Api, body: Any, param: str | None, code: str) -> None:
    before = api.snapshot()
    answer = api.post(TOKENS, body)
    assert (answer.status, answer.code, answer.json["param"]) == (422, code, param), answer
    said = {name: value for name, value in answer.json.items() if name != "request_id"}  # which is any hex
    assert "4242" not in json.dumps(said)
    assert api.snapshot() == before


def test_a_card_is_good_until_its_month_is_over(api: Api) -> None:
    this_month = card(expiry_month=11, expiry_year=2026)
    api.world.clock.time = 1_796_083_199.0  # the last second of November 2026, UTC
    assert api.post(TOKENS, this_month).status == 201
    api.world.clock.time += 1
    assert api.post(TOKENS, this_month).code == "card_expired"


# -- reading and paying ----------------------------------------------------------------------------


def test_a_token_is_not_there_for_others_nor_after_its_time(api: Api) -> None:
    token = api.made(TOKENS, card())
    url = f"{TOKENS}/{token['id']}"
    for key in (api.other_key, api.live_key):
        answer = api.get(url, key=key)
        assert (answer.status, answer.code) == (404, "token_not_found")
        assert api.post("/v1/payments", paying(token["id"]), key=key).code == "token_not_found"
    api.world.clock.time += api.world.kit.settings.token_ttl - 1
    assert api.get(url).status == 200
    api.world.clock.time += 1  # the row is still there: TTL deletes late
    assert api.get(url).code == "token_not_found"
    before = api.snapshot()
    answer = api.post("/v1/payments", paying(token["id"]))
    assert (answer.status, answer.code, answer.json["param"]) == (422, "token_not_found", "method.token")
    assert api.snapshot() == before


def test_a_token_pays_more_than_once_and_shows_what_people_know_a_card_by(api: Api) -> None:
    token = api.made(TOKENS, card(number="4111 1111 1111 1111", expiry_month=3))
    shown = {"type": "card", "token": token["id"], "network": "visa", "last4": "1111", "bin": "411111"}
    payments = [api.paid(method={"type": "card", "token": token["id"]}) for _ in range(2)]
    assert [(paid["status"], paid["method"]) for paid in payments] == [("succeeded", shown)] * 2
    kept = api.world.kit.queries.payment(TENANT, payments[0]["id"])
    assert kept is not None
    assert kept.method == shown | {
        "fingerprint": token["card"]["fingerprint"], "expiry_month": "03", "expiry_year": "2030",
    }  # fmt: skip


def test_the_banks_test_cards_work_through_tokens(api: Api) -> None:
    token = api.made(TOKENS, card(number="4000000000009995"))
    paid = api.paid(method={"type": "card", "token": token["id"]})
    assert (paid["status"], paid["error"]["code"]) == ("failed", "insufficient_funds")


def test_lists_know_cards(api: Api) -> None:
    token = api.made(TOKENS, card())
    by_card = api.made("/v1/payments", paying(token["id"]))
    api.made("/v1/payments", PAYMENT)
    for name in ("method", "method.type"):
        assert [one["id"] for one in api.get(f"/v1/payments?{name}=card").json["data"]] == [by_card["id"]]


def test_a_create_is_replayed_after_its_token_has_expired(api: Api) -> None:
    token = api.made(TOKENS, card())
    first = api.post("/v1/payments", paying(token["id"]), idem="k")
    api.world.clock.time += timedelta(days=1, seconds=1).total_seconds()
    again = api.post("/v1/payments", paying(token["id"]), idem="k")
    assert (again.status, again.body, again.headers["idempotency-replayed"]) == (201, first.body, "true")
    assert api.post("/v1/payments", paying(token["id"], amount=1), idem="k").code == "idempotency_key_reused"
    assert api.post("/v1/payments", paying(token["id"]), idem="new").code == "token_not_found"


# -- the canary ------------------------------------------------------------------------------------


def _ask_for_trouble(api: Api) -> None:
    """Put the number and the code into every place that somebody might."""
    wrong_bodies: list[dict[str, Any]] = [
        card(number=AMEX, cvv=AMEX_CVV, expiry_year=2020), card(number=AMEX + "1", cvv=AMEX_CVV),
        card(number=AMEX, cvv=AMEX_CVV + "0"), card(number=AMEX, cvv=AMEX_CVV, name=AMEX),
        card(number=AMEX, cvv=AMEX_CVV, extra=AMEX), {"card": AMEX, "cvv": AMEX_CVV}, {AMEX: AMEX_CVV},
    ]  # fmt: skip
    for body in wrong_bodies:
        assert api.post(TOKENS, body).status == 422
    broken = json.dumps(card(number=AMEX, cvv=AMEX_CVV)).encode()
    for raw in (broken[:-1], broken + b"\xff", broken.replace(b'"cvv"', b'"number"')):
        assert api.post(TOKENS, raw).status == 400
    assert api.post(TOKENS, broken, headers={"Content-Type": "text/plain"}).status == 415
    assert api.post(TOKENS, broken, key=None).status == 401
    assert api.post("/v1/payments", {**PAYMENT, "method": {"type": "card", "token": AMEX}}).status == 422
    assert (
        api.post("/v1/payments", {**PAYMENT, "method": {"type": "card", "number": AMEX, "cvv": AMEX_CVV}}).status == 422
    )
    assert api.post("/v1/orders", {**ORDER, "receipt": AMEX}).status == 422


def _break(api: Api) -> None:
    """Let the write fail, so that an exception is logged while the number is in the request's hands."""

    class Broken:
        def __getattr__(self, name: str) -> Callable[..., Any]:
            raise RuntimeError("the table is on fire")

    whole = api.world.kit
    broken: Any = Broken()
    api.world.bring(replace(whole, store=broken))
    assert api.post(TOKENS, card(number=AMEX, cvv=AMEX_CVV)).status == 500
    api.world.bring(whole)


def test_a_card_number_and_its_code_get_nowhere(api: Api) -> None:
    with watching(api) as watch:
        answer = api.post(TOKENS, card(number="3782 822463 10005", cvv=AMEX_CVV, name="Asha"))
        paid = api.paid(method={"type": "card", "token": answer.json["id"]})
        assert paid["status"] == "succeeded"
        api.made(f"/v1/payments/{paid['id']}/refunds", {})
        api.world.run()
        refused = api.paid(method={"type": "card", "token": api.made(TOKENS, card(number="4000000000009995"))["id"]})
        assert refused["status"] == "failed"
        _ask_for_trouble(api)
        _break(api)
        # We look in the right places: the token is in the tables, in what the provider was told, and in the log.
        places = {line.partition(":")[0] for line in watch.found(answer.json["id"])}
        assert {"railyard-local-guards", "railyard-local-payments", "provider"} <= places
        assert watch.found("the table is on fire")
        bodies = [
            fingerprint(card(number=AMEX, cvv=AMEX_CVV)),
            fingerprint(card(number="3782 822463 10005", cvv=AMEX_CVV, name="Asha")),
        ]
        for secret in (AMEX, "3782 822463 10005", AMEX_CVV, "4000000000009995", *bodies):
            assert watch.found(secret) == []
    shown = answer.body.decode() + json.dumps(paid)
    assert AMEX not in shown
    assert AMEX_CVV not in json.dumps(answer.json["card"])


def test_a_card_does_not_show_when_its_request_is_printed() -> None:
    body = schemas.TokenIn.model_validate(card(number=AMEX, cvv=AMEX_CVV))
    assert body.card.number == AMEX
    for secret in (AMEX, AMEX_CVV):
        assert secret not in f"{body!r} {body}"
