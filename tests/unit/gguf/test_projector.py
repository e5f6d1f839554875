"""Headers of projectors: right ones, and what libmtmd would die of."""

from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.lora import TINY, lora_file
from tests.mmproj import mmproj_file
from tests.tiny_gguf import tiny_gguf
from tests.unit.gguf.reading import header_of
from tests.unit.gguf.writing import BytesSource, Entry, ModelFile, Tensor
from unified_llm.gguf.projector import read_projector
from unified_llm.gguf.reader import NotAModel

BASE = header_of(tiny_gguf())
RIGHT = mmproj_file()


def read(file: ModelFile | bytes) -> int:
    content = file if isinstance(file, bytes) else file.packed()
    return read_projector(BytesSource(content), len(content), BASE)


def test_it_takes_what_its_tensors_take() -> None:
    size = 0
    for tensor in RIGHT.tensors:
        count = 4
        for length in tensor.dimensions:
            count *= length
        size += count
    assert read(RIGHT) == size
    assert read(RIGHT.without("general.type")) == size, "as old ones are"


def shaped(name: str, *shape: int) -> ModelFile:
    """With a tensor of another shape; without it, if there is none."""
    others = [each for each in RIGHT.tensors if each.name != name]
    return replace(RIGHT, tensors=(*others, *([Tensor(name, shape)] if shape else [])))


VISION = "clip.vision"
WRONG = {
    "a model": (ModelFile(), "no projector"),
    "an adapter": (lora_file(TINY), "of type 'adapter', and no projector"),
    "another kind": (mmproj_file("qwen2vl_merger"), "only mlp is known"),
    "no kind": (RIGHT.without("clip.projector_type"), "of type None"),
    "ears": (RIGHT.having(Entry("clip.has_audio_encoder", "bool", 1)), "takes or makes sound"),
    "no eyes": (RIGHT.without("clip.has_vision_encoder"), "does not take images"),
    "eyes of another type": (
        RIGHT.having(Entry("clip.has_vision_encoder", "u32", 1)),
        "is not a bool",
    ),
    "a flag of another type": (
        RIGHT.having(Entry("clip.use_gelu", "string", "yes")),
        "clip.use_gelu is not a bool",
    ),
    "heads that do not divide": (
        RIGHT.having(Entry(f"{VISION}.attention.head_count", "u32", 3)),
        "16 cannot be split over 3 heads",
    ),
    "no heads": (RIGHT.having(Entry(f"{VISION}.attention.head_count", "u32", 0)), "from 1 to"),
    "no layers": (RIGHT.having(Entry(f"{VISION}.block_count", "u32", 0)), "from 1 to 512"),
    "patches of nothing": (RIGHT.having(Entry(f"{VISION}.patch_size", "u32", 0)), "from 1 to 16"),
    "patches that do not fit": (
        RIGHT.having(Entry(f"{VISION}.patch_size", "u32", 5)),
        "cannot be cut into patches of 5",
    ),
    "a huge image": (RIGHT.having(Entry(f"{VISION}.image_size", "u32", 2**20)), "from 1 to 4096"),
    "no epsilon": (RIGHT.without(f"{VISION}.attention.layer_norm_epsilon"), "is missing"),
    "two colours": (
        RIGHT.having(Entry(f"{VISION}.image_mean", "array", [0.5] * 2, "f32")),
        "three numbers",
    ),
    "colours of another type": (
        RIGHT.having(Entry(f"{VISION}.image_std", "array", [1] * 3, "u32")),
        "not an array of f32",
    ),
    "an infinite colour": (
        RIGHT.having(Entry(f"{VISION}.image_std", "array", [1.0, float("inf"), 1.0], "f32")),
        "finite",
    ),
    "few positions": (shaped("v.position_embd.weight", 16, 5), "must be .16, 17."),
    "no positions": (shaped("v.position_embd.weight"), "of shape None; it must be"),
    "grey patches": (shaped("v.patch_embd.weight", 4, 4, 1, 16), "must be .4, 4, 3, 16."),
    "another model's": (shaped("mm.2.weight", 32, 48), "the model's embedding is 32 wide"),
    "no matrix": (shaped("mm.0.weight"), "the model's embedding is 32 wide"),
    "tiles": (
        RIGHT.having(Entry(f"{VISION}.image_grid_pinpoints", "array", [1, 2], "i32")),
        "not supported",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_projector_is_refused_with_the_reason(name: str) -> None:
    file, reason = WRONG[name]
    with pytest.raises(NotAModel, match=reason):
        read(file)


def test_every_truncation_is_refused() -> None:
    whole = RIGHT.packed()
    for length in range(0, len(whole), 97):
        with pytest.raises(NotAModel):
            read(whole[:length])


@given(st.lists(st.tuples(st.integers(0, 1500), st.binary(min_size=1, max_size=8)), max_size=4))
def test_an_overwritten_file_gives_a_size_or_a_refusal(patches: list[tuple[int, bytes]]) -> None:
    content = bytearray(RIGHT.packed())
    for place, patch in patches:
        content[place : place + len(patch)] = patch
    size = 0
    with suppress(NotAModel):
        size = read(bytes(content))
    assert size <= len(content)
