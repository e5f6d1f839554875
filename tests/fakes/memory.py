"""A memory that is read when a test says so. Stands for hardware.monitor.MemoryMonitor."""

from collections.abc import Callable
from dataclasses import dataclass, field

from unified_llm.domain.devices import RAM, DeviceId, DeviceMemory, MemoryReading
from unified_llm.domain.ports import Unsubscribe
from unified_llm.domain.units import Bytes, Instant

GIB = 1024**3


@dataclass(slots=True)
class FakeMemory:
    """devices.TakesReadings: main memory, and a GPU that keeps its numbers to itself."""

    gpus: list[DeviceMemory] = field(
        default_factory=lambda: [
            DeviceMemory(DeviceId("xe:0000:03:00.0"), "Intel GPU (xe)", None, None)
        ]
    )
    listeners: list[Callable[[MemoryReading], None]] = field(default_factory=list)

    def subscribe(self, listener: Callable[[MemoryReading], None]) -> Unsubscribe:
        """As in TakesReadings."""
        self.listeners.append(listener)
        return lambda: self.listeners.remove(listener)

    async def read(self) -> MemoryReading:
        """As in TakesReadings."""
        ram = DeviceMemory(RAM, "RAM", Bytes(16 * GIB), Bytes(4 * GIB))
        reading = MemoryReading(Instant(0), (ram, *self.gpus))
        for listener in self.listeners:
            listener(reading)
        return reading
