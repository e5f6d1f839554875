"""Whose step is next, where sequences of one model are computed with different adapters.

llama.cpp applies adapters to a context, and so to all that is in a step: a step is for the
sequences of one adapter, or for those of none. They take turns: whoever has had none for longest is
next, so a sequence waits for one turn of each of the others at most, however many requests come.

A turn is several steps, as setting another adapter has llama.cpp plan its graphs anew: 19 ms beside
a step of 23 ms (SmolLM2-135M, two sequences, one thread, processor time). It is few of them, as all
others wait meanwhile, and a piece of a prompt is a turn of its own.
"""

from collections.abc import Iterable
from typing import Final

TURN_TOKENS: Final = 8
"""Of each sequence: so many steps of a turn, if nothing but answers are computed in it."""


class AdapterTurns:
    """Remembers who has had a turn. An adapter is told by its name; None is the model alone."""

    def __init__(self) -> None:
        self._line: list[str | None] = []  # whose turn began longest ago comes first
        self._left = 0  # of the turn that began last

    def next_of(self, wanting: Iterable[str | None]) -> str | None:
        """Who of those that want a step, at least one, is to have it; asking changes nothing."""
        wanted = dict.fromkeys(wanting)
        if self._left > 0 and self._line[-1] in wanted:
            return self._line[-1]
        return min(wanted, key=lambda each: self._line.index(each) if each in self._line else -1)

    def had(self, adapter: str | None, tokens: int) -> None:
        """It has had a step, in which no sequence was fed more than so many tokens."""
        if self._left <= 0 or self._line[-1] != adapter:
            self._line = [*(each for each in self._line if each != adapter), adapter]
            self._left = TURN_TOKENS
        self._left -= tokens
