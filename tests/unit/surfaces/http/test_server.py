"""The door opens, closes with honour, and closes in any case."""

import asyncio
import signal
from contextlib import ExitStack
from pathlib import Path

import pytest
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tests.fakes.backend import FakeBackend
from tests.fakes.house import ANSWER
from tests.fakes.timers import settle
from tests.unit.surfaces.http.door import OpenDoor, chat_request, events, open_door, text_of
from unified_llm.domain.chat import TextDelta
from unified_llm.domain.units import Seconds
from unified_llm.surfaces.http.limits import HttpLimits
from unified_llm.surfaces.http.listener import open_listener
from unified_llm.surfaces.http.server import HttpDoor

LONG, NONE = Seconds(60), Seconds(0)
HEALTH = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"


async def test_an_answer_that_ends_within_the_grace_is_whole(tmp_path: Path) -> None:
    gate = asyncio.Event()
    backend = FakeBackend([ANSWER[0], gate, *ANSWER[1:]])
    async with open_door(tmp_path, backend) as door, door.wire() as wire:
        wire.send(chat_request(stream=True))
        await wire.reader.readuntil(b"Blue ")
        async with asyncio.TaskGroup() as group:
            group.create_task(door.door.close(LONG))
            await settle()
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_unix_connection(str(door.path))
            gate.set()
            rest = await wire.until_closed()
    assert b"light." in rest
    assert b"[DONE]" in rest
    assert b'"error"' not in rest


async def test_a_stream_beyond_the_grace_ends_with_one_error(tmp_path: Path) -> None:
    backend = FakeBackend([ANSWER[0], asyncio.Event()])
    async with open_door(tmp_path, backend) as door, door.wire() as wire:
        wire.send(chat_request(stream=True))
        begun = await wire.reader.readuntil(b"Blue ")
        await door.door.close(NONE)
        rest = await wire.until_closed()
        assert backend.open == 0
    assert begun.count(b'"error":{') == 0
    assert rest.count(b'"error":{') == 1
    assert b'"code":"closing"' in rest
    assert b"[DONE]" not in rest
    assert rest.endswith(b"0\r\n\r\n")


async def test_an_answer_cut_short_by_the_end_is_recorded_as_our_failure(tmp_path: Path) -> None:
    backend = FakeBackend([ANSWER[0], asyncio.Event()])
    async with (
        open_door(tmp_path, backend) as door,
        door.wire() as streamed,
        door.wire() as plain,
    ):
        streamed.send(chat_request(stream=True))
        plain.send(chat_request())
        while backend.open < 2:
            await asyncio.sleep(0)
        await door.door.close(NONE)
    ends = [
        (record["UNIFIED_LLM_RESULT"], record.get("UNIFIED_LLM_CODE"))
        for record in door.house.trail.records
    ]
    assert ends == [("failed", "closing")] * 2


async def test_an_answer_whose_client_left_is_recorded_as_cancelled(tmp_path: Path) -> None:
    backend = FakeBackend([ANSWER[0], asyncio.Event()])
    async with open_door(tmp_path, backend) as door:
        for is_stream in (True, False):
            async with door.wire() as wire:
                wire.send(chat_request(stream=is_stream))
                while not backend.open:
                    await asyncio.sleep(0)
            while backend.open:
                await asyncio.sleep(0)
    ends = [record["UNIFIED_LLM_RESULT"] for record in door.house.trail.records]
    assert ends == ["cancelled", "cancelled"]


async def test_a_stream_without_content_yet_gets_a_status(tmp_path: Path) -> None:
    backend = FakeBackend([asyncio.Event()])
    async with (
        open_door(tmp_path, backend) as door,
        door.wire() as streamed,
        door.wire() as plain,
    ):
        streamed.send(chat_request(stream=True))
        plain.send(chat_request())
        while backend.open < 2:
            await asyncio.sleep(0)
        await door.door.close(NONE)
        for wire in (streamed, plain):
            answer = await wire.answer()
            assert (answer.status, answer.error()["code"]) == (503, "closing")
            assert answer.headers["retry-after"] == "5"


async def test_a_client_that_does_not_read_does_not_hold_up_the_end(tmp_path: Path) -> None:
    pieces = [TextDelta("x" * 10_000) for _ in range(600)]
    limits = HttpLimits(flush_seconds=Seconds(0.05))
    backend = FakeBackend([*pieces, asyncio.Event()])
    async with open_door(tmp_path, backend, limits) as door, door.wire() as wire:
        wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
        wire.send(chat_request(stream=True))
        while not backend.open:
            await asyncio.sleep(0)
        await door.door.close(NONE)
        assert door.connections == 0
        assert backend.open == 0


async def test_half_sent_requests_do_not_hold_up_the_end(tmp_path: Path) -> None:
    head, _, body = chat_request().partition(b"\r\n\r\n")
    for sent in (b"", HEALTH[:10], head + b"\r\n\r\n" + body[:5]):
        async with open_door(tmp_path) as door, door.wire() as wire:
            wire.send(sent)
            while not door.connections:
                await asyncio.sleep(0)
            await door.door.close(NONE)
            assert door.connections == 0


async def test_an_idle_connection_is_closed_at_once(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door, door.wire() as wire:
        wire.send(HEALTH)
        assert (await wire.answer()).status == 200
        await door.door.close(LONG)
        assert await wire.until_closed() == b""


async def test_a_cancelled_door_leaves_nothing_open(tmp_path: Path) -> None:
    async def refuse_all(scope: object, receive: object, send: object) -> None:
        raise AssertionError

    with open_listener(tmp_path / "s", mode=0o600, gid=None) as listener:
        door = HttpDoor(refuse_all, [listener], HttpLimits(flush_seconds=Seconds(0.05)))
        async with asyncio.TaskGroup() as group:
            running = group.create_task(door.run())
            await door.opened.wait()
            reader, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
            writer.write(b"GET / HT")
            while not door.connections:
                await asyncio.sleep(0)
            running.cancel()
            assert await reader.read() == b""
            writer.transport.abort()
        assert running.cancelled()
        assert listener.fileno() == -1


async def test_a_door_cancelled_before_it_opened_closes_its_listeners(tmp_path: Path) -> None:
    async def refuse_all(scope: object, receive: object, send: object) -> None:
        raise AssertionError

    with open_listener(tmp_path / "s", mode=0o600, gid=None) as listener:
        async with asyncio.TaskGroup() as group:
            running = group.create_task(HttpDoor(refuse_all, [listener]).run())
            await asyncio.sleep(0)
            running.cancel()
        assert listener.fileno() == -1


async def test_signals_are_left_to_the_composition_root(tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    async with open_door(tmp_path):
        during = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    assert during == before


async def test_an_open_door_that_nobody_uses_never_wakes(tmp_path: Path) -> None:
    async with open_door(tmp_path):
        loop = asyncio.get_running_loop()
        for _ in range(10):
            await asyncio.sleep(0)
        scheduled = loop._scheduled  # type: ignore[attr-defined]
        assert [handle for handle in scheduled if not handle.cancelled()] == []


async def test_it_serves_several_listeners_and_closes_them(tmp_path: Path) -> None:
    async def say_nothing(scope: Scope, receive: Receive, send: Send) -> None:
        await Response(status_code=204)(scope, receive, send)

    paths = [tmp_path / "a", tmp_path / "b"]
    with ExitStack() as stack:
        listeners = [
            stack.enter_context(open_listener(path, mode=0o600, gid=None)) for path in paths
        ]
        door = HttpDoor(say_nothing, listeners)
        async with asyncio.TaskGroup() as group:
            group.create_task(door.run())
            await door.opened.wait()
            for path in paths:
                reader, writer = await asyncio.open_unix_connection(str(path))
                writer.write(HEALTH)
                assert (await reader.readline()) == b"HTTP/1.1 204 No Content\r\n"
                writer.transport.abort()
            await door.close(NONE)
        assert [listener.fileno() for listener in listeners] == [-1, -1]


async def test_fifty_streams_all_end_with_a_terminal_event(tmp_path: Path) -> None:
    backend = FakeBackend([ANSWER[0], asyncio.Event()])
    async with open_door(tmp_path, backend) as door, asyncio.TaskGroup() as group:
        readers = [group.create_task(_read_stream(door)) for _ in range(50)]
        while backend.open < 50:
            await asyncio.sleep(0)
        await door.door.close(Seconds(0.05))
    for reader in readers:
        found = events(reader.result())
        assert text_of(found) == "Blue "
        assert found[-1]["error"]["code"] == "closing"


async def _read_stream(door: OpenDoor) -> bytes:
    async with door.wire() as wire:
        wire.send(chat_request(stream=True))
        return (await wire.answer()).body
