"""A worker without a process: what it is told is kept, and what it says is up to the test."""

import asyncio
from collections.abc import Callable

from unified_llm.domain.errors import ModelFailedToLoad, TooLarge, WorkerDied
from unified_llm.domain.models import ModelId
from unified_llm.domain.ports import Timers
from unified_llm.domain.units import Tokens
from unified_llm.fleet.patience import Patience
from unified_llm.fleet.process import Ending
from unified_llm.fleet.worker_link import NoStates, WorkerLink
from unified_llm.worker.protocol import (
    PROTOCOL_VERSION,
    AdapterFile,
    Cancel,
    DropState,
    FromWorker,
    Generate,
    Hello,
    Loaded,
    Pause,
    Resume,
    ToWorker,
)


class FakeChildProcess:
    """Ends when the test says so, or by a signal it obeys. signals: those it was sent."""

    pid = 4321

    def __init__(self, on_end: Callable[[], None], *, obeys_terminate: bool) -> None:
        self.signals: list[str] = []
        self.on_end = on_end
        self._obeys_terminate = obeys_terminate
        self._ending: Ending | None = None
        self._exited = asyncio.Event()

    async def exited(self) -> Ending:
        while self._ending is None:
            await self._exited.wait()
        return self._ending

    def terminate(self) -> None:
        if self._ending is None:
            self.signals.append("TERM")
            if self._obeys_terminate:
                self.end(-15)

    def kill(self) -> None:
        if self._ending is None:
            self.signals.append("KILL")
            self.end(-9)

    def end(self, returncode: int, *, out_of_memory: bool = False) -> None:
        """Have it end; only the first time counts."""
        if self._ending is None:
            self._ending = Ending(returncode, out_of_memory)
            self._exited.set()
            self.on_end()


class FakeFrameChannel:
    """sent: what went down. is_stuck: the worker does not read. refuses_size: nothing fits."""

    def __init__(self) -> None:
        self.sent: list[ToWorker] = []
        self.is_stuck = False
        self.refuses_size = False
        self._up: asyncio.Queue[FromWorker | WorkerDied | None] = asyncio.Queue()

    async def send(self, message: ToWorker) -> None:
        if self.refuses_size:
            raise TooLarge("The request does not fit.")
        self.sent.append(message)
        if self.is_stuck:
            await asyncio.Event().wait()

    def cancel(self, request: int) -> None:
        self.sent.append(Cancel(id=request))

    def drop_state(self, state: int) -> None:
        self.sent.append(DropState(state=state))

    def pause(self, request: int) -> None:
        self.sent.append(Pause(id=request))

    def resume(self, request: int) -> None:
        self.sent.append(Resume(id=request))

    async def receive(self) -> FromWorker | None:
        message = await self._up.get()
        if isinstance(message, WorkerDied):
            raise message
        return message

    def say(self, *messages: FromWorker | WorkerDied | None) -> None:
        """Have the worker send these; None ends the channel, an error breaks it."""
        for message in messages:
            self._up.put_nowait(message)

    @property
    def generated(self) -> list[int]:
        """The numbers of the requests so far."""
        return [message.id for message in self.sent if isinstance(message, Generate)]

    @property
    def cancelled(self) -> list[int]:
        """The numbers of the requests cancelled so far."""
        return [message.id for message in self.sent if isinstance(message, Cancel)]


class FakeCheckedFile:
    """A model file that changes when the test says so."""

    paths_in_worker = ("/proc/self/fd/7",)
    adapters_in_worker: tuple[AdapterFile, ...] = ()
    projector_in_worker: str | None = None

    def __init__(self) -> None:
        self.has_changed = False

    def ensure_unchanged(self) -> None:
        if self.has_changed:
            raise ModelFailedToLoad("The file has changed.")


class FakeStates(NoStates):
    """admitted: principals, and how many requests had been sent before. is_distrusted: it died."""

    def __init__(self, channel: FakeFrameChannel) -> None:
        self._channel = channel
        self.saves = False
        self.build: tuple[str, str] | None = None
        self.admitted: list[tuple[str, int]] = []
        self.is_distrusted = False

    def serve(
        self, build: tuple[str, str], context_tokens: Tokens, cache_type: str, **_: object
    ) -> None:
        self.build = build

    def admit(self, principal: str) -> None:
        self.admitted.append((principal, len(self._channel.generated)))

    def distrust(self) -> None:
        self.is_distrusted = True


class FakeWorkerLink:
    """All of a worker; `link` is what the code under test gets."""

    def __init__(self, timers: Timers, *, obeys_terminate: bool = True) -> None:
        self.channel = FakeFrameChannel()
        self.process = FakeChildProcess(
            lambda: self.channel.say(None), obeys_terminate=obeys_terminate
        )
        self.file = FakeCheckedFile()
        self.states = FakeStates(self.channel)
        self.link = WorkerLink(
            ModelId("tiny"), self.process, self.channel, self.file, timers, Patience(), self.states
        )

    def greet(self) -> None:
        """Say Hello and Loaded."""
        self.channel.say(hello(), loaded())


SANDBOX = ("rlimits", "landlock-7", "seccomp")


def hello(version: int = PROTOCOL_VERSION) -> Hello:
    """A worker's first word."""
    return Hello(version=version, pid=42, engine="fake", build="0", sandbox=SANDBOX)


def loaded() -> Loaded:
    """A worker that serves."""
    return Loaded(context_tokens=512, slots=2, memory_bytes=1000, description="a fake")
