"""Builds the store, the providers and everything else once; the only place that names concrete classes."""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config

from chalicelib import config
from chalicelib.domain.timing import Timing
from chalicelib.providers import registry
from chalicelib.providers.http import UrllibHttpClient
from chalicelib.services.kit import Kit
from chalicelib.storage.cache import Cache
from chalicelib.storage.health import Health
from chalicelib.storage.keys import Keys
from chalicelib.storage.limits import Limits
from chalicelib.storage.merchants import Merchants
from chalicelib.storage.people import People
from chalicelib.storage.queries import Queries
from chalicelib.storage.queues import Queues, Workflows
from chalicelib.storage.store import Store
from chalicelib.storage.vault import Vault

if TYPE_CHECKING:
    from collections.abc import Callable

    from chalicelib.config import Settings
    from chalicelib.providers.base import Provider
    from chalicelib.providers.http import HttpClient

# AWS itself: short time-outs, few retries; a lost answer is covered by conditions, never by waiting.
_AWS = Config(connect_timeout=1, read_timeout=5, retries={"mode": "standard", "total_max_attempts": 3})

_HEALTH_TTL = 2.0  # seconds; an outage is noticed that much later


def now() -> datetime:
    """The current time, to the millisecond: what is shown is what is stored."""
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def timing(settings: Settings) -> Timing:
    """The waits of a stage."""
    return Timing(
        lease=settings.lease,
        call=settings.call_lease,
        resolve=settings.resolve_waits,
        sweep=settings.sweep_waits,
        poll=settings.poll_interval,
        watch=settings.watch_waits,
        backoff=settings.retry_backoff,
        backoff_cap=settings.retry_backoff_cap,
        payment_ttl=settings.payment_ttl,
        order_ttl=settings.order_ttl,
        operation=settings.operation_waits,
    )


def providers(http: HttpClient) -> Callable[[str], Provider]:
    """Adapters by name, each built when it is first asked for."""
    return lru_cache(maxsize=None)(lambda name: registry.build(name, http))


def build(
    settings: Settings,
    *,
    http: HttpClient,
    clock: Callable[[], datetime] = now,
    sleep: Callable[[float], None] = time.sleep,
    jitter: Callable[[], float] = random.random,
) -> Kit:
    """Assemble the parts for one stage."""
    vault = Vault(boto3.client("kms", config=_AWS), settings.credentials_key_id)
    merchants = Merchants(settings.prefix, vault, clock, settings.cache_ttl)
    return Kit(
        settings=settings,
        timing=timing(settings),
        store=Store(settings.prefix, merchants.cipher),
        queries=Queries(settings.prefix, merchants.cipher),
        merchants=merchants,
        keys=Keys(settings.prefix, Cache(clock, settings.cache_ttl)),
        people=People(settings.prefix, vault, Cache(clock, settings.cache_ttl)),
        limits=Limits(settings.prefix, clock),
        health=Health(settings.prefix, clock, _HEALTH_TTL),
        queues=Queues(
            boto3.client("sqs", config=_AWS),
            {
                "operations": settings.operations_queue_url,
                "provider-events": settings.provider_events_queue_url,
                "notifications": settings.notifications_queue_url,
                "deliveries": settings.deliveries_queue_url,
                "projections": settings.projections_queue_url,
            },
        ),
        workflows=Workflows(boto3.client("stepfunctions", config=_AWS), settings.state_machine_arn),
        http=http,
        provider=providers(http),
        now=clock,
        sleep=sleep,
        jitter=jitter,
    )


_installed: list[Kit] = []


def kit() -> Kit:
    """This execution environment's parts, built when they are first needed."""
    if not _installed:
        settings = config.settings()
        install(build(settings, http=UrllibHttpClient(settings.connect_timeout, settings.read_timeout)))
    return _installed[0]


def install(parts: Kit) -> None:
    """Make ``parts`` the ones every handler uses: for tests and tools that bring a clock or a bank of their own."""
    _installed[:] = [parts]
