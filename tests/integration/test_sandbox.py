"""What a worker that has been taken over can do: nothing but answer.

A probe confines itself as every worker does and tries what none may do, as root and as a user of no
rights; in the same process the model then loads and answers.
"""

import json
import os
import platform
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests import kernel_without
from tests.integration import sandbox_probe
from tests.integration.test_worker_process import WorkerProcess, load
from tests.real_models import smollm2
from tests.tiny_gguf import write_tiny_gguf
from tests.whole_daemon import open_daemon
from unified_llm.worker import state_channel
from unified_llm.worker.landlock import landlock_version
from unified_llm.worker.protocol import Hello, Loaded, LoadFailed, NotConfined, Progress
from unified_llm.worker.state_channel import Kept
from unified_llm.worker.state_file import write_state

pytestmark = [pytest.mark.slow, pytest.mark.system]

_NOBODY = 65534
_LIMIT = 120.0  # seconds; generous, since the machine may be busy
_NOWHERE = sandbox_probe.parse(
    [
        *("--socket-fd=0", "--model-fd=0", "--states-fd=0", "--parent-pid=1", "--victim=1"),
        *("--folder=/", "--daemon-socket=/", "--engine=fake"),
    ]
)
_ATTEMPTS = [name for name, _ in sandbox_probe.attempts(_NOWHERE)]
# Free for everybody, also in a container: the rest is refused to most without any sandbox.
_ORDINARY = [
    name
    for group in (
        sandbox_probe.file_attempts,
        sandbox_probe.socket_attempts,
        sandbox_probe.process_attempts,
    )
    for name, _ in group(_NOWHERE)
    if name
    not in {
        "read /etc/shadow", "read /proc/self/environ", "list /root", "read environ of another",
        "read maps of another",
        "read mem of another", "write the model", "write /proc/self/oom_score_adj",
        "write /proc/self/mem", "write /proc/self/comm", "change the times of a file",
        "give a file an attribute", "link a file", "change the mode of a file",
        "change the mode of the model", "change the owner of a file", "watch the whole system",
        "open by handle", "open a raw socket", "open a packet socket", "trace another",
        "compare with another", "see the limits of another", "clone into a namespace",
    }
]  # fmt: skip


def deliver_state(daemon_end: socket.socket) -> None:
    """What a worker may be given: a state of a principal that asks it."""

    def save(room: memoryview) -> bool:
        room[0] = 7
        return True

    descriptor = write_state([1, 2], 1, save)
    assert descriptor is not None
    assert state_channel.send(daemon_end, Kept(state=1, principal="uid:1"), descriptor)
    os.close(descriptor)


@contextmanager
def open_playground(folder: Path, model: Path) -> Iterator[tuple[tuple[int, ...], list[str]]]:
    """Where everybody may do everything; the probe's descriptors, and its options for the place."""
    folder.chmod(0o777)
    for name in ("beside", "model"):
        (folder / name).write_text("somebody's file")
        (folder / name).chmod(0o666)
    door = folder / "daemon.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(door))
        listener.listen()
        door.chmod(0o777)
        ours, theirs = socket.socketpair()
        daemon_end, states = state_channel.open_pair()
        with ours, theirs, daemon_end, states, model.open("rb") as file:
            deliver_state(daemon_end)
            descriptors = theirs.fileno(), file.fileno(), states.fileno()
            options = {
                "--socket-fd": descriptors[0],
                "--model-fd": descriptors[1],
                "--states-fd": descriptors[2],
                "--parent-pid": os.getpid(),
                "--folder": folder,
                "--daemon-socket": door,
            }
            yield descriptors, [str(word) for pair in options.items() for word in pair]


def run_probe(model: Path, *options: str, user: int | None = None) -> dict[str, Any]:
    """What the probe reports. user: who it is; None for us."""
    who = [] if user is None else ["--user", str(user)]
    command = [sys.executable, "-I", sandbox_probe.__file__, *options, *who]
    with (
        TemporaryDirectory() as folder,
        open_playground(Path(folder), model) as (descriptors, place),
        # Somebody of the same user, to be spied upon.
        subprocess.Popen(["/bin/sleep", "1000"], user=user) as victim,
    ):
        try:
            done = subprocess.run(
                [*command, *place, "--victim", str(victim.pid)],
                pass_fds=descriptors,
                env={},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                start_new_session=True,
                timeout=_LIMIT,
                check=True,
            )
        finally:
            victim.kill()
    report: dict[str, Any] = json.loads(done.stdout)
    return report


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_gguf(tmp_path_factory.mktemp("models") / "tiny.gguf")


@pytest.fixture(scope="module", params=[None, _NOBODY], ids=["root", "nobody"])
def report(request: pytest.FixtureRequest, tiny: Path) -> dict[str, Any]:
    return run_probe(tiny, "--engine", "llama", user=request.param)


@pytest.fixture(scope="module")
def free(tiny: Path) -> dict[str, Any]:
    return run_probe(tiny, "--engine", "fake", "--free", user=_NOBODY)


@pytest.mark.parametrize("attempt", _ATTEMPTS)
def test_a_worker_is_refused(attempt: str, report: dict[str, Any]) -> None:
    # What is hidden from the C library, so that it does without, looks as if it were not there.
    refusals = {"clone a process the new way": {"ENOSYS"}}
    assert report["outcomes"][attempt] in refusals.get(attempt, {"EPERM", "EACCES"})


@pytest.mark.parametrize("attempt", _ORDINARY)
def test_without_the_sandbox_anybody_may(attempt: str, free: dict[str, Any]) -> None:
    assert free["outcomes"][attempt] not in {"EPERM", "EACCES"}


def test_the_confined_worker_loads_and_answers(report: dict[str, Any]) -> None:
    assert report["answer"]
    assert report["threads"]


def test_it_saves_and_restores_states_all_the_same(report: dict[str, Any]) -> None:
    assert report["state"]


def test_its_later_threads_are_confined_too(report: dict[str, Any]) -> None:
    assert report["thread"] == "EACCES"


def test_every_layer_is_reported(report: dict[str, Any]) -> None:
    assert {"rlimits", "capabilities", "no-new-privileges", "seccomp"} <= set(report["layers"])
    (version,) = [layer for layer in report["layers"] if layer.startswith("landlock-")]
    assert int(version.removeprefix("landlock-")) >= 1


@pytest.mark.parametrize("engine", ["llama", "fake"])
def test_real_models_answer_in_it(engine: str) -> None:
    assert run_probe(smollm2(), "--engine", engine)["answer"]


def without(layer: str) -> tuple[str, ...]:
    """What to put before a command, so that its kernel seems to lack `layer`."""
    return (sys.executable, "-I", kernel_without.__file__, layer)


@contextmanager
def open_worker_without(layer: str, model: Path, *options: str) -> Iterator[WorkerProcess]:
    """A worker on a kernel that answers ENOSYS to the call that `layer` needs."""
    ours, theirs = socket.socketpair()
    with ours, theirs, model.open("rb") as file:
        words = ["--socket-fd", str(theirs.fileno()), "--keep-fd", str(file.fileno())]
        words += ["--engine", "fake", "--parent-pid", str(os.getpid())]
        child = subprocess.Popen(
            [*without(layer), sys.executable, "-I", "-m", "unified_llm.worker", *words, *options],
            pass_fds=(theirs.fileno(), file.fileno()),
            env={},
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        theirs.close()
        ours.settimeout(_LIMIT)
        try:
            yield WorkerProcess(child, ours, file)
        finally:
            child.kill()
            child.wait()


@pytest.mark.parametrize("layer", ["landlock", "seccomp"])
def test_a_kernel_without_a_layer_is_named_and_ends_the_worker(layer: str, tiny: Path) -> None:
    with open_worker_without(layer, tiny) as worker:
        said = worker.receive()
        assert isinstance(said, NotConfined)
        assert said.layer == layer
        assert "Function not implemented" in said.reason
        assert worker.receive() is None
        assert worker.wait() == 77


@pytest.mark.parametrize("layer", ["landlock", "seccomp"])
def test_with_best_effort_it_goes_on_in_the_layers_there_are(layer: str, tiny: Path) -> None:
    with open_worker_without(layer, tiny, "--sandbox", "best-effort") as worker:
        hello = worker.receive()
        assert isinstance(hello, Hello)
        (kept,) = {"landlock", "seccomp"} - {layer}
        found = [name for name in hello.sandbox if name.startswith(("landlock", "seccomp"))]
        assert [name.partition("-")[0] for name in found] == [kept]
        worker.send(load(tiny))
        assert isinstance(worker.receive(), Progress | Loaded | LoadFailed)


def test_the_layers_of_each_worker_are_shown() -> None:
    with open_daemon({"worker": {"engine": "llama"}}, with_bus=False) as daemon:
        assert daemon.run("unified-llm", "chat", "--max-tokens", "2", "Hello").returncode == 0
        status = json.loads(daemon.run("unified-llm", "status", "--json").stdout)
        (worker,) = status["workers"]
        assert worker["model"] == "tiny"
        assert worker["sandbox"][-1] == "seccomp"
        (pid,) = daemon.workers()
        assert "Seccomp:\t2\n" in Path(f"/proc/{pid}/status").read_text()
        shown = daemon.run("unified-llm", "status").stdout
        assert f"tiny: {', '.join(worker['sandbox'])}\n" in shown


def test_a_daemon_on_a_kernel_without_a_layer_says_what_is_missing_and_what_to_do() -> None:
    with open_daemon(with_bus=False, wrapper=without("landlock")) as daemon:
        refused = daemon.run("unified-llm", "chat", "Hello")
        assert refused.returncode != 0
        assert "landlock is missing (" in refused.stderr
        assert "worker.sandbox_required" in refused.stderr


def test_a_daemon_may_be_told_to_do_without_it() -> None:
    settings = {"worker": {"engine": "fake", "sandbox_required": False}}
    with open_daemon(settings, with_bus=False, wrapper=without("landlock")) as daemon:
        assert daemon.run("unified-llm", "chat", "Hello").stdout == "Hello\n"
        (worker,) = json.loads(daemon.run("unified-llm", "status", "--json").stdout)["workers"]
        assert worker["sandbox"][-1] == "seccomp"
        assert not any(layer.startswith("landlock") for layer in worker["sandbox"])


_OLDER_KERNEL = """
import os, sys
from unified_llm.worker import landlock
from unified_llm.worker.kernel import prctl
prctl(38, 1)
landlock.landlock_version = lambda: int(sys.argv[1])
landlock.restrict_self(["/usr/lib"], ["/dev/null"], [])
os.listdir("/usr/lib")
open("/dev/null", "w").close()
for attempt in (lambda: open("/etc/passwd"), lambda: os.mkdir(sys.argv[2])):
    try:
        attempt()
    except PermissionError:
        print("refused")
"""


@pytest.mark.parametrize("version", range(1, landlock_version() + 1))
def test_landlock_works_as_an_older_kernel_has_it(version: int, tmp_path: Path) -> None:
    words = [sys.executable, "-c", _OLDER_KERNEL, str(version), str(tmp_path / "new")]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout == "refused\n" * 2


_OTHER_INTERFACE = """
import ctypes
from unified_llm.worker.kernel import prctl
from unified_llm.worker.seccomp import filter_system_calls
prctl(38, 1)
filter_system_calls()
ctypes.CDLL(None).syscall(0x40000027)
"""

if platform.machine() == "x86_64":

    def test_a_call_by_another_interface_ends_the_process() -> None:
        """getpid of x32, where numbers mean something else."""
        done = subprocess.run([sys.executable, "-c", _OTHER_INTERFACE], check=False)
        assert done.returncode == -signal.SIGSYS
