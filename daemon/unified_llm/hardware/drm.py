"""What the kernel's graphics drivers have in common: cards in sysfs, and who uses them in fdinfo.

Sources: Documentation/gpu/drm-usage-stats.rst; Documentation/ABI/testing/sysfs-bus-pci;
Documentation/hwmon/sysfs-interface.rst.
A process of another user, or one that may not be traced, keeps its fdinfo to itself.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from unified_llm.domain.devices import ProcessMemory
from unified_llm.domain.units import Bytes

_CARD: Final = re.compile(r"card\d+")
_UNITS: Final = {"": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
_GRAPHICS_NODES: Final = "/dev/dri/"


@dataclass(frozen=True, slots=True)
class Card:
    """A PCI device that a kernel driver serves. address: such as 0000:03:00.0."""

    address: str
    folder: Path

    def number(self, attribute: str) -> int | None:
        """An attribute that holds one number; None if there is no such thing."""
        text = read_text(self.folder / attribute)
        return int(text) if text is not None and text.strip().isdecimal() else None

    def temperature(self, sensor: int) -> int | None:
        """What a sensor of the card shows, in whole degrees Celsius; None if it shows nothing."""
        if (read_text(self.folder / "power" / "runtime_status") or "").strip() == "suspended":
            # A card that the kernel has put to sleep may be woken by asking it.
            return None
        for monitor in _entries(self.folder / "hwmon"):
            text = (read_text(monitor / f"temp{sensor}_input") or "").strip()
            if text.removeprefix("-").isdecimal():
                return round(int(text) / 1000)
        return None


def find_cards(sysfs: Path, kernel_driver: str) -> list[Card]:
    """The cards of one kernel driver, by address."""
    found: dict[str, Card] = {}
    for entry in _entries(sysfs / "class" / "drm"):
        folder = entry / "device"
        facts = dict(_pairs(read_text(folder / "uevent") or "", "="))
        address = facts.get("PCI_SLOT_NAME")
        if _CARD.fullmatch(entry.name) and facts.get("DRIVER") == kernel_driver and address:
            found[address] = Card(address, folder)
    return [found[address] for address in sorted(found)]


def is_module_loaded(sysfs: Path, module: str) -> bool:
    """Whether the kernel has the driver, cards or not."""
    return (sysfs / "module" / module).is_dir()


def read_users(proc: Path, card: Card, region: str) -> tuple[ProcessMemory, ...] | None:
    """Which processes hold memory of the card; None if the kernel shows no process at all.

    region: a prefix of the driver's names for it: `vram`, `local`.
    """
    found: list[ProcessMemory] = []
    is_shown = False
    for entry in _entries(proc):
        if not entry.name.isdecimal():
            continue
        held = _held_by(entry, card, region)
        is_shown = is_shown or held is not None
        if held:
            found.append(ProcessMemory(int(entry.name), Bytes(held)))
    return tuple(sorted(found, key=lambda process: process.pid)) if is_shown else None


def _held_by(process: Path, card: Card, region: str) -> int | None:
    """Bytes of one process; None if it has no open card that may be looked at."""
    clients: dict[str, int] = {}
    for descriptor in _entries(process / "fd"):
        if not _points_to_graphics(descriptor):
            continue
        facts = dict(_pairs(read_text(process / "fdinfo" / descriptor.name) or "", ":"))
        client = facts.get("drm-client-id")
        if facts.get("drm-pdev") == card.address and client is not None:
            # Several descriptors may belong to one client, and each tells all of it.
            clients[client] = _resident(facts, region)
    return sum(clients.values()) if clients else None


def _resident(facts: dict[str, str], region: str) -> int:
    """What a client has in the region; drm-memory-* is the older name of drm-resident-*."""
    for kind in ("drm-resident-", "drm-memory-"):
        sizes = [_size(value) for key, value in facts.items() if key.startswith(kind + region)]
        if sizes:
            return sum(sizes)
    return 0


def _size(text: str) -> int:
    number, _, unit = text.partition(" ")
    scale = _UNITS.get(unit.strip())
    return int(number) * scale if number.isdecimal() and scale is not None else 0


def _pairs(text: str, separator: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        key, found, value = line.partition(separator)
        if found:
            yield key.strip(), value.strip()


def _points_to_graphics(descriptor: Path) -> bool:
    try:
        return str(descriptor.readlink()).startswith(_GRAPHICS_NODES)
    except OSError:
        return False


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def read_text(file: Path) -> str | None:
    """A small file of the kernel; None if it is not there or not ours to read."""
    try:
        return file.read_text(errors="replace")
    except OSError:
        return None
