"""Main memory as the kernel tells it, from captured trees."""

from pathlib import Path

from unified_llm.hardware.ram import usable_ram

MEMINFO = "MemTotal:       16384000 kB\nMemFree:         1000000 kB\n"
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
