"""The store's conditional writes on running services: one by one, and with everybody at once.

The same checks as in moto (tests/unit/test_storage_store.py) on the emulator that `make run` uses and,
by `make test-dynamodb-local`, on Amazon's own DynamoDB Local. Only here writers really race.
"""

from __future__ import annotations

import random
import socket
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeVar

import boto3
import pytest

from chalicelib import config, wiring
from chalicelib.domain import breaker, operations, orders, payments
from chalicelib.domain.access import Rate
from chalicelib.domain.breaker import Breaker, Status
from chalicelib.domain.errors import StateConflict
from chalicelib.domain.ids import new_id
from chalicelib.domain.merchant import Merchant
from chalicelib.domain.model import Tenant
from chalicelib.domain.outcome import ChargeStatus
from chalicelib.domain.people import Session, Tries, User
from chalicelib.domain.risk import LIMITS, RiskRules
from chalicelib.domain.routing_rules import RoutingSettings, Rule
from chalicelib.domain.states import OrderStatus
from chalicelib.domain.velocity import Limit
from chalicelib.services import health, screening
from chalicelib.services import payments as payment_service
from chalicelib.services.idempotency import Idem
from chalicelib.services.kit import Kit
from chalicelib.services.payments import NewPayment
from chalicelib.storage import audits, minutes
from chalicelib.storage.cache import Cache
from chalicelib.storage.health import Health, breaker_row, tallies_row
from chalicelib.storage.keys import Keys, new_key
from chalicelib.storage.keys import next_version as keys_next
from chalicelib.storage.limits import Limits
from chalicelib.storage.minutes import Alert, Subject, Tally
from chalicelib.storage.people import EmailTaken, People
from chalicelib.storage.people import next_version as user_next
from chalicelib.storage.queues import Workflows
from chalicelib.storage.rule_books import ROUTING, Stored
from chalicelib.storage.store import AlreadyApplied, KeyTaken, Stale, write_all
from infra.emulator import Emulator
from infra.settings import HOST, LocalSettings, dynamodb_local_url
from tests.support import aws, factories
from tests.support.access import make_entry
from tests.support.conditional_writes import DAY, ConditionalWrites, claim, mark
from tests.support.factories import AMOUNT, NOW, TENANT, TIMING, later
from tests.support.storage import OpenVault, Tables, connections, open_tables, order_put, stored, succeeded
from tests.support.world import FixedMerchants

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from chalicelib.domain.model import Change

T = TypeVar("T")
SERVICES = ["emulator", *(["dynamodb-local"] if dynamodb_local_url() else [])]
pytestmark = pytest.mark.xdist_group("storage-contract")


@pytest.fixture(scope="module")
def emulator_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    settings = LocalSettings(port, 0, 0, 0, tmp_path_factory.mktemp("emulator"))
    emulator = Emulator(settings)
    emulator.start()
    yield settings.endpoint
    emulator.stop()


@pytest.fixture(scope="module", params=SERVICES)
def tables(request: pytest.FixtureRequest) -> Iterator[Tables]:
    url = dynamodb_local_url() if request.param == "dynamodb-local" else request.getfixturevalue("emulator_url")
    with connections(url, pool=64):
        client = boto3.client("dynamodb", endpoint_url=url)
        for name in client.list_tables()["TableNames"]:
            client.delete_table(TableName=name)
        aws.create_tables(url)
        yield open_tables(client=client)


def at_once(number: int, act: Callable[[int], T]) -> list[T]:
    """What ``act(0)`` to ``act(number - 1)`` return, all begun at the same moment."""
    start = threading.Barrier(number)

    def run(index: int) -> T:
        start.wait(timeout=30)
        return act(index)

    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(run, range(number)))


def outcome(commit: Callable[[], object]) -> str:
    """``written``, or the name of the store's refusal."""
    try:
        commit()
    except (Stale, KeyTaken, AlreadyApplied) as refused:
        return type(refused).__name__
    return "written"


def insisting(tables: Tables, payment_id: str, decide: Callable[[Any], Change | None], tries: int = 400) -> bool:
    """Decide again on fresh state until the write holds, as services/kit.py does; False if there is nothing to do."""
    for _ in range(tries):
        change = decide(tables.load(payment_id))
        if change is None:
            return False
        if outcome(lambda change=change: tables.store.commit(change, now=NOW)) == "written":  # type: ignore[misc]
            return True
    raise AssertionError("the write never got through")


class TestConditionalWrites(ConditionalWrites):
    """One by one."""


class TestManyAtOnce:
    """All at the same time."""

    def test_of_sixteen_writers_on_one_version_exactly_one_wins(self, tables: Tables) -> None:
        story = stored(tables)
        for round_number in range(4):
            state = tables.load(story.payment.id)
            assert state.payment.version == round_number + 1

            def write(index: int, state: Any = state) -> str:
                change = payments.resume(state, TIMING, NOW, f"writer {index}")
                return outcome(lambda: tables.store.commit(change, now=NOW))

            assert sorted(at_once(16, write)) == ["Stale"] * 15 + ["written"]
        events = tables.queries.events(TENANT, story.payment.id)
        assert [event.sequence for event in events] == [1, 2, 3, 4, 5]

    def test_sixteen_writers_that_insist_all_get_through_and_leave_no_gap(self, tables: Tables) -> None:
        story = stored(tables)

        def write(index: int) -> bool:
            return insisting(tables, story.payment.id, lambda s: payments.resume(s, TIMING, NOW, f"writer {index}"))

        assert at_once(16, write) == [True] * 16
        payment = tables.load(story.payment.id).payment
        events = tables.queries.events(TENANT, story.payment.id)
        assert (payment.run, payment.version) == (17, 17)
        assert [event.sequence for event in events] == list(range(1, 18))
        assert len({event.data.get("reason") for event in events}) == 17

    def test_of_fifty_claims_of_one_key_exactly_one_has_an_effect(self, tables: Tables) -> None:
        key, tenant = claim(), TENANT._replace(merchant_id=new_id("mer", NOW))

        def create(index: int) -> str:
            order = factories.make_order(tenant=tenant, receipt=str(index))
            for _ in range(400):  # a transaction that met another one is tried again
                said = outcome(lambda: tables.store.commit(orders.create(order), now=NOW, claim=key))
                if said != "Stale":
                    return said
            return "never"

        assert sorted(at_once(50, create)) == ["KeyTaken"] * 49 + ["written"]
        assert len(tables.queries.orders(tenant, limit=100, cursor=None).data) == 1

    def test_of_fifty_deliveries_of_one_provider_event_exactly_one_has_an_effect(self, tables: Tables) -> None:
        seen, tenant = mark(), TENANT._replace(merchant_id=new_id("mer", NOW))

        def ingest(_: int) -> str:
            order = factories.make_order(tenant=tenant)
            for _try in range(400):
                said = outcome(lambda: tables.store.commit(orders.create(order), now=NOW, mark=seen))
                if said != "Stale":
                    return said
            return "never"

        assert sorted(at_once(50, ingest)) == ["AlreadyApplied"] * 49 + ["written"]

    def test_of_sixteen_workers_exactly_one_gets_the_permit_to_charge(self, tables: Tables) -> None:
        story = stored(tables)
        chosen = factories.candidate()
        change = payments.begin_attempt(story.state, chosen, factories.decision(chosen), TIMING, NOW)
        said = at_once(16, lambda _: outcome(lambda: tables.store.commit(change, now=NOW)))
        assert sorted(said) == ["Stale"] * 15 + ["written"]
        assert len(tables.load(story.payment.id).attempts) == 1

    def test_refunds_at_once_never_exceed_what_was_captured(self, tables: Tables) -> None:
        story = succeeded(tables)
        part = AMOUNT // 3

        def refund(_: int) -> bool:
            def decide(state: Any) -> Change | None:
                if state.payment.amount_refundable < part:
                    return None
                change, _made = operations.request_refund(state, part, None, partial=True, timing=TIMING, now=NOW)
                return change

            return insisting(tables, story.payment.id, decide)

        assert sum(at_once(12, refund)) == 3
        payment = tables.load(story.payment.id).payment
        assert (payment.amount_refunding, payment.amount_refundable) == (3 * part, AMOUNT - 3 * part)

    def test_of_eight_payments_for_one_order_exactly_one_is_live(self, tables: Tables) -> None:
        order = factories.make_order()
        tables.client.put_item(**order_put(order))

        def create(_: int) -> str:
            payment = factories.make_payment(order_id=order.id)
            for _try in range(400):
                current = tables.queries.order(TENANT, order.id)
                assert current is not None
                if current.live_payment_id is not None:
                    return "refused"
                change = payments.create(payment, current, None, TIMING, NOW)
                if outcome(lambda change=change: tables.store.commit(change, now=NOW)) == "written":  # type: ignore[misc]
                    return payment.id
            return "never"

        made = [said for said in at_once(8, create) if said != "refused"]
        live = tables.queries.order(TENANT, order.id)
        assert live is not None
        assert made == [live.live_payment_id]

    def test_an_order_is_either_canceled_or_paid_for(self, tables: Tables) -> None:
        for _ in range(5):
            order = factories.make_order()
            tables.client.put_item(**order_put(order))
            payment = factories.make_payment(order_id=order.id)
            changes = [orders.end(order, OrderStatus.CANCELED, NOW), payments.create(payment, order, None, TIMING, NOW)]
            said = at_once(2, lambda index: outcome(lambda: tables.store.commit(changes[index], now=NOW)))  # noqa: B023
            assert sorted(said) in (["Stale", "written"], ["Stale", "Stale"])
            stored_order = tables.queries.order(TENANT, order.id)
            assert stored_order is not None
            assert (stored_order.status == "canceled") == (said[0] == "written")
            assert (tables.queries.payment_state(TENANT, payment.id) is not None) == (said[1] == "written")

    def test_places_are_never_taken_twice(self, tables: Tables) -> None:
        name = new_id("slots", NOW)

        def take(index: int) -> int | None:
            return next((n for n in range(6) if tables.store.take_slot(name, n, f"waiter {index}", NOW, 60)), None)

        taken = [place for place in at_once(40, take) if place is not None]
        assert sorted(taken) == [0, 1, 2, 3, 4, 5]

    def test_of_sixteen_answers_to_a_leased_key_exactly_one_is_kept(self, tables: Tables) -> None:
        key = claim(lease_until=NOW.timestamp() + 25)
        tables.store.commit(orders.create(factories.make_order()), now=NOW, claim=key)
        said = at_once(16, lambda index: tables.store.answer(key.key, 200, str(index).encode()))
        kept = tables.queries.idempotency(key.key, NOW)
        assert kept is not None
        assert [str(index).encode() for index, won in enumerate(said) if won] == [kept.body]

    def test_of_sixteen_sweepers_exactly_one_takes_overdue_work(self, tables: Tables) -> None:
        story = stored(tables)
        pk, due = f"mer_01TEST/test/{story.payment.id}", later(TIMING.lease).timestamp()
        said = at_once(16, lambda index: tables.store.claim_due(pk, "a#payment", due, later(1000 + index)))
        assert sum(said) == 1
        assert tables.load(story.payment.id).payment.due_at == later(1000 + said.index(True))

    def test_a_lease_and_a_decision_at_once_both_hold_or_one_comes_again(self, tables: Tables) -> None:
        for _ in range(5):
            story = stored(tables)
            pk, due = f"mer_01TEST/test/{story.payment.id}", later(TIMING.lease).timestamp()
            change = payments.resume(story.state, TIMING, NOW, "x")
            acts: list[Callable[[], object]] = [
                lambda change=change: outcome(lambda: tables.store.commit(change, now=NOW)),  # type: ignore[misc]
                lambda pk=pk, due=due: tables.store.claim_due(pk, "a#payment", due, later(500)),  # type: ignore[misc]
            ]
            said = at_once(2, lambda index, acts=acts: acts[index]())  # type: ignore[misc]
            assert said[0] in ("written", "Stale")
            assert said[1] in (True, False)
            assert tables.load(story.payment.id).payment.version == (2 if said[0] == "written" else 1)

    def test_an_event_counted_by_many_workers_counts_once_and_many_events_all_count(self, tables: Tables) -> None:
        tenant, seen = TENANT._replace(merchant_id=new_id("mer", NOW)), mark()
        totals = {("balance/INR", "merchant:payable"): -7}

        def project(the_mark: Any) -> bool:
            for _ in range(400):
                try:
                    return tables.store.project(tenant, totals, the_mark, NOW)
                except Stale:
                    continue
            raise AssertionError("never got through")

        assert sum(at_once(16, lambda _: project(seen))) == 1
        assert all(at_once(16, lambda index: project(replace(seen, key=f"{seen.key}-{index}"))))
        assert tables.queries.totals(tenant, "balance/INR") == {"merchant:payable": -7 * 17}

    def test_a_merchants_second_capture_at_the_same_moment_is_refused(self, tables: Tables) -> None:
        story = stored(tables, capture="manual")
        story.send()
        story.hear(ChargeStatus.AUTHORIZED)

        def capture(_: int) -> str:
            for _try in range(400):
                try:
                    change, _made = operations.request_capture(
                        tables.load(story.payment.id), None, partial=True, timing=TIMING, now=NOW
                    )
                except StateConflict as refused:
                    return refused.code
                if outcome(lambda change=change: tables.store.commit(change, now=NOW)) == "written":  # type: ignore[misc]
                    return "accepted"
            return "never"

        assert sorted(at_once(8, capture)) == ["accepted", *["operation_in_progress"] * 7]


CARD = {"type": "card", "bin": "424242", "last4": "4242", "network": "visa"}


class TestVelocity:
    """Limits are exact, whoever comes at the same moment: through the service, with all that it does when it loses."""

    def pay_at_once(self, tables: Tables, limits: tuple[Limit, ...], number: int = 100) -> Counter[str]:
        """What became of so many payments of one card: statuses, how often all together decided, and the window."""
        tenant = TENANT._replace(merchant_id=new_id("mer", NOW))
        merchant = Merchant(tenant, "Shop", (), risk=RiskRules(limits=limits), lookup_key=b"k" * 32)
        kit = make_kit(tables, merchant)
        method = CARD | {"fingerprint": new_id("fp", NOW)}

        def pay(index: int) -> str:
            idem = Idem(f"{tenant.merchant_id}/test/{index}", "f", 201, lambda state: {"id": state.payment.id}, DAY)
            return str(payment_service.create(kit, tenant, NewPayment(1_000, "INR", method), idem).payment.status)

        said = Counter(at_once(number, pay))
        (row,) = [
            row for row in tables.all_items("guards") if row["pk"]["S"].startswith(f"velocity/{tenant.merchant_id}/")
        ]
        said["in the window"] = int(row["version"]["N"])
        return said

    def test_of_a_hundred_payments_of_one_card_exactly_as_many_pass_as_the_limit_says(self, tables: Tables) -> None:
        said = self.pay_at_once(tables, (Limit("card", 3600, "count", 5, 100),))
        assert said == {"created": 5, "failed": 95, "in the window": 5}

    def test_the_default_limits_let_three_pass_and_review_seven(self, tables: Tables) -> None:
        said = self.pay_at_once(tables, LIMITS)
        assert said == {"created": 3, "requires_review": 7, "failed": 90, "in the window": 10}

    def test_sums_are_as_exact_as_counts(self, tables: Tables) -> None:
        said = self.pay_at_once(tables, (Limit("card", 3600, "sum", 7_999, 100, currency="INR"),))
        assert said == {"created": 7, "failed": 93, "in the window": 7}

    def test_a_hundred_that_are_all_counted_all_get_through(self, tables: Tables) -> None:
        said = self.pay_at_once(tables, (Limit("card", 3600, "count", 3, 50),))
        assert said == {"created": 3, "requires_review": 97, "in the window": 100}

    def test_declines_at_once_are_all_counted(self, tables: Tables) -> None:
        tenant = TENANT._replace(merchant_id=new_id("mer", NOW))
        merchant = Merchant(tenant, "Shop", (), risk=RiskRules(), lookup_key=b"k" * 32)
        kit = make_kit(tables, merchant)
        payment = factories.make_payment(tenant=tenant, customer={}, method=CARD | {"fingerprint": new_id("fp", NOW)})

        def decline(index: int) -> None:
            about = replace(factories.make_attempt(payment), id=f"att_{index % 12:026d}")  # each of them twice
            screening.note_decline(kit, payment, about)

        at_once(24, decline)
        judged = screening.judge(kit, merchant, payment, kit.now())
        (window,) = judged.windows.values() or [None]
        assert judged.verdict.decision == "block"
        (row,) = [
            row for row in tables.all_items("guards") if row["pk"]["S"].startswith(f"velocity/{tenant.merchant_id}/")
        ]
        assert window is None
        assert int(row["version"]["N"]) == 12


class Started(Workflows):
    """Workflows that nobody runs."""

    def __init__(self) -> None:
        """Needs no Step Functions."""

    def start(self, tenant: Tenant, payment_id: str, run: int) -> None:
        """Nothing to do."""


def make_kit(tables: Tables, merchant: Merchant) -> Kit:
    """The parts that creating a payment takes, with a clock that goes on."""
    settings = config.load(aws.ENVIRONMENT)
    unused: Any = None
    return Kit(
        settings=settings, timing=wiring.timing(settings), store=tables.store, queries=tables.queries,
        health=Health(aws.PREFIX, wiring.now, 2.0),
        merchants=FixedMerchants(merchant), keys=unused, people=unused, limits=unused, queues=unused, workflows=Started(), http=unused, provider=unused,
        now=wiring.now, sleep=time.sleep, jitter=random.random,
    )  # fmt: skip


# -- breakers ------------------------------------------------------------------------------------------


def permit_parts(**parts: Any) -> Any:
    """As much of a Kit as permits need."""
    waits = threading.Event()
    values = {"health": Health(aws.PREFIX, lambda: NOW, 2.0), "sleep": waits.wait, "jitter": random.random}
    return SimpleNamespace(**(values | parts))


def provider_of(known: Health, opened: Breaker) -> str:
    """A provider with that breaker for UPI."""
    name = new_id("prov", NOW).lower()
    assert known.put(breaker_row("test", name, "upi", opened, Breaker()))
    return name


class TestBreakerAtOnce:
    """Sixteen workers and one breaker."""

    def test_half_open_admits_exactly_its_permits(self, tables: Tables) -> None:
        parts = permit_parts()
        opened = Breaker(Status.OPEN, NOW, "down", cools_until=later(30), version=1)
        for _ in range(5):
            provider = provider_of(parts.health, opened)
            assert at_once(16, lambda _, p=provider: health.admit(parts, "test", p, "upi", later(29))) == [False] * 16  # type: ignore[misc]
            said = at_once(16, lambda n, p=provider: health.admit(parts, "test", p, "upi", later(31 + n / 100)))  # type: ignore[misc]
            assert sum(said) == breaker.PERMITS
            after = parts.health.breaker("test", provider, "upi")
            assert (after.status, len(after.permits)) == (Status.HALF_OPEN, breaker.PERMITS)
            assert set(after.permits) == {later(31 + n / 100) for n, admitted in enumerate(said) if admitted}

    def test_a_permit_that_is_reported_is_given_once_more(self, tables: Tables) -> None:
        parts = permit_parts()
        provider = provider_of(parts.health, Breaker(Status.HALF_OPEN, NOW, version=1))
        assert sum(at_once(16, lambda n: health.admit(parts, "test", provider, "upi", later(n / 100)))) == 3
        before = parts.health.breaker("test", provider, "upi")
        after = breaker.record(before, ok=True, at=later(1), sent_at=before.permits[0])
        assert parts.health.put(breaker_row("test", provider, "upi", after, before))
        assert sum(at_once(16, lambda n: health.admit(parts, "test", provider, "upi", later(2 + n / 100)))) == 1

    def test_of_sixteen_writers_on_one_version_exactly_one_wins(self, tables: Tables) -> None:
        known = permit_parts().health
        tenant = TENANT._replace(merchant_id=new_id("mer", NOW))
        for version in range(3):
            said = at_once(16, lambda _, v=version: known.put(tallies_row(tenant, "acct_a", {}, v)))  # type: ignore[misc]
            assert sum(said) == 1
        assert known.read(tenant, ["acct_a"], []).versions == {"acct_a": 3}

    def test_with_its_store_gone_it_fails_open_and_says_so(
        self, tables: Tables, caplog: pytest.LogCaptureFixture
    ) -> None:
        parts = permit_parts()
        provider = provider_of(parts.health, Breaker(Status.OPEN, NOW, cools_until=later(30), version=1))
        assert not health.admit(parts, "test", provider, "upi", later(1))
        with connections("http://127.0.0.1:1"):
            assert health.admit(parts, "test", provider, "upi", later(1))
            assert parts.health.cached(TENANT, [], [(provider, "upi")]).is_missing
        assert "cannot be read" in caplog.text
        parts.health.forget()
        assert not parts.health.cached(TENANT, [], [(provider, "upi")]).is_missing


class TestRulesAndMinutesAtOnce:
    """What merchants set and what is watched, by sixteen at the same time."""

    def test_of_sixteen_who_change_the_same_rules_one_wins(self, tables: Tables) -> None:
        tenant = Tenant(new_id("mer", NOW), "test")
        for version in (1, 2, 3):
            said = at_once(16, lambda n, v=version: outcome(lambda: write_all([  # type: ignore[misc]
                ROUTING.to_write(tenant, Stored(RoutingSettings((Rule(f"writer {n}", ("acct_a",)),)), v, NOW)),
                audits.write(make_entry(tenant)),
            ])))  # fmt: skip
            assert sorted(said) == ["Stale"] * 15 + ["written"]
            stored_now = ROUTING.read(tenant)
            assert stored_now is not None
            assert (stored_now.version, stored_now.rules.rules[0].name) == (version, f"writer {said.index('written')}")

    def test_a_minute_adds_up_whoever_counts(self, tables: Tables) -> None:
        subject = Subject(Tenant(new_id("mer", NOW), "test"), "razorpay", "upi")

        def count(number: int) -> bool:
            for _ in range(400):
                added = [minutes.counted(subject, NOW, Tally(1, number % 2, 0, {number % 3: 1}), f"evt_{number}")]
                try:
                    return tables.store.project(subject.tenant, {}, mark(f"minute {subject} {number}"), NOW, (), added)
                except Stale:
                    time.sleep(0.01 * random.random())  # sixteen that try again at once meet again
            raise AssertionError("it never got through")

        assert all(at_once(16, count))
        assert not any(at_once(16, count))  # all of them come a second time
        minute = minutes.minute_of(NOW)
        assert minutes.read(subject, minute, minute) == {minute: Tally(16, 8, 0, {0: 6, 1: 5, 2: 5})}

    def test_of_sixteen_that_watch_one_takes_the_minute_in_with_its_alert(self, tables: Tables) -> None:
        subject = Subject(Tenant(new_id("mer", NOW), "test"), "razorpay", "upi")
        at_once(16, lambda n: minutes.begin(subject, {"last": n}))
        (row,) = [one for one in minutes.watched() if one.subject == subject]
        assert row.version == 1

        def step(number: int) -> bool:
            return minutes.step(row, {"last": 100 + number}, [Alert(subject, 7, "latency", {"writer": number})])

        said = at_once(16, step)
        assert sum(said) == 1
        winner = said.index(True)
        (after,) = [one for one in minutes.watched() if one.subject == subject]
        assert (after.version, after.body) == (2, {"last": 100 + winner})
        assert [alert.body for alert in minutes.alerts(subject.tenant)] == [{"writer": winner}]
        assert sum(at_once(16, lambda _: minutes.step(after, None, []))) == 1
        assert subject not in [one.subject for one in minutes.watched()]


class TestLimitsAndKeysAtOnce:
    """Rate limits, keys and people, by sixteen at the same time; each its own environment."""

    def test_sixteen_environments_never_get_more_than_the_bucket_has(self, tables: Tables) -> None:
        limit, name = Rate(1.0, 60), new_id("bucket", NOW)
        moment = [NOW]

        def spend(_: int) -> int:
            mine = Limits(aws.PREFIX, lambda: moment[0])
            return sum(mine.take(name, limit).is_given for _ in range(30))

        given = sum(at_once(16, spend))  # each has known nothing of the others
        assert 40 <= given <= 60  # what some took and did not come to spend is lost
        moment[0] = later(1 + 10)
        assert given + sum(at_once(16, spend)) <= 60 + 11

    def test_of_sixteen_who_rotate_one_key_one_wins(self, tables: Tables) -> None:
        tenant = Tenant(new_id("mer", NOW), "test")
        keys = Keys(aws.PREFIX, Cache(lambda: NOW, 0.0))
        old, secret = new_key(tenant, "backend", "secret", None, NOW)
        keys.add([old], audit=[make_entry(tenant)])

        def rotate(number: int) -> str:
            fresh, _ = new_key(tenant, f"writer {number}", "secret", None, NOW, replaces=old.id)
            retired = keys_next(old, expires_at=later(60).timestamp())
            return outcome(lambda: keys.add([fresh], retired=retired, audit=[make_entry(tenant)]))

        assert sorted(at_once(16, rotate)) == ["Stale"] * 15 + ["written"]
        assert len(keys.page(tenant, limit=100, cursor=None).data) == 2
        assert keys.authenticate(secret, later(59)) is not None
        assert keys.authenticate(secret, later(60)) is None

    def test_of_sixteen_who_sign_up_with_one_email_one_gets_it(self, tables: Tables) -> None:
        people = People(aws.PREFIX, OpenVault(), Cache(lambda: NOW, 0.0))
        email = f"{new_id('x', NOW).lower()}@canary.example"

        def join(_: int) -> bool:
            user = User(new_id("mer", NOW), new_id("usr", NOW), email, "owner", "active", NOW, NOW)
            try:
                people.add(user, make_entry(Tenant(user.merchant_id, "test")))
            except EmailTaken:
                return False
            return True

        assert sum(at_once(16, join)) == 1
        assert len({people.secret("emails") for _ in range(3)}) == 1

    def test_of_sixteen_who_refresh_one_session_one_goes_on(self, tables: Tables) -> None:
        people = People(aws.PREFIX, OpenVault(), Cache(lambda: NOW, 0.0))
        session = Session(new_id("ses", NOW), "token", "mer_1", "usr_1", NOW, later(60), "first")
        people.add_session(session)
        assert sum(at_once(16, lambda n: people.rotate(session, f"next {n}", NOW))) == 1
        now_is = people.session_now(session.id)
        assert now_is is not None
        assert now_is.previous == "first"

    def test_of_sixteen_guesses_at_once_one_is_looked_at(self, tables: Tables) -> None:
        people = People(aws.PREFIX, OpenVault(), Cache(lambda: NOW, 0.0))
        email = f"{new_id('x', NOW).lower()}@canary.example"
        people.secret("emails")
        assert sum(at_once(16, lambda _: people.note_try(email, Tries(1, 0.0, 1), NOW, 60.0))) == 1
        assert people.tries(email, NOW) == Tries(1, 0.0, 1)

    def test_of_two_owners_who_send_each_other_away_at_once_one_stays(self, tables: Tables) -> None:
        people = People(aws.PREFIX, OpenVault(), Cache(lambda: NOW, 0.0))
        for _ in range(20):
            merchant_id = new_id("mer", NOW)
            owners = [
                User(
                    merchant_id,
                    new_id("usr", NOW),
                    f"{new_id('x', NOW).lower()}@canary.example",
                    "owner",
                    "active",
                    NOW,
                    NOW,
                )
                for _ in range(2)
            ]
            for owner in owners:
                people.add(owner, make_entry(Tenant(merchant_id, "test")))

            def send_away(number: int, pair: list[User] = owners) -> str:
                gone = user_next(pair[1 - number], NOW, status="disabled")
                entry = make_entry(Tenant(gone.merchant_id, "test"))
                return outcome(lambda: people.change(gone, entry, actor=pair[number]))

            said = at_once(2, send_away)
            left = [one.id for one in people.users(merchant_id, limit=10, cursor=None).data if one.status == "active"]
            assert said.count("written") == 2 - len(left) <= 1
