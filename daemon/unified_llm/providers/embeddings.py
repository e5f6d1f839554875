"""Texts to vectors: OpenAI's embeddings and Ollama's `/api/embed`.

Shapes: package `openai`, `embedding_create_params` and `create_embedding_response`; package
`ollama`, `EmbedRequest` and `EmbedResponse`.
"""

import base64
import binascii
import math
import sys
from array import array
from collections.abc import Sequence
from typing import Any, Final, Protocol

import msgspec

from unified_llm.domain.chat import Usage
from unified_llm.domain.embeddings import EmbeddingRequest, Embeddings
from unified_llm.domain.errors import ProviderFailed
from unified_llm.domain.units import Tokens
from unified_llm.providers.api import Outgoing
from unified_llm.providers.decoding import believed, decode
from unified_llm.providers.features import ignored

_encode: Final = msgspec.json.Encoder().encode


class EmbeddingApi(Protocol):
    """One way to ask for vectors."""

    def render_texts(self, request: EmbeddingRequest, name: str) -> Outgoing:
        """`request` for the model that the provider calls `name`."""

    def parse_vectors(self, body: bytes, request: EmbeddingRequest) -> Embeddings:
        """The vectors in the answer to `request`. Raises ProviderFailed and ProviderRefused."""


class OpenAiEmbeddings:
    """As OpenAI has it, and those who speak like it."""

    def render_texts(self, request: EmbeddingRequest, name: str) -> Outgoing:
        """As in EmbeddingApi. base64, as the official client does: a quarter of the bytes."""
        body: dict[str, object] = {
            "model": name,
            "input": request.texts,
            "encoding_format": "base64",
        }
        if request.dimensions is not None:
            body["dimensions"] = request.dimensions
        return Outgoing("embeddings", _encode(body))

    def parse_vectors(self, body: bytes, request: EmbeddingRequest) -> Embeddings:
        """As in EmbeddingApi. Some servers send numbers, whatever they were asked for."""
        answer = decode(body, _OpenAiAnswer)
        ordered = sorted(answer.data, key=lambda each: each.index)
        if [each.index for each in ordered] != list(range(len(request.texts))):
            raise _not_these(len(ordered), request)
        vectors = tuple(_numbers(each.embedding) for each in ordered)
        _ensure_sound(vectors, request)
        count = None if answer.usage is None else answer.usage.prompt_tokens
        return Embeddings(vectors, _tokens(count))


class OllamaEmbeddings:
    """As Ollama has it."""

    def render_texts(self, request: EmbeddingRequest, name: str) -> Outgoing:
        """As in EmbeddingApi. A text that is too long is refused, not cut behind our back."""
        body: dict[str, object] = {"model": name, "input": request.texts, "truncate": False}
        if request.dimensions is not None:
            body["dimensions"] = request.dimensions
        return Outgoing("api/embed", _encode(body))

    def parse_vectors(self, body: bytes, request: EmbeddingRequest) -> Embeddings:
        """As in EmbeddingApi."""
        answer = decode(body, _OllamaAnswer)
        vectors = tuple(array("d", decode(each, list[float])) for each in answer.embeddings)
        if len(vectors) != len(request.texts):
            raise _not_these(len(vectors), request)
        _ensure_sound(vectors, request)
        return Embeddings(vectors, _tokens(answer.prompt_eval_count))


# Vectors are decoded one by one: no other thread runs while msgspec is in one piece of JSON.
class _Vector(msgspec.Struct):
    index: int
    embedding: msgspec.Raw


class _Used(msgspec.Struct):
    prompt_tokens: int


class _OpenAiAnswer(msgspec.Struct):
    data: list[_Vector]
    usage: _Used | None = None


class _OllamaAnswer(msgspec.Struct):
    embeddings: list[msgspec.Raw]
    prompt_eval_count: int | None = None


_FORMS: Final[Any] = str | list[float]


def _tokens(count: int | None) -> Tokens | None:
    told = None if count is None else believed(Usage(Tokens(count), Tokens(0)))
    return None if told is None else told.prompt_tokens


def _numbers(raw: msgspec.Raw) -> Sequence[float]:
    told: str | list[float] = decode(raw, _FORMS)
    if isinstance(told, list):
        return array("d", told)
    numbers = array("f")
    try:
        numbers.frombytes(base64.b64decode(told, validate=True))
    except (binascii.Error, ValueError) as error:
        raise ProviderFailed("A vector of the provider is no base64 of 32-bit numbers.") from error
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def _ensure_sound(vectors: Sequence[Sequence[float]], request: EmbeddingRequest) -> None:
    lengths = {len(vector) for vector in vectors}
    if len(lengths) != 1 or 0 in lengths:
        raise ProviderFailed("The provider's vectors are empty, or not of one length.")
    (length,) = lengths
    if request.dimensions not in {None, length}:
        fact = f"its vectors have {length} numbers, and {request.dimensions} were asked for"
        raise ignored("dimensions", fact)
    # A sum is finite only if all of it is.
    if not all(math.isfinite(sum(vector)) for vector in vectors):
        raise ProviderFailed("The provider's vectors hold what is no number.")


def _not_these(count: int, request: EmbeddingRequest) -> ProviderFailed:
    return ProviderFailed(
        f"The provider sent {count} vectors that are not those of {len(request.texts)} texts."
    )
