"""How much of waiting prompts a step takes along, so that it is soon over.

Whoever generates gets a token at the end of a step, and whoever comes is seated between two; so a
step is the longest that others wait for a prompt. On a CPU that reads 160 tokens a second, 512 of
them are 3.2 seconds, and 64 at a time are read no slower (docs/bench/engine.md).
"""

from typing import Final

from unified_llm.domain.units import Seconds

_STEP: Final = Seconds(0.25)
# Smaller products of matrices cost more for a token: 32 at once are read at 0.86 of the speed.
LEAST_TOKENS: Final = 64
_WEIGHT_OF_NEW: Final = 0.5


class Pace:
    """How many tokens the next step may feed.

    most: what fits into a step. least: what always has to fit, at most `most`.
    """

    def __init__(self, most: int, least: int) -> None:
        self._most = most
        self._least = min(most, max(least, LEAST_TOKENS))
        self._speed: float | None = None  # tokens a second

    @property
    def step_tokens(self) -> int:
        """As many as were computed in a quarter of a second lately; few until that is known."""
        if self._speed is None:
            return self._least
        return max(self._least, int(self._speed * _STEP))

    def took(self, tokens: int, duration: Seconds) -> None:
        """A step that was not broken off fed so many; too few tell nothing of the speed."""
        if tokens < self._least:
            return
        # More than fills a step would only have to be unlearnt where memory makes prompts slow.
        fastest = self._most / _STEP
        speed = min(fastest, tokens / duration) if duration > 0 else fastest
        known = speed if self._speed is None else self._speed
        self._speed = known + _WEIGHT_OF_NEW * (speed - known)
