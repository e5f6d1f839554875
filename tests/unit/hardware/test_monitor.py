"""Readings come when they are wanted, and from whoever answers."""

import asyncio

from tests.fakes.clock import FakeClock
from tests.fakes.memory_driver import ScriptedDriver
from unified_llm.domain.devices import MemoryReading
from unified_llm.domain.units import Seconds
from unified_llm.hardware.monitor import MemoryMonitor
from unified_llm.hardware.probe import ProbeOutcome


class Bench:
    """A monitor whose pauses end when the test says so."""

    def __init__(self, *drivers: ScriptedDriver, patience: float = 60) -> None:
        self.clock = FakeClock()
        self.is_wanted = False
        self.readings: list[MemoryReading] = []
        self.taken = asyncio.Event()
        self.pauses: list[float] = []
        self.go_on = asyncio.Semaphore(0)
        self.monitor = MemoryMonitor(
            drivers,
            self.take,
            is_wanted=lambda: self.is_wanted,
            interval=Seconds(1),
            clock=self.clock,
            patience=Seconds(patience),
            sleep=self.sleep,
            stalled=lambda: 0.25,
        )

    def take(self, reading: MemoryReading) -> None:
        self.readings.append(reading)
        self.taken.set()

    async def sleep(self, delay: float) -> None:
        self.pauses.append(delay)
        await self.go_on.acquire()

    async def next_reading(self) -> MemoryReading:
        await self.taken.wait()
        self.taken.clear()
        return self.readings[-1]


async def test_nothing_is_read_while_nothing_is_wanted() -> None:
    driver = ScriptedDriver()
    bench = Bench(driver)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(bench.monitor.run())
        for _ in range(20):
            await asyncio.sleep(0)
            bench.monitor.wake()
        assert (driver.probes, bench.pauses) == (0, [])
        running.cancel()


async def test_it_reads_at_its_interval_while_wanted_and_stops_afterwards() -> None:
    driver = ScriptedDriver()
    bench = Bench(driver)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(bench.monitor.run())
        bench.is_wanted = True
        bench.monitor.wake()
        await bench.next_reading()
        bench.go_on.release()
        await bench.next_reading()
        bench.is_wanted = False
        bench.go_on.release()
        for _ in range(20):
            await asyncio.sleep(0)
        assert (driver.readings, driver.probes, bench.pauses) == (2, 1, [1, 1])
        running.cancel()
    assert driver.closings == 1


async def test_whoever_listens_has_each_reading_after_the_sink() -> None:
    bench = Bench(ScriptedDriver())
    heard: list[tuple[MemoryReading, int]] = []
    unsubscribe = bench.monitor.subscribe(
        lambda reading: heard.append((reading, len(bench.readings)))
    )
    first = await bench.monitor.read()
    unsubscribe()
    await bench.monitor.read()
    assert heard == [(first, 1)]
    bench.monitor._sources[0].close()


async def test_a_reading_holds_every_device_and_the_pressure() -> None:
    bench = Bench(ScriptedDriver("ram"), ScriptedDriver("gpu"))
    reading = await bench.monitor.read()
    assert [device.id for device in reading.devices] == ["ram:0", "gpu:0"]
    assert (reading.stalled, reading.faults) == (0.25, ())
    assert bench.readings == [reading]


async def test_an_absent_driver_is_asked_once() -> None:
    driver = ScriptedDriver(outcome=ProbeOutcome.ABSENT)
    bench = Bench(driver)
    for _ in range(3):
        assert (await bench.monitor.read()).devices == ()
    assert (driver.probes, driver.readings) == (1, 0)


async def test_a_driver_that_is_not_there_yet_is_asked_again_later() -> None:
    driver = ScriptedDriver(outcome=ProbeOutcome.NOT_YET)
    bench = Bench(driver)
    await bench.monitor.read()
    driver.outcome = ProbeOutcome.WORKS
    assert (await bench.monitor.read()).devices == ()
    bench.clock.advance(30)
    assert len((await bench.monitor.read()).devices) == 1


async def test_a_driver_that_fails_is_left_out_and_probed_again() -> None:
    driver = ScriptedDriver("gpu")
    bench = Bench(ScriptedDriver("ram"), driver)
    await bench.monitor.read()
    driver.error = "The GPU is lost."
    reading = await bench.monitor.read()
    assert reading.faults == ("The GPU is lost.",)
    assert [device.id for device in reading.devices] == ["ram:0"]
    driver.error = ""
    bench.clock.advance(30)
    assert len((await bench.monitor.read()).devices) == 2
    assert driver.probes == 2


async def test_a_driver_that_hangs_is_left_out_and_not_called_twice() -> None:
    driver = ScriptedDriver("gpu")
    driver.released.clear()
    bench = Bench(ScriptedDriver("ram"), driver, patience=0.05)
    for _ in range(2):
        reading = await bench.monitor.read()
        assert [device.id for device in reading.devices] == ["ram:0"]
        assert "gpu gave no reading" in reading.faults[0]
    assert driver.readings == 1
    driver.released.set()
    while len((await bench.monitor.read()).devices) < 2:
        pass
