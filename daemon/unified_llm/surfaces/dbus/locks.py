"""Descriptors that are held like a key: when the last copy of one is closed, its holder is told.

What is handed out is the read end of a pipe to which nothing is ever written. We keep the write
end, and poll(2) reports an error on it when no read end is left; nothing a holder does can reach
us, or keep us busy, but letting go.
"""

import asyncio
import os
from collections.abc import Callable

from unified_llm.surfaces.dbus.stream import open_pipe


class Lock:
    """Our end. on_released: called once, when the other end is closed everywhere."""

    def __init__(self, descriptor: int, on_released: Callable[[], None]) -> None:
        self._descriptor: int | None = descriptor
        self._on_released = on_released
        asyncio.get_running_loop().add_reader(descriptor, self._released)

    def close(self) -> None:
        """Stop watching; the holder's end stays a descriptor without a meaning."""
        if self._descriptor is not None:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = None

    def _released(self) -> None:
        self.close()
        self._on_released()


def open_lock(on_released: Callable[[], None]) -> tuple[Lock, int]:
    """A lock, and the descriptor that holds it, which is the taker's to close."""
    theirs, ours = open_pipe()
    return Lock(ours, on_released), theirs
