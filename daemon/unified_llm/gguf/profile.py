"""What decides a model's memory, from its metadata and tensor table.

Source: the pinned llama.cpp, `src/llama-model.cpp` (`load_hparams`, `create_memory`) and
`src/llama-kv-cache.cpp` (which layers have keys, and which values).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from unified_llm.domain.profile import GraphWidths, LayerProfile, ModelProfile, Purpose
from unified_llm.domain.units import Bytes, Tokens
from unified_llm.gguf import architectures
from unified_llm.gguf.metadata import Metadata
from unified_llm.gguf.recurrent import feed_forward_lengths, recurrent_layers, state_width
from unified_llm.gguf.tensors import TensorInfo
from unified_llm.gguf.weights import PlacedWeights, place_tensors
from unified_llm.gguf.windows import layer_windows

_MAX_LENGTH: Final = 65_536
_MAX_WIDTH: Final = 2**24
_MAX_HEADS: Final = 4096
# llama.cpp's `enum llama_pooling_type`; it aborts the process at any other number.
_POOLING_RANK: Final = 4
_POOLED: Final = (1, 2, 3)  # mean, first token, last token


@dataclass(frozen=True, slots=True)
class Shape:
    """What of a header has been checked. Heads and lengths are None where nothing tells them."""

    architecture: str
    layers: int
    embedding: int
    context_trained: Tokens
    vocabulary_size: int
    heads: tuple[int, ...] | None
    kv_heads: tuple[int, ...] | None
    key_length: int | None
    value_length: int | None


def parse_profile(metadata: Metadata, shape: Shape, tensors: Iterable[TensorInfo]) -> ModelProfile:
    """The profile of a model; what nothing tells is assumed, and said so.

    Raises NotAModel for keys of a wrong type or out of range.
    """
    name = shape.architecture
    tensors = tuple(tensors)
    weights = place_tensors(tensors, shape.layers)
    caches = _Caches(metadata, shape)
    has_logits = name not in architectures.WITHOUT_LOGITS
    return ModelProfile(
        architecture=name,
        context_trained=shape.context_trained,
        vocabulary_size=shape.vocabulary_size,
        widths=_widths(metadata, shape, weights),
        layers=tuple(caches.layer(index, weights) for index in range(shape.layers)),
        input_bytes=Bytes(weights.input.size),
        output_bytes=Bytes(weights.output.size),
        tied_bytes=Bytes(weights.tied.size if has_logits else 0),
        matrices=weights.output.matrix_bytes() + weights.tied.matrix_bytes(),
        has_logits=has_logits,
        purpose=_purpose(metadata, name, tensors),
        assumptions=_assumptions(shape),
    )


def _purpose(metadata: Metadata, name: str, tensors: Iterable[TensorInfo]) -> Purpose:
    pooling = metadata.unsigned(f"{name}.pooling_type", 0, _POOLING_RANK)
    if pooling in _POOLED:
        return Purpose.EMBEDDING
    if pooling == _POOLING_RANK:
        # Without a head llama.cpp gives the first number of a token's vector for a score.
        has_head = any(tensor.name.startswith(b"cls") for tensor in tensors)
        return Purpose.RANKING if has_head else Purpose.TOKENS
    return Purpose.TOKENS if name in architectures.WITHOUT_LOGITS else Purpose.CHAT


class _Caches:
    """What each layer keeps between two calls."""

    def __init__(self, metadata: Metadata, shape: Shape) -> None:
        name, layers = shape.architecture, shape.layers
        prefix = f"{name}.attention"
        self._shape = shape
        self._trunk = layers - (metadata.unsigned(f"{name}.nextn_predict_layers", 0, layers) or 0)
        self._kv_heads = shape.kv_heads or (0 if name in architectures.RECURRENT else 1,) * layers
        self._windows = layer_windows(metadata, name, layers)
        self._recurrent = recurrent_layers(metadata, name, self._kv_heads, self._trunk)
        self._feed_forward = feed_forward_lengths(metadata, name, layers)
        self._state = state_width(
            metadata,
            name,
            embedding=shape.embedding,
            heads=(shape.heads or (0,))[0],
            head_length=shape.key_length or 0,
        )
        self._key = shape.key_length or shape.embedding
        self._value = shape.value_length or shape.embedding
        self._key_swa = metadata.unsigned(f"{prefix}.key_length_swa", 1, _MAX_LENGTH) or self._key
        value_swa = metadata.unsigned(f"{prefix}.value_length_swa", 1, _MAX_LENGTH)
        self._value_swa = value_swa or self._value
        # With both keys llama.cpp caches one compressed key and computes the value from it.
        self._is_mla = has_mla(metadata, name)
        shared = metadata.unsigned(f"{prefix}.shared_kv_layers", 0, layers) or 0
        self._cached = min(
            architectures.CACHED_FROM_START.get(name, layers), layers - shared, self._trunk
        )

    def layer(self, index: int, weights: PlacedWeights) -> LayerProfile:
        """Layer `index`."""
        part = weights.layers[index]
        window = self._windows[index]
        heads = self._kv_heads[index] if self._has_cache(index) else 0
        key = self._key if window is None else self._key_swa
        value = self._value if window is None else self._value_swa
        return LayerProfile(
            weight_bytes=Bytes(part.size),
            expert_bytes=Bytes(part.expert_size),
            matrices=part.matrix_bytes(),
            key_width=heads * key,
            value_width=0 if self._is_mla else heads * value,
            window=None if window is None else Tokens(window),
            state_width=self._state if self._recurrent[index] else 0,
        )

    def _has_cache(self, index: int) -> bool:
        name = self._shape.architecture
        if name in architectures.ENCODERS | architectures.RECURRENT or index >= self._cached:
            return False
        if name in architectures.RECURRENT_WITHOUT_FEED_FORWARD and self._feed_forward[index]:
            return False
        return not self._recurrent[index] or name in architectures.RECURRENT_EVERYWHERE


def has_mla(metadata: Metadata, architecture: str) -> bool:
    """Whether multi-head latent attention keeps its cache compressed. Raises NotAModel."""
    key = metadata.unsigned(f"{architecture}.attention.key_length_mla", 0, _MAX_LENGTH)
    value = metadata.unsigned(f"{architecture}.attention.value_length_mla", 0, _MAX_LENGTH)
    return bool(key and value)


def _widths(metadata: Metadata, shape: Shape, weights: PlacedWeights) -> GraphWidths:
    name, layers = shape.architecture, shape.layers
    heads = max(shape.heads or (0,))
    kv_heads = max(shape.kv_heads or (heads,))
    key = shape.key_length or 0
    used = metadata.per_layer(f"{name}.expert_used_count", layers, 0, _MAX_HEADS) or (0,)
    groups = metadata.unsigned(f"{name}.ssm.group_count", 0, _MAX_HEADS) or 0
    state = metadata.unsigned(f"{name}.ssm.state_size", 0, _MAX_LENGTH) or 0
    inner = metadata.unsigned(f"{name}.ssm.inner_size", 0, _MAX_WIDTH) or 0
    mla_key = f"{name}.attention.key_length_mla"
    rank = metadata.unsigned(f"{name}.attention.kv_lora_rank", 0, _MAX_LENGTH) or 0
    return GraphWidths(
        embedding=shape.embedding,
        query=heads * key,
        key=kv_heads * key,
        value=kv_heads * (shape.value_length or 0),
        feed_forward=max(part.widened for part in weights.layers),
        experts=metadata.unsigned(f"{name}.expert_count", 0, _MAX_HEADS) or 0,
        experts_used=max(used),
        expert_feed_forward=max(part.experts_widened for part in weights.layers),
        inner=inner,
        convolved=2 * groups * state,
        state=inner * state,
        latent=heads * rank if has_mla(metadata, name) else 0,
        decompressed=heads * (metadata.unsigned(mla_key, 0, _MAX_LENGTH) or 0),
        is_gated=any(part.is_gated for part in weights.layers),
    )


def _assumptions(shape: Shape) -> tuple[str, ...]:
    name = shape.architecture
    found = []
    if name in architectures.UNCOUNTED_CACHES:
        found.append(f"{name} keeps index keys beside its cache, which are not counted.")
    if name not in architectures.KNOWN:
        found.append(
            f"The architecture {name} is not known: every layer is taken to keep keys and values "
            "of the whole context."
        )
    if name not in architectures.ENCODERS | architectures.RECURRENT and not shape.kv_heads:
        found.append(
            "The file names no attention heads: keys and values are taken to be as wide as the "
            f"embedding, {shape.embedding}."
        )
    return tuple(found)
