"""Looks for marked secrets in every place they could have got to: rows, queues, requests, logs, answers."""

from __future__ import annotations

import base64
import hashlib
import logging
import re
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from chalicelib import wiring
from chalicelib.observability import logger
from tests.support import search

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from chalicelib.providers.http import HttpAnswer, HttpClient
    from tests.support.api import Api
    from tests.support.world import World


@dataclass(slots=True)
class Wire:
    """An HttpClient that notes what it sends."""

    inner: HttpClient
    sent: list[str] = field(default_factory=list)

    def request(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes | None = None,
        read_timeout: float | None = None,
    ) -> HttpAnswer:  # fmt: skip
        self.sent.append(f"{method} {url} {dict(headers)} {body!r}")
        return self.inner.request(method, url, headers=headers, body=body, read_timeout=read_timeout)


class _Ear(logging.Handler):
    """Keeps every record with all that hangs on it, as the formatter of the handlers would write it."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.heard: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.heard.append(f"{record.getMessage()} {record.__dict__}")
        if record.exc_info:
            self.heard.append(logging.Formatter().formatException(record.exc_info))


@dataclass(slots=True)
class Watch:
    """What a world has written down, sent or logged since it was watched."""

    api: Api
    wire: Wire
    log: _Ear

    def traces(self) -> Iterator[tuple[str, str]]:
        """Every text, with where it was found."""
        yield from written(self.api.world)
        yield from (("provider", sent) for sent in self.wire.sent)
        yield from (("log", line) for line in self.log.heard)

    def found(self, secret: str) -> list[str]:
        """The places where a secret lies, in clear or in a hash that anybody can make."""
        return found_in(self.traces(), secret)


def written(world: World) -> Iterator[tuple[str, str]]:
    """All that a world has stored, queued, started and delivered; what has been overwritten too, if traffic is kept."""
    yield from search.world_texts(world)
    for operation, body, answer in world.traffic or ():
        yield operation, f"{body} {answer}"
        for action in body.get("TransactItems", ()):
            yield from ((operation, text) for text in search.row_texts(action.get("Put", {}).get("Item", {})))
    yield from world.sent
    yield from (("merchant's inbox", repr(delivery)) for delivery in world.inbox)


def found_in(texts: Iterable[tuple[str, str]], secret: str) -> list[str]:
    """Where a secret lies among texts, in clear or in a hash that anybody can make."""
    hashes = [hashlib.new(name, secret.encode()).hexdigest() for name in ("md5", "sha1", "sha256", "sha512")]
    encoded = base64.b64encode(secret.encode()).decode().rstrip("=")
    forms = [rf"(?<![\w.]){re.escape(secret)}(?!\w)", *hashes, *([re.escape(encoded)] if len(secret) > 8 else [])]
    wanted = re.compile("|".join(forms))
    return [f"{where}: {text[:300]}" for where, text in texts if wanted.search(text)]


@contextmanager
def watching(api: Api, libraries: int = logging.DEBUG) -> Iterator[Watch]:
    """Hear every log record at the finest level, of libraries at theirs, and see every request to a provider."""
    before = api.world.kit
    wire, ear = Wire(before.http), _Ear()
    api.world.bring(replace(before, http=wire, provider=wiring.providers(wire)))
    root = logging.getLogger()  # our logger's records come here too
    levels = logger.log_level, root.level
    logger.setLevel(logging.DEBUG)
    root.setLevel(libraries)
    root.addHandler(ear)
    try:
        yield Watch(api, wire, ear)
    finally:
        root.removeHandler(ear)
        logger.setLevel(levels[0])
        root.setLevel(levels[1])
        api.world.bring(before)
