"""Posts one webhook; the smallest HTTP client that will do on an event loop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMEOUT = 5.0  # seconds for the whole exchange, as Razorpay allows its receivers
_SUCCESS = range(200, 300)


async def post(url: str, headers: Mapping[str, str], body: bytes) -> bool:
    """Whether the receiver answered 2xx in time."""
    try:
        async with asyncio.timeout(TIMEOUT):
            return await _exchange(url, headers, body) in _SUCCESS
    except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError):
        return False


async def _exchange(url: str, headers: Mapping[str, str], body: bytes) -> int:
    """The status of the answer; raises OSError, ValueError or IncompleteReadError."""
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    reader, writer = await asyncio.open_connection(parts.hostname, port, ssl=secure or None)
    try:
        target = parts.path or "/"
        if parts.query:
            target += f"?{parts.query}"
        sent = {**headers, "host": parts.netloc, "content-length": str(len(body)), "connection": "close"}
        head = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
        writer.write(f"POST {target} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body)
        await writer.drain()
        line = await reader.readuntil(b"\r\n")
        return int(line.split(b" ")[1])
    finally:
        writer.close()
