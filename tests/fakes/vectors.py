"""An embedder and reranker that answers by a rule."""

import asyncio

from unified_llm.domain.callers import Caller
from unified_llm.domain.embeddings import EmbeddingRequest, Embeddings, Ranking, RerankRequest
from unified_llm.domain.errors import UnifiedLlmError
from unified_llm.domain.units import Tokens


class FakeVectors:
    """Implements domain.ports.Embedder and Reranker: a text's vector is its length's direction.

    refusal: raised instead. hold: waited for before the answer. open: requests going on now.
    is_counting: whether it tells the tokens of texts.
    """

    def __init__(self) -> None:
        self.refusal: UnifiedLlmError | None = None
        self.hold: asyncio.Event | None = None
        self.open = 0
        self.is_counting = True
        self.asked: list[tuple[EmbeddingRequest | RerankRequest, Caller]] = []

    async def embed(self, request: EmbeddingRequest, caller: Caller) -> Embeddings:
        """As in domain.ports.Embedder."""
        await self._take(request, caller)
        odd = (0.6, 0.8, 0.0)
        vectors = tuple(odd if len(text) % 2 else odd[::-1] for text in request.texts)
        return Embeddings(vectors, Tokens(3 * len(request.texts)) if self.is_counting else None)

    async def rerank(self, request: RerankRequest, caller: Caller) -> Ranking:
        """As in domain.ports.Reranker."""
        await self._take(request, caller)
        scores = tuple(float(len(document)) for document in request.documents)
        return Ranking(scores, Tokens(4 * len(request.documents)))

    async def _take(self, request: EmbeddingRequest | RerankRequest, caller: Caller) -> None:
        self.asked.append((request, caller))
        if self.refusal is not None:
            raise self.refusal
        self.open += 1
        try:
            if self.hold is not None:
                await self.hold.wait()
        finally:
            self.open -= 1
