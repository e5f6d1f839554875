"""Copies a model file that a caller has opened into the model directory.

Rule 1: what arrives has been checked twice: before it is copied, so that nobody waits for a wrong
file, and as it lies on our disk, because its owner may write to it meanwhile.
Rule 2: a model appears under its name whole and on disk, or nothing of it stays. What a power cut
leaves has a hidden name, and `sweep_partials` removes it.

Everything here blocks; callers use a thread.
"""

import errno
import hashlib
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from unified_llm.domain.errors import (
    Cancelled,
    DiskFull,
    InvalidRequest,
    StoreUnavailable,
    UnifiedLlmError,
)
from unified_llm.domain.ports import ByteCount
from unified_llm.domain.units import Bytes, render_bytes
from unified_llm.gguf.header import ModelHeader, read_header
from unified_llm.gguf.reader import NotAModel

PARTIAL_SUFFIX: Final = ".partial"
# Other programs share the disk, and file systems slow down when they are full.
RESERVE_SHARE: Final = 0.05

_CHUNK: Final = 4 * 1024 * 1024
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class SourceFile:
    """A descriptor that a caller has handed over; it is closed when the context is left."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the descriptor back; once."""
        os.close(self.descriptor)

    def duplicate(self) -> "SourceFile":
        """Another one of the same file, with a lifetime of its own."""
        return SourceFile(os.dup(self.descriptor))

    def read_at(self, offset: int, length: int) -> bytes:
        """As gguf's ByteSource."""
        return os.pread(self.descriptor, length, offset)


@dataclass(frozen=True, slots=True)
class Imported:
    """A model file in its place. digest: its SHA-256, in hexadecimal."""

    path: Path
    size_bytes: Bytes
    digest: str


def check_source(source: SourceFile) -> ModelHeader:
    """The header of the file behind `source`. Raises InvalidRequest for what is no model."""
    status = os.fstat(source.descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise InvalidRequest("The descriptor is not one of a regular file.", parameter="file")
    try:
        return read_header(source, status.st_size)
    except NotAModel as error:
        raise InvalidRequest(f"The file is no model: {error}", parameter="file") from error
    except OSError as error:
        raise InvalidRequest(
            f"The file can not be read: {error.strerror}.",
            hint="Open it for reading.",
            parameter="file",
        ) from error


def import_file(
    source: SourceFile,
    target: Path,
    quota: Bytes | None,
    on_bytes: ByteCount,
    stop: threading.Event,
) -> Imported:
    """Copy `source` to `target`, whose directory is made if need be.

    quota: the most that all files under the directory above may take together; None for no limit.
    on_bytes: told in this thread. stop: set by whoever does not want it any more.
    Raises InvalidRequest, DiskFull, StoreUnavailable, Cancelled; then nothing of it stays.
    """
    size = Bytes(os.fstat(source.descriptor).st_size)
    with _mapped():
        folder = target.parent
        folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        _ensure_room(folder.parent, size, quota)
        with _open_partial(target) as (partial, copy):
            digest = _copy(source, copy, size, on_bytes, stop)
            _ensure_model(copy, size)
            if target.exists():
                raise InvalidRequest(f"There is a file {target.name} already.", parameter="as")
            partial.rename(target)
        _sync_directory(folder)
    return Imported(target, size, digest)


def sweep_partials(folder: Path) -> None:
    """Remove what imports have left that a power cut or kill ended. Never raises."""
    with suppress(OSError):
        for found in folder.glob(f".*{PARTIAL_SUFFIX}"):
            found.unlink(missing_ok=True)


def remove_file(path: Path, directory: Path) -> None:
    """Remove the file at `path`, and what it is a link to, both inside of `directory`.

    Raises InvalidRequest if either is outside, StoreUnavailable.
    """
    with _mapped():
        root, target = directory.resolve(), path.resolve()
        found = path.parent.resolve() / path.name
        if not (found.is_relative_to(root) and target.is_relative_to(root)):
            raise InvalidRequest("The model's file is outside of the model directory.")
        for each in {found, target}:
            each.unlink(missing_ok=True)
        _sync_directory(target.parent)


def _ensure_room(directory: Path, size: Bytes, quota: Bytes | None) -> None:
    disk = os.statvfs(directory)
    free = disk.f_bavail * disk.f_frsize
    if free < size * (1 + RESERVE_SHARE):
        raise DiskFull(
            f"The file has {render_bytes(size)}, and the disk of the models has "
            f"{render_bytes(free)} left; {RESERVE_SHARE:.0%} more than the file must be free.",
            hint="Make room, for example with `models rm`.",
        )
    if quota is None:
        return
    taken = sum(_sizes(directory))
    if taken + size > quota:
        raise DiskFull(
            f"The file has {render_bytes(size)}, and {render_bytes(taken)} of the "
            f"{render_bytes(quota)} for models are taken.",
            hint="Remove models, or raise downloads.quota_bytes.",
        )


def _sizes(directory: Path) -> Iterator[int]:
    for folder, _, names in os.walk(directory):
        for name in names:
            with suppress(FileNotFoundError):
                yield os.lstat(os.path.join(folder, name)).st_size


@contextmanager
def _open_partial(target: Path) -> Iterator[tuple[Path, int]]:
    """A hidden file beside `target`, which is gone in the end unless it was renamed."""
    partial = target.with_name(f".{target.name}{PARTIAL_SUFFIX}")
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, flags, 0o640)
    try:
        yield partial, descriptor
    finally:
        os.close(descriptor)
        partial.unlink(missing_ok=True)


def _copy(
    source: SourceFile,
    copy: int,
    size: Bytes,
    on_bytes: ByteCount,
    stop: threading.Event,
) -> str:
    # Reserves the room: a disk that is full half-way through would have cost everybody's time.
    os.posix_fallocate(copy, 0, size)
    digest, position = hashlib.sha256(), 0
    on_bytes(Bytes(0), size)
    while position < size:
        if stop.is_set():
            raise Cancelled("The import was cancelled.")
        chunk = _chunk(source, position, min(_CHUNK, size - position))
        digest.update(chunk)
        view = memoryview(chunk)
        while view:
            written = os.pwrite(copy, view, position)
            view, position = view[written:], position + written
        on_bytes(Bytes(position), size)
    os.fsync(copy)
    return digest.hexdigest()


def _chunk(source: SourceFile, position: int, length: int) -> bytes:
    try:
        chunk = source.read_at(position, length)
    except OSError as error:
        raise InvalidRequest(
            f"The file can not be read at byte {position}: {error.strerror}.", parameter="file"
        ) from error
    if not chunk:
        raise InvalidRequest(f"The file was cut to {position} bytes meanwhile.", parameter="file")
    return chunk


def _ensure_model(copy: int, size: Bytes) -> None:
    try:
        read_header(SourceFile(copy), size)
    except NotAModel as error:
        raise InvalidRequest(
            f"The file was changed meanwhile, and is no model any more: {error}", parameter="file"
        ) from error


def _sync_directory(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _mapped() -> Iterator[None]:
    """What the disk says, in our words."""
    try:
        yield
    except OSError as error:
        raise _meaning(error) from error


def _meaning(error: OSError) -> UnifiedLlmError:
    if error.errno in _NO_ROOM:
        return DiskFull(
            f"The disk of the models is full: {error.strerror}.", hint="Nothing was kept of it."
        )
    return StoreUnavailable(
        f"The model directory can not be written: {error.strerror}.",
        hint="It must belong to the daemon's user, on a disk mounted for writing.",
    )
