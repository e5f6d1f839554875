"""Main memory, as far as this service may use it."""

from collections.abc import Iterator
from pathlib import Path

from unified_llm.domain.devices import RAM, DeviceMemory, ProcessMemory
from unified_llm.domain.units import Bytes
from unified_llm.hardware.probe import ProbeOutcome, ReadingFailedError

_PROC = Path("/proc")
_GROUPS = Path("/sys/fs/cgroup")


def usable_ram(proc: Path = _PROC, groups: Path = _GROUPS) -> Bytes | None:
    """What the machine has, or what our control group or one above it allows if that is less.

    MemTotal of proc_meminfo(5); memory.max of Documentation/admin-guide/cgroup-v2.rst.
    None if the machine does not say.
    """
    total = _kilobytes(proc / "meminfo", "MemTotal")
    limits = [limit for _, limit in _limited_groups(proc / "self" / "cgroup", groups)]
    known = [*limits, *([total] if total is not None else [])]
    return Bytes(min(known)) if known else None


def stalled_share(proc: Path = _PROC) -> float | None:
    """Share of the last ten seconds in which some task waited for memory; None if not told.

    `some avg10` of Documentation/accounting/psi.rst, in percent there.
    """
    for line in _lines(proc / "pressure" / "memory"):
        kind, *facts = line.split()
        for fact in facts if kind == "some" else ():
            name, _, value = fact.partition("=")
            if name == "avg10":
                return _share(value)
    return None


class RamDriver:
    """Implements MemoryDriver: main memory, of which only what cannot be taken back counts as used.

    A model's file mapped into memory is page cache, which the kernel takes back at once; so neither
    `used` nor `processes` has it. processes: our own children, which the workers are.
    """

    name = "ram"

    def __init__(self, proc: Path = _PROC, groups: Path = _GROUPS) -> None:
        self._proc = proc
        self._groups = groups

    def probe(self) -> ProbeOutcome:
        """As in MemoryDriver."""
        known = usable_ram(self._proc, self._groups)
        return ProbeOutcome.ABSENT if known is None else ProbeOutcome.WORKS

    def read(self) -> tuple[DeviceMemory, ...]:
        """As in MemoryDriver."""
        total = usable_ram(self._proc, self._groups)
        if total is None:
            raise ReadingFailedError("The kernel does not tell how much main memory there is.")
        return (DeviceMemory(RAM, "RAM", total, self._used(total), self._children()),)

    def close(self) -> None:
        """As in MemoryDriver; nothing is kept open."""

    def _used(self, total: Bytes) -> Bytes | None:
        """So that the rest of `total` is what the machine and every group above us have left."""
        meminfo = self._proc / "meminfo"
        left = [_kilobytes(meminfo, "MemAvailable")]
        for group, limit in _limited_groups(self._proc / "self" / "cgroup", self._groups):
            current = _number(group / "memory.current")
            cached = _field(group / "memory.stat", "inactive_file", " ")
            left.append(None if current is None else limit - current + (cached or 0))
        known = [each for each in left if each is not None]
        return Bytes(max(total - min(known), 0)) if known else None

    def _children(self) -> tuple[ProcessMemory, ...] | None:
        """Of every thread: a child belongs to the thread that started it."""
        lists = list((self._proc / "self" / "task").glob("*/children"))
        pids = [int(pid) for file in lists for line in _lines(file) for pid in line.split()]
        held = ((pid, self._unshared(pid)) for pid in sorted(pids))
        found = tuple(ProcessMemory(pid, used) for pid, used in held if used is not None)
        return found if lists else None

    def _unshared(self, pid: int) -> Bytes | None:
        status = self._proc / str(pid) / "status"
        parts = [_kilobytes(status, name) for name in ("RssAnon", "RssShmem")]
        known = [part for part in parts if part is not None]
        return Bytes(sum(known)) if known else None


def _kilobytes(file: Path, name: str) -> int | None:
    """A line such as `MemTotal:  1024 kB` of proc_meminfo(5) or proc_pid_status(5), in bytes."""
    number = _field(file, name, ":")
    return None if number is None else number * 1024


def _field(file: Path, name: str, separator: str) -> int | None:
    for line in _lines(file):
        key, _, value = line.partition(separator)
        number = value.removesuffix("kB").strip()
        if key == name and number.isdecimal():
            return int(number)
    return None


def _limited_groups(own_group: Path, groups: Path) -> Iterator[tuple[Path, int]]:
    """Our control group and those above it, as far as they set a limit."""
    for line in _lines(own_group):
        if line.startswith("0::/"):
            here = groups / line.removeprefix("0::/")
            for group in (here, *here.parents):
                limit = _number(group / "memory.max") if group.is_relative_to(groups) else None
                if limit is not None:
                    yield group, limit
            return


def _number(file: Path) -> int | None:
    for line in _lines(file):
        return int(line) if line.isdecimal() else None
    return None


def _share(percent: str) -> float | None:
    try:
        value = float(percent) / 100
    except ValueError:
        return None
    return value if 0 <= value <= 1 else None


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except OSError:
        return []
