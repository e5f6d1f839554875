"""Watching a service that comes and goes, on a bus that would start it for a mere call."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.bus_services import gamemode
from tests.bus_services.gamemode import open_gamemode
from tests.private_bus import private_session_bus
from unified_llm.bus.connection import open_connection
from unified_llm.bus.faults import BusFault
from unified_llm.bus.following import RemoteProperty, follow_property
from unified_llm.bus.names import PROPERTIES_INTERFACE
from unified_llm.domain.units import Seconds

pytestmark = pytest.mark.system

CLIENTS = RemoteProperty(
    gamemode.NAME, gamemode.PATH, gamemode.NAME, "ClientCount", also=("GameRegistered",)
)


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Touched when the bus starts the service."""
    return tmp_path_factory.mktemp("trace") / "started"


@pytest.fixture(scope="module")
def session_bus(tmp_path_factory: pytest.TempPathFactory, trace: Path) -> Iterator[str]:
    data = tmp_path_factory.mktemp("data")
    gamemode.write_activation(data, trace)
    with private_session_bus(data) as address:
        yield address


@asynccontextmanager
async def following(address: str, wanted: RemoteProperty) -> AsyncIterator["asyncio.Queue[object]"]:
    """What the follower is told."""
    told: asyncio.Queue[object] = asyncio.Queue()
    async with open_connection(address) as bus, asyncio.TaskGroup() as group:
        task = group.create_task(follow_property(bus, wanted, told.put_nowait))
        async with asyncio.timeout(60):
            yield told
        task.cancel()


async def test_a_value_is_told_at_first_and_with_each_change(session_bus: str) -> None:
    async with (
        open_gamemode(session_bus, clients=1) as service,
        following(session_bus, CLIENTS) as told,
    ):
        assert await told.get() == 1
        service.register()
        assert await told.get() == 2
        service.unregister()
        assert await told.get() == 1


async def test_a_service_that_comes_goes_and_comes_again_is_followed(session_bus: str) -> None:
    async with following(session_bus, CLIENTS) as told:
        assert await told.get() is None
        for clients in (1, 3):
            async with open_gamemode(session_bus, clients=clients) as service:
                assert await told.get() == clients
                service.register()
                assert await told.get() == clients + 1
            assert await told.get() is None


async def test_a_property_that_is_not_offered_is_unknown(session_bus: str) -> None:
    nothing = RemoteProperty(gamemode.NAME, gamemode.PATH, gamemode.NAME, "Players")
    async with open_gamemode(session_bus), following(session_bus, nothing) as told:
        assert await told.get() is None


async def test_the_service_is_not_started_for_it(session_bus: str, trace: Path) -> None:
    async with following(session_bus, CLIENTS) as told:
        assert await told.get() is None
        async with open_connection(session_bus) as bus:
            await bus.ping()
            assert not trace.exists()
            # What would have happened:
            with pytest.raises(BusFault):
                await bus.call(
                    gamemode.NAME,
                    gamemode.PATH,
                    PROPERTIES_INTERFACE,
                    "Get",
                    "ss",
                    gamemode.NAME,
                    "ClientCount",
                    flags=0,
                    timeout=Seconds(0.1),
                )
            async with asyncio.timeout(60):
                while not trace.exists():
                    await asyncio.sleep(0.05)
