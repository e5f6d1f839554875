"""Texts as vectors, and documents in the order of their relevance: what is asked and answered."""

from collections.abc import Sequence
from dataclasses import dataclass

from unified_llm.domain.models import ModelId
from unified_llm.domain.units import Tokens


@dataclass(frozen=True, slots=True)
class EmbeddingRequest:
    """Texts to be turned into vectors.

    dimensions: the length the vectors are cut to and normalised again; None for the model's own.
    """

    model: ModelId
    texts: tuple[str, ...]
    dimensions: int | None = None


@dataclass(frozen=True, slots=True)
class Embeddings:
    """A vector of length 1 for each text, in the order of the texts."""

    vectors: tuple[Sequence[float], ...]
    prompt_tokens: Tokens


@dataclass(frozen=True, slots=True)
class RerankRequest:
    """Documents to be judged by how well they answer `query`."""

    model: ModelId
    query: str
    documents: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ranking:
    """How relevant each document is, in the order of the documents; higher is better.

    What the numbers mean beyond their order is the model's affair.
    """

    scores: tuple[float, ...]
    prompt_tokens: Tokens
