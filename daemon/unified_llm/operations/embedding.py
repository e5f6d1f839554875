"""Asking a model for vectors, or for an order of documents."""

from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass

from unified_llm.domain.callers import Caller
from unified_llm.domain.chat import Usage
from unified_llm.domain.embeddings import EmbeddingRequest, Embeddings, Ranking, RerankRequest
from unified_llm.domain.ports import Reranker
from unified_llm.domain.profile import Purpose
from unified_llm.domain.routing import Attempt
from unified_llm.domain.units import Tokens
from unified_llm.guard.permissions import Action
from unified_llm.guard.sanitize import ensure_sane_documents
from unified_llm.operations.gate import Gate
from unified_llm.operations.models import Models
from unified_llm.operations.routes import Routes
from unified_llm.routing.candidates import LOCAL
from unified_llm.routing.vectors import VectorRouter

Scope = AbstractAsyncContextManager[None]


@dataclass(frozen=True, slots=True)
class Embedding:
    """Vectors and rankings, whoever asks and wherever they are made.

    request_id, scope: as in Inference.open_chat.
    """

    gate: Gate
    models: Models
    routes: Routes
    vectors: VectorRouter
    reranker: Reranker

    async def embed(
        self,
        caller: Caller,
        request: EmbeddingRequest,
        *,
        request_id: str | None = None,
        scope: Scope | None = None,
    ) -> Embeddings:
        """A vector of each text. Raises any UnifiedLlmError."""
        with self.gate.open_entry(caller, Action.EMBED, request.model, request=request_id) as entry:
            attempts = self.vectors.router.begin(self.routes.plan_vectors(caller, request))
            try:
                async with scope or nullcontext():
                    found = await self.vectors.embed(attempts, request, caller)
            finally:
                entry.attempts = attempts.trail
            if found.prompt_tokens is not None:
                entry.usage = Usage(found.prompt_tokens, Tokens(0))
            return found

    async def rerank(
        self,
        caller: Caller,
        request: RerankRequest,
        *,
        request_id: str | None = None,
        scope: Scope | None = None,
    ) -> Ranking:
        """A score of each document. Raises any UnifiedLlmError."""
        with self.gate.open_entry(
            caller, Action.RERANK, request.model, request=request_id
        ) as entry:
            spec = self.models.spec_for(request.model, Purpose.RANKING)
            ensure_sane_documents(request, spec.context_tokens)
            entry.attempts = (Attempt(spec.id, LOCAL),)
            async with scope or nullcontext():
                found = await self.reranker.rerank(request, caller)
            entry.usage = Usage(found.prompt_tokens, Tokens(0))
            return found
