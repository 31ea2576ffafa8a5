"""Items that were stored by an earlier release are still read: tests/data/items-v1.json never changes.

A new attribute must be optional, an old one must stay readable one release back. When the way things
are stored changes on purpose, add items-v2.json beside it (`python -m tests.unit.test_storage_replay 2`)
and keep this one for as long as items of that kind may be in a table.
"""

from __future__ import annotations

import json
import sys
from dataclasses import fields, is_dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from chalicelib.domain import velocity
from chalicelib.domain.anomaly import Detector
from chalicelib.domain.audit import Actor, Entry
from chalicelib.domain.cards import CardToken
from chalicelib.domain.errors import ErrorClass, ErrorCode, PaymentError
from chalicelib.domain.model import Attempt, Delivery, Event, Journal, Leg, Operation, Order, Payment, Reference, Tenant
from chalicelib.domain.states import AttemptStatus, OperationStatus, OperationType, OrderStatus, PaymentStatus
from chalicelib.domain.velocity import Window
from chalicelib.storage import audits, items, mapping, store
from chalicelib.storage.sealing import Cipher
from chalicelib.storage.store import Claim, Mark
from tests.support import factories
from tests.support.factories import NOW, TENANT, later

if TYPE_CHECKING:
    from pynamodb.models import Model

DATA = Path(__file__).parents[1] / "data"
FILES = sorted(DATA.glob("items-v*.json"))
ERROR = PaymentError(ErrorClass.DECLINED_ISSUER, ErrorCode.INSUFFICIENT_FUNDS, "Insufficient funds.", "51")

OF_ITEM: dict[str, Any] = {
    "payment": lambda item: mapping.payment_of(item, factories.cipher), "order": mapping.order_of, "attempt": mapping.attempt_of,
    "operation": mapping.operation_of, "event": mapping.event_of, "journal": mapping.journal_of,
    "delivery": mapping.delivery_of,
}  # fmt: skip


def sealed_alike(tenant: Tenant) -> Cipher:
    """As ``factories.cipher``, but the same bytes every time, as they must not be outside of a test."""
    return Cipher(tenant, b"k" * 32, random=bytes)


def samples() -> dict[str, Any]:
    """One value of each kind with every field set, and one with as few as there can be."""
    pay, order, att, op, rf = (f"{prefix}_01KAQ000000000000000000001" for prefix in ("pay", "order", "att", "op", "rf"))
    payment = Payment(
        tenant=TENANT, id=pay, status=PaymentStatus.SUCCEEDED, amount=149_900, currency="INR", capture="manual",
        method={"type": "card", "token": "tok_1", "last4": "1111"}, customer={"email": "a@example.com", "country": "IN"},
        order_id=order, return_url="https://shop.example/back", description="Sari ✓", metadata={"cart": "7"},
        risk={"decision": "allow", "score": 0, "reasons": []}, created_at=NOW, updated_at=later(1), expires_at=later(1800),
        due_at=later(90), version=7, run=2, amount_authorized=149_900, amount_captured=149_900, amount_refundable=148_900,
        amount_refunding=600, amount_refunded=300, amount_disputed=100, provider="razorpay", provider_reference="pay_Qa1",
        next_action={"type": "redirect", "url": "https://bank.example"}, error=ERROR, attempts=2, open_attempt=att,
        winning_attempt=att, open_operation=op, needs_attention=True, customer_key="cus_1",
    )  # fmt: skip
    attempt = Attempt(
        tenant=TENANT, id=att, payment_id=pay, number=2, reference=f"{pay}-02", provider="razorpay", account="acct_razorpay",
        status=AttemptStatus.CAPTURED, amount=149_900, currency="INR", route={"rule": "standard", "order": ["acct_razorpay"]},
        created_at=NOW, updated_at=later(1), deadline_at=later(45), captured=149_900, reversed=1, provider_reference="pay_Qa1",
        data={"order": "order_Qa1"}, error=ERROR, resolves=3, not_found=1, due_at=later(300),
        retry_at=later(60),
    )  # fmt: skip
    refund = Operation(
        tenant=TENANT, id=rf, payment_id=pay, attempt_id=att, type=OperationType.REFUND, status=OperationStatus.UNKNOWN,
        amount=600, currency="INR", source="merchant", reason="wrong size", created_at=NOW, updated_at=later(1),
        due_at=later(90), deadline_at=later(45), provider_reference="rfnd_1", error=ERROR, tries=2,
    )  # fmt: skip
    journal = Journal(
        TENANT, "jnl_01KAQ000000000000000000001", pay, "capture", "INR",
        (Leg("provider:razorpay:receivable", 149_900), Leg("merchant:payable", -149_900)), NOW, att, op,
    )  # fmt: skip
    event = Event(
        TENANT, "evt_01KAQ000000000000000000001", pay, 7, "payment.succeeded", NOW,
        {"payment": {"id": pay, "amount": 149_900}, "journals": [{"type": "capture", "legs": [["merchant:payable", -1]]}]}, op,
    )  # fmt: skip
    whole_order = Order(
        tenant=TENANT, id=order, status=OrderStatus.PAID, amount=149_900, currency="INR", receipt="r-1",
        lines=[{"name": "Sari", "amount": 149_900}], metadata={"a": "b"}, live_payment_id=pay, created_at=NOW,
        updated_at=later(1), expires_at=later(86_400), due_at=later(86_400), version=3,
    )  # fmt: skip
    delivery = Delivery(
        tenant=TENANT, id="dlv_01KAQ000000000000000000001", event_id=event.id, endpoint="default", event_type=event.type,
        payment_id=pay, url="https://shop.example/hooks", body='{"id":"evt_1"}', status="pending", created_at=NOW,
        due_at=later(5), tries=1, log=[{"at": "2026-11-21T04:30:00.123+00:00", "status": 500, "latency_ms": 12}],
    )  # fmt: skip
    bare = factories.make_payment(id=pay, due_at=None, customer={})
    bare_attempt = factories.make_attempt(bare)
    return {
        "payment": payment, "payment, bare": bare, "order": whole_order,
        "order, bare": factories.make_order(id=order, receipt=None, due_at=None),
        "attempt": attempt, "attempt, bare": bare_attempt,
        "operation": refund,
        "operation, bare": factories.make_operation(bare_attempt, OperationType.VOID, id=op, due_at=None),
        "event": event, "event, bare": replace(event, data={}, operation_id=None),
        "journal": journal, "journal, bare": replace(journal, operation_id=None),
        "delivery": delivery,
        "delivery, bare": replace(delivery, payment_id=None, due_at=None, tries=0, log=(), status="delivered"),
    }  # fmt: skip


TO_ITEM: dict[type[Any], Any] = {
    Payment: lambda value: mapping.to_payment_item(value, 1, sealed_alike), Order: lambda value: mapping.to_order_item(value, 1),
    Attempt: mapping.to_attempt_item, Operation: lambda value: mapping.to_operation_item(value, 1),
    Event: mapping.to_event_item, Journal: mapping.to_journal_item, Delivery: mapping.to_delivery_item,
}  # fmt: skip


def plain_items() -> dict[str, Model]:
    """Items that are no domain values: guards, merchants, statistics."""
    epoch = NOW.timestamp()
    whole = Claim(
        "mer_01TEST/test/abc", "fp", "pay_1", epoch + 9, status=201, body=b'{"id":"pay_1"}', lease_until=epoch + 5
    )
    return {
        "idempotency": store._claim_item(whole, sealed_alike),
        "idempotency, leased": store._claim_item(replace(whole, status=None, body=None), sealed_alike),
        "mark": store._mark_item(Mark("event/acct_1/e1", epoch + 9)),
        "slot": items.SlotItem("slot/waiters/0", "slot", owner="me", expires_at=epoch + 9),
        "token": mapping.to_token_item(
            CardToken(TENANT, "tok_1", "visa", "4242", "424242", 12, 2030, "fp_1", NOW, later(86_400))
        ),
        "window": mapping.to_window_item(
            "mer_01TEST/test/card/ab12",
            Window("card", (velocity.entry(NOW, 149_900, "INR", "pay_1"), velocity.entry(NOW, 1, "INR", "att_1", "decline")), 2),
            NOW,
        ),
        "window, of a customer without a limit": mapping.to_window_item("mer_01TEST/test/customer/ab12", Window("customer", (), 1), NOW),
        "risk": items.RiskItem(
            "risk/mer_01TEST", "risk#test", rules={"max_amount": {"INR": 5}, "block": {"bins": ["411111"]}}, version=3,
            updated_at=NOW,
        ),
        "risk, all defaults": items.RiskItem("risk/mer_01TEST", "risk#test", rules=None, version=4, updated_at=NOW),
        "routing": items.RoutingItem(
            "routing/mer_01TEST", "routing#test", version=2, updated_at=NOW,
            rules={"rules": [{"name": "rest", "when": {}, "by": "split", "weights": {"acct_a": 70, "acct_b": 30}}]},
        ),
        "routing, as set up": items.RoutingItem("routing/mer_01TEST", "routing#test", rules=None, version=1, updated_at=None),
        "minute": items.MinuteItem(
            "mer_01TEST/test/minutes/razorpay/upi", "0029935703#2", calls=3, successes=2, technical=1, h12=2, h20=1, expires_at=1_798_734_180
        ),
        "change": items.ChangeItem(
            "breaker/test/razorpay/changes", "1795689134658#upi#9", expires_at=1_798_281_134,
            body={"state": "open", "was": "closed", "reason": "30 of 40 calls failed in the last 20 s."},
        ),
        "watched": items.WatchedItem("watched", "mer_01TEST/test/razorpay/upi", body=Detector(last=29_935_703).as_dict(), version=7),
        "alert": items.AlertItem(
            "mer_01TEST/test/alerts", "0029935703/razorpay/upi/latency", body={"state": "raised", "usual": 290.0, "seen": 870.5},
            expires_at=1_798_734_180,
        ),
        "reference": mapping.to_reference_item(Reference("acct_razorpay/pay_Qa1", TENANT, "pay_1")),
        "orphan": items.OrphanItem(
            "mer_01TEST/test/orphan/acct_1/e1", "orphan", list_pk="mer_01TEST/test/orphan/0", list_sk="orph_1", account="acct_1",
            event={"type": "x", "charge": {"amount": 1}}, created_at=NOW,
        ),
        "stats": items.StatsItem("mer_01TEST/test/balance/INR", "merchant:payable", total=-149_900),
        "health": items.HealthItem(
            "mer_01TEST/test/health", "account#acct_1", body={"": [9.5, 0.5, 1795235400.123, 12.0], "upi": [1.0, 0.0, 1.0, None]},
            version=7,
        ),
        "api key": items.ApiKeyItem(
            "key/abc", "key", id="key_1", merchant_id="mer_01TEST", mode="test", name="backend", hint="sk_test_abcd…wxyz",
            created_at=NOW, revoked_at=NOW,
        ),
        "api key, rotated": items.ApiKeyItem(
            "key/abd", "key", id="key_2", merchant_id="mer_01TEST", mode="test", name="shop", hint="pk_test_abcd…wxyz",
            created_at=NOW, key_kind="publishable", scopes=["tokens:write"], expires_at=1_798_734_180.5,
        ),
        "api key entry": items.ApiKeyEntryItem(
            "keys/mer_01TEST", "test#key_2", id="key_2", mode="test", name="shop", hint="pk_test_abcd…wxyz", key_kind="publishable",
            scopes=["tokens:write"], digest="abd", created_at=NOW, revoked_at=NOW, expires_at=1_798_734_180.5, replaces="key_1",
            last_used_at=1_798_734_180, version=3,
        ),
        "profile": items.ProfileItem(
            "merchant/mer_01TEST", "merchant", name="Shop", plan="scale", origins=["https://shop.example"], suspended=True,
            created_at=NOW, updated_at=NOW, version=2,
        ),
        "merchant row": items.MerchantRow("merchants", "mer_01TEST"),
        "origin": items.OriginItem("origin/https://shop.example", "mer_01TEST"),
        "user": items.UserItem(
            "users/mer_01TEST", "user#usr_1", id="usr_1", sealed=b"\x01\x02", role="owner", status="active", password="scrypt$4$00$00",
            invite="abc", invite_until=NOW, invite_by="usr_2", signed_out_at=NOW, created_at=NOW, updated_at=NOW, version=4,
        ),
        "email": items.EmailItem("email/abc", "email", merchant_id="mer_01TEST", user_id="usr_1"),
        "audit": audits.write(Entry(
            "mer_01TEST", "aud_1", "risk.changed", "mer_01TEST", Actor("key_1", "secret_key", "req_1", "203.0.113.7"), NOW,
            "test", {"a": 1}, {"a": 2},
        ))[0],
        "platform": items.PlatformItem("platform", "secrets", sealed=b"\x01", version=1),
        "session": items.SessionItem(
            "session/ses_1", "session", session_kind="token", merchant_id="mer_01TEST", user_id="usr_1", secret="abc", previous="abd",
            created_at=NOW, expires_at=1_798_734_180,
        ),
        "tries": items.TriesItem("tries/abc", "tries", tries=3, next_at=1_798_734_180.5, version=4, expires_at=1_798_734_180),
        "bucket": items.BucketItem("bucket/caller/key_1", "bucket", full_at=1_798_734_180_123_456, expires_at=1_798_734_180),
        "settings": items.SettingsItem(
            "mer_01TEST", "settings#test", name="Shop", webhook_url="https://shop.example/hooks",
            sealed_webhook_secret=b"\x01\x02", sealed_lookup_key=b"\x03\x04", rules=[{"name": "r", "accounts": ["acct_1"]}],
            risk={"max_amount": {"INR": 5}, "blocked_countries": ["KP"]},
        ),
        "account": items.AccountItem(
            "mer_01TEST", "account#test#acct_1", id="acct_1", mode="test", provider="razorpay",
            base_url="https://api.example", sealed=b"\x05\x06",
        ),
        "account, rotated": items.AccountItem(
            "mer_01TEST", "account#test#acct_2", id="acct_2", mode="test", provider="razorpay",
            base_url="https://api.example", sealed=b"\x05\x06", sealed_previous=b"\x07", name="Main", disabled=True,
            created_at=NOW, updated_at=later(1), version=2,
        ),
        "account owner": items.AccountOwnerItem("account/acct_1", "owner", merchant_id="mer_01TEST", mode="test"),
    }  # fmt: skip


def plain(value: Any) -> Any:
    """A value as JSON shows it, so that the file says what was stored as well as how."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds")
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return value


def wire(item: Model) -> dict[str, Any]:
    """An item as DynamoDB's JSON."""
    return {name: {kind: plain(value) for kind, value in typed.items()} for name, typed in item.serialize().items()}


def attributes(item: Model) -> dict[str, Any]:
    values = item.attribute_values.items()
    return {name: plain(value) for name, value in values if value is not None and name != "kind"}


def from_wire(kind: str, stored: dict[str, Any]) -> Model:
    """The item that DynamoDB's JSON holds, by its own class as a query finds it."""
    raw = {
        name: {tag: bytes.fromhex(value) if tag == "B" else value for tag, value in typed.items()}
        for name, typed in stored.items()
    }
    base: dict[str, type[Model]] = {
        "delivery": items.DeliveryItem,
        "stats": items.StatsItem,
        "health": items.HealthItem,
        "minute": items.MinuteItem,
        "watched": items.WatchedItem,
        "alert": items.AlertItem,
        "change": items.ChangeItem,
    }
    table = {
        **dict.fromkeys(
            ("idempotency", "mark", "slot", "token", "window", "session", "tries", "bucket"), items.GuardsItem
        ),
        **dict.fromkeys(
            ("risk", "routing", "api key", "api key entry", "settings", "account", "account owner", "profile",
             "merchant row", "origin", "user", "email", "audit", "platform"), items.MerchantsItem,
        ),
    }  # fmt: skip
    return base.get(kind, table.get(kind, items.PaymentsItem)).from_raw_data(raw)


def rendered() -> dict[str, Any]:
    """What the file holds."""
    found: dict[str, Any] = {}
    for name, value in samples().items():
        found[name] = {"item": wire(TO_ITEM[type(value)](value)), "value": plain(value)}
    for name, item in plain_items().items():
        found[name] = {"item": wire(item), "value": attributes(item)}
    return found


STORED = [
    pytest.param(name, row, id=f"{path.stem} {name}")
    for path in FILES
    for name, row in json.loads(path.read_text(encoding="utf-8")).items()
]


@pytest.mark.parametrize(("name", "row"), STORED)
def test_an_item_of_an_earlier_release_reads_as_it_was_meant(name: str, row: dict[str, Any]) -> None:
    kind = name.partition(",")[0]
    item = from_wire(kind, row["item"])
    read = plain(OF_ITEM[kind](item)) if kind in OF_ITEM else attributes(item)
    # Fields that came later have their defaults; those of then say what they said.
    assert {field: read[field] for field in row["value"]} == row["value"]


@pytest.mark.parametrize(("name", "row"), STORED)
def test_a_reader_one_release_older_meets_attributes_it_does_not_know(name: str, row: dict[str, Any]) -> None:
    newer = row["item"] | {"a_later_attribute": {"S": "x"}, "another": {"M": {"deep": {"N": "1"}}}}
    kind = name.partition(",")[0]
    item = from_wire(kind, newer)
    read = plain(OF_ITEM[kind](item)) if kind in OF_ITEM else attributes(item)
    assert {field: read[field] for field in row["value"]} == row["value"]


def test_every_kind_of_item_has_its_sample() -> None:
    kinds = {name.partition(",")[0] for name in rendered()}
    classes = {model for group in items._TABLES.values() for model in group}
    private = {
        items.PaymentsItem,
        items._Indexed,
        items.GuardsItem,
        items.MerchantsItem,
        items._RulesItem,
        items.PaymentsRow,
        items.DeliveriesRow,
    }
    assert len(kinds) == len(classes - private)
    recorded = {name for path in FILES for name in json.loads(path.read_text(encoding="utf-8"))}
    assert recorded >= set(rendered())


def test_what_is_written_today_is_what_the_newest_file_shows() -> None:
    newest = json.loads(FILES[-1].read_text(encoding="utf-8"))
    changed = [name for name, row in rendered().items() if newest[name]["item"] != row["item"]]
    assert not changed, f"{changed} are stored in another way now: see this module's docstring"


def write(version: str) -> None:
    """Write the file of a new version; the old ones stay."""
    path = DATA / f"items-v{version}.json"
    if path.exists():
        raise SystemExit(f"{path} exists: stored items do not change")
    path.write_text(json.dumps(rendered(), indent=1, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write(sys.argv[1])
