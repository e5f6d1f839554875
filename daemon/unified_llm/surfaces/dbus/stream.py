"""Lines through a pipe to a reader that may be slow, or leave.

Rule 1: what a slow reader has not taken waits in the kernel's buffer of the pipe and nowhere else.
Rule 2: a reader that leaves is noticed at once, also while there is nothing to write: the write end
of a pipe reports an error when its last read end is closed (poll(2), POLLERR).
"""

import asyncio
import os
from collections.abc import Callable
from typing import Final

from unified_llm.domain.errors import Cancelled
from unified_llm.domain.units import Seconds

STALL_LIMIT: Final = Seconds(30)


class LineWriter:
    """The write end of a pipe. Closing it twice is no error.

    on_hangup: called once, when the reader has closed its end.
    stall_limit: how long the reader may take nothing while there is something to take.
    """

    def __init__(
        self, descriptor: int, on_hangup: Callable[[], None], *, stall_limit: Seconds = STALL_LIMIT
    ) -> None:
        self._descriptor: int | None = descriptor
        self._on_hangup = on_hangup
        self._stall_limit = stall_limit
        self._is_inside_line = False
        os.set_blocking(descriptor, False)
        asyncio.get_running_loop().add_reader(descriptor, self._hung_up)

    async def write(self, line: bytes) -> None:
        """Pass on `line`, waiting for the reader. Raises Cancelled if it has left or stalls."""
        rest = memoryview(line)
        while rest := rest[self._write_some(rest) :]:
            await self._ensure_writable()

    def write_at_once(self, line: bytes) -> None:
        """Pass on `line` if the reader is there and its end is free; else drop it.

        A line begun and not ended leaves no place for another.
        """
        if self._is_inside_line:
            return
        try:
            self._write_some(memoryview(line))
        except Cancelled:
            return

    def close(self) -> None:
        """End the stream; the reader still gets what is in the pipe."""
        if self._descriptor is None:
            return
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._descriptor)
        loop.remove_writer(self._descriptor)
        os.close(self._descriptor)
        self._descriptor = None

    def _write_some(self, rest: memoryview) -> int:
        if self._descriptor is None:
            raise Cancelled("The stream was closed.")
        try:
            written = os.write(self._descriptor, rest)
        except BlockingIOError:
            return 0
        except BrokenPipeError as error:
            raise Cancelled("The reader has closed the stream.") from error
        self._is_inside_line = written < len(rest)
        return written

    async def _ensure_writable(self) -> None:
        if self._descriptor is None:
            raise Cancelled("The stream was closed.")
        loop, descriptor, is_ready = asyncio.get_running_loop(), self._descriptor, asyncio.Event()
        loop.add_writer(descriptor, is_ready.set)
        try:
            async with asyncio.timeout(self._stall_limit):
                await is_ready.wait()
        except TimeoutError as error:
            raise Cancelled(
                f"The reader took nothing for {self._stall_limit:g} s.",
                hint="Read the stream as it comes, or close it.",
            ) from error
        finally:
            if self._descriptor == descriptor:
                loop.remove_writer(descriptor)

    def _hung_up(self) -> None:
        if self._descriptor is not None:
            asyncio.get_running_loop().remove_reader(self._descriptor)
        self._on_hangup()


def open_pipe() -> tuple[int, int]:
    """Read end and write end, neither inherited by children; each is its taker's to close."""
    return os.pipe2(os.O_CLOEXEC)
