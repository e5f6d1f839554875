"""Whether the machine runs on battery, and the power profile its user has chosen.

UPower and the daemons of power profiles (power-profiles-daemon, tuned-ppd, tlp-pd) are optional and
never started: what nobody tells is None.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from unified_llm.bus.connection import BusConnection
from unified_llm.bus.following import RemoteProperty, follow_property
from unified_llm.domain.units import Seconds

_BATTERY: Final = RemoteProperty(
    "org.freedesktop.UPower", "/org/freedesktop/UPower", "org.freedesktop.UPower", "OnBattery"
)
# The same under two names, of which older daemons have the second alone.
_PROFILE: Final = RemoteProperty(
    "org.freedesktop.UPower.PowerProfiles",
    "/org/freedesktop/UPower/PowerProfiles",
    "org.freedesktop.UPower.PowerProfiles",
    "ActiveProfile",
)
_OLD_PROFILE: Final = RemoteProperty(
    "net.hadess.PowerProfiles",
    "/net/hadess/PowerProfiles",
    "net.hadess.PowerProfiles",
    "ActiveProfile",
)
# A loose plug shall not send models away and bring them back.
_SETTLE: Final = Seconds(5)


@dataclass(frozen=True, slots=True)
class Power:
    """on_battery, profile: None while nobody tells."""

    on_battery: bool | None = None
    profile: str | None = None


class PowerWatch:
    """Tells `on_power` how the machine is powered: at once, and then what has lasted a while."""

    def __init__(
        self,
        bus: BusConnection,
        on_power: Callable[[Power], None],
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._bus = bus
        self._on_power = on_power
        self._sleep = sleep
        self._on_battery: bool | None = None
        self._profiles: dict[RemoteProperty, str | None] = {}
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Watch until cancelled. Raises BusFault off the bus."""
        async with asyncio.TaskGroup() as group:
            group.create_task(follow_property(self._bus, _BATTERY, self._on_battery_told))
            for source in (_PROFILE, _OLD_PROFILE):
                group.create_task(
                    follow_property(self._bus, source, partial(self._on_profile_told, source))
                )
            group.create_task(self._tell())

    async def _tell(self) -> None:
        told = Power()
        while True:
            await self._changed.wait()
            self._changed.clear()
            power = self._now()
            if power == told:
                continue
            if told != Power():
                await self._sleep(_SETTLE)
                power = self._now()
            if power != told:
                told = power
                self._on_power(power)

    def _now(self) -> Power:
        profile = self._profiles.get(_PROFILE) or self._profiles.get(_OLD_PROFILE)
        return Power(self._on_battery, profile)

    def _on_battery_told(self, value: object | None) -> None:
        self._on_battery = value if isinstance(value, bool) else None
        self._changed.set()

    def _on_profile_told(self, source: RemoteProperty, value: object | None) -> None:
        self._profiles[source] = value[:64] if isinstance(value, str) else None
        self._changed.set()
