"""Every output of the API as a schema, for the OpenAPI document and the tests; nothing imports it to serve.

``views.py`` makes the dictionaries; a test holds the two together.
"""

from __future__ import annotations

from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from chalicelib.domain.errors import ErrorCode  # noqa: TC001 - pydantic reads annotations at run time
from chalicelib.domain.states import (  # noqa: TC001
    AttemptStatus,
    OperationStatus,
    OperationType,
    OrderStatus,
    PaymentStatus,
)

T = TypeVar("T")

Mode = Literal["test", "live"]
MinorUnits = Annotated[int, Field(description="In the currency's minor unit.")]
Time = Annotated[
    str, Field(json_schema_extra={"format": "date-time"}, pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
]


class Output(BaseModel):
    """What the API shows."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Error(Output):
    """Why a payment, attempt or operation did not succeed."""

    code: ErrorCode
    message: str
    provider_code: str | None
    retryable: Annotated[bool, Field(description="Whether another provider, or a later try, may do better.")]


class Line(Output):
    """One line of an order."""

    name: str
    quantity: int
    amount: MinorUnits


class Order(Output):
    """What a customer owes; paid at most once."""

    id: str
    object: Literal["order"]
    mode: Mode
    status: OrderStatus
    amount: MinorUnits
    currency: str
    receipt: str | None
    lines: list[Line]
    payment_id: Annotated[str | None, Field(description="The payment that is under way for it, or has paid it.")]
    checkout_url: str
    metadata: dict[str, str]
    created_at: Time
    updated_at: Time
    expires_at: Time
    version: int


class RiskHit(Output):
    """A risk rule that had something to say."""

    rule: str
    score: Annotated[int, Field(description="What it added.")]
    reason: str


class Risk(Output):
    """What our own rules made of a payment."""

    decision: Literal["allow", "review", "block"]
    score: Annotated[int, Field(description="The hits' scores together, at most 100.")]
    reasons: list[str]
    hits: list[RiskHit]


class Payment(Output):
    """What the merchant asked for and what became of it."""

    id: str
    object: Literal["payment"]
    mode: Mode
    status: PaymentStatus
    amount: MinorUnits
    currency: str
    amount_authorized: MinorUnits
    amount_captured: MinorUnits
    amount_refundable: MinorUnits
    amount_refunded: MinorUnits
    amount_refunding: MinorUnits
    amount_disputed: MinorUnits
    refund_status: Literal["none", "partial", "full"]
    capture: Literal["automatic", "manual"]
    order_id: str | None
    provider: str | None
    provider_reference: str | None
    method: Annotated[dict[str, str], Field(description="In lists a UPI address is masked: `as•••@okbank`.")]
    customer: Annotated[
        dict[str, str],
        Field(
            description="As you gave it, with an `id` if there is an email or a phone number. In lists all but `id`, "
            "`country` and `segment` is masked: `a•••@example.com`, `•••0000`."
        ),
    ]
    next_action: Annotated[
        dict[str, Any] | None,
        Field(
            description="redirect, form_post, upi_intent or provider_checkout, by its `type`; lists show no more of it."
        ),
    ]
    risk: Risk
    route: Annotated[
        str | None, Field(description="Why it went to that provider, in a sentence; where one payment is asked for.")
    ]
    attempts: int
    needs_attention: bool
    error: Error | None
    description: str | None
    metadata: dict[str, str]
    return_url: str | None
    created_at: Time
    updated_at: Time
    expires_at: Time
    version: Annotated[int, Field(description="Also the sequence of its newest event.")]


class Erasure(Output):
    """What came of erasing a customer's contact details, as far as one request goes."""

    object: Literal["erasure"]
    id: Annotated[str, Field(description="The customer's.")]
    payments: Annotated[int, Field(description="Payments that this request has erased the customer from.")]
    pending: Annotated[int, Field(description="Payments that are under way: their provider still needs the customer.")]
    complete: Annotated[bool, Field(description="Nothing is left: no page after this one, and nothing pending on it.")]
    next_cursor: Annotated[str | None, Field(description="Ask again with it; without it, the customer's newest first.")]


class Refund(Output):
    """A refund of one payment."""

    id: str
    object: Literal["refund"]
    mode: Mode
    payment_id: str
    status: Literal["pending", "succeeded", "failed", "returned"]
    amount: MinorUnits
    currency: str
    reason: str | None
    source: Literal["merchant", "provider", "system"]
    provider_reference: str | None
    error: Error | None
    created_at: Time
    updated_at: Time


class Attempt(Output):
    """One charge at one provider account."""

    id: str
    object: Literal["attempt"]
    payment_id: str
    number: int
    status: AttemptStatus
    provider: str
    account: str
    reference: Annotated[str, Field(description="What the provider knows it by.")]
    provider_reference: str | None
    amount: MinorUnits
    currency: str
    captured: MinorUnits
    reversed: MinorUnits
    route: Annotated[dict[str, Any], Field(description="Why this provider, and why none of the others.")]
    error: Error | None
    created_at: Time
    updated_at: Time


class Operation(Output):
    """A capture, void, refund or reversal of one attempt's charge."""

    id: str
    object: Literal["operation"]
    type: OperationType
    payment_id: str
    attempt_id: str
    status: OperationStatus
    amount: MinorUnits
    currency: str
    source: Literal["merchant", "provider", "system"]
    reason: str | None
    provider_reference: str | None
    error: Error | None
    tries: int
    created_at: Time
    updated_at: Time


class Event(Output):
    """One thing that happened; numbered without gaps, never changed."""

    id: str
    object: Literal["event"]
    type: str
    payment_id: str
    sequence: int
    created_at: Time
    data: dict[str, Any]


class Leg(Output):
    """One account's side of a journal: debit positive, credit negative."""

    account: str
    amount: MinorUnits


class Journal(Output):
    """One entry in the books; its legs sum to zero."""

    id: str
    object: Literal["journal"]
    type: str
    payment_id: str
    attempt_id: str
    operation_id: str | None
    currency: str
    legs: list[Leg]
    created_at: Time


class ProviderAccount(Output):
    """A merchant's account at a provider; no secret is ever shown again."""

    id: str
    object: Literal["provider_account"]
    mode: Mode
    provider: str
    name: str | None
    enabled: Annotated[bool, Field(description="Whether it takes new charges; what it has charged goes on.")]
    credentials: Annotated[dict[str, str], Field(description="Those that are no secrets.")]
    secrets: Annotated[list[str], Field(description="The names of those that are.")]
    webhook_url: Annotated[str, Field(description="Where the provider has to send its webhooks.")]
    previous_secret_accepted_until: Annotated[
        Time | None, Field(description="Until then a webhook secret that was rotated out is accepted.")
    ]
    created_at: Time | None
    updated_at: Time | None


class ConnectionTest(Output):
    """Whether the provider lets us in."""

    object: Literal["connection_test"]
    ok: bool
    error: Error | None
    latency_ms: int


class RiskLimit(Output):
    """More than ``value`` in ``seconds`` is a doubt; see docs/api.md."""

    dimension: Literal["card", "customer", "ip", "device"]
    seconds: int
    measure: Literal["count", "sum"]
    value: Annotated[int, Field(description="Payments or declines, or minor units of `currency`.")]
    score: int
    kind: Literal["payment", "decline"] = "payment"
    currency: str | None = None
    up_to: Annotated[MinorUnits | None, Field(description="Only payments of at most that count.")] = None


class RiskLists(Output):
    """What is always blocked, or never reviewed."""

    bins: list[str]
    fingerprints: list[str]
    email_domains: list[str]
    networks: list[str]
    vpas: list[str]


class RiskRules(Output):
    """The rules by which payments are judged."""

    max_amount: dict[str, MinorUnits]
    allowed_countries: list[str]
    blocked_countries: list[str]
    review_countries: list[str]
    review_score: int
    block_score: int
    block: RiskLists
    allow: RiskLists
    limits: list[RiskLimit]
    first_seen_amount: dict[str, MinorUnits]
    time_zone: str
    night_from: int
    night_to: int
    night_percent: int
    bin_countries: dict[str, str]
    scores: dict[str, int]


class RiskSettings(Output):
    """A merchant's risk rules, with all defaults."""

    object: Literal["risk_settings"]
    mode: Mode
    version: Annotated[int, Field(description="Send it with the rules that are to follow these.")]
    updated_at: Time | None
    rules: RiskRules


class RoutingHours(Output):
    """A time of day on some weekdays; until a time that is not later means of the next day."""

    from_: Annotated[str, Field(alias="from", description="Such as 22:00.")]
    until: Annotated[str, Field(description="Exclusive.")]
    time_zone: Annotated[str, Field(description="By the IANA database, such as Asia/Kolkata.")]
    days: Annotated[list[str], Field(description="monday to sunday; all, if left out.")] = []


class RoutingWhen(Output):
    """Which payments a rule is about: those that meet every condition that is there."""

    methods: list[str] = []
    networks: Annotated[list[str], Field(description="The card's network, or the bank's or wallet's code.")] = []
    currencies: list[str] = []
    above: Annotated[int, Field(description="Minor units, exclusive.")] | None = None
    up_to: Annotated[int, Field(description="Minor units, inclusive.")] | None = None
    bins: Annotated[list[str], Field(description="Six digits, or a range: 450000-459999.")] = []
    countries: Annotated[list[str], Field(description="The customer's, as given with the payment.")] = []
    segments: Annotated[list[str], Field(description="The customer's segment, as given with the payment.")] = []
    metadata: Annotated[dict[str, str], Field(description="The payment's must have all of these.")] = {}
    hours: RoutingHours | None = None


class RoutingRule(Output):
    """Payments that fit are offered to these accounts."""

    name: str
    when: RoutingWhen
    by: Annotated[
        Literal["priority", "split", "score", "value"],
        Field(description="In this order; by weight; most likely to succeed first; by success x (amount - cost)."),
    ]
    accounts: Annotated[list[str], Field(description="Ids, or providers' names; all accounts, if empty.")] = []
    weights: Annotated[dict[str, int], Field(description="Of a split: percent by account, 100 together.")] = {}


class Maintenance(Output):
    """A time in which an account, or all of a provider's, gets no new payments."""

    account: str
    from_: Annotated[Time, Field(alias="from")]
    until: Time
    methods: Annotated[list[str], Field(description="All, if left out.")] = []
    reason: str | None = None


class Price(Output):
    """What an account takes for a successful payment."""

    basis_points: Annotated[int, Field(description="Hundredths of a percent of the amount.")]
    fixed: dict[str, Annotated[int, Field(description="Minor units, by currency.")]]


class Guardrail(Output):
    """When a variant is given up."""

    margin: Annotated[int, Field(description="Points of success rate that it may be worse by.")]
    payments: Annotated[int, Field(description="Of each arm, before anything is said.")]


class Experiment(Output):
    """A share of payments that goes another way for a while."""

    name: str
    share: Annotated[int, Field(description="Percent, 5 to 30.")]
    start: Time
    stop: Time
    when: RoutingWhen
    by: Literal["priority", "score", "value"]
    accounts: list[str]
    settle: Annotated[int, Field(description="Seconds after which a payment counts.")]
    guardrail: Guardrail
    ended_at: Annotated[Time | None, Field(description="When the guardrail ended it.")] = None
    ended_because: str | None = None


class ArmCounts(Output):
    """What came of the payments of one arm."""

    payments: int
    successes: int


class Difference(Output):
    """Success rate of the variant minus that of the control, and its 95 % interval (Newcombe)."""

    estimate: float
    low: float
    high: float


class ExperimentResult(Output):
    """What has come of an experiment."""

    object: Literal["experiment"]
    name: str
    key: Annotated[str, Field(description="The name with a mark of what is tried, as attempts' routes have it.")]
    status: Literal["scheduled", "running", "stopped", "ended"]
    reason: Annotated[str | None, Field(description="Why its guardrail ended it.")]
    counted_until: Annotated[Time, Field(description="Payments created since do not count yet.")]
    control: ArmCounts
    variant: ArmCounts
    difference: Difference
    summary: str


class Again(Output):
    """What may follow an attempt that ended in one way; null seconds are the stage's own."""

    same_provider: bool
    other_provider: bool
    backoff: Annotated[int | None, Field(description="Seconds, doubled per attempt; the wait is a random part of it.")]
    backoff_cap: Annotated[int | None, Field(description="Seconds.")]


class RetryPolicy(Output):
    """When a payment may be tried once more."""

    max_attempts: int
    max_providers: int
    max_seconds: Annotated[int, Field(description="After the first attempt began; none begins later.")]
    errors: Annotated[dict[str, Again], Field(description="By error class, or not_sent.")]
    providers: Annotated[dict[str, dict[str, Again]], Field(description="By provider, where it differs.")]


class RoutingSettings(Output):
    """A merchant's routing rules."""

    object: Literal["routing_settings"]
    mode: Mode
    version: Annotated[int, Field(description="Send it with the rules that are to follow these.")]
    updated_at: Time | None
    rules: list[RoutingRule]
    maintenance: list[Maintenance]
    costs: dict[str, Price]
    experiments: list[Experiment]
    retry: RetryPolicy


class PassedOver(Output):
    """A rule that does not fit, and the first condition that is not met."""

    rule: str
    condition: str


class RoutingSimulation(Output):
    """What would happen to a payment now."""

    object: Literal["routing_simulation"]
    risk: Risk
    decision: Annotated[dict[str, Any], Field(description="As an attempt's route: candidates, filters, scores, draw.")]
    provider: str | None
    passed_over: list[PassedOver]
    shares: Annotated[dict[str, float], Field(description="How such payments are spread over accounts, by trying.")]


class Latency(Output):
    """Milliseconds of the answers to new charges, within 12 %; null without samples."""

    p50: float | None
    p95: float | None
    p99: float | None


class LastHour(Output):
    """What became of your own attempts that ended within the last hour."""

    calls: int
    success_rate: float | None
    success_rate_low: Annotated[float, Field(description="Of the 95 % interval (Wilson).")]
    success_rate_high: float
    technical_failure_rate: float | None
    latency_samples: int
    latency_ms: Latency


class Alert(Output):
    """Something that is not as usual, or was not."""

    kind: Literal["success_rate", "latency", "volume"]
    state: Literal["raised", "updated", "cleared"]
    since: Time
    at: Annotated[Time, Field(description="When it came into this state.")]
    usual: Annotated[float, Field(description="A rate (0 to 1), milliseconds, or attempts a minute.")]
    seen: float
    summary: str


class BreakerChange(Output):
    """A change of a breaker's state, or your own word on it."""

    at: Time
    state: Annotated[str, Field(description="open, half_open, closed; held open, held closed, left to itself.")]
    was: Literal["closed", "open", "half_open", "held open", "held closed"]
    reason: str
    key_id: Annotated[str | None, Field(description="The key that held it or let it go; null if it moved by itself.")]


class MethodHealth(Output):
    """How a provider does with one method."""

    method: Literal["upi", "card", "netbanking", "wallet"]
    state: Annotated[
        Literal["closed", "open", "half_open"],
        Field(description="Of the breaker: payments go there, none does, or a few try."),
    ]
    forced: Annotated[bool, Field(description="Whether you hold it there.")]
    reason: str | None
    since: Annotated[Time | None, Field(description="When it got into that state; null if it was in no other one.")]
    until: Annotated[Time | None, Field(description="Until when it is held.")]
    calls: Annotated[int, Field(description="That ended within the last minute, of all merchants of this mode.")]
    failures: Annotated[int, Field(description="Technical ones among them.")]
    failure_share: Annotated[float | None, Field(description="0 to 1; null without calls.")]
    last_hour: LastHour
    alerts: Annotated[list[Alert], Field(description="Of the last 30 days, newest first; the newest hundred of all.")]
    changes: Annotated[list[BreakerChange], Field(description="Of the breaker within 30 days, newest first.")]


class Provider(Output):
    """A provider you have an account at."""

    id: str
    object: Literal["provider"]
    mode: Mode
    accounts: list[str]
    methods: list[MethodHealth]


class CardShown(Output):
    """What is kept of a card."""

    network: Literal["visa", "mastercard", "amex", "rupay", "diners", "discover", "jcb", "maestro", "unknown"]
    last4: str
    bin: Annotated[str, Field(description="The first six digits.")]
    expiry_month: int
    expiry_year: int
    fingerprint: Annotated[str, Field(description="The same for the same card of one merchant and mode.")]


class Token(Output):
    """A card that can be paid with until the token expires."""

    id: str
    object: Literal["token"]
    mode: Mode
    type: Literal["card"]
    card: CardShown
    created_at: Time
    expires_at: Time


class Listed(Output, Generic[T]):
    """One page."""

    data: list[T]
    next_cursor: Annotated[str | None, Field(description="Send it as `cursor` for the next page; null at the end.")]


class OrderList(Listed[Order]):
    """One page of orders."""


class PaymentList(Listed[Payment]):
    """One page of payments."""


class RefundList(Listed[Refund]):
    """One page of refunds."""


class ProviderAccountList(Listed[ProviderAccount]):
    """One page of provider accounts."""


class ProviderList(Listed[Provider]):
    """All providers, in one page."""


class ExperimentList(Listed[ExperimentResult]):
    """All experiments, in one page."""


class AttemptList(Listed[Attempt]):
    """One page of a payment's attempts."""


class OperationList(Listed[Operation]):
    """One page of a payment's operations."""


class EventList(Listed[Event]):
    """One page of a payment's events."""


class JournalList(Listed[Journal]):
    """One page of a payment's journals."""


class Received(Output):
    """A provider's event was taken."""

    received: Literal[True]


class Health(Output):
    """The process runs."""

    status: Literal["ok"]
    version: str
    stage: str
    time: Time


class Problem(BaseModel):
    """RFC 9457 problem details."""

    type: str
    title: str
    status: int
    detail: str
    code: Annotated[str, Field(description="Stable; made for machines.")]
    param: Annotated[str | None, Field(description="The dotted path of the field that is wrong.")]
    request_id: str
