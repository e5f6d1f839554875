"""Asks one target: opens its answer, and writes down how it went."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass

from unified_llm.domain.callers import Caller
from unified_llm.domain.chat import ChatEvent, ChatRequest, Finished, FinishReason, Usage
from unified_llm.domain.errors import ContentFiltered, ProviderRefused, UnifiedLlmError
from unified_llm.domain.money import Money
from unified_llm.domain.ports import Backend, Clock, Timers
from unified_llm.domain.units import Instant, Seconds
from unified_llm.routing.accounts import Accounts, Charge
from unified_llm.routing.candidates import Candidate
from unified_llm.routing.directory import Directory
from unified_llm.routing.health import Health, Visit
from unified_llm.routing.latency import Latencies


@dataclass(frozen=True, slots=True)
class Books:
    """Where the end of an answer is written down. Both ends tell what it cost, if that is known."""

    visit: Visit
    charge: Charge
    clock: Clock

    def finished(self, usage: Usage | None) -> Money | None:
        """It is whole."""
        self.visit.finished(self.clock.now())
        return self.charge.finished(usage)

    def failed(self, error: UnifiedLlmError) -> Money | None:
        """It broke off."""
        self.visit.failed(error, self.clock.now())
        return self.charge.broke_off()


@dataclass(frozen=True, slots=True)
class Opened:
    """The answer of a target that has begun. first: its first event, which has been read."""

    candidate: Candidate
    first: ChatEvent
    events: AsyncIterator[ChatEvent]
    books: Books


@dataclass(frozen=True, slots=True)
class Desk:
    """Where targets are asked."""

    directory: Directory[Backend]
    health: Health
    accounts: Accounts
    latencies: Latencies
    timers: Timers

    async def open(
        self, stack: AsyncExitStack, candidate: Candidate, asked: ChatRequest, caller: Caller
    ) -> Opened:
        """The answer of `candidate`, held by `stack`, whose first event is there."""
        held = self.accounts.most_for(candidate, asked)
        charge = self.accounts.begin(candidate, held, caller)
        stack.callback(charge.end)
        begun = self.timers.now()
        visit = self.health.begin(candidate.backend, begun)
        stack.callback(visit.end)
        try:
            chat = self.directory.backend(candidate.backend).chat(asked, caller)
            events = await stack.enter_async_context(chat)
            first = await _first_of(events, charge)
        except UnifiedLlmError as error:
            visit.failed(error, self.timers.now())
            if isinstance(error, ProviderRefused) and error.has_answered:
                charge.broke_off()
            raise
        now = self.timers.now()
        self.latencies.observe(candidate, Seconds(now - begun), now)
        visit.began(now)
        charge.began()
        return Opened(candidate, first, events, Books(visit, charge, self.timers))


async def wait_until(moment: Instant | None, timers: Timers) -> None:
    """Return when `moment` has come; at once for None."""
    if moment is None:
        return
    with suppress(TimeoutError):
        async with timers.timeout_at(moment):
            await asyncio.Event().wait()


async def _first_of(events: AsyncIterator[ChatEvent], charge: Charge) -> ChatEvent:
    """The first event. Raises ContentFiltered where the answer ends before it has begun.

    It is paid even so: the provider has read the prompt, and may have thought about it.
    """
    first = await anext(events, None)
    if first is None:
        raise EOFError("a backend broke its contract: the events ended without Finished")
    if isinstance(first, Finished) and first.reason is FinishReason.CONTENT_FILTER:
        charge.finished(first.usage)
        raise ContentFiltered("The provider's filter held back the whole answer.")
    return first
