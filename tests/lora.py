"""Makes LoRA adapters as GGUF files, with weights of a fixed seed.

Layout: `convert_lora_to_gguf.py` of llama.cpp, read and not copied.
"""

import random
from array import array
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.unit.gguf.writing import Entry, ModelFile, Tensor

# Of `tiny_gguf`: what goes in and what comes out of some of its weights.
TINY = {
    "blk.0.attn_q.weight": (32, 32),
    "blk.0.attn_v.weight": (32, 32),
    "blk.0.ffn_down.weight": (64, 32),
    "output.weight": (32, 357),
}


def lora_file(
    weights: Mapping[str, tuple[int, int]],
    rank: int = 4,
    *,
    alpha: float = 8.0,
    architecture: str = "llama",
    more: Iterable[Entry] = (),
) -> ModelFile:
    """The file with zeros for weights; change a part to get a wrong one."""
    entries = (
        Entry("general.type", "string", "adapter"),
        Entry("general.architecture", "string", architecture),
        Entry("adapter.type", "string", "lora"),
        Entry("adapter.lora.alpha", "f32", alpha),
        *more,
    )
    tensors = []
    for name, (width, height) in weights.items():
        tensors.append(Tensor(f"{name}.lora_a", (width, rank)))
        tensors.append(Tensor(f"{name}.lora_b", (rank, height)))
    return ModelFile(entries, tuple(tensors))


def write_lora(
    path: Path,
    weights: Mapping[str, tuple[int, int]] = TINY,
    *,
    rank: int = 4,
    seed: int = 1,
) -> Path:
    """Write an adapter that changes what is answered, and return its path."""
    file = lora_file(weights, rank)
    sizes = [4 * each.dimensions[0] * each.dimensions[1] for each in file.tensors]
    content = file.packed()
    padded = sum(size + -size % file.alignment for size in sizes[:-1])
    draw = random.Random(seed)
    data = b"".join(
        array("f", (draw.gauss(0, 0.2) for _ in range(size // 4))).tobytes()
        + bytes(-size % file.alignment)
        for size in sizes
    )
    path.write_bytes(content[: len(content) - padded - sizes[-1]] + data)
    return path
