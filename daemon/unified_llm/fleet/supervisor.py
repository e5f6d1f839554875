"""The fleet: every worker there is, and what is reported of it.

One task per generation of a model lives from `begin_load` to `memory_returned`; nobody else changes
its entry, and it reports in the order that scheduler.effects.Reports promises.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

from unified_llm.domain.errors import (
    Closing,
    GpuUnusable,
    ModelFailedToLoad,
    NoRoom,
    UnifiedLlmError,
)
from unified_llm.domain.models import ModelId, ModelSpec
from unified_llm.domain.placement import Placement
from unified_llm.domain.ports import Clock, Lease
from unified_llm.domain.units import Seconds, Tokens
from unified_llm.fleet.generation_stream import GenerationStream, Order, WorkerLeavingError
from unified_llm.fleet.loading import Serving
from unified_llm.fleet.model_worker import Departure, ModelWorker
from unified_llm.fleet.poison import Quarantine
from unified_llm.scheduler.effects import Generation, LoadedModel, Reports

OpenWorker = Callable[[ModelSpec], AbstractAsyncContextManager[ModelWorker]]
OnLoaded = Callable[[ModelSpec, Serving], None]
_Key = tuple[ModelId, Generation]


@dataclass(slots=True)
class _Berth:
    """A place for a worker: it may be asked to go before it has come."""

    worker: ModelWorker | None = None
    grace: Seconds | None = None
    left: asyncio.Event = field(default_factory=asyncio.Event)

    def moor(self, worker: ModelWorker) -> None:
        self.worker = worker
        if self.grace is not None:
            worker.ask_to_stop(self.grace)

    def ask_to_stop(self, grace: Seconds) -> None:
        """A second call counts only if it leaves less time."""
        if self.grace is None or grace < self.grace:
            self.grace = grace
            if self.worker is not None:
                self.worker.ask_to_stop(grace)


class Fleet:
    """Carries out what the scheduler decided. Implements scheduler.effects.Workers.

    closing_grace: what workers get when the fleet closes. on_loaded: told of each model that
    serves; returns at once.
    """

    def __init__(
        self,
        open_worker: OpenWorker,
        quarantine: Quarantine,
        clock: Clock,
        *,
        closing_grace: Seconds = Seconds(2.0),
        on_loaded: OnLoaded = lambda spec, serving: None,
    ) -> None:
        self._open_worker = open_worker
        self._quarantine = quarantine
        self._clock = clock
        self._closing_grace = closing_grace
        self._on_loaded = on_loaded
        self._berths: dict[_Key, _Berth] = {}
        self._reports: Reports | None = None
        self._group: asyncio.TaskGroup | None = None

    @asynccontextmanager
    async def open(self, reports: Reports) -> AsyncIterator[None]:
        """Work while the context lasts; when it is left, no worker process remains."""
        async with asyncio.TaskGroup() as group:
            self._group, self._reports = group, reports
            try:
                yield
            finally:
                self._group = None
                for berth in self._berths.values():
                    berth.ask_to_stop(self._closing_grace)

    def begin_load(self, spec: ModelSpec, generation: Generation, placement: Placement) -> None:
        """As in scheduler.effects.Workers."""
        key = (spec.id, generation)
        if key in self._berths:
            raise RuntimeError(f"generation {generation} of {spec.id} has been begun before")
        if self._group is None:
            self._refuse(spec.id, generation)
            return
        berth = self._berths[key] = _Berth()
        self._group.create_task(
            self._tend(berth, spec, generation, placement), name=f"worker {spec.id} #{generation}"
        )

    def begin_stop(self, model: ModelId, generation: Generation, *, grace: Seconds) -> None:
        """As in scheduler.effects.Workers."""
        berth = self._berths.get((model, generation))
        if berth is not None:
            berth.ask_to_stop(grace)
        else:
            self._reporting().stop_finished(model, generation)

    def open_stream(
        self, lease: Lease, order: Order
    ) -> AbstractAsyncContextManager[GenerationStream]:
        """As ModelWorker.open_stream, by the worker that the lease is for."""
        berth = self._berths.get(_key(lease))
        if berth is None or berth.worker is None:
            raise WorkerLeavingError
        return berth.worker.open_stream(order)

    @property
    def pids(self) -> dict[_Key, int]:
        """The process of each worker that has been started and has not been reaped."""
        return {
            key: berth.worker.pid for key, berth in self._berths.items() if berth.worker is not None
        }

    async def left(self, lease: Lease) -> None:
        """Wait until the end of the lease's worker has been reported."""
        berth = self._berths.get(_key(lease))
        if berth is not None:
            await berth.left.wait()

    def _reporting(self) -> Reports:
        if self._reports is None:
            raise RuntimeError("the fleet has not been opened")
        return self._reports

    def _refuse(self, model: ModelId, generation: Generation) -> None:
        closing = Closing("The daemon is stopping and starts no worker.")
        self._report_end(model, generation, closing)

    async def _tend(
        self, berth: _Berth, spec: ModelSpec, generation: Generation, placement: Placement
    ) -> None:
        try:
            end = await self._live(berth, spec, generation, placement)
            del self._berths[spec.id, generation]
            self._report_end(spec.id, generation, end)
        finally:
            self._berths.pop((spec.id, generation), None)
            berth.left.set()

    async def _live(
        self, berth: _Berth, spec: ModelSpec, generation: Generation, placement: Placement
    ) -> Departure | ModelFailedToLoad | NoRoom | GpuUnusable:
        """The whole life of a worker; its process has been reaped on return."""
        reports = self._reporting()

        def on_progress(fraction: float) -> None:
            reports.load_progressed(spec.id, generation, fraction)

        try:
            async with self._open_worker(spec) as worker:
                berth.moor(worker)
                serving = await worker.load(placement, on_progress)
                reports.load_finished(spec.id, generation, _told(serving))
                self._on_loaded(spec, serving)
                return await worker.serve()
        except (ModelFailedToLoad, NoRoom, GpuUnusable) as error:
            return error

    def _report_end(
        self, model: ModelId, generation: Generation, end: Departure | UnifiedLlmError
    ) -> None:
        reports = self._reporting()
        if isinstance(end, UnifiedLlmError):
            reports.load_finished(model, generation, end)
            reports.stop_finished(model, generation)
        elif end.error is None:
            reports.stop_finished(model, generation)
        else:
            self._charge(end.victims)
            reports.worker_died(model, generation, end.error)
        # In main memory, what a process held is back when the process has been reaped.
        reports.memory_returned(model, generation)

    def _charge(self, victims: frozenset[bytes]) -> None:
        now = self._clock.now()
        for fingerprint in victims:
            self._quarantine.charge(fingerprint, now)


def _key(lease: Lease) -> _Key:
    return lease.model, Generation(lease.generation)


def _told(serving: Serving) -> LoadedModel:
    loaded = serving.loaded
    return LoadedModel(Tokens(loaded.context_tokens), loaded.slots, serving.memory, serving.sandbox)
