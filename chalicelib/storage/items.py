"""How things lie in DynamoDB: one PynamoDB class per item kind, with its keys. Private to storage.

Table ``payments``: an item collection per payment, ``pk = {merchant}/{mode}/{payment id}``, with

    a#payment          the payment            evt#00000007   event number 7
    a#att#01           its first attempt      jnl#{id}       a journal
    a#op#{id}          an operation

so that one query for ``a#`` reads all a decision needs. Orders have a collection of the same shape
(``a#order``, ``evt#…``); references are single items. The tenant is part of every key: another
merchant's id leads nowhere. See docs/data-model.md.
"""

from __future__ import annotations

import json
from typing import Any

from pynamodb.attributes import (
    Attribute,
    BinaryAttribute,
    BooleanAttribute,
    DiscriminatorAttribute,
    NumberAttribute,
    UnicodeAttribute,
    UTCDateTimeAttribute,
)
from pynamodb.constants import STRING
from pynamodb.indexes import GlobalSecondaryIndex, KeysOnlyProjection
from pynamodb.models import Model

from chalicelib.domain import latency

_CONNECT_TIMEOUT = 1  # seconds; PynamoDB's defaults outlast API Gateway's 29 seconds
_READ_TIMEOUT = 3


class JSON(Attribute[Any]):
    """Any JSON value, stored compactly; None and empty containers are not stored at all."""

    attr_type = STRING

    def serialize(self, value: Any) -> str | None:  # noqa: ANN401
        """To the shortest JSON text."""
        if value is None or value in ({}, [], ()):
            return None
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False)

    def deserialize(self, value: str) -> Any:  # noqa: ANN401
        """From JSON text."""
        return json.loads(value)


class _Meta:
    table_name = ""  # set by bind()
    connect_timeout_seconds = _CONNECT_TIMEOUT
    read_timeout_seconds = _READ_TIMEOUT
    max_retry_attempts = 3
    max_pool_connections = 10


# -- payments --------------------------------------------------------------------------------------


class PaymentsItem(Model):
    """Anything in the payments table."""

    class Meta(_Meta):
        """Table settings."""

    pk = UnicodeAttribute(hash_key=True)
    sk = UnicodeAttribute(range_key=True)
    kind = DiscriminatorAttribute()


class _Indexed(PaymentsItem, discriminator="indexed"):
    """Attributes that put an item into the indexes; absent ones keep it out."""

    list_pk = UnicodeAttribute(null=True)
    list_sk = UnicodeAttribute(null=True)
    status_pk = UnicodeAttribute(null=True)
    order_pk = UnicodeAttribute(null=True)
    customer_pk = UnicodeAttribute(null=True)
    due_pk = UnicodeAttribute(null=True)
    due_at = NumberAttribute(null=True)


class OrderItem(_Indexed, discriminator="order"):
    """sk = a#order."""

    id = UnicodeAttribute()
    status = UnicodeAttribute()
    amount = NumberAttribute()
    currency = UnicodeAttribute()
    receipt = UnicodeAttribute(null=True)
    lines = JSON(null=True)
    metadata = JSON(null=True)
    live_payment_id = UnicodeAttribute(null=True)
    created_at = UTCDateTimeAttribute()
    updated_at = UTCDateTimeAttribute()
    expires_at = UTCDateTimeAttribute()
    version = NumberAttribute()


class PaymentItem(_Indexed, discriminator="payment"):
    """sk = a#payment."""

    id = UnicodeAttribute()
    status = UnicodeAttribute()
    amount = NumberAttribute()
    currency = UnicodeAttribute()
    capture = UnicodeAttribute()
    method = JSON()
    customer = JSON(null=True)
    customer_key = UnicodeAttribute(null=True)
    order_id = UnicodeAttribute(null=True)
    return_url = UnicodeAttribute(null=True)
    description = UnicodeAttribute(null=True)
    metadata = JSON(null=True)
    experiment = UnicodeAttribute(null=True)
    risk = JSON()
    created_at = UTCDateTimeAttribute()
    updated_at = UTCDateTimeAttribute()
    expires_at = UTCDateTimeAttribute()
    version = NumberAttribute()
    run = NumberAttribute()
    amount_authorized = NumberAttribute()
    amount_captured = NumberAttribute()
    amount_refundable = NumberAttribute()
    amount_refunding = NumberAttribute()
    amount_refunded = NumberAttribute()
    amount_disputed = NumberAttribute()
    provider = UnicodeAttribute(null=True)
    provider_reference = UnicodeAttribute(null=True)
    sealed = BinaryAttribute(legacy_encoding=False, null=True)  # what is private; an earlier release wrote it in clear
    next_action = JSON(null=True)  # of an earlier release: now in sealed
    error = JSON(null=True)
    attempts = NumberAttribute()
    open_attempt = UnicodeAttribute(null=True)
    winning_attempt = UnicodeAttribute(null=True)
    open_operation = UnicodeAttribute(null=True)
    needs_attention = BooleanAttribute(null=True)


class AttemptItem(_Indexed, discriminator="attempt"):
    """sk = a#att#{number}."""

    id = UnicodeAttribute()
    payment_id = UnicodeAttribute()
    number = NumberAttribute()
    reference = UnicodeAttribute()
    provider = UnicodeAttribute()
    account = UnicodeAttribute()
    status = UnicodeAttribute()
    amount = NumberAttribute()
    currency = UnicodeAttribute()
    route = JSON(null=True)
    created_at = UTCDateTimeAttribute()
    updated_at = UTCDateTimeAttribute()
    deadline_at = UTCDateTimeAttribute()
    captured = NumberAttribute()
    reversed = NumberAttribute()
    provider_reference = UnicodeAttribute(null=True)
    data = JSON(null=True)
    error = JSON(null=True)
    resolves = NumberAttribute()
    not_found = NumberAttribute()
    retry_at = UTCDateTimeAttribute(null=True)


class OperationItem(_Indexed, discriminator="operation"):
    """sk = a#op#{id}."""

    id = UnicodeAttribute()
    payment_id = UnicodeAttribute()
    attempt_id = UnicodeAttribute()
    type = UnicodeAttribute()
    status = UnicodeAttribute()
    amount = NumberAttribute()
    currency = UnicodeAttribute()
    source = UnicodeAttribute()
    reason = UnicodeAttribute(null=True)
    created_at = UTCDateTimeAttribute()
    updated_at = UTCDateTimeAttribute()
    deadline_at = UTCDateTimeAttribute(null=True)
    called_at = UTCDateTimeAttribute(null=True)
    calls = NumberAttribute(null=True)
    not_found = NumberAttribute(null=True)
    provider_reference = UnicodeAttribute(null=True)
    error = JSON(null=True)
    tries = NumberAttribute()


class EventItem(PaymentsItem, discriminator="event"):
    """sk = evt#{sequence}. Its insertion is what the outbox relays."""

    id = UnicodeAttribute()
    subject_id = UnicodeAttribute()
    sequence = NumberAttribute()
    type = UnicodeAttribute()
    created_at = UTCDateTimeAttribute()
    data = JSON(null=True)
    operation_id = UnicodeAttribute(null=True)


class JournalItem(PaymentsItem, discriminator="journal"):
    """sk = jnl#{id}."""

    id = UnicodeAttribute()
    payment_id = UnicodeAttribute()
    type = UnicodeAttribute()
    currency = UnicodeAttribute()
    legs = JSON()
    created_at = UTCDateTimeAttribute()
    attempt_id = UnicodeAttribute()
    operation_id = UnicodeAttribute(null=True)


class ReferenceItem(PaymentsItem, discriminator="reference"):
    """pk = {merchant}/{mode}/ref/{key}, sk = ref."""

    payment_id = UnicodeAttribute()


class OrphanItem(_Indexed, discriminator="orphan"):
    """pk = {merchant}/{mode}/orphan/{account}/{dedupe key}, sk = orphan."""

    account = UnicodeAttribute()
    event = JSON()
    created_at = UTCDateTimeAttribute()


class _ByCreated(GlobalSecondaryIndex[Any]):  # type: ignore[no-untyped-call]  # pynamodb's own
    class Meta:
        index_name = "by_created"
        projection = KeysOnlyProjection()

    list_pk = UnicodeAttribute(hash_key=True)
    list_sk = UnicodeAttribute(range_key=True)


class _ByStatus(GlobalSecondaryIndex[Any]):  # type: ignore[no-untyped-call]
    class Meta:
        index_name = "by_status"
        projection = KeysOnlyProjection()

    status_pk = UnicodeAttribute(hash_key=True)
    list_sk = UnicodeAttribute(range_key=True)


class _ByOrder(GlobalSecondaryIndex[Any]):  # type: ignore[no-untyped-call]
    class Meta:
        index_name = "by_order"
        projection = KeysOnlyProjection()

    order_pk = UnicodeAttribute(hash_key=True)
    list_sk = UnicodeAttribute(range_key=True)


class _ByCustomer(GlobalSecondaryIndex[Any]):  # type: ignore[no-untyped-call]
    class Meta:
        index_name = "by_customer"
        projection = KeysOnlyProjection()

    customer_pk = UnicodeAttribute(hash_key=True)
    list_sk = UnicodeAttribute(range_key=True)


class _Due(GlobalSecondaryIndex[Any]):  # type: ignore[no-untyped-call]
    class Meta:
        index_name = "due"
        projection = KeysOnlyProjection()

    due_pk = UnicodeAttribute(hash_key=True)
    due_at = NumberAttribute(range_key=True)


class PaymentsRow(Model):
    """A row of one of the payments table's indexes: keys only."""

    class Meta(_Meta):
        """Table settings."""

    pk = UnicodeAttribute(hash_key=True)
    sk = UnicodeAttribute(range_key=True)
    list_sk = UnicodeAttribute(null=True)
    due_at = NumberAttribute(null=True)
    by_created = _ByCreated()
    by_status = _ByStatus()
    by_order = _ByOrder()
    by_customer = _ByCustomer()
    due = _Due()


# -- guards ----------------------------------------------------------------------------------------


class GuardsItem(Model):
    """Anything in the guards table. ``expires_at`` (epoch seconds) is also checked by time on read."""

    class Meta(_Meta):
        """Table settings."""

    pk = UnicodeAttribute(hash_key=True)
    sk = UnicodeAttribute(range_key=True)
    kind = DiscriminatorAttribute()
    expires_at = NumberAttribute()


class IdempotencyItem(GuardsItem, discriminator="idempotency"):
    """pk = idem/{merchant}/{mode}/{digest of method, path and key}, sk = idem."""

    fingerprint = UnicodeAttribute()
    object_id = UnicodeAttribute()
    status = NumberAttribute(null=True)
    body = BinaryAttribute(legacy_encoding=False, null=True)  # zlib, sealed; of an earlier release zlib
    lease_until = NumberAttribute(null=True)


class MarkItem(GuardsItem, discriminator="mark"):
    """pk = mark/{what}/{key}, sk = mark: this has been done."""


class SlotItem(GuardsItem, discriminator="slot"):
    """pk = slot/{name}/{number}, sk = slot: one place in a bounded crowd, held until expires_at."""

    owner = UnicodeAttribute()


class TokenItem(GuardsItem, discriminator="token"):
    """pk = token/{merchant}/{mode}/{id}, sk = token: a card without its number."""

    id = UnicodeAttribute()
    network = UnicodeAttribute()
    last4 = UnicodeAttribute()
    bin = UnicodeAttribute()
    expiry_month = NumberAttribute()
    expiry_year = NumberAttribute()
    fingerprint = UnicodeAttribute()
    created_at = UTCDateTimeAttribute()


class WindowItem(GuardsItem, discriminator="window"):
    """pk = velocity/{merchant}/{mode}/{dimension}/{keyed hash}, sk = window: what one of them has paid of late."""

    rows = JSON(null=True)
    version = NumberAttribute()


class SessionItem(GuardsItem, discriminator="session"):
    """pk = session/{id}, sk = session: somebody signed in; of secrets only hashes."""

    session_kind = UnicodeAttribute()
    merchant_id = UnicodeAttribute()
    user_id = UnicodeAttribute()
    secret = UnicodeAttribute()
    previous = UnicodeAttribute(null=True)
    created_at = UTCDateTimeAttribute()


class TriesItem(GuardsItem, discriminator="tries"):
    """pk = tries/{keyed hash of an email}, sk = tries: wrong passwords of late."""

    tries = NumberAttribute()
    next_at = NumberAttribute()
    version = NumberAttribute()


class BucketItem(GuardsItem, discriminator="bucket"):
    """pk = bucket/{name}, sk = bucket: a token bucket, see domain/buckets.py; full_at in microseconds."""

    full_at = NumberAttribute()


# -- merchants -------------------------------------------------------------------------------------


class MerchantsItem(Model):
    """Anything in the merchants table."""

    class Meta(_Meta):
        """Table settings."""

    pk = UnicodeAttribute(hash_key=True)
    sk = UnicodeAttribute(range_key=True)
    kind = DiscriminatorAttribute()


class ApiKeyItem(MerchantsItem, discriminator="api_key"):
    """pk = key/{sha256 of the key}, sk = key."""

    id = UnicodeAttribute()
    merchant_id = UnicodeAttribute()
    mode = UnicodeAttribute()
    name = UnicodeAttribute()
    hint = UnicodeAttribute()
    created_at = UTCDateTimeAttribute()
    revoked_at = UTCDateTimeAttribute(null=True)
    key_kind = UnicodeAttribute(null=True)  # absent: secret
    scopes = JSON(null=True)  # absent: all that a key of its kind can have
    expires_at = NumberAttribute(null=True)  # epoch seconds; set when it is rotated out


class ApiKeyEntryItem(MerchantsItem, discriminator="api_key_entry"):
    """pk = keys/{merchant}, sk = {mode}#{id}: the key as its merchant sees it, and where its own row is."""

    id = UnicodeAttribute()
    mode = UnicodeAttribute()
    name = UnicodeAttribute()
    hint = UnicodeAttribute()
    key_kind = UnicodeAttribute()
    scopes = JSON(null=True)
    digest = UnicodeAttribute()
    created_at = UTCDateTimeAttribute()
    revoked_at = UTCDateTimeAttribute(null=True)
    expires_at = NumberAttribute(null=True)
    replaces = UnicodeAttribute(null=True)
    last_used_at = NumberAttribute(null=True)  # epoch seconds, to the hour or so
    version = NumberAttribute()


class ProfileItem(MerchantsItem, discriminator="profile"):
    """pk = merchant/{id}, sk = merchant."""

    name = UnicodeAttribute()
    plan = UnicodeAttribute()
    origins = JSON(null=True)
    suspended = BooleanAttribute(null=True)
    created_at = UTCDateTimeAttribute(null=True)
    updated_at = UTCDateTimeAttribute(null=True)
    version = NumberAttribute()


class MerchantRow(MerchantsItem, discriminator="merchant_row"):
    """pk = merchants, sk = {merchant}: that it is there, for the platform's own list."""


class OriginItem(MerchantsItem, discriminator="origin"):
    """pk = origin/{origin}, sk = {merchant}: whose web pages may ask from there."""


class UserItem(MerchantsItem, discriminator="user"):
    """pk = users/{merchant}, sk = user#{id}; what tells who it is lies sealed."""

    id = UnicodeAttribute()
    sealed = BinaryAttribute(legacy_encoding=False)  # email and name
    role = UnicodeAttribute()
    status = UnicodeAttribute()
    password = UnicodeAttribute(null=True)
    invite = UnicodeAttribute(null=True)
    invite_until = UTCDateTimeAttribute(null=True)
    invite_by = UnicodeAttribute(null=True)
    signed_out_at = UTCDateTimeAttribute(null=True)
    created_at = UTCDateTimeAttribute()
    updated_at = UTCDateTimeAttribute()
    version = NumberAttribute()


class EmailItem(MerchantsItem, discriminator="email"):
    """pk = email/{keyed hash}, sk = email: whose it is; an email signs in one person."""

    merchant_id = UnicodeAttribute()
    user_id = UnicodeAttribute()


class AuditItem(MerchantsItem, discriminator="audit"):
    """pk = audit/{merchant}, sk = {id}: one line of the audit log; written once."""

    id = UnicodeAttribute()
    action = UnicodeAttribute()
    object_id = UnicodeAttribute()
    mode = UnicodeAttribute(null=True)
    actor_id = UnicodeAttribute()
    actor_kind = UnicodeAttribute()
    request_id = UnicodeAttribute(null=True)
    ip = UnicodeAttribute(null=True)
    created_at = UTCDateTimeAttribute()
    changes = BinaryAttribute(legacy_encoding=False, null=True)  # zlib of JSON: before and after


class PlatformItem(MerchantsItem, discriminator="platform"):
    """pk = platform, sk = secrets: what signs access tokens and hashes emails, sealed."""

    sealed = BinaryAttribute(legacy_encoding=False)
    version = NumberAttribute()


class SettingsItem(MerchantsItem, discriminator="settings"):
    """pk = {merchant}, sk = settings#{mode}."""

    name = UnicodeAttribute()
    webhook_url = UnicodeAttribute(null=True)
    sealed_webhook_secret = BinaryAttribute(legacy_encoding=False, null=True)
    sealed_lookup_key = BinaryAttribute(legacy_encoding=False)
    rules = JSON(null=True)
    risk = JSON(null=True)


class _RulesItem(MerchantsItem, discriminator="rules"):
    """Rules that the merchant sets; not with the settings, where an older release would stumble over them."""

    rules = JSON(null=True)  # what is not the default
    version = NumberAttribute()
    updated_at = UTCDateTimeAttribute(null=True)


class RiskItem(_RulesItem, discriminator="risk"):
    """pk = risk/{merchant}, sk = risk#{mode}."""


class RoutingItem(_RulesItem, discriminator="routing"):
    """pk = routing/{merchant}, sk = routing#{mode}."""


class AccountItem(MerchantsItem, discriminator="account"):
    """pk = {merchant}, sk = account#{mode}#{id}."""

    id = UnicodeAttribute()
    mode = UnicodeAttribute()
    provider = UnicodeAttribute()
    base_url = UnicodeAttribute()
    sealed = BinaryAttribute(legacy_encoding=False)  # credentials and the webhook secrets in use
    sealed_previous = BinaryAttribute(legacy_encoding=False, null=True)  # webhook secrets that were rotated out
    name = UnicodeAttribute(null=True)
    disabled = BooleanAttribute(null=True)
    created_at = UTCDateTimeAttribute(null=True)
    updated_at = UTCDateTimeAttribute(null=True)
    rotated_at = UTCDateTimeAttribute(null=True)
    version = NumberAttribute(null=True)


class AccountOwnerItem(MerchantsItem, discriminator="account_owner"):
    """pk = account/{id}, sk = owner: whose account a webhook's path names."""

    merchant_id = UnicodeAttribute()
    mode = UnicodeAttribute()


# -- deliveries ------------------------------------------------------------------------------------


class DeliveryItem(Model):
    """pk = {merchant}/{mode}/{event id}, sk = dlv#{endpoint}: one event's way to one endpoint."""

    class Meta(_Meta):
        """Table settings."""

    pk = UnicodeAttribute(hash_key=True)
    sk = UnicodeAttribute(range_key=True)
    id = UnicodeAttribute()
    event_id = UnicodeAttribute()
    event_type = UnicodeAttribute()
    payment_id = UnicodeAttribute(null=True)
    url = UnicodeAttribute()
    body = UnicodeAttribute()
    status = UnicodeAttribute()  # pending | delivered | dead
    tries = NumberAttribute()
    log = JSON(null=True)  # the newest tries: at, status, latency_ms, error
    created_at = UTCDateTimeAttribute()
    expires_at = NumberAttribute()
    due_pk = UnicodeAttribute(null=True)
    due_at = NumberAttribute(null=True)


class DeliveriesRow(Model):
    """A row of the deliveries table's due index: keys only."""

    class Meta(_Meta):
        """Table settings."""

    pk = UnicodeAttribute(hash_key=True)
    sk = UnicodeAttribute(range_key=True)
    due_at = NumberAttribute(null=True)
    due = _Due()


# -- stats -----------------------------------------------------------------------------------------


class _StatsRow(Model):
    """A row of the stats table: each kind has partitions of its own, so that none is ever read as another."""

    class Meta(_Meta):
        """Table settings."""

    pk = UnicodeAttribute(hash_key=True)
    sk = UnicodeAttribute(range_key=True)


class StatsItem(_StatsRow):
    """pk = {merchant}/{mode}/…, sk = what is counted; see docs/data-model.md."""

    total = NumberAttribute()


class HealthItem(_StatsRow):
    """What is learned of accounts and providers, in the table of the stats.

    pk = {merchant}/{mode}/health, sk = account#{id}: tallies; sk = forced: breakers that the merchant holds.
    pk = breaker/{mode}/{provider}, sk = {method}: everybody's breaker.
    """

    body = JSON(null=True)
    version = NumberAttribute()


class MinuteItem(_StatsRow):
    """pk = {merchant}/{mode}/minutes/{provider}/{method}, sk = {epoch minute}#{shard}; latencies by bucket."""

    calls = NumberAttribute(null=True)
    successes = NumberAttribute(null=True)
    technical = NumberAttribute(null=True)
    expires_at = NumberAttribute()
    for _number in range(latency.BUCKETS):
        locals()[f"h{_number}"] = NumberAttribute(null=True)


class WatchedItem(_StatsRow):
    """pk = watched, sk = {merchant}/{mode}/{provider}/{method}; the state of what watches it."""

    body = JSON(null=True)
    version = NumberAttribute()


class AlertItem(_StatsRow):
    """pk = {merchant}/{mode}/alerts, sk = {epoch minute it was raised}/{provider}/{method}/{kind}."""

    body = JSON(null=True)
    expires_at = NumberAttribute()


class ChangeItem(_StatsRow):
    """A breaker's change of state: pk = breaker/{mode}/{provider}/changes, or {merchant}/{mode}/changes/{provider}
    for those that the merchant holds; sk = {epoch ms}#{method}#{version of the breaker's row}."""

    body = JSON()
    expires_at = NumberAttribute()


_TABLES: dict[str, tuple[type[Model], ...]] = {
    "payments": (
        PaymentsItem, _Indexed, OrderItem, PaymentItem, AttemptItem, OperationItem, EventItem, JournalItem,
        ReferenceItem, OrphanItem, PaymentsRow,
    ),
    "guards": (
        GuardsItem, IdempotencyItem, MarkItem, SlotItem, TokenItem, WindowItem, SessionItem, TriesItem, BucketItem,
    ),
    "merchants": (
        MerchantsItem, ApiKeyItem, ApiKeyEntryItem, SettingsItem, RiskItem, RoutingItem, AccountItem, AccountOwnerItem,
        ProfileItem, MerchantRow, OriginItem, UserItem, EmailItem, AuditItem, PlatformItem,
    ),
    "deliveries": (DeliveryItem, DeliveriesRow),
    "stats": (StatsItem, HealthItem, MinuteItem, WatchedItem, AlertItem, ChangeItem),
}  # fmt: skip


def bind(prefix: str) -> None:
    """Point every item class at the tables of one stage: ``{prefix}-{table}``."""
    for table, models in _TABLES.items():
        for model in models:
            model.Meta.table_name = f"{prefix}-{table}"
