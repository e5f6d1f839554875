"""A GGUF header, checked as a whole before any native code sees the file.

Each check stands for a file that has aborted or corrupted a native parser; all arithmetic is on
Python's unbounded integers, so no product can overflow. Order matters: a line assumes those above.
"""

import re
from dataclasses import dataclass
from typing import Final

from unified_llm.domain.profile import ModelProfile
from unified_llm.domain.units import Bytes, Tokens
from unified_llm.gguf.metadata import MAX_KEYS, Metadata, parse_metadata
from unified_llm.gguf.profile import Shape, parse_profile
from unified_llm.gguf.quantisation import quantisation_name
from unified_llm.gguf.reader import U32, U64, BelongsToAModel, ByteSource, Cursor, NotAModel
from unified_llm.gguf.splits import Place, require_place, require_whole
from unified_llm.gguf.tensors import MAX_TENSORS, TensorInfo, parse_tensors
from unified_llm.gguf.vocabulary import Vocabulary, parse_vocabulary

# Real headers have up to 20 MB. A sparse file of any size costs an attacker nothing.
MAX_HEADER_BYTES: Final = 128 * 1024 * 1024

_MAGIC: Final = b"GGUF"
_FIXED_BYTES: Final = 24
_ARCHITECTURE: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_ROPE_SCALINGS: Final = ("none", "linear", "yarn", "longrope")
_COMPANIONS: Final = {
    "adapter": "an adapter (LoRA) to a model",
    "imatrix": "a table that a model is quantised with",
}
_MAX_HEADS: Final = 4096
_MAX_WIDTH: Final = 2**24


@dataclass(frozen=True, slots=True)
class ModelHeader:
    """What a header tells, all of it within checked ranges. None is unknown.

    name, basename, size_label: as the author wrote them; printable, and nothing depends on them.
    quantisation: the usual name of the file type, such as `Q4_K_M`.
    context_length: tokens the model was trained with.
    head_counts, kv_head_counts: attention heads of each layer; 0 in a layer without attention.
    profile: what decides its memory.
    parameters: numbers in all tensors.
    """

    architecture: str
    name: str | None
    basename: str | None
    size_label: str | None
    quantisation: str | None
    block_count: int
    context_length: Tokens
    embedding_length: int
    head_counts: tuple[int, ...] | None
    kv_head_counts: tuple[int, ...] | None
    key_length: int | None
    value_length: int | None
    profile: ModelProfile
    vocabulary_size: int
    has_chat_template: bool
    parameters: int
    tensor_bytes: Bytes


def read_header(source: ByteSource, size: int, *parts: tuple[ByteSource, int]) -> ModelHeader:
    """The header of the GGUF model of `size` bytes in `source`.

    parts: what follows in further files, each with its size, where the model is split; all that is
    known of the model but its tensors is in the first file. Raises NotAModel for anything that
    should not be loaded, BelongsToAModel if it is right but no model by itself, and OSError if a
    source does.
    """
    metadata, tensors = read_part(source, size, Place(0, 1 + len(parts)))
    for number, (part, part_size) in enumerate(parts, 1):
        _, more = read_part(part, part_size, Place(number, 1 + len(parts)))
        tensors += more
        if len(tensors) > MAX_TENSORS:
            raise NotAModel(f"The parts have more than {MAX_TENSORS} tensors.")
    if parts:
        require_whole(metadata, tensors)
    _require_model_of_its_own(metadata)
    return _checked(metadata, tensors, parse_vocabulary(metadata))


def read_part(
    source: ByteSource, size: int, place: Place
) -> tuple[Metadata, tuple[TensorInfo, ...]]:
    """Keys and tensors of the GGUF file of `size` bytes in `source`, which is that part of a whole.

    Raises NotAModel, and OSError if the source does.
    """
    cursor = Cursor(source, min(size, MAX_HEADER_BYTES))
    # The first of several parts may hold nothing but keys.
    tensor_count, key_count = _counts(cursor, 1 if place.count == 1 or place.number else 0)
    metadata = parse_metadata(cursor, key_count)
    require_place(metadata, place)
    return metadata, parse_tensors(cursor, tensor_count, _alignment(metadata), size)


def _counts(cursor: Cursor, least: int) -> tuple[int, int]:
    """Tensors and keys, as the fixed part says."""
    cursor.require(_FIXED_BYTES, "The fixed part of a GGUF file")
    if (magic := cursor.take(4, "the magic")) != _MAGIC:
        raise NotAModel(f"The file begins with {magic!r}; a GGUF file begins with {_MAGIC!r}.")
    version = cursor.number(U32, "the version")
    if version & 0xFFFF == 0:
        raise NotAModel("The file is big-endian or of version 0.")
    if version not in (2, 3):
        raise NotAModel(f"The file has GGUF version {version}; versions 2 and 3 are read.")
    tensors = cursor.number(U64, "the tensor count")
    keys = cursor.number(U64, "the key count")
    if keys > MAX_KEYS:
        raise NotAModel(f"The file has {keys} keys; at most {MAX_KEYS} are accepted.")
    if not least <= tensors <= MAX_TENSORS:
        raise NotAModel(f"The file has {tensors} tensors; it must have {least} to {MAX_TENSORS}.")
    return tensors, keys


def _require_model_of_its_own(metadata: Metadata) -> None:
    kind = metadata.text("general.type", 64)
    # Projectors from before there was a type are known by their architecture.
    if kind == "mmproj" or metadata.label("general.architecture") == "clip":
        raise BelongsToAModel("It is the projector (mmproj) of a model that takes images or sound.")
    if kind in _COMPANIONS:
        raise BelongsToAModel(f"It is {_COMPANIONS[kind]}.")
    if kind not in (None, "model"):
        raise NotAModel(f"The file is of type {kind!r}, which is not a model of its own.")


def _alignment(metadata: Metadata) -> int:
    alignment = metadata.unsigned("general.alignment", 32, 2**20)
    if alignment is None:
        return 32
    if alignment & (alignment - 1):
        raise NotAModel(f"general.alignment is {alignment}; it must be a power of two.")
    return alignment


def _checked(
    metadata: Metadata, tensors: tuple[TensorInfo, ...], vocabulary: Vocabulary
) -> ModelHeader:
    architecture = metadata.text("general.architecture", 64)
    if architecture is None or not _ARCHITECTURE.fullmatch(architecture):
        raise NotAModel(f"general.architecture is {architecture!r}, which names none.")
    layers = metadata.required(f"{architecture}.block_count", 1, 512)
    width = metadata.required(f"{architecture}.embedding_length", 1, 2**20)
    attention = _attention(metadata, architecture, layers, width)
    _check_other_ranges(metadata, architecture, layers)
    context = Tokens(metadata.required(f"{architecture}.context_length", 1, 2**24))
    shape = Shape(
        architecture=architecture,
        layers=layers,
        embedding=width,
        context_trained=context,
        vocabulary_size=vocabulary.size,
        heads=attention.heads,
        kv_heads=attention.kv_heads,
        key_length=attention.key_length,
        value_length=attention.value_length,
    )
    return ModelHeader(
        architecture=architecture,
        name=metadata.label("general.name"),
        basename=metadata.label("general.basename"),
        size_label=metadata.label("general.size_label"),
        quantisation=quantisation_name(metadata.unsigned("general.file_type", 0, 2**32 - 1)),
        block_count=layers,
        context_length=context,
        embedding_length=width,
        head_counts=attention.heads,
        kv_head_counts=attention.kv_heads,
        key_length=attention.key_length,
        value_length=attention.value_length,
        profile=parse_profile(metadata, shape, tensors),
        vocabulary_size=vocabulary.size,
        has_chat_template=vocabulary.has_chat_template,
        parameters=sum(tensor.elements for tensor in tensors),
        tensor_bytes=Bytes(sum(tensor.size for tensor in tensors)),
    )


@dataclass(frozen=True, slots=True)
class _Attention:
    heads: tuple[int, ...] | None
    kv_heads: tuple[int, ...] | None
    key_length: int | None
    value_length: int | None


def _attention(metadata: Metadata, architecture: str, layers: int, width: int) -> _Attention:
    prefix = f"{architecture}.attention"
    heads = metadata.per_layer(f"{prefix}.head_count", layers, 0, _MAX_HEADS)
    kv_heads = metadata.per_layer(f"{prefix}.head_count_kv", layers, 0, _MAX_HEADS) or heads
    for own, shared in zip(heads or (), kv_heads or (), strict=False):
        if shared and own % shared:
            raise NotAModel(f"{own} heads cannot share {shared} key-value heads.")
    # llama.cpp's own default, taken from the first layer.
    default = width // heads[0] if heads and heads[0] else None
    key_length = metadata.unsigned(f"{prefix}.key_length", 1, 65_536)
    if key_length is None and heads and heads[0] and width % heads[0]:
        raise NotAModel(f"An embedding of {width} cannot be split over {heads[0]} heads.")
    value_length = metadata.unsigned(f"{prefix}.value_length", 1, 65_536)
    widest = max(width, key_length or 0)
    metadata.unsigned(f"{architecture}.rope.dimension_count", 0, widest)
    return _Attention(heads, kv_heads, key_length or default, value_length or default)


def _check_other_ranges(metadata: Metadata, architecture: str, layers: int) -> None:
    metadata.per_layer(f"{architecture}.feed_forward_length", layers, 0, _MAX_WIDTH)
    for name in ("layer_norm_rms_epsilon", "layer_norm_epsilon"):
        metadata.fraction(f"{architecture}.attention.{name}")
    # llama.cpp asserts each of the following, and a failed assertion ends the process.
    metadata.unsigned(f"{architecture}.nextn_predict_layers", 0, layers)
    scaling = metadata.text(f"{architecture}.rope.scaling.type", 64)
    if scaling is not None and scaling not in _ROPE_SCALINGS:
        raise NotAModel(f"{architecture}.rope.scaling.type is {scaling!r}, which is not known.")
    experts = metadata.unsigned(f"{architecture}.expert_count", 0, _MAX_HEADS) or 0
    key = f"{architecture}.expert_used_count"
    used = max(metadata.per_layer(key, layers, 0, _MAX_HEADS) or (0,))
    if used > experts or (experts and not used):
        raise NotAModel(f"The model uses {used} of {experts} experts.")
