"""The machine's clocks: the monotonic one for limits, the wall's for dates shown and kept."""

import time
from datetime import UTC, datetime

from unified_llm.domain.units import Instant, Seconds


class MonotonicClock:
    """CLOCK_MONOTONIC: does not jump when the wall clock is set, and stands still in sleep."""

    def now(self) -> Instant:
        """The present moment."""
        return Instant(time.monotonic())


def processor_time() -> Seconds:
    """How long the thread that asks has computed; waits and other threads do not count."""
    return Seconds(time.thread_time())


def suspended_time() -> Seconds:
    """How long the machine has slept since it was started: CLOCK_BOOTTIME runs on in sleep."""
    awake = time.clock_gettime(time.CLOCK_MONOTONIC)
    return Seconds(time.clock_gettime(time.CLOCK_BOOTTIME) - awake)


def unix_time() -> float:
    """Seconds since the epoch by the wall clock, which may be set at any moment."""
    return time.time()  # noqa: TID251  this is where it is read


def today() -> str:
    """The day by the wall clock, in UTC: `2026-11-22`."""
    return datetime.fromtimestamp(unix_time(), UTC).date().isoformat()


def minute_of_day() -> int:
    """Minutes since midnight by the wall clock, in the machine's time zone."""
    here = datetime.fromtimestamp(unix_time(), UTC).astimezone()
    return 60 * here.hour + here.minute
