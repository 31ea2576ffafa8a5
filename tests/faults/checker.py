"""The promises of DESIGN §2, checked on what lies in the tables against the bank's own record.

Nothing of Railyard's own code is used here: rows are read as they are stored, what is public, final
or owed is said again in this file, and signatures are checked with the ``standardwebhooks`` package.
"""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from standardwebhooks.webhooks import Webhook

from tests.faults.evidence import Evidence, Expected, plain
from tests.support.marks import WEBHOOK_SECRET
from tests.support.world import adapter_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.faults.evidence import Row
    from tests.faults.play import Play

PUBLIC = frozenset(
    "order.paid order.expired order.canceled payment.created payment.requires_action payment.requires_review"
    " payment.authorized payment.succeeded payment.failed payment.canceled payment.expired"
    " payment.reversal_started payment.reversal_succeeded refund.created refund.succeeded refund.failed"
    " refund.returned dispute.opened dispute.closed".split()
)
PAYMENT_FINAL = frozenset({"succeeded", "failed", "canceled", "expired"})
ORDER_FINAL = frozenset({"paid", "expired", "canceled"})
OPERATION_OPEN = frozenset({"pending", "sent", "unknown", "manual_review"})
ATTEMPT_OPEN = frozenset({"created", "sent", "pending", "action_required", "unknown", "manual_review"})
# Where a row may go from a status that is an end; by the beginning of its sort key.
_ENDS = {
    "a#payment": dict.fromkeys(PAYMENT_FINAL, frozenset[str]()),
    "a#order": dict.fromkeys(ORDER_FINAL, frozenset[str]()),
    "a#op#": {"succeeded": frozenset({"returned"}), "failed": frozenset(), "returned": frozenset()},
    "a#att#": {"succeeded": frozenset(), "captured": frozenset(), "reversed": frozenset({"late_succeeded"})},
}
_DEFECTS = (ArithmeticError, AssertionError, AttributeError, LookupError, NameError, TypeError, ValueError)
_OUR_DEFECTS = frozenset({"IllegalMove", "Unbalanced"})


def violations(play: Play, expected: Expected) -> list[str]:
    """Every promise that does not hold, in a sentence each."""
    evidence = Evidence(play, expected)
    return [f"{check.__name__}: {problem}" for check in CHECKS for problem in check(evidence)]


# -- money -----------------------------------------------------------------------------------------


def one_charge_kept(evidence: Evidence) -> Iterator[str]:
    for payment_id, payment in evidence.payments.items():
        row, charges = payment.row, evidence.charges_of(payment_id)
        net = sum(charge["captured"] - charge["refunded"] for charge in charges)
        ours = row["amount_captured"] - row["amount_refunded"]
        if net != ours:
            yield f"{payment_id}: the bank keeps {net}, the payment says {ours}"
        winner = next((a["reference"] for a in payment.attempts if a["id"] == row.get("winning_attempt")), None)
        kept = [charge["reference"] for charge in charges if charge["captured"] > charge["refunded"]]
        if kept not in ([], [winner]):
            yield f"{payment_id}: {kept} is kept, the winner is {winner}"
        taken = [charge["reference"] for charge in charges if charge["captured"] or charge["status"] == "authorized"]
        if len(taken) > evidence.expected.charges:
            yield f"{payment_id}: {len(taken)} charges were made, one after the other: {taken}"
        if len(set(taken)) < len(taken):
            yield f"{payment_id}: charged twice under one reference: {taken}"


def every_charge_is_known(evidence: Evidence) -> Iterator[str]:
    """Each charge at the bank is an attempt of ours, and one that lost is given back or let go."""
    attempts = {a["reference"]: (p.row, a) for p in evidence.payments.values() for a in p.attempts}
    for charge in evidence.charges:
        reference = charge["reference"]
        if reference not in attempts:
            yield f"the bank charged {reference}, of which nothing is stored"
            continue
        row, attempt = attempts[reference]
        has_lost = attempt["id"] != row.get("winning_attempt")
        if charge["captured"] and has_lost and attempt["status"] != "reversed":
            yield f"{reference}: charged, lost, and {attempt['status']} instead of reversed"
        if charge["status"] == "authorized" and row["status"] != "authorized":
            yield f"{reference}: the bank holds money of a payment that is {row['status']}"


def conservation(evidence: Evidence) -> Iterator[str]:
    names = ("authorized", "captured", "refundable", "refunding", "refunded", "disputed")
    for payment_id, payment in evidence.payments.items():
        row = payment.row
        amounts = {name: row[f"amount_{name}"] for name in names}
        if min(amounts.values()) < 0:
            yield f"{payment_id}: a negative amount in {amounts}"
        if not amounts["captured"] <= amounts["authorized"] <= row["amount"]:
            yield f"{payment_id}: captured ≤ authorized ≤ amount does not hold: {amounts}"
        gone = amounts["refunding"] + amounts["refunded"] + amounts["disputed"]
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
    matched: set[str] = set()
    operations = [o for p in evidence.payments.values() for o in p.operations if o["type"] in ("refund", "reversal")]
    for operation in operations:
        found = [
            r for r in evidence.refunds if r["id"] == operation.get("provider_reference") or r["key"] == operation["id"]
        ]
        if not found and operation["source"] == "provider":
            # Some providers show a refund under another id than the bank keeps it by.
            found = [r for r in evidence.refunds if r["key"] is None and r["id"] not in matched][:1]
        matched |= {refund["id"] for refund in found}
        state, status = [refund["status"] for refund in found], operation["status"]
        was_released = operation["type"] == "reversal" and not found  # the money was only held
        if status in ("succeeded", "returned") and state != [status] and not was_released:
            yield f"{operation['id']}: {status} with us, {state} at the bank"
        if status == "failed" and set(state) - {"failed"}:
            yield f"{operation['id']}: failed with us, {state} at the bank"
        if any(refund["amount"] != operation["amount"] for refund in found):
            yield f"{operation['id']}: over {operation['amount']}, at the bank {found}"
    for refund in evidence.refunds:
        if refund["id"] not in matched and refund["status"] in ("succeeded", "returned"):
            yield f"{refund['id']} of {refund['reference']}: the bank refunded, nobody here knows"


# -- books -----------------------------------------------------------------------------------------


def _replay(evidence: Evidence) -> Counter[tuple[str, str]]:
    """The balance of each (account, currency) after all journals."""
    balances: Counter[tuple[str, str]] = Counter()
    for payment in evidence.payments.values():
        for journal in payment.journals:
            for account, amount in json.loads(journal["legs"]):
                balances[account, journal["currency"]] += amount
    return balances


def journals_balance(evidence: Evidence) -> Iterator[str]:
    for payment_id, payment in evidence.payments.items():
        booked = [json.loads(journal["legs"]) for journal in payment.journals]
        for legs in booked:
            if len(legs) < 2 or sum(amount for _, amount in legs):
                yield f"{payment_id}: legs {legs} do not balance"
        told = [j["legs"] for e in payment.events for j in json.loads(e.get("data", "{}")).get("journals", ())]
        if sorted(told) != sorted(booked):
            yield f"{payment_id}: the journals in the events are not those in the books"


def books_agree_with_the_bank(evidence: Evidence) -> Iterator[str]:
    balances = _replay(evidence)
    at_bank: Counter[tuple[str, str]] = Counter()
    for charge in evidence.charges:
        account = f"provider:{adapter_of(charge['provider'])}:receivable"
        at_bank[account, charge["currency"]] += charge["captured"] - charge["refunded"]
    receivables = {key: amount for key, amount in balances.items() if key[0].startswith("provider:") and amount}
    if receivables != {key: amount for key, amount in at_bank.items() if amount}:
        yield f"the books say {receivables}, the bank says {dict(at_bank)}"
    if balances["refunds:in_flight", "INR"]:
        yield f"{balances['refunds:in_flight', 'INR']} is in flight though all is quiet"
    rows = [payment.row for payment in evidence.payments.values()]
    owed = sum(row["amount_captured"] - row["amount_refunded"] for row in rows)
    if balances["merchant:payable", "INR"] != -owed:
        yield f"merchant:payable is {balances['merchant:payable', 'INR']}, payments say {-owed}"


def projection_is_the_replay(evidence: Evidence) -> Iterator[str]:
    if "projections" in evidence.world.discarded:
        return
    projected = {(name, currency): total for (currency, name), total in evidence.totals("balance").items() if total}
    replayed = {key: amount for key, amount in _replay(evidence).items() if amount}
    if projected != replayed:
        yield f"the projected balances are {projected}, the journals' replay is {replayed}"


def statistics_match(evidence: Evidence) -> Iterator[str]:
    if "projections" in evidence.world.discarded:
        return
    wanted: Counter[tuple[str, str]] = Counter()
    for event in evidence.events():
        day = event["created_at"][:10]
        if event["type"] in PUBLIC:
            wanted[day, event["type"]] += 1
        if event["type"] == "payment.succeeded":
            snapshot = json.loads(event["data"])["payment"]
            wanted[day, f"captured/{snapshot['currency']}"] += snapshot["amount_captured"]
    found = evidence.totals("day")
    for name, number in wanted.items():
        if found[name] != number:
            yield f"{name} counted {found[name]} times, it happened {number} times"


# -- the story -------------------------------------------------------------------------------------


def events_gapless(evidence: Evidence) -> Iterator[str]:
    subjects = {payment_id: (p.row, p.events) for payment_id, p in evidence.payments.items()}
    subjects |= {order_id: (row, evidence.order_events[order_id]) for order_id, row in evidence.orders.items()}
    for subject, (row, events) in subjects.items():
        in_order = sorted(events, key=lambda event: int(event["sequence"]))
        numbers = [event["sequence"] for event in in_order]
        if numbers != list(range(1, row["version"] + 1)):
            yield f"{subject}: events {numbers} for version {row['version']}"
        ends = [event["type"] for event in events if event["type"] in {f"payment.{status}" for status in PAYMENT_FINAL}]
        if len(ends) > 1:
            yield f"{subject}: it ended more than once: {ends}"
        times = [event["created_at"] for event in in_order]
        if times != sorted(times):
            yield f"{subject}: its events are not in the order of their times"


def history_is_legal(evidence: Evidence) -> Iterator[str]:
    """From the log of writes: what is final stays, what is set once stays set, no change without an event."""
    for write in evidence.world.dynamo.log:
        if write.table.endswith("-payments") and write.old is not None and write.new is not None:
            yield from _illegal(plain(write.old), plain(write.new))


def _illegal(old: Row, new: Row) -> Iterator[str]:
    sk, before, after = new["sk"], old.get("status"), new.get("status")
    ends = next((ends for prefix, ends in _ENDS.items() if sk.startswith(prefix)), {})
    if before in ends and after != before and after not in ends[before]:
        yield f"{new['id']}: {before} became {after}"
    if old.get("winning_attempt") not in (None, new.get("winning_attempt")):
        yield f"{new['id']}: winning_attempt was {old['winning_attempt']}, became {new.get('winning_attempt')}"
    changed = {name for name in old.keys() | new.keys() if old.get(name) != new.get(name)} - {"due_at", "due_pk"}
    if sk in ("a#payment", "a#order") and changed and new["version"] <= old["version"]:
        yield f"{new['id']}: {sorted(changed)} changed without an event"
    if sk.startswith(("evt#", "jnl#")) and changed:
        yield f"{new['id']}: {sk} was edited: {sorted(changed)}"


def ids_unique(evidence: Evidence) -> Iterator[str]:
    names = Counter(event["id"] for event in evidence.events())
    for payment in evidence.payments.values():
        names.update(row["id"] for row in (payment.row, *payment.attempts, *payment.operations, *payment.journals))
    names.update(list(evidence.orders))
    for name, number in names.items():
        if number > 1:
            yield f"{name} is the id of {number} things"
    for row in evidence.lost:
        yield f"{row['pk']} {row['sk']} belongs to nothing"


# -- what merchants are told -----------------------------------------------------------------------


def webhooks_are_signed(evidence: Evidence) -> Iterator[str]:
    first: dict[str, bytes] = {}
    for headers, body in evidence.world.inbox:
        name = headers["webhook-id"]
        moment = datetime.fromtimestamp(int(headers["webhook-timestamp"]), UTC)
        if Webhook(WEBHOOK_SECRET).sign(name, moment, body.decode()) not in headers["webhook-signature"].split(" "):
            yield f"{name}: its webhook is not signed"
        if first.setdefault(name, body) != body:
            yield f"{name}: came again with another body"


def every_event_delivered(evidence: Evidence) -> Iterator[str]:
    if "notifications" in evidence.world.discarded:
        return
    told = {document["id"]: document for document in (json.loads(body) for _, body in evidence.world.inbox)}
    events = {event["id"]: event for event in evidence.events() if event["type"] in PUBLIC}
    missing = [event["type"] for name, event in events.items() if name not in told]
    if len(missing) > evidence.expected.undelivered:
        yield f"the merchant was never told of {missing}"
    for name, document in told.items():
        event = events.get(name)
        if event is None:
            yield f"{name} ({document['type']}): the merchant was told of something that is no public event"
        elif (document["type"], document["sequence"]) != (event["type"], event["sequence"]):
            yield f"{name}: told as {document['type']} {document['sequence']}, is {event['type']} {event['sequence']}"


def deliveries_are_done(evidence: Evidence) -> Iterator[str]:
    for row in evidence.rows("deliveries"):
        if row["status"] != "delivered" and not evidence.expected.undelivered:
            yield f"the delivery of {row['event_type']} is {row['status']}"
        if row["status"] != "pending" and ("due_at" in row or "due_pk" in row):
            yield f"the delivery of {row['event_type']} is {row['status']} and still due"


# -- requests --------------------------------------------------------------------------------------


def answers_stand(evidence: Evidence) -> Iterator[str]:
    """Every answered request has its effect and its key row, and was answered with the same bytes each time."""
    operations = {o["id"] for p in evidence.payments.values() for o in p.operations}
    there = evidence.payments.keys() | evidence.orders.keys() | operations
    keys = {row["pk"].removeprefix("idem/"): row for row in evidence.rows("guards") if row["kind"] == "idempotency"}
    for answer in evidence.play.answers:
        if answer.object_id not in there:
            yield f"{answer.key}: was answered with {answer.object_id}, which does not exist"
        if keys.get(answer.key, {}).get("object_id") != answer.object_id:
            yield f"{answer.key}: was answered, its row is {keys.get(answer.key)}"
        if len(set(evidence.play.bodies[answer.key])) > 1:
            yield f"{answer.key}: was answered differently: {evidence.play.bodies[answer.key]}"
    if keys.keys() - {answer.key for answer in evidence.play.answers}:
        yield f"key rows {sorted(keys)}, requests {[answer.key for answer in evidence.play.answers]}"


def every_effect_was_asked_for(evidence: Evidence) -> Iterator[str]:
    """Nothing of a merchant's came into being without a request, or twice by one."""
    asked = Counter(answer.object_id for answer in evidence.play.answers if answer.kind != "change")
    made = [*evidence.payments, *evidence.orders]
    for payment in evidence.payments.values():
        # A void is asked for by canceling the payment.
        made += [o["id"] for o in payment.operations if o["source"] == "merchant" and o["type"] != "void"]
    for name in made:
        if asked[name] != 1:
            yield f"{name} was asked for {asked[name]} times"


# -- rest ------------------------------------------------------------------------------------------


def queues_are_empty(evidence: Evidence) -> Iterator[str]:
    world = evidence.world
    if len(world.dead) != evidence.expected.dead:
        yield f"dead letters: {[(queue, message.body) for queue, message in world.dead]}"
    left = {name: [message.body for message in queue] for name, queue in world.queues.items() if queue}
    if left or world.stream:
        yield f"messages are left: {left}, {len(world.stream)} in the stream"
    for name, execution in world.executions.items():
        if execution.status == "RUNNING":
            yield f"execution {name} never ended: {execution.history}"
    if len(evidence.orphans) != evidence.expected.orphans:
        yield f"{len(evidence.orphans)} orphans, not {evidence.expected.orphans}"


def nothing_is_left_open(evidence: Evidence) -> Iterator[str]:
    for payment_id, payment in evidence.payments.items():
        row = payment.row
        if row.get("needs_attention") and not evidence.expected.attention:
            yield f"{payment_id}: needs a person"
        if row["status"] not in (*PAYMENT_FINAL, "authorized"):
            yield f"{payment_id}: is still {row['status']}"
        if row["status"] in PAYMENT_FINAL and ("due_at" in row or "due_pk" in row):
            yield f"{payment_id}: is {row['status']} and still due"
        still = [a for a in payment.attempts if a["status"] in ATTEMPT_OPEN]
        still += [o for o in payment.operations if o["status"] in OPERATION_OPEN]
        yield from (f"{payment_id}: {thing.get('type', 'attempt')} is still {thing['status']}" for thing in still)
        open_ones = [row[name] for name in ("open_attempt", "open_operation") if name in row]
        if open_ones:
            yield f"{payment_id}: still waits for {open_ones}"


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
    if expected.statuses is None:
        return
    if len(ids) != len(expected.statuses) or set(ids) != evidence.payments.keys():
        yield f"payments {sorted(evidence.payments)}, the merchant made {ids}"
        return
    for number, (payment_id, wanted) in enumerate(zip(ids, expected.statuses, strict=True)):
        row = evidence.payments[payment_id].row
        if row["status"] not in ({wanted} if isinstance(wanted, str) else wanted):
            yield f"{payment_id}: is {row['status']}, not {wanted}"
        whole = row["amount"] if row["status"] == "succeeded" else 0
        captured = whole if expected.captured is None else expected.captured[number]
        refunded = 0 if expected.refunded is None else expected.refunded[number]
        found = row["amount_captured"], row["amount_refunded"]
        if found != (captured, refunded):
            yield f"{payment_id}: captured and refunded are {found}, not {(captured, refunded)}"
    last = [order["status"] for order in evidence.orders.values()][-1:]
    if expected.order is not None and last != [expected.order]:
        yield f"the order is {last}, not {expected.order}"


def no_secret_is_stored(evidence: Evidence) -> Iterator[str]:
    """Neither the merchant's secrets nor a customer's contact details."""
    secrets = [WEBHOOK_SECRET.removeprefix("whsec_")]
    for settings in evidence.world.bank.settings.values():
        declared = evidence.world.kit.provider(settings.personality).connection.credentials
        secret = {credential.name for credential in declared if credential.secret}
        secrets += [settings.webhook_secret, *(v for name, v in settings.credentials.items() if name in secret)]
    secrets += ["a@example.com", "@sim"]  # the customers of all scenarios
    stored = repr([list(table.items()) for table in evidence.world.dynamo.tables.values()])
    queued = repr(evidence.world.sent)
    yield from (f"{secret} lies in a table or a queue" for secret in secrets if secret in stored or secret in queued)


def nothing_unforeseen(evidence: Evidence) -> Iterator[str]:
    """Handlers may fail by what was done to them, never by a defect of their own."""
    if evidence.expected.defects:
        return
    for where, error in evidence.world.errors:
        if evidence.world.fault is None or isinstance(error, _DEFECTS) or type(error).__name__ in _OUR_DEFECTS:
            yield f"{where}: {type(error).__name__}: {error}"


def counted_once(evidence: Evidence) -> Iterator[str]:
    """Of a customer, each payment that was let through and each decline is counted once, and nothing else."""
    windows = [row for row in evidence.rows("guards") if row["kind"] == "window" and "/customer/" in row["pk"]]
    counted = Counter(entry[3] for row in windows for entry in json.loads(row.get("rows", "[]")))
    owed: Counter[str] = Counter()
    late: Counter[str] = Counter()  # attempts whose decline was taken back since
    for payment in evidence.payments.values():
        if "customer_key" not in payment.row:  # there is one for whoever has an email or a number
            continue
        if json.loads(payment.row["risk"])["decision"] != "block":
            owed[payment.row["id"][-12:]] += 1
        for attempt in payment.attempts:
            error = json.loads(attempt.get("error", "{}"))
            by_hand = error.get("message", "").startswith("Closed by hand")
            guessed = error.get("code") in ("authentication_failed", "invalid_instrument")
            if (error.get("class") in ("declined_issuer", "declined_risk") or guessed) and not by_hand:
                owed[attempt["id"][-12:]] += 1
            elif attempt["status"] in ("late_succeeded", "reversed"):
                late[attempt["id"][-12:]] += 1
    if counted - owed - late or owed - counted:
        yield f"velocity counts {dict(counted - owed - late)} too much and {dict(owed - counted)} too little"


def decisions_are_explained(evidence: Evidence) -> Iterator[str]:
    """Of each attempt it is known which accounts there were, why each one before it was passed over, and by what rule."""
    for payment in evidence.payments.values():
        used: set[str] = set()
        for attempt in sorted(payment.attempts, key=lambda a: int(a["number"])):
            told, account = json.loads(attempt.get("route") or "{}"), attempt["account"]
            if not (told.get("rule") and told.get("reason") and told.get("chosen") == account in told.get("order", ())):
                yield f"{attempt['id']}: went to {account}, and its decision says {told}"
                continue
            before = told["order"][: told["order"].index(account)]
            unsaid = [one for one in before if one not in told["skipped"] and one not in used]
            if unsaid and "scores" not in told:
                yield f"{attempt['id']}: nothing says why {unsaid} were passed over"
            used.add(account)


CHECKS = (
    one_charge_kept,
    every_charge_is_known,
    conservation,
    refunds_match,
    journals_balance,
    books_agree_with_the_bank,
    projection_is_the_replay,
    statistics_match,
    events_gapless,
    history_is_legal,
    ids_unique,
    webhooks_are_signed,
    every_event_delivered,
    deliveries_are_done,
    answers_stand,
    every_effect_was_asked_for,
    queues_are_empty,
    nothing_is_left_open,
    orders_paid_once,
    ends_as_expected,
    counted_once,
    decisions_are_explained,
    no_secret_is_stored,
    nothing_unforeseen,
)
