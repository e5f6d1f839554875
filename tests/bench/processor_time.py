"""What processes have taken of the processor: unlike a clock, nearly the same on a busy machine."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")


def processor_seconds(process: int) -> float:
    """User and system time of a process and of its living descendants."""
    return sum(_own_ticks(each) for each in _with_descendants(process)) / _TICKS_PER_SECOND


def _with_descendants(process: int) -> Iterator[int]:
    yield process
    for thread in Path(f"/proc/{process}/task").iterdir():
        for child in (thread / "children").read_text().split():
            yield from _with_descendants(int(child))


def _own_ticks(process: int) -> int:
    """Fields 14 and 15 of proc_pid_stat(5); a command name may hold blanks and brackets."""
    after_name = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return int(after_name[11]) + int(after_name[12])
