"""A model server that sends exactly the bytes it was told to, and remembers what it was sent.

It is a real server on a real socket, so that a client's whole way is tried, cuts and stalls
included.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it came. headers: names in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int


class Stall:
    """The server says nothing from here on. reached: set when it has come so far."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()


class Cut:
    """The connection is broken here, as by a power cut."""


Step = bytes | Stall | Cut
Script = Sequence[Step]


@dataclass
class Upstream:
    """A running server. scripts: the answers to the next requests, in order; the last one stays.

    asked: every request so far. connections: how many there were. gone: set whenever a client has
    closed its own.
    """

    scripts: list[Script] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    port: int = 0
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    connections: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        try:
            while (asked := await _read_request(reader, number)) is not None:
                self.asked.append(asked)
                script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
                for step in script:
                    if isinstance(step, Cut):
                        writer.transport.abort()
                        return
                    if isinstance(step, Stall):
                        step.reached.set()
                        await reader.read()  # until the client is gone
                        return
                    writer.write(step)
                    await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            self.gone.set()
            writer.close()


async def _read_request(reader: asyncio.StreamReader, connection: int) -> Asked | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")[:-2]
    method, path, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Asked(method, path, headers, body, connection)


@asynccontextmanager
async def open_upstream(
    *scripts: Script, socket: Path | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Upstream]:
    """A server on a port of the loopback interface, or on a Unix socket."""
    upstream = Upstream(list(scripts))
    async with asyncio.TaskGroup() as group:
        tasks: set[asyncio.Task[None]] = set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            tasks.add(group.create_task(upstream.serve(reader, writer)))

        if socket is None:
            server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
            upstream.port = server.sockets[0].getsockname()[1]
        else:
            server = await asyncio.start_unix_server(accept, socket)
        try:
            yield upstream
        finally:
            server.close()
            for task in tasks:
                task.cancel()


def reply(
    body: bytes, *, status: int = 200, kind: str = "application/json", extra: str = ""
) -> Script:
    """A whole answer with its length."""
    head = f"HTTP/1.1 {status} Status\r\ncontent-type: {kind}\r\n{extra}"
    return [f"{head}content-length: {len(body)}\r\n\r\n".encode() + body]


def stream(*pieces: Step, kind: str = "text/event-stream", is_whole: bool = True) -> Script:
    """An answer in chunks, one for each piece; `is_whole` sends the chunk that ends it."""
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n"
    chunks: list[Step] = [
        b"%x\r\n%b\r\n" % (len(piece), piece) if isinstance(piece, bytes) else piece
        for piece in pieces
    ]
    return [head.encode(), *chunks, *([b"0\r\n\r\n"] if is_whole else [])]
