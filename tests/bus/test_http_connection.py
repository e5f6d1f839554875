"""A connection to the HTTP API that was asked for over the bus."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.bus.front_door import FrontDoor, ask, open_front_door
from tests.private_bus import PrivateBus, effective_user
from unified_llm.bus.connection import BusConnection, open_connection
from unified_llm.domain.callers import Caller
from unified_llm.guard.permissions import Action
from unified_llm.surfaces.http.app import create_app
from unified_llm.surfaces.http.limits import HttpLimits
from unified_llm.surfaces.http.listener import open_listener
from unified_llm.surfaces.http.server import HttpDoor

pytestmark = [pytest.mark.system, pytest.mark.slow]

CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "Why?"}]}


class LateServer:
    """http_access.ServesConnections for a door that is built over the house it is given to."""

    def __init__(self) -> None:
        self.door: HttpDoor | None = None

    async def serve_connection(self, connected: socket.socket, caller: Caller) -> None:
        assert self.door is not None
        await self.door.serve_connection(connected, caller)

    def end_connections(self, connection: str) -> None:
        if self.door is not None:
            self.door.end_connections(connection)


@dataclass(frozen=True, slots=True)
class BothDoors:
    """The front door, and the HTTP door its connections lead to."""

    front: FrontDoor
    http: HttpDoor


@asynccontextmanager
async def open_both(bus: PrivateBus, folder: Path) -> AsyncIterator[BothDoors]:
    server = LateServer()
    async with open_front_door(bus, http=server, allowed={Action.GENERATE}) as front:
        house = front.house
        limits = HttpLimits(connections_per_uid=2)
        app = create_app(
            house.inference,
            house.embedding,
            house.models,
            house.library,
            house.status,
            house.routes,
            house.spending,
            version="1",
            limits=limits,
        )
        with open_listener(folder / "sock", mode=0o600, gid=None) as listener:
            server.door = HttpDoor(app, (listener,), limits)
            async with asyncio.TaskGroup() as group:
                serving = group.create_task(server.door.run())
                await server.door.opened.wait()
                yield BothDoors(front, server.door)
                serving.cancel()


async def connect_as(stack: AsyncExitStack, bus: PrivateBus, user: str) -> BusConnection:
    with effective_user(user):
        return await stack.enter_async_context(open_connection(bus.address))


@asynccontextmanager
async def open_http(client: BusConnection) -> AsyncIterator["Http"]:
    (descriptor,) = await ask(client, "OpenHttpConnection", "a{sv}", {})
    assert isinstance(descriptor, int)
    reader, writer = await asyncio.open_unix_connection(sock=socket.socket(fileno=descriptor))
    try:
        yield Http(reader, writer)
    finally:
        writer.transport.abort()


@dataclass(frozen=True, slots=True)
class Http:
    """A client on such a connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def post(self, path: str, body: object) -> tuple[int, Any]:
        """Status and body of the answer."""
        sent = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(sent)}\r\n\r\n"
        self.writer.write(head.encode() + sent)
        async with asyncio.timeout(30):
            answer = (await self.reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = int(answer.partition("content-length: ")[2].split()[0])
            return int(answer.split()[1]), json.loads(await self.reader.readexactly(length))


async def test_it_speaks_as_whoever_asked_for_it(shared_bus: PrivateBus, tmp_path: Path) -> None:
    """Not as the daemon, whose process made the socket."""
    async with open_both(shared_bus, tmp_path) as doors, AsyncExitStack() as stack:
        client = await connect_as(stack, shared_bus, "nobody")
        async with open_http(client) as http:
            for _ in range(2):
                status, body = await http.post("/v1/chat/completions", CHAT)
                assert status == 200
                assert body["choices"][0]["message"]["content"] == "Blue light."
        (_, who) = doors.front.house.backend.asked[0]
        assert (who.uid, who.connection) == (65534, client.unique_name)
    records = doors.front.house.trail.records
    assert {record["UNIFIED_LLM_UID"] for record in records} == {"65534"}


async def test_it_ends_when_its_caller_leaves_the_bus(
    shared_bus: PrivateBus, tmp_path: Path
) -> None:
    async with open_both(shared_bus, tmp_path) as doors, AsyncExitStack() as stack:
        client = await connect_as(stack, shared_bus, "nobody")
        async with open_http(client) as http:
            await http.post("/v1/chat/completions", CHAT)
            assert doors.http.connections == 1
            await stack.aclose()
            async with asyncio.timeout(30):
                assert await http.reader.read() == b""
        assert doors.http.connections == 0


async def test_it_counts_against_the_limits_of_its_user(
    shared_bus: PrivateBus, tmp_path: Path
) -> None:
    async with open_both(shared_bus, tmp_path), AsyncExitStack() as stack:
        client = await connect_as(stack, shared_bus, "nobody")
        for _ in range(2):
            await stack.enter_async_context(open_http(client))
        async with open_http(client) as third:
            status, body = await third.post("/v1/chat/completions", CHAT)
        assert (status, body["error"]["code"]) == (429, "rate-limited")


async def test_a_hundred_of_them_leave_no_descriptor(
    shared_bus: PrivateBus, tmp_path: Path
) -> None:
    async with open_both(shared_bus, tmp_path) as doors, AsyncExitStack() as stack:
        client = await connect_as(stack, shared_bus, "nobody")
        async with open_http(client):
            before = len(list(Path("/proc/self/fd").iterdir()))
        for _ in range(100):
            async with open_http(client):
                pass
        async with asyncio.timeout(30):
            while doors.http.connections:
                await asyncio.sleep(0.005)
        assert len(list(Path("/proc/self/fd").iterdir())) <= before
