"""What pages are made of: a fixed set of files, read once. No path of a request ever reaches the disk."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

_HERE = Path(__file__).parent / "static"
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class Assets:
    """The files by name; ``version`` changes when any of them does."""

    version: str
    files: dict[str, bytes]

    def get(self, version: str, name: str) -> tuple[bytes, str] | None:
        """A file and its media type; None if there is none of that name in that version."""
        body = self.files.get(name) if version == self.version else None
        return None if body is None else (body, _TYPES[Path(name).suffix])

    def page(self, name: str) -> bytes:
        """An HTML file whose addresses of other files carry the version."""
        return self.files[name].replace(b"{version}", self.version.encode())


@lru_cache(maxsize=1)
def assets() -> Assets:
    """This release's files."""
    files = {path.name: path.read_bytes() for path in sorted(_HERE.iterdir()) if path.suffix in _TYPES}
    digest = hashlib.sha256()
    for name, body in files.items():
        digest.update(f"{name}\0{len(body)}\0".encode() + body)
    return Assets(digest.hexdigest()[:16], files)
