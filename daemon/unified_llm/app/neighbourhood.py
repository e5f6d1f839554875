"""What power, pressure and a full GPU mean to the models, by the policies of the section `host`."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Final, Protocol

from unified_llm.domain.devices import RAM, MemoryReading
from unified_llm.domain.events import Surroundings, SurroundingsChanged
from unified_llm.domain.ports import EventSink
from unified_llm.domain.units import Seconds
from unified_llm.host.power import Power
from unified_llm.settings.sections.host import HostSettings
from unified_llm.settings.sections.memory import MemorySettings

_log = logging.getLogger(__name__)
_POWER_SAVER: Final = "power-saver"
# As PrepareForUnload calls it.
_BATTERY: Final = "battery"


class Thrift(Protocol):
    """As scheduler.loop.SchedulerLoop does it."""

    def limit_idleness(self, limit: Seconds | None) -> None: ...
    def relieve_memory(self) -> None: ...


class Neighbourhood:
    """Takes what the machine tells, passes it on to the scheduler, and announces it to `sink`.

    now: what was announced last. on_unload: told `battery`, and whether idle models leave sooner
    from now on or as usual again; returns at once.
    """

    def __init__(
        self,
        scheduler: Thrift,
        sink: EventSink,
        host: HostSettings,
        memory: MemorySettings,
    ) -> None:
        self._scheduler = scheduler
        self._sink = sink
        self._host = host
        self._memory = memory
        self.now = Surroundings()
        self._plenty = asyncio.Event()
        self._plenty.set()
        self.on_unload: Callable[[str, bool], None] = lambda reason, begins: None

    async def plenty(self) -> None:
        """Wait until models may be loaded that nobody asks for."""
        await self._plenty.wait()

    def on_power(self, power: Power) -> None:
        """As for host.power.PowerWatch."""
        saves = power.profile == _POWER_SAVER and self._host.power_saver_is_battery
        limit = self._host.battery_keep_alive_seconds
        is_frugal = limit is not None and (power.on_battery is True or saves)
        _log.info(
            "power: on battery %s, profile %s; idle models stay %s",
            power.on_battery,
            power.profile,
            f"for at most {limit:g} s" if is_frugal else "as long as they are set to",
        )
        was_frugal = not self._plenty.is_set()
        self._scheduler.limit_idleness(limit if is_frugal else None)
        if is_frugal:
            self._plenty.clear()
        else:
            self._plenty.set()
        if is_frugal is not was_frugal:
            self.on_unload(_BATTERY, is_frugal)
        self._announce(on_battery=power.on_battery, power_profile=power.profile)

    def on_pressure(self) -> None:
        """As for host.pressure."""
        self._scheduler.relieve_memory()

    def on_pressure_unwatched(self, reason: str | None) -> None:
        """Why pressure is not watched; None if it is, or shall not be."""
        if reason is not None:
            _log.info("%s", reason)
        self._announce(pressure_unwatched=reason)

    def on_gpus(self, fault: str | None) -> None:
        """Why GPUs do not work; None if they do."""
        self._announce(gpu_fault=fault)

    def on_reading(self, reading: MemoryReading) -> None:
        """Full from `start_percent` of a GPU on, and until all are down to `stop_percent`."""
        shares = [
            100 * device.used / device.total
            for device in reading.devices
            if device.id != RAM and device.used is not None and device.total
        ]
        limit = self._memory.stop_percent if self.now.is_gpu_full else self._memory.start_percent
        self._announce(is_gpu_full=max(shares) > limit if shares else None)

    def _announce(self, **changes: object) -> None:
        surroundings = replace(self.now, **changes)  # type: ignore[arg-type]
        if surroundings != self.now:
            self.now = surroundings
            self._sink(SurroundingsChanged(surroundings))
