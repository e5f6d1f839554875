"""Headers of LoRA adapters: right ones, and what llama.cpp would die of."""

from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.lora import TINY, lora_file
from tests.tiny_gguf import tiny_gguf
from tests.unit.gguf.reading import header_of
from tests.unit.gguf.writing import BytesSource, Entry, ModelFile, Tensor
from unified_llm.gguf.adapter import MAX_RANK, AdapterHeader, read_adapter
from unified_llm.gguf.header import ModelHeader
from unified_llm.gguf.reader import NotAModel

BASE = header_of(tiny_gguf())
RIGHT = lora_file(TINY)


def read(file: ModelFile | bytes, base: ModelHeader = BASE) -> AdapterHeader:
    content = file if isinstance(file, bytes) else file.packed()
    return read_adapter(BytesSource(content), len(content), base)


def with_experts(count: int) -> ModelHeader:
    widths = replace(BASE.profile.widths, experts=count)
    return replace(BASE, profile=replace(BASE.profile, widths=widths))


def test_what_it_adds_is_counted_by_layer() -> None:
    header = read(RIGHT)
    in_layer = sum(4 * 4 * (width + height) for width, height in list(TINY.values())[:3])
    assert header.layer_bytes == (in_layer,)
    assert header.other_bytes == 4 * 4 * (32 + 357)


def test_norms_are_passed_over_as_llama_cpp_does() -> None:
    norm = Tensor("blk.0.attn_norm.weight", (32,))
    assert read(replace(RIGHT, tensors=(*RIGHT.tensors, norm))) == read(RIGHT)


def test_experts_have_as_many_matrices_as_the_model() -> None:
    name = "blk.0.ffn_up_exps.weight"
    pair = (Tensor(f"{name}.lora_a", (32, 4, 8)), Tensor(f"{name}.lora_b", (4, 64, 8)))
    file = replace(RIGHT, tensors=pair)
    assert read(file, with_experts(8)).layer_bytes == (4 * 4 * 8 * (32 + 64),)
    with pytest.raises(NotAModel, match="not 16 matrices deep"):
        read(file, with_experts(16))


def pair_of(name: str, a: tuple[int, ...], b: tuple[int, ...], type_: int = 0) -> ModelFile:
    halves = (Tensor(f"{name}.lora_a", a, type_), Tensor(f"{name}.lora_b", b, type_))
    return replace(RIGHT, tensors=halves)


Q = "blk.0.attn_q.weight"
WRONG = {
    "a model": (ModelFile(), "of type None, which is not an adapter"),
    "another kind": (
        RIGHT.having(Entry("adapter.type", "string", "control_vector")),
        "type 'control_vector'; only `lora`",
    ),
    "a kind that is no text": (RIGHT.having(Entry("adapter.type", "u32", 1)), "is not a string"),
    "another architecture": (
        lora_file(TINY, architecture="qwen2"),
        "for the architecture 'qwen2'; the model's is llama",
    ),
    "an alpha that is no f32": (
        RIGHT.having(Entry("adapter.lora.alpha", "f64", 1.0)),
        "adapter.lora.alpha is not an f32",
    ),
    "an infinite alpha": (
        RIGHT.having(Entry("adapter.lora.alpha", "f32", float("inf"))),
        "must be from 0 to",
    ),
    "an activated one": (
        RIGHT.having(Entry("adapter.alora.invocation_tokens", "array", [1], "u32")),
        "aLoRA",
    ),
    "half a pair": (
        replace(RIGHT, tensors=RIGHT.tensors[:-1]),
        "b'output.weight' one half is missing",
    ),
    "no half": (
        replace(RIGHT, tensors=(*RIGHT.tensors, Tensor("blk.0.x", (4,)))),
        "no half of a LoRA pair",
    ),
    "a half of a half": (pair_of(f"{Q}.lora_a", (32, 4), (4, 32)), "no half of a LoRA pair"),
    "no pairs": (replace(RIGHT, tensors=(Tensor("a_norm.weight", (4,)),)), "no LoRA pairs"),
    "a strange type": (pair_of(Q, (32, 4), (4, 32), type_=26), "I32, which no adapter has"),
    "a layer too many": (
        pair_of("blk.1.attn_q.weight", (32, 4), (4, 32)),
        "of a model of 1 layers",
    ),
    "ranks that differ": (pair_of(Q, (32, 4), (5, 32)), "has the ranks 4 and 5"),
    "too high a rank": (
        pair_of(Q, (32, MAX_RANK + 1), (MAX_RANK + 1, 32)),
        f"at most {MAX_RANK}",
    ),
    "a deep pair of no experts": (pair_of(Q, (32, 4, 2), (4, 32, 2)), "not 1 matrices deep"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_adapter_is_refused_with_the_reason(name: str) -> None:
    file, reason = WRONG[name]
    with pytest.raises(NotAModel, match=reason):
        read(file)


def test_an_embedding_that_is_output_too_is_not_changed() -> None:
    file = pair_of("token_embd.weight", (4, 357), (4, 32))
    assert read(file).other_bytes > 0
    tied = replace(BASE, profile=replace(BASE.profile, tied_bytes=BASE.profile.output_bytes))
    with pytest.raises(NotAModel, match="output matrix too"):
        read(file, tied)
    with pytest.raises(NotAModel, match="ranks 3 and 4"):
        read(pair_of("token_embd.weight", (3, 357), (4, 32)))


def test_every_truncation_is_refused() -> None:
    whole = RIGHT.packed()
    for length in range(0, len(whole), 7):
        with pytest.raises(NotAModel):
            read(whole[:length])


@given(
    st.lists(st.tuples(st.integers(0, 700), st.binary(min_size=1, max_size=8)), max_size=4),
)
def test_an_overwritten_file_gives_a_header_or_a_refusal(patches: list[tuple[int, bytes]]) -> None:
    content = bytearray(RIGHT.packed())
    for place, patch in patches:
        content[place : place + len(patch)] = patch
    header = None
    with suppress(NotAModel):
        header = read(bytes(content))
    assert header is None or len(header.layer_bytes) == BASE.block_count
