"""The header of a projector (mmproj), checked together with that of the model it belongs to.

libmtmd asserts the type of each key that it reads, divides by some of the numbers, and uses some
tensors without asking whether they are there. All other shapes it asserts while the model loads,
when it lays out the computation of a picture. Source: the pinned llama.cpp,
`tools/mtmd/clip.cpp` (`load_hparams`, `load_tensors`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from struct import Struct
from typing import Final

from unified_llm.domain.units import Bytes
from unified_llm.gguf.header import ModelHeader, read_part
from unified_llm.gguf.metadata import TYPE_NAMES, Metadata, Scalar
from unified_llm.gguf.reader import ByteSource, NotAModel
from unified_llm.gguf.splits import Place

KINDS: Final = ("mlp",)
"""Projectors that were tried: LLaVA's."""

_MAX_WIDTH: Final = 65_536
_MAX_SIDE: Final = 4096
_VISION: Final = "clip.vision"
# What libmtmd reads with these types, where they are there.
_OPTIONAL: Final = {
    "clip.has_audio_encoder": "bool",
    "clip.has_gen_audio_encoder": "bool",
    "clip.use_gelu": "bool",
    "clip.use_silu": "bool",
    "clip.vision.attention.head_dim": "u32",
    "clip.vision.attention.head_count_kv": "u32",
    "clip.minicpmv_version": "i32",
    "clip.minicpmv_query_num": "u32",
}


def read_projector(source: ByteSource, size: int, base: ModelHeader) -> Bytes:
    """What the projector of `size` bytes in `source` takes, which is to be used with `base`.

    Raises NotAModel for anything that should not be loaded, and OSError if the source does.
    """
    metadata, tensors = read_part(source, size, Place(0, 1))
    kind = metadata.text("general.type", 64)
    if kind not in (None, "mmproj") or metadata.text("general.architecture", 64) != "clip":
        raise NotAModel(f"It is of type {kind!r}, and no projector (mmproj).")
    if (name := metadata.text("clip.projector_type", 64)) not in KINDS:
        raise NotAModel(f"It is a projector of type {name!r}; only {', '.join(KINDS)} is known.")
    for key, type_ in {"clip.has_vision_encoder": "bool", **_OPTIONAL}.items():
        _require_type(metadata, key, type_)
    if not _is_set(metadata, "clip.has_vision_encoder"):
        raise NotAModel("It does not take images.")
    if _is_set(metadata, "clip.has_audio_encoder") or _is_set(
        metadata, "clip.has_gen_audio_encoder"
    ):
        raise NotAModel("It takes or makes sound, which is not supported.")
    _check_shapes({tensor.name: tensor.dimensions for tensor in tensors}, _numbers(metadata), base)
    return Bytes(sum(tensor.size for tensor in tensors))


@dataclass(frozen=True, slots=True)
class _Numbers:
    width: int
    side: int
    patch: int


def _check_shapes(
    shapes: Mapping[bytes, tuple[int, ...]], numbers: _Numbers, base: ModelHeader
) -> None:
    """Those that are used without a look, or looked at only when the first picture is computed."""
    patches = (numbers.side // numbers.patch) ** 2 + (b"v.class_embd" in shapes)
    expected = {
        b"v.patch_embd.weight": (numbers.patch, numbers.patch, 3, numbers.width),
        b"v.position_embd.weight": (numbers.width, patches),
    }
    for name, shape in expected.items():
        if shapes.get(name) != shape:
            raise NotAModel(f"{name!r} is of shape {shapes.get(name)}; it must be {shape}.")
    first, last = (shapes.get(name) for name in (b"mm.0.weight", b"mm.2.weight"))
    if first is None or last is None or last[1:] != (base.embedding_length,):
        raise NotAModel(
            f"Its last matrix is of shape {last}; the model's embedding is "
            f"{base.embedding_length} wide."
        )


def _numbers(metadata: Metadata) -> _Numbers:
    width = metadata.required(f"{_VISION}.embedding_length", 1, _MAX_WIDTH)
    heads = metadata.required(f"{_VISION}.attention.head_count", 1, 1024)
    if width % heads:
        raise NotAModel(f"An embedding of {width} cannot be split over {heads} heads.")
    metadata.required(f"{_VISION}.feed_forward_length", 0, 2**20)
    metadata.required(f"{_VISION}.block_count", 1, 512)
    metadata.required(f"{_VISION}.projection_dim", 0, _MAX_WIDTH)
    if metadata.fraction(f"{_VISION}.attention.layer_norm_epsilon") is None:
        raise NotAModel(f"{_VISION}.attention.layer_norm_epsilon is missing.")
    side = metadata.required(f"{_VISION}.image_size", 1, _MAX_SIDE)
    patch = metadata.required(f"{_VISION}.patch_size", 1, side)
    if side % patch:
        raise NotAModel(f"An image of {side} pixels cannot be cut into patches of {patch}.")
    for key in ("image_mean", "image_std"):
        _check_colours(metadata, f"{_VISION}.{key}")
    for key in ("image_grid_pinpoints", "feature_layer"):
        if f"{_VISION}.{key}" in metadata.entries:
            raise NotAModel(f"It has {_VISION}.{key}, which is not supported.")
    return _Numbers(width, side, patch)


def _check_colours(metadata: Metadata, key: str) -> None:
    array = metadata.array(key, "f32")
    if array is None or array.count != 3:
        raise NotAModel(f"{key} does not have three numbers.")
    shape = Struct("<3f")
    numbers = shape.unpack(metadata.cursor.at(array.position).take(shape.size, key))
    if not all(map(isfinite, numbers)):
        raise NotAModel(f"{key} is not made of finite numbers.")


def _require_type(metadata: Metadata, key: str, type_: str) -> None:
    entry = metadata.entries.get(key)
    if entry is None:
        return
    if not isinstance(entry, Scalar) or TYPE_NAMES[entry.type] != type_:
        raise NotAModel(f"{key} is not a {type_}.")


def _is_set(metadata: Metadata, key: str) -> bool:
    entry = metadata.entries.get(key)
    return isinstance(entry, Scalar) and bool(entry.value)
