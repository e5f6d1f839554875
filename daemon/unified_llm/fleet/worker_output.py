"""What a worker prints, forwarded to the log.

A worker that has read a hostile file may print anything, without end: lines are cut, control
characters shown as escapes, and what comes too fast is counted instead of kept.
"""

import asyncio
import logging
import os
from collections.abc import Iterator

from unified_llm.domain.ports import Clock
from unified_llm.domain.units import Instant, Seconds, later

_log = logging.getLogger(__name__)

LINE_BYTES = 1000
LINES_PER_WINDOW = 200
WINDOW = Seconds(10.0)
_READ_BYTES = 64 * 1024
_LAST_WORDS_BYTES = 256 * 1024


class LineCutter:
    """Turns a byte stream into printable lines of at most LINE_BYTES bytes each."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[str]:
        """The lines completed by `data`; a longer line comes in pieces."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            yield from _pieces(line)
        while len(self._rest) > LINE_BYTES:
            yield render_line(self._rest[:LINE_BYTES])
            self._rest = self._rest[LINE_BYTES:]

    def finish(self) -> Iterator[str]:
        """What was printed without a final line end."""
        rest, self._rest = self._rest, b""
        yield from _pieces(rest)


def _pieces(line: bytes) -> Iterator[str]:
    for start in range(0, len(line), LINE_BYTES):
        yield render_line(line[start : start + LINE_BYTES])


def render_line(line: bytes) -> str:
    """Untrusted bytes as one harmless line of text."""
    text = line.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class WorkerOutput:
    """Reads the pipe that is a worker's standard output and error. Takes over the descriptor."""

    def __init__(self, descriptor: int, name: str, clock: Clock) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self._name = name
        self._clock = clock
        self._cutter = LineCutter()
        self._window_ends = Instant(0.0)
        self._left = 0
        self._dropped = 0
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(descriptor, self._on_readable)

    def close(self) -> None:
        """Forward what is still in the pipe, such as the message of a failed assertion."""
        self._loop.remove_reader(self._descriptor)
        taken = 0
        while taken < _LAST_WORDS_BYTES and (data := self._read()):
            taken += len(data)
            self._forward(self._cutter.feed(data))
        self._forward(self._cutter.finish())
        self._tell_dropped()
        os.close(self._descriptor)

    def _on_readable(self) -> None:
        data = self._read()
        if not data:
            self._loop.remove_reader(self._descriptor)
        self._forward(self._cutter.feed(data))

    def _read(self) -> bytes:
        try:
            return os.read(self._descriptor, _READ_BYTES)
        except BlockingIOError:
            return b""

    def _forward(self, lines: Iterator[str]) -> None:
        now = self._clock.now()
        if now >= self._window_ends:
            self._tell_dropped()
            self._window_ends, self._left = later(now, WINDOW), LINES_PER_WINDOW
        for line in lines:
            if self._left > 0:
                self._left -= 1
                _log.info("%s: %s", self._name, line)
            else:
                self._dropped += 1

    def _tell_dropped(self) -> None:
        if self._dropped:
            _log.warning("%s: %d more lines were printed and dropped", self._name, self._dropped)
        self._dropped = 0
