"""How large llama.cpp's compute buffer gets: the intermediate results that live at one time.

Derived from the graphs of the pinned llama.cpp (`src/llama-graph.cpp`, `src/models/*.cpp`) by
counting what is alive at the widest places, and held against its own figures by
`tests.bench.estimate`. ggml's allocator (`ggml/src/ggml-alloc.c`) leaves gaps of about one
embedding, hence a few more of those than the graph needs. Flash attention is assumed, as llama.cpp
chooses it wherever it can; without it scores of heads x context would come on top.
"""

from typing import Final

from unified_llm.domain.profile import GraphWidths, ModelProfile
from unified_llm.domain.units import Bytes
from unified_llm.planner.run_shape import RunShape

_F32: Final = 4
_F16: Final = 2


def layer_buffer(profile: ModelProfile, run: RunShape) -> Bytes:
    """Compute buffer of a device that computes layers, but not the output."""
    widths = profile.widths
    widest = max(_attention(widths), _feed_forward(widths), _experts(widths), _mixer(widths))
    states = _F32 * widths.state * run.slots
    return Bytes(_F32 * widest * run.graph_tokens + states + mask_bytes(profile, run))


def output_buffer(profile: ModelProfile, run: RunShape) -> Bytes:
    """Compute buffer of the device that computes the output; a row of logits for each output."""
    if not profile.has_logits:
        return Bytes(0)
    logits = profile.vocabulary_size * run.most_outputs
    return Bytes(_F32 * (logits + 3 * profile.widths.embedding * run.graph_tokens))


def mask_bytes(profile: ModelProfile, run: RunShape) -> Bytes:
    """Who may see whom: each token of a step against each cell, once per kind of cache."""
    windows = {layer.window for layer in profile.layers if layer.key_width}
    if not windows and not profile.is_recurrent:
        return Bytes(_F16 * run.graph_tokens * run.graph_tokens)
    return Bytes(sum(_F16 * run.graph_tokens * run.cells(window) for window in windows))


def _attention(widths: GraphWidths) -> int:
    if widths.latent:
        return 3 * widths.embedding + widths.query + widths.latent + 2 * widths.decompressed
    return 3 * widths.embedding + 2 * widths.query + 2 * widths.key + widths.value


def _feed_forward(widths: GraphWidths) -> int:
    if not widths.is_gated:
        return 3 * widths.embedding + widths.feed_forward
    return 4 * widths.embedding + 3 * widths.feed_forward // 2


def _experts(widths: GraphWidths) -> int:
    widened = widths.experts_used * widths.expert_feed_forward
    opening = 4 * widths.embedding + 3 * widened // 2
    joining = (3 + 2 * widths.experts_used) * widths.embedding + widened // 2
    return max(opening, joining) if widths.experts_used else 0


def _mixer(widths: GraphWidths) -> int:
    return widths.embedding + 6 * widths.inner + 4 * widths.convolved if widths.inner else 0
