"""The database of a daemon that is killed, or whose disk is full, at any moment."""

import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from unified_llm.domain.units import Seconds
from unified_llm.registry.database import open_or_rebuild

_WRITER = """
import asyncio, sys
from pathlib import Path
from unified_llm.registry.store import open_store

ADD = "INSERT INTO files (identity, reader, header, seen_at) VALUES (?, ?, ?, ?)"

def add(number):
    def change(database):
        row = (f"{number}", "reader", bytes(3000), number)
        database.execute(ADD, row)
        database.execute("UPDATE files SET seen_at = ? WHERE identity = 'last'", (number,))
    return change

async def main():
    async with open_store(Path(sys.argv[1]), unix_time=lambda: 0.0) as store:
        def last(database):
            first = "(identity, reader, seen_at) VALUES ('last', '', 0)"
            database.execute(f"INSERT OR IGNORE INTO files {first}")
            row = database.execute("SELECT seen_at FROM files WHERE identity = 'last'")
            return row.fetchone()[0]
        number = await store.write(last)
        assert not store.complaints, store.complaints
        while True:
            number += 1
            await store.write(add(number))
            print(number, flush=True)

asyncio.run(main())
"""


@pytest.mark.slow
def test_whatever_was_acknowledged_is_there_after_a_kill(tmp_path: Path) -> None:
    path, draw, acknowledged = tmp_path / "registry.db", random.Random(9), 0
    for _ in range(12):
        with subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(path)], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            for _ in range(draw.randrange(1, 120)):
                acknowledged = int(writer.stdout.readline())
            writer.kill()
            # What it said between our last look and its end.
            for line in writer.stdout:
                acknowledged = int(line)
        opened = open_or_rebuild(path, Seconds(0))
        rows = opened.connection.execute("SELECT identity, seen_at FROM files").fetchall()
        opened.connection.close()
        assert opened.complaint is None
        last = dict(rows)["last"]
        assert last in (acknowledged, acknowledged + 1)
        assert {identity for identity, _ in rows} == {"last", *map(str, range(1, last + 1))}
        acknowledged = last


_FILLER = """
import asyncio, os, sys
from pathlib import Path
from unified_llm.domain.errors import DiskFull
from unified_llm.registry.store import open_store

folder = Path(sys.argv[1])

ADD = "INSERT INTO files (identity, reader, header, seen_at) VALUES (?, ?, ?, ?)"

def add(number):
    def change(database):
        row = (f"{number}", "reader", os.urandom(20_000), number)
        database.execute(ADD, row)
    return change

def count(database):
    return database.execute("SELECT count(*) FROM files").fetchone()[0]

async def main():
    async with open_store(folder / "registry.db", unix_time=lambda: 0.0) as store:
        (folder / "ballast").write_bytes(bytes(700_000))
        written = 0
        try:
            while True:
                await store.write(add(written))
                written += 1
        except DiskFull as error:
            print("full:", error)
        assert written, "the ballast takes too much"
        assert await store.read(count) == written
        assert len(store.complaints) == 1, store.complaints
        (folder / "ballast").unlink()
        for _ in range(5):
            await store.write(add(written))
            written += 1
        assert not store.complaints
        assert await store.read(count) == written
    print("recovered")

asyncio.run(main())
"""


@pytest.mark.system
@pytest.mark.slow
def test_a_full_disk_is_said_and_got_over(tmp_path: Path) -> None:
    """The file system of 1 MiB is mounted in a mount namespace of the child's own."""
    mount = f'mount -t tmpfs -o size=1m none {tmp_path} && exec {sys.executable} -c "$0" {tmp_path}'
    unshare = shutil.which("unshare")
    assert unshare is not None, "util-linux is needed"
    found = subprocess.run(
        [unshare, "--mount", "sh", "-c", mount, _FILLER, str(tmp_path), sys.executable],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.startswith("full: The registry takes no writes")
    assert found.stdout.endswith("recovered\n")
    assert "Traceback" not in found.stderr
