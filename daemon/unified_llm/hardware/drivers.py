"""Every driver there is, in order of trust, and which of them a setting means."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from unified_llm.domain.devices import DeviceId
from unified_llm.domain.units import Bytes
from unified_llm.hardware.amdgpu import AmdgpuDriver
from unified_llm.hardware.fake import FakeDriver
from unified_llm.hardware.intel import IntelDriver
from unified_llm.hardware.nvml import NvmlDriver
from unified_llm.hardware.probe import MemoryDriver
from unified_llm.hardware.ram import RamDriver

_GPU_DRIVERS: Final[Mapping[str, Callable[[], MemoryDriver]]] = {
    "nvml": NvmlDriver,
    "amdgpu": AmdgpuDriver,
    "xe": lambda: IntelDriver("xe"),
    "i915": lambda: IntelDriver("i915"),
}


def choose_drivers(
    wanted: str, fake_file: Path, held: Callable[[], Mapping[DeviceId, Bytes]]
) -> tuple[MemoryDriver, ...]:
    """Main memory, and the GPU drivers that `wanted` means: `auto`, `none`, `fake` or one's name.

    held: for the fake driver, see there.
    """
    if wanted == "auto":
        return (RamDriver(), *(make() for make in _GPU_DRIVERS.values()))
    if wanted == "fake":
        return (RamDriver(), FakeDriver(fake_file, held))
    return (RamDriver(), *(make() for name, make in _GPU_DRIVERS.items() if name == wanted))
