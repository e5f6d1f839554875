"""Answers chats with the models of this machine."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    aclosing,
    asynccontextmanager,
)
from dataclasses import dataclass
from secrets import token_hex
from typing import Final

from unified_llm.domain.callers import Caller
from unified_llm.domain.chat import (
    ChatEvent,
    ChatRequest,
    Finished,
    ReasoningDelta,
    TextDelta,
    TokenChance,
    TokenLogprob,
    ToolCallDelta,
    Usage,
    prompt_bytes,
)
from unified_llm.domain.errors import RequestTimedOut
from unified_llm.domain.ports import Timers
from unified_llm.domain.units import Instant, Seconds, Tokens, later
from unified_llm.fleet.choices import choice_of, open_side_by_side
from unified_llm.fleet.dispatch import Dispatch
from unified_llm.fleet.faults import error_of
from unified_llm.fleet.generation_stream import GenerationFrame, GenerationStream
from unified_llm.fleet.pictures import ensure_readable
from unified_llm.worker.protocol import Call, Chance, Delta, Done, Failed, Score

# A guess on the safe side: looking at a picture takes one slow core 20 s, and reading what it sees
# as long again.
_IMAGE_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long a request may take, in its parts.

    first_event: from the lease to the first text, or longer where the prompt is long: twice the
    time it takes at `prompt_bytes_per_second`, which is what one slow core reads. between_events:
    from one frame to the next. total: all of it.
    """

    first_event: Seconds = Seconds(30.0)
    prompt_bytes_per_second: float = 100.0
    between_events: Seconds = Seconds(30.0)
    total: Seconds = Seconds(600.0)

    def first_event_of(self, request: ChatRequest) -> Seconds:
        """The time to the first text that this request is given."""
        tools = request.tool_use.tools if request.tool_use else ()
        images = sum(len(message.images) for message in request.messages)
        size = prompt_bytes(request.messages, tools) + images * _IMAGE_BYTES
        return Seconds(max(self.first_event, 2 * size / self.prompt_bytes_per_second))


class LocalBackend:
    """A Backend over leases and workers."""

    def __init__(self, dispatch: Dispatch, timers: Timers, deadlines: Deadlines) -> None:
        self._dispatch = dispatch
        self._timers = timers
        self._deadlines = deadlines

    def chat(
        self, request: ChatRequest, caller: Caller
    ) -> AbstractAsyncContextManager[AsyncIterator[ChatEvent]]:
        """As in domain.ports.Backend; pictures are checked once, for all choices."""
        return self._checked(request, caller)

    @asynccontextmanager
    async def _checked(
        self, request: ChatRequest, caller: Caller
    ) -> AsyncIterator[AsyncIterator[ChatEvent]]:
        await ensure_readable(request.messages)
        async with self._answers(request, caller) as events:
            yield events

    def _answers(
        self, request: ChatRequest, caller: Caller
    ) -> AbstractAsyncContextManager[AsyncIterator[ChatEvent]]:
        if request.choices == 1:
            return self._one(request, caller)
        # The first may take the only slot there is, so the others wait as long as it may last.
        patience = self._deadlines.total
        others = (choice_of(request, index) for index in range(1, request.choices))
        return open_side_by_side(
            [
                self._one(choice_of(request, 0), caller),
                *(self._one(each, caller, queue=patience) for each in others),
            ],
            self._timers,
        )

    @asynccontextmanager
    async def _one(
        self, request: ChatRequest, caller: Caller, *, queue: Seconds | None = None
    ) -> AsyncIterator[AsyncIterator[ChatEvent]]:
        ends_at = later(self._timers.now(), self._deadlines.total)
        async with AsyncExitStack() as stack:
            stream, leased_at = await self._dispatch.open_stream(
                stack, request, caller.principal, queue=queue
            )
            answer = _Answer(request, stream, self._timers, self._deadlines, leased_at, ends_at)
            yield await stack.enter_async_context(aclosing(answer.events()))


@dataclass(slots=True)
class _Answer:
    """Turns the frames of one request into events, within its deadlines."""

    request: ChatRequest
    stream: GenerationStream
    timers: Timers
    deadlines: Deadlines
    leased_at: Instant
    ends_at: Instant
    first_token: Seconds | None = None

    async def events(self) -> AsyncGenerator[ChatEvent, None]:
        while True:
            match await self._next_frame():
                case Delta() as delta:
                    if self.first_token is None:
                        self.first_token = self._since_lease()
                    yield _event(delta)
                case Call() as call:
                    if self.first_token is None:
                        self.first_token = self._since_lease()
                    yield _call_event(call)
                case Failed() as failed:
                    raise error_of(failed)
                case Done() as done:
                    yield self._finished(done)
                    return
                case _:
                    pass

    async def _next_frame(self) -> GenerationFrame:
        due, fault = self._due()
        if self.ends_at <= due:
            due, fault = self.ends_at, f"The answer took longer than {self.deadlines.total:g} s."
        try:
            async with self.timers.timeout_at(due):
                return await self.stream.next_frame()
        except TimeoutError as error:
            raise RequestTimedOut(fault, hint="Ask for less, or later.") from error

    def _due(self) -> tuple[Instant, str]:
        if self.first_token is None:
            limit = self.deadlines.first_event_of(self.request)
            return later(self.leased_at, limit), f"No text came within {limit:g} s."
        limit = self.deadlines.between_events
        return later(self.timers.now(), limit), f"The answer paused for more than {limit:g} s."

    def _finished(self, done: Done) -> Finished:
        thought = done.reasoning_tokens
        drafted = done.accepted_tokens + done.rejected_tokens > 0
        usage = Usage(
            prompt_tokens=Tokens(done.prompt_tokens),
            completion_tokens=Tokens(done.completion_tokens),
            cached_tokens=Tokens(done.cached_tokens),
            reasoning_tokens=None if thought is None else Tokens(thought),
            accepted_tokens=Tokens(done.accepted_tokens) if drafted else None,
            rejected_tokens=Tokens(done.rejected_tokens) if drafted else None,
        )
        return Finished(done.reason, usage, self.first_token, self._since_lease())

    def _since_lease(self) -> Seconds:
        return Seconds(self.timers.now() - self.leased_at)


def _event(delta: Delta) -> TextDelta | ReasoningDelta:
    if delta.is_thought:
        return ReasoningDelta(delta.text)
    return TextDelta(delta.text, tuple(_logprob(score) for score in delta.scores))


def _call_event(call: Call) -> ToolCallDelta:
    number = None if call.name is None else f"call_{token_hex(12)}"
    return ToolCallDelta(call.index, number, call.name, call.arguments)


def _logprob(score: Score) -> TokenLogprob:
    return TokenLogprob(_chance(score.chosen), tuple(_chance(each) for each in score.top))


def _chance(chance: Chance) -> TokenChance:
    return TokenChance(chance.text, chance.data, chance.logprob)
