"""The providers of the sandbox, read from providers.json; the example in the repository explains the shape."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DEFAULT_FILE = Path(__file__).with_name("providers.json")
DEFAULT_ROOT_PORT = 8100
_DAY = 24 * 3600.0


class ConfigError(Exception):
    """providers.json, or a request to change a setting, is wrong; the message says where."""


@dataclass(slots=True)
class WebhookSettings:
    """How webhooks misbehave. Seconds and shares from 0 to 1."""

    delay: float = 0.1
    duplicate_rate: float = 0.0
    reorder: float = 0.0  # the share that is held back long enough to arrive after later ones
    drop_rate: float = 0.0
    bad_signature_rate: float = 0.0


@dataclass(slots=True)
class ProviderSettings:
    """One provider of the sandbox. Everything below ``port`` may be changed while it runs."""

    id: str
    type: str  # ANY, or the one method it takes: UPI, NETBANKING, WALLET
    personality: str
    port: int
    credentials: Mapping[str, str]
    bins: Sequence[str]  # card prefixes for routing; cards are decided by the token's issuer
    max_amount: int
    client_timeout: float  # the client gives up after this
    failure_rate: float
    latency: tuple[float, float]
    events: Sequence[str] | None = None  # webhook types subscribed to; None is all
    webhook_url: str | None = None
    webhook_secret: str = ""
    slow_seconds: float = 20.0  # a slow effect happens this long after the client gave up
    timeout_rate: float = 0.0
    timeout_mode: str = "after_effect"
    release_after: float = 5 * _DAY  # an authorization nobody captures
    action_expires: float = 900.0  # a customer who never decides
    retry_after: float = 1.0  # what a 429 asks for
    legacy_receipts: bool = False  # refuse a used receipt instead of returning its order
    same_amount_seconds: float = 0.0  # how long PayU refuses a second refund of one amount; really 300
    webhooks: WebhookSettings = field(default_factory=WebhookSettings)


def load(path: Path = DEFAULT_FILE) -> list[ProviderSettings]:
    """The providers declared in a file; raises ConfigError."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        return [parse(row) for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        message = f"{path.name}: {error!r}"
        raise ConfigError(message) from error


def parse(row: Mapping[str, object]) -> ProviderSettings:
    """One entry; raises KeyError, TypeError or ValueError for a wrong one."""
    rules = _mapping(row["routingRules"])
    latency = _mapping(row["latencyMs"])
    bins, events = rules.get("bins", []), row.get("events")
    if not isinstance(bins, list) or not (events is None or isinstance(events, list)):
        message = "bins and events are lists"
        raise TypeError(message)
    return ProviderSettings(
        id=str(row["id"]),
        type=str(row["type"]),
        personality=str(row["personality"]),
        port=_integer(row["port"]),
        credentials={str(k): str(v) for k, v in _mapping(row["credentials"]).items()},
        bins=[str(prefix) for prefix in bins],
        max_amount=_integer(rules["maxAmount"]),
        client_timeout=_integer(row["timeoutMs"]) / 1000,
        failure_rate=number(row["failureRate"], 1.0),
        latency=(number(latency["min"], 60_000) / 1000, number(latency["max"], 60_000) / 1000),
        events=None if events is None else [str(event) for event in events],
        webhook_url=str(row["webhookUrl"]) if row.get("webhookUrl") else None,
        webhook_secret=str(row.get("webhookSecret", "")),
    )


def _mapping(value: object) -> Mapping[str, object]:
    if not isinstance(value, dict):
        message = f"{value!r} is not an object"
        raise TypeError(message)
    return value


def _integer(value: object) -> int:
    if type(value) is not int or value < 0:
        message = f"{value!r} is not a whole number"
        raise TypeError(message)
    return value


def number(value: object, most: float) -> float:
    """A number from 0 to ``most``; raises ConfigError. A bool counts as 0 or 1."""
    if not isinstance(value, int | float) or not 0 <= value <= most:
        message = f"{value!r} is not a number from 0 to {most:g}"
        raise ConfigError(message)
    return float(value)
