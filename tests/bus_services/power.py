"""UPower and power-profiles-daemon, as far as somebody watches them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from unified_llm.bus.connection import open_connection
from unified_llm.bus.exporter import Exporter, open_exporter
from unified_llm.bus.interface import parse_interface
from unified_llm.bus.objects import ExportedInterface, ExportedObject

UPOWER = "org.freedesktop.UPower"
PROFILES = "org.freedesktop.UPower.PowerProfiles"
OLD_PROFILES = "net.hadess.PowerProfiles"

_PATHS = {
    UPOWER: "/org/freedesktop/UPower",
    PROFILES: "/org/freedesktop/UPower/PowerProfiles",
    OLD_PROFILES: "/net/hadess/PowerProfiles",
}
_PROPERTIES = {
    UPOWER: ("OnBattery", "b"),
    PROFILES: ("ActiveProfile", "s"),
    OLD_PROFILES: ("ActiveProfile", "s"),
}


def write_policy(folder: Path) -> Path:
    """What lets root own these names on a bus that denies by default."""
    rules = "".join(
        f'<policy user="root"><allow own="{name}"/></policy>'
        f'<policy context="default"><allow send_destination="{name}"/></policy>'
        for name in _PATHS
    )
    file = folder / "power.conf"
    file.write_text(f"<busconfig>{rules}</busconfig>")
    return file


class FakePowerService:
    """One property that changes."""

    def __init__(self, exporter: Exporter, name: str, value: object) -> None:
        self._exporter = exporter
        self._name = name
        property_, signature = _PROPERTIES[name]
        interface = parse_interface(
            f'<node><interface name="{name}">'
            f'<property name="{property_}" type="{signature}" access="read">'
            '<annotation name="org.freedesktop.DBus.Property.EmitsChangedSignal" value="true"/>'
            "</property></interface></node>"
        )
        found = ExportedInterface(interface, {}, {property_: value})
        exporter.export(_PATHS[name], ExportedObject((found,)))

    def set(self, value: object) -> None:
        """It is this from now on."""
        property_, _ = _PROPERTIES[self._name]
        self._exporter.set_properties(_PATHS[self._name], self._name, {property_: value})


@asynccontextmanager
async def open_power_service(
    address: str, name: str, value: object
) -> AsyncIterator[FakePowerService]:
    """Run it on the bus at `address`, which has to include the policy."""
    async with open_connection(address) as bus, open_exporter(bus) as exporter:
        service = FakePowerService(exporter, name, value)
        await bus.request_name(name)
        yield service
