"""Feeds systemd's watchdog, but only with proof that work gets done.

vLLM's health answered 200 while its engine stood still; a thread that pings unconditionally proves
as little. Here a beat is sent when the event loop came round in time and every probe passed through
the part it probes: the bus connection, the scheduler.
"""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from unified_llm.domain.ports import Clock
from unified_llm.domain.units import Seconds

_log = logging.getLogger(__name__)

MAX_LAG: Final = Seconds(5)
_PROBE_LIMIT: Final = Seconds(5)
_RETRY: Final = Seconds(1)

Probe = Callable[[], Awaitable[None]]


def watchdog_interval(environment: Mapping[str, str]) -> Seconds | None:
    """Half of what systemd allows between two beats, as sd_watchdog_enabled(3) advises.

    None if no watchdog is set, or it is set for another process.
    """
    limit = environment.get("WATCHDOG_USEC", "")
    if not limit.isdecimal() or int(limit) == 0:
        return None
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return Seconds(int(limit) / 1_000_000 / 2)


@dataclass(frozen=True, slots=True)
class Watchdog:
    """beat: called when all is well, at most once per interval. probes: by the name logged."""

    interval: Seconds
    clock: Clock
    beat: Callable[[], None]
    probes: Mapping[str, Probe]
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def run(self) -> None:
        """Beat until cancelled. A late turn is no proof of life: the next one is tried soon."""
        wait = self.interval
        while True:
            due = self.clock.now() + wait
            await self.sleep(wait)
            lag = self.clock.now() - due
            wait = self.interval
            if lag > MAX_LAG:
                _log.warning("the event loop came round %.1f s late; no watchdog beat", lag)
                wait = min(_RETRY, self.interval)
            elif await self._is_well():
                self.beat()

    async def _is_well(self) -> bool:
        for name, probe in self.probes.items():
            try:
                async with asyncio.timeout(_PROBE_LIMIT):
                    await probe()
            except Exception as error:  # noqa: BLE001  whatever it is, the probe has not passed
                _log.error("watchdog probe %s failed: %s", name, str(error) or type(error).__name__)
                return False
        return True
