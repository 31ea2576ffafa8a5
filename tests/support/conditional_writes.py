"""What every DynamoDB must do for us: the store's conditional writes, one by one.

``tests/unit`` runs these against moto in the process, ``tests/contract`` against running services.
A class that inherits them has a fixture ``tables``.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from chalicelib.domain import operations, orders, payments, velocity
from chalicelib.domain.cards import CardToken
from chalicelib.domain.draft import Draft
from chalicelib.domain.ids import new_id
from chalicelib.domain.merchant import Account, Merchant
from chalicelib.domain.model import Reference
from chalicelib.domain.outcome import ChargeStatus
from chalicelib.domain.risk import LIMITS
from chalicelib.domain.states import OrderStatus, PaymentStatus
from chalicelib.domain.velocity import Window
from chalicelib.storage import mapping
from chalicelib.storage.merchants import AccountTaken, Merchants
from chalicelib.storage.store import AlreadyApplied, Claim, KeyTaken, Mark, ReferenceTaken, Stale
from tests.support import aws, factories
from tests.support.access import make_entry
from tests.support.factories import AMOUNT, NOW, OTHER, TENANT, TIMING, later
from tests.support.storage import OpenVault, Tables, order_put, stored, succeeded

if TYPE_CHECKING:
    from chalicelib.domain.model import Change

_C = ChargeStatus
DAY = 86_400.0


def claim(key: str | None = None, **fields: Any) -> Claim:
    """An idempotency key that is kept for a day."""
    values: dict[str, Any] = {"fingerprint": "f", "object_id": "pay_1", "expires_at": NOW.timestamp() + DAY}
    return Claim(key or factories.KEYS + new_id("idem", NOW), **(values | fields))


def mark(key: str | None = None, **fields: Any) -> Mark:
    """A mark that is kept for a day."""
    return Mark(key or new_id("mark", NOW), **({"expires_at": NOW.timestamp() + DAY} | fields))


def counted(window: Window) -> Window:
    """The window with one more payment in it."""
    after, _ = velocity.admit(window, LIMITS, velocity.entry(NOW, 1, "INR", new_id("pay", NOW)), NOW)
    return after


def unchanged(tables: Tables, change: Change, error: type[Exception], **commit: Any) -> None:
    """The commit raises ``error`` and leaves no trace in any table."""
    before = [tables.all_items(name) for name in ("payments", "guards")]
    with pytest.raises(error):
        tables.store.commit(change, now=NOW, **commit)
    after = [tables.all_items(name) for name in ("payments", "guards")]
    for old, new in zip(before, after, strict=True):
        assert sorted(map(str, new)) == sorted(map(str, old))


class ConditionalWrites:
    """Everything that money depends on."""

    # -- one transaction ---------------------------------------------------------------------------

    def test_a_change_is_written_whole(self, tables: Tables) -> None:
        order = factories.make_order()
        key, seen = claim(), mark()
        story = stored(tables, order)
        story.send()
        paid = factories.charge(_C.SUCCEEDED, provider_reference="ch_whole")
        story.tables = None
        change = story.hear(paid)
        assert change is not None
        tables.store.commit(change, now=NOW, claim=key, mark=seen)
        assert tables.load(story.payment.id) == story.state
        assert tables.queries.journals(TENANT, story.payment.id) == story.journals
        events = tables.queries.events(TENANT, story.payment.id)
        assert events == [event for event in story.events if event.subject_id == story.payment.id]
        assert [e.type for e in tables.queries.events(TENANT, order.id)] == ["order.attempted", "order.paid"]
        assert tables.queries.payment_of_reference(TENANT, "acct_a/ch_whole") == story.payment.id
        assert tables.queries.idempotency(key.key, NOW) is not None
        with pytest.raises(AlreadyApplied):
            tables.store.commit(payments.resume(story.state, TIMING, NOW, "x"), now=NOW, mark=seen)

    def test_of_two_decisions_on_one_version_the_second_is_stale(self, tables: Tables) -> None:
        story = stored(tables)
        late = payments.resume(story.state, TIMING, NOW, "second")
        story.apply(payments.resume(story.state, TIMING, NOW, "first"))
        unchanged(tables, late, Stale)
        assert tables.load(story.payment.id) == story.state

    def test_the_version_alone_stops_a_stale_decision(self, tables: Tables) -> None:
        # Usually the next event's number is taken as well; neither guard relies on the other.
        story = stored(tables)
        tables.client.update_item(
            TableName="railyard-local-payments",
            Key={"pk": {"S": f"mer_01TEST/test/{story.payment.id}"}, "sk": {"S": "a#payment"}},
            UpdateExpression="SET version = :v",
            ExpressionAttributeValues={":v": {"N": "9"}},
        )
        unchanged(tables, payments.resume(story.state, TIMING, NOW, "x"), Stale)

    def test_the_events_number_alone_stops_a_stale_decision(self, tables: Tables) -> None:
        story = stored(tables)
        change = payments.resume(story.state, TIMING, NOW, "x")
        tables.client.put_item(
            TableName="railyard-local-payments", Item=mapping.to_event_item(change.events[0]).serialize()
        )
        unchanged(tables, change, Stale)

    def test_a_stale_order_stops_its_payment_too(self, tables: Tables) -> None:
        order = factories.make_order()
        tables.client.put_item(**order_put(order))
        canceled = orders.end(order, OrderStatus.CANCELED, NOW)
        tables.store.commit(canceled, now=NOW)
        payment = factories.make_payment(order_id=order.id)
        unchanged(tables, payments.create(payment, order, None, TIMING, NOW), Stale)
        assert tables.queries.order(TENANT, order.id) == canceled.order

    def test_a_payment_is_created_once(self, tables: Tables) -> None:
        story = stored(tables)
        unchanged(tables, payments.create(story.payment, None, None, TIMING, NOW), Stale)

    def test_an_order_is_created_once(self, tables: Tables) -> None:
        order = factories.make_order()
        tables.store.commit(orders.create(order), now=NOW)
        unchanged(tables, orders.create(order), Stale)

    def test_a_payment_that_was_never_written_cannot_be_changed(self, tables: Tables) -> None:
        payment = replace(factories.make_payment(), version=1)
        unchanged(tables, payments.resume(factories.state_of(payment), TIMING, NOW, "?"), Stale)

    def test_a_replacement_and_what_it_replaces_are_one_write(self, tables: Tables) -> None:
        story = stored(tables, factories.make_order())
        story.send()
        story.hear(_C.ACTION_REQUIRED)
        newer = factories.make_payment(order_id=story.payment.order_id)
        replacement = payments.create(newer, story.state.order, story.state, TIMING, NOW)
        story.tables = None
        paid = story.hear(_C.SUCCEEDED)  # the customer was faster
        assert paid is not None
        tables.store.commit(paid, now=NOW)
        unchanged(tables, replacement, Stale)
        assert tables.queries.payment_state(TENANT, newer.id) is None

    def test_a_replacement_commits_both(self, tables: Tables) -> None:
        story = stored(tables, factories.make_order())
        story.send()
        story.hear(_C.ACTION_REQUIRED)
        newer = factories.make_payment(order_id=story.payment.order_id)
        tables.store.commit(payments.create(newer, story.state.order, story.state, TIMING, NOW), now=NOW)
        assert tables.load(story.payment.id).payment.status is PaymentStatus.CANCELED
        order = tables.load(newer.id).order
        assert order is not None
        assert order.live_payment_id == newer.id

    # -- velocity ----------------------------------------------------------------------------------

    def test_a_payment_and_what_counts_it_are_one_write(self, tables: Tables) -> None:
        key, window = new_id("mer", NOW) + "/test/card/a", counted(Window("card"))
        payment = factories.make_payment()
        tables.store.commit(payments.create(payment, None, None, TIMING, NOW), now=NOW, windows={key: window})
        assert tables.queries.windows({key: "card", f"{key}b": "ip"}, NOW) == {key: window, f"{key}b": Window("ip")}
        late = payments.create(factories.make_payment(), None, None, TIMING, NOW)
        unchanged(tables, late, Stale, windows={key: window})  # it had read none
        assert not tables.store.count(key, window, NOW)
        unchanged(tables, late, Stale, windows={key: replace(window, version=3)})  # one that was never written
        tables.store.commit(late, now=NOW, windows={key: counted(window)})
        assert tables.queries.windows({key: "card"}, NOW)[key].version == 2

    def test_a_payment_that_cannot_be_written_is_not_counted(self, tables: Tables) -> None:
        story, key = stored(tables), new_id("mer", NOW) + "/test/card/a"
        again = payments.create(story.payment, None, None, TIMING, NOW)
        unchanged(tables, again, Stale, windows={key: counted(Window("card"))})

    def test_a_window_past_its_time_is_as_good_as_none(self, tables: Tables) -> None:
        key, window = new_id("mer", NOW) + "/test/card/a", counted(Window("card"))
        assert tables.store.count(key, window, NOW)
        tomorrow = NOW + timedelta(days=1, minutes=2)
        assert tables.queries.windows({key: "card"}, tomorrow) == {key: Window("card")}
        assert tables.store.count(key, window, tomorrow)

    # -- conservation ------------------------------------------------------------------------------

    def test_a_refund_is_refused_by_the_write_itself_when_the_money_is_gone(self, tables: Tables) -> None:
        story = succeeded(tables)
        change, _ = operations.request_refund(story.state, AMOUNT, None, partial=True, timing=TIMING, now=NOW)
        # Same version, less money: what a defect elsewhere would leave behind.
        tables.client.update_item(
            TableName="railyard-local-payments",
            Key={"pk": {"S": f"mer_01TEST/test/{story.payment.id}"}, "sk": {"S": "a#payment"}},
            UpdateExpression="SET amount_refundable = :x",
            ExpressionAttributeValues={":x": {"N": str(AMOUNT - 1)}},
        )
        unchanged(tables, change, Stale)

    def test_a_refund_of_exactly_what_is_there_is_taken(self, tables: Tables) -> None:
        story = succeeded(tables)
        change, _ = operations.request_refund(story.state, AMOUNT, None, partial=True, timing=TIMING, now=NOW)
        story.apply(change)
        assert tables.load(story.payment.id).payment.amount_refundable == 0

    # -- references --------------------------------------------------------------------------------

    def test_a_reference_never_moves_to_another_payment(self, tables: Tables) -> None:
        story, other = stored(tables), stored(tables)
        key = new_id("ch", NOW)
        story.send()
        story.hear(_C.PENDING, provider_reference=key)
        other.send()
        other.tables = None
        change = other.hear(_C.PENDING, provider_reference=key)
        assert change is not None
        unchanged(tables, change, ReferenceTaken)
        assert tables.queries.payment_of_reference(TENANT, f"acct_a/{key}") == story.payment.id

    def test_a_stale_decision_is_decided_again_before_its_reference_counts(self, tables: Tables) -> None:
        story, other = stored(tables), stored(tables)
        key = new_id("ch", NOW)
        story.send()
        story.hear(_C.PENDING, provider_reference=key)
        other.send()
        other.apply(payments.park(other.state, NOW, "somebody else was faster"))
        stale = replace(other, state=replace(other.state, payment=replace(other.payment, version=1)), tables=None)
        draft = Draft(stale.state, NOW)
        draft.refer(other.attempt(), key)
        draft.emit("payment.resumed")
        unchanged(tables, draft.change(), Stale)

    def test_a_reference_may_be_written_again_for_the_same_payment(self, tables: Tables) -> None:
        story = stored(tables)
        reference = Reference(new_id("ch", NOW), TENANT, story.payment.id)
        for _ in range(2):
            change = payments.resume(story.state, TIMING, NOW, "again")
            story.apply(replace(change, references=[reference]))
        assert tables.queries.payment_of_reference(TENANT, reference.key) == story.payment.id

    # -- idempotency keys and marks ----------------------------------------------------------------

    def test_a_taken_key_stops_the_effect(self, tables: Tables) -> None:
        key = claim()
        tables.store.commit(orders.create(factories.make_order()), now=NOW, claim=key)
        unchanged(tables, orders.create(factories.make_order()), KeyTaken, claim=replace(key, fingerprint="other"))
        kept = tables.queries.idempotency(key.key, NOW)
        assert kept is not None
        assert kept.fingerprint == "f"

    def test_a_taken_key_counts_before_a_stale_version(self, tables: Tables) -> None:
        key = claim()
        story = stored(tables)
        change = payments.resume(story.state, TIMING, NOW, "x")
        tables.store.commit(change, now=NOW, claim=key)
        unchanged(tables, change, KeyTaken, claim=key)

    def test_a_key_is_not_burnt_by_a_stale_decision(self, tables: Tables) -> None:
        story = stored(tables)
        stale = payments.resume(story.state, TIMING, NOW, "x")
        story.apply(payments.resume(story.state, TIMING, NOW, "y"))
        key = claim()
        unchanged(tables, stale, Stale, claim=key)
        assert tables.queries.idempotency(key.key, NOW) is None

    def test_a_key_past_its_time_is_free_although_its_row_is_still_there(self, tables: Tables) -> None:
        old = claim(expires_at=NOW.timestamp() - 0.001)
        tables.store.commit(orders.create(factories.make_order()), now=later(-60), claim=old)
        assert tables.queries.idempotency(old.key, NOW) is None
        tables.store.commit(
            orders.create(factories.make_order()), now=NOW, claim=replace(old, expires_at=NOW.timestamp())
        )
        assert tables.queries.idempotency(old.key, NOW) is not None  # it lives to the end of its last moment
        unchanged(tables, orders.create(factories.make_order()), KeyTaken, claim=old)

    def test_a_mark_stops_an_effect_that_was_written_before(self, tables: Tables) -> None:
        seen = mark()
        tables.store.commit(orders.create(factories.make_order()), now=NOW, mark=seen)
        unchanged(tables, orders.create(factories.make_order()), AlreadyApplied, mark=seen)

    def test_a_mark_past_its_time_is_free(self, tables: Tables) -> None:
        seen = mark(expires_at=NOW.timestamp() - 1)
        for _ in range(2):
            tables.store.commit(orders.create(factories.make_order()), now=NOW, mark=seen)

    def test_a_leased_keys_answer_is_stored_once(self, tables: Tables) -> None:
        leased = claim(lease_until=NOW.timestamp() + 25)
        tables.store.commit(orders.create(factories.make_order()), now=NOW, claim=leased)
        assert tables.store.answer(leased.key, 201, b"first")
        assert not tables.store.answer(leased.key, 200, b"second")
        kept = tables.queries.idempotency(leased.key, NOW)
        assert kept is not None
        assert (kept.status, kept.body, kept.fingerprint) == (201, b"first", "f")

    def test_a_key_that_nobody_took_has_no_answer(self, tables: Tables) -> None:
        assert not tables.store.answer("mer_01TEST/test/nobody's", 201, b"answer")
        assert tables.queries.idempotency("mer_01TEST/test/nobody's", NOW) is None

    def test_a_key_with_its_answer_is_never_answered_again(self, tables: Tables) -> None:
        whole = claim(status=201, body=b"\x00\xffbytes")
        tables.store.commit(orders.create(factories.make_order()), now=NOW, claim=whole)
        assert not tables.store.answer(whole.key, 500, b"other")
        kept = tables.queries.idempotency(whole.key, NOW)
        assert kept is not None
        assert kept.body == b"\x00\xffbytes"

    # -- leases ------------------------------------------------------------------------------------

    def test_overdue_work_is_taken_once(self, tables: Tables) -> None:
        story = stored(tables)
        pk, due = f"mer_01TEST/test/{story.payment.id}", later(TIMING.lease).timestamp()
        assert tables.store.claim_due(pk, "a#payment", due, later(300))
        assert not tables.store.claim_due(pk, "a#payment", due, later(300))
        assert tables.load(story.payment.id).payment.due_at == later(300)
        assert tables.store.claim_due(pk, "a#payment", later(300).timestamp(), later(600))

    def test_a_lease_is_taken_whatever_kind_of_row_it_is_on(self, tables: Tables) -> None:
        order = factories.make_order()
        tables.store.commit(orders.create(order), now=NOW)
        story = stored(tables)
        story.send()
        story.hear(_C.ACTION_REQUIRED)
        story.apply(payments.give_up(story.state, PaymentStatus.CANCELED, TIMING, NOW))
        paid = succeeded(tables)
        change, refund = operations.request_refund(paid.state, None, None, partial=True, timing=TIMING, now=NOW)
        paid.apply(change)
        for identifier, sk, due in (
            (order.id, "a#order", order.due_at),
            (story.payment.id, "a#att#01", later(TIMING.watch[0])),
            (paid.payment.id, f"a#op#{refund.id}", refund.due_at),
        ):
            assert due is not None
            pk = f"mer_01TEST/test/{identifier}"
            assert tables.store.claim_due(pk, sk, due.timestamp(), later(5000)), sk
            assert not tables.store.claim_due(pk, sk, due.timestamp(), later(5000)), sk
            assert tables.store.drop_due(pk, sk, later(5000).timestamp()), sk
        assert tables.load(paid.payment.id).operations[0].due_at is None
        assert tables.load(story.payment.id).attempts[0].due_at is None

    def test_a_row_that_needs_no_more_work_leaves_the_index_only_with_its_lease(self, tables: Tables) -> None:
        story = stored(tables)
        pk, due = f"mer_01TEST/test/{story.payment.id}", later(TIMING.lease).timestamp()
        assert not tables.store.drop_due(pk, "a#payment", due + 1)
        assert tables.store.drop_due(pk, "a#payment", due)
        assert tables.load(story.payment.id).payment.due_at is None
        rows = [row for shard in range(4) for row in tables.queries.due(shard, later(10**6), 100)]
        assert pk not in [row.pk for row in rows]

    def test_a_lease_on_nothing_cannot_be_taken(self, tables: Tables) -> None:
        assert not tables.store.claim_due("mer_01TEST/test/pay_none", "a#payment", 1.0, NOW)
        assert not tables.store.drop_due("mer_01TEST/test/pay_none", "a#payment", 1.0)
        assert tables.queries.payment_state(TENANT, "pay_none") is None

    def test_moving_a_lease_does_not_disturb_a_decision(self, tables: Tables) -> None:
        story = stored(tables)
        due = later(TIMING.lease).timestamp()
        change = payments.resume(story.state, TIMING, NOW, "x")
        assert tables.store.claim_due(f"mer_01TEST/test/{story.payment.id}", "a#payment", due, later(300))
        story.apply(change)

    def test_a_look_at_a_watched_attempt_is_noted_while_it_stays_what_it_is(self, tables: Tables) -> None:
        story = stored(tables)
        story.send()
        story.hear(_C.ACTION_REQUIRED)
        story.apply(payments.give_up(story.state, PaymentStatus.CANCELED, TIMING, NOW))
        watched = payments.watched(story.attempt(), TIMING, NOW)
        tables.store.watch(watched)
        assert tables.load(story.payment.id).attempts[0] == watched
        last = replace(watched, due_at=None, resolves=9)
        tables.store.watch(last)
        assert tables.load(story.payment.id).attempts[0] == last
        tables.store.watch(replace(story.attempt(), status=story.attempt().status.DECLINED, resolves=99))
        assert tables.load(story.payment.id).attempts[0].resolves == 9

    def test_holding_an_operation_moves_its_lease_while_it_stays_what_it_is(self, tables: Tables) -> None:
        story = succeeded(tables)
        change, made = operations.request_refund(story.state, None, None, partial=True, timing=TIMING, now=NOW)
        story.apply(change)
        tables.store.hold(made, later(999))
        assert tables.load(story.payment.id).operations[0].due_at == later(999)
        tables.store.hold(replace(made, status=made.status.SENT), later(5))
        assert tables.load(story.payment.id).operations[0].due_at == later(999)

    # -- slots -------------------------------------------------------------------------------------

    def test_a_place_is_held_by_one_until_it_is_given_back_or_its_time_is_over(self, tables: Tables) -> None:
        name, store = new_id("slots", NOW), tables.store
        assert store.take_slot(name, 0, "a", NOW, 10)
        assert not store.take_slot(name, 0, "b", NOW, 10)
        assert store.take_slot(name, 1, "b", NOW, 10)
        store.free_slot(name, 0, "b")  # not theirs
        assert not store.take_slot(name, 0, "b", later(9.999), 10)
        store.free_slot(name, 0, "a")
        assert store.take_slot(name, 0, "c", NOW, 10)
        assert store.take_slot(name, 0, "d", later(10.001), 10)  # c crashed
        store.free_slot(name, 0, "c")
        assert not store.take_slot(name, 0, "e", later(11), 10)

    # -- deliveries --------------------------------------------------------------------------------

    def test_a_delivery_is_noted_once(self, tables: Tables) -> None:
        delivery = factories.make_delivery()
        assert tables.store.add_delivery(delivery)
        assert not tables.store.add_delivery(replace(delivery, url="https://other.example"))
        assert tables.queries.delivery(TENANT, delivery.event_id, "default") == delivery

    def test_each_try_of_a_delivery_is_made_by_one_worker_and_recorded_while_it_is_the_newest(
        self, tables: Tables
    ) -> None:
        delivery = factories.make_delivery()
        tables.store.add_delivery(delivery)
        first = replace(delivery, tries=1, due_at=later(5))
        assert tables.store.claim_try(first)
        assert not tables.store.claim_try(first)
        assert tables.store.record_outcome(replace(first, log=[{"status": 500}]))
        second = replace(first, tries=2, log=[{"status": 500}])
        assert tables.store.claim_try(second)
        assert not tables.store.record_outcome(replace(first, status="delivered"))  # a late word of the first try
        done = replace(second, log=[{"status": 500}, {"status": 200}], status="delivered", due_at=None)
        assert tables.store.record_outcome(done)
        assert tables.queries.delivery(TENANT, delivery.event_id, "default") == done

    def test_an_overdue_delivery_is_taken_once(self, tables: Tables) -> None:
        delivery = factories.make_delivery()
        tables.store.add_delivery(delivery)
        pk, due = f"mer_01TEST/test/{delivery.event_id}", later(TIMING.lease).timestamp()
        assert tables.store.claim_delivery(pk, "dlv#default", due, later(500))
        assert not tables.store.claim_delivery(pk, "dlv#default", due, later(500))

    # -- projections and orphans -------------------------------------------------------------------

    def test_an_event_is_counted_once(self, tables: Tables) -> None:
        tenant = TENANT._replace(merchant_id=new_id("mer", NOW))
        totals = {("balance/INR", "merchant:payable"): -700, ("balance/INR", "x"): 700, ("day/2026-11-21", "e"): 1}
        seen = mark()
        assert tables.store.project(tenant, totals, seen, NOW)
        assert not tables.store.project(tenant, totals, seen, NOW)
        assert tables.store.project(tenant, totals, mark(), NOW)
        assert tables.queries.totals(tenant, "balance/INR") == {"merchant:payable": -1400, "x": 1400}
        assert tables.queries.totals(tenant, "day/2026-11-21") == {"e": 2}

    def test_an_orphan_is_kept_once(self, tables: Tables) -> None:
        key = new_id("evt", NOW)
        assert tables.store.add_orphan(TENANT, "acct_a", key, {"type": "x"}, NOW)
        assert not tables.store.add_orphan(TENANT, "acct_a", key, {"type": "y"}, NOW + timedelta(1))

    # -- provider accounts and cards -------------------------------------------------------------

    def test_an_account_comes_with_its_owner_and_its_requests_key_or_not_at_all(self, tables: Tables) -> None:
        merchants, account, key = _merchants(), _account(), claim()
        merchants.add_account(TENANT, account, now=NOW, claim=key, audit=make_entry(TENANT))
        assert merchants.account(TENANT, account.id) == account
        assert merchants.owner_of_account(account.id) == TENANT
        before = [tables.all_items(name) for name in ("merchants", "guards")]
        with pytest.raises(KeyTaken):
            merchants.add_account(TENANT, _account(), now=NOW, claim=key, audit=make_entry(TENANT))
        with pytest.raises(Stale):  # the id is somebody's
            merchants.add_account(OTHER, account, now=NOW, claim=claim(), audit=make_entry(OTHER))
        assert [tables.all_items(name) for name in ("merchants", "guards")] == before
        assert merchants.account(OTHER, account.id) is None

    def test_an_account_is_changed_only_from_the_version_that_was_read(self, tables: Tables) -> None:
        merchants, account = _merchants(), _account()
        with pytest.raises(Stale):  # there is none yet
            merchants.change_account(TENANT, replace(account, version=2), audit=make_entry(TENANT))
        merchants.add_account(TENANT, account, now=NOW, claim=claim(), audit=make_entry(TENANT))
        mine, theirs = (replace(account, name=name, version=2) for name in ("mine", "theirs"))
        merchants.change_account(TENANT, theirs, audit=make_entry(TENANT))
        before = tables.all_items("merchants")
        with pytest.raises(Stale):
            merchants.change_account(TENANT, mine, audit=make_entry(TENANT))
        assert tables.all_items("merchants") == before
        assert merchants.account(TENANT, account.id) == theirs

    def test_an_account_of_before_there_were_versions_can_be_changed(self, tables: Tables) -> None:
        merchants, account = _merchants(), _account(version=0)
        merchants.save(Merchant(TENANT, "Shop", (account,)))
        merchants.change_account(TENANT, replace(account, enabled=False, version=1), audit=make_entry(TENANT))
        with pytest.raises(Stale):
            merchants.change_account(TENANT, replace(account, name="late", version=1), audit=make_entry(TENANT))
        kept = merchants.account(TENANT, account.id)
        assert kept is not None
        assert (kept.enabled, kept.version) == (False, 1)

    def test_a_saved_merchant_takes_nobodys_account(self, tables: Tables) -> None:
        merchants, account = _merchants(), _account()
        merchants.save(Merchant(TENANT, "Shop", (account,)))
        merchants.save(Merchant(TENANT, "Shop", (replace(account, name="again"),)))
        for other in (OTHER, TENANT._replace(mode="live")):
            with pytest.raises(AccountTaken):
                merchants.save(Merchant(other, "Thief", (account,)))
            assert merchants.account(other, account.id) is None
        assert merchants.owner_of_account(account.id) == TENANT

    def test_a_token_is_read_until_its_time_is_over(self, tables: Tables) -> None:
        token = CardToken(TENANT, new_id("tok", NOW), "visa", "4242", "424242", 12, 2030, "fp_1", NOW, later(60))
        tables.store.add_token(token)
        tables.store.add_token(token)  # the answer to the first try was lost
        assert tables.queries.token(TENANT, token.id, later(59.999)) == token
        assert tables.queries.token(TENANT, token.id, later(60)) is None
        assert tables.queries.token(OTHER, token.id, NOW) is None


def _merchants() -> Merchants:
    return Merchants(aws.PREFIX, OpenVault(), lambda: NOW, 60.0)


def _account(**fields: Any) -> Account:
    values: dict[str, Any] = {
        "id": new_id("acc", NOW), "provider": "simulator", "base_url": "https://sim.example",
        "credentials": {"api_key": "k", "webhook_secret": "w"}, "webhook_secrets": ("w",), "name": None,
        "created_at": NOW, "updated_at": NOW, "version": 1,
    }  # fmt: skip
    return Account(**(values | fields))
