"""Checks of the tokenizer part, each for input that has ended or corrupted a llama.cpp process."""

import re
from dataclasses import dataclass
from typing import Final

from unified_llm.gguf.metadata import Array, Metadata
from unified_llm.gguf.reader import NotAModel

MAX_TOKENS: Final = 2 * 1024 * 1024
MAX_TOKEN_BYTES: Final = 4096
MAX_TEMPLATE_BYTES: Final = 256 * 1024

_PREFIX: Final = "tokenizer.ggml."
_TEMPLATE: Final = "tokenizer.chat_template"
_BYTE_TOKEN: Final = re.compile(rb"<0x([0-9A-Fa-f]{2})>")
_BYTE_TYPE: Final = 6
_SENTENCEPIECE: Final = "llama"
_WORDPIECE: Final = "bert"


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What was checked. tokenizer: `tokenizer.ggml.model`, such as `gpt2`."""

    tokenizer: str
    size: int
    has_chat_template: bool


def parse_vocabulary(metadata: Metadata) -> Vocabulary:
    """The checked vocabulary of a model. Raises NotAModel if it has none or a dangerous one."""
    tokenizer = metadata.text(f"{_PREFIX}model", 64)
    if tokenizer in (None, "none", "no_vocab"):
        # llama.cpp aborts when a model without a tokenizer is given text.
        raise NotAModel("The file has no tokenizer, so it is not a model that can be given text.")
    tokens = metadata.array(f"{_PREFIX}tokens", "string")
    if tokens is None or not 1 <= tokens.count <= MAX_TOKENS:
        count = tokens.count if tokens else 0
        raise NotAModel(f"The vocabulary has {count} tokens; it must have 1 to {MAX_TOKENS}.")
    _require_companion(metadata, "scores", "f32", tokens.count)
    types = _require_companion(metadata, "token_type", "i32", tokens.count)
    byte_tokens = _byte_tokens(metadata, types) if types else frozenset()
    if byte_tokens and tokenizer == _WORDPIECE:
        # llama.cpp aborts when it writes such a token out.
        raise NotAModel(f"The tokenizer {tokenizer} has {len(byte_tokens)} byte tokens, not 0.")
    _check_tokens(metadata, tokens, byte_tokens, complete=tokenizer == _SENTENCEPIECE)
    for key in metadata.entries:
        if key.startswith(_PREFIX) and key.endswith("_token_id"):
            metadata.unsigned(key, 0, tokens.count - 1)
    template = metadata.text(_TEMPLATE, MAX_TEMPLATE_BYTES)
    return Vocabulary(str(tokenizer), tokens.count, has_chat_template=bool(template))


def _require_companion(metadata: Metadata, name: str, item_type: str, count: int) -> Array | None:
    array = metadata.array(f"{_PREFIX}{name}", item_type)
    if array is not None and array.count != count:
        raise NotAModel(f"{_PREFIX}{name} has {array.count} items for {count} tokens.")
    return array


def _byte_tokens(metadata: Metadata, types: Array) -> frozenset[int]:
    """The indices of the tokens that stand for one byte."""
    found = set()
    for index, type_ in enumerate(metadata.integers(types, f"{_PREFIX}token_type")):
        if not 0 <= type_ <= _BYTE_TYPE:
            raise NotAModel(f"Token {index} has the type {type_}; types are 0 to {_BYTE_TYPE}.")
        if type_ == _BYTE_TYPE:
            found.add(index)
    return frozenset(found)


def _check_tokens(
    metadata: Metadata, tokens: Array, byte_tokens: frozenset[int], *, complete: bool
) -> None:
    """Every token usable and unique; byte tokens well-formed and, if `complete`, all or none."""
    seen: set[bytes] = set()
    values: set[int] = set()
    reader = metadata.cursor.at(tokens.position)
    for index, token in enumerate(reader.strings(tokens.count, MAX_TOKEN_BYTES, "the vocabulary")):
        if not token or b"\0" in token:
            raise NotAModel(f"Token {index} is empty or holds a NUL.")
        if index in byte_tokens:
            values.add(_byte_value(token, index))
        seen.add(token)
        if len(seen) <= index:
            # llama.cpp asserts that texts and ids are one to one.
            raise NotAModel(f"Token {index}, {token[:40]!r}, is in the vocabulary twice.")
    if complete and byte_tokens and len(values) != 256:
        raise NotAModel(f"The vocabulary has {len(values)} of the 256 byte tokens.")


def _byte_value(token: bytes, index: int) -> int:
    # llama.cpp indexes by what it parses here: `<0x-1>` wrote before the start of an array.
    match = _BYTE_TOKEN.fullmatch(token)
    if match is None:
        raise NotAModel(f"Byte token {index} is {token[:40]!r}; it must look like <0x0A>.")
    return int(match[1], 16)
