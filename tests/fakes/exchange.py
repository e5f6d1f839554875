"""What a provider answers, without a network."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager

from unified_llm.domain.errors import UnifiedLlmError


class FakeExchange:
    """Implements providers.api.Exchange.

    chunks: the body of each answer; an error among them is raised there, an event waited for.
    refusal: raised instead.
    open: answers being read now. asked: path, headers and body of every request.
    """

    def __init__(
        self,
        chunks: Sequence[bytes | UnifiedLlmError | asyncio.Event] = (),
        *,
        refusal: UnifiedLlmError | None = None,
    ) -> None:
        self.chunks = list(chunks)
        self.refusal = refusal
        self.open = 0
        self.asked: list[tuple[str, Mapping[str, str], bytes]] = []

    async def get(self, path: str, headers: Mapping[str, str]) -> bytes:
        self.asked.append((path, headers, b""))
        if self.refusal is not None:
            raise self.refusal
        return b"".join(chunk for chunk in self.chunks if isinstance(chunk, bytes))

    @asynccontextmanager
    async def open_stream(
        self, path: str, headers: Mapping[str, str], body: bytes
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        self.asked.append((path, headers, body))
        if self.refusal is not None:
            raise self.refusal
        self.open += 1
        try:
            async with aclosing(self._chunks()) as chunks:
                yield chunks
        finally:
            self.open -= 1

    async def _chunks(self) -> AsyncGenerator[bytes, None]:
        for chunk in self.chunks:
            if isinstance(chunk, UnifiedLlmError):
                raise chunk
            if isinstance(chunk, asyncio.Event):
                await chunk.wait()
            else:
                yield chunk
