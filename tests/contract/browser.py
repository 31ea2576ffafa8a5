"""A customer's browser on the pages that the sandbox's providers host, without sockets or scripts."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit

from infra.sandbox.wire import Request

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infra.sandbox.bank import Bank

_DOMAIN = ".sandbox"
_REDIRECTS = range(300, 400)
_MOST_REDIRECTS = 5


@dataclass(frozen=True)
class Page:
    """A page as the customer sees it: its text, and where its form goes with what it hides."""

    status: int
    text: str
    action: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)
    choices: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Return:
    """What the browser carries back to the shop, in the address or in a form."""

    url: str
    params: dict[str, str]


class _Form(HTMLParser):
    """The first form of a document."""

    def __init__(self) -> None:
        super().__init__()
        self.action: str | None = None
        self.fields: dict[str, str] = {}
        self.choices: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "form" and self.action is None:
            self.action = values.get("action", "")
        elif tag == "input" and "name" in values:
            self.fields[values["name"]] = values.get("value", "")
        elif tag == "button" and values.get("name") == "choice":
            self.choices.add(values["value"])


class Browser:
    """Opens pages, fills in forms and follows redirects until it is back in the shop."""

    def __init__(self, bank: Bank) -> None:
        self._bank = bank

    def get(self, url: str) -> Page | Return:
        """Go to an address."""
        return self._go("GET", url, None)

    def post(self, url: str, fields: Mapping[str, str]) -> Page | Return:
        """Submit a form."""
        return self._go("POST", url, fields)

    def choose(self, page: Page, choice: str, typed: str = "") -> Page | Return:
        """Press a button of a page, with what was typed into its field."""
        assert choice in page.choices, page
        filled = {"instrument": typed} if typed else {}
        return self.post(page.action, {**page.fields, **filled, "choice": choice})

    def _go(self, method: str, url: str, fields: Mapping[str, str] | None) -> Page | Return:
        for _ in range(_MOST_REDIRECTS):
            parts = urlsplit(url)
            if not (parts.hostname or "").endswith(_DOMAIN):
                return Return(url, dict(parse_qsl(parts.query, keep_blank_values=True)) | dict(fields or {}))
            name = (parts.hostname or "").removesuffix(_DOMAIN)
            headers, body = {"host": parts.netloc}, b""
            if fields is not None:
                headers["content-type"], body = "application/x-www-form-urlencoded", urlencode(fields).encode()
            target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
            answer = self._bank.handle(name, Request(method, target, headers, body))
            if answer.status in _REDIRECTS:
                method, url, fields = "GET", urljoin(url, answer.headers["location"]), None
                continue
            form = _Form()
            form.feed(answer.body.decode())
            action = urljoin(url, form.action or "")
            if form.action and not (urlsplit(action).hostname or "").endswith(_DOMAIN):
                method, url, fields = "POST", action, form.fields  # a form that only takes the browser on
                continue
            return Page(answer.status, answer.body.decode(), action, form.fields, frozenset(form.choices))
        message = "redirected in circles"
        raise AssertionError(message)
