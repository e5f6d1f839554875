"""Devices that a file describes, for tests and demonstrations; selected by a setting.

The file is JSON and is read anew each time, so that a script can play other programs:

    {"devices": [{"id": "fake:0", "name": "Fake GPU", "total_bytes": 25769803776,
                  "foreign_bytes": 0}]}

What is used is `foreign_bytes` and what the daemon's own workers were given there. A device may
also have a `uuid` and a `temperature`, in degrees Celsius.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from unified_llm.domain.devices import DeviceId, DeviceMemory
from unified_llm.domain.units import Bytes
from unified_llm.hardware.probe import ProbeOutcome, ReadingFailedError


class FakeDriver:
    """Implements MemoryDriver. held: what our own workers hold on each device."""

    name = "fake"

    def __init__(self, file: Path, held: Callable[[], Mapping[DeviceId, Bytes]]) -> None:
        self._file = file
        self._held = held

    def probe(self) -> ProbeOutcome:
        """As in MemoryDriver."""
        return ProbeOutcome.WORKS if self._file.is_file() else ProbeOutcome.NOT_YET

    def read(self) -> tuple[DeviceMemory, ...]:
        """As in MemoryDriver."""
        try:
            described = json.loads(self._file.read_text())["devices"]
            return tuple(map(self._device, described))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ReadingFailedError(
                f"{self._file.name} does not describe devices: {error!r}."
            ) from error

    def close(self) -> None:
        """As in MemoryDriver; nothing is kept open."""

    def _device(self, described: Mapping[str, Any]) -> DeviceMemory:
        device = DeviceId(str(described["id"]))
        held = self._held().get(device, Bytes(0))
        uuid, temperature = described.get("uuid"), described.get("temperature")
        return DeviceMemory(
            id=device,
            name=str(described["name"]),
            total=Bytes(int(described["total_bytes"])),
            used=Bytes(int(described["foreign_bytes"]) + held),
            uuid=None if uuid is None else str(uuid),
            temperature=None if temperature is None else round(temperature),
        )
