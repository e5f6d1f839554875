"""One request's way over its targets: what its caller hears.

Rule 1: what a caller hears begins with the first content of the target that answers. Until then a
failure is nobody's business but the audit log's.
Rule 2: a target that has failed has been left, with all that it held, before another is asked.
Rule 3: an answer that breaks off ends with the error it broke off with, once; unless another target
may go on with its text. Then the place is marked, and nothing that was heard is heard again.
"""

from collections import deque
from contextlib import AsyncExitStack
from dataclasses import replace
from types import TracebackType
from typing import Self

from unified_llm.domain.callers import Caller
from unified_llm.domain.chat import ChatEvent, ChatRequest, Continued, Finished
from unified_llm.domain.errors import UnifiedLlmError
from unified_llm.domain.money import Money
from unified_llm.routing.asking import Desk, Opened, wait_until
from unified_llm.routing.attempts import Attempts
from unified_llm.routing.candidates import Candidate
from unified_llm.routing.so_far import begin_so_far


class Course:
    """The events of one answer; entered when the first is there. Leaving stops it.

    Not an async generator: one that is left half-way is finalised by a task that nobody owns.
    """

    def __init__(
        self, desk: Desk, attempts: Attempts, request: ChatRequest, caller: Caller
    ) -> None:
        self._desk = desk
        self._attempts = attempts
        self._request = request
        self._caller = caller
        self._so_far = begin_so_far(request, attempts.plan.route)
        self._held: deque[ChatEvent] = deque()
        self._stack = AsyncExitStack()
        self._changes: list[Continued] = []
        self._costs: list[Money | None] = []
        self._present: Opened

    async def __aenter__(self) -> Self:
        await self._ask()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        return await self._stack.__aexit__(kind, error, trace)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ChatEvent:
        event = await self._next()
        if isinstance(event, Finished):
            return self._ended(event)
        if not isinstance(event, Continued):
            self._so_far.add(event)
        return event

    async def _next(self) -> ChatEvent:
        if self._held:
            return self._held.popleft()
        try:
            return await anext(self._present.events)
        except UnifiedLlmError as error:
            self._costs.append(self._present.books.failed(error))
            if not await self._goes_on_after(error):
                raise
        return self._held.popleft()

    async def _goes_on_after(self, error: UnifiedLlmError) -> bool:
        """Whether another target goes on with what was heard."""
        if not self._so_far.may_be_continued:
            self._attempts.broke_off(error)
            return False
        if not self._attempts.failed(error, self._desk.timers.now()):
            return False
        self._attempts.narrow_to_continuing()
        await self._stack.aclose()
        try:
            await self._ask()
        except UnifiedLlmError:
            return False  # of all errors, the caller is told the one that broke off what it heard
        candidate = self._present.candidate
        change = Continued(candidate.model, candidate.backend, self._so_far.length)
        self._changes.append(change)
        self._held.appendleft(change)
        return True

    async def _ask(self) -> None:
        """Have the next target answer that does; its first event is held then.

        Raises the one error of all if none does.
        """
        attempts, timers = self._attempts, self._desk.timers
        while (following := attempts.next(timers.now())) is not None:
            await wait_until(following.moment, timers)
            asked = self._as_asked(following.candidate)
            async with AsyncExitStack() as stack:
                try:
                    self._present = await self._desk.open(
                        stack, following.candidate, asked, self._caller
                    )
                except UnifiedLlmError as error:
                    if attempts.failed(error, timers.now()):
                        continue
                    raise
                self._stack = stack.pop_all()
                self._held.append(self._present.first)
                return
        raise attempts.verdict()

    def _as_asked(self, candidate: Candidate) -> ChatRequest:
        model, adapter = candidate.adapted or (candidate.model, None)
        kept_local = self._attempts.plan.kept_local is not None
        asked = replace(self._request, model=model, adapter=adapter, local_only=kept_local)
        if not self._so_far.may_be_continued:
            return asked
        so_far = self._so_far
        return replace(asked, begun=so_far.text, max_tokens=so_far.tokens_left)

    def _ended(self, end: Finished) -> Finished:
        self._costs.append(self._present.books.finished(end.usage))
        cost = _sum(self._costs)
        if self._changes:
            end = replace(end, usage=None, first_token=None, total=None)
        elif end.usage is not None and cost is not None:
            others = self._attempts.unasked
            end = replace(end, cheaper=self._desk.accounts.cheaper(others, end.usage, cost))
        changes = tuple(self._changes)
        return replace(end, attempts=self._attempts.trail, cost=cost, continued=changes)


def _sum(costs: list[Money | None]) -> Money | None:
    """Unknown if one of them is."""
    known = [cost for cost in costs if cost is not None]
    return Money(sum(known)) if len(known) == len(costs) else None
