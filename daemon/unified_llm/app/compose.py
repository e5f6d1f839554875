"""The house, in the order it is built; it is taken down in the reverse.

Reading `open_house` from top to bottom is reading the start order. Nothing is reachable before the
rooms behind the doors are there, and READY is said when both doors answer.
"""

import asyncio
import random
import secrets
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from unified_llm.app import terms
from unified_llm.app.asleep import ModelsAsleep
from unified_llm.app.catalogue import CatalogueKeeper, Takers
from unified_llm.app.learning import Learning
from unified_llm.app.rescans import Rescans
from unified_llm.app.shelf import ModelShelf
from unified_llm.bus.connection import BusConnection, open_connection
from unified_llm.bus.names import BUS_NAME
from unified_llm.domain.events import ModelChanged
from unified_llm.domain.ports import Clock
from unified_llm.fleet.backend import LocalBackend
from unified_llm.fleet.kept_states import KeptStates
from unified_llm.fleet.launcher import Launcher
from unified_llm.fleet.oom import OomKills, find_memory_events
from unified_llm.fleet.poison import Quarantine
from unified_llm.fleet.process import Launch
from unified_llm.fleet.supervisor import Fleet
from unified_llm.fleet.timers import LoopTimers
from unified_llm.guard.audit import Audit, AuditDevice
from unified_llm.guard.polkit import PolkitAuthority
from unified_llm.hardware.drivers import choose_drivers
from unified_llm.hardware.monitor import MemoryMonitor
from unified_llm.host.activation import InheritedSockets
from unified_llm.host.clock import MonotonicClock, unix_time
from unified_llm.host.folder_watch import FolderWatch
from unified_llm.host.logind import SleepWatch
from unified_llm.operations.admission import Admission
from unified_llm.operations.gate import Gate
from unified_llm.operations.http_access import HttpAccess
from unified_llm.operations.inference import Inference
from unified_llm.operations.inhibitors import Inhibitors
from unified_llm.operations.jobs import Jobs
from unified_llm.operations.library import Library
from unified_llm.operations.memory_leases import MemoryLeases
from unified_llm.operations.models import Models
from unified_llm.operations.status import Status
from unified_llm.operations.watch import Watch
from unified_llm.registry.digests import Digests
from unified_llm.registry.store import Store, open_store
from unified_llm.routing.directory import Directory
from unified_llm.scheduler.loop import SchedulerLoop
from unified_llm.settings.schema import Settings
from unified_llm.settings.sections.hardware import HardwareSettings
from unified_llm.surfaces.dbus.door import DbusDoor
from unified_llm.surfaces.http.app import create_app
from unified_llm.surfaces.http.listener import open_listener
from unified_llm.surfaces.http.server import HttpDoor

if TYPE_CHECKING:
    from unified_llm.app.providers import Providers


@dataclass(frozen=True, slots=True)
class Plan:
    """What the house is built from.

    device: where the audit log goes. registry: the database; None keeps everything in memory.
    credentials: `$CREDENTIALS_DIRECTORY`; None if it is not set.
    """

    settings: Settings
    device: AuditDevice
    inherited: InheritedSockets
    version: str
    registry: Path | None
    credentials: Path | None


@dataclass(frozen=True, slots=True)
class Rooms:
    """Everything behind the doors, at work."""

    gate: Gate
    watch: Watch
    scheduler: SchedulerLoop
    states: KeptStates
    jobs: Jobs
    models: Models
    library: Library
    catalogue: CatalogueKeeper
    asleep: ModelsAsleep
    inference: Inference
    status: Status


@dataclass(frozen=True, slots=True)
class Engine:
    """What loads and runs the models of this machine."""

    fleet: Fleet
    scheduler: SchedulerLoop
    monitor: MemoryMonitor


@dataclass(frozen=True, slots=True)
class BusDoor:
    """The connection, and what is exported on it."""

    bus: BusConnection
    door: DbusDoor


@dataclass(frozen=True, slots=True)
class House:
    """Rooms and doors. dbus: None if D-Bus is off."""

    rooms: Rooms
    http: HttpDoor
    dbus: BusDoor | None


@asynccontextmanager
async def open_house(plan: Plan) -> AsyncIterator[House]:
    """Everything, open and serving. Raises ConfigurationError or BusFault if a door will not open.

    Leaving it ends at once what still runs; `House` has what it takes to drain first.
    """
    async with AsyncExitStack() as stack:
        rooms = await stack.enter_async_context(_open_rooms(plan))
        http = await stack.enter_async_context(_open_http(plan, rooms))
        dbus = None
        if plan.settings.dbus.enabled:
            dbus = await stack.enter_async_context(_open_dbus(plan, rooms, http))
        await http.opened.wait()
        rooms.status.doors_opened()
        if dbus is not None:
            dbus.door.refresh_state()
        yield House(rooms, http, dbus)


@asynccontextmanager
async def _open_rooms(plan: Plan) -> AsyncIterator[Rooms]:
    settings = plan.settings
    async with AsyncExitStack() as stack:
        clock, timers, watch = MonotonicClock(), LoopTimers(), Watch()
        audit = stack.enter_context(Audit([plan.device]))
        gate = Gate(terms.permissions(settings), audit, clock)

        quarantine = Quarantine(secrets.token_bytes(32))
        states = KeptStates(terms.kept_states_quota(settings))
        stack.callback(states.close)
        store = await stack.enter_async_context(open_store(plan.registry, unix_time=unix_time))
        learning = Learning(store, Digests(store), unix_time=unix_time)
        await stack.enter_async_context(_running(learning.run()))
        engine = await stack.enter_async_context(
            _open_engine(
                settings, _launcher(settings, timers, states), quarantine, clock, watch, learning
            )
        )
        fleet, scheduler, monitor = engine.fleet, engine.scheduler, engine.monitor

        asleep = await stack.enter_async_context(_open_asleep(settings, scheduler))
        jobs = await stack.enter_async_context(Jobs(clock, gate))
        limit = settings.scheduler.load_seconds
        models = Models(gate, scheduler, jobs, watch, load_limit=limit)
        takers = Takers(models, states)
        catalogue = await stack.enter_async_context(_open_catalogue(takers, store, settings))
        shelf = ModelShelf(catalogue, models, store)
        await shelf.sweep()
        library = Library(gate, jobs, models, scheduler, shelf, unload_limit=limit)
        backend = LocalBackend(scheduler, fleet, quarantine, timers, terms.deadlines(settings))
        providers = await stack.enter_async_context(_open_providers(plan, timers, models))
        status = Status(
            gate,
            scheduler,
            clock,
            version=plan.version,
            complaints=lambda: (
                *plan.inherited.refused,
                *store.complaints,
                *monitor.faults,
                *catalogue.complaints,
                *asleep.complaints,
                *(providers.complaints() if providers else ()),
            ),
            read_memory=monitor.read,
        )
        inference = Inference(gate, models, _directory(backend, providers))
        yield Rooms(
            gate,
            watch,
            scheduler,
            states,
            jobs,
            models,
            library,
            catalogue,
            asleep,
            inference,
            status,
        )


@asynccontextmanager
async def _open_engine(
    settings: Settings,
    launcher: Launcher,
    quarantine: Quarantine,
    clock: Clock,
    watch: Watch,
    learning: Learning,
) -> AsyncIterator[Engine]:
    """Ready to load models; whoever leaves ends every worker."""
    fleet = Fleet(launcher.open_worker, quarantine, clock, on_loaded=learning.on_loaded)
    scheduler = SchedulerLoop(
        terms.scheduling_policy(settings),
        clock=clock,
        workers=fleet,
        on_status=lambda status: watch(ModelChanged(status)),
        jitter=random.random,
        read_memory=lambda: monitor.read(),
    )
    monitor = _monitor(settings.hardware, scheduler, fleet, clock)
    unsubscribe = watch.subscribe(lambda _: monitor.wake())
    try:
        async with fleet.open(scheduler), _running(scheduler.run()), _running(monitor.run()):
            yield Engine(fleet, scheduler, monitor)
    finally:
        unsubscribe()


@asynccontextmanager
async def _open_catalogue(
    takers: Takers, store: Store, settings: Settings
) -> AsyncIterator[CatalogueKeeper]:
    """Filled, and kept in step with the disk."""
    catalogue = CatalogueKeeper(takers, store, unix_time=unix_time)
    rescans = Rescans(catalogue)
    with FolderWatch(rescans.on_change) as folders:
        catalogue.on_folders = folders.follow
        await catalogue.recall()
        await catalogue.refresh(settings)
        async with _running(rescans.run()):
            yield catalogue


@asynccontextmanager
async def _open_asleep(settings: Settings, scheduler: SchedulerLoop) -> AsyncIterator[ModelsAsleep]:
    asleep = ModelsAsleep(
        scheduler,
        is_reloading=settings.host.reload_after_sleep,
        load_limit=settings.scheduler.load_seconds,
    )
    async with _running(asleep.run()):
        yield asleep


@asynccontextmanager
async def _open_providers(
    plan: Plan, timers: LoopTimers, models: Models
) -> AsyncIterator["Providers | None"]:
    """Those of the settings, at work; None if there are none."""
    if not plan.settings.providers:
        yield None
        return
    # Only here, for the 14 MiB that aiohttp takes once it is imported.
    from unified_llm.app.providers import open_providers

    opening = open_providers(plan.settings.providers, plan.credentials, timers)
    async with opening as providers, _running(providers.run(models)):
        yield providers


def _directory(local: LocalBackend, providers: "Providers | None") -> Directory:
    return Directory(local, providers.backends() if providers else {})


@asynccontextmanager
async def _open_http(plan: Plan, rooms: Rooms) -> AsyncIterator[HttpDoor]:
    """On the sockets that systemd handed over, else on one of our own."""
    limits = terms.http_limits(plan.settings.socket)
    app = create_app(
        rooms.inference,
        rooms.models,
        rooms.library,
        rooms.status,
        version=plan.version,
        limits=limits,
    )
    async with AsyncExitStack() as stack:
        listeners = plan.inherited.usable
        if not listeners:
            socket = plan.settings.socket
            listener = open_listener(
                socket.path, mode=int(socket.mode, 8), gid=terms.socket_group(socket)
            )
            listeners = (stack.enter_context(listener),)
        door = HttpDoor(app, listeners, limits)
        await stack.enter_async_context(_running(door.run()))
        yield door


@asynccontextmanager
async def _open_dbus(plan: Plan, rooms: Rooms, http: HttpDoor) -> AsyncIterator[BusDoor]:
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(open_connection(plan.settings.dbus.address))
        door = DbusDoor(
            bus,
            models=rooms.models,
            library=rooms.library,
            inference=rooms.inference,
            jobs=rooms.jobs,
            status=rooms.status,
            watch=rooms.watch,
            admission=Admission(rooms.gate, _authority(plan.settings, bus)),
            http=HttpAccess(rooms.gate, http),
            leases=MemoryLeases(rooms.gate, rooms.scheduler),
            inhibitors=Inhibitors(rooms.gate, rooms.scheduler),
            version=plan.version,
            http_socket_path=plan.settings.socket.path,
        )
        await stack.enter_async_context(door)
        if plan.settings.host.unload_before_sleep:
            await stack.enter_async_context(_running(SleepWatch(bus, rooms.asleep).run()))
        await bus.request_name(BUS_NAME)
        yield BusDoor(bus, door)


@asynccontextmanager
async def _running(work: Coroutine[object, object, None]) -> AsyncIterator[None]:
    """Run `work` beside the body, and cancel it when the body is left."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(work)
        yield
        task.cancel()


def _authority(settings: Settings, bus: BusConnection) -> PolkitAuthority | None:
    return PolkitAuthority(bus) if settings.dbus.authority == "polkit" else None


def _monitor(
    hardware: HardwareSettings, scheduler: SchedulerLoop, fleet: Fleet, clock: Clock
) -> MemoryMonitor:
    return MemoryMonitor(
        choose_drivers(hardware.driver, hardware.fake_file, scheduler.memory_held),
        lambda reading: scheduler.memory_read(reading, fleet.pids),
        is_wanted=lambda: scheduler.is_occupied,
        interval=hardware.interval_seconds,
        clock=clock,
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
