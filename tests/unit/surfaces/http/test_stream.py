"""Streams: what is sent when, and that each ends in exactly one way."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.backend import FakeBackend
from tests.fakes.house import ANSWER
from tests.unit.surfaces.http.door import (
    Wire,
    chat_body,
    chat_request,
    events,
    open_door,
    text_of,
)
from unified_llm.domain.chat import TextDelta
from unified_llm.domain.errors import WorkerDied
from unified_llm.domain.units import Seconds
from unified_llm.surfaces.http.limits import HttpLimits

HASTY = HttpLimits(silence_seconds=Seconds(0.01), ping_seconds=Seconds(0.02))
LONG = 600
Script = Sequence[Any]


async def stream(folder: Path, script: Script, **fields: Any) -> list[Any]:
    async with open_door(folder, FakeBackend(script)) as door, door.client() as client:
        answer = await client.post("/v1/chat/completions", json=chat_body(stream=True, **fields))
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"
        return events(answer.content)


async def test_a_stream_names_the_role_says_the_text_and_finishes(tmp_path: Path) -> None:
    found = await stream(tmp_path, ANSWER)
    deltas = [event["choices"][0]["delta"] for event in found[:-1]]
    assert deltas == [
        {"role": "assistant", "content": ""},
        {"content": "Blue "},
        {"content": "light."},
        {},
    ]
    reasons = [event["choices"][0]["finish_reason"] for event in found[:-1]]
    assert reasons == [None, None, None, "stop"]
    assert {event["object"] for event in found[:-1]} == {"chat.completion.chunk"}
    assert len({event["id"] for event in found[:-1]}) == 1
    assert found[-1] == "[DONE]"


async def test_usage_comes_last_and_only_if_asked_for(tmp_path: Path) -> None:
    without = await stream(tmp_path, ANSWER)
    assert all("usage" not in event for event in without[:-1])
    found = await stream(tmp_path, ANSWER, stream_options={"include_usage": True})
    *chunks, last, done = found
    assert done == "[DONE]"
    assert [chunk["usage"] for chunk in chunks] == [None] * len(chunks)
    assert last["choices"] == []
    assert last["usage"]["total_tokens"] == 7


async def test_an_answer_without_text_is_still_a_whole_stream(tmp_path: Path) -> None:
    found = await stream(tmp_path, ANSWER[-1:])
    assert [event["choices"][0]["delta"] for event in found[:-1]] == [
        {"role": "assistant", "content": ""},
        {},
    ]
    assert found[-1] == "[DONE]"


@pytest.mark.parametrize("error", [WorkerDied("It died."), KeyError("bug")], ids=["ours", "bug"])
async def test_after_content_an_error_is_one_event_and_no_done(
    tmp_path: Path, error: Exception
) -> None:
    class Failing(FakeBackend):
        async def _events(self) -> Any:
            yield TextDelta("Bl")
            raise error

    async with open_door(tmp_path, Failing()) as door, door.client() as client:
        answer = await client.post("/v1/chat/completions", json=chat_body(stream=True))
        found = events(answer.content)
    assert text_of(found) == "Bl"
    *before, last = found
    assert all("error" not in event for event in before)
    assert last["choices"] == [
        {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "error"}
    ]
    assert last["error"]["code"] == ("worker-died" if isinstance(error, WorkerDied) else "internal")
    assert b"[DONE]" not in answer.content


async def test_the_status_waits_for_the_first_event(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with open_door(tmp_path, FakeBackend([gate, *ANSWER])) as door, door.wire() as wire:
        wire.send(chat_request(stream=True))
        while not door.house.backend.open:
            await asyncio.sleep(0)
        head = asyncio.StreamReader.readuntil(wire.reader, b"\r\n\r\n")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await head
        gate.set()
        assert (await wire.answer()).status == 200


async def test_silence_is_bridged_by_comments_before_and_after_content(tmp_path: Path) -> None:
    first, second = asyncio.Event(), asyncio.Event()
    script: Script = [first, ANSWER[0], second, *ANSWER[1:]]
    async with open_door(tmp_path, FakeBackend(script), HASTY) as door, door.wire() as wire:
        wire.send(chat_request(stream=True))
        opening = await wire.reader.readuntil(b": ping")
        assert opening.startswith(b"HTTP/1.1 200")
        assert b"data:" not in opening
        first.set()
        await wire.reader.readuntil(b"Blue ")
        await wire.reader.readuntil(b": ping")
        await wire.reader.readuntil(b": ping")
        second.set()
        rest = await wire.reader.readuntil(b"0\r\n\r\n")
    assert rest.count(b"[DONE]") == 1


async def test_an_error_after_the_comments_began_is_one_event(tmp_path: Path) -> None:
    gate = asyncio.Event()
    script: Script = [gate, WorkerDied("It died.")]
    async with open_door(tmp_path, FakeBackend(script), HASTY) as door, door.wire() as wire:
        wire.send(chat_request(stream=True))
        await wire.reader.readuntil(b": ping")
        gate.set()
        rest = await wire.reader.readuntil(b"0\r\n\r\n")
    assert rest.count(b'"error":{') == 1
    assert b"[DONE]" not in rest


async def test_a_loaded_backend_sends_many_events_in_order(tmp_path: Path) -> None:
    pieces = [TextDelta(f"{number} ") for number in range(LONG)]
    found = await stream(tmp_path, [*pieces, ANSWER[-1]])
    assert text_of(found) == "".join(piece.text for piece in pieces)


async def read_nothing(wire: Wire) -> None:
    wire.writer.transport.pause_reading()  # type: ignore[attr-defined]


async def test_a_client_that_does_not_read_is_cut_off(tmp_path: Path) -> None:
    pieces = [TextDelta("x" * 10_000) for _ in range(LONG)]
    limits = HttpLimits(write_seconds=Seconds(0.05))
    backend = FakeBackend([*pieces, ANSWER[-1]])
    async with open_door(tmp_path, backend, limits) as door, door.wire() as wire:
        await read_nothing(wire)
        wire.send(chat_request(stream=True))
        while not door.house.trail.records:
            await asyncio.sleep(0.001)
        assert backend.open == 0
        (record,) = door.house.trail.records
    assert record["UNIFIED_LLM_RESULT"] == "cancelled"


async def test_a_client_that_does_not_read_a_plain_answer_is_cut_off(tmp_path: Path) -> None:
    limits = HttpLimits(write_seconds=Seconds(0.05))
    backend = FakeBackend([TextDelta("x" * 3_000_000), ANSWER[-1]])
    async with open_door(tmp_path, backend, limits) as door, door.wire() as wire:
        await read_nothing(wire)
        wire.send(chat_request())
        while not door.house.trail.records or door.connections:
            await asyncio.sleep(0.001)


async def test_one_event_is_one_line_of_json(tmp_path: Path) -> None:
    text = 'line\nbreak "quotes" \u2028 é 😀 data: [DONE]\n\n'
    found = await stream(tmp_path, [TextDelta(text), ANSWER[-1]])
    assert text_of(found) == text
    assert json.dumps(found[1])
