"""One worker and the requests it is answering.

Rules:
1. Every stream ends exactly once; when the worker ends, every stream still open fails.
2. A worker that has requests and shows no progress is ended.
3. A cancelled request that goes on computing costs the worker its life (llama.cpp obeys its abort
   callback on the CPU only).
4. A request whose reader is slow is paused, and the worker's others go on.
5. What a worker says against the protocol ends it: its model file may have taken it over.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from unified_llm.domain.errors import (
    Draining,
    ModelFailedToLoad,
    TooLarge,
    UnifiedLlmError,
    WorkerDied,
)
from unified_llm.domain.placement import Placement
from unified_llm.domain.units import Seconds, later
from unified_llm.fleet.generation_stream import (
    GenerationFrame,
    GenerationStream,
    Order,
    WorkerLeavingError,
)
from unified_llm.fleet.loading import Serving, load_model, rehearse_model
from unified_llm.fleet.patience import Vigil
from unified_llm.fleet.worker_link import WorkerLink
from unified_llm.worker.protocol import (
    Call,
    Delta,
    Done,
    Failed,
    FromWorker,
    Heartbeat,
    Rehearsed,
    Started,
    Stop,
    Vector,
)


@dataclass(frozen=True, slots=True)
class Departure:
    """How a worker ended.

    error: why; None if it was asked to go. victims: fingerprints of the requests it held when it
    became clear that it would end; they are told apart from each other only by ending it again.
    """

    error: WorkerDied | None
    victims: frozenset[bytes] = frozenset()


class ModelWorker:
    """A worker that loads its model with `load` and then lives as long as `serve` runs."""

    def __init__(self, link: WorkerLink) -> None:
        self._link = link
        self._vigil = Vigil(link.patience)
        self._watch_changed = asyncio.Event()
        self._streams: dict[int, GenerationStream] = {}
        self._last_number = 0
        self._is_serving = False
        self._grace: Seconds | None = None
        self._stop_asked = asyncio.Event()
        self._verdict: WorkerDied | None = None
        self._victims: frozenset[bytes] = frozenset()

    @property
    def pid(self) -> int:
        """Its process."""
        return self._link.process.pid

    async def load(self, placement: Placement, on_progress: Callable[[float], None]) -> Serving:
        """As load_model."""
        try:
            serving = await load_model(self._link, placement, on_progress)
        except ModelFailedToLoad as error:
            if self._stop_asked.is_set():
                raise ModelFailedToLoad(f"Loading of {self._link.model} was stopped.") from error
            raise
        self._is_serving = True
        return serving

    async def rehearse(self, placement: Placement) -> Rehearsed:
        """As rehearse_model; in place of `load`."""
        return await rehearse_model(self._link, placement)

    async def serve(self) -> Departure:
        """Run until the process has ended and every stream with it."""
        try:
            async with asyncio.TaskGroup() as group:
                reading = group.create_task(self._read())
                others = group.create_task(self._watch()), group.create_task(self._obey_stop())
                ending = await self._link.process.exited()
                # What it said before it ended still counts, a Done above all.
                await asyncio.wait({reading}, timeout=self._link.patience.exit)
                for task in (reading, *others):
                    task.cancel()
        except asyncio.CancelledError:
            self._condemn("The daemon is closing.")
            raise
        if self._stop_asked.is_set():
            self._end_streams(
                Draining(
                    f"{self._link.model} left memory before this answer was complete.",
                    hint="Ask again; the model will be loaded anew.",
                )
            )
            return Departure(None)
        self._link.states.distrust()
        return Departure(self._condemn(str(ending)), self._victims)

    def ask_to_stop(self, grace: Seconds) -> None:
        """Have it go within `grace`; at once if it is still loading, as there is nothing to lose.

        Asked again, it gets no more time. `load` or `serve` tells when it has gone.
        """
        if self._stop_asked.is_set():
            self._link.process.kill()
            return
        self._grace = grace
        self._stop_asked.set()
        if not self._is_serving:
            self._link.process.kill()

    @asynccontextmanager
    async def open_stream(self, order: Order) -> AsyncIterator[GenerationStream]:
        """Have `order` answered. Raises WorkerLeavingError, TooLarge.

        Leaving early cancels it and waits for its end, as long as `Patience.cancel` allows.
        """
        if self._verdict is not None or self._stop_asked.is_set() or not self._is_serving:
            raise WorkerLeavingError
        stream = self._admit(order)
        try:
            await self._send(stream, order)
            yield stream
        finally:
            if not stream.has_ended:
                self._cancel(stream)
                # Should we be cancelled once more here, the watch still sees to its end.
                await stream.ended()

    def _admit(self, order: Order) -> GenerationStream:
        self._last_number = number = self._last_number + 1
        stream = GenerationStream(
            number,
            order.fingerprint,
            order.vector_check(),
            order.call_check(),
            on_drained=lambda: self._resume(number),
        )
        self._streams[stream.number] = stream
        self._vigil.on_opened(stream.number, self._link.timers.now())
        self._watch_changed.set()
        return stream

    async def _send(self, stream: GenerationStream, order: Order) -> None:
        self._link.states.admit(order.principal)
        try:
            await self._link.channel.send(order.frame(stream.number))
        except TooLarge as error:
            stream.lose_worker(error)
            self._forget(stream)
            raise
        except WorkerDied:
            # The reader sees the end as well, and learns the reason.
            return

    def _cancel(self, stream: GenerationStream) -> None:
        self._vigil.on_cancelled(stream.number, self._link.timers.now())
        self._link.channel.cancel(stream.number)
        self._watch_changed.set()

    def _resume(self, number: int) -> None:
        if number in self._streams:
            self._vigil.on_resumed(number, self._link.timers.now())
            self._link.channel.resume(number)
            self._watch_changed.set()

    def _forget(self, stream: GenerationStream) -> None:
        del self._streams[stream.number]
        self._vigil.on_ended(stream.number)

    async def _read(self) -> None:
        try:
            while (message := await self._link.channel.receive()) is not None:
                self._on_message(message)
        except WorkerDied as error:
            self._end(error.message)
        await self._link.ended()

    def _on_message(self, message: FromWorker) -> None:
        match message:
            case Heartbeat():
                self._vigil.on_heartbeat(message, self._link.timers.now())
            case Started() | Delta() | Call() | Vector() | Done() | Failed():
                self._on_frame(message)
            case _:
                raise WorkerDied(f"It sent {type(message).__name__} while serving.")

    def _on_frame(self, frame: GenerationFrame) -> None:
        stream = self._streams.get(frame.id)
        if stream is None:
            raise WorkerDied(f"It answered request {frame.id}, which is not open.")
        complaint = stream.complaint(frame)
        if complaint is not None:
            raise WorkerDied(f"Request {frame.id} was {complaint}.")
        self._vigil.on_frame(self._link.timers.now())
        stream.put(frame)
        if stream.has_ended:
            self._forget(stream)
        elif stream.is_overfull:
            stream.cut_off()
            self._cancel(stream)
        elif stream.pause_if_full():
            self._vigil.on_paused(stream.number)
            self._link.channel.pause(stream.number)
            self._watch_changed.set()

    async def _watch(self) -> None:
        while True:
            self._watch_changed.clear()
            try:
                async with self._link.timers.timeout_at(self._vigil.next_look()):
                    await self._watch_changed.wait()
            except TimeoutError:
                await self._look_twice()

    async def _look_twice(self) -> None:
        if self._vigil.complaint(self._link.timers.now()) is None:
            return
        await self._link.exited_within(self._link.patience.second_look)
        complaint = self._vigil.complaint(self._link.timers.now())
        if complaint is not None:
            self._end(complaint)

    async def _obey_stop(self) -> None:
        await self._stop_asked.wait()
        process, timers = self._link.process, self._link.timers
        half = Seconds((self._grace or 0.0) / 2)
        with suppress(TimeoutError, WorkerDied):
            async with timers.timeout_at(later(timers.now(), half)):
                await self._link.channel.send(Stop(saves_states=self._link.states.saves))
                await process.exited()
        process.terminate()
        if not await self._link.exited_within(half):
            process.kill()

    def _end(self, why: str) -> None:
        self._condemn(why)
        self._link.process.kill()

    def _condemn(self, why: str) -> WorkerDied:
        """The worker is of no more use; the first reason given stands."""
        if self._verdict is None:
            self._verdict = WorkerDied(
                f"The worker of {self._link.model} ended while serving. {why}",
                hint="Ask again; the model will be loaded anew.",
            )
            self._victims = frozenset(stream.fingerprint for stream in self._streams.values())
        self._end_streams(self._verdict)
        return self._verdict

    def _end_streams(self, error: UnifiedLlmError) -> None:
        for stream in list(self._streams.values()):
            stream.lose_worker(error)
            self._forget(stream)
