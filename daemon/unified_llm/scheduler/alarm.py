"""One alarm in an event loop, and the question whether somebody still listens to it."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from unified_llm.domain.ports import Clock
from unified_llm.domain.units import Instant


class Alarm(Protocol):
    """A call that is yet to come."""

    def cancel(self) -> None: ...


CallLater = Callable[[float, Callable[[], None]], Alarm]
"""Calls a function after so many seconds, once; `loop.call_later` is one."""


def call_later_in_loop(delay: float, callback: Callable[[], None]) -> Alarm:
    """As in CallLater, in the running loop."""
    return asyncio.get_running_loop().call_later(delay, callback)


class AlarmClock:
    """Rings at the moment set last, or when somebody pings."""

    def __init__(self, clock: Clock, call_later: CallLater) -> None:
        self._clock = clock
        self._call_later = call_later
        self._alarm: Alarm | None = None
        self._rang = asyncio.Event()
        self._pings: list[asyncio.Future[None]] = []

    async def wait(self) -> None:
        """Return when it has rung since the last time."""
        await self._rang.wait()
        self._rang.clear()

    def set(self, moment: Instant | None) -> None:
        """Ring at `moment`, instead of at any moment set before; None for never."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if moment is not None:
            delay = max(0.0, moment - self._clock.now())
            self._alarm = self._call_later(delay, self._rang.set)

    async def ping(self) -> None:
        """Ring, and return when whoever waited has answered."""
        answer = asyncio.get_running_loop().create_future()
        self._pings.append(answer)
        self._rang.set()
        await answer

    def answer_pings(self) -> None:
        """What there was to do is done."""
        answered, self._pings = self._pings, []
        for ping in answered:
            if not ping.done():
                ping.set_result(None)
