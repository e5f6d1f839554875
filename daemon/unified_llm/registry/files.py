"""Opens model files and remembers what their headers said, by identity of the file."""

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath

from unified_llm.domain.models import FileIdentity
from unified_llm.domain.units import Bytes
from unified_llm.gguf.header import ModelHeader, read_header
from unified_llm.gguf.reader import BelongsToAModel, NotAModel
from unified_llm.registry.known_files import KnownFile


@dataclass(frozen=True, slots=True)
class InspectedFile:
    """What is known of a file. Exactly one of `header` and `defect` is there.

    identity: None if there is no regular file that can be opened. defect: a sentence without the
        path, because callers of the daemon may see it. is_companion: as in KnownFile.
    """

    identity: FileIdentity | None
    header: ModelHeader | None
    defect: str | None
    is_companion: bool = False


@dataclass(frozen=True, slots=True)
class FileNews:
    """Of one look at the disk: what files were read, and which were seen, by their keys."""

    learned: Mapping[str, KnownFile]
    seen: frozenset[str]


class ModelFiles:
    """Reads headers; a file that has not changed is not read again. One thread at a time."""

    def __init__(self) -> None:
        self._known: dict[str, KnownFile] = {}
        self._asked: set[str] = set()
        self._learned: set[str] = set()

    def recall(self, known: Mapping[str, KnownFile]) -> None:
        """Believe `known` of files with these keys."""
        self._known.update(known)

    def inspect(self, path: Path) -> InspectedFile:
        """What `path`, a symbolic link included, leads to now. Never raises for its content."""
        try:
            with open_model(path) as descriptor:
                return self._inspect_open(descriptor)
        except FileNotFoundError:
            return InspectedFile(None, None, "There is no such file.")
        except OSError as error:
            return InspectedFile(None, None, f"The file cannot be read: {error.strerror}.")

    def take_news(self) -> FileNews:
        """What was asked for, and what was read for it, since the last call of this.

        All else is forgotten.
        """
        news = FileNews(
            learned={key: self._known[key] for key in self._learned}, seen=frozenset(self._asked)
        )
        self._known = {key: self._known[key] for key in self._asked}
        self._asked, self._learned = set(), set()
        return news

    def _inspect_open(self, descriptor: int) -> InspectedFile:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return InspectedFile(None, None, "It is not a regular file.")
        identity, key = identity_of(status), file_key(status)
        if key not in self._known:
            read = _read(descriptor, identity.size_bytes)
            if file_key(os.fstat(descriptor)) != key:
                return InspectedFile(identity, None, "The file changed while it was read.")
            self._known[key] = read
            self._learned.add(key)
        self._asked.add(key)
        known = self._known[key]
        return InspectedFile(identity, known.header, known.defect, known.is_companion)


def identity_of(status: os.stat_result) -> FileIdentity:
    """The identity in the result of fstat."""
    return FileIdentity(status.st_dev, status.st_ino, Bytes(status.st_size), status.st_mtime_ns)


def file_key(status: os.stat_result) -> str:
    """Names a file with its content, in the result of fstat.

    With the time of its last change of any kind: others can set the time of modification back after
    writing to the file, and nobody can set this one.
    """
    parts = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return ":".join(f"{part:x}" for part in parts)


def identity_in(key: str) -> FileIdentity | None:
    """The identity that is part of a file's key; None if it is no such key."""
    try:
        device, inode, size, modified, _ = (int(part, 16) for part in key.split(":"))
    except ValueError:
        return None
    return FileIdentity(device, inode, Bytes(size), modified)


@contextmanager
def open_model(path: PurePath) -> Iterator[int]:
    """A descriptor of the file at `path`, for reading. Raises OSError."""
    # Without O_NONBLOCK, opening a FIFO waits for a writer, perhaps for ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _read(descriptor: int, size: Bytes) -> KnownFile:
    try:
        return KnownFile(read_header(_DescriptorSource(descriptor), size), None)
    except BelongsToAModel as error:
        return KnownFile(None, str(error), is_companion=True)
    except NotAModel as error:
        return KnownFile(None, str(error))


@dataclass(frozen=True, slots=True)
class _DescriptorSource:
    """A gguf ByteSource over an open file."""

    descriptor: int

    def read_at(self, offset: int, length: int) -> bytes:
        return os.pread(self.descriptor, length, offset)
