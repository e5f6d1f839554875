"""Asks one target after another until one answers.

Rule 1: what a caller hears begins with the first content of the target that answers. Until then a
failure is nobody's business but the audit log's; from then on it ends the answer, once.
Rule 2: a target that has failed has been left, with all that it held, before another is asked.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Self

from unified_llm.domain.callers import Caller
from unified_llm.domain.chat import ChatEvent, ChatRequest, Finished, FinishReason, Usage
from unified_llm.domain.errors import ContentFiltered, UnifiedLlmError
from unified_llm.domain.money import Money
from unified_llm.domain.ports import Backend, Clock, Timers
from unified_llm.domain.units import Instant, Seconds
from unified_llm.routing.accounts import Accounts, Charge
from unified_llm.routing.attempts import AttemptPolicy, Attempts
from unified_llm.routing.candidates import Candidate
from unified_llm.routing.directory import Directory
from unified_llm.routing.health import Health, Visit
from unified_llm.routing.latency import Latencies
from unified_llm.routing.plan import Plan
from unified_llm.routing.retry_budget import RetryBudget


@dataclass(slots=True)
class Router:
    """Carries out plans. policy: of requests to come. budget: of all requests together."""

    directory: Directory[Backend]
    health: Health
    accounts: Accounts
    latencies: Latencies
    timers: Timers
    policy: AttemptPolicy
    budget: RetryBudget

    def begin(self, plan: Plan) -> Attempts:
        """The attempts of a request about to be made; they tell afterwards who was asked."""
        return Attempts(plan, self.policy, self.budget)

    @asynccontextmanager
    async def open_chat(
        self, attempts: Attempts, request: ChatRequest, caller: Caller
    ) -> AsyncIterator[AsyncIterator[ChatEvent]]:
        """The answer of the first target that gives one; entered when its first event is there.

        Leaving stops it. Raises, on entry or while iterating, any UnifiedLlmError.
        """
        while (following := attempts.next(self.timers.now())) is not None:
            await self.wait_until(following.moment)
            async with AsyncExitStack() as stack:
                try:
                    answer = await self._begin(
                        stack, following.candidate, attempts, request, caller
                    )
                except UnifiedLlmError as error:
                    if attempts.failed(error, self.timers.now()):
                        continue
                    raise
                yield answer
                return
        raise attempts.verdict()

    async def _begin(
        self,
        stack: AsyncExitStack,
        candidate: Candidate,
        attempts: Attempts,
        request: ChatRequest,
        caller: Caller,
    ) -> "_Answer":
        """The answer of `candidate`, whose first event is there."""
        asked = _as_asked(request, candidate, attempts.plan)
        held = self.accounts.most_for(candidate, asked)
        charge = self.accounts.begin(candidate, held, caller.principal)
        stack.callback(charge.end)
        begun = self.timers.now()
        visit = self.health.begin(candidate.backend, begun)
        stack.callback(visit.end)
        try:
            chat = self.directory.backend(candidate.backend).chat(asked, caller)
            events = await stack.enter_async_context(chat)
            first = await _first_of(events)
        except UnifiedLlmError as error:
            visit.failed(error, self.timers.now())
            raise
        now = self.timers.now()
        self.latencies.observe(candidate, Seconds(now - begun), now)
        visit.began(now)
        charge.began()
        return _Answer(first, events, attempts, _Books(visit, charge, self.timers))

    async def wait_until(self, moment: Instant | None) -> None:
        """Return then; at once for None."""
        if moment is None:
            return
        with suppress(TimeoutError):
            async with self.timers.timeout_at(moment):
                await asyncio.Event().wait()


def _as_asked(request: ChatRequest, candidate: Candidate, plan: Plan) -> ChatRequest:
    model, adapter = candidate.adapted or (candidate.model, None)
    kept_local = plan.kept_local is not None
    return replace(request, model=model, adapter=adapter, local_only=kept_local)


async def _first_of(events: AsyncIterator[ChatEvent]) -> ChatEvent:
    """The first event. Raises ContentFiltered where the answer ends before it has begun."""
    first = await anext(events, None)
    if first is None:
        raise EOFError("a backend broke its contract: the events ended without Finished")
    if isinstance(first, Finished) and first.reason is FinishReason.CONTENT_FILTER:
        raise ContentFiltered("The provider's filter held back the whole answer.")
    return first


@dataclass(frozen=True, slots=True)
class _Books:
    """Where the end of an answer is written down."""

    visit: Visit
    charge: Charge
    clock: Clock

    def finished(self, usage: Usage | None) -> Money | None:
        """It is whole. What it cost."""
        self.visit.finished(self.clock.now())
        return self.charge.finished(usage)

    def failed(self, error: UnifiedLlmError) -> None:
        """It broke off."""
        self.visit.failed(error, self.clock.now())


class _Answer:
    """The events of one target, its end marked with all that were asked.

    Not an async generator: one that is left half-way is finalised by a task that nobody owns.
    """

    def __init__(
        self,
        first: ChatEvent,
        events: AsyncIterator[ChatEvent],
        attempts: Attempts,
        books: "_Books",
    ) -> None:
        self._first: ChatEvent | None = first
        self._events = events
        self._attempts = attempts
        self._books = books

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ChatEvent:
        event, self._first = self._first, None
        if event is None:
            event = await self._next()
        if isinstance(event, Finished):
            cost = self._books.finished(event.usage)
            return replace(event, attempts=self._attempts.trail, cost=cost)
        return event

    async def _next(self) -> ChatEvent:
        try:
            return await anext(self._events)
        except UnifiedLlmError as error:
            self._attempts.broke_off(error)
            self._books.failed(error)
            raise
