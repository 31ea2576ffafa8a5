"""How an intent is found again at Stripe: replayed answers, search, lists; and the sandbox's own idempotency."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from chalicelib.domain.outcome import Charge, ChargeStatus, NotFound, NotSent, Unknown
from chalicelib.providers.base import BadSignature
from chalicelib.providers.http import UnknownError
from chalicelib.providers.stripe_wire import STATUSES
from tests.contract.browser import Return
from tests.contract.sandbox_world import AMOUNT, NOW, World
from tests.contract.stripe_script import (
    ACCOUNT,
    CREATE,
    GET_INTENT,
    INTENT,
    KNOWN,
    LIST,
    MADE,
    REPLAYED,
    SEARCH,
    Said,
    Script,
    card,
    create,
    declined,
    error,
    intent_of,
    provider,
    rows,
)

if TYPE_CHECKING:
    from chalicelib.domain.outcome import ChargeLookup

# replays


@pytest.mark.parametrize("status", STATUSES)
def test_a_replay_only_tells_which_intent_it_was(status: str) -> None:
    stale = (200, intent_of("requires_action"), REPLAYED)
    outcome, script = create(stale, then={GET_INTENT: (200, intent_of(status, amount_received=AMOUNT))})
    assert isinstance(outcome, Charge)
    assert outcome.status is STATUSES[status]
    assert [request.what for request in script.requests] == [CREATE, GET_INTENT]


def test_a_replayed_decline_may_have_been_paid_since() -> None:
    status, body = declined(code="card_declined")
    paid = (200, intent_of("succeeded", amount_received=AMOUNT))
    outcome, _ = create((status, body, REPLAYED), then={GET_INTENT: paid})
    assert isinstance(outcome, Charge)
    assert (outcome.status, outcome.captured) == (ChargeStatus.SUCCEEDED, AMOUNT)


@pytest.mark.parametrize(
    "look_up", [UnknownError("read_timeout"), (500, {}), (404, error()), (400, error()), (429, {})]
)
@pytest.mark.parametrize(
    "first", [(200, intent_of("succeeded", amount_received=AMOUNT)), declined(code="card_declined")]
)
def test_a_replay_without_a_look_up_is_pending(first: tuple[int, object], look_up: Said) -> None:
    outcome, _ = create((*first, REPLAYED), then={GET_INTENT: look_up})
    assert isinstance(outcome, Charge)
    assert (outcome.status, outcome.provider_reference, outcome.captured) == (ChargeStatus.PENDING, INTENT, 0)
    assert (outcome.error, outcome.next_action) == (None, None)


@pytest.mark.parametrize("first", [(500, error(type="api_error"), REPLAYED), (400, error(type="idempotency_error"))])
def test_a_stored_failure_is_looked_up(first: Said) -> None:
    found = rows(intent_of("succeeded", amount_received=AMOUNT))
    outcome, script = create(first, then={SEARCH: found})
    assert isinstance(outcome, Charge)
    assert (outcome.status, outcome.provider_reference) == (ChargeStatus.SUCCEEDED, INTENT)
    outcome, script = create(first, then={SEARCH: rows(), LIST: rows()})
    assert isinstance(outcome, Unknown)
    assert [request.what for request in script.requests] == [CREATE, SEARCH, LIST]
    assert "created[gte]" not in script.requests[-1].query


# looking up


def _by_reference(script: Script) -> ChargeLookup:
    return provider(script).fetch(ACCOUNT, replace(KNOWN, provider_reference=None))


def test_search_asks_for_our_reference_and_checks_what_it_finds() -> None:
    other = intent_of("succeeded", id="pi_2", metadata={"reference": "pay_other-01"})
    script = Script({SEARCH: [rows(other, intent_of("requires_capture"))]})
    found = _by_reference(script)
    assert isinstance(found, Charge)
    assert (found.status, found.provider_reference) == (ChargeStatus.AUTHORIZED, INTENT)
    assert script.requests[0].query == {
        "query": f"metadata['reference']:'{MADE.reference}'",
        "expand[]": "data.latest_charge",
    }


@pytest.mark.parametrize("searched", [rows(), (400, error()), (404, error()), (200, {"data": "nothing"})])
def test_what_search_does_not_show_is_in_the_list_of_its_time(searched: Said) -> None:
    first, second = rows(intent_of("succeeded", id="pi_9", metadata={}), more=True), rows(intent_of("processing"))
    script = Script({SEARCH: [searched], LIST: [first, second]})
    found = _by_reference(script)
    assert isinstance(found, Charge)
    assert (found.status, found.provider_reference) == (ChargeStatus.PENDING, INTENT)
    begin = int(NOW.timestamp())
    assert script.requests[1].query == {
        "created[gte]": str(begin - 300), "created[lt]": str(begin + 86_400), "expand[]": "data.latest_charge",
        "limit": "100",
    }  # fmt: skip
    assert script.requests[2].query["starting_after"] == "pi_9"


def test_only_the_list_proves_that_there_is_nothing() -> None:
    assert isinstance(_by_reference(Script({SEARCH: [rows()], LIST: [rows()]})), NotFound)
    assert isinstance(_by_reference(Script({SEARCH: [(400, error())], LIST: [rows()]})), NotFound)


@pytest.mark.parametrize(
    "listed",
    [
        (400, error()),
        (404, error()),
        (500, {}),
        UnknownError("read_timeout"),
        (200, {}),
        (200, {"data": [], "has_more": True}),
        (200, {"data": [{"id": "pi_9", "object": "payment_intent"}]}),
        (200, {"data": [{"object": "payment_intent"}], "has_more": True}),
    ],
)
def test_a_list_that_does_not_answer_proves_nothing(listed: Said) -> None:
    assert isinstance(_by_reference(Script({SEARCH: [rows()], LIST: [listed]})), Unknown)


def test_a_list_without_an_end_proves_nothing() -> None:
    page = rows(intent_of("succeeded", id="pi_9", metadata={}), more=True)
    script = Script({SEARCH: [rows()], LIST: [page] * 100})
    assert isinstance(_by_reference(script), Unknown)
    assert len(script.requests) == 11


def test_a_search_that_does_not_answer_says_nothing() -> None:
    lost: list[Said] = [UnknownError("read_timeout"), (500, {})]
    for said in lost:
        assert isinstance(_by_reference(Script({SEARCH: [said]})), Unknown)
    assert isinstance(_by_reference(Script({SEARCH: [(429, {})]})), NotSent)


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        (["canceled", "succeeded", "processing"], 1),
        (["processing", "requires_capture"], 1),
        (["canceled", "processing"], 1),
    ],
)
def test_of_several_intents_the_one_that_holds_money_counts(statuses: list[str], expected: int) -> None:
    intents = [intent_of(status, id=f"pi_{n}", created=n) for n, status in enumerate(statuses)]
    found = _by_reference(Script({SEARCH: [rows(*intents)]}))
    assert isinstance(found, Charge)
    assert found.provider_reference == f"pi_{expected}"


def test_a_fetched_intent_shows_what_was_given_back() -> None:
    charged = {"id": "ch_1", "object": "charge", "amount_refunded": 500}
    paid = intent_of("succeeded", amount_received=AMOUNT, latest_charge=charged)
    script = Script({GET_INTENT: [(200, paid)]})
    found = provider(script).fetch(ACCOUNT, KNOWN)
    assert isinstance(found, Charge)
    assert (found.captured, found.refunded) == (AMOUNT, 500)
    assert script.requests[0].query == {"expand[]": "latest_charge"}


def test_ids_and_references_are_quoted_into_paths() -> None:
    script = Script({"GET /payment_intents/..%2Frefunds%3Fx": [(404, error())]})
    assert isinstance(provider(script).fetch(ACCOUNT, replace(KNOWN, provider_reference="../refunds?x")), NotFound)
    script = Script({SEARCH: [rows()], LIST: [rows()]})
    known = replace(KNOWN, provider_reference=None, reference="x' OR metadata['y']:'z")
    assert isinstance(provider(script).fetch(ACCOUNT, known), NotFound)
    assert script.requests[0].query["query"] == r"metadata['reference']:'x\' OR metadata[\'y\']:\'z'"


def test_an_intent_of_another_kind_of_object_is_unknown() -> None:
    for body in ({}, {"id": INTENT, "object": "charge"}, {"object": "payment_intent"}):
        assert isinstance(provider(Script({GET_INTENT: [(200, body)]})).fetch(ACCOUNT, KNOWN), Unknown)


def test_a_return_must_name_the_intent_that_we_know() -> None:
    back = {
        "payment_intent": INTENT,
        "payment_intent_client_secret": f"{INTENT}_secret_1",
        "redirect_status": "succeeded",
    }
    provider(Script({})).verify_return(ACCOUNT, KNOWN, back)
    for known, params in (
        (replace(KNOWN, provider_reference=None), back),
        (replace(KNOWN, provider_reference=None), {}),
        (replace(KNOWN, provider_reference=""), {"payment_intent": ""}),
        (replace(KNOWN, provider_reference="pi_2"), back),
        (KNOWN, {}),
    ):
        with pytest.raises(BadSignature):
            provider(Script({})).verify_return(ACCOUNT, known, params)


# the sandbox itself


def test_the_sandbox_gives_the_first_answer_again_even_a_500() -> None:
    world = World("stripe")
    url, headers = f"{world.account.base_url}/payment_intents", {"authorization": "Bearer sk_test_sandbox"}
    body = b"amount=5000&currency=inr&confirm=true&payment_method=pm_card_visa"
    keyed = {**headers, "idempotency-key": "k1"}
    world.chaos(operation="create", fault="technical_after")
    first = world.http.request("POST", url, headers=keyed, body=body)
    again = world.http.request("POST", url, headers=keyed, body=body)
    assert (first.status, again.status, again.body) == (500, 500, first.body)
    assert ("idempotent-replayed" in first.headers, again.headers.get("idempotent-replayed")) == (False, "true")
    other = world.http.request("POST", url, headers=keyed, body=body.replace(b"5000", b"5001"))
    assert (other.status, b"idempotency_error" in other.body) == (400, True)
    unknown = world.http.request("POST", url, headers=headers, body=body + b"&nonsense=1")
    assert (unknown.status, b"parameter_unknown" in unknown.body) == (400, True)
    assert len(world.truth()) == 1


def test_a_stored_500_is_found_behind_its_key() -> None:
    world = World("stripe")
    made = card()
    world.chaos(operation="create", fault="technical_after")
    assert isinstance(world.provider.create(world.account, made), Unknown)
    assert world.charge(made).status is ChargeStatus.SUCCEEDED
    assert len(world.truth()) == 1


def test_three_d_secure_without_an_address_to_return_to_is_left_to_stripe_js() -> None:
    world = World("stripe")
    said = world.charge(card("400000", "3184"))
    assert said.next_action is not None
    assert said.next_action["type"] == "provider_checkout"
    made = replace(card("400000", "3184"), reference=f"{MADE.payment_id}-02", return_url="https://shop.example/back")
    url = str((world.charge(made).next_action or {}).get("url"))
    assert urlsplit(url).path.startswith("/redirect/authenticate/pi_")


def test_the_page_brings_the_browser_back_as_stripe_does() -> None:
    world = World("stripe")
    made = replace(card("400000", "3184"), return_url="https://shop.example/back?order=7")
    said = world.charge(made)
    back = world.choose(said, "approve")
    assert isinstance(back, Return)
    params = back.params
    assert params["order"] == "7"
    assert (params["payment_intent"], params["redirect_status"]) == (said.provider_reference, "succeeded")
    assert params["payment_intent_client_secret"].startswith(f"{said.provider_reference}_secret_")
