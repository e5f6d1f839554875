"""Whether a worker that was killed was killed for want of memory.

The kernel tells nobody directly. It counts: `oom_kill` in memory.events of a control group is the
number of its processes ended by any kind of OOM killer
(Documentation/admin-guide/cgroup-v2.rst, "memory.events").
"""

from pathlib import Path

_OWN_GROUP = Path("/proc/self/cgroup")
_GROUPS = Path("/sys/fs/cgroup")


def find_memory_events(own_group: Path = _OWN_GROUP, groups: Path = _GROUPS) -> Path | None:
    """The file that counts for our control group; None without cgroup v2."""
    try:
        lines = own_group.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith("0::"):
            return groups / line.removeprefix("0::").lstrip("/") / "memory.events"
    return None


class OomKills:
    """Attributes each kill the kernel counted to one death."""

    def __init__(self, memory_events: Path | None) -> None:
        self._file = memory_events
        self._seen = self._count()

    def took_one(self) -> bool | None:
        """Whether one more kill has been counted than was asked about; None if it is not known."""
        count = self._count()
        if count is None or self._seen is None:
            return None
        if count <= self._seen:
            return False
        self._seen += 1
        return True

    def _count(self) -> int | None:
        try:
            text = self._file.read_text() if self._file else ""
        except OSError:
            return None
        for line in text.splitlines():
            name, _, value = line.partition(" ")
            if name == "oom_kill" and value.isdecimal():
                return int(value)
        return None
