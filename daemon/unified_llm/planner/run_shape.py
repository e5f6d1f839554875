"""How a model is to be run, as far as it decides memory."""

from dataclasses import dataclass
from typing import Final

from unified_llm.domain.profile import ModelProfile, Purpose
from unified_llm.domain.units import Tokens
from unified_llm.planner.cache_types import F16, CacheType

# `worker.engine` feeds this many tokens to one step.
STEP_TOKENS: Final = 512
# `worker.embedding` has so many texts in one step.
STEP_TEXTS: Final = 32
# `worker.draft_pace` lets so many tokens of one step be drafted.
MOST_DRAFTED: Final = 16

_CELLS_AT_ONCE: Final = 256


@dataclass(frozen=True, slots=True)
class RunShape:
    """Context of one slot, slots, cache type.

    keeps_whole_windows: layers with a sliding window keep a cell for every token all the same
        (`swa_full` of llama.cpp), so that a conversation can be cut back to any token.
    is_whole: each text is seen in one step, as those of models are that make vectors, and all
        slots share the cells of one step.
    drafts: tokens may be drafted.
    """

    context_tokens: Tokens
    slots: int
    cache_type: CacheType = F16
    keeps_whole_windows: bool = False
    is_whole: bool = False
    drafts: bool = False

    @property
    def step_tokens(self) -> int:
        """Tokens of one step: each slot gets at least one."""
        return max(STEP_TOKENS, self.context_tokens if self.is_whole else self.slots)

    @property
    def sequences(self) -> int:
        """Texts that can be in one step."""
        return STEP_TEXTS if self.is_whole else self.slots

    @property
    def outputs(self) -> int:
        """Tokens that the output buffer has a row of logits for (`llama_context::output_reserve`).

        A context that makes vectors has one for every token, whether or not the model has logits.
        """
        return self.step_tokens if self.is_whole else self.slots

    @property
    def drafted(self) -> int:
        """Rows of logits by which the output buffer grows when tokens are drafted."""
        return MOST_DRAFTED if self.drafts and not self.is_whole else 0

    @property
    def most_outputs(self) -> int:
        """Rows of logits that a graph is laid out for (`n_outputs_max` of the context)."""
        if self.is_whole:
            return self.graph_tokens
        return min(self.graph_tokens, self.outputs + self.drafted)

    @property
    def graph_tokens(self) -> int:
        """Tokens the compute buffer is laid out for (`llama_context::graph_reserve`)."""
        tokens = min(self.step_tokens, self.slots * self.cells(None))
        return -(-tokens // self.slots) * self.slots

    def cells(self, window: int | None) -> int:
        """Cells of one slot's cache, for a layer with this window.

        Source: `llama_context` (each slot's context is rounded up to 256) and
        `llama_kv_cache_iswa` (a window and one step, rounded up to 256).
        """
        if self.is_whole:
            return -(-_padded(self.step_tokens) // self.slots)
        whole = _padded(_padded(self.context_tokens * self.slots) // self.slots)
        if window is None or self.keeps_whole_windows:
            return whole
        return _padded(min(whole, window + self.step_tokens))


def makes_vectors(profile: ModelProfile) -> bool:
    """Whether a run of the model `is_whole`."""
    return profile.purpose is not Purpose.CHAT


def _padded(cells: int) -> int:
    return -(-cells // _CELLS_AT_ONCE) * _CELLS_AT_ONCE
