"""The house, in the order it is built; it is taken down in the reverse.

Reading `open_house` from top to bottom is reading the start order. Nothing is reachable before the
last line: the name on the bus is requested, and the socket answers, when everything behind them is
there.
"""

import asyncio
import logging
import os
import random
import secrets
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

from unified_llm.app.catalogue import CatalogueKeeper
from unified_llm.bus.connection import BusConnection, open_connection
from unified_llm.bus.names import BUS_NAME
from unified_llm.domain.events import ModelChanged
from unified_llm.domain.units import Bytes
from unified_llm.fleet.backend import Deadlines, LocalBackend
from unified_llm.fleet.launcher import Launcher
from unified_llm.fleet.oom import OomKills, find_memory_events
from unified_llm.fleet.patience import Patience
from unified_llm.fleet.poison import Quarantine
from unified_llm.fleet.process import Launch
from unified_llm.fleet.supervisor import Fleet
from unified_llm.fleet.timers import LoopTimers
from unified_llm.guard.audit import Audit, AuditDevice
from unified_llm.guard.peers import find_group
from unified_llm.guard.permissions import ADMIN_GROUP, USER_GROUP, Permissions
from unified_llm.hardware.ram import usable_ram
from unified_llm.host.activation import InheritedSockets
from unified_llm.host.clock import MonotonicClock
from unified_llm.operations.gate import Gate
from unified_llm.operations.inference import Inference
from unified_llm.operations.jobs import Jobs
from unified_llm.operations.models import Models
from unified_llm.operations.status import Status
from unified_llm.operations.watch import Watch
from unified_llm.scheduler.loop import SchedulerLoop
from unified_llm.scheduler.policy import SchedulingPolicy
from unified_llm.settings.schema import Settings, SocketSettings
from unified_llm.surfaces.dbus.door import DbusDoor
from unified_llm.surfaces.http.app import create_app
from unified_llm.surfaces.http.limits import HttpLimits
from unified_llm.surfaces.http.listener import open_listener
from unified_llm.surfaces.http.server import HttpDoor

_log = logging.getLogger(__name__)

RAM_SHARE: Final = 0.8
# Where the machine does not say what it has; enough for a small model.
_RAM_UNKNOWN: Final = Bytes(1024**3)


@dataclass(frozen=True, slots=True)
class House:
    """What the daemon's own loop needs of the house. bus, dbus: None if D-Bus is off."""

    scheduler: SchedulerLoop
    status: Status
    watch: Watch
    catalogue: CatalogueKeeper
    http: HttpDoor
    bus: BusConnection | None
    dbus: DbusDoor | None


@asynccontextmanager
async def open_house(
    settings: Settings, device: AuditDevice, inherited: InheritedSockets, version: str
) -> AsyncIterator[House]:
    """Everything, open and serving. Raises ConfigurationError or BusFault if a door will not open.

    Leaving it ends at once what still runs; `House` has what it takes to drain first.
    """
    async with AsyncExitStack() as stack:
        clock, timers, watch = MonotonicClock(), LoopTimers(), Watch()
        audit = stack.enter_context(Audit([device]))
        permissions = _permissions()
        gate = Gate(permissions, audit, clock)

        quarantine = Quarantine(secrets.token_bytes(32))
        fleet = Fleet(_launcher(settings, timers).open_worker, quarantine, clock)
        scheduler = SchedulerLoop(
            _policy(settings),
            clock=clock,
            workers=fleet,
            on_status=lambda status: watch(ModelChanged(status)),
            jitter=random.random,
        )
        await stack.enter_async_context(fleet.open(scheduler))
        await stack.enter_async_context(_running(scheduler.run()))

        jobs = await stack.enter_async_context(Jobs(clock, gate))
        models = Models(gate, scheduler, jobs, watch, load_limit=settings.scheduler.load_seconds)
        catalogue = CatalogueKeeper(models)
        await catalogue.refresh(settings)
        backend = LocalBackend(scheduler, fleet, quarantine, timers, _deadlines(settings))
        inference = Inference(gate, models, backend)
        status = Status(
            gate,
            scheduler,
            clock,
            version=version,
            complaints=lambda: (*inherited.refused, *catalogue.complaints),
        )

        limits = _http_limits(settings.socket)
        app = create_app(inference, models, status, version=version, limits=limits)
        listeners = inherited.usable or (
            stack.enter_context(
                open_listener(
                    settings.socket.path,
                    mode=int(settings.socket.mode, 8),
                    gid=_socket_group(settings.socket.group),
                )
            ),
        )
        http = HttpDoor(app, listeners, limits)
        await stack.enter_async_context(_running(http.run()))

        bus = dbus = None
        if settings.dbus.enabled:
            bus = await stack.enter_async_context(open_connection(settings.dbus.address))
            dbus = await stack.enter_async_context(
                DbusDoor(
                    bus,
                    models=models,
                    inference=inference,
                    jobs=jobs,
                    status=status,
                    watch=watch,
                    version=version,
                    http_socket_path=settings.socket.path,
                )
            )
            await bus.request_name(BUS_NAME)
        await http.opened.wait()
        status.doors_opened()
        if dbus is not None:
            dbus.refresh_state()
        yield House(scheduler, status, watch, catalogue, http, bus, dbus)


@asynccontextmanager
async def _running(work: Coroutine[object, object, None]) -> AsyncIterator[None]:
    """Run `work` beside the body, and cancel it when the body is left."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(work)
        yield
        task.cancel()


def _permissions() -> Permissions:
    return Permissions(
        daemon_uid=os.getuid(), user_gid=find_group(USER_GROUP), admin_gid=find_group(ADMIN_GROUP)
    )


def _socket_group(name: str | None) -> int | None:
    gid = None if name is None else find_group(name)
    if name is not None and gid is None:
        _log.warning("there is no group %s: the socket stays with the daemon's own group", name)
    return gid


def _launcher(settings: Settings, timers: LoopTimers) -> Launcher:
    return Launcher(
        Launch(settings.worker.engine),
        timers=timers,
        patience=Patience(progress=settings.worker.stall_seconds),
        oom=OomKills(find_memory_events()),
    )


def _policy(settings: Settings) -> SchedulingPolicy:
    scheduler = settings.scheduler
    return SchedulingPolicy(
        ram_budget=_ram_budget(settings),
        queue_limit=scheduler.queue_limit,
        load_deadline=scheduler.load_seconds,
        drain_grace=scheduler.drain_seconds,
        stop_grace=scheduler.stop_seconds,
    )


def _ram_budget(settings: Settings) -> Bytes:
    if settings.memory.ram_budget_bytes is not None:
        return settings.memory.ram_budget_bytes
    usable = usable_ram()
    return _RAM_UNKNOWN if usable is None else Bytes(int(usable * RAM_SHARE))


def _deadlines(settings: Settings) -> Deadlines:
    requests = settings.requests
    return Deadlines(
        queue=settings.scheduler.queue_seconds,
        first_event=requests.first_event_seconds,
        between_events=requests.between_events_seconds,
        total=requests.total_seconds,
    )


def _http_limits(socket: SocketSettings) -> HttpLimits:
    return HttpLimits(
        body_bytes=socket.max_body_bytes,
        head_seconds=socket.head_seconds,
        body_seconds=socket.body_seconds,
        idle_seconds=socket.idle_seconds,
        write_seconds=socket.write_seconds,
        connections=socket.max_connections,
        connections_per_uid=socket.max_connections_per_user,
    )
