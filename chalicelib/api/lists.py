"""Lists: ``{data, next_cursor}``. A cursor is an opaque word for the last thing that was read."""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING, Any

from chalicelib.api.problems import Refused
from chalicelib.storage.page import Page

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_ULID = "[0-9A-HJKMNP-TV-Z]{26}"
_ACCOUNT = re.compile("[A-Za-z0-9_-]{1,64}")
_MERCHANT = re.compile("mer_[0-9A-Za-z]{1,64}")
_POSITION = re.compile("after:([0-9]{1,8})")


def encode(last: str) -> str:
    """A URL-safe cursor."""
    return base64.urlsafe_b64encode(last.encode()).decode().rstrip("=")


def _decode(cursor: str, form: re.Pattern[str]) -> re.Match[str]:
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        text = ""
    found = form.fullmatch(text)
    if found is None or encode(text) != cursor:
        raise Refused(422, "invalid_cursor", "The cursor is not one this list has given out.", param="cursor")
    return found


def after_id(cursor: str | None, prefix: str) -> str | None:
    """The id a cursor of a list of ``prefix`` ids stands for; raises Refused (422)."""
    return None if cursor is None else _decode(cursor, re.compile(f"{prefix}_{_ULID}")).group()


def after_account(cursor: str | None) -> str | None:
    """The account id a cursor of the provider accounts stands for; raises Refused (422)."""
    return None if cursor is None else _decode(cursor, _ACCOUNT).group()


def after_merchant(cursor: str | None) -> str | None:
    """The merchant id a cursor of the merchants stands for; raises Refused (422)."""
    return None if cursor is None else _decode(cursor, _MERCHANT).group()


def after_position(cursor: str | None) -> int:
    """The position a cursor of a payment's own lists stands for; raises Refused (422)."""
    return 0 if cursor is None else int(_decode(cursor, _POSITION)[1])


def shown(page: Page, render: Callable[[Any], Mapping[str, object]]) -> dict[str, object]:
    """A page as it is answered."""
    return {
        "data": [render(item) for item in page.data],
        "next_cursor": None if page.cursor is None else encode(page.cursor),
    }


def story(
    items: Sequence[Any], start: int, limit: int, render: Callable[[Any], Mapping[str, object]]
) -> dict[str, object]:
    """A page of something that only ever grows at its end; ``items`` begins at position ``start``."""
    more = len(items) > limit
    return {
        "data": [render(item) for item in items[:limit]],
        "next_cursor": encode(f"after:{start + limit}") if more else None,
    }


def merged(pages: Sequence[Page], limit: int) -> Page:
    """One page, newest first, out of the first pages of several lists that were read from the same cursor.

    A list that has more to give has been read only down to its own cursor: what another list has
    below that must wait for the next page, or something between would be skipped.
    """
    edge = max((page.cursor for page in pages if page.cursor is not None), default="")
    by_id = {item.id: item for page in pages for item in page.data if item.id >= edge}
    found = sorted(by_id.values(), key=lambda item: item.id, reverse=True)
    if len(found) > limit:
        return Page(found[:limit], found[limit - 1].id)
    return Page(found, edge or None)
