"""When a payment may be tried once more, where, and how long that waits: a merchant's policy, as data.

No policy reaches what decides about money: only an attempt that was definitely declined, or never
sent, is followed by another one, and never after an answer of the classes in ``FORBIDDEN``.

Waits are exponential with full jitter: a random part of min(cap, base · 2ⁿ). Source: M. Brooker,
"Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from chalicelib.domain import readers
from chalicelib.domain.errors import ErrorClass
from chalicelib.domain.states import AttemptStatus

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from chalicelib.domain.model import Attempt
    from chalicelib.domain.timing import Timing

NOT_SENT = "not_sent"  # stands beside the error classes: the request never reached the provider
LONGEST_WAIT = 300.0  # seconds; a provider that asks for more is not waited for
MAX_SECONDS = 3600  # the workflow's own time-out counts on it
_MAX_PROVIDER_TABLES = 20
_PROVIDER = re.compile(r"[a-z][a-z0-9_]{0,31}")


@dataclass(frozen=True, slots=True)
class Again:
    """What may follow an attempt that ended in one way; seconds, or None for the stage's own (settings.md)."""

    same_provider: bool
    other_provider: bool
    backoff: int | None = None
    backoff_cap: int | None = None


# Who refused because of the merchant's settings there does so again; who was down may be down for longer.
DEFAULTS: Mapping[str, Again] = {
    ErrorClass.CONFIG: Again(same_provider=False, other_provider=True),
    ErrorClass.RATE_LIMITED: Again(same_provider=True, other_provider=True),
    ErrorClass.PROVIDER_UNAVAILABLE: Again(same_provider=False, other_provider=True),
    ErrorClass.TECHNICAL_DECLINE: Again(same_provider=True, other_provider=True),
    NOT_SENT: Again(same_provider=True, other_provider=True),
}
FORBIDDEN: Mapping[str, str] = {
    ErrorClass.TIMEOUT_UNKNOWN: "A charge may live after this; it is never followed by another one.",
    ErrorClass.CONFLICT: "A charge may live after this; it is never followed by another one.",
    ErrorClass.DECLINED_ISSUER: "Another provider asks the same bank; this is never tried again.",
    ErrorClass.DECLINED_CUSTOMER: "The customer said no; this is never tried again.",
    ErrorClass.DECLINED_RISK: "This was refused as a risk; it is never tried again.",
    ErrorClass.INVALID_REQUEST: "The request itself is wrong; it is never tried again.",
}
# Under a class of its own although nothing was sent: settings, and a provider that said when.
_OWN_CLASS = (ErrorClass.CONFIG, ErrorClass.RATE_LIMITED)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """A merchant's limits on further attempts. ``classes`` and ``providers`` go by error class, or NOT_SENT."""

    max_attempts: int = 3
    max_providers: int = 2  # accounts, strictly: two at one provider count as two
    max_seconds: int = 600  # after the first attempt began; none begins later
    classes: Mapping[str, Again] = field(default_factory=lambda: DEFAULTS)
    providers: Mapping[str, Mapping[str, Again]] = field(default_factory=dict)  # where they differ from classes

    def after(self, attempt: Attempt) -> Again | None:
        """What may follow this attempt; None if nothing may, by no policy."""
        kind = _kind(attempt)
        if kind is None or kind in FORBIDDEN:
            return None
        return self.providers.get(attempt.provider, {}).get(kind) or self.classes.get(kind, DEFAULTS[kind])

    def backoff(self, last: Attempt | None, timing: Timing) -> tuple[float, float]:
        """Base and cap (seconds) of the wait after ``last``."""
        again = None if last is None else self.after(last)
        base = timing.backoff if again is None or again.backoff is None else float(again.backoff)
        if again is None or again.backoff_cap is None:
            return base, max(base, timing.backoff_cap)
        return base, float(again.backoff_cap)

    def ends_at(self, attempts: Sequence[Attempt]) -> datetime | None:
        """From when on no attempt may begin any more; None before the first one."""
        if not attempts:
            return None
        return min(attempt.created_at for attempt in attempts) + timedelta(seconds=self.max_seconds)


def _kind(attempt: Attempt) -> str | None:
    """How an attempt ended, as policies call it; None if it may be or become a charge."""
    error_class = attempt.error.error_class if attempt.error else None
    if attempt.status is AttemptStatus.NOT_SENT:
        return error_class if error_class in _OWN_CLASS else NOT_SENT
    return error_class if attempt.status is AttemptStatus.DECLINED else None


def asked_to_wait(attempts: Sequence[Attempt], account: str, at: datetime) -> datetime | None:
    """Until when an account has asked us not to call it, if that is not over."""
    asked = [a.retry_at for a in attempts if a.account == account and a.retry_at is not None and a.retry_at > at]
    return max(asked, default=None)


# -- in and out as JSON ----------------------------------------------------------------------------


def _seconds(value: object, path: str) -> int | None:
    return None if value is None else int(readers.whole(0, int(LONGEST_WAIT))(value, path))


def _flag(value: object, path: str) -> bool:
    if not isinstance(value, bool):
        readers.refuse(path, "true or false is expected.")
    return value


_AGAIN: Mapping[str, readers.Reader] = {
    "same_provider": _flag, "other_provider": _flag, "backoff": _seconds, "backoff_cap": _seconds,
}  # fmt: skip


def _classes(value: object, path: str, base: Mapping[str, Again]) -> dict[str, Again]:
    """All of ``base``, changed as ``value`` says."""
    given = readers.object_of(value, path)
    for name in given:
        if name in FORBIDDEN:
            readers.refuse(readers.join(path, name), FORBIDDEN[name])
    readers.object_of(given, path, frozenset(map(str, DEFAULTS)))
    found = dict(base)
    for name, entry in given.items():
        at = readers.join(path, name)
        again = replace(base[name], **readers.fields(entry, at, _AGAIN))
        if again.backoff is not None and again.backoff_cap is not None and again.backoff > again.backoff_cap:
            readers.refuse(readers.join(at, "backoff"), "More than backoff_cap.")
        found[name] = again
    return found


def _provider(value: object, path: str) -> str:
    if not isinstance(value, str) or not _PROVIDER.fullmatch(value):
        readers.refuse(path, "A provider's name is expected.")
    return value


def parse(value: object, path: str = "retry") -> RetryPolicy:
    """A policy from JSON as ``to_dict`` writes it; what is not given is the default. Raises InvalidRequest."""
    limits: dict[str, Any] = {
        "max_attempts": readers.whole(1, 5),
        "max_providers": readers.whole(1, 4),
        "max_seconds": readers.whole(1, MAX_SECONDS),
    }
    as_is: readers.Reader = lambda entry, _: entry  # noqa: E731 - read below, where the defaults are known
    given = readers.fields(value, path, limits | {"errors": as_is, "providers": as_is})
    classes = _classes(given.pop("errors", {}), readers.join(path, "errors"), DEFAULTS)

    def overrides(entry: object, at: str) -> dict[str, Again]:
        return _differing(_classes(entry, at, classes), classes)

    table = readers.table(_provider, overrides, _MAX_PROVIDER_TABLES)
    providers = table(given.pop("providers", {}), readers.join(path, "providers"))
    return RetryPolicy(**given, classes=classes, providers={name: kinds for name, kinds in providers.items() if kinds})


def check(policy: RetryPolicy, path: str = "retry") -> None:
    """Refuse what can be read and has no meaning; not part of ``parse``, which has to read what is stored."""
    tables = {readers.join(path, "errors"): policy.classes}
    tables |= {f"{readers.join(path, 'providers')}.{name}": kinds for name, kinds in policy.providers.items()}
    for at, kinds in tables.items():
        again = kinds.get(ErrorClass.CONFIG)
        if again is not None and again.same_provider:
            detail = "The account's settings at the provider refuse every attempt; it is not tried again there."
            readers.refuse(f"{at}.{ErrorClass.CONFIG}.same_provider", detail)


def to_dict(policy: RetryPolicy) -> dict[str, object]:
    """The whole policy as JSON, defaults and all."""
    return {
        "max_attempts": policy.max_attempts,
        "max_providers": policy.max_providers,
        "max_seconds": policy.max_seconds,
        "errors": {str(kind): _again_dict(again) for kind, again in policy.classes.items()},
        "providers": {
            name: {str(kind): _again_dict(again) for kind, again in kinds.items()}
            for name, kinds in policy.providers.items()
        },
    }


def to_stored(policy: RetryPolicy) -> dict[str, object]:
    """Only what differs from the defaults, so that a default that changes reaches those who never chose; see parse."""
    default = RetryPolicy()
    stored: dict[str, object] = {
        name: value
        for name in ("max_attempts", "max_providers", "max_seconds")
        if (value := getattr(policy, name)) != getattr(default, name)
    }
    if errors := _changes(policy.classes, DEFAULTS):
        stored["errors"] = errors
    if providers := {
        name: changes for name, kinds in policy.providers.items() if (changes := _changes(kinds, policy.classes))
    }:
        stored["providers"] = providers
    return stored


def _again_dict(again: Again) -> dict[str, object]:
    return {entry.name: getattr(again, entry.name) for entry in fields(Again)}


def _differing(kinds: Mapping[str, Again], base: Mapping[str, Again]) -> dict[str, Again]:
    return {kind: again for kind, again in kinds.items() if again != base[kind]}


def _changes(kinds: Mapping[str, Again], base: Mapping[str, Again]) -> dict[str, object]:
    """Of each class the fields that are not as in ``base``."""
    return {
        str(kind): {name: value for name, value in _again_dict(again).items() if value != getattr(base[kind], name)}
        for kind, again in _differing(kinds, base).items()
    }
