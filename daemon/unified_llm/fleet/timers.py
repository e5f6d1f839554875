"""Time as the fleet uses it: a clock, and deadlines that a test can move by hand."""

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from unified_llm.domain.ports import Clock
from unified_llm.domain.units import Instant


class Timers(Clock, Protocol):
    """A clock that can also end a wait."""

    def timeout_at(self, moment: Instant | None) -> AbstractAsyncContextManager[object]:
        """End the body with TimeoutError when `moment` comes; None never does."""


class LoopTimers:
    """The timers of the running event loop, whose clock is the system's monotonic one."""

    def now(self) -> Instant:
        """The present moment."""
        return Instant(asyncio.get_running_loop().time())

    def timeout_at(self, moment: Instant | None) -> AbstractAsyncContextManager[object]:
        """As in Timers."""
        return asyncio.timeout_at(moment)
