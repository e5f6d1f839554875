"""The worker as a real process: what it says, what it survives, and that it always goes."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

import pytest

from tests.tiny_gguf import Defect, write_tiny_gguf
from unified_llm.domain.chat import FinishReason, Message, Role, Sampling
from unified_llm.worker.frames import FrameBuffer
from unified_llm.worker.protocol import (
    PROTOCOL_VERSION,
    Cancel,
    Delta,
    Done,
    Failed,
    FromWorker,
    Generate,
    Heartbeat,
    Hello,
    Load,
    Loaded,
    LoadFailed,
    Progress,
    Started,
    Stop,
    ToWorker,
    decode_from_worker,
    encode,
)

pytestmark = pytest.mark.slow

_DESCRIPTORS = Path("/proc/self/fd")
_LIMIT = 60.0  # seconds; generous, since the machine may be busy
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}


class WorkerProcess:
    """A worker and our end of its socket."""

    def __init__(
        self, child: "subprocess.Popen[bytes]", connection: socket.socket, model: IO[bytes]
    ) -> None:
        self.child = child
        self.connection = connection
        self._model = model
        self._frames = FrameBuffer()
        self._ready: list[FromWorker] = []

    def send(self, *messages: ToWorker) -> None:
        self.connection.sendall(b"".join(encode(message) for message in messages))

    def receive(self) -> FromWorker | None:
        """The next message but heartbeats; None at the end of the connection."""
        while True:
            while self._ready:
                message = self._ready.pop(0)
                if not isinstance(message, Heartbeat):
                    return message
            try:
                data = self.connection.recv(65536)
            except ConnectionResetError:
                return None
            if not data:
                return None
            self._ready += [decode_from_worker(body) for body in self._frames.feed(data)]

    def receive_heartbeat(self) -> Heartbeat:
        while True:
            for message in self._ready:
                if isinstance(message, Heartbeat):
                    self._ready.remove(message)
                    return message
            data = self.connection.recv(65536)
            assert data
            self._ready += [decode_from_worker(body) for body in self._frames.feed(data)]

    def load(self, model: Path, *, context_tokens: int = 256, slots: int = 4) -> Loaded:
        assert isinstance(self.receive(), Hello)
        self.send(load(self.given(model), context_tokens=context_tokens, slots=slots))
        while isinstance(message := self.receive(), Progress):
            pass
        assert isinstance(message, Loaded), message
        return message

    def given(self, model: Path) -> Path:
        """`model` in the file the worker was started with: it can open no other."""
        if model.parent == _DESCRIPTORS:
            return model
        self._model.truncate(0)
        self._model.write(model.read_bytes())
        self._model.flush()
        return _DESCRIPTORS / str(self._model.fileno())

    def answers(self, *ids: int) -> dict[int, list[FromWorker]]:
        """What comes for these requests until all of them have ended."""
        found: dict[int, list[FromWorker]] = {number: [] for number in ids}
        left = set(ids)
        while left:
            message = self.receive()
            assert isinstance(message, Started | Delta | Done | Failed), message
            found[message.id].append(message)
            if isinstance(message, Done | Failed):
                left.remove(message.id)
        return found

    def wait(self) -> int:
        return self.child.wait(_LIMIT)


def load(model: Path, *, context_tokens: int = 256, slots: int = 4) -> Load:
    return Load(
        model="tiny", path=str(model), context_tokens=context_tokens, slots=slots, threads=1
    )


def generate(number: int, text: str, *, max_tokens: int | None = None) -> Generate:
    return Generate(
        id=number,
        principal="uid:1000",
        messages=(Message(Role.USER, text),),
        max_tokens=max_tokens,
        stop=(),
        sampling=Sampling(temperature=0),
    )


@contextmanager
def open_worker(
    engine: str = "fake",
    *,
    environment: dict[str, str] | None = None,
    keep: tuple[int, ...] = (),
    leaked: tuple[int, ...] = (),
    parent: int | None = None,
) -> Iterator[WorkerProcess]:
    ours, theirs = socket.socketpair()
    options = ["--socket-fd", theirs.fileno(), "--engine", engine]
    options += ["--parent-pid", parent or os.getpid()]
    for descriptor in keep:
        options += ["--keep-fd", descriptor]
    with ours, TemporaryFile() as model:
        options += ["--keep-fd", model.fileno()]
        with theirs:
            child = subprocess.Popen(
                [sys.executable, "-I", "-m", "unified_llm.worker", *map(str, options)],
                pass_fds=(theirs.fileno(), model.fileno(), *keep, *leaked),
                env=_ENVIRONMENT if environment is None else environment,
                stdin=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        ours.settimeout(_LIMIT)
        try:
            yield WorkerProcess(child, ours, model)
        finally:
            child.kill()
            child.wait()


def fake_model(path: Path, content: str = "") -> Path:
    path.write_bytes(b"GGUF" + content.encode())
    return path


def text_of(messages: list[FromWorker]) -> str:
    return "".join(message.text for message in messages if isinstance(message, Delta))


def is_alive(pid: int) -> bool:
    """Whether the process still runs; a zombie does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_until_gone(pid: int) -> None:
    end = time.monotonic() + _LIMIT
    while is_alive(pid):
        assert time.monotonic() < end, f"process {pid} is still there"
        time.sleep(0.01)


@pytest.mark.parametrize("engine", ["fake", "llama"])
def test_it_says_hello_first_then_loads_then_answers(engine: str, tmp_path: Path) -> None:
    with open_worker(engine) as worker:
        hello = worker.receive()
        assert isinstance(hello, Hello)
        assert (hello.version, hello.pid, hello.engine) == (
            PROTOCOL_VERSION,
            worker.child.pid,
            engine,
        )
        assert hello.build
        worker.send(load(worker.given(write_tiny_gguf(tmp_path / "tiny.gguf"))))
        fractions = []
        while isinstance(message := worker.receive(), Progress):
            fractions.append(message.fraction)
        assert fractions == sorted(fractions)
        assert fractions[-1] == 1.0
        assert isinstance(message, Loaded)
        assert (message.context_tokens, message.slots) == (256, 4)
        worker.send(generate(7, "hello there", max_tokens=5))
        first, *rest, last = worker.answers(7)[7]
        assert isinstance(first, Started)
        assert text_of(rest)
        assert isinstance(last, Done)


def test_four_requests_are_answered_in_turns_by_one_process(tmp_path: Path) -> None:
    with open_worker("llama") as worker:
        worker.load(write_tiny_gguf(tmp_path / "tiny.gguf"))
        worker.send(*(generate(number, f"hello {number}", max_tokens=40) for number in range(4)))
        arrivals: list[int] = []
        ended = 0
        while ended < 4:
            message = worker.receive()
            if isinstance(message, Delta):
                arrivals.append(message.id)
            elif isinstance(message, Done):
                assert message.reason is FinishReason.LENGTH
                assert message.completion_tokens == 40
                ended += 1
        last_first_word = max(arrivals.index(number) for number in range(4))
        first_last_word = min(
            len(arrivals) - 1 - arrivals[::-1].index(number) for number in range(4)
        )
        assert last_first_word < first_last_word


def test_the_end_of_the_connection_ends_it_in_the_middle_of_a_step(tmp_path: Path) -> None:
    with open_worker() as worker:
        worker.load(fake_model(tmp_path / "m"))
        worker.send(generate(1, "!hang"))
        assert isinstance(worker.receive(), Started)
        worker.connection.close()
        assert worker.wait() == 0


def test_stop_ends_it_in_the_middle_of_a_step(tmp_path: Path) -> None:
    with open_worker() as worker:
        worker.load(fake_model(tmp_path / "m"))
        worker.send(generate(1, "!step 3000 x"), Stop())
        assert worker.wait() == 0


def test_sigterm_ends_it_in_the_middle_of_a_step(tmp_path: Path) -> None:
    with open_worker() as worker:
        worker.load(fake_model(tmp_path / "m"))
        worker.send(generate(1, "!step 3000 x"))
        worker.receive_heartbeat()
        worker.child.terminate()
        assert worker.wait() == -signal.SIGTERM


def test_an_interrupt_from_the_terminal_is_not_for_it(tmp_path: Path) -> None:
    with open_worker() as worker:
        worker.load(fake_model(tmp_path / "m"))
        worker.child.send_signal(signal.SIGINT)
        worker.send(generate(1, "still here"))
        assert text_of(worker.answers(1)[1]) == "still here"


_PARENT = """
import json, os, socket, subprocess, sys
ours, theirs = socket.socketpair()
worker = subprocess.Popen(
    [sys.executable, "-I", "-m", "unified_llm.worker", "--socket-fd", str(theirs.fileno()),
     "--engine", "fake", "--parent-pid", str(os.getpid())],
    pass_fds=(theirs.fileno(), int(sys.argv[1])),
)
ours.recv(4)
# A copy of our end that outlives us: only the death of the parent can end the worker now.
socket.send_fds(socket.socket(fileno=int(sys.argv[1])), [b"x"], [ours.fileno()])
print(json.dumps(worker.pid), flush=True)
sys.stdin.read()
"""


def test_it_dies_with_a_parent_that_is_killed_though_the_connection_stays_open() -> None:
    channel, theirs = socket.socketpair()
    with channel:
        with theirs:
            parent = subprocess.Popen(
                [sys.executable, "-c", _PARENT, str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
        assert parent.stdout is not None
        assert parent.stdin is not None
        with parent.stdout, parent.stdin:
            worker = json.loads(parent.stdout.readline())
            _, (kept, *_), _, _ = socket.recv_fds(channel, 1, 1)
            with socket.socket(fileno=kept):
                assert is_alive(worker)
                parent.kill()
                parent.wait()
                wait_until_gone(worker)


def test_it_refuses_to_run_for_somebody_who_is_not_its_parent() -> None:
    with open_worker(parent=1) as worker:
        assert worker.receive() is None
        assert worker.wait() == 77


@pytest.mark.parametrize("defect", Defect)
def test_a_bad_model_file_is_said_and_ends_it(defect: Defect, tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "bad.gguf", defect=defect)
    with open_worker("llama") as worker:
        assert isinstance(worker.receive(), Hello)
        worker.send(load(worker.given(path)))
        message = worker.receive()
        while isinstance(message, Progress):
            message = worker.receive()
        assert isinstance(message, LoadFailed)
        assert message.message
        assert str(tmp_path) not in message.message
        assert worker.receive() is None
        assert worker.wait() == 66


@pytest.mark.parametrize(
    "frame",
    [
        b"\x00\x00\x00\x04\xff\xff\xff\xff",
        b"\xff\xff\xff\xff",
        encode(Cancel(id=1)),
        encode(Hello(version=1, pid=1, engine="fake", build="", sandbox=())),
    ],
    ids=["no msgpack", "too long", "cancel before load", "a message for the other side"],
)
def test_a_broken_protocol_ends_it_with_an_error(frame: bytes) -> None:
    with open_worker() as worker:
        assert isinstance(worker.receive(), Hello)
        worker.connection.sendall(frame)
        assert worker.receive() is None
        assert worker.wait() == 65


def test_a_connection_that_ends_inside_a_frame_is_an_error() -> None:
    with open_worker() as worker:
        worker.connection.sendall(b"\x00\x00")
        worker.connection.shutdown(socket.SHUT_WR)
        assert worker.wait() == 65


def test_a_request_is_cancelled_during_a_long_prefill(tmp_path: Path) -> None:
    model = write_tiny_gguf(tmp_path / "tiny.gguf", context_tokens=16384)
    with open_worker("llama") as worker:
        worker.load(model, context_tokens=16384, slots=2)
        worker.send(generate(1, "a" * 16000))
        assert isinstance(worker.receive(), Started)
        worker.send(Cancel(id=1))
        failed = worker.answers(1)[1][-1]
        assert isinstance(failed, Failed)
        assert failed.code == "cancelled"
        worker.send(generate(2, "hello", max_tokens=3))
        assert isinstance(worker.answers(2)[2][-1], Done)


def test_a_long_step_is_told_of_by_heartbeats(tmp_path: Path) -> None:
    with open_worker() as worker:
        worker.load(fake_model(tmp_path / "m"))
        worker.send(generate(1, "!step 3000 x"), generate(2, "y"))
        first, second = worker.receive_heartbeat(), worker.receive_heartbeat()
        assert second.busy_seconds > first.busy_seconds
        assert second.steps_done == first.steps_done
        assert second.active >= 1


def test_a_daemon_that_reads_late_misses_nothing(tmp_path: Path) -> None:
    with open_worker() as worker:
        worker.load(fake_model(tmp_path / "m"), context_tokens=100_000)
        worker.send(generate(1, "!tokens 20000"))
        time.sleep(0.5)  # long enough to fill the socket's buffer
        words = text_of(worker.answers(1)[1]).split()
        assert words == [str(number) for number in range(1, 20001)]


@pytest.mark.parametrize("environment", [{"SECRET_KEY": "s3cret", "LD_DEBUG_NOT": "x"}, {}])
def test_its_environment_holds_nothing_foreign(environment: dict[str, str], tmp_path: Path) -> None:
    with open_worker(environment={**_ENVIRONMENT, **environment}) as worker:
        worker.load(fake_model(tmp_path / "m"))
        block = Path(f"/proc/{worker.child.pid}/environ").read_bytes()
        names = {entry.partition(b"=")[0].decode() for entry in block.split(b"\0") if entry}
        assert names <= {"PATH", "LANG", "LC_CTYPE", "GGML_NO_BACKTRACE"}


def test_it_keeps_no_descriptor_but_those_it_was_given(tmp_path: Path) -> None:
    model = fake_model(tmp_path / "m")
    with model.open("rb") as kept, (tmp_path / "secret").open("wb") as secret:
        descriptors = (kept.fileno(),)
        with open_worker(keep=descriptors, leaked=(secret.fileno(),)) as worker:
            worker.load(Path(f"/proc/self/fd/{kept.fileno()}"))
            targets = []
            for entry in Path(f"/proc/{worker.child.pid}/fd").iterdir():
                with suppress(OSError):
                    targets.append(str(entry.readlink()))
            assert str(model) in targets
            assert str(tmp_path / "secret") not in targets
            assert sum(target.startswith("socket:") for target in targets) == 1


def test_it_can_gain_no_privilege_dump_no_core_and_not_be_read(tmp_path: Path) -> None:
    with open_worker() as worker:
        worker.load(fake_model(tmp_path / "m"))
        proc = Path(f"/proc/{worker.child.pid}")
        assert "NoNewPrivs:\t1\n" in (proc / "status").read_text()
        (core,) = [line for line in (proc / "limits").read_text().splitlines() if "core" in line]
        assert core.split()[4:6] == ["0", "0"]


def test_a_crash_is_a_crash(tmp_path: Path) -> None:
    with open_worker() as worker:
        worker.load(fake_model(tmp_path / "m"))
        worker.send(generate(1, "!crash"))
        assert worker.wait() == -signal.SIGABRT


def test_a_crash_while_loading_is_a_crash(tmp_path: Path) -> None:
    with open_worker() as worker:
        assert isinstance(worker.receive(), Hello)
        worker.send(load(worker.given(fake_model(tmp_path / "m", "!crash"))))
        assert worker.wait() == -signal.SIGABRT


def test_an_idle_worker_does_not_wake_up(tmp_path: Path) -> None:
    with open_worker("llama") as worker:
        worker.load(write_tiny_gguf(tmp_path / "tiny.gguf"))
        worker.send(generate(1, "hello", max_tokens=3))
        worker.answers(1)
        before = switches(worker.child.pid)
        while (settled := switches(worker.child.pid)) != before:
            before = settled
            time.sleep(0.2)
        time.sleep(2.0)
        # A loop that looks around ten times a second would be at twenty.
        assert switches(worker.child.pid) - settled < 10


def switches(pid: int) -> int:
    """How often the threads of a process have gone to sleep so far."""
    count = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        for line in (task / "status").read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches:"):
                count += int(line.split()[1])
    return count
