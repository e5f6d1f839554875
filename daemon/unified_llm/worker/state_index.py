"""Which kept state serves a prompt: beginnings of conversations, by principal.

Rule 1: a principal is offered its own states only, and those of the same adapter.
Rule 2: a state that begins like another and goes further makes that other one needless.
Rule 3: this file knows neither a model nor where states are.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Offer:
    """A state that spares a prompt its beginning.

    shared: tokens at the beginning of both. tokens: all that the state remembers.
    """

    state: int
    shared: int
    tokens: int

    @property
    def is_same_conversation(self) -> bool:
        """Whether whoever goes on from it makes it needless."""
        return 2 * self.shared >= self.tokens


@dataclass(frozen=True, slots=True)
class _Entry:
    principal: str
    tokens: list[int]
    adapter: str | None

    def serves(self, principal: str, adapter: str | None) -> bool:
        return (self.principal, self.adapter) == (principal, adapter)


class StateIndex:
    """What the states begin with; those used longest ago come first."""

    def __init__(self) -> None:
        self._entries: dict[int, _Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def add(
        self, state: int, principal: str, tokens: Sequence[int], adapter: str | None = None
    ) -> list[int]:
        """Remember a state; those that it makes needless, which are forgotten."""
        added = _Entry(principal, list(tokens), adapter)
        needless = [
            each
            for each, entry in self._entries.items()
            if entry.serves(principal, adapter) and _begins(entry.tokens, added.tokens)
        ]
        for each in needless:
            del self._entries[each]
        self._entries[state] = added
        return needless

    def remove(self, state: int) -> None:
        """Forget a state; one that is not there is no error."""
        self._entries.pop(state, None)

    def touch(self, state: int) -> None:
        """It has been of use."""
        self._entries[state] = self._entries.pop(state)

    def oldest(self) -> int:
        """The one that has not been of use for longest. There must be one."""
        return next(iter(self._entries))

    def covers(self, principal: str, tokens: Sequence[int], adapter: str | None = None) -> bool:
        """Whether a state remembers all of `tokens`."""
        wanted = list(tokens)
        return any(
            entry.serves(principal, adapter) and _begins(wanted, entry.tokens)
            for entry in self._entries.values()
        )

    def best(
        self, principal: str, prompt: Sequence[int], adapter: str | None = None
    ) -> Offer | None:
        """The one that spares most of `prompt`, whose last token must be fed to be answered."""
        wanted = list(prompt[:-1])
        offers = (
            Offer(state, common_prefix(entry.tokens, wanted), len(entry.tokens))
            for state, entry in self._entries.items()
            if entry.serves(principal, adapter)
        )
        return max(offers, key=lambda offer: offer.shared, default=None)


def common_prefix(one: Sequence[int], other: Sequence[int]) -> int:
    """Tokens at the beginning that are equal, of two lists. By halves: C compares slices."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _begins(beginning: list[int], whole: list[int]) -> bool:
    return whole[: len(beginning)] == beginning
