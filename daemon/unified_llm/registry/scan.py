"""Finds model files in a directory."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Final

MAX_DEPTH: Final = 4
# Far above any collection; a directory with more is not one of models.
MAX_FILES: Final = 10_000

_SUFFIX: Final = ".gguf"


@dataclass(frozen=True, slots=True)
class CatalogueProblem:
    """Something about a file or directory that its owner should know.

    message: a sentence. is_fault: whether something configured does not work because of it; a mere
    note otherwise.
    """

    path: PurePath
    message: str
    is_fault: bool = True


@dataclass(slots=True)
class FoundFiles:
    """Model files in the order of their paths, each once, and what was in the way.

    folders: those that were searched.
    """

    paths: list[Path] = field(default_factory=list)
    problems: list[CatalogueProblem] = field(default_factory=list)
    folders: set[Path] = field(default_factory=set)


def find_model_files(directory: Path, *, required: bool) -> FoundFiles:
    """All *.gguf files in `directory`, MAX_DEPTH levels deep, hidden names left out.

    required: whether it is a problem if there is no such directory.
    Symbolic links to files are followed only to places inside `directory`: who may write into it
    must not make the daemon read elsewhere. Links to directories are not followed.
    """
    found = FoundFiles()
    try:
        root = directory.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        if required or not isinstance(error, FileNotFoundError):
            message = f"The directory cannot be read: {_reason(error)}."
            found.problems.append(CatalogueProblem(directory, message))
        return found
    targets: set[Path] = set()
    for path in _candidates(root, 1, found):
        target = _target(path, root, found.problems)
        if target is None or target in targets:
            continue
        if len(targets) == MAX_FILES:
            message = f"There are more than {MAX_FILES} model files; the rest is left out."
            found.problems.append(CatalogueProblem(root, message))
            break
        targets.add(target)
        found.paths.append(path)
    return found


def _candidates(directory: Path, depth: int, found: FoundFiles) -> Iterator[Path]:
    """Files by name and links to anything; plain files of a directory before its directories."""
    try:
        with os.scandir(directory) as entries:
            ordered = sorted(entries, key=lambda entry: (_is_directory(entry), entry.name))
    except OSError as error:
        found.problems.append(
            CatalogueProblem(directory, f"The directory cannot be read: {error.strerror}.")
        )
        return
    found.folders.add(directory)
    for entry in ordered:
        if entry.name.startswith("."):
            continue
        if not entry.name.isprintable():
            message = f"The name {entry.name!a} in it is not printable text; it is left out."
            found.problems.append(CatalogueProblem(directory, message))
            continue
        if _is_directory(entry):
            if depth < MAX_DEPTH:
                yield from _candidates(Path(entry.path), depth + 1, found)
        elif entry.name.lower().endswith(_SUFFIX):
            yield Path(entry.path)


def _is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def _target(path: Path, root: Path, problems: list[CatalogueProblem]) -> Path | None:
    """Where `path` leads, if that is inside `root`."""
    try:
        target = path.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        problems.append(CatalogueProblem(path, f"The link leads nowhere: {_reason(error)}."))
        return None
    if not target.is_relative_to(root):
        message = "The link leads out of the directory; name its target in the settings instead."
        problems.append(CatalogueProblem(path, message))
        return None
    return target


def _reason(error: OSError | RuntimeError) -> str:
    # Until Python 3.13, a loop of links is a RuntimeError.
    return str(error.strerror) if isinstance(error, OSError) else "a loop of links"
