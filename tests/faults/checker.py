"""The promises of DESIGN §2, checked on what lies in the tables against the bank's own record.

Nothing of Railyard's own code is used here: rows are read as they are stored, what is public, final
or owed is said again in this file, and signatures are checked with the ``standardwebhooks`` package.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from standardwebhooks.webhooks import Webhook

from tests.support.world import PREFIX, TENANT, WEBHOOK_SECRET, adapter_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.faults.play import Play
    from tests.support.dynamo import Item

Row = dict[str, Any]

PUBLIC = frozenset(
    "order.paid order.expired order.canceled payment.created payment.requires_action payment.requires_review"
    " payment.authorized payment.succeeded payment.failed payment.canceled payment.expired"
    " payment.reversal_started payment.reversal_succeeded refund.created refund.succeeded refund.failed"
    " refund.returned dispute.opened dispute.closed".split()
)
PAYMENT_FINAL = frozenset({"succeeded", "failed", "canceled", "expired"})
ORDER_FINAL = frozenset({"paid", "expired", "canceled"})
OPERATION_OPEN = frozenset({"pending", "sent", "unknown", "manual_review"})
OPERATION_FINAL = frozenset({"failed", "returned"})
ATTEMPT_OPEN = frozenset({"created", "sent", "pending", "action_required", "unknown", "manual_review"})
_DEFECTS = (ArithmeticError, AssertionError, AttributeError, LookupError, NameError, TypeError, ValueError)
_OUR_DEFECTS = frozenset({"IllegalMove", "Unbalanced"})
_TENANT_KEY = f"{TENANT.merchant_id}/{TENANT.mode}/"


@dataclass(frozen=True, slots=True)
class Expected:
    """How a scenario ends, with or without a fault. One entry per payment, in the order of creation."""

    statuses: tuple[str | frozenset[str], ...] | None  # None: any final ones
    captured: tuple[int, ...] | None = None  # per payment; None: all or nothing, by the status
    refunded: tuple[int, ...] | None = None  # per payment; None: nothing
    order: str | None = None  # the status of the (last) order
    waiting: bool = False  # an attempt or operation may still be open
    attention: bool = False  # a person may have been asked
    orphans: int = 0
    dead: int = 0  # dead letters
    undelivered: int = 0  # webhooks the merchant never took
    charges: int = 1  # how many charges at the bank a payment may ever have had, reversed ones included
    defects: bool = False  # errors that handlers let out belong to the scenario


@dataclass(slots=True)
class Payment:
    """Everything stored under one payment."""

    row: Row
    attempts: list[Row] = field(default_factory=list)
    operations: list[Row] = field(default_factory=list)
    events: list[Row] = field(default_factory=list)
    journals: list[Row] = field(default_factory=list)


def plain(item: Item) -> Row:
    """A stored item with Python values; JSON texts stay texts."""
    return {name: _plain(value) for name, value in item.items()}


def _plain(value: dict[str, Any]) -> Any:
    ((kind, content),) = value.items()
    if kind == "N":
        number = Decimal(content)
        return int(number) if number == number.to_integral_value() else float(number)
    return content


class Evidence:
    """What is in the tables and what the bank knows."""

    def __init__(self, play: Play, expected: Expected) -> None:
        self.play, self.world, self.expected = play, play.world, expected
        self.tables = {name.removeprefix(f"{PREFIX}-"): t for name, t in self.world.dynamo.tables.items()}
        self.payments: dict[str, Payment] = {}
        self.orders: dict[str, Row] = {}
        self.order_events: dict[str, list[Row]] = defaultdict(list)
        self.orphans: list[Row] = []
        rows = [plain(item) for item in self.tables["payments"].items()]
        for row in rows:
            if row["sk"] == "a#payment":
                self.payments[row["id"]] = Payment(row)
            elif row["sk"] == "a#order":
                self.orders[row["id"]] = row
            elif row["sk"] == "orphan":
                self.orphans.append(row)
        self.lost: list[Row] = []  # rows under no payment or order
        for row in rows:
            subject = row["pk"].rsplit("/", 1)[1]
            owner = self.payments.get(subject)
            if row["sk"].startswith("evt#"):
                (owner.events if owner else self.order_events[subject]).append(row)
                if owner is None and subject not in self.orders:
                    self.lost.append(row)
            elif row["sk"].startswith(("a#att#", "a#op#", "jnl#")):
                if owner is None:
                    self.lost.append(row)
                    continue
                for prefix, rows_of in (
                    ("a#att#", owner.attempts), ("a#op#", owner.operations), ("jnl#", owner.journals),
                ):  # fmt: skip
                    if row["sk"].startswith(prefix):
                        rows_of.append(row)
        truth = self.world.bank.truth()
        self.charges: list[Row] = truth["charges"]
        self.refunds: list[Row] = truth["refunds"]

    def charges_of(self, payment_id: str) -> list[Row]:
        """The bank's charges whose reference begins with the payment's id."""
        return [charge for charge in self.charges if charge["reference"].startswith(payment_id)]


def violations(play: Play, expected: Expected) -> list[str]:
    """Every promise that does not hold, in a sentence each."""
    evidence = Evidence(play, expected)
    found: list[str] = []
    for check in CHECKS:
        found += [f"{check.__name__}: {problem}" for problem in check(evidence)]
    return found


# -- money -----------------------------------------------------------------------------------------


def one_charge_kept(evidence: Evidence) -> Iterator[str]:
    known = set(evidence.payments)
    for charge in evidence.charges:
        if charge["reference"].rsplit("-", 1)[0] not in known:
            yield f"the bank charged {charge['reference']}, a payment that does not exist"
    for payment_id, payment in evidence.payments.items():
        row, charges = payment.row, evidence.charges_of(payment_id)
        net = sum(charge["captured"] - charge["refunded"] for charge in charges)
        ours = row["amount_captured"] - row["amount_refunded"]
        if net != ours:
            yield f"{payment_id}: the bank keeps {net}, the payment says {ours}"
        winner = next((a["reference"] for a in payment.attempts if a["id"] == row.get("winning_attempt")), None)
        kept = [charge["reference"] for charge in charges if charge["captured"] > charge["refunded"]]
        if len(kept) > 1:
            yield f"{payment_id}: {len(kept)} charges are kept: {kept}"
        if set(kept) - {winner}:
            yield f"{payment_id}: {kept} is kept, the winner is {winner}"
        for charge in charges:
            attempt = next((a for a in payment.attempts if a["reference"] == charge["reference"]), None)
            if attempt is None:
                yield f"{charge['reference']}: charged, but no such attempt is stored"
            elif charge["captured"] and charge["reference"] != winner and attempt["status"] != "reversed":
                yield f"{charge['reference']}: charged, lost, and {attempt['status']} instead of reversed"
            if charge["status"] == "authorized" and not evidence.expected.waiting and row["status"] != "authorized":
                yield f"{charge['reference']}: the bank holds money of a payment that is {row['status']}"
        taken = [charge["reference"] for charge in charges if charge["captured"] or charge["status"] == "authorized"]
        if len(taken) > evidence.expected.charges:
            yield f"{payment_id}: {len(taken)} charges were made, one after the other: {taken}"
        references = Counter(c["reference"] for c in charges if c["status"] != "failed")
        for reference, number in references.items():
            if number > 1:
                yield f"{reference}: {number} charges under one reference"


def conservation(evidence: Evidence) -> Iterator[str]:
    for payment_id, payment in evidence.payments.items():
        row = payment.row
        amounts = {name: row[f"amount_{name}"] for name in ("authorized", "captured", "refundable", "refunding", "refunded")}
        if min(amounts.values()) < 0:
            yield f"{payment_id}: a negative amount in {amounts}"
        if not amounts["captured"] <= amounts["authorized"] <= row["amount"]:
            yield f"{payment_id}: captured ≤ authorized ≤ amount does not hold: {amounts}"
        gone = amounts["refunding"] + amounts["refunded"] + row["amount_disputed"]
        if amounts["refundable"] != amounts["captured"] - gone:
            yield f"{payment_id}: refundable is not what is left: {amounts}"
        if (row["status"] == "succeeded") != (amounts["captured"] > 0):
            yield f"{payment_id}: {row['status']} with {amounts['captured']} captured"
        refunds = [o for o in payment.operations if o["type"] == "refund"]
        done = sum(o["amount"] for o in refunds if o["status"] == "succeeded")
        if done != amounts["refunded"]:
            yield f"{payment_id}: refunds that succeeded sum to {done}, the payment says {amounts['refunded']}"


def refunds_match(evidence: Evidence) -> Iterator[str]:
    """Each refund and reversal of ours is one refund at the bank, and the other way round."""
    matched = set()
    for payment_id, payment in evidence.payments.items():
        theirs = [r for r in evidence.refunds if r["reference"].startswith(payment_id)]
        for operation in payment.operations:
            if operation["type"] not in ("refund", "reversal"):
                continue
            found = [r for r in theirs if operation["id"] == r["key"] or operation.get("provider_reference") == r["id"]]
            matched |= {r["id"] for r in found}
            state = [r["status"] for r in found]
            wanted = {"succeeded": ["succeeded"], "returned": ["returned"]}.get(operation["status"])
            by_void = operation["type"] == "reversal" and not found
            if wanted is not None and state != wanted and not by_void:
                yield f"{operation['id']}: {operation['status']} with us, {state} at the bank"
            if operation["status"] == "failed" and set(state) - {"failed"}:
                yield f"{operation['id']}: failed with us, {state} at the bank"
            if any(r["amount"] != operation["amount"] for r in found):
                yield f"{operation['id']}: over {operation['amount']}, at the bank {found}"
    for refund in evidence.refunds:
        if refund["id"] not in matched and refund["status"] in ("succeeded", "returned"):
            yield f"{refund['id']} of {refund['reference']}: the bank refunded, nobody here knows"


def books_balance(evidence: Evidence) -> Iterator[str]:
    balances: Counter[tuple[str, str]] = Counter()
    journal_ids: Counter[str] = Counter()
    for payment in evidence.payments.values():
        for journal in payment.journals:
            journal_ids[journal["id"]] += 1
            legs = json.loads(journal["legs"])
            if len(legs) < 2 or sum(amount for _, amount in legs):
                yield f"{journal['id']}: legs {legs} do not balance"
            for account, amount in legs:
                balances[account, journal["currency"]] += amount
        told = [j["legs"] for e in payment.events for j in json.loads(e.get("data", "{}")).get("journals", ())]
        if sorted(told) != sorted(json.loads(j["legs"]) for j in payment.journals):
            yield f"{payment.row['id']}: the journals in the events are not those in the books"
    if any(number > 1 for number in journal_ids.values()):
        yield "a journal's id was used twice"
    at_bank: Counter[tuple[str, str]] = Counter()
    for charge in evidence.charges:
        account = f"provider:{adapter_of(charge['provider'])}:receivable"
        at_bank[account, charge["currency"]] += charge["captured"] - charge["refunded"]
    receivables = {key: amount for key, amount in balances.items() if key[0].startswith("provider:") and amount}
    if receivables != {key: amount for key, amount in at_bank.items() if amount}:
        yield f"the books say {receivables}, the bank says {dict(at_bank)}"
    if not evidence.expected.waiting and balances["refunds:in_flight", "INR"]:
        yield f"{balances['refunds:in_flight', 'INR']} is in flight though all is quiet"
    owed = -sum(p.row["amount_captured"] - p.row["amount_refunded"] - p.row["amount_refunding"] for p in evidence.payments.values())
    if balances["merchant:payable", "INR"] != owed:
        yield f"merchant:payable is {balances['merchant:payable', 'INR']}, payments say {owed}"
    if "projections" in evidence.world.discarded:
        return
    stored = {(name, currency): total for (currency, name), total in _totals(evidence, "balance").items() if total}
    if stored != {key: amount for key, amount in balances.items() if amount}:
        yield f"the projected balances are {stored}, the journals' replay is {dict(balances)}"


def _totals(evidence: Evidence, kind: str) -> Counter[tuple[str, str]]:
    """The counters of one kind by (currency or day, name), their shards summed up."""
    totals: Counter[tuple[str, str]] = Counter()
    for row in map(plain, evidence.tables["stats"].items()):
        if row["pk"].startswith(f"{_TENANT_KEY}{kind}/"):
            totals[row["pk"].rsplit("/", 1)[1], row["sk"].rpartition("#")[0]] += row["total"]
    return totals


def statistics_match(evidence: Evidence) -> Iterator[str]:
    if "projections" in evidence.world.discarded:
        return
    wanted: Counter[str] = Counter()
    captured: Counter[str] = Counter()
    for event in _all_events(evidence):
        if event["type"] in PUBLIC:
            wanted[f"{event['created_at'][:10]} {event['type']}"] += 1
        if event["type"] == "payment.succeeded":
            snapshot = json.loads(event["data"])["payment"]
            captured[f"{event['created_at'][:10]} captured/{snapshot['currency']}"] += snapshot["amount_captured"]
    found = {f"{day} {name}": total for (day, name), total in _totals(evidence, "day").items()}
    for name, number in (wanted + captured).items():
        if found.get(name, 0) != number:
            yield f"{name} counted {found.get(name, 0)} times, it happened {number} times"


# -- the story -------------------------------------------------------------------------------------


def _all_events(evidence: Evidence) -> Iterator[Row]:
    for payment in evidence.payments.values():
        yield from payment.events
    for events in evidence.order_events.values():
        yield from events


def events_gapless(evidence: Evidence) -> Iterator[str]:
    subjects = {payment_id: (p.row, p.events) for payment_id, p in evidence.payments.items()}
    subjects |= {order_id: (row, evidence.order_events[order_id]) for order_id, row in evidence.orders.items()}
    for subject, (row, events) in subjects.items():
        numbers = sorted(event["sequence"] for event in events)
        if numbers != list(range(1, row["version"] + 1)):
            yield f"{subject}: events {numbers} for version {row['version']}"
        final = [e["type"] for e in events if e["type"].partition(".")[2] in PAYMENT_FINAL and e["type"].startswith("payment.")]
        if len(final) > 1:
            yield f"{subject}: it ended more than once: {final}"
        times = [event["created_at"] for event in sorted(events, key=lambda e: e["sequence"])]
        if times != sorted(times):
            yield f"{subject}: its events are not in the order of their times"
    for name, number in Counter(event["id"] for event in _all_events(evidence)).items():
        if number > 1:
            yield f"event id {name} was used {number} times"
    for row in evidence.lost:
        yield f"{row['pk']} {row['sk']}: belongs to nothing"


def history_is_legal(evidence: Evidence) -> Iterator[str]:
    """From the log of writes: what is final stays, what is set once stays set, no change without an event."""
    for write in evidence.world.dynamo.log:
        if not write.table.endswith("-payments") or write.old is None or write.new is None:
            continue
        old, new, sk = plain(write.old), plain(write.new), write.new["sk"]["S"]
        before, after = old.get("status"), new.get("status")
        final = PAYMENT_FINAL if sk == "a#payment" else ORDER_FINAL if sk == "a#order" else OPERATION_FINAL if sk.startswith("a#op#") else frozenset()
        if before in final and after != before:
            yield f"{new['id']}: {before} became {after}"
        if sk.startswith("a#op#") and before == "succeeded" and after not in ("succeeded", "returned"):
            yield f"{new['id']}: {before} became {after}"
        if sk.startswith("a#att#") and before in ("succeeded", "captured", "reversed") and after != before:
            yield f"{new['id']}: {before} became {after}"
        if old.get("winning_attempt") not in (None, new.get("winning_attempt")):
            yield f"{new['id']}: winning_attempt was {old['winning_attempt']}, became {new.get('winning_attempt')}"
        changed = {name for name in old.keys() | new.keys() if old.get(name) != new.get(name)} - {"due_at", "due_pk"}
        if sk in ("a#payment", "a#order") and changed and new["version"] <= old["version"]:
            yield f"{new['id']}: {sorted(changed)} changed without an event"
        if sk.startswith(("evt#", "jnl#")) and changed:
            yield f"{new['id']}: {sk} was edited: {sorted(changed)}"


def ids_unique(evidence: Evidence) -> Iterator[str]:
    names: Counter[str] = Counter()
    for payment in evidence.payments.values():
        names.update(row["id"] for row in (payment.row, *payment.attempts, *payment.operations, *payment.journals))
    names.update(list(evidence.orders))
    for name, number in names.items():
        if number > 1:
            yield f"{name} is the id of {number} things"


# -- what merchants are told -----------------------------------------------------------------------


def every_event_delivered(evidence: Evidence) -> Iterator[str]:
    if "notifications" in evidence.world.discarded:
        return
    seen: dict[str, Row] = {}
    for headers, body in evidence.world.inbox:
        name = headers["webhook-id"]
        moment = datetime.fromtimestamp(int(headers["webhook-timestamp"]), UTC)
        if Webhook(WEBHOOK_SECRET).sign(name, moment, body.decode()) not in headers["webhook-signature"].split(" "):
            yield f"{name}: its webhook is not signed"
        document = json.loads(body)
        if seen.setdefault(name, document) != document:
            yield f"{name}: came again with another body"
        if document["id"] != name:
            yield f"{name}: its body says {document['id']}"
    events = {event["id"]: event for event in _all_events(evidence) if event["type"] in PUBLIC}
    missing = [event["type"] for name, event in events.items() if name not in seen]
    if missing and len(missing) > evidence.expected.undelivered:
        yield f"the merchant was never told of {missing}"
    for name, document in seen.items():
        event = events.get(name)
        if event is None:
            yield f"{name} ({document['type']}): the merchant was told of something that is no public event"
        elif (document["type"], document["sequence"]) != (event["type"], event["sequence"]):
            yield f"{name}: told as {document['type']} {document['sequence']}, is {event['type']} {event['sequence']}"
    rows = [plain(item) for item in evidence.tables["deliveries"].items()]
    for row in rows:
        if row["status"] != "delivered" and not evidence.expected.undelivered:
            yield f"the delivery of {row['event_type']} is {row['status']}"
        if row["status"] == "delivered" and ("due_at" in row or "due_pk" in row):
            yield f"the delivery of {row['event_type']} is delivered and still due"


# -- requests --------------------------------------------------------------------------------------


def acknowledged_is_kept(evidence: Evidence) -> Iterator[str]:
    """Every answered request has its effect once and its key row, and every effect has a key row."""
    operations = {o["id"]: o for p in evidence.payments.values() for o in p.operations}
    things = {"payment": set(evidence.payments), "order": set(evidence.orders), "operation": set(operations)}
    for answer in evidence.play.answers:
        wanted = things.get(answer.kind, set(evidence.payments))
        if answer.object_id not in wanted:
            yield f"{answer.key}: was answered with {answer.object_id}, which does not exist"
        if len(set(evidence.play.bodies[answer.key])) > 1:
            yield f"{answer.key}: was answered differently: {evidence.play.bodies[answer.key]}"
    rows = [plain(i) for i in evidence.tables["guards"].items() if i["kind"]["S"] == "idempotency"]
    keys = {row["pk"].removeprefix("idem/"): row for row in rows}
    for answer in evidence.play.answers:
        if keys.get(answer.key, {}).get("object_id") != answer.object_id:
            yield f"{answer.key}: was answered, its row is {keys.get(answer.key)}"
    if set(keys) != {answer.key for answer in evidence.play.answers}:
        yield f"key rows {sorted(keys)}, requests {[answer.key for answer in evidence.play.answers]}"
    made = Counter(row["object_id"] for row in rows)
    for name in things["order"] | {o["id"] for o in operations.values() if o["source"] == "merchant" and o["type"] != "void"}:
        if made[name] != 1:
            yield f"{name} was made under {made[name]} keys"
    for name in things["payment"]:
        asked = sum(answer.object_id == name and answer.kind in ("payment", "change") for answer in evidence.play.answers)
        if made[name] != asked:
            yield f"{name}: {made[name]} key rows for {asked} requests"


def orphans_expected(evidence: Evidence) -> Iterator[str]:
    """Every provider's event found its payment, but for those of somebody else."""
    if len(evidence.orphans) != evidence.expected.orphans:
        yield f"{len(evidence.orphans)} orphans, {evidence.expected.orphans} expected"


# -- rest ------------------------------------------------------------------------------------------


def all_is_quiet(evidence: Evidence) -> Iterator[str]:
    world, expected = evidence.world, evidence.expected
    if len(world.dead) != expected.dead:
        yield f"dead letters: {[(queue, message.body) for queue, message in world.dead]}"
    left = {name: [m.body for m in queue] for name, queue in world.queues.items() if queue}
    if left or world.stream:
        yield f"messages are left: {left}, {len(world.stream)} in the stream"
    for name, execution in world.executions.items():
        if execution.status == "RUNNING":
            yield f"execution {name} never ended: {execution.history}"
    for payment_id, payment in evidence.payments.items():
        row = payment.row
        if row.get("needs_attention") and not expected.attention:
            yield f"{payment_id}: needs a person"
        if expected.waiting:
            continue
        if row["status"] not in (*PAYMENT_FINAL, "authorized"):
            yield f"{payment_id}: is still {row['status']}"
        if row["status"] in PAYMENT_FINAL and ("due_at" in row or "due_pk" in row):
            yield f"{payment_id}: is {row['status']} and still due"
        for attempt in payment.attempts:
            if attempt["status"] in ATTEMPT_OPEN:
                yield f"{attempt['id']}: is still {attempt['status']}"
        for operation in payment.operations:
            if operation["status"] in OPERATION_OPEN:
                yield f"{operation['type']} {operation['id']}: is still {operation['status']}"
        for name in ("open_attempt", "open_operation"):
            if name in row:
                yield f"{payment_id}: {name} is still {row[name]}"


def orders_paid_once(evidence: Evidence) -> Iterator[str]:
    for order_id, order in evidence.orders.items():
        own = [p.row for p in evidence.payments.values() if p.row.get("order_id") == order_id]
        paid = [row["id"] for row in own if row["status"] == "succeeded"]
        if len(paid) > 1:
            yield f"{order_id}: paid {len(paid)} times"
        if (order["status"] == "paid") != bool(paid):
            yield f"{order_id}: is {order['status']}, its payments are {[row['status'] for row in own]}"
        live = [row["id"] for row in own if row["status"] not in PAYMENT_FINAL] + paid
        if [order[name] for name in ("live_payment_id",) if name in order] != live:
            yield f"{order_id}: live_payment_id is {order.get('live_payment_id')}, live are {live}"
        if any((row["amount"], row["currency"]) != (order["amount"], order["currency"]) for row in own):
            yield f"{order_id}: a payment of another amount"


def ends_as_expected(evidence: Evidence) -> Iterator[str]:
    expected, ids = evidence.expected, evidence.play.payment_ids
    if set(ids) != set(evidence.payments) or len(ids) != len(set(ids)):
        yield f"payments {sorted(evidence.payments)}, the merchant made {ids}"
        return
    if expected.statuses is None:
        return
    if len(ids) != len(expected.statuses):
        yield f"{len(ids)} payments, not {len(expected.statuses)}"
        return
    for number, (payment_id, wanted) in enumerate(zip(ids, expected.statuses, strict=True)):
        row = evidence.payments[payment_id].row
        if row["status"] not in ({wanted} if isinstance(wanted, str) else wanted):
            yield f"{payment_id}: is {row['status']}, not {wanted}"
        whole = row["amount"] if row["status"] == "succeeded" else 0
        captured = whole if expected.captured is None else expected.captured[number]
        refunded = 0 if expected.refunded is None else expected.refunded[number]
        if (row["amount_captured"], row["amount_refunded"]) != (captured, refunded):
            yield (
                f"{payment_id}: captured {row['amount_captured']}, refunded {row['amount_refunded']};"
                f" not {captured} and {refunded}"
            )
    if expected.order is not None:
        order = list(evidence.orders.values())[-1]
        if order["status"] != expected.order:
            yield f"{order['id']}: is {order['status']}, not {expected.order}"


def no_secret_is_stored(evidence: Evidence) -> Iterator[str]:
    secrets = [WEBHOOK_SECRET, WEBHOOK_SECRET.removeprefix("whsec_")]
    for settings in evidence.world.bank.settings.values():
        secrets += [settings.webhook_secret, *settings.credentials.values()]
        secrets.remove(settings.credentials["account_id"])
    stored = repr([list(table.items()) for table in evidence.tables.values()])
    for secret in secrets:
        if secret in stored:
            yield f"{secret} lies in a table"


def nothing_unforeseen(evidence: Evidence) -> Iterator[str]:
    """Handlers may fail by what was done to them, never by a defect of their own."""
    if evidence.expected.defects:
        return
    for where, error in evidence.world.errors:
        if evidence.world.fault is None or isinstance(error, _DEFECTS) or type(error).__name__ in _OUR_DEFECTS:
            yield f"{where}: {type(error).__name__}: {error}"


CHECKS = (
    one_charge_kept, conservation, refunds_match, books_balance, statistics_match, events_gapless, history_is_legal,
    ids_unique, every_event_delivered, acknowledged_is_kept, orphans_expected, all_is_quiet, orders_paid_once,
    ends_as_expected, no_secret_is_stored, nothing_unforeseen,
)  # fmt: skip
