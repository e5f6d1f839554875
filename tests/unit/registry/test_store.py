"""registry.store."""

import asyncio
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from unified_llm.domain.errors import StoreUnavailable
from unified_llm.registry.store import Store, open_store

ADD = "INSERT OR REPLACE INTO files (identity, reader, seen_at) VALUES (?, 'reader', ?)"


def unix_time() -> float:
    return 1_700_000_000.0


def adding(key: str) -> Callable[[sqlite3.Connection], int]:
    return lambda database: database.execute(ADD, (key, 1)).rowcount


def everything(database: sqlite3.Connection) -> dict[str, int]:
    return dict(database.execute("SELECT identity, seen_at FROM files"))


async def test_what_is_written_is_read_and_outlasts_the_store(tmp_path: Path) -> None:
    path = tmp_path / "registry.db"
    async with open_store(path, unix_time=unix_time) as store:
        await store.write(adding("a"))
        assert await store.read(everything) == {"a": 1}
    async with open_store(path, unix_time=unix_time) as store:
        assert await store.read(everything) == {"a": 1}
        assert store.complaints == ()
    assert [found.name for found in tmp_path.iterdir()] == ["registry.db"]


async def test_a_change_that_fails_half_way_has_not_happened(tmp_path: Path) -> None:
    def half(database: sqlite3.Connection) -> None:
        database.execute(ADD, ("a", 1))
        raise ValueError("the second half")

    async with open_store(tmp_path / "registry.db", unix_time=unix_time) as store:
        with pytest.raises(ValueError, match="second half"):
            await store.write(half)
        assert await store.read(everything) == {}
        assert store.complaints == ()


async def test_a_mistake_in_a_statement_is_raised_as_it_is() -> None:
    async with open_store(None, unix_time=unix_time) as store:
        with pytest.raises(sqlite3.OperationalError, match="no such table"):
            await store.read(lambda database: database.execute("SELECT * FROM nowhere"))


async def test_changes_of_many_callers_happen_one_after_the_other() -> None:
    def increment(database: sqlite3.Connection) -> None:
        (count,) = database.execute("SELECT coalesce(max(seen_at), 0) FROM files").fetchone()
        database.execute(ADD, ("count", count + 1))

    async with open_store(None, unix_time=unix_time) as store:
        async with asyncio.TaskGroup() as group:
            for _ in range(50):
                group.create_task(store.write(increment))
        assert await store.read(everything) == {"count": 50}


async def test_a_caller_that_is_cancelled_leaves_the_store_usable(tmp_path: Path) -> None:
    async with open_store(tmp_path / "registry.db", unix_time=unix_time) as store:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(store.write(adding("a")))
            await asyncio.sleep(0)
            task.cancel()
        assert await store.read(everything) in ({}, {"a": 1})
        await store.write(lambda database: database.execute(ADD, ("b", 2)).rowcount)
        assert (await store.read(everything))["b"] == 2


async def test_damage_met_later_is_set_aside_and_said(tmp_path: Path) -> None:
    path = tmp_path / "registry.db"
    async with open_store(path, unix_time=unix_time) as store:
        for number in range(40):
            await store.write(adding(str(number)))
        await store.write(adding("x" * 20_000))
    content = bytearray(path.read_bytes())
    async with open_store(path, unix_time=unix_time) as store:
        # Or it would answer from memory.
        await store.read(lambda database: database.execute("PRAGMA shrink_memory").fetchall())
        path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
        with pytest.raises(StoreUnavailable, match="set aside"):
            await store.read(everything)
        assert "set aside as registry.db.damaged-" in store.complaints[0]
        await store.write(adding("new"))
        assert await store.read(everything) == {"new": 1}
        assert len(store.complaints) == 1


class StoreMachine(RuleBasedStateMachine):
    """Random operations, failures and restarts included, against a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.model: dict[str, int] = {}
        self.folder = tempfile.TemporaryDirectory()
        self.start()

    def start(self) -> None:
        self.opened = open_store(Path(self.folder.name, "registry.db"), unix_time=unix_time)
        self.store: Store = self.runner.run(self.opened.__aenter__())

    def stop(self) -> None:
        self.runner.run(self.opened.__aexit__(None, None, None))

    @rule(key=st.sampled_from("abc"), value=st.integers(0, 2**62))
    def put(self, key: str, value: int) -> None:
        self.runner.run(
            self.store.write(lambda database: database.execute(ADD, (key, value)).rowcount)
        )
        self.model[key] = value

    @rule(key=st.sampled_from("abc"))
    def remove(self, key: str) -> None:
        self.runner.run(
            self.store.write(
                lambda database: (
                    database.execute("DELETE FROM files WHERE identity = ?", (key,)).rowcount
                )
            )
        )
        self.model.pop(key, None)

    @rule(key=st.sampled_from("abc"))
    def fail(self, key: str) -> None:
        def change(database: sqlite3.Connection) -> None:
            database.execute(ADD, (key, 1))
            database.execute("DELETE FROM files")
            raise LookupError

        with pytest.raises(LookupError):
            self.runner.run(self.store.write(change))

    @rule()
    def restart(self) -> None:
        self.stop()
        self.start()

    @invariant()
    def agrees(self) -> None:
        assert self.runner.run(self.store.read(everything)) == self.model
        assert self.store.complaints == ()

    def teardown(self) -> None:
        self.stop()
        self.runner.close()
        self.folder.cleanup()


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = settings(max_examples=30, stateful_step_count=20, deadline=None)
