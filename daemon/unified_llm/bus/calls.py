"""The calls being answered: bounded per user, ended when their caller leaves."""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Final, Self

from unified_llm.bus import faults
from unified_llm.domain.callers import Caller

MAX_CALLS_PER_USER: Final = 32
"""Calls one user may have in flight; root may have four times as many."""

MAX_CALLS_ROOT: Final = 4 * MAX_CALLS_PER_USER
"""As many as the bus lets one connection wait for."""


class Calls:
    """Runs each call as a task of its own; leaving the context cancels all of them."""

    def __init__(self) -> None:
        self._group = asyncio.TaskGroup()
        self._by_sender: dict[str, set[asyncio.Task[None]]] = {}
        self._by_uid: Counter[int] = Counter()

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for tasks in self._by_sender.values():
            for task in tasks:
                task.cancel()
        # Not told of the error, which would come out wrapped in a group.
        await self._group.__aexit__(None, None, None)

    @property
    def in_flight(self) -> int:
        """How many tasks are at work."""
        return sum(len(tasks) for tasks in self._by_sender.values())

    def ensure_room(self, caller: Caller) -> None:
        """Raise BusFault if this user has too many calls in flight to begin another."""
        limit = MAX_CALLS_ROOT if caller.uid == 0 else MAX_CALLS_PER_USER
        waiting = self._by_uid[caller.uid]
        if waiting >= limit:
            raise faults.BusFault(
                faults.LIMITS_EXCEEDED,
                f"{waiting} calls in flight of {limit} allowed. Wait until some of them are "
                "answered.",
            )

    def begin(
        self, caller: Caller, call: Coroutine[object, object, None], when_over: Callable[[], None]
    ) -> None:
        """Run `call`, which counts against its user.

        when_over: called in the end, even if it never got to run.
        """
        self._by_uid[caller.uid] += 1

        def give_back() -> None:
            self._by_uid[caller.uid] -= 1
            if not self._by_uid[caller.uid]:
                del self._by_uid[caller.uid]
            when_over()

        self.begin_for(caller.connection, call, give_back)

    def begin_for(
        self, sender: str, work: Coroutine[object, object, None], when_over: Callable[[], None]
    ) -> None:
        """As `begin`, for a sender of whom nothing is known yet; it does not count."""
        task = self._group.create_task(work)
        self._by_sender.setdefault(sender, set()).add(task)

        def forget(done: asyncio.Task[None]) -> None:
            tasks = self._by_sender.get(sender, set())
            tasks.discard(done)
            if not tasks:
                self._by_sender.pop(sender, None)
            when_over()

        task.add_done_callback(forget)

    def on_name_vanished(self, name: str) -> None:
        """End the calls of a connection that has left."""
        for task in list(self._by_sender.get(name, ())):
            task.cancel()
