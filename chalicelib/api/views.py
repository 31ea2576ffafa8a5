"""What the API shows of the domain: plain dictionaries with the field names of docs/api.md."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from chalicelib.api import lists
from chalicelib.domain import contacts, latency
from chalicelib.domain import risk_settings as risk_json
from chalicelib.domain import routing_settings as routing_json
from chalicelib.domain.draft import error_dict
from chalicelib.domain.scoring import wilson
from chalicelib.domain.states import OperationStatus

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chalicelib.domain.cards import CardToken
    from chalicelib.domain.merchant import Account
    from chalicelib.domain.model import Attempt, Event, Journal, Operation, Order, Payment, Tenant
    from chalicelib.domain.risk import RiskRules
    from chalicelib.domain.routing_rules import RoutingSettings
    from chalicelib.providers.base import Connection
    from chalicelib.services.accounts import ConnectionTest
    from chalicelib.services.customers import Erased
    from chalicelib.services.experiments import Standing
    from chalicelib.services.health import MethodHealth, ProviderHealth
    from chalicelib.services.simulation import Simulation
    from chalicelib.storage.minutes import Alert, Tally
    from chalicelib.storage.rule_books import Stored

# What is under way is pending to a merchant, whoever it is waiting for.
REFUND_STATUSES: Mapping[OperationStatus, str] = {
    OperationStatus.PENDING: "pending",
    OperationStatus.SENT: "pending",
    OperationStatus.UNKNOWN: "pending",
    OperationStatus.MANUAL_REVIEW: "pending",
    OperationStatus.SUCCEEDED: "succeeded",
    OperationStatus.FAILED: "failed",
    OperationStatus.RETURNED: "returned",
}

_OF_A_CARD = frozenset({"type", "token", "network", "last4", "bin"})


def moment(time: datetime) -> str:
    """RFC 3339 in UTC with milliseconds: ``2026-11-21T04:30:00.123Z``."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def payment_in_list(shown: Payment) -> dict[str, object]:
    """A payment as lists show it: who asks for many gets nobody's address or number."""
    return payment(shown) | {
        "method": contacts.masked_method(method(shown.method)),
        "customer": _customer(shown.customer_key, contacts.masked_customer(shown.customer)),
        # Of what is left to do only the kind: a provider's form holds what is masked here.
        "next_action": None if shown.next_action is None else {"type": shown.next_action.get("type")},
    }


def _customer(key: str | None, customer: Mapping[str, str]) -> dict[str, str]:
    return ({"id": key} if key else {}) | dict(customer)


def payment(shown: Payment, route: str | None = None) -> dict[str, object]:
    """A payment; ``route`` says why it went where it went, where that is known without another read."""
    return {
        "id": shown.id,
        "object": "payment",
        "mode": shown.tenant.mode,
        "status": str(shown.status),
        "amount": shown.amount,
        "currency": shown.currency,
        "amount_authorized": shown.amount_authorized,
        "amount_captured": shown.amount_captured,
        "amount_refundable": shown.amount_refundable,
        "amount_refunded": shown.amount_refunded,
        "amount_refunding": shown.amount_refunding,
        "amount_disputed": shown.amount_disputed,
        "refund_status": shown.refund_status,
        "capture": shown.capture,
        "order_id": shown.order_id,
        "provider": shown.provider,
        "provider_reference": shown.provider_reference,
        "method": method(shown.method),
        "customer": _customer(shown.customer_key, shown.customer),
        "next_action": None if shown.next_action is None else dict(shown.next_action),
        "risk": {"hits": [], **shown.risk},  # stored without them by an earlier release
        "route": route,
        "attempts": shown.attempts,
        "needs_attention": shown.needs_attention,
        "error": error_dict(shown.error),
        "description": shown.description,
        "metadata": dict(shown.metadata),
        "return_url": shown.return_url,
        "created_at": moment(shown.created_at),
        "updated_at": moment(shown.updated_at),
        "expires_at": moment(shown.expires_at),
        "version": shown.version,
    }


def without_details(shown: Mapping[str, Any]) -> dict[str, object]:
    """A payment for whoever holds nothing but a publishable key: how it stands, and nothing of who pays or why."""
    action = shown["next_action"]
    hidden = {
        "customer": {},
        "metadata": {},
        "description": None,
        "route": None,
        "method": {"type": shown["method"]["type"]},
        "next_action": None if action is None else {"type": action["type"]},  # forms repeat who pays
        "risk": {"decision": shown["risk"]["decision"], "score": 0, "reasons": [], "hits": []},
    }
    return {**shown, **hidden}


def method(stored: Mapping[str, str]) -> dict[str, str]:
    """A payment's method; of a card only what people know it by."""
    if stored["type"] != "card":
        return dict(stored)
    return {name: value for name, value in stored.items() if name in _OF_A_CARD}


def order(shown: Order, public_base_url: str) -> dict[str, object]:
    """An order; its checkout page is at ``{public_base_url}/checkout/{id}``."""
    return {
        "id": shown.id,
        "object": "order",
        "mode": shown.tenant.mode,
        "status": str(shown.status),
        "amount": shown.amount,
        "currency": shown.currency,
        "receipt": shown.receipt,
        "lines": [dict(line) for line in shown.lines],
        "payment_id": shown.live_payment_id,
        "checkout_url": f"{public_base_url}/checkout/{shown.id}",
        "metadata": dict(shown.metadata),
        "created_at": moment(shown.created_at),
        "updated_at": moment(shown.updated_at),
        "expires_at": moment(shown.expires_at),
        "version": shown.version,
    }


def refund(shown: Operation) -> dict[str, object]:
    """A refund: a refund operation, with fewer statuses."""
    return {
        "id": shown.id,
        "object": "refund",
        "mode": shown.tenant.mode,
        "payment_id": shown.payment_id,
        "status": REFUND_STATUSES[shown.status],
        "amount": shown.amount,
        "currency": shown.currency,
        "reason": shown.reason,
        "source": shown.source,
        "provider_reference": shown.provider_reference,
        "error": error_dict(shown.error),
        "created_at": moment(shown.created_at),
        "updated_at": moment(shown.updated_at),
    }


def attempt(shown: Attempt) -> dict[str, object]:
    """An attempt with the routing decision that led to it; its provider calls are in the events."""
    return {
        "id": shown.id,
        "object": "attempt",
        "payment_id": shown.payment_id,
        "number": shown.number,
        "status": str(shown.status),
        "provider": shown.provider,
        "account": shown.account,
        "reference": shown.reference,
        "provider_reference": shown.provider_reference,
        "amount": shown.amount,
        "currency": shown.currency,
        "captured": shown.captured,
        "reversed": shown.reversed,
        "route": dict(shown.route),
        "error": error_dict(shown.error),
        "created_at": moment(shown.created_at),
        "updated_at": moment(shown.updated_at),
    }


def operation(shown: Operation) -> dict[str, object]:
    """A capture, void, refund or reversal with all its statuses."""
    return {
        "id": shown.id,
        "object": "operation",
        "type": str(shown.type),
        "payment_id": shown.payment_id,
        "attempt_id": shown.attempt_id,
        "status": str(shown.status),
        "amount": shown.amount,
        "currency": shown.currency,
        "source": shown.source,
        "reason": shown.reason,
        "provider_reference": shown.provider_reference,
        "error": error_dict(shown.error),
        "tries": shown.tries,
        "created_at": moment(shown.created_at),
        "updated_at": moment(shown.updated_at),
    }


def event(shown: Event) -> dict[str, object]:
    """An event of a payment."""
    return {
        "id": shown.id,
        "object": "event",
        "type": shown.type,
        "payment_id": shown.subject_id,
        "sequence": shown.sequence,
        "created_at": moment(shown.created_at),
        "data": dict(shown.data),
    }


def journal(shown: Journal) -> dict[str, object]:
    """A journal: legs that sum to zero, debits positive."""
    return {
        "id": shown.id,
        "object": "journal",
        "type": shown.type,
        "payment_id": shown.payment_id,
        "attempt_id": shown.attempt_id,
        "operation_id": shown.operation_id,
        "currency": shown.currency,
        "legs": [{"account": leg.account, "amount": leg.amount} for leg in shown.legs],
        "created_at": moment(shown.created_at),
    }


def account(shown: Account, tenant: Tenant, connection: Connection, webhook_url: str) -> dict[str, object]:
    """A provider account. What its provider does not declare to be public is a secret."""
    public = {credential.name for credential in connection.credentials if not credential.secret}
    until = shown.previous_accepted_until
    return {
        "id": shown.id,
        "object": "provider_account",
        "mode": tenant.mode,
        "provider": shown.provider,
        "name": shown.name,
        "enabled": shown.enabled,
        "credentials": {name: value for name, value in shown.credentials.items() if name in public},
        "secrets": [name for name in shown.credentials if name not in public],
        "webhook_url": webhook_url,
        "previous_secret_accepted_until": None if until is None else moment(until),
        "created_at": None if shown.created_at is None else moment(shown.created_at),
        "updated_at": None if shown.updated_at is None else moment(shown.updated_at),
    }


def erasure(customer_id: str, shown: Erased) -> dict[str, object]:
    """What came of erasing a customer, as far as one request goes."""
    return {
        "object": "erasure",
        "id": customer_id,
        "payments": shown.payments,
        "pending": shown.pending,
        "complete": shown.is_all and not shown.pending,
        "next_cursor": None if shown.cursor is None else lists.encode(shown.cursor),
    }


def risk_settings(shown: Stored[RiskRules], tenant: Tenant) -> dict[str, object]:
    """A merchant's risk rules, with all defaults."""
    return _stored("risk_settings", shown, tenant) | {"rules": risk_json.to_dict(shown.rules)}


def routing_settings(shown: Stored[RoutingSettings], tenant: Tenant) -> dict[str, object]:
    """A merchant's routing rules."""
    return _stored("routing_settings", shown, tenant) | routing_json.to_dict(shown.rules)


def _stored(name: str, shown: Stored[Any], tenant: Tenant) -> dict[str, object]:
    updated_at = None if shown.updated_at is None else moment(shown.updated_at)
    return {"object": name, "mode": tenant.mode, "version": shown.version, "updated_at": updated_at}


def experiment(shown: Standing, now: datetime) -> dict[str, object]:
    """An experiment, and what has come of it."""
    one, result = shown.experiment, shown.result
    status = "ended" if one.ended_at else "scheduled" if now < one.start else "running" if now < one.stop else "stopped"
    return {
        "object": "experiment",
        "name": one.name,
        "key": one.key,
        "status": status,
        "reason": one.ended_because,
        "counted_until": moment(one.counted_until(now)),
        "control": {"payments": shown.control.payments, "successes": shown.control.successes},
        "variant": {"payments": shown.variant.payments, "successes": shown.variant.successes},
        "difference": {
            "estimate": round(result.difference, 4),
            "low": round(result.low, 4),
            "high": round(result.high, 4),
        },
        "summary": result.sentence,
    }


def routing_simulation(shown: Simulation) -> dict[str, object]:
    """What would happen to a payment now."""
    decision = shown.decision
    return {
        "object": "routing_simulation",
        "risk": shown.verdict.record(),
        "decision": decision.as_dict(),
        "provider": decision.chosen.provider if decision.chosen else None,
        "passed_over": [{"rule": rule, "condition": condition} for rule, condition in shown.passed_over],
        "shares": dict(shown.shares),
    }


def connection_test(shown: ConnectionTest) -> dict[str, object]:
    """What came of testing a provider account."""
    return {
        "object": "connection_test",
        "ok": shown.error is None,
        "error": error_dict(shown.error),
        "latency_ms": shown.latency_ms,
    }


def provider(shown: ProviderHealth, tenant: Tenant) -> dict[str, object]:
    """A provider with its health by method."""
    return {
        "id": shown.provider,
        "object": "provider",
        "mode": tenant.mode,
        "accounts": list(shown.accounts),
        "methods": [_method_health(one) for one in shown.methods],
    }


def _method_health(shown: MethodHealth) -> dict[str, object]:
    breaker = shown.breaker
    return {
        "method": shown.method,
        "state": str(breaker.status),
        "forced": breaker.forced is not None,
        "reason": breaker.reason or None,
        "since": None if breaker.moved_at is None else moment(breaker.moved_at),
        "until": None if breaker.forced_until is None else moment(breaker.forced_until),
        "calls": shown.calls,
        "failures": shown.failures,
        "failure_share": round(shown.failures / shown.calls, 4) if shown.calls else None,
        "last_hour": _last_hour(shown.hour),
        "alerts": [_alert(alert) for alert in shown.alerts],
        "changes": [
            {"at": moment(one.at), "state": one.state, "was": one.was, "reason": one.reason, "key_id": one.by}
            for one in shown.changes
        ],
    }


def _last_hour(hour: Tally) -> dict[str, object]:
    low, high = wilson(hour.successes, hour.calls)
    return {
        "calls": hour.calls,
        "success_rate": round(hour.successes / hour.calls, 4) if hour.calls else None,
        "success_rate_low": round(low, 4),
        "success_rate_high": round(high, 4),
        "technical_failure_rate": round(hour.technical / hour.calls, 4) if hour.calls else None,
        "latency_samples": sum(hour.latency.values()),
        "latency_ms": {f"p{share}": latency.percentile(hour.latency, share / 100) for share in (50, 95, 99)},
    }


def _alert(alert: Alert) -> dict[str, object]:
    body = alert.body
    return {
        "kind": alert.kind,
        "state": body["state"],
        "since": moment(datetime.fromtimestamp(alert.since * 60, UTC)),
        "at": moment(datetime.fromtimestamp(body["at"] * 60, UTC)),
        "usual": round(body["usual"], 4),
        "seen": round(body["seen"], 4),
        "summary": body["sentence"],
    }


def token(shown: CardToken) -> dict[str, object]:
    """A card's token."""
    return {
        "id": shown.id,
        "object": "token",
        "mode": shown.tenant.mode,
        "type": "card",
        "card": {
            "network": shown.network,
            "last4": shown.last4,
            "bin": shown.bin,
            "expiry_month": shown.expiry_month,
            "expiry_year": shown.expiry_year,
            "fingerprint": shown.fingerprint,
        },
        "created_at": moment(shown.created_at),
        "expires_at": moment(shown.expires_at),
    }
