"""One user sends more than there is time for; the others do not notice."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final, cast

import pytest

from tests.bus.flood import open_flood
from tests.bus.probe import Probe, ask, open_probe
from tests.private_bus import PrivateBus, effective_user
from tests.whole_daemon import open_daemon
from unified_llm.bus.connection import BusConnection, open_connection
from unified_llm.bus.names import (
    BUS_NAME,
    MANAGER_INTERFACE,
    PEER_INTERFACE,
    ROOT_PATH,
)
from unified_llm.bus.standard import StandardAnswers
from unified_llm.domain.units import Seconds

pytestmark = [pytest.mark.system, pytest.mark.slow]

NOBODY: Final = 65534
FLOOD_SECONDS: Final = 3
# What clients wait by default. Beside a flood it takes a small part of that.
LIMIT: Final = Seconds(25)


@asynccontextmanager
async def open_users(bus: PrivateBus) -> AsyncIterator[tuple[Probe, BusConnection, BusConnection]]:
    """The service, and connections of nobody and of root that it has met."""
    async with AsyncExitStack() as stack:
        probe = await stack.enter_async_context(open_probe(bus.address))
        with effective_user("nobody"):
            nobody = await stack.enter_async_context(open_connection(bus.address))
        root = await stack.enter_async_context(open_connection(bus.address))
        for client in (nobody, root):
            await ask(client, "Echo", "s", "hello")
        yield probe, nobody, root


@asynccontextmanager
async def not_reading(probe: Probe) -> AsyncIterator[None]:
    """Have everything that is sent in the body wait in the service's socket."""
    stream, loop = cast("Any", probe.bus._stream), asyncio.get_running_loop()
    loop.remove_reader(stream._sock.fileno())
    yield
    loop.add_reader(stream._sock.fileno(), stream._on_readable)


@pytest.mark.parametrize("connections", [1, 20])
async def test_another_user_is_answered_while_calls_that_want_no_reply_pour_in(
    connections: int,
) -> None:
    """Without a quota, and with the library's parser, the answer took 29 seconds."""
    with open_daemon() as daemon:
        assert daemon.bus is not None
        async with (
            open_connection(daemon.bus.address) as client,
            open_flood(daemon.bus, connections),
        ):
            await asyncio.sleep(FLOOD_SECONDS)
            get_model = (BUS_NAME, ROOT_PATH, MANAGER_INTERFACE, "GetModel", "s", "tiny")
            for _ in range(3):
                answer = await client.call(*get_model, timeout=LIMIT)
                assert answer == ("/org/unifiedllm1/model/tiny",)


async def test_users_take_turns_whoever_sent_first(
    shared_bus: PrivateBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered: list[int] = []
    answer = StandardAnswers.answer

    def note(standard: StandardAnswers, *call: Any) -> tuple[object, ...]:
        answered.append(call[4].uid)
        return answer(standard, *call)

    monkeypatch.setattr(StandardAnswers, "answer", note)
    async with open_users(shared_bus) as (probe, nobody, root), asyncio.TaskGroup() as tasks:
        ping = (BUS_NAME, ROOT_PATH, PEER_INTERFACE, "Ping")
        async with not_reading(probe):
            for _ in range(50):
                tasks.create_task(nobody.call(*ping))
            await nobody.call_bus("GetId")
            for _ in range(3):
                tasks.create_task(root.call(*ping))
            await root.call_bus("GetId")
    assert answered[:6] == [NOBODY, 0, NOBODY, 0, NOBODY, 0]
    assert len(answered) == 53
