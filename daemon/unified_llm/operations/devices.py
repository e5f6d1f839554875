"""The GPUs as they were last read.

Whoever shows them does not have them read: readings are taken when the scheduler wants them, and
once at the start, so that a machine without models shows its GPUs too.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from unified_llm.domain.devices import RAM, DeviceId, DeviceMemory, MemoryReading
from unified_llm.domain.ports import Unsubscribe
from unified_llm.domain.units import Bytes, Instant


class TakesReadings(Protocol):
    """What reads the memory of the machine; hardware.monitor.MemoryMonitor does."""

    def subscribe(self, listener: Callable[[MemoryReading], None]) -> Unsubscribe:
        """Call `listener` with each reading."""

    async def read(self) -> MemoryReading:
        """Take a reading now."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU. number: counted from 0, its own as long as the daemon runs.

    managed: what is set aside for models there. read: when its driver was asked.
    """

    number: int
    memory: DeviceMemory
    managed: Bytes
    read: Instant


class Devices:
    """held: what is set aside on each device. on_change: told after each reading; returns at once.

    A GPU whose driver does not answer any more is not there until it does.
    """

    def __init__(self, source: TakesReadings, held: Callable[[], Mapping[DeviceId, Bytes]]) -> None:
        self._source = source
        self._held = held
        self._numbers: dict[DeviceId, int] = {}
        self._reading: MemoryReading | None = None
        self.on_change: Callable[[], None] = lambda: None
        source.subscribe(self._take)

    @property
    def gpus(self) -> tuple[Gpu, ...]:
        """Those there are, by number."""
        reading = self._reading
        if reading is None:
            return ()
        held = self._held()
        found = [
            Gpu(self._numbers[device.id], device, held.get(device.id, Bytes(0)), reading.taken)
            for device in reading.devices
            if device.id != RAM
        ]
        return tuple(sorted(found, key=lambda gpu: gpu.number))

    async def look(self) -> None:
        """Have them read once."""
        await self._source.read()

    def _take(self, reading: MemoryReading) -> None:
        self._reading = reading
        for device in reading.devices:
            if device.id != RAM:
                # In the order in which engines number them, as long as no more of them come.
                self._numbers.setdefault(device.id, len(self._numbers))
        self.on_change()
