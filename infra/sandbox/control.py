"""The root of the sandbox: what really happened, what shall go wrong, and the provider's own dashboard.

GET  /_health                    GET /_truth[?reference=]         POST /_reset
POST /_config                    {"provider", "webhook_url"?, "webhook_secret"?, "events"?}
POST /_chaos                     {"provider"?, …}, see ``chaos`` below; no provider means all of them
POST /_dashboard/refund          {"provider", "reference", "amount"?}
POST /_dashboard/return_refund   {"provider", "reference", "refund"?}    the customer's bank sends it back
POST /_dashboard/capture         {"provider", "reference", "amount"?}
POST /_dashboard/release         {"provider", "reference"}               an authorization lapses now
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from infra.sandbox.book import newest
from infra.sandbox.chaos import Plan
from infra.sandbox.config import ConfigError, number
from infra.sandbox.records import Fault, RefusedError, State, possible
from infra.sandbox.wire import Response, answer, integer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from infra.sandbox.bank import Bank
    from infra.sandbox.config import ProviderSettings
    from infra.sandbox.records import Charge
    from infra.sandbox.wire import Request

_YEAR = 366 * 24 * 3600.0
_MAX_TIMES = 1_000_000
_SECONDS = ("slow_seconds", "client_timeout", "release_after", "action_expires", "same_amount_seconds", "retry_after")
_WEBHOOKS = {"delay": _YEAR, "duplicate_rate": 1.0, "reorder": 1.0, "drop_rate": 1.0, "bad_signature_rate": 1.0}
_CHAOS_FIELDS = frozenset(
    {
        "provider", "refuse_connections", "operation", "fault", "times", "reference", "webhooks", "latency_ms",
        "failure_rate", "timeout_rate", "timeout_mode", "legacy_receipts", "seed", "maintenance",
        "per_second", *_SECONDS,
    }
)  # fmt: skip


def handle(bank: Bank, request: Request) -> Response:
    """Answer one request to the root."""
    try:
        with bank.lock:
            match request.method, request.path:
                case "GET", "/_health":
                    waiting = len(bank.outbox) + bank.delivering
                    return answer(200, {"status": "ok", "providers": list(bank.settings), "webhooks": waiting})
                case "GET", "/_truth":
                    return answer(200, bank.truth(request.query.get("reference", "")))
                case "POST", "/_reset":
                    bank.reset()
                case "POST", "/_config":
                    configure(bank, request.json())
                case "POST", "/_chaos":
                    chaos(bank, request.json())
                case "POST", path if path in _DASHBOARD:
                    body = request.json()
                    settings = _provider(bank, body)
                    return answer(200, _DASHBOARD[path](bank, settings, body))
                case _:
                    return answer(404, {"error": "There is no such resource."})
    except (ValueError, ConfigError) as error:
        return answer(400, {"error": str(error)})
    except RefusedError as refusal:
        return answer(409, {"error": refusal.description, "reason": refusal.reason})
    return answer(200, {"ok": True})


def configure(bank: Bank, body: Mapping[str, object]) -> None:
    """Where a provider sends its webhooks, and which; raises ConfigError."""
    settings = _provider(bank, body)
    _known(body, frozenset({"provider", "webhook_url", "webhook_secret", "events"}))
    url, secret = body.get("webhook_url", settings.webhook_url), body.get("webhook_secret", settings.webhook_secret)
    events = body.get("events", settings.events)
    if not (url is None or (isinstance(url, str) and url.startswith(("http://", "https://")))):
        message = "webhook_url is an http or https URL, or null"
        raise ConfigError(message)
    if not isinstance(secret, str) or not (events is None or isinstance(events, list)):
        message = "webhook_secret is a string; events is a list or null"
        raise ConfigError(message)
    settings.webhook_url, settings.webhook_secret = url, secret
    settings.events = None if events is None else [str(event) for event in events]


def chaos(bank: Bank, body: Mapping[str, object]) -> None:
    """Ask for trouble; raises ConfigError.

    ``operation`` (order, create, fetch, capture, void, refund, fetch_refund) with ``fault`` (see
    records.Fault), ``times`` (1) and ``reference`` (the beginning of ours; any): the next such
    requests. ``refuse_connections``: the next n connections are refused. ``latency_ms`` {min, max},
    ``failure_rate``, ``timeout_rate``, ``timeout_mode`` (before_effect, after_effect): plain
    instruments. ``maintenance`` (true, false): every request is a 503. ``per_second`` (a number, or null):
    more requests than that are a 429. ``webhooks`` {delay, duplicate_rate, reorder, drop_rate, bad_signature_rate}.
    ``slow_seconds, client_timeout, release_after, action_expires``: times; ``retry_after`` (1): what a 429 asks
    for; ``same_amount_seconds`` (300 at PayU): no second refund of one amount within. ``seed``: all chance anew.
    """
    _known(body, _CHAOS_FIELDS)
    targets = list(bank.settings.values()) if body.get("provider") is None else [_provider(bank, body)]
    if "seed" in body:
        bank.seed = str(body["seed"])
        bank.outbox.seed = bank.book.seed = bank.seed
    for settings in targets:
        _rates(settings, body)
        if isinstance(body.get("webhooks"), dict):
            _webhooks(settings, body["webhooks"])
        if "refuse_connections" in body:
            bank.chaos[settings.id].refuse_connections = int(number(body["refuse_connections"], _MAX_TIMES))
        if "maintenance" in body:
            bank.chaos[settings.id].maintenance = bool(body["maintenance"])
        if "per_second" in body:
            most = body["per_second"]
            bank.chaos[settings.id].per_second = None if most is None else number(most, _MAX_TIMES)
        if "operation" in body or "fault" in body:
            bank.chaos[settings.id].plans.append(_plan(body))


def _plan(body: Mapping[str, object]) -> Plan:
    operation, fault = body.get("operation", "create"), body.get("fault")
    if fault not in [member.value for member in Fault] or not isinstance(operation, str):
        message = f"fault is one of {', '.join(Fault)}"
        raise ConfigError(message)
    if not possible(operation, Fault(fault)):
        message = f"{fault} means nothing for {operation}"
        raise ConfigError(message)
    return Plan(operation, Fault(fault), int(number(body.get("times", 1), _MAX_TIMES)), str(body.get("reference", "")))


def _rates(settings: ProviderSettings, body: Mapping[str, object]) -> None:
    for name in ("failure_rate", "timeout_rate"):
        if name in body:
            setattr(settings, name, number(body[name], 1.0))
    for name in _SECONDS:
        if name in body:
            setattr(settings, name, number(body[name], _YEAR))
    if "timeout_mode" in body:
        if body["timeout_mode"] not in ("before_effect", "after_effect"):
            message = "timeout_mode is before_effect or after_effect"
            raise ConfigError(message)
        settings.timeout_mode = str(body["timeout_mode"])
    if "legacy_receipts" in body:
        settings.legacy_receipts = bool(body["legacy_receipts"])
    latency = body.get("latency_ms")
    if latency is not None:
        if not isinstance(latency, dict):
            latency = {"min": latency, "max": latency}
        _known(latency, frozenset({"min", "max"}))
        shortest, longest = number(latency.get("min", 0), 60_000), number(latency.get("max", 0), 60_000)
        settings.latency = (shortest / 1000, longest / 1000)


def _webhooks(settings: ProviderSettings, body: object) -> None:
    rules = body if isinstance(body, dict) else {}
    _known(rules, frozenset(_WEBHOOKS))
    for name, value in rules.items():
        setattr(settings.webhooks, name, number(value, _WEBHOOKS[name]))


def _known(body: Mapping[str, object], fields: frozenset[str]) -> None:
    extra = sorted(set(body) - fields)
    if extra:
        message = f"unknown field {extra[0]}"
        raise ConfigError(message)


def _provider(bank: Bank, body: Mapping[str, object]) -> ProviderSettings:
    name = body.get("provider")
    if not isinstance(name, str) or name not in bank.settings:
        message = f"provider is one of {', '.join(bank.settings)}"
        raise ConfigError(message)
    return bank.settings[name]


def _charge(bank: Bank, settings: ProviderSettings, body: Mapping[str, object], *states: State) -> Charge:
    """The newest charge whose reference begins as asked, in one of the states."""
    reference = str(body.get("reference", ""))
    for charge in reversed(bank.book.charges.values()):
        if charge.provider == settings.id and charge.reference.startswith(reference) and charge.state in states:
            return charge
    raise RefusedError("not_found", f"There is no {' or '.join(states)} charge with this reference.")


def _refund(bank: Bank, settings: ProviderSettings, body: Mapping[str, object]) -> dict[str, object]:
    charge = _charge(bank, settings, body, State.CAPTURED)
    refund = bank.book.refund(charge, integer(body.get("amount")), None)
    return {"refund": refund.id, "amount": refund.amount, "charge": charge.id}


def _return_refund(bank: Bank, settings: ProviderSettings, body: Mapping[str, object]) -> dict[str, object]:
    charge = _charge(bank, settings, body, State.CAPTURED)
    refunds = [r for r in bank.book.refunds_of(charge) if body.get("refund") in (None, r.id, r.key)]
    refund = newest(refunds, "succeeded")
    bank.book.return_refund(refund)
    return {"refund": refund.id, "amount": refund.amount, "charge": charge.id}


def _capture(bank: Bank, settings: ProviderSettings, body: Mapping[str, object]) -> dict[str, object]:
    charge = bank.book.capture(_charge(bank, settings, body, State.AUTHORIZED), integer(body.get("amount")))
    return {"charge": charge.id, "amount": charge.captured}


def _release(bank: Bank, settings: ProviderSettings, body: Mapping[str, object]) -> dict[str, object]:
    charge = _charge(bank, settings, body, State.AUTHORIZED)
    bank.book.release(charge)
    return {"charge": charge.id, "amount": charge.amount}


_DASHBOARD: dict[str, Callable[[Bank, ProviderSettings, Mapping[str, object]], dict[str, object]]] = {
    "/_dashboard/refund": _refund,
    "/_dashboard/return_refund": _return_refund,
    "/_dashboard/capture": _capture,
    "/_dashboard/release": _release,
}
