"""Reads all drivers, in threads, as often as somebody needs it and no more.

Rule 1: nobody loaded, nobody reading: without a model there is no timer and no wake-up.
Rule 2: a driver that hangs (a lost GPU may hold a caller in the kernel) delays one reading by
    `patience` and none after it: it is left out until it answers, and its thread keeps nothing up.
"""

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final

from unified_llm.domain.devices import DeviceMemory, MemoryReading
from unified_llm.domain.ports import Clock, Unsubscribe
from unified_llm.domain.units import Instant, Seconds, later
from unified_llm.hardware.probe import MemoryDriver, ProbeOutcome, ReadingFailedError
from unified_llm.hardware.ram import stalled_share

_log = logging.getLogger(__name__)

_PATIENCE: Final = Seconds(2)
_PROBE_AGAIN: Final = Seconds(30)


class MemoryMonitor:
    """Takes readings and hands each to `sink`.

    is_wanted: whether anything depends on readings now; `wake` says that the answer may have
    changed. interval: between readings while it does. faults: of the last reading.
    """

    def __init__(
        self,
        drivers: Sequence[MemoryDriver],
        sink: Callable[[MemoryReading], None],
        *,
        is_wanted: Callable[[], bool],
        interval: Seconds,
        clock: Clock,
        patience: Seconds = _PATIENCE,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        stalled: Callable[[], float | None] = stalled_share,
    ) -> None:
        self._sources = [_Source(driver, clock) for driver in drivers]
        self._sink = sink
        self._clock = clock
        self._is_wanted = is_wanted
        self._interval = interval
        self._patience = patience
        self._sleep = sleep
        self._stalled = stalled
        self._woken = asyncio.Event()
        self._listeners: list[Callable[[MemoryReading], None]] = []
        self.faults: tuple[str, ...] = ()

    async def run(self) -> None:
        """Read while it is wanted, until cancelled."""
        try:
            while True:
                while not self._is_wanted():
                    self._woken.clear()
                    await self._woken.wait()
                await self.read()
                await self._sleep(self._interval)
        finally:
            for source in self._sources:
                source.close()

    def subscribe(self, listener: Callable[[MemoryReading], None]) -> Unsubscribe:
        """Call `listener`, which returns at once, with each reading after the sink has it."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def wake(self) -> None:
        """What is wanted may have changed."""
        self._woken.set()

    async def read(self) -> MemoryReading:
        """Take a reading now; the sink has it when this returns."""
        taken = self._clock.now()
        async with asyncio.TaskGroup() as group:
            asked = [
                group.create_task(source.read(self._patience))
                for source in self._sources
                if not source.is_absent
            ]
        answers = [task.result() for task in asked]
        devices = [device for answer in answers if not isinstance(answer, str) for device in answer]
        faults = tuple(answer for answer in answers if isinstance(answer, str))
        self._tell(faults)
        reading = MemoryReading(taken, tuple(devices), self._stalled(), faults)
        for take in (self._sink, *self._listeners):
            take(reading)
        return reading

    def _tell(self, faults: tuple[str, ...]) -> None:
        """Once when it begins, not with every reading."""
        for fault in faults:
            if fault not in self.faults:
                _log.error("%s", fault)
        self.faults = faults


class _Source:
    """One driver, and the thread that is in it."""

    def __init__(self, driver: MemoryDriver, clock: Clock) -> None:
        self._driver = driver
        self._clock = clock
        self._works = False
        self._probe_at = Instant(0)
        self._answer: asyncio.Future[tuple[DeviceMemory, ...]] | None = None
        self.is_absent = False

    async def read(self, patience: Seconds) -> tuple[DeviceMemory, ...] | str:
        """Its devices, none if it does not work yet; or a sentence on why there is no answer."""
        if not self._works and self._clock.now() < self._probe_at:
            return ()
        if self._answer is None:
            self._answer = asyncio.get_running_loop().create_future()
            threading.Thread(
                target=self._work,
                args=(asyncio.get_running_loop(), self._answer),
                name=f"memory {self._driver.name}",
                # A thread the kernel does not let go must not hold up the end of the daemon.
                daemon=True,
            ).start()
        try:
            async with asyncio.timeout(patience):
                devices = await asyncio.shield(self._answer)
        except TimeoutError:
            return f"The driver {self._driver.name} gave no reading within {patience:g} s."
        except ReadingFailedError as error:
            self._answer, self._works = None, False
            return str(error)
        self._answer = None
        return devices

    def close(self) -> None:
        """Let go of the driver, unless a thread is still in it."""
        if self._answer is None:
            self._driver.close()

    def _work(
        self, loop: asyncio.AbstractEventLoop, answer: "asyncio.Future[tuple[DeviceMemory, ...]]"
    ) -> None:
        try:
            devices = self._read()
        except ReadingFailedError as error:
            _deliver(loop, answer, error)
        else:
            _deliver(loop, answer, devices)

    def _read(self) -> tuple[DeviceMemory, ...]:
        if not self._works:
            outcome = self._driver.probe()
            self._works = outcome is ProbeOutcome.WORKS
            self.is_absent = outcome is ProbeOutcome.ABSENT
            self._probe_at = later(self._clock.now(), _PROBE_AGAIN)
        return self._driver.read() if self._works else ()


def _deliver(
    loop: asyncio.AbstractEventLoop,
    answer: "asyncio.Future[tuple[DeviceMemory, ...]]",
    outcome: tuple[DeviceMemory, ...] | ReadingFailedError,
) -> None:
    def settle() -> None:
        if answer.done():
            return
        if isinstance(outcome, ReadingFailedError):
            answer.set_exception(outcome)
        else:
            answer.set_result(outcome)

    # The loop may be gone by the time a driver that hung lets its thread go.
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(settle)
