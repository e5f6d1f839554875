"""Memory of the machine's devices, as it was found at one moment.

Unknown is None: nothing here is guessed, and a device of which too little is known is not used.
"""

from dataclasses import dataclass
from typing import Final, NewType

from unified_llm.domain.units import Bytes, Instant

DeviceId = NewType("DeviceId", str)
"""The same across readings and restarts: `ram`, or the driver and the bus address."""

RAM: Final = DeviceId("ram")


@dataclass(frozen=True, slots=True)
class ProcessMemory:
    """What one process holds on a device."""

    pid: int
    used: Bytes


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """A device as its driver sees it.

    name: for people. processes: those the kernel lets us see; None if it shows none at all.
    uuid: what the maker gave the device, the same in any slot of any machine.
    temperature: of the chip, in whole degrees Celsius.
    """

    id: DeviceId
    name: str
    total: Bytes | None
    used: Bytes | None
    processes: tuple[ProcessMemory, ...] | None = None
    uuid: str | None = None
    temperature: int | None = None

    @property
    def free(self) -> Bytes | None:
        """What nobody uses; None if that is not known."""
        if self.total is None or self.used is None:
            return None
        return Bytes(max(self.total - self.used, 0))

    def used_by(self, pid: int) -> Bytes | None:
        """What one process holds; None if the kernel does not show it."""
        found = [process.used for process in self.processes or () if process.pid == pid]
        return Bytes(sum(found)) if found else None


@dataclass(frozen=True, slots=True)
class MemoryReading:
    """All devices that answered.

    taken: when it was begun.
    devices: main memory first, then the GPUs in the order in which an engine numbers them.
    stalled: share of time in which some task waited for main memory, 0 to 1, over ten seconds;
        None if the kernel does not say. faults: a sentence for each driver that did not answer.
    """

    taken: Instant
    devices: tuple[DeviceMemory, ...]
    stalled: float | None = None
    faults: tuple[str, ...] = ()
