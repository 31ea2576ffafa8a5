"""PayU as a script: answers to postservice commands made by hand, and what they are about."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from chalicelib.domain.ids import short_reference
from chalicelib.providers import payu_wire
from chalicelib.providers.base import Account
from chalicelib.providers.http import HttpAnswer
from chalicelib.providers.payu import PayuProvider
from tests.contract.sandbox_world import AMOUNT, START, intent, ref

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chalicelib.domain.outcome import EffectOutcome
    from chalicelib.providers.base import ChargeIntent


KEY, SALT = "gtKFFx", "eCwWELxi"
ACCOUNT = Account("acct", "payu", "https://secure.payu.in", {"key": KEY, "salt": SALT}, [SALT])
PAYUID = "403993715599887766"
CAPTURE, VOID, REFUND = (f"{prefix}_01K00000000000000000000{n}01" for prefix, n in (("op", 1), ("op", 2), ("rf", 3)))
DAY = datetime.fromtimestamp(START + 5.5 * 3600, UTC).date()  # in India
RETURN_URL = "https://shop.example/back?order=7"


def made(outcome: str = "success", *, name: str = "Asha Rao", **more: object) -> ChargeIntent:
    """A payment with everything that PayU needs."""
    intended = intent(outcome, return_url=RETURN_URL, **more)  # type: ignore[arg-type]  # the names of intent's own
    return replace(intended, customer={**intended.customer, "name": name})


MADE = made()
TXNID = short_reference(MADE.reference)
KNOWN = ref(MADE)
ENTITY = {
    "mihpayid": PAYUID, "amt": "1499.00", "transaction_amount": "1499.00", "txnid": TXNID, "status": "success",
    "unmappedstatus": "captured", "error_code": "E000", "error_Message": "No Error",
}  # fmt: skip
HELD = {**ENTITY, "unmappedstatus": "auth"}


def verified(entity: object, status: int = 1) -> dict[str, object]:
    return {"status": status, "msg": f"{status} out of 1 …", "transaction_details": {TXNID: entity}}


def listed(*rows: dict[str, object], under: str = PAYUID) -> dict[str, object]:
    """What check_action_status says of some actions."""
    shown = {str(row["request_id"]): row for row in rows} or "No action status found"
    return {"status": 1 if rows else 0, "msg": "…", "transaction_details": {under: shown}}


def row(action: str, key: str, **more: object) -> dict[str, object]:
    known = {"mihpayid": PAYUID, "request_id": "9", "amt": "1499.00", "token": payu_wire.token(key, action)}
    return {**known, "action": action, "status": "SUCCESS", **more}


class Script:
    """Answers to postservice commands by their name, in order; an exception is raised, a missing one fails the test."""

    def __init__(self, **answers: object) -> None:
        self.answers = {name: list(said) if isinstance(said, list) else [said] for name, said in answers.items()}
        self.sent: list[dict[str, str]] = []
        self.urls: list[str] = []

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None = None,
        read_timeout: float | None = None,
    ) -> HttpAnswer:
        assert (method, headers["content-type"]) == ("POST", "application/x-www-form-urlencoded")
        form = dict(parse_qsl((body or b"").decode(), keep_blank_values=True, strict_parsing=True))
        self.sent.append(form)
        self.urls.append(url)
        queue = self.answers[form["command"]]
        said = queue.pop(0) if len(queue) > 1 else queue[0]
        if isinstance(said, Exception):
            raise said
        status, value = said if isinstance(said, tuple) else (200, said)
        raw = value if isinstance(value, bytes) else json.dumps(value).encode()
        return HttpAnswer(status, {"content-type": "text/html; charset=UTF-8"}, raw)

    @property
    def commands(self) -> list[str]:
        return [form["command"] for form in self.sent]


OPERATIONS = {
    "capture": ("capture_transaction", HELD, "capture", CAPTURE),
    "void": ("cancel_refund_transaction", HELD, "cancel", VOID),
    "refund": ("cancel_refund_transaction", ENTITY, "refund", REFUND),
}
QUEUED = {"status": 1, "msg": "Request Queued", "request_id": "9", "mihpayid": int(PAYUID), "error_code": 102}
OTHER_REFUND = "rf_01K00000000000000000000901"


def act(operation: str, entity: Mapping[str, object], said: object, *shown: object) -> tuple[EffectOutcome, Script]:
    """One operation: how the transaction stands, what the command is answered, what is listed afterwards."""
    actions = list(shown) or [listed()]
    script = Script(
        verify_payment=verified(entity),
        capture_transaction=said,
        cancel_refund_transaction=said,
        check_action_status=actions,
    )
    provider = PayuProvider(script)
    outcome = {
        "capture": lambda: provider.capture(ACCOUNT, KNOWN, AMOUNT, CAPTURE),
        "void": lambda: provider.void(ACCOUNT, KNOWN, VOID),
        "refund": lambda: provider.refund(ACCOUNT, KNOWN, AMOUNT, REFUND),
    }[operation]()
    return outcome, script
