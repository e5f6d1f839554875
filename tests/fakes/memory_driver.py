"""A MemoryDriver that does what a test tells it."""

import threading
from dataclasses import dataclass, field

from unified_llm.domain.devices import DeviceId, DeviceMemory
from unified_llm.domain.units import Bytes
from unified_llm.hardware.probe import ProbeOutcome, ReadingFailedError


@dataclass(slots=True)
class ScriptedDriver:
    """outcome: of the next probe. error: of the next reading. released: what a reading waits for.

    probes, readings, closings: how often each was called.
    """

    name: str = "scripted"
    outcome: ProbeOutcome = ProbeOutcome.WORKS
    error: str = ""
    released: threading.Event = field(default_factory=threading.Event)
    probes: int = 0
    readings: int = 0
    closings: int = 0

    def __post_init__(self) -> None:
        self.released.set()

    def probe(self) -> ProbeOutcome:
        """As in MemoryDriver."""
        self.probes += 1
        return self.outcome

    def read(self) -> tuple[DeviceMemory, ...]:
        """As in MemoryDriver."""
        self.readings += 1
        self.released.wait()
        if self.error:
            raise ReadingFailedError(self.error)
        device = DeviceId(f"{self.name}:0")
        return (DeviceMemory(device, self.name, Bytes(100), Bytes(self.readings)),)

    def close(self) -> None:
        """As in MemoryDriver."""
        self.closings += 1
