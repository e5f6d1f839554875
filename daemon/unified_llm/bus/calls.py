"""The calls being answered: bounded per user, ended when their caller leaves."""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Final, Self

from unified_llm.bus import faults
from unified_llm.domain.callers import Caller

MAX_CALLS_PER_USER: Final = 32
"""Calls one user may have in flight; root may have four times as many."""

MAX_CALLS_PER_CONNECTION: Final = 4 * MAX_CALLS_PER_USER
"""Before it is known whose they are. As many as the bus lets one connection wait for."""


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
        """How many calls are being answered."""
        return sum(len(tasks) for tasks in self._by_sender.values())

    def begin(
        self, sender: str, call: Coroutine[object, object, None], when_over: Callable[[], None]
    ) -> None:
        """Run `call`; `when_over` is called in the end, even if it never got to run."""
        task = self._group.create_task(call)
        self._by_sender.setdefault(sender, set()).add(task)

        def forget(done: asyncio.Task[None]) -> None:
            tasks = self._by_sender.get(sender, set())
            tasks.discard(done)
            if not tasks:
                self._by_sender.pop(sender, None)
            when_over()

        task.add_done_callback(forget)

    def refuse_flood(self, sender: str) -> None:
        """Raise BusFault if this connection has too many calls in flight."""
        waiting = len(self._by_sender.get(sender, ()))
        if waiting >= MAX_CALLS_PER_CONNECTION:
            raise _too_many(waiting, MAX_CALLS_PER_CONNECTION)

    @contextmanager
    def counted(self, caller: Caller) -> Iterator[None]:
        """Count a call against its user. Raises BusFault if there are too many."""
        limit = MAX_CALLS_PER_CONNECTION if caller.uid == 0 else MAX_CALLS_PER_USER
        if self._by_uid[caller.uid] >= limit:
            raise _too_many(self._by_uid[caller.uid], limit)
        self._by_uid[caller.uid] += 1
        try:
            yield
        finally:
            self._by_uid[caller.uid] -= 1
            if not self._by_uid[caller.uid]:
                del self._by_uid[caller.uid]

    def on_name_vanished(self, name: str) -> None:
        """End the calls of a connection that has left."""
        for task in list(self._by_sender.get(name, ())):
            task.cancel()


def _too_many(have: int, limit: int) -> faults.BusFault:
    return faults.BusFault(
        faults.LIMITS_EXCEEDED,
        f"{have} calls in flight of {limit} allowed. Wait until some of them are answered.",
    )
