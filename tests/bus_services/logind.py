"""logind as far as sleeps go: it announces one, and sees who still holds a lock."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from unified_llm.bus.connection import BusConnection, open_connection
from unified_llm.bus.exporter import Exporter, open_exporter
from unified_llm.bus.faults import BusFault
from unified_llm.bus.interface import parse_interface
from unified_llm.bus.objects import CallContext, ExportedInterface, ExportedObject

NAME = "org.freedesktop.login1"
PATH = "/org/freedesktop/login1"
MANAGER = f"{NAME}.Manager"
BUS_POLICY = Path("/usr/share/dbus-1/system.d/org.freedesktop.login1.conf")

_MANAGER = parse_interface(f"""<node>
  <interface name="{MANAGER}">
    <method name="Inhibit">
      <arg name="what" type="s" direction="in"/><arg name="who" type="s" direction="in"/>
      <arg name="why" type="s" direction="in"/><arg name="mode" type="s" direction="in"/>
      <arg name="lock" type="h" direction="out"/>
    </method>
    <signal name="PrepareForSleep"><arg name="start" type="b"/></signal>
    <signal name="PrepareForShutdown"><arg name="start" type="b"/></signal>
    <property name="PreparingForSleep" type="b" access="read">
      <annotation name="org.freedesktop.DBus.Property.EmitsChangedSignal" value="false"/>
    </property>
    <property name="PreparingForShutdown" type="b" access="read">
      <annotation name="org.freedesktop.DBus.Property.EmitsChangedSignal" value="false"/>
    </property>
    <property name="InhibitDelayMaxUSec" type="t" access="read">
      <annotation name="org.freedesktop.DBus.Property.EmitsChangedSignal" value="const"/>
    </property>
  </interface></node>""")


class FakeLogind:
    """refusal: what Inhibit answers instead of a lock. asked: the arguments of each Inhibit."""

    def __init__(self, exporter: Exporter) -> None:
        self._exporter = exporter
        self._locks: list[int] = []
        self._granted = asyncio.Semaphore(0)
        self.refusal: BusFault | None = None
        self.asked: list[tuple[str, ...]] = []

    def export(self, *, is_preparing: bool, delay: float) -> None:
        """delay: seconds that lock holders get."""
        properties = {
            "PreparingForSleep": is_preparing,
            "PreparingForShutdown": False,
            "InhibitDelayMaxUSec": int(delay * 1_000_000),
        }
        manager = ExportedInterface(_MANAGER, {"Inhibit": self._inhibit}, properties)
        self._exporter.export(PATH, ExportedObject((manager,)))

    async def lock_taken(self) -> None:
        """Wait for the next Inhibit that was granted."""
        await self._granted.acquire()

    def announce(self, *, is_sleep: bool) -> None:
        """Say that a sleep is coming, or over."""
        self._exporter.set_properties(PATH, MANAGER, {"PreparingForSleep": is_sleep})
        self._exporter.emit_signal(PATH, MANAGER, "PrepareForSleep", is_sleep)

    def announce_shutdown(self, *, is_coming: bool) -> None:
        """Say that the machine goes down, or does not after all."""
        self._exporter.set_properties(PATH, MANAGER, {"PreparingForShutdown": is_coming})
        self._exporter.emit_signal(PATH, MANAGER, "PrepareForShutdown", is_coming)

    async def locks_closed(self) -> None:
        """Wait until every lock handed out so far is closed; the machine would sleep now."""
        while self._locks:
            end = await asyncio.to_thread(os.read, self._locks[0], 1)
            assert end == b""
            os.close(self._locks.pop(0))

    @property
    def is_locked(self) -> bool:
        """Whether anybody holds a lock that `locks_closed` has not seen closed."""
        return bool(self._locks)

    def close(self) -> None:
        """Forget the locks, as a logind that ends does."""
        while self._locks:
            os.close(self._locks.pop())

    async def _inhibit(self, _context: CallContext, *asked: str) -> tuple[object, ...]:
        self.asked.append(asked)
        if self.refusal is not None:
            raise self.refusal
        reading, writing = os.pipe()
        self._locks.append(reading)
        self._granted.release()
        return (writing,)


@asynccontextmanager
async def open_logind(
    address: str, *, is_preparing: bool = False, delay: float = 30
) -> AsyncIterator[FakeLogind]:
    """Run it on the bus at `address`, which has to include BUS_POLICY."""
    async with open_connection(address) as bus, _serving(bus) as logind:
        logind.export(is_preparing=is_preparing, delay=delay)
        await bus.request_name(NAME)
        yield logind


@asynccontextmanager
async def _serving(bus: BusConnection) -> AsyncIterator[FakeLogind]:
    async with open_exporter(bus) as exporter:
        logind = FakeLogind(exporter)
        try:
            yield logind
        finally:
            logind.close()
