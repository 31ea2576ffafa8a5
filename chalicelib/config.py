"""Settings: frozen, typed, and the only place that reads the environment."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

Stage = Literal["local", "localstack", "dev", "prod"]
_STAGES: dict[str, Stage] = {"local": "local", "localstack": "localstack", "dev": "dev", "prod": "prod"}


class SettingsError(Exception):
    """A setting is missing or wrong; the message names it."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that differs between stages. Times in seconds."""

    stage: Stage
    prefix: str  # of every resource's name
    state_machine_arn: str
    operations_queue_url: str
    provider_events_queue_url: str
    notifications_queue_url: str
    deliveries_queue_url: str
    projections_queue_url: str
    credentials_key_id: str  # the KMS key that seals provider credentials and webhook secrets
    public_base_url: str  # where merchants and browsers reach us
    provider_base_urls: dict[str, str]  # by provider, instead of its real address; where there is a sandbox bank only

    connect_timeout: float  # of provider and merchant calls
    read_timeout: float
    delivery_timeout: float
    call_lease: float  # how long a provider call may be under way: the time-out of the functions that make one
    lease: float
    resolve_waits: tuple[float, ...]
    sweep_waits: tuple[float, ...]
    operation_waits: tuple[float, ...]
    poll_interval: float
    watch_waits: tuple[float, ...]
    retry_backoff: float
    retry_backoff_cap: float
    payment_ttl: float
    order_ttl: float
    delivery_waits: tuple[float, ...]  # before tries 1, 2, …; after the last the delivery is dead
    orphan_waits: tuple[float, ...]  # before an event without a payment is called an orphan
    sweep_passes: int  # per scheduled invocation: schedules fire once a minute at best
    sweep_pause: float
    max_waiters: int  # requests holding on `Prefer: wait`, over the whole stage
    max_wait: int
    idempotency_ttl: float
    cache_ttl: float  # of merchants' settings and keys, per environment
    rotation_overlap: float  # how long a webhook secret is accepted after it was rotated out
    token_ttl: float  # of a card's token
    access_ttl: float  # of an access token
    session_ttl: float  # until somebody has to sign in again, however often they refresh
    cookie_ttl: float  # the same for pages
    invite_ttl: float  # of an invitation
    reset_ttl: float  # of a token that sets a new password
    key_overlap: float  # how long an API key goes on after it was rotated, unless the caller says otherwise
    password_cost: int  # binary logarithm of scrypt's n


_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86400.0

_AWS_PROFILE = {
    "connect_timeout": 2.0,
    "read_timeout": 10.0,
    "delivery_timeout": 15.0,
    "call_lease": 45.0,
    "lease": 90.0,
    "resolve_waits": (15.0, _MINUTE, 5 * _MINUTE),
    "sweep_waits": (30 * _MINUTE, 2 * _HOUR, 6 * _HOUR, _DAY, _DAY, _DAY),
    "operation_waits": (5.0, 30.0, 2 * _MINUTE, 10 * _MINUTE),
    "poll_interval": 5 * _MINUTE,
    "watch_waits": (5 * _MINUTE, 30 * _MINUTE, 2 * _HOUR, _DAY),
    "retry_backoff": 2.0,
    "retry_backoff_cap": 20.0,
    "payment_ttl": 30 * _MINUTE,
    "order_ttl": _DAY,
    # Standard Webhooks' recommendation, about 76 hours in all; ±20 % jitter is added.
    "delivery_waits": (
        0.0,
        5.0,
        5 * _MINUTE,
        30 * _MINUTE,
        2 * _HOUR,
        5 * _HOUR,
        10 * _HOUR,
        14 * _HOUR,
        20 * _HOUR,
        24 * _HOUR,
    ),
    "orphan_waits": (5.0, 30.0, 2 * _MINUTE, 10 * _MINUTE),
    "sweep_passes": 1,
    "sweep_pause": 0.0,
    "max_waiters": 200,
    "max_wait": 20,
    "idempotency_ttl": 2 * _DAY,
    "cache_ttl": 60.0,
    "rotation_overlap": 4 * _DAY,  # Stripe repeats a webhook for three days
    "token_ttl": _DAY,
    "access_ttl": 15 * _MINUTE,
    "session_ttl": 30 * _DAY,
    "cookie_ttl": 12 * _HOUR,
    "invite_ttl": 7 * _DAY,
    "reset_ttl": _HOUR,
    "key_overlap": _DAY,
    "password_cost": 17,
}

# The same story in seconds instead of minutes, for a person who watches.
_LOCAL_PROFILE = _AWS_PROFILE | {
    "connect_timeout": 1.0,
    "read_timeout": 3.0,
    "delivery_timeout": 5.0,
    "call_lease": 15.0,
    "lease": 12.0,
    "resolve_waits": (1.0, 2.0, 4.0, 8.0, 15.0, 15.0, 15.0, 15.0),
    "sweep_waits": (15.0, 30.0, 60.0, 60.0, 120.0, 300.0),
    "operation_waits": (1.0, 2.0, 4.0, 8.0, 15.0),
    "poll_interval": 5.0,
    "watch_waits": (10.0, 30.0, 120.0, 600.0),
    "retry_backoff": 0.2,
    "retry_backoff_cap": 1.0,
    "delivery_waits": (0.0, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0),
    "orphan_waits": (1.0, 2.0, 5.0, 10.0),
    "sweep_passes": 10,
    "sweep_pause": 5.0,
    "max_waiters": 6,
    "rotation_overlap": 10 * _MINUTE,
    "password_cost": 14,  # an eighth of the work: everything shares two processors
}

_WITH_SANDBOX = ("local", "localstack")
_PROFILES = {"local": _LOCAL_PROFILE, "localstack": _LOCAL_PROFILE, "dev": _AWS_PROFILE, "prod": _AWS_PROFILE}


def load(environ: dict[str, str]) -> Settings:
    """Settings from environment variables; raises SettingsError naming what is missing or wrong."""

    def need(name: str) -> str:
        value = environ.get(name, "")
        if not value:
            msg = f"environment variable {name} is not set"
            raise SettingsError(msg)
        return value

    stage = need("RAILYARD_STAGE")
    if stage not in _STAGES:
        msg = f"RAILYARD_STAGE is {stage!r}; it must be one of {', '.join(_STAGES)}"
        raise SettingsError(msg)
    return Settings(
        stage=_STAGES[stage],
        prefix=need("RAILYARD_PREFIX"),
        state_machine_arn=need("PAYMENT_STATE_MACHINE_ARN"),
        operations_queue_url=need("OPERATIONS_QUEUE_URL"),
        provider_events_queue_url=need("PROVIDER_EVENTS_QUEUE_URL"),
        notifications_queue_url=need("NOTIFICATIONS_QUEUE_URL"),
        deliveries_queue_url=need("DELIVERIES_QUEUE_URL"),
        projections_queue_url=need("PROJECTIONS_QUEUE_URL"),
        credentials_key_id=need("CREDENTIALS_KEY_ID"),
        public_base_url=need("PUBLIC_BASE_URL").rstrip("/"),
        provider_base_urls=_provider_base_urls(stage, environ.get("PROVIDER_BASE_URLS", "")),
        **_PROFILES[stage],  # type: ignore[arg-type]  # checked by tests/unit/test_config.py
    )


def _provider_base_urls(stage: str, text: str) -> dict[str, str]:
    """The sandbox bank's addresses, from a JSON object; a stage with real money in it takes none."""
    try:
        urls = json.loads(text or "{}")
    except ValueError:
        urls = None
    if not isinstance(urls, dict) or not all(
        isinstance(url, str) and url.startswith(("http://", "https://")) for url in urls.values()
    ):
        raise SettingsError("PROVIDER_BASE_URLS must be a JSON object of URLs by provider")
    if urls and stage not in _WITH_SANDBOX:
        raise SettingsError(f"PROVIDER_BASE_URLS must be empty in stage {stage}: providers are reached where they are")
    return urls


@lru_cache(maxsize=1)
def settings() -> Settings:
    """This process's settings."""
    return load(dict(os.environ))
