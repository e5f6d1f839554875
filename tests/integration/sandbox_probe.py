"""A worker gone bad: confined as any other, it tries what none may do, then what each must do.

Run as a script, apart from the tests: what a test has imported and opened is not in the way. Prints
one JSON object: of each attempt what came of it (`done` or the name of an errno), and whether the
model answers after all that.
"""

import argparse
import codecs
import ctypes
import errno
import fcntl
import json
import mmap
import os
import platform
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from unified_llm.domain.chat import Message, Role, Sampling
from unified_llm.worker.confine import confine
from unified_llm.worker.kept_states import KeptStates
from unified_llm.worker.protocol import Delta, Done, Generate, Load

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_column = {"x86_64": 0, "aarch64": 1}[platform.machine()]
_NUMBERS: dict[str, tuple[int, int | None]] = {
    "execveat": (322, 281),
    "fork": (57, None),
    "vfork": (58, None),
    "clone": (56, 220),
    "clone3": (435, 435),
    "ptrace": (101, 117),
    "tgkill": (234, 131),
    "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424),
    "pidfd_getfd": (438, 438),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "capset": (126, 91),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "personality": (135, 92),
    "seccomp": (317, 277),
    "landlock_create_ruleset": (444, 444),
    "bpf": (321, 280),
    "io_uring_setup": (425, 425),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "acct": (163, 89),
    "syslog": (103, 116),
    "quotactl": (179, 60),
    "open_by_handle_at": (304, 265),
    "name_to_handle_at": (303, 264),
    "fanotify_init": (300, 262),
    "memfd_secret": (447, 447),
    "io_setup": (206, 0),
    "mq_open": (240, 180),
    "shmget": (29, 194),
    "semget": (64, 190),
    "msgget": (68, 186),
    "iopl": (172, None),
    "modify_ldt": (154, None),
    "vhangup": (153, 58),
    "mlockall": (151, 230),
    "mlock": (149, 228),
    "process_madvise": (440, 440),
    "inotify_init1": (294, 26),
    "rt_sigqueueinfo": (129, 138),
    "tkill": (200, 130),
    "connect": (42, 203),
    "bind": (49, 200),
    "listen": (50, 201),
    "accept4": (288, 242),
    "sendmsg": (46, 211),
    "recvmsg": (47, 212),
    "sendmmsg": (307, 269),
    "recvmmsg": (299, 243),
    "setsockopt": (54, 208),
    "sched_setscheduler": (144, 119),
    "setpriority": (141, 140),
    "ioprio_set": (251, 30),
    "mremap": (25, 216),
}
_HERE = -100  # AT_FDCWD
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_SECCOMP = 22
_PR_SET_PTRACER = 0x59616D61

Attempt = Callable[[], object]


def call(name: str, *arguments: object) -> int:
    """A system call by its number. Raises OSError, also where the machine has none of the name."""
    number = _NUMBERS[name][_column]
    if number is None:
        raise OSError(errno.EPERM, name)
    words = [ctypes.c_long(word) if isinstance(word, int) else word for word in arguments]
    result = int(_libc.syscall(ctypes.c_long(number), *words))
    if result == -1:
        raise OSError(ctypes.get_errno(), name)
    return result


def prctl(option: int, *arguments: int) -> None:
    words = [ctypes.c_ulong(word) for word in (*arguments, 0, 0, 0, 0)[:4]]
    if _libc.prctl(option, *words) == -1:
        raise OSError(ctypes.get_errno(), "prctl")


def read(path: str) -> None:
    with open(path, "rb") as file:
        file.read(1)


def open_to_write(path: str) -> None:
    with open(path, "r+b"):
        pass


def write(path: str) -> None:
    with open(path, "wb"):
        pass


def create_and_remove(folder: str) -> None:
    path = f"{folder}/sandbox-probe-{os.getpid()}"
    write(path)
    os.unlink(path)


def forked(name: str, *arguments: object) -> None:
    """Make a process; in it, end."""
    if call(name, *arguments) == 0:
        os._exit(0)


def open_socket(family: int, kind: int = socket.SOCK_STREAM) -> Attempt:
    return lambda: socket.socket(family, kind).close()


def open_pair() -> None:
    for end in socket.socketpair():
        end.close()


def connect_to(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)


def execute_from_memory() -> None:
    """What is there is no program, so that nothing is replaced where it is allowed."""
    descriptor = os.memfd_create("program")
    try:
        os.write(descriptor, b"no program")
        call("execveat", descriptor, b"", None, None, 0x1000)
    finally:
        os.close(descriptor)


def mapped(protection: int) -> mmap.mmap:
    return mmap.mmap(-1, mmap.PAGESIZE, prot=protection)


def make_executable() -> None:
    with mapped(mmap.PROT_READ | mmap.PROT_WRITE) as memory:
        view = ctypes.c_char.from_buffer(memory)
        address = ctypes.addressof(view)
        result = _libc.mprotect(ctypes.c_void_p(address), mmap.PAGESIZE, 5)
        number = ctypes.get_errno()
        del view
        if result == -1:
            raise OSError(number, "mprotect")


def watch(path: str) -> None:
    descriptor = call("inotify_init1", 0)
    try:
        if _libc.inotify_add_watch(descriptor, path.encode(), 2) == -1:
            raise OSError(ctypes.get_errno(), "inotify_add_watch")
    finally:
        os.close(descriptor)


def queue_signal(pid: int) -> None:
    information = (ctypes.c_int32 * 32)(0, 0, -1)  # SI_QUEUE
    call("rt_sigqueueinfo", pid, 0, information)


def limit(kind: int, value: int) -> None:
    try:
        resource.setrlimit(kind, (0, value))
    except ValueError as error:  # Python's word for EPERM here
        raise OSError(errno.EPERM, str(error)) from error


def file_attempts(args: argparse.Namespace) -> Iterator[tuple[str, Attempt]]:
    folder, model = args.folder, f"/proc/self/fd/{args.model_fd}"
    for path in (
        "/etc/shadow",
        "/etc/passwd",
        "/etc/hostname",
        "/dev/zero",
        "/proc/1/cmdline",
        "/proc/self/net/unix",
        "/proc/self/mountinfo",
        "/proc/self/environ",
    ):
        yield f"read {path}", partial(read, path)
    for path in ("/", "/root", "/home", "/etc", "/proc", "/dev", "/tmp", "/sys"):
        yield f"list {path}", partial(os.listdir, path)
    for name in ("environ", "maps", "mem", "cmdline", "status", "cgroup"):
        yield f"read {name} of another", partial(read, f"/proc/{args.victim}/{name}")
    yield "read what lies beside the model", lambda: read(f"{folder}/beside")
    yield "list the directory of the model", lambda: os.listdir(folder)
    yield "write the model", partial(open_to_write, model)
    yield "create a file beside the model", lambda: write(f"{folder}/new")
    yield "create a file in shared memory", lambda: create_and_remove("/dev/shm")
    yield "create a file for everybody", lambda: create_and_remove("/tmp")
    for path in ("/proc/self/oom_score_adj", "/proc/self/mem", "/proc/self/comm"):
        yield f"write {path}", partial(open_to_write, path)
    yield "overwrite a file", lambda: write(f"{folder}/beside")
    yield "truncate a file", lambda: os.truncate(f"{folder}/beside", 0)
    yield "remove a file", lambda: os.unlink(f"{folder}/beside")
    yield "rename a file", lambda: os.rename(f"{folder}/beside", f"{folder}/renamed")
    yield "link a file", lambda: os.link(f"{folder}/model", f"{folder}/linked")
    yield "make a directory", lambda: os.mkdir(f"{folder}/directory")
    yield "make a symbolic link", lambda: os.symlink("/etc", f"{folder}/symbolic")
    yield "make a pipe with a name", lambda: os.mkfifo(f"{folder}/pipe")
    yield "change the mode of a file", lambda: os.chmod(f"{folder}/model", 0o666)
    yield "change the mode of the model", lambda: os.fchmod(args.model_fd, 0o666)
    yield "change the owner of a file", lambda: os.chown(f"{folder}/model", os.getuid(), -1)
    yield "change the times of a file", lambda: os.utime(f"{folder}/model")
    yield "give a file an attribute", lambda: os.setxattr(f"{folder}/model", "user.x", b"y")
    yield "lock the model", lambda: fcntl.flock(args.model_fd, fcntl.LOCK_SH)
    yield "change the directory", lambda: os.chdir("/")
    yield "watch /etc", lambda: watch("/etc")
    yield "watch the whole system", lambda: call("fanotify_init", 0, 0)
    yield "get a handle of a file", lambda: handle_of(folder)
    yield "open by handle", lambda: call("open_by_handle_at", _HERE, None, 0)


def handle_of(path: str) -> None:
    room = ctypes.create_string_buffer(128 + 8)
    ctypes.c_uint.from_buffer(room).value = 128
    mount = ctypes.c_int()
    call("name_to_handle_at", _HERE, path.encode(), room, ctypes.byref(mount), 0)


def socket_attempts(args: argparse.Namespace) -> Iterator[tuple[str, Attempt]]:
    own = args.socket_fd
    yield "open a unix socket", open_socket(socket.AF_UNIX)
    yield "open an internet socket", open_socket(socket.AF_INET)
    yield "open a datagram socket", open_socket(socket.AF_INET, socket.SOCK_DGRAM)
    yield "open an internet 6 socket", open_socket(socket.AF_INET6)
    yield "open a raw socket", open_socket(socket.AF_INET, socket.SOCK_RAW)
    yield "open a netlink socket", open_socket(socket.AF_NETLINK, socket.SOCK_RAW)
    yield "open a packet socket", open_socket(socket.AF_PACKET, socket.SOCK_RAW)
    yield "open a crypto socket", open_socket(socket.AF_ALG, socket.SOCK_SEQPACKET)
    yield "open a vsock", open_socket(socket.AF_VSOCK)
    yield "open a pair of sockets", open_pair
    yield "connect to the daemon", lambda: connect_to(args.daemon_socket)
    yield "connect its own socket", lambda: call("connect", own, b"\1\0/x\0", 5)
    yield "bind its own socket", lambda: call("bind", own, b"\1\0", 2)
    yield "listen on its own socket", lambda: call("listen", own, 1)
    yield "accept on its own socket", lambda: call("accept4", own, None, None, 0)
    yield "set an option of its own socket", lambda: call("setsockopt", own, 1, 2, bytes(4), 4)
    yield "send a descriptor away", lambda: socket_of(own, send_descriptor)
    yield "send a descriptor through the model", lambda: call("sendmsg", args.model_fd, None, 0)
    yield "receive a descriptor", lambda: socket_of(own, receive_descriptor)
    yield "receive through the model", lambda: call("recvmsg", args.model_fd, None, 0)
    yield "send many at once", lambda: call("sendmmsg", args.states_fd, None, 0, 0)
    yield "receive many at once", lambda: call("recvmmsg", args.states_fd, None, 0, 0, None)
    yield (
        "set an option of the states' socket",
        lambda: call("setsockopt", args.states_fd, 1, 2, bytes(4), 4),
    )
    yield "connect the states' socket", lambda: call("connect", args.states_fd, b"\1\0/x\0", 5)


def socket_of(descriptor: int, use: Callable[[socket.socket], None]) -> None:
    connection = socket.socket(fileno=descriptor)
    try:
        use(connection)
    finally:
        connection.detach()


def send_descriptor(connection: socket.socket) -> None:
    socket.send_fds(connection, [b"x"], [connection.fileno()])


def receive_descriptor(connection: socket.socket) -> None:
    connection.recvmsg(1, socket.CMSG_LEN(4), socket.MSG_DONTWAIT)


def state_is_kept(states_fd: int) -> bool:
    """Make, seal and send away a state, and take one that the daemon sends."""
    connection = socket.socket(fileno=states_fd)
    states = KeptStates(connection, 1000)
    memory = OneByteMemory()
    states.keep(memory, 0, "uid:0", [1, 2])
    offer = states.index.best("uid:0", [1, 2, 3])
    is_restored = offer is not None and states.restore(memory, 1, offer)
    states.take_delivered(memory)
    delivered = states.index.best("uid:1", [1, 2, 3])
    states.close()
    connection.detach()
    return is_restored and delivered is not None


class OneByteMemory:
    """What keeps to StateMemory and needs no model."""

    context_tokens = 10

    def state_bytes(self, slot: int) -> int:
        return 1

    def save_state(self, slot: int, room: memoryview) -> bool:
        room[0] = 7
        return True

    def restore_state(self, slot: int, state: memoryview) -> bool:
        return state[0] == 7


def process_attempts(args: argparse.Namespace) -> Iterator[tuple[str, Attempt]]:
    victim = args.victim
    yield "execute a program", lambda: subprocess.run(["/bin/true"], check=True)
    yield "replace itself", lambda: os.execv("/nonexistent", ["x"])
    yield "execute from memory", execute_from_memory
    yield "fork", lambda: os.waitpid(os.fork() or os._exit(0), 0)
    yield "fork by number", lambda: forked("fork")
    yield "clone a process", lambda: forked("clone", signal.SIGCHLD, None, None, None, None)
    yield "clone into a namespace", lambda: forked("clone", 0x10000000, None, None, None, None)
    yield "clone a process the new way", lambda: forked("clone3", bytes(64), 64)
    yield "trace another", lambda: call("ptrace", 0x4206, victim, None, None)
    yield "be traced", lambda: call("ptrace", 0, 0, None, None)
    yield (
        "read the memory of another",
        lambda: call("process_vm_readv", victim, None, 0, None, 0, 0),
    )
    yield "write to another", lambda: call("process_vm_writev", victim, None, 0, None, 0, 0)
    yield "advise another", lambda: call("process_madvise", 99, None, 0, 0, 0)
    yield "compare with another", lambda: call("kcmp", os.getpid(), victim, 2, 0, 0)
    yield "signal the parent", lambda: os.kill(os.getppid(), 0)
    yield "signal another", lambda: os.kill(victim, 0)
    yield "signal its group", lambda: os.kill(0, 0)
    yield "signal everybody", lambda: os.kill(-1, 0)
    yield "signal a thread of another", lambda: call("tgkill", victim, victim, 0)
    yield "signal a thread by number", lambda: call("tkill", victim, 0)
    yield "queue a signal", lambda: queue_signal(victim)
    yield "have signals sent to another", lambda: fcntl.fcntl(args.socket_fd, 8, victim)
    yield "get a handle of another", lambda: os.close(os.pidfd_open(victim))
    yield "signal by handle", lambda: call("pidfd_send_signal", 99, 0, None, 0)
    yield "take a descriptor of another", lambda: call("pidfd_getfd", 99, 0, 0)
    yield "see the limits of another", lambda: resource.prlimit(victim, resource.RLIMIT_NOFILE)
    yield "set a limit", lambda: limit(resource.RLIMIT_NPROC, 100)
    yield "allow core dumps", lambda: limit(resource.RLIMIT_CORE, 1)
    yield "set a priority", lambda: call("setpriority", 0, 0, 0)
    yield "set an input priority", lambda: call("ioprio_set", 1, 0, 0)
    yield "move another to a processor", lambda: os.sched_setaffinity(victim, {0})
    yield "schedule another", lambda: os.sched_setscheduler(victim, 0, os.sched_param(0))
    yield "begin a session", os.setsid
    yield "change its group", lambda: os.setpgid(0, 0)


def privilege_attempts(args: argparse.Namespace) -> Iterator[tuple[str, Attempt]]:
    yield "change the user", lambda: os.setuid(os.getuid())
    yield "change the group", lambda: os.setgid(os.getgid())
    yield "change the groups", lambda: os.setgroups([])
    yield "change its capabilities", lambda: call("capset", None, None)
    yield "change the root", lambda: os.chroot("/")
    yield "leave its namespaces", lambda: call("unshare", 0)
    yield "get a user namespace", lambda: call("unshare", 0x10000000)
    yield "enter a namespace", lambda: call("setns", 99, 0)
    yield "mount", lambda: call("mount", b"none", b"/nonexistent", b"tmpfs", 0, None)
    yield "unmount", lambda: call("umount2", b"/nonexistent", 0)
    yield "turn the root", lambda: call("pivot_root", b"/nonexistent", b"/nonexistent")
    yield "change its personality", lambda: call("personality", 0xFFFFFFFF)
    yield "be dumpable again", lambda: prctl(_PR_SET_DUMPABLE, 1)
    yield "outlive the daemon", lambda: prctl(_PR_SET_PDEATHSIG, 0)
    yield "let anybody trace it", lambda: prctl(_PR_SET_PTRACER, 2**64 - 1)
    yield "filter anew", lambda: prctl(_PR_SET_SECCOMP, 2)
    yield "add a filter", lambda: call("seccomp", 1, 0, None)
    yield "add a ruleset", lambda: call("landlock_create_ruleset", None, 0, 1)
    yield "write and execute memory", lambda: mapped(7).close()
    yield "make memory executable", make_executable
    yield "type into a terminal", lambda: fcntl.ioctl(args.socket_fd, 0x5412, b"x")
    yield "control a console", lambda: fcntl.ioctl(args.socket_fd, 0x541C, b"x")
    yield "ask a file's flags", lambda: fcntl.ioctl(args.model_fd, 0x80086601, bytes(8))


def kernel_attempts() -> Iterator[tuple[str, Attempt]]:
    calls: dict[str, tuple[object, ...]] = {
        "bpf": (99, None, 0),
        "io_uring_setup": (0, None),
        "io_setup": (0, None),
        "keyctl": (0, -3, 0),
        "add_key": (None, None, None, 0, 0),
        "request_key": (None, None, None, 0),
        "perf_event_open": (None, 0, -1, -1, 0),
        "userfaultfd": (0x800000,),
        "memfd_secret": (0x10,),
        "init_module": (None, 0, None),
        "finit_module": (99, None, 0),
        "delete_module": (None, 0),
        "kexec_load": (0, 0, None, 0xFF),
        "reboot": (0, 0, 0, None),
        "swapon": (b"/nonexistent", 0),
        "swapoff": (b"/nonexistent",),
        "settimeofday": (None, None),
        "clock_settime": (99, None),
        "clock_adjtime": (99, None),
        "acct": (b"/nonexistent",),
        "syslog": (10, None, 0),
        "quotactl": (0, None, 0, None),
        "mq_open": (b"nonexistent", 0, 0, None),
        "shmget": (0, 4096, 0o600),
        "semget": (0, -1, 0o600),
        "msgget": (1, 0),
        "mlock": (None, 0),
        "mlockall": (0,),
        "iopl": (0,),
        "modify_ldt": (0, None, 0),
    }
    for name, arguments in calls.items():
        yield name, partial(call, name, *arguments)


def attempts(args: argparse.Namespace) -> Iterator[tuple[str, Attempt]]:
    """Everything that is tried, by name."""
    yield from file_attempts(args)
    yield from socket_attempts(args)
    yield from process_attempts(args)
    yield from privilege_attempts(args)
    yield from kernel_attempts()


def outcome(attempt: Attempt) -> str:
    try:
        attempt()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    return "done"


def outcome_in_a_child(attempt: Attempt) -> str:
    """As `outcome`, where an attempt that succeeds would change what the next one may do."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, outcome(attempt).encode())
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        said = pipe.read().decode()
    os.waitpid(child, 0)
    return said


def answer(engine_name: str, model_fd: int) -> str:
    """Load the model and have it answer: threads, callbacks, templates, and reading the file."""
    if engine_name == "llama":
        from unified_llm.worker.engine import open_llama_engine as open_engine
    else:
        from unified_llm.worker.fake_engine import open_fake_engine as open_engine
    engine = open_engine()
    path = f"/proc/self/fd/{model_fd}"
    engine.load(
        Load(model="m", path=path, context_tokens=256, slots=2, threads=2), lambda fraction: None
    )
    engine.submit(
        Generate(
            id=1,
            principal="uid:0",
            messages=(Message(Role.USER, "Say hello."),),
            max_tokens=4,
            stop=(),
            sampling=Sampling(temperature=0),
        )
    )
    said = ""
    while True:
        for report in engine.step(lambda: None):
            if isinstance(report, Delta):
                said += report.text
            elif isinstance(report, Done):
                return said


def threads_run() -> bool:
    ran: list[int] = []
    thread = threading.Thread(target=lambda: ran.append(threading.get_native_id()))
    thread.start()
    thread.join()
    return ran[0] != os.getpid()


def thread_is_confined() -> str:
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(outcome(lambda: read("/etc/passwd"))))
    thread.start()
    thread.join()
    return found[0]


def become(user: int) -> None:
    """What only root can read of the interpreter is imported before."""
    codecs.lookup("unicode-escape")  # of templates
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # its threads would be there before the sandbox

    import unified_llm.worker.engine
    import unified_llm.worker.fake_engine  # noqa: F401

    del os.environ["OPENBLAS_NUM_THREADS"]
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    for name in ("socket-fd", "model-fd", "states-fd", "parent-pid", "victim"):
        parser.add_argument(f"--{name}", type=int, required=True)
    for name in ("folder", "daemon-socket", "engine"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--user", type=int)
    parser.add_argument("--free", action="store_true", help="without any confinement")
    return parser.parse_args(words)


def main() -> None:
    args = parse()
    if args.user is not None:
        become(args.user)
    before = time.perf_counter()
    layers: tuple[str, ...] = ()
    if not args.free:
        layers = confine(
            args.parent_pid,
            socket=args.socket_fd,
            models=[args.model_fd],
            states=args.states_fd,
        )
    seconds = time.perf_counter() - before
    attempted = outcome_in_a_child if args.free else outcome
    outcomes = {name: attempted(attempt) for name, attempt in attempts(args)}
    report = {
        "outcomes": outcomes,
        "layers": layers,
        "seconds": seconds,
        "threads": threads_run(),
        "thread": thread_is_confined(),
        "state": state_is_kept(args.states_fd),
        "answer": answer(args.engine, args.model_fd),
    }
    sys.stdout.write(json.dumps(report))


if __name__ == "__main__":
    main()
