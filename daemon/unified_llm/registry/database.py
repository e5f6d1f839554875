"""One SQLite file: opened, checked, brought to the present tables, or set aside and begun anew.

Everything here blocks; `registry.store` calls it from its one thread.
"""

import logging
import os
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from unified_llm.domain.errors import DiskFull, StoreUnavailable, UnifiedLlmError
from unified_llm.domain.units import Seconds
from unified_llm.registry.schema import APPLICATION_ID, MIGRATIONS

_log = logging.getLogger(__name__)

# More would fill a small disk if it is the disk that does the damage.
MAX_SET_ASIDE: Final = 5

_BUSY_MILLISECONDS: Final = 2000
_MOST_WAL_BYTES: Final = 8 * 1024 * 1024
_DAMAGE: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_BUSY: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_FULL: Final = frozenset({sqlite3.SQLITE_FULL})
_OUT_OF_REACH: Final = frozenset(
    {
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_NOMEM,
    }
)


class Damaged(Exception):
    """The file can not be used as our database. The message says why, as half a sentence."""


@dataclass(frozen=True, slots=True)
class OpenedDatabase:
    """A connection in use. complaint: a sentence if it is not the one that was asked for."""

    connection: sqlite3.Connection
    complaint: str | None


def open_or_rebuild(path: Path | None, now: Seconds) -> OpenedDatabase:
    """The database at `path`; one in memory for None, or if there can be none at `path`.

    A file that is damaged, not ours or of a later version is set aside, never deleted.
    now: seconds since the epoch, for its new name.
    """
    if path is None:
        return OpenedDatabase(_open_ready(None), None)
    try:
        return OpenedDatabase(_open_ready(path), None)
    except Damaged as error:
        reason = str(error)
    except (OSError, sqlite3.Error) as error:
        return _in_memory(path, error)
    try:
        aside = set_aside(path, now)
        _log.error("the registry %s %s and has been set aside as %s", path, reason, aside.name)
        return OpenedDatabase(_open_ready(path), render_loss(reason, aside))
    except (Damaged, OSError, sqlite3.Error) as error:
        return _in_memory(path, error)


def render_loss(reason: str, aside: Path) -> str:
    """What the owner should know when a database was set aside."""
    return (
        f"The registry {reason} and has been set aside as {aside.name}. "
        "What the daemon had learned begins anew; models are not affected."
    )


def set_aside(path: Path, now: Seconds) -> Path:
    """Rename the file at `path`, with what belongs to it, to a dated name. Raises OSError.

    The write-ahead log goes along, because it may hold the last transactions.
    """
    stamp = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
    target = path.with_name(f"{path.name}.damaged-{stamp}")
    number = 1
    while target.exists():
        number += 1
        target = path.with_name(f"{path.name}.damaged-{stamp}-{number}")
    with suppress(FileNotFoundError):
        os.rename(_beside(path, "-wal"), _beside(target, "-wal"))
    _beside(path, "-shm").unlink(missing_ok=True)
    os.rename(path, target)
    _forget_oldest(path)
    return target


def refuse(error: sqlite3.Error) -> UnifiedLlmError | Damaged | None:
    """What `error` of SQLite's means in our words; None for a bug of ours."""
    code = getattr(error, "sqlite_errorcode", None)
    primary = None if code is None else code & 0xFF
    if primary in _DAMAGE:
        return Damaged(f"is damaged ({error})")
    if primary in _FULL:
        return DiskFull(
            f"The registry takes no writes: {error}.", hint="Make room on its file system."
        )
    if primary in _BUSY:
        return StoreUnavailable(
            f"The registry was busy for {_BUSY_MILLISECONDS / 1000:g} s: another process has it "
            "open.",
            retry_after=Seconds(1),
        )
    if primary in _OUT_OF_REACH:
        return StoreUnavailable(
            f"The registry can not be used: {error}.",
            hint="See the log, and whether its file system is mounted for writing.",
        )
    return None


def _in_memory(path: Path, error: Exception) -> OpenedDatabase:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    _log.error("the registry %s can not be used: %s", path, reason)
    complaint = (
        f"The registry {path.name} can not be used ({reason}), so what the daemon learns is "
        "forgotten when it stops. Mend that, then restart it."
    )
    return OpenedDatabase(_open_ready(None), complaint)


def _open_ready(path: Path | None) -> sqlite3.Connection:
    """Raises Damaged, OSError, sqlite3.Error."""
    if path is not None:
        # SQLite would make it readable for everybody.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o600))
    connection = sqlite3.connect(path or ":memory:", isolation_level=None)
    try:
        _prepare(connection)
    except sqlite3.DatabaseError as error:
        connection.close()
        meaning = refuse(error)
        raise (meaning if isinstance(meaning, Damaged) else error) from error
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection) -> None:
    connection.execute(f"PRAGMA busy_timeout = {_BUSY_MILLISECONDS}")
    (is_empty,) = _row(connection, "SELECT count(*) = 0 FROM sqlite_schema")
    if not is_empty:
        _require_sound(connection)
    connection.execute("PRAGMA journal_mode = WAL")
    # What was acknowledged must outlast a power cut; writes are few.
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA journal_size_limit = {_MOST_WAL_BYTES}")
    connection.execute("PRAGMA foreign_keys = ON")
    # Views and triggers in a file that was tampered with may call no function.
    connection.execute("PRAGMA trusted_schema = OFF")
    migrate(connection, MIGRATIONS)


def _require_sound(connection: sqlite3.Connection) -> None:
    (owner,) = _row(connection, "PRAGMA application_id")
    if owner != APPLICATION_ID:
        raise Damaged("belongs to another program")
    (finding,) = _row(connection, "PRAGMA quick_check(1)")
    if finding != "ok":
        raise Damaged(f"is damaged ({finding})")


def migrate(connection: sqlite3.Connection, steps: Sequence[str]) -> None:
    """Bring the tables to version `len(steps)`; each step happens whole or not at all.

    Raises Damaged for a database of a later version, and sqlite3.Error.
    """
    (version,) = _row(connection, "PRAGMA user_version")
    if version > len(steps):
        raise Damaged(f"is of version {version}, made by a later daemon than this one")
    for number, step in enumerate(steps[version:], version + 1):
        try:
            connection.executescript(
                f"BEGIN IMMEDIATE;{step};"
                f"PRAGMA application_id = {APPLICATION_ID};"
                f"PRAGMA user_version = {number};COMMIT;"
            )
        except sqlite3.Error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def _row(connection: sqlite3.Connection, statement: str) -> tuple[Any, ...]:
    row: tuple[Any, ...] = connection.execute(statement).fetchone()
    return row


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _forget_oldest(path: Path) -> None:
    kept = sorted(
        found
        for found in path.parent.glob(f"{path.name}.damaged-*")
        if not found.name.endswith("-wal")
    )
    for found in kept[:-MAX_SET_ASIDE]:
        found.unlink(missing_ok=True)
        _beside(found, "-wal").unlink(missing_ok=True)
