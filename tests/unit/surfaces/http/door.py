"""The HTTP door on a real Unix socket, over real operations and a scripted backend."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h11
import httpx

from tests.fakes.backend import FakeBackend
from tests.fakes.house import TINY, House, open_house
from unified_llm.domain.units import Seconds
from unified_llm.surfaces.http.app import create_app
from unified_llm.surfaces.http.limits import HttpLimits
from unified_llm.surfaces.http.listener import open_listener
from unified_llm.surfaces.http.server import HttpDoor

CREATED = 1_700_000_000
# Far above anything that should happen, so that a broken door fails instead of hanging.
PATIENCE = 20


@dataclass(frozen=True, slots=True)
class OpenDoor:
    """A door that is being served, and what is behind it."""

    path: Path
    door: HttpDoor
    house: House

    @property
    def connections(self) -> int:
        """How many are open."""
        return self.door.connections

    @asynccontextmanager
    async def client(self) -> AsyncIterator[httpx.AsyncClient]:
        """An ordinary client."""
        transport = httpx.AsyncHTTPTransport(uds=str(self.path))
        async with httpx.AsyncClient(
            transport=transport, base_url="http://local", timeout=PATIENCE
        ) as client:
            yield client

    @asynccontextmanager
    async def wire(self) -> AsyncIterator["Wire"]:
        """A client that may do anything."""
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_unix_connection(str(self.path))
            try:
                yield Wire(reader, writer)
            finally:
                writer.transport.abort()


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back over a Wire."""

    status: int
    headers: dict[str, str]
    body: bytes

    def error(self) -> dict[str, Any]:
        """OpenAI's error object."""
        found = json.loads(self.body)["error"]
        assert set(found) == {"message", "type", "param", "code"}
        assert isinstance(found, dict)
        return found


class Wire:
    """A connection on which bytes are sent as they are."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._parser = h11.Connection(h11.CLIENT)
        self._parser.send(h11.Request(method="GET", target="/", headers=[("host", "x")]))
        self._parser.send(h11.EndOfMessage())

    def send(self, *pieces: bytes) -> None:
        """Write without waiting."""
        self.writer.writelines(pieces)

    async def answer(self) -> Answer:
        """The next whole answer."""
        status, headers, body = 0, {}, b""
        while True:
            event = self._parser.next_event()
            if event is h11.NEED_DATA:
                try:
                    self._parser.receive_data(await self.reader.read(65536))
                except (ConnectionResetError, BrokenPipeError):
                    self._parser.receive_data(b"")
            elif isinstance(event, h11.Response):
                status = event.status_code
                headers = {name.decode(): value.decode() for name, value in event.headers}
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                return Answer(status, headers, body)
            else:
                raise AssertionError(f"no answer: {event}")

    async def until_closed(self) -> bytes:
        """Everything up to the end of the connection."""
        got = b""
        try:
            while piece := await self.reader.read(65536):
                got += piece
        except (ConnectionResetError, BrokenPipeError):
            pass
        return got


@asynccontextmanager
async def open_door(
    folder: Path,
    backend: FakeBackend | None = None,
    limits: HttpLimits | None = None,
    *,
    grace: float = 0,
) -> AsyncIterator[OpenDoor]:
    """A door on a socket in `folder`; leaving closes it with `grace` seconds."""
    path = folder / "api.sock"
    async with open_house(backend=backend) as house:
        limits = limits or HttpLimits(flush_seconds=Seconds(0.05))
        app = create_app(
            house.inference,
            house.embedding,
            house.models,
            house.library,
            house.status,
            house.routes,
            house.spending,
            version="1.2.3",
            limits=limits,
            unix_time=lambda: CREATED,
        )
        with open_listener(path, mode=0o600, gid=None) as listener:
            door = HttpDoor(app, [listener], limits)
            async with asyncio.TaskGroup() as group:
                group.create_task(door.run())
                await door.opened.wait()
                try:
                    yield OpenDoor(path, door, house)
                finally:
                    async with asyncio.timeout(PATIENCE):
                        await door.close(Seconds(grace))


def chat_body(**fields: Any) -> dict[str, Any]:
    """A chat that may be asked."""
    return {"model": TINY, "messages": [{"role": "user", "content": "Sky?"}], **fields}


def chat_request(**fields: Any) -> bytes:
    """The same as a request on the wire."""
    return post(json.dumps(chat_body(**fields)).encode())


def post(body: bytes, *fields: bytes, path: bytes = b"/v1/chat/completions") -> bytes:
    """A POST with a length."""
    head = [b"POST " + path + b" HTTP/1.1", b"Host: x", b"Content-Length: %d" % len(body), *fields]
    return b"\r\n".join([*head, b"", body])


def events(body: bytes) -> list[Any]:
    """The events of a stream, `[DONE]` as text, comments left out."""
    found: list[Any] = []
    for block in body.decode().split("\n\n"):
        if block.startswith("data: "):
            data = block.removeprefix("data: ")
            found.append(data if data == "[DONE]" else json.loads(data))
    return found


def text_of(found: list[Any]) -> str:
    """What the model said in these events."""
    return "".join(
        choice["delta"].get("content", "")
        for event in found
        if event != "[DONE]"
        for choice in event["choices"]
    )
