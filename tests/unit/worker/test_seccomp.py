"""The workers' filter, on literal system calls of both architectures."""

import errno
import mmap
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.worker.bpf_machine import Answer, run
from unified_llm.worker.bpf import ANY_BIT, KILL_PROCESS, MAX_INSTRUCTIONS, assemble
from unified_llm.worker.seccomp import worker_filter
from unified_llm.worker.syscalls import ARCHITECTURES, LAST_KNOWN

_PID = 4242
_ALLOWED = Answer.allow()
_EPERM = Answer.error(errno.EPERM)
_PROGRAMS = {
    name: assemble(worker_filter(architecture, _PID))
    for name, architecture in ARCHITECTURES.items()
}
# Numbers on x86_64 and aarch64 (None: no such call), from the kernel's tables, of calls that would
# lead out of the process.
_FORBIDDEN = {
    "socket": (41, 198), "connect": (42, 203), "accept": (43, 202), "bind": (49, 200),
    "listen": (50, 201), "socketpair": (53, 199), "accept4": (288, 242),
    "execve": (59, 221), "execveat": (322, 281), "fork": (57, None), "vfork": (58, None),
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51),
    "bpf": (321, 280), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427), "keyctl": (250, 219), "add_key": (248, 217),
    "request_key": (249, 218), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
    "kexec_load": (246, 104), "kexec_file_load": (320, 294), "init_module": (175, 105),
    "finit_module": (313, 273), "delete_module": (176, 106), "reboot": (169, 142),
    "swapon": (167, 224), "swapoff": (168, 225), "setns": (308, 268), "unshare": (272, 97),
    "pidfd_open": (434, 434), "pidfd_getfd": (438, 438), "pidfd_send_signal": (424, 424),
    "open_by_handle_at": (304, 265), "name_to_handle_at": (303, 264), "tkill": (200, 130),
    "rt_sigqueueinfo": (129, 138), "setuid": (105, 146), "capset": (126, 91),
    "personality": (135, 92), "setrlimit": (160, 164), "seccomp": (317, 277),
    "memfd_secret": (447, 447), "acct": (163, 89), "settimeofday": (164, 170),
    "inotify_init1": (294, 26), "fanotify_init": (300, 262), "unlinkat": (263, 35),
    "mkdirat": (258, 34), "fchmod": (91, 52), "truncate": (76, 45), "renameat2": (316, 276),
    "setxattr": (188, 5), "chdir": (80, 49), "shmget": (29, 194), "mq_open": (277, 180),
}  # fmt: skip
_words = st.integers(0, ANY_BIT)


def answer(machine: str, name: str, *arguments: int) -> Answer:
    """What the filter says to a call that a worker may make in some way."""
    architecture = ARCHITECTURES[machine]
    words = [*arguments, 0, 0, 0, 0, 0, 0][:6]
    return run(_PROGRAMS[machine], architecture.allowed[name], words, architecture.audit)


@pytest.mark.parametrize("machine", ARCHITECTURES)
@given(name=st.sampled_from(sorted(_FORBIDDEN)), arguments=st.tuples(*[_words] * 6))
def test_what_leads_out_is_refused_whatever_the_arguments(
    machine: str, name: str, arguments: tuple[int, ...]
) -> None:
    number = _FORBIDDEN[name][list(ARCHITECTURES).index(machine)]
    if number is not None:
        said = run(_PROGRAMS[machine], number, arguments, ARCHITECTURES[machine].audit)
        assert said == _EPERM


@pytest.mark.parametrize("machine", ARCHITECTURES)
@given(number=st.integers(0, 2**32 - 1), arguments=st.tuples(*[_words] * 6))
def test_what_is_not_in_the_table_is_never_allowed(
    machine: str, number: int, arguments: tuple[int, ...]
) -> None:
    architecture = ARCHITECTURES[machine]
    said = run(_PROGRAMS[machine], number, arguments, architecture.audit)
    if number not in architecture.allowed.values():
        assert said in {_EPERM, Answer.error(errno.ENOSYS), Answer(KILL_PROCESS)}
    if architecture.foreign_from is not None and number >= architecture.foreign_from:
        assert said == Answer(KILL_PROCESS)


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_what_nobody_has_judged_yet_looks_absent(machine: str) -> None:
    audit = ARCHITECTURES[machine].audit
    for number in (435, LAST_KNOWN + 1, LAST_KNOWN + 1000):
        said = run(_PROGRAMS[machine], number, (0,) * 6, audit)
        assert said == Answer.error(errno.ENOSYS)


@pytest.mark.parametrize("machine", ARCHITECTURES)
@given(flags=_words)
def test_only_threads_are_cloned(machine: str, flags: int) -> None:
    said = answer(machine, "clone", flags)
    if not flags & 0x10000 or flags & (0x7E02_0080 | 0x2000):
        assert said == _EPERM


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_the_c_libraries_can_start_threads(machine: str) -> None:
    glibc, musl = 0x003D_0F00, 0x007D_0F00
    for flags in (glibc, musl):
        assert answer(machine, "clone", flags) == _ALLOWED


@pytest.mark.parametrize("machine", ARCHITECTURES)
@given(pid=_words, signal=_words)
def test_it_signals_itself_only(machine: str, pid: int, signal: int) -> None:
    expected = _ALLOWED if pid == _PID else _EPERM
    assert answer(machine, "kill", pid, signal) == expected
    assert answer(machine, "tgkill", pid, signal) == expected
    assert answer(machine, "kill", _PID, signal) == _ALLOWED
    assert answer(machine, "kill", ANY_BIT, signal) == _EPERM


@pytest.mark.parametrize("machine", ARCHITECTURES)
@given(protection=st.integers(0, 2**32 - 1))
def test_no_memory_is_writable_and_executable(machine: str, protection: int) -> None:
    both = mmap.PROT_WRITE | mmap.PROT_EXEC
    expected = _EPERM if protection & both == both else _ALLOWED
    for name in ("mmap", "mprotect"):
        assert answer(machine, name, 0, 4096, protection) == expected


@pytest.mark.parametrize("machine", ARCHITECTURES)
@given(option=_words, argument=_words)
def test_nothing_given_up_is_taken_back(machine: str, option: int, argument: int) -> None:
    harmless = {2, 3, 15, 16, 21, 23, 39, 66, 0x53564D41}
    expected = _ALLOWED if option in harmless else _EPERM
    assert answer(machine, "prctl", option, argument) == expected
    assert answer(machine, "prctl", 4, argument) == _EPERM
    assert answer(machine, "prlimit64", 0, option, argument) == (_EPERM if argument else _ALLOWED)
    assert answer(machine, "prlimit64", 1, option, 0) == _EPERM


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_nothing_is_typed_into_a_terminal(machine: str) -> None:
    assert answer(machine, "ioctl", 0, 0x5412) == _EPERM
    assert answer(machine, "ioctl", 0, 0x541C) == _EPERM
    # The kernel looks at the lower half only: what is in the upper one is no way around.
    assert answer(machine, "ioctl", 0, 0x5412 | 1 << 32) == _EPERM
    assert answer(machine, "fcntl", 0, 8, 1) == _EPERM
    assert answer(machine, "ioctl", 0, 0x5401) == _ALLOWED


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_the_filter_is_small(machine: str) -> None:
    assert len(_PROGRAMS[machine]) < MAX_INSTRUCTIONS / 4


def test_the_numbers_are_the_kernels() -> None:
    """The numbers of this machine's C headers, which are one of the two columns' sources."""
    header = next(Path("/usr/include").glob("x86_64-linux-gnu/asm/unistd_64.h"), None)
    header = header or next(Path("/usr/include").glob("asm/unistd_64.h"), None)
    generic = Path("/usr/include/asm-generic/unistd.h").read_text()
    found = dict(re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", generic))
    expected = ARCHITECTURES["aarch64"].allowed
    assert {name: number for name, number in expected.items() if name in found} == {
        name: int(found[name]) for name in expected if name in found
    }
    assert len(expected.keys() & found.keys()) > 90
    if header is not None:
        found = dict(re.findall(r"#define __NR_(\w+)\s+(\d+)", header.read_text()))
        expected = ARCHITECTURES["x86_64"].allowed
        assert all(int(found[name]) == expected[name] for name in expected if name in found)


@pytest.mark.parametrize("machine", ARCHITECTURES)
@given(descriptor=_words)
def test_descriptors_pass_through_the_channel_for_states_only(
    machine: str, descriptor: int
) -> None:
    architecture = ARCHITECTURES[machine]
    program = assemble(worker_filter(architecture, _PID, states=9))
    for name in ("sendmsg", "recvmsg"):
        number = architecture.allowed[name]
        for used in (descriptor, 9):
            said = run(program, number, (used, 0, 0, 0, 0, 0), architecture.audit)
            assert said == (_ALLOWED if used == 9 else _EPERM)
        assert answer(machine, name, descriptor) == _EPERM
        assert answer(machine, name, 9) == _EPERM
