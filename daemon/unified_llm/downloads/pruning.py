"""Removes imported model files that nobody declares."""

import logging
from collections.abc import Collection
from pathlib import Path

_log = logging.getLogger(__name__)


def prune_folder(folder: Path, declared: Collection[Path]) -> tuple[Path, ...]:
    """Remove each model file in `folder` that is none of `declared`, links followed.

    Those removed. Never raises: what can not be removed stays, and the log says why.
    """
    kept = {path.resolve() for path in declared}
    removed = []
    for found in sorted(folder.glob("*.gguf")):
        if found.resolve() in kept:
            continue
        try:
            found.unlink()
        except OSError as error:
            _log.warning("%s is not declared and can not be removed: %s", found, error.strerror)
        else:
            removed.append(found)
    return tuple(removed)
