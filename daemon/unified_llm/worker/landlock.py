"""Landlock: the files a process may reach from now on, and that it may signal nobody outside.

Rights come in versions of the kernel's interface (ABI). Each right the running kernel knows is
taken away; what it does not know yet stays, which is why the version is reported.

Landlock binds the calling thread and those it starts later: it must come before any other thread.
Source: linux/landlock.h and Documentation/userspace-api/landlock.rst.
"""

import os
import stat
import struct
from collections.abc import Iterable
from enum import IntFlag
from typing import Final

from unified_llm.worker.kernel import syscall

# The same on every architecture.
_CREATE_RULESET: Final = 444
_ADD_RULE: Final = 445
_RESTRICT_SELF: Final = 446

_GET_VERSION: Final = 1
_RULE_PATH_BENEATH: Final = 1


class Access(IntFlag):
    """LANDLOCK_ACCESS_FS_*; all but those of files are about what is beneath a directory."""

    EXECUTE = 1 << 0
    WRITE_FILE = 1 << 1
    READ_FILE = 1 << 2
    READ_DIR = 1 << 3
    REMOVE_DIR = 1 << 4
    REMOVE_FILE = 1 << 5
    MAKE_CHAR = 1 << 6
    MAKE_DIR = 1 << 7
    MAKE_REG = 1 << 8
    MAKE_SOCK = 1 << 9
    MAKE_FIFO = 1 << 10
    MAKE_BLOCK = 1 << 11
    MAKE_SYM = 1 << 12
    REFER = 1 << 13
    TRUNCATE = 1 << 14
    IOCTL_DEV = 1 << 15


_FIRST_VERSION: Final = Access((1 << 13) - 1)
_BIND_AND_CONNECT_TCP: Final = 0b11
_ABSTRACT_SOCKETS_AND_SIGNALS: Final = 0b11
_OF_FILES: Final = Access.EXECUTE | Access.WRITE_FILE | Access.READ_FILE


def landlock_version() -> int:
    """The version of the interface. Raises OSError if the kernel has none or it is off."""
    return syscall("landlock_create_ruleset", _CREATE_RULESET, 0, 0, _GET_VERSION)


def handled_rights(version: int) -> Access:
    """Every right on files that `version` can take away."""
    handled = _FIRST_VERSION
    for since, right in ((2, Access.REFER), (3, Access.TRUNCATE), (5, Access.IOCTL_DEV)):
        if version >= since:
            handled |= right
    return handled


def restrict_self(
    readable: Iterable[str], writable: Iterable[str], readable_descriptors: Iterable[int]
) -> int:
    """Leave this thread only these files and what is beneath them; the version in force.

    What does not exist, or may not be reached already, is left out. Needs no_new_privs.
    Raises OSError if Landlock is missing.
    """
    version = landlock_version()
    ruleset = _create_ruleset(version)
    try:
        for path in readable:
            _allow_path(ruleset, path, Access.READ_FILE | Access.READ_DIR)
        for path in writable:
            _allow_path(ruleset, path, Access.READ_FILE | Access.WRITE_FILE)
        for descriptor in readable_descriptors:
            _allow(ruleset, descriptor, Access.READ_FILE)
        syscall("landlock_restrict_self", _RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)
    return version


def _create_ruleset(version: int) -> int:
    words = [int(handled_rights(version))]
    if version >= 4:
        words.append(_BIND_AND_CONNECT_TCP)
    if version >= 6:
        words.append(_ABSTRACT_SOCKETS_AND_SIGNALS)
    # struct landlock_ruleset_attr; an older kernel takes only its beginning.
    wanted = struct.pack(f"={len(words)}Q", *words)
    return syscall("landlock_create_ruleset", _CREATE_RULESET, wanted, len(wanted), 0)


def _allow_path(ruleset: int, path: str, rights: Access) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        _allow(ruleset, descriptor, rights)
    finally:
        os.close(descriptor)


def _allow(ruleset: int, descriptor: int, rights: Access) -> None:
    if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
        rights &= _OF_FILES
    rule = struct.pack("=Qi", rights, descriptor)  # struct landlock_path_beneath_attr
    syscall("landlock_add_rule", _ADD_RULE, ruleset, _RULE_PATH_BENEATH, rule, 0)
