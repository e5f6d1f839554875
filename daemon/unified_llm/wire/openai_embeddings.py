"""OpenAI's embeddings: JSON in, `EmbeddingRequest` out, and vectors back to JSON.

The shape is the one of the official client (package `openai`, `embeddings.create`), which asks for
base64 unless told otherwise: little-endian IEEE 754 numbers of 32 bits.
"""

import base64
import sys
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

from unified_llm.domain.embeddings import EmbeddingRequest, Embeddings
from unified_llm.domain.models import ModelId
from unified_llm.domain.money import render_dollars
from unified_llm.domain.units import Tokens
from unified_llm.wire.fields import Shape, decode_json, parse_shape
from unified_llm.wire.openai import Ignored, OwnFieldsShape

_encode = msgspec.json.Encoder().encode


def _text_list(value: object) -> object:
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and value and isinstance(value[0], int | list):
        raise PydanticCustomError(
            "tokens",
            "is made of tokens, which are those of another model; send text (LangChain does with "
            "check_embedding_ctx_length=False)",
        )
    return value


class EmbeddingsShape(Shape):
    """The body of `POST /v1/embeddings`."""

    model: str
    input: Annotated[list[str], BeforeValidator(_text_list, json_schema_input_type=str | list[str])]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = None
    user: Ignored = None
    x_unified_llm: OwnFieldsShape | None = None


@dataclass(frozen=True, slots=True)
class AskedEmbeddings:
    """A request, and whether its vectors are sent as base64."""

    request: EmbeddingRequest
    is_base64: bool


def parse_embeddings(raw: bytes) -> AskedEmbeddings:
    """What a request's body asks for. Raises InvalidRequest."""
    shape = parse_shape(EmbeddingsShape, decode_json(raw))
    request = EmbeddingRequest(
        ModelId(shape.model),
        tuple(shape.input),
        shape.dimensions,
        local_only=bool(shape.x_unified_llm and shape.x_unified_llm.local_only),
    )
    return AskedEmbeddings(request, shape.encoding_format == "base64")


def encode_embeddings(asked: AskedEmbeddings, found: Embeddings) -> Iterator[bytes]:
    """The body of the answer, in pieces of a vector each."""
    yield b'{"object":"list","data":['
    for index, vector in enumerate(found.vectors):
        shown: Any = _base64(vector) if asked.is_base64 else _floats(vector)
        entry = {"object": "embedding", "index": index, "embedding": shown}
        yield (b"," if index else b"") + _encode(entry)
    yield b'],"model":' + _encode(asked.request.model)
    yield b',"usage":' + _encode(_usage(found.prompt_tokens))
    yield b',"x_unified_llm":' + _encode(_extras(found)) + b"}"


def _usage(tokens: Tokens | None) -> dict[str, int] | None:
    return None if tokens is None else {"prompt_tokens": tokens, "total_tokens": tokens}


def _extras(found: Embeddings) -> dict[str, object]:
    return {
        "cost_dollars": None if found.cost is None else render_dollars(found.cost),
        "tried": [msgspec.to_builtins(attempt) for attempt in found.attempts],
    }


def _floats(vector: Sequence[float]) -> list[float]:
    # Nine digits tell any two numbers of 32 bits apart; as 64 bits they would be written with 17.
    return [float(f"{number:.9g}") for number in vector]


def _base64(vector: Sequence[float]) -> str:
    numbers = array("f", vector)
    if sys.byteorder == "big":
        numbers.byteswap()
    return base64.b64encode(numbers.tobytes()).decode()
