"""What the worker gives up before it touches a model file, in this order, from its main thread.

1. Foreign environment, by replacing itself: the block a process was started with stays readable
   in /proc/PID/environ, and in its memory, until the next exec.
2. Outliving the daemon: SIGKILL when the parent dies; then a look whether it has died already.
3. Core dumps, which would hold prompts, and descriptors that came along by accident.
4. Gaining privileges, and being read or traced by other processes of the same user.

Landlock and seccomp belong after these and before the engine is imported, since native libraries
start threads, and what is given up later does not bind those.
"""

import ctypes
import os
import resource
import signal
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, NoReturn

KEPT_VARIABLES: Final = frozenset(
    {
        "CUDA_DEVICE_ORDER",
        "CUDA_VISIBLE_DEVICES",
        "GGML_NO_BACKTRACE",
        "LANG",
        "LC_CTYPE",  # Python sets it itself when the locale is C
        "PATH",
    }
)
"""What may be in a worker's environment; none of it makes native code load or run anything."""

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_PR_SET_NO_NEW_PRIVS: Final = 38
_MAX_DESCRIPTOR: Final = 2**31 - 1


class ConfineError(Exception):
    """A layer could not be put in place; the worker must not go on."""


def confine(parent: int, descriptors: Iterable[int]) -> None:
    """Put every layer in place, or raise ConfineError.

    parent: the daemon's process. descriptors: to be kept besides the standard ones.
    """
    if has_foreign_variables(_initial_environment()):
        replace_program(reduce_environment(os.environ))
    reduced = reduce_environment(os.environ)
    os.environ.clear()
    os.environ.update(reduced)
    try:
        die_with(parent)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        close_all_but({0, 1, 2, *descriptors})
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)
        _prctl(_PR_SET_DUMPABLE, 0)
    except OSError as error:
        raise ConfineError(str(error)) from error


def has_foreign_variables(names: Iterable[str]) -> bool:
    """Whether any of `names` is not one that a worker keeps."""
    return not set(names) <= KEPT_VARIABLES


def reduce_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What a worker keeps of `environment`.

    GGML_NO_BACKTRACE: otherwise ggml_abort starts gdb on itself, and takes a second to die.
    """
    kept = {name: value for name, value in environment.items() if name in KEPT_VARIABLES}
    return {**kept, "GGML_NO_BACKTRACE": "1"}


def replace_program(environment: Mapping[str, str]) -> NoReturn:
    """Start this very program again, in the same process, with nothing but `environment`."""
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)  # noqa: S606


def die_with(parent: int) -> None:
    """Be killed when `parent` ends. Raises ConfineError if it is not our parent (any more).

    The kernel means the thread that forked us: the daemon spawns from its main thread only.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise ConfineError(f"the parent is process {os.getppid()}, not the daemon {parent}")


def close_all_but(kept: Iterable[int]) -> None:
    """Close every descriptor that is not in `kept`."""
    low = 0
    for descriptor in sorted(set(kept)):
        if low < descriptor:  # closerange(0, 0) of Python 3.11 closes everything there is
            os.closerange(low, descriptor)
        low = descriptor + 1
    os.closerange(low, _MAX_DESCRIPTOR)


def _initial_environment() -> list[str]:
    with suppress(OSError):
        entries = Path("/proc/self/environ").read_bytes().split(b"\0")
        return [os.fsdecode(entry.partition(b"=")[0]) for entry in entries if entry]
    return list(os.environ)


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}, {value}): {os.strerror(number)}")
