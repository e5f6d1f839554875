"""A lease that is kept: from the daemon there is, as much as there is, and not beyond its use."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.bus.front_door import FrontDoor, open_front_door
from tests.fakes.house import GIB
from tests.private_bus import PrivateBus
from unified_llm.bus.connection import open_connection
from unified_llm.cli.vram import Wish, keep_lease
from unified_llm.domain.units import Bytes, Seconds

pytestmark = [pytest.mark.system, pytest.mark.slow]

PATIENCE = 60


@asynccontextmanager
async def keeping(
    bus: PrivateBus, size: int, *, retry: float = PATIENCE
) -> AsyncIterator["asyncio.Queue[str]"]:
    """What is told of the lease."""
    told: asyncio.Queue[str] = asyncio.Queue()
    wish = Wish(Bytes(size), "GameMode", "a game is running")
    async with open_connection(bus.address) as connection, asyncio.TaskGroup() as group:
        task = group.create_task(
            keep_lease(connection, wish, retry=Seconds(retry), tell=told.put_nowait)
        )
        async with asyncio.timeout(PATIENCE):
            yield told
        task.cancel()


async def until_committed(front: FrontDoor, size: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while front.house.scheduler.memory_committed != size:
            await asyncio.sleep(0.005)


async def test_it_is_held_as_long_as_it_is_kept(shared_bus: PrivateBus) -> None:
    async with open_front_door(shared_bus) as front:
        async with keeping(shared_bus, 2 * GIB) as told:
            assert await told.get() == "2.0 GiB are kept free of models"
            await until_committed(front, 2 * GIB)
        await until_committed(front, 0)


async def test_a_daemon_that_comes_later_or_again_grants_it_too(shared_bus: PrivateBus) -> None:
    async with keeping(shared_bus, GIB) as told:
        for _ in range(2):
            assert await told.get() == "the daemon does not run, so no model holds memory"
            async with open_front_door(shared_bus) as front:
                assert await told.get() == "1.0 GiB are kept free of models"
                await until_committed(front, GIB)


async def test_where_there_is_less_it_takes_half_of_it_and_half_again(
    shared_bus: PrivateBus,
) -> None:
    async with open_front_door(shared_bus) as front:
        budget = front.house.scheduler.memory_budget
        async with keeping(shared_bus, budget * 3) as told:
            assert "are kept free of models" in await told.get()
            await until_committed(front, budget * 3 // 4)


async def test_a_refusal_is_told_with_its_numbers_and_tried_again(shared_bus: PrivateBus) -> None:
    async with open_front_door(shared_bus) as front:
        scheduler = front.house.scheduler
        other = scheduler.reserve(scheduler.memory_budget, lambda: None)
        async with keeping(shared_bus, GIB, retry=0.05) as told:
            refused = await told.get()
            assert refused.startswith("nothing is kept free of models: 256.0 MiB can not be")
            assert "reserved by programs" in refused
            scheduler.unreserve(other)
            while "nothing is kept" in (last := await told.get()):
                pass
            assert last == "1.0 GiB are kept free of models"
