"""The conversation with the daemon: order, heartbeats, progress."""

import os
import socket
import threading
from collections.abc import Iterator

import pytest

from unified_llm.domain.errors import ModelFailedToLoad
from unified_llm.domain.units import Instant
from unified_llm.worker.engine_port import OnProgress, Pulse, Report
from unified_llm.worker.frames import FrameBuffer
from unified_llm.worker.protocol import (
    PROTOCOL_VERSION,
    Cancel,
    Delta,
    DropState,
    FromWorker,
    Heartbeat,
    Hello,
    Load,
    Loaded,
    LoadFailed,
    Pause,
    Progress,
    Rehearse,
    Rehearsed,
    Resume,
    Stop,
    ToWorker,
    decode_from_worker,
    encode,
)
from unified_llm.worker.session import ExitStatus, Session

_LOAD = Load(model="m", path="/m", context_tokens=64, slots=1, threads=1)
_LOADED = Loaded(context_tokens=64, slots=1, memory_bytes=None, description="scripted")


class VirtualClock:
    def __init__(self) -> None:
        self.moment = 0.0

    def now(self) -> Instant:
        return Instant(self.moment)


class ScriptedEngine:
    """Busy for some steps of some seconds each, then has the daemon say `goodbye`."""

    steps_done = 0
    active = 1
    waiting = 2

    def __init__(
        self, clock: VirtualClock, daemon: socket.socket, steps: list[list[float]]
    ) -> None:
        self.clock = clock
        self.daemon = daemon
        self.steps = steps
        self.cancelled: list[int] = []
        self.interrupted: list[int] = []
        self.is_hurried = False
        self.has_saved = False
        self.dropped: list[int] = []
        self.flow: list[tuple[str, int]] = []
        self.fractions = [0.0, 0.1, 0.2, 0.3, 1.0]
        self.refusal: ModelFailedToLoad | None = None
        self.goodbye: ToWorker = _LOAD
        self.said_once_there = b""

    @property
    def is_busy(self) -> bool:
        return bool(self.steps) and bool(self.cancelled)

    def load(self, load: Load, on_progress: OnProgress) -> Loaded:
        self.daemon.sendall(self.said_once_there)
        if self.refusal:
            raise self.refusal
        for fraction in self.fractions:
            self.clock.moment += 0.1
            on_progress(fraction)
        return _LOADED

    def submit(self, request: object) -> None:
        raise AssertionError("nobody sends a request here")

    def cancel(self, request_id: int) -> None:
        self.cancelled.append(request_id)

    def interrupt(self, request_id: int) -> None:
        self.interrupted.append(request_id)

    def hurry(self) -> None:
        self.is_hurried = True

    def save_states(self) -> None:
        assert self.is_hurried
        self.has_saved = True

    def drop_state(self, state: int) -> None:
        self.dropped.append(state)

    def pause(self, request_id: int) -> None:
        self.flow.append(("pause", request_id))

    def resume(self, request_id: int) -> None:
        self.flow.append(("resume", request_id))

    def step(self, pulse: Pulse) -> list[Report]:
        for seconds in self.steps.pop(0):
            self.clock.moment += seconds
            pulse()
        self.steps_done += 1
        if not self.steps:
            self.daemon.sendall(encode(self.goodbye))
        return [Delta(id=1, text=f"step {self.steps_done}")]

    def close(self) -> None:
        pass


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(10)
        yield ours, theirs
        # Ends the session's reader, which would wait on a closed descriptor's number for ever.
        ours.shutdown(socket.SHUT_RDWR)


def leave(status: ExitStatus) -> None:
    """Ends the thread that computes; the one that reads ends by itself after it."""
    if threading.current_thread() is threading.main_thread():
        raise SystemExit(status)


def rehearse(load: Load) -> Rehearsed:
    if load.model == "wrong":
        raise ModelFailedToLoad("It is wrong.")
    return Rehearsed(cache_bytes=load.context_tokens, working_bytes=load.slots)


def run(
    pair: tuple[socket.socket, socket.socket],
    *messages: ToWorker,
    steps: list[list[float]] | None = None,
    refusal: ModelFailedToLoad | None = None,
    goodbye: ToWorker = _LOAD,
) -> tuple[list[FromWorker], ScriptedEngine, int]:
    """What the worker says to these messages, and the status it ends with."""
    daemon, worker = pair
    clock = VirtualClock()
    engine = ScriptedEngine(clock, daemon, steps or [])
    engine.refusal = refusal
    engine.goodbye = goodbye
    first, *rest = (encode(message) for message in messages)
    daemon.sendall(first)
    engine.said_once_there = b"".join(rest)
    session = Session(worker, lambda _: engine, clock.now, leave, rehearse=rehearse)  # type: ignore[arg-type]
    with pytest.raises(SystemExit) as left:
        session.run("scripted", "1", ("layer",))
    daemon.setblocking(False)
    bodies = FrameBuffer().feed(daemon.recv(65536))
    assert isinstance(left.value.code, int)
    return [decode_from_worker(body) for body in bodies], engine, left.value.code


def test_hello_is_the_first_word(pair: tuple[socket.socket, socket.socket]) -> None:
    said, _, status = run(pair, Cancel(id=1))
    assert said == [
        Hello(
            version=PROTOCOL_VERSION,
            pid=os.getpid(),
            engine="scripted",
            build="1",
            sandbox=("layer",),
        )
    ]
    assert status == ExitStatus.PROTOCOL_ERROR


def test_progress_comes_four_times_a_second_at_most_and_the_end_always(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    said, _, status = run(pair, _LOAD, _LOAD)
    assert [message for message in said if isinstance(message, Progress)] == [
        Progress(fraction=0.0),
        Progress(fraction=0.3),
        Progress(fraction=1.0),
    ]
    assert said[-1] == _LOADED
    assert status == ExitStatus.PROTOCOL_ERROR


def test_a_refused_model_is_said_and_ends_the_worker(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    said, _, status = run(pair, _LOAD, refusal=ModelFailedToLoad("No.", hint="Try another."))
    assert said[-1] == LoadFailed(message="No. Try another.")
    assert status == ExitStatus.LOAD_FAILED


def test_heartbeats_come_once_a_second_while_busy(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    said, _, _ = run(pair, _LOAD, Cancel(id=1), steps=[[0.4], [0.4], [0.4], [0.7, 0.7, 0.7]])
    beats = [message for message in said if isinstance(message, Heartbeat)]
    told = [(beat.steps_done, round(beat.busy_seconds, 3)) for beat in beats]
    assert told == [(2, 0.4), (3, 1.4)]
    assert (beats[0].active, beats[0].waiting) == (1, 2)


def test_a_cancel_interrupts_the_step_and_then_reaches_the_engine(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    _, engine, _ = run(pair, _LOAD, Cancel(id=7), steps=[[0.1]])
    assert engine.interrupted == [7]
    assert engine.cancelled == [7]


def test_what_a_step_brings_is_sent_in_order(pair: tuple[socket.socket, socket.socket]) -> None:
    said, _, _ = run(pair, _LOAD, Cancel(id=1), steps=[[0.1], [0.1], [0.1]])
    assert [message.text for message in said if isinstance(message, Delta)] == [
        "step 1",
        "step 2",
        "step 3",
    ]


def test_a_stop_that_saves_breaks_off_the_step_and_is_obeyed_in_turn(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    stop = Stop(saves_states=True)
    messages = (_LOAD, Cancel(id=1), DropState(state=3), Pause(id=1), Resume(id=2))
    _, engine, status = run(pair, *messages, steps=[[0.1]], goodbye=stop)
    assert engine.has_saved
    assert engine.dropped == [3]
    assert engine.flow == [("pause", 1), ("resume", 2)]
    assert status == ExitStatus.OK


def test_a_daemon_that_is_gone_ends_the_worker(pair: tuple[socket.socket, socket.socket]) -> None:
    daemon, worker = pair
    clock = VirtualClock()
    engine = ScriptedEngine(clock, daemon, [])
    daemon.shutdown(socket.SHUT_RD)
    session = Session(worker, lambda _: engine, clock.now, leave, rehearse=rehearse)  # type: ignore[arg-type]
    with pytest.raises(SystemExit) as left:
        session.run("scripted", "1", ("layer",))
    assert left.value.code == ExitStatus.OK


def test_a_rehearsal_is_answered_and_the_worker_ends(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    load = Load(model="m", path="/m", context_tokens=512, slots=2, threads=None)
    said, engine, status = run(pair, Rehearse(load=load))
    assert said[1:] == [Rehearsed(cache_bytes=512, working_bytes=2)]
    assert status == ExitStatus.OK
    assert engine.steps_done == 0


def test_a_rehearsal_of_what_can_not_be_loaded_says_why(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    load = Load(model="wrong", path="/m", context_tokens=512, slots=2, threads=None)
    said, _, status = run(pair, Rehearse(load=load))
    assert said[1:] == [LoadFailed(message="It is wrong.")]
    assert status == ExitStatus.LOAD_FAILED
