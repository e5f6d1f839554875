"""The worker's conversation with the daemon: one thread reads, one computes and writes.

Rule 1: the engine belongs to the computing thread; the reader only puts messages into a queue,
and interrupts a step for a Cancel that follows in the queue.
Rule 2: an idle worker sleeps in the queue and nothing wakes it but a message.
Rule 3: the end of the connection, or Stop, ends the process at once, in the middle of a step too;
nothing is worth finishing when nobody listens. Only a Stop that asks for it lets the computing
thread break off its step and save what its conversations are in.
Rule 4: a daemon that does not read stops the worker's writing, not its order: no frame is lost.
"""

import os
import queue
import socket
import sys
import threading
from collections.abc import Callable
from enum import IntEnum
from typing import Final, NoReturn, assert_never

from unified_llm.domain.errors import GpuUnusable, ModelFailedToLoad, NoRoom
from unified_llm.domain.units import Instant, Seconds
from unified_llm.worker.engine_port import Engine, OpenEngine, Rehearsal
from unified_llm.worker.frames import FrameBuffer
from unified_llm.worker.protocol import (
    PROTOCOL_VERSION,
    Cancel,
    DropState,
    Embed,
    FromWorker,
    Generate,
    Heartbeat,
    Hello,
    Load,
    LoadFailed,
    Pause,
    Progress,
    ProtocolError,
    Rank,
    Rehearse,
    Resume,
    Stop,
    ToWorker,
    decode_to_worker,
    encode,
)

_HEARTBEAT_INTERVAL: Final = Seconds(1.0)
_PROGRESS_INTERVAL: Final = Seconds(0.25)
_READ_BYTES: Final = 64 * 1024


class ExitStatus(IntEnum):
    """How the worker ends when it ends by itself. sysexits(3), where there is a word for it."""

    OK = 0
    USAGE = 64
    PROTOCOL_ERROR = 65
    LOAD_FAILED = 66
    INTERNAL = 70
    NOT_CONFINED = 77


Exit = Callable[[ExitStatus], NoReturn]


def exit_at_once(status: ExitStatus) -> NoReturn:
    """End the process without waiting for native code or other threads."""
    sys.stderr.flush()
    os._exit(status)


class Session:
    """One worker's whole life on `connection`.

    now: the monotonic clock. leave: ends the process; it does not return. rehearse: of the engine.
    """

    def __init__(
        self,
        connection: socket.socket,
        open_engine: OpenEngine,
        now: Callable[[], Instant],
        leave: Exit = exit_at_once,
        *,
        rehearse: Rehearsal,
    ) -> None:
        self._connection = connection
        self._open_engine = open_engine
        self._opened: Engine | None = None
        self._now = now
        self._leave = leave
        self._rehearse = rehearse
        self._inbox: queue.SimpleQueue[ToWorker] = queue.SimpleQueue()
        self._is_loaded = False
        self._step_began = now()
        self._next_heartbeat = now()
        self._next_progress = now()

    def run(self, name: str, build: str, sandbox: tuple[str, ...]) -> NoReturn:
        """Say Hello, load what the daemon asks for, and serve until it is gone.

        sandbox: layers in force.
        """
        self._send(
            Hello(
                version=PROTOCOL_VERSION,
                pid=os.getpid(),
                engine=name,
                build=build,
                sandbox=sandbox,
            )
        )
        threading.Thread(target=self._read, name="reader", daemon=True).start()
        self._load()
        while True:
            self._take_messages()
            self._step()

    @property
    def _engine(self) -> Engine:
        if self._opened is None:
            raise RuntimeError("there is no engine before Load")
        return self._opened

    def _load(self) -> None:
        message = self._inbox.get()
        if not isinstance(message, Load | Rehearse):
            self._reject(f"{type(message).__name__} came before Load")
        try:
            if isinstance(message, Rehearse):
                self._send(self._rehearse(message.load))
                self._leave(ExitStatus.OK)
            self._opened = self._open_engine(message.purpose)
            loaded = self._engine.load(message, self._on_progress)
        except (ModelFailedToLoad, NoRoom, GpuUnusable) as error:
            self._send(LoadFailed(message=str(error), code=error.code))
            self._leave(ExitStatus.LOAD_FAILED)
        self._is_loaded = True
        self._send(loaded)

    def _on_progress(self, fraction: float) -> None:
        if fraction >= 1 or self._now() >= self._next_progress:
            self._next_progress = Instant(self._now() + _PROGRESS_INTERVAL)
            self._send(Progress(fraction=fraction))

    def _take_messages(self) -> None:
        """Handle all that has come; wait for something only if there is nothing to do."""
        if not self._engine.is_busy:
            self._handle(self._inbox.get())
            self._next_heartbeat = Instant(self._now() + _HEARTBEAT_INTERVAL)
        while not self._inbox.empty():
            self._handle(self._inbox.get())

    def _handle(self, message: ToWorker) -> None:
        match message:
            case Generate() | Embed() | Rank():
                self._engine.submit(message)
            case Cancel():
                self._engine.cancel(message.id)
            case Pause():
                self._engine.pause(message.id)
            case Resume():
                self._engine.resume(message.id)
            case Load() | Rehearse():
                self._reject(f"{type(message).__name__} came after Load")
            case DropState():
                self._engine.drop_state(message.state)
            case Stop():
                self._engine.save_states()
                self._leave(ExitStatus.OK)
            case _:
                assert_never(message)

    def _step(self) -> None:
        self._step_began = self._now()
        for report in self._engine.step(self._beat_if_due):
            self._send(report)
        self._beat_if_due()

    def _beat_if_due(self) -> None:
        now = self._now()
        if now < self._next_heartbeat:
            return
        self._next_heartbeat = Instant(now + _HEARTBEAT_INTERVAL)
        self._send(
            Heartbeat(
                steps_done=self._engine.steps_done,
                busy_seconds=now - self._step_began,
                active=self._engine.active,
                waiting=self._engine.waiting,
            )
        )

    def _send(self, message: FromWorker) -> None:
        try:
            self._connection.sendall(encode(message))
        except OSError:
            self._leave(ExitStatus.OK)

    def _read(self) -> None:
        frames = FrameBuffer()
        try:
            while data := self._receive():
                for body in frames.feed(data):
                    self._deliver(decode_to_worker(body))
            if not frames.is_empty:
                self._reject("the connection ended inside a frame")
        except ProtocolError as error:
            self._reject(str(error))
        self._leave(ExitStatus.OK)

    def _receive(self) -> bytes:
        try:
            return self._connection.recv(_READ_BYTES)
        except OSError:
            return b""

    def _deliver(self, message: ToWorker) -> None:
        if isinstance(message, Stop):
            if not (message.saves_states and self._is_loaded):
                self._leave(ExitStatus.OK)
            self._engine.hurry()
        if isinstance(message, Cancel) and self._opened is not None:
            self._opened.interrupt(message.id)
        self._inbox.put(message)

    def _reject(self, reason: str) -> NoReturn:
        sys.stderr.write(f"protocol error: {reason[:200]}\n")
        self._leave(ExitStatus.PROTOCOL_ERROR)
