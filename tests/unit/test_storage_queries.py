"""Reads: lists without scans, cursors that lose and repeat nothing, overdue work, stories."""

from __future__ import annotations

from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.domain import ids, operations, orders, payments
from chalicelib.domain.model import Tenant
from chalicelib.domain.outcome import ChargeStatus, EffectStatus
from chalicelib.domain.states import OrderStatus, PaymentStatus
from chalicelib.storage import mapping, queries
from chalicelib.storage.mapping import DUE_SHARDS
from tests.support import factories
from tests.support.factories import NOW, OTHER, TENANT, TIMING, later
from tests.support.storage import Tables, moto_tables, open_tables, stored, succeeded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from chalicelib.domain.model import Payment
    from chalicelib.storage.page import Page

_C = ChargeStatus
NUMBERS = count()


@pytest.fixture(scope="module", params=[1, 3], ids=["one shard", "three shards"])
def tables(request: pytest.FixtureRequest) -> Iterator[Tables]:
    with moto_tables() as made:
        yield open_tables(list_shards=request.param, client=made.client)


@pytest.fixture
def tenant() -> Tenant:
    """A merchant of one's own, so that tests share tables and nothing else."""
    return Tenant(f"mer_{next(NUMBERS)}", "test")


def write(tables: Tables, tenant: Tenant, number: int, **fields: Any) -> Payment:
    """The tenant's payment number ``number``, each a second after the one before.

    A plain put: moto copies all tables for a transaction.
    """
    payment = factories.make_payment(tenant=tenant, now=later(number), **fields)
    mapping.to_payment_item(payment, tables.store._shards, factories.cipher).save()
    return payment


def walk(read: Callable[[str | None], Page]) -> list[Page]:
    """All pages of a list."""
    pages, cursor = [], None
    while True:
        page = read(cursor)
        pages.append(page)
        if page.cursor is None:
            return pages
        assert cursor is None or page.cursor < cursor, "the cursor does not move on"
        cursor = page.cursor


def listed(pages: list[Page]) -> list[str]:
    return [thing.id for page in pages for thing in page.data]


# -- lists -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
def test_a_list_is_newest_first_and_its_pages_lose_and_repeat_nothing(
    tables: Tables, tenant: Tenant, limit: int
) -> None:
    written = [write(tables, tenant, number).id for number in range(7)]
    pages = walk(lambda cursor: tables.queries.payments(tenant, limit=limit, cursor=cursor))
    assert listed(pages) == written[::-1]
    assert all(len(page.data) <= limit for page in pages)


def test_an_empty_list_is_one_empty_page(tables: Tables, tenant: Tenant) -> None:
    for read in (tables.queries.payments, tables.queries.orders, tables.queries.refunds):
        assert read(tenant, limit=10, cursor=None) == ([], None)


def test_a_payment_made_while_a_list_is_read_neither_shows_nor_shifts_it(tables: Tables, tenant: Tenant) -> None:
    written = [write(tables, tenant, number).id for number in range(4)]
    first = tables.queries.payments(tenant, limit=2, cursor=None)
    write(tables, tenant, 99)
    second = tables.queries.payments(tenant, limit=2, cursor=first.cursor)
    assert listed([first, second]) == written[::-1]


def test_tenants_and_modes_never_see_each_other(tables: Tables, tenant: Tenant) -> None:
    live = tenant._replace(mode="live")
    payment, other = write(tables, tenant, 1), write(tables, live, 2)
    assert listed([tables.queries.payments(tenant, limit=10, cursor=None)]) == [payment.id]
    assert listed([tables.queries.payments(live, limit=10, cursor=None)]) == [other.id]
    for stranger in (live, OTHER):
        assert tables.queries.payment_state(stranger, payment.id) is None
        assert tables.queries.payment(stranger, payment.id) is None
        assert tables.queries.events(stranger, payment.id) == []
        assert tables.queries.journals(stranger, payment.id) == []


def test_the_status_filter_shows_that_status_only(tables: Tables, tenant: Tenant) -> None:
    for number in range(6):
        write(tables, tenant, number, status=PaymentStatus.FAILED if number % 2 else PaymentStatus.CREATED)
    for status, expected in ((PaymentStatus.FAILED, 3), (PaymentStatus.CREATED, 3), (PaymentStatus.PROCESSING, 0)):
        read = partial(tables.queries.payments, tenant, limit=2, status=status)
        found = [payment for page in walk(lambda cursor, read=read: read(cursor=cursor)) for payment in page.data]  # type: ignore[misc]
        assert [payment.status for payment in found] == [status] * expected


def test_a_payment_moves_from_one_status_list_to_the_other(tables: Tables, tenant: Tenant) -> None:
    story = stored(tables, tenant=tenant)

    def shown(status: str) -> list[str]:
        return listed([tables.queries.payments(tenant, limit=10, cursor=None, status=status)])

    assert (shown("created"), shown("processing")) == ([story.payment.id], [])
    story.send()
    assert (shown("created"), shown("processing")) == ([], [story.payment.id])
    story.hear(_C.SUCCEEDED)
    assert (shown("processing"), shown("succeeded")) == ([], [story.payment.id])


def test_payments_of_an_order_and_of_a_customer_are_found_by_their_index(tables: Tables, tenant: Tenant) -> None:
    ours = [write(tables, tenant, n, customer_key="cus_1").id for n in range(3)]
    write(tables, tenant, 9, customer_key="cus_2")
    write(tables, tenant, 10)
    assert listed([tables.queries.payments(tenant, limit=10, cursor=None, customer_key="cus_1")]) == ours[::-1]
    order = factories.make_order(tenant=tenant)
    story = stored(tables, order, tenant=tenant)
    assert listed([tables.queries.payments(tenant, limit=10, cursor=None, order_id=order.id)]) == [story.payment.id]
    assert listed([tables.queries.payments(tenant, limit=10, cursor=None, order_id=order.id, status="failed")]) == []


def test_other_filters_work_within_a_page_that_may_be_short_but_has_a_cursor(
    tables: Tables, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "MAX_ROWS", 4)
    written = [write(tables, tenant, number, amount=1000 + number).id for number in range(10)]
    rare = walk(
        lambda cursor: tables.queries.payments(tenant, limit=3, cursor=cursor, keep=lambda p: p.amount in (1000, 1001))
    )
    assert listed(rare) == [written[1], written[0]]
    assert len(rare) > 1  # nothing matched among the newest: short pages that go on
    assert not rare[0].data


@settings(max_examples=12)
@given(limit=st.integers(1, 6), most=st.integers(1, 9), kept=st.sets(st.integers(0, 8)))
def test_whatever_is_kept_and_however_small_the_pages_all_of_it_is_listed_once(
    tables: Tables, limit: int, most: int, kept: set[int]
) -> None:
    tenant = Tenant("mer_nine", "test")
    written = tables.queries.payments(tenant, limit=9, cursor=None).data[::-1] or [
        write(tables, tenant, number, amount=1 + number) for number in range(9)
    ]
    before, queries.MAX_ROWS = queries.MAX_ROWS, most
    try:
        pages = walk(
            lambda cursor: tables.queries.payments(
                tenant, limit=limit, cursor=cursor, keep=lambda p: p.amount - 1 in kept
            )
        )
    finally:
        queries.MAX_ROWS = before
    assert listed(pages) == [payment.id for payment in reversed(written) if payment.amount - 1 in kept]


def test_a_row_whose_item_is_gone_is_left_out(tables: Tables, tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    payment = write(tables, tenant, 1)
    monkeypatch.setattr(queries, "_batch_get", lambda _: {})  # an index may be ahead of its table
    page = tables.queries.payments(tenant, limit=10, cursor=None)
    assert page == ([], None)
    assert payment.id


def test_orders_are_listed_and_filtered(tables: Tables, tenant: Tenant) -> None:
    made = [factories.make_order(tenant=tenant, now=later(number)) for number in range(3)]
    for order in made:
        tables.store.commit(orders.create(order), now=NOW)
    tables.store.commit(orders.end(made[0], OrderStatus.CANCELED, NOW), now=NOW)
    pages = walk(lambda cursor: tables.queries.orders(tenant, limit=1, cursor=cursor))
    assert listed(pages) == [order.id for order in reversed(made)]
    assert listed([tables.queries.orders(tenant, limit=9, cursor=None, status="canceled")]) == [made[0].id]
    assert listed([tables.queries.orders(tenant, limit=9, cursor=None, status="created")]) == [made[2].id, made[1].id]
    assert listed([tables.queries.orders(tenant, limit=9, cursor=None, keep=lambda o: o.id == made[1].id)]) == [
        made[1].id
    ]


def test_refunds_are_listed_and_other_operations_are_not(tables: Tables, tenant: Tenant) -> None:
    story = stored(tables, tenant=tenant)
    story.send()
    story.hear(_C.AUTHORIZED)  # brings a capture
    story.hear(_C.SUCCEEDED)
    made = []
    for amount in (10, 20, 30):
        story.wait(1)
        change, refund = operations.request_refund(
            story.state, amount, None, partial=True, timing=TIMING, now=story.now
        )
        story.apply(change)
        made.append(refund.id)
    told = factories.effect(EffectStatus.SUCCEEDED)
    second = story.state.operation(made[1])
    assert second is not None
    story.apply(operations.record_effect(story.state, second, told, timing=TIMING, now=story.now, source="webhook"))
    pages = walk(lambda cursor: tables.queries.refunds(tenant, limit=2, cursor=cursor))
    assert listed(pages) == made[::-1]
    assert listed([tables.queries.refunds(tenant, limit=9, cursor=None, status="succeeded")]) == [made[1]]
    assert tables.queries.payment_of_reference(tenant, made[0]) == story.payment.id
    assert tables.queries.operation(tenant, story.payment.id, made[0]) == story.state.operation(made[0])
    assert tables.queries.operation(OTHER, story.payment.id, made[0]) is None


# -- overdue work ------------------------------------------------------------------------------------


def due_ids(tables: Tables, tenant: Tenant, seconds: float, limit: int = 100) -> list[str]:
    rows = [row for shard in range(DUE_SHARDS) for row in tables.queries.due(shard, later(seconds), limit)]
    return [row.pk.rsplit("/", 1)[1] for row in rows if row.pk.startswith(f"{tenant.merchant_id}/")]


def test_work_is_overdue_from_the_moment_its_lease_is_over(tables: Tables, tenant: Tenant) -> None:
    payment = write(tables, tenant, 0)
    assert due_ids(tables, tenant, TIMING.lease - 0.001) == []
    assert due_ids(tables, tenant, TIMING.lease) == [payment.id]


def test_payments_attempts_operations_and_orders_are_all_found(tables: Tables, tenant: Tenant) -> None:
    order = factories.make_order(tenant=tenant)
    tables.store.commit(orders.create(order), now=NOW)
    watched = stored(tables, tenant=tenant)
    watched.send()
    watched.hear(_C.ACTION_REQUIRED)
    watched.apply(payments.give_up(watched.state, PaymentStatus.CANCELED, TIMING, NOW))
    paid = succeeded(tables, tenant=tenant)
    change, _ = operations.request_refund(paid.state, None, None, partial=True, timing=TIMING, now=NOW)
    paid.apply(change)
    rows = [row for shard in range(DUE_SHARDS) for row in tables.queries.due(shard, later(10**6), 500)]
    kinds = {row.sk.split("#")[1] for row in rows if row.pk.startswith(f"{tenant.merchant_id}/")}
    assert kinds == {"order", "att", "op"}
    write(tables, tenant, 1)
    assert len(due_ids(tables, tenant, 10**6, 500)) == 4


def test_the_longest_overdue_comes_first_and_a_batch_is_bounded(tables: Tables, tenant: Tenant) -> None:
    for number in range(20):
        write(tables, tenant, number)
    for shard in range(DUE_SHARDS):
        rows = tables.queries.due(shard, later(10**6), 3)
        assert len(rows) <= 3
        assert [row.due_at for row in rows] == sorted(row.due_at for row in rows)


def test_what_is_over_is_not_due(tables: Tables, tenant: Tenant) -> None:
    story = succeeded(tables, tenant=tenant)
    assert story.payment.id not in due_ids(tables, tenant, 10**9, 1000)


def test_overdue_deliveries_are_found_and_done_ones_are_not(tables: Tables, tenant: Tenant) -> None:
    waiting, done = (factories.make_delivery(tenant=tenant, due_at=due) for due in (later(5), None))
    for delivery in (waiting, done):
        tables.store.add_delivery(delivery)
    rows = [row for shard in range(DUE_SHARDS) for row in tables.queries.due_deliveries(shard, later(5), 500)]
    ours = [row for row in rows if row.pk.startswith(f"{tenant.merchant_id}/")]
    assert [(row.pk.rsplit("/", 1)[1], row.sk, row.due_at) for row in ours] == [
        (waiting.event_id, "dlv#default", later(5).timestamp())
    ]


# -- one thing ---------------------------------------------------------------------------------------


def test_a_story_can_be_read_in_parts(tables: Tables, tenant: Tenant) -> None:
    story = succeeded(tables, tenant=tenant)
    events = tables.queries.events(tenant, story.payment.id)
    assert [event.sequence for event in events] == [1, 2, 3]
    assert [e.sequence for e in tables.queries.events(tenant, story.payment.id, after=1, limit=1)] == [2]
    assert tables.queries.events(tenant, story.payment.id, after=3) == []
    assert tables.queries.event(tenant, story.payment.id, 2) == events[1]
    assert tables.queries.event(tenant, story.payment.id, 4) is None


def test_a_payment_with_more_parts_than_one_answer_holds_is_read_whole(tables: Tables, tenant: Tenant) -> None:
    story = succeeded(tables, tenant=tenant, metadata={"big": "x" * 300_000})
    for _ in range(5):
        change, _refund = operations.request_refund(story.state, 1, "r" * 180_000, partial=True, timing=TIMING, now=NOW)
        story.apply(change)
    loaded = tables.load(story.payment.id, tenant)
    assert len(loaded.operations) == 5
    assert sorted(o.id for o in loaded.operations) == sorted(o.id for o in story.state.operations)
    assert len(tables.queries.journals(tenant, story.payment.id)) == 6


def test_attempts_are_read_in_their_order(tables: Tables, tenant: Tenant) -> None:
    story = stored(tables, tenant=tenant)
    for name in "aab":
        story.send(name)
        story.hear(_C.DECLINED, next_within=lambda _: 20.0, provider_reference=ids.new_id("ch", NOW))
    assert [attempt.number for attempt in tables.load(story.payment.id, tenant).attempts] == [1, 2, 3]


def test_what_is_not_there_is_none(tables: Tables) -> None:
    assert tables.queries.payment_state(TENANT, "pay_none") is None
    assert tables.queries.order(TENANT, "order_none") is None
    assert tables.queries.operation(TENANT, "pay_none", "rf_none") is None
    assert tables.queries.payment_of_reference(TENANT, "none") is None
    assert tables.queries.delivery(TENANT, "evt_none", "default") is None
    assert tables.queries.idempotency("mer_01TEST/test/none", NOW) is None
    assert tables.queries.totals(TENANT, "balance/XXX") == {}


def test_a_list_is_the_same_whatever_the_number_of_shards_it_was_written_with(tables: Tables, tenant: Tenant) -> None:
    # A merchant that grows gets more shards: readers of all shards still see the rows of the first.
    one = open_tables(list_shards=1, client=tables.client)
    written = [write(one, tenant, number).id for number in range(4)]
    three = open_tables(list_shards=3, client=tables.client)
    written += [write(three, tenant, number).id for number in range(4, 8)]
    assert listed(walk(lambda cursor: three.queries.payments(tenant, limit=3, cursor=cursor))) == written[::-1]
