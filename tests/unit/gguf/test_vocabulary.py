"""gguf.vocabulary, through whole files."""

import pytest

from tests.unit.gguf.reading import header_of, refusal_of
from tests.unit.gguf.writing import Entry, ModelFile

M = ModelFile()
TOKENS = [f"t{index}" for index in range(285)]

WRONG: dict[str, tuple[bytes, str]] = {
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
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_vocabulary_is_refused_with_the_reason(name: str) -> None:
    content, reason = WRONG[name]
    assert reason in refusal_of(content)


def test_a_model_may_lack_scores_types_and_template() -> None:
    keys = ("tokenizer.ggml.scores", "tokenizer.ggml.token_type", "tokenizer.chat_template")
    header = header_of(M.without(*keys).packed())
    assert (header.vocabulary_size, header.has_chat_template) == (285, False)
