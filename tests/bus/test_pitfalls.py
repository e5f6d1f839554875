"""What is wrong with the library's connection, shown on it, and shown not to be so with ours.

The library is frozen upstream. Should one of the tests named `_stock_` ever fail, the library has
changed, and what we do about the defect may go.
"""

import asyncio
import os
from pathlib import Path
from typing import Any, cast

import pytest
from dbus_next.aio.message_bus import MessageBus
from dbus_next.message import Message
from dbus_next.signature import SignatureTree

from tests.bus.probe import ask, item, open_probe
from tests.bus.stock import (
    StockProbe,
    count_fds,
    large_body,
    many_empty_strings,
    open_stock,
    open_stock_service,
    raw_call,
)
from tests.private_bus import PrivateBus, private_bus
from unified_llm.bus import encoding, faults, stream
from unified_llm.bus.connection import BusConnection, Signal, open_connection
from unified_llm.bus.names import (
    BUS_NAME,
    INTROSPECTABLE_INTERFACE,
    MANAGER_INTERFACE,
    OBJECT_MANAGER_INTERFACE,
    PEER_INTERFACE,
    ROOT_PATH,
)
from unified_llm.bus.reading import Incoming
from unified_llm.bus.values import Variant
from unified_llm.domain.units import Seconds

pytestmark = pytest.mark.system

BURST = 2000


async def _fault(client: BusConnection, member: str, *call: object) -> faults.BusFault:
    with pytest.raises(faults.BusFault) as caught:
        await ask(client, member, *cast("Any", call))
    return caught.value


def _send_raw(client: BusConnection, data: bytes) -> None:
    assert client._stream is not None
    client._stream.send(encoding.Frame(data))


# A burst of messages


@pytest.mark.slow
async def test_a_stock_connection_is_lost_by_a_burst(shared_bus: PrivateBus) -> None:
    async with open_stock(shared_bus.address) as bus:
        for _ in range(BURST):
            bus.send(Message.new_signal(ROOT_PATH, "a.B", "C", "s", ["x" * 300]))
        with pytest.raises(BlockingIOError):
            await bus.wait_for_disconnect()


@pytest.mark.slow
async def test_a_burst_arrives_whole(shared_bus: PrivateBus) -> None:
    async with (
        open_probe(shared_bus.address) as probe,
        open_connection(shared_bus.address) as client,
    ):
        heard: list[Signal] = []
        client.on_signal(probe.bus.unique_name, MANAGER_INTERFACE, "Tick", heard.append)
        await client.add_match(f"type='signal',interface='{MANAGER_INTERFACE}'")
        for number in range(BURST):
            probe.exporter.emit_signal(ROOT_PATH, MANAGER_INTERFACE, "Tick", number)
        await ask(client, "Echo", "s", "flush")
        assert [signal.body for signal in heard] == [(number,) for number in range(BURST)]


@pytest.mark.slow
async def test_a_burst_of_descriptors_arrives_whole(shared_bus: PrivateBus) -> None:
    async with (
        open_probe(shared_bus.address),
        open_connection(shared_bus.address) as client,
        asyncio.TaskGroup() as tasks,
    ):
        # More at once than root may have in flight, but never more than the bus lets wait.
        for _ in range(5):
            answers = [tasks.create_task(ask(client, "Open")) for _ in range(100)]
            for answer in answers:
                (fd,) = cast("tuple[int]", await answer)
                assert os.read(fd, 10) == b"hello\n"
                os.close(fd)


# Descriptors


async def test_stock_leaks_the_descriptors_it_is_sent_and_those_it_sends(
    shared_bus: PrivateBus,
) -> None:
    before = {entry.name for entry in Path("/proc/self/fd").iterdir()}
    async with (
        open_stock_service(shared_bus.address),
        open_connection(shared_bus.address) as client,
    ):
        opened = count_fds()
        with Path("/dev/null").open() as null, pytest.raises(faults.BusFault):
            await client.call(
                BUS_NAME, ROOT_PATH, PEER_INTERFACE, "Ping", "h" * 10, *(null.fileno(),) * 10
            )
        (fd,) = cast("tuple[int]", await ask(client, "Open"))
        os.close(fd)
        assert count_fds() == opened + 11
    for entry in {entry.name for entry in Path("/proc/self/fd").iterdir()} - before:
        try:
            os.close(int(entry))
        except OSError:
            continue


async def test_stock_receives_descriptors_that_children_inherit(shared_bus: PrivateBus) -> None:
    async with open_probe(shared_bus.address), open_stock(shared_bus.address) as client:
        reply = await client.call(
            Message(
                destination=BUS_NAME, path=ROOT_PATH, interface=MANAGER_INTERFACE, member="Open"
            )
        )
        (fd,) = reply.unix_fds
        assert os.get_inheritable(fd)
        os.close(fd)


async def test_ours_are_not_inherited(shared_bus: PrivateBus) -> None:
    async with open_probe(shared_bus.address), open_connection(shared_bus.address) as client:
        (fd,) = cast("tuple[int]", await ask(client, "Open"))
        assert not os.get_inheritable(fd)
        os.close(fd)


# Large messages


@pytest.mark.slow
async def test_stock_parses_large_arguments_of_a_method_there_is_not(
    shared_bus: PrivateBus,
) -> None:
    async with (
        open_stock_service(shared_bus.address) as bus,
        open_connection(shared_bus.address) as client,
    ):
        parsed: list[int] = []
        bus.add_message_handler(
            lambda message: parsed.append(len(message.body[0])) if message.body else None
        )
        _send_raw(client, raw_call(99, "Nope", "as", many_empty_strings(512 * 1024)))
        with pytest.raises(faults.BusFault):
            await ask(client, "Nope")
        assert parsed == [512 * 1024 // 8]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("member", "signature"), [("Nope", "as"), ("Echo", "as"), ("Echo", "s"), ("Any", "v")]
)
async def test_thirty_mebibytes_are_refused_unread_while_others_are_answered(
    shared_bus: PrivateBus, member: str, signature: str
) -> None:
    body = large_body(signature, 30 * 1024 * 1024)
    async with (
        open_probe(shared_bus.address) as probe,
        open_connection(shared_bus.address) as client,
        open_connection(shared_bus.address) as other,
        asyncio.TaskGroup() as tasks,
    ):
        name = probe.bus.unique_name
        data = raw_call(7777, member, signature, body)
        refused = tasks.create_task(
            client._replies.wait(7777, BUS_NAME, Seconds(30), lambda: _send_raw(client, data))
        )
        answered = 0
        while not refused.done():
            assert await ask(other, "Echo", "s", "x") == ("x",)
            answered += 1
        assert answered
        assert (reply := refused.result()) is not None
        assert reply.header.error_name in (
            faults.LIMITS_EXCEEDED,
            faults.INVALID_ARGS,
            faults.UNKNOWN_METHOD,
        )
        assert probe.bus.unique_name == name


# A flood


async def test_stock_reads_on_for_as_long_as_there_is_something(shared_bus: PrivateBus) -> None:
    async with (
        open_stock_service(shared_bus.address) as bus,
        open_connection(shared_bus.address) as client,
    ):
        loop = asyncio.get_running_loop()
        loop.remove_reader(bus._sock.fileno())
        await _flood(client)
        seen: list[object] = []
        bus.add_message_handler(seen.append)
        bus._message_reader()
        assert len(seen) > stream.MESSAGES_PER_TURN
        loop.add_reader(bus._sock.fileno(), bus._message_reader)


async def _flood(client: BusConnection) -> None:
    """Have many messages wait in the socket of a service that does not read just now."""
    for number in range(100):
        _send_raw(client, raw_call(5000 + number, "Nope", "as", many_empty_strings(16)))
    await client.call_bus("GetId")


async def test_a_flood_gets_a_slice_of_each_turn(
    shared_bus: PrivateBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        open_probe(shared_bus.address) as probe,
        open_connection(shared_bus.address) as client,
    ):
        own = cast("Any", probe.bus._stream)
        loop = asyncio.get_running_loop()
        loop.remove_reader(own._sock.fileno())
        await _flood(client)
        seen: list[Incoming] = []
        deliver = own._on_message

        def count(incoming: Incoming) -> None:
            seen.append(incoming)
            deliver(incoming)

        monkeypatch.setattr(own, "_on_message", count)
        own._on_readable()
        assert len(seen) == stream.MESSAGES_PER_TURN
        loop.add_reader(own._sock.fileno(), own._on_readable)
        assert await ask(client, "Echo", "s", "in the end") == ("in the end",)
        calls = [incoming for incoming in seen if incoming.header.member in ("Nope", "Echo")]
        # Besides the calls: what the bus says of the caller of Echo. Nobody was looked up for Nope.
        assert (len(calls), len(seen)) == (101, 102)


# The object manager and introspection


async def test_stock_announces_from_the_object_and_invents_children(
    shared_bus: PrivateBus,
) -> None:
    async with (
        open_stock_service(shared_bus.address) as bus,
        open_connection(shared_bus.address) as client,
    ):
        heard = await _announcements(client, bus.unique_name)
        bus.export("/org/unifiedllm1xyz", StockProbe())
        (xml,) = await client.call(BUS_NAME, ROOT_PATH, INTROSPECTABLE_INTERFACE, "Introspect")
        assert '"xyz"' in cast("str", xml)
        assert [signal.path for signal in heard] == ["/org/unifiedllm1xyz"]
        (objects,) = await client.call(
            BUS_NAME, "/nowhere", OBJECT_MANAGER_INTERFACE, "GetManagedObjects"
        )
        assert objects == {}
        (xml,) = await client.call(BUS_NAME, "/nowhere", INTROSPECTABLE_INTERFACE, "Introspect")
        assert xml


async def test_ours_announces_from_the_root_what_is_below_it(shared_bus: PrivateBus) -> None:
    async with (
        open_probe(shared_bus.address) as probe,
        open_connection(shared_bus.address) as client,
    ):
        heard = await _announcements(client, probe.bus.unique_name)
        probe.exporter.export("/org/unifiedllm1xyz", item())
        probe.exporter.export(f"{ROOT_PATH}/model/a", item())
        probe.exporter.unexport("/org/unifiedllm1xyz")
        probe.exporter.unexport(f"{ROOT_PATH}/model/a")
        await ask(client, "Echo", "s", "flush")
        assert [(signal.path, signal.member, signal.body[0]) for signal in heard] == [
            (ROOT_PATH, "InterfacesAdded", f"{ROOT_PATH}/model/a"),
            (ROOT_PATH, "InterfacesRemoved", f"{ROOT_PATH}/model/a"),
        ]


async def _announcements(client: BusConnection, sender: str) -> list[Signal]:
    heard: list[Signal] = []
    await client.add_match(f"type='signal',sender='{sender}'")
    for member in ("InterfacesAdded", "InterfacesRemoved"):
        client.on_signal(sender, OBJECT_MANAGER_INTERFACE, member, heard.append)
    return heard


# Errors


async def test_stock_shows_its_trace_to_the_caller_and_logs_refusals_as_errors(
    shared_bus: PrivateBus, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        open_stock_service(shared_bus.address),
        open_connection(shared_bus.address) as client,
    ):
        fault = await _fault(client, "Break")
        assert ".py" in fault.text
        assert "secret" in fault.text
        caplog.clear()
        assert (await _fault(client, "Refuse")).text == "no"
        assert caplog.records


async def test_stock_never_answers_a_cancelled_call(shared_bus: PrivateBus) -> None:
    async with (
        open_stock_service(shared_bus.address),
        open_connection(shared_bus.address) as client,
        asyncio.TaskGroup() as tasks,
    ):
        call = tasks.create_task(ask(client, "CancelItself"))
        for _ in range(3):
            await client.call(BUS_NAME, ROOT_PATH, PEER_INTERFACE, "Ping")
        assert not call.done()
        call.cancel()


async def test_stock_tells_the_machine_id_once(shared_bus: PrivateBus) -> None:
    # The shipped rules forbid Peer calls to the bus itself, so it starts with a known id.
    async with (
        open_stock_service(shared_bus.address) as bus,
        open_connection(shared_bus.address) as client,
    ):
        bus._machine_id = "0123"
        with pytest.raises(faults.BusFault):
            await client.call(BUS_NAME, "/", PEER_INTERFACE, "GetMachineId")


# Memory


async def test_stock_remembers_every_signature_a_peer_thinks_of(shared_bus: PrivateBus) -> None:
    async with (
        open_stock_service(shared_bus.address),
        open_connection(shared_bus.address) as client,
    ):
        before = len(SignatureTree._cache)
        await _send_many_signatures(client)
        assert len(SignatureTree._cache) >= before + 100


async def test_ours_does_not(shared_bus: PrivateBus) -> None:
    async with open_probe(shared_bus.address), open_connection(shared_bus.address) as client:
        await ask(client, "Any", "v", Variant("s", ""))
        before = len(SignatureTree._cache)
        await _send_many_signatures(client)
        assert len(SignatureTree._cache) == before


async def _send_many_signatures(client: BusConnection) -> None:
    for number in range(100):
        inner = f"({'y' * (number + 20)}n)".encode()
        body = bytes([len(inner)]) + inner + b"\0"
        body += bytes(-len(body) % 8) + bytes(number + 20)
        body += bytes(-len(body) % 2) + bytes(2)
        _send_raw(client, raw_call(9000 + number, "Any", "v", body))
    await client.call(BUS_NAME, ROOT_PATH, PEER_INTERFACE, "Ping")


# The end of the bus


class _EndedSocket:
    """Reports the end of the stream, as the kernel does, a hundred times, and then gives up."""

    def __init__(self) -> None:
        self.reads = 0

    async def sock_recv(self, _sock: object, _size: int) -> bytes:
        self.reads += 1
        if self.reads > 100:
            raise InterruptedError
        return b""


async def test_stock_reads_on_after_the_end_during_authentication() -> None:
    bus: Any = MessageBus.__new__(MessageBus)
    bus._loop, bus._sock = _EndedSocket(), None
    with pytest.raises(InterruptedError):
        await bus._auth_readline()


async def test_the_end_of_the_bus_is_told_to_everybody_who_waits() -> None:
    with private_bus() as bus:
        async with open_probe(bus.address) as probe, open_connection(bus.address) as client:
            async with asyncio.TaskGroup() as tasks:
                call = tasks.create_task(_fault(client, "Wait"))
                await probe.waiting.acquire()
                bus.process.kill()
                assert await probe.bus.wait_closed()
                assert await client.wait_closed()
                assert (await call).name == faults.DISCONNECTED
            fault = await _fault(client, "Echo", "s", "x")
            assert fault.name == faults.DISCONNECTED
            probe.exporter.emit_signal(ROOT_PATH, MANAGER_INTERFACE, "Tick", 1)
