"""Finds out whether GPUs that were there still work, without touching them from this process."""

import asyncio
import json
import logging
import sys
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from unified_llm.domain.devices import DeviceId
from unified_llm.domain.units import Seconds

_log = logging.getLogger(__name__)

_LIMIT: Final = Seconds(20)
# One that the kernel does not let go is left to it: nothing more can be done about it.
_GONE: Final = Seconds(2)
_ENVIRONMENT: Final = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


class GpuCheck:
    """Runs a trial of each GPU in a child. wanted, fake_file: as for choose_drivers.

    limit: how long it may take; drivers take seconds to wake a GPU.
    """

    def __init__(
        self,
        wanted: str,
        fake_file: Path,
        *,
        limit: Seconds = _LIMIT,
        command: Sequence[str] = (sys.executable, "-I", "-m", "unified_llm.hardware.gpu_trial"),
    ) -> None:
        self._command = (*command, wanted, str(fake_file))
        self._limit = limit

    async def __call__(self, expected: Collection[DeviceId]) -> str | None:
        """Why GPUs of `expected` do not work, in a sentence; None if all do."""
        try:
            child = await asyncio.create_subprocess_exec(
                *self._command,
                env=_ENVIRONMENT,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
            )
        except OSError as error:
            return f"They could not be tried: {error.strerror}."
        try:
            async with asyncio.timeout(self._limit):
                answer, _ = await child.communicate()
        except TimeoutError:
            return f"The trial did not end within {self._limit:g} s."
        finally:
            if child.returncode is None:
                await _end(child)
        if child.returncode != 0:
            return f"The trial ended with status {child.returncode}."
        return _judge(answer, expected)


async def _end(child: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        child.kill()
    try:
        async with asyncio.timeout(_GONE):
            await child.wait()
    except TimeoutError:
        _log.error("the trial of the GPUs (process %d) is held by the kernel", child.pid)


def _judge(answer: bytes, expected: Collection[DeviceId]) -> str | None:
    try:
        found = json.loads(answer)
        devices, faults = set(found["devices"]), list(found["faults"])
    except (ValueError, KeyError, TypeError):
        return "The trial said nothing that can be read."
    missing = sorted(set(expected) - devices)
    if missing:
        faults.insert(0, f"No driver shows {', '.join(missing)} any more.")
    return " ".join(map(str, faults)) or None
