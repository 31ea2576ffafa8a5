"""One page of a list."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


class Page(NamedTuple):
    """Newest first; ``cursor`` is the last id read, or None at the end."""

    data: Sequence[Any]
    cursor: str | None
