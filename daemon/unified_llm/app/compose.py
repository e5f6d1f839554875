"""The house, in the order it is built; it is taken down in the reverse.

Reading `open_house` from top to bottom is reading the start order. Nothing is reachable before the
rooms behind the doors are there, and READY is said when both doors answer.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from unified_llm.app.doors import BusDoor, open_dbus, open_http
from unified_llm.app.plan import Plan
from unified_llm.app.rooms import Rooms, open_rooms
from unified_llm.surfaces.http.server import HttpDoor


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
        rooms = await stack.enter_async_context(open_rooms(plan))
        http = await stack.enter_async_context(open_http(plan, rooms))
        dbus = None
        if plan.settings.dbus.enabled:
            dbus = await stack.enter_async_context(open_dbus(plan, rooms, http))
        await http.opened.wait()
        rooms.status.doors_opened()
        if dbus is not None:
            dbus.door.refresh_state()
        yield House(rooms, http, dbus)
