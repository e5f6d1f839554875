"""The header of a LoRA adapter, checked together with that of the model it belongs to.

What llama.cpp asserts of an adapter's shapes ends the process in the first step that applies it.
Source: the pinned llama.cpp, `src/llama-adapter.cpp` (`llama_adapter_lora_init_impl`) and
`src/llama-graph.cpp` (`build_lora_mm`, `build_lora_mm_id`, `build_inp_embd`).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from unified_llm.domain.units import Bytes
from unified_llm.gguf.header import ModelHeader, read_part
from unified_llm.gguf.metadata import Metadata
from unified_llm.gguf.reader import ByteSource, NotAModel
from unified_llm.gguf.splits import Place
from unified_llm.gguf.tensors import TensorInfo

MAX_RANK: Final = 4096

_MAX_ALPHA: Final = 1e6
# What llama.cpp's converter writes; more need not be multiplied by every backend.
_TYPES: Final = frozenset({"F32", "F16", "BF16", "Q8_0"})
_HALF: Final = re.compile(rb"(?P<weight>(?:(?!\.lora_).)+)\.lora_(?P<half>[ab])")
_IGNORED: Final = b"_norm.weight"  # llama.cpp passes over these
_LAYER: Final = re.compile(rb"blk\.(\d{1,4})\.")
_EXPERTS: Final = re.compile(rb"_(?:ch)?exps\.")
_EMBEDDING: Final = b"token_embd.weight"


@dataclass(frozen=True, slots=True)
class AdapterHeader:
    """What an adapter adds to its model.

    layer_bytes: tensors of each of the model's layers. other_bytes: of what lies outside them.
    """

    layer_bytes: tuple[Bytes, ...]
    other_bytes: Bytes


@dataclass(frozen=True, slots=True)
class _Pair:
    """Both halves of what is added to `weight`."""

    weight: bytes
    a: TensorInfo
    b: TensorInfo

    @property
    def shown(self) -> str:
        return repr(self.weight)[1:]


def read_adapter(source: ByteSource, size: int, base: ModelHeader) -> AdapterHeader:
    """The header of the LoRA adapter of `size` bytes in `source`, to be used with `base`.

    Raises NotAModel for anything that should not be loaded, and OSError if the source does.
    """
    metadata, tensors = read_part(source, size, Place(0, 1))
    _check_keys(metadata, base)
    layers, other = [0] * base.block_count, 0
    for pair in _pairs(tensors):
        _check_pair(pair, base)
        found = _LAYER.match(pair.weight)
        if found is None:
            other += pair.a.size + pair.b.size
        elif (index := int(found[1])) < base.block_count:
            layers[index] += pair.a.size + pair.b.size
        else:
            raise NotAModel(f"It changes {pair.shown} of a model of {base.block_count} layers.")
    return AdapterHeader(tuple(map(Bytes, layers)), Bytes(other))


def _check_keys(metadata: Metadata, base: ModelHeader) -> None:
    kind = metadata.text("general.type", 64)
    if kind != "adapter":
        raise NotAModel(f"It is of type {kind!r}, which is not an adapter.")
    if (kind := metadata.text("adapter.type", 64)) != "lora":
        raise NotAModel(f"It is an adapter of type {kind!r}; only `lora` is known.")
    if (name := metadata.text("general.architecture", 64)) != base.architecture:
        raise NotAModel(f"It is for the architecture {name!r}; the model's is {base.architecture}.")
    metadata.real("adapter.lora.alpha", 0, _MAX_ALPHA)
    if "adapter.alora.invocation_tokens" in metadata.entries:
        raise NotAModel("It begins in the middle of a prompt (aLoRA), which is not supported.")


def _pairs(tensors: Iterable[TensorInfo]) -> list[_Pair]:
    halves: dict[bytes, dict[bytes, TensorInfo]] = {}
    for tensor in tensors:
        if (found := _HALF.fullmatch(tensor.name)) is not None:
            halves.setdefault(found["weight"], {})[found["half"]] = tensor
        elif not tensor.name.endswith(_IGNORED):
            raise NotAModel(f"The tensor {tensor.name!r} is no half of a LoRA pair.")
    for weight, found_halves in halves.items():
        if len(found_halves) != 2:
            raise NotAModel(f"Of the LoRA pair of {weight!r} one half is missing.")
    if not halves:
        raise NotAModel("It has no LoRA pairs.")
    return [_Pair(weight, each[b"a"], each[b"b"]) for weight, each in halves.items()]


def _check_pair(pair: _Pair, base: ModelHeader) -> None:
    for half in (pair.a, pair.b):
        if half.type.name not in _TYPES:
            raise NotAModel(f"{half.name!r} is of type {half.type.name}, which no adapter has.")
    a, b = _shape(pair.a), _shape(pair.b)
    depth = base.profile.widths.experts if _EXPERTS.search(pair.weight) else 1
    if a[2:] != (depth, 1) or b[2:] != (depth, 1):
        raise NotAModel(f"The LoRA pair of {pair.shown} is not {depth} matrices deep.")
    is_flipped = pair.weight.endswith(_EMBEDDING)
    if is_flipped and base.profile.tied_bytes:
        # llama.cpp would multiply the output by the flipped pair, and assert that it can not.
        raise NotAModel("It changes a token embedding that serves as output matrix too.")
    rank = a[0] if is_flipped else a[1]
    if rank != b[0] or not 1 <= rank <= MAX_RANK:
        raise NotAModel(
            f"The LoRA pair of {pair.shown} has the ranks {rank} and {b[0]}; "
            f"they must be equal, and at most {MAX_RANK}."
        )


def _shape(tensor: TensorInfo) -> tuple[int, ...]:
    return (*tensor.dimensions, 1, 1, 1)[:4]
