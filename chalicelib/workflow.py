"""Step Functions tasks of the payment workflow (infra/payment.asl.json).

Business outcomes are data that a Choice routes; an exception means "try this task again".
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Any

from chalice.app import Blueprint

from chalicelib.domain.model import Tenant
from chalicelib.observability import entrypoint
from chalicelib.services import attempts, payments
from chalicelib.wiring import kit

if TYPE_CHECKING:
    from chalicelib.domain.payments import Step

tasks = Blueprint(__name__)


def _tenant(event: dict[str, Any]) -> Tenant:
    return Tenant(event["merchant_id"], event["mode"])


def _result(step: Step) -> dict[str, Any]:
    return {"outcome": step.outcome, "wait_seconds": ceil(step.wait)}


@tasks.lambda_function(name="attempt")
@entrypoint
def attempt(event: dict[str, Any], _: object) -> dict[str, Any]:
    """Make the payment's next attempt."""
    return _result(attempts.attempt(kit(), _tenant(event), event["payment_id"]))


@tasks.lambda_function(name="resolve")
@entrypoint
def resolve(event: dict[str, Any], _: object) -> dict[str, Any]:
    """Find out what became of the open attempt."""
    return _result(attempts.resolve(kit(), _tenant(event), event["payment_id"]))


@tasks.lambda_function(name="park")
@entrypoint
def park(event: dict[str, Any], _: object) -> dict[str, Any]:
    """Flag a payment whose workflow kept crashing."""
    error = event.get("error") or {}
    reason = f"{error.get('Error', 'unknown error')}: {error.get('Cause', '')}"
    payments.park(kit(), _tenant(event), event["payment_id"], reason)
    return {"outcome": "done", "wait_seconds": 0}
