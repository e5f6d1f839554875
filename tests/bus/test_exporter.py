"""Objects of ours as clients see them, on a real bus under the shipped policy."""

import asyncio
import logging
import os
from pathlib import Path
from typing import Any, cast

import pytest

from tests.bus.probe import ask, item, open_probe
from tests.private_bus import PrivateBus, effective_user
from unified_llm.bus import faults
from unified_llm.bus.calls import MAX_CALLS_PER_USER
from unified_llm.bus.connection import BusConnection, Signal, open_connection
from unified_llm.bus.names import (
    BUS_NAME,
    DBUS_NAME,
    DBUS_PATH,
    INTROSPECTABLE_INTERFACE,
    MANAGER_INTERFACE,
    MODEL_INTERFACE,
    OBJECT_MANAGER_INTERFACE,
    PEER_INTERFACE,
    PROPERTIES_INTERFACE,
    ROOT_PATH,
)
from unified_llm.bus.values import Variant, unwrap
from unified_llm.domain.callers import Caller, Door

pytestmark = pytest.mark.system


async def _fault(client: BusConnection, *call: object) -> faults.BusFault:
    with pytest.raises(faults.BusFault) as caught:
        await client.call(BUS_NAME, *cast("Any", call))
    return caught.value


def _count_fds() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_a_call_reaches_its_handler_and_returns_its_result(shared_bus: PrivateBus) -> None:
    async with open_probe(shared_bus.address), open_connection(shared_bus.address) as client:
        assert await ask(client, "Echo", "s", "hé") == ("hé",)


async def test_each_handler_sees_its_own_caller_however_calls_interleave(
    shared_bus: PrivateBus,
) -> None:
    async with open_probe(shared_bus.address):

        async def ask_often() -> None:
            async with open_connection(shared_bus.address) as client:
                for _ in range(20):
                    _uid, _gids, connection, _asks = await ask(client, "Who")
                    assert connection == client.unique_name

        async with asyncio.TaskGroup() as tasks:
            for _ in range(20):
                tasks.create_task(ask_often())


async def test_the_caller_is_who_the_kernel_says_it_is(shared_bus: PrivateBus) -> None:
    async with open_probe(shared_bus.address):
        with effective_user("nobody"):
            connecting = open_connection(shared_bus.address)
            client = await connecting.__aenter__()
        try:
            uid, groups, _connection, asks = await ask(client, "Who")
            assert (uid, groups, asks) == (65534, [65534], False)
        finally:
            await connecting.__aexit__(None, None, None)


async def test_text_the_bus_would_not_take_is_made_legal(shared_bus: PrivateBus) -> None:
    async with open_probe(shared_bus.address), open_connection(shared_bus.address) as client:
        assert await ask(client, "Echo", "s", "a\0b\ud800") == ("a\ufffdb?",)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (("/nowhere", MANAGER_INTERFACE, "Echo"), faults.UNKNOWN_OBJECT),
        (("/nowhere", INTROSPECTABLE_INTERFACE, "Introspect"), faults.UNKNOWN_OBJECT),
        ((ROOT_PATH, "org.unifiedllm1.Other", "Echo"), faults.UNKNOWN_INTERFACE),
        ((ROOT_PATH, MANAGER_INTERFACE, "Other"), faults.UNKNOWN_METHOD),
        ((ROOT_PATH, MANAGER_INTERFACE, "Echo", "u", 1), faults.INVALID_ARGS),
        ((ROOT_PATH, MANAGER_INTERFACE, "Echo"), faults.INVALID_ARGS),
        (("/org", OBJECT_MANAGER_INTERFACE, "GetManagedObjects"), faults.UNKNOWN_OBJECT),
        (
            (ROOT_PATH, PROPERTIES_INTERFACE, "Get", "ss", MANAGER_INTERFACE, "No"),
            faults.UNKNOWN_PROPERTY,
        ),
        (
            (ROOT_PATH, PROPERTIES_INTERFACE, "Get", "ss", PEER_INTERFACE, "No"),
            faults.UNKNOWN_PROPERTY,
        ),
        (
            (ROOT_PATH, PROPERTIES_INTERFACE, "Get", "ss", "org.no", "Level"),
            faults.UNKNOWN_INTERFACE,
        ),
        ((ROOT_PATH, PROPERTIES_INTERFACE, "GetAll", "s", "org.no"), faults.UNKNOWN_INTERFACE),
        (
            (
                ROOT_PATH,
                PROPERTIES_INTERFACE,
                "Set",
                "ssv",
                MANAGER_INTERFACE,
                "Version",
                Variant("s", "2"),
            ),
            faults.PROPERTY_READ_ONLY,
        ),
        (
            (
                ROOT_PATH,
                PROPERTIES_INTERFACE,
                "Set",
                "ssv",
                MANAGER_INTERFACE,
                "Level",
                Variant("s", "2"),
            ),
            faults.INVALID_ARGS,
        ),
        ((ROOT_PATH, MANAGER_INTERFACE, "Refuse"), "org.unifiedllm1.Error.NoSuchModel"),
        (
            (ROOT_PATH, MANAGER_INTERFACE, "RefuseInOtherWords"),
            "org.unifiedllm1.Error.AuthorizationDismissed",
        ),
        ((ROOT_PATH, MANAGER_INTERFACE, "Huge"), faults.LIMITS_EXCEEDED),
    ],
)
async def test_what_cannot_be_done_is_refused_by_its_name(
    shared_bus: PrivateBus, call: tuple[object, ...], name: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_probe(shared_bus.address), open_connection(shared_bus.address) as client:
        fault = await _fault(client, *call)
        assert fault.name == name
        assert await ask(client, "Echo", "s", "still there") == ("still there",)
    assert not caplog.records


async def test_a_refusal_says_what_to_do_in_its_text_alone(shared_bus: PrivateBus) -> None:
    async with open_probe(shared_bus.address), open_connection(shared_bus.address) as client:
        fault = await _fault(client, ROOT_PATH, MANAGER_INTERFACE, "Refuse")
        assert fault.text == "There is no model 'x'. Ask for the list."
        fault = await _fault(client, ROOT_PATH, MANAGER_INTERFACE, "Echo", "u", 1)
        assert fault.text == "Echo takes (s text), not 'u'."


@pytest.mark.parametrize("member", ["Break", "WrongType"])
async def test_a_bug_shows_an_id_and_the_log_holds_the_trace_once(
    shared_bus: PrivateBus, member: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_probe(shared_bus.address), open_connection(shared_bus.address) as client:
        with caplog.at_level(logging.WARNING):
            fault = await _fault(client, ROOT_PATH, MANAGER_INTERFACE, member)
    assert fault.name == "org.unifiedllm1.Error.Internal"
    assert "secret" not in fault.text
    assert ".py" not in fault.text
    (record,) = caplog.records
    assert record.exc_info is not None
    assert record.args is not None
    assert str(cast("tuple[object, ...]", record.args)[0]) in fault.text


async def test_a_cancelled_call_is_answered(shared_bus: PrivateBus) -> None:
    async with open_probe(shared_bus.address), open_connection(shared_bus.address) as client:
        fault = await _fault(client, ROOT_PATH, MANAGER_INTERFACE, "CancelItself")
        assert fault.name == "org.unifiedllm1.Error.Cancelled"


async def test_a_call_in_flight_is_answered_when_the_service_ends(shared_bus: PrivateBus) -> None:
    async with open_connection(shared_bus.address) as client, asyncio.TaskGroup() as tasks:
        async with open_probe(shared_bus.address) as probe:
            call = tasks.create_task(_fault(client, ROOT_PATH, MANAGER_INTERFACE, "Wait"))
            await probe.waiting.acquire()
        assert (await call).name == "org.unifiedllm1.Error.Cancelled"


async def test_the_calls_of_a_vanished_caller_are_cancelled(shared_bus: PrivateBus) -> None:
    async with open_probe(shared_bus.address) as probe:
        async with open_connection(shared_bus.address) as client, asyncio.TaskGroup() as tasks:
            call = tasks.create_task(ask(client, "Wait"))
            await probe.waiting.acquire()
            call.cancel()
        await probe.ended.acquire()


async def test_nobody_but_the_bus_can_say_that_a_caller_has_vanished(
    shared_bus: PrivateBus,
) -> None:
    async with (
        open_probe(shared_bus.address) as probe,
        open_connection(shared_bus.address) as client,
        open_connection(shared_bus.address) as liar,
        asyncio.TaskGroup() as tasks,
    ):
        call = tasks.create_task(ask(client, "Wait"))
        await probe.waiting.acquire()
        lie = ("NameOwnerChanged", "sss", client.unique_name, client.unique_name, "")
        liar.emit(DBUS_PATH, DBUS_NAME, *lie, to=probe.bus.unique_name)
        assert await ask(liar, "Echo", "s", "after the lie") == ("after the lie",)
        assert not call.done()
        call.cancel()


async def test_one_user_cannot_have_more_than_its_share_of_calls_in_flight(
    shared_bus: PrivateBus,
) -> None:
    async with open_probe(shared_bus.address) as probe:
        with effective_user("nobody"):
            connecting = open_connection(shared_bus.address)
            client = await connecting.__aenter__()
        try:
            async with asyncio.TaskGroup() as tasks, open_connection(shared_bus.address) as root:
                calls = [tasks.create_task(ask(client, "Wait")) for _ in range(MAX_CALLS_PER_USER)]
                for _ in calls:
                    await probe.waiting.acquire()
                fault = await _fault(client, ROOT_PATH, MANAGER_INTERFACE, "Echo", "s", "x")
                assert fault.name == faults.LIMITS_EXCEEDED
                assert await ask(root, "Echo", "s", "others are not hindered")
                for call in calls:
                    call.cancel()
        finally:
            await connecting.__aexit__(None, None, None)


async def test_returned_descriptors_arrive_and_none_is_left(shared_bus: PrivateBus) -> None:
    async with open_probe(shared_bus.address), open_connection(shared_bus.address) as client:
        before = _count_fds()
        for _ in range(200):
            (fd,) = cast("tuple[int]", await ask(client, "Open"))
            assert not os.get_inheritable(fd)
            assert os.read(fd, 10) == b"hello\n"
            os.close(fd)
        assert _count_fds() == before


async def test_a_declared_descriptor_reaches_its_handler(
    shared_bus: PrivateBus, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("content")
    async with open_probe(shared_bus.address), open_connection(shared_bus.address) as client:
        with (tmp_path / "file").open() as file:
            assert await ask(client, "Read", "h", file.fileno()) == ("content",)


async def test_descriptors_nobody_asked_for_are_closed(shared_bus: PrivateBus) -> None:
    async with open_probe(shared_bus.address), open_connection(shared_bus.address) as client:
        await ask(client, "Echo", "s", "warm")
        with Path("/dev/null").open() as null:
            before = _count_fds()
            many = (null.fileno(),) * 10
            for call in (
                (ROOT_PATH, PEER_INTERFACE, "Ping", "h" * 10, *many),
                (ROOT_PATH, MANAGER_INTERFACE, "Echo", "h" * 10, *many),
                (ROOT_PATH, MANAGER_INTERFACE, "Any", "v", Variant("ah", list(many))),
                ("/nowhere", MANAGER_INTERFACE, "Read", "h" * 10, *many),
            ):
                for _ in range(5):
                    await _fault(client, *call)
            assert _count_fds() == before


async def test_properties_read_as_set_and_change_through_their_setter(
    shared_bus: PrivateBus,
) -> None:
    async with open_probe(shared_bus.address), open_connection(shared_bus.address) as client:

        async def properties(member: str, signature: str, *values: object) -> object:
            reply = await client.call(
                BUS_NAME, ROOT_PATH, PROPERTIES_INTERFACE, member, signature, *values
            )
            return unwrap(reply[0]) if reply else None

        assert await properties("GetAll", "s", MANAGER_INTERFACE) == {
            "Level": 1,
            "Version": "1",
            "Load": 0.5,
            "Secret": "a",
        }
        assert await properties("GetAll", "s", PEER_INTERFACE) == {}
        await properties("Set", "ssv", MANAGER_INTERFACE, "Level", Variant("u", 7))
        assert await properties("Get", "ss", MANAGER_INTERFACE, "Level") == 7


async def _changes(client: BusConnection, sender: str) -> list[Signal]:
    heard: list[Signal] = []
    client.on_signal(sender, PROPERTIES_INTERFACE, "PropertiesChanged", heard.append)
    await client.add_match(f"type='signal',sender='{sender}',interface='{PROPERTIES_INTERFACE}'")
    return heard


async def test_changes_of_one_turn_are_one_signal_as_the_annotations_say(
    shared_bus: PrivateBus,
) -> None:
    async with (
        open_probe(shared_bus.address) as probe,
        open_connection(shared_bus.address) as client,
    ):
        heard = await _changes(client, probe.bus.unique_name)

        def change(**values: object) -> None:
            probe.exporter.set_properties(ROOT_PATH, MANAGER_INTERFACE, values)

        change(Level=2, Load=0.9, Secret="b")
        change(Level=3)
        await asyncio.sleep(0)
        change(Level=4)
        change(Level=3)
        await asyncio.sleep(0)
        await ask(client, "Echo", "s", "flush")
        (signal,) = heard
        assert unwrap(list(signal.body)) == [MANAGER_INTERFACE, {"Level": 3}, ["Secret"]]


async def test_a_change_that_cannot_be_is_refused_where_it_is_made(shared_bus: PrivateBus) -> None:
    async with open_probe(shared_bus.address) as probe:
        for values, error in (
            ({"Nope": 1}, KeyError),
            ({"Version": "2"}, ValueError),
            ({"Level": "high"}, ValueError),
            ({"Level": -1}, ValueError),
        ):
            with pytest.raises(error):
                probe.exporter.set_properties(
                    ROOT_PATH, MANAGER_INTERFACE, cast("dict[str, object]", values)
                )
        with pytest.raises(KeyError):
            probe.exporter.emit_signal(ROOT_PATH, MANAGER_INTERFACE, "Nope")
        with pytest.raises(ValueError, match="exported already"):
            probe.exporter.export(ROOT_PATH, item())
        with pytest.raises(ValueError, match="object path"):
            probe.exporter.export(f"{ROOT_PATH}/new\n", item())


class _Mirror:
    """What a client knows who only listens."""

    def __init__(self, objects: dict[str, dict[str, dict[str, object]]]) -> None:
        self.objects = objects

    def on_added(self, signal: Signal) -> None:
        path, interfaces = cast("tuple[str, Any]", unwrap(list(signal.body)))
        self.objects[path] = interfaces

    def on_removed(self, signal: Signal) -> None:
        del self.objects[cast("str", signal.body[0])]

    def on_changed(self, signal: Signal) -> None:
        interface, values, _ = cast("tuple[str, Any, Any]", unwrap(list(signal.body)))
        if signal.path in self.objects:
            self.objects[signal.path][interface].update(values)


async def _managed(client: BusConnection) -> dict[str, dict[str, dict[str, object]]]:
    (objects,) = await client.call(
        BUS_NAME, ROOT_PATH, OBJECT_MANAGER_INTERFACE, "GetManagedObjects"
    )
    return cast("dict[str, dict[str, dict[str, object]]]", unwrap(objects))


async def test_what_signals_tell_adds_up_to_what_the_object_manager_says(
    shared_bus: PrivateBus,
) -> None:
    async with (
        open_probe(shared_bus.address) as probe,
        open_connection(shared_bus.address) as client,
    ):
        sender = probe.bus.unique_name
        await client.add_match(f"type='signal',sender='{sender}'")
        mirror = _Mirror(await _managed(client))
        for interface, member, listener in (
            (OBJECT_MANAGER_INTERFACE, "InterfacesAdded", mirror.on_added),
            (OBJECT_MANAGER_INTERFACE, "InterfacesRemoved", mirror.on_removed),
            (PROPERTIES_INTERFACE, "PropertiesChanged", mirror.on_changed),
        ):
            client.on_signal(sender, interface, member, listener)
        for number in range(60):
            path = f"{ROOT_PATH}/model/m{number % 7}"
            if not probe.exporter.is_exported(path):
                probe.exporter.export(path, item(f"born{number}"))
            elif number % 5 == 0:
                probe.exporter.unexport(path)
            else:
                probe.exporter.set_properties(
                    path, MODEL_INTERFACE, {"State": f"s{number}", "Count": number % 3}
                )
            if number % 4 == 0:
                await asyncio.sleep(0)
        await ask(client, "Echo", "s", "flush")
        assert mirror.objects == await _managed(client)
        assert mirror.objects


async def test_private_objects_exist_for_their_user_and_root_alone(shared_bus: PrivateBus) -> None:
    async with open_probe(shared_bus.address) as probe:
        clients = []
        for user in ("nobody", "daemon", "root"):
            with effective_user(user):
                connecting = open_connection(shared_bus.address)
                clients.append((connecting, await connecting.__aenter__()))
        owner, stranger, root = (client for _, client in clients)
        try:
            path = f"{ROOT_PATH}/job/_1"
            heard = [await _changes(client, probe.bus.unique_name) for _, client in clients]
            who = Caller(65534, frozenset(), None, Door.DBUS, owner.unique_name)
            probe.exporter.export(path, item(owner=who))
            probe.exporter.set_properties(path, MODEL_INTERFACE, {"State": "done"})
            call = (path, PROPERTIES_INTERFACE, "GetAll", "s", MODEL_INTERFACE)
            for client in (owner, root):
                (values,) = await client.call(BUS_NAME, *call)
                assert unwrap(values) == {"State": "done", "Count": 0}
                assert path not in await _managed(client)
            fault = await _fault(stranger, *call)
            nothing = await _fault(stranger, f"{ROOT_PATH}/job/_2", *call[1:])
            assert (fault.name, fault.text.replace("_1", "_2")) == (nothing.name, nothing.text)
            assert path not in await _managed(stranger)
            (xml,) = await stranger.call(
                BUS_NAME, f"{ROOT_PATH}/job", INTROSPECTABLE_INTERFACE, "Introspect"
            )
            assert "_1" not in cast("str", xml)
            assert [len(signals) for signals in heard] == [1, 0, 0]
        finally:
            for connecting, _client in clients:
                await connecting.__aexit__(None, None, None)


async def test_introspection_shows_the_xml_as_written_and_the_children_there_are(
    shared_bus: PrivateBus,
) -> None:
    async with (
        open_probe(shared_bus.address) as probe,
        open_connection(shared_bus.address) as client,
    ):
        probe.exporter.export(f"{ROOT_PATH}/model/a", item())
        probe.exporter.export("/org/unifiedllm1xyz", item())

        async def introspect(path: str) -> str:
            reply = await client.call(BUS_NAME, path, INTROSPECTABLE_INTERFACE, "Introspect")
            return cast("str", reply[0])

        root = await introspect(ROOT_PATH)
        assert "<!-- Shown to clients as it stands here. -->" in root
        assert "EmitsChangedSignal" in root
        assert root.count("<node name=") == 1
        assert '<node name="model"/>' in root
        assert '<node name="org"/>' in await introspect("/")


async def test_the_machine_id_is_the_same_every_time(shared_bus: PrivateBus) -> None:
    async with open_probe(shared_bus.address), open_connection(shared_bus.address) as client:
        ids = {await client.call(BUS_NAME, "/", PEER_INTERFACE, "GetMachineId") for _ in range(3)}
        assert ids == {(Path("/etc/machine-id").read_text().strip(),)}
