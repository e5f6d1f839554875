"""Makes a projector of about 30 KB for `tiny_gguf`, with weights of a fixed seed, and pictures.

Layout: CLIP as LLaVA has it, in `tools/mtmd/clip.cpp` of llama.cpp, read and not copied; PNG: its
specification.
"""

import random
import struct
import zlib
from array import array
from math import prod
from pathlib import Path

from tests.unit.gguf.writing import Entry, ModelFile, Tensor

_WIDTH, _PATCH, _SIDE, _FEED_FORWARD, _TEXT_WIDTH, _LAYERS = 16, 4, 16, 32, 32, 2
ROWS = (_SIDE // _PATCH) ** 2
"""Vectors of each picture."""


def mmproj_file(kind: str = "mlp") -> ModelFile:
    """The file with zeros for weights; change a part to get a wrong one."""
    numbers = {
        "embedding_length": _WIDTH,
        "attention.head_count": 2,
        "feed_forward_length": _FEED_FORWARD,
        "block_count": _LAYERS,
        "projection_dim": _TEXT_WIDTH,
        "image_size": _SIDE,
        "patch_size": _PATCH,
    }
    entries = (
        Entry("general.architecture", "string", "clip"),
        Entry("general.type", "string", "mmproj"),
        Entry("clip.has_vision_encoder", "bool", 1),
        Entry("clip.projector_type", "string", kind),
        Entry("clip.use_gelu", "bool", 1),
        *(Entry(f"clip.vision.{key}", "u32", value) for key, value in numbers.items()),
        Entry("clip.vision.attention.layer_norm_epsilon", "f32", 1e-5),
        Entry("clip.vision.image_mean", "array", [0.5] * 3, "f32"),
        Entry("clip.vision.image_std", "array", [0.5] * 3, "f32"),
    )
    return ModelFile(entries, _tensors())


def write_mmproj(path: Path) -> Path:
    """Write a projector that tells pictures apart, and return its path."""
    file, draw = mmproj_file(), random.Random(1)
    sizes = [4 * prod(each.dimensions) for each in file.tensors]
    content = file.packed()
    padded = sum(size + -size % file.alignment for size in sizes[:-1]) + sizes[-1]
    data = b"".join(
        array("f", (draw.gauss(0, 0.3) for _ in range(size // 4))).tobytes()
        + bytes(-size % file.alignment)
        for size in sizes
    )
    path.write_bytes(content[: len(content) - padded] + data)
    return path


def png(seed: int, width: int = 20, height: int = 12) -> bytes:
    """A picture of noise."""
    noise = random.Random(seed)
    lines = b"".join(b"\0" + noise.randbytes(3 * width) for _ in range(height))
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )


def _tensors() -> tuple[Tensor, ...]:
    shapes: dict[str, tuple[int, ...]] = {
        "v.patch_embd.weight": (_PATCH, _PATCH, 3, _WIDTH),
        "v.class_embd": (_WIDTH,),
        "v.position_embd.weight": (_WIDTH, ROWS + 1),
        "v.pre_ln.weight": (_WIDTH,),
        "v.pre_ln.bias": (_WIDTH,),
    }
    for layer in range(_LAYERS):
        at = f"v.blk.{layer}."
        for part in ("attn_q", "attn_k", "attn_v", "attn_out"):
            shapes |= {f"{at}{part}.weight": (_WIDTH, _WIDTH), f"{at}{part}.bias": (_WIDTH,)}
        for part in ("ln1", "ln2"):
            shapes |= {f"{at}{part}.weight": (_WIDTH,), f"{at}{part}.bias": (_WIDTH,)}
        shapes |= {
            f"{at}ffn_up.weight": (_WIDTH, _FEED_FORWARD),
            f"{at}ffn_up.bias": (_FEED_FORWARD,),
            f"{at}ffn_down.weight": (_FEED_FORWARD, _WIDTH),
            f"{at}ffn_down.bias": (_WIDTH,),
        }
    shapes |= {
        "mm.0.weight": (_WIDTH, _TEXT_WIDTH),
        "mm.0.bias": (_TEXT_WIDTH,),
        "mm.2.weight": (_TEXT_WIDTH, _TEXT_WIDTH),
        "mm.2.bias": (_TEXT_WIDTH,),
    }
    return tuple(Tensor(name, shape) for name, shape in shapes.items())
