"""What loads and runs the models of this machine, put together."""

import random
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from unified_llm.app import terms
from unified_llm.app.beside import running
from unified_llm.app.gpu_loss import GpuLoss
from unified_llm.app.learning import Learning
from unified_llm.app.neighbourhood import Neighbourhood
from unified_llm.domain.devices import MemoryReading
from unified_llm.domain.events import ModelChanged
from unified_llm.domain.ports import Clock
from unified_llm.fleet.backend import LocalBackend
from unified_llm.fleet.dispatch import Dispatch
from unified_llm.fleet.dry_runs import DryRuns
from unified_llm.fleet.kept_states import KeptStates
from unified_llm.fleet.launcher import Launcher
from unified_llm.fleet.oom import OomKills, find_memory_events
from unified_llm.fleet.poison import Quarantine
from unified_llm.fleet.process import Launch
from unified_llm.fleet.supervisor import Fleet
from unified_llm.fleet.timers import LoopTimers
from unified_llm.fleet.vectors import LocalVectors
from unified_llm.hardware.drivers import choose_drivers
from unified_llm.hardware.gpu_check import GpuCheck
from unified_llm.hardware.monitor import MemoryMonitor
from unified_llm.operations.devices import Devices
from unified_llm.operations.models import Rehearse
from unified_llm.operations.own_moves import OwnMoves
from unified_llm.operations.watch import Watch
from unified_llm.scheduler.loop import SchedulerLoop
from unified_llm.settings.schema import Settings
from unified_llm.settings.sections.hardware import HardwareSettings


@dataclass(frozen=True, slots=True)
class Engine:
    """What loads and runs the models of this machine.

    neighbourhood: what the machine is like for them. gpus: which of its GPUs are lost.
    states: the KV states that outlive their workers. backend: what answers with the models.
    rehearse: what tells what a load would take. vectors: what makes vectors with them.
    """

    scheduler: SchedulerLoop
    monitor: MemoryMonitor
    neighbourhood: Neighbourhood
    gpus: GpuLoss
    states: KeptStates
    backend: LocalBackend
    rehearse: Rehearse
    vectors: LocalVectors
    devices: Devices


@asynccontextmanager
async def open_engine(
    settings: Settings,
    clock: Clock,
    timers: LoopTimers,
    watch: Watch,
    learning: Learning,
    moves: OwnMoves,
) -> AsyncIterator[Engine]:
    """Ready to load models; whoever leaves ends every worker."""
    states = KeptStates(terms.kept_states_quota(settings))
    quarantine = Quarantine(secrets.token_bytes(32))
    launcher = _launcher(settings, timers, states)
    fleet = Fleet(launcher.open_worker, quarantine, clock, on_loaded=learning.on_loaded)
    scheduler = SchedulerLoop(
        terms.scheduling_policy(settings),
        clock=clock,
        workers=fleet,
        on_status=lambda status: watch(ModelChanged(status)),
        on_moved=moves.record,
        jitter=random.random,
        read_memory=lambda: monitor.read(),
    )
    neighbourhood = Neighbourhood(scheduler, watch, settings.host, settings.memory)
    gpus = _gpu_loss(settings, scheduler, lambda: monitor.read(), neighbourhood)

    def on_reading(reading: MemoryReading) -> None:
        gpus.on_reading(reading)
        scheduler.memory_read(reading, fleet.pids)
        neighbourhood.on_reading(reading)

    monitor = _monitor(settings.hardware, scheduler, on_reading, clock)
    queue, deadlines = settings.scheduler.queue_seconds, terms.deadlines(settings)
    dispatch = Dispatch(scheduler, fleet, quarantine, timers, queue=queue)
    backend = LocalBackend(dispatch, timers, deadlines)
    vectors = LocalVectors(dispatch, timers, total=deadlines.total)
    devices = Devices(monitor, scheduler.memory_held)
    unsubscribe = watch.subscribe(lambda _: monitor.wake())
    try:
        async with (
            fleet.open(scheduler),
            running(scheduler.run()),
            running(monitor.run()),
            running(devices.look()),
        ):
            rehearse = DryRuns(launcher.open_worker).rehearse
            yield Engine(
                scheduler,
                monitor,
                neighbourhood,
                gpus,
                states,
                backend,
                rehearse,
                vectors,
                devices,
            )
    finally:
        unsubscribe()
        states.close()


def _monitor(
    hardware: HardwareSettings,
    scheduler: SchedulerLoop,
    on_reading: Callable[[MemoryReading], None],
    clock: Clock,
) -> MemoryMonitor:
    return MemoryMonitor(
        choose_drivers(hardware.driver, hardware.fake_file, scheduler.memory_held),
        on_reading,
        is_wanted=lambda: scheduler.is_occupied,
        interval=hardware.interval_seconds,
        clock=clock,
    )


def _gpu_loss(
    settings: Settings,
    scheduler: SchedulerLoop,
    read: Callable[[], Awaitable[MemoryReading]],
    neighbourhood: Neighbourhood,
) -> GpuLoss:
    return GpuLoss(
        scheduler,
        GpuCheck(settings.hardware.driver, settings.hardware.fake_file),
        read,
        is_refusing=not settings.host.without_lost_gpus,
        on_change=neighbourhood.on_gpus,
    )


def _launcher(settings: Settings, timers: LoopTimers, states: KeptStates) -> Launcher:
    return Launcher(
        Launch(
            settings.worker.engine,
            is_sandbox_required=settings.worker.sandbox_required,
            states_bytes=states.quota,
        ),
        timers=timers,
        patience=terms.patience(settings),
        oom=OomKills(find_memory_events()),
        states=states,
    )
