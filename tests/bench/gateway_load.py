"""Clients that ask a gateway for the mock upstream's answer, over connections that they keep.

They share two cores with what they measure, so they parse next to nothing: an answer is right when
its first and its last word are in it, in that order, and it ends as HTTP/1.1 has it end.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from tests.bench.chat_load import BrokenAnswerError, Server
from tests.bench.mock_upstream import FIRST, LAST
from tests.bench.processor_time import processor_seconds

_LIMIT_SECONDS: Final = 300
_LENGTH: Final = b"content-length:"
_LAST_CHUNK: Final = b"\r\n0\r\n\r\n"
_SYSTEM: Final = "You are a helpful assistant. Answer in one sentence and name your sources."


@dataclass(frozen=True, slots=True)
class Took:
    """Seconds of one request: until its first word had come, and until all of it had."""

    first: float
    whole: float


@dataclass(frozen=True, slots=True)
class Round:
    """What a number of clients saw who asked at the same time.

    seconds: all of it. processor_seconds: what the server took meanwhile.
    """

    took: tuple[Took, ...]
    seconds: float
    processor_seconds: float

    @property
    def per_second(self) -> float:
        return len(self.took) / self.seconds


async def ask_all(server: Server, model: str, *, stream: bool, clients: int, count: int) -> Round:
    """Have `clients` clients ask `count` times in all, each as soon as it has its last answer."""
    request = _request(model, stream=stream)
    left = iter(range(count))
    took: list[Took] = []

    async def client() -> None:
        async with _connection(server) as (reader, writer):
            took.extend([await _ask(reader, writer, request) for _ in left])

    assert server.process is not None
    before = processor_seconds(server.process)
    begun = time.perf_counter()
    async with asyncio.timeout(_LIMIT_SECONDS), asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(client())
    seconds = time.perf_counter() - begun
    return Round(tuple(took), seconds, processor_seconds(server.process) - before)


@asynccontextmanager
async def _connection(
    server: Server,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await server.connect()
    try:
        yield reader, writer
    finally:
        writer.close()
        await writer.wait_closed()


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> Took:
    asked_at = time.perf_counter()
    writer.write(request)
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    if not head.startswith(b"http/1.1 200"):
        raise BrokenAnswerError(f"{head!r} {await reader.read(4096)!r}")
    _, has_length, length = head.partition(_LENGTH)
    left = int(length.partition(b"\r\n")[0]) if has_length else None
    body = await reader.readuntil(FIRST.encode())
    first = time.perf_counter()
    rest = await (
        reader.readuntil(_LAST_CHUNK) if left is None else reader.readexactly(left - len(body))
    )
    if LAST.encode() not in rest:
        raise BrokenAnswerError(f"not all of the answer has come: {body + rest!r}")
    return Took(first - asked_at, time.perf_counter() - asked_at)


def _request(model: str, *, stream: bool) -> bytes:
    messages = [
        {"role": "system", "content": _SYSTEM},
        {"role": "user", "content": "What is the tallest mountain of each continent?"},
    ]
    asked: dict[str, object] = {"model": model, "messages": messages, "max_tokens": 64}
    if stream:
        asked |= {"stream": True, "stream_options": {"include_usage": True}}
    body = json.dumps(asked).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\n"
        "host: localhost\r\n"
        "content-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
