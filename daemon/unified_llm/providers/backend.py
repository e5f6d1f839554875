"""Answers chats with the models of one provider."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Final

from unified_llm.domain.callers import Caller
from unified_llm.domain.chat import ChatEvent, ChatRequest, Finished
from unified_llm.domain.embeddings import EmbeddingRequest, Embeddings
from unified_llm.domain.errors import LocalOnly, RequestTimedOut, UnifiedLlmError
from unified_llm.domain.models import ModelId
from unified_llm.domain.ports import Timers
from unified_llm.domain.providers import ProviderKind
from unified_llm.domain.secret import Secret
from unified_llm.domain.units import Instant, Seconds, later
from unified_llm.providers.api import (
    AnswerReader,
    Api,
    Exchange,
    OfferedModel,
    Outgoing,
    broken_off,
)
from unified_llm.providers.embeddings import EmbeddingApi
from unified_llm.providers.features import Feature, ensure_supported, not_taken
from unified_llm.providers.kinds import EMBEDDING_APIS

# The end of a body is in the same packet as its last event, or it is not waited for.
DRAIN_SECONDS: Final = Seconds(0.25)
# Vectors of more bytes are read in a thread, so that nobody else waits for them.
READ_AT_ONCE: Final = 2**20


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long an answer may take, in its parts.

    first_event: from sending the request to the first content. between_events: from one to the
    next. Comments that keep a stream alive are no content. total: all of it.
    """

    first_event: Seconds = Seconds(30)
    between_events: Seconds = Seconds(60)
    total: Seconds = Seconds(600)


@dataclass(frozen=True, slots=True)
class Provider:
    """A Backend and an Embedder for every model whose id begins with `<name>/`."""

    name: str
    kind: ProviderKind
    api: Api
    transport: Exchange
    timers: Timers
    deadlines: Deadlines
    key: Secret | None

    async def offered_models(self) -> tuple[OfferedModel, ...]:
        """What the provider says it has. Raises UnifiedLlmError."""
        limit = self.deadlines.first_event
        try:
            async with self.timers.timeout_at(later(self.timers.now(), limit)):
                body = await self.transport.get(self.api.models_path, self._headers())
            return self.api.parse_models(body)
        except TimeoutError as error:
            raise RequestTimedOut(
                f"Provider {self.name}: No list of models came within {limit:g} s."
            ) from error
        except UnifiedLlmError as error:
            raise self.named(error) from error.__cause__

    @asynccontextmanager
    async def chat(
        self, request: ChatRequest, caller: Caller
    ) -> AsyncIterator[AsyncIterator[ChatEvent]]:
        """As in domain.ports.Backend; entered when the provider has begun to answer.

        Raises, on entry, ProviderDown if it has not seen the request; InvalidRequest, TooLarge,
        ContentFiltered, ProviderRefused, ProviderDenied or ProviderOverloaded if it does not take
        it; and, also while iterating, ProviderFailed and RequestTimedOut.
        """
        self._ensure_may_leave(request)
        ensure_supported(self.kind, request)
        outgoing = self.api.render_chat(request, self._their_name(request.model))
        answer = _Answer(self, self.api.open_reader(request.choices), self.timers.now())
        async with AsyncExitStack() as stack:
            opening = self.transport.open_stream(outgoing.path, self._headers(), outgoing.body)
            async with answer.step():
                chunks = await stack.enter_async_context(opening)
            yield await stack.enter_async_context(aclosing(answer.events(chunks)))

    async def embed(self, request: EmbeddingRequest, caller: Caller) -> Embeddings:
        """As in domain.ports.Embedder. Raises what `chat` does; there is one answer and one limit,
        that of all of it.
        """
        self._ensure_may_leave(request)
        api = EMBEDDING_APIS.get(self.kind)
        if api is None:
            raise not_taken(self.kind, request.model, Feature.EMBEDDINGS, parameter="model")
        outgoing, limit = api.render_texts(request, self._their_name(request.model)), self.deadlines
        try:
            async with self.timers.timeout_at(later(self.timers.now(), limit.total)):
                return await _read_vectors(api, await self._whole(outgoing), request)
        except TimeoutError as error:
            raise self.named(
                RequestTimedOut(
                    f"The vectors took longer than {limit.total:g} s.",
                    hint="Send fewer texts at once, or ask later.",
                )
            ) from error
        except UnifiedLlmError as error:
            raise self.named(error) from error.__cause__

    async def _whole(self, outgoing: Outgoing) -> bytes:
        opening = self.transport.open_stream(outgoing.path, self._headers(), outgoing.body)
        async with opening as chunks:
            return b"".join([chunk async for chunk in chunks])

    def _ensure_may_leave(self, request: ChatRequest | EmbeddingRequest) -> None:
        # The plan keeps such a request here; this is the last line before the network.
        if request.local_only:
            raise LocalOnly(f"Provider {self.name} is not asked: the request stays here.")

    def _their_name(self, model: ModelId) -> str:
        return model.removeprefix(f"{self.name}/")

    def named(self, error: UnifiedLlmError) -> UnifiedLlmError:
        """`error`, saying whose it is, and without our key."""
        told = error.message if self.key is None else self.key.redacted(error.message)
        error.message = f"Provider {self.name}: {told}"
        error.args = (error.message,)
        return error

    def _headers(self) -> Mapping[str, str]:
        return self.api.headers(self.key)


async def _read_vectors(api: EmbeddingApi, body: bytes, request: EmbeddingRequest) -> Embeddings:
    if len(body) <= READ_AT_ONCE:
        return api.parse_vectors(body, request)
    return await asyncio.to_thread(api.parse_vectors, body, request)


@dataclass(slots=True)
class _Answer:
    """The events of one request, within its deadlines. waiting_since: for the next content."""

    provider: Provider
    reader: AnswerReader
    begun: Instant
    waiting_since: Instant = field(init=False)
    first_content: Instant | None = None

    def __post_init__(self) -> None:
        self.waiting_since = self.begun

    async def events(self, chunks: AsyncIterator[bytes]) -> AsyncGenerator[ChatEvent, None]:
        while True:
            async with self.step():
                chunk = await anext(chunks, None)
                if chunk is None:
                    raise broken_off()
            has_content = False
            for event in self._read(chunk):
                if isinstance(event, Finished):
                    await self._drain(chunks)
                    yield self._finished(event)
                    return
                self.first_content = self.first_content or self._now()
                has_content = True
                yield event
            if has_content:
                # From here on, so that a slow reader of ours is not held against the provider.
                self.waiting_since = self._now()

    @asynccontextmanager
    async def step(self) -> AsyncIterator[None]:
        """One wait for the provider."""
        due, fault = self._due()
        late = RequestTimedOut(fault, hint="Ask for less, or later.")
        if due <= self._now():
            # A timeout fires only where something is waited for, and a flood never waits.
            raise self.provider.named(late)
        try:
            async with self.provider.timers.timeout_at(due):
                yield
        except TimeoutError as error:
            raise self.provider.named(late) from error
        except UnifiedLlmError as error:
            raise self.provider.named(error) from error.__cause__

    def _read(self, chunk: bytes) -> Iterator[ChatEvent]:
        try:
            yield from self.reader.feed(chunk)
        except UnifiedLlmError as error:
            raise self.provider.named(error) from error.__cause__

    async def _drain(self, chunks: AsyncIterator[bytes]) -> None:
        """Read what follows the last event, so that the connection can be used again."""
        deadline = later(self._now(), DRAIN_SECONDS)
        with suppress(UnifiedLlmError, TimeoutError):
            async with self.provider.timers.timeout_at(deadline):
                async for _ in chunks:
                    pass

    def _due(self) -> tuple[Instant, str]:
        deadlines = self.provider.deadlines
        if self.first_content is None:
            limit, fault = deadlines.first_event, "No answer began within {:g} s."
        else:
            limit, fault = deadlines.between_events, "The answer paused for more than {:g} s."
        due, end = later(self.waiting_since, limit), later(self.begun, deadlines.total)
        if end <= due:
            return end, f"The answer took longer than {deadlines.total:g} s."
        return due, fault.format(limit)

    def _finished(self, end: Finished) -> Finished:
        first = self.first_content
        return replace(
            end,
            first_token=None if first is None else Seconds(first - self.begun),
            total=Seconds(self._now() - self.begun),
        )

    def _now(self) -> Instant:
        return self.provider.timers.now()
