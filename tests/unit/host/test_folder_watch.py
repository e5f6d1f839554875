"""host.folder_watch."""

import asyncio
import os
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unified_llm.host.folder_watch import FolderWatch, parse_events


def is_model(name: str, is_folder: bool) -> bool:
    return is_folder or name.endswith(".gguf")


class Noticed:
    """Counts the changes that a watch tells of."""

    def __init__(self) -> None:
        self.count = 0
        self.event = asyncio.Event()

    def __call__(self) -> None:
        self.count += 1
        self.event.set()

    async def after(self, change: Callable[[], object]) -> bool:
        """Whether `change` is told of before a later, certain change is."""
        self.event.clear()
        before = self.count
        change()
        # inotify keeps the order, so one turn of the loop after the write has read all of it.
        for _ in range(3):
            await asyncio.sleep(0)
        return self.count > before


@asynccontextmanager
async def watching(*folders: Path) -> AsyncIterator[tuple[FolderWatch, Noticed]]:
    noticed = Noticed()
    with FolderWatch(noticed) as watch:
        watch.follow(dict.fromkeys(folders, is_model))
        yield watch, noticed


async def test_what_happens_to_models_is_told(tmp_path: Path) -> None:
    file, other = tmp_path / "a.gguf", tmp_path / "b.gguf"
    async with watching(tmp_path) as (_, noticed):
        assert await noticed.after(lambda: file.write_bytes(b"content"))
        assert await noticed.after(lambda: file.rename(other))
        assert await noticed.after(lambda: other.chmod(0o600))
        assert await noticed.after(lambda: file.symlink_to(other))
        assert await noticed.after(other.unlink)
        assert await noticed.after((tmp_path / "sub").mkdir)


async def test_a_file_that_is_being_written_is_told_of_when_it_is_closed(tmp_path: Path) -> None:
    async with watching(tmp_path) as (_, noticed):
        with (tmp_path / "a.gguf").open("wb", buffering=0) as file:
            assert not await noticed.after(lambda: file.write(b"half"))
            assert not await noticed.after(lambda: file.write(b"more"))
            assert await noticed.after(file.close)


async def test_other_files_are_not_told_of(tmp_path: Path) -> None:
    async with watching(tmp_path) as (_, noticed):
        assert not await noticed.after(lambda: (tmp_path / "notes.txt").write_text("x"))
        assert not await noticed.after(lambda: (tmp_path / "notes.txt").read_text())


async def test_a_folder_that_goes_and_comes_again_is_followed_again(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    async with watching(folder, tmp_path / "nowhere") as (watch, noticed):
        assert await noticed.after(folder.rmdir)
        folder.mkdir()
        watch.follow({folder: is_model})
        assert await noticed.after(lambda: (folder / "a.gguf").write_bytes(b""))
        watch.follow({})
        assert not await noticed.after(lambda: (folder / "b.gguf").write_bytes(b""))


async def test_without_inotify_nothing_is_told_and_nothing_breaks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noticed = Noticed()
    watch = FolderWatch(noticed)
    monkeypatch.setattr(watch, "_libc", _NoInotify())
    with watch:
        watch.follow({tmp_path: is_model})
        assert not await noticed.after(lambda: (tmp_path / "a.gguf").write_bytes(b""))


class _NoInotify:
    def inotify_init1(self, flags: int) -> int:
        return -1


@given(
    st.lists(
        st.tuples(
            st.integers(1, 2**31 - 1),
            st.integers(0, 2**32 - 1),
            st.binary(max_size=40).map(lambda name: name.replace(b"\0", b"")),
        )
    )
)
def test_events_are_read_as_the_kernel_writes_them(events: list[tuple[int, int, bytes]]) -> None:
    content = b"".join(
        struct.pack("iIII", watch, mask, 0, len(name) + (-len(name) % 16))
        + name
        + bytes(-len(name) % 16)
        for watch, mask, name in events
    )
    assert list(parse_events(content)) == [
        (watch, mask, os.fsdecode(name)) for watch, mask, name in events
    ]
