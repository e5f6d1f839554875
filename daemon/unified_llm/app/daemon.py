"""The daemon's own life: start, serve, reload, stop."""

import asyncio
import logging
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from enum import IntEnum, auto
from pathlib import Path

from unified_llm.app import terms
from unified_llm.app.compose import House, open_house
from unified_llm.app.logs import set_level
from unified_llm.app.plan import Plan
from unified_llm.app.reloading import in_force
from unified_llm.app.strategies import Strategies, load_checked
from unified_llm.bus.connection import BusConnection
from unified_llm.domain.errors import ConfigurationError
from unified_llm.domain.events import Event, ModelChanged
from unified_llm.domain.lifecycle import ModelState
from unified_llm.domain.models import ModelId
from unified_llm.domain.units import Seconds
from unified_llm.guard.audit import AuditDevice
from unified_llm.host.activation import adopt_sockets
from unified_llm.host.clock import MonotonicClock
from unified_llm.host.notify import Notifier
from unified_llm.host.pressure import pressure_files
from unified_llm.host.watchdog import Probe, Watchdog, watchdog_interval
from unified_llm.routing.budget import Limit
from unified_llm.settings.credentials import DIRECTORY_VARIABLE
from unified_llm.settings.schema import Settings

_log = logging.getLogger(__name__)


class _Wish(IntEnum):
    """The gravest first."""

    STOP = auto()
    BUS_LOST = auto()
    RELOAD = auto()


class _Wishes:
    """What has been asked for and not been taken up; the same asked for again meanwhile is one.

    on_stop: called at once when a stop is asked for.
    """

    def __init__(self) -> None:
        self._open: set[_Wish] = set()
        self._came = asyncio.Event()
        self.on_stop: Callable[[], None] = _nothing

    def add(self, wish: _Wish) -> None:
        self._open.add(wish)
        self._came.set()
        if wish is _Wish.STOP:
            self.on_stop()

    async def take(self) -> _Wish:
        """Wait for the next one."""
        while not self._open:
            self._came.clear()
            await self._came.wait()
        wish = min(self._open)
        self._open.remove(wish)
        return wish


def _nothing() -> None:
    pass


@dataclass(frozen=True, slots=True)
class Start:
    """What a start is given. source: the file the settings came from, read again on reload."""

    settings: Settings
    source: Path
    device: AuditDevice
    environment: Mapping[str, str]
    version: str
    strategies: Strategies


async def run_daemon(start: Start) -> int:
    """Serve until told to stop. The exit status: 0, or 1 if the bus was lost.

    Raises ConfigurationError or BusFault if the doors can not be opened.
    """
    wishes = _Wishes()
    with Notifier(start.environment) as notifier, _signals(wishes):
        registry = terms.registry_path(start.settings.registry, start.environment)
        credentials = start.environment.get(DIRECTORY_VARIABLE)
        plan = Plan(
            start.settings,
            start.device,
            adopt_sockets(),
            start.version,
            registry,
            Path(credentials) if credentials else None,
            pressure_files(start.environment),
            start.strategies,
        )
        async with AsyncExitStack() as stack:
            house = await _open_unless_stopped(stack, plan, wishes)
            if house is None:
                return 0
            life = _Life(start, house, notifier, wishes)
            async with asyncio.TaskGroup() as group:
                life.follow(group)
                status = await life.serve()
                life.unfollow()
    return status


async def _open_unless_stopped(stack: AsyncExitStack, plan: Plan, wishes: _Wishes) -> House | None:
    """The house, put on `stack`; None if a stop came first: a bus may take long to answer."""
    opening = asyncio.timeout(None)
    try:
        async with opening:
            wishes.on_stop = lambda: opening.reschedule(0)
            return await stack.enter_async_context(open_house(plan))
    except TimeoutError:
        if not opening.expired():
            raise
        _log.info("told to stop before the doors were open")
        return None
    finally:
        wishes.on_stop = _nothing


@contextmanager
def _signals(wishes: _Wishes) -> Iterator[None]:
    """SIGTERM and SIGINT stop, SIGHUP reloads."""
    loop = asyncio.get_running_loop()
    meanings = {
        signal.SIGTERM: _Wish.STOP,
        signal.SIGINT: _Wish.STOP,
        signal.SIGHUP: _Wish.RELOAD,
    }
    for number, wish in meanings.items():
        loop.add_signal_handler(number, wishes.add, wish)
    try:
        yield
    finally:
        for number in meanings:
            loop.remove_signal_handler(number)


def _read(source: Path) -> tuple[Settings, Strategies, tuple[Limit, ...]]:
    """All that a reload takes. May take seconds: budgets name groups of a name service."""
    settings, strategies = load_checked(source)
    return settings, strategies, terms.limits(settings.money)


class _Life:
    """The daemon from READY to STOPPING."""

    def __init__(self, start: Start, house: House, notifier: Notifier, wishes: _Wishes) -> None:
        self._start = start
        self._settings = start.settings
        self._house = house
        self._notifier = notifier
        self._wishes = wishes
        self._states: dict[ModelId, ModelState] = {}
        self._followers: list[asyncio.Task[None]] = []
        self._rooms = house.rooms
        self._unsubscribe = house.rooms.watch.subscribe(self._on_event)
        self._rooms.administration.reloads.on_asked = lambda: wishes.add(_Wish.RELOAD)

    def follow(self, group: asyncio.TaskGroup) -> None:
        """Begin to watch the bus and to feed the watchdog."""
        dbus = self._house.dbus
        probes: dict[str, Probe] = {"scheduler": self._rooms.scheduler.ping}
        if dbus is not None:
            probes["bus"] = dbus.bus.ping
            self._followers.append(group.create_task(self._wait_for_loss(dbus.bus)))
        interval = watchdog_interval(self._start.environment)
        if interval is not None:
            watchdog = Watchdog(interval, MonotonicClock(), self._notifier.alive, probes)
            self._followers.append(group.create_task(watchdog.run()))

    def unfollow(self) -> None:
        self._unsubscribe()
        for follower in self._followers:
            follower.cancel()

    async def serve(self) -> int:
        self._notifier.ready(self._rooms.status.render_line())
        _log.info("ready: %s", self._rooms.status.render_line())
        while (wish := await self._wishes.take()) is _Wish.RELOAD:
            await self._reload()
        await self._drain()
        return 1 if wish is _Wish.BUS_LOST else 0

    async def _wait_for_loss(self, bus: BusConnection) -> None:
        _log.error("the bus is gone: %s", await bus.wait_closed())
        self._wishes.add(_Wish.BUS_LOST)

    async def _reload(self) -> None:
        """Take what may change from the file; a broken file changes nothing."""
        self._notifier.reloading()
        end = self._rooms.administration.reloads.begin()
        try:
            wanted, strategies, limits = await asyncio.to_thread(_read, self._start.source)
        except ConfigurationError as error:
            _log.error("reload refused, the old configuration stays: %s", error.message)
            self._notifier.ready(f"reload refused: {error.message}")
            end(error)
            return
        settings, waiting = in_force(wanted, self._settings)
        if waiting:
            _log.warning("changes of %s take effect at the next start", ", ".join(waiting))
        self._settings = settings
        set_level(settings.log.level)
        if "providers" not in waiting:
            self._rooms.answering.follow(settings, strategies, limits)
        await self._rooms.catalogue.refresh(settings)
        self._rooms.preload.follow(settings)
        self._tell_state()
        line = self._rooms.status.render_line()
        told = f"; {', '.join(waiting)} changed and wait for a restart" if waiting else ""
        self._notifier.ready(line + told)
        end(waiting)

    async def _drain(self) -> None:
        """Take nothing new, let answers end, then end the rest, each with one terminal event."""
        grace = self._settings.scheduler.drain_seconds
        self._notifier.stopping(f"draining for at most {grace:g} s")
        _log.info("draining for at most %g s", grace)
        self._rooms.status.draining_began()
        if self._house.dbus is not None:
            self._house.dbus.door.tell_unload("shutdown", begins=True)
        # They end with this process, so no worker shall take time to save more.
        self._rooms.states.close()
        self._tell_state()
        async with asyncio.TaskGroup() as group:
            beside = [
                group.create_task(self._hurry_when_told_again()),
                group.create_task(self._end_generations_after(grace)),
            ]
            async with asyncio.TaskGroup() as closing:
                closing.create_task(self._house.http.close(grace))
                # A little longer: a stream shall end by the door's word, not by its worker's death.
                closing.create_task(self._rooms.scheduler.close(Seconds(grace + 1)))
            for task in beside:
                task.cancel()

    async def _end_generations_after(self, grace: Seconds) -> None:
        """As the HTTP door does by itself."""
        if self._house.dbus is not None:
            await asyncio.sleep(grace)
            self._house.dbus.door.end_generations()

    def _tell_state(self) -> None:
        if self._house.dbus is not None:
            self._house.dbus.door.refresh_state()
            self._house.dbus.door.refresh_log()

    async def _hurry_when_told_again(self) -> None:
        while await self._wishes.take() is not _Wish.STOP:
            pass
        _log.warning("told to stop again: no answer is waited for any more")
        await self._rooms.scheduler.close(Seconds(0))

    def _on_event(self, event: Event) -> None:
        """Keep the line of `systemctl status` true: when a state changes, not with each lease."""
        if isinstance(event, ModelChanged):
            status = event.status
            if self._states.get(status.id) is status.state:
                return
            self._states[status.id] = status.state
        self._notifier.status(self._rooms.status.render_line())
