"""What a driver for memory is: the seam of this room.

Every driver passes `tests/contracts/test_memory_driver.py`, the fake one included.
"""

from enum import Enum, auto
from typing import Protocol

from unified_llm.domain.devices import DeviceMemory


class ProbeOutcome(Enum):
    """Whether a driver's way of measuring exists on this machine."""

    WORKS = auto()
    NOT_YET = auto()  # the kernel's driver may still load; ask again later
    ABSENT = auto()


class ReadingFailedError(Exception):
    """A device that was there can not be read now. The message is fit for people."""


class MemoryDriver(Protocol):
    """One way of measuring memory. All methods block, and are called from one thread at a time."""

    name: str

    def probe(self) -> ProbeOutcome:
        """Find out whether `read` can work; asked again after NOT_YET and a failed reading."""

    def read(self) -> tuple[DeviceMemory, ...]:
        """Every device, in the order of the bus. Raises ReadingFailedError."""

    def close(self) -> None:
        """Let go of what `probe` opened; `probe` may open it again."""
