"""A cursor over untrusted bytes: little-endian numbers and strings, never past a stated end."""

from collections.abc import Iterator
from struct import Struct
from typing import Final, Protocol

U32: Final = Struct("<I")
U64: Final = Struct("<Q")

_WINDOW_BYTES: Final = 256 * 1024


class NotAModel(Exception):
    """The bytes are not a model we would give to native code.

    Its text is one sentence that says which check failed, with the numbers.
    """


class BelongsToAModel(NotAModel):
    """The bytes are a right GGUF file that only serves together with a model.

    Its text says what it is.
    """


class ByteSource(Protocol):
    """Something that can be read at any place, such as an open file."""

    def read_at(self, offset: int, length: int) -> bytes:
        """`length` bytes from `offset`; fewer only where the source ends. May raise OSError."""


class Cursor:
    """Reads forward from `position`; whatever would pass `end` raises NotAModel.

    Bytes are fetched through a window, so memory does not grow with what is read.
    """

    def __init__(self, source: ByteSource, end: int) -> None:
        self.position = 0
        self._source = source
        self._end = end
        self._window = b""
        self._window_start = 0

    def at(self, position: int) -> "Cursor":
        """Another cursor over the same bytes, standing at `position`."""
        other = Cursor(self._source, self._end)
        other.position = position
        return other

    def require(self, length: int, what: str) -> None:
        """Raise NotAModel unless `length` more bytes are there for `what`."""
        if length > self._end - self.position:
            raise NotAModel(
                f"{what} needs {length} bytes at byte {self.position}, and the header may only "
                f"reach to byte {self._end}."
            )

    def take(self, length: int, what: str) -> bytes:
        """The next `length` bytes, which are read at once: the caller bounds them."""
        self.require(length, what)
        start = self.position - self._window_start
        if not 0 <= start <= len(self._window) - length:
            self._refill(max(length, _WINDOW_BYTES), length, what)
            start = 0
        self.position += length
        return self._window[start : start + length]

    def skip(self, length: int, what: str) -> None:
        """Pass over `length` bytes without reading them."""
        self.require(length, what)
        self.position += length

    def number(self, shape: Struct, what: str) -> int:
        """The next integer, of the given shape."""
        value: int = shape.unpack(self.take(shape.size, what))[0]
        return value

    def string(self, longest: int, what: str) -> bytes:
        """The next length-prefixed string, of at most `longest` bytes."""
        return self.take(self._string_length(longest, what), what)

    def skip_string(self, longest: int, what: str) -> int:
        """Pass over the next string; its length in bytes."""
        length = self._string_length(longest, what)
        self.skip(length, what)
        return length

    def strings(self, count: int, longest: int, what: str) -> Iterator[bytes]:
        """The next `count` strings. `position` is right only when the iterator is used up."""
        return (window[start:end] for window, start, end in self._spans(count, longest, what))

    def skip_strings(self, count: int, longest: int, what: str) -> None:
        """Pass over the next `count` strings, checking only their lengths."""
        for _ in self._spans(count, longest, what):
            pass

    def _string_length(self, longest: int, what: str) -> int:
        length = self.number(U64, what)
        if length > longest:
            raise NotAModel(f"{what} is {length} bytes long; at most {longest} are accepted.")
        return length

    def _spans(self, count: int, longest: int, what: str) -> Iterator[tuple[bytes, int, int]]:
        """Where each string lies in a window.

        One loop over local names, because vocabularies hold half a million strings and a call for
        each would take seconds.
        """
        self.require(count * U64.size, what)
        length_at = U64.unpack_from
        window, start, limit = b"", 0, 0
        for _ in range(count):
            if start + U64.size > limit:
                window, start, limit = self._window_from(self.position, U64.size, what)
            (length,) = length_at(window, start)
            if length > longest:
                raise NotAModel(f"{what} holds a string of {length} bytes; the limit is {longest}.")
            size = U64.size + length
            if start + size > limit:
                window, start, limit = self._window_from(self.position, size, what)
            yield window, start + U64.size, start + size
            start += size
            self.position += size

    def _window_from(self, position: int, needed: int, what: str) -> tuple[bytes, int, int]:
        self.position = position
        self.require(needed, what)
        self._refill(max(needed, _WINDOW_BYTES), needed, what)
        return self._window, 0, len(self._window)

    def _refill(self, wanted: int, needed: int, what: str) -> None:
        length = min(wanted, self._end - self.position)
        self._window = self._source.read_at(self.position, length)
        self._window_start = self.position
        if len(self._window) < needed:
            raise NotAModel(
                f"The file ended at byte {self.position + len(self._window)}, inside {what}."
            )
