"""Deadlines of the running event loop."""

import asyncio
from contextlib import AbstractAsyncContextManager

from unified_llm.domain.units import Instant


class LoopTimers:
    """The timers of the running event loop, whose clock is the system's monotonic one."""

    def now(self) -> Instant:
        """The present moment."""
        return Instant(asyncio.get_running_loop().time())

    def timeout_at(self, moment: Instant | None) -> AbstractAsyncContextManager[object]:
        """As in domain.ports.Timers."""
        return asyncio.timeout_at(moment)
