"""registry.digests."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from unified_llm.domain.models import FileIdentity
from unified_llm.domain.units import Bytes, Seconds
from unified_llm.registry import digests as module
from unified_llm.registry.digests import Digests, remember_digest
from unified_llm.registry.files import ModelFiles, file_key, identity_of
from unified_llm.registry.known_files import remember_files
from unified_llm.registry.store import Store, open_store

CONTENT = b"no model, but a file " * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()
AT_ONCE = Bytes(2**60)


def ignore(done: Bytes, total: Bytes) -> None:
    pass


@asynccontextmanager
async def store_that_has_seen(path: Path) -> AsyncIterator[Store]:
    async with open_store(None, unix_time=lambda: 0.0) as store:
        files = ModelFiles()
        files.inspect(path)
        news = files.take_news()
        await store.write(lambda base: remember_files(base, news.learned, news.seen, Seconds(0)))
        yield store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "a.gguf"
    file.write_bytes(CONTENT)
    return file


def identity(path: Path) -> FileIdentity:
    return identity_of(path.stat())


async def test_a_digest_is_computed_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHUNK", 1000)
    async with store_that_has_seen(path) as store:
        assert (
            await Digests(store, bytes_per_second=AT_ONCE).digest_of(path, identity(path)) == DIGEST
        )

        def refuse(*_: object) -> bytes:
            raise AssertionError("the file is read again")

        monkeypatch.setattr(os, "pread", refuse)
        assert await Digests(store).digest_of(path, identity(path)) == DIGEST


async def test_another_file_in_its_place_has_no_digest(path: Path) -> None:
    before = identity(path)
    async with store_that_has_seen(path) as store:
        path.write_bytes(CONTENT + b"more")
        assert await Digests(store, bytes_per_second=AT_ONCE).digest_of(path, before) is None
        with pytest.raises(FileNotFoundError):
            await Digests(store).digest_of(path.with_name("b"), before)


async def test_a_file_written_to_meanwhile_has_no_digest(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pread = os.pread

    def disturbed(descriptor: int, length: int, offset: int) -> bytes:
        with path.open("ab") as file:
            file.write(b"!" if offset == 0 else b"")
        return pread(descriptor, length, offset)

    monkeypatch.setattr(os, "pread", disturbed)
    async with store_that_has_seen(path) as store:
        digests = Digests(store, bytes_per_second=AT_ONCE)
        assert await digests.digest_of(path, identity(path)) is None


async def test_reading_is_paced_and_ends_when_nobody_waits(path: Path) -> None:
    async with store_that_has_seen(path) as store:
        digests = Digests(store, bytes_per_second=Bytes(1))
        # The first pause would be of hours.
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await digests.digest_of(path, identity(path))


async def test_a_check_reads_anew_and_what_was_remembered_stays(path: Path) -> None:
    async with store_that_has_seen(path) as store:
        digests = Digests(store, bytes_per_second=AT_ONCE)
        assert await digests.check(path, identity(path), ignore) == (DIGEST, None)
        assert await digests.check(path, identity(path), ignore) == (DIGEST, DIGEST)
        await store.write(
            lambda base: remember_digest(base, file_key(path.stat()), "what it was once")
        )
        for _ in range(2):
            assert await digests.check(path, identity(path), ignore) == (DIGEST, "what it was once")


async def test_a_check_counts_the_bytes_it_reads(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CHUNK", 9000)
    counted: list[tuple[int, int]] = []
    async with store_that_has_seen(path) as store:
        digests = Digests(store, bytes_per_second=AT_ONCE)
        await digests.check(path, identity(path), lambda done, total: counted.append((done, total)))
    size = len(CONTENT)
    assert counted == [(0, size), (9000, size), (18000, size), (size, size)]


async def test_another_file_in_its_place_is_not_checked(path: Path) -> None:
    async with store_that_has_seen(path) as store:
        before = identity(path)
        path.write_bytes(b"another")
        assert await Digests(store, bytes_per_second=AT_ONCE).check(path, before, ignore) is None
