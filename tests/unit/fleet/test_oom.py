from pathlib import Path

from unified_llm.fleet.oom import OomKills, find_memory_events


def counter(path: Path, kills: int) -> Path:
    path.write_text(f"low 0\nhigh 0\nmax 9\noom 4\noom_kill {kills}\noom_group_kill 0\n")
    return path


def test_each_counted_kill_explains_one_death(tmp_path: Path) -> None:
    events = counter(tmp_path / "memory.events", 3)
    kills = OomKills(events)
    assert kills.took_one() is False
    counter(events, 5)
    assert [kills.took_one() for _ in range(3)] == [True, True, False]


def test_without_a_counter_nothing_is_known(tmp_path: Path) -> None:
    assert OomKills(None).took_one() is None
    assert OomKills(tmp_path / "absent").took_one() is None
    broken = tmp_path / "broken"
    broken.write_text("oom_kill many\n")
    assert OomKills(broken).took_one() is None


def test_the_counter_of_our_own_group_is_found(tmp_path: Path) -> None:
    own = tmp_path / "cgroup"
    own.write_text("1:name=systemd:/x\n0::/system.slice/unified-llm.service\n")
    found = find_memory_events(own, Path("/groups"))
    assert found == Path("/groups/system.slice/unified-llm.service/memory.events")


def test_without_cgroup_v2_there_is_no_counter(tmp_path: Path) -> None:
    own = tmp_path / "cgroup"
    own.write_text("1:name=systemd:/x\n")
    assert find_memory_events(own) is None
    assert find_memory_events(tmp_path / "absent") is None
