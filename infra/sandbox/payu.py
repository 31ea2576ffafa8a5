"""PayU India's wire format over the bank: the form that a browser posts, and the postservice.

A charge begins when the browser posts the form. Hashes, transactions, actions and callbacks are in
payu_entities.py; here are the routes, their checks and their errors.
"""

from __future__ import annotations

import hmac
from datetime import date
from typing import TYPE_CHECKING, TypeVar

from chalicelib.providers.payu_wire import key_of
from infra.sandbox import hosted, pages
from infra.sandbox.payu_entities import (
    MISSING,
    actions,
    command_hash,
    events,
    name_of,
    notice_fields,
    number_of,
    paise,
    reference_of,
    request_hash,
    response_hash,
    settlement_row,
    sign,
    transaction,
)
from infra.sandbox.records import INSTRUMENT_FAULTS, Charge, ChargeSpec, Refund, RefusedError, State, asked_outcome
from infra.sandbox.replies import TOO_MANY, reply
from infra.sandbox.wire import Response, compact, page

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from infra.sandbox.bank import Bank, Verdict
    from infra.sandbox.config import ProviderSettings
    from infra.sandbox.records import Fault, Settled
    from infra.sandbox.wire import Request

__all__ = ["BASE_PATH", "events", "fail", "handle", "sign"]

BASE_PATH = ""
T = TypeVar("T")
_MANDATORY = ("key", "txnid", "amount", "productinfo", "firstname", "email", "phone", "surl", "furl", "hash")
_MAX_TXNID, _MAX_TOKEN, _ROWS = 30, 23, 2000
_METHODS = {"UPI": "upi", "NB": "netbanking", "CASH": "wallet", "CC": "card", "DC": "card"}
_OVER = frozenset({State.PENDING, State.AUTHORIZED, State.CAPTURED})
# error_code and msg of a refused capture, cancelation or refund.
_REFUSALS: dict[str, tuple[int | None, str]] = {
    "token_exists": (106, "Token already exists."),
    "in_progress": (120, "Transaction lock could not be obtained."),
    "duplicate_request": (227, "Transactions with the same amount and same token are not allowed"),
    "same_amount": (214, "Same amount same transaction within 5 minutes"),
    "invalid_state": (111, "Invalid transaction status"),
    "refund_limit_crossed": (105, "Invalid Amount"),
    "amount_mismatch": (117, "The amount does not match"),
    "input_validation_failed": (305, "Amount more than allowed"),
    "not_found": (116, "Transaction Not Found"),
    "payment_declined": (232, "FAILURE - could not be initiated: not supported, or needs manual intervention"),
}


def handle(bank: Bank, settings: ProviderSettings, request: Request) -> Response:
    """Answer one request."""
    match request.method, request.path:
        case "POST", "/_payment":
            return _payment(bank, settings, request)
        case _, "/_payment_options":
            charge_id = name_of("ch_", request.query.get("mihpayid", ""))
            return hosted.serve(
                bank, settings, request, charge_id, lambda charge: _back(settings, charge), request.target
            )
        case "POST", "/merchant/postservice.php" | "/merchant/postservice":
            return _postservice(bank, settings, request.form)
    return page(404, pages.message("Sandbox bank", "There is no such page."))


# -- the page --------------------------------------------------------------------------------------


def _payment(bank: Bank, settings: ProviderSettings, request: Request) -> Response:
    form = request.form
    missing = [name for name in _MANDATORY if not form.get(name)]
    if missing:
        return _error(f"Mandatory parameter {missing[0]} is missing.")
    wanted = request_hash(settings.credentials["salt"], form)
    if form["key"] != settings.credentials["key"] or not hmac.compare_digest(form["hash"].encode(), wanted.encode()):
        return _error("Checksum Failed. Please contact your merchant.")
    amount, txnid = paise(form["amount"]), form["txnid"]
    if amount is None or not (txnid.isascii() and txnid.isalnum() and len(txnid) <= _MAX_TXNID):
        return _error("Invalid amount or transaction id.")
    spec = _spec(form, amount)
    earlier = bank.book.charges_of(settings.id, spec.reference)
    if any(charge.state in _OVER for charge in earlier):
        return _error("Duplicate Order ID.")
    asked = asked_outcome(spec.method)

    def effect(fault: Fault | None) -> Charge:
        if earlier and earlier[-1].state is State.ACTION:
            return earlier[-1]  # the same form, posted again
        return bank.book.create_charge(settings, spec, txnid, fault, page=True)

    def render(charge: Charge) -> Response:
        if charge.state is not State.ACTION:
            return _back(settings, charge)
        action = f"/_payment_options?mihpayid={number_of(charge.id)}"
        return hosted.serve(bank, settings, request, charge.id, lambda done: _back(settings, done), action)

    verdict = bank.perform(
        settings.id,
        "create",
        txnid,
        effect,
        reference=spec.reference,
        chance=bank.rated(settings.id, "create", txnid) if asked is None else INSTRUMENT_FAULTS.get(asked),
    )
    return reply(settings, verdict, render, lambda refusal: _error(refusal.description), fail)


def _spec(form: Mapping[str, str], amount: int) -> ChargeSpec:
    kind = _METHODS.get(form.get("pg", ""), "upi")
    instrument = {"upi": "vpa", "netbanking": "bank", "wallet": "wallet"}.get(kind)
    named = form.get("vpa" if kind == "upi" else "bankcode", "")
    kept = {name: value for name, value in form.items() if name != "hash"}
    return ChargeSpec(
        reference=reference_of(form["txnid"]),
        amount=amount,
        currency="INR",
        automatic=form.get("pre_authorize") != "1",
        method={"type": kind, **({instrument: named} if instrument and named else {})},
        return_url=form["surl"],
        details={"form": kept, "actions": []},
    )


def _error(words: str) -> Response:
    """What PayU's page says instead of asking."""
    return page(400, pages.message("Sorry, we are unable to process your payment", words))


def _back(settings: ProviderSettings, charge: Charge) -> Response:
    """The browser posts the outcome to the shop."""
    form = charge.details["form"]
    fields = notice_fields(charge)
    url = form["surl" if fields["status"] == "success" else "furl"] if isinstance(form, dict) else ""
    return page(200, pages.send_on(url, {**fields, "hash": response_hash(settings.credentials["salt"], fields)}))


# -- the postservice -------------------------------------------------------------------------------


def _postservice(bank: Bank, settings: ProviderSettings, form: Mapping[str, str]) -> Response:
    wanted = command_hash(settings.credentials["salt"], form)
    if form.get("key") != settings.credentials["key"] or not hmac.compare_digest(
        form.get("hash", "").encode(), wanted.encode()
    ):
        return _no("Invalid Hash.")
    command = _COMMANDS.get(form.get("command", ""))
    if command is None:
        return _no("Invalid command.")
    return command(bank, settings, form) if form.get("var1") else _no("Parameter missing")


def _verify(bank: Bank, settings: ProviderSettings, form: Mapping[str, str]) -> Response:
    """verify_payment: what counts of the transactions under each txnid."""
    txnids = form["var1"].split("|")
    found = [_best(bank.book.charges_of(settings.id, reference_of(txnid))) for txnid in txnids]
    verdict = bank.perform(settings.id, "fetch", form["var1"], lambda _fault: found, reference=reference_of(txnids[0]))

    def render(charges: list[Charge | None]) -> Response:
        shown = {txnid: transaction(c) if c else MISSING for txnid, c in zip(txnids, charges, strict=True)}
        return _fetched(sum(c is not None for c in charges), len(charges), shown)

    return _reply(settings, verdict, render)


def _best(charges: list[Charge]) -> Charge | None:
    rank = {State.CAPTURED: 2, State.AUTHORIZED: 1}
    return max(charges, key=lambda charge: (rank.get(charge.state, 0), charge.created_at), default=None)


def _check(bank: Bank, settings: ProviderSettings, form: Mapping[str, str]) -> Response:
    """check_payment: the transaction of that id."""
    try:
        charge = bank.book.charge(settings.id, name_of("ch_", form["var1"]))
    except RefusedError:
        return _no("Transaction not exists")
    verdict = bank.perform(settings.id, "fetch", form["var1"], lambda _fault: charge, reference=charge.reference)
    shown = {"status": 1, "msg": "Transaction Fetched Successfully"}
    return _reply(settings, verdict, lambda record: _json({**shown, "transaction_details": transaction(record)}))


def _capture(bank: Bank, settings: ProviderSettings, form: Mapping[str, str]) -> Response:
    return _act(bank, settings, form, "capture")


def _cancel_refund(bank: Bank, settings: ProviderSettings, form: Mapping[str, str]) -> Response:
    return _act(bank, settings, form, None)


def _act(bank: Bank, settings: ProviderSettings, form: Mapping[str, str], operation: str | None) -> Response:
    """capture_transaction, or cancel_refund_transaction: a cancelation of what is held, else a refund."""
    used, amount = form.get("var2", ""), paise(form.get("var3", ""))
    try:
        charge = bank.book.charge(settings.id, name_of("ch_", form["var1"]))
    except RefusedError:
        return _json({"status": 0, "msg": "Invalid payuid", "mihpayid": ""})
    if not used or len(used) > _MAX_TOKEN:
        return _no("Token ID length should not be greater than 23 characters" if used else "token is empty")
    if not form.get("var3"):
        return _no("amount is empty")
    doing = operation or ("void" if charge.state is State.AUTHORIZED else "refund")
    repeated = any(row["token"] == used for row in actions(bank, charge))

    def effect(fault: Fault | None) -> Charge | Refund:
        if any(row["token"] == used for row in actions(bank, charge)):
            raise RefusedError("token_exists", "")
        if amount is None:
            raise RefusedError("refund_limit_crossed", "")
        return _EFFECTS[doing](bank, settings, charge, amount, used, fault)

    verdict = bank.perform(
        settings.id,
        doing,
        used,
        effect,
        reference=charge.reference,
        fingerprint=None if repeated else f"{charge.id}/{doing}/{amount}",
        chance=bank.rated(settings.id, doing, used),
    )

    def render(record: Charge | Refund) -> Response:
        number = number_of(record.id) if isinstance(record, Refund) else _request_id(bank, charge, used)
        name = "txn_update_id" if doing == "void" else "request_id"
        said = {"capture": "Capture", "void": "Cancel", "refund": "Refund"}[doing]
        queued = {"status": 1, "msg": f"{said} Request Queued", name: number, "bank_ref_num": None}
        return _json({**queued, "mihpayid": int(number_of(charge.id)), "error_code": 102})

    def refuse(refusal: RefusedError) -> Response:
        code, words = _REFUSALS.get(refusal.reason, (None, f"{doing.capitalize()} request failed"))
        said = {"status": 0, "msg": words, "mihpayid": number_of(charge.id)}
        return _json(said if code is None else {**said, "error_code": code})

    return _reply(settings, verdict, render, refuse)


def _do_capture(
    bank: Bank, _settings: ProviderSettings, charge: Charge, amount: int, used: str, fault: Fault | None
) -> Charge:
    bank.book.capture(charge, amount, fault, whole=True)
    return _noted(bank, charge, "capture", used)


def _do_void(
    bank: Bank, _settings: ProviderSettings, charge: Charge, amount: int, used: str, fault: Fault | None
) -> Charge:
    if amount != charge.amount:
        raise RefusedError("amount_mismatch", "")
    bank.book.void(charge, fault)
    return _noted(bank, charge, "cancel", used)


def _do_refund(
    bank: Bank, settings: ProviderSettings, charge: Charge, amount: int, used: str, fault: Fault | None
) -> Refund:
    since = bank.timer.now - settings.same_amount_seconds
    if any(refund.amount == amount and refund.created_at > since for refund in bank.book.refunds_of(charge)):
        raise RefusedError("same_amount", "")
    return bank.book.refund(charge, amount, key_of(used) or used, fault, {"token": used})


_EFFECTS: dict[str, Callable[[Bank, ProviderSettings, Charge, int, str, Fault | None], Charge | Refund]] = {
    "capture": _do_capture,
    "void": _do_void,
    "refund": _do_refund,
}


def _noted(bank: Bank, charge: Charge, action: str, used: str) -> Charge:
    """The action, for the list of them; the bank does at once what PayU queues."""
    number = number_of(bank.book.name(charge.provider, action, charge.id))
    done = charge.details["actions"]
    if isinstance(done, list):
        row = {"request_id": number, "action": action, "used": used, "amount": charge.amount, "status": "SUCCESS"}
        done.append(row)
    return charge


def _request_id(bank: Bank, charge: Charge, used: str) -> str:
    return next((str(row["request_id"]) for row in actions(bank, charge) if row["token"] == used), "")


def _status(bank: Bank, settings: ProviderSettings, form: Mapping[str, str]) -> Response:
    """check_action_status, by request id or with var2=payuid by transaction."""
    asked = form["var1"]
    by_transaction = form.get("var2") == "payuid"
    refund = bank.book.refunds.get(name_of("rfnd_", asked))
    known = name_of("ch_", asked) if by_transaction else refund.charge_id if refund else None
    charges = list(bank.book.charges.values()) if known is None else [bank.book.charges.get(known)]
    ours = [charge for charge in charges if charge is not None and charge.provider == settings.id]
    rows = [row for charge in ours for row in actions(bank, charge) if by_transaction or row["request_id"] == asked]
    reference = ours[0].reference if len(ours) == 1 else ""
    verdict = bank.perform(settings.id, "fetch_refund", asked, lambda _fault: rows, reference=reference)

    def render(found: list[dict[str, object]]) -> Response:
        shown: object = {str(row["request_id"]): row for row in found} or "No action status found"
        return _fetched(1 if found else 0, 1, {asked: shown})

    return _reply(settings, verdict, render)


def _settlement(bank: Bank, settings: ProviderSettings, form: Mapping[str, str]) -> Response:
    """get_settlement_details of one day; var2 is the page, var3 its rows."""
    try:
        day = date.fromisoformat(form["var1"])
        number, rows = int(form.get("var2") or 1), int(form.get("var3") or _ROWS)
    except ValueError:
        return _no("Please check date format it should be YYYY-MM-DD")
    settled = bank.book.settlements(settings.id, day)

    def render(lines: list[Settled]) -> Response:
        part = lines[(number - 1) * rows : number * rows]
        said = {"status": 1, "msg": f"{len(lines)} transactions settled on {day.isoformat()}"}
        return _json({**said, "Txn_details": {str(n): settlement_row(line) for n, line in enumerate(part, 1)}})

    return _reply(settings, bank.perform(settings.id, "fetch", form["var1"], lambda _fault: settled), render)


_COMMANDS: dict[str, Callable[[Bank, ProviderSettings, Mapping[str, str]], Response]] = {
    "verify_payment": _verify,
    "check_payment": _check,
    "capture_transaction": _capture,
    "cancel_refund_transaction": _cancel_refund,
    "check_action_status": _status,
    "get_settlement_details": _settlement,
}


# -- answers ---------------------------------------------------------------------------------------


def _json(value: object, status: int = 200) -> Response:
    """JSON as PayU sends it: as text/html, and with status 200 whatever is wrong."""
    return Response(status, compact(value), {"content-type": "text/html; charset=UTF-8"})


def _no(words: str) -> Response:
    return _json({"status": 0, "msg": words})


def _fetched(found: int, asked: int, details: Mapping[str, object]) -> Response:
    said = f"{found} out of {asked} Transactions Fetched Successfully"
    return _json({"status": 1 if found else 0, "msg": said, "transaction_details": details})


def _reply(
    settings: ProviderSettings,
    verdict: Verdict[T],
    render: Callable[[T], Response],
    refuse: Callable[[RefusedError], Response] | None = None,
) -> Response:
    return reply(settings, verdict, render, refuse or (lambda refusal: _no(refusal.description)), fail)


def fail(status: int) -> Response:
    """A 429 or 5xx."""
    return _json(
        {"status": 0, "msg": "Requests limit reached" if status == TOO_MANY else "Some problem occurred"}, status
    )
