"""The only conditional writes. Every condition that money depends on is in this file.

A state change is one ``TransactWriteItems``. What makes it safe, whatever crashes or races:

* the payment's (and the order's) ``version`` must be the one the decision was based on;
* new items must not exist;
* a provider account must be the version that was changed;
* a velocity window must be the version that the payment was counted into;
* a refund's money must still be refundable;
* a request's idempotency key and a provider event's mark must be free.

A crash before the write leaves nothing, a crash after it leaves everything, a repeat fails its
conditions, and of two racing writers one gets ``Stale`` and decides again on the new state.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pynamodb.exceptions import PutError, PynamoDBException, TransactWriteError, UpdateError
from pynamodb.transactions import TransactWrite

from chalicelib.domain.ids import new_id
from chalicelib.storage import audits, items, mapping
from chalicelib.storage.items import (
    DeliveryItem,
    GuardsItem,
    IdempotencyItem,
    MarkItem,
    PaymentItem,
    PaymentsItem,
    ReferenceItem,
    SlotItem,
    StatsItem,
    WindowItem,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime

    from pynamodb.models import Model

    from chalicelib.domain.audit import Entry
    from chalicelib.domain.cards import CardToken
    from chalicelib.domain.model import Attempt, Change, Delivery, Operation, Order, Payment, Tenant
    from chalicelib.domain.velocity import Window
    from chalicelib.storage.sealing import Ciphers

_CONDITION_FAILED = "ConditionalCheckFailed"
# Reasons that mean "nothing was written, somebody else is writing": read again and decide again.
_CONTENDED = frozenset({_CONDITION_FAILED, "TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"})
# The same for the transaction as a whole.
_NOTHING_WRITTEN = frozenset(
    {
        "TransactionConflictException",
        "TransactionInProgressException",
        "ThrottlingException",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
    }
)


class Stale(Exception):
    """The state has changed since it was read, or is being changed now. Nothing was written."""


class KeyTaken(Exception):
    """The idempotency key has been used. Nothing was written."""


class ReferenceTaken(Exception):
    """A provider's id of this change belongs to another payment. Nothing was written."""


class AlreadyApplied(Exception):
    """The provider event's mark exists: its effect has been written before."""


@dataclass(frozen=True, slots=True)
class Claim:
    """An idempotency key to be taken together with the effect it stands for.

    ``body`` holds the final answer's bytes, or is None under a lease: then the answer is
    stored later by ``answer``. ``key`` begins with its tenant's key. ``lease_until`` and
    ``expires_at`` are epoch seconds.
    """

    key: str
    fingerprint: str
    object_id: str
    expires_at: float
    status: int | None = None
    body: bytes | None = None
    lease_until: float | None = None


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that must have its effect only once; ``expires_at`` in epoch seconds."""

    key: str
    expires_at: float


_NOTHING: Mapping[str, Window] = MappingProxyType({})
_LOST = frozenset({_CONDITION_FAILED, "TransactionConflict"})  # of these, what one write can meet
STATS_SHARDS = 8  # of every counter: a busy merchant's events would queue up behind one row


class Store:
    """Conditional writes to one stage's tables."""

    def __init__(self, prefix: str, ciphers: Ciphers, *, list_shards: int = 1) -> None:
        """``prefix`` begins the tables' names; ``ciphers`` seal what is private; ``list_shards`` spreads a
        merchant's lists over keys."""
        items.bind(prefix)
        self._ciphers = ciphers
        self._shards = list_shards

    def commit(
        self,
        change: Change,
        *,
        now: datetime,
        claim: Claim | None = None,
        mark: Mark | None = None,
        windows: Mapping[str, Window] = _NOTHING,
        audit: Entry | None = None,
    ) -> None:
        """Write all of ``change`` or nothing; raises Stale, KeyTaken, AlreadyApplied or ReferenceTaken.

        ``windows`` are velocity windows by key, each the next version of what was read. ``audit`` is the line
        that says who asked for it.
        """
        labels: list[str] = []
        try:
            with TransactWrite(connection=PaymentsItem._get_connection().connection) as transaction:  # noqa: SLF001
                if claim is not None:
                    labels.append("claim")
                    transaction.save(_claim_item(claim, self._ciphers), _free(IdempotencyItem, now))
                if mark is not None:
                    labels.append("mark")
                    transaction.save(_mark_item(mark), _free(MarkItem, now))
                part: Change | None = change
                while part is not None:
                    labels.extend(self._save(transaction, part))
                    part = part.also
                for key, window in windows.items():
                    labels.append("window")
                    transaction.save(mapping.to_window_item(key, window, now), _counted(window, now))
                if audit is not None:
                    labels.append("audit")
                    transaction.save(*audits.write(audit))
        except TransactWriteError as error:
            raise _meaning(error, labels) from error

    def _save(self, transaction: TransactWrite, change: Change) -> list[str]:
        writes = [*self._heads(change), *self._parts(change)]
        for item, condition, _ in writes:
            transaction.save(item, condition)
        return [label for _, _, label in writes]

    @staticmethod
    def _condition(old: Payment | Order | None, refund_guard: int) -> Any:  # noqa: ANN401
        """The version the decision was based on; for a refund also that the money is still there."""
        if old is None:
            return PaymentsItem.pk.does_not_exist()
        condition: Any = PaymentItem.version == old.version
        if refund_guard:
            condition &= PaymentItem.amount_refundable >= refund_guard
        return condition

    def _heads(self, change: Change) -> Iterator[tuple[Model, Any, str]]:
        """The payment and the order: their conditions guard everything else in the change."""
        if change.payment is not None:
            condition = self._condition(change.old_payment, change.refund_guard)
            yield mapping.to_payment_item(change.payment, self._shards, self._ciphers), condition, "payment"
        if change.order is not None:
            yield mapping.to_order_item(change.order, self._shards), self._condition(change.old_order, 0), "order"

    def _parts(self, change: Change) -> Iterator[tuple[Model, Any, str]]:
        """What belongs to them."""
        new = PaymentsItem.pk.does_not_exist()
        for attempt in change.new_attempts:
            yield mapping.to_attempt_item(attempt), new, "attempt"
        for attempt in change.attempts:
            yield mapping.to_attempt_item(attempt), None, "attempt"
        for operation in change.new_operations:
            yield mapping.to_operation_item(operation, self._shards), new, "operation"
        for operation in change.operations:
            yield mapping.to_operation_item(operation, self._shards), None, "operation"
        for event in change.events:
            yield mapping.to_event_item(event), new, "event"
        for journal in change.journals:
            yield mapping.to_journal_item(journal), new, "journal"
        for reference in change.references:
            same = ReferenceItem.payment_id == reference.payment_id
            yield mapping.to_reference_item(reference), new | same, "reference"

    # -- idempotency ---------------------------------------------------------------------------

    def answer(self, key: str, status: int, body: bytes) -> bool:
        """Store a leased key's final answer; False if another request stored one first."""
        item = IdempotencyItem(f"idem/{key}", "idem")
        sealed = mapping.seal_answer(self._ciphers(mapping.tenant_of(key)), key, body)
        actions = [IdempotencyItem.status.set(status), IdempotencyItem.body.set(sealed)]
        condition = IdempotencyItem.pk.exists() & IdempotencyItem.body.does_not_exist()
        return change_if(item, actions, condition)

    # -- leases --------------------------------------------------------------------------------

    def claim_due(self, pk: str, sk: str, due_at: float, until: datetime) -> bool:
        """Take overdue work by moving its lease (epoch seconds); False if somebody else was faster."""
        item = PaymentItem(pk, sk)
        return change_if(item, [PaymentItem.due_at.set(round(until.timestamp(), 3))], PaymentItem.due_at == due_at)

    def postpone(self, payment: Payment, until: datetime) -> None:
        """Let a payment's lease end later, unless somebody has moved it since it was read."""
        if payment.due_at is not None:
            pk = mapping.payment_key(payment.tenant, payment.id)
            self.claim_due(pk, "a#payment", round(payment.due_at.timestamp(), 3), until)

    def drop_due(self, pk: str, sk: str, due_at: float) -> bool:
        """Take a row that needs no more work out of the due index."""
        item = PaymentItem(pk, sk)
        return change_if(item, [PaymentItem.due_at.remove(), PaymentItem.due_pk.remove()], PaymentItem.due_at == due_at)

    def watch(self, attempt: Attempt) -> None:
        """Note one more look at an attempt its payment has let go of."""
        item = mapping.to_attempt_item(attempt)
        resolves = items.AttemptItem.resolves.set(attempt.resolves)
        due: list[Any] = [items.AttemptItem.due_at.remove(), items.AttemptItem.due_pk.remove()]
        if attempt.due_at is not None:
            due = [items.AttemptItem.due_at.set(item.due_at), items.AttemptItem.due_pk.set(item.due_pk)]
        change_if(item, [resolves, *due], items.AttemptItem.status == str(attempt.status))

    def hold(self, operation: Operation, until: datetime) -> None:
        """Set when to ask again about an operation the provider is still deciding."""
        item = mapping.to_operation_item(operation, self._shards)
        actions = [
            items.OperationItem.due_at.set(round(until.timestamp(), 3)),
            items.OperationItem.due_pk.set(mapping.due_key(operation.id)),
        ]
        change_if(item, actions, items.OperationItem.status == str(operation.status))

    # -- cards ---------------------------------------------------------------------------------

    def add_token(self, token: CardToken) -> None:
        """Keep a card's token. Its id is random: a row that is there is this one, from a try whose answer was lost."""
        put_if(mapping.to_token_item(token), GuardsItem.pk.does_not_exist())

    # -- bounded crowds ------------------------------------------------------------------------

    def take_slot(self, name: str, number: int, owner: str, now: datetime, seconds: float) -> bool:
        """Take a numbered place for ``seconds``; it frees itself if we crash."""
        item = SlotItem(f"slot/{name}/{number}", "slot", owner=owner, expires_at=round(now.timestamp() + seconds, 3))
        return put_if(item, _free(SlotItem, now))

    def free_slot(self, name: str, number: int, owner: str) -> None:
        """Give a place back early, if it is still ours."""
        item = SlotItem(f"slot/{name}/{number}", "slot")
        change_if(item, [SlotItem.expires_at.set(0)], SlotItem.owner == owner)

    # -- velocity ------------------------------------------------------------------------------

    def count(self, key: str, window: Window, now: datetime) -> bool:
        """Write the next version of a velocity window by itself; False if another one came first."""
        try:
            return put_if(mapping.to_window_item(key, window, now), _counted(window, now))
        except PutError as error:
            if _code(error) in _NOTHING_WRITTEN:  # a payment that is being counted into it right now
                return False
            raise

    # -- deliveries ----------------------------------------------------------------------------

    def add_delivery(self, delivery: Delivery) -> bool:
        """Note that an event has to reach an endpoint; False if that is noted already."""
        return put_if(mapping.to_delivery_item(delivery), DeliveryItem.pk.does_not_exist())

    def claim_try(self, delivery: Delivery) -> bool:
        """Count a delivery's next try before it is made; False if another worker makes it."""
        return put_if(mapping.to_delivery_item(delivery), DeliveryItem.tries == delivery.tries - 1)

    def record_outcome(self, delivery: Delivery) -> bool:
        """Write what came of a delivery's newest try; False if a later one has begun."""
        return put_if(mapping.to_delivery_item(delivery), DeliveryItem.tries == delivery.tries)

    def claim_delivery(self, pk: str, sk: str, due_at: float, until: datetime) -> bool:
        """Take an overdue delivery by moving its lease; False if somebody else was faster."""
        action = DeliveryItem.due_at.set(round(until.timestamp(), 3))
        return change_if(DeliveryItem(pk, sk), [action], DeliveryItem.due_at == due_at)

    # -- orphans -------------------------------------------------------------------------------

    def add_orphan(
        self, tenant: Tenant, account_id: str, dedupe_key: str, event: Mapping[str, object], now: datetime
    ) -> bool:
        """Keep a provider event that matches no payment; False if it is kept already."""
        item = items.OrphanItem(
            mapping.tenant_key(tenant, f"orphan/{account_id}/{dedupe_key}"),
            "orphan",
            list_pk=mapping.list_key(tenant, "orphan", 0),
            list_sk=new_id("orph", now),
            account=account_id,
            event=event,
            created_at=now,
        )
        return put_if(item, PaymentsItem.pk.does_not_exist())

    # -- projections ---------------------------------------------------------------------------

    def project(
        self,
        tenant: Tenant,
        totals: Mapping[tuple[str, str], int],
        mark: Mark,
        now: datetime,
        also: Sequence[tuple[Model, Any]] = (),
        added: Sequence[tuple[Model, Sequence[Any]]] = (),
    ) -> bool:
        """Add ``totals`` ((partition suffix, sort key) → amount) to the stats, write other items on their conditions,
        and apply actions to rows; False if done before. Raises Stale."""
        try:
            with TransactWrite(connection=PaymentsItem._get_connection().connection) as transaction:  # noqa: SLF001
                transaction.save(_mark_item(mark), _free(MarkItem, now))
                shard = mapping.shard_of(mark.key, STATS_SHARDS)
                for (partition, sort), amount in totals.items():
                    item = StatsItem(mapping.tenant_key(tenant, partition), f"{sort}#{shard}")
                    transaction.update(item, [StatsItem.total.add(amount)])
                for other, condition in also:
                    transaction.save(other, condition)
                for row, actions in added:
                    transaction.update(row, list(actions))
        except TransactWriteError as error:
            meaning = _meaning(error, ["mark", *["stats"] * (len(totals) + len(also) + len(added))])
            if isinstance(meaning, AlreadyApplied):
                return False
            raise meaning from error
        return True


def _free(item_class: type[items.GuardsItem], now: datetime) -> Any:  # noqa: ANN401
    """TTL deletes late, so a row past its time counts as absent."""
    return item_class.pk.does_not_exist() | (item_class.expires_at < round(now.timestamp(), 3))


def _counted(window: Window, now: datetime) -> Any:  # noqa: ANN401
    """The version before; of a new window that there is none, or one past its time."""
    return _free(WindowItem, now) if window.version == 1 else WindowItem.version == window.version - 1


def _claim_item(claim: Claim, ciphers: Ciphers) -> IdempotencyItem:
    sealed = None
    if claim.body is not None:
        sealed = mapping.seal_answer(ciphers(mapping.tenant_of(claim.key)), claim.key, claim.body)
    return IdempotencyItem(
        f"idem/{claim.key}",
        "idem",
        fingerprint=claim.fingerprint,
        object_id=claim.object_id,
        status=claim.status,
        body=sealed,
        lease_until=claim.lease_until,
        expires_at=claim.expires_at,
    )


def _mark_item(mark: Mark) -> MarkItem:
    return MarkItem(f"mark/{mark.key}", "mark", expires_at=mark.expires_at)


def write_all(
    writes: Sequence[tuple[Model, Any]],
    *,
    now: datetime | None = None,
    claim: Claim | None = None,
    ciphers: Ciphers | None = None,
    checks: Sequence[tuple[type[Model], str, str, Any]] = (),
) -> None:
    """Write items on their conditions, and take the key of the request that asked for it if it has one; or nothing.

    ``checks`` are of rows that are only looked at. Raises KeyTaken, or Stale if
    a condition does not hold or somebody writes one of them now.
    """
    labels = ["check"] * len(checks) + ["item"] * len(writes)  # in the order in which PynamoDB sends them
    try:
        with TransactWrite(connection=PaymentsItem._get_connection().connection) as transaction:  # noqa: SLF001
            if claim is not None and now is not None and ciphers is not None:
                labels.insert(len(checks), "claim")
                transaction.save(_claim_item(claim, ciphers), _free(IdempotencyItem, now))
            for item, condition in writes:
                transaction.save(item, condition)
            for model, pk, sk, condition in checks:
                transaction.condition_check(model, pk, sk, condition=condition)
    except TransactWriteError as error:
        raise _meaning(error, labels) from error


def put_if(item: Model, condition: Any) -> bool:  # noqa: ANN401
    """Write an item if the condition holds; False if it does not, or somebody else's transaction has the item."""
    try:
        item.save(condition)
    except PutError as error:
        if (_code(error) or "").removesuffix("Exception") in _LOST:
            return False
        raise
    return True


def together(write: Callable[[TransactWrite], None]) -> bool:
    """Do all that ``write`` asks of a transaction, or nothing and False: a condition does not hold, or another
    transaction has one of the items."""
    try:
        with TransactWrite(connection=PaymentsItem._get_connection().connection) as transaction:  # noqa: SLF001
            write(transaction)
    except TransactWriteError as error:
        if {reason.code for reason in error.cancellation_reasons if reason} & _LOST:
            return False
        raise
    return True


def change_if(item: Model, actions: Sequence[Any], condition: Any) -> bool:  # noqa: ANN401
    """Change attributes of an item if the condition holds; False if it does not, or a transaction has the item."""
    return changed(item, actions, condition, "NONE") is not None


def changed(
    item: Model,
    actions: Sequence[Any],
    condition: Any,  # noqa: ANN401
    shown: str = "ALL_NEW",
) -> Mapping[str, Any] | None:
    """As ``change_if``; the item after it as on the wire, or None if it was not changed."""
    hash_key, range_key = item._get_hash_range_key_serialized_values()  # noqa: SLF001
    try:
        # Not item.update(): that reads the new item back, and refuses one that is of another kind (claim_due).
        answer = item._get_connection().update_item(  # noqa: SLF001
            hash_key, range_key=range_key, actions=list(actions), condition=condition, return_values=shown
        )
    except UpdateError as error:
        if (_code(error) or "").removesuffix("Exception") in _LOST:
            return None
        raise
    after: Mapping[str, Any] = answer.get("Attributes") or {}
    return after


def _code(error: PynamoDBException) -> str | None:
    """DynamoDB's error code, None if there was no answer. PynamoDB's own property stumbles over a time-out."""
    response = getattr(error.cause, "response", None) or {}
    code: str | None = response.get("Error", {}).get("Code")
    return code


def _meaning(error: TransactWriteError, labels: Sequence[str]) -> PynamoDBException | Exception:
    """What a canceled transaction means, by the position of the conditions that failed."""
    if _code(error) in _NOTHING_WRITTEN:
        return Stale(f"nothing was written: {_code(error)}")
    told = zip(labels, error.cancellation_reasons, strict=False)
    reasons = [(label, reason.code) for label, reason in told if reason]
    if ("claim", _CONDITION_FAILED) in reasons:
        return KeyTaken()
    if ("mark", _CONDITION_FAILED) in reasons:
        return AlreadyApplied()
    if reasons and set(reasons) == {("reference", _CONDITION_FAILED)}:
        return ReferenceTaken("another payment has this provider reference")
    if reasons and all(code in _CONTENDED for _, code in reasons):
        return Stale(", ".join(f"{label}: {code}" for label, code in reasons))
    return error
