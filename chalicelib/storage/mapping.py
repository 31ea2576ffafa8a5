"""Domain values to items and back. Private to storage."""

from __future__ import annotations

import json
import zlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from chalicelib.domain import contacts, velocity
from chalicelib.domain.cards import CardToken
from chalicelib.domain.errors import ErrorClass, ErrorCode, PaymentError
from chalicelib.domain.model import Attempt, Delivery, Event, Journal, Leg, Operation, Order, Payment, Reference, Tenant
from chalicelib.domain.states import (
    AttemptStatus,
    OperationStatus,
    OperationType,
    OrderStatus,
    PaymentStatus,
)
from chalicelib.storage import items
from chalicelib.storage.sealing import is_sealed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pynamodb.models import Model

    from chalicelib.domain.velocity import Dimension, Window
    from chalicelib.storage.sealing import Cipher, Ciphers

DUE_SHARDS = 4  # of the due index: one key takes 1,000 writes a second

# One list row moves less often if statuses a merchant sees for milliseconds share a key.
_STATUS_GROUP = {PaymentStatus.CREATED: "in_flight", PaymentStatus.PROCESSING: "in_flight"}


def tenant_key(tenant: Tenant, suffix: str) -> str:
    """A key inside the tenant's world."""
    return f"{tenant.merchant_id}/{tenant.mode}/{suffix}"


def tenant_of(key: str) -> Tenant:
    """The tenant a key belongs to."""
    merchant_id, mode, _ = key.split("/", 2)
    return Tenant(merchant_id, "live" if mode == "live" else "test")


def shard_of(identifier: str, shards: int) -> int:
    """Which of ``shards`` an id belongs to."""
    return zlib.crc32(identifier.encode()) % shards


def list_key(tenant: Tenant, kind: str, shard: int) -> str:
    """Key of the by_created index."""
    return tenant_key(tenant, f"{kind}/{shard}")


def status_key(tenant: Tenant, kind: str, status: str, shard: int) -> str:
    """Key of the by_status index."""
    return tenant_key(tenant, f"{kind}/{_STATUS_GROUP.get(status, status)}/{shard}")  # type: ignore[call-overload]


def error_to_dict(error: PaymentError | None) -> dict[str, str] | None:
    """As stored."""
    if error is None:
        return None
    stored = {"class": str(error.error_class), "code": str(error.code), "message": error.message}
    return stored | ({"provider_code": error.provider_code} if error.provider_code else {})


def error_from_dict(stored: Mapping[str, str] | None) -> PaymentError | None:
    """From what is stored."""
    if stored is None:
        return None
    return PaymentError(
        ErrorClass(stored["class"]), ErrorCode(stored["code"]), stored["message"], stored.get("provider_code")
    )


def _epoch(moment: datetime | None) -> float | None:
    return None if moment is None else round(moment.timestamp(), 3)


def _moment(epoch: float | None) -> datetime | None:
    return None if epoch is None else datetime.fromtimestamp(epoch, UTC)


_TO_ITEM: dict[str, Callable[[Any], Any]] = {
    "error": error_to_dict,
    "due_at": _epoch,
    "needs_attention": lambda value: value or None,
    "legs": lambda legs: [[leg.account, leg.amount] for leg in legs],
}


def _fields(item_class: type[Model], entity: object) -> dict[str, Any]:
    names = [name for name in item_class.get_attributes() if hasattr(entity, name)]
    return {
        name: _TO_ITEM[name](v) if name in _TO_ITEM else v for name in names if (v := getattr(entity, name)) is not None
    }


def due_key(identifier: str) -> str:
    """Key of the due index."""
    return f"due/{shard_of(identifier, DUE_SHARDS)}"


def payment_key(tenant: Tenant, payment_id: str) -> str:
    """Partition key of everything that belongs to a payment, or to an order."""
    return tenant_key(tenant, payment_id)


def to_payment_item(payment: Payment, shards: int, ciphers: Ciphers) -> items.PaymentItem:
    """A payment as stored: what is private about it sealed, here and nowhere else."""
    tenant, shard = payment.tenant, shard_of(payment.id, shards)
    private = contacts.private_of(payment)
    fields = _fields(items.PaymentItem, payment) | {
        "customer": contacts.open_customer(payment.customer),
        "method": contacts.open_method(payment.method),
        "next_action": None,
        "sealed": ciphers(tenant).seal("payment", payment.id, _packed(private)) if private else None,
    }
    return items.PaymentItem(
        pk=payment_key(tenant, payment.id),
        sk="a#payment",
        list_pk=list_key(tenant, "payment", shard),
        list_sk=payment.id,
        status_pk=status_key(tenant, "payment", payment.status, shard),
        order_pk=tenant_key(tenant, payment.order_id) if payment.order_id else None,
        customer_pk=tenant_key(tenant, payment.customer_key) if payment.customer_key else None,
        due_pk=due_key(payment.id) if payment.due_at else None,
        **fields,
    )


def to_order_item(order: Order, shards: int) -> items.OrderItem:
    """An order as stored."""
    shard = shard_of(order.id, shards)
    return items.OrderItem(
        pk=tenant_key(order.tenant, order.id),
        sk="a#order",
        list_pk=list_key(order.tenant, "order", shard),
        list_sk=order.id,
        status_pk=status_key(order.tenant, "order", order.status, shard),
        due_pk=due_key(order.id) if order.due_at else None,
        **_fields(items.OrderItem, order),
    )


def to_attempt_item(attempt: Attempt) -> items.AttemptItem:
    """An attempt as stored."""
    return items.AttemptItem(
        pk=payment_key(attempt.tenant, attempt.payment_id),
        sk=f"a#att#{attempt.number:02d}",
        due_pk=due_key(attempt.id) if attempt.due_at else None,
        **_fields(items.AttemptItem, attempt),
    )


def to_operation_item(operation: Operation, shards: int) -> items.OperationItem:
    """An operation as stored; refunds are also listed."""
    is_refund = operation.type is OperationType.REFUND
    shard = shard_of(operation.id, shards)
    return items.OperationItem(
        pk=payment_key(operation.tenant, operation.payment_id),
        sk=f"a#op#{operation.id}",
        list_pk=list_key(operation.tenant, "refund", shard) if is_refund else None,
        list_sk=operation.id if is_refund else None,
        status_pk=status_key(operation.tenant, "refund", operation.status, shard) if is_refund else None,
        due_pk=due_key(operation.id) if operation.due_at else None,
        **_fields(items.OperationItem, operation),
    )


def to_event_item(event: Event) -> items.EventItem:
    """An event as stored."""
    return items.EventItem(
        pk=tenant_key(event.tenant, event.subject_id),
        sk=f"evt#{event.sequence:08d}",
        **_fields(items.EventItem, event),
    )


def to_journal_item(journal: Journal) -> items.JournalItem:
    """A journal as stored."""
    return items.JournalItem(
        pk=payment_key(journal.tenant, journal.payment_id),
        sk=f"jnl#{journal.id}",
        **_fields(items.JournalItem, journal),
    )


def to_reference_item(reference: Reference) -> items.ReferenceItem:
    """A reference as stored."""
    return items.ReferenceItem(
        pk=tenant_key(reference.tenant, f"ref/{reference.key}"), sk="ref", payment_id=reference.payment_id
    )


_DELIVERY_SECONDS = 30 * 86400  # how long a delivery can be looked up


def to_delivery_item(delivery: Delivery) -> items.DeliveryItem:
    """A delivery as stored."""
    return items.DeliveryItem(
        pk=tenant_key(delivery.tenant, delivery.event_id),
        sk=f"dlv#{delivery.endpoint}",
        due_pk=due_key(delivery.id) if delivery.due_at else None,
        expires_at=round(delivery.created_at.timestamp()) + _DELIVERY_SECONDS,
        **(_fields(items.DeliveryItem, delivery) | {"log": list(delivery.log)}),
    )


def token_key(tenant: Tenant, token_id: str) -> str:
    """Partition key of a card's token."""
    return f"token/{tenant_key(tenant, token_id)}"


def to_token_item(token: CardToken) -> items.TokenItem:
    """A card's token as stored."""
    fields = _fields(items.TokenItem, token) | {"expires_at": _epoch(token.expires_at)}
    return items.TokenItem(pk=token_key(token.tenant, token.id), sk="token", **fields)


def window_key(key: str) -> str:
    """Partition key of a velocity window."""
    return f"velocity/{key}"


def to_window_item(key: str, window: Window, now: datetime) -> items.WindowItem:
    """A velocity window as stored."""
    return items.WindowItem(
        window_key(key),
        "window",
        rows=velocity.to_rows(window) or None,
        version=window.version,
        expires_at=velocity.expires_at(window, now),
    )


def window_of(item: items.WindowItem, dimension: Dimension) -> Window:
    """The velocity window in an item."""
    return velocity.from_rows(dimension, item.rows or (), int(item.version))


# What sealed parts of payments usually hold, to deflate them by: it keeps a simple payment within a kilobyte, and
# with it its writes at one unit. It is part of how they are stored, so it never changes; the best is at the end.
_WORDS = (
    b'[{},{},{"type":"provider_checkout","method":"POST","url":"https://","fields":{"redirect","upi_intent","uri":"upi://pay?'
    b'"form_post"}}]"segment":"device":"ip":"name":"contact":"+91","email":"@gmail.com@yahoo.com@outlook.com@example.com",'
    b'"},{"vpa":"@okicici@okhdfcbank@oksbi@okaxis@ybl@ibl@axl@apl@paytm@upi"}]'
)


def _packed(private: Mapping[str, Any]) -> bytes:
    """What is private about a payment, as short as can be: raw deflate (RFC 1951) of JSON, by position."""
    text = json.dumps([private.get(name) for name in contacts.PRIVATE], separators=(",", ":"), ensure_ascii=False)
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS, 9, zlib.Z_DEFAULT_STRATEGY, _WORDS)
    return deflate.compress(text.encode("utf-8", "surrogatepass")) + deflate.flush()


def _unpacked(packed: bytes) -> dict[str, Any]:
    inflate = zlib.decompressobj(-zlib.MAX_WBITS, _WORDS)
    values = json.loads(inflate.decompress(packed) + inflate.flush())
    return {name: value for name, value in zip(contacts.PRIVATE, values, strict=False) if value}


def seal_answer(cipher: Cipher, key: str, answer: bytes) -> bytes:
    """The bytes of the answer to a request, as its idempotency key's row holds them."""
    return cipher.seal("answer", key, zlib.compress(answer))


def answer_of(ciphers: Ciphers, key: str, stored: bytes) -> bytes:
    """The answer in an idempotency key's row."""
    if is_sealed(stored):  # not by an earlier release
        stored = ciphers(tenant_of(key)).open("answer", key, stored)
    return zlib.decompress(stored)


def _values(item: Model, *, leave: tuple[str, ...] = ()) -> dict[str, Any]:
    left_out = {
        "pk", "sk", "kind", "list_pk", "list_sk", "status_pk", "order_pk", "customer_pk", "due_pk", *leave,
    }  # fmt: skip
    return {name: value for name, value in item.attribute_values.items() if name not in left_out and value is not None}


def payment_of(item: items.PaymentItem, ciphers: Ciphers) -> Payment:
    """The payment in an item, opened: here and nowhere else."""
    values = _values(item, leave=("sealed",))
    tenant = tenant_of(item.pk)
    if item.sealed is not None:
        private = ciphers(tenant).open("payment", item.id, item.sealed)
        for name, value in _unpacked(private).items():
            values[name] = {**(values.get(name) or {}), **value}
    values["status"] = PaymentStatus(values["status"])
    values["due_at"] = _moment(values.get("due_at"))
    values["error"] = error_from_dict(values.get("error"))
    defaults: dict[str, Any] = {
        "order_id": None, "return_url": None, "description": None, "customer": {}, "metadata": {},
    }  # fmt: skip
    return Payment(**(defaults | values), tenant=tenant)


def order_of(item: items.OrderItem) -> Order:
    """The order in an item."""
    values = _values(item)
    values["status"] = OrderStatus(values["status"])
    values["due_at"] = _moment(values.get("due_at"))
    defaults: dict[str, Any] = {"receipt": None, "lines": [], "metadata": {}, "live_payment_id": None}
    return Order(**(defaults | values), tenant=tenant_of(item.pk))


def attempt_of(item: items.AttemptItem) -> Attempt:
    """The attempt in an item."""
    values = _values(item)
    values["status"] = AttemptStatus(values["status"])
    values["due_at"] = _moment(values.get("due_at"))
    values["error"] = error_from_dict(values.get("error"))
    return Attempt(**({"route": {}} | values), tenant=tenant_of(item.pk))


def operation_of(item: items.OperationItem) -> Operation:
    """The operation in an item."""
    values = _values(item)
    values["status"] = OperationStatus(values["status"])
    values["type"] = OperationType(values["type"])
    values["due_at"] = _moment(values.get("due_at"))
    values["error"] = error_from_dict(values.get("error"))
    return Operation(**({"reason": None} | values), tenant=tenant_of(item.pk))


def event_of(item: items.EventItem) -> Event:
    """The event in an item."""
    return Event(**({"data": {}} | _values(item)), tenant=tenant_of(item.pk))


def journal_of(item: items.JournalItem) -> Journal:
    """The journal in an item."""
    values = _values(item)
    values["legs"] = tuple(Leg(account, amount) for account, amount in values["legs"])
    return Journal(**values, tenant=tenant_of(item.pk))


def delivery_of(item: items.DeliveryItem) -> Delivery:
    """The delivery in an item."""
    values = _values(item, leave=("expires_at",))
    values["due_at"] = _moment(values.get("due_at"))
    defaults: dict[str, Any] = {"payment_id": None, "log": ()}
    return Delivery(**(defaults | values), endpoint=item.sk.removeprefix("dlv#"), tenant=tenant_of(item.pk))


def token_of(item: items.TokenItem) -> CardToken:
    """The card's token in an item."""
    values = _values(item) | {"expires_at": _moment(item.expires_at)}
    return CardToken(**values, tenant=tenant_of(item.pk.removeprefix("token/")))
