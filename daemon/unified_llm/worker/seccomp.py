"""The system-call filter of a worker. After it, nothing can be started, reached or administered.

Every refused call fails with EPERM, so that a library that only tries something goes on; a call by
another architecture's numbers ends the process, as only an exploit makes one.
"""

import ctypes
import mmap
import os
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from unified_llm.worker.bpf import ANY_BIT, Condition, Filter, Masked, assemble, pack
from unified_llm.worker.kernel import syscall
from unified_llm.worker.syscalls import ARCHITECTURES, LAST_KNOWN, Architecture

_SET_MODE_FILTER: Final = 1
_FLAG_TSYNC: Final = 1

_CLONE_THREAD: Final = 0x0001_0000
# What the C libraries give a thread: VM, FS, FILES, SIGHAND, THREAD, SYSVSEM, SETTLS,
# PARENT_SETTID, CHILD_CLEARTID, DETACHED, CHILD_SETTID. No new namespace, no tracing, no signal.
_THREAD_FLAGS: Final = 0x017D_0F00

# FIONREAD, FIONBIO, FIONCLEX, FIOCLEX, TCGETS, TIOCGWINSZ: what Python asks of a file it opens.
# TIOCSTI is the one that types into the terminal of whoever started us.
_IOCTLS: Final = (0x541B, 0x5421, 0x5450, 0x5451, 0x5401, 0x5413)

# F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC. F_SETOWN would send signals.
_FCNTLS: Final = (0, 1, 2, 3, 4, 1030)

# F_ADD_SEALS, F_GET_SEALS: what makes a memfd a kept state.
_FCNTLS_ON_STATES: Final = (1033, 1034)

# PR_GET_PDEATHSIG, PR_GET_DUMPABLE, PR_SET_NAME, PR_GET_NAME, PR_GET_SECCOMP, PR_CAPBSET_READ,
# PR_GET_NO_NEW_PRIVS, PR_GET_MDWE, PR_SET_VMA (which names memory).
_PRCTLS: Final = (2, 3, 15, 16, 21, 23, 39, 66, 0x53564D41)


class UnsupportedMachineError(Exception):
    """There is no table of system calls for this machine."""


def worker_filter(architecture: Architecture, pid: int, states: int | None = None) -> Filter:
    """The filter of a worker with process id `pid`.

    states: the socket that descriptors may pass through, and none other; None if there is none.
    """
    named = _conditions(pid, states)
    conditions = {architecture.allowed[name]: tests for name, tests in named.items()}
    return Filter(
        audit_architecture=architecture.audit,
        allowed=frozenset(architecture.allowed.values()) - conditions.keys(),
        conditional=conditions,
        absent=frozenset({architecture.clone3}),  # its flags are in memory, where no filter looks
        last_known=LAST_KNOWN,
        foreign_from=architecture.foreign_from,
    )


def filter_system_calls(states: int | None = None) -> None:
    """Put the filter on every thread, for good. Needs no_new_privs.

    states: as for worker_filter.

    Raises OSError, UnsupportedMachineError.
    """
    machine = os.uname().machine
    architecture = ARCHITECTURES.get(machine)
    # A 32-bit interpreter on a 64-bit kernel speaks another interface than its machine.
    if architecture is None or struct.calcsize("P") != 8:
        raise UnsupportedMachineError(f"no table of system calls for {machine}")
    program = assemble(worker_filter(architecture, os.getpid(), states))
    code = ctypes.create_string_buffer(pack(program))
    wanted = struct.pack("HP", len(program), ctypes.addressof(code))  # struct sock_fprog
    unsynced = syscall("seccomp", architecture.seccomp, _SET_MODE_FILTER, _FLAG_TSYNC, wanted)
    if unsynced:
        raise OSError(0, f"seccomp: thread {unsynced} has a filter of its own")


def _conditions(pid: int, states: int | None) -> Mapping[str, Sequence[Condition]]:
    not_writable_and_executable = (
        (Masked(2, 0, mmap.PROT_WRITE),),
        (Masked(2, 0, mmap.PROT_EXEC),),
    )
    passing = () if states is None else (states,)
    return {
        "clone": (
            (
                Masked(0, _CLONE_THREAD, _CLONE_THREAD),
                Masked(0, 0, ANY_BIT & ~_THREAD_FLAGS),
            ),
        ),
        "kill": _argument_is(0, (pid,)),
        "tgkill": _argument_is(0, (pid,)),
        "sendto": _argument_is(4, (0,)),  # to whom the socket is connected, no address
        "prlimit64": tuple((Masked(0, who), Masked(2, 0)) for who in (0, pid)),  # asking only
        "prctl": _argument_is(0, _PRCTLS),
        "ioctl": _argument_is(1, _IOCTLS),
        "sendmsg": _argument_is(0, passing),
        "recvmsg": _argument_is(0, passing),
        "fcntl": _argument_is(1, (*_FCNTLS, *_FCNTLS_ON_STATES)),
        "mmap": not_writable_and_executable,
        "mprotect": not_writable_and_executable,
    }


def _argument_is(argument: int, values: Iterable[int]) -> Sequence[Condition]:
    return tuple((Masked(argument, value),) for value in values)
