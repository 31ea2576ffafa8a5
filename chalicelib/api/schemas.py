"""Every input of the API: bodies and query parameters. Unknown fields are refused, nothing is coerced."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationInfo, model_validator
from pydantic_core import PydanticCustomError

from chalicelib.api import fields
from chalicelib.domain import cards
from chalicelib.domain.money import MAX_AMOUNT
from chalicelib.domain.states import OrderStatus, PaymentStatus

DEFAULT_LIMIT, MAX_LIMIT = 20, 100
MethodName = Literal["upi", "card", "netbanking", "wallet"]


class Input(BaseModel):
    """What a caller may send."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True, defer_build=True)


# -- bodies ----------------------------------------------------------------------------------------


class Empty(Input):
    """A body that has nothing to say."""


class OrderLine(Input):
    """What is being sold; for people, not added up."""

    name: fields.Text200
    quantity: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    amount: Annotated[int, Field(ge=0, le=MAX_AMOUNT, description="Of one piece, in the currency's minor unit.")]


class OrderIn(Input):
    """A new order."""

    amount: fields.Amount
    currency: fields.Currency
    receipt: fields.Text100 | None = None
    lines: Annotated[list[OrderLine], Field(max_length=100, default_factory=list)]
    metadata: fields.Metadata | None = None
    expires_at: fields.ExpiresAt | None = None


class Customer(Input):
    """Who pays."""

    name: fields.Text100 | None = None
    email: fields.Email | None = None
    contact: fields.Contact | None = None
    country: fields.Country | None = None
    ip: fields.Ip | None = None
    device: Annotated[
        fields.Text100 | None, Field(description="Your own name for the device: the same when it comes back.")
    ] = None
    segment: Annotated[
        fields.Segment | None, Field(description="Your own name for this kind of customer, for routing rules.")
    ] = None


class Upi(Input):
    """UPI: a collect request to a VPA, or an intent that the customer's own app opens."""

    type: Literal["upi"]
    flow: Literal["collect", "intent"] = "collect"
    vpa: fields.Vpa | None = None

    @model_validator(mode="after")
    def _collect_needs_vpa(self) -> Upi:
        if self.flow == "collect" and self.vpa is None:
            raise PydanticCustomError("missing_field", "A collect request needs the customer's VPA.", {"param": "vpa"})
        return self


class Card(Input):
    """A card, by a token of it."""

    type: Literal["card"]
    token: fields.TokenId


class Netbanking(Input):
    """The customer's bank, by its code."""

    type: Literal["netbanking"]
    bank: fields.BankCode


class Wallet(Input):
    """A wallet, by its code."""

    type: Literal["wallet"]
    wallet: fields.BankCode


class PaymentIn(Input):
    """A new payment."""

    amount: fields.Amount
    currency: fields.Currency
    method: Annotated[Upi | Card | Netbanking | Wallet, Field(discriminator="type")]
    capture: Literal["automatic", "manual"] = "automatic"
    customer: Customer | None = None
    order_id: fields.OrderId | None = None
    return_url: fields.Url | None = None
    description: fields.Text500 | None = None
    metadata: fields.Metadata | None = None


class CardIn(Input):
    """A card's data, for as long as the request takes. The security code and the name are checked and dropped."""

    number: fields.CardNumber
    expiry_month: Annotated[int, Field(ge=1, le=12)]
    expiry_year: Annotated[int, Field(ge=2000, le=2099, description="With all four digits.")]
    cvv: Annotated[fields.Cvv | None, Field(repr=False)] = None
    name: fields.Text100 | None = None

    @model_validator(mode="after")
    def _fits(self, info: ValidationInfo) -> CardIn:
        if info.context and cards.is_expired(self.expiry_month, self.expiry_year, info.context["now"]):
            raise PydanticCustomError("card_expired", "The card has expired.", {"param": "expiry_year"})
        length = cards.cvv_length(cards.network_of(self.number))
        if self.cvv is not None and len(self.cvv) != length:
            detail = "The security code of this card has {length} digits."
            raise PydanticCustomError("invalid_field", detail, {"param": "cvv", "length": length})
        return self


class TokenIn(Input):
    """A card to be turned into a token."""

    card: CardIn


class AccountIn(Input):
    """A merchant's account at a provider, to be connected."""

    provider: fields.Provider
    name: fields.Text100 | None = None
    credentials: fields.Credentials


class RotateIn(Input):
    """New credentials in place of those of the same names; the others stay."""

    credentials: fields.Credentials
    keep_previous: Annotated[
        bool, Field(description="Whether the webhook secret that is replaced is accepted for a while longer.")
    ] = True


class BreakerIn(Input):
    """What an operator wants of a provider's breaker for one method."""

    method: MethodName
    state: Annotated[
        Literal["open", "closed", "auto"], Field(description="open: no payments; closed: all; auto: left to itself.")
    ]
    reason: fields.Text200
    seconds: Annotated[
        int | None, Field(ge=1, le=604_800, description="How long it is held; until further notice unless given.")
    ] = None


class CaptureIn(Input):
    """No amount: all that is authorized."""

    amount: fields.Amount | None = None


class RefundIn(Input):
    """No amount: all that can still be refunded."""

    amount: fields.Amount | None = None
    reason: fields.Text200 | None = None


class RiskIn(Input):
    """Risk rules in place of those of that version."""

    version: Annotated[int, Field(ge=0, description="Of the rules as you got them: 409 if they have changed since.")]
    rules: Annotated[
        dict[str, Any], Field(description="See RiskRules; what is left out has its default.")
    ]  # read by domain.risk_settings, which names what is wrong


class RoutingRulesIn(Input):
    """Routing rules; what is left out has its default. Read by domain.routing_settings, which names what is wrong."""

    rules: Annotated[Any, Field(description="See RoutingRule; the first one that fits decides.")] = ()
    maintenance: Annotated[Any, Field(description="See Maintenance.")] = ()
    costs: Annotated[Any, Field(description="By account or provider; see Price.")] = None
    experiments: Annotated[Any, Field(description="See Experiment.")] = ()
    retry: Annotated[Any, Field(description="See RetryPolicy.")] = None


class RoutingIn(RoutingRulesIn):
    """Routing rules in place of those of that version."""

    version: Annotated[int, Field(ge=0, description="Of the rules as you got them: 409 if they have changed since.")]


class SimulationIn(PaymentIn):
    """A payment that is not made, and the rules to try on it: those in force, if none are given."""

    routing: RoutingRulesIn | None = None


class ReviewIn(Input):
    """What a person decided about a doubtful payment."""

    decision: Literal["approve", "reject"]
    note: fields.Text500 | None = None


class ResolveIn(Input):
    """What a person found out about a charge whose outcome no machine could."""

    outcome: Literal["succeeded", "failed"]
    provider_reference: fields.ProviderReference | None = None
    note: fields.Text500


class VerifyIn(Input):
    """The parameters a provider gave the customer's browser, as they came; see ``model_extra``."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, fields.ProofText]

    @model_validator(mode="before")
    @classmethod
    def _few_and_plain(cls, proof: Any) -> Any:  # noqa: ANN401 - not checked yet
        if isinstance(proof, dict):
            if len(proof) > fields.MAX_PROOF:
                raise PydanticCustomError("invalid_field", "No provider sends that many parameters.")
            for name in proof:
                fields.plain(name)
        return proof


# -- queries ---------------------------------------------------------------------------------------


class NoQuery(Input):
    """No query parameters."""


class PageQuery(Input):
    """One page of a list."""

    limit: Annotated[int, Field(ge=1, le=MAX_LIMIT), fields.Number] = DEFAULT_LIMIT
    cursor: Annotated[str, StringConstraints(max_length=100)] | None = None


class StoryQuery(PageQuery):
    """One page of what belongs to one payment; usually that is all of it."""

    limit: Annotated[int, Field(ge=1, le=MAX_LIMIT), fields.Number] = MAX_LIMIT


class ErasureQuery(Input):
    """Where an earlier request stopped."""

    cursor: Annotated[str, StringConstraints(max_length=100)] | None = None


class OrderQuery(PageQuery):
    """Filters of the orders."""

    status: Annotated[OrderStatus, Field(strict=False)] | None = None
    receipt: fields.Text100 | None = None


class PaymentQuery(PageQuery):
    """Filters of the payments."""

    status: Annotated[PaymentStatus, Field(strict=False)] | None = None
    order_id: fields.OrderId | None = None
    currency: fields.Currency | None = None
    method: MethodName | None = None
    method_type: Annotated[MethodName | None, Field(alias="method.type", description="The same as method.")] = None
    provider: fields.Provider | None = None
    amount: Annotated[int, Field(ge=1, le=MAX_AMOUNT), fields.Number] | None = None
    customer_email: Annotated[fields.Email | None, Field(alias="customer.email")] = None


class RefundQuery(PageQuery):
    """Filters of the refunds."""

    status: Literal["pending", "succeeded", "failed", "returned"] | None = None
    payment_id: fields.PaymentId | None = None
