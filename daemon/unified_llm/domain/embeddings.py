"""Texts as vectors, and documents in the order of their relevance: what is asked and answered."""

from collections.abc import Sequence
from dataclasses import dataclass

from unified_llm.domain.models import ModelId
from unified_llm.domain.money import Money
from unified_llm.domain.routing import Attempt
from unified_llm.domain.units import Tokens


@dataclass(frozen=True, slots=True)
class EmbeddingRequest:
    """Texts to be turned into vectors.

    dimensions: the length the vectors are cut to and normalised again; None for the model's own.
    local_only: they may not leave this machine, whatever the model stands for.
    """

    model: ModelId
    texts: tuple[str, ...]
    dimensions: int | None = None
    local_only: bool = False


@dataclass(frozen=True, slots=True)
class Embeddings:
    """A vector for each text, in the order of the texts.

    Those of this machine have length 1; a provider's are as it made them. prompt_tokens: None if
    whoever made them does not tell. attempts, cost: as in chat.Finished.
    """

    vectors: tuple[Sequence[float], ...]
    prompt_tokens: Tokens | None
    attempts: tuple[Attempt, ...] = ()
    cost: Money | None = None


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
