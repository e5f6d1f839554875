"""What rooms need of each other, by need. Adapters are named by means, fakes by Fake plus port."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from unified_llm.domain.callers import Caller
from unified_llm.domain.chat import ChatEvent, ChatRequest
from unified_llm.domain.embeddings import EmbeddingRequest, Embeddings, Ranking, RerankRequest
from unified_llm.domain.events import Event
from unified_llm.domain.models import ModelId
from unified_llm.domain.units import Bytes, Instant, Seconds


class Clock(Protocol):
    """The monotonic clock. Passed in, so that tests move it by hand."""

    def now(self) -> Instant:
        """The present moment."""


class Timers(Clock, Protocol):
    """A clock that can also end a wait."""

    def timeout_at(self, moment: Instant | None) -> AbstractAsyncContextManager[object]:
        """End the body with TimeoutError when `moment` comes; None never does."""


class EventSink(Protocol):
    """Takes a fact and returns at once."""

    def __call__(self, event: Event) -> None: ...


class ByteCount(Protocol):
    """Told of bytes that come through, from the first on; in whatever thread counts them."""

    def __call__(self, done: Bytes, total: Bytes) -> None: ...


class Backend(Protocol):
    """Something that can answer a chat."""

    def chat(
        self, request: ChatRequest, caller: Caller
    ) -> AbstractAsyncContextManager[AsyncIterator[ChatEvent]]:
        """Open the stream of answers.

        Entering waits for the model (loading it if need be) and returns when the first event may be
        awaited. Leaving, however it happens, stops the generation and frees what it held.
        Raises UnifiedLlmError on entry and while iterating.
        """


class Embedder(Protocol):
    """Something that can turn texts into vectors."""

    async def embed(self, request: EmbeddingRequest, caller: Caller) -> Embeddings:
        """All vectors; waits for the model. Cancelling stops the work. Raises UnifiedLlmError."""


class Reranker(Protocol):
    """Something that can judge documents by a query."""

    async def rerank(self, request: RerankRequest, caller: Caller) -> Ranking:
        """All scores; waits for the model. Cancelling stops the work. Raises UnifiedLlmError."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to use a loaded model until the context it came from is left.

    generation: which worker process of the model; a later worker has a higher number.
    """

    model: ModelId
    generation: int


class Leases(Protocol):
    """Grants leases; the scheduler does."""

    def lease(
        self, model: ModelId, principal: str, *, timeout: Seconds
    ) -> AbstractAsyncContextManager[Lease]:
        """Wait until the model serves, loading it if need be, and hold it there.

        timeout: longest wait in the queue. Raises UnknownModel, QueueFull, NoRoom,
        ModelFailedToLoad, RequestTimedOut, Closing.
        """


Unsubscribe = Callable[[], None]
