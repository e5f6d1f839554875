"""The delay lock: held while awake, given up when ready to sleep, taken again first."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from tests.bus_services.logind import BUS_POLICY, FakeLogind, open_logind
from tests.private_bus import PrivateBus, private_bus
from unified_llm.bus.connection import open_connection
from unified_llm.bus.faults import BusFault
from unified_llm.domain.units import Seconds
from unified_llm.host.logind import SleepWatch

pytestmark = pytest.mark.system


@dataclass
class Sleeper:
    """Notes what it is told; sleeps only when it `may_sleep`."""

    may_sleep: asyncio.Event = field(default_factory=asyncio.Event)
    limits: list[Seconds] = field(default_factory=list)
    refusals: list[str | None] = field(default_factory=list)
    shutdowns: list[bool] = field(default_factory=list)
    told: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    woken: asyncio.Event = field(default_factory=asyncio.Event)

    async def before_sleep(self, limit: Seconds, *, is_shutdown: bool) -> None:
        self.limits.append(limit)
        self.shutdowns.append(is_shutdown)
        self.told.release()
        await self.may_sleep.wait()

    def after_sleep(self) -> None:
        self.woken.set()

    def on_lock(self, refusal: str | None) -> None:
        self.refusals.append(refusal)
        self.told.release()


@pytest.fixture(scope="module")
def bus() -> Iterator[PrivateBus]:
    with private_bus(policies=(BUS_POLICY,)) as started:
        yield started


@asynccontextmanager
async def watching(bus: PrivateBus) -> AsyncIterator[Sleeper]:
    sleeper = Sleeper()
    async with open_connection(bus.address) as connection, asyncio.TaskGroup() as group:
        watch = group.create_task(SleepWatch(connection, sleeper).run())
        yield sleeper
        watch.cancel()


async def go_to_sleep(logind: FakeLogind, sleeper: Sleeper) -> None:
    logind.announce(is_sleep=True)
    await sleeper.told.acquire()
    sleeper.may_sleep.set()
    await logind.locks_closed()


async def test_the_lock_delays_a_sleep_and_says_what_for(bus: PrivateBus) -> None:
    async with open_logind(bus.address) as logind, watching(bus):
        await logind.lock_taken()
        ((what, who, _, mode),) = logind.asked
        assert (what, who, mode) == ("sleep:shutdown", "unified-llm", "delay")


async def test_the_lock_is_given_up_only_when_all_is_ready(bus: PrivateBus) -> None:
    async with open_logind(bus.address, delay=10) as logind, watching(bus) as sleeper:
        await logind.lock_taken()
        await sleeper.told.acquire()
        logind.announce(is_sleep=True)
        await sleeper.told.acquire()
        assert sleeper.limits == [8.0]
        assert logind.is_locked
        sleeper.may_sleep.set()
        await logind.locks_closed()


async def test_after_a_sleep_the_next_lock_comes_before_anything_else(bus: PrivateBus) -> None:
    async with open_logind(bus.address) as logind, watching(bus) as sleeper:
        await logind.lock_taken()
        await sleeper.told.acquire()
        await go_to_sleep(logind, sleeper)
        logind.announce(is_sleep=False)
        await sleeper.woken.wait()
        assert logind.is_locked
        assert len(logind.asked) == 2


async def test_a_sleep_that_had_begun_already_is_not_missed(bus: PrivateBus) -> None:
    async with open_logind(bus.address, is_preparing=True) as logind, watching(bus) as sleeper:
        await logind.lock_taken()
        await sleeper.told.acquire()
        await sleeper.told.acquire()
        assert len(sleeper.limits) == 1


async def test_a_logind_that_comes_later_or_again_is_asked_for_a_lock(bus: PrivateBus) -> None:
    async with watching(bus) as sleeper:
        for _ in range(2):
            async with open_logind(bus.address) as logind:
                await logind.lock_taken()
                await sleeper.told.acquire()
        assert sleeper.refusals == [None, None]


async def test_a_refused_lock_is_told_and_sleeps_are_followed_all_the_same(
    bus: PrivateBus,
) -> None:
    async with open_logind(bus.address) as logind:
        logind.refusal = BusFault("org.freedesktop.DBus.Error.AccessDenied", "Not today.")
        async with watching(bus) as sleeper:
            await sleeper.told.acquire()
            (refusal,) = sleeper.refusals
            assert refusal is not None
            assert "Not today." in refusal
            logind.announce(is_sleep=True)
            await sleeper.told.acquire()
            assert len(sleeper.limits) == 1


async def test_a_sleep_announced_by_somebody_else_is_none(bus: PrivateBus) -> None:
    async with open_logind(bus.address) as logind, watching(bus) as sleeper:
        await logind.lock_taken()
        await sleeper.told.acquire()
        async with open_connection(bus.address) as stranger:
            stranger.emit(
                "/org/freedesktop/login1",
                "org.freedesktop.login1.Manager",
                "PrepareForSleep",
                "b",
                True,
            )
            await stranger.ping()
        logind.announce(is_sleep=True)
        await sleeper.told.acquire()
        assert len(sleeper.limits) == 1


async def test_a_shutdown_is_delayed_too_and_may_be_called_off(bus: PrivateBus) -> None:
    async with open_logind(bus.address) as logind, watching(bus) as sleeper:
        await logind.lock_taken()
        await sleeper.told.acquire()
        logind.announce_shutdown(is_coming=True)
        await sleeper.told.acquire()
        assert sleeper.shutdowns == [True]
        sleeper.may_sleep.set()
        await logind.locks_closed()
        logind.announce_shutdown(is_coming=False)
        await sleeper.woken.wait()
        assert logind.is_locked
