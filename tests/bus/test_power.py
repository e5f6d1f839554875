"""How the machine is powered, by whoever tells."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from tests.bus_services import power
from tests.bus_services.power import open_power_service, write_policy
from tests.private_bus import PrivateBus, private_bus
from unified_llm.bus.connection import open_connection
from unified_llm.host.power import Power, PowerWatch

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def bus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateBus]:
    with private_bus(policies=(write_policy(tmp_path_factory.mktemp("policy")),)) as started:
        yield started


class Rest:
    """Where the watch waits for a change to last, until the test lets it go on."""

    def __init__(self) -> None:
        self.lengths: list[float] = []
        self.begun = asyncio.Event()
        self.over = asyncio.Event()

    async def __call__(self, seconds: float) -> None:
        self.lengths.append(seconds)
        self.begun.set()
        await self.over.wait()


@asynccontextmanager
async def watching(bus: PrivateBus, rest: Rest) -> AsyncIterator["Watched"]:
    told: asyncio.Queue[Power] = asyncio.Queue()
    async with open_connection(bus.address) as connection, asyncio.TaskGroup() as group:
        watch = PowerWatch(connection, told.put_nowait, sleep=rest)
        task = group.create_task(watch.run())
        async with asyncio.timeout(60):
            yield Watched(told, watch)
        task.cancel()


@dataclass(frozen=True, slots=True)
class Watched:
    """What a watch has told, and what it knows beyond that."""

    told: "asyncio.Queue[Power]"
    watch: PowerWatch

    async def next(self) -> Power:
        return await self.told.get()

    async def until_known(self, power: Power) -> None:
        while self.watch._now() != power:
            await asyncio.sleep(0.005)


async def test_the_battery_is_told_at_once_and_a_change_when_it_has_lasted(bus: PrivateBus) -> None:
    rest = Rest()
    async with (
        open_power_service(bus.address, power.UPOWER, value=True) as upower,
        watching(bus, rest) as watched,
    ):
        assert await watched.next() == Power(on_battery=True)
        upower.set(False)
        await rest.begun.wait()
        assert rest.lengths == [5.0]
        assert watched.told.empty()
        rest.over.set()
        assert await watched.next() == Power(on_battery=False)


async def test_a_loose_plug_is_no_change(bus: PrivateBus) -> None:
    rest = Rest()
    async with (
        open_power_service(bus.address, power.UPOWER, value=False) as upower,
        open_power_service(bus.address, power.PROFILES, value="balanced") as profiles,
        watching(bus, rest) as watched,
    ):
        while await watched.next() != Power(on_battery=False, profile="balanced"):
            rest.over.set()
        rest.over.clear()
        rest.begun.clear()
        upower.set(True)
        await rest.begun.wait()
        upower.set(False)
        profiles.set("power-saver")
        # Both are there before the rest is over: signals of one service keep their order only.
        await watched.until_known(Power(on_battery=False, profile="power-saver"))
        rest.over.set()
        assert await watched.next() == Power(on_battery=False, profile="power-saver")


async def test_profiles_are_found_under_their_old_name_too(bus: PrivateBus) -> None:
    rest = Rest()
    rest.over.set()
    async with watching(bus, rest) as watched:
        async with open_power_service(bus.address, power.OLD_PROFILES, value="power-saver"):
            assert await watched.next() == Power(profile="power-saver")
        assert await watched.next() == Power()
