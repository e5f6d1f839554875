"""A beat is proof of life, not a habit."""

import asyncio
import os

import pytest

from unified_llm.domain.units import Instant, Seconds
from unified_llm.host.watchdog import Probe, Watchdog, watchdog_interval


class ScriptedTime:
    """A clock that its own sleep moves; each sleep takes `late` longer than asked."""

    def __init__(self, late: list[float]) -> None:
        self._now = 0.0
        self._late = late
        self.slept: list[float] = []

    def now(self) -> Instant:
        return Instant(self._now)

    async def sleep(self, delay: float) -> None:
        if not self._late:
            raise asyncio.CancelledError
        self.slept.append(delay)
        self._now += delay + self._late.pop(0)


async def beats(late: list[float], probes: dict[str, Probe]) -> tuple[list[float], list[float]]:
    time = ScriptedTime(late)
    beaten: list[float] = []
    watchdog = Watchdog(
        Seconds(10), time, lambda: beaten.append(time.now()), probes, sleep=time.sleep
    )
    with pytest.raises(asyncio.CancelledError):
        await watchdog.run()
    return beaten, time.slept


async def fine() -> None:
    pass


async def broken() -> None:
    raise ConnectionError("the bus is gone")


async def test_a_live_daemon_beats_once_per_interval() -> None:
    assert await beats([0, 0, 0], {"bus": fine}) == ([10, 20, 30], [10, 10, 10])


async def test_no_beat_while_a_probe_fails() -> None:
    assert (await beats([0, 0], {"bus": fine, "scheduler": broken}))[0] == []


async def test_a_late_turn_is_no_beat_and_the_next_is_tried_soon() -> None:
    assert await beats([6, 0, 0], {"bus": fine}) == ([17, 27], [10, 1, 10])


@pytest.mark.parametrize(
    ("environment", "interval"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_interval_is_half_of_what_systemd_allows(
    environment: dict[str, str], interval: float | None
) -> None:
    assert watchdog_interval(environment) == interval
