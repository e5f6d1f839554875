"""A model server that answers at once and does next to nothing, so that what is in front shows.

`python -m tests.bench.mock_upstream` serves OpenAI's chat completions on a port of 127.0.0.1, whose
number is the first line it prints. Every answer is the same: `PIECES` words, each an event of its
own where it is streamed.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

PIECES: Final = 16
FIRST, LAST = "alpha", "omega"
WORDS: Final = (FIRST, *("lorem" for _ in range(PIECES - 2)), LAST)

_USAGE: Final = {"prompt_tokens": 40, "completion_tokens": PIECES, "total_tokens": 40 + PIECES}
_HEAD: Final = b"HTTP/1.1 200 OK\r\n"


def _whole() -> bytes:
    message = {"role": "assistant", "content": " ".join(WORDS)}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    body = json.dumps({**_common("chat.completion"), "choices": [choice], "usage": _USAGE}).encode()
    head = b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
    return _HEAD + head + body


def _streamed() -> list[bytes]:
    """The head, and then one chunk for each event, as such servers write them."""
    head = b"content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    deltas = [{"role": "assistant", "content": ""}, *({"content": f"{word} "} for word in WORDS)]
    events = [_event([{"index": 0, "delta": delta, "finish_reason": None}]) for delta in deltas]
    events.append(_event([{"index": 0, "delta": {}, "finish_reason": "stop"}]))
    events.append(_event([], usage=_USAGE))
    events.append(b"data: [DONE]\n\n")
    return [_HEAD + head, *(b"%x\r\n%b\r\n" % (len(each), each) for each in events), b"0\r\n\r\n"]


def _event(choices: list[object], **extra: object) -> bytes:
    told = {**_common("chat.completion.chunk"), "choices": choices, **extra}
    return b"data: " + json.dumps(told).encode() + b"\n\n"


def _common(kind: str) -> dict[str, object]:
    return {"id": "chatcmpl-1", "object": kind, "created": 1, "model": "m"}


class _Connection(asyncio.Protocol):
    """Reads no more of a request than its length and whether it asks for a stream."""

    whole = _whole()
    streamed = _streamed()

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._unread = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._unread += data
        while (body := self._next_body()) is not None:
            self._answer(is_stream=b'"stream":true' in body.replace(b" ", b""))

    def _next_body(self) -> bytes | None:
        head, found, rest = self._unread.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
        if not found or len(rest) < length:
            return None
        self._unread = rest[length:]
        return rest[:length]

    def _answer(self, *, is_stream: bool) -> None:
        assert self._transport is not None
        # One write for each event: a server that has one token has not the next.
        for part in self.streamed if is_stream else (self.whole,):
            self._transport.write(part)


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(_Connection, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@dataclass(frozen=True, slots=True)
class MockUpstream:
    """One that serves."""

    port: int
    process: int


@contextmanager
def open_mock_upstream() -> Iterator[MockUpstream]:
    """Run it as a process of its own."""
    command = [sys.executable, "-m", "tests.bench.mock_upstream"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            yield MockUpstream(int(process.stdout.readline()), process.pid)
        finally:
            process.kill()


if __name__ == "__main__":
    asyncio.run(_serve())
