"""What Cashfree asks of a request: its bodies, read and checked."""

from __future__ import annotations

import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from infra.sandbox.cashfree_entities import IST
from infra.sandbox.records import Order
from infra.sandbox.wire import strings

if TYPE_CHECKING:
    from infra.sandbox.bank import Bank
    from infra.sandbox.config import ProviderSettings
    from infra.sandbox.wire import Request

_ORDER_ID, _REFUND_ID = re.compile(r"[A-Za-z0-9_-]{3,45}"), re.compile(r"[A-Za-z0-9_-]{3,40}")
_CUSTOMER_ID, _PHONE = re.compile(r"[A-Za-z0-9_-]{3,50}"), re.compile(r"\d{10}|\+\d{5,15}")
_MAX_TAGS, _MAX_TAG, _MAX_URL, _NOTE = 10, 255, 250, range(3, 201)
_SOONEST, _LATEST = 15 * 60, 30 * 24 * 3600  # seconds until an order may expire
_LIMITS = range(1, 1001)  # lines of one page of the settlement report
_HUNDRED = 100


class InvalidError(Exception):
    """A field is wrong; ``code`` is Cashfree's."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def body_of(request: Request) -> dict[str, object]:
    """The body with exact numbers; raises ValueError."""
    value = json.loads(request.body or b"{}", parse_float=Decimal)
    if not isinstance(value, dict):
        message = "the body is not an object"
        raise ValueError(message)  # noqa: TRY004 - one exception for whatever is wrong with a body
    return value


def paise(value: object) -> int | None:
    """A number of rupees with at most two decimals, in paise, or None."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return None
    paise = value * _HUNDRED
    return int(paise) if paise == int(paise) and paise > 0 else None


def read_order(bank: Bank, settings: ProviderSettings, body: dict[str, object]) -> Order:
    """The order that a request describes; raises InvalidError."""
    order_id, amount = body.get("order_id"), paise(body.get("order_amount"))
    if not isinstance(order_id, str) or not _ORDER_ID.fullmatch(order_id):
        raise InvalidError("order_id_invalid", "order_id : should be alphanumeric and may contain - or _")
    if amount is None or not _HUNDRED <= amount <= settings.max_amount or body.get("order_currency") != "INR":
        raise InvalidError("order_amount_invalid", "order_amount : invalid value or currency provided")
    customer, meta, tags = (strings(body.get(name)) for name in ("customer_details", "order_meta", "order_tags"))
    if not _CUSTOMER_ID.fullmatch(customer.get("customer_id", "")):
        raise InvalidError("customer_id_invalid", "customer_details.customer_id : is missing or invalid")
    if not _PHONE.fullmatch(customer.get("customer_phone", "")):
        raise InvalidError("customer_phone_invalid", "customer_details.customer_phone : invalid value provided")
    if len(tags) > _MAX_TAGS or not all(1 <= len(tag) <= _MAX_TAG for tag in tags.values()):
        raise InvalidError("order_tags_invalid", "order_tags : too many or too long")
    if any(len(meta.get(name, "")) > _MAX_URL for name in ("return_url", "notify_url")):
        raise InvalidError("order_meta_invalid", "order_meta : URLs should be less than 250 characters")
    note = body.get("order_note")
    if note is not None and not (isinstance(note, str) and len(note) in _NOTE):
        raise InvalidError("order_note_invalid", "order_note : should be between 3 and 200 characters")
    return Order(
        "", settings.id, order_id, amount, "INR", automatic=True, notes=tags, release_after=settings.release_after,
        created_at=bank.timer.now,
        details={
            "order_id": order_id, "note": note, "customer": customer, "meta": meta,
            "expires": _expiry(bank, body.get("order_expiry_time")),
        },
        return_url=meta.get("return_url"),
        notify_url=meta.get("notify_url"),
    )  # fmt: skip


def _expiry(bank: Bank, value: object) -> float:
    """When an order expires, in epoch seconds: after 30 days unless told; raises InvalidError."""
    if value is None:
        return bank.timer.now + _LATEST
    try:
        left = datetime.fromisoformat(str(value)).timestamp() - bank.timer.now
    except ValueError:
        left = 0.0
    if not _SOONEST < left < _LATEST:
        message = "order_expiry_time : Expiry time should be more than 15 min and less than 30 days"
        raise InvalidError("order_expiry_time_invalid", message)
    return bank.timer.now + left


def read_refund(body: dict[str, object]) -> tuple[str, int]:
    """The id and amount of a refund; raises InvalidError."""
    refund_id, amount = body.get("refund_id"), paise(body.get("refund_amount"))
    if not isinstance(refund_id, str) or not _REFUND_ID.fullmatch(refund_id):
        raise InvalidError("refund_id_invalid", "refund_id : should be alphanumeric and may contain - or _")
    if not amount:
        raise InvalidError("refund_amount_invalid", "refund_amount : invalid value provided")
    return refund_id, amount


def read_instrument(asked: object) -> tuple[dict[str, str], bool]:
    """The method that a payment names, and whether it is captured at once; raises InvalidError."""
    if not isinstance(asked, dict) or len(asked) != 1:
        raise InvalidError("payment_method_invalid", "payment_method : exactly one is required")
    ((kind, value),) = asked.items()
    details = value if isinstance(value, dict) else {}
    channel = details.get("channel")
    if channel is None:
        raise InvalidError("channel_missing", f"payment_method.{kind}.channel : is missing")
    match kind, channel:
        case "upi", "collect" | "link":
            vpa = details.get("upi_id")
            if channel == "collect" and not (isinstance(vpa, str) and "@" in vpa):
                raise InvalidError("upi_id_invalid", "payment_method.upi.upi_id : invalid value provided")
            return {"type": "upi"} | ({"vpa": str(vpa)} if channel == "collect" else {}), not _holds(details)
        case "netbanking", "link":
            bank = details.get("netbanking_bank_name") or details.get("netbanking_bank_code")
            if not isinstance(bank, str | int):
                raise InvalidError("netbanking_bank_code_invalid", "payment_method.netbanking : no such bank")
            return {"type": "netbanking", "bank": str(bank)}, True
        case "app", "link":
            if not _PHONE.fullmatch(str(details.get("phone", ""))):
                raise InvalidError("phone_invalid", "payment_method.app.phone : invalid value provided")
            return {"type": "wallet", "wallet": str(details.get("provider"))}, True
    raise InvalidError("payment_method_unsupported", f"payment_method.{kind} : is not enabled with this channel")


def _holds(upi: dict[str, object]) -> bool:
    """Whether a UPI payment is only to be authorized; raises InvalidError."""
    if upi.get("authorize_only") is not True:
        return False
    times = strings(upi.get("authorization"))
    for name in ("approve_by", "start_time", "end_time"):
        try:
            datetime.fromisoformat(times.get(name, ""))
        except ValueError:
            raise InvalidError("authorize_only_invalid", f"authorization.{name} : is missing or invalid") from None
    return True


def read_recon(body: dict[str, object]) -> tuple[list[date], int, int]:
    """The days of a settlement report, the length of its pages and where this one begins; raises ValueError."""
    asked, filters = body.get("pagination"), strings(body.get("filters"))
    pagination = asked if isinstance(asked, dict) else {}
    limit, cursor = pagination.get("limit"), pagination.get("cursor")
    if not isinstance(limit, int) or limit not in _LIMITS:
        raise InvalidError("limit_invalid", "pagination.limit : should be between 1 and 1000")
    ends = [filters.get("start_date", ""), filters.get("end_date", "")]
    first, last = (datetime.fromisoformat(end).astimezone(IST).date() for end in ends)
    days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    return days, limit, int(urlsafe_b64decode(str(cursor))) if cursor else 0


def cursor_at(begin: int) -> str:
    """What leads to the page that begins there."""
    return urlsafe_b64encode(str(begin).encode()).decode()
