"""Reranking in the shape that Jina, Cohere and llama-server share: `POST /v1/rerank`."""

from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from pydantic import BeforeValidator, Field

from unified_llm.domain.embeddings import Ranking, RerankRequest
from unified_llm.domain.models import ModelId
from unified_llm.wire.fields import Shape, decode_json, parse_shape


def _document_texts(value: object) -> object:
    """Jina and Cohere also take documents as objects with a `text`."""
    if not isinstance(value, list):
        return value
    return [
        document["text"] if isinstance(document, dict) and set(document) == {"text"} else document
        for document in value
    ]


class RerankShape(Shape):
    """The body of `POST /v1/rerank`."""

    model: str
    query: str
    documents: Annotated[list[str], BeforeValidator(_document_texts)]
    top_n: Annotated[int, Field(ge=1)] | None = None
    return_documents: bool | None = None


@dataclass(frozen=True, slots=True)
class AskedRanking:
    """A request, and what is sent of its answer. top_n: so many of the best; None for all."""

    request: RerankRequest
    top_n: int | None
    with_documents: bool


def parse_rerank(raw: bytes) -> AskedRanking:
    """What a request's body asks for. Raises InvalidRequest."""
    shape = parse_shape(RerankShape, decode_json(raw))
    request = RerankRequest(ModelId(shape.model), shape.query, tuple(shape.documents))
    return AskedRanking(request, shape.top_n, bool(shape.return_documents))


def encode_ranking(asked: AskedRanking, ranking: Ranking, request_id: str) -> bytes:
    """The body of the answer: the best document first, equal ones in the order they came."""
    order = sorted(range(len(ranking.scores)), key=lambda index: -ranking.scores[index])
    tokens = ranking.prompt_tokens
    return msgspec.json.encode(
        {
            "id": f"rerank-{request_id}",
            "object": "list",
            "model": asked.request.model,
            "results": [_result(asked, ranking, index) for index in order[: asked.top_n]],
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
    )


def _result(asked: AskedRanking, ranking: Ranking, index: int) -> dict[str, Any]:
    result: dict[str, Any] = {"index": index, "relevance_score": ranking.scores[index]}
    if asked.with_documents:
        result["document"] = {"text": asked.request.documents[index]}
    return result
