"""What the worker gives up before it imports native code, in this order, from its main thread.

1. Foreign environment, by replacing itself: the block a process was started with stays readable
   in /proc/PID/environ, and in its memory, until the next exec.
2. Outliving the daemon: SIGKILL when the parent dies; then a look whether it has died already.
3. Core dumps, which would hold prompts; locked memory; descriptors that came along by accident.
4. Privileges, gaining them, and being read or traced by other processes of the same user.
5. Memory that is written and then executed, where the kernel can refuse it.
6. Files and whom it may signal: Landlock. It binds no thread that runs already.
7. System calls: seccomp. Last, since it refuses the calls that all of the above is made of.

Any of 1 to 4 is there on every kernel. Landlock and seccomp may be missing; whether the worker then
goes on is the operator's word.

RLIMIT_NPROC stays: it counts all processes and threads of the user, the daemon's and the other
workers' among them; new processes are refused by seccomp, and threads are counted by the unit.
"""

import os
import resource
import signal
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, NoReturn

from unified_llm.worker.cores import own_cgroup
from unified_llm.worker.files import WRITABLE, readable_files
from unified_llm.worker.kernel import drop_capabilities, prctl
from unified_llm.worker.landlock import restrict_self
from unified_llm.worker.seccomp import UnsupportedMachineError, filter_system_calls

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

MAX_OPEN_FILES: Final = 256

# Landlock says which files; this lets the worker of a root daemon open a model of another owner.
_CAP_DAC_READ_SEARCH: Final = 2
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_SET_MDWE: Final = 65
_PR_MDWE_REFUSE_EXEC_GAIN: Final = 1
_MAX_DESCRIPTOR: Final = 2**31 - 1


class ConfineError(Exception):
    """The worker could not be confined, and must not go on."""


class LayerMissingError(ConfineError):
    """The kernel does not offer a layer that is required. reason: in its words."""

    def __init__(self, layer: str, reason: str) -> None:
        super().__init__(f"{layer} is missing: {reason}")
        self.layer = layer
        self.reason = reason


def confine(
    parent: int,
    *,
    socket: int,
    models: Collection[int],
    states: int | None = None,
    is_sandbox_required: bool = True,
) -> tuple[str, ...]:
    """Put every layer in place; their names. Raises ConfineError.

    parent: the daemon's process. socket, models: descriptors to be kept; the files behind `models`
    stay readable. states: the socket for kept states, the only one that descriptors may pass
    through. is_sandbox_required: whether a kernel without Landlock or seccomp is an error.
    """
    if has_foreign_variables(_initial_environment()):
        replace_program(reduce_environment(os.environ))
    reduced = reduce_environment(os.environ)
    os.environ.clear()
    os.environ.update(reduced)
    try:
        die_with(parent)
        limit_resources()
        close_all_but({0, 1, 2, socket, *models, *(() if states is None else (states,))})
        drop_capabilities(frozenset({_CAP_DAC_READ_SEARCH}))
        prctl(_PR_SET_NO_NEW_PRIVS, 1)
        prctl(_PR_SET_DUMPABLE, 0)
    except OSError as error:
        raise ConfineError(str(error)) from error
    basic = ("parent-death", "rlimits", "capabilities", "no-new-privileges", "not-dumpable")
    return (*basic, *_enter_sandbox(models, states, is_required=is_sandbox_required))


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
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
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


def limit_resources() -> None:
    """Lower the limits that nothing a worker does needs; files only as far as they are higher."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(MAX_OPEN_FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))


def _enter_sandbox(models: Collection[int], states: int | None, *, is_required: bool) -> list[str]:
    """Steps 5 to 7; the layers that are in force."""
    _ensure_single_thread()
    layers = []
    with suppress(OSError):  # since Linux 6.3; memory that is both at once is refused by seccomp
        prctl(_PR_SET_MDWE, _PR_MDWE_REFUSE_EXEC_GAIN)
        layers.append("no-exec-gain")
    readable = readable_files(own_cgroup())
    steps: Mapping[str, Callable[[], str]] = {
        "landlock": lambda: f"landlock-{restrict_self(readable, WRITABLE, models)}",
        "seccomp": lambda: _enter_seccomp(states),
    }
    for name, enter in steps.items():
        try:
            layers.append(enter())
        except (OSError, UnsupportedMachineError) as error:
            if is_required:
                raise LayerMissingError(name, str(error)) from error
            sys.stderr.write(f"going on without {name}: {error}\n")
    return layers


def _enter_seccomp(states: int | None) -> str:
    filter_system_calls(states)
    return "seccomp"


def _ensure_single_thread() -> None:
    try:
        threads = len(os.listdir("/proc/self/task"))
    except OSError as error:
        raise ConfineError(f"the threads cannot be counted: {error}") from error
    if threads != 1:
        raise ConfineError(f"there are {threads} threads already; Landlock would bind only one")


def _initial_environment() -> list[str]:
    with suppress(OSError):
        entries = Path("/proc/self/environ").read_bytes().split(b"\0")
        return [os.fsdecode(entry.partition(b"=")[0]) for entry in entries if entry]
    return list(os.environ)
