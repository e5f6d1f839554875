"""gguf.header, and through it metadata, tensors and vocabulary."""

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.real_models import smollm2
from tests.tiny_gguf import Defect, tiny_gguf
from tests.unit.gguf.writing import BytesSource, Entry, ModelFile, Tensor, string
from unified_llm.gguf.header import MAX_HEADER_BYTES, ModelHeader, read_header
from unified_llm.gguf.reader import NotAModel

SEED = ModelFile().packed()


def header_of(content: bytes) -> ModelHeader:
    return read_header(BytesSource(content), len(content))


def refusal_of(content: bytes) -> str:
    with pytest.raises(NotAModel) as caught:
        header_of(content)
    return str(caught.value)


def test_a_right_file_is_described() -> None:
    header = header_of(SEED)
    assert (header.architecture, header.name, header.basename) == ("llama", "A small one", "Small")
    assert (header.size_label, header.quantisation) == ("20K", "F32")
    assert (header.block_count, header.context_length, header.embedding_length) == (2, 1024, 32)
    assert (header.head_counts, header.kv_head_counts) == ((4, 4), (2, 2))
    assert (header.key_length, header.value_length) == (8, 8)
    assert header.kv_bytes_per_token == 2 * 2 * (8 + 8) * 2
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
    assert header.kv_bytes_per_token == 180 * 1024 * 1024 // 8192
    assert (header.vocabulary_size, header.has_chat_template) == (49_152, True)
    assert header.parameters == 134_515_008
    assert source.read_bytes < path.stat().st_size / 10


def test_the_generated_model_that_the_engine_runs_is_accepted() -> None:
    header = header_of(tiny_gguf(context_tokens=256, special=["<|end|>"]))
    assert (header.context_length, header.has_chat_template) == (256, False)
    assert header.kv_bytes_per_token == 1 * 4 * (8 + 8) * 2


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
    assert header.kv_bytes_per_token == 2 * (8 + 8) * 2


def test_without_kv_heads_every_head_has_its_own_keys() -> None:
    header = header_of(ModelFile().without("llama.attention.head_count_kv").packed())
    assert header.kv_head_counts == (4, 4)


def test_kv_size_is_unknown_without_head_counts() -> None:
    keys = ("llama.attention.head_count", "llama.attention.head_count_kv")
    assert header_of(ModelFile().without(*keys).packed()).kv_bytes_per_token is None


def test_a_model_without_attention_has_no_kv_cache() -> None:
    model = ModelFile().without("llama.attention.head_count_kv")
    model = model.having(Entry("llama.attention.head_count", "u32", 0))
    assert header_of(model.packed()).kv_bytes_per_token == 0


def test_own_key_and_value_lengths_count() -> None:
    model = ModelFile().having(
        Entry("llama.attention.key_length", "u32", 24),
        Entry("llama.attention.value_length", "u32", 16),
    )
    assert header_of(model.packed()).kv_bytes_per_token == 2 * 2 * (24 + 16) * 2


@pytest.mark.parametrize("label", [b"\xff\xfe", b"\x1b[31mred", b"", b"x" * 300])
def test_a_name_that_cannot_be_shown_is_unknown(label: bytes) -> None:
    header = header_of(ModelFile().having(Entry("general.basename", "string", label)).packed())
    assert header.basename is None or header.basename.isprintable()
    assert header.basename != ""


TOKENS = [f"t{index}" for index in range(285)]
M = ModelFile()
T = Tensor("a", (32,))

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
    "a LoRA": (M.having(Entry("general.type", "string", "adapter")).packed(), "'adapter'"),
    "a part": (M.having(Entry("split.count", "u16", 3)).packed(), "3 parts"),
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
    "byte tokens in a word-piece vocabulary": (
        M.having(Entry("tokenizer.ggml.model", "string", "bert")).packed(),
        "256 byte tokens, not 0",
    ),
    "no tokenizer": (M.without("tokenizer.ggml.model").packed(), "no tokenizer"),
    "tokenizer none": (
        M.having(Entry("tokenizer.ggml.model", "string", "none")).packed(),
        "no tok",
    ),
    "no tokens": (M.without("tokenizer.ggml.tokens").packed(), "has 0 tokens"),
    "an empty token": (
        M.having(Entry("tokenizer.ggml.tokens", "array", ["", *TOKENS[1:]], "string")).packed(),
        "Token 0 is empty",
    ),
    "a token with a NUL": (
        M.without("tokenizer.ggml.token_type")
        .having(Entry("tokenizer.ggml.tokens", "array", [*TOKENS[1:], "a\0"], "string"))
        .packed(),
        "Token 284 is empty or holds a NUL",
    ),
    "a token twice": (
        M.without("tokenizer.ggml.token_type")
        .having(Entry("tokenizer.ggml.tokens", "array", [*TOKENS[1:], "t7"], "string"))
        .packed(),
        "b't7', is in the vocabulary twice",
    ),
    "a token of 5000 bytes": (
        M.without("tokenizer.ggml.token_type")
        .having(Entry("tokenizer.ggml.tokens", "array", [*TOKENS[1:], "x" * 5000], "string"))
        .packed(),
        "5000 bytes",
    ),
    "byte tokens that are none": (
        M.having(Entry("tokenizer.ggml.tokens", "array", TOKENS, "string")).packed(),
        "must look like <0x0A>",
    ),
    "a byte token too few": (
        M.having(
            Entry("tokenizer.ggml.token_type", "array", [2, 3, 3, *[6] * 255, *[1] * 27], "i32")
        ).packed(),
        "255 of the 256",
    ),
    "a token type of 7": (
        M.having(Entry("tokenizer.ggml.token_type", "array", [7] * 285, "i32")).packed(),
        "type 7",
    ),
    "too few scores": (
        M.having(Entry("tokenizer.ggml.scores", "array", [0.0] * 284, "f32")).packed(),
        "284 items for 285 tokens",
    ),
    "an end token beyond the vocabulary": (
        M.having(Entry("tokenizer.ggml.eos_token_id", "u32", 285)).packed(),
        "is 285; it must be from 0 to 284",
    ),
    "a template of 300 KB": (
        M.having(Entry("tokenizer.chat_template", "string", "x" * 300_000)).packed(),
        "300000 bytes long",
    ),
    "a template that is not text": (
        M.having(Entry("tokenizer.chat_template", "string", b"\xff")).packed(),
        "not UTF-8",
    ),
    "a tensor without a name": (replace(M, tensors=(Tensor("", (1,)),)).packed(), "is empty"),
    "a tensor name of 64 bytes": (
        replace(M, tensors=(Tensor("x" * 64, (1,)),)).packed(),
        "at most 63",
    ),
    "a tensor twice": (replace(M, tensors=(T, T)).packed(), "there twice"),
    "no dimensions": (replace(M, tensors=(Tensor("a", ()),)).packed(), "0 dimensions"),
    "five dimensions": (replace(M, tensors=(Tensor("a", (1,) * 5),)).packed(), "5 dimensions"),
    "a dimension of 0": (replace(M, tensors=(Tensor("a", (0,)),)).packed(), "dimension of 0"),
    "a dimension of 2^64-1": (
        replace(M, tensors=(Tensor("a", (2**64 - 1,)),)).packed(),
        "dimension of 18446744073709551615",
    ),
    "a product of 2^80": (
        replace(M, tensors=(Tensor("a", (2**40, 2**40)),)).packed(),
        f"takes {4 * 2**80} bytes",
    ),
    "an unknown type": (replace(M, tensors=(Tensor("a", (32,), 4),)).packed(), "type 4"),
    "a row that is no block": (
        replace(M, tensors=(Tensor("a", (33,), 2),)).packed(),
        "multiple of 32",
    ),
    "overlap": (replace(M, tensors=(T, Tensor("b", (32,), 0, 32))).packed(), "not 128"),
    "a gap": (replace(M, tensors=(Tensor("a", (32,), 0, 32),)).packed(), "offset 32, not 0"),
    "an offset of 2^64-32": (
        replace(M, tensors=(T, Tensor("b", (32,), 0, 2**64 - 32))).packed(),
        "offset 18446744073709551584",
    ),
    "one byte short": (replace(M, missing_bytes=1).packed(), "b'blk.0.attn_q.weight' would end"),
    "31 bytes short": (replace(M, missing_bytes=31).packed(), "b'blk.0.attn_q.weight' would end"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_file_is_refused_with_the_reason(name: str) -> None:
    content, reason = WRONG[name]
    assert reason in refusal_of(content)


def test_a_split_model_of_one_part_is_whole() -> None:
    header_of(M.having(Entry("split.count", "u16", 1)).packed())


@pytest.mark.parametrize("length", [2**31, 2**63, 2**64 - 1])
@pytest.mark.parametrize("kind", ["string", "strings", "numbers"])
def test_a_length_is_not_believed(length: int, kind: str) -> None:
    raw = length.to_bytes(8, "little")
    value = {
        "string": (8).to_bytes(4, "little") + raw,
        "strings": (9).to_bytes(4, "little") + (8).to_bytes(4, "little") + raw,
        "numbers": (9).to_bytes(4, "little") + (12).to_bytes(4, "little") + raw,
    }[kind]
    head = b"GGUF" + (3).to_bytes(4, "little") + (1).to_bytes(8, "little") * 2
    refusal_of(head + string("key") + value + bytes(100))


class _Zeros:
    """A file of any size that takes no room on the disk, with a given beginning."""

    def __init__(self, beginning: bytes) -> None:
        self._beginning = beginning
        self.read_bytes = 0

    def read_at(self, offset: int, length: int) -> bytes:
        self.read_bytes += length
        return self._beginning[offset : offset + length].ljust(length, b"\0")


def test_a_sparse_file_costs_no_more_than_the_header_limit() -> None:
    """An array of 2 million empty strings, then keys without a name, in a file of 2^60 bytes."""
    head = b"GGUF" + (3).to_bytes(4, "little") + (1).to_bytes(8, "little")
    head += (65_536).to_bytes(8, "little") + string("key") + (9).to_bytes(4, "little")
    source = _Zeros(head + (0).to_bytes(4, "little") + (2**26).to_bytes(8, "little"))
    with pytest.raises(NotAModel):
        read_header(source, 2**60)
    assert source.read_bytes <= MAX_HEADER_BYTES


def test_strings_in_arrays_are_limited_in_all() -> None:
    head = b"GGUF" + (3).to_bytes(4, "little") + (1).to_bytes(8, "little") * 2 + string("key")
    head += (9).to_bytes(4, "little") + (8).to_bytes(4, "little") + (2**23).to_bytes(8, "little")
    with pytest.raises(NotAModel, match="more than 4194304 strings"):
        read_header(_Zeros(head), 2**60)


def test_a_source_that_ends_early_is_a_refusal() -> None:
    with pytest.raises(NotAModel, match="ended at byte"):
        read_header(BytesSource(SEED[:1000]), len(SEED))


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


HEADER_BYTES = SEED.index(b"blk.0.attn_q.weight") + 60


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


SPECIAL = (0, 1, 7, 31, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63, 2**64 - 1)


def _mutant(rng: random.Random) -> bytes:
    content = bytearray(SEED)
    for _ in range(rng.randint(1, 4)):
        position = rng.randrange(HEADER_BYTES)
        width = rng.choice((1, 4, 8))
        value = rng.choice((*SPECIAL, rng.randrange(2**64))) % 256**width
        match rng.randrange(3):
            case 0:
                content[position : position + width] = value.to_bytes(width, "little")
            case 1:
                del content[position : position + width]
            case _:
                content[position:position] = content[position : position + width]
    return bytes(content)


@pytest.mark.slow
def test_seeded_mutants_give_a_header_or_a_refusal() -> None:
    rng = random.Random(20261122)
    answered = sum(_is_answered(_mutant(rng)) for _ in range(3000))
    # Both outcomes must occur, or the mutations miss the point.
    assert 0 < answered < 3000
