"""Intel GPUs by the files of the kernel's xe and i915 drivers.

Neither driver has a file for the size of the memory or for what is used of it: xe tells both by an
ioctl, and the second to a process with CAP_PERFMON only. So both stay unknown, and such a device is
shown and not planned with; who uses it is known from fdinfo
(Documentation/gpu/xe/xe-drm-usage-stats.rst, drm-usage-stats.rst). The sensors are those of
Documentation/ABI/testing/sysfs-driver-intel-xe-hwmon and -i915-hwmon.
"""

from pathlib import Path
from typing import Final

from unified_llm.domain.devices import DeviceId, DeviceMemory
from unified_llm.hardware.drm import Card, find_cards, is_module_loaded, read_users
from unified_llm.hardware.probe import ProbeOutcome, ReadingFailedError

_SYSFS: Final = Path("/sys")
_PROC: Final = Path("/proc")
# The regions of device memory, as fdinfo names them.
_REGIONS: Final = {"xe": "vram", "i915": "local"}
# The number of the sensor of the package.
_PACKAGE: Final = {"xe": 2, "i915": 1}


class IntelDriver:
    """Implements MemoryDriver. name: `xe` or `i915`, which is also the kernel's name for it."""

    def __init__(self, name: str, sysfs: Path = _SYSFS, proc: Path = _PROC) -> None:
        self.name = name
        self._region = _REGIONS[name]
        self._sysfs = sysfs
        self._proc = proc

    def probe(self) -> ProbeOutcome:
        """As in MemoryDriver."""
        if find_cards(self._sysfs, self.name):
            return ProbeOutcome.WORKS
        is_loaded = is_module_loaded(self._sysfs, self.name)
        return ProbeOutcome.NOT_YET if is_loaded else ProbeOutcome.ABSENT

    def read(self) -> tuple[DeviceMemory, ...]:
        """As in MemoryDriver."""
        cards = find_cards(self._sysfs, self.name)
        if not cards:
            raise ReadingFailedError("The Intel GPUs are gone from the kernel's list of devices.")
        return tuple(self._read_one(card) for card in cards)

    def close(self) -> None:
        """As in MemoryDriver; nothing is kept open."""

    def _read_one(self, card: Card) -> DeviceMemory:
        return DeviceMemory(
            id=DeviceId(f"{self.name}:{card.address}"),
            name=f"Intel GPU ({self.name})",
            total=None,
            used=None,
            processes=read_users(self._proc, card, self._region),
            temperature=card.temperature(_PACKAGE[self.name]),
        )
