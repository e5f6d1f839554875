"""The machine's monotonic clock."""

import time

from unified_llm.domain.units import Instant


class MonotonicClock:
    """CLOCK_MONOTONIC: does not jump when the wall clock is set, and stands still in sleep."""

    def now(self) -> Instant:
        """The present moment."""
        return Instant(time.monotonic())
