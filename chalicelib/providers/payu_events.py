"""What PayU India sends us: signed notices of payments, unsigned callbacks of refunds; both only say where to look."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from chalicelib.domain.ids import long_reference
from chalicelib.domain.outcome import Effect, EffectStatus, EventKind, ProviderEvent
from chalicelib.providers.http import parse_json
from chalicelib.providers.payu_wire import key_of
from chalicelib.providers.signatures import digest

if TYPE_CHECKING:
    from collections.abc import Mapping

_ID = re.compile(r"[A-Za-z0-9_-]{1,40}")


def fields_of(body: bytes) -> dict[str, str]:
    """A callback's fields, from a JSON object or else from a form."""
    try:
        parsed = parse_json(body)
    except ValueError:
        parsed = None
    if not isinstance(parsed, dict):
        return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))
    kept = {name: value for name, value in parsed.items() if isinstance(value, str | Decimal) or type(value) is int}
    return {name: str(value) for name, value in kept.items()}


def notice(fields: Mapping[str, str], body: bytes) -> ProviderEvent:
    """A payment's signed notice: where to look. Of a transaction that is not ours it is ignored.

    Its hash covers status, txnid, amount and our own fields, but neither ``unmappedstatus`` nor
    ``mihpayid`` nor the error, and the customer's browser carries all of them, as it carried
    ``pre_authorize`` to PayU: somebody may have made "captured" of "auth". PayU itself is asked.
    """
    txnid, status = fields.get("txnid", ""), fields.get("status", "")
    reference = long_reference(txnid)
    if not status or reference is None or not fields.get("key"):
        return ProviderEvent(digest(body), "unreadable", EventKind.IGNORED)
    return ProviderEvent(f"{txnid}/{status}", status, EventKind.HINT, reference)


def refund_hint(fields: Mapping[str, str], body: bytes) -> ProviderEvent:
    """A refund's callback, which nobody signs: where to look. Of a transaction that is not ours it is ignored."""
    request_id, payuid = fields.get("request_id", "").strip(), fields.get("mihpayid", "").strip()
    reference = long_reference(fields.get("merchantTxnId", "").strip())
    if reference is None or not (_ID.fullmatch(request_id) and _ID.fullmatch(payuid)):
        return ProviderEvent(digest(body), "refund", EventKind.IGNORED, verified=False)
    return ProviderEvent(
        digest(body),
        "refund",
        EventKind.HINT,
        reference,
        payuid,
        effect=Effect(EffectStatus.PENDING, request_id),
        refund_key=key_of(fields.get("token", "")),
        verified=False,
    )
