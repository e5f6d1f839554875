"""Stands in for the `pynvml` module: two GPUs in an order that is not the bus's, or trouble."""

from dataclasses import dataclass, field

import pynvml


@dataclass(frozen=True, slots=True)
class _Pci:
    busId: str | bytes  # noqa: N815  as NVML spells it


@dataclass(frozen=True, slots=True)
class _Memory:
    total: int
    free: int
    used: int


@dataclass(frozen=True, slots=True)
class _Process:
    pid: int
    usedGpuMemory: int | None  # noqa: N815


@dataclass(slots=True)
class FakeNvml:
    """The functions that NvmlDriver calls.

    init_error, read_error: NVML's number for what goes wrong; 0 for nothing. no_processes: the
    number for both process lists. no_sensor: that for the temperature. opened: initialisations
    not yet undone.
    """

    init_error: int = 0
    read_error: int = 0
    no_processes: int = 0
    no_sensor: int = 0
    opened: int = 0
    addresses: list[str | bytes] = field(
        default_factory=lambda: [b"00000000:41:00.0", "00000000:01:00.0"]
    )

    def nvmlInit(self) -> None:  # noqa: N802
        _raise_if(self.init_error)
        self.opened += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.opened -= 1

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        _raise_if(self.read_error if self.opened else pynvml.NVML_ERROR_UNINITIALIZED)
        return len(self.addresses)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        return index

    def nvmlDeviceGetPciInfo(self, handle: int) -> _Pci:  # noqa: N802
        return _Pci(self.addresses[handle])

    def nvmlDeviceGetName(self, handle: int) -> str:  # noqa: N802
        return f"NVIDIA Test {handle}"

    def nvmlDeviceGetUUID(self, handle: int) -> str:  # noqa: N802
        return f"GPU-test-{handle}"

    def nvmlDeviceGetTemperature(self, handle: int, sensor: int) -> int:  # noqa: N802
        _raise_if(self.no_sensor)
        assert sensor == pynvml.NVML_TEMPERATURE_GPU
        return 40 + handle

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> _Memory:  # noqa: N802
        # Version 2 of the call keeps what the driver reserves out of `used`.
        return _Memory(total=24 * 1024**3, free=20 * 1024**3, used=3 * 1024**3)

    def nvmlDeviceGetComputeRunningProcesses(self, handle: int) -> list[_Process]:  # noqa: N802
        _raise_if(self.no_processes)
        return [_Process(4242, 1024**3), _Process(5, None)]

    def nvmlDeviceGetGraphicsRunningProcesses(self, handle: int) -> list[_Process]:  # noqa: N802
        _raise_if(self.no_processes)
        return [_Process(4242, 1024**3), _Process(77, 512 * 1024**2)]


def _raise_if(number: int) -> None:
    if number:
        raise pynvml.NVMLError(number)
