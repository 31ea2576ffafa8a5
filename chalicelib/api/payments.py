"""Routes: payments, from create to refund, and the whole story of each."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from chalicelib.api import lists, schemas, views, waiting
from chalicelib.api.http import Api, Call, Reply
from chalicelib.domain.errors import ErrorCode
from chalicelib.services import operations, payments

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chalicelib.domain.model import Operation, Payment, PaymentState

api = Api(__name__)

_ONE = "/v1/payments/{payment_id}"


def _render(state: PaymentState) -> dict[str, object]:
    return views.payment(state.payment)


# -- create, get, list -----------------------------------------------------------------------------


def wish_of(body: schemas.PaymentIn) -> payments.NewPayment:
    """What the merchant wants, of what a request says."""
    return payments.NewPayment(
        amount=body.amount,
        currency=body.currency,
        method=body.method.model_dump(exclude_none=True),
        capture=body.capture,
        customer=body.customer.model_dump(exclude_none=True) if body.customer else {},
        order_id=body.order_id,
        return_url=body.return_url,
        description=body.description,
        metadata=body.metadata or {},
    )


@api.route(
    "/v1/payments", methods=["POST"], scope="payments:write", body=schemas.PaymentIn, response="Payment", status=201,
    idempotent=True, waits=True, errors=[404],
)  # fmt: skip
def create_payment(call: Call, body: schemas.PaymentIn) -> Reply:
    """Create a payment and set it going."""
    kit, tenant = call.kit, call.tenant
    wish = wish_of(body)
    seconds = waiting.preferred(call.header("prefer"), kit.settings.max_wait)

    def settled(state: PaymentState) -> PaymentState:
        return replace(state, payment=waiting.until_settled(kit, tenant, state.payment, seconds))

    with waiting.slot(kit, call.request_id, seconds) as waits:
        reply = call.once(
            lambda idem: payments.create(kit, tenant, wish, idem),
            _render,
            wait=seconds if waits else 0,
            settled=settled if waits else lambda state: state,
            current=lambda payment_id: views.payment(payments.get(kit, tenant, payment_id)),
        )
    if waits and not reply.headers:  # a replay waited for nothing
        reply = replace(reply, headers={"Preference-Applied": f"wait={seconds}"})
    return reply


@api.route("/v1/payments", scope="payments:read", query=schemas.PaymentQuery, response="PaymentList")
def list_payments(call: Call, query: schemas.PaymentQuery) -> Reply:
    """List payments, newest first."""
    customer = None
    if query.customer_email is not None:
        lookup_key = call.kit.merchants.get(call.tenant).lookup_key
        customer = payments.customer_key(lookup_key, query.customer_email)
    method = query.method or query.method_type

    def keep(payment: Payment) -> bool:
        return (
            query.currency in (None, payment.currency)
            and query.provider in (None, payment.provider)
            and query.amount in (None, payment.amount)
            and method in (None, payment.method["type"])
            and query.method_type in (None, payment.method["type"])
            and customer in (None, payment.customer_key)
        )

    page = call.kit.queries.payments(
        call.tenant,
        limit=query.limit,
        cursor=lists.after_id(query.cursor, "pay"),
        status=query.status,
        order_id=query.order_id,
        customer_key=customer,
        keep=keep,
    )
    return Reply(lists.shown(page, views.payment_in_list))


_NOWHERE = (ErrorCode.NO_ROUTE, ErrorCode.PROVIDER_UNAVAILABLE)


@api.route(_ONE, scope="payments:read", response="Payment", errors=[404])
def get_payment(call: Call, payment_id: str) -> Reply:
    """Get a payment."""
    state = payments.state(call.kit, call.tenant, payment_id)
    newest = max(state.attempts, key=lambda attempt: attempt.number, default=None)
    route = str(newest.route.get("reason", "")) or None if newest else None
    error = state.payment.error
    if newest is None and error is not None and error.code in _NOWHERE:
        route = error.message  # there was no attempt, and this is why
    return Reply(views.payment(state.payment, route))


# -- what can be done to one -----------------------------------------------------------------------


@api.route(
    f"{_ONE}/verify", methods=["POST"], scope="payments:confirm", body=schemas.VerifyIn, response="Payment",
    errors=[404, 409, 429],
)  # fmt: skip
def verify_payment(call: Call, payment_id: str, body: schemas.VerifyIn) -> Reply:
    """Check the proof a browser brought back from a provider, then ask the provider."""
    shown = _render(payments.verify(call.kit, call.tenant, payment_id, body.model_extra or {}))
    if call.who.kind == "publishable_key":  # lies open in a browser: what it may know is how the payment stands
        shown = views.without_details(shown)
    return Reply(shown)


@api.route(
    f"{_ONE}/capture", methods=["POST"], scope="payments:write", body=schemas.CaptureIn, response="Payment",
    idempotent=True, errors=[404],
)  # fmt: skip
def capture_payment(call: Call, payment_id: str, body: schemas.CaptureIn) -> Reply:
    """Capture an authorized payment; the provider is asked right after the answer."""
    return call.once(
        lambda idem: operations.capture(call.kit, call.tenant, payment_id, body.amount, idem, by=call.by),
        lambda accepted: _render(accepted[0]),
    )


@api.route(
    f"{_ONE}/cancel", methods=["POST"], scope="payments:write", body=schemas.Empty, response="Payment",
    idempotent=True, errors=[404],
)  # fmt: skip
def cancel_payment(call: Call, payment_id: str, body: schemas.Empty) -> Reply:  # noqa: ARG001 - checked to be empty
    """Cancel a payment that has not succeeded; an authorized one is voided."""
    return call.once(lambda idem: payments.cancel(call.kit, call.tenant, payment_id, idem, by=call.by), _render)


@api.route(
    f"{_ONE}/review", methods=["POST"], scope="payments:review", body=schemas.ReviewIn, response="Payment",
    idempotent=True, errors=[404],
)  # fmt: skip
def review_payment(call: Call, payment_id: str, body: schemas.ReviewIn) -> Reply:
    """Approve or reject a payment that requires a review."""
    return call.once(
        lambda idem: payments.review(
            call.kit,
            call.tenant,
            payment_id,
            approve=body.decision == "approve",
            note=body.note,
            by=call.by,
            idem=idem,
        ),
        _render,
    )


@api.route(
    f"{_ONE}/resolve", methods=["POST"], scope="payments:review", body=schemas.ResolveIn, response="Payment",
    errors=[404, 409, 429],
)  # fmt: skip
def resolve_payment(call: Call, payment_id: str, body: schemas.ResolveIn) -> Reply:
    """Close a manual review; the provider is asked first, and if it can say, its word counts."""
    state = payments.close(
        call.kit,
        call.tenant,
        payment_id,
        outcome=body.outcome,
        provider_reference=body.provider_reference,
        note=body.note,
        by=call.by,
    )
    return Reply(_render(state))


@api.route(
    f"{_ONE}/refunds", methods=["POST"], scope="refunds:write", body=schemas.RefundIn, response="Refund", status=201,
    idempotent=True, errors=[404],
)  # fmt: skip
def create_refund(call: Call, payment_id: str, body: schemas.RefundIn) -> Reply:
    """Refund a payment, or a part of it; the provider is asked right after the answer."""

    def render(accepted: tuple[PaymentState, Operation]) -> dict[str, object]:
        return views.refund(accepted[1])

    return call.once(
        lambda idem: operations.refund(call.kit, call.tenant, payment_id, body.amount, body.reason, idem, by=call.by),
        render,
    )


# -- its story -------------------------------------------------------------------------------------


@api.route(f"{_ONE}/events", scope="payments:read", query=schemas.StoryQuery, response="EventList", errors=[404])
def list_payment_events(call: Call, payment_id: str, query: schemas.StoryQuery) -> Reply:
    """List everything that happened to a payment, in sequence, without gaps."""
    start = lists.after_position(query.cursor)
    payments.get(call.kit, call.tenant, payment_id)
    events = call.kit.queries.events(call.tenant, payment_id, after=start, limit=query.limit + 1)
    return Reply(lists.story(events, start, query.limit, views.event))


def _story(items: Sequence[Any], query: schemas.StoryQuery, render: Any) -> Reply:  # noqa: ANN401
    start = lists.after_position(query.cursor)
    return Reply(lists.story(items[start:], start, query.limit, render))


@api.route(f"{_ONE}/attempts", scope="payments:read", query=schemas.StoryQuery, response="AttemptList", errors=[404])
def list_payment_attempts(call: Call, payment_id: str, query: schemas.StoryQuery) -> Reply:
    """List a payment's attempts, each with the routing decision that led to it."""
    state = payments.state(call.kit, call.tenant, payment_id)
    return _story(sorted(state.attempts, key=lambda a: a.number), query, views.attempt)


@api.route(
    f"{_ONE}/operations", scope="payments:read", query=schemas.StoryQuery, response="OperationList", errors=[404]
)
def list_payment_operations(call: Call, payment_id: str, query: schemas.StoryQuery) -> Reply:
    """List a payment's captures, voids, refunds and reversals."""
    state = payments.state(call.kit, call.tenant, payment_id)
    return _story(sorted(state.operations, key=lambda o: (o.created_at, o.id)), query, views.operation)


@api.route(f"{_ONE}/ledger", scope="payments:read", query=schemas.StoryQuery, response="JournalList", errors=[404])
def list_payment_journals(call: Call, payment_id: str, query: schemas.StoryQuery) -> Reply:
    """List a payment's journals: each entry in the books, its legs summing to zero."""
    payments.get(call.kit, call.tenant, payment_id)
    return _story(call.kit.queries.journals(call.tenant, payment_id), query, views.journal)
