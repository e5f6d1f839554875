"""Clients that ask a chat server for streamed answers and note when each piece comes.

Both processor cores are the servers', so the clients do little: one process, asyncio, h11, and no
parsing of what is only counted. Each request has a connection of its own: llama-server closes
those that are kept alive now and then, in the middle of the next request.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field

import h11

from tests.bench.processor_time import processor_seconds

_READ_BYTES = 65_536
_LIMIT_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Server:
    """Where a server listens: on a Unix socket, or on a port of 127.0.0.1.

    process: its number, where its processor time is of interest.
    """

    name: str
    address: str | int
    process: int | None = None

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self.address, str):
            return await asyncio.open_unix_connection(self.address)
        return await asyncio.open_connection("127.0.0.1", self.address)


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked. system: None for no system message. seed: of the sampler."""

    system: str | None
    text: str
    seed: int
    model: str = "smollm2"

    def body(self, max_tokens: int) -> bytes:
        messages = [{"role": "user", "content": self.text}]
        if self.system is not None:
            messages.insert(0, {"role": "system", "content": self.system})
        return json.dumps(
            {
                "model": self.model,
                "messages": messages,
                "max_tokens": max_tokens,
                "seed": self.seed,
                # What both have as their default, but neither promises.
                "temperature": 0.8,
                "top_k": 40,
                "top_p": 0.95,
                "min_p": 0.05,
                "stream": True,
                "stream_options": {"include_usage": True},
            }
        ).encode()


@dataclass(slots=True)
class Answer:
    """When an answer was asked for and when each piece of its text came; its token counts."""

    asked_at: float
    arrivals: list[float] = field(default_factory=list)
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0

    @property
    def first_token(self) -> float:
        """Seconds to the first text."""
        return self.arrivals[0] - self.asked_at

    @property
    def gaps(self) -> Iterator[float]:
        """Seconds from one piece of text to the next."""
        for before, after in zip(self.arrivals, self.arrivals[1:], strict=False):
            yield after - before


@dataclass(frozen=True, slots=True)
class Round:
    """What a number of clients saw who asked at the same time.

    seconds: all of it. processor_seconds: what the server took meanwhile, with its children.
    """

    answers: tuple[Answer, ...]
    seconds: float
    processor_seconds: float | None

    @property
    def tokens(self) -> int:
        """Of all answers."""
        return sum(answer.completion_tokens for answer in self.answers)

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds


class BrokenAnswerError(Exception):
    """The server answered with an error, or with half an answer."""


async def ask_all(
    server: Server, questions: Sequence[Question], *, clients: int, max_tokens: int
) -> Round:
    """Have `clients` clients ask the questions, each as soon as its last one is answered."""
    left = iter(questions)
    answers: list[Answer] = []

    async def client() -> None:
        answers.extend([await ask(server, question, max_tokens) for question in left])

    before = _processor_seconds(server)
    begun = time.perf_counter()
    async with asyncio.timeout(_LIMIT_SECONDS), asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(client())
    seconds, after = time.perf_counter() - begun, _processor_seconds(server)
    taken = None if before is None or after is None else after - before
    return Round(tuple(answers), seconds, taken)


def _processor_seconds(server: Server) -> float | None:
    return None if server.process is None else processor_seconds(server.process)


async def ask(server: Server, question: Question, max_tokens: int) -> Answer:
    """One answer, on a connection of its own."""
    answer = Answer(time.perf_counter())
    async for line in _events(server, question.body(max_tokens)):
        _take_event(answer, line)
    if not answer.arrivals or not answer.completion_tokens:
        raise BrokenAnswerError(f"{server.name} ended an answer before it was whole")
    return answer


def _take_event(answer: Answer, line: bytes) -> None:
    event = json.loads(line)
    if "error" in event:
        raise BrokenAnswerError(str(event["error"]))
    if any(choice["delta"].get("content") for choice in event["choices"]):
        answer.arrivals.append(time.perf_counter())
    if usage := event.get("usage"):
        answer.prompt_tokens = usage["prompt_tokens"]
        answer.completion_tokens = usage["completion_tokens"]
        answer.cached_tokens = usage.get("prompt_tokens_details", {}).get("cached_tokens", 0)


async def _events(server: Server, body: bytes) -> AsyncIterator[bytes]:
    rest = b""
    async for data in _exchange(server, body):
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            if line.startswith(b"data: ") and not line.startswith(b"data: [DONE]"):
                yield line[6:]


async def _exchange(server: Server, body: bytes) -> AsyncIterator[bytes]:
    """The body of the response, in pieces."""
    reader, writer = await server.connect()
    try:
        connection = h11.Connection(h11.CLIENT)
        writer.write(_request(connection, body))
        while True:
            event = connection.next_event()
            match event:
                case h11.NEED_DATA:
                    connection.receive_data(await reader.read(_READ_BYTES))
                case h11.Response(status_code=status) if status != 200:
                    raise BrokenAnswerError(f"{server.name} answered {status}")
                case h11.Data(data=data):
                    yield bytes(data)
                case h11.EndOfMessage():
                    return
                case h11.ConnectionClosed():
                    raise BrokenAnswerError(f"{server.name} closed the connection")
                case _:
                    pass
    finally:
        writer.close()
        await writer.wait_closed()


def _request(connection: h11.Connection, body: bytes) -> bytes:
    headers = [
        ("Host", "localhost"),
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(body))),
        ("Connection", "close"),
    ]
    request = h11.Request(method="POST", target="/v1/chat/completions", headers=headers)
    parts = (request, h11.Data(data=body), h11.EndOfMessage())
    return b"".join(connection.send(part) or b"" for part in parts)
