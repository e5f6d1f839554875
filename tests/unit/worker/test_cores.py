"""Threads are counted by physical core, and never beyond what is allowed."""

import os
from pathlib import Path

import pytest

from unified_llm.worker.cores import allowed_physical_cores, cgroup_quota, count_cores


def topology(root: Path, siblings: dict[int, str]) -> Path:
    for cpu, listed in siblings.items():
        folder = root / f"cpu{cpu}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{listed}\n")
    return root


def test_hyperthreads_of_a_core_count_once(tmp_path: Path) -> None:
    sysfs = topology(tmp_path, {0: "0,2", 1: "1,3", 2: "0,2", 3: "1,3"})
    assert count_cores({0, 1, 2, 3}, sysfs) == 2
    assert count_cores({0, 2}, sysfs) == 1


def test_without_topology_each_cpu_is_a_core(tmp_path: Path) -> None:
    assert count_cores({0, 1, 2}, tmp_path) == 3


@pytest.mark.parametrize(
    ("content", "quota"),
    [
        ("max 100000\n", None),
        ("150000 100000\n", 2),
        ("50000 100000\n", 1),
        ("", None),
        ("x y\n", None),
        ("1 0\n", None),
    ],
)
def test_a_quota_of_the_cgroup_is_rounded_up(
    tmp_path: Path, content: str, quota: int | None
) -> None:
    (tmp_path / "cpu.max").write_text(content)
    assert cgroup_quota(tmp_path) == quota


def test_no_cgroup_is_no_quota(tmp_path: Path) -> None:
    assert cgroup_quota(tmp_path / "none") is None


def test_this_machine_allows_at_least_one_and_no_more_than_its_affinity() -> None:
    assert 1 <= allowed_physical_cores() <= len(os.sched_getaffinity(0))
