"""Calls to the kernel that Python has no name for. An error is an OSError that names the call."""

import ctypes
import os
from typing import Final

_libc: Final = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_CAPABILITY_VERSION_3: Final = 0x2008_0522


def prctl(option: int, value: int) -> int:
    """prctl(2) with one argument. Raises OSError."""
    rest = (ctypes.c_ulong(0),) * 3
    return _checked(f"prctl({option})", _libc.prctl(option, ctypes.c_ulong(value), *rest))


def syscall(name: str, number: int, *arguments: object) -> int:
    """syscall(2): integers as longs, the rest as ctypes passes it. Raises OSError."""
    words = (ctypes.c_long(word) if isinstance(word, int) else word for word in arguments)
    return _checked(name, _libc.syscall(ctypes.c_long(number), *words))


def drop_capabilities(kept: frozenset[int]) -> None:
    """Hold no capability but those of `kept` that are held now; nothing is inheritable.

    kept: numbers of linux/capability.h. Raises OSError.
    """
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    # Effective, permitted and inheritable, first for numbers below 32, then for those above.
    sets = (ctypes.c_uint32 * 6)()
    _checked("capget", _libc.capget(header, sets))
    held = list(sets)
    for word in (0, 1):
        mask = sum(1 << number % 32 for number in kept if number // 32 == word)
        sets[3 * word] &= mask
        sets[3 * word + 1] &= mask
        sets[3 * word + 2] = 0
    # A unit's SystemCallFilter=~@privileged refuses the call, and leaves nothing that needs it.
    if list(sets) != held:
        _checked("capset", _libc.capset(header, sets))


def _checked(name: str, result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result
