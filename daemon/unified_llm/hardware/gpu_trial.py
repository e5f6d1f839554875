"""Tries the GPUs out, in a process that is thrown away: `python -m unified_llm.hardware.gpu_trial`.

After a sleep a driver may list a GPU on which nothing can be computed (ollama issue 5464), answer
never, or end whoever asks. What comes of it is on standard output as JSON: the GPUs that work, and
a sentence for each that does not.
"""

import ctypes
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from unified_llm.domain.devices import RAM
from unified_llm.hardware.drivers import choose_drivers
from unified_llm.hardware.probe import ProbeOutcome, ReadingFailedError

_CUDA: Final = "libcuda.so.1"
_TRIAL_BYTES: Final = 1 << 20


def try_gpus(wanted: str, fake_file: Path, cuda: Any | None) -> dict[str, list[str]]:
    """`devices` whose driver answers, and `faults`. wanted, fake_file: as for choose_drivers.

    cuda: the driver's library, on which NVIDIA's devices are tried; None to leave that out.
    """
    devices: list[str] = []
    faults: list[str] = []
    for driver in choose_drivers(wanted, fake_file, dict):
        try:
            if driver.probe() is ProbeOutcome.WORKS:
                devices += [device.id for device in driver.read() if device.id != RAM]
        except ReadingFailedError as error:
            faults.append(str(error))
        finally:
            driver.close()
    if cuda is not None and any(device.startswith("nvml:") for device in devices):
        faults += _cuda_faults(cuda)
    return {"devices": devices, "faults": faults}


def _cuda_faults(cuda: Any) -> Iterator[str]:
    """By the CUDA driver API: a context, and some memory that is written and read."""
    if (code := cuda.cuInit(0)) != 0:
        yield f"CUDA does not start (error {code})."
        return
    count = ctypes.c_int()
    if (code := cuda.cuDeviceGetCount(ctypes.byref(count))) != 0:
        yield f"CUDA does not count its devices (error {code})."
        return
    for index in range(count.value):
        if (code := _compute_on(cuda, index)) != 0:
            yield f"CUDA can not use device {index} (error {code})."


def _compute_on(cuda: Any, index: int) -> int:
    """The first error code of CUDA; 0 if all goes well."""
    device, context = ctypes.c_int(), ctypes.c_void_p()
    memory, seen = ctypes.c_uint64(), ctypes.c_uint32()
    steps: tuple[Callable[[], int], ...] = (
        lambda: cuda.cuDeviceGet(ctypes.byref(device), index),
        lambda: cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device),
        lambda: cuda.cuCtxSetCurrent(context),
        lambda: cuda.cuMemAlloc_v2(ctypes.byref(memory), ctypes.c_size_t(_TRIAL_BYTES)),
        lambda: cuda.cuMemsetD32_v2(memory, ctypes.c_uint32(0xA5A5A5A5), ctypes.c_size_t(4)),
        lambda: cuda.cuMemcpyDtoH_v2(ctypes.byref(seen), memory, ctypes.c_size_t(4)),
    )
    for step in steps:
        code = step()
        if code != 0:
            return code
    return 0 if seen.value == 0xA5A5A5A5 else -1


def _library() -> Any | None:
    try:
        return ctypes.CDLL(_CUDA)
    except OSError:
        return None


def main(arguments: Sequence[str]) -> None:
    """arguments: the driver of the settings, and the file of the fake one."""
    wanted, fake_file = arguments
    sys.stdout.write(json.dumps(try_gpus(wanted, Path(fake_file), _library())))


if __name__ == "__main__":
    main(sys.argv[1:])
