"""downloads.local_import."""

import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.unit.gguf.writing import ModelFile
from unified_llm.domain.errors import Cancelled, DiskFull, InvalidRequest, StoreUnavailable
from unified_llm.domain.units import Bytes
from unified_llm.downloads import local_import as module
from unified_llm.downloads.local_import import (
    SourceFile,
    check_source,
    import_file,
    remove_file,
    sweep_partials,
)

CONTENT = ModelFile().packed()


class Folder(NamedTuple):
    """Of a test: a model file that somebody has opened, and where it shall go."""

    path: Path
    source: SourceFile
    target: Path

    def take(self, quota: int | None = None) -> module.Imported:
        """Import it."""
        limit = None if quota is None else Bytes(quota)
        return import_file(self.source, self.target, limit, ignore, threading.Event())

    def left(self) -> list[str]:
        """The names of all files in the model directory."""
        root = self.target.parent.parent
        return sorted(found.name for found in root.rglob("*") if found.is_file())


def ignore(done: Bytes, total: Bytes) -> None:
    pass


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    path = tmp_path / "mine.gguf"
    path.write_bytes(CONTENT)
    (tmp_path / "models").mkdir()
    with SourceFile(os.open(path, os.O_RDONLY)) as source:
        yield Folder(path, source, tmp_path / "models" / "imported" / "mine.gguf")


def test_a_file_is_copied_whole_and_hashed(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHUNK", 1000)
    os.lseek(folder.source.descriptor, 50, os.SEEK_SET)
    counted: list[int] = []

    def count(done: Bytes, total: Bytes) -> None:
        assert total == len(CONTENT)
        counted.append(done)

    imported = import_file(folder.source, folder.target, None, count, threading.Event())
    assert folder.target.read_bytes() == CONTENT
    assert imported.digest == hashlib.sha256(CONTENT).hexdigest()
    assert imported.size_bytes == len(CONTENT)
    assert counted == [*range(0, len(CONTENT), 1000), len(CONTENT)]
    assert folder.left() == ["mine.gguf"]
    assert folder.target.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("kind", ["directory", "device", "text", "empty", "write only"])
def test_what_is_no_model_is_refused_before_anything_is_copied(tmp_path: Path, kind: str) -> None:
    path, flags = tmp_path / "file", os.O_RDONLY
    path.write_bytes(b"" if kind == "empty" else b"text " * 100)
    if kind == "directory":
        path = tmp_path
    elif kind == "device":
        path = Path("/dev/zero")
    elif kind == "write only":
        path.write_bytes(CONTENT)
        flags = os.O_WRONLY
    with SourceFile(os.open(path, flags)) as source, pytest.raises(InvalidRequest) as refusal:
        check_source(source)
    assert refusal.value.parameter == "file"


def test_the_quota_counts_what_is_there(folder: Folder) -> None:
    (folder.target.parent.parent / "other.gguf").write_bytes(bytes(1000))
    with pytest.raises(DiskFull, match=r"downloads.quota_bytes"):
        folder.take(quota=len(CONTENT) + 999)
    assert folder.left() == ["other.gguf"]
    folder.take(quota=len(CONTENT) + 1000)
    assert folder.left() == ["mine.gguf", "other.gguf"]


def test_a_disk_without_room_for_it_is_not_written_to(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise AssertionError("something is written")

    class Disk(NamedTuple):
        f_bavail: int
        f_frsize: int

    monkeypatch.setattr(os, "statvfs", lambda _: Disk(len(CONTENT) + 10, 1))
    monkeypatch.setattr(os, "pwrite", refuse)
    with pytest.raises(DiskFull, match="5% more than the file must be free"):
        folder.take()
    assert folder.left() == []


@pytest.mark.parametrize("moment", ["posix_fallocate", "pwrite", "fsync", "rename"])
@pytest.mark.parametrize(
    ("number", "error"), [(28, DiskFull), (122, DiskFull), (5, StoreUnavailable)]
)
def test_a_disk_that_fails_at_any_moment_keeps_nothing(
    folder: Folder,
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
    number: int,
    error: type[Exception],
) -> None:
    def fail(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, moment, fail)
    with pytest.raises(error):
        folder.take()
    monkeypatch.undo()
    assert folder.left() == []
    assert folder.take().path.exists()


def test_a_short_write_is_continued(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: pwrite(fd, data[:777], at))
    folder.take()
    assert folder.target.read_bytes() == CONTENT


def test_a_file_that_changes_meanwhile_is_not_taken(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    fallocate = os.posix_fallocate

    def spoil(*arguments: int) -> None:
        fallocate(*arguments)
        folder.path.write_bytes(b"GGML" + CONTENT[4:])

    monkeypatch.setattr(os, "posix_fallocate", spoil)
    with pytest.raises(InvalidRequest, match="changed meanwhile"):
        folder.take()
    assert folder.left() == []


def test_a_file_that_is_cut_meanwhile_is_not_taken(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    fallocate = os.posix_fallocate

    def cut(*arguments: int) -> None:
        fallocate(*arguments)
        os.truncate(folder.path, 100)

    monkeypatch.setattr(os, "posix_fallocate", cut)
    with pytest.raises(InvalidRequest, match="cut to 100 bytes"):
        folder.take()
    assert folder.left() == []


def test_a_name_that_is_taken_is_never_overwritten(folder: Folder) -> None:
    folder.target.parent.mkdir()
    folder.target.write_bytes(b"older")
    with pytest.raises(InvalidRequest, match="already"):
        folder.take()
    assert folder.target.read_bytes() == b"older"
    assert folder.left() == ["mine.gguf"]


def test_an_import_can_be_stopped(folder: Folder) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(Cancelled):
        import_file(folder.source, folder.target, None, ignore, stop)
    assert folder.left() == []


def test_what_a_power_cut_leaves_is_swept_or_written_over(folder: Folder) -> None:
    folder.target.parent.mkdir()
    partial = folder.target.with_name(".mine.gguf.partial")
    partial.write_bytes(b"half")
    folder.take()
    assert folder.left() == ["mine.gguf"]
    partial.write_bytes(b"half")
    sweep_partials(folder.target.parent)
    assert folder.left() == ["mine.gguf"]
    sweep_partials(folder.target.parent / "nowhere")


def test_a_directory_that_can_not_be_made_is_our_trouble(folder: Folder) -> None:
    folder.target.parent.write_bytes(b"in the way")
    with pytest.raises(StoreUnavailable, match="model directory"):
        folder.take()


def test_only_files_inside_the_directory_are_removed(folder: Folder) -> None:
    root = folder.target.parent.parent
    folder.take()
    link = root / "link.gguf"
    link.symlink_to(folder.path)
    with pytest.raises(InvalidRequest, match="outside"):
        remove_file(folder.path, root)
    with pytest.raises(InvalidRequest, match="outside"):
        remove_file(link, root)
    assert folder.path.exists()
    link.unlink()
    link.symlink_to(folder.target)
    remove_file(link, root)
    assert folder.left() == []
    remove_file(folder.target, root)
