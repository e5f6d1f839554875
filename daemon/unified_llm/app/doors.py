"""The doors, and what stands behind each."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from unified_llm.app import terms
from unified_llm.app.beside import running
from unified_llm.app.logs import IDENTIFIER
from unified_llm.app.plan import Plan
from unified_llm.app.rooms import Rooms
from unified_llm.bus.connection import BusConnection, open_connection
from unified_llm.bus.names import BUS_NAME
from unified_llm.guard.audit import JournalDevice
from unified_llm.guard.polkit import PolkitAuthority
from unified_llm.host.logind import SleepWatch
from unified_llm.host.power import PowerWatch
from unified_llm.operations.admission import Admission
from unified_llm.operations.gate import Gate
from unified_llm.operations.http_access import HttpAccess
from unified_llm.operations.inhibitors import Inhibitors
from unified_llm.operations.log_control import LogControl
from unified_llm.operations.memory_leases import MemoryLeases
from unified_llm.settings.schema import Settings
from unified_llm.surfaces.dbus.door import DbusDoor
from unified_llm.surfaces.http.app import create_app
from unified_llm.surfaces.http.listener import open_listener
from unified_llm.surfaces.http.server import HttpDoor


@dataclass(frozen=True, slots=True)
class BusDoor:
    """The connection, and what is exported on it."""

    bus: BusConnection
    door: DbusDoor


@asynccontextmanager
async def open_http(plan: Plan, rooms: Rooms) -> AsyncIterator[HttpDoor]:
    """On the sockets that systemd handed over, else on one of our own."""
    limits = terms.http_limits(plan.settings.socket)
    app = create_app(
        rooms.answering.inference,
        rooms.answering.embedding,
        rooms.models,
        rooms.library,
        rooms.status,
        rooms.answering.routes,
        rooms.answering.spending,
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
        await stack.enter_async_context(running(door.run()))
        yield door


@asynccontextmanager
async def open_dbus(plan: Plan, rooms: Rooms, http: HttpDoor) -> AsyncIterator[BusDoor]:
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(open_connection(plan.settings.dbus.address))
        inhibitors = rooms.asleep.locks = Inhibitors(rooms.gate, rooms.scheduler)
        door = DbusDoor(
            bus,
            models=rooms.models,
            library=rooms.library,
            inference=rooms.answering.inference,
            jobs=rooms.jobs,
            status=rooms.status,
            watch=rooms.watch,
            admission=Admission(rooms.gate, _authority(plan.settings, bus)),
            http=HttpAccess(rooms.gate, http),
            leases=MemoryLeases(rooms.gate, rooms.scheduler),
            inhibitors=inhibitors,
            administration=rooms.administration,
            devices=rooms.engine.devices,
            routes=rooms.answering.routes,
            spending=rooms.answering.spending,
            log=_log_control(plan, rooms.gate),
            version=plan.version,
            http_socket_path=plan.settings.socket.path,
        )
        await stack.enter_async_context(door)
        for room in (rooms.asleep, rooms.neighbourhood):
            room.on_unload = lambda reason, begins: door.tell_unload(reason, begins=begins)
        if plan.settings.host.unload_before_sleep:
            await stack.enter_async_context(running(SleepWatch(bus, rooms.asleep).run()))
        power = PowerWatch(bus, rooms.neighbourhood.on_power)
        await stack.enter_async_context(running(power.run()))
        await bus.request_name(BUS_NAME)
        yield BusDoor(bus, door)


def _log_control(plan: Plan, gate: Gate) -> LogControl:
    target = "journal" if isinstance(plan.device, JournalDevice) else "console"
    return LogControl(gate, IDENTIFIER, target)


def _authority(settings: Settings, bus: BusConnection) -> PolkitAuthority | None:
    return PolkitAuthority(bus) if settings.dbus.authority == "polkit" else None
