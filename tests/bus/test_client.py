"""The client side against a service of ours."""

import asyncio
from typing import cast

import pytest

from tests.bus.probe import open_probe
from tests.private_bus import PrivateBus
from unified_llm.bus import faults
from unified_llm.bus.client import open_client, open_stream
from unified_llm.bus.connection import open_connection
from unified_llm.bus.names import BUS_NAME, MANAGER_INTERFACE, ROOT_PATH
from unified_llm.domain.errors import InternalError, UnknownModel
from unified_llm.domain.units import Seconds

pytestmark = pytest.mark.system


async def test_refusals_come_back_as_the_errors_they_were(shared_bus: PrivateBus) -> None:
    async with open_probe(shared_bus.address), open_client(shared_bus.address) as client:
        with pytest.raises(UnknownModel, match=r"There is no model 'x'\. Ask"):
            await client.call(ROOT_PATH, MANAGER_INTERFACE, "Refuse")
        with pytest.raises(InternalError) as caught:
            await client.call(ROOT_PATH, MANAGER_INTERFACE, "Break")
        assert len(caught.value.incident) == 8


async def test_the_person_may_be_asked_unless_the_caller_says_otherwise(
    shared_bus: PrivateBus,
) -> None:
    async with open_probe(shared_bus.address), open_client(shared_bus.address) as client:
        for may_interact in (True, False):
            reply = await client.call(
                ROOT_PATH, MANAGER_INTERFACE, "Who", may_interact=may_interact
            )
            assert reply[3] is may_interact


async def test_properties_are_plain_values(shared_bus: PrivateBus) -> None:
    async with open_probe(shared_bus.address), open_client(shared_bus.address) as client:
        properties = await client.get_properties(ROOT_PATH, MANAGER_INTERFACE)
        assert properties["Level"] == 1


async def test_a_returned_stream_is_read_to_its_end(shared_bus: PrivateBus) -> None:
    async with open_probe(shared_bus.address), open_client(shared_bus.address) as client:
        (fd,) = await client.call(ROOT_PATH, MANAGER_INTERFACE, "Open", expects="h")
        async with open_stream(cast("int", fd)) as stream:
            assert await stream.readline() == b"hello\n"
            assert await stream.read() == b""


async def test_signals_arrive_in_order_and_end_with_the_daemon(shared_bus: PrivateBus) -> None:
    async with open_client(shared_bus.address) as client:
        async with open_probe(shared_bus.address) as probe:
            async with client.open_signals(MANAGER_INTERFACE, "Tick") as signals:
                for number in range(3):
                    probe.exporter.emit_signal(ROOT_PATH, MANAGER_INTERFACE, "Tick", number)
                assert [(await anext(signals)).body for _ in range(3)] == [(0,), (1,), (2,)]
            opened = client.open_signals(MANAGER_INTERFACE, "Tick")
            signals = await opened.__aenter__()
        with pytest.raises(faults.BusFault, match="left the bus"):
            await anext(signals)
        await opened.__aexit__(None, None, None)


async def test_nobody_there_is_said_so(shared_bus: PrivateBus) -> None:
    async with open_client(shared_bus.address) as client:
        with pytest.raises(faults.BusFault) as caught:
            await client.call(ROOT_PATH, MANAGER_INTERFACE, "Echo", "s", "x")
        assert caught.value.name.endswith(".ServiceUnknown")


async def test_a_call_without_an_answer_ends_at_its_timeout(shared_bus: PrivateBus) -> None:
    async with (
        open_probe(shared_bus.address) as probe,
        open_connection(shared_bus.address) as client,
    ):
        with pytest.raises(faults.BusFault) as caught:
            await client.call(BUS_NAME, ROOT_PATH, MANAGER_INTERFACE, "Wait", timeout=Seconds(0.01))
        assert caught.value.name == faults.NO_REPLY
        assert not client._replies._awaited
        await probe.waiting.acquire()


async def test_a_reply_of_another_shape_is_refused(shared_bus: PrivateBus) -> None:
    async with open_probe(shared_bus.address), open_connection(shared_bus.address) as client:
        with pytest.raises(faults.BusFault) as caught:
            await client.call(BUS_NAME, ROOT_PATH, MANAGER_INTERFACE, "Echo", "s", "x", expects="u")
        assert caught.value.name == faults.INVALID_SIGNATURE


async def test_a_name_that_is_owned_is_not_taken(shared_bus: PrivateBus) -> None:
    async with open_probe(shared_bus.address), open_connection(shared_bus.address) as other:
        with pytest.raises(faults.NameTaken):
            await other.request_name(BUS_NAME)


async def test_a_service_pings_itself_through_the_bus(shared_bus: PrivateBus) -> None:
    async with open_probe(shared_bus.address) as probe:
        await probe.bus.ping()


async def test_names_that_end_are_told_and_no_others(shared_bus: PrivateBus) -> None:
    async with open_connection(shared_bus.address) as watcher:
        heard: list[str] = []
        gone = asyncio.Event()
        watcher.on_name_vanished(heard.append)
        watcher.on_name_vanished(lambda _name: gone.set())
        async with (
            open_connection(shared_bus.address),
            open_connection(shared_bus.address) as leaving,
        ):
            await leaving.request_name(BUS_NAME)
            name = leaving.unique_name
            await leaving.end()
            await gone.wait()
            await watcher.call_bus("GetId")
            assert heard == [BUS_NAME, name]


async def test_an_address_without_a_bus_is_said_so() -> None:
    for address in ("unix:path=/nonexistent", "nonsense", "tcp:host=localhost,port=1"):
        with pytest.raises(faults.BusFault) as caught:
            async with open_connection(address):
                pass
        assert caught.value.name == faults.DISCONNECTED


async def test_the_environment_says_where_the_system_bus_is(
    shared_bus: PrivateBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", shared_bus.address)
    async with open_connection() as bus:
        assert bus.unique_name.startswith(":")
