"""gguf.header, and through it gguf.metadata."""

import random
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.real_models import smollm2
from tests.tiny_gguf import Defect, tiny_gguf
from tests.unit.gguf.mutants import HEADER_BYTES, SEED, mutant
from tests.unit.gguf.reading import header_of, refusal_of
from tests.unit.gguf.writing import Entry, ModelFile
from unified_llm.gguf.header import ModelHeader, read_header
from unified_llm.gguf.reader import BelongsToAModel, NotAModel


def numbers_per_token(header: ModelHeader) -> int:
    """What one token leaves in the cache."""
    return sum(layer.key_width + layer.value_width for layer in header.profile.layers)


def test_a_right_file_is_described() -> None:
    header = header_of(SEED)
    assert (header.architecture, header.name, header.basename) == ("llama", "A small one", "Small")
    assert (header.size_label, header.quantisation) == ("20K", "F32")
    assert (header.block_count, header.context_length, header.embedding_length) == (2, 1024, 32)
    assert (header.head_counts, header.kv_head_counts) == ((4, 4), (2, 2))
    assert (header.key_length, header.value_length) == (8, 8)
    assert numbers_per_token(header) == 2 * 2 * (8 + 8)
    assert (header.vocabulary_size, header.has_chat_template) == (285, True)
    assert header.parameters == 32 * 285 + 33 + 32 * 32
    assert header.tensor_bytes == 4 * header.parameters


def test_version_2_is_read_too() -> None:
    assert header_of(replace(ModelFile(), version=2).packed()).architecture == "llama"


class _FileSource:
    def __init__(self, path: str) -> None:
        self._path = path
        self.read_bytes = 0

    def read_at(self, offset: int, length: int) -> bytes:
        with open(self._path, "rb") as file:
            file.seek(offset)
            self.read_bytes += length
            return file.read(length)


def test_a_real_model_is_described_from_a_small_part_of_it() -> None:
    path = smollm2()
    source = _FileSource(str(path))
    header = read_header(source, path.stat().st_size)
    assert (header.architecture, header.basename, header.quantisation) == (
        "llama",
        "smollm2",
        "Q4_1",
    )
    # llama.cpp prints 180 MiB for its KV cache at 8192 tokens.
    assert numbers_per_token(header) * 2 == 180 * 1024 * 1024 // 8192
    assert (header.vocabulary_size, header.has_chat_template) == (49_152, True)
    assert header.parameters == 134_515_008
    assert source.read_bytes < path.stat().st_size / 10


def test_the_generated_model_that_the_engine_runs_is_accepted() -> None:
    header = header_of(tiny_gguf(context_tokens=256, special=["<|end|>"]))
    assert (header.context_length, header.has_chat_template) == (256, False)
    assert numbers_per_token(header) == 1 * 4 * (8 + 8)


@pytest.mark.parametrize("defect", [Defect.MAGIC, Defect.TRUNCATED])
def test_defects_of_the_generated_model_are_seen(defect: Defect) -> None:
    assert refusal_of(tiny_gguf(defect=defect))


def test_heads_may_differ_from_layer_to_layer() -> None:
    model = ModelFile().having(
        Entry("llama.attention.head_count", "array", [4, 0], "u32"),
        Entry("llama.attention.head_count_kv", "array", [2, 0], "i32"),
    )
    header = header_of(model.packed())
    assert header.kv_head_counts == (2, 0)
    assert numbers_per_token(header) == 2 * (8 + 8)


def test_without_kv_heads_every_head_has_its_own_keys() -> None:
    header = header_of(ModelFile().without("llama.attention.head_count_kv").packed())
    assert header.kv_head_counts == (4, 4)


def test_a_model_without_attention_has_no_kv_cache() -> None:
    model = ModelFile().without("llama.attention.head_count_kv")
    model = model.having(Entry("llama.attention.head_count", "u32", 0))
    assert numbers_per_token(header_of(model.packed())) == 0


def test_own_key_and_value_lengths_count() -> None:
    model = ModelFile().having(
        Entry("llama.attention.key_length", "u32", 24),
        Entry("llama.attention.value_length", "u32", 16),
    )
    assert numbers_per_token(header_of(model.packed())) == 2 * 2 * (24 + 16)


@pytest.mark.parametrize("label", [b"\xff\xfe", b"\x1b[31mred", b"", b"x" * 300])
def test_a_name_that_cannot_be_shown_is_unknown(label: bytes) -> None:
    header = header_of(ModelFile().having(Entry("general.basename", "string", label)).packed())
    assert header.basename is None or header.basename.isprintable()
    assert header.basename != ""


M = ModelFile()

WRONG: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "needs 24 bytes"),
    "23 bytes": (SEED[:23], "needs 24 bytes"),
    "magic": (replace(M, magic=b"GGML").packed(), "begins with b'GGML'"),
    "version 1": (replace(M, version=1).packed(), "version 1"),
    "version 4": (replace(M, version=4).packed(), "version 4"),
    "big-endian": (replace(M, version=3 << 24).packed(), "big-endian"),
    "a million keys": (replace(M, key_count=10**6).packed(), "1000000 keys"),
    "all the keys there are": (replace(M, key_count=2**64 - 1).packed(), "18446744073709551615"),
    "no tensors": (replace(M, tensors=()).packed(), "0 tensors"),
    "too many tensors": (replace(M, tensor_count=65_537).packed(), "65537 tensors"),
    "a key twice": (replace(M, entries=(*M.entries, M.entries[0])).packed(), "there twice"),
    "an empty key": (M.having(Entry("", "u8", 0)).packed(), "printable ASCII"),
    "a key beyond ASCII": (M.having(Entry("ä", "u8", 0)).packed(), "printable ASCII"),
    "a key with an escape": (M.having(Entry("a\x1b", "u8", 0)).packed(), "printable ASCII"),
    "a bool of 2": (M.having(Entry("x", "bool", 2)).packed(), "bool of 2"),
    "bools of 2": (M.having(Entry("x", "array", [0, 1, 2], "bool")).packed(), "not all 0 or 1"),
    "an array of arrays": (M.having(Entry("x", "array", [], "array")).packed(), "array of type 9"),
    "alignment 8": (M.having(Entry("general.alignment", "u32", 8)).packed(), "from 32"),
    "alignment 48": (M.having(Entry("general.alignment", "u32", 48)).packed(), "power of two"),
    "alignment of a wrong type": (M.having(Entry("general.alignment", "u64", 32)).packed(), "u32"),
    "another type": (M.having(Entry("general.type", "string", "vocab")).packed(), "'vocab'"),
    "a part": (M.having(Entry("split.count", "u16", 3)).packed(), "number 1 of 3 parts"),
    "the second part": (
        M.having(Entry("split.count", "u16", 3), Entry("split.no", "u16", 1)).packed(),
        "number 2 of 3 parts",
    ),
    "no architecture": (M.without("general.architecture").packed(), "general.architecture"),
    "a path for an architecture": (
        M.having(Entry("general.architecture", "string", "../x")).packed(),
        "'../x'",
    ),
    "no layers": (M.having(Entry("llama.block_count", "u32", 0)).packed(), "from 1 to 512"),
    "513 layers": (M.having(Entry("llama.block_count", "u32", 513)).packed(), "is 513"),
    "block_count missing": (M.without("llama.block_count").packed(), "block_count is missing"),
    "context missing": (M.without("llama.context_length").packed(), "context_length is missing"),
    "embedding of nothing": (M.having(Entry("llama.embedding_length", "u32", 0)).packed(), "is 0"),
    "heads that do not divide": (
        M.having(Entry("llama.attention.head_count", "u32", 6)).packed(),
        "cannot be split",
    ),
    "kv heads that do not divide": (
        M.having(Entry("llama.attention.head_count_kv", "u32", 3)).packed(),
        "cannot share",
    ),
    "heads of too few layers": (
        M.having(Entry("llama.attention.head_count", "array", [4], "u32")).packed(),
        "each of 2 layers",
    ),
    "rope beyond the embedding": (
        M.having(Entry("llama.rope.dimension_count", "u32", 33)).packed(),
        "is 33",
    ),
    "epsilon of zero": (
        M.having(Entry("llama.attention.layer_norm_rms_epsilon", "f32", 0.0)).packed(),
        "above 0",
    ),
    "epsilon that is no number": (
        M.having(Entry("llama.attention.layer_norm_rms_epsilon", "f32", float("nan"))).packed(),
        "is nan",
    ),
    "more experts used than there are": (
        M.having(Entry("llama.expert_used_count", "u32", 2)).packed(),
        "2 of 0 experts",
    ),
    "more layers ahead than there are": (
        M.having(Entry("llama.nextn_predict_layers", "u32", 3)).packed(),
        "is 3; it must be from 0 to 2",
    ),
    "an unknown way to scale": (
        M.having(Entry("llama.rope.scaling.type", "string", "x")).packed(),
        "scaling.type is 'x'",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_file_is_refused_with_the_reason(name: str) -> None:
    content, reason = WRONG[name]
    assert reason in refusal_of(content)


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (Entry("general.type", "string", "adapter"), "an adapter (LoRA)"),
        (Entry("general.type", "string", "mmproj"), "the projector (mmproj)"),
        (Entry("general.architecture", "string", "clip"), "the projector (mmproj)"),
        (Entry("general.type", "string", "imatrix"), "quantised with"),
    ],
)
def test_what_serves_only_with_a_model_is_told_from_a_wrong_file(entry: Entry, reason: str) -> None:
    content = M.having(entry).packed()
    with pytest.raises(BelongsToAModel, match=re.escape(reason)):
        header_of(content)
    # Its structure is checked all the same: it goes to native code beside the model.
    with pytest.raises(NotAModel) as refusal:
        header_of(content[:-1000])
    assert not isinstance(refusal.value, BelongsToAModel)


def test_a_split_model_of_one_part_is_whole() -> None:
    header_of(M.having(Entry("split.count", "u16", 1)).packed())


def test_every_truncation_is_refused() -> None:
    for length in (*range(2000), *range(2000, len(SEED), 97)):
        assert refusal_of(SEED[:length])


def test_an_io_error_is_not_taken_for_a_bad_model() -> None:
    class Broken:
        def read_at(self, offset: int, length: int) -> bytes:
            raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output"):
        read_header(Broken(), 10**6)


def _is_answered(content: bytes) -> bool:
    """Whether there is a header; anything but a header or NotAModel gets out."""
    refusal = ""
    header = None
    try:
        header = header_of(content)
    except NotAModel as error:
        refusal = str(error)
    if header is None:
        assert refusal.endswith(".")
        assert refusal.isprintable()
        return False
    assert header.tensor_bytes < 2**62
    assert header.tensor_bytes <= len(content)
    return True


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, HEADER_BYTES), st.binary(max_size=9)), max_size=6))
def test_an_overwritten_file_gives_a_header_or_a_refusal(patches: list[tuple[int, bytes]]) -> None:
    content = bytearray(SEED)
    for position, patch in patches:
        content[position : position + len(patch)] = patch
    _is_answered(bytes(content))


@settings(deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_after_the_magic_give_a_header_or_a_refusal(tail: bytes) -> None:
    _is_answered(b"GGUF" + tail)


@pytest.mark.slow
def test_seeded_mutants_give_a_header_or_a_refusal() -> None:
    # 200,000 of them: `python -m tests.bench.headers`.
    rng = random.Random(20261122)
    answered = sum(_is_answered(mutant(rng)) for _ in range(3000))
    # Both outcomes must occur, or the mutations miss the point.
    assert 0 < answered < 3000
