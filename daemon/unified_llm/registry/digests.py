"""Digests of model files: computed when they are first needed, once for each content.

A digest is no check of a download, which is made while the file arrives; it says later whether two
files, or one file before and after a move, are the same model.
"""

import asyncio
import hashlib
import os
import sqlite3
import threading
from pathlib import PurePath
from typing import Final

from unified_llm.domain.models import FileIdentity
from unified_llm.domain.ports import ByteCount
from unified_llm.domain.units import Bytes
from unified_llm.registry.files import file_key, identity_in, identity_of, open_model
from unified_llm.registry.store import Store

# So that neither a disk nor a core is ever busy with it alone: a large model takes minutes, which
# nobody waits for.
BYTES_PER_SECOND: Final = Bytes(256 * 1024 * 1024)

_CHUNK: Final = 8 * 1024 * 1024


def _unseen(done: Bytes, total: Bytes) -> None:
    pass


class Digests:
    """SHA-256 of files, remembered by the store; one file is read at a time.

    bytes_per_second: the most that is read.
    """

    def __init__(self, store: Store, *, bytes_per_second: Bytes = BYTES_PER_SECOND) -> None:
        self._store = store
        self._bytes_per_second = bytes_per_second
        self._one_at_a_time = asyncio.Lock()

    async def digest_of(self, path: PurePath, identity: FileIdentity) -> str | None:
        """The digest of the file at `path`; None if it is not, or does not stay, this one.

        Raises OSError, DiskFull, StoreUnavailable.
        """
        async with self._one_at_a_time:
            key = await asyncio.to_thread(_key_at, path, identity)
            if key is None:
                return None
            known = await self._store.read(lambda database: recall_digest(database, key))
            if known is not None:
                return known
            digest = await self._read(path, key, _unseen)
            if digest is not None:
                await self._store.write(lambda database: remember_digest(database, key, digest))
            return digest

    async def check(
        self, path: PurePath, identity: FileIdentity, on_bytes: ByteCount
    ) -> tuple[str, str | None] | None:
        """The digest of the file read anew, and the one that was remembered of it until now.

        on_bytes: told in the thread that reads. As `digest_of` otherwise. One that was remembered
        stays: it is what the file was.
        """
        async with self._one_at_a_time:
            key = await asyncio.to_thread(_key_at, path, identity)
            if key is None:
                return None
            known = await self._store.read(lambda database: recall_digest(database, key))
            digest = await self._read(path, key, on_bytes)
            if digest is None:
                return None
            if known is None:
                await self._store.write(lambda database: remember_digest(database, key, digest))
            return digest, known

    async def _read(self, path: PurePath, key: str, on_bytes: ByteCount) -> str | None:
        """In a thread, which keeps the descriptor to itself: it outlives a cancelled caller."""
        stop = threading.Event()
        try:
            return await asyncio.to_thread(self._read_through, path, key, on_bytes, stop)
        finally:
            stop.set()

    def _read_through(
        self, path: PurePath, key: str, on_bytes: ByteCount, stop: threading.Event
    ) -> str | None:
        digest, position = hashlib.sha256(), 0
        with open_model(path) as descriptor:
            status = os.fstat(descriptor)
            if file_key(status) != key:
                return None
            size = Bytes(status.st_size)
            on_bytes(Bytes(0), size)
            while chunk := os.pread(descriptor, _CHUNK, position):
                digest.update(chunk)
                position += len(chunk)
                on_bytes(Bytes(position), size)
                if stop.wait(len(chunk) / self._bytes_per_second):
                    return None
            is_unchanged = file_key(os.fstat(descriptor)) == key
        return digest.hexdigest() if is_unchanged else None


def recall_digest(database: sqlite3.Connection, key: str) -> str | None:
    """The digest of the file with this key, if it was ever computed."""
    row = database.execute("SELECT sha256 FROM files WHERE identity = ?", (key,)).fetchone()
    return None if row is None else row[0]


def remember_digest(database: sqlite3.Connection, key: str, digest: str) -> None:
    """Keep the digest of a file that the last scan has seen."""
    database.execute("UPDATE files SET sha256 = ? WHERE identity = ?", (digest, key))


def digests_by_file(database: sqlite3.Connection) -> dict[FileIdentity, str]:
    """All that are known; of files with the same identity, that of the one seen last."""
    rows = database.execute(
        "SELECT identity, sha256 FROM files WHERE sha256 IS NOT NULL ORDER BY seen_at, identity"
    )
    return {identity: digest for key, digest in rows if (identity := identity_in(key))}


def _key_at(path: PurePath, identity: FileIdentity) -> str | None:
    with open_model(path) as descriptor:
        status = os.fstat(descriptor)
    return file_key(status) if identity_of(status) == identity else None
