"""What the daemon remembers, behind one thread of its own.

    async with open_store(path, unix_time=time.time) as store:
        await store.write(lambda database: database.execute("INSERT …"))
        rows = await store.read(lambda database: database.execute("SELECT …").fetchall())

Rule 1: only the thread touches the connection. What it is given runs there, inside a transaction,
and returns plain values, never a cursor.
Rule 2: a change is on disk when `write` returns, and not there at all when it raises. A caller that
is cancelled meanwhile learns neither, but never leaves half a change.
Rule 3: a file found damaged is set aside and begun anew, at the start or later; health says so.
"""

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final, TypeVar

from unified_llm.domain.errors import StoreUnavailable, UnifiedLlmError
from unified_llm.domain.units import Seconds
from unified_llm.registry.database import (
    Damaged,
    OpenedDatabase,
    open_or_rebuild,
    refuse,
    render_loss,
    set_aside,
)

_log = logging.getLogger(__name__)

_T = TypeVar("_T")
Task = Callable[[sqlite3.Connection], _T]

_READ: Final = "BEGIN"
_WRITE: Final = "BEGIN IMMEDIATE"


class Store:
    """The database; made by `open_store`."""

    def __init__(self, path: Path | None, unix_time: Callable[[], float]) -> None:
        self._path = path
        self._unix_time = unix_time
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._database: OpenedDatabase | None = None
        self._loss: str | None = None
        self._refusal: str | None = None

    @property
    def complaints(self) -> tuple[str, ...]:
        """A sentence for each thing about it that its owner should know now."""
        return tuple(found for found in (self._loss, self._refusal) if found is not None)

    async def read(self, question: Task[_T]) -> _T:
        """What `question` finds, all of it at one moment. Raises StoreUnavailable."""
        return await self._call(lambda: self._transact(_READ, question))

    async def write(self, change: Task[_T]) -> _T:
        """Make `change`, whole or not at all. Raises DiskFull, StoreUnavailable."""
        return await self._call(lambda: self._transact(_WRITE, change))

    async def begin(self) -> None:
        """Open the file; for `open_store`."""
        await self._call(self._open)

    async def end(self) -> None:
        """Write what is waiting and close; for `open_store`."""
        await self._call(self._close)
        self._thread.shutdown()

    async def _call(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _open(self) -> None:
        self._database = open_or_rebuild(self._path, Seconds(self._unix_time()))
        self._loss = self._database.complaint

    def _close(self) -> None:
        if self._database is not None:
            self._database.connection.close()

    def _transact(self, begin: str, task: Task[_T]) -> _T:
        if self._database is None:
            raise RuntimeError("the store has not been opened")
        connection = self._database.connection
        try:
            connection.execute(begin)
            found = task(connection)
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            _roll_back(connection)
            meaning = refuse(error)
            if meaning is None:
                raise
            raise self._refused(meaning, connection) from error
        except BaseException:
            _roll_back(connection)
            raise
        if begin is _WRITE:
            self._refusal = None
        return found

    def _refused(
        self, meaning: UnifiedLlmError | Damaged, connection: sqlite3.Connection
    ) -> UnifiedLlmError:
        if isinstance(meaning, UnifiedLlmError):
            if self._refusal is None:
                _log.error("%s", meaning)
            self._refusal = str(meaning)
            return meaning
        connection.close()
        return self._begin_anew(str(meaning))

    def _begin_anew(self, reason: str) -> UnifiedLlmError:
        now = Seconds(self._unix_time())
        loss = f"The registry {reason}, and could not be set aside."
        if self._path is not None:
            with suppress(OSError):
                loss = render_loss(reason, set_aside(self._path, now))
        _log.error("%s", loss)
        self._database = open_or_rebuild(self._path, now)
        self._loss = self._database.complaint or loss
        return StoreUnavailable(loss, retry_after=Seconds(1))


def _roll_back(connection: sqlite3.Connection) -> None:
    # A full disk or damage has ended the transaction already.
    if connection.in_transaction:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")


@asynccontextmanager
async def open_store(path: Path | None, *, unix_time: Callable[[], float]) -> AsyncIterator[Store]:
    """The database at `path`, or one in memory for None. Never fails: see `Store.complaints`.

    unix_time: seconds since the epoch.
    """
    store = Store(path, unix_time)
    try:
        await store.begin()
        yield store
    finally:
        await store.end()
