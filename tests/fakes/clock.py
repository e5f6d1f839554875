"""A clock that stands still until it is moved."""

import heapq
from collections.abc import Callable
from itertools import count

from unified_llm.domain.units import Instant, Seconds


class FakeAlarm:
    """A call that is yet to come, unless cancelled."""

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback = callback
        self.is_cancelled = False

    def cancel(self) -> None:
        """Do not call."""
        self.is_cancelled = True


class FakeClock:
    """A Clock with alarms; `advance` moves it and rings what has become due, in order."""

    def __init__(self, start: float = 1000.0) -> None:
        self._now = start
        self._order = count()
        self._alarms: list[tuple[float, int, FakeAlarm]] = []

    def now(self) -> Instant:
        """The present moment."""
        return Instant(self._now)

    def call_later(self, delay: float, callback: Callable[[], None]) -> FakeAlarm:
        """Call `callback` once, when the clock has moved by `delay` seconds."""
        alarm = FakeAlarm(callback)
        heapq.heappush(self._alarms, (self._now + delay, next(self._order), alarm))
        return alarm

    def advance(self, delay: float) -> None:
        """Move by `delay` seconds; an alarm sees the very moment it was set for."""
        end = self._now + delay
        while self._alarms and self._alarms[0][0] <= end:
            moment, _, alarm = heapq.heappop(self._alarms)
            self._now = max(self._now, moment)
            if not alarm.is_cancelled:
                alarm.callback()
        self._now = end

    def next_alarm(self) -> Seconds | None:
        """How far the next ringing is away; None if nothing is set."""
        pending = [moment for moment, _, alarm in self._alarms if not alarm.is_cancelled]
        return Seconds(min(pending) - self._now) if pending else None
