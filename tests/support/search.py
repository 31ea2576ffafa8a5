"""Looks for marked values: in any text, in what hides in it as base64 or zlib, in a world, in files, in the log.

Knows nothing of the application, so that it can listen before any of it is imported.
"""

from __future__ import annotations

import base64
import binascii
import io
import logging
import re
import zipfile
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.support import marks

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from tests.support.marks import Marks
    from tests.support.world import World

_AROUND = 200
_SEPARATORS = (" ", "-", ".", "+")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{12,}={0,2}")
_URL_SAFE = str.maketrans("-_", "+/")
_DEPTH = 3  # base64 of zlib of a text with base64 in it
_ANY_ZLIB = 32 + zlib.MAX_WBITS  # zlib or gzip


@dataclass(frozen=True, slots=True)
class Find:
    """A marked value that lies in clear."""

    kind: str
    where: str
    around: str

    def __str__(self) -> str:
        return f"{self.kind} in {self.where}: {self.around}"


class Leak(AssertionError):
    """Marked values lie in clear."""

    def __init__(self, finds: Iterable[Find]) -> None:
        lines = list(dict.fromkeys(str(find) for find in finds))
        super().__init__("\n".join([f"{len(lines)} marked values lie in clear", *lines[:20]]))


def found(where: str, text: str, wanted: Marks, depth: int = _DEPTH) -> Iterator[Find]:
    """The first of each mark in a text and in what is encoded in it."""
    squeezed = text
    for separator in _SEPARATORS:
        squeezed = squeezed.replace(separator, "")
    for mark in wanted:
        for written in (text, squeezed) if mark.squeezed else (text,):
            hit = mark.shape.search(written) if mark.needle in written else None
            if hit is not None:
                around = written[max(0, hit.start() - _AROUND // 2) : hit.end() + _AROUND // 2]
                yield Find(mark.kind, where, around)
                break
    if depth:
        inner = "\n".join(_decoded(text))
        if inner:
            yield from found(f"{where}, encoded", inner, wanted, depth - 1)


def _decoded(text: str) -> Iterator[str]:
    for run in _BASE64.finditer(text):
        digits = run[0].rstrip("=").translate(_URL_SAFE)
        try:
            raw = base64.b64decode(digits[: len(digits) - (len(digits) % 4 == 1)] + "=" * (-len(digits) % 4))
        except binascii.Error:
            continue
        yield from opened(raw)


def opened(raw: bytes) -> Iterator[str]:
    """Bytes as a text, and as the text that is compressed in them."""
    yield raw.decode("latin-1")
    if raw[:1] in (b"\x78", b"\x1f"):
        try:
            yield zlib.decompressobj(_ANY_ZLIB).decompress(raw).decode("utf-8", "replace")
        except zlib.error:
            return


# -- places ----------------------------------------------------------------------------------------


def row_texts(item: Mapping[str, Any]) -> Iterator[str]:
    """A row as on the wire, and its binary attributes opened; boto3 has decoded them, the wire has not."""
    yield str(item)
    for typed in item.values():
        if "B" in typed:
            raw = typed["B"]
            yield from opened(raw if isinstance(raw, bytes) else base64.b64decode(raw))


def world_texts(world: World) -> Iterator[tuple[str, str]]:
    """All that a world has stored, ever queued, or given up, with where it lies."""
    for name, table in world.dynamo.tables.items():
        for item in table.items():
            for text in row_texts(item):
                yield name, text
    for name, queue in world.queues.items():
        yield from ((name, message.body) for message in queue)
    yield from world.sent
    yield from (("dead letters", message.body) for _, message in world.dead)
    yield from (("executions", f"{one.name} {one.data} {one.history}") for one in world.executions.values())


def in_world(world: World, wanted: Marks | None = None) -> list[Find]:
    """The marked values in a world's tables, queues, dead letters and executions."""
    places: dict[str, list[str]] = {}
    for where, text in world_texts(world):
        places.setdefault(where, []).append(text)
    chosen = marks.SEARCHED if wanted is None else wanted
    return [find for where, texts in places.items() for find in found(where, "\n".join(texts), chosen)]


def in_tables(client: Any, wanted: Marks | None = None) -> list[Find]:
    """The marked values in every table behind a boto3 client of DynamoDB."""
    finds: list[Find] = []
    for name in client.list_tables()["TableNames"]:
        pages = client.get_paginator("scan").paginate(TableName=name)
        texts = [text for page in pages for item in page["Items"] for text in row_texts(item)]
        finds += found(name, "\n".join(texts), marks.SEARCHED if wanted is None else wanted)
    return finds


def is_sampled(world: World) -> bool:
    """Whether a world is searched: each is that was left alone, and of those with a fault one in four.

    They are thousands and differ in one moment each; the fault's own number and kind choose, so that every
    run of the suite searches the same ones.
    """
    fault = world.fault
    if fault is None:
        return True
    return zlib.crc32(f"{fault.kind} {fault.at} {len(world.points)} {world.seed}".encode()) % 4 == 0


def in_files(home: Path, wanted: Marks, spared: tuple[str, ...] = (), only: tuple[str, ...] = ("",)) -> list[Find]:
    """The marked values in the files below a directory, whatever they are, also inside zip files.

    Of the files' names ``only`` and ``spared`` are how those begin that are searched, and that are not.
    """
    finds: list[Find] = []
    for file in sorted(path for path in home.rglob("*") if path.is_file() and not path.is_symlink()):
        name = file.relative_to(home).as_posix()
        if name.startswith(only) and not name.startswith(spared):
            finds += in_bytes(name, file.read_bytes(), wanted)
    return finds


def in_bytes(where: str, raw: bytes, wanted: Marks) -> list[Find]:
    """The marked values in a file's content."""
    if raw.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            members = [(f"{where}/{name}", archive.read(name)) for name in archive.namelist()]
        return [find for name, content in members for find in in_bytes(name, content, wanted)]
    return [find for text in opened(raw) for find in found(where, text, wanted)]


# -- the log ---------------------------------------------------------------------------------------


@dataclass(slots=True)
class Overheard:
    """What the ear has found and nobody has asked for yet."""

    finds: list[Find] = field(default_factory=list)

    def take(self) -> list[Find]:
        """The finds since the last time."""
        taken, self.finds = self.finds, []
        return taken


class Ear(logging.Handler):
    """Searches every record of the suite at the levels that it runs with.

    Below INFO it hears our own logger only: AWS's library shows there what it sends, and no stage runs with that.
    """

    def __init__(self, overheard: Overheard, wanted: Marks | None = None) -> None:
        super().__init__(logging.NOTSET)
        self._overheard = overheard
        self._wanted = marks.SEARCHED if wanted is None else wanted

    def filter(self, record: logging.LogRecord) -> bool:
        """Everything: Powertools' Logger gives root's handlers a filter that drops its own records."""
        return True

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno < logging.INFO and record.name != "railyard":
            return
        said = f"{record.getMessage()} {record.__dict__}{_causes(record)}"
        self._overheard.finds += found(f"the log of {record.name}", said, self._wanted)


def _causes(record: logging.LogRecord) -> str:
    """What a traceback says beside lines of code: its exceptions, with those behind them."""
    seen: list[BaseException] = []
    error = record.exc_info[1] if record.exc_info else None
    while error is not None and not any(error is known for known in seen):  # a chain may be a circle
        seen.append(error)
        error = error.__cause__ or error.__context__
    return "".join(f"\n{error!r} {error}" for error in seen)
