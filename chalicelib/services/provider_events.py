"""Provider events: verified and queued by the route, taken in by ``ingest``.

The route verifies, queues, answers. The mark that keeps an event from counting twice is part of the
transaction of its effect, so a crash leaves both or neither.

Some callbacks are signed by nobody, or their signature leaves out what matters. Such a one is a hint:
all that it does is to make us ask the provider, whose answer then counts like a signed event. It needs
no mark: hearing the same fact twice changes nothing, and a forged hint must not use up the real one's.
Of those that nobody signed few are let in, and none is kept.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from chalicelib.domain import operations
from chalicelib.domain.charges import Mismatch, check_charge
from chalicelib.domain.errors import ErrorClass, ErrorCode, NotFoundError, PaymentError, RateLimited
from chalicelib.domain.ids import parse_attempt_reference
from chalicelib.domain.outcome import Charge, ChargeStatus, Effect, EffectStatus, EventKind, NotFound, ProviderEvent
from chalicelib.domain.states import OPERATION_OPEN, AttemptStatus, OperationStatus, OperationType, PaymentStatus
from chalicelib.observability import logger, metric
from chalicelib.providers.base import BadSignature
from chalicelib.services import payments
from chalicelib.services.attempts import alarm_mismatch, known_account, look_up, record
from chalicelib.services.kit import settle
from chalicelib.services.operations import look_up_refund, record_answer
from chalicelib.storage.store import AlreadyApplied, Mark

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chalicelib.domain.merchant import Account
    from chalicelib.domain.model import Attempt, Change, Operation, PaymentState, Tenant
    from chalicelib.services.kit import Kit

# What a charge may have moved on from by the time the event is read.
_OVERTAKEN = frozenset({ChargeStatus.AUTHORIZED, ChargeStatus.DECLINED, ChargeStatus.CANCELED})
_LONGEST_KEY = 200
_MARK_SECONDS = 30 * 86400  # providers retry for days at most


_HINTS = 20  # per account and second


class NoPayment(Exception):
    """The event names no payment of ours (yet)."""


class Unconfirmed(Exception):
    """The provider could not be asked about what an unsigned callback said: the message comes again."""


def receive(kit: Kit, provider: str, account_id: str, headers: Mapping[str, str], body: bytes) -> None:
    """Verify a provider's event and queue it; raises NotFoundError, BadSignature, RateLimited or SendFailed.

    After a 2xx the event is in the queue: nothing acknowledged is lost.
    """
    tenant = kit.merchants.owner_of_account(account_id)
    account = known_account(kit, tenant, account_id) if tenant else None
    if tenant is None or account is None or account.provider != provider:
        raise NotFoundError("account_not_found", "There is no such provider account.", param="account")
    try:
        event = kit.provider(provider).parse_webhook(account, headers, body, kit.now())
    except BadSignature:
        # Its secret may have been rotated a moment ago: then this environment's cache is behind.
        fresh = _read_again(kit, tenant, account)
        if fresh is None:
            raise
        event = kit.provider(provider).parse_webhook(fresh, headers, body, kit.now())
    metric("ProviderEvent", provider=provider, kind=str(event.kind))
    if event.kind is EventKind.IGNORED:
        logger.info("provider event ignored", type=event.type, account=account_id)
        return
    if not event.verified:
        _let_in(kit, account_id, event)
    kit.queues.send("provider-events", [message_of(kit, tenant, account_id, event)])


def message_of(kit: Kit, tenant: Tenant, account_id: str, event: ProviderEvent) -> dict[str, object]:
    """The message that brings an event to ``ingest``: sealed, for providers tell of customers in many ways.

    Type and reference are for whoever looks into the queue, and read by nobody else.
    """
    plain = zlib.compress(json.dumps(to_dict(event), separators=(",", ":")).encode())
    sealed = kit.merchants.cipher(tenant).seal("provider_event", account_id, plain)
    about = {"type": event.type, "reference": event.reference or event.provider_reference}
    whose = {"merchant_id": tenant.merchant_id, "mode": tenant.mode, "account": account_id}
    return whose | {"about": about, "sealed": base64.b64encode(sealed).decode()}


def event_in(kit: Kit, tenant: Tenant, message: Mapping[str, Any]) -> ProviderEvent:
    """The event that ``message_of`` put into a message; raises NotOpened."""
    if "event" in message:  # queued by an earlier release
        return from_dict(message["event"])
    sealed = base64.b64decode(message["sealed"])
    plain = kit.merchants.cipher(tenant).open("provider_event", message["account"], sealed)
    return from_dict(json.loads(zlib.decompress(plain)))


def _read_again(kit: Kit, tenant: Tenant, account: Account) -> Account | None:
    """The account past the cache, if it has other secrets there."""
    fresh = kit.merchants.reread(tenant, account.id)
    return None if fresh is None or set(fresh.webhook_secrets) <= set(account.webhook_secrets) else fresh


def _let_in(kit: Kit, account_id: str, event: ProviderEvent) -> None:
    """Anybody can send a hint, and each one costs a call: one a second about one charge, a few in all."""
    about = event.reference or event.provider_reference or ""
    place = int(hashlib.sha256(about.encode("utf-8", "surrogatepass")).hexdigest(), 16) % _HINTS
    if not kit.store.take_slot(f"hint/{account_id}", place, "", kit.now(), 1.0):
        raise RateLimited("unsigned callbacks")


def ingest(kit: Kit, tenant: Tenant, account_id: str, event: ProviderEvent) -> None:
    """Take in a provider's event; raises NoPayment while nothing of ours matches it.

    Repeated, late and reordered events change nothing or converge: see ``record_charge``.
    """
    state, about = _find(kit, tenant, account_id, event)
    if about.account != account_id:
        logger.error(
            "%s: an event of account %s names an attempt of account %s; refused",
            state.payment.id,
            account_id,
            about.account,
            payment_id=state.payment.id,
        )
        metric("ProviderMismatch", provider=about.provider)
        return
    mark: Mark | None = Mark(
        f"event/{account_id}/{_short(event.dedupe_key)}", round(kit.now().timestamp()) + _MARK_SECONDS
    )
    if event.kind is EventKind.HINT:
        event, mark = _confirmed(kit, state, about, event), None
    try:
        if event.charge is not None:
            # A refund's event shows its charge too: it may be the first that tells of it.
            state = _take_in_charge(kit, state, about, event.charge, mark if event.effect is None else None)
        if event.effect is not None:
            _take_in_refund(kit, state, state.attempt(about.id) or about, event, event.effect, mark)
    except AlreadyApplied:
        logger.info("provider event seen before", payment_id=state.payment.id, dedupe_key=event.dedupe_key)
    except Mismatch as mismatch:
        alarm_mismatch(state.payment.id, about, mismatch)


def _confirmed(kit: Kit, state: PaymentState, about: Attempt, hint: ProviderEvent) -> ProviderEvent:
    """What the provider itself says of what a hint points at; raises Unconfirmed if it cannot be asked."""
    if hint.effect is None:
        charge = look_up(kit, state, about)
        if isinstance(charge, Charge):
            return replace(hint, kind=EventKind.CHARGE, charge=charge)
        said: object = charge
    else:
        effect = look_up_refund(kit, state, about, hint.refund_key or "", hint.effect.provider_reference)
        if isinstance(effect, Effect):
            key = effect.key or hint.refund_key
            if key is None and _one_may_be_ours(state, about):
                raise Unconfirmed(hint.dedupe_key)  # once ours has its provider's id, the two can be told apart
            return replace(hint, kind=EventKind.REFUND, charge=None, effect=effect, refund_key=key)
        said = effect
    if isinstance(said, NotFound):
        raise NoPayment(hint.dedupe_key)  # not yet, perhaps
    raise Unconfirmed(hint.dedupe_key)


def _one_may_be_ours(state: PaymentState, about: Attempt) -> bool:
    """Whether a refund or reversal of ours is on its way that we know no provider's id of."""
    return any(
        operation.attempt_id == about.id
        and operation.type in (OperationType.REFUND, OperationType.REVERSAL)
        and operation.status in OPERATION_OPEN
        and operation.provider_reference is None
        for operation in state.operations
    )


def _take_in_charge(kit: Kit, state: PaymentState, about: Attempt, charge: Charge, mark: Mark | None) -> PaymentState:
    check_charge(about, charge)
    if about.is_open and any(name.endswith("_id") and name not in about.data for name in charge.data):
        # It names an order that we do not know to be this attempt's: only the provider, asked by our own
        # reference, can say. A browser may have chosen what an event calls our reference.
        asked = look_up(kit, state, about)
        if not isinstance(asked, Charge):
            raise Unconfirmed(about.reference)
        charge = asked
    elif charge.status in _OVERTAKEN and (about.is_open or about.status is AttemptStatus.AUTHORIZED):
        # Events overtake each other, and a failed charge may have succeeded since: the provider's word of
        # now decides. Otherwise two orders of the same events would end in two different ways.
        now = look_up(kit, state, about)
        charge = now if isinstance(now, Charge) else charge
    after = record(kit, state, about, charge, resolved=False, source="webhook", mark=mark)
    ended = about.is_open and after.payment.open_attempt is None
    if ended and after.payment.status is PaymentStatus.PROCESSING:
        payments.resume(kit, after, f"webhook: attempt {about.number} ended")
    return after


def _take_in_refund(
    kit: Kit, state: PaymentState, about: Attempt, event: ProviderEvent, effect: Effect, mark: Mark | None
) -> None:
    ours = _our_operation(state, about, event, effect)
    if ours is not None and ours.status is OperationStatus.FAILED and effect.status is EffectStatus.SUCCEEDED:
        # Either it went out after all, or it was sent back and this is the older of two events.
        asked = look_up_refund(kit, state, about, ours.id, effect.provider_reference)
        if not isinstance(asked, Effect):
            raise Unconfirmed(event.dedupe_key)
        effect = asked
    if ours is not None:
        record_answer(kit, state, ours, effect, source="webhook", mark=mark)
        return

    def decide(current: PaymentState) -> Change | None:
        found = current.attempt(about.id) or about
        excess = (effect.amount or 0) > current.payment.amount_refundable
        if found.id != current.payment.winning_attempt:
            _alarm_excess(current, found, "refunded a charge that is not this payment's")
            return None
        change = operations.provider_refund(current, found, effect, excess=excess, now=kit.now())
        if change is not None and excess:
            _alarm_excess(current, found, "refunded more than is refundable")
        return change

    settle(kit, state.payment.tenant, state.payment.id, decide, state=state, mark=mark)


def _alarm_excess(state: PaymentState, about: Attempt, what: str) -> None:
    payment_id = state.payment.id
    logger.error("%s: the provider %s. Compare it in the provider's dashboard", payment_id, what, payment_id=payment_id)
    metric("RefundExcess", provider=about.provider)


def _our_operation(state: PaymentState, about: Attempt, event: ProviderEvent, effect: Effect) -> Operation | None:
    """The operation of ours that a refund belongs to. A late charge given back by hand is its reversal."""
    ours = state.operation(event.refund_key)
    if ours is not None:
        return ours
    for operation in state.operations:
        if effect.provider_reference and operation.provider_reference == effect.provider_reference:
            return operation
        is_reversal = operation.type is OperationType.REVERSAL and operation.attempt_id == about.id
        if about.status is AttemptStatus.LATE_SUCCEEDED and is_reversal:
            return operation
    return None


def _find(kit: Kit, tenant: Tenant, account_id: str, event: ProviderEvent) -> tuple[PaymentState, Attempt]:
    """The payment and attempt an event is about: by our own reference first, then by the provider's."""
    parsed = parse_attempt_reference(event.reference) if event.reference else None
    payment_id = parsed[0] if parsed else None
    if payment_id is None and event.provider_reference:
        payment_id = kit.queries.payment_of_reference(tenant, f"{account_id}/{event.provider_reference}")
    state = kit.queries.payment_state(tenant, payment_id) if payment_id else None
    if state is not None:
        for attempt in state.attempts:
            if parsed and attempt.number == parsed[1]:
                return state, attempt
            if not parsed and attempt.provider_reference == event.provider_reference:
                return state, attempt
    raise NoPayment(event.dedupe_key)


def _short(dedupe_key: str) -> str:
    """The key as part of a database key, whatever its length: a header may bring any."""
    return dedupe_key if len(dedupe_key) <= _LONGEST_KEY else hashlib.sha256(dedupe_key.encode()).hexdigest()


def keep_orphan(kit: Kit, tenant: Tenant, account_id: str, event: ProviderEvent) -> None:
    """Nothing of ours matches the event after all: keep it for people, and raise the alarm."""
    if not event.verified:  # anybody can make these up, as many as they like
        logger.warning("an unsigned callback matches nothing", account=account_id, type=event.type)
        metric("HintWithoutMatch")
        return
    key = _short(f"{event.kind}/{event.dedupe_key}")
    kit.store.add_orphan(tenant, account_id, key, to_dict(_nameless(event)), kit.now())
    logger.error(
        "a provider event matches no payment of ours; it is kept: see docs/operations.md, orphan events",
        account=account_id,
        dedupe_key=event.dedupe_key,
        type=event.type,
    )
    metric("OrphanEvent")


def _nameless(event: ProviderEvent) -> ProviderEvent:
    """The event with what a person needs to find it at the provider, and without what could name a customer."""
    charge, effect = event.charge, event.effect
    return replace(
        event,
        charge=None if charge is None else replace(charge, next_action=None, data={}, error=_coded(charge.error)),
        effect=None if effect is None else replace(effect, error=_coded(effect.error)),
    )


def _coded(error: PaymentError | None) -> PaymentError | None:
    return None if error is None else replace(error, message="", provider_code=None)


def to_dict(event: ProviderEvent) -> dict[str, Any]:
    """An event as JSON carries it."""
    return {name: value for name, value in asdict(event).items() if value is not None}


def from_dict(stored: Mapping[str, Any]) -> ProviderEvent:
    """The event that ``to_dict`` wrote."""
    charge, effect = stored.get("charge"), stored.get("effect")
    return ProviderEvent(
        dedupe_key=stored["dedupe_key"],
        type=stored["type"],
        kind=EventKind(stored["kind"]),
        reference=stored.get("reference"),
        provider_reference=stored.get("provider_reference"),
        refund_key=stored.get("refund_key"),
        verified=stored.get("verified", True),
        charge=None
        if charge is None
        else Charge(
            **(charge | {"status": ChargeStatus(charge["status"]), "error": _error(charge["error"]), "exchange": None})
        ),
        effect=None
        if effect is None
        else Effect(
            **(effect | {"status": EffectStatus(effect["status"]), "error": _error(effect["error"]), "exchange": None})
        ),
    )


def _error(stored: Mapping[str, Any] | None) -> PaymentError | None:
    if stored is None:
        return None
    return PaymentError(
        ErrorClass(stored["error_class"]), ErrorCode(stored["code"]), stored["message"], stored["provider_code"]
    )
