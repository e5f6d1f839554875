"""NVIDIA GPUs by the driver's management library, which opens no CUDA context.

A CUDA context takes memory of the device for as long as its process lives, so the daemon opens none
(llama.cpp issue 23120: a router whose parent process took VRAM too).
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import pynvml

from unified_llm.domain.devices import DeviceId, DeviceMemory, ProcessMemory
from unified_llm.domain.units import Bytes
from unified_llm.hardware.probe import ProbeOutcome, ReadingFailedError

_log = logging.getLogger(__name__)

# The kernel module loads when somebody first wants it, or is being replaced by an upgrade.
_NOT_YET: Final = frozenset(
    {
        pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
        pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
        pynvml.NVML_ERROR_UNKNOWN,
        pynvml.NVML_ERROR_TIMEOUT,
        pynvml.NVML_ERROR_GPU_IS_LOST,
    }
)
_NOT_TOLD: Final = frozenset(
    {
        pynvml.NVML_ERROR_NOT_SUPPORTED,
        pynvml.NVML_ERROR_NO_PERMISSION,
        pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
    }
)


class NvmlDriver:
    """Implements MemoryDriver. library: `pynvml`, or what stands for it in a test."""

    name = "nvml"

    def __init__(self, library: Any = pynvml) -> None:
        self._library = library
        self._is_open = False

    def probe(self) -> ProbeOutcome:
        """As in MemoryDriver."""
        self.close()
        try:
            self._library.nvmlInit()
        except pynvml.NVMLError as error:
            if error.value in _NOT_YET:
                return ProbeOutcome.NOT_YET
            if error.value != pynvml.NVML_ERROR_LIBRARY_NOT_FOUND:
                _log.warning("NVIDIA GPUs are not seen: %s", error)
            return ProbeOutcome.ABSENT
        self._is_open = True
        return ProbeOutcome.WORKS

    def read(self) -> tuple[DeviceMemory, ...]:
        """As in MemoryDriver."""
        with _mapped("The NVIDIA driver does not answer"):
            count = self._library.nvmlDeviceGetCount()
            devices = [self._read_one(index) for index in range(count)]
        # An engine that is told to number by bus address finds them in this order.
        return tuple(sorted(devices, key=lambda device: device.id))

    def close(self) -> None:
        """As in MemoryDriver."""
        if self._is_open:
            self._is_open = False
            with suppress(pynvml.NVMLError):
                self._library.nvmlShutdown()

    def _read_one(self, index: int) -> DeviceMemory:
        handle = self._library.nvmlDeviceGetHandleByIndex(index)
        address = _text(self._library.nvmlDeviceGetPciInfo(handle).busId).lower()
        name = _text(self._library.nvmlDeviceGetName(handle))
        memory = self._library.nvmlDeviceGetMemoryInfo(handle)
        uuid = _told(self._library.nvmlDeviceGetUUID, handle)
        return DeviceMemory(
            id=DeviceId(f"nvml:{address}"),
            name=name,
            total=Bytes(memory.total),
            # What the driver reserves for itself is in neither `used` nor `free` of newer versions.
            used=Bytes(memory.total - memory.free),
            processes=self._processes(handle),
            uuid=None if uuid is None else _text(uuid),
            temperature=_told(
                self._library.nvmlDeviceGetTemperature, handle, pynvml.NVML_TEMPERATURE_GPU
            ),
        )

    def _processes(self, handle: Any) -> tuple[ProcessMemory, ...] | None:
        found: dict[int, int] = {}
        is_told = False
        for ask in (
            self._library.nvmlDeviceGetComputeRunningProcesses,
            self._library.nvmlDeviceGetGraphicsRunningProcesses,
        ):
            listed = _told(ask, handle)
            is_told = is_told or listed is not None
            for process in listed or ():
                if process.usedGpuMemory is not None:
                    # One that computes and draws stands in both lists with all it holds.
                    found[process.pid] = max(found.get(process.pid, 0), process.usedGpuMemory)
        if not is_told:
            return None
        return tuple(ProcessMemory(pid, Bytes(used)) for pid, used in sorted(found.items()))


def _told(ask: Any, *of: Any) -> Any | None:
    """The answer, or None where the driver does not offer it."""
    try:
        return ask(*of)
    except pynvml.NVMLError as error:
        if error.value in _NOT_TOLD:
            return None
        raise


def _text(value: str | bytes) -> str:
    """Older versions of the bindings give bytes."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value


@contextmanager
def _mapped(what: str) -> Iterator[None]:
    try:
        yield
    except pynvml.NVMLError as error:
        raise ReadingFailedError(f"{what}: {error}.") from error
