"""A backend that answers from a script."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager

from unified_llm.domain.callers import Caller
from unified_llm.domain.chat import ChatEvent, ChatRequest, Finished
from unified_llm.domain.errors import UnifiedLlmError


class FakeBackend:
    """Implements domain.ports.Backend.

    script: what each chat is answered with, in order: an event is sent, an error raised, and an
    asyncio.Event waited for. refusal: raised on entry instead.
    open: chats going on now. asked: every request so far, with its caller.
    """

    def __init__(
        self,
        script: Sequence[ChatEvent | UnifiedLlmError | asyncio.Event] = (),
        *,
        refusal: UnifiedLlmError | None = None,
    ) -> None:
        self.script = list(script)
        self.refusal = refusal
        self.open = 0
        self.asked: list[tuple[ChatRequest, Caller]] = []

    @asynccontextmanager
    async def chat(
        self, request: ChatRequest, caller: Caller
    ) -> AsyncIterator[AsyncIterator[ChatEvent]]:
        """As in domain.ports.Backend."""
        self.asked.append((request, caller))
        if self.refusal is not None:
            raise self.refusal
        self.open += 1
        try:
            async with aclosing(self._events()) as events:
                yield events
        finally:
            self.open -= 1

    async def _events(self) -> AsyncGenerator[ChatEvent, None]:
        for step in self.script:
            if isinstance(step, UnifiedLlmError):
                raise step
            if isinstance(step, asyncio.Event):
                await step.wait()
            else:
                yield step
                if isinstance(step, Finished):
                    return
