"""Opens model files and remembers what their headers said, by identity of the file."""

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath

from unified_llm.domain.models import FileIdentity, ModelPart
from unified_llm.domain.units import Bytes
from unified_llm.gguf.header import ModelHeader, read_header
from unified_llm.gguf.reader import BelongsToAModel, NotAModel
from unified_llm.gguf.splits import PartName, parse_part_name
from unified_llm.registry.known_files import KnownFile


@dataclass(frozen=True, slots=True)
class InspectedFile:
    """What is known of a file. Exactly one of `header` and `defect` is there.

    identity: None if there is no regular file that can be opened; that of all parts together if it
        is the first of several. defect: a sentence without the path, because callers of the daemon
        may see it. is_companion: as in KnownFile. parts: as in ModelSpec.
    """

    identity: FileIdentity | None
    header: ModelHeader | None
    defect: str | None
    is_companion: bool = False
    parts: tuple[ModelPart, ...] = ()


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
        part = parse_part_name(path.name)
        try:
            if part is not None and part.place.number:
                return _inspect_later_part(path, part)
            with ExitStack() as stack:
                files = [(each, stack.enter_context(open_model(each))) for each in files_of(path)]
                return self._inspect_open(files)
        except FileNotFoundError as error:
            if part is not None and (name := Path(error.filename).name) != path.name:
                return InspectedFile(None, None, f"A part of it, {name!r}, is missing.")
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

    def _inspect_open(self, files: list[tuple[Path, int]]) -> InspectedFile:
        """files: the open ones of a model, in their order."""
        descriptors = [descriptor for _, descriptor in files]
        statuses = [os.fstat(each) for each in descriptors]
        if not all(stat.S_ISREG(status.st_mode) for status in statuses):
            return InspectedFile(None, None, "It is not a regular file.")
        identity, key = _identity_of_all(statuses), _key_of_all(statuses)
        if key not in self._known:
            read = _read(descriptors, statuses)
            if _key_of_all([os.fstat(each) for each in descriptors]) != key:
                return InspectedFile(identity, None, "The file changed while it was read.")
            self._known[key] = read
            self._learned.add(key)
        self._asked.add(key)
        known = self._known[key]
        parts = [
            ModelPart(path, identity_of(status))
            for (path, _), status in zip(files, statuses, strict=True)
        ]
        return InspectedFile(
            identity,
            known.header,
            known.defect,
            known.is_companion,
            tuple(parts) if len(parts) > 1 else (),
        )


def files_of(path: Path) -> tuple[Path, ...]:
    """All files of the model at `path`, which is the first of them; they lie beside each other."""
    part = parse_part_name(path.name)
    return (path,) if part is None else tuple(path.with_name(name) for name in part.siblings())


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


def _inspect_later_part(path: Path, part: PartName) -> InspectedFile:
    """One that the first part is inspected with, unless that is not there."""
    with open_model(path) as descriptor:
        identity = identity_of(os.fstat(descriptor))
    first, place = part.siblings()[0], part.place
    if not path.with_name(first).exists():
        return InspectedFile(identity, None, f"The first part of it, {first!r}, is missing.")
    defect = f"It is part {place.number + 1} of {place.count} of {first}."
    return InspectedFile(identity, None, defect, is_companion=True)


def _identity_of_all(statuses: list[os.stat_result]) -> FileIdentity:
    """That of the file, or one that changes with each of several."""
    each = [identity_of(status) for status in statuses]
    return FileIdentity(
        each[0].device,
        sum(one.inode for one in each),
        Bytes(sum(one.size_bytes for one in each)),
        sum(one.modified_ns for one in each),
    )


def _key_of_all(statuses: list[os.stat_result]) -> str:
    return "+".join(map(file_key, statuses))


def _read(descriptors: list[int], statuses: list[os.stat_result]) -> KnownFile:
    sources = [
        (DescriptorSource(descriptor), status.st_size)
        for descriptor, status in zip(descriptors, statuses, strict=True)
    ]
    try:
        return KnownFile(read_header(*sources[0], *sources[1:]), None)
    except BelongsToAModel as error:
        return KnownFile(None, str(error), is_companion=True)
    except NotAModel as error:
        return KnownFile(None, str(error))


@dataclass(frozen=True, slots=True)
class DescriptorSource:
    """A gguf ByteSource over an open file."""

    descriptor: int

    def read_at(self, offset: int, length: int) -> bytes:
        return os.pread(self.descriptor, length, offset)
