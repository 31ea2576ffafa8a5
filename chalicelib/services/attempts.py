"""Talking to providers about charges: make one, find out what became of one, take in what is said of one.

What a crash does, line by line, for ``attempt``:

* before ``begin_attempt`` commits: nothing happened, the next workflow try or the sweeper starts over;
* after it, before or after the provider acted: the attempt is ``sent``; nobody sends again, ``resolve``
  asks (or repeats the same call under the same key while the provider promises one charge per key);
* after the answer, before its commit: the same, and resolve gets the same answer again;
* two at once: ``open_attempt`` lets one through; the other one resolves.
"""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from chalicelib.domain import charges, routing
from chalicelib.domain import payments as lifecycle
from chalicelib.domain.charges import Mismatch
from chalicelib.domain.errors import Contended, ErrorClass, ErrorCode, PaymentError
from chalicelib.domain.outcome import Charge, NotFound, NotSent, Unknown
from chalicelib.domain.payments import Step
from chalicelib.domain.routing_rules import Asked
from chalicelib.domain.states import AttemptStatus, PaymentStatus
from chalicelib.observability import logger, metric
from chalicelib.providers.base import ChargeIntent, ChargeRef
from chalicelib.services import health, screening
from chalicelib.services.kit import committed, load_state, pause, settle
from chalicelib.storage.store import ReferenceTaken, Stale

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from chalicelib.domain.merchant import Account, Merchant
    from chalicelib.domain.model import Attempt, Change, Payment, PaymentState, Tenant
    from chalicelib.domain.outcome import ChargeLookup, ChargeOutcome
    from chalicelib.domain.routing import Decision
    from chalicelib.services.kit import Kit, Line
    from chalicelib.storage.store import Mark

A = TypeVar("A")
_RACES = 10  # how often attempt may lose to somebody else before it leaves the payment to them


def route(
    kit: Kit,
    merchant: Merchant,
    payment: Payment,
    attempts: Sequence[Attempt],
    now: datetime,
    refused: frozenset[str] = frozenset(),
) -> Decision:
    """Where the payment's next attempt goes, and why; ``refused`` are providers that had no permit left."""
    asked = asked_by(payment)
    known = health.known(kit, merchant, payment, now, with_tallies=merchant.routing.is_scored(asked))
    return routing.decide(
        merchant.routing, candidates(kit, merchant), attempts, asked, known, refused, expires_at=payment.expires_at
    )


def candidates(kit: Kit, merchant: Merchant) -> list[routing.Candidate]:
    """The merchant's accounts as routing sees them."""
    found = []
    for account in merchant.accounts:
        can = kit.provider(account.provider).capabilities
        found.append(
            routing.Candidate(
                account.id, account.provider, can.methods, can.currencies, can.min_amount, can.max_amount,
                can.manual_capture, can.required, account.enabled,
            )
        )  # fmt: skip
    return found


def asked_by(payment: Payment) -> Asked:
    """What a payment asks of routing."""
    given = {f"customer.{name}" for name in payment.customer}
    return Asked(
        method=payment.method["type"],
        currency=payment.currency,
        amount=payment.amount,
        capture=payment.capture,
        metadata=payment.metadata,
        given=frozenset(given | ({"return_url"} if payment.return_url else set())),
        network=charges.network_of(payment.method),
        bin=payment.method.get("bin"),
        country=payment.customer.get("country"),
        segment=payment.customer.get("segment"),
        at=payment.created_at,
        experiment=payment.experiment,
        id=payment.id,
    )


def _admitted(kit: Kit, merchant: Merchant, state: PaymentState, now: datetime) -> Decision:
    """A decision whose provider's breaker admits the call; whoever is out of permits is passed over."""
    refused: frozenset[str] = frozenset()
    while True:
        decision = route(kit, merchant, state.payment, state.attempts, now, refused)
        if decision.chosen is None or not decision.needs_permit:
            return decision
        provider = decision.chosen.provider
        if health.admit(kit, merchant.tenant.mode, provider, state.payment.method["type"], now):
            return decision
        refused |= {provider}


def attempt(kit: Kit, tenant: Tenant, payment_id: str) -> Step:
    """Make the payment's next attempt, if it is due one; says what the workflow does next."""
    merchant = kit.merchants.get(tenant)
    for number in range(_RACES):
        state = load_state(kit, tenant, payment_id)
        now = kit.now()
        step = lifecycle.next_step(state, kit.timing, now, kit.jitter, merchant.routing.retry)
        if step.outcome != "retry":
            return step
        try:
            if now >= state.payment.expires_at:
                _commit(kit, state, lifecycle.give_up(state, PaymentStatus.EXPIRED, kit.timing, now))
                return Step("done")
            decision = _admitted(kit, merchant, state, now)
            if decision.wait_until is not None:
                return _wait(kit, state.payment, max(step.wait, (decision.wait_until - now).total_seconds()))
            if decision.chosen is None:
                _commit(kit, state, lifecycle.fail_without_route(state, decision, now))
                return Step("done")
            change = lifecycle.begin_attempt(state, decision.chosen, decision, kit.timing, now)
            state = _commit(kit, state, change)
        except Stale:
            pause(kit, number)
            continue
        (opened,) = change.new_attempts
        answer = _charge(kit, state.payment, opened)
        state = record(kit, state, opened, answer, resolved=False, source="response")
        return _next(kit, merchant, state)
    raise Contended(f"Payment {payment_id}")


def _next(kit: Kit, merchant: Merchant, state: PaymentState) -> Step:
    """What the workflow does next; before another attempt also as long as its account has asked for."""
    now = kit.now()
    step = lifecycle.next_step(state, kit.timing, now, kit.jitter, merchant.routing.retry)
    until = route(kit, merchant, state.payment, state.attempts, now).wait_until if step.outcome == "retry" else None
    return step if until is None else Step("retry", max(step.wait, (until - now).total_seconds()))


def _wait(kit: Kit, payment: Payment, seconds: float) -> Step:
    """Wait until a provider lets us call it again, and see to it that the sweeper does too.

    Whoever comes too early comes here: a run that the sweeper started, one whose other provider has gone
    down meanwhile. A crash before the lease is moved costs one more run that comes here, after it nothing.
    """
    until = kit.now() + timedelta(seconds=seconds + kit.timing.lease)
    if payment.due_at is not None and payment.due_at < until:
        kit.store.postpone(payment, until)
    return Step("retry", seconds)


def resolve(kit: Kit, tenant: Tenant, payment_id: str) -> Step:
    """Find out what became of the payment's open attempt; says what the workflow does next."""
    state = load_state(kit, tenant, payment_id)
    opened = state.open_attempt
    if opened is not None and opened.status in (AttemptStatus.SENT, AttemptStatus.UNKNOWN):
        left = (opened.deadline_at - kit.now()).total_seconds()
        if left > 0:  # the call itself may still be under way
            return Step("resolve", left)
        answer = ask_again(kit, state, opened)
        state = record(kit, state, opened, answer, resolved=True, source="resolve")
    return _next(kit, kit.merchants.get(tenant), state)


def ask_again(kit: Kit, state: PaymentState, opened: Attempt) -> ChargeLookup:
    """Repeat the call under its key while the provider promises that this is safe, else look up."""
    age = (kit.now() - opened.created_at).total_seconds()
    window = kit.provider(opened.provider).capabilities.idempotency_window
    may_repeat = age < window and kit.now() < state.payment.expires_at
    if may_repeat and not has_moved(account_of(kit, opened), opened):
        return _unless_not_sent(_charge(kit, state.payment, opened))
    return look_up(kit, state, opened)


def look_up(kit: Kit, state: PaymentState, opened: Attempt) -> ChargeLookup:
    """Ask the provider for an attempt's charge."""
    account = account_of(kit, opened)
    answer = call(
        opened.provider,
        "fetch",
        lambda: kit.provider(opened.provider).fetch(account, charge_ref(kit, state.payment, opened)),
    )
    if isinstance(answer, NotFound) and has_moved(account, opened):
        return unknown_elsewhere(answer)
    return _unless_not_sent(answer)


def has_moved(account: Account, about: Attempt) -> bool:
    """Whether an account's credentials are others than those an attempt was made with.

    They may be another account's, whatever we asked for: what it does not know may be known at the old one,
    and what is repeated there is made a second time.
    """
    return account.rotated_at is not None and about.created_at < account.rotated_at


def unknown_elsewhere(answer: NotFound) -> Unknown:
    """Not found, but with other credentials than it was made with: that says nothing."""
    error = PaymentError(
        ErrorClass.TIMEOUT_UNKNOWN, ErrorCode.OUTCOME_UNKNOWN, "The account's credentials have changed since."
    )
    return Unknown(error, answer.exchange)


def _unless_not_sent(answer: ChargeLookup) -> ChargeLookup:
    """A repeat or a look-up that was not sent says nothing about the first call: it stays unknown."""
    if isinstance(answer, NotSent):
        return Unknown(answer.error, answer.exchange, answer.retry_after)
    return answer


def record(
    kit: Kit,
    state: PaymentState,
    about: Attempt,
    answer: ChargeLookup,
    *,
    resolved: bool,
    source: str,
    mark: Mark | None = None,
    audit: Line | None = None,
) -> PaymentState:
    """Commit what a provider said, or failed to say, about an attempt; raises AlreadyApplied with a mark.

    Whoever learns of a charge comes here; the decision is made again on fresh state until it holds.
    """
    payment = state.payment
    by_hand = source.startswith("operator")
    if about.is_open and not by_hand and screening.counts(answer):
        screening.note_decline(kit, payment, about)

    def decide(current: PaymentState) -> Change | None:
        found = current.attempt(about.id)
        if found is None:
            msg = f"{payment.id}: attempt {about.id} is missing"
            raise LookupError(msg)
        return _take_in(kit, current, found, answer, resolved=resolved, source=source)

    try:
        after, change = settle(kit, payment.tenant, payment.id, decide, state=state, mark=mark, audit=audit)
    except ReferenceTaken as taken:
        if by_hand:
            raise
        alarm_mismatch(payment.id, about, taken)
        error = PaymentError(ErrorClass.CONFLICT, ErrorCode.MISMATCH, str(taken))
        after, change = settle(kit, payment.tenant, payment.id, lambda current: _not_ours(kit, current, about, error))
    if change is not None and any(event.type == "attempt.charged_twice" for event in change.events):
        logger.error(
            "%s: its provider has charged twice under one reference; give the second one back in its dashboard",
            payment.id,
            payment_id=payment.id,
        )
        metric("ProviderMismatch", provider=about.provider)
    now_is = after.attempt(about.id)
    if change is not None and now_is is not None and now_is.status is AttemptStatus.DECLINED:
        close_unpaid(kit, payment, about)
    return after


def close_unpaid(kit: Kit, payment: Payment, about: Attempt) -> None:
    """Close at the provider what its customer could still pay, once we have let go of it.

    It only spares a reversal: whatever becomes of this call, the attempt is watched, and a late
    success is given back.
    """
    provider = kit.provider(about.provider)
    if about.status is AttemptStatus.ACTION_REQUIRED and provider.capabilities.closes_unpaid:
        account, ref = account_of(kit, about), charge_ref(kit, payment, about)
        call(about.provider, "void", lambda: provider.void(account, ref, about.id))


def _take_in(
    kit: Kit, state: PaymentState, found: Attempt, answer: ChargeLookup, *, resolved: bool, source: str
) -> Change | None:
    """What an answer changes, decided on this state; raises Mismatch if a webhook talks of other money."""
    payment, now, timing = state.payment, kit.now(), kit.timing
    merchant = kit.merchants.get(payment.tenant)
    can = kit.provider(found.provider).capabilities

    def next_within(attempts: Sequence[Attempt]) -> float | None:
        decision = route(kit, merchant, payment, attempts, now)
        if now >= payment.expires_at or not (decision.chosen or decision.wait_until):
            return None
        _, cap = merchant.routing.retry.backoff(attempts[-1], timing)
        return cap if decision.wait_until is None else max(cap, (decision.wait_until - now).total_seconds())

    if isinstance(answer, Charge):
        try:
            return charges.record_charge(
                state, found, answer, next_within=next_within, timing=timing,
                authorization_window=can.authorization_window, now=now, source=source,
            )  # fmt: skip
        except Mismatch as mismatch:
            if source == "webhook":
                raise
            alarm_mismatch(payment.id, found, mismatch)
            error = PaymentError(ErrorClass.CONFLICT, ErrorCode.MISMATCH, str(mismatch))
            answer = Unknown(error, answer.exchange)
    if isinstance(answer, NotSent):
        return charges.record_not_sent(
            state, found, answer.error, answer.exchange, next_within=next_within, timing=timing, now=now,
            retry_after=answer.retry_after,
        )  # fmt: skip
    if isinstance(answer, NotFound):
        return charges.record_not_found(
            state, found, answer.exchange, settle_window=can.settle_window, next_within=next_within, timing=timing,
            now=now,
        )  # fmt: skip
    metric("OldestUnknownSeconds", max((now - found.created_at).total_seconds(), 0), "Seconds")
    return charges.record_unknown(
        state, found, answer.error, answer.exchange, resolved=resolved, timing=timing, now=now,
        retry_after=answer.retry_after,
    )  # fmt: skip


def _not_ours(kit: Kit, current: PaymentState, about: Attempt, error: PaymentError) -> Change | None:
    """The provider names a charge that is another payment's: this one stays unknown until a person looks."""
    found = current.attempt(about.id) or about
    return charges.record_unknown(current, found, error, None, resolved=True, timing=kit.timing, now=kit.now())


def alarm_mismatch(payment_id: str, about: Attempt, mismatch: Exception) -> None:
    """The provider talks about other money than ours: nothing of it is believed."""
    logger.error("%s: %s. Compare the charge in the provider's dashboard", payment_id, mismatch, payment_id=payment_id)
    metric("ProviderMismatch", provider=about.provider)


def call(provider: str, operation: str, do: Callable[[], A]) -> A:
    """Make a provider call and measure it."""
    started = time.perf_counter()
    answer = do()
    elapsed = (time.perf_counter() - started) * 1000
    outcome = str(getattr(answer, "status", type(answer).__name__.lower()))
    metric("ProviderCall", provider=provider, operation=operation, outcome=outcome)
    metric("ProviderLatency", elapsed, "Milliseconds", provider=provider, operation=operation)
    return answer


def _method(kit: Kit, payment: Payment, about: Attempt) -> Mapping[str, str]:
    """A payment's method as an adapter is told it: nothing of a card reaches one that does not need it."""
    if payment.method["type"] != "card":
        return payment.method
    needed = kit.provider(about.provider).capabilities.card_data | {"type"}
    return {name: value for name, value in payment.method.items() if name in needed}


def charge_ref(kit: Kit, payment: Payment, about: Attempt) -> ChargeRef:
    """How an adapter finds an attempt's charge again."""
    return ChargeRef(
        about.reference,
        about.provider_reference,
        about.amount,
        about.currency,
        _method(kit, payment, about),
        about.data,
        about.created_at,
    )


def account_of(kit: Kit, about: Attempt) -> Account:
    """The provider account an attempt was made at; raises LookupError."""
    account = known_account(kit, about.tenant, about.account)
    if account is None:
        msg = f"{about.id}: merchant {about.tenant.merchant_id} has no account {about.account} any more"
        raise LookupError(msg)
    return account


def known_account(kit: Kit, tenant: Tenant, account_id: str) -> Account | None:
    """The account of that id; one that was connected a moment ago is not in every cache yet."""
    return kit.merchants.get(tenant).account(account_id) or kit.merchants.account(tenant, account_id)


def webhook_url(kit: Kit, account: Account) -> str:
    """Where a provider account's webhooks go."""
    return f"{kit.settings.public_base_url}/webhooks/{account.provider}/{account.id}"


def _intent(kit: Kit, account: Account, payment: Payment, opened: Attempt) -> ChargeIntent:
    return ChargeIntent(
        reference=opened.reference,
        payment_id=payment.id,
        amount=opened.amount,
        currency=opened.currency,
        capture=payment.capture,
        method=_method(kit, payment, opened),
        customer=payment.customer,
        description=payment.description,
        return_url=payment.return_url,
        notify_url=webhook_url(kit, account),
        expires_at=payment.expires_at,
    )


def _charge(kit: Kit, payment: Payment, opened: Attempt) -> ChargeOutcome:
    account = account_of(kit, opened)
    provider = kit.provider(opened.provider)
    return call(opened.provider, "create", lambda: provider.create(account, _intent(kit, account, payment, opened)))


def _commit(kit: Kit, state: PaymentState, change: Change) -> PaymentState:
    kit.store.commit(change, now=kit.now())
    after = change.state(state)
    committed(state, after, change)
    return after
