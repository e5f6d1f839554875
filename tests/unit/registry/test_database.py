"""registry.database: any file in its place, and what becomes of it."""

import random
import sqlite3
from pathlib import Path

import pytest

from unified_llm.domain.units import Seconds
from unified_llm.registry import database as module
from unified_llm.registry.database import Damaged, migrate, open_or_rebuild
from unified_llm.registry.schema import MIGRATIONS

NOON = Seconds(1_700_000_000)
STAMP = "20231114T221320Z"


def opened(path: Path | None) -> tuple[bool, str | None]:
    """Whether the database at `path` has our tables after it was opened, and the complaint."""
    found = open_or_rebuild(path, NOON)
    with_tables = found.connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
    tables = [name for (name,) in with_tables]
    found.connection.execute("DELETE FROM files")
    found.connection.close()
    return "files" in tables, found.complaint


def filled(path: Path) -> bytes:
    """A sound database with rows, and its bytes."""
    connection = open_or_rebuild(path, NOON).connection
    rows = [(str(key), "reader", b"x" * 300, None, 1) for key in range(200)]
    with connection:
        connection.executemany(
            "INSERT INTO files (identity, reader, header, defect, seen_at) VALUES (?, ?, ?, ?, ?)",
            rows,
        )
    connection.close()
    return path.read_bytes()


def test_a_new_database_is_for_the_daemon_alone(tmp_path: Path) -> None:
    path = tmp_path / "registry.db"
    assert opened(path) == (True, None)
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_was_written_is_found_again(tmp_path: Path) -> None:
    path = tmp_path / "registry.db"
    filled(path)
    connection = open_or_rebuild(path, NOON).connection
    assert connection.execute("SELECT count(*) FROM files").fetchone() == (200,)
    connection.close()


def test_every_byte_may_be_damaged_and_the_daemon_starts(tmp_path: Path) -> None:
    path = tmp_path / "registry.db"
    content = filled(path)
    draw, complaints = random.Random(4), 0
    for _ in range(250):
        damaged = bytearray(content)
        place = draw.randrange(len(content))
        damaged[place] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        is_ours, complaint = opened(path)
        assert is_ours
        complaints += complaint is not None
    assert complaints


@pytest.mark.parametrize("size", [0, 15, 16, 99, 100, 101, 4095, 4096, 4097, 8192, 20_000])
def test_a_file_that_was_cut_off_is_set_aside_or_begun(tmp_path: Path, size: int) -> None:
    path = tmp_path / "registry.db"
    content = filled(path)[:size]
    path.write_bytes(content)
    is_ours, complaint = opened(path)
    assert is_ours
    if size == 0:
        assert complaint is None
        return
    assert complaint is not None
    assert complaint.startswith("The registry is damaged (")
    aside = tmp_path / f"registry.db.damaged-{STAMP}"
    assert aside.name in complaint
    assert aside.read_bytes() == content


def test_a_foreign_database_is_set_aside_and_not_changed(tmp_path: Path) -> None:
    path = tmp_path / "registry.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE photos (name TEXT)")
    connection.close()
    content = path.read_bytes()
    is_ours, complaint = opened(path)
    assert is_ours
    assert complaint is not None
    assert "belongs to another program" in complaint
    assert (tmp_path / f"registry.db.damaged-{STAMP}").read_bytes() == content


def test_a_database_of_a_later_daemon_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "registry.db"
    filled(path)
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    connection.close()
    _, complaint = opened(path)
    assert complaint is not None
    assert "made by a later daemon" in complaint


def test_the_log_goes_aside_with_its_database(tmp_path: Path) -> None:
    path = tmp_path / "registry.db"
    for suffix in ("", "-wal", "-shm"):
        (tmp_path / f"registry.db{suffix}").write_bytes(suffix.encode())
    assert module.set_aside(path, NOON).name == f"registry.db.damaged-{STAMP}"
    assert {found.name: found.read_bytes() for found in tmp_path.iterdir()} == {
        f"registry.db.damaged-{STAMP}": b"",
        f"registry.db.damaged-{STAMP}-wal": b"-wal",
    }


def test_two_in_one_second_have_two_names_and_the_oldest_go(tmp_path: Path) -> None:
    path = tmp_path / "registry.db"
    for number in range(module.MAX_SET_ASIDE + 2):
        path.write_bytes(b"%d" % number + b"x" * 200)
        open_or_rebuild(path, Seconds(NOON + number // 2)).connection.close()
    asides = sorted(tmp_path.glob("registry.db.damaged-*"))
    assert [aside.read_bytes()[:1] for aside in asides] == [b"2", b"3", b"4", b"5", b"6"]


@pytest.mark.parametrize("kind", ["directory", "nowhere"])
def test_where_no_file_can_be_the_daemon_remembers_in_memory(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "registry.db"
    if kind == "directory":
        path.mkdir()
    else:
        path = tmp_path / "missing" / "registry.db"
    is_ours, complaint = opened(path)
    assert is_ours
    assert complaint is not None
    assert "forgotten when it stops" in complaint
    assert str(tmp_path) not in complaint


def test_no_path_is_memory_without_a_complaint() -> None:
    assert opened(None) == (True, None)


def test_a_step_that_fails_leaves_the_version_before_it() -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    with pytest.raises(sqlite3.OperationalError):
        migrate(connection, ("CREATE TABLE a (x)", "CREATE TABLE b (x); CREATE TABLE a (x)"))
    assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    assert connection.execute("SELECT name FROM sqlite_schema").fetchall() == [("a",)]
    migrate(connection, ("", "CREATE TABLE b (x)", "CREATE TABLE c (x)"))
    assert connection.execute("PRAGMA user_version").fetchone() == (3,)
    with pytest.raises(Damaged):
        migrate(connection, ("",))
    connection.close()


def test_another_process_that_writes_is_waited_for_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BUSY_MILLISECONDS", 1)
    path = tmp_path / "registry.db"
    ours, theirs = (open_or_rebuild(path, NOON).connection for _ in range(2))
    theirs.execute("BEGIN IMMEDIATE")
    with pytest.raises(sqlite3.OperationalError) as busy:
        ours.execute("BEGIN IMMEDIATE")
    meaning = module.refuse(busy.value)
    assert "another process has it open" in str(meaning)
    ours.close()
    theirs.close()


def test_a_mistake_of_ours_is_no_fault_of_the_disk() -> None:
    connection = sqlite3.connect(":memory:")
    with pytest.raises(sqlite3.OperationalError) as mistake:
        connection.execute("SELECT nothing FROM nowhere")
    assert module.refuse(mistake.value) is None
    assert module.refuse(sqlite3.ProgrammingError("closed")) is None
    connection.close()
