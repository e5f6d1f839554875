"""Our own listening socket, for when systemd does not hand us one."""

import errno
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from unified_llm.domain.errors import ConfigurationError, Problem

_BACKLOG = 1024
_KEY = "socket.path"


@contextmanager
def open_listener(path: Path, *, mode: int, gid: int | None) -> Iterator[socket.socket]:
    """A listening Unix socket at `path`; leaving removes it, if it is still ours.

    mode: permission bits; who may write may connect. gid: the group it is given to; None for none.
    A socket left behind by a dead daemon is replaced, one that answers is not.
    Raises ConfigurationError.
    """
    _clear(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with listener:
        listener.setblocking(False)
        ours = _bind(listener, path, mode, gid)
        try:
            yield listener
        finally:
            with suppress(FileNotFoundError):
                if _identity(path) == ours:
                    path.unlink()


def _bind(listener: socket.socket, path: Path, mode: int, gid: int | None) -> tuple[int, int]:
    try:
        listener.bind(os.fspath(path))
        # Nobody can connect before listen(2), so there is no moment with wrong permissions.
        if gid is not None:
            os.chown(path, -1, gid)
        path.chmod(mode)
        listener.listen(_BACKLOG)
        return _identity(path)
    except OSError as error:
        raise _refusal(path, f"can not listen there: {error.strerror}") from error


def _clear(path: Path) -> None:
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise _refusal(path, "there is something else than a socket")
    except FileNotFoundError:
        return
    except OSError as error:
        raise _refusal(path, error.strerror or "can not be looked at") from error
    if _is_answered(path):
        raise _refusal(path, "another process is listening there", "no daemon running on it")
    path.unlink(missing_ok=True)


def _is_answered(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        # EAGAIN is a full backlog: somebody is there, if busy.
        return probe.connect_ex(os.fspath(path)) in (0, errno.EAGAIN)


def _identity(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_dev, found.st_ino


def _refusal(path: Path, message: str, expected: str = "") -> ConfigurationError:
    return ConfigurationError(str(path), (Problem(_KEY, None, message, expected),))
