"""Tells when files in folders come, go or have been written, by inotify(7).

Nothing is polled: while nothing happens, nobody is woken. A file that is being written says so
once, when it is closed, and not with each write.
"""

import asyncio
import ctypes
import errno
import logging
import os
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

_log = logging.getLogger(__name__)

# <sys/inotify.h>
_CLOSE_WRITE: Final = 0x00000008
_MOVED_FROM: Final = 0x00000040
_MOVED_TO: Final = 0x00000080
_CREATE: Final = 0x00000100
_DELETE: Final = 0x00000200
_DELETE_SELF: Final = 0x00000400
_MOVE_SELF: Final = 0x00000800
_ATTRIB: Final = 0x00000004
_Q_OVERFLOW: Final = 0x00004000
_IGNORED: Final = 0x00008000
_ONLYDIR: Final = 0x01000000
_ISDIR: Final = 0x40000000

_WATCHED: Final = (
    _CLOSE_WRITE | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE | _DELETE_SELF | _MOVE_SELF | _ATTRIB
)
_EVENT: Final = struct.Struct("iIII")
_BUFFER_BYTES: Final = 64 * 1024

Interest = Callable[[str, bool], bool]
"""Whether something of that name in a folder matters; the second tells whether it is a folder."""


class FolderWatch:
    """Watches folders while it is entered.

    on_change: called in the event loop when something that matters has changed; returns at once.
    """

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = -1
        self._folders: dict[int, Path] = {}
        self._interests: Mapping[Path, Interest] = {}

    def __enter__(self) -> Self:
        self._descriptor = self._libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if self._descriptor < 0:
            # Too many instances of this user; scans on request still work.
            _log.warning("folders are not watched: %s", os.strerror(ctypes.get_errno()))
        else:
            asyncio.get_running_loop().add_reader(self._descriptor, self._on_readable)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._descriptor >= 0:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            os.close(self._descriptor)

    def follow(self, interests: Mapping[Path, Interest]) -> None:
        """Watch these folders and no others from now on; those that are not there are left out."""
        if self._descriptor < 0:
            return
        self._interests = interests
        for watch, folder in tuple(self._folders.items()):
            if folder not in interests:
                del self._folders[watch]
                self._libc.inotify_rm_watch(self._descriptor, watch)
        # Once more for those that are watched: another folder may have taken the name.
        for folder in interests:
            self._add(folder)

    def _add(self, folder: Path) -> None:
        watch = self._libc.inotify_add_watch(
            self._descriptor, os.fsencode(folder), _WATCHED | _ONLYDIR
        )
        if watch >= 0:
            self._folders[watch] = folder
        elif (number := ctypes.get_errno()) not in _GONE:
            _log.warning("%s is not watched: %s", folder, os.strerror(number))

    def _on_readable(self) -> None:
        try:
            events = os.read(self._descriptor, _BUFFER_BYTES)
        except BlockingIOError:
            return
        # Each is looked at: some tell that a folder is not watched any more.
        if sum(self._matters(*event) for event in parse_events(events)):
            self._on_change()

    def _matters(self, watch: int, mask: int, name: str) -> bool:
        if mask & _Q_OVERFLOW:
            return True
        folder = self._folders.get(watch)
        if mask & _IGNORED:
            self._folders.pop(watch, None)
        if folder is None:
            return False
        if mask & (_DELETE_SELF | _MOVE_SELF):
            return True
        is_folder = bool(mask & _ISDIR)
        # A file that was just created is empty; closing it tells when it is complete.
        if mask & _CREATE and not is_folder and not (folder / name).is_symlink():
            return False
        return name != "" and self._interests[folder](name, is_folder)


_GONE: Final = frozenset({errno.ENOENT, errno.ENOTDIR})


def parse_events(content: bytes) -> Iterator[tuple[int, int, str]]:
    """Watch, mask and name of each event in what was read from inotify."""
    position = 0
    while position < len(content):
        watch, mask, _cookie, length = _EVENT.unpack_from(content, position)
        position += _EVENT.size
        name = content[position : position + length].rstrip(b"\0")
        position += length
        yield watch, mask, os.fsdecode(name)
