"""Bytes of a stream into lines, and lines into Server-Sent Events, however the bytes are cut.

What a server sends is bounded here: a line or an event that does not end takes no more memory than
`MAX_LINE_BYTES`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from unified_llm.domain.errors import ProviderFailed

# The last event of OpenAI's Responses API repeats the whole answer.
MAX_LINE_BYTES: Final = 8 * 1024 * 1024


class LineFramer:
    """Splits at LF, CR and CRLF, as both SSE and JSON lines are read."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._is_after_cr = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Each line that `data` ends, without its end. Raises ProviderFailed."""
        if self._is_after_cr and data:
            data = data.removeprefix(b"\n")
            self._is_after_cr = False
        for line in data.splitlines(keepends=True):
            if len(self._rest) + len(line) > MAX_LINE_BYTES:
                raise _endless("line")
            whole = line.rstrip(b"\r\n")
            if len(whole) == len(line):  # its end has not come
                self._rest += line
                continue
            if self._rest:
                whole = bytes(self._rest + whole)
                self._rest.clear()
            self._is_after_cr = line.endswith(b"\r")
            yield whole

    @property
    def has_rest(self) -> bool:
        """Whether a line has begun and not ended."""
        return bool(self._rest)


class SseEvent(NamedTuple):
    """One event of the HTML standard, section 9.2. kind: `message` unless it is named."""

    kind: str
    data: bytes


@dataclass(slots=True)
class SseFramer:
    """Server-Sent Events from lines. Comments, ids and retry times are read past."""

    _lines: LineFramer = field(default_factory=LineFramer)
    _kind: str = ""
    _data: list[bytes] = field(default_factory=list)
    _size: int = 0
    _is_first: bool = True

    def feed(self, data: bytes) -> Iterator[SseEvent]:
        """Each event that `data` ends. Raises ProviderFailed."""
        for line in self._lines.feed(data):
            if self._is_first:
                self._is_first, line = False, line.removeprefix(b"\xef\xbb\xbf")
            if line:
                self._take(line)
            elif self._data:
                yield SseEvent(self._kind or "message", b"\n".join(self._data))
                self._reset()
            else:
                self._reset()

    def _take(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._size += len(value) + 1
            if self._size > MAX_LINE_BYTES:
                raise _endless("event")
            self._data.append(value)
        elif name == b"event":
            self._kind = value.decode(errors="replace")

    def _reset(self) -> None:
        self._kind, self._size = "", 0
        self._data.clear()


def _endless(what: str) -> ProviderFailed:
    return ProviderFailed(
        f"What the provider sent is no stream: one {what} of it is longer than"
        f" {MAX_LINE_BYTES} bytes."
    )
