"""Times as providers write them; what is none, or of no age that a calendar knows, is None."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import tzinfo


def from_epoch(seconds: int | None) -> datetime | None:
    """A time in seconds since 1970, of which 0 is how some write none."""
    try:
        return datetime.fromtimestamp(seconds, UTC) if seconds else None
    except (OverflowError, OSError, ValueError):
        return None


def from_iso(value: str | None, zone: tzinfo) -> datetime | None:
    """A time in ISO 8601, in UTC; one without a zone is in ``zone``."""
    try:
        at = datetime.fromisoformat(value) if value else None
        return at and (at if at.tzinfo else at.replace(tzinfo=zone)).astimezone(UTC)
    except (OverflowError, ValueError):
        return None
