"""Turns texts into vectors, and ranks documents, with the models of this machine."""

from collections.abc import Sequence
from contextlib import AsyncExitStack

from unified_llm.domain.callers import Caller
from unified_llm.domain.embeddings import EmbeddingRequest, Embeddings, Ranking, RerankRequest
from unified_llm.domain.errors import RequestTimedOut
from unified_llm.domain.ports import Timers
from unified_llm.domain.units import Seconds, Tokens, later
from unified_llm.fleet.dispatch import Dispatch
from unified_llm.fleet.faults import error_of
from unified_llm.fleet.generation_stream import GenerationStream
from unified_llm.fleet.vector_check import numbers_of
from unified_llm.worker.protocol import Done, Failed, Vector


class LocalVectors:
    """An Embedder and a Reranker over leases and workers.

    total: longest time of a whole request; that its worker gets on at all is seen to elsewhere.
    """

    def __init__(self, dispatch: Dispatch, timers: Timers, *, total: Seconds) -> None:
        self._dispatch = dispatch
        self._timers = timers
        self._total = total

    async def embed(self, request: EmbeddingRequest, caller: Caller) -> Embeddings:
        """As in domain.ports.Embedder."""
        vectors, tokens = await self._answer(request, caller)
        return Embeddings(vectors, tokens)

    async def rerank(self, request: RerankRequest, caller: Caller) -> Ranking:
        """As in domain.ports.Reranker."""
        scores, tokens = await self._answer(request, caller)
        return Ranking(tuple(score[0] for score in scores), tokens)

    async def _answer(
        self, request: EmbeddingRequest | RerankRequest, caller: Caller
    ) -> tuple[tuple[Sequence[float], ...], Tokens]:
        ends_at = later(self._timers.now(), self._total)
        async with AsyncExitStack() as stack:
            stream, _ = await self._dispatch.open_stream(stack, request, caller.principal)
            try:
                async with self._timers.timeout_at(ends_at):
                    return await _read(stream)
            except TimeoutError as error:
                raise RequestTimedOut(
                    f"The vectors took longer than {self._total:g} s.",
                    hint="Send fewer texts at once, or ask later.",
                ) from error


async def _read(stream: GenerationStream) -> tuple[tuple[Sequence[float], ...], Tokens]:
    vectors: list[Sequence[float]] = []
    while True:
        match await stream.next_frame():
            case Vector(numbers=numbers):
                vectors.append(numbers_of(numbers))
            case Failed() as failed:
                raise error_of(failed)
            case Done(prompt_tokens=tokens):
                return tuple(vectors), Tokens(tokens)
            case _:
                pass
