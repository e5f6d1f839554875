"""GameMode as its clients see it on the session bus, and a file with which a bus would start it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from unified_llm.bus.connection import open_connection
from unified_llm.bus.exporter import Exporter, open_exporter
from unified_llm.bus.interface import parse_interface
from unified_llm.bus.objects import ExportedInterface, ExportedObject

NAME = "com.feralinteractive.GameMode"
PATH = "/com/feralinteractive/GameMode"

_INTERFACE = parse_interface(f"""<node>
  <interface name="{NAME}">
    <signal name="GameRegistered"><arg name="pid" type="i"/><arg name="game" type="o"/></signal>
    <signal name="GameUnregistered"><arg name="pid" type="i"/><arg name="game" type="o"/></signal>
    <property name="ClientCount" type="i" access="read">
      <annotation name="org.freedesktop.DBus.Property.EmitsChangedSignal" value="true"/>
    </property>
  </interface></node>""")


class FakeGameMode:
    """Knows how many games there are."""

    def __init__(self, exporter: Exporter, clients: int) -> None:
        self._exporter = exporter
        self._clients = clients
        found = ExportedInterface(_INTERFACE, {}, {"ClientCount": clients})
        exporter.export(PATH, ExportedObject((found,)))

    def register(self) -> None:
        """A game has begun."""
        self._tell("GameRegistered", self._clients + 1)

    def unregister(self) -> None:
        """A game has ended."""
        self._tell("GameUnregistered", self._clients - 1)

    def _tell(self, signal: str, clients: int) -> None:
        self._clients = clients
        self._exporter.set_properties(PATH, NAME, {"ClientCount": clients})
        self._exporter.emit_signal(PATH, NAME, signal, 4711, f"{PATH}/Games/4711")


@asynccontextmanager
async def open_gamemode(address: str, *, clients: int = 0) -> AsyncIterator[FakeGameMode]:
    """Run it on the session bus at `address`."""
    async with open_connection(address) as bus, open_exporter(bus) as exporter:
        gamemode = FakeGameMode(exporter, clients)
        await bus.request_name(NAME)
        yield gamemode


def write_activation(folder: Path, trace: Path) -> None:
    """Under the data directory `folder`: have a bus that is to start GameMode touch `trace`."""
    services = folder / "dbus-1" / "services"
    services.mkdir(parents=True)
    (services / f"{NAME}.service").write_text(
        f"[D-BUS Service]\nName={NAME}\nExec=/usr/bin/touch {trace}\n"
    )
