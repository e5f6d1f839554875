"""Main memory, as far as this service may use it."""

from pathlib import Path

from unified_llm.domain.units import Bytes

_PROC = Path("/proc")
_GROUPS = Path("/sys/fs/cgroup")


def usable_ram(proc: Path = _PROC, groups: Path = _GROUPS) -> Bytes | None:
    """What the machine has, or what our control group or one above it allows if that is less.

    MemTotal of proc_meminfo(5); memory.max of Documentation/admin-guide/cgroup-v2.rst.
    None if the machine does not say.
    """
    total = _total(proc / "meminfo")
    limits = [limit for limit in _limits(proc / "self" / "cgroup", groups) if limit is not None]
    known = [*limits, *([total] if total is not None else [])]
    return Bytes(min(known)) if known else None


def _total(meminfo: Path) -> int | None:
    for line in _lines(meminfo):
        name, _, value = line.partition(":")
        number = value.removesuffix("kB").strip()
        if name == "MemTotal" and number.isdecimal():
            return int(number) * 1024
    return None


def _limits(own_group: Path, groups: Path) -> list[int | None]:
    for line in _lines(own_group):
        if line.startswith("0::/"):
            here = groups / line.removeprefix("0::/")
            above = [here, *(parent for parent in here.parents if parent.is_relative_to(groups))]
            return [_limit(group / "memory.max") for group in above]
    return []


def _limit(memory_max: Path) -> int | None:
    for line in _lines(memory_max):
        return int(line) if line.isdecimal() else None
    return None


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except OSError:
        return []
