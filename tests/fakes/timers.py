"""Time that stands still until the test moves it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from unified_llm.domain.units import Instant

_ROUNDS_TO_SETTLE = 50


async def settle() -> None:
    """Let every task run until all of them wait for something from outside."""
    for _ in range(_ROUNDS_TO_SETTLE):
        await asyncio.sleep(0)


class FakeTimers:
    """Timers of a virtual clock."""

    def __init__(self) -> None:
        self._now = Instant(1000.0)
        self._waiting: dict[asyncio.Timeout, Instant] = {}

    def now(self) -> Instant:
        return self._now

    def next_due(self) -> Instant | None:
        """When the next deadline passes; None if nothing waits for time at all."""
        return min(self._waiting.values(), default=None)

    @asynccontextmanager
    async def timeout_at(self, moment: Instant | None) -> AsyncIterator[None]:
        async with asyncio.timeout(None) as timeout:
            if moment is None:
                yield
                return
            self._waiting[timeout] = moment
            self._fire()
            try:
                yield
            finally:
                self._waiting.pop(timeout, None)

    async def advance(self, seconds: float) -> None:
        """Move the clock, stopping at each deadline on the way as real time would."""
        await settle()
        end = Instant(self._now + seconds)
        while (due := self.next_due()) is not None and due <= end:
            self._now = max(self._now, due)
            self._fire()
            await settle()
        self._now = end
        await settle()

    async def freeze(self, seconds: float) -> None:
        """Move the clock in one leap, as for a daemon that did not run meanwhile."""
        self._now = Instant(self._now + seconds)
        self._fire()
        await settle()

    def _fire(self) -> None:
        for timeout, moment in list(self._waiting.items()):
            if moment <= self._now:
                del self._waiting[timeout]
                timeout.reschedule(0.0)
