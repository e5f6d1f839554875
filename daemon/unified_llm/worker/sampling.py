"""The last check of how a request wants its tokens chosen, with the defaults filled in.

The daemon checks too; the worker checks again, because an unchecked number in native code is a
memory error (CVE-2026-21869).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from unified_llm.domain.chat import Sampling
from unified_llm.domain.errors import InvalidRequest
from unified_llm.domain.sampling import MAX_SEED, NUMBERS, ensure_sane_sampling

# Logits divided by less than this overflow, and what is drawn of infinities is not the likeliest.
_COLDEST: Final = 1e-4


@dataclass(frozen=True, slots=True)
class ResolvedSampling:
    """Sampling with every choice made and in range; see domain.sampling."""

    temperature: float
    top_p: float
    top_k: int
    min_p: float
    typical_p: float
    repeat_penalty: float
    repeat_last_n: int
    frequency_penalty: float
    presence_penalty: float
    dry_multiplier: float
    dry_base: float
    dry_allowed_length: int
    dry_penalty_last_n: int
    xtc_probability: float
    xtc_threshold: float
    mirostat: int
    mirostat_tau: float
    mirostat_eta: float
    seed: int
    logit_bias: tuple[tuple[int, float], ...] = ()
    ignore_eos: bool = False

    @property
    def has_penalties(self) -> bool:
        """Whether repetition changes anything."""
        is_any = self.repeat_penalty != 1 or self.frequency_penalty or self.presence_penalty
        return bool(is_any and self.repeat_last_n)

    @property
    def has_dry(self) -> bool:
        """Whether repeated sequences change anything."""
        return bool(self.dry_multiplier and self.dry_penalty_last_n)

    @property
    def window(self) -> int:
        """Tokens of the past that matter."""
        if self.mirostat:
            return 0
        penalties = self.repeat_last_n if self.has_penalties else 0
        return max(penalties, self.dry_penalty_last_n if self.has_dry else 0)


def resolve_sampling(
    asked: Sampling, draw_seed: Callable[[], int], vocabulary_size: int
) -> ResolvedSampling:
    """`asked` with the defaults filled in. Raises InvalidRequest, naming the number."""
    ensure_sane_sampling(asked)
    for token, _ in asked.logit_bias:
        if token >= vocabulary_size:
            raise InvalidRequest(
                f"logit_bias names token {token}; the model has {vocabulary_size}, from 0 on.",
                parameter="logit_bias",
            )
    chosen: dict[str, Any] = {name: number.default for name, number in NUMBERS.items()}
    chosen["seed"] = draw_seed() % (MAX_SEED + 1)
    given = {name: value for name in NUMBERS if (value := getattr(asked, name)) is not None}
    if asked.temperature is not None and asked.temperature < _COLDEST:
        given["temperature"] = 0.0
    return ResolvedSampling(
        **chosen | given, logit_bias=asked.logit_bias, ignore_eos=asked.ignore_eos
    )
