"""How many CPU threads a worker should use when nobody says."""

import math
import os
from pathlib import Path

_SYSFS = Path("/sys/devices/system/cpu")
_CGROUPS = Path("/sys/fs/cgroup")


def allowed_physical_cores() -> int:
    """Physical cores this process may run on, at least 1.

    A second thread on a core slows matrix work down rather than speeding it up, so hyperthreads do
    not count; nor does what the CPU affinity or the cgroup's quota forbids.
    """
    allowed = os.sched_getaffinity(0)
    cores = count_cores(allowed, _SYSFS)
    quota = cgroup_quota(own_cgroup())
    return max(1, cores if quota is None else min(cores, quota))


def count_cores(cpus: set[int], sysfs: Path) -> int:
    """Distinct physical cores among `cpus`; a CPU of unknown topology counts as its own core."""
    return len({_siblings(cpu, sysfs) for cpu in cpus})


def cgroup_quota(cgroup: Path) -> int | None:
    """Whole CPUs, rounded up, that cgroup v2's `cpu.max` allows here; None without a limit."""
    try:
        quota, period = (cgroup / "cpu.max").read_text(encoding="ascii").split()
        return None if quota == "max" else math.ceil(int(quota) / int(period))
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _siblings(cpu: int, sysfs: Path) -> str:
    try:
        path = sysfs / f"cpu{cpu}" / "topology" / "thread_siblings_list"
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return f"cpu{cpu}"


def own_cgroup() -> Path:
    try:
        entries = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return _CGROUPS
    own = next((entry[3:] for entry in entries if entry.startswith("0::")), "/")
    return _CGROUPS / own.lstrip("/")
