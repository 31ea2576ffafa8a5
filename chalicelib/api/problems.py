"""Errors on the wire: RFC 9457 ``application/problem+json``, and the table of every code in it.

RailyardError (domain/errors.py)  what a use case refuses; carries code, status, detail, param
└── Refused                       what the HTTP layer refuses, with a status and headers of its own
ValidationError (pydantic)        422; ``param`` is the dotted path of the first wrong field
anything else                     500 ``internal_error``; logged, never described to the caller
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from chalicelib.domain.errors import RailyardError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic import ValidationError

CONTENT_TYPE = "application/problem+json"
TYPE_BASE = "https://railyard.dev/errors#"

# Every `code` of a problem document, with what it means. docs/api.md lists them all; a test compares
# the three: this table, that list, and the codes that appear in the source.
CODES: Mapping[str, str] = {
    # 400
    "invalid_request": "The request cannot be read.",
    "invalid_json": "The body is not JSON that everybody would read the same way.",
    "idempotency_key_missing": "This request needs an Idempotency-Key header.",
    "idempotency_key_invalid": "The Idempotency-Key is longer than 255 characters or not printable.",
    # 401, 403
    "unauthorized": "The credentials are missing, wrong or revoked.",
    "wrong_credentials": "The email or the password is wrong.",
    "token_expired": "The access token has expired; refresh it.",
    "token_used": "The token that sets a password is wrong, used or over.",
    "session_over": "The session has ended or its person has been sent away.",
    "forbidden": "The caller's role or key does not have the scope.",
    "merchant_suspended": "The merchant is suspended.",
    "csrf_token_wrong": "A request with a cookie lacks the token that only our own pages know.",
    "cross_site_request": "A browser says that the request comes from a page of another site.",
    "origin_not_allowed": "The merchant has not registered the page's origin for its publishable keys.",
    # 404, 405
    "not_found": "There is nothing at this path.",
    "payment_not_found": "No such payment for this merchant and mode.",
    "order_not_found": "No such order for this merchant and mode.",
    "refund_not_found": "No such refund for this merchant and mode.",
    "customer_not_found": "No payment of such a customer for this merchant and mode.",
    "account_not_found": "No such provider account.",
    "token_not_found": "No such card token for this merchant and mode, or it has expired.",
    "key_not_found": "No such API key for this merchant and mode.",
    "user_not_found": "Nobody of that id at this merchant.",
    "merchant_not_found": "No such merchant.",
    "method_not_allowed": "The path does not know this method; see the Allow header.",
    # 409
    "account_changed": "Somebody else has changed the provider account meanwhile.",
    "risk_changed": "Somebody else has changed the risk rules meanwhile.",
    "routing_changed": "Somebody else has changed the routing rules meanwhile.",
    "mode_not_set_up": "The merchant has never set this mode up.",
    "email_taken": "Somebody signs in with this email already.",
    "key_inactive": "The API key is revoked or has expired.",
    "key_rotating": "The API key is being rotated: two are active already.",
    "user_disabled": "The person has been sent away.",
    "request_in_progress": "The first request with this Idempotency-Key is still being answered.",
    "operation_in_progress": "A capture or void is already under way.",
    "order_has_live_payment": "The order has a payment that is under way or has paid it.",
    "order_paid": "The order is paid.",
    "order_expired": "The order has expired.",
    "order_canceled": "The order is canceled.",
    "payment_in_flight": "The provider has not answered yet, so the payment cannot be canceled now.",
    "payment_not_attempted": "No provider has been asked to charge the payment yet.",
    "payment_not_cancelable": "The payment's status does not allow canceling it.",
    "payment_not_capturable": "The payment is not authorized, so there is nothing to capture.",
    "payment_not_in_manual_review": "No attempt of the payment waits for a person.",
    "payment_not_in_review": "The payment is not in requires_review.",
    "payment_not_refundable": "The payment has not succeeded, so there is nothing to refund.",
    "too_many_rotations": "As many earlier webhook secrets of the account are still accepted as can be.",
    "too_many_refunds": "The payment has as many operations as it can hold.",
    "review_not_closed": "The provider is still deciding.",
    "nothing_to_refund": "All that was captured is refunded, being refunded or in dispute.",
    # 413, 415
    "payload_too_large": "The body is larger than is accepted.",
    "unsupported_media_type": "The body is not application/json in UTF-8.",
    # 422
    "provider_reference_taken": "Another payment has this provider reference.",
    "missing_field": "A required field is missing.",
    "unknown_field": "A field or query parameter is not known.",
    "invalid_field": "A field has the wrong type or form.",
    "unknown_scope": "A scope that a key of this type cannot have.",
    "weak_password": "The password is too short, too long or too easy to guess.",
    "overlapping_rules": "A routing rule gets nothing because of one before it, or their ranges cross.",
    "bad_weights": "The weights of a routing rule are missing, or do not add up to 100.",
    "bad_bin": "A BIN or a range of BINs that no card can have.",
    "bad_time": "A time that is none, has no zone, or ends before it begins.",
    "missing_costs": "Routing by value needs to know what each account costs.",
    "unknown_account": "The merchant has no such provider account.",
    "invalid_cursor": "The cursor is not one this list has given out.",
    "amount_too_small": "The amount is less than 1 minor unit.",
    "amount_too_large": "The amount is above the limit, or above what is there.",
    "amount_mismatch": "The amount is not the order's.",
    "amount_exceeds_refundable": "Less than that can still be refunded.",
    "currency_mismatch": "The currency is not the order's.",
    "unknown_currency": "Not an ISO 4217 currency with a minor unit.",
    "unknown_method": "Not a payment method that is taken here.",
    "unknown_provider": "Not a provider that can be connected in this mode.",
    "card_number_invalid": "Not a card number: 12 to 19 digits whose check digit holds.",
    "card_expired": "The card's last month is over.",
    "card_number_not_allowed": "Something that looks like a card number; only POST /v1/tokens takes card numbers.",
    "idempotency_key_reused": "The Idempotency-Key was used before with another body.",
    "partial_capture_unsupported": "The provider captures the whole amount or nothing.",
    "partial_refund_unsupported": "The provider refunds the whole amount or nothing.",
    "provider_reference_missing": "A success needs the provider's reference.",
    "signature_invalid": "A signature does not hold; nothing in the message is believed.",
    # 429, 5xx
    "rate_limited": "Too many requests.",
    "too_many_concurrent_changes": "Too many requests change the same object at once; nothing was done.",
    "internal_error": "Something failed on our side.",
    "bad_gateway": "API Gateway did not get an answer from us; the request may have taken effect.",
    "gateway_timeout": "API Gateway gave up waiting for us; the request may have taken effect.",
}

_TITLES: Mapping[str, str] = {
    "rate_limited": "Too many requests",
    "invalid_json": "Invalid JSON",
    "gateway_timeout": "Gateway time-out",
}

INTERNAL_DETAIL = "Something failed on our side. Try again with the same Idempotency-Key."

# A part of a caller's path that may be repeated to them; anything else could be anything.
_SAFE_PART = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
_MANY_DIGITS = re.compile(r"(?:[0-9][^A-Za-z0-9]?){13}")

# Pydantic's error types in our words; what is not here is `invalid_field` with pydantic's message.
_FIELD_ERRORS: Mapping[str, tuple[str, str]] = {
    "missing": ("missing_field", "This field is required."),
    "union_tag_not_found": ("missing_field", "This field is required."),
    "extra_forbidden": ("unknown_field", "This field is not known here."),
    "union_tag_invalid": ("unknown_method", "Known methods are upi, card, netbanking and wallet."),
    "model_type": ("invalid_field", "A JSON object is expected."),
    "model_attributes_type": ("invalid_field", "A JSON object is expected."),
    "dict_type": ("invalid_field", "A JSON object is expected."),
}


class Refused(RailyardError):
    """The HTTP layer says no, before any use case is asked."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        param: str | None = None,
        retry_after: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """``status`` is the HTTP status; ``retry_after`` in seconds."""
        super().__init__(code, detail, param=param, retry_after=retry_after)
        self.status = status
        self.headers = dict(headers or {})


def title_of(code: str) -> str:
    """``payment_not_found`` is "Payment not found": the same for every occurrence, as RFC 9457 asks."""
    return _TITLES.get(code) or code.replace("_", " ").capitalize()


def problem(error: RailyardError, request_id: str) -> dict[str, object]:
    """The problem document of an error."""
    return {
        "type": TYPE_BASE + error.code,
        "title": title_of(error.code),
        "status": error.status,
        "detail": error.detail,
        "code": error.code,
        "param": error.param,
        "request_id": request_id,
    }


def problem_text(error: RailyardError, request_id: str) -> str:
    """The problem document as JSON; ASCII, so that whatever a caller sent can be repeated safely."""
    return json.dumps(problem(error, request_id), separators=(",", ":"))


def problem_headers(error: RailyardError) -> dict[str, Any]:
    """The headers that go with an error's problem document."""
    headers: dict[str, Any] = {"Content-Type": CONTENT_TYPE, "Cache-Control": "no-store"}
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    return headers | (error.headers if isinstance(error, Refused) else {})


def internal_error() -> Refused:
    """What a caller learns of a bug or an outage of ours."""
    return Refused(500, "internal_error", INTERNAL_DETAIL)


def from_validation(error: ValidationError) -> Refused:
    """The first wrong field of a body or query, by its dotted path; never repeats the value."""
    first = error.errors(include_url=False, include_input=False)[0]
    kind = first["type"]
    code, detail = _FIELD_ERRORS.get(kind, ("invalid_field", first["msg"]))
    path = list(first["loc"])
    if kind.startswith("union_tag"):
        path.append("type")
    elif "param" in first.get("ctx", {}):  # a check across fields names the one that is wrong
        path.append(first["ctx"]["param"])
    if kind in CODES:  # our own checks, see fields.py
        code = kind
    elif path and path[-1] == "amount" and kind in ("greater_than_equal", "less_than_equal"):
        code = "amount_too_small" if kind == "greater_than_equal" else "amount_too_large"
    return Refused(422, code, detail, param=dotted(path))


def dotted(path: Sequence[int | str]) -> str | None:
    """``("lines", 0, "amount")`` is ``lines.0.amount``; stops before a part that cannot be repeated."""
    parts: list[str] = []
    for place, part in enumerate(path):
        if part == "[key]":  # pydantic's mark for a wrong dictionary key
            break
        text = str(part)
        if not isinstance(part, int) and (not _SAFE_PART.fullmatch(text) or _MANY_DIGITS.search(text)):
            break
        # A tagged union puts the tag into the path: method.upi.vpa is the caller's method.vpa.
        if not (place == 1 and parts == ["method"] and text in ("upi", "card", "netbanking", "wallet")):
            parts.append(text)
    return ".".join(parts) or None
