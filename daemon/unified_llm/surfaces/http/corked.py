"""A transport that sends what is written in one turn of the event loop in one piece.

uvicorn writes the head of an answer, its body and its end one by one, and so it does each event of
a stream. Each write was a system call, and woke the client up for a part of what it waits for.
"""

import asyncio
from typing import Any, Final

MOST_HELD: Final = 16 * 1024
"""Bytes that are held back at most: a writer that never waits must feel that nobody reads."""


class CorkedTransport(asyncio.Transport):
    """`transport`, whose bytes go out at the end of the turn in which they were written."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._transport = transport
        self._loop = loop
        self._held = bytearray()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """As in asyncio."""
        if not self._held and data:
            self._loop.call_soon(self._flush)
        self._held += data
        if len(self._held) > MOST_HELD:
            self._flush()

    def close(self) -> None:
        """As in asyncio: what was written before is sent."""
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        """As in asyncio: what was written before is not sent."""
        self._held.clear()
        self._transport.abort()

    def is_closing(self) -> bool:
        """As in asyncio."""
        return self._transport.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """As in asyncio."""
        return self._transport.get_extra_info(name, default)

    def pause_reading(self) -> None:
        """As in asyncio."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """As in asyncio."""
        self._transport.resume_reading()

    def _flush(self) -> None:
        if self._held and not self._transport.is_closing():
            self._transport.write(bytes(self._held))
        self._held.clear()
