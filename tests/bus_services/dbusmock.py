"""Services of the desktop as python-dbusmock plays them: by people who have never heard of us.

Debian's python3-dbusmock, run by the system's own interpreter, whose bindings of D-Bus no virtual
environment has.
"""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from tests.private_bus import PrivateBus
from unified_llm.bus.connection import BusConnection, open_connection
from unified_llm.bus.names import PROPERTIES_INTERFACE
from unified_llm.bus.values import Variant

_COMMAND: Final = ("/usr/bin/python3", "-I", "-m", "dbusmock", "--template")
_MOCK: Final = "org.freedesktop.DBus.Mock"


@dataclass(frozen=True, slots=True)
class Template:
    """What dbusmock plays: its name there, and the one object with its main interface."""

    name: str
    service: str
    path: str
    interface: str


LOGIND: Final = Template(
    "logind",
    "org.freedesktop.login1",
    "/org/freedesktop/login1",
    "org.freedesktop.login1.Manager",
)
UPOWER: Final = Template(
    "upower", "org.freedesktop.UPower", "/org/freedesktop/UPower", "org.freedesktop.UPower"
)
PROFILES: Final = Template(
    "power_profiles_daemon",
    "net.hadess.PowerProfiles",
    "/net/hadess/PowerProfiles",
    "net.hadess.PowerProfiles",
)


@dataclass(frozen=True, slots=True)
class MockedService:
    """A running one, as the tests steer it."""

    template: Template
    client: BusConnection

    async def call(self, member: str, signature: str = "", *values: object) -> tuple[object, ...]:
        """Call a method of the service's own interface."""
        template = self.template
        return await self.client.call(
            template.service, template.path, template.interface, member, signature, *values
        )

    async def add_property(self, name: str, value: Variant) -> None:
        """Have a property that the template lacks."""
        await self._steer("AddProperty", "ssv", name, value)

    async def set_property(self, name: str, value: Variant) -> None:
        """Change one, and tell of it."""
        template = self.template
        await self.client.call(
            *(template.service, template.path, PROPERTIES_INTERFACE, "Set", "ssv"),
            *(template.interface, name, value),
        )

    async def emit(self, signal: str, value: Variant) -> None:
        """Send a signal with one argument."""
        await self._steer("EmitSignal", "sssav", signal, value.signature, [value])

    async def _steer(self, member: str, signature: str, *values: object) -> None:
        template = self.template
        await self.client.call(
            *(template.service, template.path, _MOCK, member, signature),
            *(template.interface, *values),
        )


@asynccontextmanager
async def open_dbusmock(bus: PrivateBus, template: Template) -> AsyncIterator[MockedService]:
    """Run it on `bus`, whose policies have to let root own its name."""
    with subprocess.Popen(
        [*_COMMAND, template.name],
        env=bus.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            async with open_connection(bus.address) as client:
                while await client.call_bus("NameHasOwner", "s", template.service) != (True,):
                    assert process.poll() is None, f"dbusmock has ended: {_said_by(process)}"
                    await asyncio.sleep(0.05)
                yield MockedService(template, client)
        finally:
            process.kill()


def _said_by(process: "subprocess.Popen[str]") -> str:
    assert process.stderr is not None
    return process.stderr.read()
