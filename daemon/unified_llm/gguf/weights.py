"""How the bytes of a tensor table spread over layers, experts, and what lies outside them."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from unified_llm.domain.units import Bytes
from unified_llm.gguf.tensors import TensorInfo

_LAYER: Final = re.compile(rb"blk\.(\d{1,4})\.")
_EXPERTS: Final = re.compile(rb"_(?:ch)?exps\.")
_WIDENING: Final = re.compile(rb"\.ffn_(?:up|gate|gate_up)(?:_(?:ch)?exps)?\.weight$")
# What llama.cpp uses before the first layer (`src/llama-arch.cpp`, LLM_TENSOR_LAYER_INPUT).
_INPUT: Final = (b"token_embd.", b"position_embd.", b"token_types.", b"per_layer_token_embd.")
_ROWS_AT_ONCE: Final = 8


@dataclass(slots=True)
class Part:
    """What was counted for one layer, or for all that lies outside the layers.

    matrices: bytes by type of the matrices whose rows come in eights.
    widened, experts_widened: numbers per token after the first half of the feed-forward part, gate
    included; of one expert. is_gated: whether there is a gate.
    """

    size: int = 0
    expert_size: int = 0
    matrices: dict[str, int] = field(default_factory=dict)
    widened: int = 0
    experts_widened: int = 0
    is_gated: bool = False

    def add(self, tensor: TensorInfo) -> None:
        """Count `tensor` in."""
        self.size += tensor.size
        if len(tensor.dimensions) < 2:
            return
        self.is_gated = self.is_gated or b".ffn_gate" in tensor.name
        rows, type_ = tensor.dimensions[1], tensor.type.name
        if rows % _ROWS_AT_ONCE == 0:
            self.matrices[type_] = self.matrices.get(type_, 0) + tensor.size
        is_widening = _WIDENING.search(tensor.name) is not None
        if _EXPERTS.search(tensor.name):
            self.expert_size += tensor.size
            self.experts_widened += rows * is_widening
        else:
            self.widened += rows * is_widening

    def matrix_bytes(self) -> tuple[tuple[str, Bytes], ...]:
        """`matrices` in a fixed order."""
        return tuple((name, Bytes(size)) for name, size in sorted(self.matrices.items()))


@dataclass(frozen=True, slots=True)
class PlacedWeights:
    """All tensors by place.

    tied: the token embedding, once more, where it serves as output matrix.
    """

    layers: tuple[Part, ...]
    input: Part
    output: Part
    tied: Part


def place_tensors(tensors: Iterable[TensorInfo], layers: int) -> PlacedWeights:
    """Each tensor counted in exactly one place, but for a tied token embedding."""
    placed = PlacedWeights(tuple(Part() for _ in range(layers)), Part(), Part(), Part())
    by_name = {tensor.name: tensor for tensor in tensors}
    for name, tensor in by_name.items():
        found = _LAYER.match(name)
        if found and (index := int(found[1])) < layers:
            placed.layers[index].add(tensor)
        elif name.startswith(_INPUT):
            placed.input.add(tensor)
        else:
            placed.output.add(tensor)
    embedding = by_name.get(b"token_embd.weight")
    if embedding is not None and b"output.weight" not in by_name:
        placed.tied.add(embedding)
    return placed
