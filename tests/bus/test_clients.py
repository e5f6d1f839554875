"""Programs that are not ours: what people type, as a user who is nobody."""

import asyncio
import json

import pytest

from tests.bus.probe import item, open_probe
from tests.private_bus import PrivateBus
from unified_llm.bus.names import BUS_NAME, MANAGER_INTERFACE, MODEL_INTERFACE, ROOT_PATH

pytestmark = pytest.mark.system


async def _run(bus: PrivateBus, *command: str) -> tuple[int, str, str]:
    done = await asyncio.to_thread(bus.run, *command, user="nobody")
    return done.returncode, done.stdout, done.stderr


async def _busctl(bus: PrivateBus, *arguments: str) -> str:
    code, output, errors = await _run(bus, "busctl", *arguments)
    assert not code, errors
    return output


async def _gdbus(bus: PrivateBus, method: str, *arguments: str) -> str:
    code, output, errors = await _run(
        bus, "gdbus", "call", "--system", "-d", BUS_NAME, "-o", ROOT_PATH, "-m", method, *arguments
    )
    assert not code, errors
    return output.strip()


async def test_busctl_calls_and_shows_why_it_was_refused(shared_bus: PrivateBus) -> None:
    async with open_probe(shared_bus.address):
        to_us = ("call", BUS_NAME, ROOT_PATH, MANAGER_INTERFACE)
        assert await _busctl(shared_bus, *to_us, "Echo", "s", "x") == 's "x"\n'
        who = json.loads(await _busctl(shared_bus, "--json=short", *to_us, "Who"))
        uid, _groups, connection, may_interact = who["data"]
        assert (uid, may_interact) == (65534, True)
        assert connection.startswith(":")
        code, _output, errors = await _run(shared_bus, "busctl", *to_us, "Refuse")
        assert code
        assert errors.strip() == "Call failed: There is no model 'x'. Ask for the list."


async def test_busctl_lists_objects_and_members(shared_bus: PrivateBus) -> None:
    async with open_probe(shared_bus.address) as probe:
        probe.exporter.export(f"{ROOT_PATH}/model/a_2eb", item())
        tree = await _busctl(shared_bus, "tree", "--list", BUS_NAME)
        assert f"{ROOT_PATH}/model/a_2eb" in tree.split()
        listing = await _busctl(shared_bus, "introspect", BUS_NAME, ROOT_PATH)
        rows = {line.split()[0]: line.split() for line in listing.splitlines()}
        assert rows[".Echo"][1:4] == ["method", "s", "s"]
        assert rows[".Level"][1:] == ["property", "u", "1", "emits-change", "writable"]
        assert rows[".Version"][-1] == "const"
        assert rows[".Load"][-1] == "-"
        assert rows[".Secret"][-1] == "emits-invalidation"


async def test_busctl_reads_and_writes_properties(shared_bus: PrivateBus) -> None:
    async with open_probe(shared_bus.address):
        level = (BUS_NAME, ROOT_PATH, MANAGER_INTERFACE, "Level")
        await _busctl(shared_bus, "set-property", *level, "u", "5")
        assert await _busctl(shared_bus, "get-property", *level) == "u 5\n"


async def test_gdbus_calls_and_lists(shared_bus: PrivateBus) -> None:
    async with open_probe(shared_bus.address) as probe:
        probe.exporter.export(f"{ROOT_PATH}/model/a", item("loading"))
        assert await _gdbus(shared_bus, f"{MANAGER_INTERFACE}.Echo", "x") == "('x',)"
        uid_and_more = await _gdbus(shared_bus, f"{MANAGER_INTERFACE}.Who")
        assert uid_and_more.endswith("false)"), "gdbus does not ask for interaction"
        managed = await _gdbus(shared_bus, "org.freedesktop.DBus.ObjectManager.GetManagedObjects")
        assert managed == (
            f"({{objectpath '{ROOT_PATH}/model/a': {{'{MODEL_INTERFACE}': "
            "{'State': <'loading'>, 'Count': <uint32 0>}}},)"
        )
        code, _output, errors = await _run(
            shared_bus, "gdbus", "introspect", "--system", "-d", BUS_NAME, "-o", ROOT_PATH
        )
        assert (code, errors) == (0, "")
