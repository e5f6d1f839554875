"""What the headers of files said, kept across restarts.

Reading a vocabulary of 262,144 tokens takes seconds; a file that has not changed is not read again,
unless by another reader than the one that read it.
"""

import hashlib
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final

import msgspec

from unified_llm.domain.units import Seconds
from unified_llm.gguf.header import ModelHeader

# As many files as a scan takes.
MAX_KNOWN: Final = 10_000
KEPT_UNSEEN: Final = Seconds(90 * 86_400)


@dataclass(frozen=True, slots=True)
class KnownFile:
    """What is known of the content of a file. Exactly one of `header` and `defect` is there.

    is_companion: whether it is right, and serves only together with a model, as `defect` says.
    """

    header: ModelHeader | None
    defect: str | None
    is_companion: bool = False


@cache
def this_reader() -> str:
    """Names the code that reads headers: what an older one let pass is not believed."""
    digest = hashlib.sha256()
    for room, pattern in (("gguf", ".py"), ("domain", "profile.py")):
        for source in sorted(files(f"unified_llm.{room}").iterdir(), key=lambda found: found.name):
            if source.name.endswith(pattern):
                digest.update(source.read_bytes())
    return digest.hexdigest()


def recall_files(database: sqlite3.Connection) -> dict[str, KnownFile]:
    """All files that this reader has read, by their key. What can not be understood is left out."""
    rows = database.execute(
        "SELECT identity, header, defect, is_companion FROM files WHERE reader = ? "
        "ORDER BY seen_at DESC LIMIT ?",
        (this_reader(), MAX_KNOWN),
    )
    known = {}
    for identity, header, defect, is_companion in rows:
        try:
            known[identity] = _parse(header, defect, bool(is_companion))
        except msgspec.MsgspecError:
            continue
    return known


def _parse(header: bytes | None, defect: str | None, is_companion: bool) -> KnownFile:
    if header is None:
        return KnownFile(None, defect, is_companion)
    return KnownFile(msgspec.json.decode(header, type=ModelHeader), None)


def remember_files(
    database: sqlite3.Connection,
    learned: Mapping[str, KnownFile],
    seen: Iterable[str],
    now: Seconds,
) -> None:
    """Add what was learned, and note which files were seen; those long unseen are forgotten.

    now: seconds since the epoch.
    """
    database.executemany(
        "INSERT INTO files (identity, reader, header, defect, is_companion, seen_at) "
        "VALUES (?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (identity) DO UPDATE SET reader = excluded.reader, "
        "header = excluded.header, defect = excluded.defect, "
        "is_companion = excluded.is_companion",
        (
            (
                identity,
                this_reader(),
                None if file.header is None else msgspec.json.encode(file.header),
                file.defect,
                file.is_companion,
                int(now),
            )
            for identity, file in learned.items()
        ),
    )
    database.executemany(
        "UPDATE files SET seen_at = ? WHERE identity = ?", ((int(now), key) for key in seen)
    )
    database.execute("DELETE FROM files WHERE seen_at < ?", (int(now - KEPT_UNSEEN),))
