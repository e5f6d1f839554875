"""Asking a model something."""

from collections.abc import AsyncIterator, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    asynccontextmanager,
    contextmanager,
    nullcontext,
)
from dataclasses import dataclass
from typing import Self

from unified_llm.domain.callers import Caller
from unified_llm.domain.chat import ChatEvent, ChatRequest, Finished
from unified_llm.guard.permissions import Action
from unified_llm.operations.gate import Entry, Gate
from unified_llm.operations.routes import Routes
from unified_llm.routing.router import Router


@dataclass(frozen=True, slots=True)
class Inference:
    """Generation, whoever asks and wherever it runs."""

    gate: Gate
    routes: Routes
    router: Router

    @contextmanager
    def open_admission(self, caller: Caller, request: ChatRequest) -> Iterator[None]:
        """Raise what `open_chat` would raise without waiting for anything.

        For a door that answers before the generation begins, which it begins in the body: a refusal
        is recorded, also one that the body raises; a pass is not.
        Raises NotPermitted, AuditUnavailable, UnknownModel, InvalidRequest, TooLarge, LocalOnly,
        ProviderDenied.
        """
        with self.gate.open_entry(caller, Action.GENERATE, request.model, only_refusals=True):
            self.routes.plan(caller, request, is_only_asked=True)
            yield

    @asynccontextmanager
    async def open_chat(
        self,
        caller: Caller,
        request: ChatRequest,
        *,
        request_id: str | None = None,
        scope: AbstractAsyncContextManager[None] | None = None,
    ) -> AsyncIterator[AsyncIterator[ChatEvent]]:
        """The stream of answers to `request`; leaving the context stops the generation.

        Entered when the first event is there, whoever of the plan's targets it comes from.
        request_id: the door's name for it, for the audit log. scope: what may interrupt it; all of
        it runs inside, and the error that the scope raises is what the audit log is told.
        Raises, on entry or while iterating, any UnifiedLlmError.
        """
        with self.gate.open_entry(
            caller, Action.GENERATE, request.model, request=request_id
        ) as entry:
            attempts = self.router.begin(self.routes.plan(caller, request))
            try:
                async with (
                    scope or nullcontext(),
                    self.router.open_chat(attempts, request, caller) as events,
                ):
                    yield _Counted(events, entry)
            finally:
                entry.attempts = attempts.trail


class _Counted:
    """The same events, with the usage noted for the audit log on their way through.

    Not an async generator: one that is left half-way is finalised by a task that nobody owns.
    """

    def __init__(self, events: AsyncIterator[ChatEvent], entry: Entry) -> None:
        self._events = events
        self._entry = entry

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ChatEvent:
        event = await anext(self._events)
        if isinstance(event, Finished):
            self._entry.usage = event.usage
        return event
