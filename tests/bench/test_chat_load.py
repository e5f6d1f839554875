"""The load driver counts what a server sends, however the network cuts it up."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.bench.chat_load import BrokenAnswerError, Question, Server, ask_all

_HEAD = b"HTTP/1.1 %s\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_USAGE = {
    "prompt_tokens": 7,
    "completion_tokens": 3,
    "prompt_tokens_details": {"cached_tokens": 2},
}
_EVENTS: tuple[dict[str, object], ...] = (
    {"choices": [{"delta": {"role": "assistant", "content": ""}}]},
    {"choices": [{"delta": {"content": "Zwölf"}}]},
    {"choices": [{"delta": {"content": " Füchse"}}]},
    {"choices": [], "usage": _USAGE},
)


def stream_of(events: Sequence[object]) -> bytes:
    lines = [*(json.dumps(event, ensure_ascii=False) for event in events), "[DONE]"]
    return "".join(f"data: {line}\n\n" for line in lines).encode()


@asynccontextmanager
async def serve(
    folder: Path, content: bytes, *, status: bytes = b"200 OK", piece: int = 7
) -> AsyncIterator[Server]:
    """A server that gives everybody the same, `piece` bytes to a chunk."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(_HEAD % status)
        for start in range(0, len(content), piece):
            part = content[start : start + piece]
            writer.write(b"%x\r\n%s\r\n" % (len(part), part))
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        writer.close()
        await writer.wait_closed()

    path = str(folder / "socket")
    async with await asyncio.start_unix_server(answer, path):
        yield Server("a server", path)


def questions(count: int) -> list[Question]:
    return [Question(None, f"question {number}", seed=number) for number in range(count)]


async def test_every_question_is_asked_once_and_its_pieces_are_counted(tmp_path: Path) -> None:
    async with serve(tmp_path, stream_of(_EVENTS)) as server:
        seen = await ask_all(server, questions(5), clients=2, max_tokens=3)
    assert len(seen.answers) == 5
    for answer in seen.answers:
        assert answer.first_token > 0
        assert len(list(answer.gaps)) == 1
        assert (answer.prompt_tokens, answer.cached_tokens) == (7, 2)
    assert seen.tokens_per_second == pytest.approx(15 / seen.seconds)


@pytest.mark.parametrize(
    ("status", "events"),
    [
        (b"503 Service Unavailable", _EVENTS),
        (b"200 OK", _EVENTS[:3]),
        (b"200 OK", ({"choices": [], "error": {"message": "no"}},)),
    ],
)
async def test_a_failed_or_cut_answer_is_never_a_figure(
    tmp_path: Path, status: bytes, events: Sequence[object]
) -> None:
    async with serve(tmp_path, stream_of(events), status=status) as server:
        with pytest.raises(ExceptionGroup) as raised:
            await ask_all(server, questions(1), clients=1, max_tokens=3)
    assert raised.group_contains(BrokenAnswerError)
