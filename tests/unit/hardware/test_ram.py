"""Main memory as the kernel tells it, from captured trees."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from unified_llm.hardware.ram import RamDriver, stalled_share, usable_ram

MEMINFO = "MemTotal:       16384000 kB\nMemFree:         1000000 kB\nMemAvailable:    8192000 kB\n"
TOTAL = 16_384_000 * 1024


def tree(folder: Path, own_group: str, limits: dict[str, str]) -> tuple[Path, Path]:
    proc, groups = folder / "proc", folder / "cgroup"
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text(MEMINFO)
    (proc / "self" / "cgroup").write_text(own_group)
    for group, limit in limits.items():
        (groups / group).mkdir(parents=True, exist_ok=True)
        (groups / group / "memory.max").write_text(limit + "\n")
    return proc, groups


def test_without_limits_it_is_what_the_machine_has(tmp_path: Path) -> None:
    assert usable_ram(*tree(tmp_path, "0::/system.slice/llm.service\n", {})) == TOTAL


def test_the_least_limit_on_the_way_up_counts(tmp_path: Path) -> None:
    limits = {"system.slice": "4000000000", "system.slice/llm.service": "max"}
    trees = tree(tmp_path, "0::/system.slice/llm.service\n", limits)
    assert usable_ram(*trees) == 4_000_000_000


def test_a_limit_above_the_machine_changes_nothing(tmp_path: Path) -> None:
    trees = tree(tmp_path, "0::/llm.service\n", {"llm.service": str(TOTAL * 2)})
    assert usable_ram(*trees) == TOTAL


def test_control_groups_of_version_one_are_no_statement(tmp_path: Path) -> None:
    assert usable_ram(*tree(tmp_path, "4:memory:/llm\n", {})) == TOTAL


def test_a_machine_that_does_not_say_is_none(tmp_path: Path) -> None:
    assert usable_ram(tmp_path / "nothing", tmp_path / "nothing") is None


def test_this_machine_says_something_plausible() -> None:
    found = usable_ram()
    assert found is not None
    assert found > 2**27


def test_what_is_used_can_not_be_taken_back(tmp_path: Path) -> None:
    (device,) = RamDriver(*tree(tmp_path, "0::/llm.service\n", {})).read()
    assert (device.id, device.total, device.used) == ("ram", TOTAL, TOTAL // 2)


def test_the_group_with_the_least_left_decides(tmp_path: Path) -> None:
    proc, groups = tree(tmp_path, "0::/llm.service\n", {"llm.service": "4000000000"})
    (groups / "llm.service" / "memory.current").write_text("3000000000\n")
    (groups / "llm.service" / "memory.stat").write_text("anon 7\ninactive_file 500000000\n")
    (device,) = RamDriver(proc, groups).read()
    assert (device.total, device.free) == (4_000_000_000, 1_500_000_000)


def test_a_machine_that_does_not_say_what_is_available_is_unknown(tmp_path: Path) -> None:
    proc, groups = tree(tmp_path, "", {})
    (proc / "meminfo").write_text("MemTotal: 1000 kB\n")
    (device,) = RamDriver(proc, groups).read()
    assert (device.total, device.used, device.free) == (1_024_000, None, None)


def test_our_children_are_seen_with_what_is_theirs_alone() -> None:
    code = "import sys; held = b'x' * 2**26; print(len(held), flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdout.readline()
        (device,) = RamDriver().read()
        held = device.used_by(child.pid)
        child.stdin.close()
    assert held is not None
    assert 32 * 2**20 < held < 256 * 2**20
    assert device.used_by(os.getpid()) is None


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("some avg10=2.50 avg60=0.00 avg300=0.00 total=1\nfull avg10=9.00\n", 0.025),
        ("full avg10=1.00\n", None),
        ("some avg10=nan\n", None),
        ("some avg10\n", None),
        ("", None),
    ],
)
def test_pressure_is_the_share_of_time_some_task_waited(
    tmp_path: Path, text: str, share: float | None
) -> None:
    (tmp_path / "pressure").mkdir()
    (tmp_path / "pressure" / "memory").write_text(text)
    assert stalled_share(tmp_path) == share
