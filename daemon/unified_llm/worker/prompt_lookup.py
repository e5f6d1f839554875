"""Drafts what comes next from what came before: prompt lookup.

Where the last few tokens have occurred earlier in the sequence, what followed them then is likely
to follow now: answers quote, correct and rewrite their prompts. No second model is needed.
Method: A. Saxena, "Prompt Lookup Decoding" (2023).
"""

from array import array
from collections.abc import Iterable
from typing import Final

# How many tokens have to be the same, the most telling first.
_MATCHES: Final = (8, 5, 3)
# Places alike by chance are few; a prompt made of nothing else would hold up everybody's step.
_MOST_SHIFTED: Final = 1000
_UNSIGNED: Final = "I"
_TOKEN_BYTES: Final = array(_UNSIGNED).itemsize


class PromptLookup:
    """The tokens of one sequence, prompt and answer, and what they foretell."""

    def __init__(self, tokens: Iterable[int]) -> None:
        # Bytes are searched at the speed of memory, so there is no index to build and to keep.
        self._data = bytearray(array(_UNSIGNED, tokens))

    def extend(self, token: int) -> None:
        """One more token is known."""
        self._data += array(_UNSIGNED, (token,))

    def draft(self, most: int) -> tuple[int, ...]:
        """What may come next: so many tokens, or none where nothing before is alike.

        It goes on from the latest place that is alike, and where that runs into the end, from its
        own beginning, as with texts that repeat themselves.
        """
        for match in _MATCHES:
            place = self._find(match * _TOKEN_BYTES)
            if place is not None:
                return self._copy(place, most)
        return ()

    def _find(self, size: int) -> int | None:
        """Where the latest earlier occurrence of the last `size` bytes ends."""
        data = self._data
        if len(data) <= size:
            return None
        wanted, end = data[-size:], len(data) - _TOKEN_BYTES
        for _ in range(_MOST_SHIFTED):
            found = data.rfind(wanted, 0, end)
            if found < 0:
                return None
            if found % _TOKEN_BYTES == 0:
                return found + size
            end = found + size - 1  # it was across the borders of tokens
        return None

    def _copy(self, place: int, most: int) -> tuple[int, ...]:
        tokens = array(_UNSIGNED, bytes(self._data[place : place + most * _TOKEN_BYTES]))
        return tuple(tokens[i % len(tokens)] for i in range(most))
