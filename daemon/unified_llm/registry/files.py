"""Opens model files and remembers what their headers said, by identity of the file."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from unified_llm.domain.models import FileIdentity
from unified_llm.domain.units import Bytes
from unified_llm.gguf.header import ModelHeader, read_header
from unified_llm.gguf.reader import NotAModel


@dataclass(frozen=True, slots=True)
class InspectedFile:
    """What is known of a file. Exactly one of `header` and `defect` is there.

    identity: None if there is no regular file that can be opened. defect: a sentence without the
        path, because callers of the daemon may see it.
    """

    identity: FileIdentity | None
    header: ModelHeader | None
    defect: str | None


class ModelFiles:
    """Reads headers; a file that has not changed is not read again. One thread at a time."""

    def __init__(self) -> None:
        self._known: dict[FileIdentity, InspectedFile] = {}
        self._asked: set[FileIdentity] = set()

    def inspect(self, path: Path) -> InspectedFile:
        """What `path`, a symbolic link included, leads to now. Never raises for its content."""
        try:
            with _open_model(path) as descriptor:
                return self._inspect_open(descriptor)
        except FileNotFoundError:
            return InspectedFile(None, None, "There is no such file.")
        except OSError as error:
            return InspectedFile(None, None, f"The file cannot be read: {error.strerror}.")

    def forget_others(self) -> None:
        """Forget what was not asked for since the last call of this."""
        self._known = {identity: self._known[identity] for identity in self._asked}
        self._asked = set()

    def _inspect_open(self, descriptor: int) -> InspectedFile:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return InspectedFile(None, None, "It is not a regular file.")
        identity = identity_of(status)
        if identity not in self._known:
            inspected = _inspected(descriptor, identity)
            if identity_of(os.fstat(descriptor)) != identity:
                return InspectedFile(identity, None, "The file changed while it was read.")
            self._known[identity] = inspected
        self._asked.add(identity)
        return self._known[identity]


def identity_of(status: os.stat_result) -> FileIdentity:
    """The identity in the result of fstat."""
    return FileIdentity(status.st_dev, status.st_ino, Bytes(status.st_size), status.st_mtime_ns)


@contextmanager
def _open_model(path: Path) -> Iterator[int]:
    # Without O_NONBLOCK, opening a FIFO waits for a writer, perhaps for ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _inspected(descriptor: int, identity: FileIdentity) -> InspectedFile:
    try:
        header = read_header(_DescriptorSource(descriptor), identity.size_bytes)
    except NotAModel as error:
        return InspectedFile(identity, None, str(error))
    return InspectedFile(identity, header, None)


@dataclass(frozen=True, slots=True)
class _DescriptorSource:
    """A gguf ByteSource over an open file."""

    descriptor: int

    def read_at(self, offset: int, length: int) -> bytes:
        return os.pread(self.descriptor, length, offset)
