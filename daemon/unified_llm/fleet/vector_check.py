"""Whether what a worker sends can be the vectors that were asked for. Pure."""

import math
import sys
from array import array
from collections.abc import Sequence
from typing import Final

from unified_llm.worker.protocol import MAX_NUMBERS, Call, Delta, Done, Failed, Started, Vector

_BYTES: Final = 4
_ROUNDING: Final = 1e-3  # a vector of 65,536 rounded numbers is off by less


class VectorCheck:
    """Follows the answer to one request: `count` vectors, then Done.

    dimensions: what each must have; None for what the first one has. is_score: each is one finite
    number, and not of length 1.
    """

    def __init__(self, count: int, dimensions: int | None, *, is_score: bool = False) -> None:
        self._due = count
        self._count = count
        self._dimensions = dimensions
        self._is_score = is_score

    def complaint(self, frame: Started | Delta | Call | Vector | Done | Failed) -> str | None:
        """What is wrong with the next frame, as half a sentence; None if nothing is."""
        match frame:
            case Delta() | Call():
                return "answered with text"
            case Done() if self._due:
                return f"ended with {self._due} vectors missing"
            case Vector(numbers=numbers):
                return self._of_vector(numbers)
            case _:
                return None

    def _of_vector(self, numbers: bytes) -> str | None:
        if not self._due:
            return f"answered with more than {self._count} vectors"
        self._due -= 1
        dimensions, rest = divmod(len(numbers), _BYTES)
        self._dimensions = self._dimensions or dimensions
        if rest or dimensions != self._dimensions or dimensions * self._count > MAX_NUMBERS:
            return f"answered with a vector of {len(numbers)} bytes"
        length = math.hypot(*numbers_of(numbers))
        is_sound = math.isfinite(length) if self._is_score else abs(length - 1) < _ROUNDING
        return None if is_sound else f"answered with a vector of length {length}"


def numbers_of(packed: bytes) -> Sequence[float]:
    """The numbers of a Vector's bytes."""
    numbers = array("f", packed)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers
