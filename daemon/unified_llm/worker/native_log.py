"""What llama.cpp says while it works: warnings for the journal, reasons, and allocated bytes.

The bytes are read from lines such as `CPU KV buffer size = 90.00 MiB`: the exact figures exist
only behind a C++ interface. The wording belongs to the pinned version; a test reads a real load.
"""

import re
import sys
from collections.abc import Callable
from typing import Final

_INFO, _WARN, _ERROR, _CONTINUED = 2, 3, 4, 5
_BUFFER: Final = re.compile(r"buffer size\s*=\s*(\d+(?:\.\d+)?) MiB")
_MIB: Final = 1024 * 1024
_MAX_CHARACTERS: Final = 500


def _to_stderr(line: str) -> None:
    sys.stderr.write(f"llama.cpp: {line}\n")
    sys.stderr.flush()


class NativeLog:
    """Takes the log text of native code, which comes in pieces.

    write: takes one line of a warning or an error; none of them holds a prompt, since all text
    passes through the tokeniser only.
    """

    def __init__(self, write: Callable[[str], None] = _to_stderr) -> None:
        self._write = write
        self._level = _INFO
        self._rest = ""
        self._bytes = 0
        self._error = ""

    @property
    def bytes_allocated(self) -> int | None:
        """Sum of the buffers announced so far; None if there was none."""
        return self._bytes or None

    def reason(self) -> str:
        """The first error as the tail of a sentence, or nothing; later ones say less."""
        return f": {self._error}" if self._error else ""

    def take(self, level: int, text: bytes) -> None:
        """The next piece; a line may be spread over several, continued with a level of its own."""
        self._level = self._level if level == _CONTINUED else level
        *lines, self._rest = (self._rest + text.decode(errors="replace")).split("\n")
        self._rest = self._rest[-_MAX_CHARACTERS:]
        for line in lines:
            self._take_line(_clean(line))

    def _take_line(self, line: str) -> None:
        if self._level < _WARN:
            self._bytes += sum(round(float(size) * _MIB) for size in _BUFFER.findall(line))
            return
        if self._level == _ERROR and not self._error:
            self._error = line.rstrip(".")
        self._write(line)


def _clean(line: str) -> str:
    """A model file can put anything into a message: one line, printable, bounded."""
    return "".join(each if each.isprintable() else "?" for each in line)[:_MAX_CHARACTERS]
