"""Twenty thousand calls nobody should make, against a whole daemon: it does not notice.

What holds afterwards: the same process, under the same name on the bus, with as many descriptors as
before, and nothing it said on the way told of its insides.
"""

import asyncio
import os
import random
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final, cast

import pytest
from dbus_next.signature import Variant

from tests.bus.random_values import RandomValues
from tests.whole_daemon import WholeDaemon, open_daemon
from unified_llm.bus.connection import BusConnection, open_connection
from unified_llm.bus.encoding import encode_call
from unified_llm.bus.faults import DISCONNECTED, BusFault
from unified_llm.bus.interface import Interface, Method
from unified_llm.bus.names import (
    BUS_NAME,
    DBUS_NAME,
    DBUS_PATH,
    MANAGER_INTERFACE,
    PROPERTIES_INTERFACE,
    ROOT_PATH,
)
from unified_llm.bus.standard import STANDARD
from unified_llm.domain.units import Seconds
from unified_llm.surfaces.dbus import contract

pytestmark = [pytest.mark.system, pytest.mark.slow]

CALLS: Final = 10_000
CLIENTS: Final = 4
AT_ONCE: Final = 12
PATHS: Final = (ROOT_PATH, f"{ROOT_PATH}/model/tiny", f"{ROOT_PATH}/job/_1", "/", "/nowhere")
KNOWN_WORDS: Final = ("tiny", "user", "system", "load", "block", MANAGER_INTERFACE, "Version")
# What it removes, later calls do not find.
REMOVING: Final = ("Remove", "RemoveModel")
KNOWN_KEYS: Final = ("max_tokens", "temperature", "stop", "seed", "system")


@pytest.fixture(scope="module")
def daemon() -> Iterator[WholeDaemon]:
    with open_daemon() as running:
        yield running


class RandomCalls(RandomValues):
    """Calls of methods that exist, with arguments that have the right types and little sense.

    descriptor: what a method gets that takes one; with None there are no such calls.
    """

    def __init__(self, seed: int, descriptor: int | None = None) -> None:
        super().__init__(seed)
        self._descriptor = descriptor

    def call(self) -> tuple[str, Interface, Method, tuple[object, ...]]:
        interface = self.random.choice(
            [found for found in (*contract.INTERFACES, *STANDARD.values()) if found.methods]
        )
        method = self.random.choice(
            [
                method
                for method in interface.methods.values()
                if method.name not in REMOVING
                and (self._descriptor is not None or "h" not in method.in_signature)
            ]
        )
        values = tuple(self.argument(argument.signature) for argument in method.inputs)
        path = self.random.choice(PATHS)
        if interface in contract.INTERFACES and self.random.random() < 0.7:
            path = PATHS[min(contract.INTERFACES.index(interface), 2)]
        return path, interface, method, values

    def argument(self, signature: str) -> object:
        if signature == "h":
            return self._descriptor
        if signature == "s" and self.random.random() < 0.7:
            return self.random.choice(KNOWN_WORDS)
        if signature == "a{sv}":
            keys = self.random.choices([*KNOWN_KEYS, "x", ""], k=self.random.randint(0, 2))
            return {key: cast("Variant", self.of_signature("v")) for key in keys}
        return self.of_signature(signature)


async def make_calls(client: BusConnection, calls: RandomCalls, count: int) -> list[str]:
    """The texts of all errors."""
    told: list[str] = []

    async def run() -> None:
        for _ in range(count // AT_ONCE):
            path, interface, method, values = calls.call()
            try:
                answer = await client.call(
                    BUS_NAME,
                    path,
                    interface.name,
                    method.name,
                    method.in_signature,
                    *values,
                    timeout=Seconds(60),
                )
            except BusFault as fault:
                assert fault.name != DISCONNECTED  # noqa: PT017
                told.append(f"{fault.name} {fault.text}")
                continue
            for argument, value in zip(method.outputs, answer, strict=True):
                if argument.signature == "h":
                    os.close(cast("int", value))

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(run())
    return told


async def owner(client: BusConnection) -> tuple[object, object]:
    (name,) = await client.call_bus("GetNameOwner", "s", BUS_NAME)
    (pid,) = await client.call_bus("GetConnectionUnixProcessID", "s", BUS_NAME)
    return name, pid


def descriptors_of(daemon: WholeDaemon) -> int:
    return len(list(Path(f"/proc/{daemon.process.pid}/fd").iterdir()))


async def settled(daemon: WholeDaemon, before: int) -> None:
    """Wait until it holds no more descriptors than `before`; jobs may still be ending."""
    async with asyncio.timeout(60):
        while descriptors_of(daemon) > before:
            await asyncio.sleep(0.05)


async def ensure_serves(client: BusConnection) -> None:
    (state,) = await client.call(
        BUS_NAME, ROOT_PATH, PROPERTIES_INTERFACE, "Get", "ss", MANAGER_INTERFACE, "State"
    )
    assert cast("Variant", state).value in {"running", "degraded"}


async def begin(daemon: WholeDaemon, client: BusConnection) -> int:
    """Have the model loaded, whose worker is a descriptor too; how many there are then."""
    text = await client.call(
        BUS_NAME, ROOT_PATH, MANAGER_INTERFACE, "GenerateText", "ssa{sv}", "tiny", "Hi", {}
    )
    assert text
    return descriptors_of(daemon)


async def test_ten_thousand_random_calls(daemon: WholeDaemon) -> None:
    assert daemon.bus is not None
    address = daemon.bus.address
    async with open_connection(address) as watcher:
        before, who = await begin(daemon, watcher), await owner(watcher)
        told: list[str] = []
        nothing = os.open(os.devnull, os.O_RDONLY)
        for seed in range(CLIENTS):
            async with open_connection(address) as client:
                told += await make_calls(client, RandomCalls(seed, nothing), CALLS // CLIENTS)
        os.close(nothing)
        assert await owner(watcher) == who
        await ensure_serves(watcher)
        await settled(daemon, before)
    assert len(told) > CALLS // 10
    assert not [text for text in told if "Traceback" in text or ".py" in text]
    assert not [text for text in told if "Internal" in text]
    assert "Incident" not in daemon.log()


class RawClient:
    """A connection that may send anything; the bus ends it when it is not a message."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(60)
        self._socket.connect(address.partition("path=")[2].partition(",")[0])
        uid = str(os.getuid()).encode().hex().encode()
        self._socket.sendall(b"\0AUTH EXTERNAL " + uid + b"\r\n")
        assert self._socket.recv(4096).startswith(b"OK ")
        self._socket.sendall(b"BEGIN\r\n" + bus_call(1, "Hello"))
        self._socket.recv(4096)

    def is_welcome_after(self, data: bytes) -> bool:
        """Send `data`, and see whether the bus still answers."""
        try:
            self._socket.sendall(data + bus_call(2, "GetId"))
            return bool(self._socket.recv(65_536))
        except (BrokenPipeError, ConnectionResetError):
            return False

    def close(self) -> None:
        self._socket.close()


def bus_call(serial: int, member: str) -> bytes:
    return encode_call(
        serial,
        destination=DBUS_NAME,
        path=DBUS_PATH,
        interface=DBUS_NAME,
        member=member,
        signature="",
        values=(),
        flags=0,
    ).data


def encoded_calls(count: int) -> list[bytes]:
    """Legal messages to begin with."""
    calls = RandomCalls(99)
    found = []
    for serial in range(10, 10 + count):
        path, interface, method, values = calls.call()
        flags = calls.random.choice([0, 1, 4, 5])
        found.append(
            encode_call(
                serial,
                destination=BUS_NAME,
                path=path,
                interface=interface.name,
                member=method.name,
                signature=method.in_signature,
                values=values,
                flags=flags,
            ).data
        )
    return found


def mutate(data: bytes, chance: random.Random) -> bytes:
    """Some bytes differ; the lengths in the fixed part stay, so that the bus takes it as one."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 3)):
        position = chance.randrange(len(changed))
        if not 4 <= position < 8 and not 12 <= position < 16:
            changed[position] = chance.choice([0, 1, 0x7F, 0xFF, changed[position] ^ 1])
    struct.pack_into("<I", changed, 8, chance.randint(3, 2**32 - 1))
    return bytes(changed)


def send_mutated(address: str, count: int) -> int:
    """Send them; how many the bus let through or refused without ending the connection."""
    chance, templates = random.Random(20_260_102), encoded_calls(500)
    client, taken = RawClient(address), 0
    for _ in range(count):
        if client.is_welcome_after(mutate(chance.choice(templates), chance)):
            taken += 1
        else:
            client.close()
            client = RawClient(address)
    client.close()
    return taken


async def test_ten_thousand_mutated_messages(daemon: WholeDaemon) -> None:
    assert daemon.bus is not None
    async with open_connection(daemon.bus.address) as watcher:
        before, who = await begin(daemon, watcher), await owner(watcher)
        taken = await asyncio.to_thread(send_mutated, daemon.bus.address, CALLS)
        assert taken > CALLS // 10, "the bus has thrown nearly everything away"
        assert await owner(watcher) == who
        await ensure_serves(watcher)
        await settled(daemon, before)
    assert "Traceback" not in daemon.log()
    assert "Incident" not in daemon.log()
