"""Gives the daemon time before the machine sleeps or goes down, by a delay lock of logind.

As systemd documents it in INHIBITOR_LOCKS and org.freedesktop.login1(5):
1. The match comes first, then the lock, then a look at PreparingForSleep: no announcement is lost.
2. The lock is a descriptor. Closing it lets the machine sleep; so does its end with this process.
3. After a sleep the next lock is taken before anything else is done.
4. A logind that is restarted has forgotten the lock.
"""

import asyncio
import logging
import os
from contextlib import ExitStack
from typing import Final, Protocol, cast

from unified_llm.bus.connection import BusConnection, Signal
from unified_llm.bus.faults import BusFault
from unified_llm.bus.names import DBUS_NAME, PROPERTIES_INTERFACE
from unified_llm.bus.values import unwrap
from unified_llm.domain.units import Seconds

_log = logging.getLogger(__name__)

_NAME: Final = "org.freedesktop.login1"
_PATH: Final = "/org/freedesktop/login1"
_MANAGER: Final = f"{_NAME}.Manager"
_SLEEP: Final = "PrepareForSleep"
_SHUTDOWN: Final = "PrepareForShutdown"
_ANNOUNCEMENTS: Final = (_SLEEP, _SHUTDOWN)
_PROPERTIES: Final = ("PreparingForSleep", "PreparingForShutdown")
_RULES: Final = (
    f"type='signal',sender='{DBUS_NAME}',interface='{DBUS_NAME}',member='NameOwnerChanged',"
    f"arg0='{_NAME}'",
    *(
        f"type='signal',sender='{_NAME}',path='{_PATH}',interface='{_MANAGER}',member='{member}'"
        for member in _ANNOUNCEMENTS
    ),
)
# The rest is for the kernel and for whoever else holds a lock.
_SHARE: Final = 0.8
_MICROSECONDS: Final = 1_000_000


class Sleeper(Protocol):
    """What has to be done around a sleep."""

    async def before_sleep(self, limit: Seconds, *, is_shutdown: bool) -> None:
        """Get ready within `limit`; the machine sleeps, or goes down, when this returns."""

    def after_sleep(self) -> None:
        """The machine is awake, or stays awake after all. Returns at once."""

    def on_lock(self, refusal: str | None) -> None:
        """There is a lock, or logind has refused it with this reason. Returns at once."""


class SleepWatch:
    """Keeps a delay lock on a bus, and tells `sleeper` of sleeps."""

    def __init__(self, bus: BusConnection, sleeper: Sleeper) -> None:
        self._bus = bus
        self._sleeper = sleeper
        # An announcement, or None when logind has come, gone or been replaced. Who it is now is
        # asked then, since several changes may have queued up.
        self._news: asyncio.Queue[tuple[str, bool] | None] = asyncio.Queue()
        self._followed = ""
        self._listening = ExitStack()
        self._lock: int | None = None
        self._coming: str | None = None

    async def run(self) -> None:
        """Watch until cancelled. Without logind it waits for one. Raises BusFault off the bus."""
        stop = self._bus.on_signal(DBUS_NAME, DBUS_NAME, "NameOwnerChanged", self._on_owner)
        try:
            for rule in _RULES:
                await self._bus.add_match(rule)
            await self._follow(await self._owner())
            while True:
                news = await self._news.get()
                if news is None:
                    await self._follow(await self._owner())
                else:
                    await self._turn(*news)
        finally:
            stop()
            self._listening.close()
            self._unlock()

    def _on_owner(self, signal: Signal) -> None:
        if signal.body[:1] == (_NAME,):
            self._news.put_nowait(None)

    async def _owner(self) -> str:
        try:
            (owner,) = await self._bus.call_bus("GetNameOwner", "s", _NAME, expects="s")
        except BusFault:
            return ""
        return cast("str", owner)

    async def _follow(self, owner: str) -> None:
        """Deal with the logind of this unique name from now on; none if it is empty."""
        if owner == self._followed:
            return
        self._listening.close()
        self._unlock()
        self._followed = owner
        if not owner:
            return
        for member in _ANNOUNCEMENTS:
            self._listening.callback(
                self._bus.on_signal(owner, _MANAGER, member, self._on_announcement)
            )
        await self._take_lock()
        for member, name in zip(_ANNOUNCEMENTS, _PROPERTIES, strict=True):
            if (preparing := await self._property(name)) is not None:
                await self._turn(member, bool(preparing))

    def _on_announcement(self, signal: Signal) -> None:
        self._news.put_nowait((signal.member, signal.body[:1] == (True,)))

    async def _turn(self, announcement: str, is_coming: bool) -> None:
        if is_coming and self._coming is None:
            self._coming = announcement
            try:
                limit = await self._limit()
                await self._sleeper.before_sleep(limit, is_shutdown=announcement == _SHUTDOWN)
            finally:
                self._unlock()
        elif not is_coming and self._coming == announcement:
            self._coming = None
            await self._take_lock()
            self._sleeper.after_sleep()

    async def _take_lock(self) -> None:
        self._unlock()
        what = ("sleep:shutdown", "unified-llm", "Models leave memory before that", "delay")
        try:
            (lock,) = await self._bus.call(
                _NAME, _PATH, _MANAGER, "Inhibit", "ssss", *what, expects="h"
            )
        except BusFault as fault:
            if not await self._owner():
                return  # gone meanwhile: its end is in the queue
            _log.warning("logind refuses a delay lock: %s", fault)
            self._sleeper.on_lock(str(fault))
            return
        self._lock = cast("int", lock)
        self._sleeper.on_lock(None)

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def _limit(self) -> Seconds:
        longest = await self._property("InhibitDelayMaxUSec")
        return Seconds(_SHARE * (longest or 0) / _MICROSECONDS)

    async def _property(self, name: str) -> int | None:
        """A number or truth that logind publishes; None if it does not answer."""
        try:
            (value,) = await self._bus.call(
                _NAME, _PATH, PROPERTIES_INTERFACE, "Get", "ss", _MANAGER, name, expects="v"
            )
        except BusFault as fault:
            _log.warning("logind does not tell %s: %s", name, fault)
            return None
        plain = unwrap(value)
        return plain if isinstance(plain, int) else None
