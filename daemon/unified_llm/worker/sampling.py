"""The sampling defaults, and the last check of what a request asks for.

The daemon checks too; the worker checks again, because an unchecked number in native code is a
memory error (CVE-2026-21869).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from unified_llm.domain.chat import Sampling
from unified_llm.domain.errors import InvalidRequest

PENALTY_WINDOW: Final = 64
"""Tokens that the penalties look back; llama.cpp's default."""

_MAX_SEED: Final = 2**32 - 2  # llama.cpp takes 2**32 - 1 for "draw one"


@dataclass(frozen=True, slots=True)
class ResolvedSampling:
    """Sampling with every choice made and in range. The defaults are those of llama.cpp's server.

    The order of use is penalties, top_k, top_p, min_p, temperature, then the draw with `seed`.
    """

    seed: int
    temperature: float = 0.8
    top_p: float = 0.95
    top_k: int = 40
    min_p: float = 0.05
    repeat_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0

    @property
    def is_greedy(self) -> bool:
        """Whether the likeliest token is always taken."""
        return self.temperature == 0

    @property
    def has_penalties(self) -> bool:
        """Whether any penalty changes anything."""
        return self.repeat_penalty != 1 or self.frequency_penalty != 0 or self.presence_penalty != 0


# lowest, highest, whether the lowest itself is excluded
_RANGES: Final = {
    "temperature": (0, 2, False),
    "top_p": (0, 1, True),
    "top_k": (0, 1000, False),
    "min_p": (0, 1, False),
    "repeat_penalty": (0, 2, True),
    "frequency_penalty": (-2, 2, False),
    "presence_penalty": (-2, 2, False),
    "seed": (0, _MAX_SEED, False),
}


def resolve_sampling(asked: Sampling, draw_seed: Callable[[], int]) -> ResolvedSampling:
    """`asked` with the defaults filled in. Raises InvalidRequest, naming the number."""
    given = {name: getattr(asked, name) for name in _RANGES}
    chosen = {name: value for name, value in given.items() if value is not None}
    for name, value in chosen.items():
        _check_range(name, value)
    return ResolvedSampling(**{"seed": draw_seed() % (_MAX_SEED + 1), **chosen})


def _check_range(name: str, value: float) -> None:
    low, high, is_open = _RANGES[name]
    if math.isfinite(value) and low <= value <= high and not (is_open and value == low):
        return
    bound = "above" if is_open else "from"
    raise InvalidRequest(
        f"sampling.{name} is {value}; it must be {bound} {low} and at most {high}.",
        parameter=f"sampling.{name}",
    )
