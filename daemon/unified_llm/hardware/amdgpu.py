"""AMD GPUs by the files of the kernel's amdgpu driver.

mem_info_vram_total and mem_info_vram_used, in bytes, and unique_id:
Documentation/gpu/amdgpu/driver-misc.rst; the sensors: Documentation/gpu/amdgpu/thermal.rst.
"""

from pathlib import Path
from typing import Final

from unified_llm.domain.devices import DeviceId, DeviceMemory
from unified_llm.domain.units import Bytes
from unified_llm.hardware.drm import Card, find_cards, is_module_loaded, read_text, read_users
from unified_llm.hardware.probe import ProbeOutcome, ReadingFailedError

_MODULE: Final = "amdgpu"
_SYSFS: Final = Path("/sys")
_PROC: Final = Path("/proc")
_CHIP: Final = 1


class AmdgpuDriver:
    """Implements MemoryDriver."""

    name = "amdgpu"

    def __init__(self, sysfs: Path = _SYSFS, proc: Path = _PROC) -> None:
        self._sysfs = sysfs
        self._proc = proc

    def probe(self) -> ProbeOutcome:
        """As in MemoryDriver."""
        if find_cards(self._sysfs, _MODULE):
            return ProbeOutcome.WORKS
        is_loaded = is_module_loaded(self._sysfs, _MODULE)
        return ProbeOutcome.NOT_YET if is_loaded else ProbeOutcome.ABSENT

    def read(self) -> tuple[DeviceMemory, ...]:
        """As in MemoryDriver."""
        cards = find_cards(self._sysfs, _MODULE)
        if not cards:
            raise ReadingFailedError("The AMD GPUs are gone from the kernel's list of devices.")
        return tuple(self._read_one(card) for card in cards)

    def close(self) -> None:
        """As in MemoryDriver; nothing is kept open."""

    def _read_one(self, card: Card) -> DeviceMemory:
        total, used = card.number("mem_info_vram_total"), card.number("mem_info_vram_used")
        product = (read_text(card.folder / "product_name") or "").strip()
        return DeviceMemory(
            id=DeviceId(f"{self.name}:{card.address}"),
            name=product or "AMD GPU",
            total=None if total is None else Bytes(total),
            used=None if used is None else Bytes(used),
            processes=read_users(self._proc, card, "vram"),
            uuid=(read_text(card.folder / "unique_id") or "").strip() or None,
            temperature=card.temperature(_CHIP),
        )
