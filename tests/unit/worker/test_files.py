import os
import sys
from pathlib import Path

from unified_llm.worker.files import readable_files


def test_what_modules_are_imported_from_stays_readable() -> None:
    readable = readable_files(Path("/sys/fs/cgroup/own"))
    for module in (os, sys.modules["unified_llm.worker.files"]):
        file = Path(str(module.__file__))
        assert any(file.is_relative_to(path) for path in readable)


def test_nobodys_files_are_among_them() -> None:
    readable = readable_files(Path("/sys/fs/cgroup/own"))
    assert all(path.startswith("/") for path in readable)
    assert not {"/", "/etc", "/home", "/root", "/proc", "/proc/self", "/sys", "/dev", "/tmp"} & set(
        readable
    )
    assert "/sys/fs/cgroup/own/cpu.max" in readable
